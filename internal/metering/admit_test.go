package metering_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/meterd/meterd/internal/metering"
)

// The accounts, products, agreements, workloads and regions of the marketplace below, by id.
const (
	acme, borealis, buyerA, buyerB                    = 1, 2, 3, 4
	legacy, concurrent, concurrent2, container, alien = 1, 2, 3, 4, 5
	licenceA, licenceA2, licenceB2, licenceAlien      = 1, 2, 3, 4
	instance, task, runtime, acmesTask, pod           = 1, 2, 3, 4, 5
)

const (
	accountA = "444455556666"
	accountB = "555566667777"
	arn      = "arn:aws:license-manager::111122223333:license:l-" // and the agreement's id
)

// metered returns the product with dimensions of the given API names.
func metered(p metering.Product, keys ...string) metering.Product {
	for i, key := range keys {
		p = p.WithDimension(metering.Dimension{Product: p.ID, N: uint16(i + 1), Key: key, Type: metering.ExternallyMetered})
	}
	return p
}

// noon is the time of service, half past three in the afternoon of a day in the middle of a month.
const noon = "2026-11-23T15:20:00Z"

// market returns a marketplace: sellers Acme and Borealis; buyer A with agreements for everything, a week old, and
// buyer B with one for concurrent2 only.
func market(t testing.TB, settings ...string) *metering.Catalog {
	c := metering.NewCatalog(set(t, settings...))
	for _, r := range metering.AWSRegions() {
		c.PutRegion(r)
	}
	began := at(t, noon).Add(-7 * 24 * time.Hour)
	c.PutAccount(metering.Account{ID: acme, AccountID: 111122223333, Seller: true})
	c.PutAccount(metering.Account{ID: borealis, AccountID: 222233334444, Seller: true})
	c.PutAccount(metering.Account{ID: buyerA, AccountID: 444455556666, Buyer: true})
	c.PutAccount(metering.Account{ID: buyerB, AccountID: 555566667777, Buyer: true})
	c.PutProduct(metered(metering.Product{ID: legacy, Seller: acme, Code: "legacy001", ProductID: "prod-legacy001", Type: metering.SaaS}, "users", "gb"))
	c.PutProduct(metered(metering.Product{ID: concurrent, Seller: acme, Code: "concurrent1", ProductID: "prod-concurrent1", Type: metering.SaaS, Concurrent: true}, "requests"))
	c.PutProduct(metered(metering.Product{ID: concurrent2, Seller: acme, Code: "concurrent2", ProductID: "prod-concurrent2", Type: metering.SaaS, Concurrent: true}, "requests"))
	c.PutProduct(metered(metering.Product{ID: container, Seller: acme, Code: "container01", ProductID: "prod-container01", Type: metering.Container}, "vcpu_hours", "jobs"))
	c.PutProduct(metered(metering.Product{ID: alien, Seller: borealis, Code: "alien00001", ProductID: "prod-alien00001", Type: metering.SaaS, Concurrent: true}, "requests"))
	c.PutAgreement(metering.Agreement{ID: licenceA, Product: concurrent, Buyer: buyerA, AgreementID: "agmt-1", LicenseARN: arn + "1", Start: began})
	c.PutAgreement(metering.Agreement{ID: licenceA2, Product: concurrent2, Buyer: buyerA, AgreementID: "agmt-2", LicenseARN: arn + "2", Start: began})
	c.PutAgreement(metering.Agreement{ID: licenceB2, Product: concurrent2, Buyer: buyerB, AgreementID: "agmt-3", LicenseARN: arn + "3", Start: began})
	c.PutAgreement(metering.Agreement{ID: licenceAlien, Product: alien, Buyer: buyerA, AgreementID: "agmt-4", LicenseARN: arn + "4", Start: began})
	c.PutAgreement(metering.Agreement{ID: 5, Product: legacy, Buyer: buyerA, AgreementID: "agmt-5", LicenseARN: arn + "5", Start: began})
	c.PutAgreement(metering.Agreement{ID: 6, Product: container, Buyer: buyerA, AgreementID: "agmt-6", LicenseARN: arn + "6", Start: began})
	c.PutCustomer(metering.Customer{Seller: acme, Buyer: buyerA, Identifier: "ifAPi5AcF3"})
	c.PutCustomer(metering.Customer{Seller: acme, Buyer: buyerB, Identifier: "Zf7oMzheGWpH"})
	region := c.RegionNamed("us-east-1").ID
	c.PutWorkload(metering.Workload{ID: instance, Account: buyerA, Platform: metering.EC2, ResourceID: "i-1", Region: region})
	c.PutWorkload(metering.Workload{ID: task, Account: buyerA, Platform: metering.ECS, ResourceID: "task-1", Region: region})
	c.PutWorkload(metering.Workload{ID: runtime, Account: buyerA, Platform: metering.AgentCore, ResourceID: "agent-1", Region: region})
	c.PutWorkload(metering.Workload{ID: acmesTask, Account: acme, Platform: metering.ECS, ResourceID: "task-2", Region: region})
	c.PutWorkload(metering.Workload{ID: pod, Account: buyerA, Platform: metering.EKS, ResourceID: "pod-1", Region: c.RegionNamed("af-south-1").ID})
	c.PutPublicKey(metering.PublicKey{Product: container, Version: 1, Created: began, RotatedAt: began.Add(time.Hour)})
	c.PutPublicKey(metering.PublicKey{Product: container, Version: 2, Created: began.Add(time.Hour)})
	return c
}

