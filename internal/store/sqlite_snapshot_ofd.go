//go:build linux || darwin

package store

import (
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// lockShared takes a lock of SQLite's that servers of versions before this one honour. It is released with the file.
func lockShared(f *os.File, start, n int64) error {
	for {
		lock := unix.Flock_t{Type: unix.F_RDLCK, Whence: io.SeekStart, Start: start, Len: n}
		if err := unix.FcntlFlock(f.Fd(), waitForOwnLock, &lock); err != unix.EINTR {
			return err
		}
	}
}
