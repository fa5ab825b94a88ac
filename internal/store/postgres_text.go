package store

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// PostgreSQL's text type holds neither U+0000 nor bytes that are not UTF-8; the embedded store's text holds both. So
// that both stores take the same strings, such a byte is stored in PostgreSQL as U+FDD0, which Unicode has set aside
// for the use of programs, and the byte's two hexadecimal digits. U+FDD0 itself is stored as two U+FDD0.
const textEscape = "\ufdd0"

// toText returns a string as it is stored in a column of PostgreSQL.
func toText(s string) string {
	if utf8.ValidString(s) && !strings.Contains(s, "\x00") && !strings.Contains(s, textEscape) {
		return s
	}
	var b strings.Builder
	for s != "" {
		r, n := utf8.DecodeRuneInString(s)
		switch {
		case r == 0 || r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, "%s%02x", textEscape, s[0])
		case s[:n] == textEscape:
			b.WriteString(textEscape + textEscape)
		default:
			b.WriteString(s[:n])
		}
		s = s[n:]
	}
	return b.String()
}

// fromText is the inverse of toText. A text that toText cannot have written was stored by a version without the escape,
// and is returned as it is.
func fromText(s string) string {
	if !strings.Contains(s, textEscape) {
		return s
	}
	var b strings.Builder
	for {
		plain, rest, found := strings.Cut(s, textEscape)
		b.WriteString(plain)
		if !found {
			return b.String()
		}
		if s = rest; strings.HasPrefix(s, textEscape) {
			b.WriteString(textEscape)
			s = s[len(textEscape):]
		} else if v, err := strconv.ParseUint(s[:min(2, len(s))], 16, 8); err == nil && len(s) >= 2 && (v == 0 || v >= utf8.RuneSelf) {
			b.WriteByte(byte(v))
			s = s[2:]
		} else {
			b.WriteString(textEscape)
		}
	}
}
