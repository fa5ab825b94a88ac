package iam

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// truth says whether a condition holds. A condition cannot be judged (unsure) if this
// service does not know its operator, its key or the key's value, or if the value is
// not of the operator's type. Such a condition holds in Deny and does not hold in
// Allow: either way less is allowed.
//
// The values are ordered, so that the lesser of two is "and" and the greater "or".
type truth int8

const (
	no truth = iota
	unsure
	yes
)

func truthOf(b bool) truth {
	if b {
		return yes
	}
	return no
}

// test compares a value of a request with one of a policy.
type test func(v *value, c *Context) truth

// operator is a condition operator without its ForAnyValue:, ForAllValues: and
// IfExists ("IAM JSON policy elements: Condition operators").
type operator struct {
	compile func(text string, variables bool) (test, error) // makes the test of a value in a policy
	negated bool                                            // holds if no value of the policy passes its test
	scalar  byte                                            // a value may be a JSON number, '0', or true and false, 't', beside a string
	null    bool                                            // asks whether the request has the key, whatever its value
}

var operators = func() map[string]operator {
	all := map[string]operator{
		"StringEquals":              {compile: stringTest(false)},
		"StringNotEquals":           {compile: stringTest(false), negated: true},
		"StringEqualsIgnoreCase":    {compile: foldedTest},
		"StringNotEqualsIgnoreCase": {compile: foldedTest, negated: true},
		"StringLike":                {compile: stringTest(true)},
		"StringNotLike":             {compile: stringTest(true), negated: true},
		"ArnEquals":                 {compile: arnTest}, // wildcards work as in ArnLike
		"ArnNotEquals":              {compile: arnTest, negated: true},
		"ArnLike":                   {compile: arnTest},
		"ArnNotLike":                {compile: arnTest, negated: true},
		"IpAddress":                 {compile: addressTest},
		"NotIpAddress":              {compile: addressTest, negated: true},
		"Bool":                      {compile: boolTest, scalar: 't'},
		"Null":                      {compile: boolTest, scalar: 't', null: true},
	}
	for name, holds := range map[string]func(order int) bool{
		"Equals":            func(order int) bool { return order == 0 },
		"NotEquals":         func(order int) bool { return order == 0 },
		"LessThan":          func(order int) bool { return order < 0 },
		"LessThanEquals":    func(order int) bool { return order <= 0 },
		"GreaterThan":       func(order int) bool { return order > 0 },
		"GreaterThanEquals": func(order int) bool { return order >= 0 },
	} {
		all["Date"+name] = operator{compile: dateTest(holds), negated: name == "NotEquals", scalar: '0'}
		all["Numeric"+name] = operator{compile: numberTest(holds), negated: name == "NotEquals", scalar: '0'}
	}
	return all
}()

func stringTest(wildcards bool) func(string, bool) (test, error) {
	return func(text string, variables bool) (test, error) {
		p, err := compilePattern(text, wildcards, variables)
		return func(v *value, c *Context) truth {
			p, known := p.resolve(c)
			if !known {
				return unsure
			}
			return truthOf(p.match(v.text))
		}, err
	}
}

func foldedTest(text string, variables bool) (test, error) {
	p, err := compilePattern(text, false, variables)
	return func(v *value, c *Context) truth {
		p, known := p.resolve(c)
		if !known {
			return unsure
		}
		return truthOf(strings.EqualFold(string(p), v.text))
	}, err
}

func arnTest(text string, variables bool) (test, error) {
	a, err := compileARN(text, variables)
	return func(v *value, c *Context) truth {
		a, known := a.resolve(c)
		matches, isARN := a.match(v.text)
		if !known || !isARN {
			return unsure
		}
		return truthOf(matches)
	}, err
}

func addressTest(text string, _ bool) (test, error) {
	prefix, err := netip.ParsePrefix(text)
	if err != nil {
		address, bad := netip.ParseAddr(text)
		if bad != nil || address.Zone() != "" {
			return nil, fmt.Errorf("%q is neither an IP address nor a range of them: write one like 203.0.113.0/24 or 2001:db8::/32", clip(text))
		}
		prefix = netip.PrefixFrom(address, address.BitLen())
	}
	if prefix.Addr().Is4In6() {
		return nil, fmt.Errorf("%q is an IPv4 address in the form of IPv6: write it as IPv4", clip(text))
	}
	return func(v *value, _ *Context) truth {
		address := v.address
		if !address.IsValid() {
			var err error
			if address, err = netip.ParseAddr(v.text); err != nil {
				return unsure
			}
		}
		return truthOf(prefix.Contains(address.Unmap().WithZone("")))
	}, nil
}

func dateTest(holds func(order int) bool) func(string, bool) (test, error) {
	return func(text string, _ bool) (test, error) {
		than, ok := parseDate(text)
		if !ok {
			return nil, fmt.Errorf("%q is no time: write one like 2026-11-27T09:30:00Z, or seconds since 1970", clip(text))
		}
		return func(v *value, _ *Context) truth {
			at, ok := v.instant, true
			if at.IsZero() {
				at, ok = parseDate(v.text)
			}
			if !ok {
				return unsure
			}
			return truthOf(holds(at.Compare(than)))
		}, nil
	}
}

