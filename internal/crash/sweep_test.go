package crash_test

import (
	"context"
	"encoding/hex"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/meterd/meterd/internal/adminapi"
	"github.com/meterd/meterd/internal/ledger"
	"github.com/meterd/meterd/internal/market"
	"github.com/meterd/meterd/internal/process"
	"github.com/meterd/meterd/internal/store"
)

// The sweeps run meterd under strace and strike one system call on the ledger's files: the first, the second, and so
// on until there are no more. Struck means that the process is killed as it enters the call, or that the call fails
// and does nothing.
//
// strace counts the calls of each thread by itself, and Go's goroutines change threads. So strace is attached only
// right before the phase that is swept, which starts all counters, and a commit runs on one thread as it waits for
// nothing but the disk. What was really struck is read from strace's log; a call that was not is an error. A process
// that is traced from its start, when commits follow one another, has one processor, which keeps it on one thread
// most of the time; the log of the test says how many of its calls were struck.

// fault is what happens to the call that is struck, in strace's words.
type fault string

const (
	kill   fault = "signal=SIGKILL"
	eio    fault = "error=EIO"
	enospc fault = "error=ENOSPC"
)

// changes are the system calls by which files can change. The log of each run shows all of them.
const changes = "openat,creat,write,pwrite64,writev,pwritev,pwritev2,fsync,fdatasync,sync_file_range,msync,ftruncate,truncate,fallocate," +
	"rename,renameat,renameat2,link,linkat,symlinkat,unlink,unlinkat,mkdir,mkdirat,flock,copy_file_range,sendfile,splice"

// strike is one run's fault.
type strike struct {
	call  string
	fault fault
	nth   int      // 1 and up; 0 for none
	files []string // the calls that count are those on these files
}

// command is strace's command line, without what it is to trace.
func (s strike) command(t *testing.T, log string) []string {
	t.Helper()
	if _, err := exec.LookPath("strace"); err != nil {
		t.Fatal("strace is not installed; scripts/test-deps installs the Debian package strace")
	}
	args := []string{"strace", "-f", "-o", log, "-e", "trace=" + changes, "-e", "signal=none"}
	for _, file := range s.files {
		args = append(args, "-P", file)
	}
	if s.nth > 0 {
		args = append(args, "-e", fmt.Sprintf("inject=%s:%s:when=%d", s.call, s.fault, s.nth))
	}
	return args
}

// launcher is the command line that begins a program under strace, which is not its parent then.
func (s strike) launcher(t *testing.T, log string) []string {
	return append(s.command(t, log), "-D", "-E", "GOMAXPROCS=1")
}

// attach has strace attach itself to a running process. It returns strace's own process.
func attach(t *testing.T, m *meterd, command []string) *process.Process {
	t.Helper()
	tracer := launch(t, append(command, "-p", fmt.Sprint(m.Cmd.Process.Pid))...)
	if !tracer.Poll(t, "strace attached", func() bool { return strings.Contains(tracer.Output.String(), "attached") }) {
		t.Fatalf("strace could not attach (it needs root, or kernel.yama.ptrace_scope=0): %v\n%s", tracer.Err, &tracer.Output)
	}
	return tracer
}

// trace is what strace's log says.
type trace struct {
	calls  []string // names, in the order in which they were entered
	struck int      // index into calls of the one that was struck; -1 if none was
	text   string
}

