package server

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// Hosts are the hosts that requests may name on a listener that only this machine is to reach. A web page can make
// its own name stand for 127.0.0.1 (DNS rebinding), and the browser then lets it read the answers. Such a page cannot
// have the name localhost or an address as its host, which is how its requests are told apart.
type Hosts struct {
	// External are names besides those of the loopback interface, each with a port, or without one for any port.
	External []string
}

// refuse returns why a request is refused, or "" if it is not. Nil Hosts refuse nothing. A request without a Host
// passes, because no browser sends one.
func (h *Hosts) refuse(r *http.Request) string {
	if h == nil || r.Host == "" || h.knows(r) {
		return ""
	}
	return fmt.Sprintf("Host %.100q is none that is answered here, where only this machine is expected: use localhost or 127.0.0.1 in the endpoint, or have the operator add the name with --external-host.", r.Host)
}

func (h *Hosts) knows(r *http.Request) bool {
	name := r.Host
	if host, _, err := net.SplitHostPort(name); err == nil {
		name = host
	}
	name = strings.TrimSuffix(strings.TrimPrefix(name, "["), "]")
	if ip, err := netip.ParseAddr(name); err == nil {
		if ip.IsLoopback() {
			return true
		}
		local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
		if tcp, ok := local.(*net.TCPAddr); ok && tcp.AddrPort().Addr().Unmap().WithZone("") == ip.Unmap().WithZone("") {
			return true // the local address of the connection
		}
	}
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	if name == "localhost" || strings.HasSuffix(name, ".localhost") {
		return true
	}
	for _, e := range h.External {
		if strings.EqualFold(e, r.Host) || strings.EqualFold(e, name) {
			return true
		}
	}
	return false
}

// guard answers requests that the hosts refuse with a line of text.
func (h *Hosts) guard(next http.Handler) http.Handler {
	if h == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if why := h.refuse(r); why != "" {
			dropBody(w, r)
			http.Error(w, why, http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}
