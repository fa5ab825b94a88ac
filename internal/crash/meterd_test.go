package crash_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/meterd/meterd/internal/adminapi"
	"github.com/meterd/meterd/internal/sandbox"
)

var binary string // the meterd under test

func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	dir, err := os.MkdirTemp("", "meterd-crash")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil { // others run it too
		return 0, err
	}
	binary = filepath.Join(dir, "meterd")
	build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-o", binary, "../../cmd/meterd")
	build.Env = append(os.Environ(), "CGO_ENABLED=0") // as it is shipped
	build.Stdout, build.Stderr = os.Stderr, os.Stderr
	if err := build.Run(); err != nil {
		return 0, fmt.Errorf("go build ./cmd/meterd: %w", err)
	}
	return m.Run(), nil
}

// patience is how long a process may take for anything before it counts as hanging. meterd gives itself 20 s to
// stop.
const patience = 60 * time.Second

// environment is the test's own, without what would lead meterd or the SDK elsewhere.
func environment() []string {
	return slices.DeleteFunc(os.Environ(), func(variable string) bool {
		name, _, _ := strings.Cut(strings.ToUpper(variable), "=")
		return strings.HasPrefix(name, "AWS_") || strings.HasPrefix(name, "METERD_") || strings.HasSuffix(name, "_PROXY")
	})
}

// process is a running program.
type process struct {
	cmd    *exec.Cmd
	output output
	ended  chan struct{} // closed when it has ended
	err    error         // how, once ended
}

// output collects what a process says, and can be read while it runs.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// launch starts a program, which does not outlive the test.
func launch(t *testing.T, args ...string) *process {
	t.Helper()
	return start(t, exec.Command(args[0], args[1:]...))
}

func start(t *testing.T, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{cmd: cmd, ended: make(chan struct{})}
	cmd.Env = environment()
	cmd.Stdout, cmd.Stderr = &p.output, &p.output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.err = cmd.Wait()
		close(p.ended)
	}()
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-p.ended
		if t.Failed() {
			said := p.output.String()
			if _, log, ok := strings.Cut(said, "Press Ctrl-C to stop."); ok {
				said = log // what it says to people is long
			}
			t.Logf("%s: %v\n%s", strings.Join(cmd.Args, " "), p.err, said)
		}
	})
	return p
}

// wait waits for the end of the process and returns its exit code, -1 if a signal ended it.
func (p *process) wait(t *testing.T) int {
	t.Helper()
	select {
	case <-p.ended:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(patience):
		p.cmd.Process.Signal(syscall.SIGQUIT) // where does it hang?
		<-p.ended
		t.Fatalf("%s has not ended in %v:\n%s", strings.Join(p.cmd.Args, " "), patience, &p.output)
		return 0
	}
}

// killed tells whether SIGKILL ended the process.
func (p *process) killed() bool {
	status, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == syscall.SIGKILL
}

// poll asks again and again until done says so, or until the process ends, which it reports as false.
func (p *process) poll(t *testing.T, what string, done func() bool) bool {
	t.Helper()
	deadline := time.After(patience)
	ticks := time.NewTicker(2 * time.Millisecond)
	defer ticks.Stop()
	for !done() {
		select {
		case <-p.ended:
			return done()
		case <-deadline:
			t.Fatalf("%s: not in %v:\n%s", what, patience, &p.output)
		case <-ticks.C:
		}
	}
	return true
}

// killAfter kills the process when it has read and written that many bytes, or has ended before.
func (p *process) killAfter(t *testing.T, bytes int64) {
	t.Helper()
	p.poll(t, "the process works", func() bool {
		said, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", p.cmd.Process.Pid))
		if err != nil {
			return true // it has ended
		}
		var read, written int64
		if _, err := fmt.Sscanf(string(said), "rchar: %d\nwchar: %d\n", &read, &written); err != nil {
			t.Fatalf("%v in %s", err, said)
		}
		return read+written >= bytes
	})
	p.cmd.Process.Kill()
	p.wait(t)
}

// meterd is a running meterd dev.
type meterd struct {
	*process
	describe string
	client   *http.Client // of its own: another process may get the port of one that is dead
	sandbox.Description
}

// at is the flag that names a ledger's folder or database.
func at(place string) []string {
	if strings.HasPrefix(place, "postgres://") {
		return []string{"--store", place}
	}
	return []string{"--data", place}
}

