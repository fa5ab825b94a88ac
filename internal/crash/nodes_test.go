package crash_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/marketplacemetering"
	"github.com/aws/aws-sdk-go-v2/service/marketplacemetering/types"
	"github.com/meterd/meterd/internal/adminapi"
	"github.com/meterd/meterd/internal/iam"
	"github.com/meterd/meterd/internal/pgtest"
	"github.com/meterd/meterd/internal/process"
)

// nodes are several meterd on one database, each by a way of its own, and writers that send to them in turn.
type nodes struct {
	t       *testing.T
	places  []string
	writers []*writer
	random  *rand.Rand

	mu      sync.Mutex // guards running while the writers send
	running []*meterd

	cancel   context.CancelFunc
	sending  sync.WaitGroup
	answered atomic.Int64
	lost     atomic.Int64 // calls without an answer that settles them
	slowest  atomic.Int64 // nanoseconds, of any call
}

// cluster starts a node for each place, all of one ledger.
func cluster(t *testing.T, places ...string) *nodes {
	t.Helper()
	return clusterOf(t, places, dev)
}

// clusterOf is cluster with nodes that are started in a way of their own.
func clusterOf(t *testing.T, places []string, start func(*testing.T, string) *meterd) *nodes {
	t.Helper()
	seed := seedOf(t)
	c := &nodes{t: t, places: places, random: rand.New(rand.NewPCG(seed, 2))}
	c.writers = append(crew(seed), newWriter(form{legacy.product, "us-west-2", legacy.dimensions, ""}, crowd, seed+5))
	for _, place := range places {
		c.running = append(c.running, start(t, place))
	}
	furnish(t, c.running[0], crowd)
	for _, m := range c.running {
		c.settled(m)
	}
	return c
}

// settled waits until a node knows the last of what furnish has made, and so all of it: nodes follow each other within
// seconds.
func (c *nodes) settled(m *meterd) {
	c.t.Helper()
	m.Poll(c.t, "the node follows the catalogue", func() bool {
		var page adminapi.Page[adminapi.Buyer]
		m.admin(c.t, "GET", "/v1/buyers?limit=1000", nil, &page)
		return slices.ContainsFunc(page.Items, func(b adminapi.Buyer) bool { return b.AccountID == buyerAccount(crowd-1) })
	})
}

// send has every writer send without a pause, to another node after some calls and after each that was not answered.
func (c *nodes) send() {
	ctx, cancel := context.WithCancel(context.Background())
	c.cancel = cancel
	c.t.Cleanup(func() { // a test that has failed may not have
		cancel()
		c.sending.Wait()
	})
	for i, w := range c.writers {
		w.connect(c.t, c.running[i%len(c.running)])
		c.sending.Go(func() {
			last := time.Now()
			for ctx.Err() == nil {
				here, leave := context.WithCancel(ctx)
				calls := 1 + w.rand.IntN(40)
				err := w.load(here, func() {
					c.answered.Add(1)
					c.took(time.Since(last))
					last = time.Now()
					if calls--; calls == 0 {
						leave()
					}
				})
				c.took(time.Since(last))
				last = time.Now()
				if err != nil {
					c.t.Error(err)
				} else if here.Err() == nil {
					c.lost.Add(1)
				}
				if leave(); err != nil {
					return
				}
				w.connect(c.t, c.node(w.rand.IntN(len(c.places))))
			}
		})
	}
}

func (c *nodes) node(i int) *meterd {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.running[i]
}

// replace puts a new node in the place of one that has ended.
func (c *nodes) replace(i int) {
	c.t.Helper()
	m := dev(c.t, c.places[i])
	c.settled(m)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.running[i] = m
}

func (c *nodes) took(d time.Duration) {
	for {
		known := c.slowest.Load()
		if int64(d) <= known || c.slowest.CompareAndSwap(known, int64(d)) {
			return
		}
	}
}

// until waits until that many more calls have been answered.
func (c *nodes) until(calls int64) {
	c.t.Helper()
	enough := c.answered.Load() + calls
	c.node(0).Poll(c.t, fmt.Sprintf("%d calls are answered", calls), func() bool { return c.answered.Load() >= enough || c.t.Failed() })
	if c.t.Failed() {
		c.t.FailNow()
	}
}

