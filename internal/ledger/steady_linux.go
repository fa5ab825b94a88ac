package ledger

import (
	"time"

	"golang.org/x/sys/unix"
)

// steadyClock returns the time since the machine was started, including the time that it slept.
func steadyClock() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		panic("the kernel does not tell the time since it was started: " + err.Error()) // every kernel since 2011 has this clock
	}
	return time.Duration(t.Nano())
}
