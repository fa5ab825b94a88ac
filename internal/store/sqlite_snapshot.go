package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ncruces/go-sqlite3"
	"github.com/ncruces/go-sqlite3/vfs"
)

// Who only reads a folder changes nothing in it. SQLite cannot do that: it makes a log and an index where there are
// none, brings the index up to date, and may delete them. So SQLite is shown a database that does not change: the pages
// of the database's file, and instead of those that have a later content in the log, that content.
//
// It stays what it is because nobody copies pages of the log into the database meanwhile. For that a reader has a lock on
// the folder, which checkpoints need alone; servers of versions before are kept from it with SQLite's own locks. The
// log goes on to grow behind what is read. It may begin anew only if all of it is in the database already, and then the
// salts of its frames say so.

// SQLite's locks, as bytes of the index and of the database: who has the first keeps pages of the log from being copied,
// who has one of the others keeps the log from being copied and deleted when its last user closes it.
const (
	readLock    = 123
	sharedLock  = 0x40000002
	sharedLocks = 510
)

// snapshot is one state of a folder that is read.
type snapshot struct {
	name    string // by which SQLite opens it
	path    string // of the database
	folder  *os.File
	db, log *os.File // log is nil if there is none
	index   *os.File // nil if nobody serves
	served  bool     // by another process, or by this one
	mark    *logMark // how far it had come; nil if there is none
	state   logState
	counted logIndex // what the log's index says of it
	logSize int64
	sums    bool   // pages have checksums
	frame   []byte // the last one that was read
	damaged *error // where not nil, what is missing or damaged at the end is put here, rather than failing for it
}

var (
	snapshots     sync.Map // *snapshot by name
	snapshotCount atomic.Int64
	snapshotLayer = sync.OnceValue(func() string {
		const name = "meterd-snapshot"
		vfs.Register(name, snapshotVFS{})
		return name
	})
)

// takeSnapshot reads what is in a folder, and fails if that is not whole.
// served reports whether another process may write there. If damaged is not nil a log that is not whole is no failure.
func takeSnapshot(dir string, served func(dir string) bool, damaged *error) (_ *snapshot, err error) {
	s := &snapshot{damaged: damaged, name: fmt.Sprint("snapshot-", snapshotCount.Add(1)), path: filepath.Join(dir, file), frame: make([]byte, frameHeader+pageSize)}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	if s.folder, err = lockFolder(dir); err != nil {
		return nil, err
	}
	if s.db, err = OpenOwn(s.path, toSync); err != nil {
		return nil, err
	}
	if err := lockShared(s.db, sharedLock, sharedLocks); err != nil {
		return nil, err
	}
	if err := s.checkFiles(); err != nil {
		return nil, err
	}
	for tries := 0; ; tries++ {
		again, err := s.read(dir, tries > 10, served)
		if errors.Is(err, errLog) && damaged != nil {
			*damaged, err = err, nil
		}
		if err == nil {
			break
		}
		if !again || tries == 200 {
			return nil, err
		}
		time.Sleep(time.Duration(tries) * time.Millisecond)
	}
	header := make([]byte, 100)
	if _, err := s.ReadAt(header, 0); err != nil {
		return nil, err
	}
	if !bytes.HasPrefix(header, []byte("SQLite format 3\x00")) {
		return nil, fmt.Errorf("the database is damaged: %s does not begin as a ledger's database does: it was zeroed or overwritten, or is another file; nothing was changed: keep a copy of the folder, and restore a backup", s.path)
	}
	s.sums = header[20] == pageSize-pageEnd
	// A database that was cut short has no checksum that tells. While the log holds pages it may have any length.
	if s.state.frames == 0 {
		info, err := s.db.Stat()
		if err != nil {
			return nil, err
		}
		if pages := int64(binary.BigEndian.Uint32(header[28:])); info.Size() != pages*pageSize {
			return nil, fmt.Errorf("the database is damaged: %s has %d bytes, but should have %d pages of %d; keep a copy of the folder and restore a backup", s.path, info.Size(), pages, pageSize)
		}
	}
	snapshots.Store(s.name, s)
	return s, nil
}

// checkFiles fails if SQLite would delete the log, or would write to the database what it does not belong to.
func (s *snapshot) checkFiles() error {
	info, err := s.db.Stat()
	if err != nil {
		return err
	}
	if info.Size() < pageSize {
		return fmt.Errorf("the database is damaged: %s has %d bytes, which is less than a page; nothing was changed: keep a copy of the folder, and restore a backup", s.path, info.Size())
	}
	if journal, err := os.Lstat(s.path + "-journal"); err == nil && journal.Size() > 0 {
		return fmt.Errorf("there is %s-journal, which is not meterd's: SQLite would undo with it what is in the database; if it belongs to another database, move it away", s.path)
	}
	return nil
}

// read reads the log. It is to be done again if somebody begins to serve the folder, or the log begins anew. A server
// that is starting may not have made the log's index yet.
func (s *snapshot) read(dir string, starting bool, served func(dir string) bool) (again bool, err error) {
	if s.log != nil {
		s.log.Close()
	}
	s.served = served(dir)
	if s.served && s.index == nil {
		if s.index, err = OpenOwn(s.path+"-shm", os.O_RDONLY); err == nil {
			err = lockShared(s.index, readLock, 1)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // else it is being opened, or closed
			return false, err
		}
	}
	if s.mark, err = readMark(s.path); err != nil { // before the log, which goes on
		return false, err
	}
	index := readLogIndex(s.path)
	s.counted = index
	if s.log, err = OpenOwn(s.path+"-wal", toSync); errors.Is(err, fs.ErrNotExist) {
		s.log, s.state = nil, logState{}
		return s.served, index.check(s.path)
	}
	if err != nil {
		return false, err
	}
	info, err := s.log.Stat()
	if err != nil {
		return false, err
	}
	s.logSize = info.Size()
	if s.served && index.salts != [8]byte{} && !starting {
		s.state, err = readServedLog(s.path, s.log, index)
		return errors.Is(err, errBegun), err
	}
	s.state, err = readLog(s.path, s.log, index)
	return s.served || served(dir), err
}

