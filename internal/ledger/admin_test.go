package ledger_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/meterd/meterd/internal/adminapi"
	"github.com/meterd/meterd/internal/iam"
	"github.com/meterd/meterd/internal/ledger"
	"github.com/meterd/meterd/internal/market"
	"github.com/meterd/meterd/internal/metering"
	"github.com/meterd/meterd/internal/pgtest"
)

var ctx = context.Background()

// fixture is a ledger with a clock of its own and nothing in it but what create put there.
type fixture struct {
	testing.TB
	cfg ledger.Config
	l   *ledger.Ledger
	op  ledger.Operator
	now time.Time
}

const (
	sellerID = "111122223333"
	buyerID  = "444455556666"
	otherID  = "777788889999"
)

func newFixture(t testing.TB, sandbox bool) *fixture {
	m := &fixture{TB: t, now: time.Date(2026, 11, 23, 14, 20, 0, 0, time.UTC)}
	m.cfg = ledger.Config{Store: pgtest.Place(t, t.TempDir()), MasterKey: []byte("a master key of thirty-two bytes"), Sandbox: sandbox, Now: func() time.Time { return m.now }}
	if err := ledger.Create(m.cfg); err != nil {
		t.Fatal(err)
	}
	m.open()
	t.Cleanup(func() { m.l.Close() })
	return m
}

func (m *fixture) open() {
	var err error
	if m.l, err = ledger.Open(m.cfg); err != nil {
		m.Fatal(err)
	}
	m.op = m.l.Local()
}

func (m *fixture) reopen() {
	if err := m.l.Close(); err != nil {
		m.Fatal(err)
	}
	m.open()
}

// create makes a seller with a legacy product "old" and a concurrent one "new", and two buyers.
func (m *fixture) create() {
	m.Helper()
	must(m.l.CreateSeller(ctx, m.op, adminapi.Seller{AccountID: sellerID, Name: "Acme"}))
	must(m.l.CreateProduct(ctx, m.op, adminapi.Product{SellerAccountID: sellerID, ProductCode: "old", Type: "saas", Integration: "legacy", Dimensions: []string{"users"}}))
	must(m.l.CreateProduct(ctx, m.op, adminapi.Product{SellerAccountID: sellerID, ProductCode: "new", Type: "saas"}))
	must(m.l.CreateBuyer(ctx, m.op, adminapi.Buyer{AccountID: buyerID}))
	must(m.l.CreateBuyer(ctx, m.op, adminapi.Buyer{AccountID: otherID}))
}

// must returns what an act returned. It panics if it failed, as a call of two results can have no other argument.
func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// refused checks that err is a refusal of the kind, on one line that begins with the field.
func refused(t testing.TB, err error, kind metering.Kind, field string) {
	t.Helper()
	var refusal *metering.Error
	if !errors.As(err, &refusal) {
		t.Fatalf("%v, want a refusal for %s", err, field)
	}
	if refusal.Kind != kind || !strings.HasPrefix(refusal.Message, field) {
		t.Errorf("%v: %q, want %v: %s…", refusal.Kind, refusal.Message, kind, field)
	}
	if strings.ContainsAny(refusal.Message, "\n\r") || len(refusal.Message) > 600 {
		t.Errorf("not one short line: %q", refusal.Message)
	}
}

// everything reads all there is of the marketplace.
func (m *fixture) everything() (all adminapi.Marketplace) {
	m.Helper()
	l, op, n := m.l, m.op, market.MaxPage
	all.Regions = must(l.Regions(ctx, op, "", n)).Items
	all.Sellers = must(l.Sellers(ctx, op, "", n)).Items
	all.Products = must(l.Products(ctx, op, "", "", n)).Items
	all.Buyers = must(l.Buyers(ctx, op, "", n)).Items
	all.Agreements = must(l.Agreements(ctx, op, adminapi.AgreementFilter{}, "", n)).Items
	all.Users = must(l.Principals(ctx, op, iam.User, "", "", n)).Items
	all.Roles = must(l.Principals(ctx, op, iam.Role, "", "", n)).Items
	all.Workloads = must(l.Workloads(ctx, op, "", "", n)).Items
	return all
}

func TestIdentifiersMade(t *testing.T) {
	m := newFixture(t, false)
	m.create()
	p := must(m.l.CreateProduct(ctx, m.op, adminapi.Product{SellerAccountID: sellerID, Type: "container", Title: "Made"}))
	a := must(m.l.CreateAgreement(ctx, m.op, adminapi.Agreement{ProductCode: p.ProductCode, BuyerAccountID: buyerID}))
	for _, c := range []struct{ name, got, form string }{
		{"product code", p.ProductCode, `[a-z0-9]{25}`},
		{"product id", p.ProductID, `prod-[a-z0-9]{13}`},
		{"agreement id", a.AgreementID, `agmt-[a-z0-9]{25}`},
		{"licence ARN", a.LicenseARN, `arn:aws:license-manager::111122223333:license:l-[0-9a-f]{32}`},
		{"customer identifier", a.CustomerIdentifier, `[A-Za-z0-9]{12}`},
	} {
		if !regexp.MustCompile("^" + c.form + "$").MatchString(c.got) {
			t.Errorf("%s %q is not %s", c.name, c.got, c.form)
		}
	}
	if p.Integration != "legacy" || len(p.PublicKeys) != 1 || p.PublicKeys[0].Version != 1 || p.PublicKeys[0].Expired || !strings.Contains(p.PublicKeys[0].PEM, "BEGIN PUBLIC KEY") {
		t.Errorf("the container product is %+v", p)
	}
	if a.Status != "active" || !a.StartTime.Equal(m.now) || a.EndTime != nil {
		t.Errorf("the agreement is %+v", a)
	}
	// The same buyer is known by the same identifier to all products of the seller.
	if b := must(m.l.CreateAgreement(ctx, m.op, adminapi.Agreement{ProductCode: "new", BuyerAccountID: buyerID})); b.CustomerIdentifier != a.CustomerIdentifier {
		t.Errorf("customer identifiers %s and %s of one buyer", a.CustomerIdentifier, b.CustomerIdentifier)
	}
}

