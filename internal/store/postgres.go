package store

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/meterd/meterd/internal/metering"
)

// How long PostgreSQL may take. Variables only for tests.
var (
	connectPatience = 3 * time.Second  // a connection to one host
	writePatience   = 5 * time.Second  // to commit a group of calls, attempts included
	actPatience     = 5 * time.Minute  // one attempt of an act of administration: imports are large
	readPatience    = 15 * time.Second // one statement of a view
	pulsePatience   = 2 * time.Second
)

const (
	poolSize    = 4 // connections for views
	callWriters = 2 // connections that commit calls; more were measured to gain nothing
)

// postgresStore is a ledger in a PostgreSQL database, which other nodes may share.
type postgresStore struct {
	config  *pgx.ConnConfig
	pool    *pgxpool.Pool
	meta    Meta
	node    string
	writers []*postgresWriter
	log     *slog.Logger
	last    metering.Instant // of the calls that the database held when it was opened
	opened  Revision         // of the catalogue at that time
	ctx     context.Context  // ends with the store
	end     context.CancelFunc
	ended   sync.WaitGroup
	closed  atomic.Bool
	leaves  atomic.Bool // the log has been told that other nodes do the housekeeping
}

// writable makes connections go only to a server that takes writes: of several hosts, to the primary.
func writable(c *pgx.ConnConfig) *pgx.ConnConfig {
	c = c.Copy()
	c.ValidateConnect = func(ctx context.Context, conn *pgconn.PgConn) error {
		readOnly, err := ask(ctx, conn, "SHOW transaction_read_only")
		if err == nil && readOnly == "on" {
			err = errReadOnly
		}
		return err
	}
	return c
}

var errReadOnly = errors.New("the database is read-only: it is a standby, or was demoted")

// Away reports whether err says that a database could not be reached, or not be written to, for a reason that may pass
// by itself: nobody answers at its address, its name is not known, it is starting or stopping, it has no connection
// left, or it is a standby. Any other error in finding and opening a ledger has to be mended by somebody.
func Away(err error) bool {
	switch e := err.(type) {
	case nil:
		return false
	case *pgconn.PgError:
		return e.Code == "25006" || slices.Contains([]string{"08", "53", "57"}, e.Code[:min(2, len(e.Code))])
	case *net.OpError:
		var alert tls.AlertError // the server has answered, and refused
		return !errors.As(err, &alert)
	case *net.DNSError:
		return true
	case interface{ Unwrap() []error }: // of several hosts
		return slices.ContainsFunc(e.Unwrap(), Away)
	}
	switch err {
	case errReadOnly, io.EOF, io.ErrUnexpectedEOF, context.DeadlineExceeded:
		return true
	}
	return Away(errors.Unwrap(err))
}

func existsPostgres(url string) (exists bool, err error) {
	err = onePostgres(url, func(ctx context.Context, conn *pgx.Conn) error {
		exists, err = hasLedger(ctx, conn)
		return err
	})
	return exists, err
}

// onePostgres runs f on a connection of its own.
func onePostgres(url string, f func(context.Context, *pgx.Conn) error) error {
	config, err := postgresConfig(url)
	if err != nil {
		return err
	}
	ctx := context.Background()
	conn, err := connectPostgres(ctx, config)
	if err != nil {
		return fmt.Errorf("connecting to %s: %w", Redacted(url), err)
	}
	return errors.Join(f(ctx, conn), conn.Close(ctx))
}

