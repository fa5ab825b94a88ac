package deploy_test

import (
	"bufio"
	"encoding/json"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
)

// TestDockerignore: everything that the program is built of goes into the image's build, and no key, password or
// repository that may lie in the folder does.
func TestDockerignore(t *testing.T) {
	f, err := os.Open("../.dockerignore")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	patterns, err := ignorefile.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	matcher, err := patternmatcher.New(patterns)
	if err != nil {
		t.Fatal(err)
	}
	ignored := func(file string) bool {
		out, err := matcher.MatchesOrParentMatches(file)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}

	secrets := []string{".git/config", "master.key", "ledger.key", "data/ledger.db", "meterd-data/ledger.db", "bin/meterd", ".env"}
	for _, s := range compose(t).Secrets {
		file, err := filepath.Rel("..", filepath.Join("..", "deploy", filepath.Base(s.File)))
		if err != nil {
			t.Fatal(err)
		}
		secrets = append(secrets, file)
	}
	if len(secrets) < 10 {
		t.Errorf("the secrets of compose.yaml are not among %q", secrets)
	}
	for _, s := range secrets {
		if !ignored(s) {
			t.Errorf("%s goes into the build", s)
		}
	}

	list := exec.Command("go", "list", "-C", "..", "-deps", "-json=Dir,GoFiles,EmbedFiles,Module", "./cmd/meterd")
	list.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	needed := []string{"go.mod", "go.sum"}
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p struct {
			Dir                 string
			GoFiles, EmbedFiles []string
			Module              *struct {
				Dir  string
				Main bool
			}
		}
		if err := d.Decode(&p); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if p.Module == nil || !p.Module.Main {
			continue
		}
		for _, file := range append(p.GoFiles, p.EmbedFiles...) {
			file, err := filepath.Rel(p.Module.Dir, filepath.Join(p.Dir, file))
			if err != nil {
				t.Fatal(err)
			}
			needed = append(needed, file)
		}
	}
	if len(needed) < 50 {
		t.Errorf("only %d files are needed: %q", len(needed), needed)
	}
	for _, file := range needed {
		if ignored(file) {
			t.Errorf("%s is needed and does not go into the build", file)
		}
	}
}

// TestImage runs the program as a container of the image does: in a root that holds what the Dockerfile puts there, as
// its user, with its environment. The listeners must be open to others than the container itself, for which another
// address of loopback stands, and the health check must find them.
func TestImage(t *testing.T) {
	dockerfile := read(t, "Dockerfile")
	find := func(pattern string) string {
		t.Helper()
		m := regexp.MustCompile(`(?m)^` + pattern + `$`).FindStringSubmatch(dockerfile)
		if m == nil {
			t.Fatalf("the Dockerfile has no line %s", pattern)
		}
		return m[1]
	}
	root := t.TempDir()
	if err := os.Chmod(root, 0o755); err != nil {
		t.Fatal(err)
	}
	folders := exec.Command("sh", "-euc", strings.ReplaceAll(find(`RUN (mkdir .*)`), "/own/", root+"/"))
	if out, err := folders.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	find(`(COPY --from=build --chown=65532:65532 /own/ /)`)
	find(`(USER 65532:65532)`)
	err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil || path == root {
			return err
		}
		return os.Chown(path, 65532, 65532)
	})
	if err != nil {
		t.Fatalf("run this test as root: %v", err)
	}
	binary, err := os.ReadFile(meterd)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(root+"/meterd", binary, 0o755); err != nil {
		t.Fatal(err)
	}
	environment := strings.Fields(regexp.MustCompile(`:\d+`).ReplaceAllString(find(`ENV (METERD_.*)`), ":0")) // any free port
	container := func(env []string, args ...string) *exec.Cmd {
		cmd := exec.CommandContext(t.Context(), "/meterd", args...)
		cmd.Dir, cmd.Env, cmd.Stderr = "/", env, t.Output()
		cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root, Credential: &syscall.Credential{Uid: 65532, Gid: 65532}}
		return cmd
	}

	cmd := container(environment, "dev", "--allow-remote")
	said, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("run this test as root: %v", err)
	}
	ports := map[string]string{}
	for lines := bufio.NewScanner(said); len(ports) < 3 && lines.Scan(); {
		if m := regexp.MustCompile(`^  (AWS endpoint|admin API|operations) .*:(\d+)$`).FindStringSubmatch(lines.Text()); m != nil {
			ports[m[1]] = m[2]
		}
	}
	go func() { _, _ = io.Copy(io.Discard, said) }()
	if len(ports) < 3 {
		t.Fatalf("the sandbox did not start: %v", cmd.Wait())
	}
	for name, port := range ports {
		answer, err := http.Get("http://127.0.0.2:" + port + "/livez")
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		answer.Body.Close()
	}
	if find(`HEALTHCHECK .* CMD (.*)`) != `["/meterd", "healthcheck"]` {
		t.Error("the health check is another one")
	}
	check := container([]string{"METERD_OPS_LISTEN=:" + ports["operations"]}, "healthcheck")
	if err := check.Run(); err != nil {
		t.Errorf("healthcheck: %v", err)
	}

	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(root + "/tmp"); err != nil || len(left) > 0 {
		t.Errorf("the sandbox leaves %v, %v", left, err)
	}

	// A volume on /var/lib/meterd begins as the folder in the image.
	const data = "/var/lib/meterd/ledger"
	for _, args := range [][]string{{"init", "--data", data}, {"verify", "--data", data}} {
		if err := container(nil, args...).Run(); err != nil {
			t.Errorf("%q: %v", args, err)
		}
	}
}
