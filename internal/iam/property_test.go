package iam_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/meterd/meterd/internal/iam"
)

const assumeRole = "sts:AssumeRole"

// known are the actions of the tests of documents.
var known = iam.NewActions(append(slices.Clone(all), assumeRole, "sts:TagSession")...)

// requestOf returns what the oracle is asked where the evaluator is asked r.
func requestOf(r *iam.Request) request {
	c, keys := &r.Context, map[string][]string{}
	always := func(name, text string) {
		if keys[name] = nil; text != "" {
			keys[name] = []string{text}
		}
	}
	maybe := func(name, text string) {
		if text != "" {
			keys[name] = []string{text}
		}
	}
	zulu := func(t time.Time) string {
		if t.IsZero() {
			return ""
		}
		return t.UTC().Format("2006-01-02T15:04:05Z")
	}
	arn := ""
	if c.Principal.AccountID != "" {
		arn = "arn:aws:iam::" + c.Principal.AccountID + ":" + c.Principal.Kind.String() + "/" + c.Principal.Name
	}
	always("aws:principalarn", arn)
	always("aws:principalaccount", c.Principal.AccountID)
	if c.Principal.Kind == iam.User {
		maybe("aws:username", c.Principal.Name)
	}
	always("aws:userid", c.UserID)
	ip := ""
	if c.SourceIP.IsValid() {
		ip = strings.TrimPrefix(c.SourceIP.String(), "::ffff:")
	}
	always("aws:sourceip", ip)
	always("aws:currenttime", zulu(c.CurrentTime))
	epoch := ""
	if !c.CurrentTime.IsZero() {
		epoch = strconv.FormatInt(c.CurrentTime.Unix(), 10)
	}
	always("aws:epochtime", epoch)
	always("aws:securetransport", strconv.FormatBool(c.SecureTransport))
	always("aws:requestedregion", c.RequestedRegion)
	maybe("aws:useragent", c.UserAgent)
	if issued := zulu(c.TokenIssueTime); issued != "" || c.Principal.SessionName != "" {
		always("aws:tokenissuetime", issued)
	}
	maybe("aws:sourceidentity", c.SourceIdentity)
	maybe("aws:federatedprovider", c.FederatedProvider)
	maybe("sts:externalid", c.ExternalID)
	maybe("sts:rolesessionname", c.RoleSessionName)
	maybe("sts:sourceidentity", c.RequestedSourceIdentity)
	for name, text := range c.PrincipalTags {
		keys["aws:principaltag/"+strings.ToLower(name)] = []string{text}
	}
	for name, text := range c.RequestTags {
		keys["aws:requesttag/"+strings.ToLower(name)] = []string{text}
		keys["aws:tagkeys"] = append(keys["aws:tagkeys"], name)
	}
	return request{r.Action, r.Resource, keys}
}

// A choice makes a random document or request; pick chooses one of several.
type choice interface{ pick(n int) int }

func of[T any](c choice, all ...T) T { return all[c.pick(len(all))] }

func upTo(c choice, n int, item func()) {
	for range c.pick(n + 1) {
		item()
	}
}

var (
	regions   = []string{"us-east-1", "eu-central-1", "us-gov-west-1"}
	addresses = []string{"203.0.113.7", "198.51.100.1", "2001:db8::1", "::ffff:203.0.113.9"}
	instants  = []string{"2026-11-27T09:30:00Z", "2026-11-27T10:30:01+01:00", "2025-01-01T00:00:00Z", "2027-02-03T04:05:06.789Z"}
	words     = []string{"alice", "Alice", "bob", "a*", "a?ice", "**", "", "5", "-5.25", "100000000000001", "1e3", "true", "FALSE", "é", "dev/a:b"}
	arns      = []string{"arn:aws:iam::111122223333:role/app", "arn:aws:iam::111122223333:user/alice", "arn:aws:iam::444455556666:role/app2"}
)

