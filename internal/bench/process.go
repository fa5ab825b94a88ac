package main

import (
	"bufio"
	"bytes"
	"context"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/meterd/meterd/internal/adminapi"
	"github.com/meterd/meterd/internal/metering"
)

// sellerAccount is the account that sells the product and signs the requests.
const sellerAccount = "111122223333"

// process is a server in a process of its own.
type process struct {
	cmd     *exec.Cmd
	address string // host:port of what is measured
	log     bytes.Buffer
	logged  chan struct{} // closed when the process has closed its output
}

// start starts a program and hands each line of the given output to ready until that reports true.
func start(cmd *exec.Cmd, output io.Reader, ready func(line string) bool) (*process, error) {
	p := &process{cmd: cmd, logged: make(chan struct{})}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	up := make(chan bool, 1)
	go func() {
		defer close(p.logged)
		waiting := true
		lines := bufio.NewScanner(output)
		for lines.Scan() {
			if waiting && ready(lines.Text()) {
				waiting = false
				up <- true
			}
			if p.log.Len() < 64<<10 {
				p.log.WriteString(lines.Text() + "\n")
			}
		}
		_, _ = io.Copy(io.Discard, output)
		if waiting {
			up <- false
		}
	}()
	if !<-up {
		<-p.logged
		return nil, fmt.Errorf("%s: %w\n%s", cmd, cmd.Wait(), p.log.String())
	}
	return p, nil
}

// stop ends the process in order.
func (p *process) stop() error {
	if p.cmd.ProcessState != nil {
		return nil
	}
	err := p.cmd.Process.Signal(syscall.SIGTERM)
	<-p.logged
	if err = errors.Join(err, p.cmd.Wait()); err != nil {
		return fmt.Errorf("stopping %s: %w\n%s", p.cmd, err, p.log.String())
	}
	return nil
}

// serveNoop is the program of the no-op process: a net/http handler that reads the body and answers with what it was
// given on standard input. It prints its address, and ends on SIGTERM.
func serveNoop(ctx context.Context, stdin io.Reader, stdout io.Writer) error {
	answer, err := io.ReadAll(stdin)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{Handler: noop(answer), ReadHeaderTimeout: time.Minute}
	context.AfterFunc(ctx, func() { server.Close() })
	fmt.Fprintln(stdout, listener.Addr())
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func noop(answer []byte) http.HandlerFunc {
	length := strconv.Itoa(len(answer))
	return func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		h := w.Header()
		h["Content-Type"] = []string{contentType}
		h["X-Amzn-Requestid"] = []string{"00000000-0000-0000-0000-000000000000"}
		h["Content-Length"] = []string{length}
		_, _ = w.Write(answer)
	}
}

// startNoop starts the no-op server as a child of this program.
func startNoop(ctx context.Context, answer []byte) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, "-noop")
	cmd.Stdin, cmd.Stderr = bytes.NewReader(answer), os.Stderr
	output, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	var address string
	p, err := start(cmd, output, func(line string) bool { address = line; return true })
	if err == nil {
		p.address = address
	}
	return p, err
}

// meterd is a running meterd serve.
type meterd struct {
	*process
	admin, ops, token string // base URLs; bearer token
	ready             time.Duration
}

// buildMeterd builds the binary as make build does, from the module in source.
func buildMeterd(ctx context.Context, source, to string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", to, "github.com/meterd/meterd/cmd/meterd")
	cmd.Dir = source
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", cmd, err, out)
	}
	return nil
}

var tokenLine = regexp.MustCompile(`(?m)^  (\S+)$`)

// place says with flags where a ledger is.
type place []string

// inFolder is the place of a ledger in the embedded store.
func inFolder(dir string) place { return place{"--data", filepath.Join(dir, "ledger")} }

// initMeterd makes an empty ledger and returns its admin token.
func initMeterd(ctx context.Context, binary string, at place) (token string, err error) {
	cmd := exec.CommandContext(ctx, binary, append([]string{"init"}, at...)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s: %w\n%s", cmd, err, out)
	}
	m := tokenLine.FindSubmatch(out)
	if m == nil {
		return "", fmt.Errorf("%s printed no admin token:\n%s", cmd, out)
	}
	return string(m[1]), nil
}

