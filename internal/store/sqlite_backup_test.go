package store

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// backedUp returns a backup of a ledger with rows in its database and in its log, and the ledger.
func backedUp(t *testing.T) (backup string, db *sqliteStore) {
	t.Helper()
	dir := create(t)
	db = byHand(reopen(t, dir))
	fill(t, db, 600)
	if err := db.checkpoint(); err != nil {
		t.Fatal(err)
	}
	fill(t, db, 300)
	backup = filepath.Join(t.TempDir(), "ledger?.backup") // a name that is none in a URI
	size, err := Backup(t.Context(), dir, backup)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(backup); err != nil || info.Size() != size || info.Mode().Perm() != 0o600 {
		t.Fatalf("the backup is %v, %v; want %d bytes for its owner only", info, err, size)
	}
	if got := files(t, filepath.Dir(backup)); len(got) != 1 {
		t.Errorf("the backup has left %q", got)
	}
	return backup, db
}

// TestBackup: every page of a backup has its checksum, those too that only the log had.
func TestBackup(t *testing.T) {
	backup, db := backedUp(t)
	fill(t, db, 1) // is not in it
	content, err := os.ReadFile(backup)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "restored")
	if _, err := Restore(t.Context(), backup, dir); err != nil {
		t.Fatal(err)
	}
	if got := files(t, dir); !slices.Equal(got, []string{file, lockFile}) {
		t.Errorf("the restored folder holds %q", got)
	}
	if got := files(t, filepath.Dir(backup)); len(got) != 1 {
		t.Errorf("restoring has left %q", got)
	}
	restored := reopen(t, dir)
	if m, want := restored.Meta(), db.Meta(); !bytes.Equal(m.Secret, want.Secret) || m.Created != want.Created {
		t.Errorf("meta %+v, want %+v", m, want)
	}
	err = restored.View(context.Background(), func(r *Reader) error {
		if n, err := countUsage(r); n != 900 || err != nil {
			t.Errorf("%d rows: %v", n, err)
		}
		return intact(r)
	})
	if err != nil {
		t.Error(err)
	}
	for at := pageSize / 2; at < len(content); at += pageSize {
		damaged := bytes.Clone(content)
		damaged[at] ^= 4
		refuseBackup(t, damaged, "a bit of page", at/pageSize+1)
	}
	for _, at := range []int{0, 16, 18, 20, 24, 28, 56, 92, 96} {
		damaged := bytes.Clone(content)
		damaged[at] ^= 4
		refuseBackup(t, damaged, "a bit of the header", at)
	}
	for _, size := range []int{0, 1, 99, 100, pageSize - 1, pageSize, pageSize + 1, len(content) / 2, len(content) - pageSize, len(content) - 1} {
		refuseBackup(t, content[:size], "bytes", size)
	}
	refuseBackup(t, append(bytes.Clone(content), 0), "bytes", len(content)+1)
}

func restore(t *testing.T, from, dir string) error {
	_, err := Restore(t.Context(), from, dir)
	return err
}

