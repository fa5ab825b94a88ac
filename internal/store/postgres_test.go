package store

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/meterd/meterd/internal/iam"
	"github.com/meterd/meterd/internal/metering"
	"github.com/meterd/meterd/internal/pgtest"
)

// newPostgres makes a ledger in the database and opens it.
func newPostgres(t *testing.T) (url string, db *postgresStore) {
	t.Helper()
	url = pgtest.URL(t, t.Name())
	if err := Create(url, Meta{Secret: []byte("secret")}, nothing); err != nil {
		t.Fatal(err)
	}
	return url, openStore(t, url).(*postgresStore)
}

func (db *postgresStore) mustExec(t *testing.T, sql string, args ...any) {
	t.Helper()
	if _, err := db.pool.Exec(t.Context(), sql, args...); err != nil {
		t.Fatal(err)
	}
}

// TestReadOlderSchema: who only reads a database that an earlier version has left sees the columns that it lacks with
// their defaults.
func TestReadOlderSchema(t *testing.T) {
	url, db := newPostgres(t)
	want := &Principal{ID: 1, Account: 1, Kind: iam.User, Name: "u", Permissions: iam.Permissions{Allow: []string{"*"}, Deny: []string{}}}
	if err := writer(db).Update(func(tx *Tx) error {
		return revise(tx, 0, func() error {
			return errors.Join(tx.Put(&metering.Account{ID: 1, AccountID: 1, Seller: true}), tx.Put(want))
		})
	}); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	older := openStore(t, url).(*postgresStore)
	older.mustExec(t, "ALTER TABLE principal DROP COLUMN policy")
	older.mustExec(t, "UPDATE state SET n = 6 WHERE name IN ('schema', 'least')")
	var got *Principal
	if err := Read(url, func(r *Reader, _ Meta) error {
		_, err := r.Load(Revision{}, func(row any) error {
			if p, is := row.(*Principal); is {
				got = p
			}
			return nil
		})
		return err
	}); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("read %+v, %v, want %+v", got, err, want)
	}
}

