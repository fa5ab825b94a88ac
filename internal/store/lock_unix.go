//go:build unix

package store

import (
	"os"
	"syscall"
)

// openToLock opens a folder, which has a lock of its own.
func openToLock(dir string) (*os.File, error) { return os.Open(dir) }

// lock takes or releases the lock of a file, or of a folder that openToLock has opened. The system releases it with the
// file, however the process ends.
func lock(f *os.File, how locking) error {
	operation := map[locking]int{lockBeside: syscall.LOCK_SH, lockAlone: syscall.LOCK_EX, tryShared: syscall.LOCK_SH | syscall.LOCK_NB,
		tryAlone: syscall.LOCK_EX | syscall.LOCK_NB, unlock: syscall.LOCK_UN}[how]
	for {
		if err := syscall.Flock(int(f.Fd()), operation); err != syscall.EINTR {
			return err
		}
	}
}
