package ledger_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/meterd/meterd/internal/iam"
	"github.com/meterd/meterd/internal/ledger"
	"github.com/meterd/meterd/internal/metering"
	"github.com/meterd/meterd/internal/pgtest"
	"github.com/meterd/meterd/internal/store"
	"github.com/meterd/meterd/internal/verify"
)

// holds reports whether a secret is anywhere in what a ledger stores, in one of the forms that it could have there.
func holds(t *testing.T, place string, secret []byte) bool {
	t.Helper()
	var stored []byte
	if store.IsURL(place) {
		err := store.Read(place, func(r *store.Reader, m store.Meta) (err error) {
			stored, err = r.Value("ledger")
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	} else {
		entries, err := os.ReadDir(place)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			content, err := os.ReadFile(filepath.Join(place, e.Name()))
			if err != nil && !e.IsDir() {
				t.Fatal(err)
			}
			stored = append(stored, content...)
		}
	}
	for _, form := range [][]byte{secret, []byte(base64.StdEncoding.EncodeToString(secret)), []byte(hex.EncodeToString(secret))} {
		if bytes.Contains(stored, form) {
			return true
		}
	}
	return false
}

// TestSecretIsSealed: what a ledger stores does not hold what ids and tokens are derived from, neither a new one nor one
// of format 2, which did, and whose ids and tokens are the same afterwards.
func TestSecretIsSealed(t *testing.T) {
	secret := bytes.Repeat([]byte("secret"), 6)[:32]
	key := []byte("a master key of thirty-two bytes")
	sealer, err := iam.NewSealer(key)
	if err != nil {
		t.Fatal(err)
	}
	for _, older := range []bool{false, true} {
		place := pgtest.Place(t, t.TempDir())
		cfg := ledger.Config{Store: place, MasterKey: key, Random: bytes.NewReader(secret), Log: slog.New(slog.DiscardHandler)}
		if older {
			meta := store.Meta{Secret: secret, Check: sealer.Seal("check", []byte("meterd"))}
			err = store.Create(place, meta, func(*store.Tx) error { return nil })
		} else {
			err = ledger.Create(cfg)
		}
		if err != nil {
			t.Fatal(err)
		}
		if holds(t, place, secret) != older {
			t.Fatalf("of format 2 %t: the secret is stored %t", older, !older)
		}
		other := cfg
		other.MasterKey = make([]byte, 32)
		if _, err := ledger.Open(other); err == nil || !strings.Contains(err.Error(), "the master key is not the one") {
			t.Errorf("of format 2 %t: another master key: %v", older, err)
		}
		if holds(t, place, secret) != older {
			t.Errorf("of format 2 %t: it was changed, and then refused", older)
		}
		for range 2 {
			l, err := ledger.Open(cfg)
			if err != nil {
				t.Fatal(err)
			}
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			if holds(t, place, secret) {
				t.Errorf("of format 2 %t: the secret is stored as it is", older)
			}
		}
		db, err := store.Open(place, store.Options{Admit: func(m *store.Meta) error {
			if m.Secret != nil || m.Format != store.Format {
				t.Errorf("of format 2 %t: stored are %+v", older, m)
			}
			m.Secret, err = sealer.Open("ledger secret", m.Sealed)
			return err
		}})
		if err != nil {
			t.Fatal(err)
		}
		if got := db.Meta().Secret; !bytes.Equal(got, secret) {
			t.Errorf("of format 2 %t: the secret is %q", older, got)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestPublishedMasterKey(t *testing.T) {
	dir := t.TempDir()
	err := ledger.Create(ledger.Config{Store: pgtest.Place(t, dir), MasterKey: iam.PublishedMasterKey()})
	if err == nil || !strings.Contains(err.Error(), "published") {
		t.Errorf("a production ledger with the key of every sandbox: %v", err)
	}
}

// TestVerifyWithoutKey: what takes the secret is left out and said, and a wrong key is no key.
func TestVerifyWithoutKey(t *testing.T) {
	s := makeShop(t, pgtest.Place(t, t.TempDir()), []byte("a master key of thirty-two bytes"))
	if _, _, refusal := s.meter("agentcore", "pods", 3, "t"); refusal != nil {
		t.Fatal(refusal)
	}
	if r := verified(t, s.dir, verify.Options{}); r.ProblemCount != 0 || r.Unchecked != 1 || r.Records != 1 {
		t.Errorf("without a key: %+v", r)
	}
	if r := verified(t, s.dir, verify.Options{MasterKey: s.key}); r.ProblemCount != 0 || r.Unchecked != 0 {
		t.Errorf("with its key: %+v", r)
	}
	if _, err := verify.Ledger(s.dir, verify.Options{MasterKey: make([]byte, 32)}); err == nil || !strings.Contains(err.Error(), "the master key is not the one") {
		t.Errorf("with another key: %v", err)
	}
	if _, err := verify.Ledger(s.dir, verify.Options{Acknowledged: map[metering.RecordID]int32{}}); err == nil {
		t.Error("what was acknowledged was compared without a key")
	}
}
