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
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/meterd/meterd/internal/process"
)

var binary string // the meterd under test

func TestMain(m *testing.M) { process.Main(m, func(path string) { binary = path }) }

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
	cmd.Env = append(process.Environment(),
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
	s := running(t)
	return s.File, s.Endpoint
}

// running runs a "meterd dev" for the length of the test.
func running(t *testing.T) *process.Sandbox {
	t.Helper()
	s := process.StartSandbox(t, binary, []string{"--data", filepath.Join(t.TempDir(), "data")})
	if !s.Ready(t) {
		t.Fatalf("meterd dev ended before it was ready: %v", s.Err)
	}
	t.Cleanup(func() { s.Stop(t) })
	return s
}
