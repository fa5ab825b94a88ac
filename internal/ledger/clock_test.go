package ledger_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/meterd/meterd/internal/adminapi"
	"github.com/meterd/meterd/internal/ledger"
	"github.com/meterd/meterd/internal/metering"
	"github.com/meterd/meterd/internal/pgtest"
	"github.com/meterd/meterd/internal/verify"
)

// timed is a production ledger whose machine has clocks that the test sets.
type timed struct {
	*ledger.Ledger
	t      *testing.T
	cfg    ledger.Config
	wall   time.Time
	steady time.Duration
	n      int // of accounts
}

func newTimed(t *testing.T) *timed {
	t.Helper()
	m := &timed{t: t, wall: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)}
	m.cfg = ledger.Config{Store: pgtest.Place(t, t.TempDir()), MasterKey: make([]byte, 32), Now: func() time.Time { return m.wall }, Steady: func() time.Duration { return m.steady }}
	if err := ledger.Create(m.cfg); err != nil {
		t.Fatal(err)
	}
	m.open()
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
		if r := verified(t, m.cfg.Store, verify.Options{}); r.ProblemCount != 0 {
			t.Errorf("verify: %q", r.Problems)
		}
	})
	return m
}

func (m *timed) open() {
	m.t.Helper()
	var err error
	if m.Ledger, err = ledger.Open(m.cfg); err != nil {
		m.t.Fatal(err)
	}
}

// pass lets time go by.
func (m *timed) pass(d time.Duration) { m.wall, m.steady = m.wall.Add(d), m.steady+d }

// write commits something.
func (m *timed) write() error {
	m.n++
	_, err := m.CreateBuyer(ctx, m.Local(), adminapi.Buyer{AccountID: fmt.Sprintf("1%011d", m.n)})
	return err
}

// well wants the ledger to take calls and to show the time by the machine's clock.
func (m *timed) well(when string) {
	m.t.Helper()
	if err := errors.Join(m.write(), m.Ready()); err != nil || m.Now() != metering.InstantOf(m.wall) {
		m.t.Errorf("%s: at %v by the ledger, %v by the clock: %v", when, m.Now(), m.wall, err)
	}
}

const month = 30 * 24 * time.Hour

// TestClockJumps: while the clock is far ahead, which another one shows, nothing is taken, and ledger time stays right.
func TestClockJumps(t *testing.T) {
	m := newTimed(t)
	m.well("at first")
	if _, err := m.AcceptClock(ctx, m.Local()); !refusedAs(err, metering.Conflict) {
		t.Errorf("a clock that is right was accepted: %v", err)
	}
	m.pass(4 * time.Hour) // without a call
	m.well("after a night")
	m.wall = m.wall.Add(4 * time.Minute)
	m.well("set a little")

	m.wall = m.wall.Add(month)
	for range 2 {
		m.pass(time.Minute)
		if err := m.write(); !refusedAs(err, metering.Throttling) {
			t.Errorf("taken while the clock is a month ahead: %v", err)
		}
		if err := m.Ready(); err == nil || !strings.Contains(err.Error(), "has jumped ahead by 720h0m0s") {
			t.Errorf("ready: %v", err)
		}
		if want := metering.InstantOf(m.wall.Add(-month)); m.Now() != want {
			t.Errorf("ledger time is %v, want %v", m.Now(), want)
		}
	}
	m.wall = m.wall.Add(-month)
	m.well("right again")

	m.wall = m.wall.Add(-time.Hour) // for a moment
	if err := errors.Join(m.write(), m.Ready()); err == nil || !strings.Contains(err.Error(), "ahead of the clock") {
		t.Errorf("set back: %v", err)
	}
	m.wall = m.wall.Add(time.Hour + time.Minute)
	m.well("no more")

	m.wall = m.wall.Add(month)
	if _, err := m.AcceptClock(ctx, m.Local()); err != nil {
		t.Fatal(err)
	}
	m.well("accepted")
	m.pass(time.Hour)
	m.well("an hour later")
}

// TestClockWasAhead: a ledger that was opened while the clock was ahead stays there until an operator takes it back.
func TestClockWasAhead(t *testing.T) {
	m := newTimed(t)
	reopen := func(change time.Duration) {
		t.Helper()
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
		m.wall = m.wall.Add(change)
		m.open()
	}
	reopen(month) // no other clock says what is right
	m.well("opened then")
	reopen(-month)
	for range 2 {
		if err := m.Ready(); err == nil || !strings.Contains(err.Error(), "720h0m0s ahead of the clock") || m.Now() != metering.InstantOf(m.wall.Add(month)) {
			t.Errorf("ready at %v: %v", m.Now(), err)
		}
		reopen(0)
	}
	if clock, err := m.AcceptClock(ctx, m.Local()); err != nil || !clock.Now.Equal(m.wall) {
		t.Fatal(clock, err)
	}
	m.well("accepted")
	reopen(time.Minute)
	m.well("opened again")
	reopen(month)
	m.well("a month later")
}

// TestDatabaseClockAhead: a database whose clock is a month ahead of the node's is not believed.
func TestDatabaseClockAhead(t *testing.T) {
	began := time.Now()
	cfg := ledger.Config{Store: pgtest.URL(t, t.Name()), MasterKey: make([]byte, 32), DatabaseClock: true,
		Now: func() time.Time { return time.Now().Add(-month) }, Steady: func() time.Duration { return time.Since(began) }}
	if err := ledger.Create(cfg); err != nil {
		t.Fatal(err)
	}
	l, err := ledger.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Ready(); err == nil || !strings.Contains(err.Error(), "has jumped ahead by 720h0m0s") {
		t.Errorf("ready: %v", err)
	}
	if _, err := l.CreateBuyer(ctx, l.Local(), adminapi.Buyer{AccountID: "131111111111"}); !refusedAs(err, metering.Throttling) {
		t.Errorf("taken: %v", err)
	}
	other := cfg // another node, whose own clock is right
	other.Now = time.Now
	o, err := ledger.Open(other)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.AcceptClock(ctx, l.Local()); err != nil {
		t.Error(err)
	}
	for _, l := range []*ledger.Ledger{l, o} {
		asked := time.Now() // the node asks for the database's time after this
		if err := l.Follow(); err != nil {
			t.Fatal(err)
		}
		if err := l.Ready(); err != nil {
			t.Errorf("the clock is accepted, and the node is not ready: %v", err)
		}
		if now := l.Now().Time(); now.Before(asked.Add(-5*time.Second)) || now.After(time.Now().Add(5*time.Second)) {
			t.Errorf("the clock shows %v at %v", now, asked)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
}
