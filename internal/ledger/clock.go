package ledger

import (
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/meterd/meterd/internal/metering"
)

// clock is the ledger clock. It rules windows, token life, agreements and month close, and never runs backwards
// over the time of anything that was committed. In a sandbox it can be moved, also back.
//
// A clock that is far ahead for a moment, the machine's or a shared store's, must not be believed: ledger time would
// stay there, and no record would be taken until the real time has come so far. So a jump ahead is noticed by a clock
// that nobody sets, and then the ledger clock goes on by that one.
type clock struct {
	wall   func() time.Time
	steady func() time.Duration // the time since some moment, by a clock that nobody sets; nil if jumps are believed

	mu       sync.Mutex
	state    clockState
	skew     time.Duration    // by which the database's clock is ahead of the wall clock; see follow
	high     metering.Instant // never show an earlier time than this
	believed reading          // the last reading that was; zero for none
}

// reading is a time with that of the steady clock.
type reading struct {
	at     metering.Instant
	steady time.Duration
}

// clockState is the part of the clock that survives a restart.
type clockState struct {
	Offset   int64            `json:"offset"`             // milliseconds ahead of the wall clock
	Frozen   metering.Instant `json:"frozen,omitempty"`   // where it stands still, or 0
	Accepted metering.Instant `json:"accepted,omitempty"` // what the clock was when an operator said last that it is right, or 0
	Void     metering.Instant `json:"void,omitempty"`     // times up to this one that were committed before that do not bind
}

// clockValue is the name of the stored clock state.
const clockValue = "clock"

// maxAhead is how far the clock may jump ahead to be believed, and how far ledger time may be ahead of it before the
// service is not ready.
const maxAhead = 5 * time.Minute

// restore sets the stored state, and the time that the clock must not fall behind.
func (c *clock) restore(stored []byte, high metering.Instant) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	state, err := parseClock(stored)
	if c.state, c.high = state, high; high <= state.Void {
		c.high = min(high, c.runningLocked())
	}
	return err
}

func parseClock(stored []byte) (s clockState, err error) {
	if stored != nil {
		if err := json.Unmarshal(stored, &s); err != nil {
			return s, fmt.Errorf("reading the ledger clock: %w", err)
		}
	}
	return s, nil
}

// follow has the clock run with the database's, which is one for all nodes. What they differ by within a second is
// left alone: the rules count minutes.
func (c *clock) follow(database time.Time) {
	const tolerance = time.Second
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.skew = database.Sub(c.wall()); c.skew.Abs() < tolerance {
		c.skew = 0
	}
}

// begin is follow for a clock that has just been restored: the machine's own is believed, and the database's is not if it
// is far ahead of that.
func (c *clock) begin(database time.Time) {
	c.mu.Lock()
	c.readLocked()
	c.mu.Unlock()
	c.follow(database)
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := c.runningLocked(); c.steady != nil && now < c.believed.at {
		c.believed = reading{now, c.steady()}
	}
}

// runningLocked is the time that the clock shows unless it is frozen, held up, or has jumped.
func (c *clock) runningLocked() metering.Instant {
	return metering.InstantOf(c.wall().Add(c.skew))
}

// readLocked returns the time by the clock, or by the steady one if it has jumped ahead, and by how much it has.
func (c *clock) readLocked() (now metering.Instant, jump time.Duration) {
	now = c.runningLocked()
	if c.steady == nil {
		return now, 0
	}
	if since := now.Sub(c.believed.at); since.Abs() < time.Second { // no need to ask
		return now, 0
	}
	steady := c.steady()
	if c.believed != (reading{}) {
		expected := c.believed.at.Add(steady - c.believed.steady)
		switch jump = now.Sub(expected); {
		case jump > maxAhead:
			return expected, jump
		case jump < -maxAhead: // as for the second until the database's clock is asked; what comes after it is no jump
			return now, 0
		}
	}
	c.believed = reading{now, steady}
	return now, 0
}

func (c *clock) now() metering.Instant {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.nowLocked()
}

// ahead returns how far the clock stands before the wall clock with its offset: after the machine's clock was ahead
// for a while, ledger time waits for it to catch up.
func (c *clock) ahead() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.aheadLocked()
}

func (c *clock) aheadLocked() time.Duration {
	if c.state.Frozen != 0 {
		return 0
	}
	now, _ := c.readLocked()
	return c.nowLocked().Sub(now + metering.Instant(c.state.Offset))
}

// jumped returns an error while the clock is far ahead of what it should be by the steady one.
func (c *clock) jumped() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, jump := c.readLocked(); jump > 0 {
		return fmt.Errorf("the clock has jumped ahead by %v, to %v: nothing is taken until it is right again, for ledger time would stay there; if it is right now, say so with: meterd admin clock accept", jump.Round(time.Second), c.runningLocked())
	}
	return nil
}

func (c *clock) nowLocked() metering.Instant {
	now := c.state.Frozen
	if now == 0 {
		now, _ = c.readLocked()
		now += metering.Instant(c.state.Offset)
	}
	c.high = max(c.high, now)
	return c.high
}

// set replaces the state and lets the clock show an earlier time than before, or a later one.
func (c *clock) set(s clockState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state != s {
		c.state, c.high, c.believed = s, 0, reading{}
	}
}

// at returns what the clock would show with the state.
func (c *clock) at(s clockState) metering.Instant {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.Frozen != 0 {
		return s.Frozen
	}
	return c.runningLocked() + metering.Instant(s.Offset)
}

// accepted returns the state in which the clock is as it runs now, and where ledger time was; ok is false if that is
// no news.
func (c *clock) accepted() (s clockState, was metering.Instant, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	was = c.nowLocked()
	_, jump := c.readLocked()
	s = c.state
	s.Accepted = c.runningLocked()
	if ahead := c.aheadLocked(); ahead > maxAhead {
		s.Void = was.Add(maxAhead) // others may have been a little further
		return s, was, true
	}
	return s, was, jump > 0
}
