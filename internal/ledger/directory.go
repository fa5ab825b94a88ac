package ledger

import (
	"fmt"

	"github.com/meterd/meterd/internal/iam"
	"github.com/meterd/meterd/internal/store"
)

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

// openKey is an access key with its secret.
type openKey struct {
	store.AccessKey
	secret string
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
