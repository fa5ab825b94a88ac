package iam_test

import (
	"encoding/json"
	"fmt"
	"math/big"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/meterd/meterd/internal/iam"
)

// The oracle decides by a policy document as the evaluator should, in another way:
// statement by statement over the decoded JSON, with regular expressions for
// patterns, package net for addresses, exact fractions for numbers, and, for what
// cannot be judged, the set of what may be true.

// may is which of true and false a condition may be.
type may struct{ true, false bool }

func is(b bool) may { return may{b, !b} }

var either = may{true, true}

func (m may) and(n may) may { return may{m.true && n.true, m.false || n.false} }
func (m may) or(n may) may  { return may{m.true || n.true, m.false && n.false} }
func (m may) not() may      { return may{m.false, m.true} }

// request is a request to the oracle: its condition keys, in lower case, but for
// claims. A key with nil has a value that nobody knows.
type request struct {
	action, resource string
	keys             map[string][]string
}

// oracle returns "deny", "allow" or "" for what the document says.
func oracle(document string, r request) string {
	d := json.NewDecoder(strings.NewReader(document))
	d.UseNumber()
	var policy map[string]any
	if err := d.Decode(&policy); err != nil {
		panic(err)
	}
	verdict := ""
	for _, s := range listOf(policy["Statement"]) {
		s := s.(map[string]any)
		holds := is(oracleAction(s, r.action)).and(oracleResource(s, r))
		for operator, keys := range mapOf(s["Condition"]) {
			for key, values := range mapOf(keys) {
				holds = holds.and(oracleCondition(operator, key, textsOf(values), r))
			}
		}
		switch {
		case s["Effect"] == "Deny" && holds.true:
			return "deny"
		case s["Effect"] == "Allow" && !holds.false:
			verdict = "allow"
		}
	}
	return verdict
}

func listOf(v any) []any {
	if list, is := v.([]any); is {
		return list
	}
	return []any{v}
}

func mapOf(v any) map[string]any {
	m, _ := v.(map[string]any)
	return m
}

func textsOf(v any) (texts []string) {
	for _, item := range listOf(v) {
		texts = append(texts, fmt.Sprint(item))
	}
	return texts
}

// expression makes a pattern a regular expression. Variables have been replaced by
// quoted texts between NULs.
func expression(pattern string, wildcards bool) *regexp.Regexp {
	form := "(?s)^"
	for i, part := range strings.Split(pattern, "\x00") {
		if i%2 == 1 {
			form += regexp.QuoteMeta(part)
			continue
		}
		part = regexp.QuoteMeta(part)
		if wildcards {
			part = strings.NewReplacer(`\*`, ".*", `\?`, ".").Replace(part)
		}
		form += part
	}
	return regexp.MustCompile(form + "$")
}

var variable = regexp.MustCompile(`\$\{[^}]*\}`)

// substitute replaces variables; known is false if one has no value.
func substitute(pattern string, r request) (text string, known bool) {
	known = true
	return variable.ReplaceAllStringFunc(pattern, func(v string) string {
		values := r.keys[strings.ToLower(strings.Trim(v, "${}"))]
		if len(values) == 0 {
			known = false
			return ""
		}
		return "\x00" + values[0] + "\x00"
	}), known
}

func oracleAction(s map[string]any, action string) bool {
	patterns, not := s["Action"], false
	if patterns == nil {
		patterns, not = s["NotAction"], true
	}
	for _, p := range textsOf(patterns) {
		if expression(strings.ToLower(p), true).MatchString(strings.ToLower(action)) {
			return !not
		}
	}
	return not
}

func oracleResource(s map[string]any, r request) may {
	holds := is(false)
	for _, p := range textsOf(s["Resource"]) {
		if p == "*" {
			return is(true)
		}
		holds = holds.or(oracleARN(p, r.resource, r).and(is(strings.HasPrefix(r.resource, "arn:"))))
		if _, known := substitute(p, r); !known {
			holds = holds.or(either)
		}
	}
	return holds
}

func oracleARN(pattern, text string, r request) may {
	pattern, known := substitute(pattern, r)
	parts := strings.SplitN(text, ":", 6)
	if !known || len(parts) != 6 || parts[0] != "arn" {
		return either
	}
	holds := is(true)
	for i, p := range strings.SplitN(pattern, ":", 6) {
		holds = holds.and(is(expression(p, true).MatchString(parts[i])))
	}
	return holds
}

func oracleCondition(operator, key string, values []string, r request) may {
	quantifier := ""
	for _, q := range []string{"ForAnyValue:", "ForAllValues:"} {
		if strings.HasPrefix(operator, q) {
			quantifier, operator = q, operator[len(q):]
		}
	}
	ifExists := strings.HasSuffix(operator, "IfExists")
	operator = strings.TrimSuffix(operator, "IfExists")
	name := strings.ToLower(key)
	got, there := r.keys[name]
	if !there && !slices.Contains(oracleKeys, name) && !strings.HasPrefix(name, "aws:principaltag/") && !strings.HasPrefix(name, "aws:requesttag/") ||
		name == "aws:principaltag/" || name == "aws:requesttag/" {
		return either
	}
	if operator == "Null" {
		if quantifier != "" || ifExists {
			return either
		}
		absent := is(false)
		for _, v := range values {
			absent = absent.or(is(strings.EqualFold(v, strconv.FormatBool(!there))))
		}
		return absent
	}
	compare := oracleOperators[strings.Replace(operator, "Not", "", 1)]
	if compare == nil {
		compare = oracleOperators[operator]
	}
	if compare == nil || operator == "NotBool" || strings.Contains(operator, "Not") && !slices.Contains(negatedOperators, operator) {
		return either
	}
	passes := func(v string) may {
		holds := is(false)
		for _, want := range values {
			holds = holds.or(compare(v, want, r))
		}
		if strings.Contains(operator, "Not") {
			return holds.not()
		}
		return holds
	}
	switch {
	case there && got == nil:
		return either
	case !there && ifExists:
		return is(true)
	case !there && quantifier == "":
		return is(strings.Contains(operator, "Not"))
	case quantifier == "" && len(got) > 1:
		return either
	}
	all, any := is(true), is(false)
	for _, v := range got {
		all, any = all.and(passes(v)), any.or(passes(v))
	}
	if quantifier == "ForAnyValue:" {
		return any
	}
	return all
}

