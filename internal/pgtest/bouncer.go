package pgtest

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// Bouncer is a real PgBouncer in front of a server.
type Bouncer struct{ port int }

// NewBouncer starts PgBouncer in front of the server, with a pool mode, which is session, transaction or statement. It
// lives until the test ends.
func NewBouncer(t testing.TB, s *Server, mode string) *Bouncer {
	t.Helper()
	dir, err := os.MkdirTemp("", "pgtest-bouncer-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &Bouncer{l.Addr().(*net.TCPAddr).Port}
	l.Close()
	config := filepath.Join(dir, "pgbouncer.ini")
	for file, text := range map[string]string{
		filepath.Join(dir, "users"): "\"postgres\" \"\"\n",
		config: fmt.Sprintf("[databases]\n* = host=127.0.0.1 port=%d\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = %d\nunix_socket_dir =\nauth_type = trust\nauth_file = %s\npool_mode = %s\n",
			s.Port, b.port, filepath.Join(dir, "users"), mode),
	} {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	c := exec.Command("/usr/sbin/pgbouncer", config)                                      // Debian's, which is installed by scripts/test-deps
	c.SysProcAttr = &syscall.SysProcAttr{Credential: s.owner, Pdeathsig: syscall.SIGKILL} // it refuses to run as root
	exited, err := launch(c, filepath.Join(dir, "log"), "process up: PgBouncer")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Process.Kill() // it may have ended
		<-exited
	})
	return b
}

// URL is a URL of the server's, by way of PgBouncer.
func (b *Bouncer) URL(of string) string {
	u, err := url.Parse(of)
	if err != nil {
		panic(err)
	}
	u.Host = fmt.Sprintf("127.0.0.1:%d", b.port)
	return u.String()
}
