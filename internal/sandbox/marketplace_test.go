package sandbox_test

import (
	"context"
	"os"
	"strings"
	"testing"

	"github.com/meterd/meterd/internal/adminapi"
	"github.com/meterd/meterd/internal/ledger"
	"github.com/meterd/meterd/internal/market"
	"github.com/meterd/meterd/internal/sandbox"
)

// TestDocumentedFile loads the example of docs/marketplace.md, twice: the second time there is nothing to add.
func TestDocumentedFile(t *testing.T) {
	doc, err := os.ReadFile("../../docs/marketplace.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(doc), "```yaml\n")
	text, _, found := strings.Cut(text, "```")
	if !found {
		t.Fatal("docs/marketplace.md has no example")
	}
	m, faults, err := adminapi.Load(adminapi.YAML, strings.NewReader(text), 0)
	if err != nil || len(faults) > 0 {
		t.Fatal(err, faults)
	}
	l := open(t, t.TempDir(), sandbox.Options{Marketplace: m})
	d := describe(t, l)
	if len(d.Sellers) != 1 || len(d.Products) != 3 || len(d.Buyers) != 1 || len(d.Buyers[0].Subscriptions) != 3 || len(d.Buyers[0].Workloads) != 1 {
		t.Errorf("loaded %+v", d)
	}
	if d.Sellers[0].AccessKeyID == "" {
		t.Error("the seller's user got no access key")
	}
	again, err := ledger.Act(context.Background(), l, l.Local(), market.Import(m))
	if err != nil {
		t.Fatal(err)
	}
	if again.Sellers+again.Products+again.Buyers+again.Agreements+again.Users+again.Roles+again.Workloads != 0 {
		t.Errorf("the second import added %+v", again)
	}
}
