package store

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
)

// SQLite takes the first frame of its write-ahead log whose checksum does not hold for the end of the log, for that is
// what a power cut leaves of a transaction whose sync had not returned. A bit that the medium has changed looks the
// same, and then transactions that were acknowledged would vanish without a word. So the log is read here before
// SQLite reads it, and refused if what follows such a frame could not be there after a power cut:
//
//   - With synchronous=FULL a transaction is written when the one before has been synced, and no frame of it counts
//     before its last one, which says that it commits. So a power cut loses, reorders or tears frames of one
//     transaction, the last, of which only one frame says so. Two of those at or behind the first bad frame mean that the
//     first was synced, and so everything before it.
//   - A frame that is right but for its salts was written with other ones.
//   - The log's index, which SQLite makes anew at each start, counts frames that were synced. After a kill it is what it
//     was, and after a power cut no newer than the log. So a log that ends before is damaged, or was cut short.
//   - A log without a good header is ignored as a whole. The header is written when the database has everything that the
//     frames behind it hold, and synced before they are written over. So they must hold nothing else.
//
// Frames of a transaction that was begun, and of one that a power cut has damaged, stay behind the end until they are
// written over, which would leave them behind others that they do not belong to. Hence [settleLog] cuts them off, before
// anything is written. And it writes the log again: after a kill, or after a sync that failed, its last frames may be in
// memory only, and are counted in the index from now on.
//
// What remains is damage in the last transaction before a power cut: it looks like one that was never acknowledged.
const (
	logHeader   = 32 // magic, version, page size, checkpoints, two salts, checksum of these
	frameHeader = 24 // page, pages of the database if it commits, two salts, checksum of the first eight bytes and the page and of all frames before
	pageSize    = 4096
	pageEnd     = pageSize - 8 // where the checksum of a page begins, which its frames do not have
	sector      = 512          // what a disk writes whole or not at all
)

var errLog = errors.New("the log is damaged")

// secure makes what a folder holds durable anew, before anything is built on it or said of it. It may be in the page cache
// alone: where a sync has failed the system takes pages for written that are not, and later syncs do not come back to
// them; and the folder may be a copy that nobody has synced. So the log is written once more, with the bytes that it has.
// The database needs only a sync: what was written to it and not synced is in the log, from where it is copied again.
func secure(path string) error {
	if err := settleLog(path); err != nil {
		return err
	}
	if _, err := syncPath(path); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(path))
}

// settleLog writes the log again up to the end of its last transaction, and ends it there, on disk. Its caller holds the
// folder. While this goes on any sector may be the one that was on disk before, which does no harm: only the last
// transaction can be missing there, for nothing is written after a sync that has failed.
func settleLog(path string) (err error) {
	end, err := checkLog(path)
	if errors.Is(err, errLog) { // a reader that ends may just have been taking log and index away
		end, err = checkLog(path)
	}
	if err != nil {
		return err
	}
	f, err := openLog(path + "-wal")
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	chunk := make([]byte, min(end, 1<<20))
	for at := int64(0); at < end; at += int64(len(chunk)) {
		chunk = chunk[:min(end-at, int64(len(chunk)))]
		if _, err := f.ReadAt(chunk, at); err != nil {
			return err
		}
		if _, err := f.WriteAt(chunk, at); err != nil {
			return err
		}
	}
	info, err := f.Stat()
	if err == nil && info.Size() > end {
		err = f.Truncate(end)
	}
	if err != nil {
		return err
	}
	return f.Sync()
}

// plainFile is a file that is written without SQLite.
type plainFile interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Stat() (fs.FileInfo, error)
	Truncate(size int64) error
	Sync() error
}

// openLog opens a log to write to it. It is a seam for faults, as fileLayer is.
var openLog = func(path string) (plainFile, error) { return OpenOwn(path, os.O_RDWR) }

// logState is what a log holds, up to the end of its last transaction.
type logState struct {
	begun  bool // it has a good header
	end    int64
	salts  [8]byte
	frames int64
	sum    checksum         // of the last frame, and so of all
	pages  uint32           // of the database then
	latest map[uint32]int64 // the last frame of each page, from 0
}

// checkLog returns where the last transaction in the log ends.
func checkLog(path string) (end int64, err error) {
	index := readLogIndex(path) // first, for the log may be written meanwhile
	f, err := OpenOwn(path+"-wal", os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, index.check(path)
	}
	if err != nil {
		return 0, err
	}
	defer f.Close()
	state, err := readLog(path, f, index)
	return state.end, err
}