// TestReopen: what was committed is what is read after a restart.
func TestReopen(t *testing.T) {
	m := newFixture(t, false)
	m.create()
	m.l.CreateProduct(ctx, m.op, adminapi.Product{SellerAccountID: sellerID, ProductCode: "box", Type: "container", Regions: []string{"eu-west-1"}})
	m.l.AddDimension(ctx, m.op, "old", adminapi.NewDimension{Dimension: "gb"})
	a := must(m.l.CreateAgreement(ctx, m.op, adminapi.Agreement{ProductCode: "old", BuyerAccountID: buyerID}))
	m.l.CreateAgreement(ctx, m.op, adminapi.Agreement{ProductCode: "new", BuyerAccountID: buyerID})
	m.l.CancelAgreement(ctx, m.op, a.AgreementID, adminapi.Cancellation{})
	m.l.ChangeBuyer(ctx, m.op, otherID, adminapi.BuyerChange{Suspended: new(true)})
	m.l.CreatePrincipal(ctx, m.op, iam.User, adminapi.Principal{AccountID: sellerID, Name: "metering", Allow: []string{iam.SellerAccess}})
	key := must(m.l.CreateAccessKey(ctx, m.op, sellerID, "metering"))
	m.l.CreateWorkloadCredentials(ctx, m.op, adminapi.WorkloadRequest{Workload: adminapi.Workload{AccountID: buyerID, Platform: "ec2", ResourceID: "i-1", Region: "us-east-1"}})
	m.l.CreateRegion(ctx, m.op, adminapi.Region{Name: "eu-private-1"})
	m.l.EnableRegion(ctx, m.op, "us-east-2", false)
	before := m.everything()
	m.reopen()
	if d := cmp.Diff(before, m.everything()); d != "" {
		t.Errorf("after a restart (-before +after):\n%s", d)
	}
	if c, err := m.l.Credential(key.AccessKeyID, ""); err != nil || c.Secret != key.SecretAccessKey {
		t.Errorf("the key signs with %v, %v", c, err)
	}
}

func TestAgreementLife(t *testing.T) {
	m := newFixture(t, false)
	m.create()
	create := func(product string) (adminapi.Agreement, error) {
		return m.l.CreateAgreement(ctx, m.op, adminapi.Agreement{ProductCode: product, BuyerAccountID: buyerID})
	}
	first := must(create("old"))
	_, err := create("old")
	refused(t, err, metering.Conflict, "buyer_account_id: buyer 444455556666 has the agreement "+first.AgreementID)
	for range 2 { // concurrent products may have several
		must(create("new"))
	}

	// Cancelled for later, it is still active, and may be cancelled anew.
	later := m.now.Add(48 * time.Hour)
	if a := must(m.l.CancelAgreement(ctx, m.op, first.AgreementID, adminapi.Cancellation{At: &later})); a.Status != "active" || !a.EndingTime.Equal(later) || !a.EndTime.Equal(later.Add(time.Hour)) {
		t.Errorf("cancelled for later: %+v", a)
	}
	_, err = create("old")
	refused(t, err, metering.Conflict, "buyer_account_id")
	past := m.now.Add(-time.Second)
	_, err = m.l.CancelAgreement(ctx, m.op, first.AgreementID, adminapi.Cancellation{At: &past})
	refused(t, err, metering.Validation, "at: ")

	if a := must(m.l.CancelAgreement(ctx, m.op, first.AgreementID, adminapi.Cancellation{})); a.Status != "ending" || !a.EndingTime.Equal(m.now) || !a.EndTime.Equal(m.now.Add(time.Hour)) {
		t.Errorf("cancelled: %+v", a)
	}
	_, err = m.l.CancelAgreement(ctx, m.op, first.AgreementID, adminapi.Cancellation{})
	refused(t, err, metering.Conflict, "agreement_id")
	m.now = m.now.Add(30 * time.Minute)
	second := must(create("old")) // subscribed again inside the hour (metering-api T53)
	if second.LicenseARN == first.LicenseARN || second.CustomerIdentifier != first.CustomerIdentifier {
		t.Errorf("the second agreement is %+v, the first %+v", second, first)
	}
	m.now = m.now.Add(time.Hour)
	if a := must(m.l.Agreement(ctx, m.op, first.AgreementID)); a.Status != "ended" {
		t.Errorf("after the final hour: %+v", a)
	}
	if a := must(m.l.EndAgreement(ctx, m.op, second.AgreementID)); a.Status != "ended" || !a.EndingTime.Equal(m.now) || !a.EndTime.Equal(m.now) {
		t.Errorf("ended at once: %+v", a)
	}
	_, err = m.l.EndAgreement(ctx, m.op, second.AgreementID)
	refused(t, err, metering.Conflict, "agreement_id")

	start := m.now.Add(time.Hour)
	if a := must(m.l.CreateAgreement(ctx, m.op, adminapi.Agreement{ProductCode: "old", BuyerAccountID: buyerID, StartTime: &start})); a.Status != "pending" {
		t.Errorf("an agreement that starts later: %+v", a)
	}
	for f, want := range map[adminapi.AgreementFilter]int{
		{}: 5, {ProductCode: "old"}: 3, {ProductCode: "new"}: 2, {BuyerAccountID: buyerID}: 5, {BuyerAccountID: otherID}: 0,
		{Status: "ended"}: 2, {Status: "pending"}: 1, {Status: "ending"}: 0, {ProductCode: "old", Status: "active"}: 0,
	} {
		if got := must(m.l.Agreements(ctx, m.op, f, "", 0)); len(got.Items) != want {
			t.Errorf("%+v: %d agreements, want %d", f, len(got.Items), want)
		}
	}
}

