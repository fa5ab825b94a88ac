// Command bench measures how fast meterd is: make bench. It runs the real binary on fresh ledgers against a net/http
// handler that does nothing, and against PostgreSQL's own pgbench, turn by turn, so that the machine cancels out.
//
// The load is BatchMeterUsage as sellers send it: every request signed afresh and holding 25 records that were never
// sent before. Every answer is checked, and after each run what meterd has stored is compared with what it has
// acknowledged. The exit status is 1 if anything was wrong, however fast it was.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/meterd/meterd/internal/adminapi"
)

// options are the flags.
type options struct {
	binary, dir, output, profiles string
	run, store                    string
	against                       string // a commit to compare with; empty for none
	postgresBin                   string // folder of PostgreSQL's programs; empty if there is no server
	repeat, conns, buyers, rate   int
	measure, warm                 time.Duration
	openRecords                   int64
	full                          bool
}

// scenarios are what -run chooses from, in the order in which they run.
var scenarios = []scenario{
	{name: "start", run: (*bench).start},
	{name: "builds", run: (*bench).builds, asked: true},
	{name: "pairs", run: (*bench).pairs},
	{name: "half", run: (*bench).half},
	{name: "mixed", run: (*bench).mixed},
	{name: "connections", run: (*bench).connections},
	{name: "allocations", run: (*bench).allocations},
	{name: "products", run: (*bench).products},
	{name: "overload", run: (*bench).overload},
	{name: "restart", run: (*bench).restart},
	{name: "open", run: (*bench).open, asked: true},
	{name: "day", run: (*bench).day, asked: true},
	{name: "pgbench", run: (*bench).pgbench, postgres: true, asked: true},
	{name: "postgres", run: (*bench).postgres, postgres: true},
	{name: "postgres-nodes", run: (*bench).postgresNodes, postgres: true},
	{name: "postgres-half", run: (*bench).postgresHalf, postgres: true},
	{name: "postgres-records", run: (*bench).postgresRecords, postgres: true},
	{name: "profile", run: (*bench).profile, asked: true},
}

type scenario struct {
	name     string
	run      func(*bench) error
	postgres bool // it needs a PostgreSQL server
	asked    bool // it only runs if it is asked for
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if len(os.Args) == 2 && os.Args[1] == "-noop" { // as a child of this program
		if err := serveNoop(ctx, os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
		return
	}
	var names []string
	for _, s := range scenarios {
		names = append(names, s.name)
	}
	var o options
	flag.StringVar(&o.run, "run", "", "scenarios to run, separated by commas, of "+strings.Join(names, ",")+"; if empty all those of -store, builds, open and profile by their own flags, day with -full, and not pgbench, which postgres contains")
	flag.StringVar(&o.store, "store", "", "embedded: what needs no PostgreSQL server; postgres: what needs one, which is started in a temporary folder; both; if empty both if there is a server in /usr/lib/postgresql")
	flag.BoolVar(&o.full, "full", false, "take longer: make each comparison five times, -open 5000000, and day, which takes ten minutes and 5 GB of disk")
	flag.IntVar(&o.rate, "rate", 1000, "records a second of simulated time, for day")
	flag.IntVar(&o.repeat, "repeat", 3, "how often each comparison is made")
	flag.DurationVar(&o.measure, "measure", 3*time.Second, "how long each phase is measured")
	flag.DurationVar(&o.warm, "warm", 500*time.Millisecond, "how long each phase runs before")
	flag.IntVar(&o.conns, "connections", 64, "keep-alive connections")
	flag.IntVar(&o.buyers, "buyers", 100_000, "buyers in the marketplace")
	flag.Int64Var(&o.openRecords, "open", 0, "also compare an empty window with one that holds so many records")
	flag.StringVar(&o.dir, "dir", os.TempDir(), "folder, on a real disk, that temporary ledgers are made in")
	flag.StringVar(&o.binary, "meterd", "", "binary to measure; built from this module if empty")
	flag.StringVar(&o.against, "against", "", "also compare this build with that of a commit, turn by turn")
	flag.StringVar(&o.profiles, "profile", "", "also write CPU and allocation profiles of meterd under load into this folder")
	flag.StringVar(&o.output, "o", "", "write everything to this file too")
	flag.Parse()
	if err := o.check(flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(2)
	}
	failures, err := run(ctx, o)
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
	}
	if err != nil || failures > 0 {
		stop()
		os.Exit(1)
	}
}