// readTrace reads the log of a run. Killed tells that the fault has ended the process.
func readTrace(t *testing.T, log string, s strike, killed bool) trace {
	t.Helper()
	b, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	tr := trace{struck: -1, text: string(b)}
	inside := map[string]int{} // by thread: the call that it is in
	for line := range strings.Lines(tr.text) {
		thread, event, _ := strings.Cut(line, " ")
		event = strings.TrimSpace(event)
		if event == "" || strings.HasPrefix(event, "+++") {
			continue
		}
		if strings.HasPrefix(event, "???") { // a thread of a process that is ending
			continue
		}
		if !strings.HasPrefix(event, "<...") { // not the rest of a line that was begun
			name, _, _ := strings.Cut(event, "(")
			inside[thread] = len(tr.calls)
			tr.calls = append(tr.calls, name)
		}
		if strings.HasSuffix(event, "(INJECTED)") {
			tr.struck = inside[thread]
		}
		if !strings.HasSuffix(event, "<unfinished ...>") && !strings.HasSuffix(event, "?") {
			delete(inside, thread)
		}
	}
	if killed {
		for _, i := range inside { // a call that did not come back
			if tr.calls[i] == s.call {
				tr.struck = max(tr.struck, i)
			}
		}
		if tr.struck < 0 {
			t.Fatalf("meterd was killed, but not in %s:\n%s", s.call, tr.text)
		}
	}
	return tr
}

// count returns how many calls of a name are among the first n of the trace.
func (tr trace) count(name string, n int) (count int) {
	for _, c := range tr.calls[:n] {
		if c == name {
			count++
		}
	}
	return count
}

// sweep strikes every call of a name in turn, or the first most of them. run makes one run and returns what strace
// saw of the phase that is swept, and whether the fault struck in it. In an exact sweep each call must be struck.
func sweep(t *testing.T, s strike, most int, exact bool, run func(t *testing.T, s strike) trace) {
	t.Helper()
	struck := map[int]bool{}
	total := 0
	once := func(nth int) (hit bool) {
		s.nth = nth
		t.Run(fmt.Sprint(nth), func(t *testing.T) {
			tr := run(t, s)
			if hit = tr.struck >= 0; hit {
				struck[tr.count(s.call, tr.struck+1)] = true
			} else {
				total = max(total, tr.count(s.call, len(tr.calls)))
			}
		})
		return hit
	}
	for nth := 1; nth <= most && once(nth) && !t.Failed(); nth++ {
	}
	total = min(total, most)
	for n := 1; exact && n <= total && !t.Failed(); n++ {
		for try := 0; !struck[n] && try < 3; try++ { // the phase has changed threads
			once(n)
		}
		if !struck[n] {
			t.Errorf("%s %d of %d was not struck", s.call, n, total)
		}
	}
	t.Logf("struck: %3d × %s at %s, of %d", len(struck), s.fault, s.call, max(total, len(struck)))
}

// all strikes as many calls as there are.
const all = 1 << 30

// base is a prepared folder and what is known of it.
type base struct {
	data    string
	writers []*writer
}

// fork returns a copy of the folder and of the writers' memory.
func (b *base) fork(t *testing.T) (data string, writers []*writer) {
	t.Helper()
	for i, w := range b.writers {
		c := *w
		c.rand = rand.New(rand.NewPCG(uint64(i), 2))
		c.acked, c.order = maps.Clone(w.acked), slices.Clone(w.order)
		writers = append(writers, &c)
	}
	return copied(t, b.data), writers
}

// few are the buyers in a swept folder: for each of them meterd dev makes tokens when it starts.
const few = 5

// prepare makes a folder with some records. Stopped, its log is empty; killed, the log holds them.
func prepare(t *testing.T, stopped bool) *base {
	t.Helper()
	b := &base{data: folder(t), writers: []*writer{newWriter(legacy, few, 1), newWriter(agent, 0, 2), newWriter(container, 0, 3)}}
	m := dev(t, b.data)
	furnish(t, m, few)
	for range 2 {
		for _, w := range b.writers {
			w.connect(t, m)
			w.mustSend(t, w.fresh(map[string]int{"": 25, "agentcore": 1, "ecs": 1}[w.workload]))
		}
	}
	if stopped {
		m.Stop(t)
	} else {
		m.Kill(t)
	}
	return b
}