// startMeterd serves a ledger and waits until it is ready.
func startMeterd(ctx context.Context, binary string, at place, token string) (*meterd, error) {
	flags := []string{"serve", "--log-format", "json"}
	if help, err := exec.CommandContext(ctx, binary, "serve", "--help").Output(); err == nil && bytes.Contains(help, []byte("--pprof")) {
		flags = append(flags, "--pprof") // older builds, which this one is compared with, serve profiles anyway
	}
	cmd := exec.CommandContext(ctx, binary, append(append(flags,
		"--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0"), at...)...)
	output, err := cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	var serving struct{ Endpoint, Admin, Ops string }
	began := time.Now()
	p, err := start(cmd, output, func(line string) bool {
		return json.Unmarshal([]byte(line), &serving) == nil && serving.Endpoint != ""
	})
	if err != nil {
		return nil, err
	}
	m := &meterd{process: p, admin: serving.Admin, ops: serving.Ops, token: token}
	m.address = strings.TrimPrefix(serving.Endpoint, "http://")
	for {
		if _, err = get(ctx, m.ops+"/readyz"); err == nil {
			m.ready = time.Since(began)
			return m, nil
		}
		if time.Since(began) > 2*time.Minute {
			return nil, errors.Join(fmt.Errorf("meterd is not ready: %w", err), p.stop())
		}
		time.Sleep(time.Millisecond)
	}
}

func get(ctx context.Context, url string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	return do(request)
}

// do sends a request on a connection of its own and returns the body of its answer, which must be a success.
func do(request *http.Request) ([]byte, error) {
	request.Close = true
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode/100 != 2 {
		err = fmt.Errorf("%s %s: %s: %.500s", request.Method, request.URL, response.Status, body)
	}
	return body, err
}

// call calls the admin API.
func (m *meterd) call(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(b)
	}
	request, err := http.NewRequestWithContext(ctx, method, m.admin+path, body)
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+m.token)
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Accept", "application/json")
	answer, err := do(request)
	if err != nil {
		return err
	}
	return json.Unmarshal(answer, out)
}

// populate imports the seller, its product and all buyers, each with an agreement, and returns the seller's key.
func (m *meterd) populate(ctx context.Context, k *keyspace) (adminapi.AccessKey, error) {
	began := time.Now().Add(-72 * time.Hour).UTC().Truncate(time.Second)
	var dimensions []string
	for n := range k.dimensions {
		dimensions = append(dimensions, dimensionName(n))
	}
	code := func(n int64) string {
		if k.products > 1 {
			return fmt.Sprintf("%s%05d", k.product[:len(k.product)-5], n)
		}
		return k.product
	}
	var products []adminapi.Product
	for n := range max(1, k.products) {
		products = append(products, adminapi.Product{ProductCode: code(n), SellerAccountID: sellerAccount, Type: "saas", Integration: "legacy", Dimensions: dimensions})
	}
	in := adminapi.Marketplace{
		Sellers:  []adminapi.Seller{{AccountID: sellerAccount, Name: "bench"}},
		Products: products,
		Users:    []adminapi.Principal{{AccountID: sellerAccount, Name: "bench", Allow: []string{"aws-marketplace:BatchMeterUsage"}}},
	}
	var out adminapi.ImportResult
	if err := m.call(ctx, http.MethodPost, "/v1/import", &in, &out); err != nil {
		return adminapi.AccessKey{}, err
	}
	if len(out.Keys) != 1 {
		return adminapi.AccessKey{}, fmt.Errorf("the import made %d access keys, not 1", len(out.Keys))
	}
	const chunk = 10_000
	for first := int64(0); first < k.buyers; first += chunk {
		var in adminapi.Marketplace
		for n := first; n < min(first+chunk, k.buyers); n++ {
			id := strconv.FormatInt(firstBuyer+n, 10)
			in.Buyers = append(in.Buyers, adminapi.Buyer{AccountID: id})
			in.Agreements = append(in.Agreements, adminapi.Agreement{ProductCode: code(n / buyersOfProduct), BuyerAccountID: id, StartTime: &began})
		}
		if err := m.call(ctx, http.MethodPost, "/v1/import", &in, new(adminapi.ImportResult)); err != nil {
			return adminapi.AccessKey{}, err
		}
	}
	return out.Keys[0], nil
}

