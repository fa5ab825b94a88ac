package clients_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/meterd/meterd/internal/process"
)

// page is a page of this repository, which tells people what to type.
type page struct {
	*testing.T
	text string
}

func read(t *testing.T, name string) page {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", name))
	if err != nil {
		t.Fatal(err)
	}
	return page{t, string(text)}
}

// section returns the text below a heading.
func (p page) section(heading string) page {
	p.Helper()
	_, text, ok := strings.Cut(p.text, "\n## "+heading+"\n")
	if !ok {
		p.Fatalf("there is no section %q", heading)
	}
	text, _, _ = strings.Cut(text, "\n## ")
	return page{p.T, text}
}

// block returns the indented lines that begin with the one that begins so, to be given to a shell.
func (p page) block(begins string) string {
	p.Helper()
	_, text, ok := strings.Cut(p.text, "\n    "+begins)
	if !ok {
		p.Fatalf("there is no block that begins with %q", begins)
	}
	var lines []string
	for line := range strings.Lines("    " + begins + text) {
		if !strings.HasPrefix(line, "    ") {
			break
		}
		lines = append(lines, line[4:])
	}
	return strings.Join(lines, "")
}

// fenced returns a block in the language.
func (p page) fenced(language string) string {
	p.Helper()
	_, text, ok := strings.Cut(p.text, "\n```"+language+"\n")
	if !ok {
		p.Fatalf("there is no block in %s", language)
	}
	text, _, _ = strings.Cut(text, "\n```")
	return text + "\n"
}

// inline returns what stands between backticks and begins so.
func (p page) inline(begins string) (commands []string) {
	p.Helper()
	for _, found := range regexp.MustCompile("`("+regexp.QuoteMeta(begins)+"[^`]*)`").FindAllStringSubmatch(p.text, -1) {
		commands = append(commands, found[1])
	}
	if len(commands) == 0 {
		p.Fatalf("there is no `%s`", begins)
	}
	return commands
}

// terminal is where somebody types who has meterd, and an aws.
type terminal struct {
	*testing.T
	bin  string            // first on the path
	env  []string          // beside the usual
	here *strings.Replacer // what pages name, as it is here
}

func newTerminal(t *testing.T, aws string, here ...string) *terminal {
	t.Helper()
	term := &terminal{T: t, bin: t.TempDir(), here: strings.NewReplacer(here...)}
	for name, file := range map[string]string{"meterd": binary, "aws": aws} {
		if err := os.Symlink(file, filepath.Join(term.bin, name)); err != nil {
			t.Fatal(err)
		}
	}
	return term
}

// run returns what the program prints on standard output.
func (term *terminal) run(stdin string, args ...string) string {
	term.Helper()
	cmd := exec.CommandContext(term.Context(), args[0], args[1:]...)
	cmd.Env = append(process.Environment(), "PATH="+term.bin+":"+os.Getenv("PATH"), "AWS_CONFIG_FILE="+os.DevNull, "AWS_SHARED_CREDENTIALS_FILE="+os.DevNull,
		"AWS_EC2_METADATA_DISABLED=true", "AWS_PAGER=", "no_proxy=*")
	cmd.Env = append(cmd.Env, term.env...)
	cmd.Stdin = strings.NewReader(term.here.Replace(stdin))
	var problems strings.Builder
	cmd.Stderr = &problems
	out, err := cmd.Output()
	if err != nil {
		term.Fatalf("%s\n%s%v: %s", strings.Join(args, " "), term.here.Replace(stdin), err, &problems)
	}
	return string(out)
}

func (term *terminal) shell(lines string) string {
	term.Helper()
	return term.run(lines, "sh", "-es")
}

// everyCLI runs a test with Debian's AWS CLI, and with a newer one that is on the path.
func everyCLI(t *testing.T, test func(t *testing.T, aws string)) {
	clis := map[string]string{"Debian's": "/usr/bin/aws"}
	if newer := onPath("aws"); newer != "" {
		clis["newer"] = newer
	}
	for name, aws := range clis {
		t.Run(name, func(t *testing.T) { test(t, aws) })
	}
}

// TestFirstRecord pastes what the README and meterd dev have people paste first into a shell where a workload's session
// token was left, with each AWS CLI.
func TestFirstRecord(t *testing.T) {
	t.Parallel()
	s := running(t)
	readme := read(t, "README.md").section("Start")
	var want struct{ Results []map[string]any }
	if err := json.Unmarshal([]byte(readme.fenced("json")), &want); err != nil {
		t.Fatal(err)
	}
	if !s.Poll(t, "meterd dev says what to paste", func() bool { return strings.Contains(s.Output.String(), "Press Ctrl-C to stop.") }) {
		t.Fatal("meterd dev has ended")
	}
	_, said, _ := strings.Cut(s.Output.String(), "Paste this")
	var pasted string
	for line := range strings.Lines(said) {
		if rest, ok := strings.CutPrefix(line, "  "); ok {
			pasted += rest
		}
	}
	everyCLI(t, func(t *testing.T, aws string) {
		term := newTerminal(t, aws, "http://127.0.0.1:4880", s.Endpoint)
		term.env = []string{"AWS_SESSION_TOKEN=" + s.Buyers[0].Workloads[0].SessionToken}
		for name, lines := range map[string]string{"README": readme.block("export AWS_ENDPOINT_URL"), "meterd dev": pasted} {
			answers := json.NewDecoder(strings.NewReader(term.shell(lines)))
			var got struct{ Results []map[string]any }
			if err := answers.Decode(&got); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			for i, r := range got.Results {
				if id, _ := r["MeteringRecordId"].(string); uuid.Validate(id) != nil {
					t.Errorf("%s: id %q", name, id)
				} else if i < len(want.Results) {
					r["MeteringRecordId"] = want.Results[i]["MeteringRecordId"]
				}
				sent, known := r["UsageRecord"].(map[string]any), want.Results[0]["UsageRecord"].(map[string]any)
				sent["Timestamp"] = known["Timestamp"]
			}
			if !slices.EqualFunc(got.Results, want.Results, equalJSON) {
				t.Errorf("%s: %v, want %v", name, got, want)
			}
			if name == "meterd dev" { // it reads usage back, too
				var usage struct{ Records []any }
				if err := answers.Decode(&usage); err != nil || len(usage.Records) == 0 {
					t.Errorf("%s: %v, %v", name, usage, err)
				}
			}
		}
	})
}

