package store

import (
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

// worstStrings are what a text may hold that one store or the other could stumble over.
var worstStrings = []string{"\x00", "a\x00b", strings.Repeat("\x00", 64), "\ufdd0", "\ufdd000", "\ufdd0\x00\ufdd0\ufdd0", "\ufdd1", "\xff\xfe", "\xed\xa0\x80", "a\xc3",
	"\x01\x1f\x7f\u0080", "\u2028\u202e\ufeff\ufffd\ufffe\uffff", "\U0010ffff\U0001f600", "e\u0301 and \u00e9", "\\N", "\\x00", "'; --", "\"{}$1%s", "\r\n\t", " a ", "\\", strings.Repeat("é", 255)}

// Whatever a string holds, PostgreSQL stores what stands for it, and nothing else does.
func TestTextIsKept(t *testing.T) {
	check := func(t interface{ Fatalf(string, ...any) }, s string) {
		stored := toText(s)
		if !utf8.ValidString(stored) || strings.Contains(stored, "\x00") {
			t.Fatalf("%q is stored as %q", s, stored)
		}
		if got := fromText(stored); got != s {
			t.Fatalf("%q is stored as %q, and read as %q", s, stored, got)
		}
		if utf8.ValidString(s) && !strings.ContainsAny(s, "\x00\ufdd0") && stored != s {
			t.Fatalf("%q is stored as %q", s, stored)
		}
	}
	for _, s := range worstStrings {
		check(t, s)
	}
	piece := rapid.OneOf(rapid.SampledFrom([]string{"\x00", "\ufdd0", "00", "ff", "0", "f", "\xff", "\xef", "\xef\xb7"}), rapid.String(), rapid.Map(rapid.SliceOfN(rapid.Byte(), 0, 4), func(b []byte) string { return string(b) }))
	rapid.Check(t, func(t *rapid.T) { check(t, strings.Join(rapid.SliceOfN(piece, 0, 12).Draw(t, "pieces"), "")) })
	for _, s := range []string{"\ufdd0", "\ufdd0x", "\ufdd0f", "\ufdd041", "\ufdd0FG"} { // from before there was an escape
		if got := fromText(s); got != s {
			t.Errorf("%q is read as %q", s, got)
		}
	}
}
