package ledger_test

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/meterd/meterd/internal/adminapi"
	"github.com/meterd/meterd/internal/ledger"
)

func BenchmarkImport(b *testing.B) {
	const buyers = 1_000_000
	for b.Loop() {
		l := openBench(b)
		op := l.Local()
		m := &adminapi.Marketplace{
			Sellers:  []adminapi.Seller{{AccountID: "111122223333"}},
			Products: []adminapi.Product{{ProductCode: "p", SellerAccountID: "111122223333", Type: "saas", Dimensions: []string{"users"}}},
			Buyers:   make([]adminapi.Buyer, buyers),
		}
		for i := range m.Buyers {
			m.Buyers[i] = adminapi.Buyer{AccountID: fmt.Sprintf("%012d", 500_000_000_001+i), Agreements: []adminapi.Agreement{{ProductCode: "p"}}}
		}
		before := heap()
		started := time.Now()
		if _, err := l.Import(op, m); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(time.Since(started).Seconds(), "s/import")
		b.ReportMetric(float64(heap()-before)/buyers, "B/buyer")
		started = time.Now()
		if _, err := l.Import(op, m); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(time.Since(started).Seconds(), "s/again")
		runtime.KeepAlive(m)
		l.Close()
	}
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return s.HeapAlloc
}

func openBench(b *testing.B) *ledger.Ledger {
	cfg := ledger.Config{Dir: b.TempDir(), MasterKey: make([]byte, 32)}
	if err := ledger.Create(cfg); err != nil {
		b.Fatal(err)
	}
	l, err := ledger.Open(cfg)
	if err != nil {
		b.Fatal(err)
	}
	return l
}
