package sigv4_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/marketplacemetering"

	"github.com/meterd/meterd/internal/sigv4"
)

// The service under test: one permanent key, one temporary key with its token,
// one temporary key past its time.
const (
	host    = "metering.marketplace.us-east-1.amazonaws.com"
	service = "aws-marketplace"
	region  = "us-east-1"

	keyID, secret   = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
	tempID, tempKey = "ASIAEXAMPLE", "temporary/secret"
	expiredID       = "ASIAEXPIRED"
	token           = "the+session/token=="
)

var now = time.Date(2026, 11, 23, 12, 34, 56, 0, time.UTC)

func lookup(id, sessionToken string) (sigv4.Credential[string], error) {
	switch {
	case id == keyID && sessionToken == "":
		return sigv4.Credential[string]{Secret: secret, Principal: "alice"}, nil
	case id == tempID && sessionToken == token:
		return sigv4.Credential[string]{Secret: tempKey, Principal: "role"}, nil
	case id == expiredID:
		return sigv4.Credential[string]{}, sigv4.ExpiredToken()
	case id == "AKIDEMPTYSECRET":
		return sigv4.Credential[string]{}, nil
	}
	return sigv4.Credential[string]{}, sigv4.UnrecognizedClient()
}

func newVerifier() *sigv4.Verifier[string] {
	return &sigv4.Verifier[string]{
		Services:    []string{service},
		KnownRegion: func(r string) bool { return r == region || r == "eu-west-1" },
		Lookup:      lookup,
	}
}

// serve runs a real server whose handler only verifies, and returns its address.
// It answers 200 with the identity, or the refusal with its code in a header.
func serve(t *testing.T, v *sigv4.Verifier[string], clock func() time.Time) *httptest.Server {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		id, err := v.Verify(r, body, clock())
		if err != nil {
			var e *sigv4.Error
			if !errors.As(err, &e) {
				t.Errorf("Verify's error is %T, not *Error", err)
				return
			}
			if id != (sigv4.Identity[string]{}) {
				t.Errorf("refused, but identity is %v", id)
			}
			w.Header().Set("Code", e.Code)
			http.Error(w, e.Message, e.Status)
			return
		}
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		w.Header().Set("Identity", fmt.Sprint(id))
		io.WriteString(w, "{}")
	}))
	t.Cleanup(srv.Close)
	return srv
}

func fixedClock() time.Time { return now }

// order is one request to be signed by the AWS SDK's signer.
type order struct {
	method, url     string
	body            string
	header          http.Header // beside the usual ones
	id, key, token  string
	service, region string
	when            time.Time
	payload         string // the payload hash signed, if not the body's
}

// usual is what an SDK would send.
func usual() order {
	return order{
		method: "POST", url: "http://" + host + "/", body: `{"ProductCode":"a1b2"}`,
		header: http.Header{}, id: keyID, key: secret, service: service, region: region, when: now,
	}
}

// sign makes the request of an order, signed by the AWS SDK.
func (o order) sign(t testing.TB) *http.Request {
	t.Helper()
	r, err := http.NewRequest(o.method, o.url, strings.NewReader(o.body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-amz-json-1.1")
	r.Header.Set("X-Amz-Target", "AWSMPMeteringService.BatchMeterUsage")
	r.Header.Set("Amz-Sdk-Invocation-Id", "8ec8e3e5-2d9b-4ba5-8f1c-9cb3d1e8f0a1")
	r.Header.Set("Amz-Sdk-Request", "attempt=1; max=3")
	for key, values := range o.header {
		r.Header[key] = values
	}
	if o.payload == "" {
		o.payload = hexHash(o.body)
	}
	creds := aws.Credentials{AccessKeyID: o.id, SecretAccessKey: o.key, SessionToken: o.token}
	if err := v4.NewSigner().SignHTTP(context.Background(), creds, r, o.payload, o.service, o.region, o.when); err != nil {
		t.Fatal(err)
	}
	return r
}

func hexHash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

func TestVerifyAcceptsSDKSignatures(t *testing.T) {
	tests := []struct {
		name string
		edit func(*order)
		want string
	}{
		{"plain", func(o *order) {}, "{alice AKIDEXAMPLE us-east-1 aws-marketplace}"},
		{"another known region", func(o *order) { o.region = "eu-west-1" }, "{alice AKIDEXAMPLE eu-west-1 aws-marketplace}"},
		{"session token", func(o *order) { o.id, o.key, o.token = tempID, tempKey, token }, "{role ASIAEXAMPLE us-east-1 aws-marketplace}"},
		{"content hash", func(o *order) { o.header.Set("X-Amz-Content-Sha256", hexHash(o.body)) }, ""},
		{"empty body", func(o *order) { o.body = "" }, ""},
		{"large body", func(o *order) { o.body = strings.Repeat("usage ", 100_000) }, ""},
		{"extra headers", func(o *order) {
			o.header.Set("X-Amz-User-Agent", "aws-sdk-js/3.1138")
			o.header.Set("X-Custom", "v")
			o.header.Set("Accept", "*/*")
		}, ""},
		{"spaces in values", func(o *order) { o.header.Set("X-Custom", "  a   b \t c  ") }, ""},
		{"repeated ordinary header", func(o *order) { o.header["X-Custom"] = []string{"two  words", "", "one"} }, ""},
		{"empty ordinary header", func(o *order) { o.header.Set("X-Custom", "") }, ""},
		{"long ordinary header", func(o *order) { o.header.Set("X-Custom", strings.Repeat("x", 100_000)) }, ""},
		{"unsigned trace header", func(o *order) { o.header.Set("X-Amzn-Trace-Id", "Root=1-2-3") }, ""},
		{"host with port", func(o *order) { o.url = "http://" + host + ":8443/" }, ""},
		{"host is an IPv6 address", func(o *order) { o.url = "http://[::1]:8080/" }, ""},
		{"no path", func(o *order) { o.url = "http://" + host }, ""},
		{"five minutes old", func(o *order) { o.when = now.Add(-5 * time.Minute) }, ""},
		{"five minutes ahead", func(o *order) { o.when = now.Add(5 * time.Minute) }, ""},
		{"yesterday, but within five minutes", func(o *order) {}, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			o := usual()
			test.edit(&o)
			clock := fixedClock
			if strings.HasPrefix(test.name, "yesterday") {
				midnight := time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC)
				o.when = midnight.Add(-time.Second)
				clock = func() time.Time { return midnight.Add(time.Minute) }
			}
			srv := serve(t, newVerifier(), clock)
			r := o.sign(t)
			r.Host, r.URL.Host = r.URL.Host, srv.Listener.Addr().String()
			resp, err := srv.Client().Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			body, _ := io.ReadAll(resp.Body)
			want := test.want
			if want == "" {
				want = "{alice AKIDEXAMPLE us-east-1 aws-marketplace}"
			}
			if got := resp.Header.Get("Identity"); got != want {
				t.Errorf("identity %q, want %q: %s %s", got, want, resp.Header.Get("Code"), body)
			}
		})
	}
}

func TestVerifyAcceptsSDKClient(t *testing.T) {
	srv := serve(t, newVerifier(), time.Now) // the client has no clock to set
	for _, creds := range []aws.CredentialsProvider{
		credentials.NewStaticCredentialsProvider(keyID, secret, ""),
		credentials.NewStaticCredentialsProvider(tempID, tempKey, token),
	} {
		client := marketplacemetering.New(marketplacemetering.Options{
			Region: region, BaseEndpoint: aws.String(srv.URL), Credentials: creds, RetryMaxAttempts: 1,
		})
		_, err := client.ResolveCustomer(t.Context(), &marketplacemetering.ResolveCustomerInput{RegistrationToken: aws.String("x")})
		if err != nil {
			t.Error(err)
		}
	}
}

