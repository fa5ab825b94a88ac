package ledger_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/meterd/meterd/internal/adminapi"
	"github.com/meterd/meterd/internal/iam"
	"github.com/meterd/meterd/internal/ledger"
	"github.com/meterd/meterd/internal/metering"
	"github.com/meterd/meterd/internal/pgtest"
	"github.com/meterd/meterd/internal/verify"
)

// nodes opens a shop's ledger a second time, as another node does.
func nodes(t *testing.T) (one, two *shop) {
	t.Helper()
	one = newShopIn(t, pgtest.URL(t, t.Name()))
	two = another(t, one)
	t.Cleanup(func() {
		if r := verified(t, one.dir, verify.Options{}); r.ProblemCount != 0 {
			t.Errorf("verify: %q", r.Problems)
		}
	})
	return one, two
}

func another(t *testing.T, s *shop) *shop {
	t.Helper()
	other := *s
	other.ids = 1000
	other.open()
	t.Cleanup(func() { other.l.Close() })
	return &other
}

// TestNodesAgree sends every record to both nodes at once, by halves with another quantity: one of them is stored, and
// both say the same of it.
func TestNodesAgree(t *testing.T) {
	one, two := nodes(t)
	const rounds = 60
	for round := range rounds {
		var lines [2][]metering.Line
		var outcomes [2][]metering.Outcome
		var both sync.WaitGroup
		for i, s := range []*shop{one, two} {
			records := []metering.UsageRecord{s.record("222222222222", "users", 60*(round%20), int32(round)), s.record("222222222222", "gb", 60*(round%20), int32(round+i))}
			for j := range records {
				records[j].Timestamp += metering.Instant(round / 20) // the same hours again: replays and conflicts
			}
			both.Go(func() { _, outcomes[i], lines[i] = s.batch(sellerKey, "legacy", records...) })
		}
		both.Wait()
		for j := range 2 {
			a, b := outcomes[0][j], outcomes[1][j]
			if lines[0][j].ID != lines[1][j].ID {
				t.Fatalf("round %d: ids %x and %x", round, lines[0][j].ID, lines[1][j].ID)
			}
			first := round < 20
			if stored := (a == metering.Stored) != (b == metering.Stored); stored != first {
				t.Errorf("round %d, record %d: %v and %v", round, j, a, b)
			}
			if j == 1 && first && a != metering.Duplicate && b != metering.Duplicate {
				t.Errorf("round %d: two quantities, but %v and %v", round, a, b)
			}
		}
	}
	if got := len(two.usage(adminapi.UsageFilter{}, "", 0).Records); got != 40 {
		t.Errorf("%d records are stored, want 40", got)
	}
}

// TestNodesTokens sends one ClientToken to both nodes at once.
func TestNodesTokens(t *testing.T) {
	one, two := nodes(t)
	for round := range 20 {
		var ids [2]metering.RecordID
		var both sync.WaitGroup
		for i, s := range []*shop{one, two} {
			both.Go(func() {
				var refusal *metering.Error
				if _, ids[i], refusal = s.meter("agentcore", "pods", 7, fmt.Sprint("token", round)); refusal != nil {
					t.Error(refusal)
				}
			})
		}
		both.Wait()
		if ids[0] != ids[1] {
			t.Errorf("round %d: %x and %x", round, ids[0], ids[1])
		}
	}
	if _, _, refusal := two.meter("agentcore", "pods", 8, "token3"); !refusedAs(refusal, metering.IdempotencyConflict) {
		t.Errorf("a token with another quantity on the other node: %v", refusal)
	}
	if got := len(one.usage(adminapi.UsageFilter{}, "", 0).Records); got != 20 {
		t.Errorf("%d records are stored, want 20", got)
	}
}

// followed checks that something is so on a node once it has followed the others, as it does each second.
func followed(t *testing.T, node *shop, what string, so func() bool) {
	t.Helper()
	if err := node.l.Follow(); err != nil {
		t.Fatal(err)
	}
	if !so() {
		t.Fatalf("%s: not on the other node", what)
	}
}

