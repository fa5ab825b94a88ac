package store

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/meterd/meterd/internal/pgtest"
)

// TestSealNamesOneCopy: a ledger that is sealed for a copy is not opened again by any other place, however like it that
// is, and cannot go on in another one.
func TestSealNamesOneCopy(t *testing.T) {
	folders, databases := t.TempDir(), t.Name()
	for name, place := range map[string]func(name string) string{
		"folders":   func(name string) string { return filepath.Join(folders, name) },
		"databases": func(name string) string { return pgtest.URL(t, databases+name) },
	} {
		t.Run(name, func(t *testing.T) {
			from, to := place("from"), place("to")
			if err := furnished(t, from).Close(); err != nil {
				t.Fatal(err)
			}
			others := map[string]string{"nothing": place("nothing"), "another copy": place("another"), "a ledger of its own": place("own")}
			for _, copy := range []string{to, others["another copy"]} {
				if _, err := Copy(from, copy, func(Copied) {}); err != nil {
					t.Fatal(err)
				}
			}
			if err := Create(others["a ledger of its own"], Meta{Secret: []byte("other")}, nothing); err != nil {
				t.Fatal(err)
			}
			if name == "folders" {
				others["a copy of the copy"] = place("copied")
				if err := os.CopyFS(others["a copy of the copy"], os.DirFS(to)); err != nil {
					t.Fatal(err)
				}
			}

			for _, other := range []string{"nothing", "a ledger of its own"} {
				if err := Seal(from, others[other]); err == nil {
					t.Errorf("sealed for %s", other)
				}
			}
			if err := openStore(t, from).Close(); err != nil {
				t.Errorf("it is not as it was: %v", err)
			}
			if err := Unseal(from, to, false); !errors.Is(err, ErrNotSealed) {
				t.Errorf("taken back before it is sealed: %v", err)
			}

			if err := Seal(from, to); err != nil {
				t.Fatal(err)
			}
			closed := func(when string) {
				t.Helper()
				for other, at := range others {
					if err := Unseal(from, at, false); !errors.Is(err, ErrNotTheCopy) {
						t.Errorf("%s, opened again by %s: %v", when, other, err)
					}
					if err := Seal(from, at); err == nil {
						t.Errorf("%s, sealed for %s", when, other)
					}
					if other == "nothing" {
						if _, err := Copy(from, at, func(Copied) {}); err == nil {
							t.Errorf("%s, copied to %s", when, other)
						}
					} else if err := Complete(from, at); err == nil {
						t.Errorf("%s, %s was completed", when, other)
					}
					if is, err := Moved(from, at); is || err != nil {
						t.Errorf("%s, moved to %s: %v", when, other, err)
					}
				}
				if _, err := Open(from, Options{}); err == nil {
					t.Errorf("%s, it was opened", when)
				}
			}
			closed("sealed")
			if err := errors.Join(Unseal(from, to, false), openStore(t, from).Close(), Seal(from, to), Complete(from, to)); err != nil {
				t.Fatal(err)
			}
			closed("moved")
			for _, lost := range []bool{false, true} {
				if err := Unseal(from, to, lost); err == nil || errors.Is(err, ErrNotTheCopy) {
					t.Errorf("opened again although its copy is finished: %v", err)
				}
			}
			closed("refused")
			if err := Unseal(from, others["nothing"], true); err != nil {
				t.Error(err)
			}
			if err := openStore(t, from).Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestOlderSeal: what a version before has sealed and copied, by the names of places alone, is finished and taken back.
func TestOlderSeal(t *testing.T) {
	dir := t.TempDir()
	from, to := filepath.Join(dir, "from"), filepath.Join(dir, "to")
	if err := furnished(t, from).Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Copy(from, to, func(Copied) {}); err != nil {
		t.Fatal(err)
	}
	older := errors.Join(updateSQLite(to, func(tx *Tx) error { return tx.PutMeta(copyingValue, []byte(from)) }),
		updateSQLite(from, func(tx *Tx) error { return tx.PutMeta(sealedValue, []byte(to)) }))
	if older != nil {
		t.Fatal(older)
	}
	if err := Unseal(from, filepath.Join(dir, "other"), false); !errors.Is(err, ErrNotTheCopy) {
		t.Errorf("opened again by another place: %v", err)
	}
	if err := errors.Join(Unseal(from, to, false), openStore(t, from).Close(), Seal(from, to), Complete(from, to)); err != nil {
		t.Fatal(err)
	}
	if is, err := Moved(from, to); !is || err != nil {
		t.Errorf("moved: %v, %v", is, err)
	}
	if err := Unseal(from, to, true); err == nil {
		t.Error("opened again although its copy is finished")
	}
}
