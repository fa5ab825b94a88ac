package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/meterd/meterd/internal/sigv4"
	"github.com/meterd/meterd/internal/wire"
)

var testKeys = &keyspace{product: "code", buyers: 1000, dimensions: 3, hours: []int64{1764000000, 1763996400}}

func testTarget(t *testing.T, h http.Handler) *target {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return &target{addresses: []string{s.Listener.Addr().String()}, accessKeyID: "AKIDEXAMPLE", secretAccessKey: "secret", keys: testKeys, echoes: true}
}

func TestEveryRecordHasItsOwnKey(t *testing.T) {
	seen := map[[3]int64]bool{}
	for i := range testKeys.size() {
		account, dimension, timestamp := testKeys.record(i)
		seen[[3]int64{account, dimension, timestamp}] = true
	}
	if len(seen) != 6000 {
		t.Errorf("%d keys for 6000 records", len(seen))
	}
	many := &keyspace{product: "code", products: 7, buyers: 70, dimensions: 8, hours: []int64{1764000000, 1763996400}}
	clear(seen)
	for i := range many.size() {
		account, dimension, timestamp := many.record(i)
		if of := (account - firstBuyer) / buyersOfProduct; of != many.productOf(i) || account >= firstBuyer+many.buyers {
			t.Fatalf("record %d is for buyer %d, who has product %d, but its call for product %d", i, account, of, many.productOf(i))
		}
		seen[[3]int64{account, dimension, timestamp}] = true
	}
	if len(seen) != 7*75*2 || many.size() != 7*75*2 {
		t.Errorf("%d keys for %d records of several products", len(seen), many.size())
	}
}

func TestOpenHours(t *testing.T) {
	tests := []struct {
		now    string
		n      int
		oldest string
	}{
		{"2026-11-23T14:30:00Z", 23, "2026-11-22T16:00:00Z"},
		{"2026-12-01T03:00:00Z", 23, "2026-11-30T05:00:00Z"},
		{"2026-12-01T05:30:00Z", 6, "2026-12-01T00:00:00Z"}, // November closes before an hour has passed
	}
	for _, tt := range tests {
		now, _ := time.Parse(time.RFC3339, tt.now)
		hours := openHours(now)
		if n := len(hours); n != tt.n || time.Unix(hours[n-1], 0).UTC().Format(time.RFC3339) != tt.oldest {
			t.Errorf("%s: %d hours %v, want %d from %s on", tt.now, n, hours, tt.n, tt.oldest)
		}
	}
}

// TestSign compares signatures with those of AWS's SDK, also when the request is used again on another day.
func TestSign(t *testing.T) {
	target := &target{addresses: []string{"localhost:4880"}, accessKeyID: "AKIDEXAMPLE", secretAccessKey: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", keys: testKeys}
	r := newRequest(target, target.addresses[0], shape{records: 25})
	for i, at := range []string{"2026-11-23T23:59:58Z", "2026-11-23T23:59:59Z", "2026-11-24T00:00:00Z", "2026-11-24T00:00:00Z"} {
		now, _ := time.Parse(time.RFC3339, at)
		for j := range r.slots {
			r.put(testKeys, j, int64(i*25+j), 1000)
		}
		r.sign(now)

		got, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(r.buf)))
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(got.Body)
		if err != nil {
			t.Fatal(err)
		}
		want, err := http.NewRequest(http.MethodPost, "http://"+target.addresses[0]+"/", strings.NewReader(string(body)))
		if err != nil {
			t.Fatal(err)
		}
		want.Header.Set("Content-Type", contentType)
		want.Header.Set("X-Amz-Target", "AWSMPMeteringService.BatchMeterUsage")
		hash := fmt.Sprintf("%x", sha256.Sum256(body))
		credentials := aws.Credentials{AccessKeyID: target.accessKeyID, SecretAccessKey: target.secretAccessKey}
		if err := v4.NewSigner().SignHTTP(context.Background(), credentials, want, hash, "aws-marketplace", region, now); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"Authorization", "X-Amz-Date"} {
			if got.Header.Get(name) != want.Header.Get(name) {
				t.Errorf("%s: %s\n got %s\nwant %s", at, name, got.Header.Get(name), want.Header.Get(name))
			}
		}
	}
}

