package adminapi_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/meterd/meterd/internal/adminapi"
	"go.yaml.in/yaml/v3"
)

// TestRequests: what the client sends, for names that paths and queries could misread.
func TestRequests(t *testing.T) {
	var got string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got = strings.Join(strings.Fields(fmt.Sprintln(r.Method, r.RequestURI, r.Header.Get("Authorization"), r.Header.Get("Content-Type"), r.Header.Get("Accept"), string(body))), " ")
		io.WriteString(w, "{}")
	}))
	defer s.Close()
	c, ctx := adminapi.New(s.URL+"/", "secret"), t.Context()
	from := time.Date(2026, 11, 23, 15, 0, 0, 5e6, time.FixedZone("", 3600))
	for _, test := range []struct {
		want string
		call func() error
	}{
		{"GET /v1/products/a%2Fb:c=d@e%3Ff%23 Bearer secret", func() error {
			_, err := adminapi.GetProduct.Do(ctx, c, adminapi.ProductPath{ProductCode: "a/b:c=d@e?f#"})
			return err
		}},
		{"GET /v1/products/%2E%2E Bearer secret", func() error {
			_, err := adminapi.GetProduct.Do(ctx, c, adminapi.ProductPath{ProductCode: ".."})
			return err
		}},
		{"GET /v1/roles/111122223333/%2E Bearer secret", func() error {
			_, err := adminapi.Roles.Get.Do(ctx, c, adminapi.PrincipalPath{AccountID: "111122223333", Name: "."})
			return err
		}},
		{"GET /v1/sellers Bearer secret", func() error { _, err := adminapi.ListSellers.Do(ctx, c, adminapi.Paging{}); return err }},
		{"GET /v1/sellers?after=a%26b&limit=7 Bearer secret", func() error {
			_, err := adminapi.ListSellers.Do(ctx, c, adminapi.Paging{After: "a&b", Limit: 7})
			return err
		}},
		{"POST /v1/sellers Bearer secret application/json {\"account_id\":\"1\"}", func() error { _, err := adminapi.CreateSeller.Do(ctx, c, adminapi.Seller{AccountID: "1"}); return err }},
		{"PATCH /v1/regions/a%2Fb Bearer secret application/json {\"enabled\":true}", func() error {
			_, err := adminapi.ChangeRegion.Do(ctx, c, adminapi.RegionChange{Name: "a/b", Enabled: true})
			return err
		}},
		{"POST /v1/admin-tokens Bearer secret application/json {\"name\":\"n\"}", func() error {
			_, err := adminapi.CreateAdminToken.Do(ctx, c, adminapi.AdminToken{Name: "n"})
			return err
		}},
		{"POST /v1/products/p/public-keys/2/expire Bearer secret", func() error {
			_, err := adminapi.ExpirePublicKey.Do(ctx, c, adminapi.PublicKeyPath{ProductCode: "p", Version: 2})
			return err
		}},
		{"DELETE /v1/tokens/x Bearer secret", func() error { _, err := adminapi.RevokeToken.Do(ctx, c, adminapi.TokenPath{ID: "x"}); return err }},
		{"POST /v1/import Bearer secret application/yaml sellers: []", func() error {
			_, err := adminapi.Import.Do(ctx, c, adminapi.File{Form: adminapi.YAML, Content: strings.NewReader("sellers: []")})
			return err
		}},
		{"GET /v1/usage?dimension=a+b&from=2026-11-23T15%3A00%3A00.005%2B01%3A00 Bearer secret", func() error {
			_, err := adminapi.ListUsage.Do(ctx, c, adminapi.UsagePaging{UsageFilter: adminapi.UsageFilter{Dimension: "a b", From: from}})
			return err
		}},
		{"GET /v1/usage/sum?by=hour%2Cregion Bearer secret", func() error {
			_, err := adminapi.SumUsage.Do(ctx, c, adminapi.UsageGrouping{By: []string{"hour", "region"}})
			return err
		}},
		{"PUT /v1/clock Bearer secret application/json {\"frozen\":false}", func() error {
			_, err := adminapi.ChangeClock.Do(ctx, c, adminapi.ClockChange{Frozen: new(false)})
			return err
		}},
	} {
		if err := test.call(); err != nil {
			t.Errorf("%s: %v", test.want, err)
		}
		if d := cmp.Diff(test.want, got); d != "" {
			t.Errorf("-want +got:\n%s", d)
		}
	}
}

