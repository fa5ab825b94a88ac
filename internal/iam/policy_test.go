package iam_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/meterd/meterd/internal/iam"
)

// document returns a policy of one statement, with what elements says of it.
func document(elements string) string {
	return `{"Version": "2012-10-17", "Statement": [{` + elements + `}]}`
}

const allowAll = `"Effect": "Allow", "Action": "*", "Resource": "*"`

// refusedDocuments are documents that are refused, with a part of the error.
var refusedDocuments = map[string]string{
	``:                               "the document is not JSON, line 1: unexpected end",
	"{\n\"Version\": 1,,\n}":         "the document is not JSON, line 2: invalid character ','",
	`{"Version": "2012-10-17"} {}`:   "the document is not JSON, line 1",
	"{\"Id\": \"\xff\"}":             "is not UTF-8",
	`[]`:                             "document: must be an object, not a list",
	`{}`:                             "document: is empty",
	`{"Version": "2012-10-17"}`:      `document: has no Statement: write {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "aws-marketplace:BatchMeterUsage"`,
	`{"Statement": []}`:              "Statement: is an empty list",
	`{"Statement": "x"}`:             `Statement: must be an object, not "x"`,
	`{"Statement": [{}]}`:            "Statement[0]: is empty",
	`{"statement": [], "Id": ""}`:    "statement: is no element, for their names have their case: write Statement",
	`{"Statements": []}`:             "Statements: is no element that this service knows here; it knows Version, Id, Statement",
	`{"Id": 5, "Statement": []}`:     "Id: must be a string, not 5",
	`{"Version": "2012-10-18"}`:      `Version: must be "2012-10-17" or "2008-10-17", not "2012-10-18"`,
	`{"Version": 20121017}`:          `Version: must be "2012-10-17" or "2008-10-17", not 20121017`,
	`{"Version": "x", "Version": 1}`: "Version: is there twice: keep one of them",
	`{"Statement": [{"Effect": "Allow", "Effect": "Deny"}]}`:                                                "Statement[0].Effect: is there twice",
	`{"Statement": [{` + allowAll + `, "Sid": "a"}, {` + allowAll + `, "Sid": "a"}]}`:                       `Statement[1].Sid: another statement has the Sid "a"`,
	document(allowAll + `, "Sid": "a b"`):                                                                   "Statement[0].Sid: must be a string of letters and digits",
	document(allowAll + `, "Principal": "*"`):                                                               "Statement[0].Principal: belongs into the trust document of a role",
	document(allowAll + `, "NotPrincipal": {"AWS": "111122223333"}`):                                        "Statement[0].NotPrincipal: belongs into no policy of a user or role",
	document(`"Effect": "Allow", "Action": "*", "NotResource": "*"`):                                        `Statement[0].NotResource: is not supported: write "Resource": "*"`,
	document(allowAll + `, "Conditions": {}`):                                                               "Statement[0].Conditions: is no element that this service knows here; it knows Sid, Effect, ",
	document(`"Action": "*", "Resource": "*"`):                                                              `Statement[0]: has no Effect: write "Effect": "Allow"`,
	document(`"Effect": "allow", "Action": "*", "Resource": "*"`):                                           `Statement[0].Effect: must be "Allow" or "Deny", not "allow"`,
	document(`"Effect": ["Allow"], "Action": "*", "Resource": "*"`):                                         `Statement[0].Effect: must be "Allow" or "Deny", not a list`,
	document(`"Effect": "Allow", "Resource": "*"`):                                                          "Statement[0]: must have either Action or NotAction",
	document(allowAll + `, "NotAction": "*"`):                                                               "Statement[0]: must have either Action or NotAction",
	document(`"Effect": "Allow", "Action": [], "Resource": "*"`):                                            "Statement[0].Action: is an empty list",
	document(`"Effect": "Allow", "Action": [["*"]], "Resource": "*"`):                                       "Statement[0].Action[0]: must be a string, not a list",
	document(`"Effect": "Allow", "Action": ["*", null], "Resource": "*"`):                                   "Statement[0].Action[1]: must be a string, not null",
	document(`"Effect": "Allow", "Action": "MeterUsage", "Resource": "*"`):                                  `Statement[0].Action: "MeterUsage" is no action: write a service's prefix, a colon and a name`,
	document(`"Effect": "Allow", "Action": "*:*", "Resource": "*"`):                                         `Statement[0].Action: "*:*" is no action`,
	document(`"Effect": "Allow", "Action": "` + strings.Repeat("a", 127) + `:b", "Resource": "*"`):          "is no action",
	document(`"Effect": "Deny", "Action": ["*", "aws-marketplace:MeterUsages"], "Resource": "*"`):           `Statement[0].Action[1]: "aws-marketplace:MeterUsages" matches no action here, so that it would not take one away`,
	document(`"Effect": "Deny", "Action": "meteringmarketplace:*", "Resource": "*"`):                        "matches no action here",
	document(`"Effect": "Allow", "NotAction": "aws-marketplace:RegisterUsag", "Resource": "*"`):             `Statement[0].NotAction: "aws-marketplace:RegisterUsag" matches no action here`,
	document(`"Effect": "Allow", "Action": "*"`):                                                            `Statement[0]: has no Resource: write "Resource": "*"`,
	document(`"Effect": "Allow", "Action": "*", "Resource": "arn:aws:s3:::bucket"`):                         `Statement[0].Resource: must be "*", or the ARN of a role for the action sts:AssumeRole, not "arn:aws:s3:::bucket"`,
	document(`"Effect": "Allow", "Action": ["sts:*", "*"], "Resource": "arn:aws:iam::111122223333:role/a"`): `Statement[0].Resource: must be "*", for only actions of sts have resources`,
	document(`"Effect": "Allow", "NotAction": "sts:*", "Resource": ["*", "arn:aws:iam::1:role/a"]`):         `Statement[0].Resource[1]: must be "*", for only actions of sts`,
	document(`"Effect": "Allow", "Action": "sts:*", "Resource": "arn:aws:iam::1"`):                          `Statement[0].Resource: "arn:aws:iam::1" is no ARN`,
	document(`"Effect": "Allow", "Action": "sts:*", "Resource": "arn:aws:iam::${aws:userid}:role/a"`):       `Statement[0].Resource: has a variable that this service does not know, "${aws:userid}": only ${aws:PrincipalAccount} and ${aws:username} are supported`,
	document(allowAll + `, "Condition": {}`):                                                                "Statement[0].Condition: is empty",
	document(allowAll + `, "Condition": []`):                                                                "Statement[0].Condition: must be an object, not a list",
	document(allowAll + `, "Condition": {"StringLike": {}}`):                                                "Statement[0].Condition.StringLike: is empty",
	document(allowAll + `, "Condition": {"StringLike": "x"}`):                                               `Statement[0].Condition.StringLike: must be an object, not "x"`,
	document(allowAll + `, "Condition": {"StringLike": {"aws:userid": []}}`):                                "Statement[0].Condition.StringLike.aws:userid: is an empty list",
	document(allowAll + `, "Condition": {"StringLike": {"aws:userid": ["a", 5]}}`):                          "Statement[0].Condition.StringLike.aws:userid[1]: must be a string, not 5",
	document(allowAll + `, "Condition": {"StringLike": {"aws:userid": {"a": "b"}}}`):                        "Statement[0].Condition.StringLike.aws:userid: must be a string, not an object",
	document(allowAll + `, "Condition": {"Whatever": {"aws:userid": null}}`):                                "Statement[0].Condition.Whatever.aws:userid: must be a string, not null",
	document(allowAll + `, "Condition": {"StringLike": {"aws:userid": "a", "AWS:userId": "b"}}`):            "Statement[0].Condition.StringLike.AWS:userId: is there twice, for the names of condition keys have no case",
	document(allowAll + `, "Condition": {"StringLike": {"aws:userid": "a"}, "StringLike": {}}`):             "Statement[0].Condition.StringLike: is there twice",
	document(allowAll + `, "Condition": {"StringLike": {"aws:userid": "${aws:userid}"}}`):                   `Statement[0].Condition.StringLike.aws:userid: has a variable that this service does not know, "${aws:userid}"`,
	document(allowAll + `, "Condition": {"StringLike": {"aws:userid": "${*}"}}`):                            `does not know, "${*}"`,
	document(allowAll + `, "Condition": {"StringLike": {"aws:userid": "a${"}}`):                             `does not know, "${"`,
	document(allowAll + `, "Condition": {"Whatever": {"aws:userid": "${aws:x}"}}`):                          `does not know, "${aws:x}"`,
	`{"Statement": {` + allowAll + `, "Condition": {"StringLike": {"aws:userid": "${aws:username}"}}}}`:     `Statement.Condition.StringLike.aws:userid: has a variable, for which the document needs "Version": "2012-10-17"`,
	document(allowAll + `, "Condition": {"IpAddress": {"aws:SourceIp": "203.0.113.0/33"}}`):                 `Statement[0].Condition.IpAddress.aws:SourceIp: "203.0.113.0/33" is neither an IP address nor a range of them: write one like 203.0.113.0/24`,
	document(allowAll + `, "Condition": {"IpAddress": {"aws:SourceIp": "fe80::1%eth0"}}`):                   "is neither an IP address",
	document(allowAll + `, "Condition": {"IpAddress": {"aws:SourceIp": "::ffff:10.0.0.1"}}`):                "is an IPv4 address in the form of IPv6: write it as IPv4",
	document(allowAll + `, "Condition": {"DateLessThan": {"aws:CurrentTime": "27.11.2026"}}`):               `Statement[0].Condition.DateLessThan.aws:CurrentTime: "27.11.2026" is no time: write one like 2026-11-27T09:30:00Z`,
	document(allowAll + `, "Condition": {"DateLessThan": {"aws:CurrentTime": true}}`):                       "must be a string, not true",
	document(allowAll + `, "Condition": {"NumericEquals": {"aws:EpochTime": "1e5"}}`):                       `"1e5" is no number: write digits, 15 at most`,
	document(allowAll + `, "Condition": {"NumericEquals": {"aws:EpochTime": 1234567890123456}}`):            `"1234567890123456" is no number`,
	document(allowAll + `, "Condition": {"Bool": {"aws:SecureTransport": "yes"}}`):                          `Statement[0].Condition.Bool.aws:SecureTransport: must be true or false, not "yes"`,
	document(allowAll + `, "Condition": {"Bool": {"aws:SecureTransport": 1}}`):                              "must be a string, not 1",
	document(allowAll + `, "Condition": {"ArnLike": {"aws:PrincipalArn": "*"}}`):                            `Statement[0].Condition.ArnLike.aws:PrincipalArn: "*" is no ARN: write one like arn:aws:iam::111122223333:role/app`,
	`{"Id": "` + strings.Repeat("x", 10_240) + `"}`:                                                         "has 10249 characters, white space not counted, but at most 10240 are allowed: shorten it",
	`{"Id": "x"` + strings.Repeat(" ", 65_536) + `}`:                                                        "has 65547 bytes, but at most 65536 are read",
	strings.Repeat(`{"a":`, 1000) + "1" + strings.Repeat("}", 1000):                                         "a.a.a.a.a.a.a.a: is nested too deeply",
	strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000):                                               "the document is not JSON",
}