func equalJSON(a, b map[string]any) bool {
	x, err1 := json.Marshal(a)
	y, err2 := json.Marshal(b)
	return err1 == nil && err2 == nil && string(x) == string(y)
}

// TestReadmePrograms runs the other commands of the README for a sandbox, and its programs.
func TestReadmePrograms(t *testing.T) {
	t.Parallel()
	s := running(t)
	var token string
	register := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { token = r.FormValue("x-amzn-marketplace-token") }))
	defer register.Close()
	readme := read(t, "README.md").section("Use it from your programs")
	term := newTerminal(t, "/usr/bin/aws", "http://localhost:8080", register.URL)
	term.env = []string{"METERD_ADMIN_ENDPOINT=" + s.AdminEndpoint, "AWS_ENDPOINT_URL_MARKETPLACE_METERING=" + s.Endpoint, "AWS_REGION=us-east-1", "AWS_DEFAULT_REGION=us-east-1",
		"AWS_ACCESS_KEY_ID=" + s.Sellers[0].AccessKeyID, "AWS_SECRET_ACCESS_KEY=" + s.Sellers[0].SecretAccessKey}
	term.shell(readme.block("curl --data-urlencode"))
	if got := term.run("", "aws", "--endpoint-url", s.Endpoint, "meteringmarketplace", "resolve-customer", "--registration-token", token); !strings.Contains(got, "sandboxlegacysaas00000001") {
		t.Errorf("the token %q of the registration page: %s", token, got)
	}
	if python := onPath("python3"); python != "" && exec.Command(python, "-c", "import boto3").Run() == nil {
		if got := term.run("", python, "-c", readme.fenced("python")); !strings.HasPrefix(got, "Success ") {
			t.Errorf("Python: %s", got)
		}
	} else {
		t.Log("no newer boto3 on the path")
	}
	old := map[string]string{`"meteringmarketplace"`: `"meteringmarketplace", endpoint_url="http://127.0.0.1:4880"`, `"CustomerAWSAccountId": "444444444444"`: `"CustomerIdentifier": "sandboxA11"`}
	program := readme.fenced("python")
	for newer, older := range old { // as the README says
		if readme.inline(older) == nil || strings.Count(program, newer) != 1 {
			t.Fatalf("%s is not there once", newer)
		}
		program = strings.ReplaceAll(program, newer, older)
	}
	if got := term.run("", "/usr/bin/python3", "-c", strings.ReplaceAll(program, "http://127.0.0.1:4880", s.Endpoint)); !strings.HasPrefix(got, "Success ") {
		t.Errorf("Python of Debian: %s", got)
	}
	js, err := filepath.Abs("js")
	if err != nil {
		t.Fatal(err)
	}
	if got := term.shell("cd '" + js + "'\nnode --input-type=module - <<'END'\n" + readme.fenced("js") + "console.log(answer.Results[0].Status);\nEND\n"); got != "Success\n" {
		t.Errorf("JavaScript: %s", got)
	}
	for _, command := range readme.inline("meterd admin ") { // the clock moves, so these are last
		term.shell(command)
	}
}

// TestReadmeService makes, serves and checks a ledger as the README has it, with the marketplace of docs/marketplace.md.
func TestReadmeService(t *testing.T) {
	t.Parallel()
	readme := read(t, "README.md").section("Run it for real")
	dir := t.TempDir()
	file := filepath.Join(dir, "marketplace.yaml")
	if err := os.WriteFile(file, []byte(read(t, "docs/marketplace.md").fenced("yaml")), 0o600); err != nil {
		t.Fatal(err)
	}
	before, after, ok := strings.Cut(readme.block("meterd init --data"), "meterd serve --data /var/lib/meterd\n")
	if !ok {
		t.Fatal("meterd serve is not there")
	}
	term := newTerminal(t, "/usr/bin/aws", "/var/lib/", dir+"/")
	token := regexp.MustCompile(`meterd_\S{43}`).FindString(term.shell(before))
	const free = "127.0.0.1:0"
	serve := process.Start(t, exec.Command(binary, "serve", "--data", filepath.Join(dir, "meterd"), "--listen", free, "--admin-listen", free, "--ops-listen", free))
	admin := regexp.MustCompile(`admin=(\S+)`)
	if !serve.Poll(t, "meterd serve ready", func() bool { return admin.MatchString(serve.Output.String()) }) {
		t.Fatal("meterd serve has ended")
	}
	term.env = []string{"METERD_ADMIN_ENDPOINT=" + admin.FindStringSubmatch(serve.Output.String())[1]}
	term.here = strings.NewReplacer("/var/lib/", dir+"/", "TOKEN=…", "TOKEN="+token, " marketplace.yaml", " "+file, " FILE", " "+filepath.Join(dir, "backup"))
	if got := term.shell(after); !strings.Contains(got, "Everything agrees.") || !strings.Contains(got, "Backed up") {
		t.Error(got)
	}
	serve.Stop(t)
	term.shell("meterd restore '" + filepath.Join(dir, "backup") + "' --data '" + filepath.Join(dir, "restored") + "'")
}