// check makes up the options that depend on others.
func (o *options) check(args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("unknown arguments: %q", args)
	}
	if o.full {
		o.repeat = max(o.repeat, 5)
		if o.openRecords == 0 && o.store != "postgres" {
			o.openRecords = 5_000_000
		}
	}
	for _, name := range strings.FieldsFunc(o.run, comma) {
		if !slices.ContainsFunc(scenarios, func(s scenario) bool { return s.name == name }) {
			return fmt.Errorf("-run: there is no scenario %q", name)
		}
	}
	if !slices.Contains([]string{"", "embedded", "postgres", "both"}, o.store) {
		return fmt.Errorf("-store: %q is not embedded, postgres or both", o.store)
	}
	if o.named("open") && o.openRecords == 0 || o.named("profile") && o.profiles == "" || o.named("builds") && o.against == "" {
		return errors.New("open needs -open RECORDS, profile needs -profile FOLDER, and builds needs -against COMMIT")
	}
	return nil
}

// choose returns the scenarios to be run. A PostgreSQL server that is missing is an error only if somebody has asked
// for what needs it; else missing says so.
func (o *options) choose(findPostgres func() (string, error)) (chosen []scenario, missing, err error) {
	if o.store != "embedded" {
		o.postgresBin, missing = findPostgres()
	}
	if missing != nil && o.store != "" {
		return nil, nil, missing
	}
	for _, s := range scenarios {
		if !o.chosen(s) {
			continue
		}
		if s.postgres && o.postgresBin == "" {
			if missing == nil {
				missing = errors.New("-store is embedded")
			}
			return nil, nil, fmt.Errorf("-run: %s needs a PostgreSQL server: %w", s.name, missing)
		}
		chosen = append(chosen, s)
	}
	if o.run != "" { // nothing is left out
		missing = nil
	}
	return chosen, missing, nil
}

func comma(r rune) bool { return r == ',' }

// named reports whether a scenario is one of -run.
func (o *options) named(name string) bool {
	return slices.Contains(strings.FieldsFunc(o.run, comma), name)
}

// chosen reports whether a scenario is to be run.
func (o *options) chosen(s scenario) bool {
	switch {
	case o.named(s.name):
		return true
	case s.name == "builds":
		return o.against != "" && o.run == ""
	case s.name == "open":
		return o.openRecords > 0
	case s.name == "profile":
		return o.profiles != ""
	case s.name == "day":
		return o.full && o.run == "" && o.store != "postgres"
	case s.asked || o.run != "":
		return false
	case s.postgres:
		return o.postgresBin != ""
	}
	return o.store != "postgres"
}

// bench is a run of the benchmark.
type bench struct {
	options
	*report
	ctx      context.Context
	keys     *keyspace
	template string // folder of a ledger with the marketplace and no usage
	token    string // of its admin API
	key      adminapi.AccessKey
	answer   []byte // of meterd to a call of 25 records, which the no-op repeats
	noop     *process

	database      *database // for the scenarios on PostgreSQL
	databaseToken string    // of the admin API of the ledgers there
	databaseKey   adminapi.AccessKey
	databasePeak  series // requests/s of fresh records there

	start0 series // seconds until a ledger without usage is ready
	empty  memory // of that ledger
	peak   series // requests/s of fresh records
}

