// Package store keeps a ledger on disk. It is the only package that speaks SQL and it takes no decisions: what a
// row means and whether it may be written is for package ledger to say.
//
// The embedded store is one SQLite database in write-ahead-log mode with synchronous=FULL: when [DB.Update]
// returns nil, what was written is on disk. A folder belongs to one process at a time, which holds its lock file;
// others may read beside it with [OpenReader].
package store

import (
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/ncruces/go-sqlite3"
)

//go:embed schema.sql
var schema string

// Format is the version of the schema. A folder of another version is refused.
const Format = 1

const (
	file     = "ledger.db"
	lockFile = "lock"

	walBackground = 4_000  // pages in the log at which a checkpoint is due, 16 MB
	walForeground = 40_000 // pages at which the writer does it itself, 160 MB
)

// Errors of opening and creating a store.
var (
	ErrNotExist = errors.New("there is no ledger")
	ErrExist    = errors.New("there is a ledger already")
	ErrLocked   = errors.New("another process is using the ledger")
)

// CommitError says that a transaction could not be made durable. Whether its writes are in the database is
// unknown until it is opened again; nothing of it may be acknowledged.
type CommitError struct{ Err error }

func (e *CommitError) Error() string { return "commit: " + e.Err.Error() }
func (e *CommitError) Unwrap() error { return e.Err }

// Meta is what a ledger is created with.
type Meta struct {
	Format  int    `json:"format"`
	Secret  []byte `json:"secret"`  // metering record ids and registration tokens derive from it
	Sandbox bool   `json:"sandbox"` // made by meterd dev, with published keys
	Created int64  `json:"created"` // milliseconds since the epoch, wall clock
	Check   []byte `json:"check"`   // a known text sealed with the master key, to notice a wrong one
}

// DB is an open store. Update must be called by one goroutine at a time; the other methods are safe for
// concurrent use.
type DB struct {
	dir      string
	lock     *os.File
	writer   *sqlite3.Conn
	tx       Tx
	checker  *sqlite3.Conn // runs checkpoints beside the writer
	readers  chan *Reader
	walPages atomic.Int64
	meta     Meta
}

// Exists tells whether the folder holds a ledger.
func Exists(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, file))
	return err == nil
}

