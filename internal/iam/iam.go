// Package iam knows who may call what: principals, permissions, access keys and
// the credentials that are sealed rather than stored.
//
// The package does no I/O, reads no clock, and takes randomness only from a reader that
// its caller passes. Names and texts are those of AWS Identity and Access Management.
package iam

import (
	"fmt"
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

// ARN returns the principal's Amazon Resource Name: that of the user or role or, with a
// session name, that of the assumed role's session ("IAM identifiers", IAM User Guide).
func (p Principal) ARN() string {
	switch {
	case p.Kind == Role && p.SessionName != "":
		return "arn:aws:sts::" + p.AccountID + ":assumed-role/" + p.Name + "/" + p.SessionName
	case p.Kind == Role || p.Kind == User:
		return "arn:aws:iam::" + p.AccountID + ":" + p.Kind.String() + "/" + p.Name
	}
	return "arn:aws:iam::" + p.AccountID + ":unknown/" + p.Name
}

// withoutSession returns the role if p is a role's session, and otherwise p.
func (p Principal) withoutSession() Principal {
	p.SessionName = ""
	return p
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

// clip shortens a text of the input that an error repeats.
func clip(s string) string {
	if len(s) > 80 {
		return s[:80] + "…"
	}
	return s
}
