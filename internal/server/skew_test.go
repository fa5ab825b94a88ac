package server_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/meterd/meterd/internal/adminapi"
	"github.com/meterd/meterd/internal/iam"
	"github.com/meterd/meterd/internal/ledger"
	"github.com/meterd/meterd/internal/market"
	"github.com/meterd/meterd/internal/metering"
	"github.com/meterd/meterd/internal/pgtest"
	"github.com/meterd/meterd/internal/server"
)

// In a sandbox whose clock was moved a signature is good by either clock.
func TestSignaturesByEitherClock(t *testing.T) {
	e := openEndpoint(t)
	moved := wall.Add(40 * 24 * time.Hour)
	if _, err := e.ledger.ChangeClock(context.Background(), e.ledger.Local(), adminapi.ClockChange{Now: &moved, Frozen: new(true)}); err != nil {
		t.Fatal(err)
	}
	body := `{"RegistrationToken":"x"}`
	for _, c := range []struct {
		at   time.Time
		good bool
	}{
		{wall, true}, {moved, true}, {wall.Add(299 * time.Second), true}, {moved.Add(-299 * time.Second), true},
		{wall.Add(301 * time.Second), false}, {moved.Add(301 * time.Second), false}, {wall.Add(20 * 24 * time.Hour), false}, {wall.Add(-time.Hour), false},
	} {
		s := e.seller
		s.at = c.at
		want := "InvalidSignatureException"
		if c.good {
			want = "InvalidTokenException"
		}
		if a := e.call(s, "ResolveCustomer", body); a.code != want {
			t.Errorf("signed at %v: %s %s, want %s", c.at, a.code, a.message, want)
		}
	}
}

// In production it is the wall clock alone that counts, wherever ledger time stands: here it waits for a machine's clock
// that was ahead.
func TestSignaturesByTheWallClock(t *testing.T) {
	now := wall.Add(2 * time.Hour)
	cfg := ledger.Config{Store: pgtest.Place(t, t.TempDir()), MasterKey: []byte("a master key of thirty-two bytes"), Now: func() time.Time { return now }, Log: slog.New(slog.DiscardHandler)}
	if err := ledger.Create(cfg); err != nil {
		t.Fatal(err)
	}
	l, err := ledger.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	if _, err := ledger.Act(context.Background(), l, l.Local(), market.CreateSeller(adminapi.Seller{AccountID: "123456789012"})); err != nil {
		t.Fatal(err)
	}
	seller, err := ledger.Act(context.Background(), l, l.Local(), market.CreatePrincipal(iam.User, adminapi.Principal{AccountID: "123456789012", Name: "meter", Allow: []string{iam.SellerAccess}}))
	if err != nil {
		t.Fatal(err)
	}
	key, err := ledger.Act(context.Background(), l, l.Local(), market.CreateAccessKey(adminapi.PrincipalPath{AccountID: seller.AccountID, Name: seller.Name}))
	if err != nil {
		t.Fatal(err)
	}
	now = wall
	if ahead := l.Now().Sub(metering.InstantOf(wall)); ahead < time.Hour {
		t.Fatalf("ledger time is only %v ahead", ahead)
	}
	e := &endpoint{TB: t, ledger: l, handler: server.NewAWS(server.AWSConfig{Ledger: l, Log: cfg.Log})}
	for at, want := range map[time.Time]string{wall: "InvalidTokenException", l.Now().Time(): "InvalidSignatureException"} {
		s := signer{region: "us-east-1", service: "aws-marketplace", at: at}
		s.AccessKeyID, s.SecretAccessKey = key.AccessKeyID, key.SecretAccessKey
		if a := e.call(s, "ResolveCustomer", `{"RegistrationToken":"x"}`); a.code != want {
			t.Errorf("signed at %v: %s %s, want %s", at, a.code, a.message, want)
		}
	}
}
