package server_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/meterd/meterd/internal/adminapi"
	"github.com/meterd/meterd/internal/ledger"
	"github.com/meterd/meterd/internal/market"
	"github.com/meterd/meterd/internal/pgtest"
	"github.com/meterd/meterd/internal/sandbox"
	"github.com/meterd/meterd/internal/server"
	"github.com/meterd/meterd/internal/store"
	"pgregory.net/rapid"
)

// twins are two services that have had the same beginnings, one on each store.
type twins [2]struct {
	*endpoint
	admin http.Handler
}

func openTwins(t *testing.T) (both twins) {
	for i, place := range []string{filepath.Join(t.TempDir(), "ledger"), pgtest.URL(t, t.Name())} {
		both[i].endpoint = openEndpoint(t, func(c *ledger.Config) {
			c.Store, c.Random = place, rand.NewChaCha8([32]byte{1})
		})
		both[i].admin = server.Admin(server.AdminConfig{Ledger: both[i].ledger})
	}
	return both
}

// differs are what two answers to one request may differ in.
var differs = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}`)

// call sends a request of an operation to both, which must answer alike, and not with an error of their own.
func (both twins) call(t *rapid.T, who func(*endpoint) signer, operation, body string) {
	var answers [2]answer
	var audits [2]string
	for i, e := range both {
		a := e.call(who(e.endpoint), operation, body)
		audit := *e.audited(a.requestID)
		audit.RequestID = ""
		b, err := json.Marshal(audit)
		if err != nil {
			t.Fatal(err)
		}
		a.requestID = ""
		answers[i], audits[i] = a, string(b)
	}
	if answers[0] != answers[1] || answers[0].status >= 500 {
		t.Fatalf("%s %q:\nembedded:   %+v\nPostgreSQL: %+v", operation, body, answers[0], answers[1])
	}
	if audits[0] != audits[1] {
		t.Fatalf("%s %q:\nembedded:   %s\nPostgreSQL: %s", operation, body, audits[0], audits[1])
	}
}

// act sends a request of the admin API to both.
func (both twins) act(t *rapid.T, method, path string, body any) {
	b, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	var answers [2]string
	for i, e := range both {
		r := httptest.NewRequest(method, path, bytes.NewReader(b))
		r.Header.Set("Authorization", "Bearer "+sandbox.AdminToken)
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		e.admin.ServeHTTP(w, r)
		answers[i] = fmt.Sprint(w.Code, " ", differs.ReplaceAllString(w.Body.String(), ""))
	}
	if answers[0] != answers[1] || answers[0] >= "5" {
		t.Fatalf("%s %s %s:\nembedded:   %s\nPostgreSQL: %s", method, path, b, answers[0], answers[1])
	}
}

// anyText draws strings of all lengths that matter, with what the stores, JSON, SQL and Unicode make something of.
func anyText() *rapid.Generator[string] {
	worst := rapid.SampledFrom([]string{"\x00", "\ufdd0", "00", "\x01", "\x1f", "\x7f", "\u0080", "\u2028", "\u202e", "\ufeff", "\ufffd", "\uffff", "\U0010ffff", "\U0001f600",
		"e\u0301", "é", "'", `"`, `\`, `\x00`, "%", "_", "$1", "?", ";--", " ", "\t", "\n", "NULL", `\N`, "{}", "a", "A", "0"})
	pieces := rapid.Map(rapid.SliceOfN(worst, 0, 8), func(p []string) string { return strings.Join(p, "") })
	long := rapid.Custom(func(t *rapid.T) string {
		return strings.Repeat(worst.Draw(t, "piece"), rapid.SampledFrom([]int{63, 64, 65, 128, 255, 256, 1000, 4096}).Draw(t, "times"))
	})
	return rapid.OneOf(pieces, pieces, rapid.String(), long)
}

