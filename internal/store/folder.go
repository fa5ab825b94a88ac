package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// Files that are meterd's own are made, opened and removed by the functions here, and in no other way:
//
//   - none is reached through a symbolic link, and none is removed that is not a file;
//   - nobody but their owner reads them, or may write into the folder that they are in;
//   - they belong to the owner of that folder, though root may have made them, from their first moment on where the
//     system can do that: so nothing that a command of root's leaves behind keeps the service out.

const (
	ownFile   fs.FileMode = 0o600
	ownFolder fs.FileMode = 0o700
	othersMay fs.FileMode = 0o022 // bits of those who others let write
)

// Own returns an error unless there is a file at the path: fs.ErrNotExist if there is nothing, and another error for
// a link, a folder or anything else that meterd does not make.
func Own(path string) error {
	_, err := own(path)
	return err
}

func own(path string) (fs.FileInfo, error) {
	info, err := os.Lstat(path)
	if err == nil && !info.Mode().IsRegular() {
		err = notOwn(path, "file", info)
	}
	return info, err
}

func notOwn(path, kind string, info fs.FileInfo) error {
	what := "something else"
	switch {
	case info.Mode()&fs.ModeSymlink != 0:
		what = "a symbolic link"
	case info.IsDir():
		what = "a folder"
	case info.Mode().IsRegular():
		what = "a file"
	}
	return fmt.Errorf("%s is %s, where meterd expects a %s of its own: it follows no links and touches nothing that others made; take it away, or choose another place", path, what, kind)
}

// OpenOwn opens a file of meterd's own that exists.
func OpenOwn(path string, flag int) (*os.File, error) {
	if err := Own(path); err != nil {
		return nil, err
	}
	return os.OpenFile(path, flag|noFollow, 0)
}

// CreateOwn makes a file of meterd's own that must not exist. It is empty and open for reading and writing.
func CreateOwn(path string) (f *os.File, err error) {
	err = asOwnerOf(filepath.Dir(path), path, func() (err error) {
		f, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL|noFollow, ownFile)
		return err
	})
	return f, err
}

// RemoveOwn removes a file of meterd's own, if it is there.
func RemoveOwn(path string) error {
	err := Own(path)
	if err == nil {
		err = os.Remove(path)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// makeOwnFolder makes a folder of meterd's own if it does not exist yet.
func makeOwnFolder(path string) error {
	info, err := os.Lstat(path)
	switch {
	case err == nil && !info.IsDir():
		return notOwn(path, "folder", info)
	case err == nil:
		return private(path)
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	err = asOwnerOf(filepath.Dir(path), path, func() error { return os.Mkdir(path, ownFolder) })
	if errors.Is(err, fs.ErrExist) {
		err = nil
	}
	return err
}

// asOwnerOf runs f, which makes something in a folder, so that what it makes belongs to the folder's owner.
func asOwnerOf(dir, path string, f func() error) error {
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	uid, gid, known := ownerOf(info)
	if !known || os.Geteuid() != 0 || uid == 0 {
		return f()
	}
	err = as(uid, gid, f)
	if errors.Is(err, fs.ErrPermission) { // the owner may have no access there that root has
		err = f()
	}
	if err == nil {
		err = os.Lchown(path, uid, gid)
	}
	return err
}

// private makes a folder of the ledger's writable for its owner alone. It refuses a folder where that is not
// possible, and one that was made for more than a ledger.
func private(dir string) error {
	info, err := os.Stat(dir)
	if err != nil || !hasModes || info.Mode()&othersMay == 0 {
		return err
	}
	err = errors.New("it holds other things than a ledger")
	if entries, bad := os.ReadDir(dir); bad == nil && info.Mode()&fs.ModeSticky == 0 && (len(entries) == 0 || existsSQLite(dir) || filepath.Base(dir) == hourFiles) {
		err = os.Chmod(dir, info.Mode()&^othersMay)
	}
	if err != nil {
		return fmt.Errorf("%s can be written to by others (mode %04o), who could take the ledger's files away or put others in their place; make it private with chmod go-w, or choose a folder in it that does not exist yet (%w)", dir, info.Mode().Perm(), err)
	}
	return nil
}

// notEverybodys refuses a folder in which everybody may replace one of meterd's files. In a folder like /tmp they may
// not.
func notEverybodys(dir string) error {
	info, err := os.Stat(dir)
	if err != nil || !hasModes || info.Mode()&0o002 == 0 || info.Mode()&fs.ModeSticky != 0 {
		return err
	}
	return fmt.Errorf("everybody may write into %s (mode %04o) and put another file in the place of one that is made there; choose a folder where only you may", dir, info.Mode().Perm())
}

// ours refuses the folder of a ledger if something that is not meterd's has one of the ledger's names.
func ours(dir string) error {
	path := filepath.Join(dir, file)
	for _, name := range []string{path, path + "-wal", path + "-shm", path + "-journal", path + markSuffix, filepath.Join(dir, lockFile)} {
		if err := Own(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	hours, _, err := hourNames(filepath.Join(dir, hourFiles))
	for _, name := range hours {
		if err == nil {
			err = Own(name)
		}
	}
	return err
}

// tend makes a file of the ledger, if it exists, readable for its owner alone, who must be the folder's owner.
func tend(path string) error {
	info, err := own(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	folder, err := os.Stat(filepath.Dir(path))
	if err != nil {
		return err
	}
	uid, gid, known := ownerOf(folder)
	if is, _, _ := ownerOf(info); known && is != uid {
		if err := os.Lchown(path, uid, gid); err != nil {
			return fmt.Errorf("%s belongs to user %d, its folder to user %d: a command run as root may have left it; give it back with chown (%w)", path, is, uid, err)
		}
	}
	if hasModes && info.Mode().Perm()&0o077 != 0 {
		if err := os.Chmod(path, ownFile); err != nil {
			return fmt.Errorf("%s can be read by others (mode %04o): it holds buyers' names and usage; make it private with chmod 600 (%w)", path, info.Mode().Perm(), err)
		}
	}
	return nil
}

// makeBesides makes the files that SQLite adds to a database in use. SQLite would make them with whatever mode and
// owner the process gives new files.
func makeBesides(path string) error {
	for _, suffix := range []string{"-wal", "-shm"} {
		f, err := CreateOwn(path + suffix)
		if errors.Is(err, fs.ErrExist) {
			err = tend(path + suffix)
		} else if err == nil {
			err = f.Close()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// makeDir makes the folder, and missing ones above it, durably. It also syncs the name of a folder that exists, where
// this process may, because an earlier run may have made that folder and failed to sync it.
func makeDir(dir string) error {
	parent := filepath.Dir(dir)
	if info, err := os.Stat(dir); err == nil && info.IsDir() {
		err := SyncDir(parent)
		if errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS) { // then this user cannot have made it either
			return nil
		}
		return err
	} else if parent == dir {
		return err
	}
	if err := makeDir(parent); err != nil {
		return err
	}
	if err := makeOwnFolder(dir); err != nil {
		return err
	}
	return SyncDir(parent)
}

var syncFile = (*os.File).Sync