func TestPublicKeys(t *testing.T) {
	m := newFixture(t, false)
	m.create()
	must(m.l.CreateProduct(ctx, m.op, adminapi.Product{SellerAccountID: sellerID, ProductCode: "box", Type: "container"}))
	m.now = m.now.Add(time.Hour)
	if k := must(m.l.RotatePublicKey(ctx, m.op, "box")); k.Version != 2 || k.Expired || !k.CreatedAt.Equal(m.now) {
		t.Errorf("rotated: %+v", k)
	}
	keys := must(m.l.PublicKeys(ctx, m.op, "box")).Items
	if len(keys) != 2 || !keys[0].Expired || !keys[0].RotatedAt.Equal(m.now) || keys[1].Expired || keys[0].PEM == keys[1].PEM {
		t.Errorf("versions: %+v", keys)
	}
	if k := must(m.l.ExpirePublicKey(ctx, m.op, "box", 2)); !k.Expired || !k.RotatedAt.Equal(m.now) {
		t.Errorf("expired: %+v", k)
	}
	_, err := m.l.ExpirePublicKey(ctx, m.op, "box", 2)
	refused(t, err, metering.Conflict, "version")
	_, err = m.l.ExpirePublicKey(ctx, m.op, "box", 3)
	refused(t, err, metering.NotFound, "version")
	if k := must(m.l.RotatePublicKey(ctx, m.op, "old")); k.Version != 1 {
		t.Errorf("the first key of a product without: %+v", k)
	}
}

func TestAccessKeys(t *testing.T) {
	m := newFixture(t, false)
	m.create()
	signs := func(key adminapi.AccessKey) bool {
		c, err := m.l.Credential(key.AccessKeyID, "")
		return err == nil && c.Secret == key.SecretAccessKey && c.Principal.Name.ARN() == key.UserARN
	}
	user := func() adminapi.AccessKey {
		must(m.l.CreatePrincipal(ctx, m.op, iam.User, adminapi.Principal{AccountID: sellerID, Name: "bob", Allow: []string{"aws-marketplace:BatchMeterUsage"}}))
		return must(m.l.CreateAccessKey(ctx, m.op, sellerID, "bob"))
	}
	key := user()
	if !signs(key) || key.Status != "Active" || !strings.HasPrefix(key.AccessKeyID, "AKIA") || key.UserARN != "arn:aws:iam::111122223333:user/bob" {
		t.Errorf("a new key: %+v", key)
	}
	if u := must(m.l.Principal(ctx, m.op, iam.User, sellerID, "bob")); len(u.AccessKeys) != 1 || u.AccessKeys[0].SecretAccessKey != "" {
		t.Errorf("the user shows %+v", u)
	}
	if k := must(m.l.ChangeAccessKey(ctx, m.op, key.AccessKeyID, adminapi.AccessKeyChange{Status: "Inactive"})); k.Status != "Inactive" || signs(key) {
		t.Errorf("deactivated: %+v", k)
	}
	m.reopen()
	if signs(key) {
		t.Error("an inactive key signs after a restart")
	}
	if k := must(m.l.ChangeAccessKey(ctx, m.op, key.AccessKeyID, adminapi.AccessKeyChange{Status: "Active"})); k.Status != "Active" || !signs(key) {
		t.Errorf("activated again: %+v", k)
	}
	if err := m.l.DeleteAccessKey(ctx, m.op, key.AccessKeyID); err != nil || signs(key) {
		t.Errorf("deleted: %v", err)
	}
	_, err := m.l.ChangeAccessKey(ctx, m.op, key.AccessKeyID, adminapi.AccessKeyChange{Status: "Active"})
	refused(t, err, metering.NotFound, "access_key_id")
	_, err = m.l.CreatePrincipal(ctx, m.op, iam.User, adminapi.Principal{AccountID: sellerID, Name: "eve", AccessKeys: []adminapi.AccessKey{{AccessKeyID: key.AccessKeyID, SecretAccessKey: key.SecretAccessKey}}})
	refused(t, err, metering.Conflict, "access_keys[0].access_key_id")

	// A deleted user takes its keys with it; one of the same name later is another.
	key = must(m.l.CreateAccessKey(ctx, m.op, sellerID, "bob"))
	if err := m.l.DeletePrincipal(ctx, m.op, iam.User, sellerID, "bob"); err != nil || signs(key) {
		t.Errorf("a deleted user signs, %v", err)
	}
	if again := user(); !signs(again) || signs(key) {
		t.Error("a user made anew has the old key, or none")
	}
	m.reopen()
	if signs(key) {
		t.Error("a deleted user's key signs after a restart")
	}
}

func TestPermissions(t *testing.T) {
	m := newFixture(t, false)
	m.create()
	must(m.l.CreatePrincipal(ctx, m.op, iam.User, adminapi.Principal{AccountID: sellerID, Name: "bob", Allow: []string{iam.SellerAccess}}))
	key := must(m.l.CreateAccessKey(ctx, m.op, sellerID, "bob"))
	allowed := func() bool {
		return must(m.l.Credential(key.AccessKeyID, "")).Principal.Decide(metering.BatchMeterUsage.Info().Action, nil) == iam.Allowed
	}
	if !allowed() {
		t.Error("the seller's preset does not allow BatchMeterUsage")
	}
	if u := must(m.l.PutPermissions(ctx, m.op, iam.User, sellerID, "bob", adminapi.Permissions{Allow: []string{"*"}, Deny: []string{"aws-marketplace:Batch*"}})); len(u.Deny) != 1 || allowed() {
		t.Errorf("denied: %+v", u)
	}
	_, err := m.l.PutPermissions(ctx, m.op, iam.User, sellerID, "bob", adminapi.Permissions{Allow: []string{"s3:*"}})
	refused(t, err, metering.Validation, "allow[0]")
	_, err = m.l.PutPermissions(ctx, m.op, iam.User, sellerID, "eve", adminapi.Permissions{})
	refused(t, err, metering.NotFound, "name")
	_, err = m.l.PutPermissions(ctx, m.op, iam.Role, sellerID, "bob", adminapi.Permissions{})
	refused(t, err, metering.NotFound, "name")
}

