package store

import (
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
				ticks := make(chan time.Time)
				before := watchTicks
				t.Cleanup(func() { watchTicks = before })
				watchTicks = func() (<-chan time.Time, func()) { return ticks, func() {} }
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
						_, err := db.Pulse(Revision{})
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
