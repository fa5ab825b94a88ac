package store

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// A file that is removed while it is open can be written to and synced, and is gone with the process. One that is cut or
// overwritten in place keeps its name, and takes what is written behind a hole. So what is acknowledged must be in files
// that still have their names, that are as long as they were, and that hold what was written: the database and its log are
// looked at after each commit, before anybody is told of it, and all files each second, so that a service that nobody calls
// is not ready either. All bytes of the log cannot be read again each time. Its header and the last frame are, for whoever
// cuts a file or copies another one over it does not leave both; and of the database its header, before and after the log
// is copied into it.

// watched is a file of a ledger that is being served.
type watched struct {
	path string
	info fs.FileInfo // as it was when serving began
	size int64       // the greatest size that it had, because none of these files shrinks while it is served
}

// watcher looks at the files of a ledger that is being served.
type watcher struct {
	files   []*watched // the first two are those that hold the ledger
	db, log *os.File

	writing sync.Mutex // held while the log may change, and guards what follows
	header  [logHeader]byte
	last    [frameHeader]byte // of the frame that ends at pages
	pages   int64             // in the log
	space   [logHeader]byte   // to read into

	copying sync.Mutex // held while the database may change, and guards what follows
	page    [100]byte  // the database's header
}

// watchFiles notes the files of a ledger that has just been opened, whose log has so many pages.
func watchFiles(dir string, pages int64) (w *watcher, err error) {
	w = &watcher{pages: pages}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.close())
		}
	}()
	path := filepath.Join(dir, file)
	for _, p := range []string{path, path + "-wal", path + "-shm", filepath.Join(dir, lockFile), dir} {
		info, err := lookAt(p, p == dir)
		if err != nil {
			return nil, err
		}
		f := &watched{path: p, info: info}
		if !info.IsDir() {
			f.size = info.Size()
		}
		w.files = append(w.files, f)
	}
	if w.db, err = OpenOwn(path, os.O_RDONLY); err != nil {
		return nil, err
	}
	if w.log, err = OpenOwn(path+"-wal", os.O_RDONLY); err != nil {
		return nil, err
	}
	if err := readAt(w.log, w.header[:], 0); err != nil {
		return nil, err
	}
	if err := w.noteLast(pages); err != nil {
		return nil, err
	}
	return w, readAt(w.db, w.page[:], 0)
}

// close closes what the watcher has opened.
func (w *watcher) close() (err error) {
	if w == nil {
		return nil
	}
	for _, f := range []*os.File{w.db, w.log} {
		if f != nil {
			err = errors.Join(err, f.Close())
		}
	}
	return err
}

// readAt reads bytes of a file. Bytes behind its end are zero, as they are once a file is written behind its end.
func readAt[F io.ReaderAt](f F, b []byte, off int64) error {
	n, err := f.ReadAt(b, off)
	clear(b[n:])
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// noteLast notes the beginning of the log's last frame, given how many frames it has.
func (w *watcher) noteLast(pages int64) error {
	w.pages = pages
	if pages == 0 {
		return nil
	}
	return readAt(w.log, w.last[:], frameAt(pages-1))
}

// lookAt follows a link only for the folder, whose place the operator chooses.
func lookAt(path string, folder bool) (fs.FileInfo, error) {
	if folder {
		return os.Stat(path)
	}
	return os.Lstat(path)
}

// check fails if the file is gone or shorter, or if another file has its name. Errors that do not show this are
// ignored.
func (f *watched) check() error {
	info, err := lookAt(f.path, f.info.IsDir())
	what := ""
	switch {
	case errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR):
		what = "is gone"
	case err == nil && !os.SameFile(info, f.info):
		what = "is another one now"
	case err == nil && info.Size() < f.size:
		return overwritten(f.path, fmt.Sprintf("has %d bytes, and had %d", info.Size(), f.size))
	case err == nil && !info.IsDir():
		f.size = info.Size()
		return nil
	default:
		return nil
	}
	return fmt.Errorf("%s %s: it was removed, renamed or replaced while the ledger is served, and what would be written now might not be found again; put the folder back as it was, or restore a backup, and start again", f.path, what)
}

