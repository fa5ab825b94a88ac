package ledger_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/meterd/meterd/internal/adminapi"
	"github.com/meterd/meterd/internal/iam"
	"github.com/meterd/meterd/internal/ledger"
	"github.com/meterd/meterd/internal/metering"
	"github.com/meterd/meterd/internal/store"
	"github.com/meterd/meterd/internal/verify"
	"github.com/ncruces/go-sqlite3"
)

func verified(t *testing.T, dir string, w verify.Options) verify.Report {
	t.Helper()
	report, err := verify.Ledger(dir, w)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// damage closes the ledger and runs SQL on its database.
func (s *shop) damage(sql string) {
	s.t.Helper()
	if err := s.l.Close(); err != nil {
		s.t.Fatal(err)
	}
	c, err := sqlite3.Open(filepath.Join(s.dir, "ledger.db"))
	if err == nil {
		err = errors.Join(c.Exec(sql), c.Close())
	}
	if err != nil {
		s.t.Fatalf("%s: %v", sql, err)
	}
}

func TestVerifyFindsNothing(t *testing.T) {
	s := newShop(t)
	if r := verified(t, s.dir, verify.Options{}); r.ProblemCount != 0 || r.Records != 0 || r.Calls != 3 || len(r.Sums) != 0 {
		t.Errorf("of an empty ledger: %+v", r)
	}
	s.trade()
	s.batch(sellerKey, "legacy", s.record("222222222222", "users", 0, 1), s.record("555555555555", "users", 0, 1))
	if _, err := s.l.ChangeClock(ctx, s.op, adminapi.ClockChange{Advance: "-1h"}); err != nil {
		t.Fatal(err)
	}
	s.batch(sellerKey, "legacy", s.record("222222222222", "users", 60, 2), s.record("222222222222", "gb", 120, 2))
	r := verified(t, s.dir, verify.Options{})
	want := []verify.ProductSum{{ProductCode: "concurrent", Records: 1, Quantity: 5}, {ProductCode: "legacy", Records: 5, Quantity: 18},
		{ProductCode: "rival", Records: 1, Quantity: 7}, {ProductCode: "software", Records: 3, Quantity: 41}}
	if len(r.Problems) != 0 || r.Records != 10 || !slices.Equal(r.Sums, want) {
		t.Errorf("got %+v", r)
	}
	if _, err := verify.Ledger(t.TempDir(), verify.Options{}); !errors.Is(err, store.ErrNotExist) {
		t.Errorf("of an empty folder: %v", err)
	}
}

// TestVerifyFindsDamage knows numbers: calls 1 to 3 made the marketplace, 4 to 10 are trade's.
func TestVerifyFindsDamage(t *testing.T) {
	for _, test := range []struct {
		name, sql string
		says      []string // each is in some problem
	}{
		{"usage row lost", "DELETE FROM usage WHERE seq = 129", []string{"call row 4: it wrote 3 usage rows, but there are 2"}},
		{"last usage row lost", "DELETE FROM usage WHERE seq = 320", []string{"call row 10: it wrote 1 usage rows, but there are 0", "a ClientToken of workload 2 stands for the record"}},
		{"usage row nobody wrote", "INSERT INTO usage SELECT 352, at - 3600000, product, buyer, holder, dimension_region_form, quantity, NULL, NULL FROM usage WHERE seq = 160",
			[]string{"usage row 352: it says that it is record 0 of call 11, which does not exist", "has no mark; its first usage row is 352"}},
		{"counted twice", "UPDATE usage SET at = (SELECT at FROM usage WHERE seq = 128) WHERE seq = 130", []string{"usage row 130: a row before it has the same key", "hour 2026-11-23T11Z is marked at usage row 130, but its first one is 224"}},
		{"counted twice by token", "UPDATE usage SET client_token = 'one' WHERE seq = 320", []string{"usage row 320: row 288 has the same ClientToken of workload 2"}},
		{"quantity negative", "UPDATE usage SET quantity = -1 WHERE seq = 128", []string{"usage row 128: quantity is -1; it must be 0 to 2147483647"}},
		{"quantity beyond 32 bits", "UPDATE usage SET quantity = 4294967297 WHERE seq = 128", []string{"usage row 128: quantity is 4294967297"}},
		{"time before 1970", "UPDATE usage SET at = -1 WHERE seq = 128", []string{"usage row 128: at is -1; it must be 1 to"}},
		{"region", "UPDATE usage SET dimension_region_form = dimension_region_form & -65281 | (200 << 8) WHERE seq = 128", []string{"usage row 128: region 200 does not exist"}},
		{"product", "UPDATE usage SET product = 77 WHERE seq = 128", []string{"usage row 128: product 77 does not exist"}},
		{"buyer", "UPDATE usage SET buyer = 77 WHERE seq = 128", []string{"usage row 128: its buyer, account 77, does not exist"}},
		{"dimension", "UPDATE usage SET dimension_region_form = dimension_region_form & 65535 | (3 << 16) WHERE seq = 128", []string{"usage row 128: dimension 3 does not exist; product 1 has 2"}},
		{"agreement", "UPDATE usage SET holder = 9 WHERE seq = 192", []string{"usage row 192: agreement 9 does not exist"}},
		{"another's agreement", "UPDATE usage SET holder = 1 WHERE seq = 192", []string{"usage row 192: agreement 1 is for product 1 and buyer 3, but the row for product 2"}},
		{"agreement in the wrong form", "UPDATE usage SET holder = 1 WHERE seq = 128", []string{"usage row 128: form 2 does not go with agreement 1"}},
		{"workload", "UPDATE usage SET holder = -9 WHERE seq = 256", []string{"usage row 256: workload 9 does not exist"}},
		{"workload elsewhere", "UPDATE usage SET dimension_region_form = dimension_region_form & -65281 | (2 << 8) WHERE seq = 256", []string{"usage row 256: workload 1 is of account 3 in region 1"}},
		{"form", "UPDATE usage SET dimension_region_form = dimension_region_form & -256 | 9 WHERE seq = 128", []string{"usage row 128: form is 9; it must be 1 to 4"}},
		{"token lost", "UPDATE usage SET client_token = NULL WHERE seq = 320", []string{"usage row 320: a row has a client_token if"}},
		{"allocations do not add up", "UPDATE usage SET quantity = 11 WHERE seq = 129", []string{"usage row 129: its usage allocations add up to 10, but its quantity is 11"}},
		{"allocations unreadable", "UPDATE usage SET allocations = x'05' WHERE seq = 129", []string{"usage row 129: its usage allocations are damaged"}},
		{"allocation beyond 32 bits", "UPDATE usage SET allocations = x'018a8080801000' WHERE seq = 129", []string{"usage row 129: its usage allocations are damaged"}},
		{"hour mark lost", "DELETE FROM hour WHERE first_seq = 128", []string{"hour 2026-11-23T12Z has no mark; its first usage row is 128"}},
		{"hour mark too late", "UPDATE hour SET first_seq = 129 WHERE first_seq = 128", []string{"hour 2026-11-23T12Z is marked at usage row 129, but its first one is 128"}},
		{"hour mark of no row", "INSERT INTO hour VALUES (0, 1)", []string{"hour 1970-01-01T00Z is marked at usage row 1 but has none"}},
		{"call lost", "DELETE FROM call WHERE seq = 5", []string{"call rows 5 to 5 are missing", "usage row 160: it says that it is record 0 of call 5, which does not exist"}},
		{"call claims more", "UPDATE call SET usage_rows = 2 WHERE seq = 5", []string{"call row 5: it wrote 2 usage rows, but there are 1"}},
		{"call too large", "UPDATE call SET usage_rows = 26 WHERE seq = 5", []string{"call row 5: usage_rows is 26; it must be 0 to 25"}},
		{"call of two meterings", "UPDATE call SET usage_rows = 2 WHERE seq = 8", []string{"call row 8: it wrote 2 usage rows; a call of MeterUsage"}},
		{"refused, but wrote", "UPDATE call SET refusal = 1 WHERE seq = 5", []string{"call row 5: it wrote 1 usage rows"}},
		{"refusal unknown", "UPDATE call SET refusal = 99 WHERE seq = 5", []string{"call row 5: refusal is 99"}},
		{"request id cut", "UPDATE call SET request = x'00' WHERE seq = 5", []string{"call row 5: length(request) is 1; it must be 16"}},
		{"clock ran back", "UPDATE call SET at = at - 1 WHERE seq = 5", []string{"call row 5: the ledger clock went back from 2026-11-23T12:30:00.000Z to 2026-11-23T12:29:59.999Z"}},
		{"caller of no call", "UPDATE call SET client = 99 WHERE seq = 6", []string{"call row 6: who made it should be told by call 99"}},
		{"caller told twice", "UPDATE call SET source = 'x' WHERE client < seq AND seq = 6", []string{"call row 6: it says who made it, and refers to call"}},
		{"caller's session", "UPDATE call SET session = '{' WHERE seq = 1", []string{"call 1: its session is damaged"}},
		{"run of an hour lost", "DELETE FROM call_hour WHERE first = 1", []string{"call row 1: it is not found by its hour"}},
		{"run of another hour", "UPDATE call_hour SET hour = hour + 1", []string{"but not found by its hour, as it is in a run of calls of"}},
		{"run of no call", "INSERT INTO call_hour VALUES (0, 5)", []string{"a run of calls of hour 1970-01-01T05Z begins with call 0, which does not exist"}},
		{"principal", "UPDATE call SET principal = 9 WHERE seq = 5", []string{"call row 5: principal 9"}},
		{"access key", "UPDATE call SET access_key = 9 WHERE seq = 5", []string{"access key 9"}},
		{"detail", "UPDATE call SET detail = x'01' WHERE seq = 5", []string{"call row 5: the detail of the audit row is damaged"}},
		{"detail of a record beyond the call", "UPDATE call SET detail = x'010502010000000000000000' WHERE seq = 5", []string{"call row 5: its record 5 cannot have been left out"}},
		{"detail of a record that was stored", "UPDATE call SET detail = x'010002010000000000000000' WHERE seq = 5", []string{"call row 5: its record 0 cannot have been left out"}},
		{"token of no workload", "INSERT INTO client_token VALUES (9, zeroblob(16), zeroblob(16), zeroblob(16), 0)", []string{"a ClientToken belongs to workload 9, which does not exist", "stands for the record 00000000-0000-0000-0000-000000000000"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newShopIn(t, t.TempDir())
			s.trade()
			s.damage(test.sql)
			r := verified(t, s.dir, verify.Options{})
			if r.ProblemCount != len(r.Problems) {
				t.Errorf("%d problems, %d listed", r.ProblemCount, len(r.Problems))
			}
			for _, says := range test.says {
				if !slices.ContainsFunc(r.Problems, func(p string) bool { return strings.Contains(p, says) }) {
					t.Errorf("no problem says %q: %q", says, r.Problems)
				}
			}
		})
	}
}

// TestDamagedCatalog damages what is held in memory: a start and meterd verify must say so, not panic and not take
// all memory. The shop has 4 products, 4 agreements, 4 accounts, 2 workloads and 3 principals.
func TestDamagedCatalog(t *testing.T) {
	for _, test := range []struct{ name, sql, says string }{
		{"region 0", "UPDATE region SET id = 0 WHERE id = 1", "region row with id 0: it should be 1"},
		{"region 256", "UPDATE region SET id = 256 WHERE id = 2", "region row with id 3: it should be 2"},
		{"account 0", "INSERT INTO account VALUES (0, 1, '', 0, 0, 0, 0)", "account row with id 0: it should be 1"},
		{"account lost", "DELETE FROM account WHERE id = 2", "account row with id 3: it should be 2: rows have been lost or added"},
		{"huge account", "UPDATE account SET id = 4000000000 WHERE id = 4", "account row with id 4000000000: it should be 4"},
		{"account beyond 32 bits", "UPDATE account SET id = 4294967296 + 4 WHERE id = 4", "account row with id 4294967300: it should be 4"},
		{"account of 13 digits", "UPDATE account SET account_id = 1000000000000 WHERE id = 1", "account_id is 1000000000000"},
		{"huge product", "UPDATE product SET id = 4000000000 WHERE id = 4", "product row with id 4000000000: it should be 4"},
		{"product of no seller", "UPDATE product SET seller = 9 WHERE id = 4", "product row with id 4: seller is 9; it must be 1 to 4"},
		{"product of no type", "UPDATE product SET type = 9 WHERE id = 1", "product row with id 1: type is 9; it must be 1 to 3"},
		{"dimension lost", "DELETE FROM dimension WHERE product = 1 AND n = 1", "dimension row with product 1: n should be 1: rows have been lost or added"},
		{"dimension 0", "UPDATE dimension SET n = 0 WHERE product = 1 AND n = 1", "dimension row with product 1: n should be 1"},
		{"dimension of no product", "UPDATE dimension SET product = 9 WHERE product = 4", "dimension row with product 9: product is 9; it must be 1 to 4"},
		{"dimension of no type", "UPDATE dimension SET type = 9", "dimension row with product 1: type is 9; it must be 1 to 2"},
		{"region of a product", "UPDATE product SET regions = '[200]' WHERE id = 1", "product row with id 1: region 200 does not exist"},
		{"key of no product", "INSERT INTO public_key VALUES (9, 1, '', x'', 0, 0, 0)", "public_key row with product 9: product is 9"},
		{"agreement 0", "UPDATE agreement SET id = 0 WHERE id = 1", "agreement row with id 0: it should be 1"},
		{"agreement for no product", "UPDATE agreement SET product = 9 WHERE id = 1", "agreement row with id 1: product is 9; it must be 1 to 4"},
		{"agreement of no buyer", "UPDATE agreement SET buyer = 0 WHERE id = 1", "agreement row with id 1: buyer is 0"},
		{"customer of no buyer", "UPDATE customer SET buyer = 9 WHERE seller = 1", "customer row with seller 1: buyer is 9"},
		{"customer of no seller", "INSERT INTO customer VALUES (9, 1, 'x', 0)", "customer row with seller 9: seller is 9"},
		{"huge workload", "UPDATE workload SET id = 4000000000 WHERE id = 2", "workload row with id 4000000000: it should be 2"},
		{"workload of no account", "UPDATE workload SET account = 9 WHERE id = 1", "workload row with id 1: account is 9"},
		{"workload in no region", "UPDATE workload SET region = 0 WHERE id = 1", "workload row with id 1: region is 0"},
		{"workload on nothing", "UPDATE workload SET platform = 0 WHERE id = 1", "workload row with id 1: platform is 0"},
		{"workload without role", "UPDATE workload SET role = 9 WHERE id = 1", "workload row with id 1: role is 9; it must be 1 to 3"},
		{"registration of no workload", "INSERT INTO registration VALUES (9, 1, 2, 0, 0)", "registration row with workload 9: workload is 9"},
		{"principal lost", "DELETE FROM principal WHERE id = 1", "principal row with id 2: it should be 1"},
		{"principal 0", "INSERT INTO principal (id, account, kind, name, allow, deny, deleted, changed) VALUES (0, 1, 1, 'x', '[]', '[]', 0, 0)", "principal row with id 0: it should be 1"},
		{"principal of no account", "UPDATE principal SET account = 9 WHERE id = 1", "principal row with id 1: account is 9"},
		{"permissions", "UPDATE principal SET deny = '' WHERE id = 1", "principal row with id 1: deny is not a list"},
		{"huge key", "UPDATE access_key SET id = 4000000000 WHERE id = 2", "access_key row with id 4000000000: it should be 2"},
		{"key of nobody", "UPDATE access_key SET principal = 0 WHERE id = 1", "access_key row with id 1: principal is 0"},
		{"admin token 0", "INSERT INTO admin_token VALUES (0, 'x', zeroblob(32), 0, 0, 0)", "admin_token row with id 0: it should be 1"},
		{"hash cut", "INSERT INTO admin_token VALUES (1, 'x', x'00', 0, 0, 0)", "admin_token row with id 1: hash has 1 bytes; it must have 32"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newShopIn(t, t.TempDir())
			s.damage(test.sql)
			if l, err := ledger.Open(s.config()); err == nil {
				l.Close()
				t.Error("the ledger was opened")
			} else if !strings.Contains(err.Error(), test.says) {
				t.Errorf("opening says %v, not %s", err, test.says)
			}
			if r, err := verify.Ledger(s.dir, verify.Options{}); err == nil || !strings.Contains(err.Error(), test.says) {
				t.Errorf("verify says %v, not %s; it reports %q", err, test.says, r.Problems)
			}
		})
	}
}

