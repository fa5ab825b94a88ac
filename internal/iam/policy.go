package iam

import (
	"slices"
	"strings"
)

// statement is one statement of a policy.
type statement struct {
	where      string // the statement's place in the document; empty for one that stands for a list
	deny       bool
	actions    []bool       // by their numbers
	principals []principal  // of a trust document
	resources  []arnPattern // every resource if empty
	conditions []condition
}

// grammar says what a document may contain.
type grammar struct {
	actions   *Actions
	trust     bool     // whether it is a role's trust document
	variables bool     // whether its version has variables
	hosts     []string // the hosts of the issuers that the statement being read trusts
}

// ParsePolicy reads a policy document in JSON, of the version 2012-10-17 or
// 2008-10-17 ("IAM JSON policy element reference", IAM User Guide). It refuses what
// this service does not have: NotPrincipal and NotResource, variables other than
// ${aws:PrincipalAccount} and ${aws:username}, and resources other than *, except for
// the ARNs of roles if the actions are those of sts. It also refuses what would silently
// mean less than it says: unknown elements, members that are named twice, and an action
// in a denial that matches no action.
//
// A condition whose operator or key is unknown is not refused. It holds in Deny and
// does not hold in Allow; [Policy.Unknown] names it.
//
// The error says where in the document the fault is, such as
// Statement[1].Condition.StringLike, counted from 0, and how to mend it.
func (k *Actions) ParsePolicy(document string) (*Policy, error) {
	statements, err := k.statements(document)
	if err != nil {
		return nil, err
	}
	return k.compile(statements), nil
}

// statements reads a policy document.
func (k *Actions) statements(document string) ([]*statement, error) {
	g := &grammar{actions: k}
	return g.document(document)
}

