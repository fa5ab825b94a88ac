package server_test

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"github.com/meterd/meterd/internal/adminapi"
	"github.com/meterd/meterd/internal/iam"
	"github.com/meterd/meterd/internal/ledger"
	"github.com/meterd/meterd/internal/market"
	"github.com/meterd/meterd/internal/server"
)

// holder is a user or role whose permissions these tests change, and what signs for it.
type holder struct {
	signer
	kind                   iam.Kind
	account, name, session string
}

// holders returns the first seller's user, and the role of the buyer's task in its session.
func (e *endpoint) holders() (user, role holder) {
	e.Helper()
	of := func(kind iam.Kind, s signer) holder {
		call := e.audited(e.call(s, "MeterUsage", "{").requestID)
		arn := strings.FieldsFunc(call.Principal, func(c rune) bool { return c == ':' || c == '/' })
		return holder{s, kind, arn[3], arn[5], call.SessionName}
	}
	return of(iam.User, e.seller), of(iam.Role, e.task)
}

func (e *endpoint) permit(h holder, may adminapi.Permissions) {
	e.Helper()
	may.AccountID, may.Name = h.account, h.name
	if _, err := ledger.Act(e.Context(), e.ledger, e.ledger.Local(), market.PutPermissions(h.kind, may)); err != nil {
		e.Fatalf("%+v: %v", may, err)
	}
}

// TestPolicyOfALiveSession is I55: a role's policy that is changed to deny counts in the session that is open, at the next
// call, with AWS's text.
func TestPolicyOfALiveSession(t *testing.T) {
	e := openEndpoint(t)
	_, role := e.holders()
	if role.name != market.WorkloadRole || role.session == "" {
		t.Fatalf("the task's role is %+v", role)
	}
	e.permit(role, adminapi.Permissions{Policy: `{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "aws-marketplace:*", "Resource": "*"}}`})
	if a := e.call(e.task, "MeterUsage", "{}"); a.code == "AccessDeniedException" {
		t.Fatalf("%s: %s", a.code, a.message)
	}
	e.permit(role, adminapi.Permissions{Policy: `{"Version": "2012-10-17", "Statement": [
		{"Effect": "Allow", "Action": "aws-marketplace:*", "Resource": "*"},
		{"Effect": "Deny", "Action": "aws-marketplace:MeterUsage", "Resource": "*", "Condition": {"StringNotEquals": {"aws:RequestedRegion": "eu-north-1"}}}]}`})
	want := fmt.Sprintf("User: arn:aws:sts::%s:assumed-role/%s/%s is not authorized to perform: aws-marketplace:MeterUsage with an explicit deny in an identity-based policy", role.account, role.name, role.session)
	if a := e.call(e.task, "MeterUsage", "{}"); a.code != "AccessDeniedException" || a.message != want {
		t.Errorf("%s: %s\nwant %s", a.code, a.message, want)
	}
	if a := e.call(e.task, "RegisterUsage", "{}"); a.code == "AccessDeniedException" {
		t.Errorf("%s: %s", a.code, a.message)
	}
}

