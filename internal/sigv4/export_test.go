package sigv4

import "strings"

// MaxKeys is the bound of the key cache.
const MaxKeys = maxKeys

// Keys returns how many signing keys v holds.
func (v *Verifier[P]) Keys() int { return len(v.keys.keys) }

// FillKeys derives n signing keys nobody uses.
func (v *Verifier[P]) FillKeys(n int) {
	for i := range n {
		v.keys.get(keyScope{strings.Repeat("A", i%100+1), strings.Repeat("1", i/100+1), "r", "s"}, "secret")
	}
}

// HMAC is this package's own HMAC-SHA-256, for a key of at most 64 bytes.
func HMAC(key, text []byte) [32]byte { return newSigningKey("", key).sign(text) }

// Parsed shows a parsed Authorization header to the tests.
type Parsed struct {
	AccessKeyID, Scope, Day, Region, Service, SignedHeaders string
	Signature                                               [32]byte
}

// Parse parses an Authorization header.
func Parse(header string) (Parsed, *Error) {
	a, err := parseAuthorization(header)
	return Parsed{a.accessKeyID, a.scope, a.day, a.region, a.service, a.signedHeaders, a.signature}, err
}
