package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/meterd/meterd/internal/adminapi"
	"github.com/meterd/meterd/internal/ledger"
	"github.com/meterd/meterd/internal/market"
	"github.com/meterd/meterd/internal/metering"
	"github.com/meterd/meterd/internal/pgtest"
	"github.com/meterd/meterd/internal/process"
	"github.com/meterd/meterd/internal/sandbox"
	"github.com/meterd/meterd/internal/store"
	"github.com/meterd/meterd/internal/verify"
)

// execute runs a command and returns what it printed.
func execute(t *testing.T, cmd interface{ Run(*console) error }) (string, error) {
	var out bytes.Buffer
	err := cmd.Run(&console{ctx: t.Context(), stdout: &out, stderr: t.Output()})
	return out.String(), err
}

func tokenIn(t *testing.T, said string) string {
	t.Helper()
	found := regexp.MustCompile(`shown once:\n  (\S+)\n`).FindStringSubmatch(said)
	if found == nil {
		t.Fatalf("no admin token in %q", said)
	}
	return found[1]
}

// TestRecoverToken loses the token that meterd init printed, as one does who kills it before it prints.
func TestRecoverToken(t *testing.T) {
	data := filepath.Join(t.TempDir(), "ledger")
	if _, err := execute(t, &recoverTokenCmd{ledgerFlags{placeFlags: placeFlags{Data: data}}}); !errors.Is(err, store.ErrNotExist) {
		t.Errorf("of no ledger: %v", err)
	}
	said, err := execute(t, &initCmd{ledgerFlags: ledgerFlags{placeFlags: placeFlags{Data: data}}})
	if err != nil {
		t.Fatal(err)
	}
	first := tokenIn(t, said)
	if _, err = execute(t, &initCmd{ledgerFlags: ledgerFlags{placeFlags: placeFlags{Data: data}}}); !errors.Is(err, store.ErrExist) || !strings.Contains(err.Error(), "meterd recover-token --data "+data) {
		t.Errorf("a second init: %v", err)
	}
	if said, err = execute(t, &recoverTokenCmd{ledgerFlags{placeFlags: placeFlags{Data: data}}}); err != nil {
		t.Fatal(err)
	}
	second := tokenIn(t, said)
	if first == second {
		t.Error("it is the first token again")
	}

	key, err := readKey(data + ".key")
	if err != nil {
		t.Fatal(err)
	}
	l, err := ledger.Open(ledger.Config{Store: data, MasterKey: key})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var op ledger.Operator
	for _, token := range []string{first, second} {
		var refusal *metering.Error
		if op, refusal = l.Operator(token, "", ""); refusal != nil {
			t.Error(refusal)
		}
	}
	tokens, err := ledger.List(context.Background(), l, op, market.AdminTokens(adminapi.Paging{}), "", 0)
	if err != nil || len(tokens.Items) != 2 || tokens.Items[0].Name != "init" || tokens.Items[1].Name != "recovered" {
		t.Errorf("tokens %+v, %v", tokens.Items, err)
	}
	var acts []string
	err = store.Read(data, func(r *store.Reader, _ store.Meta) error {
		return r.Calls(func(c *store.Call, _ uint32) error {
			acts = append(acts, c.Source+": "+string(c.Detail[1:]))
			return nil
		}, func(int64) error { return nil })
	})
	if got, want := strings.Join(acts, "; "), "local: create admin token 1, init; local: create admin token 2, recovered"; err != nil || got != want {
		t.Errorf("the audit says %q (%v), want %q", got, err, want)
	}
	if report, err := verify.Ledger(data, verify.Options{}); err != nil || report.ProblemCount != 0 {
		t.Errorf("verify: %v, %q", err, report.Problems)
	}
	if _, err := execute(t, &recoverTokenCmd{ledgerFlags{placeFlags: placeFlags{Data: data}}}); !errors.Is(err, store.ErrLocked) {
		t.Errorf("beside a running service: %v", err)
	}
	if _, err := ledger.Act(context.Background(), l, l.Local(), market.CreateAdminToken(adminapi.AdminToken{Name: "third"})); err != nil {
		t.Error(err)
	}
}

