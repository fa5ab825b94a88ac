package ledger

import (
	"strings"

	"github.com/meterd/meterd/internal/iam"
	"github.com/meterd/meterd/internal/market"
	"github.com/meterd/meterd/internal/sigv4"
)

// Credential returns what an access key, or a session's key and token, signs with and whom it stands for. It is the
// look-up of the signature verifier. Its errors are [*sigv4.Error].
func (l *Ledger) Credential(accessKeyID, sessionToken string) (sigv4.Credential[*market.Identity], error) {
	if sessionToken != "" {
		return l.session(accessKeyID, sessionToken)
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	secret, who := l.market.UserOf(accessKeyID)
	if who == nil {
		why := "No user has this access key."
		if strings.HasPrefix(accessKeyID, iam.SessionKeyPrefix) {
			why = "This access key is a session's, and its session token is missing: set AWS_SESSION_TOKEN too."
		}
		return sigv4.Credential[*market.Identity]{}, l.unrecognized(why)
	}
	return sigv4.Credential[*market.Identity]{Secret: secret, Principal: who}, nil
}

// session opens a session token. The token holds everything except the role's present permissions, so any node can
// check it.
func (l *Ledger) session(accessKeyID, sessionToken string) (sigv4.Credential[*market.Identity], error) {
	none := sigv4.Credential[*market.Identity]{}
	s, err := l.sealer.OpenSession(sessionToken)
	if err != nil || s.AccessKeyID != accessKeyID {
		return none, l.unrecognized(l.mixed(accessKeyID, err == nil))
	}
	if s.Expired(l.cfg.Now()) {
		return none, sigv4.ExpiredToken()
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	who := l.market.WorkloadOf(&s)
	if who == nil {
		return none, l.unrecognized("The role that these temporary credentials belong to has been deleted.")
	}
	return sigv4.Credential[*market.Identity]{Secret: s.SecretAccessKey, Principal: who}, nil
}

// mixed says what is wrong with a session token that does not belong to the access key: it may belong to another
// session, or not to this ledger.
func (l *Ledger) mixed(accessKeyID string, opened bool) string {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if _, user := l.market.UserOf(accessKeyID); user != nil {
		return "A session token came with the access key of a user, which has none: unset AWS_SESSION_TOKEN, which the credentials of a workload have left."
	}
	if opened {
		return "The session token belongs to another access key: set the access key, its secret and the session token of one session."
	}
	return "The session token is cut off, or none of this service."
}

// unrecognized refuses an access key or session token. A sandbox, whose keys are not secret, says why.
func (l *Ledger) unrecognized(why string) *sigv4.Error {
	e := sigv4.UnrecognizedClient()
	if l.Sandbox() {
		e.Message += " " + why
	}
	return e
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