func (g *grammar) document(document string) ([]*statement, error) {
	n, err := readDocument(document)
	if err != nil {
		return nil, err
	}
	in, err := n.elements([]string{"Version", "Id", "Statement"}, nil)
	if err != nil {
		return nil, err
	}
	if version := in["Version"]; version != nil {
		text, err := version.stringIn("2012-10-17", "2008-10-17")
		if err != nil {
			return nil, err
		}
		g.variables = text == "2012-10-17"
	}
	if id := in["Id"]; id != nil && id.kind != '"' {
		return nil, id.errorf("must be a string, not %v", id)
	}
	if in["Statement"] == nil {
		return nil, n.errorf(`has no Statement: write {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": %q, "Resource": "*"}]}`, g.actions.all[0])
	}
	list, err := in["Statement"].list()
	if err != nil {
		return nil, err
	}
	all := make([]*statement, len(list))
	ids := map[string]bool{}
	for i, item := range list {
		if all[i], err = g.statement(item, ids); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// The elements of a statement, and what to write in place of those that are refused.
var (
	policyElements = []string{"Sid", "Effect", "Action", "NotAction", "Resource", "Condition"}
	policyInstead  = map[string]string{
		"Principal":    "belongs into the trust document of a role: leave it out here, for a policy is about whom it is given to",
		"NotPrincipal": "belongs into no policy of a user or role: leave it out, for a policy is about whom it is given to",
		"NotResource":  `is not supported: write "Resource": "*", and name with "Effect": "Deny" what is to be left out`,
	}
	trustElements = []string{"Sid", "Effect", "Principal", "Action", "Condition"}
	trustInstead  = map[string]string{
		"NotPrincipal": "is not supported: name in Principal whom you mean",
		"NotAction":    "is not supported: name the actions in Action",
		"Resource":     "does not belong into a trust document: leave it out, for the resource is the role",
		"NotResource":  "does not belong into a trust document: leave it out, for the resource is the role",
	}
)

func (g *grammar) statement(n *node, ids map[string]bool) (*statement, error) {
	allowed, instead := policyElements, policyInstead
	if g.trust {
		allowed, instead = trustElements, trustInstead
	}
	in, err := n.elements(allowed, instead)
	if err != nil {
		return nil, err
	}
	s := &statement{where: n.at}
	if id := in["Sid"]; id != nil {
		const may = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
		switch {
		case id.kind != '"' || strings.Trim(id.text, may) != "":
			return nil, id.errorf("must be a string of letters and digits, not %v", id)
		case id.text != "" && ids[id.text]:
			return nil, id.errorf("another statement has the Sid %v: give each its own, or leave them out", id)
		}
		ids[id.text] = true
	}
	if in["Effect"] == nil {
		return nil, n.errorf(`has no Effect: write "Effect": "Allow" or "Deny"`)
	}
	effect, err := in["Effect"].stringIn("Allow", "Deny")
	if err != nil {
		return nil, err
	}
	s.deny = effect == "Deny"
	if g.trust {
		if in["Principal"] == nil {
			return nil, n.errorf("has no Principal: name whom the role trusts")
		}
		if err := g.principals(s, in["Principal"]); err != nil {
			return nil, err
		}
	}
	if err := g.actionSet(s, n, in["Action"], in["NotAction"]); err != nil {
		return nil, err
	}
	if !g.trust {
		if err := g.resources(s, n, in["Resource"], in["Action"]); err != nil {
			return nil, err
		}
	}
	if c := in["Condition"]; c != nil {
		s.conditions, err = g.conditions(c)
	}
	return s, err
}

// actionSet reads Action, or NotAction.
func (g *grammar) actionSet(s *statement, n, action, notAction *node) error {
	if (action == nil) == (notAction == nil) {
		return n.errorf(`must have either Action or NotAction: write "Action": "*" for all actions`)
	}
	list := action
	if action == nil {
		list = notAction
	}
	items, err := list.scalars(0, false)
	if err != nil {
		return err
	}
	s.actions = make([]bool, len(g.actions.all))
	for _, item := range items {
		if item.text != "*" && !isActionPattern(item.text) {
			return item.errorf("%v is no action: write a service's prefix, a colon and a name, with * and ? where needed, such as %q, or \"*\" for all", item, g.actions.all[0])
		}
		// A policy that was written for AWS may allow actions that this service does
		// not have. But where a name takes an action away, a typing error would leave
		// the action allowed.
		if some := g.actions.mark(s.actions, item.text); !some && (g.trust || s.deny == (notAction == nil)) {
			return item.errorf("%v matches no action here, so that it would not take one away: correct it, or leave it out; the actions are %s", item, strings.Join(g.actions.all, ", "))
		}
	}
	if notAction != nil {
		for i := range s.actions {
			s.actions[i] = !s.actions[i]
		}
	}
	return nil
}

// resources reads Resource. Only the actions of sts have resources, which are roles.
func (g *grammar) resources(s *statement, n, list, action *node) error {
	if list == nil {
		return n.errorf(`has no Resource: write "Resource": "*"`)
	}
	items, err := list.scalars(0, false)
	if err != nil {
		return err
	}
	every := false
	for _, item := range items {
		if item.text == "*" {
			every = true
			continue
		}
		if !strings.HasPrefix(item.text, "arn:aws:iam::") {
			return item.errorf(`must be "*", or the ARN of a role for the action sts:AssumeRole, not %v`, item)
		}
		if action == nil || !onlySTS(action) {
			return item.errorf(`must be "*", for only actions of sts have resources: write a statement of its own for those`)
		}
		if err := g.allowsVariable(item); err != nil {
			return err
		}
		arn, err := compileARN(item.text, g.variables)
		if err != nil {
			return item.errorf("%v", err)
		}
		s.resources = append(s.resources, arn)
	}
	if every {
		s.resources = nil
	}
	return nil
}

// onlySTS reports whether an element Action, which has been read, names actions of
// sts only.
func onlySTS(action *node) bool {
	items, _ := action.list()
	return !slices.ContainsFunc(items, func(item *node) bool { return !strings.HasPrefix(lower(item.text), "sts:") })
}

// allowsVariable returns an error if a text has a variable and the document's
// version has none.
func (g *grammar) allowsVariable(n *node) error {
	if !g.variables && strings.Contains(n.text, "${") {
		return n.errorf(`has a variable, for which the document needs "Version": "2012-10-17"`)
	}
	return nil
}