// TestKeyFile tells what may be the rest of an interrupted init from what is no key.
func TestKeyFile(t *testing.T) {
	whole := strings.Repeat("0f", 32)
	for text, says := range map[string]string{
		whole:        "",
		whole + "\n": "",
		"\n":         "holds 0 of 64 hexadecimal digits",
		whole[:33]:   "holds 33 of 64 hexadecimal digits; it may be the rest of a meterd init that was interrupted: if no ledger was made with it, delete it",
		whole + "0f": "must hold 64 hexadecimal digits and nothing else",
		"not a key":  "must hold 64",
	} {
		file := filepath.Join(t.TempDir(), "ledger.key")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		key, made, err := readOrMakeKey(file)
		switch {
		case says == "" && (err != nil || made || hex.EncodeToString(key) != whole):
			t.Errorf("%q is read as %x, %v", text, key, err)
		case says != "" && (err == nil || !strings.Contains(err.Error(), says)):
			t.Errorf("%q: %v, want %s", text, err, says)
		}
	}
	missing, empty := filepath.Join(t.TempDir(), "ledger.key"), filepath.Join(t.TempDir(), "ledger.key")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readKey(empty); err == nil || !strings.Contains(err.Error(), "holds 0 of 64") {
		t.Errorf("serving with an empty key file: %v", err)
	}
	for _, file := range []string{missing, empty} {
		made, isNew, err := readOrMakeKey(file)
		if err != nil || !isNew {
			t.Fatal(isNew, err)
		}
		if read, isNew, err := readOrMakeKey(file); err != nil || isNew || !bytes.Equal(read, made) {
			t.Errorf("the key that was made is read as %x, %v", read, err)
		}
	}
}

// TestOtherLedgers: commands for production say so of a sandbox, and the copy of a ledger that is served is not finished.
func TestOtherLedgers(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	l, err := sandbox.Open(t.Context(), ledger.Config{Store: at("sandbox")}, sandbox.Options{})
	if err == nil {
		err = l.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	tried := func(want string, args ...string) {
		t.Helper()
		var out, problems bytes.Buffer
		if code := run(t.Context(), args, nil, nil, &out, &problems); code != 1 || problems.String() != want {
			t.Errorf("meterd %q: exit code %d, %q, want %q", args, code, problems.String(), want)
		}
	}
	isSandbox := "meterd: the ledger in " + at("sandbox") + " is a sandbox, whose keys are published, and not for production; run it with: meterd dev --data " + at("sandbox") + "\n"
	for _, command := range []string{"serve", "recover-token", "init"} {
		tried(isSandbox, command, "--data", at("sandbox"))
	}

	if err := ledger.Create(ledger.Config{Store: at("ledger"), MasterKey: make([]byte, 32)}); err != nil {
		t.Fatal(err)
	}
	if l, err = ledger.Open(ledger.Config{Store: at("ledger"), MasterKey: make([]byte, 32)}); err != nil {
		t.Fatal(err)
	}
	tried("meterd: the ledger in "+at("ledger")+" is in use: stop meterd serve there, then run the same command again\n", "copy", at("ledger"), at("copy"), "--finish")
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestDatabaseAway starts the service before its database: it lives, is not ready and says why, serves as soon as the
// database is there, and can be stopped before.
func TestDatabaseAway(t *testing.T) {
	s := pgtest.Start(t)
	key := filepath.Join(t.TempDir(), "key")
	flags := ledgerFlags{placeFlags: placeFlags{Store: s.URL() + "&search_path=meterd"}, MasterKeyFile: key}
	if _, err := execute(t, &initCmd{ledgerFlags: flags}); err != nil {
		t.Fatal(err)
	}
	s.Stop("fast")
	address := regexp.MustCompile(` ops=(http://\S+)`)
	start := func() (*process.Process, func(path string) (int, string)) {
		node := process.Start(t, exec.Command("meterd", "serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0", "--store", flags.Store, "--master-key-file", key))
		if !node.Poll(t, "it says where it is", func() bool { return address.MatchString(node.Output.String()) }) {
			t.Fatal("it has ended")
		}
		ops := address.FindStringSubmatch(node.Output.String())[1]
		return node, func(path string) (int, string) {
			t.Helper()
			answer, err := http.Get(ops + path)
			if err != nil {
				t.Fatal(err)
			}
			defer answer.Body.Close()
			body, err := io.ReadAll(answer.Body)
			if err != nil {
				t.Fatal(err)
			}
			return answer.StatusCode, string(body)
		}
	}
	waits := func(get func(string) (int, string)) {
		t.Helper()
		if status, said := get("/livez"); status != http.StatusOK {
			t.Errorf("/livez: %d, %s", status, said)
		}
		if status, said := get("/readyz"); status != http.StatusServiceUnavailable || !strings.Contains(said, "waiting for the database") || !strings.Contains(said, "connection refused") {
			t.Errorf("/readyz: %d, %s", status, said)
		}
		if status, said := get("/metrics"); status != http.StatusOK || !strings.Contains(said, "meterd_build_info") {
			t.Errorf("/metrics: %d, %s", status, said)
		}
	}
	stopped, get := start()
	waits(get)
	stopped.Stop(t)

	node, get := start()
	waits(get)
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	node.Poll(t, "it is ready", func() bool { status, _ := get("/readyz"); return status == http.StatusOK })
	if status, said := get("/metrics"); status != http.StatusOK || !strings.Contains(said, "meterd_records_total") {
		t.Errorf("/metrics once it serves: %d, %s", status, said)
	}
	if said := node.Output.String(); strings.Count(said, "connection refused") != 1 || !strings.Contains(said, "msg=serving") {
		t.Errorf("it logs: %s", said)
	}
	node.Stop(t)
}
