package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/ncruces/go-sqlite3"
)

// trace is all that can be seen of a folder from outside but for times of reading: names, contents, modes, owners, inodes,
// and the times of changes.
func trace(t *testing.T, dir string) (files []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := os.Lstat(path)
		if err != nil {
			return err
		}
		var content []byte
		if info.Mode().IsRegular() {
			content, err = os.ReadFile(path)
		}
		s := info.Sys().(*syscall.Stat_t)
		files = append(files, fmt.Sprintf("%s %v %d:%d %d %v %v %x", path, info.Mode(), s.Uid, s.Gid, s.Ino, info.ModTime(), s.Ctim, content))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// unchanged runs f and wants the folder to be as it was.
func unchanged(t *testing.T, dir, what string, f func()) {
	t.Helper()
	before := trace(t, dir)
	f()
	after := trace(t, dir)
	for i := range max(len(before), len(after)) {
		if i >= len(before) || i >= len(after) || before[i] != after[i] {
			t.Fatalf("%s has changed the folder: from %.300q to %.300q", what, before[i:min(i+1, len(before))], after[i:min(i+1, len(after))])
		}
	}
}

// TestReadChangesNothing reads folders in all the states that they are left in, and ends with a served one.
func TestReadChangesNothing(t *testing.T) {
	d, _ := killed(t)
	closed := create(t)
	db := reopen(t, closed)
	fill(t, db, 7)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	place := func(d disk) string {
		dir := filepath.Join(t.TempDir(), "ledger")
		d.put(t, dir)
		return dir
	}
	half := disk{d.db, slices.Concat(d.wal, d.wal[len(d.wal)-5000:]), d.shm, d.mark} // a transaction that was cut off
	for _, c := range []struct {
		name, dir string
		rows      int64
	}{
		{"closed", closed, 7},
		{"killed", place(d), 308},
		{"without power", place(disk{d.db, d.wal, nil, d.mark}), 308},
		{"in the middle of a commit", place(half), 308},
	} {
		for _, without := range []bool{false, true} {
			if without {
				os.Remove(filepath.Join(c.dir, lockFile))
			}
			unchanged(t, c.dir, "reading a folder that is "+c.name, func() {
				if n := rows(t, c.dir); n != c.rows {
					t.Errorf("%s: %d rows, want %d", c.name, n, c.rows)
				}
				if _, err := Backup(context.Background(), c.dir, filepath.Join(t.TempDir(), "backup")); err != nil {
					t.Errorf("%s: backup: %v", c.name, err)
				}
			})
		}
	}
	db = reopen(t, closed)
	group(t, db, 300)
	unchanged(t, closed, "reading a folder that is served", func() {
		if n := rows(t, closed); n != 307 {
			t.Errorf("%d rows, want 307", n)
		}
	})
}

// TestRefusedIsUnchanged: no folder that is refused is changed before, by whatever it is opened.
func TestRefusedIsUnchanged(t *testing.T) {
	d, _ := killed(t)
	flipped := slices.Clone(d.wal)
	flipped[logHeader+frameHeader+100] ^= 1
	older := create(t)
	if db := reopen(t, older); db.Update(func(tx *Tx) error { return tx.PutMeta("ledger", []byte(`{"format":1}`)) }) != nil || db.Close() != nil {
		t.Fatal("no older ledger")
	}
	sealed, elsewhere := create(t), filepath.Join(t.TempDir(), "elsewhere")
	if _, err := Copy(sealed, elsewhere, func(Copied) {}); err != nil {
		t.Fatal(err)
	}
	if err := Seal(sealed, elsewhere); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name    string
		dir     string // or
		d       disk
		extra   string // a file that is there too
		message string
		reads   bool // who only reads does not mind
	}{
		{name: "an empty database beside a log", d: disk{[]byte{}, d.wal, d.shm, d.mark}, message: "has 0 bytes"},
		{name: "the same without the index", d: disk{[]byte{}, d.wal, nil, d.mark}, message: "has 0 bytes"},
		{name: "a database of half a page", d: disk{d.db[:2000], d.wal, nil, d.mark}, message: "has 2000 bytes"},
		{name: "a database that is cut short", d: disk{d.db[:len(d.db)-pageSize], nil, nil, d.mark}, message: "should have"},
		{name: "something else beside a log", d: disk{[]byte(strings.Repeat("no ledger ", 1000)), nil, nil, nil}, message: "does not begin as a ledger's database does"},
		{name: "zeros for the database", d: disk{make([]byte, len(d.db)), nil, nil, nil}, message: "does not begin as a ledger's database does"},
		{name: "something else beside a log and its mark", d: disk{[]byte(strings.Repeat("no ledger ", 1000)), d.wal, nil, d.mark}, message: "the database is damaged"},
		{name: "a log that is damaged", d: disk{d.db, flipped, nil, d.mark}, message: "is not as it was written"},
		{name: "a log that is cut short", d: disk{d.db, d.wal[:len(d.wal)-1], d.shm, d.mark}, message: "of which"},
		{name: "a log that is gone", d: disk{d.db, nil, d.shm, d.mark}, message: "none is left"},
		{name: "another database's journal", d: disk{d.db, d.wal, nil, d.mark}, extra: file + "-journal", message: "not meterd's"},
		{name: "another format", dir: older, message: "has format 1"},
		{name: "one that was moved", dir: sealed, message: "has been moved to " + elsewhere, reads: true},
	} {
		dir := c.dir
		if dir == "" {
			dir = filepath.Join(t.TempDir(), "ledger")
			c.d.put(t, dir)
		}
		if c.extra != "" {
			if err := os.WriteFile(filepath.Join(dir, c.extra), []byte("something"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		for _, o := range []struct {
			name string
			f    func() error
		}{
			{"reading", func() error { return Read(dir, func(r *Reader, _ Meta) error { return intact(r) }) }},
			{"backup", func() error {
				_, err := Backup(context.Background(), dir, filepath.Join(t.TempDir(), "backup"))
				return err
			}},
			{"copying", func() error { _, err := Copy(dir, filepath.Join(t.TempDir(), "copy"), func(Copied) {}); return err }},
			{"opening", func() error { _, err := Open(dir, Options{}); return err }},
			{"sealing", func() error { return Seal(dir, "somewhere") }},
		} {
			unchanged(t, dir, o.name+" "+c.name, func() {
				err := o.f()
				if may := c.reads && o.name != "opening" && o.name != "sealing" && (o.name != "copying" || dir != sealed); (err == nil) != may || err != nil && !strings.Contains(err.Error(), c.message) {
					t.Errorf("%s %s: %v, want %q", o.name, c.name, err, c.message)
				}
			})
		}
	}
	dir := create(t)
	unchanged(t, dir, "a key that does not fit", func() {
		if _, err := Open(dir, Options{Admit: func(*Meta) error { return errTest }}); !errors.Is(err, errTest) {
			t.Error(err)
		}
	})
}

// forget has a reader keep no pages in memory, so that it reads what is in the files.
func forget(t *testing.T, r *Reader) {
	t.Helper()
	if err := r.reader.(*sqliteReader).c.Exec("PRAGMA cache_size=1"); err != nil {
		t.Fatal(err)
	}
}

// TestSnapshot reads one state while the folder is written, copied into the database, closed, and opened again.
func TestSnapshot(t *testing.T) {
	dir := create(t)
	db := byHand(reopen(t, dir))
	check := func(r *Reader, want int64) {
		t.Helper()
		if n, err := countUsage(r); n != want || err != nil {
			t.Errorf("%d rows, want %d: %v", n, want, err)
		}
		if err := intact(r); err != nil {
			t.Error(err)
		}
	}
	group := func(t *testing.T, db *sqliteStore, n int) { // in several transactions
		for range 5 {
			group(t, db, n/5)
		}
	}
	group(t, db, 5000)
	for _, copied := range []bool{false, true, true} {
		if copied { // so that the log can begin anew while it is read
			if err := db.checkpoint(); err != nil {
				t.Fatal(err)
			}
		}
		want := db.NextCall() - 1
		err := Read(dir, func(r *Reader, _ Meta) error {
			forget(t, r)
			check(r, want)
			for range 3 {
				group(t, db, 5000)
				if err := db.checkpoint(); err != nil {
					t.Fatal(err)
				}
				check(r, want)
			}
			if err := db.Close(); err != nil {
				t.Error(err)
			}
			check(r, want)
			db = byHand(reopen(t, dir)) // while it is read
			group(t, db, 5)
			check(r, want)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if n := rows(t, dir); n != db.NextCall()-1 {
		t.Errorf("%d rows in the end, want %d", n, db.NextCall()-1)
	}
}

// TestSnapshotBesideOlderServer reads beside a server that knows nothing of the folder's lock, as those before this
// version, while it copies its log into the database and closes.
func TestSnapshotBesideOlderServer(t *testing.T) {
	byTicks(t) // which never come: the watcher would report what is copied here without its knowledge
	dir := create(t)
	db := byHand(reopen(t, dir))
	group(t, db, 3000)
	if _, _, err := checkpoint(db.writer); err != nil {
		t.Fatal(err)
	}
	group(t, db, 3000)
	err := Read(dir, func(r *Reader, _ Meta) error {
		forget(t, r)
		for range 3 {
			group(t, db, 2000)
			if _, _, err := checkpoint(db.writer); err != nil {
				t.Fatal(err)
			}
			if n, err := countUsage(r); n != 6000 || err != nil {
				t.Errorf("%d rows, want 6000: %v", n, err)
			}
			if err := intact(r); err != nil {
				t.Error(err)
			}
		}
		for _, c := range []*sqlite3.Conn{db.checker, db.writer} {
			if err := errors.Join(checkpointOnClose(c), closeConn(c)); err != nil {
				t.Fatal(err)
			}
		}
		if n, err := countUsage(r); n != 6000 || err != nil {
			t.Errorf("%d rows, want 6000: %v", n, err)
		}
		return intact(r)
	})
	if err != nil {
		t.Fatal(err)
	}
	db.checker, db.writer = nil, nil
	db.sound.Store(false)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if n := rows(t, dir); n != 12000 {
		t.Errorf("%d rows in the end, want 12000", n)
	}
}
