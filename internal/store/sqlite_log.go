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

// SQLite's write-ahead log ends, for SQLite, at the first frame whose checksum does not hold, because a power cut leaves
// such a frame of a transaction whose sync had not returned. A bit that the medium has changed looks the same, and then
// SQLite would drop acknowledged transactions without a word. So the log is read here before SQLite reads it, and
// refused if what follows such a frame could not be there after a power cut:
//
//   - With synchronous=FULL a transaction is written after the one before has been synced, and none of its frames counts
//     before its last one, which says that the transaction commits. So a power cut loses, reorders or tears frames of
//     one transaction only, the last one, which has one committing frame. If there are two committing frames at or
//     behind the first bad frame, the first of them was synced, and so was everything before it.
//   - A frame whose checksum holds but whose salts are not those of the log means damage: it was written with other
//     salts.
//   - The log's index, which SQLite makes anew at each start, counts frames that were synced. After a kill the index is
//     unchanged, and after a power cut it is no newer than the log. So a log with fewer frames than the index counts is
//     damaged, or was cut short.
//   - SQLite ignores a log without a good header as a whole. A new header is written when the database has everything
//     that the frames behind it hold, and synced before these frames are written over. So the frames behind a bad header
//     must hold nothing that the database lacks.
//
// Frames of a transaction that did not commit, or that a power cut has damaged, stay behind the end of the log until
// they are written over. Those that are not written over would then follow frames of other transactions. Hence
// [settleLog] cuts them off before anything is written. It also writes the log again: after a kill, or after a sync that
// failed, the log's last frames may be in memory only, and the index counts them from now on.
//
// One damage goes unnoticed: if the last transaction before a power cut is damaged, it looks like one that was never
// acknowledged.
const (
	logHeader   = 32 // magic, version, page size, checkpoints, two salts, checksum of these
	frameHeader = 24 // page number, pages of the database if the frame commits, two salts, checksum of the first eight bytes, the page and all frames before
	pageSize    = 4096
	pageEnd     = pageSize - 8 // where the checksum of a page begins in the database; frames of the log do not hold it
	sector      = 512          // what a disk writes whole or not at all
)

var errLog = errors.New("the log is damaged")

// secure makes what a folder holds durable anew, before anything is built on it or answered from it. It may be in the
// page cache alone: after a failed sync the system takes pages for written that are not, and later syncs do not write
// them; or the folder may be a copy that nobody has synced. So secure writes the log once more, with the bytes that it
// has. The database needs only a sync: what was written to it and not synced is in the log, from where it is copied
// again.
func secure(path string) error {
	if err := settleLog(path); err != nil {
		return err
	}
	if _, err := syncPath(path); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(path))
}

// settleLog writes the log again up to the end of its last transaction, cuts it off there, and syncs it. Its caller
// holds the folder. A crash meanwhile may leave any sector as it was on disk before. That does no harm: only the last
// transaction can be missing on disk, because nothing is written after a sync that has failed.
func settleLog(path string) (err error) {
	end, err := checkLog(path)
	if errors.Is(err, errLog) { // a reader that was ending may just have removed log and index
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

// openLog opens a log for writing. Tests replace it to inject faults, as they do with fileLayer.
var openLog = func(path string) (plainFile, error) { return OpenOwn(path, os.O_RDWR) }

// logState is what a log holds, up to the end of its last transaction.
type logState struct {
	begun  bool // the log has a good header
	end    int64
	salts  [8]byte
	frames int64
	sum    checksum         // the checksum of the last frame, which covers all frames
	pages  uint32           // pages of the database at that end
	latest map[uint32]int64 // the latest frame of each page, counted from 0
}

// checkLog returns where the last transaction in the log ends.
func checkLog(path string) (end int64, err error) {
	index := readLogIndex(path) // before the log, which may be written meanwhile
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

// readLog reads a log that nobody is writing, and fails if the log is damaged.
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
		if err := l.checkIgnored(); err != nil { // SQLite may use the salts of these frames again
			return state, err
		}
		return state, index.check(path)
	}
	state = logState{begun: true, salts: l.salts, latest: map[uint32]int64{}}
	defer func() { state.end = frameAt(state.frames) }()
	var bad, commits int64 // bad: the first bad frame; commits: how many frames from there on commit
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
			// The first bad frame's header can be relied on if it lies in one sector up to the field that is read.
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

// errBegun says that a log began anew while it was being read.
var errBegun = errors.New("the log has begun anew")

// readServedLog reads a log that is being written, up to the last frame that its index counts. These frames are whole.
func readServedLog(path string, f *os.File, index logIndex) (state logState, err error) {
	l := log{r: bufio.NewReaderSize(io.NewSectionReader(f, 0, math.MaxInt64), 1<<18), path: path}
	sound, err := l.begin()
	switch {
	case err != nil:
		return state, err
	case index.frames == 0 && (!sound || index.salts == l.salts || index.follows(l.salts)):
		return state, nil // the database holds everything that was in the log
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
	before  [2]checksum // the next frame's checksum may continue either: the one that the last frame stores, or the one that it should store
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

// next reads the next frame, and reports whether there was a whole one.
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
func (l *log) commits() uint32     { return binary.BigEndian.Uint32(l.frame[4:]) } // pages of the database after the commit, or 0 if the frame does not commit
func (l *log) frameSalts() [8]byte { return [8]byte(l.frame[8:]) }

// checkIgnored fails if the frames behind a bad header hold something that the database does not.
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

// logIndex is what the log's index says of the log that it was made for: the log's salts, how many frames it had, and
// how many of these have been copied into the database.
type logIndex struct {
	salts          [8]byte
	frames, copied int64
	sum            checksum // of the last frame
}

// readLogIndex reads the index of the log beside the database path. It returns a zero logIndex if there is no index, or
// if the index is not whole.
func readLogIndex(path string) (x logIndex) {
	f, err := OpenOwn(path+"-shm", os.O_RDONLY)
	if err != nil {
		return x
	}
	defer f.Close()
	var b [100]byte // the header, twice, and how many frames have been copied
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

// follows reports whether the index belongs to the next log after the one with the given salts.
func (x logIndex) follows(salts [8]byte) bool {
	return binary.BigEndian.Uint32(x.salts[:]) == binary.BigEndian.Uint32(salts[:])+1
}

// check fails if the index shows that the log, which is missing, held frames that are not in the database.
func (x logIndex) check(path string) error {
	if x.frames > x.copied {
		return damagedLog(path, 0, "it had %d frames, and none is left", x.frames)
	}
	return nil
}

// checksum is a checksum of SQLite's log. Its words are little-endian, like the machine on which go-sqlite3 runs SQLite.
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

// frameAt returns the offset in the log where frame n, counted from 0, begins.
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
