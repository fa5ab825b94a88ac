package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// locking is what to do with a lock, that of a file or of a folder.
type locking int

const (
	lockBeside locking = iota // wait for it, and share it
	lockAlone
	tryShared // fail at once if it is not to be had
	tryAlone
	unlock
)

// Lock waits for the lock of a file and takes it alone. It is released with the file.
func Lock(f *os.File) error { return lock(f, lockAlone) }

// lockDir takes the folder's lock, which the kernel releases when the process ends, however it ends.
func lockDir(dir string) (*os.File, error) {
	path := filepath.Join(dir, lockFile)
	f, err := OpenOwn(path, os.O_RDWR)
	if errors.Is(err, fs.ErrNotExist) {
		f, err = CreateOwn(path)
		if errors.Is(err, fs.ErrExist) { // another one was quicker
			f, err = OpenOwn(path, os.O_RDWR)
		}
	}
	if err != nil {
		return nil, err
	}
	if err := lock(f, tryAlone); err != nil {
		f.Close()
		return nil, fmt.Errorf("%w in %s; stop it first, or choose another folder", ErrLocked, dir)
	}
	return f, nil
}
