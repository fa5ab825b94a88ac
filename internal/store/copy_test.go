package store

import (
	"context"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/meterd/meterd/internal/metering"
	"github.com/meterd/meterd/internal/pgtest"
)

// content is all that a copy must have of a ledger, as text.
func content(t *testing.T, location string) (text []string) {
	t.Helper()
	add := func(format string, args ...any) { text = append(text, fmt.Sprintf(format, args...)) }
	err := Read(location, func(r *Reader, m Meta) error {
		add("secret %s", m.Secret)
		_, err := r.Load(Revision{}, func(row any) error { add("%s %+v", kindOfRow(row).table, row); return nil })
		return errors.Join(err,
			r.Registrations(func(v metering.Registration) error { add("registration %+v", v); return nil }),
			r.RegistrationTokens([16]byte{}, copyRows, func(k RegistrationToken) error { add("registration token %+v", k); return nil }),
			r.ClientTokens(func(k *ClientToken) error { add("token %+v", *k); return nil }),
			r.Calls(func(c *Call, stored uint32) error { add("call %+v %b", *c, stored); return nil }, func(seq int64) error { return fmt.Errorf("orphan %d", seq) }),
			r.Usage(func(u *Usage) error { add("usage %+v", *u); return nil }),
			r.revisions(0, func(v Revision) error { add("revision %+v", v); return nil }),
			intact(r))
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(text)
	return text
}

// furnished makes a ledger with something of everything.
func furnished(t *testing.T, location string) Store {
	t.Helper()
	if err := Create(location, Meta{Secret: []byte("secret"), Created: 1}, func(tx *Tx) error {
		return errors.Join(tx.Put(&metering.RegionInfo{ID: 1, Name: "us-east-1", Enabled: true}), tx.AppendCall(&Call{Seq: 1, Operation: 16}))
	}); err != nil {
		t.Fatal(err)
	}
	db := openStore(t, location)
	acts := db.Writers()[0]
	err := acts.Update(func(tx *Tx) error {
		return errors.Join(tx.Window(Window{}), revise(tx, 0, func() error {
			return errors.Join(tx.Put(&metering.Account{ID: 1, AccountID: 7, Seller: true}), tx.Put(&metering.Account{ID: 2, AccountID: 8}),
				tx.Put(&Principal{ID: 1, Account: 1, Kind: 1, Name: "u"}), tx.Put(&metering.Customer{Seller: 1, Buyer: 2, Identifier: "x"}),
				tx.Put(&metering.Product{ID: 1, Seller: 1, Code: "p", ProductID: "q", Type: metering.SaaS}),
				tx.Put(&metering.Dimension{Product: 1, N: 1, Key: "d", Type: metering.ExternallyMetered}),
				tx.Put(&metering.Workload{ID: 1, Account: 2, Platform: metering.EC2, ResourceID: "i", Region: 1, Role: 1}), putWorst(tx))
		}),
			tx.Put(&RegistrationToken{ID: [16]byte{9}, Product: 1, Buyer: 2}),
			tx.PutRegistration(metering.Registration{Workload: 1, Product: 1, Operation: metering.MeterUsage, First: 5, Last: 6}),
			tx.PutClientToken(&ClientToken{Key: metering.TokenKey{Workload: 1, Hash: [16]byte{1}}, At: metering.InstantOf(time.Now())}),
			tx.AppendCall(&Call{Seq: acts.NextCall(), Operation: 16, Request: [16]byte{1}, Source: worstStrings[0], Detail: []byte("act")}))
	})
	if err != nil {
		t.Fatal(err)
	}
	more(t, db, 1)
	return db
}

// putWorst has the worst strings be the names of things.
func putWorst(tx *Tx) (err error) {
	for i, s := range worstStrings {
		n := uint32(i)
		err = errors.Join(err,
			tx.Put(&metering.Account{ID: 3 + n, AccountID: 100 + uint64(n), Name: s}), tx.Put(&Principal{ID: 2 + n, Account: 1, Kind: 1, Name: s}),
			tx.Put(&metering.Customer{Seller: 1, Buyer: 3 + n, Identifier: s}),
			tx.Put(&metering.Product{ID: 2 + n, Seller: 1, Code: s, ProductID: s, Title: s, Type: metering.SaaS}),
			tx.Put(&metering.Dimension{Product: 2 + n, N: 1, Key: s, Name: s, Description: s, Unit: s, Type: metering.Entitled}),
			tx.Put(&metering.Agreement{ID: 1 + n, Product: 1, Buyer: 3 + n, AgreementID: s, LicenseARN: s}),
			tx.Put(&metering.Workload{ID: 2 + n, Account: 2, Platform: metering.AgentCore, ResourceID: s, Region: 1, Role: 1}))
	}
	return err
}

// more adds usage of a buyer's.
func more(t *testing.T, db Store, buyer int) {
	t.Helper()
	for i, w := range db.Writers()[len(db.Writers())-1:] {
		divided := of(buyer, 4)
		divided.Allocations = []byte{1, 4, 0}
		late := of(buyer, 5)
		late.Hour -= 30
		late.Timestamp = late.Hour.Start() + 5
		agent := of(buyer, 6)
		agent.Key.Workload, agent.ClientToken = 1, fmt.Sprint("token", buyer, i)
		claims := []Claim{divided, late, agent}
		if buyer == 1 {
			for _, s := range worstStrings {
				agent.ClientToken = s
				claims = append(claims, agent)
			}
		}
		call(t, w, claims...)
		call(t, w)
	}
}

// TestCopy moves a ledger there and back between the stores, with a round while it is served.
func TestCopy(t *testing.T) {
	for name, places := range map[string][2]string{
		"to PostgreSQL":     {filepath.Join(t.TempDir(), "ledger"), pgtest.URL(t, t.Name()+"1")},
		"from PostgreSQL":   {pgtest.URL(t, t.Name()+"2"), filepath.Join(t.TempDir(), "ledger")},
		"within PostgreSQL": {pgtest.URL(t, t.Name()+"3"), pgtest.URL(t, t.Name()+"4")},
	} {
		t.Run(name, func(t *testing.T) {
			from, to := places[0], places[1]
			db := furnished(t, from)
			copied := func() Copied {
				t.Helper()
				sum, err := Copy(from, to, func(Copied) {})
				if err != nil {
					t.Fatal(err)
				}
				return sum
			}
			if got, want := copied(), (Copied{4, 3 + int64(len(worstStrings))}); got != want {
				t.Errorf("first %+v, want %+v", got, want)
			}
			if got := copied(); got != (Copied{}) {
				t.Errorf("nothing new, but %+v", got)
			}
			more(t, db, 2) // served meanwhile
			if err := Complete(from, to); err == nil || !strings.Contains(err.Error(), "is not sealed for") {
				t.Errorf("completed before it is sealed: %v", err)
			}
			if _, err := Open(to, Options{}); err == nil || !strings.Contains(err.Error(), "unfinished copy") {
				t.Errorf("an unfinished copy was opened: %v", err)
			}
			if err := Seal(from, to); db.Shared() != (err == nil) || err != nil && !errors.Is(err, ErrLocked) {
				t.Fatalf("sealed while it is served: %v", err)
			}
			if db.Shared() {
				if err := writer(db).Update(func(*Tx) error { return nil }); err == nil {
					t.Error("a sealed ledger was written to")
				}
				if _, err := db.Pulse(context.Background(), Revision{}); err == nil {
					t.Error("a sealed ledger is well")
				}
			}
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			for range 2 { // it may be done again
				if err := Seal(from, to); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := Open(from, Options{}); err == nil || !strings.Contains(err.Error(), "has been moved to") {
				t.Errorf("a sealed ledger was opened: %v", err)
			}
			third := filepath.Join(t.TempDir(), "third")
			if _, err := Copy(to, third, func(Copied) {}); err == nil || !strings.Contains(err.Error(), "unfinished copy") {
				t.Errorf("an unfinished copy was copied: %v", err)
			}
			if err := Seal(to, third); err == nil || !strings.Contains(err.Error(), "unfinished copy") {
				t.Errorf("an unfinished copy was sealed: %v", err)
			}
			if err := Seal(from, "elsewhere"); err == nil {
				t.Error("it was sealed for another place")
			}
			if err := errors.Join(Unseal(from, to, false), openStore(t, from).Close(), Seal(from, to)); err != nil {
				t.Error(err)
			}
			if got, want := copied(), (Copied{2, 3}); got != want {
				t.Errorf("the rest: %+v, want %+v", got, want)
			}
			for _, moved := range []bool{false, true} {
				if is, err := Moved(from, to); is != moved || err != nil {
					t.Errorf("moved: %v, want %v: %v", is, moved, err)
				}
				if moved {
					break
				}
				if err := Complete(from, to); err != nil {
					t.Fatal(err)
				}
			}
			if err := Unseal(from, to, false); err == nil {
				t.Error("unsealed although the copy is in use")
			}
			if a, b := content(t, from), content(t, to); !slices.Equal(a, b) {
				t.Errorf("copied\n%s\nto\n%s", strings.Join(a, "\n"), strings.Join(b, "\n"))
			}
			moved := openStore(t, to)
			if pulse, err := moved.Pulse(context.Background(), Revision{}); moved.Shared() && (err != nil || pulse.Last != 7) {
				t.Errorf("the copy begins at %d, %v", pulse.Last, err)
			}
			if got := states(call(t, writer(moved), of(1, 4), of(2, 5), of(3, 6))); got != "taken:4 taken:4 granted " {
				t.Errorf("the copy goes on with %q", got)
			}
			if _, err := Copy(from, to, func(Copied) {}); !errors.Is(err, ErrExist) {
				t.Errorf("copied once more: %v", err)
			}
		})
	}
}

// TestCopiedUsage lists what several writers have written, from a folder, where each of them has left its own places.
func TestCopiedUsage(t *testing.T) {
	from, to := pgtest.URL(t, t.Name()), filepath.Join(t.TempDir(), "ledger")
	db := furnished(t, from) // three records
	for i, w := range db.Writers() {
		call(t, w, of(10+i, 1), of(20+i, 1))
	}
	_, err := Copy(from, to, func(Copied) {})
	if err = errors.Join(err, db.Close(), Seal(from, to), Complete(from, to)); err != nil {
		t.Fatal(err)
	}
	moved := openStore(t, to)
	before := scanRows
	t.Cleanup(func() { scanRows = before })
	scanRows = 1 << 8 // of 2^41 places of a writer
	found := make(chan int)
	go func() {
		n := 0
		if err := moved.FindUsage(context.Background(), &UsageFilter{FirstHour: math.MinInt32, LastHour: math.MaxInt32}, "", func(*Usage) error { n++; return nil }); err != nil {
			t.Error(err)
		}
		found <- n
	}()
	select {
	case n := <-found:
		if want := 9 + len(worstStrings); n != want {
			t.Errorf("%d records are found, want %d", n, want)
		}
	case <-time.After(time.Minute):
		panic("a listing of few records hangs")
	}
}

// TestUnsealWhileCompleting: who completes a copy and who takes back the seal of its origin cannot both succeed.
func TestUnsealWhileCompleting(t *testing.T) {
	for name, places := range map[string][2]string{
		"to PostgreSQL":   {filepath.Join(t.TempDir(), "ledger"), pgtest.URL(t, t.Name()+"1")},
		"from PostgreSQL": {pgtest.URL(t, t.Name()+"2"), filepath.Join(t.TempDir(), "ledger")},
	} {
		t.Run(name, func(t *testing.T) {
			from, to := places[0], places[1]
			if err := furnished(t, from).Close(); err != nil {
				t.Fatal(err)
			}
			_, err := Copy(from, to, func(Copied) {})
			if err = errors.Join(err, Seal(from, to)); err != nil {
				t.Fatal(err)
			}
			unsealed := make(chan error, 1)
			err = withCopy(to, true, func() error {
				go func() { unsealed <- Unseal(from, to, false) }()
				if !IsURL(to) { // whose lock is not waited for
					err := <-unsealed
					unsealed <- err
					return nil
				}
				return onePostgres(to, func(ctx context.Context, conn *pgx.Conn) error {
					for waits := false; !waits && len(unsealed) == 0; {
						if err := conn.QueryRow(ctx, "SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'UPDATE meta%'").Scan(&waits); err != nil {
							return err
						}
					}
					return nil
				})
			})
			if err != nil {
				t.Error(err)
			}
			if err := <-unsealed; err == nil {
				t.Error("unsealed while the copy was completed")
			}
			if is, err := Moved(from, to); !is || err != nil {
				t.Errorf("moved: %v, %v", is, err)
			}
		})
	}
}

// TestCopyBegunBeforeSealing: a copy of a ledger of format 2 goes on after the secret of that has been sealed, and does
// not keep it as it was.
func TestCopyBegunBeforeSealing(t *testing.T) {
	for _, places := range [][2]string{{filepath.Join(t.TempDir(), "ledger"), pgtest.URL(t, t.Name()+"1")}, {pgtest.URL(t, t.Name()+"2"), filepath.Join(t.TempDir(), "ledger")}} {
		from, to := places[0], places[1]
		if err := furnished(t, from).Close(); err != nil {
			t.Fatal(err)
		}
		for _, sealed := range []string{"", "", "sealed"} {
			if sealed != "" {
				db, err := Open(from, Options{Admit: func(m *Meta) error { m.Sealed = []byte(sealed); return nil }})
				if err := errors.Join(err, db.Close()); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := Copy(from, to, func(Copied) {}); err != nil {
				t.Fatal(err)
			}
			for _, place := range places {
				err := Read(place, func(_ *Reader, m Meta) error {
					if string(m.Sealed) != sealed || (m.Secret == nil) != (sealed != "") {
						t.Errorf("%s holds %+v, sealed %q", Redacted(place), m, sealed)
					}
					return nil
				})
				if err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}
