package store_test

import (
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/meterd/meterd/internal/ledger"
	"github.com/meterd/meterd/internal/metering"
	"github.com/meterd/meterd/internal/store"
	"github.com/meterd/meterd/internal/verify"
	"github.com/ncruces/go-sqlite3"
)

// The tests of this file open ledgers of earlier versions, which brings them up to this one, on a disk whose power is cut
// or which fails while that is done.

const releasesDir = "../../meterdtest/testdata/formats"

// form says which version's a ledger is.
type form struct {
	format int
	schema int64
}

// release is a ledger that an earlier version has served and not closed.
type release struct {
	name       string
	files      map[string][]byte           // by their names in the folder
	known      map[metering.RecordID]int32 // the quantities that were acknowledged
	catalogue  []string                    // as this version reads it
	rows       map[string][]string         // of what both forms have, by the statement that reads them
	old, new   form
	operations int // of migrating it, in which the power can be cut
}

// releases returns the ledgers of earlier versions that this one migrates.
func releases(t *testing.T) (all []*release) {
	t.Helper()
	entries, err := os.ReadDir(releasesDir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		r, err := readRelease(t, e.Name())
		if err != nil {
			t.Fatalf("%s: %v", e.Name(), err)
		}
		if r.old != r.new {
			all = append(all, r)
		}
	}
	if len(all) == 0 {
		t.Fatal("there is no ledger to be migrated")
	}
	return all
}

func readRelease(t *testing.T, name string) (*release, error) {
	r := &release{name: name, files: map[string][]byte{}, known: map[metering.RecordID]int32{}}
	from := filepath.Join(releasesDir, name, "sqlite")
	paths, err := filepath.Glob(filepath.Join(from, "*.gz"))
	if err != nil {
		return nil, err
	}
	for _, path := range paths {
		if r.files[strings.TrimSuffix(filepath.Base(path), ".gz")], err = unzipped(path); err != nil {
			return nil, err
		}
	}
	var known struct {
		Records []struct {
			ID     uuid.UUID
			Record struct{ Quantity int32 }
		}
	}
	text, err := os.ReadFile(filepath.Join(from, "known.json"))
	if err := errors.Join(err, json.Unmarshal(text, &known)); err != nil {
		return nil, err
	}
	for _, k := range known.Records {
		r.known[metering.RecordID(k.ID)] = k.Record.Quantity
	}
	dir := filepath.Join(t.TempDir(), "ledger")
	if err := r.put(dir); err != nil {
		return nil, err
	}
	if r.old, err = formOf(dir); err != nil {
		return nil, err
	}
	if r.catalogue, err = catalogueOf(dir); err != nil {
		return nil, err
	}
	migrated := filepath.Join(t.TempDir(), "ledger")
	if err := r.put(migrated); err != nil {
		return nil, err
	}
	d := newDisk(t, migrated, 1)
	defer d.eject()
	if _, err := migrate(d); err != nil {
		return nil, err
	}
	r.operations = len(d.trail)
	if r.new, err = formOf(migrated); err != nil {
		return nil, err
	}
	return r, r.readRows(dir, migrated)
}

func unzipped(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(z)
}

// put makes the release's folder.
func (r *release) put(dir string) error {
	err := os.MkdirAll(dir, 0o700)
	for name, b := range r.files {
		err = errors.Join(err, os.WriteFile(filepath.Join(dir, name), b, 0o600))
	}
	return err
}

// formOf reads which version's a ledger is, without opening it.
func formOf(dir string) (f form, err error) {
	err = store.Read(dir, func(r *store.Reader, m store.Meta) (err error) {
		f.format = m.Format
		f.schema, err = r.Schema()
		return err
	})
	return f, err
}

// catalogueOf reads the catalogue and the directory of a ledger, without opening it.
func catalogueOf(dir string) (rows []string, err error) {
	err = store.Read(dir, func(r *store.Reader, _ store.Meta) error {
		_, err := r.Load(store.Revision{}, func(row any) error {
			text, err := json.Marshal(row)
			rows = append(rows, fmt.Sprintf("%T %s", row, text))
			return err
		})
		return err
	})
	return rows, err
}

// readRows reads all rows of the release, of them the columns that a migrated ledger has too. Left out is what says which
// version's the ledger is, and that it is served; and the checksums of the catalogue, which verify compares with its rows.
// SQLite, which reads them, may copy the log into the database.
func (r *release) readRows(dir, migrated string) error {
	const columns = "SELECT m.name || '.' || k.name FROM sqlite_schema m, pragma_table_info(m.name) k WHERE m.type = 'table' AND m.name || '.' || k.name <> 'revision.sum'"
	there, err := readTexts(migrated, columns)
	if err != nil {
		return err
	}
	had, err := readTexts(dir, columns)
	if err != nil {
		return err
	}
	expressions := map[string]string{}
	for _, name := range had {
		if table, column, _ := strings.Cut(name, "."); slices.Contains(there, name) {
			expressions[table] += ", quote(" + column + ")"
		}
	}
	c, err := sqlite3.Open(filepath.Join(dir, "ledger.db"))
	if err != nil {
		return err
	}
	defer c.Close()
	r.rows = map[string][]string{}
	total := 0
	where := map[string]string{"meta": " WHERE name NOT IN ('ledger', 'served')", "state": " WHERE name <> 'schema'"}
	for table, list := range expressions {
		sql := "SELECT json_array('" + table + "'" + list + ") FROM " + table + where[table] + " ORDER BY 1"
		if r.rows[sql], err = texts(c, sql); err != nil {
			return err
		}
		total += len(r.rows[sql])
	}
	if total < 2*len(r.known) { // a record has a row and a call
		return fmt.Errorf("%d records, but %d rows", len(r.known), total)
	}
	return nil
}

