package server

import (
	"hash/maphash"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// failures bounds how many requests are told why they could not be authenticated, of an address and for an access key,
// so that nobody learns from the answers at full speed, from however many places. Requests that verify never come
// here: callers behind one address do not pay for each other, nor does a key's owner for those who guess at it.
//
// Names share a fixed number of places, by a hash that nobody outside can foresee. So an attacker with any number of
// addresses or key ids takes no more memory, and begins nobody's count anew.
type failures struct {
	seed      maphash.Seed
	mu        sync.Mutex
	addresses failureTable
	keys      failureTable
}

// failureTable is place → what is left; only places where something has failed.
type failureTable map[uint64]*rate.Limiter

const (
	failuresPerSecond = 50
	failuresBurst     = 500
	failuresPlaces    = 1 << 14 // of each table, about 2 MB
)

func newFailures() *failures {
	return &failures{seed: maphash.MakeSeed(), addresses: failureTable{}, keys: failureTable{}}
}

// allow counts a failure, and reports whether it may be answered with its reason. The access key id is the one that the
// request claims, "" if it has none.
func (f *failures) allow(address, accessKeyID string, now time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	ok := f.addresses.allow(maphash.String(f.seed, network(address)), now)
	if accessKeyID != "" {
		ok = f.keys.allow(maphash.String(f.seed, accessKeyID), now) && ok
	}
	return ok
}

func (t failureTable) allow(hash uint64, now time.Time) bool {
	place := hash % failuresPlaces
	if t[place] == nil {
		t[place] = rate.NewLimiter(failuresPerSecond, failuresBurst)
	}
	return t[place].AllowN(now, 1)
}

// network is what one host has to itself: an address of IPv4, the first half of one of IPv6.
func network(address string) string {
	a, err := netip.ParseAddr(address)
	if err != nil {
		return address
	}
	a = a.Unmap()
	if a.Is4() {
		return a.String()
	}
	prefix, _ := a.WithZone("").Prefix(64) // never longer than the address
	return prefix.String()
}