func TestWorkloads(t *testing.T) {
	for _, sandbox := range []bool{false, true} {
		t.Run(fmt.Sprintf("sandbox %t", sandbox), func(t *testing.T) {
			m := newFixture(t, sandbox)
			m.create()
			in := adminapi.WorkloadRequest{Workload: adminapi.Workload{AccountID: buyerID, Platform: "eks", ResourceID: "pod/with spaces:" + strings.Repeat("x", 80), Region: "us-east-1"}}
			first := must(m.l.CreateWorkloadCredentials(ctx, m.op, in))
			credential := func(c adminapi.WorkloadCredentials) *market.Identity {
				t.Helper()
				got, err := m.l.Credential(c.AccessKeyID, c.SessionToken)
				if err != nil {
					t.Fatal(err)
				}
				if got.Secret != c.SecretAccessKey || !strings.HasPrefix(c.AccessKeyID, "ASIA") || c.Role != market.WorkloadRole {
					t.Errorf("credentials %+v", c)
				}
				if got.Principal.Decide(metering.MeterUsage.Info().Action, nil) != iam.Allowed || got.Principal.Decide(metering.RegisterUsage.Info().Action, nil) != iam.Allowed || got.Principal.Decide(metering.BatchMeterUsage.Info().Action, nil) == iam.Allowed {
					t.Error("the workload's role does not allow what it should")
				}
				return got.Principal
			}
			id := credential(first)
			if err := iam.ValidSessionName(id.Name.SessionName); err != nil {
				t.Error(err)
			}
			if again := credential(must(m.l.CreateWorkloadCredentials(ctx, m.op, in))); again.Workload != id.Workload || again.Principal != id.Principal {
				t.Errorf("the same workload is %+v, then %+v", id, again)
			}
			switch {
			case sandbox && first.ExpiresAt != nil:
				t.Errorf("a sandbox's credentials expire at %v", first.ExpiresAt)
			case !sandbox && !first.ExpiresAt.Equal(m.now.Add(time.Hour)):
				t.Errorf("credentials expire at %v", first.ExpiresAt)
			}
			in.DurationSeconds = 900
			short := must(m.l.CreateWorkloadCredentials(ctx, m.op, in))
			m.now = m.now.Add(15 * time.Minute)
			if _, err := m.l.Credential(short.AccessKeyID, short.SessionToken); err == nil {
				t.Error("credentials work after they expired")
			}
			credential(first)
			for _, seconds := range []int64{-1, 1, 899, 43201, 1 << 62} {
				in.DurationSeconds = seconds
				_, err := m.l.CreateWorkloadCredentials(ctx, m.op, in)
				refused(t, err, metering.Validation, "duration_seconds")
			}
			in.DurationSeconds = 0
			in.Region = "us-east-2"
			_, err := m.l.CreateWorkloadCredentials(ctx, m.op, in)
			refused(t, err, metering.Conflict, "region")
			in.Region = "us-east-1"

			// Another role, then that role is deleted.
			in.Role = "agent"
			_, err = m.l.CreateWorkloadCredentials(ctx, m.op, in)
			refused(t, err, metering.NotFound, "role")
			must(m.l.CreatePrincipal(ctx, m.op, iam.Role, adminapi.Principal{AccountID: buyerID, Name: "agent"}))
			agent := must(m.l.CreateWorkloadCredentials(ctx, m.op, in))
			if got := must(m.l.Workloads(ctx, m.op, buyerID, "", 0)).Items; len(got) != 1 || got[0].Role != "agent" {
				t.Errorf("workloads: %+v", got)
			}
			if err := m.l.DeletePrincipal(ctx, m.op, iam.Role, buyerID, "agent"); err != nil {
				t.Error(err)
			}
			if _, err := m.l.Credential(agent.AccessKeyID, agent.SessionToken); err == nil {
				t.Error("a session outlives its role")
			}
			in.Role = ""
			_, err = m.l.CreateWorkloadCredentials(ctx, m.op, in)
			refused(t, err, metering.Conflict, "role")
			in.Role = market.WorkloadRole
			credential(must(m.l.CreateWorkloadCredentials(ctx, m.op, in)))
		})
	}
}

