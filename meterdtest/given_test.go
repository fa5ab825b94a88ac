package meterdtest_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/marketplacemetering"
	"github.com/aws/smithy-go"
	"github.com/meterd/meterd/internal/adminapi"
	"github.com/meterd/meterd/meterdtest"
)

// TestGiven: a marketplace file for a sandbox gives the keys and registration tokens that a program's tests have
// anyway, and the SDK signs with the ones and resolves the others.
func TestGiven(t *testing.T) {
	dir, now := t.TempDir(), time.Date(2026, 11, 23, 15, 20, 0, 0, time.UTC)
	const file = `
sellers:
- account_id: "123456789012"
products:
- {product_code: mine, seller_account_id: "123456789012", type: saas, integration: legacy, dimensions: [users]}
buyers:
- account_id: "210987654321"
  agreements: [{product_code: mine, customer_identifier: cus-1}]
users:
- account_id: "123456789012"
  name: ci
  allow: [MeterdSellerAccess]
  access_keys:
  - {access_key_id: test, secret_access_key: test}
  - {access_key_id: AKIDEXAMPLE, secret_access_key: wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY}
tokens:
- {registration_token: test-token, product_code: mine, buyer: "210987654321"}
- {registration_token: old-token, product_code: mine, buyer: cus-1, issued_at: 2026-01-01T00:00:00Z}
`
	s := meterdtest.New(t, meterdtest.Config{Dir: dir, Now: now})
	admin := adminapi.New(s.AdminURL, s.Description.AdminToken)
	load := func(text string) (adminapi.ImportResult, error) {
		return adminapi.Import.Do(t.Context(), admin, adminapi.File{Form: adminapi.YAML, Content: strings.NewReader(text)})
	}
	if got, err := load(file); err != nil || got.Tokens != 2 || got.Users != 1 {
		t.Fatalf("%+v, %v", got, err)
	}
	if got, err := load(file); err != nil || got.Tokens != 0 {
		t.Fatalf("again: %+v, %v", got, err)
	}
	for text, want := range map[string]string{
		`tokens: [{registration_token: test-token, product_code: sandboxlegacysaas00000001, buyer: "444444444444"}]`:   "registration_token: it is there for buyer 210987654321 and product mine",
		`tokens: [{product_code: mine, buyer: cus-1}]`:                                                                 "line 1, column 10: tokens[0].registration_token: is missing",
		`tokens: [{registration_token: a b, product_code: mine, buyer: cus-1}]`:                                        "must have 1 to 1024 printable",
		`tokens: [{registration_token: x, product_code: nowhere, buyer: cus-1}]`:                                       "tokens[0].product_code: there is no product",
		`users: [{account_id: "123456789012", name: ci, access_keys: [{access_key_id: a-b, secret_access_key: x}]}]`:   "access_key_id: \"a-b\" must have 1 to 128 letters, digits and underscores",
		`users: [{account_id: "123456789012", name: ci, access_keys: [{access_key_id: ASIAX, secret_access_key: x}]}]`: "not begin with ASIA",
		`users: [{account_id: "123456789012", name: ci, access_keys: [{access_key_id: test, secret_access_key: x}]}]`:  "the key test is there with another secret",
	} {
		if _, err := load(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}

	check := func(s *meterdtest.Server) {
		t.Helper()
		for _, c := range []meterdtest.Credentials{{AccessKeyID: "test", SecretAccessKey: "test"}, {AccessKeyID: "AKIDEXAMPLE", SecretAccessKey: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"}} {
			client := s.Client(c, "", "us-east-1")
			got, err := client.ResolveCustomer(t.Context(), &marketplacemetering.ResolveCustomerInput{RegistrationToken: aws.String("test-token")})
			if err != nil || aws.ToString(got.CustomerIdentifier) != "cus-1" || aws.ToString(got.ProductCode) != "mine" || aws.ToString(got.CustomerAWSAccountId) != "210987654321" {
				t.Errorf("%s: %+v, %v", c.AccessKeyID, got, err)
			}
			for token, code := range map[string]string{"old-token": "ExpiredTokenException", "no-token": "InvalidTokenException"} {
				_, err = client.ResolveCustomer(t.Context(), &marketplacemetering.ResolveCustomerInput{RegistrationToken: &token})
				if refused := (smithy.APIError)(nil); !errors.As(err, &refused) || refused.ErrorCode() != code {
					t.Errorf("%s: %v, want %s", token, err, code)
				}
			}
		}
	}
	check(s)
	s.Close()
	s = meterdtest.New(t, meterdtest.Config{Dir: dir})
	check(s)
	admin = adminapi.New(s.AdminURL, s.Description.AdminToken)
	listed, err := adminapi.ListTokens.Do(t.Context(), admin, adminapi.Paging{Limit: 2}) // those that were given come first
	if err != nil || len(listed.Items) != 2 {
		t.Fatalf("%+v, %v", listed, err)
	}
	for _, token := range listed.Items {
		if _, err := adminapi.RevokeToken.Do(t.Context(), admin, adminapi.TokenPath{ID: token.ID}); token.BuyerAccountID != "210987654321" || err != nil {
			t.Errorf("%+v, %v", token, err)
		}
	}
	if _, err := s.Client(meterdtest.Credentials{AccessKeyID: "test", SecretAccessKey: "test"}, "", "us-east-1").ResolveCustomer(t.Context(),
		&marketplacemetering.ResolveCustomerInput{RegistrationToken: aws.String("test-token")}); err == nil {
		t.Error("a token that was revoked is still good")
	}
}
