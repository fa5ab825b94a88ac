package store

import (
	"sync/atomic"

	"github.com/meterd/meterd/internal/metering"
)

// index is the embedded store's unique index: for each key of an open hour its quantity, so that a claim is decided
// without a read. Go's map grows in small steps; a table that is rehashed as a whole would stall the writer. Only
// the writer touches it.
type index struct {
	most   int           // keys and tokens at once; 0 for no bound
	loaded bool          // the tables have been read
	first  metering.Hour // the first that is held
	hours  map[metering.Hour]map[indexKey]int32
	marked map[metering.Hour]struct{} // every hour that has a row, whether held or not
	tokens map[metering.Hour]map[metering.TokenKey]ClientToken
	keys   int
	known  int          // tokens
	held   atomic.Int64 // keys and tokens, for others to see
}

// indexKey is a metering.Key packed into 12 bytes: exact, not a hash.
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

func newIndex(most int) *index {
	return &index{most: most, hours: map[metering.Hour]map[indexKey]int32{}, marked: map[metering.Hour]struct{}{},
		tokens: map[metering.Hour]map[metering.TokenKey]ClientToken{}}
}

// advance forgets the hours before first, and the tokens that were accepted in hours before tokens. It tells whether
// that has changed since the last time.
func (x *index) advance(first, tokens metering.Hour) bool {
	if first == x.first {
		return false
	}
	for h, keys := range x.hours {
		if h < first {
			x.keys -= len(keys)
			delete(x.hours, h)
		}
	}
	for h, known := range x.tokens {
		if h < tokens {
			x.known -= len(known)
			delete(x.tokens, h)
		}
	}
	x.first = first
	x.count()
	return true
}

func (x *index) count() { x.held.Store(int64(x.keys + x.known)) }

func (x *index) full() bool { return x.most > 0 && x.keys >= x.most }

// claim decides a row, and holds its key if it is granted. Rows with a ClientToken are not found by key.
func (x *index) claim(c *Claim) {
	if c.ClientToken != "" {
		c.State = Granted
		if x.most > 0 && x.keys+x.known >= x.most {
			c.State = NoRoom
		}
		return
	}
	keys := x.hours[c.Hour]
	key := pack(&c.Key)
	if quantity, ok := keys[key]; ok {
		c.State, c.Stored = Taken, quantity
		return
	}
	if x.full() {
		c.State = NoRoom
		return
	}
	if keys == nil {
		keys = map[indexKey]int32{}
		x.hours[c.Hour] = keys
	}
	keys[key] = c.Quantity
	x.keys++
	c.State = Granted
}

// add holds the key of a row that was read.
func (x *index) add(h metering.Hour, k *metering.Key, quantity int32) {
	keys := x.hours[h]
	if keys == nil {
		keys = map[indexKey]int32{}
		x.hours[h] = keys
	}
	before := len(keys)
	keys[pack(k)] = quantity
	x.keys += len(keys) - before
}

// token returns what is remembered of a ClientToken, or nil.
func (x *index) token(k metering.TokenKey) *ClientToken {
	for _, known := range x.tokens {
		if t, ok := known[k]; ok {
			return &t
		}
	}
	return nil
}

// putToken files a ClientToken under the hour in which it was accepted.
func (x *index) putToken(t *ClientToken) {
	h := t.At.Hour()
	known := x.tokens[h]
	if known == nil {
		known = map[metering.TokenKey]ClientToken{}
		x.tokens[h] = known
	}
	before := len(known)
	known[t.Key] = *t
	x.known += len(known) - before
}

// load fills the index from the tables.
func (x *index) load(r *sqliteReader, first, tokens metering.Hour) error {
	*x = index{most: x.most, first: first, hours: map[metering.Hour]map[indexKey]int32{}, marked: x.marked,
		tokens: map[metering.Hour]map[metering.TokenKey]ClientToken{}}
	from := int64(-1)
	err := r.marks(func(h metering.Hour, firstSeq int64) error {
		x.marked[h] = struct{}{}
		if h >= first && (from < 0 || firstSeq < from) {
			from = firstSeq
		}
		return nil
	})
	if err == nil && from >= 0 {
		err = r.keys(from, func(h metering.Hour, k *metering.Key, quantity int32) {
			if h >= first {
				x.add(h, k, quantity)
			}
		})
	}
	if err != nil {
		return err
	}
	err = (&Reader{r}).ClientTokens(func(t *ClientToken) error {
		if t.At.Hour() >= tokens {
			x.putToken(t)
		}
		return nil
	})
	x.loaded = err == nil
	x.count()
	return err
}
