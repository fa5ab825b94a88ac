package store

import (
	"bytes"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/meterd/meterd/internal/metering"
)

// TestKeyTable compares a table with a map, while it grows over many segments.
func TestKeyTable(t *testing.T) {
	const keys = 60_000
	random := rand.New(rand.NewPCG(1, 2))
	table := newKeyTable(newHashing([]byte("a secret of sixteen bytes")))
	defer table.release()
	known := map[indexKey]int32{}
	key := func() indexKey { return indexKey{1<<16 | 1<<8, random.Uint32N(4), random.Uint32N(2 * keys)} }
	for len(known) < keys {
		e := entry{key(), random.Int32()}
		quantity, ok := table.find(table.of(e.key), e.key)
		if before, there := known[e.key]; ok != there || quantity != before {
			t.Fatalf("%+v: found %v, %d; it is %v, %d", e.key, ok, quantity, there, before)
		}
		if !ok {
			table.add(table.of(e.key), e)
			known[e.key] = e.quantity
		}
	}
	last, n := uint64(0), 0
	err := table.sorted(func(entries []hashed) error {
		for _, e := range entries {
			if e.hash < last || e.hash != table.of(e.key) || known[e.key] != e.quantity {
				t.Fatalf("entry %d is %+v, after hash %x", n, e, last)
			}
			last = e.hash
			n++
		}
		return nil
	})
	if err != nil || n != keys || table.keys != keys {
		t.Errorf("%d entries of %d keys, %v", n, table.keys, err)
	}
	if size := float64(len(table.slabs)*slabSize) / keys; size > 60 {
		t.Errorf("%.0f bytes a key", size)
	}
}

