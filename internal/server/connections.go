package server

import (
	"bytes"
	"container/heap"
	"container/list"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

const (
	maxHeaderBytes = 16 << 10 // of a request; net/http grants 4 KB more
	maxHeaderLines = 100      // of a request, until its sender has authenticated: many short fields take many times their length in memory
	bodyPatience   = 5 * time.Second
	bodyRate       = 1 << 10          // bytes a second at which a body must arrive, after bodyPatience
	bodyMemory     = 64 << 20         // bytes for the bodies of all connections that have not authenticated
	fairTime       = time.Second / 20 // how long a connection may in any case take to send its request before another one takes its place
	remembered     = time.Hour        // how long a network counts as known after its last authenticated connection
	maxRemembered  = 1 << 14          // networks
)

// connections are the connections of one listener. Their number is bounded. When there is one too many, another one
// is dropped, chosen so that clients without credentials, however many, however slow and from wherever, do not keep
// out clients that have some.
//
// A connection is unproven until a request on it has authenticated. Of all places, unproven connections get three
// quarters at most. Those of strangers, which are networks where nobody has authenticated lately, get half; so do
// those of any one network. This leaves a quarter of the places to callers who have authenticated, and another
// quarter to new connections from networks that are known. Among unproven connections, the oldest one of the network
// that has most of them is dropped. Proven connections are dropped only while they wait for their next request, the
// one that has waited longest first.
//
// The zero value is not ready; see newConnections.
type connections struct {
	max    int   // at once
	memory int64 // for bodies of unproven connections, in bytes

	mu        sync.Mutex
	open      int
	strangers crowd                    // unproven connections that have not sent a whole request
	guests    crowd                    // the same, from networks that are known
	idle      *list.List               // of *conn: proven, without a request in hand; the one that has waited longest first
	holders   *list.List               // of *conn: those in the crowds that hold memory for bodies, in the order in which they took it
	held      int64                    // bytes
	known     map[string]*acquaintance // by network
	left      chan struct{}            // receives when a connection has left a crowd
}

// acquaintance is a network in which somebody has authenticated.
type acquaintance struct {
	proven int       // connections that are open
	last   time.Time // when the last of them was closed
}

func newConnections(max int) *connections {
	return &connections{max: max, memory: bodyMemory, strangers: newCrowd(), guests: newCrowd(), idle: list.New(), holders: list.New(),
		known: map[string]*acquaintance{}, left: make(chan struct{}, 1)}
}

// listener accepts the connections that are let in.
type listener struct {
	net.Listener
	connections *connections
}

func (l listener) Accept() (net.Conn, error) {
	for {
		accepted, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		host := accepted.RemoteAddr().String()
		if h, _, err := net.SplitHostPort(host); err == nil {
			host = h
		}
		c := &conn{Conn: accepted, of: l.connections, network: network(host), inHeader: true}
		if l.connections.enter(c) {
			return c, nil
		}
	}
}

// enter makes room for a connection. If another connection must go that has only just come, enter waits a little
// before it is dropped: so clients that reconnect at once when they are dropped do not push out others before these
// can send their request.
func (s *connections) enter(c *conn) bool {
	var dropped []*conn
	defer func() { cut(dropped...) }()
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	c.home = &s.strangers
	if a := s.known[c.network]; a != nil && (a.proven > 0 || now.Sub(a.last) < remembered) {
		c.home = &s.guests
	}
	s.open++
	c.since = now
	c.home.add(c)
	for v := s.surplus(c); v != nil; v = s.surplus(c) {
		if wait := fairTime - time.Since(v.since); wait > 0 && v != c && v.crowd != nil {
			s.mu.Unlock()
			timer := time.NewTimer(wait)
			select {
			case <-timer.C:
			case <-s.left:
			}
			timer.Stop()
			s.mu.Lock()
			c.renew() // other connections may have been renewed while this one waited
			continue
		}
		s.forget(v)
		if dropped = append(dropped, v); v == c {
			return false
		}
	}
	c.renew() // its time to send a request begins now
	return true
}

// surplus returns the connection that must go if the newest is to stay, or nil if there is room.
func (s *connections) surplus(newest *conn) *conn {
	half, quarter := max(s.max/2, 1), s.max/4
	unproven := s.strangers.size + s.guests.size
	switch {
	case newest.home.networks[newest.network].conns.Len() > half:
		return newest.home.networks[newest.network].oldest()
	case s.strangers.size > half:
		return s.strangers.greediest()
	case unproven > max(s.max-quarter, 1):
		return s.guests.greediest()
	case s.open <= s.max:
		return nil
	case s.idle.Len() > 0 && unproven <= max(quarter, 1):
		return s.idle.Front().Value.(*conn)
	}
	a, b := s.strangers.greediest(), s.guests.greediest()
	if a == nil || b != nil && s.guests.heap[0].conns.Len() > s.strangers.heap[0].conns.Len() {
		a = b
	}
	return a
}

// forget takes a connection out of the count. Calling it again does nothing.
func (s *connections) forget(c *conn) {
	if !c.gone.CompareAndSwap(false, true) {
		return
	}
	s.open--
	s.leave(c)
	s.free(c)
	if a := s.known[c.network]; c.proven.Load() && a != nil {
		a.proven--
		a.last = time.Now()
	}
}

// renew makes a connection the youngest of its crowd. One that has left its crowd goes back to it.
func (c *conn) renew() {
	if c.crowd != nil {
		c.crowd.remove(c)
	}
	c.since = time.Now()
	c.home.add(c)
}

// leave takes a connection out of its crowd, or out of the idle ones, because it has a whole request or is gone.
func (s *connections) leave(c *conn) {
	if c.crowd != nil {
		c.crowd.remove(c)
		select {
		case s.left <- struct{}{}:
		default:
		}
	}
	if c.waits != nil {
		s.idle.Remove(c.waits)
		c.waits = nil
	}
	if c.holds != nil {
		s.holders.Remove(c.holds)
		c.holds = nil
	}
}

func (s *connections) free(c *conn) {
	s.held -= c.memory
	c.memory = 0
}

// changed is the server's ConnState. The server calls a connection active once it has read the header of its request.
func (s *connections) changed(nc net.Conn, state http.ConnState) {
	c, ok := nc.(*conn)
	if !ok {
		return
	}
	if state == http.StateActive || state == http.StateIdle {
		c.inHeader, c.lines, c.inLine, c.read, c.began = state == http.StateIdle, 0, false, 0, time.Time{}
	}
	first := !c.spoken
	c.spoken = c.spoken || state == http.StateActive
	if c.gone.Load() || first && (state == http.StateNew || state == http.StateActive) {
		return // the age of its first request counts from when the connection came
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case c.gone.Load():
	case state == http.StateClosed || state == http.StateHijacked:
		s.forget(c)
	case !c.proven.Load():
		c.renew()
	case state == http.StateActive:
		s.leave(c)
	case state == http.StateIdle:
		c.waits = s.idle.PushBack(c)
	}
}

// conn is a connection. Until a request on it has authenticated, it bounds the lines of headers and how slowly bodies
// may arrive.
type conn struct {
	net.Conn
	of       *connections
	network  string
	proven   atomic.Bool
	gone     atomic.Bool  // closed, or dropped; set under connections.mu
	deadline atomic.Int64 // for reading, as the server wants it: in nanoseconds since 1970, 0 if none

	// Fields that only the goroutine that serves the connection uses.
	inHeader bool
	spoken   bool // a header has been received
	lines    int  // lines of the header so far
	inLine   bool // whether anything of the header's next line has arrived
	read     int  // bytes of the body so far
	began    time.Time

	// Guarded by connections.mu.
	home    *crowd // the crowd that it belongs to while it is unproven
	crowd   *crowd // nil while it has a whole request in hand, has authenticated or is gone
	element *list.Element
	since   time.Time     // when it was opened, or when its last request began or ended
	waits   *list.Element // among the idle ones
	holds   *list.Element // among the holders of memory
	memory  int64         // bytes that it holds
}

var errHeaderLines = &net.OpError{Op: "read", Err: errors.New("the request's header has too many fields")}

// Read implements net.Conn.
func (c *conn) Read(p []byte) (int, error) {
	if c.proven.Load() {
		return c.Conn.Read(p)
	}
	if c.inHeader {
		n, err := c.Conn.Read(p)
		if c.count(p[:n]); c.lines > maxHeaderLines {
			_, _ = io.WriteString(c.Conn, tooManyLines)
			return 0, errHeaderLines
		}
		return n, c.explain(err)
	}
	if deadline := c.deadline.Load(); deadline != 0 { // there is none when the body is whole and the connection is only watched
		if c.began.IsZero() {
			c.began = time.Now()
		}
		slowest := c.began.Add(bodyPatience + time.Duration(c.read)*time.Second/bodyRate)
		if slowest.UnixNano() < deadline {
			_ = c.Conn.SetReadDeadline(slowest)
		}
	}
	n, err := c.Conn.Read(p)
	c.read += n
	return n, err
}

const tooManyLines = "HTTP/1.1 431 Request Header Fields Too Large\r\nConnection: close\r\nContent-Type: text/plain\r\n\r\nThe request's header has more than 100 lines. Send fewer fields.\n"

// count counts the lines of a header that continues with p, up to the empty line that ends it.
func (c *conn) count(p []byte) {
	for c.inHeader {
		line, rest, whole := bytes.Cut(p, []byte{'\n'})
		c.inLine = c.inLine || len(bytes.TrimSuffix(line, []byte{'\r'})) > 0
		if !whole {
			return
		}
		if !c.inLine && c.lines > 0 {
			c.inHeader = false
			return
		}
		c.lines++
		c.inLine = false
		p = rest
	}
}

// explain sends an answer to a client that speaks HTTP where TLS is served.
func (c *conn) explain(err error) error {
	var plain tls.RecordHeaderError
	if errors.As(err, &plain) && plain.Conn != nil && bytes.Contains([]byte("GET HEAD POST PUT OPTIONS DELETE PATCH"), bytes.TrimSpace(plain.RecordHeader[:4])) {
		_, _ = io.WriteString(plain.Conn, "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: text/plain\r\n\r\nThis is HTTP, but the service speaks HTTPS here. Use https:// in the endpoint.\n")
	}
	return err
}

// SetReadDeadline implements net.Conn.
func (c *conn) SetReadDeadline(t time.Time) error {
	if t.IsZero() {
		c.deadline.Store(0)
	} else {
		c.deadline.Store(t.UnixNano())
	}
	return c.Conn.SetReadDeadline(t)
}

type connKey struct{}

// connOf returns the connection that a request came on, or nil if the request came in another way. A nil *conn bounds
// nothing.
func connOf(r *http.Request) *conn {
	c, _ := r.Context().Value(connKey{}).(*conn)
	return c
}

func withConn(ctx context.Context, nc net.Conn) context.Context {
	if c, ok := nc.(*conn); ok {
		return context.WithValue(ctx, connKey{}, c)
	}
	return ctx
}

// isProven reports whether a request on the connection has authenticated.
func (c *conn) isProven() bool { return c == nil || c.proven.Load() }

// isGone reports whether the connection has been closed, so that no answer can be sent.
func (c *conn) isGone() bool { return c != nil && c.gone.Load() }

// whole notes that the request has been read to its end. The connection is not dropped until it is known whether the
// request authenticates.
func (c *conn) whole() {
	if c.isProven() {
		return
	}
	c.of.mu.Lock()
	defer c.of.mu.Unlock()
	c.of.leave(c)
}

// refused notes that the request did not authenticate.
func (c *conn) refused() {
	if c.isProven() {
		return
	}
	c.of.mu.Lock()
	defer c.of.mu.Unlock()
	if !c.gone.Load() && c.crowd == nil {
		c.renew()
	}
}

// prove notes that the request has authenticated.
func (c *conn) prove() {
	if c.isProven() {
		return
	}
	s := c.of
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.gone.Load() {
		return
	}
	s.leave(c)
	c.proven.Store(true)
	a := s.known[c.network]
	if a == nil {
		s.makeRoom()
		a = &acquaintance{}
		s.known[c.network] = a
	}
	a.proven++
}

// makeRoom forgets a network that nobody is connected from, if there are too many.
func (s *connections) makeRoom() {
	if len(s.known) < maxRemembered {
		return
	}
	for network, a := range s.known {
		if a.proven == 0 {
			delete(s.known, network)
			return
		}
	}
}

// hold takes n more bytes for the body of an unproven connection's request, and reports whether it could. If too few
// are left, it drops the connections that have held memory for longest.
func (c *conn) hold(n int64) bool {
	var dropped []*conn
	defer func() { cut(dropped...) }()
	s := c.of
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.held+n > s.memory {
		first := s.holders.Front()
		if first != nil && first.Value == c {
			first = first.Next()
		}
		if first == nil {
			return false
		}
		v := first.Value.(*conn)
		s.forget(v)
		dropped = append(dropped, v)
	}
	if c.gone.Load() {
		return false
	}
	c.memory += n
	s.held += n
	if c.holds == nil && c.crowd != nil {
		c.holds = s.holders.PushBack(c)
	}
	return true
}

// release gives back the memory that the request held.
func (c *conn) release() {
	if c == nil {
		return
	}
	c.of.mu.Lock()
	defer c.of.mu.Unlock()
	c.of.free(c)
	if c.holds != nil {
		c.of.holders.Remove(c.holds)
		c.holds = nil
	}
}

// cut closes connections without TLS's closing message, because a client could hold that up.
func cut(conns ...*conn) {
	for _, c := range conns {
		nc := c.Conn
		if t, ok := nc.(*tls.Conn); ok {
			nc = t.NetConn()
		}
		nc.Close()
	}
}

// crowd is a set of unproven connections, by the network that they come from.
type crowd struct {
	size     int
	networks map[string]*neighbours
	heap     neighbourhood
}

func newCrowd() crowd { return crowd{networks: map[string]*neighbours{}} }

// neighbours are connections from one network.
type neighbours struct {
	conns *list.List // of *conn, the oldest first
	place int        // in the heap
}

func (n *neighbours) oldest() *conn { return n.conns.Front().Value.(*conn) }

// greediest returns the oldest connection of the network that has most connections, or nil if there are none.
func (w *crowd) greediest() *conn {
	if w.size == 0 {
		return nil
	}
	return w.heap[0].oldest()
}

func (w *crowd) add(c *conn) {
	n := w.networks[c.network]
	if n == nil {
		n = &neighbours{conns: list.New(), place: len(w.heap)}
		w.networks[c.network] = n
		w.heap = append(w.heap, n)
	}
	c.crowd, c.element = w, n.conns.PushBack(c)
	w.size++
	heap.Fix(&w.heap, n.place)
}

func (w *crowd) remove(c *conn) {
	n := w.networks[c.network]
	n.conns.Remove(c.element)
	c.crowd, c.element = nil, nil
	w.size--
	if n.conns.Len() > 0 {
		heap.Fix(&w.heap, n.place)
		return
	}
	heap.Remove(&w.heap, n.place)
	delete(w.networks, c.network)
}

// neighbourhood is a heap of networks: first the one with most connections; among equals, the one with the oldest
// connection.
type neighbourhood []*neighbours

func (h neighbourhood) Len() int { return len(h) }
func (h neighbourhood) Less(i, j int) bool {
	a, b := h[i].conns.Len(), h[j].conns.Len()
	return a > b || a == b && a > 0 && h[i].oldest().since.Before(h[j].oldest().since)
}
func (h neighbourhood) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].place, h[j].place = i, j
}
func (h *neighbourhood) Push(x any) { *h = append(*h, x.(*neighbours)) }
func (h *neighbourhood) Pop() any {
	last := (*h)[len(*h)-1]
	(*h)[len(*h)-1] = nil
	*h = (*h)[:len(*h)-1]
	return last
}