// finish has the writers stop, and compares what is stored with what they were told, on every node.
func (c *nodes) finish() {
	c.t.Helper()
	c.cancel()
	c.sending.Wait()
	if c.t.Failed() {
		c.t.FailNow()
	}
	c.well()
	var r reckoning
	for i, m := range c.running {
		again := check(c.t, m, c.writers...)
		if i == 0 {
			r = again
		}
	}
	verify(c.t, c.places[0])
	c.t.Logf("%d calls answered, %d without an answer; %d records acknowledged; %d calls in doubt, %d of them stored; slowest answer %v",
		c.answered.Load(), c.lost.Load(), r.acked, r.doubt, r.stored, time.Duration(c.slowest.Load()).Round(time.Millisecond))
	if slowest := time.Duration(c.slowest.Load()); slowest > 15*time.Second { // a group has five, and may wait behind another
		c.t.Errorf("an answer took %v", slowest)
	}
}

// well waits until all nodes say that they are ready.
func (c *nodes) well() {
	c.t.Helper()
	for _, m := range c.running {
		m.Poll(c.t, "the node is ready", func() bool { return m.health(c.t, "/readyz") == http.StatusOK })
	}
}

// in is a schema of a server for one test.
func in(s *pgtest.Server) string { return s.URL() + "&search_path=crash" }

// TestNodesKilled kills one node after the other, under load.
func TestNodesKilled(t *testing.T) {
	s := pgtest.Start(t)
	c := cluster(t, in(s), in(s), in(s))
	c.send()
	for round := range 4 {
		c.until(20 + c.random.Int64N(60))
		victim := round % len(c.running)
		c.running[victim].Kill(t)
		c.replace(victim)
	}
	c.until(50)
	c.finish()
}

// TestDatabaseRestarts stops the database in three ways, under load; the nodes go on by themselves.
func TestDatabaseRestarts(t *testing.T) {
	s := pgtest.Start(t)
	c := cluster(t, in(s), in(s))
	c.send()
	for _, end := range []func(){func() { s.Stop("fast") }, func() { s.Stop("immediate") }, s.Kill} {
		c.until(50)
		end()
		for _, m := range c.running {
			m.Poll(t, "the node is not ready without its database", func() bool { return m.health(t, "/readyz") == http.StatusServiceUnavailable })
			if got := m.health(t, "/livez"); got != http.StatusOK {
				t.Errorf("/livez is %d without the database; a restart of the node would mend nothing", got)
			}
		}
		if err := s.Start(); err != nil {
			t.Fatal(err)
		}
		c.well()
	}
	c.until(50)
	c.finish()
}

// TestConnectionsCut cuts connections around COMMIT, or has COMMIT fail, at every fifth one, each time in another way.
func TestConnectionsCut(t *testing.T) {
	s := pgtest.Start(t)
	random := rand.New(rand.NewPCG(seedOf(t), 3))
	var counts [pgtest.Deadlock + 1]int // the proxies ask one at a time, each its own: see ask
	var mu sync.Mutex
	ask := func() pgtest.Fault {
		mu.Lock()
		defer mu.Unlock()
		fault := pgtest.None
		if random.IntN(5) == 0 {
			fault = pgtest.Fault(1 + random.IntN(int(pgtest.Deadlock)))
		}
		counts[fault]++
		return fault
	}
	proxies := []*pgtest.Proxy{pgtest.NewProxy(t, s, nil), pgtest.NewProxy(t, s, nil)}
	c := cluster(t, proxies[0].URL(in(s)), proxies[1].URL(in(s)))
	for _, p := range proxies {
		p.Set(ask)
	}
	c.send()
	c.until(800)
	for _, p := range proxies {
		p.Set(nil)
	}
	c.finish()
	mu.Lock()
	defer mu.Unlock()
	t.Logf("faults at COMMIT: %v", counts)
	for fault, n := range counts {
		if n == 0 {
			t.Errorf("fault %d did not happen", fault)
		}
	}
	if cut := counts[pgtest.CutDuring] + counts[pgtest.CutAfter]; c.lost.Load() > int64(cut/2) {
		t.Errorf("%d calls were not answered: what becomes of a COMMIT whose connection is cut, as %d were, can mostly be found out", c.lost.Load(), cut)
	}
}

