package server

import (
	"container/list"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// Limits are what clients may take of a listener.
type Limits struct {
	Connections int           // at once, at least 1
	Header      time.Duration // to send a request's header
	Request     time.Duration // to send header and body
	Answer      time.Duration // from the header's end until the answer has been taken, so more than Request
	Idle        time.Duration // between two requests
}

// maxHeader is how long a request's header may be, in bytes. net/http grants 4 KB more.
const maxHeader = 64 << 10

// New returns a server of the handler that no client can hold up.
func New(handler http.Handler, limits Limits, log *slog.Logger) *http.Server {
	return &http.Server{Handler: handler, ConnState: newConnections(limits.Connections).changed, MaxHeaderBytes: maxHeader,
		ReadHeaderTimeout: limits.Header, ReadTimeout: limits.Request, WriteTimeout: limits.Answer, IdleTimeout: limits.Idle,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)}
}

// connections bounds how many connections a server holds. When one too many comes, that one is closed whose client has
// sent no whole header for longest: so neither idle clients nor any number of silent ones keep others out.
type connections struct {
	max   int
	mu    sync.Mutex
	at    map[net.Conn]*list.Element
	order *list.List    // those that wait for a header, longest first; then the mark; then those with a request in hand
	mark  *list.Element // moving elements over it allocates nothing
}

func newConnections(max int) *connections {
	c := &connections{max: max, at: map[net.Conn]*list.Element{}, order: list.New()}
	c.mark = c.order.PushBack(nil)
	return c
}

// changed is the server's ConnState. A connection becomes active when its request's header has been read.
func (c *connections) changed(conn net.Conn, state http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if state == http.StateNew {
		c.at[conn] = c.order.InsertBefore(conn, c.mark)
		if len(c.at) > c.max {
			cut(c.remove(c.order.Front())) // the new one itself if no other waits
		}
		return
	}
	e := c.at[conn]
	switch {
	case e == nil: // it has been closed here
	case state == http.StateActive:
		c.order.MoveToBack(e)
	case state == http.StateIdle:
		c.order.MoveBefore(e, c.mark)
	default:
		c.remove(e)
	}
}

func (c *connections) remove(e *list.Element) net.Conn {
	conn := c.order.Remove(e).(net.Conn)
	delete(c.at, conn)
	return conn
}

// cut closes a connection without a farewell of TLS's, which its client could hold up.
func cut(conn net.Conn) {
	if t, ok := conn.(*tls.Conn); ok {
		conn = t.NetConn()
	}
	conn.Close()
}
