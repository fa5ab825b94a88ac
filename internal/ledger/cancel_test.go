package ledger_test

import (
	"context"
	"errors"
	"testing"

	"github.com/meterd/meterd/internal/adminapi"
	"github.com/meterd/meterd/internal/ledger"
	"github.com/meterd/meterd/internal/market"
	"github.com/meterd/meterd/internal/metering"
)

// TestClientGone: nothing is read for who has gone, an act of such a one does not wait for others and is not committed,
// and the ledger is as good as before.
func TestClientGone(t *testing.T) {
	m := newFixture(t, false)
	m.create()
	before := m.everything()
	gone, leave := context.WithCancel(ctx)
	leave()
	for name, read := range map[string]func() error{
		"a list":     func() error { _, err := m.l.Buyers(gone, m.op, "", 0); return err },
		"tokens":     func() error { _, err := m.l.Tokens(gone, m.op, "", 0); return err },
		"usage":      func() error { _, err := m.l.Usage(gone, m.op, adminapi.UsageFilter{}, "", 0); return err },
		"usage sums": func() error { _, err := m.l.UsageSums(gone, m.op, adminapi.UsageFilter{}, nil); return err },
		"a call":     func() error { _, err := m.l.CallRecord(gone, m.op, "0193581a-3c00-7000-8000-000000000000"); return err },
	} {
		if err := read(); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
	}

	create := market.CreateSeller(adminapi.Seller{AccountID: "999988887777"})
	act := func(ctx context.Context, plan func()) error {
		_, err := ledger.Act(ctx, m.l, m.op, func(p *market.Plan) (market.Find[adminapi.Seller], *metering.Error) {
			plan()
			return create(p)
		})
		return err
	}
	refused(t, act(gone, func() {}), metering.Throttling, "The client has gone")
	leaving, leave := context.WithCancel(ctx)
	refused(t, act(leaving, leave), metering.Throttling, "The client has gone")
	refused(t, act(leaving, func() {}), metering.Throttling, "The client has gone")
	if _, err := ledger.Act(ctx, m.l, m.op, func(*market.Plan) (market.Find[adminapi.Seller], *metering.Error) {
		refused(t, act(gone, func() { t.Error("two acts are planned at once") }), metering.Throttling, "The client has gone")
		return nil, metering.Errorf(metering.Conflict, "enough")
	}); err == nil {
		t.Error("an act that refuses is committed")
	}
	if now := m.everything(); len(now.Sellers) != len(before.Sellers) {
		t.Errorf("sellers: %+v", now.Sellers)
	}
	if err := m.l.Ready(); err != nil {
		t.Error(err)
	}
	if err := act(ctx, func() {}); err != nil {
		t.Error(err)
	}
}
