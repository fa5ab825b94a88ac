package market

import (
	"slices"

	"github.com/meterd/meterd/internal/iam"
	"github.com/meterd/meterd/internal/metering"
	"github.com/meterd/meterd/internal/store"
)

// actions are all the actions that permissions may name.
var actions = iam.NewActions(metering.Actions()...)

// Identity is what a credential stands for: whose it is and what it may do.
type Identity struct {
	Policy    *iam.Policy // its permissions
	Name      iam.Principal
	Account   uint32 // the ids of the rows
	Principal uint32
	Key       uint32 // 0 for a session
	Workload  uint32 // of a session; 0 for a user

	SessionKey string // the access key id of a session
}

// Decide decides whether the identity may take an action. What is known of the request is asked for only where a
// condition needs it.
func (i *Identity) Decide(action string, known func() iam.Context) iam.Decision {
	if decision, settled := i.Policy.Settled(action); settled {
		return decision
	}
	r := iam.Request{Action: action, Context: known()}
	r.Context.Principal = i.Name
	return iam.Decide(i.Policy, nil, &r)
}

// directory holds principals, access keys and admin tokens, indexed for the look-ups of the signature verifier.
// Deleted ones are kept, because the audit names them, and ids are never used again.
type directory struct {
	principals []store.Principal // by id - 1, as are the slices below
	policies   []*iam.Policy     // of the principals
	keys       []store.AccessKey
	secrets    []secret // of the keys
	admins     []store.AdminToken
	named      map[principalName]uint32 // :: names of those that are not deleted
	keyNamed   map[string]uint32        // :: access key id → key
	keysOf     map[uint32][]uint32      // :: user → its keys
	bearers    map[[32]byte]uint32      // :: hash → admin token that is not deleted
}

type principalName struct {
	account uint32
	kind    iam.Kind
	name    string
}

// secret is the secret of an access key, with the identity that it stands for. It is empty unless the key is active.
type secret struct {
	secret   string
	identity *Identity // nil once the user is gone
}

func secretLabel(accessKeyID string) string { return "secret access key " + accessKeyID }

func newDirectory() directory {
	return directory{named: map[principalName]uint32{}, keyNamed: map[string]uint32{}, keysOf: map[uint32][]uint32{}, bearers: map[[32]byte]uint32{}}
}

// openKey is an access key with its secret opened.
type openKey struct {
	store.AccessKey
	secret string
}

// openPrincipal is a user or role with its permissions ready to decide by.
type openPrincipal struct {
	store.Principal
	policy *iam.Policy
}

func opened(p *store.Principal) *openPrincipal {
	return &openPrincipal{*p, actions.Policy(&p.Permissions)}
}

func grow[T any](list []T, id uint32, v T) []T {
	for uint32(len(list)) < id {
		list = append(list, v)
	}
	list[id-1] = v
	return list
}

func (s *State) putPrincipal(p *openPrincipal) {
	if p.ID <= uint32(len(s.directory.principals)) {
		old := &s.directory.principals[p.ID-1]
		if name := (principalName{old.Account, old.Kind, old.Name}); s.directory.named[name] == p.ID {
			delete(s.directory.named, name)
		}
	}
	s.directory.principals = grow(s.directory.principals, p.ID, p.Principal)
	s.directory.policies = grow(s.directory.policies, p.ID, p.policy)
	for _, key := range s.directory.keysOf[p.ID] {
		if held := &s.directory.secrets[key-1]; held.secret != "" {
			held.identity = s.identity(&s.directory.keys[key-1])
		}
	}
	if !p.Deleted {
		s.directory.named[principalName{p.Account, p.Kind, p.Name}] = p.ID
	}
}

func (s *State) putKey(k *openKey) {
	d := &s.directory
	owner := uint32(0)
	if k.ID <= uint32(len(d.keys)) {
		old := &d.keys[k.ID-1]
		owner = old.Principal
		delete(d.keyNamed, old.AccessKeyID)
	}
	if owner != k.Principal {
		d.keysOf[owner] = slices.DeleteFunc(d.keysOf[owner], func(id uint32) bool { return id == k.ID })
		d.keysOf[k.Principal] = append(d.keysOf[k.Principal], k.ID)
	}
	d.keys = grow(d.keys, k.ID, k.AccessKey)
	d.keyNamed[k.AccessKeyID] = k.ID
	held := secret{}
	if k.Active && !k.Deleted {
		held = secret{k.secret, s.identity(&k.AccessKey)}
	}
	d.secrets = grow(d.secrets, k.ID, held)
}

