package crash_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/meterd/meterd/internal/process"
)

// initialized makes a production ledger.
func initialized(t *testing.T) string {
	t.Helper()
	data := folder(t)
	if code, said := meterdRun(t, "init", "--data", data); code != 0 {
		t.Fatalf("meterd init: exit code %d:\n%s", code, said)
	}
	return data
}

// serve returns the arguments that serve a production ledger.
func serve(data string, more ...string) []string {
	return append([]string{"serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0", "--data", data}, more...)
}

// sandboxed returns the arguments that run a sandbox.
func sandboxed(data string) []string {
	return append([]string{"dev"}, serve(data)[1:]...)
}

// tree lists the files under a folder with their contents.
func tree(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		fmt.Fprintln(&b, path, info.Mode())
		if info.Mode().IsRegular() {
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			b.Write(content)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// refused runs meterd and wants it to fail, with one line that says all of the given things, and to leave the folder
// as it is. Lines of the log do not count.
func refused(t *testing.T, data string, args []string, says ...string) {
	t.Helper()
	before := tree(t, filepath.Dir(data))
	code, said := meterdRun(t, args...)
	if code != 1 {
		t.Errorf("meterd %s: exit code %d, want 1:\n%s", args[0], code, said)
	}
	if tree(t, filepath.Dir(data)) != before {
		t.Errorf("meterd %s has changed the folder that it refused", args[0])
	}
	oneLine(t, said, says...)
}

func oneLine(t *testing.T, said string, says ...string) {
	t.Helper()
	lines := slices.DeleteFunc(strings.Split(strings.TrimSpace(said), "\n"), func(line string) bool { return strings.HasPrefix(line, "time=") })
	if len(lines) != 1 || !strings.HasPrefix(lines[0], "meterd: ") {
		t.Errorf("want one line from meterd, not:\n%s", said)
	}
	for _, s := range says {
		if !strings.Contains(said, s) {
			t.Errorf("the message does not say %q:\n%s", s, said)
		}
	}
}

func TestRefuseSecondProcess(t *testing.T) {
	t.Parallel()
	data := folder(t)
	m := dev(t, data)
	code, said := meterdRun(t, sandboxed(data)...)
	if code != 1 {
		t.Errorf("a second meterd dev: exit code %d", code)
	}
	oneLine(t, said, "another process", data)
	verify(t, data) // reads beside it
	m.Stop(t)

	production := initialized(t)
	p := launch(t, append([]string{binary}, serve(production)...)...)
	if !p.Poll(t, "meterd serve", func() bool { return strings.Contains(p.Output.String(), "msg=serving") }) {
		t.Fatalf("meterd serve ended: %v\n%s", p.Err, &p.Output)
	}
	code, said = meterdRun(t, serve(production)...)
	if code != 1 {
		t.Errorf("a second meterd serve: exit code %d", code)
	}
	oneLine(t, said, "another process", production)
	p.Cmd.Process.Signal(syscall.SIGTERM)
	if code := p.Wait(t); code != 0 {
		t.Errorf("meterd serve, told to stop: %v\n%s", p.Err, &p.Output)
	}
}

func TestRefuse(t *testing.T) {
	t.Parallel()
	empty := folder(t)
	if err := os.Mkdir(empty, 0o700); err != nil {
		t.Fatal(err)
	}
	missing := folder(t)
	production := initialized(t)
	other := initialized(t)
	toy := folder(t)
	dev(t, toy).Stop(t)
	for _, test := range []struct {
		name string
		data string
		args []string
		says []string
	}{
		{"serve on an empty folder", empty, serve(empty), []string{"no ledger", empty, "init"}},
		{"serve on a missing folder", missing, serve(missing), []string{"no ledger", missing, "init"}},
		{"verify of an empty folder", empty, []string{"verify", "--data", empty}, []string{"no ledger", empty}},
		{"a second init", production, []string{"init", "--data", production}, []string{"ledger already", production}},
		{"a wrong master key", production, serve(production, "--master-key-file", other+".key"), []string{"master key"}},
		{"no master key", production, serve(production, "--master-key-file", other+".lost"), []string{"master key", other + ".lost"}},
		{"a master key in the ledger's folder", production, serve(production, "--master-key-file", filepath.Join(production, "key")), []string{"master key", production}},
		{"a sandbox served", toy, serve(toy, "--master-key-file", other+".key"), []string{"sandbox"}},
		{"a production ledger as a sandbox", production, sandboxed(production), []string{"production"}},
	} {
		t.Run(test.name, func(t *testing.T) { refused(t, test.data, test.args, test.says...) })
	}
}

// TestRefuseReadOnly runs meterd as somebody who may not write.
func TestRefuseReadOnly(t *testing.T) {
	t.Parallel()
	root, err := os.MkdirTemp("", "meterd-readonly")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(root) })
	data := filepath.Join(root, "data")
	dev(t, data).Stop(t)
	err = filepath.Walk(root, func(path string, info os.FileInfo, err error) error {
		if err == nil && info.IsDir() {
			return os.Chmod(path, 0o555)
		} else if err == nil {
			return os.Chmod(path, 0o444)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Chmod(root, 0o700); os.Chmod(data, 0o700) })
	for name, args := range map[string][]string{"dev": sandboxed(data), "dev on a new folder": sandboxed(filepath.Join(root, "new"))} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command(binary, args...)
			if os.Geteuid() == 0 { // root may write anywhere
				cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
			}
			cmd.Dir = "/"
			p := process.Start(t, cmd)
			if code := p.Wait(t); code != 1 {
				t.Errorf("exit code %d, want 1", code)
			}
			oneLine(t, p.Output.String(), "permission denied", root)
		})
	}
}

