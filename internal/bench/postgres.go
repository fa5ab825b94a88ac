package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/meterd/meterd/internal/adminapi"
)

// database is a PostgreSQL server in a temporary folder, with the durability that PostgreSQL has by itself.
type database struct {
	bin, dir string
	port     int
	owner    *syscall.Credential // the server does not run as root
	cmd      *exec.Cmd
	ended    chan error
}

// databaseSettings are those of a machine of this size; everything else is PostgreSQL's default.
var databaseSettings = []string{"shared_buffers=1GB", "max_wal_size=8GB", "max_connections=200"}

// postgresBin returns the folder of the newest PostgreSQL's programs, or "".
func postgresBin() string {
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/pgbench")
	slices.Sort(found)
	if len(found) == 0 {
		return ""
	}
	return filepath.Dir(found[len(found)-1])
}

func startDatabase(ctx context.Context, dir string) (*database, error) {
	d := &database{bin: postgresBin(), ended: make(chan error, 1)}
	var err error
	if d.dir, err = os.MkdirTemp(dir, "postgres-"); err != nil {
		return nil, err
	}
	if os.Getuid() == 0 {
		u, err := user.Lookup("postgres")
		if err != nil {
			return nil, err
		}
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		d.owner = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		if err := errors.Join(os.Chmod(dir, 0o755), os.Chown(d.dir, uid, gid)); err != nil {
			return nil, err
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	d.port = l.Addr().(*net.TCPAddr).Port
	l.Close()
	data := filepath.Join(d.dir, "data")
	if out, err := d.command(ctx, "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("initdb: %w\n%s", err, out)
	}
	args := []string{"-D", data, "-p", strconv.Itoa(d.port), "-k", d.dir, "-c", "listen_addresses=127.0.0.1", "-c", "logging_collector=off"}
	for _, s := range databaseSettings {
		args = append(args, "-c", s)
	}
	d.cmd = d.command(ctx, "postgres", args...)
	d.cmd.SysProcAttr.Pdeathsig = syscall.SIGQUIT
	d.cmd.Cancel = func() error { return d.cmd.Process.Signal(syscall.SIGQUIT) }
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // the signal is sent when the thread that started the process ends
		err := d.cmd.Start()
		started <- err
		if err == nil {
			d.ended <- d.cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	for until := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if _, err = d.number(ctx, "SELECT 1"); err == nil {
			return d, nil
		}
		if time.Now().After(until) {
			return nil, errors.Join(err, d.stop())
		}
	}
}

func (d *database) command(ctx context.Context, program string, args ...string) *exec.Cmd {
	c := exec.CommandContext(ctx, filepath.Join(d.bin, program), args...)
	c.Dir = d.dir
	c.SysProcAttr = &syscall.SysProcAttr{Credential: d.owner}
	return c
}

func (d *database) stop() error {
	if err := d.cmd.Process.Signal(syscall.SIGINT); err != nil {
		return err
	}
	<-d.ended
	return os.RemoveAll(d.dir)
}

func (d *database) url(schema string) string {
	return fmt.Sprintf("postgres://postgres@127.0.0.1:%d/postgres?sslmode=disable&search_path=%s", d.port, schema)
}

func (d *database) number(ctx context.Context, sql string) (n float64, err error) {
	conn, err := pgx.Connect(ctx, d.url("public"))
	if err != nil {
		return 0, err
	}
	err = conn.QueryRow(ctx, sql).Scan(&n)
	return n, errors.Join(err, conn.Close(ctx))
}

func (d *database) exec(ctx context.Context, sql string) error {
	conn, err := pgx.Connect(ctx, d.url("public"))
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, sql)
	return errors.Join(err, conn.Close(ctx))
}

// The baseline is what a program would do that writes usage records in the plain way: a transaction upserts 25 rows.
const upsertTable = `DROP TABLE IF EXISTS public.upsert; CREATE TABLE public.upsert (product int, customer bigint, dimension int, hour int, quantity int NOT NULL, at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (product, customer, dimension, hour))`

// upsertScript is pgbench's: rows of customers that are drawn, most of them new.
func upsertScript() string {
	var s strings.Builder
	s.WriteString("\\set b random(1, 2000000000)\nINSERT INTO public.upsert (product, customer, dimension, hour, quantity) VALUES ")
	for i := range recordsPerCall {
		if i > 0 {
			s.WriteString(", ")
		}
		fmt.Fprintf(&s, "(1, :b + %d, %d, 490000, %d)", i, i%8, i)
	}
	s.WriteString(" ON CONFLICT (product, customer, dimension, hour) DO UPDATE SET quantity = excluded.quantity;\n")
	return s.String()
}

var tpsLine = regexp.MustCompile(`(?m)^tps = ([0-9.]+)`)

// pgbench returns how many rows a second PostgreSQL upserts.
func (b *bench) pgbench(d *database) (rows float64, err error) {
	if err := d.exec(b.ctx, upsertTable); err != nil {
		return 0, err
	}
	script := filepath.Join(d.dir, "upsert.sql")
	if err := os.WriteFile(script, []byte(upsertScript()), 0o644); err != nil {
		return 0, err
	}
	seconds := strconv.Itoa(max(1, int(b.measure.Seconds())))
	cmd := d.command(b.ctx, "pgbench", "-h", "127.0.0.1", "-p", strconv.Itoa(d.port), "-U", "postgres", "-n", "-M", "prepared", "-c", "16", "-j", "2", "-T", seconds, "-f", script, "postgres")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("pgbench: %w\n%s", err, out)
	}
	m := tpsLine.FindSubmatch(out)
	if m == nil {
		return 0, fmt.Errorf("pgbench printed no figure:\n%s", out)
	}
	tps, err := strconv.ParseFloat(string(m[1]), 64)
	b.say("  pgbench: %.0f transactions of %d rows a second", tps, recordsPerCall)
	return tps * recordsPerCall, err
}

