package ledger

import (
	"strings"
	"testing"

	"github.com/meterd/meterd/internal/adminapi"
	"github.com/meterd/meterd/internal/iam"
	"github.com/meterd/meterd/internal/metering"
	"github.com/meterd/meterd/internal/pgtest"
	"github.com/meterd/meterd/internal/store"
)

// TestCredentialsAreNoAct: credentials of a workload that is known leave the catalogue's revision alone, so that no other
// node reads anything again, and are handed out while an act of administration is planned. Their audit row is written.
func TestCredentialsAreNoAct(t *testing.T) {
	cfg := Config{Store: pgtest.Place(t, t.TempDir()), MasterKey: iam.PublishedMasterKey(), Sandbox: true}
	if err := Create(cfg); err != nil {
		t.Fatal(err)
	}
	l, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	op := l.Local()
	if _, err := l.CreateBuyer(ctx, op, adminapi.Buyer{AccountID: "444455556666"}); err != nil {
		t.Fatal(err)
	}
	revision := func() int64 {
		t.Helper()
		var stored store.Revision
		err := l.db.View(ctx, func(r *store.Reader) (err error) {
			stored, err = r.Load(store.Revision{}, func(any) error { return nil })
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if known := l.revision.Load().N; known != stored.N {
			t.Fatalf("the ledger knows revision %d, the store has %d", known, stored.N)
		}
		return stored.N
	}
	in := adminapi.WorkloadRequest{Workload: adminapi.Workload{AccountID: "444455556666", Platform: "ecs", ResourceID: "task-1", Region: "us-east-1"}}
	before := revision()
	handOut := func(rows int64) adminapi.WorkloadCredentials {
		t.Helper()
		c, err := l.CreateWorkloadCredentials(ctx, op, in)
		if err != nil {
			t.Fatal(err)
		}
		found, err := l.Credential(c.AccessKeyID, c.SessionToken)
		if err != nil || found.Secret != c.SecretAccessKey || found.Principal.Workload != 1 {
			t.Errorf("the credentials stand for %+v, %v", found, err)
		}
		if got := revision(); got != before+rows {
			t.Errorf("revision %d, want %d", got, before+rows)
		}
		return c
	}
	handOut(1) // a workload that is new is a row of the catalogue
	handOut(1)
	in.Role = "meterd-workload"
	l.administration.lock(ctx) // as while an import is planned
	c := handOut(1)
	in.Role = ""
	last := handOut(1)
	l.administration.unlock()

	summaries := map[string]bool{}
	err = l.db.View(ctx, func(r *store.Reader) error {
		return r.CallsOf(uint8(metering.Administration), func(call *store.Call) error {
			d, err := store.ParseDetail(call.Detail)
			summaries[d.Text] = true
			return err
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{c.AccessKeyID, last.AccessKeyID} {
		if text := "create credentials " + id + " for workload 444455556666/ecs/task-1"; !summaries[text] {
			t.Errorf("no audit row says %q: %v", text, summaries)
		}
	}

	if _, err := l.CreatePrincipal(ctx, op, iam.Role, adminapi.Principal{AccountID: "444455556666", Name: "agent"}); err != nil {
		t.Fatal(err)
	}
	in.Role = "agent"
	handOut(3) // another role is a change of the workload's row
	in.Role = ""
	if c := handOut(3); c.Role != "agent" || !strings.HasPrefix(c.AccessKeyID, iam.SessionKeyPrefix) {
		t.Errorf("credentials %+v", c)
	}
}
