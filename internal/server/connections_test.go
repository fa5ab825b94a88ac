package server

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// street is a listener whose clients come from any address, and whose time is the bubble's.
type street struct {
	*testing.T
	server *Server
	doors  chan net.Conn
	closed chan struct{}
}

func (s *street) Accept() (net.Conn, error) {
	select {
	case c := <-s.doors:
		return c, nil
	case <-s.closed:
		return nil, net.ErrClosed
	}
}

func (s *street) Close() error   { close(s.closed); return nil }
func (s *street) Addr() net.Addr { return &net.TCPAddr{} }

// from is a connection with the address of its client.
type from struct {
	net.Conn
	address string
}

func (f from) RemoteAddr() net.Addr { return place(f.address) }

type place string

func (place) Network() string  { return "tcp" }
func (p place) String() string { return net.JoinHostPort(string(p), "1000") }

// open serves, in a bubble of its own, a handler that authenticates whoever says that he is known, and holds requests
// to /hold until hold is closed.
func open(t *testing.T, max int, limits Limits, f func(s *street, hold chan struct{})) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		hold := make(chan struct{})
		limits.Connections = max
		handler := func(w http.ResponseWriter, r *http.Request) {
			c := connOf(r)
			var x exchange
			var large budget
			large.most = 1 << 20
			if err := x.read(r, c, &large); err != nil {
				if c.isGone() {
					panic(http.ErrAbortHandler)
				}
				w.WriteHeader(http.StatusBadRequest)
				return
			}
			defer func() {
				if x.held {
					c.release()
				}
			}()
			if c.whole(); r.Header.Get("Authorization") != "known" {
				c.refused()
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			c.prove()
			if r.URL.Path == "/hold" {
				<-hold
			}
		}
		s := &street{t, New(http.HandlerFunc(handler), limits, slog.New(slog.DiscardHandler)), make(chan net.Conn), make(chan struct{})}
		served := make(chan error)
		go func() { served <- s.server.Serve(s) }()
		f(s, hold)
		s.server.Close()
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
		<-time.After(time.Minute) // of the bubble's time: until the server's goroutines have ended
	})
}

var usual = Limits{Header: 5 * time.Second, Request: time.Minute, Answer: 2 * time.Minute, Idle: 2 * time.Minute}

// dial comes from an address, and returns when the connection has been taken.
func (s *street) dial(address string) net.Conn {
	ours, theirs := net.Pipe()
	select {
	case s.doors <- from{theirs, address}:
	case <-s.closed:
		theirs.Close()
	}
	return ours
}

// call sends a request on the connection, and returns the answer's status, 0 if there is none.
func call(c net.Conn, path, authorization, body string) int {
	go func() {
		_, _ = fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: x\r\nAuthorization: %s\r\nContent-Length: %d\r\n\r\n%s", path, authorization, len(body), body)
	}()
	answer, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return 0
	}
	defer answer.Body.Close()
	_, _ = io.Copy(io.Discard, answer.Body)
	return answer.StatusCode
}

// attacks are ways to hold a connection without credentials.
var attacks = map[string]string{
	"silence":              "",
	"half a header":        "POST / HTTP/1.1\r\nHost: x\r\nX-",
	"no body":              "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n",
	"half a body":          "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n" + strings.Repeat("x", 60<<10),
	"a chunk without end":  "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nfffff\r\nxxx",
	"whole requests first": "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\nPOST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n",
}

// TestAttackersWhoRefill: clients without credentials hold three times as many connections as there are, from
// anywhere, and come again as soon as they are dropped. Every call of others is answered on the connection that it
// first came on, be it new or old.
func TestAttackersWhoRefill(t *testing.T) {
	const most, caller = 24, "192.0.2.1"
	for place, address := range map[string]func(n int) string{
		"the caller's own address": func(int) string { return caller },
		"one other address":        func(int) string { return "192.0.2.2" },
		"one /64":                  func(n int) string { return fmt.Sprintf("2001:db8::%x", n+1) },
		"three addresses":          func(n int) string { return fmt.Sprintf("192.0.2.%d", 2+n%3) },
		"an address each":          func(n int) string { return fmt.Sprintf("198.51.100.%d", n+1) },
	} {
		for attack, text := range attacks {
			t.Run(place+", "+attack, func(t *testing.T) {
				open(t, most, usual, func(s *street, _ chan struct{}) {
					old := s.dial(caller)
					if status := call(old, "/", "known", "first"); status != http.StatusOK {
						t.Fatalf("the first call is answered with %d", status)
					}
					var dials atomic.Int64
					over, done := make(chan struct{}), make(chan struct{})
					for n := range 3 * most {
						go func() {
							defer func() { done <- struct{}{} }()
							for {
								c := s.dial(address(n))
								dials.Add(1)
								go func() { _, _ = io.WriteString(c, text) }()
								_, _ = io.Copy(io.Discard, c)
								c.Close()
								select {
								case <-over:
									return
								default:
								}
							}
						}()
					}
					for n := range 20 {
						for who, c := range map[string]net.Conn{"an old": old, "a new": s.dial(caller)} {
							if status := call(c, "/", "known", strings.Repeat("x", 20<<10)); status != http.StatusOK {
								t.Errorf("call %d on %s connection is answered with %d", n, who, status)
							}
							if c != old {
								c.Close()
							}
						}
					}
					if dials.Load() < 6*most {
						t.Errorf("the attackers came %d times only", dials.Load())
					}
					close(over)
					old.Close()
					s.server.Close()
					for range 3 * most {
						<-done
					}
				})
			})
		}
	}
}

