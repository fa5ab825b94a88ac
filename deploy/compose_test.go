package deploy_test

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
)

// compose reads compose.yaml as docker compose does, against its schema.
func compose(t *testing.T) *types.Project {
	t.Helper()
	options, err := cli.NewProjectOptions([]string{"compose.yaml"}, cli.WithName("meterd"))
	if err != nil {
		t.Fatal(err)
	}
	project, err := options.LoadProject(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return project
}

// TestCompose: started once more it finds the ledger and goes on; nodes are asked for their health and are given the
// time to drain; only this machine reaches the ports; secrets are files that are not here.
func TestCompose(t *testing.T) {
	project := compose(t)
	nodes := 0
	for name, s := range project.Services {
		if strings.HasPrefix(name, "node") {
			nodes++
			if s.StopGracePeriod.String() != "40s" {
				t.Errorf("%s is not given the time to drain", name)
			}
			if s.HealthCheck == nil || !slices.Equal(s.HealthCheck.Test, []string{"CMD", "/meterd", "healthcheck"}) {
				t.Errorf("%s is not asked for its health: %v", name, s.HealthCheck)
			}
			if s.DependsOn["init"].Condition != types.ServiceConditionCompletedSuccessfully {
				t.Errorf("%s does not wait for the ledger", name)
			}
		}
		for _, p := range s.Ports {
			if p.HostIP != "127.0.0.1" {
				t.Errorf("%s: port %s is open to the world", name, p.Published)
			}
		}
	}
	if nodes != 3 {
		t.Errorf("%d nodes", nodes)
	}
	if args := project.Services["init"].Command; !slices.Contains(args, "--if-missing") {
		t.Errorf("the second time init fails: %q", args)
	}
	for name, s := range project.Secrets {
		if _, err := os.Stat(s.File); err == nil {
			if exec.Command("git", "check-ignore", "-q", s.File).Run() != nil {
				t.Errorf("the secret %s may be committed: %s is not ignored", name, s.File)
			}
		}
	}
}
