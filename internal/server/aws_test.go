package server_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/google/uuid"
	"github.com/meterd/meterd/internal/adminapi"
	"github.com/meterd/meterd/internal/ledger"
	"github.com/meterd/meterd/internal/metering"
	"github.com/meterd/meterd/internal/pgtest"
	"github.com/meterd/meterd/internal/sandbox"
	"github.com/meterd/meterd/internal/server"
	"github.com/meterd/meterd/internal/verify"
)

// wall is the time by the clocks of everyone in these tests: signatures, the ledger and usage.
var wall = time.Date(2026, 11, 23, 15, 20, 0, 0, time.UTC)

// endpoint is the AWS endpoint of a seeded sandbox.
type endpoint struct {
	testing.TB
	dir     string
	ledger  *ledger.Ledger
	handler http.Handler
	seller  signer
	other   signer // the other seller
	task    signer
	agent   signer
	token   string // a registration token of the legacy product
	sent    int    // requests; each comes from an address of its own
}

// signer is whose credentials sign a request, and how.
type signer struct {
	aws.Credentials
	region, service string
	at              time.Time
}

func openEndpoint(t testing.TB, change ...func(*ledger.Config)) *endpoint {
	t.Helper()
	return openEndpointWith(t, server.AWSConfig{}, change...)
}

func openEndpointWith(t testing.TB, config server.AWSConfig, change ...func(*ledger.Config)) *endpoint {
	t.Helper()
	e := &endpoint{TB: t, dir: pgtest.Place(t, t.TempDir())}
	cfg := ledger.Config{Store: e.dir, Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return wall }}
	for _, c := range change {
		c(&cfg)
	}
	e.dir = cfg.Store
	var err error
	if e.ledger, err = sandbox.Open(t.Context(), cfg, sandbox.Options{Now: wall}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.close)
	config.Ledger, config.Log = e.ledger, cfg.Log
	e.handler = server.NewAWS(config)
	d, err := sandbox.Describe(t.Context(), e.ledger, sandbox.Endpoints{})
	if err != nil {
		t.Fatal(err)
	}
	with := func(c sandbox.Credentials, session string) signer {
		return signer{Credentials: aws.Credentials{AccessKeyID: c.AccessKeyID, SecretAccessKey: c.SecretAccessKey, SessionToken: session},
			region: "us-east-1", service: "aws-marketplace", at: wall}
	}
	e.seller, e.other = with(d.Sellers[0].Credentials, ""), with(d.Sellers[1].Credentials, "")
	for _, w := range d.Buyers[0].Workloads {
		switch w.Platform {
		case "ecs":
			e.task = with(w.Credentials, w.SessionToken)
		case "agentcore":
			e.agent = with(w.Credentials, w.SessionToken)
		}
	}
	e.token = d.Buyers[0].Subscriptions[0].RegistrationToken
	return e
}

func (e *endpoint) close() {
	e.Helper()
	if err := e.ledger.Close(); err != nil {
		e.Error(err)
	}
	report, err := verify.Ledger(e.dir, verify.Options{})
	if err != nil || len(report.Problems) > 0 {
		e.Errorf("verify: %v %q", err, report.Problems)
	}
}

// request returns a signed request as a server gets it.
func (e *endpoint) request(s signer, operation, body string) *http.Request {
	e.Helper()
	r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body))
	r.Header.Set("Content-Type", "application/x-amz-json-1.1")
	r.Header.Set("X-Amz-Target", "AWSMPMeteringService."+operation)
	e.sign(s, r, body)
	return r
}

func (e *endpoint) sign(s signer, r *http.Request, body string) {
	e.Helper()
	hash := sha256.Sum256([]byte(body))
	if err := v4.NewSigner().SignHTTP(context.Background(), s.Credentials, r, hex.EncodeToString(hash[:]), s.service, s.region, s.at); err != nil {
		e.Fatal(err)
	}
	e.sent++
	r.RemoteAddr = fmt.Sprintf("10.%d.%d.%d:1", e.sent>>16, e.sent>>8&255, e.sent&255)
}

// answer is what a request got.
type answer struct {
	status        int
	code, message string // of an exception
	requestID     string
	body          string
}

func (e *endpoint) serve(r *http.Request) answer {
	e.Helper()
	w := httptest.NewRecorder()
	e.handler.ServeHTTP(w, r)
	return e.answer(w.Result())
}

func (e *endpoint) call(s signer, operation, body string) answer {
	e.Helper()
	return e.serve(e.request(s, operation, body))
}

// answer checks that an answer has the form that AWS SDKs understand (metering-api 1.3).
func (e *endpoint) answer(r *http.Response) answer {
	e.Helper()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		e.Fatal(err)
	}
	a := answer{status: r.StatusCode, requestID: r.Header.Get("X-Amzn-Requestid"), body: string(body)}
	if id, err := uuid.Parse(a.requestID); err != nil || id.String() != a.requestID {
		e.Errorf("x-amzn-RequestId is %q", a.requestID)
	}
	if got := r.Header.Get("Content-Type"); got != "application/x-amz-json-1.1" {
		e.Errorf("Content-Type is %q", got)
	}
	if got := r.Header.Get("Date"); got != wall.Format(http.TimeFormat) {
		e.Errorf("Date is %q", got)
	}
	if got := r.Header.Get("Content-Length"); got != strconv.Itoa(len(body)) {
		e.Errorf("Content-Length is %q for %d bytes", got, len(body))
	}
	var members map[string]any
	d := json.NewDecoder(bytes.NewReader(body))
	if err := d.Decode(&members); err != nil || d.More() {
		e.Errorf("the body is not one JSON object: %q", body)
	}
	if a.status == http.StatusOK {
		if r.Header.Get("X-Amzn-Errortype") != "" {
			e.Error("a success has an error type")
		}
		return a
	}
	a.code, _ = members["__type"].(string)
	a.message, _ = members["message"].(string)
	if a.code == "" || a.message == "" || len(members) != 2 || r.Header.Get("X-Amzn-Errortype") != a.code || strings.ContainsAny(a.message, "\r\n") {
		e.Errorf("status %d, X-Amzn-ErrorType %q, body %s: want __type and message", a.status, r.Header.Get("X-Amzn-Errortype"), body)
	}
	if a.status < 400 || a.status == http.StatusInternalServerError != (a.code == "InternalServiceErrorException") {
		e.Errorf("%s has status %d", a.code, a.status)
	}
	return a
}

// records returns how many usage records are stored.
func (e *endpoint) records() int64 {
	e.Helper()
	sums, err := e.ledger.UsageSums(context.Background(), e.ledger.Local(), adminapi.UsageFilter{}, nil)
	if err != nil || len(sums.Sums) != 1 {
		e.Fatalf("sums %v, error %v", sums, err)
	}
	return sums.Sums[0].Records
}