// TestCrowded: who has authenticated keeps a quarter of the connections, and so do those who come from where they are.
func TestCrowded(t *testing.T) {
	open(t, 40, usual, func(s *street, hold chan struct{}) {
		proven := map[string]net.Conn{}
		for n := range 10 {
			address := fmt.Sprintf("192.0.2.%d", n+1)
			c := s.dial(address)
			if status := call(c, "/", "known", ""); status != http.StatusOK {
				t.Fatalf("answered with %d", status)
			}
			proven[address] = c
		}
		guests := map[string]net.Conn{} // their next connections
		for address := range proven {
			guests[address] = s.dial(address)
		}
		for n := range 60 { // strangers, from anywhere
			s.dial(fmt.Sprintf("198.51.100.%d", n))
		}
		for range 60 { // and many from where one of the callers is
			s.dial("192.0.2.1")
		}
		for address, c := range proven {
			if status := call(c, "/", "known", ""); status != http.StatusOK {
				t.Errorf("who has authenticated from %s is answered with %d", address, status)
			}
		}
		for address, c := range guests {
			if status := call(c, "/", "known", ""); status != http.StatusOK && address != "192.0.2.1" {
				t.Errorf("the next connection from %s is answered with %d", address, status)
			}
		}
	})
}

// TestBusyIsNotDropped: a connection with a whole request in hand, of one who has authenticated, is never dropped for
// another one; one that idles is.
func TestBusyIsNotDropped(t *testing.T) {
	const most = 8
	open(t, most, usual, func(s *street, hold chan struct{}) {
		var busy []net.Conn
		answers := make(chan int)
		for n := range most {
			c := s.dial(fmt.Sprintf("192.0.2.%d", n))
			busy = append(busy, c)
			if n == 0 {
				if status := call(c, "/", "known", ""); status != http.StatusOK {
					t.Fatalf("answered with %d", status)
				}
				continue
			}
			go func() { answers <- call(c, "/hold", "known", "") }()
			synctest.Wait()
		}
		late := s.dial("192.0.2.100") // takes the place of the one that idles
		if status := call(late, "/", "known", ""); status != http.StatusOK {
			t.Errorf("the one for whom there is room is answered with %d", status)
		}
		if n, err := busy[0].Read(make([]byte, 1)); n != 0 || err == nil {
			t.Error("the one that idles is not dropped")
		}
		go func() { answers <- call(late, "/hold", "known", "") }()
		synctest.Wait()
		if status := call(s.dial("192.0.2.101"), "/", "known", ""); status != 0 {
			t.Errorf("one too many is answered with %d", status)
		}
		close(hold)
		for range most {
			if status := <-answers; status != http.StatusOK {
				t.Errorf("one in hand is answered with %d", status)
			}
		}
	})
}

