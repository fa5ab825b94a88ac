package server_test

import (
	"encoding/json"
	"fmt"
	"hash/crc32"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/meterd/meterd/internal/adminapi"
	"github.com/meterd/meterd/internal/sandbox"
	"github.com/meterd/meterd/internal/server"
)

// bureau is the admin API of a sandbox, for fuzzing: it is opened anew when it has grown.
type bureau struct {
	base    string // folder for its ledgers
	e       *endpoint
	scope   *scope
	handler http.Handler
	known   string // what digest said
	changes int
}

// scope ends what outlives the test that began it.
type scope struct {
	testing.TB
	dir      string
	cleanups []func()
}

func (s *scope) Cleanup(f func()) { s.cleanups = append(s.cleanups, f) }
func (s *scope) TempDir() string  { return s.dir }

func (b *bureau) open(t *testing.T) {
	b.close(t)
	dir, err := os.MkdirTemp(b.base, "")
	if err != nil {
		t.Fatal(err)
	}
	b.scope = &scope{TB: t, dir: dir}
	b.e = openEndpoint(b.scope)
	b.handler = server.Admin(server.AdminConfig{Ledger: b.e.ledger, Log: slog.New(slog.DiscardHandler)})
	for _, g := range b.e.good() { // for usage to be listed
		b.e.call(g.signer, "BatchMeterUsage", g.body)
	}
	b.changes = 0
	if b.known = b.digest(t); b.known == "" {
		t.Fatal("the lists cannot be read")
	}
}

func (b *bureau) close(t testing.TB) {
	if b.scope == nil {
		return
	}
	b.e.TB, b.scope.TB = t, t
	for _, f := range slices.Backward(b.scope.cleanups) {
		f()
	}
	if err := os.RemoveAll(b.scope.dir); err != nil {
		t.Error(err)
	}
	b.scope = nil
}

// digest is all that the admin API shows, or "" if it shows nothing any more.
func (b *bureau) digest(t *testing.T) string {
	all := &strings.Builder{}
	for _, list := range []string{"regions", "sellers", "buyers", "products", "agreements", "users", "roles", "workloads", "tokens", "admin-tokens", "clock", "usage"} {
		query := "?limit=1000"
		if list == "clock" {
			query = ""
		}
		w := b.serve(t, "GET", "/v1/"+list+query, "", nil)
		if w.Code == http.StatusUnauthorized {
			return ""
		}
		if w.Code != http.StatusOK {
			t.Fatalf("GET %s: %d %s", list, w.Code, w.Body)
		}
		all.Write(w.Body.Bytes())
	}
	return all.String()
}

func (b *bureau) serve(t *testing.T, method, target, contentType string, body []byte) *httptest.ResponseRecorder {
	t.Helper()
	u, err := url.ParseRequestURI(target)
	if err != nil {
		t.Fatal(err) // which net/http answers with 400: see sendable
	}
	r := httptest.NewRequest(method, "/", strings.NewReader(string(body)))
	r.URL, r.RequestURI = u, target
	r.Header.Set("Authorization", "Bearer "+sandbox.AdminToken)
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	w := httptest.NewRecorder()
	b.handler.ServeHTTP(w, r)
	return w
}

// operations lists the method and path of each operation of the document, in order.
func (b *bureau) operations(t *testing.T) (all []string) {
	w := b.serve(t, "GET", "/openapi.json", "", nil)
	var document struct {
		Paths map[string]map[string]json.RawMessage
	}
	if err := json.Unmarshal(w.Body.Bytes(), &document); err != nil {
		t.Fatal(err)
	}
	for path, item := range document.Paths {
		for method := range maps.Keys(item) {
			all = append(all, strings.ToUpper(method)+" "+path)
		}
	}
	slices.Sort(all)
	return all
}

// escape is url.PathEscape for names that would be taken for a place.
func escape(name string) string {
	if name == "" {
		return "x"
	}
	return strings.ReplaceAll(url.PathEscape(name), ".", "%2E")
}