func randomRequest(c choice) *iam.Request {
	r := &iam.Request{Action: of(c, append(slices.Clone(all), assumeRole, "AWS-marketplace:meterusage", "s3:GetObject")...)}
	if r.Action == assumeRole {
		r.Resource = of(c, append(arns, "")...)
	}
	x := &r.Context
	x.Principal = of(c, iam.Principal{}, iam.Principal{Kind: iam.User, AccountID: "111122223333", Name: of(c, "alice", "a*")},
		iam.Principal{Kind: iam.Role, AccountID: "444455556666", Name: "app", SessionName: of(c, "", "i-0123")})
	sometimes := func(set func()) {
		if c.pick(3) > 0 {
			set()
		}
	}
	at := func() time.Time { t, _ := time.Parse(time.RFC3339, of(c, instants...)); return t }
	sometimes(func() { x.SourceIP = netip.MustParseAddr(of(c, addresses...)) })
	sometimes(func() { x.CurrentTime = at() })
	sometimes(func() { x.TokenIssueTime = at() })
	sometimes(func() { x.SecureTransport = true })
	sometimes(func() { x.RequestedRegion = of(c, regions...) })
	sometimes(func() { x.UserAgent = of(c, words...) })
	sometimes(func() { x.UserID = of(c, words...) })
	sometimes(func() { x.SourceIdentity = of(c, words...) })
	sometimes(func() {
		x.FederatedProvider = of(c, "arn:aws:iam::111122223333:oidc-provider/issuer.example", "accounts.google.com")
	})
	sometimes(func() { x.ExternalID = of(c, words...) })
	sometimes(func() { x.PrincipalTags = map[string]string{"Team": of(c, words...), "x": of(c, arns...)} })
	sometimes(func() { x.RequestTags = map[string]string{of(c, "Team", "cost"): of(c, words...)} })
	sometimes(func() { x.RequestTags = map[string]string{"Team": of(c, words...), "Other": "5"} })
	return r
}

// randomDocument returns a document that is accepted.
func randomDocument(c choice) string {
	type object = map[string]any
	one := func(texts []string) any {
		if len(texts) == 1 && c.pick(2) == 0 {
			return texts[0]
		}
		return texts
	}
	some := func(all ...string) []string {
		texts := []string{of(c, all...)}
		upTo(c, 2, func() { texts = append(texts, of(c, all...)) })
		return texts
	}
	var statements []object
	for range 1 + c.pick(4) {
		s := object{"Effect": of(c, "Allow", "Deny", "Allow"), "Resource": "*"}
		actions := some("*", "aws-marketplace:*", "AWS-Marketplace:Meter*", "aws-marketplace:?eterUsage", "aws-marketplace:*Usage", "aws-marketplace:GetEntitlements", "sts:*", "sts:Assume*")
		if c.pick(4) == 0 {
			s["NotAction"] = one(actions)
		} else {
			if s["Effect"] == "Allow" && c.pick(4) == 0 {
				actions = append(actions, "s3:Get*", "aws-marketplace:Subscribe")
			}
			s["Action"] = one(actions)
			if !slices.ContainsFunc(actions, func(a string) bool { return !strings.HasPrefix(a, "sts:") }) && c.pick(2) == 0 {
				s["Resource"] = one(some("arn:aws:iam::111122223333:role/*", "arn:aws:iam::*:role/app?", "arn:aws:iam::${aws:PrincipalAccount}:role/app", "*"))
			}
		}
		conditions := object{}
		upTo(c, 3, func() {
			operator, values := of(c, "String", "Arn", "IpAddress", "Date", "Numeric", "Bool", "Null", "unknown"), []string(nil)
			switch operator {
			case "String":
				operator += of(c, "Equals", "NotEquals", "EqualsIgnoreCase", "NotEqualsIgnoreCase", "Like", "NotLike")
				values = some(append([]string{"*", "a*e", "?lice", "us-*", "${aws:username}", "x${aws:PrincipalAccount}", "1111${aws:username}*", "arn:*:role/app"}, words...)...)
			case "Arn":
				operator += of(c, "Equals", "NotEquals", "Like", "NotLike")
				values = some("arn:aws:iam::*:role/app", "arn:aws:iam::111122223333:*", "arn:aws:iam::${aws:PrincipalAccount}:user/${aws:username}", "arn:*:*:*:*:*", "arn:aws:*:role/app:::")
			case "IpAddress":
				operator = of(c, "", "Not") + operator
				values = some("203.0.113.0/24", "203.0.113.7", "0.0.0.0/0", "2001:db8::/32", "::/0", "203.0.113.77/29")
			case "Date":
				operator += of(c, "Equals", "NotEquals", "LessThan", "LessThanEquals", "GreaterThan", "GreaterThanEquals")
				values = some("2026-11-27T09:30:00Z", "2026-11-27T09:30Z", "2026-11-27", "1795771800", "2027-02-03T04:05:06.5Z", "0")
			case "Numeric":
				operator += of(c, "Equals", "NotEquals", "LessThan", "LessThanEquals", "GreaterThan", "GreaterThanEquals")
				values = some("5", "-5.25", "5.0", "100000000000001", "1795771800", ".5", "5.")
			case "Bool", "Null":
				values = some("true", "false", "TRUE")
			default:
				operator, values = of(c, "StringLke", "stringEquals", "BinaryEquals", "NotBool", "NotNull", "StringEqualsIfExistsIfExists", "forAnyValue:StringLike"), some(words...)
			}
			operator = of(c, "", "", "ForAnyValue:", "ForAllValues:") + operator + of(c, "", "", "IfExists")
			keys, _ := conditions[operator].(object)
			if keys == nil {
				keys = object{}
				conditions[operator] = keys
			}
			key := of(c, "aws:SourceIp", "aws:CurrentTime", "aws:EpochTime", "aws:SecureTransport", "aws:RequestedRegion", "aws:PrincipalArn", "aws:PrincipalAccount",
				"aws:PrincipalTag/team", "aws:PrincipalTag/X", "aws:userid", "aws:username", "AWS:TokenIssueTime", "aws:SourceIdentity", "aws:FederatedProvider", "aws:UserAgent",
				"aws:TagKeys", "aws:RequestTag/TEAM", "sts:ExternalId", "aws:MultiFactorAuthPresent", "issuer.example:sub", "aws:RequestTag/")
			keys[key] = one(values)
		})
		if len(conditions) > 0 {
			s["Condition"] = conditions
		}
		statements = append(statements, s)
	}
	text, err := json.Marshal(object{"Version": "2012-10-17", "Statement": statements})
	if err != nil {
		panic(err)
	}
	return string(text)
}

