package server

import (
	"log/slog"
	"net"
	"net/http"
	"time"
)

// Limits bound what one client may take of a listener.
type Limits struct {
	Connections int           // at once, at least 1
	Header      time.Duration // to send a request's header, the handshake of TLS included
	Request     time.Duration // to send header and body
	Answer      time.Duration // from the header's end until the client has taken the answer, so more than Request
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

// Serve is like http.Server's. The listener's connections may be those of crypto/tls.
func (s *Server) Serve(l net.Listener) error {
	return s.Server.Serve(listener{l, s.connections})
}

// dropBody leaves the client little time to send a body that nobody will use. Until then the body is still read from
// the connection, because many clients read no answer before they have written everything.
func dropBody(w http.ResponseWriter, r *http.Request) {
	if r.ContentLength == 0 {
		return // there is no body, and a deadline would end the watch for a client that goes away
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(time.Second)) // a connection that takes no deadline keeps the server's
}
