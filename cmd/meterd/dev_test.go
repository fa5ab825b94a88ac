package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/meterd/meterd/internal/sandbox"
)

// TestDev runs a sandbox as a process: it can be reached where it says, also when it listens on every address, and its
// description is there as long as it is.
func TestDev(t *testing.T) {
	dir := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	meterd, file := filepath.Join(dir, "meterd"), filepath.Join(dir, "sandbox.json")
	if err := os.Symlink(self, meterd); err != nil { // which testscript makes the command of its name
		t.Fatal(err)
	}
	for signal, listen := range map[os.Signal]string{os.Interrupt: "0.0.0.0:0", syscall.SIGTERM: "[::]:0"} {
		if err := os.WriteFile(file, []byte(`{"version":1,"endpoint":"http://127.0.0.1:1"}`), 0o600); err != nil { // as one that was killed leaves it
			t.Fatal(err)
		}
		command := exec.Command(meterd, "dev", "--allow-remote", "--listen", listen, "--admin-listen", listen, "--ops-listen", listen, "--describe", file)
		command.Stderr = t.Output()
		out, err := command.StdoutPipe()
		if err == nil {
			err = command.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		var said strings.Builder
		for lines := bufio.NewScanner(out); lines.Scan() && !strings.Contains(lines.Text(), "Ctrl-C"); {
			said.WriteString(lines.Text() + "\n")
		}
		text, err := os.ReadFile(file)
		var d sandbox.Description
		if err == nil {
			err = json.Unmarshal(text, &d)
		}
		if err != nil {
			t.Errorf("the description: %v", err)
		}
		for _, address := range []string{d.Endpoint, d.AdminEndpoint, d.OpsEndpoint} {
			if !regexp.MustCompile(`^http://127\.0\.0\.1:\d+$`).MatchString(address) || !strings.Contains(said.String(), address) {
				t.Errorf("%s is described as %q, and said: %s", listen, address, said.String())
			}
		}
		if want := "export AWS_REGION=us-east-1 AWS_DEFAULT_REGION=us-east-1\n"; !strings.Contains(said.String(), want) {
			t.Errorf("no %q is said: %s", want, said.String())
		}
		var got, problems bytes.Buffer
		if code := run(t.Context(), []string{"admin", "--endpoint", d.AdminEndpoint, "--token", d.AdminToken, "workload", "create", sandbox.BuyerA, "ecs", "task"}, nil, nil, &got, &problems); code != 0 ||
			!strings.HasPrefix(got.String(), "export AWS_ENDPOINT_URL_MARKETPLACE_METERING="+d.Endpoint+"\n") {
			t.Errorf("a workload's credentials: exit code %d, %s%s", code, got.String(), problems.String())
		}
		if err := command.Process.Signal(signal); err != nil {
			t.Fatal(err)
		}
		if err := command.Wait(); err != nil {
			t.Errorf("%v: %v", signal, err)
		}
		if _, err := os.Stat(file); !os.IsNotExist(err) {
			t.Errorf("%v: the description is still there: %v", signal, err)
		}
	}

	// What is no description is left alone, and a start that fails leaves none.
	notes := filepath.Join(dir, "notes")
	if err := os.WriteFile(notes, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, c := range []struct{ args, want string }{
		{"dev --listen 127.0.0.1:0 --describe " + notes, "meterd: --describe: " + notes + " is there and is no description of a sandbox: choose another name, or remove it\n"},
		{"dev --listen 127.0.0.1", "meterd: --listen 127.0.0.1: has no port; write 127.0.0.1:4880\n"},
		{"dev --listen ::1", "meterd: --listen ::1: has no port; write [::1]:4880\n"},
		{"dev --admin-listen [::1]", "meterd: --admin-listen [::1]: has no port; write [::1]:4881\n"},
		{"dev --ops-listen a:b:c", "meterd: --ops-listen a:b:c: is not an address; write host and port, such as 127.0.0.1:4882\n"},
		{"dev --listen 127.0.0.1:99999", "meterd: --listen 127.0.0.1:99999: a port is 1 to 65535, or 0 for any that is free, not 99999\n"},
		{"dev --listen " + taken.Addr().String(), "meterd: --listen " + taken.Addr().String() + ": another program listens there, perhaps another meterd; end it, or give another port, 0 for any that is free\n"},
		{"dev --listen 127.0.0.1:0 --describe " + dir + "/nowhere/d.json", "meterd: --describe: there is no folder for the file: stat " + dir + "/nowhere: no such file or directory\n"},
		{"dev --listen 127.0.0.1:0 --store nowhere", "meterd: --store nowhere: must be the URL of a PostgreSQL database, postgres://user@host/database; for a folder use --data\n"},
		{"dev --listen 127.0.0.1:0 --external-host https://meter.example", `meterd: --external-host "https://meter.example": must be a host as it is in the endpoint of clients, without https:// or a path: meter.example, or meter.example:8443` + "\n"},
		{"dev --listen 127.0.0.1:0 --external-host meter.example:port", `meterd: --external-host "meter.example:port": must be a host as it is in the endpoint of clients, without https:// or a path: meter.example, or meter.example:8443` + "\n"},
		{"dev --listen 127.0.0.1:0 --tls-cert " + notes + " --tls-key " + notes, "meterd: --tls-cert, --tls-key: " + notes + " and " + notes + " are no certificate in PEM with its private key: tls: failed to find any PEM data in certificate input\n"},
		{"dev --listen 127.0.0.1:0 --tls-cert " + dir + " --tls-key " + dir, "meterd: --tls-cert, --tls-key: " + dir + " is a directory, and a file is wanted\n"},
		{"copy " + dir + " mysql://db/meterd", "meterd: mysql://db/meterd: must be a folder, or the URL of a PostgreSQL database, postgres://user@host/database\n"},
		{"serve --drain-time=-1s --data " + dir, "meterd: --drain-time -1s: must not be negative\n"},
		{"serve --listen localhost --data " + dir, "meterd: --listen localhost: has no port; write localhost:4880\n"},
	} {
		var out, problems bytes.Buffer
		if code := run(t.Context(), strings.Fields(c.args), nil, nil, &out, &problems); code != 1 || problems.String() != c.want {
			t.Errorf("meterd %s: exit code %d, %q, want %q", c.args, code, problems.String(), c.want)
		}
	}
}

// TestOutside: where workloads are told to call.
func TestOutside(t *testing.T) {
	s := serve(t, serviceFlags{MaxConnections: 10}, func(*service) {})
	for _, c := range []struct {
		flags serviceFlags
		want  string
	}{
		{serviceFlags{}, s.aws()},
		{serviceFlags{ExternalHost: []string{"meter.example"}}, ""},
		{serviceFlags{ExternalHost: []string{"meter.example", "other.example"}, TLSCert: "cert.pem"}, "https://meter.example"},
	} {
		if got := s.outside(&c.flags); got != c.want {
			t.Errorf("%v: %q, want %q", c.flags.ExternalHost, got, c.want)
		}
	}
}