func run(ctx context.Context, o options) (failures int, err error) {
	var out io.Writer = os.Stdout
	if o.output != "" {
		file, err := os.Create(o.output)
		if err != nil {
			return 0, err
		}
		defer func() { err = errors.Join(err, file.Close()) }()
		out = io.MultiWriter(out, file)
	}
	if o.dir, err = filepath.Abs(o.dir); err != nil {
		return 0, err
	}
	if o.dir, err = os.MkdirTemp(o.dir, "meterd-bench-"); err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(o.dir)) }()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends what processes are left
	b := &bench{options: o, report: &report{w: out}, ctx: ctx, template: filepath.Join(o.dir, "template"),
		keys: &keyspace{product: "benchproduct0123456789abc", buyers: int64(o.buyers), dimensions: 8, hours: openHours(time.Now())}}
	defer func() {
		if b.database != nil {
			err = errors.Join(err, b.database.stop())
		}
	}()
	chosen, missing, err := b.choose(findPostgres)
	if err != nil {
		return 0, err
	}
	if missing != nil {
		b.say("NOT MEASURED: PostgreSQL. %v", missing)
	}
	onMeterd := slices.ContainsFunc(chosen, func(s scenario) bool { return s.name != "pgbench" })
	if err := b.prepare(onMeterd); err != nil {
		return b.failures, err
	}
	for _, s := range chosen {
		if s.postgres && b.database == nil { // not before, so that it is in nobody's way
			if err := b.startPostgres(onMeterd); err != nil {
				return b.failures, err
			}
		}
		if err := s.run(b); err != nil {
			return b.failures, fmt.Errorf("%s: %w", s.name, err)
		}
	}
	b.row("CPU that other processes took meanwhile", "", "%s", b.others.format("%.0f %%"))
	b.table()
	if b.others.median() > 5 {
		b.say("\nWARNING: the machine was busy with other things; only figures of a quiet one mean anything.")
	}
	if b.failures > 0 {
		b.say("\n%d things went WRONG, see above.", b.failures)
	} else if onMeterd {
		b.say("\nEvery answer was right, and after each run exactly the acknowledged records were stored.")
	}
	return b.failures, nil
}

// prepare makes what the scenarios share. pgbench by itself needs no meterd.
func (b *bench) prepare(onMeterd bool) error {
	if onMeterd && b.binary == "" {
		b.binary = filepath.Join(b.dir, "meterd")
		if err := buildMeterd(b.ctx, "", b.binary); err != nil {
			return err
		}
	}
	lines, err := describe(b.dir, b.binary)
	if err != nil {
		return err
	}
	for _, line := range lines {
		b.say("%s", line)
	}
	if !onMeterd {
		return nil
	}
	b.say(`load: BatchMeterUsage of 25 records that were never sent before, each request signed (SigV4), %d buyers × %d dimensions × %d hours,
ledger product, buyers named by CustomerAWSAccountId; a connection sends its next request when the last one is answered.
Measured over loopback, with the generator on the same cores: its share of CPU is shown. Not measured: a network, TLS, other machines.
Latencies under full load are those of a saturated machine; "half" shows those of a loaded one. CPU shares are of all cores together.`,
		b.keys.buyers, b.keys.dimensions, len(b.keys.hours))
	b.section("marketplace")
	return b.fill()
}

// fill makes the ledger that all others in the embedded store are copies of, and starts the no-op server.
func (b *bench) fill() (err error) {
	if err := os.Mkdir(b.template, 0o700); err != nil {
		return err
	}
	if b.token, err = initMeterd(b.ctx, b.binary, inFolder(b.template)); err != nil {
		return err
	}
	began := time.Now()
	err = b.with(b.template, func(m *meterd) (err error) {
		b.key, err = m.populate(b.ctx, b.keys)
		return err
	})
	if err != nil {
		return err
	}
	b.say("imported %d buyers and as many agreements in %.1f s", b.buyers, time.Since(began).Seconds())

	err = b.withCopy(func(m *meterd, t *target) error {
		r := newRequest(t, t.addresses[0], shape{records: recordsPerCall})
		for i := range r.slots {
			r.put(t.keys, i, int64(i), 1000)
		}
		r.sign(time.Now())
		b.answer, err = once(b.ctx, t.addresses[0], r.buf)
		return err
	})
	if err != nil {
		return err
	}
	b.say("a request has %d bytes of body, its answer %d", len(newRequest(&target{keys: b.keys}, "", shape{records: recordsPerCall}).body), len(b.answer))
	b.noop, err = startNoop(b.ctx, b.answer)
	return err
}

