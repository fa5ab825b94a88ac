package ledger_test

import (
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/meterd/meterd/internal/adminapi"
	"github.com/meterd/meterd/internal/iam"
	"github.com/meterd/meterd/internal/ledger"
	"github.com/meterd/meterd/internal/market"
	"github.com/meterd/meterd/internal/metering"
)

// TestScopes has each act and read done by the operator of a seller and by that of a buyer, for what is theirs and for what
// is another's. Whatever is another's is as if it were not there.
func TestScopes(t *testing.T) {
	const rival = "999900001111" // sells to another buyer
	m := newFixture(t, true)
	m.create()
	began := m.now.Add(-time.Hour)
	must(m.l.CreateSeller(ctx, m.op, adminapi.Seller{AccountID: rival}))
	must(m.l.CreateProduct(ctx, m.op, adminapi.Product{ProductCode: "rival", SellerAccountID: rival, Type: "saas", Dimensions: []string{"rivals"}}))
	agreement := func(product, buyer string) adminapi.Agreement {
		return must(m.l.CreateAgreement(ctx, m.op, adminapi.Agreement{ProductCode: product, BuyerAccountID: buyer, StartTime: &began}))
	}
	own, also, foreign := agreement("old", buyerID), agreement("new", buyerID), agreement("rival", otherID)
	request := "0193581a-3c00-7000-8000-000000000000"

	op := map[string]ledger.Operator{}
	for name, s := range map[string]struct {
		of      market.Party
		account string
	}{"seller": {market.ForSeller, sellerID}, "buyer": {market.ForBuyer, buyerID}} {
		scope, err := m.l.Scope(s.of, s.account)
		if err != nil {
			t.Fatal(err)
		}
		op[name] = m.op.Within(scope)
		if op[name].Within(market.Scope{}) != op[name] {
			t.Errorf("%s: a scope can be left", name)
		}
	}
	const denied, absent, done = metering.AccessDenied, metering.NotFound, metering.Kind(255)
	drop := func(_ any, err error) error { return err }
	l := m.l
	tried := map[string]bool{}
	for _, c := range []struct {
		name          string
		do            func(ledger.Operator) error
		seller, buyer metering.Kind
	}{
		{"Regions", func(o ledger.Operator) error { return drop(l.Regions(ctx, o, "", 0)) }, done, done},
		{"CreateRegion", func(o ledger.Operator) error {
			return drop(l.CreateRegion(ctx, o, adminapi.Region{Name: "eu-private-9"}))
		}, denied, denied},
		{"CreateRegion", func(o ledger.Operator) error { return drop(l.CreateRegion(ctx, o, adminapi.Region{Name: "us-east-1"})) }, denied, denied},
		{"EnableRegion", func(o ledger.Operator) error { return drop(l.EnableRegion(ctx, o, "us-east-1", true)) }, denied, denied},
		{"Sellers", func(o ledger.Operator) error { return drop(l.Sellers(ctx, o, "", 0)) }, done, done},
		{"Seller", func(o ledger.Operator) error {
			return drop(ledger.Find(ctx, l, o, market.Seller(adminapi.AccountPath{AccountID: sellerID})))
		}, done, done},
		{"Seller", func(o ledger.Operator) error {
			return drop(ledger.Find(ctx, l, o, market.Seller(adminapi.AccountPath{AccountID: rival})))
		}, absent, done},
		{"CreateSeller", func(o ledger.Operator) error {
			return drop(l.CreateSeller(ctx, o, adminapi.Seller{AccountID: sellerID}))
		}, denied, denied},
		{"Buyers", func(o ledger.Operator) error { return drop(l.Buyers(ctx, o, "", 0)) }, done, done},
		{"Buyer", func(o ledger.Operator) error {
			return drop(ledger.Find(ctx, l, o, market.Buyer(adminapi.AccountPath{AccountID: buyerID})))
		}, done, done},
		{"Buyer", func(o ledger.Operator) error {
			return drop(ledger.Find(ctx, l, o, market.Buyer(adminapi.AccountPath{AccountID: otherID})))
		}, absent, absent},
		{"CreateBuyer", func(o ledger.Operator) error { return drop(l.CreateBuyer(ctx, o, adminapi.Buyer{AccountID: otherID})) }, denied, denied},
		{"ChangeBuyer", func(o ledger.Operator) error {
			return drop(l.ChangeBuyer(ctx, o, buyerID, adminapi.BuyerChange{Suspended: new(true)}))
		}, denied, denied},
		{"Products", func(o ledger.Operator) error { return drop(l.Products(ctx, o, "", "", 0)) }, done, done},
		{"Product", func(o ledger.Operator) error {
			return drop(ledger.Find(ctx, l, o, market.Product(adminapi.ProductPath{ProductCode: "old"})))
		}, done, done},
		{"Product", func(o ledger.Operator) error {
			return drop(ledger.Find(ctx, l, o, market.Product(adminapi.ProductPath{ProductCode: "rival"})))
		}, absent, done},
		{"CreateProduct", func(o ledger.Operator) error {
			return drop(l.CreateProduct(ctx, o, adminapi.Product{ProductCode: "rival", SellerAccountID: sellerID, Type: "saas"}))
		}, denied, denied},
		{"AddDimension", func(o ledger.Operator) error {
			return drop(l.AddDimension(ctx, o, "old", adminapi.NewDimension{Dimension: "seats"}))
		}, done, denied},
		{"AddDimension", func(o ledger.Operator) error {
			return drop(l.AddDimension(ctx, o, "rival", adminapi.NewDimension{Dimension: "rivals"}))
		}, absent, denied},
		{"PublicKeys", func(o ledger.Operator) error {
			return drop(ledger.Find(ctx, l, o, market.PublicKeys(adminapi.ProductPath{ProductCode: "old"})))
		}, done, done},
		{"PublicKeys", func(o ledger.Operator) error {
			return drop(ledger.Find(ctx, l, o, market.PublicKeys(adminapi.ProductPath{ProductCode: "rival"})))
		}, absent, done},
		{"RotatePublicKey", func(o ledger.Operator) error { return drop(l.RotatePublicKey(ctx, o, "old")) }, done, denied},
		{"RotatePublicKey", func(o ledger.Operator) error { return drop(l.RotatePublicKey(ctx, o, "rival")) }, absent, denied},
		{"ExpirePublicKey", func(o ledger.Operator) error { return drop(l.ExpirePublicKey(ctx, o, "old", 1)) }, done, denied},
		{"ExpirePublicKey", func(o ledger.Operator) error { return drop(l.ExpirePublicKey(ctx, o, "rival", 1)) }, absent, denied},
		{"Agreements", func(o ledger.Operator) error { return drop(l.Agreements(ctx, o, adminapi.AgreementFilter{}, "", 0)) }, done, done},
		{"Agreements", func(o ledger.Operator) error {
			return drop(l.Agreements(ctx, o, adminapi.AgreementFilter{BuyerAccountID: otherID}, "", 0))
		}, absent, absent},
		{"Agreements", func(o ledger.Operator) error {
			return drop(l.Agreements(ctx, o, adminapi.AgreementFilter{ProductCode: "rival"}, "", 0))
		}, absent, done},
		{"Agreement", func(o ledger.Operator) error {
			return drop(ledger.Find(ctx, l, o, market.Agreement(adminapi.AgreementPath{AgreementID: own.AgreementID})))
		}, done, done},
		{"Agreement", func(o ledger.Operator) error {
			return drop(ledger.Find(ctx, l, o, market.Agreement(adminapi.AgreementPath{AgreementID: foreign.AgreementID})))
		}, absent, absent},
		{"CreateAgreement", func(o ledger.Operator) error {
			return drop(l.CreateAgreement(ctx, o, adminapi.Agreement{ProductCode: "rival", BuyerAccountID: buyerID}))
		}, denied, denied},
		{"CancelAgreement", func(o ledger.Operator) error {
			return drop(l.CancelAgreement(ctx, o, also.AgreementID, adminapi.Cancellation{}))
		}, denied, done},
		{"CancelAgreement", func(o ledger.Operator) error {
			return drop(l.CancelAgreement(ctx, o, foreign.AgreementID, adminapi.Cancellation{}))
		}, denied, absent},
		{"EndAgreement", func(o ledger.Operator) error { return drop(l.EndAgreement(ctx, o, own.AgreementID)) }, denied, denied},
		{"CreatePrincipal", func(o ledger.Operator) error {
			return drop(l.CreatePrincipal(ctx, o, iam.User, adminapi.Principal{AccountID: sellerID, Name: "x"}))
		}, denied, denied},
		{"PutPermissions", func(o ledger.Operator) error {
			return drop(l.PutPermissions(ctx, o, iam.User, sellerID, "bob", adminapi.Permissions{}))
		}, denied, denied},
		{"DeletePrincipal", func(o ledger.Operator) error { return l.DeletePrincipal(ctx, o, iam.User, sellerID, "bob") }, denied, denied},
		{"Principal", func(o ledger.Operator) error {
			return drop(ledger.Find(ctx, l, o, market.Principal(iam.User, adminapi.PrincipalPath{AccountID: sellerID, Name: "bob"})))
		}, denied, denied},
		{"Principals", func(o ledger.Operator) error { return drop(l.Principals(ctx, o, iam.User, "", "", 0)) }, denied, denied},
		{"Can", func(o ledger.Operator) error {
			return drop(ledger.Find(ctx, l, o, market.Can(adminapi.Question{AccountID: sellerID, Principal: "bob", Action: "MeterUsage"})))
		}, denied, denied},
		{"CreateAccessKey", func(o ledger.Operator) error { return drop(l.CreateAccessKey(ctx, o, sellerID, "bob")) }, denied, denied},
		{"ChangeAccessKey", func(o ledger.Operator) error {
			return drop(l.ChangeAccessKey(ctx, o, "AKIA", adminapi.AccessKeyChange{Status: "Active"}))
		}, denied, denied},
		{"DeleteAccessKey", func(o ledger.Operator) error { return l.DeleteAccessKey(ctx, o, "AKIA") }, denied, denied},
		{"CreateWorkloadCredentials", func(o ledger.Operator) error {
			return drop(l.CreateWorkloadCredentials(ctx, o, adminapi.WorkloadRequest{}))
		}, denied, denied},
		{"Workloads", func(o ledger.Operator) error { return drop(l.Workloads(ctx, o, "", "", 0)) }, denied, denied},
		{"CreateToken", func(o ledger.Operator) error {
			return drop(l.CreateToken(ctx, o, adminapi.TokenRequest{ProductCode: "rival", Buyer: otherID}))
		}, denied, denied},
		{"Tokens", func(o ledger.Operator) error { return drop(l.Tokens(ctx, o, "", 0)) }, denied, denied},
		{"RevokeToken", func(o ledger.Operator) error { return l.RevokeToken(ctx, o, "0") }, denied, denied},
		{"CreateAdminToken", func(o ledger.Operator) error { return drop(l.CreateAdminToken(ctx, o, adminapi.AdminToken{Name: "x"})) }, denied, denied},
		{"AdminTokens", func(o ledger.Operator) error { return drop(l.AdminTokens(ctx, o, "", 0)) }, denied, denied},
		{"DeleteAdminToken", func(o ledger.Operator) error { return l.DeleteAdminToken(ctx, o, "1") }, denied, denied},
		{"Import", func(o ledger.Operator) error { return drop(l.Import(ctx, o, &adminapi.Marketplace{})) }, denied, denied},
		{"Usage", func(o ledger.Operator) error { return drop(l.Usage(ctx, o, adminapi.UsageFilter{}, "", 0)) }, done, done},
		{"Usage", func(o ledger.Operator) error {
			return drop(l.Usage(ctx, o, adminapi.UsageFilter{ProductCode: "rival"}, "", 0))
		}, absent, done},
		{"Usage", func(o ledger.Operator) error {
			return drop(l.Usage(ctx, o, adminapi.UsageFilter{CustomerAWSAccountID: otherID}, "", 0))
		}, absent, absent},
		{"Usage", func(o ledger.Operator) error {
			return drop(l.Usage(ctx, o, adminapi.UsageFilter{LicenseARN: foreign.LicenseARN}, "", 0))
		}, absent, absent},
		{"Usage", func(o ledger.Operator) error {
			return drop(l.Usage(ctx, o, adminapi.UsageFilter{CustomerIdentifier: foreign.CustomerIdentifier}, "", 0))
		}, absent, absent},
		{"Usage", func(o ledger.Operator) error {
			return drop(l.Usage(ctx, o, adminapi.UsageFilter{Dimension: "rivals"}, "", 0))
		}, absent, done},
		{"UsageSums", func(o ledger.Operator) error { return drop(l.UsageSums(ctx, o, adminapi.UsageFilter{}, nil)) }, done, done},
		{"CallRecord", func(o ledger.Operator) error { return drop(l.CallRecord(ctx, o, request)) }, denied, denied},
		{"Clock", func(o ledger.Operator) error { return drop(l.Clock(ctx, o)) }, done, done},
		{"ChangeClock", func(o ledger.Operator) error { return drop(l.ChangeClock(ctx, o, adminapi.ClockChange{Advance: "1h"})) }, denied, denied},
		{"AcceptClock", func(o ledger.Operator) error { return drop(l.AcceptClock(ctx, o)) }, denied, denied},
	} {
		tried[c.name] = true
		for who, want := range map[string]metering.Kind{"seller": c.seller, "buyer": c.buyer} {
			err := c.do(op[who])
			var refusal *metering.Error
			switch {
			case errors.As(err, &refusal) && refusal.Kind == want, err == nil && want == done:
			default:
				t.Errorf("%s of the %s: %v, want %v", c.name, who, err, want)
			}
		}
	}
	all := reflect.TypeOf(l)
	for i := range all.NumMethod() {
		method := all.Method(i)
		if method.Type.NumIn() > 2 && method.Type.In(2) == reflect.TypeFor[ledger.Operator]() && !tried[method.Name] {
			t.Errorf("%s is not tried", method.Name)
		}
	}

	// What lists show.
	for _, page := range []struct {
		what      string
		got, want int
	}{
		{"sellers of the seller", len(must(l.Sellers(ctx, op["seller"], "", 0)).Items), 1},
		{"buyers of the seller", len(must(l.Buyers(ctx, op["seller"], "", 0)).Items), 1},
		{"buyers of the buyer", len(must(l.Buyers(ctx, op["buyer"], "", 0)).Items), 1},
		{"agreements of the seller", len(must(l.Agreements(ctx, op["seller"], adminapi.AgreementFilter{}, "", 0)).Items), 2},
		{"agreements of the buyer", len(must(l.Agreements(ctx, op["buyer"], adminapi.AgreementFilter{}, "", 0)).Items), 2},
		{"the rival's products of the seller", len(must(l.Products(ctx, op["seller"], rival, "", 0)).Items), 0},
	} {
		if page.got != page.want {
			t.Errorf("%s: %d, want %d", page.what, page.got, page.want)
		}
	}
}
