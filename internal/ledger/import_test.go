package ledger_test

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/meterd/meterd/internal/adminapi"
	"github.com/meterd/meterd/internal/market"
	"github.com/meterd/meterd/internal/metering"
)

// bazaar is a marketplace with something of everything. Identifiers are left out where they may be.
func bazaar(began time.Time) *adminapi.Marketplace {
	return &adminapi.Marketplace{
		Regions: []adminapi.Region{{Name: "eu-private-1"}, {Name: "us-east-1", Enabled: new(true)}},
		Sellers: []adminapi.Seller{{AccountID: sellerID, Name: "Acme"}, {AccountID: otherID}},
		Products: []adminapi.Product{
			{ProductCode: "old", SellerAccountID: sellerID, Type: "saas", Integration: "legacy", Dimensions: []string{"users", "gb"}},
			{ProductCode: "new", SellerAccountID: sellerID, Type: "saas", Regions: []string{"us-east-1", "eu-private-1"}},
			{Title: "Untold", SellerAccountID: sellerID, Type: "container"},
		},
		Buyers: []adminapi.Buyer{
			{AccountID: buyerID, Name: "Best", Identifiers: []adminapi.CustomerIdentity{{SellerAccountID: sellerID, CustomerIdentifier: "best"}},
				Agreements: []adminapi.Agreement{{ProductCode: "old"}, {ProductCode: "new"}, {ProductCode: "new"}}},
			{AccountID: otherID, Suspended: true},
			{AccountID: "000000000012"},
		},
		Agreements: []adminapi.Agreement{
			{ProductCode: "old", BuyerAccountID: otherID, AgreementID: "agmt-1", LicenseARN: "arn:aws:license-manager::111122223333:license:l-1", CustomerIdentifier: "other",
				StartTime: &began, EndingTime: new(began.Add(time.Hour)), EndTime: new(began.Add(3 * time.Hour))},
			{ProductCode: "old", BuyerAccountID: otherID, StartTime: new(began.Add(2 * time.Hour))},
		},
		Users: []adminapi.Principal{
			{AccountID: sellerID, Name: "metering", Allow: []string{"MeterdSellerAccess"}, AccessKeys: []adminapi.AccessKey{
				{AccessKeyID: "AKIAGIVEN00000000001", SecretAccessKey: "0123456789012345678901234567890123456789"},
				{AccessKeyID: "AKIAGIVEN00000000002", SecretAccessKey: "abcdefghijabcdefghijabcdefghijabcdefghij", Status: "Inactive"}}},
			{AccountID: buyerID, Name: "made"},
		},
		Roles:     []adminapi.Principal{{AccountID: buyerID, Name: "agent", Allow: []string{"*"}, Deny: []string{"aws-marketplace:Batch*"}}},
		Workloads: []adminapi.Workload{{AccountID: buyerID, Platform: "ecs", ResourceID: "task", Region: "us-east-1", Role: "agent"}, {AccountID: sellerID, Platform: "ec2", ResourceID: "i-1", Region: "eu-private-1"}},
	}
}

