package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/meterd/meterd/internal/ledger"
	"github.com/meterd/meterd/internal/metering"
	"github.com/meterd/meterd/internal/server"
	"github.com/meterd/meterd/internal/sigv4"
)

// serviceFlags are the flags that dev and serve share.
type serviceFlags struct {
	Listen         string            `default:"127.0.0.1:4880" env:"METERD_LISTEN" placeholder:"HOST:PORT" help:"AWS endpoint; port 0 picks one."`
	AdminListen    string            `default:"127.0.0.1:4881" env:"METERD_ADMIN_LISTEN" placeholder:"HOST:PORT" help:"Admin API."`
	OpsListen      string            `default:"127.0.0.1:4882" env:"METERD_OPS_LISTEN" placeholder:"HOST:PORT" help:"Metrics and health; no authentication, keep it private."`
	Pprof          bool              `env:"METERD_PPROF" help:"Serve profiles of the process too, under /debug/pprof/ of --ops-listen."`
	TLSCert        string            `env:"METERD_TLS_CERT" type:"path" placeholder:"FILE" help:"Certificate chain for every listener, PEM; read again when it changes."`
	TLSKey         string            `env:"METERD_TLS_KEY" type:"path" placeholder:"FILE" help:"Its private key."`
	ExternalHost   []string          `env:"METERD_EXTERNAL_HOST" placeholder:"HOST" help:"Host, with its port if it is not the default one, that signatures may name; any if not given. Listeners on loopback, and all of the sandbox, answer to it beside localhost. Repeatable."`
	BasePath       string            `env:"METERD_BASE_PATH" placeholder:"/PATH" help:"Path in the endpoint that clients use, whether or not a proxy takes it off."`
	TrustedProxy   []string          `env:"METERD_TRUSTED_PROXY" placeholder:"ADDRESS" help:"Address, or network as 10.0.0.0/8, of proxies whose X-Forwarded-Prefix, -For and -Proto are believed and whose headers need not be signed. Repeatable."`
	ProxyHeader    []string          `env:"METERD_PROXY_HEADER" placeholder:"NAME" help:"Name, or its beginning, of a header that those proxies add although it looks like one of AWS's, such as x-amz-cf-id. Repeatable."`
	Regions        []string          `env:"METERD_REGIONS" placeholder:"REGION" help:"Regions to serve; all that are enabled in the catalogue if not given."`
	Setting        map[string]string `env:"METERD_SETTING" placeholder:"NAME=VALUE" help:"Change a behaviour that AWS leaves open; docs/compatibility.md lists them. Repeatable."`
	Limits         string            `default:"none" enum:"none,aws" env:"METERD_LIMITS" help:"Calls a second: none, or AWS's own quotas (aws)."`
	MaxOpenRecords int               `default:"50000000" env:"METERD_MAX_OPEN_RECORDS" help:"Keys of the open window that the embedded store keeps in memory, about 40 bytes each; more are put into UnprocessedRecords."`
	MaxConnections int               `default:"4096" env:"METERD_MAX_CONNECTIONS" help:"Connections to the AWS endpoint at once; the admin API and the operations endpoint take 256 of them at most. Those that have not authenticated take three quarters at most, and are dropped first."`
	LogFormat      string            `default:"text" enum:"text,json" env:"METERD_LOG_FORMAT" help:"text or json, on standard error."`
	LogLevel       string            `default:"info" enum:"debug,info,warn,error" env:"METERD_LOG_LEVEL" help:"debug, info, warn or error."`
}

// logger returns a logger that writes to w, which must not hold up those who log.
func (f *serviceFlags) logger(w io.Writer) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(f.LogLevel)); err != nil {
		level = slog.LevelInfo
	}
	options := &slog.HandlerOptions{Level: level}
	log := slog.New(slog.NewTextHandler(w, options))
	if f.LogFormat == "json" {
		log = slog.New(slog.NewJSONHandler(w, options))
	}
	signal.Ignore(syscall.SIGPIPE) // the reader of the log may go away while the service goes on
	if lines, ok := w.(*lineWriter); ok {
		lines.reportLost(func(n int) {
			log.Warn("lines of the log were lost, for nobody read them in time", slog.Int("lines", n))
		})
	}
	return log
}