func TestVerifyAcceptsHTTP2(t *testing.T) {
	v := newVerifier()
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if _, err := v.Verify(r, body, now); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
		}
	}))
	srv.EnableHTTP2 = true
	srv.StartTLS()
	t.Cleanup(srv.Close)
	for body, want := range map[string]int{usual().body: 200, "{}": 400} {
		r := usual().sign(t)
		r.URL.Scheme, r.URL.Host, r.Host = "https", srv.Listener.Addr().String(), host
		r.Body, r.GetBody, r.ContentLength = io.NopCloser(strings.NewReader(body)), nil, int64(len(body))
		resp, err := srv.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.ProtoMajor != 2 || resp.StatusCode != want {
			t.Errorf("%s %d %s, want %d", resp.Proto, resp.StatusCode, text, want)
		}
	}
}

// TestVerifyAcceptsVector recomputes the request of AWS's documentation known as
// get-vanilla, as a POST, with the SDK's signer at its time of 2015.
func TestVerifyAcceptsVector(t *testing.T) {
	v := newVerifier()
	v.Services = []string{"service"}
	when := time.Date(2015, 8, 30, 12, 36, 0, 0, time.UTC)
	r, err := http.NewRequest("POST", "http://example.amazonaws.com/", nil)
	if err != nil {
		t.Fatal(err)
	}
	creds := aws.Credentials{AccessKeyID: keyID, SecretAccessKey: secret}
	if err := v4.NewSigner().SignHTTP(context.Background(), creds, r, hexHash(""), "service", region, when); err != nil {
		t.Fatal(err)
	}
	r.RequestURI = "/"
	if _, err := v.Verify(r, nil, when); err != nil {
		t.Error(err)
	}
}

// raw is a request as it goes over the wire, so that it can be anything.
type raw struct {
	method, target, proto string
	headers               [][2]string
	body                  string
}

func newRaw(t testing.TB, r *http.Request) *raw {
	t.Helper()
	q := &raw{method: r.Method, target: r.URL.RequestURI(), proto: "HTTP/1.1", headers: [][2]string{{"Host", r.Host}}}
	for key, values := range r.Header {
		for _, value := range values {
			q.headers = append(q.headers, [2]string{key, value})
		}
	}
	if r.Body != nil {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Fatal(err)
		}
		q.body = string(body)
		q.headers = append(q.headers, [2]string{"Content-Length", fmt.Sprint(len(body))})
	}
	return q
}

func (q *raw) index(name string) int {
	return slices.IndexFunc(q.headers, func(h [2]string) bool { return strings.EqualFold(h[0], name) })
}

func (q *raw) get(name string) string { return q.headers[q.index(name)][1] }

func (q *raw) set(name, value string) { q.headers[q.index(name)][1] = value }

func (q *raw) add(name, value string) { q.headers = append(q.headers, [2]string{name, value}) }

func (q *raw) del(name string) { q.headers = slices.Delete(q.headers, q.index(name), q.index(name)+1) }

// auth replaces old by new in the Authorization header, where old must occur.
func (q *raw) auth(old, new string) {
	value := q.get("Authorization")
	if !strings.Contains(value, old) {
		panic("no " + old + " in " + value)
	}
	q.set("Authorization", strings.Replace(value, old, new, 1))
}

// param returns one parameter of the Authorization header.
func (q *raw) param(name string) string {
	_, value, _ := strings.Cut(q.get("Authorization"), name+"=")
	value, _, _ = strings.Cut(value, ",")
	return value
}

// resign signs the request as it stands, for cases the SDK would never sign:
// the signature is right, so only the rule under test can refuse it.
func (q *raw) resign(credential, signedHeaders, date string) {
	var canonical strings.Builder
	fmt.Fprintf(&canonical, "%s\n/\n\n", q.method)
	for name := range strings.SplitSeq(signedHeaders, ";") {
		var values []string
		for _, h := range q.headers {
			if strings.EqualFold(h[0], name) {
				values = append(values, strings.Join(strings.Fields(h[1]), " "))
			}
		}
		fmt.Fprintf(&canonical, "%s:%s\n", name, strings.Join(values, ","))
	}
	fmt.Fprintf(&canonical, "\n%s\n%s", signedHeaders, hexHash(q.body))
	_, scope, _ := strings.Cut(credential, "/")
	key := []byte("AWS4" + secret)
	for part := range strings.SplitSeq(scope, "/") {
		key = mac(key, part)
	}
	signature := hex.EncodeToString(mac(key, "AWS4-HMAC-SHA256\n"+date+"\n"+scope+"\n"+hexHash(canonical.String())))
	q.set("Authorization", "AWS4-HMAC-SHA256 Credential="+credential+", SignedHeaders="+signedHeaders+", Signature="+signature)
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	io.WriteString(h, text)
	return h.Sum(nil)
}

const (
	credential = keyID + "/20261123/us-east-1/aws-marketplace/aws4_request"
	amzDate    = "20261123T123456Z"
	allSigned  = "amz-sdk-invocation-id;amz-sdk-request;content-length;content-type;host;x-amz-date;x-amz-target"
)

// send writes the request to addr and returns the answer.
func (q *raw) send(t *testing.T, addr string) *http.Response {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	var text strings.Builder
	fmt.Fprintf(&text, "%s %s %s\r\n", q.method, q.target, q.proto)
	for _, h := range q.headers {
		fmt.Fprintf(&text, "%s: %s\r\n", h[0], h[1])
	}
	text.WriteString("Connection: close\r\n\r\n")
	text.WriteString(q.body)
	if _, err := io.WriteString(conn, text.String()); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	return resp
}

// TestVerifyAcceptsRaw is the counterpart of TestVerifyRefuses: what the refused
// requests are made from is accepted, and so are these harmless changes.
func TestVerifyAcceptsRaw(t *testing.T) {
	tests := []struct {
		name string
		edit func(*raw)
	}{
		{"as signed", func(q *raw) {}},
		{"signed by the test's own signer", func(q *raw) { q.resign(credential, allSigned, amzDate) }},
		{"content-type not signed", func(q *raw) {
			q.resign(credential, "host;x-amz-date;x-amz-target", amzDate)
			q.set("Content-Type", "application/json")
		}},
		{"no spaces after the commas", func(q *raw) { q.set("Authorization", strings.ReplaceAll(q.get("Authorization"), ", ", ",")) }},
		{"spaces around the commas", func(q *raw) { q.set("Authorization", strings.ReplaceAll(q.get("Authorization"), ",", " \t,  ")) }},
		{"other order of parameters", func(q *raw) {
			q.set("Authorization", "AWS4-HMAC-SHA256 Signature="+q.param("Signature")+", SignedHeaders="+q.param("SignedHeaders")+", Credential="+q.param("Credential"))
		}},
		{"header names in other case", func(q *raw) {
			for i := range q.headers {
				q.headers[i][0] = strings.ToUpper(q.headers[i][0])
			}
		}},
		{"headers in other order", func(q *raw) { slices.Reverse(q.headers) }},
		{"unsigned ordinary header added", func(q *raw) { q.add("Via", "1.1 proxy") }},
		{"more spaces in a value", func(q *raw) { q.set("Amz-Sdk-Request", "  attempt=1;    max=3 ") }},
		{"unsigned x-amz-content-sha256 of the body", func(q *raw) { q.add("X-Amz-Content-Sha256", hexHash(q.body)) }},
		{"tabs in a value, signed as single spaces", func(q *raw) {
			q.add("X-Amz-Meta", "a\t\tb \t c  d")
			q.resign(credential, "host;x-amz-date;x-amz-meta;x-amz-target", amzDate)
		}},
		{"Date beside X-Amz-Date is not looked at", func(q *raw) { q.add("Date", "yesterday") }},
		{"Date in ISO form instead of X-Amz-Date", func(q *raw) {
			q.del("X-Amz-Date")
			q.add("Date", amzDate)
			q.resign(credential, "date;host;x-amz-target", amzDate)
		}},
		{"Date in HTTP form instead of X-Amz-Date", func(q *raw) {
			q.del("X-Amz-Date")
			q.add("Date", "Mon, 23 Nov 2026 12:34:56 GMT")
			q.resign(credential, "date;host;x-amz-target", amzDate)
		}},
		{"chunked, transfer-encoding signed", func(q *raw) {
			q.del("Content-Length")
			q.add("Transfer-Encoding", "chunked")
			q.resign(credential, "host;transfer-encoding;x-amz-date;x-amz-target", amzDate)
			q.body = fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(q.body), q.body)
		}},
		{"forwarding headers are ignored", func(q *raw) {
			q.add("X-Forwarded-Host", "elsewhere.example")
			q.add("Forwarded", "host=elsewhere.example")
		}},
	}
	srv := serve(t, newVerifier(), fixedClock)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			q := newRaw(t, usual().sign(t))
			test.edit(q)
			resp := q.send(t, srv.Listener.Addr().String())
			if resp.StatusCode != 200 {
				body, _ := io.ReadAll(resp.Body)
				t.Errorf("%d %s: %s", resp.StatusCode, resp.Header.Get("Code"), body)
			}
		})
	}
}

