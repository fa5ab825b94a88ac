package server

import (
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/meterd/meterd/internal/sigv4"
)

// Proxies describes the proxies in front of the AWS endpoint.
type Proxies struct {
	// BasePath is the path in the endpoint that clients use, such as "/metering", whether or not a proxy removes it;
	// empty for none.
	BasePath string

	// Trusted are the networks of proxies whose X-Forwarded-Prefix, X-Forwarded-For and X-Forwarded-Proto are believed.
	Trusted []netip.Prefix

	// Headers are the first parts of the names, in lower case, of X-Amz-* headers that those proxies add.
	Headers []string
}

// trusts reports whether a request comes from one of the proxies.
func (p *Proxies) trusts(r *http.Request) bool {
	return p.among(peer(r))
}

func (p *Proxies) among(ip netip.Addr) bool {
	return slices.ContainsFunc(p.Trusted, func(network netip.Prefix) bool { return network.Contains(ip) })
}

// peer returns the address that a request comes from; it is invalid for a peer that has none.
func peer(r *http.Request) netip.Addr {
	ip, _ := netip.ParseAddr(address(r))
	return ip.Unmap().WithZone("")
}

// client returns the address of the client, and whether it speaks TLS: as the peer is seen or, if that is a trusted proxy,
// as the proxy says. The address is the last in X-Forwarded-For that is no proxy's, for a client may have written those
// before it. It is invalid if the proxy names none.
func (p *Proxies) client(r *http.Request) (ip netip.Addr, secure bool) {
	ip, secure = peer(r), r.TLS != nil
	if len(p.Trusted) == 0 || !p.among(ip) {
		return ip, secure
	}
	said := strings.Split(strings.Join(r.Header["X-Forwarded-For"], ","), ",")
	for i := len(said) - 1; i >= 0 && p.among(ip); i-- {
		ip, _ = netip.ParseAddr(strings.TrimSpace(said[i]))
		ip = ip.Unmap().WithZone("")
	}
	return ip, r.Header.Get("X-Forwarded-Proto") == "https"
}

// explain adds to the refusal of a signature that does not match whatever a sandbox can find out about the reason.
func (s *AWS) explain(e *sigv4.Error, r *http.Request, body []byte, at time.Time, id uuid.UUID) *sigv4.Error {
	why, canonical := s.verifier.Explain(r, body, at, s.hints(r))
	s.log.Warn("a signature does not match this canonical request, as it was received", slog.String("request", id.String()),
		slog.String("why", why), slog.String("canonical", canonical))
	if why == "" {
		why = "The sandbox's log has the canonical request that it calculated, under request id " + id.String() + "; compare it with the client's. If they are the same, the secret access key is another one."
	}
	return &sigv4.Error{Code: e.Code, Status: e.Status, Message: e.Message + " " + why}
}

// hints returns hosts and paths that a proxy may have changed.
func (s *AWS) hints(r *http.Request) sigv4.Hints {
	var h sigv4.Hints
	for _, name := range []string{"X-Forwarded-Host", "X-Original-Host"} {
		for _, value := range r.Header.Values(name) {
			for part := range strings.SplitSeq(value, ",") {
				h.Hosts = append(h.Hosts, strings.TrimSpace(part))
			}
		}
	}
	if name, _, err := net.SplitHostPort(r.Host); err == nil {
		h.Hosts = append(h.Hosts, name)
	} else {
		h.Hosts = append(h.Hosts, r.Host+":80", r.Host+":443")
	}
	if local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok {
		if _, port, err := net.SplitHostPort(local.String()); err == nil {
			h.Hosts = append(h.Hosts, local.String(), "localhost:"+port, "127.0.0.1:"+port)
		}
	}
	h.Hosts = append(h.Hosts, s.names...)
	if _, scope, ok := strings.Cut(r.Header.Get("Authorization"), "Credential="); ok {
		if parts := strings.SplitN(scope, "/", 4); len(parts) == 4 {
			h.Hosts = append(h.Hosts, "metering.marketplace."+parts[2]+".amazonaws.com")
		}
	}
	for _, name := range []string{"X-Forwarded-Prefix", "X-Original-Uri", "X-Forwarded-Uri", "X-Envoy-Original-Path"} {
		if value := r.Header.Get(name); strings.HasPrefix(value, "/") {
			value = strings.TrimRight(value, "/")
			h.Paths = append(h.Paths, value+"/", value)
		}
	}
	h.Hosts, h.Paths = h.Hosts[:min(len(h.Hosts), 16)], h.Paths[:min(len(h.Paths), 8)] // every host is tried with every path
	return h
}