// audited returns the audit of a call, or nil if there is none.
func (e *endpoint) audited(requestID string) *adminapi.Call {
	e.Helper()
	call, err := e.ledger.CallRecord(context.Background(), e.ledger.Local(), requestID)
	var refusal *metering.Error
	if errors.As(err, &refusal) && refusal.Kind == metering.NotFound {
		return nil
	}
	if err != nil {
		e.Fatal(err)
	}
	return &call
}

func usageRecord(members string) string {
	return fmt.Sprintf(`{"Timestamp":%d,"Dimension":"users","CustomerAWSAccountId":"444444444444"%s}`, wall.Unix()-600, members)
}

func batchBody(records ...string) string {
	return `{"ProductCode":"` + sandbox.LegacySaaS + `","UsageRecords":[` + strings.Join(records, ",") + `]}`
}

func meterBody(members string) string {
	return fmt.Sprintf(`{"ProductCode":"%s","UsageDimension":"jobs","Timestamp":%d%s}`, sandbox.Container, wall.Unix()-600, members)
}

// good returns a request of each operation that succeeds.
func (e *endpoint) good() map[string]struct {
	signer
	body string
} {
	type request = struct {
		signer
		body string
	}
	return map[string]request{
		"BatchMeterUsage": {e.seller, batchBody(usageRecord(`,"Quantity":3`))},
		"MeterUsage":      {e.task, meterBody(`,"UsageQuantity":3`)},
		"RegisterUsage":   {e.task, `{"ProductCode":"` + sandbox.Hourly + `","PublicKeyVersion":2}`},
		"ResolveCustomer": {e.seller, `{"RegistrationToken":"` + e.token + `"}`},
	}
}

// Whatever is wrong with a signature, no operation is reached: nothing is stored, not even a call, and only then is
// the same request, signed well, taken.
func TestNothingWithoutSignature(t *testing.T) {
	e := openEndpoint(t)
	header := func(name string, values ...string) func(*http.Request) {
		return func(r *http.Request) {
			if len(values) == 0 {
				r.Header.Del(name)
			} else {
				r.Header[http.CanonicalHeaderKey(name)] = values
			}
		}
	}
	authorization := func(change func(string) string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set("Authorization", change(r.Header.Get("Authorization"))) }
	}
	replace := func(old, new string) func(*http.Request) {
		return authorization(func(s string) string { return strings.Replace(s, old, new, 1) })
	}
	for _, c := range []struct {
		name  string
		sign  func(s *signer)          // before signing
		after func(r *http.Request)    // after it
		codes string                   // the exceptions that are right
		body  func(body string) string // sent in place of the one that was signed
	}{
		{name: "no Authorization", after: header("Authorization"), codes: "MissingAuthenticationTokenException"},
		{name: "empty Authorization", after: header("Authorization", ""), codes: "MissingAuthenticationTokenException"},
		{name: "bearer token", after: header("Authorization", "Bearer "+sandbox.AdminToken), codes: "IncompleteSignatureException"},
		{name: "Basic", after: header("Authorization", "Basic QUtJQVNBTkRCT1g6eA=="), codes: "IncompleteSignatureException"},
		{name: "two Authorization headers", after: func(r *http.Request) { r.Header.Add("Authorization", r.Header.Get("Authorization")) }, codes: "IncompleteSignatureException"},
		{name: "another algorithm", after: replace("AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256"), codes: "IncompleteSignatureException"},
		{name: "no signature", after: authorization(func(s string) string { s, _, _ = strings.Cut(s, ", Signature="); return s }), codes: "IncompleteSignatureException"},
		{name: "empty signature", after: authorization(func(s string) string { s, _, _ = strings.Cut(s, "Signature="); return s + "Signature=" }), codes: "IncompleteSignatureException"},
		{name: "signature of zeros", after: authorization(func(s string) string { return s[:len(s)-64] + strings.Repeat("0", 64) }), codes: "InvalidSignatureException"},
		{name: "one digit of the signature", after: authorization(func(s string) string {
			return s[:len(s)-1] + string("123456789abcdef0"[strings.IndexByte("0123456789abcdef", s[len(s)-1])])
		}), codes: "InvalidSignatureException"},
		{name: "a body that was not signed", body: func(s string) string { return s + " " }, codes: "InvalidSignatureException"},
		{name: "no body", body: func(string) string { return "" }, codes: "InvalidSignatureException"},
		{name: "another target", after: func(r *http.Request) {
			other := map[string]string{"AWSMPMeteringService.BatchMeterUsage": "AWSMPMeteringService.ResolveCustomer"}[r.Header.Get("X-Amz-Target")]
			if other == "" {
				other = "AWSMPMeteringService.BatchMeterUsage"
			}
			r.Header.Set("X-Amz-Target", other)
		}, codes: "InvalidSignatureException"},
		{name: "two targets", after: func(r *http.Request) { r.Header.Add("X-Amz-Target", "AWSMPMeteringService.BatchMeterUsage") }, codes: "InvalidSignatureException IncompleteSignatureException"},
		{name: "another host", after: func(r *http.Request) { r.Host = "other.example" }, codes: "InvalidSignatureException"},
		{name: "an x-amz header that was not signed", after: header("X-Amz-Meta", "x"), codes: "InvalidSignatureException"},
		{name: "another date", after: header("X-Amz-Date", wall.Add(time.Second).Format("20060102T150405Z")), codes: "InvalidSignatureException"},
		{name: "no date", after: header("X-Amz-Date"), codes: "InvalidSignatureException IncompleteSignatureException"},
		{name: "the signed headers do not name the target", after: replace(";x-amz-target", ""), codes: "InvalidSignatureException"},
		{name: "unsigned payload", after: header("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD"), codes: "InvalidSignatureException"},
		{name: "an hour ago", sign: func(s *signer) { s.at = wall.Add(-time.Hour) }, codes: "InvalidSignatureException"},
		{name: "an hour ahead", sign: func(s *signer) { s.at = wall.Add(time.Hour) }, codes: "InvalidSignatureException"},
		{name: "a day ago", sign: func(s *signer) { s.at = wall.AddDate(0, 0, -1) }, codes: "InvalidSignatureException"},
		{name: "another's secret", sign: func(s *signer) { s.SecretAccessKey = e.other.SecretAccessKey }, codes: "InvalidSignatureException"},
		{name: "empty secret", sign: func(s *signer) { s.SecretAccessKey = "x" }, codes: "InvalidSignatureException"},
		{name: "unknown access key", sign: func(s *signer) { s.AccessKeyID = "AKIAIOSFODNN7EXAMPLE" }, codes: "UnrecognizedClientException"},
		{name: "access key in lower case", sign: func(s *signer) { s.AccessKeyID = strings.ToLower(s.AccessKeyID) }, codes: "UnrecognizedClientException InvalidSignatureException IncompleteSignatureException"},
		{name: "for another service", sign: func(s *signer) { s.service = "metering.marketplace" }, codes: "InvalidSignatureException"},
		{name: "for an unknown region", sign: func(s *signer) { s.region = "us-east-9" }, codes: "InvalidSignatureException"},
		{name: "made-up session token", sign: func(s *signer) { s.SessionToken = "x" }, codes: "UnrecognizedClientException"},
		{name: "another's session token", sign: func(s *signer) { s.SessionToken = e.agent.SessionToken }, codes: "UnrecognizedClientException"},
		{name: "another's key and token", sign: func(s *signer) { s.AccessKeyID, s.SessionToken = e.agent.AccessKeyID, e.agent.SessionToken }, codes: "InvalidSignatureException"},
		{name: "a session's key without its token", sign: func(s *signer) {
			s.AccessKeyID, s.SecretAccessKey, s.SessionToken = e.task.AccessKeyID, e.task.SecretAccessKey, ""
		}, codes: "UnrecognizedClientException"},
		{name: "GET", after: func(r *http.Request) { r.Method = http.MethodGet }, codes: "UnknownOperationException"},
		{name: "HEAD", after: func(r *http.Request) { r.Method = http.MethodHead }, codes: "UnknownOperationException"},
		{name: "OPTIONS", after: func(r *http.Request) { r.Method = http.MethodOptions }, codes: "UnknownOperationException"},
		{name: "PUT", after: func(r *http.Request) { r.Method = http.MethodPut }, codes: "UnknownOperationException"},
		{name: "another path", after: func(r *http.Request) { r.RequestURI, r.URL.Path = "/x", "/x" }, codes: "UnknownOperationException"},
		{name: "two slashes", after: func(r *http.Request) { r.RequestURI, r.URL.Path = "//", "//" }, codes: "UnknownOperationException"},
		{name: "a query", after: func(r *http.Request) { r.RequestURI, r.URL.RawQuery = "/?x=1", "x=1" }, codes: "UnknownOperationException"},
		{name: "an absolute target", after: func(r *http.Request) { r.RequestURI = "http://example.com/" }, codes: "UnknownOperationException"},
		{name: "the signature in the query", after: func(r *http.Request) {
			r.RequestURI = "/?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=" + e.seller.AccessKeyID
			r.Header.Del("Authorization")
		}, codes: "UnknownOperationException"},
	} {
		for operation, g := range e.good() {
			s := g.signer
			if c.sign != nil {
				c.sign(&s)
			}
			r := e.request(s, operation, g.body)
			if c.body != nil {
				body := c.body(g.body)
				r.Body, r.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
			}
			if c.after != nil {
				c.after(r)
			}
			a := e.serve(r)
			if !strings.Contains(" "+c.codes+" ", " "+a.code+" ") || a.status == http.StatusOK {
				t.Errorf("%s, %s: %d %s %s; want %s", operation, c.name, a.status, a.code, a.message, c.codes)
			}
			if call := e.audited(a.requestID); call != nil {
				t.Errorf("%s, %s: there is a call %+v", operation, c.name, call)
			}
		}
	}
	if n := e.records(); n != 0 {
		t.Errorf("%d records are stored", n)
	}
	for operation, g := range e.good() {
		a := e.call(g.signer, operation, g.body)
		if a.status != http.StatusOK {
			t.Errorf("%s, signed well: %d %s %s", operation, a.status, a.code, a.message)
		}
		if call := e.audited(a.requestID); call == nil || call.Operation != operation || call.Error != "" {
			t.Errorf("%s, signed well: the audit says %+v", operation, call)
		}
	}
	if n := e.records(); n != 2 {
		t.Errorf("%d records are stored, want 2", n)
	}
}

