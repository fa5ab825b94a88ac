package server_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"mime"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/meterd/meterd/internal/adminapi"
	"github.com/meterd/meterd/internal/ledger"
	"github.com/meterd/meterd/internal/market"
	"github.com/meterd/meterd/internal/pgtest"
	"github.com/meterd/meterd/internal/server"
	"go.yaml.in/yaml/v3"
)

// office is an admin API over a ledger of its own, and a client whose every answer is checked against the
// API's own document.
type office struct {
	*testing.T
	url      string
	token    string
	client   *adminapi.Client
	ledger   *ledger.Ledger
	document map[string]any
	answered map[string]bool // :: operations that have answered with success
}

func newOffice(t *testing.T, sandbox bool) *office {
	t.Helper()
	now := time.Date(2026, 11, 23, 14, 20, 0, 0, time.UTC)
	cfg := ledger.Config{Store: pgtest.Place(t, t.TempDir()), MasterKey: []byte("a master key of thirty-two bytes"), Sandbox: sandbox, Now: func() time.Time { return now },
		Log: slog.New(slog.DiscardHandler)}
	if err := ledger.Create(cfg); err != nil {
		t.Fatal(err)
	}
	l, err := ledger.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	token, err := ledger.Act(context.Background(), l, l.Local(), market.CreateAdminToken(adminapi.AdminToken{Name: "test"}))
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(server.Admin(server.AdminConfig{Ledger: l, Log: cfg.Log}))
	t.Cleanup(func() {
		s.Close()
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	o := &office{T: t, url: s.URL, token: token.Token, ledger: l, answered: map[string]bool{}}
	o.client = adminapi.New(s.URL, token.Token)
	o.client.HTTPClient = &http.Client{Transport: o}
	response, body := o.send("GET", "/openapi.json", "", nil)
	if response.StatusCode != 200 {
		t.Fatalf("the document: %s", response.Status)
	}
	if err := json.Unmarshal(body, &o.document); err != nil {
		t.Fatal(err)
	}
	return o
}

// send sends a request with the given headers and nothing else.
func (o *office) send(method, path, body string, header http.Header) (*http.Response, []byte) {
	o.Helper()
	r, err := http.NewRequest(method, o.url+path, strings.NewReader(body))
	if err != nil {
		o.Fatal(err)
	}
	maps.Copy(r.Header, header)
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		o.Fatal(err)
	}
	defer response.Body.Close()
	b, err := io.ReadAll(response.Body)
	if err != nil {
		o.Fatal(err)
	}
	return response, b
}

// operation is an operation of the document.
type operation struct {
	method, path string
	is           map[string]any
}

func (o *office) operations() (all []operation) {
	for path, item := range o.document["paths"].(map[string]any) {
		for method, is := range item.(map[string]any) {
			all = append(all, operation{strings.ToUpper(method), path, is.(map[string]any)})
		}
	}
	return all
}

var parameter = regexp.MustCompile(`\\\{[a-z_]+\\\}`)

// RoundTrip sends a request of the client and checks the answer against the document.
func (o *office) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(response.Body)
	response.Body.Close()
	response.Body = io.NopCloser(bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	for _, op := range o.operations() {
		form := "^" + parameter.ReplaceAllString(regexp.QuoteMeta(op.path), "[^/]+") + "$"
		if op.method != r.Method || !regexp.MustCompile(form).MatchString(r.URL.EscapedPath()) {
			continue
		}
		name := op.method + " " + op.path
		documented, ok := op.is["responses"].(map[string]any)[fmt.Sprint(response.StatusCode)].(map[string]any)
		if !ok {
			o.Errorf("%s: status %d is not documented: %s", name, response.StatusCode, body)
			return response, nil
		}
		if response.StatusCode < 300 {
			o.answered[name] = true
		}
		content, _ := documented["content"].(map[string]any)
		if content == nil {
			if len(body) > 0 {
				o.Errorf("%s: an undocumented body: %s", name, body)
			}
			return response, nil
		}
		media, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type"))
		schema, ok := content[media].(map[string]any)
		if !ok {
			o.Errorf("%s: content type %s is not documented", name, media)
			return response, nil
		}
		if strings.HasSuffix(media, "json") {
			var v any
			if err := json.Unmarshal(body, &v); err != nil {
				o.Errorf("%s: %v in %s", name, err, body)
			}
			for _, wrong := range o.validate(schema["schema"], v, "body") {
				o.Errorf("%s: %s: %s", name, wrong, body)
			}
		}
		return response, nil
	}
	o.Errorf("%s %s is not documented", r.Method, r.URL.Path)
	return response, nil
}

// validate tells where v is not as the schema says. It knows the words that the document uses, and fails on others.
func (o *office) validate(schema, v any, at string) (wrong []string) {
	s := schema.(map[string]any)
	if ref, ok := s["$ref"].(string); ok {
		name := strings.TrimPrefix(ref, "#/components/schemas/")
		return o.validate(o.document["components"].(map[string]any)["schemas"].(map[string]any)[name], v, at)
	}
	for word := range s {
		if !slices.Contains([]string{"type", "properties", "required", "additionalProperties", "items", "enum", "format", "description", "examples", "readOnly",
			"minimum", "maximum", "minLength", "maxLength", "default"}, word) {
			o.Fatalf("the document uses %q, which this test does not know", word)
		}
	}
	fits := false
	switch v := v.(type) {
	case map[string]any:
		fits = s["type"] == "object"
		properties, _ := s["properties"].(map[string]any)
		required, _ := s["required"].([]any)
		for _, name := range required {
			if _, ok := v[name.(string)]; !ok {
				wrong = append(wrong, fmt.Sprintf("%s lacks %s", at, name))
			}
		}
		for name, member := range v {
			if p, ok := properties[name]; ok {
				wrong = append(wrong, o.validate(p, member, at+"."+name)...)
			} else if more, ok := s["additionalProperties"].(map[string]any); ok {
				wrong = append(wrong, o.validate(more, member, at+"."+name)...)
			} else {
				wrong = append(wrong, at+"."+name+" is not documented")
			}
		}
	case []any:
		fits = s["type"] == "array"
		for i, item := range v {
			wrong = append(wrong, o.validate(s["items"], item, fmt.Sprintf("%s[%d]", at, i))...)
		}
	case string:
		fits = s["type"] == "string"
		if s["format"] == "date-time" {
			if _, err := time.Parse(time.RFC3339, v); err != nil || !strings.HasSuffix(v, "Z") {
				wrong = append(wrong, at+" is no UTC time")
			}
		}
		if enum, ok := s["enum"].([]any); ok && !slices.Contains(enum, any(v)) {
			wrong = append(wrong, at+" is none of the documented values")
		}
	case float64:
		fits = s["type"] == "number" || s["type"] == "integer" && v == float64(int64(v))
	case bool:
		fits = s["type"] == "boolean"
	}
	if !fits {
		wrong = append(wrong, fmt.Sprintf("%s is %T, not %v", at, v, s["type"]))
	}
	return wrong
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

const (
	sellerID = "111122223333"
	buyerID  = "444455556666"
)

// TestAdmin drives every operation through the client.
func TestAdmin(t *testing.T) {
	o := newOffice(t, true)
	c, ctx := o.client, t.Context()
	none := adminapi.Paging{}
	check := func(ok bool, what string, v any) {
		t.Helper()
		if !ok {
			t.Errorf("%s: %+v", what, v)
		}
	}
	noError := func(_ adminapi.None, err error) {
		t.Helper()
		if err != nil {
			t.Error(err)
		}
	}
	r := must(adminapi.CreateRegion.Do(ctx, c, adminapi.Region{Name: "eu-private-1"}))
	check(*r.Enabled, "a new region", r)
	r = must(adminapi.ChangeRegion.Do(ctx, c, adminapi.RegionChange{Name: "eu-private-1"}))
	check(!*r.Enabled, "a disabled region", r)
	check(len(must(adminapi.ListRegions.Do(ctx, c, adminapi.Paging{Limit: 3})).Items) == 3, "regions", nil)

	seller := must(adminapi.CreateSeller.Do(ctx, c, adminapi.Seller{AccountID: sellerID, Name: "Acme"}))
	check(must(adminapi.GetSeller.Do(ctx, c, adminapi.AccountPath{AccountID: sellerID})) == seller, "seller", seller)
	check(must(adminapi.ListSellers.Do(ctx, c, none)).Items[0] == seller, "sellers", seller)
	buyer := must(adminapi.CreateBuyer.Do(ctx, c, adminapi.Buyer{AccountID: buyerID, Identifiers: []adminapi.CustomerIdentity{{SellerAccountID: sellerID, CustomerIdentifier: "best"}}}))
	check(len(buyer.Identifiers) == 1, "buyer", buyer)
	check(must(adminapi.ChangeBuyer.Do(ctx, c, adminapi.BuyerChange{AccountID: buyerID, Suspended: new(true)})).Suspended, "a suspended buyer", nil)
	check(!must(adminapi.ChangeBuyer.Do(ctx, c, adminapi.BuyerChange{AccountID: buyerID, Suspended: new(false)})).Suspended, "a buyer that is not suspended any more", nil)
	check(!must(adminapi.GetBuyer.Do(ctx, c, adminapi.AccountPath{AccountID: buyerID})).Suspended && len(must(adminapi.ListBuyers.Do(ctx, c, none)).Items) == 1, "buyers", nil)

	// A product code may hold almost anything.
	p := must(adminapi.CreateProduct.Do(ctx, c, adminapi.Product{SellerAccountID: sellerID, Type: "container", ProductCode: "a/b:c=d@e..f", Dimensions: []string{"users"}}))
	check(must(adminapi.GetProduct.Do(ctx, c, adminapi.ProductPath{ProductCode: p.ProductCode})).ProductID == p.ProductID, "product", p)
	check(must(adminapi.GetProduct.Do(ctx, c, adminapi.ProductPath{ProductCode: must(adminapi.CreateProduct.Do(ctx, c, adminapi.Product{SellerAccountID: sellerID, Type: "ami", ProductCode: ".."})).ProductCode})).Type == "ami", "product ..", p)
	check(len(must(adminapi.AddDimension.Do(ctx, c, adminapi.NewDimension{ProductCode: p.ProductCode, Dimension: "gb"})).Dimensions) == 2, "dimensions", p)
	check(must(adminapi.RotatePublicKey.Do(ctx, c, adminapi.ProductPath{ProductCode: p.ProductCode})).Version == 2, "the next key", p)
	check(must(adminapi.ExpirePublicKey.Do(ctx, c, adminapi.PublicKeyPath{ProductCode: p.ProductCode, Version: 2})).Expired, "an expired key", p)
	check(len(must(adminapi.ListPublicKeys.Do(ctx, c, adminapi.ProductPath{ProductCode: p.ProductCode})).Items) == 2, "keys", p)
	check(len(must(adminapi.ListProducts.Do(ctx, c, adminapi.ProductPaging{SellerAccountID: sellerID})).Items) == 2 && len(must(adminapi.ListProducts.Do(ctx, c, adminapi.ProductPaging{SellerAccountID: buyerID})).Items) == 0, "products", nil)

	a := must(adminapi.CreateAgreement.Do(ctx, c, adminapi.Agreement{ProductCode: p.ProductCode, BuyerAccountID: buyerID}))
	check(must(adminapi.GetAgreement.Do(ctx, c, adminapi.AgreementPath{AgreementID: a.AgreementID})).LicenseARN == a.LicenseARN && a.CustomerIdentifier == "best", "agreement", a)
	check(must(adminapi.CancelAgreement.Do(ctx, c, adminapi.Cancellation{AgreementID: a.AgreementID})).Status == "ending", "a cancelled agreement", a)
	check(must(adminapi.EndAgreement.Do(ctx, c, adminapi.AgreementPath{AgreementID: a.AgreementID})).Status == "ended", "an ended agreement", a)
	check(len(must(adminapi.ListAgreements.Do(ctx, c, adminapi.AgreementPaging{AgreementFilter: adminapi.AgreementFilter{Status: "ended", BuyerAccountID: buyerID, ProductCode: p.ProductCode}})).Items) == 1, "ended agreements", a)
	check(len(must(adminapi.ListAgreements.Do(ctx, c, adminapi.AgreementPaging{AgreementFilter: adminapi.AgreementFilter{Status: "active"}})).Items) == 0, "active agreements", a)

	for _, of := range []adminapi.Principals{adminapi.Users, adminapi.Roles} {
		u := must(of.Create.Do(ctx, c, adminapi.Principal{AccountID: sellerID, Name: "a", Allow: []string{"MeterdSellerAccess"}}))
		check(must(of.Get.Do(ctx, c, adminapi.PrincipalPath{AccountID: sellerID, Name: "a"})).ARN == u.ARN, "principal", u)
		check(len(must(of.PutPermissions.Do(ctx, c, adminapi.Permissions{AccountID: sellerID, Name: "a", Deny: []string{"*"}})).Deny) == 1, "permissions", u)
		check(len(must(of.List.Do(ctx, c, adminapi.AccountPaging{AccountID: sellerID})).Items) == 1 && len(must(of.List.Do(ctx, c, adminapi.AccountPaging{AccountID: buyerID})).Items) == 0, "principals", u)
	}
	can := must(adminapi.Can.Do(ctx, c, adminapi.Question{AccountID: sellerID, Principal: "role/a", Action: "MeterUsage", TLS: true}))
	check(!can.Allowed && strings.HasSuffix(can.Message, "with an explicit deny in an identity-based policy"), "verdict", can)
	key := must(adminapi.CreateAccessKey.Do(ctx, c, adminapi.PrincipalPath{AccountID: sellerID, Name: "a"}))
	check(key.SecretAccessKey != "" && key.Status == adminapi.Active, "key", key)
	check(must(adminapi.ChangeAccessKey.Do(ctx, c, adminapi.AccessKeyChange{AccessKeyID: key.AccessKeyID, Status: adminapi.Inactive})).Status == adminapi.Inactive, "an inactive key", key)
	noError(adminapi.DeleteAccessKey.Do(ctx, c, adminapi.AccessKeyPath{AccessKeyID: key.AccessKeyID}))
	noError(adminapi.Users.Delete.Do(ctx, c, adminapi.PrincipalPath{AccountID: sellerID, Name: "a"}))
	noError(adminapi.Roles.Delete.Do(ctx, c, adminapi.PrincipalPath{AccountID: sellerID, Name: "a"}))

	w := must(adminapi.CreateWorkloadCredentials.Do(ctx, c, adminapi.WorkloadRequest{Workload: adminapi.Workload{AccountID: buyerID, Platform: "ecs", ResourceID: "task", Region: "us-east-1"}}))
	check(w.SessionToken != "" && w.ExpiresAt == nil, "credentials", w)
	check(len(must(adminapi.ListWorkloads.Do(ctx, c, adminapi.AccountPaging{AccountID: buyerID})).Items) == 1, "workloads", w)

	token := must(adminapi.CreateToken.Do(ctx, c, adminapi.TokenRequest{ProductCode: p.ProductCode, Buyer: "best"}))
	old := must(adminapi.CreateToken.Do(ctx, c, adminapi.TokenRequest{ProductCode: p.ProductCode, Buyer: buyerID, IssuedAt: new(token.IssuedAt.Add(-5 * time.Hour))}))
	check(old.ExpiresAt.Before(token.IssuedAt) && old.RegistrationToken != token.RegistrationToken, "an expired token", old)
	check(len(must(adminapi.ListTokens.Do(ctx, c, none)).Items) == 2, "tokens", token)
	noError(adminapi.RevokeToken.Do(ctx, c, adminapi.TokenPath{ID: token.ID}))

	admin := must(adminapi.CreateAdminToken.Do(ctx, c, adminapi.AdminToken{Name: "second"}))
	check(len(must(adminapi.ListAdminTokens.Do(ctx, c, none)).Items) == 2, "admin tokens", admin)
	noError(adminapi.DeleteAdminToken.Do(ctx, c, adminapi.TokenPath{ID: admin.ID}))

	clock := must(adminapi.ChangeClock.Do(ctx, c, adminapi.ClockChange{Advance: "1h", Frozen: new(true)}))
	check(clock.Frozen && must(adminapi.GetClock.Do(ctx, c, adminapi.None{})) == clock, "clock", clock)

	file := &adminapi.Marketplace{Sellers: []adminapi.Seller{{AccountID: "777788889999"}}, Users: []adminapi.Principal{{AccountID: "777788889999", Name: "u"}}}
	imported := must(adminapi.Import.Do(ctx, c, adminapi.File{Form: adminapi.JSON, Content: bytes.NewReader(must(json.Marshal(file)))}))
	check(imported.Sellers == 1 && len(imported.Keys) == 1, "imported", imported)
	text := must(yaml.Marshal(file))
	imported = must(adminapi.Import.Do(ctx, c, adminapi.File{Form: adminapi.YAML, Content: bytes.NewReader(text)}))
	check(imported.Sellers == 0 && len(imported.Keys) == 0, "imported again", imported)

	check(must(adminapi.ListUsage.Do(ctx, c, adminapi.UsagePaging{UsageFilter: adminapi.UsageFilter{ProductCode: p.ProductCode}})).Records != nil, "usage", nil)
	check(must(adminapi.SumUsage.Do(ctx, c, adminapi.UsageGrouping{By: []string{"product_code", "hour"}})).Sums != nil, "sums", nil)
	for path, header := range map[string]string{"/v1/usage": "timestamp,product_code,", "/v1/usage/sum?by=dimension": "dimension,records,"} {
		answer, body := o.send("GET", path, "", http.Header{"Authorization": {"Bearer " + o.token}, "Accept": {"text/csv"}})
		check(answer.StatusCode == 200 && strings.HasPrefix(string(body), header), path+" in CSV", string(body))
	}
	_, err := adminapi.GetCall.Do(ctx, c, adminapi.CallPath{RequestID: "0199f0a0-0000-7000-8000-000000000000"})
	problem(t, err, 404, "")

	_, err = adminapi.AcceptClock.Do(ctx, c, adminapi.None{})
	problem(t, err, 409, "clock")
	o.answered["POST /v1/clock/accept"] = true      // only a production ledger's clock is accepted
	o.answered["GET /v1/calls/{request_id}"] = true // an act's request id is in the log and the audit only
	for _, op := range o.operations() {
		if name := op.method + " " + op.path; !o.answered[name] {
			t.Errorf("%s was not tried", name)
		}
	}
}

// TestVerbs: every verb that is declared is served and documented, as TestAdmin has tried, and nothing else is.
func TestVerbs(t *testing.T) {
	o := newOffice(t, true)
	documented := map[string]string{}
	for _, op := range o.operations() {
		for status := range op.is["responses"].(map[string]any) {
			if status < "300" {
				documented[op.method+" "+op.path] = fmt.Sprint(status, " ", op.is["summary"])
			}
		}
	}
	declared := map[string]string{}
	for _, v := range adminapi.Verbs() {
		declared[v.Name()] = fmt.Sprint(v.Status, " ", v.Summary)
	}
	if d := cmp.Diff(declared, documented); d != "" {
		t.Errorf("declared and documented (-declared +documented):\n%s", d)
	}
}

// problem checks that err is a problem of the status, whose one line begins with the text.
func problem(t *testing.T, err error, status int, text string) {
	t.Helper()
	var p *adminapi.Problem
	if !errors.As(err, &p) || p.Status != status || !strings.HasPrefix(p.Detail, text) || p.Detail == "" || strings.Contains(p.Detail, "\n") {
		t.Errorf("%#v, want status %d and %q", err, status, text)
	}
}

// TestAdminNeedsToken walks the document: no operation answers without a valid token.
func TestAdminNeedsToken(t *testing.T) {
	o := newOffice(t, true)
	paths := []operation{{method: "GET", path: "/"}, {method: "GET", path: "/v1"}, {method: "GET", path: "/v1/nothing"}, {method: "GET", path: "/openapi-3.0.json"}, {method: "GET", path: "/openapi.json/.."}}
	all := o.operations()
	if len(all) < 40 {
		t.Errorf("the document has only %d operations", len(all))
	}
	for _, op := range append(all, paths...) {
		for name, value := range map[string][]string{"none": nil, "empty": {""}, "wrong": {"Bearer meterd_x"}, "of another kind": {"Basic " + o.token}, "short": {"Bearer " + o.token[:len(o.token)-1]}} {
			response, body := o.send(op.method, op.path, "{}", http.Header{"Authorization": value, "Content-Type": {"application/json"}})
			if response.StatusCode != 401 || response.Header.Get("Content-Type") != "application/problem+json" || response.Header.Get("WWW-Authenticate") == "" {
				t.Errorf("%s %s with a token that is %s: %s %s", op.method, op.path, name, response.Status, body)
			}
		}
	}
	response, _ := o.send("GET", "/v1/nothing", "", http.Header{"Authorization": {"Bearer " + o.token}})
	if response.StatusCode != 404 {
		t.Errorf("an unknown path: %s", response.Status)
	}
	if response, body := o.send("GET", "/openapi.yaml", "", nil); response.StatusCode != 200 || !strings.Contains(string(body), "openapi: 3.1.0") {
		t.Errorf("the document in YAML: %s", response.Status)
	}
	response, _ = o.send("POST", "/v1/sellers", `{"account_id":"`+sellerID+`"}`, http.Header{"Authorization": {"Bearer " + o.token}, "Sec-Fetch-Site": {"cross-site"}})
	if response.StatusCode != 403 {
		t.Errorf("a page of another origin: %s", response.Status)
	}
}

// TestAdminRefusals: mistakes that the ledger does not see.
func TestAdminRefusals(t *testing.T) {
	o := newOffice(t, false)
	for _, c := range []struct {
		method, path, contentType, body string
		status                          int
		detail                          string
	}{
		{"GET", "/v1/sellers?color=red", "", "", 422, "color: unknown query parameter"},
		{"GET", "/v1/usage?product=x", "", "", 422, "product: unknown query parameter"},
		{"POST", "/v1/sellers?red&blue", "", "", 422, "blue: unknown query parameter; red: unknown query parameter"},
		{"POST", "/v1/import?dry_run=true", "{}", "application/json", 422, "dry_run: unknown query parameter"},
		{"POST", "/v1/products/p/public-keys/4294967297/expire", "", "", 422, "path.version: invalid integer"}, // not version 1
		{"GET", "/v1/agreements?status=active&status=ended", "", "", 422, "status: is given 2 times"},
		{"GET", "/v1/agreements?status=over", "", "", 422, "status: expected value to be one of"},
		{"GET", "/v1/sellers?limit=0", "", "", 422, "limit: expected number >= 1"},
		{"GET", "/v1/sellers?limit=x", "", "", 422, "limit: invalid integer"},
		{"GET", "/v1/sellers?after=x", "", "", 422, "after: \"x\" is not a cursor"},
		{"GET", "/v1/usage?from=yesterday", "", "", 422, "from: invalid date/time"},
		{"GET", "/v1/usage/sum?by=color", "", "", 422, "by"},
		{"GET", "/v1/sellers/" + sellerID, "", "", 404, "account_id: account \"111122223333\" is not a seller"},
		{"POST", "/v1/sellers", "application/json", `{"account_id":"1"}`, 422, "account_id: \"1\" is not an account id"},
		{"POST", "/v1/sellers", "application/json", `{}`, 422, "expected required property account_id"},
		{"POST", "/v1/sellers", "application/json", `{"account_id":"111122223333","colour":"red"}`, 422, "colour: unexpected property"},
		{"POST", "/v1/sellers", "application/json", `{"Account_ID":"111122223333","account_id":"111122223333"}`, 422, "Account_ID: unexpected property"},
		{"POST", "/v1/sellers", "application/json", `{"account_id":111122223333}`, 422, "account_id: expected string"},
		{"POST", "/v1/sellers", "application/json", `{"account_id":`, 400, ""},
		{"POST", "/v1/sellers", "application/json", ``, 400, ""},
		{"POST", "/v1/sellers", "text/plain", `{"account_id":"111122223333"}`, 415, ""},
		{"PUT", "/v1/clock", "application/json", `{"advance":"1h"}`, 409, "clock"},
		{"POST", "/v1/clock/accept", "application/json", `{}`, 409, "clock"},
		{"POST", "/v1/agreements/agmt-x/cancel", "", "", 404, "agreement_id: there is no"}, // its body may be left out
		{"DELETE", "/v1/sellers", "", "", 404, "there is no DELETE"},
		{"GET", "/v1/calls/x", "", "", 422, ""},

		{"POST", "/v1/import", "text/plain", `{}`, 415, "Content-Type: must be application/json or application/yaml"},
		{"POST", "/v1/import", "", `{}`, 415, "Content-Type: must be"},
		{"POST", "/v1/import", "application/json", `{"sellers":[{"account_id":"111122223333"}],"shops":[]}`, 400, "line 1, column 44: there is no member \"shops\" here: the members are regions, sellers, "},
		{"POST", "/v1/import", "application/json", `{"sellers":[{"account_id":"111122223333"},{"acount_id":"x"}]}`, 400, "line 1, column 44: sellers[1]: there is no member \"acount_id\" here: the members are account_id, name"},
		{"POST", "/v1/import", "application/json", `{"sellers":[{"account_id":12}]}`, 400, "line 1, column 27: sellers[0].account_id: must be a text, not the number 12: put it in quotes"},
		{"POST", "/v1/import", "application/json", `{"sellers":[{"account_id":"111122223333"}],"sellers":[]}`, 400, "line 1, column 44: sellers is given twice"},
		{"POST", "/v1/import", "application/json", `{"sellers":[{"account_id":"111122223333"}]} {}`, 400, "line 1, column 45: there is something behind"},
		{"POST", "/v1/import", "application/json", `{"sellers":[{"account_id":"111122223333"}]`, 400, "line 1, column 43: the JSON ends too early"},
		{"POST", "/v1/import", "application/json", `{"sellers":{}}`, 400, "line 1, column 12: sellers: must be a list, not an object"},
		{"POST", "/v1/import", "application/json", `[]`, 400, "line 1, column 1: must be an object"},
		{"POST", "/v1/import", "application/json", ``, 400, "line 1, column 1: the file is empty"},
		{"POST", "/v1/import", "application/yaml; charset=utf-8", "sellers:\n- account_id: \"111122223333\"\n- acount_id: x\n", 400, "line 3, column 3: sellers[1]: there is no member \"acount_id\""},
		{"POST", "/v1/import", "application/yaml", "sellers: []\n---\nsellers: []\n", 400, "line 2, column 1: there is a second YAML document"},
		{"POST", "/v1/import", "application/yaml", "sellers: [", 400, "line 1: "},
		{"POST", "/v1/import", "application/yaml", "sellers:\n- name: " + strings.Repeat("n", adminapi.MaxItem) + "\n", 400, "line 2, column 1: sellers[0]: the item is longer than 1 MiB"},
		{"POST", "/v1/import", "application/yaml", "# nothing\n", 400, "line 1, column 1: the file is empty: write a marketplace"},
		{"POST", "/v1/import", "application/yaml", "sellers:\n- account_id: \"111122223333\"\nusers:\n- account_id: \"444455556666\"\n  name: x\n", 404, "line 4, column 3: users[0].account_id: account 444455556666 is neither"},
		{"POST", "/v1/import", "application/yaml", "sellers:\n- account_id: \"1\"\nusers:\n- account_id: \"1\"\n  name: x\n- account_id: \"444455556666\"\n  nmae: x\n- account_id: \"444455556666\"\n  name: x\n", 400,
			"4 things are wrong, each of which the answer lists under errors; the first: line 2, column 3: sellers[0].account_id: \"1\" is not an account id"},
	} {
		header := http.Header{"Authorization": {"Bearer " + o.token}}
		if c.contentType != "" {
			header.Set("Content-Type", c.contentType)
		}
		response, body := o.send(c.method, c.path, c.body, header)
		var p adminapi.Problem
		if err := json.Unmarshal(body, &p); err != nil || response.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s %s %.80q: %s %s", c.method, c.path, c.body, response.Status, body)
			continue
		}
		if p.Status != c.status || response.StatusCode != c.status || p.Title == "" || p.Detail == "" || !strings.HasPrefix(p.Detail, c.detail) || strings.Contains(p.Detail, "\n") {
			t.Errorf("%s %s %.80q: %s: %+v, want %d %q", c.method, c.path, c.body, response.Status, p, c.status, c.detail)
		}
	}
	if got := must(adminapi.ListSellers.Do(context.Background(), o.client, adminapi.Paging{})); len(got.Items) > 0 {
		t.Errorf("something was stored: %+v", got)
	}
}
