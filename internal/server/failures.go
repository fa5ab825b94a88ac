package server

import (
	"hash/maphash"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// failures bounds how many requests per address, and how many per access key, are told why they could not be
// authenticated, so that nobody can learn from these answers at full speed, from however many places. Requests whose
// signature is right are never counted: callers behind one address do not pay for each other, and a key's owner does
// not pay for those who guess its secret.
//
// Addresses and keys share a fixed number of places, by a hash that nobody outside can foresee. So an attacker with
// any number of addresses or key ids takes no more memory, and cannot reset anybody's count.
type failures struct {
	seed      maphash.Seed
	mu        sync.Mutex
	addresses failureTable
	keys      failureTable
}

// failureTable maps a place to what is left of its bound. It holds only places where a request has failed.
type failureTable map[uint64]*rate.Limiter

const (
	failuresPerSecond = 50
	failuresBurst     = 500
	failuresPlaces    = 1 << 14 // of each table, about 2 MB
)

func newFailures() *failures {
	return &failures{seed: maphash.MakeSeed(), addresses: failureTable{}, keys: failureTable{}}
}

// allow counts a failure, and reports whether the answer may give its reason. accessKeyID is the one that the request
// claims, "" if it claims none.
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

// network returns the part of an address that one host has to itself: all of an IPv4 address, the first half of an
// IPv6 address.
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