// TestCanAsTheService is I59: with 200 random policies the admin API's verdict on a call, and its text, are those that the
// call gets. The service has the conditions of I62 in its requests: address, region, time, TLS, program.
func TestCanAsTheService(t *testing.T) {
	e := openEndpointWith(t, server.AWSConfig{Proxies: server.Proxies{Trusted: []netip.Prefix{netip.MustParsePrefix("192.0.2.1/32")}}})
	user, role := e.holders()
	random := rand.New(rand.NewPCG(59, 62))
	pick := func(texts ...string) string { return texts[random.IntN(len(texts))] }
	seen := map[string]int{}
	for range 200 {
		h := user
		if random.IntN(2) == 0 {
			h = role
		}
		var statements []map[string]any
		for range 1 + random.IntN(3) {
			s := map[string]any{"Effect": pick("Allow", "Allow", "Deny"), "Resource": "*", "Action": pick("*", "aws-marketplace:*", "aws-marketplace:*Usage", "aws-marketplace:ResolveCustomer")}
			if random.IntN(4) > 0 {
				s["Condition"] = json.RawMessage(pick(
					`{"IpAddress": {"aws:SourceIp": "198.51.100.0/24"}}`, `{"NotIpAddress": {"aws:SourceIp": ["203.0.113.0/24", "2001:db8::/32"]}}`,
					`{"StringLike": {"aws:RequestedRegion": "eu-*"}}`, `{"DateLessThan": {"aws:CurrentTime": "2026-11-23T15:20:01Z"}}`, `{"NumericGreaterThan": {"aws:EpochTime": 1795447201}}`,
					`{"Bool": {"aws:SecureTransport": "true"}}`, `{"StringLike": {"aws:UserAgent": "*Boto3*"}}`, `{"StringEquals": {"aws:username": "`+user.name+`"}}`,
					`{"ArnLike": {"aws:PrincipalArn": "arn:aws:iam::*:role/*"}}`, `{"StringEquals": {"aws:PrincipalTag/team": "x"}}`, `{"DateLessThan": {"aws:TokenIssueTime": "2030-01-01"}}`,
					`{"StringEqualsIgnoreCas": {"aws:username": "x"}}`))
			}
			statements = append(statements, s)
		}
		text, _ := json.MarshalIndent(map[string]any{"Version": "2012-10-17", "Statement": statements}, "", "  ")
		e.permit(h, adminapi.Permissions{Policy: string(text)})
		q := adminapi.Question{AccountID: h.account, Principal: pick(h.name, h.kind.String()+"/"+h.name), Action: pick("BatchMeterUsage", "MeterUsage", "RegisterUsage", "aws-marketplace:resolvecustomer"),
			Session: h.session, SourceIP: pick("198.51.100.7", "203.0.113.7", "2001:db8::7"), Region: pick("us-east-1", "eu-west-1"), UserAgent: pick("Boto3/1", "curl/8"), TLS: random.IntN(2) == 0}
		v, err := ledger.Find(t.Context(), e.ledger, e.ledger.Local(), market.Can(q))
		if err != nil {
			t.Fatalf("%+v: %v", q, err)
		}
		h.region = q.Region
		_, operation, _ := strings.Cut(v.Action, ":")
		r := e.request(h.signer, operation, "{}")
		r.Header.Set("User-Agent", q.UserAgent)
		if r.RemoteAddr = netip.AddrPortFrom(netip.MustParseAddr(q.SourceIP), 4711).String(); q.TLS {
			r.TLS = &tls.ConnectionState{}
		}
		if random.IntN(2) == 0 { // the same by way of a proxy that is trusted, after one that is not
			r.Header.Set("X-Forwarded-For", "198.51.100.99, "+q.SourceIP)
			if r.RemoteAddr, r.TLS = "192.0.2.1:4711", nil; q.TLS {
				r.Header.Set("X-Forwarded-Proto", "https")
			}
		} else if random.IntN(2) == 0 { // what a client says of itself is not believed
			r.Header.Set("X-Forwarded-For", "198.51.100.99")
			r.Header.Set("X-Forwarded-Proto", "https")
		}
		a := e.serve(r)
		got := ""
		if a.code == "AccessDeniedException" {
			got = a.message
		}
		if got != v.Message || v.Allowed != (got == "") {
			t.Errorf("%s\n%+v\nis answered %s: %s\nbut the verdict is %+v", text, q, a.code, a.message, v)
		}
		seen[fmt.Sprint(h.kind, v.Allowed, strings.Contains(v.Message, "explicit"))]++
	}
	for verdict, n := range seen {
		if n < 10 {
			t.Errorf("%s came %d times only", verdict, n)
		}
	}
	if len(seen) != 6 {
		t.Errorf("there were only these verdicts: %v", seen)
	}
}

