package ledger

import (
	"github.com/meterd/meterd/internal/market"
	"github.com/meterd/meterd/internal/sigv4"
)

// Credential finds what an access key, or a session's key and token, signs with and stands for. It is the look-up
// of the signature verifier; its errors are [*sigv4.Error].
func (l *Ledger) Credential(accessKeyID, sessionToken string) (sigv4.Credential[*market.Identity], error) {
	if sessionToken != "" {
		return l.session(accessKeyID, sessionToken)
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	secret, who := l.market.UserOf(accessKeyID)
	if who == nil {
		return sigv4.Credential[*market.Identity]{}, sigv4.UnrecognizedClient()
	}
	return sigv4.Credential[*market.Identity]{Secret: secret, Principal: who}, nil
}

// session opens a session token. It holds everything but the role's present permissions, so any node can check it.
func (l *Ledger) session(accessKeyID, sessionToken string) (sigv4.Credential[*market.Identity], error) {
	none := sigv4.Credential[*market.Identity]{}
	s, err := l.sealer.OpenSession(sessionToken)
	if err != nil || s.AccessKeyID != accessKeyID {
		return none, sigv4.UnrecognizedClient()
	}
	if s.Expired(l.cfg.Now()) {
		return none, sigv4.ExpiredToken()
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	who := l.market.WorkloadOf(&s)
	if who == nil {
		return none, sigv4.UnrecognizedClient()
	}
	return sigv4.Credential[*market.Identity]{Secret: s.SecretAccessKey, Principal: who}, nil
}

// KnownRegion reports whether signatures may name the region.
func (l *Ledger) KnownRegion(name string) bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.market.RegionNamed(name) != nil
}

// SandboxKeys returns the active access keys of each account of a sandbox: see [market.State.SandboxKeys].
func (l *Ledger) SandboxKeys() map[string][]market.SandboxKey {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.market.SandboxKeys()
}
