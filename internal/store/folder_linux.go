package store

import (
	"os"
	"runtime"
	"syscall"
)

// as runs f with another user's rights to files, on a thread of its own, so that what f makes is that user's at once.
// The process must be root's.
func as(uid, gid int, f func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer func() {
		if err := syscall.Setfsuid(os.Geteuid()); err != nil {
			panic(err) // otherwise the thread would go on with the other user's rights
		}
		if err := syscall.Setfsgid(os.Getegid()); err != nil {
			panic(err)
		}
	}()
	if err := syscall.Setfsgid(gid); err != nil {
		return err
	}
	if err := syscall.Setfsuid(uid); err != nil {
		return err
	}
	return f()
}
