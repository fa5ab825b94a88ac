package ledger

import (
	"errors"
	"reflect"
	"testing"

	"github.com/meterd/meterd/internal/iam"
	"github.com/meterd/meterd/internal/metering"
	"github.com/meterd/meterd/internal/pgtest"
	"github.com/meterd/meterd/internal/store"
)

// TestFollowEveryColumn has every column of the catalogue and the directory be changed by another node, but for those
// that say what a row is. A node that knew the rows as they were knows then what one knows that is started now, and
// finds nothing by the names of before.
func TestFollowEveryColumn(t *testing.T) {
	cfg := Config{Store: pgtest.URL(t, t.Name()), MasterKey: iam.PublishedMasterKey(), Sandbox: true}
	open := func() *Ledger {
		t.Helper()
		l, err := Open(cfg)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		return l
	}
	if err := Create(cfg); err != nil {
		t.Fatal(err)
	}
	sealer, err := iam.NewSealer(cfg.MasterKey)
	if err != nil {
		t.Fatal(err)
	}
	sealed := func(id, secret string) []byte { return sealer.Seal("secret access key "+id, []byte(secret)) }
	before := []any{
		&metering.RegionInfo{ID: 1, Name: "region-1", Enabled: true},
		&metering.Account{ID: 1, AccountID: 111111111111, Name: "one", Seller: true, Buyer: true},
		&metering.Product{ID: 1, Seller: 1, Code: "code", ProductID: "prod-1", Title: "title", Type: metering.SaaS},
		&metering.Dimension{Product: 1, N: 1, Key: "users", Type: metering.ExternallyMetered},
		&metering.PublicKey{Product: 1, Version: 1, PEM: "pem", Sealed: []byte("key"), Created: 1},
		&metering.Agreement{ID: 1, Product: 1, Buyer: 1, AgreementID: "agmt-1", LicenseARN: "arn:1", Start: 1},
		&metering.Customer{Seller: 1, Buyer: 1, Identifier: "customer"},
		&store.Principal{ID: 1, Account: 1, Kind: iam.User, Name: "user", Permissions: iam.Permissions{Allow: []string{"*"}}},
		&store.Principal{ID: 2, Account: 1, Kind: iam.User, Name: "other"},
		&store.AccessKey{ID: 1, AccessKeyID: "AKIA1", Principal: 1, Sealed: sealed("AKIA1", "secret"), Active: true, Created: 1},
		&store.AccessKey{ID: 2, AccessKeyID: "AKIA2", Principal: 1, Sealed: sealed("AKIA2", "secret"), Active: true, Created: 1},
		&metering.Workload{ID: 1, Account: 1, Platform: metering.EC2, ResourceID: "i-1", Region: 1, Role: 1},
		&store.AdminToken{ID: 1, Name: "token", Hash: iam.HashBearerToken("bearer 1"), Created: 1},
		&store.AdminToken{ID: 2, Name: "token", Hash: iam.HashBearerToken("bearer 2"), Created: 1},
	}
	after := []any{
		&metering.RegionInfo{ID: 1, Name: "region-2"},
		&metering.Account{ID: 1, AccountID: 111111111111, Name: "two", Suspended: true},
		&metering.Product{ID: 1, Seller: 1, Code: "code2", ProductID: "prod-2", Title: "other", Type: metering.AMI, Concurrent: true,
			Regions: []metering.Region{2}},
		&metering.Dimension{Product: 1, N: 1, Key: "users", Name: "Users", Description: "of a month", Unit: "each", Type: metering.Entitled},
		&metering.PublicKey{Product: 1, Version: 1, PEM: "pem2", Sealed: []byte("key2"), Created: 2, RotatedAt: 3},
		&metering.Agreement{ID: 1, Product: 1, Buyer: 1, AgreementID: "agmt-2", LicenseARN: "arn:2", Start: 2, EndingAt: 3, EndedAt: 4},
		&metering.Customer{Seller: 1, Buyer: 1, Identifier: "customer2"},
		&store.Principal{ID: 1, Account: 1, Kind: iam.Role, Name: "role", Permissions: iam.Permissions{Allow: []string{"a"}, Deny: []string{"d"}}},
		&store.Principal{ID: 2, Account: 1, Kind: iam.User, Name: "other", Deleted: true},
		&store.AccessKey{ID: 1, AccessKeyID: "AKIA3", Principal: 1, Sealed: sealed("AKIA3", "secret2"), Active: true, Created: 2},
		&store.AccessKey{ID: 2, AccessKeyID: "AKIA2", Principal: 2, Sealed: sealed("AKIA2", "secret"), Deleted: true, Created: 1},
		&metering.Workload{ID: 1, Account: 1, Platform: metering.ECS, ResourceID: "i-2", Region: 2, Role: 2},
		&store.AdminToken{ID: 1, Name: "token2", Hash: iam.HashBearerToken("bearer 3"), Created: 2},
		&store.AdminToken{ID: 2, Name: "token", Hash: iam.HashBearerToken("bearer 2"), Created: 1, Deleted: true},
	}
	db, err := store.Open(cfg.Store, store.Options{Admit: func(m *store.Meta) error { return m.OpenSecret(sealer) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	known := *open().revision.Load()
	act := func(rows, old []any) {
		t.Helper()
		w := db.Writers()[0]
		err := w.Update(func(tx *store.Tx) error {
			next, err := tx.Revise(known, func() error {
				for i, row := range rows {
					if err := tx.Replace(row, old[i]); err != nil {
						return err
					}
				}
				return nil
			})
			known = next
			return errors.Join(err, tx.AppendCall(&store.Call{Seq: w.NextCall(), Operation: uint8(metering.Administration), Refusal: store.NoRefusal}))
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	none := make([]any, len(before))
	none[0] = new(metering.AWSRegions()[0])
	act(before, none)
	follower := open()
	act(after, before)
	if err := follower.catchUp(ctx); err != nil {
		t.Fatal(err)
	}
	if got, want := memoryOf(t, follower), memoryOf(t, open()); !reflect.DeepEqual(got, want) {
		t.Errorf("a node that follows knows\n%+v, one that was started now\n%+v", got, want)
	}
	c := follower.market
	for name, found := range map[string]bool{
		"region": c.RegionNamed("region-1") != nil, "product code": c.ProductByCode("code") != nil, "product id": c.ProductByID("prod-1") != nil,
		"agreement id": c.AgreementByID("agmt-1") != nil, "licence": c.AgreementByLicense("arn:1") != nil,
		"customer identifier": c.Customer(1, "customer") != nil, "workload": c.WorkloadNamed(1, metering.EC2, "i-1") != nil,
	} {
		if found {
			t.Errorf("the old %s still finds something", name)
		}
	}
	for name, found := range map[string]bool{
		"region": c.RegionNamed("region-2") != nil, "product code": c.ProductByCode("code2") != nil, "product id": c.ProductByID("prod-2") != nil,
		"agreement id": c.AgreementByID("agmt-2") != nil, "licence": c.AgreementByLicense("arn:2") != nil,
		"customer identifier": c.Customer(1, "customer2") != nil, "workload": c.WorkloadNamed(1, metering.ECS, "i-2") != nil,
	} {
		if !found {
			t.Errorf("the new %s finds nothing", name)
		}
	}
}

// memoryOf returns what a ledger knows of the marketplace, but for the names in the catalogue.
func memoryOf(t *testing.T, l *Ledger) []any {
	t.Helper()
	must := func(page any, err error) any {
		if err != nil {
			t.Fatal(err)
		}
		return page
	}
	m, op := l.market, l.Local()
	known := []any{m.Regions(), m.Accounts(), m.Products(), m.PublicKeys(1), m.Agreements(), m.Customers(1), m.Workloads(),
		must(l.Principals(ctx, op, iam.User, "", "", 0)), must(l.Principals(ctx, op, iam.Role, "", "", 0)), must(l.AdminTokens(ctx, op, "", 0))}
	for _, id := range []string{"AKIA1", "AKIA2", "AKIA3"} {
		secret, who := m.UserOf(id)
		known = append(known, secret, who)
	}
	for _, bearer := range []string{"bearer 1", "bearer 2", "bearer 3"} {
		id, ok := m.AdminTokenOf(bearer)
		known = append(known, id, ok)
	}
	for id := range uint32(3) {
		known = append(known, m.CallerName(id), m.AccessKeyID(id), m.AdminTokenName(id))
	}
	return known
}
