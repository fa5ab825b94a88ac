package deploy_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// patience is how long a test waits for what should come at once.
const patience = time.Minute

// names is a DNS server.
type names struct {
	conn net.PacketConn
	mu   sync.Mutex
	a    map[string][4]byte // :: name with its dot
}

func (n *names) set(name string, address [4]byte) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.a[name+"."] = address
}

// serve answers until the connection is closed.
func (n *names) serve() {
	for b := make([]byte, 4096); ; {
		size, from, err := n.conn.ReadFrom(b)
		if err != nil {
			return
		}
		var query dnsmessage.Message
		if err := query.Unpack(b[:size]); err != nil || len(query.Questions) != 1 {
			continue
		}
		q := query.Questions[0]
		answer := dnsmessage.Message{Header: dnsmessage.Header{ID: query.ID, Response: true, RecursionDesired: query.RecursionDesired, RecursionAvailable: true}, Questions: query.Questions}
		n.mu.Lock()
		address, known := n.a[strings.ToLower(q.Name.String())]
		n.mu.Unlock()
		switch {
		case !known:
			answer.RCode = dnsmessage.RCodeNameError
		case q.Type == dnsmessage.TypeA:
			answer.Answers = []dnsmessage.Resource{{Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 1}, Body: &dnsmessage.AResource{A: address}}}
		}
		if packed, err := answer.Pack(); err == nil {
			_, _ = n.conn.WriteTo(packed, from)
		}
	}
}

// balancer is HAProxy with haproxy.cfg, in which nothing is changed but the ports, and the 15 seconds that a call may take.
type balancer struct {
	*testing.T
	names      *names
	aws, admin string // URLs
	said       *bufio.Scanner
}

// balance starts the balancer for nodes whose ports are given by their names. It runs in a mount namespace of its own,
// where /etc/resolv.conf names the test's DNS server.
func balance(t *testing.T, ports map[string][3]int) *balancer {
	t.Helper()
	b := &balancer{T: t, names: &names{a: map[string][4]byte{}}}
	dns := fmt.Sprintf("127.53.%d.%d", os.Getpid()>>8&255, os.Getpid()&255)
	var err error
	if b.names.conn, err = net.ListenPacket("udp", dns+":53"); err != nil {
		t.Fatalf("run this test as root: %v", err)
	}
	t.Cleanup(func() { b.names.conn.Close() })
	go b.names.serve()

	config := read(t, "haproxy.cfg")
	replace := func(pattern string, with func(m []string) string) {
		t.Helper()
		r := regexp.MustCompile(pattern)
		if !r.MatchString(config) {
			t.Fatalf("haproxy.cfg has no %s", pattern)
		}
		config = r.ReplaceAllStringFunc(config, func(s string) string { return with(r.FindStringSubmatch(s)) })
	}
	var front [2]int
	for i := range front {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		front[i] = l.Addr().(*net.TCPAddr).Port
		l.Close()
	}
	b.aws, b.admin = fmt.Sprintf("http://127.0.0.1:%d", front[0]), fmt.Sprintf("http://127.0.0.1:%d", front[1])
	replace(`bind :488([01])\n`, func(m []string) string { return fmt.Sprintf("bind 127.0.0.1:%d\n", front[m[1][0]-'0']) })
	replace(`(node\d):488([01])\b`, func(m []string) string {
		return fmt.Sprintf("%s:%d port %d", m[1], ports[m[1]][m[2][0]-'0'], ports[m[1]][2])
	})
	replace(`(?m)^  timeout server 15s$`, func([]string) string { return "  timeout server 1s" })

	dir := t.TempDir()
	for name, text := range map[string]string{"haproxy.cfg": config, "resolv.conf": "nameserver " + dns + "\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("sh", "-euc", `mount --make-rprivate /; mount --bind "$0/resolv.conf" /etc/resolv.conf; exec haproxy -f "$0/haproxy.cfg"`, dir)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH") + ":/usr/sbin:/sbin"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = w, w
	err = cmd.Start()
	w.Close()
	if err != nil {
		t.Fatalf("run this test as root: %v", err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		r.Close()
	})
	if err := r.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	b.said = bufio.NewScanner(r)
	return b
}

// await reads what HAProxy says until it has said all the words, in any order.
func (b *balancer) await(words ...string) {
	b.Helper()
	for len(words) > 0 {
		if !b.said.Scan() {
			b.Fatalf("HAProxy does not say %q: %v", words, b.said.Err())
		}
		b.Log(b.said.Text())
		words = slices.DeleteFunc(words, func(w string) bool { return strings.Contains(b.said.Text(), w) })
	}
}

// get asks for a path and returns the status and whether meterd has answered.
func (b *balancer) get(url string) (status int, byMeterd bool) {
	b.Helper()
	client := http.Client{Timeout: patience}
	answer, err := client.Get(url)
	if err != nil {
		b.Fatal(err)
	}
	defer answer.Body.Close()
	if _, err := io.Copy(io.Discard, answer.Body); err != nil {
		b.Fatal(err)
	}
	return answer.StatusCode, answer.Header.Get("x-amzn-RequestId") != ""
}

// TestHAProxy: the balancer starts though it knows no node's name, finds nodes when they come, turns away from those
// that are not ready, and gives up a call that hangs.
func TestHAProxy(t *testing.T) {
	dir := t.TempDir()
	if out, err := exec.Command(meterd, "init", "--data", dir+"/ledger").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	node := exec.Command(meterd, "serve", "--data", dir+"/ledger", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0")
	log, err := node.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := node.Start(); err != nil {
		t.Fatal(err)
	}
	defer node.Wait()
	defer node.Process.Kill()
	ports := map[string][3]int{"node3": {9, 9, 9}} // which never has an address
	serving := regexp.MustCompile(`endpoint=http://127\.0\.0\.1:(\d+) admin=http://127\.0\.0\.1:(\d+) ops=http://127\.0\.0\.1:(\d+)`)
	for lines := bufio.NewScanner(log); ports["node1"][0] == 0 && lines.Scan(); {
		if m := serving.FindStringSubmatch(lines.Text()); m != nil {
			var p [3]int
			for i := range p {
				p[i], _ = strconv.Atoi(m[i+1])
			}
			ports["node1"] = p
		}
	}
	go func() { _, _ = io.Copy(io.Discard, log) }()

	// Node 2 says that it is ready, takes calls, and answers none.
	hanging := make(chan struct{})
	hung := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/readyz" {
			<-hanging
		}
	}))
	defer hung.Close()
	defer close(hanging)
	p := hung.Listener.Addr().(*net.TCPAddr).Port
	ports["node2"] = [3]int{p, p, p}

	b := balance(t, ports)
	loopback := [4]byte{127, 0, 0, 1}
	b.await("aws/node1' : could not resolve", "aws/node3' : could not resolve", "admin/node2' : could not resolve")

	b.names.set("node1", loopback)
	b.await("aws/node1 ('node1') is UP", "admin/node1 ('node1') is UP")
	if status, byMeterd := b.get(b.aws); !byMeterd {
		t.Errorf("the AWS endpoint: %d", status)
	}
	if status, _ := b.get(b.admin + "/openapi.json"); status != http.StatusOK {
		t.Errorf("the admin API: %d", status)
	}

	b.names.set("node2", loopback)
	b.await("aws/node2 ('node2') is UP", "admin/node2 ('node2') is UP")
	if err := node.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	b.await("aws/node1 is DOWN")
	if status, _ := b.get(b.aws); status != http.StatusGatewayTimeout {
		t.Errorf("a call to a node that hangs: %d", status)
	}
}
