package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/jackc/pgx/v5"
)

// A ledger is only ever open in one place, so that no record is counted twice: the origin is sealed before its copy is
// finished, and opened again only if its copy is not, and cannot be any more. Which copy that is the seal says by an
// identity that was drawn when the copy was begun, and by its place, for a copy that has been copied is there twice.

// Values of meta.
const (
	sealedValue  = "sealed"  // a seal: the ledger has been moved, and nothing is written any more
	copyingValue = "copying" // a copyOf: it is an unfinished copy, and not to be opened
	copiedValue  = "copied"  // a copyOf: it was one, until it was finished
)

// copyOf says what a copy is.
type copyOf struct {
	Of string `json:"of"` // the place of its origin, as it may be shown
	ID string `json:"id"` // random; none of one that a version before has begun

	meta     Meta
	finished bool   // or never a copy
	place    string // where it is: see placeOf
	shown    string // the same as it was given, and may be shown
}

// seal says where a ledger has been moved to.
type seal struct {
	To    string `json:"to"`    // as it may be shown
	ID    string `json:"id"`    // of the copy
	Place string `json:"place"` // of the copy; none of one that a version before has begun, as the ID
}

// names reports whether the seal is for the copy.
func (s *seal) names(c *copyOf) bool {
	if s.ID == "" {
		return c.ID == "" && s.To == c.shown
	}
	return s.ID == c.ID && s.Place == c.place
}

func (s *seal) moved() string {
	return fmt.Sprintf("the ledger has been moved to %s with meterd copy, and takes nothing more here", s.To)
}

func (c *copyOf) unfinished() error {
	return fmt.Errorf("it is an unfinished copy of %s: finish it with meterd copy --finish, or go on there", c.Of)
}

func (c *copyOf) value() []byte {
	b, _ := json.Marshal(c) // which cannot fail
	return b
}

// parseSeal reads a seal; versions before wrote the place alone.
func parseSeal(value []byte) *seal {
	s := &seal{}
	if json.Unmarshal(value, s) != nil {
		s = &seal{To: string(value)}
	}
	return s
}

func parseCopyOf(value []byte) *copyOf {
	c := &copyOf{}
	if json.Unmarshal(value, c) != nil {
		c = &copyOf{Of: string(value)}
	}
	return c
}

// readSeal returns the seal of a ledger, nil for none.
func readSeal(r *Reader) (*seal, error) {
	value, err := r.Value(sealedValue)
	if err != nil || value == nil {
		return nil, err
	}
	return parseSeal(value), nil
}

// sealOf returns the seal of the ledger in a place, nil for none, and what the ledger was created with.
func sealOf(location string) (s *seal, m Meta, err error) {
	err = Read(location, func(r *Reader, meta Meta) (err error) {
		m = meta
		s, err = readSeal(r)
		return err
	})
	return s, m, err
}

// whole fails if the ledger is an unfinished copy, which may go on at its origin.
func whole(r *Reader) error {
	value, err := r.Value(copyingValue)
	if err == nil && value != nil {
		err = parseCopyOf(value).unfinished()
	}
	return err
}

// moving fails if the ledger has been moved, or is an unfinished copy.
func moving(r *Reader) error {
	if err := whole(r); err != nil {
		return err
	}
	s, err := readSeal(r)
	if err == nil && s != nil {
		err = errors.New(s.moved())
	}
	return err
}

// placeOf returns what a place is, however it is written: the folder without links, or the database and schema.
func placeOf(location string) (place string, err error) {
	if !IsURL(location) {
		return realPath(location)
	}
	err = onePostgres(location, func(ctx context.Context, conn *pgx.Conn) error {
		return conn.QueryRow(ctx, "SELECT current_database() || '/' || current_setting('search_path')").Scan(&place)
	})
	return place, err
}

