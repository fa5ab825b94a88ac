package iam_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/meterd/meterd/internal/iam"
)

// The actions of these tests: those of the metering and entitlement services.
const (
	batchMeterUsage = "aws-marketplace:BatchMeterUsage"
	meterUsage      = "aws-marketplace:MeterUsage"
	registerUsage   = "aws-marketplace:RegisterUsage"
	resolveCustomer = "aws-marketplace:ResolveCustomer"
	getEntitlements = "aws-marketplace:GetEntitlements"
)

var (
	all     = []string{batchMeterUsage, meterUsage, registerUsage, resolveCustomer, getEntitlements}
	actions = iam.NewActions(all...)
)

func TestARN(t *testing.T) {
	for _, test := range []struct {
		principal iam.Principal
		want      string
	}{
		{iam.Principal{Kind: iam.User, AccountID: "111122223333", Name: "metering"}, "arn:aws:iam::111122223333:user/metering"},
		{iam.Principal{Kind: iam.Role, AccountID: "111122223333", Name: "app", SessionName: "i-0123"}, "arn:aws:sts::111122223333:assumed-role/app/i-0123"},
		{iam.Principal{Kind: iam.Role, AccountID: "111122223333", Name: "app"}, "arn:aws:iam::111122223333:role/app"},
		{iam.Principal{Kind: iam.User, AccountID: "111122223333", Name: "u", SessionName: "ignored"}, "arn:aws:iam::111122223333:user/u"},
		{iam.Principal{AccountID: "111122223333", Name: "x"}, "arn:aws:iam::111122223333:unknown/x"},
	} {
		if got := test.principal.ARN(); got != test.want {
			t.Errorf("%+v: %s, want %s", test.principal, got, test.want)
		}
	}
}

func TestKind(t *testing.T) {
	for kind, want := range map[iam.Kind]string{iam.User: "user", iam.Role: "role", 0: "Kind(0)", 9: "Kind(9)"} {
		if kind.String() != want {
			t.Errorf("%d is %s, want %s", kind, kind, want)
		}
	}
}

func TestDenied(t *testing.T) {
	p := iam.Principal{Kind: iam.Role, AccountID: "111122223333", Name: "app", SessionName: "i-0123"}
	const who = "User: arn:aws:sts::111122223333:assumed-role/app/i-0123 is not authorized to perform: aws-marketplace:MeterUsage "
	if got, want := iam.Denied(p, meterUsage), who+"because no identity-based policy allows the aws-marketplace:MeterUsage action"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got, want := iam.ExplicitlyDenied(p, meterUsage), who+"with an explicit deny in an identity-based policy"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestValid(t *testing.T) {
	for _, test := range []struct {
		name  string
		check func(string) error
		good  []string
		bad   map[string]string // to a part of the error
	}{
		{"ValidAccountID", iam.ValidAccountID,
			[]string{"123456789012", "000000000000"},
			map[string]string{
				"": "12 digits", "12345678901": "12 digits", "1234567890123": "12 digits", "1234-5678-9012": "without hyphens",
				"12345678901a": "12 digits", " 12345678901": "12 digits", "１２３４": "12 digits", "12345678901\n": "12 digits",
			}},
		{"ValidName", iam.ValidName,
			[]string{"a", "Metering_role+=,.@-9", strings.Repeat("x", 64)},
			map[string]string{
				"": "1 to 64 characters, not 0", strings.Repeat("x", 65): "not 65", strings.Repeat("x", 9999): "…",
				"a b": "not ' '", "a/b": "not '/'", "a:b": "not ':'", "café": "not 'é'", "a\n": `not '\n'`, "a\xff": "only, not",
			}},
		{"ValidSessionName", iam.ValidSessionName,
			[]string{"ab", "i-0123456789abcdef0"},
			map[string]string{"": "2 to 64", "a": "2 to 64 characters, not 1", "a/b": "session name"}},
	} {
		for _, s := range test.good {
			if err := test.check(s); err != nil {
				t.Errorf("%s: %v", test.name, err)
			}
		}
		for s, want := range test.bad {
			if err := test.check(s); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s(%.80q): %v, want %q", test.name, s, err, want)
			}
		}
	}
}