func refuseBackup(t *testing.T, content []byte, what string, n int) {
	t.Helper()
	above := t.TempDir()
	backup, dir := filepath.Join(above, "backup"), filepath.Join(above, "restored")
	if err := os.WriteFile(backup, content, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Restore(t.Context(), backup, dir)
	if err == nil || !strings.Contains(err.Error(), "is damaged or none") {
		t.Errorf("%s %d: %v", what, n, err)
	}
	if got := files(t, above); !slices.Equal(got, []string{"backup"}) {
		t.Errorf("%s %d: something was made of it: %q", what, n, got)
	}
	if err := Read(backup, func(*Reader, Meta) error { return nil }); err == nil || !strings.Contains(err.Error(), "is damaged or none") {
		t.Errorf("reading it, %s %d: %v", what, n, err)
	}
}

// TestBackupZeros: a page of zeros, whose checksum holds, is no page, unless nothing is in it.
func TestBackupZeros(t *testing.T) {
	dir := create(t)
	db := reopen(t, dir)
	fill(t, db, 600)
	err := db.Update(func(tx *Tx) error {
		err := errors.Join(tx.PutMeta("long", bytes.Repeat([]byte("long "), 5000)), tx.exec("CREATE TABLE gone (x)")) // pages that only hold the rest of a value
		for range 100 {
			err = errors.Join(err, tx.exec("INSERT INTO gone VALUES (zeroblob($1))", 3000))
		}
		return err
	})
	err = errors.Join(err, db.Update(func(tx *Tx) error { return tx.exec("DROP TABLE gone") }))
	if err != nil {
		t.Fatal(err)
	}
	backup := filepath.Join(t.TempDir(), "backup")
	if _, err := Backup(t.Context(), dir, backup); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(backup)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(backup)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	free, err := freePages(f)
	if err != nil || len(free) < 100 {
		t.Fatalf("%d pages are free: %v", len(free), err)
	}
	for page := 1; page <= len(content)/pageSize; page++ {
		if _, is := free[uint32(page)]; is && page%20 > 0 {
			continue
		}
		damaged := bytes.Clone(content)
		clear(damaged[(page-1)*pageSize : page*pageSize])
		refuseBackup(t, damaged, "zeros for page", page)
	}

	// Nor does a backup vouch for one.
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	last, err := os.OpenFile(filepath.Join(dir, file), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer last.Close()
	if content, err = os.ReadFile(last.Name()); err != nil {
		t.Fatal(err)
	}
	// In one of a version before, which has no checksum of the whole, a page that holds nothing may be of zeros.
	trunk, taken := binary.BigEndian.Uint32(content[32:]), 0
	for page := range free {
		if taken++; page == trunk || taken > 3 {
			continue
		}
		damaged := bytes.Clone(content)
		clear(damaged[(page-1)*pageSize : page*pageSize])
		older, to := filepath.Join(t.TempDir(), "backup"), filepath.Join(t.TempDir(), "restored")
		if err := errors.Join(os.WriteFile(older, damaged, 0o600), restore(t, older, to), Read(to, func(r *Reader, _ Meta) error { return intact(r) })); err != nil {
			t.Errorf("page %d, which holds nothing: %v", page, err)
		}
	}
	long := bytes.LastIndex(content, []byte("long long ")) / pageSize
	if _, err := last.WriteAt(make([]byte, pageSize), int64(long)*pageSize); err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(t.TempDir(), "backup")
	if _, err := Backup(t.Context(), dir, to); !errors.Is(err, errZeros) {
		t.Errorf("a backup of a ledger with a page of zeros: %v", err)
	}
	if got := files(t, filepath.Dir(to)); len(got) != 0 {
		t.Errorf("that left %q", got)
	}
}

// TestInterruptedBackup: what a killed backup or restore has left is taken away by the next to the same name, and named by
// the next to another one; what one that goes on is writing is let be.
func TestInterruptedBackup(t *testing.T) {
	backup, db := backedUp(t)
	dir, above := db.dir, t.TempDir()
	to := filepath.Join(above, "one[1]")
	content, err := os.ReadFile(backup)
	if err != nil {
		t.Fatal(err)
	}
	half := content[:len(content)/2]
	for name, content := range map[string][]byte{"one[1].new": half, "one[1].new-journal": half, "two.new": half, "three.new": nil, "letters.new": []byte("somebody's letters"), "old": half} {
		if err := os.WriteFile(filepath.Join(above, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	held, err := os.Open(to + ".new")
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Flock(int(held.Fd()), syscall.LOCK_EX); err != nil { // as a backup does that goes on
		t.Fatal(err)
	}
	if _, err := Backup(t.Context(), dir, to); err == nil || !strings.Contains(err.Error(), "one[1].new is being written by another command") {
		t.Errorf("beside another one: %v", err)
	}
	if now, err := os.ReadFile(to + ".new"); err != nil || !bytes.Equal(now, half) {
		t.Errorf("what another one writes: %d bytes, %v", len(now), err)
	}
	held.Close()
	if _, err := Backup(t.Context(), dir, to); err != nil {
		t.Fatal(err)
	}
	if got, want := files(t, above), []string{"letters.new", "old", "one[1]", "three.new", "two.new"}; !slices.Equal(got, want) {
		t.Errorf("there are %q, want %q", got, want)
	}
	if got, want := Interrupted(to), []string{filepath.Join(above, "three.new"), filepath.Join(above, "two.new")}; !slices.Equal(got, want) {
		t.Errorf("named are %q, want %q", got, want)
	}

	restored := filepath.Join(t.TempDir(), "restored")
	if err := os.Mkdir(restored, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"lock", "ledger.db.new", "ledger.db.new-journal"} {
		if err := os.WriteFile(filepath.Join(restored, name), half, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Restore(t.Context(), to, restored); err != nil {
		t.Fatal(err)
	}
	if got := files(t, restored); !slices.Equal(got, []string{file, lockFile}) {
		t.Errorf("the restored folder holds %q", got)
	}
}

// TestBackupRefuses what would replace or mix something up.
func TestBackupRefuses(t *testing.T) {
	backup, db := backedUp(t)
	dir := db.dir
	if _, err := Backup(t.Context(), dir, backup); err == nil || !strings.Contains(err.Error(), "already") {
		t.Errorf("over another backup: %v", err)
	}
	if _, err := Restore(t.Context(), backup, dir); !errors.Is(err, ErrExist) {
		t.Errorf("over a ledger: %v", err)
	}
	if _, err := Restore(t.Context(), filepath.Join(dir, file), filepath.Join(t.TempDir(), "new")); err == nil || !strings.Contains(err.Error(), "not a backup but a ledger's own file") {
		t.Errorf("of a database that has a log: %v", err)
	}
	for _, suffix := range []string{"-wal", "-journal"} {
		to := t.TempDir()
		if err := os.WriteFile(filepath.Join(to, file+suffix), []byte("rows"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Restore(t.Context(), backup, to); err == nil || !strings.Contains(err.Error(), "whose database is gone") {
			t.Errorf("beside %s: %v", suffix, err)
		}
		if err := Create(to, Meta{}, nothing); err == nil || !strings.Contains(err.Error(), "whose database is gone") {
			t.Errorf("created beside %s: %v", suffix, err)
		}
	}
	to := t.TempDir() // what a power cut may leave, and holds nothing
	for suffix, content := range map[string]string{"-wal": "", "-journal": "", "-shm": "index"} {
		if err := os.WriteFile(filepath.Join(to, file+suffix), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Restore(t.Context(), backup, to); err != nil {
		t.Error(err)
	}
	if got := files(t, to); !slices.Equal(got, []string{file, lockFile}) {
		t.Errorf("the restored folder holds %q", got)
	}
}

// TestBackupLong: a backup that is longer than SQLite's memory for it has checksums too, and can be interrupted.
func TestBackupLong(t *testing.T) {
	db := byHand(reopen(t, create(t)))
	for range 5 {
		group(t, db, 20_000)
	}
	above := t.TempDir()
	backup, dir := filepath.Join(above, "backup"), filepath.Join(t.TempDir(), "restored")
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Backup(cancelled, db.dir, backup); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
	if got := files(t, above); len(got) != 0 {
		t.Errorf("it has left %q", got)
	}
	if _, err := Backup(t.Context(), db.dir, backup); err != nil {
		t.Fatal(err)
	}
	if _, err := Restore(cancelled, backup, dir); !errors.Is(err, context.Canceled) {
		t.Errorf("restoring, interrupted: %v", err)
	}
	if _, err := Restore(t.Context(), backup, dir); err != nil {
		t.Fatal(err)
	}
	if n := rows(t, dir); n != 100_000 {
		t.Errorf("%d rows are restored", n)
	}
}

// TestBackupFails: a backup that is not on disk gets no name, and leaves nothing.
func TestBackupFails(t *testing.T) {
	dir := create(t)
	to := filepath.Join(t.TempDir(), "backup")
	syncFile = func(f *os.File) error {
		if filepath.Dir(f.Name()) == filepath.Dir(to) {
			if _, err := os.Stat(to); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("it has its name before it is synced: %v", err)
			}
			return errTest
		}
		return f.Sync()
	}
	t.Cleanup(func() { syncFile = (*os.File).Sync })
	if _, err := Backup(t.Context(), dir, to); !errors.Is(err, errTest) {
		t.Errorf("got %v", err)
	}
	if got := files(t, filepath.Dir(to)); len(got) != 0 {
		t.Errorf("it has left %q", got)
	}
	syncFile = func(f *os.File) error {
		if f.Name() == filepath.Dir(to) {
			return errTest
		}
		return f.Sync()
	}
	if _, err := Backup(t.Context(), dir, to); !errors.Is(err, errTest) {
		t.Errorf("its name is not on disk: %v", err)
	}
}

// TestBackupBesideWriter: the writer commits while a backup is made, and what the backup has is one state.
func TestBackupBesideWriter(t *testing.T) {
	dir := create(t)
	db := reopen(t, dir)
	fill(t, db, 200)
	stop, stopped := make(chan struct{}), make(chan error)
	go func() {
		for {
			select {
			case <-stop:
				stopped <- nil
				return
			default:
			}
			err := db.Update(func(tx *Tx) error {
				n := db.NextCall()
				return errors.Join(tx.Claim([]Claim{record(UsageSeq(n, 0), int(n))}), tx.AppendCall(&Call{Seq: n, Operation: 1, UsageRows: 1}))
			})
			if err != nil {
				stopped <- err
				return
			}
		}
	}()
	for n := range 5 {
		begun := db.NextCall() - 1
		backup, to := filepath.Join(t.TempDir(), "backup"), filepath.Join(t.TempDir(), "restored")
		if _, err := Backup(t.Context(), dir, backup); err != nil {
			t.Fatal(err)
		}
		ended := db.NextCall() - 1
		if _, err := Restore(t.Context(), backup, to); err != nil {
			t.Fatal(err)
		}
		if got := rows(t, to); got < begun || got > ended+1 {
			t.Errorf("backup %d has %d rows, but there were %d when it began, and %d when it ended", n, got, begun, ended)
		}
	}
	close(stop)
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

// TestBackupPages: a page of the right checksum in the place of another one, or of another time, is missed, wherever it is;
// and so is one that ends before its checksum. A backup of a version before has none.
func TestBackupPages(t *testing.T) {
	backup, db := backedUp(t)
	content, err := os.ReadFile(backup)
	if err != nil {
		t.Fatal(err)
	}
	pages := len(content) / pageSize
	page := func(b []byte, n int) []byte { return b[n*pageSize:][:pageSize] }
	for n := range pages {
		swapped := bytes.Clone(content)
		copy(page(swapped, n), page(content, (n+1)%pages))
		if n > 0 && bytes.Equal(swapped, content) { // two that are free
			continue
		}
		refuseBackup(t, swapped, "another page in the place of page", n+1)
	}
	fill(t, db, 100)
	later := filepath.Join(t.TempDir(), "later")
	if _, err := Backup(t.Context(), db.dir, later); err != nil {
		t.Fatal(err)
	}
	now, err := os.ReadFile(later)
	if err != nil {
		t.Fatal(err)
	}
	changed := 0
	for n := range min(pages, len(now)/pageSize) {
		mixed := bytes.Clone(now)
		if copy(page(mixed, n), page(content, n)); bytes.Equal(mixed, now) {
			continue
		}
		changed++
		refuseBackup(t, mixed, "a page of an earlier backup", n+1)
	}
	if changed < 2 {
		t.Errorf("%d pages have changed", changed)
	}
	refuseBackup(t, content[:len(content)-endSize], "without its end, bytes", len(content)-endSize)
	for at := len(content) - endSize; at < len(content)-endSize+80; at += 7 {
		damaged := bytes.Clone(content)
		damaged[at] ^= 4
		refuseBackup(t, damaged, "a bit of the end at", at)
	}

	if err := db.Close(); err != nil { // the file of a ledger that is closed is what backups of versions before were
		t.Fatal(err)
	}
	for older, summed := range map[string]bool{filepath.Join(db.dir, file): false, later: true} {
		dir := filepath.Join(t.TempDir(), "restored")
		got, err := Restore(t.Context(), older, dir)
		if err != nil || got.Summed != summed {
			t.Errorf("%s: %+v, %v", older, got, err)
		}
		for _, from := range []string{older, dir} {
			if n := rows(t, from); n != 1000 {
				t.Errorf("%s: %d rows", from, n)
			}
		}
		if got, err := Restore(t.Context(), filepath.Join(dir, file), filepath.Join(t.TempDir(), "again")); err != nil || got.Summed {
			t.Errorf("the file of what was restored: %+v, %v", got, err)
		}
	}
}

// TestRestoreOfNone: what is no file, or no backup, is told as what it is, and nothing is made.
func TestRestoreOfNone(t *testing.T) {
	above := t.TempDir()
	at := func(name string) string { return filepath.Join(above, name) }
	if err := errors.Join(syscall.Mkfifo(at("pipe"), 0o600), os.Mkdir(at("folder"), 0o700), os.WriteFile(at("empty"), nil, 0o600), os.WriteFile(at("text"), bytes.Repeat([]byte("text"), 4096), 0o600)); err != nil {
		t.Fatal(err)
	}
	for from, says := range map[string]string{at("pipe"): "is a pipe or device", "/dev/zero": "is a pipe or device", at("folder"): "is a folder", at("empty"): "it has 0 bytes", at("text"): "does not begin as a backup does", at("missing"): "no such file"} {
		to := filepath.Join(t.TempDir(), "restored")
		if err := restore(t, from, to); err == nil || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), from) {
			t.Errorf("%s: %v", from, err)
		}
		if got := files(t, filepath.Dir(to)); len(got) != 0 {
			t.Errorf("%s: %q was made", from, got)
		}
	}
}
