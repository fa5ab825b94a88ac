package sigv4

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// form is how a canonical request is written where clients differ, or where
// something on the way may have changed what they signed.
type form struct {
	host   string
	path   string
	spaces bool   // only runs of spaces are one space in header values, not those of tabs
	hash   []byte // of the body
}

// write leaves the string to sign of a form in s.text.
func (s *scratch) write(r *http.Request, c claim, f form) *Error {
	if e := s.writeRequest(r, c, f); e != nil {
		return e
	}
	canonicalHash := sha256.Sum256(s.text)
	s.text = append(s.text[:0], algorithm+"\n"...)
	s.text = append(s.text, s.date...)
	s.text = append(s.text, '\n')
	s.text = append(s.text, c.scope...)
	s.text = append(s.text, '\n')
	s.text = hex.AppendEncode(s.text, canonicalHash[:])
	return nil
}

// writeRequest leaves the canonical request of a form in s.text.
func (s *scratch) writeRequest(r *http.Request, c claim, f form) *Error {
	s.text = append(s.text[:0], "POST\n"...)
	s.text = append(s.text, f.path...)
	s.text = append(s.text, "\n\n"...)
	if e := s.appendHeaders(r, c, f); e != nil {
		return e
	}
	s.text = append(s.text, '\n')
	s.text = append(s.text, c.signedHeaders...)
	s.text = append(s.text, '\n')
	s.text = append(s.text, f.hash...)
	return nil
}

// otherForms are those that a signature may be of beside the one as received.
func (v *Verifier[P]) otherForms(r *http.Request, s *scratch) []form {
	paths := []string{r.RequestURI}
	if r.RequestURI == "/" {
		if v.BasePath != "" {
			paths = append(paths, v.BasePath+"/", v.BasePath)
		}
		if prefixes := r.Header["X-Forwarded-Prefix"]; len(prefixes) == 1 && v.FromProxy != nil && v.FromProxy(r) {
			if prefix := strings.TrimRight(prefixes[0], "/"); CheckPath(prefix) == nil {
				paths = append(paths, prefix+"/", prefix)
			}
		}
	}
	if !s.tabs && len(paths) == 1 {
		return nil
	}
	var forms []form
	for _, path := range paths {
		forms = append(forms, form{host: r.Host, path: path, hash: s.hash})
		if s.tabs {
			forms = append(forms, form{host: r.Host, path: path, hash: s.hash, spaces: true})
		}
	}
	return forms
}

// CheckPath returns what is wrong with a base path: it must begin with a slash, end with none, and be of letters,
// digits and -._~ only, which no client writes in another way.
func CheckPath(path string) error {
	if len(path) < 2 || path[0] != '/' || path[len(path)-1] == '/' || strings.Contains(path, "//") || strings.Contains(path, "/.") ||
		strings.ContainsFunc(path, func(c rune) bool { return notWord(c) && !strings.ContainsRune("/-.~", c) }) {
		return fmt.Errorf("%s must be a path such as /metering: a slash before each part, none at the end, and nothing else but letters, digits and -._~", quote(path))
	}
	return nil
}

// read by Verify or the service, so never a proxy's
var ours = []string{"x-amz-date", "x-amz-security-token", "x-amz-target", "x-amz-content-sha256", "x-amz-algorithm", "x-amz-credential", "x-amz-signature", "x-amz-expires"}

// CheckProxyHeader returns what is wrong with the beginning of the names of headers that proxies add: it must be in
// lower case, begin with x-amz- and fit no header that is read.
func CheckProxyHeader(prefix string) error {
	if !isAmz(prefix) || !isLowerToken(prefix) || slices.ContainsFunc(ours, func(name string) bool { return strings.HasPrefix(name, prefix) }) {
		return fmt.Errorf("%s must be the name of a header, or its beginning, in lower case such as x-amz-cf-id: longer than x-amz-, and of none that signatures rest on", quote(prefix))
	}
	return nil
}

// Hints are what may have been signed instead of what came; see Explain.
type Hints struct {
	Hosts []string
	Paths []string
}

// Explain looks for the reason of a mismatch that Verify found, by trying what may have been signed instead: other
// hosts, paths, bodies and slips in the secret. It returns "" for why if it found none, and the canonical request, without
// the session token. Whoever learns it learns nothing of the secret; but it is work, so only for a sandbox.
func (v *Verifier[P]) Explain(r *http.Request, body []byte, now time.Time, hints Hints) (why, canonical string) {
	s := scratches.Get().(*scratch)
	defer s.free()
	c, e := v.read(s, r, body, now)
	if e != nil {
		return "", ""
	}
	credential, err := v.lookup(c)
	if err != nil {
		return "", ""
	}
	received := form{host: r.Host, path: r.RequestURI, hash: s.hash}
	signed := func(secret string, f form) bool {
		_ = s.write(r, c, f) // it could be written once
		return deriveKey(secret, c.day, c.region, c.service).matches(s.text, c)
	}
	paths := append([]string{r.RequestURI}, hints.Paths...)
	for _, host := range append([]string{r.Host}, hints.Hosts...) {
		for _, path := range paths {
			f := received
			f.host, f.path = host, path
			switch {
			case !signed(credential.Secret, f):
			case host != r.Host && path != r.RequestURI:
				why = fmt.Sprintf("The signature is right for Host %s and path %s, but the request came with Host %s and path %s: a proxy changed both. Have it pass Host on unchanged, and start meterd with --base-path.", quote(host), quote(path), quote(r.Host), quote(r.RequestURI))
			case host != r.Host:
				why = fmt.Sprintf("The signature is right for Host %s, but the request came with Host %s: a proxy changed it. Have the proxy pass Host on unchanged.", quote(host), quote(r.Host))
			case path != r.RequestURI:
				why = fmt.Sprintf("The signature is right for path %s, but the request came with path %s: a proxy changed it. Have it pass the path on, or start meterd with --base-path.", quote(path), quote(r.RequestURI))
			}
		}
	}
	empty := sha256.Sum256(nil)
	for hash, says := range map[string]string{
		"UNSIGNED-PAYLOAD":           "The signature is right for an unsigned payload. Have the client sign the body.",
		hex.EncodeToString(empty[:]): "The signature is right for an empty body, but the request has one. Have the client sign the body that it sends.",
	} {
		f := received
		if f.hash = []byte(hash); why == "" && signed(credential.Secret, f) {
			why = says
		}
	}
	for slip, says := range map[string]string{
		credential.Secret + "\n":           "a line end after it",
		credential.Secret + "\r\n":         "a line end after it",
		credential.Secret + "\r":           "a line end after it",
		credential.Secret + " ":            "a space after it",
		" " + credential.Secret:            "a space before it",
		"\"" + credential.Secret + "\"":    "quotation marks around it",
		"'" + credential.Secret + "'":      "quotation marks around it",
		strings.ToLower(credential.Secret): "all its letters in lower case",
		c.accessKeyID:                      "the access key id in its place",
	} {
		if why == "" && slip != credential.Secret && signed(slip, received) {
			why = "The secret access key that was signed with has " + says + "."
		}
	}
	shown := r.Clone(r.Context())
	if shown.Header.Get("X-Amz-Security-Token") != "" {
		shown.Header.Set("X-Amz-Security-Token", "(not shown)")
	}
	_ = s.writeRequest(shown, c, received)
	return why, string(s.text)
}
