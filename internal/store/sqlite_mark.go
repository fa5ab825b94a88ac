package store

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/ncruces/go-sqlite3"
)

// If a database's log is missing, SQLite takes the database as it is; if the log is an older one, SQLite takes what that
// log holds. Either way the end of the ledger would be lost unnoticed. So a ledger notes how far it had come:
//
//   - While a ledger is served, its database says so, in the database's own file: meta has a value that names the mark.
//     The value is written there before anything is served, and closing removes it once the log is copied. So if the
//     value is there a log must be there too, and must not be empty: since then it has only been written over.
//   - The mark, a small file beside the log, says how far the ledger had come: up to which call, and up to which frame
//     of which log, with the checksum of all frames up to there. It is written within a second after a commit, beside
//     the writer, and only says what is on disk. A ledger that ends before its mark has lost something.
//
// A loss behind the mark can go unnoticed: that of commits in the last second before a kill, if the log's index, which
// counts the frames exactly, is lost too.
const (
	servedValue = "served"
	markSuffix  = "-mark"
	markSlot    = pageSize // the file has two places, this far apart, that are written in turn: if a write tears one, the other is left
	markSize    = sector   // the size of one mark, so that it is written whole or not at all
)

// markInterval is the least time between two marks; a variable only for tests.
var markInterval = time.Second

var (
	// ErrIncomplete says that the end of a ledger is missing: acknowledged records, as far as is known.
	ErrIncomplete = errors.New("the end of the ledger is missing")
	// ErrUnsure says that a write has failed, so that what can be read of the ledger may be in memory only. Opening the
	// ledger writes it to disk anew.
	ErrUnsure = errors.New("a write to the ledger has failed")
)

// unmarkedError is an [ErrIncomplete] for a ledger that may be complete, but whose mark is missing.
type unmarkedError struct{ error }

func (*unmarkedError) Is(target error) bool { return target == ErrIncomplete }

// logMark is how far a ledger has come.
type logMark struct {
	ID     string    `json:"id"`               // the value by which the database names the mark
	Number int64     `json:"number"`           // counts marks
	Call   int64     `json:"call"`             // the last call that was committed
	Salts  string    `json:"salts"`            // of the log, hexadecimal
	Frames int64     `json:"frames"`           // how many frames of that log
	Sum    checksum  `json:"sum"`              // the checksum of these frames
	At     time.Time `json:"at"`               // when it was written, by the wall clock; nothing depends on it
	Failed string    `json:"failed,omitempty"` // why nothing was written after it
	Boot   string    `json:"boot,omitempty"`   // during which run of the machine the write failed, as bootID
}

// bytes returns the mark as it stands in the file: a line that a human can read, and zeros.
func (m *logMark) bytes() ([]byte, error) {
	line, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	line = fmt.Appendf(nil, "%08x %s\n", crc32.ChecksumIEEE(line), line)
	if len(line) > markSize {
		return nil, fmt.Errorf("a mark of %d bytes does not fit", len(line))
	}
	return append(line, make([]byte, markSize-len(line))...), nil
}