// An address that keeps failing to authenticate is no longer told why, nor is anyone who keeps guessing at one access
// key, from however many addresses; who signs well is served, from there and with that key too.
func TestFailuresAreBounded(t *testing.T) {
	e := openEndpoint(t)
	g := e.good()["BatchMeterUsage"]
	from := func(address string, s signer) answer {
		r := e.request(s, "BatchMeterUsage", g.body)
		r.RemoteAddr = address
		return e.serve(r)
	}
	wrong, other, unknown := g.signer, e.other, g.signer
	wrong.SecretAccessKey, other.SecretAccessKey = "guessed", "guessed"
	for name, guess := range map[string]func(i int) answer{
		"from one address": func(i int) answer {
			unknown.AccessKeyID = fmt.Sprint("AKIAMADEUP", i)
			return from(fmt.Sprint("192.0.2.1:", i), unknown)
		},
		"from one network of IPv6": func(i int) answer {
			unknown.AccessKeyID = fmt.Sprint("AKIAINVENTED", i)
			return from(fmt.Sprintf("[2001:db8::%x:%x]:1", i, i), unknown)
		},
		"at one key": func(i int) answer { return from(fmt.Sprintf("10.1.%d.%d:1", i>>8, i&255), wrong) },
	} {
		told := 0 // why; not all that may be, for those that share a place with what was held back before are not, by chance
		for i := range 1000 {
			switch code := guess(i).code; code {
			case "InvalidSignatureException", "UnrecognizedClientException":
				told++
			case "ThrottlingException":
			default:
				t.Fatalf("attempt %d %s: %s", i, name, code)
			}
		}
		if told < 450 || told > 500 {
			t.Errorf("of 1000 guesses %s at one moment %d were told why, want 500", name, told)
		}
	}
	if a := from("192.0.2.1:2", g.signer); a.status != http.StatusOK {
		t.Errorf("the right secret of that key from that address: %d %s", a.status, a.code)
	}
	told := 0
	for i := range 4 { // of which one may share a place with those above, by a rare chance
		unknown.AccessKeyID = fmt.Sprint("AKIAUNTRIED", i)
		if a := from(fmt.Sprintf("192.0.2.%d:1", 10+i), unknown); a.code == "UnrecognizedClientException" {
			told++
		}
	}
	if told < 3 {
		t.Errorf("of 4 other addresses with other keys, %d are told why", told)
	}
	if a := from("192.0.2.1:1", other); a.code != "ThrottlingException" {
		t.Errorf("from that address with another key: %d %s", a.status, a.code)
	}
	if a := from("192.0.2.2:1", wrong); a.code != "ThrottlingException" {
		t.Errorf("from another address with that key: %d %s", a.status, a.code)
	}
}