func TestRegistrationTokens(t *testing.T) {
	m := newFixture(t, false)
	m.create()
	a := must(m.l.CreateAgreement(ctx, m.op, adminapi.Agreement{ProductCode: "old", BuyerAccountID: buyerID}))
	var ids []string
	for _, buyer := range []string{buyerID, a.CustomerIdentifier, otherID} { // the last has no agreement
		token := must(m.l.CreateToken(ctx, m.op, adminapi.TokenRequest{ProductCode: "old", Buyer: buyer}))
		if !token.ExpiresAt.Equal(m.now.Add(4*time.Hour)) || !token.IssuedAt.Equal(m.now) || token.RegistrationToken == "" || token.ProductCode != "old" {
			t.Errorf("token for %s: %+v", buyer, token)
		}
		ids = append(ids, token.ID)
		m.now = m.now.Add(time.Second)
	}
	first := must(m.l.Tokens(ctx, m.op, "", 2))
	rest := must(m.l.Tokens(ctx, m.op, first.Next, 2))
	if rest.Next != "" {
		t.Errorf("there is a page behind the last one: %s", rest.Next)
	}
	var got []string
	for _, token := range append(first.Items, rest.Items...) {
		got = append(got, token.ID)
	}
	if d := cmp.Diff(ids, got); d != "" {
		t.Errorf("tokens (-issued +listed):\n%s", d)
	}
	if err := m.l.RevokeToken(ctx, m.op, ids[0]); err != nil {
		t.Error(err)
	}
	if page := must(m.l.Tokens(ctx, m.op, "", 1)); !page.Items[0].Revoked {
		t.Errorf("revoked: %+v", page)
	}
	refused(t, m.l.RevokeToken(ctx, m.op, ids[0]), metering.Conflict, "id")
	refused(t, m.l.RevokeToken(ctx, m.op, strings.Repeat("0", 32)), metering.NotFound, "id")
	refused(t, m.l.RevokeToken(ctx, m.op, "x"), metering.Validation, "id")
	if b := must(m.l.Buyer(ctx, m.op, otherID)); len(b.Identifiers) != 1 || b.Identifiers[0].SellerAccountID != sellerID {
		t.Errorf("the buyer with a token and no agreement is %+v", b)
	}
	_, err := m.l.CreateToken(ctx, m.op, adminapi.TokenRequest{ProductCode: "old", Buyer: buyerID, RegistrationToken: "given"})
	refused(t, err, metering.Validation, "registration_token: a production ledger makes its tokens")
	_, err = m.l.CreateToken(ctx, m.op, adminapi.TokenRequest{ProductCode: "old", Buyer: buyerID, IssuedAt: &m.now})
	refused(t, err, metering.Conflict, "issued_at")
	_, err = m.l.CreateToken(ctx, m.op, adminapi.TokenRequest{ProductCode: "old", Buyer: "999999999998"})
	refused(t, err, metering.NotFound, "buyer")
	_, err = m.l.CreateToken(ctx, m.op, adminapi.TokenRequest{ProductCode: "old", Buyer: "nobody"})
	refused(t, err, metering.NotFound, "buyer")
}

func TestAdminTokens(t *testing.T) {
	m := newFixture(t, false)
	if _, err := m.l.Operator("", "x", ""); err == nil {
		t.Error("no token is a token")
	}
	first := must(m.l.CreateAdminToken(ctx, m.op, adminapi.AdminToken{Name: "init"}))
	op, err := m.l.Operator(first.Token, "127.0.0.1", "")
	if err != nil {
		t.Fatal(err)
	}
	refused(t, m.l.DeleteAdminToken(ctx, op, first.ID), metering.Conflict, "id: it is the last")
	second := must(m.l.CreateAdminToken(ctx, op, adminapi.AdminToken{Name: "second"}))
	if list := must(m.l.AdminTokens(ctx, op, "", 0)).Items; len(list) != 2 || list[1].Name != "second" || list[0].Token+list[1].Token != "" {
		t.Errorf("admin tokens: %+v", list)
	}
	if err := m.l.DeleteAdminToken(ctx, op, first.ID); err != nil {
		t.Error(err)
	}
	m.reopen()
	if _, err := m.l.Operator(first.Token, "", ""); err == nil {
		t.Error("a deleted token is valid after a restart")
	}
	if _, err := m.l.Operator(second.Token, "", ""); err != nil {
		t.Error(err)
	}
	for _, id := range []string{first.ID, "0", "99", "-1", "x", ""} {
		refused(t, m.l.DeleteAdminToken(ctx, m.op, id), metering.NotFound, "id")
	}
	_, bad := m.l.CreateAdminToken(ctx, m.op, adminapi.AdminToken{Name: "x", Token: "given by the caller"})
	refused(t, bad, metering.Validation, "token")
}

// TestOperatorNeeded: no act works without an operator of this very ledger.
func TestOperatorNeeded(t *testing.T) {
	m, stranger := newFixture(t, true), newFixture(t, true)
	m.create()
	before := m.everything()
	for _, op := range []ledger.Operator{{}, stranger.op} {
		l := reflect.ValueOf(m.l)
		acts := 0
		for i := range l.NumMethod() {
			method := l.Type().Method(i)
			if method.Type.NumIn() < 3 || method.Type.In(2) != reflect.TypeFor[ledger.Operator]() {
				continue
			}
			acts++
			args := []reflect.Value{reflect.ValueOf(ctx), reflect.ValueOf(op)}
			for j := 3; j < method.Type.NumIn(); j++ {
				in := method.Type.In(j)
				if in.Kind() == reflect.Pointer {
					args = append(args, reflect.New(in.Elem()))
				} else {
					args = append(args, reflect.Zero(in))
				}
			}
			call := l.Method(i).Call
			if method.Type.IsVariadic() {
				call = l.Method(i).CallSlice
			}
			out := call(args)
			err, _ := out[len(out)-1].Interface().(error)
			var refusal *metering.Error
			if !errors.As(err, &refusal) || refusal.Kind != metering.AccessDenied {
				t.Errorf("%s without an operator: %v", method.Name, err)
			}
		}
		if acts < 40 {
			t.Errorf("only %d acts were tried", acts)
		}
	}
	if d := cmp.Diff(before, m.everything()); d != "" {
		t.Errorf("something was stored:\n%s", d)
	}
}

