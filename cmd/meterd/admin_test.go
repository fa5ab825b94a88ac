package main

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/meterd/meterd/internal/adminapi"
	"github.com/meterd/meterd/internal/iam"
	"github.com/meterd/meterd/internal/ledger"
	"github.com/meterd/meterd/internal/pgtest"
	"github.com/meterd/meterd/internal/sandbox"
	"github.com/meterd/meterd/internal/server"
)

// operator runs meterd admin commands against a sandbox.
type operator struct {
	*testing.T
	url, tokenFile string
	ran            map[string]bool

	mu    sync.Mutex
	asked []string // names of verbs, for asksFor
}

func newOperator(t *testing.T) *operator {
	t.Helper()
	dir := t.TempDir()
	l, err := sandbox.Open(t.Context(), ledger.Config{Store: pgtest.Place(t, filepath.Join(dir, "ledger")), Log: slog.New(slog.DiscardHandler)}, sandbox.Options{})
	if err != nil {
		t.Fatal(err)
	}
	o := &operator{T: t, tokenFile: filepath.Join(dir, "token"), ran: map[string]bool{}}
	if err := os.WriteFile(o.tokenFile, []byte(sandbox.AdminToken+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	admin := server.Admin(server.AdminConfig{Ledger: l, Log: slog.New(slog.DiscardHandler)})
	verbs := http.NewServeMux()
	for _, v := range adminapi.Verbs() {
		verbs.HandleFunc(v.Name(), func(w http.ResponseWriter, r *http.Request) {
			o.mu.Lock()
			o.asked = append(o.asked, v.Name())
			o.mu.Unlock()
			admin.ServeHTTP(w, r)
		})
	}
	s := httptest.NewServer(verbs)
	o.url = s.URL
	t.Cleanup(func() {
		s.Close()
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return o
}

// admin runs a command and returns its standard output. It fails the test unless the command exits with the code.
func (o *operator) admin(code int, stdin string, args ...string) (stdout, stderr string) {
	o.Helper()
	var out, problems bytes.Buffer
	all := append([]string{"admin", "--endpoint", o.url, "--token-file", o.tokenFile}, args...)
	if got := run(o.Context(), all, nil, strings.NewReader(stdin), &out, &problems); got != code {
		o.Errorf("meterd admin %q: exit code %d, want %d: %s%s", args, got, code, out.String(), problems.String())
	}
	if code == 0 && o.ran != nil {
		o.ran[command(o.T, all).Path()] = true
	}
	return out.String(), problems.String()
}

// asksFor returns the verbs that commands have asked for since it was called last.
func (o *operator) asksFor() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	verbs := o.asked
	o.asked = nil
	return verbs
}

// command returns the command that the arguments run.
func command(t *testing.T, args []string) *kong.Node {
	var c cli
	parser, err := kong.New(&c, kong.Name("meterd"))
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := parser.Parse(args)
	if err != nil {
		t.Fatal(err)
	}
	return parsed.Selected()
}

// TestAdminCommands runs every command of meterd admin.
func TestAdminCommands(t *testing.T) {
	o := newOperator(t)
	file := filepath.Join(t.TempDir(), "more.yaml")
	if err := os.WriteFile(file, []byte("sellers:\n- account_id: \"111122223333\"\nusers:\n- account_id: \"111122223333\"\n  name: made\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	policy := filepath.Join(t.TempDir(), "policy.json")
	if err := os.WriteFile(policy, []byte(`{"Version": "2012-10-17", "Statement": [
  {"Effect": "Allow", "Action": "aws-marketplace:*Usage", "Resource": "*", "Condition": {"IpAddress": {"aws:SourceIp": "203.0.113.0/24"}}},
  {"Effect": "Deny", "Action": "aws-marketplace:RegisterUsage", "Resource": "*", "Condition": {"StringLik": {"aws:username": "x"}}}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	remembered := map[string]string{}
	for _, c := range []struct{ args, stdin, want string }{ // want is a pattern; what its group holds is put in place of $NAME later
		{"seller create 777788889999 --name Acme", "", `^ *ACCOUNT +NAME\n777788889999 +Acme\n$`},
		{"seller list", "", `777788889999 +Acme\n`},
		{"seller get 777788889999", "", `777788889999`},
		{"buyer create 444455556666", "", `^ *ACCOUNT +SUSPENDED\n444455556666 +no\n$`},
		{"buyer suspend 444455556666", "", `444455556666 +yes`},
		{"buyer resume 444455556666", "", `444455556666 +no`},
		{"buyer list", "", `444455556666`},
		{"buyer get 444455556666", "", `444455556666`},
		{"product create --seller 777788889999 --type container --code box --dimension users --dimension gb,net", "", `box +prod-[a-z0-9]{13} +777788889999 +container +legacy +users gb,net\n`},
		{"product dimension box cpu", "", `users gb,net cpu`},
		{"product list --seller 777788889999", "", `^PRODUCT CODE.*\nbox [^\n]*\n$`},
		{"product get box", "", `box`},
		{"product rotate-key box", "", `2 +no .*\n\nversion 2\n-----BEGIN PUBLIC KEY-----`},
		{"product expire-key box 2", "", `2 +yes`},
		{"product keys box", "", `1 +yes(.|\n)*\n +2 +yes`},
		{"agreement create box 444455556666", "", `(?P<AGREEMENT>agmt-[a-z0-9]{25}) +box +444455556666 +[A-Za-z0-9]{12} +active`},
		{"agreement get $AGREEMENT", "", `active`},
		{"agreement list --product box --status active", "", `box`},
		{"agreement cancel $AGREEMENT", "", `ending`},
		{"agreement end $AGREEMENT", "", `ended`},
		{"user create 777788889999 bob --allow MeterdSellerAccess", "", `777788889999 +bob +MeterdSellerAccess`},
		{"user permissions 777788889999 bob --allow * --deny aws-marketplace:Batch*,aws-marketplace:Meter*", "", `bob +\* +aws-marketplace:Batch\* aws-marketplace:Meter\*`},
		{"key create 777788889999 bob", "", `(?P<KEY>AKIA[A-Z2-7]{16}) +[A-Za-z0-9+/]{40} +Active +arn:aws:iam::777788889999:user/bob`},
		{"key list", "", `AKIASANDBOXACME00002 +Active +20.*Z +arn:aws:iam::111111111111:user/powerless\n`},
		{"key list --account 777788889999 --user bob", "", `^ *ACCESS KEY ID +STATUS +CREATED +USER\n$KEY +Active +20\S+Z +arn:aws:iam::777788889999:user/bob\n$`},
		{"key deactivate $KEY", "", `Inactive`},
		{"key activate $KEY", "", `Active`},
		{"user get 777788889999 bob", "", `AKIA[A-Z2-7]{16}=Active`},
		{"user list --account 777788889999", "", `bob`},
		{"key delete $KEY", "", `^$`},
		{"user delete 777788889999 bob", "", `^$`},
		{"role create 444455556666 agent --allow aws-marketplace:MeterUsage", "", `agent`},
		{"role permissions 444455556666 agent", "", `agent`},
		{"role permissions 444455556666 agent --policy " + policy, "", `agent +yes`},
		{"can 444455556666 agent MeterUsage --source-ip 203.0.113.7", "", `principal +arn:aws:iam::444455556666:role/agent\n *action +aws-marketplace:MeterUsage\n *allowed +yes\n *unknown +Statement\[1\].Condition.StringLik.aws:username: this service does not know the operator StringLik`},
		{"can 444455556666 role/agent aws-marketplace:MeterUsage --session i-5 --source-ip 198.51.100.1 --region us-east-1 --user-agent x --tls", "",
			`allowed +no\n *message +User: arn:aws:sts::444455556666:assumed-role/agent/i-5 is not authorized to perform: aws-marketplace:MeterUsage because no identity-based policy allows the aws-marketplace:MeterUsage action\n`},
		{"-o json can 444455556666 agent RegisterUsage", "", `"allowed": false,\n +"message": "User: arn:aws:iam::444455556666:role/agent is not authorized to perform: aws-marketplace:RegisterUsage with an explicit deny in an identity-based policy"`},
		{"role create 444455556666 agent2 --policy " + policy, "", `agent2 +yes`},
		{"role delete 444455556666 agent2", "", `^$`},
		{"role list --account 444455556666", "", `agent`},
		{"role get 444455556666 agent", "", `agent`},
		{"workload create 444455556666 ecs task --role agent", "", `^# export AWS_ENDPOINT_URL_MARKETPLACE_METERING=….*\nexport AWS_ACCESS_KEY_ID=ASIA.*\nexport AWS_SECRET_ACCESS_KEY=.*\nexport AWS_SESSION_TOKEN=.*\nexport AWS_REGION=us-east-1 AWS_DEFAULT_REGION=us-east-1\n$`},
		{"workload list --account 444455556666", "", `444455556666 +ecs +task +us-east-1 +agent`},
		{"role delete 444455556666 agent", "", `^$`},
		{"token create box 444455556666", "", `^[A-Za-z0-9+/]+=*\n$`},
		{"token create box 444455556666 --as my-token", "", `^my-token\n$`},
		{"token list", "", `(?P<TOKEN>[0-9a-f]{32}) +box +444455556666 .* no\n`},
		{"token revoke $TOKEN", "", `^$`},
		{"admin-token create second", "", `^meterd_.{43}\n$`},
		{"admin-token list", "", `(?P<ADMIN>\d+) +second`},
		{"admin-token delete $ADMIN", "", `^$`},
		{"region create eu-private-1", "", `eu-private-1 +yes`},
		{"region disable eu-private-1", "", `eu-private-1 +no`},
		{"region enable eu-private-1", "", `eu-private-1 +yes`},
		{"region list", "", `us-east-1 +yes`},
		{"import " + file, "", ` +1 +0 +0 +0 +1 +0 +0 +0\n\nACCESS KEY ID.*\nAKIA`},
		{"import -", "\n {\"buyers\":[{\"account_id\":\"000000000001\"}]}", ` 1 `},
		{"import -", "# none\nbuyers: []\n", ` 0 `},
		{"usage", "", `^TIMESTAMP +PRODUCT_CODE`},
		{"usage --by product_code,hour -o csv", "", `^product_code,hour,`},
		{"clock", "", `^20.*Z running\n$`},
		{"clock set 2026-11-23T14:00:00Z --freeze", "", `^2026-11-23T14:00:00.000Z frozen\n$`},
		{"clock get", "", `^2026-11-23T14:00:00.000Z frozen\n$`},
		{"clock advance -- -1h", "", `^2026-11-23T13:00:00.000Z frozen\n$`},
		{"clock run", "", `^2026-11-23T13:.* running\n$`},
		{"clock freeze", "", `frozen\n$`},
		{"clock reset", "", `running\n$`},
	} {
		args := strings.Fields(c.args)
		c.want = strings.ReplaceAll(c.want, "$KEY", remembered["KEY"])
		for i := range args {
			if name, ok := strings.CutPrefix(args[i], "$"); ok {
				args[i] = remembered[name]
			}
		}
		out, problems := o.admin(0, c.stdin, args...)
		for _, verb := range o.asksFor() {
			if named := verbsOf(command(t, append([]string{"admin"}, args...))); !slices.Contains(named, verb) {
				t.Errorf("meterd admin %s asks for %s, and names %q", c.args, verb, named)
			}
		}
		pattern := regexp.MustCompile(c.want)
		found := pattern.FindStringSubmatch(out)
		if found == nil || problems != "" {
			t.Errorf("meterd admin %s: no %q in\n%s%s", c.args, c.want, out, problems)
			continue
		}
		for i, name := range pattern.SubexpNames() {
			if name != "" {
				remembered[name] = found[i]
			}
		}
	}
	o.ran["admin call"], o.ran["admin clock accept"] = true, true // TestAdminFailures has them
	for _, leaf := range adminCommands(t) {
		if !o.ran[leaf.Path()] {
			t.Errorf("%s was not tried", leaf.Path())
		}
	}
}

// adminCommands returns the commands of meterd admin.
func adminCommands(t *testing.T) (found []*kong.Node) {
	t.Helper()
	var c cli
	parser, err := kong.New(&c, kong.Name("meterd"), kong.PostBuild(helpOfVerbs))
	if err != nil {
		t.Fatal(err)
	}
	for _, leaf := range parser.Model.Leaves(false) {
		if strings.HasPrefix(leaf.Path(), "admin ") {
			found = append(found, leaf)
		}
	}
	return found
}

// TestCommandsOfVerbs: every verb of the admin API has a command, and every command names verbs that there are.
func TestCommandsOfVerbs(t *testing.T) {
	without := map[string]bool{}
	for _, v := range adminapi.Verbs() {
		without[v.Name()] = true
	}
	all := maps.Clone(without)
	for _, command := range adminCommands(t) {
		if command.Help == "" {
			t.Errorf("%s has no help text", command.Path())
		}
		verbs := verbsOf(command)
		if len(verbs) == 0 {
			t.Errorf("%s names no verb", command.Path())
		}
		for _, verb := range verbs {
			if !all[verb] {
				t.Errorf("%s names %s, which there is not", command.Path(), verb)
			}
			delete(without, verb)
		}
	}
	for verb := range without {
		t.Errorf("%s has no command", verb)
	}
}

// TestCAFile: a service whose certificate is from an authority of the operator's own is reached when it is named.
func TestCAFile(t *testing.T) {
	o := newOperator(t)
	plain, err := url.Parse(o.url)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewTLSServer(httputil.NewSingleHostReverseProxy(plain))
	defer s.Close()
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // the client that does not trust it
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, _ := o.admin(0, "", "seller", "list", "--endpoint", s.URL, "--ca-file", file); !strings.Contains(out, sandbox.Acme) {
		t.Errorf("with --ca-file: %s", out)
	}
	for _, c := range []struct{ endpoint, file, want string }{
		{s.URL, "", "; --ca-file names the certificate of the authority\n"},
		{s.URL, o.tokenFile, "meterd: --ca-file: " + o.tokenFile + " holds no certificate in PEM, -----BEGIN CERTIFICATE-----\n"},
		{strings.Replace(o.url, "http:", "https:", 1), file, ": the service has no certificate there; --endpoint must begin with http://\n"},
	} {
		args := []string{"seller", "list", "--endpoint", c.endpoint}
		if c.file != "" {
			args = append(args, "--ca-file", c.file)
		}
		if _, problems := o.admin(1, "", args...); !strings.HasSuffix(problems, c.want) {
			t.Errorf("--endpoint %s --ca-file %s: %s", c.endpoint, c.file, problems)
		}
	}
}

func TestAdminJSON(t *testing.T) {
	o := newOperator(t)
	for _, args := range []string{"seller list", "buyer get " + sandbox.BuyerA, "usage", "usage --by dimension", "clock", "region list"} {
		out, _ := o.admin(0, "", append(strings.Fields(args), "--output", "json")...)
		var v map[string]any
		if err := json.Unmarshal([]byte(out), &v); err != nil || len(v) == 0 {
			t.Errorf("meterd admin %s: %v: %s", args, err, out)
		}
	}
}

// TestAdminFailures: one line on standard error, nothing on standard output.
func TestAdminFailures(t *testing.T) {
	o := newOperator(t)
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	gone := httptest.NewServer(nil)
	gone.Close()
	odd := filepath.Join(t.TempDir(), "odd")
	if err := os.WriteFile(odd, []byte("two words"), 0o600); err != nil {
		t.Fatal(err)
	}
	const noURL = " is no address of a service; write http:// or https://, the host and the port, such as http://127.0.0.1:4881\n"
	for _, c := range []struct{ args, stdin, want string }{
		{"seller get 777788889999", "", `meterd: account_id: account "777788889999" is not a seller`},
		{"seller create x", "", `meterd: account_id: "x" is not an account id`},
		{"call 0199f0a0-0000-7000-8000-000000000000", "", `meterd: `},
		{"role create 444455556666 r --policy nowhere.json", "", `meterd: --policy: open `},
		{"role create 444455556666 r --policy " + os.DevNull, "", "meterd: --policy: " + os.DevNull + " is empty"},
		{"can 444455556666 nobody MeterUsage", "", `meterd: principal: account "444455556666" has no user or role "nobody"`},
		{"import nowhere.yaml", "", `meterd: open nowhere.yaml`},
		{"import nowhere.txt", "", `meterd: nowhere.txt is neither .yaml`},
		{"import -", "sellers: 5", `meterd: standard input: line 1, column 1: sellers: must be a list, not "5"`},
		{"import -", `{"shops":[]}`, `meterd: standard input: line 1, column 2: there is no member "shops" here`},
		{"import " + filepath.Dir(odd), "", "meterd: " + filepath.Dir(odd) + " is a directory, and a marketplace file is wanted: .yaml, .yml or .json\n"},
		{"usage --limit=-1", "", "meterd: --limit -1: must be 1 or more, or 0 for all\n"},
		{"user list --account acme", "", `meterd: account_id: "acme" is not an account id`},
		{"key list --account acme", "", `meterd: account_id: "acme" is not an account id`},
		{"workload list --account acme", "", `meterd: account_id: "acme" is not an account id`},
		{"product list --seller acme", "", `meterd: seller_account_id: "acme" is not an account id`},
		{"agreement list --buyer acme", "", `meterd: buyer_account_id: "acme" is not an account id`},
		{"usage --account acme", "", `meterd: customer_aws_account_id: there is none "acme"; send the 12 digits of a buyer`},
		{"key delete x", "", `meterd: access_key_id: there is no access key "x": meterd admin key list shows them`},
		{"clock accept", "", `meterd: clock: that of a sandbox is moved, and need not be accepted`},
		{"seller list -o csv", "", `meterd: --output csv is for meterd admin usage only`},
		{"clock accept", "", `meterd: clock: that of a sandbox is moved`},
		{"clock advance soon", "", `meterd: advance: "soon" is not a duration`},
		{"seller list --token x", "", `meterd: --token and --token-file exclude each other`},
		{"seller list --token-file " + empty, "", "meterd: --token-file: " + empty + " holds no token\n"},
		{"seller list --token-file " + odd, "", "meterd: --token-file: there are characters in it that no admin token has; give it as it was printed\n"},
		{"seller list --token-file " + filepath.Dir(odd), "", "meterd: --token-file: " + filepath.Dir(odd) + " is a directory, and a file is wanted\n"},
		{"seller list --ca-file " + filepath.Dir(odd), "", "meterd: --ca-file: " + filepath.Dir(odd) + " is a directory, and a file is wanted\n"},
		{"seller list --endpoint 127.0.0.1:4881", "", `meterd: --endpoint: "127.0.0.1:4881"` + noURL},
		{"seller list --endpoint localhost", "", `meterd: --endpoint: "localhost"` + noURL},
		{"seller list --endpoint http://", "", `meterd: --endpoint: "http://"` + noURL},
		{"seller list --endpoint ftp://127.0.0.1", "", `meterd: --endpoint: "ftp://127.0.0.1"` + noURL},
		{"seller list --endpoint http://127.0.0.1:4881?x", "", `meterd: --endpoint: "http://127.0.0.1:4881?x"` + noURL},
		{"seller list --endpoint http://127.0.0.1:99999", "", "meterd: --endpoint: http://127.0.0.1:99999: a port is 1 to 65535, not 99999\n"},
		{"seller list --endpoint http://meterd.invalid:4881", "", "meterd: http://meterd.invalid:4881: the name meterd.invalid cannot be resolved: "},
		{"seller list --endpoint " + gone.URL, "", "meterd: nothing listens at " + gone.URL + "; is the service running? --endpoint says where\n"},
	} {
		out, problems := o.admin(1, c.stdin, strings.Fields(c.args)...)
		if out != "" || !strings.HasPrefix(problems, c.want) || strings.Count(problems, "\n") != 1 {
			t.Errorf("meterd admin %s: %q, want %q; standard output %q", c.args, problems, c.want, out)
		}
		if unreached := strings.Contains(c.args, gone.URL) || strings.Contains(c.args, ".invalid"); strings.Contains(problems, "is the service running?") != unreached {
			t.Errorf("meterd admin %s asks whether the service is running, or does not: %s", c.args, problems)
		}
	}
}

// TestSandboxToken: a sandbox on this machine, which says that it is one, is administered without a token, and nothing
// else is.
func TestSandboxToken(t *testing.T) {
	tried := func(url string, args []string, code int, out, problems string) {
		t.Helper()
		var gotOut, gotProblems bytes.Buffer
		got := run(t.Context(), append([]string{"admin", "--endpoint", url}, args...), nil, nil, &gotOut, &gotProblems)
		if got != code || !strings.Contains(gotOut.String(), out) || gotProblems.String() != problems {
			t.Errorf("meterd admin %q: exit code %d, %q, and said %q; want %d, %q, and %q", args, got, &gotOut, &gotProblems, code, out, problems)
		}
	}
	list := []string{"seller", "list"}
	o := newOperator(t)
	assumed := "meterd: no admin token was given; taking the published one for the sandbox at " + o.url + "\n"
	tried(o.url, list, 0, sandbox.Acme, assumed)
	tried(o.url, []string{"usage"}, 0, "", assumed)
	tried(o.url, []string{"buyer", "create", "777788889999"}, 0, "777788889999", assumed)
	tried(o.url, append(list, "--token", "wrong"), 1, "", "meterd: The bearer token is missing or not valid. Send the sandbox's published token, which meterd dev prints, or one made with: meterd admin admin-token create.\n")

	cfg := ledger.Config{Store: filepath.Join(t.TempDir(), "ledger"), MasterKey: make([]byte, 32), Log: slog.New(slog.DiscardHandler)}
	if err := ledger.Create(cfg, iam.HashBearerToken(sandbox.AdminToken)); err != nil { // even if somebody made it good there
		t.Fatal(err)
	}
	l, err := ledger.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s := httptest.NewServer(server.Admin(server.AdminConfig{Ledger: l, Log: cfg.Log}))
	defer s.Close()
	const give = "; set METERD_ADMIN_TOKEN, or give --token-file; meterd init prints the first one\n"
	tried(s.URL, list, 1, "", "meterd: there is no admin token, and the service at "+s.URL+" is no sandbox"+give)
	tried("http://192.0.2.1:4881", list, 1, "", "meterd: there is no admin token, and only a sandbox on this machine is administered without one"+give)

	// What is no admin API, and what is one behind somebody else's login.
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" {
			t.Errorf("%s was sent a token", r.URL)
		}
		if strings.HasPrefix(r.URL.Path, "/login/") {
			w.Header().Set("WWW-Authenticate", `Bearer realm="login"`)
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
	defer other.Close()
	tried(other.URL, list, 1, "", "meterd: the answer is HTTP status 200 OK, and not from meterd's admin API: check the endpoint\n")
	tried(other.URL+"/login", list, 1, "", "meterd: there is no admin token, and the service at "+other.URL+"/login is no sandbox"+give)
}

// numbers are the faults of that many sellers that are numbers, one a line.
func numbers(n int) (faults string) {
	for i := range n {
		faults += fmt.Sprintf("  line %d, column 1: sellers[%d]: must be an object with members, not 0\n", i+2, i)
	}
	return faults
}

// TestImportFaults: all that is wrong with a file is told at once, what is found in reading it and what the service
// finds, also of a file that is too large for the service to look for lines in.
func TestImportFaults(t *testing.T) {
	o := newOperator(t)
	const yaml = "sellers:\n- account_id: \"1\"\n  nmae: x\nproducts:\n- seller_account_id: \"777788889999\"\n  type: saas\n  product_code: p\n"
	const inYAML = ": 3 things are wrong, and nothing was imported:\n" +
		"  line 2, column 3: sellers[0].account_id: \"1\" is not an account id: write its 12 digits, without hyphens and with leading zeros\n" +
		"  line 3, column 3: sellers[0]: there is no member \"nmae\" here: the members are account_id, name\n" +
		"  line 5, column 3: products[0].seller_account_id: account \"777788889999\" is not a seller: make it one with: meterd admin seller create\n"
	dir := t.TempDir()
	for _, c := range []struct{ name, text, want string }{
		{"a.yaml", yaml, inYAML},
		{"-", yaml, inYAML},
		{"large.json", "{\"sellers\": [" + strings.Repeat("\n{\"account_id\": \"111122223333\"},", 100_000) + "\n{\"account_id\":\n\"x\"},\n{\"account_id\": \"y\"}]}", ": 2 things are wrong, and nothing was imported:\n" +
			"  line 100003, column 1: sellers[100000].account_id: \"x\" is not an account id: write its 12 digits, without hyphens and with leading zeros\n" +
			"  line 100004, column 16: sellers[100001].account_id: \"y\" is not an account id: write its 12 digits, without hyphens and with leading zeros\n"},
		{"many.json", "{\"sellers\": [" + strings.Repeat("\n0,", 104) + "\n{\"account_id\": \"y\"}]}", ": 105 things are wrong, and nothing was imported:\n" + numbers(100) + "  … and 5 more\n"},
	} {
		file, want := c.name, "meterd: standard input"+c.want
		if file != "-" {
			file = filepath.Join(dir, file)
			want = "meterd: " + file + c.want
			if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if _, got := o.admin(1, c.text, "import", file); got != want {
			t.Errorf("import %s:\n%s\nwant\n%s", c.name, got, want)
		}
	}
	var out, problems bytes.Buffer
	file := filepath.Join(dir, "a.yaml")
	if code := run(t.Context(), []string{"dev", "--marketplace", file, "--listen", "127.0.0.1:0"}, nil, nil, &out, &problems); code != 1 || problems.String() != "meterd: "+file+inYAML {
		t.Errorf("dev: exit code %d, %s", code, problems.String())
	}
}