func TestHostileRequests(t *testing.T) {
	e := openEndpoint(t)
	const (
		serialization = "SerializationException"
		validation    = "ValidationException"
	)
	record := func(members string) string { return batchBody(usageRecord(members)) }
	with := func(name, value string) string { // a good record with one member of another value
		r := usageRecord(`,"Quantity":1,"UsageAllocations":[{"AllocatedUsageQuantity":1,"Tags":[{"Key":"k","Value":"v"}]}]`)
		var members map[string]json.RawMessage
		if err := json.Unmarshal([]byte(r), &members); err != nil {
			t.Fatal(err)
		}
		members[name] = json.RawMessage(value)
		b := &bytes.Buffer{}
		for name, value := range members {
			fmt.Fprintf(b, `,"%s":%s`, name, value)
		}
		return batchBody("{" + b.String()[1:] + "}")
	}
	type request struct{ name, body, want string }
	for operation, requests := range map[string][]request{
		"BatchMeterUsage": {
			{"nothing", "", serialization},
			{"spaces", "   ", serialization},
			{"an open brace", "{", serialization},
			{"null", "null", serialization},
			{"a list", "[]", serialization},
			{"a string", `"x"`, serialization},
			{"a number", "7", serialization},
			{"an empty object", "{}", validation},
			{"something behind it", batchBody() + "x", serialization},
			{"two objects", batchBody() + batchBody(), serialization},
			{"a byte order mark", "\xef\xbb\xbf" + batchBody(), serialization},
			{"UTF-16", "\xff\xfe{\x00}\x00", serialization},
			{"a NUL", batchBody() + "\x00", serialization},
			{"a comment", "/**/" + batchBody(), serialization},
			{"single quotes", `{'UsageRecords':[]}`, serialization},
			{"a comma at the end", `{"UsageRecords":[],}`, serialization},
			{"null records", `{"UsageRecords":null}`, validation},
			{"records in another case", `{"usagerecords":[]}`, validation},
			{"records that are an object", `{"UsageRecords":{}}`, serialization},
			{"records that are a string", `{"UsageRecords":"[]"}`, serialization},
			{"a record that is null", batchBody("null"), serialization},
			{"a record that is a list", batchBody("[]"), serialization},
			{"a record that is a number", batchBody("1"), serialization},
			{"a record without members", batchBody("{}"), validation},
			{"26 records", batchBody(strings.Split(strings.Repeat(usageRecord("")+";", 25)+usageRecord(""), ";")...), validation},
			{"5,000 records", batchBody(strings.Split(strings.Repeat(usageRecord("")+";", 4999)+usageRecord(""), ";")...), validation},
			{"product code that is a number", `{"ProductCode":1,"UsageRecords":[]}`, serialization},
			{"product code that is a list", `{"ProductCode":["x"],"UsageRecords":[]}`, serialization},
			{"product code with a newline", `{"ProductCode":"a\nb","UsageRecords":[]}`, validation},
			{"no Timestamp", batchBody(`{"Dimension":"users","CustomerAWSAccountId":"444444444444"}`), validation},
			{"null Timestamp", with("Timestamp", "null"), validation},
			{"Timestamp that is a word", with("Timestamp", `"yesterday"`), serialization},
			{"Timestamp that is a number in quotes", with("Timestamp", `"1795446000"`), serialization},
			{"Timestamp that is true", with("Timestamp", "true"), serialization},
			{"Timestamp of 1e400", with("Timestamp", "1e400"), serialization},
			{"Timestamp of 1e15", with("Timestamp", "1e15"), serialization},
			{"Timestamp in milliseconds", with("Timestamp", "1795446000000"), serialization},
			{"Timestamp in the year 9999", with("Timestamp", "253402300799.999"), "TimestampOutOfBoundsException"},
			{"Timestamp in the year 2400", with("Timestamp", "13569465600"), "TimestampOutOfBoundsException"},
			{"Timestamp in the year 1", with("Timestamp", "-62135596800"), "TimestampOutOfBoundsException"},
			{"Timestamp of 0", with("Timestamp", "0"), "TimestampOutOfBoundsException"},
			{"Timestamp of -0", with("Timestamp", "-0"), "TimestampOutOfBoundsException"},
			{"Timestamp NaN", strings.Replace(record(""), fmt.Sprint(wall.Unix()-600), "NaN", 1), serialization},
			{"Quantity in quotes", with("Quantity", `"1"`), serialization},
			{"Quantity with a fraction", with("Quantity", "1.5"), serialization},
			{"Quantity beyond 32 bits", with("Quantity", "2147483648"), serialization},
			{"Quantity beyond 64 bits", with("Quantity", "18446744073709551617"), serialization},
			{"Quantity of 1e10", with("Quantity", "1e10"), serialization},
			{"Quantity of a thousand digits", with("Quantity", strings.Repeat("9", 1000)), serialization},
			{"Quantity of -1", with("Quantity", "-1"), validation},
			{"Quantity of -2147483648", with("Quantity", "-2147483648"), validation},
			{"Quantity true", with("Quantity", "true"), serialization},
			{"Quantity +1", strings.Replace(record(`,"Quantity":1`), ":1}", ":+1}", 1), serialization},
			{"Quantity 01", strings.Replace(record(`,"Quantity":1`), ":1}", ":01}", 1), serialization},
			{"Dimension that is a number", with("Dimension", "1"), serialization},
			{"Dimension that is null", with("Dimension", "null"), validation},
			{"Dimension of invalid UTF-8", strings.Replace(record(""), "users", "us\xffers", 1), serialization},
			{"Dimension with half a surrogate pair", strings.Replace(record(""), "users", `\ud800`, 1), serialization},
			{"Dimension with a raw newline", strings.Replace(record(""), "users", "us\ners", 1), serialization},
			{"Dimension with a bad escape", strings.Replace(record(""), "users", `\x41`, 1), serialization},
			{"Dimension without end", record("")[:60], serialization},
			{"a Dimension of 100,000 characters", with("Dimension", `"`+strings.Repeat("d", 100_000)+`"`), validation},
			{"CustomerAWSAccountId that is a number", with("CustomerAWSAccountId", "444444444444"), serialization},
			{"LicenseArn of 100,000 characters", strings.Replace(batchBody(usageRecord(`,"LicenseArn":"arn:aws:x:::`+strings.Repeat("a", 100_000)+`"`)), `"ProductCode":"`+sandbox.LegacySaaS+`",`, "", 1), "InvalidLicenseException"},
			{"a member twice", record(`,"Quantity":1,"Quantity":2`), serialization},
			{"a member twice, once escaped", record(`,"Quantity":1,"Quantit\u0079":2`), serialization},
			{"records twice", `{"UsageRecords":[],"UsageRecords":[]}`, serialization},
			{"an unknown member twice", record(`,"X":1,"X":2`), serialization},
			{"UsageAllocations that is an object", with("UsageAllocations", "{}"), serialization},
			{"no allocations", with("UsageAllocations", "[]"), validation},
			{"an allocation that is null", with("UsageAllocations", "[null]"), serialization},
			{"an allocation without quantity", with("UsageAllocations", "[{}]"), validation},
			{"AllocatedUsageQuantity in quotes", with("UsageAllocations", `[{"AllocatedUsageQuantity":"1"}]`), serialization},
			{"AllocatedUsageQuantity of -1", with("UsageAllocations", `[{"AllocatedUsageQuantity":2},{"AllocatedUsageQuantity":-1,"Tags":[{"Key":"k","Value":"v"}]}]`), validation},
			{"2,501 allocations", with("UsageAllocations", "["+strings.Repeat(`{"AllocatedUsageQuantity":0},`, 2500)+`{"AllocatedUsageQuantity":0}]`), validation},
			{"Tags that is an object", with("UsageAllocations", `[{"AllocatedUsageQuantity":1,"Tags":{"k":"v"}}]`), serialization},
			{"no tags in Tags", with("UsageAllocations", `[{"AllocatedUsageQuantity":1,"Tags":[]}]`), "InvalidTagException"},
			{"a thousand tags", with("UsageAllocations", `[{"AllocatedUsageQuantity":1,"Tags":[`+strings.Repeat(`{"Key":"k","Value":"v"},`, 999)+`{"Key":"k","Value":"v"}]}]`), "InvalidTagException"},
			{"a tag without Value", with("UsageAllocations", `[{"AllocatedUsageQuantity":1,"Tags":[{"Key":"k"}]}]`), "InvalidTagException"},
			{"a Key that is a number", with("UsageAllocations", `[{"AllocatedUsageQuantity":1,"Tags":[{"Key":1,"Value":"v"}]}]`), serialization},
			{"100,000 lists in each other", record(`,"X":` + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000)), serialization},
			{"100,000 objects in each other", record(`,"X":` + strings.Repeat(`{"a":`, 100_000) + "1" + strings.Repeat("}", 100_000)), serialization},
			{"100,000 open lists", strings.Repeat("[", 100_000), serialization},
			{"an unknown member of invalid UTF-8", record(`,"X":"` + "\xc0\xaf" + `"`), serialization},
			{"a name of invalid UTF-8", record(`,"` + "\xff" + `":1`), serialization},
			{"1 MB", batchBody() + strings.Repeat(" ", 1<<20-len(batchBody())), "RequestEntityTooLargeException"},
			{"3 MB", strings.Repeat("x", 3<<20), "RequestEntityTooLargeException"},
			{"one good record and one bad", batchBody(usageRecord(`,"Quantity":3`), usageRecord(`,"Quantity":"3"`)), serialization},
			{"one good record and one that is too old", batchBody(usageRecord(`,"Quantity":3`), strings.Replace(usageRecord(""), fmt.Sprint(wall.Unix()-600), fmt.Sprint(wall.Unix()-30*3600), 1)), "TimestampOutOfBoundsException"},
			{"one good record and one of an unknown dimension", batchBody(usageRecord(`,"Quantity":3`), strings.Replace(usageRecord(""), "users", "Users", 1)), "InvalidUsageDimensionException"},
		},
		"MeterUsage": {
			{"nothing", "", serialization},
			{"an empty object", "{}", validation},
			{"null", "null", serialization},
			{"UsageQuantity in quotes", meterBody(`,"UsageQuantity":"1"`), serialization},
			{"UsageQuantity beyond 32 bits", meterBody(`,"UsageQuantity":4294967297`), serialization},
			{"UsageQuantity of -1", meterBody(`,"UsageQuantity":-1`), validation},
			{"DryRun in quotes", meterBody(`,"DryRun":"true"`), serialization},
			{"DryRun that is 1", meterBody(`,"DryRun":1`), serialization},
			{"ClientToken that is a number", meterBody(`,"ClientToken":1`), serialization},
			{"empty ClientToken", meterBody(`,"ClientToken":""`), validation},
			{"ClientToken of 65 characters", meterBody(`,"ClientToken":"` + strings.Repeat("x", 65) + `"`), validation},
			{"no UsageDimension", `{"ProductCode":"` + sandbox.Container + `","Timestamp":1795446000}`, validation},
			{"Dimension in place of UsageDimension", `{"ProductCode":"` + sandbox.Container + `","Timestamp":1795446000,"Dimension":"jobs"}`, validation},
			{"no Timestamp", `{"ProductCode":"` + sandbox.Container + `","UsageDimension":"jobs"}`, validation},
			{"no ProductCode", `{"Timestamp":1795446000,"UsageDimension":"jobs"}`, validation},
			{"centuries ago", strings.Replace(meterBody(""), fmt.Sprint(wall.Unix()-600), "-9000000000", 1), "TimestampOutOfBoundsException"},
			{"centuries ahead", strings.Replace(meterBody(""), fmt.Sprint(wall.Unix()-600), "13569465600", 1), "TimestampOutOfBoundsException"},
			{"1 MB", strings.Repeat(" ", 1<<20), "RequestEntityTooLargeException"},
		},
		"RegisterUsage": {
			{"nothing", "", serialization},
			{"an empty object", "{}", validation},
			{"PublicKeyVersion in quotes", `{"ProductCode":"` + sandbox.Hourly + `","PublicKeyVersion":"2"}`, serialization},
			{"PublicKeyVersion with a fraction", `{"ProductCode":"` + sandbox.Hourly + `","PublicKeyVersion":1.5}`, serialization},
			{"PublicKeyVersion beyond 32 bits", `{"ProductCode":"` + sandbox.Hourly + `","PublicKeyVersion":2147483648}`, serialization},
			{"PublicKeyVersion 0", `{"ProductCode":"` + sandbox.Hourly + `","PublicKeyVersion":0}`, validation},
			{"no PublicKeyVersion", `{"ProductCode":"` + sandbox.Hourly + `"}`, validation},
			{"Nonce that is a number", `{"ProductCode":"` + sandbox.Hourly + `","PublicKeyVersion":2,"Nonce":1}`, serialization},
			{"Nonce of 256 characters", `{"ProductCode":"` + sandbox.Hourly + `","PublicKeyVersion":2,"Nonce":"` + strings.Repeat("n", 256) + `"}`, validation},
			{"1 MB", strings.Repeat(" ", 1<<20), "RequestEntityTooLargeException"},
		},
		"ResolveCustomer": {
			{"nothing", "", serialization},
			{"an empty object", "{}", validation},
			{"null RegistrationToken", `{"RegistrationToken":null}`, validation},
			{"empty RegistrationToken", `{"RegistrationToken":""}`, validation},
			{"RegistrationToken that is a number", `{"RegistrationToken":1}`, serialization},
			{"RegistrationToken of half a megabyte", `{"RegistrationToken":"` + strings.Repeat("A", 1<<19) + `"}`, "InvalidTokenException"},
			{"RegistrationToken that is almost one", `{"RegistrationToken":"` + e.token[:len(e.token)-4] + `AAA="}`, "InvalidTokenException"},
			{"1 MB", strings.Repeat(" ", 1<<20), "RequestEntityTooLargeException"},
		},
	} {
		s := e.good()[operation].signer
		for _, c := range requests {
			a := e.call(s, operation, c.body)
			want := map[string]int{"RequestEntityTooLargeException": 413}[c.want]
			if want == 0 {
				want = 400
			}
			if a.code != c.want || a.status != want {
				t.Errorf("%s with %s: %d %s %.200s; want %s", operation, c.name, a.status, a.code, a.message, c.want)
			}
			if len(a.message) > 4096 {
				t.Errorf("%s with %s: a message of %d bytes", operation, c.name, len(a.message))
			}
			call := e.audited(a.requestID)
			if a.status == 413 { // its signature cannot be checked
				if call != nil {
					t.Errorf("%s with %s: there is a call", operation, c.name)
				}
			} else if call == nil || call.Error+"Exception" != a.code || call.Message == "" || len(call.Results) != 0 {
				t.Errorf("%s with %s: the audit says %+v", operation, c.name, call)
			}
		}
	}
	if n := e.records(); n != 0 {
		t.Errorf("%d records are stored", n)
	}
	if err := e.ledger.Ready(); err != nil {
		t.Error(err)
	}
}

