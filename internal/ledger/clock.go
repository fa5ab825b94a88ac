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
type clock struct {
	wall func() time.Time

	mu    sync.Mutex
	state clockState
	skew  time.Duration    // by which the database's clock is ahead of the wall clock; see follow
	high  metering.Instant // never show an earlier time than this
}

// clockState is the part of the clock that survives a restart.
type clockState struct {
	Offset int64            `json:"offset"`           // milliseconds ahead of the wall clock
	Frozen metering.Instant `json:"frozen,omitempty"` // where it stands still, or 0
}

// clockValue is the name of the stored clock state.
const clockValue = "clock"

// restore sets the stored state, and the time that the clock must not fall behind.
func (c *clock) restore(stored []byte, high metering.Instant) error {
	state, err := parseClock(stored)
	c.state, c.high = state, high
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

// running is the time that the clock shows unless it is frozen or held up.
func (c *clock) running() metering.Instant {
	return metering.InstantOf(c.wall().Add(c.skew))
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
	if c.state.Frozen != 0 {
		return 0
	}
	return c.nowLocked().Sub(c.running() + metering.Instant(c.state.Offset))
}

func (c *clock) nowLocked() metering.Instant {
	now := c.state.Frozen
	if now == 0 {
		now = c.running() + metering.Instant(c.state.Offset)
	}
	c.high = max(c.high, now)
	return c.high
}

// set replaces the state and lets the clock show an earlier time than before.
func (c *clock) set(s clockState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state != s {
		c.state, c.high = s, 0
	}
}

// at returns what the clock would show with the state.
func (c *clock) at(s clockState) metering.Instant {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.Frozen != 0 {
		return s.Frozen
	}
	return c.running() + metering.Instant(s.Offset)
}