// realPath is the path without links of what may not be there yet.
func realPath(path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	real, err := filepath.EvalSymlinks(path)
	if !errors.Is(err, os.ErrNotExist) {
		return real, err
	}
	parent, err := realPath(filepath.Dir(path))
	return filepath.Join(parent, filepath.Base(path)), err
}

// copyAt reads what the ledger in a place says of itself as a copy.
func copyAt(location string) (c *copyOf, err error) {
	err = Read(location, func(r *Reader, m Meta) error {
		value, err := r.Value(copyingValue)
		c = &copyOf{finished: value == nil}
		if err == nil && value == nil {
			value, err = r.Value(copiedValue)
		}
		if value != nil {
			finished := c.finished
			c = parseCopyOf(value)
			c.finished = finished
		}
		c.meta, c.shown = m, Redacted(location)
		return err
	})
	if err == nil {
		c.place, err = placeOf(location)
	}
	return c, err
}

// SamePlace reports whether two locations are one folder, or one URL.
func SamePlace(a, b string) (bool, error) {
	if a == b || IsURL(a) || IsURL(b) {
		return a == b, nil
	}
	first, err := realPath(a)
	if err != nil {
		return false, err
	}
	second, err := realPath(b)
	return first == second, err
}

// Seal has nobody write to a ledger any more, because it goes on in its unfinished copy. That of a folder must not be
// served; the nodes of one in a database are fenced off, in the middle of whatever they do. Sealed twice for one copy is
// sealed once.
func Seal(from, to string) error {
	var known *seal
	var origin Meta
	err := Read(from, func(r *Reader, m Meta) (err error) {
		origin = m
		known, err = readSeal(r)
		return errors.Join(err, whole(r))
	})
	if err != nil {
		return err
	}
	c, err := copyAt(to)
	switch {
	case known != nil && (err != nil || !known.names(c)):
		return errors.New(known.moved())
	case err != nil:
		return err
	case c.finished || !c.meta.same(origin):
		return fmt.Errorf("the ledger in %s is not an unfinished copy of the one in %s, which is left as it is", Redacted(to), Redacted(from))
	}
	value, err := json.Marshal(seal{To: c.shown, ID: c.ID, Place: c.place})
	if err != nil {
		return err
	}
	if IsURL(from) {
		return sealPostgres(from, value)
	}
	return updateSQLite(from, func(tx *Tx) error { return tx.PutMeta(sealedValue, value) })
}

// sealPostgres has nobody write to the database any more: first no writer can begin, then none can commit. It waits for
// transactions in flight.
func sealPostgres(url string, value []byte) error {
	return onePostgres(url, func(ctx context.Context, conn *pgx.Conn) error {
		for _, s := range []struct {
			sql  string
			args []any
		}{
			{"INSERT INTO meta (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value", []any{sealedValue, value}},
			{"UPDATE state SET n = 1 WHERE name = 'sealed'", nil},
			{"UPDATE writer SET fenced = true", nil},
		} {
			if _, err := conn.Exec(ctx, s.sql, s.args...); err != nil {
				return err
			}
		}
		return nil
	})
}

// Errors of [Unseal].
var (
	// ErrNotSealed says that there is nothing to take back.
	ErrNotSealed = errors.New("the ledger is not sealed")
	// ErrNotTheCopy says that the copy for which a ledger was sealed is not in the place, so that nothing shows that it
	// was not finished.
	ErrNotTheCopy = errors.New("the copy for which the ledger was sealed is not there")
)

// Unseal opens a sealed ledger again if the copy for which it was sealed is in the place, unfinished. lost says that it
// is nowhere any more, for all that the caller knows: then it is opened unless the place shows that it is wrong.
func Unseal(from, to string, lost bool) error {
	s, origin, err := sealOf(from)
	if err == nil && s == nil {
		err = ErrNotSealed
	}
	if err != nil {
		return err
	}
	c, err := copyAt(to)
	ours := err == nil && c.meta.same(origin)
	switch {
	case ours && c.finished && (s.names(c) || s.ID != "" && s.ID == c.ID):
		return inUse(to)
	case ours && s.names(c):
		return withCopy(to, false, func() error { return unsealed(from) })
	case lost:
		return unsealed(from)
	case err == nil || errors.Is(err, ErrNotExist):
		return fmt.Errorf("%w: the seal names %s (%s), and in %s there is nothing of that identity", ErrNotTheCopy, s.To, s.Place, Redacted(to))
	}
	return err
}

