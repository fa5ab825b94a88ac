package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/meterd/meterd/internal/metering"
)

// tree returns what a folder holds, everything below it included: the mode of each, and what files hold or links say.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		content := []byte(nil)
		switch {
		case info.Mode().IsRegular():
			content, err = os.ReadFile(path)
		case info.Mode()&fs.ModeSymlink != 0:
			var to string
			to, err = os.Readlink(path)
			content = []byte(to)
		}
		found[path] = info.Mode().String() + " " + string(content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// TestLinks puts a link where the ledger expects a file or folder of its own: it is refused by name, and what it leads
// to stays as it is.
func TestLinks(t *testing.T) {
	spilling(t)
	for _, tt := range []struct {
		name     string
		to       string // what the link leads to: a file or folder in the victim's folder, or nothing
		creating bool   // there is no ledger yet
	}{
		{name: "lock", to: "file"}, {name: "lock", to: "nothing"}, {name: "lock", to: "file", creating: true}, {name: "lock", to: "nothing", creating: true},
		{name: "ledger.db", to: "file"}, {name: "ledger.db", to: "nothing"}, {name: "ledger.db-wal", to: "file"}, {name: "ledger.db-wal", to: "nothing"},
		{name: "ledger.db-shm", to: "file"}, {name: "ledger.db-shm", to: "nothing"}, {name: "ledger.db-journal", to: "file"},
		{name: "ledger.db-mark", to: "file"}, {name: "ledger.db-mark", to: "nothing"},
		{name: "ledger.db.new", to: "file", creating: true}, {name: "ledger.db.new", to: "nothing", creating: true}, {name: "ledger.db.new-wal", to: "file", creating: true},
		{name: "hours", to: "folder"}, {name: "hours", to: "file"}, {name: "hours", to: "nothing"}, {name: "hours/500000", to: "file"}, {name: "hours/500000.new", to: "file"},
	} {
		t.Run(fmt.Sprintf("%s to %s, creating %t", tt.name, tt.to, tt.creating), func(t *testing.T) {
			victim := t.TempDir()
			for _, name := range []string{"file", "folder/500000", "folder/letters", "folder/7.new"} {
				path := filepath.Join(victim, name)
				if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte("somebody's"), 0o644)); err != nil {
					t.Fatal(err)
				}
			}
			before := tree(t, victim)
			dir := filepath.Join(t.TempDir(), "ledger")
			if !tt.creating {
				dir = create(t)
			}
			link := filepath.Join(dir, tt.name)
			if err := errors.Join(os.MkdirAll(filepath.Dir(link), 0o700), os.RemoveAll(link), os.Symlink(filepath.Join(victim, tt.to), link)); err != nil {
				t.Fatal(err)
			}
			err := func() error {
				if tt.creating {
					return Create(dir, Meta{}, nothing)
				}
				db, err := openSQLite(dir, Options{})
				if err != nil {
					return err
				}
				return errors.Join(db.Update(func(tx *Tx) error { return tx.Window(Window{First: 500_000, Hot: 500_004}) }), db.Close())
			}()
			if err == nil || !strings.Contains(err.Error(), tt.name+" is a symbolic link") {
				t.Errorf("%v", err)
			}
			if after := tree(t, victim); fmt.Sprint(after) != fmt.Sprint(before) {
				t.Errorf("what the link leads to was changed:\n%v\n%v", before, after)
			}
			if _, err := os.Lstat(link); err != nil {
				t.Errorf("the link: %v", err)
			}
		})
	}
}

// TestPipe: a pipe in the place of a file is refused, and nobody waits for what it might bring.
func TestPipe(t *testing.T) {
	for _, name := range []string{"ledger.db", "ledger.db-wal", "ledger.db-mark"} {
		dir := create(t)
		path := filepath.Join(dir, name)
		if err := errors.Join(os.RemoveAll(path), syscall.Mkfifo(path, 0o600)); err != nil {
			t.Fatal(err)
		}
		err := readSQLite(dir, func(*Reader, Meta) error { return nil })
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s is a pipe: %v", name, err)
		}
	}
}

