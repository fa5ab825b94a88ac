package ledger_test

import (
	"testing"
	"time"

	"github.com/meterd/meterd/internal/adminapi"
	"github.com/meterd/meterd/internal/iam"
	"github.com/meterd/meterd/internal/ledger"
	"github.com/meterd/meterd/internal/metering"
)

// Calls that their caller may not make leave the account's quota to those who may, and have a bound of their own.
func TestDeniedCallsAreBounded(t *testing.T) {
	s := newShop(t)
	_, err := s.l.CreatePrincipal(ctx, s.op, iam.User, adminapi.Principal{AccountID: "111111111111", Name: "powerless",
		AccessKeys: []adminapi.AccessKey{{AccessKeyID: "AKIAIOSFODNN7POWERLS", SecretAccessKey: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.l.Close(); err != nil {
		t.Fatal(err)
	}
	config := s.config()
	config.Limits = ledger.Limits{Denied: 4}
	config.Limits.Calls[metering.BatchMeterUsage] = 3
	if s.l, err = ledger.Open(config); err != nil {
		t.Fatal(err)
	}
	begin := func(key string, op metering.Operation, want metering.Kind, refused bool) {
		t.Helper()
		credential, err := s.l.Credential(key, "")
		if err != nil {
			t.Fatal(err)
		}
		c, refusal := s.l.Begin(ledger.Caller{Identity: credential.Principal, Region: "us-east-1", Source: "192.0.2.1", RequestID: s.requestID()}, op)
		if refusal == nil {
			c.Refuse(metering.Errorf(metering.Validation, "no body"), nil)
			c.End()
		}
		if (refusal != nil) != refused || refused && refusal.Kind != want {
			t.Errorf("%v with %s: %v", op, key, refusal)
		}
	}
	const powerless = "AKIAIOSFODNN7POWERLS"
	for range 2 {
		for i := range 6 {
			op := []metering.Operation{metering.BatchMeterUsage, metering.ResolveCustomer}[i%2] // the second has no quota
			if i < 4 {
				begin(powerless, op, metering.AccessDenied, true)
			} else {
				begin(powerless, op, metering.Throttling, true)
			}
		}
		for range 3 {
			begin(sellerKey, metering.BatchMeterUsage, 0, false)
		}
		begin(sellerKey, metering.BatchMeterUsage, metering.Throttling, true)
		begin(rivalKey, metering.RegisterUsage, metering.AccessDenied, true) // another one's
		s.now = s.now.Add(time.Second)
	}
}
