package iam

// EncodeSession returns what is inside the seal of a token.
func EncodeSession(s Session) []byte { return s.encode() }

// DecodeSession reports whether b is the encoding of a session.
func DecodeSession(b []byte) (s Session, ok bool) {
	ok = s.decode(b)
	return s, ok
}

// MatchPattern reports whether a pattern with * and ? matches the text.
func MatchPattern(pattern, text string) bool {
	p, err := compilePattern(pattern, true, false)
	return err == nil && p.match(text)
}