// TestStoresAnswerAlike sends the same requests, with whatever strings and numbers they may hold, to a service on each
// store. Then the ledgers hold the same; and so do their copies in the other store.
func TestStoresAnswerAlike(t *testing.T) {
	both := openTwins(t)
	text := anyText()
	number := rapid.SampledFrom([]int64{-1 << 31, -1, 0, 1, 3, 1<<31 - 1, 1 << 31})
	second := rapid.Map(rapid.SampledFrom([]int64{-1 << 40, -25 * 3600, -7 * 3600, -3600, -600, 0, 299, 301, 1 << 40}), func(d int64) int64 { return wall.Unix() + d })
	accounts := rapid.SampledFrom([]string{sandbox.Acme, sandbox.BuyerA, sandbox.BuyerB, sandbox.BuyerC, "123456789012", "0"})
	mostly := func(good string) *rapid.Generator[string] {
		return rapid.OneOf(rapid.Just(good), rapid.Just(good), text)
	}
	quoted := func(s string) string {
		b, _ := json.Marshal(s)
		return string(b)
	}
	seller := func(e *endpoint) signer { return e.seller }
	task := func(e *endpoint) signer { return e.task }
	agent := func(e *endpoint) signer { return e.agent }
	operations := map[string]func(*rapid.T){
		"BatchMeterUsage": func(t *rapid.T) {
			var records []string
			for range rapid.IntRange(1, 4).Draw(t, "records") {
				members := fmt.Sprintf(`"Timestamp":%d,"Dimension":%s,"Quantity":%d`, second.Draw(t, "time"), quoted(mostly("users").Draw(t, "dimension")), number.Draw(t, "quantity"))
				switch rapid.IntRange(0, 4).Draw(t, "buyer") {
				case 0:
					members += `,"CustomerIdentifier":` + quoted(text.Draw(t, "identifier"))
				case 1:
					members += `,"CustomerAWSAccountId":` + quoted(text.Draw(t, "account"))
				default:
					members += `,"CustomerAWSAccountId":` + quoted(accounts.Draw(t, "account"))
				}
				if rapid.IntRange(0, 3).Draw(t, "allocated") == 0 {
					members += fmt.Sprintf(`,"UsageAllocations":[{"AllocatedUsageQuantity":%d,"Tags":[{"Key":%s,"Value":%s}]}]`, number.Draw(t, "part"), quoted(mostly("k").Draw(t, "key")), quoted(mostly("v").Draw(t, "value")))
				}
				records = append(records, "{"+members+"}")
			}
			both.call(t, seller, "BatchMeterUsage", fmt.Sprintf(`{"ProductCode":%s,"UsageRecords":[%s]}`, quoted(mostly(sandbox.LegacySaaS).Draw(t, "product")), strings.Join(records, ",")))
		},
		"MeterUsage": func(t *rapid.T) {
			who := rapid.SampledFrom([]func(*endpoint) signer{task, agent, agent}).Draw(t, "workload")
			both.call(t, who, "MeterUsage", fmt.Sprintf(`{"ProductCode":%s,"UsageDimension":%s,"Timestamp":%d,"UsageQuantity":%d,"ClientToken":%s,"DryRun":%v}`,
				quoted(mostly(sandbox.Container).Draw(t, "product")), quoted(mostly("jobs").Draw(t, "dimension")), second.Draw(t, "time"), number.Draw(t, "quantity"), quoted(text.Draw(t, "token")), rapid.Bool().Draw(t, "dry")))
		},
		"MeterUsage, taken": func(t *rapid.T) {
			both.call(t, agent, "MeterUsage", fmt.Sprintf(`{"ProductCode":"%s","UsageDimension":"jobs","Timestamp":%d,"UsageQuantity":%d,"ClientToken":%s}`,
				sandbox.Container, wall.Unix()-rapid.Int64Range(0, 1000).Draw(t, "ago"), rapid.Int32Range(0, 9).Draw(t, "quantity"), quoted(text.Draw(t, "token"))))
		},
		"RegisterUsage": func(t *rapid.T) {
			// Refused, for the signature is another each time.
			both.call(t, task, "RegisterUsage", fmt.Sprintf(`{"ProductCode":%s,"PublicKeyVersion":%d,"Nonce":%s}`, quoted(mostly(sandbox.Hourly).Draw(t, "product")), rapid.SampledFrom([]int64{-1, 0, 3, 1 << 31}).Draw(t, "version"), quoted(text.Draw(t, "nonce"))))
		},
		"ResolveCustomer": func(t *rapid.T) {
			both.call(t, seller, "ResolveCustomer", fmt.Sprintf(`{"RegistrationToken":%s}`, quoted(text.Draw(t, "token"))))
		},
		"no operation's body": func(t *rapid.T) { both.call(t, seller, "BatchMeterUsage", text.Draw(t, "body")) },
		"seller": func(t *rapid.T) {
			both.act(t, "POST", "/v1/sellers", adminapi.Seller{AccountID: fmt.Sprintf("1%011d", rapid.Uint32().Draw(t, "account")), Name: text.Draw(t, "name")})
		},
		"product": func(t *rapid.T) {
			both.act(t, "POST", "/v1/products", adminapi.Product{ProductCode: mostly("").Draw(t, "code"), ProductID: mostly("").Draw(t, "id"), SellerAccountID: sandbox.Acme, Title: text.Draw(t, "title"),
				Type: "saas", Integration: "legacy", Dimensions: []string{text.Draw(t, "dimension"), text.Draw(t, "another")}})
		},
		"dimension": func(t *rapid.T) {
			both.act(t, "POST", "/v1/products/"+sandbox.Container+"/dimensions", map[string]string{"dimension": text.Draw(t, "dimension")})
		},
		"buyer": func(t *rapid.T) {
			both.act(t, "POST", "/v1/buyers", adminapi.Buyer{AccountID: fmt.Sprintf("2%011d", rapid.Uint32().Draw(t, "account")), Name: text.Draw(t, "name")})
		},
		"agreement": func(t *rapid.T) {
			both.act(t, "POST", "/v1/agreements", adminapi.Agreement{ProductCode: sandbox.LegacySaaS, BuyerAccountID: sandbox.BuyerB, AgreementID: mostly("").Draw(t, "id"),
				LicenseARN: mostly("").Draw(t, "licence"), CustomerIdentifier: mostly("").Draw(t, "identifier")})
		},
		"role": func(t *rapid.T) {
			both.act(t, "POST", "/v1/roles", adminapi.Principal{AccountID: sandbox.BuyerA, Name: text.Draw(t, "name"), Allow: []string{mostly("aws-marketplace:MeterUsage").Draw(t, "action")}})
		},
		"admin token": func(t *rapid.T) {
			both.act(t, "POST", "/v1/admin-tokens", adminapi.AdminToken{Name: text.Draw(t, "name")})
		},
		"region": func(t *rapid.T) {
			both.act(t, "POST", "/v1/regions", adminapi.Region{Name: text.Draw(t, "name"), Enabled: new(true)})
		},
		"usage": func(t *rapid.T) {
			q := url.Values{}
			for _, name := range []string{"product_code", "license_arn", "customer_aws_account_id", "customer_identifier", "dimension", "region", "workload"} {
				if rapid.IntRange(0, 7).Draw(t, name) == 0 {
					q.Set(name, text.Draw(t, "value"))
				}
			}
			// Not the records themselves: their order, and with it the cursor, is the store's.
			both.act(t, "GET", "/v1/usage/sum?by=hour&by=dimension&by=workload&"+q.Encode(), nil)
		},
	}
	operations["workload"] = func(t *rapid.T) { // the session is another each time
		request := adminapi.WorkloadRequest{Workload: adminapi.Workload{AccountID: sandbox.BuyerA, Platform: "ecs", ResourceID: text.Draw(t, "resource"), Region: "us-east-1"}}
		var refusals [2]string
		for i, e := range both {
			if _, err := e.ledger.CreateWorkloadCredentials(context.Background(), e.ledger.Local(), request); err != nil {
				refusals[i] = err.Error()
			}
		}
		if refusals[0] != refusals[1] {
			t.Fatalf("workload %q: embedded %q, PostgreSQL %q", request.ResourceID, refusals[0], refusals[1])
		}
	}
	names := slices.Sorted(maps.Keys(operations))
	rapid.Check(t, func(t *rapid.T) {
		for range rapid.IntRange(1, 6).Draw(t, "requests") {
			operations[rapid.SampledFrom(names).Draw(t, "operation")](t)
		}
	})

	want := both[0].content()
	if got := both[1].content(); got != want {
		t.Errorf("the ledgers differ:\nembedded:   %s\nPostgreSQL: %s", want, got)
	}
	if !strings.Contains(want, `\x00`) || len(want) < 10_000 {
		t.Errorf("the ledgers hold nothing of what they should: %d bytes", len(want))
	}
	for i, to := range []string{pgtest.URL(t, t.Name()+"copy"), filepath.Join(t.TempDir(), "copy")} {
		from := both[i].dir
		if err := both[i].ledger.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := store.Copy(from, to, func(store.Copied) {}); err != nil {
			t.Fatal(err)
		}
		for _, step := range []func(from, to string) error{store.Seal, store.Complete} {
			if err := step(from, to); err != nil {
				t.Fatal(err)
			}
		}
		e := openEndpoint(t, func(c *ledger.Config) { c.Store = to })
		if got := e.content(); got != want {
			t.Errorf("the copy in %s differs:\nwant %s\ngot  %s", store.Redacted(to), want, got)
		}
	}
}