// TestNewerSchema: a node whose tables have been changed by a newer version goes on while that says it may, and a
// start is refused.
func TestNewerSchema(t *testing.T) {
	url, db := newPostgres(t)
	db.mustExec(t, "UPDATE state SET n = 99 WHERE name = 'schema'")
	call(t, writer(db), of(1, 1))
	if _, err := Open(url, Options{}); !errors.Is(err, errTooOld) || !strings.Contains(err.Error(), "schema 99") {
		t.Errorf("a start on a newer schema: %v", err)
	}
	db.mustExec(t, "UPDATE state SET n = 99 WHERE name = 'least'")
	if err := writer(db).Update(func(*Tx) error { return nil }); !errors.Is(err, errTooOld) {
		t.Errorf("writing to tables that this version does not know: %v", err)
	}
	if _, err := db.Pulse(context.Background(), Revision{}); !errors.Is(err, errTooOld) {
		t.Errorf("pulse: %v", err)
	}
	for format, want := range map[string]string{"1": "reads formats from 2 on", "4": "has format 4, made by a newer version of meterd"} {
		db.mustExec(t, "UPDATE meta SET value = $1 WHERE name = 'ledger'", []byte(`{"format":`+format+`}`))
		if _, err := Open(url, Options{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("a start on format %s: %v", format, err)
		}
	}
}

// TestMigrate has several nodes of a newer version start at once on tables of the version before, beside one of that.
func TestMigrate(t *testing.T) {
	url, old := newPostgres(t)
	before := migrations
	t.Cleanup(func() { migrations = before })
	if err := old.Close(); err != nil {
		t.Fatal(err)
	}
	migrations = append(append([]migration{}, before...), migration{least: 1, statements: []string{"ALTER TABLE product ADD COLUMN IF NOT EXISTS note text"}},
		migration{least: 2, statements: []string{"CREATE TABLE IF NOT EXISTS extra (id int PRIMARY KEY)"}})
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			db, err := Open(url, Options{})
			if err != nil {
				t.Error(err)
				return
			}
			call(t, writer(db), of(1, 1))
			if err := db.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	err := Read(url, func(r *Reader, _ Meta) error {
		for name, want := range map[string]int64{"schema": int64(len(before)) + 2, "least": before[len(before)-1].least} {
			if n, err := r.number("SELECT n FROM state WHERE name = $1", name); n != want || err != nil {
				t.Errorf("%s is %d, want %d: %v", name, n, want, err)
			}
		}
		_, err := r.number("SELECT count(note) FROM product")
		return err
	})
	if err != nil {
		t.Error(err)
	}
	migrations = before
	if _, err := Open(url, Options{}); !errors.Is(err, errTooOld) {
		t.Errorf("a start of the version before: %v", err)
	}
}

func TestReadMigrations(t *testing.T) {
	for i, m := range migrations {
		if len(m.statements) == 0 || m.least < 1 || m.least > int64(i+1) {
			t.Errorf("migration %d: least %d, %d statements", i+1, m.least, len(m.statements))
		}
	}
}

// TestLease: one at a time holds it, and one who has lost it without knowing changes nothing.
func TestLease(t *testing.T) {
	_, db := newPostgres(t)
	ctx := t.Context()
	take := func(holder string) *lease {
		t.Helper()
		l, err := takeLease(ctx, db.pool, "work", holder)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	write := func(l *lease, text string) error {
		return l.do(ctx, db.pool, func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, "INSERT INTO meta (name, value) VALUES ($1, '')", text)
			return err
		})
	}
	first := take("first")
	if take("second") != nil {
		t.Error("two hold one lease")
	}
	if err := write(first, "a"); err != nil {
		t.Error(err)
	}
	db.mustExec(t, "UPDATE lease SET expires = clock_timestamp() - interval '1 second'") // the first is away for long
	second := take("second")
	if second == nil || second.token <= first.token {
		t.Fatalf("tokens %+v and %+v", first, second)
	}
	if err := write(first, "b"); !errors.Is(err, errLeaseLost) {
		t.Errorf("the first writes again: %v", err)
	}
	if err := errors.Join(write(second, "c"), first.release(ctx, db.pool)); err != nil {
		t.Error(err)
	}
	if take("third") != nil {
		t.Error("who has lost a lease has released it")
	}
	db.mustExec(t, "UPDATE lease SET token = token - 1, holder = 'first'") // a backup from before the second's time is restored
	if other := take("first"); other.token != second.token {
		t.Fatalf("tokens %+v and %+v", other, second)
	}
	if err := write(second, "d"); !errors.Is(err, errLeaseLost) {
		t.Errorf("who holds a lease by its token alone writes: %v", err)
	}
	db.mustExec(t, "UPDATE lease SET holder = 'second'")
	if err := second.release(ctx, db.pool); err != nil || take("third") == nil {
		t.Errorf("a released lease cannot be taken: %v", err)
	}
}

func (db *postgresStore) partitions(t *testing.T) map[string]bool {
	t.Helper()
	rows, err := db.pool.Query(t.Context(), "SELECT c.relname::text FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'usage'::regclass")
	if err != nil {
		t.Fatal(err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]bool{}
	for _, n := range names {
		all[n] = true
	}
	return all
}

// TestHousekeeping: partitions are there before they are needed, those that never were are dropped, and old
// ClientTokens are deleted.
func TestHousekeeping(t *testing.T) {
	_, db := newPostgres(t)
	now := time.Now()
	long := dayOf(metering.InstantOf(now).Hour()) - 100
	if err := db.makePartitions(t.Context(), map[int32]struct{}{long: {}, long + 1: {}}); err != nil {
		t.Fatal(err)
	}
	old := of(1, 1)
	old.Hour = metering.Hour(long * 24)
	old.Timestamp = old.Hour.Start()
	call(t, writer(db), old)
	db.mustExec(t, "INSERT INTO client_token SELECT n, '\\x00', '\\x00', '\\x00', 5 FROM generate_series(1, 2500) n")
	db.mustExec(t, "INSERT INTO client_token VALUES (1, '\\x01', '\\x00', '\\x00', $1)", now.UnixMilli())
	db.mustExec(t, "UPDATE lease SET expires = clock_timestamp() - interval '1 second'")
	if err := db.clean(t.Context()); err != nil {
		t.Fatal(err)
	}
	there := db.partitions(t)
	for day := range int32(9) {
		if name := partitionName(dayOf(metering.InstantOf(now).Hour()) - 1 + day); !there[name] {
			t.Errorf("%s is not there", name)
		}
	}
	if !there[partitionName(long)] || there[partitionName(long+1)] {
		t.Errorf("of two old partitions, one with usage, there are %v", there)
	}
	var tokens int
	if err := db.pool.QueryRow(t.Context(), "SELECT count(*) FROM client_token").Scan(&tokens); err != nil || tokens != 1 {
		t.Errorf("%d tokens are left, %v", tokens, err)
	}
}

// TestDetach: an old partition that is empty is dropped beside a default one, and when somebody was interrupted at it.
func TestDetach(t *testing.T) {
	url, ctx := pgtest.URL(t, t.Name()), t.Context()
	if err := Create(url, Meta{}, nothing); err != nil {
		t.Fatal(err)
	}
	err := onePostgres(url, func(ctx context.Context, conn *pgx.Conn) error { // the store's own housekeeping is to stay away
		_, err := takeLease(ctx, conn, "housekeeping", "another node")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	db := openStore(t, url).(*postgresStore)
	long := dayOf(metering.InstantOf(time.Now()).Hour()) - 100
	if err := db.makePartitions(ctx, map[int32]struct{}{long: {}, long + 1: {}}); err != nil {
		t.Fatal(err)
	}
	reader, err := db.pool.Begin(ctx)
	if err == nil {
		_, err = reader.Exec(ctx, "SELECT 1 FROM usage")
	}
	if err != nil {
		t.Fatal(err)
	}
	err = onePostgres(url, func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, "SET statement_timeout = '200ms'")
		if err == nil {
			_, err = conn.Exec(ctx, "ALTER TABLE usage DETACH PARTITION "+partitionName(long)+" CONCURRENTLY")
		}
		return err
	})
	if !refusedWith(err, "57014") {
		t.Fatalf("a reader does not hold up who detaches: %v", err)
	}
	if err := reader.Rollback(ctx); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		before string
		day    int32
	}{{"SELECT 1", long}, {"CREATE TABLE strange PARTITION OF usage DEFAULT", long + 1}} {
		db.mustExec(t, step.before)
		if err := db.detach(ctx, partitionName(step.day)); err != nil {
			t.Error(err)
		}
		if there := db.partitions(t); there[partitionName(step.day)] {
			t.Errorf("there are %v", there)
		}
	}
}

