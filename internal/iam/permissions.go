package iam

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Actions are all the actions that permissions may be about, such as
// "aws-marketplace:MeterUsage". Their names compare without regard to case, as in IAM.
type Actions struct {
	all      []string
	lower    []string // in lower case
	numbers  map[string]int
	prefixes []string // the prefixes of the actions' services, each with its colon
}

// NewActions returns the actions of the given names.
func NewActions(names ...string) *Actions {
	k := &Actions{all: names, numbers: map[string]int{}}
	for i, name := range names {
		service, _, _ := strings.Cut(name, ":")
		if prefix := service + ":"; !slices.Contains(k.prefixes, prefix) {
			k.prefixes = append(k.prefixes, prefix)
		}
		k.lower = append(k.lower, lower(name))
		k.numbers[name] = i
	}
	return k
}

// number returns the number of the action that has the name, in upper or lower case, or
// -1.
func (k *Actions) number(name string) int {
	if n, ok := k.numbers[name]; ok {
		return n
	}
	return slices.Index(k.lower, lower(name))
}

// Name returns an action's name as AWS writes it, whatever the case of the name given,
// or "" if no action has the name.
func (k *Actions) Name(name string) string {
	if n := k.number(name); n >= 0 {
		return k.all[n]
	}
	return ""
}

// mark sets, in a set by number, the actions that a pattern matches, and reports
// whether there is one.
func (k *Actions) mark(set []bool, pattern string) (some bool) {
	if !strings.ContainsAny(pattern, "*?") {
		n := k.number(pattern)
		if n >= 0 {
			set[n] = true
		}
		return n >= 0
	}
	p, _ := compilePattern(lower(pattern), true, false)
	for i, action := range k.lower {
		if p.match(action) {
			set[i], some = true, true
		}
	}
	return some
}

// every returns the set of all actions.
func (k *Actions) every() []bool { return slices.Repeat([]bool{true}, len(k.all)) }

// lower returns the text with its ASCII letters in lower case. Other letters stay as
// they are, because the lower case of some of them is an ASCII letter.
func lower(text string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			r += 'a' - 'A'
		}
		return r
	}, text)
}

// Permissions say which actions a principal may take, by two lists, the short form,
// and by a policy document ([Actions.ParsePolicy]). An entry of a list is an action,
// an action with wildcards ("aws-marketplace:Batch*"; * is any text, ? any one
// character), "*" for every action, or the name of a managed policy.
//
// What neither an entry of Allow nor the document allows is denied; what an entry
// of Deny matches or the document denies is denied in any case. The zero value
// allows nothing.
type Permissions struct {
	Allow, Deny []string
	Policy      string // the document, in JSON; empty if there is none
}

// Policy returns the permissions compiled for deciding. An entry that cannot be read
// (see [Actions.ValidEntry]) denies all actions if it is in Deny, and allows none if it
// is in Allow. A document that cannot be read (see [Actions.ParsePolicy]) denies all
// actions.
func (k *Actions) Policy(p *Permissions) *Policy {
	var statements []*statement
	for _, list := range []struct {
		entries []string
		deny    bool
	}{{p.Allow, false}, {p.Deny, true}} {
		s := &statement{deny: list.deny, actions: make([]bool, len(k.all))}
		for _, entry := range list.entries {
			switch {
			case k.parses(entry):
				k.markEntry(s.actions, entry)
			case list.deny:
				s.actions = k.every()
			}
		}
		statements = append(statements, s)
	}
	if p.Policy != "" {
		in, err := k.statements(p.Policy)
		if err != nil {
			in = []*statement{{deny: true, actions: k.every()}}
		}
		statements = append(statements, in...)
	}
	return k.compile(statements)
}

// markEntry sets the actions that an entry of a list stands for.
func (k *Actions) markEntry(set []bool, entry string) (some bool) {
	patterns := Managed(entry)
	if patterns == nil {
		patterns = []string{entry}
	}
	for _, pattern := range patterns {
		some = k.mark(set, pattern) || some
	}
	return some
}

// ValidEntry returns an error, which says how to mend the entry, if an entry of a list
// means nothing: it names a managed policy or a service that does not exist, or is a
// pattern that matches no action. IAM accepts the latter two in silence, which turns a
// typing error in Deny into a permission.
func (k *Actions) ValidEntry(entry string) error {
	if err := k.validEntry(entry); err != nil {
		return fmt.Errorf("%q: %w", clip(entry), err)
	}
	return nil
}

func (k *Actions) validEntry(entry string) error {
	if k.parses(entry) {
		if k.markEntry(make([]bool, len(k.all)), entry) {
			return nil
		}
		return fmt.Errorf("matches no action; the actions are %s", strings.Join(k.all, ", "))
	}
	service, _, isAction := strings.Cut(entry, ":")
	switch {
	case service == "arn":
		return fmt.Errorf("is an ARN; write the policy's name alone, one of %s", managedNames())
	case slices.Contains(powerless, entry):
		return fmt.Errorf("is a policy of AWS that holds none of the actions %s; name one of %s", strings.Join(k.all, ", "), managedNames())
	case isAction && k.service(entry) == "":
		prefixes := quoted(k.prefixes)
		return fmt.Errorf("grants and denies nothing, since these actions have the service prefix %s; write %s with its actions, such as %q",
			prefixes, prefixes, meterUsage)
	case isAction:
		return fmt.Errorf("is not an action; after %q come letters, digits, * and ? only", k.service(entry))
	}
	return fmt.Errorf("is neither an action (%s…, or * for all) nor a policy this service knows (%s)",
		strings.Join(k.prefixes, "…, "), managedNames())
}

func quoted(texts []string) string {
	all := make([]string, len(texts))
	for i, text := range texts {
		all[i] = strconv.Quote(text)
	}
	return strings.Join(all, " or ")
}

// parses reports whether an entry can be read, whatever it may match.
func (k *Actions) parses(entry string) bool {
	return entry == "*" || Managed(entry) != nil || k.service(entry) != "" && isActionPattern(entry)
}

// service returns the prefix of the service that the entry begins with, or "".
func (k *Actions) service(entry string) string {
	for _, prefix := range k.prefixes {
		if len(entry) >= len(prefix) && strings.EqualFold(entry[:len(prefix)], prefix) {
			return prefix
		}
	}
	return ""
}

// isActionPattern reports whether text is an action of some service, or an action
// with wildcards in its name. The service's prefix has no wildcards.
func isActionPattern(text string) bool {
	service, name, _ := strings.Cut(text, ":")
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	return len(text) <= 128 && service != "" && name != "" &&
		strings.Trim(service, letters+"0123456789-") == "" && strings.Trim(name, letters+"0123456789*?") == ""
}