// with runs f on a meterd that serves the ledger in dir.
func (b *bench) with(dir string, f func(*meterd) error) error {
	m, err := startMeterd(b.ctx, b.binary, inFolder(dir), b.token)
	if err != nil {
		return err
	}
	return errors.Join(f(m), m.stop())
}

// withCopy runs f on a meterd that serves a new ledger with the marketplace and no usage.
func (b *bench) withCopy(f func(*meterd, *target) error) error {
	dir, err := b.copy()
	if err != nil {
		return err
	}
	return errors.Join(b.with(dir, func(m *meterd) error { return f(m, b.target(m)) }), os.RemoveAll(dir))
}

func (b *bench) copy() (dir string, err error) {
	if dir, err = os.MkdirTemp(b.dir, "ledger"); err == nil {
		err = os.CopyFS(dir, os.DirFS(b.template))
	}
	return dir, err
}

func (b *bench) target(m *meterd) *target {
	return &target{addresses: []string{m.address}, accessKeyID: b.key.AccessKeyID, secretAccessKey: b.key.SecretAccessKey,
		keys: b.keys, echoes: true, pids: []int{m.cmd.Process.Pid}}
}

func (b *bench) noopTarget() *target {
	return &target{addresses: []string{b.noop.address}, accessKeyID: b.key.AccessKeyID, secretAccessKey: b.key.SecretAccessKey,
		keys: b.keys, pids: []int{b.noop.cmd.Process.Pid}}
}

// load runs a phase on a target and reports it.
func (b *bench) load(t *target, p phase) (*result, error) {
	if p.connections == 0 {
		p.connections = b.conns
	}
	if p.shape.records == 0 {
		p.shape.records = recordsPerCall
	}
	if p.measure == 0 && p.to == 0 {
		p.warm, p.measure = b.warm, b.measure
	}
	r, err := t.run(b.ctx, p)
	if err == nil {
		b.phase(r)
	}
	return r, err
}

// settle proves that the nodes have lost nothing and counted nothing twice.
func (b *bench) settle(t *target, nodes ...*meterd) {
	all, err := settle(b.ctx, t, nodes)
	if err != nil {
		b.wrong("%v", err)
		return
	}
	groups := all["meterd_commit_seconds_count"]
	b.say("  acknowledged = counted = stored: %d records; %.0f commits of %.1f calls and %.2f ms on average", t.acknowledged.Load(),
		groups, all["meterd_commit_group_calls_sum"]/groups, 1e3*all["meterd_commit_seconds_sum"]/groups)
}

// start measures an empty ledger, and one with the marketplace and no usage.
func (b *bench) start() error {
	b.section("start: three starts of an empty store, then three with the marketplace and no usage")
	dir := filepath.Join(b.dir, "empty")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	token, err := initMeterd(b.ctx, b.binary, inFolder(dir))
	if err != nil {
		return err
	}
	var ready, idle series
	for range 3 {
		m, err := startMeterd(b.ctx, b.binary, inFolder(dir), token)
		if err != nil {
			return err
		}
		time.Sleep(time.Second)
		rss, err := m.resident()
		if err = errors.Join(err, m.stop()); err != nil {
			return err
		}
		ready, idle = append(ready, m.ready.Seconds()*1e3), append(idle, rss/1e6)
	}
	b.row("start on an empty store, from exec to ready", "≤ 150 ms", "%s", ready.format("%.0f ms"))
	b.row("idle memory on an empty store, resident", "≤ 40 MB", "%s", idle.format("%.0f MB"))
	if err := b.baseline(); err != nil {
		return err
	}
	b.row(fmt.Sprintf("start with %d buyers and agreements, no usage", b.buyers), "", "%s", b.start0.format("%.2f s"))
	b.row("memory with them, resident", "", "%.0f MB (%.0f MB of it live)", b.empty.resident/1e6, b.empty.live/1e6)
	return nil
}

