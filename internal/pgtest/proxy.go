package pgtest

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"
)

// Fault is what a proxy does to a COMMIT.
type Fault int

// The faults.
const (
	None          Fault = iota
	CutBefore           // cut the connection instead of passing COMMIT on
	CutDuring           // pass COMMIT on and cut the connection at once
	CutAfter            // let the server commit, and cut the connection instead of passing the answer on
	Serialization       // have the transaction fail with SQLSTATE 40001
	Deadlock            // have it fail with SQLSTATE 40P01
)

// Proxy stands between a client and a server, and does harm to their connections.
type Proxy struct {
	listener net.Listener

	mu     sync.Mutex
	target string
	fault  func() Fault
	held   chan struct{} // closed when nothing is held back any more; nil if nothing is
	conns  map[net.Conn]struct{}
}

// NewProxy starts a proxy to a server, which lives until the test ends. fault is asked at each COMMIT; nil for none.
func NewProxy(t testing.TB, s *Server, fault func() Fault) *Proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{listener: l, fault: fault, conns: map[net.Conn]struct{}{}}
	p.Target(s)
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			go p.serve(client)
		}
	}()
	t.Cleanup(func() {
		l.Close()
		p.Resume()
		p.Cut()
	})
	return p
}

// URL is a URL of the server's, by way of the proxy.
func (p *Proxy) URL(of string) string {
	u, err := url.Parse(of)
	if err != nil {
		panic(err)
	}
	u.Host = p.listener.Addr().String()
	return u.String()
}

// Target has new connections go to another server.
func (p *Proxy) Target(s *Server) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = fmt.Sprintf("127.0.0.1:%d", s.Port)
}

// Set changes what is asked at each COMMIT.
func (p *Proxy) Set(fault func() Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fault = fault
}

// Cut cuts all connections.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		c.Close()
	}
}

// Hold passes nothing on any more, in neither direction, as when the network is split, until Resume.
func (p *Proxy) Hold() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.held == nil {
		p.held = make(chan struct{})
	}
}

// Resume passes on what was held back.
func (p *Proxy) Resume() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.held != nil {
		close(p.held)
		p.held = nil
	}
}

func (p *Proxy) pass() {
	p.mu.Lock()
	held := p.held
	p.mu.Unlock()
	if held != nil {
		<-held
	}
}

func (p *Proxy) next() Fault {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fault == nil {
		return None
	}
	return p.fault()
}

// session is one connection through the proxy.
type session struct {
	p              *Proxy
	client, server net.Conn
	commits        map[string]bool // :: statement → it is COMMIT
	bound          bool            // the portal is one of COMMIT

	mu      sync.Mutex
	swallow bool   // the answer to COMMIT, and cut
	code    string // to put into the next error, if not ""
}

func (p *Proxy) serve(client net.Conn) {
	defer client.Close()
	p.pass()
	p.mu.Lock()
	target := p.target
	p.mu.Unlock()
	server, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	defer server.Close()
	p.mu.Lock()
	p.conns[client], p.conns[server] = struct{}{}, struct{}{}
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		delete(p.conns, client)
		delete(p.conns, server)
		p.mu.Unlock()
	}()
	s := &session{p: p, client: client, server: server, commits: map[string]bool{}}
	done := make(chan struct{}, 2)
	go func() { s.requests(); done <- struct{}{} }()
	go func() { s.answers(); done <- struct{}{} }()
	<-done // one side is gone, so the other goes too
}

// message reads one: its type, 0 for the first one of a client, and all its bytes.
func message(from io.Reader, typed bool) (kind byte, whole []byte, err error) {
	head := make([]byte, 4, 5)
	if typed {
		head = head[:5]
	}
	if _, err := io.ReadFull(from, head); err != nil {
		return 0, nil, err
	}
	if typed {
		kind = head[0]
	}
	size := int(binary.BigEndian.Uint32(head[len(head)-4:])) - 4
	whole = append(head, make([]byte, size)...)
	_, err = io.ReadFull(from, whole[len(head):])
	return kind, whole, err
}

// text returns the n-th string of a message, which ends with a zero byte.
func text(whole []byte, n int) string {
	parts := strings.SplitN(string(whole[5:]), "\x00", n+2)
	if len(parts) <= n {
		return ""
	}
	return parts[n]
}

func isCommit(sql string) bool { return strings.EqualFold(strings.Trim(sql, " ;\n"), "commit") }

// requests passes on what the client sends.
func (s *session) requests() {
	for typed := false; ; typed = true {
		kind, whole, err := message(s.client, typed)
		if err != nil {
			return
		}
		commit := false
		switch kind {
		case 'P':
			s.commits[text(whole, 0)] = isCommit(text(whole, 1))
		case 'B':
			s.bound = s.commits[text(whole, 1)]
		case 'E':
			commit = s.bound
		case 'Q':
			commit = isCommit(text(whole, 0))
		}
		fault := None
		if commit {
			fault = s.p.next()
		}
		switch fault {
		case CutBefore:
			return
		case CutAfter:
			s.set(true, "")
		case Serialization:
			s.set(false, "40001")
		case Deadlock:
			s.set(false, "40P01")
		}
		if fault == Serialization || fault == Deadlock {
			whole = parse("not a statement") // which the server refuses, and with it all up to the next Sync
		}
		s.p.pass()
		if _, err := s.server.Write(whole); err != nil {
			return
		}
		if fault == CutDuring {
			// What follows COMMIT, if it is one of a pipeline, is the request to answer.
			if kind == 'E' {
				if _, rest, err := message(s.client, true); err == nil {
					_, _ = s.server.Write(rest)
				}
			}
			return
		}
	}
}

func parse(sql string) []byte {
	body := "\x00" + sql + "\x00\x00\x00"
	return append(binary.BigEndian.AppendUint32([]byte{'P'}, uint32(len(body)+4)), body...)
}

func (s *session) set(swallow bool, code string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.swallow, s.code = swallow, code
}

// answers passes on what the server sends.
func (s *session) answers() {
	for {
		kind, whole, err := message(s.server, true)
		if err != nil {
			return
		}
		s.mu.Lock()
		if kind == 'C' && s.swallow && text(whole, 0) == "COMMIT" {
			s.mu.Unlock()
			return
		}
		if kind == 'E' && s.code != "" {
			whole = failure(s.code)
			s.code = ""
		}
		s.mu.Unlock()
		s.p.pass()
		if _, err := s.client.Write(whole); err != nil {
			return
		}
	}
}

func failure(code string) []byte {
	body := "SERROR\x00VERROR\x00C" + code + "\x00Minjected\x00\x00"
	return append(binary.BigEndian.AppendUint32([]byte{'E'}, uint32(len(body)+4)), body...)
}
