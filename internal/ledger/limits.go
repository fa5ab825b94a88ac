package ledger

import (
	"sync"
	"time"

	"github.com/meterd/meterd/internal/metering"
	"golang.org/x/time/rate"
)

// limits counts calls by account, region and operation. The accounts are those of verified callers, so an attacker
// cannot make it grow.
type limits struct {
	now     func() time.Time
	mu      sync.Mutex
	buckets map[limitKey]*rate.Limiter
}

type limitKey struct {
	account uint32
	region  metering.Region
	op      metering.Operation
}

func (l *limits) allow(max Limits, account uint32, region metering.Region, op metering.Operation) bool {
	perSecond := [...]int{metering.BatchMeterUsage: max.BatchMeterUsage, metering.MeterUsage: max.MeterUsage,
		metering.RegisterUsage: max.RegisterUsage, metering.ResolveCustomer: max.ResolveCustomer}[op]
	if perSecond <= 0 {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.buckets == nil {
		l.buckets = map[limitKey]*rate.Limiter{}
	}
	key := limitKey{account, region, op}
	b := l.buckets[key]
	if b == nil {
		b = rate.NewLimiter(rate.Limit(perSecond), perSecond)
		l.buckets[key] = b
	}
	return b.AllowN(l.now(), 1)
}
