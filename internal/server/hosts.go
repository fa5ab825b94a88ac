package server

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// Hosts are the hosts that requests to a listener may name, where only this machine is to reach it. A page in a browser
// can have its own name stand for 127.0.0.1 (DNS rebinding), and the browser then lets it read the answers; but it
// cannot have the name localhost, nor an address for its name.
type Hosts struct {
	// External are names beside those of the loopback interface, each with a port or, for any port, without.
	External []string
}

// refuse returns why a request is not answered, "" if it is. Nil Hosts refuse nothing. A request without a Host is
// nothing that a browser sends.
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
			return true // the address that it came to
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

// guard answers with a line of text what the hosts refuse.
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
