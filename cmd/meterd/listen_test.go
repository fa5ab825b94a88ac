package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/marketplacemetering"
	"github.com/aws/aws-sdk-go-v2/service/marketplacemetering/types"
	"github.com/meterd/meterd/internal/ledger"
	"github.com/meterd/meterd/internal/metering"
	"github.com/meterd/meterd/internal/sandbox"
)

// serving is a service whose listeners are exposed to clients that mean it harm.
type serving struct {
	*testing.T
	*service
}

// serve runs a sandbox's service, after the change, until the test ends.
func serve(t *testing.T, flags serviceFlags, change func(*service)) *serving {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	l, err := sandbox.Open(t.Context(), ledger.Config{Store: t.TempDir(), Settings: metering.DefaultSettings(), Log: log}, sandbox.Options{})
	if err != nil {
		t.Fatal(err)
	}
	flags.Listen, flags.AdminListen, flags.OpsListen = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	s, err := listen(&flags, l, log, true)
	if err != nil {
		t.Fatal(errors.Join(err, l.Close()))
	}
	change(s)
	ctx, stop := context.WithCancel(context.Background())
	stopped := make(chan error)
	go func() { stopped <- s.run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-stopped; err != nil {
			t.Error(err)
		}
	})
	return &serving{t, s}
}

// withCertificate adds a certificate and its key to the flags.
func withCertificate(t *testing.T, flags serviceFlags) serviceFlags {
	t.Helper()
	web := httptest.NewTLSServer(nil) // has a certificate
	web.Close()
	pair := web.TLS.Certificates[0]
	key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	flags.TLSCert, flags.TLSKey = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for file, block := range map[string]*pem.Block{flags.TLSCert: {Type: "CERTIFICATE", Bytes: pair.Certificate[0]}, flags.TLSKey: {Type: "PRIVATE KEY", Bytes: key}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return flags
}

// each runs a test on each listener.
func (s *serving) each(f func(*serving, int)) {
	for i := range s.endpoints { // not a copy, of which a part is written meanwhile
		s.Run(s.endpoints[i].name, func(t *testing.T) { f(&serving{t, s.service}, i) })
	}
}

// client is a connection that gives up in the end, so that a test that hangs fails.
type client struct {
	net.Conn
	answers *bufio.Reader
	*testing.T
}

const patience = time.Minute

func (s *serving) dial(i int) *client {
	s.Helper()
	conn, err := net.Dial("tcp", s.endpoints[i].listener.Addr().String())
	if err != nil {
		s.Fatal(err)
	}
	if s.endpoints[i].url[:5] == "https" {
		conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
	}
	s.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		s.Fatal(err)
	}
	return &client{conn, bufio.NewReader(conn), s.T}
}

func (c *client) send(format string, args ...any) {
	c.Helper()
	if _, err := fmt.Fprintf(c, format, args...); err != nil {
		c.Fatal(err)
	}
}

// request is one that every listener answers, with status 400, 401 or 404, without closing the connection.
const request = "POST /nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"

// status reads an answer.
func (c *client) status() int {
	c.Helper()
	r, err := http.ReadResponse(c.answers, nil)
	if err != nil {
		c.Fatal(err)
	}
	defer r.Body.Close()
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		c.Fatal(err)
	}
	return r.StatusCode
}

// answers sends a request on a new connection, and another one if a busy machine lets its time run out.
func (s *serving) answers(i int) {
	s.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		c := s.dial(i)
		_, _ = io.WriteString(c, request)
		if _, err := http.ReadResponse(c.answers, nil); err == nil {
			return
		}
	}
	s.Fatal("there is no answer")
}

// closed waits until the server has closed the connection, and returns what it has sent before.
func (c *client) closed() string {
	c.Helper()
	said, err := io.ReadAll(c.answers)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		c.Fatal("the connection stays open")
	}
	return string(said)
}

// gone waits until the server has closed all the connections but most. Which those are is not sure: a server may learn
// late that a client is idle.
func (s *serving) gone(held []*client, most int) {
	s.Helper()
	closed := make(chan bool, len(held))
	for _, c := range held {
		go func() {
			_, err := io.Copy(io.Discard, c.answers)
			closed <- !errors.Is(err, os.ErrDeadlineExceeded)
		}()
	}
	for range len(held) - most {
		if !<-closed {
			s.Fatalf("more than %d connections stay open", most)
		}
	}
}

