package iam_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/meterd/meterd/internal/iam"
)

var master = bytes.Repeat([]byte{7}, 32)

func newSealer(t testing.TB, master []byte) *iam.Sealer {
	t.Helper()
	s, err := iam.NewSealer(master)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// aSession has another value in every field.
func aSession() iam.Session {
	return iam.Session{
		AccountID: "111122223333", Role: "app", SessionName: "i-0123456789abcdef0",
		AccessKeyID: "ASIAEXAMPLEEXAMPLE23", SecretAccessKey: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
		Platform: "ec2", ResourceID: "i-0123456789abcdef0", Region: "us-east-1",
		RoleID: 1<<32 - 2, WorkloadID: 7, ExpiresAt: 1795446245123,
	}
}

func TestNewSealer(t *testing.T) {
	for _, n := range []int{0, 16, 31, 33, 64} {
		if s, err := iam.NewSealer(make([]byte, n)); err == nil || s != nil || !strings.Contains(err.Error(), "must be 32 bytes, not ") {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

func TestSealSession(t *testing.T) {
	s := newSealer(t, master)
	sessions := []iam.Session{
		{}, aSession(),
		{ExpiresAt: math.MinInt64, RoleID: math.MaxUint32, WorkloadID: math.MaxUint32},
		{ResourceID: strings.Repeat("é", 1000)},
		{Platform: "\x00\xff\n"},
	}
	seen := map[string]bool{}
	for _, session := range sessions {
		token := s.SealSession(session)
		if seen[token] {
			t.Errorf("two sessions have the token %s", token)
		}
		seen[token] = true
		if got, err := s.OpenSession(token); err != nil || got != session {
			t.Errorf("opened %+v (%v)\nwant %+v", got, err, session)
		}
		if again := newSealer(t, master).SealSession(session); again != token {
			t.Error("the same session seals differently")
		}
		if strings.Trim(token, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			t.Errorf("token %q is not base64url", token)
		}
		if session.SecretAccessKey != "" && strings.Contains(token, base64.RawURLEncoding.EncodeToString([]byte(session.SecretAccessKey))[4:40]) {
			t.Error("the token shows the secret")
		}
	}
}

// TestSealSessionFields changes one field after the other; each must come back,
// and make another token.
func TestSealSessionFields(t *testing.T) {
	s := newSealer(t, master)
	base := s.SealSession(aSession())
	for i := range reflect.TypeFor[iam.Session]().NumField() {
		session := aSession()
		switch field := reflect.ValueOf(&session).Elem().Field(i); field.Kind() {
		case reflect.String:
			field.SetString(field.String() + "!")
		case reflect.Uint32:
			field.SetUint(field.Uint() + 1)
		case reflect.Int64:
			field.SetInt(field.Int() + 1)
		default:
			t.Fatalf("field %d has kind %v", i, field.Kind())
		}
		token := s.SealSession(session)
		if got, err := s.OpenSession(token); err != nil || got != session || token == base {
			t.Errorf("field %d: %+v, %v", i, got, err)
		}
	}
}

func TestSealSessionBound(t *testing.T) {
	s := newSealer(t, master)
	session := aSession()
	session.ResourceID = ""
	for session.Validate() == nil {
		session.ResourceID += "x"
	}
	if err := session.Validate(); !strings.Contains(err.Error(), "1 too many") {
		t.Error(err)
	}
	longest := session
	longest.ResourceID = longest.ResourceID[1:]
	token := s.SealSession(longest)
	if got, err := s.OpenSession(token); err != nil || got != longest {
		t.Errorf("the longest session: %v", err)
	}
	if len(token) > iam.MaxTokenLength || len(token) < iam.MaxTokenLength-4 {
		t.Errorf("the longest token has %d characters", len(token))
	}
	defer func() {
		if recover() == nil {
			t.Error("a session too long was sealed")
		}
	}()
	s.SealSession(session)
}

func TestOpenSessionRefuses(t *testing.T) {
	s := newSealer(t, master)
	token := s.SealSession(aSession())
	binary, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil {
		t.Fatal(err)
	}
	refuse := func(name, token string) {
		t.Helper()
		if got, err := s.OpenSession(token); err != iam.ErrSealed || got != (iam.Session{}) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	encode := base64.RawURLEncoding.EncodeToString
	for i := range binary {
		for bit := range 8 {
			changed := bytes.Clone(binary)
			changed[i] ^= 1 << bit
			refuse(fmt.Sprintf("bit %d of byte %d", bit, i), encode(changed))
		}
		refuse(fmt.Sprintf("cut to %d bytes", i), encode(binary[:i]))
		refuse(fmt.Sprintf("from byte %d", i+1), encode(binary[i+1:]))
	}
	for i := range token {
		for _, other := range []string{"", "A", "-", "=", "\n", "\r", " ", "é", "\x00"} {
			if changed := token[:i] + other + token[i+1:]; changed != token {
				refuse(fmt.Sprintf("character %d is %q", i, other), changed)
			}
			if other != "" {
				refuse(fmt.Sprintf("%q before character %d", other, i), token[:i]+other+token[i:])
			}
		}
	}
	refuse("empty", "")
	refuse("a byte more", encode(append(bytes.Clone(binary), 0)))
	refuse("twice", token+token)
	refuse("padded", base64.URLEncoding.EncodeToString(append(bytes.Clone(binary), 0)))
	refuse("standard base64", base64.StdEncoding.EncodeToString(binary)+"+/")
	refuse("line break at the end", token+"\n")
	refuse("too long", strings.Repeat("A", iam.MaxTokenLength+1))
	tooLong := strings.Repeat("A", iam.MaxTokenLength+1)
	if n := testing.AllocsPerRun(10, func() { s.OpenSession(tooLong) }); n != 0 {
		t.Errorf("a token too long costs %v allocations", n)
	}
	refuse("as long as may be", strings.Repeat("A", iam.MaxTokenLength))
	refuse("another key", newSealer(t, bytes.Repeat([]byte{8}, 32)).SealSession(aSession()))
	refuse("a secret at rest", encode(s.Seal("", binary)))
	if _, err := s.Open("", binary); err != iam.ErrSealed {
		t.Errorf("a session opened as a secret at rest: %v", err)
	}
}

// TestOpenSessionSpelling: the last character of a token may have bits to spare,
// which must be zero.
func TestOpenSessionSpelling(t *testing.T) {
	s := newSealer(t, master)
	for n := range 3 {
		session := aSession()
		session.ResourceID = strings.Repeat("x", n)
		token := s.SealSession(session)
		for _, c := range "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_" {
			other := token[:len(token)-1] + string(c)
			if _, err := s.OpenSession(other); (err == nil) != (other == token) {
				t.Errorf("token of %d characters with %q for the last: %v", len(token), c, err)
			}
		}
	}
}

func TestSessionEncoding(t *testing.T) {
	b := iam.EncodeSession(aSession())
	if got, ok := iam.DecodeSession(b); !ok || got != aSession() {
		t.Errorf("decoded %+v", got)
	}
	for n := range b {
		if _, ok := iam.DecodeSession(b[:n]); ok {
			t.Errorf("decoded when cut to %d bytes", n)
		}
	}
	if _, ok := iam.DecodeSession(append(b, 0)); ok {
		t.Error("decoded with a byte more")
	}
}

func TestSessionExpired(t *testing.T) {
	at := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	session := iam.Session{ExpiresAt: at.UnixMilli()}
	for now, want := range map[time.Time]bool{at.Add(-time.Millisecond): false, at: true, at.Add(time.Hour): true} {
		if session.Expired(now) != want {
			t.Errorf("at %v: %t", now, !want)
		}
	}
	if (iam.Session{}).Expired(at) {
		t.Error("a session without an end is over")
	}
}

func TestSessionValidate(t *testing.T) {
	if err := aSession().Validate(); err != nil {
		t.Error(err)
	}
	for want, edit := range map[string]func(*iam.Session){
		"12 digits":                   func(s *iam.Session) { s.AccountID = "1" },
		"role: name":                  func(s *iam.Session) { s.Role = "" },
		"session name":                func(s *iam.Session) { s.SessionName = "x" },
		"must start with ASIA":        func(s *iam.Session) { s.AccessKeyID = "AKIAEXAMPLE" },
		"secret access key: must not": func(s *iam.Session) { s.SecretAccessKey = "" },
		"shorten the resource id":     func(s *iam.Session) { s.ResourceID = strings.Repeat("x", 70_000) },
	} {
		session := aSession()
		edit(&session)
		if err := session.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	if got, want := aSession().Principal().ARN(), "arn:aws:sts::111122223333:assumed-role/app/i-0123456789abcdef0"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestSeal(t *testing.T) {
	s := newSealer(t, master)
	for _, plain := range [][]byte{nil, {0}, []byte("secret"), bytes.Repeat([]byte("x"), 100_000)} {
		sealed := s.Seal("access_key/AKIA1", plain)
		if !bytes.Equal(sealed, s.Seal("access_key/AKIA1", plain)) {
			t.Error("the same secret seals differently")
		}
		if bytes.Equal(sealed, s.Seal("access_key/AKIA2", plain)) {
			t.Error("a secret seals the same under another label")
		}
		if len(plain) > 1 && bytes.Contains(sealed, plain) {
			t.Error("the seal shows the secret")
		}
		before := bytes.Clone(sealed)
		for range 2 {
			if got, err := s.Open("access_key/AKIA1", sealed); err != nil || !bytes.Equal(got, plain) {
				t.Errorf("opened %d bytes of %d, %v", len(got), len(plain), err)
			}
		}
		if !bytes.Equal(sealed, before) {
			t.Error("Open changed its argument")
		}
		for _, label := range []string{"", "access_key/AKIA2", "access_key/AKIA1\x00"} {
			if got, err := s.Open(label, sealed); err != iam.ErrSealed || got != nil {
				t.Errorf("opened under %q: %v", label, err)
			}
		}
		if got, err := newSealer(t, bytes.Repeat([]byte{8}, 32)).Open("access_key/AKIA1", sealed); err != iam.ErrSealed || got != nil {
			t.Errorf("opened with another key: %v", err)
		}
	}
	sealed := s.Seal("l", []byte("secret"))
	for i := range sealed {
		changed := bytes.Clone(sealed)
		changed[i] ^= 1
		if _, err := s.Open("l", changed); err != iam.ErrSealed {
			t.Errorf("opened with byte %d changed: %v", i, err)
		}
		if _, err := s.Open("l", sealed[:i]); err != iam.ErrSealed {
			t.Errorf("opened when cut to %d bytes: %v", i, err)
		}
	}
	// Label and secret must not run into each other.
	if bytes.Equal(s.Seal("a", []byte("bc"))[1:13], s.Seal("ab", []byte("c"))[1:13]) {
		t.Error("two secrets have one nonce")
	}
}

const (
	sealedSecret  = "01c84f0d46da3fd806a89358fb1fdd1049272cabe7454a217e3b2217eadb4bd58fd21c"
	sealedSession = "AWWaRYMXN5J9BpE6QK5g9sh0NUoDwXdtQWobwLFdm9M276HLrXhYJELSrOHYlgc-BNXDfNIioLVqSWWMzBiM4GlGDrtT1LJvQqsVIunORPSUdU8mZ7nSGzFL9Jl4sHtrtUa2-91jTw1ooN3LeSM9whum2hO8bAqkbWKSxZgwsm2dWihXgKzWSlkpU5iFUQ4YOTjU61Pc8MAjfYyt2jl-0dNzLDhoty9XoGx_ZZ0qRJBmvvulK9pT0DuK"
)

// TestSealStays pins the format: what was sealed by earlier versions must open.
func TestSealStays(t *testing.T) {
	s := newSealer(t, master)
	for _, test := range []struct {
		name, got, want string
	}{
		{"secret", hex.EncodeToString(s.Seal("label", []byte("secret"))), sealedSecret},
		{"session", s.SealSession(aSession()), sealedSession},
	} {
		if test.got != test.want {
			t.Errorf("%s is now\n%s, was\n%s", test.name, test.got, test.want)
		}
	}
}

func TestSealerConcurrently(t *testing.T) {
	s := newSealer(t, master)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			session := aSession()
			session.WorkloadID = uint32(i)
			for range 100 {
				if got, err := s.OpenSession(s.SealSession(session)); err != nil || got != session {
					t.Error(got, err)
				}
			}
		})
	}
	wg.Wait()
}

// FuzzOpenSession: no token makes OpenSession panic, none but its own sealing
// opens, and every session comes back from its token.
func FuzzOpenSession(f *testing.F) {
	s, err := iam.NewSealer(master)
	if err != nil {
		f.Fatal(err)
	}
	token := s.SealSession(aSession())
	f.Add(token, "111122223333", "app", "i-0123", "", int64(0), uint32(1), uint16(0))
	f.Add(token[1:], "", "", "", "é\x00", int64(-1), uint32(1<<31), uint16(999))
	f.Add("AQ", "a", "b", "c", strings.Repeat("x", 4000), int64(1)<<62, uint32(0), uint16(13))
	f.Fuzz(func(t *testing.T, token, account, role, secret, resource string, expires int64, id uint32, flip uint16) {
		if got, err := s.OpenSession(token); err == nil {
			if s.SealSession(got) != token {
				t.Errorf("%q opens to %+v, which seals otherwise", token, got)
			}
		} else if !errors.Is(err, iam.ErrSealed) || got != (iam.Session{}) {
			t.Errorf("%q: %+v, %v", token, got, err)
		}
		if len(account)+len(role)+len(secret)+len(resource) > 3000 {
			return
		}
		session := iam.Session{AccountID: account, Role: role, SecretAccessKey: secret, ResourceID: resource, ExpiresAt: expires, RoleID: id, WorkloadID: ^id}
		sealed := s.SealSession(session)
		if got, err := s.OpenSession(sealed); err != nil || got != session {
			t.Errorf("%+v came back as %+v, %v", session, got, err)
		}
		binary, err := base64.RawURLEncoding.DecodeString(sealed)
		if err != nil {
			t.Fatal(err)
		}
		binary[int(flip/8)%len(binary)] ^= 1 << (flip % 8)
		if got, err := s.OpenSession(base64.RawURLEncoding.EncodeToString(binary)); err != iam.ErrSealed {
			t.Errorf("opened with bit %d flipped: %+v, %v", flip, got, err)
		}
	})
}

func BenchmarkOpenSession(b *testing.B) {
	s, err := iam.NewSealer(master)
	if err != nil {
		b.Fatal(err)
	}
	token := s.SealSession(aSession())
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.OpenSession(token); err != nil {
			b.Fatal(err)
		}
	}
}
