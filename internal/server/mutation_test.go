package server_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/marketplacemetering"
	"github.com/aws/aws-sdk-go-v2/service/marketplacemetering/types"
	"github.com/meterd/meterd/internal/adminapi"
	"github.com/meterd/meterd/internal/iam"
	"github.com/meterd/meterd/internal/ledger"
	"github.com/meterd/meterd/internal/market"
	"github.com/meterd/meterd/internal/sandbox"
	"github.com/meterd/meterd/internal/server"
)

// message is a request as it goes over the wire, so that any byte of it can be changed.
type message struct {
	method, target string
	headers        [][2]string
	body           string
}

func (m *message) index(name string) int {
	return slices.IndexFunc(m.headers, func(h [2]string) bool { return strings.EqualFold(h[0], name) })
}
func (m *message) get(name string) string { return m.headers[m.index(name)][1] }
func (m *message) set(name, value string) { m.headers[m.index(name)][1] = value }
func (m *message) add(name, value string) { m.headers = append(m.headers, [2]string{name, value}) }
func (m *message) del(name string)        { i := m.index(name); m.headers = slices.Delete(m.headers, i, i+1) }
func (m *message) replace(name, old, with string) {
	m.set(name, strings.Replace(m.get(name), old, with, 1))
}

func (m *message) clone() *message {
	c := *m
	c.headers = slices.Clone(m.headers)
	return &c
}

// errCaptured ends a call of the SDK whose request has been captured.
var errCaptured = errors.New("captured")

// signingTime is the SDK's signer with a clock of the test's.
type signingTime time.Time

func (s signingTime) SignHTTP(ctx context.Context, c aws.Credentials, r *http.Request, hash, service, region string, _ time.Time, options ...func(*v4.SignerOptions)) error {
	return v4.NewSigner().SignHTTP(ctx, c, r, hash, service, region, time.Time(s), options...)
}

// capture returns the request that the SDK's client would send.
func (s signer) capture(t testing.TB, call func(*marketplacemetering.Client) error) *message {
	t.Helper()
	var m *message
	client := marketplacemetering.New(marketplacemetering.Options{Region: s.region, BaseEndpoint: aws.String("http://Meter.example:4880"), HTTPSignerV4: signingTime(s.at),
		Credentials: credentials.StaticCredentialsProvider{Value: s.Credentials}, RetryMaxAttempts: 1,
		HTTPClient: roundTripper(func(r *http.Request) (*http.Response, error) {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				return nil, err
			}
			m = &message{method: r.Method, target: r.URL.RequestURI(), body: string(body), headers: [][2]string{{"Host", r.URL.Host}, {"Content-Length", fmt.Sprint(r.ContentLength)}}}
			for name, values := range r.Header {
				for _, v := range values {
					if name != "Content-Length" {
						m.add(name, v)
					}
				}
			}
			return nil, errCaptured
		})})
	if err := call(client); !errors.Is(err, errCaptured) || m == nil {
		t.Fatal(err)
	}
	return m
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) Do(r *http.Request) (*http.Response, error) { return f(r) }

// live is an endpoint that listens.
type live struct {
	*endpoint
	address string
	refused int
}

func goLive(t *testing.T) *live {
	l := &live{endpoint: openEndpoint(t)}
	web := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { l.handler.ServeHTTP(w, r) }))
	web.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	web.Start()
	t.Cleanup(web.Close)
	l.address = web.Listener.Addr().String()
	return l
}

// byHTTP stands for a refusal of net/http's, before the service has seen the request.
const byHTTP = "HTTP"

// send sends a request over a connection of its own.
func (l *live) send(m *message) answer {
	l.Helper()
	conn, err := net.Dial("tcp", l.address)
	if err != nil {
		l.Fatal(err)
	}
	defer conn.Close()
	b := &bytes.Buffer{}
	fmt.Fprintf(b, "%s %s HTTP/1.1\r\n", m.method, m.target)
	for _, h := range m.headers {
		fmt.Fprintf(b, "%s: %s\r\n", h[0], h[1])
	}
	fmt.Fprintf(b, "Connection: close\r\n\r\n%s", m.body)
	if _, err := conn.Write(b.Bytes()); err != nil {
		l.Fatal(err)
	}
	r, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		l.Fatal(err)
	}
	if r.Header.Get("X-Amzn-Requestid") == "" {
		return answer{status: r.StatusCode, code: byHTTP}
	}
	return l.answer(r)
}

