package iam

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// pattern is a text with wildcards and variables, which stand as negative numbers
// between its characters.
type pattern []rune

const (
	anyText      = -1 - rune(iota) // *
	anyCharacter                   // ?
	accountVariable
	usernameVariable
)

// variables are those that patterns may have ("IAM policy elements: Variables and tags").
var variables = map[string]rune{"${aws:principalaccount}": accountVariable, "${aws:username}": usernameVariable}

// compilePattern reads a pattern. Where there are no wildcards, * and ? stand for
// themselves; where there are no variables, ${ does.
func compilePattern(text string, wildcards, variable bool) (pattern, error) {
	p := make(pattern, 0, len(text))
	for text != "" {
		r, size := utf8.DecodeRuneInString(text)
		switch {
		case wildcards && r == '*':
			r = anyText
		case wildcards && r == '?':
			r = anyCharacter
		case variable && strings.HasPrefix(text, "${"):
			size = strings.IndexByte(text, '}') + 1
			if r = variables[lower(text[:size])]; r == 0 {
				return nil, fmt.Errorf("has a variable that this service does not know, %q: only ${aws:PrincipalAccount} and ${aws:username} are supported", clip(text[:max(size, 2)]))
			}
		}
		p = append(p, r)
		text = text[size:]
	}
	return p, nil
}

// resolve replaces variables by the request's values, in which * and ? are no wildcards.
// It returns false if the request has no value for a variable.
func (p pattern) resolve(c *Context) (pattern, bool) {
	for i, r := range p {
		var text string
		switch r {
		case accountVariable:
			text = c.Principal.AccountID
		case usernameVariable:
			text = c.username()
		default:
			continue
		}
		rest, ok := p[i+1:].resolve(c)
		return append(append(p[:i:i], []rune(text)...), rest...), ok && text != ""
	}
	return p, true
}

// match reports whether the pattern, which must have no variables, matches the whole
// text. On a mismatch it lets the last * take one character more. That is enough: what
// an earlier * has taken never needs to change. So the number of steps is at most the
// length of the text times that of the pattern.
func (p pattern) match(text string) bool {
	at, t := 0, 0
	star, taken := -1, 0
	for t < len(text) {
		r, size := utf8.DecodeRuneInString(text[t:])
		switch {
		case at < len(p) && p[at] == anyText:
			star, taken = at, t
			at++
		case at < len(p) && (p[at] == anyCharacter || p[at] == r):
			at++
			t += size
		case star >= 0:
			_, size = utf8.DecodeRuneInString(text[taken:])
			taken += size
			at, t = star+1, taken
		default:
			return false
		}
	}
	for at < len(p) && p[at] == anyText {
		at++
	}
	return at == len(p)
}

// arnPattern is a pattern of an Amazon Resource Name, whose first five parts each
// match a part, so that no * reaches over a colon there.
type arnPattern [6]pattern

func compileARN(text string, variable bool) (a arnPattern, err error) {
	p, err := compilePattern(text, true, variable)
	if err != nil {
		return a, err
	}
	for i := range a {
		end := len(p)
		if i < len(a)-1 {
			if end = slices.Index(p, ':'); end < 0 {
				return a, fmt.Errorf("%q is no ARN: write one like arn:aws:iam::111122223333:role/app, with * and ? between its colons", clip(text))
			}
		}
		a[i] = p[:end]
		p = p[min(end+1, len(p)):]
	}
	return a, nil
}

// resolve does for each part what the resolve of a pattern does.
func (a arnPattern) resolve(c *Context) (arnPattern, bool) {
	all := true
	for i := range a {
		p, ok := a[i].resolve(c)
		a[i], all = p, all && ok
	}
	return a, all
}

// match reports whether the pattern matches text, and whether text is an ARN at all.
func (a *arnPattern) match(text string) (matches, isARN bool) {
	matches = true
	for i := range a {
		part := text
		if i < len(a)-1 {
			var found bool
			if part, text, found = strings.Cut(text, ":"); !found || i == 0 && part != "arn" {
				return false, false
			}
		}
		matches = matches && a[i].match(part)
	}
	return matches, true
}