// TestSlowBodies: who has not authenticated sends at a rate, or is closed in seconds; who has may take his time.
func TestSlowBodies(t *testing.T) {
	for name, c := range map[string]struct {
		head   string // sent at once
		every  time.Duration
		chunk  int  // bytes then sent at each such interval
		proven bool // whether the connection has authenticated before
		open   time.Duration
		closed time.Duration // between these two
	}{
		"nothing":                   {"", 0, 0, false, 4 * time.Second, 6 * time.Second},
		"half a header":             {"POST / HT", 0, 0, false, 4 * time.Second, 6 * time.Second},
		"a header byte by byte":     {"POST / HTTP/1.1\r\nX: ", time.Second, 1, false, 4 * time.Second, 6 * time.Second},
		"no body":                   {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999\r\n\r\n", 0, 0, false, 4 * time.Second, 6 * time.Second},
		"a body that stops":         {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999\r\n\r\n" + strings.Repeat("x", 8<<10), 0, 0, false, 6 * time.Second, 15 * time.Second},
		"a body byte by byte":       {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999\r\n\r\n", time.Second / 10, 1, false, 4 * time.Second, 6 * time.Second},
		"a chunk byte by byte":      {"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nfffff\r\n", time.Second / 10, 1, false, 4 * time.Second, 6 * time.Second},
		"a body on a slow line":     {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 999999\r\n\r\n", time.Second / 4, 300, false, 59 * time.Second, 61 * time.Second},
		"byte by byte, but proven":  {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999\r\n\r\n", time.Second / 10, 1, true, 59 * time.Second, 61 * time.Second},
		"a body sent for nobody":    {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\nPOST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n", 0, 0, false, 4 * time.Second, 11 * time.Second},
		"a header after an answer":  {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\nPOST", 0, 0, false, 4 * time.Second, 6 * time.Second},
		"silence after the answer":  {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", 0, 0, false, 119 * time.Second, 121 * time.Second},
		"the same, but was proven":  {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", 0, 0, true, 119 * time.Second, 121 * time.Second},
		"a body with a short start": {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999\r\n\r\nx", 0, 0, false, 4 * time.Second, 6 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			open(t, 10, usual, func(s *street, _ chan struct{}) {
				conn := s.dial("192.0.2.1")
				if c.proven {
					if status := call(conn, "/", "known", ""); status != http.StatusOK {
						t.Fatalf("answered with %d", status)
					}
				}
				began := time.Now()
				go func() {
					_, err := io.WriteString(conn, c.head)
					for err == nil && c.chunk > 0 {
						<-time.After(c.every)
						_, err = io.WriteString(conn, strings.Repeat("x", c.chunk))
					}
				}()
				_, _ = io.Copy(io.Discard, conn)
				conn.Close()
				if took := time.Since(began); took < c.open || took > c.closed {
					t.Errorf("the connection is closed after %v, not after %v to %v", took, c.open, c.closed)
				}
			})
		})
	}
}

// TestBodyMemory: bodies of those who have not authenticated take no more memory than there is for them, and the
// oldest of them give it up for a new one.
func TestBodyMemory(t *testing.T) {
	open(t, 400, usual, func(s *street, _ chan struct{}) {
		s.server.connections.memory = 1 << 20
		var held []net.Conn
		for n := range 100 {
			c := s.dial(fmt.Sprintf("192.0.2.%d", n))
			go func() {
				_, _ = io.WriteString(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 999999\r\n\r\n"+strings.Repeat("x", 40<<10))
			}()
			synctest.Wait()
			held = append(held, c)
			s.server.connections.mu.Lock()
			if took := s.server.connections.held; took > 1<<20 {
				t.Fatalf("%d bytes are held", took)
			}
			s.server.connections.mu.Unlock()
		}
		if status := call(s.dial("198.51.100.1"), "/", "known", strings.Repeat("x", 900<<10)); status != http.StatusOK {
			t.Errorf("a large call is answered with %d", status)
		}
		if n, err := held[0].Read(make([]byte, 1)); n != 0 || err == nil {
			t.Error("the first to take memory has not given it up")
		}
		s.server.Close()
		for _, c := range held {
			_, _ = io.Copy(io.Discard, c)
		}
		<-time.After(time.Minute)
		s.server.connections.mu.Lock()
		defer s.server.connections.mu.Unlock()
		if took := s.server.connections.held; took != 0 {
			t.Errorf("%d bytes are held by nobody", took)
		}
	})
}

// TestHeaderLines: a header of many short lines is refused as soon as there are too many, for they take many times their
// length in memory.
func TestHeaderLines(t *testing.T) {
	for name, c := range map[string]struct {
		lines, status int
		body          string
	}{
		"a header as proxies make it": {60, 200, ""},
		"a body of many lines":        {10, 200, strings.Repeat("\n", 3000)},
		"too many lines":              {200, 431, ""},
	} {
		t.Run(name, func(t *testing.T) {
			open(t, 10, usual, func(s *street, _ chan struct{}) {
				conn := s.dial("192.0.2.1")
				var text strings.Builder
				fmt.Fprintf(&text, "POST / HTTP/1.1\r\nHost: x\r\nAuthorization: known\r\nContent-Length: %d\r\n", len(c.body))
				for n := range c.lines {
					fmt.Fprintf(&text, "x%d:\r\n", n)
				}
				go func() { _, _ = io.WriteString(conn, text.String()+"\r\n"+c.body) }()
				answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
				if err != nil {
					t.Fatal(err)
				}
				if answer.StatusCode != c.status {
					t.Errorf("answered with %d, want %d", answer.StatusCode, c.status)
				}
				conn.Close()
			})
		})
	}
}
