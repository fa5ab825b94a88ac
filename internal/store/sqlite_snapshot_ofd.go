//go:build linux || darwin

package store

import (
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// lockShared takes one of SQLite's locks, which servers of earlier versions honour. It is released when the file is
// closed.
func lockShared(f *os.File, start, n int64) error {
	for {
		lock := unix.Flock_t{Type: unix.F_RDLCK, Whence: io.SeekStart, Start: start, Len: n}
		if err := unix.FcntlFlock(f.Fd(), waitForOwnLock, &lock); err != unix.EINTR {
			return err
		}
	}
}
