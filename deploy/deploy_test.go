// Package deploy holds files for operators. Each is read by the library of the tool that it is for, and its command
// lines are tried against the real program.
package deploy_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// meterd is the program, built once.
var meterd string

func TestMain(m *testing.M) {
	folder, err := os.MkdirTemp("", "meterd-deploy-")
	if err != nil {
		panic(err)
	}
	meterd = filepath.Join(folder, "meterd")
	build := exec.Command("go", "build", "-C", "..", "-buildvcs=false", "-o", meterd, "./cmd/meterd")
	build.Env = append(os.Environ(), "CGO_ENABLED=0") // as the image has it
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "%v\n%s", err, out)
		os.RemoveAll(folder)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(folder)
	os.Exit(code)
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// commandLine is how a file runs meterd.
type commandLine struct {
	file string
	args []string
	env  []string // names
}

// commandLines are all of them, those of comments included.
func commandLines(t *testing.T) (lines []commandLine) {
	t.Helper()
	for name, pod := range pods(t) {
		c := pod.Containers[0]
		line := commandLine{file: "kubernetes.yaml " + name, args: c.Args}
		for _, e := range c.Env {
			line.env = append(line.env, e.Name)
		}
		lines = append(lines, line)
	}
	for name, s := range compose(t).Services {
		if s.Image != "meterd" {
			continue
		}
		line := commandLine{file: "compose.yaml " + name, args: s.Command}
		for e := range s.Environment {
			line.env = append(line.env, e)
		}
		lines = append(lines, line)
		if s.HealthCheck != nil && !s.HealthCheck.Disable {
			lines = append(lines, commandLine{file: line.file, args: s.HealthCheck.Test[2:]})
		}
	}
	for _, file := range []string{"meterd.service", "meterd-postgres.service", "compose.yaml", "Dockerfile", "../docs/operate.md"} {
		for _, m := range regexp.MustCompile(`(?m)^(?:#   |    |ExecStart=/usr/local/bin/|.*-u meterd |.*run .*)meterd ((?:init|serve|dev|healthcheck)\b.*)$`).FindAllStringSubmatch(read(t, file), -1) {
			lines = append(lines, commandLine{file: file, args: strings.Fields(m[1])})
		}
	}
	return lines
}

// TestCommandLines: every command, flag and variable of the files is one of the program's.
func TestCommandLines(t *testing.T) {
	lines := commandLines(t)
	if len(lines) < 15 {
		t.Fatalf("only %d command lines were found: %q", len(lines), lines)
	}
	help := map[string]string{}
	for _, line := range lines {
		command := line.args[0]
		if help[command] == "" {
			out, err := exec.Command(meterd, command, "--help").CombinedOutput()
			if err != nil {
				t.Fatalf("%s: %v\n%s", line.file, err, out)
			}
			help[command] = string(out)
		}
		for _, word := range line.args[1:] {
			if flag, _, _ := strings.Cut(word, "="); strings.HasPrefix(flag, "--") && !regexp.MustCompile(flag+`\b`).MatchString(help[command]) {
				t.Errorf("%s: meterd %s has no flag %s", line.file, command, flag)
			}
		}
		for _, e := range line.env {
			if strings.HasPrefix(e, "METERD_") && !strings.Contains(help[command], "$"+e+")") {
				t.Errorf("%s: meterd %s knows no variable %s", line.file, command, e)
			}
		}
	}
	for _, file := range []string{"compose.yaml", "kubernetes.yaml", "meterd.service", "meterd-postgres.service", "Dockerfile"} {
		for _, variable := range regexp.MustCompile(`METERD_[A-Z_]+`).FindAllString(read(t, file), -1) {
			if !strings.Contains(help["serve"], "$"+variable) {
				t.Errorf("%s: meterd serve knows no variable %s", file, variable)
			}
		}
	}
}
