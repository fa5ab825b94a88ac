package store_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/meterd/meterd/internal/ledger"
	"github.com/meterd/meterd/internal/store"
	"github.com/ncruces/go-sqlite3"
	"github.com/ncruces/go-sqlite3/vfs"
)

// The errors of a disk, as the operating system's file layer gives them to SQLite. All are for once: a disk that
// works again must not lead anyone to go on.
var (
	full     = vfs.SystemError(syscall.ENOSPC, sqlite3.FULL)
	unread   = vfs.SystemError(syscall.EIO, sqlite3.IOERR_CORRUPTFS)
	blunders = []struct {
		kind, name string
		err        error
	}{
		{"sync", "EIO", syscall.EIO},
		{"write", "EIO", syscall.EIO},
		{"write", "ENOSPC", full},
		{"write", "short", short{full}},
		{"truncate", "EIO", syscall.EIO},
		{"truncate", "ENOSPC", full},
		{"read", "EIO", unread},
		{"open", "EIO", syscall.EIO},
		{"delete", "EIO", syscall.EIO},
	}
)

// TestFailingDisk has each operation of a day on the disk fail in turn, or as many of each kind as an eighth of
// METERD_TEST_POWER_CUTS, drawn at random.
func TestFailingDisk(t *testing.T) {
	seams(t, 8, 24)
	most := int(number(t, "METERD_TEST_POWER_CUTS", 50)) / 8
	total := map[string]int{}
	if _, err := fail(t, func(o op) error { total[o.kind]++; return nil }, 1); err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(rand.Uint64(), 0))
	for _, b := range blunders {
		t.Run(b.kind+"/"+b.name, func(t *testing.T) {
			points := random.Perm(total[b.kind])
			points = points[:min(len(points), max(most, 1))]
			struck := map[string]int{}
			var mu sync.Mutex
			var workers sync.WaitGroup
			for range 2 * runtime.GOMAXPROCS(0) { // they wait for a real disk too
				workers.Go(func() {
					mu.Lock()
					defer mu.Unlock()
					for len(points) > 0 && !t.Failed() {
						nth := points[0]
						points = points[1:]
						mu.Unlock()
						left := nth
						at, err := fail(t, func(o op) error {
							if o.kind != b.kind {
								return nil
							}
							if left--; left == -1 {
								return b.err
							}
							return nil
						}, uint64(nth))
						mu.Lock()
						if err != nil {
							t.Errorf("the %d. %s fails: %v", nth+1, b.kind, err)
						}
						struck[at]++
					}
				})
			}
			workers.Wait()
			for _, at := range slices.Sorted(maps.Keys(struck)) {
				t.Logf("struck %2d × in %s, of %d", struck[at], at, total[b.kind])
			}
		})
	}
}

// fail spends a day on a disk on which one operation fails, and then holds the ledger to what was acknowledged: as
// it is in the page cache, and as a power cut would leave it. It returns where the disk failed.
func fail(t *testing.T, fault func(op) error, seed uint64) (at string, err error) {
	parent := t.TempDir()
	d := newDisk(t, filepath.Join(parent, "ledger"), seed)
	defer d.eject()
	d.fault = func(o op) error {
		err := fault(o)
		if err != nil {
			d.struck, at = o.kind, fmt.Sprintf("%s: %s %s", d.phase, o.kind, o.file)
		}
		return err
	}
	m := newMerchant(0, seed)
	made, err := spend(d, m)
	d.eject()
	d.image = d.develop()
	powerless := filepath.Join(parent, "after", "ledger")
	if err = errors.Join(err, d.restore(powerless)); err == nil {
		r := rand.New(rand.NewPCG(seed, 4))
		err = errors.Join(hold(powerless, []*merchant{m.clone()}, made, r), hold(d.dir, []*merchant{m.clone()}, made, r))
	}
	if err != nil {
		err = fmt.Errorf("%w; the disk failed in %q; the last operations: %q", err, at, d.trail[max(0, len(d.trail)-20):])
	}
	return at, err
}

// TestFailedSync has each sync of two days fail in turn, of which the disk keeps nothing, or all but one write. What the
// next process reads is in the page cache all the same, and it goes on from there. What was acknowledged before and after
// must be there when the power is cut then, while it serves and after it has closed, and only what was synced is left.
// With a small METERD_TEST_POWER_CUTS only an eighth of it is tried of each, drawn at random.
func TestFailedSync(t *testing.T) {
	seams(t, 8, 24)
	most := int(number(t, "METERD_TEST_POWER_CUTS", 50)) / 8
	total, _, err := failSync(t, -1, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Run("", func(t *testing.T) { // which ends with its parts
		for name, keeps := range map[string]func(*inode) []byte{
			"nothing":       func(n *inode) []byte { return n.synced },
			"all but first": func(n *inode) []byte { return n.without(0) },
			"all but last":  func(n *inode) []byte { return n.without(len(n.pending) - 1) },
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				for _, nth := range rand.Perm(total)[:min(total, max(most, 1))] {
					if _, _, err := failSync(t, nth, keeps); err != nil {
						t.Fatalf("the %d. sync: %v", nth+1, err)
					}
				}
			})
		}
	})
}