// parseDate reads a time in the forms that IAM takes: a day, in UTC, or a time with
// its zone, in ISO 8601, or seconds since 1970.
func parseDate(text string) (time.Time, bool) {
	if seconds, err := strconv.ParseUint(text, 10, 40); err == nil {
		return time.Unix(int64(seconds), 0), true
	}
	for _, form := range []string{time.RFC3339, "2006-01-02T15:04Z07:00", time.DateOnly} {
		if at, err := time.Parse(form, text); err == nil {
			return at, true
		}
	}
	return time.Time{}, false
}

func numberTest(holds func(order int) bool) func(string, bool) (test, error) {
	return func(text string, _ bool) (test, error) {
		than, ok := parseNumber(text)
		if !ok {
			return nil, fmt.Errorf("%q is no number: write digits, 15 at most, with a minus before and a point between them where needed", clip(text))
		}
		return func(v *value, _ *Context) truth {
			n, ok := parseNumber(v.text)
			if !ok {
				return unsure
			}
			order := 0
			switch {
			case n < than:
				order = -1
			case n > than:
				order = 1
			}
			return truthOf(holds(order))
		}, nil
	}
}

// parseNumber reads a decimal number of up to 15 digits, which a float64 tells apart.
func parseNumber(text string) (float64, bool) {
	digits := strings.TrimPrefix(text, "-")
	if len(digits) > 16 || len(strings.Replace(digits, ".", "", 1)) > 15 || strings.Trim(digits, "0123456789.") != "" {
		return 0, false
	}
	n, err := strconv.ParseFloat(text, 64)
	return n, err == nil
}

func boolTest(text string, _ bool) (test, error) {
	want := lower(text)
	if want != "true" && want != "false" {
		return nil, fmt.Errorf("must be true or false, not %q", clip(text))
	}
	return func(v *value, _ *Context) truth {
		got := lower(v.text)
		if got != "true" && got != "false" {
			return unsure
		}
		return truthOf(got == want)
	}, nil
}

// quantifier says which of a key's values must pass if the request has several.
type quantifier byte

const (
	one  quantifier = iota // neither is given: a condition on several values cannot be judged
	some                   // ForAnyValue: a value passes
	each                   // ForAllValues: every value passes
)

// condition is one key under one operator, with the values of the policy.
type condition struct {
	where    string // the condition's place in the document
	operator operator
	quantifier
	ifExists bool
	key      string
	read     reader
	tests    []test
	loose    bool   // a value of the policy consists of wildcards only
	unknown  string // operator or key that this service does not know; if set, only where counts
}

// judge returns whether the condition holds for a request.
func (d *condition) judge(c *Context) truth {
	if d.unknown != "" {
		return unsure
	}
	var room [4]value
	values := d.read(c, room[:0])
	switch {
	case d.operator.null:
		values = append(room[:0], textValue(strconv.FormatBool(len(values) == 0)))
	case len(values) == 0:
		return truthOf(d.ifExists || d.quantifier == each || d.operator.negated && d.quantifier != some)
	case len(values) > 1 && d.quantifier == one:
		return unsure
	}
	least, most := yes, no
	for i := range values {
		passes := d.passes(&values[i], c)
		least, most = min(least, passes), max(most, passes)
	}
	if d.quantifier == some {
		return most
	}
	return least
}

func (d *condition) passes(v *value, c *Context) truth {
	if v.unknown {
		return unsure
	}
	most := no
	for _, test := range d.tests {
		most = max(most, test(v, c))
	}
	if d.operator.negated {
		return yes - most
	}
	return most
}

// conditions reads the element Condition.
func (g *grammar) conditions(n *node) ([]condition, error) {
	var all []condition
	operators, err := n.object()
	if err != nil {
		return nil, err
	}
	for _, name := range operators {
		keys, err := name.value.object()
		if err != nil {
			return nil, err
		}
		seen := map[string]bool{}
		for _, key := range keys {
			if seen[lower(key.name)] {
				return nil, key.value.errorf("is there twice, for the names of condition keys have no case: put all its values into one list")
			}
			seen[lower(key.name)] = true
			d, err := g.condition(name.name, key.name, key.value)
			if err != nil {
				return nil, err
			}
			all = append(all, d)
		}
	}
	return all, nil
}

func (g *grammar) condition(operatorName, key string, n *node) (condition, error) {
	d := condition{where: n.at, key: key, read: keyReader(key, g.hosts)}
	name := operatorName
	if rest, is := strings.CutPrefix(name, "ForAnyValue:"); is {
		name, d.quantifier = rest, some
	} else if rest, is := strings.CutPrefix(name, "ForAllValues:"); is {
		name, d.quantifier = rest, each
	}
	name, d.ifExists = strings.CutSuffix(name, "IfExists")
	var known bool
	d.operator, known = operators[name]
	switch {
	case !known || d.operator.null && name != operatorName:
		d.unknown = "operator " + operatorName
	case d.read == nil:
		d.unknown = "key " + key
	}
	values, err := n.scalars(d.operator.scalar, d.unknown != "")
	if err != nil {
		return d, err
	}
	for _, v := range values {
		if err := g.allowsVariable(v); err != nil {
			return d, err
		}
		d.loose = d.loose || strings.Trim(v.text, "*?") == ""
		if d.unknown != "" {
			if _, err := compilePattern(v.text, false, g.variables); err != nil {
				return d, v.errorf("%v", err)
			}
			continue
		}
		test, err := d.operator.compile(v.text, g.variables)
		if err != nil {
			return d, v.errorf("%v", err)
		}
		d.tests = append(d.tests, test)
	}
	return d, nil
}
