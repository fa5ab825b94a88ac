package iam_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/meterd/meterd/internal/iam"
)

func newRandom() io.Reader { return rand.NewChaCha8([32]byte{1}) }

func TestNewAccessKey(t *testing.T) {
	random := newRandom()
	seen := map[string]bool{}
	for range 200 {
		for _, prefix := range []string{iam.UserKeyPrefix, iam.SessionKeyPrefix} {
			id, secret, err := iam.NewAccessKey(random, prefix)
			if err != nil {
				t.Fatal(err)
			}
			if !regexp.MustCompile(`^` + prefix + `[A-Z2-7]{16}$`).MatchString(id) {
				t.Errorf("id %q", id)
			}
			if !regexp.MustCompile(`^[A-Za-z0-9+/]{40}$`).MatchString(secret) {
				t.Errorf("secret of %d characters", len(secret))
			}
			if seen[id[4:]] || seen[secret] {
				t.Error("the same twice")
			}
			seen[id[4:]], seen[secret] = true, true
		}
	}
}

func TestNewAccessKeyRefuses(t *testing.T) {
	for _, prefix := range []string{"", "AKI", "akia", "AROA", strings.Repeat("A", 1000)} {
		if id, secret, err := iam.NewAccessKey(newRandom(), prefix); err == nil || id+secret != "" || !strings.Contains(err.Error(), "must be AKIA or ASIA") {
			t.Errorf("prefix %.80q: %v", prefix, err)
		}
	}
}

func TestNewBearerToken(t *testing.T) {
	random := newRandom()
	a, hash, err := iam.NewBearerToken(random)
	if err != nil {
		t.Fatal(err)
	}
	if !regexp.MustCompile(`^meterd_[A-Za-z0-9_-]{43}$`).MatchString(a) {
		t.Errorf("token %q", a)
	}
	if hash != iam.HashBearerToken(a) || hash != sha256.Sum256([]byte(a)) {
		t.Error("the hash is another token's")
	}
	b, other, err := iam.NewBearerToken(random)
	if err != nil || a == b || hash == other {
		t.Errorf("the same twice, or %v", err)
	}
}

func TestRandomFails(t *testing.T) {
	broken := errors.New("no entropy")
	short := func() io.Reader { return bytes.NewReader(make([]byte, 31)) }
	for _, random := range []func() io.Reader{func() io.Reader { return iotest.ErrReader(broken) }, short} {
		if id, secret, err := iam.NewAccessKey(random(), iam.UserKeyPrefix); err == nil || id+secret != "" {
			t.Errorf("made an access key: %v", err)
		}
		if token, hash, err := iam.NewBearerToken(random()); err == nil || token != "" || hash != [32]byte{} {
			t.Errorf("made a token: %v", err)
		}
	}
	if _, _, err := iam.NewAccessKey(iotest.ErrReader(broken), iam.UserKeyPrefix); !errors.Is(err, broken) {
		t.Error(err)
	}
	if _, _, err := iam.NewAccessKey(iotest.OneByteReader(newRandom()), iam.UserKeyPrefix); err != nil {
		t.Error(err)
	}
}
