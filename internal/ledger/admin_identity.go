package ledger

import (
	"bytes"
	"slices"
	"strings"
	"time"

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

// addGivenKey adds a key whose id and secret are given. A sandbox takes any that a signature can have: programs are
// tried with keys such as test and AKIDEXAMPLE.
func (p *plan) addGivenKey(user uint32, in *adminapi.AccessKey) *metering.Error {
	id, secret := in.AccessKeyID, in.SecretAccessKey
	unprintable := strings.ContainsFunc(secret, func(c rune) bool { return c <= ' ' || c > '~' })
	switch {
	case p.l.Sandbox() && (id == "" || len(id) > 128 || strings.HasPrefix(id, iam.SessionKeyPrefix) ||
		strings.Trim(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_") != ""):
		return invalid("access_key_id: %.40q must have 1 to 128 letters, digits and underscores and not begin with %s: write such an id, or leave the key out to have one made", id, iam.SessionKeyPrefix)
	case p.l.Sandbox() && (secret == "" || len(secret) > 128 || unprintable):
		return invalid("secret_access_key: must have 1 to 128 printable ASCII characters: give the secret of the key, or leave the key out to have one made")
	case p.l.Sandbox():
	case len(id) < 16 || len(id) > 128 || strings.Trim(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789") != "" || strings.HasPrefix(id, iam.SessionKeyPrefix):
		return invalid("access_key_id: %.40q must have 16 to 128 upper-case letters and digits and not begin with %s: write such an id, or leave the key out to have one made", id, iam.SessionKeyPrefix)
	case strings.HasPrefix(id, metering.SandboxKeyPrefix):
		return invalid("access_key_id: %.40q is a key of sandboxes, whose secrets are published: a production ledger does not take it; leave it out to have one made", id)
	case len(secret) < 16 || len(secret) > 128 || unprintable:
		return invalid("secret_access_key: must have 16 to 128 printable ASCII characters: give the secret of the key, or leave the key out to have one made")
	}
	active, err := keyStatus(in.Status)
	if err != nil {
		return err
	}
	created, err := instant("created_at", in.CreatedAt)
	if err != nil {
		return err
	}
	if created == 0 {
		created = p.now
	}
	sealed := p.l.sealer.Seal(secretLabel(id), []byte(secret))
	if old := p.accessKey(id); old != nil {
		switch {
		case old.Deleted:
			return conflict("access_key_id: %s was deleted, and ids are never used again: choose another one, or leave the key out to have one made", id)
		case old.Principal != user:
			return conflict("access_key_id: %s is a key of another user: choose another one, or leave the key out to have one made", id)
		case !bytes.Equal(old.Sealed, sealed):
			return conflict("secret_access_key: the key %s is there with another secret: write the same, or choose another id", id)
		case in.Status != "" && old.Active != active:
			return conflict("status: the key %s is there with the status %s, not %s: change it with: meterd admin key activate or deactivate", id, statusOf(old.Active), in.Status)
		}
		return nil
	}
	p.putKey(store.AccessKey{AccessKeyID: id, Principal: user, Sealed: sealed, Active: active, Created: created}, secret)
	return nil
}

// putKey adds a key.
func (p *plan) putKey(k store.AccessKey, secret string) {
	p.accessKey("") // builds the index that the key is entered in
	k.ID = p.keys.next()
	p.keys.add(k)
	p.keyNamed[k.AccessKeyID] = k.ID
	p.secrets[k.ID] = secret
}

// makeKey makes a key for a user.
func (p *plan) makeKey(user uint32) (adminapi.AccessKey, *metering.Error) {
	for {
		id, secret, bad := iam.NewAccessKey(p.random, iam.UserKeyPrefix)
		if bad != nil {
			return adminapi.AccessKey{}, metering.Errorf(metering.Internal, "%v", bad)
		}
		if p.accessKey(id) != nil || strings.HasPrefix(id, metering.SandboxKeyPrefix) {
			continue
		}
		p.putKey(store.AccessKey{AccessKeyID: id, Principal: user, Sealed: p.l.sealer.Seal(secretLabel(id), []byte(secret)), Active: true, Created: p.now}, secret)
		q := p.principals.at(user)
		arn := iam.Principal{Kind: q.Kind, AccountID: p.digits(q.Account), Name: q.Name}.ARN()
		return adminapi.AccessKey{AccessKeyID: id, SecretAccessKey: secret, Status: adminapi.Active, UserARN: arn, CreatedAt: timeOf(p.now)}, nil
	}
}

func keyStatus(s string) (active bool, err *metering.Error) {
	switch s {
	case "", adminapi.Active:
		return true, nil
	case adminapi.Inactive:
		return false, nil
	}
	return false, invalid("status: must be %s or %s, not %.40q", adminapi.Active, adminapi.Inactive, s)
}

func statusOf(active bool) string {
	if active {
		return adminapi.Active
	}
	return adminapi.Inactive
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

// keysOf returns the keys of the users of the given numbers.
func (l *Ledger) keysOf(wanted func(uint32) bool) map[uint32][]adminapi.AccessKey {
	keys := map[uint32][]adminapi.AccessKey{}
	for i := range l.directory.keys {
		if k := &l.directory.keys[i]; !k.Deleted && wanted(k.Principal) {
			keys[k.Principal] = append(keys[k.Principal], l.keyOf(k))
		}
	}
	return keys
}

func (l *Ledger) keyOf(k *store.AccessKey) adminapi.AccessKey {
	q := &l.directory.principals[k.Principal-1]
	return adminapi.AccessKey{AccessKeyID: k.AccessKeyID, Status: statusOf(k.Active), UserARN: l.arn(q), CreatedAt: timeOf(k.Created)}
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

// CreateAccessKey makes an access key for a user and returns it with its secret, this once.
func (l *Ledger) CreateAccessKey(op Operator, accountID, user string) (adminapi.AccessKey, error) {
	var out adminapi.AccessKey
	err := l.act(op, func(p *plan) *metering.Error {
		q, err := p.principalNamed(iam.User, accountID, user)
		if err != nil {
			return err
		}
		out, err = p.makeKey(q.ID)
		p.act = "create access key " + out.AccessKeyID + " for user " + accountID + "/" + user
		return err
	})
	if err != nil {
		return adminapi.AccessKey{}, err
	}
	return out, nil
}

// ChangeAccessKey activates or deactivates an access key.
func (l *Ledger) ChangeAccessKey(op Operator, accessKeyID string, in adminapi.AccessKeyChange) (adminapi.AccessKey, error) {
	err := l.act(op, func(p *plan) *metering.Error {
		if in.Status == "" {
			return invalid("status: is missing: give %s or %s", adminapi.Active, adminapi.Inactive)
		}
		active, err := keyStatus(in.Status)
		if err != nil {
			return err
		}
		k, err := p.keyToChange(accessKeyID)
		if err != nil {
			return err
		}
		k.Active = active
		p.act = "set access key " + accessKeyID + " " + in.Status
		return nil
	})
	if err != nil {
		return adminapi.AccessKey{}, err
	}
	return find(l, op, func() (adminapi.AccessKey, *metering.Error) {
		for i := range l.directory.keys {
			if k := &l.directory.keys[i]; k.AccessKeyID == accessKeyID {
				return l.keyOf(k), nil
			}
		}
		return adminapi.AccessKey{}, noKey(accessKeyID)
	})
}

func noKey(id string) *metering.Error {
	return notFound("access_key_id: there is no access key %.40q: meterd admin user list shows them", id)
}

// keyToChange returns a key, whose secret the directory gets again: it forgets those of inactive keys.
func (p *plan) keyToChange(accessKeyID string) (*store.AccessKey, *metering.Error) {
	k := p.accessKey(accessKeyID)
	if k == nil || k.Deleted {
		return nil, noKey(accessKeyID)
	}
	secret, bad := p.l.sealer.Open(secretLabel(accessKeyID), k.Sealed)
	if bad != nil {
		return nil, metering.Errorf(metering.Internal, "access key %s: %v", accessKeyID, bad)
	}
	p.secrets[k.ID] = string(secret)
	return p.keys.change(k.ID), nil
}

// DeleteAccessKey deletes an access key. Its id is never used again.
func (l *Ledger) DeleteAccessKey(op Operator, accessKeyID string) error {
	return l.act(op, func(p *plan) *metering.Error {
		k, err := p.keyToChange(accessKeyID)
		if err != nil {
			return err
		}
		k.Deleted = true
		p.act = "delete access key " + accessKeyID
		return nil
	})
}

// WorkloadRole is the role whose sessions workloads get unless another one is named. It is made as needed.
const WorkloadRole = "meterd-workload"

// The life of a workload's credentials (AssumeRole, AWS STS API Reference).
const (
	minSession     = 15 * time.Minute
	maxSession     = 12 * time.Hour
	defaultSession = time.Hour
)

// CreateWorkloadCredentials mints credentials for a workload, and makes the workload if it is new. A workload is
// known by its account, platform and resource id, and keeps its number for ever.
func (l *Ledger) CreateWorkloadCredentials(op Operator, in adminapi.WorkloadRequest) (adminapi.WorkloadCredentials, error) {
	var out adminapi.WorkloadCredentials
	err := l.act(op, func(p *plan) *metering.Error {
		life := time.Duration(in.DurationSeconds) * time.Second
		if in.DurationSeconds != 0 && (in.DurationSeconds < int64(minSession/time.Second) || in.DurationSeconds > int64(maxSession/time.Second)) {
			return invalid("duration_seconds: must be %d to %d, not %d", minSession/time.Second, maxSession/time.Second, in.DurationSeconds)
		}
		if life == 0 && !l.Sandbox() {
			life = defaultSession
		}
		id, exists, err := p.addWorkload(&in.Workload)
		if err != nil {
			return err
		}
		if exists && in.Role != "" { // the role of a workload may change
			w := p.workloads.at(id)
			role, err := p.workloadRole(w.Account, in.Role)
			if err != nil {
				return err
			}
			if role != w.Role {
				p.workloads.change(id).Role = role
			}
		}
		w := p.workloads.at(id)
		role := p.principals.at(w.Role)
		if role.Deleted {
			return conflict("role: the role %s of the workload has been deleted: name another one", role.Name)
		}
		keyID, secret, bad := iam.NewAccessKey(p.random, iam.SessionKeyPrefix)
		if bad != nil {
			return metering.Errorf(metering.Internal, "%v", bad)
		}
		s := iam.Session{AccountID: in.AccountID, Role: role.Name, SessionName: sessionName(w.ResourceID), AccessKeyID: keyID, SecretAccessKey: secret,
			Platform: w.Platform.String(), ResourceID: w.ResourceID, Region: p.regions.at(uint32(w.Region)).Name, RoleID: role.ID, WorkloadID: w.ID}
		if life != 0 {
			s.ExpiresAt = l.cfg.Now().Add(life).UnixMilli()
		}
		if bad := s.Validate(); bad != nil {
			return invalid("resource_id: %v", bad)
		}
		out = adminapi.WorkloadCredentials{Workload: in.Workload, AccessKeyID: keyID, SecretAccessKey: secret, SessionToken: l.sealer.SealSession(s)}
		out.Role, out.Region = s.Role, s.Region
		if s.ExpiresAt != 0 {
			out.ExpiresAt = new(time.UnixMilli(s.ExpiresAt).UTC())
		}
		p.act = "create credentials " + keyID + " for workload " + in.AccountID + "/" + in.Platform + "/" + in.ResourceID
		return nil
	})
	if err != nil {
		return adminapi.WorkloadCredentials{}, err
	}
	return out, nil
}

// sessionName makes a resource id a valid name of a session: the end of it, which tells more than the start.
func sessionName(resource string) string {
	b := []byte(resource)
	for i, c := range b {
		if iam.ValidName(string(rune(c))) != nil {
			b[i] = '-'
		}
	}
	b = b[max(0, len(b)-64):]
	for len(b) < 2 {
		b = append(b, '-')
	}
	return string(b)
}

// addWorkload adds a workload. That it has another role than the one given is no difference to a workload that is
// there already: see sameRole.
func (p *plan) addWorkload(in *adminapi.Workload) (id uint32, exists bool, err *metering.Error) {
	account, err := p.holder(in.AccountID)
	if err != nil {
		return 0, false, err
	}
	platform, ok := metering.ParsePlatform(in.Platform)
	if !ok {
		return 0, false, invalid("platform: must be ec2, ecs, eks or agentcore, not %.40q", in.Platform)
	}
	if err := checkText("resource_id", in.ResourceID, 1, 128); err != nil {
		return 0, false, err
	}
	region := p.region(in.Region)
	if region == nil {
		return 0, false, p.absent(in.Region, noRegion("region", in.Region))
	}
	if w := p.workload(account.ID, platform, in.ResourceID); w != nil {
		if w.Region != region.ID {
			return 0, true, conflict("region: workload %s runs in %s, not %s, and does not move: write the same region, or another resource_id",
				in.ResourceID, p.regions.at(uint32(w.Region)).Name, in.Region)
		}
		return w.ID, true, nil
	}
	role, err := p.workloadRole(account.ID, in.Role)
	if err != nil {
		return 0, false, err
	}
	id = p.workloads.next()
	p.workloads.add(metering.Workload{ID: id, Account: account.ID, Platform: platform, ResourceID: in.ResourceID, Region: region.ID, Role: role})
	p.workloadNamed[workloadName{account.ID, platform, in.ResourceID}] = id
	return id, false, nil
}

// workloadRole returns the role of the given name, [WorkloadRole] if it is empty.
func (p *plan) workloadRole(account uint32, name string) (uint32, *metering.Error) {
	if q := p.principal(account, iam.Role, name); q != nil {
		return q.ID, nil
	}
	if name != "" && name != WorkloadRole {
		return 0, p.absent(name, noPrincipal(iam.Role, p.digits(account), name))
	}
	if q := p.principal(account, iam.Role, WorkloadRole); q != nil {
		return q.ID, nil
	}
	return p.putPrincipal(account, iam.Role, WorkloadRole, []string{metering.MeterUsage.Info().Action, metering.RegisterUsage.Info().Action}, nil), nil
}

// sameRole tells whether the workload that is there has the role that in names, if it names one.
func (p *plan) sameRole(id uint32, in *adminapi.Workload) *metering.Error {
	role := p.principals.at(p.workloads.at(id).Role)
	if in.Role != "" && in.Role != role.Name {
		return conflict("role: workload %s is there with the role %s, not %s: leave role out, or change it with: meterd admin workload create", in.ResourceID, role.Name, in.Role)
	}
	return nil
}

// Workloads lists the workloads, of one account if one is given.
func (l *Ledger) Workloads(op Operator, accountID, after string, limit int) (adminapi.Page[adminapi.Workload], error) {
	return list(l, op, l.catalog.Workloads, after, limit, func(w *metering.Workload) (adminapi.Workload, bool) {
		if accountID != "" && l.number(w.Account) != accountID {
			return adminapi.Workload{}, false
		}
		return adminapi.Workload{AccountID: l.number(w.Account), Platform: w.Platform.String(), ResourceID: w.ResourceID,
			Region: l.catalog.Region(w.Region).Name, Role: l.directory.principals[w.Role-1].Name}, true
	})
}
