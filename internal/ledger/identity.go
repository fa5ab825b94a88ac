package ledger

import (
	"fmt"

	"github.com/meterd/meterd/internal/iam"
	"github.com/meterd/meterd/internal/metering"
	"github.com/meterd/meterd/internal/sigv4"
	"github.com/meterd/meterd/internal/store"
)

// actions are all that permissions may be about.
var actions = iam.NewActions(metering.Actions()...)

// Identity is what a credential stands for: whose it is and what it may do.
type Identity struct {
	iam.Permissions
	Name      iam.Principal
	Account   uint32 // the catalogue's number
	Principal uint32
	Key       uint32 // 0 for a session
	Workload  uint32 // of a session; 0 for a user
}

// Allows reports whether the identity may call the operation.
func (i *Identity) Allows(op metering.Operation) bool {
	return actions.Allows(&i.Permissions, op.Info().Action)
}

// Denied words the refusal of an operation as AWS does.
func (i *Identity) Denied(op metering.Operation) string {
	action := op.Info().Action
	if actions.Denies(&i.Permissions, action) {
		return iam.ExplicitlyDenied(i.Name, action)
	}
	return iam.Denied(i.Name, action)
}

// put brings a row into memory, the catalogue's or the directory's.
func (l *Ledger) put(row any) {
	if !l.catalog.Put(row) {
		l.directory.put(row)
	}
}

// opened returns a row of the store's as put takes it: of an access key the secret is opened.
func (l *Ledger) opened(row any) (any, error) {
	k, is := row.(*store.AccessKey)
	if !is {
		return row, nil
	}
	plain, err := l.sealer.Open(secretLabel(k.AccessKeyID), k.Sealed)
	if err != nil {
		return nil, fmt.Errorf("access key %s: %w", k.AccessKeyID, err)
	}
	return &openKey{*k, string(plain)}, nil
}

// Credential finds what an access key, or a session's key and token, signs with and stands for. It is the look-up
// of the signature verifier; its errors are [*sigv4.Error].
func (l *Ledger) Credential(accessKeyID, sessionToken string) (sigv4.Credential[*Identity], error) {
	if sessionToken != "" {
		return l.session(accessKeyID, sessionToken)
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	s := l.directory.secrets[accessKeyID]
	if s.identity == nil {
		return sigv4.Credential[*Identity]{}, sigv4.UnrecognizedClient()
	}
	return sigv4.Credential[*Identity]{Secret: s.secret, Principal: s.identity}, nil
}

// session opens a session token. It holds everything but the role's present permissions, so any node can check it;
// a role that was deleted takes its sessions with it.
func (l *Ledger) session(accessKeyID, sessionToken string) (sigv4.Credential[*Identity], error) {
	none := sigv4.Credential[*Identity]{}
	s, err := l.sealer.OpenSession(sessionToken)
	if err != nil || s.AccessKeyID != accessKeyID {
		return none, sigv4.UnrecognizedClient()
	}
	if s.Expired(l.cfg.Now()) {
		return none, sigv4.ExpiredToken()
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	role := l.directory.principal(s.RoleID)
	w := l.catalog.Workload(s.WorkloadID)
	if role == nil || w == nil {
		return none, sigv4.UnrecognizedClient()
	}
	return sigv4.Credential[*Identity]{Secret: s.SecretAccessKey, Principal: &Identity{
		Permissions: role.Permissions,
		Name:        iam.Principal{Kind: iam.Role, AccountID: s.AccountID, Name: role.Name, SessionName: s.SessionName},
		Account:     role.Account, Principal: role.ID, Workload: w.ID,
	}}, nil
}

func (l *Ledger) number(account uint32) string {
	return metering.Number(l.catalog.Account(account).AccountID)
}

// KnownRegion tells whether signatures may name the region.
func (l *Ledger) KnownRegion(name string) bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.catalog.RegionNamed(name) != nil
}

// SandboxKey is an access key of a sandbox, which shows secrets more than once.
type SandboxKey struct {
	AccessKeyID, SecretAccessKey string
	Powerless                    bool // its user may do nothing
}

// SandboxKeys returns the active access keys of each account, by its 12 digits, in the order in which they were
// made. A production ledger shows none.
func (l *Ledger) SandboxKeys() map[string][]SandboxKey {
	if !l.Sandbox() {
		return nil
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	keys := map[string][]SandboxKey{}
	for _, k := range l.directory.keys {
		if s := l.directory.secrets[k.AccessKeyID]; s.identity != nil {
			account := s.identity.Name.AccountID
			keys[account] = append(keys[account], SandboxKey{k.AccessKeyID, s.secret, len(s.identity.Allow) == 0})
		}
	}
	return keys
}