// TestNetworkSplit splits one node from the database without a sign, and then brings it back.
func TestNetworkSplit(t *testing.T) {
	s := pgtest.Start(t)
	split := pgtest.NewProxy(t, s, nil)
	c := cluster(t, split.URL(in(s)), in(s))
	c.send()
	for range 2 {
		c.until(50)
		split.Hold()
		c.running[0].Poll(t, "the node that is split off is not ready", func() bool { return c.running[0].health(t, "/readyz") == http.StatusServiceUnavailable })
		c.until(50) // by the other
		if got := c.running[1].health(t, "/readyz"); got != http.StatusOK {
			t.Errorf("/readyz of the other node is %d", got)
		}
		split.Cut() // the network says so at last
		split.Resume()
		c.well()
	}
	c.until(50)
	c.finish()
}

// TestNamespaceSplit puts a node into a network of its own, loses what goes between it and the database, then unplugs
// the link, and heals it each time.
func TestNamespaceSplit(t *testing.T) {
	ns := pgtest.NewNamespace(t)
	s := pgtest.Start(t, "listen_addresses=127.0.0.1,"+ns.Host)
	c := clusterOf(t, []string{ns.URL(in(s)), in(s)}, func(t *testing.T, place string) *meterd {
		if place == in(s) {
			return dev(t, place)
		}
		m := launchDev(t, place, ns.Command()...)
		m.client.Transport.(*http.Transport).DialContext = ns.DialContext
		if !m.Ready(t) {
			t.Fatalf("meterd dev ended before it was ready: %v\n%s", m.Err, &m.Output)
		}
		return m
	})
	c.send()
	for _, split := range []func(testing.TB){ns.Drop, ns.Unplug} {
		c.until(50)
		lost := c.lost.Load()
		split(t)
		c.running[0].Poll(t, "the node that is split off is not ready", func() bool { return c.running[0].health(t, "/readyz") == http.StatusServiceUnavailable })
		c.until(100) // by the other
		c.running[0].Poll(t, "calls go to the node that is split off", func() bool { return c.lost.Load() > lost })
		for i, want := range []int{http.StatusServiceUnavailable, http.StatusOK} {
			if got := c.running[i].health(t, "/readyz"); got != want {
				t.Errorf("/readyz of node %d is %d", i, got)
			}
		}
		ns.Heal(t)
		c.well()
	}
	c.until(50)
	// What the database has not heard the end of it gives up after 15 seconds, and with it the keys.
	if err := s.Wait("SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name = 'meterd' AND state = 'idle in transaction' AND xact_start < now() - interval '5 seconds'"); err != nil {
		t.Fatal(err)
	}
	c.finish()
}

// TestFailover kills the primary under load and promotes its synchronous standby. The nodes know both.
func TestFailover(t *testing.T) {
	primary := pgtest.Start(t)
	standby := primary.Standby(t)
	both := in(primary)
	hosts := primary.URL()[len("postgres://postgres@"):]
	hosts = hosts[:len(hosts)-len("/postgres?sslmode=disable")]
	other := standby.URL()[len("postgres://postgres@"):]
	other = other[:len(other)-len("/postgres?sslmode=disable")]
	both = "postgres://postgres@" + hosts + "," + other + both[len("postgres://postgres@")+len(hosts):]
	c := cluster(t, both, both, both)
	c.send()
	c.until(200)
	primary.Kill()
	if err := standby.Promote(); err != nil {
		t.Fatal(err)
	}
	c.until(200)
	c.finish()
}

