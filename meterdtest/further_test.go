package meterdtest_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/marketplacemetering"
	"github.com/aws/aws-sdk-go-v2/service/marketplacemetering/types"
	"github.com/meterd/meterd/internal/adminapi"
	"github.com/meterd/meterd/internal/sandbox"
	"github.com/meterd/meterd/meterdtest"
)

// TestFurther holds rules of metering-api 0.2 and 2, and choices of design 5 and 8, that the table has no row for.
func TestFurther(t *testing.T) { run(t, further) }

// again restarts the service on the same folder.
func (m *market) again(config meterdtest.Config) *market {
	m.t.Helper()
	now := m.Clock.Now().Format(time.RFC3339Nano)
	m.Close()
	return openMarket(m.t, now, config)
}

// settings is a configuration with one setting.
func settings(name, value string) meterdtest.Config {
	return meterdtest.Config{Settings: map[string]string{name: value}}
}

var further = []row{
	{id: "X01", what: "the same key inside one batch: decided in order (2.2)", test: func(t *testing.T, m *market) {
		r := m.want(m.batch(P1, m.users(3, "14:10"), m.users(3, "14:20"), m.users(5, "14:30"), m.users(3, "14:40")), success, success, duplicate, success)
		for i := range r {
			m.same(true, r.id(0), r.id(i))
		}
		m.sum(meterdtest.Usage{}, 3)
	}},
	{id: "X02", what: "results stand in input order, whatever became of the records (2.3)", test: func(t *testing.T, m *market) {
		m.batch(P1, m.record(account(m.a.AccountID), "users", 3, "14:10"))
		b, c := m.record(account(m.b.AccountID), "users", 1, "14:10"), m.record(account(m.c.AccountID), "users", 1, "14:10")
		m.want(m.batch(P1, b, m.record(account(m.a.AccountID), "users", 4, "14:10"), c, m.record(account(m.a.AccountID), "gb", 1, "14:10"), m.record(account(m.a.AccountID), "users", 3, "14:10")),
			notSubscribed, duplicate, notSubscribed, success, success)
	}},
	{id: "X03", what: "either identifier names the same buyer (2.2)", test: func(t *testing.T, m *market) {
		one := m.batch(P1, m.users(3, "14:10"))
		two := m.want(m.batch(P1, m.record(account(m.a.AccountID), "users", 3, "14:10")), success)
		m.same(true, one.id(0), two.id(0))
		m.sum(meterdtest.Usage{CustomerIdentifier: m.subscription(m.a, P1).CustomerIdentifier}, 3)
	}},
	{id: "X04", what: "identifiers of both kinds in one call are refused, or allowed as a setting (2.4)", test: func(t *testing.T, m *market) {
		mixed := []types.UsageRecord{m.users(3, "14:10"), m.record(account(m.a.AccountID), "gb", 3, "14:10")}
		m.refuse("InvalidCustomerIdentifierException", P1, mixed...)
		m = openMarket(t, "", settings("mixed-identifiers", "allow"))
		m.want(m.batch(P1, mixed...), success, success)
	}},
	{id: "X05", what: "neither ProductCode nor LicenseArn (2.4)", test: func(t *testing.T, m *market) {
		m.refuse("InvalidProductCodeException", "", m.users(3, "14:10"))
		m.refuse("InvalidProductCodeException", "", m.record(m.L1(), "requests", 3, "14:10"), m.record(account(m.a.AccountID), "requests", 3, "14:10"))
	}},
	{id: "X06", what: "LicenseArn with CustomerIdentifier, or without account (2.4)", test: func(t *testing.T, m *market) {
		r := m.record(m.L1(), "requests", 3, "14:10")
		r.CustomerIdentifier = aws.String(m.subscription(m.a, P1).CustomerIdentifier)
		m.refuse("InvalidLicenseException", "", r)
		r.CustomerAWSAccountId = nil
		m.refuse("InvalidLicenseException", "", r)
		r.CustomerIdentifier = nil
		m.refuse("InvalidCustomerIdentifierException", "", r)
	}},
	{id: "X07", what: "an unknown account is not subscribed (2.4)", test: func(t *testing.T, m *market) {
		m.want(m.batch(P1, m.record(account("999999999999"), "users", 3, "14:10"), m.record(account("1"), "users", 3, "14:10")), notSubscribed, notSubscribed)
		m.refuse("ValidationException", P1, m.record(account("4444-4444-4444"), "users", 3, "14:10"))
		m.nothing()
	}},
	{id: "X08", what: "unknown-customer=not-subscribed (0.3 D6)", config: settings("unknown-customer", "not-subscribed"), test: func(t *testing.T, m *market) {
		m.want(m.batch(P1, m.record(customer("ifAPi5AcF3"), "users", 3, "14:10"), m.users(3, "14:10")), notSubscribed, success)
	}},
	{id: "X09", what: "resend-identical=duplicate (0.3 D1)", config: settings("resend-identical", "duplicate"), test: func(t *testing.T, m *market) {
		one := m.want(m.batch(P1, m.users(3, "14:10")), success)
		two := m.want(m.batch(P1, m.users(3, "14:10")), duplicate)
		m.same(true, one.id(0), two.id(0))
		m.sum(meterdtest.Usage{}, 3)
	}},
	{id: "X10", what: "DuplicateRecord carries the stored record's id, or none as a setting (2.3)", test: func(t *testing.T, m *market) {
		one := m.batch(P1, m.users(3, "14:10"))
		m.same(true, one.id(0), m.want(m.batch(P1, m.users(4, "14:10")), duplicate).id(0))
		m = openMarket(t, "", settings("duplicate-record-id", "false"))
		m.batch(P1, m.users(3, "14:10"))
		if r := m.want(m.batch(P1, m.users(4, "14:10")), duplicate); r[0].MeteringRecordId != nil {
			t.Errorf("the id is %s", r.id(0))
		}
	}},
	{id: "X11", what: "other allocations of the same quantity: the first ones stay (2.2)", test: func(t *testing.T, m *market) {
		one := m.batch(P1, allocated(m.users(3, "14:10"), allocation(3, "team", "a")))
		two := m.want(m.batch(P1, allocated(m.users(3, "14:10"), allocation(2, "team", "b"), allocation(1))), success)
		m.same(true, one.id(0), two.id(0))
		page, err := adminapi.ListUsage.Do(m.ctx, m.admin(), adminapi.UsagePaging{})
		if err != nil || len(page.Records) != 1 || len(page.Records[0].Allocations) != 1 || page.Records[0].Allocations[0].Tags["team"] != "a" || page.Records[0].MeteringRecordID != one.id(0) {
			t.Errorf("stored is %+v, error %v", page.Records, err)
		}
	}},
	{id: "X12", what: "the month closes under a running clock, for replays too (2.1)", now: "2026-12-01T05:59:59.999Z", test: func(t *testing.T, m *market) {
		last := m.users(3, "2026-11-30T23:59:59.999Z")
		m.want(m.batch(P1, last), success)
		m.Clock.Advance(time.Millisecond)
		m.refuse("TimestampOutOfBoundsException", P1, last)
		m.refuse("TimestampOutOfBoundsException", P1, m.users(1, "05:50"), m.users(1, "2026-12-01T05:50:00Z"))
		m.want(m.batch(P1, m.users(3, "2026-12-01T00:00:00Z")), success)
		m.sum(meterdtest.Usage{}, 6)
	}},
	{id: "X13", what: "month-grace=true and window-from-hour=true (2.1)", now: "2026-12-01T05:30:00Z", config: meterdtest.Config{Settings: map[string]string{"month-grace": "true", "window-from-hour": "true"}}, test: func(t *testing.T, m *market) {
		old := []types.UsageRecord{m.users(3, "2026-11-30T00:10:00Z"), m.users(4, "2026-11-30T01:10:00Z")}
		one := m.want(m.batch(P1, old...), success, success)
		two := m.want(m.batch(P1, old...), success, success)
		m.same(true, one.id(1), two.id(1))
		m.want(m.batch(P1, m.users(5, "2026-11-30T01:20:00Z")), duplicate)
		m.refuse("TimestampOutOfBoundsException", P1, m.users(1, "2026-11-29T23:59:59Z"))
		m.Clock.Set(moment(t, "2026-12-02T15:50:00Z"))
		m.want(m.batch(P1, m.users(1, "2026-12-01T15:00:00Z")), success)
		m.refuse("TimestampOutOfBoundsException", P1, m.users(1, "2026-12-01T14:59:59Z"))
	}},
	{id: "X14", what: "timestamps that no calendar of usage has (2.1)", test: func(t *testing.T, m *market) {
		for _, at := range []string{"2400-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "1700-01-01T00:00:00Z", "0001-01-01T00:00:00Z"} {
			m.refuse("TimestampOutOfBoundsException", P1, m.users(3, at))
			m.refuse("TimestampOutOfBoundsException", "", m.record(m.L1(), "requests", 3, at))
			m.meterRefused(m.Workload("ec2", 0), m.jobs(3, at), "TimestampOutOfBoundsException", 400)
			m.meterRefused(m.Workload("agentcore", 0), m.jobs(3, at), "TimestampOutOfBoundsException", 400)
		}
	}},
	{id: "X15", what: "usage from before the agreement (2.1)", test: func(t *testing.T, m *market) {
		one := m.Subscribe(P1, m.b.AccountID)
		two := m.Subscribe(P2, m.b.AccountID)
		m.want(m.batch(P1, m.record(account(m.b.AccountID), "users", 3, "15:00")), success) // the hour in which it began
		m.refuse("TimestampOutOfBoundsException", P1, m.record(account(m.b.AccountID), "users", 3, "14:59"))
		m.refuse("InvalidLicenseException", "", m.record(licence(two.LicenseARN, m.b.AccountID), "requests", 3, "14:59"))
		if one.Status != "active" || one.CustomerIdentifier == "" || one.LicenseARN == two.LicenseARN {
			t.Errorf("agreements are %+v and %+v", one, two)
		}
	}},
	{id: "X16", what: "usage from after the end began is not taken in the last hour (2.10)", test: func(t *testing.T, m *market) {
		m.Unsubscribe(m.subscription(m.a, P1).AgreementID)
		m.Unsubscribe(m.subscription(m.a, P2).AgreementID)
		m.Clock.Advance(10 * time.Minute)
		m.want(m.batch(P1, m.users(3, "15:25")), notSubscribed)
		m.refuse("InvalidLicenseException", "", m.record(m.L1(), "requests", 3, "15:25"))
		m.nothing()
	}},
	{id: "X17", what: "final-window=0s (2.10)", config: settings("final-window", "0s"), test: func(t *testing.T, m *market) {
		m.Unsubscribe(m.subscription(m.a, P1).AgreementID)
		m.want(m.batch(P1, m.users(3, "15:10")), notSubscribed)
	}},
	{id: "X18", what: "a suspended buyer is not subscribed (2.3)", test: func(t *testing.T, m *market) {
		suspend := func(yes bool) {
			if _, err := adminapi.ChangeBuyer.Do(m.ctx, m.admin(), adminapi.BuyerChange{AccountID: m.a.AccountID, Suspended: &yes}); err != nil {
				t.Fatal(err)
			}
		}
		suspend(true)
		m.want(m.batch(P1, m.users(3, "14:10")), notSubscribed)
		m.want(m.batch("", m.record(m.L1(), "requests", 3, "14:10")), notSubscribed)
		m.meterRefused(m.Workload("ec2", 0), m.jobs(3, "14:10"), "CustomerNotEntitledException", 400)
		suspend(false)
		m.meter(m.Workload("ec2", 0), m.jobs(3, "14:10"))
		m.register(m.Workload("ecs", 0), registration(2, ""))
		suspend(true)
		m.meterRefused(m.Workload("ec2", 0), m.jobs(3, "13:10"), "CustomerNotEntitledException", 400, "suspended")
		_, err := m.Workload("ecs", 0).RegisterUsage(m.ctx, registration(2, ""), once)
		refused(t, err, "CustomerNotEntitledException", 400, "suspended")
		suspend(false)
		m.meter(m.Workload("ec2", 0), m.jobs(3, "13:10"))
		m.want(m.batch(P1, m.users(3, "14:10")), success)
	}},
	{id: "X19", what: "BatchMeterUsage and ResolveCustomer where only MeterUsage is offered (1.6)", test: func(t *testing.T, m *market) {
		gov := m.Client(m.Description.Sellers[0].Credentials, "", "us-gov-west-1")
		_, err := gov.BatchMeterUsage(m.ctx, input(P1, m.users(3, "14:10")), once)
		refused(t, err, "DisabledApiException", 400, "BatchMeterUsage", "us-gov-west-1")
		_, err = m.resolve(gov, m.subscription(m.a, P1).RegistrationToken)
		refused(t, err, "DisabledApiException", 400, "ResolveCustomer")
		m.meter(m.newWorkload(m.a.AccountID, "ec2", "i-0f00000000000gov1", "us-gov-west-1"), m.jobs(4, "14:10"))
	}},
	{id: "X20", what: "MeterUsage on EKS where it is not offered (1.6)", test: func(t *testing.T, m *market) {
		m.meterRefused(m.newWorkload(m.a.AccountID, "eks", "pod-in-africa", "af-south-1"), m.jobs(4, "14:10"), "DisabledApiException", 400, "af-south-1")
		m.meter(m.newWorkload(m.a.AccountID, "ecs", "task-in-africa", "af-south-1"), m.jobs(4, "14:10"))
	}},
	{id: "X21", what: "an unknown region is no valid scope (design 5)", test: func(t *testing.T, m *market) {
		_, err := m.Client(m.Description.Sellers[0].Credentials, "", "us-east-9").BatchMeterUsage(m.ctx, input(P1), once)
		refused(t, err, "InvalidSignatureException", 400, "us-east-9")
	}},
	{id: "X22", what: "MeterUsage with a user's keys", test: func(t *testing.T, m *market) {
		m.meterRefused(m.Client(m.a.Credentials, "", ""), m.jobs(4, "14:10"), "CustomerNotEntitledException", 400, "MeterUsage")
	}},
	{id: "X23", what: "MeterUsage: the same workload, other dimension, hour, product", test: func(t *testing.T, m *market) {
		w := m.Workload("ec2", 0)
		ids := []string{m.meter(w, m.jobs(4, "14:10")), m.meter(w, m.jobs(4, "13:10"))}
		in := m.jobs(4, "14:10")
		in.UsageDimension = aws.String("vcpu_hours")
		ids = append(ids, m.meter(w, in))
		in = m.jobs(4, "14:10") // the SDK has put its token into the last one
		in.ProductCode, in.UsageDimension = aws.String(hourly), aws.String("hours")
		ids = append(ids, m.meter(w, in))
		slices.Sort(ids)
		if len(slices.Compact(ids)) != 4 {
			t.Errorf("ids are %q", ids)
		}
		m.sum(meterdtest.Usage{}, 16)
	}},
	{id: "X24", what: "MeterUsage refuses as BatchMeterUsage does", test: func(t *testing.T, m *market) {
		w := m.Workload("ecs", 0)
		in := m.jobs(4, "14:10")
		in.UsageDimension = aws.String("Jobs")
		m.meterRefused(w, in, "InvalidUsageDimensionException", 400)
		in = m.jobs(4, "14:10")
		in.ProductCode = aws.String("unknown")
		m.meterRefused(w, in, "InvalidProductCodeException", 400)
		in.ProductCode = aws.String(m.product(container).ProductID)
		m.meterRefused(w, in, "InvalidProductCodeException", 400)
		in = m.jobs(4, "14:10")
		in.UsageAllocations = []types.UsageAllocation{allocation(3)}
		m.meterRefused(w, in, "InvalidUsageAllocationsException", 400)
		in.UsageAllocations = []types.UsageAllocation{allocation(4, "team", "a|b")}
		m.meterRefused(w, in, "InvalidTagException", 400)
		m.meterRefused(w, m.jobs(-1, "14:10"), "ValidationException", 400)
		m.meterRefused(w, m.jobs(4, "15:26"), "TimestampOutOfBoundsException", 400)
		m.nothing()
	}},
	{id: "X25", what: "the publisher's own workloads need no agreement, but as a setting (2.6)", test: func(t *testing.T, m *market) {
		acme := m.Description.Sellers[0].AccountID
		w := m.newWorkload(acme, "ecs", "test-task", "us-east-1")
		m.meter(w, m.jobs(4, "14:10"))
		m.register(w, registration(2, ""))
		in := m.jobs(4, "14:10")
		m.meterRefused(m.newWorkload(m.Description.Sellers[1].AccountID, "ecs", "test-task", "us-east-1"), in, "CustomerNotEntitledException", 400)
		m = openMarket(t, "", settings("publisher-preview", "false"))
		w = m.newWorkload(acme, "ecs", "test-task", "us-east-1")
		m.meterRefused(w, m.jobs(4, "14:10"), "CustomerNotEntitledException", 400)
	}},
	{id: "X26", what: "DryRun that would be refused gets its refusal; dry-run-status (2.6)", test: func(t *testing.T, m *market) {
		dry := func(in *marketplacemetering.MeterUsageInput) *marketplacemetering.MeterUsageInput {
			in.DryRun = aws.Bool(true)
			return in
		}
		in := dry(m.jobs(4, "08:20"))
		m.meterRefused(m.Workload("ec2", 0), in, "TimestampOutOfBoundsException", 400)
		for _, platform := range []string{"ec2", "ecs", "eks"} {
			one := m.meter(m.Workload(platform, 0), token(m.jobs(4, "14:10"), "t"))
			m.dryRun(m.Workload(platform, 0), m.jobs(4, "14:10"))
			m.dryRun(m.Workload(platform, 0), token(m.jobs(4, "14:10"), "t"))
			m.meterRefused(m.Workload(platform, 0), dry(m.jobs(5, "14:50")), "DuplicateRequestException", 400, "usageDimension: jobs")
			m.meterRefused(m.Workload(platform, 0), dry(token(m.jobs(5, "13:10"), "t")), "IdempotencyConflictException", 409)
			m.dryRun(m.Workload(platform, 0), token(m.jobs(5, "13:10"), "u")) // takes neither the hour nor the token
			m.dryRun(m.Workload(platform, 0), token(m.jobs(6, "13:10"), "u"))
			m.meter(m.Workload(platform, 0), token(m.jobs(7, "13:10"), "u"))
			m.same(true, one, m.meter(m.Workload(platform, 0), m.jobs(4, "14:10")))
		}
		agent := m.meter(m.Workload("agentcore", 0), token(m.jobs(4, "14:10"), "t"))
		m.dryRun(m.Workload("agentcore", 0), token(m.jobs(4, "14:10"), "t"))
		m.meterRefused(m.Workload("agentcore", 0), dry(token(m.jobs(5, "14:10"), "t")), "IdempotencyConflictException", 409)
		m.dryRun(m.Workload("agentcore", 0), token(m.jobs(5, "14:10"), "u"))
		m.same(true, agent, m.meter(m.Workload("agentcore", 0), token(m.jobs(4, "14:10"), "t")))
		m.sum(meterdtest.Usage{}, 3*(4+7)+4)
		w := m.workload(m.b, "ecs", 0)
		in = m.jobs(4, "14:10")
		in.DryRun = aws.Bool(true)
		m.meterRefused(m.Client(w.Credentials, w.SessionToken, ""), in, "CustomerNotEntitledException", 400)
		m = openMarket(t, "", meterdtest.Config{Settings: map[string]string{"dry-run": "exception", "dry-run-status": "412"}})
		m.meterRefused(m.Workload("ec2", 0), in, "DryRunOperation", 412)
	}},
	{id: "X27", what: "conflict-status=400 (0.3 D2)", config: settings("conflict-status", "400"), test: func(t *testing.T, m *market) {
		m.meter(m.Workload("ec2", 0), token(m.jobs(4, "14:10"), "t"))
		m.meterRefused(m.Workload("ec2", 0), token(m.jobs(5, "13:10"), "t"), "IdempotencyConflictException", 400)
	}},
	{id: "X28", what: "a ClientToken is asked before the hour, and kept for 24 h, over a restart too (2.6)", test: func(t *testing.T, _ *market) {
		config := meterdtest.Config{Dir: t.TempDir()}
		m := openMarket(t, "", config)
		for _, platform := range []string{"ec2", "agentcore"} {
			m.meter(m.Workload(platform, 0), token(m.jobs(4, "14:10"), "t"))
		}
		for _, after := range []time.Duration{time.Minute, 12 * time.Hour, 24 * time.Hour} {
			m.Clock.Set(moment(t, "15:20").Add(after))
			m = m.again(config)
			for _, platform := range []string{"ec2", "agentcore"} {
				m.meterRefused(m.Workload(platform, 0), token(m.jobs(4, m.Clock.Now().Format(time.RFC3339)), "t"), "IdempotencyConflictException", 409, `"t"`)
			}
		}
		m.sum(meterdtest.Usage{}, 8)
	}},
	{id: "X29", what: "a ClientToken that was answered with a replay is remembered as well", test: func(t *testing.T, m *market) {
		w := m.Workload("ecs", 0)
		m.meter(w, token(m.jobs(4, "14:10"), "one"))
		m.meter(w, token(m.jobs(4, "14:40"), "two"))
		m.meterRefused(w, token(m.jobs(4, "14:41"), "two"), "IdempotencyConflictException", 409)
		m.meterRefused(w, token(m.jobs(5, "14:10"), "three"), "DuplicateRequestException", 400)
		m.meter(w, token(m.jobs(5, "13:10"), "three")) // a refusal leaves the token free
	}},
	{id: "X30", what: "a restart keeps everything (design 5)", test: func(t *testing.T, _ *market) {
		config := meterdtest.Config{Dir: t.TempDir()}
		m := openMarket(t, "", config)
		legacy := []types.UsageRecord{m.users(3, "14:10"), m.record(m.cust1(), "gb", 0, "2026-11-22T18:10:00Z")}
		concurrent := m.record(m.L1(), "requests", 5, "14:10")
		batch, licensed := m.batch(P1, legacy...), m.batch("", concurrent)
		usage := token(m.jobs(4, "14:10"), "t")
		ec2, agent := m.meter(m.Workload("ec2", 0), usage), m.meter(m.Workload("agentcore", 0), usage)
		m.register(m.Workload("ecs", 0), registration(2, ""))
		registered := m.RegistrationToken(P1, m.a.AccountID)
		second := m.Subscribe(P2, m.a.AccountID)
		m.Unsubscribe(m.subscription(m.a, hourly).AgreementID)
		m.Unsubscribe(m.subscription(m.a, container).AgreementID)
		m.Clock.Advance(2 * time.Hour)
		now, before := m.Clock.Now(), m.Records(meterdtest.Usage{})

		m = m.again(config)
		if !m.Clock.Now().Equal(now) {
			t.Errorf("the clock shows %v, was %v", m.Clock.Now(), now)
		}
		again := m.want(m.batch(P1, legacy...), success, success)
		m.same(true, batch.id(0), again.id(0))
		m.same(true, batch.id(1), again.id(1))
		m.same(true, licensed.id(0), m.want(m.batch("", concurrent), success).id(0))
		m.want(m.batch(P1, m.users(4, "14:10")), duplicate)
		m.same(true, ec2, m.meter(m.Workload("ec2", 0), usage))
		m.same(true, agent, m.meter(m.Workload("agentcore", 0), usage))
		m.meterRefused(m.Workload("ec2", 0), m.jobs(5, "14:10"), "DuplicateRequestException", 400)
		m.meterRefused(m.Workload("ec2", 1), m.jobs(5, "14:10"), "CustomerNotEntitledException", 400)
		m.register(m.Workload("ecs", 0), registration(2, ""))
		if out, err := m.resolve(m.seller, registered); err != nil || aws.ToString(out.ProductCode) != P1 {
			t.Errorf("the registration token: %+v, error %v", out, err)
		}
		m.want(m.batch("", m.record(licence(second.LicenseARN, m.a.AccountID), "requests", 1, "16:10")), success)
		if n := m.Records(meterdtest.Usage{}); n != before+1 {
			t.Errorf("%d records are stored, were %d", n, before)
		}
	}},
	{id: "X31", what: "the clock goes forth and back: hours that had left are known again (design 5)", test: func(t *testing.T, m *market) {
		one := m.batch(P1, m.users(3, "14:10"))
		ec2 := m.meter(m.Workload("ec2", 0), m.jobs(4, "14:10"))
		for _, d := range []time.Duration{time.Hour, 30 * time.Hour, 40 * 24 * time.Hour} {
			m.Clock.Advance(d)
			m.want(m.batch(P1, m.users(1, m.Clock.Now().Format(time.RFC3339))), success)
			m.Clock.Advance(-d)
			m.same(true, one.id(0), m.want(m.batch(P1, m.users(3, "14:10")), success).id(0))
			m.want(m.batch(P1, m.users(4, "14:10")), duplicate)
			m.same(true, ec2, m.meter(m.Workload("ec2", 0), m.jobs(4, "14:10")))
			m.meterRefused(m.Workload("ec2", 0), m.jobs(5, "14:10"), "DuplicateRequestException", 400)
		}
		m.Clock.Advance(30 * time.Hour) // where a record lies already
		m.want(m.batch(P1, m.users(2, m.Clock.Now().Format(time.RFC3339))), duplicate)
		m.sum(meterdtest.Usage{}, 10)
	}},
	{id: "X32", what: "the clock goes forth and back: ClientTokens are known again", test: func(t *testing.T, m *market) {
		usage := token(m.jobs(4, "14:10"), "t")
		agent := m.meter(m.Workload("agentcore", 0), usage)
		m.Clock.Advance(30 * time.Hour)
		m.batch(P1, m.users(1, m.Clock.Now().Format(time.RFC3339)))
		m.Clock.Advance(-30 * time.Hour)
		m.same(true, agent, m.meter(m.Workload("agentcore", 0), usage))
		m.meterRefused(m.Workload("agentcore", 0), token(m.jobs(5, "14:10"), "t"), "IdempotencyConflictException", 409)
		m.sum(meterdtest.Usage{ProductCode: container}, 4)
	}},
	{id: "X33", what: "a long MeterUsage window: ClientTokens are known as long as it is open", config: meterdtest.Config{Settings: map[string]string{"meter-window": "72h"}}, test: func(t *testing.T, m *market) {
		usage := token(m.jobs(4, "14:10"), "t")
		agent := m.meter(m.Workload("agentcore", 0), usage)
		for range 3 {
			m.Clock.Advance(20 * time.Hour)
			m.batch(P1, m.users(1, m.Clock.Now().Format(time.RFC3339)))
			m.same(true, agent, m.meter(m.Workload("agentcore", 0), usage))
		}
		m.sum(meterdtest.Usage{ProductCode: container}, 4)
	}},
	{id: "X44", what: "usage far ahead: ClientTokens are known as long as its hour is open", config: meterdtest.Config{Settings: map[string]string{"future-tolerance": "47h", "meter-window": "30h"}}, test: func(t *testing.T, m *market) {
		usage := token(m.jobs(4, "2026-11-25T14:10:00Z"), "t")
		agent := m.meter(m.Workload("agentcore", 0), usage)
		for range 3 {
			m.Clock.Advance(24 * time.Hour)
			m.batch(P1, m.users(1, m.Clock.Now().Format(time.RFC3339)))
			m.same(true, agent, m.meter(m.Workload("agentcore", 0), usage))
		}
		m.sum(meterdtest.Usage{ProductCode: container}, 4)
	}},
	{id: "X34", what: "ResolveCustomer before there is an agreement (2.8)", test: func(t *testing.T, m *market) {
		out, err := m.resolve(m.seller, m.RegistrationToken(P1, m.b.AccountID))
		if err != nil || aws.ToString(out.CustomerAWSAccountId) != m.b.AccountID || aws.ToString(out.CustomerIdentifier) == "" || out.LicenseArn != nil {
			t.Fatalf("%+v, error %v", out, err)
		}
		m.want(m.batch(P1, m.record(customer(*out.CustomerIdentifier), "users", 3, "14:10")), notSubscribed)
	}},
	{id: "X35", what: "concurrent-customer-identifier=true and token-life (2.8)", config: meterdtest.Config{Settings: map[string]string{"concurrent-customer-identifier": "true", "token-life": "1h"}}, test: func(t *testing.T, m *market) {
		s := m.subscription(m.a, P2)
		out, err := m.resolve(m.seller, s.RegistrationToken)
		if err != nil || aws.ToString(out.CustomerIdentifier) != s.CustomerIdentifier {
			t.Errorf("%+v, error %v", out, err)
		}
		m.Clock.Advance(time.Hour)
		_, err = m.resolve(m.seller, s.RegistrationToken)
		refused(t, err, "ExpiredTokenException", 400)
	}},
	{id: "X36", what: "a buyer is known by one CustomerIdentifier to all products of a seller (2.8)", test: func(t *testing.T, m *market) {
		one, two := m.subscription(m.a, P1).CustomerIdentifier, m.subscription(m.a, container).CustomerIdentifier
		if one != two || one == m.subscription(m.a, sandbox.OtherSeller).CustomerIdentifier {
			t.Errorf("identifiers are %s, %s and %s", one, two, m.subscription(m.a, sandbox.OtherSeller).CustomerIdentifier)
		}
		_, err := m.Seller("Borealis").BatchMeterUsage(m.ctx, input(sandbox.OtherSeller, m.record(customer(one), "units", 3, "14:10")), once)
		refused(t, err, "InvalidCustomerIdentifierException", 400)
	}},
	{id: "X37", what: "claims-pascal-case=false (0.3 D5)", config: settings("claims-pascal-case", "false"), test: func(t *testing.T, m *market) {
		signature := aws.ToString(m.register(m.Workload("ecs", 0), registration(2, "n")).Signature)
		claims := claimsOf(t, signature)
		for _, name := range []string{"ProductCode", "PublicKeyVersion", "Nonce"} {
			if _, ok := claims[name]; ok {
				t.Errorf("there is a claim %s", name)
			}
		}
		if len(claims) != 4 {
			t.Errorf("claims are %v", claims)
		}
	}},
	{id: "X38", what: "each call leaves its audit (design 5)", test: func(t *testing.T, m *market) {
		body := func(quantity int) string {
			return fmt.Sprintf(`{"ProductCode":"%s","UsageRecords":[{"Timestamp":1795443000,"Dimension":"users","CustomerAWSAccountId":"%s","Quantity":%d},{"Timestamp":1795443000,"Dimension":"users","CustomerAWSAccountId":"%s"}]}`, P1, m.a.AccountID, quantity, m.b.AccountID)
		}
		for i, want := range []struct{ status, stored string }{{"Success CustomerNotSubscribed", "true false"}, {"Success CustomerNotSubscribed", "false false"}, {"DuplicateRecord CustomerNotSubscribed", "false false"}} {
			a := m.send(raw{}, "BatchMeterUsage", body(3+i/2))
			call, err := adminapi.GetCall.Do(m.ctx, m.admin(), adminapi.CallPath{RequestID: a.header.Get("X-Amzn-Requestid")})
			if err != nil {
				t.Fatal(err)
			}
			var statuses, stored []string
			for _, r := range call.Results {
				statuses, stored = append(statuses, r.Status), append(stored, fmt.Sprint(r.Stored))
			}
			if strings.Join(statuses, " ") != want.status || strings.Join(stored, " ") != want.stored || call.Operation != "BatchMeterUsage" || call.Region != "us-east-1" || call.AccessKeyID != m.Description.Sellers[0].AccessKeyID {
				t.Errorf("call %d: the audit says %+v", i, call)
			}
		}
		a := m.send(raw{}, "BatchMeterUsage", strings.Replace(body(3), "users", "Users", 1))
		call, err := adminapi.GetCall.Do(m.ctx, m.admin(), adminapi.CallPath{RequestID: a.header.Get("X-Amzn-Requestid")})
		if err != nil || call.Error != "InvalidUsageDimensionException" || call.Message != a.message || !strings.Contains(call.Request, `"Users"`) || len(call.Results) != 0 {
			t.Errorf("the audit of a refusal says %+v, error %v", call, err)
		}
	}},
	{id: "X39", what: "permissions of each operation are their own (3.5)", test: func(t *testing.T, m *market) {
		acme := m.Description.Sellers[0].AccountID
		user, err := adminapi.Users.Create.Do(m.ctx, m.admin(), adminapi.Principal{AccountID: acme, Name: "resolver", Allow: []string{"aws-marketplace:*"}, Deny: []string{"aws-marketplace:BatchMeterUsage"}})
		if err != nil {
			t.Fatal(err)
		}
		key, err := adminapi.CreateAccessKey.Do(m.ctx, m.admin(), adminapi.PrincipalPath{AccountID: acme, Name: user.Name})
		if err != nil {
			t.Fatal(err)
		}
		c := m.Client(meterdtest.Credentials{AccessKeyID: key.AccessKeyID, SecretAccessKey: key.SecretAccessKey}, "", "")
		if _, err := m.resolve(c, m.subscription(m.a, P1).RegistrationToken); err != nil {
			t.Error(err)
		}
		_, err = c.BatchMeterUsage(m.ctx, input(P1, m.users(3, "14:10")), once)
		refused(t, err, "AccessDeniedException", 400, "explicit deny", "aws-marketplace:BatchMeterUsage")
		_, err = adminapi.ChangeAccessKey.Do(m.ctx, m.admin(), adminapi.AccessKeyChange{AccessKeyID: key.AccessKeyID, Status: adminapi.Inactive})
		if err != nil {
			t.Fatal(err)
		}
		_, err = m.resolve(c, m.subscription(m.a, P1).RegistrationToken)
		refused(t, err, "UnrecognizedClientException", 400)
	}},
	{id: "X41", what: "many callers at once: one write wins, and all are told so", test: func(t *testing.T, m *market) {
		const callers, rounds = 8, 10
		var mu sync.Mutex
		ids, won := map[string]bool{}, map[int32]int{}
		var all sync.WaitGroup
		for i := range callers {
			all.Go(func() {
				quantity := int32(i%4 + 1) // two callers agree on each
				for range rounds {
					out, err := m.seller.BatchMeterUsage(m.ctx, input(P1, m.users(quantity, "14:10")), once)
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					ids[aws.ToString(out.Results[0].MeteringRecordId)] = true
					if out.Results[0].Status == success {
						won[quantity]++
					}
					mu.Unlock()
				}
			})
		}
		all.Wait()
		stored := int32(m.Quantity(meterdtest.Usage{}))
		if len(ids) != 1 || len(won) != 1 || won[stored] != 2*rounds || m.Records(meterdtest.Usage{}) != 1 {
			t.Errorf("stored is %d; successes by quantity: %v; ids %v", stored, won, ids)
		}
	}},
	{id: "X42", what: "resend-identical is about BatchMeterUsage: MeterUsage stays idempotent (0.3 D1, 2.6)", config: settings("resend-identical", "duplicate"), test: func(t *testing.T, m *market) {
		one := m.meter(m.Workload("ec2", 0), m.jobs(4, "14:10"))
		m.same(true, one, m.meter(m.Workload("ec2", 0), m.jobs(4, "14:50")))
	}},
	{id: "X43", what: "Config.Unprocessed is about BatchMeterUsage", config: meterdtest.Config{Unprocessed: func(string, string, int32) bool { return true }}, test: func(t *testing.T, m *market) {
		m.meter(m.Workload("ec2", 0), m.jobs(4, "14:10"))
		m.meter(m.Workload("agentcore", 0), m.jobs(4, "14:10"))
		out, err := m.seller.BatchMeterUsage(m.ctx, input(P1, m.users(3, "14:10")), once)
		if err != nil || len(out.Results) != 0 || len(out.UnprocessedRecords) != 1 {
			t.Errorf("%+v, error %v", out, err)
		}
	}},
	{id: "X40", what: "product code of another seller, with its buyer's licence", test: func(t *testing.T, m *market) {
		m.refuse("InvalidLicenseException", "", m.record(licence(m.subscription(m.a, sandbox.OtherSeller).LicenseARN, m.a.AccountID), "units", 3, "14:10"))
	}},
	{id: "X44", what: "MeterUsage takes usage from before the buyer's agreement, or between two, from no workload (2.1)", test: func(t *testing.T, m *market) {
		b := m.b.AccountID
		first := m.Subscribe(container, b) // from 15:20
		m.Clock.Set(moment(t, "15:50"))
		ecs := m.workload(m.b, "ecs", 0)
		w := m.Client(ecs.Credentials, ecs.SessionToken, "")
		dry := func(in *marketplacemetering.MeterUsageInput) *marketplacemetering.MeterUsageInput {
			in.DryRun = aws.Bool(true)
			return in
		}
		m.meterRefused(w, m.jobs(1, "14:59"), "TimestampOutOfBoundsException", 400, "15:20:00")
		m.meter(w, m.jobs(1, "15:10"))
		m.meterRefused(w, m.jobs(1, "14:59"), "TimestampOutOfBoundsException", 400, "15:20:00")
		m.meterRefused(w, dry(m.jobs(1, "14:59")), "TimestampOutOfBoundsException", 400, "15:20:00")
		m.Clock.Set(moment(t, "16:30"))
		m.Unsubscribe(first.AgreementID)
		m.Clock.Set(moment(t, "17:50"))
		m.meter(w, m.jobs(1, "17:10")) // the software runs on
		m.Clock.Set(moment(t, "20:10"))
		m.Subscribe(container, b)
		m.meterRefused(w, m.jobs(1, "19:10"), "TimestampOutOfBoundsException", 400, "20:10:00")
		m.meterRefused(w, dry(m.jobs(1, "19:10")), "TimestampOutOfBoundsException", 400, "20:10:00")
		m.meter(w, m.jobs(1, "16:10"))
		m.meter(w, m.jobs(1, "20:10"))
		m.sum(meterdtest.Usage{}, 4)
	}},
	{id: "X45", what: "an empty ProductCode is none of the caller's; one that is missing breaks the model (1.7)", test: func(t *testing.T, m *market) {
		ecs := as(m.workload(m.a, "ecs", 0))
		m.sendRefused(raw{}, "BatchMeterUsage", `{"ProductCode":"","UsageRecords":[{"Timestamp":1795443000,"Dimension":"users","CustomerAWSAccountId":"`+m.a.AccountID+`"}]}`, "InvalidProductCodeException", 400)
		m.sendRefused(ecs, "MeterUsage", `{"ProductCode":"","UsageDimension":"jobs","Timestamp":1795443000}`, "InvalidProductCodeException", 400)
		m.sendRefused(ecs, "RegisterUsage", `{"ProductCode":"","PublicKeyVersion":2}`, "InvalidProductCodeException", 400)
		m.sendRefused(ecs, "MeterUsage", `{"ProductCode":null,"UsageDimension":"jobs","Timestamp":1795443000}`, "ValidationException", 400, "productCode")
		m.sendRefused(ecs, "RegisterUsage", `{"PublicKeyVersion":2}`, "ValidationException", 400, "productCode")
		m.nothing()
	}},
	{id: "X46", what: "usage of a closed month is told when that month closed (2.1)", test: func(t *testing.T, m *market) {
		for sent, closed := range map[string]string{"2026-10-31T23:50:00Z": "2026-11-01T06:00:00", "2026-06-01T00:00:00Z": "2026-07-01T06:00:00", "2025-12-31T23:00:00Z": "2026-01-01T06:00:00"} {
			_, err := m.seller.BatchMeterUsage(m.ctx, input(P1, m.users(1, sent)), once)
			refused(t, err, "TimestampOutOfBoundsException", 400, "closed at "+closed)
		}
	}},
	{id: "X47", what: "suspended-workloads=meter (2.6)", config: settings("suspended-workloads", "meter"), test: func(t *testing.T, m *market) {
		m.meter(m.Workload("ec2", 0), m.jobs(3, "14:10"))
		if _, err := adminapi.ChangeBuyer.Do(m.ctx, m.admin(), adminapi.BuyerChange{AccountID: m.a.AccountID, Suspended: aws.Bool(true)}); err != nil {
			t.Fatal(err)
		}
		m.meter(m.Workload("ec2", 0), m.jobs(3, "13:10"))
		m.meterRefused(m.Workload("ec2", 1), m.jobs(3, "13:10"), "CustomerNotEntitledException", 400)
	}},
	{id: "X48", what: "MeterUsage and RegisterUsage of a SaaS product are refused, or allowed as a setting (3.5)", test: func(t *testing.T, m *market) {
		in := m.jobs(4, "14:10")
		in.ProductCode, in.UsageDimension = aws.String(P1), aws.String("users")
		m.meterRefused(m.Workload("ecs", 0), in, "InvalidProductCodeException", 400, P1, "BatchMeterUsage")
		register := registration(1, "")
		register.ProductCode = aws.String(P1)
		_, err := m.Workload("ecs", 0).RegisterUsage(m.ctx, register, once)
		refused(t, err, "InvalidProductCodeException", 400, P1)
		m = openMarket(t, "", settings("saas-workloads", "allow"))
		m.meter(m.Workload("ecs", 0), in)
		_, err = m.Workload("ecs", 0).RegisterUsage(m.ctx, register, once)
		refused(t, err, "InvalidPublicKeyVersionException", 400)
	}},
}
