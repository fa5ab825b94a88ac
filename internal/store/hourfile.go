package store

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	stdbits "math/bits"
	"os"

	"github.com/meterd/meterd/internal/metering"
)

// hourFile is a table on disk of the keys of one hour, ordered by their hashes and cut into buckets of some 4 KB,
// whose ends are known in memory. Finding a key that is in the file takes one read. For a key that is not, such as
// that of a new record that comes late, a filter of one byte a key nearly always saves the read. The file can be made
// again from the rows of usage at any time, so it may be lost. But what it says must be true, so all of it has
// checksums.
type hourFile struct {
	hourHead
	path    string
	file    *os.File
	buckets []bucket
	filter  filter
	entries int64 // where the entries begin
	space   []byte
}

// hourHead is the beginning of the file. The buckets' ends and the filter follow, the checksum of all that, and the
// entries.
type hourHead struct {
	Magic   [8]byte
	Hour    metering.Hour
	Bits    uint32   // how many first bits of a hash give its bucket
	Lines   uint32   // of the filter
	Keys    int64    // how many there are
	Through int64    // the Seq of a call: the file has all keys of the hour from this call and the calls before it
	Request [16]byte // the request id of that call, by which a file of another ledger, or of another past of this one, is told apart
}

// bucket says where a bucket ends, counted in entries, and has the checksum of its bytes.
type bucket struct{ End, Sum uint32 }

const bucketKeys = 1 << 8 // in a bucket on average, or half as many

var (
	hourMagic = [8]byte{'m', 'e', 't', 'e', 'r', 'd', 'K', '1'}
	checksums = crc32.MakeTable(crc32.Castagnoli)
)

// damagedFile says that an hourFile is not what was written.
type damagedFile struct {
	path string
	err  error
}

func (e *damagedFile) Error() string { return fmt.Sprintf("%s is damaged: %v", e.path, e.err) }
func (e *damagedFile) Unwrap() error { return e.err }

