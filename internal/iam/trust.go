package iam

import (
	"fmt"
	"strings"
)

// trustActions are the actions that trust documents are about.
var trustActions = NewActions("sts:AssumeRole", "sts:AssumeRoleWithWebIdentity", "sts:TagSession", "sts:SetSourceIdentity")

// Trust is a role's trust document: who may assume the role. It may be used
// concurrently.
type Trust struct{ statements []*statement }

// principal is a principal in a statement of a trust document: one ARN, account or
// service. The ARN of an account's root is kept as the account.
type principal string

// Assumer is the caller that wants to assume a role. Exactly one field is set.
type Assumer struct {
	Principal *Principal // AssumeRole
	Provider  string     // AssumeRoleWithWebIdentity: ARN of the issuer
	Service   string     // such as ecs-tasks.amazonaws.com
}

// is returns how a trust document that names p trusts the assumer.
func (a *Assumer) is(p principal) Trusted {
	switch who := a.Principal; {
	case who == nil && (string(p) == a.Provider || string(p) == a.Service):
		return TrustedItself
	case who == nil:
		return NotTrusted
	case string(p) == who.ARN() || string(p) == who.withoutSession().ARN():
		return TrustedItself
	case string(p) == who.AccountID:
		return TrustedAccount
	}
	return NotTrusted
}

// ParseTrust reads a trust document in JSON, as [Actions.ParsePolicy] reads a policy.
// Its principals are accounts, users, roles and their sessions under AWS, issuers of
// web identities under Federated, and services under Service; not *, which would be
// everyone. Its actions are sts:AssumeRole, sts:AssumeRoleWithWebIdentity,
// sts:TagSession and sts:SetSourceIdentity.
func ParseTrust(document string) (*Trust, error) {
	g := &grammar{actions: trustActions, trust: true}
	statements, err := g.document(document)
	if err != nil {
		return nil, err
	}
	return &Trust{statements}, nil
}

// Trusted says whether and how a role trusts an assumer.
type Trusted uint8

// The ways of being trusted. The zero Trusted means not trusted.
const (
	NotTrusted     Trusted = iota
	TrustedAccount         // as a part of its account: the assumer's own policies must allow it to assume the role, too
	TrustedItself          // by name, which is enough within the role's account
)

// Trusts decides about an action of sts. A statement that denies the action outweighs
// all others.
func (t *Trust) Trusts(who *Assumer, r *Request) Trusted {
	n := trustActions.number(r.Action)
	result := NotTrusted
	for _, s := range t.statements {
		how := s.about(who)
		switch {
		case n < 0 || how == NotTrusted || !s.actions[n] || !s.applies(r):
		case s.deny:
			return NotTrusted
		default:
			result = max(result, how)
		}
	}
	return result
}

// about returns how the statement's principals name the assumer.
func (s *statement) about(who *Assumer) (how Trusted) {
	for _, p := range s.principals {
		how = max(how, who.is(p))
	}
	return how
}

// Unbounded returns the place of the first statement that trusts an issuer of web
// identities without a condition on the given claim, such as "sub", and reports whether
// there is one. By such a statement anyone with a token of the issuer could assume the
// role. A condition counts only if it needs the claim to be present and not every text
// fulfils it.
func (t *Trust) Unbounded(provider, claim string) (where string, unbounded bool) {
	for _, s := range t.statements {
		if s.deny || s.about(&Assumer{Provider: provider}) == NotTrusted {
			continue
		}
		bounded := false
		for i := range s.conditions {
			d := &s.conditions[i]
			bounded = bounded || d.key == host(provider)+":"+claim && !d.operator.negated && !d.operator.null && !d.ifExists && d.quantifier != each && !d.loose
		}
		if !bounded {
			return s.where, true
		}
	}
	return "", false
}

// principals reads Principal, and notes the hosts of issuers.
func (g *grammar) principals(s *statement, n *node) error {
	g.hosts = nil
	if n.kind == '"' {
		return n.errorf(`must be an object such as {"AWS": "111122223333"}, not %v`, n)
	}
	in, err := n.elements([]string{"AWS", "Federated", "Service"}, nil)
	if err != nil {
		return err
	}
	for _, kind := range []string{"AWS", "Federated", "Service"} {
		if in[kind] == nil {
			continue
		}
		items, err := in[kind].scalars(0, false)
		if err != nil {
			return err
		}
		for _, item := range items {
			var p principal
			var err error
			switch kind {
			case "AWS":
				p, err = awsPrincipal(item.text)
			case "Federated":
				p, err = issuer(item.text)
				g.hosts = append(g.hosts, host(item.text))
			case "Service":
				p = principal(item.text)
				if !strings.HasSuffix(item.text, ".amazonaws.com") || strings.ContainsAny(item.text, ":/*") {
					err = fmt.Errorf("must be a service such as ecs-tasks.amazonaws.com, not %q", clip(item.text))
				}
			}
			if err != nil {
				return item.errorf("%v", err)
			}
			s.principals = append(s.principals, p)
		}
	}
	return nil
}

// awsPrincipal reads an account, user, role or session.
func awsPrincipal(text string) (principal, error) {
	if ValidAccountID(text) == nil {
		return principal(text), nil
	}
	parts := strings.SplitN(text, ":", 6)
	if len(parts) < 6 || parts[0] != "arn" || parts[1] != "aws" || parts[3] != "" || ValidAccountID(parts[4]) != nil {
		return "", fmt.Errorf("must be an account of 12 digits, or the ARN of a user, a role or a role's session, not %q", clip(text))
	}
	kind, name, _ := strings.Cut(parts[5], "/")
	name, session, sessions := strings.Cut(name, "/")
	err := ValidName(name)
	switch of := parts[2] + ":" + kind; {
	case parts[2] == "iam" && parts[5] == "root":
		return principal(parts[4]), nil
	case (of == "iam:user" || of == "iam:role") && sessions:
		err = fmt.Errorf("%q has a path, which users and roles do not have here: leave it out", clip(text))
	case of == "iam:user" || of == "iam:role":
	case of == "sts:assumed-role" && err == nil:
		err = ValidSessionName(session)
	case err == nil:
		err = fmt.Errorf("%q is not supported: name an account, a user, a role or a role's session (arn:aws:sts::111122223333:assumed-role/ROLE/SESSION)", clip(text))
	}
	return principal(text), err
}

// issuer reads the ARN of an issuer of web identities.
func issuer(text string) (principal, error) {
	account, of := strings.CutPrefix(text, "arn:aws:iam::")
	account, host, is := strings.Cut(account, ":oidc-provider/")
	if !of || !is || ValidAccountID(account) != nil || host == "" || strings.ContainsAny(host, "*? ") || strings.Contains(host, "://") {
		return "", fmt.Errorf("must be the ARN of an issuer of web identities, such as arn:aws:iam::111122223333:oidc-provider/HOST with the issuer's URL without https:// for HOST, not %q", clip(text))
	}
	return principal(text), nil
}