// The codes of TestVerifyRefuses. byHTTP is net/http's own 400, before Verify.
const (
	missing      = "MissingAuthenticationTokenException"
	incomplete   = "IncompleteSignatureException"
	invalid      = "InvalidSignatureException"
	unrecognized = "UnrecognizedClientException"
	expired      = "ExpiredTokenException"
	unknownOp    = "UnknownOperationException"
	byHTTP       = ""
)

func TestVerifyRefuses(t *testing.T) {
	const mismatch = "The request signature we calculated does not match"
	tests := []struct {
		name  string
		order func(*order) // before the SDK signs
		edit  func(*raw)   // after
		code  string
		text  string // a part of the message
	}{
		// Target: signed as they are by the SDK, so it is the rule that refuses.
		{"GET", func(o *order) { o.method, o.body = "GET", "" }, nil, unknownOp, "POST only, not 'GET'"},
		{"PUT", func(o *order) { o.method = "PUT" }, nil, unknownOp, "POST only"},
		{"OPTIONS", func(o *order) { o.method = "OPTIONS" }, nil, unknownOp, "POST only"},
		{"method in lower case", nil, func(q *raw) { q.method = "post" }, unknownOp, "POST only, not 'post'"},
		{"other path", func(o *order) { o.url += "service" }, nil, unknownOp, "POST / only, not '/service'"},
		{"two slashes", nil, func(q *raw) { q.target = "//" }, unknownOp, "POST / only"},
		{"dot path", nil, func(q *raw) { q.target = "/." }, unknownOp, "POST / only"},
		{"encoded path", nil, func(q *raw) { q.target = "/%2e" }, unknownOp, "POST / only"},
		{"query", func(o *order) { o.url += "?a=b" }, nil, unknownOp, "no query string"},
		{"empty query", nil, func(q *raw) { q.target = "/?" }, unknownOp, "no query string"},
		{"fragment", nil, func(q *raw) { q.target = "/#a" }, unknownOp, "POST / only"},
		{"absolute URL", nil, func(q *raw) { q.target = "http://" + host + "/" }, unknownOp, "no absolute URL"},
		{"absolute URL of another host", nil, func(q *raw) { q.target = "http://evil.example/" }, unknownOp, "no absolute URL"},
		{"asterisk", nil, func(q *raw) { q.target = "*" }, unknownOp, "POST / only"},
		{"presigned", nil, presign(t, true), unknownOp, "no presigned URL"},
		{"presigned and signed", nil, presign(t, false), unknownOp, "no presigned URL"},

		// The Authorization header as a whole.
		{"no Authorization", nil, func(q *raw) { q.del("Authorization") }, missing, "Missing Authentication Token"},
		{"empty Authorization", nil, func(q *raw) { q.set("Authorization", "") }, missing, "Missing Authentication Token"},
		{"two Authorization headers", nil, func(q *raw) { q.add("Authorization", q.get("Authorization")) }, incomplete, "2 Authorization headers"},
		{"a second, empty Authorization", nil, func(q *raw) { q.add("Authorization", "") }, incomplete, "2 Authorization headers"},
		{"Basic", nil, func(q *raw) { q.set("Authorization", "Basic QUtJRDpzZWNyZXQ=") }, incomplete, "AWS4-HMAC-SHA256"},
		{"Bearer", nil, func(q *raw) { q.set("Authorization", "Bearer AKIDEXAMPLE") }, incomplete, "AWS4-HMAC-SHA256"},
		{"SigV2", nil, func(q *raw) { q.set("Authorization", "AWS AKIDEXAMPLE:frJIUN8DYpKDtOLCwo//yllqDzg=") }, incomplete, "AWS4-HMAC-SHA256"},
		{"SigV3", nil, func(q *raw) { q.set("Authorization", "AWS3-HTTPS AWSAccessKeyId=AKIDEXAMPLE") }, incomplete, "AWS4-HMAC-SHA256"},
		{"SigV4A", nil, func(q *raw) { q.auth("AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256") }, incomplete, "AWS4-HMAC-SHA256"},
		{"streaming algorithm", nil, func(q *raw) { q.auth("AWS4-HMAC-SHA256", "AWS4-HMAC-SHA256-PAYLOAD") }, incomplete, "AWS4-HMAC-SHA256"},
		{"algorithm in lower case", nil, func(q *raw) { q.auth("AWS4-HMAC-SHA256", "aws4-hmac-sha256") }, incomplete, "AWS4-HMAC-SHA256"},
		{"algorithm alone", nil, func(q *raw) { q.set("Authorization", "AWS4-HMAC-SHA256") }, incomplete, "requires 'Credential'"},
		{"no space after the algorithm", nil, func(q *raw) { q.auth("SHA256 ", "SHA256,") }, incomplete, "requires 'Credential'"},

		// Its parameters.
		{"no Credential", nil, func(q *raw) { q.auth("Credential="+credential+", ", "") }, incomplete, "requires 'Credential' parameter."},
		{"no SignedHeaders", nil, func(q *raw) { q.auth("SignedHeaders="+allSigned+", ", "") }, incomplete, "requires 'SignedHeaders' parameter."},
		{"no Signature", nil, func(q *raw) { q.auth(", Signature="+q.param("Signature"), "") }, incomplete, "requires 'Signature' parameter."},
		{"Credential only", nil, func(q *raw) { q.set("Authorization", "AWS4-HMAC-SHA256 Credential="+credential) }, incomplete, "requires 'Signature' parameter. Authorization header requires 'SignedHeaders' parameter."},
		{"empty Credential", nil, func(q *raw) { q.auth(credential, "") }, incomplete, "requires 'Credential' parameter. It is empty."},
		{"empty SignedHeaders", nil, func(q *raw) { q.auth(allSigned, "") }, incomplete, "requires 'SignedHeaders' parameter. It is empty."},
		{"empty Signature", nil, func(q *raw) { q.auth(q.param("Signature"), "") }, incomplete, "requires 'Signature' parameter. It is empty."},
		{"empty Credential before a Credential", nil, func(q *raw) { q.auth(" ", " Credential=, ") }, incomplete, "It is empty."},
		{"endless unknown parameter", nil, func(q *raw) { q.auth(" ", " "+strings.Repeat("x", 5000)+"=, ") }, incomplete, `xxx\u2026'`},
		{"two Credentials", nil, func(q *raw) { q.auth(" ", " Credential="+credential+", ") }, incomplete, "'Credential' more than once"},
		{"two SignedHeaders", nil, func(q *raw) { q.auth(" ", " SignedHeaders=host, ") }, incomplete, "'SignedHeaders' more than once"},
		{"two Signatures", nil, func(q *raw) { q.auth("Signature", "Signature="+q.param("Signature")+", Signature") }, incomplete, "'Signature' more than once"},
		{"unknown parameter", nil, func(q *raw) { q.auth(" ", " Expires=300, ") }, incomplete, "unknown parameter 'Expires'"},
		{"parameter in lower case", nil, func(q *raw) { q.auth("Credential", "credential") }, incomplete, "unknown parameter 'credential'"},
		{"space inside a parameter", nil, func(q *raw) { q.auth("Credential=", "Credential =") }, incomplete, "unknown parameter 'Credential '"},
		{"no equal sign", nil, func(q *raw) { q.auth("Credential=", "Credential:") }, incomplete, "missing equal-sign"},
		{"comma at the end", nil, func(q *raw) { q.set("Authorization", q.get("Authorization")+",") }, incomplete, "missing equal-sign"},
		{"semicolons for commas", nil, func(q *raw) { q.auth(", ", "; ") }, incomplete, ""},

		// Signature.
		{"signature in upper case", nil, func(q *raw) { q.auth(q.param("Signature"), strings.Repeat("AB", 32)) }, incomplete, "64 lower-case"},
		{"signature of the SDK in upper case", nil, func(q *raw) { q.auth(q.param("Signature"), strings.ToUpper(q.param("Signature"))) }, incomplete, "64 lower-case"},
		{"signature a digit short", nil, func(q *raw) { q.auth(q.param("Signature"), q.param("Signature")[1:]) }, incomplete, "64 lower-case"},
		{"signature a digit long", nil, func(q *raw) { q.auth("Signature=", "Signature=0") }, incomplete, "64 lower-case"},
		{"signature not hexadecimal", nil, func(q *raw) { q.auth(q.param("Signature"), "g"+q.param("Signature")[1:]) }, incomplete, "64 lower-case"},
		{"signature in base64", nil, func(q *raw) {
			q.auth(q.param("Signature"), "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=")
		}, incomplete, "64 lower-case"},
		{"first bit of the signature", nil, flipSignature(0), invalid, mismatch},
		{"last bit of the signature", nil, flipSignature(63), invalid, mismatch},
		{"signature of zeros", nil, func(q *raw) { q.auth(q.param("Signature"), strings.Repeat("0", 64)) }, invalid, mismatch},
		{"another request's signature", nil, func(q *raw) {
			o := usual()
			o.body = "{}"
			q.set("Authorization", newRaw(t, o.sign(t)).get("Authorization"))
		}, invalid, mismatch},

		// Credential scope.
		{"four elements", nil, func(q *raw) { q.auth("/aws4_request", "") }, incomplete, "exactly 5 slash-delimited"},
		{"six elements", nil, func(q *raw) { q.auth("/aws4_request", "/aws4_request/x") }, incomplete, "exactly 5 slash-delimited"},
		{"empty access key id", nil, func(q *raw) { q.auth(keyID, "") }, incomplete, "exactly 5 slash-delimited"},
		{"empty region", nil, func(q *raw) { q.auth("/us-east-1/", "//") }, incomplete, "exactly 5 slash-delimited"},
		{"odd access key id", nil, func(q *raw) { q.auth(keyID, "AKID-EXAMPLE") }, incomplete, "letters, digits and underscores"},
		{"endless access key id", nil, func(q *raw) { q.auth(keyID, strings.Repeat("A", 129)) }, incomplete, "1 to 128"},
		{"terminator", nil, func(q *raw) {
			q.resign(strings.Replace(credential, "aws4_request", "aws4_reply", 1), allSigned, amzDate)
		}, invalid, "valid terminator: 'aws4_request', not 'aws4_reply'"},
		{"region unknown", func(o *order) { o.region = "mars-north-1" }, nil, invalid, "scoped to a valid region, not 'mars-north-1'"},
		{"region in upper case", func(o *order) { o.region = "US-EAST-1" }, nil, invalid, "scoped to a valid region"},
		{"another known region", nil, func(q *raw) { q.auth("us-east-1", "eu-west-1") }, invalid, mismatch},
		{"service of the endpoint's name", func(o *order) { o.service = "metering.marketplace" }, nil, invalid, "Credential should be scoped to correct service: 'aws-marketplace'."},
		{"service in upper case", func(o *order) { o.service = "AWS-Marketplace" }, nil, invalid, "correct service"},
		{"day before in the scope", nil, func(q *raw) {
			q.resign(strings.Replace(credential, "20261123", "20261122", 1), allSigned, amzDate)
		}, invalid, "'20261122' != '20261123', from '20261123T123456Z'"},
		{"day cut short in the scope", nil, func(q *raw) {
			q.resign(strings.Replace(credential, "20261123", "2026112", 1), allSigned, amzDate)
		}, invalid, "'2026112' != '20261123'"},

		// Keys and tokens.
		{"unknown key", func(o *order) { o.id = "AKIDNOBODY" }, nil, unrecognized, "The security token included in the request is invalid."},
		{"unknown key, signed with the stand-in secret", func(o *order) { o.id, o.key = "AKIDNOBODY", "nobody" }, nil, unrecognized, "security token"},
		{"another's key id", nil, func(q *raw) { q.auth(keyID, tempID) }, unrecognized, "security token"},
		{"key id in lower case", nil, func(q *raw) { q.auth(keyID, strings.ToLower(keyID)) }, unrecognized, "security token"},
		{"wrong secret", func(o *order) { o.key += "x" }, nil, invalid, mismatch},
		{"empty secret", func(o *order) { o.key = "" }, nil, invalid, mismatch},
		{"key whose secret is empty", func(o *order) { o.id, o.key = "AKIDEMPTYSECRET", "" }, nil, unrecognized, "security token"},
		{"temporary key without its token", func(o *order) { o.id, o.key = tempID, tempKey }, nil, unrecognized, "security token"},
		{"temporary key, token removed", temporary, func(q *raw) { q.del("X-Amz-Security-Token") }, invalid, "no such header"},
		{"temporary key, token empty", temporary, func(q *raw) { q.set("X-Amz-Security-Token", "") }, unrecognized, "security token"},
		{"temporary key, token changed", temporary, func(q *raw) { q.set("X-Amz-Security-Token", token+"x") }, unrecognized, "security token"},
		{"temporary key, token twice", temporary, func(q *raw) { q.add("X-Amz-Security-Token", token) }, invalid, "2 'x-amz-security-token' headers"},
		{"permanent key with a token", func(o *order) { o.token = token }, nil, unrecognized, "security token"},
		{"permanent key with an empty token", func(o *order) { o.header["X-Amz-Security-Token"] = []string{""} }, nil, unrecognized, "security token"},
		{"permanent key, token added", nil, func(q *raw) { q.add("X-Amz-Security-Token", token) }, invalid, "not signed: 'x-amz-security-token'"},
		{"expired token", func(o *order) { o.id, o.token = expiredID, token }, nil, expired, "is expired"},

		// Time.
		{"too old", func(o *order) { o.when = now.Add(-5*time.Minute - time.Second) }, nil, invalid,
			"Signature expired: 20261123T122955Z is now earlier than 20261123T122956Z (20261123T123456Z - 5 min.)"},
		{"too new", func(o *order) { o.when = now.Add(5*time.Minute + time.Second) }, nil, invalid,
			"Signature not yet current: 20261123T123957Z is still later than 20261123T123956Z (20261123T123456Z + 5 min.)"},
		{"a year old", func(o *order) { o.when = now.AddDate(-1, 0, 0) }, nil, invalid, "Signature expired"},
		{"no date", nil, func(q *raw) { q.del("X-Amz-Date") }, incomplete, "existence of either a 'X-Amz-Date' or a 'Date' header"},
		{"a second later", nil, func(q *raw) { q.set("X-Amz-Date", "20261123T123457Z") }, invalid, mismatch},
		{"date twice", nil, func(q *raw) { q.add("X-Amz-Date", amzDate) }, invalid, "2 X-Amz-Date headers"},
		{"Date twice", nil, func(q *raw) {
			q.del("X-Amz-Date")
			q.add("Date", amzDate)
			q.add("Date", amzDate)
		}, invalid, "2 Date headers"},
		{"date empty", nil, func(q *raw) { q.set("X-Amz-Date", "") }, incomplete, "'basic format'"},
		{"date extended", nil, redate("2026-11-23T12:34:56Z"), incomplete, "'basic format'"},
		{"date with a fraction", nil, redate("20261123T123456.5Z"), incomplete, "'basic format'"},
		{"date with an offset", nil, redate("20261123T123456+0000"), incomplete, "'basic format'"},
		{"date without Z", nil, redate("20261123T123456"), incomplete, "'basic format'"},
		{"date in lower case", nil, redate("20261123t123456z"), incomplete, "'basic format'"},
		{"date with a sign", nil, redate("20261123T+23456Z"), incomplete, "'basic format'"},
		{"date of no such day", nil, redate("20261131T123456Z"), incomplete, "'basic format'"},
		{"date of hour 24", nil, redate("20261123T240000Z"), incomplete, "'basic format'"},
		{"date of a leap second", nil, redate("20261123T123460Z"), incomplete, "'basic format'"},
		{"date in HTTP's form", nil, redate("Mon, 23 Nov 2026 12:34:56 GMT"), incomplete, "'basic format'"},
		{"Date of another weekday", nil, func(q *raw) {
			q.del("X-Amz-Date")
			q.add("Date", "Tue, 23 Nov 2026 12:34:56 GMT")
			q.resign(credential, "date;host;x-amz-target", amzDate)
		}, incomplete, "'basic format'"},
		{"Date not signed", nil, func(q *raw) {
			q.del("X-Amz-Date")
			q.add("Date", amzDate)
			q.resign(credential, "host;x-amz-target", amzDate)
		}, invalid, "'Date' must be a 'SignedHeader'"},

		// SignedHeaders; all signatures are right.
		{"host not signed", nil, func(q *raw) { q.resign(credential, "x-amz-date;x-amz-target", amzDate) }, invalid, "'Host' must be a 'SignedHeader'"},
		{"date not signed", nil, func(q *raw) { q.resign(credential, "host;x-amz-target", amzDate) }, invalid, "'X-Amz-Date' must be a 'SignedHeader'"},
		{"target not signed", nil, func(q *raw) { q.resign(credential, "host;x-amz-date", amzDate) }, invalid, "not signed: 'x-amz-target'"},
		{"unsigned x-amz- header added", nil, func(q *raw) { q.add("X-Amz-Meta-Any", "1") }, invalid, "not signed: 'x-amz-meta-any'"},
		{"unsigned x-amz- header in odd case", nil, func(q *raw) { q.add("x-aMZ-meta", "") }, invalid, "not signed: 'x-amz-meta'"},
		{"unsigned x-amz-content-sha256 of another body", nil, func(q *raw) { q.add("X-Amz-Content-Sha256", hexHash("another")) }, invalid, "does not match what was computed"},
		{"unsigned x-amz-content-sha256 twice", nil, func(q *raw) {
			q.add("X-Amz-Content-Sha256", hexHash(q.body))
			q.add("X-Amz-Content-Sha256", hexHash(q.body))
		}, invalid, "2 'x-amz-content-sha256' headers"},
		{"unsigned UNSIGNED-PAYLOAD", nil, func(q *raw) { q.add("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD") }, invalid, "no unsigned or streamed payload"},
		{"signed header absent", nil, func(q *raw) { q.del("Content-Type") }, invalid, "SignedHeaders has 'content-type', but the request has no such header"},
		{"signed header absent, taken as empty", nil, func(q *raw) {
			q.resign(credential, "host;x-amz-date;x-amz-target;x-custom", amzDate)
		}, invalid, "SignedHeaders has 'x-custom'"},
		{"signed x-amz- header absent in place of another", nil, func(q *raw) {
			q.add("X-Amz-Other", "")
			q.resign(credential, "host;x-amz-absent;x-amz-date;x-amz-target", amzDate)
		}, invalid, "SignedHeaders has 'x-amz-absent'"},
		{"signed content-length of a chunked body", nil, func(q *raw) {
			q.set("Content-Length", fmt.Sprint(len(q.body)))
			q.headers[q.index("Content-Length")] = [2]string{"Transfer-Encoding", "chunked"}
			q.body = fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(q.body), q.body)
		}, invalid, "SignedHeaders has 'content-length'"},
		{"target in a trailer", nil, func(q *raw) {
			q.del("Content-Length")
			target := q.get("X-Amz-Target")
			q.resign(credential, "host;x-amz-date;x-amz-target", amzDate)
			q.del("X-Amz-Target")
			q.add("Transfer-Encoding", "chunked")
			q.add("Trailer", "X-Amz-Target")
			q.body = fmt.Sprintf("%x\r\n%s\r\n0\r\nX-Amz-Target: %s\r\n\r\n", len(q.body), q.body, target)
		}, invalid, "SignedHeaders has 'x-amz-target'"},
		{"signed headers unsorted", nil, func(q *raw) { q.resign(credential, "host;x-amz-target;x-amz-date", amzDate) }, incomplete, "must be sorted"},
		{"signed header twice", nil, func(q *raw) { q.resign(credential, "host;host;x-amz-date;x-amz-target", amzDate) }, incomplete, "without repeats"},
		{"signed header in upper case", nil, func(q *raw) { q.resign(credential, "Host;x-amz-date;x-amz-target", amzDate) }, incomplete, "lower-case"},
		{"empty signed header", nil, func(q *raw) { q.resign(credential, ";host;x-amz-date;x-amz-target", amzDate) }, incomplete, "not a lower-case header name"},
		{"semicolon at the end", nil, func(q *raw) { q.resign(credential, "host;x-amz-date;x-amz-target;", amzDate) }, incomplete, "not a lower-case header name"},
		{"space in signed headers", nil, func(q *raw) { q.auth(";host", "; host") }, incomplete, "not a lower-case header name"},
		{"colon in signed headers", nil, func(q *raw) { q.auth(";host", ";host:x") }, incomplete, "not a lower-case header name"},
		{"not ASCII in signed headers", nil, func(q *raw) { q.auth(";host", ";hoſt") }, incomplete, "not a lower-case header name"},
		{"a signed header fewer", nil, func(q *raw) { q.auth("content-type;", "") }, invalid, mismatch},
		{"a signed header more", nil, func(q *raw) {
			q.add("Via", "1.1 x")
			q.auth("host;", "host;via;")
		}, invalid, mismatch},

		// Hosts and headers changed on the way.
		{"host changed", nil, func(q *raw) { q.set("Host", "evil.example") }, invalid, mismatch},
		{"port added to host", nil, func(q *raw) { q.set("Host", host+":443") }, invalid, mismatch},
		{"host empty", nil, func(q *raw) { q.set("Host", "") }, invalid, "no Host header"},
		{"no host in HTTP/1.0", nil, func(q *raw) { q.proto = "HTTP/1.0"; q.del("Host") }, invalid, "no Host header"},
		{"two hosts", nil, func(q *raw) { q.add("Host", host) }, byHTTP, "400 Bad Request"},
		{"host by X-Forwarded-Host", nil, func(q *raw) { q.set("Host", "127.0.0.1"); q.add("X-Forwarded-Host", host) }, invalid, mismatch},
		{"target changed", nil, func(q *raw) { q.set("X-Amz-Target", "AWSMPMeteringService.MeterUsage") }, invalid, mismatch},
		{"target in other case", nil, func(q *raw) { q.set("X-Amz-Target", strings.ToLower(q.get("X-Amz-Target"))) }, invalid, mismatch},
		{"target removed", nil, func(q *raw) { q.del("X-Amz-Target") }, invalid, "SignedHeaders has 'x-amz-target'"},
		{"second target", nil, func(q *raw) { q.add("X-Amz-Target", "AWSMPMeteringService.MeterUsage") }, invalid, "2 'x-amz-target' headers"},
		{"second target, signed joined", nil, func(q *raw) {
			q.add("X-Amz-Target", "AWSMPMeteringService.MeterUsage")
			q.resign(credential, allSigned, amzDate)
		}, invalid, "2 'x-amz-target' headers"},
		{"content type changed", nil, func(q *raw) { q.set("Content-Type", "application/json") }, invalid, mismatch},
		{"second content type", nil, func(q *raw) { q.add("Content-Type", "application/json") }, invalid, mismatch},
		{"ordinary header changed", nil, func(q *raw) { q.set("Amz-Sdk-Request", "attempt=2; max=3") }, invalid, mismatch},
		{"space removed from a value", nil, func(q *raw) { q.set("Amz-Sdk-Request", "attempt=1;max=3") }, invalid, mismatch},
		{"repeats in other order", func(o *order) { o.header["X-Custom"] = []string{"a", "b"} }, func(q *raw) {
			i := q.index("X-Custom")
			q.headers[i], q.headers[i+1] = q.headers[i+1], q.headers[i]
		}, invalid, mismatch},

		// Body.
		{"body changed", nil, func(q *raw) { q.body = strings.Replace(q.body, "a1b2", "a1b3", 1) }, invalid, mismatch},
		{"body longer", nil, func(q *raw) { q.body += " "; q.set("Content-Length", fmt.Sprint(len(q.body))) }, invalid, mismatch},
		{"body emptied", nil, func(q *raw) { q.body = ""; q.set("Content-Length", "0") }, invalid, mismatch},
		{"content hash of another body", func(o *order) { o.header.Set("X-Amz-Content-Sha256", hexHash("{}")) }, nil, invalid, "'x-amz-content-sha256' header does not match"},
		{"content hash signed as the payload of another body", hashed(hexHash("{}")), nil, invalid, "'x-amz-content-sha256' header does not match"},
		{"content hash in upper case", func(o *order) { o.header.Set("X-Amz-Content-Sha256", strings.ToUpper(hexHash(o.body))) }, nil, invalid, "lower-case"},
		{"content hash empty", func(o *order) { o.header["X-Amz-Content-Sha256"] = []string{""} }, nil, invalid, "does not match"},
		{"content hash twice", func(o *order) { o.header["X-Amz-Content-Sha256"] = []string{hexHash(o.body), hexHash(o.body)} }, nil, invalid, "2 'x-amz-content-sha256' headers"},
		{"body changed under a content hash", func(o *order) { o.header.Set("X-Amz-Content-Sha256", hexHash(o.body)) },
			func(q *raw) { q.body = strings.ToUpper(q.body) }, invalid, "does not match what was computed"},
		{"unsigned payload", hashed("UNSIGNED-PAYLOAD"), nil, invalid, "no unsigned or streamed payload"},
		{"streamed payload", hashed("STREAMING-AWS4-HMAC-SHA256-PAYLOAD"), nil, invalid, "no unsigned or streamed payload"},
		{"streamed unsigned payload with trailer", hashed("STREAMING-UNSIGNED-PAYLOAD-TRAILER"), nil, invalid, "no unsigned or streamed payload"},
	}
	srv := serve(t, newVerifier(), fixedClock)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			o := usual()
			if test.order != nil {
				test.order(&o)
			}
			q := newRaw(t, o.sign(t))
			if test.edit != nil {
				test.edit(q)
			}
			resp := q.send(t, srv.Listener.Addr().String())
			body, _ := io.ReadAll(resp.Body)
			status := 400
			if test.code == unknownOp {
				status = 404
			}
			if code := resp.Header.Get("Code"); code != test.code || resp.StatusCode != status || !strings.Contains(string(body), test.text) {
				t.Errorf("got %d %s %q\nwant %d %s %q", resp.StatusCode, code, body, status, test.code, test.text)
			}
			if len(body) > 500 {
				t.Errorf("the message has %d bytes", len(body))
			}
			for _, private := range []string{secret, tempKey, token, q.body} {
				if private != "" && strings.Contains(string(body), private) {
					t.Errorf("the message shows %q", private)
				}
			}
		})
	}
	t.Logf("%d ways to be refused", len(tests))
}