// TestUsageByHand: a table that was made before is left as it is, in whatever form, and used.
func TestUsageByHand(t *testing.T) {
	url := pgtest.URL(t, t.Name())
	before := migrations
	t.Cleanup(func() { migrations = before })
	first := migration{least: before[0].least}
	var usage string
	for _, s := range before[0].statements {
		if sql := withoutComments(s); strings.Contains(sql, "EXISTS usage (") {
			usage = strings.NewReplacer(") PARTITION BY RANGE (hour)", ")", "(hour, subject, meter)", "(subject, hour, meter)").Replace(sql)
			s = "CREATE TABLE IF NOT EXISTS usage IN WAYS OF ITS OWN"
		}
		first.statements = append(first.statements, s)
	}
	migrations = append([]migration{first}, before[1:]...)
	err := onePostgres(url, func(ctx context.Context, conn *pgx.Conn) error {
		var schema string
		err := conn.QueryRow(ctx, "SHOW search_path").Scan(&schema)
		if err == nil {
			_, err = conn.Exec(ctx, "CREATE SCHEMA "+schema)
		}
		if err == nil {
			_, err = conn.Exec(ctx, usage)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := Create(url, Meta{}, nothing); err != nil {
		t.Fatal(err)
	}
	db := openStore(t, url).(*postgresStore)
	if got := states(call(t, writer(db), of(1, 10), of(2, 20))) + states(call(t, writer(db), of(2, 21), of(3, 30))); got != "granted granted taken:20 granted " {
		t.Error(got)
	}
	if is, err := db.partitioned(t.Context()); is || err != nil || len(db.partitions(t)) > 0 {
		t.Errorf("partitioned: %v, %v, %v", is, err, db.partitions(t))
	}
	if err := db.clean(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestLastTime: a store that is opened knows the time of the latest transaction of any writer.
func TestLastTime(t *testing.T) {
	url, db := newPostgres(t)
	other := openStore(t, url)
	at := func(w Writer, times ...metering.Instant) {
		t.Helper()
		err := w.Update(func(tx *Tx) error {
			for i, at := range times {
				if err := tx.AppendCall(&Call{Seq: w.NextCall() + int64(i), At: at}); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	last := func(want metering.Instant) {
		t.Helper()
		if got := openStore(t, url).(*postgresStore).last; got != want {
			t.Errorf("the latest transaction was at %d, want %d", got, want)
		}
	}
	last(0)
	at(db.Writers()[1], 5)
	at(db.Writers()[1], 7, 7, 7)
	last(7)
	at(other.Writers()[2], 6)
	last(7)
	at(other.Writers()[2])
	at(db.Writers()[2], 9, 9)
	at(db.Writers()[2])
	at(db.Writers()[2])
	last(9)
	at(other.Writers()[0], 11)
	last(11)
}

// TestLookUps: keys that are taken are looked up, also in a table of which the planner knows nothing yet, rather than
// looked for among all that there are. So are ClientTokens.
func TestLookUps(t *testing.T) {
	_, db := newPostgres(t)
	w := writer(db)
	const rows, replays = 20_000, 300
	hour, now := metering.InstantOf(time.Now()).Hour(), metering.InstantOf(time.Now())
	token := func(n int) *ClientToken {
		k := &ClientToken{Key: metering.TokenKey{Workload: uint32(1 + n%50)}, At: now}
		binary.BigEndian.PutUint32(k.Key.Hash[:], uint32(n))
		return k
	}
	// fetched counts the rows that the transaction has read so far.
	fetched := func(tx *Tx, tables string) (n int) {
		t.Helper()
		err := tx.tx.(*postgresTx).conn.QueryRow(t.Context(), "SELECT coalesce(sum(coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0)), 0) FROM pg_stat_xact_user_tables WHERE relname LIKE $1", tables).Scan(&n)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	for from := 0; from < rows; from += 1000 {
		var claims []Claim
		for n := from; n < from+1000; n++ {
			c := of(n, 1)
			c.Hour = hour - metering.Hour(n%3)
			c.Timestamp = c.Hour.Start()
			claims = append(claims, c)
		}
		err := w.Update(func(tx *Tx) error {
			for i := range claims {
				claims[i].Seq = UsageSeq(w.NextCall()+int64(i/25), i%25)
				if err := tx.PutClientToken(token(from + i)); err != nil {
					return err
				}
			}
			return tx.Claim(claims)
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, replayed := range []int{replays, 1} {
			again := slices.Clone(claims[:replayed])
			err = w.Update(func(tx *Tx) error {
				var keys []metering.TokenKey
				for i := range again {
					keys = append(keys, token(from+i).Key)
				}
				tokens, usage := fetched(tx, "client_token"), fetched(tx, "usage_%") // of transactions before
				found, err := tx.ClientTokens(keys)
				if err != nil || slices.Contains(found, nil) {
					return fmt.Errorf("a token was not found: %w", err)
				}
				if n := fetched(tx, "client_token") - tokens; n > 2*replayed {
					t.Errorf("of %d, %d rows were read to find %d ClientTokens", from+1000, n, replayed)
				}
				if err := tx.Claim(again); err != nil {
					return err
				}
				if n := fetched(tx, "usage_%") - usage; n > 2*replayed {
					t.Errorf("of %d, %d rows were read to find %d keys", from+1000, n, replayed)
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestReadByKeys: who copies reads the rows of each call, and not all of them each time.
func TestReadByKeys(t *testing.T) {
	url, db := newPostgres(t)
	const calls, each, some = 200, 25, 20
	for n := range calls {
		var claims []Claim
		for i := range each {
			claims = append(claims, of(n*each+i, 1))
		}
		call(t, writer(db), claims...)
	}
	err := Read(url, func(r *Reader, _ Meta) error {
		if err := readByKeys(r); err != nil {
			return err
		}
		var first []Call
		err := r.query(r.callColumns()+"WHERE usage_rows > 0 ORDER BY seq LIMIT $1", func(s columns) error {
			first = append(first, Call{})
			scanCall(s, &first[len(first)-1])
			return nil
		}, some)
		found := 0
		for i := range first {
			err = errors.Join(err, r.UsageOfCall(&first[i], func(*Usage) error { found++; return nil }))
		}
		read, err2 := r.number("SELECT sum(coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0))::bigint FROM pg_stat_xact_user_tables WHERE relname LIKE 'usage_%'")
		if found != some*each || read > 2*some*each {
			t.Errorf("to find %d rows of %d calls, of which there are %d, %d were read", found, len(first), some*each, read)
		}
		return errors.Join(err, err2)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestPartitionsOnDemand: a record for a day without a partition makes it, also when many come at once.
func TestPartitionsOnDemand(t *testing.T) {
	url, db := newPostgres(t)
	other := openStore(t, url)
	var all sync.WaitGroup
	for i, w := range []Writer{db.Writers()[1], db.Writers()[2], other.Writers()[1], other.Writers()[2]} {
		all.Go(func() {
			var claims []Claim
			for day := range 5 {
				c := of(10*i+day, 1)
				c.Hour += metering.Hour(24 * day)
				c.Timestamp = c.Hour.Start()
				claims = append(claims, c)
			}
			if got := states(call(t, w, claims...)); got != strings.Repeat("granted ", 5) {
				t.Error(got)
			}
		})
	}
	all.Wait()
}

// TestVerifyingReads damages a ledger in ways that reading it for verification must notice.
func TestVerifyingReads(t *testing.T) {
	for name, c := range map[string]struct{ sql, says string }{
		"subject":  {"UPDATE usage SET subject = subject + 4", "its subject is"},
		"quantity": {"UPDATE usage SET quantity = -1", "quantity is -1"},
		"orphan":   {"DELETE FROM call", "orphan"},
		"lost":     {"DELETE FROM usage", "wrote 1 but has 0"},
		"request":  {"UPDATE call SET request = ''", "length(request) is 0"},
	} {
		t.Run(name, func(t *testing.T) {
			url, db := newPostgres(t)
			call(t, writer(db), of(1, 1))
			db.mustExec(t, c.sql)
			var found []string
			note := func(format string, args ...any) { found = append(found, fmt.Sprintf(format, args...)) }
			err := Read(url, func(r *Reader, _ Meta) error {
				return errors.Join(r.Check(note), r.Calls(func(c *Call, stored uint32) error {
					if n := map[uint32]int{0: 0, 1: 1}[stored]; n != c.UsageRows {
						note("wrote %d but has %d", c.UsageRows, n)
					}
					return nil
				}, func(seq int64) error { note("orphan %d", seq); return nil }))
			})
			if err != nil || !strings.Contains(strings.Join(found, "\n"), c.says) {
				t.Errorf("found %q, %v; want %q", found, err, c.says)
			}
		})
	}
}

// TestAway: which failures to find and open a ledger may pass by themselves.
func TestAway(t *testing.T) {
	s := pgtest.Start(t, "max_connections=10", "superuser_reserved_connections=0")
	if err := Create(s.URL(), Meta{}, nothing); err != nil {
		t.Fatal(err)
	}
	if err := s.Exec("CREATE ROLE reader LOGIN"); err != nil {
		t.Fatal(err)
	}
	check := func(name, url string, away bool) {
		t.Helper()
		_, err := Exists(url)
		if err == nil {
			_, err = Open(url, Options{})
		}
		if err == nil || Away(err) != away {
			t.Errorf("%s: away is %v for %v", name, Away(err), err)
		}
	}
	as := func(old, new string) string { return strings.Replace(s.URL(), old, new, 1) }
	check("no such role", as("postgres@", "nobody@"), false)
	check("no such database", as("/postgres?", "/other?"), false)
	check("no ledger", s.URL()+"&search_path=other", false)
	check("no privilege", as("postgres@", "reader@"), false)
	check("no TLS there", as("disable", "require"), false)
	check("a setting that is refused", s.URL()+"&synchronous_commit=off", false)
	check("a pooler", pgtest.NewBouncer(t, s, "transaction").URL(s.URL()), false)
	release := s.Hog(t)
	check("no connection left", s.URL(), true)
	release()
	check("a standby", s.Standby(t).URL(), true)
	s.Stop("fast")
	check("stopped", s.URL(), true)
	check("no socket", "postgres:///postgres?host=/nowhere&user=postgres", true)
	for name, c := range map[string]struct {
		err  error
		away bool
	}{
		"starting":             {&pgconn.PgError{Code: "57P03"}, true},
		"stopping":             {&pgconn.PgError{Code: "57P01"}, true},
		"a wrong password":     {&pgconn.PgError{Code: "28P01"}, false},
		"no code":              {&pgconn.PgError{}, false},
		"an unknown name":      {fmt.Errorf("connecting: %w", &net.DNSError{Err: "no such host", IsNotFound: true}), true},
		"no answer":            {fmt.Errorf("connecting: %w", context.DeadlineExceeded), true},
		"a refused TLS client": {&net.OpError{Op: "remote error", Err: tls.AlertError(42)}, false},
		"no such file":         {&os.PathError{Op: "open", Err: syscall.ENOENT}, false},
		"a missing ledger":     {ErrNotExist, false},
	} {
		if Away(c.err) != c.away {
			t.Errorf("%s: away is %v", name, !c.away)
		}
	}
}
