package store

import (
	"net/url"
	"strings"
	"testing"
)

func TestRedacted(t *testing.T) {
	for location, want := range map[string]string{
		"/var/lib/meterd": "/var/lib/meterd",
		"postgres://db/x": "postgres://db/x",
		"postgres://meterd@db1:5432,db2/x?sslmode=verify-full&search_path=a": "postgres://meterd@db1:5432,db2/x?sslmode=verify-full&search_path=a",
		"postgresql://meterd:secret@db/x":                                    "postgresql://meterd:xxxxx@db/x",
		"POSTGRES://meterd:secret@db/x":                                      "postgres://meterd:xxxxx@db/x",
		"postgres://:secret@[::1]:5432/x":                                    "postgres://:xxxxx@[::1]:5432/x",
		"postgres://meterd:sec&ret@db/x":                                     "postgres://meterd:xxxxx@db/x",
		"postgres://meterd:sec?ret#1@db/x":                                   "postgres://meterd:xxxxx@db/x",
		"postgres://meterd:sec:ret@db/x":                                     "postgres://meterd:xxxxx@db/x",
		"postgres://meterd:se@cret@db/x":                                     "postgres://xxxxx",
		"postgres://meterd:sec/ret@db/x":                                     "postgres://xxxxx",
		"postgres://meterd:123/ret@db/x":                                     "postgres://xxxxx",
		"postgres://meterd:secret/x":                                         "postgres://xxxxx",
		"postgres://db/x?user=a&password=s&ecret":                            "postgres://db/x?user=a&password=xxxxx",
		"postgres://db/x?sslpassword=s&sslmode=no":                           "postgres://db/x?sslpassword=xxxxx",
		"postgres://db/x?pass%77ord=secret":                                  "postgres://db/x?xxxxx",
		"host=db password=secret":                                            "host=db password=xxxxx",
		"host=db PASSWORD = 'sec ret'":                                       "host=db PASSWORD =xxxxx",
	} {
		if got := Redacted(location); got != want {
			t.Errorf("%s is shown as %s, want %s", location, got, want)
		}
	}
	for text, want := range map[string]string{
		"unexpected argument postgres://meterd:s&ecret@db/x, of 2":   "unexpected argument postgres://meterd:xxxxx@db/x, of 2",
		"there is nothing in /root/postgres:/meterd:secret@db/x":     "there is nothing in /root/postgres://meterd:xxxxx@db/x",
		"connecting to postgres://a:b@db:1/x?search_path=c: refused": "connecting to postgres://a:xxxxx@db:1/x?search_path=c: refused",
		"there is nothing in /root/postgres: go on":                  "there is nothing in /root/postgres: go on",
	} {
		if got := RedactedText(text); got != want {
			t.Errorf("%s is shown as %s, want %s", text, got, want)
		}
	}
}

// FuzzRedacted puts a password, escaped or not, everywhere that a password may be in a URL: no part of it is shown, also
// not by the error of a URL that cannot be used.
func FuzzRedacted(f *testing.F) {
	for _, around := range []string{"", "&", "@", "/", ":", "?", "#", "%", "=", " ", "\n", "`: ", "%zz", "@@", "&password=", "&a=", "?user=", "/@", ",", "]", "\x00", "é"} {
		f.Add(around, "", "meterd")
		f.Add("", around, "meterd")
		f.Add(around, around, "")
		f.Add("&"+around, "=", "meterd")
	}
	const secret = "S3cRet0fOurs"
	f.Fuzz(func(t *testing.T, before, after, user string) {
		if strings.Contains(user, secret) {
			return
		}
		password, name := before+secret+after, url.PathEscape(user)
		for _, scheme := range []string{"postgres", "postgresql", "POSTGRES", "Postgresql"} {
			for _, format := range []string{
				"SCHEME://USER:PASSWORD@127.0.0.1:1/meterd?sslmode=disable", "SCHEME://USER:PASSWORD@127.0.0.1:1,[::1]:1", "SCHEME://127.0.0.1:1/meterd?user=USER&password=PASSWORD",
				"SCHEME://127.0.0.1:1/?password=PASSWORD&sslmode=disable", "SCHEME://127.0.0.1:1?sslpassword=PASSWORD&connect_timeout=1", "SCHEME://127.0.0.1:1/x?sslmode=disable&password=PASSWORD#x", "SCHEME://127.0.0.1:1/x?pass%77ord=PASSWORD",
			} {
				for _, written := range []string{password, url.QueryEscape(password), url.PathEscape(password)} {
					location := strings.NewReplacer("SCHEME", scheme, "USER", name, "PASSWORD", written).Replace(format)
					if shown := Redacted(location); strings.Contains(shown, secret) {
						t.Errorf("%q is shown as %q", location, shown)
					}
					if _, err := postgresConfig(location); err != nil && strings.Contains(err.Error(), secret) {
						t.Errorf("%q: %v", location, err)
					}
				}
			}
		}
	})
}