// TestStrangersInHours: files in the folder for keys of hours that meterd has not made stay there.
func TestStrangersInHours(t *testing.T) {
	spilling(t)
	dir := create(t)
	hours := filepath.Join(dir, hourFiles)
	for _, name := range []string{"letters", "0500000", "+5", "500001.old", "5 "} {
		if err := errors.Join(os.MkdirAll(hours, 0o700), os.WriteFile(filepath.Join(hours, name), []byte("somebody's"), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	before := tree(t, hours)
	own := filepath.Join(hours, "499000.new") // the beginning of one
	if err := os.WriteFile(own, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	db := reopen(t, dir)
	if err := db.Update(func(tx *Tx) error { return tx.Window(Window{First: 500_000, Hot: 500_004}) }); err != nil {
		t.Fatal(err)
	}
	if after := tree(t, hours); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("before %v, after %v", before, after)
	}
}

// served opens a ledger, has it make every file that it makes, and calls look while it is served.
func served(t *testing.T, dir string, look func()) {
	t.Helper()
	db := reopen(t, dir)
	for h := range 6 {
		claiming(t, db, Window{First: 500_000, Hot: 500_004}, inHour(500_000+metering.Hour(h), int(db.NextCall()), 1), inHour(500_000+metering.Hour(h), int(1000+db.NextCall()), 1))
	}
	spilled(t, db, Window{First: 500_000, Hot: 500_004})
	look()
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestModes: nobody but their owner may read what meterd makes, whatever the process gives new files, and who finds a
// folder or files that others may read or write makes them private.
func TestModes(t *testing.T) {
	spilling(t)
	before := syscall.Umask(0)
	t.Cleanup(func() { syscall.Umask(before) })
	dir := filepath.Join(t.TempDir(), "ledger")
	if err := os.Mkdir(dir, 0o777); err != nil { // by somebody who prepared it
		t.Fatal(err)
	}
	if err := Create(dir, Meta{Secret: []byte("secret")}, nothing); err != nil {
		t.Fatal(err)
	}
	look := func() {
		t.Helper()
		found := tree(t, dir)
		for _, name := range []string{"lock", "ledger.db", "ledger.db-wal", "ledger.db-shm", "hours/500000"} {
			if found[filepath.Join(dir, name)] == "" {
				t.Errorf("there is no %s", name)
			}
		}
		for path, what := range found {
			if mode := what[:10]; path == dir && mode != "drwxr-xr-x" || path == filepath.Join(dir, hourFiles) && mode[8] == 'w' || mode[0] == '-' && mode != "-rw-------" {
				t.Errorf("%s: %s", path, mode)
			}
		}
	}
	killed := filepath.Join(t.TempDir(), "killed") // as the folder is left by a kill
	served(t, dir, func() {
		look()
		if err := os.CopyFS(killed, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
	})
	dir = killed
	for path, what := range tree(t, dir) {
		mode := fs.FileMode(0o666)
		if what[0] == 'd' {
			mode = 0o777
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	served(t, dir, look)

	// A folder that is more than a ledger's is not changed.
	shared := filepath.Join(t.TempDir(), "shared")
	if err := errors.Join(os.Mkdir(shared, 0o777), os.WriteFile(filepath.Join(shared, "letters"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	was := tree(t, shared)
	if err := Create(shared, Meta{}, nothing); err == nil || !strings.Contains(err.Error(), "can be written to by others (mode 0777)") || !strings.Contains(err.Error(), "choose a folder in it that does not exist yet") {
		t.Errorf("a ledger in a folder of everybody's: %v", err)
	}
	if _, err := Backup(t.Context(), dir, filepath.Join(shared, "backup")); err == nil || !strings.Contains(err.Error(), "everybody may write into "+shared) {
		t.Errorf("a backup in a folder of everybody's: %v", err)
	}
	if now := tree(t, shared); fmt.Sprint(now) != fmt.Sprint(was) {
		t.Errorf("before %v, after %v", was, now)
	}
}

// TestOwner: what root makes in a folder of another user's belongs to that user, from its first moment on. Without root
// all belongs to the one user that there is.
func TestOwner(t *testing.T) {
	spilling(t)
	user := os.Geteuid()
	dir := filepath.Join(t.TempDir(), "ledger")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if user == 0 {
		user = 65534
		for d := dir; d != "/" && d != os.TempDir(); d = filepath.Dir(d) { // the user must come there
			if err := os.Chmod(d, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Chown(dir, user, user); err != nil {
			t.Fatal(err)
		}
	}
	made := 0
	check := func() {
		t.Helper()
		for path := range tree(t, dir) {
			made++
			info, err := os.Lstat(path)
			if err != nil {
				t.Fatal(err)
			}
			if uid, _, _ := ownerOf(info); uid != user {
				t.Errorf("%s belongs to user %d, not to %d", path, uid, user)
			}
		}
	}
	if err := Create(dir, Meta{Secret: []byte("secret")}, nothing); err != nil {
		t.Fatal(err)
	}
	check()
	served(t, dir, check)
	if made < 10 {
		t.Errorf("%d files were looked at", made)
	}
	err := as(user, user, func() error {
		f, err := os.OpenFile(filepath.Join(dir, "first"), os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		info, err := f.Stat()
		if uid, _, _ := ownerOf(info); uid != user {
			t.Errorf("at its first moment it belongs to user %d", uid)
		}
		return errors.Join(err, f.Close())
	})
	if err != nil {
		t.Error(err)
	}
	if f, err := os.CreateTemp(t.TempDir(), ""); err != nil {
		t.Errorf("the rights of before have not come back: %v", err)
	} else {
		f.Close()
	}
}

// TestHoursBefore: a folder for keys of hours that is not meterd's own is refused before anything is changed, in which a
// killed process has left its log.
func TestHoursBefore(t *testing.T) {
	d, _, _ := marked(t)
	for name, make := range map[string]func(hours, elsewhere string) error{
		"the folder": func(hours, elsewhere string) error { return os.Symlink(elsewhere, hours) },
		"a file": func(hours, elsewhere string) error {
			return errors.Join(os.Mkdir(hours, 0o700), os.Symlink(filepath.Join(elsewhere, "letters"), filepath.Join(hours, "500000")))
		},
		"one that is new": func(hours, elsewhere string) error {
			return errors.Join(os.Mkdir(hours, 0o700), os.Symlink(filepath.Join(elsewhere, "nothing"), filepath.Join(hours, "500000.new")))
		},
	} {
		elsewhere, dir := t.TempDir(), filepath.Join(t.TempDir(), "ledger")
		d.put(t, dir)
		if err := errors.Join(os.WriteFile(filepath.Join(elsewhere, "letters"), []byte("somebody's"), 0o600), make(filepath.Join(dir, hourFiles), elsewhere)); err != nil {
			t.Fatal(err)
		}
		for _, o := range []struct {
			name string
			f    func() error
		}{
			{"opening", func() error { _, err := Open(dir, Options{}); return err }},
			{"giving up what is lost", func() error { _, err := AcceptLoss(dir); return err }},
		} {
			unchanged(t, dir, o.name+" with a link for "+name, func() {
				if err := o.f(); err == nil || !strings.Contains(err.Error(), "is a symbolic link") {
					t.Errorf("%s with a link for %s: %v", o.name, name, err)
				}
			})
		}
	}
}

// TestNoLossIsUnchanged: where nothing is missing there is nothing to give up, and nothing is made.
func TestNoLossIsUnchanged(t *testing.T) {
	d, _, _ := marked(t)
	dir := filepath.Join(t.TempDir(), "ledger")
	d.put(t, dir)
	unchanged(t, dir, "giving up nothing", func() {
		if _, err := AcceptLoss(dir); err == nil || !strings.Contains(err.Error(), "nothing is missing") {
			t.Error(err)
		}
	})
}

// TestOrphans: everybody says of a log whose database is gone what it is.
func TestOrphans(t *testing.T) {
	d, _, _ := marked(t)
	dir := filepath.Join(t.TempDir(), "ledger")
	d.db = nil
	d.put(t, dir)
	for name, f := range map[string]func() error{
		"reading":  func() error { return Read(dir, func(*Reader, Meta) error { return nil }) },
		"opening":  func() error { _, err := Open(dir, Options{}); return err },
		"creating": func() error { return Create(dir, Meta{}, nothing) },
		"asking":   func() error { _, err := Exists(dir); return err },
		"loss":     func() error { _, err := AcceptLoss(dir); return err },
	} {
		unchanged(t, dir, name, func() {
			if err := f(); err == nil || !strings.Contains(err.Error(), "ledger.db-wal, of a ledger whose database is gone; put back") {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
}

// TestCreateLeavesNothing: what could not be made leaves nothing, not even its folder.
func TestCreateLeavesNothing(t *testing.T) {
	above := t.TempDir()
	there := filepath.Join(above, "there")
	if err := os.Mkdir(there, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{there, filepath.Join(above, "new")} {
		if err := Create(dir, Meta{}, func(*Tx) error { return errTest }); !errors.Is(err, errTest) {
			t.Error(err)
		}
	}
	if got := files(t, above); len(got) != 1 || len(files(t, there)) != 0 {
		t.Errorf("left are %q, in the folder that was there %q", got, files(t, there))
	}
}
