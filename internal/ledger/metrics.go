package ledger

import (
	"sync"
	"time"

	"github.com/meterd/meterd/internal/metering"
	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are the ledger's figures.
type Metrics struct {
	records    *prometheus.CounterVec // by outcome
	calls      *prometheus.CounterVec // by operation and outcome
	groupSize  prometheus.Histogram
	commitTime prometheus.Histogram
	open       prometheus.GaugeFunc
	openBytes  prometheus.GaugeFunc
	limit      prometheus.GaugeFunc
	alarm      prometheus.GaugeFunc // 1 from 80 % of the limit
	ready      prometheus.GaugeFunc
	age        *productAge

	outcomes  [metering.Unprocessed + 1]prometheus.Counter
	succeeded [metering.OperationNumbers]prometheus.Counter
}

// productAge reports, for each product, how long ago its last record was accepted. Without it, metering that has
// failed would look like a product without usage.
type productAge struct {
	l    *Ledger
	desc *prometheus.Desc
	mu   sync.Mutex
	last map[uint32]metering.Instant
}

func newMetrics(l *Ledger) *Metrics {
	m := &Metrics{
		records: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "meterd_records_total",
			Help: "Usage records by what became of them."}, []string{"outcome"}),
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "meterd_calls_total",
			Help: "Authenticated calls by operation and error kind; error is none for success."}, []string{"operation", "error"}),
		groupSize: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "meterd_commit_group_calls",
			Help: "Calls committed together.", Buckets: prometheus.ExponentialBuckets(1, 2, 9)}),
		commitTime: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "meterd_commit_seconds",
			Help: "Time to decide, append, commit and sync one group.", Buckets: prometheus.ExponentialBuckets(0.0001, 2, 15)}),
		open: prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "meterd_open_records",
			Help: "Keys of records in the open window and ClientTokens that the embedded store keeps in memory."}, func() float64 { return float64(l.openRecords()) }),
		openBytes: prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "meterd_open_records_bytes",
			Help: "Memory of the tables that hold these keys, and of the filters of those on disk."}, func() float64 { _, bytes := l.db.OpenRecords(); return float64(bytes) }),
		limit: prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "meterd_open_records_limit",
			Help: "The bound on open records (--max-open-records)."}, func() float64 { return float64(l.cfg.MaxOpenRecords) }),
		ready: prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "meterd_ready",
			Help: "1 while calls are taken, 0 after the store has failed or on shutdown."}, func() float64 {
			if l.Ready() != nil {
				return 0
			}
			return 1
		}),
		age: &productAge{l: l, last: map[uint32]metering.Instant{},
			desc: prometheus.NewDesc("meterd_product_last_record_age_seconds",
				"Time since a record of the product was last accepted by this process, by the ledger clock.", []string{"product_code"}, nil)},
	}
	m.alarm = prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "meterd_open_records_alarm",
		Help: "1 when open records have reached 80 % of their bound."}, func() float64 {
		if l.openRecords() >= l.cfg.MaxOpenRecords*8/10 {
			return 1
		}
		return 0
	})
	for o, name := range map[metering.Outcome]string{metering.Stored: "accepted", metering.Replayed: "replayed", metering.Duplicate: "duplicate",
		metering.NotSubscribed: "not_subscribed", metering.Unprocessed: "unprocessed"} {
		m.outcomes[o] = m.records.WithLabelValues(name)
	}
	for _, op := range metering.Operations {
		m.succeeded[op] = m.calls.WithLabelValues(op.String(), "none")
	}
	return m
}

// Register adds the figures to a registry.
func (m *Metrics) Register(r prometheus.Registerer) {
	r.MustRegister(m.records, m.calls, m.groupSize, m.commitTime, m.open, m.openBytes, m.limit, m.alarm, m.ready, m.age)
}

func (l *Ledger) openRecords() int {
	keys, _ := l.db.OpenRecords()
	return keys
}

// group counts a committed group.
func (m *Metrics) group(calls []*Call, took time.Duration) {
	m.groupSize.Observe(float64(len(calls)))
	m.commitTime.Observe(took.Seconds())
	m.age.mu.Lock()
	defer m.age.mu.Unlock()
	for _, c := range calls {
		switch {
		case c.op == metering.Administration:
		case c.refusal == nil:
			m.succeeded[c.op].Inc()
		default:
			m.calls.WithLabelValues(c.op.String(), c.refusal.Kind.String()).Inc()
		}
		switch w := c.work.(type) {
		case *batchWork:
			var counts [metering.Unprocessed + 1]int
			for i, o := range w.outcomes {
				counts[o]++
				if o == metering.Stored {
					m.age.last[w.lines[i].Key.Product] = c.audit.At
				}
			}
			for o, n := range counts {
				if n > 0 {
					m.outcomes[o].Add(float64(n))
				}
			}
		case *meterWork:
			if c.audit.UsageRows > 0 {
				m.outcomes[metering.Stored].Inc()
				m.age.last[w.line.Key.Product] = c.audit.At
			} else if c.refusal == nil && !w.in.DryRun {
				m.outcomes[metering.Replayed].Inc()
			}
		}
	}
}

func (a *productAge) Describe(ch chan<- *prometheus.Desc) { ch <- a.desc }

func (a *productAge) Collect(ch chan<- prometheus.Metric) {
	now := a.l.Now()
	a.mu.Lock()
	last := make(map[uint32]metering.Instant, len(a.last))
	for p, at := range a.last {
		last[p] = at
	}
	a.mu.Unlock()
	a.l.mu.RLock()
	defer a.l.mu.RUnlock()
	for p, at := range last {
		ch <- prometheus.MustNewConstMetric(a.desc, prometheus.GaugeValue, now.Sub(at).Seconds(), a.l.market.Product(p).Code)
	}
}