func temporary(o *order) { o.id, o.key, o.token = tempID, tempKey, token }

// hashed signs value as the payload hash and sends it, as for S3.
func hashed(value string) func(*order) {
	return func(o *order) {
		o.payload = value
		o.header.Set("X-Amz-Content-Sha256", value)
	}
}

func flipSignature(i int) func(*raw) {
	return func(q *raw) {
		signature := []byte(q.param("Signature"))
		signature[i] = map[bool]byte{true: '1', false: '0'}[signature[i] == '0']
		q.auth(q.param("Signature"), string(signature))
	}
}

// redate signs with a date that is not in the one form allowed.
func redate(date string) func(*raw) {
	return func(q *raw) {
		q.set("X-Amz-Date", date)
		q.resign(credential, allSigned, date)
	}
}

// presign puts the SDK's presigned query on the target.
func presign(t *testing.T, removeAuthorization bool) func(*raw) {
	return func(q *raw) {
		r, err := http.NewRequest("POST", "http://"+host+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		creds := aws.Credentials{AccessKeyID: keyID, SecretAccessKey: secret}
		signed, _, err := v4.NewSigner().PresignHTTP(context.Background(), creds, r, hexHash(q.body), service, region, now)
		if err != nil {
			t.Fatal(err)
		}
		q.target = strings.TrimPrefix(signed, "http://"+host)
		if removeAuthorization {
			q.del("Authorization")
		}
	}
}

// received makes of a signed request what a server would have received.
func received(r *http.Request) *http.Request {
	r.RequestURI = "/"
	r.Host = host
	return r
}

func TestVerifyHosts(t *testing.T) {
	for _, test := range []struct {
		host  string
		hosts []string
		ok    bool
	}{
		{"meter.example", nil, true},
		{"meter.example", []string{"other.example", "meter.example"}, true},
		{"Meter.Example", []string{"meter.example"}, true},
		{"meter.example:8443", []string{"meter.example:8443"}, true},
		{"meter.example:8443", []string{"meter.example"}, false},
		{"meter.example", []string{"meter.example:8443"}, false},
		{"evil.meter.example", []string{"meter.example"}, false},
		{"evil.example", []string{"meter.example"}, false},
	} {
		v := newVerifier()
		v.Hosts = test.hosts
		o := usual()
		o.url = "http://" + test.host + "/"
		r := o.sign(t)
		r.RequestURI = "/"
		_, err := v.Verify(r, []byte(o.body), now)
		if (err == nil) != test.ok || err != nil && !strings.Contains(err.Error(), "not one this service is configured to serve") {
			t.Errorf("host %s of %v: %v", test.host, test.hosts, err)
		}
	}
}

// TestVerifyHeaderFields covers what only HTTP/2 or hand-made requests have.
func TestVerifyHeaderFields(t *testing.T) {
	for _, test := range []struct {
		name string
		edit func(*http.Request)
		text string // "" for accepted
	}{
		{"as signed", func(r *http.Request) {}, ""},
		{"the same host twice, as HTTP/2 may", func(r *http.Request) { r.Header["Host"] = []string{host} }, ""},
		{"space around values", func(r *http.Request) { r.Header["Content-Type"] = []string{" \tapplication/x-amz-json-1.1 \t"} }, ""},
		{"another host in the header", func(r *http.Request) { r.Header["Host"] = []string{"evil.example"} }, "two different hosts"},
		{"X-Amz-Target under two keys", func(r *http.Request) { r.Header["x-amz-target"] = []string{"evil"} }, "must be a 'SignedHeader'"},
		{"no request target", func(r *http.Request) { r.RequestURI = "" }, "POST / only"},
		{"content-length in the header", func(r *http.Request) { r.Header["Content-Length"] = []string{"22"} }, ""},
		{"another content-length in the header", func(r *http.Request) { r.Header["Content-Length"] = []string{"23"} }, "does not match"},
	} {
		o := usual()
		r := received(o.sign(t))
		test.edit(r)
		_, err := newVerifier().Verify(r, []byte(o.body), now)
		if (err == nil) != (test.text == "") || err != nil && !strings.Contains(err.Error(), test.text) {
			t.Errorf("%s: %v, want %q", test.name, err, test.text)
		}
	}
}

func TestVerifyDefaultsDeny(t *testing.T) {
	for _, test := range []struct {
		name string
		edit func(*sigv4.Verifier[string])
		code string
	}{
		{"no Lookup", func(v *sigv4.Verifier[string]) { v.Lookup = nil }, unrecognized},
		{"no KnownRegion", func(v *sigv4.Verifier[string]) { v.KnownRegion = nil }, invalid},
		{"no Services", func(v *sigv4.Verifier[string]) { v.Services = nil }, invalid},
		{"negative skew", func(v *sigv4.Verifier[string]) { v.MaxSkew = -1 }, invalid},
		{"zero value", func(v *sigv4.Verifier[string]) { *v = sigv4.Verifier[string]{} }, invalid},
	} {
		v := newVerifier()
		test.edit(v)
		o := usual()
		_, err := v.Verify(received(o.sign(t)), []byte(o.body), now)
		var e *sigv4.Error
		if !errors.As(err, &e) || e.Code != test.code {
			t.Errorf("%s: %v, want %s", test.name, err, test.code)
		}
	}
}

// TestVerifyServices: a signature holds for the service that its scope names, also when the signing key of another is known.
func TestVerifyServices(t *testing.T) {
	v := newVerifier()
	v.Services = []string{service, "sts"}
	for range 2 { // the second time the keys are known
		for _, name := range v.Services {
			o := usual()
			o.service = name
			if id, err := v.Verify(received(o.sign(t)), []byte(o.body), now); err != nil || id.Service != name {
				t.Errorf("signed for %s: for %q, %v", name, id.Service, err)
			}
			r := received(o.sign(t))
			other := map[string]string{service: "sts", "sts": service}[name]
			r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), "/"+name+"/", "/"+other+"/", 1))
			var e *sigv4.Error
			if _, err := v.Verify(r, []byte(o.body), now); !errors.As(err, &e) || !e.Mismatch() {
				t.Errorf("signed for %s, sent for %s: %v", name, other, err)
			}
		}
		o := usual()
		o.service = "s3"
		if _, err := v.Verify(received(o.sign(t)), []byte(o.body), now); err == nil || !strings.Contains(err.Error(), "correct service: 'aws-marketplace' or 'sts'.") {
			t.Errorf("signed for s3: %v", err)
		}
	}
}

