package store

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/meterd/meterd/internal/metering"
)

// To move a ledger, one copies it as often as one likes while it is served, seals it, copies the rest, and opens the
// copy. It is never open in two places: a sealed ledger takes nothing more, and an unfinished copy is not opened.
// Every step can be interrupted at any time and done again.

// Copied is what a copy holds.
type Copied struct{ Calls, Records int64 }

// target is a copy that is being made. Its transactions cannot be disturbed by another process.
type target interface {
	Update(f func(*Tx) error) error
	View(ctx context.Context, f func(*Reader) error) error
	Close() error
}

// copyRows is how many calls are copied in one transaction.
const copyRows = 2000

// Copy copies a ledger, beside running servers if there are any, to a place that holds nothing or an earlier copy of
// the same ledger. It returns how much was added, and calls progress after each transaction.
func Copy(from, to string, progress func(Copied)) (sum Copied, err error) {
	err = Read(from, func(r *Reader, meta Meta) (err error) {
		if err := errors.Join(whole(r), readByKeys(r)); err != nil {
			return err
		}
		c, err := openCopy(r, from, to, meta)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, c.Close()) }()
		if err := copyCatalog(r, c); err != nil {
			return err
		}
		if err := copyTokens(r, c); err != nil {
			return err
		}
		return copyCalls(r, c, func(n Copied) {
			sum.Calls, sum.Records = sum.Calls+n.Calls, sum.Records+n.Records
			progress(sum)
		})
	})
	return sum, err
}

// readByKeys makes the database read the usage of calls by its keys, however little its planner knows of the table.
func readByKeys(r *Reader) (err error) {
	if p, ok := r.reader.(*postgresReader); ok {
		_, err = p.tx.Exec(p.ctx, planByKeys, true)
	}
	return err
}

// openCopy makes the copy if it does not exist yet. For a ledger that has been sealed it only makes the copy that the
// ledger was sealed for.
func openCopy(r *Reader, from, to string, meta Meta) (target, error) {
	sealed, err := readSeal(r)
	if err != nil {
		return nil, err
	}
	exists, err := Exists(to)
	if err != nil {
		return nil, err
	}
	if !exists && sealed != nil {
		return nil, errors.New(sealed.moved())
	}
	if !exists {
		id := newMark()
		c := copyOf{Of: Redacted(from), ID: hex.EncodeToString(id[:])}
		if err := Create(to, meta, func(tx *Tx) error { return tx.PutMeta(copyingValue, c.value()) }); err != nil {
			return nil, err
		}
	}
	c, err := copyAt(to)
	switch {
	case err != nil:
		return nil, err
	case c.finished || !c.meta.same(meta):
		return nil, fmt.Errorf("%w in %s, which is not an unfinished copy of %s; choose another place", ErrExist, Redacted(to), Redacted(from))
	case sealed != nil && !sealed.names(c):
		return nil, errors.New(sealed.moved())
	}
	return resumeCopy(to, meta, c.meta.Sealed == nil && meta.Sealed != nil)
}

// resumeCopy opens an existing copy. older means that the ledger's secret has been sealed since the copy was begun.
func resumeCopy(to string, meta Meta, older bool) (c target, err error) {
	if IsURL(to) {
		c, err = openPostgresCopy(to)
	} else {
		c, err = openSQLiteFor(to, Options{}, true)
	}
	if err == nil && older {
		var value []byte
		if value, err = meta.stored(); err == nil {
			err = c.Update(func(tx *Tx) error { return tx.PutMeta("ledger", value) })
		}
		if err != nil {
			err = errors.Join(err, c.Close())
		}
	}
	return c, err
}

// copyCatalog copies what has changed of the catalogue since the last time, in one transaction.
func copyCatalog(r *Reader, c target) error {
	var known Revision // the copy's revision, which is one of the origin's, or zero
	err := c.View(context.Background(), func(r *Reader) (err error) {
		if known, err = r.revision(known); known.N == 0 {
			known = Revision{}
		}
		return err
	})
	if err != nil {
		return err
	}
	return c.Update(func(tx *Tx) error {
		revision, err := r.Load(known, func(row any) error { return tx.Put(row) })
		if errors.Is(err, ErrWentBack) {
			return errors.New("the copy was made of a state of the ledger that is no longer in its history: it has gone back in time since; choose another place, or delete the copy and make it anew")
		}
		err = errors.Join(err, copyHistory(r, tx, known))
		clock, err2 := r.Value("clock")
		if err2 == nil && clock != nil {
			err2 = tx.PutMeta("clock", clock)
		}
		return errors.Join(err, err2, tx.exec("UPDATE state SET n = $1 WHERE name = 'revision'", revision.N))
	})
}

