package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/meterd/meterd/internal/metering"
	"github.com/ncruces/go-sqlite3"
)

const (
	file      = "ledger.db"
	lockFile  = "lock"
	hourFiles = "hours" // folder of files of keys: see hourFile

	maxReaders = 8 // views at once; each has a connection, with a cache and files
)

// coldKeys is how many keys of hours that are no longer hot are kept in memory, about 30 MB. It is a variable only
// for tests.
var coldKeys = 1 << 20

// By how many pages the log may grow before the next checkpoint, since the log began or since a checkpoint that got
// no further. A checkpoint cannot get beyond what the oldest reader sees, so while there is such a reader one after
// every commit would be useless.
var (
	walBackground int64 = 4_000  // until a checkpoint is due, 16 MB
	walForeground int64 = 40_000 // until the writer does it itself, 160 MB
)

// sqliteStore is the embedded store: a SQLite database in write-ahead-log mode with synchronous=FULL. The folder
// belongs to one process at a time, which holds its lock file; others may read beside it with [Read].
//
// Update must be called by one goroutine at a time; the other methods are safe for concurrent use.
type sqliteStore struct {
	dir      string
	lock     *os.File
	folder   *os.File   // locked while the log is copied into the database: see snapshot
	copying  sync.Mutex // needed too, because the folder's lock does not exclude goroutines of one process
	writer   *sqlite3.Conn
	tx       sqliteTx
	index    *index
	lastCall atomic.Int64
	lastAt   atomic.Int64  // the time of lastCall
	checker  *sqlite3.Conn // runs checkpoints beside the writer
	wakeup   chan struct{} // a checkpoint is due
	closing  chan struct{} // closed with the store
	ended    sync.WaitGroup
	watching sync.WaitGroup
	files    *watcher
	log      *slog.Logger
	readers  chan *sqliteReader // places for views: a nil reader has no connection yet. Closed with the store
	marks    *marker
	unmarked chan struct{} // a mark is due
	failed   chan struct{} // closed when a write has failed
	marking  sync.WaitGroup
	unsaid   atomic.Int64 // pages that the log had when the note that the ledger is served was written to it; 0 once the note is in the database's file
	walPages atomic.Int64
	checked  atomic.Int64 // pages in the log when a checkpoint in the background got no further, 0 if it has begun anew
	copied   atomic.Int64 // pages that the last such checkpoint found copied at its end
	forced   int64        // pages in the log when the writer last made one itself, 0 if it has begun anew
	sound    atomic.Bool  // open, and no write has failed
	failure  atomic.Pointer[error]
	meta     Meta
}

// present fails if there is no ledger, or if it cannot be found out whether there is one.
func present(dir string) error {
	err := Own(filepath.Join(dir, file))
	if errors.Is(err, fs.ErrNotExist) {
		if err := orphaned(dir); err != nil {
			return err
		}
		return fmt.Errorf("%w in %s", ErrNotExist, dir)
	}
	return err
}

// orphaned fails if a folder without a database has files that belong to one. SQLite would take them for those of a
// new database.
func orphaned(dir string) error {
	path := filepath.Join(dir, file)
	for _, suffix := range []string{"-wal", "-journal"} {
		if info, err := os.Lstat(path + suffix); err == nil && info.Size() > 0 {
			return fmt.Errorf("there is %s%s, of a ledger whose database is gone; put back %s as it was, or restore a backup to another folder", path, suffix, path)
		}
	}
	return nil
}

func existsSQLite(dir string) bool {
	_, err := os.Lstat(filepath.Join(dir, file))
	return err == nil
}

func createSQLite(dir string, meta Meta, fill func(*Tx) error) error {
	return placeSQLite(dir, func(temp string) error {
		if err := build(temp, meta, fill); err != nil {
			return fmt.Errorf("creating %s: %w", temp, err)
		}
		return nil
	})
}

