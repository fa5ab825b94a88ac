package ledger

import (
	"time"

	"golang.org/x/sys/unix"
)

// steadyClock is the time since the machine was started, which runs on while it sleeps.
func steadyClock() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		panic("the kernel does not tell the time since it was started: " + err.Error()) // every Linux does since 2011
	}
	return time.Duration(t.Nano())
}
