package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
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

// A backup is a database in one file, without a log: what [Read] sees at one moment, page by page with checksums. The
// file gets its name once it is on disk.
//
// A page's checksum does not show in which place the page belongs. So behind the last page stands the checksum of all
// pages: a line, and zeros. Backups of earlier versions have no such checksum. A newer backup notes in its database that
// it has one, so that it is noticed if the checksum has been cut off.
const (
	endSize   = 128
	endLine   = "meterd backup, %d pages, sha256 %s\n"
	endsValue = "backup" // of meta
)

// Backup writes a whole copy of the ledger in the folder dir to the file to, which must not exist, and returns the
// file's size. A server may be running on the folder: it goes on writing, but its log cannot be reused and grows.
func Backup(ctx context.Context, dir, to string) (size int64, err error) {
	if err := vacant(to); err != nil {
		return 0, err
	}
	if err := notEverybodys(filepath.Dir(to)); err != nil {
		return 0, err
	}
	temp := to + ".new"
	var held *os.File // nil until the file is made; locked while it is written
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
		err = closeCopy(temp, true)
	}
	if err == nil {
		err = endBackup(ctx, temp)
	}
	if err != nil {
		return 0, err
	}
	// The sync comes after reading has ended, because it may take long, and the log cannot be reused during reading.
	if size, err = syncPath(temp); err != nil {
		return 0, err
	}
	if err := vacant(to); err != nil { // another command was quicker
		return 0, err
	}
	if err := os.Rename(temp, to); err != nil {
		return 0, err
	}
	return size, SyncDir(filepath.Dir(to))
}

// beginFile makes an empty file and locks it. It replaces a file that an interrupted command has left; the lock shows
// that the new file is not such a one.
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
		if err = lock(f, tryAlone); err != nil { // another command is just removing the file
			err = errors.Join(fmt.Errorf("%s is being written by another command (%w)", path, err), f.Close())
		}
	}
	if err != nil {
		return nil, err
	}
	return f, nil
}

// interrupted reports whether the command that was making a file has ended before the file was complete.
func interrupted(path string) (bool, error) {
	f, err := OpenOwn(path, os.O_RDONLY)
	if err != nil {
		return false, err
	}
	defer f.Close()
	return lock(f, tryAlone) == nil, nil
}

// Interrupted returns the files in a backup's folder that interrupted backups have left. They hold a part of a ledger
// under other names, and can be deleted.
func Interrupted(backup string) (left []string) {
	names, _ := filepath.Glob(filepath.Join(globbed.Replace(filepath.Dir(backup)), "*.new"))
	for _, name := range names {
		var magic [16]byte
		f, err := OpenOwn(name, os.O_RDONLY)
		if err != nil {
			continue
		}
		n, err := f.ReadAt(magic[:], 0)
		f.Close()
		ours := err == nil && string(magic[:]) == "SQLite format 3\x00" || n == 0 && errors.Is(err, io.EOF) // an empty file had just been made
		if is, bad := interrupted(name); bad == nil && is && ours {
			left = append(left, name)
		}
	}
	return left
}

// globbed turns a path into a pattern that matches only this path.
var globbed = strings.NewReplacer("\\", "\\\\", "*", "\\*", "?", "\\?", "[", "\\[")

// vacant fails if path names something that exists.
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

// Restored says what is known of a backup that was restored.
type Restored struct {
	Summed bool // the backup has a checksum of all pages, so each page is known to be in its place; older backups have none
}

// Restore makes a ledger from a backup, in a folder that has no ledger. A damaged backup is not restored.
func Restore(ctx context.Context, from, dir string) (Restored, error) {
	b, err := openBackup(from)
	if err != nil {
		return Restored{}, err
	}
	defer b.Close()
	c, err := b.open() // this refuses a wrong file before all of it is read
	if err != nil {
		return Restored{}, err
	}
	if err := c.Close(); err != nil {
		return Restored{}, err
	}
	err = placeSQLite(dir, func(temp string) error {
		f, err := CreateOwn(temp)
		if err != nil {
			return err
		}
		if err := b.check(ctx, f); err != nil {
			return errors.Join(err, f.Close())
		}
		if err := errors.Join(f.Close(), closeCopy(temp, false)); err != nil {
			return err
		}
		_, err = syncPath(temp)
		return err
	})
	return Restored{b.summed}, err
}