func TestAllows(t *testing.T) {
	list := func(entries ...string) []string { return entries }
	none := []string(nil)
	for _, test := range []struct {
		name        string
		allow, deny []string
		want        []string
	}{
		{"nothing", nil, nil, none},
		{"an action", list("aws-marketplace:MeterUsage"), nil, []string{meterUsage}},
		{"an action in other case", list("AWS-Marketplace:METERusage"), nil, []string{meterUsage}},
		{"two actions", list("aws-marketplace:RegisterUsage", "aws-marketplace:BatchMeterUsage"), nil, []string{batchMeterUsage, registerUsage}},
		{"all", list("*"), nil, all},
		{"all of the service", list("aws-marketplace:*"), nil, all},
		{"prefix", list("aws-marketplace:Batch*"), nil, []string{batchMeterUsage}},
		{"suffix", list("aws-marketplace:*usage"), nil, []string{batchMeterUsage, meterUsage, registerUsage}},
		{"middle", list("aws-marketplace:*Meter*"), nil, []string{batchMeterUsage, meterUsage}},
		{"both ends", list("aws-marketplace:R*e*r"), nil, []string{resolveCustomer}},
		{"many stars", list("aws-marketplace:**r**U**e"), nil, []string{batchMeterUsage, meterUsage, registerUsage}},
		{"a star that must give way twice", list("aws-marketplace:*?er*"), nil, []string{batchMeterUsage, meterUsage, registerUsage, resolveCustomer}},
		{"question marks", list("aws-marketplace:?????Usage"), nil, []string{meterUsage}},
		{"one question mark too many", list("aws-marketplace:MeterUsage?"), nil, none},
		{"star is nothing too", list("aws-marketplace:MeterUsage*"), nil, []string{meterUsage}},
		{"start of an action", list("aws-marketplace:Meter"), nil, none},
		{"another service", list("s3:*", "aws-marketplace-management:*"), nil, none},
		{"the endpoint's name", list("meteringmarketplace:*", "metering.marketplace:MeterUsage"), nil, none},
		{"service alone", list("aws-marketplace", "aws-marketplace:"), nil, none},
		{"wildcard in the service", list("aws-*:MeterUsage", "aws-marketplac?:*", "*:*", "*:MeterUsage", "?", "**"), nil, none},
		{"full access", list("AWSMarketplaceMeteringFullAccess"), nil, []string{meterUsage}},
		{"register usage", list("AWSMarketplaceMeteringRegisterUsage"), nil, []string{registerUsage}},
		{"seller", list("MeterdSellerAccess"), nil, []string{batchMeterUsage, resolveCustomer, getEntitlements}},
		{"preset in other case", list("meterdselleraccess"), nil, none},
		{"unknown preset", list("AdministratorAccess"), nil, none},
		{"deny alone", nil, list("aws-marketplace:MeterUsage"), none},
		{"deny wins", list("*"), list("aws-marketplace:MeterUsage"), []string{batchMeterUsage, registerUsage, resolveCustomer, getEntitlements}},
		{"deny wins over itself", list("aws-marketplace:MeterUsage"), list("AWS-MARKETPLACE:meter*"), none},
		{"deny by preset", list("aws-marketplace:*"), list("MeterdSellerAccess"), []string{meterUsage, registerUsage}},
		{"deny all", list("*"), list("*"), none},
		{"deny that matches nothing", list("aws-marketplace:MeterUsage"), list("aws-marketplace:Other"), []string{meterUsage}},
		{"unreadable deny denies all", list("*"), list("meteringmarketplace:MeterUsage"), none},
		{"empty deny denies all", list("*"), list(""), none},
		{"unreadable allow allows nothing", list("", " ", "aws-marketplace:Meter Usage", "aws-marketplace:MeterUsage\n"), nil, none},
	} {
		p := iam.Permissions{Allow: test.allow, Deny: test.deny}
		for _, action := range all {
			if got, want := actions.Allows(&p, action), slices.Contains(test.want, action); got != want {
				t.Errorf("%s: Allows(%s) is %t, want %t", test.name, action, got, want)
			}
			if actions.Allows(&p, action) && actions.Denies(&p, action) {
				t.Errorf("%s: %s is both allowed and denied", test.name, action)
			}
		}
	}
}

