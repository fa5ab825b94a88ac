package crash_test

import (
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"
)

// TestBackup backs meterd up under load, again and again, and once when it has been killed, and restores each backup:
// what had been acknowledged before is there, and nothing that was not sent; and to send everything again makes the
// restored ledger the same as the one that was backed up.
func TestBackup(t *testing.T) {
	seed := seedOf(t)
	random := rand.New(rand.NewPCG(seed, 0))
	data, writers := folder(t), crew(seed)
	m := dev(t, data)
	furnish(t, m, crowd)
	load(t, m, writers, 30)()
	for range 3 {
		before := acknowledged(writers)
		finish := load(t, m, writers, random.IntN(20))
		backup := backedUp(t, data)
		finish()
		restored(t, backup, before, writers)
	}
	m.Kill(t)
	restored(t, backedUp(t, data), acknowledged(writers), writers)
	m = dev(t, data)
	compare(t, m, writers)
	m.Stop(t)
	verify(t, data)
}

// backedUp makes a backup of a ledger.
func backedUp(t *testing.T, data string) (backup string) {
	t.Helper()
	backup = filepath.Join(t.TempDir(), "backup")
	if code, said := meterdRun(t, "backup", "--data", data, backup); code != 0 {
		t.Fatalf("meterd backup: exit code %d:\n%s", code, said)
	}
	return backup
}

// acknowledged is what all writers know to be stored.
func acknowledged(writers []*writer) map[key]fact {
	all := map[key]fact{}
	for _, w := range writers {
		maps.Copy(all, w.acked)
	}
	return all
}

// restored restores a backup and compares what is there with what the writers know.
func restored(t *testing.T, backup string, before map[key]fact, writers []*writer) {
	t.Helper()
	data := folder(t)
	if code, said := meterdRun(t, "restore", backup, "--data", data); code != 0 {
		t.Fatalf("meterd restore: exit code %d:\n%s", code, said)
	}
	verify(t, data)
	m := dev(t, data)
	stored, all := m.stored(t), acknowledged(writers)
	for k, f := range before {
		if stored[k] != f {
			t.Errorf("%+v was acknowledged as %+v before the backup, which has %+v", k, f, stored[k])
		}
	}
	for k, f := range stored {
		if all[k] != f {
			t.Errorf("%+v is in the backup as %+v, but was acknowledged as %+v", k, f, all[k])
		}
	}
	for _, w := range writers {
		again := *w
		again.acked = maps.Clone(w.acked)
		again.connect(t, m)
		n := 25
		if w.workload != "" {
			n = 1
		}
		for keys := range slices.Chunk(w.order, n) {
			var records []usage
			for _, k := range keys {
				records = append(records, usage{k, w.acked[k].quantity})
			}
			again.mustSend(t, records)
		}
	}
	compare(t, m, writers)
	m.Stop(t)
	verify(t, data)
}