func TestParsePolicyRefuses(t *testing.T) {
	for document, want := range refusedDocuments {
		p, err := known.ParsePolicy(document)
		if err == nil || p != nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.200s\n%v, want %s", document, err, want)
		}
		if err != nil && len(err.Error()) > 700 {
			t.Errorf("%.200s: the error has %d characters", document, len(err.Error()))
		}
		if document == "" {
			continue
		}
		p = known.Policy(&iam.Permissions{Allow: []string{"*"}, Policy: document})
		if d, settled := p.Settled(meterUsage); d != iam.ExplicitDeny || !settled {
			t.Errorf("%.200s cannot be read, and decides %v", document, d)
		}
	}
}

func TestParsePolicyTakes(t *testing.T) {
	for _, document := range []string{
		`{"Statement": {` + allowAll + `}}`,
		`{"Version": "2008-10-17", "Id": "x", "Statement": [{"Sid": "", ` + allowAll + `}, {"Sid": "", ` + allowAll + `}]}`,
		document(`"Effect": "Allow", "Action": ["s3:GetObject", "aws-marketplace:Subscribe", "license-manager:*"], "Resource": "*"`),
		document(`"Effect": "Deny", "NotAction": ["s3:GetObject"], "Resource": ["*"]`),
		document(`"Effect": "Allow", "Action": "STS:AssumeRole", "Resource": ["arn:aws:iam::111122223333:role/a", "arn:aws:iam::*:role/*"]`),
		document(allowAll + `, "Condition": {"Bool": {"aws:SecureTransport": [true, "false"]}, "NumericEquals": {"aws:EpochTime": [1, "2"]}, "Null": {"aws:userid": false}}`),
		document(allowAll + `, "Condition": {"DateEquals": {"aws:CurrentTime": ["2026-11-27", "2026-11-27T09:30Z", "2026-11-27T09:30:00.5+02:00", 1795771800]}}`),
		`{"Id": "` + strings.Repeat(" é", 1000) + `",` + strings.Repeat("\n ", 20_000) + `"Statement": {` + allowAll + `}}`,
	} {
		if _, err := known.ParsePolicy(document); err != nil {
			t.Errorf("%.300s: %v", document, err)
		}
	}
}

