// Package deploy holds files for operators. Their command lines are tried against the real program.
package deploy_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// documents reads all YAML documents of a file.
func documents(t *testing.T, file string) (all []map[string]any) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for d := yaml.NewDecoder(bytes.NewReader(text)); ; {
		var one map[string]any
		err := d.Decode(&one)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, one)
	}
}

// values calls f for each value under a name, wherever it is.
func values(in any, name string, f func(any)) {
	switch v := in.(type) {
	case map[string]any:
		for k, child := range v {
			if k == name {
				f(child)
			}
			values(child, name, f)
		}
	case []any:
		for _, child := range v {
			values(child, name, f)
		}
	}
}

func words(v any) (all []string) {
	list, _ := v.([]any)
	for _, w := range list {
		all = append(all, w.(string))
	}
	return all
}

// commandLines are how the files run meterd.
func commandLines(t *testing.T) (lines [][]string) {
	t.Helper()
	for file, name := range map[string]string{"compose.yaml": "command", "kubernetes.yaml": "args"} {
		for _, d := range documents(t, file) {
			values(d, name, func(v any) {
				if line := words(v); len(line) > 0 && slices.Contains([]string{"init", "serve"}, line[0]) {
					lines = append(lines, line)
				}
			})
		}
	}
	for _, file := range []string{"meterd.service", "meterd-postgres.service"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`(?m)^(?:#   |ExecStart=/usr/local/bin/|.*-u meterd )meterd ((?:init|serve).*)$`).FindAllSubmatch(text, -1) {
			lines = append(lines, strings.Fields(string(m[1])))
		}
		if m := regexp.MustCompile(`(?m)^ExecStart=/usr/local/bin/meterd (.*)$`).FindSubmatch(text); m != nil {
			lines = append(lines, strings.Fields(string(m[1])))
		}
	}
	return lines
}

// TestCommandLines: every command and flag of the files is one of the program's.
func TestCommandLines(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "meterd")
	if out, err := exec.Command("go", "build", "-buildvcs=false", "-o", binary, "../cmd/meterd").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	help := map[string]string{}
	lines := commandLines(t)
	if len(lines) < 7 {
		t.Fatalf("only %d command lines were found: %q", len(lines), lines)
	}
	for _, line := range lines {
		if help[line[0]] == "" {
			out, err := exec.Command(binary, line[0], "--help").CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			help[line[0]] = string(out)
		}
		for _, word := range line[1:] {
			if strings.HasPrefix(word, "--") && !strings.Contains(help[line[0]], word) {
				t.Errorf("meterd %s has no flag %s", line[0], word)
			}
		}
	}
	for _, file := range []string{"compose.yaml", "kubernetes.yaml", "meterd.service", "meterd-postgres.service"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, variable := range regexp.MustCompile(`METERD_[A-Z_]+`).FindAllString(string(text), -1) {
			if !strings.Contains(help["serve"], "$"+variable) {
				t.Errorf("%s: meterd serve knows no variable %s", file, variable)
			}
		}
	}
}

// TestKubernetes: probes ask ports that the container has, a node is given the time that it takes to drain, and no
// secret stands in the file.
func TestKubernetes(t *testing.T) {
	kinds := map[string]map[string]any{}
	for _, d := range documents(t, "kubernetes.yaml") {
		kinds[d["kind"].(string)] = d
		values(d, "stringData", func(any) { t.Error("a secret stands in the file") })
	}
	for _, kind := range []string{"Job", "Deployment", "PodDisruptionBudget", "Service"} {
		if kinds[kind] == nil {
			t.Errorf("there is no %s", kind)
		}
	}
	ports := map[any]bool{}
	values(kinds["Deployment"], "ports", func(v any) {
		for _, p := range v.([]any) {
			ports[p.(map[string]any)["name"]] = true
		}
	})
	probes := 0
	values(kinds["Deployment"], "httpGet", func(v any) {
		probes++
		get := v.(map[string]any)
		if !ports[get["port"]] || get["path"] != "/livez" && get["path"] != "/readyz" {
			t.Errorf("a probe asks %v", get)
		}
	})
	if probes != 3 {
		t.Errorf("%d probes", probes)
	}
	grace := 0
	values(kinds["Deployment"], "terminationGracePeriodSeconds", func(v any) { grace = v.(int) })
	if grace < 15+20 { // --drain-time, and what meterd gives the last calls
		t.Errorf("a node is killed after %d seconds", grace)
	}
}

// TestCompose: nodes are given the time to drain, and secrets are files that are not here.
func TestCompose(t *testing.T) {
	d := documents(t, "compose.yaml")[0]
	for name, s := range d["services"].(map[string]any) {
		if strings.HasPrefix(name, "node") && s.(map[string]any)["stop_grace_period"] != "40s" {
			t.Errorf("%s is not given the time to drain", name)
		}
	}
	for name, s := range d["secrets"].(map[string]any) {
		file := s.(map[string]any)["file"].(string)
		if _, err := os.Stat(file); err == nil {
			ignored := exec.Command("git", "check-ignore", "-q", file)
			if ignored.Run() != nil {
				t.Errorf("the secret %s may be committed: %s is not ignored", name, file)
			}
		}
	}
}