// copyHistory copies the revisions after the copy's own.
func copyHistory(r *Reader, tx *Tx, known Revision) error {
	from := int64(0)
	if known.N > 0 {
		from = known.N + 1
	}
	if err := tx.exec("DELETE FROM revision WHERE n >= $1", from); err != nil { // the revision that a new copy begins with
		return err
	}
	latest, err := r.revision(Revision{})
	if err != nil {
		return err
	}
	if err := r.restate(&latest); err != nil {
		return err
	}
	return r.revisions(from, func(v Revision) error {
		if v.N == latest.N {
			v.Sum = latest.Sum
		}
		return tx.putRevision(v)
	})
}

// copyTokens copies registrations and tokens of both kinds. It copies all of them each time, because they change.
func copyTokens(r *Reader, c target) error {
	err := c.Update(func(tx *Tx) error {
		if err := tx.exec("DELETE FROM client_token WHERE workload > $1", 0); err != nil {
			return err
		}
		err := r.Registrations(tx.PutRegistration)
		var after [16]byte
		for more := true; more && err == nil; {
			more = false
			err = r.RegistrationTokens(after, copyRows, func(t RegistrationToken) error {
				after, more = t.ID, true
				return tx.Put(&t)
			})
		}
		return err
	})
	if err != nil {
		return err
	}
	var some []ClientToken
	put := func() error {
		err := c.Update(func(tx *Tx) error {
			for i := range some {
				if err := tx.PutClientToken(&some[i]); err != nil {
					return err
				}
			}
			return nil
		})
		some = some[:0]
		return err
	}
	err = r.ClientTokens(func(t *ClientToken) error {
		if some = append(some, *t); len(some) == copyRows {
			return put()
		}
		return nil
	})
	if err == nil && len(some) > 0 {
		err = put()
	}
	return err
}

