package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

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
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("%w in %s; stop it first, or choose another folder", ErrLocked, dir)
	}
	return f, nil
}