// readTexts returns what a statement reads in a folder's database.
func readTexts(dir, sql string) ([]string, error) {
	c, err := sqlite3.Open(filepath.Join(dir, "ledger.db"))
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return texts(c, sql)
}

// texts returns the first column of a statement's rows.
func texts(c *sqlite3.Conn, sql string) (all []string, err error) {
	s, _, err := c.Prepare(sql)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", sql, err)
	}
	defer s.Close()
	for s.Step() {
		all = append(all, s.ColumnText(0))
	}
	return all, s.Err()
}

// said is a log that remembers whether it was told that a ledger has been migrated.
type said struct{ migrated bool }

func (s *said) Write(line []byte) (int, error) {
	s.migrated = s.migrated || strings.Contains(string(line), "brought up to this version")
	return len(line), nil
}

// migrate opens a ledger and closes it. It reports whether the log was told that it was migrated.
func migrate(d *disk) (told bool, err error) {
	var s said
	cfg := configOf(d.dir)
	cfg.Log = slog.New(slog.NewTextHandler(&s, nil))
	d.enter("migrate")
	l, err := ledger.Open(cfg)
	if err == nil {
		d.enter("close")
		err = l.Close()
	}
	return s.migrated, err
}

// hold holds what is left of a release's ledger to what it had. It must be of the new form or, unless the log was told of
// the migration, of the old one; with all its rows, and so that it opens. first has it be read before it is opened too.
func (r *release) hold(dir string, told, first bool) error {
	look := func(told bool) error {
		f, err := formOf(dir)
		switch {
		case err != nil:
			return err
		case f != r.new && (f != r.old || told):
			return fmt.Errorf("it is of %+v; it was of %+v, is to be of %+v, and the log was told: %v", f, r.old, r.new, told)
		}
		report, err := verify.Ledger(dir, verify.Options{Acknowledged: r.known})
		if err == nil && (report.ProblemCount > 0 || report.Records != int64(len(r.known))) {
			err = fmt.Errorf("verify: %d records of %d; %d problems: %q", report.Records, len(r.known), report.ProblemCount, report.Problems)
		}
		if err != nil {
			return err
		}
		catalogue, err := catalogueOf(dir)
		if err == nil && !slices.Equal(catalogue, r.catalogue) {
			err = fmt.Errorf("the catalogue has %q; it had %q", catalogue, r.catalogue)
		}
		return err
	}
	if first {
		if err := look(told); err != nil && !errors.Is(err, store.ErrUnsure) { // it is to be opened before
			return fmt.Errorf("before it is opened: %w", err)
		}
	}
	l, err := ledger.Open(configOf(dir))
	if err != nil {
		return fmt.Errorf("opening it again: %w", err)
	}
	if err := l.Close(); err != nil {
		return err
	}
	if err := look(true); err != nil {
		return fmt.Errorf("after it was opened: %w", err)
	}
	c, err := sqlite3.Open(filepath.Join(dir, "ledger.db"))
	if err != nil {
		return err
	}
	defer c.Close()
	for sql, want := range r.rows {
		if got, err := texts(c, sql); err != nil || !slices.Equal(got, want) {
			return fmt.Errorf("%s: %q, %v; it had %q", sql, got, err, want)
		}
	}
	return nil
}

// draws is how often the power is cut at each operation: what is left on the disk is drawn anew.
const draws = 3

// cuts returns how many points there are to cut the power at: each draw of each operation, and of the time after the last.
func (r *release) cuts() int { return draws * (r.operations + 1) }

// cut cuts the power at a point, and holds what is left to what there was.
func (r *release) cut(t testing.TB, parent string, point int, seed uint64, lies func(op) bool) error {
	dir, after := filepath.Join(parent, "0", "ledger"), filepath.Join(parent, "1", "ledger")
	if err := r.put(dir); err != nil {
		return err
	}
	seed += uint64(point)
	d := newDisk(t, dir, seed)
	defer d.eject()
	d.left, d.lies = point/draws, lies
	told, err := migrate(d)
	if err := d.excuse(err); err != nil {
		return err
	}
	if !d.off() {
		d.place, d.image = "closed", d.develop()
	}
	if err = d.restore(after); err == nil {
		err = r.hold(after, told, seed%2 == 0)
	}
	if err != nil {
		err = fmt.Errorf("%w; the power was cut at %q; the last operations: %q", err, d.place, d.trail[max(0, len(d.trail)-20):])
	}
	return err
}

