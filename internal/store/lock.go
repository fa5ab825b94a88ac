package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// locking says what to do with the lock of a file or of a folder.
type locking int

const (
	lockBeside locking = iota // wait for it, and share it
	lockAlone
	tryShared // fail at once if another process holds it
	tryAlone
	unlock
)

// Lock waits for the lock of a file and takes it alone. It is released with the file.
func Lock(f *os.File) error { return lock(f, lockAlone) }

// lockDir takes the folder's lock, which the kernel releases when the process ends, however it ends. made reports
// whether the lock's file was made.
func lockDir(dir string) (f *os.File, made bool, err error) {
	path := filepath.Join(dir, lockFile)
	for {
		f, err = OpenOwn(path, os.O_RDWR)
		if errors.Is(err, fs.ErrNotExist) {
			f, err = CreateOwn(path)
			made = err == nil
			if errors.Is(err, fs.ErrExist) { // another process was quicker
				continue
			}
		}
		if err != nil {
			return nil, false, err
		}
		if err := lock(f, tryAlone); err != nil {
			f.Close()
			return nil, false, fmt.Errorf("%w in %s; stop it first, or choose another folder", ErrLocked, dir)
		}
		named, err := os.Lstat(path)
		if mine, bad := f.Stat(); err == nil && bad == nil && os.SameFile(named, mine) {
			return f, made, nil
		}
		f.Close() // the process that held the lock has just removed its file
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, false, err
		}
	}
}
