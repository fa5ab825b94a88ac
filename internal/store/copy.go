package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/meterd/meterd/internal/metering"
)

// A ledger is moved by copying it as often as one likes while it is served, sealing it, copying the rest, and opening
// the copy. It is never open in two places: a sealed ledger takes nothing more, and an unfinished copy is not opened.
// Everything can be interrupted at any time and done again.

// Copied is what a copy holds.
type Copied struct{ Calls, Records int64 }

// Values of meta that say that a ledger is being moved.
const (
	sealedValue  = "sealed"  // where it has been moved to; nothing is written any more
	copyingValue = "copying" // what it is an unfinished copy of
)

func movedTo(to []byte) error {
	return fmt.Errorf("the ledger has been moved to %s with meterd copy, and takes nothing more here", to)
}

func unfinishedCopy(from []byte) error {
	return fmt.Errorf("it is an unfinished copy of %s: finish it with meterd copy --finish, or go on there", from)
}

// moving fails if the ledger has been moved, or is an unfinished copy.
func moving(r *Reader) error {
	to, err := r.Value(sealedValue)
	if err != nil {
		return err
	}
	from, err := r.Value(copyingValue)
	switch {
	case err != nil:
		return err
	case from != nil:
		return unfinishedCopy(from)
	case to != nil:
		return movedTo(to)
	}
	return nil
}

// target is a copy in the making: it runs transactions that no other process's can disturb.
type target interface {
	Update(f func(*Tx) error) error
	View(f func(*Reader) error) error
	Close() error
}

// copyRows is how many calls are copied in one transaction.
const copyRows = 2000

