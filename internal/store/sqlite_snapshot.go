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

// Reading a folder must change nothing in it. SQLite cannot read like that: it makes a log and an index where there are
// none, brings the index up to date, and may delete both. So SQLite is shown a snapshot, a database that does not
// change: each page has its latest content in the log or, if the log does not hold the page, in the database's file.
//
// The snapshot does not change because nobody copies pages of the log into the database meanwhile. A reader holds a
// shared lock on the folder, and a checkpoint needs that lock exclusively; SQLite's own locks keep out servers of
// earlier versions. The log may grow behind the frames that are read. It may begin anew only if the database holds all
// of it already, and then the salts of its frames show that.

// SQLite's locks, as offsets of bytes. readLock, in the index, keeps pages of the log from being copied. A lock on any
// of the sharedLocks bytes from sharedLock on, in the database, keeps the log from being copied and deleted when its
// last user closes it.
const (
	readLock    = 123
	sharedLock  = 0x40000002
	sharedLocks = 510
)

// snapshot is one state of a folder that is read.
type snapshot struct {
	name    string // the name by which SQLite opens the snapshot
	path    string // of the database
	folder  *os.File
	db, log *os.File // log is nil if there is none
	index   *os.File // nil if nobody serves
	served  bool     // another process or this one serves the folder
	mark    *logMark // how far the ledger had come; nil if there is no mark
	state   logState
	counted logIndex // what the log's index says of the log
	logSize int64
	sums    bool   // pages have checksums
	frame   []byte // the last frame of the log that was read
	damaged *error // if not nil, what is missing or damaged at the end is noted here instead of failing
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

// takeSnapshot takes a snapshot of a folder, and fails if the ledger in it is not whole. served reports whether another
// process may write there. If damaged is not nil, damage or loss at the end is noted there and is no failure.
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
	// No checksum shows that a database was cut short, so its length is checked. While the log holds pages, the file may
	// have any length.
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

// checkFiles fails if SQLite would delete the log, or would copy into the database a journal that is not meterd's.
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

// read reads the log. again reports whether read must be called again, because a server has come or the log has begun
// anew meanwhile. A server that is starting may not have made the log's index yet.
func (s *snapshot) read(dir string, starting bool, served func(dir string) bool) (again bool, err error) {
	if s.log != nil {
		s.log.Close()
	}
	s.served = served(dir)
	if s.served && s.index == nil {
		if s.index, err = OpenOwn(s.path+"-shm", os.O_RDONLY); err == nil {
			err = lockShared(s.index, readLock, 1)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // the file is missing while a server opens or closes the ledger
			return false, err
		}
	}
	if s.mark, err = readMark(s.path); err != nil { // before the log, which may grow meanwhile
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

// isServed reports whether a process holds the folder's lock. Nobody holds it if its file does not exist.
func isServed(dir string) bool {
	f, err := OpenOwn(filepath.Join(dir, lockFile), os.O_RDONLY)
	if err != nil {
		return false
	}
	defer f.Close()
	return lock(f, tryShared) != nil
}

// lockFolder opens a folder, and locks it for reading; a process that copies pages of the log holds the lock
// exclusively. The lock is on the folder itself, because a lock file would have to be made first.
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

// open returns a connection that reads the snapshot.
func (s *snapshot) open() (*sqlite3.Conn, error) {
	return sqlite3.OpenFlags("file:"+s.name+"?vfs="+snapshotLayer(), sqlite3.OPEN_READONLY|sqlite3.OPEN_URI)
}

// sync makes what was read durable, because nobody must be told of records that only memory holds.
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

// ReadAt reads bytes of the database, from the log where it holds their pages.
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

// logged returns a page from the log, with its checksum, or nil if the page is to be read from the database.
func (s *snapshot) logged(page uint32) ([]byte, error) {
	n, ok := s.state.latest[page]
	if !ok {
		return nil, nil
	}
	content := s.frame[frameHeader:]
	// The header is read last, because a writer that writes over the frame writes the header first.
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
		return nil, nil // the log has begun anew, so the database holds all of the old one
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
