package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// marked is what a process leaves that was killed, with a mark at its last call; earlier are states before it, the first
// of them with a log that was begun anew since. Each has the rows of the number of calls that goes with it.
func marked(t *testing.T) (d disk, earlier []disk, calls int64) {
	t.Helper()
	dir := create(t)
	db := byHand(reopen(t, dir))
	for range 3 {
		group(t, db, 40)
	}
	earlier = append(earlier, image(t, dir))
	if err := db.checkpoint(); err != nil {
		t.Fatal(err)
	}
	for _, n := range groups {
		group(t, db, n)
		earlier = append(earlier, image(t, dir))
	}
	if err := db.marks.write(db.lastCall.Load()); err != nil {
		t.Fatal(err)
	}
	d = image(t, dir)
	if bytes.Equal(d.wal[:logHeader], earlier[0].wal[:logHeader]) {
		t.Fatal("the log was not begun anew")
	}
	return d, earlier[:len(earlier)-1], db.lastCall.Load()
}

// TestLostEnd takes away what a killed process has left, or puts something older in its place. Nobody reads, copies, backs
// up or serves the rest; it stays as it is; and whoever has no backup can give up what is missing.
func TestLostEnd(t *testing.T) {
	d, earlier, calls := marked(t)
	zeroed := func(from int) []byte { return append(slices.Clone(d.wal[:from]), make([]byte, len(d.wal)-from)...) }
	type lost struct {
		name string
		d    disk
	}
	cases := []lost{
		{"only the database", disk{db: d.db}},
		{"no log", disk{db: d.db, mark: d.mark}},
		{"no log, with its index", disk{db: d.db, shm: d.shm, mark: d.mark}},
		{"no mark", disk{db: d.db, wal: d.wal, shm: d.shm}},
		{"a mark of nothing", disk{d.db, d.wal, nil, make([]byte, 2*markSlot)}},
		{"an empty log", disk{d.db, []byte{}, nil, d.mark}},
		{"a log of nothing but its header", disk{d.db, d.wal[:logHeader], nil, d.mark}},
		{"a log of zeros", disk{d.db, zeroed(0), nil, d.mark}},
		{"a log of zeros behind its header", disk{d.db, zeroed(logHeader), nil, d.mark}},
	}
	for i, f := range framesOf(d.wal) {
		if f.last {
			cases = append(cases, lost{fmt.Sprintf("cut at the end of frame %d, or before", i), disk{d.db, d.wal[:f.at], nil, d.mark}},
				lost{fmt.Sprintf("zeros from frame %d", i), disk{d.db, zeroed(f.at), nil, d.mark}})
		}
	}
	for i, e := range earlier {
		cases = append(cases, lost{fmt.Sprintf("the log of state %d", i), disk{d.db, e.wal, nil, d.mark}})
	}
	other, _, _ := marked(t)
	cases = append(cases, lost{"the mark of another ledger", disk{d.db, d.wal, nil, other.mark}})
	for _, c := range cases {
		dir := filepath.Join(t.TempDir(), "ledger")
		c.d.put(t, dir)
		for _, o := range []struct {
			name string
			f    func() error
		}{
			{"reading", func() error { return Read(dir, func(*Reader, Meta) error { return nil }) }},
			{"backup", func() error {
				_, err := Backup(context.Background(), dir, filepath.Join(t.TempDir(), "backup"))
				return err
			}},
			{"copying", func() error { _, err := Copy(dir, filepath.Join(t.TempDir(), "copy"), func(Copied) {}); return err }},
			{"opening", func() error { _, err := Open(dir, Options{}); return err }},
		} {
			unchanged(t, dir, o.name+" with "+c.name, func() {
				if err := o.f(); !errors.Is(err, ErrIncomplete) && !errors.Is(err, errLog) {
					t.Errorf("%s with %s: %v", o.name, c.name, err)
				}
			})
		}
		loss, err := AcceptLoss(dir)
		if err != nil || loss.Reason == nil || loss.Last > calls || c.d.mark != nil && loss.Last < 120 && loss.Known != 0 {
			t.Errorf("giving up what is lost with %s: %+v, %v", c.name, loss, err)
			continue
		}
		if n := rows(t, dir); n != loss.Last {
			t.Errorf("%s: %d rows are left, but %d calls", c.name, n, loss.Last)
		}
		db := reopen(t, dir)
		group(t, db, 1)
		if err := db.Close(); err != nil {
			t.Error(err)
		}
		if got := files(t, dir); !slices.Equal(got, []string{file, lockFile}) {
			t.Errorf("%s: the folder holds %q", c.name, got)
		}
		if _, err := AcceptLoss(dir); err == nil {
			t.Errorf("%s: something was given up where nothing is missing", c.name)
		}
	}
}