// TestProblems: whatever answers with an error, the client's error is a Problem of one line.
func TestProblems(t *testing.T) {
	for _, test := range []struct {
		status            int
		contentType, body string
		want              string
	}{
		{409, "application/problem+json", `{"status":409,"title":"Conflict","detail":"name: is\ntaken"}`, "name: is taken"},
		{502, "text/html", "<html>\n<h1>Bad Gateway</h1>", "the answer is HTTP status 502 Bad Gateway, and not from meterd's admin API: check the endpoint"},
		{404, "application/json", `{"detail":"x"}`, "the answer is HTTP status 404 Not Found, and not from meterd's admin API: check the endpoint"},
		{400, "application/problem+json", `{"detail":`, "the answer is HTTP status 400 Bad Request, and not from meterd's admin API: check the endpoint"},
		{307, "", "", "the answer is HTTP status 307 Temporary Redirect, and not from meterd's admin API: check the endpoint"},
	} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", test.contentType)
			w.WriteHeader(test.status)
			io.WriteString(w, test.body)
		}))
		_, err := adminapi.GetClock.Do(t.Context(), adminapi.New(s.URL, "secret"), adminapi.None{})
		var p *adminapi.Problem
		if !errors.As(err, &p) || p.Status != test.status || err.Error() != test.want {
			t.Errorf("%d %s: %#v, want %q", test.status, test.body, err, test.want)
		}
		s.Close()
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "<html>") }))
	defer s.Close()
	if _, err := adminapi.GetClock.Do(t.Context(), adminapi.New(s.URL, "secret"), adminapi.None{}); err == nil || !strings.HasPrefix(err.Error(), "reading the answer of GET /v1/clock: ") {
		t.Errorf("an answer that is no JSON: %v", err)
	}
}