// Create makes a new, empty store in the folder, which is made too if it is missing. It fails with ErrExist if
// there is one already, and leaves nothing behind if it fails: the database gets its name once it is whole.
func Create(dir string, meta Meta) (err error) {
	if Exists(dir) {
		return fmt.Errorf("%w in %s", ErrExist, dir)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	lock, err := lockDir(dir)
	if err != nil {
		return err
	}
	defer lock.Close()
	temp := filepath.Join(dir, file+".new")
	remove := func() {
		for _, suffix := range []string{"", "-wal", "-shm", "-journal"} {
			os.Remove(temp + suffix)
		}
	}
	remove()
	defer func() {
		if err != nil {
			remove()
		}
	}()
	c, err := open(temp, sqlite3.OPEN_READWRITE|sqlite3.OPEN_CREATE)
	if err != nil {
		return err
	}
	meta.Format = Format
	value, err := json.Marshal(meta)
	if err != nil {
		return err
	}
	err = errors.Join(c.EnableChecksums("main"), c.Exec("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; BEGIN;"+schema))
	if err == nil {
		err = exec(c, "INSERT INTO meta (name, value) VALUES ('ledger', ?)", value)
	}
	if err == nil {
		err = c.Exec("COMMIT; PRAGMA wal_checkpoint(TRUNCATE)")
	}
	if err = errors.Join(err, c.Close()); err != nil {
		return fmt.Errorf("creating %s: %w", temp, err)
	}
	if err := os.Rename(temp, filepath.Join(dir, file)); err != nil {
		return err
	}
	return syncDir(dir)
}

// Open opens the store in the folder for writing. It never creates one: a folder without a ledger is ErrNotExist,
// so that an unmounted volume cannot become a new, empty ledger.
func Open(dir string) (*DB, error) {
	if !Exists(dir) {
		return nil, fmt.Errorf("%w in %s", ErrNotExist, dir)
	}
	lock, err := lockDir(dir)
	if err != nil {
		return nil, err
	}
	db := &DB{dir: dir, lock: lock, readers: make(chan *Reader, 4)}
	fail := func(err error) (*DB, error) {
		db.Close()
		return nil, fmt.Errorf("opening the ledger in %s: %w", dir, err)
	}
	path := filepath.Join(dir, file)
	if db.writer, err = open(path, sqlite3.OPEN_READWRITE); err != nil {
		return fail(err)
	}
	if err := db.writer.Exec("PRAGMA synchronous=FULL; PRAGMA wal_autocheckpoint=0; PRAGMA cache_size=-65536"); err != nil {
		return fail(err)
	}
	// A pragma that was not understood is not an error, so ask for what it set.
	for _, p := range [][2]string{{"journal_mode", "wal"}, {"synchronous", "2"}, {"wal_autocheckpoint", "0"}, {"checksum_verification", "1"}} {
		got, err := pragma(db.writer, p[0])
		if err != nil {
			return fail(err)
		}
		if got != p[1] {
			return fail(fmt.Errorf("%s is %q, but must be %q for records to be safe", p[0], got, p[1]))
		}
	}
	if db.meta, err = readMeta(db.writer); err != nil {
		return fail(err)
	}
	if db.checker, err = open(path, sqlite3.OPEN_READWRITE); err != nil {
		return fail(err)
	}
	if err := db.checker.Exec("SELECT 1 FROM meta; " + skipChecksums); err != nil {
		return fail(err)
	}
	db.writer.WALHook(func(_ *sqlite3.Conn, _ string, pages int) error {
		db.walPages.Store(int64(pages))
		return nil
	})
	if err := db.tx.prepare(db.writer); err != nil {
		return fail(err)
	}
	return db, nil
}

// skipChecksums has a connection no longer verify the checksums of the pages it reads; it still computes those of
// the pages it writes. go-sqlite3 0.37.0 needs it of a connection that makes a checkpoint after another one has
// written: with verification on it calls a memory mapper that is not there.
// It counts once the first page has been read.
const skipChecksums = "PRAGMA checksum_verification=OFF"

func open(path string, flags sqlite3.OpenFlag) (*sqlite3.Conn, error) {
	c, err := sqlite3.OpenFlags(path, flags)
	if err != nil {
		return nil, err
	}
	if err := c.BusyTimeout(10 * time.Second); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func readMeta(c *sqlite3.Conn) (m Meta, err error) {
	found := false
	err = query(c, "SELECT value FROM meta WHERE name = 'ledger'", func(s *sqlite3.Stmt) error {
		found = true
		return json.Unmarshal(s.ColumnRawBlob(0), &m)
	})
	switch {
	case err != nil:
		return m, err
	case !found:
		return m, errors.New("the database is not a meterd ledger")
	case m.Format != Format:
		return m, fmt.Errorf("the ledger has format %d, but this version of meterd reads format %d", m.Format, Format)
	}
	return m, nil
}

// Meta returns what the ledger was created with.
func (db *DB) Meta() Meta { return db.meta }

// Close releases the store. Everything acknowledged is on disk already.
func (db *DB) Close() error {
	var errs []error
	for {
		select {
		case r := <-db.readers:
			errs = append(errs, r.c.Close())
			continue
		default:
		}
		break
	}
	for _, c := range []*sqlite3.Conn{db.checker, db.writer} {
		if c != nil {
			for _, s := range slices.Collect(c.Stmts()) {
				s.Close() // its error is that of its last run, which has been told
			}
			errs = append(errs, c.Close())
		}
	}
	if db.lock != nil {
		errs = append(errs, db.lock.Close())
	}
	return errors.Join(errs...)
}

// Update runs f in a transaction and makes it durable. If f fails the transaction is undone and f's error is
// returned as it is. A [CommitError] means that the outcome is unknown and that the store must not be written to
// again in this process: what a failed sync left in memory is not what is on disk.
func (db *DB) Update(f func(*Tx) error) error {
	if err := db.tx.begin.Exec(); err != nil {
		return &CommitError{err}
	}
	db.tx.waiting = db.tx.waiting[:0]
	err := f(&db.tx)
	if err == nil {
		err = db.tx.flush()
	}
	if err != nil {
		if rollback := db.tx.rollback.Exec(); rollback != nil {
			return &CommitError{errors.Join(err, rollback)}
		}
		return err
	}
	if err := db.tx.commit.Exec(); err != nil {
		return &CommitError{err}
	}
	if db.walPages.Load() > walForeground {
		if err := db.writer.Exec("PRAGMA wal_checkpoint(PASSIVE)"); err != nil {
			return &CommitError{err}
		}
	}
	return nil
}

// CheckpointDue tells whether the write-ahead log has grown enough for [DB.Checkpoint].
func (db *DB) CheckpointDue() bool { return db.walPages.Load() > walBackground }

// Checkpoint copies the write-ahead log into the database, beside the writer. One goroutine at a time may call
// it. An error is as serious as a [CommitError].
func (db *DB) Checkpoint() error {
	return db.checker.Exec("PRAGMA wal_checkpoint(PASSIVE)")
}

// Reader reads one state of the store.
type Reader struct{ c *sqlite3.Conn }

// View runs f on the state that is durable now. Readers do not hold up the writer.
func (db *DB) View(f func(*Reader) error) error {
	var r *Reader
	select {
	case r = <-db.readers:
	default:
		c, err := open(filepath.Join(db.dir, file), sqlite3.OPEN_READWRITE)
		if err != nil {
			return err
		}
		if err := c.Exec("PRAGMA query_only=ON"); err != nil {
			c.Close()
			return err
		}
		r = &Reader{c}
	}
	err := r.view(f)
	select {
	case db.readers <- r:
	default:
		err = errors.Join(err, r.c.Close())
	}
	return err
}

func (r *Reader) view(f func(*Reader) error) error {
	if err := r.c.Exec("BEGIN"); err != nil {
		return err
	}
	err := f(r)
	return errors.Join(err, r.c.Exec("ROLLBACK"))
}

// OpenReader runs f on the store in the folder, beside a running server if there is one.
func OpenReader(dir string, f func(*Reader, Meta) error) error {
	if !Exists(dir) {
		return fmt.Errorf("%w in %s", ErrNotExist, dir)
	}
	c, err := open(filepath.Join(dir, file), sqlite3.OPEN_READWRITE)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.Exec("PRAGMA query_only=ON"); err != nil {
		return err
	}
	meta, err := readMeta(c)
	if err != nil {
		return err
	}
	r := &Reader{c}
	err = r.view(func(r *Reader) error { return f(r, meta) })
	// Closing makes a checkpoint if the server has stopped meanwhile.
	return errors.Join(err, c.Exec(skipChecksums))
}

// CheckIntegrity has SQLite check every page and index.
func (r *Reader) CheckIntegrity() error {
	return query(r.c, "PRAGMA integrity_check(1)", func(s *sqlite3.Stmt) error {
		if text := s.ColumnText(0); text != "ok" {
			return errors.New("database is damaged: " + text)
		}
		return nil
	})
}

func pragma(c *sqlite3.Conn, name string) (value string, err error) {
	err = query(c, "PRAGMA "+name, func(s *sqlite3.Stmt) error {
		value = s.ColumnText(0)
		return nil
	})
	return value, err
}

// query runs a statement and calls row for each row it returns.
func query(c *sqlite3.Conn, sql string, row func(*sqlite3.Stmt) error, args ...any) error {
	s, _, err := c.Prepare(sql)
	if err != nil {
		return err
	}
	defer s.Close()
	if err := bind(s, args...); err != nil {
		return err
	}
	for s.Step() {
		if err := row(s); err != nil {
			return err
		}
	}
	return s.Err()
}

func exec(c *sqlite3.Conn, sql string, args ...any) error {
	return query(c, sql, func(*sqlite3.Stmt) error { return nil }, args...)
}

// bind binds arguments in order: integers of any kind, booleans, strings and byte slices.
func bind(s *sqlite3.Stmt, args ...any) error {
	for i, a := range args {
		var err error
		switch v := a.(type) {
		case int64:
			err = s.BindInt64(i+1, v)
		case int:
			err = s.BindInt64(i+1, int64(v))
		case uint32:
			err = s.BindInt64(i+1, int64(v))
		case uint64:
			err = s.BindInt64(i+1, int64(v))
		case bool:
			err = s.BindBool(i+1, v)
		case string:
			err = s.BindText(i+1, v)
		case []byte:
			err = s.BindBlob(i+1, v)
		case nil:
			err = s.BindNull(i + 1)
		default:
			panic("internal error: cannot bind argument " + strconv.Itoa(i+1))
		}
		if err != nil {
			return err
		}
	}
	return nil
}