func TestClock(t *testing.T) {
	m := newFixture(t, true)
	at := func(s string) *time.Time {
		v, err := time.Parse(time.RFC3339, s)
		if err != nil {
			t.Fatal(err)
		}
		return &v
	}
	yes, no := true, false
	for _, step := range []struct {
		in     adminapi.ClockChange
		wait   time.Duration // by the wall clock, after the change
		want   string
		frozen bool
	}{
		{adminapi.ClockChange{Advance: "90m"}, 0, "2026-11-23T15:50:00Z", false},
		{adminapi.ClockChange{Advance: "-30m"}, time.Minute, "2026-11-23T15:21:00Z", false},
		{adminapi.ClockChange{Frozen: &yes}, time.Hour, "2026-11-23T15:21:00Z", true},
		{adminapi.ClockChange{Advance: "1h"}, time.Hour, "2026-11-23T16:21:00Z", true},
		{adminapi.ClockChange{Now: at("2026-01-01T00:00:00Z")}, time.Hour, "2026-01-01T00:00:00Z", true},
		{adminapi.ClockChange{Frozen: &no}, time.Hour, "2026-01-01T01:00:00Z", false},
		{adminapi.ClockChange{Now: at("2027-06-01T12:00:00+02:00"), Frozen: &yes}, 0, "2027-06-01T10:00:00Z", true},
		{adminapi.ClockChange{Advance: "24h", Frozen: &no}, time.Second, "2027-06-02T10:00:01Z", false},
		{adminapi.ClockChange{Reset: true}, 0, "2026-11-23T18:21:01Z", false},
	} {
		must(m.l.ChangeClock(ctx, m.op, step.in))
		m.now = m.now.Add(step.wait)
		for range 2 {
			if got := must(m.l.Clock(ctx, m.op)); !got.Now.Equal(*at(step.want)) || got.Frozen != step.frozen {
				t.Fatalf("after %+v: %+v, want %s, frozen %t", step.in, got, step.want, step.frozen)
			}
			m.reopen()
		}
	}
	for field, in := range map[string]adminapi.ClockChange{
		"now: is missing":       {},
		"now: 1970":             {Now: at("1970-01-01T00:00:00Z")},
		"now: 2200":             {Now: at("2200-01-01T00:00:00Z")},
		"advance: \"tomorrow\"": {Advance: "tomorrow"},
		"advance: excludes now": {Advance: "1h", Now: at("2026-01-01T00:00:00Z")},
		"reset: excludes":       {Reset: true, Frozen: &yes},
		"advance: 19":           {Advance: "-500000h"},
	} {
		_, err := m.l.ChangeClock(ctx, m.op, in)
		refused(t, err, metering.Validation, field)
	}
	m = newFixture(t, false)
	if _, err := m.l.Clock(ctx, m.op); err != nil {
		t.Errorf("reading the clock of a production ledger: %v", err)
	}
	_, err := m.l.ChangeClock(ctx, m.op, adminapi.ClockChange{Advance: "1h"})
	refused(t, err, metering.Conflict, "clock")
}

func TestPages(t *testing.T) {
	m := newFixture(t, false)
	m.create()
	for i := range 25 {
		must(m.l.CreateBuyer(ctx, m.op, adminapi.Buyer{AccountID: fmt.Sprintf("%012d", 10+i)}))
	}
	all := must(m.l.Buyers(ctx, m.op, "", market.MaxPage)).Items
	for _, limit := range []int{1, 9, 26, 27, 28} {
		var got []adminapi.Buyer
		for after, pages := "", 0; ; pages++ {
			page := must(m.l.Buyers(ctx, m.op, after, limit))
			got = append(got, page.Items...)
			if after = page.Next; after == "" {
				if want := (len(all) + limit - 1) / limit; pages+1 != want {
					t.Errorf("%d pages of %d, want %d", pages+1, limit, want)
				}
				break
			}
		}
		if d := cmp.Diff(all, got); d != "" {
			t.Errorf("pages of %d:\n%s", limit, d)
		}
	}
	for _, limit := range []int{-1, market.MaxPage + 1} {
		_, err := m.l.Buyers(ctx, m.op, "", limit)
		refused(t, err, metering.Validation, "limit")
	}
	_, err := m.l.Buyers(ctx, m.op, "x", 0)
	refused(t, err, metering.Validation, "after")
	if page := must(m.l.Buyers(ctx, m.op, "4294967295", 0)); len(page.Items) != 0 {
		t.Errorf("behind the end: %+v", page)
	}
}

