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

// directory holds identities, indexed for the look-ups of the verifier. Like the catalogue it is changed item by
// item, under the ledger's lock.
type directory struct {
	number     func(account uint32) string // its 12 digits
	principals []store.Principal           // by number - 1
	keys       []store.AccessKey
	admins     []store.AdminToken
	named      map[principalName]uint32 // :: those that are not deleted
	secrets    map[string]secret        // :: access key id → active key
	bearers    map[[32]byte]uint32      // :: hash → admin token that is not deleted
}

type principalName struct {
	account uint32
	kind    iam.Kind
	name    string
}

// secret is an active access key's, with what it stands for.
type secret struct {
	secret   string
	identity *Identity // nil once the user is gone
}

func secretLabel(accessKeyID string) string { return "secret access key " + accessKeyID }

func newDirectory(number func(uint32) string) *directory {
	return &directory{number: number, named: map[principalName]uint32{}, secrets: map[string]secret{}, bearers: map[[32]byte]uint32{}}
}

// put brings a row into memory, the catalogue's or the directory's.
func (l *Ledger) put(row any) {
	if !l.catalog.Put(row) {
		l.directory.put(row)
	}
}

// openKey is an access key with its secret.
type openKey struct {
	store.AccessKey
	secret string
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

// put adds or replaces a row of the directory.
func (d *directory) put(row any) {
	switch r := row.(type) {
	case *store.Principal:
		d.putPrincipal(*r)
	case *openKey:
		d.putKey(r.AccessKey, r.secret)
	case *store.AdminToken:
		d.putAdmin(*r)
	case *store.RegistrationToken: // read from the store when it is used: there may be many
	default:
		panic(fmt.Sprintf("rows of type %T have no place in memory", row))
	}
}

func grow[T any](list []T, id uint32, v T) []T {
	for uint32(len(list)) < id {
		list = append(list, v)
	}
	list[id-1] = v
	return list
}

func (d *directory) putPrincipal(p store.Principal) {
	known := p.ID <= uint32(len(d.principals))
	if known {
		old := &d.principals[p.ID-1]
		if name := (principalName{old.Account, old.Kind, old.Name}); d.named[name] == p.ID {
			delete(d.named, name)
		}
	}
	d.principals = grow(d.principals, p.ID, p)
	if known {
		for _, k := range d.keys {
			if s, ok := d.secrets[k.AccessKeyID]; ok && k.Principal == p.ID {
				d.putKey(k, s.secret)
			}
		}
	}
	if !p.Deleted {
		d.named[principalName{p.Account, p.Kind, p.Name}] = p.ID
	}
}

func (d *directory) putKey(k store.AccessKey, plain string) {
	if k.ID <= uint32(len(d.keys)) {
		delete(d.secrets, d.keys[k.ID-1].AccessKeyID)
	}
	d.keys = grow(d.keys, k.ID, k)
	if k.Active && !k.Deleted {
		d.secrets[k.AccessKeyID] = secret{plain, d.identity(&k)}
	}
}

// identity returns what an access key stands for, or nil if its user is gone.
func (d *directory) identity(k *store.AccessKey) *Identity {
	p := d.principal(k.Principal)
	if p == nil {
		return nil
	}
	return &Identity{Permissions: p.Permissions, Account: p.Account, Principal: p.ID, Key: k.ID,
		Name: iam.Principal{Kind: p.Kind, AccountID: d.number(p.Account), Name: p.Name}}
}

func (d *directory) putAdmin(t store.AdminToken) {
	if t.ID <= uint32(len(d.admins)) {
		delete(d.bearers, d.admins[t.ID-1].Hash)
	}
	d.admins = grow(d.admins, t.ID, t)
	if !t.Deleted {
		d.bearers[t.Hash] = t.ID
	}
}

// principal returns the user or role of the given number unless it was deleted.
func (d *directory) principal(id uint32) *store.Principal {
	if id == 0 || id > uint32(len(d.principals)) || d.principals[id-1].Deleted {
		return nil
	}
	return &d.principals[id-1]
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