func TestCompactDocument(t *testing.T) {
	for document, want := range map[string]string{
		"{ \"Id\" :\n\t\"a  b\" }": `{"Id":"a  b"}`,
		"{ not JSON":               "{ not JSON",
	} {
		if got := iam.CompactDocument(document); got != want {
			t.Errorf("%q became %q", document, got)
		}
	}
}

// N75: a denial by an unknown key denies; NotAction is taken literally; a permission
// with a misspelt operator allows nothing.
func TestN75(t *testing.T) {
	for _, test := range []struct {
		name, statement string
		want            map[string]iam.Decision // by action; NotAllowed for others
	}{
		{"unknown key in Deny", `"Effect": "Deny", "Action": "aws-marketplace:MeterUsage", "Resource": "*", "Condition": {"StringEquals": {"aws:Nonsense": "x"}}`,
			map[string]iam.Decision{meterUsage: iam.ExplicitDeny}},
		{"unknown operator in Deny", `"Effect": "Deny", "Action": "aws-marketplace:MeterUsage", "Resource": "*", "Condition": {"StringIs": {"aws:username": "x"}}`,
			map[string]iam.Decision{meterUsage: iam.ExplicitDeny}},
		{"unknown key in Deny, with one that does not hold", `"Effect": "Deny", "Action": "*", "Resource": "*", "Condition": {"StringEquals": {"aws:Nonsense": "x", "aws:username": "bob"}}`, nil},
		{"NotAction in Allow", `"Effect": "Allow", "NotAction": ["aws-marketplace:*Usage", "sts:*"], "Resource": "*"`,
			map[string]iam.Decision{resolveCustomer: iam.Allowed, getEntitlements: iam.Allowed}},
		{"NotAction in Deny", `"Effect": "Deny", "NotAction": ["aws-marketplace:*", "sts:T*"], "Resource": "*"`,
			map[string]iam.Decision{assumeRole: iam.ExplicitDeny}},
		{"misspelt operator in Allow", `"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": {"StringEqual": {"aws:username": "alice"}}`, nil},
		{"misspelt key in Allow", `"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": {"StringEquals": {"aws:usernam": "alice"}}`, nil},
		{"misspelt key, though IfExists", `"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": {"StringNotEqualsIfExists": {"aws:usernam": "bob"}}`, nil},
		{"a name without a tag", `"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": {"StringNotEquals": {"aws:PrincipalTag/": "bob"}}`, nil},
	} {
		p := parse(t, document(test.statement))
		for _, action := range append([]string{assumeRole}, all...) {
			r := &iam.Request{Action: action, Context: iam.Context{Principal: iam.Principal{Kind: iam.User, AccountID: "111122223333", Name: "alice"}}}
			if got := iam.Decide(p, nil, r); got != test.want[action] {
				t.Errorf("%s: %s is decided as %d, want %d", test.name, action, got, test.want[action])
			}
		}
	}
}