// refuse sends a request that must be refused in one of the ways and leave no trace.
func (l *live) refuse(name string, m *message, codes ...string) {
	l.Helper()
	if l.refused++; l.refused%400 == 0 { // with new counts of failures
		l.handler = server.NewAWS(server.AWSConfig{Ledger: l.ledger, Log: slog.New(slog.DiscardHandler)})
	}
	a := l.send(m)
	if !slices.Contains(codes, a.code) || a.status < 400 {
		l.Errorf("%s: %d %s %s; want %s", name, a.status, a.code, a.message, strings.Join(codes, " or "))
	}
	if a.code != byHTTP {
		if call := l.audited(a.requestID); call != nil {
			l.Errorf("%s: there is a call %+v", name, call)
		}
	}
}

// accept sends a request that must be taken.
func (l *live) accept(name string, m *message) {
	l.Helper()
	a := l.send(m)
	if a.status != http.StatusOK || !strings.Contains(a.body, `"Success"`) && !strings.Contains(a.body, "MeteringRecordId") {
		l.Errorf("%s: %d %s %s", name, a.status, a.code, a.body)
	}
}

func (s signer) batch(t testing.TB) *message {
	return s.capture(t, func(c *marketplacemetering.Client) error {
		_, err := c.BatchMeterUsage(t.Context(), &marketplacemetering.BatchMeterUsageInput{ProductCode: aws.String(sandbox.LegacySaaS), UsageRecords: []types.UsageRecord{
			{Timestamp: aws.Time(wall.Add(-time.Hour)), Dimension: aws.String("users"), CustomerAWSAccountId: aws.String("444444444444"), Quantity: aws.Int32(3)}}})
		return err
	})
}

func (s signer) meter(t testing.TB) *message {
	return s.capture(t, func(c *marketplacemetering.Client) error {
		_, err := c.MeterUsage(t.Context(), &marketplacemetering.MeterUsageInput{ProductCode: aws.String(sandbox.Container), Timestamp: aws.Time(wall.Add(-time.Hour)),
			UsageDimension: aws.String("jobs"), UsageQuantity: aws.Int32(3)})
		return err
	})
}

const (
	missing      = "MissingAuthenticationTokenException"
	incomplete   = "IncompleteSignatureException"
	invalid      = "InvalidSignatureException"
	unrecognized = "UnrecognizedClientException"
	unknown      = "UnknownOperationException"
)

// another returns another byte of the same class: letter, digit or neither.
func another(c byte) byte {
	switch {
	case c == 'z', c == 'Z':
		return c - 25
	case c == 'f', c == '9':
		return c - 5 // still a hexadecimal digit
	case 'a' <= c && c < 'z', 'A' <= c && c < 'Z', '0' <= c && c < '9':
		return c + 1
	case c == '/':
		return ';'
	}
	return '/'
}

