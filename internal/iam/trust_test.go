package iam_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/meterd/meterd/internal/iam"
)

const (
	withWebIdentity = "sts:AssumeRoleWithWebIdentity"
	issuer          = "arn:aws:iam::111122223333:oidc-provider/oidc.example/id/ABC"
	otherIssuer     = "arn:aws:iam::111122223333:oidc-provider/other.example:8443"
)

// trusting returns a trust document of one statement that allows.
func trusting(principal, action, condition string) string {
	if condition != "" {
		condition = `, "Condition": {` + condition + `}`
	}
	return document(fmt.Sprintf(`"Effect": "Allow", "Principal": %s, "Action": %q%s`, principal, action, condition))
}

func parseTrust(t *testing.T, document string) *iam.Trust {
	t.Helper()
	trust, err := iam.ParseTrust(document)
	if err != nil {
		t.Fatalf("%s: %v", document, err)
	}
	return trust
}

func TestTrusts(t *testing.T) {
	user := &iam.Assumer{Principal: &iam.Principal{Kind: iam.User, AccountID: "111122223333", Name: "alice"}}
	session := &iam.Assumer{Principal: &iam.Principal{Kind: iam.Role, AccountID: "444455556666", Name: "app", SessionName: "i-0123"}}
	service := &iam.Assumer{Service: "ecs-tasks.amazonaws.com"}
	pod := &iam.Assumer{Provider: issuer}
	claims := iam.Context{FederatedProvider: issuer, Claims: map[string][]string{
		"sub": {"system:serviceaccount:shop:metering"}, "aud": {"sts.amazonaws.com"}, "groups": {"a", "b"}}}
	federated := `{"Federated": "` + issuer + `"}`
	bound := `"StringLike": {"oidc.example/id/ABC:sub": "system:serviceaccount:shop:*"}, "StringEquals": {"oidc.example/id/ABC:aud": "sts.amazonaws.com"}`
	for _, test := range []struct {
		name     string
		document string
		who      *iam.Assumer
		action   string
		context  iam.Context
		want     iam.Trusted
	}{
		{"account", trusting(`{"AWS": "111122223333"}`, assumeRole, ""), user, assumeRole, iam.Context{}, iam.TrustedAccount},
		{"root of the account", trusting(`{"AWS": ["arn:aws:iam::444455556666:root"]}`, assumeRole, ""), session, assumeRole, iam.Context{}, iam.TrustedAccount},
		{"another account", trusting(`{"AWS": "444455556666"}`, assumeRole, ""), user, assumeRole, iam.Context{}, iam.NotTrusted},
		{"user", trusting(`{"AWS": "arn:aws:iam::111122223333:user/alice"}`, assumeRole, ""), user, assumeRole, iam.Context{}, iam.TrustedItself},
		{"another user", trusting(`{"AWS": "arn:aws:iam::111122223333:user/Alice"}`, assumeRole, ""), user, assumeRole, iam.Context{}, iam.NotTrusted},
		{"user and account", trusting(`{"AWS": ["arn:aws:iam::111122223333:user/alice", "111122223333"]}`, assumeRole, ""), user, assumeRole, iam.Context{}, iam.TrustedItself},
		{"role of a session", trusting(`{"AWS": "arn:aws:iam::444455556666:role/app"}`, assumeRole, ""), session, assumeRole, iam.Context{}, iam.TrustedItself},
		{"session", trusting(`{"AWS": "arn:aws:sts::444455556666:assumed-role/app/i-0123"}`, assumeRole, ""), session, assumeRole, iam.Context{}, iam.TrustedItself},
		{"another session", trusting(`{"AWS": "arn:aws:sts::444455556666:assumed-role/app/i-0124"}`, assumeRole, ""), session, assumeRole, iam.Context{}, iam.NotTrusted},
		{"another action", trusting(`{"AWS": "111122223333"}`, "sts:TagSession", ""), user, assumeRole, iam.Context{}, iam.NotTrusted},
		{"actions by wildcard", trusting(`{"AWS": "111122223333"}`, "STS:assumerole*", ""), user, assumeRole, iam.Context{}, iam.TrustedAccount},
		{"no action of sts", trusting(`{"AWS": "111122223333"}`, "*", ""), user, meterUsage, iam.Context{}, iam.NotTrusted},
		{"service", trusting(`{"Service": "ecs-tasks.amazonaws.com", "AWS": "111122223333"}`, assumeRole, ""), service, assumeRole, iam.Context{}, iam.TrustedItself},
		{"another service", trusting(`{"Service": "ec2.amazonaws.com"}`, assumeRole, ""), service, assumeRole, iam.Context{}, iam.NotTrusted},
		{"denied", `{"Version": "2012-10-17", "Statement": [
			{"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::111122223333:user/alice"}, "Action": "sts:AssumeRole"},
			{"Effect": "Deny", "Principal": {"AWS": "111122223333"}, "Action": "*"}]}`, user, assumeRole, iam.Context{}, iam.NotTrusted},
		{"external id", trusting(`{"AWS": "111122223333"}`, assumeRole, `"StringEquals": {"sts:ExternalId": "x-1"}`), user, assumeRole, iam.Context{ExternalID: "x-1"}, iam.TrustedAccount},
		{"no external id", trusting(`{"AWS": "111122223333"}`, assumeRole, `"StringEquals": {"sts:ExternalId": "x-1"}`), user, assumeRole, iam.Context{}, iam.NotTrusted},
		{"session name and source identity", trusting(`{"AWS": "111122223333"}`, assumeRole, `"StringLike": {"sts:RoleSessionName": "ci-*", "sts:SourceIdentity": "alice"}`), user, assumeRole,
			iam.Context{RoleSessionName: "ci-5", RequestedSourceIdentity: "alice"}, iam.TrustedAccount},

		{"web identity", trusting(federated, withWebIdentity, bound), pod, withWebIdentity, claims, iam.TrustedItself},
		{"other audience", trusting(federated, withWebIdentity, strings.Replace(bound, "sts.amazonaws.com", "sts", 1)), pod, withWebIdentity, claims, iam.NotTrusted},
		{"other namespace", trusting(federated, withWebIdentity, strings.Replace(bound, ":shop:", ":shop2:", 1)), pod, withWebIdentity, claims, iam.NotTrusted},
		{"other issuer", trusting(`{"Federated": "`+otherIssuer+`"}`, withWebIdentity, ""), pod, withWebIdentity, claims, iam.NotTrusted},
		{"same issuer of another account", trusting(strings.Replace(federated, "1111", "9999", 1), withWebIdentity, ""), pod, withWebIdentity, claims, iam.NotTrusted},
		{"host of no issuer in the statement", trusting(federated, withWebIdentity, `"StringNotEquals": {"oidc.example/id/ABD:sub": "x"}`), pod, withWebIdentity, claims, iam.NotTrusted},
		{"claim in other case", trusting(federated, withWebIdentity, `"StringLike": {"oidc.example/id/ABC:Sub": "*"}`), pod, withWebIdentity, claims, iam.NotTrusted},
		{"claims of the other of two issuers", trusting(`{"Federated": ["`+otherIssuer+`", "`+issuer+`"]}`, withWebIdentity, `"StringLike": {"other.example:8443:sub": "*"}`), pod, withWebIdentity, claims, iam.NotTrusted},
		{"two issuers", trusting(`{"Federated": ["`+otherIssuer+`", "`+issuer+`"]}`, withWebIdentity, `"StringLike": {"oidc.example/id/ABC:sub": "*"}`), pod, withWebIdentity, claims, iam.TrustedItself},
		{"claim with several values", trusting(federated, withWebIdentity, `"ForAnyValue:StringEquals": {"oidc.example/id/ABC:groups": "b"}`), pod, withWebIdentity, claims, iam.TrustedItself},
		{"claim with several values as one", trusting(federated, withWebIdentity, `"StringEquals": {"oidc.example/id/ABC:groups": ["a", "b"]}`), pod, withWebIdentity, claims, iam.NotTrusted},
	} {
		if got := parseTrust(t, test.document).Trusts(test.who, &iam.Request{Action: test.action, Context: test.context}); got != test.want {
			t.Errorf("%s: %d, want %d", test.name, got, test.want)
		}
	}
}

