package ledger_test

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/meterd/meterd/internal/adminapi"
	"github.com/meterd/meterd/internal/iam"
	"github.com/meterd/meterd/internal/ledger"
	"github.com/meterd/meterd/internal/market"
	"github.com/meterd/meterd/internal/metering"
)

// BenchmarkBatchMeterUsage meters 25 new records a call from 64 goroutines: admission, decision, commit and sync,
// without network, signature or JSON. It reports records a second.
func BenchmarkBatchMeterUsage(b *testing.B) {
	const buyers = 20_000
	cfg := ledger.Config{Store: b.TempDir(), MasterKey: make([]byte, 32)}
	if err := ledger.Create(cfg); err != nil {
		b.Fatal(err)
	}
	l, err := ledger.Open(cfg)
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	dimensions := make([]string, 200)
	for i := range dimensions {
		dimensions[i] = fmt.Sprintf("dimension_%d", i)
	}
	began := time.Now().Add(-48 * time.Hour)
	m := &adminapi.Marketplace{
		Sellers:  []adminapi.Seller{{AccountID: "111122223333"}},
		Products: []adminapi.Product{{ProductCode: "benchmark", SellerAccountID: "111122223333", Type: "saas", Integration: "legacy", Dimensions: dimensions}},
	}
	for i := range buyers {
		m.Buyers = append(m.Buyers, adminapi.Buyer{AccountID: fmt.Sprintf("%012d", 200_000_000_000+i),
			Agreements: []adminapi.Agreement{{ProductCode: "benchmark", StartTime: &began}}})
	}
	if _, err := l.Import(ctx, l.Local(), m); err != nil {
		b.Fatal(err)
	}
	caller := ledger.Caller{Region: "us-east-1", Source: "127.0.0.1", Identity: &market.Identity{
		Policy: iam.NewActions(metering.Actions()...).Policy(&iam.Permissions{Allow: []string{"*"}}), Account: 1, Name: iam.Principal{Kind: iam.User, AccountID: "111122223333", Name: "u"}}}
	now := metering.InstantOf(time.Now())
	var next atomic.Int64
	b.SetParallelism(64 / runtime.GOMAXPROCS(0))
	b.ReportAllocs()
	b.ResetTimer()
	before := cpu()
	b.RunParallel(func(pb *testing.PB) {
		records := make([]metering.UsageRecord, 25)
		for pb.Next() {
			n := next.Add(1)
			for i := range records {
				k := n*25 + int64(i)
				records[i] = metering.UsageRecord{HasTimestamp: true, Timestamp: now.Add(-time.Duration(k/buyers/200%20) * time.Hour), Quantity: int32(k),
					CustomerAWSAccountID: m.Buyers[k%buyers].AccountID, Dimension: dimensions[k/buyers%200]}
			}
			c := caller
			c.RequestID, _ = uuid.NewV7()
			call, refusal := l.Begin(c, metering.BatchMeterUsage)
			if refusal != nil {
				b.Error(refusal)
				return
			}
			_, outcomes, refusal := call.BatchMeterUsage(&metering.Batch{ProductCode: "benchmark", Records: records, Count: 25}, nil)
			if refusal != nil || outcomes[0] != metering.Stored {
				b.Error(refusal, outcomes)
			}
			call.End()
		}
	})
	b.ReportMetric(float64(b.N*25)/b.Elapsed().Seconds(), "records/s")
	b.ReportMetric(float64(cpu()-before)/1e3/float64(b.N), "cpu-µs/op")
}

// cpu returns the processor time that the process has used, in nanoseconds: steadier than the time of day on a
// machine that does other things too.
func cpu() int64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return u.Utime.Nano() + u.Stime.Nano()
}
