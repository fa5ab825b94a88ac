package server

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/pprof"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/meterd/meterd/internal/ledger"
	"github.com/meterd/meterd/internal/metering"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// AWSMetrics are the figures of the AWS endpoint.
type AWSMetrics struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	served   [metering.OperationNumbers]served // by operation, for answers that are not refusals
}

// served holds the metrics of one operation, so that they are found without a look-up by label.
type served struct {
	requests prometheus.Counter
	seconds  prometheus.Observer
}

// NewAWSMetrics returns metrics that are all zero.
func NewAWSMetrics() *AWSMetrics {
	m := &AWSMetrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "meterd_requests_total",
			Help: "Requests to the AWS endpoint by operation and error code, those that could not be authenticated included."}, []string{"operation", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "meterd_request_seconds",
			Help: "Time to answer a request, by operation.", Buckets: prometheus.ExponentialBuckets(0.0001, 2, 16)}, []string{"operation"}),
	}
	for _, op := range metering.Operations {
		m.served[op] = served{m.requests.WithLabelValues(op.String(), noRefusal), m.seconds.WithLabelValues(op.String())}
	}
	return m
}

// noRefusal is the code of an answer that is not a refusal.
const noRefusal = "none"

// operationLabel is an operation's name in metrics and the log; empty if the request named none.
func operationLabel(op metering.Operation) string {
	if op == 0 {
		return ""
	}
	return op.String()
}

func (m *AWSMetrics) observe(op metering.Operation, code string, took time.Duration) {
	if code == noRefusal {
		s := &m.served[op]
		s.requests.Inc()
		s.seconds.Observe(took.Seconds())
		return
	}
	m.requests.WithLabelValues(operationLabel(op), code).Inc()
	m.seconds.WithLabelValues(operationLabel(op)).Observe(took.Seconds())
}

// OpsConfig configures the operations endpoint.
type OpsConfig struct {
	Metrics *AWSMetrics
	Pprof   bool   // serve profiles of the process too
	Only    *Hosts // hosts that are answered; any if nil

	Version, Revision string // of the program and of its source, for meterd_build_info
}

// Ops is the operations endpoint: /metrics, /livez, /readyz and, if asked for, /debug/pprof/. It has no
// authentication, so it must listen only where operators are. The profiles leave out the process's command line,
// which may hold the password of a database. The endpoint may be served before there is a ledger, and is then not
// ready.
type Ops struct {
	http.Handler
	registry *prometheus.Registry
	ready    atomic.Pointer[func() error]
}

// NewOps returns an endpoint that has no ledger yet.
func NewOps(cfg OpsConfig) *Ops {
	o := &Ops{registry: prometheus.NewRegistry()}
	o.Wait(errors.New("the ledger is being opened"))
	o.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), cfg.Metrics.requests, cfg.Metrics.seconds)
	build := prometheus.NewGauge(prometheus.GaugeOpts{Name: "meterd_build_info", Help: "1; the labels say which version of meterd this is.",
		ConstLabels: prometheus.Labels{"version": cfg.Version, "revision": cfg.Revision, "goversion": runtime.Version()}})
	build.Set(1)
	o.registry.MustRegister(build)
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(o.registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { health(w, nil) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) { health(w, (*o.ready.Load())()) })
	if cfg.Pprof {
		mux.HandleFunc("GET /debug/pprof/", pprof.Index)
		mux.HandleFunc("GET /debug/pprof/cmdline", http.NotFound)
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	}
	o.Handler = cfg.Only.guard(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		dropBody(w, r)
		connection := connOf(r)
		connection.whole()
		mux.ServeHTTP(&answering{w, connection}, r)
	}))
	return o
}

// Wait makes /readyz say that there is no ledger yet, and why.
func (o *Ops) Wait(reason error) {
	ready := func() error { return reason }
	o.ready.Store(&ready)
}

// Open makes /readyz and /metrics report on the ledger from now on. It is called once.
func (o *Ops) Open(l *ledger.Ledger) {
	l.Metrics.Register(o.registry)
	ready := l.Ready
	o.ready.Store(&ready)
}

// answering writes the answer to a request that needs no authentication. The connection is not dropped while the
// answer is being made. Once the answer is being sent the connection may be dropped, because its client need not take
// the answer.
type answering struct {
	http.ResponseWriter
	connection *conn
}

func (a *answering) Unwrap() http.ResponseWriter { return a.ResponseWriter }

func (a *answering) Write(p []byte) (int, error) {
	a.connection.refused()
	return a.ResponseWriter.Write(p)
}

func health(w http.ResponseWriter, problem error) {
	answer := map[string]string{"status": "ok"}
	w.Header().Set("Content-Type", "application/json")
	if problem != nil {
		answer = map[string]string{"status": "unavailable", "reason": problem.Error()}
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_ = json.NewEncoder(w).Encode(answer)
}
