package meterdtest_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/marketplacemetering"
	"github.com/aws/aws-sdk-go-v2/service/marketplacemetering/types"
	"github.com/golang-jwt/jwt/v5"
	"github.com/meterd/meterd/internal/adminapi"
	"github.com/meterd/meterd/internal/sandbox"
	"github.com/meterd/meterd/meterdtest"
)

// row is one of the behavioural tests that a faithful server must pass (metering-api 5).
type row struct {
	id, what string
	now      string            // 2026-11-23T15:20:00Z if empty
	config   meterdtest.Config // its Now is the row's
	test     func(t *testing.T, m *market)
}

// TestTable drives each row through the AWS SDK for Go, or with signed requests of its own where no SDK would send
// such a thing. None is left out.
func TestTable(t *testing.T) {
	have := map[string]bool{}
	for _, r := range table {
		if have[r.id] {
			t.Errorf("%s stands twice in the table", r.id)
		}
		have[r.id] = true
	}
	for i := 1; i <= 90; i++ {
		if id := fmt.Sprintf("T%02d", i); !have[id] {
			t.Errorf("%s is missing", id)
		}
		delete(have, fmt.Sprintf("T%02d", i))
	}
	for id := range have {
		t.Errorf("%s is no row of the table", id)
	}
	run(t, table)
}

func run(t *testing.T, rows []row) {
	for _, r := range rows {
		t.Run(r.id, func(t *testing.T) {
			if r.id != "T89" { // it sets the environment
				t.Parallel()
			}
			t.Log(r.what)
			r.test(t, openMarket(t, r.now, r.config))
		})
	}
}

// first returns a function that is true the first n times it is asked.
func first(n int) func() bool {
	var mu sync.Mutex
	return func() bool {
		mu.Lock()
		defer mu.Unlock()
		n--
		return n >= 0
	}
}

// refuseFirst has the first n calls fail with the exception.
func refuseFirst(n int, code string) func(string) string {
	failing := first(n)
	return func(string) string {
		if failing() {
			return code
		}
		return ""
	}
}

func allocation(quantity int32, tags ...string) types.UsageAllocation {
	a := types.UsageAllocation{AllocatedUsageQuantity: aws.Int32(quantity)}
	for i := 0; i < len(tags); i += 2 {
		a.Tags = append(a.Tags, types.Tag{Key: aws.String(tags[i]), Value: aws.String(tags[i+1])})
	}
	return a
}

func allocated(r types.UsageRecord, all ...types.UsageAllocation) types.UsageRecord {
	r.UsageAllocations = all
	return r
}