// TestRefusals: each mistake gets one line that begins with the field, and nothing is stored.
func TestRefusals(t *testing.T) {
	m := newFixture(t, false)
	m.create()
	taken := must(m.l.CreateAgreement(ctx, m.op, adminapi.Agreement{ProductCode: "new", BuyerAccountID: buyerID, CustomerIdentifier: "known"}))
	long := strings.Repeat("x", 256)
	product := func(change func(*adminapi.Product)) func() error {
		return func() error {
			p := adminapi.Product{SellerAccountID: sellerID, Type: "saas"}
			change(&p)
			_, err := m.l.CreateProduct(ctx, m.op, p)
			return err
		}
	}
	agreement := func(change func(*adminapi.Agreement)) func() error {
		return func() error {
			a := adminapi.Agreement{ProductCode: "new", BuyerAccountID: otherID}
			change(&a)
			_, err := m.l.CreateAgreement(ctx, m.op, a)
			return err
		}
	}
	user := func(change func(*adminapi.Principal)) func() error {
		return func() error {
			p := adminapi.Principal{AccountID: sellerID, Name: "u"}
			change(&p)
			_, err := m.l.CreatePrincipal(ctx, m.op, iam.User, p)
			return err
		}
	}
	workload := func(change func(*adminapi.Workload)) func() error {
		return func() error {
			w := adminapi.WorkloadRequest{Workload: adminapi.Workload{AccountID: buyerID, Platform: "ec2", ResourceID: "i-1", Region: "us-east-1"}}
			change(&w.Workload)
			_, err := m.l.CreateWorkloadCredentials(ctx, m.op, w)
			return err
		}
	}
	key := func(id, secret string) func() error {
		return user(func(p *adminapi.Principal) {
			p.AccessKeys = []adminapi.AccessKey{{AccessKeyID: id, SecretAccessKey: secret}}
		})
	}
	before := m.everything()
	for _, c := range []struct {
		field string
		kind  metering.Kind
		act   func() error
	}{
		{"account_id: \"12\"", metering.Validation, func() error { _, err := m.l.CreateSeller(ctx, m.op, adminapi.Seller{AccountID: "12"}); return err }},
		{"account_id: account", metering.Conflict, func() error { _, err := m.l.CreateSeller(ctx, m.op, adminapi.Seller{AccountID: sellerID}); return err }},
		{"account_id: 111111111111 is an account of sandboxes", metering.Validation, func() error {
			_, err := m.l.CreateSeller(ctx, m.op, adminapi.Seller{AccountID: "111111111111"})
			return err
		}},
		{"name: account 111122223333 is there", metering.Conflict, func() error {
			_, err := m.l.CreateBuyer(ctx, m.op, adminapi.Buyer{AccountID: sellerID, Name: "Other"})
			return err
		}},
		{"name: \"a\\x00b\"", metering.Validation, func() error {
			_, err := m.l.CreateSeller(ctx, m.op, adminapi.Seller{AccountID: "999988887777", Name: "a\x00b"})
			return err
		}},
		{"account_id: account", metering.Conflict, func() error { _, err := m.l.CreateBuyer(ctx, m.op, adminapi.Buyer{AccountID: buyerID}); return err }},
		{"customer_identifiers[0].seller_account_id", metering.NotFound, func() error {
			_, err := m.l.CreateBuyer(ctx, m.op, adminapi.Buyer{AccountID: "999988887777", Identifiers: []adminapi.CustomerIdentity{{SellerAccountID: buyerID, CustomerIdentifier: "x"}}})
			return err
		}},
		{"customer_identifiers[0].customer_identifier: \"known\"", metering.Conflict, func() error {
			_, err := m.l.CreateBuyer(ctx, m.op, adminapi.Buyer{AccountID: "999988887777", Identifiers: []adminapi.CustomerIdentity{{SellerAccountID: sellerID, CustomerIdentifier: "known"}}})
			return err
		}},
		{"agreements[1].product_code", metering.NotFound, func() error {
			_, err := m.l.CreateBuyer(ctx, m.op, adminapi.Buyer{AccountID: "999988887777", Agreements: []adminapi.Agreement{{ProductCode: "old"}, {ProductCode: "older"}}})
			return err
		}},
		{"agreements[0].buyer_account_id", metering.Validation, func() error {
			_, err := m.l.CreateBuyer(ctx, m.op, adminapi.Buyer{AccountID: "999988887777", Agreements: []adminapi.Agreement{{ProductCode: "old", BuyerAccountID: otherID}}})
			return err
		}},
		{"account_id: account", metering.NotFound, func() error {
			_, err := m.l.ChangeBuyer(ctx, m.op, sellerID, adminapi.BuyerChange{Suspended: new(true)})
			return err
		}},
		{"suspended", metering.Validation, func() error { _, err := m.l.ChangeBuyer(ctx, m.op, buyerID, adminapi.BuyerChange{}); return err }},

		{"seller_account_id", metering.NotFound, product(func(p *adminapi.Product) { p.SellerAccountID = buyerID })},
		{"seller_account_id", metering.Validation, product(func(p *adminapi.Product) { p.SellerAccountID = "" })},
		{"product_code: product \"old\"", metering.Conflict, product(func(p *adminapi.Product) { p.ProductCode, p.Integration = "old", "legacy" })},
		{"type: product \"old\"", metering.Conflict, product(func(p *adminapi.Product) { p.ProductCode, p.Type = "old", "ami" })},
		{"product_code: \"prod-", metering.Validation, product(func(p *adminapi.Product) { p.ProductCode = "prod-abc" })},
		{"product_code: \"a b\"", metering.Validation, product(func(p *adminapi.Product) { p.ProductCode = "a b" })},
		{"product_code", metering.Validation, product(func(p *adminapi.Product) { p.ProductCode = long })},
		{"product_id", metering.Validation, product(func(p *adminapi.Product) { p.ProductID = "abc" })},
		{"title", metering.Validation, product(func(p *adminapi.Product) { p.Title = "a\nb" })},
		{"title", metering.Validation, product(func(p *adminapi.Product) { p.Title = "\xff" })},
		{"type", metering.Validation, product(func(p *adminapi.Product) { p.Type = "SaaS" })},
		{"integration", metering.Validation, product(func(p *adminapi.Product) { p.Integration = "modern" })},
		{"dimensions[1]: \"a\" is there twice", metering.Validation, product(func(p *adminapi.Product) { p.Dimensions = []string{"a", "a"} })},
		{"dimensions[0]: is missing", metering.Validation, product(func(p *adminapi.Product) { p.Dimensions = []string{""} })},
		{"dimensions[0]: has 256", metering.Validation, product(func(p *adminapi.Product) { p.Dimensions = []string{long} })},
		{"dimensions: there are 1001", metering.Validation, product(func(p *adminapi.Product) { p.Dimensions = make([]string, 1001) })},
		{"regions[0]: region \"mars-1\"", metering.NotFound, product(func(p *adminapi.Product) { p.Regions = []string{"mars-1"} })},
		{"regions[1]", metering.Validation, product(func(p *adminapi.Product) { p.Regions = []string{"us-east-1", "us-east-1"} })},
		{"public_keys[0].version: must be 1", metering.Validation, product(func(p *adminapi.Product) { p.PublicKeys = []adminapi.PublicKey{{}} })},
		{"public_keys[0].private_pem: is missing", metering.Validation, product(func(p *adminapi.Product) { p.PublicKeys = []adminapi.PublicKey{{Version: 1, PEM: "x"}} })},
		{"public_keys[0].private_pem: is not", metering.Validation, product(func(p *adminapi.Product) { p.PublicKeys = []adminapi.PublicKey{{Version: 1, PrivatePEM: "x"}} })},
		{"dimension: product", metering.Conflict, func() error {
			_, err := m.l.AddDimension(ctx, m.op, "old", adminapi.NewDimension{Dimension: "users"})
			return err
		}},
		{"dimension: is missing", metering.Validation, func() error { _, err := m.l.AddDimension(ctx, m.op, "old", adminapi.NewDimension{}); return err }},
		{"product_code: there is no", metering.NotFound, func() error {
			_, err := m.l.AddDimension(ctx, m.op, "x", adminapi.NewDimension{Dimension: "d"})
			return err
		}},
		{"product_code: \"prod-", metering.NotFound, func() error {
			_, err := m.l.Product(ctx, m.op, must(m.l.Product(ctx, m.op, "old")).ProductID)
			return err
		}},

		{"product_code", metering.NotFound, agreement(func(a *adminapi.Agreement) { a.ProductCode = "" })},
		{"buyer_account_id", metering.NotFound, agreement(func(a *adminapi.Agreement) { a.BuyerAccountID = sellerID })},
		{"buyer_account_id", metering.Validation, agreement(func(a *adminapi.Agreement) { a.BuyerAccountID = "" })},
		{"agreement_id", metering.Validation, agreement(func(a *adminapi.Agreement) { a.AgreementID = "x" })},
		{"buyer_account_id: agreement", metering.Conflict, agreement(func(a *adminapi.Agreement) { a.AgreementID = taken.AgreementID })},
		{"license_arn: \"arn:x\"", metering.Validation, agreement(func(a *adminapi.Agreement) { a.LicenseARN = "arn:x" })},
		{"license_arn: arn:", metering.Conflict, agreement(func(a *adminapi.Agreement) {
			a.BuyerAccountID, a.AgreementID, a.LicenseARN = buyerID, "agmt-another", taken.LicenseARN
		})},
		{"customer_identifier: \"known\"", metering.Conflict, agreement(func(a *adminapi.Agreement) { a.CustomerIdentifier = "known" })},
		{"customer_identifier: seller", metering.Conflict, agreement(func(a *adminapi.Agreement) { a.BuyerAccountID, a.CustomerIdentifier = buyerID, "another" })},
		{"start_time", metering.Validation, agreement(func(a *adminapi.Agreement) { a.StartTime = &time.Time{} })},
		{"ending_time", metering.Validation, agreement(func(a *adminapi.Agreement) { a.EndingTime = new(m.now.Add(-time.Hour)) })},
		{"end_time", metering.Validation, agreement(func(a *adminapi.Agreement) { a.EndingTime, a.EndTime = new(m.now.Add(time.Hour)), &m.now })},

		{"account_id", metering.NotFound, user(func(p *adminapi.Principal) { p.AccountID = "999988887777" })},
		{"name", metering.Validation, user(func(p *adminapi.Principal) { p.Name = "" })},
		{"allow: there are 101", metering.Validation, user(func(p *adminapi.Principal) { p.Allow = slices.Repeat([]string{"*"}, 101) })},
		{"deny[0]", metering.Validation, user(func(p *adminapi.Principal) { p.Deny = []string{"x"} })},
		{"access_keys[0].access_key_id", metering.Validation, key("AKIA", "0123456789012345678901234567890123456789")},
		{"access_keys[0].access_key_id", metering.Validation, key("ASIA0123456789ABCDEF", "0123456789012345678901234567890123456789")},
		{"access_keys[0].access_key_id: \"AKIASANDBOX", metering.Validation, key("AKIASANDBOX000000001", "0123456789012345678901234567890123456789")},
		{"access_keys[0].secret_access_key", metering.Validation, key("AKIA0123456789ABCDEF", "")},
		{"access_keys[0].secret_access_key", metering.Validation, key("AKIA0123456789ABCDEF", "0123456789 0123456789")},
		{"access_keys: a role", metering.Validation, func() error {
			_, err := m.l.CreatePrincipal(ctx, m.op, iam.Role, adminapi.Principal{AccountID: sellerID, Name: "r", AccessKeys: []adminapi.AccessKey{{}}})
			return err
		}},
		{"name: account", metering.NotFound, func() error { return m.l.DeletePrincipal(ctx, m.op, iam.User, sellerID, "nobody") }},
		{"status", metering.Validation, func() error {
			_, err := m.l.ChangeAccessKey(ctx, m.op, "x", adminapi.AccessKeyChange{Status: "On"})
			return err
		}},
		{"access_key_id", metering.NotFound, func() error { return m.l.DeleteAccessKey(ctx, m.op, "x") }},

		{"account_id", metering.NotFound, workload(func(w *adminapi.Workload) { w.AccountID = "999988887777" })},
		{"platform", metering.Validation, workload(func(w *adminapi.Workload) { w.Platform = "lambda" })},
		{"resource_id", metering.Validation, workload(func(w *adminapi.Workload) { w.ResourceID = "" })},
		{"region", metering.NotFound, workload(func(w *adminapi.Workload) { w.Region = "mars-1" })},
		{"role: account", metering.NotFound, workload(func(w *adminapi.Workload) { w.Role = "nobody" })},

		{"name: \"Mars\"", metering.Validation, func() error { _, err := m.l.CreateRegion(ctx, m.op, adminapi.Region{Name: "Mars"}); return err }},
		{"name: region us-east-1", metering.Conflict, func() error { _, err := m.l.CreateRegion(ctx, m.op, adminapi.Region{Name: "us-east-1"}); return err }},
		{"name: region \"mars-1\"", metering.NotFound, func() error { _, err := m.l.EnableRegion(ctx, m.op, "mars-1", true); return err }},
		{"name: is missing", metering.Validation, func() error { _, err := m.l.CreateAdminToken(ctx, m.op, adminapi.AdminToken{}); return err }},
	} {
		t.Run(c.field, func(t *testing.T) {
			refused(t, c.act(), c.kind, c.field)
			if d := cmp.Diff(before, m.everything()); d != "" {
				t.Errorf("something was stored:\n%s", d)
			}
		})
	}
	m.reopen()
	if d := cmp.Diff(before, m.everything()); d != "" {
		t.Errorf("something was stored on disk:\n%s", d)
	}
}
