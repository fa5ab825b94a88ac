package iam

import (
	"bytes"
	"strconv"
	"strings"
)

// secretLength is the length of the shortest text that must not be shown, the secret of an access key, in characters.
const secretLength = 40

// registrationMembers are the names, in lower case, of registration tokens in the bodies of any service.
var registrationMembers = [][]byte{[]byte("registrationtoken"), []byte("registration_token"), []byte("marketplace-token")}

// Redacted returns text that came from a caller in a form that may be stored and logged: each part that looks like a
// secret or a token is replaced by its length. Such a part is a run of 40 or more characters of base64, in either
// alphabet and however JSON or a URL escapes it, that mixes capitals, small letters and digits as random texts do:
// secrets of access keys, session tokens, registration tokens, admin tokens, JSON web tokens. Ids, ARNs, hashes and
// words are left as they are.
func Redacted(text string) string {
	if len(text) < secretLength {
		return text
	}
	var b strings.Builder
	for at := 0; ; {
		from := at
		for from < len(text) && !inRun(text[from]) {
			from++
		}
		to := from
		for to < len(text) && inRun(text[to]) {
			to++
		}
		b.WriteString(text[at:from])
		if from == len(text) {
			return b.String()
		}
		if run := text[from:to]; random(run) {
			b.WriteString("[" + strconv.Itoa(len(run)) + " characters that look like a secret]")
		} else {
			b.WriteString(run)
		}
		at = to
	}
}

// RedactedBody is [Redacted] for a body. It removes the whole body if that names a registration token.
func RedactedBody(body []byte) []byte {
	lower := bytes.ToLower(body)
	for _, name := range registrationMembers {
		if bytes.Contains(lower, name) {
			return []byte("[" + strconv.Itoa(len(body)) + " bytes with a registration token]")
		}
	}
	return []byte(Redacted(string(body)))
}

// inRun reports whether a byte may be part of base64, or of its escapes such as \/, \u002b and %2B.
func inRun(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte(`+/=-_\%`, c) >= 0
}

// random reports whether a run looks as if it had been drawn at random: in at least three of ten places a letter or
// digit is of another kind than the one before. In random texts that is so in six of ten places, and in words that are
// written together in two.
func random(run string) bool {
	const small, capital, digit = 1, 2, 4
	kinds, before, letters, changes := 0, 0, 0, 0
	for i := range len(run) {
		kind := 0
		switch c := run[i]; {
		case c >= 'a' && c <= 'z':
			kind = small
		case c >= 'A' && c <= 'Z':
			kind = capital
		case c >= '0' && c <= '9':
			kind = digit
		default:
			continue
		}
		letters++
		if kinds |= kind; before != 0 && kind != before {
			changes++
		}
		before = kind
	}
	return len(run) >= secretLength && kinds&small != 0 && kinds&capital != 0 && 10*changes >= 3*letters
}