// ledgerFiles are the files whose contents are the ledger.
func ledgerFiles(data string) []string {
	return []string{filepath.Join(data, "ledger.db"), filepath.Join(data, "ledger.db-wal")}
}

// allFiles are all files that meterd uses in a folder, and the folder.
func allFiles(data string) []string {
	files := []string{data, data + ".key", filepath.Join(data, "lock")}
	for _, name := range []string{"ledger.db", "ledger.db.new"} {
		for _, suffix := range []string{"", "-wal", "-shm", "-journal", "-mark"} {
			files = append(files, filepath.Join(data, name+suffix))
		}
	}
	return files
}

// steps are the calls that are swept, one commit each: the first of a log, one with replays and conflicts, one with
// a ClientToken, one by MeterUsage without it, one that stores nothing but its audit row.
var steps = []struct {
	name string
	send func(w []*writer) (bool, error)
}{
	{"new", func(w []*writer) (bool, error) { return w[0].send(w[0].fresh(25)) }},
	{"mixed", func(w []*writer) (bool, error) { return w[0].send(w[0].mixed()) }},
	{"token", func(w []*writer) (bool, error) { return w[1].send(w[1].fresh(1)) }},
	{"meter", func(w []*writer) (bool, error) { return w[2].send(w[2].fresh(1)) }},
	{"replay", func(w []*writer) (bool, error) { return w[0].send(w[0].again(25)) }},
}

// TestSweepCommit strikes every write and every sync of a commit.
func TestSweepCommit(t *testing.T) {
	clean := prepare(t, true)
	for n, step := range steps {
		for call, faults := range map[string][]fault{"pwrite64": {kill, eio, enospc}, "fdatasync": {kill, eio, enospc}} {
			for _, f := range faults {
				t.Run(fmt.Sprintf("%s/%s/%s", step.name, call, f), func(t *testing.T) {
					t.Parallel()
					sweep(t, strike{call: call, fault: f}, all, true, func(t *testing.T, s strike) trace { return strikeStep(t, clean, n, s) })
				})
			}
		}
	}
}

// strikeStep makes one run with a fault in the n-th step.
func strikeStep(t *testing.T, b *base, n int, s strike) trace {
	data, writers := b.fork(t)
	s.files = ledgerFiles(data)
	m := dev(t, data)
	for _, w := range writers {
		w.connect(t, m)
	}
	for _, step := range steps[:n] {
		if answered, err := step.send(writers); err != nil || !answered {
			t.Fatal("before any fault: ", answered, err)
		}
	}
	log := filepath.Join(t.TempDir(), "strace")
	tracer := attach(t, m, s.command(t, log))
	answered, err := steps[n].send(writers)
	if err != nil {
		t.Fatal(err)
	}
	killed := s.fault == kill && !answered
	if killed {
		m.Wait(t)
		tracer.Wait(t)
	}
	tr := readTrace(t, log, s, killed)
	for _, c := range tr.calls {
		if c != "pwrite64" && c != "fdatasync" {
			t.Errorf("a commit uses %s on the ledger's files, which is not swept:\n%s", c, tr.text)
		}
	}
	if tr.struck < 0 { // it has no n-th call
		if !answered {
			t.Errorf("the call was not answered, although nothing was struck:\n%s", tr.text)
		}
		m.Kill(t)
		return tr
	}
	if answered {
		t.Fatalf("the call was answered, although its commit could not be:\n%s", tr.text)
	}
	if s.fault != kill {
		failed(t, m, writers)
		if now := readTrace(t, log, s, false); len(now.calls) != tr.struck+1 {
			t.Errorf("meterd goes on after a failure:\n%s", now.text)
		}
		m.Stop(t)
	}
	recovered(t, data, writers)
	return tr
}

