// Package process runs programs from outside, above all the meterd that is built from this module, for tests that
// treat it as its users do.
package process

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/meterd/meterd/internal/sandbox"
)

// Patience is how long a process may take for anything before it counts as hanging. meterd gives itself 20 s to stop.
const Patience = 60 * time.Second

// Main builds meterd as it is shipped, runs the tests and removes it again. It is for TestMain; use is given the path of
// the binary.
func Main(m *testing.M, use func(binary string)) {
	code, err := run(m, use)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M, use func(binary string)) (code int, err error) {
	dir, err := os.MkdirTemp("", "meterd-built")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil { // other users run it too
		return 0, err
	}
	binary := filepath.Join(dir, "meterd")
	build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-o", binary, "github.com/meterd/meterd/cmd/meterd")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	build.Stdout, build.Stderr = os.Stderr, os.Stderr
	if err := build.Run(); err != nil {
		return 0, fmt.Errorf("%s: %w", build, err)
	}
	use(binary)
	return m.Run(), nil
}

// Environment is the test's own, without what would lead meterd or a client elsewhere.
func Environment() []string {
	return slices.DeleteFunc(os.Environ(), func(variable string) bool {
		name, _, _ := strings.Cut(strings.ToUpper(variable), "=")
		return strings.HasPrefix(name, "AWS_") || strings.HasPrefix(name, "METERD_") || strings.HasSuffix(name, "_PROXY")
	})
}

// Process is a program that was started.
type Process struct {
	Cmd    *exec.Cmd
	Output Output        // what it says, on both streams
	Ended  chan struct{} // closed when it has ended
	Err    error         // how, once it has ended
}

// Output collects what a process says, and can be read while it runs.
type Output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *Output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *Output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// Start starts a program, which does not outlive the test, in [Environment]. A test that has failed shows what it said.
func Start(t testing.TB, cmd *exec.Cmd) *Process {
	t.Helper()
	p := &Process{Cmd: cmd, Ended: make(chan struct{})}
	cmd.Env = Environment()
	cmd.Stdout, cmd.Stderr = &p.Output, &p.Output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.Err = cmd.Wait()
		close(p.Ended)
	}()
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-p.Ended
		if t.Failed() {
			said := p.Output.String()
			if _, log, ok := strings.Cut(said, "Press Ctrl-C to stop."); ok {
				said = log // what it says to people is long
			}
			t.Logf("%s: %v\n%s", strings.Join(cmd.Args, " "), p.Err, said)
		}
	})
	return p
}

// Wait waits for the end of the process and returns its exit code, -1 if a signal ended it.
func (p *Process) Wait(t testing.TB) int {
	t.Helper()
	select {
	case <-p.Ended:
		return p.Cmd.ProcessState.ExitCode()
	case <-time.After(Patience):
		p.Cmd.Process.Signal(syscall.SIGQUIT) // where does it hang?
		<-p.Ended
		t.Fatalf("%s has not ended in %v:\n%s", strings.Join(p.Cmd.Args, " "), Patience, &p.Output)
		return 0
	}
}

// Killed reports whether SIGKILL ended the process.
func (p *Process) Killed() bool {
	status, ok := p.Cmd.ProcessState.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == syscall.SIGKILL
}

// Poll asks again and again until done reports true, or until the process ends, which Poll reports as false. It is for what
// a program of which a test hears nothing leaves in files, answers or logs; where there is something to wait for, wait for
// that.
func (p *Process) Poll(t testing.TB, what string, done func() bool) bool {
	t.Helper()
	deadline := time.After(Patience)
	ticks := time.NewTicker(2 * time.Millisecond)
	defer ticks.Stop()
	for !done() {
		select {
		case <-p.Ended:
			return done()
		case <-deadline:
			t.Fatalf("%s: not in %v:\n%s", what, Patience, &p.Output)
		case <-ticks.C:
		}
	}
	return true
}

// Kill ends the process as a machine does that is out of memory.
func (p *Process) Kill(t testing.TB) {
	t.Helper()
	p.Cmd.Process.Kill()
	p.Wait(t)
}

// KillAfter kills the process when it has read and written that many bytes, or has ended before.
func (p *Process) KillAfter(t testing.TB, bytes int64) {
	t.Helper()
	p.Poll(t, "the process works", func() bool {
		said, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", p.Cmd.Process.Pid))
		if err != nil {
			return true // it has ended
		}
		var read, written int64
		if _, err := fmt.Sscanf(string(said), "rchar: %d\nwchar: %d\n", &read, &written); err != nil {
			t.Fatalf("%v in %s", err, said)
		}
		return read+written >= bytes
	})
	p.Kill(t)
}

// Stop has the process end in order, which must be a success.
func (p *Process) Stop(t testing.TB) {
	t.Helper()
	p.Cmd.Process.Signal(syscall.SIGTERM)
	if code := p.Wait(t); code != 0 {
		t.Fatalf("told to stop, %s ended with %v, not with success:\n%s", filepath.Base(p.Cmd.Path), p.Err, &p.Output)
	}
}

// Sandbox is a running meterd dev.
type Sandbox struct {
	*Process
	File string // its description
	sandbox.Description
}

// StartSandbox starts meterd dev on free ports of loopback, under the wrapping command if there is one, and does not wait
// for it. Args say where its ledger is, as --data and --store do.
func StartSandbox(t testing.TB, binary string, args []string, wrap ...string) *Sandbox {
	t.Helper()
	s := &Sandbox{File: filepath.Join(t.TempDir(), "sandbox.json")}
	command := append(slices.Clone(wrap), binary, "dev", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0",
		"--describe", s.File)
	command = append(command, args...)
	s.Process = Start(t, exec.Command(command[0], command[1:]...))
	return s
}

// Ready waits until the sandbox serves, and reads its description. It reports false if it has ended instead.
func (s *Sandbox) Ready(t testing.TB) bool {
	t.Helper()
	return s.Poll(t, "meterd dev ready", func() bool {
		data, err := os.ReadFile(s.File)
		if errors.Is(err, fs.ErrNotExist) {
			return false
		}
		if err == nil {
			err = json.Unmarshal(data, &s.Description)
		}
		if err != nil {
			t.Fatal(err)
		}
		return true
	})
}
