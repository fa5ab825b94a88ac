// Package meterdtest gives a Go program's own tests a running AWS Marketplace Metering Service: real signatures,
// real agreements, a durable ledger in a temporary folder, and a clock to move.
//
//	func TestReportsUsage(t *testing.T) {
//		srv := meterdtest.New(t)
//		reporter := NewReporter(srv.Seller("Acme")) // a *marketplacemetering.Client
//		…
//		if got := srv.Quantity(meterdtest.Usage{Dimension: "users"}); got != 3 {
//			t.Errorf("metered %d users, want 3", got)
//		}
//	}
//
// The marketplace that a server starts with is that of "meterd dev"; Server.Description tells all of it. When the
// test ends the server stops, and its ledger is verified: a disagreement fails the test.
package meterdtest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/marketplacemetering"
	"github.com/meterd/meterd"
	"github.com/meterd/meterd/internal/adminapi"
	"github.com/meterd/meterd/internal/ledger"
	"github.com/meterd/meterd/internal/metering"
	"github.com/meterd/meterd/internal/sandbox"
	"github.com/meterd/meterd/internal/server"
	"github.com/meterd/meterd/internal/verify"
)

// Config changes what [New] starts. The zero value of a field is its default.
type Config struct {
	// Now is where the clock of a new ledger starts; it stands still until the test moves it. Zero lets it follow the
	// wall clock. Signatures always follow the wall clock. A ledger that Dir holds already keeps its clock.
	Now time.Time

	// Settings changes behaviours that AWS leaves open, by the names of docs/compatibility.md.
	Settings map[string]string

	// AWSLimits applies AWS's quotas: 10, 10 and 5 calls a second, for each account, region and operation.
	AWSLimits bool

	// Refuse, if not nil, is asked before each call, by the operation's name. The code of the exception that the
	// call shall be answered with, ThrottlingException or InternalServiceErrorException, makes it fail; "" lets it pass.
	Refuse func(operation string) (code string)

	// Unprocessed, if not nil, is asked for each new record of BatchMeterUsage: true puts it into
	// UnprocessedRecords, where it is not stored. It runs inside the service: it must neither call the Server nor
	// end the test.
	Unprocessed func(productCode, dimension string, quantity int32) bool

	// Dir keeps the ledger in this folder, so that a second server can be started on it. A temporary one if empty.
	// If the environment variable METERD_TEST_POSTGRES holds the URL of a PostgreSQL database, the ledger is in a schema
	// of that database instead, one for each Dir, and is not removed; several servers may then run on one Dir at once.
	Dir string

	// Log writes the service's log to the test's output.
	Log bool
}

// Server is a running service. Its methods fail the test rather than return errors.
type Server struct {
	URL         string       // the AWS endpoint
	AdminURL    string       // the admin API
	Description *Description // sellers, buyers, products, keys and tokens
	Clock       *Clock       // the ledger clock

	t       testing.TB
	dir     string // or a URL
	ledger  *ledger.Ledger
	handler http.Handler
	admin   *adminapi.Client
	closers []func()
	closed  bool
}