// placeSQLite builds a database in a folder that has none. The database gets its name once it is whole; if that fails
// nothing is left behind.
func placeSQLite(dir string, build func(temp string) error) (err error) {
	exist := fmt.Errorf("%w in %s", ErrExist, dir)
	if existsSQLite(dir) {
		return exist
	}
	if err := orphaned(dir); err != nil {
		return err
	}
	_, bad := os.Lstat(dir)
	made := errors.Is(bad, fs.ErrNotExist)
	if err := makeDir(dir); err != nil {
		return fmt.Errorf("making the folder %s: %w; choose a place where you may make one", dir, err)
	}
	if err := private(dir); err != nil {
		return err
	}
	lock, locked, err := lockDir(dir)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil && locked { // nothing else that was made is left
			err = errors.Join(err, RemoveOwn(lock.Name()))
			if made {
				_ = os.Remove(dir) // unless somebody has put something there
			}
		}
		lock.Close()
	}()
	if existsSQLite(dir) { // another process was quicker
		return exist
	}
	path, temp := filepath.Join(dir, file), filepath.Join(dir, file+".new")
	if err := orphaned(dir); err != nil {
		return err
	}
	if err := errors.Join(removeBesides(path), removeDatabase(temp)); err != nil { // the former are files without a database, which hold nothing
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, removeDatabase(temp))
		}
	}()
	if err := build(temp); err != nil {
		return err
	}
	if err := os.Rename(temp, path); err != nil {
		return err
	}
	if err := SyncDir(dir); err != nil {
		return errors.Join(err, os.Remove(path)) // nobody knows of it yet
	}
	return nil
}

// besides are what SQLite adds to a database's name for the files beside it.
var besides = []string{"-wal", "-shm", "-journal"}

func removeDatabase(path string) error {
	return errors.Join(RemoveOwn(path), removeBesides(path))
}

func removeBesides(path string) (err error) {
	for _, suffix := range besides {
		err = errors.Join(err, RemoveOwn(path+suffix))
	}
	return err
}

// makeFile makes an empty file for a database.
func makeFile(path string) error {
	f, err := CreateOwn(path)
	if err != nil {
		return err
	}
	return f.Close()
}

// build writes a new database in one transaction.
func build(path string, meta Meta, fill func(*Tx) error) (err error) {
	if err := makeFile(path); err != nil {
		return err
	}
	c, err := open(path, sqlite3.OPEN_READWRITE)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeConn(c)) }()
	if err := c.EnableChecksums("main"); err != nil {
		return err
	}
	if err := c.Exec("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; BEGIN"); err != nil {
		return err
	}
	if err := makeSteps(c, 0); err != nil {
		return err
	}
	value, err := meta.stored()
	if err != nil {
		return err
	}
	engine := sqliteTx{index: newIndex(nil, 0)}
	tx := &Tx{tx: &engine}
	for _, step := range []func() error{
		func() error { return engine.prepare(c) },
		func() error { return tx.PutMeta("ledger", value) },
		func() error { return fill(tx) },
		func() error { return tx.startHistory() },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	if err := c.Exec("COMMIT; PRAGMA wal_checkpoint(TRUNCATE)"); err != nil {
		return err
	}
	return checkpointOnClose(c)
}

func openSQLite(dir string, o Options) (*sqliteStore, error) {
	return openSQLiteFor(dir, o, false)
}

