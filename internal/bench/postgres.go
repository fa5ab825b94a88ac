package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// database is a PostgreSQL server in a temporary folder, as durable as PostgreSQL is by itself.
type database struct {
	bin, dir string
	port     int
	owner    *syscall.Credential // the server refuses to run as root; nil for the user who runs this
	cmd      *exec.Cmd
	ended    chan struct{}
}

// databaseSettings are those of a machine of this size; everything else is as PostgreSQL has it.
var databaseSettings = []string{"shared_buffers=1GB", "max_wal_size=8GB", "max_connections=200"}

// findPostgres returns the folder of the newest PostgreSQL's programs where Debian has them.
func findPostgres() (string, error) {
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/pgbench") // the pattern is good
	bin, newest := "", 0.0
	for _, f := range found {
		dir := filepath.Dir(f)
		version, _ := strconv.ParseFloat(filepath.Base(filepath.Dir(dir)), 64)
		if _, err := os.Stat(filepath.Join(dir, "postgres")); err == nil && version > newest {
			bin, newest = dir, version
		}
	}
	if bin == "" {
		return "", errors.New("there is no PostgreSQL server with pgbench in /usr/lib/postgresql; on Debian: apt-get install postgresql")
	}
	return bin, nil
}

// startDatabase makes a server in a folder below dir, which ends with this process at the latest. Settings are those of
// its command line.
func startDatabase(ctx context.Context, bin, dir string, settings ...string) (*database, error) {
	d := &database{bin: bin, ended: make(chan struct{})}
	if err := d.makeFolder(dir); err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	d.port = l.Addr().(*net.TCPAddr).Port
	data := filepath.Join(d.dir, "data")
	out, err := d.command(ctx, "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C").CombinedOutput()
	if err = errors.Join(err, l.Close()); err != nil {
		return nil, fmt.Errorf("initdb: %w\n%s\nthe server runs as another user than root, who must be able to reach the folder that -dir names", err, out)
	}
	args := []string{"-D", data, "-p", strconv.Itoa(d.port), "-k", d.dir, "-c", "listen_addresses=127.0.0.1"}
	for _, s := range settings {
		args = append(args, "-c", s)
	}
	log, err := os.Create(d.log())
	if err != nil {
		return nil, err
	}
	defer log.Close()
	d.cmd = d.command(ctx, "postgres", args...)
	d.cmd.Stdout, d.cmd.Stderr = log, log
	d.cmd.SysProcAttr.Pdeathsig = syscall.SIGQUIT
	d.cmd.Cancel = d.quit
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // the signal is sent when the thread that has started the process ends
		defer close(d.ended)
		err := d.cmd.Start()
		started <- err
		if err == nil {
			_ = d.cmd.Wait() // it is told to quit, and says so
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return d, d.wait(ctx)
}

// makeFolder makes the server's folder, which belongs to an unprivileged user.
func (d *database) makeFolder(dir string) (err error) {
	if d.dir, err = os.MkdirTemp(dir, "postgres-"); err != nil || os.Getuid() != 0 {
		return err
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		if u, err = user.Lookup("nobody"); err != nil {
			return err
		}
	}
	uid, err1 := strconv.Atoi(u.Uid)
	gid, err2 := strconv.Atoi(u.Gid)
	d.owner = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	return errors.Join(err1, err2, os.Chmod(dir, 0o711), os.Chown(d.dir, uid, gid))
}

// wait waits until the server answers.
func (d *database) wait(ctx context.Context) error {
	for until := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		_, err := d.number(ctx, "SELECT 1")
		if err == nil {
			return nil
		}
		select {
		case <-d.ended:
		default:
			if time.Now().Before(until) && ctx.Err() == nil {
				continue
			}
		}
		log, _ := os.ReadFile(d.log())
		return errors.Join(fmt.Errorf("PostgreSQL does not start: %w\n%s", err, log), d.stop())
	}
}

func (d *database) log() string { return filepath.Join(d.dir, "log") }