// inDatabase runs f with so many nodes on a new ledger in the database, with a marketplace, and a target that spreads
// its connections over them.
func (b *bench) inDatabase(d *database, nodes int, f func(all []*meterd, t *target) error) (err error) {
	p := place{"--store", d.url("bench"), "--master-key-file", filepath.Join(b.dir, "postgres.key")}
	if err := d.exec(b.ctx, "DROP SCHEMA IF EXISTS bench CASCADE"); err != nil {
		return err
	}
	token, err := initMeterd(b.ctx, b.binary, p)
	if err != nil {
		return err
	}
	var all []*meterd
	defer func() {
		for _, m := range all {
			err = errors.Join(err, m.stop())
		}
	}()
	var t *target
	for range nodes {
		m, err := startMeterd(b.ctx, b.binary, p, token)
		if err != nil {
			return err
		}
		if all = append(all, m); len(all) > 1 {
			t.others = append(t.others, m.address)
			continue
		}
		var key adminapi.AccessKey
		if key, err = m.populate(b.ctx, b.keys); err != nil {
			return err
		}
		t = b.target(m)
		t.accessKeyID, t.secretAccessKey = key.AccessKeyID, key.SecretAccessKey
	}
	return f(all, t)
}

// postgres compares meterd on PostgreSQL with PostgreSQL itself, and one node with several.
func (b *bench) postgres() error {
	b.section("postgres: pgbench, meterd on the same server, one node and several")
	if postgresBin() == "" {
		b.say("There is no PostgreSQL server here (Debian's package postgresql): nothing of this is measured.")
		return nil
	}
	d, err := startDatabase(b.ctx, b.dir)
	if err != nil {
		return err
	}
	b.say("PostgreSQL of %s with %s", d.bin, strings.Join(databaseSettings, ", "))
	return errors.Join(b.onPostgres(d), d.stop())
}

