package market

import (
	"slices"
	"strings"

	"github.com/meterd/meterd/internal/adminapi"
	"github.com/meterd/meterd/internal/iam"
	"github.com/meterd/meterd/internal/metering"
	"github.com/meterd/meterd/internal/store"
)

var (
	userVerbs = principalVerbs(adminapi.Users, iam.User)
	roleVerbs = principalVerbs(adminapi.Roles, iam.Role)
)

func principalVerbs(of adminapi.Principals, kind iam.Kind) []Verb {
	return []Verb{
		lists(of.List, func(in adminapi.AccountPaging) List[adminapi.Principal] { return Principals(kind, in) }),
		changes(of.Create, func(in adminapi.Principal) Act[adminapi.Principal] { return CreatePrincipal(kind, in) }),
		finds(of.Get, func(in adminapi.PrincipalPath) Find[adminapi.Principal] { return Principal(kind, in) }),
		changes(of.Delete, func(in adminapi.PrincipalPath) Act[adminapi.None] { return DeletePrincipal(kind, in) }),
		changes(of.PutPermissions, func(in adminapi.Permissions) Act[adminapi.Principal] { return PutPermissions(kind, in) }),
	}
}

// CreatePrincipal makes a user, with the access keys given, or a role.
func CreatePrincipal(kind iam.Kind, in adminapi.Principal) Act[adminapi.Principal] {
	return func(p *Plan) (Find[adminapi.Principal], *metering.Error) {
		p.Summary = "create " + kind.String() + " " + in.AccountID + "/" + in.Name
		_, exists, err := p.addPrincipal(kind, &in)
		if err == nil && exists {
			err = conflict("name: account %s has a %v %s already", in.AccountID, kind, in.Name)
		}
		return Principal(kind, adminapi.PrincipalPath{AccountID: in.AccountID, Name: in.Name}), err
	}
}

func (p *Plan) addPrincipal(kind iam.Kind, in *adminapi.Principal) (id uint32, exists bool, err *metering.Error) {
	account, err := p.holder(in.AccountID)
	found := append([]*metering.Error{err}, checkPermissions(in.Allow, in.Deny, in.Policy)...)
	if bad := iam.ValidName(in.Name); bad != nil {
		found = append(found, invalid("name: %s", strings.TrimPrefix(bad.Error(), "name ")))
	}
	keys := in.AccessKeys
	if kind == iam.Role && len(keys) > 0 {
		found = append(found, invalid("access_keys: a role has none: leave them out, and get a workload's credentials with: meterd admin workload create"))
		keys = nil
	}
	if err = p.flaws(found...); err == nil {
		id, exists, err = p.putGivenPrincipal(account.ID, kind, in)
	}
	if err = p.spoil(err, ""); err != nil {
		return 0, exists, err
	}
	for i := range keys {
		if err := p.part("access_keys", i, func() *metering.Error { return p.addGivenKey(id, &keys[i]) }); err != nil {
			return 0, exists, err
		}
	}
	return id, exists, nil
}

// putGivenPrincipal adds a user or role that has been checked. One that exists already is left as it is if its
// permissions are the same, as far as they are given.
func (p *Plan) putGivenPrincipal(account uint32, kind iam.Kind, in *adminapi.Principal) (id uint32, exists bool, err *metering.Error) {
	old := p.principal(account, kind, in.Name)
	if old == nil {
		return p.putPrincipal(account, kind, in.Name, permissions(in.Allow, in.Deny, in.Policy)), false, nil
	}
	var otherAllow, otherDeny, otherPolicy *metering.Error
	if in.Allow != nil && !slices.Equal(in.Allow, old.Allow) {
		otherAllow = differentPermissions("allow", kind, in, old.Allow)
	}
	if in.Deny != nil && !slices.Equal(in.Deny, old.Deny) {
		otherDeny = differentPermissions("deny", kind, in, old.Deny)
	}
	if in.Policy != "" && iam.CompactDocument(in.Policy) != old.Policy {
		otherPolicy = differentPermissions("policy", kind, in, old.Policy)
	}
	return old.ID, true, p.flaws(otherAllow, otherDeny, otherPolicy)
}

// maxPermissions bounds the permissions of a principal, because each of its calls is checked against all of them.
const maxPermissions = 100

// checkPermissions says what is wrong with the entries.
func checkPermissions(allow, deny []string, policy string) (found []*metering.Error) {
	if n := len(allow) + len(deny); n > maxPermissions {
		found = append(found, invalid("allow: there are %d entries of allow and deny, but at most %d are taken: use wildcards such as aws-marketplace:*", n, maxPermissions))
	}
	for i, entry := range allow {
		if bad := actions.ValidEntry(entry); bad != nil {
			found = append(found, invalid("allow[%d]: %v", i, bad))
		}
	}
	for i, entry := range deny {
		if bad := actions.ValidEntry(entry); bad != nil {
			found = append(found, invalid("deny[%d]: %v", i, bad))
		}
	}
	if policy != "" {
		if _, bad := actions.ParsePolicy(policy); bad != nil {
			found = append(found, invalid("policy: %v", bad))
		}
	}
	return found
}