func TestVerifyMaxSkew(t *testing.T) {
	v := newVerifier()
	v.MaxSkew = 90 * time.Second
	o := usual()
	if _, err := v.Verify(received(o.sign(t)), []byte(o.body), now.Add(90*time.Second)); err != nil {
		t.Error(err)
	}
	_, err := v.Verify(received(o.sign(t)), []byte(o.body), now.Add(91*time.Second))
	if err == nil || !strings.Contains(err.Error(), "(20261123T123627Z - 1m30s)") {
		t.Error(err)
	}
}

func TestVerifyPassesLookupError(t *testing.T) {
	broken := errors.New("store: closed")
	v := newVerifier()
	v.Lookup = func(string, string) (sigv4.Credential[string], error) {
		return sigv4.Credential[string]{Secret: secret, Principal: "alice"}, broken
	}
	o := usual()
	if id, err := v.Verify(received(o.sign(t)), []byte(o.body), now); err != broken || id != (sigv4.Identity[string]{}) {
		t.Errorf("got %v, %v", id, err)
	}
}

func TestVerifyForgetsChangedSecret(t *testing.T) {
	current := "first"
	v := newVerifier()
	v.Lookup = func(string, string) (sigv4.Credential[string], error) {
		return sigv4.Credential[string]{Secret: current}, nil
	}
	verify := func(key string) error {
		o := usual()
		o.key = key
		_, err := v.Verify(received(o.sign(t)), []byte(o.body), now)
		return err
	}
	for _, secret := range []string{"first", "first", "second", "first"} {
		current = secret
		if err := verify(secret); err != nil {
			t.Errorf("with %s: %v", secret, err)
		}
		if verify("third") == nil {
			t.Errorf("with %s: a wrong secret passed", secret)
		}
	}
	current = "second"
	if verify("first") == nil {
		t.Error("the old secret passed")
	}
	if n := v.Keys(); n != 1 {
		t.Errorf("%d keys held for one access key", n)
	}
}

