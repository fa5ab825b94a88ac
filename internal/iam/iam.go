// Package iam knows who may call what: principals, permissions, access keys and
// the credentials that are sealed rather than stored.
//
// It is pure: no I/O, no clock, and randomness only from the reader it is given.
// Names and texts are those of AWS Identity and Access Management.
package iam

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Kind is the kind of a principal.
type Kind uint8

// The kinds of principals. The zero Kind is none.
const (
	User Kind = iota + 1
	Role
)

func (k Kind) String() string {
	switch k {
	case User:
		return "user"
	case Role:
		return "role"
	}
	return fmt.Sprintf("Kind(%d)", uint8(k))
}

// Principal is who a credential belongs to.
type Principal struct {
	Kind        Kind
	AccountID   string // 12 digits
	Name        string // of the user or the role
	SessionName string // of a role's session; empty for a user, or for the role itself
}

// ARN returns the principal's Amazon Resource Name: a user's or role's own, or,
// with a session name, that of the assumed role ("IAM identifiers", IAM User Guide).
func (p Principal) ARN() string {
	switch {
	case p.Kind == Role && p.SessionName != "":
		return "arn:aws:sts::" + p.AccountID + ":assumed-role/" + p.Name + "/" + p.SessionName
	case p.Kind == Role || p.Kind == User:
		return "arn:aws:iam::" + p.AccountID + ":" + p.Kind.String() + "/" + p.Name
	}
	return "arn:aws:iam::" + p.AccountID + ":unknown/" + p.Name
}

// ValidAccountID returns an error unless id is an AWS account id.
func ValidAccountID(id string) error {
	if len(id) != 12 || strings.Trim(id, "0123456789") != "" {
		return fmt.Errorf("account id %q: must be 12 digits, without hyphens and with its leading zeros", id)
	}
	return nil
}

// ValidName returns an error unless name can be a user's or a role's: 1 to 64
// letters, digits and _+=,.@- ("IAM and AWS STS quotas", IAM User Guide).
func ValidName(name string) error { return validName("name", name, 1) }

// ValidSessionName returns an error unless name can be a role session's: as
// [ValidName], but of 2 characters at least (AssumeRole, AWS STS API Reference).
func ValidSessionName(name string) error { return validName("session name", name, 2) }

func validName(what, name string, least int) error {
	const most = 64
	if len(name) < least || len(name) > most {
		return fmt.Errorf("%s %q: must have %d to %d characters, not %d", what, clip(name), least, most, len(name))
	}
	for _, c := range name {
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.ContainsRune("_+=,.@-", c)) {
			return fmt.Errorf("%s %q: may have letters, digits and _+=,.@- only, not %q", what, name, c)
		}
	}
	return nil
}

// clip bounds what an error repeats of its input.
func clip(s string) string {
	if len(s) > 80 {
		return s[:80] + "…"
	}
	return s
}

// Actions are all the actions that permissions may be about, such as
// "aws-marketplace:MeterUsage". Their names compare without regard to case, as in IAM.
type Actions struct {
	all      []string
	prefixes []string // of their services, each with its colon
}

// NewActions returns the actions of the given names.
func NewActions(names ...string) *Actions {
	k := &Actions{all: names}
	for _, name := range names {
		service, _, _ := strings.Cut(name, ":")
		if prefix := service + ":"; !slices.Contains(k.prefixes, prefix) {
			k.prefixes = append(k.prefixes, prefix)
		}
	}
	return k
}

// The presets a permission may name in place of actions. The first two are AWS's
// managed policies (metering-api 3.5; one page of the seller guide says that the
// second covers MeterUsage, the policy itself does not). AWS has none for SaaS
// sellers and prints a policy to copy instead, which is the third.
const (
	MeteringFullAccess    = "AWSMarketplaceMeteringFullAccess"    // MeterUsage
	MeteringRegisterUsage = "AWSMarketplaceMeteringRegisterUsage" // RegisterUsage
	SellerAccess          = "MeterdSellerAccess"                  // BatchMeterUsage, ResolveCustomer, GetEntitlements
)

const meterUsage = "aws-marketplace:MeterUsage"

var (
	meteringFullAccess    = []string{meterUsage}
	meteringRegisterUsage = []string{"aws-marketplace:RegisterUsage"}
	sellerAccess          = []string{"aws-marketplace:BatchMeterUsage", "aws-marketplace:ResolveCustomer", "aws-marketplace:GetEntitlements"}
)

// Preset returns the actions a preset stands for, or nil if there is none of
// that name.
func Preset(name string) []string {
	switch name {
	case MeteringFullAccess:
		return meteringFullAccess
	case MeteringRegisterUsage:
		return meteringRegisterUsage
	case SellerAccess:
		return sellerAccess
	}
	return nil
}

// Permissions say which actions a principal may take. An entry is an action, an
// action with wildcards ("aws-marketplace:Batch*"; * is any text, ? any one
// character), "*" for every action, or the name of a preset.
//
// What no entry of Allow matches is denied; what an entry of Deny matches is
// denied whatever Allow says. The zero value allows nothing.
type Permissions struct {
	Allow, Deny []string
}