// readLog reads a log that nobody writes, and fails if it is damaged.
func readLog(path string, f *os.File, index logIndex) (state logState, err error) {
	l := log{r: bufio.NewReaderSize(io.NewSectionReader(f, 0, math.MaxInt64), 1<<18), path: path}
	sound, err := l.begin()
	if err != nil {
		return state, err
	}
	if !sound {
		info, err := f.Stat()
		switch {
		case err != nil:
			return state, err
		case info.Size() < logHeader:
			state.end = info.Size()
			return state, index.check(path)
		}
		state.end = logHeader
		if err := l.checkIgnored(); err != nil { // SQLite may use its salts again
			return state, err
		}
		return state, index.check(path)
	}
	state = logState{begun: true, salts: l.salts, latest: map[uint32]int64{}}
	defer func() { state.end = frameAt(state.frames) }()
	var bad, commits int64 // the first bad frame; those that commit from there on
	written := map[uint32]int64{}
	for {
		more, err := l.next()
		if err != nil {
			return state, err
		}
		if !more {
			break
		}
		ours := l.frameSalts() == l.salts
		switch {
		case bad == 0 && l.follows && ours:
			written[l.page()] = l.n - 1
			if l.commits() > 0 {
				state.frames, state.sum, state.pages = l.n, l.before[0], l.commits()
				maps.Copy(state.latest, written)
				clear(written)
			}
		case bad == 0 && l.follows:
			return state, damagedLog(path, state.frames, "frame %d has other salts than the log", l.n)
		default:
			// What the first bad frame's header says is what was written, unless a sector ends where it is read.
			first := bad == 0 && (frameAt(l.n-1)+8)%sector != 0
			if ours && l.commits() > 0 && (l.follows || first) {
				commits++
			}
			if bad == 0 {
				bad = l.n
			}
		}
	}
	switch {
	case commits > 1:
		return state, damagedLog(path, state.frames, "frame %d is not as it was written, but transactions follow that were begun after its own was on disk", bad)
	case index.salts == l.salts && index.frames > state.frames:
		return state, damagedLog(path, state.frames, "it had %d frames, of which %d are left", index.frames, state.frames)
	}
	return state, nil
}

// errBegun says that a log began anew while it was read.
var errBegun = errors.New("the log has begun anew")

// readServedLog reads of a log that is being written what its index counts, which is whole.
func readServedLog(path string, f *os.File, index logIndex) (state logState, err error) {
	l := log{r: bufio.NewReaderSize(io.NewSectionReader(f, 0, math.MaxInt64), 1<<18), path: path}
	sound, err := l.begin()
	switch {
	case err != nil:
		return state, err
	case index.frames == 0 && (!sound || index.salts == l.salts || index.follows(l.salts)):
		return state, nil // the database has it all
	case !sound || l.salts != index.salts:
		return state, errBegun
	}
	state = logState{begun: true, salts: l.salts, frames: index.frames, sum: index.sum, end: frameAt(index.frames), latest: map[uint32]int64{}}
	for l.n < index.frames {
		more, err := l.next()
		switch {
		case err != nil:
			return state, err
		case !more || !l.follows || l.frameSalts() != l.salts:
			return state, errBegun
		}
		state.latest[l.page()] = l.n - 1
	}
	state.pages = l.commits()
	return state, nil
}

// log is a log that is being read.
type log struct {
	path    string
	r       *bufio.Reader
	salts   [8]byte
	n       int64 // frames read
	frame   [frameHeader + pageSize]byte
	follows bool        // the frame's checksum holds
	before  [2]checksum // either may be what the next frame's continues: the one stored last, and the one that should be
}

// begin reads the header and reports whether it is good.
func (l *log) begin() (sound bool, err error) {
	b := l.frame[:logHeader]
	if _, err := io.ReadFull(l.r, b); err != nil {
		return false, notEnd(err)
	}
	l.salts = [8]byte(b[16:])
	l.before = [2]checksum{stored(b[24:]), checksum{}.add(b[:24])}
	return binary.BigEndian.Uint32(b) == 0x377f0682 && binary.BigEndian.Uint32(b[4:]) == 3_007_000 && binary.BigEndian.Uint32(b[8:]) == pageSize && l.before[0] == l.before[1], nil
}

