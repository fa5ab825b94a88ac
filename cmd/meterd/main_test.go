package main

import (
	"context"
	"os"
	"testing"

	"github.com/meterd/meterd/internal/pgtest"
	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(tests{m}, map[string]func(){"meterd": main})
}

// tests are this package's, which may need PostgreSQL.
type tests struct{ m *testing.M }

func (t tests) Run() int { return pgtest.Main(t.m) }

// TestScripts runs the command as a person would: testdata/*.txtar are the scripts.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata", RequireExplicitExec: true, Setup: func(e *testscript.Env) error {
		e.Setenv("HOME", e.WorkDir)
		e.Setenv("STORE", pgtest.URL(t, e.WorkDir))
		return nil
	}})
}

// TestEnvironment finds misspelt variables, which would be silently without effect, and takes what Kubernetes puts into
// every pod beside services named meterd and meterd-admin for what it is.
func TestEnvironment(t *testing.T) {
	for _, c := range []struct {
		variable string
		code     int
	}{
		{"METERD_LISTEN=127.0.0.1:0", 0},
		{"METERD_LISTENN=127.0.0.1:0", 2},
		{"METERD_ADMIN_TOKEN=x", 0},
		{"HOME=/", 0},

		{"METERD_SERVICE_HOST=10.96.0.7", 0},
		{"METERD_SERVICE_HOST=fd00:10:96::7", 0},
		{"METERD_SERVICE_PORT=4880", 0},
		{"METERD_SERVICE_PORT_AWS=4880", 0},
		{"METERD_SERVICE_PORT_AWS_TLS=4880", 0},
		{"METERD_PORT=tcp://10.96.0.7:4880", 0},
		{"METERD_PORT=tcp://[fd00:10:96::7]:4880", 0},
		{"METERD_PORT_4880_TCP=tcp://10.96.0.7:4880", 0},
		{"METERD_PORT_4880_TCP_PROTO=tcp", 0},
		{"METERD_PORT_4880_TCP_PORT=4880", 0},
		{"METERD_PORT_4880_TCP_ADDR=10.96.0.7", 0},
		{"METERD_PORT_4880_UDP=udp://10.96.0.7:4880", 0},
		{"METERD_ADMIN_SERVICE_HOST=10.96.0.8", 0},
		{"METERD_ADMIN_SERVICE_PORT=4881", 0},
		{"METERD_ADMIN_PORT=tcp://10.96.0.8:4881", 0},
		{"METERD_ADMIN_PORT_4881_TCP_ADDR=10.96.0.8", 0},

		{"METERD_PORT=4880", 2},
		{"METERD_SERVICE_HOST=", 2},
		{"METERD_SERVICE_HOSTS=10.96.0.7", 2},
		{"METERD_HOST=10.96.0.7", 2},
		{"METERD_ADMIN_PORT=4881", 2},
		{"METERD_PORT_AWS_TCP=tcp://10.96.0.7:4880", 2},
		{"METERD_PORT_4880_TCP_HOST=10.96.0.7", 2},
	} {
		if code := run(context.Background(), []string{"version"}, []string{c.variable}, os.Stdin, t.Output(), t.Output()); code != c.code {
			t.Errorf("%s: exit code %d, want %d", c.variable, code, c.code)
		}
	}
}
