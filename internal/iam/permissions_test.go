package iam_test

import (
	"errors"
	"regexp"
	"slices"
	"strconv"
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

// decidedBy returns what lists decide, which is the same for every request.
func decidedBy(actions *iam.Actions, p *iam.Permissions, action string) iam.Decision {
	d, settled := actions.Policy(p).Settled(action)
	if full := iam.Decide(actions.Policy(p), nil, &iam.Request{Action: action}); !settled || full != d {
		panic("lists depend on the request")
	}
	return d
}

// validate checks all entries of the lists.
func validate(actions *iam.Actions, p *iam.Permissions) (err error) {
	for _, entry := range slices.Concat(p.Allow, p.Deny) {
		err = errors.Join(err, actions.ValidEntry(entry))
	}
	return err
}

func allows(p *iam.Permissions, action string) bool {
	return decidedBy(actions, p, action) == iam.Allowed
}
func denies(p *iam.Permissions, action string) bool {
	return decidedBy(actions, p, action) == iam.ExplicitDeny
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
			if got, want := allows(&p, action), slices.Contains(test.want, action); got != want {
				t.Errorf("%s: Allows(%s) is %t, want %t", test.name, action, got, want)
			}
		}
	}
}

func TestAllowsOnlyActions(t *testing.T) {
	p := iam.Permissions{Allow: []string{"*", "aws-marketplace:*", iam.SellerAccess}}
	for _, action := range []string{"", "*", "aws-marketplace:", "aws-marketplace:*", "aws-marketplace:Meter?sage", "s3:GetObject",
		"MeterUsage", "aws-marketplace:MeterUſage", "aws-marketplace:MeterUsage ", "MeterdSellerAccess", "AWSMarketplaceMeteringFullAccess"} {
		if allows(&p, action) {
			t.Errorf("%q is allowed", action)
		}
	}
	if !allows(&p, "AWS-Marketplace:meterusage") {
		t.Error("the case of an action matters")
	}
}

func TestValidEntry(t *testing.T) {
	good := iam.Permissions{
		Allow: []string{"*", "aws-marketplace:*", "aws-marketplace:Batch*", "aws-marketplace:?eterUsage", iam.MeteringFullAccess, iam.MeteringRegisterUsage, iam.SellerAccess},
		Deny:  []string{"AWS-MARKETPLACE:REGISTERUSAGE"},
	}
	good.Allow = append(good.Allow, all...)
	if err := validate(actions, &good); err != nil {
		t.Error(err)
	}
	if err := validate(actions, &iam.Permissions{}); err != nil {
		t.Error(err)
	}
	for entry, want := range map[string]string{
		"":                               "neither an action",
		"AdministratorAccess":            "nor a policy this service knows (AWSMarketplaceFullAccess, ",
		"AWSMarketplaceSellerFullAccess": "holds none of the actions aws-marketplace:BatchMeterUsage, ",
		"MeterUsage":                     "neither an action (aws-marketplace:",
		"meteringmarketplace:*":          `grants and denies nothing, since these actions have the service prefix "aws-marketplace:"`,
		"metering-marketplace:Meter":     `such as "aws-marketplace:MeterUsage"`,
		"*:MeterUsage":                   "grants and denies nothing",
		"aws-marketplace:":               "is not an action",
		"aws-marketplace:Meter Usage":    "letters, digits, * and ? only",
		"aws-marketplace:Meter:Usage":    "letters, digits, * and ? only",
		"aws-marketplace:MeterUsages":    "matches no action; the actions are aws-marketplace:BatchMeterUsage, ",
		"aws-marketplace:Meter":          "matches no action",
		"aws-marketplace:Subscribe":      "matches no action",
		"aws-marketplace:?":              "matches no action",
		strings.Repeat("x", 1000):        "…",
		"aws-marketplace:" + long("*"):   "is not an action",
		"arn:aws:iam::aws:policy/AWSMarketplaceMeteringFullAccess": "write the policy's name alone",
	} {
		err := actions.ValidEntry(entry)
		if err == nil || !strings.Contains(err.Error(), want) || len(entry) < 50 && !strings.HasPrefix(err.Error(), strconv.Quote(entry)+": ") {
			t.Errorf("%.80q: %v, want %s", entry, err, want)
		}
		if err != nil && len(err.Error()) > 500 {
			t.Errorf("%.80q: the error has %d characters", entry, len(err.Error()))
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
			if got, want := decidedBy(actions, &p, action) == iam.Allowed, slices.Contains(test.want, action); got != want {
				t.Errorf("%s: %s is allowed: %t, want %t", test.name, action, got, want)
			}
		}
	}
	err := validate(actions, &iam.Permissions{Allow: []string{"s3:*"}})
	if err == nil || !strings.Contains(err.Error(), `the service prefix "aws-marketplace:" or "sts:"; write`) {
		t.Error(err)
	}
}

// FuzzPermissions: an entry that ValidEntry refuses allows nothing, and in Deny
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
			if want := means(allow, action) || slices.Contains(iam.Managed(allow), action); allows(allowed, action) != want {
				t.Errorf("%q allows %s: %v, want %v", allow, action, !want, want)
			}
			if err := validate(actions, allowed); err != nil && allows(allowed, action) {
				t.Errorf("%q allows %s, but %v", allow, action, err)
			}
			if !strings.HasPrefix(strings.ToLower(allow), "aws-marketplace:") && allow != "*" && iam.Managed(allow) == nil && allows(allowed, action) {
				t.Errorf("%q allows %s", allow, action)
			}
			denied := &iam.Permissions{Allow: []string{"*"}, Deny: []string{deny}}
			if decidedBy(actions, denied, action) == iam.NotAllowed {
				t.Errorf("deny %q: %s is neither", deny, action)
			}
			if err := validate(actions, denied); err != nil && allows(denied, action) && !strings.Contains(err.Error(), "matches no action") {
				t.Errorf("deny %q lets %s pass, but %v", deny, action, err)
			}
			// What allows an action as an entry of Allow must deny it in Deny.
			if allows(allowed, action) && !denies(&iam.Permissions{Deny: []string{allow}}, action) {
				t.Errorf("%q allows %s but does not deny it", allow, action)
			}
			if both := (&iam.Permissions{Allow: []string{allow}, Deny: []string{deny}}); denies(denied, action) && !denies(both, action) {
				t.Errorf("deny %q does not win over allow %q", deny, allow)
			}
		}
	})
}

// BenchmarkAllowed decides about a call whose permissions no condition is part of.
func BenchmarkAllowed(b *testing.B) {
	p := actions.Policy(&iam.Permissions{Allow: []string{iam.SellerAccess, "aws-marketplace:Meter*"}, Deny: []string{"aws-marketplace:Register*"}})
	b.ReportAllocs()
	for b.Loop() {
		if d, settled := p.Settled(meterUsage); d != iam.Allowed || !settled {
			b.Fatal("denied")
		}
	}
}

func BenchmarkPolicyOfLists(b *testing.B) {
	p := iam.Permissions{Allow: []string{iam.SellerAccess, "aws-marketplace:Meter*"}, Deny: []string{"aws-marketplace:Register*"}}
	b.ReportAllocs()
	for b.Loop() {
		actions.Policy(&p)
	}
}