// copyCalls copies, for each writer, the calls that the copy lacks, with their usage rows.
func copyCalls(r *Reader, c target, progress func(Copied)) error {
	for next := int64(0); ; {
		first, err := r.number("SELECT coalesce(min(seq), 0) FROM call WHERE seq > $1", next)
		if err != nil || first == 0 {
			return err
		}
		writer, _ := Place(first)
		next = (writer+1)<<callBits - 1
		var last int64
		err = c.View(context.Background(), func(r *Reader) (err error) {
			last, err = r.number("SELECT coalesce(max(seq), 0) FROM call WHERE seq BETWEEN $1 AND $2", writer<<callBits, next)
			return err
		})
		if err != nil {
			return err
		}
		for last = max(last, writer<<callBits); ; {
			calls, claims, err := readCalls(r, last, next)
			if err != nil || len(calls) == 0 {
				if err != nil {
					return err
				}
				break
			}
			err = c.Update(func(tx *Tx) error {
				if err := tx.restore(calls, claims); err != nil {
					return err
				}
				for i := range calls {
					if err := tx.AppendCall(&calls[i]); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				return err
			}
			last = calls[len(calls)-1].Seq
			progress(Copied{int64(len(calls)), int64(len(claims))})
		}
	}
}

// readCalls reads the next calls of a writer, with their usage rows.
func readCalls(r *Reader, after, upTo int64) (calls []Call, claims []Claim, err error) {
	err = r.query(r.callColumns()+"WHERE seq > $1 AND seq <= $2 ORDER BY seq LIMIT $3", func(s columns) error {
		calls = append(calls, Call{})
		scanCall(s, &calls[len(calls)-1])
		return nil
	}, after, upTo, copyRows)
	for i := range calls {
		if calls[i].UsageRows == 0 || err != nil {
			continue
		}
		before := len(claims)
		err = r.UsageOfCall(&calls[i], func(u *Usage) error {
			claims = append(claims, Claim{Usage: *u, State: Granted})
			return nil
		})
		if got := len(claims) - before; err == nil && got != calls[i].UsageRows {
			err = fmt.Errorf("call %d wrote %d usage rows, but %d are there: the ledger is damaged, run meterd verify", calls[i].Seq, calls[i].UsageRows, got)
		}
	}
	return calls, claims, err
}

// postgresCopy is a copy in a database. Nobody else writes to it, so its transactions need no writer of their own.
type postgresCopy struct {
	conn *pgx.Conn
	ctx  context.Context
	days func(context.Context, map[int32]struct{}) error // makes partitions
	run  callRun                                         // of the last call
	done func()
}

func openPostgresCopy(url string) (*postgresCopy, error) {
	config, err := postgresConfig(url)
	if err != nil {
		return nil, err
	}
	ctx := context.Background()
	conn, err := connectPostgres(ctx, writable(config))
	if err != nil {
		return nil, err
	}
	if err := suitable(ctx, conn); err != nil {
		return nil, errors.Join(err, conn.Close(ctx))
	}
	pool, err := newPool(ctx, writable(config))
	if err != nil {
		return nil, errors.Join(err, conn.Close(ctx))
	}
	if err := migrate(ctx, conn, nodeName()); err != nil { // the copy was begun by an older version
		pool.Close()
		return nil, errors.Join(err, conn.Close(ctx))
	}
	db := &postgresStore{pool: pool}
	return &postgresCopy{conn: conn, ctx: ctx, days: db.makePartitions, done: pool.Close}, nil
}

// Update makes the partitions that the rows of f need, and then runs f again.
func (c *postgresCopy) Update(f func(*Tx) error) error {
	for {
		t := &postgresTx{ctx: c.ctx, conn: c.conn, run: c.run, days: map[int32]struct{}{}}
		t.batch.Queue("BEGIN")
		t.batch.Queue(durably)
		err := f(&Tx{tx: t})
		if err == nil {
			err = t.commit()
		}
		if err == nil {
			c.run = t.run
			return nil
		}
		_, bad := c.conn.Exec(c.ctx, "ROLLBACK")
		if bad != nil || !t.missing {
			return errors.Join(err, bad)
		}
		if err := c.days(c.ctx, t.days); err != nil {
			return err
		}
	}
}

func (c *postgresCopy) View(_ context.Context, f func(*Reader) error) error {
	tx, err := c.conn.BeginTx(c.ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return err
	}
	return errors.Join(f(&Reader{&postgresReader{ctx: c.ctx, tx: tx}}), tx.Rollback(c.ctx))
}

func (c *postgresCopy) Close() error {
	c.done()
	return c.conn.Close(c.ctx)
}

// restore stores the rows in the database, and keeps their writers' numbers from being given to new writers.
func (t *postgresTx) restore(calls []Call, claims []Claim) error {
	first, last := &calls[0], &calls[len(calls)-1]
	writer, n := Place(last.Seq)
	err := t.exec("INSERT INTO writer (id, node, started, at, commits, calls, fenced) VALUES ($1, 'copied', $2, $3, 0, $4, true) ON CONFLICT (id) DO UPDATE SET at = excluded.at, calls = excluded.calls",
		writer, idMillis(first.Request[:]), idMillis(last.Request[:]), n)
	if err != nil {
		return err
	}
	if len(claims) == 0 {
		return nil
	}
	if err := t.Claim(claims); err != nil {
		return err
	}
	for i := range claims {
		if claims[i].State != Granted {
			return fmt.Errorf("usage row %d has a key that another row has already", claims[i].Seq)
		}
	}
	return nil
}

// restore stores the rows in the folder. It does not ask the index, which is loaded when the copy is opened.
func (tx *sqliteTx) restore(_ []Call, claims []Claim) error {
	firsts := map[metering.Hour]int64{}
	for i := range claims {
		u := &claims[i].Usage
		if _, known := firsts[u.Hour]; !known {
			firsts[u.Hour] = u.Seq
		}
		if err := tx.insert(u); err != nil { // with its number, because rows of other writers may come after it
			return err
		}
	}
	for h, first := range firsts {
		if err := tx.exec("INSERT INTO hour (hour, first_seq) VALUES ($1,$2) ON CONFLICT (hour) DO UPDATE SET first_seq = min(first_seq, excluded.first_seq)", int64(h), first); err != nil {
			return err
		}
	}
	return nil
}
