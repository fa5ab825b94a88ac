package iam

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"fmt"
	"io"
)

// The prefixes of access key ids ("IAM identifiers", IAM User Guide).
const (
	UserKeyPrefix    = "AKIA" // a user's, which lasts until it is deleted
	SessionKeyPrefix = "ASIA" // temporary; not valid without its session token
)

// NewAccessKey makes an access key pair that looks like those of AWS. The id has 20
// upper-case letters and digits with 80 random bits and starts with prefix, which is
// [UserKeyPrefix] or [SessionKeyPrefix]. The secret has 40 characters with 240 random
// bits.
func NewAccessKey(random io.Reader, prefix string) (id, secret string, err error) {
	if prefix != UserKeyPrefix && prefix != SessionKeyPrefix {
		return "", "", fmt.Errorf("access key prefix %q: must be %s or %s", clip(prefix), UserKeyPrefix, SessionKeyPrefix)
	}
	var b [40]byte
	if _, err := io.ReadFull(random, b[:]); err != nil {
		return "", "", fmt.Errorf("access key: read random bytes: %w", err)
	}
	return prefix + base32.StdEncoding.EncodeToString(b[:10]), base64.StdEncoding.EncodeToString(b[10:]), nil
}

// bearerPrefix lets people and secret scanners recognize a token.
const bearerPrefix = "meterd_"

// NewBearerToken makes a token for the admin API, with 256 random bits, and the
// hash of it to be stored.
func NewBearerToken(random io.Reader) (token string, hash [32]byte, err error) {
	var b [32]byte
	if _, err := io.ReadFull(random, b[:]); err != nil {
		return "", hash, fmt.Errorf("bearer token: read random bytes: %w", err)
	}
	token = bearerPrefix + base64.RawURLEncoding.EncodeToString(b[:])
	return token, HashBearerToken(token), nil
}

// HashBearerToken returns the hash by which a token is stored and found. A plain
// SHA-256 is enough, because nobody can guess so many random bits. Looking the hash up
// in a table reveals nothing of the token; comparing two hashes should still take
// constant time.
func HashBearerToken(token string) [32]byte { return sha256.Sum256([]byte(token)) }