func TestAllowsOnlyActions(t *testing.T) {
	p := iam.Permissions{Allow: []string{"*", "aws-marketplace:*", iam.SellerAccess}}
	for _, action := range []string{"", "*", "aws-marketplace:", "aws-marketplace:*", "aws-marketplace:Meter?sage", "s3:GetObject",
		"MeterUsage", "aws-marketplace:MeterUſage", "aws-marketplace:MeterUsage ", "MeterdSellerAccess", "AWSMarketplaceMeteringFullAccess"} {
		if actions.Allows(&p, action) {
			t.Errorf("%q is allowed", action)
		}
	}
	if !actions.Allows(&p, "AWS-Marketplace:meterusage") {
		t.Error("the case of an action matters")
	}
}

func TestValidate(t *testing.T) {
	good := iam.Permissions{
		Allow: []string{"*", "aws-marketplace:*", "aws-marketplace:Batch*", "aws-marketplace:?eterUsage", iam.MeteringFullAccess, iam.MeteringRegisterUsage, iam.SellerAccess},
		Deny:  []string{"AWS-MARKETPLACE:REGISTERUSAGE"},
	}
	good.Allow = append(good.Allow, all...)
	if err := actions.Validate(&good); err != nil {
		t.Error(err)
	}
	if err := actions.Validate(&iam.Permissions{}); err != nil {
		t.Error(err)
	}
	for entry, want := range map[string]string{
		"":                             "neither an action",
		"AdministratorAccess":          "nor a policy this service knows (AWSMarketplaceMeteringFullAccess, ",
		"MeterUsage":                   "neither an action (aws-marketplace:",
		"meteringmarketplace:*":        `grants and denies nothing, since these actions have the service prefix "aws-marketplace:"`,
		"metering-marketplace:Meter":   `such as "aws-marketplace:MeterUsage"`,
		"*:MeterUsage":                 "grants and denies nothing",
		"aws-marketplace:":             "is not an action",
		"aws-marketplace:Meter Usage":  "letters, * and ? only",
		"aws-marketplace:Meter:Usage":  "letters, * and ? only",
		"aws-marketplace:MeterUsages":  "matches no action; the actions are aws-marketplace:BatchMeterUsage, ",
		"aws-marketplace:Meter":        "matches no action",
		"aws-marketplace:Subscribe":    "matches no action",
		"aws-marketplace:?":            "matches no action",
		strings.Repeat("x", 1000):      "…",
		"aws-marketplace:" + long("*"): "is not an action",
		"arn:aws:iam::aws:policy/AWSMarketplaceMeteringFullAccess": "write the policy's name alone",
	} {
		for list, p := range map[string]iam.Permissions{
			"allow entry 2": {Allow: []string{"*", entry}},
			"deny entry 1":  {Allow: []string{"*"}, Deny: []string{entry}},
		} {
			err := actions.Validate(&p)
			if err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), list) {
				t.Errorf("%.80q: %v, want %s: … %s", entry, err, list, want)
			}
			if err != nil && len(err.Error()) > 500 {
				t.Errorf("%.80q: the error has %d characters", entry, len(err.Error()))
			}
		}
	}
}

func long(s string) string { return strings.Repeat(s, 1000) }

