package sandbox_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/meterd/meterd/internal/adminapi"
	"github.com/meterd/meterd/internal/ledger"
	"github.com/meterd/meterd/internal/pgtest"
	"github.com/meterd/meterd/internal/sandbox"
	"github.com/meterd/meterd/internal/store"
)

var now = time.Date(2026, 11, 23, 15, 20, 0, 0, time.UTC)

func open(t *testing.T, dir string, o sandbox.Options) *ledger.Ledger {
	t.Helper()
	l, err := sandbox.Open(ledger.Config{Store: pgtest.Place(t, dir)}, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func describe(t *testing.T, l *ledger.Ledger) *sandbox.Description {
	t.Helper()
	d, err := sandbox.Describe(l, sandbox.Endpoints{AWS: "http://127.0.0.1:4880", Admin: "http://127.0.0.1:4881", Ops: "http://127.0.0.1:4882"})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestSeed checks what every sandbox promises to hold.
func TestSeed(t *testing.T) {
	d := describe(t, open(t, t.TempDir(), sandbox.Options{Now: now}))
	if d.Version != 1 || d.Region != "us-east-1" || len(d.Regions) < 28 || len(d.Sellers) != 2 || len(d.Products) != 5 || len(d.Buyers) != 3 {
		t.Fatalf("version %d, region %s, %d regions, %d sellers, %d products, %d buyers", d.Version, d.Region, len(d.Regions), len(d.Sellers), len(d.Products), len(d.Buyers))
	}
	for _, s := range d.Sellers {
		if s.AccessKeyID == "" || s.SecretAccessKey == "" || s.Powerless.AccessKeyID == "" || s.AccessKeyID == s.Powerless.AccessKeyID {
			t.Errorf("seller %s has no two pairs of keys: %+v", s.Name, s)
		}
	}
	a, b, c := d.Buyers[0], d.Buyers[1], d.Buyers[2]
	for _, want := range []struct {
		buyer         sandbox.Buyer
		subscriptions int
		status        string
	}{{a, 5, "active"}, {b, 0, ""}, {c, 5, "ended"}} {
		if len(want.buyer.Subscriptions) != want.subscriptions || want.buyer.AccessKeyID == "" {
			t.Errorf("%s: %d subscriptions, want %d, and keys", want.buyer.Name, len(want.buyer.Subscriptions), want.subscriptions)
		}
		for _, s := range want.buyer.Subscriptions {
			if s.Status != want.status || s.LicenseARN == "" || s.AgreementID == "" || s.CustomerIdentifier == "" || s.ProductID == "" ||
				s.RegistrationToken == "" || s.ExpiredRegistrationToken == "" {
				t.Errorf("%s: %+v", want.buyer.Name, s)
			}
		}
	}
	platforms := map[string]int{}
	for _, w := range a.Workloads {
		platforms[w.Platform]++
		if w.SessionToken == "" || w.SecretAccessKey == "" || w.Region != "us-east-1" {
			t.Errorf("workload %+v", w)
		}
	}
	if want := map[string]int{"ec2": 2, "ecs": 2, "eks": 2, "agentcore": 2}; !reflect.DeepEqual(platforms, want) {
		t.Errorf("buyer A's workloads: %v, want %v", platforms, want)
	}
	var expired []bool
	for _, p := range d.Products {
		if p.ProductCode == sandbox.Hourly {
			for _, k := range p.PublicKeys {
				expired = append(expired, k.Expired)
			}
		}
	}
	if want := []bool{true, false}; !reflect.DeepEqual(expired, want) {
		t.Errorf("the hourly product's keys are expired: %v, want %v", expired, want)
	}
}

// TestAgain starts a sandbox again on its folder: nothing of the marketplace changes.
func TestAgain(t *testing.T) {
	dir := t.TempDir()
	first := open(t, dir, sandbox.Options{})
	before := describe(t, first)
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	after := describe(t, open(t, dir, sandbox.Options{}))
	for _, d := range []*sandbox.Description{before, after} {
		for i := range d.Buyers {
			d.Buyers[i].Workloads = nil // sessions and tokens are made anew; the old ones stay good
			for j := range d.Buyers[i].Subscriptions {
				s := &d.Buyers[i].Subscriptions[j]
				s.RegistrationToken, s.ExpiredRegistrationToken = "", ""
			}
		}
	}
	if !reflect.DeepEqual(before, after) {
		t.Errorf("before %+v\nafter %+v", before, after)
	}
}

// TestCutShort starts a sandbox again that was killed when its ledger had been made, but not its marketplace.
func TestCutShort(t *testing.T) {
	dir := t.TempDir()
	if err := ledger.Create(ledger.Config{Store: pgtest.Place(t, dir), MasterKey: sandbox.MasterKey(), Sandbox: true}); err != nil {
		t.Fatal(err)
	}
	l := open(t, dir, sandbox.Options{Now: now})
	if d := describe(t, l); len(d.Sellers) != 2 || len(d.Products) != 5 || len(d.Buyers) != 3 {
		t.Errorf("%d sellers, %d products, %d buyers", len(d.Sellers), len(d.Products), len(d.Buyers))
	}
	if at := l.Now().Time(); !at.Equal(now) {
		t.Errorf("its clock stands at %v, not %v", at, now)
	}
	later := now.Add(time.Hour)
	if _, err := l.ChangeClock(l.Local(), adminapi.ClockChange{Now: &later}); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if at := open(t, dir, sandbox.Options{Now: now}).Now().Time(); !at.Equal(later) {
		t.Errorf("started again, its clock stands at %v, not %v", at, later)
	}
}

// TestRefusesProduction keeps the published keys away from real ledgers.
func TestRefusesProduction(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ledger")
	if err := ledger.Create(ledger.Config{Store: pgtest.Place(t, dir), MasterKey: make([]byte, 32)}); err != nil {
		t.Fatal(err)
	}
	if l, err := sandbox.Open(ledger.Config{Store: pgtest.Place(t, dir)}, sandbox.Options{}); err == nil {
		l.Close()
		t.Error("a sandbox opened a production ledger")
	}
	dir = filepath.Join(t.TempDir(), "sandbox")
	open(t, dir, sandbox.Options{}).Close()
	if l, err := ledger.Open(ledger.Config{Store: pgtest.Place(t, dir), MasterKey: sandbox.MasterKey()}); err == nil {
		l.Close()
		t.Error("a sandbox was opened as a production ledger")
	}
	if there, err := store.Exists(pgtest.Place(t, dir)); !there || err != nil {
		t.Error("the sandbox is gone")
	}
}

// TestWrite checks that the description is the contract's JSON.
func TestWrite(t *testing.T) {
	file := filepath.Join(t.TempDir(), "sandbox.json")
	if err := describe(t, open(t, t.TempDir(), sandbox.Options{})).Write(file); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var d map[string]any
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"version", "endpoint", "admin_endpoint", "admin_token", "ops_endpoint", "region", "regions", "sellers", "buyers", "products"} {
		if _, ok := d[name]; !ok {
			t.Errorf("the description has no %q", name)
		}
	}
	buyer := d["buyers"].([]any)[0].(map[string]any)
	for _, name := range []string{"name", "account_id", "access_key_id", "secret_access_key", "subscriptions", "workloads"} {
		if _, ok := buyer[name]; !ok {
			t.Errorf("a buyer has no %q", name)
		}
	}
}
