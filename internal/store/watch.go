package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// A file that is removed while it is open can be written to and synced, and is gone with the process. So what is
// acknowledged must be in files that still have their names: the database and its log are looked at after each commit,
// before anybody is told of it, and all files each second, so that a service that nobody calls is not ready either.

// watched is a file of a ledger that is served, as it was when that began.
type watched struct {
	path string
	info fs.FileInfo
}

// watchFiles notes the files of a ledger that has been opened. The first two are those that hold it.
func watchFiles(dir string) (files []watched, err error) {
	path := filepath.Join(dir, file)
	for _, p := range []string{path, path + "-wal", path + "-shm", filepath.Join(dir, lockFile), dir} {
		info, err := lookAt(p, p == dir)
		if err != nil {
			return nil, err
		}
		files = append(files, watched{p, info})
	}
	return files, nil
}

// lookAt follows a link only to the folder: that is where the operator says it is.
func lookAt(path string, folder bool) (fs.FileInfo, error) {
	if folder {
		return os.Stat(path)
	}
	return os.Lstat(path)
}

// check fails if the file is gone, or another one has its name. An error that says neither is not one of the file's.
func (w *watched) check() error {
	info, err := lookAt(w.path, w.info.IsDir())
	what := ""
	switch {
	case errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR):
		what = "is gone"
	case err == nil && !os.SameFile(info, w.info):
		what = "is another one now"
	default:
		return nil
	}
	return fmt.Errorf("%s %s: it was removed, renamed or replaced while the ledger is served, and what would be written now might not be found again; put the folder back as it was, or restore a backup, and start again", w.path, what)
}

func checkFiles(files []watched) error {
	for i := range files {
		if err := files[i].check(); err != nil {
			return err
		}
	}
	return nil
}

// watchTicks says when all files are looked at. It is a seam for tests.
var watchTicks = func() (ticks <-chan time.Time, stop func()) {
	t := time.NewTicker(time.Second)
	return t.C, t.Stop
}

// watch looks at all files until the store is closed or has failed.
func (db *sqliteStore) watch() {
	defer db.watching.Done()
	ticks, stop := watchTicks()
	defer stop()
	for {
		select {
		case <-db.closing:
			return
		case <-ticks:
			if err := checkFiles(db.files); err != nil {
				_ = db.lost(err) // which the next Update and Pulse return
				db.log.Error("the files of the ledger have been taken away; nothing more is taken until a restart", "error", err)
				return
			}
		}
	}
}
