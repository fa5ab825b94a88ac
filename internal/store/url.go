package store

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5"
)

var (
	urlScheme = regexp.MustCompile(`(?i)^postgres(?:ql)?://`)
	// plainHosts is what may be shown as hosts, each with a port or without.
	plainHosts = regexp.MustCompile(`^(?:(?:[\w.%-]*|\[[0-9A-Fa-f:.%]*\])(?::\d*)?(?:,|$))+$`)
	// passwordWord is where a password begins in what was meant to be a location, but is no URL.
	passwordWord = regexp.MustCompile(`(?is)(password\s*=).*`)
	// anyURL is a URL inside another text. Taken for the path of a file it has one slash.
	anyURL = regexp.MustCompile(`(?i)(postgres(?:ql)?):/+(\S*)`)
)

// shownParameters are the parameters of a URL that may be shown. Any other parameter may hold a secret.
var shownParameters = map[string]bool{"application_name": true, "connect_timeout": true, "dbname": true, "host": true, "passfile": true, "port": true,
	"search_path": true, "sslcert": true, "sslkey": true, "sslmode": true, "sslrootcert": true, "target_session_attrs": true, "user": true}

const hidden = "xxxxx"

// IsURL reports whether a location names a PostgreSQL database rather than a folder.
func IsURL(location string) bool { return urlScheme.MatchString(location) }

// splitURL divides a URL as libpq does: user and password, if there are any, end with the first @ before a slash.
// plain is false if there is another @, because the password may reach up to that one.
func splitURL(url string) (scheme, userinfo, rest string, plain bool) {
	scheme = strings.ToLower(urlScheme.FindString(url))
	rest = url[len(scheme):]
	if i := strings.IndexAny(rest, "@/"); i >= 0 && rest[i] == '@' {
		userinfo, rest = rest[:i+1], rest[i+1:]
	}
	return scheme, userinfo, rest, scheme != "" && !strings.Contains(rest, "@")
}

// Redacted returns a location in the form in which it may be shown, logged and stored: without a password. In a URL
// that is not well formed it also leaves out whatever might be part of a password.
func Redacted(location string) string {
	if !IsURL(location) {
		return passwordWord.ReplaceAllString(location, "${1}"+hidden)
	}
	scheme, userinfo, rest, plain := splitURL(location)
	if !plain {
		return scheme + hidden
	}
	if user, _, secret := strings.Cut(userinfo, ":"); secret {
		userinfo = user + ":" + hidden + "@"
	}
	place, query, asked := strings.Cut(rest, "?")
	if hosts, path, _ := strings.Cut(place, "/"); !plainHosts.MatchString(hosts) || strings.Contains(path, ":") {
		place = hidden
	}
	if asked {
		query = "?" + redactedQuery(query)
	}
	return scheme + userinfo + place + query
}

// redactedQuery ends before the first thing that is not known to be harmless, because a password may hold the
// characters that divide parameters.
func redactedQuery(query string) string {
	var shown []string
	for _, pair := range strings.Split(query, "&") {
		name, _, _ := strings.Cut(pair, "=")
		if !shownParameters[name] {
			if name == "password" || name == "sslpassword" {
				return strings.Join(append(shown, name+"="+hidden), "&")
			}
			return strings.Join(append(shown, hidden), "&")
		}
		shown = append(shown, pair)
	}
	return strings.Join(shown, "&")
}

// RedactedText returns a text, such as a message about a command line, in which URLs are redacted.
func RedactedText(text string) string {
	return anyURL.ReplaceAllStringFunc(text, func(found string) string {
		url := strings.TrimRight(found, ":,;.)'\"`") // these belong to the text after the URL
		parts := anyURL.FindStringSubmatch(url)
		if parts == nil {
			return found
		}
		return Redacted(parts[1]+"://"+parts[2]) + found[len(url):]
	})
}

// errURL says how to write a URL, and shows nothing of the one that was given.
var errURL = errors.New("the URL of the database is not well formed: write postgres://user@host:5432/database, " +
	"with %40 for @, %2F for /, %3A for :, %20 for a blank, %3D for = and %25 for % in a user, password or parameter, or leave the password to PGPASSWORD or PGPASSFILE")

// parseURL reads a URL as the driver does. Its errors show nothing that might be part of the password.
func parseURL(url string) (*pgx.ConnConfig, error) {
	scheme, userinfo, rest, plain := splitURL(url)
	if !plain || strings.Contains(url, "`") { // the driver quotes with backticks what it was given
		return nil, errURL
	}
	c, err := pgx.ParseConfig(scheme + userinfo + rest)
	if err == nil {
		return c, nil
	}
	// The driver says first what it was given, and leaves out what it takes for the password.
	at := strings.LastIndex(err.Error(), "`: ")
	if at < 0 || strings.Contains(err.Error()[at:], "parse as URL") || strings.Contains(err.Error()[at:], "invalid port") {
		return nil, errURL
	}
	return nil, fmt.Errorf("the URL of the database cannot be used: %s", err.Error()[at+len("`: "):])
}