// short has the listeners bear with clients for this long.
func short(change func(*http.Server)) func(*service) {
	return func(s *service) {
		for i := range s.endpoints {
			e := &s.endpoints[i]
			change(e.server.Server)
		}
	}
}

// TestSlowClients: whoever takes too long to send a header or a body, also byte by byte, or to send the next request,
// is cut off. Others are answered.
func TestSlowClients(t *testing.T) {
	const instant = 50 * time.Millisecond
	drip := func(c *client, end string) { // a byte each millisecond that nothing is heard
		c.send("POST / HTTP/1.1\r\nHost: localhost\r\n%s", end)
		for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
			if err := c.SetReadDeadline(time.Now().Add(time.Millisecond)); err != nil {
				c.Fatal(err)
			}
			switch _, err := io.ReadAll(c.answers); {
			case !errors.Is(err, os.ErrDeadlineExceeded):
				return // closed, with an answer or without
			default:
				if _, err := io.WriteString(c, "x"); err != nil {
					return
				}
			}
		}
		c.Error("the connection stays open")
	}
	for name, bound := range map[string]struct {
		short func(*http.Server)
		slow  func(*client)
	}{
		"silence":               {func(s *http.Server) { s.ReadHeaderTimeout = instant }, func(c *client) { c.closed() }},
		"half a header":         {func(s *http.Server) { s.ReadHeaderTimeout = instant }, func(c *client) { c.send("POST / HTTP/1.1\r\nHo"); c.closed() }},
		"a header byte by byte": {func(s *http.Server) { s.ReadHeaderTimeout = instant }, func(c *client) { drip(c, "X: ") }},
		"half a body": {func(s *http.Server) { s.ReadTimeout = instant }, func(c *client) {
			c.send("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n1234")
			c.closed()
		}},
		"a body byte by byte":      {func(s *http.Server) { s.ReadTimeout = instant }, func(c *client) { drip(c, "Content-Length: 1000000\r\n\r\n") }},
		"a chunk without end":      {func(s *http.Server) { s.ReadTimeout = instant }, func(c *client) { drip(c, "Transfer-Encoding: chunked\r\n\r\nfffff\r\n") }},
		"silence behind a request": {func(s *http.Server) { s.IdleTimeout = instant }, func(c *client) { c.send(request); c.status(); c.closed() }},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, serviceFlags{MaxConnections: 100}, short(bound.short))
			s.each(func(s *serving, i int) {
				bound.slow(s.dial(i))
				s.answers(i)
			})
		})
	}
}

// TestSlowImport: an operator's import may take longer than anyone else's request.
func TestSlowImport(t *testing.T) {
	s := serve(t, serviceFlags{MaxConnections: 100}, short(func(s *http.Server) { s.ReadTimeout, s.WriteTimeout = 50*time.Millisecond, 50*time.Millisecond }))
	const marketplace = `{"sellers":[{"account_id":"777788889999"}]}`
	begin := func(token string) *client {
		c := s.dial(1)
		c.send("POST /v1/import HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", token, len(marketplace), marketplace[:9])
		return c
	}
	slow := begin(sandbox.AdminToken)
	begin("meterd_x").closed() // by then the time is over
	slow.send("%s", marketplace[9:])
	if status := slow.status(); status != http.StatusOK {
		t.Errorf("the import is answered with %d", status)
	}
}

// TestClientsThatNeverRead send requests for ever and take no answer.
func TestClientsThatNeverRead(t *testing.T) {
	s := serve(t, serviceFlags{MaxConnections: 100}, short(func(s *http.Server) { s.WriteTimeout = 100 * time.Millisecond }))
	s.each(func(s *serving, i int) {
		c := s.dial(i)
		many := strings.Repeat(request, 1000)
		for {
			if _, err := io.WriteString(c, many); err != nil {
				if errors.Is(err, os.ErrDeadlineExceeded) {
					s.Error("the connection stays open")
				}
				break
			}
		}
		s.answers(i)
	})
}