// TestMutations: of a request that the AWS SDK made, any one thing is changed, and it is refused, over a real
// connection; nothing of it is stored. As it was made, and with changes that mean nothing, it is taken.
func TestMutations(t *testing.T) {
	l := goLive(t)
	made := l.seller.batch(t)
	change := func(edit func(*message)) *message {
		m := made.clone()
		edit(m)
		return m
	}
	signed := strings.Split(made.get("Authorization"), "SignedHeaders=")[1]
	signed, _, _ = strings.Cut(signed, ",")
	isSigned := func(name string) bool { return slices.Contains(strings.Split(signed, ";"), strings.ToLower(name)) }

	// Headers.
	for _, h := range made.headers {
		name, value := h[0], h[1]
		if name != "Authorization" && !isSigned(name) {
			if name != "User-Agent" {
				t.Errorf("the SDK does not sign %s", name)
			}
			continue
		}
		changed, removed, empty, twice := invalid, invalid, invalid, invalid
		switch name {
		case "Authorization":
			changed, removed, empty, twice = incomplete, missing, missing, incomplete
		case "Host":
			removed, twice = byHTTP, byHTTP
		case "Content-Length": // the body is cut short, is absent, or its length is in doubt
			empty, twice = byHTTP, byHTTP
		case "X-Amz-Date":
			removed, empty = incomplete, incomplete
		}
		value = string(another(value[0])) + value[1:]
		if name == "Content-Length" {
			value = fmt.Sprint(len(made.body) - 1)
		}
		l.refuse(name+" changed", change(func(m *message) { m.set(name, value) }), changed, map[bool]string{true: incomplete}[name == "X-Amz-Date"])
		l.refuse(name+" removed", change(func(m *message) { m.del(name) }), removed)
		l.refuse(name+" empty", change(func(m *message) { m.set(name, "") }), empty)
		l.refuse(name+" twice", change(func(m *message) { m.add(name, value) }), twice)
		if name != "Content-Length" { // net/http takes the same length twice for one
			l.refuse(name+" the same twice", change(func(m *message) { m.add(name, m.get(name)) }), twice)
		}
		if name != "Host" && name != "Content-Length" && name != "Authorization" {
			l.refuse(name+" in another case", change(func(m *message) { m.set(name, swapCase(m.get(name))) }), invalid, incomplete)
			l.refuse("a value added to "+name, change(func(m *message) { m.set(name, m.get(name)+",x") }), invalid, incomplete)
			l.refuse(name+" under another name", change(func(m *message) { m.headers[m.index(name)][0] = name + "x" }), removed)
		}
	}
	for _, name := range []string{"X-Amz-Meta", "x-amz-meta", "X-AMZ-TARGET-2", "X-Amz-User-Agent", "X-Amz-Security-Token", "X-Amz-Content-Sha256", "X-Amz-Expires", "X-Amz-Signature", "X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-SignedHeaders"} {
		l.refuse("unsigned "+name, change(func(m *message) { m.add(name, "x") }), invalid)
	}
	l.refuse("an unsigned hash of another body", change(func(m *message) { m.add("X-Amz-Content-Sha256", strings.Repeat("0", 64)) }), invalid)
	l.refuse("an unsigned token that is another's", change(func(m *message) { m.add("X-Amz-Security-Token", l.task.SessionToken) }), invalid)
	for _, host := range []string{"other.example", "meter.example:4880", "Meter.example", "Meter.example:80", "Meter.example.:4880", "127.0.0.1"} {
		l.refuse("for "+host, change(func(m *message) { m.set("Host", host); m.add("X-Forwarded-Host", made.get("Host")) }), invalid)
	}

	// Request line.
	for _, method := range []string{"GET", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "post", "POSTS", "M-SEARCH"} {
		l.refuse(method, change(func(m *message) { m.method = method }), unknown)
	}
	for _, target := range []string{"//", "/.", "/%2F", "/%2e", "/x", "/?", "/?a=b", "/?X-Amz-Signature=x", "/;", "/#", "*", "http://Meter.example:4880/", "http://other.example/"} {
		l.refuse(target, change(func(m *message) { m.target = target }), unknown)
	}

	// Body.
	for i := range made.body {
		b := []byte(made.body)
		b[i] = another(b[i])
		l.refuse(fmt.Sprintf("byte %d of the body", i), change(func(m *message) { m.body = string(b) }), invalid)
	}
	length := func(m *message) { m.set("Content-Length", fmt.Sprint(len(m.body))) }
	l.refuse("body longer", change(func(m *message) { m.body += " "; length(m) }), invalid)
	l.refuse("body shorter", change(func(m *message) { m.body = m.body[:len(m.body)-1]; length(m) }), invalid)
	l.refuse("no body", change(func(m *message) { m.body = ""; length(m) }), invalid)
	l.refuse("body in chunks", change(func(m *message) {
		m.del("Content-Length")
		m.add("Transfer-Encoding", "chunked")
		m.body = fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(m.body), m.body)
	}), invalid)

	// Every byte of Authorization.
	authorization := made.get("Authorization")
	parts := []struct{ text, code string }{{"AWS4-HMAC-SHA256 Credential=", incomplete}, {l.seller.AccessKeyID, unrecognized}, {"/", incomplete}, {wall.Format("20060102"), invalid},
		{"/", incomplete}, {"us-east-1", invalid}, {"/", incomplete}, {"aws-marketplace", invalid}, {"/", incomplete}, {"aws4_request", invalid}, {", SignedHeaders=", incomplete},
		{signed, invalid}, {", Signature=", incomplete}, {authorization[len(authorization)-64:], invalid}}
	at := 0
	for _, p := range parts {
		if !strings.HasPrefix(authorization[at:], p.text) {
			t.Fatalf("Authorization is %q", authorization)
		}
		for range p.text {
			c, before, behind := authorization[at], authorization[:at], authorization[at+1:]
			codes := []string{p.code, incomplete} // where the form itself breaks
			if p.code == unrecognized {
				codes = append(codes, invalid) // another's key
			}
			try := func(what, value string, codes ...string) {
				l.refuse(fmt.Sprintf("Authorization with byte %d, %q, %s", at, c, what), change(func(m *message) { m.set("Authorization", value) }), codes...)
			}
			try("changed", before+string(another(c))+behind, codes...)
			try("behind another byte", before+"0"+string(c)+behind, incomplete, invalid, unrecognized)
			if c != ' ' { // spaces behind commas mean nothing
				try("removed", before+behind, codes...)
				try("twice", before+string(c)+string(c)+behind, codes...)
			}
			if swapped := swapCase(string(c)); swapped != string(c) {
				try("in another case", before+swapped+behind, codes...)
			}
			at++
		}
	}
	for _, key := range []string{l.other.AccessKeyID, l.task.AccessKeyID, "AKIAIOSFODNN7EXAMPLE"} {
		l.refuse("key "+key, change(func(m *message) { m.replace("Authorization", l.seller.AccessKeyID, key) }), invalid, unrecognized)
	}
	for _, region := range []string{"us-west-2", "eu-west-1", "us-east-9", "*"} {
		l.refuse("region "+region, change(func(m *message) { m.replace("Authorization", "us-east-1", region) }), invalid)
	}
	for _, service := range []string{"metering.marketplace", "sts", "s3", "aws-marketplace2"} {
		l.refuse("service "+service, change(func(m *message) { m.replace("Authorization", "aws-marketplace", service) }), invalid)
		s := l.seller
		s.service = service
		l.refuse("signed for service "+service, s.resign(t, made), invalid)
	}
	for i, name := range strings.Split(signed, ";") {
		list := strings.Split(signed, ";")
		l.refuse(name+" not among the signed headers", change(func(m *message) { m.replace("Authorization", signed, strings.Join(slices.Delete(list, i, i+1), ";")) }), invalid)
	}

	// Time.
	day := wall.Format("20060102")
	l.refuse("another second", change(func(m *message) { m.set("X-Amz-Date", wall.Add(time.Second).Format("20060102T150405Z")) }), invalid)
	l.refuse("another day in the scope", change(func(m *message) { m.replace("Authorization", day, wall.AddDate(0, 0, 1).Format("20060102")) }), invalid)
	l.refuse("another day in both", change(func(m *message) {
		m.replace("Authorization", day, wall.AddDate(0, 0, -1).Format("20060102"))
		m.replace("X-Amz-Date", day, wall.AddDate(0, 0, -1).Format("20060102"))
	}), invalid)
	for _, ahead := range []time.Duration{-5*time.Minute - time.Second, 5*time.Minute + time.Second, -24 * time.Hour, 24 * time.Hour} {
		s := l.seller
		s.at = wall.Add(ahead)
		l.refuse("signed "+ahead.String()+" from now", s.batch(t), invalid)
	}

	if n := l.records(); n != 0 {
		t.Errorf("%d records are stored", n)
	}
	t.Logf("%d changes", l.refused)

	l.accept("as made", made)
	l.accept("again", made)
	for _, name := range []string{"Via", "X-Forwarded-For", "Accept", "X-Amzn-Trace-Id"} {
		l.accept("unsigned "+name, change(func(m *message) { m.add(name, "x") }))
	}
	l.accept("an unsigned hash that is right", change(func(m *message) { m.add("X-Amz-Content-Sha256", hexSHA256(m.body)) }))
	l.accept("another User-Agent", change(func(m *message) { m.set("User-Agent", "x") }))
	l.accept("names in another case", change(func(m *message) {
		for i := range m.headers {
			m.headers[i][0] = swapCase(m.headers[i][0])
		}
	}))
	l.accept("another order of headers", change(func(m *message) { slices.Reverse(m.headers) }))
	for _, ahead := range []time.Duration{-5 * time.Minute, 5 * time.Minute} {
		s := l.seller
		s.at = wall.Add(ahead)
		l.accept("signed "+ahead.String()+" from now", s.batch(t))
	}
	if n := l.records(); n != 1 {
		t.Errorf("%d records are stored, want 1", n)
	}
}

