package store

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

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
	if err := notEverybodys(filepath.Dir(to)); err != nil {
		return 0, err
	}
	temp := to + ".new"
	var held *os.File // while it is made
	defer func() {
		if err != nil && held != nil {
			err = errors.Join(err, removeDatabase(temp))
		}
		if held != nil {
			held.Close()
		}
	}()
	err = Read(dir, func(r *Reader, _ Meta) error {
		if held, err = beginFile(temp); err != nil {
			return err
		}
		return explain(copyPages(ctx, r.reader.(*sqliteReader).c, temp))
	})
	if err == nil {
		err = closeCopy(temp)
	}
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

// beginFile makes a file that holds nothing yet, in the place of one that an interrupted command has left, and locks it, so
// that it is not taken for such a one.
func beginFile(path string) (*os.File, error) {
	switch left, err := interrupted(path); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, err
	case !left:
		return nil, fmt.Errorf("%s is being written by another command; wait for it, or choose another name", path)
	default:
		if err := removeDatabase(path); err != nil {
			return nil, err
		}
	}
	f, err := CreateOwn(path)
	if err == nil {
		if err = lock(f, tryAlone); err != nil { // another one takes it away just now
			err = errors.Join(fmt.Errorf("%s is being written by another command (%w)", path, err), f.Close())
		}
	}
	if err != nil {
		return nil, err
	}
	return f, nil
}

// interrupted reports whether a file that was being made is not made any more.
func interrupted(path string) (bool, error) {
	f, err := OpenOwn(path, os.O_RDONLY)
	if err != nil {
		return false, err
	}
	defer f.Close()
	return lock(f, tryAlone) == nil, nil
}

// Interrupted returns the files beside a backup that interrupted backups have left, to other names: they hold a part of a
// ledger, and can be deleted.
func Interrupted(backup string) (left []string) {
	names, _ := filepath.Glob(filepath.Join(globbed.Replace(filepath.Dir(backup)), "*.new"))
	for _, name := range names {
		var magic [16]byte
		f, err := OpenOwn(name, os.O_RDONLY)
		if err != nil {
			continue
		}
		_, err = f.ReadAt(magic[:], 0)
		f.Close()
		if is, bad := interrupted(name); err == nil && bad == nil && is && string(magic[:]) == "SQLite format 3\x00" {
			left = append(left, name)
		}
	}
	return left
}

// globbed writes a path as a pattern that only it matches.
var globbed = strings.NewReplacer("\\", "\\\\", "*", "\\*", "?", "\\?", "[", "\\[")

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
		if errors.Is(err, errZeros) {
			err = bad(err)
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
	b, err := src.BackupInit("main", uri(to, "nolock=1&_pragma=journal_mode(off)&_pragma=synchronous(off)"))
	if err != nil {
		return err
	}
	defer func() {
		if closed := b.Close(); err == nil { // else it is the same error
			err = closed
		}
		if err == nil {
			err = checkZeros(to)
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

// errZeros says that a database has a page of zeros. The checksum of zeros is zero, so it holds.
var errZeros = errors.New("all bytes are zero, which no page of a ledger is: the medium has lost it; keep a copy of the folder and restore a backup")

// checkZeros fails if a database that has no log has a page of zeros, but for those that hold nothing: free ones, and the
// one at 1 GB that SQLite leaves out.
func checkZeros(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	const leftOut = 1<<30/pageSize + 1
	var zeros []uint32
	chunk := make([]byte, 256*pageSize)
	for page := uint32(1); ; {
		n, err := io.ReadFull(f, chunk)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
			return err
		}
		for b := range slices.Chunk(chunk[:n], pageSize) {
			if b[0] == 0 && bytes.Equal(b[1:], b[:len(b)-1]) && page != leftOut {
				zeros = append(zeros, page)
			}
			page++
		}
	}
	if len(zeros) == 0 {
		return nil
	}
	free, err := freePages(f)
	for _, page := range zeros {
		if _, is := free[page]; !is {
			return errors.Join(fmt.Errorf("page %d: %w", page, errZeros), err)
		}
	}
	return err
}

// freePages returns the pages of a database that are free: each of a chain of pages lists some.
func freePages(f *os.File) (map[uint32]struct{}, error) {
	free := map[uint32]struct{}{}
	b := make([]byte, pageSize)
	if _, err := f.ReadAt(b, 0); err != nil {
		return nil, err
	}
	words := binary.BigEndian
	next, most := words.Uint32(b[32:]), words.Uint32(b[36:])
	for next != 0 && uint32(len(free)) < most {
		if _, err := f.ReadAt(b, int64(next-1)*pageSize); err != nil {
			return nil, err
		}
		free[next] = struct{}{}
		listed := min(words.Uint32(b[4:]), pageSize/4-2)
		for i := range listed {
			free[words.Uint32(b[8+4*i:])] = struct{}{}
		}
		next = words.Uint32(b)
	}
	if uint32(len(free)) != most { // a page of the chain is one of zeros
		return nil, fmt.Errorf("%w: %d pages are free, but %d are listed", errZeros, most, len(free))
	}
	return free, nil
}

// closeCopy has a copy be that of a ledger that is closed, whether it was served or not.
func closeCopy(path string) error {
	if err := makeBesides(path); err != nil {
		return err
	}
	c, err := open(path, sqlite3.OPEN_READWRITE)
	if err != nil {
		return err
	}
	id, err := servedID(c)
	if err == nil && id != "" {
		err = forgetServing(c)
	}
	if err == nil {
		err = checkpointOnClose(c)
	}
	return errors.Join(err, closeConn(c))
}

// withChecksums makes an empty file a database whose pages have checksums: pages that come before the first one, which
// says so, would get none.
func withChecksums(path string) error {
	c, err := open(uri(path, "nolock=1"), sqlite3.OPEN_READWRITE|sqlite3.OPEN_URI)
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
	f, err := os.OpenFile(path, toSync, 0)
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