// TestHourFile merges tables into files and looks their keys up; then it damages each byte in turn.
func TestHourFile(t *testing.T) {
	dir := t.TempDir()
	spread := newHashing([]byte("another secret of more than sixteen"))
	known := map[indexKey]int32{}
	var file *hourFile
	for round := range uint32(4) {
		table := newKeyTable(spread)
		for n := range 700 * round * round { // the first one is empty, and some keys are in two
			e := entry{indexKey{1 << 16, round, n / 2 * 2}, int32(n)}
			if n%7 == 0 {
				e.key.a = round - 1
			}
			if _, there := known[e.key]; there {
				e.quantity = known[e.key]
			}
			if _, ok := table.find(spread.of(e.key), e.key); !ok {
				table.add(spread.of(e.key), e)
				known[e.key] = e.quantity
			}
		}
		path := filepath.Join(dir, fmt.Sprint(round))
		next, err := writeHourFile(path, hourHead{Hour: 7, Through: int64(round), Request: [16]byte{9}}, table, file, func() bool { return false })
		if err != nil {
			t.Fatal(err)
		}
		table.release()
		if file != nil {
			file.close(true)
		}
		next.close(false)
		if file, err = openHourFile(path); err != nil {
			t.Fatal(err)
		}
		if file.Keys != int64(len(known)) || file.Hour != 7 || file.Through != int64(round) {
			t.Fatalf("%+v for %d keys", file.hourHead, len(known))
		}
		for k, want := range known {
			if got, ok, err := file.find(spread.of(k), k); !ok || got != want || err != nil {
				t.Fatalf("round %d, %+v: %d, %v, %v; want %d", round, k, got, ok, err, want)
			}
		}
		for n := range uint32(1000) {
			k := indexKey{2 << 16, round, n}
			if _, ok, err := file.find(spread.of(k), k); ok || err != nil {
				t.Fatalf("%+v is there: %v, %v", k, ok, err)
			}
		}
	}
	file.close(false)
	whole, err := os.ReadFile(file.path)
	if err != nil {
		t.Fatal(err)
	}
	noticed := func(b []byte, what string) {
		if err := os.WriteFile(file.path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		h, err := openHourFile(file.path)
		if err != nil {
			return
		}
		defer h.close(false)
		for n := range uint64(len(h.buckets)) {
			if _, err := h.bucket(n); err != nil {
				return
			}
		}
		t.Errorf("%s is not noticed", what)
	}
	for i := 0; i < len(whole); i += 1 + i/100 {
		b := bytes.Clone(whole)
		b[i] ^= 0x10
		noticed(b, fmt.Sprintf("a changed bit of byte %d", i))
	}
	for _, size := range []int{0, 7, 40, 100, len(whole) - 1} {
		noticed(whole[:size], fmt.Sprintf("a file of %d bytes", size))
	}
}

// spilling has two keys of past hours be too many to be kept in memory.
func spilling(t *testing.T) {
	before := coldKeys
	coldKeys = 2
	t.Cleanup(func() { coldKeys = before })
}

// spilled has the store do what it has begun.
func spilled(t *testing.T, db *sqliteStore, w Window) {
	t.Helper()
	for until := time.Now().Add(time.Minute); ; runtime.Gosched() {
		if err := db.Update(func(tx *Tx) error { return tx.Window(w) }); err != nil {
			t.Fatal(err)
		}
		if db.index.spills.now == nil {
			return
		}
		if time.Now().After(until) {
			t.Fatal("keys are being written to a file for a minute")
		}
	}
}

// claiming claims rows for hours in one transaction of a window, and every other time asks for them first.
func claiming(t *testing.T, db *sqliteStore, w Window, claims ...Claim) []Claim {
	t.Helper()
	n := db.NextCall()
	err := db.Update(func(tx *Tx) error {
		if err := tx.Window(w); err != nil {
			return err
		}
		rows := 0
		for i := range claims {
			claims[i].Seq = UsageSeq(n, i)
		}
		var asked []Claim
		if n%2 == 0 {
			asked = slices.Clone(claims)
			if err := tx.Ask(asked); err != nil {
				return err
			}
		}
		if err := tx.Claim(claims); err != nil {
			return err
		}
		for i := range claims {
			if claims[i].State == Granted {
				rows++
			}
		}
		for i, a := range asked {
			first := claims[slices.IndexFunc(claims, func(c Claim) bool {
				return c.Hour == a.Hour && c.Key == a.Key && c.ClientToken == a.ClientToken
			})]
			if free := first.State == Granted; free != (a.State == Unclaimed) || a.State == Taken && a.Stored != first.Stored {
				t.Errorf("row %d: asked for it is %v with %d, but claimed %v with %d", i, a.State, a.Stored, first.State, first.Stored)
			}
		}
		return tx.AppendCall(&Call{Seq: n, Request: [16]byte{1: byte(n >> 8), byte(n)}, Operation: 1, UsageRows: rows})
	})
	if err != nil {
		t.Fatal(err)
	}
	return claims
}

func inHour(h metering.Hour, number int, quantity int32) Claim {
	c := record(0, number)
	c.Hour, c.Timestamp, c.Quantity = h, h.Start(), quantity
	return c
}

// TestSpills compares a store that puts the keys of past hours into files with a map, through windows that move on,
// late records, restarts, clocks that are set back and files that are damaged.
func TestSpills(t *testing.T) {
	spilling(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	dir := create(t)
	db := reopen(t, dir)
	db.index.spills.log = slog.New(slog.DiscardHandler)
	type place struct {
		hour   metering.Hour
		number int
	}
	known := map[place]int32{}
	now := metering.Hour(500_000)
	window := func() Window { return Window{First: now - 5, Hot: now - 1, Tokens: now - 6} }
	for range 400 {
		switch draw := random.IntN(100); {
		case draw < 60:
			var claims []Claim
			for range 1 + random.IntN(25) {
				c := inHour(now-metering.Hour(random.IntN(6)), 1+random.IntN(40), random.Int32N(4))
				if random.IntN(5) == 0 { // which is not found by its key
					c.Key.Workload, c.ClientToken = 1, fmt.Sprint(random.Uint64())
				}
				claims = append(claims, c)
			}
			for _, c := range claiming(t, db, window(), claims...) {
				if c.ClientToken != "" {
					if c.State != Granted {
						t.Fatalf("%+v is %v", c, c.State)
					}
					continue
				}
				p := place{c.Hour, int(c.Key.Buyer)}
				before, there := known[p]
				if there != (c.State == Taken) || there && before != c.Stored {
					t.Fatalf("%+v is %v with %d; before: %v, %d", p, c.State, c.Stored, there, before)
				}
				if !there {
					known[p] = c.Quantity
				}
			}
		case draw < 70:
			now += metering.Hour(1 + random.IntN(3))
		case draw < 74:
			now -= metering.Hour(1 + random.IntN(3))
		case draw < 90:
			spilled(t, db, window())
		case draw < 93:
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			db = reopen(t, dir)
			db.index.spills.log = slog.New(slog.DiscardHandler)
		default:
			damageOne(t, random, filepath.Join(dir, hourFiles, "*"))
		}
	}
	t.Logf("%d keys", len(known))
}

// damageOne changes a bit of one of the files, if there are any.
func damageOne(t *testing.T, random *rand.Rand, pattern string) {
	t.Helper()
	names, _ := filepath.Glob(pattern)
	if len(names) == 0 {
		return
	}
	f, err := os.OpenFile(names[random.IntN(len(names))], os.O_RDWR, 0)
	if err != nil {
		return // it has just got its name
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || info.Size() == 0 {
		return // it is being written
	}
	at := random.Int64N(info.Size())
	var b [1]byte
	_, err = f.ReadAt(b[:], at)
	b[0] ^= 1 << random.IntN(8)
	if _, wrong := f.WriteAt(b[:], at); err != nil || wrong != nil {
		t.Fatal(err, wrong)
	}
}

// TestSpillsFollowTheHotHours shows that memory holds the hot hours only, and that the next start reads no rows of the
// others.
func TestSpillsFollowTheHotHours(t *testing.T) {
	spilling(t)
	dir := create(t)
	db := reopen(t, dir)
	now := metering.Hour(500_000)
	window := func() Window { return Window{First: now - 24, Hot: now - 1, Tokens: now - 25} }
	for range 10 {
		for n := range 4 {
			claiming(t, db, window(), inHour(now, 2*n+1, 7), inHour(now, 2*n+2, 7))
		}
		now++
		spilled(t, db, window())
	}
	if got, _ := db.OpenRecords(); got > 2*8 {
		t.Errorf("%d keys are in memory", got)
	}
	late := inHour(now-9, 99, 1)
	claiming(t, db, window(), late)
	if got := claiming(t, db, window(), inHour(now-9, 3, 8), inHour(now-9, 99, 1)); states(got) != "taken:7 taken:1 " {
		t.Errorf("a past hour: %s", states(got))
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	db = reopen(t, dir)
	got := claiming(t, db, window(), inHour(now-9, 3, 8), inHour(now-9, 99, 1), inHour(now-1, 3, 9))
	if states(got) != "taken:7 taken:1 taken:7 " {
		t.Errorf("a past hour after a restart: %s", states(got))
	}
	if got, _ := db.OpenRecords(); got > 2*8+1 {
		t.Errorf("after a restart %d keys are in memory", got)
	}
	now += 30
	spilled(t, db, window())
	if names, _ := filepath.Glob(filepath.Join(dir, hourFiles, "*")); len(names) > 0 {
		t.Errorf("files of hours that are closed: %v", names)
	}
}

// TestSpillsOfAnotherPast restores an older ledger beside the files of a newer one: they must not count.
func TestSpillsOfAnotherPast(t *testing.T) {
	spilling(t)
	dir := create(t)
	db := reopen(t, dir)
	now := metering.Hour(500_000)
	w := Window{First: now - 24, Hot: now - 1, Tokens: now - 25}
	claiming(t, db, w, inHour(now-3, 1, 1))
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	older, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil {
		t.Fatal(err)
	}
	db = reopen(t, dir)
	claiming(t, db, w, inHour(now-3, 2, 1), inHour(now-3, 3, 1))
	spilled(t, db, w)
	if names, _ := filepath.Glob(filepath.Join(dir, hourFiles, "*")); len(names) != 1 {
		t.Fatalf("files: %v", names)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, file), older, 0o600); err != nil {
		t.Fatal(err)
	}
	db = reopen(t, dir)
	if got := states(claiming(t, db, w, inHour(now-3, 1, 5), inHour(now-3, 2, 5))); got != "taken:1 granted " {
		t.Errorf("after a restore: %s", got)
	}
}

// BenchmarkClaim claims new keys of one hour in groups of 400.
func BenchmarkClaim(b *testing.B) {
	x := newIndex([]byte("a secret of sixteen bytes"), 0)
	x.window.Hot = 1
	random := rand.New(rand.NewPCG(1, 2))
	claims := make([]Claim, 400)
	for range b.N {
		b.StopTimer()
		for i := range claims {
			claims[i] = inHour(500_000, int(random.Uint32()), 1)
		}
		b.StartTimer()
		if err := x.claim(claims); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/400, "ns/key")
}
