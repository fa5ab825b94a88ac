package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestCandidates: what the last word of a command line can become.
func TestCandidates(t *testing.T) {
	for line, want := range map[string]string{
		"ver":                         "verify version",
		"admin key ":                  "create list activate deactivate delete",
		"admin -o ":                   "table json csv",
		"admin --output js":           "json",
		"admin usage --output=":       "--output=table --output=json --output=csv",
		"admin --output = c":          "csv", // as bash hands it over
		"admin --output =":            "table json csv",
		"admin --endpoint x key de":   "deactivate delete",
		"admin --endpoint ":           "",
		"admin workload create 1 ":    "ec2 ecs eks agentcore",
		"admin workload create 1 e":   "ec2 ecs eks",
		"admin clock ":                "get set advance freeze run reset accept",
		"completion ":                 "bash zsh fish",
		"dev --log":                   "--log-format --log-level",
		"verify --data x --o":         "--output",
		"verify -- --o":               "",
		"admin import ":               "",
		"nosuch ":                     "dev init serve", // and so on
		"complete-w":                  "",
		"admin product --output json": "json",
	} {
		var out, problems bytes.Buffer
		if code := run(t.Context(), append([]string{"complete-words", "--"}, strings.Split(line, " ")...), nil, nil, &out, &problems); code != 0 {
			t.Errorf("%q: exit code %d, %s", line, code, problems.String())
		}
		var got []string
		for candidate := range strings.Lines(out.String()) {
			name, _, _ := strings.Cut(candidate, "\t")
			got = append(got, name)
		}
		if line == "nosuch " && len(got) > 3 {
			got = got[:3]
		}
		if d := cmp.Diff(want, strings.Join(got, " ")); d != "" {
			t.Errorf("%q (-want +got):\n%s", line, d)
		}
	}
}

// TestShells: the scripts work in the shells that they are for.
func TestShells(t *testing.T) {
	dir := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, filepath.Join(dir, "meterd")); err != nil { // which testscript makes the command of its name
		t.Fatal(err)
	}
	for shell, script := range map[string]string{
		"bash": `source <(meterd completion bash)
COMP_WORDS=(meterd admin key de); COMP_CWORD=3; _meterd; echo "${COMPREPLY[*]}"
COMP_WORDS=(meterd admin --output = ""); COMP_CWORD=4; _meterd; echo "${COMPREPLY[*]}"
COMP_WORDS=(meterd admin import ""); COMP_CWORD=3; _meterd; echo "${#COMPREPLY[@]} words"`,
		"zsh": `compdef() { }
_describe() { local -a names=("${(@)${(P)2}%%:*}"); print -r -- $names }
_files() { print 0 words }
source <(meterd completion zsh)
words=(meterd admin key de); CURRENT=4; _meterd
words=(meterd admin --output ""); CURRENT=4; _meterd
words=(meterd admin import ""); CURRENT=4; _meterd`,
		"fish": `meterd completion fish | source
echo (complete -C "meterd admin key de" | string split -f 1 \t)
echo (complete -C "meterd admin --output " | string split -f 1 \t)
cd (mktemp -d); echo (count (complete -C "meterd admin import ")) words`,
	} {
		command := exec.Command(shell, "-c", script)
		command.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"), "HOME="+dir)
		out, err := command.CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v: %s", shell, err, out)
			continue
		}
		lines := strings.Split(string(out), "\n")
		if shell == "fish" { // which sorts
			lines[1] = strings.ReplaceAll(lines[1], "csv json table", "table json csv")
		}
		if d := cmp.Diff("deactivate delete\ntable json csv\n0 words\n", strings.Join(lines, "\n")); d != "" {
			t.Errorf("%s (-want +got):\n%s", shell, d)
		}
	}
}
