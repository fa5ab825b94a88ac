package market

import (
	"bytes"
	"strings"

	"github.com/meterd/meterd/internal/adminapi"
	"github.com/meterd/meterd/internal/iam"
	"github.com/meterd/meterd/internal/metering"
	"github.com/meterd/meterd/internal/store"
)

var accessKeyVerbs = []Verb{
	changes(adminapi.CreateAccessKey, CreateAccessKey),
	changes(adminapi.ChangeAccessKey, ChangeAccessKey),
	changes(adminapi.DeleteAccessKey, DeleteAccessKey),
}

// addGivenKey adds a key whose id and secret are given. A sandbox takes any key that can sign requests, because
// programs are tried with keys such as test and AKIDEXAMPLE.
func (p *Plan) addGivenKey(user uint32, in *adminapi.AccessKey) *metering.Error {
	id, secret := in.AccessKeyID, in.SecretAccessKey
	unprintable := strings.ContainsFunc(secret, func(c rune) bool { return c <= ' ' || c > '~' })
	var badID, badSecret *metering.Error
	switch {
	case p.cfg.Sandbox && (id == "" || len(id) > 128 || strings.HasPrefix(id, iam.SessionKeyPrefix) ||
		strings.Trim(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_") != ""):
		badID = invalid("access_key_id: %.40q must have 1 to 128 letters, digits and underscores and not begin with %s: write such an id, or leave the key out to have one made", id, iam.SessionKeyPrefix)
	case p.cfg.Sandbox:
	case len(id) < 16 || len(id) > 128 || strings.Trim(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789") != "" || strings.HasPrefix(id, iam.SessionKeyPrefix):
		badID = invalid("access_key_id: %.40q must have 16 to 128 upper-case letters and digits and not begin with %s: write such an id, or leave the key out to have one made", id, iam.SessionKeyPrefix)
	case strings.HasPrefix(id, metering.SandboxKeyPrefix):
		badID = invalid("access_key_id: %.40q is a key of sandboxes, whose secrets are published: a production ledger does not take it; leave it out to have one made", id)
	}
	least := 16
	if p.cfg.Sandbox {
		least = 1
	}
	if len(secret) < least || len(secret) > 128 || unprintable {
		badSecret = invalid("secret_access_key: must have %d to 128 printable ASCII characters: give the secret of the key, or leave the key out to have one made", least)
	}
	active, badStatus := keyStatus(in.Status)
	created, badTime := Instant("created_at", in.CreatedAt)
	if err := p.flaws(badID, badSecret, badStatus, badTime); err != nil {
		return err
	}
	if user == 0 {
		return errFollows
	}
	if created == 0 {
		created = p.Now
	}
	sealed := p.cfg.Sealer.Seal(secretLabel(id), []byte(secret))
	if old := p.accessKey(id); old != nil {
		switch {
		case old.Deleted:
			return conflict("access_key_id: %s was deleted, and ids are never used again: choose another one, or leave the key out to have one made", id)
		case old.Principal != user:
			return conflict("access_key_id: %s is a key of another user: choose another one, or leave the key out to have one made", id)
		}
		var otherSecret, otherStatus *metering.Error
		if !bytes.Equal(old.Sealed, sealed) {
			otherSecret = conflict("secret_access_key: the key %s is there with another secret: write the same, or choose another id", id)
		}
		if in.Status != "" && old.Active != active {
			otherStatus = conflict("status: the key %s is there with the status %s, not %s: change it with: meterd admin key activate or deactivate", id, statusOf(old.Active), in.Status)
		}
		return p.flaws(otherSecret, otherStatus)
	}
	p.putKey(store.AccessKey{AccessKeyID: id, Principal: user, Sealed: sealed, Active: active, Created: created}, secret)
	return nil
}

// putKey adds a key.
func (p *Plan) putKey(k store.AccessKey, secret string) {
	k.ID = p.keys.next()
	p.keys.add(k)
	p.keyNamed[k.AccessKeyID] = k.ID
	p.secrets[k.ID] = secret
}

// makeKey makes a key for a user.
func (p *Plan) makeKey(user uint32) (adminapi.AccessKey, *metering.Error) {
	for {
		id, secret, bad := iam.NewAccessKey(p.random, iam.UserKeyPrefix)
		if bad != nil {
			return adminapi.AccessKey{}, metering.Errorf(metering.Internal, "%v", bad)
		}
		if p.accessKey(id) != nil || strings.HasPrefix(id, metering.SandboxKeyPrefix) {
			continue
		}
		p.putKey(store.AccessKey{AccessKeyID: id, Principal: user, Sealed: p.cfg.Sealer.Seal(secretLabel(id), []byte(secret)), Active: true, Created: p.Now}, secret)
		q := p.principals.at(user)
		arn := iam.Principal{Kind: q.Kind, AccountID: p.digits(q.Account), Name: q.Name}.ARN()
		return adminapi.AccessKey{AccessKeyID: id, SecretAccessKey: secret, Status: adminapi.Active, UserARN: arn, CreatedAt: timeOf(p.Now)}, nil
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

// keysOf returns the keys of the user of the given id.
func (v *View) keysOf(user uint32) (keys []adminapi.AccessKey) {
	for _, id := range v.directory.keysOf[user] {
		if k := &v.directory.keys[id-1]; !k.Deleted {
			keys = append(keys, v.keyShape(k))
		}
	}
	return keys
}

func (v *View) keyShape(k *store.AccessKey) adminapi.AccessKey {
	return adminapi.AccessKey{AccessKeyID: k.AccessKeyID, Status: statusOf(k.Active), UserARN: v.CallerName(k.Principal), CreatedAt: timeOf(k.Created)}
}

// CreateAccessKey makes an access key for a user and returns it with its secret. The secret is never shown again.
func CreateAccessKey(of adminapi.PrincipalPath) Act[adminapi.AccessKey] {
	return func(p *Plan) (Find[adminapi.AccessKey], *metering.Error) {
		q, err := p.principalNamed(iam.User, of.AccountID, of.Name)
		if err != nil {
			return nil, err
		}
		out, err := p.makeKey(q.ID)
		p.Summary = "create access key " + out.AccessKeyID + " for user " + of.AccountID + "/" + of.Name
		return answer(out), err
	}
}

// ChangeAccessKey activates or deactivates an access key.
func ChangeAccessKey(in adminapi.AccessKeyChange) Act[adminapi.AccessKey] {
	return func(p *Plan) (Find[adminapi.AccessKey], *metering.Error) {
		if in.Status == "" {
			return nil, invalid("status: is missing: give %s or %s", adminapi.Active, adminapi.Inactive)
		}
		active, err := keyStatus(in.Status)
		if err != nil {
			return nil, err
		}
		k, err := p.keyToChange(in.AccessKeyID)
		if err != nil {
			return nil, err
		}
		k.Active = active
		p.Summary = "set access key " + in.AccessKeyID + " " + in.Status
		id := k.ID
		return func(v *View) (adminapi.AccessKey, *metering.Error) { return v.keyShape(&v.directory.keys[id-1]), nil }, nil
	}
}

func noKey(id string) *metering.Error {
	return notFound("access_key_id: there is no access key %.40q: meterd admin key list shows them", id)
}

// keyToChange returns a key that is about to change, and opens its secret for the directory, which does not keep the
// secrets of inactive keys.
func (p *Plan) keyToChange(accessKeyID string) (*store.AccessKey, *metering.Error) {
	k := p.accessKey(accessKeyID)
	if k == nil || k.Deleted {
		return nil, noKey(accessKeyID)
	}
	secret, bad := p.cfg.Sealer.Open(secretLabel(accessKeyID), k.Sealed)
	if bad != nil {
		return nil, metering.Errorf(metering.Internal, "access key %s: %v", accessKeyID, bad)
	}
	p.secrets[k.ID] = string(secret)
	return p.keys.change(k.ID), nil
}

// DeleteAccessKey deletes an access key. Its id is never used again.
func DeleteAccessKey(of adminapi.AccessKeyPath) Act[adminapi.None] {
	return func(p *Plan) (Find[adminapi.None], *metering.Error) {
		k, err := p.keyToChange(of.AccessKeyID)
		if err != nil {
			return nil, err
		}
		k.Deleted = true
		p.Summary = "delete access key " + of.AccessKeyID
		return nil, nil
	}
}
