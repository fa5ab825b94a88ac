package market

import (
	"net/netip"
	"strings"

	"github.com/meterd/meterd/internal/adminapi"
	"github.com/meterd/meterd/internal/iam"
	"github.com/meterd/meterd/internal/metering"
	"github.com/meterd/meterd/internal/store"
)

var canVerbs = []Verb{finds(adminapi.Can, Can)}

// Can decides, as for a call, whether a user or role may take an action.
func Can(in adminapi.Question) Find[adminapi.Verdict] {
	return func(v *View) (adminapi.Verdict, *metering.Error) {
		none := adminapi.Verdict{}
		q, err := v.principalCalled(in.AccountID, in.Principal)
		if err != nil {
			return none, err
		}
		action := actions.Name(in.Action)
		for _, a := range metering.Actions() {
			if _, name, _ := strings.Cut(a, ":"); action == "" && strings.EqualFold(name, in.Action) {
				action = a
			}
		}
		if action == "" {
			return none, invalid("action: %.80q is none of the actions %s", in.Action, strings.Join(metering.Actions(), ", "))
		}
		name := v.nameOf(q)
		if in.Session != "" {
			if q.Kind != iam.Role {
				return none, invalid("session: only roles have sessions: leave it out")
			}
			if bad := iam.ValidSessionName(in.Session); bad != nil {
				return none, invalid("session: %v", bad)
			}
			name.SessionName = in.Session
		}
		source, bad := netip.ParseAddr(in.SourceIP)
		if bad != nil && in.SourceIP != "" {
			return none, invalid("source_ip: must be an address such as 203.0.113.7, not %.80q", in.SourceIP)
		}
		who := Identity{Policy: v.directory.policies[q.ID-1], Name: name}
		decision := who.Decide(action, func() iam.Context {
			return iam.Context{SourceIP: source, CurrentTime: v.Now.Time(), SecureTransport: in.TLS, RequestedRegion: in.Region, UserAgent: in.UserAgent}
		})
		return adminapi.Verdict{Principal: name.ARN(), Action: action, Allowed: decision == iam.Allowed, Message: decision.Text(name, action, ""), Unknown: who.Policy.Unknown()}, nil
	}
}

// principalCalled returns the user or role called by its name, which may follow its kind and a slash.
func (v *View) principalCalled(accountID, called string) (*store.Principal, *metering.Error) {
	kind, name, given := strings.Cut(called, "/")
	if !given {
		name = called
	}
	if given && kind != iam.User.String() && kind != iam.Role.String() {
		return nil, invalid("principal: must be a name, user/NAME or role/NAME, not %.80q", called)
	}
	var account uint32
	if n, ok := metering.ParseAccountID(accountID); ok {
		if a := v.AccountByID(n); a != nil {
			account = a.ID
		}
	}
	var found []*store.Principal
	for _, k := range []iam.Kind{iam.User, iam.Role} {
		if q := v.livePrincipal(v.directory.named[principalName{account, k, name}]); q != nil && (!given || kind == k.String()) {
			found = append(found, q)
		}
	}
	switch len(found) {
	case 0:
		return nil, notFound("principal: account %.40q has no user or role %.80q: meterd admin user list and role list show them", accountID, called)
	case 1:
		return found[0], nil
	}
	return nil, invalid("principal: account %s has a user and a role %s: write user/%[2]s or role/%[2]s", accountID, name)
}