// record returns a record of buyer A for an hour ago.
func record(t testing.TB) metering.UsageRecord {
	return metering.UsageRecord{Timestamp: at(t, noon).Add(-time.Hour), HasTimestamp: true, Dimension: "users", CustomerAWSAccountID: accountA, Quantity: 3}
}

// licensed returns the same on the Concurrent-Agreements path, with the given licence.
func licensed(t testing.TB, licence string) metering.UsageRecord {
	r := record(t)
	r.Dimension, r.LicenseARN = "requests", licence
	return r
}

func batchOf(code string, records ...metering.UsageRecord) *metering.Batch {
	return &metering.Batch{ProductCode: code, Records: append([]metering.UsageRecord{}, records...), Count: len(records)}
}

// refused checks a refusal: its kind, that nothing was admitted, and that the message has the words.
func refused(t *testing.T, name string, err *metering.Error, kind metering.Kind, words ...string) {
	t.Helper()
	if err == nil {
		t.Errorf("%s: is admitted, want %v", name, kind)
		return
	}
	if err.Kind != kind {
		t.Errorf("%s: refused with %v (%s), want %v", name, err.Kind, err, kind)
	}
	for _, w := range words {
		if !strings.Contains(err.Message, w) {
			t.Errorf("%s: the message %q lacks %q", name, err, w)
		}
	}
}

func TestAdmitBatchRefuses(t *testing.T) {
	// Each case changes a batch of two good legacy records.
	for _, c := range []struct {
		name     string
		change   func(b *metering.Batch)
		kind     metering.Kind
		words    []string
		settings []string
	}{
		{"no UsageRecords", func(b *metering.Batch) { b.Records, b.Count = nil, 0 }, metering.Validation, []string{"'usageRecords'", "null"}, nil},
		{"26 records, of which 25 were kept", func(b *metering.Batch) { b.Count = 26 }, metering.Validation, []string{"'usageRecords'", "less than or equal to 25", "26 were sent"}, nil},
		{"a thousand records", func(b *metering.Batch) { b.Count = 1000 }, metering.Validation, []string{"1000 were sent"}, nil},
		{"26 records, all kept", func(b *metering.Batch) { b.Records = slices.Repeat(b.Records[:1], 26) }, metering.Validation, []string{"26 were sent"}, nil},
		{"product code with a space", func(b *metering.Batch) { b.ProductCode = "legacy 001" }, metering.Validation, []string{"'productCode'", "[-a-zA-Z0-9/=:_.@]*"}, nil},
		{"product code of 256 characters", func(b *metering.Batch) { b.ProductCode = strings.Repeat("a", 256) }, metering.Validation, []string{"'productCode'", "255"}, nil},
		{"product code of 255 characters, unknown", func(b *metering.Batch) { b.ProductCode = strings.Repeat("a", 255) }, metering.InvalidProductCode, nil, nil},
		{"no Timestamp", func(b *metering.Batch) { b.Records[1].HasTimestamp = false }, metering.Validation, []string{"usageRecords.2.member.timestamp", "null"}, nil},
		{"CustomerIdentifier of 256 characters", func(b *metering.Batch) {
			b.Records[1].CustomerAWSAccountID, b.Records[1].CustomerIdentifier = "", strings.Repeat("é", 256)
		}, metering.Validation, []string{"usageRecords.2.member.customerIdentifier", "255"}, nil},
		{"CustomerIdentifier of 255 characters", func(b *metering.Batch) {
			b.Records[0].CustomerAWSAccountID, b.Records[0].CustomerIdentifier = "", strings.Repeat("é", 255)
		}, metering.InvalidCustomerIdentifier, []string{"does not exist"}, nil},
		{"account id of 256 digits", func(b *metering.Batch) { b.Records[0].CustomerAWSAccountID = strings.Repeat("1", 256) }, metering.Validation, []string{"usageRecords.1.member.customerAWSAccountId"}, nil},
		{"account id with dashes", func(b *metering.Batch) { b.Records[0].CustomerAWSAccountID = "4444-5555-6666" }, metering.Validation, []string{"[0-9]+", "without dashes"}, nil},
		{"no Dimension", func(b *metering.Batch) { b.Records[0].Dimension = "" }, metering.Validation, []string{"usageRecords.1.member.dimension"}, nil},
		{"Dimension of 256 characters", func(b *metering.Batch) { b.Records[0].Dimension = strings.Repeat("é", 256) }, metering.Validation, []string{"usageRecords.1.member.dimension"}, nil},
		{"Dimension of 255 characters", func(b *metering.Batch) { b.Records[0].Dimension = strings.Repeat("é", 255) }, metering.InvalidUsageDimension, nil, nil},
		{"negative quantity", func(b *metering.Batch) { b.Records[1].Quantity = -1 }, metering.Validation, []string{"usageRecords.2.member.quantity"}, nil},

		{"no product", func(b *metering.Batch) { b.ProductCode = "" }, metering.InvalidProductCode, []string{"neither ProductCode nor LicenseArn"}, nil},
		{"a licence beside the product code", func(b *metering.Batch) { b.Records[1].LicenseARN = arn + "5" }, metering.InvalidProductCode, []string{"both ProductCode and LicenseArn"}, nil},
		{"another seller's product", func(b *metering.Batch) { b.ProductCode = "alien00001" }, metering.InvalidProductCode, []string{"alien00001", "not published"}, nil},
		{"unknown product", func(b *metering.Batch) { b.ProductCode = "unknown" }, metering.InvalidProductCode, []string{`"unknown"`}, nil},
		{"product id", func(b *metering.Batch) { b.ProductCode = "prod-legacy001" }, metering.InvalidProductCode, []string{"product id, not a product code"}, nil},
		{"another seller's product id", func(b *metering.Batch) { b.ProductCode = "prod-alien00001" }, metering.InvalidProductCode, []string{"not published"}, nil},
		{"concurrent product by its code", func(b *metering.Batch) { b.ProductCode = "concurrent1" }, metering.InvalidProductCode, []string{"LicenseArn"}, nil},

		{"both identifiers", func(b *metering.Batch) { b.Records[1].CustomerIdentifier = "ifAPi5AcF3" }, metering.InvalidCustomerIdentifier, []string{"UsageRecords[1]", "both"}, nil},
		{"no identifier", func(b *metering.Batch) { b.Records[1].CustomerAWSAccountID = "" }, metering.InvalidCustomerIdentifier, []string{"UsageRecords[1]", "neither"}, nil},
		{"identifiers of two kinds", func(b *metering.Batch) {
			b.Records[1].CustomerAWSAccountID, b.Records[1].CustomerIdentifier = "", "ifAPi5AcF3"
		}, metering.InvalidCustomerIdentifier, []string{"UsageRecords[1]", "another way"}, nil},
		{"unknown CustomerIdentifier", func(b *metering.Batch) {
			b.Records[0].CustomerAWSAccountID, b.Records[0].CustomerIdentifier = "", "nobody"
		}, metering.InvalidCustomerIdentifier, []string{"UsageRecords[0]", `"nobody"`}, nil},
		{"dimension in another case", func(b *metering.Batch) { b.Records[1].Dimension = "Users" }, metering.InvalidUsageDimension, []string{"UsageRecords[1]", `"Users"`, "case-sensitive"}, nil},
		{"dimension of another product", func(b *metering.Batch) { b.Records[1].Dimension = "requests" }, metering.InvalidUsageDimension, nil, nil},
		{"one record too old", func(b *metering.Batch) { b.Records[1].Timestamp = at(t, noon).Add(-30 * time.Hour) }, metering.TimestampOutOfBounds, []string{"UsageRecords[1]"}, nil},
		{"allocations that do not add up", func(b *metering.Batch) { b.Records[1].Allocations = []metering.Allocation{part(2)} }, metering.InvalidUsageAllocations, []string{"UsageRecords[1]"}, nil},
		{"before the subscription", func(b *metering.Batch) { b.Records[1].Timestamp = at(t, noon).Add(-8 * 24 * time.Hour) }, metering.TimestampOutOfBounds, []string{"UsageRecords[1]", "before the buyer's subscription began"}, []string{"batch-window=744h"}},
	} {
		b := batchOf("legacy001", record(t), record(t))
		c.change(b)
		m := market(t, c.settings...)
		lines, err := m.AdmitBatch(b, acme, m.RegionNamed("us-east-1").ID, at(t, noon), nil)
		refused(t, c.name, err, c.kind, c.words...)
		if len(lines) != 0 {
			t.Errorf("%s: refused, but with lines: %v", c.name, lines)
		}
	}
}