func TestLargeHeaders(t *testing.T) {
	s := serve(t, serviceFlags{MaxConnections: 100}, func(*service) {})
	for name, header := range map[string]string{
		"a long field":    "X: " + strings.Repeat("x", 80<<10) + "\r\n",
		"a long name":     strings.Repeat("x", 80<<10) + ": x\r\n",
		"many fields":     strings.Repeat("X: x\r\n", 20<<10),
		"no end of field": strings.Repeat("x", 80<<10),
	} {
		t.Run(name, func(t *testing.T) {
			(&serving{t, s.service}).each(func(s *serving, i int) {
				c := s.dial(i)
				_, _ = fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: localhost\r\n%s\r\n", header) // it may be cut off before its end
				if said := c.closed(); said != "" && !strings.HasPrefix(said, "HTTP/1.1 431 ") {
					s.Errorf("the answer is %.80q", said)
				}
			})
		})
	}
}

// TestManyConnections: clients that hold connections for nothing, any number of them, do not keep others out.
func TestManyConnections(t *testing.T) {
	const most = 10
	s := serve(t, serviceFlags{MaxConnections: most}, func(*service) {})
	s.each(func(s *serving, i int) {
		var held []*client
		for n := range 40 * most {
			c := s.dial(i)
			switch n % 3 { // silence, half a header, idleness
			case 1:
				c.send("GET / HT")
			case 2:
				c.send(request)
				c.status()
			}
			held = append(held, c)
			if n%(2*most) == 0 {
				s.answers(i)
			}
		}
		s.gone(held, most)
	})
}

// TestCallersAmongAttackers: twice as many clients as there are connections hold them without credentials, from another
// address, and come again as soon as they are dropped. Every call of the AWS SDK, of an operator and of a monitor is
// answered meanwhile, on a new connection each.
func TestCallersAmongAttackers(t *testing.T) {
	const most = 40
	s := serve(t, serviceFlags{MaxConnections: most}, func(*service) {})
	d, err := sandbox.Describe(t.Context(), s.ledger, sandbox.Endpoints{AWS: s.aws(), Admin: s.admin(), Ops: s.ops()})
	if err != nil {
		t.Fatal(err)
	}
	seller, buyer, subscription, dimension := firstRecord(d)
	web := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	get := func(url string) error {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		r.Header.Set("Authorization", "Bearer "+sandbox.AdminToken)
		answer, err := web.Do(r)
		if err != nil {
			return err
		}
		defer answer.Body.Close()
		if _, err = io.Copy(io.Discard, answer.Body); err == nil && answer.StatusCode != http.StatusOK {
			err = errors.New(answer.Status)
		}
		return err
	}
	aws := marketplacemetering.New(marketplacemetering.Options{Region: d.Region, BaseEndpoint: &d.Endpoint, HTTPClient: web, RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider(seller.AccessKeyID, seller.SecretAccessKey, "")})
	calls := []func(n int) error{
		func(n int) error {
			quantity, now := int32(n), time.Now()
			_, err := aws.BatchMeterUsage(t.Context(), &marketplacemetering.BatchMeterUsageInput{ProductCode: &subscription.ProductCode,
				UsageRecords: []types.UsageRecord{{Timestamp: &now, CustomerAWSAccountId: &buyer.AccountID, Dimension: &dimension, Quantity: &quantity}}})
			return err
		},
		func(int) error { return get(s.admin() + "/v1/clock") },
		func(int) error { return get(s.ops() + "/metrics") },
	}
	s.each(func(s *serving, i int) {
		elsewhere := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
		over := make(chan struct{})
		var dropped atomic.Int64
		var attackers sync.WaitGroup
		for n := range 2 * most {
			attackers.Go(func() {
				for {
					select {
					case <-over:
						return
					default:
					}
					c, err := elsewhere.Dial("tcp", s.endpoints[i].listener.Addr().String())
					if err != nil {
						continue
					}
					stop := make(chan struct{})
					go func() {
						select {
						case <-over:
						case <-stop:
						}
						c.Close()
					}()
					_, _ = io.WriteString(c, "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n"[:61-n%2*10])
					_, _ = io.Copy(io.Discard, c)
					close(stop)
					dropped.Add(1)
				}
			})
		}
		for n := range 20 {
			for done := false; !done; done = dropped.Load() >= int64(n*most/4) { // they keep coming
				if err := calls[i](n); err != nil {
					s.Errorf("call %d: %v", n, err)
				}
			}
		}
		close(over)
		attackers.Wait()
	})
}

