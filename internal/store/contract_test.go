package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/meterd/meterd/internal/metering"
	"github.com/meterd/meterd/internal/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// both runs a test on a new store of each kind.
func both(t *testing.T, test func(t *testing.T, location string, db Store)) {
	for name, locate := range map[string]func(*testing.T) string{
		"sqlite":   func(t *testing.T) string { return filepath.Join(t.TempDir(), "ledger") },
		"postgres": func(t *testing.T) string { return pgtest.URL(t, t.Name()) },
	} {
		t.Run(name, func(t *testing.T) {
			location := locate(t)
			if err := Create(location, Meta{Secret: []byte("secret"), Created: 1}, nothing); err != nil {
				t.Fatal(err)
			}
			test(t, location, openStore(t, location))
		})
	}
}

func openStore(t *testing.T, location string) Store {
	t.Helper()
	db, err := Open(location, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// writer returns one that commits calls.
func writer(db Store) Writer {
	all := db.Writers()
	return all[len(all)-1]
}

// call is what a transaction of the tests writes: some claims, and the call that they belong to.
func call(t *testing.T, w Writer, claims ...Claim) []Claim {
	t.Helper()
	err := w.Update(func(tx *Tx) error {
		seq := w.NextCall()
		if err := tx.Window(Window{}); err != nil {
			return err
		}
		for i := range claims {
			claims[i].Seq = UsageSeq(seq, i)
		}
		if err := tx.Claim(claims); err != nil {
			return err
		}
		c := Call{Seq: seq, At: 7, Operation: 1, Source: "192.0.2.1", Detail: []byte("detail")}
		c.Request[15] = byte(seq)
		for i := range claims {
			if claims[i].State == Granted {
				c.UsageRows++
			}
		}
		return tx.AppendCall(&c)
	})
	if err != nil {
		t.Fatal(err)
	}
	return claims
}

func states(claims []Claim) (text string) {
	for i := range claims {
		text += map[ClaimState]string{Unclaimed: "?", Granted: "granted ", Taken: fmt.Sprintf("taken:%d ", claims[i].Stored), NoRoom: "no room "}[claims[i].State]
	}
	return text
}

// of is a claim of a buyer's key with a quantity.
func of(buyer int, quantity int32) Claim {
	c := record(0, buyer)
	c.Quantity = quantity
	return c
}

func TestClaims(t *testing.T) {
	both(t, func(t *testing.T, location string, db Store) {
		w := writer(db)
		token := of(9, 1)
		token.Key.Workload, token.ClientToken = 3, "one"
		second := token
		second.ClientToken = "two"
		divided := of(4, 4)
		divided.Allocations = []byte{1, 4, 0}
		for _, step := range []struct {
			claims []Claim
			want   string
		}{
			{[]Claim{of(1, 10), of(2, 20)}, "granted granted "},
			{[]Claim{of(2, 21), of(3, 30), of(1, 10)}, "taken:20 granted taken:10 "},
			{[]Claim{of(5, 50), of(5, 51), of(1, 11), of(1, 12)}, "granted taken:50 taken:10 taken:10 "},
			{[]Claim{divided, of(6, 60)}, "granted granted "},
			{[]Claim{token, second}, "granted granted "},
		} {
			if got := states(call(t, w, step.claims...)); got != step.want {
				t.Errorf("got %q, want %q", got, step.want)
			}
		}
		if got := states(call(t, writer(openAnother(t, location, db)), of(1, 1), of(6, 60), of(7, 70))); got != "taken:10 taken:60 granted " {
			t.Errorf("opened again: %q", got)
		}
	})
}

// What was asked for is not taken, and is answered as a claim would be.
func TestAsks(t *testing.T) {
	both(t, func(t *testing.T, _ string, db Store) {
		w := writer(db)
		token := of(9, 1)
		token.Key.Workload, token.ClientToken = 3, "one"
		call(t, w, of(1, 10), of(2, 20), token)
		other := token
		other.ClientToken = "two"
		for range 2 {
			asks, claims := []Claim{of(2, 21), of(3, 30), of(1, 10), of(3, 31), of(2, 20), other}, []Claim{of(4, 40)}
			err := w.Update(func(tx *Tx) error {
				seq := w.NextCall()
				if err := tx.Window(Window{}); err != nil {
					return err
				}
				claims[0].Seq = UsageSeq(seq, 0)
				if err := errors.Join(tx.Ask(asks), tx.Claim(claims)); err != nil {
					return err
				}
				c := Call{Seq: seq, At: 7, Operation: 1}
				c.Request[15] = byte(seq)
				if claims[0].State == Granted {
					c.UsageRows = 1
				}
				return tx.AppendCall(&c)
			})
			if got, want := states(asks), "taken:20 ?taken:10 ?taken:20 ?"; err != nil || got != want {
				t.Errorf("got %q, want %q, error %v", got, want, err)
			}
		}
		if got := states(call(t, w, of(3, 33), of(4, 41), other)); got != "granted taken:40 granted " {
			t.Errorf("claimed afterwards: %q", got)
		}
	})
}

// openAnother opens the store again: a shared one a second time, the embedded one once more.
func openAnother(t *testing.T, location string, db Store) Store {
	t.Helper()
	if !db.Shared() {
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return openStore(t, location)
}

func TestCallsAndUsage(t *testing.T) {
	both(t, func(t *testing.T, location string, db Store) {
		call(t, writer(db), of(1, 10), of(2, 20), of(1, 11))
		call(t, writer(db))
		call(t, writer(db), of(2, 20), of(3, 30))
		var seqs []int64
		var found []string
		err := db.View(context.Background(), func(r *Reader) error {
			err := r.Calls(func(c *Call, stored uint32) error {
				seqs = append(seqs, c.Seq)
				_, n := Place(c.Seq)
				found = append(found, fmt.Sprintf("%d:%b", n, stored))
				if c.At != 7 || c.Source != "192.0.2.1" || string(c.Detail) != "detail" || c.Request[15] != byte(c.Seq) {
					t.Errorf("read %+v", c)
				}
				return nil
			}, func(seq int64) error { return fmt.Errorf("orphan %d", seq) })
			if err != nil {
				return err
			}
			for _, seq := range seqs {
				c, err := r.Call(seq)
				if err != nil || c == nil {
					return fmt.Errorf("call %d: %v, %w", seq, c, err)
				}
				var rows []string
				err = r.UsageOfCall(c, func(u *Usage) error {
					rows = append(rows, fmt.Sprintf("%d/%d", u.Key.Buyer, u.Quantity))
					return nil
				})
				if err != nil {
					return err
				}
				found = append(found, fmt.Sprint(rows))
			}
			return intact(r)
		})
		if want := []string{"1:11", "2:0", "3:10", "[1/10 2/20]", "[]", "[3/30]"}; err != nil || !slices.Equal(found, want) {
			t.Errorf("found %v, %v; want %v", found, err, want)
		}
	})
}

func TestFindUsage(t *testing.T) {
	both(t, func(t *testing.T, location string, db Store) {
		var claims []Claim
		for i := range 12 {
			c := of(i+1, int32(i))
			c.Hour += metering.Hour(i % 3)
			c.Timestamp = c.Hour.Start() + metering.Instant(i)
			claims = append(claims, c)
		}
		call(t, writer(db), claims...)
		all := UsageFilter{FirstHour: -1 << 31, LastHour: 1<<31 - 1}
		find := func(f UsageFilter, after string, most int) (quantities []int32, last string) {
			t.Helper()
			err := db.FindUsage(context.Background(), &f, after, func(u *Usage) error {
				if len(quantities) == most {
					return ErrEnough
				}
				quantities, last = append(quantities, u.Quantity), db.Cursor(u)
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			return quantities, last
		}
		var paged []int32
		for after := ""; ; {
			page, last := find(all, after, 5)
			if len(page) == 0 {
				break
			}
			paged, after = append(paged, page...), last
		}
		whole, _ := find(all, "", 99)
		if slices.Sort(paged); len(whole) != 12 || !slices.Equal(paged, []int32{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}) {
			t.Errorf("page by page: %v, at once %v", paged, whole)
		}
		hour := metering.Hour(500_000)
		for _, f := range []struct {
			f    UsageFilter
			want []int32
		}{
			{UsageFilter{FirstHour: hour + 1, LastHour: hour + 1}, []int32{1, 4, 7, 10}},
			{UsageFilter{FirstHour: hour, LastHour: hour + 9, Buyer: 3}, []int32{2}},
			{UsageFilter{FirstHour: hour, LastHour: hour + 9, Region: 2}, nil},
			{UsageFilter{FirstHour: hour, LastHour: hour + 9, Product: 1, From: (hour + 1).Start() + 4, To: (hour + 2).Start() + 5}, []int32{2, 4, 7, 10}},
		} {
			got, _ := find(f.f, "", 99)
			if slices.Sort(got); !slices.Equal(got, f.want) {
				t.Errorf("%+v: %v, want %v", f.f, got, f.want)
			}
		}
		if err := db.FindUsage(context.Background(), &all, "nonsense", nil); !errors.Is(err, ErrCursor) {
			t.Errorf("a cursor that is none: %v", err)
		}
	})
}

// TestCancelledReads: a read ends when its context is done, also one that has begun or waits for others, and the store
// is as good as before.
func TestCancelledReads(t *testing.T) {
	both(t, func(t *testing.T, _ string, db Store) {
		all := UsageFilter{FirstHour: -1 << 31, LastHour: 1<<31 - 1}
		claims := make([]Claim, 3)
		for i := range claims {
			claims[i] = of(i+1, int32(i))
		}
		call(t, writer(db), claims...)

		ctx, cancel := context.WithCancel(context.Background())
		rows := 0
		err := db.FindUsage(ctx, &all, "", func(*Usage) error {
			rows++
			cancel()
			return nil
		})
		if !errors.Is(err, context.Canceled) || rows != 1 {
			t.Errorf("a scan whose context ends at the first row: %v after %d rows", err, rows)
		}
		if err := db.View(ctx, func(*Reader) error { t.Error("a view has begun"); return nil }); !errors.Is(err, context.Canceled) {
			t.Errorf("a view with a context that is done: %v", err)
		}

		ctx, cancel = context.WithCancel(context.Background())
		err = db.View(ctx, func(r *Reader) error {
			cancel()
			_, err := r.number("WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 1000000000) SELECT count(*) FROM n")
			return err
		})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("a statement whose context ends: %v", err)
		}

		ctx, cancel = context.WithCancel(context.Background())
		held, free := make(chan struct{}), make(chan struct{})
		ended := make(chan error)
		most := maxReaders // views at once
		if db.Shared() {
			most = poolSize
		}
		for range most {
			go func() {
				ended <- db.View(context.Background(), func(*Reader) error {
					held <- struct{}{}
					<-free
					return nil
				})
			}()
			<-held
		}
		go func() { ended <- db.View(ctx, func(*Reader) error { return nil }) }()
		cancel()
		if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("a view that waits: %v", err)
		}
		close(free)
		for range most {
			if err := <-ended; err != nil {
				t.Errorf("a view that was held: %v", err)
			}
		}
		rows = 0
		if err := db.FindUsage(context.Background(), &all, "", func(*Usage) error { rows++; return nil }); err != nil || rows != 3 {
			t.Errorf("a scan afterwards: %v after %d rows", err, rows)
		}
	})
}

func TestClientTokens(t *testing.T) {
	both(t, func(t *testing.T, location string, db Store) {
		k := func(workload uint32, hash byte) metering.TokenKey {
			return metering.TokenKey{Workload: workload, Hash: [16]byte{hash}}
		}
		w, now := writer(db), metering.InstantOf(time.Now()) // what is old is deleted in the background
		err := w.Update(func(tx *Tx) error {
			return errors.Join(tx.Window(Window{}), tx.PutClientToken(&ClientToken{Key: k(2, 7), Parameters: [16]byte{1}, Record: metering.RecordID{2}, At: now}),
				tx.PutClientToken(&ClientToken{Key: k(1, 8), Parameters: [16]byte{3}, Record: metering.RecordID{4}, At: now}))
		})
		if err != nil {
			t.Fatal(err)
		}
		w = writer(openAnother(t, location, db))
		err = w.Update(func(tx *Tx) error {
			if err := tx.Window(Window{}); err != nil {
				return err
			}
			found, err := tx.ClientTokens([]metering.TokenKey{k(1, 7), k(2, 7), k(1, 8)})
			if err != nil {
				return err
			}
			if found[0] != nil || found[1] == nil || found[2] == nil || found[1].Record[0] != 2 || found[2].Parameters[0] != 3 || found[2].At != now {
				t.Errorf("found %+v", found)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
}

// TestRevisions: Load brings what has changed since a revision, and an act on an old one is refused.
func TestRevisions(t *testing.T) {
	both(t, func(t *testing.T, location string, db Store) {
		acts := db.Writers()[0]
		act := func(known int64, puts func(*Tx) error) error {
			return acts.Update(func(tx *Tx) error {
				return errors.Join(revise(tx, known, func() error { return puts(tx) }), tx.AppendCall(&Call{Seq: acts.NextCall(), Operation: 16}))
			})
		}
		err := act(0, func(tx *Tx) error {
			return errors.Join(tx.Put(&metering.RegionInfo{ID: 1, Name: "us-east-1", Enabled: true}),
				tx.Put(&metering.Account{ID: 1, AccountID: 111122223333, Seller: true}), tx.Put(&metering.Account{ID: 2, AccountID: 7, Buyer: true}),
				tx.Put(&metering.Product{ID: 1, Seller: 1, Code: "p", ProductID: "prod-1", Type: metering.SaaS, Regions: []metering.Region{1}}))
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := act(0, func(*Tx) error { return nil }); !errors.Is(err, ErrStale) {
			t.Errorf("an act on an old revision: %v", err)
		}
		err = act(1, func(tx *Tx) error {
			return errors.Join(tx.Put(&metering.Account{ID: 2, AccountID: 7, Buyer: true, Name: "Renamed", Suspended: true}),
				tx.Put(&metering.Agreement{ID: 1, Product: 1, Buyer: 2, AgreementID: "a", LicenseARN: "arn", Start: 5}),
				tx.Put(&metering.Customer{Seller: 1, Buyer: 2, Identifier: "cust"}))
		})
		if err != nil {
			t.Fatal(err)
		}
		for since, want := range map[int64]string{0: "1111122223333 27 product 1 agreement cust ", 1: "27 agreement cust ", 2: ""} {
			err := openView(t, location, db, func(r *Reader) error {
				got := ""
				revision, err := r.Load(Revision{N: since}, func(row any) error {
					switch v := row.(type) {
					case *metering.Account:
						got += fmt.Sprint(v.ID, v.AccountID, " ")[:1] + fmt.Sprint(v.AccountID, " ")
					case *metering.Product:
						got += fmt.Sprint("product ", len(v.Regions), " ")
					case *metering.Agreement:
						got += "agreement "
					case *metering.Customer:
						got += v.Identifier + " "
					}
					return nil
				})
				if err != nil || revision.N != 2 || got != want {
					t.Errorf("since %d: %q at revision %d, %v; want %q", since, got, revision, err, want)
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		}
		if p, err := db.Pulse(context.Background(), Revision{}); err != nil || db.Shared() && p.Revision != 2 {
			t.Errorf("pulse %+v, %v", p, err)
		}
	})
}

// revise changes the catalogue that is known by its number alone.
func revise(tx *Tx, known int64, puts func() error) error {
	_, err := tx.Revise(Revision{N: known}, puts)
	return err
}

func openView(t *testing.T, _ string, db Store, f func(*Reader) error) error {
	t.Helper()
	return db.View(context.Background(), f)
}

func TestCreateTwice(t *testing.T) {
	both(t, func(t *testing.T, location string, db Store) {
		if err := Create(location, Meta{Created: 2}, nothing); !errors.Is(err, ErrExist) {
			t.Errorf("created again: %v", err)
		}
		if there, err := Exists(location); !there || err != nil {
			t.Errorf("it is there: %v, %v", there, err)
		}
		if db.Meta().Created != 1 {
			t.Errorf("meta %+v", db.Meta())
		}
		other := filepath.Join(t.TempDir(), "other")
		if db.Shared() {
			other = pgtest.URL(t, other)
		}
		if there, err := Exists(other); there || err != nil {
			t.Errorf("of nothing: %v, %v", there, err)
		}
		if _, err := Open(other, Options{}); !errors.Is(err, ErrNotExist) {
			t.Errorf("opening nothing: %v", err)
		}
	})
}
