package ledger

import (
	"sync"
	"time"

	"github.com/meterd/meterd/internal/metering"
)

// limits counts the calls of each account in each region and of each operation. Calls that their user or role has no
// permission for are counted apart, for each user or role. Only callers whose signature was verified are counted, so
// an attacker cannot make the map grow.
type limits struct {
	now    func() time.Time
	mu     sync.Mutex
	recent map[limitKey]*recent
}

type limitKey struct {
	account   uint32
	region    metering.Region
	op        metering.Operation
	principal uint32 // set for calls without permission, which are counted by it alone, so that they leave the account's quota alone
}

// recent holds the times of the last calls that were let through: as many as the limit allows in a second. The oldest
// is at next.
type recent struct {
	times []time.Time
	next  int
}

// allow reports whether one more call may come now: within any second there may be no more than the limit.
func (l *limits) allow(most *Limits, account uint32, region metering.Region, op metering.Operation) bool {
	return l.count(limitKey{account: account, region: region, op: op}, most.Calls[op])
}

// allowDenied reports whether one more call without permission may be audited now.
func (l *limits) allowDenied(most *Limits, principal uint32) bool {
	return l.count(limitKey{principal: principal}, most.Denied)
}

func (l *limits) count(key limitKey, perSecond int) bool {
	if perSecond <= 0 {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.recent == nil {
		l.recent = map[limitKey]*recent{}
	}
	r := l.recent[key]
	if r == nil {
		r = &recent{times: make([]time.Time, perSecond)}
		l.recent[key] = r
	}
	now := l.now()
	if now.Sub(r.times[r.next]) < time.Second {
		return false
	}
	r.times[r.next] = now
	r.next = (r.next + 1) % perSecond
	return true
}
