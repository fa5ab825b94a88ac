package pgtest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// Namespace is a network namespace whose one link leads to that of the test, as a cable leads to another machine.
type Namespace struct {
	name  string
	link  string // its name at this end; that of the other end has a g more
	Host  string // address of this end
	guest string
}

var namespaces atomic.Int32

// NewNamespace makes a namespace, which lives until the test ends. It takes root with CAP_NET_ADMIN and CAP_SYS_ADMIN.
func NewNamespace(t testing.TB) *Namespace {
	t.Helper()
	n := namespaces.Add(1)
	name := fmt.Sprintf("pgt%d-%d", os.Getpid()%1e6, n)
	// The addresses are this machine's own business; those of two processes differ, or else one of them fails.
	subnet := fmt.Sprintf("10.%d.%d.", 128+os.Getpid()>>6&127, os.Getpid()<<2&255|int(n)&3)
	ns := &Namespace{name: name, link: name, Host: subnet + "1", guest: subnet + "2"}
	if err := ip("netns", "add", ns.name); err != nil {
		t.Fatalf("a network namespace cannot be made, without which no network can be split; run this test as root with CAP_NET_ADMIN and CAP_SYS_ADMIN: %v", err)
	}
	t.Cleanup(func() {
		if err := errors.Join(ip("link", "del", ns.link), ip("netns", "del", ns.name)); err != nil {
			t.Error(err)
		}
	})
	err := ip("link", "add", ns.link, "type", "veth", "peer", "name", ns.link+"g", "netns", ns.name)
	for _, args := range [][]string{
		{"addr", "add", ns.Host + "/30", "dev", ns.link}, {"link", "set", ns.link, "up"},
		{"-n", ns.name, "addr", "add", ns.guest + "/30", "dev", ns.link + "g"}, {"-n", ns.name, "link", "set", ns.link + "g", "up"},
		{"-n", ns.name, "link", "set", "lo", "up"},
	} {
		if err == nil {
			err = ip(args...)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return ns
}

func ip(args ...string) error {
	c := exec.Command("ip", args...)
	c.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// Command is what runs a program in the namespace, if the program follows it.
func (ns *Namespace) Command() []string { return []string{"ip", "netns", "exec", ns.name} }

// URL is a URL of a server's as the namespace sees it. The server must listen on Host.
func (ns *Namespace) URL(of string) string { return strings.Replace(of, "127.0.0.1", ns.Host, 1) }

// DialContext connects from within the namespace to an address of numbers, such as that of a program that listens on
// loopback there, however the link is.
func (ns *Namespace) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	here, err := os.Open("/proc/self/ns/net")
	if err != nil {
		return nil, err
	}
	defer here.Close()
	there, err := os.Open("/run/netns/" + ns.name)
	if err != nil {
		return nil, err
	}
	defer there.Close()
	runtime.LockOSThread() // it is the thread that is in a namespace
	if err := unix.Setns(int(there.Fd()), unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return nil, err
	}
	conn, err := new(net.Dialer).DialContext(ctx, network, address)
	if back := unix.Setns(int(here.Fd()), unix.CLONE_NEWNET); back != nil {
		return nil, errors.Join(err, back) // the thread ends with its goroutine
	}
	runtime.UnlockOSThread()
	return conn, err
}

// nobody has this address, so what is sent to it is lost.
const nobody = "02:00:00:00:00:01"

// Drop has every packet be lost on the link, both ways and without a sign, until Heal.
func (ns *Namespace) Drop(t testing.TB) {
	t.Helper()
	err := errors.Join(ip("neigh", "replace", ns.guest, "lladdr", nobody, "dev", ns.link, "nud", "permanent"),
		ip("-n", ns.name, "neigh", "replace", ns.Host, "lladdr", nobody, "dev", ns.link+"g", "nud", "permanent"))
	if err != nil {
		t.Fatal(err)
	}
}

// Unplug takes the link down, of which the kernels at both ends take notice, until Heal.
func (ns *Namespace) Unplug(t testing.TB) {
	t.Helper()
	if err := ip("link", "set", ns.link, "down"); err != nil {
		t.Fatal(err)
	}
}

// Heal has the link be as it was.
func (ns *Namespace) Heal(t testing.TB) {
	t.Helper()
	err := errors.Join(ip("link", "set", ns.link, "up"),
		ip("neigh", "flush", "to", ns.guest, "dev", ns.link, "nud", "all"), ip("-n", ns.name, "neigh", "flush", "to", ns.Host, "dev", ns.link+"g", "nud", "all"))
	if err != nil {
		t.Fatal(err)
	}
}
