package store

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/ncruces/go-sqlite3"
)

// Table revision has a row for each revision of the catalogue, with a mark that nobody can guess. Numbers are given
// again after a database has gone back in time, marks are not: whoever knows a revision that is not in the table, mark
// and all, knows things that never were, as far as the database is concerned.

// ErrWentBack says that a shared store has lost what this process had read there or written to it.
var ErrWentBack = errors.New("the database has gone back to an earlier state, as after a backup was restored or a standby that lagged behind was promoted: " +
	"it has lost what this process had read there or written. Nothing is taken any more; a process that is started now goes on from what is there")

// Revision is a state of the catalogue.
type Revision struct {
	N    int64    // how many acts of administration have changed it
	Mark [16]byte // random; zero in a ledger of an earlier version that has not been opened since
}

func newMark() (mark [16]byte) {
	rand.Read(mark[:]) // which never fails
	return mark
}

// Revise notes that an act of administration changes the catalogue, which the caller knows at the given revision, and
// runs puts, which writes what it changes. It returns the next revision, which is the catalogue's once the transaction
// has been committed. ErrStale means that another node has changed it.
func (tx *Tx) Revise(known Revision, puts func() error) (Revision, error) {
	next := Revision{N: known.N + 1, Mark: newMark()}
	tx.revision = next.N
	if err := tx.revise(known.N); err != nil {
		return next, err
	}
	if err := puts(); err != nil {
		return next, err
	}
	return next, tx.putRevision(next)
}

func (tx *Tx) putRevision(r Revision) error {
	return tx.exec("INSERT INTO revision (n, mark) VALUES ($1,$2)", r.N, r.Mark[:])
}

// startHistory gives a mark to a catalogue that has none.
func (tx *Tx) startHistory(n int64) error { return tx.putRevision(Revision{N: n, Mark: newMark()}) }

// revision returns the latest revision. It fails with ErrWentBack if the known one is not in the history, unless that
// has no mark.
func (r *Reader) revision(known Revision) (latest Revision, err error) {
	if latest.N, err = r.number("SELECT n FROM state WHERE name = 'revision'"); err != nil {
		return latest, err
	}
	has := known.Mark == Revision{}.Mark
	err = r.readRevisions("WHERE n = $1 OR n = $2", func(v Revision) error {
		if v.N == latest.N {
			latest = v
		}
		has = has || v == known
		return nil
	}, latest.N, known.N)
	if err == nil && !has {
		err = ErrWentBack
	}
	return latest, err
}

// revisions calls f for each revision in the history from one on.
func (r *Reader) revisions(from int64, f func(Revision) error) error {
	return r.readRevisions("WHERE n >= $1 ORDER BY n", f, from)
}

func (r *Reader) readRevisions(where string, f func(Revision) error, args ...any) error {
	if p, ok := r.reader.(*postgresReader); ok && p.older {
		return nil
	}
	return r.query("SELECT n, mark FROM revision "+where, func(c columns) error {
		s := row{columns: c}
		v := Revision{N: s.ColumnInt64(0)}
		if s.bytes(1, v.Mark[:]); s.damage != nil {
			return fmt.Errorf("revision row with n %d: %w", v.N, s.damage)
		}
		return f(v)
	}, args...)
}

// beginHistory gives a history to a ledger in a folder that has none yet, as it was made by a version before.
func beginHistory(r *Reader) error {
	latest, err := r.revision(Revision{})
	if err != nil || latest.Mark != (Revision{}.Mark) {
		return err
	}
	mark := newMark()
	return query(r.reader.(*sqliteReader).c, "INSERT INTO revision (n, mark) VALUES ($1,$2)", func(*sqlite3.Stmt) error { return nil }, latest.N, mark[:])
}

// beginPostgresHistory returns the latest revision of the catalogue in a database. If it has no history yet, as no node
// of this version has been there before, it is given one when those of versions before, which do not write it, are
// fenced off.
func beginPostgresHistory(ctx context.Context, conn *pgx.Conn) (latest Revision, err error) {
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		r := Reader{&postgresReader{ctx: ctx, tx: tx}}
		if latest, err = r.revision(Revision{}); err != nil || latest.Mark != (Revision{}.Mark) {
			return err
		}
		for _, sql := range []string{"UPDATE writer SET fenced = true WHERE mark = ''", "UPDATE state SET n = n WHERE name = 'revision'"} {
			if _, err := tx.Exec(ctx, sql); err != nil {
				return err
			}
		}
		if latest, err = r.revision(Revision{}); err != nil || latest.Mark != (Revision{}.Mark) { // another one was quicker
			return err
		}
		latest.Mark = newMark()
		_, err := tx.Exec(ctx, "INSERT INTO revision (n, mark) VALUES ($1,$2)", latest.N, latest.Mark[:])
		return err
	})
	return latest, err
}