// openSQLiteFor opens a ledger. One that has been moved, or is an unfinished copy, is only opened with forMoving.
func openSQLiteFor(dir string, o Options, forMoving bool) (*sqliteStore, error) {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if err := present(dir); err != nil {
		return nil, err
	}
	refused := func(err error) (*sqliteStore, error) {
		return nil, fmt.Errorf("opening the ledger in %s: %w", dir, err)
	}
	if err := ours(dir); err != nil {
		return refused(err)
	}
	if _, err := os.Lstat(filepath.Join(dir, lockFile)); errors.Is(err, fs.ErrNotExist) { // before this call makes the lock's file
		if _, err := inspect(dir, o, forMoving); err != nil {
			return refused(err)
		}
		if err := private(dir); err != nil {
			return refused(err)
		}
	}
	lock, _, err := lockDir(dir)
	if err != nil {
		return nil, err
	}
	db := &sqliteStore{dir: dir, lock: lock, readers: make(chan *sqliteReader, maxReaders), wakeup: make(chan struct{}, 1), closing: make(chan struct{}),
		unmarked: make(chan struct{}, 1), failed: make(chan struct{}), log: o.Log, index: newIndex(nil, 0)}
	for range maxReaders {
		db.readers <- nil
	}
	fail := func(err error) (*sqliteStore, error) {
		db.Close()
		return refused(err)
	}
	if db.meta, err = inspect(dir, o, forMoving); err != nil {
		return fail(err)
	}
	if db.folder, err = openToLock(dir); err != nil {
		return fail(err)
	}
	if err := private(dir); err != nil {
		return fail(err)
	}
	path := filepath.Join(dir, file)
	for _, name := range []string{filepath.Join(dir, lockFile), path, path + "-journal", path + "-wal", path + "-shm", path + markSuffix} {
		if err := tend(name); err != nil {
			return fail(err)
		}
	}
	if err := tendHours(filepath.Join(dir, hourFiles)); err != nil {
		return fail(err)
	}
	if err := secure(path); err != nil {
		return fail(err)
	}
	if err := makeBesides(path); err != nil {
		return fail(err)
	}
	if db.writer, err = open(path, sqlite3.OPEN_READWRITE); err != nil {
		return fail(err)
	}
	if err := db.writer.Exec("PRAGMA synchronous=FULL; PRAGMA wal_autocheckpoint=0; PRAGMA cache_size=-16384"); err != nil {
		return fail(err)
	}
	// SQLite ignores pragmas that it does not know, so ask for what each has set.
	for _, p := range [][2]string{{"journal_mode", "wal"}, {"synchronous", "2"}, {"wal_autocheckpoint", "0"}, {"checksum_verification", "1"}} {
		got, err := pragma(db.writer, p[0])
		if err != nil {
			return fail(err)
		}
		if got != p[1] {
			return fail(fmt.Errorf("%s is %q, but must be %q for records to be safe", p[0], got, p[1]))
		}
	}
	reader := &Reader{&sqliteReader{c: db.writer}}
	if err := migrateSQLite(db.writer, &db.meta, o.Log); err != nil {
		return fail(err)
	}
	if !forMoving {
		if err := beginHistory(reader); err != nil {
			return fail(err)
		}
	}
	if db.checker, err = open(path, sqlite3.OPEN_READWRITE); err != nil {
		return fail(err)
	}
	if err := db.checker.Exec("SELECT 1 FROM meta; " + skipChecksums); err != nil {
		return fail(err)
	}
	db.writer.WALHook(func(_ *sqlite3.Conn, _ string, pages int) error {
		if int64(pages) < db.walPages.Swap(int64(pages)) { // the log has begun anew
			db.checked.Store(0)
			db.forced = 0
		}
		return nil
	})
	db.index = newIndex(db.meta.Secret, o.MaxOpenRecords)
	db.index.scan = db.scan
	db.index.spills = spills{dir: filepath.Join(dir, hourFiles), most: coldKeys, log: o.Log, done: make(chan *spill, 1)}
	db.tx.index, db.tx.sandbox = db.index, db.meta.Sandbox
	if err := db.tx.prepare(db.writer); err != nil {
		return fail(err)
	}
	last, err := reader.lastCall()
	if err != nil {
		return fail(err)
	}
	if last != nil {
		db.lastCall.Store(last.Seq)
		db.lastAt.Store(int64(last.At))
		db.tx.durable = *last
	}
	if err := db.serve(); err != nil {
		return fail(err)
	}
	if db.files, err = watchFiles(dir, db.walPages.Load()); err != nil {
		return fail(err)
	}
	db.sound.Store(true)
	db.ended.Add(1)
	db.marking.Add(1)
	go db.checkpoints()
	db.watching.Add(1)
	go db.watch()
	go db.keepMarks()
	return db, nil
}

// skipChecksums makes a connection stop verifying the checksums of the pages that it reads; it still computes those
// of the pages that it writes. A connection needs it with go-sqlite3 0.37.0 if it makes a checkpoint after another
// connection has written: with verification on, the library calls a memory mapper that does not exist. It takes
// effect once the first page has been read.
const skipChecksums = "PRAGMA checksum_verification=OFF"

// fileLayer names the file layer through which SQLite opens a database, "" for the operating system's. Tests replace
// it to inject faults, such as a power cut.
var fileLayer = func(path string) string { return "" }

