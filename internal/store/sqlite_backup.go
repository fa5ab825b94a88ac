package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"

	"github.com/ncruces/go-sqlite3"
)

// A backup is a database in one file, without a log: what [Read] sees at one moment, page by page with checksums. It
// gets its name once it is on disk.

// Backup writes a whole copy of the ledger in a folder to a file that must not exist, beside a running server if there
// is one, and returns its size. Writers go on meanwhile, but their log cannot be reused and grows.
func Backup(ctx context.Context, dir, to string) (size int64, err error) {
	if err := vacant(to); err != nil {
		return 0, err
	}
	temp := ""
	defer func() {
		if err != nil && temp != "" {
			removeDatabase(temp)
		}
	}()
	err = Read(dir, func(r *Reader, _ Meta) error {
		f, err := os.CreateTemp(filepath.Dir(to), filepath.Base(to)+".*.new")
		if err != nil {
			return err
		}
		temp = f.Name()
		if err := f.Close(); err != nil {
			return err
		}
		return explain(copyPages(ctx, r.reader.(*sqliteReader).c, temp))
	})
	if err != nil {
		return 0, err
	}
	// The reading has ended: a sync may take long, and the log would have to wait for it.
	if size, err = syncPath(temp); err != nil {
		return 0, err
	}
	if err := vacant(to); err != nil { // another one was quicker
		return 0, err
	}
	if err := os.Rename(temp, to); err != nil {
		return 0, err
	}
	return size, SyncDir(filepath.Dir(to))
}

// vacant fails if there is something of that name.
func vacant(path string) error {
	_, err := os.Lstat(path)
	switch {
	case err == nil:
		return fmt.Errorf("there is a file %s already, and a backup replaces nothing; choose another name", path)
	case errors.Is(err, fs.ErrNotExist):
		return nil
	}
	return err
}

// Restore makes a ledger of a backup in a folder that has none. What is damaged in the backup is not restored.
func Restore(ctx context.Context, from, dir string) error {
	from, err := filepath.Abs(from)
	if err != nil {
		return err
	}
	if _, err := os.Stat(from); err != nil {
		return err
	}
	if _, err := os.Stat(from + "-wal"); err == nil {
		return fmt.Errorf("%s is not a backup but a ledger's own file, as it has a log beside it; make a backup of its folder with meterd backup", from)
	}
	// Nobody writes to it, and SQLite leaves no files beside it.
	c, err := open(uri(from, "immutable=1"), sqlite3.OPEN_READONLY|sqlite3.OPEN_URI)
	if err != nil {
		return err
	}
	defer c.Close()
	bad := func(err error) error {
		return fmt.Errorf("the backup %s is damaged or none (%w); use another one", from, err)
	}
	if _, err := readMeta(c); err != nil {
		return bad(err)
	}
	if err := checkSize(c, from); err != nil {
		return bad(err)
	}
	return placeSQLite(dir, func(temp string) error {
		err := makeFile(temp)
		if err == nil {
			err = copyPages(ctx, c, temp)
		}
		if errors.Is(err, sqlite3.IOERR_DATA) {
			err = bad(errors.New("a page does not match its checksum, the medium has changed data"))
		}
		if err == nil {
			_, err = syncPath(temp)
		}
		return err
	})
}

// copyPages copies what a connection sees at one moment to a file that is empty. Every page's checksum is verified as
// it is read, and computed as it is written.
func copyPages(ctx context.Context, src *sqlite3.Conn, to string) (err error) {
	to, err = filepath.Abs(to)
	if err != nil {
		return err
	}
	if err := withChecksums(to); err != nil {
		return err
	}
	// A crash leaves nothing that anybody would use, so no journal has to be kept nor anything synced on the way.
	b, err := src.BackupInit("main", uri(to, "_pragma=journal_mode(off)&_pragma=synchronous(off)"))
	if err != nil {
		return err
	}
	defer func() {
		if closed := b.Close(); err == nil { // else it is the same error
			err = closed
		}
	}()
	const pages = 1024 // between two looks at the context
	for {
		if done, err := b.Step(pages); err != nil || done {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

// withChecksums makes an empty file a database whose pages have checksums: pages that come before the first one, which
// says so, would get none.
func withChecksums(path string) error {
	c, err := open(path, sqlite3.OPEN_READWRITE)
	if err != nil {
		return err
	}
	return errors.Join(c.EnableChecksums("main"), c.Exec("CREATE TABLE replaced (x)"), c.Close())
}

// uri is how SQLite is told more about a file than its name.
func uri(path, query string) string {
	return (&url.URL{Scheme: "file", OmitHost: true, Path: path, RawQuery: query}).String()
}

// syncPath syncs a file and returns its size.
func syncPath(path string) (size int64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), syncFile(f)
}