// BenchmarkAdmitBatch admits calls of 25 records whose buyers are named in each of the three ways.
func BenchmarkAdmitBatch(b *testing.B) {
	m := market(b)
	region := m.RegionNamed("us-east-1").ID
	byIdentifier := record(b)
	byIdentifier.CustomerAWSAccountID, byIdentifier.CustomerIdentifier = "", "ifAPi5AcF3"
	for _, c := range []struct {
		name, product string
		record        metering.UsageRecord
	}{
		{"account id", "legacy001", record(b)},
		{"identifier", "legacy001", byIdentifier},
		{"licence", "", licensed(b, arn+"1")},
	} {
		b.Run(c.name, func(b *testing.B) {
			in := batchOf(c.product, slices.Repeat([]metering.UsageRecord{c.record}, metering.MaxUsageRecords)...)
			lines, now := make([]metering.Line, 0, metering.MaxUsageRecords), at(b, noon)
			b.ReportAllocs()
			for b.Loop() {
				if admitted, err := m.AdmitBatch(in, acme, region, now, lines); err != nil || !admitted[24].Subscribed {
					b.Fatal(admitted, err)
				}
			}
		})
	}
}

func TestAdmitLicences(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(b *metering.Batch)
		kind   metering.Kind
		words  []string
	}{
		{"licence of another buyer", func(b *metering.Batch) { b.Records[1].LicenseARN = arn + "3" }, metering.InvalidLicense, []string{"UsageRecords[1]", accountA}},
		{"unknown licence", func(b *metering.Batch) { b.Records[1].LicenseARN = arn + "9" }, metering.InvalidLicense, []string{"UsageRecords[1]", "not a licence for a product of the calling account"}},
		{"another seller's licence", func(b *metering.Batch) { b.Records[1].LicenseARN = arn + "4" }, metering.InvalidLicense, []string{"UsageRecords[1]", "not a licence for a product of the calling account"}},
		{"no ARN", func(b *metering.Batch) { b.Records[1].LicenseARN = "l-1" }, metering.InvalidLicense, []string{"UsageRecords[1]", "is not a licence ARN"}},
		{"licences of two products", func(b *metering.Batch) { b.Records[1].LicenseARN = arn + "2" }, metering.InvalidLicense, []string{"UsageRecords[1]", "concurrent1", "concurrent2"}},
		{"licence and CustomerIdentifier", func(b *metering.Batch) {
			b.Records[1].CustomerIdentifier, b.Records[1].CustomerAWSAccountID = "ifAPi5AcF3", ""
		}, metering.InvalidLicense, []string{"UsageRecords[1]", "CustomerAWSAccountId"}},
		{"licence and both identifiers", func(b *metering.Batch) { b.Records[1].CustomerIdentifier = "ifAPi5AcF3" }, metering.InvalidLicense, []string{"UsageRecords[1]"}},
		{"licence without the account", func(b *metering.Batch) { b.Records[1].CustomerAWSAccountID = "" }, metering.InvalidCustomerIdentifier, []string{"UsageRecords[1]"}},
		{"account that is not 12 digits", func(b *metering.Batch) { b.Records[1].CustomerAWSAccountID = "4444555566660" }, metering.InvalidLicense, []string{"UsageRecords[1]"}},
		{"a record without licence", func(b *metering.Batch) { b.Records[1].LicenseARN = "" }, metering.InvalidProductCode, []string{"neither"}},
		{"with the product code", func(b *metering.Batch) { b.ProductCode = "concurrent1" }, metering.InvalidProductCode, []string{"both"}},
		{"before the activation", func(b *metering.Batch) { b.Records[1].Timestamp = at(t, noon).Add(-8 * 24 * time.Hour) }, metering.InvalidLicense, []string{"UsageRecords[1]", "before the licence became active"}},
	} {
		b := batchOf("", licensed(t, arn+"1"), licensed(t, arn+"1"))
		c.change(b)
		m := market(t, "batch-window=744h")
		_, err := m.AdmitBatch(b, acme, m.RegionNamed("us-east-1").ID, at(t, noon), nil)
		refused(t, c.name, err, c.kind, c.words...)
	}
}

