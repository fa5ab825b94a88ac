//go:build unix

package store

import (
	"io/fs"
	"os"
	"syscall"
)

// hasModes is that files have modes, which say who may read and write them.
const hasModes = true

// toSync is how a file is opened that is to be synced.
const toSync = os.O_RDONLY

// noFollow has a file not be opened through a symbolic link.
const noFollow = syscall.O_NOFOLLOW

// ownerOf returns whose a file is.
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

// KeepPrivate has all files that the process makes from now on be read by nobody but their owner, whoever makes them.
func KeepPrivate() { syscall.Umask(0o077) }

// SyncDir makes the names in the folder durable: of files that were made, renamed or removed.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return syncFile(d)
}