// readMark returns the latest mark in the file beside the database path, or nil if there is none.
func readMark(path string) (latest *logMark, err error) {
	f, err := OpenOwn(path+markSuffix, os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	for slot := range int64(2) {
		b := make([]byte, markSize)
		if _, err := f.ReadAt(b, slot*markSlot); err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		sum, line, _ := strings.Cut(strings.TrimRight(string(b), "\n\x00"), " ")
		var m logMark
		if sum != fmt.Sprintf("%08x", crc32.ChecksumIEEE([]byte(line))) || json.Unmarshal([]byte(line), &m) != nil {
			continue
		}
		if latest == nil || m.Number > latest.Number {
			latest = &m
		}
	}
	return latest, nil
}

// marker writes the marks of a ledger that is served.
type marker struct {
	mu   sync.Mutex
	f    plainFile
	path string // of the database
	last logMark
}

// openMark opens a file for writing marks, and makes it if it is missing. Tests replace it to inject faults, as they do
// with fileLayer.
var openMark = func(path string) (plainFile, error) {
	f, err := CreateOwn(path)
	if errors.Is(err, fs.ErrExist) {
		if err := tend(path); err != nil {
			return nil, err
		}
		f, err = OpenOwn(path, os.O_RDWR)
	}
	return f, err
}

// beginMarks writes the first mark of a ledger that is going to be served. call is the ledger's last call.
func beginMarks(path, id string, call int64) (m *marker, err error) {
	last, err := readMark(path)
	if err != nil {
		return nil, err
	}
	m = &marker{path: path}
	if last != nil {
		m.last.Number = last.Number
	}
	if m.f, err = openMark(path + markSuffix); err != nil {
		return nil, err
	}
	m.last.ID = id
	if err = m.write(call); err == nil {
		err = SyncDir(filepath.Dir(path))
	}
	if err != nil {
		return nil, errors.Join(err, m.f.Close())
	}
	return m, nil
}

// write writes a mark: the ledger has come up to the given call, and up to the last frame that the log's index counts.
// Both must be on disk.
func (m *marker) write(call int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	index := readLogIndex(m.path)
	next := logMark{ID: m.last.ID, Number: m.last.Number + 1, Call: call, Salts: hex.EncodeToString(index.salts[:]), Frames: index.frames, Sum: index.sum, At: time.Now().UTC().Truncate(time.Millisecond)}
	if err := m.put(&next); err != nil {
		return err
	}
	return m.f.Sync()
}

func (m *marker) put(next *logMark) error {
	b, err := next.bytes()
	if err == nil {
		_, err = m.f.WriteAt(b, next.Number%2*markSlot)
	}
	if err == nil {
		m.last = *next
	}
	return err
}

// keep checks that the file with the mark's name is the one that marks are written to, and that it holds the last mark.
// If not, keep opens or makes the file again, writes the mark anew and returns true. It fails if the name is that of
// something else than a file of the ledger's.
func (m *marker) keep() (again bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	path := m.path + markSuffix
	named, err := os.Lstat(path)
	if open, bad := m.f.Stat(); err == nil && bad == nil && os.SameFile(named, open) {
		want, err := m.last.bytes()
		if err != nil {
			return false, err
		}
		got := make([]byte, markSize)
		if err := readAt(m.f, got, m.last.Number%2*markSlot); err == nil && bytes.Equal(got, want) {
			return false, nil
		}
	}
	f, err := openMark(path)
	if err != nil {
		return false, err
	}
	before := m.f
	m.f = f
	next := m.last
	next.Number++
	if err = m.put(&next); err == nil {
		err = m.f.Sync()
	}
	if err == nil {
		err = SyncDir(filepath.Dir(path))
	}
	return true, errors.Join(err, before.Close())
}

// fail notes in the mark that a write has failed, as a warning to readers, who may see what is in memory only. So the
// note need not be on disk.
func (m *marker) fail(why error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	next := m.last
	next.Number++
	next.Failed, next.Boot = strings.ToValidUTF8(fmt.Sprintf("%.100s", why), ""), bootID()
	_ = m.put(&next) // an error is ignored: the disk has failed already
}

// bootID names the present run of the machine, from its start on; "" where the system has no such name.
func bootID() string {
	b, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(b))
}

// serve writes into the database that it is served, and writes the mark that belongs to it, before anything is served.
func (db *sqliteStore) serve() error {
	id, err := servedID(db.writer)
	if err != nil {
		return err
	}
	known := id != ""
	if !known {
		id = rand.Text()
	}
	if db.marks, err = beginMarks(filepath.Join(db.dir, file), id, db.lastCall.Load()); err != nil || known {
		return err
	}
	err = query(db.writer, "INSERT INTO meta (name, value) VALUES ($1, $2)", func(*sqlite3.Stmt) error { return nil }, servedValue, []byte(id))
	if err != nil {
		return err
	}
	db.unsaid.Store(db.walPages.Load())
	return db.checkpoint()
}

func servedID(c *sqlite3.Conn) (id string, err error) {
	err = query(c, "SELECT value FROM meta WHERE name = $1", func(s *sqlite3.Stmt) error {
		id = string(s.ColumnRawBlob(0))
		return nil
	}, servedValue)
	return id, err
}

// forgetServing removes from a database that it is served. The database is being closed, or is a copy.
func forgetServing(c *sqlite3.Conn) error {
	return query(c, "DELETE FROM meta WHERE name = $1", func(*sqlite3.Stmt) error { return nil }, servedValue)
}

// keepMarks writes marks after commits, no more often than markInterval allows, until the store closes or fails.
func (db *sqliteStore) keepMarks() {
	defer db.marking.Done()
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		select {
		case <-db.unmarked:
		case <-db.failed:
		case <-db.closing:
			return
		}
		select {
		case <-pause.C:
		case <-db.failed:
			db.marks.fail(*db.failure.Load())
			return
		case <-db.closing:
			return
		}
		if err := db.marks.write(db.lastCall.Load()); err != nil {
			_ = db.lost(fmt.Errorf("mark: %w", err)) // the next Update returns the error
			return
		}
		pause.Reset(markInterval)
	}
}

