package meterd_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/meterd/meterd"

// floors is the house. A package may import only packages on lower floors, so
// those on one floor do not know each other. A new package must be given a
// floor here before it builds green; think about which.
//
// The separate modules in tools and deploy are not listed: nothing can import them.
const floors = `
8  cmd/meterd  internal/bench  internal/crash  clients
7  meterdtest  internal/process
6  internal/sandbox
5  internal/server  internal/console  internal/notify  internal/relay
4  internal/ledger
3  internal/market  internal/verify
2  internal/store
1  internal/adminapi  internal/table  internal/pgtest
0  . internal/metering  internal/iam  internal/sigv4  internal/wire
`

// impure are the imports that floor 0 does without: the rules of metering must
// give the same answer whenever and wherever they are asked. The root package
// is exempt, because the interface it declares has contexts and AWS's types.
var impure = []string{
	"context", "crypto/rand", "database/sql", "log", "log/slog", "math/rand", "math/rand/v2",
	"net", "net/http", "os", "os/exec", "os/signal", "syscall", "testing",
}

// clock are the functions of package time that read or wait for the wall clock.
// On floor 0 the time is always an argument.
var clock = []string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTicker", "NewTimer"}

// only lists imports (and all below them) that belong to few packages.
var only = []struct {
	path string
	in   []string
	why  string
}{
	{"github.com/aws", []string{".", "meterdtest", "internal/relay", "internal/bench"},
		"the server side converts from wire and does not need the AWS SDK"},
	{"testing", []string{"meterdtest", "internal/pgtest", "internal/process"},
		"test helpers must not be linked into the program"},
}

func TestFloors(t *testing.T) {
	floor := parseFloors(t)
	packages := listPackages(t)
	if len(packages) == 0 {
		t.Fatal("go list found no package")
	}
	for _, p := range packages {
		name := p.name()
		here, placed := floor[name]
		if !placed {
			t.Errorf("%s has no floor: place it in floors_test.go", name)
			continue
		}
		for _, path := range p.Imports {
			if !inTree(path, module) {
				continue
			}
			imported := relative(path)
			if below, placed := floor[imported]; placed && below >= here {
				t.Errorf("%s (floor %d) imports %s (floor %d): only lower floors may be imported", name, here, imported, below)
			}
		}
		for _, rule := range only {
			if i := slices.IndexFunc(p.Imports, func(path string) bool { return inTree(path, rule.path) }); i >= 0 && !slices.Contains(rule.in, name) {
				t.Errorf("%s imports %s, which is for %s: %s", name, p.Imports[i], strings.Join(rule.in, ", "), rule.why)
			}
		}
	}
}

func TestFloorZeroIsPure(t *testing.T) {
	floor := parseFloors(t)
	for _, p := range listPackages(t) {
		name := p.name()
		if at, placed := floor[name]; !placed || at != 0 || name == "." {
			continue
		}
		for _, path := range p.Imports {
			// Signatures are computed over the headers of a request, so sigv4
			// reads net/http's types. It makes no connection.
			if path == "net/http" && name == "internal/sigv4" {
				continue
			}
			if slices.Contains(impure, path) {
				t.Errorf("%s imports %s: floor 0 has no I/O, no context, no randomness and no log", name, path)
			}
		}
		for _, file := range p.GoFiles {
			for _, call := range clockUses(t, filepath.Join(p.Dir, file), nil) {
				t.Errorf("%s: on floor 0 the time is an argument", call)
			}
		}
	}
}

// TestClockUses proves that the check above would find what it looks for.
func TestClockUses(t *testing.T) {
	const source = `package p
import clock "time"
var now = clock.Now
func f(start clock.Time) clock.Duration { clock.Sleep(1); return clock.Since(start) }
func g(t clock.Time) clock.Time { return t.Add(clock.Hour) }
`
	got := clockUses(t, "p.go", source)
	want := []string{"p.go:3:11: time.Now", "p.go:4:43: time.Sleep", "p.go:4:66: time.Since"}
	if !slices.Equal(got, want) {
		t.Errorf("clockUses = %q, want %q", got, want)
	}
}

type listedPackage struct {
	ImportPath, Dir  string
	GoFiles, Imports []string
}

// name is the package's path inside the module, "." for the root.
func (p listedPackage) name() string { return relative(p.ImportPath) }

func relative(path string) string {
	if path == module {
		return "."
	}
	return strings.TrimPrefix(path, module+"/")
}

// inTree reports whether path is root or below it.
func inTree(path, root string) bool {
	return path == root || strings.HasPrefix(path, root+"/")
}

func parseFloors(t *testing.T) map[string]int {
	t.Helper()
	floor := map[string]int{}
	for line := range strings.Lines(strings.TrimSpace(floors)) {
		fields := strings.Fields(line)
		var n int
		if _, err := fmt.Sscan(fields[0], &n); err != nil {
			t.Fatalf("floors: line %q does not begin with a number", line)
		}
		for _, name := range fields[1:] {
			if _, twice := floor[name]; twice {
				t.Fatalf("floors: %s is on two floors", name)
			}
			floor[name] = n
		}
	}
	return floor
}

// listPackages returns the module's packages with the imports of their non-test
// files. Tests may import what they like: a test that reaches up is a test of
// the whole, not a dependency.
func listPackages(t *testing.T) []listedPackage {
	t.Helper()
	var stderr bytes.Buffer
	cmd := exec.Command("go", "list", "-e", "-json=ImportPath,Dir,GoFiles,Imports", "./...")
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, &stderr)
	}
	var packages []listedPackage
	for dec := json.NewDecoder(bytes.NewReader(out)); dec.More(); {
		var p listedPackage
		if err := dec.Decode(&p); err != nil {
			t.Fatalf("go list: %v", err)
		}
		packages = append(packages, p)
	}
	return packages
}

// clockUses returns the places in a Go file that use a function of clock, by
// whatever name the file imports package time. As in go/parser, source takes
// the place of the file unless it is nil.
func clockUses(t *testing.T, path string, source any) []string {
	t.Helper()
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, path, source, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	timeName := ""
	for _, spec := range file.Imports {
		if spec.Path.Value == `"time"` {
			timeName = "time"
			if spec.Name != nil {
				timeName = spec.Name.Name
			}
		}
	}
	if timeName == "." {
		return []string{path + `: import . "time"`}
	}
	var uses []string
	ast.Inspect(file, func(n ast.Node) bool {
		if sel, ok := n.(*ast.SelectorExpr); ok && slices.Contains(clock, sel.Sel.Name) {
			if x, ok := sel.X.(*ast.Ident); ok && x.Name == timeName {
				uses = append(uses, fmt.Sprintf("%s: time.%s", fset.Position(sel.Pos()), sel.Sel.Name))
			}
		}
		return true
	})
	return uses
}