// config returns the part of a ledger's configuration that the flags set.
func (f *serviceFlags) config(log *slog.Logger) (ledger.Config, error) {
	cfg := ledger.Config{Settings: metering.DefaultSettings(), Regions: f.Regions, Log: log, MaxOpenRecords: f.MaxOpenRecords}
	for name, value := range f.Setting {
		if err := cfg.Settings.Set(name, value); err != nil {
			return cfg, err
		}
	}
	if f.Limits == "aws" {
		cfg.Limits = ledger.AWSLimits()
	}
	return cfg, nil
}

// checkAddresses finds addresses that cannot be right, for which later errors would not name the reason.
func (f *serviceFlags) checkAddresses() error {
	for _, a := range []struct{ flag, address, port string }{{"listen", f.Listen, "4880"}, {"admin-listen", f.AdminListen, "4881"}, {"ops-listen", f.OpsListen, "4882"}} {
		if _, port, err := net.SplitHostPort(a.address); err == nil {
			if _, err := net.LookupPort("tcp", port); err != nil {
				return fmt.Errorf("--%s %s: a port is 1 to 65535, or 0 for any that is free, not %s", a.flag, a.address, port)
			}
			continue
		}
		host := strings.Trim(a.address, "[]")
		if _, _, err := net.SplitHostPort(net.JoinHostPort(host, a.port)); err != nil || strings.Contains(host, ":") && net.ParseIP(host) == nil {
			return fmt.Errorf("--%s %s: is not an address; write host and port, such as 127.0.0.1:%s", a.flag, a.address, a.port)
		}
		return fmt.Errorf("--%s %s: has no port; write %s", a.flag, a.address, net.JoinHostPort(host, a.port))
	}
	for _, host := range f.ExternalHost {
		if u, err := url.Parse("http://" + host); err != nil || u.Host != host || u.Hostname() == "" || strings.ContainsAny(host, "<>\" \t") {
			return fmt.Errorf("--external-host %q: must be a host as it is in the endpoint of clients, without https:// or a path: meter.example, or meter.example:8443", host)
		}
	}
	return nil
}

// proxies returns what the flags say about proxies in front of the AWS endpoint.
func (f *serviceFlags) proxies() (server.Proxies, error) {
	p := server.Proxies{BasePath: strings.TrimRight(f.BasePath, "/"), Headers: f.ProxyHeader}
	if p.BasePath != "" {
		if err := sigv4.CheckPath(p.BasePath); err != nil {
			return p, fmt.Errorf("--base-path: %w", err)
		}
	}
	for _, text := range f.TrustedProxy {
		network, err := netip.ParsePrefix(text)
		if err != nil {
			var ip netip.Addr
			if ip, err = netip.ParseAddr(text); err != nil {
				return p, fmt.Errorf("--trusted-proxy %s: must be an address, 10.0.0.1, or a network, 10.0.0.0/8", text)
			}
			network = netip.PrefixFrom(ip.Unmap(), ip.Unmap().BitLen())
		}
		p.Trusted = append(p.Trusted, network)
	}
	for _, name := range f.ProxyHeader {
		if err := sigv4.CheckProxyHeader(name); err != nil {
			return p, fmt.Errorf("--proxy-header: %w", err)
		}
	}
	if len(p.Headers) > 0 && len(p.Trusted) == 0 {
		return p, errors.New("--proxy-header needs --trusted-proxy: name the addresses of the proxies that add the headers")
	}
	return p, nil
}

// service is the three endpoints of a ledger.
type service struct {
	flags     *serviceFlags
	dev       bool // a sandbox, whose keys are published: it answers to no name but its own, wherever it listens
	proxies   server.Proxies
	tls       *tls.Config // nil without TLS
	log       *slog.Logger
	metrics   *server.AWSMetrics
	status    *server.Ops // once the operations endpoint listens
	ledger    *ledger.Ledger
	endpoints []endpoint    // AWS, admin, ops
	drain     time.Duration // how long to go on taking calls after being told to stop
	serving   sync.WaitGroup
	failed    chan error // of endpoints that serve no more
}

// The places of a service's endpoints.
const (
	awsEndpoint = iota
	adminEndpoint
	opsEndpoint
	endpoints
)

type endpoint struct {
	name     string
	listener net.Listener
	server   *server.Server
	url      string
	serves   bool
}

// fewConnections is how many connections a listener for operators takes.
const fewConnections = 256

// warnOfFiles logs a warning if the process may not open more files than there can be connections, because the store
// could then fail to open its own.
func warnOfFiles(connections int, log *slog.Logger) {
	limit, known := openFiles()
	if need := uint64(connections) + 2*fewConnections + 256; known && limit < need {
		log.Warn("the process may open too few files for so many connections; raise its limit (ulimit -n, LimitNOFILE) or lower --max-connections",
			slog.Uint64("limit", limit), slog.Uint64("needed", need), slog.Int("max-connections", connections))
	}
}