// readBackup runs f on the ledger in a backup, after it has checked that all of the backup is whole.
func readBackup(from string, f func(*Reader, Meta) error) error {
	b, err := openBackup(from)
	if err != nil {
		return err
	}
	defer b.Close()
	c, err := b.open()
	if err != nil {
		return err
	}
	defer c.Close()
	if err := b.check(context.Background(), nil); err != nil {
		return err
	}
	meta, err := readMeta(c)
	if err != nil {
		return b.bad(err)
	}
	_, err = (&sqliteReader{c: c}).view(func(r *Reader) error {
		if err := asKnown(c); err != nil {
			return err
		}
		return f(r, meta)
	})
	return err
}

// backup is a backup that is being read.
type backup struct {
	*os.File
	path   string
	pages  int64
	summed bool // the file has a checksum behind its pages
	sum    string
}

// openBackup opens a file that may be a backup.
func openBackup(from string) (*backup, error) {
	from, err := filepath.Abs(from)
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(from) // before opening, because opening a pipe would wait
	if err != nil {
		return nil, err
	}
	switch {
	case info.IsDir():
		return nil, fmt.Errorf("%s is a folder, and a backup is a file that meterd backup has made; if it is a ledger's folder, make a backup of it, or move it with meterd copy", from)
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is a pipe or device, and a backup is read more than once; write it to a file first", from)
	}
	if _, err := os.Stat(from + "-wal"); err == nil {
		return nil, fmt.Errorf("%s is not a backup but a ledger's own file, as it has a log beside it; make a backup of its folder with meterd backup", from)
	}
	f, err := os.Open(from)
	if err != nil {
		return nil, err
	}
	b := &backup{File: f, path: from, pages: info.Size() / pageSize}
	if err := b.begin(info.Size()); err != nil {
		return nil, errors.Join(b.bad(err), f.Close())
	}
	return b, nil
}

func (b *backup) bad(err error) error {
	return fmt.Errorf("the backup %s is damaged or none (%w); use another one", b.path, err)
}

// begin checks what can be checked without reading all pages.
func (b *backup) begin(size int64) error {
	var header [100]byte
	if err := readAt(b.File, header[:], 0); err != nil {
		return err
	}
	switch pages := int64(binary.BigEndian.Uint32(header[28:])); {
	case size < pageSize:
		return fmt.Errorf("it has %d bytes, which is less than a page", size)
	case !bytes.HasPrefix(header[:], []byte("SQLite format 3\x00")):
		return errors.New("it does not begin as a backup does")
	case size != pages*pageSize && size != pages*pageSize+endSize:
		return fmt.Errorf("it has %d bytes, but should have %d pages of %d", size, pages, pageSize)
	case size == pages*pageSize:
		return nil
	}
	var end [endSize]byte
	if err := readAt(b.File, end[:], b.pages*pageSize); err != nil {
		return err
	}
	var pages int64
	if n, err := fmt.Sscanf(string(end[:]), endLine, &pages, &b.sum); n != 2 || err != nil || pages != b.pages {
		return errors.New("behind its last page there is not the checksum of its pages")
	}
	b.summed = true
	return nil
}

// open returns a connection to the backup. It fails unless the backup is of a ledger that this version knows.
func (b *backup) open() (*sqlite3.Conn, error) {
	// Nobody writes to a backup. With immutable, SQLite leaves no files beside it.
	c, err := open(uri(b.path, "immutable=1"), sqlite3.OPEN_READONLY|sqlite3.OPEN_URI)
	if err != nil {
		return nil, b.bad(err)
	}
	_, err = readMeta(c)
	if err == nil && !b.summed {
		var ends []byte
		if ends, err = (&Reader{&sqliteReader{c: c}}).Value(endsValue); err == nil && ends != nil {
			err = errors.New("the checksum of its pages, which stood behind them, has been cut off")
		}
	}
	if err != nil {
		return nil, errors.Join(b.bad(err), c.Close())
	}
	return c, nil
}

// check reads all pages, writes them to the file to unless that is nil, and fails if they are not the pages that were
// backed up.
func (b *backup) check(ctx context.Context, to io.Writer) error {
	sum, err := readPages(ctx, b.File, b.pages, to)
	switch {
	case err != nil && ctx.Err() != nil:
		return err
	case err == nil && b.summed && sum != b.sum:
		err = errors.New("each page is whole, but they do not have the checksum of the whole backup: some are of another place or time")
	}
	var write *writeError
	if err == nil || errors.As(err, &write) {
		return err
	}
	return b.bad(err)
}

// writeError is an error of the file that pages are written to, not of the one that they are read from.
type writeError struct{ error }

func (e *writeError) Unwrap() error { return e.error }

// endBackup writes the checksum of all pages behind the last page.
func endBackup(ctx context.Context, path string) (err error) {
	f, err := OpenOwn(path, os.O_RDWR)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	pages := info.Size() / pageSize
	sum, err := readPages(ctx, f, pages, nil)
	if err != nil {
		return err
	}
	end := make([]byte, endSize)
	copy(end, fmt.Sprintf(endLine, pages, sum))
	_, err = f.WriteAt(end, pages*pageSize)
	return err
}