// next reads a frame, if there is a whole one more.
func (l *log) next() (more bool, err error) {
	if _, err := io.ReadFull(l.r, l.frame[:]); err != nil {
		return false, notEnd(err)
	}
	l.n++
	got, sum := stored(l.frame[16:]), func(s checksum) checksum { return s.add(l.frame[:8]).add(l.frame[frameHeader:]) }
	should := sum(l.before[0])
	l.follows = got == should || l.before[0] != l.before[1] && got == sum(l.before[1])
	l.before = [2]checksum{got, should}
	return true, nil
}

func (l *log) page() uint32        { return binary.BigEndian.Uint32(l.frame[:]) }
func (l *log) commits() uint32     { return binary.BigEndian.Uint32(l.frame[4:]) } // pages of the database then, or 0
func (l *log) frameSalts() [8]byte { return [8]byte(l.frame[8:]) }

// checkIgnored fails if the frames behind a bad header hold what the database does not.
func (l *log) checkIgnored() error {
	written, latest := map[uint32][pageEnd]byte{}, map[uint32][pageEnd]byte{}
	for {
		more, err := l.next()
		if err != nil {
			return err
		}
		if l.n == 1 {
			l.salts = l.frameSalts()
		}
		if !more || l.frameSalts() != l.salts || !l.follows && l.n > 1 {
			break
		}
		written[l.page()] = [pageEnd]byte(l.frame[frameHeader:])
		if l.commits() > 0 {
			maps.Copy(latest, written)
			clear(written)
		}
	}
	f, err := os.Open(l.path)
	if err != nil {
		return err
	}
	defer f.Close()
	for page, content := range latest {
		var b [pageEnd]byte
		if _, err := f.ReadAt(b[:], int64(page-1)*pageSize); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if b != content {
			return damagedLog(l.path, 0, "its header is not as it was written, and page %d is not in the database yet", page)
		}
	}
	return nil
}

// logIndex is what the index says of the log that it was made for: which one, how many frames it had, and how many of
// these are in the database.
type logIndex struct {
	salts          [8]byte
	frames, copied int64
	sum            checksum // of the last frame
}

// readLogIndex returns nothing if there is no index, or none that is whole.
func readLogIndex(path string) (x logIndex) {
	f, err := OpenOwn(path+"-shm", os.O_RDONLY)
	if err != nil {
		return x
	}
	defer f.Close()
	var b [100]byte // the header twice, and how many frames have been copied
	if _, err := f.ReadAt(b[:], 0); err != nil {
		return x
	}
	one, two := b[:48], b[48:96]
	words := binary.LittleEndian
	if !bytes.Equal(one, two) || words.Uint32(one) != 3_007_000 || (checksum{}).add(one[:40]) != (checksum{words.Uint32(one[40:]), words.Uint32(one[44:])}) {
		return x
	}
	return logIndex{[8]byte(one[32:]), int64(words.Uint32(one[16:])), int64(words.Uint32(b[96:])), checksum{words.Uint32(one[24:]), words.Uint32(one[28:])}}
}

// follows reports whether the index is that of the next log after the one with these salts.
func (x logIndex) follows(salts [8]byte) bool {
	return binary.BigEndian.Uint32(x.salts[:]) == binary.BigEndian.Uint32(salts[:])+1
}

// check fails if the log must not be missing.
func (x logIndex) check(path string) error {
	if x.frames > x.copied {
		return damagedLog(path, 0, "it had %d frames, and none is left", x.frames)
	}
	return nil
}

// checksum is that of SQLite's log, of words in the order of the machine that go-sqlite3 has SQLite run on.
type checksum [2]uint32

func (s checksum) add(b []byte) checksum {
	for ; len(b) >= 8; b = b[8:] {
		s[0] += binary.LittleEndian.Uint32(b) + s[1]
		s[1] += binary.LittleEndian.Uint32(b[4:]) + s[0]
	}
	return s
}

func stored(b []byte) checksum {
	return checksum{binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:])}
}

// frameAt is where a frame begins, counted from 0, and the one before ends.
func frameAt(n int64) int64 { return logHeader + n*(frameHeader+pageSize) }

func notEnd(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil
	}
	return err
}

func damagedLog(path string, committed int64, format string, args ...any) error {
	return fmt.Errorf("%w: %s-wal: %s; acknowledged records may be lost: keep a copy of the folder and restore a backup; who has none can give up what comes behind the first %d bytes, which are whole, with meterd accept-loss", errLog, path, fmt.Sprintf(format, args...), frameAt(committed))
}
