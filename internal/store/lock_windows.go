package store

import (
	"os"
	"path/filepath"

	"golang.org/x/sys/windows"
)

// openToLock opens a file that stands for the folder, because folders have no locks here.
func openToLock(dir string) (*os.File, error) {
	return os.OpenFile(filepath.Join(dir, folderLock), os.O_RDWR|os.O_CREATE, ownFile)
}

const folderLock = "lock-folder"

// lock takes or releases the lock of a file. Locks keep others from reading and writing here, so it is on a byte that no
// file has. The system releases it with the file, however the process ends.
func lock(f *os.File, how locking) error {
	at := &windows.Overlapped{OffsetHigh: 0x7fffffff}
	h := windows.Handle(f.Fd())
	if how == unlock {
		return windows.UnlockFileEx(h, 0, 1, 0, at)
	}
	var flags uint32
	if how == lockAlone || how == tryAlone {
		flags |= windows.LOCKFILE_EXCLUSIVE_LOCK
	}
	if how == tryShared || how == tryAlone {
		flags |= windows.LOCKFILE_FAIL_IMMEDIATELY
	}
	return windows.LockFileEx(h, flags, 0, 1, 0, at)
}