// permissions are as they are stored: a document without white space, so that the same one is the same text.
func permissions(allow, deny []string, policy string) iam.Permissions {
	return iam.Permissions{Allow: allow, Deny: deny, Policy: iam.CompactDocument(policy)}
}

func differentPermissions(field string, kind iam.Kind, in *adminapi.Principal, there any) *metering.Error {
	return conflict("%s: the %v %s/%s is there with %.200q: write the same, or change it with: meterd admin %v permissions", field, kind, in.AccountID, in.Name, there, kind)
}

// holder returns the account that principals and workloads belong to.
func (p *Plan) holder(accountID string) (*metering.Account, *metering.Error) {
	n, err := parseAccount("account_id", accountID)
	if err == nil {
		if a := p.account(n); a != nil {
			return a, nil
		}
		err = notFound("account_id: account %s is neither a seller nor a buyer: make it one with: meterd admin seller create, or buyer create", accountID)
	}
	return nil, p.absent(err, accountID, "sellers", "buyers")
}

func (p *Plan) putPrincipal(account uint32, kind iam.Kind, name string, may iam.Permissions) uint32 {
	q := store.Principal{ID: p.principals.next(), Account: account, Kind: kind, Name: name, Permissions: may}
	p.principals.add(q)
	p.named[principalName{account, kind, name}] = q.ID
	return q.ID
}

// principalNamed returns the user or role of the given name.
func (p *Plan) principalNamed(kind iam.Kind, accountID, name string) (*store.Principal, *metering.Error) {
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

// PutPermissions replaces the permissions of a user or role. They take effect at once, in existing sessions too.
func PutPermissions(kind iam.Kind, in adminapi.Permissions) Act[adminapi.Principal] {
	return func(p *Plan) (Find[adminapi.Principal], *metering.Error) {
		if found := checkPermissions(in.Allow, in.Deny, in.Policy); len(found) > 0 {
			return nil, found[0]
		}
		q, err := p.principalNamed(kind, in.AccountID, in.Name)
		if err != nil {
			return nil, err
		}
		may := permissions(in.Allow, in.Deny, in.Policy)
		p.principals.change(q.ID).Permissions = may
		p.Summary = "put permissions of " + kind.String() + " " + in.AccountID + "/" + in.Name + ": allow " + strings.Join(may.Allow, " ") + "; deny " + strings.Join(may.Deny, " ")
		if may.Policy != "" {
			p.Summary += "; policy " + may.Policy
		}
		return Principal(kind, adminapi.PrincipalPath{AccountID: in.AccountID, Name: in.Name}), nil
	}
}

// DeletePrincipal deletes a user with its access keys, or a role, whose sessions end with it.
func DeletePrincipal(kind iam.Kind, of adminapi.PrincipalPath) Act[adminapi.None] {
	return func(p *Plan) (Find[adminapi.None], *metering.Error) {
		q, err := p.principalNamed(kind, of.AccountID, of.Name)
		if err != nil {
			return nil, err
		}
		p.principals.change(q.ID).Deleted = true
		for _, id := range p.directory.keysOf[q.ID] {
			if !p.keys.at(id).Deleted {
				p.keys.change(id).Deleted = true
			}
		}
		p.Summary = "delete " + kind.String() + " " + of.AccountID + "/" + of.Name
		return nil, nil
	}
}

// Principal returns a user, with its access keys, or a role.
func Principal(kind iam.Kind, of adminapi.PrincipalPath) Find[adminapi.Principal] {
	return func(v *View) (adminapi.Principal, *metering.Error) {
		if n, ok := metering.ParseAccountID(of.AccountID); ok {
			if a := v.AccountByID(n); a != nil {
				if q := v.livePrincipal(v.directory.named[principalName{a.ID, kind, of.Name}]); q != nil {
					return v.principalShape(q), nil
				}
			}
		}
		return adminapi.Principal{}, noPrincipal(kind, of.AccountID, of.Name)
	}
}

func (v *View) principalShape(q *store.Principal) adminapi.Principal {
	return adminapi.Principal{AccountID: v.digits(q.Account), Name: q.Name, ARN: v.nameOf(q).ARN(), Allow: q.Allow, Deny: q.Deny, Policy: q.Policy, AccessKeys: v.keysOf(q.ID)}
}

// Principals lists the users or roles, of one account if it is given.
func Principals(kind iam.Kind, of adminapi.AccountPaging) List[adminapi.Principal] {
	return listOfAccount(0, "account_id", of.AccountID, func(s *State) []store.Principal { return s.directory.principals }, func(q *store.Principal) uint32 { return q.Account },
		func(v *View, q *store.Principal) (adminapi.Principal, bool) {
			if q.Deleted || q.Kind != kind {
				return adminapi.Principal{}, false
			}
			return v.principalShape(q), true
		})
}
