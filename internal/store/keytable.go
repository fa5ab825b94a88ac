package store

import (
	"cmp"
	"encoding/binary"
	"math/bits"
	"slices"
	"unsafe"

	"github.com/meterd/meterd/internal/metering"
)

// indexKey is a metering.Key packed into 12 bytes. It is exact, not a hash, and never zero for a row.
type indexKey struct {
	kind uint32 // dimension, region and which of the three subjects
	a, b uint32
}

func pack(k *metering.Key) indexKey {
	kind := uint32(k.Dimension)<<16 | uint32(k.Region)<<8
	switch {
	case k.Agreement != 0:
		return indexKey{kind | 1, k.Agreement, 0}
	case k.Workload != 0:
		return indexKey{kind | 2, k.Product, k.Workload}
	}
	return indexKey{kind, k.Product, k.Buyer}
}

// hashing spreads keys by the ledger's secret. So nobody can choose keys that collide, and the hashes are the same
// after a restart.
type hashing [2]uint64

func newHashing(secret []byte) hashing {
	var b [16]byte
	copy(b[:], secret)
	return hashing{binary.LittleEndian.Uint64(b[:]), binary.LittleEndian.Uint64(b[8:])}
}

func (s hashing) of(k indexKey) uint64 {
	high, low := bits.Mul64((uint64(k.kind)<<32|uint64(k.a))^s[0], uint64(k.b)^s[1])
	high, low = bits.Mul64(high^low, 0x9e3779b97f4a7c15)
	return high ^ low
}

// entry is a key and its quantity.
type entry struct {
	key      indexKey
	quantity int32
}

const entrySize = int(unsafe.Sizeof(entry{}))

// keyTable holds the keys of an hour. It grows by splitting one segment of 64 KB at a time, so that no insertion
// stalls the writer, and takes 18 to 37 bytes a key. Its memory is outside Go's heap: the collector does not scan it,
// it does not make the heap grow, and release gives it back at once.
type keyTable struct {
	hashing
	depth     int        // of the directory
	directory []*segment // by the first depth bits of the hash
	keys      int
	segments  int
	slabs     [][]byte // the memory of the segments
	free      []byte   // the unused end of the last slab
	spare     *segment // for split
}

// segment is a part of a table: an open hash table with linear probing.
type segment struct {
	depth int32 // how many first bits of the hash its keys have in common
	used  int32
	_     int64
	slots [segmentSlots]entry
}

const (
	segmentSlots = 4095 // with its head a segment has 64 KB
	segmentMost  = segmentSlots * 7 / 8
	slabSize     = 16 * int(unsafe.Sizeof(segment{}))
)

func newKeyTable(h hashing) *keyTable {
	t := &keyTable{hashing: h}
	t.directory = []*segment{t.segment(0)}
	return t
}

// segment returns an empty segment.
func (t *keyTable) segment(depth int32) *segment {
	const size = int(unsafe.Sizeof(segment{}))
	if len(t.free) < size {
		slab := allocate(slabSize)
		t.slabs, t.free = append(t.slabs, slab), slab
	}
	s := (*segment)(unsafe.Pointer(&t.free[0]))
	t.free = t.free[size:]
	t.segments++
	s.depth = depth
	return s
}

// bytes is how much memory the table takes.
func (t *keyTable) bytes() int { return t.segments * int(unsafe.Sizeof(segment{})) }

// release gives the memory back. The table must not be used any more.
func (t *keyTable) release() {
	for _, slab := range t.slabs {
		free(slab)
	}
	*t = keyTable{}
}

// at returns the segment of a hash and the first slot to look at.
func (t *keyTable) at(hash uint64) (*segment, uint32) {
	return t.directory[hash>>(64-t.depth)], uint32(hash & 0xffffffff * segmentSlots >> 32)
}

// touch has the processor fetch the slot of a hash. When many slots are touched before the first is read, their
// fetches from memory overlap.
func (t *keyTable) touch(hash uint64) uint32 {
	s, i := t.at(hash)
	return s.slots[i].key.kind
}

// find returns the quantity of a key.
func (t *keyTable) find(hash uint64, k indexKey) (quantity int32, ok bool) {
	for s, i := t.at(hash); ; {
		e := &s.slots[i]
		switch {
		case e.key == k:
			return e.quantity, true
		case e.key == indexKey{}:
			return 0, false
		}
		if i++; i == segmentSlots {
			i = 0
		}
	}
}

// add adds a key that is not in the table yet.
func (t *keyTable) add(hash uint64, e entry) {
	s, i := t.at(hash)
	for s.used >= segmentMost {
		t.split(hash)
		s, i = t.at(hash)
	}
	s.put(i, e)
	t.keys++
}

func (s *segment) put(i uint32, e entry) {
	for s.slots[i].key != (indexKey{}) {
		if i++; i == segmentSlots {
			i = 0
		}
	}
	s.slots[i] = e
	s.used++
}

// split splits the segment of the hash into two.
func (t *keyTable) split(hash uint64) {
	old, _ := t.at(hash)
	if int(old.depth) == t.depth {
		twice := make([]*segment, 0, 2*len(t.directory))
		for _, s := range t.directory {
			twice = append(twice, s, s)
		}
		t.directory = twice
		t.depth++
	}
	if t.spare == nil {
		t.spare = t.segment(0)
	}
	*t.spare = *old
	span := t.depth - int(old.depth) // 1<<span places of the directory are old's, and one gets the second half of them
	first := int(hash >> (64 - old.depth) << span)
	old.depth++
	old.used = 0
	clear(old.slots[:])
	one := t.segment(old.depth)
	for i := range 1 << (span - 1) {
		t.directory[first+1<<(span-1)+i] = one
	}
	for i := range t.spare.slots {
		if e := &t.spare.slots[i]; e.key != (indexKey{}) {
			s, at := t.at(t.of(e.key))
			s.put(at, *e)
		}
	}
}

// sorted calls f with the entries of one segment after the other, ordered by their hashes. The slice is reused.
func (t *keyTable) sorted(f func([]hashed) error) error {
	var space []hashed
	for i := 0; i < len(t.directory); i += 1 << (t.depth - int(t.directory[i].depth)) {
		space = space[:0]
		for _, e := range &t.directory[i].slots {
			if e.key != (indexKey{}) {
				space = append(space, hashed{t.of(e.key), e})
			}
		}
		slices.SortFunc(space, func(a, b hashed) int { return cmp.Compare(a.hash, b.hash) })
		if err := f(space); err != nil {
			return err
		}
	}
	return nil
}

// hashed is an entry with its hash.
type hashed struct {
	hash uint64
	entry
}