// unsealed opens a sealed ledger.
func unsealed(from string) error {
	if !IsURL(from) {
		return updateSQLite(from, func(tx *Tx) error { return tx.exec("DELETE FROM meta WHERE name = $1", sealedValue) })
	}
	return onePostgres(from, func(ctx context.Context, conn *pgx.Conn) error {
		return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, "UPDATE state SET n = 0 WHERE name = 'sealed'")
			if err == nil {
				_, err = tx.Exec(ctx, "DELETE FROM meta WHERE name = $1", sealedValue)
			}
			return err
		})
	})
}

// Complete has a copy be a ledger of its own. Its origin must be sealed for it.
func Complete(from, to string) error {
	c, err := copyAt(to)
	if err != nil {
		return err
	}
	return withCopy(to, true, func() error {
		return Read(from, func(r *Reader, _ Meta) error {
			s, err := readSeal(r)
			if err == nil && (s == nil || !s.names(c)) {
				err = fmt.Errorf("the ledger in %s is not sealed for the copy in %s", Redacted(from), Redacted(to))
			}
			return err
		})
	})
}

// Moved reports whether a ledger has been moved to the place, completely.
func Moved(from, to string) (is bool, err error) {
	s, origin, err := sealOf(from)
	if err != nil || s == nil {
		return false, err
	}
	exists, err := Exists(to)
	if err != nil || !exists {
		return false, err
	}
	c, err := copyAt(to)
	if err != nil {
		return false, err
	}
	return c.finished && c.meta.same(origin) && s.names(c), nil
}

func inUse(to string) error {
	return fmt.Errorf("the copy in %s is finished, and a ledger of its own; go on there", Redacted(to))
}

// withCopy runs f on an unfinished copy while nobody else does, and opens the copy then if it is to be completed: so it
// cannot be completed while its origin is unsealed.
func withCopy(to string, complete bool, f func() error) error {
	if IsURL(to) {
		return onePostgres(to, func(ctx context.Context, conn *pgx.Conn) error {
			if err := suitable(ctx, conn); err != nil {
				return err
			}
			return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
				tag, err := tx.Exec(ctx, "UPDATE meta SET value = value WHERE name = $1", copyingValue)
				if err == nil && tag.RowsAffected() == 0 {
					err = inUse(to)
				}
				if err == nil {
					err = f()
				}
				if err == nil && complete {
					_, err = tx.Exec(ctx, finishCopy, copiedValue, copyingValue)
				}
				return err
			})
		})
	}
	db, err := openSQLiteFor(to, Options{}, true)
	if err != nil {
		return err
	}
	err = db.View(context.Background(), func(r *Reader) error {
		of, err := r.Value(copyingValue)
		if err == nil && of == nil {
			err = inUse(to)
		}
		return err
	})
	if err == nil {
		err = f()
	}
	if err == nil && complete {
		err = db.Update(func(tx *Tx) error { return tx.exec(finishCopy, copiedValue, copyingValue) })
	}
	return errors.Join(err, db.Close())
}

const finishCopy = "UPDATE meta SET name = $1 WHERE name = $2"

// updateSQLite changes a ledger in a folder that nobody serves, in whatever state of being moved it is.
func updateSQLite(dir string, f func(*Tx) error) error {
	db, err := openSQLiteFor(dir, Options{}, true)
	if err != nil {
		return err
	}
	return errors.Join(db.Update(f), db.Close())
}