// identity returns what an access key stands for, or nil if its user was deleted.
func (s *State) identity(k *store.AccessKey) *Identity {
	p := s.livePrincipal(k.Principal)
	if p == nil {
		return nil
	}
	return &Identity{Policy: s.directory.policies[p.ID-1], Account: p.Account, Principal: p.ID, Key: k.ID, Name: s.nameOf(p)}
}

func (s *State) nameOf(p *store.Principal) iam.Principal {
	return iam.Principal{Kind: p.Kind, AccountID: s.digits(p.Account), Name: p.Name}
}

func (s *State) putAdmin(t store.AdminToken) {
	if t.ID <= uint32(len(s.directory.admins)) {
		delete(s.directory.bearers, s.directory.admins[t.ID-1].Hash)
	}
	s.directory.admins = grow(s.directory.admins, t.ID, t)
	if !t.Deleted {
		s.directory.bearers[t.Hash] = t.ID
	}
}

// livePrincipal returns the user or role of the given id unless it was deleted.
func (s *State) livePrincipal(id uint32) *store.Principal {
	if id == 0 || id > uint32(len(s.directory.principals)) || s.directory.principals[id-1].Deleted {
		return nil
	}
	return &s.directory.principals[id-1]
}

// UserOf returns the secret of an access key and what it stands for. The identity is nil if there is no active key of
// that id.
func (s *State) UserOf(accessKeyID string) (secretAccessKey string, who *Identity) {
	key := s.directory.keyNamed[accessKeyID]
	if key == 0 {
		return "", nil
	}
	held := &s.directory.secrets[key-1]
	return held.secret, held.identity
}

// WorkloadOf returns what a session stands for, with the present permissions of its role. It returns nil if the role
// or the workload is not known: a role that is deleted takes its sessions with it.
func (s *State) WorkloadOf(session *iam.Session) *Identity {
	role, w := s.livePrincipal(session.RoleID), s.Workload(session.WorkloadID)
	if role == nil || w == nil {
		return nil
	}
	return &Identity{
		Policy:  s.directory.policies[role.ID-1],
		Name:    iam.Principal{Kind: iam.Role, AccountID: session.AccountID, Name: role.Name, SessionName: session.SessionName},
		Account: role.Account, Principal: role.ID, Workload: w.ID, SessionKey: session.AccessKeyID,
	}
}

// SandboxKey is an access key of a sandbox, which shows secrets more than once.
type SandboxKey struct {
	AccessKeyID, SecretAccessKey string
	Powerless                    bool // its user has no permissions
}

// SandboxKeys returns the active access keys of each account, by its 12 digits, in the order in which they were made.
// For a production ledger it returns none.
func (s *State) SandboxKeys() map[string][]SandboxKey {
	if !s.cfg.Sandbox {
		return nil
	}
	keys := map[string][]SandboxKey{}
	for i := range s.directory.secrets {
		if held := &s.directory.secrets[i]; held.identity != nil {
			account := held.identity.Name.AccountID
			keys[account] = append(keys[account], SandboxKey{s.directory.keys[i].AccessKeyID, held.secret, held.identity.Policy.Powerless()})
		}
	}
	return keys
}

// CallerName returns the ARN of the user or role of the given id, even if it was deleted; "" if there never was one.
func (s *State) CallerName(principal uint32) string {
	if principal == 0 || principal > uint32(len(s.directory.principals)) {
		return ""
	}
	return s.nameOf(&s.directory.principals[principal-1]).ARN()
}

// AccessKeyID returns the access key id of the key of the given id, even if it was deleted; "" if there never was
// one.
func (s *State) AccessKeyID(key uint32) string {
	if key == 0 || key > uint32(len(s.directory.keys)) {
		return ""
	}
	return s.directory.keys[key-1].AccessKeyID
}