func (b *bench) onPostgres(d *database) error {
	var plain, records, ratio, storm, p99, two, four, size, embedded, requests series
	for range b.repeat {
		rows, err := b.pgbench(d)
		if err != nil {
			return err
		}
		plain = append(plain, rows)
		var one float64
		err = b.inDatabase(d, 1, func(all []*meterd, t *target) error {
			new, err := b.load(t, phase{name: "PostgreSQL, new"})
			if err != nil {
				return err
			}
			again, err := b.load(t, phase{name: "PostgreSQL, all replayed", mode: replay, from: new.first, to: new.end})
			if err != nil {
				return err
			}
			one = float64(new.records) / new.elapsed.Seconds()
			records, ratio = append(records, one), append(ratio, one/rows)
			requests = append(requests, new.perSecond())
			storm = append(storm, again.perSecond()/new.perSecond())
			half, err := b.load(t, phase{name: "PostgreSQL, half of peak", rate: new.perSecond() / 2})
			if err != nil {
				return err
			}
			p99 = append(p99, milliseconds(half.quantile(0.99)))
			bytes, err := d.number(b.ctx, "SELECT sum(pg_total_relation_size(c.oid))::float8 FROM pg_class c WHERE c.relnamespace = 'bench'::regnamespace AND (c.relname LIKE 'usage%' OR c.relname = 'call') AND c.relkind = 'r'")
			if err != nil {
				return err
			}
			size = append(size, bytes/float64(t.acknowledged.Load()))
			b.settle(all[0], t)
			return nil
		})
		if err != nil {
			return err
		}
		for _, n := range []int{2, 4} {
			err := b.inDatabase(d, n, func(all []*meterd, t *target) error {
				r, err := b.load(t, phase{name: fmt.Sprintf("PostgreSQL, %d nodes, new", n)})
				if err != nil {
					return err
				}
				rate := float64(r.records) / r.elapsed.Seconds() / one
				if n == 2 {
					two = append(two, rate)
				} else {
					four = append(four, rate)
				}
				return b.settleAll(all, t)
			})
			if err != nil {
				return err
			}
		}
		err = b.withCopy(func(m *meterd, t *target) error {
			r, err := b.load(t, phase{name: "embedded, new"})
			if err == nil {
				embedded = append(embedded, float64(r.records)/r.elapsed.Seconds()/rows)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	b.row("pgbench, upserts of 25 rows by 16 clients: rows/s", "", "%s", plain.format("%.0f"))
	b.row("meterd on PostgreSQL, one node, new records: requests/s", "", "%s", requests.format("%.0f"))
	b.row("meterd on PostgreSQL, one node, new records: records/s, durable", "", "%s", records.format("%.0f"))
	b.row("meterd on PostgreSQL, one node ÷ pgbench, records/s", "≥ 0.85, aim 1.2", "%s", ratio.format("%.2f"))
	b.row("embedded ÷ pgbench, records/s", "≥ 2.5, aim 3", "%s", embedded.format("%.2f"))
	b.row("two nodes ÷ one, on one machine with the database", "", "%s", two.format("%.2f"))
	b.row("four nodes ÷ one", "", "%s", four.format("%.2f"))
	b.row("all-replay storm ÷ new, PostgreSQL", "≥ 0.90", "%s", storm.format("%.2f"))
	b.row("p99 at half of the peak load, PostgreSQL", "", "%s", p99.format("%.1f ms"))
	b.row("size in PostgreSQL for a record, index and audit included", "", "%s", size.format("%.0f B"))
	return b.flat(d)
}

// settleAll compares what several nodes have acknowledged with what is stored.
func (b *bench) settleAll(all []*meterd, t *target) error {
	var sums adminapi.UsageSums
	if err := all[0].call(b.ctx, http.MethodGet, "/v1/usage/sum?by=product_code", nil, &sums); err != nil {
		return err
	}
	records, quantity := t.acknowledged.Load(), t.quantity.Load()
	if len(sums.Sums) != 1 || sums.Sums[0].Records != records || sums.Sums[0].Quantity != quantity {
		b.wrong("%d records with a quantity of %d were acknowledged by all nodes, but the stored sums are %+v", records, quantity, sums.Sums)
	}
	b.say("  acknowledged by %d nodes = stored: %d records", len(all), records)
	return nil
}

// flat measures the memory of a node before and after many records.
func (b *bench) flat(d *database) error {
	return b.inDatabase(d, 1, func(all []*meterd, t *target) error {
		before, err := all[0].memory(b.ctx)
		if err != nil {
			return err
		}
		if _, err := b.load(t, phase{name: "PostgreSQL, 1 M records", to: 1_000_000}); err != nil {
			return err
		}
		after, err := all[0].memory(b.ctx)
		if err != nil {
			return err
		}
		b.row("memory of a node on PostgreSQL: live with no usage; with 1 million open records; resident", "flat", "%.0f MB; %.0f MB; %.0f MB", before.live/1e6, after.live/1e6, after.resident/1e6)
		return nil
	})
}
