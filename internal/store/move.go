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

// A ledger is open in one place at a time, so that no record is counted twice: the origin is sealed before its copy
// is finished, and it is opened again only if the copy is not finished and cannot be any more. The seal names the
// copy by an identity that was drawn at random when the copy was begun, and by its place, because a copy may itself
// have been copied.

// Values of meta.
const (
	sealedValue  = "sealed"  // a seal: the ledger has been moved, and nothing is written any more
	copyingValue = "copying" // a copyOf: it is an unfinished copy, and not to be opened
	copiedValue  = "copied"  // a copyOf: it was one, until it was finished
)

// copyOf says which copy a ledger is.
type copyOf struct {
	Of string `json:"of"` // the place of its origin, as it may be shown
	ID string `json:"id"` // random; empty for a copy that an earlier version has begun

	meta     Meta
	finished bool   // or never a copy
	place    string // where it is: see placeOf
	shown    string // the place as it was given, in a form that may be shown
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
	b, _ := json.Marshal(c) // marshalling texts cannot fail
	return b
}

// parseSeal reads a seal. Earlier versions stored only the place.
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

// readSeal returns the seal of a ledger, or nil if it is not sealed.
func readSeal(r *Reader) (*seal, error) {
	value, err := r.Value(sealedValue)
	if err != nil || value == nil {
		return nil, err
	}
	return parseSeal(value), nil
}

// sealOf returns the seal of the ledger in a place, or nil, and what the ledger was created with.
func sealOf(location string) (s *seal, m Meta, err error) {
	err = Read(location, func(r *Reader, meta Meta) (err error) {
		m = meta
		s, err = readSeal(r)
		return err
	})
	return s, m, err
}

// whole fails if the ledger is an unfinished copy, because its origin may still be in use.
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

// placeOf returns the one name of a place, however it was written: the folder without links, or the database and
// schema.
func placeOf(location string) (place string, err error) {
	if !IsURL(location) {
		return realPath(location)
	}
	err = onePostgres(location, func(ctx context.Context, conn *pgx.Conn) error {
		return conn.QueryRow(ctx, "SELECT current_database() || '/' || current_setting('search_path')").Scan(&place)
	})
	return place, err
}

// realPath returns a path without links, also if there is nothing at the path yet.
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

// Seal stops all writing to a ledger, because it goes on in its unfinished copy. A folder must not be served
// meanwhile; nodes of a database are fenced off, whatever they are doing. Sealing again for the same copy changes
// nothing.
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

// sealPostgres stops all writing to the database: first it keeps writers from beginning transactions, then from
// committing them. It waits for transactions in flight.
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
	// ErrNotSealed says that the ledger is not sealed, so there is nothing to cancel.
	ErrNotSealed = errors.New("the ledger is not sealed")
	// ErrNotTheCopy says that the copy for which a ledger was sealed is not in the place, so that nothing shows that
	// the copy was not finished.
	ErrNotTheCopy = errors.New("the copy for which the ledger was sealed is not there")
)

// Unseal opens a sealed ledger again if the copy for which it was sealed is in the place to, unfinished. lost says
// that the caller knows of no place where the copy still is: then the ledger is opened unless what is in to shows
// otherwise.
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

// Complete makes a copy a ledger of its own. Its origin must be sealed for it.
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

// Moved reports whether a ledger has been moved completely to the place to.
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

// withCopy runs f on an unfinished copy while nobody else can use it, and then completes the copy if complete is set.
// So a copy cannot be completed while its origin is being unsealed.
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

// updateSQLite changes a ledger in a folder that is not being served, however far it has been moved.
func updateSQLite(dir string, f func(*Tx) error) error {
	db, err := openSQLiteFor(dir, Options{}, true)
	if err != nil {
		return err
	}
	return errors.Join(db.Update(f), db.Close())
}
