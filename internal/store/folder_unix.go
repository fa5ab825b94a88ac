//go:build unix

package store

import (
	"io/fs"
	"os"
	"syscall"
)

// hasModes says that files have modes, which say who may read and write them.
const hasModes = true

// toSync is the mode in which a file is opened to be synced.
const toSync = os.O_RDONLY

// noFollow makes opening a file fail if its name is a symbolic link.
const noFollow = syscall.O_NOFOLLOW

// ownerOf returns the owner of a file.
func ownerOf(info fs.FileInfo) (uid, gid int, known bool) {
	s, known := info.Sys().(*syscall.Stat_t)
	if !known {
		return 0, 0, false
	}
	return int(s.Uid), int(s.Gid), true
}

// Mine reports whether a file is root's or that of this process's user.
func Mine(info fs.FileInfo) bool {
	uid, _, known := ownerOf(info)
	return !known || uid == 0 || uid == os.Geteuid()
}

// KeepPrivate makes all files that the process makes from now on, in whatever way, readable for their owner alone.
func KeepPrivate() { syscall.Umask(0o077) }

// SyncDir makes the names in a folder durable, after files were made, renamed or removed.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return syncFile(d)
}