// failSync has one sync fail, unless nth is -1, and returns how many there were and which it was.
func failSync(t *testing.T, nth int, keeps func(*inode) []byte) (syncs int, at string, err error) {
	parent, err := os.MkdirTemp(t.TempDir(), "")
	if err != nil {
		return 0, "", err
	}
	d := newDisk(t, filepath.Join(parent, "ledger"), 1)
	defer d.eject()
	d.keeps = keeps
	d.fault = func(o op) error {
		if o.kind != "sync" || d.phase == "again" {
			return nil
		}
		if syncs++; syncs != nth+1 {
			return nil
		}
		d.struck, at = o.kind, fmt.Sprintf("%s: sync %s", d.phase, o.file)
		return syscall.EIO
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("%w; it failed in %q; the last operations: %q", err, at, d.trail[max(0, len(d.trail)-40):])
		}
	}()
	m := newMerchant(0, 1)
	made, err := spend(d, m)
	if err != nil {
		return syncs, at, err
	}
	if d.enter("create"); !made {
		if err := ledger.Create(configOf(d.dir)); err != nil && !errors.Is(err, store.ErrExist) {
			return syncs, at, err
		}
	}
	d.enter("again")
	d.struck = "" // so that every call must be answered
	s, err := open(d.dir, []*merchant{m})
	if err != nil {
		return syncs, at, err
	}
	cut := func(when string) error {
		dir := filepath.Join(parent, when, "ledger")
		d.image = d.least()
		if err := d.restore(dir); err != nil {
			return err
		}
		defer newDisk(t, dir, 1).eject() // which is quicker
		return hold(dir, []*merchant{m.clone()}, true, rand.New(rand.NewPCG(1, 4)))
	}
	answered, err := m.batch(s, m.fresh(3))
	if err == nil && !answered {
		err = errors.New("the first call is not answered")
	}
	err = errors.Join(err, cut("served")) // the log has not begun anew yet
	err = errors.Join(err, m.day(d, s), s.Close(), cut("closed"))
	return syncs, at, errors.Join(err, os.RemoveAll(parent))
}

// without is the file as it is if all but one of the pending changes were written.
func (n *inode) without(lost int) []byte {
	b := slices.Clone(n.synced)
	for i, o := range n.pending {
		if i != lost {
			b = o.apply(b, nil)
		}
	}
	return b
}

// clone returns a merchant with a memory of its own.
func (m *merchant) clone() *merchant {
	c := *m
	c.rand = rand.New(rand.NewPCG(0, 0))
	c.acked, c.order, c.buyers = maps.Clone(m.acked), slices.Clone(m.order), maps.Clone(m.buyers)
	return &c
}

// has tells what kind of operation has failed, if one has.
func (d *disk) has() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.struck
}

// spend makes a ledger, opens it, serves, closes it, and opens it once more. It reports whether the ledger was made.
// Errors are allowed once the disk has failed.
func spend(d *disk, m *merchant) (made bool, err error) {
	allow := func(err error) error {
		if d.has() != "" {
			return nil
		}
		return err
	}
	d.enter("create")
	if err := ledger.Create(configOf(d.dir)); err != nil {
		return false, allow(err)
	}
	for range 2 {
		d.enter("open")
		s, err := open(d.dir, []*merchant{m})
		if err != nil {
			return true, allow(err)
		}
		d.enter("serve")
		before := d.has()
		err = m.day(d, s)
		if now := d.has(); err == nil && before == "" && (now == "write" || now == "sync") {
			err = m.stopped(s)
		}
		d.enter("close")
		if err := errors.Join(err, allow(s.Close())); err != nil {
			return true, err
		}
	}
	return true, nil
}

// day makes calls of all kinds, with reports between them, until one is not answered.
func (m *merchant) day(d *disk, s *shop) error {
	conflicts := func() []entry {
		records := m.again(5)
		for i := range records {
			records[i].quantity++
		}
		return records
	}
	for n := range 3 {
		for _, call := range []func() (bool, error){
			func() (bool, error) { return m.batch(s, m.fresh(10)) },
			func() (bool, error) { return m.meter(s, m.metered()) },
			func() (bool, error) { return m.batch(s, append(m.fresh(2), append(m.again(5), conflicts()[:n]...)...)) },
			func() (bool, error) {
				_, err := s.stored()
				return err == nil || d.has() == "read" || d.has() == "open", nil
			},
			func() (bool, error) { return m.batch(s, conflicts()) },
		} {
			switch answered, err := call(); {
			case err != nil:
				return err
			case !answered && d.has() == "":
				return errors.New("a call is not answered, although nothing has failed")
			case !answered:
				return nil
			}
		}
	}
	return nil
}

// stopped holds a ledger whose disk has failed to write to what is left: it says so, and acknowledges nothing.
func (m *merchant) stopped(s *shop) error {
	for deadline := time.Now().Add(20 * time.Second); s.Ready() == nil; runtime.Gosched() { // a checkpoint may be on its way to say so
		if time.Now().After(deadline) {
			return errors.New("the disk has failed to write, but the ledger says that it is ready")
		}
	}
	for _, records := range [][]entry{m.fresh(3), m.again(3)} {
		if answered, err := m.batch(s, records); err != nil || answered && len(records) > 0 {
			return fmt.Errorf("the disk has failed to write, but a call is answered: %w", err)
		}
	}
	if answered, err := m.meter(s, m.metered()); err != nil || answered {
		return fmt.Errorf("the disk has failed to write, but a call is answered: %w", err)
	}
	return nil
}
