package ledger

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/meterd/meterd/internal/adminapi"
	"github.com/meterd/meterd/internal/iam"
	"github.com/meterd/meterd/internal/metering"
	"github.com/meterd/meterd/internal/store"
)

// CreateAdminToken makes a bearer token of the admin API and returns it, this once. A sandbox takes a given token.
func (l *Ledger) CreateAdminToken(op Operator, in adminapi.AdminToken) (adminapi.AdminToken, error) {
	var out adminapi.AdminToken
	err := l.act(op, func(p *plan) *metering.Error {
		if err := checkText("name", in.Name, 1, maxText); err != nil {
			return err
		}
		token, hash, bad := iam.NewBearerToken(p.random)
		if bad != nil {
			return metering.Errorf(metering.Internal, "%v", bad)
		}
		if in.Token != "" {
			if !l.Sandbox() {
				return invalid("token: a production ledger makes its tokens: leave it out")
			}
			if err := checkText("token", in.Token, 16, maxText); err != nil {
				return err
			}
			token, hash = in.Token, iam.HashBearerToken(in.Token)
			if _, there := l.directory.bearers[hash]; there {
				return conflict("token: there is such an admin token already")
			}
		}
		t := store.AdminToken{ID: p.admins.next(), Name: in.Name, Hash: hash, Created: p.now}
		p.admins.add(t)
		p.act = fmt.Sprintf("create admin token %d, %s", t.ID, t.Name)
		out = adminShape(&t)
		out.Token = token
		return nil
	})
	if err != nil {
		return adminapi.AdminToken{}, err
	}
	return out, nil
}

func adminShape(t *store.AdminToken) adminapi.AdminToken {
	return adminapi.AdminToken{ID: strconv.FormatUint(uint64(t.ID), 10), Name: t.Name, CreatedAt: t.Created.Time()}
}

// AdminTokens lists the bearer tokens of the admin API, without what they are.
func (l *Ledger) AdminTokens(op Operator, after string, limit int) (adminapi.Page[adminapi.AdminToken], error) {
	return list(l, op, func() []store.AdminToken { return l.directory.admins }, after, limit, func(t *store.AdminToken) (adminapi.AdminToken, bool) {
		if t.Deleted {
			return adminapi.AdminToken{}, false
		}
		return adminShape(t), true
	})
}

// DeleteAdminToken deletes a bearer token of the admin API, but never the last one: nobody could make another.
func (l *Ledger) DeleteAdminToken(op Operator, id string) error {
	return l.act(op, func(p *plan) *metering.Error {
		n, bad := strconv.ParseUint(strings.TrimSpace(id), 10, 32)
		if bad != nil || n == 0 || n > uint64(len(p.admins.base)) || p.admins.at(uint32(n)).Deleted {
			return notFound("id: there is no admin token %.40q: meterd admin admin-token list shows them", id)
		}
		if len(l.directory.bearers) == 1 {
			return conflict("id: it is the last admin token: make another one first, with: meterd admin admin-token create")
		}
		p.admins.change(uint32(n)).Deleted = true
		p.act = fmt.Sprintf("delete admin token %d", n)
		return nil
	})
}