// TestDamage damages the database in many ways: meterd must notice, and never answer as if nothing had happened.
func TestDamage(t *testing.T) {
	whole := prepare(t, true)
	if log, err := os.Stat(filepath.Join(whole.data, "ledger.db-wal")); err == nil && log.Size() > 0 {
		t.Fatal("meterd has stopped without emptying its log into the database, so that damage there would not show")
	}
	content, err := os.ReadFile(filepath.Join(whole.data, "ledger.db"))
	if err != nil {
		t.Fatal(err)
	}
	const page = 4096
	type damage struct {
		name    string
		content []byte
		start   bool // run the service on it too, which takes longer
	}
	var damages []damage
	for _, size := range []int{0, 1, 99, 100, 512, page - 1, page, page + 1, len(content) / 2 / page * page, len(content)/2 + 7, len(content) - page, len(content) - 2000, len(content) - 500, len(content) - 100, len(content) - 50, len(content) - 24, len(content) - 12, len(content) - 9} {
		damages = append(damages, damage{fmt.Sprintf("truncated to %d of %d", size, len(content)), content[:size], true})
	}
	random := rand.New(rand.NewPCG(seedOf(t), 0))
	for n := range len(content) / page {
		at, bit := n*page+random.IntN(page), random.IntN(8)
		flipped := slices.Clone(content)
		flipped[at] ^= 1 << bit
		damages = append(damages, damage{fmt.Sprintf("bit %d of byte %d of page %d flipped", bit, at%page, n+1), flipped, n%4 == 0})
	}
	for _, d := range damages {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			data, writers := whole.fork(t)
			if err := os.WriteFile(filepath.Join(data, "ledger.db"), d.content, 0o600); err != nil {
				t.Fatal(err)
			}
			code, said := meterdRun(t, "verify", "--data", data)
			if code != 1 || said == "" || strings.Contains(said, "goroutine") {
				t.Errorf("meterd verify: exit code %d, want 1:\n%s", code, said)
			}
			if !d.start {
				return
			}
			m := launchDev(t, data)
			if !m.Ready(t) {
				if m.Cmd.ProcessState.ExitCode() != 1 {
					t.Errorf("meterd dev: %v, want exit code 1:\n%s", m.Err, &m.Output)
				}
				oneLine(t, m.Output.String(), data)
				return
			}
			// What the index was made from was whole. Answers are right or there are none.
			for _, w := range writers {
				w.connect(t, m)
				for _, k := range w.order {
					if _, err := w.send([]usage{{k, w.acked[k].quantity}}); err != nil {
						t.Error(err)
					}
				}
			}
			m.Kill(t)
		})
	}
}

// TestDamageLog damages the log that a killed meterd has left, in ways of which SQLite would make a shorter one.
func TestDamageLog(t *testing.T) {
	whole := prepare(t, false)
	content, err := os.ReadFile(filepath.Join(whole.data, "ledger.db-wal"))
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(seedOf(t), 0))
	damaged := map[string][]byte{"missing": nil, "empty": {}, "its last byte missing": content[:len(content)-1], "half": content[:len(content)/2]}
	for n := range 12 {
		at, bit := random.IntN(len(content)), random.IntN(8)
		if n == 0 {
			at %= 32 // the header
		}
		flipped := slices.Clone(content)
		flipped[at] ^= 1 << bit
		damaged[fmt.Sprintf("bit %d of byte %d flipped", bit, at)] = flipped
	}
	for name, content := range damaged {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			data, _ := whole.fork(t)
			log := filepath.Join(data, "ledger.db-wal")
			if err := os.Remove(log); err != nil {
				t.Fatal(err)
			}
			if content != nil {
				if err := os.WriteFile(log, content, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			for _, args := range [][]string{{"verify", "--data", data}, sandboxed(data)} {
				refused(t, data, args, "the log is damaged", log, "restore a backup")
			}
		})
	}
}

// TestDamageKey damages the master key's file: what is left of it is no key, or not the ledger's.
func TestDamageKey(t *testing.T) {
	data := initialized(t)
	key, err := os.ReadFile(data + ".key")
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(seedOf(t), 0))
	damaged := [][]byte{{}, key[:1], key[:63], append(slices.Clone(key), '0')}
	for at := random.IntN(7); at < 64; at += 7 {
		flipped := slices.Clone(key)
		flipped[at] ^= 1 << random.IntN(5) // not its case
		damaged = append(damaged, flipped)
	}
	for _, content := range damaged {
		if err := os.WriteFile(data+".key", content, 0o600); err != nil {
			t.Fatal(err)
		}
		refused(t, data, serve(data), "master key")
		if code, said := meterdRun(t, "verify", "--data", data); code == 0 || !strings.Contains(said, "master key") {
			t.Errorf("verify beside %q: exit code %d:\n%s", content, code, said)
		}
	}
	if err := os.Remove(data + ".key"); err != nil {
		t.Fatal(err)
	}
	verify(t, data) // needs none
}

// TestDamageLock: what the lock file holds is of no account.
func TestDamageLock(t *testing.T) {
	data := folder(t)
	dev(t, data).Stop(t)
	if err := os.WriteFile(filepath.Join(data, "lock"), []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	m := dev(t, data)
	code, said := meterdRun(t, sandboxed(data)...)
	if code != 1 {
		t.Errorf("a second meterd dev: exit code %d", code)
	}
	oneLine(t, said, "another process", data)
	m.Stop(t)
	if err := os.Remove(filepath.Join(data, "lock")); err != nil {
		t.Fatal(err)
	}
	dev(t, data).Stop(t)
}
