package server

import (
	"log/slog"
	"net"
	"net/http"
	"time"
)

// Limits are what clients may take of a listener.
type Limits struct {
	Connections int           // at once, at least 1
	Header      time.Duration // to send a request's header, the handshake of TLS included
	Request     time.Duration // to send header and body
	Answer      time.Duration // from the header's end until the answer has been taken, so more than Request
	Idle        time.Duration // between two requests
}

// Server is an HTTP server that no client can hold up.
type Server struct {
	*http.Server
	connections *connections
}

// New returns a server of the handler.
func New(handler http.Handler, limits Limits, log *slog.Logger) *Server {
	c := newConnections(limits.Connections)
	return &Server{connections: c, Server: &http.Server{Handler: handler, ConnState: c.changed, ConnContext: withConn, MaxHeaderBytes: maxHeaderBytes,
		ReadHeaderTimeout: limits.Header, ReadTimeout: limits.Request, WriteTimeout: limits.Answer, IdleTimeout: limits.Idle,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)}}
}

// Serve is http.Server's. The listener's connections may be those of crypto/tls.
func (s *Server) Serve(l net.Listener) error {
	return s.Server.Serve(listener{l, s.connections})
}

// dropBody gives the client little time to send a body that nobody will read. It is taken from the connection all the
// same if it comes, because many clients read no answer before they have written everything.
func dropBody(w http.ResponseWriter, r *http.Request) {
	if r.ContentLength == 0 {
		return // a deadline would end the watch for a client that goes away
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(time.Second)) // a connection that cannot has the server's
}
