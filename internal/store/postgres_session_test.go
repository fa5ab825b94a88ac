package store

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/meterd/meterd/internal/pgtest"
)

// TestURLs: what would break what meterd relies on is refused before a connection is made, in words that name it.
func TestURLs(t *testing.T) {
	for query, says := range map[string]string{
		"":                                     "",
		"application_name=a":                   "",
		"search_path=a,public&role=b":          "",
		"statement_timeout=60000":              "",
		"citus.max_cached_conns_per_worker=16": "",
		"options=-c%20search_path%3Da%20%20--lock-timeout%3D5s":                 "",
		"target_session_attrs=read-write&connect_timeout=5&sslmode=verify-full": "",
		"default_query_exec_mode=cache_statement":                               "",
		"default_query_exec_mode=simple_protocol":                               "default_query_exec_mode=simple_protocol",
		"default_query_exec_mode=exec":                                          "default_query_exec_mode=exec",
		"default_query_exec_mode=describe_exec":                                 "default_query_exec_mode=describe_exec",
		"default_query_exec_mode=cache_describe":                                "default_query_exec_mode=cache_describe",
		"default_query_exec_mode=x":                                             "default_query_exec_mode",
		"statement_cache_capacity=0":                                            "statement_cache_capacity=0",
		"synchronous_commit=off":                                                "sets synchronous_commit",
		"synchronous_commit=on":                                                 "sets synchronous_commit",
		"client_min_messages=error":                                             "sets client_min_messages",
		"client_encoding=LATIN1":                                                "sets client_encoding",
		"default_transaction_isolation=serializable":                            "sets default_transaction_isolation",
		"session_replication_role=replica":                                      "sets session_replication_role",
		"pool_max_conns=50":                                                     "sets pool_max_conns",
		"options=-csynchronous_commit%3Doff":                                    "sets synchronous_commit",
		"options=-c%20search_path%3Da%20-c%20Client-Min-Messages%3Derror":       "sets client_min_messages",
		"options=-B%205":                                                        "options other than",
		"options=-c%20search_path%3Da%5C%20b":                                   "options other than",
		"options=--cluster":                                                     "options other than",
		"sslmode=sometimes":                                                     "sslmode is invalid",
		"password=a&synchronous_commit=off":                                     "sets a parameter",
	} {
		_, err := postgresConfig("postgres://127.0.0.1:1/x?" + query)
		switch {
		case says == "" && err != nil:
			t.Errorf("%s: %v", query, err)
		case says != "" && (err == nil || !strings.Contains(err.Error(), says)):
			t.Errorf("%s: %v, want it to say %q", query, err, says)
		}
	}
	t.Setenv("PGOPTIONS", "-c synchronous_commit=off")
	if _, err := postgresConfig("postgres://127.0.0.1:1/x"); err == nil || !strings.Contains(err.Error(), "PGOPTIONS, sets synchronous_commit") {
		t.Errorf("PGOPTIONS: %v", err)
	}
}