func (d *database) command(ctx context.Context, program string, args ...string) *exec.Cmd {
	c := exec.CommandContext(ctx, filepath.Join(d.bin, program), args...)
	c.Dir = d.dir
	c.Env = append(os.Environ(), "LC_ALL=C", "HOME="+d.dir)
	c.SysProcAttr = &syscall.SysProcAttr{Credential: d.owner}
	return c
}

func (d *database) quit() error { return d.cmd.Process.Signal(syscall.SIGQUIT) }

// stop ends the server without writing anything more, and removes its folder.
func (d *database) stop() error {
	_ = d.quit() // it may have ended
	<-d.ended
	return os.RemoveAll(d.dir)
}

// url names one of the server's databases.
func (d *database) url(name string) string {
	return fmt.Sprintf("postgres://postgres@127.0.0.1:%d/%s?sslmode=disable", d.port, url.PathEscape(name))
}

// in runs f on a connection to one of the server's databases.
func (d *database) in(ctx context.Context, name string, f func(*pgx.Conn) error) error {
	conn, err := pgx.Connect(ctx, d.url(name))
	if err != nil {
		return err
	}
	return errors.Join(f(conn), conn.Close(ctx))
}

// exec runs statements one by one.
func (d *database) exec(ctx context.Context, name string, statements ...string) error {
	return d.in(ctx, name, func(conn *pgx.Conn) error {
		for _, sql := range statements {
			if _, err := conn.Exec(ctx, sql); err != nil {
				return fmt.Errorf("%s: %w", sql, err)
			}
		}
		return nil
	})
}

// numberIn returns the number that a query in one of the databases returns.
func (d *database) numberIn(ctx context.Context, name, query string) (n float64, err error) {
	err = d.in(ctx, name, func(conn *pgx.Conn) error {
		return conn.QueryRow(ctx, "SELECT ("+query+")::float8").Scan(&n)
	})
	return n, err
}

func (d *database) number(ctx context.Context, query string) (float64, error) {
	return d.numberIn(ctx, "postgres", query)
}

// describe says which server it is and how durable, and fails if it would lose commits: nothing could be compared then.
func (d *database) describe(ctx context.Context) (line string, err error) {
	err = d.in(ctx, "postgres", func(conn *pgx.Conn) error {
		values := map[string]string{}
		for _, name := range []string{"server_version", "fsync", "synchronous_commit", "full_page_writes", "shared_buffers", "max_wal_size"} {
			var value string
			if err := conn.QueryRow(ctx, "SELECT current_setting($1)", name).Scan(&value); err != nil {
				return err
			}
			if line += ", " + name + "=" + value; name == "server_version" {
				line = "PostgreSQL " + value
			}
			values[name] = value
		}
		if values["fsync"] != "on" || values["synchronous_commit"] != "on" || values["full_page_writes"] != "on" {
			return fmt.Errorf("the server would lose commits: %s", line)
		}
		return nil
	})
	return line, err
}

// used returns the CPU time that all of the server's processes have used so far.
func (d *database) used() (total time.Duration, err error) {
	main, err := processCPU(d.cmd.Process.Pid)
	if err != nil {
		return 0, err
	}
	total = main.self + main.ended
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", d.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	for _, f := range files {
		children, err := os.ReadFile(f)
		if err != nil {
			return 0, err
		}
		for _, word := range strings.Fields(string(children)) {
			pid, err := strconv.Atoi(word)
			if err != nil {
				return 0, err
			}
			if p, err := processCPU(pid); err == nil { // else it has ended meanwhile
				total += p.self
			}
		}
	}
	return total, nil
}

// keying is how a table of usage records names what they are for.
type keying struct {
	name                               string
	product, customer, dimension, hour string // types of the key's columns
	row                                string // values of them, for the row's variable and dimension
}

// plainKeys are the baseline: what a program would do that keeps usage records as they come, a row for each under its
// key. narrowKeys are the least that a key can be, when somebody else keeps what the numbers stand for.
var (
	plainKeys  = keying{"", "text", "text", "text", "timestamptz", "'benchproduct0123456789abc', :c%d, 'api_requests_tier%d', '2026-11-24 14:00+00'"}
	narrowKeys = keying{", integer keys", "int", "bigint", "int", "int", "1, :c%d, %d, 490000"}
)