// New starts a service that lives until the test ends. At most one Config may be given.
func New(t testing.TB, config ...Config) *Server {
	t.Helper()
	var cfg Config
	switch len(config) {
	case 0:
	case 1:
		cfg = config[0]
	default:
		t.Fatal("meterdtest.New takes at most one Config")
	}
	s := &Server{t: t, dir: cfg.Dir}
	if s.dir == "" {
		s.dir = t.TempDir()
	}
	s.dir = place(s.dir)
	lc := ledger.Config{Store: s.dir, Settings: metering.DefaultSettings(), Log: slog.New(slog.DiscardHandler)}
	if cfg.Log {
		lc.Log = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	for name, value := range cfg.Settings {
		if err := lc.Settings.Set(name, value); err != nil {
			t.Fatal(err)
		}
	}
	if cfg.AWSLimits {
		lc.Limits = ledger.AWSLimits()
	}
	if cfg.Refuse != nil {
		lc.Faults.Refuse = func(op metering.Operation) *metering.Error { return refusal(t, cfg.Refuse(op.String())) }
	}
	lc.Faults.Unprocessed = cfg.Unprocessed
	l, err := sandbox.Open(context.Background(), lc, sandbox.Options{Now: cfg.Now})
	if err != nil {
		t.Fatal(err)
	}
	s.ledger = l
	s.handler = server.NewAWS(server.AWSConfig{Ledger: l, Log: lc.Log})
	endpoint := httptest.NewServer(s.handler)
	admin := httptest.NewServer(server.Admin(server.AdminConfig{Ledger: l, Log: lc.Log}))
	s.URL, s.AdminURL = endpoint.URL, admin.URL
	s.closers = append(s.closers, endpoint.Close, admin.Close)
	t.Cleanup(s.Close)
	d, err := sandbox.Describe(context.Background(), l, sandbox.Endpoints{AWS: endpoint.URL, Admin: admin.URL})
	if err == nil {
		s.Description, err = described(d)
	}
	if err != nil {
		t.Fatal(err)
	}
	s.admin = adminapi.New(admin.URL, s.Description.AdminToken)
	s.Clock = &Clock{s}
	return s
}

// place is where the ledger of a folder is kept.
func place(dir string) string {
	base := os.Getenv("METERD_TEST_POSTGRES")
	if base == "" {
		return dir
	}
	if strings.Contains(base, "?") {
		base += "&"
	} else {
		base += "?"
	}
	sum := sha256.Sum256([]byte(dir))
	return base + "search_path=meterd_" + hex.EncodeToString(sum[:8])
}

func refusal(t testing.TB, code string) *metering.Error {
	switch code {
	case "":
		return nil
	case "ThrottlingException":
		return metering.Errorf(metering.Throttling, "Rate exceeded (injected by the test).")
	case "InternalServiceErrorException":
		return metering.Errorf(metering.Internal, "injected by the test")
	}
	t.Errorf("meterdtest: Refuse returned %q; it may return ThrottlingException or InternalServiceErrorException", code)
	return nil
}

// Close stops the service before the test's end and verifies its ledger. It may be called more than once.
func (s *Server) Close() {
	s.t.Helper()
	if s.closed {
		return
	}
	s.closed = true
	for _, c := range s.closers {
		c()
	}
	if err := s.ledger.Close(); err != nil {
		s.t.Errorf("closing the ledger: %v", err)
	}
	report, err := verify.Ledger(s.dir, verify.Options{})
	if err != nil {
		s.t.Errorf("verifying the ledger: %v", err)
	}
	for _, p := range report.Problems {
		s.t.Errorf("verifying the ledger: %s", p)
	}
}

// Seller returns an SDK client that signs as the seller of the given name, for the sandbox's region.
func (s *Server) Seller(name string) *marketplacemetering.Client {
	s.t.Helper()
	for _, seller := range s.Description.Sellers {
		if seller.Name == name {
			return s.Client(seller.Credentials, "", "")
		}
	}
	s.t.Fatalf("meterdtest: no seller is named %q", name)
	return nil
}

// Workload returns an SDK client that signs as the n-th workload, from 0, of the first buyer who has that many on
// the platform: ec2, ecs, eks or agentcore.
func (s *Server) Workload(platform string, n int) *marketplacemetering.Client {
	s.t.Helper()
	for _, b := range s.Description.Buyers {
		i := n
		for _, w := range b.Workloads {
			if w.Platform == platform {
				if i == 0 {
					return s.Client(w.Credentials, w.SessionToken, w.Region)
				}
				i--
			}
		}
	}
	s.t.Fatalf("meterdtest: no buyer has %d workloads on %q", n+1, platform)
	return nil
}

// Client returns an SDK client with the given credentials. The session token is empty for users; an empty region
// is the sandbox's.
func (s *Server) Client(c Credentials, sessionToken, region string) *marketplacemetering.Client {
	return marketplacemetering.New(s.options(c, sessionToken, region))
}

// InProcess returns the service as it is, without a network: requests are signed, verified and answered as over
// one, in the caller's goroutine.
func (s *Server) InProcess(c Credentials, sessionToken, region string) meterd.Service {
	o := s.options(c, sessionToken, region)
	o.HTTPClient = inProcess{s.handler}
	return marketplacemetering.New(o)
}

func (s *Server) options(c Credentials, sessionToken, region string) marketplacemetering.Options {
	if region == "" {
		region = s.Description.Region
	}
	return marketplacemetering.Options{
		BaseEndpoint: aws.String(s.URL), Region: region,
		Credentials: credentials.NewStaticCredentialsProvider(c.AccessKeyID, c.SecretAccessKey, sessionToken),
		HTTPClient:  &http.Client{Transport: http.DefaultTransport},
	}
}

// inProcess hands requests to a handler instead of a network.
type inProcess struct{ handler http.Handler }

func (p inProcess) Do(r *http.Request) (*http.Response, error) {
	in := r.Clone(r.Context())
	in.RequestURI, in.RemoteAddr = r.URL.RequestURI(), "127.0.0.1:0"
	if in.Host == "" {
		in.Host = r.URL.Host
	}
	if in.Body == nil {
		in.Body = io.NopCloser(http.NoBody)
	}
	w := httptest.NewRecorder()
	p.handler.ServeHTTP(w, in)
	return w.Result(), nil
}

// Usage chooses usage records; empty members choose all.
type Usage struct {
	ProductCode, LicenseARN, CustomerAWSAccountID, CustomerIdentifier, Dimension, Region, Workload string
	From, To                                                                                       time.Time
}

// Quantity returns the sum of the quantities that were accepted.
func (s *Server) Quantity(u Usage) int64 {
	s.t.Helper()
	return s.sum(u).Quantity
}

// Records returns how many records were accepted.
func (s *Server) Records(u Usage) int64 {
	s.t.Helper()
	return s.sum(u).Records
}

func (s *Server) sum(u Usage) adminapi.UsageSum {
	s.t.Helper()
	sums, err := s.ledger.UsageSums(context.Background(), s.ledger.Local(), adminapi.UsageFilter(u), nil)
	if err != nil {
		s.t.Fatal(err)
	}
	if len(sums.Sums) == 0 {
		return adminapi.UsageSum{}
	}
	return sums.Sums[0]
}

// RegistrationToken issues a registration token, as the marketplace hands one to a buyer who sets up an account.
// The buyer is named by account id or customer identifier.
func (s *Server) RegistrationToken(productCode, buyer string) string {
	s.t.Helper()
	token, err := adminapi.CreateToken.Do(context.Background(), s.admin, adminapi.TokenRequest{ProductCode: productCode, Buyer: buyer})
	if err != nil {
		s.t.Fatal(err)
	}
	return token.RegistrationToken
}

// Subscribe makes an agreement of the buyer for the product, from now by the ledger clock.
func (s *Server) Subscribe(productCode, buyerAccountID string) Subscription {
	s.t.Helper()
	a, err := adminapi.CreateAgreement.Do(context.Background(), s.admin, adminapi.Agreement{ProductCode: productCode, BuyerAccountID: buyerAccountID})
	if err != nil {
		s.t.Fatal(err)
	}
	return Subscription{ProductCode: a.ProductCode, Status: a.Status, AgreementID: a.AgreementID, LicenseARN: a.LicenseARN, CustomerIdentifier: a.CustomerIdentifier}
}

// Unsubscribe begins to end an agreement: last records are taken for an hour.
func (s *Server) Unsubscribe(agreementID string) {
	s.t.Helper()
	if _, err := adminapi.CancelAgreement.Do(context.Background(), s.admin, adminapi.Cancellation{AgreementID: agreementID}); err != nil {
		s.t.Fatal(err)
	}
}

// Clock is the ledger clock of a server. It rules windows, token life, agreements and month close.
type Clock struct{ s *Server }

// Now returns the time by the ledger clock.
func (c *Clock) Now() time.Time { return c.s.ledger.Now().Time() }

// Set moves the clock to a time, before or after now, where it stands still.
func (c *Clock) Set(now time.Time) {
	c.s.t.Helper()
	frozen := true
	c.change(adminapi.ClockChange{Now: &now, Frozen: &frozen})
}

// Advance moves the clock by d, which may be negative. A clock that runs goes on running.
func (c *Clock) Advance(d time.Duration) {
	c.s.t.Helper()
	c.change(adminapi.ClockChange{Advance: d.String()})
}

func (c *Clock) change(change adminapi.ClockChange) {
	c.s.t.Helper()
	if _, err := c.s.ledger.ChangeClock(context.Background(), c.s.ledger.Local(), change); err != nil {
		c.s.t.Fatal(err)
	}
}