// drawn chooses by a property test's draws.
type drawn struct{ t *rapid.T }

func (d drawn) pick(n int) int { return rapid.IntRange(0, n-1).Draw(d.t, "pick") }

// seeded chooses by a seed.
type seeded struct{ r *rand.Rand }

func seed(n uint64) seeded      { return seeded{rand.New(rand.NewPCG(n, n))} }
func (s seeded) pick(n int) int { return s.r.IntN(n) }

func parse(t interface{ Fatalf(string, ...any) }, document string) *iam.Policy {
	p, err := known.ParsePolicy(document)
	if err != nil {
		t.Fatalf("%s: %v", document, err)
	}
	return p
}

// TestDecideAsOracle: the evaluator decides as the oracle does, by a policy and by
// one of a session; and a session's policy never allows what would be denied without.
func TestDecideAsOracle(t *testing.T) {
	seen := map[iam.Decision]int{}
	for n := range uint64(600) {
		c := seed(n)
		own, within := randomDocument(c), randomDocument(c)
		identity, session := parse(t, own), parse(t, within)
		for range 10 {
			r := randomRequest(c)
			alone, both := iam.Decide(identity, nil, r), iam.Decide(identity, session, r)
			seen[alone]++
			seen[both]++
			o := requestOf(r)
			if !slices.Contains(all, known.Name(r.Action)) && known.Name(r.Action) == "" {
				if alone != iam.NotAllowed {
					t.Fatalf("%s: %v, but the action does not exist", r.Action, alone)
				}
				continue
			}
			if want := oracleDecides(own, "", o); alone != want {
				t.Fatalf("seed %d: %+v\n%s\ndecided %v, want %v", n, o, own, alone, want)
			}
			if want := oracleDecides(own, within, o); both != want {
				t.Fatalf("seed %d: %+v\n%s\nwith session\n%s\ndecided %v, want %v", n, o, own, within, both, want)
			}
			if both == iam.Allowed && alone != iam.Allowed {
				t.Fatalf("the session's policy widens: %s, %s", own, within)
			}
			if d, settled := identity.Settled(r.Action); settled && d != alone {
				t.Fatalf("settled as %v, decided %v", d, alone)
			}
			if identity.Powerless() && alone == iam.Allowed {
				t.Fatalf("powerless, but allowed by %s", own)
			}
		}
	}
	for d := iam.NotAllowed; d <= iam.Allowed; d++ {
		if seen[d] < 50 {
			t.Errorf("decision %d came %d times only", d, seen[d])
		}
	}
}