// newService makes a service that does not listen yet. It checks the flags.
func newService(f *serviceFlags, log *slog.Logger, dev bool) (*service, error) {
	s := &service{flags: f, dev: dev, log: log, metrics: server.NewAWSMetrics(), endpoints: make([]endpoint, endpoints), failed: make(chan error, endpoints)}
	if (f.TLSCert == "") != (f.TLSKey == "") {
		return nil, errors.New("--tls-cert and --tls-key go together; give both or neither")
	}
	if f.TLSCert != "" {
		c := &certificate{cert: f.TLSCert, key: f.TLSKey, log: log}
		if _, err := c.get(nil); err != nil {
			return nil, fmt.Errorf("--tls-cert, --tls-key: %w", err)
		}
		s.tls = &tls.Config{GetCertificate: c.get, MinVersion: tls.VersionTLS12}
	}
	err := f.checkAddresses()
	if err == nil {
		s.proxies, err = f.proxies()
	}
	if err != nil {
		return nil, err
	}
	if f.MaxConnections < 1 {
		return nil, fmt.Errorf("--max-connections %d: must be 1 or more", f.MaxConnections)
	}
	return s, nil
}

// listen opens all listeners of a ledger's service, so that a port in use is reported before anything is served.
func listen(f *serviceFlags, l *ledger.Ledger, log *slog.Logger, dev bool) (*service, error) {
	s, err := newService(f, log, dev)
	if err != nil {
		return nil, err
	}
	if err := s.open(l); err != nil {
		return nil, errors.Join(err, s.leave())
	}
	return s, nil
}

// open opens the listeners that are not open yet.
func (s *service) open(l *ledger.Ledger) error {
	s.ledger = l
	f := s.flags
	warnOfFiles(f.MaxConnections, s.log)
	err := s.listen(awsEndpoint, "listen", f.Listen, server.Limits{Connections: f.MaxConnections, Header: 5 * time.Second, Request: time.Minute, Answer: 2 * time.Minute, Idle: 2 * time.Minute},
		func(only *server.Hosts) http.Handler {
			hosts := f.ExternalHost
			if s.dev {
				hosts = nil // only decides, and lets this machine sign for itself
			}
			return server.NewAWS(server.AWSConfig{Ledger: l, Hosts: hosts, Only: only, Proxies: s.proxies, Log: s.log, Metrics: s.metrics})
		})
	if err == nil { // reports are large; an import takes longer, and sets its own times
		err = s.listen(adminEndpoint, "admin-listen", f.AdminListen, server.Limits{Connections: s.few(), Header: 5 * time.Second, Request: time.Minute, Answer: 10 * time.Minute, Idle: 2 * time.Minute},
			func(only *server.Hosts) http.Handler {
				return server.Admin(server.AdminConfig{Ledger: l, Log: s.log, Only: only, Endpoint: func() string { return s.outside(f) }})
			})
	}
	if err == nil {
		err = s.listenOps()
	}
	if err == nil {
		s.status.Open(l)
	}
	return err
}

// listenOps opens the listener of the operations endpoint, which may be served before there is a ledger.
func (s *service) listenOps() error {
	if s.status != nil {
		return nil
	}
	// A profile takes as long as the request asks.
	return s.listen(opsEndpoint, "ops-listen", s.flags.OpsListen, server.Limits{Connections: s.few(), Header: 5 * time.Second, Request: time.Minute, Answer: 5 * time.Minute, Idle: 2 * time.Minute},
		func(only *server.Hosts) http.Handler {
			name, revision := built()
			s.status = server.NewOps(server.OpsConfig{Metrics: s.metrics, Pprof: s.flags.Pprof, Only: only, Version: name, Revision: revision})
			return s.status
		})
}

// few is how many connections the listeners for operators take.
func (s *service) few() int { return min(s.flags.MaxConnections, fewConnections) }

// listen opens the listener of one endpoint.
func (s *service) listen(place int, name, address string, limits server.Limits, handler func(*server.Hosts) http.Handler) error {
	listener, err := net.Listen("tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("--%s %s: another program listens there, perhaps another meterd; end it, or give another port, 0 for any that is free", name, address)
	}
	if err != nil {
		return fmt.Errorf("--%s %s: %w", name, address, err)
	}
	var only *server.Hosts
	if s.dev || loopback(listener.Addr().String()) {
		only = &server.Hosts{External: s.flags.ExternalHost}
	}
	scheme := "http"
	if s.tls != nil {
		listener, scheme = tls.NewListener(listener, s.tls), "https"
	}
	s.endpoints[place] = endpoint{name: name, listener: listener, url: scheme + "://" + reachable(listener.Addr()), server: server.New(handler(only), limits, s.log)}
	return nil
}