// failed holds a meterd whose disk has failed to what is left: it says so, and acknowledges nothing.
func failed(t *testing.T, m *meterd, writers []*writer) {
	t.Helper()
	if live := m.health(t, "/livez"); live != http.StatusOK {
		t.Errorf("/livez is %d, want 200", live)
	}
	if ready := m.health(t, "/readyz"); ready != http.StatusServiceUnavailable {
		t.Errorf("/readyz is %d after the disk has failed, want 503", ready)
	}
	for _, step := range steps {
		if answered, err := step.send(writers); err != nil || answered {
			t.Errorf("%s is answered %v, %v after the disk has failed", step.name, answered, err)
		}
	}
}

// recovered starts meterd without a fault and holds it to what was acknowledged.
func recovered(t *testing.T, data string, writers []*writer) {
	t.Helper()
	m := dev(t, data)
	verify(t, data)
	r := check(t, m, writers...)
	if r.doubt > 0 {
		t.Logf("%d calls unanswered, %d stored", r.doubt, r.stored)
	}
	m.Stop(t)
}

// TestSweepStop strikes everything that meterd does to its files while it stops.
func TestSweepStop(t *testing.T) {
	b := prepare(t, true)
	for _, call := range []string{"pwrite64", "fdatasync", "fsync", "ftruncate", "fallocate", "unlinkat", "openat", "flock"} {
		for _, f := range []fault{kill, eio, enospc} {
			t.Run(fmt.Sprintf("%s/%s", call, f), func(t *testing.T) {
				t.Parallel()
				sweep(t, strike{call: call, fault: f}, all, true, func(t *testing.T, s strike) trace {
					data, writers := b.fork(t)
					mark := filepath.Join(data, "ledger.db-mark") // written now and then, so nobody knows how often
					s.files = slices.DeleteFunc(allFiles(data), func(file string) bool { return file == mark })
					m := dev(t, data)
					for _, w := range writers {
						w.connect(t, m)
					}
					for _, step := range steps {
						if answered, err := step.send(writers); err != nil || !answered {
							t.Fatal("before any fault: ", answered, err)
						}
					}
					log := filepath.Join(t.TempDir(), "strace")
					tracer := attach(t, m, s.command(t, log))
					m.Cmd.Process.Signal(syscall.SIGTERM)
					ended(t, m.Process, s)
					tracer.Wait(t)
					tr := readTrace(t, log, s, m.Killed())
					known(t, tr, "pwrite64", "fdatasync", "fsync", "ftruncate", "fallocate", "unlinkat", "openat", "flock")
					recovered(t, data, writers)
					return tr
				})
			})
		}
	}
}

// TestSweepStart strikes everything that meterd does to its files while it starts on a folder that a killed process
// has left.
func TestSweepStart(t *testing.T) {
	b := prepare(t, false)
	for _, call := range []string{"openat", "flock", "ftruncate", "fallocate", "pwrite64", "fsync", "fdatasync", "unlinkat"} {
		for _, f := range []fault{kill, eio, enospc} {
			t.Run(fmt.Sprintf("%s/%s", call, f), func(t *testing.T) {
				t.Parallel()
				sweep(t, strike{call: call, fault: f}, 12, false, func(t *testing.T, s strike) trace {
					data, writers := b.fork(t)
					s.files = allFiles(data)
					log := filepath.Join(t.TempDir(), "strace")
					m := launchDev(t, data, s.launcher(t, log)...)
					survived := m.Ready(t)
					if survived {
						m.Kill(t)
					} else if !m.Killed() && m.Cmd.ProcessState.ExitCode() != 1 {
						t.Errorf("meterd ended with %v:\n%s", m.Err, &m.Output)
					}
					tr := readTrace(t, log, s, !survived && m.Killed())
					known(t, tr, "openat", "flock", "ftruncate", "fallocate", "pwrite64", "fsync", "fdatasync", "unlinkat", "write", "mkdirat")
					recovered(t, data, writers)
					return tr
				})
			})
		}
	}
}

