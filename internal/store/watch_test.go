package store

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestFilesTakenAway takes files of a ledger away while it is served. The database and the log are missed by the next
// commit, before it is acknowledged, and everything by the next look, though nothing is committed.
func TestFilesTakenAway(t *testing.T) {
	remove := func(name string) func(dir string) error {
		return func(dir string) error { return os.Remove(filepath.Join(dir, name)) }
	}
	replace := func(name string) func(dir string) error { // by a copy of it
		return func(dir string) error {
			path := filepath.Join(dir, name)
			content, err := os.ReadFile(path)
			return errors.Join(err, os.WriteFile(path+".copy", content, 0o600), os.Rename(path+".copy", path))
		}
	}
	for _, tt := range []struct {
		name string
		do   func(dir string) error
		path string // of what is missed first, in the folder
		says string
		each bool // by each commit
	}{
		{"database removed", remove("ledger.db"), "ledger.db", "is gone", true},
		{"log removed", remove("ledger.db-wal"), "ledger.db-wal", "is gone", true},
		{"index removed", remove("ledger.db-shm"), "ledger.db-shm", "is gone", false},
		{"lock removed", remove("lock"), "lock", "is gone", false},
		{"folder removed", os.RemoveAll, "ledger.db", "is gone", true},
		{"folder renamed", func(dir string) error { return os.Rename(dir, dir+".old") }, "ledger.db", "is gone", true},
		{"folder replaced by a file", func(dir string) error {
			return errors.Join(os.Rename(dir, dir+".old"), os.WriteFile(dir, nil, 0o600))
		}, "ledger.db", "is gone", true},
		{"folder replaced by a copy", func(dir string) error {
			return errors.Join(os.Rename(dir, dir+".old"), os.CopyFS(dir, os.DirFS(dir+".old")))
		}, "ledger.db", "is another one now", true},
		{"database replaced", replace("ledger.db"), "ledger.db", "is another one now", true},
		{"log replaced", replace("ledger.db-wal"), "ledger.db-wal", "is another one now", true},
		{"lock replaced", replace("lock"), "lock", "is another one now", false},
		{"database renamed", func(dir string) error {
			return os.Rename(filepath.Join(dir, "ledger.db"), filepath.Join(dir, "old"))
		}, "ledger.db", "is gone", true},
		{"nothing", func(dir string) error { return nil }, "", "", false},
		{"another name for the database", func(dir string) error { return os.Link(filepath.Join(dir, "ledger.db"), filepath.Join(dir, "other")) }, "", "", false},
	} {
		for _, idle := range []bool{false, true} {
			t.Run(tt.name+map[bool]string{true: ", idle", false: ""}[idle], func(t *testing.T) {
				ticks := byTicks(t)
				dir := create(t)
				db, err := openSQLite(dir, Options{Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
				if err != nil {
					t.Fatal(err)
				}
				defer db.Close()
				fill(t, db, 3)
				if err := tt.do(dir); err != nil {
					t.Fatal(err)
				}
				missed := func(name string, err error) {
					t.Helper()
					if want := filepath.Join(dir, tt.path) + " " + tt.says; err == nil || !strings.Contains(err.Error(), want) {
						t.Errorf("%s: %v, want %s", name, err, want)
					}
				}
				if idle {
					ticks <- time.Time{}
					if tt.path != "" {
						db.watching.Wait()
						_, err := db.Pulse(context.Background(), Revision{})
						missed("pulse", err)
					} else {
						ticks <- time.Time{} // it has looked, and goes on
					}
				}
				n := db.NextCall()
				err = db.Update(func(tx *Tx) error { return tx.AppendCall(&Call{Seq: n, Operation: 1}) })
				switch {
				case tt.path == "" || !idle && !tt.each:
					if err != nil {
						t.Errorf("a commit: %v", err)
					}
				default:
					missed("a commit", err)
					var lost *CommitError
					if !errors.As(err, &lost) || db.NextCall() != n {
						t.Errorf("a commit that is not to be found again: %v, the next call is %d", err, db.NextCall())
					}
				}
			})
		}
	}
}

// byTicks has the files of ledgers that are opened be looked at when the test says so.
func byTicks(t *testing.T) (ticks chan time.Time) {
	t.Helper()
	ticks = make(chan time.Time)
	before := watchTicks
	t.Cleanup(func() { watchTicks = before })
	watchTicks = func() (<-chan time.Time, func()) { return ticks, func() {} }
	return ticks
}

// TestFilesOverwritten writes to files of a ledger in place while it is served, as a shell does with > or dd. Nothing that
// is committed then is acknowledged, by a look or a checkpoint it is missed though nothing is, and in closing nothing of it
// is copied.
func TestFilesOverwritten(t *testing.T) {
	cut := func(size int64) func(path string, _ []byte) error {
		return func(path string, _ []byte) error { return os.Truncate(path, size) }
	}
	zeros := func(from, n int64) func(path string, _ []byte) error {
		return func(path string, _ []byte) error {
			f, err := os.OpenFile(path, os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			_, err = f.WriteAt(make([]byte, n), from)
			return errors.Join(err, f.Close())
		}
	}
	older := func(path string, content []byte) error { return os.WriteFile(path, content, 0o600) } // in its place, as cp does
	for _, tt := range []struct {
		name, file string
		do         func(path string, older []byte) error
		look       string // what a look says
		commit     string // what a commit says; nothing if it is only found by a look, or by the next checkpoint
	}{
		{"database emptied", file, cut(0), "has 0 bytes, and had ", "has 0 bytes, and had "},
		{"database cut", file, cut(2 * pageSize), "has 8192 bytes, and had ", "has 8192 bytes, and had "},
		{"older database", file, older, "bytes, and had ", "bytes, and had "},
		{"zeros over the database's first page", file, zeros(0, pageSize), "does not begin with", ""},
		{"log emptied", file + "-wal", cut(0), "has 0 bytes, and had ", "does not begin with"},
		{"log cut to its header", file + "-wal", cut(logHeader), "has 32 bytes, and had ", "does not hold what was written to it before byte "},
		{"log cut at a frame", file + "-wal", cut(frameAt(2)), "bytes, and had ", "does not hold what was written to it before byte "},
		{"older log", file + "-wal", older, "bytes, and had ", "does not begin with"},
		{"zeros over the log's beginning", file + "-wal", zeros(0, pageSize), "does not begin with", "does not begin with"},
		{"zeros over all of the log", file + "-wal", zeros(0, 1<<20), "does not begin with", "does not begin with"},
		{"zeros over the log's frames", file + "-wal", zeros(logHeader, 1<<20), "does not hold what was written to it before byte ", "does not hold what was written to it before byte "},
	} {
		for i, when := range []string{"idle", "commit", "checkpoint", "close"} {
			if i > 1 && !strings.HasSuffix(tt.name, " emptied") && !strings.Contains(tt.name, "first page") {
				continue
			}
			t.Run(tt.name+", "+when, func(t *testing.T) {
				ticks := byTicks(t)
				dir := create(t)
				db, err := openSQLite(dir, Options{Log: slog.New(slog.DiscardHandler)})
				if err != nil {
					t.Fatal(err)
				}
				defer db.Close()
				byHand(db)
				path := filepath.Join(dir, tt.file)
				before, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				group(t, db, 300)
				if err := db.checkpoint(); err != nil {
					t.Fatal(err)
				}
				fill(t, db, 60) // in a log that has begun anew, and becomes longer than it was
				if err := db.files.look(); err != nil {
					t.Fatal(err)
				}
				database, err := os.ReadFile(filepath.Join(dir, file))
				if err != nil {
					t.Fatal(err)
				}
				if err := tt.do(path, before); err != nil {
					t.Fatal(err)
				}
				missed := func(name string, err error, says string) {
					t.Helper()
					if err == nil || !strings.Contains(err.Error(), path+" ") || !strings.Contains(err.Error(), says) {
						t.Errorf("%s: %v; want it to say that %s %s", name, err, path, says)
					}
				}
				n := db.NextCall()
				commit := func() error {
					return db.Update(func(tx *Tx) error { return tx.AppendCall(&Call{Seq: n, Operation: 1}) })
				}
				switch when {
				case "idle":
					ticks <- time.Time{}
					db.watching.Wait()
					_, err := db.Pulse(context.Background(), Revision{})
					missed("pulse", err, tt.look)
					missed("a commit after it", commit(), tt.look)
				case "commit":
					if err := commit(); tt.commit != "" {
						missed("a commit", err, tt.commit)
						if db.NextCall() != n {
							t.Error("the call counts")
						}
					}
				case "checkpoint":
					missed("a checkpoint", db.checkpoint(), tt.look)
				case "close":
					missed("closing", db.Close(), tt.look)
				}
				_ = db.Close()
				if now, err := os.ReadFile(filepath.Join(dir, file)); err != nil || tt.file != file && string(now) != string(database) {
					t.Errorf("pages of the log were copied into the database: %v", err)
				}
				if when == "commit" && tt.commit == "" {
					return
				}
				// A database of an earlier time is a sound one, and its log belongs to it.
				if again, err := Open(dir, Options{}); err == nil {
					if err := again.Close(); tt.name != "older database" || err != nil {
						t.Error("it is opened again, as if nothing were missing", err)
					}
				}
			})
		}
	}
}

// TestMarkKept takes the mark of a ledger that is served away. It is written anew, for it only says what is known; what
// has its name and is no file is let be, and ends the service.
func TestMarkKept(t *testing.T) {
	for _, tt := range []struct {
		name string
		do   func(mark string) error
		says string // of the failure, if it is one
	}{
		{"removed", os.Remove, ""},
		{"emptied", func(mark string) error { return os.Truncate(mark, 0) }, ""},
		{"zeros", func(mark string) error { return os.WriteFile(mark, make([]byte, 2*markSlot), 0o600) }, ""},
		{"renamed", func(mark string) error { return os.Rename(mark, mark+".old") }, ""},
		{"replaced", func(mark string) error {
			return errors.Join(os.Remove(mark), os.WriteFile(mark, []byte("mine"), 0o600))
		}, ""},
		{"a link", func(mark string) error {
			return errors.Join(os.Rename(mark, mark+".old"), os.Symlink(mark+".old", mark))
		}, "is a symbolic link"},
		{"a folder", func(mark string) error { return errors.Join(os.Remove(mark), os.Mkdir(mark, 0o700)) }, "is a folder"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ticks := byTicks(t)
			dir := create(t)
			db, err := openSQLite(dir, Options{Log: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			fill(t, db, 3)
			mark := filepath.Join(dir, file+markSuffix)
			if err := tt.do(mark); err != nil {
				t.Fatal(err)
			}
			ticks <- time.Time{}
			if tt.says != "" {
				db.watching.Wait()
				if _, err := db.Pulse(context.Background(), Revision{}); err == nil || !strings.Contains(err.Error(), mark+" "+tt.says) {
					t.Errorf("pulse: %v", err)
				}
				return
			}
			ticks <- time.Time{} // the look before has ended
			d := image(t, dir)   // as a kill leaves it
			fill(t, db, 3)
			killed := filepath.Join(t.TempDir(), "ledger")
			d.put(t, killed)
			if n := rows(t, killed); n != 3 {
				t.Errorf("%d rows", n)
			}
			if err := db.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestMarkMissing: who has lost only the mark is told so, and keeps everything.
func TestMarkMissing(t *testing.T) {
	d, _, calls := marked(t)
	other, _, _ := marked(t)
	for _, tt := range []struct {
		name string
		d    disk
		says []string
	}{
		{"no mark", disk{d.db, d.wal, d.shm, nil}, []string{"there is no", "only the mark is missing"}},
		{"an empty one", disk{d.db, d.wal, d.shm, []byte{}}, []string{"-mark is damaged", "only the mark is missing"}},
		{"zeros", disk{d.db, d.wal, d.shm, make([]byte, 2*markSlot)}, []string{"-mark is damaged", "only the mark is missing"}},
		{"another ledger's", disk{d.db, d.wal, d.shm, other.mark}, []string{"is that of another ledger", "only the mark is missing"}},
		{"neither mark nor index", disk{d.db, d.wal, nil, nil}, []string{"there is no", "cannot be told"}},
	} {
		dir := filepath.Join(t.TempDir(), "ledger")
		tt.d.put(t, dir)
		err := Read(dir, func(*Reader, Meta) error { return nil })
		for _, says := range append(tt.says, "meterd accept-loss", "up to call ") {
			if err == nil || !errors.Is(err, ErrIncomplete) || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), ErrIncomplete.Error()) {
				t.Errorf("%s: %v; want it to say %q, and not that an end is missing", tt.name, err, says)
			}
		}
		loss, err := AcceptLoss(dir)
		if err != nil || loss.Cut != 0 || loss.Last != calls {
			t.Errorf("%s: %+v, %v", tt.name, loss, err)
		}
		if n := rows(t, dir); n != calls {
			t.Errorf("%s: %d rows are left of %d", tt.name, n, calls)
		}
	}
}