// TestTrustsForgets: the issuers of one statement are not known in the next.
func TestTrustsForgets(t *testing.T) {
	trust := parseTrust(t, `{"Version": "2012-10-17", "Statement": [
		{"Effect": "Deny", "Principal": {"Federated": "`+issuer+`"}, "Action": "*", "Condition": {"StringEquals": {"oidc.example/id/ABC:sub": "x"}}},
		{"Effect": "Allow", "Principal": {"AWS": "111122223333"}, "Action": "*", "Condition": {"StringNotEquals": {"oidc.example/id/ABC:sub": "x"}}}]}`)
	who := &iam.Assumer{Principal: &iam.Principal{Kind: iam.User, AccountID: "111122223333", Name: "alice"}}
	if got := trust.Trusts(who, &iam.Request{Action: assumeRole}); got != iam.NotTrusted {
		t.Errorf("trusted: %d", got)
	}
}

func TestParseTrustRefuses(t *testing.T) {
	aws := func(principal string) string {
		return trusting(fmt.Sprintf(`{"AWS": %q}`, principal), assumeRole, "")
	}
	for document, want := range map[string]string{
		document(`"Effect": "Allow", "Action": "sts:AssumeRole"`):             "Statement[0]: has no Principal",
		trusting(`"*"`, assumeRole, ""):                                       `Statement[0].Principal: must be an object such as {"AWS": "111122223333"}, not "*"`,
		trusting(`{}`, assumeRole, ""):                                        "Statement[0].Principal: is empty",
		trusting(`{"aws": "111122223333"}`, assumeRole, ""):                   "Statement[0].Principal.aws: is no element, for their names have their case: write AWS",
		trusting(`{"CanonicalUser": "x"}`, assumeRole, ""):                    "Statement[0].Principal.CanonicalUser: is no element that this service knows here; it knows AWS, Federated, Service",
		trusting(`{"AWS": ["111122223333", "*"]}`, assumeRole, ""):            `Statement[0].Principal.AWS[1]: must be an account of 12 digits, or the ARN of a user, a role or a role's session, not "*"`,
		aws("11112222333"):                                                    "must be an account",
		aws("arn:aws:iam::11112222333:root"):                                  "must be an account",
		aws("arn:aws-cn:iam::111122223333:root"):                              "must be an account",
		aws("arn:aws:iam:us-east-1:111122223333:root"):                        "must be an account",
		aws("arn:aws:iam::111122223333:role/*"):                               "not '*'",
		aws("arn:aws:iam::111122223333:role/"):                                "1 to 64 characters",
		aws("arn:aws:iam::111122223333:role/path/app"):                        "has a path, which users and roles do not have here: leave it out",
		aws("arn:aws:sts::111122223333:role/app"):                             "is not supported: name an account, a user, a role or a role's session",
		aws("arn:aws:sts::111122223333:assumed-role/app"):                     "session name",
		aws("arn:aws:sts::111122223333:assumed-role/app/*x"):                  "session name",
		aws("arn:aws:sts::111122223333:assumed-role/a/b1/c1"):                 "session name",
		aws("arn:aws:iam::111122223333:group/g"):                              "is not supported",
		trusting(`{"Federated": "accounts.google.com"}`, withWebIdentity, ""): `Statement[0].Principal.Federated: must be the ARN of an issuer of web identities`,
		trusting(`{"Federated": "arn:aws:iam::111122223333:oidc-provider/https://x.example"}`, withWebIdentity, ""): "without https://",
		trusting(`{"Federated": "arn:aws:iam::111122223333:oidc-provider/*"}`, withWebIdentity, ""):                 "must be the ARN",
		trusting(`{"Federated": "arn:aws:iam::111122223333:saml-provider/x"}`, withWebIdentity, ""):                 "must be the ARN",
		trusting(`{"Service": "*"}`, assumeRole, ""):                                                                `Statement[0].Principal.Service: must be a service such as ecs-tasks.amazonaws.com, not "*"`,
		trusting(`{"AWS": "111122223333"}`, "sts:AssumeRoleWithSAML", ""):                                           `Statement[0].Action: "sts:AssumeRoleWithSAML" matches no action here`,
		trusting(`{"AWS": "111122223333"}`, "aws-marketplace:MeterUsage", ""):                                       "the actions are sts:AssumeRole, sts:AssumeRoleWithWebIdentity, sts:TagSession, sts:SetSourceIdentity",
		document(`"Effect": "Allow", "NotPrincipal": {"AWS": "111122223333"}, "Action": "sts:AssumeRole"`):          "Statement[0].NotPrincipal: is not supported: name in Principal whom you mean",
		document(`"Effect": "Allow", "Principal": {"AWS": "111122223333"}, "NotAction": "sts:TagSession"`):          "Statement[0].NotAction: is not supported: name the actions in Action",
		document(`"Effect": "Allow", "Principal": {"AWS": "111122223333"}, "Action": "*", "Resource": "*"`):         "Statement[0].Resource: does not belong into a trust document",
	} {
		if trust, err := iam.ParseTrust(document); err == nil || trust != nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\n%v, want %s", document, err, want)
		}
	}
}