// TestWholeEnd: what is no loss is taken for none.
func TestWholeEnd(t *testing.T) {
	d, earlier, calls := marked(t)
	torn := func(slot int) []byte {
		b := append(slices.Clone(d.mark), make([]byte, 2*markSlot)...)[:markSlot+markSize]
		clear(b[slot*markSlot+50 : slot*markSlot+markSize])
		return b
	}
	last := earlier[len(earlier)-1]
	for _, c := range []struct {
		name  string
		d     disk
		calls int64
	}{
		{"killed", d, calls},
		{"without index", disk{d.db, d.wal, nil, d.mark}, calls},
		{"with the first place of the mark torn", disk{d.db, d.wal, nil, torn(0)}, calls},
		{"with the second place of the mark torn", disk{d.db, d.wal, nil, torn(1)}, calls},
		{"with a mark from before", disk{d.db, d.wal, nil, earlier[0].mark}, calls},
		{"at a moment before", last, calls - 1},
	} {
		dir := filepath.Join(t.TempDir(), "ledger")
		c.d.put(t, dir)
		if n := rows(t, dir); n != c.calls {
			t.Errorf("%s: %d rows, want %d", c.name, n, c.calls)
		}
		if _, err := AcceptLoss(dir); err == nil {
			t.Errorf("%s: something was given up where nothing is missing", c.name)
		}
		db := reopen(t, dir)
		group(t, db, 1)
		to := filepath.Join(t.TempDir(), "backup")
		if _, err := Backup(context.Background(), dir, to); err != nil {
			t.Error(err)
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
		restored := filepath.Join(t.TempDir(), "restored")
		if _, err := Restore(context.Background(), to, restored); err != nil {
			t.Error(err)
		}
		if err := reopen(t, restored).Close(); err != nil {
			t.Errorf("%s: the backup of a ledger that is served: %v", c.name, err)
		}
	}
	// A ledger of a version that knows no marks, killed.
	dir := create(t)
	db := byHand(reopen(t, dir))
	if err := forgetServing(db.writer); err != nil {
		t.Fatal(err)
	}
	group(t, db, 5)
	older := image(t, dir)
	older.mark = nil
	dir = filepath.Join(t.TempDir(), "ledger")
	older.put(t, dir)
	if n := rows(t, dir); n != 5 {
		t.Errorf("killed by a version without marks: %d rows, want 5", n)
	}
	if err := reopen(t, dir).Close(); err != nil {
		t.Error(err)
	}
}

// TestMarkFollows commits, and wants the mark to come as far without anything else happening.
func TestMarkFollows(t *testing.T) {
	before := markInterval
	markInterval = time.Millisecond
	t.Cleanup(func() { markInterval = before })
	dir := create(t)
	db := reopen(t, dir)
	for range 20 {
		group(t, db, 3)
	}
	for m := (*logMark)(nil); m == nil || m.Call != db.lastCall.Load(); {
		var err error
		if m, err = readMark(filepath.Join(dir, file)); err != nil {
			t.Fatal(err)
		}
		if m != nil && m.Call > db.lastCall.Load() {
			t.Fatalf("the mark says call %d, the last one is %d", m.Call, db.lastCall.Load())
		}
	}
	if _, err := os.Stat(filepath.Join(dir, file+markSuffix)); err != nil {
		t.Error(err)
	}
}

// TestServedBesideReader opens a ledger while it is read, so that the database cannot say at once that it is served; it
// does as soon as the reader has ended.
func TestServedBesideReader(t *testing.T) {
	dir := create(t)
	var db *sqliteStore
	err := Read(dir, func(*Reader, Meta) error {
		db = byHand(reopen(t, dir))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	group(t, db, 3)
	if !db.checkpointDue() {
		t.Error("no checkpoint is due, although the database does not say that it is served")
	}
	if err := db.checkpoint(); err != nil {
		t.Fatal(err)
	}
	if db.checkpointDue() {
		t.Error("a checkpoint is due after one")
	}
	alone := filepath.Join(t.TempDir(), "ledger")
	disk{db: image(t, dir).db}.put(t, alone)
	if _, err := Open(alone, Options{}); !errors.Is(err, ErrIncomplete) {
		t.Errorf("the database alone: %v", err)
	}
}