// TestDamagedRegistrationToken damages what is read when it is asked for.
func TestDamagedRegistrationToken(t *testing.T) {
	s := newShopIn(t, t.TempDir())
	if _, err := s.l.CreateToken(ctx, s.op, adminapi.TokenRequest{ProductCode: "legacy", Buyer: "222222222222"}); err != nil {
		t.Fatal(err)
	}
	s.damage("UPDATE registration_token SET product = 9")
	s.open()
	if _, err := s.l.Tokens(ctx, s.op, "", 0); err == nil || !strings.Contains(err.Error(), "product is 9; it must be 1 to 4") {
		t.Errorf("a list of tokens with one of no product: %v", err)
	}
}

func TestVerifyBoundsProblems(t *testing.T) {
	s := newShopIn(t, t.TempDir())
	for range 8 {
		s.now = s.now.Add(20 * time.Hour)
		records := make([]metering.UsageRecord, 20)
		for j := range records {
			records[j] = s.record("222222222222", "users", 60*j, 1)
		}
		s.batch(sellerKey, "legacy", records...)
	}
	s.damage("UPDATE usage SET buyer = 77")
	r := verified(t, s.dir, verify.Options{})
	if len(r.Problems) != 100 || r.ProblemCount != int(r.Records) || r.Records < 101 {
		t.Errorf("%d of %d problems listed, %d records", len(r.Problems), r.ProblemCount, r.Records)
	}
}

