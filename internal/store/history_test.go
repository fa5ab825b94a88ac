package store

import (
	"context"
	"errors"
	"testing"

	"github.com/meterd/meterd/internal/metering"
	"github.com/meterd/meterd/internal/pgtest"
)

// act commits an act of administration that adds an account, and returns the revision that it has made.
func act(t *testing.T, w Writer, known Revision, account uint32) (next Revision, err error) {
	t.Helper()
	w.Know(known)
	err = w.Update(func(tx *Tx) (err error) {
		next, err = tx.Revise(known, func() error { return tx.Put(&metering.Account{ID: account, AccountID: uint64(account)}) })
		return errors.Join(err, tx.AppendCall(&Call{Seq: w.NextCall(), Operation: 16}))
	})
	return next, err
}

// TestBackInTime restores a backup under an open store. Whoever knows what has been lost commits nothing any more, also
// where others have come to the same numbers since; whoever does not goes on, as does who opens the store then.
func TestBackInTime(t *testing.T) {
	type ledger struct {
		url           string
		db, idle      *postgresStore
		before, known Revision // of db
	}
	cases := map[string]struct {
		lose  func(t *testing.T, db *postgresStore, known Revision) Revision    // is done before the database goes back
		after func(t *testing.T, other *postgresStore, known Revision)          // is done by another node afterwards
		write func(t *testing.T, db *postgresStore, known Revision) (err error) // must fail
	}{
		"a call": {
			lose: func(t *testing.T, db *postgresStore, known Revision) Revision {
				call(t, db.writers[1], of(1, 1))
				return known
			},
			write: func(t *testing.T, db *postgresStore, _ Revision) error { return empty(db.writers[1]) },
		},
		"a call of a writer whose number is another's now": {
			lose: func(t *testing.T, db *postgresStore, known Revision) Revision {
				db.writers[1].giveUp()
				call(t, db.writers[1], of(1, 1))
				return known
			},
			after: func(t *testing.T, other *postgresStore, _ Revision) { call(t, other.writers[0], of(2, 1)) },
			write: func(t *testing.T, db *postgresStore, _ Revision) error { return empty(db.writers[1]) },
		},
		"an act": {
			lose: func(t *testing.T, db *postgresStore, known Revision) Revision {
				return must(act(t, db.writers[0], known, 1))
			},
			write: func(t *testing.T, db *postgresStore, known Revision) error {
				_, err := act(t, db.writers[0], known, 2)
				return err
			},
		},
		"another's act, of which there is another one now": {
			lose: func(t *testing.T, db *postgresStore, known Revision) Revision {
				next := must(act(t, db.writers[0], known, 1))
				db.writers[0].giveUp() // as if it had been on another node
				return next
			},
			after: func(t *testing.T, other *postgresStore, known Revision) { must(act(t, other.writers[0], known, 1)) },
			write: func(t *testing.T, db *postgresStore, known Revision) error {
				db.writers[1].Know(known)
				return empty(db.writers[1])
			},
		},
		"another's act, and there is one here": {
			lose: func(t *testing.T, db *postgresStore, known Revision) Revision {
				next := must(act(t, db.writers[0], known, 1))
				db.writers[0].giveUp()
				return next
			},
			after: func(t *testing.T, other *postgresStore, known Revision) { must(act(t, other.writers[0], known, 1)) },
			write: func(t *testing.T, db *postgresStore, known Revision) error {
				_, err := act(t, db.writers[0], known, 2)
				return err
			},
		},
		"a call whose COMMIT was not answered": {
			lose: func(t *testing.T, db *postgresStore, known Revision) Revision {
				call(t, db.writers[1], of(1, 1))
				return known
			},
			write: func(t *testing.T, db *postgresStore, known Revision) error {
				db.writers[1].disconnect()
				_, err := db.writers[1].settle(t.Context())
				if end := (final{}); errors.As(err, &end) {
					err = end.error
				}
				if unknown := (*CommitError)(nil); !errors.As(err, &unknown) {
					t.Errorf("settled with %v", err)
				}
				return err
			},
		},
	}
	s := pgtest.Start(t)
	ledgers := map[string]*ledger{}
	for name := range cases {
		l := &ledger{url: s.URL() + "&search_path=" + pgtest.Schema(name)}
		if err := Create(l.url, Meta{Secret: []byte("secret")}, nothing); err != nil {
			t.Fatal(err)
		}
		l.db, l.idle = openStore(t, l.url).(*postgresStore), openStore(t, l.url).(*postgresStore)
		l.before, ledgers[name] = l.db.opened, l
	}
	if err := s.Backup(); err != nil {
		t.Fatal(err)
	}
	for name, l := range ledgers {
		l.known = cases[name].lose(t, l.db, l.before)
		if _, err := l.db.Pulse(context.Background(), l.known); err != nil {
			t.Error(err)
		}
	}
	if err := s.Restore(); err != nil {
		t.Fatal(err)
	}
	for name, l := range ledgers {
		t.Run(name, func(t *testing.T) {
			other := openStore(t, l.url).(*postgresStore)
			if after := cases[name].after; after != nil {
				after(t, other, l.before)
			}
			if err := cases[name].write(t, l.db, l.known); !errors.Is(err, ErrWentBack) {
				t.Errorf("written: %v", err)
			}
			if _, err := l.db.Pulse(context.Background(), l.known); !errors.Is(err, ErrWentBack) {
				t.Errorf("pulse: %v", err)
			}
			if l.known != l.before {
				err := l.db.View(context.Background(), func(r *Reader) error {
					_, err := r.Load(l.known, func(any) error { return nil })
					return err
				})
				if !errors.Is(err, ErrWentBack) {
					t.Errorf("followed: %v", err)
				}
			}
			for _, db := range []*postgresStore{l.idle, other} {
				if _, err := db.Pulse(context.Background(), l.before); err != nil {
					t.Errorf("who knows nothing that was lost: %v", err)
				}
				call(t, db.writers[2], of(7, 1))
			}
		})
	}
}

// empty commits a transaction with nothing in it.
func empty(w Writer) error { return w.Update(func(*Tx) error { return nil }) }

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