// known notes calls that a sweep leaves out.
func known(t *testing.T, tr trace, calls ...string) {
	t.Helper()
	for _, c := range tr.calls {
		if !slices.Contains(calls, c) {
			t.Errorf("%s is used on the ledger's files, but not swept:\n%s", c, tr.text)
		}
	}
}

// ended waits for a process that may have been killed by its strike, or may say that it failed.
func ended(t *testing.T, p *process.Process, s strike) {
	t.Helper()
	if code := p.Wait(t); code == 0 || s.fault == kill && p.Killed() || code == 1 && strings.Contains(p.Output.String(), "meterd: ") {
		return
	}
	t.Errorf("meterd ended with %v:\n%s", p.Err, &p.Output)
}

// TestSweepCheckpoint strikes the copying of a long log into the database, beside the service.
func TestSweepCheckpoint(t *testing.T) {
	b := prepareLong(t)
	type point struct {
		strike
		file string
	}
	var points []point
	for _, f := range []fault{kill, eio, enospc} {
		for _, nth := range []int{1, 2, 3, 10, 30, 60} {
			points = append(points, point{strike{call: "pwrite64", fault: f, nth: nth}, "ledger.db"})
		}
		points = append(points, point{strike{call: "fdatasync", fault: f, nth: 1}, "ledger.db"})
		// The log, and with it its index, grows without bound while somebody reads what is in it.
		points = append(points, point{strike{call: "fallocate", fault: f, nth: 1}, "ledger.db-shm"})
	}
	for _, p := range points {
		t.Run(fmt.Sprintf("%s/%s/%d", p.call, p.fault, p.nth), func(t *testing.T) {
			t.Parallel()
			data, writers := b.fork(t)
			p.files = []string{filepath.Join(data, p.file)}
			m := dev(t, data)
			for _, w := range writers {
				w.connect(t, m)
			}
			log := filepath.Join(t.TempDir(), "strace")
			release := func() {}
			if p.file == "ledger.db-shm" {
				release = reading(t, data)
				defer release()
			}
			tracer := attach(t, m, p.command(t, log))
			answered := true
			for n := 0; n < 2000 && answered; n++ {
				var err error
				if answered, err = writers[0].send(writers[0].again(25)); err != nil {
					t.Fatal(err)
				}
				if p.fault != kill && m.health(t, "/readyz") != http.StatusOK {
					answered = false
				}
			}
			if answered {
				t.Fatalf("%s was not struck:\n%s", p.call, readTrace(t, log, p.strike, false).text)
			}
			if p.fault == kill {
				m.Wait(t)
				tracer.Wait(t)
			} else {
				failed(t, m, writers)
				m.Stop(t)
			}
			release()
			if tr := readTrace(t, log, p.strike, p.fault == kill); tr.struck < 0 {
				t.Errorf("%s was not struck:\n%s", p.call, tr.text)
			}
			t.Logf("struck:   1 × %s at %s, of 1", p.fault, p.call)
			recovered(t, data, writers)
		})
	}
}