func TestUnknown(t *testing.T) {
	p := parse(t, document(allowAll+`, "Condition": {"StringEqual": {"aws:username": "a"}}`))
	if got := p.Unknown(); len(got) != 1 || got[0] != "Statement[0].Condition.StringEqual.aws:username: this service does not know the operator StringEqual: in Allow the condition does not hold, in Deny it does" {
		t.Errorf("%q", got)
	}
	p = parse(t, document(allowAll+`, "Condition": {"Bool": {"aws:MultiFactorAuthPresent": "true"}, "StringLike": {"aws:username": "a"}}`))
	if got := p.Unknown(); len(got) != 1 || !strings.HasPrefix(got[0], "Statement[0].Condition.Bool.aws:MultiFactorAuthPresent: this service does not know the key aws:MultiFactorAuthPresent") {
		t.Errorf("%q", got)
	}
}

// I62: conditions on the address, the region, the time, the session's age and tags;
// and every operator, and what cannot be judged.
func TestConditions(t *testing.T) {
	at := func(text string) time.Time { v, _ := time.Parse(time.RFC3339, text); return v }
	alice := iam.Principal{Kind: iam.User, AccountID: "111122223333", Name: "alice"}
	session := iam.Principal{Kind: iam.Role, AccountID: "111122223333", Name: "app", SessionName: "i-0123"}
	usual := iam.Context{
		Principal: session, UserID: "AROAEXAMPLE:i-0123", SourceIP: netip.MustParseAddr("203.0.113.7"), CurrentTime: at("2026-11-27T09:30:00Z"), RequestedRegion: "eu-central-1",
		TokenIssueTime: at("2026-11-27T09:00:00Z"), PrincipalTags: map[string]string{"Team": "metering", "Level": "5", "Empty": ""},
		RequestTags: map[string]string{"Team": "x", "Cost": "y"},
	}
	with := func(edit func(*iam.Context)) iam.Context { c := usual; edit(&c); return c }
	byAlice := with(func(c *iam.Context) { c.Principal, c.TokenIssueTime = alice, time.Time{} })
	bare := iam.Context{}
	const no, unsure, yes = "no", "unsure", "yes"
	for _, test := range []struct {
		condition string
		context   iam.Context
		want      string
	}{
		{`"IpAddress": {"aws:SourceIp": "203.0.113.0/24"}`, usual, yes},
		{`"IpAddress": {"AWS:SOURCEIP": ["198.51.100.0/24", "203.0.113.7"]}`, usual, yes},
		{`"IpAddress": {"aws:SourceIp": "203.0.113.8"}`, usual, no},
		{`"IpAddress": {"aws:SourceIp": "203.0.113.8/30"}`, usual, no},
		{`"IpAddress": {"aws:SourceIp": "203.0.113.6/30"}`, usual, yes},
		{`"NotIpAddress": {"aws:SourceIp": "203.0.113.0/24"}`, usual, no},
		{`"NotIpAddress": {"aws:SourceIp": ["198.51.100.0/24", "10.0.0.0/8"]}`, usual, yes},
		{`"NotIpAddress": {"aws:SourceIp": ["198.51.100.0/24", "203.0.0.0/8"]}`, usual, no},
		{`"IpAddress": {"aws:SourceIp": "203.0.113.0/24"}`, with(func(c *iam.Context) { c.SourceIP = netip.MustParseAddr("::ffff:203.0.113.7") }), yes},
		{`"StringEquals": {"aws:SourceIp": "203.0.113.7"}`, with(func(c *iam.Context) { c.SourceIP = netip.MustParseAddr("::ffff:203.0.113.7") }), yes},
		{`"IpAddress": {"aws:UserAgent": "203.0.113.0/24"}`, with(func(c *iam.Context) { c.UserAgent = "::ffff:203.0.113.7" }), yes},
		{`"IpAddress": {"aws:SourceIp": "::/0"}`, usual, no},
		{`"IpAddress": {"aws:SourceIp": "2001:db8::/32"}`, with(func(c *iam.Context) { c.SourceIP = netip.MustParseAddr("2001:db8:1::2") }), yes},
		{`"NotIpAddress": {"aws:SourceIp": "203.0.113.0/24"}`, bare, unsure},
		{`"IpAddress": {"aws:PrincipalTag/Team": "203.0.113.0/24"}`, usual, unsure},

		{`"StringEquals": {"aws:RequestedRegion": "eu-central-1"}`, usual, yes},
		{`"StringEquals": {"aws:RequestedRegion": "EU-central-1"}`, usual, no},
		{`"StringEqualsIgnoreCase": {"aws:RequestedRegion": "EU-central-1"}`, usual, yes},
		{`"StringNotEqualsIgnoreCase": {"aws:RequestedRegion": "EU-central-1"}`, usual, no},
		{`"StringNotEquals": {"aws:RequestedRegion": ["us-east-1", "eu-central-1"]}`, usual, no},
		{`"StringNotEquals": {"aws:RequestedRegion": ["us-east-1", "us-west-2"]}`, usual, yes},
		{`"StringLike": {"aws:RequestedRegion": ["us-*", "eu-*-?"]}`, usual, yes},
		{`"StringNotLike": {"aws:RequestedRegion": "eu-*"}`, usual, no},
		{`"StringEquals": {"aws:RequestedRegion": "eu-*"}`, usual, no},
		{`"StringNotEquals": {"aws:RequestedRegion": "us-east-1"}`, bare, unsure},

		{`"DateLessThan": {"aws:CurrentTime": "2026-12-01"}`, usual, yes},
		{`"DateGreaterThan": {"aws:CurrentTime": "2026-12-01T00:00:00Z"}`, usual, no},
		{`"DateEquals": {"aws:CurrentTime": "2026-11-27T10:30:00+01:00"}`, usual, yes},
		{`"DateEquals": {"aws:CurrentTime": "2026-11-27T09:30Z"}`, with(func(c *iam.Context) { c.CurrentTime = c.CurrentTime.Add(999 * time.Millisecond) }), yes},
		{`"DateNotEquals": {"aws:CurrentTime": "2026-11-27T09:30:00Z"}`, usual, no},
		{`"DateLessThanEquals": {"aws:CurrentTime": 1795771800}`, usual, yes},
		{`"DateLessThanEquals": {"aws:CurrentTime": "1795771799"}`, usual, no},
		{`"DateGreaterThanEquals": {"aws:EpochTime": "2026-11-27T09:30:00Z"}`, usual, yes},
		{`"NumericEquals": {"aws:EpochTime": 1795771800}`, usual, yes},
		{`"DateLessThan": {"aws:CurrentTime": "2026-12-01"}`, bare, unsure},
		{`"DateLessThan": {"aws:PrincipalTag/Team": "2026-12-01"}`, usual, unsure},

		{`"DateLessThan": {"aws:TokenIssueTime": "2026-11-27T09:00:01Z"}`, usual, yes},
		{`"DateLessThan": {"aws:TokenIssueTime": "2026-11-27T09:00:00Z"}`, usual, no},
		{`"DateLessThan": {"aws:TokenIssueTime": "2026-11-27T09:00:01Z"}`, byAlice, no},
		{`"DateLessThan": {"aws:TokenIssueTime": "2026-11-27T09:00:01Z"}`, with(func(c *iam.Context) { c.TokenIssueTime = time.Time{} }), unsure},
		{`"Null": {"aws:TokenIssueTime": "true"}`, byAlice, yes},
		{`"Null": {"aws:TokenIssueTime": true}`, usual, no},
		{`"Null": {"aws:TokenIssueTime": false}`, with(func(c *iam.Context) { c.TokenIssueTime = time.Time{} }), yes},

		{`"StringEquals": {"aws:PrincipalTag/Team": "metering"}`, usual, yes},
		{`"StringEquals": {"aws:principaltag/tEAM": "metering"}`, usual, yes},
		{`"StringEquals": {"aws:PrincipalTag/Team": "Metering"}`, usual, no},
		{`"StringEquals": {"aws:PrincipalTag/Other": "metering"}`, usual, no},
		{`"StringNotEquals": {"aws:PrincipalTag/Other": "metering"}`, usual, yes},
		{`"StringEqualsIfExists": {"aws:PrincipalTag/Other": "metering"}`, usual, yes},
		{`"StringEqualsIfExists": {"aws:PrincipalTag/Team": "other"}`, usual, no},
		{`"StringEquals": {"aws:PrincipalTag/Empty": ""}`, usual, yes},
		{`"Null": {"aws:PrincipalTag/Empty": "false"}`, usual, yes},
		{`"NumericGreaterThan": {"aws:PrincipalTag/Level": "4.5"}`, usual, yes},
		{`"NumericLessThan": {"aws:PrincipalTag/Level": 5}`, usual, no},
		{`"NumericNotEquals": {"aws:PrincipalTag/Level": "5.0"}`, usual, no},
		{`"NumericGreaterThanEquals": {"aws:PrincipalTag/Level": 5}`, usual, yes},
		{`"NumericLessThanEquals": {"aws:PrincipalTag/Level": -5}`, usual, no},
		{`"NumericNotEquals": {"aws:PrincipalTag/Team": "5"}`, usual, unsure},

		{`"Bool": {"aws:SecureTransport": "false"}`, usual, yes},
		{`"Bool": {"aws:SecureTransport": true}`, with(func(c *iam.Context) { c.SecureTransport = true }), yes},
		{`"Bool": {"aws:PrincipalTag/Team": true}`, usual, unsure},
		{`"Null": {"aws:SecureTransport": "true"}`, bare, no},

		{`"ArnEquals": {"aws:PrincipalArn": "arn:aws:iam::111122223333:role/app"}`, usual, yes},
		{`"ArnLike": {"aws:PrincipalArn": "arn:aws:iam::*:role/*"}`, usual, yes},
		{`"ArnLike": {"aws:PrincipalArn": "arn:*:role/app::::"}`, usual, no},
		{`"ArnNotLike": {"aws:PrincipalArn": "arn:aws:iam::1111*:role/a?p"}`, usual, no},
		{`"ArnLike": {"aws:PrincipalArn": "arn:aws:sts::111122223333:assumed-role/app/i-0123"}`, usual, no},
		{`"ArnNotEquals": {"aws:PrincipalTag/Team": "arn:aws:iam::111122223333:role/app"}`, usual, unsure},
		{`"StringLike": {"aws:PrincipalArn": "arn:*:role/app"}`, usual, yes},
		{`"StringEquals": {"aws:PrincipalArn": "arn:aws:iam::${aws:PrincipalAccount}:user/${AWS:UserName}"}`, byAlice, yes},
		{`"ArnEquals": {"aws:PrincipalArn": "arn:aws:iam::${aws:PrincipalAccount}:user/${aws:username}"}`, byAlice, yes},
		{`"StringNotEquals": {"aws:PrincipalTag/Team": "${aws:username}"}`, usual, unsure},
		{`"StringEqualsIgnoreCase": {"aws:username": "${aws:username}"}`, byAlice, yes},
		{`"StringLike": {"aws:PrincipalTag/Team": "${aws:username}*"}`, with(func(c *iam.Context) { c.Principal = iam.Principal{Kind: iam.User, AccountID: "1", Name: "*"} }), no},
		{`"StringEquals": {"aws:username": "alice", "aws:PrincipalAccount": "111122223333"}, "StringLike": {"aws:userid": "AROA*:i-*"}`, byAlice, yes},
		{`"StringEquals": {"aws:username": "alice"}`, usual, no},
		{`"StringLike": {"aws:userid": "*"}`, bare, unsure},
		{`"StringLike": {"aws:SourceIdentity": "*"}`, usual, no},

		{`"ForAnyValue:StringEquals": {"aws:TagKeys": ["Team", "Other"]}`, usual, yes},
		{`"ForAllValues:StringEquals": {"aws:TagKeys": ["Team", "Other"]}`, usual, no},
		{`"ForAllValues:StringLike": {"aws:TagKeys": ["T*", "C*"]}`, usual, yes},
		{`"ForAnyValue:StringNotEquals": {"aws:TagKeys": ["Team"]}`, usual, yes},
		{`"ForAllValues:StringNotEquals": {"aws:TagKeys": ["Team"]}`, usual, no},
		{`"ForAnyValue:StringNotEquals": {"aws:TagKeys": ["Team"]}`, bare, no},
		{`"ForAllValues:StringEquals": {"aws:TagKeys": ["Team"]}`, bare, yes},
		{`"ForAnyValue:StringEqualsIfExists": {"aws:TagKeys": ["Team"]}`, bare, yes},
		{`"StringEquals": {"aws:TagKeys": ["Team", "Cost"]}`, usual, unsure},
		{`"StringEquals": {"aws:RequestTag/cost": "y"}`, usual, yes},
		{`"ForAnyValue:Null": {"aws:TagKeys": "true"}`, usual, unsure},
		{`"NullIfExists": {"aws:TagKeys": "true"}`, usual, unsure},
		{`"StringEquals": {"issuer.example:sub": "x"}`, usual, unsure},
	} {
		got := map[[2]iam.Decision]string{{iam.NotAllowed, iam.NotAllowed}: no, {iam.NotAllowed, iam.ExplicitDeny}: unsure, {iam.Allowed, iam.ExplicitDeny}: yes}
		r := &iam.Request{Action: meterUsage, Context: test.context}
		decide := func(effect string) iam.Decision {
			return iam.Decide(parse(t, document(fmt.Sprintf(`"Effect": %q, "Action": "*", "Resource": "*", "Condition": {%s}`, effect, test.condition))), nil, r)
		}
		if got := got[[2]iam.Decision{decide("Allow"), decide("Deny")}]; got != test.want {
			t.Errorf("%s: %q, want %s", test.condition, got, test.want)
		}
	}
}

