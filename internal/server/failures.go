package server

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// failures bounds how often an address may fail to authenticate, so that keys cannot be guessed at full speed.
// Requests that verify cost nothing here.
type failures struct {
	mu      sync.Mutex
	buckets map[string]*rate.Limiter // :: address → what is left; only addresses that have failed
}

const (
	failuresPerSecond = 20
	failuresBurst     = 200
	failuresAddresses = 10_000 // beyond that many the table is begun anew
)

func (f *failures) allow(address string, now time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	b := f.buckets[address]
	return b == nil || b.TokensAt(now) >= 1
}

func (f *failures) count(address string, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.buckets == nil || len(f.buckets) >= failuresAddresses {
		f.buckets = map[string]*rate.Limiter{}
	}
	b := f.buckets[address]
	if b == nil {
		b = rate.NewLimiter(failuresPerSecond, failuresBurst)
		f.buckets[address] = b
	}
	b.AllowN(now, 1)
}