// toMark asks for a mark.
func (db *sqliteStore) toMark() {
	select {
	case db.unmarked <- struct{}{}:
	default:
	}
}

// endMarks writes the last mark, or removes the mark if the ledger has been closed and needs none.
func (db *sqliteStore) endMarks(closed bool) error {
	if db.marks == nil {
		return nil
	}
	var err error
	path := filepath.Join(db.dir, file)
	switch failure := db.failure.Load(); {
	case failure != nil:
		if db.marks.last.Failed == "" {
			db.marks.fail(*failure)
		}
	case !closed:
		if db.sound.Load() {
			err = db.marks.write(db.lastCall.Load())
		}
	default:
		if _, there := os.Lstat(path + "-wal"); errors.Is(there, fs.ErrNotExist) {
			err = errors.Join(os.Remove(path+markSuffix), SyncDir(db.dir))
		}
	}
	return errors.Join(err, db.marks.f.Close())
}

// complete fails if the snapshot ends before its mark, or if the log or the mark of a ledger that was served is missing.
func (s *snapshot) complete(c *sqlite3.Conn) error {
	id, err := servedID(c)
	if err != nil || id == "" {
		return err
	}
	r := &Reader{&sqliteReader{c: c}}
	last, err := r.number("SELECT coalesce(max(seq), 0) FROM call")
	if err != nil {
		return err
	}
	missing := func(format string, args ...any) error {
		what := fmt.Sprintf(format, args...)
		if s.mark != nil && s.mark.ID == id && s.mark.Call > last {
			what += fmt.Sprintf("; at least the calls after %d up to %d, the last one known at %s, are missing", last, s.mark.Call, s.mark.At.Format(time.RFC3339))
		}
		return fmt.Errorf("%w: %s, and the ledger was served and not closed. Put back ledger.db%s and ledger.db%s as they were, or restore a backup and have clients send again; who has neither can give up what is missing with meterd accept-loss", ErrIncomplete, what, "-wal", markSuffix)
	}
	m, path := s.mark, s.path
	unmarked := func(format string, args ...any) error {
		known := "whether the end of the log is missing cannot be told without it"
		if x := s.counted; s.state.frames > 0 && x.salts == s.state.salts && x.frames == s.state.frames && x.sum == s.state.sum {
			known = fmt.Sprintf("only the mark is missing: the log has all %d frames that its index, ledger.db-shm, counts", s.state.frames)
		}
		return &unmarkedError{fmt.Errorf("%s, which says how far the ledger had come, and the ledger was served and not closed; %s. Put back the file as it was. If it is lost, meterd accept-loss serves without it what the log and the database hold, up to call %d, and takes nothing of that away", fmt.Sprintf(format, args...), known, last)}
	}
	switch {
	case s.log == nil:
		return missing("there is no %s-wal", path)
	case s.logSize < logHeader:
		return missing("%s-wal has %d bytes", path, s.logSize)
	case m == nil:
		if _, err := os.Lstat(path + markSuffix); errors.Is(err, fs.ErrNotExist) {
			return unmarked("there is no %s%s", path, markSuffix)
		}
		return unmarked("%s%s is damaged", path, markSuffix)
	case m.ID != id:
		return unmarked("%s%s is that of another ledger, or of another time", path, markSuffix)
	case m.Call > last:
		return missing("what there is ends at call %d", last)
	case m.Frames > 0 && m.Salts == hex.EncodeToString(s.state.salts[:]):
		if s.state.frames < m.Frames {
			return missing("%s-wal had at least %d frames, of which %d are left", path, m.Frames, s.state.frames)
		}
		var b [8]byte
		if _, err := s.log.ReadAt(b[:], frameAt(m.Frames-1)+16); err != nil {
			return err
		}
		if stored(b[:]) != m.Sum && !s.served { // a server may have begun the log anew
			return missing("frame %d of %s-wal is not the one that it had", m.Frames, path)
		}
	}
	return nil
}

// sure fails if what is read may be in memory only: a write has failed since the machine was started, and nobody has
// opened the ledger for writing since.
func (s *snapshot) sure() error {
	if s.served || s.mark == nil || s.mark.Failed == "" || s.mark.Boot != bootID() {
		return nil
	}
	return fmt.Errorf("%w, and what can be read since may be in memory only (%s); start meterd serve, which writes it anew, or read it after the machine has been restarted", ErrUnsure, s.mark.Failed)
}