func (k keying) table() string {
	return fmt.Sprintf(`CREATE TABLE metering_record (
  product     %s NOT NULL,
  customer    %s NOT NULL,
  dimension   %s NOT NULL,
  hour        %s NOT NULL,
  quantity    int NOT NULL,
  recorded_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (product, customer, dimension, hour))`, k.product, k.customer, k.dimension, k.hour)
}

// script is pgbench's: a transaction of one statement that upserts 25 rows. Each is of another customer, drawn out of so
// many that next to none comes twice.
func (k keying) script() string {
	var sets, rows strings.Builder
	for i := range recordsPerCall {
		fmt.Fprintf(&sets, "\\set c%d random(100000000000, 999999999999)\n", i)
		fmt.Fprintf(&rows, "%s("+k.row+", :quantity)", map[bool]string{true: ", "}[i > 0], i, i%8)
	}
	return sets.String() + "\\set quantity random(1000, 9999)\n" +
		"INSERT INTO metering_record (product, customer, dimension, hour, quantity) VALUES " + rows.String() +
		" ON CONFLICT (product, customer, dimension, hour) DO UPDATE SET quantity = excluded.quantity;\n"
}

// The clients are pgbench's connections.
const (
	pgbenchClients = 16
	pgbenchThreads = 2
)

// pgbenchResult is what pgbench has measured.
type pgbenchResult struct {
	transactions int     // all of them
	perSecond    float64 // without the time to connect
}

var (
	tpsLine       = regexp.MustCompile(`(?m)^tps = ([0-9.]+) \(without initial connection time\)$`)
	processedLine = regexp.MustCompile(`(?m)^number of transactions actually processed: (\d+)$`)
	failedLine    = regexp.MustCompile(`(?m)^number of failed transactions: 0 `)
)

func parsePgbench(out string) (r pgbenchResult, err error) {
	tps, processed := tpsLine.FindStringSubmatch(out), processedLine.FindStringSubmatch(out)
	if tps == nil || processed == nil || !failedLine.MatchString(out) {
		return r, fmt.Errorf("pgbench has failed:\n%s", out)
	}
	var err1, err2 error
	r.perSecond, err1 = strconv.ParseFloat(tps[1], 64)
	r.transactions, err2 = strconv.Atoi(processed[1])
	return r, errors.Join(err1, err2)
}

// upserts runs pgbench for so long, in whole seconds, on a new table, and checks that its rows are there. The table is
// dropped then, so that nothing is left to be done for it. It returns pgbench's own CPU time too.
func (d *database) upserts(ctx context.Context, k keying, warm, measure time.Duration) (r pgbenchResult, own time.Duration, err error) {
	script := filepath.Join(d.dir, "upsert.sql")
	if err := errors.Join(os.WriteFile(script, []byte(k.script()), 0o644), d.exec(ctx, "postgres", k.table(), "CHECKPOINT")); err != nil {
		return r, 0, err
	}
	all := 0
	for _, span := range []time.Duration{warm, measure} {
		if span <= 0 {
			continue
		}
		cmd := d.command(ctx, "pgbench", "-h", "127.0.0.1", "-p", strconv.Itoa(d.port), "-U", "postgres", "-n", "-M", "prepared",
			"-c", strconv.Itoa(pgbenchClients), "-j", strconv.Itoa(pgbenchThreads), "-T", strconv.Itoa(max(1, int(span.Seconds()))), "-f", script, "postgres")
		out, err := cmd.CombinedOutput()
		if err == nil {
			r, err = parsePgbench(string(out))
		}
		if err != nil {
			return r, 0, fmt.Errorf("%w\n%s", err, out)
		}
		all += r.transactions
		own += cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	}
	rows, err := d.number(ctx, "SELECT count(*) FROM metering_record")
	if want := float64(all * recordsPerCall); err == nil && (rows > want || rows < 0.999*want) {
		err = fmt.Errorf("pgbench has made %d transactions of %d rows, but there are %.0f rows", all, recordsPerCall, rows)
	}
	return r, own, errors.Join(err, d.exec(ctx, "postgres", "DROP TABLE metering_record", "CHECKPOINT"))
}