// readPages reads all pages of a database that has no log, and writes them to the file to unless that is nil. It fails
// if a page does not match its checksum. It also fails if a page is all zeros, unless the page holds nothing: free
// pages, and the one at 1 GB that SQLite leaves out. It returns the checksum of all pages, hexadecimal.
func readPages(ctx context.Context, f *os.File, pages int64, to io.Writer) (sum string, err error) {
	const leftOut = 1<<30/pageSize + 1
	var zeros []uint32
	all := sha256.New()
	chunk := make([]byte, 256*pageSize)
	for page := int64(1); page <= pages; {
		if err := ctx.Err(); err != nil {
			return "", err
		}
		part := chunk[:min(int64(len(chunk)), (pages-page+1)*pageSize)]
		if _, err := f.ReadAt(part, (page-1)*pageSize); err != nil {
			return "", err
		}
		all.Write(part)
		for b := range slices.Chunk(part, pageSize) {
			words := binary.LittleEndian
			switch sum := (checksum{}).add(b[:pageEnd]); {
			case b[0] == 0 && bytes.Equal(b[1:], b[:len(b)-1]):
				if page != leftOut {
					zeros = append(zeros, uint32(page))
				}
			case words.Uint32(b[pageEnd:]) != sum[0] || words.Uint32(b[pageEnd+4:]) != sum[1]:
				return "", fmt.Errorf("page %d does not match its checksum, the medium has changed data", page)
			}
			page++
		}
		if to != nil {
			if _, err := to.Write(part); err != nil {
				return "", &writeError{err}
			}
		}
	}
	if len(zeros) > 0 {
		free, err := freePages(f)
		for _, page := range zeros {
			if _, is := free[page]; !is {
				return "", errors.Join(fmt.Errorf("page %d: %w", page, errZeros), err)
			}
		}
		if err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(all.Sum(nil)), nil
}

// copyPages copies what a connection sees at one moment to an empty file. Every page's checksum is verified when the
// page is read, and computed when it is written.
func copyPages(ctx context.Context, src *sqlite3.Conn, to string) (err error) {
	to, err = filepath.Abs(to)
	if err != nil {
		return err
	}
	if err := withChecksums(to); err != nil {
		return err
	}
	// Nobody would use what a crash leaves, so the copy needs no journal and no syncs on the way.
	b, err := src.BackupInit("main", uri(to, "nolock=1&_pragma=journal_mode(off)&_pragma=synchronous(off)"))
	if err != nil {
		return err
	}
	defer func() {
		if closed := b.Close(); err == nil { // otherwise Close returns the same error again
			err = closed
		}
	}()
	const pages = 1024 // copied between two checks of the context
	for {
		if done, err := b.Step(pages); err != nil || done {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

// errZeros says that a database has a page of zeros, which checksums do not reveal: the checksum of zeros is zero.
var errZeros = errors.New("all bytes are zero, which no page of a ledger is: the medium has lost it; keep a copy of the folder and restore a backup")

// freePages returns the free pages of a database. They are listed in a chain of pages, which are free too.
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
	if uint32(len(free)) != most { // a page of the chain is all zeros
		return nil, fmt.Errorf("%w: %d pages are free, but %d are listed", errZeros, most, len(free))
	}
	return free, nil
}

// closeCopy makes a copy the copy of a closed ledger, whether or not the ledger was being served. ends says whether the
// copy is a backup that will end with a checksum; the copy's database notes this.
func closeCopy(path string, ends bool) error {
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
	none := func(*sqlite3.Stmt) error { return nil }
	if err == nil && ends {
		err = query(c, "INSERT INTO meta (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING", none, endsValue, []byte("1"))
	} else if err == nil {
		err = query(c, "DELETE FROM meta WHERE name = $1", none, endsValue)
	}
	if err == nil {
		err = checkpointOnClose(c)
	}
	return errors.Join(err, closeConn(c))
}

// withChecksums makes an empty file a database whose pages have checksums. Its first page must say so before others are
// written, because pages that are written earlier would get no checksums.
func withChecksums(path string) error {
	c, err := open(uri(path, "nolock=1"), sqlite3.OPEN_READWRITE|sqlite3.OPEN_URI)
	if err != nil {
		return err
	}
	return errors.Join(c.EnableChecksums("main"), c.Exec("CREATE TABLE replaced (x)"), c.Close())
}

// uri returns the name of a file for SQLite, with options in query.
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