// TestHandlers: what the table of operations holds has a handler, and nothing else has.
func TestHandlers(t *testing.T) {
	for i := range metering.OperationNumbers {
		op := metering.Operation(i)
		if got, want := server.Handled(op), slices.Contains(metering.Operations, op); got != want {
			t.Errorf("%v has a handler: %v, want %v", op, got, want)
		}
	}
}

func TestTargetsAndContentTypes(t *testing.T) {
	e := openEndpoint(t)
	body := batchBody()
	send := func(target, contentType []string) answer {
		r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body))
		if target != nil {
			r.Header["X-Amz-Target"] = target
		}
		if contentType != nil {
			r.Header["Content-Type"] = contentType
		}
		e.sign(e.seller, r, body)
		return e.serve(r)
	}
	const media = "application/x-amz-json-1.1"
	long := strings.Repeat("x", 100_000)
	for _, target := range [][]string{nil, {""}, {long}, {"AWSMPMeteringService." + long}, {"AWSMPMeteringService.Nope"}, {"AWSMPMeteringService."}, {"AWSMPMeteringService"}, {"BatchMeterUsage"},
		{"AWSMPMeteringService.batchmeterusage"}, {"awsmpmeteringservice.BatchMeterUsage"}, {"AWSMPMeteringService.BatchMeterUsage.x"},
		{"AWSMPEntitlementService.GetEntitlements"}, {"AWSMPMeteringService.Operation(1)"}, {"AWSMPMeteringService_20160114.BatchMeterUsage"}} {
		if a := send(target, []string{media}); a.code != "UnknownOperationException" || a.status != 400 || len(a.message) > 4096 {
			t.Errorf("X-Amz-Target %.100q: %d %s", target, a.status, a.code)
		}
	}
	if a, want := send([]string{"x"}, []string{media}), `X-Amz-Target "x" names no operation of this service. Use AWSMPMeteringService.BatchMeterUsage, MeterUsage, `; !strings.HasPrefix(a.message, want) {
		t.Errorf("%s, want %s…", a.message, want)
	}
	if a, want := send([]string{"AWSMPMeteringService.MeterUsage"}, []string{"x"}), `Content-Type must be application/x-amz-json-1.1, not "x".`; a.message != want {
		t.Errorf("%s, want %s", a.message, want)
	}
	for _, contentType := range []string{media, media + "; charset=utf-8", "Application/X-Amz-JSON-1.1"} {
		if a := send([]string{"AWSMPMeteringService.BatchMeterUsage"}, []string{contentType}); a.status != 200 || a.body != `{"Results":[],"UnprocessedRecords":[]}` {
			t.Errorf("Content-Type %q: %d %s", contentType, a.status, a.body)
		}
	}
	for _, contentType := range [][]string{nil, {""}, {"text/" + long}, {"application/json"}, {"application/x-amz-json-1.0"}, {"application/cbor"}, {"text/plain"},
		{"application/x-www-form-urlencoded"}, {media + `;x="y`}, {"application/x-amz-json-1.10"}} {
		if a := send([]string{"AWSMPMeteringService.BatchMeterUsage"}, contentType); a.code != "UnknownOperationException" || a.status != 400 || len(a.message) > 4096 {
			t.Errorf("Content-Type %.100q: %d %s", contentType, a.status, a.code)
		}
	}
}