var oracleKeys = []string{
	"aws:currenttime", "aws:epochtime", "aws:federatedprovider", "aws:principalaccount", "aws:principalarn", "aws:requestedregion", "aws:securetransport",
	"aws:sourceidentity", "aws:sourceip", "aws:tokenissuetime", "aws:useragent", "aws:userid", "aws:username", "aws:tagkeys",
	"sts:externalid", "sts:rolesessionname", "sts:sourceidentity",
}

var negatedOperators = []string{"StringNotEquals", "StringNotEqualsIgnoreCase", "StringNotLike", "ArnNotEquals", "ArnNotLike", "NotIpAddress", "DateNotEquals", "NumericNotEquals"}

// oracleOperators compare a request's value with a policy's.
var oracleOperators = map[string]func(got, want string, r request) may{
	"StringEquals":           oracleString(func(got, want string) bool { return expression(want, false).MatchString(got) }),
	"StringEqualsIgnoreCase": oracleString(func(got, want string) bool { return strings.EqualFold(got, strings.ReplaceAll(want, "\x00", "")) }),
	"StringLike":             oracleString(func(got, want string) bool { return expression(want, true).MatchString(got) }),
	"ArnEquals":              func(got, want string, r request) may { return oracleARN(want, got, r) },
	"ArnLike":                func(got, want string, r request) may { return oracleARN(want, got, r) },
	"Bool": func(got, want string, _ request) may {
		if !strings.EqualFold(got, "true") && !strings.EqualFold(got, "false") {
			return either
		}
		return is(strings.EqualFold(got, want))
	},
	"IpAddress": func(got, want string, _ request) may {
		address := net.ParseIP(got)
		if address == nil {
			return either
		}
		if !strings.Contains(want, "/") {
			return is(net.ParseIP(want).Equal(address))
		}
		_, network, err := net.ParseCIDR(want)
		if err != nil {
			panic(err)
		}
		return is(network.Contains(address))
	},
	"DateEquals": oracleDate(0), "DateLessThan": oracleDate(-1), "DateLessThanEquals": oracleDate(-1, 0),
	"DateGreaterThan": oracleDate(1), "DateGreaterThanEquals": oracleDate(1, 0),
	"NumericEquals": oracleNumber(0), "NumericLessThan": oracleNumber(-1), "NumericLessThanEquals": oracleNumber(-1, 0),
	"NumericGreaterThan": oracleNumber(1), "NumericGreaterThanEquals": oracleNumber(1, 0),
}

func oracleString(equal func(got, want string) bool) func(string, string, request) may {
	return func(got, want string, r request) may {
		want, known := substitute(want, r)
		if !known {
			return either
		}
		return is(equal(got, want))
	}
}

func oracleDate(orders ...int) func(string, string, request) may {
	read := func(text string) *time.Time {
		if regexp.MustCompile(`^[0-9]{1,12}$`).MatchString(text) {
			seconds, _ := strconv.Atoi(text)
			return new(time.Unix(int64(seconds), 0))
		}
		for _, form := range []string{"2006-01-02", "2006-01-02T15:04Z07:00", "2006-01-02T15:04:05Z07:00"} {
			if at, err := time.Parse(form, text); err == nil {
				return &at
			}
		}
		return nil
	}
	return func(got, want string, _ request) may {
		if read(got) == nil {
			return either
		}
		return is(slices.Contains(orders, read(got).Compare(*read(want))))
	}
}

func oracleNumber(orders ...int) func(string, string, request) may {
	read := func(text string) *big.Rat {
		if !regexp.MustCompile(`^-?([0-9]+\.?[0-9]*|\.[0-9]+)$`).MatchString(text) || len(strings.Trim(strings.Replace(text, ".", "", 1), "-")) > 15 {
			return nil
		}
		n, _ := new(big.Rat).SetString(strings.TrimSuffix(text, "."))
		return n
	}
	return func(got, want string, _ request) may {
		if read(got) == nil {
			return either
		}
		return is(slices.Contains(orders, read(got).Cmp(read(want))))
	}
}

// oracleDecides combines the oracle's verdicts of a policy and a session's.
func oracleDecides(identity, session string, r request) iam.Decision {
	own, within := oracle(identity, r), "allow"
	if session != "" {
		within = oracle(session, r)
	}
	for _, rule := range []struct {
		holds bool
		iam.Decision
	}{
		{own == "deny", iam.ExplicitDeny}, {within == "deny", iam.ExplicitDenyInSession},
		{within == "", iam.NotAllowedInSession}, {own == "", iam.NotAllowed},
	} {
		if rule.holds {
			return rule.Decision
		}
	}
	return iam.Allowed
}
