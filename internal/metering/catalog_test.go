package metering_test

import (
	"testing"
	"time"

	"github.com/meterd/meterd/internal/metering"
)

func TestAgreementState(t *testing.T) {
	const start, ending, ended = 1000, 2000, 3000
	open := metering.Agreement{Start: start}
	closing := metering.Agreement{Start: start, EndingAt: ending, EndedAt: ended}
	cut := metering.Agreement{Start: start, EndedAt: ending}
	stillborn := metering.Agreement{Start: ended, EndingAt: ending, EndedAt: ending}
	for _, c := range []struct {
		name string
		a    metering.Agreement
		now  metering.Instant
		want metering.State
	}{
		{"before its start", open, start - 1, metering.Pending},
		{"from its start on", open, start, metering.Active},
		{"without an end it is active for ever", open, 1 << 50, metering.Active},
		{"before its end begins", closing, ending - 1, metering.Active},
		{"when its end begins", closing, ending, metering.Ending},
		{"to the last moment", closing, ended - 1, metering.Ending},
		{"after it", closing, ended, metering.Ended},
		{"not yet begun, however it will end", closing, start - 1, metering.Pending},
		{"an end without last hour", cut, ending, metering.Ended},
		{"cancelled before it began", stillborn, ending, metering.Ended},
	} {
		if got := c.a.State(c.now); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
	for s, want := range map[metering.State]string{metering.Pending: "pending", metering.Active: "active", metering.Ending: "ending", metering.Ended: "ended"} {
		if s.String() != want {
			t.Errorf("state %d is called %s, want %s", s, s, want)
		}
	}
}

// What the agreements of a buyer mean for a record: metering-api 2.4 and 2.10. Times are minutes before and after
// the time of service.
func TestSubscriptions(t *testing.T) {
	type span struct{ start, ending, ended int } // minutes; ending and ended 0 for open
	const (
		success       = "Success"
		notSubscribed = "CustomerNotSubscribed"
		outOfBounds   = "TimestampOutOfBounds"
		invalid       = "InvalidLicense"
	)
	hour := 60
	for _, c := range []struct {
		name      string
		spans     []span // the first is the licence's, where a record names one
		ts        int
		suspended bool
		customer  string // result of a record with product and account
		licence   string // result of a record with licence; "" not asked
	}{
		{"active", []span{{-48 * hour, 0, 0}}, -10, false, success, success},
		{"never subscribed", nil, -10, false, notSubscribed, ""},
		{"begins later", []span{{+10, 0, 0}}, -10, false, notSubscribed, invalid},
		{"stamped before it began", []span{{-3 * hour, 0, 0}}, -5 * hour, false, outOfBounds, invalid},
		{"stamped earlier in the hour in which it began", []span{{-5, 0, 0}}, -15, false, success, success},
		{"ending: usage from before the end", []span{{-48 * hour, -30, +30}}, -40, false, success, success},
		{"ending: usage from the moment of the end", []span{{-48 * hour, -30, +30}}, -30, false, success, success},
		{"ending: usage from after the end", []span{{-48 * hour, -30, +30}}, -20, false, notSubscribed, invalid},
		{"ended", []span{{-48 * hour, -61, -1}}, -70, false, notSubscribed, notSubscribed},
		{"ended now", []span{{-48 * hour, -60, 0}, {}}[:1], -70, false, notSubscribed, notSubscribed},
		{"suspended", []span{{-48 * hour, 0, 0}}, -10, true, notSubscribed, notSubscribed},
		{"re-subscribed within the hour, usage from before the end", []span{{-48 * hour, -30, +30}, {-10, 0, 0}}, -40, false, success, success},
		{"re-subscribed within the hour, usage from after it", []span{{-48 * hour, -30, +30}, {-10, 0, 0}}, -5, false, success, invalid},
		{"re-subscribed later, usage from before the end", []span{{-48 * hour, -10 * hour, -9 * hour}, {-2 * hour, 0, 0}}, -11 * hour, false, outOfBounds, notSubscribed},
		{"re-subscribed later, usage from after it", []span{{-48 * hour, -10 * hour, -9 * hour}, {-2 * hour, 0, 0}}, -1 * hour, false, success, notSubscribed},
		{"two agreements at once", []span{{-48 * hour, 0, 0}, {-24 * hour, 0, 0}}, -10, false, success, success},
		{"two agreements, the younger one ended", []span{{-48 * hour, 0, 0}, {-24 * hour, -5 * hour, -4 * hour}}, -10, false, success, success},
		{"a renewal that begins later", []span{{-48 * hour, 0, 0}, {+10, 0, 0}}, -10, false, success, success},
	} {
		m := market(t)
		now := at(t, noon)
		minutes := func(n int) metering.Instant { return now.Add(time.Duration(n) * time.Minute) }
		const buyer, account = 7, 777788889999
		m.PutAccount(metering.Account{ID: buyer, AccountID: account, Buyer: true, Suspended: c.suspended})
		for i, s := range c.spans {
			id := uint32(10 + i)
			a := metering.Agreement{ID: id, Product: legacy, Buyer: buyer, AgreementID: "agmt-1" + string(rune('0'+i)), LicenseARN: arn + "1" + string(rune('0'+i)), Start: minutes(s.start)}
			if s.ending != 0 {
				a.EndingAt, a.EndedAt = minutes(s.ending), minutes(s.ended)
			}
			m.PutAgreement(a)
		}
		ask := func(code, licence string) string {
			r := record(t)
			r.Timestamp, r.CustomerAWSAccountID, r.LicenseARN = minutes(c.ts), metering.FormatAccountID(account), licence
			lines, err := m.AdmitBatch(batchOf(code, r), acme, m.RegionNamed("us-east-1").ID, now, nil)
			switch {
			case err != nil:
				return err.Kind.String()
			case lines[0].Subscribed:
				return success
			}
			return notSubscribed
		}
		if got := ask("legacy001", ""); got != c.customer {
			t.Errorf("%s: a record by product and account gets %s, want %s", c.name, got, c.customer)
		}
		if c.licence == "" {
			continue
		}
		if got := ask("", arn+"10"); got != c.licence {
			t.Errorf("%s: a record by licence gets %s, want %s", c.name, got, c.licence)
		}
	}
}

func TestAgreementsAreListedBackwards(t *testing.T) {
	m := market(t)
	for id := uint32(7); id <= 9; id++ {
		m.PutAgreement(metering.Agreement{ID: id, Product: legacy, Buyer: buyerA, AgreementID: "agmt-" + string(rune('0'+id)), LicenseARN: arn + string(rune('0'+id))})
	}
	changed := *m.Agreement(8)
	changed.EndedAt = 5
	m.PutAgreement(changed) // must keep its place
	var got []uint32
	for a := m.NewestAgreement(legacy, buyerA); a != nil; a = m.PreviousAgreement(a) {
		got = append(got, a.ID)
	}
	if len(got) != 4 || got[0] != 9 || got[1] != 8 || got[2] != 7 || got[3] != 5 {
		t.Errorf("buyer A's agreements for the product, newest first: %v, want [9 8 7 5]", got)
	}
	if m.Agreement(8).EndedAt != 5 || m.AgreementByID("agmt-8").ID != 8 || m.AgreementByLicense(arn+"8").ID != 8 {
		t.Error("a changed agreement is not found")
	}
}

func TestCatalogKnowsNothingElse(t *testing.T) {
	m := market(t)
	if m.Account(0) != nil || m.Account(99) != nil || m.AccountByID(1) != nil || m.Product(0) != nil || m.ProductByCode("x") != nil || m.ProductByCode("") != nil ||
		m.ProductByID("x") != nil || m.Agreement(0) != nil || m.AgreementByID("x") != nil || m.AgreementByLicense("") != nil || m.Workload(0) != nil ||
		m.WorkloadNamed(buyerA, metering.EKS, "task-1") != nil || m.Customer(borealis, "ifAPi5AcF3") != nil || m.CustomerIdentifier(borealis, buyerA) != "" ||
		m.RegionNamed("") != nil || m.Region(0) != nil || m.NewestAgreement(legacy, buyerB) != nil || m.PublicKeys(legacy) != nil {
		t.Error("the catalogue knows what was not put into it")
	}
	if m.WorkloadNamed(buyerA, metering.ECS, "task-1").ID != task || m.Customer(acme, "ifAPi5AcF3").ID != buyerA || m.CustomerIdentifier(acme, buyerA) != "ifAPi5AcF3" {
		t.Error("the catalogue does not know what was put into it")
	}
	m.PutPublicKey(metering.PublicKey{Product: container, Version: 2, PEM: "replaced"})
	if k := m.PublicKeys(container); len(k) != 2 || k[1].PEM != "replaced" {
		t.Errorf("keys of the product: %v", k)
	}
}

func TestNames(t *testing.T) {
	for s, n := range map[string]uint64{"000000000000": 0, "000000000001": 1, "111122223333": 111122223333, "999999999999": 999999999999} {
		if got, ok := metering.ParseAccountID(s); !ok || got != n || metering.FormatAccountID(n) != s {
			t.Errorf("account id %s is read as %d (%v) and %d is written %s", s, got, ok, n, metering.FormatAccountID(n))
		}
	}
	for _, s := range []string{"", "1", "11112222333", "1111222233334", "1111-2222-33", "11112222333x", "١١١١٢٢٢٢٣٣٣٣", "+11112222333"} {
		if n, ok := metering.ParseAccountID(s); ok {
			t.Errorf("%q is taken as account id %d", s, n)
		}
	}
	for code, ok := range map[string]bool{"cqcvf9f0ugw8rkbgmf1c9dxyz": true, "a-/=:_.@Z9": true, "": false, "prod-abc": false, "a b": false, "a+b": false, "é": false} {
		if metering.ValidProductCode(code) != ok {
			t.Errorf("ValidProductCode(%q) is not %v", code, ok)
		}
	}
	for _, p := range metering.Platforms {
		if got, ok := metering.ParsePlatform(p.String()); !ok || got != p {
			t.Errorf("platform %d is written %q and read as %d", p, p, got)
		}
	}
	for _, s := range []string{"saas", "container", "ami"} {
		if got, ok := metering.ParseProductType(s); !ok || got.String() != s {
			t.Errorf("product type %q is read as %v", s, got)
		}
	}
	for _, s := range []string{"", "EC2", "lambda"} {
		if p, ok := metering.ParsePlatform(s); ok {
			t.Errorf("%q is taken as platform %v", s, p)
		}
		if p, ok := metering.ParseProductType(s); ok {
			t.Errorf("%q is taken as product type %v", s, p)
		}
	}
	for id, ok := range map[uint64]bool{111111111111: true, 444444444444: true, 999999999999: true, 111122223333: false, 123456789012: false} {
		if metering.SandboxAccount(id) != ok {
			t.Errorf("SandboxAccount(%d) is not %v", id, ok)
		}
	}
}
