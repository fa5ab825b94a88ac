package ledger_test

import (
	"testing"

	"github.com/meterd/meterd/internal/adminapi"
	"github.com/meterd/meterd/internal/iam"
	"github.com/meterd/meterd/internal/sigv4"
)

// TestMixedCredentials: an access key and a session token that do not go together are refused, and a sandbox says why.
func TestMixedCredentials(t *testing.T) {
	for _, sandbox := range []bool{false, true} {
		m := newFixture(t, sandbox)
		m.create()
		must(m.l.CreatePrincipal(ctx, m.op, iam.User, adminapi.Principal{AccountID: sellerID, Name: "bob"}))
		user := must(m.l.CreateAccessKey(ctx, m.op, sellerID, "bob")).AccessKeyID
		workload := func(role, resource string) adminapi.WorkloadCredentials {
			return must(m.l.CreateWorkloadCredentials(ctx, m.op, adminapi.WorkloadRequest{Workload: adminapi.Workload{AccountID: buyerID, Platform: "ecs", ResourceID: resource, Region: "us-east-1", Role: role}}))
		}
		one, two := workload("", "one"), workload("", "two")
		must(m.l.CreatePrincipal(ctx, m.op, iam.Role, adminapi.Principal{AccountID: buyerID, Name: "gone"}))
		gone := workload("gone", "three")
		if err := m.l.DeletePrincipal(ctx, m.op, iam.Role, buyerID, "gone"); err != nil {
			t.Fatal(err)
		}
		for name, c := range map[string]struct{ key, token, why string }{
			"token left over":    {user, one.SessionToken, "A session token came with the access key of a user, which has none: unset AWS_SESSION_TOKEN, which the credentials of a workload have left."},
			"any token":          {user, "token", "A session token came with the access key of a user, which has none: unset AWS_SESSION_TOKEN, which the credentials of a workload have left."},
			"token of another":   {one.AccessKeyID, two.SessionToken, "The session token belongs to another access key: set the access key, its secret and the session token of one session."},
			"token cut off":      {one.AccessKeyID, one.SessionToken[:40], "The session token is cut off, or none of this service."},
			"token missing":      {one.AccessKeyID, "", "This access key is a session's, and its session token is missing: set AWS_SESSION_TOKEN too."},
			"role deleted":       {gone.AccessKeyID, gone.SessionToken, "The role that these temporary credentials belong to has been deleted."},
			"nobody's key":       {"AKIAIOSFODNN7EXAMPLE", "", "No user has this access key."},
			"nobody's key, used": {"AKIAIOSFODNN7EXAMPLE", one.SessionToken, "The session token belongs to another access key: set the access key, its secret and the session token of one session."},
		} {
			want := sigv4.UnrecognizedClient()
			if sandbox {
				want.Message += " " + c.why
			}
			if _, err := m.l.Credential(c.key, c.token); err == nil || *err.(*sigv4.Error) != *want {
				t.Errorf("%s, sandbox %t: %v, want %v", name, sandbox, err, want)
			}
		}
	}
}