// hasLedger reports whether the database holds a whole ledger: the row of meta is written last when one is created.
func hasLedger(ctx context.Context, conn *pgx.Conn) (bool, error) {
	_, err := readPostgresMeta(ctx, conn)
	if errors.Is(err, ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

func readPostgresMeta(ctx context.Context, conn *pgx.Conn) (m Meta, err error) {
	var value []byte
	err = conn.QueryRow(ctx, "SELECT value FROM meta WHERE name = 'ledger'").Scan(&value)
	var refused *pgconn.PgError
	switch {
	case errors.Is(err, pgx.ErrNoRows), errors.As(err, &refused) && (refused.Code == "42P01" || refused.Code == "3F000"): // no such table, no schema
		return m, ErrNotExist
	case err != nil:
		return m, err
	}
	if err := json.Unmarshal(value, &m); err != nil {
		return m, err
	}
	return m, m.checkFormat()
}

// storeMeta stores meta unless it is stored already: this is how the secret of a ledger of format 2 comes to be stored
// sealed. Nodes of the previous version that are running go on, but cannot be started on the ledger any more.
func storeMeta(ctx context.Context, conn *pgx.Conn, meta *Meta) error {
	value, err := meta.stored()
	if err == nil {
		_, err = conn.Exec(ctx, "UPDATE meta SET value = $1 WHERE name = 'ledger' AND value <> $1", value)
	}
	meta.Format = Format
	return err
}

// createPostgres makes the tables, which does no harm if they exist already, and then the ledger in one transaction.
func createPostgres(url string, meta Meta, fill func(*Tx) error) error {
	return onePostgres(url, func(ctx context.Context, conn *pgx.Conn) error {
		if err := suitable(ctx, conn); err != nil {
			return err
		}
		exists, err := hasLedger(ctx, conn)
		if err == nil && !exists {
			err = makeTables(ctx, conn)
		}
		if err != nil {
			return err
		}
		exist := fmt.Errorf("%w in %s", ErrExist, Redacted(url))
		if exists {
			return exist
		}
		value, err := meta.stored()
		if err != nil {
			return err
		}
		t := &postgresTx{ctx: ctx, conn: conn, days: map[int32]struct{}{}}
		t.batch.Queue("BEGIN")
		t.batch.Queue(durably)
		t.batch.Queue("INSERT INTO writer (id, node, started, at, commits, calls, fenced) VALUES (0, 'init', 0, 0, 1, 0, true) ON CONFLICT (id) DO NOTHING")
		if err := t.flush(); err != nil {
			return err
		}
		tag, err := conn.Exec(ctx, "INSERT INTO meta (name, value) VALUES ('ledger', $1) ON CONFLICT (name) DO NOTHING", value)
		if err != nil {
			return err
		}
		if tag.RowsAffected() == 0 { // another one was quicker
			return exist
		}
		tx := &Tx{tx: t}
		if err := errors.Join(fill(tx), tx.startHistory()); err != nil {
			return err
		}
		return t.commit()
	})
}

func openPostgres(url string, o Options) (*postgresStore, error) {
	config, err := postgresConfig(url)
	if err != nil {
		return nil, err
	}
	db := &postgresStore{config: writable(config), node: nodeName(), log: o.Log}
	if db.log == nil {
		db.log = slog.Default()
	}
	db.ctx, db.end = context.WithCancel(context.Background())
	fail := func(err error) (*postgresStore, error) {
		db.Close()
		if errors.Is(err, ErrNotExist) {
			return nil, fmt.Errorf("%w in %s", err, Redacted(url))
		}
		return nil, fmt.Errorf("opening the ledger in %s: %w", Redacted(url), err)
	}
	conn, err := connectPostgres(db.ctx, db.config)
	if err != nil {
		return fail(err)
	}
	defer conn.Close(db.ctx)
	if err := suitable(db.ctx, conn); err != nil {
		return fail(err)
	}
	if db.meta, err = readPostgresMeta(db.ctx, conn); err != nil {
		return fail(err)
	}
	if err := sealedTo(db.ctx, conn); err != nil {
		return fail(err)
	}
	if o.Admit != nil {
		if err := o.Admit(&db.meta); err != nil {
			return fail(err)
		}
	}
	if err := migrate(db.ctx, conn, db.node); err != nil {
		return fail(err)
	}
	if err := storeMeta(db.ctx, conn, &db.meta); err != nil {
		return fail(err)
	}
	if db.opened, err = beginPostgresHistory(db.ctx, conn); err != nil {
		return fail(err)
	}
	if db.last, err = lastTime(db.ctx, conn); err != nil {
		return fail(err)
	}
	if db.pool, err = newPool(db.ctx, db.config); err != nil {
		return fail(err)
	}
	for i := range 1 + callWriters {
		w := newPostgresWriter(db, i == 0)
		db.writers = append(db.writers, w)
		ctx, cancel := context.WithTimeout(db.ctx, writePatience)
		err := w.ready(ctx)
		cancel()
		if err != nil {
			return fail(err)
		}
	}
	db.ended.Add(1)
	go db.keepHouse()
	return db, nil
}

// lastTime returns the ledger time of the latest transaction of any writer, or 0 if there is none. All calls of a
// transaction have the same time, so lastTime looks at each writer's last counted call and at the first call after it.
func lastTime(ctx context.Context, conn *pgx.Conn) (at metering.Instant, err error) {
	rows, err := conn.Query(ctx, "SELECT id::bigint, calls FROM writer")
	if err != nil {
		return 0, err
	}
	var seqs []int64
	var id, calls int64
	_, err = pgx.ForEachRow(rows, []any{&id, &calls}, func() error {
		seqs = append(seqs, id<<callBits|calls, id<<callBits|(calls+1))
		return nil
	})
	if err != nil {
		return 0, err
	}
	err = conn.QueryRow(ctx, "SELECT coalesce(max(at), 0) FROM call WHERE seq = ANY ($1)", seqs).Scan(&at)
	return at, err
}

// newPool returns a pool of connections that are made with config.
func newPool(ctx context.Context, config *pgx.ConnConfig) (*pgxpool.Pool, error) {
	pool, err := pgxpool.ParseConfig("")
	if err != nil {
		return nil, err
	}
	pool.ConnConfig, pool.MaxConns = config.Copy(), poolSize
	return pgxpool.NewWithConfig(ctx, pool)
}

// nodeName returns the name under which this process is noted in leases and writers as their holder.
func nodeName() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return fmt.Sprintf("%s/%d", host, os.Getpid())
}

func (db *postgresStore) Meta() Meta   { return db.meta }
func (db *postgresStore) Shared() bool { return true }

func (db *postgresStore) OpenRecords() (keys, bytes int) { return 0, 0 }

func (db *postgresStore) Writers() []Writer {
	writers := make([]Writer, len(db.writers))
	for i, w := range db.writers {
		writers[i] = w
	}
	return writers
}

// Pulse uses a connection of the pool, so it also finds out whether views can get one. The Last that it returns is that
// of the time of opening. Where tables are spread over several machines, all of them have to answer.
func (db *postgresStore) Pulse(ctx context.Context, known Revision) (Pulse, error) {
	ctx, cancel := db.within(ctx, pulsePatience)
	defer cancel()
	p, err := db.pulse(ctx, known)
	if err != nil && passing(err) && ctx.Err() == nil {
		db.pool.Reset() // the other connections may be as old as the one that has failed
		p, err = db.pulse(ctx, known)
	}
	return p, err
}

// within returns a context that is done when ctx is, when the store is closed, or when the time is over.
func (db *postgresStore) within(ctx context.Context, most time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(ctx, most)
	stop := context.AfterFunc(db.ctx, cancel)
	return ctx, func() { stop(); cancel() }
}

func (db *postgresStore) pulse(ctx context.Context, known Revision) (Pulse, error) {
	p := Pulse{Last: db.last}
	var least, sealed, held int64
	var has bool
	var readOnly, found string
	writers := db.committed()
	var batch pgx.Batch
	batch.Queue("SELECT (SELECT n FROM state WHERE name = 'revision'), (SELECT n FROM state WHERE name = 'least'), (SELECT n FROM state WHERE name = 'sealed'), clock_timestamp(), current_setting('transaction_read_only'), "+
		"EXISTS (SELECT 1 FROM revision WHERE n = $1 AND mark = $2), (SELECT count(*) FROM writer w JOIN unnest($3::int8[], $4::bytea[], $5::int8[]) AS k (id, mark, commits) ON w.id = k.id AND w.mark = k.mark AND w.commits >= k.commits), "+dangers("$6"),
		known.N, known.Mark[:], writers.ids, writers.marks, writers.commits, ledgerTables()).QueryRow(func(row pgx.Row) error {
		return row.Scan(&p.Revision, &least, &sealed, &p.Now, &readOnly, &has, &held, &found)
	})
	// No row has a negative seq, but where tables are spread over machines, this asks every machine.
	batch.Queue("SELECT count(*) FROM call WHERE seq < 0")
	batch.Queue("SELECT count(*) FROM usage WHERE hour < -2147483647")
	err := db.pool.SendBatch(ctx, &batch).Close()
	switch {
	case refusedWith(err, "42P01", "42703"): // tables or columns are missing that existed when the ledger was opened
		return p, fmt.Errorf("%w (%w)", ErrWentBack, err)
	case err != nil:
		return p, err
	case readOnly == "on":
		return p, errReadOnly
	case sealed != 0:
		return p, errSealed
	case least > schemaVersion():
		return p, tooOld(least)
	case !has && known != Revision{}, held != int64(len(writers.ids)):
		return p, ErrWentBack
	}
	return p, safe(found)
}

func (db *postgresStore) Close() error {
	if db.closed.Swap(true) {
		return errClosed
	}
	db.end()
	db.ended.Wait()
	if db.pool != nil {
		db.pool.Close()
	}
	for _, w := range db.writers {
		w.disconnect()
	}
	return nil
}

// errSealed says that the ledger has been moved; sealedTo says where.
var errSealed = errors.New("the ledger has been moved to another place with meterd copy, and takes nothing more here")

// sealedTo fails if the ledger has been moved, or is the unfinished copy of another one.
func sealedTo(ctx context.Context, conn *pgx.Conn) error {
	var sealed int64
	if err := conn.QueryRow(ctx, "SELECT n FROM state WHERE name = 'sealed'").Scan(&sealed); err != nil {
		return err
	}
	var to, from []byte
	err := conn.QueryRow(ctx, "SELECT (SELECT value FROM meta WHERE name = $1), (SELECT value FROM meta WHERE name = $2)", sealedValue, copyingValue).Scan(&to, &from)
	switch {
	case err != nil:
		return err
	case from != nil:
		return parseCopyOf(from).unfinished()
	case sealed != 0:
		return errors.New(parseSeal(to).moved())
	}
	return nil
}

// passing reports whether a statement that failed with err may succeed when it is tried again, perhaps on another
// connection.
func passing(err error) bool {
	var refused *pgconn.PgError
	if !errors.As(err, &refused) {
		return true // the network, or time
	}
	switch refused.Code {
	case "XX000": // what Citus says when a worker is away: failure on connection marked as essential
		return strings.Contains(refused.Message, "connection")
	case "25006", "55P03", "25P03", "25P02", "25P04": // read-only: a demoted primary; lock timeout; ended while idle; transaction timeout
		return true
	}
	switch refused.Code[:2] {
	case "08", "40", "53", "57", "58":
		return true
	}
	return strings.HasPrefix(refused.SeverityUnlocalized, "FATAL") || refused.SeverityUnlocalized == "PANIC"
}