// launchDev starts a sandbox in the folder or database, under the wrapping command if there is one, and does not wait for it.
func launchDev(t *testing.T, data string, wrap ...string) *meterd {
	t.Helper()
	describe := filepath.Join(t.TempDir(), "sandbox.json")
	args := append(slices.Clone(wrap), binary, "dev", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0",
		"--describe", describe)
	args = append(args, at(data)...)
	client := &http.Client{Timeout: patience, Transport: &http.Transport{MaxIdleConnsPerHost: 16}}
	t.Cleanup(client.CloseIdleConnections)
	return &meterd{process: launch(t, args...), describe: describe, client: client}
}

// ready waits until the sandbox serves; false tells that it has ended instead.
func (m *meterd) ready(t *testing.T) bool {
	t.Helper()
	return m.poll(t, "meterd dev ready", func() bool {
		data, err := os.ReadFile(m.describe)
		if errors.Is(err, fs.ErrNotExist) {
			return false
		}
		if err == nil {
			err = json.Unmarshal(data, &m.Description)
		}
		if err != nil {
			t.Fatal(err)
		}
		return true
	})
}

// dev runs a sandbox in the folder, ready to serve.
func dev(t *testing.T, data string) *meterd {
	t.Helper()
	m := launchDev(t, data)
	if !m.ready(t) {
		t.Fatalf("meterd dev ended before it was ready: %v\n%s", m.err, &m.output)
	}
	return m
}

// stop has meterd stop in order, which must be a success.
func (m *meterd) stop(t *testing.T) {
	t.Helper()
	m.cmd.Process.Signal(syscall.SIGTERM)
	if code := m.wait(t); code != 0 {
		t.Fatalf("told to stop, meterd ended with %v, not with success:\n%s", m.err, &m.output)
	}
}

// kill ends meterd as a machine does that is out of memory.
func (m *meterd) kill(t *testing.T) {
	t.Helper()
	m.cmd.Process.Kill()
	m.wait(t)
}

// admin calls the admin API and reads the answer into out.
func (m *meterd) admin(t *testing.T, method, path string, in, out any) {
	t.Helper()
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequest(method, m.AdminEndpoint+path, body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+m.AdminToken)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	answer, err := m.client.Do(req)
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", method, path, err, &m.output)
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	if answer.StatusCode/100 != 2 {
		t.Fatalf("%s %s: %s\n%s", method, path, answer.Status, b)
	}
	if err := json.Unmarshal(b, out); err != nil {
		t.Fatalf("%s %s: %v in %s", method, path, err, b)
	}
}

// usage returns every record that is stored, in the order in which they were accepted.
func (m *meterd) usage(t *testing.T) (records []adminapi.UsageRecord) {
	t.Helper()
	for next := ""; ; {
		var page adminapi.UsagePage
		m.admin(t, "GET", "/v1/usage?limit=1000&after="+url.QueryEscape(next), nil, &page)
		records = append(records, page.Records...)
		if next = page.Next; next == "" {
			return records
		}
	}
}

// sums returns what the service says that was stored, by product and dimension.
func (m *meterd) sums(t *testing.T) map[[2]string]total {
	t.Helper()
	var answer adminapi.UsageSums
	m.admin(t, "GET", "/v1/usage/sum?by=product_code,dimension", nil, &answer)
	sums := map[[2]string]total{}
	for _, s := range answer.Sums {
		sums[[2]string{s.ProductCode, s.Dimension}] = total{s.Records, s.Quantity}
	}
	return sums
}

// health returns the status of a page of the operations endpoint.
func (m *meterd) health(t *testing.T, path string) int {
	t.Helper()
	answer, err := m.client.Get(m.OpsEndpoint + path)
	if err != nil {
		t.Fatalf("%s: %v\n%s", path, err, &m.output)
	}
	answer.Body.Close()
	return answer.StatusCode
}

// meterdRun runs a command of meterd to its end and returns its exit code and what it said.
func meterdRun(t *testing.T, args ...string) (code int, said string) {
	t.Helper()
	p := launch(t, append([]string{binary}, args...)...)
	code = p.wait(t)
	return code, p.output.String()
}

// verify has meterd recompute everything in the folder or database, beside a running server or not.
func verify(t *testing.T, data string) {
	t.Helper()
	if code, said := meterdRun(t, append([]string{"verify"}, at(data)...)...); code != 0 {
		t.Fatalf("meterd verify of %s: exit code %d:\n%s", data, code, said)
	}
}

// folder returns a new folder for a ledger, as the kernel names it.
func folder(t *testing.T) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "data")
}

// copied returns a copy of a ledger's folder.
func copied(t *testing.T, data string) string {
	t.Helper()
	to := folder(t)
	if err := os.CopyFS(to, os.DirFS(data)); err != nil {
		t.Fatal(err)
	}
	return to
}
