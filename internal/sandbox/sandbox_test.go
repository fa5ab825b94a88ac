package sandbox_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/meterd/meterd/internal/adminapi"
	"github.com/meterd/meterd/internal/iam"
	"github.com/meterd/meterd/internal/ledger"
	"github.com/meterd/meterd/internal/market"
	"github.com/meterd/meterd/internal/pgtest"
	"github.com/meterd/meterd/internal/sandbox"
	"github.com/meterd/meterd/internal/store"
)

var now = time.Date(2026, 11, 23, 15, 20, 0, 0, time.UTC)

func open(t *testing.T, dir string, o sandbox.Options) *ledger.Ledger {
	t.Helper()
	l, err := sandbox.Open(t.Context(), ledger.Config{Store: pgtest.Place(t, dir)}, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func describe(t *testing.T, l *ledger.Ledger) *sandbox.Description {
	t.Helper()
	d, err := sandbox.Describe(t.Context(), l, sandbox.Endpoints{AWS: "http://127.0.0.1:4880", Admin: "http://127.0.0.1:4881", Ops: "http://127.0.0.1:4882"})
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
	if _, err := l.ChangeClock(context.Background(), l.Local(), adminapi.ClockChange{Now: &later}); err != nil {
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
	if l, err := sandbox.Open(t.Context(), ledger.Config{Store: pgtest.Place(t, dir)}, sandbox.Options{}); err == nil {
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

// TestWrite checks that the description is the contract's JSON, and that the file goes with the sandbox.
func TestWrite(t *testing.T) {
	file := filepath.Join(t.TempDir(), "sandbox.json")
	withdraw, err := describe(t, open(t, t.TempDir(), sandbox.Options{})).Write(file)
	if err != nil {
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
	seller := d["sellers"].([]any)[0].(map[string]any)
	for _, name := range []string{"name", "account_id", "access_key_id", "secret_access_key", "powerless", "workloads"} {
		if _, ok := seller[name]; !ok {
			t.Errorf("a seller has no %q", name)
		}
	}
	another := filepath.Join(t.TempDir(), "another.json")
	if err := os.WriteFile(another, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(another, file); err != nil {
		t.Fatal(err)
	}
	if err := withdraw(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(file); err != nil {
		t.Errorf("the description of another sandbox was removed: %v", err)
	}
	if err := errors.Join(sandbox.Withdraw(file), sandbox.Withdraw(file)); err != nil {
		t.Errorf("an old description: %v", err)
	}
	if withdraw, err = describe(t, open(t, t.TempDir(), sandbox.Options{})).Write(file); err == nil {
		err = withdraw()
	}
	if _, there := os.Stat(file); err != nil || !errors.Is(there, os.ErrNotExist) {
		t.Errorf("the sandbox's own description: %v, %v", err, there)
	}
}

// TestWithdraw: only descriptions, and empty files, are removed.
func TestWithdraw(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	for text, gone := range map[string]bool{"": true, `{"version":1,"endpoint":"http://127.0.0.1:4880"}`: true, "my notes": false, `{"version":1}`: false, `{"endpoint":"x"}`: false, "[]": false} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		err := sandbox.Withdraw(file)
		if _, there := os.Stat(file); (err == nil) != gone || (there == nil) == gone {
			t.Errorf("%q: %v, %v", text, err, there)
		}
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(file, link); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{dir, link} {
		if err := sandbox.Withdraw(name); err == nil || !strings.Contains(err.Error(), "is not a file") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestDescribed: workloads of sellers' accounts are described too, and what is not there has no member.
func TestDescribed(t *testing.T) {
	l := open(t, t.TempDir(), sandbox.Options{Marketplace: &adminapi.Marketplace{
		Sellers: []adminapi.Seller{{AccountID: "111122223333"}},
		Buyers:  []adminapi.Buyer{{AccountID: "444455556666"}},
		Roles:   []adminapi.Principal{{AccountID: "444455556666", Name: "gone"}},
		Workloads: []adminapi.Workload{{AccountID: "111122223333", Platform: "ec2", ResourceID: "i-1", Region: "us-east-1"},
			{AccountID: "444455556666", Platform: "ecs", ResourceID: "a", Region: "us-east-1", Role: "gone"}, {AccountID: "444455556666", Platform: "ecs", ResourceID: "b", Region: "us-east-1"}},
	}})
	gone := market.DeletePrincipal(iam.Role, adminapi.PrincipalPath{AccountID: "444455556666", Name: "gone"})
	if _, err := ledger.Act(context.Background(), l, l.Local(), gone); err != nil {
		t.Fatal(err)
	}
	for i := range 1000 {
		if _, err := l.CreateWorkloadCredentials(context.Background(), l.Local(), adminapi.WorkloadRequest{Workload: adminapi.Workload{AccountID: "111122223333", Platform: "eks", ResourceID: fmt.Sprint("pod-", i), Region: "us-east-1"}}); err != nil {
			t.Fatal(err)
		}
	}
	d := describe(t, l)
	if n := len(d.Sellers[0].Workloads); n != 1001 || d.Sellers[0].Workloads[0].ResourceID != "i-1" || d.Sellers[0].Workloads[n-1].SessionToken == "" {
		t.Errorf("%d workloads of the seller", n)
	}
	if w := d.Buyers[0].Workloads; len(w) != 1 || w[0].ResourceID != "b" {
		t.Errorf("the buyer's workloads: %+v", w)
	}
	d.Sellers[0].Workloads, d.Buyers[0].Workloads = nil, nil
	text, err := json.Marshal([]any{d.Sellers, d.Buyers})
	if want := `[[{"name":"","account_id":"111122223333","workloads":null}],[{"name":"","account_id":"444455556666","subscriptions":[],"workloads":null}]]`; err != nil || string(text) != want {
		t.Errorf("%s, %v, want %s", text, err, want)
	}
}
