package iam_test

import (
	"encoding/base64"
	"encoding/json"
	"math/rand/v2"
	"net/url"
	"strings"
	"testing"

	"github.com/meterd/meterd/internal/iam"
)

func TestRedacted(t *testing.T) {
	random := rand.NewChaCha8([32]byte{7})
	secret := func(bytes int, e *base64.Encoding) string {
		b := make([]byte, bytes)
		random.Read(b)
		return e.EncodeToString(b)
	}
	for range 2000 {
		for what, s := range map[string]string{
			"the secret of an access key": secret(30, base64.StdEncoding),
			"a registration token":        secret(48, base64.StdEncoding),
			"an admin token":              "meterd_" + secret(32, base64.RawURLEncoding),
			"a session token":             secret(200, base64.RawURLEncoding),
			"a JSON web token":            "eyJhbGciOiJSUzI1NiJ9." + secret(90, base64.RawURLEncoding) + "." + secret(256, base64.RawURLEncoding),
		} {
			plus := strings.NewReplacer("+", `\u002b`, "/", `\/`, "=", `\u003D`)
			for _, text := range []string{s, `{"ProductCode":"` + s + `"}`, "no product " + s + "!", `{"a":"` + plus.Replace(s) + `"}`, "x=" + url.QueryEscape(s)} {
				got := iam.Redacted(text)
				if strings.Contains(got, s[len(s)/4:len(s)/2]) || strings.Contains(got, plus.Replace(s)[22:38]) || !strings.Contains(got, "look like a secret") {
					t.Fatalf("%s in %q is shown as %q", what, text, got)
				}
			}
		}
	}
	for _, s := range []string{"", "a", strings.Repeat("a", 300), "35155d37-56cb-423f-8554-5c4f3e3ff56d",
		"arn:aws:license-manager::294406891311:license:l-0123456789abcdef0123456789abcdef",
		"User: arn:aws:sts::111122223333:assumed-role/meterd-workload/i-0a1b2c3d4e5f60001 is not authorized to perform: aws-marketplace:MeterUsage",
		"arn:aws:iam::111122223333:role/service-role/ProductionEcsTaskExecutionRoleForMetering2",
		`{"ProductCode":"cqcvf9f0ugw8rkbgmf1c9dxyz","UsageRecords":[{"Timestamp":1795446245.123,"Dimension":"vcpu_hours_of_large_instances_in_2026_And_Later","CustomerAWSAccountId":"111122223333"}]}`,
		"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
		"Timestamp 2026-11-23T15:20:00.000Z is too old", "1 validation error detected: Value at 'usageRecords.1.member.customerAWSAccountId' failed to satisfy constraint",
	} {
		if got := iam.Redacted(s); got != s {
			t.Errorf("%q is shown as %q", s, got)
		}
	}
}

func TestRedactedBody(t *testing.T) {
	for _, body := range []string{`{"RegistrationToken":"short"}`, `{"registrationToken":{"a":"short"}}`, `{"x":1,"registration_token":"short`, "x-amzn-marketplace-token=short"} {
		if got := string(iam.RedactedBody([]byte(body))); strings.Contains(got, "short") || !strings.Contains(got, "registration token") {
			t.Errorf("%s is shown as %s", body, got)
		}
	}
	good, _ := json.Marshal(map[string]any{"ProductCode": "p", "UsageRecords": []int{}})
	if got := iam.RedactedBody(good); string(got) != string(good) {
		t.Errorf("%s is shown as %s", good, got)
	}
}
