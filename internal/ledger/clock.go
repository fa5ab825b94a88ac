package ledger

import (
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/meterd/meterd/internal/metering"
	"github.com/meterd/meterd/internal/store"
)

// clock is the ledger clock. It rules windows, token life, agreements and month close, and never runs backwards
// over the time of anything that was committed. In a sandbox it can be moved, also back.
type clock struct {
	wall func() time.Time

	mu    sync.Mutex
	state clockState
	high  metering.Instant // never show an earlier time than this
}

// clockState is the part of the clock that survives a restart.
type clockState struct {
	Offset int64            `json:"offset"`           // milliseconds ahead of the wall clock
	Frozen metering.Instant `json:"frozen,omitempty"` // where it stands still, or 0
}

// clockValue is the name of the stored clock state.
const clockValue = "clock"

func (c *clock) restore(stored []byte, last *store.Call) error {
	if stored != nil {
		if err := json.Unmarshal(stored, &c.state); err != nil {
			return fmt.Errorf("reading the ledger clock: %w", err)
		}
	}
	if last != nil {
		c.high = last.At
	}
	return nil
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
	return c.nowLocked().Sub(metering.InstantOf(c.wall()) + metering.Instant(c.state.Offset))
}

func (c *clock) nowLocked() metering.Instant {
	now := c.state.Frozen
	if now == 0 {
		now = metering.InstantOf(c.wall()) + metering.Instant(c.state.Offset)
	}
	c.high = max(c.high, now)
	return c.high
}

// set replaces the state and lets the clock show an earlier time than before.
func (c *clock) set(s clockState) metering.Instant {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.state, c.high = s, 0
	return c.nowLocked()
}
