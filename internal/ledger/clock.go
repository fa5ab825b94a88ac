package ledger

import (
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/meterd/meterd/internal/metering"
)

// clock is the ledger clock. Windows, token life, agreements and month close are judged by it. It never falls behind
// the time of anything that was committed; only in a sandbox it can be moved, also back.
//
// If the machine's clock, or that of a shared store, is far ahead for a moment, it must not be believed: ledger time
// would stay there, and no record would be taken until the real time has come so far. So the clock is compared with a
// steady clock, one that nobody sets. When it has jumped ahead, ledger time follows the steady clock instead.
type clock struct {
	wall   func() time.Time
	steady func() time.Duration // the time since some fixed moment, by a clock that nobody sets; nil to believe jumps

	mu       sync.Mutex
	state    clockState
	skew     time.Duration    // how far the database's clock is ahead of the wall clock; see follow
	high     metering.Instant // the clock never shows an earlier time than this
	believed reading          // the last reading that was believed; zero for none
}

// reading is a time, and what the steady clock showed at it.
type reading struct {
	at     metering.Instant
	steady time.Duration
}

// clockState is the part of the clock that survives a restart.
type clockState struct {
	Offset   int64            `json:"offset"`             // milliseconds ahead of the wall clock
	Frozen   metering.Instant `json:"frozen,omitempty"`   // the time at which the clock stands still, or 0
	Accepted metering.Instant `json:"accepted,omitempty"` // the time on the clock when an operator last said that it is right, or 0
	Void     metering.Instant `json:"void,omitempty"`     // times up to this one that were committed before that no longer bind the clock
}

// clockValue is the name of the stored clock state.
const clockValue = "clock"

// maxAhead bounds two things: how far the clock may jump ahead and still be believed, and how far ledger time may be
// ahead of the clock before the service is not ready.
const maxAhead = 5 * time.Minute

// restore sets the stored state, and high as the time that the clock must not fall behind.
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

// follow makes the clock run with the database's clock, which all nodes share. A difference of less than a second is
// ignored, because the rules count minutes.
func (c *clock) follow(database time.Time) {
	const tolerance = time.Second
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.skew = database.Sub(c.wall()); c.skew.Abs() < tolerance {
		c.skew = 0
	}
}

// begin is follow for a clock that has just been restored. It believes the machine's clock, but not the database's if
// that is far ahead of the machine's.
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

// runningLocked returns the time that the clock shows when it is not frozen, held up or jumped ahead.
func (c *clock) runningLocked() metering.Instant {
	return metering.InstantOf(c.wall().Add(c.skew))
}

// readLocked returns the time on the clock. If the clock has jumped ahead, it returns the steady clock's time
// instead, and how far the jump was.
func (c *clock) readLocked() (now metering.Instant, jump time.Duration) {
	now = c.runningLocked()
	if c.steady == nil {
		return now, 0
	}
	if since := now.Sub(c.believed.at); since.Abs() < time.Second { // too little has passed for a jump
		return now, 0
	}
	steady := c.steady()
	if c.believed != (reading{}) {
		expected := c.believed.at.Add(steady - c.believed.steady)
		switch jump = now.Sub(expected); {
		case jump > maxAhead:
			return expected, jump
		case jump < -maxAhead: // set back, perhaps only until the database's clock is asked within a second; coming forward again is then no jump
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

// ahead returns how far ledger time is ahead of the wall clock with its offset. After the machine's clock was ahead
// for a while, ledger time stands until the wall clock has caught up.
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

// jumped returns an error while the clock is far ahead of where it should be by the steady clock.
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

// set replaces the state. The clock may then show an earlier or a later time than before.
func (c *clock) set(s clockState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state != s {
		c.state, c.high, c.believed = s, 0, reading{}
	}
}

// at returns what the clock would show in the given state.
func (c *clock) at(s clockState) metering.Instant {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.Frozen != 0 {
		return s.Frozen
	}
	return c.runningLocked() + metering.Instant(s.Offset)
}

// accepted returns the state that accepts the clock as it runs now, and the ledger time until now. ok is false if
// there is nothing to accept.
func (c *clock) accepted() (s clockState, was metering.Instant, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	was = c.nowLocked()
	_, jump := c.readLocked()
	s = c.state
	s.Accepted = c.runningLocked()
	if ahead := c.aheadLocked(); ahead > maxAhead {
		s.Void = was.Add(maxAhead) // other nodes may have been a little further
		return s, was, true
	}
	return s, was, jump > 0
}