// openHours returns the first seconds of the hours that take records now and for the next hour, newest first.
func openHours(now time.Time) []int64 {
	settings, at := metering.DefaultSettings(), metering.InstantOf(now)
	var hours []int64
	for h := at.Hour(); settings.CheckBatchTimestamp(h.Start(), at.Add(time.Hour)) == nil; h-- {
		hours = append(hours, h.Start().Time().Unix())
	}
	return hours
}

// metrics reads meterd's metrics, by name with labels.
func (m *meterd) metrics(ctx context.Context) (map[string]float64, error) {
	text, err := get(ctx, m.ops+"/metrics")
	if err != nil {
		return nil, err
	}
	all := map[string]float64{}
	for line := range strings.Lines(string(text)) {
		if i := strings.LastIndexByte(line, ' '); i > 0 && line[0] != '#' {
			if v, err := strconv.ParseFloat(strings.TrimSpace(line[i:]), 64); err == nil {
				all[line[:i]] = v
			}
		}
	}
	return all, nil
}

// settle compares what a service has acknowledged with what its nodes counted and with what is stored. It returns the
// sums of the nodes' metrics.
func settle(ctx context.Context, t *target, nodes []*meterd) (map[string]float64, error) {
	all := map[string]float64{}
	for _, m := range nodes {
		one, err := m.metrics(ctx)
		if err != nil {
			return nil, err
		}
		for name, v := range one {
			all[name] += v
		}
	}
	records, quantity := t.acknowledged.Load(), t.quantity.Load()
	if got := all[`meterd_records_total{outcome="accepted"}`]; got != float64(records) {
		return nil, fmt.Errorf("%d records were acknowledged, but meterd_records_total says %.0f", records, got)
	}
	var sums adminapi.UsageSums
	if err := nodes[0].call(ctx, http.MethodGet, "/v1/usage/sum?by=product_code", nil, &sums); err != nil {
		return nil, err
	}
	var stored, sum int64
	for _, s := range sums.Sums {
		stored, sum = stored+s.Records, sum+s.Quantity
	}
	if stored != records || sum != quantity {
		return nil, fmt.Errorf("%d records with a quantity of %d were acknowledged, but %d with %d are stored", records, quantity, stored, sum)
	}
	return all, nil
}

// memory is what a process holds.
type memory struct{ resident, live float64 } // bytes; live is the Go heap after a collection, and the index, which is not in it

func (m *meterd) memory(ctx context.Context) (memory, error) {
	resident, err := m.resident()
	if err != nil {
		return memory{}, err
	}
	if _, err := get(ctx, m.ops+"/debug/pprof/heap?gc=1"); err != nil {
		return memory{}, err
	}
	all, err := m.metrics(ctx)
	return memory{resident, all["go_memstats_heap_alloc_bytes"] + all["meterd_open_records_bytes"]}, err
}

// resident returns the process's resident set in bytes.
func (p *process) resident() (float64, error) {
	kb, err := field(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid), "VmRSS:")
	return kb * 1024, err
}

// written returns how many bytes the process has caused to be written to disk.
func (p *process) written() (float64, error) {
	return field(fmt.Sprintf("/proc/%d/io", p.cmd.Process.Pid), "write_bytes:")
}

// field returns the number that follows a name in a file of /proc.
func field(file, name string) (float64, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if words := strings.Fields(line); len(words) > 1 && words[0] == name {
			return strconv.ParseFloat(words[1], 64)
		}
	}
	return 0, fmt.Errorf("%s has no %s", file, name)
}

// cpu is CPU time used: by the nodes, by the database that they share, by this process, and by everybody on the machine.
type cpu struct{ server, database, generator, busy time.Duration }

func (c cpu) since(before cpu) cpu {
	return cpu{c.server - before.server, c.database - before.database, c.generator - before.generator, c.busy - before.busy}
}

// others is what was used by none of those that are measured.
func (c cpu) others() time.Duration { return max(0, c.busy-c.server-c.database-c.generator) }

// tick is the unit of /proc's CPU times on every Linux that Go runs on.
const tick = time.Second / 100