func TestVerifyBoundsKeys(t *testing.T) {
	v := newVerifier()
	v.FillKeys(sigv4.MaxKeys + 100)
	o := usual()
	for range 2 {
		if _, err := v.Verify(received(o.sign(t)), []byte(o.body), now); err != nil {
			t.Fatal(err)
		}
	}
	if n := v.Keys(); n != sigv4.MaxKeys {
		t.Errorf("%d keys held, want %d", n, sigv4.MaxKeys)
	}
}

// TestVerifyUnknownKeys: an unknown key is checked as a known one is, but with one
// stand-in key for all, so that guessing does not push out real ones.
func TestVerifyUnknownKeys(t *testing.T) {
	v := newVerifier()
	for i := range 10 {
		o := usual()
		o.id = fmt.Sprint("AKIDNOBODY", i)
		if _, err := v.Verify(received(o.sign(t)), []byte(o.body), now); err == nil {
			t.Error("an unknown key passed")
		}
		if n := v.Keys(); n != 1 {
			t.Errorf("%d keys held after %d unknown ones", n, i+1)
		}
	}
}

func TestClaimedKey(t *testing.T) {
	o := usual()
	signed := o.sign(t).Header
	for name, test := range map[string]struct {
		values []string
		want   string
	}{
		"signed":                {signed["Authorization"], keyID},
		"not signed":            {nil, ""},
		"twice":                 {append(signed["Authorization"], signed["Authorization"]...), ""},
		"without signature":     {[]string{"AWS4-HMAC-SHA256 Credential=" + credential}, ""},
		"with an odd signature": {[]string{strings.Replace(signed.Get("Authorization"), "Signature=", "Signature=x", 1)}, ""},
	} {
		if got := sigv4.ClaimedKey(http.Header{"Authorization": test.values}); got != test.want {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}

func TestVerifyConcurrently(t *testing.T) {
	v := newVerifier()
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			o := usual()
			o.body = strings.Repeat("x", i)
			if i%2 == 1 {
				temporary(&o)
			}
			for range 50 {
				r := received(o.sign(t))
				if _, err := v.Verify(r, []byte(o.body), now); err != nil {
					t.Error(err)
				}
				if _, err := v.Verify(r, []byte(o.body+"!"), now); err == nil {
					t.Error("another body passed")
				}
			}
		})
	}
	wg.Wait()
}