func open(path string, flags sqlite3.OpenFlag) (*sqlite3.Conn, error) {
	if layer := fileLayer(path); layer != "" {
		path = (&url.URL{Scheme: "file", OmitHost: true, Path: path, RawQuery: "vfs=" + layer}).String()
		flags |= sqlite3.OPEN_URI
	}
	c, err := sqlite3.OpenFlags(path, flags)
	if err != nil {
		return nil, err
	}
	_, err = c.Config(sqlite3.DBCONFIG_NO_CKPT_ON_CLOSE, true)
	if err = errors.Join(err, c.BusyTimeout(10*time.Second)); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// checkpointOnClose makes a connection copy the log into the database when it is closed as the last one. It must not
// be called for a connection whose work has failed: what that has read and written may differ from what is on disk,
// it may not know that pages have checksums, and go-sqlite3 may panic as without skipChecksums.
func checkpointOnClose(c *sqlite3.Conn) error {
	_, err := c.Config(sqlite3.DBCONFIG_NO_CKPT_ON_CLOSE, false)
	return err
}

// explain adds what an error of SQLite's means where its own text does not say it.
func explain(err error) error {
	if errors.Is(err, sqlite3.CORRUPT) || errors.Is(err, sqlite3.NOTADB) {
		return fmt.Errorf("the database is damaged: a page of it is not what it should be, or is missing: the file was cut, zeroed or overwritten; keep a copy of the folder and restore a backup (%w)", err)
	}
	if errors.Is(err, sqlite3.IOERR_DATA) {
		return fmt.Errorf("the database is damaged: a page does not match its checksum, the medium has changed data; keep a copy of the folder and restore a backup (%w)", err)
	}
	return err
}

func readMeta(c *sqlite3.Conn) (m Meta, err error) {
	found := false
	err = query(c, "SELECT value FROM meta WHERE name = 'ledger'", func(s *sqlite3.Stmt) error {
		found = true
		return json.Unmarshal(s.ColumnRawBlob(0), &m)
	})
	if err != nil {
		return m, err
	}
	verified, err := pragma(c, "checksum_verification")
	switch {
	case err != nil:
		return m, err
	case !found:
		return m, errors.New("the database is not a meterd ledger")
	case verified != "1":
		return m, errors.New("the database is damaged: its header says that pages have no checksums; keep a copy of the folder and restore a backup")
	}
	return m, m.checkFormat()
}

func (db *sqliteStore) Meta() Meta        { return db.meta }
func (db *sqliteStore) Shared() bool      { return false }
func (db *sqliteStore) Writers() []Writer { return []Writer{db} }

func (db *sqliteStore) OpenRecords() (keys, bytes int) {
	return int(db.index.held.Load()), int(db.index.bytes.Load())
}

// Pulse fails only if a write or a checkpoint has failed.
func (db *sqliteStore) Pulse(context.Context, Revision) (Pulse, error) {
	if err := db.failure.Load(); err != nil {
		return Pulse{}, *err
	}
	return Pulse{Last: metering.Instant(db.lastAt.Load())}, nil
}

func (db *sqliteStore) Close() error {
	var errs []error
	for range maxReaders {
		switch r, open := <-db.readers; {
		case !open:
			return errClosed
		case r != nil:
			errs = append(errs, r.c.Close())
		}
	}
	close(db.readers)
	close(db.wakeup)
	close(db.closing)
	db.watching.Wait()
	db.ended.Wait()
	db.marking.Wait()
	db.index.clear()
	if db.sound.Load() {
		if err := db.files.look(); err != nil {
			errs = append(errs, db.lost(err))
		}
	}
	alone := db.sound.Load() && db.unread() // otherwise the log is copied at the next start
	if alone {
		err := forgetServing(db.writer)
		if err == nil {
			err = checkpointOnClose(db.writer)
		} else { // the log stays, and the database still says that the log belongs to it
			err = db.lost(err)
		}
		errs = append(errs, err)
	}
	errs = append(errs, closeConn(db.checker), closeConn(db.writer), db.files.close(), db.endMarks(alone), db.folder.Close(), db.lock.Close())
	return errors.Join(errs...)
}

// closeConn closes a connection, if there is one, with the statements that it keeps.
func closeConn(c *sqlite3.Conn) error {
	if c == nil {
		return nil
	}
	for _, s := range slices.Collect(c.Stmts()) {
		s.Close() // its error is that of its last run, which was returned then
	}
	return c.Close()
}

// Know does nothing, because no other process changes the ledger.
func (db *sqliteStore) Know(Revision) {}

// NextCall returns the Seq after the last row's.
func (db *sqliteStore) Rehearse(func(*Tx) error) error { return nil }

func (db *sqliteStore) NextCall() int64 { return db.lastCall.Load() + 1 }

// Update returns a [CommitError] for anything that may have left in memory what is not on disk. Nothing is written
// after one.
func (db *sqliteStore) Update(f func(*Tx) error) (err error) {
	if err := db.failure.Load(); err != nil {
		return &CommitError{*err}
	}
	db.files.writing.Lock()
	defer db.files.writing.Unlock()
	if err := db.tx.begin.Exec(); err != nil {
		return db.lost(db.files.explain(err))
	}
	db.tx.last = nil
	if err := f(&Tx{tx: &db.tx}); err != nil {
		ended := db.writer.GetAutocommit() // SQLite has ended the transaction, because it could not read or write
		var rollback error
		if !ended {
			rollback = db.tx.rollback.Exec()
		}
		if ended || rollback != nil || db.tx.claimed { // the index may hold keys that are not stored
			return db.lost(db.files.explain(errors.Join(err, rollback)))
		}
		return err
	}
	if err := db.tx.commit.Exec(); err != nil {
		return db.lost(db.files.explain(err))
	}
	if err := db.files.committed(db.walPages.Load()); err != nil {
		return db.lost(err)
	}
	db.tx.claimed = false
	if last := db.tx.last; last != nil {
		db.lastCall.Store(last.Seq)
		db.lastAt.Store(int64(last.At))
		db.tx.durable = *last
	}
	if pages := db.walPages.Load(); pages > db.forced+walForeground {
		ran, _, err := db.copyLog(db.writer)
		if err != nil {
			return db.lost(err)
		}
		if ran {
			db.forced = pages
		}
	}
	db.toMark()
	if db.checkpointDue() {
		select {
		case db.wakeup <- struct{}{}:
		default:
		}
	}
	return nil
}

// lost notes that a write has failed, so that nothing more is written, not even when the store is closed.
func (db *sqliteStore) lost(err error) error {
	if db.sound.Store(false); db.failure.CompareAndSwap(nil, &err) {
		close(db.failed)
	}
	return &CommitError{err}
}

// checkpoints copies the write-ahead log into the database whenever the log has grown enough, so that commits need
// not.
func (db *sqliteStore) checkpoints() {
	defer db.ended.Done()
	for range db.wakeup {
		if db.sound.Load() && db.checkpointDue() {
			if err := db.checkpoint(); err != nil {
				_ = db.lost(fmt.Errorf("checkpoint: %w", err)) // the next Update returns this error
			}
		}
	}
}

// checkpointDue reports whether the write-ahead log has grown enough for a checkpoint.
func (db *sqliteStore) checkpointDue() bool {
	return db.walPages.Load() > db.checked.Load()+walBackground || db.unsaid.Load() > 0
}

// checkpoint copies the write-ahead log into the database, beside the writer, up to where a reader still needs the
// log. An error is as serious as a [CommitError].
func (db *sqliteStore) checkpoint() error {
	if err := db.files.look(); err != nil { // before the log's present pages are copied
		return err
	}
	pages := db.walPages.Load()
	ran, copied, err := db.copyLog(db.checker)
	if !ran {
		return err
	}
	if copied == db.copied.Load() { // a reader needs the rest, so trying again is useless until the log has grown
		db.checked.Store(pages)
	}
	db.copied.Store(copied)
	return err
}

// copyLog runs [checkpoint], unless another process reads the folder: then it copies nothing.
func (db *sqliteStore) copyLog(c *sqlite3.Conn) (ran bool, copied int64, err error) {
	if !db.copying.TryLock() {
		return false, 0, nil
	}
	defer db.copying.Unlock()
	if !db.unread() {
		return true, db.copied.Load(), nil
	}
	err = db.files.copied(func() (err error) {
		ran, copied, err = checkpoint(c)
		return err
	})
	if unsaid := db.unsaid.Load(); ran && err == nil && copied >= unsaid {
		db.unsaid.Store(0)
	}
	return ran, copied, errors.Join(err, lock(db.folder, unlock))
}

// unread reports whether no other process reads the folder. If so, it also keeps new readers waiting.
func (db *sqliteStore) unread() bool {
	return lock(db.folder, tryAlone) == nil
}

// checkpoint reports whether it ran, which it does not while another connection makes a checkpoint, and how many
// pages of the log have been copied by now.
func checkpoint(c *sqlite3.Conn) (ran bool, copied int64, err error) {
	err = query(c, "PRAGMA wal_checkpoint(PASSIVE)", func(s *sqlite3.Stmt) error {
		ran, copied = !s.ColumnBool(0), s.ColumnInt64(2)
		return nil
	})
	return ran, copied, err
}

// View runs f once. Eight views can run at once; more wait.
func (db *sqliteStore) View(ctx context.Context, f func(*Reader) error) (err error) {
	if err := ctx.Err(); err != nil {
		return err
	}
	var r *sqliteReader
	var open bool
	select {
	case r, open = <-db.readers:
	case <-ctx.Done():
		return ctx.Err()
	}
	if !open {
		return errClosed
	}
	sound := false // set again below; a failure, or a panic of f, may have left a transaction open
	defer func() {
		if r != nil && !sound {
			err = errors.Join(err, r.c.Close())
			r = nil
		}
		db.readers <- r
	}()
	if r == nil {
		if r, err = db.reader(); err != nil {
			return err
		}
	}
	r.c.SetInterrupt(ctx)
	sound, err = r.view(f)
	if err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

func (db *sqliteStore) reader() (*sqliteReader, error) {
	c, err := open(filepath.Join(db.dir, file), sqlite3.OPEN_READWRITE)
	if err != nil {
		return nil, err
	}
	if err := c.Exec("PRAGMA query_only=ON"); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return &sqliteReader{c: c}, nil
}

// view runs f in a transaction. sound reports whether the transaction began and ended as it should.
func (r *sqliteReader) view(f func(*Reader) error) (sound bool, err error) {
	if err := r.c.Exec("BEGIN"); err != nil {
		return false, err
	}
	err = f(&Reader{r})
	r.c.SetInterrupt(context.Background())
	end := r.c.Exec("ROLLBACK")
	if err == nil {
		err = end
	}
	return end == nil, err
}

// readSQLite runs f on the ledger in a folder, and changes nothing there. It never shows what is in memory only.
func readSQLite(dir string, f func(*Reader, Meta) error) (err error) {
	if info, err := os.Stat(dir); err == nil && !info.IsDir() {
		return readBackup(dir, f)
	}
	if err := present(dir); err != nil {
		return err
	}
	for tries := 1; ; tries++ {
		s, err := takeSnapshot(dir, isServed, nil)
		if err != nil {
			return err
		}
		err = s.sure()
		if err == nil && !s.served {
			err = s.sync()
		}
		if err == nil {
			err = s.run(f)
		}
		s.Close()
		if again := s.served && errors.Is(err, ErrIncomplete) && tries < 10; !again { // a server may just be opening the folder
			return err
		}
		time.Sleep(time.Duration(tries) * 10 * time.Millisecond)
	}
}

func unserved(string) bool { return false }

// inspect reads a folder that is to be opened, so that a folder that is refused has not been changed.
func inspect(dir string, o Options, forMoving bool) (meta Meta, err error) {
	s, err := takeSnapshot(dir, unserved, nil)
	if err != nil {
		return meta, err
	}
	defer s.Close()
	err = s.run(func(r *Reader, m Meta) error {
		meta = m
		if err := moving(r); err != nil && !forMoving {
			return err
		}
		if o.Admit != nil {
			return o.Admit(&meta)
		}
		return nil
	})
	return meta, err
}

// run runs f on the snapshot.
func (s *snapshot) run(f func(*Reader, Meta) error) error {
	c, err := s.open()
	if err != nil {
		return err
	}
	defer c.Close()
	meta, err := readMeta(c)
	if err != nil {
		return err
	}
	if err := s.complete(c); errors.Is(err, ErrIncomplete) && s.damaged != nil {
		*s.damaged = err
	} else if err != nil {
		return err
	}
	_, err = (&sqliteReader{c: c}).view(func(r *Reader) error {
		if err := asKnown(c); err != nil {
			return err
		}
		return f(r, meta)
	})
	return err
}

func pragma(c *sqlite3.Conn, name string) (value string, err error) {
	err = query(c, "PRAGMA "+name, func(s *sqlite3.Stmt) error {
		value = s.ColumnText(0)
		return nil
	})
	return value, err
}

// query runs a statement and calls row for each row that it returns. args are the parameters $1, $2 … in this order.
func query(c *sqlite3.Conn, sql string, row func(*sqlite3.Stmt) error, args ...any) error {
	s, _, err := c.Prepare(sql)
	if err != nil {
		return explain(err)
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
	return explain(s.Err())
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