func TestImport(t *testing.T) {
	m := newFixture(t, false)
	file := bazaar(m.now.Add(-24 * time.Hour))
	got := must(m.l.Import(ctx, m.op, file))
	if len(got.Keys) != 1 || got.Keys[0].UserARN != "arn:aws:iam::444455556666:user/made" || got.Keys[0].SecretAccessKey == "" {
		t.Errorf("keys made: %+v", got.Keys)
	}
	made := got.Keys
	got.Keys = nil
	want := adminapi.ImportResult{Regions: 1, Sellers: 2, Products: 3, Buyers: 3, Agreements: 5, Users: 2, Roles: 1, Workloads: 2}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("imported (-want +got):\n%s", d)
	}
	all := m.everything()
	if len(all.Agreements) != 5 || len(all.Products) != 3 || len(all.Workloads) != 2 {
		t.Errorf("there is %+v", all)
	}
	if b := must(m.l.Buyer(ctx, m.op, buyerID)); len(b.Identifiers) != 1 || b.Identifiers[0].CustomerIdentifier != "best" {
		t.Errorf("buyer %+v", b)
	}
	for id, signs := range map[string]bool{"AKIAGIVEN00000000001": true, "AKIAGIVEN00000000002": false, made[0].AccessKeyID: true} {
		if _, err := m.l.Credential(id, ""); (err == nil) != signs {
			t.Errorf("key %s: %v", id, err)
		}
	}
	for again := range 2 { // also after a restart
		if d := cmp.Diff(adminapi.ImportResult{}, must(m.l.Import(ctx, m.op, file))); d != "" {
			t.Errorf("imported again:\n%s", d)
		}
		if d := cmp.Diff(all, m.everything()); d != "" {
			t.Errorf("importing again changed (-before +after):\n%s", d)
		}
		if again == 0 {
			m.reopen()
		}
	}

	// What the operator changed since is left alone where the file says nothing of it.
	for _, a := range all.Agreements {
		if a.Status == "active" {
			must(m.l.EndAgreement(ctx, m.op, a.AgreementID))
		}
	}
	must(m.l.CreateAgreement(ctx, m.op, adminapi.Agreement{ProductCode: "old", BuyerAccountID: buyerID}))
	all = m.everything()
	if d := cmp.Diff(adminapi.ImportResult{}, must(m.l.Import(ctx, m.op, file))); d != "" {
		t.Errorf("imported over changes:\n%s", d)
	}
	if d := cmp.Diff(all, m.everything()); d != "" {
		t.Errorf("importing over changes changed (-before +after):\n%s", d)
	}

	// A marketplace that is read can be imported, though secrets and private keys are not in it.
	copied := newFixture(t, false)
	for i := range all.Products {
		all.Products[i].PublicKeys = nil
	}
	for i := range all.Users {
		all.Users[i].AccessKeys = nil
	}
	for i := range all.Regions {
		if all.Regions[i].Name == "eu-private-1" {
			all.Regions = all.Regions[i : i+1]
			break
		}
	}
	must(copied.l.Import(ctx, copied.op, &all))
	if d := cmp.Diff(all.Agreements, copied.everything().Agreements); d != "" {
		t.Errorf("a copy (-original +copy):\n%s", d)
	}
}

// TestImportFaults: all mistakes of a file are named, and none that only follows from another.
func TestImportFaults(t *testing.T) {
	m := newFixture(t, false)
	_, err := m.l.Import(ctx, m.op, &adminapi.Marketplace{
		Sellers: []adminapi.Seller{{AccountID: "1"}, {AccountID: sellerID}, {AccountID: "777788889999"}},
		Products: []adminapi.Product{
			{ProductCode: "a", SellerAccountID: "777788889999", Type: "saas"}, // whose seller could not be read
			{ProductCode: "b", SellerAccountID: sellerID, Type: "software"},
			{ProductCode: "c", SellerAccountID: sellerID, Type: "saas", Dimensions: []string{"users", "users"}},
			{ProductCode: "d", SellerAccountID: sellerID, Type: "saas"},
		},
		Buyers: []adminapi.Buyer{
			{AccountID: buyerID, Identifiers: []adminapi.CustomerIdentity{{SellerAccountID: sellerID}}, Agreements: []adminapi.Agreement{
				{ProductCode: "a"}, {ProductCode: "b"}, {ProductCode: "nowhere"}, {ProductCode: "d"}, {ProductCode: "d", LicenseARN: "x"}}},
			{AccountID: "12"},
		},
		Agreements: []adminapi.Agreement{{ProductCode: "d", BuyerAccountID: "000000000099"}, {ProductCode: "c", BuyerAccountID: buyerID}},
		Users:      []adminapi.Principal{{AccountID: "777788889999", Name: "u"}, {AccountID: buyerID, Name: "v", AccessKeys: []adminapi.AccessKey{{AccessKeyID: "x"}, {AccessKeyID: "y"}}}},
		Workloads:  []adminapi.Workload{{AccountID: buyerID, Platform: "ec2", ResourceID: "i-1", Region: "mars-1"}},
	}, adminapi.Fault{Line: 7, Place: "sellers[2].name", Detail: "must be a text, not a list"})
	var faults adminapi.Faults
	if !errors.As(err, &faults) {
		t.Fatal(err)
	}
	refused(t, err, metering.Validation, "sellers[0].account_id")
	var places []string
	for _, f := range faults {
		places = append(places, f.Place)
	}
	want := []string{"sellers[2].name", "sellers[0].account_id", "products[1].type", "products[2].dimensions[1]", "buyers[0].customer_identifiers[0].customer_identifier",
		"buyers[0].agreements[2].product_code", "buyers[0].agreements[4].license_arn", "buyers[1].account_id", "agreements[0].buyer_account_id",
		"users[1].access_keys[0].access_key_id", "users[1].access_keys[0].secret_access_key", "users[1].access_keys[1].access_key_id", "users[1].access_keys[1].secret_access_key",
		"workloads[0].region"}
	if d := cmp.Diff(want, places); d != "" {
		t.Errorf("places (-want +got):\n%s", d)
	}
	if got := must(m.l.Sellers(ctx, m.op, "", 0)).Items; len(got) != 0 {
		t.Errorf("stored %+v", got)
	}
}

