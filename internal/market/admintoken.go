package market

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/meterd/meterd/internal/adminapi"
	"github.com/meterd/meterd/internal/iam"
	"github.com/meterd/meterd/internal/metering"
	"github.com/meterd/meterd/internal/store"
)

var adminTokenVerbs = []Verb{
	lists(adminapi.ListAdminTokens, AdminTokens),
	changes(adminapi.CreateAdminToken, CreateAdminToken),
	changes(adminapi.DeleteAdminToken, DeleteAdminToken),
}

// CreateAdminToken makes a bearer token of the admin API and returns it. The token is never shown again. A sandbox
// also takes a token that is given.
func CreateAdminToken(in adminapi.AdminToken) Act[adminapi.AdminToken] {
	return func(p *Plan) (Find[adminapi.AdminToken], *metering.Error) {
		if err := checkText("name", in.Name, 1, maxText); err != nil {
			return nil, err
		}
		token, hash, bad := iam.NewBearerToken(p.random)
		if bad != nil {
			return nil, metering.Errorf(metering.Internal, "%v", bad)
		}
		if in.Token != "" {
			if !p.cfg.Sandbox {
				return nil, invalid("token: a production ledger makes its tokens: leave it out")
			}
			if err := checkText("token", in.Token, 16, maxText); err != nil {
				return nil, err
			}
			token, hash = in.Token, iam.HashBearerToken(in.Token)
			if _, there := p.directory.bearers[hash]; there {
				return nil, conflict("token: there is such an admin token already")
			}
		}
		t := store.AdminToken{ID: p.admins.next(), Name: in.Name, Hash: hash, Created: p.Now}
		p.admins.add(t)
		p.Summary = fmt.Sprintf("create admin token %d, %s", t.ID, t.Name)
		out := adminShape(&t)
		out.Token = token
		return answer(out), nil
	}
}

func adminShape(t *store.AdminToken) adminapi.AdminToken {
	return adminapi.AdminToken{ID: strconv.FormatUint(uint64(t.ID), 10), Name: t.Name, CreatedAt: t.Created.Time()}
}

// AdminTokens lists the bearer tokens of the admin API by their names, without the tokens themselves.
func AdminTokens(adminapi.Paging) List[adminapi.AdminToken] {
	return listOf(0, func(s *State) []store.AdminToken { return s.directory.admins }, func(_ *View, t *store.AdminToken) (adminapi.AdminToken, bool) {
		if t.Deleted {
			return adminapi.AdminToken{}, false
		}
		return adminShape(t), true
	})
}

// DeleteAdminToken deletes a bearer token of the admin API. It refuses to delete the last one, because nobody could
// then make another.
func DeleteAdminToken(of adminapi.TokenPath) Act[adminapi.None] {
	return func(p *Plan) (Find[adminapi.None], *metering.Error) {
		n, bad := strconv.ParseUint(strings.TrimSpace(of.ID), 10, 32)
		if bad != nil || n == 0 || n > uint64(len(p.admins.base)) || p.admins.at(uint32(n)).Deleted {
			return nil, notFound("id: there is no admin token %.40q: meterd admin admin-token list shows them", of.ID)
		}
		if len(p.directory.bearers) == 1 {
			return nil, conflict("id: it is the last admin token: make another one first, with: meterd admin admin-token create")
		}
		p.admins.change(uint32(n)).Deleted = true
		p.Summary = fmt.Sprintf("delete admin token %d", n)
		return nil, nil
	}
}

// AdminTokenOf returns the id of the admin token whose text is bearer; ok is false if there is none.
func (s *State) AdminTokenOf(bearer string) (id uint32, ok bool) {
	id, ok = s.directory.bearers[iam.HashBearerToken(bearer)]
	return id, ok
}

// TakeSandboxToken makes a sandbox accept a bearer token, under id 0, besides those that are stored.
func (s *State) TakeSandboxToken(bearer string) {
	s.directory.bearers[iam.HashBearerToken(bearer)] = 0
}

// AdminTokenName returns the name of the admin token of the given id, even if it was deleted; "" if there never was
// one.
func (s *State) AdminTokenName(id uint32) string {
	if id == 0 || id > uint32(len(s.directory.admins)) {
		return ""
	}
	return s.directory.admins[id-1].Name
}