// TestManyConnectionsTLS: whether a client has shaken hands does not matter.
func TestManyConnectionsTLS(t *testing.T) {
	const most = 5
	s := serve(t, withCertificate(t, serviceFlags{MaxConnections: most}), func(*service) {})
	s.each(func(s *serving, i int) {
		var held []*client
		for n := range 10 * most {
			c := s.dial(i)
			if n%2 == 1 {
				if err := c.Conn.(*tls.Conn).Handshake(); err != nil {
					s.Fatal(err)
				}
			}
			held = append(held, c)
		}
		s.answers(i)
		for _, c := range held {
			c.answers = bufio.NewReader(c.Conn.(*tls.Conn).NetConn()) // who has not shaken hands reads nothing else
		}
		s.gone(held, most)
	})
}

// TestProfiles: profiles are only served when they are asked for, and the command line, with the password that it may
// hold, never.
func TestProfiles(t *testing.T) {
	for _, asked := range []bool{false, true} {
		s := serve(t, serviceFlags{MaxConnections: 100, Pprof: asked}, func(*service) {})
		for path, want := range map[string]int{"/debug/pprof/": 404, "/debug/pprof/heap": 404, "/debug/pprof/cmdline": 404, "/livez": 200} {
			if asked && path != "/debug/pprof/cmdline" {
				want = 200
			}
			answer, err := http.Get(s.ops() + path)
			if err != nil {
				t.Fatal(err)
			}
			answer.Body.Close()
			if answer.StatusCode != want {
				t.Errorf("--pprof=%v: %s is answered with %d, want %d", asked, path, answer.StatusCode, want)
			}
		}
	}
}

// TestHosts: a listener that only this machine reaches answers to the names of the loopback interface, to those that
// the operator gives, and to no other: a page in a browser may have any name stand for 127.0.0.1.
func TestHosts(t *testing.T) {
	s := serve(t, serviceFlags{MaxConnections: 100, ExternalHost: []string{"meter.example:4880", "Plain.example"}}, func(*service) {})
	answered := []string{"localhost", "LOCALHOST:80", "localhost.:80", "app.localhost:4880", "127.0.0.1", "127.8.9.10:99", "[::1]:80", "meter.example:4880", "METER.example:4880", "plain.example:4880", ""}
	refused := []string{"attacker.example", "attacker.example:4880", "meter.example", "meter.example:4881", "localhost.attacker.example", "127.0.0.1.attacker.example", "notlocalhost", "192.0.2.1:80", "0.0.0.0:80", "[2001:db8::1]"}
	s.each(func(s *serving, i int) {
		for _, c := range []struct {
			hosts  []string
			answer bool
		}{{answered, true}, {refused, false}} {
			for _, host := range c.hosts {
				conn := s.dial(i)
				if conn.send("GET /openapi.json HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", host); i == 0 {
					said := conn.closed()
					if got := !strings.Contains(said, "AccessDeniedException"); got != c.answer || got == strings.Contains(said, "--external-host") {
						s.Errorf("Host %q is answered with %q", host, said)
					}
					continue
				}
				if status := conn.status(); (status != http.StatusForbidden) != c.answer {
					s.Errorf("Host %q is answered with %d", host, status)
				}
			}
		}
	})
}