// service is a metering service in a few lines, to test the generator with.
type service struct {
	verifier sigv4.Verifier[string]
	mu       sync.Mutex
	stored   map[string]int32
	spoil    func(call int, out *wire.BatchMeterUsageOutput)
	calls    int
	split    int // allocations seen
}

func newService() *service {
	return &service{stored: map[string]int32{}, spoil: func(int, *wire.BatchMeterUsageOutput) {}, verifier: sigv4.Verifier[string]{
		Services: []string{"aws-marketplace"}, KnownRegion: func(r string) bool { return r == region },
		Lookup: func(id, _ string) (sigv4.Credential[string], error) {
			return sigv4.Credential[string]{Secret: "secret", Principal: id}, nil
		},
	}}
}

func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	if _, err := s.verifier.Verify(r, body, time.Now()); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	var in wire.BatchMeterUsageInput
	if err := in.Decode(body); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var out wire.BatchMeterUsageOutput
	for _, record := range in.UsageRecords {
		key := fmt.Sprint(record.CustomerAWSAccountID, record.Dimension, record.Timestamp)
		id := sha256.Sum256([]byte(key))
		result := wire.UsageRecordResult{UsageRecord: record, MeteringRecordID: wire.UUID(id[:16]), HasMeteringRecordID: true, Status: success}
		if stored, ok := s.stored[key]; !ok {
			s.stored[key] = record.Quantity
		} else if stored != record.Quantity {
			result.Status = duplicate
		}
		out.Results = append(out.Results, result)
		s.split += len(record.UsageAllocations)
	}
	s.calls++
	s.spoil(s.calls, &out)
	answer := out.Append(nil)
	w.Header().Set("Content-Length", fmt.Sprint(len(answer)))
	w.Write(answer)
}

func (s *service) sums() (records, quantity int64) {
	for _, q := range s.stored {
		records, quantity = records+1, quantity+int64(q)
	}
	return records, quantity
}

func TestLoad(t *testing.T) {
	s := newService()
	target := testTarget(t, s)
	full := shape{records: recordsPerCall}
	phases := []struct {
		phase
		calls, stored int64
	}{
		{phase{mode: fresh, shape: full, connections: 8, to: 2500}, 100, 2500},
		{phase{mode: replay, shape: full, connections: 3, to: 2500}, 100, 2500},
		{phase{mode: fresh, shape: full, connections: 2, to: 3000, rate: 1e6}, 20, 3000},
		{phase{mode: mixed, shape: full, connections: 1, to: 5000}, 80, 5000 - 40}, // every second call re-sends one
		{phase{mode: fresh, shape: shape{25, 5}, connections: 2, to: 5100}, 4, 5100 - 40},
		{phase{mode: fresh, shape: shape{1, 2500}, connections: 1, to: 5102}, 2, 5102 - 40},
	}
	calls := int64(0)
	for _, p := range phases {
		r, err := target.run(context.Background(), p.phase)
		if err != nil {
			t.Fatal(err)
		}
		calls += p.calls
		if r.failures != 0 || int64(r.requests) != p.calls || int64(s.calls) != calls {
			t.Fatalf("%+v: %d requests, %d failures: %s", p.phase, r.requests, r.failures, r.failure)
		}
		records, quantity := s.sums()
		if records != p.stored || target.acknowledged.Load() != records || target.quantity.Load() != quantity {
			t.Errorf("%+v: %d records of %d stored, want %d; %d of %d acknowledged", p.phase, records, quantity, p.stored, target.acknowledged.Load(), target.quantity.Load())
		}
	}
	if want := 4*25*5 + 2*2500; s.split != want {
		t.Errorf("%d allocations, want %d", s.split, want)
	}
	var text strings.Builder
	rep := &report{w: &text}
	rep.phase(&result{phase: phases[0].phase, elapsed: time.Second, requests: 1, latencies: []time.Duration{time.Millisecond}})
	rep.row("what", "≥ 1", "%s", series{1, 2, 3}.format("%.0f"))
	rep.table()
	if !strings.Contains(text.String(), "| what | 2 (1 to 3) | ≥ 1 |") || rep.failures != 0 {
		t.Error(text.String())
	}
}