// resign signs a request that was made for another signer.
func (s signer) resign(t testing.TB, made *message) *message {
	t.Helper()
	r := httptest.NewRequest(made.method, "http://"+made.get("Host")+made.target, strings.NewReader(made.body))
	for _, h := range made.headers {
		if h[0] != "Host" && h[0] != "Authorization" && h[0] != "X-Amz-Security-Token" {
			r.Header.Add(h[0], h[1])
		}
	}
	if err := v4.NewSigner().SignHTTP(t.Context(), s.Credentials, r, hexSHA256(made.body), s.service, s.region, s.at); err != nil {
		t.Fatal(err)
	}
	m := &message{method: made.method, target: made.target, body: made.body, headers: [][2]string{{"Host", r.Host}}}
	for name, values := range r.Header {
		for _, v := range values {
			m.add(name, v)
		}
	}
	return m
}

// TestMutationsOfSessions does the same to what a session's credentials add: the token.
func TestMutationsOfSessions(t *testing.T) {
	l := goLive(t)
	made := l.task.meter(t)
	token := func(value string) *message {
		m := made.clone()
		m.set("X-Amz-Security-Token", value)
		return m
	}
	task := l.task.SessionToken
	for i := range task {
		l.refuse(fmt.Sprintf("byte %d of the token", i), token(task[:i]+string(another(task[i]))+task[i+1:]), unrecognized)
	}
	for i := range 40 {
		l.refuse(fmt.Sprintf("the token without %d bytes", i+1), token(task[:len(task)-i-1]), unrecognized)
	}
	for name, value := range map[string]string{"another's": l.agent.SessionToken, "two": task + task, "empty": "", "with a line's end in base64": task + "%0A", "padded": task + "==", "long": strings.Repeat("A", 10_000), "the secret": l.task.SecretAccessKey} {
		l.refuse("a token that is "+name, token(value), unrecognized)
	}
	removed := made.clone()
	removed.del("X-Amz-Security-Token")
	l.refuse("token removed", removed, invalid)
	twice := made.clone()
	twice.add("X-Amz-Security-Token", task)
	l.refuse("token twice", twice, invalid)

	// Signed well, but with a token that does not belong to the key.
	foreign := func(change func(*signer)) *message {
		s := l.task
		change(&s)
		return s.meter(t)
	}
	l.refuse("signed without token", foreign(func(s *signer) { s.SessionToken = "" }), unrecognized)
	l.refuse("signed with another's token", foreign(func(s *signer) { s.SessionToken = l.agent.SessionToken }), unrecognized)
	l.refuse("signed with another's key", foreign(func(s *signer) { s.AccessKeyID = l.agent.AccessKeyID }), unrecognized)
	l.refuse("signed with another's secret", foreign(func(s *signer) { s.SecretAccessKey = l.agent.SecretAccessKey }), invalid)
	l.refuse("a user's key with a token", foreign(func(s *signer) { s.AccessKeyID, s.SecretAccessKey = l.seller.AccessKeyID, l.seller.SecretAccessKey }), unrecognized)

	// A role that is deleted and made again under its name does not revive its sessions.
	role := adminapi.Principal{AccountID: "444444444444", Name: "brief", Allow: []string{"aws-marketplace:MeterUsage"}}
	if _, err := ledger.Act(context.Background(), l.ledger, l.ledger.Local(), market.CreatePrincipal(iam.Role, role)); err != nil {
		t.Fatal(err)
	}
	w, err := l.ledger.CreateWorkloadCredentials(context.Background(), l.ledger.Local(), adminapi.WorkloadRequest{Workload: adminapi.Workload{AccountID: "444444444444", Platform: "ecs", ResourceID: "task-x", Region: "us-east-1", Role: role.Name}})
	if err != nil {
		t.Fatal(err)
	}
	brief := l.task
	brief.Credentials = aws.Credentials{AccessKeyID: w.AccessKeyID, SecretAccessKey: w.SecretAccessKey, SessionToken: w.SessionToken}
	l.accept("a session of a role that is there", brief.meter(t))
	for _, again := range []bool{false, true} {
		if again {
			_, err = ledger.Act(context.Background(), l.ledger, l.ledger.Local(), market.CreatePrincipal(iam.Role, role))
		} else {
			_, err = ledger.Act(context.Background(), l.ledger, l.ledger.Local(), market.DeletePrincipal(iam.Role, adminapi.PrincipalPath{AccountID: role.AccountID, Name: role.Name}))
		}
		if err != nil {
			t.Fatal(err)
		}
		l.refuse(fmt.Sprintf("a deleted role's session; made again: %v", again), brief.meter(t), unrecognized)
	}
	if n := l.records(); n != 1 {
		t.Errorf("%d records are stored, want 1", n)
	}
	t.Logf("%d changes", l.refused)
	l.accept("as made", made)
	if n := l.records(); n != 2 {
		t.Errorf("%d records are stored, want 2", n)
	}
}

func swapCase(s string) string {
	return strings.Map(func(r rune) rune {
		if 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' {
			return r ^ 0x20
		}
		return r
	}, s)
}

func hexSHA256(s string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(s))) }