// TestImportEveryField: each member of a thing is looked at, whatever is wrong with the others, and no fault is told that
// only follows from another.
func TestImportEveryField(t *testing.T) {
	early := time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC)
	start, before := time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC), time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	long := strings.Repeat("x", 256)
	sellers := []adminapi.Seller{{AccountID: sellerID}}
	products := []adminapi.Product{{ProductCode: "p", SellerAccountID: sellerID, Type: "saas"}}
	buyers := []adminapi.Buyer{{AccountID: buyerID}}
	for _, c := range []struct {
		name  string
		file  adminapi.Marketplace
		found adminapi.Faults
		want  []string
	}{
		{"seller", adminapi.Marketplace{Sellers: []adminapi.Seller{{AccountID: "1", Name: long}}}, nil, []string{"sellers[0].account_id", "sellers[0].name"}},
		{"product", adminapi.Marketplace{Products: []adminapi.Product{{ProductCode: "a b", ProductID: "x", SellerAccountID: "1", Title: long, Type: "t", Integration: "i",
			Dimensions: []string{"a", "", "a"}, Regions: []string{"mars-1", "us-east-1", "us-east-1"}, PublicKeys: []adminapi.PublicKey{{Version: 0, CreatedAt: &early, RotatedAt: &early, PrivatePEM: "x"}}}}}, nil,
			[]string{"products[0].seller_account_id", "products[0].product_code", "products[0].product_id", "products[0].title", "products[0].type", "products[0].integration",
				"products[0].dimensions[1]", "products[0].dimensions[2]", "products[0].regions[0]", "products[0].regions[2]",
				"products[0].public_keys[0].version", "products[0].public_keys[0].created_at", "products[0].public_keys[0].rotated_at", "products[0].public_keys[0].private_pem"}},
		{"buyer", adminapi.Marketplace{Buyers: []adminapi.Buyer{{AccountID: "1", Name: long, Identifiers: []adminapi.CustomerIdentity{{SellerAccountID: "x"}},
			Agreements: []adminapi.Agreement{{ProductCode: "nowhere", BuyerAccountID: buyerID, AgreementID: "x", LicenseARN: "x", CustomerIdentifier: long, StartTime: &early, EndingTime: &early, EndTime: &early}}}}}, nil,
			[]string{"buyers[0].account_id", "buyers[0].name", "buyers[0].customer_identifiers[0].seller_account_id", "buyers[0].customer_identifiers[0].customer_identifier",
				"buyers[0].agreements[0].buyer_account_id", "buyers[0].agreements[0].start_time", "buyers[0].agreements[0].ending_time", "buyers[0].agreements[0].end_time",
				"buyers[0].agreements[0].product_code", "buyers[0].agreements[0].agreement_id", "buyers[0].agreements[0].license_arn", "buyers[0].agreements[0].customer_identifier"}},
		{"agreement", adminapi.Marketplace{Agreements: []adminapi.Agreement{{ProductCode: "nowhere", BuyerAccountID: buyerID, StartTime: &start, EndingTime: &before}}}, nil,
			[]string{"agreements[0].product_code", "agreements[0].buyer_account_id", "agreements[0].ending_time"}},
		{"user", adminapi.Marketplace{Users: []adminapi.Principal{{AccountID: "1", Name: "a b", Allow: []string{"*", "x"}, Deny: []string{"y"},
			AccessKeys: []adminapi.AccessKey{{AccessKeyID: "-", SecretAccessKey: "\n", Status: "s", CreatedAt: &early}}}}}, nil,
			[]string{"users[0].account_id", "users[0].allow[1]", "users[0].deny[0]", "users[0].name", "users[0].access_keys[0].access_key_id", "users[0].access_keys[0].secret_access_key",
				"users[0].access_keys[0].status", "users[0].access_keys[0].created_at"}},
		{"role", adminapi.Marketplace{Roles: []adminapi.Principal{{AccountID: "1", Name: "", AccessKeys: []adminapi.AccessKey{{}}}}}, nil,
			[]string{"roles[0].account_id", "roles[0].name", "roles[0].access_keys"}},
		{"workload", adminapi.Marketplace{Sellers: sellers, Workloads: []adminapi.Workload{{AccountID: sellerID, Platform: "vm", Region: "mars-1", Role: "r"}, {}}}, nil,
			[]string{"workloads[0].platform", "workloads[0].resource_id", "workloads[0].region", "workloads[0].role",
				"workloads[1].account_id", "workloads[1].platform", "workloads[1].resource_id", "workloads[1].region"}},
		{"token", adminapi.Marketplace{Tokens: []adminapi.TokenRequest{{ProductCode: "nowhere", IssuedAt: &start}}}, nil,
			[]string{"tokens[0].registration_token", "tokens[0].product_code", "tokens[0].issued_at"}},

		{"what could not be read is not wrong once more", adminapi.Marketplace{Sellers: sellers, Products: []adminapi.Product{{SellerAccountID: sellerID, Title: long}}, Buyers: []adminapi.Buyer{{AccountID: buyerID,
			Agreements: []adminapi.Agreement{{ProductCode: "p", EndingTime: &before}}}}},
			adminapi.Faults{{Place: "products[0].type"}, {Place: "products[0]", Detail: "there is no member prodct_code"}, {Place: "buyers[0].agreements[0].start_time"}}, []string{"products[0].title"}},
		{"what the others of a thing refer to", adminapi.Marketplace{Sellers: []adminapi.Seller{{AccountID: "1111-2222-3333"}},
			Products:   []adminapi.Product{{ProductCode: "a b", SellerAccountID: "111122223333", Type: "saas"}, {ProductCode: "q", SellerAccountID: "1111-2222-3333", Type: "saas"}},
			Buyers:     []adminapi.Buyer{{AccountID: "12", Agreements: []adminapi.Agreement{{ProductCode: "a b"}, {ProductCode: "q"}}}},
			Agreements: []adminapi.Agreement{{ProductCode: "q", BuyerAccountID: "12"}}, Tokens: []adminapi.TokenRequest{{ProductCode: "q", Buyer: "12", RegistrationToken: "t"}},
			Users: []adminapi.Principal{{AccountID: "12", Name: "u"}}, Roles: []adminapi.Principal{{AccountID: "12", Name: "r"}}, Workloads: []adminapi.Workload{{AccountID: "12", Platform: "ec2", ResourceID: "i", Region: "us-east-1", Role: "r"}}},
			nil, []string{"sellers[0].account_id", "products[0].product_code", "buyers[0].account_id", "tokens[0].registration_token"}}, // tokens are made in production
		{"a seller under a name that is not known", adminapi.Marketplace{Sellers: []adminapi.Seller{{}}, Products: []adminapi.Product{{ProductCode: "p", SellerAccountID: sellerID, Type: "saas"}, {ProductCode: "q", SellerAccountID: "1", Type: "saas"}}},
			adminapi.Faults{{Place: "sellers[0]", Detail: "there is no member acount_id"}}, []string{"products[1].seller_account_id"}},
		{"a list that could not be read", adminapi.Marketplace{Products: products, Buyers: buyers}, adminapi.Faults{{Place: "sellers"}}, nil},
		{"parts of a thing", adminapi.Marketplace{Sellers: sellers, Products: products, Buyers: []adminapi.Buyer{{AccountID: buyerID, Agreements: []adminapi.Agreement{{}, {ProductCode: "nowhere"}}}},
			Agreements: []adminapi.Agreement{{ProductCode: "p", BuyerAccountID: buyerID}}},
			adminapi.Faults{{Place: "buyers[0].agreements[0].product_code"}}, []string{"buyers[0].agreements[1].product_code"}},
	} {
		m := newFixture(t, false)
		_, err := m.l.Import(ctx, m.op, &c.file, c.found...)
		var faults adminapi.Faults
		if !errors.As(err, &faults) {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		var places []string
		for _, f := range faults[len(c.found):] {
			places = append(places, f.Place)
		}
		if d := cmp.Diff(c.want, places); d != "" {
			t.Errorf("%s: places (-want +got):\n%s\n%v", c.name, d, err)
		}
	}
}