func TestUnbounded(t *testing.T) {
	federated := `{"Federated": ["` + issuer + `", "` + otherIssuer + `"]}`
	for condition, bounded := range map[string]bool{
		``: false,
		`"StringEquals": {"oidc.example/id/ABC:sub": "system:serviceaccount:shop:metering"}`: true,
		`"StringLike": {"oidc.example/id/ABC:sub": ["repo:x/y:*", "repo:x/z:*"]}`:            true,
		`"ForAnyValue:StringLike": {"oidc.example/id/ABC:sub": "repo:x/y:*"}`:                true,
		`"StringLike": {"oidc.example/id/ABC:sub": ["repo:x/y:*", "**"]}`:                    false,
		`"StringLike": {"oidc.example/id/ABC:sub": "?*"}`:                                    false,
		`"StringEquals": {"oidc.example/id/ABC:aud": "sts.amazonaws.com"}`:                   false,
		`"StringNotEquals": {"oidc.example/id/ABC:sub": "x"}`:                                false,
		`"StringEqualsIfExists": {"oidc.example/id/ABC:sub": "x"}`:                           false,
		`"ForAllValues:StringEquals": {"oidc.example/id/ABC:sub": "x"}`:                      false,
		`"Null": {"oidc.example/id/ABC:sub": "false"}`:                                       false,
		`"StringEquals": {"other.example:8443:sub": "x"}`:                                    false,
	} {
		trust := parseTrust(t, trusting(federated, withWebIdentity, condition))
		where, unbounded := trust.Unbounded(issuer, "sub")
		if unbounded == bounded || unbounded && where != "Statement[0]" {
			t.Errorf("%s: unbounded is %t, at %q", condition, unbounded, where)
		}
	}
	trust := parseTrust(t, `{"Statement": [
		{"Effect": "Deny", "Principal": {"Federated": "`+issuer+`"}, "Action": "*"},
		{"Effect": "Allow", "Principal": {"AWS": "111122223333"}, "Action": "*"}]}`)
	if where, unbounded := trust.Unbounded(issuer, "sub"); unbounded {
		t.Errorf("%s trusts nobody's token", where)
	}
}