var table = []row{
	{id: "T01", what: "any operation with correct target, content type and signature: 200, AWS JSON 1.1, a request id", test: func(t *testing.T, m *market) {
		out, err := m.seller.BatchMeterUsage(m.ctx, input(P1))
		if err != nil {
			t.Fatal(err)
		}
		if id, ok := middleware.GetRequestIDMetadata(out.ResultMetadata); !ok || !uuid.MatchString(id) {
			t.Errorf("the SDK sees the request id %q", id)
		}
		task := m.workload(m.a, "ecs", 0)
		for operation, r := range map[string]struct {
			raw
			body string
		}{
			"BatchMeterUsage": {raw{}, `{"ProductCode":"` + P1 + `","UsageRecords":[]}`},
			"MeterUsage":      {as(task), `{"ProductCode":"` + container + `","UsageDimension":"jobs","Timestamp":1795446000}`},
			"RegisterUsage":   {as(task), `{"ProductCode":"` + hourly + `","PublicKeyVersion":2}`},
			"ResolveCustomer": {raw{}, `{"RegistrationToken":"` + m.subscription(m.a, P1).RegistrationToken + `"}`},
		} {
			if a := m.send(r.raw, operation, r.body); a.status != 200 {
				t.Errorf("%s: %d %s", operation, a.status, a.body)
			}
		}
	}},
	{id: "T02", what: "target AWSMPMeteringService.Nope", test: func(t *testing.T, m *market) {
		m.sendRefused(raw{target: "AWSMPMeteringService.Nope"}, "", "{}", "UnknownOperationException", 400, "AWSMPMeteringService.Nope")
	}},
	{id: "T03", what: "body {", test: func(t *testing.T, m *market) {
		for _, operation := range []string{"BatchMeterUsage", "ResolveCustomer"} {
			m.sendRefused(raw{}, operation, "{", "SerializationException", 400)
		}
		for _, operation := range []string{"MeterUsage", "RegisterUsage"} {
			m.sendRefused(as(m.workload(m.a, "eks", 0)), operation, "{", "SerializationException", 400)
		}
	}},
	{id: "T04", what: "signature scoped to metering.marketplace", test: func(t *testing.T, m *market) {
		m.sendRefused(raw{service: "metering.marketplace"}, "BatchMeterUsage", "{}", "InvalidSignatureException", 400, "Credential should be scoped to correct service: 'aws-marketplace'.")
	}},
	{id: "T05", what: "unknown access key", test: func(t *testing.T, m *market) {
		stranger := m.Client(meterdtest.Credentials{AccessKeyID: "AKIAIOSFODNN7EXAMPLE", SecretAccessKey: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"}, "", "")
		_, err := stranger.BatchMeterUsage(m.ctx, input(P1), once)
		refused(t, err, "UnrecognizedClientException", 400, "The security token included in the request is invalid")
	}},
	{id: "T06", what: "the caller lacks the action", test: func(t *testing.T, m *market) {
		powerless := m.Client(m.Description.Sellers[0].Powerless, "", "")
		_, batch := powerless.BatchMeterUsage(m.ctx, input(P1, m.users(3, "14:10")), once)
		_, meter := powerless.MeterUsage(m.ctx, m.jobs(1, "14:10"), once)
		_, register := powerless.RegisterUsage(m.ctx, registration(2, ""), once)
		_, resolve := m.resolve(powerless, m.subscription(m.a, P1).RegistrationToken)
		for operation, err := range map[string]error{"BatchMeterUsage": batch, "MeterUsage": meter, "RegisterUsage": register, "ResolveCustomer": resolve} {
			refused(t, err, "AccessDeniedException", 400, "is not authorized to perform: aws-marketplace:"+operation, "arn:aws:iam::"+m.Description.Sellers[0].AccountID+":user/")
		}
		m.nothing()
	}},
	{id: "T07", what: "one legacy record: Success, a UUID, echoed, UnprocessedRecords []", test: func(t *testing.T, m *market) {
		m.want(m.batch(P1, m.users(3, "14:10")), success)
		m.sum(meterdtest.Usage{ProductCode: P1, Dimension: "users"}, 3)
	}},
	{id: "T08", what: "repeated exactly: Success, same id, billed once", test: func(t *testing.T, m *market) {
		one := m.batch(P1, m.users(3, "14:10"))
		two := m.want(m.batch(P1, m.users(3, "14:10")), success)
		m.same(true, one.id(0), two.id(0))
		m.sum(meterdtest.Usage{}, 3)
	}},
	{id: "T09", what: "another quantity: DuplicateRecord, what is stored stays", test: func(t *testing.T, m *market) {
		m.batch(P1, m.users(3, "14:10"))
		m.want(m.batch(P1, m.users(5, "14:10")), duplicate)
		m.sum(meterdtest.Usage{}, 3)
	}},
	{id: "T10", what: "the same hour, same quantity: same id", test: func(t *testing.T, m *market) {
		one := m.batch(P1, m.users(3, "14:10"))
		two := m.want(m.batch(P1, m.users(3, "14:55")), success)
		m.same(true, one.id(0), two.id(0))
		m.sum(meterdtest.Usage{}, 3)
	}},
	{id: "T11", what: "the same hour, other quantity: DuplicateRecord", test: func(t *testing.T, m *market) {
		m.batch(P1, m.users(3, "14:10"))
		m.want(m.batch(P1, m.users(4, "14:55")), duplicate)
		m.sum(meterdtest.Usage{}, 3)
	}},
	{id: "T12", what: "another hour: a new id, the total adds", test: func(t *testing.T, m *market) {
		one := m.batch(P1, m.users(3, "14:10"))
		two := m.want(m.batch(P1, m.users(3, "13:10")), success)
		m.same(false, one.id(0), two.id(0))
		m.sum(meterdtest.Usage{}, 6)
	}},
	{id: "T13", what: "another dimension: a new id", test: func(t *testing.T, m *market) {
		one := m.batch(P1, m.users(3, "14:10"))
		two := m.want(m.batch(P1, m.record(m.cust1(), "gb", 3, "14:10")), success)
		m.same(false, one.id(0), two.id(0))
		m.sum(meterdtest.Usage{Dimension: "gb"}, 3)
		m.sum(meterdtest.Usage{}, 6)
	}},
	{id: "T14", what: "Quantity left out is 0", test: func(t *testing.T, m *market) {
		r := m.users(0, "14:10")
		r.Quantity = nil
		one := m.want(m.batch(P1, r), success)
		two := m.want(m.batch(P1, m.users(0, "14:10")), success)
		m.same(true, one.id(0), two.id(0))
		if n := m.Records(meterdtest.Usage{}); n != 1 {
			t.Errorf("%d records are stored, want 1", n)
		}
	}},
	{id: "T15", what: "quantity 0 takes the hour", test: func(t *testing.T, m *market) {
		m.want(m.batch(P1, m.users(0, "14:10")), success)
		m.want(m.batch(P1, m.users(7, "14:10")), duplicate)
		m.sum(meterdtest.Usage{}, 0)
	}},
	{id: "T16", what: "a subset of an accepted batch again: the same ids", test: func(t *testing.T, m *market) {
		one := m.batch(P1, m.users(1, "14:10"), m.users(2, "13:10"), m.users(3, "12:10"), m.record(m.cust1(), "gb", 4, "14:10"))
		two := m.want(m.batch(P1, m.record(m.cust1(), "gb", 4, "14:10"), m.users(2, "13:10")), success, success)
		m.same(true, one.id(3), two.id(0))
		m.same(true, one.id(1), two.id(1))
		m.sum(meterdtest.Usage{}, 10)
	}},
	{id: "T17", what: "aged 30 h", test: func(t *testing.T, m *market) {
		m.refuse("TimestampOutOfBoundsException", P1, m.users(3, "2026-11-22T09:20:00Z"))
	}},
	{id: "T18", what: "24 good records and one aged 30 h: none is stored", test: func(t *testing.T, m *market) {
		var good []types.UsageRecord
		for i := range 12 {
			at := moment(t, "15:10").Add(-time.Duration(i) * time.Hour).Format(time.RFC3339)
			good = append(good, m.users(1, at), m.record(m.cust1(), "gb", 1, at))
		}
		m.refuse("TimestampOutOfBoundsException", P1, append(good[:24:24], m.users(3, "2026-11-22T09:20:00Z"))...)
		m.nothing()
		m.want(m.batch(P1, good...), strings.Fields(strings.Repeat(success+" ", 24))...)
		m.sum(meterdtest.Usage{}, 24)
	}},
	{id: "T19", what: "aged 20 h", test: func(t *testing.T, m *market) {
		m.want(m.batch(P1, m.users(3, "2026-11-22T19:20:00Z")), success)
	}},
	{id: "T20", what: "3 h in the future", test: func(t *testing.T, m *market) {
		m.refuse("TimestampOutOfBoundsException", P1, m.users(3, "18:20"))
	}},
	{id: "T21", what: "last month's record at 05:00 on the 1st", now: "2026-12-01T05:00:00Z", test: func(t *testing.T, m *market) {
		m.want(m.batch(P1, m.users(3, "2026-11-30T22:00:00Z")), success)
	}},
	{id: "T22", what: "last month's record at 06:00 on the 1st, though 6.5 h old", now: "2026-12-01T06:00:00Z", test: func(t *testing.T, m *market) {
		m.refuse("TimestampOutOfBoundsException", P1, m.users(3, "2026-11-30T23:30:00Z"))
	}},
	{id: "T23", what: "this month's record at 06:30 on the 1st", now: "2026-12-01T06:30:00Z", test: func(t *testing.T, m *market) {
		m.want(m.batch(P1, m.users(3, "2026-12-01T00:10:00Z")), success)
	}},
	{id: "T24", what: "dimension Users", test: func(t *testing.T, m *market) {
		m.refuse("InvalidUsageDimensionException", P1, m.record(m.cust1(), "gb", 1, "14:10"), m.record(m.cust1(), "Users", 3, "14:10"))
		m.nothing()
	}},
	{id: "T25", what: "product code not owned", test: func(t *testing.T, m *market) {
		m.refuse("InvalidProductCodeException", sandbox.OtherSeller, m.record(m.cust1(), "units", 3, "14:10"))
		m.refuse("InvalidProductCodeException", "cqcvf9f0ugw8rkbgmf1c9dxyz", m.users(3, "14:10"))
	}},
	{id: "T26", what: "product id in place of the product code", test: func(t *testing.T, m *market) {
		m.refuse("InvalidProductCodeException", m.product(P1).ProductID, m.users(3, "14:10"))
	}},
	{id: "T27", what: "unknown CustomerIdentifier: the whole batch", test: func(t *testing.T, m *market) {
		m.refuse("InvalidCustomerIdentifierException", P1, m.users(3, "14:10"), m.record(customer("ifAPi5AcF3"), "users", 3, "14:10"))
		m.nothing()
	}},
	{id: "T28", what: "buyer B, known but not subscribed", test: func(t *testing.T, m *market) {
		r := m.want(m.batch(P1, m.record(account(m.b.AccountID), "users", 3, "14:10")), notSubscribed)
		if r[0].MeteringRecordId != nil {
			t.Errorf("a record that is not stored has the id %s", r.id(0))
		}
		m.nothing()
	}},
	{id: "T29", what: "A and B in one batch", test: func(t *testing.T, m *market) {
		m.want(m.batch(P1, m.record(account(m.a.AccountID), "users", 3, "14:10"), m.record(account(m.b.AccountID), "users", 3, "14:10")), success, notSubscribed)
		m.sum(meterdtest.Usage{}, 3)
	}},
	{id: "T30", what: "both identifiers in a record", test: func(t *testing.T, m *market) {
		r := m.users(3, "14:10")
		r.CustomerAWSAccountId = aws.String(m.a.AccountID)
		m.refuse("InvalidCustomerIdentifierException", P1, m.users(1, "13:10"), r)
		m.nothing()
	}},
	{id: "T31", what: "neither identifier", test: func(t *testing.T, m *market) {
		r := m.users(3, "14:10")
		r.CustomerIdentifier = nil
		m.refuse("InvalidCustomerIdentifierException", P1, m.users(1, "13:10"), r)
		m.nothing()
	}},
	{id: "T32", what: "26 records", test: func(t *testing.T, m *market) {
		var all []types.UsageRecord
		for i := range 26 {
			all = append(all, m.users(1, moment(t, "15:10").Add(-time.Duration(i/2)*time.Hour).Format(time.RFC3339)))
		}
		m.refuse("ValidationException", P1, all...)
		m.nothing()
	}},
	{id: "T33", what: "no records", test: func(t *testing.T, m *market) {
		m.batch(P1)
		if a := m.send(raw{}, "BatchMeterUsage", `{"ProductCode":"`+P1+`","UsageRecords":[]}`); a.body != `{"Results":[],"UnprocessedRecords":[]}` {
			t.Errorf("the answer is %s", a.body)
		}
	}},
	{id: "T34", what: "a body of 1 MB with 25 records", test: func(t *testing.T, m *market) {
		var all []types.UsageRecord
		long := strings.Repeat("v", 250)
		for i := range 25 {
			r := m.users(40, moment(t, "15:10").Add(-time.Duration(i/2)*time.Hour).Format(time.RFC3339))
			for j := range 40 {
				r.UsageAllocations = append(r.UsageAllocations, allocation(1, "a", fmt.Sprint(j), "b", long, "c", long, "d", long, "e", long))
			}
			all = append(all, r)
		}
		_, err := m.seller.BatchMeterUsage(m.ctx, input(P1, all...), once)
		refused(t, err, "RequestEntityTooLargeException", 413)
		m.nothing()
	}},
	{id: "T35", what: "quantity -1, 2147483648, 1.5", test: func(t *testing.T, m *market) {
		m.refuse("ValidationException", P1, m.users(-1, "14:10"))
		for quantity, code := range map[string]string{"-1": "ValidationException", "2147483648": "SerializationException", "1.5": "SerializationException"} {
			m.sendRefused(raw{}, "BatchMeterUsage", `{"ProductCode":"`+P1+`","UsageRecords":[{"Timestamp":1795446000,"Dimension":"users","CustomerAWSAccountId":"`+m.a.AccountID+`","Quantity":`+quantity+`}]}`, code, 400)
		}
		m.nothing()
		m.want(m.batch(P1, m.users(2147483647, "14:10")), success)
		m.sum(meterdtest.Usage{}, 2147483647)
	}},
	{id: "T36", what: "allocations 2+1 of 3: echoed", test: func(t *testing.T, m *market) {
		m.want(m.batch(P1, allocated(m.users(3, "14:10"), allocation(2, "BusinessUnit", "IT", "AccountId", "123456789"), allocation(1, "BusinessUnit", "Finance", "AccountId", "987654321"))), success)
		page, err := adminapi.ListUsage.Do(m.ctx, m.admin(), adminapi.UsagePaging{})
		if err != nil || len(page.Records) != 1 || len(page.Records[0].Allocations) != 2 || page.Records[0].Allocations[1].Tags["BusinessUnit"] != "Finance" {
			t.Errorf("stored is %+v, error %v", page.Records, err)
		}
	}},
	{id: "T37", what: "allocations 2+2 of 3", test: func(t *testing.T, m *market) {
		m.refuse("InvalidUsageAllocationsException", P1, allocated(m.users(3, "14:10"), allocation(2, "team", "a"), allocation(2, "team", "b")))
	}},
	{id: "T38", what: "the same tag set in another order", test: func(t *testing.T, m *market) {
		m.refuse("InvalidUsageAllocationsException", P1, allocated(m.users(3, "14:10"), allocation(2, "team", "a", "stage", "test"), allocation(1, "stage", "test", "team", "a")))
	}},
	{id: "T39", what: "one tagged and one untagged allocation", test: func(t *testing.T, m *market) {
		m.want(m.batch(P1, allocated(m.users(3, "14:10"), allocation(2, "team", "a"), allocation(1))), success)
	}},
	{id: "T40", what: "two untagged allocations", test: func(t *testing.T, m *market) {
		m.refuse("InvalidUsageAllocationsException", P1, allocated(m.users(3, "14:10"), allocation(2), allocation(1)))
	}},
	{id: "T41", what: "6 tags on one allocation", test: func(t *testing.T, m *market) {
		m.refuse("InvalidTagException", P1, allocated(m.users(3, "14:10"), allocation(3, "a", "1", "b", "1", "c", "1", "d", "1", "e", "1", "f", "1")))
	}},
	{id: "T42", what: "tag value a|b or empty", test: func(t *testing.T, m *market) {
		m.refuse("InvalidTagException", P1, allocated(m.users(3, "14:10"), allocation(3, "team", "a|b")))
		m.refuse("InvalidTagException", P1, allocated(m.users(3, "14:10"), allocation(3, "team", "")))
	}},
	{id: "T43", what: "2501 allocations", test: func(t *testing.T, m *market) {
		var all []types.UsageAllocation
		for i := range 2501 {
			all = append(all, allocation(1, "n", fmt.Sprint(i)))
		}
		m.refuse("ValidationException", P1, allocated(m.users(2501, "14:10"), all...))
		m.want(m.batch(P1, allocated(m.users(2500, "14:10"), all[:2500]...)), success)
	}},
	{id: "T44", what: "a licence and its account, no ProductCode: LicenseArn is echoed", test: func(t *testing.T, m *market) {
		m.want(m.batch("", m.record(m.L1(), "requests", 3, "14:10")), success)
		m.sum(meterdtest.Usage{LicenseARN: m.subscription(m.a, P2).LicenseARN}, 3)
	}},
	{id: "T45", what: "a licence with ProductCode too", test: func(t *testing.T, m *market) {
		m.refuse("InvalidProductCodeException", P2, m.record(m.L1(), "requests", 3, "14:10"))
		m.refuse("InvalidProductCodeException", P2, m.record(account(m.a.AccountID), "requests", 3, "14:10"))
	}},
	{id: "T46", what: "a licence that is malformed or unknown: the whole batch", test: func(t *testing.T, m *market) {
		good := m.record(m.L1(), "requests", 3, "14:10")
		m.refuse("InvalidLicenseException", "", good, m.record(licence("license/lic-1", m.a.AccountID), "requests", 3, "14:10"))
		m.refuse("InvalidLicenseException", "", good, m.record(licence("arn:aws:license-manager::111122223333:license:l-0123", m.a.AccountID), "requests", 3, "14:10"))
		m.nothing()
	}},
	{id: "T47", what: "a licence with another buyer's account", test: func(t *testing.T, m *market) {
		m.refuse("InvalidLicenseException", "", m.record(licence(m.subscription(m.a, P2).LicenseARN, m.b.AccountID), "requests", 3, "14:10"))
	}},
	{id: "T48", what: "licences of two products in a batch", test: func(t *testing.T, m *market) {
		m.refuse("InvalidLicenseException", "", m.record(m.L1(), "requests", 3, "14:10"), m.record(licence(m.subscription(m.a, P1).LicenseARN, m.a.AccountID), "users", 3, "14:10"))
		m.nothing()
	}},
	{id: "T49", what: "two licences of one buyer, same dimension and hour: two ids", test: func(t *testing.T, m *market) {
		second := m.Subscribe(P2, m.a.AccountID)
		r := m.want(m.batch("", m.record(m.L1(), "requests", 3, "15:10"), m.record(licence(second.LicenseARN, m.a.AccountID), "requests", 3, "15:10")), success, success)
		m.same(false, r.id(0), r.id(1))
		m.sum(meterdtest.Usage{ProductCode: P2}, 6)
	}},
	{id: "T50", what: "the same key in another region: Success, another id", test: func(t *testing.T, m *market) {
		r := m.record(m.L1(), "requests", 3, "14:10")
		one := m.batch("", r)
		two := m.want(m.batchAs(m.Client(m.Description.Sellers[0].Credentials, "", "eu-west-1"), "", r), success)
		m.same(false, one.id(0), two.id(0))
		m.sum(meterdtest.Usage{}, 6)
		m.sum(meterdtest.Usage{Region: "eu-west-1"}, 3)
	}},
	{id: "T51", what: "30 minutes after the end began, usage from before it", test: func(t *testing.T, m *market) {
		m.Unsubscribe(m.subscription(m.a, P1).AgreementID)
		m.Unsubscribe(m.subscription(m.a, P2).AgreementID)
		m.Clock.Advance(30 * time.Minute)
		m.want(m.batch(P1, m.users(3, "15:10")), success)
		m.want(m.batch("", m.record(m.L1(), "requests", 3, "15:10")), success)
	}},
	{id: "T52", what: "61 minutes after the end began", test: func(t *testing.T, m *market) {
		m.Unsubscribe(m.subscription(m.a, P1).AgreementID)
		m.Unsubscribe(m.subscription(m.a, P2).AgreementID)
		m.Clock.Advance(61 * time.Minute)
		m.want(m.batch(P1, m.users(3, "15:10")), notSubscribed)
		m.want(m.batch("", m.record(m.L1(), "requests", 3, "15:10")), notSubscribed)
		m.nothing()
	}},
	// The row also says that no unsubscribe-success event is sent; the service sends no events yet.
	{id: "T53", what: "subscribed again inside the hour: Success resumes", test: func(t *testing.T, m *market) {
		m.Unsubscribe(m.subscription(m.a, P1).AgreementID)
		m.Clock.Advance(30 * time.Minute)
		m.want(m.batch(P1, m.users(3, "15:45")), notSubscribed)
		m.Subscribe(P1, m.a.AccountID)
		m.want(m.batch(P1, m.users(3, "15:50")), success)
		m.Clock.Advance(2 * time.Hour)
		m.want(m.batch(P1, m.users(3, "16:50")), success)
	}},
	{id: "T54", what: "11 calls of BatchMeterUsage in a second: ThrottlingException, 400", config: meterdtest.Config{AWSLimits: true}, test: func(t *testing.T, m *market) {
		for i := range 1000 { // as many as a slow machine needs to be faster than 10 a second
			_, err := m.seller.BatchMeterUsage(m.ctx, input(P1), once)
			if err == nil {
				continue
			}
			refused(t, err, "ThrottlingException", 400)
			if i < 10 {
				t.Errorf("call %d is refused already", i+1)
			}
			// Quotas are of an account, a region and an operation.
			if _, err := m.Client(m.Description.Sellers[0].Credentials, "", "eu-west-1").BatchMeterUsage(m.ctx, input(P1), once); err != nil {
				t.Errorf("in another region: %v", err)
			}
			if _, err := m.Seller("Borealis").BatchMeterUsage(m.ctx, input(sandbox.OtherSeller), once); err != nil {
				t.Errorf("of another account: %v", err)
			}
			if _, err := m.resolve(m.seller, m.subscription(m.a, P1).RegistrationToken); err != nil {
				t.Errorf("another operation: %v", err)
			}
			retried := openMarket(t, "", meterdtest.Config{Refuse: refuseFirst(2, "ThrottlingException")})
			if _, err := retried.seller.BatchMeterUsage(m.ctx, input(P1, retried.users(3, "14:10")), impatient); err != nil {
				t.Errorf("the SDK does not try again: %v", err)
			}
			retried.sum(meterdtest.Usage{}, 3)
			return
		}
		t.Error("a thousand calls were taken")
	}},
	{id: "T55", what: "a fault for k records: those in UnprocessedRecords, Success when sent again", config: meterdtest.Config{Unprocessed: func() func(string, string, int32) bool {
		failing := first(2)
		return func(productCode, dimension string, quantity int32) bool {
			return productCode == P1 && dimension == "users" && quantity >= 100 && failing()
		}
	}()}, test: func(t *testing.T, m *market) {
		sent := []types.UsageRecord{m.users(1, "12:10"), m.users(100, "13:10"), allocated(m.users(101, "14:10"), allocation(101, "team", "a")), m.users(4, "15:10")}
		out, err := m.seller.BatchMeterUsage(m.ctx, input(P1, sent...))
		if err != nil || len(out.Results) != 2 || len(out.UnprocessedRecords) != 2 {
			t.Fatalf("%+v, error %v", out, err)
		}
		m.want(out.Results, success, success)
		m.sum(meterdtest.Usage{}, 5)
		m.want(m.batch(P1, out.UnprocessedRecords...), success, success)
		m.sum(meterdtest.Usage{}, 206)
		m.want(m.batch(P1, sent...), success, success, success, success)
		m.sum(meterdtest.Usage{}, 206)
	}},
	{id: "T56", what: "a fault of the service: InternalServiceErrorException, 500, the SDK tries again", config: meterdtest.Config{Refuse: refuseFirst(3, "InternalServiceErrorException")}, test: func(t *testing.T, m *market) {
		_, err := m.seller.BatchMeterUsage(m.ctx, input(P1, m.users(3, "14:10")), once)
		refused(t, err, "InternalServiceErrorException", 500)
		if strings.Contains(err.Error(), "injected") {
			t.Errorf("the reason is told: %v", err)
		}
		m.nothing()
		if _, err := m.seller.BatchMeterUsage(m.ctx, input(P1, m.users(3, "14:10")), impatient); err != nil {
			t.Errorf("the SDK does not try again: %v", err)
		}
		m.sum(meterdtest.Usage{}, 3)
	}},
	{id: "T57", what: "a region without the service", test: func(t *testing.T, m *market) {
		elsewhere := m.Client(m.Description.Sellers[0].Credentials, "", "ca-west-1")
		_, err := elsewhere.BatchMeterUsage(m.ctx, input(P1, m.users(3, "14:10")), once)
		refused(t, err, "DisabledApiException", 400, "ca-west-1")
		_, err = m.resolve(elsewhere, m.subscription(m.a, P1).RegistrationToken)
		refused(t, err, "DisabledApiException", 400)
		m.nothing()
	}},
	{id: "T58", what: "ResolveCustomer of a legacy product: four members", test: func(t *testing.T, m *market) {
		s := m.subscription(m.a, P1)
		out, err := m.resolve(m.seller, s.RegistrationToken)
		if err != nil {
			t.Fatal(err)
		}
		if aws.ToString(out.ProductCode) != P1 || aws.ToString(out.CustomerAWSAccountId) != m.a.AccountID || aws.ToString(out.CustomerIdentifier) != s.CustomerIdentifier || aws.ToString(out.LicenseArn) != s.LicenseARN {
			t.Errorf("it is resolved to %+v, want %+v", out, s)
		}
		m.want(m.batch(P1, m.record(customer(*out.CustomerIdentifier), "users", 3, "14:10")), success)
	}},
	{id: "T59", what: "ResolveCustomer of a concurrent product: no CustomerIdentifier", test: func(t *testing.T, m *market) {
		s := m.subscription(m.a, P2)
		out, err := m.resolve(m.seller, s.RegistrationToken)
		if err != nil {
			t.Fatal(err)
		}
		if aws.ToString(out.ProductCode) != P2 || aws.ToString(out.CustomerAWSAccountId) != m.a.AccountID || aws.ToString(out.LicenseArn) != s.LicenseARN {
			t.Errorf("it is resolved to %+v, want %+v", out, s)
		}
		a := m.send(raw{}, "ResolveCustomer", `{"RegistrationToken":"`+s.RegistrationToken+`"}`)
		if _, ok := a.members["CustomerIdentifier"]; ok || a.status != 200 {
			t.Errorf("the answer is %s", a.body)
		}
	}},
	{id: "T60", what: "resolved twice: the same answer", test: func(t *testing.T, m *market) {
		s := m.subscription(m.a, P1)
		body := `{"RegistrationToken":"` + s.RegistrationToken + `"}`
		one := m.send(raw{}, "ResolveCustomer", body)
		m.Clock.Advance(4*time.Hour - time.Millisecond)
		if two := m.send(raw{}, "ResolveCustomer", body); one.status != 200 || two.body != one.body {
			t.Errorf("first %s, then %s", one.body, two.body)
		}
	}},
	{id: "T61", what: "after 4 h", test: func(t *testing.T, m *market) {
		s := m.subscription(m.a, P1)
		_, err := m.resolve(m.seller, s.ExpiredRegistrationToken)
		refused(t, err, "ExpiredTokenException", 400)
		fresh := m.RegistrationToken(P1, m.a.AccountID)
		m.Clock.Advance(4 * time.Hour)
		_, err = m.resolve(m.seller, fresh)
		refused(t, err, "ExpiredTokenException", 400)
	}},
	{id: "T62", what: "token asdfa", test: func(t *testing.T, m *market) {
		_, err := m.resolve(m.seller, "asdfa")
		refused(t, err, "InvalidTokenException", 400, "Registration token is invalid")
	}},
	{id: "T63", what: "token of another seller's product", test: func(t *testing.T, m *market) {
		for _, s := range []string{m.subscription(m.a, P1).RegistrationToken, m.subscription(m.a, P1).ExpiredRegistrationToken} {
			_, err := m.resolve(m.Seller("Borealis"), s)
			refused(t, err, "InvalidTokenException", 400, "Registration token is invalid")
		}
		_, err := m.resolve(m.Seller("Borealis"), m.subscription(m.a, sandbox.OtherSeller).RegistrationToken)
		if err != nil {
			t.Errorf("its own seller: %v", err)
		}
	}},
	{id: "T64", what: "RegistrationToken empty or absent", test: func(t *testing.T, m *market) {
		_, err := m.resolve(m.seller, "")
		refused(t, err, "ValidationException", 400, "registrationToken")
		m.sendRefused(raw{}, "ResolveCustomer", "{}", "ValidationException", 400, "registrationToken")
	}},
	{id: "T65", what: "MeterUsage on EC2", test: func(t *testing.T, m *market) {
		m.meter(m.Workload("ec2", 0), m.jobs(4, "14:10"))
		m.sum(meterdtest.Usage{Workload: m.workload(m.a, "ec2", 0).ResourceID}, 4)
	}},
	{id: "T66", what: "the same hour with a new ClientToken: the same id", test: func(t *testing.T, m *market) {
		for _, platform := range []string{"ec2", "ecs", "eks"} {
			w := m.Workload(platform, 0)
			one := m.meter(w, token(m.jobs(4, "14:10"), "first"))
			m.same(true, one, m.meter(w, token(m.jobs(4, "14:50"), "second")))
			m.same(true, one, m.meter(w, m.jobs(4, "14:10"))) // the SDK makes up a token
		}
		m.sum(meterdtest.Usage{}, 12)
	}},
	{id: "T67", what: "the same hour, other quantity", test: func(t *testing.T, m *market) {
		for _, platform := range []string{"ec2", "ecs", "eks"} {
			m.meter(m.Workload(platform, 0), m.jobs(4, "14:10"))
			m.meterRefused(m.Workload(platform, 0), m.jobs(6, "14:50"), "DuplicateRequestException", 400, "usageDimension: jobs")
		}
		m.sum(meterdtest.Usage{}, 12)
	}},
	{id: "T68", what: "the same hour, another instance: a new id", test: func(t *testing.T, m *market) {
		one := m.meter(m.Workload("ec2", 0), m.jobs(4, "14:10"))
		m.same(false, one, m.meter(m.Workload("ec2", 1), m.jobs(4, "14:10")))
		m.sum(meterdtest.Usage{}, 8)
	}},
	{id: "T69", what: "MeterUsage aged 7 h", test: func(t *testing.T, m *market) {
		m.meterRefused(m.Workload("ec2", 0), m.jobs(4, "08:20"), "TimestampOutOfBoundsException", 400)
		m.meter(m.Workload("ec2", 0), m.jobs(4, "09:20"))
	}},
	{id: "T70", what: "the same ClientToken, other quantity: 409", test: func(t *testing.T, m *market) {
		for _, platform := range []string{"ec2", "agentcore"} {
			m.meter(m.Workload(platform, 0), token(m.jobs(4, "14:10"), "t"))
			m.meterRefused(m.Workload(platform, 0), token(m.jobs(6, "14:10"), "t"), "IdempotencyConflictException", 409)
			m.meter(m.Workload(platform, 1), token(m.jobs(6, "14:10"), "t")) // a token is its workload's
		}
		m.sum(meterdtest.Usage{}, 20)
	}},
	{id: "T71", what: "AgentCore: two calls with different tokens add up", test: func(t *testing.T, m *market) {
		one := m.meter(m.Workload("agentcore", 0), m.jobs(4, "14:10"))
		m.same(false, one, m.meter(m.Workload("agentcore", 0), m.jobs(4, "14:10")))
		m.sum(meterdtest.Usage{}, 8)
	}},
	{id: "T72", what: "AgentCore: the same token and body: the same id", test: func(t *testing.T, m *market) {
		one := m.meter(m.Workload("agentcore", 0), token(m.jobs(4, "14:10"), "t"))
		m.same(true, one, m.meter(m.Workload("agentcore", 0), token(m.jobs(4, "14:10"), "t")))
		m.meterRefused(m.Workload("agentcore", 0), token(m.jobs(4, "14:11"), "t"), "IdempotencyConflictException", 409)
		m.sum(meterdtest.Usage{}, 4)
	}},
	{id: "T73", what: "AgentCore without a token", test: func(t *testing.T, m *market) {
		m.sendRefused(as(m.workload(m.a, "agentcore", 0)), "MeterUsage", `{"ProductCode":"`+container+`","UsageDimension":"jobs","Timestamp":1795446000,"UsageQuantity":4}`, "ValidationException", 400, "clientToken")
		m.nothing()
	}},
	{id: "T74", what: "AgentCore with UsageAllocations: refused, or ignored as a setting", test: func(t *testing.T, m *market) {
		in := m.jobs(4, "14:10")
		in.UsageAllocations = []types.UsageAllocation{allocation(4, "team", "a")}
		m.meterRefused(m.Workload("agentcore", 0), in, "InvalidUsageAllocationsException", 400, "AgentCore")
		lenient := openMarket(t, "", meterdtest.Config{Settings: map[string]string{"agentcore-allocations": "ignore"}})
		lenient.meter(lenient.Workload("agentcore", 0), in)
	}},
	{id: "T75", what: "DryRun, allowed: 200 with MeteringRecordId DryRunOperation, no record; or an error of that name, by setting", test: func(t *testing.T, m *market) {
		in := m.jobs(4, "14:10")
		in.DryRun = aws.Bool(true)
		for _, platform := range []string{"ec2", "ecs", "eks", "agentcore"} {
			m.dryRun(m.Workload(platform, 0), in)
		}
		m.nothing()
		strict := openMarket(t, "", settings("dry-run", "exception"))
		for _, platform := range []string{"ec2", "ecs", "eks", "agentcore"} {
			strict.meterRefused(strict.Workload(platform, 0), in, "DryRunOperation", 400, "Request would have succeeded, but DryRun flag is set.")
		}
		in.UsageQuantity = aws.Int32(5) // the dry run has taken neither hour nor token
		in.DryRun = nil
		m.meter(m.Workload("ec2", 0), in)
	}},
	{id: "T76", what: "DryRun, denied: UnauthorizedException, or AccessDeniedException by setting", test: func(t *testing.T, m *market) {
		in := m.jobs(4, "14:10")
		in.DryRun = aws.Bool(true)
		m.meterRefused(m.Client(m.Description.Sellers[0].Powerless, "", ""), in, "UnauthorizedException", 400, "aws-marketplace:MeterUsage")
		same := openMarket(t, "", settings("dry-run-denied", "access-denied"))
		same.meterRefused(same.Client(same.Description.Sellers[0].Powerless, "", ""), in, "AccessDeniedException", 400, "aws-marketplace:MeterUsage")
	}},
	{id: "T77", what: "the endpoint's region is not the resource's", test: func(t *testing.T, m *market) {
		w := m.workload(m.a, "ec2", 0)
		m.meterRefused(m.Client(w.Credentials, w.SessionToken, "us-west-2"), m.jobs(4, "14:10"), "InvalidEndpointRegionException", 400, "us-west-2", "us-east-1")
	}},
	{id: "T78", what: "the buyer is not subscribed", test: func(t *testing.T, m *market) {
		w := m.workload(m.b, "ecs", 0)
		m.meterRefused(m.Client(w.Credentials, w.SessionToken, ""), m.jobs(4, "14:10"), "CustomerNotEntitledException", 400, m.b.AccountID)
	}},
	{id: "T79", what: "the buyer unsubscribes after the first call of a pod: still 200", test: func(t *testing.T, m *market) {
		m.meter(m.Workload("eks", 0), m.jobs(4, "14:10"))
		m.register(m.Workload("ecs", 0), registration(2, ""))
		m.Unsubscribe(m.subscription(m.a, container).AgreementID)
		m.Unsubscribe(m.subscription(m.a, hourly).AgreementID)
		m.Clock.Advance(2 * time.Hour)
		m.meter(m.Workload("eks", 0), m.jobs(5, "17:10"))
		m.meterRefused(m.Workload("eks", 1), m.jobs(5, "17:10"), "CustomerNotEntitledException", 400)
		m.register(m.Workload("ecs", 0), registration(2, ""))
		_, err := m.Workload("ecs", 1).RegisterUsage(m.ctx, registration(2, ""), once)
		refused(t, err, "CustomerNotEntitledException", 400)
		m.sum(meterdtest.Usage{}, 9)
	}},
	{id: "T80", what: "RegisterUsage: a token signed with PS256 by the product's key, the nonce in it", test: func(t *testing.T, m *market) {
		for _, platform := range []string{"ecs", "eks"} {
			nonce := strings.Repeat("n", 254) + "é"
			out := m.register(m.Workload(platform, 0), registration(2, nonce))
			if out.PublicKeyRotationTimestamp != nil {
				t.Errorf("PublicKeyRotationTimestamp is %v", out.PublicKeyRotationTimestamp)
			}
			m.verifyRegistration(aws.ToString(out.Signature), 2, nonce)
		}
		m.verifyRegistration(aws.ToString(m.register(m.Workload("ecs", 0), registration(2, "")).Signature), 2, "")
	}},
	{id: "T81", what: "PublicKeyVersion 99", test: func(t *testing.T, m *market) {
		_, err := m.Workload("ecs", 0).RegisterUsage(m.ctx, registration(99, ""), once)
		refused(t, err, "InvalidPublicKeyVersionException", 400, "99")
	}},
	{id: "T82", what: "an expired key version: 200 with PublicKeyRotationTimestamp", test: func(t *testing.T, m *market) {
		out := m.register(m.Workload("ecs", 0), registration(1, "n"))
		if out.PublicKeyRotationTimestamp == nil || !out.PublicKeyRotationTimestamp.Equal(m.Clock.Now().AddDate(0, 0, -10)) {
			t.Errorf("PublicKeyRotationTimestamp is %v", out.PublicKeyRotationTimestamp)
		}
		m.verifyRegistration(aws.ToString(out.Signature), 1, "n")
		a := m.send(as(m.workload(m.a, "ecs", 0)), "RegisterUsage", `{"ProductCode":"`+hourly+`","PublicKeyVersion":1}`)
		if got, want := string(a.members["PublicKeyRotationTimestamp"]), fmt.Sprint(m.Clock.Now().AddDate(0, 0, -10).Unix()); got != want {
			t.Errorf("PublicKeyRotationTimestamp is sent as %s, want %s", got, want)
		}
	}},
	{id: "T83", what: "RegisterUsage from neither task nor pod", test: func(t *testing.T, m *market) {
		for _, platform := range []string{"ec2", "agentcore"} {
			_, err := m.Workload(platform, 0).RegisterUsage(m.ctx, registration(2, ""), once)
			refused(t, err, "PlatformNotSupportedException", 400, "This operation can only be called from within an ECS task or an EKS pod")
		}
		_, err := m.Client(m.a.Credentials, "", "").RegisterUsage(m.ctx, registration(2, ""), once)
		refused(t, err, "PlatformNotSupportedException", 400, "This operation can only be called from within an ECS task or an EKS pod")
	}},
	{id: "T84", what: "RegisterUsage in another region", test: func(t *testing.T, m *market) {
		w := m.workload(m.a, "eks", 0)
		_, err := m.Client(w.Credentials, w.SessionToken, "eu-west-1").RegisterUsage(m.ctx, registration(2, ""), once)
		refused(t, err, "InvalidRegionException", 400, "eu-west-1", "us-east-1")
	}},
	{id: "T85", what: "PublicKeyVersion 0", test: func(t *testing.T, m *market) {
		_, err := m.Workload("ecs", 0).RegisterUsage(m.ctx, registration(0, ""), once)
		refused(t, err, "ValidationException", 400, "publicKeyVersion")
	}},
	{id: "T86", what: "6 calls of RegisterUsage in a second", config: meterdtest.Config{AWSLimits: true}, test: func(t *testing.T, m *market) {
		for i := range 1000 {
			_, err := m.Workload("ecs", 0).RegisterUsage(m.ctx, registration(2, ""), once)
			if err == nil {
				continue
			}
			refused(t, err, "ThrottlingException", 400)
			if i < 5 {
				t.Errorf("call %d is refused already", i+1)
			}
			return
		}
		t.Error("a thousand calls were taken")
	}},
	{id: "T87", what: "timestamps of answers are JSON numbers with their milliseconds", test: func(t *testing.T, m *market) {
		m.want(m.batch(P1, m.users(3, "2026-11-23T14:10:05.123Z"), m.record(m.cust1(), "gb", 3, "2026-11-23T14:10:05.9Z")), success, success)
		for sent, want := range map[string]string{"1795443005.123": "1795443005.123", "1795443005": "1795443005", "1.795443005123e9": "1795443005.123", `"2026-11-23T14:10:05.5Z"`: "1795443005.5", "1795443005.5009": "1795443005.5"} {
			a := m.send(raw{}, "BatchMeterUsage", `{"ProductCode":"`+P1+`","UsageRecords":[{"Timestamp":`+sent+`,"Dimension":"users","CustomerAWSAccountId":"`+m.a.AccountID+`","Quantity":3}]}`)
			if !strings.Contains(a.body, `"Timestamp":`+want+`,`) {
				t.Errorf("Timestamp %s is answered in %s, want %s", sent, a.body, want)
			}
		}
	}},
	{id: "T88", what: "exceptions are typed by the SDK, with their text", test: func(t *testing.T, m *market) {
		_, err := m.seller.BatchMeterUsage(m.ctx, input(P1, m.users(3, "18:20")), once)
		typed[*types.TimestampOutOfBoundsException](t, err)
		_, err = m.seller.BatchMeterUsage(m.ctx, input(P1, m.record(m.cust1(), "Users", 3, "14:10")), once)
		typed[*types.InvalidUsageDimensionException](t, err)
		_, err = m.seller.BatchMeterUsage(m.ctx, input("nope", m.users(3, "14:10")), once)
		typed[*types.InvalidProductCodeException](t, err)
		_, err = m.seller.BatchMeterUsage(m.ctx, input(P1, m.record(customer("nope"), "users", 3, "14:10")), once)
		typed[*types.InvalidCustomerIdentifierException](t, err)
		_, err = m.seller.BatchMeterUsage(m.ctx, input("", m.record(licence("nope", m.a.AccountID), "requests", 3, "14:10")), once)
		typed[*types.InvalidLicenseException](t, err)
		_, err = m.seller.BatchMeterUsage(m.ctx, input(P1, allocated(m.users(3, "14:10"), allocation(3, "", ""))), once)
		typed[*types.InvalidTagException](t, err)
		_, err = m.seller.BatchMeterUsage(m.ctx, input(P1, allocated(m.users(3, "14:10"), allocation(2))), once)
		typed[*types.InvalidUsageAllocationsException](t, err)
		_, err = m.Client(m.Description.Sellers[0].Credentials, "", "ca-west-1").BatchMeterUsage(m.ctx, input(P1), once)
		typed[*types.DisabledApiException](t, err)
		_, err = m.resolve(m.seller, "nope")
		typed[*types.InvalidTokenException](t, err)
		_, err = m.resolve(m.seller, m.subscription(m.a, P1).ExpiredRegistrationToken)
		typed[*types.ExpiredTokenException](t, err)
		ec2 := m.Workload("ec2", 0)
		m.meter(ec2, token(m.jobs(4, "14:10"), "t"))
		_, err = ec2.MeterUsage(m.ctx, m.jobs(5, "14:10"), once)
		typed[*types.DuplicateRequestException](t, err)
		_, err = ec2.MeterUsage(m.ctx, token(m.jobs(5, "14:10"), "t"), once)
		typed[*types.IdempotencyConflictException](t, err)
		w := m.workload(m.a, "ecs", 0)
		_, err = m.Client(w.Credentials, w.SessionToken, "us-west-2").MeterUsage(m.ctx, m.jobs(5, "14:10"), once)
		typed[*types.InvalidEndpointRegionException](t, err)
		_, err = m.Client(w.Credentials, w.SessionToken, "us-west-2").RegisterUsage(m.ctx, registration(2, ""), once)
		typed[*types.InvalidRegionException](t, err)
		_, err = ec2.RegisterUsage(m.ctx, registration(2, ""), once)
		typed[*types.PlatformNotSupportedException](t, err)
		_, err = m.Workload("ecs", 0).RegisterUsage(m.ctx, registration(3, ""), once)
		typed[*types.InvalidPublicKeyVersionException](t, err)
		w = m.workload(m.b, "ecs", 0)
		_, err = m.Client(w.Credentials, w.SessionToken, "").MeterUsage(m.ctx, m.jobs(4, "14:10"), once)
		typed[*types.CustomerNotEntitledException](t, err)
		faulty := openMarket(t, "", meterdtest.Config{Refuse: func(operation string) string {
			return map[string]string{"BatchMeterUsage": "ThrottlingException", "ResolveCustomer": "InternalServiceErrorException"}[operation]
		}})
		_, err = faulty.seller.BatchMeterUsage(m.ctx, input(P1), once)
		typed[*types.ThrottlingException](t, err)
		_, err = faulty.resolve(faulty.seller, "x")
		typed[*types.InternalServiceErrorException](t, err)
	}},
	// What the SDK's config module does with the variable is done by environment here, since the module is not needed
	// otherwise. The tests in clients do the same with JavaScript, Python and the CLI.
	{id: "T89", what: "AWS_ENDPOINT_URL_MARKETPLACE_METERING leads the SDK to the server", test: func(t *testing.T, m *market) {
		t.Setenv("AWS_ENDPOINT_URL_MARKETPLACE_METERING", m.URL)
		c := m.Description.Sellers[0].Credentials
		client := marketplacemetering.NewFromConfig(aws.Config{
			Region: m.Description.Region, ConfigSources: []any{environment{}},
			Credentials: credentials.NewStaticCredentialsProvider(c.AccessKeyID, c.SecretAccessKey, ""),
		})
		m.want(m.batchAs(client, P1, m.users(3, "14:10")), success)
		m.sum(meterdtest.Usage{}, 3)
	}},
	{id: "T90", what: "the same usage by product and by licence counts twice", test: func(t *testing.T, m *market) {
		one := m.want(m.batch(P1, m.users(3, "14:10")), success)
		two := m.want(m.batch("", m.record(licence(m.subscription(m.a, P1).LicenseARN, m.a.AccountID), "users", 3, "14:10")), success)
		m.same(false, one.id(0), two.id(0))
		m.sum(meterdtest.Usage{ProductCode: P1}, 6)
	}},
}

// typed checks that the SDK has made E of an error, with a message.
func typed[E interface {
	error
	ErrorMessage() string
}](t *testing.T, err error) {
	t.Helper()
	var e E
	if !errors.As(err, &e) || e.ErrorMessage() == "" {
		t.Errorf("%v is not a %T with a message", err, e)
	}
}

// environment reads the variables that override endpoints, as the SDK's config module does.
type environment struct{}

func (environment) GetServiceBaseEndpoint(_ context.Context, sdkID string) (string, bool, error) {
	value, found := os.LookupEnv("AWS_ENDPOINT_URL_" + strings.ToUpper(strings.ReplaceAll(sdkID, " ", "_")))
	return value, found, nil
}

// verifyRegistration verifies a token of RegisterUsage as shipping verifiers do (metering-api 7).
func (m *market) verifyRegistration(signature string, version int, nonce string) {
	m.t.Helper()
	if !strings.HasPrefix(signature, "eyJhbGciOiJQUzI1Ni") {
		m.t.Errorf("the header does not begin with the algorithm: %.40s", signature)
	}
	var claims struct {
		ProductCode      string          `json:"productCode"`
		PublicKeyVersion int             `json:"publicKeyVersion"`
		Nonce            *string         `json:"nonce"`
		IssuedAt         jwt.NumericDate `json:"iat"`
		jwt.MapClaims    `json:"-"`
	}
	key, err := jwt.ParseRSAPublicKeyFromPEM([]byte(m.product(hourly).PublicKeys[version-1].PEM))
	if err != nil {
		m.t.Fatal(err)
	}
	parsed, err := jwt.NewParser(jwt.WithValidMethods([]string{"PS256"}), jwt.WithoutClaimsValidation()).ParseWithClaims(signature, &claims, func(*jwt.Token) (any, error) { return key, nil })
	if err != nil {
		m.t.Fatalf("the signature does not verify: %v", err)
	}
	if parsed.Header["typ"] != "JWT" || claims.ProductCode != hourly || claims.PublicKeyVersion != version || aws.ToString(claims.Nonce) != nonce || (claims.Nonce == nil) != (nonce == "") || !claims.IssuedAt.Equal(m.Clock.Now()) {
		m.t.Errorf("header %v, claims %+v", parsed.Header, claims)
	}
	all := claimsOf(m.t, signature)
	if _, ok := all["exp"]; ok || all["ProductCode"] != hourly {
		m.t.Errorf("claims are %v", all)
	}
}

// claimsOf returns the claims of a token.
func claimsOf(t *testing.T, signature string) jwt.MapClaims {
	t.Helper()
	all := jwt.MapClaims{}
	if _, _, err := jwt.NewParser().ParseUnverified(signature, all); err != nil {
		t.Fatal(err)
	}
	return all
}