func TestNoop(t *testing.T) {
	target := testTarget(t, noop([]byte(strings.Repeat(`"Status":"Success"`, recordsPerCall))))
	target.echoes = false
	r, err := target.run(context.Background(), phase{shape: shape{records: recordsPerCall}, connections: 4, to: 2500})
	if err != nil || r.failures != 0 || r.requests != 100 {
		t.Errorf("%d requests, %d failures: %s, %v", r.requests, r.failures, r.failure, err)
	}
}

// TestNodes shows that connections are spread over all nodes of a service, and each signs for its own.
func TestNodes(t *testing.T) {
	s := newService()
	target := testTarget(t, s)
	var calls [3]atomic.Int64
	target.addresses = nil
	for i := range calls {
		node := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			calls[i].Add(1)
			s.ServeHTTP(w, r)
		}))
		defer node.Close()
		target.addresses = append(target.addresses, node.Listener.Addr().String())
	}
	r, err := target.run(context.Background(), phase{shape: shape{records: recordsPerCall}, connections: 6, to: 2500})
	if err != nil || r.failures != 0 || r.requests != 100 || target.acknowledged.Load() != 2500 {
		t.Fatalf("%d requests, %d failures: %s, %v", r.requests, r.failures, r.failure, err)
	}
	for i := range calls {
		if calls[i].Load() == 0 {
			t.Errorf("node %d had no call", i)
		}
	}
}

// TestDatabase measures a real server for a moment.
func TestDatabase(t *testing.T) {
	ctx := context.Background()
	bin, err := findPostgres()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.Chmod(filepath.Dir(dir), 0o711); err != nil { // for the server's user
		t.Fatal(err)
	}
	d, err := startDatabase(ctx, bin, dir, "shared_buffers=32MB")
	if err != nil {
		t.Fatal(err)
	}
	stop := sync.OnceValue(d.stop)
	defer stop()
	line, err := d.describe(ctx)
	if err != nil || !strings.Contains(line, "fsync=on, synchronous_commit=on, full_page_writes=on, shared_buffers=32MB") {
		t.Errorf("described as %q, %v", line, err)
	}
	before, err := d.used()
	if err != nil {
		t.Error(err)
	}
	for _, k := range []keying{plainKeys, narrowKeys} {
		r, own, err := d.upserts(ctx, k, 0, time.Second)
		if err != nil || r.transactions == 0 || r.perSecond < float64(r.transactions)/2 || own == 0 {
			t.Errorf("%+v, %v of CPU, %v", r, own, err)
		}
	}
	if after, err := d.used(); err != nil || after <= before {
		t.Errorf("the server's CPU time went from %v to %v, %v", before, after, err)
	}
	if err := d.exec(ctx, "postgres", "ALTER ROLE postgres SET synchronous_commit = off"); err != nil {
		t.Error(err)
	}
	if _, err := d.describe(ctx); err == nil || !strings.Contains(err.Error(), "synchronous_commit=off") {
		t.Errorf("a server that loses commits is described: %v", err)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("the folder is left with %v, %v", left, err)
	}
	if err := syscall.Kill(d.cmd.Process.Pid, 0); err != syscall.ESRCH {
		t.Errorf("the server runs on: %v", err)
	}
	if _, err := startDatabase(ctx, bin, dir, "no_such_setting=1"); err == nil || !strings.Contains(err.Error(), "no_such_setting") {
		t.Errorf("a server that cannot start: %v", err)
	}
}

func TestParsePgbench(t *testing.T) {
	const out = `transaction type: upsert.sql
number of transactions actually processed: 1234
number of failed transactions: 0 (0.000%)
latency average = 2.4 ms
initial connection time = 21.0 ms
tps = 8188.25 (without initial connection time)
`
	if r, err := parsePgbench(out); err != nil || r != (pgbenchResult{1234, 8188.25}) {
		t.Errorf("%+v, %v", r, err)
	}
	for _, bad := range []string{"", strings.Replace(out, "transactions: 0", "transactions: 3", 1), strings.Replace(out, "tps = 8", "tps = x", 1)} {
		if r, err := parsePgbench(bad); err == nil {
			t.Errorf("%+v of\n%s", r, bad)
		}
	}
}

