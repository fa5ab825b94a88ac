// Package pgtest runs real PostgreSQL servers for tests: each in a temporary folder, as an unprivileged user, on
// loopback, with fsync on. Servers end with their test, or with the process if it is killed.
package pgtest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"
)

// Bin returns the folder of the server's programs: of the version that METERD_TEST_POSTGRES_VERSION names, or of the
// newest of Debian's.
func Bin() (string, error) {
	version := os.Getenv("METERD_TEST_POSTGRES_VERSION")
	if version == "" {
		version = "*"
	}
	for _, pattern := range []string{"/usr/lib/postgresql/" + version + "/bin/postgres", filepath.Join(root(), ".tools/postgresql-"+version+"/bin/postgres")} {
		found, _ := filepath.Glob(pattern)
		slices.Sort(found)
		if len(found) > 0 {
			return filepath.Dir(found[len(found)-1]), nil
		}
	}
	return "", fmt.Errorf("there is no PostgreSQL server of version %s; scripts/test-deps installs it", version)
}

// root is the folder of the module.
func root() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Dir(filepath.Dir(filepath.Dir(file)))
}

// Server is a PostgreSQL server.
type Server struct {
	bin, dir string
	Port     int
	options  []string
	owner    *syscall.Credential // nil for the user who runs the test
	process  *os.Process
	exited   chan struct{}
}

// Start starts a server that lives until the test ends. Options are settings, such as "max_connections=20".
func Start(t testing.TB, options ...string) *Server {
	t.Helper()
	s, err := start(options...)
	if err != nil {
		t.Fatal(err)
	}
	s.end(t)
	return s
}

// end removes the server when the test ends.
func (s *Server) end(t testing.TB) {
	t.Cleanup(func() {
		if t.Failed() {
			log, _ := os.ReadFile(filepath.Join(s.dir, "log"))
			t.Logf("the end of the log of PostgreSQL:\n%s", log[max(0, len(log)-4000):])
		}
		s.remove()
	})
}

func start(options ...string) (*Server, error) {
	bin, err := Bin()
	if err != nil {
		return nil, err
	}
	return startIn(bin, options)
}

// startIn starts a new server by the programs in a folder.
func startIn(bin string, options []string) (*Server, error) {
	s, err := folder(bin, options)
	if err != nil {
		return nil, err
	}
	initdb := s.command("initdb", "-D", s.data(), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "--data-checksums")
	if out, err := initdb.CombinedOutput(); err != nil {
		s.remove()
		return nil, fmt.Errorf("initdb: %w\n%s", err, out)
	}
	if err := errors.Join(s.trust(), s.Start()); err != nil {
		s.remove()
		return nil, err
	}
	return s, nil
}

