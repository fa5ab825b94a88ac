package sigv4_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/meterd/meterd/internal/sigv4"
)

// TestVerifyAcceptsTabs: the SDK for Go signs tabs as they are, and single spaces for runs of spaces.
func TestVerifyAcceptsTabs(t *testing.T) {
	for _, value := range []string{"a\tb", "a\t\tb", "a \t  b", "a  b\t c", "a   b"} {
		o := usual()
		o.header.Set("X-Amz-Meta", value)
		if _, err := newVerifier().Verify(received(o.sign(t)), []byte(o.body), now); err != nil {
			t.Errorf("%q: %v", value, err)
		}
	}
}

// TestVerifyBehindProxies: what proxies do to the path and to headers, trusted or not.
func TestVerifyBehindProxies(t *testing.T) {
	for _, c := range []struct {
		name                   string
		base, signed, received string
		header                 http.Header // added on the way
		trusted                bool
		ok                     bool
	}{
		{"base path passed on", "/metering", "/metering/", "/metering/", nil, false, true},
		{"base path without its slash", "/metering", "/metering", "/metering", nil, false, true},
		{"base path taken off", "/metering", "/metering/", "/", nil, false, true},
		{"base path taken off, without its slash", "/metering", "/metering", "/", nil, false, true},
		{"no base path in the client's endpoint", "/metering", "/", "/", nil, false, true},
		{"another path", "/metering", "/other/", "/other/", nil, false, false},
		{"another path taken off", "/metering", "/other/", "/", nil, false, false},
		{"below the base path", "/metering", "/metering/x", "/metering/x", nil, false, false},
		{"a base path that is not set", "", "/metering/", "/metering/", nil, false, false},
		{"prefix of a trusted proxy", "", "/a/b/", "/", http.Header{"X-Forwarded-Prefix": {"/a/b"}}, true, true},
		{"prefix of a trusted proxy, with a slash", "", "/a/b/", "/", http.Header{"X-Forwarded-Prefix": {"/a/b/"}}, true, true},
		{"prefix of anybody", "", "/a/b/", "/", http.Header{"X-Forwarded-Prefix": {"/a/b"}}, false, false},
		{"two prefixes", "", "/a/", "/", http.Header{"X-Forwarded-Prefix": {"/a", "/b"}}, true, false},
		{"prefix with a line end", "", "/", "/", http.Header{"X-Forwarded-Prefix": {"/\n"}}, true, true},
		{"header of a trusted proxy", "", "/", "/", http.Header{"X-Amz-Cf-Id": {"x"}}, true, true},
		{"header of anybody", "", "/", "/", http.Header{"X-Amz-Cf-Id": {"x"}}, false, false},
		{"other header of a trusted proxy", "", "/", "/", http.Header{"X-Amz-Meta": {"x"}}, true, false},
	} {
		v := newVerifier()
		v.BasePath, v.ProxyHeaders = c.base, []string{"x-amz-cf-"}
		v.FromProxy = func(*http.Request) bool { return c.trusted }
		o := usual()
		o.url = "http://" + host + c.signed
		r := received(o.sign(t))
		r.RequestURI = c.received
		for name, values := range c.header {
			r.Header[name] = values
		}
		if _, err := v.Verify(r, []byte(o.body), now); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	for path, ok := range map[string]bool{"/a": true, "/a-b/c.d_e~f": true, "": false, "/": false, "a": false, "/a/": false, "/a//b": false, "/a/../b": false, "/%41": false, "/ä": false, "/a b": false, "/a\n": false} {
		if err := sigv4.CheckPath(path); (err == nil) != ok {
			t.Errorf("path %q: %v", path, err)
		}
	}
	for name, ok := range map[string]bool{"x-amz-cf-": true, "x-amz-cf-id": true, "x-amz-": false, "x-amz-d": false, "x-amz-date": false, "x-amz-security-": false, "X-Amz-Cf-": false, "via": false, "": false, "x-amz-cf-\n": false} {
		if err := sigv4.CheckProxyHeader(name); (err == nil) != ok {
			t.Errorf("header %q: %v", name, err)
		}
	}
}

// TestExplain: of what a proxy or a slip changed, the part is named, and no explanation shows a secret or a token.
func TestExplain(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*order)
		after  func(*http.Request)
		says   string // "" for nothing found
	}{
		{"host", nil, func(r *http.Request) { r.Host = "10.0.0.1:4880" }, "The signature is right for Host '" + host + "', but the request came with Host '10.0.0.1:4880'"},
		{"path", func(o *order) { o.url += "metering/" }, nil, "right for path '/metering/', but the request came with path '/'"},
		{"both", func(o *order) { o.url += "metering/" }, func(r *http.Request) { r.Host = "10.0.0.1:4880" }, "a proxy changed both"},
		{"unsigned payload", func(o *order) { o.payload = "UNSIGNED-PAYLOAD" }, nil, "unsigned payload"},
		{"no body signed", func(o *order) { o.payload = hexHash("") }, nil, "an empty body"},
		{"secret with a line end", func(o *order) { o.key += "\n" }, nil, "has a line end after it"},
		{"secret in quotation marks", func(o *order) { o.key = "\"" + o.key + "\"" }, nil, "quotation marks"},
		{"access key id as the secret", func(o *order) { o.key = o.id }, nil, "the access key id in its place"},
		{"temporary credentials", func(o *order) { o.id, o.key, o.token = tempID, tempKey+" ", token }, nil, "a space after it"},
		{"another secret", func(o *order) { o.key = "another" }, nil, ""},
		{"a header changed", nil, func(r *http.Request) { r.Header.Set("X-Amz-Target", "another") }, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := usual()
			if c.change != nil {
				c.change(&o)
			}
			r := received(o.sign(t))
			r.RequestURI = "/"
			if c.after != nil {
				c.after(r)
			}
			v := newVerifier()
			why, canonical := v.Explain(r, []byte(o.body), now, sigv4.Hints{Hosts: []string{"other.example", host}, Paths: []string{"/x/", "/metering/"}})
			if c.says == "" && why != "" || !strings.Contains(why, c.says) {
				t.Errorf("it says %q, want %q", why, c.says)
			}
			if !strings.HasPrefix(canonical, "POST\n/\n\n") || !strings.HasSuffix(canonical, "\n"+hexHash(o.body)) || !strings.Contains(canonical, "\nhost:"+r.Host+"\n") {
				t.Errorf("the canonical request is %q", canonical)
			}
			if said := why + canonical; strings.Contains(said, secret) || strings.Contains(said, tempKey) || strings.Contains(said, token) {
				t.Errorf("a secret is shown in %q", said)
			}
		})
	}
	if r := httptest.NewRequest(http.MethodPost, "/", nil); r != nil {
		if why, canonical := newVerifier().Explain(r, nil, now, sigv4.Hints{}); why != "" || canonical != "" {
			t.Errorf("of no signature it says %q, %q", why, canonical)
		}
	}
}