// baseline measures a ledger with the marketplace and no usage, which restart compares with.
func (b *bench) baseline() error {
	for len(b.start0) < 3 {
		err := b.withCopy(func(m *meterd, _ *target) (err error) {
			b.start0 = append(b.start0, m.ready.Seconds())
			time.Sleep(time.Second)
			b.empty, err = m.memory(b.ctx)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// pairs compares meterd with the no-op, and new records with a storm of replays.
func (b *bench) pairs() error {
	b.section("pairs: no-op, meterd with new records, meterd with the same records again")
	var rate, records, storm, microseconds, noops, p99, written series
	for range b.repeat {
		nothing, err := b.load(b.noopTarget(), phase{name: "no-op"})
		if err != nil {
			return err
		}
		err = b.withCopy(func(m *meterd, t *target) error {
			before, err := m.written()
			if err != nil {
				return err
			}
			new, err := b.load(t, phase{name: "meterd new"})
			if err != nil {
				return err
			}
			after, err := m.written()
			if err != nil {
				return err
			}
			again, err := b.load(t, phase{name: "meterd all replayed", mode: replay, from: new.first, to: new.end})
			if err != nil {
				return err
			}
			b.settle(t, m)
			noops = append(noops, nothing.perSecond())
			b.peak = append(b.peak, new.perSecond())
			records = append(records, float64(new.records)/new.elapsed.Seconds())
			rate = append(rate, new.perSecond()/nothing.perSecond())
			storm = append(storm, again.perSecond()/new.perSecond())
			microseconds = append(microseconds, new.each(new.server))
			p99 = append(p99, milliseconds(new.quantile(0.99)))
			written = append(written, (after-before)/float64(new.end-new.first))
			return nil
		})
		if err != nil {
			return err
		}
	}
	b.row("no-op net/http handler, requests/s", "", "%s", noops.format("%.0f"))
	b.row("meterd, new records: requests/s", "", "%s", b.peak.format("%.0f"))
	b.row("meterd, new records: records/s, durable", "", "%s", records.format("%.0f"))
	b.row("meterd ÷ no-op, requests/s", "≥ 0.40, aim 0.50", "%s", rate.format("%.2f"))
	b.row("all-replay storm ÷ new, requests/s", "≥ 0.90", "%s", storm.format("%.2f"))
	b.row("CPU of meterd for a request of 25 records", "", "%s", microseconds.format("%.0f µs"))
	b.row("p99 with the machine saturated", "", "%s", p99.format("%.1f ms"))
	b.row("bytes written to disk for a record", "", "%s", written.format("%.0f"))
	return nil
}

// half measures latency at half of the peak load. Requests are sent by the clock, and their time counts from when
// they were due.
func (b *bench) half() error {
	b.section("half: requests sent by the clock at half of the rate of new records")
	return b.withCopy(func(m *meterd, t *target) error {
		if len(b.peak) == 0 {
			full, err := b.load(t, phase{name: "meterd new"})
			if err != nil {
				return err
			}
			b.peak = append(b.peak, full.perSecond())
		}
		rate := b.peak.median() / 2
		if _, err := b.load(b.noopTarget(), phase{name: "no-op, half of peak", rate: rate}); err != nil {
			return err
		}
		var p99, disk series
		for range b.repeat {
			synced := syncs(b.dir)
			half, err := b.load(t, phase{name: "meterd, half of peak", rate: rate})
			took, failed := synced()
			if err = errors.Join(err, failed); err != nil {
				return err
			}
			p99 = append(p99, milliseconds(half.quantile(0.99)))
			disk = append(disk, milliseconds(quantile(took, 0.99)))
		}
		b.settle(t, m)
		b.row("p99 at half of the peak load; p99 of a sync of 4 KB by itself in the same seconds", "≤ 15 ms where the disk's is ≤ 5 ms", "%s; %s", p99.format("%.1f ms"), disk.format("%.1f ms"))
		return nil
	})
}

// mixed measures new records with 2 % re-sent ones among them.
func (b *bench) mixed() error {
	b.section("mixed: 2 % of the records are re-sent, a tenth of these with another quantity")
	return b.withCopy(func(m *meterd, t *target) error {
		var ratio series
		for range b.repeat {
			new, err := b.load(t, phase{name: "meterd new"})
			if err != nil {
				return err
			}
			some, err := b.load(t, phase{name: "meterd mixed 98/2", mode: mixed})
			if err != nil {
				return err
			}
			ratio = append(ratio, some.perSecond()/new.perSecond())
		}
		b.settle(t, m)
		b.row("98 % new and 2 % re-sent ÷ new, requests/s", "", "%s", ratio.format("%.2f"))
		return nil
	})
}

// connections measures other numbers of connections.
func (b *bench) connections() error {
	b.section("connections: no-op and meterd with new records, by connections")
	return b.withCopy(func(m *meterd, t *target) error {
		for _, n := range []int{1, 8, 64, 256, 1024} {
			nothing, err := b.load(b.noopTarget(), phase{name: "no-op", connections: n})
			if err != nil {
				return err
			}
			new, err := b.load(t, phase{name: "meterd new", connections: n})
			if err != nil {
				return err
			}
			b.row(fmt.Sprintf("%d connections: requests/s; ÷ no-op; p50; p99", n), "", "%.0f; %.2f; %.1f ms; %.1f ms", new.perSecond(),
				new.perSecond()/nothing.perSecond(), milliseconds(new.quantile(0.5)), milliseconds(new.quantile(0.99)))
		}
		b.settle(t, m)
		return nil
	})
}

// allocations measures records that are split among tags. 2,500 allocations are 178 KB, so such records go one by one.
func (b *bench) allocations() error {
	b.section("allocations: records split among tags")
	return b.withCopy(func(m *meterd, t *target) error {
		for _, s := range []shape{{records: recordsPerCall}, {records: recordsPerCall, allocations: 5}, {records: 1, allocations: 2500}} {
			r, err := b.load(t, phase{name: fmt.Sprintf("%d × %d allocations", s.records, s.allocations), shape: s})
			if err != nil {
				return err
			}
			if s.allocations > 0 {
				b.row(fmt.Sprintf("%d records a call with %d allocations each: requests/s; allocations/s; p99", s.records, s.allocations), "", "%.0f; %.0f; %.1f ms",
					r.perSecond(), r.perSecond()*float64(s.records*s.allocations), milliseconds(r.quantile(0.99)))
			}
		}
		b.settle(t, m)
		return nil
	})
}

// restart measures how long a ledger with open records takes to be ready, and what they take of memory.
func (b *bench) restart() error {
	const records = 2_000_000
	b.section(fmt.Sprintf("restart: with %d records in the open window", records))
	if err := b.baseline(); err != nil {
		return err
	}
	dir, err := b.copy()
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	var running memory
	var stored float64
	err = b.with(dir, func(m *meterd) error {
		t := b.target(m)
		if _, err := b.load(t, phase{name: "meterd new", to: records}); err != nil {
			return err
		}
		b.settle(t, m)
		stored = float64(t.acknowledged.Load())
		running, err = m.memory(b.ctx)
		return err
	})
	if err != nil {
		return err
	}
	var ready series
	var after memory
	for range 3 {
		err := b.with(dir, func(m *meterd) (err error) {
			ready = append(ready, m.ready.Seconds())
			time.Sleep(time.Second)
			after, err = m.memory(b.ctx)
			return err
		})
		if err != nil {
			return err
		}
	}
	size, err := b.growth(dir)
	if err != nil {
		return err
	}
	b.row(fmt.Sprintf("restart with %.1f million open records, from exec to ready", stored/1e6), "", "%s", ready.format("%.2f s"))
	b.row("index rebuilt, records/s (start without usage subtracted)", "≥ 2,000,000", "%.0f", stored/max(ready.median()-b.start0.median(), 1e-3))
	b.row("memory per open record, tables and what else is live: after a restart; in the process that took them", "≤ 40 B", "%.0f B; %.0f B", (after.live-b.empty.live)/stored, (running.live-b.empty.live)/stored)
	b.row("resident memory without usage; after a restart; in the process that took the records", "", "%.0f MB; %.0f MB; %.0f MB", b.empty.resident/1e6, after.resident/1e6, running.resident/1e6)
	b.row("size on disk for a record, audit included", "", "%.0f B", size/stored)
	return nil
}

// growth returns how many bytes the files of a ledger take more than those of the template.
func (b *bench) growth(dir string) (float64, error) {
	size := func(dir string) (total float64, err error) {
		err = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			info, err := d.Info()
			if err == nil {
				total += float64(info.Size())
			}
			return err
		})
		return total, err
	}
	after, err := size(dir)
	before, err2 := size(b.template)
	return after - before, errors.Join(err, err2)
}

// open compares a window that holds many records with an empty one.
func (b *bench) open() error {
	b.section(fmt.Sprintf("open: an empty window, and one that held %d records before the first run", b.openRecords))
	return b.withCopy(func(full *meterd, filled *target) error {
		if _, err := b.load(filled, phase{name: "filling", to: b.openRecords}); err != nil {
			return err
		}
		var ratio series
		for range b.repeat {
			var empty *result
			err := b.withCopy(func(m *meterd, t *target) (err error) {
				empty, err = b.load(t, phase{name: "meterd new, empty"})
				b.settle(t, m)
				return err
			})
			if err != nil {
				return err
			}
			held := filled.next.Load()
			r, err := b.load(filled, phase{name: fmt.Sprintf("meterd new, %.1f M open", float64(held)/1e6)})
			if err != nil {
				return err
			}
			ratio = append(ratio, r.perSecond()/empty.perSecond())
		}
		b.settle(filled, full)
		b.row(fmt.Sprintf("%.1f million records in the window ÷ empty, requests/s", float64(b.openRecords)/1e6), "≥ 0.80, aim 0.90", "%s", ratio.format("%.2f"))
		return nil
	})
}

// profile writes profiles of meterd under load. They slow it down a little, so these runs are in no table.
func (b *bench) profile() error {
	b.section("profile: under CPU profiling")
	if err := os.MkdirAll(b.profiles, 0o755); err != nil {
		return err
	}
	return b.withCopy(func(m *meterd, t *target) error {
		for _, p := range []phase{{name: "new"}, {name: "replayed", mode: replay}} {
			p.warm, p.measure = b.warm, b.measure
			if p.mode == replay {
				p.to = t.next.Load()
			}
			taken := make(chan error, 1)
			go func() {
				time.Sleep(p.warm)
				taken <- b.save(fmt.Sprintf("%s/debug/pprof/profile?seconds=%d", m.ops, max(1, int(p.measure.Seconds()))), p.name+".cpu.pprof")
			}()
			_, err := b.load(t, p)
			if err = errors.Join(err, <-taken, b.save(m.ops+"/debug/pprof/allocs", p.name+".allocs.pprof")); err != nil {
				return err
			}
		}
		b.settle(t, m)
		return nil
	})
}

func (b *bench) save(url, name string) error {
	content, err := get(b.ctx, url)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(b.profiles, name), content, 0o644)
}
