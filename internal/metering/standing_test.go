package metering

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

// metered returns the product with dimensions of the given API names.
func metered(p Product, keys ...string) Product {
	for i, key := range keys {
		p = p.WithDimension(Dimension{Product: p.ID, N: uint16(i + 1), Key: key, Type: ExternallyMetered})
	}
	return p
}

// TestStandings admits records with standings and without: there must be no difference but speed.
func TestStandings(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const now = Instant(500_000*millisPerHour + 1000)
		c := NewCatalog(DefaultSettings())
		for _, r := range AWSRegions() {
			c.PutRegion(r)
		}
		c.PutAccount(Account{ID: 1, AccountID: 111122223333, Seller: true})
		c.PutProduct(metered(Product{ID: 1, Seller: 1, Code: "one", ProductID: "prod-1", Type: SaaS}, "users"))
		c.PutProduct(metered(Product{ID: 2, Seller: 1, Code: "two", ProductID: "prod-2", Type: SaaS}, "users"))
		account := func(buyer uint32) Account {
			return Account{ID: buyer, AccountID: 222200000000 + uint64(buyer), Buyer: true, Suspended: rapid.IntRange(0, 5).Draw(t, "suspended") == 0}
		}
		for buyer := uint32(2); buyer < 80; buyer++ {
			c.PutAccount(account(buyer))
			c.PutCustomer(Customer{Seller: 1, Buyer: buyer, Identifier: fmt.Sprint("customer", buyer)})
		}
		moment := func(name string) Instant {
			return now + Instant(rapid.IntRange(-30, 3).Draw(t, name))*millisPerHour + Instant(rapid.IntRange(-2, 2).Draw(t, "milliseconds"))
		}
		id := uint32(0)
		put := func(a Agreement) {
			a.AgreementID, a.LicenseARN = fmt.Sprint("agmt-", a.ID), fmt.Sprint("arn:", a.ID)
			if rapid.IntRange(0, 2).Draw(t, "ends") == 0 {
				a.EndingAt = moment("ending")
				if rapid.Bool().Draw(t, "ended") {
					a.EndedAt = a.EndingAt.Add(time.Hour)
				}
			}
			c.PutAgreement(a)
		}
		for range rapid.IntRange(0, 60).Draw(t, "changes") {
			buyer := rapid.Uint32Range(2, 79).Draw(t, "buyer")
			switch old := c.Agreement(rapid.Uint32Range(0, id).Draw(t, "old")); {
			case old != nil && rapid.Bool().Draw(t, "change"):
				put(Agreement{ID: old.ID, Product: old.Product, Buyer: old.Buyer, Start: old.Start})
			case rapid.IntRange(0, 3).Draw(t, "account") == 0:
				c.PutAccount(account(buyer))
			default:
				id++
				put(Agreement{ID: id, Product: rapid.Uint32Range(1, 2).Draw(t, "product"), Buyer: buyer, Start: moment("start")})
			}
		}
		in := &Batch{ProductCode: "one", Count: 1}
		for buyer := range uint32(82) {
			r := UsageRecord{HasTimestamp: true, Dimension: "users", Quantity: 1, Timestamp: now + Instant(rapid.IntRange(-23, 0).Draw(t, "hours"))*millisPerHour}
			if rapid.IntRange(0, 4).Draw(t, "form") == 0 {
				r.CustomerIdentifier = fmt.Sprint("customer", buyer)
			} else {
				r.CustomerAWSAccountID = FormatAccountID(222200000000 + uint64(buyer))
			}
			in.Records = []UsageRecord{r}
			lines, err := c.AdmitBatch(in, 1, 1, now, nil)
			quick := c.standings
			c.standings = standings{}
			wantLines, wantErr := c.AdmitBatch(in, 1, 1, now, nil)
			c.standings = quick
			if diff := cmp.Diff(wantLines, lines, cmpopts.IgnoreUnexported(Line{})); diff != "" || fmt.Sprint(err) != fmt.Sprint(wantErr) {
				t.Fatalf("%+v: %v, without standings %v\n%s", r, err, wantErr, diff)
			}
			ids := NewRecordIDs([]byte("secret"))
			for i := range lines {
				if lines[i].Subscribed && c.RecordIDOf(ids, &lines[i], "") != c.RecordIDOf(ids, &wantLines[i], "") {
					t.Fatalf("%+v: two ids", r)
				}
			}
		}
	})
}

// TestStandingsTable compares the table with a map while it grows.
func TestStandingsTable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := standings{seed: rapid.Uint64().Draw(t, "seed")}
		known := map[standingKey]standing{}
		for n := range rapid.IntRange(0, 3000).Draw(t, "puts") {
			v := standing{newStandingKey(1+uint32(n%3), uint64(n/2*7)), uint32(n) + 1, Hour(n)} // some keys come again
			s.put(v)
			known[v.standingKey] = v
		}
		for key, want := range known {
			if got := s.get(key); got == nil || *got != want {
				t.Fatalf("%d: %+v, want %+v", key, got, want)
			}
		}
		if s.get(0) != nil || s.get(newStandingKey(9, 9)) != nil {
			t.Fatal("there is a standing that was not put")
		}
	})
}
