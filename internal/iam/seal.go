package iam

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"
)

// ErrSealed is returned for a text that was not sealed under this master key and for
// this purpose: it is forged, changed, cut short, or sealed under another key or label.
// The error does not say which.
var ErrSealed = errors.New("iam: not sealed by this service, or changed since")

// MaxTokenLength is the longest session token, in characters. OpenSession looks
// at nothing longer.
const MaxTokenLength = 4096

// maxSessionLength is how long an encoded session may be for its token to fit.
const maxSessionLength = MaxTokenLength/4*3 - sealOverhead

// Session is a set of temporary credentials for a workload: all that a request
// needs to be verified and attributed, so that any node can do it without a
// look-up.
type Session struct {
	AccountID       string // 12 digits
	Role            string
	SessionName     string
	AccessKeyID     string // "ASIA…"; the request's must equal it
	SecretAccessKey string
	Platform        string // what the workload runs on
	ResourceID      string // which instance, task, pod or runtime it is
	Region          string
	RoleID          uint32 // the store's number of the role; a role made anew under the same name has another
	WorkloadID      uint32 // the store's number of the workload
	ExpiresAt       int64  // Unix milliseconds, UTC; 0 is never
}

// Principal returns who calls with these credentials.
func (s Session) Principal() Principal {
	return Principal{Kind: Role, AccountID: s.AccountID, Name: s.Role, SessionName: s.SessionName}
}

// Expired reports whether the session is over, which it is from ExpiresAt on.
func (s Session) Expired(now time.Time) bool {
	return s.ExpiresAt != 0 && now.UnixMilli() >= s.ExpiresAt
}

// Validate returns an error if the session must not be given to a client.
func (s Session) Validate() error {
	if err := ValidAccountID(s.AccountID); err != nil {
		return err
	}
	if err := ValidName(s.Role); err != nil {
		return fmt.Errorf("role: %w", err)
	}
	if err := ValidSessionName(s.SessionName); err != nil {
		return err
	}
	if !strings.HasPrefix(s.AccessKeyID, SessionKeyPrefix) {
		return fmt.Errorf("access key id %q: a session's must start with %s", clip(s.AccessKeyID), SessionKeyPrefix)
	}
	if s.SecretAccessKey == "" {
		return errors.New("secret access key: must not be empty")
	}
	if n := s.encodedLength(); n > maxSessionLength {
		return fmt.Errorf("session: takes %d bytes, %d too many; shorten the resource id or the platform", n, n-maxSessionLength)
	}
	return nil
}

// strings returns the text fields in the order they are encoded.
func (s *Session) strings() [8]*string {
	return [...]*string{&s.AccountID, &s.Role, &s.SessionName, &s.AccessKeyID, &s.SecretAccessKey, &s.Platform, &s.ResourceID, &s.Region}
}

const sessionNumbers = 4 + 4 + 8 // how many bytes RoleID, WorkloadID and ExpiresAt take

func (s *Session) encodedLength() int {
	n := sessionNumbers
	for _, text := range s.strings() {
		n += 2 + len(*text)
	}
	return n
}

// encode writes the numbers, then each text after its length in two bytes, all
// big-endian. A session has exactly one encoding. The version of the encoding is that
// of the seal.
func (s *Session) encode() []byte {
	b := make([]byte, 0, s.encodedLength())
	b = binary.BigEndian.AppendUint32(b, s.RoleID)
	b = binary.BigEndian.AppendUint32(b, s.WorkloadID)
	b = binary.BigEndian.AppendUint64(b, uint64(s.ExpiresAt))
	for _, text := range s.strings() {
		b = binary.BigEndian.AppendUint16(b, uint16(len(*text)))
		b = append(b, *text...)
	}
	return b
}

func (s *Session) decode(b []byte) bool {
	if len(b) < sessionNumbers {
		return false
	}
	s.RoleID = binary.BigEndian.Uint32(b)
	s.WorkloadID = binary.BigEndian.Uint32(b[4:])
	s.ExpiresAt = int64(binary.BigEndian.Uint64(b[8:]))
	rest := string(b[sessionNumbers:]) // one string for all texts to share
	for _, text := range s.strings() {
		if len(rest) < 2 {
			return false
		}
		n := int(rest[0])<<8 | int(rest[1])
		if rest = rest[2:]; len(rest) < n {
			return false
		}
		*text, rest = rest[:n], rest[n:]
	}
	return rest == ""
}

// Sealer encrypts what only this service may read again: session tokens, which clients
// keep, and secrets, which the store keeps. It may be used concurrently.
//
// A seal is a version byte, a nonce, and AES-256-GCM's output with version and label as
// additional data. The nonce is the HMAC-SHA-256 of what is sealed, cut to 96 bits. So
// sealing needs no randomness, and a nonce repeats only if the same text is sealed again
// (which gives the same seal) or, by chance, once in about 2^48 seals. The price is that
// the seals of equal secrets under the same label are equal.
type Sealer struct {
	session, secret box
}

