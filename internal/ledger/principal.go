package ledger

import (
	"slices"
	"strings"

	"github.com/meterd/meterd/internal/adminapi"
	"github.com/meterd/meterd/internal/iam"
	"github.com/meterd/meterd/internal/metering"
	"github.com/meterd/meterd/internal/store"
)

// CreatePrincipal makes a user, with the access keys given, or a role.
func (l *Ledger) CreatePrincipal(op Operator, kind iam.Kind, in adminapi.Principal) (adminapi.Principal, error) {
	err := l.act(op, func(p *plan) *metering.Error {
		p.act = "create " + kind.String() + " " + in.AccountID + "/" + in.Name
		_, exists, err := p.addPrincipal(kind, &in)
		if err == nil && exists {
			err = conflict("name: account %s has a %v %s already", in.AccountID, kind, in.Name)
		}
		return err
	})
	if err != nil {
		return adminapi.Principal{}, err
	}
	return l.Principal(op, kind, in.AccountID, in.Name)
}

func (p *plan) addPrincipal(kind iam.Kind, in *adminapi.Principal) (id uint32, exists bool, err *metering.Error) {
	account, err := p.holder(in.AccountID)
	if err != nil {
		return 0, false, err
	}
	if bad := iam.ValidName(in.Name); bad != nil {
		return 0, false, invalid("%v", bad)
	}
	if err := checkPermissions(in.Allow, in.Deny); err != nil {
		return 0, false, err
	}
	if kind == iam.Role && len(in.AccessKeys) > 0 {
		return 0, false, invalid("access_keys: a role has none: leave them out, and get a workload's credentials with: meterd admin workload create")
	}
	old := p.principal(account.ID, kind, in.Name)
	switch {
	case old == nil:
		id = p.putPrincipal(account.ID, kind, in.Name, in.Allow, in.Deny)
	case in.Allow != nil && !slices.Equal(in.Allow, old.Allow):
		return 0, true, differentPermissions("allow", kind, in, old.Allow)
	case in.Deny != nil && !slices.Equal(in.Deny, old.Deny):
		return 0, true, differentPermissions("deny", kind, in, old.Deny)
	default:
		id, exists = old.ID, true
	}
	for i := range in.AccessKeys {
		if err := p.part(p.addGivenKey(id, &in.AccessKeys[i]), "access_keys[%d].", i); err != nil {
			return 0, exists, err
		}
	}
	return id, exists, nil
}

// maxPermissions bounds the entries that each call of a principal is checked against.
const maxPermissions = 100

func checkPermissions(allow, deny []string) *metering.Error {
	if n := len(allow) + len(deny); n > maxPermissions {
		return invalid("allow: there are %d entries of allow and deny, but at most %d are taken: use wildcards such as aws-marketplace:*", n, maxPermissions)
	}
	if bad := actions.Validate(&iam.Permissions{Allow: allow, Deny: deny}); bad != nil {
		return invalid("%v", bad)
	}
	return nil
}

func differentPermissions(field string, kind iam.Kind, in *adminapi.Principal, there []string) *metering.Error {
	return conflict("%s: the %v %s/%s is there with %.200q: write the same, or change it with: meterd admin %v permissions", field, kind, in.AccountID, in.Name, there, kind)
}

// holder returns the account that principals and workloads belong to.
func (p *plan) holder(accountID string) (*metering.Account, *metering.Error) {
	n, err := accountNumber("account_id", accountID)
	if err != nil {
		return nil, err
	}
	a := p.account(n)
	if a == nil {
		return nil, p.absent(accountID, notFound("account_id: account %s is neither a seller nor a buyer: make it one with: meterd admin seller create, or buyer create", accountID))
	}
	return a, nil
}

func (p *plan) putPrincipal(account uint32, kind iam.Kind, name string, allow, deny []string) uint32 {
	q := store.Principal{ID: p.principals.next(), Account: account, Kind: kind, Name: name, Permissions: iam.Permissions{Allow: allow, Deny: deny}}
	p.principals.add(q)
	p.named[principalName{account, kind, name}] = q.ID
	return q.ID
}