// reachable returns a listener's address in a form that can be connected to. A listener on all addresses of the
// machine is reached at the loopback address.
func reachable(a net.Addr) string {
	tcp, ok := a.(*net.TCPAddr)
	if !ok || !tcp.IP.IsUnspecified() {
		return a.String()
	}
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(tcp.Port)) // a listener on "[::]" takes IPv4 too
}

// outside returns the AWS endpoint as other machines should name it. It is empty behind a proxy, whose scheme is not
// known.
func (s *service) outside(f *serviceFlags) string {
	switch {
	case len(f.ExternalHost) == 0:
		return s.aws()
	case f.TLSCert != "":
		return "https://" + f.ExternalHost[0]
	}
	return ""
}

func (s *service) aws() string   { return s.endpoints[awsEndpoint].url }
func (s *service) admin() string { return s.endpoints[adminEndpoint].url }
func (s *service) ops() string   { return s.endpoints[opsEndpoint].url }

// serve starts serving an endpoint that listens, unless it is being served already.
func (s *service) serve(place int) {
	e := &s.endpoints[place]
	if e.serves {
		return
	}
	e.serves = true
	s.serving.Go(func() {
		if err := e.server.Serve(e.listener); !errors.Is(err, http.ErrServerClosed) {
			s.failed <- fmt.Errorf("--%s: %w", e.name, err)
		}
	})
}

// wait serves the operations endpoint alone, which says why there is no ledger yet.
func (s *service) wait(reason error) error {
	if err := s.listenOps(); err != nil {
		return err
	}
	s.status.Wait(reason)
	s.serve(opsEndpoint)
	return nil
}

// leave closes what was opened, if the service is not run.
func (s *service) leave() error {
	var errs []error
	for _, e := range s.endpoints {
		switch {
		case e.serves:
			errs = append(errs, e.server.Close())
		case e.listener != nil:
			errs = append(errs, e.listener.Close())
		}
	}
	s.serving.Wait()
	return errors.Join(errs...)
}

// run serves until ctx ends or the ledger is lost, then stops in order: when the time to drain is over, the AWS endpoint and the admin API first, so that nobody comes
// any more while those who wait are answered; then the ledger, which writes what was queued; and the operations
// endpoint last, which has told all the while that the service is not ready.
func (s *service) run(ctx context.Context) error {
	for place := range s.endpoints {
		s.serve(place)
	}
	var errs []error
	select {
	case <-ctx.Done():
	case err := <-s.failed:
		errs = append(errs, err)
	case <-s.ledger.Lost():
		errs = append(errs, s.ledger.Ready())
	}
	s.log.Info("stopping", slog.Duration("drain", s.drain))
	s.ledger.Drain()
	if len(errs) == 0 && s.drain > 0 {
		select {
		case <-time.After(s.drain):
		case err := <-s.failed:
			errs = append(errs, err)
		}
	}
	bound, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for i, e := range s.endpoints {
		if i == opsEndpoint {
			errs = append(errs, s.ledger.Close())
		}
		if err := e.server.Shutdown(bound); err != nil {
			s.log.Warn("a client would not be done; its connection is cut", slog.String("listener", e.name), slog.Any("error", err))
			errs = append(errs, e.server.Close())
		}
	}
	s.serving.Wait()
	return errors.Join(errs...)
}

// certificate is a key pair that is read again when its file has changed.
type certificate struct {
	cert, key string
	log       *slog.Logger
	mu        sync.Mutex
	read      time.Time // modification time of what was read
	pair      *tls.Certificate
}

func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	info, err := os.Stat(c.cert)
	if err == nil && !info.ModTime().Equal(c.read) {
		var pair tls.Certificate
		if pair, err = loadCertificate(c.cert, c.key); err == nil {
			c.pair, c.read = &pair, info.ModTime()
		}
	}
	if c.pair == nil {
		return nil, err
	}
	if err != nil {
		c.log.Warn("the TLS certificate could not be read again; going on with the old one", slog.Any("error", err))
	}
	return c.pair, nil
}

// loopback reports whether the address can be reached from this machine only.
func loopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}