// TestHostsOfListeners: in production it is the listener's address that decides.
func TestHostsOfListeners(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	l, err := sandbox.Open(t.Context(), ledger.Config{Store: t.TempDir(), Settings: metering.DefaultSettings(), Log: log}, sandbox.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s, err := listen(&serviceFlags{Listen: "0.0.0.0:0", AdminListen: "127.0.0.1:0", OpsListen: "[::1]:0", MaxConnections: 10}, l, log, false)
	if err != nil {
		t.Fatal(err)
	}
	defer s.leave()
	for i, want := range []int{http.StatusNotFound, http.StatusForbidden, http.StatusForbidden} {
		w, r := httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/livez", nil)
		r.Host = "attacker.example"
		if s.endpoints[i].server.Handler.ServeHTTP(w, r); w.Code != want {
			t.Errorf("--%s: a request to another host is answered with %d, want %d", s.endpoints[i].name, w.Code, want)
		}
	}
}

// TestProxies: the AWS SDK calls through a proxy that changes the path, the host or the headers.
func TestProxies(t *testing.T) {
	for _, c := range []struct {
		name   string
		flags  serviceFlags
		path   string // in the client's endpoint
		change func(*httputil.ProxyRequest)
		says   string // "" for accepted
	}{
		{"nothing", serviceFlags{}, "", func(p *httputil.ProxyRequest) { p.Out.Host = p.In.Host }, ""},
		{"host", serviceFlags{}, "", func(*httputil.ProxyRequest) {}, "but the request came with Host"},
		{"base path", serviceFlags{BasePath: "/metering"}, "/metering", func(p *httputil.ProxyRequest) { p.Out.Host = p.In.Host }, ""},
		{"base path taken off", serviceFlags{BasePath: "/metering"}, "/metering", func(p *httputil.ProxyRequest) { p.Out.Host, p.Out.URL.Path = p.In.Host, "/" }, ""},
		{"path taken off", serviceFlags{}, "/metering", func(p *httputil.ProxyRequest) {
			p.Out.Host, p.Out.URL.Path = p.In.Host, "/"
			p.Out.Header.Set("X-Forwarded-Prefix", "/metering")
		}, "right for path '/metering"},
		{"path taken off by a trusted proxy", serviceFlags{TrustedProxy: []string{"127.0.0.0/8"}}, "/metering", func(p *httputil.ProxyRequest) {
			p.Out.Host, p.Out.URL.Path = p.In.Host, "/"
			p.Out.Header.Set("X-Forwarded-Prefix", "/metering")
		}, ""},
		{"header", serviceFlags{}, "", func(p *httputil.ProxyRequest) {
			p.Out.Host = p.In.Host
			p.Out.Header.Set("X-Amz-Cf-Id", "abc")
		}, "--proxy-header"},
		{"header of a trusted proxy", serviceFlags{TrustedProxy: []string{"127.0.0.1"}, ProxyHeader: []string{"x-amz-cf-"}}, "", func(p *httputil.ProxyRequest) {
			p.Out.Host = p.In.Host
			p.Out.Header.Set("X-Amz-Cf-Id", "abc")
		}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.flags.MaxConnections = 100
			s := serve(t, c.flags, func(*service) {})
			target, err := url.Parse(s.aws())
			if err != nil {
				t.Fatal(err)
			}
			transport := &http.Transport{DisableKeepAlives: true}
			proxy := httptest.NewServer(&httputil.ReverseProxy{Transport: transport, Rewrite: func(p *httputil.ProxyRequest) {
				p.SetURL(target)
				p.Out.Header["X-Forwarded-Host"] = []string{p.In.Host}
				c.change(p)
			}})
			defer proxy.Close()
			d, err := sandbox.Describe(t.Context(), s.ledger, sandbox.Endpoints{AWS: s.aws(), Admin: s.admin(), Ops: s.ops()})
			if err != nil {
				t.Fatal(err)
			}
			seller, buyer, subscription, dimension := firstRecord(d)
			endpoint, now, quantity := proxy.URL+c.path, time.Now(), int32(1)
			client := marketplacemetering.New(marketplacemetering.Options{Region: d.Region, BaseEndpoint: &endpoint, HTTPClient: &http.Client{Transport: transport}, RetryMaxAttempts: 1,
				Credentials: credentials.NewStaticCredentialsProvider(seller.AccessKeyID, seller.SecretAccessKey, "")})
			_, err = client.BatchMeterUsage(t.Context(), &marketplacemetering.BatchMeterUsageInput{ProductCode: &subscription.ProductCode,
				UsageRecords: []types.UsageRecord{{Timestamp: &now, CustomerAWSAccountId: &buyer.AccountID, Dimension: &dimension, Quantity: &quantity}}})
			if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("answered with %v, want %q", err, c.says)
			}
		})
	}
}

// TestProxyFlags: what is wrong with a flag is said at start.
func TestProxyFlags(t *testing.T) {
	for _, c := range []struct {
		flags serviceFlags
		says  string
	}{
		{serviceFlags{BasePath: "/a b"}, "--base-path"},
		{serviceFlags{BasePath: "metering"}, "--base-path"},
		{serviceFlags{TrustedProxy: []string{"proxy.example"}}, "--trusted-proxy proxy.example"},
		{serviceFlags{ProxyHeader: []string{"x-amz-cf-"}}, "needs --trusted-proxy"},
		{serviceFlags{TrustedProxy: []string{"::1"}, ProxyHeader: []string{"x-amz-"}}, "--proxy-header"},
	} {
		if _, err := c.flags.proxies(); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%+v: %v, want %s", c.flags, err, c.says)
		}
	}
}
