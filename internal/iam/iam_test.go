package iam_test

import (
	"strings"
	"testing"

	"github.com/meterd/meterd/internal/iam"
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