// TestStandbyHangs stops the standby for which commits wait: nothing is acknowledged until it answers again, and
// nothing that the primary has alone.
func TestStandbyHangs(t *testing.T) {
	primary := pgtest.Start(t)
	standby := primary.Standby(t)
	split := pgtest.NewProxy(t, primary, nil)
	c := cluster(t, split.URL(in(primary)), split.URL(in(primary)))
	c.send()
	c.until(100)
	standby.Pause()
	// What the standby had written before may still be answered: until the primary, which reads what the standby has said
	// before it sends anything, sends what is newer.
	if err := primary.Exec("SET synchronous_commit = local; CREATE TABLE public.paused AS SELECT pg_current_wal_insert_lsn() AS lsn"); err != nil {
		t.Fatal(err)
	}
	if err := primary.Wait("SELECT bool_and(sent_lsn > lsn) FROM pg_stat_replication, public.paused"); err != nil {
		t.Fatal(err)
	}
	before := c.answered.Load()
	for range 5 { // whose wait is cancelled says that it has committed, with no more than a warning
		if err := primary.Wait("SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event = 'SyncRep'"); err != nil {
			t.Fatal(err)
		}
		if err := primary.Exec("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"); err != nil {
			t.Fatal(err)
		}
	}
	split.Cut() // whoever waits for the standby is told nothing; the primary keeps its commit
	c.running[0].Poll(t, "calls are refused", func() bool { return c.lost.Load() > 5 })
	if answers := c.answered.Load() - before; answers > int64(len(c.writers)) { // each may have had one on its way
		t.Errorf("%d calls were answered while no standby had them", answers)
	}
	primary.Kill() // with what it had alone
	standby.Resume()
	if err := standby.Promote(); err != nil {
		t.Fatal(err)
	}
	split.Target(standby)
	c.well()
	c.until(100)
	c.places = []string{in(standby)}
	c.finish()
}

// TestBusyDatabase makes the disk slow, ends connections that are at work, takes the last places, and then all of them.
func TestBusyDatabase(t *testing.T) {
	s := pgtest.Start(t, "max_connections=14", "superuser_reserved_connections=0")
	c := cluster(t, in(s), in(s))
	c.send()
	c.until(50)
	restore := s.SlowDisk(t, 40*time.Millisecond)
	c.until(30)
	if restore() == 0 {
		t.Error("the disk was not slow")
	}
	for range 3 {
		c.until(30)
		if err := s.Exec("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'meterd'"); err != nil {
			t.Log(err) // no place for this one
		}
	}
	c.until(50)
	m := launchDev(t, in(s)) // takes what is left of the connections, and may fail for want of them
	c.until(50)
	m.Kill(t)
	lost := c.lost.Load()
	release := s.Hog(t)
	for _, m := range c.running {
		m.Poll(t, "the node is not ready without a connection", func() bool { return m.health(t, "/readyz") == http.StatusServiceUnavailable })
	}
	c.running[0].Poll(t, "calls are refused", func() bool { return c.lost.Load() > lost })
	release()
	c.well()
	c.until(50)
	c.finish()
}

// TestRollingUpgrade stops and starts one node after the other in order: no call is lost.
func TestRollingUpgrade(t *testing.T) {
	s := pgtest.Start(t)
	c := cluster(t, in(s), in(s), in(s))
	for i := range c.running {
		w := c.writers[i]
		w.connect(t, c.running[(i+1)%len(c.running)])
		w.mustSend(t, w.fresh(1))
	}
	for i := range c.running {
		finish := load(t, c.running[(i+1)%len(c.running)], slices.Clone(c.writers), 30)
		c.running[i].Stop(t)
		c.replace(i)
		finish()
	}
	for _, w := range c.writers {
		if len(w.doubt)+len(w.refused) > 0 {
			t.Errorf("%d calls were not answered", len(w.doubt)+len(w.refused))
		}
	}
	c.cancel = func() {}
	c.finish()
}