func TestAdmitBatch(t *testing.T) {
	ago := func(d time.Duration) func(*metering.UsageRecord) {
		return func(r *metering.UsageRecord) { r.Timestamp = at(t, noon).Add(-d) }
	}
	by := func(identifier, account string) func(*metering.UsageRecord) {
		return func(r *metering.UsageRecord) { r.CustomerIdentifier, r.CustomerAWSAccountID = identifier, account }
	}
	with := func(r metering.UsageRecord, changes ...func(*metering.UsageRecord)) metering.UsageRecord {
		for _, c := range changes {
			c(&r)
		}
		return r
	}
	type line struct {
		subscribed       bool
		buyer, agreement uint32
		form             metering.Form
	}
	for _, c := range []struct {
		name     string
		settings string
		batch    *metering.Batch
		want     []line
	}{
		{"no records", "", batchOf("legacy001"), nil},
		{"no records and no product", "", batchOf(""), nil},
		{"two buyers", "", batchOf("legacy001", record(t), with(record(t), by("", accountB))), []line{{true, buyerA, 0, metering.ByCustomerAWSAccountID}, {false, buyerB, 0, metering.ByCustomerAWSAccountID}}},
		{"unknown account", "", batchOf("legacy001", with(record(t), by("", "999999999999")), with(record(t), by("", "5"))), []line{{false, 0, 0, metering.ByCustomerAWSAccountID}, {false, 0, 0, metering.ByCustomerAWSAccountID}}},
		{"by identifier", "", batchOf("legacy001", with(record(t), by("ifAPi5AcF3", "")), with(record(t), by("Zf7oMzheGWpH", ""))), []line{{true, buyerA, 0, metering.ByCustomerIdentifier}, {false, buyerB, 0, metering.ByCustomerIdentifier}}},
		{"unknown identifier, as a setting", "unknown-customer=not-subscribed", batchOf("legacy001", with(record(t), by("nobody", ""))), []line{{false, 0, 0, metering.ByCustomerIdentifier}}},
		{"both kinds of identifiers, as a setting", "mixed-identifiers=allow", batchOf("legacy001", record(t), with(record(t), by("ifAPi5AcF3", ""))), []line{{true, buyerA, 0, metering.ByCustomerAWSAccountID}, {true, buyerA, 0, metering.ByCustomerIdentifier}}},
		{"licences of two buyers", "", batchOf("", licensed(t, arn+"2"), with(licensed(t, arn+"3"), by("", accountB))), []line{{true, buyerA, licenceA2, metering.ByLicense}, {true, buyerB, licenceB2, metering.ByLicense}}},
		{"a legacy product by licence", "", batchOf("", with(licensed(t, arn+"5"), func(r *metering.UsageRecord) { r.Dimension = "gb" })), []line{{true, buyerA, 5, metering.ByLicense}}},
		{"20 h old", "", batchOf("legacy001", with(record(t), ago(20*time.Hour))), []line{{true, buyerA, 0, metering.ByCustomerAWSAccountID}}},
	} {
		m := market(t, strings.Fields(c.settings)...)
		region := m.RegionNamed("eu-west-1").ID
		lines, err := m.AdmitBatch(c.batch, acme, region, at(t, noon), nil)
		if err != nil {
			t.Errorf("%s: refused: %v", c.name, err)
			continue
		}
		var got []line
		for i, l := range lines {
			got = append(got, line{l.Subscribed, l.Key.Buyer, l.Key.Agreement, l.Form})
			r := &c.batch.Records[i]
			if l.Timestamp != r.Timestamp || l.Hour != r.Timestamp.Hour() || l.Quantity != r.Quantity || l.Key.Region != region || l.Key.Workload != 0 || l.Key.Product == 0 || l.Key.Dimension == 0 {
				t.Errorf("%s: record %d became %+v", c.name, i, l)
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: lines are %v, want %v", c.name, got, c.want)
		}
	}
}

// The lines of a call go behind those that the caller has, whose memory is used again.
func TestAdmitBatchAppends(t *testing.T) {
	m := market(t)
	region := m.RegionNamed("us-east-1").ID
	memory := make([]metering.Line, 0, 8)
	memory = append(memory[:2], metering.Line{Subscribed: true, Quantity: 99, Allocations: []metering.Allocation{part(9)}})[:0]
	lines, err := m.AdmitBatch(batchOf("legacy001", record(t), record(t), record(t)), acme, region, at(t, noon), memory)
	if err != nil || len(lines) != 3 || &lines[0] != &memory[:1][0] || lines[2].Quantity != 3 || lines[2].Allocations != nil {
		t.Errorf("lines %+v, error %v", lines, err)
	}
}

func TestRegions(t *testing.T) {
	m := market(t)
	batch := batchOf("legacy001", record(t))
	for name, served := range map[string]bool{"us-east-1": true, "eu-central-2": true, "af-south-1": true, "cn-northwest-1": true,
		"us-gov-west-1": false, "cn-north-1": false, "eusc-de-east-1": false, "ca-west-1": false} {
		_, err := m.AdmitBatch(batch, acme, m.RegionNamed(name).ID, at(t, noon), nil)
		if served && err != nil {
			t.Errorf("%s: refused: %v", name, err)
		}
		if !served {
			refused(t, name, err, metering.DisabledAPI, "BatchMeterUsage", name)
		}
	}
	if m.RegionNamed("us-east-9") != nil {
		t.Error("us-east-9 is a region")
	}
	refused(t, "no region", m.CheckRegion(0, metering.BatchMeterUsage, 0), metering.DisabledAPI)

	for _, c := range []struct {
		region   string
		op       metering.Operation
		platform metering.Platform
		ok       bool
	}{
		{"us-gov-east-1", metering.MeterUsage, metering.EC2, true},
		{"us-gov-east-1", metering.MeterUsage, metering.ECS, false},
		{"us-gov-east-1", metering.ResolveCustomer, 0, false},
		{"af-south-1", metering.MeterUsage, metering.ECS, true},
		{"af-south-1", metering.MeterUsage, metering.EKS, false},
		{"af-south-1", metering.ResolveCustomer, 0, true},
		{"sa-east-1", metering.MeterUsage, metering.EKS, true},
		{"cn-northwest-1", metering.MeterUsage, metering.EC2, false},
	} {
		if err := m.CheckRegion(m.RegionNamed(c.region).ID, c.op, c.platform); (err == nil) != c.ok {
			t.Errorf("%v on %v in %s: %v", c.op, c.platform, c.region, err)
		}
	}

	eks := 0
	for _, r := range m.Regions() {
		if m.CheckRegion(r.ID, metering.MeterUsage, metering.EKS) == nil {
			eks++
		}
	}
	if eks != 17 {
		t.Errorf("MeterUsage is offered on EKS in %d regions, want 17", eks)
	}

	// An operator may enable a region that AWS does not have, or has without the service, and disable any.
	m.PutRegion(metering.RegionInfo{ID: metering.Region(len(m.Regions()) + 1), Name: "moon-base-1", Enabled: true})
	r := *m.RegionNamed("cn-north-1")
	r.Enabled = true
	m.PutRegion(r)
	for _, name := range []string{"moon-base-1", "cn-north-1"} {
		if err := m.CheckRegion(m.RegionNamed(name).ID, metering.MeterUsage, metering.EKS); err != nil {
			t.Errorf("%s was enabled: %v", name, err)
		}
	}
	r = *m.RegionNamed("us-east-1")
	r.Enabled = false
	m.PutRegion(r)
	_, err := m.AdmitBatch(batch, acme, r.ID, at(t, noon), nil)
	refused(t, "a region that was disabled", err, metering.DisabledAPI, "us-east-1")

	// A product may be enabled in few regions.
	p := *m.Product(legacy)
	p.Regions = []metering.Region{m.RegionNamed("eu-west-1").ID}
	m.PutProduct(p)
	_, err = m.AdmitBatch(batch, acme, m.RegionNamed("eu-west-2").ID, at(t, noon), nil)
	refused(t, "a region that the product is not sold in", err, metering.DisabledAPI, "legacy001", "eu-west-2")
	if _, err = m.AdmitBatch(batch, acme, m.RegionNamed("eu-west-1").ID, at(t, noon), nil); err != nil {
		t.Errorf("a region that the product is sold in: %v", err)
	}

	for name, ok := range map[string]bool{"us-east-1": true, "us-gov-east-1": true, "moon-base-1": true, "useast1": false, "US-east-1": false,
		"us-east-1/x": false, "": false, "us-": false, "us--1": false, "1us-east": false, "a-" + strings.Repeat("b", 30): true, "a-" + strings.Repeat("b", 31): false} {
		if metering.ValidRegionName(name) != ok {
			t.Errorf("ValidRegionName(%q) is not %v", name, ok)
		}
	}
}

// meterOf returns usage of the container product an hour ago.
func meterOf(t testing.TB) *metering.Meter {
	return &metering.Meter{ProductCode: "container01", HasProductCode: true, Timestamp: at(t, noon).Add(-time.Hour), HasTimestamp: true, Dimension: "jobs", Quantity: 4,
		ClientToken: "6a8c1a4e-8b6e-4d0e-9d3c-0d7a0c4e1b11", HasClientToken: true}
}

func TestAdmitMeterRefuses(t *testing.T) {
	for _, c := range []struct {
		name     string
		workload uint32
		region   string
		change   func(in *metering.Meter)
		kind     metering.Kind
		words    []string
	}{
		{"no product code", task, "us-east-1", func(in *metering.Meter) { in.ProductCode, in.HasProductCode = "", false }, metering.Validation, []string{"'productCode'", "null"}},
		{"empty product code", task, "us-east-1", func(in *metering.Meter) { in.ProductCode = "" }, metering.InvalidProductCode, []string{`""`}},
		{"malformed product code", task, "us-east-1", func(in *metering.Meter) { in.ProductCode = "a b" }, metering.Validation, []string{"'productCode'"}},
		{"unknown product", task, "us-east-1", func(in *metering.Meter) { in.ProductCode = "unknown" }, metering.InvalidProductCode, []string{`"unknown"`}},
		{"product id", task, "us-east-1", func(in *metering.Meter) { in.ProductCode = "prod-container01" }, metering.InvalidProductCode, []string{"product id"}},
		{"no Timestamp", task, "us-east-1", func(in *metering.Meter) { in.HasTimestamp = false }, metering.Validation, []string{"'timestamp'"}},
		{"no UsageDimension", task, "us-east-1", func(in *metering.Meter) { in.Dimension = "" }, metering.Validation, []string{"'usageDimension'"}},
		{"negative quantity", task, "us-east-1", func(in *metering.Meter) { in.Quantity = -1 }, metering.Validation, []string{"'usageQuantity'"}},
		{"empty ClientToken", task, "us-east-1", func(in *metering.Meter) { in.ClientToken = "" }, metering.Validation, []string{"'clientToken'"}},
		{"ClientToken of 65 characters", task, "us-east-1", func(in *metering.Meter) { in.ClientToken = strings.Repeat("é", 65) }, metering.Validation, []string{"'clientToken'", "64"}},
		{"another region", task, "us-west-2", func(*metering.Meter) {}, metering.InvalidEndpointRegion, []string{"us-east-1", "us-west-2"}},
		{"EKS where it is not offered", pod, "af-south-1", func(*metering.Meter) {}, metering.DisabledAPI, []string{"af-south-1"}},
		{"unknown dimension", task, "us-east-1", func(in *metering.Meter) { in.Dimension = "Jobs" }, metering.InvalidUsageDimension, []string{`"Jobs"`}},
		{"7 h old", task, "us-east-1", func(in *metering.Meter) { in.Timestamp = in.Timestamp.Add(-6 * time.Hour) }, metering.TimestampOutOfBounds, nil},
		{"allocations that do not add up", instance, "us-east-1", func(in *metering.Meter) { in.Allocations = []metering.Allocation{part(3)} }, metering.InvalidUsageAllocations, []string{"3", "4"}},
		{"AgentCore without ClientToken", runtime, "us-east-1", func(in *metering.Meter) { in.HasClientToken = false }, metering.Validation, []string{"'clientToken'", "AgentCore"}},
		{"AgentCore with allocations", runtime, "us-east-1", func(in *metering.Meter) { in.Allocations = []metering.Allocation{part(4)} }, metering.InvalidUsageAllocations, []string{"AgentCore"}},
		{"no agreement", task, "us-east-1", func(in *metering.Meter) { in.ProductCode, in.Dimension = "other00001", "x" }, metering.CustomerNotEntitled, []string{accountA, "other00001"}},
		{"the seller without an agreement, preview off", acmesTask, "us-east-1", func(*metering.Meter) {}, metering.CustomerNotEntitled, []string{"111122223333"}},
	} {
		m := market(t, "publisher-preview=false")
		m.PutProduct(metered(metering.Product{ID: 6, Seller: borealis, Code: "other00001", ProductID: "prod-other", Type: metering.Container}, "x"))
		in := meterOf(t)
		c.change(in)
		_, err := m.AdmitMeter(in, m.Workload(c.workload), m.RegionNamed(c.region).ID, at(t, noon))
		refused(t, c.name, err, c.kind, c.words...)
	}
}

func TestAdmitMeter(t *testing.T) {
	m := market(t)
	region := m.RegionNamed("us-east-1").ID
	for _, c := range []struct {
		name     string
		workload uint32
		change   func(in *metering.Meter)
	}{
		{"on EC2", instance, func(*metering.Meter) {}},
		{"on ECS, without ClientToken", task, func(in *metering.Meter) { in.ClientToken, in.HasClientToken = "", false }},
		{"ClientToken of 64 characters", task, func(in *metering.Meter) { in.ClientToken = strings.Repeat("é", 64) }},
		{"with allocations", instance, func(in *metering.Meter) { in.Allocations = []metering.Allocation{part(1, "a", "b"), part(3)} }},
		{"on AgentCore", runtime, func(*metering.Meter) {}},
		{"by the publisher, who needs no agreement", acmesTask, func(*metering.Meter) {}},
	} {
		in := meterOf(t)
		c.change(in)
		w := m.Workload(c.workload)
		l, err := m.AdmitMeter(in, w, region, at(t, noon))
		want := metering.Key{Product: container, Buyer: w.Account, Workload: c.workload, Dimension: 2, Region: region}
		if err != nil || l.Key != want || l.Hour != in.Timestamp.Hour() || l.Timestamp != in.Timestamp || l.Quantity != 4 || !l.Subscribed || l.Form != metering.ByWorkload || len(l.Allocations) != len(in.Allocations) {
			t.Errorf("%s: %+v, error %v", c.name, l, err)
		}
	}

	m = market(t, "agentcore-allocations=ignore")
	in := meterOf(t)
	in.Allocations = []metering.Allocation{part(1)} // would not add up
	if l, err := m.AdmitMeter(in, m.Workload(runtime), region, at(t, noon)); err != nil || l.Allocations != nil {
		t.Errorf("allocations from AgentCore are ignored: %+v, error %v", l, err)
	}
}

// Entitlement is checked on the first call of a workload for a product and not again (metering-api 2.6).
func TestEntitlementIsSticky(t *testing.T) {
	m := market(t)
	region := m.RegionNamed("us-east-1").ID
	a := *m.AgreementByID("agmt-6")
	a.EndingAt, a.EndedAt = a.Start.Add(time.Hour), a.Start.Add(2*time.Hour)
	m.PutAgreement(a)
	_, err := m.AdmitMeter(meterOf(t), m.Workload(task), region, at(t, noon))
	refused(t, "first call after the end", err, metering.CustomerNotEntitled)
	m.PutRegistration(metering.Registration{Workload: task, Product: container})
	if _, err := m.AdmitMeter(meterOf(t), m.Workload(task), region, at(t, noon)); err != nil {
		t.Errorf("a later call: %v", err)
	}
	_, err = m.AdmitMeter(meterOf(t), m.Workload(instance), region, at(t, noon))
	refused(t, "another workload", err, metering.CustomerNotEntitled)
	if m.Registered(task, legacy) || !m.Registered(task, container) {
		t.Error("a registration is for one product")
	}
}

// What a workload that goes on without an agreement meters must still not lie before its buyer's first one, nor between
// two; as in BatchMeterUsage an agreement begins with its hour.
func TestUsageLiesInAnAgreement(t *testing.T) {
	const hour = time.Hour
	type span struct{ start, ending, ended time.Duration } // before now; 0: open
	registered := []uint32{task}
	for _, c := range []struct {
		name       string
		agreements []span
		ago        time.Duration
		registered []uint32
		workload   uint32
		want       metering.Kind // Internal: it is admitted
	}{
		{"in the agreement", []span{{3 * hour, 0, 0}}, 2 * hour, nil, task, metering.Internal},
		{"before it", []span{{3 * hour, 0, 0}}, 4 * hour, nil, task, metering.TimestampOutOfBounds},
		{"before it, by a workload that runs", []span{{3 * hour, 0, 0}}, 4 * hour, registered, task, metering.TimestampOutOfBounds},
		{"in its first hour, before its start", []span{{3 * hour, 0, 0}}, 3*hour + 10*time.Minute, registered, task, metering.Internal},
		{"in the hour before", []span{{3 * hour, 0, 0}}, 3*hour + 21*time.Minute, registered, task, metering.TimestampOutOfBounds},
		{"between two", []span{{6 * hour, 5 * hour, 4 * hour}, {2 * hour, 0, 0}}, 4*hour + time.Minute, nil, task, metering.TimestampOutOfBounds},
		{"between two, by a workload that runs", []span{{6 * hour, 5 * hour, 4 * hour}, {2 * hour, 0, 0}}, 4*hour + time.Minute, registered, task, metering.TimestampOutOfBounds},
		{"between two, the first without a final hour", []span{{6 * hour, 0, 5 * hour}, {2 * hour, 0, 0}}, 4 * hour, registered, task, metering.TimestampOutOfBounds},
		{"in the first of two, by a workload that runs", []span{{6 * hour, 5 * hour, 4 * hour}, {2 * hour, 0, 0}}, 5*hour + time.Minute, registered, task, metering.Internal},
		{"before both", []span{{5 * hour, 4 * hour, 3 * hour}, {2 * hour, 0, 0}}, 5*hour + 30*time.Minute, registered, task, metering.TimestampOutOfBounds},
		{"in one of two that overlap", []span{{2 * hour, 0, 0}, {5 * hour, 0, 0}}, 4 * hour, registered, task, metering.Internal},
		{"after the last one, by a workload that runs", []span{{5 * hour, 4 * hour, 3 * hour}}, 2 * hour, registered, task, metering.Internal},
		{"after the last one, with another to come", []span{{5 * hour, 4 * hour, 3 * hour}, {-2 * hour, 0, 0}}, 2 * hour, registered, task, metering.Internal},
		{"after the last one", []span{{5 * hour, 4 * hour, 3 * hour}}, 2 * hour, nil, task, metering.CustomerNotEntitled},
		{"by the publisher", nil, 2 * hour, nil, acmesTask, metering.Internal},
	} {
		m := market(t)
		m.PutProduct(metered(metering.Product{ID: 6, Seller: acme, Code: "other00001", ProductID: "prod-other", Type: metering.Container}, "jobs"))
		now := at(t, noon)
		for i, s := range c.agreements {
			a := metering.Agreement{ID: uint32(10 + i), Product: 6, Buyer: buyerA, AgreementID: fmt.Sprint("other-", i), LicenseARN: fmt.Sprint(arn, "other-", i), Start: now.Add(-s.start)}
			if s.ending != 0 {
				a.EndingAt = now.Add(-s.ending)
			}
			if s.ended != 0 {
				a.EndedAt = now.Add(-s.ended)
			}
			m.PutAgreement(a)
		}
		for _, w := range c.registered {
			m.PutRegistration(metering.Registration{Workload: w, Product: 6})
		}
		for _, dry := range []bool{false, true} {
			in := meterOf(t)
			in.ProductCode, in.Timestamp, in.DryRun = "other00001", now.Add(-c.ago), dry
			_, err := m.AdmitMeter(in, m.Workload(c.workload), m.RegionNamed("us-east-1").ID, now)
			if c.want != metering.Internal {
				refused(t, c.name, err, c.want)
			} else if err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
		}
	}
}

func TestAdmitRegister(t *testing.T) {
	good := metering.Register{ProductCode: "container01", HasProductCode: true, PublicKeyVersion: 2, HasPublicKeyVersion: true, Nonce: "n", HasNonce: true}
	for _, c := range []struct {
		name     string
		workload uint32
		region   string
		change   func(in *metering.Register)
		kind     metering.Kind // Internal: it is admitted
		words    []string
	}{
		{"current key", task, "us-east-1", func(in *metering.Register) {}, metering.Internal, nil},
		{"expired key", task, "us-east-1", func(in *metering.Register) { in.PublicKeyVersion = 1 }, metering.Internal, nil},
		{"nonce of 255 characters", task, "us-east-1", func(in *metering.Register) { in.Nonce = strings.Repeat("é", 255) }, metering.Internal, nil},
		{"by the publisher", acmesTask, "us-east-1", func(in *metering.Register) {}, metering.Internal, nil},
		{"nonce of 256 characters", task, "us-east-1", func(in *metering.Register) { in.Nonce = strings.Repeat("é", 256) }, metering.Validation, []string{"'nonce'", "255"}},
		{"no product code", task, "us-east-1", func(in *metering.Register) { in.ProductCode, in.HasProductCode = "", false }, metering.Validation, []string{"'productCode'", "null"}},
		{"empty product code", task, "us-east-1", func(in *metering.Register) { in.ProductCode = "" }, metering.InvalidProductCode, []string{`""`}},
		{"unknown product code", task, "us-east-1", func(in *metering.Register) { in.ProductCode = "unknown" }, metering.InvalidProductCode, nil},
		{"no key version", task, "us-east-1", func(in *metering.Register) { in.HasPublicKeyVersion = false }, metering.Validation, []string{"'publicKeyVersion'", "null"}},
		{"key version 0", task, "us-east-1", func(in *metering.Register) { in.PublicKeyVersion = 0 }, metering.Validation, []string{"'publicKeyVersion'", "1"}},
		{"key version -1", task, "us-east-1", func(in *metering.Register) { in.PublicKeyVersion = -1 }, metering.Validation, []string{"'publicKeyVersion'", "1"}},
		{"unknown key version", task, "us-east-1", func(in *metering.Register) { in.PublicKeyVersion = 3 }, metering.InvalidPublicKeyVersion, []string{"3", "container01"}},
		{"on EC2", instance, "us-east-1", func(in *metering.Register) {}, metering.PlatformNotSupported, []string{"This operation can only be called from within an ECS task or an EKS pod"}},
		{"on AgentCore", runtime, "us-east-1", func(in *metering.Register) {}, metering.PlatformNotSupported, nil},
		{"another region", task, "us-west-2", func(in *metering.Register) {}, metering.InvalidRegion, []string{"us-east-1", "us-west-2"}},
		{"EKS where it is not offered", pod, "af-south-1", func(in *metering.Register) {}, metering.DisabledAPI, []string{"af-south-1"}},
		{"no agreement", task, "us-east-1", func(in *metering.Register) { in.ProductCode = "alien00002" }, metering.CustomerNotEntitled, nil},
	} {
		m := market(t)
		m.PutProduct(metering.Product{ID: 6, Seller: borealis, Code: "alien00002", ProductID: "prod-alien2", Type: metering.Container})
		in := good
		c.change(&in)
		p, k, err := m.AdmitRegister(&in, m.Workload(c.workload), m.RegionNamed(c.region).ID, at(t, noon))
		if c.kind != metering.Internal {
			refused(t, c.name, err, c.kind, c.words...)
		} else if err != nil || p.ID != container || k.Version != in.PublicKeyVersion {
			t.Errorf("%s: product %v, key %v, error %v", c.name, p, k, err)
		}
	}
	refused(t, "RegisterUsage from no workload", metering.NotOnWorkload(metering.RegisterUsage), metering.PlatformNotSupported)
	refused(t, "MeterUsage from no workload", metering.NotOnWorkload(metering.MeterUsage), metering.CustomerNotEntitled, "MeterUsage")
}

func TestValidLicenseARN(t *testing.T) {
	for s, ok := range map[string]bool{
		"arn:aws:license-manager::111122223333:license:l-0123456789abcdef": true,
		"arn:aws:license-manager:us-east-1:111122223333:license:l-0":       true,
		"arn:aws-us-gov:license-manager::111122223333:license/lic-1":       true,
		"arn:aws-cn:x:::y": true,
		"arn:aws:license-manager::111122223333:" + strings.Repeat("a", 1024): true,
		"arn:aws:license-manager::111122223333:" + strings.Repeat("a", 1025): false,
		"arn:aws:" + strings.Repeat("s", 63) + ":::r":                        true,
		"arn:aws:" + strings.Repeat("s", 64) + ":::r":                        false,
		"arn:aws:s:" + strings.Repeat("r", 63) + "::r":                       true,
		"arn:aws:s:" + strings.Repeat("r", 64) + "::r":                       false,
		"arn:aws:s::" + strings.Repeat("1", 64) + ":r":                       false,
		"arn:aws:s:::":      false,
		"arn:aws:s:::-r":    false,
		"arn:aws:s::r":      false,
		"arn:aws:::r":       false,
		"arn:aws:.s:::r":    false,
		"arn:aws1:s:::r":    false,
		"arn:amazon:s:::r":  false,
		"aws:s:::r":         false,
		"arn:aws:s:::r r":   false,
		"arn:aws:s:::r\n":   false,
		" arn:aws:s:::r":    false,
		"arn:aws:s:::ré":    false,
		"":                  false,
		"l-0123456789abcde": false,
	} {
		if metering.ValidLicenseARN(s) != ok {
			t.Errorf("ValidLicenseARN(%.80q) is not %v", s, ok)
		}
	}
}
