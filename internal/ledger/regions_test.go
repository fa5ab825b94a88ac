package ledger_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/meterd/meterd/internal/adminapi"
	"github.com/meterd/meterd/internal/ledger"
	"github.com/meterd/meterd/internal/metering"
)

// A region that AWS's list has without the service is enabled by a marketplace file, or on one node by --regions. The
// refusals before it say how.
func TestRegionsThatAWSHasWithoutTheService(t *testing.T) {
	s := newShop(t)
	resolve := func(region string) *metering.Error {
		t.Helper()
		credential, err := s.l.Credential(sellerKey, "")
		if err != nil {
			t.Fatal(err)
		}
		c, refusal := s.l.Begin(ledger.Caller{Identity: credential.Principal, Region: region, Source: "192.0.2.1", RequestID: s.requestID()}, metering.ResolveCustomer)
		if refusal != nil {
			t.Fatal(refusal)
		}
		defer c.End()
		_, refusal = c.ResolveCustomer(ctx, "x")
		return refusal
	}
	check := func(region string, want metering.Kind, words ...string) {
		t.Helper()
		refusal := resolve(region)
		if refusal.Kind != want {
			t.Errorf("%s: %v %s, want %v", region, refusal.Kind, refusal, want)
		}
		for _, w := range words {
			if !strings.Contains(refusal.Message, w) {
				t.Errorf("%s: %q lacks %q", region, refusal, w)
			}
		}
	}
	reopen := func(regions ...string) {
		t.Helper()
		if err := s.l.Close(); err != nil {
			t.Fatal(err)
		}
		config := s.config()
		config.Regions = regions
		var err error
		if s.l, err = ledger.Open(config); err != nil {
			t.Fatal(err)
		}
		s.op = s.l.Local()
	}
	check("ca-west-1", metering.DisabledAPI, "meterd admin region enable ca-west-1")
	check("us-gov-east-1", metering.DisabledAPI, "AWS does not offer ResolveCustomer in us-gov-east-1")

	reopen("us-east-1", "ca-west-1")
	check("ca-west-1", metering.InvalidToken)
	check("us-east-1", metering.InvalidToken)
	check("eu-west-1", metering.DisabledAPI, "by this node", "--regions")
	if got := s.l.ServedRegions(); !slices.Equal(got, []string{"us-east-1", "ca-west-1"}) {
		t.Errorf("it serves %q", got)
	}

	reopen()
	check("ca-west-1", metering.DisabledAPI)
	if _, err := s.l.Import(ctx, s.op, &adminapi.Marketplace{Regions: []adminapi.Region{{Name: "ca-west-1", Enabled: new(true)}}}); err != nil {
		t.Fatal(err)
	}
	check("ca-west-1", metering.InvalidToken)
	reopen()
	check("ca-west-1", metering.InvalidToken)
}