// TestForms: JSON and YAML say the same.
func TestForms(t *testing.T) {
	at := time.Date(2026, 11, 23, 14, 0, 0, 0, time.UTC)
	want := &adminapi.Marketplace{
		Regions:  []adminapi.Region{{Name: "eu-private-1", Enabled: new(false)}},
		Sellers:  []adminapi.Seller{{AccountID: "111122223333"}},
		Products: []adminapi.Product{{ProductCode: "p", SellerAccountID: "111122223333", Type: "saas", Dimensions: []string{"users"}}},
		Buyers:   []adminapi.Buyer{{AccountID: "012345678901", Agreements: []adminapi.Agreement{{ProductCode: "p", StartTime: &at}}}},
		Users:    []adminapi.Principal{{AccountID: "111122223333", Name: "u", AccessKeys: []adminapi.AccessKey{{AccessKeyID: "A", SecretAccessKey: "S"}}}},
		Workloads: []adminapi.Workload{
			{AccountID: "012345678901", Platform: "ec2", ResourceID: "i-1", Region: "us-east-1"}},
	}
	fromJSON, err := read(adminapi.JSON, (`{"regions":[{"name":"eu-private-1","enabled":false}],"sellers":[{"account_id":"111122223333"}],
		"products":[{"product_code":"p","seller_account_id":"111122223333","type":"saas","dimensions":["users"]}],
		"buyers":[{"account_id":"012345678901","agreements":[{"product_code":"p","start_time":"2026-11-23T14:00:00Z"}]}],
		"users":[{"account_id":"111122223333","name":"u","access_keys":[{"access_key_id":"A","secret_access_key":"S"}]}],
		"workloads":[{"account_id":"012345678901","platform":"ec2","resource_id":"i-1","region":"us-east-1"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	fromYAML, err := read(adminapi.YAML, (`
regions: [{name: eu-private-1, enabled: false}]
sellers: [{account_id: "111122223333"}]
products:
- {product_code: p, seller_account_id: "111122223333", type: saas, dimensions: [users]}
buyers:
- account_id: 012345678901
  agreements:
  - product_code: p
    start_time: 2026-11-23T14:00:00Z
users:
- {account_id: "111122223333", name: u, access_keys: [{access_key_id: A, secret_access_key: S}]}
workloads:
- {account_id: "012345678901", platform: ec2, resource_id: i-1, region: us-east-1}
`))
	if err != nil {
		t.Fatal(err)
	}
	for form, got := range map[string]*adminapi.Marketplace{"JSON": fromJSON, "YAML": fromYAML} {
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", form, d)
		}
	}
	for _, text := range []string{"{}", "# nothing\nbuyers: []\n"} {
		if got, err := read(adminapi.YAML, (text)); err != nil || !cmp.Equal(got, &adminapi.Marketplace{}) {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
}

// lineBreak is what ends a line in YAML.
var lineBreak = regexp.MustCompile("\r\n|[\n\r\u0085\u2028\u2029]")

// FuzzMarketplace: whatever is read, in either form, is read without a panic, and an error is one line. A marketplace
// that was read is the same when it is written in either form and read again.
func FuzzMarketplace(f *testing.F) {
	f.Add(`{"sellers":[{"account_id":"111122223333"}]}`)
	f.Add("buyers:\n- account_id: \"012345678901\"\n  agreements: [{product_code: p, start_time: 2026-11-23T14:00:00Z}]\n")
	f.Add("a: &a [*a]")
	f.Add("sellers:\n- account_id: \"1\n- account_id: \"2\"\n   name: x\n- {account_id: \"3\"\n- nmae: 4\nbuyers: [}\n")
	f.Add("%YAML 1.2\n---\n\"sellers\": # all\n\n- {account_id: '1',\n   name: |-\n     x\n    }\n-\n  account_id: '2'\n...\n")
	f.Add("roles:\n  - {account_id: '1'}\n  - name: >\n      - a\n\n      b\nusers:\n- name: 'a\n- b'\nsellers:\n- [\n- x]\n")
	f.Add("sellers:\n- account_id: !!str 1\n- !x {}\n- <<: {name: a}\n")
	f.Add(`{"sellers": [{"account_id": "1" "name": "x"}, {"account_id": "2},` + "\n" + `{"account_id": "4", "name": tru], {"a":}}], "buyers": [{} {}`)
	f.Add(`{"users":[{"access_keys":[{"status":1}]}]}`)
	f.Add(`{"buyers":[{"account_id":"1","name":"n","suspended":true,"customer_identifiers":[{"seller_account_id":"2","customer_identifier":"c"}]}],"roles":[{"account_id":"1","name":"r","allow":["*"],"deny":["x"]}],
		"agreements":[{"agreement_id":"a","product_code":"p","buyer_account_id":"1","license_arn":"l","customer_identifier":"c","start_time":"2026-11-23T14:00:00.5+01:00","end_time":"0001-01-01T00:00:00Z"}],
		"products":[{"product_code":"p","product_id":"i","seller_account_id":"2","title":"t","type":"ami","integration":"legacy","regions":["r"],"public_keys":[{"version":1,"pem":"p","private_pem":"q","expired":true}]}]}`)
	instant := func(t *time.Time) (at time.Time) {
		if t != nil {
			at = *t
		}
		return at
	}
	alike := cmp.Options{ // but for what only answers have; the year 1 is written as no time
		cmpopts.EquateEmpty(), cmp.Comparer(func(a, b *time.Time) bool { return instant(a).Equal(instant(b)) }),
		cmpopts.IgnoreFields(adminapi.Agreement{}, "Status"), cmpopts.IgnoreFields(adminapi.Principal{}, "ARN"), cmpopts.IgnoreFields(adminapi.AccessKey{}, "UserARN")}
	f.Fuzz(func(t *testing.T, text string) {
		for _, form := range []adminapi.Form{adminapi.JSON, adminapi.YAML} {
			m, err := read(form, text)
			if err != nil {
				if f, faults := adminapi.LoadLines(text); form == adminapi.YAML && len(faults) == 0 {
					t.Errorf("%q is read item by item as %+v, else not: %v", text, collect(f), err)
				}
				var faults adminapi.Faults
				if !errors.As(err, &faults) || len(faults) == 0 || len(faults) > adminapi.MaxFaults || strings.Contains(err.Error(), "\n") {
					t.Errorf("not some faults, each in one line: %v", err)
				}
				for _, f := range faults {
					if f.Line < 1 || f.Line > 1+len(lineBreak.FindAllString(text, -1)) {
						t.Errorf("there is no such line: %v", f)
					}
				}
				continue
			}
			if form == adminapi.YAML {
				if f, faults := adminapi.LoadLines(text); len(faults) == 0 && !cmp.Equal(collect(f), m, alike) {
					t.Errorf("%q is read item by item as %+v, else as %+v", text, collect(f), m)
				}
			}
			if m == nil {
				t.Fatal("neither a marketplace nor an error")
			}
			asJSON, err := json.Marshal(m)
			if err != nil {
				t.Fatalf("%+v: %v", m, err)
			}
			if again, err := read(adminapi.JSON, string(asJSON)); err != nil || !cmp.Equal(again, m, alike) {
				t.Errorf("%s is read as %+v, %v", asJSON, again, err)
			}
			asYAML, err := yaml.Marshal(m)
			if err != nil {
				t.Fatalf("%+v: %v", m, err)
			}
			again, err := read(adminapi.YAML, string(asYAML))
			if err != nil || !cmp.Equal(again, m, alike) {
				t.Errorf("%s is read as %+v, %v", asYAML, again, err)
			}
		}
	})
}