// content is what the ledger holds, by what it shows of it.
func (e *endpoint) content() string {
	e.Helper()
	var all []string
	add := func(v any, err error) {
		if err != nil {
			e.Fatal(err)
		}
		b, err := json.MarshalIndent(v, "", " ")
		if err != nil {
			e.Fatal(err)
		}
		all = append(all, string(b))
	}
	l, op := e.ledger, e.ledger.Local()
	var usage []string
	for after := ""; ; {
		page, err := l.Usage(context.Background(), op, adminapi.UsageFilter{}, after, market.MaxPage)
		if err != nil {
			e.Fatal(err)
		}
		for _, r := range page.Records {
			b, _ := json.Marshal(r)
			usage = append(usage, string(b))
		}
		if after = page.Next; after == "" {
			break
		}
	}
	err := store.Read(e.dir, func(r *store.Reader, _ store.Meta) error {
		return r.ClientTokenUsage(func(workload uint32, token string, _ int64) error {
			usage = append(usage, fmt.Sprintf("workload %d: %q", workload, token))
			return nil
		})
	})
	if err != nil {
		e.Fatal(err)
	}
	slices.Sort(usage)
	all = append(all, usage...)
	add(ledger.List(context.Background(), l, op, market.Sellers(adminapi.Paging{}), "", market.MaxPage))
	add(ledger.List(context.Background(), l, op, market.Products(adminapi.ProductPaging{}), "", market.MaxPage))
	add(ledger.List(context.Background(), l, op, market.Buyers(adminapi.Paging{}), "", market.MaxPage))
	add(ledger.List(context.Background(), l, op, market.Agreements(adminapi.AgreementPaging{}), "", market.MaxPage))
	add(ledger.List(context.Background(), l, op, market.Workloads(adminapi.AccountPaging{}), "", market.MaxPage))
	add(ledger.List(context.Background(), l, op, market.Regions(adminapi.Paging{}), "", market.MaxPage))
	add(ledger.List(context.Background(), l, op, market.AdminTokens(adminapi.Paging{}), "", market.MaxPage))
	return strings.Join(all, "\n")
}
