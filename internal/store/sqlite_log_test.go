package store

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// group commits one transaction with a number of rows.
func group(t *testing.T, db *sqliteStore, rows int) {
	t.Helper()
	err := db.Update(func(tx *Tx) error {
		if err := tx.Window(Window{}); err != nil {
			return err
		}
		for range rows {
			n := db.NextCall()
			if last := db.tx.last; last != nil {
				n = last.Seq + 1
			}
			if err := errors.Join(tx.Claim([]Claim{record(UsageSeq(n, 0), int(n))}), tx.AppendCall(&Call{Seq: n, Operation: 1, UsageRows: 1})); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// disk is what lies in a ledger's folder: the database, its log, and the log's index.
type disk struct{ db, wal, shm, mark []byte }

func image(t *testing.T, dir string) (d disk) {
	t.Helper()
	for suffix, b := range map[string]*[]byte{"-mark": &d.mark, "": &d.db, "-wal": &d.wal, "-shm": &d.shm} {
		var err error
		if *b, err = os.ReadFile(filepath.Join(dir, file+suffix)); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

// put makes a folder of the image; a file of nil is not made.
func (d disk) put(t *testing.T, dir string) {
	t.Helper()
	if err := errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o700)); err != nil {
		t.Fatal(err)
	}
	for suffix, b := range map[string][]byte{"": d.db, "-wal": d.wal, "-shm": d.shm, "-mark": d.mark} {
		if b != nil {
			if err := os.WriteFile(filepath.Join(dir, file+suffix), b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// rows opens the folder and counts what is there, all of which must be whole.
func rows(t *testing.T, dir string) (n int64) {
	t.Helper()
	err := Read(dir, func(r *Reader, _ Meta) (err error) {
		if n, err = countUsage(r); err != nil {
			return err
		}
		return intact(r)
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// frameOf is a frame as the tests see it.
type frameOf struct {
	at     int // in the log
	group  int // which transaction it is of, from 1
	last   bool
	header []byte
}

func framesOf(wal []byte) (frames []frameOf) {
	group := 1
	for at := logHeader; at+frameHeader+pageSize <= len(wal); at += frameHeader + pageSize {
		f := frameOf{at, group, binary.BigEndian.Uint32(wal[at+4:]) != 0, wal[at : at+frameHeader]}
		if frames = append(frames, f); f.last {
			group++
		}
	}
	return frames
}

func random(t *testing.T) *rand.Rand {
	t.Helper()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// groups are the rows of the transactions in the log of killed.
var groups = []int{1, 40, 1, 1, 200, 3, 1, 60, 1}

// killed is what a process leaves that was killed, with the number of rows after each of the transactions in its log.
func killed(t *testing.T) (d disk, after []int64) {
	t.Helper()
	dir := create(t)
	db := byHand(reopen(t, dir))
	mark := image(t, dir).mark // which knows of nothing that comes
	after = []int64{0}
	for _, n := range groups {
		group(t, db, n)
		after = append(after, after[len(after)-1]+int64(n))
	}
	d = image(t, dir)
	d.mark = mark
	if frames := framesOf(d.wal); frames[len(frames)-1].group != len(groups) {
		t.Fatalf("the log has %d transactions, want %d: a commit must be in one frame", frames[len(frames)-1].group, len(groups))
	}
	return d, after
}

// refused wants the folder refused by all who open it, and left as it is.
func refused(t *testing.T, d disk, dir, what string) (message string) {
	t.Helper()
	d.put(t, dir)
	err := Read(dir, func(*Reader, Meta) error { return nil })
	if !errors.Is(err, errLog) {
		t.Fatalf("%s: reading gives %v", what, err)
	}
	if _, err := Open(dir, Options{}); !errors.Is(err, errLog) {
		t.Fatalf("%s: opening gives %v", what, err)
	}
	if wal, err := os.ReadFile(filepath.Join(dir, file+"-wal")); (err != nil || !bytes.Equal(wal, d.wal)) && d.wal != nil {
		t.Fatalf("%s: the log was changed: %v", what, err)
	}
	return err.Error()
}

// TestLogBits flips bits of every part of a log. After a kill none goes unnoticed; after a power cut only one in the
// last transaction may, for that looks like one that was not synced.
func TestLogBits(t *testing.T) {
	d, after := killed(t)
	dir := filepath.Join(t.TempDir(), "ledger")
	r := random(t)
	frames := framesOf(d.wal)
	flip := func(at int) (flipped disk) {
		flipped = d
		flipped.wal = slices.Clone(d.wal)
		flipped.wal[at] ^= 1 << r.IntN(8)
		return flipped
	}
	for at := range logHeader {
		message := refused(t, flip(at), dir, fmt.Sprintf("a bit of byte %d of the header", at))
		if !strings.Contains(message, "its header is not as it was written") {
			t.Error(message)
		}
		cut := flip(at)
		cut.shm = nil
		refused(t, cut, dir, fmt.Sprintf("after a power cut, a bit of byte %d of the header", at))
	}
	unnoticed := 0
	for _, f := range frames {
		places := []int{frameHeader, frameHeader + 1, frameHeader + pageSize/2, frameHeader + pageEnd, frameHeader + pageSize - 1}
		for b := range frameHeader {
			places = append(places, b)
		}
		for _, b := range places {
			what := fmt.Sprintf("a bit of byte %d of a frame at %d, of transaction %d", b, f.at, f.group)
			changed := flip(f.at + b)
			cut := changed
			cut.shm = nil
			changed.put(t, dir)
			if _, err := checkLog(filepath.Join(dir, file)); !errors.Is(err, errLog) {
				t.Fatalf("%s: %v", what, err)
			}
			cut.put(t, dir)
			_, err := checkLog(filepath.Join(dir, file))
			salts := 8 <= b && b < 16
			uncommitted := f.last && f.group == len(groups)-1 && (4 <= b && b < 8 || (f.at+8)%sector == 0)
			switch {
			case errors.Is(err, errLog):
			case err == nil && f.group == len(groups) && !salts, err == nil && uncommitted && !salts:
				if unnoticed++; unnoticed%8 != 1 { // opening takes long
					continue
				}
				if n := rows(t, dir); n != after[f.group-1] {
					t.Errorf("%s: %d rows are left, want the %d before it", what, n, after[f.group-1])
				}
			default:
				t.Fatalf("after a power cut, %s: %v", what, err)
			}
		}
		refused(t, flip(f.at+frameHeader+r.IntN(pageSize)), dir, fmt.Sprintf("a bit of the frame at %d", f.at))
	}
	if unnoticed == 0 {
		t.Error("nothing was taken for a power cut: the last transaction must be")
	}
}

// TestLogWayOut gives up what a damaged log does not hold any more, for those who have no backup.
func TestLogWayOut(t *testing.T) {
	d, after := killed(t)
	dir := filepath.Join(t.TempDir(), "ledger")
	for _, f := range framesOf(d.wal) {
		bad := disk{d.db, slices.Clone(d.wal), d.shm, d.mark}
		bad.wal[f.at+100] ^= 8
		refused(t, bad, dir, "a bit")
		loss, err := AcceptLoss(dir)
		if err != nil || !errors.Is(loss.Reason, errLog) || loss.Last != after[f.group-1] || loss.Cut == 0 {
			t.Fatalf("giving it up: %+v, %v", loss, err)
		}
		if n := rows(t, dir); n != after[f.group-1] {
			t.Errorf("%d rows are left before transaction %d, want %d", n, f.group, after[f.group-1])
		}
	}
}

// TestLogCutShort: after a kill a log that ends too early is noticed, wherever it ends.
func TestLogCutShort(t *testing.T) {
	d, _ := killed(t)
	dir := filepath.Join(t.TempDir(), "ledger")
	r := random(t)
	sizes := []int{0, 1, logHeader - 1, logHeader, logHeader + 1, len(d.wal) - 1}
	for _, f := range framesOf(d.wal) {
		sizes = append(sizes, f.at, f.at+frameHeader, f.at+r.IntN(pageSize))
	}
	for _, size := range sizes {
		short := disk{d.db, d.wal[:size], d.shm, d.mark}
		refused(t, short, dir, fmt.Sprintf("%d of %d bytes", size, len(d.wal)))
	}
	refused(t, disk{d.db, nil, d.shm, d.mark}, dir, "no log")
	d.put(t, dir)
	if n, want := rows(t, dir), int64(308); n != want {
		t.Errorf("the whole log has %d rows, want %d", n, want)
	}
}

// TestLogAfterPowerCut cuts the power in the middle of transactions, again and again in one folder: any of the sectors
// that were not synced may be lost. What was acknowledged before is there, and nothing is taken for damage.
func TestLogAfterPowerCut(t *testing.T) {
	dir := create(t)
	r := random(t)
	var indexes [][]byte // of all times since it was made
	sum := int64(0)
	for round := range 25 {
		db := byHand(reopen(t, dir))
		for range r.IntN(4) {
			n := 1 + r.IntN(50)
			group(t, db, n)
			sum += int64(n)
			if r.IntN(3) == 0 { // the next transaction begins the log anew
				if err := db.checkpoint(); err != nil {
					t.Fatal(err)
				}
			}
		}
		if _, err := os.Stat(filepath.Join(dir, file+"-shm")); err != nil {
			t.Fatal(err)
		}
		before := image(t, dir)
		n := 1 + r.IntN(100)
		group(t, db, n) // its sync does not return
		after := image(t, dir)
		if err := db.lost(errTest); err == nil { // so that closing writes nothing
			t.Fatal()
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		cut := disk{db: before.db, wal: tear(r, before.wal, after.wal), mark: before.mark}
		indexes = append(indexes, before.shm)
		if r.IntN(2) == 0 {
			cut.shm = indexes[r.IntN(len(indexes))]
		}
		cut.put(t, dir)
		if round%5 == 0 {
			checkCut(t, dir, rows(t, dir), &sum, int64(n)) // which also ends the log
			indexes = nil
			continue
		}
		opened := reopen(t, dir)
		err := opened.View(context.Background(), func(r *Reader) error {
			got, err := countUsage(r)
			checkCut(t, dir, got, &sum, int64(n))
			return errors.Join(err, intact(r))
		})
		if err != nil {
			t.Fatal(err)
		}
		if r.IntN(5) == 0 {
			indexes = nil // closing ends the log
		} else {
			opened.lost(errTest)
		}
		if err := opened.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestLogRemains: what a power cut has left of a long transaction lies behind shorter ones, the last of them cut off too.
func TestLogRemains(t *testing.T) {
	dir := create(t)
	cutOff := func(rows int) {
		t.Helper()
		db := byHand(reopen(t, dir))
		group(t, db, 1)
		end, err := checkLog(filepath.Join(dir, file))
		if err != nil {
			t.Fatal(err)
		}
		mark := image(t, dir).mark
		group(t, db, rows)
		after := image(t, dir)
		after.mark = mark
		db.lost(errTest)
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		copy(after.wal[end:], make([]byte, frameHeader+pageSize)) // its first frame is lost
		after.put(t, dir)
		os.Remove(filepath.Join(dir, file+"-shm"))
	}
	cutOff(1500)
	cutOff(300)
	if n := rows(t, dir); n != 2 {
		t.Errorf("%d rows, want the two that were acknowledged", n)
	}
}

// checkCut wants all rows that were acknowledged, and those of the transaction that was cut or none of them.
func checkCut(t *testing.T, dir string, got int64, sum *int64, n int64) {
	t.Helper()
	if got != *sum && got != *sum+n {
		t.Fatalf("%d rows, want %d or %d", got, *sum, *sum+n)
	}
	*sum = got
}

// tear returns a log of which some sectors have been written anew. A new header is synced before what follows.
func tear(r *rand.Rand, before, after []byte) []byte {
	began := len(before) < logHeader || !bytes.Equal(before[:logHeader], after[:logHeader])
	torn := slices.Clone(before)
	if began && r.IntN(3) == 0 {
		n := r.IntN(logHeader + 1)
		return append(slices.Clone(after[:n]), before[min(len(before), n):]...)
	}
	if len(after) > len(torn) {
		torn = append(torn, make([]byte, r.IntN(len(after)-len(torn)+1))...)
	}
	likely := r.Float64()
	for at := 0; at < min(len(torn), len(after)); at += sector {
		if end := min(at+sector, len(torn), len(after)); r.Float64() < likely {
			copy(torn[at:end], after[at:end])
		}
	}
	if began {
		torn = append(torn, make([]byte, max(0, logHeader-len(torn)))...)
		copy(torn, after[:logHeader])
	}
	return torn
}