// transactionHas returns settings as they are in a transaction of the writer's that commits.
func transactionHas(t *testing.T, w Writer, names ...string) map[string]string {
	t.Helper()
	values := map[string]string{}
	err := w.Update(func(tx *Tx) error {
		p := tx.tx.(*postgresTx)
		if err := p.begin(); err != nil {
			return err
		}
		for _, name := range names {
			var value string
			if err := p.conn.QueryRow(t.Context(), "SELECT current_setting($1)", name).Scan(&value); err != nil {
				return err
			}
			values[name] = value
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return values
}

// TestSettings: whatever role, database, server and session say, each transaction that is acknowledged waits for the
// disk and hears of it if the server has not waited for the standby.
func TestSettings(t *testing.T) {
	s := pgtest.Start(t)
	url := s.URL() + "&search_path=meterd"
	if err := Create(url, Meta{}, nothing); err != nil {
		t.Fatal(err)
	}
	safe := map[string]string{"synchronous_commit": "on", "client_min_messages": "notice"}
	names := slices.Sorted(maps.Keys(safe))
	db := openStore(t, url).(*postgresStore)
	for _, sql := range []string{
		"ALTER SYSTEM SET synchronous_commit = off", "ALTER SYSTEM SET client_min_messages = error", "SELECT pg_reload_conf()",
		"ALTER DATABASE postgres SET synchronous_commit = local", "ALTER DATABASE postgres SET client_min_messages = error",
		"ALTER ROLE postgres SET synchronous_commit = remote_write", "ALTER ROLE postgres SET client_min_messages = error",
		"ALTER ROLE postgres SET client_encoding = LATIN1", "ALTER ROLE postgres SET timezone = 'Asia/Tokyo'", "ALTER ROLE postgres SET search_path = nowhere",
		"ALTER ROLE postgres SET default_transaction_isolation = 'serializable'", "ALTER ROLE postgres SET idle_in_transaction_session_timeout = 0",
	} {
		if err := s.Exec(sql); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Wait("SELECT current_setting('synchronous_commit', true) <> 'on'"); err != nil {
		t.Fatal(err)
	}
	if got := transactionHas(t, writer(db), names...); !maps.Equal(got, safe) {
		t.Errorf("after a reload: %v", got)
	}
	// A pooler leaves the session as somebody else had it.
	for _, sql := range []string{"SET synchronous_commit = off", "SET client_min_messages = error"} {
		if _, err := writer(db).(*postgresWriter).conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	if got := transactionHas(t, writer(db), names...); !maps.Equal(got, safe) {
		t.Errorf("in a session that others have used: %v", got)
	}
	later := openStore(t, url).(*postgresStore)
	want := maps.Clone(safe)
	maps.Copy(want, map[string]string{"client_encoding": "UTF8", "TimeZone": "UTC", "search_path": "meterd", "idle_in_transaction_session_timeout": "15s"})
	if got := transactionHas(t, writer(later), slices.Sorted(maps.Keys(want))...); !maps.Equal(got, want) {
		t.Errorf("on a new connection: %v", got)
	}
	if err := s.Exec("ALTER ROLE postgres SET synchronous_commit = remote_apply"); err != nil {
		t.Fatal(err)
	}
	if got := transactionHas(t, writer(openStore(t, url)), "synchronous_commit"); got["synchronous_commit"] != "remote_apply" {
		t.Errorf("what waits for more than the disk has become %v", got)
	}
	call(t, writer(later), of(1, 1))
}

// TestWarningKept: a commit that the server has stopped waiting for its standby for is not taken as one, though the role
// would not hear of it.
func TestWarningKept(t *testing.T) {
	s := pgtest.Start(t)
	url := s.URL()
	if err := Create(url, Meta{}, nothing); err != nil {
		t.Fatal(err)
	}
	if err := s.Exec("ALTER ROLE postgres SET client_min_messages = error"); err != nil {
		t.Fatal(err)
	}
	db := openStore(t, url).(*postgresStore)
	for _, sql := range []string{"ALTER SYSTEM SET synchronous_standby_names = 'nobody'", "SELECT pg_reload_conf()"} {
		if err := s.Exec(sql); err != nil {
			t.Fatal(err)
		}
	}
	// The server heeds the setting a moment later: when the first commit waits.
	var enough atomic.Bool
	var result error
	probed, updated := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(probed)
		for !enough.Load() && s.Exec("COMMENT ON TABLE meta IS ''") == nil {
		}
	}()
	if err := s.Wait("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"); err != nil {
		t.Fatal(err)
	}
	enough.Store(true)
	go func() {
		defer close(updated)
		result = writer(db).Update(func(tx *Tx) error { return nil })
	}()
	for _, ended := range []chan struct{}{probed, updated} {
		for waits := true; waits; {
			select {
			case <-ended:
				waits = false
			default:
				if err := s.Exec("SET synchronous_commit = local; SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	var unknown *CommitError
	if !errors.As(result, &unknown) {
		t.Errorf("a commit that no standby has: %v", result)
	}
}

// TestUnsafeServer: a database that would lose what was acknowledged is refused at start, and while nodes are connected.
func TestUnsafeServer(t *testing.T) {
	unsafe := pgtest.Start(t, "fsync=off")
	if err := Create(unsafe.URL(), Meta{}, nothing); err == nil || !strings.Contains(err.Error(), "fsync=off") {
		t.Errorf("fsync=off: %v", err)
	}
	s := pgtest.Start(t)
	if err := Create(s.URL(), Meta{}, nothing); err != nil {
		t.Fatal(err)
	}
	db := openStore(t, s.URL()).(*postgresStore)
	call(t, writer(db), of(1, 1))
	id := writer(db).(*postgresWriter).id
	for _, c := range []struct {
		says, does, undoes string
		refuses            bool // in the transaction itself, not only in the pulse
	}{
		{"fsync=off", "ALTER SYSTEM SET fsync = off", "ALTER SYSTEM RESET fsync", true},
		{"full_page_writes=off", "ALTER SYSTEM SET full_page_writes = off", "ALTER SYSTEM RESET full_page_writes", true},
		{"zero_damaged_pages=on", "ALTER SYSTEM SET zero_damaged_pages = on", "ALTER SYSTEM RESET zero_damaged_pages", false},
		{"ignore_checksum_failure=on", "ALTER SYSTEM SET ignore_checksum_failure = on", "ALTER SYSTEM RESET ignore_checksum_failure", false},
		{"the table call is unlogged", "ALTER TABLE call SET UNLOGGED", "ALTER TABLE call SET LOGGED", false},
		{"is unlogged", "ALTER TABLE " + partitionName(dayOf(of(1, 1).Hour)) + " SET UNLOGGED", "ALTER TABLE " + partitionName(dayOf(of(1, 1).Hour)) + " SET LOGGED", false},
	} {
		change := func(sql string, done func() bool) {
			t.Helper()
			if err := errors.Join(s.Exec(sql), s.Exec("SELECT pg_reload_conf()")); err != nil {
				t.Fatal(err)
			}
			for !done() {
				if t.Context().Err() != nil {
					t.Fatal("the change has no effect")
				}
			}
		}
		refused := func(err error) bool { return errors.Is(err, errUnsafe) && strings.Contains(err.Error(), c.says) }
		change(c.does, func() bool { _, err := db.Pulse(context.Background(), Revision{}); return refused(err) })
		if c.refuses {
			var unavailable *UnavailableError
			// The writer's own process may hear of it later than that of the pulse.
			change("SELECT 1", func() bool {
				err := writer(db).Update(func(tx *Tx) error { return nil })
				return errors.As(err, &unavailable) && refused(err)
			})
		}
		if _, err := Open(s.URL(), Options{}); !refused(err) {
			t.Errorf("%s at start: %v", c.says, err)
		}
		change(c.undoes, func() bool { _, err := db.Pulse(context.Background(), Revision{}); return err == nil })
		change("SELECT 1", func() bool { return writer(db).Update(func(tx *Tx) error { return nil }) == nil })
	}
	call(t, writer(db), of(2, 1))
	if now := writer(db).(*postgresWriter).id; now != id {
		t.Errorf("writer %d has become %d", id, now)
	}
}

// TestEncoding: a database that could not store every character takes no ledger and no copy of one, and what was made
// there before this was asked is not opened, but can be read.
func TestEncoding(t *testing.T) {
	s := pgtest.Start(t)
	folder := t.TempDir()
	if err := Create(folder, Meta{}, nothing); err != nil {
		t.Fatal(err)
	}
	in := func(database string) string { return strings.Replace(s.URL(), "/postgres?", "/"+database+"?", 1) }
	encode := func(database, encoding string) { // for the connections that are made from now on
		t.Helper()
		if err := s.Exec("UPDATE pg_database SET encoding = pg_char_to_encoding('" + encoding + "') WHERE datname = '" + database + "'"); err != nil {
			t.Fatal(err)
		}
	}
	refused := func(what string, err error) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), "the encoding of the database is EUC_JP") || !strings.Contains(err.Error(), "CREATE DATABASE meterd ENCODING 'UTF8'") {
			t.Errorf("%s: %v", what, err)
		}
	}
	copied := func(database string) error {
		_, err := Copy(folder, in(database), func(Copied) {})
		return err
	}
	for _, database := range []string{"ledger", "copy"} {
		if err := s.Exec("CREATE DATABASE " + database + " ENCODING 'EUC_JP' LOCALE 'C' TEMPLATE template0"); err != nil {
			t.Fatal(err)
		}
		refused("create", Create(in(database), Meta{}, nothing))
		refused("copy", copied(database))
		if exists, err := Exists(in(database)); exists || err != nil {
			t.Errorf("it exists: %v, %v", exists, err)
		}
		encode(database, "UTF8")
	}
	if err := errors.Join(Create(in("ledger"), Meta{}, nothing), copied("copy")); err != nil {
		t.Fatal(err)
	}
	encode("ledger", "EUC_JP")
	encode("copy", "EUC_JP")
	_, err := Open(in("ledger"), Options{})
	refused("open", err)
	refused("copy more", copied("copy"))
	refused("open the copy", withCopy(in("copy"), true, func() error { return nil }))
	if err := Read(in("ledger"), func(*Reader, Meta) error { return nil }); err != nil {
		t.Error(err)
	}
	// The statement that the message gives makes a database that is taken.
	if err := s.Exec("CREATE DATABASE meterd ENCODING 'UTF8' LOCALE 'C' TEMPLATE template0"); err != nil {
		t.Fatal(err)
	}
	if err := Create(in("meterd"), Meta{}, nothing); err != nil {
		t.Error(err)
	}
}

// TestPgBouncer: in session mode it works, search_path and all; the other modes are refused by their name.
func TestPgBouncer(t *testing.T) {
	s := pgtest.Start(t)
	place := s.URL() + "&search_path=meterd"
	if err := Create(place, Meta{}, nothing); err != nil {
		t.Fatal(err)
	}
	for _, mode := range []string{"transaction", "statement"} {
		url := pgtest.NewBouncer(t, s, mode).URL(place)
		for name, f := range map[string]func() error{
			"open":   func() error { _, err := Open(url, Options{}); return err },
			"create": func() error { return Create(url+"2", Meta{}, nothing) },
			"read":   func() error { return Read(url, func(*Reader, Meta) error { return nil }) },
			"exists": func() error { _, err := Exists(url); return err },
		} {
			if err := f(); err == nil || !strings.Contains(err.Error(), "PgBouncer does with pool_mode=transaction") {
				t.Errorf("%s in %s mode: %v", name, mode, err)
			}
		}
	}
	url := pgtest.NewBouncer(t, s, "session").URL(place)
	if err := Create(url+"2", Meta{}, nothing); err != nil {
		t.Error(err)
	}
	db := openStore(t, url).(*postgresStore)
	if got := states(call(t, writer(db), of(1, 10))) + states(call(t, writer(db), of(1, 10))); got != "granted taken:10 " {
		t.Error(got)
	}
	want := map[string]string{"search_path": "meterd", "client_min_messages": "notice", "synchronous_commit": "on"}
	if got := transactionHas(t, writer(db), slices.Sorted(maps.Keys(want))...); !maps.Equal(got, want) {
		t.Errorf("in session mode: %v", got)
	}
	if err := db.View(context.Background(), func(r *Reader) error { return r.Usage(func(*Usage) error { return ErrEnough }) }); !errors.Is(err, ErrEnough) {
		t.Errorf("no usage is found: %v", err)
	}
}
