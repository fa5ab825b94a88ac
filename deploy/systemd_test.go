package deploy_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestUnits: systemd knows every word of the units, a node that fails is started again however long that takes, and
// what was refused for its command line is not.
func TestUnits(t *testing.T) {
	for _, unit := range []string{"meterd.service", "meterd-postgres.service"} {
		text := read(t, unit)
		for _, line := range []string{"StartLimitIntervalSec=0", "Restart=on-failure", "RestartPreventExitStatus=2"} {
			if !strings.Contains(text, "\n"+line+"\n") {
				t.Errorf("%s has no %s", unit, line)
			}
		}
		file := filepath.Join(t.TempDir(), unit)
		if err := os.WriteFile(file, []byte(strings.ReplaceAll(text, "/usr/local/bin/meterd", meterd)), 0o644); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command("systemd-analyze", "verify", "--man=no", file).CombinedOutput()
		if err != nil || strings.Contains(string(out), unit) {
			t.Errorf("%s: %v\n%s", unit, err, out)
		}
	}
}

// TestUnitPaths: the ledger and the master key are where the documents make them.
func TestUnitPaths(t *testing.T) {
	find := func(file, pattern string) string {
		t.Helper()
		m := regexp.MustCompile(`(?m)` + pattern).FindStringSubmatch(read(t, file))
		if m == nil {
			t.Fatalf("%s has no %s", file, pattern)
		}
		return m[1]
	}
	const init = `meterd init --data (\S+)( |$)`
	data := find("meterd.service", `^ExecStart=.* --data (\S+)$`)
	for _, file := range []string{"../README.md", "../docs/operate.md", "meterd.service"} {
		if made := find(file, init); made != data {
			t.Errorf("%s makes the ledger in %s, meterd.service serves %s", file, made, data)
		}
	}
	if folder := "/var/lib/" + find("meterd.service", `^StateDirectory=(\S+)$`); folder != data {
		t.Errorf("meterd.service may write to %s, and its ledger is in %s", folder, data)
	}
	if key := find("meterd.service", `^LoadCredential=master\.key:(\S+)$`); key != data+".key" {
		t.Errorf("meterd.service reads the master key %s, meterd init makes %s.key", key, data)
	}
	key := find("meterd-postgres.service", `^LoadCredential=master\.key:(\S+)$`)
	for _, file := range []string{"../README.md", "../docs/scale.md", "meterd-postgres.service"} {
		if made := find(file, `meterd init --store \S+ --master-key-file (\S+)$`); made != key {
			t.Errorf("%s makes the master key %s, meterd-postgres.service reads %s", file, made, key)
		}
	}
}
