package pgtest_test

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/meterd/meterd/internal/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// insert commits a row, with COMMIT at the end of a pipeline as it is sent under load.
func insert(t *testing.T, url string, n int) error {
	t.Helper()
	ctx := t.Context()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(ctx, "BEGIN"); err != nil {
		t.Fatal(err)
	}
	var batch pgx.Batch
	batch.Queue("INSERT INTO t VALUES ($1)", n)
	batch.Queue("COMMIT")
	results := conn.SendBatch(ctx, &batch)
	for range 2 {
		if _, err = results.Exec(); err != nil {
			break
		}
	}
	return errors.Join(err, results.Close())
}

// stored reports whether the row is there.
func stored(t *testing.T, s *pgtest.Server, n int) bool {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), s.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	var there bool
	if err := conn.QueryRow(t.Context(), "SELECT count(*) = 1 FROM t WHERE n = $1", n).Scan(&there); err != nil {
		t.Fatal(err)
	}
	return there
}

func TestProxy(t *testing.T) {
	s := pgtest.Start(t)
	if err := s.Exec("CREATE TABLE t (n int)"); err != nil {
		t.Fatal(err)
	}
	for n, c := range []struct {
		fault  pgtest.Fault
		code   string // of the error; "" for one of the connection
		stored bool
	}{
		pgtest.None:          {pgtest.None, "", true},
		pgtest.CutBefore:     {pgtest.CutBefore, "", false},
		pgtest.CutAfter:      {pgtest.CutAfter, "", true},
		pgtest.Serialization: {pgtest.Serialization, "40001", false},
		pgtest.Deadlock:      {pgtest.Deadlock, "40P01", false},
	} {
		if n == int(pgtest.CutDuring) { // whose outcome nobody knows
			c.fault = pgtest.CutDuring
		}
		p := pgtest.NewProxy(t, s, func() pgtest.Fault { return c.fault })
		err := insert(t, p.URL(s.URL()), n)
		var refused *pgconn.PgError
		switch {
		case (err != nil) != (c.fault != pgtest.None):
			t.Errorf("fault %d: %v", c.fault, err)
		case errors.As(err, &refused) && refused.Code != c.code || refused == nil && c.code != "":
			t.Errorf("fault %d: %v, want code %q", c.fault, err, c.code)
		}
		if got := stored(t, s, n); got != c.stored && c.fault != pgtest.CutDuring {
			t.Errorf("fault %d: stored is %v", c.fault, got)
		}
	}
}

func TestServers(t *testing.T) {
	s := pgtest.Start(t)
	if err := errors.Join(s.Exec("CREATE TABLE t (n int)"), s.Exec("INSERT INTO t VALUES (1)")); err != nil {
		t.Fatal(err)
	}
	s.Kill()
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	if !stored(t, s, 1) {
		t.Error("what was committed did not survive the end of the server")
	}
	standby := s.Standby(t)
	if err := s.Exec("INSERT INTO t VALUES (2)"); err != nil {
		t.Fatal(err)
	}
	s.Kill()
	if err := errors.Join(standby.Promote(), standby.Exec("INSERT INTO t VALUES (3)")); err != nil {
		t.Fatal(err)
	}
	for n := 1; n <= 3; n++ {
		if !stored(t, standby, n) {
			t.Errorf("row %d is not on the standby", n)
		}
	}
}

// TestNamespace: what is sent over a link that drops it, or that is unplugged, arrives when the link is healed.
func TestNamespace(t *testing.T) {
	ns := pgtest.NewNamespace(t)
	l, err := net.Listen("tcp", ns.Host+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	from, err := ns.DialContext(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	to, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	for _, split := range []func(testing.TB){ns.Drop, ns.Unplug} {
		split(t)
		for _, way := range [][2]net.Conn{{from, to}, {to, from}} {
			if _, err := way[0].Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
			way[1].SetReadDeadline(time.Now().Add(300 * time.Millisecond))
			if _, err := way[1].Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("over a link that is split: %v", err)
			}
		}
		ns.Heal(t)
		for _, end := range []net.Conn{from, to} {
			end.SetReadDeadline(time.Now().Add(30 * time.Second))
			if _, err := end.Read(make([]byte, 1)); err != nil {
				t.Errorf("over a link that is healed: %v", err)
			}
		}
	}
	if conn, err := net.Dial("tcp", ns.Host+":1"); err == nil { // this thread is where it was
		conn.Close()
		t.Error("somebody listens on port 1")
	}
	c := exec.Command(ns.Command()[0], append(ns.Command()[1:], "ip", "-br", "addr")...)
	if out, err := c.CombinedOutput(); err != nil || !strings.Contains(string(out), "g@") {
		t.Errorf("in the namespace there is %q, %v", out, err)
	}
}