// beside runs f for the points, several at a time, each with a folder of its own, until one fails.
func beside(t *testing.T, points []int, f func(parent string, point int) error) error {
	parent := t.TempDir()
	var mu sync.Mutex
	var failed error
	var workers sync.WaitGroup
	for range 2 * runtime.GOMAXPROCS(0) { // they wait for a real disk too
		workers.Go(func() {
			mu.Lock()
			defer mu.Unlock()
			for len(points) > 0 && failed == nil {
				point := points[0]
				points = points[1:]
				mu.Unlock()
				dir := filepath.Join(parent, strconv.Itoa(point))
				err := errors.Join(f(dir, point), os.RemoveAll(dir))
				mu.Lock()
				failed = errors.Join(failed, err)
			}
		})
	}
	workers.Wait()
	return failed
}

// sample returns the numbers below n in any order: all of them if METERD_TEST_POWER_CUTS is set, else a few.
func sample(n, few int) []int {
	points := rand.Perm(n)
	if os.Getenv("METERD_TEST_POWER_CUTS") == "" {
		points = points[:min(n, few)]
	}
	return points
}

// TestPowerCutMigrating cuts the power at each operation of migrating the ledgers of earlier versions in turn, three times
// with other things left on the disk; at some of them unless METERD_TEST_POWER_CUTS is set.
func TestPowerCutMigrating(t *testing.T) {
	seams(t, 8, 24)
	seed := number(t, "METERD_TEST_POWER_SEED", rand.Uint64()>>1)
	for _, r := range releases(t) {
		t.Run(r.name, func(t *testing.T) {
			points := sample(r.cuts(), 15)
			t.Logf("%d cuts in %d operations", len(points), r.operations)
			err := beside(t, points, func(parent string, point int) error {
				return r.cut(t, parent, point, seed, nil)
			})
			if err != nil {
				t.Errorf("METERD_TEST_POWER_CUTS=1000 METERD_TEST_POWER_SEED=%d: %v", seed, err)
			}
		})
	}
}

// TestPowerCutMigratingNotices has syncs do nothing, and shows that what a migration loses then is missed.
func TestPowerCutMigratingNotices(t *testing.T) {
	seams(t, 8, 24)
	for _, r := range releases(t) {
		for _, file := range []string{"ledger.db-wal", "ledger.db"} {
			t.Run(r.name+"/"+file, func(t *testing.T) {
				var points []int
				for n := range r.cuts() { // from the end, where it shows soonest
					points = append(points, r.cuts()-1-n)
				}
				err := beside(t, points, func(parent string, point int) error {
					return r.cut(t, parent, point, 1, func(o op) bool { return o.file == file })
				})
				if err == nil {
					t.Fatal("nothing is missed")
				}
				t.Log(err)
			})
		}
	}
}

// TestFailingDiskMigrating has each operation of migrating the ledgers of earlier versions fail in turn, or some of each
// kind unless METERD_TEST_POWER_CUTS is set. What is left is as it is in the page cache, and as a power cut leaves it.
func TestFailingDiskMigrating(t *testing.T) {
	seams(t, 8, 24)
	for _, r := range releases(t) {
		total := map[string]int{}
		if err := r.fail(t, t.TempDir(), func(o op) error { total[o.kind]++; return nil }, 1); err != nil {
			t.Fatal(err)
		}
		for _, b := range blunders {
			t.Run(r.name+"/"+b.kind+"/"+b.name, func(t *testing.T) {
				err := beside(t, sample(total[b.kind], 2), func(parent string, nth int) error {
					left := nth
					return r.fail(t, parent, func(o op) error {
						if o.kind != b.kind {
							return nil
						}
						if left--; left == -1 {
							return b.err
						}
						return nil
					}, uint64(nth))
				})
				if err != nil {
					t.Error(err)
				}
				t.Logf("of %d", total[b.kind])
			})
		}
	}
}

// fail migrates the release on a disk on which one operation fails, and holds what is left to what there was.
func (r *release) fail(t testing.TB, parent string, fault func(op) error, seed uint64) error {
	dir, after := filepath.Join(parent, "0", "ledger"), filepath.Join(parent, "1", "ledger")
	if err := r.put(dir); err != nil {
		return err
	}
	d := newDisk(t, dir, seed)
	defer d.eject()
	at := ""
	d.fault = func(o op) error {
		err := fault(o)
		if err != nil {
			d.struck, at = o.kind, fmt.Sprintf("%s: %s %s", d.phase, o.kind, o.file)
		}
		return err
	}
	told, err := migrate(d)
	if d.has() != "" {
		err = nil
	}
	d.eject()
	d.image = d.develop()
	if err = errors.Join(err, d.restore(after)); err == nil {
		err = errors.Join(r.hold(after, told, seed%2 == 0), r.hold(dir, told, seed%2 == 0))
	}
	if err != nil {
		err = fmt.Errorf("%w; the disk failed in %q; the last operations: %q", err, at, d.trail[max(0, len(d.trail)-20):])
	}
	return err
}
