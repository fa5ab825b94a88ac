package iam

// EncodeSession returns what is inside the seal of a token.
func EncodeSession(s Session) []byte { return s.encode() }

// DecodeSession reports whether b is the encoding of a session.
func DecodeSession(b []byte) (s Session, ok bool) {
	ok = s.decode(b)
	return s, ok
}
