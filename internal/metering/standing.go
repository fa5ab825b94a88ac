package metering

import (
	"math"
	"math/bits"
)

// standings hold, for each product and buyer's account id, what most records are judged by. In a large catalogue each
// look-up is a walk through memory, and the way from an account to its agreement takes six of them; a standing takes
// one. Standings only repeat what the catalogue holds elsewhere: a record that its standing does not admit is judged
// by the catalogue.
type standings struct {
	seed   uint64
	shards [64]shard // many, so that a shard that is being enlarged does not hold up the others
}

// shard is an open hash table with linear probing, at most three quarters full.
type shard struct {
	slots []standing
	used  int
}

// standing is one buyer's standing with one product. It takes a quarter of a cache line.
type standing struct {
	standingKey
	buyer uint32
	since Hour // when the newest agreement began, if it is open; otherwise never
}

const never = Hour(math.MaxInt32)

// standingKey is a product's id, not 0, and an account id of 40 bits. Products beyond 2^24 have no standings.
type standingKey uint64

func newStandingKey(product uint32, accountID uint64) standingKey {
	if product >= 1<<24 {
		return 0
	}
	return standingKey(product)<<40 | standingKey(accountID)
}

func (k standingKey) account() uint64 { return uint64(k & (1<<40 - 1)) }

// at returns the shard of a key and the first place to look at.
func (s *standings) at(k standingKey) (*shard, uint64) {
	high, low := bits.Mul64(uint64(k)^s.seed, 0x9e3779b97f4a7c15)
	h := high ^ low
	return &s.shards[h>>58], h
}

// touch makes the processor fetch a standing, so that several are on their way from memory at once.
func (s *standings) touch(k standingKey) uint32 {
	if shard, h := s.at(k); len(shard.slots) > 0 {
		return shard.slots[h&uint64(len(shard.slots)-1)].buyer
	}
	return 0
}

// get returns the standing of a key, or nil if there is none.
func (s *standings) get(k standingKey) *standing {
	if k == 0 {
		return nil
	}
	shard, h := s.at(k)
	if len(shard.slots) == 0 {
		return nil
	}
	for n := uint64(len(shard.slots)); ; h++ {
		switch slot := &shard.slots[h&(n-1)]; slot.standingKey {
		case k:
			return slot
		case 0:
			return nil
		}
	}
}

// put adds or replaces a standing.
func (s *standings) put(v standing) {
	if old := s.get(v.standingKey); old != nil {
		*old = v
		return
	}
	shard, h := s.at(v.standingKey)
	if 4*shard.used >= 3*len(shard.slots) {
		old := shard.slots
		shard.slots = make([]standing, max(8, 2*len(old)))
		for _, v := range old {
			if v.standingKey != 0 {
				_, h := s.at(v.standingKey)
				shard.put(h, v)
			}
		}
	}
	shard.put(h, v)
	shard.used++
}

func (s *shard) put(h uint64, v standing) {
	n := uint64(len(s.slots))
	for s.slots[h&(n-1)].standingKey != 0 {
		h++
	}
	s.slots[h&(n-1)] = v
}

// subscribed reports whether usage stamped ts is surely taken at the time now. When it returns false, the agreements
// must be looked at.
func (s *standing) subscribed(ts, now Instant) bool {
	return now.Hour() > s.since && ts.Hour() >= s.since
}

// stand enters the standing that a buyer's latest agreement for a product gives.
func (c *Catalog) stand(agreement uint32) {
	a := c.Agreement(agreement)
	buyer := c.Account(a.Buyer)
	if buyer == nil {
		return
	}
	if key := newStandingKey(a.Product, buyer.AccountID); key != 0 {
		since := a.Start.Hour()
		if a.EndingAt != 0 || a.EndedAt != 0 {
			since = never
		}
		c.standings.put(standing{key, buyer.ID, since})
	}
}

func (c *Catalog) isSuspended(account uint32) bool {
	return c.suspended[account/64]>>(account%64)&1 != 0
}

// known returns, for each record of a product without concurrent agreements, the key of its standing, or 0 if the
// record does not name its buyer by account id. It has the processor fetch all of them before the first one is
// needed.
func (c *Catalog) known(in *Batch, product *Product) (keys [MaxUsageRecords]standingKey) {
	if product == nil {
		return keys
	}
	touched := uint32(0)
	for i := range in.Records {
		if r := &in.Records[i]; r.CustomerIdentifier == "" {
			if n, ok := ParseAccountID(r.CustomerAWSAccountID); ok {
				keys[i] = newStandingKey(product.ID, n)
				touched |= c.standings.touch(keys[i])
			}
		}
	}
	if touched == 0 { // uses touched, so that the compiler cannot leave the calls of touch out
		clear(keys[:])
	}
	return keys
}