func TestHMAC(t *testing.T) {
	for n := range 600 {
		text := bytes.Repeat([]byte{byte(n)}, n)
		for _, key := range [][]byte{nil, {1}, bytes.Repeat([]byte{0xa5}, 32), bytes.Repeat([]byte{0x5a}, 64)} {
			h := hmac.New(sha256.New, key)
			h.Write(text)
			if got := sigv4.HMAC(key, text); !bytes.Equal(got[:], h.Sum(nil)) {
				t.Fatalf("key of %d, text of %d bytes", len(key), n)
			}
		}
	}
}

// FuzzAuthorization: the parser never panics, and what it accepts has exactly one
// meaning: written out again in the usual form it parses to the same.
func FuzzAuthorization(f *testing.F) {
	usual := "AWS4-HMAC-SHA256 Credential=" + credential + ", SignedHeaders=" + allSigned + ", Signature=" + strings.Repeat("0f", 32)
	f.Add(usual)
	f.Add(strings.ReplaceAll(usual, ", ", ",\t "))
	f.Add("AWS4-HMAC-SHA256 Signature=" + strings.Repeat("00", 32) + ",SignedHeaders=a;b,Credential=A/1/r/s/aws4_request")
	f.Add("AWS4-HMAC-SHA256 Credential=,=,")
	f.Add("AWS AKID:sig")
	f.Fuzz(func(t *testing.T, header string) {
		p, err := sigv4.Parse(header)
		if err != nil {
			if p != (sigv4.Parsed{}) {
				t.Errorf("refused, but parsed %v", p)
			}
			if err.Message == "" || err.Status != 400 || len(err.Message) > 2000 {
				t.Errorf("odd error %v", err)
			}
			return
		}
		if p.Scope != p.Day+"/"+p.Region+"/"+p.Service+"/aws4_request" || p.AccessKeyID == "" {
			t.Errorf("scope %q of %v", p.Scope, p)
		}
		names := strings.Split(p.SignedHeaders, ";")
		if !slices.IsSorted(names) || len(slices.Compact(slices.Clone(names))) != len(names) || strings.ToLower(p.SignedHeaders) != p.SignedHeaders {
			t.Errorf("signed headers %q", p.SignedHeaders)
		}
		again := fmt.Sprintf("AWS4-HMAC-SHA256 Credential=%s/%s, SignedHeaders=%s, Signature=%x", p.AccessKeyID, p.Scope, p.SignedHeaders, p.Signature)
		if q, err := sigv4.Parse(again); err != nil || q != p {
			t.Errorf("%q reads as %v, %q as %v (%v)", header, p, again, q, err)
		}
		if len(again) > len(header)+2 { // at most the two spaces may be added
			t.Errorf("%q is written out as %q", header, again)
		}
	})
}