// Validate returns an error if an entry means nothing: a preset or a service
// there isn't, or a pattern that matches no action. IAM takes the latter two in
// silence, which turns a typing error in Deny into a permission.
func (k *Actions) Validate(p *Permissions) error {
	for _, list := range []struct {
		name    string
		entries []string
	}{{"allow", p.Allow}, {"deny", p.Deny}} {
		for i, entry := range list.entries {
			if err := k.ValidEntry(entry); err != nil {
				return fmt.Errorf("%s entry %d, %w", list.name, i+1, err)
			}
		}
	}
	return nil
}

// ValidEntry returns an error unless entry can stand in a list of [Permissions].
func (k *Actions) ValidEntry(entry string) error {
	if err := k.validEntry(entry); err != nil {
		return fmt.Errorf("%q: %w", clip(entry), err)
	}
	return nil
}

func (k *Actions) validEntry(entry string) error {
	if k.parses(entry) {
		for _, action := range k.all {
			if k.matches(entry, action) {
				return nil
			}
		}
		return fmt.Errorf("matches no action; the actions are %s", strings.Join(k.all, ", "))
	}
	service, _, isAction := strings.Cut(entry, ":")
	switch {
	case service == "arn":
		return fmt.Errorf("is an ARN; write the policy's name alone, one of %s, %s, %s", MeteringFullAccess, MeteringRegisterUsage, SellerAccess)
	case isAction && k.service(entry) == "":
		prefixes := quoted(k.prefixes)
		return fmt.Errorf("grants and denies nothing, since these actions have the service prefix %s; write %s with its actions, such as %q",
			prefixes, prefixes, meterUsage)
	case isAction:
		return fmt.Errorf("is not an action; after %q come letters, * and ? only", k.service(entry))
	}
	return fmt.Errorf("is neither an action (%s…, or * for all) nor a policy this service knows (%s, %s, %s)",
		strings.Join(k.prefixes, "…, "), MeteringFullAccess, MeteringRegisterUsage, SellerAccess)
}

func quoted(texts []string) string {
	all := make([]string, len(texts))
	for i, text := range texts {
		all[i] = strconv.Quote(text)
	}
	return strings.Join(all, " or ")
}

// Allows reports whether the permissions allow the action: some entry of Allow
// matches it, and none of Deny does.
func (k *Actions) Allows(p *Permissions, action string) bool {
	if !k.isAction(action) || k.Denies(p, action) {
		return false
	}
	for _, entry := range p.Allow {
		if k.matches(entry, action) {
			return true
		}
	}
	return false
}

// Denies reports whether an entry of Deny matches the action. An entry that cannot
// be read (see [Actions.Validate]) matches everything here and nothing in Allow.
func (k *Actions) Denies(p *Permissions, action string) bool {
	for _, entry := range p.Deny {
		if k.matches(entry, action) || !k.parses(entry) {
			return true
		}
	}
	return false
}

// isAction reports whether name is that of one action, with no wildcard in it.
func (k *Actions) isAction(name string) bool {
	return k.isPattern(name) && !strings.ContainsAny(name, "*?")
}

// parses reports whether an entry can be read, whatever it may match.
func (k *Actions) parses(entry string) bool {
	return entry == "*" || Preset(entry) != nil || k.isPattern(entry)
}

// isPattern reports whether entry is an action or an action with wildcards.
func (k *Actions) isPattern(entry string) bool {
	prefix := k.service(entry)
	if prefix == "" || len(entry) > 128 || len(entry) == len(prefix) {
		return false
	}
	for i := len(prefix); i < len(entry); i++ {
		if c := entry[i]; !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '*' || c == '?') {
			return false
		}
	}
	return true
}

// service returns the prefix of one of the services that entry has, or "".
func (k *Actions) service(entry string) string {
	for _, prefix := range k.prefixes {
		if len(entry) >= len(prefix) && strings.EqualFold(entry[:len(prefix)], prefix) {
			return prefix
		}
	}
	return ""
}

func (k *Actions) matches(entry, action string) bool {
	for _, of := range Preset(entry) {
		if strings.EqualFold(of, action) {
			return true
		}
	}
	return glob(entry, action) && k.parses(entry)
}

// glob matches text against a pattern with * and ?, both ASCII, without regard
// to case. On a mismatch it lets the last * take one character more, which is
// enough, and quadratic at worst.
func glob(pattern, text string) bool {
	p, t := 0, 0
	star, taken := -1, 0
	for t < len(text) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, taken = p, t
			p++
		case p < len(pattern) && (pattern[p] == '?' || lower(pattern[p]) == lower(text[t])):
			p++
			t++
		case star >= 0:
			taken++
			p, t = star+1, taken
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}

// Denied returns the text of the AccessDeniedException for an action that
// nothing allows ("Troubleshoot access denied error messages", IAM User Guide).
func Denied(p Principal, action string) string {
	return fmt.Sprintf("User: %s is not authorized to perform: %s because no identity-based policy allows the %s action", p.ARN(), action, action)
}

// ExplicitlyDenied returns the text for an action that [Actions.Denies] denies.
func ExplicitlyDenied(p Principal, action string) string {
	return fmt.Sprintf("User: %s is not authorized to perform: %s with an explicit deny in an identity-based policy", p.ARN(), action)
}