func TestServices(t *testing.T) {
	actions := iam.NewActions(meterUsage, "sts:GetCallerIdentity", "sts:AssumeRole")
	for _, test := range []struct {
		name        string
		allow, deny string
		want        []string
	}{
		{"a deny that cannot be read", "*", "sts", nil},
		{"one service", "sts:*", meterUsage, []string{"sts:GetCallerIdentity", "sts:AssumeRole"}},
		{"denied in one service", "*", "STS:Get*", []string{meterUsage, "sts:AssumeRole"}},
		{"a name in the wrong service", "sts:MeterUsage", meterUsage, nil},
		{"a third service", "*", "s3:*", nil},
	} {
		p := iam.Permissions{Allow: []string{test.allow}, Deny: []string{test.deny}}
		for _, action := range []string{meterUsage, "sts:GetCallerIdentity", "sts:AssumeRole"} {
			if got, want := actions.Allows(&p, action), slices.Contains(test.want, action); got != want {
				t.Errorf("%s: %s is allowed: %t, want %t", test.name, action, got, want)
			}
		}
	}
	err := actions.Validate(&iam.Permissions{Allow: []string{"s3:*"}})
	if err == nil || !strings.Contains(err.Error(), `the service prefix "aws-marketplace:" or "sts:"; write`) {
		t.Error(err)
	}
}

// FuzzPermissions: an entry that Validate refuses allows nothing, and in Deny
// leaves nothing allowed unless it is a pattern that merely matches no action.
func FuzzPermissions(f *testing.F) {
	f.Add("aws-marketplace:*", "aws-marketplace:MeterUsage")
	f.Add("*", "meteringmarketplace:*")
	f.Add("MeterdSellerAccess", "aws-marketplace:?esolve*r")
	f.Add("aws-marketplace:*a*b", "")
	f.Add("aws-marketplace:?eterUsage", "aws-marketplace:??eterUsage")
	f.Add("AWS-Marketplace:*Meter*Usage?*", "aws-marketplace:"+strings.Repeat("*?", 20))
	// What a pattern means, by package regexp.
	means := func(entry string, a string) bool {
		if entry == "*" || !regexp.MustCompile(`(?i)^aws-marketplace:[A-Za-z*?]+$`).MatchString(entry) || len(entry) > 128 {
			return entry == "*"
		}
		form := strings.NewReplacer("*", ".*", "?", ".").Replace(entry)
		return regexp.MustCompile("(?i)^" + form + "$").MatchString(string(a))
	}
	f.Fuzz(func(t *testing.T, allow, deny string) {
		for _, action := range all {
			allowed := &iam.Permissions{Allow: []string{allow}}
			if want := means(allow, action) || slices.Contains(iam.Preset(allow), action); actions.Allows(allowed, action) != want {
				t.Errorf("%q allows %s: %v, want %v", allow, action, !want, want)
			}
			if err := actions.Validate(allowed); err != nil && actions.Allows(allowed, action) {
				t.Errorf("%q allows %s, but %v", allow, action, err)
			}
			if !strings.HasPrefix(strings.ToLower(allow), "aws-marketplace:") && allow != "*" && iam.Preset(allow) == nil && actions.Allows(allowed, action) {
				t.Errorf("%q allows %s", allow, action)
			}
			denied := &iam.Permissions{Allow: []string{"*"}, Deny: []string{deny}}
			if actions.Allows(denied, action) == actions.Denies(denied, action) {
				t.Errorf("deny %q: %s is neither or both", deny, action)
			}
			if err := actions.Validate(denied); err != nil && actions.Allows(denied, action) && !strings.Contains(err.Error(), "matches no action") {
				t.Errorf("deny %q lets %s pass, but %v", deny, action, err)
			}
			// What allows an action as an entry of Allow must deny it in Deny.
			if actions.Allows(allowed, action) && !actions.Denies(&iam.Permissions{Deny: []string{allow}}, action) {
				t.Errorf("%q allows %s but does not deny it", allow, action)
			}
			if both := (&iam.Permissions{Allow: []string{allow}, Deny: []string{deny}}); actions.Allows(both, action) && actions.Denies(both, action) {
				t.Errorf("deny %q does not win over allow %q", deny, allow)
			}
		}
	})
}

func BenchmarkAllows(b *testing.B) {
	p := iam.Permissions{Allow: []string{iam.SellerAccess, "aws-marketplace:Meter*"}, Deny: []string{"aws-marketplace:Register*"}}
	b.ReportAllocs()
	for b.Loop() {
		if !actions.Allows(&p, meterUsage) {
			b.Fatal("denied")
		}
	}
}