// Copy copies what there is in a ledger, beside running servers if there are any, to a place that holds nothing or an
// earlier copy of the same ledger, and says how much was added. progress is called after each transaction.
func Copy(from, to string, progress func(Copied)) (sum Copied, err error) {
	err = Read(from, func(r *Reader, meta Meta) (err error) {
		if err := errors.Join(whole(r), readByKeys(r)); err != nil {
			return err
		}
		c, err := openCopy(from, to, meta)
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

// whole fails if the ledger is an unfinished copy, which may go on at its origin.
func whole(r *Reader) error {
	of, err := r.Value(copyingValue)
	if err == nil && of != nil {
		err = unfinishedCopy(of)
	}
	return err
}

// readByKeys has the usage of calls be read by its keys, however little the planner knows of it.
func readByKeys(r *Reader) (err error) {
	if p, ok := r.reader.(*postgresReader); ok {
		_, err = p.tx.Exec(p.ctx, planByKeys, true)
	}
	return err
}

// openCopy makes the copy if it is not there yet.
func openCopy(from, to string, meta Meta) (target, error) {
	origin := []byte(Redacted(from))
	exists, err := Exists(to)
	if err != nil {
		return nil, err
	}
	if !exists {
		err := Create(to, meta, func(tx *Tx) error { return tx.PutMeta(copyingValue, origin) })
		if err != nil {
			return nil, err
		}
	}
	older := false
	err = Read(to, func(r *Reader, there Meta) error {
		of, err := r.Value(copyingValue)
		switch {
		case err != nil:
			return err
		case of == nil || !there.same(meta):
			return fmt.Errorf("%w in %s, which is not an unfinished copy of %s; choose another place", ErrExist, Redacted(to), origin)
		}
		older = there.Sealed == nil && meta.Sealed != nil
		return nil
	})
	if err != nil {
		return nil, err
	}
	var c target
	if IsURL(to) {
		c, err = openPostgresCopy(to)
	} else {
		c, err = openSQLiteFor(to, Options{}, true)
	}
	if err == nil && older { // the secret has been sealed since
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
	var known Revision // of the copy, which is the origin's, or has nothing yet
	err := c.View(func(r *Reader) (err error) {
		if known, err = r.revision(known); known.N == 0 {
			known = Revision{}
		}
		return err
	})
	if err != nil {
		return err
	}
	return c.Update(func(tx *Tx) error {
		var errs error
		note := func(err error) { errs = errors.Join(errs, err) }
		revision, err := r.Load(known, &Rows{
			Region:     func(v metering.RegionInfo) { note(tx.PutRegion(v)) },
			Account:    func(v metering.Account) { note(tx.PutAccount(v)) },
			Product:    func(v metering.Product) { note(tx.PutProduct(v)) },
			PublicKey:  func(v metering.PublicKey) { note(tx.PutPublicKey(v)) },
			Agreement:  func(v metering.Agreement) { note(tx.PutAgreement(v)) },
			Customer:   func(v metering.Customer) { note(tx.PutCustomer(v)) },
			Principal:  func(v Principal) { note(tx.PutPrincipal(v)) },
			AccessKey:  func(v AccessKey) error { return tx.PutAccessKey(v) },
			Workload:   func(v metering.Workload) { note(tx.PutWorkload(v)) },
			AdminToken: func(v AdminToken) { note(tx.PutAdminToken(v)) },
		})
		if errors.Is(err, ErrWentBack) {
			return errors.New("the copy was made of a state of the ledger that is no longer in its history: it has gone back in time since; choose another place, or delete the copy and make it anew")
		}
		note(copyHistory(r, tx, known))
		clock, err2 := r.Value("clock")
		if err2 == nil && clock != nil {
			err2 = tx.PutMeta("clock", clock)
		}
		return errors.Join(errs, err, err2, tx.exec("UPDATE state SET n = $1 WHERE name = 'revision'", revision.N))
	})
}

// copyHistory copies the revisions that come after the one of the copy.
func copyHistory(r *Reader, tx *Tx, known Revision) error {
	from := int64(0)
	if known.N > 0 {
		from = known.N + 1
	}
	if err := tx.exec("DELETE FROM revision WHERE n >= $1", from); err != nil { // that a new copy was made with
		return err
	}
	return r.revisions(from, tx.putRevision)
}

// copyTokens copies registrations and tokens of both kinds, all of them each time, for they change.
func copyTokens(r *Reader, c target) error {
	err := c.Update(func(tx *Tx) error {
		if err := tx.exec("DELETE FROM client_token WHERE workload > $1", 0); err != nil {
			return err
		}
		var errs error
		_, err := r.Load(Revision{}, &Rows{Registration: func(v metering.Registration) { errs = errors.Join(errs, tx.PutRegistration(v)) }})
		var after [16]byte
		for more := true; more && err == nil; {
			more = false
			err = r.RegistrationTokens(after, copyRows, func(t RegistrationToken) error {
				after, more = t.ID, true
				return tx.PutRegistrationToken(t)
			})
		}
		return errors.Join(errs, err)
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

// copyCalls copies the calls of each writer that come after those that the copy has, with their usage rows.
func copyCalls(r *Reader, c target, progress func(Copied)) error {
	for next := int64(0); ; {
		first, err := r.number("SELECT coalesce(min(seq), 0) FROM call WHERE seq > $1", next)
		if err != nil || first == 0 {
			return err
		}
		writer, _ := Place(first)
		next = (writer+1)<<callBits - 1
		var last int64
		err = c.View(func(r *Reader) (err error) {
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
	err = r.query(callColumns+"WHERE seq > $1 AND seq <= $2 ORDER BY seq LIMIT $3", func(s columns) error {
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

// Seal has nobody write to a ledger any more, because it goes on elsewhere. That of a folder must not be served; the
// nodes of one in a database are fenced off, in the middle of whatever they do. Sealed twice for one place is sealed once.
func Seal(from, to string) error {
	to = Redacted(to)
	err := Read(from, func(r *Reader, _ Meta) error {
		known, err := r.Value(sealedValue)
		if err == nil && known != nil && string(known) != to {
			err = movedTo(known)
		}
		return errors.Join(err, whole(r))
	})
	if err != nil {
		return err
	}
	if IsURL(from) {
		return sealPostgres(from, to)
	}
	return updateSQLite(from, func(tx *Tx) error { return tx.PutMeta(sealedValue, []byte(to)) })
}

// Unseal opens a sealed ledger again, as long as the copy has not been opened.
func Unseal(from, to string) error {
	unseal := func() error {
		if IsURL(from) {
			return onePostgres(from, func(ctx context.Context, conn *pgx.Conn) error {
				_, err := conn.Exec(ctx, "DELETE FROM meta WHERE name = $1", sealedValue)
				if err == nil {
					_, err = conn.Exec(ctx, "UPDATE state SET n = 0 WHERE name = 'sealed'")
				}
				return err
			})
		}
		return updateSQLite(from, func(tx *Tx) error { return tx.exec("DELETE FROM meta WHERE name = $1", sealedValue) })
	}
	if exists, err := Exists(to); err != nil || !exists {
		if err == nil {
			err = unseal()
		}
		return err
	}
	return withCopy(to, false, unseal)
}

// Complete has a copy be a ledger of its own. Its origin must be sealed.
func Complete(from, to string) error {
	return withCopy(to, true, func() error {
		return Read(from, func(r *Reader, _ Meta) error {
			known, err := r.Value(sealedValue)
			if err == nil && string(known) != Redacted(to) {
				err = fmt.Errorf("the ledger in %s is not sealed", Redacted(from))
			}
			return err
		})
	})
}

// Moved tells whether a ledger has been moved to the place, completely.
func Moved(from, to string) (is bool, err error) {
	var origin Meta
	err = Read(from, func(r *Reader, m Meta) error {
		known, err := r.Value(sealedValue)
		is, origin = string(known) == Redacted(to), m
		return err
	})
	if err == nil && is {
		is, err = Exists(to)
	}
	if err != nil || !is {
		return false, err
	}
	err = Read(to, func(r *Reader, m Meta) error {
		of, err := r.Value(copyingValue)
		is = of == nil && m.same(origin)
		return err
	})
	return is, err
}

// withCopy runs f on an unfinished copy while nobody else does, and opens the copy then if it is to be completed: so it
// cannot be completed while its origin is unsealed.
func withCopy(to string, complete bool, f func() error) error {
	inUse := fmt.Errorf("the ledger in %s is in use already; go on there", Redacted(to))
	if IsURL(to) {
		return onePostgres(to, func(ctx context.Context, conn *pgx.Conn) error {
			if err := durable(ctx, conn); err != nil {
				return err
			}
			return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
				tag, err := tx.Exec(ctx, "UPDATE meta SET value = value WHERE name = $1", copyingValue)
				if err == nil && tag.RowsAffected() == 0 {
					err = inUse
				}
				if err == nil {
					err = f()
				}
				if err == nil && complete {
					_, err = tx.Exec(ctx, "DELETE FROM meta WHERE name = $1", copyingValue)
				}
				return err
			})
		})
	}
	db, err := openSQLiteFor(to, Options{}, true)
	if err != nil {
		return err
	}
	err = db.View(func(r *Reader) error {
		of, err := r.Value(copyingValue)
		if err == nil && of == nil {
			err = inUse
		}
		return err
	})
	if err == nil {
		err = f()
	}
	if err == nil && complete {
		err = db.Update(func(tx *Tx) error { return tx.exec("DELETE FROM meta WHERE name = $1", copyingValue) })
	}
	return errors.Join(err, db.Close())
}

// updateSQLite changes a ledger in a folder that nobody serves, in whatever state of being moved it is.
func updateSQLite(dir string, f func(*Tx) error) error {
	db, err := openSQLiteFor(dir, Options{}, true)
	if err != nil {
		return err
	}
	return errors.Join(db.Update(f), db.Close())
}

// postgresCopy is a copy in a database. Nobody else writes to it, so its transactions need no writer of their own.
type postgresCopy struct {
	conn *pgx.Conn
	ctx  context.Context
	days func(context.Context, map[int32]struct{}) error // makes partitions
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
	pool, err := newPool(ctx, writable(config))
	if err != nil {
		return nil, errors.Join(err, conn.Close(ctx))
	}
	if err := migrate(ctx, conn, nodeName()); err != nil { // the copy was begun by an older version
		pool.Close()
		return nil, errors.Join(err, conn.Close(ctx))
	}
	db := &postgresStore{pool: pool}
	return &postgresCopy{conn: conn, ctx: ctx, days: db.makePartitions, done: pool.Close}, durable(ctx, conn)
}

// Update makes the partitions that f's rows are for, and runs it again then.
func (c *postgresCopy) Update(f func(*Tx) error) error {
	for {
		t := &postgresTx{ctx: c.ctx, conn: c.conn, days: map[int32]struct{}{}}
		t.batch.Queue("BEGIN")
		t.batch.Queue(durably)
		err := f(&Tx{tx: t})
		if err == nil {
			err = t.commit()
		}
		if err == nil {
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

func (c *postgresCopy) View(f func(*Reader) error) error {
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

// restore stores the rows in the database, and keeps writers to come from the numbers of those who have written them.
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

// restore stores the rows in the folder. The index is not asked: it is loaded when the copy is opened.
func (tx *sqliteTx) restore(_ []Call, claims []Claim) error {
	firsts := map[metering.Hour]int64{}
	for i := range claims {
		u := &claims[i].Usage
		if _, known := firsts[u.Hour]; !known {
			firsts[u.Hour] = u.Seq
		}
		if err := tx.insert(u); err != nil { // with its number: rows of other writers may stand behind it
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

// sealPostgres has nobody write to the database any more: first no writer can begin, then none can commit. It waits for
// transactions in flight.
func sealPostgres(url, to string) error {
	return onePostgres(url, func(ctx context.Context, conn *pgx.Conn) error {
		for _, s := range []struct {
			sql  string
			args []any
		}{
			{"INSERT INTO meta (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value", []any{sealedValue, []byte(to)}},
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