// principalNamed returns the user or role of the given name.
func (p *plan) principalNamed(kind iam.Kind, accountID, name string) (*store.Principal, *metering.Error) {
	if n, ok := metering.ParseAccountID(accountID); ok {
		if a := p.account(n); a != nil {
			if q := p.principal(a.ID, kind, name); q != nil {
				return q, nil
			}
		}
	}
	return nil, noPrincipal(kind, accountID, name)
}

func noPrincipal(kind iam.Kind, accountID, name string) *metering.Error {
	return notFound("name: account %.40q has no %v %.80q: meterd admin %v list shows them", accountID, kind, name, kind)
}

// PutPermissions replaces the permissions of a user or role. They are in force at once, in sessions too.
func (l *Ledger) PutPermissions(op Operator, kind iam.Kind, accountID, name string, in adminapi.Permissions) (adminapi.Principal, error) {
	err := l.act(op, func(p *plan) *metering.Error {
		if err := checkPermissions(in.Allow, in.Deny); err != nil {
			return err
		}
		q, err := p.principalNamed(kind, accountID, name)
		if err != nil {
			return err
		}
		p.principals.change(q.ID).Permissions = iam.Permissions{Allow: in.Allow, Deny: in.Deny}
		p.act = "put permissions of " + kind.String() + " " + accountID + "/" + name + ": allow " + strings.Join(in.Allow, " ") + "; deny " + strings.Join(in.Deny, " ")
		return nil
	})
	if err != nil {
		return adminapi.Principal{}, err
	}
	return l.Principal(op, kind, accountID, name)
}

// DeletePrincipal deletes a user with its access keys, or a role, whose sessions end with it.
func (l *Ledger) DeletePrincipal(op Operator, kind iam.Kind, accountID, name string) error {
	return l.act(op, func(p *plan) *metering.Error {
		q, err := p.principalNamed(kind, accountID, name)
		if err != nil {
			return err
		}
		p.principals.change(q.ID).Deleted = true
		for i := range p.keys.base {
			if k := &p.keys.base[i]; k.Principal == q.ID && !k.Deleted {
				p.keys.change(k.ID).Deleted = true
			}
		}
		p.act = "delete " + kind.String() + " " + accountID + "/" + name
		return nil
	})
}

// Principal returns a user, with its access keys, or a role.
func (l *Ledger) Principal(op Operator, kind iam.Kind, accountID, name string) (adminapi.Principal, error) {
	return find(l, op, func() (adminapi.Principal, *metering.Error) {
		if n, ok := metering.ParseAccountID(accountID); ok {
			if a := l.catalog.AccountByID(n); a != nil {
				if q := l.directory.principal(l.directory.named[principalName{a.ID, kind, name}]); q != nil {
					keys := l.keysOf(func(id uint32) bool { return id == q.ID })
					return l.principalShape(q, keys[q.ID]), nil
				}
			}
		}
		return adminapi.Principal{}, noPrincipal(kind, accountID, name)
	})
}

func (l *Ledger) arn(q *store.Principal) string {
	return iam.Principal{Kind: q.Kind, AccountID: l.number(q.Account), Name: q.Name}.ARN()
}

func (l *Ledger) principalShape(q *store.Principal, keys []adminapi.AccessKey) adminapi.Principal {
	return adminapi.Principal{AccountID: l.number(q.Account), Name: q.Name, ARN: l.arn(q), Allow: q.Allow, Deny: q.Deny, AccessKeys: keys}
}

// Principals lists the users or roles, of one account if one is given.
func (l *Ledger) Principals(op Operator, kind iam.Kind, accountID, after string, limit int) (adminapi.Page[adminapi.Principal], error) {
	var keys map[uint32][]adminapi.AccessKey
	return list(l, op, func() []store.Principal { return l.directory.principals }, after, limit, func(q *store.Principal) (adminapi.Principal, bool) {
		if q.Deleted || q.Kind != kind || accountID != "" && l.number(q.Account) != accountID {
			return adminapi.Principal{}, false
		}
		if keys == nil {
			keys = l.keysOf(func(uint32) bool { return true })
		}
		return l.principalShape(q, keys[q.ID]), true
	})
}
