package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/meterd/meterd/internal/metering"
)

var errTest = errors.New("the test's own")

// nothing is what Create puts into a store.
func nothing(*Tx) error { return nil }

func create(t *testing.T) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "ledger")
	if err := Create(dir, Meta{Secret: []byte("secret"), Created: 1}, nothing); err != nil {
		t.Fatal(err)
	}
	return dir
}

func reopen(t *testing.T, dir string) *sqliteStore {
	t.Helper()
	db, err := openSQLite(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// record is a claim of a key of its own for each number.
func record(seq int64, number int) Claim {
	return Claim{Usage: Usage{Seq: seq, Key: metering.Key{Region: 1, Product: 1, Buyer: uint32(number), Dimension: 1}, Hour: 500_000,
		Timestamp: metering.Hour(500_000).Start(), Form: metering.ByCustomerAWSAccountID, Quantity: 1}}
}

// fill commits as many transactions with one row each.
func fill(t *testing.T, db Writer, rows int) {
	t.Helper()
	for range rows {
		n := db.NextCall()
		err := db.Update(func(tx *Tx) error {
			return errors.Join(tx.Claim([]Claim{record(UsageSeq(n, 0), int(n))}), tx.AppendCall(&Call{Seq: n, Operation: 1, UsageRows: 1}))
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func countUsage(r *Reader) (int64, error) { return r.number("SELECT count(*) FROM usage") }

// intact checks a state of the store.
func intact(r *Reader) (err error) {
	return errors.Join(r.Check(func(format string, args ...any) { err = errors.Join(err, fmt.Errorf(format, args...)) }), err)
}

// byHand stops the goroutine that makes checkpoints, so that the test can.
func byHand(db *sqliteStore) *sqliteStore {
	close(db.wakeup)
	db.ended.Wait()
	db.wakeup = make(chan struct{}, 1)
	return db
}

func files(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestCreate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	err := Create(dir, Meta{Secret: []byte("secret"), Sandbox: true, Created: 7, Check: []byte("check")}, func(tx *Tx) error {
		return errors.Join(tx.Put(&metering.RegionInfo{ID: 1, Name: "us-east-1", Enabled: true}), tx.Put(&AdminToken{ID: 1, Name: "init"}),
			tx.Claim([]Claim{record(UsageSeq(1, 0), 1)}), tx.AppendCall(&Call{Seq: 1, UsageRows: 1}))
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := files(t, dir); !slices.Equal(got, []string{file, lockFile}) {
		t.Errorf("the folder holds %q", got)
	}
	db := reopen(t, dir)
	if m := db.Meta(); m.Format != Format || !m.Sandbox || m.Created != 7 || string(m.Secret) != "secret" || string(m.Check) != "check" {
		t.Errorf("meta %+v", m)
	}
	err = db.View(context.Background(), func(r *Reader) error {
		c := metering.NewCatalog(metering.DefaultSettings())
		tokens := 0
		_, err := r.Load(Revision{}, func(row any) error {
			if !c.Put(row) {
				tokens++
			}
			return nil
		})
		if err != nil || len(c.Regions()) != 1 || tokens != 1 {
			return fmt.Errorf("regions %v, %d tokens: %w", c.Regions(), tokens, err)
		}
		calls := 0
		err = r.Calls(func(c *Call, stored uint32) error {
			if calls++; stored != 1 {
				return fmt.Errorf("call %d has the usage rows %b", c.Seq, stored)
			}
			return nil
		}, func(seq int64) error { return fmt.Errorf("usage row %d has no call", seq) })
		if calls != 1 {
			return fmt.Errorf("%d calls: %w", calls, err)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	if err := Create(dir, Meta{}, nothing); !errors.Is(err, ErrExist) {
		t.Errorf("created again: %v", err)
	}
}

// TestCreateFails interrupts the making of a store: nothing of it is left, and the next try succeeds.
func TestCreateFails(t *testing.T) {
	failing := func(at int) func(*os.File) error {
		n := 0
		return func(f *os.File) error {
			if n++; n == at {
				return errTest
			}
			return f.Sync()
		}
	}
	for name, c := range map[string]struct {
		fill func(*Tx) error
		sync func(*os.File) error
	}{
		"what is put in is refused":    {func(tx *Tx) error { return errors.Join(tx.Put(&metering.RegionInfo{ID: 1}), errTest) }, (*os.File).Sync},
		"the folder above is not safe": {nothing, failing(1)},
		"the new folder is not safe":   {nothing, failing(2)},
		"its name is not safe":         {nothing, failing(3)},
	} {
		t.Run(name, func(t *testing.T) {
			syncFile = c.sync
			t.Cleanup(func() { syncFile = (*os.File).Sync })
			dir := filepath.Join(t.TempDir(), "ledger")
			if err := Create(dir, Meta{}, c.fill); !errors.Is(err, errTest) {
				t.Fatalf("creating it: %v", err)
			}
			if err := os.MkdirAll(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			if got := files(t, dir); len(got) > 1 || len(got) == 1 && got[0] != lockFile {
				t.Errorf("it left %q", got)
			}
			if _, err := Open(dir, Options{}); !errors.Is(err, ErrNotExist) {
				t.Errorf("opening it: %v", err)
			}
			syncFile = (*os.File).Sync
			// What a kill leaves.
			if err := os.WriteFile(filepath.Join(dir, file+".new"), []byte("rest"), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := Create(dir, Meta{}, nothing); err != nil {
				t.Errorf("creating it again: %v", err)
			}
		})
	}
}

// TestCreateSyncs: a folder whose name is not on disk takes the ledger with it when the power goes.
func TestCreateSyncs(t *testing.T) {
	var synced []string
	syncFile = func(f *os.File) error {
		synced = append(synced, f.Name())
		return f.Sync()
	}
	t.Cleanup(func() { syncFile = (*os.File).Sync })
	above := t.TempDir()
	if err := Create(filepath.Join(above, "a", "b"), Meta{}, nothing); err != nil {
		t.Fatal(err)
	}
	if want := []string{filepath.Dir(above), above, filepath.Join(above, "a"), filepath.Join(above, "a", "b")}; !slices.Equal(synced, want) {
		t.Errorf("synced %q, want %q", synced, want)
	}
}

func TestOpenRefuses(t *testing.T) {
	empty := t.TempDir()
	if _, err := Open(empty, Options{}); !errors.Is(err, ErrNotExist) {
		t.Errorf("an empty folder: %v", err)
	}
	if got := files(t, empty); len(got) != 0 {
		t.Errorf("that left %q", got)
	}
	if err := Read(empty, nil); !errors.Is(err, ErrNotExist) {
		t.Errorf("reading an empty folder: %v", err)
	}
	hidden := filepath.Join(empty, "loop")
	if err := os.Symlink("loop", hidden); err != nil { // as a folder that may not be looked into
		t.Fatal(err)
	}
	if exists, err := Exists(hidden); exists || err == nil {
		t.Errorf("whether there is a ledger in a folder that leads nowhere: %v, %v", exists, err)
	}
	for _, err := range []error{Read(hidden, nil), func() error { _, err := Open(hidden, Options{}); return err }()} {
		if err == nil || errors.Is(err, ErrNotExist) {
			t.Errorf("such a folder: %v", err)
		}
	}
	dir := create(t)
	db := reopen(t, dir)
	if _, err := Open(dir, Options{}); !errors.Is(err, ErrLocked) {
		t.Errorf("a folder that is open: %v", err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	db = reopen(t, dir)
	if err := db.Update(func(tx *Tx) error { return tx.PutMeta("ledger", []byte(`{"format":4}`)) }); err != nil {
		t.Fatal(err)
	}
	db.Close()
	if _, err := Open(dir, Options{}); !errors.Is(err, errTooOld) || !strings.Contains(err.Error(), "has format 4, made by a newer version of meterd") {
		t.Errorf("another format: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, file), bytes.Repeat([]byte("no ledger "), 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, Options{}); err == nil {
		t.Error("a file of something else was opened")
	}
}

// TestCreateIsLocked: of two that make a ledger in one folder at once, the second must not replace the first's.
func TestCreateIsLocked(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ledger")
	err := Create(dir, Meta{Created: 1}, func(*Tx) error {
		if err := Create(dir, Meta{Created: 2}, nothing); !errors.Is(err, ErrLocked) {
			t.Errorf("the second: %v", err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if m := reopen(t, dir).Meta(); m.Created != 1 {
		t.Errorf("the ledger is that of %d", m.Created)
	}
}

func TestPragmas(t *testing.T) {
	db := reopen(t, create(t))
	for name, want := range map[string]string{"journal_mode": "wal", "synchronous": "2", "wal_autocheckpoint": "0", "checksum_verification": "1"} {
		if got, err := pragma(db.writer, name); err != nil || got != want {
			t.Errorf("%s is %q (%v), want %q", name, got, err, want)
		}
	}
	err := db.View(context.Background(), func(r *Reader) error {
		if got, err := pragma(r.reader.(*sqliteReader).c, "checksum_verification"); err != nil || got != "1" {
			t.Errorf("checksum_verification of a reader is %q (%v)", got, err)
		}
		return r.reader.(*sqliteReader).c.Exec("DELETE FROM meta")
	})
	if err == nil {
		t.Error("a reader could write")
	}
}

func TestUpdateFails(t *testing.T) {
	db := reopen(t, create(t))
	fill(t, db, 1)
	err := db.Update(func(tx *Tx) error { return errors.Join(tx.AppendCall(&Call{Seq: 2}), errTest) })
	var commit *CommitError
	if !errors.Is(err, errTest) || errors.As(err, &commit) {
		t.Errorf("a refused transaction: %v", err)
	}
	fill(t, db, 1) // takes number 2
	for name, f := range map[string]func(*Tx) error{
		"a commit that fails": func(tx *Tx) error { return tx.exec("ROLLBACK") },
		"undoing that fails":  func(tx *Tx) error { return errors.Join(tx.exec("ROLLBACK"), errTest) },
		"a claim that is undone": func(tx *Tx) error {
			return errors.Join(tx.Claim([]Claim{record(UsageSeq(3, 0), 3)}), errTest) // the index holds it
		},
	} {
		db := reopen(t, create(t))
		if err := db.Update(f); !errors.As(err, &commit) {
			t.Errorf("%s: %v, want a CommitError", name, err)
		}
		if _, err := db.Pulse(context.Background(), Revision{}); err == nil {
			t.Errorf("%s: the store says that it is well", name)
		}
		if err := db.Update(func(*Tx) error { return nil }); !errors.As(err, &commit) {
			t.Errorf("after %s: %v, want a CommitError", name, err)
		}
	}
}

// TestCloseAfterFailure: who has failed writes nothing more when it closes, nor does a reader that has; the log stays
// as it is for the next start.
func TestCloseAfterFailure(t *testing.T) {
	dir := create(t)
	db := reopen(t, dir)
	fill(t, db, 300)
	var commit *CommitError
	if err := db.Update(func(tx *Tx) error { return tx.exec("ROLLBACK") }); !errors.As(err, &commit) {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, file)
	database, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path + "-wal"); err != nil {
		t.Fatalf("closing after a failed commit has emptied the log: %v", err)
	}
	refused := Read(dir, func(*Reader, Meta) error { return nil })
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, database) || !errors.Is(refused, ErrUnsure) {
		t.Errorf("reading what may be in memory only: %v; %v", refused, err)
	}
	err = reopen(t, dir).View(context.Background(), func(r *Reader) error {
		if n, err := countUsage(r); n != 300 || err != nil {
			t.Errorf("%d rows: %v", n, err)
		}
		return intact(r)
	})
	if err != nil {
		t.Error(err)
	}
}

func TestViews(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := reopen(t, create(t))
		release := make(chan struct{})
		var running atomic.Int32
		var all sync.WaitGroup
		for range 3 * maxReaders {
			all.Go(func() {
				err := db.View(context.Background(), func(*Reader) error {
					running.Add(1)
					<-release
					running.Add(-1)
					return nil
				})
				if err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		if n := running.Load(); n != maxReaders {
			t.Errorf("%d views run at once, want %d", n, maxReaders)
		}
		release <- struct{}{}
		synctest.Wait()
		if n := running.Load(); n != maxReaders {
			t.Errorf("%d views run when one has ended, want %d", n, maxReaders)
		}
		close(release)
		all.Wait()
		if err := db.Close(); err != nil {
			t.Error(err)
		}
		if err := db.View(context.Background(), func(*Reader) error { return nil }); !errors.Is(err, errClosed) {
			t.Errorf("a view of a closed store: %v", err)
		}
		if err := db.Close(); !errors.Is(err, errClosed) {
			t.Errorf("closed twice: %v", err)
		}
	})
}

// TestViewFails: a reader with a transaction in an unknown state is not used again.
func TestViewFails(t *testing.T) {
	db := reopen(t, create(t))
	ended := func(r *Reader) error { return r.reader.(*sqliteReader).c.Exec("ROLLBACK") } // so that View's own fails
	for range 2 * maxReaders {
		if err := db.View(context.Background(), ended); err == nil {
			t.Fatal("ending the transaction twice was no error")
		}
		func() {
			defer func() {
				if recover() == nil {
					t.Error("the panic was lost")
				}
			}()
			db.View(context.Background(), func(*Reader) error { panic("at the disco") })
		}()
	}
	pooled := 0
	for range maxReaders {
		r := <-db.readers
		if r != nil {
			pooled++
		}
		db.readers <- r
	}
	if pooled != 0 {
		t.Errorf("%d readers are kept", pooled)
	}
	fill(t, db, 1)
	for range 2 * maxReaders {
		err := db.View(context.Background(), func(r *Reader) error {
			if n, err := countUsage(r); n != 1 || err != nil {
				t.Errorf("%d rows: %v", n, err)
			}
			return errTest
		})
		if !errors.Is(err, errTest) {
			t.Errorf("got %v", err)
		}
	}
}

// TestCheckpoints: while a reader keeps the log from being emptied, tries are as rare as it grows; then it is emptied.
func TestCheckpoints(t *testing.T) {
	background, foreground := walBackground, walForeground
	walBackground, walForeground = 10, 100
	t.Cleanup(func() { walBackground, walForeground = background, foreground })
	db := byHand(reopen(t, create(t)))
	tries, forced := 0, []int64{0}
	write := func(rows int) {
		t.Helper()
		for range rows {
			fill(t, db, 1)
			if db.checkpointDue() {
				tries++
				if err := db.checkpoint(); err != nil {
					t.Fatal(err)
				}
			}
			if last := forced[len(forced)-1]; db.forced != last {
				forced = append(forced, db.forced)
			}
		}
	}
	err := db.View(context.Background(), func(r *Reader) error {
		if _, err := countUsage(r); err != nil { // the transaction begins to read
			return err
		}
		write(400)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	pages := db.walPages.Load()
	if pages < 400 {
		t.Errorf("the log has %d pages; the reader should have kept it from being emptied", pages)
	}
	if most := int(pages/walBackground) + 2; tries == 0 || tries > most {
		t.Errorf("%d tries in the background for %d pages, want 1 to %d: those that copy something, and one each time the log has grown", tries, pages, most)
	}
	if most := int(pages / walForeground); len(forced) == 1 || len(forced)-1 > most {
		t.Errorf("the writer tried at %d pages, of %d; want at most %d", forced, pages, most)
	}
	write(30)
	if pages := db.walPages.Load(); pages > 2*walBackground {
		t.Errorf("the log has %d pages although nobody reads it", pages)
	}
	if db.forced != 0 {
		t.Error("the log has begun anew, but the writer waits for it to grow beyond what it was")
	}
}

// TestCheckpointBesideWriters makes checkpoints on one connection after others have written, on which go-sqlite3
// 0.37.0 panics while the connection verifies checksums. It is the reason for skipChecksums.
func TestCheckpointBesideWriters(t *testing.T) {
	dir := create(t)
	db := byHand(reopen(t, dir))
	for range 5 {
		fill(t, db, 30)
		if err := db.checkpoint(); err != nil {
			t.Fatal(err)
		}
		fill(t, db, 3)
		if ran, _, err := db.copyLog(db.writer); err != nil || !ran {
			t.Fatal(ran, err)
		}
	}
	err := Read(dir, func(r *Reader, _ Meta) error {
		if n, err := countUsage(r); n != 165 || err != nil {
			t.Errorf("%d rows: %v", n, err)
		}
		fill(t, db, 1)
		return db.Close()
	})
	if err != nil {
		t.Error(err)
	}
	if got := files(t, dir); !slices.Contains(got, file+"-wal") {
		t.Errorf("the folder holds %q; the log should be there for the next start, as somebody read", got)
	}
	if err := reopen(t, dir).Close(); err != nil {
		t.Error(err)
	}
	if got := files(t, dir); !slices.Equal(got, []string{file, lockFile}) {
		t.Errorf("the folder holds %q; the log should be copied and gone", got)
	}
	err = Read(dir, func(r *Reader, _ Meta) error {
		if n, err := countUsage(r); n != 166 || err != nil {
			t.Errorf("%d rows: %v", n, err)
		}
		return intact(r)
	})
	if err != nil {
		t.Error(err)
	}
}

// TestChecksums flips a bit of every page in turn: no page is read as if nothing had happened.
func TestChecksums(t *testing.T) {
	dir := create(t)
	db := reopen(t, dir)
	fill(t, db, 600)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, file)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const page = 4096
	readAll := func() error {
		return Read(dir, func(r *Reader, _ Meta) error {
			return errors.Join(intact(r), r.Usage(func(*Usage) error { return nil }))
		})
	}
	if err := readAll(); err != nil {
		t.Fatal(err)
	}
	for at := page / 2; at < len(whole); at += page {
		damaged := bytes.Clone(whole)
		damaged[at] ^= 4
		if err := os.WriteFile(path, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		if readAll() == nil {
			t.Errorf("a bit was flipped in page %d of %d, and nobody noticed", at/page+1, len(whole)/page)
		}
	}
}

// TestCallOfRequest: a call that is not where its id's time puts it is found too.
func TestCallOfRequest(t *testing.T) {
	db := reopen(t, create(t))
	id := func(second, n int) (id [16]byte) {
		for i, millis := 0, (1_800_000_000+second)*1000; i < 6; i++ {
			id[i] = byte(millis >> (40 - 8*i))
		}
		id[15] = byte(n)
		return id
	}
	const rows, strange = 100, 20
	err := db.Update(func(tx *Tx) error {
		for n := 1; n <= rows; n++ {
			c := Call{Seq: int64(n), Request: id(30*n, n)}
			if n == strange {
				c.Request = id(30*80, n) // the clock was ahead
			}
			if err := tx.AppendCall(&c); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	err = db.View(context.Background(), func(r *Reader) error {
		for n := 1; n <= rows; n++ {
			if n/10 == strange/10 { // the strange one may lead the halving past those after it
				continue
			}
			if c, err := r.CallOfRequest(id(30*n, n)); err != nil || c == nil || c.Seq != int64(n) {
				t.Errorf("call %d: %+v, %v", n, c, err)
			}
		}
		if c, err := r.CallOfRequest(id(30*80, strange)); err != nil || c == nil || c.Seq != strange {
			t.Errorf("the strange one: %+v, %v", c, err)
		}
		for _, second := range []int{30*80 + 1, -1000, 1_000_000} {
			if c, err := r.CallOfRequest(id(second, strange)); err != nil || c != nil {
				t.Errorf("of no call: %+v, %v", c, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// TestRowsAreNumbered writes calls of all sizes, some records of which are not stored or are not plain, and reads the
// numbers of their rows.
func TestRowsAreNumbered(t *testing.T) {
	db := reopen(t, create(t))
	var want []int64
	number := 0
	for size := range 26 {
		for _, except := range []int{-1, 0, size / 2, size - 1} {
			for _, taken := range []bool{true, false} {
				var claims []Claim
				for i := range size {
					number++
					c := of(number, 1)
					switch {
					case i == except && taken && number > 1:
						c = of(1, 1)
					case i == except:
						c.Allocations = []byte{1, 1, 0}
					}
					claims = append(claims, c)
				}
				for _, c := range call(t, db, claims...) {
					if c.State == Granted {
						want = append(want, c.Seq)
					}
				}
			}
		}
	}
	var got []int64
	err := db.View(context.Background(), func(r *Reader) error {
		return r.Usage(func(u *Usage) error {
			got = append(got, u.Seq)
			return nil
		})
	})
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("rows %v, want %v (%v)", got, want, err)
	}
}