// TestPolicyProperties: the order of statements does not matter; a further denial
// takes away only, and wins; a further permission takes nothing away; a policy is
// the sum of its statements.
func TestPolicyProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := drawn{t}
		document := randomDocument(c)
		r := randomRequest(c)
		before := iam.Decide(parse(t, document), nil, r)
		var p struct {
			Version   string
			Statement []json.RawMessage
		}
		if err := json.Unmarshal([]byte(document), &p); err != nil {
			t.Fatal(err)
		}
		decide := func(statements ...json.RawMessage) iam.Decision {
			p := p
			p.Statement = statements
			text, _ := json.Marshal(p)
			return iam.Decide(parse(t, string(text)), nil, r)
		}
		p.Statement = rapid.Permutation(p.Statement).Draw(t, "order")
		if got := decide(p.Statement...); got != before {
			t.Fatalf("in another order: %v, was %v", got, before)
		}
		if known.Name(r.Action) == "" {
			return
		}
		deny := json.RawMessage(fmt.Sprintf(`{"Effect": "Deny", "Action": %q, "Resource": "*"}`, r.Action))
		if got := decide(append(slices.Clone(p.Statement), deny)...); got != iam.ExplicitDeny {
			t.Fatalf("denied too: %v", got)
		}
		allow := json.RawMessage(fmt.Sprintf(`{"Effect": "Allow", "Action": %q, "Resource": "*"}`, r.Action))
		if got := decide(append(slices.Clone(p.Statement), allow)...); got != iam.Allowed && got != before {
			t.Fatalf("allowed too: %v, was %v", got, before)
		}
		sum := iam.NotAllowed
		for _, s := range p.Statement {
			switch d := decide(s); {
			case d == iam.ExplicitDeny:
				sum = d
			case d == iam.Allowed && sum == iam.NotAllowed:
				sum = d
			}
		}
		if sum != before {
			t.Fatalf("statement by statement: %v, together %v", sum, before)
		}
	})
}

// TestListsAreDocuments: lists decide as the document that says the same does.
func TestListsAreDocuments(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := drawn{t}
		entries := []string{"*", "aws-marketplace:*", "aws-marketplace:Batch*", "AWS-MARKETPLACE:?eterUsage", "sts:*", iam.SellerAccess, iam.MeteringFullAccess,
			iam.MeteringRegisterUsage, iam.EntitlementAccess, iam.MarketplaceFullAccess}
		p := iam.Permissions{}
		var statements []map[string]any
		add := func(effect string, list *[]string) {
			upTo(c, 3, func() {
				entry := of(c, entries...)
				*list = append(*list, entry)
				actions := iam.Managed(entry)
				if actions == nil {
					actions = []string{entry}
				}
				statements = append(statements, map[string]any{"Effect": effect, "Action": actions, "Resource": "*"})
			})
		}
		add("Allow", &p.Allow)
		add("Deny", &p.Deny)
		if c.pick(2) == 0 {
			p.Policy = randomDocument(c)
			var in struct{ Statement []map[string]any }
			if err := json.Unmarshal([]byte(p.Policy), &in); err != nil {
				t.Fatal(err)
			}
			statements = append(statements, in.Statement...)
		}
		if err := validate(known, &p); err != nil {
			t.Fatal(err)
		}
		if len(statements) == 0 {
			return
		}
		text, _ := json.Marshal(map[string]any{"Version": "2012-10-17", "Statement": statements})
		r := randomRequest(c)
		if got, want := iam.Decide(known.Policy(&p), nil, r), iam.Decide(parse(t, string(text)), nil, r); got != want {
			t.Fatalf("%+v decides %v, %s decides %v", p, got, text, want)
		}
	})
}

// FuzzPolicy: no text makes the evaluator panic, and it decides by every document
// that it takes as the oracle does.
func FuzzPolicy(f *testing.F) {
	for n := range uint64(50) {
		f.Add(randomDocument(seed(n)), n)
	}
	for document := range refusedDocuments {
		f.Add(document, uint64(7))
	}
	f.Fuzz(func(t *testing.T, document string, n uint64) {
		p, err := known.ParsePolicy(document)
		if err != nil {
			if denying := known.Policy(&iam.Permissions{Allow: []string{"*"}, Policy: document}); document != "" && !denying.Powerless() {
				t.Errorf("%q cannot be read, and does not deny", document)
			}
			return
		}
		if compact, err := known.ParsePolicy(iam.CompactDocument(document)); err != nil {
			t.Errorf("%q cannot be read without its white space: %v", document, err)
		} else if r := randomRequest(seed(n)); iam.Decide(compact, nil, r) != iam.Decide(p, nil, r) {
			t.Errorf("%q means something else without its white space", document)
		}
		for i := range uint64(5) {
			r := randomRequest(seed(n + i))
			if known.Name(r.Action) == "" {
				continue
			}
			if got, want := iam.Decide(p, nil, r), oracleDecides(document, "", requestOf(r)); got != want {
				t.Errorf("%q, %+v: decided %v, want %v", document, requestOf(r), got, want)
			}
		}
	})
}