// sendable is a query as it can stand in a request: control characters, for which net/http refuses a request before
// anybody sees it, are escaped.
func sendable(query string) string {
	var b strings.Builder
	for i := range len(query) {
		if c := query[i]; c < ' ' || c == 0x7f {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// FuzzAdmin sends any names, queries and bodies to any operation of the admin API: cursors, request ids, times,
// permissions and marketplaces among them. There is an answer, never a panic or an internal error; a refusal is one
// line, and what was refused has changed nothing.
func FuzzAdmin(f *testing.F) {
	const asJSON, asYAML = "application/json", "application/yaml"
	for _, seed := range []struct{ operation, name, other, query, contentType, body string }{
		{operation: "POST /v1/regions", contentType: asJSON, body: `{"name":"eu-private-1","enabled":true}`},
		{operation: "PATCH /v1/regions/{name}", name: "us-east-1", contentType: asJSON, body: `{"enabled":false}`},
		{operation: "POST /v1/sellers", contentType: asJSON, body: `{"account_id":"111122223333","name":"Acme"}`},
		{operation: "GET /v1/sellers/{account_id}", name: "111111111111"},
		{operation: "POST /v1/buyers", contentType: asJSON, body: `{"account_id":"012345678901","customer_identifiers":[{"seller_account_id":"111111111111","customer_identifier":"best"}],"agreements":[{"product_code":"` + sandbox.LegacySaaS + `","start_time":"2026-11-23T14:00:00Z","end_time":"2027-01-01T00:00:00+01:00"}]}`},
		{operation: "PATCH /v1/buyers/{account_id}", name: "444444444444", contentType: asJSON, body: `{"suspended":true}`},
		{operation: "POST /v1/products", contentType: asJSON, body: `{"seller_account_id":"111111111111","type":"saas","integration":"legacy","product_code":"a/b","dimensions":["users","gb"],"regions":["us-east-1"]}`},
		{operation: "POST /v1/products", contentType: asJSON, body: `{"seller_account_id":"111111111111","type":"container","public_keys":[{"version":1,"private_pem":"-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----"}]}`},
		{operation: "GET /v1/products", query: "seller_account_id=111111111111&after=x"},
		{operation: "POST /v1/products/{product_code}/dimensions", name: sandbox.LegacySaaS, contentType: asJSON, body: `{"dimension":"seats"}`},
		{operation: "POST /v1/products/{product_code}/public-keys/{version}/expire", name: sandbox.Container, other: "1"},
		{operation: "POST /v1/agreements", contentType: asJSON, body: `{"product_code":"` + sandbox.LegacySaaS + `","buyer_account_id":"555555555555","license_arn":"arn:aws:license-manager::1:license:l-1"}`},
		{operation: "GET /v1/agreements", query: "status=active&buyer_account_id=444444444444&limit=1"},
		{operation: "POST /v1/agreements/{agreement_id}/cancel", name: "agmt-x", contentType: asJSON, body: `{"end_time":"2026-11-30T00:00:00Z"}`},
		{operation: "POST /v1/users", contentType: asJSON, body: `{"account_id":"111111111111","name":"u","allow":["aws-marketplace:Batch*"],"deny":["aws-marketplace:?eterUsage"],"access_keys":[{"access_key_id":"AKIAIOSFODNN7EXAMPLE","secret_access_key":"wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"}]}`},
		{operation: "PUT /v1/users/{account_id}/{name}/permissions", name: "111111111111", other: "metering", contentType: asJSON, body: `{"allow":["*"],"deny":["MeterdSellerAccess"]}`},
		{operation: "DELETE /v1/roles/{account_id}/{name}", name: "444444444444", other: "meterd-workload"},
		{operation: "POST /v1/users/{account_id}/{name}/access-keys", name: "111111111111", other: "metering"},
		{operation: "PATCH /v1/access-keys/{access_key_id}", name: "AKIASANDBOXACME00001", contentType: asJSON, body: `{"status":"Inactive"}`},
		{operation: "POST /v1/workloads", contentType: asJSON, body: `{"account_id":"444444444444","platform":"ecs","resource_id":"task-1","region":"us-east-1","duration_seconds":900}`},
		{operation: "POST /v1/tokens", contentType: asJSON, body: `{"product_code":"` + sandbox.LegacySaaS + `","buyer":"444444444444","issued_at":"2026-11-23T10:00:00.5Z"}`},
		{operation: "DELETE /v1/tokens/{id}", name: "1"},
		{operation: "POST /v1/admin-tokens", contentType: asJSON, body: `{"name":"second"}`},
		{operation: "DELETE /v1/admin-tokens/{id}", name: "1"},
		{operation: "PUT /v1/clock", contentType: asJSON, body: `{"advance":"-1h30m","frozen":true}`},
		{operation: "PUT /v1/clock", contentType: asJSON, body: `{"now":"2026-12-01T06:00:00Z"}`},
		{operation: "GET /v1/usage", query: "limit=1&after=1&from=2026-11-23T15:00:00.005%2B01:00&to=2026-11-24T00:00:00Z&dimension=users"},
		{operation: "GET /v1/usage", query: "dimension=a\x00b\r\nc\x7f%zz#"},
		{operation: "GET /v1/usage", query: "after=4294967296&customer_aws_account_id=444444444444"},
		{operation: "GET /v1/usage/sum", query: "by=hour&by=region,workload&product_code=" + sandbox.LegacySaaS},
		{operation: "GET /v1/calls/{request_id}", name: "0199f0a0-0000-7000-8000-000000000000"},
		{operation: "GET /v1/calls/{request_id}", name: "{0199F0A0-0000-7000-8000-000000000000}"},
		{operation: "POST /v1/import", contentType: asJSON, body: `{"sellers":[{"account_id":"777788889999"}],"users":[{"account_id":"777788889999","name":"u"}]}`},
		{operation: "POST /v1/import", contentType: asYAML, body: "products:\n- {product_code: p, seller_account_id: \"111111111111\", type: saas, dimensions: [users]}\nbuyers:\n- account_id: 012345678901\n  agreements:\n  - product_code: p\n    start_time: 2026-11-23T14:00:00Z\n"},
		{operation: "POST /v1/import", contentType: asYAML, body: "sellers: &s [{account_id: \"777788889999\"}]\nbuyers: *s\nregions: [{name: x-1, enabled: !!bool \"yes\"}]\n"},
	} {
		f.Add(seed.operation, seed.name, seed.other, seed.query, seed.contentType, []byte(seed.body))
	}
	b := &bureau{base: f.TempDir()}
	var operations []string
	f.Cleanup(func() { b.close(f) })
	f.Fuzz(func(t *testing.T, operation, name, other, query, contentType string, body []byte) {
		if b.scope == nil || b.changes >= 300 || b.known == "" {
			b.open(t)
			operations = b.operations(t)
		}
		b.e.TB, b.scope.TB = t, t
		if !slices.Contains(operations, operation) {
			operation = operations[crc32.ChecksumIEEE([]byte(operation))%uint32(len(operations))]
		}
		method, target, _ := strings.Cut(operation, " ")
		for names := []string{name, other}; ; names = names[1:] {
			before, behind, found := strings.Cut(target, "{")
			if !found {
				break
			}
			_, behind, _ = strings.Cut(behind, "}")
			target = before + escape(names[0]) + behind
		}
		if query != "" {
			target += "?" + sendable(query)
		}
		w := b.serve(t, method, target, contentType, body)
		what := fmt.Sprintf("%s %s %s %q: %d %s", method, target, contentType, body, w.Code, w.Body)
		known := b.known
		b.known = b.digest(t)
		switch {
		case w.Code >= 500:
			t.Error(what)
		case w.Code >= 400:
			var p adminapi.Problem
			if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || p.Status != w.Code || p.Title == "" || p.Detail == "" || strings.ContainsAny(p.Detail, "\r\n") || !utf8.ValidString(p.Detail) ||
				w.Header().Get("Content-Type") != "application/problem+json" {
				t.Errorf("not a problem of one line: %s", what)
			}
			if b.known != known {
				t.Errorf("refused, but something has changed: %s", what)
			}
		case w.Code >= 300:
			t.Errorf("not an answer: %s", what)
		case method == "GET":
			if b.known != known {
				t.Errorf("reading has changed something: %s", what)
			}
			if !json.Valid(w.Body.Bytes()) {
				t.Errorf("not JSON: %s", what)
			}
		default:
			b.changes++
		}
	})
}
