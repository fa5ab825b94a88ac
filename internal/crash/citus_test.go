//go:build soak

package crash_test

import (
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/meterd/meterd/internal/pgtest"
	"github.com/meterd/meterd/internal/process"
)

// spread spreads the ledger in a schema over the workers as docs/scale.md has it, for nodes that connect to any of them.
func spread(t *testing.T, c *pgtest.Citus, schema string) {
	t.Helper()
	err := errors.Join(c.Coordinator.Exec("SELECT create_distributed_table('"+schema+".usage', 'subject', colocate_with => 'none')"),
		c.Coordinator.Exec("SELECT create_distributed_table('"+schema+".call', 'seq', colocate_with => 'none')"), toAll(c, schema))
	if err != nil {
		t.Fatal(err)
	}
}

// toAll has the workers know the tables that are at the coordinator only.
func toAll(c *pgtest.Citus, schema string) error {
	return c.Coordinator.Exec("SELECT citus_add_local_table_to_metadata(c.oid) FROM pg_class c WHERE c.relnamespace = '" + schema + "'::regnamespace AND c.relkind = 'r' AND NOT c.relispartition" +
		" AND NOT EXISTS (SELECT 1 FROM pg_dist_partition p WHERE p.logicalrelid = c.oid)")
}

// settled2PC has Citus finish the transactions that a kill has left between their two phases.
func settled2PC(t *testing.T, c *pgtest.Citus) {
	t.Helper()
	for _, s := range append([]*pgtest.Server{c.Coordinator}, c.Workers...) {
		if err := s.Exec("SELECT recover_prepared_transactions()"); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range append([]*pgtest.Server{c.Coordinator}, c.Workers...) {
		if err := s.Wait("SELECT count(*) = 0 FROM pg_prepared_xacts"); err != nil {
			t.Fatal(err)
		}
	}
}

// TestCitus has two nodes, at the coordinator and at a worker, write under load to a ledger that Citus spreads over two
// workers, while all of these servers are killed in turn, and verifies it beside them. Then the tables are changed by a
// migration.
func TestCitus(t *testing.T) {
	servers := pgtest.StartCitus(t, 2)
	coordinator, worker := in(servers.Coordinator), in(servers.Workers[0])
	dev(t, coordinator).Stop(t) // which has made the tables
	spread(t, servers, "crash")
	c := cluster(t, coordinator, worker)
	c.send()
	c.until(200)
	for range 3 {
		verify(t, coordinator)
	}
	victims := append(slices.Clone(servers.Workers), servers.Coordinator)
	for round := range 6 {
		c.until(50)
		victim := victims[round%len(victims)]
		victim.Kill()
		for i, m := range c.running {
			m.Poll(t, fmt.Sprintf("node %d is not ready when a server is away", i), func() bool { return m.health(t, "/readyz") == http.StatusServiceUnavailable })
			if got := m.health(t, "/livez"); got != http.StatusOK {
				t.Errorf("/livez is %d without a server", got)
			}
		}
		if err := victim.Start(); err != nil {
			t.Fatal(err)
		}
		c.well()
	}
	c.until(100)
	c.cancel()
	c.sending.Wait()
	settled2PC(t, servers)
	c.finish()

	for _, m := range c.running {
		m.Stop(t)
	}
	err := errors.Join(servers.Coordinator.Exec("ALTER TABLE crash.product ADD COLUMN dimensions text NOT NULL DEFAULT '[]'"),
		servers.Coordinator.Exec("UPDATE crash.product SET dimensions = (SELECT '[' || coalesce(string_agg('\"' || dimension_key || '\"', ',' ORDER BY n), '') || ']' FROM crash.dimension WHERE product = id)"),
		servers.Coordinator.Exec("DROP TABLE crash.dimension"), servers.Coordinator.Exec("DROP TABLE crash.call_hour"), servers.Coordinator.Exec("DROP TABLE crash.revision"), servers.Coordinator.Exec("ALTER TABLE crash.writer DROP COLUMN mark"),
		servers.Coordinator.Exec("UPDATE crash.state SET n = 1 WHERE name IN ('schema', 'least')"))
	if err != nil {
		t.Fatal(err)
	}
	atWorker(t, launchDev(t, worker).Process)
	if err := servers.Workers[0].Wait("SELECT to_regclass('crash.revision') IS NULL"); err != nil {
		t.Errorf("a node at a worker has made a table there: %v", err)
	}
	c.running[0] = dev(t, coordinator)
	if err := toAll(servers, "crash"); err != nil {
		t.Fatal(err)
	}
	c.running[1] = dev(t, worker)
	c.finish()
}

// atWorker wants a command to end because it would have to change tables at a worker.
func atWorker(t *testing.T, p *process.Process) {
	t.Helper()
	if code := p.Wait(t); code == 0 || !strings.Contains(p.Output.String(), "the database is a worker of Citus") {
		t.Errorf("%s ended with %d: %s", strings.Join(p.Cmd.Args, " "), code, &p.Output)
	}
}

// TestCitusPartitions has a node at the coordinator make the partitions of the days to come, and detach and drop an old
// one, after a node at a worker has left that to it.
func TestCitusPartitions(t *testing.T) {
	servers := pgtest.StartCitus(t, 2)
	coordinator, worker, key := in(servers.Coordinator), in(servers.Workers[0]), filepath.Join(t.TempDir(), "master.key")
	atWorker(t, launch(t, binary, "init", "--store", worker, "--master-key-file", key))
	if code, said := meterdRun(t, "init", "--store", coordinator, "--master-key-file", key); code != 0 {
		t.Fatalf("init: %s", said)
	}
	spread(t, servers, "crash")
	old := "CREATE TABLE crash.usage_20200101 PARTITION OF crash.usage FOR VALUES FROM (438288) TO (438312)"
	if err := servers.Coordinator.Exec(old); err != nil {
		t.Fatal(err)
	}
	serve := func(place string) *process.Process {
		return launch(t, binary, "serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0", "--store", place, "--master-key-file", key)
	}
	p := serve(worker)
	p.Poll(t, "the node at a worker leaves housekeeping to others", func() bool { return strings.Contains(p.Output.String(), "it leaves partitions") })
	serve(coordinator)
	for _, want := range []string{"SELECT to_regclass('crash.usage_20200101') IS NULL", "SELECT count(*) = 9 FROM pg_inherits WHERE inhparent = 'crash.usage'::regclass"} {
		for _, s := range append([]*pgtest.Server{servers.Coordinator}, servers.Workers...) {
			if err := s.Wait(want); err != nil {
				t.Error(err)
			}
		}
	}
	verify(t, worker)
}

// TestCitusMove moves a ledger to Citus, whose tables are spread when the first part of it is there.
func TestCitusMove(t *testing.T) {
	servers := pgtest.StartCitus(t, 2)
	seed := seedOf(t)
	writers := crew(seed)
	from, to := folder(t), in(servers.Coordinator)
	m := dev(t, from)
	furnish(t, m, crowd)
	finish := load(t, m, writers, 40)
	if code, said := meterdRun(t, "copy", from, to); code != 0 {
		t.Fatalf("copying: %s", said)
	}
	spread(t, servers, "crash")
	finish()
	m.Stop(t)
	if code, said := meterdRun(t, "copy", from, to, "--finish"); code != 0 {
		t.Fatalf("finishing: %s", said)
	}
	verify(t, to)
	check(t, dev(t, in(servers.Workers[1])), writers...)
}
