package server

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// failures bounds how many requests of an address are told why they could not be authenticated, so that nobody
// learns from the answers at full speed. Requests that verify never come here: callers behind one address do not
// pay for each other.
type failures struct {
	mu      sync.Mutex
	buckets map[string]*rate.Limiter // :: address → what is left; only addresses that have failed
}

const (
	failuresPerSecond = 50
	failuresBurst     = 500
	failuresAddresses = 10_000 // beyond that many the table is begun anew
)

// allow counts a failure, and tells whether it may be answered with its reason.
func (f *failures) allow(address string, now time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	b := f.buckets[address]
	if b == nil {
		if f.buckets == nil || len(f.buckets) >= failuresAddresses {
			f.buckets = map[string]*rate.Limiter{}
		}
		b = rate.NewLimiter(failuresPerSecond, failuresBurst)
		f.buckets[address] = b
	}
	return b.AllowN(now, 1)
}
