package store

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/ncruces/go-sqlite3"
)

// Table revision has a row for each revision of the catalogue, with a random mark that nobody can guess. After a
// database has gone back in time it gives the same numbers again, but never the same marks. So if a revision that a
// node knows, with its mark, is not in the table, the node knows things that the database has lost.

// ErrWentBack says that a shared store has lost what this process had read there or written to it.
var ErrWentBack = errors.New("the database has gone back to an earlier state, as after a backup was restored or a standby that lagged behind was promoted: " +
	"it has lost what this process had read there or written. Nothing is taken any more; a process that is started now goes on from what is there")

// Revision is a state of the catalogue.
type Revision struct {
	N    int64    // how many acts of administration have changed it
	Mark [16]byte // random; zero in a ledger of an earlier version that has not been opened since
	Sum  Checksum // of its rows
}

func newMark() (mark [16]byte) {
	rand.Read(mark[:]) // rand.Read never fails
	return mark
}

// Revise notes that an act of administration changes the catalogue, which the caller knows at the given revision, and
// runs puts, which writes the changed rows. It returns the next revision, which the catalogue has once the
// transaction is committed. ErrStale means that another node has changed the catalogue since.
func (tx *Tx) Revise(known Revision, puts func() error) (Revision, error) {
	next := Revision{N: known.N + 1, Mark: newMark()}
	tx.revision, tx.sum = next.N, known.Sum
	if err := tx.revise(known.N); err != nil {
		return next, err
	}
	if err := puts(); err != nil {
		return next, err
	}
	next.Sum = tx.sum
	return next, tx.putRevision(next)
}

func (tx *Tx) putRevision(r Revision) error {
	return tx.exec("INSERT INTO revision (n, mark, sum) VALUES ($1,$2,$3)", r.N, r.Mark[:], r.Sum[:])
}

// startHistory begins the history of a new catalogue, which the transaction has made.
func (tx *Tx) startHistory() error {
	r := Revision{Mark: newMark(), Sum: emptyCatalogue}
	subtle.XORBytes(r.Sum[:], r.Sum[:], tx.sum[:])
	return tx.putRevision(r)
}

// revision returns the latest revision. It fails with ErrWentBack if the known revision is not in the history, unless
// the known revision has no mark.
func (r *Reader) revision(known Revision) (latest Revision, err error) {
	if latest.N, err = r.number("SELECT n FROM state WHERE name = 'revision'"); err != nil {
		return latest, err
	}
	has := known.Mark == Revision{}.Mark
	err = r.readRevisions("WHERE n = $1 OR n = $2", func(v Revision) error {
		if v.N == latest.N {
			latest = v
		}
		has = has || v.N == known.N && v.Mark == known.Mark
		return nil
	}, latest.N, known.N)
	if err == nil && !has {
		err = ErrWentBack
	}
	return latest, err
}

// revisions calls f for each revision in the history, beginning with number from.
func (r *Reader) revisions(from int64, f func(Revision) error) error {
	return r.readRevisions("WHERE n >= $1 ORDER BY n", f, from)
}

func (r *Reader) readRevisions(where string, f func(Revision) error, args ...any) error {
	if p, ok := r.reader.(*postgresReader); ok && p.lacks(3) {
		return nil
	}
	return r.query("SELECT n, mark, sum FROM revision "+where, func(c columns) error {
		s := row{columns: c}
		v := Revision{N: s.ColumnInt64(0)}
		s.bytes(1, v.Mark[:])
		if len(s.ColumnRawBlob(2)) > 0 {
			s.bytes(2, v.Sum[:])
		}
		if s.damage != nil {
			return fmt.Errorf("revision row with n %d: %w", v.N, s.damage)
		}
		return f(v)
	}, args...)
}

// begun reports whether the revision has everything that this version notes of a revision.
func (r *Revision) begun() bool { return r.Mark != Revision{}.Mark && r.Sum != Checksum{} }

// begin fills in what an earlier version did not note of the latest revision, and returns the statement that stores
// it.
func (r *Reader) begin(latest *Revision) (sql string, args []any, err error) {
	if latest.Mark == (Revision{}.Mark) {
		latest.Mark = newMark()
	}
	latest.Sum, err = r.Checksum()
	return "INSERT INTO revision (n, mark, sum) VALUES ($1,$2,$3) ON CONFLICT (n) DO UPDATE SET sum = excluded.sum", []any{latest.N, latest.Mark[:], latest.Sum[:]}, err
}

// beginHistory starts the history of a ledger in a folder that an earlier version has made without one.
func beginHistory(r *Reader) error {
	latest, err := r.revision(Revision{})
	if err != nil || latest.begun() {
		return err
	}
	sql, args, err := r.begin(&latest)
	if err != nil {
		return err
	}
	return query(r.reader.(*sqliteReader).c, sql, func(*sqlite3.Stmt) error { return nil }, args...)
}

// beginPostgresHistory returns the latest revision of the catalogue in a database. If there is no history yet,
// because no node of this version has used the database, it starts one, after fencing off the nodes of earlier
// versions, which do not write it.
func beginPostgresHistory(ctx context.Context, conn *pgx.Conn) (latest Revision, err error) {
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		r := Reader{&postgresReader{ctx: ctx, tx: tx}}
		if latest, err = r.revision(Revision{}); err != nil || latest.begun() {
			return err
		}
		for _, sql := range []string{"UPDATE writer SET fenced = true WHERE NOT fenced", "UPDATE state SET n = n WHERE name = 'revision'"} {
			if _, err := tx.Exec(ctx, sql); err != nil {
				return err
			}
		}
		if latest, err = r.revision(Revision{}); err != nil || latest.begun() { // another node was quicker
			return err
		}
		sql, args, err := r.begin(&latest)
		if err == nil {
			_, err = tx.Exec(ctx, sql, args...)
		}
		return err
	})
	return latest, err
}

// CheckHistory checks that the catalogue is what the acts of administration have made of it: the history has every
// revision since it was begun, and the rows have the checksum of the latest.
func (r *Reader) CheckHistory(problem func(format string, args ...any)) error {
	latest, err := r.revision(Revision{})
	if err != nil {
		return err
	}
	var last *Revision
	err = r.revisions(0, func(v Revision) error {
		if last != nil && v.N != last.N+1 {
			problem("revisions %d to %d of the catalogue are missing", last.N+1, v.N-1)
		}
		last = &v
		return nil
	})
	if err != nil || last == nil { // an earlier version has written the last one
		return err
	}
	if last.N != latest.N {
		problem("the catalogue is at revision %d, but its history ends with %d: a page of one of them holds an earlier content", latest.N, last.N)
	}
	sum, err := r.Checksum()
	if err == nil && last.Sum != (Checksum{}) && sum != last.Sum {
		problem("the catalogue is not as revision %d left it: its rows were changed by something else, or pages of it hold an earlier content", last.N)
	}
	return err
}