// reading reads the ledger until release is called.
func reading(t *testing.T, data string) (release func()) {
	t.Helper()
	started, enough, ended := make(chan struct{}), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		err := store.Read(data, func(r *store.Reader, _ store.Meta) error {
			_, err := r.Value("ledger")
			close(started)
			<-enough
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}()
	select {
	case <-started:
	case <-ended:
		t.FailNow()
	}
	return sync.OnceFunc(func() { close(enough); <-ended })
}

// prepareLong makes a folder whose log is nearly long enough for a checkpoint.
func prepareLong(t *testing.T) *base {
	t.Helper()
	b := &base{data: folder(t), writers: []*writer{newWriter(legacy, few, 1), newWriter(agent, 0, 2), newWriter(container, 0, 3)}}
	m := dev(t, b.data)
	furnish(t, m, few)
	for _, w := range b.writers {
		w.connect(t, m)
		w.mustSend(t, w.fresh(map[string]int{"": 25, "agentcore": 1, "ecs": 1}[w.workload]))
	}
	const frame = 4096 + 24
	for {
		info, err := os.Stat(filepath.Join(b.data, "ledger.db-wal"))
		if err != nil {
			t.Fatal(err)
		}
		if info.Size() > 3800*frame { // starting again adds some
			m.Kill(t)
			return b
		}
		w := b.writers[0]
		if records := w.fresh(25); len(records) > 0 {
			w.mustSend(t, records)
		} else {
			w.mustSend(t, w.conflicting(25))
		}
	}
}

// TestSweepCreate strikes everything that meterd dev and meterd init do to the files of a new ledger. The next try
// must find nothing or a whole ledger, and no mess that a person has to clear up.
func TestSweepCreate(t *testing.T) {
	// What comes later are commits of a ledger that exists, one like the other: TestSweepCommit strikes those.
	most := map[string]int{"pwrite64": 6, "fdatasync": 14, "unlinkat": 12, "openat": 16}
	for _, call := range []string{"mkdirat", "openat", "flock", "pwrite64", "write", "fdatasync", "fsync", "ftruncate", "fallocate", "renameat", "unlinkat"} {
		for _, f := range []fault{kill, eio, enospc} {
			if call == "openat" && f == enospc || call == "unlinkat" && f == enospc {
				continue // as EIO
			}
			for command, create := range map[string]func(*testing.T, strike) trace{"dev": createDev, "init": createInit} {
				t.Run(fmt.Sprintf("%s/%s/%s", command, call, f), func(t *testing.T) {
					t.Parallel()
					limit := most[call]
					if limit == 0 {
						limit = all
					}
					sweep(t, strike{call: call, fault: f}, limit, false, create)
				})
			}
		}
	}
}

func createDev(t *testing.T, s strike) trace {
	data := folder(t)
	s.files = allFiles(data)
	log := filepath.Join(t.TempDir(), "strace")
	m := launchDev(t, data, s.launcher(t, log)...)
	survived := m.Ready(t)
	if survived {
		m.Kill(t)
	} else {
		ended(t, m.Process, s)
	}
	tr := readTrace(t, log, s, !survived && m.Killed())
	m = dev(t, data)
	if len(m.Sellers) == 0 || len(m.Buyers) == 0 || len(m.Products) == 0 {
		t.Fatalf("the second try serves an empty marketplace; the first did this:\n%s", tr.text)
	}
	furnish(t, m, few)
	w := newWriter(legacy, few, 1)
	w.connect(t, m)
	w.mustSend(t, w.fresh(25))
	m.Kill(t)
	recovered(t, data, []*writer{w})
	return tr
}

func createInit(t *testing.T, s strike) trace {
	data := folder(t)
	s.files = allFiles(data)
	log := filepath.Join(t.TempDir(), "strace")
	p := launch(t, append(s.launcher(t, log), binary, "init", "--data", data)...)
	ended(t, p, s)
	tr := readTrace(t, log, s, p.Killed())
	code, said := meterdRun(t, "init", "--data", data)
	if code != 0 && !strings.Contains(said, "there is a ledger already") {
		t.Fatalf("the second try says %s\nthe first said %s\nand did this:\n%s", said, &p.Output, tr.text)
	}
	verify(t, data)
	key, err := os.ReadFile(data + ".key")
	if err != nil {
		t.Fatal(err)
	}
	master, err := hex.DecodeString(strings.TrimSpace(string(key)))
	if err != nil {
		t.Fatal(err)
	}
	l, err := ledger.Open(ledger.Config{Store: data, MasterKey: master, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	regions, err := ledger.List(context.Background(), l, l.Local(), market.Regions(adminapi.Paging{}), "", 0)
	if err != nil || len(regions.Items) < 10 {
		t.Errorf("the ledger knows %d regions (%v); the first try did this:\n%s", len(regions.Items), err, tr.text)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	return tr
}