// TestImportDifferences: all members of a thing that differ from what is there are told.
func TestImportDifferences(t *testing.T) {
	m := newFixture(t, false)
	began := m.now.Add(-24 * time.Hour)
	must(m.l.Import(ctx, m.op, bazaar(began)))
	f := bazaar(began)
	f.Products[0].Type, f.Products[0].Integration, f.Products[0].Title = "container", "concurrent", "Other"
	f.Agreements[0].StartTime, f.Agreements[0].CustomerIdentifier = new(began.Add(-time.Hour)), "another"
	f.Users[0].Allow, f.Users[0].Deny = []string{"*"}, []string{"*"}
	f.Users[0].AccessKeys[1].SecretAccessKey, f.Users[0].AccessKeys[1].Status = strings.Repeat("x", 40), "Active"
	f.Workloads[0].Region, f.Workloads[0].Role = "eu-private-1", market.WorkloadRole
	_, err := m.l.Import(ctx, m.op, f)
	var faults adminapi.Faults
	if !errors.As(err, &faults) {
		t.Fatal(err)
	}
	var places []string
	for _, f := range faults {
		places = append(places, f.Place)
	}
	want := []string{"products[0].title", "products[0].type", "products[0].integration", "agreements[0].start_time", "agreements[0].customer_identifier", "users[0].allow", "users[0].deny",
		"users[0].access_keys[1].secret_access_key", "users[0].access_keys[1].status", "workloads[0].region", "workloads[0].role"}
	if d := cmp.Diff(want, places); d != "" {
		t.Errorf("places (-want +got):\n%s", d)
	}
}

