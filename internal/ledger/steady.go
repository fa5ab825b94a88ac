//go:build !linux

package ledger

import "time"

var started = time.Now()

// steadyClock returns the time since the process was started.
func steadyClock() time.Duration { return time.Since(started) }