// TestText has the texts of I55 and of identity 6.4.
func TestText(t *testing.T) {
	p := iam.Principal{Kind: iam.Role, AccountID: "111122223333", Name: "app", SessionName: "i-0123"}
	const who = "User: arn:aws:sts::111122223333:assumed-role/app/i-0123 is not authorized to perform: "
	for _, test := range []struct {
		identity, session, action, resource string
		want                                string
	}{
		{allowAll, "", meterUsage, "", ""},
		{allowAll, allowAll, meterUsage, "", ""},
		{`"Effect": "Allow", "Action": "aws-marketplace:RegisterUsage", "Resource": "*"`, "", meterUsage, "", "aws-marketplace:MeterUsage because no identity-based policy allows the aws-marketplace:MeterUsage action"},
		{`"Effect": "Deny", "Action": "aws-marketplace:MeterUsage", "Resource": "*"`, "", meterUsage, "", "aws-marketplace:MeterUsage with an explicit deny in an identity-based policy"},
		{`"Effect": "Deny", "Action": "*", "Resource": "*"`, `"Effect": "Deny", "Action": "*", "Resource": "*"`, meterUsage, "", "aws-marketplace:MeterUsage with an explicit deny in an identity-based policy"},
		{allowAll, `"Effect": "Allow", "Action": "aws-marketplace:RegisterUsage", "Resource": "*"`, meterUsage, "", "aws-marketplace:MeterUsage because no session policy allows the aws-marketplace:MeterUsage action"},
		{`"Effect": "Allow", "Action": "s3:*", "Resource": "*"`, `"Effect": "Allow", "Action": "s3:*", "Resource": "*"`, meterUsage, "", "aws-marketplace:MeterUsage because no session policy allows the aws-marketplace:MeterUsage action"},
		{`"Effect": "Allow", "Action": "s3:*", "Resource": "*"`, allowAll, meterUsage, "", "aws-marketplace:MeterUsage because no identity-based policy allows the aws-marketplace:MeterUsage action"},
		{allowAll, `"Effect": "Deny", "Action": "*", "Resource": "*"`, meterUsage, "", "aws-marketplace:MeterUsage with an explicit deny in a session policy"},
		{`"Effect": "Allow", "Action": "s3:*", "Resource": "*"`, `"Effect": "Deny", "Action": "*", "Resource": "*"`, meterUsage, "", "aws-marketplace:MeterUsage with an explicit deny in a session policy"},
		{`"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": "arn:aws:iam::444455556666:role/a"`, "", assumeRole, "arn:aws:iam::444455556666:role/b",
			"sts:AssumeRole on resource: arn:aws:iam::444455556666:role/b because no identity-based policy allows the sts:AssumeRole action"},
		{`"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": "arn:aws:iam::444455556666:role/?"`, "", assumeRole, "arn:aws:iam::444455556666:role/b", ""},
	} {
		var session *iam.Policy
		if test.session != "" {
			session = parse(t, document(test.session))
		}
		r := &iam.Request{Action: test.action, Resource: test.resource, Context: iam.Context{Principal: p}}
		d := iam.Decide(parse(t, document(test.identity)), session, r)
		want := test.want
		if want != "" {
			want = who + want
		}
		if got := d.Text(p, test.action, test.resource); got != want || (d == iam.Allowed) != (got == "") {
			t.Errorf("%s within %s: %q\nwant %q", test.identity, test.session, got, want)
		}
	}
}