// trust lets those in who come over a link of this machine's, if the server listens there: initdb has let in those of
// loopback.
func (s *Server) trust() error {
	f, err := os.OpenFile(filepath.Join(s.data(), "pg_hba.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString("host all all samenet trust\n")
	return errors.Join(err, f.Close())
}

// folder makes the server's folder, and chooses its port and user.
func folder(bin string, options []string) (s *Server, err error) {
	s = &Server{bin: bin, options: options}
	if s.dir, err = os.MkdirTemp("", "pgtest-"); err != nil {
		return nil, err
	}
	if os.Getuid() == 0 {
		u, err := user.Lookup("postgres")
		if err != nil {
			u, err = user.Lookup("nobody")
		}
		if err != nil {
			return nil, err
		}
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		s.owner = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		if err := os.Chown(s.dir, uid, gid); err != nil {
			return nil, err
		}
	}
	if s.owner != nil && !others(s.bin) {
		if s.bin, err = copied(s.bin, s.dir); err != nil {
			return nil, err
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s.Port = l.Addr().(*net.TCPAddr).Port
	return s, l.Close()
}

// others reports whether every user may reach the folder.
func others(dir string) bool {
	dir, err := filepath.EvalSymlinks(dir)
	for ; err == nil && dir != "/"; dir = filepath.Dir(dir) {
		var info os.FileInfo
		if info, err = os.Stat(dir); err == nil && info.Mode()&1 == 0 {
			return false
		}
	}
	return err == nil
}

// copied copies an installation, of which bin is the folder of programs, and returns that of the copy.
func copied(bin, to string) (string, error) {
	bin, err := filepath.EvalSymlinks(bin)
	if err != nil {
		return "", err
	}
	to = filepath.Join(to, "postgres")
	if out, err := exec.Command("cp", "-a", filepath.Dir(bin), to).CombinedOutput(); err != nil {
		return "", fmt.Errorf("copying PostgreSQL: %w\n%s", err, out)
	}
	return filepath.Join(to, filepath.Base(bin)), nil
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

func (s *Server) command(program string, args ...string) *exec.Cmd {
	c := exec.Command(filepath.Join(s.bin, program), args...)
	c.Dir = s.dir
	c.SysProcAttr = &syscall.SysProcAttr{Credential: s.owner}
	c.Env = append(os.Environ(), "LC_ALL=C", "HOME="+s.dir)
	return c
}

// URL is that of the server's database, for its superuser.
func (s *Server) URL() string {
	return fmt.Sprintf("postgres://postgres@127.0.0.1:%d/postgres?sslmode=disable", s.Port)
}

// Start starts the server again, on the same folder and port, and waits until it answers.
func (s *Server) Start() error {
	args := []string{"-D", s.data(), "-p", strconv.Itoa(s.Port), "-k", s.dir, "-c", "listen_addresses=127.0.0.1"}
	for _, o := range append([]string{"max_connections=200", "shared_buffers=64MB", "max_wal_size=2GB", "wal_level=replica", "hot_standby=on"}, s.options...) {
		args = append(args, "-c", o)
	}
	c := s.command("postgres", args...)
	c.SysProcAttr.Pdeathsig = syscall.SIGQUIT
	exited, err := launch(c, filepath.Join(s.dir, "log"), "database system is ready to accept")
	if err != nil {
		return err
	}
	s.process, s.exited = c.Process, exited
	return nil
}

// Wait waits until a query returns 1 or true. It is for what the views of the server's activity and the state of its
// replication show, by asking again and again: PostgreSQL tells nobody when they change.
func (s *Server) Wait(query string) error {
	again, deadline := time.NewTicker(20*time.Millisecond), time.After(patience)
	defer again.Stop()
	for {
		n, err := s.number(query)
		if err == nil && n == 1 {
			return nil
		}
		select {
		case <-again.C:
		case <-s.exited:
			log, _ := os.ReadFile(filepath.Join(s.dir, "log"))
			return fmt.Errorf("PostgreSQL has ended:\n%s", log[max(0, len(log)-4000):])
		case <-deadline:
			return fmt.Errorf("PostgreSQL does not answer %q as it should in %v, but %d, %v", query, patience, n, err)
		}
	}
}

func (s *Server) number(query string) (n int, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.URL())
	if err != nil {
		return 0, err
	}
	defer conn.Close(ctx)
	err = conn.QueryRow(ctx, "SELECT ("+query+")::int").Scan(&n)
	return n, err
}

// Exec runs a statement.
func (s *Server) Exec(sql string) error {
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, s.URL())
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, sql)
	return errors.Join(err, conn.Close(ctx))
}

// Stop shuts the server down: "fast" as an operator does, "immediate" without writing anything more.
func (s *Server) Stop(mode string) {
	signal := syscall.SIGINT
	if mode == "immediate" {
		signal = syscall.SIGQUIT
	}
	_ = s.process.Signal(signal) // it may have ended
	<-s.exited
}

// Kill ends all of the server's processes at once, as when its machine goes down. When it returns they are gone, and
// with them their shared memory, without which the server would not start again.
func (s *Server) Kill() {
	s.signal(syscall.SIGKILL)
	<-s.exited
}

// Pause stops all of its processes where they are, and Resume lets them go on.
func (s *Server) Pause()  { s.signal(syscall.SIGSTOP) }
func (s *Server) Resume() { s.signal(syscall.SIGCONT) }

// signal signals the server and its children. The first one goes to the server, so that it starts no others.
func (s *Server) signal(signal syscall.Signal) {
	for _, pid := range s.processes() {
		_ = syscall.Kill(pid, signal) // it may have ended
	}
}

func (s *Server) processes() []int {
	pids := []int{s.process.Pid}
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", s.process.Pid))
	for _, f := range files {
		children, _ := os.ReadFile(f)
		for _, c := range strings.Fields(string(children)) {
			if pid, err := strconv.Atoi(c); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

func (s *Server) remove() {
	if s.process != nil {
		s.signal(syscall.SIGCONT)
		s.Stop("immediate")
	}
	os.RemoveAll(s.dir)
}

// Promote makes a standby take writes, without a standby of its own. The statement that asks for it does not wait: what
// it had seen would hold up the recovery that it waited for.
func (s *Server) Promote() error {
	return errors.Join(s.Exec("SELECT pg_promote(false)"), s.Wait("SELECT NOT pg_is_in_recovery()"),
		s.Exec("ALTER SYSTEM SET synchronous_standby_names = ''"), s.Exec("SELECT pg_reload_conf()"))
}

// Lag has a standby follow its primary no more, for whose commits the primary then waits no more.
func (s *Server) Lag(primary *Server) error {
	return errors.Join(primary.Exec("ALTER SYSTEM SET synchronous_standby_names = ''"), primary.Exec("SELECT pg_reload_conf()"),
		s.Exec("ALTER SYSTEM SET primary_conninfo = ''"), s.Exec("SELECT pg_reload_conf()"), s.Wait("SELECT count(*) = 0 FROM pg_stat_wal_receiver"))
}

// SlowDisk makes every sync of the server's present processes take so much longer, until the function it returns is
// called, which says how many there were.
func (s *Server) SlowDisk(t testing.TB, delay time.Duration) (restore func() (syncs int)) {
	t.Helper()
	trace := filepath.Join(t.TempDir(), "syncs")
	args := []string{"-f", "-qq", "-o", trace, "-e", "trace=fsync,fdatasync", "-e", fmt.Sprintf("inject=fsync,fdatasync:delay_enter=%d", delay.Microseconds())}
	for _, pid := range s.processes() {
		args = append(args, "-p", strconv.Itoa(pid))
	}
	c := exec.Command("strace", args...)
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	return sync.OnceValue(func() int {
		_ = c.Process.Signal(syscall.SIGTERM)
		_ = c.Wait() // it ends by the signal
		said, err := os.ReadFile(trace)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Count(string(said), "(DELAYED)")
	})
}

// Hog takes all of the server's connections from those who have them, until the function it returns is called.
func (s *Server) Hog(t testing.TB) (release func()) {
	t.Helper()
	var held []*pgx.Conn
	release = func() {
		for _, conn := range held {
			conn.Close(context.Background())
		}
		held = nil
	}
	t.Cleanup(release)
	for until := time.Now().Add(30 * time.Second); time.Now().Before(until); {
		conn, err := pgx.Connect(context.Background(), s.URL()+"&application_name=hog")
		if err == nil {
			held = append(held, conn)
			continue
		}
		others := 0
		if len(held) > 0 {
			err = held[0].QueryRow(context.Background(), "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE backend_type = 'client backend' AND application_name <> 'hog'").Scan(&others)
			if err != nil {
				t.Fatal(err)
			}
			if others == 0 {
				return release
			}
		}
	}
	t.Fatal("others do not give up their connections")
	return nil
}

var shared struct {
	sync.Mutex
	server *Server
	err    error
}

// Main runs a package's tests and then stops the server that [URL] may have started. Goroutines that the tests have left
// behind are a failure.
func Main(m *testing.M) int {
	code := m.Run()
	if shared.server != nil {
		shared.server.remove()
	}
	http.DefaultClient.CloseIdleConnections()
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, "the tests passed, but", err)
		code = 1
	}
	return code
}

// Shared returns the URL of the server that the tests of one process share, which is started when it is first asked for.
func Shared() (string, error) {
	shared.Lock()
	defer shared.Unlock()
	if shared.server == nil && shared.err == nil {
		shared.server, shared.err = start()
	}
	if shared.err != nil {
		return "", shared.err
	}
	return shared.server.URL(), nil
}

// URL returns the URL of a schema of that server that belongs to the name; it need not exist.
func URL(t testing.TB, name string) string {
	t.Helper()
	url, err := Shared()
	if err != nil {
		t.Fatal(err)
	}
	return url + "&search_path=" + Schema(name)
}

// Schema returns the name of the schema that belongs to the name.
func Schema(name string) string {
	sum := sha256.Sum256([]byte(name))
	return "meterd_" + hex.EncodeToString(sum[:8])
}

// Place is where a test keeps the ledger that belongs to a folder: the folder itself or, if METERD_TEST_STORE is
// postgres, a schema that belongs to it.
func Place(t testing.TB, dir string) string {
	t.Helper()
	switch os.Getenv("METERD_TEST_STORE") {
	case "":
		return dir
	case "postgres":
		return URL(t, dir)
	}
	t.Fatalf("METERD_TEST_STORE is %q; it may be postgres", os.Getenv("METERD_TEST_STORE"))
	return ""
}
