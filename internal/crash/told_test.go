package crash_test

import (
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/meterd/meterd/internal/process"
)

// TestTold tells commands to end that wait for something that never comes: a pipe without a writer, a database that does
// not answer. They end, and say what they leave.
func TestTold(t *testing.T) {
	t.Parallel()
	data := initialized(t)
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	database := "postgres://" + silent.Addr().String() + "/x?sslmode=disable"
	called := func(t *testing.T, _ string, _ *process.Process) {
		c, err := silent.Accept()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
	}
	piped := func(t *testing.T, pipe string, p *process.Process) {
		fd := -1
		t.Cleanup(func() { syscall.Close(fd) })
		if !p.Poll(t, "it reads the pipe", func() bool {
			fd, err = syscall.Open(pipe, syscall.O_WRONLY|syscall.O_NONBLOCK, 0)
			return err == nil
		}) {
			t.Fatalf("it has ended: %v\n%s", p.Err, &p.Output)
		}
	}
	for _, tt := range []struct {
		name   string
		args   func(pipe, dir string) []string
		waits  func(t *testing.T, pipe string, p *process.Process)
		signal syscall.Signal
		says   string
	}{
		{"verify", func(pipe, _ string) []string { return []string{"verify", "--data", data, "--master-key-file", pipe} }, piped, syscall.SIGTERM, "a verification changes nothing"},
		{"init", func(pipe, dir string) []string { return []string{"init", "--data", dir, "--master-key-file", pipe} }, piped, syscall.SIGINT, "run the same command again, which takes away what this one has left"},
		{"recover-token", func(pipe, _ string) []string {
			return []string{"recover-token", "--data", data, "--master-key-file", pipe}
		}, piped, syscall.SIGTERM, "run it again"},
		{"copy", func(string, string) []string { return []string{"copy", data, database} }, called, syscall.SIGTERM, "may hold a part of a copy: run the same command again"},
		{"copy --finish", func(string, string) []string { return []string{"copy", "--finish", data, database} }, called, syscall.SIGINT, "run the same command again to finish"},
		{"admin", func(pipe, _ string) []string {
			return []string{"admin", "import", pipe, "--endpoint", "http://" + silent.Addr().String(), "--token", "x"}
		}, piped, syscall.SIGTERM, "meterd: "}, // in reading it, or in asking the service,
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "new")
			pipe := filepath.Join(t.TempDir(), "pipe.json")
			if err := syscall.Mkfifo(pipe, 0o600); err != nil {
				t.Fatal(err)
			}
			p := launch(t, append([]string{binary}, tt.args(pipe, dir)...)...)
			tt.waits(t, pipe, p)
			p.Cmd.Process.Signal(tt.signal)
			if code := p.Wait(t); code != 1 {
				t.Errorf("exit code %d, want 1", code)
			}
			oneLine(t, p.Output.String(), tt.says)
			if _, err := os.Stat(dir); err == nil {
				t.Error("it has left its folder")
			}
		})
	}
	verify(t, data)
}