// overwritten returns the error for a file that another program has written to.
func overwritten(path, what string) error {
	return fmt.Errorf("%s %s: another program has cut it or written to it while the ledger is served, and acknowledged records may be gone; keep a copy of the folder and restore a backup; who has none can see with meterd accept-loss what is left", path, what)
}

// committed looks at the database and the log after a commit, after which the log has so many pages. The caller holds
// writing.
func (w *watcher) committed(pages int64) error {
	for _, f := range w.files[:2] {
		if err := f.check(); err != nil {
			return err
		}
	}
	if err := w.checkLog(); err != nil {
		return err
	}
	return w.noteLast(pages)
}

// checkLog fails if the log's header, or what was its last frame, is not what was written. The caller holds writing.
func (w *watcher) checkLog() error {
	path := w.files[1].path
	header, last := w.space[:], w.space[:frameHeader]
	if err := readAt(w.log, header, 0); err != nil {
		return err
	}
	if [logHeader]byte(header) != w.header { // the log has begun anew, which its index must say too
		l := log{r: bufio.NewReaderSize(bytes.NewReader(header), logHeader)}
		sound, err := l.begin()
		if err != nil {
			return err
		}
		if !sound || l.salts != readLogIndex(w.files[0].path).salts {
			return overwritten(path, "does not begin with what was written there")
		}
		w.header, w.pages = [logHeader]byte(header), 0
	}
	if w.pages == 0 {
		return nil
	}
	if err := readAt(w.log, last, frameAt(w.pages-1)); err != nil {
		return err
	}
	if [frameHeader]byte(last) != w.last {
		return overwritten(path, fmt.Sprintf("does not hold what was written to it before byte %d", frameAt(w.pages)))
	}
	return nil
}

// checkDatabase fails if the database's header is not what was written. The caller holds copying.
func (w *watcher) checkDatabase() error {
	var page [100]byte
	if err := readAt(w.db, page[:], 0); err != nil {
		return err
	}
	if page != w.page {
		return overwritten(w.files[0].path, "does not begin with what was written there")
	}
	return nil
}

// copied runs f, which copies pages of the log into the database, unless the database is not what it was.
func (w *watcher) copied(f func() error) error {
	if w == nil { // the ledger is being opened
		return f()
	}
	w.copying.Lock()
	defer w.copying.Unlock()
	if err := w.checkDatabase(); err != nil {
		return err
	}
	if err := f(); err != nil {
		return err
	}
	return readAt(w.db, w.page[:], 0)
}

// look looks at all files. While the log is being copied into the database it leaves out that check: whoever copies
// makes it.
func (w *watcher) look() error {
	if w == nil { // the ledger is being opened
		return nil
	}
	w.writing.Lock()
	defer w.writing.Unlock()
	for _, f := range w.files {
		if err := f.check(); err != nil {
			return err
		}
	}
	if err := w.checkLog(); err != nil {
		return err
	}
	if !w.copying.TryLock() {
		return nil
	}
	defer w.copying.Unlock()
	return w.checkDatabase()
}

// explain returns what has happened to the database or the log, if that is why SQLite has failed with err. The caller
// holds writing.
func (w *watcher) explain(err error) error {
	for _, f := range w.files[:2] {
		if why := f.check(); why != nil {
			return fmt.Errorf("%w (%w)", why, err)
		}
	}
	if w.copying.TryLock() {
		defer w.copying.Unlock()
		if why := w.checkDatabase(); why != nil {
			return fmt.Errorf("%w (%w)", why, err)
		}
	}
	return err
}

// watchTicks says when all files are looked at. Tests replace it.
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
			err := db.files.look()
			if err == nil {
				err = db.keepMark()
			}
			if err != nil {
				_ = db.lost(err) // the next Update and Pulse return this error
				db.log.Error("the files of the ledger are not what they were; nothing more is taken until a restart", "error", err)
				return
			}
		}
	}
}

// keepMark writes the mark anew if another program has removed or changed it; everything in it is known.
func (db *sqliteStore) keepMark() error {
	again, err := db.marks.keep()
	if again {
		db.log.Warn("the mark of the ledger was taken away or changed, and has been written anew", "file", db.marks.path+markSuffix)
	}
	return err
}
