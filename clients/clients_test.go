// Package clients_test proves meterd against AWS's own clients in languages
// other than Go: each of them is run, unmodified, against a "meterd dev" of its
// own. The scripts beside this file make the calls and judge the answers, since
// what counts is what a client's user sees; here every check becomes a subtest.
//
// What the machine lacks is installed by scripts/test-deps, or is an error.
package clients_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

var binary string // the meterd under test

func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	dir, err := os.MkdirTemp("", "meterd-clients")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "meterd")
	build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-o", binary, "../cmd/meterd")
	build.Env = append(os.Environ(), "CGO_ENABLED=0") // as it is shipped
	build.Stdout, build.Stderr = os.Stderr, os.Stderr
	if err := build.Run(); err != nil {
		return 0, fmt.Errorf("go build ./cmd/meterd: %w", err)
	}
	return m.Run(), nil
}

func TestJavaScript(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("js/node_modules"); err != nil {
		t.Fatal("the npm packages of clients/js are not installed: run scripts/test-deps")
	}
	drive(t, "node", "js/drive.mjs")
}

// Debian's boto3 and AWS CLI are of 2022.

func TestBoto3(t *testing.T) {
	t.Parallel()
	drive(t, "/usr/bin/python3", "python/drive.py", "boto3")
}

func TestCLI(t *testing.T) {
	t.Parallel()
	drive(t, "/usr/bin/python3", "python/drive.py", "/usr/bin/aws")
}

// Whatever else is first on the path is newer, as a rule. No machine needs to
// have it.

func TestBoto3OnPath(t *testing.T) {
	t.Parallel()
	python := onPath("python3")
	if python == "" || exec.Command(python, "-c", "import boto3").Run() != nil {
		t.Log("no other boto3 on the path")
		return
	}
	drive(t, python, "python/drive.py", "boto3")
}

func TestCLIOnPath(t *testing.T) {
	t.Parallel()
	aws := onPath("aws")
	if aws == "" {
		t.Log("no other aws on the path")
		return
	}
	drive(t, "/usr/bin/python3", "python/drive.py", aws)
}

// onPath returns the file that a command of this name runs, or "" if there is
// none or it is Debian's.
func onPath(name string) string {
	path, err := exec.LookPath(name)
	if err != nil {
		return ""
	}
	for _, dir := range []string{"/usr/bin", "/bin"} {
		if same(path, filepath.Join(dir, name)) {
			return ""
		}
	}
	return path
}

func same(a, b string) bool {
	infoA, errA := os.Stat(a)
	infoB, errB := os.Stat(b)
	return errA == nil && errB == nil && os.SameFile(infoA, infoB)
}

// drive runs a script against a sandbox of its own and makes a subtest of every
// check it reports. args go after the description file.
func drive(t *testing.T, interpreter, script string, args ...string) {
	t.Helper()
	description, endpoint := sandbox(t)
	cmd := exec.CommandContext(t.Context(), interpreter, append([]string{script, description}, args...)...)
	cmd.Env = append(environment(),
		"AWS_ENDPOINT_URL_MARKETPLACE_METERING="+endpoint,
		"AWS_CONFIG_FILE="+os.DevNull,
		"AWS_SHARED_CREDENTIALS_FILE="+os.DevNull,
		"AWS_EC2_METADATA_DISABLED=true",
		"AWS_PAGER=",
		"PYTHONDONTWRITEBYTECODE=1",
	)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	checks := 0
	for lines := bufio.NewScanner(&stdout); lines.Scan(); checks++ {
		var check struct {
			Name      string
			OK        bool
			Got, Want json.RawMessage
		}
		if err := json.Unmarshal(lines.Bytes(), &check); err != nil {
			t.Fatalf("%s printed %q: %v", script, lines.Text(), err)
		}
		t.Run(check.Name, func(t *testing.T) {
			if !check.OK {
				t.Errorf("got  %s\nwant %s", check.Got, check.Want)
			}
		})
	}
	if err != nil {
		t.Fatalf("%s %s: %v after %d checks\n%s", interpreter, script, err, checks, &stderr)
	}
	if checks == 0 {
		t.Fatalf("%s %s made no check\n%s", interpreter, script, &stderr)
	}
}

// sandbox runs a "meterd dev" for the length of the test and returns its
// description file and its endpoint.
func sandbox(t *testing.T) (description, endpoint string) {
	t.Helper()
	dir := t.TempDir()
	description = filepath.Join(dir, "sandbox.json")
	cmd := exec.Command(binary, "dev",
		"--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0",
		"--data", filepath.Join(dir, "data"), "--describe", description)
	cmd.Env = environment()
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var exit error
	ended := make(chan struct{})
	go func() {
		exit = cmd.Wait()
		close(ended)
	}()
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
			if exit != nil {
				t.Errorf("meterd dev, told to stop: %v", exit)
			}
		case <-time.After(30 * time.Second):
			cmd.Process.Kill()
			<-ended
			t.Error("meterd dev did not stop in 30 s")
		}
		if t.Failed() {
			t.Logf("meterd dev said:\n%s", &output)
		}
	})

	deadline := time.After(time.Minute)
	for poll := time.NewTicker(10 * time.Millisecond); ; {
		data, err := os.ReadFile(description)
		if err == nil {
			var d struct{ Endpoint string }
			if err := json.Unmarshal(data, &d); err != nil || d.Endpoint == "" {
				t.Fatalf("%s names no endpoint (%v):\n%s", description, err, data)
			}
			return description, d.Endpoint
		}
		if !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		select {
		case <-ended:
			t.Fatalf("meterd dev ended before it was ready: %v\n%s", exit, &output)
		case <-deadline:
			t.Fatal("meterd dev was not ready in a minute")
		case <-poll.C:
		}
	}
}

// environment is the test's own, without what would lead a client or meterd
// elsewhere.
func environment() []string {
	return slices.DeleteFunc(os.Environ(), func(variable string) bool {
		name, _, _ := strings.Cut(strings.ToUpper(variable), "=")
		return strings.HasPrefix(name, "AWS_") || strings.HasPrefix(name, "METERD_") || strings.HasSuffix(name, "_PROXY")
	})
}