func TestVerifyAcknowledged(t *testing.T) {
	s := newShop(t)
	_, _, lines := s.batch(sellerKey, "legacy", s.record("222222222222", "users", 0, 1), s.record("222222222222", "gb", 0, 2))
	_, id, refusal := s.meter("agentcore", "pods", 3, "t")
	if refusal != nil {
		t.Fatal(refusal)
	}
	told := map[metering.RecordID]int32{lines[0].ID: 1, lines[1].ID: 2, id: 3}
	if r := verified(t, s.dir, verify.Options{Acknowledged: told}); r.ProblemCount != 0 {
		t.Errorf("all stored: %q", r.Problems)
	}
	if len(told) != 3 {
		t.Errorf("the caller's map was changed: %v", told)
	}
	told[lines[1].ID] = 5
	told[metering.RecordID{1}] = 7
	r := verified(t, s.dir, verify.Options{Acknowledged: told})
	slices.Sort(r.Problems)
	if len(r.Problems) != 2 || !strings.Contains(r.Problems[0], "record 01000000-0000-0000-0000-000000000000 was acknowledged with quantity 7 but is not stored") ||
		!strings.Contains(r.Problems[1], "acknowledged with quantity 5 but has 2") {
		t.Errorf("got %q", r.Problems)
	}
}

