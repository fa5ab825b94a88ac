package iam

import "fmt"

// Policy is a set of statements, compiled for deciding. It may be used concurrently.
type Policy struct {
	actions *Actions
	rules   []rule // by the numbers of the actions
	unknown []string
}

// rule is what the statements say about one action.
type rule struct {
	settled effect       // the effect of the statements that apply to every request
	open    []*statement // statements that may say more, depending on the request
}

type effect uint8

const (
	silent effect = iota
	allowed
	denied
)

// compile sorts statements by their actions. So an action whose statements have no
// conditions and resources is decided by one look-up, and any other action by the
// statements about it alone.
func (k *Actions) compile(statements []*statement) *Policy {
	p := &Policy{actions: k, rules: make([]rule, len(k.all))}
	for action := range p.rules {
		r := &p.rules[action]
		for _, s := range statements {
			switch {
			case !s.actions[action]:
			case !s.unconditional():
				r.open = append(r.open, s)
			case s.deny:
				r.settled = denied
			default:
				r.settled = max(r.settled, allowed)
			}
		}
		if r.settled == denied {
			r.open = nil
		}
	}
	for _, s := range statements {
		for i := range s.conditions {
			if d := &s.conditions[i]; d.unknown != "" {
				p.unknown = append(p.unknown, fmt.Sprintf("%s: this service does not know the %s: in Allow the condition does not hold, in Deny it does", d.where, d.unknown))
			}
		}
	}
	return p
}

func (s *statement) unconditional() bool { return len(s.resources) == 0 && len(s.conditions) == 0 }

// Request is what a policy decides about.
type Request struct {
	Action   string
	Resource string // the ARN of a role; empty for actions without a resource
	Context  Context
}

// applies reports whether the statement is about the resource of the request and its
// conditions hold.
func (s *statement) applies(r *Request) bool {
	holds := yes
	if len(s.resources) > 0 {
		holds = no
		for _, of := range s.resources {
			a, known := of.resolve(&r.Context)
			if matches, _ := a.match(r.Resource); !known {
				holds = max(holds, unsure)
			} else if matches {
				holds = yes
			}
		}
	}
	for i := 0; i < len(s.conditions) && holds != no; i++ {
		holds = min(holds, s.conditions[i].judge(&r.Context))
	}
	return holds == yes || s.deny && holds == unsure
}

func (p *Policy) effect(action int, r *Request) effect {
	if action < 0 {
		return silent
	}
	rule := &p.rules[action]
	says := rule.settled
	for _, s := range rule.open {
		switch {
		case !s.deny && says == allowed:
		case !s.applies(r):
		case s.deny:
			return denied
		default:
			says = allowed
		}
	}
	return says
}

// Decision says whether a request is allowed and, if not, by which rule.
type Decision uint8

// The decisions. The zero Decision is a denial.
const (
	NotAllowed            Decision = iota // no identity-based policy allows the action
	NotAllowedInSession                   // no session policy allows the action
	ExplicitDeny                          // a statement of an identity-based policy denies it
	ExplicitDenyInSession                 // a statement of a session policy denies it
	Allowed
)

// Decide decides by the policy of a principal and, if session is not nil, by that of
// the principal's session. A session policy can only take permissions away: a denial in
// either policy counts, and both must allow the action ("Policy evaluation logic", IAM
// User Guide). An action that the policies do not know is not allowed.
func Decide(identity, session *Policy, r *Request) Decision {
	action := identity.actions.number(r.Action)
	own, within := identity.effect(action, r), allowed
	if session != nil {
		within = session.effect(action, r)
	}
	switch {
	case own == denied:
		return ExplicitDeny
	case within == denied:
		return ExplicitDenyInSession
	case within != allowed:
		return NotAllowedInSession
	case own != allowed:
		return NotAllowed
	}
	return Allowed
}

// Settled returns what the policy decides about the action alone, without a session
// policy, if that is the same for every request.
func (p *Policy) Settled(action string) (d Decision, settled bool) {
	n := p.actions.number(action)
	if n < 0 {
		return NotAllowed, true
	}
	return [...]Decision{silent: NotAllowed, allowed: Allowed, denied: ExplicitDeny}[p.rules[n].settled], len(p.rules[n].open) == 0
}

// Powerless reports whether no request of any action can be allowed.
func (p *Policy) Powerless() bool {
	for _, r := range p.rules {
		if r.settled == allowed {
			return false
		}
		for _, s := range r.open {
			if !s.deny {
				return false
			}
		}
	}
	return true
}

// Unknown returns a text for each condition whose operator or key this service does not
// know: it says where the condition stands in the document, and what follows.
func (p *Policy) Unknown() []string { return p.unknown }

// Text returns the message of a refused request in AWS's words ("Troubleshoot access
// denied error messages", IAM User Guide). The resource is empty for actions without
// one.
func (d Decision) Text(p Principal, action, resource string) string {
	text := fmt.Sprintf("User: %s is not authorized to perform: %s", p.ARN(), action)
	if resource != "" {
		text += " on resource: " + resource
	}
	switch d {
	case NotAllowed:
		text += fmt.Sprintf(" because no identity-based policy allows the %s action", action)
	case NotAllowedInSession:
		text += fmt.Sprintf(" because no session policy allows the %s action", action)
	case ExplicitDeny:
		text += " with an explicit deny in an identity-based policy"
	case ExplicitDenyInSession:
		text += " with an explicit deny in a session policy"
	case Allowed:
		return ""
	}
	return text
}