// eventually asks until something is so of a node by itself: how ready it is turns on seconds that pass, and on what its
// own goroutines find out of the database, of which nobody is told. Nothing else may wait like this.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	tick, deadline := time.NewTicker(10*time.Millisecond), time.After(time.Minute)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%s: not within a minute", what)
		}
	}
}

// TestNodesFollow changes everything that can be changed on one node, and has the other honour it: the first change it must find by itself.
func TestNodesFollow(t *testing.T) {
	one, two := nodes(t)
	began := one.now.Add(-24 * time.Hour)
	if _, err := one.l.CreateAgreement(ctx, one.op, adminapi.Agreement{ProductCode: "legacy", BuyerAccountID: "444444444444", StartTime: &began}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "an agreement", func() bool {
		_, outcomes, _ := two.batch(sellerKey, "legacy", two.record("444444444444", "users", 0, 1))
		return outcomes[0] != metering.NotSubscribed
	})
	if _, err := one.l.PutPermissions(ctx, one.op, iam.User, "111111111111", "meter", adminapi.Permissions{Allow: []string{iam.SellerAccess}, Deny: []string{"aws-marketplace:BatchMeterUsage"}}); err != nil {
		t.Fatal(err)
	}
	followed(t, two, "a policy", func() bool {
		credential, err := two.l.Credential(sellerKey, "")
		if err != nil {
			t.Fatal(err)
		}
		c, refusal := two.l.Begin(ledger.Caller{Identity: credential.Principal, Region: "us-east-1", RequestID: two.requestID()}, metering.BatchMeterUsage)
		if refusal == nil {
			c.End()
		}
		return refusal != nil && refusal.Kind == metering.AccessDenied
	})
	if err := one.l.DeleteAccessKey(ctx, one.op, sellerKey); err != nil {
		t.Fatal(err)
	}
	followed(t, two, "a deleted key", func() bool {
		_, err := two.l.Credential(sellerKey, "")
		return err != nil
	})
	token, err := one.l.CreateAdminToken(ctx, one.op, adminapi.AdminToken{Name: "new"})
	if err != nil {
		t.Fatal(err)
	}
	followed(t, two, "an admin token", func() bool {
		_, refusal := two.l.Operator(token.Token, "", "")
		return refusal == nil
	})
	if _, err := one.l.ChangeClock(ctx, one.op, adminapi.ClockChange{Advance: "-3h"}); err != nil {
		t.Fatal(err)
	}
	followed(t, two, "the clock", func() bool { return two.l.Now() == one.l.Now() })
	registration, err := one.l.CreateToken(ctx, one.op, adminapi.TokenRequest{ProductCode: "legacy", Buyer: "222222222222"})
	if err != nil {
		t.Fatal(err)
	}
	c, _ := two.begin(metering.ResolveCustomer, rivalKey, "")
	defer c.End()
	if _, refusal := c.ResolveCustomer(ctx, registration.RegistrationToken); !refusedAs(refusal, metering.InvalidToken) {
		t.Errorf("a token of another seller's product: %v", refusal)
	}
}