// TestVerifyTokenReused re-uses a ClientToken after its life, when it stands for new usage.
func TestVerifyTokenReused(t *testing.T) {
	s := newShop(t)
	for _, wait := range []time.Duration{0, 30 * time.Hour} {
		s.now = s.now.Add(wait)
		if _, _, refusal := s.meter("agentcore", "pods", 3, "t"); refusal != nil {
			t.Fatal(refusal)
		}
	}
	if r := verified(t, s.dir, verify.Options{}); r.ProblemCount != 0 || r.Records != 2 {
		t.Errorf("got %+v", r)
	}
}

// newWarehouse is a shop with 200,000 records: 4,000 buyers, two dimensions, 25 hours.
func newWarehouse(b *testing.B) *shop {
	s := newShop(b)
	began := s.now.Add(-72 * time.Hour)
	m := &adminapi.Marketplace{}
	for i := range 4000 {
		m.Buyers = append(m.Buyers, adminapi.Buyer{AccountID: fmt.Sprint(500_000_000_000 + i), Agreements: []adminapi.Agreement{{ProductCode: "legacy", StartTime: &began}}})
	}
	if _, err := s.l.Import(ctx, s.op, m); err != nil {
		b.Fatal(err)
	}
	records := make([]metering.UsageRecord, 25)
	for hour := range 25 {
		for i := range 8000 {
			records[i%25] = s.record(m.Buyers[i/2].AccountID, []string{"users", "gb"}[i%2], 0, int32(i))
			if i%25 == 24 {
				s.batch(sellerKey, "legacy", records...)
			}
		}
		s.now = shopOpening.Add(time.Duration(hour+1) * time.Hour)
	}
	return s
}