func TestChoose(t *testing.T) {
	const embedded, postgres = "start pairs half mixed connections allocations products overload restart", "postgres postgres-nodes postgres-half postgres-records"
	found := func() (string, error) { return "/bin", nil }
	none := func() (string, error) { return "", errors.New("no server") }
	tests := []struct {
		o           options
		find        func() (string, error)
		want        string
		missing, ok bool
	}{
		{options{}, found, embedded + " " + postgres, false, true},
		{options{}, none, embedded, true, true},
		{options{store: "both"}, none, "", false, false},
		{options{store: "postgres"}, found, postgres, false, true},
		{options{store: "postgres"}, none, "", false, false},
		{options{store: "embedded"}, found, embedded, false, true},
		{options{store: "embedded", full: true}, found, embedded + " open day", false, true},
		{options{store: "postgres", full: true, profiles: "folder"}, found, postgres + " profile", false, true},
		{options{run: "half,pairs"}, none, "pairs half", false, true},
		{options{run: "pgbench"}, found, "pgbench", false, true},
		{options{run: "pgbench"}, none, "", false, false},
		{options{run: "pairs,postgres", store: "embedded"}, found, "", false, false},
		{options{store: "sqlite"}, found, "", false, false},
		{options{run: "open"}, found, "", false, false},
		{options{run: "nothing"}, found, "", false, false},
	}
	for _, tt := range tests {
		var names []string
		var missing error
		err := tt.o.check(nil)
		if err == nil {
			var chosen []scenario
			chosen, missing, err = tt.o.choose(tt.find)
			for _, s := range chosen {
				names = append(names, s.name)
			}
		}
		if strings.Join(names, " ") != tt.want || (missing != nil) != tt.missing || (err == nil) != tt.ok {
			t.Errorf("-run=%s -store=%s: %q, missing %v, %v", tt.o.run, tt.o.store, names, missing, err)
		}
	}
}

// TestWrongAnswers proves that what a broken server answers is noticed.
func TestWrongAnswers(t *testing.T) {
	tests := map[string]struct {
		spoil func(call int, out *wire.BatchMeterUsageOutput)
		want  string
	}{
		"one status":  {func(_ int, out *wire.BatchMeterUsageOutput) { out.Results[7].Status = "CustomerNotSubscribed" }, "24 of 25 records are Success"},
		"unprocessed": {func(_ int, out *wire.BatchMeterUsageOutput) { out.Results = out.Results[:24] }, "24 of 25 records are Success"},
		"another record": {func(_ int, out *wire.BatchMeterUsageOutput) {
			out.Results[0], out.Results[1] = out.Results[1], out.Results[0]
		}, "result 0 is not about the record"},
		"another id": {func(call int, out *wire.BatchMeterUsageOutput) { out.Results[3].MeteringRecordID[0] ^= byte(call) }, "result 3 has the id"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := newService()
			s.spoil = tt.spoil
			target := testTarget(t, s)
			p := phase{shape: shape{records: recordsPerCall}, connections: 1, to: 25}
			first, err := target.run(context.Background(), p)
			if err != nil {
				t.Fatal(err)
			}
			p.mode = replay
			second, err := target.run(context.Background(), p)
			if err != nil {
				t.Fatal(err)
			}
			if second.failures == 0 || !strings.Contains(first.failure+second.failure, tt.want) {
				t.Errorf("failures %q and %q, want %q", first.failure, second.failure, tt.want)
			}
			rep := &report{w: io.Discard}
			if rep.phase(second); rep.failures == 0 {
				t.Error("the report is not a failure")
			}
		})
	}
	t.Run("keys used up", func(t *testing.T) {
		target := testTarget(t, newService())
		r, err := target.run(context.Background(), phase{shape: shape{records: recordsPerCall}, connections: 4, to: testKeys.size() + 25})
		if err != nil || !strings.Contains(r.failure, "used up") {
			t.Errorf("failure %q, %v", r.failure, err)
		}
	})
	t.Run("not HTTP 200", func(t *testing.T) {
		target := testTarget(t, newService())
		target.secretAccessKey = "another"
		r, err := target.run(context.Background(), phase{shape: shape{records: recordsPerCall}, connections: 1, to: 2500})
		if err != nil || r.failures != maxFailures || !strings.Contains(r.failure, "HTTP status 400") {
			t.Errorf("%d failures: %q, %v", r.failures, r.failure, err)
		}
	})
}
