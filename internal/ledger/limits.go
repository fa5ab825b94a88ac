package ledger

import (
	"sync"
	"time"

	"github.com/meterd/meterd/internal/metering"
)

// limits counts calls by account, region and operation, and by their principal those that it had no permission for. The
// accounts and principals are those of verified callers, so an attacker cannot make it grow.
type limits struct {
	now    func() time.Time
	mu     sync.Mutex
	recent map[limitKey]*recent
}

type limitKey struct {
	account   uint32
	region    metering.Region
	op        metering.Operation
	principal uint32 // of calls without permission, which leave the account's quota alone; the others are 0
}

// recent is when the last calls were let through: as many as may come in a second, the oldest at next.
type recent struct {
	times []time.Time
	next  int
}

// allow reports whether one more call may come now: in no second may there be more than the limit.
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
