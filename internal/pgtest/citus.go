package pgtest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// Citus is a PostgreSQL server with the extension of that name and others that rows of its tables are spread over.
type Citus struct {
	Coordinator *Server
	Workers     []*Server
}

// StartCitus starts a coordinator and workers, which live until the test ends, by the installation whose pg_config
// METERD_TEST_CITUS names.
func StartCitus(t testing.TB, workers int) *Citus {
	t.Helper()
	config := os.Getenv("METERD_TEST_CITUS")
	if config == "" {
		t.Fatal("METERD_TEST_CITUS must name the pg_config of a PostgreSQL server in which Citus is installed, such as /usr/lib/postgresql/15/bin/pg_config")
	}
	out, err := exec.Command(config, "--bindir").Output()
	if err != nil {
		t.Fatalf("METERD_TEST_CITUS: %v", err)
	}
	c := &Citus{}
	for range 1 + workers {
		s, err := startIn(strings.TrimSpace(string(out)), []string{"shared_preload_libraries=citus", "max_prepared_transactions=200", "citus.node_conninfo=sslmode=disable",
			fmt.Sprintf("citus.shard_count=%d", 2*workers), "citus.max_cached_conns_per_worker=16", "citus.recover_2pc_interval=5s"})
		if err != nil {
			t.Fatal(err)
		}
		s.end(t)
		if err := s.Exec("CREATE EXTENSION citus"); err != nil {
			t.Fatal(err)
		}
		c.Workers = append(c.Workers, s)
	}
	c.Coordinator, c.Workers = c.Workers[0], c.Workers[1:]
	err = c.Coordinator.Exec(fmt.Sprintf("SELECT citus_set_coordinator_host('127.0.0.1', %d)", c.Coordinator.Port))
	for _, w := range c.Workers {
		err = errors.Join(err, c.Coordinator.Exec(fmt.Sprintf("SELECT citus_add_node('127.0.0.1', %d)", w.Port)))
	}
	if err != nil {
		t.Fatal(err)
	}
	return c
}