// isServed reports whether a process has the folder's lock. Without the lock's file nobody has.
func isServed(dir string) bool {
	f, err := OpenOwn(filepath.Join(dir, lockFile), os.O_RDONLY)
	if err != nil {
		return false
	}
	defer f.Close()
	return lock(f, tryShared) != nil
}

// lockFolder opens a folder, and locks it for reading; who copies pages of the log has the lock alone. It is another one
// than that of the lock's file, for a file would have to be made.
func lockFolder(dir string) (*os.File, error) {
	d, err := openToLock(dir)
	if err != nil {
		return nil, err
	}
	if err := lock(d, lockBeside); err != nil {
		d.Close()
		return nil, fmt.Errorf("locking the folder %s: %w", dir, err)
	}
	return d, nil
}

func (s *snapshot) Close() {
	snapshots.Delete(s.name)
	for _, f := range []*os.File{s.log, s.index, s.db, s.folder} {
		if f != nil {
			f.Close()
		}
	}
}

// open returns a connection that sees the snapshot.
func (s *snapshot) open() (*sqlite3.Conn, error) {
	return sqlite3.OpenFlags("file:"+s.name+"?vfs="+snapshotLayer(), sqlite3.OPEN_READONLY|sqlite3.OPEN_URI)
}

// sync makes what was read durable, for nobody is to be told of what only memory holds.
func (s *snapshot) sync() error {
	for _, f := range []*os.File{s.log, s.db} {
		if f != nil {
			if err := syncFile(f); err != nil {
				return err
			}
		}
	}
	return nil
}

// ReadAt reads bytes of the database as the log has them.
func (s *snapshot) ReadAt(b []byte, off int64) (n int, err error) {
	for n < len(b) {
		page, at := (off+int64(n))/pageSize, (off+int64(n))%pageSize
		part := b[n:min(len(b), n+int(pageSize-at))]
		found, err := s.logged(uint32(page + 1))
		if err != nil {
			return n, err
		}
		if found != nil {
			n += copy(part, found[at:])
			continue
		}
		read, err := s.db.ReadAt(part, off+int64(n))
		if n += read; err != nil {
			return n, err
		}
	}
	return n, nil
}

// logged returns a page as the log has it, with its checksum, or nil if it is to be read in the database.
func (s *snapshot) logged(page uint32) ([]byte, error) {
	n, ok := s.state.latest[page]
	if !ok {
		return nil, nil
	}
	content := s.frame[frameHeader:]
	// The header last: who writes over the frame writes it first.
	for _, part := range []struct {
		b  []byte
		at int64
	}{{content, frameAt(n) + frameHeader}, {s.frame[:frameHeader], frameAt(n)}} {
		if _, err := s.log.ReadAt(part.b, part.at); err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		} else if err != nil {
			return nil, nil
		}
	}
	if [8]byte(s.frame[8:]) != s.state.salts || binary.BigEndian.Uint32(s.frame) != page {
		return nil, nil // the log has begun anew, so the database has it all
	}
	if s.sums {
		sum := checksum{}.add(content[:pageEnd])
		binary.LittleEndian.PutUint32(content[pageEnd:], sum[0])
		binary.LittleEndian.PutUint32(content[pageEnd+4:], sum[1])
	}
	return content, nil
}

// snapshotVFS is the file layer that SQLite reads snapshots through.
type snapshotVFS struct{}

func (snapshotVFS) Open(name string, flags vfs.OpenFlag) (vfs.File, vfs.OpenFlag, error) {
	if flags&vfs.OPEN_MAIN_DB == 0 { // a temporary file
		return vfs.Find("").Open("", flags)
	}
	s, ok := snapshots.Load(name)
	if !ok {
		return nil, flags, sqlite3.CANTOPEN
	}
	return snapshotFile{s.(*snapshot)}, flags | vfs.OPEN_READONLY, nil
}

func (snapshotVFS) Delete(string, bool) error                         { return sqlite3.IOERR_DELETE }
func (snapshotVFS) Access(string, vfs.AccessFlag) (bool, error)       { return false, nil }
func (snapshotVFS) FullPathname(name string) (path string, err error) { return name, nil }

// snapshotFile is a snapshot as SQLite sees it. It never changes, so nothing is ever locked.
type snapshotFile struct{ s *snapshot }

func (f snapshotFile) ReadAt(b []byte, off int64) (int, error)       { return f.s.ReadAt(b, off) }
func (snapshotFile) Close() error                                    { return nil }
func (snapshotFile) WriteAt([]byte, int64) (int, error)              { return 0, sqlite3.READONLY }
func (snapshotFile) Truncate(int64) error                            { return sqlite3.READONLY }
func (snapshotFile) Sync(vfs.SyncFlag) error                         { return nil }
func (snapshotFile) Lock(vfs.LockLevel) error                        { return nil }
func (snapshotFile) Unlock(vfs.LockLevel) error                      { return nil }
func (snapshotFile) CheckReservedLock() (bool, error)                { return false, nil }
func (snapshotFile) SectorSize() int                                 { return 0 }
func (snapshotFile) DeviceCharacteristics() vfs.DeviceCharacteristic { return vfs.IOCAP_IMMUTABLE }

func (f snapshotFile) Size() (int64, error) {
	if f.s.state.frames > 0 {
		return int64(f.s.state.pages) * pageSize, nil
	}
	info, err := f.s.db.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}
