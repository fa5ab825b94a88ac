package ledger_test

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/meterd/meterd/internal/adminapi"
	"github.com/meterd/meterd/internal/iam"
	"github.com/meterd/meterd/internal/ledger"
	"github.com/meterd/meterd/internal/metering"
	"github.com/meterd/meterd/internal/pgtest"
	"github.com/meterd/meterd/internal/verify"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// shop is a ledger with a small marketplace and a clock that stands still unless moved.
type shop struct {
	t         testing.TB
	l         *ledger.Ledger
	dir       string
	key       []byte // master key
	op        ledger.Operator
	now       time.Time
	skew      *time.Duration // if not nil, its clock runs, so much ahead of this machine's
	ids       int
	workloads map[string]adminapi.WorkloadCredentials // by platform
}

const (
	sellerKey, rivalKey = "AKIAIOSFODNN7EXAMPLE", "AKIAIOSFODNN7EXAMPLF"
	license             = "arn:aws:license-manager::294406891311:license:l-0123456789abcdef0123456789abcde" // and a digit
)

var shopOpening = time.Date(2026, 11, 23, 12, 30, 0, 0, time.UTC)

func newShop(t testing.TB) *shop {
	t.Helper()
	return newShopIn(t, pgtest.Place(t, t.TempDir()))
}

// newShopIn makes a shop in the given store.
func newShopIn(t testing.TB, place string) *shop {
	t.Helper()
	return makeShop(t, place, iam.PublishedMasterKey())
}

