package crash_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/meterd/meterd/internal/adminapi"
	"github.com/meterd/meterd/internal/process"
)

var binary string // the meterd under test

func TestMain(m *testing.M) { process.Main(m, func(path string) { binary = path }) }

// launch starts a program, which does not outlive the test.
func launch(t *testing.T, args ...string) *process.Process {
	t.Helper()
	return process.Start(t, exec.Command(args[0], args[1:]...))
}

// meterd is a running meterd dev.
type meterd struct {
	*process.Sandbox
	client *http.Client // of its own: another process may get the port of one that is dead
}

// at is the flag that names a ledger's folder or database.
func at(place string) []string {
	if strings.HasPrefix(place, "postgres://") {
		return []string{"--store", place}
	}
	return []string{"--data", place}
}

// launchDev starts a sandbox in the folder or database, under the wrapping command if there is one, and does not wait for it.
func launchDev(t *testing.T, data string, wrap ...string) *meterd {
	t.Helper()
	client := &http.Client{Timeout: process.Patience, Transport: &http.Transport{MaxIdleConnsPerHost: 16}}
	t.Cleanup(client.CloseIdleConnections)
	return &meterd{process.StartSandbox(t, binary, at(data), wrap...), client}
}

// dev runs a sandbox in the folder, ready to serve.
func dev(t *testing.T, data string) *meterd {
	t.Helper()
	m := launchDev(t, data)
	if !m.Ready(t) {
		t.Fatalf("meterd dev ended before it was ready: %v\n%s", m.Err, &m.Output)
	}
	return m
}

// admin calls the admin API and reads the answer into out.
func (m *meterd) admin(t *testing.T, method, path string, in, out any) {
	t.Helper()
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequest(method, m.AdminEndpoint+path, body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+m.AdminToken)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	answer, err := m.client.Do(req)
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", method, path, err, &m.Output)
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	if answer.StatusCode/100 != 2 {
		t.Fatalf("%s %s: %s\n%s", method, path, answer.Status, b)
	}
	if err := json.Unmarshal(b, out); err != nil {
		t.Fatalf("%s %s: %v in %s", method, path, err, b)
	}
}

// usage returns every record that is stored, in the order in which they were accepted.
func (m *meterd) usage(t *testing.T) (records []adminapi.UsageRecord) {
	t.Helper()
	for next := ""; ; {
		var page adminapi.UsagePage
		m.admin(t, "GET", "/v1/usage?limit=1000&after="+url.QueryEscape(next), nil, &page)
		records = append(records, page.Records...)
		if next = page.Next; next == "" {
			return records
		}
	}
}

// sums returns what the service says that was stored, by product and dimension.
func (m *meterd) sums(t *testing.T) map[[2]string]total {
	t.Helper()
	var answer adminapi.UsageSums
	m.admin(t, "GET", "/v1/usage/sum?by=product_code,dimension", nil, &answer)
	sums := map[[2]string]total{}
	for _, s := range answer.Sums {
		sums[[2]string{s.ProductCode, s.Dimension}] = total{s.Records, s.Quantity}
	}
	return sums
}

// health returns the status of a page of the operations endpoint.
func (m *meterd) health(t *testing.T, path string) int {
	t.Helper()
	answer, err := m.client.Get(m.OpsEndpoint + path)
	if err != nil {
		t.Fatalf("%s: %v\n%s", path, err, &m.Output)
	}
	answer.Body.Close()
	return answer.StatusCode
}

// meterdRun runs a command of meterd to its end and returns its exit code and what it said.
func meterdRun(t *testing.T, args ...string) (code int, said string) {
	t.Helper()
	p := launch(t, append([]string{binary}, args...)...)
	code = p.Wait(t)
	return code, p.Output.String()
}

// verify has meterd recompute everything in the folder or database, beside a running server or not.
func verify(t *testing.T, data string) {
	t.Helper()
	if code, said := meterdRun(t, append([]string{"verify"}, at(data)...)...); code != 0 {
		t.Fatalf("meterd verify of %s: exit code %d:\n%s", data, code, said)
	}
}

// folder returns a new folder for a ledger, as the kernel names it.
func folder(t *testing.T) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "data")
}

// copied returns a copy of a ledger's folder.
func copied(t *testing.T, data string) string {
	t.Helper()
	to := folder(t)
	if err := os.CopyFS(to, os.DirFS(data)); err != nil {
		t.Fatal(err)
	}
	return to
}