// used returns the CPU time used so far. Errors are joined to err.
func (t *target) used(err *error) (c cpu) {
	own, e := processCPU(os.Getpid())
	*err = errors.Join(*err, e)
	c.generator = own.self
	for _, pid := range t.pids {
		node, e := processCPU(pid)
		*err = errors.Join(*err, e)
		c.server += node.self
	}
	if t.database != nil {
		c.database, e = t.database.used()
		*err = errors.Join(*err, e)
	}
	c.busy, e = machineCPU()
	*err = errors.Join(*err, e)
	return c
}

// machineCPU is what all processes and the kernel have used.
func machineCPU() (busy time.Duration, err error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	line, _, _ := strings.Cut(string(text), "\n")
	for i, word := range strings.Fields(line) { // cpu user nice system idle iowait irq softirq steal
		if slices.Contains([]int{1, 2, 3, 6, 7, 8}, i) {
			n, _ := strconv.ParseInt(word, 10, 64)
			busy += time.Duration(n) * tick
		}
	}
	return busy, nil
}

// processTimes is what a process has used itself, and its children that have ended.
type processTimes struct{ self, ended time.Duration }

func processCPU(pid int) (p processTimes, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return p, err
	}
	words := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:])) // from field 3 on
	var n [4]int64                                                           // utime, stime, cutime, cstime
	for i := range n {
		if n[i], err = strconv.ParseInt(words[14-3+i], 10, 64); err != nil {
			return p, err
		}
	}
	return processTimes{time.Duration(n[0]+n[1]) * tick, time.Duration(n[2]+n[3]) * tick}, nil
}

// describe says on which machine the figures were taken, and of which binary if it is given.
func describe(dir, binary string) ([]string, error) {
	cpuinfo, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return nil, fmt.Errorf("the benchmark needs Linux's /proc: %w", err)
	}
	model := regexp.MustCompile(`(?m)^model name\s*: (.*)$`).FindSubmatch(cpuinfo)
	if model == nil {
		model = [][]byte{nil, []byte(runtime.GOARCH)}
	}
	kernel, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return nil, err
	}
	total, err := field("/proc/meminfo", "MemTotal:")
	if err != nil {
		return nil, err
	}
	mount, kind, err := fileSystem(dir)
	if err != nil {
		return nil, err
	}
	sync, err := syncTime(dir)
	if err != nil {
		return nil, err
	}
	lines := []string{
		fmt.Sprintf("CPU: %d × %s; memory: %.0f GB; Linux %s", runtime.NumCPU(), model[1], total/(1<<20), bytes.TrimSpace(kernel)),
		fmt.Sprintf("data folder: %s on %s, mounted at %s; append of 4 KB + fsync: %v", dir, kind, mount, sync.Round(time.Microsecond)),
	}
	if kind == "tmpfs" {
		lines = append(lines, "WARNING: syncing costs nothing on tmpfs; choose a folder on a disk with -dir")
	}
	if binary == "" {
		return lines, nil
	}
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		return nil, err
	}
	built := "built with " + info.GoVersion
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" || s.Key == "vcs.modified" || s.Key == "CGO_ENABLED" {
			built += ", " + s.Key + "=" + s.Value
		}
	}
	return append(lines, "meterd: "+built+"; no-op and generator: "+runtime.Version()), nil
}

// fileSystem returns where the file system of a folder is mounted and what it is.
func fileSystem(dir string) (mount, kind string, err error) {
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return "", "", err
	}
	for line := range strings.Lines(string(mounts)) {
		words := strings.Fields(line)
		if len(words) > 2 && len(words[1]) >= len(mount) && (words[1] == "/" || dir == words[1] || strings.HasPrefix(dir, words[1]+"/")) {
			mount, kind = words[1], words[2]
		}
	}
	return mount, kind, nil
}

// syncTime returns the median time to append 4 KB to a file and sync it.
func syncTime(dir string) (time.Duration, error) {
	took, err := timeSyncs(dir, func(done int) bool { return done < 101 })
	return quantile(took, 0.5), err
}

// timeSyncs appends 4 KB to a file of its own and syncs it for as long as more says so, and returns how long each time
// took, in ascending order.
func timeSyncs(dir string, more func(done int) bool) (took []time.Duration, err error) {
	f, err := os.CreateTemp(dir, "sync")
	if err != nil {
		return nil, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	for more(len(took)) {
		began := time.Now()
		if _, err := f.Write(make([]byte, 4096)); err != nil {
			return nil, err
		}
		if err := f.Sync(); err != nil {
			return nil, err
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	return took, nil
}