func makeShop(t testing.TB, place string, key []byte) *shop {
	t.Helper()
	s := &shop{t: t, dir: place, key: key, now: shopOpening, workloads: map[string]adminapi.WorkloadCredentials{}}
	if err := ledger.Create(s.config()); err != nil {
		t.Fatal(err)
	}
	s.open()
	t.Cleanup(func() { s.l.Close() })
	began := s.now.Add(-72 * time.Hour)
	agreement := func(n, product, customer string) adminapi.Agreement {
		return adminapi.Agreement{AgreementID: "agmt-" + n, ProductCode: product, LicenseARN: license + n, CustomerIdentifier: customer, StartTime: &began}
	}
	user := func(account, key string) adminapi.Principal {
		return adminapi.Principal{AccountID: account, Name: "meter", Allow: []string{iam.SellerAccess},
			AccessKeys: []adminapi.AccessKey{{AccessKeyID: key, SecretAccessKey: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"}}}
	}
	_, err := s.l.Import(ctx, s.op, &adminapi.Marketplace{
		Sellers: []adminapi.Seller{{AccountID: "111111111111"}, {AccountID: "333333333333"}},
		Products: []adminapi.Product{
			{ProductCode: "legacy", ProductID: "prod-1", SellerAccountID: "111111111111", Type: "saas", Integration: "legacy", Dimensions: []string{"users", "gb"}},
			{ProductCode: "concurrent", SellerAccountID: "111111111111", Type: "saas", Dimensions: []string{"requests"}},
			{ProductCode: "software", SellerAccountID: "111111111111", Type: "ami", Dimensions: []string{"pods", "users"}},
			{ProductCode: "rival", SellerAccountID: "333333333333", Type: "saas", Integration: "legacy", Dimensions: []string{"users"}},
		},
		Buyers: []adminapi.Buyer{{AccountID: "222222222222", Agreements: []adminapi.Agreement{
			agreement("1", "legacy", "cust-a"), agreement("2", "concurrent", "cust-a"), agreement("3", "software", "cust-a"), agreement("4", "rival", "cust-z"),
		}}, {AccountID: "444444444444"}},
		Users: []adminapi.Principal{user("111111111111", sellerKey), user("333333333333", rivalKey)},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range [][2]string{{"ec2", "i-0123456789abcdef0"}, {"agentcore", "runtime-1"}} {
		s.workloads[w[0]], err = s.l.CreateWorkloadCredentials(ctx, s.op, adminapi.WorkloadRequest{
			Workload: adminapi.Workload{AccountID: "222222222222", Platform: w[0], ResourceID: w[1], Region: "us-east-1"}})
		if err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func (s *shop) config() ledger.Config {
	c := ledger.Config{Store: s.dir, MasterKey: s.key, Sandbox: true, Now: func() time.Time { return s.now },
		Log: slog.New(slog.DiscardHandler)}
	if s.skew != nil {
		c.Now, c.DatabaseClock = func() time.Time { return time.Now().Add(*s.skew) }, true
	}
	return c
}

func (s *shop) open() {
	s.t.Helper()
	l, err := ledger.Open(s.config())
	if err != nil {
		s.t.Fatal(err)
	}
	s.l, s.op = l, l.Local()
}

// requestID returns a UUID of version 7 of the shop's time.
func (s *shop) requestID() (id uuid.UUID) {
	s.ids++
	millis := s.now.UnixMilli()
	for i := range 6 {
		id[i] = byte(millis >> (40 - 8*i))
	}
	id[6], id[7], id[8] = 0x70, byte(s.ids>>8), 0x80
	id[15] = byte(s.ids)
	return id
}

// begin starts a call with the credentials and returns it with its request id.
func (s *shop) begin(op metering.Operation, accessKeyID, sessionToken string) (*ledger.Call, string) {
	s.t.Helper()
	credential, err := s.l.Credential(accessKeyID, sessionToken)
	if err != nil {
		s.t.Fatal(err)
	}
	id := s.requestID()
	c, refusal := s.l.Begin(ledger.Caller{Identity: credential.Principal, Region: "us-east-1", Source: "192.0.2.1", RequestID: id}, op)
	if refusal != nil {
		s.t.Fatal(refusal)
	}
	return c, id.String()
}

// batch sends records of a product and returns the call's request id and what became of them.
func (s *shop) batch(accessKeyID, product string, records ...metering.UsageRecord) (string, []metering.Outcome, []metering.Line) {
	s.t.Helper()
	c, id := s.begin(metering.BatchMeterUsage, accessKeyID, "")
	defer c.End()
	lines, outcomes, refusal := c.BatchMeterUsage(&metering.Batch{ProductCode: product, Records: records, Count: len(records)}, []byte("{}"))
	if refusal != nil {
		s.t.Fatal(refusal)
	}
	return id, slices.Clone(outcomes), slices.Clone(lines)
}

// meter sends usage from the workload on the platform, stamped with the shop's time.
func (s *shop) meter(platform, dimension string, quantity int32, clientToken string) (string, metering.RecordID, *metering.Error) {
	s.t.Helper()
	w := s.workloads[platform]
	c, request := s.begin(metering.MeterUsage, w.AccessKeyID, w.SessionToken)
	defer c.End()
	in := s.software(dimension, quantity)
	in.ClientToken, in.HasClientToken = clientToken, clientToken != ""
	id, refusal := c.MeterUsage(ctx, in, []byte(`{"UsageDimension":"pods"}`))
	return request, id, refusal
}

func (s *shop) software(dimension string, quantity int32) *metering.Meter {
	return &metering.Meter{ProductCode: "software", HasProductCode: true, Dimension: dimension, Quantity: quantity, Timestamp: metering.InstantOf(s.now), HasTimestamp: true}
}

// dryRun tries usage, which must be possible, and returns the request's id.
func (s *shop) dryRun(platform, dimension string, quantity int32) string {
	s.t.Helper()
	w := s.workloads[platform]
	c, request := s.begin(metering.MeterUsage, w.AccessKeyID, w.SessionToken)
	defer c.End()
	in := s.software(dimension, quantity)
	in.DryRun = true
	if _, refusal := c.MeterUsage(ctx, in, nil); refusal != nil {
		s.t.Fatal(refusal)
	}
	return request
}

// record is a usage record stamped some minutes before the shop's time.
func (s *shop) record(customer, dimension string, ago int, quantity int32) metering.UsageRecord {
	r := metering.UsageRecord{Timestamp: metering.InstantOf(s.now).Add(-time.Duration(ago) * time.Minute), HasTimestamp: true, Dimension: dimension, Quantity: quantity}
	switch {
	case strings.HasPrefix(customer, "arn:"):
		r.LicenseARN, r.CustomerAWSAccountID = customer, "222222222222"
	case strings.HasPrefix(customer, "cust-"):
		r.CustomerIdentifier = customer
	default:
		r.CustomerAWSAccountID = customer
	}
	return r
}

// trade fills the shop with nine records of all kinds.
func (s *shop) trade() {
	s.t.Helper()
	divided := s.record("222222222222", "gb", 0, 10)
	divided.Allocations = []metering.Allocation{
		{Quantity: 4, HasQuantity: true, Tags: []metering.Tag{{Key: "team", Value: "red"}}}, {Quantity: 6, HasQuantity: true}}
	s.batch(sellerKey, "legacy", s.record("222222222222", "users", 0, 1), divided, s.record("222222222222", "users", 60, 2)) // rows 1-3
	s.batch(sellerKey, "legacy", s.record("cust-a", "users", 120, 3))                                                        // 4
	s.batch(sellerKey, "", s.record(license+"2", "requests", 0, 5))                                                          // 5
	s.batch(rivalKey, "rival", s.record("222222222222", "users", 60, 7))                                                     // 6
	for _, m := range []struct {
		platform, dimension string
		quantity            int32
		clientToken         string
	}{
		{"ec2", "users", 11, ""}, {"agentcore", "pods", 13, "one"}, {"agentcore", "pods", 17, "two"}, // 7-9
	} {
		if _, _, refusal := s.meter(m.platform, m.dimension, m.quantity, m.clientToken); refusal != nil {
			s.t.Fatal(refusal)
		}
	}
}

func (s *shop) usage(f adminapi.UsageFilter, after string, limit int) adminapi.UsagePage {
	s.t.Helper()
	page, err := s.l.Usage(ctx, s.op, f, after, limit)
	if err != nil {
		s.t.Fatal(err)
	}
	return page
}

func TestUsageShowsWhatWasSent(t *testing.T) {
	s := newShop(t)
	_, _, lines := s.batch(sellerKey, "legacy", s.record("cust-a", "users", 5, 1))
	s.trade()
	page := s.usage(adminapi.UsageFilter{}, "", 0)
	if page.Next != "" || len(page.Records) != 9 { // the first one is in trade's too, as a replay
		t.Fatalf("%d records, next %q", len(page.Records), page.Next)
	}
	now, hour := shopOpening, shopOpening.Truncate(time.Hour)
	for _, want := range []adminapi.UsageRecord{ // their quantities differ
		{MeteringRecordID: uuid.UUID(lines[0].ID).String(), Timestamp: now.Add(-5 * time.Minute), Hour: hour, ProductCode: "legacy", CustomerAWSAccountID: "222222222222",
			CustomerIdentifier: "cust-a", Dimension: "users", Quantity: 1, Region: "us-east-1"},
		{Timestamp: now, Hour: hour, ProductCode: "legacy", CustomerAWSAccountID: "222222222222", CustomerIdentifier: "cust-a", Dimension: "gb", Quantity: 10, Region: "us-east-1",
			Allocations: []adminapi.UsageAllocation{{AllocatedUsageQuantity: 4, Tags: map[string]string{"team": "red"}}, {AllocatedUsageQuantity: 6}}},
		{Timestamp: now, Hour: hour, ProductCode: "concurrent", CustomerAWSAccountID: "222222222222", CustomerIdentifier: "cust-a", LicenseARN: license + "2", Dimension: "requests", Quantity: 5, Region: "us-east-1"},
		{Timestamp: now, Hour: hour, ProductCode: "software", CustomerAWSAccountID: "222222222222", CustomerIdentifier: "cust-a", Dimension: "pods", Quantity: 17, Region: "us-east-1", Workload: "runtime-1", Platform: "agentcore"},
	} {
		i := slices.IndexFunc(page.Records, func(r adminapi.UsageRecord) bool { return r.Quantity == want.Quantity })
		if i < 0 {
			t.Errorf("no record has the quantity %d", want.Quantity)
			continue
		}
		got := page.Records[i]
		if want.MeteringRecordID == "" {
			got.MeteringRecordID = ""
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("record %d (-want +got):\n%s", i, diff)
		}
	}
	ids := map[string]bool{}
	for _, r := range page.Records {
		ids[r.MeteringRecordID] = true
	}
	if len(ids) != len(page.Records) {
		t.Errorf("%d ids for %d records", len(ids), len(page.Records))
	}
}

func TestUsageFilters(t *testing.T) {
	s := newShop(t)
	s.trade()
	hour := shopOpening.Truncate(time.Hour)
	for _, test := range []struct {
		name string
		f    adminapi.UsageFilter
		want []int64 // quantities
	}{
		{"all", adminapi.UsageFilter{}, []int64{1, 10, 2, 3, 5, 7, 11, 13, 17}},
		{"product", adminapi.UsageFilter{ProductCode: "legacy"}, []int64{1, 10, 2, 3}},
		{"licence", adminapi.UsageFilter{LicenseARN: license + "2"}, []int64{5}},
		{"licence never used", adminapi.UsageFilter{LicenseARN: license + "1"}, nil},
		{"account", adminapi.UsageFilter{CustomerAWSAccountID: "222222222222", Dimension: "gb"}, []int64{10}},
		{"account without usage", adminapi.UsageFilter{CustomerAWSAccountID: "444444444444"}, nil},
		{"customer of one seller", adminapi.UsageFilter{CustomerIdentifier: "cust-a"}, []int64{1, 10, 2, 3, 5, 11, 13, 17}},
		{"customer of the other", adminapi.UsageFilter{CustomerIdentifier: "cust-z"}, []int64{7}},
		{"customer and another's product", adminapi.UsageFilter{CustomerIdentifier: "cust-z", ProductCode: "legacy"}, nil},
		{"dimension of several products", adminapi.UsageFilter{Dimension: "users"}, []int64{1, 2, 3, 7, 11}},
		{"dimension of one", adminapi.UsageFilter{Dimension: "users", ProductCode: "software"}, []int64{11}},
		{"region", adminapi.UsageFilter{Region: "us-east-1", ProductCode: "rival"}, []int64{7}},
		{"other region", adminapi.UsageFilter{Region: "eu-west-1"}, nil},
		{"workload", adminapi.UsageFilter{Workload: "runtime-1"}, []int64{13, 17}},
		{"from the hour", adminapi.UsageFilter{From: hour}, []int64{1, 10, 5, 11, 13, 17}},
		{"before the hour", adminapi.UsageFilter{To: hour}, []int64{2, 3, 7}},
		{"one hour", adminapi.UsageFilter{From: hour.Add(-2 * time.Hour), To: hour.Add(-time.Hour)}, []int64{3}},
		{"from the very time", adminapi.UsageFilter{From: shopOpening.Add(-time.Hour), To: hour}, []int64{2, 7}},
		{"just after it", adminapi.UsageFilter{From: shopOpening.Add(-time.Hour + 1), To: hour}, nil},
		{"up to the very time", adminapi.UsageFilter{To: shopOpening.Add(-time.Hour)}, []int64{3}},
		{"just after it", adminapi.UsageFilter{To: shopOpening.Add(-time.Hour + 1)}, []int64{2, 3, 7}},
		{"long ago", adminapi.UsageFilter{To: hour.Add(-1000 * time.Hour)}, nil},
	} {
		var got []int64
		total := int64(0)
		for _, r := range s.usage(test.f, "", 0).Records {
			got = append(got, r.Quantity)
			total += r.Quantity
		}
		slices.Sort(got) // each store has an order of its own
		slices.Sort(test.want)
		if !slices.Equal(got, test.want) {
			t.Errorf("%s: got %v, want %v", test.name, got, test.want)
		}
		sums, err := s.l.UsageSums(ctx, s.op, test.f, nil)
		if err != nil || len(sums.Sums) != 1 || sums.Sums[0].Records != int64(len(got)) || sums.Sums[0].Quantity != total {
			t.Errorf("%s: sums %+v, %v; want %d records, quantity %d", test.name, sums, err, len(got), total)
		}
	}
}

func TestUsageRefusals(t *testing.T) {
	s := newShop(t)
	for _, test := range []struct {
		f     adminapi.UsageFilter
		after string
		limit int
		kind  metering.Kind
		says  string
	}{
		{f: adminapi.UsageFilter{ProductCode: "prod-1"}, kind: metering.NotFound, says: `product_code: there is none "prod-1"`},
		{f: adminapi.UsageFilter{LicenseARN: "arn:x"}, kind: metering.NotFound, says: `license_arn: there is none "arn:x"`},
		{f: adminapi.UsageFilter{CustomerAWSAccountID: "555555555555"}, kind: metering.NotFound, says: `"555555555555"`},
		{f: adminapi.UsageFilter{CustomerAWSAccountID: "2222-2222-2222"}, kind: metering.NotFound, says: `12 digits`},
		{f: adminapi.UsageFilter{CustomerIdentifier: "cust-q"}, kind: metering.NotFound, says: `"cust-q"`},
		{f: adminapi.UsageFilter{Dimension: "Users"}, kind: metering.NotFound, says: `"Users"`},
		{f: adminapi.UsageFilter{Dimension: "requests", ProductCode: "legacy"}, kind: metering.NotFound, says: `"requests"`},
		{f: adminapi.UsageFilter{Region: "mars-1"}, kind: metering.NotFound, says: `"mars-1"`},
		{f: adminapi.UsageFilter{Workload: "i-1"}, kind: metering.NotFound, says: `"i-1"`},
		{f: adminapi.UsageFilter{From: shopOpening, To: shopOpening}, kind: metering.Validation, says: "before"},
		{after: "next", kind: metering.Validation, says: "after"},
		{after: "-1", kind: metering.Validation, says: "after"},
		{limit: -1, kind: metering.Validation, says: "limit"},
		{limit: 1001, kind: metering.Validation, says: "limit"},
	} {
		_, err := s.l.Usage(ctx, s.op, test.f, test.after, test.limit)
		var refusal *metering.Error
		if !errors.As(err, &refusal) || refusal.Kind != test.kind || !strings.Contains(refusal.Message, test.says) {
			t.Errorf("%+v: got %v, want %v that says %q", test, err, test.kind, test.says)
		}
	}
	_, err := s.l.UsageSums(ctx, s.op, adminapi.UsageFilter{}, []string{"dimension", "color"})
	if err == nil || !strings.Contains(err.Error(), `"color"`) || !strings.Contains(err.Error(), "product_code, license_arn") {
		t.Errorf("by color: %v", err)
	}
	stranger := ledger.Operator{}
	_, err1 := s.l.Usage(ctx, stranger, adminapi.UsageFilter{}, "", 0)
	_, err2 := s.l.UsageSums(ctx, stranger, adminapi.UsageFilter{}, nil)
	_, err3 := s.l.CallRecord(ctx, stranger, s.requestID().String())
	for _, err := range []error{err1, err2, err3} {
		if refusal := new(metering.Error); !errors.As(err, &refusal) || refusal.Kind != metering.AccessDenied {
			t.Errorf("a stranger got %v", err)
		}
	}
}

func TestUsagePages(t *testing.T) {
	s := newShop(t)
	s.trade()
	for limit := 1; limit <= 10; limit++ {
		var got []adminapi.UsageRecord
		pages := 0
		for after := ""; pages == 0 || after != ""; pages++ {
			page := s.usage(adminapi.UsageFilter{CustomerIdentifier: "cust-a"}, after, limit)
			got, after = append(got, page.Records...), page.Next
			if len(page.Records) == 0 || len(page.Records) > limit {
				t.Fatalf("limit %d: a page of %d", limit, len(page.Records))
			}
		}
		if want := s.usage(adminapi.UsageFilter{CustomerIdentifier: "cust-a"}, "", 0).Records; !cmp.Equal(got, want) || pages != (8+limit-1)/limit {
			t.Errorf("limit %d: %d pages with %d records", limit, pages, len(got))
		}
	}
}

// TestUsageBounds makes pages of one record with allocations, and sums of four groups.
func TestUsageBounds(t *testing.T) {
	s := newShop(t)
	s.trade()
	want := s.usage(adminapi.UsageFilter{}, "", 0)
	ledger.SetUsageBounds(t, 1<<20, 4)
	for by, groups := range map[string]int{"product_code": 4, "hour": 3, "": 1} {
		sums, err := s.l.UsageSums(ctx, s.op, adminapi.UsageFilter{}, strings.Fields(by))
		if err != nil || len(sums.Sums) != groups {
			t.Errorf("by %s: %+v, %v", by, sums, err)
		}
	}
	if _, err := s.l.UsageSums(ctx, s.op, adminapi.UsageFilter{}, []string{"product_code", "dimension"}); !refusedAs(err, metering.Validation) {
		t.Errorf("six groups: %v", err)
	}
	ledger.SetUsageBounds(t, 10, 4)
	page := s.usage(adminapi.UsageFilter{}, "", 0)
	rest := s.usage(adminapi.UsageFilter{}, page.Next, 0)
	divided := slices.IndexFunc(want.Records, func(r adminapi.UsageRecord) bool { return r.Allocations != nil })
	if len(page.Records) != divided+1 || !cmp.Equal(append(page.Records, rest.Records...), want.Records) {
		t.Errorf("a page of %d, then one of %d", len(page.Records), len(rest.Records))
	}
}

func TestUsageSumsGroups(t *testing.T) {
	s := newShop(t)
	s.trade()
	hour := func(ago int) *time.Time {
		h := shopOpening.Truncate(time.Hour).Add(-time.Duration(ago) * time.Hour)
		return &h
	}
	for _, test := range []struct {
		by   []string
		want []adminapi.UsageSum
	}{
		{nil, []adminapi.UsageSum{{Records: 9, Quantity: 69}}},
		{[]string{"product_code"}, []adminapi.UsageSum{{ProductCode: "concurrent", Records: 1, Quantity: 5}, {ProductCode: "legacy", Records: 4, Quantity: 16},
			{ProductCode: "rival", Records: 1, Quantity: 7}, {ProductCode: "software", Records: 3, Quantity: 41}}},
		{[]string{"dimension"}, []adminapi.UsageSum{{Dimension: "gb", Records: 1, Quantity: 10}, {Dimension: "pods", Records: 2, Quantity: 30},
			{Dimension: "requests", Records: 1, Quantity: 5}, {Dimension: "users", Records: 5, Quantity: 24}}},
		{[]string{"hour", "dimension", "hour"}, []adminapi.UsageSum{{Dimension: "gb", Hour: hour(0), Records: 1, Quantity: 10}, {Dimension: "pods", Hour: hour(0), Records: 2, Quantity: 30},
			{Dimension: "requests", Hour: hour(0), Records: 1, Quantity: 5}, {Dimension: "users", Hour: hour(2), Records: 1, Quantity: 3},
			{Dimension: "users", Hour: hour(1), Records: 2, Quantity: 9}, {Dimension: "users", Hour: hour(0), Records: 2, Quantity: 12}}},
		{[]string{"customer_identifier"}, []adminapi.UsageSum{{CustomerIdentifier: "cust-a", Records: 8, Quantity: 62}, {CustomerIdentifier: "cust-z", Records: 1, Quantity: 7}}},
		{[]string{"license_arn"}, []adminapi.UsageSum{{Records: 8, Quantity: 64}, {LicenseARN: license + "2", Records: 1, Quantity: 5}}},
		{[]string{"workload"}, []adminapi.UsageSum{{Records: 6, Quantity: 28}, {Workload: "i-0123456789abcdef0", Records: 1, Quantity: 11}, {Workload: "runtime-1", Records: 2, Quantity: 30}}},
		{[]string{"region", "customer_aws_account_id"}, []adminapi.UsageSum{{Region: "us-east-1", CustomerAWSAccountID: "222222222222", Records: 9, Quantity: 69}}},
	} {
		got, err := s.l.UsageSums(ctx, s.op, adminapi.UsageFilter{}, test.by)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(test.want, got.Sums); diff != "" {
			t.Errorf("by %v (-want +got):\n%s", test.by, diff)
		}
	}
	empty, err := s.l.UsageSums(ctx, s.op, adminapi.UsageFilter{CustomerAWSAccountID: "444444444444"}, []string{"hour"})
	if err != nil || empty.Sums == nil || len(empty.Sums) != 0 {
		t.Errorf("without records: %+v, %v", empty, err)
	}
}

// TestRoundTrip sends random records, many of them again, and compares three accounts of them: what callers were
// told, what reports say, and what verify recomputes.
func TestRoundTrip(t *testing.T) {
	s := newShop(t)
	random := rand.New(rand.NewPCG(1, 2))
	acknowledged := map[metering.RecordID]int32{}
	for range 300 {
		s.now = s.now.Add(time.Duration(random.IntN(20)) * time.Minute)
		records := make([]metering.UsageRecord, random.IntN(26))
		for i := range records {
			customer := "222222222222"
			if random.IntN(10) == 0 {
				customer = "444444444444"
			}
			records[i] = s.record(customer, []string{"users", "gb"}[random.IntN(2)], random.IntN(20*60), random.Int32N(3))
		}
		_, outcomes, lines := s.batch(sellerKey, "legacy", records...)
		for i, o := range outcomes {
			if o == metering.Stored || o == metering.Replayed {
				if told, ok := acknowledged[lines[i].ID]; ok && (told != lines[i].Quantity || o == metering.Stored) {
					t.Fatalf("told %d before and %d now, %v", told, lines[i].Quantity, o)
				}
				acknowledged[lines[i].ID] = lines[i].Quantity
			}
		}
		if random.IntN(40) == 0 {
			if err := s.l.Close(); err != nil {
				t.Fatal(err)
			}
			s.open()
		}
	}
	reported := map[metering.RecordID]int32{}
	total := int64(0)
	for after, more := "", true; more; more = after != "" {
		page := s.usage(adminapi.UsageFilter{}, after, 77)
		for _, r := range page.Records {
			reported[metering.RecordID(uuid.MustParse(r.MeteringRecordID))] = int32(r.Quantity)
			total += r.Quantity
		}
		after = page.Next
	}
	if !maps.Equal(acknowledged, reported) || len(reported) < 100 {
		t.Errorf("%d records were acknowledged, %d are reported, or their quantities differ", len(acknowledged), len(reported))
	}
	want := adminapi.UsageSum{Records: int64(len(reported)), Quantity: total}
	for _, by := range [][]string{nil, {"hour"}, adminapi.GroupBy} {
		sums, err := s.l.UsageSums(ctx, s.op, adminapi.UsageFilter{}, by)
		got := adminapi.UsageSum{}
		for _, sum := range sums.Sums {
			got.Records += sum.Records
			got.Quantity += sum.Quantity
		}
		if err != nil || got != want {
			t.Errorf("by %v: %+v, %v; want %+v", by, got, err, want)
		}
	}
	report, err := verify.Ledger(s.dir, verify.Options{Acknowledged: acknowledged}) // beside the open ledger
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(verify.Report{Records: want.Records, Calls: 303, Problems: []string{},
		Sums: []verify.ProductSum{{ProductCode: "legacy", Records: want.Records, Quantity: total}}}, report); diff != "" {
		t.Errorf("verify (-want +got):\n%s", diff)
	}
}

func TestCallRecord(t *testing.T) {
	s := newShop(t)
	s.batch(sellerKey, "legacy", s.record("222222222222", "users", 0, 1), s.record("222222222222", "gb", 0, 2))
	mixed, _, lines := s.batch(sellerKey, "legacy",
		s.record("222222222222", "users", 60, 1), // stored
		s.record("222222222222", "users", 0, 1),  // replay
		s.record("555555555555", "users", 0, 1),  // nobody
		s.record("222222222222", "users", 120, 1),
		s.record("222222222222", "gb", 0, 9), // duplicate
		s.record("444444444444", "gb", 0, 9), // not subscribed
		s.record("222222222222", "users", 180, 1))
	metered, id, refusal := s.meter("agentcore", "pods", 3, "t")
	again, idAgain, _ := s.meter("agentcore", "pods", 3, "t")
	if refusal != nil || id != idAgain {
		t.Fatal(refusal, id, idAgain)
	}
	conflict, _, refusal := s.meter("agentcore", "pods", 4, "t")
	if refusal == nil {
		t.Fatal("the conflict was not refused")
	}

	dry := s.dryRun("ec2", "users", 3)

	get := func(id string) adminapi.Call {
		t.Helper()
		call, err := s.l.CallRecord(ctx, s.op, id)
		if err != nil {
			t.Fatal(err)
		}
		return call
	}
	call := get(mixed)
	type result struct {
		Status               string
		Stored               bool
		Account, Dimension   string
		Quantity             int64
		ID                   bool // is the line's
		MinutesBeforeOpening int
	}
	var got []result
	for i, r := range call.Results {
		got = append(got, result{r.Status, r.Stored, r.Record.CustomerAWSAccountID, r.Record.Dimension, r.Record.Quantity,
			r.Record.MeteringRecordID == uuid.UUID(lines[i].ID).String(), int(shopOpening.Sub(r.Record.Timestamp).Minutes())})
		if r.Record.Region != "us-east-1" || r.Record.ProductCode != "legacy" || r.Record.Hour != r.Record.Timestamp.Truncate(time.Hour) {
			t.Errorf("result %d: %+v", i, r.Record)
		}
	}
	if diff := cmp.Diff([]result{
		{"Success", true, "222222222222", "users", 1, true, 60},
		{"Success", false, "222222222222", "users", 1, true, 0},
		{"CustomerNotSubscribed", false, "555555555555", "users", 1, false, 0},
		{"Success", true, "222222222222", "users", 1, true, 120},
		{"DuplicateRecord", false, "222222222222", "gb", 9, true, 0},
		{"CustomerNotSubscribed", false, "444444444444", "gb", 9, false, 0},
		{"Success", true, "222222222222", "users", 1, true, 180},
	}, got); diff != "" {
		t.Errorf("results (-want +got):\n%s", diff)
	}
	call.Results = nil
	if diff := cmp.Diff(adminapi.Call{RequestID: mixed, At: shopOpening, Operation: "BatchMeterUsage", Principal: "arn:aws:iam::111111111111:user/meter",
		AccessKeyID: sellerKey, Source: "192.0.2.1", Region: "us-east-1"}, call); diff != "" {
		t.Errorf("call (-want +got):\n%s", diff)
	}

	for i, requestID := range []string{metered, again} {
		call := get(requestID)
		if call.Principal != "arn:aws:iam::222222222222:role/meterd-workload" || len(call.Results) != 1 || call.Results[0].Stored != (i == 0) || call.Results[0].Status != "Success" ||
			call.Results[0].Record.MeteringRecordID != uuid.UUID(id).String() || call.Results[0].Record.Workload != "runtime-1" {
			t.Errorf("MeterUsage: %+v", call)
		}
	}
	if call := get(conflict); call.Error != "IdempotencyConflict" || call.Message != refusal.Message || call.Request != `{"UsageDimension":"pods"}` || call.Results != nil {
		t.Errorf("conflict: %+v", call)
	}

	if call := get(dry); call.Error != "" || !strings.HasPrefix(call.Message, "dry run") || call.Results != nil {
		t.Errorf("dry run: %+v", call)
	}

	for id, kind := range map[string]metering.Kind{s.requestID().String(): metering.NotFound, uuid.Nil.String(): metering.NotFound,
		"": metering.Validation, "{" + mixed + "}": metering.Validation, strings.ReplaceAll(mixed, "-", ""): metering.Validation} {
		if _, err := s.l.CallRecord(ctx, s.op, id); !refusedAs(err, kind) {
			t.Errorf("call %q: %v, want %v", id, err, kind)
		}
	}
}

func refusedAs(err error, kind metering.Kind) bool {
	var refusal *metering.Error
	return errors.As(err, &refusal) && refusal.Kind == kind
}

// TestCallRecordAmongMany looks for calls whose rows are out of order by a little, and by far: the clock was set.
func TestCallRecordAmongMany(t *testing.T) {
	s := newShop(t)
	var ids []string
	for i := range 200 {
		s.now = shopOpening.Add(time.Duration(i)*3*time.Second - time.Duration(i%7)*time.Second)
		if i == 100 {
			s.now = shopOpening.Add(-90 * time.Second)
		}
		id, _, _ := s.batch(sellerKey, "legacy", s.record("222222222222", fmt.Sprint([]string{"users", "gb"}[i%2]), 0, int32(i)))
		ids = append(ids, id)
	}
	ledger.SetUsageBounds(t, 1<<20, 4)
	if _, err := s.l.CallRecord(ctx, s.op, s.requestID().String()); !refusedAs(err, metering.NotFound) {
		t.Errorf("of no call: %v", err)
	}
	for i, id := range ids {
		call, err := s.l.CallRecord(ctx, s.op, id)
		if err != nil || call.RequestID != id || len(call.Results) != 1 || call.Results[0].Record.Quantity != int64(i) {
			t.Errorf("call %d: %+v, %v", i, call, err)
		}
	}
}