// openHourFile opens a file. One that is not whole is an error.
func openHourFile(path string) (*hourFile, error) {
	f, err := OpenOwn(path, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	h := &hourFile{path: path, file: f}
	if err := h.readHead(); err != nil {
		h.close(false)
		return nil, &damagedFile{path, err}
	}
	return h, nil
}

func (h *hourFile) readHead() error {
	sum := crc32.New(checksums)
	r := io.TeeReader(bufio.NewReader(h.file), sum)
	if err := binary.Read(r, binary.LittleEndian, &h.hourHead); err != nil {
		return err
	}
	info, err := h.file.Stat()
	switch { // the size bounds what is allocated for the rest
	case err != nil:
		return err
	case h.Magic != hourMagic || h.Bits > 32 || info.Size() != h.size()+h.Keys*int64(entrySize):
		return errors.New("it does not begin as it should")
	}
	h.buckets = make([]bucket, 1<<h.Bits)
	if err := binary.Read(r, binary.LittleEndian, h.buckets); err != nil {
		return err
	}
	h.filter = newFilter(h.Lines)
	if _, err := io.ReadFull(r, h.filter.bytes); err != nil {
		return err
	}
	want, got := sum.Sum32(), uint32(0)
	if err := binary.Read(r, binary.LittleEndian, &got); err != nil {
		return err
	}
	if got != want {
		return errors.New("its checksum does not hold")
	}
	h.entries = h.size()
	return nil
}

// size returns how many bytes stand before the entries.
func (h *hourHead) size() int64 {
	return int64(binary.Size(h)) + int64(binary.Size(bucket{}))<<h.Bits + int64(h.Lines)*lineSize + 4
}

// bucket reads a bucket.
func (h *hourFile) bucket(n uint64) ([]byte, error) {
	from := int64(0)
	if n > 0 {
		from = int64(h.buckets[n-1].End)
	}
	size := (int64(h.buckets[n].End) - from) * int64(entrySize)
	if int64(cap(h.space)) < size {
		h.space = make([]byte, size+size/2)
	}
	b := h.space[:size]
	if _, err := h.file.ReadAt(b, h.entries+from*int64(entrySize)); err != nil {
		return nil, &damagedFile{h.path, err}
	}
	if crc32.Checksum(b, checksums) != h.buckets[n].Sum {
		return nil, &damagedFile{h.path, errors.New("a checksum does not hold")}
	}
	return b, nil
}

// find returns the quantity of a key.
func (h *hourFile) find(hash uint64, k indexKey) (quantity int32, ok bool, err error) {
	if !h.filter.mayHave(hash) {
		return 0, false, nil
	}
	b, err := h.bucket(hash >> (64 - h.Bits))
	for ; len(b) > 0; b = b[entrySize:] {
		if e := parseEntry(b); e.key == k {
			return e.quantity, true, nil
		}
	}
	return 0, false, err
}

func parseEntry(b []byte) entry {
	u := binary.LittleEndian.Uint32
	return entry{indexKey{u(b), u(b[4:]), u(b[8:])}, int32(u(b[12:]))}
}

func appendEntry(b []byte, e entry) []byte {
	for _, v := range [...]uint32{e.key.kind, e.key.a, e.key.b, uint32(e.quantity)} {
		b = binary.LittleEndian.AppendUint32(b, v)
	}
	return b
}

// close closes the file, and removes it if remove is set.
func (h *hourFile) close(remove bool) {
	h.filter.release()
	_ = h.file.Close() // the file was only read
	if remove {
		_ = RemoveOwn(h.path) // if this fails the file will be overwritten or ignored
	}
}

// writeHourFile makes a file of the keys of a table and of an older file, if there is one. The new file takes the old
// one's place if their names are the same. It ends early when stopped returns true.
func writeHourFile(path string, head hourHead, t *keyTable, old *hourFile, stopped func() bool) (written *hourFile, err error) {
	most := t.keys
	if old != nil {
		most += int(old.Keys)
	}
	head.Magic, head.Keys = hourMagic, 0
	head.Bits, head.Lines = uint32(stdbits.Len(uint(most/bucketKeys))), uint32(most/lineSize+1)
	temp := path + ".new"
	if err := RemoveOwn(temp); err != nil { // the beginning of a file that was not finished
		return nil, err
	}
	f, err := CreateOwn(temp)
	if err != nil {
		return nil, err
	}
	h := &hourFile{hourHead: head, path: path, file: f, buckets: make([]bucket, 1<<head.Bits), filter: newFilter(head.Lines), entries: head.size()}
	defer func() {
		if err != nil {
			h.close(false)
			err = errors.Join(err, os.Remove(temp))
		}
	}()
	if _, err := f.Seek(h.entries, io.SeekStart); err != nil {
		return nil, err
	}
	w := &hourWriter{hourFile: h, out: bufio.NewWriterSize(f, 1<<20)}
	if err := merge(t, old, stopped, w.put); err != nil {
		return nil, err
	}
	if err := w.finish(); err != nil {
		return nil, err
	}
	if err := f.Sync(); err != nil {
		return nil, err
	}
	return h, os.Rename(temp, path)
}

var errEnded = errors.New("the store is being closed")

// merge calls put with each entry of a table and of a file, if there is one, once and in the order of their hashes.
func merge(t *keyTable, old *hourFile, stopped func() bool, put func(hashed) error) error {
	var waiting []hashed // of old
	next := uint64(0)
	fill := func() error {
		for len(waiting) == 0 && old != nil && next < uint64(len(old.buckets)) {
			b, err := old.bucket(next)
			if err != nil {
				return err
			}
			for next++; len(b) > 0; b = b[entrySize:] {
				e := parseEntry(b)
				waiting = append(waiting, hashed{t.of(e.key), e})
			}
		}
		return nil
	}
	before := func(hash uint64) error {
		for {
			if err := fill(); err != nil || len(waiting) == 0 || waiting[0].hash > hash {
				return err
			}
			if err := put(waiting[0]); err != nil {
				return err
			}
			waiting = waiting[1:]
		}
	}
	err := t.sorted(func(entries []hashed) error {
		if stopped() {
			return errEnded
		}
		for _, e := range entries {
			if err := before(e.hash); err != nil {
				return err
			}
			if err := put(e); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return before(1<<64 - 1)
}

// hourWriter cuts entries into buckets.
type hourWriter struct {
	*hourFile
	out    *bufio.Writer
	at     uint64 // the bucket that is being filled
	filled []byte
	last   hashed
}

func (w *hourWriter) put(e hashed) error {
	if w.Keys > 0 && e.hash == w.last.hash && e.key == w.last.key {
		return nil // it is in both the table and the file
	}
	for n := e.hash >> (64 - w.Bits); w.at < n; {
		if err := w.end(); err != nil {
			return err
		}
	}
	w.filter.add(e.hash)
	w.filled = appendEntry(w.filled, e.entry)
	w.last = e
	w.Keys++
	return nil
}

// end ends a bucket.
func (w *hourWriter) end() error {
	w.buckets[w.at] = bucket{uint32(w.Keys), crc32.Checksum(w.filled, checksums)}
	_, err := w.out.Write(w.filled)
	w.filled = w.filled[:0]
	w.at++
	return err
}

// finish ends the last buckets and writes the beginning of the file.
func (w *hourWriter) finish() error {
	for w.at < uint64(len(w.buckets)) {
		if err := w.end(); err != nil {
			return err
		}
	}
	if err := w.out.Flush(); err != nil {
		return err
	}
	b, err := binary.Append(nil, binary.LittleEndian, &w.hourHead)
	if err == nil {
		b, err = binary.Append(b, binary.LittleEndian, w.buckets)
	}
	b = append(b, w.filter.bytes...)
	if err == nil {
		b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, checksums))
		_, err = w.file.WriteAt(b, 0)
	}
	return err
}

// filter is a Bloom filter: for most keys that are not in the file it says so. A key's bits are all in one cache
// line.
type filter struct {
	bytes []byte // outside Go's heap
	lines uint64
}

const lineSize = 64 // bytes of a line, and on average the keys for each line

func newFilter(lines uint32) filter { return filter{allocate(int(lines) * lineSize), uint64(lines)} }

func (f *filter) release() {
	free(f.bytes)
	*f = filter{}
}

// bits returns the line of a hash, and a number that says in nine bits each where the hash's six bits are in the line.
func (f *filter) bits(hash uint64) (line []byte, bits uint64) {
	n, _ := stdbits.Mul64(hash, f.lines)
	return f.bytes[n*lineSize:][:lineSize], hash * 0x9e3779b97f4a7c15 >> 10
}

func (f *filter) add(hash uint64) {
	line, bits := f.bits(hash)
	for range 6 {
		line[bits>>3&63] |= 1 << (bits & 7)
		bits >>= 9
	}
}

func (f *filter) mayHave(hash uint64) bool {
	if f.lines == 0 {
		return false
	}
	line, bits := f.bits(hash)
	for range 6 {
		if line[bits>>3&63]>>(bits&7)&1 == 0 {
			return false
		}
		bits >>= 9
	}
	return true
}