// What is odd but allowed is taken.
func TestToleratedRequests(t *testing.T) {
	e := openEndpoint(t)
	hour := 0
	record := func(members string) string { // each an hour earlier
		hour++
		return strings.Replace(usageRecord(members), fmt.Sprint(wall.Unix()-600), fmt.Sprint(wall.Unix()-int64(hour)*3600), 1)
	}
	small := batchBody(record(`,"Quantity":1`))
	for name, body := range map[string]string{
		"unknown members":               `{"X":{"a":[1,"x",null,true,-1.5e-7]},` + batchBody(record(`,"Quantity":1,"Y":{"Quantity":5},"quantity":7`))[1:],
		"the largest body":              small + strings.Repeat(" ", 1<<20-1-len(small)),
		"white space":                   "\r\n\t " + strings.ReplaceAll(batchBody(record(`,"Quantity":1`)), ",", " ,\n\t") + "\r\n",
		"null for what is absent":       batchBody(record(`,"Quantity":1,"CustomerIdentifier":null,"LicenseArn":null,"UsageAllocations":null`)),
		"escapes":                       strings.Replace(batchBody(record(`,"Quantity":1`)), "users", `\u0075sers`, 1),
		"a timestamp with milliseconds": strings.Replace(batchBody(record(`,"Quantity":1`)), `,"Dimension"`, `.123,"Dimension"`, 1),
		"a timestamp in ISO 8601":       batchBody(`{"Timestamp":"2026-11-22T20:20:00Z","Dimension":"users","CustomerAWSAccountId":"444444444444","Quantity":1}`),
	} {
		if a := e.call(e.seller, "BatchMeterUsage", body); a.status != 200 || !strings.Contains(a.body, `"Status":"Success"`) {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
	if n := e.records(); n != 7 {
		t.Errorf("%d records are stored, want 7", n)
	}
}

// TestUserAgent: whatever a client says of itself is audited as text that can be shown, and is no reason to refuse it.
func TestUserAgent(t *testing.T) {
	e := openEndpoint(t)
	for name, test := range map[string]struct{ sent, want string }{
		"of an SDK":                     {"aws-sdk-go-v2/1.41.0 ua/2.1 os/linux lang/go#1.26 md/GOOS#linux api/marketplacemetering#1.39.0 m/E,g", "aws-sdk-go-v2/1.41.0 ua/2.1 os/linux lang/go#1.26 md/GOOS#linux api/marketplacemetering#1.39.0 m/E,g"},
		"none":                          {"", ""},
		"text that is not English":      {"métro/1.0 (東京)", "métro/1.0 (東京)"},
		"what a terminal would obey":    {"x\x1b[2J\x00\u202ey", "x\uFFFD[2J\uFFFD\uFFFDy"},
		"not UTF-8":                     {"x\xff\xfey", "x\uFFFD\uFFFDy"},
		"what SQL would obey":           {"'); DROP TABLE call; --", "'); DROP TABLE call; --"},
		"too long":                      {strings.Repeat("a", 3000), strings.Repeat("a", 1024)},
		"too long, cut within a letter": {"a" + strings.Repeat("é", 1000), "a" + strings.Repeat("é", 511)},
		"too long when it is cleaned":   {strings.Repeat("\x01", 1000), strings.Repeat("\uFFFD", 341)},
	} {
		for range 2 { // the second time the audit refers to the first
			r := e.request(e.seller, "BatchMeterUsage", batchBody(usageRecord(`,"Quantity":1`)))
			r.Header["User-Agent"] = []string{test.sent}
			r.RemoteAddr = "192.0.2.1:7"
			a := e.serve(r)
			if a.status != 200 {
				t.Errorf("%s: %d %s", name, a.status, a.body)
			}
			if call := e.audited(a.requestID); call == nil || call.UserAgent != test.want || call.Source != "192.0.2.1" {
				t.Errorf("%s: it is audited as %+v, want %q", name, call, test.want)
			}
		}
	}
	a := e.call(e.task, "MeterUsage", meterBody(`,"UsageQuantity":1`))
	if call := e.audited(a.requestID); a.status != 200 || call == nil || call.SessionName == "" || !strings.HasPrefix(call.AccessKeyID, "ASIA") {
		t.Errorf("a session's call is answered with %d %s and audited as %+v", a.status, a.body, call)
	}
}

// Bodies of 1 MB and more are refused over a network, too, in whatever way they come.
func TestLargeBodies(t *testing.T) {
	e := openEndpoint(t)
	web := httptest.NewServer(e.handler)
	defer web.Close()
	for _, c := range []struct {
		name    string
		size    int
		chunked bool
		want    int
	}{
		{"just under 1 MB", 1<<20 - 1, false, 200},
		{"just under 1 MB, in chunks", 1<<20 - 1, true, 200},
		{"1 MB", 1 << 20, false, 413},
		{"1 MB, in chunks", 1 << 20, true, 413},
		{"2 MB, in chunks", 2 << 20, true, 413},
	} {
		body := batchBody()
		body += strings.Repeat(" ", c.size-len(body))
		r, err := http.NewRequest(http.MethodPost, web.URL, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if c.chunked {
			r.Body, r.ContentLength = io.NopCloser(strings.NewReader(body)), -1
		}
		r.Header.Set("Content-Type", "application/x-amz-json-1.1")
		r.Header.Set("X-Amz-Target", "AWSMPMeteringService.BatchMeterUsage")
		e.sign(e.seller, r, body)
		response, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if a := e.answer(response); a.status != c.want || c.want == 413 && a.code != "RequestEntityTooLargeException" {
			t.Errorf("%s: %d %s, want %d", c.name, a.status, a.code, c.want)
		}
		response.Body.Close()
	}
}

// Clients that send large bodies and never end them take a bounded amount of memory, and small requests do not wait
// for them. A length that is only announced takes none.
func TestBodyMemoryIsBounded(t *testing.T) {
	e := openEndpointWith(t, server.AWSConfig{BodyMemory: 1 << 20})
	web := httptest.NewServer(e.handler)
	defer web.Close()
	pad := func(size int) string { return batchBody() + strings.Repeat(" ", size-len(batchBody())) }
	send := func(body string) answer {
		r, err := http.NewRequest(http.MethodPost, web.URL, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/x-amz-json-1.1")
		r.Header.Set("X-Amz-Target", "AWSMPMeteringService.BatchMeterUsage")
		e.sign(e.seller, r, body)
		response, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		return e.answer(response)
	}
	begin := func(sent int) (net.Conn, *bufio.Reader) { // a body of 1,000,000 bytes of which so many are sent
		conn, err := net.Dial("tcp", web.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\nExpect: 100-continue\r\n\r\n%*s", sent, ""); err != nil {
			t.Fatal(err)
		}
		answers := bufio.NewReader(conn)
		if line, err := answers.ReadString('\n'); err != nil || !strings.Contains(line, "100 Continue") {
			t.Fatal(line, err)
		}
		return conn, answers // whose handler reads the body now
	}
	for range 20 {
		conn, _ := begin(10_000)
		defer conn.Close()
	}
	if a := send(pad(900_000)); a.status != http.StatusOK {
		t.Errorf("beside 20 MB that are only announced: %d %s", a.status, a.code)
	}
	held, answers := begin(600_000)
	code := ""
	for deadline := time.Now().Add(time.Minute); code != "ThrottlingException" && time.Now().Before(deadline); { // until it has been read
		code = send(pad(900_000)).code
	}
	if code != "ThrottlingException" {
		t.Error("two large bodies fit where there is memory for one")
	}
	if a := send(pad(64_000)); a.status != http.StatusOK {
		t.Errorf("a small body beside the large one: %d %s", a.status, a.code)
	}
	if _, err := fmt.Fprintf(held, "%*s", 400_000, ""); err != nil {
		t.Fatal(err)
	}
	for { // behind the rest of the first answer
		if line, err := answers.ReadString('\n'); err != nil || strings.HasPrefix(line, "HTTP/1.1 ") {
			if line != "HTTP/1.1 400 Bad Request\r\n" {
				t.Errorf("the held one: %q, %v", line, err)
			}
			break
		}
	}
	held.Close()
	if a := send(pad(900_000)); a.status != http.StatusOK {
		t.Errorf("when that one is done: %d %s", a.status, a.code)
	}
}

// A body that ends too early, or breaks off, is refused, and nothing of it is taken.
func TestBrokenBodies(t *testing.T) {
	e := openEndpoint(t)
	body := batchBody(usageRecord(`,"Quantity":1`))
	r := e.request(e.seller, "BatchMeterUsage", body)
	r.Body = io.NopCloser(io.MultiReader(strings.NewReader(body[:20]), brokenReader{}))
	if a := e.serve(r); a.status != 400 || a.code != "SerializationException" {
		t.Errorf("a body that breaks off: %d %s", a.status, a.code)
	}
	r = e.request(e.seller, "BatchMeterUsage", body)
	r.Body = io.NopCloser(strings.NewReader(body[:20]))
	if a := e.serve(r); a.status != 400 || a.code != "InvalidSignatureException" {
		t.Errorf("a body that ends too early: %d %s", a.status, a.code)
	}
	if n := e.records(); n != 0 {
		t.Errorf("%d records are stored", n)
	}
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// TestOverload has more requests come than places: they are refused as AWS throttles, and nothing is stored.
func TestOverload(t *testing.T) {
	e := openEndpoint(t)
	leave := server.FillGate(e.handler.(*server.AWS))
	before := e.records()
	for operation, g := range e.good() {
		a := e.call(g.signer, operation, g.body)
		if a.status != http.StatusBadRequest || a.code != "ThrottlingException" {
			t.Errorf("%s: %d %s", operation, a.status, a.code)
		}
	}
	if got := e.records(); got != before {
		t.Errorf("%d records were stored", got-before)
	}
	leave()
	for operation, g := range e.good() {
		if a := e.call(g.signer, operation, g.body); a.status != http.StatusOK {
			t.Errorf("%s afterwards: %d %s", operation, a.status, a.code)
		}
	}
}

// The embedded store's bound on open records is a clear refusal, never a wrong answer: what is known is still decided.
func TestOpenRecordsAreBounded(t *testing.T) {
	e := openEndpoint(t, func(c *ledger.Config) { c.Store, c.MaxOpenRecords = t.TempDir(), 2 })
	at := func(hoursAgo int, quantity int) string {
		return fmt.Sprintf(`{"Timestamp":%d,"Dimension":"users","CustomerAWSAccountId":"444444444444","Quantity":%d}`, wall.Unix()-int64(hoursAgo)*3600, quantity)
	}
	unknown := strings.Replace(at(4, 1), "444444444444", "999999999999", 1)
	var out struct {
		Results            []struct{ Status, MeteringRecordId string }
		UnprocessedRecords []struct {
			Timestamp            json.Number
			Dimension            string
			CustomerAWSAccountId string
			Quantity             int
		}
	}
	call := func(records ...string) string {
		a := e.call(e.seller, "BatchMeterUsage", batchBody(records...))
		out.Results, out.UnprocessedRecords = nil, nil
		if err := json.Unmarshal([]byte(a.body), &out); err != nil || a.status != 200 {
			t.Fatalf("%d %s", a.status, a.body)
		}
		s := ""
		for _, r := range out.Results {
			s += r.Status + " "
		}
		return s + strconv.Itoa(len(out.UnprocessedRecords))
	}
	if got, want := call(at(1, 1), at(2, 2), at(3, 3), unknown), "Success Success CustomerNotSubscribed 1"; got != want {
		t.Errorf("four records where two fit: %s, want %s", got, want)
	}
	if r := out.UnprocessedRecords[0]; string(r.Timestamp) != fmt.Sprint(wall.Unix()-3*3600) || r.Dimension != "users" || r.CustomerAWSAccountId != "444444444444" || r.Quantity != 3 {
		t.Errorf("the record to be sent again is %+v", r)
	}
	if got, want := call(at(1, 1), at(2, 5), at(3, 3)), "Success DuplicateRecord 1"; got != want {
		t.Errorf("sent again: %s, want %s", got, want)
	}
	if a := e.call(e.task, "MeterUsage", meterBody(`,"UsageQuantity":1`)); a.code != "ThrottlingException" || a.status != 400 {
		t.Errorf("MeterUsage where nothing fits: %d %s", a.status, a.code)
	}
	if a := e.call(e.agent, "MeterUsage", meterBody(`,"UsageQuantity":1,"ClientToken":"t"`)); a.code != "ThrottlingException" || a.status != 400 {
		t.Errorf("MeterUsage from AgentCore where nothing fits: %d %s", a.status, a.code)
	}
	if _, err := e.ledger.ChangeClock(context.Background(), e.ledger.Local(), adminapi.ClockChange{Advance: "23h"}); err != nil {
		t.Fatal(err)
	}
	recent := fmt.Sprintf(`{"Timestamp":%d,"Dimension":"users","CustomerAWSAccountId":"444444444444","Quantity":4}`, wall.Unix()+22*3600)
	if got, want := call(recent), "Success 0"; got != want {
		t.Errorf("when an hour has left the window: %s, want %s", got, want)
	}
	if n := e.records(); n != 3 {
		t.Errorf("%d records are stored, want 3", n)
	}
}

// FuzzRequest sends signed bodies that no SDK would: there must be an answer, never a panic or an internal error.
func FuzzRequest(f *testing.F) {
	e := openEndpoint(f)
	for i, op := range metering.Operations {
		f.Add(uint8(i), []byte(e.good()[op.String()].body))
		f.Add(uint8(i), []byte("{}"))
	}
	f.Add(uint8(0), []byte(batchBody(usageRecord(`,"Quantity":3,"UsageAllocations":[{"AllocatedUsageQuantity":3,"Tags":[{"Key":"k","Value":"v"}]}]`))))
	f.Add(uint8(0), []byte(`{"UsageRecords":[{"Timestamp":1e9,"Dimension":"requests","LicenseArn":"arn:aws:x:::y","CustomerAWSAccountId":"1"}]}`))
	f.Add(uint8(1), []byte(meterBody(`,"DryRun":true,"ClientToken":"t"`)))
	f.Fuzz(func(t *testing.T, op uint8, body []byte) {
		operation := metering.Operations[int(op)%len(metering.Operations)].String()
		inner := *e
		inner.TB = t
		before := inner.records()
		a := inner.call(inner.good()[operation].signer, operation, string(body))
		if a.status >= 500 {
			t.Errorf("%s %q: %d %s", operation, body, a.status, a.code)
		}
		if a.status != 200 && inner.records() != before {
			t.Errorf("%s %q: refused with %s, but stored", operation, body, a.code)
		}
	})
}