// FuzzVerify: of all requests a fuzzer can make out of a signed one, only that
// one verifies.
func FuzzVerify(f *testing.F) {
	o := usual()
	signed := received(o.sign(f))
	authorization := signed.Header.Get("Authorization")
	target, date, sdk := signed.Header.Get("X-Amz-Target"), signed.Header.Get("X-Amz-Date"), signed.Header.Get("Amz-Sdk-Request")
	f.Add(authorization, target, date, sdk, host, "Accept", "*/*", o.body)
	f.Add(authorization, target, date, "attempt=1;   max=3", host, "X-Amz-Meta", "", o.body)
	f.Add(strings.Replace(authorization, "host;", "", 1), target, date, sdk, "evil.example", "Date", date, "{}")
	f.Add(strings.Replace(authorization, "us-east-1", "eu-west-1", 1), target, date, sdk, host, "X-Amz-Security-Token", token, o.body)
	want, _ := sigv4.Parse(authorization)
	v := newVerifier()
	f.Fuzz(func(t *testing.T, auth, fuzzTarget, fuzzDate, fuzzSDK, fuzzHost, name, value, body string) {
		r := signed.Clone(context.Background())
		r.Host = fuzzHost
		r.Header.Set("Authorization", auth)
		r.Header.Set("X-Amz-Target", fuzzTarget)
		r.Header.Set("X-Amz-Date", fuzzDate)
		r.Header.Set("Amz-Sdk-Request", fuzzSDK)
		r.Header.Add(name, value)
		_, err := v.Verify(r, []byte(body), now)
		if err != nil {
			return
		}
		got, _ := sigv4.Parse(auth)
		fold := func(s string) string { return strings.Join(strings.Fields(s), " ") }
		if got != want || fold(fuzzTarget) != target || fuzzDate != date || fold(fuzzSDK) != sdk || fold(fuzzHost) != host || body != o.body {
			t.Errorf("verified: %q %q %q %q %q %q", auth, fuzzTarget, fuzzDate, fuzzSDK, fuzzHost, body)
		}
		switch name = strings.ToLower(name); {
		case name == "host" && value == host, name == "content-length" && fold(value) == fmt.Sprint(len(o.body)):
			// What the request said anyway.
		case strings.HasPrefix(name, "x-amz-"), slices.Contains(strings.Split(want.SignedHeaders, ";"), name):
			t.Errorf("verified with %q: %q added", name, value)
		}
	})
}

// meaning is what a received request says in the places that its signature covers, in the simplest words.
func meaning(r *http.Request, body []byte) string {
	var lines []string
	for _, values := range r.Header["Authorization"] {
		p, err := sigv4.Parse(values)
		lines = append(lines, fmt.Sprint(p, err))
		for name := range strings.SplitSeq(p.SignedHeaders, ";") {
			values := r.Header[http.CanonicalHeaderKey(name)]
			switch name {
			case "host":
				values = []string{r.Host}
			case "content-length":
				values = []string{fmt.Sprint(r.ContentLength)}
			}
			joined := []string{}
			for _, v := range values {
				joined = append(joined, spaces.ReplaceAllString(strings.Trim(v, " \t"), " "))
			}
			lines = append(lines, fmt.Sprintf("%s: %q", name, strings.Join(joined, ",")))
		}
	}
	for name := range r.Header {
		if strings.HasPrefix(name, "X-Amz-") {
			lines = append(lines, name)
		}
	}
	slices.Sort(lines)
	return fmt.Sprintf("%s %q %q %q", r.Method, r.RequestURI, lines, body)
}

var (
	spaces    = regexp.MustCompile(` +`)
	fieldName = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")
)

// FuzzSDK: whatever header and body the AWS SDK's signer signs verifies as net/http's server reads it, and with one
// byte of the message changed it verifies only if it still says the same.
func FuzzSDK(f *testing.F) {
	f.Add("X-Custom", "a  b \t c", "", `{"ProductCode":"a1b2"}`, uint16(20), uint16(0), byte(1), false)
	f.Add("Accept", "*/*", "é, ,", "", uint16(0), uint16(100), byte(32), true)
	f.Add("x-aMz-meta", " v ", "x", "\x00\xff", uint16(300), uint16(400), byte(255), true)
	f.Add("Date", "Mon, 23 Nov 2026 12:34:56 GMT", "", "{}", uint16(601), uint16(1), byte(4), false)
	v := newVerifier()
	f.Fuzz(func(t *testing.T, name, value, second, body string, when, at uint16, change byte, session bool) {
		if !fieldName.MatchString(name) || strings.ContainsAny(value+second, "\r\n") { // net/http's client sends none of those
			return
		}
		o := usual()
		o.body = body
		o.when = now.Add(time.Duration(when%601)*time.Second - 5*time.Minute)
		if session {
			temporary(&o)
		}
		name = http.CanonicalHeaderKey(name)
		switch name {
		case "Host", "Content-Length", "Transfer-Encoding", "Trailer", "Authorization", "X-Amz-Date", "X-Amz-Target", "X-Amz-Security-Token", "X-Amz-Content-Sha256": // set or interpreted by others
			name = "X-Custom"
		}
		o.header[name] = []string{value}
		if !strings.HasPrefix(name, "X-Amz-") && name != "Date" { // these must not be repeated
			o.header[name] = append(o.header[name], second)
		}
		signed := o.sign(t)
		var message bytes.Buffer
		if err := signed.Write(&message); err != nil {
			return // no header field, for net/http's client
		}
		verify := func(message []byte) (said string, err error) { // it says nothing if it is no request for net/http
			r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(message)))
			if err != nil {
				return "", err
			}
			received, err := io.ReadAll(r.Body)
			if err != nil {
				return "", err
			}
			_, err = v.Verify(r, received, now)
			return meaning(r, received), err
		}
		want, err := verify(message.Bytes())
		if want == "" { // no request, for net/http's server
			return
		}
		if err != nil {
			t.Fatalf("%v: %q", err, message.Bytes())
		}
		changed := bytes.Clone(message.Bytes())
		changed[len(changed)-1-int(at)%len(changed)] ^= change // the body's last byte is 0
		if got, err := verify(changed); err == nil && got != want {
			t.Errorf("verified, but it says\n%s, not\n%s: %q", got, want, changed)
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	o := usual()
	o.body = strings.Repeat("0123456789abcdef", 3*1024/16)
	r, body := received(o.sign(b)), []byte(o.body)
	v := newVerifier()
	for _, bench := range []struct {
		name string
		auth string
		ok   bool
	}{
		{"valid", r.Header.Get("Authorization"), true},
		{"unknown key", strings.Replace(r.Header.Get("Authorization"), keyID, "AKIDNOBODY", 1), false},
	} {
		b.Run(bench.name, func(b *testing.B) {
			r.Header.Set("Authorization", bench.auth)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := v.Verify(r, body, now); (err == nil) != bench.ok {
					b.Fatal(err)
				}
			}
		})
	}
}