func TestDecideUnknownAction(t *testing.T) {
	p := parse(t, document(allowAll))
	for _, action := range []string{"", "*", "aws-marketplace:*", "aws-marketplace:MeterUſage", "s3:GetObject"} {
		if d := iam.Decide(p, p, &iam.Request{Action: action}); d == iam.Allowed {
			t.Errorf("%q is allowed", action)
		}
	}
}

// matchesNaively matches by trying all that a * could take.
func matchesNaively(pattern, text []rune) bool {
	switch {
	case len(pattern) == 0:
		return len(text) == 0
	case pattern[0] == '*':
		return matchesNaively(pattern[1:], text) || len(text) > 0 && matchesNaively(pattern, text[1:])
	}
	return len(text) > 0 && (pattern[0] == '?' || pattern[0] == text[0]) && matchesNaively(pattern[1:], text[1:])
}

func TestPattern(t *testing.T) {
	for _, test := range []struct {
		pattern, text string
		want          bool
	}{
		{"", "", true}, {"", "a", false}, {"*", "", true}, {"?", "", false}, {"?", "é", true}, {"??", "é", false}, {"*??", "é", false}, {"*?é", "aéé", true},
		{"a*b*c", "a-b-c-b-c", true}, {"a*b*c", "a-b-c-b", false}, {"**a**", "a", true}, {"*a?c", "abcabc", true},
	} {
		if got := iam.MatchPattern(test.pattern, test.text); got != test.want {
			t.Errorf("%q matches %q: %t", test.pattern, test.text, got)
		}
	}
	// With a try for each way to share the text out among the stars, this would
	// take longer than there is time.
	if iam.MatchPattern(strings.Repeat("a*", 2000)+"b", strings.Repeat("a", 5000)) {
		t.Error("matches")
	}
	rapid.Check(t, func(t *rapid.T) {
		pattern := rapid.StringOfN(rapid.SampledFrom([]rune("abé*?*")), 0, 8, -1).Draw(t, "pattern")
		text := rapid.StringOfN(rapid.SampledFrom([]rune("abé")), 0, 10, -1).Draw(t, "text")
		if got, want := iam.MatchPattern(pattern, text), matchesNaively([]rune(pattern), []rune(text)); got != want {
			t.Fatalf("%q matches %q: %t, want %t", pattern, text, got, want)
		}
	})
}

func BenchmarkDecideWithCondition(b *testing.B) {
	p, err := actions.ParsePolicy(document(`"Effect": "Allow", "Action": "aws-marketplace:*", "Resource": "*",
		"Condition": {"IpAddress": {"aws:SourceIp": ["10.0.0.0/8", "203.0.113.0/24"]}, "StringEquals": {"aws:RequestedRegion": "eu-central-1"}}`))
	if err != nil {
		b.Fatal(err)
	}
	r := &iam.Request{Action: meterUsage, Context: iam.Context{SourceIP: netip.MustParseAddr("203.0.113.7"), RequestedRegion: "eu-central-1"}}
	b.ReportAllocs()
	for b.Loop() {
		if iam.Decide(p, nil, r) != iam.Allowed {
			b.Fatal("denied")
		}
	}
}