// TestImportRefusals: the first mistake is named with its place, and nothing of the file is stored.
func TestImportRefusals(t *testing.T) {
	m := newFixture(t, false)
	began := m.now.Add(-24 * time.Hour)
	must(m.l.Import(ctx, m.op, bazaar(began)))
	must(m.l.EnableRegion(ctx, m.op, "us-east-2", false))
	before := m.everything()
	late := len(before.Buyers)
	for _, c := range []struct {
		place  string
		kind   metering.Kind
		change func(*adminapi.Marketplace)
	}{
		// What is there with a difference.
		{"regions[1].enabled", metering.Conflict, func(f *adminapi.Marketplace) { f.Regions[1].Enabled = new(false) }},
		{"regions[2].enabled", metering.Conflict, func(f *adminapi.Marketplace) {
			f.Regions = append(f.Regions, adminapi.Region{Name: "us-east-2", Enabled: new(true)})
		}},
		{"sellers[0].name", metering.Conflict, func(f *adminapi.Marketplace) { f.Sellers[0].Name = "Ajax" }},
		{"sellers[1].name", metering.Conflict, func(f *adminapi.Marketplace) { f.Sellers[1].Name = "Named" }},
		{"products[0].seller_account_id", metering.Conflict, func(f *adminapi.Marketplace) { f.Products[0].SellerAccountID = otherID }},
		{"products[0].type", metering.Conflict, func(f *adminapi.Marketplace) { f.Products[0].Type = "ami" }},
		{"products[0].integration", metering.Conflict, func(f *adminapi.Marketplace) { f.Products[0].Integration = "concurrent" }},
		{"products[0].title", metering.Conflict, func(f *adminapi.Marketplace) { f.Products[0].Title = "Other" }},
		{"products[0].product_id", metering.Conflict, func(f *adminapi.Marketplace) { f.Products[0].ProductID = "prod-other" }},
		{"products[0].dimensions", metering.Conflict, func(f *adminapi.Marketplace) { f.Products[0].Dimensions = []string{"gb", "users"} }},
		{"products[1].regions", metering.Conflict, func(f *adminapi.Marketplace) { f.Products[1].Regions = []string{"us-east-1"} }},
		{"products[2].public_keys[0].version", metering.Conflict, func(f *adminapi.Marketplace) {
			f.Products[2].PublicKeys = []adminapi.PublicKey{{Version: 1, PEM: "another"}}
		}},
		{"buyers[0].name", metering.Conflict, func(f *adminapi.Marketplace) { f.Buyers[0].Name = "Worst" }},
		{"buyers[2].suspended", metering.Conflict, func(f *adminapi.Marketplace) { f.Buyers[2].Suspended = true }},
		{"buyers[0].customer_identifiers[0].customer_identifier", metering.Conflict, func(f *adminapi.Marketplace) { f.Buyers[0].Identifiers[0].CustomerIdentifier = "x" }},
		{"agreements[0].end_time", metering.Conflict, func(f *adminapi.Marketplace) { f.Agreements[0].EndTime = new(began.Add(2 * time.Hour)) }},
		{"agreements[0].license_arn", metering.Conflict, func(f *adminapi.Marketplace) {
			f.Agreements[0].LicenseARN = "arn:aws:license-manager::111122223333:license:l-2"
		}},
		{"users[0].allow", metering.Conflict, func(f *adminapi.Marketplace) { f.Users[0].Allow = []string{"*"} }},
		{"users[0].access_keys[0].secret_access_key", metering.Conflict, func(f *adminapi.Marketplace) {
			f.Users[0].AccessKeys[0].SecretAccessKey = strings.Repeat("x", 40)
		}},
		{"users[0].access_keys[1].status", metering.Conflict, func(f *adminapi.Marketplace) { f.Users[0].AccessKeys[1].Status = "Active" }},
		{"users[1].access_keys[0].access_key_id", metering.Conflict, func(f *adminapi.Marketplace) { f.Users[1].AccessKeys = f.Users[0].AccessKeys[:1] }},
		{"roles[0].deny", metering.Conflict, func(f *adminapi.Marketplace) { f.Roles[0].Deny = []string{} }},
		{"workloads[0].region", metering.Conflict, func(f *adminapi.Marketplace) { f.Workloads[0].Region = "us-east-2" }},
		{"workloads[0].role", metering.Conflict, func(f *adminapi.Marketplace) { f.Workloads[0].Role = market.WorkloadRole }},

		// Mistakes at the end of a file whose start is new and right.
		{"buyers[17].agreements[0].product_code", metering.NotFound, func(f *adminapi.Marketplace) {
			for i := range 20 {
				f.Buyers = append(f.Buyers, adminapi.Buyer{AccountID: fmt.Sprintf("%012d", 20+i), Agreements: []adminapi.Agreement{{ProductCode: "new"}}})
			}
			f.Buyers[17].Agreements[0].ProductCode = "newer"
		}},
		{"buyers[3].account_id", metering.Validation, func(f *adminapi.Marketplace) { f.Buyers = append(f.Buyers, adminapi.Buyer{AccountID: "12"}) }},
		{"buyers[3].agreements[1].buyer_account_id", metering.Conflict, func(f *adminapi.Marketplace) {
			f.Buyers = append(f.Buyers, adminapi.Buyer{AccountID: "000000000099", Agreements: []adminapi.Agreement{{ProductCode: "old"}, {ProductCode: "old"}}})
		}},
		{"products[3].product_code: is missing", metering.Validation, func(f *adminapi.Marketplace) {
			f.Products = append(f.Products, adminapi.Product{SellerAccountID: sellerID, Type: "saas"})
		}},
		{"workloads[2].platform", metering.Validation, func(f *adminapi.Marketplace) {
			f.Buyers = append(f.Buyers, adminapi.Buyer{AccountID: "000000000099"})
			f.Users = append(f.Users, adminapi.Principal{AccountID: "000000000099", Name: "new"})
			f.Workloads = append(f.Workloads, adminapi.Workload{AccountID: "000000000099", Platform: "vm", ResourceID: "x", Region: "us-east-1"})
		}},
	} {
		t.Run(c.place, func(t *testing.T) {
			f := bazaar(began)
			c.change(f)
			_, err := m.l.Import(ctx, m.op, f)
			refused(t, err, c.kind, c.place)
			if got := must(m.l.Buyers(ctx, m.op, "", 0)).Items; len(got) != late {
				t.Errorf("%d buyers, want %d", len(got), late)
			}
		})
	}
	m.reopen()
	if d := cmp.Diff(before, m.everything()); d != "" {
		t.Errorf("something was stored:\n%s", d)
	}
}