// TestDrain tells one of two nodes to stop: it is not ready from then on, goes on taking calls while it drains, and ends
// in order. When it is back, what it had acknowledged has the same id.
func TestDrain(t *testing.T) {
	s := pgtest.Start(t)
	place := in(s)
	key := filepath.Join(t.TempDir(), "master.key")
	code, said := meterdRun(t, "init", "--store", place, "--master-key-file", key)
	token := regexp.MustCompile(`shown once:\n  (\S+)\n`).FindStringSubmatch(said)
	if code != 0 || token == nil {
		t.Fatalf("init: %s", said)
	}
	start := func() *meterd {
		t.Helper()
		client := &http.Client{Timeout: process.Patience, Transport: &http.Transport{}}
		t.Cleanup(client.CloseIdleConnections)
		m := &meterd{&process.Sandbox{Process: launch(t, binary, "serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0",
			"--store", place, "--master-key-file", key, "--drain-time", "10s")}, client}
		m.Poll(t, "the node serves", func() bool {
			at := regexp.MustCompile(`msg=serving endpoint=(\S+) admin=(\S+) ops=(\S+) `).FindStringSubmatch(m.Output.String())
			if at != nil {
				m.Endpoint, m.AdminEndpoint, m.OpsEndpoint, m.AdminToken = at[1], at[2], at[3], token[1]
			}
			return at != nil && m.health(t, "/readyz") == http.StatusOK
		})
		return m
	}
	const seller, buyer, keyID, secret = "111122223333", "444455556666", "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
	began := time.Now().Add(-time.Hour)
	one := start()
	one.admin(t, "POST", "/v1/import", adminapi.Marketplace{
		Sellers:  []adminapi.Seller{{AccountID: seller}},
		Products: []adminapi.Product{{ProductCode: "drained", SellerAccountID: seller, Type: "saas", Integration: "legacy", Dimensions: []string{"users"}}},
		Buyers:   []adminapi.Buyer{{AccountID: buyer, Agreements: []adminapi.Agreement{{ProductCode: "drained", StartTime: &began}}}},
		Users: []adminapi.Principal{{AccountID: seller, Name: "meter", Allow: []string{iam.SellerAccess},
			AccessKeys: []adminapi.AccessKey{{AccessKeyID: keyID, SecretAccessKey: secret}}}},
	}, new(any))
	two := start()
	at := time.Now()
	send := func(m *meterd) string {
		t.Helper()
		client := marketplacemetering.New(marketplacemetering.Options{Region: "us-east-1", BaseEndpoint: &m.Endpoint, HTTPClient: whole{m.client},
			Credentials: credentials.NewStaticCredentialsProvider(keyID, secret, ""), RetryMaxAttempts: 1})
		out, err := client.BatchMeterUsage(t.Context(), &marketplacemetering.BatchMeterUsageInput{ProductCode: new("drained"),
			UsageRecords: []types.UsageRecord{{Timestamp: &at, Dimension: new("users"), Quantity: new(int32(3)), CustomerAWSAccountId: new(buyer)}}})
		if err != nil {
			t.Fatal(err)
		}
		if r := out.Results[0]; r.Status != types.UsageRecordResultStatusSuccess {
			t.Fatalf("%+v", r)
		}
		return *out.Results[0].MeteringRecordId
	}
	one.Cmd.Process.Signal(syscall.SIGTERM)
	one.Poll(t, "the node that drains is not ready", func() bool { return one.health(t, "/readyz") == http.StatusServiceUnavailable })
	if got := one.health(t, "/livez"); got != http.StatusOK {
		t.Errorf("/livez of the node that drains is %d", got)
	}
	id := send(one)
	if code := one.Wait(t); code != 0 {
		t.Errorf("the node that has drained ended with %d", code)
	}
	if got := two.health(t, "/readyz"); got != http.StatusOK {
		t.Errorf("/readyz of the other node is %d", got)
	}
	for _, m := range []*meterd{two, start()} {
		if again := send(m); again != id {
			t.Errorf("acknowledged as %s, then as %s", id, again)
		}
	}
	verify(t, place)
}

// TestMove moves a ledger to PostgreSQL and back, beginning while it is served, and kills the copying again and again.
func TestMove(t *testing.T) {
	s := pgtest.Start(t)
	seed := seedOf(t)
	random := rand.New(rand.NewPCG(seed, 4))
	writers := crew(seed)
	from := folder(t)
	m := dev(t, from)
	furnish(t, m, crowd)
	for _, to := range []string{in(s), folder(t)} {
		finish := load(t, m, writers, 40)
		for range 3 {
			p := launch(t, binary, "copy", from, to)
			p.KillAfter(t, random.Int64N(2<<20))
		}
		if code, said := meterdRun(t, "copy", from, to); code != 0 {
			t.Fatalf("copying a ledger that is served: %s", said)
		}
		m.Cmd.Process.Signal(syscall.SIGTERM)
		m.Wait(t)
		finish()
		for range 3 {
			p := launch(t, binary, "copy", from, to, "--finish")
			p.KillAfter(t, random.Int64N(2<<20))
		}
		if code, said := meterdRun(t, "copy", from, to, "--finish"); code != 0 {
			t.Fatalf("finishing: %s", said)
		}
		if p := launchDev(t, from); p.Ready(t) {
			t.Errorf("%s is served, which has been moved", from)
		}
		verify(t, to)
		m = dev(t, to)
		check(t, m, writers...)
		from = to
	}
	m.Stop(t)
}