// TestNodesAct has both nodes change the catalogue at once: every act is done, on what the ones before it have left.
func TestNodesAct(t *testing.T) {
	one, two := nodes(t)
	const each = 15
	var both sync.WaitGroup
	for i, s := range []*shop{one, two} {
		both.Go(func() {
			for n := range each {
				if _, err := s.l.CreateBuyer(ctx, s.op, adminapi.Buyer{AccountID: fmt.Sprintf("6%d%010d", i, n)}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	both.Wait()
	third := another(t, one)
	for _, s := range []*shop{one, two, third} {
		followed(t, s, "all buyers", func() bool {
			page, err := s.l.Buyers(ctx, s.op, "", 1000)
			if err != nil {
				t.Fatal(err)
			}
			return len(page.Items) == 2*each+2
		})
	}
	if _, err := two.l.CreateBuyer(ctx, two.op, adminapi.Buyer{AccountID: "600000000000"}); !refusedAs(err, metering.Conflict) {
		t.Errorf("a buyer whom the other node has made: %v", err)
	}
}

// TestNodesEntitle: a workload's first call entitles it on every node (metering-api 2.6).
func TestNodesEntitle(t *testing.T) {
	one, two := nodes(t)
	if _, _, refusal := one.meter("ec2", "users", 1, ""); refusal != nil {
		t.Fatal(refusal)
	}
	agreements, err := one.l.Agreements(ctx, one.op, adminapi.AgreementFilter{ProductCode: "software"}, "", 0)
	if err != nil || len(agreements.Items) != 1 {
		t.Fatal(agreements, err)
	}
	if _, err := one.l.EndAgreement(ctx, one.op, agreements.Items[0].AgreementID); err != nil {
		t.Fatal(err)
	}
	followed(t, two, "the end of the agreement", func() bool {
		page, err := two.l.Agreements(ctx, two.op, adminapi.AgreementFilter{ProductCode: "software"}, "", 0)
		return err == nil && page.Items[0].Status == "ended"
	})
	two.now = two.now.Add(time.Hour)
	if _, _, refusal := two.meter("ec2", "users", 2, ""); refusal != nil {
		t.Errorf("on the other node: %v", refusal)
	}
	if _, _, refusal := two.meter("agentcore", "pods", 2, "t"); !refusedAs(refusal, metering.CustomerNotEntitled) {
		t.Errorf("another workload: %v", refusal)
	}
}

// TestNodesTime gives two nodes clocks that are two minutes apart: both count by the database's.
func TestNodesTime(t *testing.T) {
	place := pgtest.URL(t, t.Name())
	config := func(skew time.Duration) ledger.Config {
		return ledger.Config{Store: place, MasterKey: make([]byte, 32), DatabaseClock: true, Now: func() time.Time { return time.Now().Add(skew) }}
	}
	if err := ledger.Create(config(0)); err != nil {
		t.Fatal(err)
	}
	for _, skew := range []time.Duration{-time.Minute, time.Minute, 300 * time.Millisecond} {
		// The database was asked while the ledger was opened, however long that took; less than a second is left alone.
		earliest := time.Now().Add(-time.Second)
		l, err := ledger.Open(config(skew))
		if err != nil {
			t.Fatal(err)
		}
		if now, latest := l.Now().Time(), time.Now().Add(time.Second); now.Before(earliest) || now.After(latest) {
			t.Errorf("a node whose clock is off by %v has %v, not %v to %v", skew, now, earliest, latest)
		}
		eventually(t, "ready", func() bool { return l.Ready() == nil })
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestNodesSkewed sends to four nodes at once whose clocks are a minute ahead of the database's or behind it, two of
// each: all of them have the same window, to its edges.
func TestNodesSkewed(t *testing.T) {
	one, _ := nodes(t)
	const rounds = 30
	began := one.now.Add(-72 * time.Hour)
	market := adminapi.Marketplace{}
	for i := range rounds {
		market.Buyers = append(market.Buyers, adminapi.Buyer{AccountID: fmt.Sprintf("5%011d", i), Agreements: []adminapi.Agreement{{ProductCode: "legacy", StartTime: &began}}})
	}
	if _, err := one.l.Import(ctx, one.op, &market); err != nil {
		t.Fatal(err)
	}
	var skewed []*shop
	for i := range 4 {
		skew := time.Minute - time.Duration(i%2)*2*time.Minute
		s := *one
		s.skew, s.ids = &skew, 10_000*(i+1)
		s.open()
		t.Cleanup(func() { s.l.Close() })
		skewed = append(skewed, &s)
	}
	clock, err := skewed[0].l.ChangeClock(ctx, skewed[0].op, adminapi.ClockChange{Now: &shopOpening})
	if err != nil {
		t.Fatal(err)
	}
	moved := time.Now()
	for _, s := range skewed {
		followed(t, s, "the clock", func() bool { return s.l.Now().Sub(metering.InstantOf(clock.Now)).Abs() < time.Hour })
	}
	const near = 50 * time.Second // the clocks differ by a minute
	edges := []struct {
		dimension string
		age       time.Duration
		taken     bool
	}{{"users", near - 5*time.Minute, true}, {"gb", 24*time.Hour - near, true}, {"users", -near - 5*time.Minute, false}, {"gb", 24*time.Hour + near, false}}
	for round := range rounds {
		now := metering.InstantOf(shopOpening.Add(time.Since(moved)))
		var stored [4]atomic.Int32
		var ids [4]sync.Map
		var all sync.WaitGroup
		for _, s := range skewed {
			all.Go(func() {
				for i, edge := range edges {
					r := s.record(market.Buyers[round].AccountID, edge.dimension, 0, int32(round))
					r.Timestamp = now.Add(-edge.age)
					c, _ := s.begin(metering.BatchMeterUsage, sellerKey, "")
					lines, outcomes, refusal := c.BatchMeterUsage(&metering.Batch{ProductCode: "legacy", Records: []metering.UsageRecord{r}, Count: 1}, []byte("{}"))
					switch {
					case !edge.taken && (refusal == nil || refusal.Kind != metering.TimestampOutOfBounds):
						t.Errorf("%v old, at a node whose clock is ahead by %v: %v", edge.age, *s.skew, refusal)
					case edge.taken && refusal != nil:
						t.Errorf("%v old, at a node whose clock is ahead by %v: %v", edge.age, *s.skew, refusal)
					case edge.taken:
						ids[i].Store(lines[0].ID, nil)
						if outcomes[0] == metering.Stored {
							stored[i].Add(1)
						} else if outcomes[0] != metering.Replayed {
							t.Errorf("%v old: %v", edge.age, outcomes[0])
						}
					}
					c.End()
				}
			})
		}
		all.Wait()
		for i, edge := range edges {
			n := 0
			ids[i].Range(func(any, any) bool { n++; return true })
			if edge.taken && (stored[i].Load() != 1 || n != 1) {
				t.Errorf("round %d, %v old: stored %d times under %d ids", round, edge.age, stored[i].Load(), n)
			}
		}
	}
}

// TestNotCommitting: a node of which the database refuses what it writes is not ready, says why, and is ready again when
// it would be committed, also if no calls come.
func TestNotCommitting(t *testing.T) {
	for name, c := range map[string]struct{ does, undoes, says string }{
		"a key dropped":  {"ALTER TABLE usage DROP CONSTRAINT usage_pkey", "ALTER TABLE usage ADD CONSTRAINT usage_pkey PRIMARY KEY (hour, subject, meter)", "42P10"},
		"a column gone":  {"ALTER TABLE call RENAME COLUMN source TO source2", "ALTER TABLE call RENAME COLUMN source2 TO source", "42703"},
		"a trigger":      {"CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''no''; END'; CREATE TRIGGER no BEFORE INSERT ON call EXECUTE FUNCTION no()", "DROP TRIGGER no ON call", "P0001"},
		"a table locked": {"", "", "have not been committed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			place := pgtest.URL(t, t.Name())
			s := newShopIn(t, place)
			conn, err := pgx.Connect(t.Context(), place)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close(context.Background())
			if c.does == "" {
				c.does, c.undoes = "BEGIN; LOCK TABLE call IN SHARE MODE", "ROLLBACK"
			}
			if _, err := conn.Exec(t.Context(), c.does); err != nil {
				t.Fatal(err)
			}
			if _, _, refusal := s.meter("agentcore", "pods", 7, "token"); refusal == nil {
				t.Fatal("a call was taken")
			}
			eventually(t, "not ready", func() bool { err := s.l.Ready(); return err != nil && strings.Contains(err.Error(), c.says) })
			if _, err := conn.Exec(t.Context(), c.undoes); err != nil {
				t.Fatal(err)
			}
			eventually(t, "ready again", func() bool { return s.l.Ready() == nil })
			if _, _, refusal := s.meter("agentcore", "pods", 7, "token"); refusal != nil {
				t.Errorf("then a call is refused: %v", refusal)
			}
			if r := verified(t, s.dir, verify.Options{}); r.ProblemCount != 0 {
				t.Errorf("verify: %q", r.Problems)
			}
		})
	}
}