// PublishedMasterKey is the master key of every sandbox. It is published: nothing that is sealed under it is secret, so
// no production ledger is made with it.
func PublishedMasterKey() []byte { return []byte("the published key of the sandbox") }

// NewSealer returns a Sealer whose keys are derived from a master key of 32 bytes. The
// same master key opens everything that was ever sealed under it.
func NewSealer(master []byte) (*Sealer, error) {
	if len(master) != 32 {
		return nil, fmt.Errorf("master key: must be 32 bytes, not %d", len(master))
	}
	s := new(Sealer)
	for _, b := range []struct {
		box   *box
		label string
	}{{&s.session, "meterd session token"}, {&s.secret, "meterd secret at rest"}} {
		if err := b.box.derive(master, b.label); err != nil {
			return nil, fmt.Errorf("master key: %w", err)
		}
	}
	return s, nil
}

// SealSession returns the session token for session. The same session gives the same
// token. SealSession panics on a session too long to be opened again, which
// [Session.Validate] refuses.
func (s *Sealer) SealSession(session Session) string {
	if n := session.encodedLength(); n > maxSessionLength {
		panic(fmt.Sprintf("internal error: session of %d bytes sealed without Validate", n))
	}
	return base64.RawURLEncoding.EncodeToString(s.session.seal("", session.encode()))
}

// OpenSession returns the session of a token. It checks only the seal: the caller must
// compare AccessKeyID with that of the request, and check Expired. The error is
// ErrSealed.
func (s *Sealer) OpenSession(token string) (Session, error) {
	// The decoder skips line breaks; a token must have one spelling only.
	if len(token) > MaxTokenLength || strings.ContainsAny(token, "\r\n") {
		return Session{}, ErrSealed
	}
	sealed, err := tokenEncoding.DecodeString(token)
	if err != nil {
		return Session{}, ErrSealed
	}
	plain, err := s.session.open("", sealed)
	if err != nil {
		return Session{}, err
	}
	var session Session
	if !session.decode(plain) {
		return Session{}, ErrSealed
	}
	return session, nil
}

var tokenEncoding = base64.RawURLEncoding.Strict()

// Seal encrypts a secret for the store. Open decrypts it only under the same label. The
// label should name the row and column, so that a seal cannot be used in another place.
func (s *Sealer) Seal(label string, plaintext []byte) []byte {
	return s.secret.seal(label, plaintext)
}

// Open returns the plaintext that Seal was given, or ErrSealed. It does not change
// sealed.
func (s *Sealer) Open(label string, sealed []byte) ([]byte, error) {
	return s.secret.open(label, append([]byte(nil), sealed...))
}

const (
	sealVersion  = 1
	nonceSize    = 12
	sealOverhead = 1 + nonceSize + 16
)

// box seals texts for one purpose, with keys of its own.
type box struct {
	aead     cipher.AEAD
	nonceKey []byte
}

func (b *box) derive(master []byte, label string) error {
	key, err := hkdf.Key(sha256.New, master, nil, label+" v1: AES-256-GCM key", 32)
	if err != nil {
		return err
	}
	if b.nonceKey, err = hkdf.Key(sha256.New, master, nil, label+" v1: nonce key", 32); err != nil {
		return err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return err
	}
	b.aead, err = cipher.NewGCM(block)
	return err
}

func (b *box) seal(label string, plaintext []byte) []byte {
	mac := hmac.New(sha256.New, b.nonceKey)
	mac.Write(binary.BigEndian.AppendUint64(nil, uint64(len(label))))
	mac.Write([]byte(label))
	mac.Write(plaintext)

	sealed := make([]byte, 0, sealOverhead+len(plaintext))
	sealed = append(sealed, sealVersion)
	sealed = append(sealed, mac.Sum(nil)[:nonceSize]...)
	return b.aead.Seal(sealed, sealed[1:], plaintext, additionalData(label))
}

// open decrypts in place: it overwrites sealed.
func (b *box) open(label string, sealed []byte) ([]byte, error) {
	if len(sealed) < sealOverhead || sealed[0] != sealVersion {
		return nil, ErrSealed
	}
	nonce, text := sealed[1:1+nonceSize], sealed[1+nonceSize:]
	plaintext, err := b.aead.Open(text[:0], nonce, text, additionalData(label))
	if err != nil {
		return nil, ErrSealed
	}
	return plaintext, nil
}

func additionalData(label string) []byte {
	return append([]byte{sealVersion}, label...)
}