func TestCanRefuses(t *testing.T) {
	e := openEndpoint(t)
	user, role := e.holders()
	for _, c := range []struct {
		question adminapi.Question
		want     string
	}{
		{adminapi.Question{AccountID: user.account, Principal: "nobody", Action: "MeterUsage"}, `principal: account "` + user.account + `" has no user or role "nobody"`},
		{adminapi.Question{AccountID: "1", Principal: user.name, Action: "MeterUsage"}, `principal: account "1" has no user or role`},
		{adminapi.Question{AccountID: user.account, Principal: "role/" + user.name, Action: "MeterUsage"}, "has no user or role"},
		{adminapi.Question{AccountID: user.account, Principal: "group/" + user.name, Action: "MeterUsage"}, "principal: must be a name, user/NAME or role/NAME"},
		{adminapi.Question{AccountID: user.account, Principal: user.name, Action: "Meter*"}, `action: "Meter*" is none of the actions aws-marketplace:BatchMeterUsage, `},
		{adminapi.Question{AccountID: user.account, Principal: user.name, Action: "MeterUsage", Session: "ab"}, "session: only roles have sessions"},
		{adminapi.Question{AccountID: role.account, Principal: role.name, Action: "MeterUsage", Session: "a"}, "session: session name"},
		{adminapi.Question{AccountID: role.account, Principal: role.name, Action: "MeterUsage", SourceIP: "localhost"}, "source_ip: must be an address"},
	} {
		if v, err := ledger.Find(t.Context(), e.ledger, e.ledger.Local(), market.Can(c.question)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %+v, %v, want %s", c.question, v, err, c.want)
		}
	}
	if _, err := ledger.Act(t.Context(), e.ledger, e.ledger.Local(), market.CreatePrincipal(iam.Role, adminapi.Principal{AccountID: user.account, Name: user.name})); err != nil {
		t.Fatal(err)
	}
	both := adminapi.Question{AccountID: user.account, Principal: user.name, Action: "MeterUsage"}
	if _, err := ledger.Find(t.Context(), e.ledger, e.ledger.Local(), market.Can(both)); err == nil || !strings.Contains(err.Error(), "has a user and a role "+user.name+": write user/") {
		t.Error(err)
	}
	both.Principal = "role/" + user.name
	if v, err := ledger.Find(t.Context(), e.ledger, e.ledger.Local(), market.Can(both)); err != nil || v.Principal != "arn:aws:iam::"+user.account+":role/"+user.name || v.Allowed {
		t.Errorf("%+v, %v", v, err)
	}
}

// TestPolicyIsRefused: a document that cannot be read is refused with its place, and nothing is stored.
func TestPolicyIsRefused(t *testing.T) {
	e := openEndpoint(t)
	user, _ := e.holders()
	before, err := ledger.Find(t.Context(), e.ledger, e.ledger.Local(), market.Principal(user.kind, adminapi.PrincipalPath{AccountID: user.account, Name: user.name}))
	if err != nil {
		t.Fatal(err)
	}
	bad := `{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": {"StringLike": {"aws:SourceIp": 5}}}]}`
	const want = "policy: Statement[0].Condition.StringLike.aws:SourceIp: must be a string, not 5"
	if _, err := ledger.Act(t.Context(), e.ledger, e.ledger.Local(), market.PutPermissions(user.kind, adminapi.Permissions{AccountID: user.account, Name: user.name, Policy: bad})); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%v, want %s", err, want)
	}
	if _, err := ledger.Act(t.Context(), e.ledger, e.ledger.Local(), market.CreatePrincipal(iam.Role, adminapi.Principal{AccountID: user.account, Name: "new", Policy: bad})); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%v, want %s", err, want)
	}
	after, err := ledger.Find(t.Context(), e.ledger, e.ledger.Local(), market.Principal(user.kind, adminapi.PrincipalPath{AccountID: user.account, Name: user.name}))
	if err != nil || after.Policy != before.Policy || len(after.Allow) != len(before.Allow) {
		t.Errorf("%+v, %v, was %+v", after, err, before)
	}
}