func BenchmarkVerify(b *testing.B) {
	s := newWarehouse(b)
	var r verify.Report
	for b.Loop() {
		var err error
		if r, err = verify.Ledger(s.dir, verify.Options{}); err != nil || r.ProblemCount != 0 {
			b.Fatal(r, err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(r.Records), "ns/record")
}

func BenchmarkUsageSums(b *testing.B) {
	s := newWarehouse(b)
	for _, by := range [][]string{nil, {"hour", "dimension"}, {"customer_aws_account_id"}} {
		b.Run(strings.Join(by, ","), func(b *testing.B) {
			for b.Loop() {
				if _, err := s.l.UsageSums(ctx, s.op, adminapi.UsageFilter{}, by); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/200_000, "ns/record")
		})
	}
}

// TestVerifyFindsLostWrites sets pages of the catalogue back to an earlier content, as a disk does that has lost a write
// of them: each is a whole page with a right checksum.
func TestVerifyFindsLostWrites(t *testing.T) {
	const page = 4096
	tables := []string{"state", "revision", "account", "principal", "access_key", "dimension", "agreement"}
	s := newShopIn(t, t.TempDir())
	if err := s.l.Close(); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(s.dir, "ledger.db")
	read := func() []byte {
		t.Helper()
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	before := read()
	s.open()
	_, err1 := s.l.PutPermissions(ctx, s.op, iam.User, "111111111111", "meter", adminapi.Permissions{Deny: []string{"*"}})
	_, err2 := s.l.AddDimension(ctx, s.op, "legacy", adminapi.NewDimension{Dimension: "more"})
	suspended := true
	_, err3 := s.l.ChangeBuyer(ctx, s.op, "222222222222", adminapi.BuyerChange{Suspended: &suspended})
	all, err4 := s.l.Agreements(ctx, s.op, adminapi.AgreementFilter{ProductCode: "legacy"}, "", 0)
	_, err5 := s.l.EndAgreement(ctx, s.op, all.Items[0].AgreementID)
	if err := errors.Join(err1, err2, err3, err4, err5, s.l.DeleteAccessKey(ctx, s.op, sellerKey), s.l.Close()); err != nil {
		t.Fatal(err)
	}
	after := read()
	pages := map[string]int64{}
	c, err := sqlite3.OpenFlags(file, sqlite3.OPEN_READONLY)
	if err != nil {
		t.Fatal(err)
	}
	stmt, _, err := c.Prepare("SELECT name, rootpage FROM sqlite_schema WHERE type = 'table'")
	if err != nil {
		t.Fatal(err)
	}
	for stmt.Step() {
		pages[stmt.ColumnText(0)] = stmt.ColumnInt64(1)
	}
	if err := errors.Join(stmt.Close(), c.Close()); err != nil {
		t.Fatal(err)
	}
	if r := verified(t, s.dir, verify.Options{}); r.ProblemCount != 0 {
		t.Fatalf("before: %q", r.Problems)
	}
	for _, table := range tables {
		at := (pages[table] - 1) * page
		old, now := before[at:at+page], after[at:at+page]
		if bytes.Equal(old, now) {
			t.Fatalf("%s has not changed", table)
		}
		if err := os.WriteFile(file, slices.Concat(after[:at], old, after[at+page:]), 0o600); err != nil {
			t.Fatal(err)
		}
		if r := verified(t, s.dir, verify.Options{}); r.ProblemCount == 0 {
			t.Errorf("%s: nothing was found", table)
		} else {
			t.Logf("%s: %q", table, r.Problems)
		}
	}
}