func TestRegionsAreBounded(t *testing.T) {
	m := newFixture(t, false)
	f := &adminapi.Marketplace{}
	for i := range 256 - len(m.everything().Regions) {
		f.Regions = append(f.Regions, adminapi.Region{Name: fmt.Sprintf("xx-%d", i)})
	}
	last := len(f.Regions) - 1
	_, err := m.l.Import(ctx, m.op, f)
	refused(t, err, metering.Conflict, fmt.Sprintf("regions[%d].name: there are 255", last))
	f.Regions = f.Regions[:last]
	must(m.l.Import(ctx, m.op, f))
	if n := len(must(m.l.Regions(ctx, m.op, "", market.MaxPage)).Items); n != 255 {
		t.Errorf("%d regions", n)
	}
	if !m.l.KnownRegion("xx-0") {
		t.Error("an added region is not known")
	}
}

// weighed is a source that weighs the heap when a list has been gone through.
type weighed struct {
	adminapi.Source
	most uint64
}

func (w *weighed) Each(list string, f func(int, any) bool) {
	w.Source.Each(list, f)
	w.most = max(w.most, heap())
}

// TestImportMemory: beside what the marketplace takes when it is there, an import holds no more than six times its file
// while it is planned, also where the file is as dense as can be.
func TestImportMemory(t *testing.T) {
	began := `{"sellers":[{"account_id":"` + sellerID + `"}],"products":[{"product_code":"p","seller_account_id":"` + sellerID + `","type":"saas"}],"buyers":[`
	inYAML := "sellers:\n- account_id: \"" + sellerID + "\"\nproducts:\n- {product_code: p, seller_account_id: \"" + sellerID + "\", type: saas}\nbuyers:\n"
	var agreements, buyers, lines strings.Builder
	for i := range 2 {
		fmt.Fprintf(&agreements, `{"account_id":"1%011d","agreements":[%s{"product_code":"p"}]},`, i, strings.Repeat(`{"product_code":"p"},`, 30_000))
		fmt.Fprintf(&lines, "- account_id: \"1%011d\"\n  agreements:\n%s", i, strings.Repeat("  - product_code: p\n", 30_000))
	}
	for i := range 10_000 {
		fmt.Fprintf(&buyers, `{"account_id":"1%011d","agreements":[{"product_code":"p"}]},`, i)
	}
	for _, c := range []struct {
		name string
		form adminapi.Form
		text string
	}{
		{"agreements", adminapi.JSON, began + agreements.String() + `{"account_id":"123456789012"}]}`},
		{"agreements", adminapi.YAML, inYAML + lines.String()},
		{"buyers", adminapi.JSON, began + buyers.String() + `{"account_id":"123456789012"}]}`},
	} {
		m := newFixture(t, false)
		file, faults, err := adminapi.Load(c.form, strings.NewReader(c.text), int64(len(c.text)))
		if err != nil || len(faults) > 0 {
			t.Fatal(err, faults)
		}
		before := heap()
		w := &weighed{Source: file}
		must(m.l.Import(t.Context(), m.op, w))
		kept := heap()
		t.Logf("%s, %s: %d bytes; at most %.1f times that is held, %.1f times is kept", c.name, c.form, len(c.text), float64(w.most-before)/float64(len(c.text)), float64(kept-before)/float64(len(c.text)))
		if w.most > kept+5*uint64(len(c.text)) { // and the file itself
			t.Errorf("%s, %s: %d bytes are held beside what is kept, for a file of %d", c.name, c.form, w.most-kept, len(c.text))
		}
		runtime.KeepAlive(file)
		runtime.KeepAlive(w)
	}
}

// BenchmarkImport imports a million buyers with an agreement each, or METERD_TEST_BUYERS, and tells what the
// catalogue needs for each.
func BenchmarkImport(b *testing.B) {
	buyers := 1_000_000
	if s := os.Getenv("METERD_TEST_BUYERS"); s != "" {
		fmt.Sscan(s, &buyers)
	}
	file := &adminapi.Marketplace{
		Sellers:  []adminapi.Seller{{AccountID: sellerID}},
		Products: []adminapi.Product{{ProductCode: "p", SellerAccountID: sellerID, Type: "saas", Dimensions: []string{"users"}}},
	}
	for i := range buyers {
		file.Buyers = append(file.Buyers, adminapi.Buyer{AccountID: fmt.Sprintf("%012d", 1_000_000+i), Agreements: []adminapi.Agreement{{ProductCode: "p"}}})
	}
	for b.Loop() {
		b.StopTimer()
		m := newFixture(b, false)
		before := heap()
		b.StartTimer()
		must(m.l.Import(ctx, m.op, file))
		b.StopTimer()
		b.ReportMetric(float64(heap()-before)/float64(buyers), "B/buyer")
		if err := m.l.Close(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	runtime.KeepAlive(file)
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return s.HeapAlloc
}
