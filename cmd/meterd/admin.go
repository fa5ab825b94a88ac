package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/alecthomas/kong"
	"github.com/meterd/meterd/internal/adminapi"
	"github.com/meterd/meterd/internal/sandbox"
	"github.com/meterd/meterd/internal/table"
)

// adminCmd administers a running service through its admin API.
type adminCmd struct {
	Endpoint  string `default:"http://127.0.0.1:4881" env:"METERD_ADMIN_ENDPOINT" placeholder:"URL" help:"Admin API of the service."`
	Token     string `env:"METERD_ADMIN_TOKEN" help:"Admin token, not needed for a sandbox on this machine; other users of the machine can see command lines, so prefer the environment."`
	TokenFile string `type:"path" env:"METERD_ADMIN_TOKEN_FILE" placeholder:"FILE" help:"File that holds the admin token."`
	CAFile    string `name:"ca-file" type:"path" env:"METERD_ADMIN_CA_FILE" placeholder:"FILE" help:"Certificates of authorities to trust beside the system's, PEM; for a service whose certificate is from one of your own."`
	Output    string `default:"table" enum:"table,json,csv" short:"o" help:"table, json, or csv (usage only)."`

	Seller     sellerCmd     `cmd:"" help:"Accounts that publish products."`
	Buyer      buyerCmd      `cmd:"" help:"Accounts that buy them."`
	Product    productCmd    `cmd:"" help:"Products, their dimensions and public keys."`
	Agreement  agreementCmd  `cmd:"" help:"Agreements and their licences."`
	User       principalCmd  `cmd:"" verb:"/v1/users" help:"Users, who sign with access keys."`
	Role       principalCmd  `cmd:"" verb:"/v1/roles" help:"Roles, whose sessions workloads sign with."`
	Can        canCmd        `cmd:"" verb:"GET /v1/can"`
	Key        keyCmd        `cmd:"" help:"Access keys of users."`
	Workload   workloadCmd   `cmd:"" help:"Instances, tasks, pods and runtimes, and their credentials."`
	Tokens     tokenCmd      `cmd:"" name:"token" help:"Registration tokens."`
	AdminToken adminTokenCmd `cmd:"" help:"Bearer tokens of the admin API."`
	Region     regionCmd     `cmd:"" help:"Regions that signatures may name."`
	Import     importCmd     `cmd:"" verb:"POST /v1/import" help:"Import a marketplace file, all of it or nothing."`
	Usage      usageCmd      `cmd:"" verb:"GET /v1/usage,GET /v1/usage/sum" help:"List usage records, or sum them up."`
	Call       callCmd       `cmd:"" verb:"GET /v1/calls/{request_id}"`
	Clock      clockCmd      `cmd:"" help:"Read the ledger clock, and move that of a sandbox."`
}

// client returns the client that the flags describe. Without a token it is a client of a sandbox on this machine, and
// standard error says so; any other service needs a token.
func (a *adminCmd) client(c *console) (*adminapi.Client, error) {
	address, err := checkURL(a.Endpoint)
	if err != nil {
		return nil, fmt.Errorf("--endpoint: %w", err)
	}
	client := &http.Client{}
	if a.CAFile != "" {
		if client.Transport, err = trusting(a.CAFile); err != nil {
			return nil, fmt.Errorf("--ca-file: %w", err)
		}
	}
	token, err := a.token()
	if err != nil {
		return nil, err
	}
	if token == "" {
		if !loopback(net.JoinHostPort(address.Hostname(), "0")) {
			return nil, fmt.Errorf("there is no admin token, and only a sandbox on this machine is administered without one; %s", giveToken)
		}
		switch is, err := adminapi.IsSandbox(c.ctx, a.Endpoint, client); {
		case err != nil:
			return nil, a.failed(err)
		case !is:
			return nil, fmt.Errorf("there is no admin token, and the service at %s is no sandbox; %s", a.Endpoint, giveToken)
		}
		token = sandbox.AdminToken
		fmt.Fprintf(c.stderr, "meterd: no admin token was given; taking the published one for the sandbox at %s\n", a.Endpoint)
	}
	api := adminapi.New(a.Endpoint, token)
	api.HTTPClient = client
	return api, nil
}

const giveToken = "set METERD_ADMIN_TOKEN, or give --token-file; meterd init prints the first one"

// token returns the token that the flags give, or "".
func (a *adminCmd) token() (string, error) {
	token, flag := a.Token, "--token"
	if a.TokenFile != "" {
		if token != "" {
			return "", errors.New("--token and --token-file exclude each other; give one of them")
		}
		flag = "--token-file"
		b, err := readFile(a.TokenFile, mostKey)
		if err != nil {
			return "", fmt.Errorf("--token-file: %w", err)
		}
		if token = strings.TrimSpace(string(b)); token == "" {
			return "", fmt.Errorf("--token-file: %s holds no token", a.TokenFile)
		}
	}
	if strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", fmt.Errorf("%s: there are characters in it that no admin token has; give it as it was printed", flag)
	}
	return token, nil
}

// trusting returns a transport that trusts the certificate authorities in the file beside the system's.
func trusting(file string) (*http.Transport, error) {
	text, err := readFile(file, mostCertificate)
	if err != nil {
		return nil, err
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s holds no certificate in PEM, -----BEGIN CERTIFICATE-----", file)
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	return transport, nil
}

// ask calls the admin API and shows the answer: as JSON, or with show.
func ask[T any](c *console, a *adminCmd, call func(context.Context, *adminapi.Client) (T, error), show func(io.Writer, T) error) error {
	if a.Output == "csv" {
		return errors.New("--output csv is for meterd admin usage only; take table or json")
	}
	client, err := a.client(c)
	if err != nil {
		return err
	}
	answer, err := call(c.ctx, client)
	if err != nil {
		return a.failed(err)
	}
	if a.Output == "json" {
		e := json.NewEncoder(c.stdout)
		e.SetEscapeHTML(false)
		e.SetIndent("", "  ")
		return e.Encode(answer)
	}
	return show(c.stdout, answer)
}

// failed says what to do when the service cannot be reached.
func (a *adminCmd) failed(err error) error {
	var request *url.Error
	if !errors.As(err, &request) {
		return err
	}
	err = unreached(err, a.Endpoint)
	var dial *net.OpError
	var unknown x509.UnknownAuthorityError
	var noTLS tls.RecordHeaderError
	switch {
	case errors.As(err, &dial) && dial.Op == "dial":
		return fmt.Errorf("%w; is the service running? --endpoint says where", err)
	case errors.As(err, &unknown):
		return fmt.Errorf("%w; --ca-file names the certificate of the authority", err)
	case errors.As(err, &noTLS) || errors.Is(err, http.ErrSchemeMismatch):
		return fmt.Errorf("%w; --endpoint must begin with http://", err)
	}
	return err
}

// verbsOf returns the names of the verbs that a command uses. The command's tag verb lists them, separated by commas; a
// path that begins with a dot goes on from the path of the command's noun.
func verbsOf(n *kong.Node) []string {
	tag := n.Tag.Get("verb")
	if tag == "" {
		return nil
	}
	verbs := strings.Split(tag, ",")
	for i := range verbs {
		verbs[i] = strings.Replace(verbs[i], " .", " "+n.Parent.Tag.Get("verb"), 1)
	}
	return verbs
}

// helpOfVerbs gives commands without a help text the summary of their verb.
func helpOfVerbs(k *kong.Kong) error {
	summaries := map[string]string{}
	for _, v := range adminapi.Verbs() {
		summaries[v.Name()] = v.Summary + "."
	}
	for _, command := range k.Model.Leaves(false) {
		for _, verb := range verbsOf(command) {
			if command.Help == "" {
				command.Help = summaries[verb]
			}
		}
	}
	return nil
}

// do calls a verb, and shows the answer.
func do[In, Out any](c *console, a *adminCmd, verb adminapi.Verb[In, Out], in In, show func(io.Writer, Out) error) error {
	return ask(c, a, func(ctx context.Context, api *adminapi.Client) (Out, error) { return verb.Do(ctx, api, in) }, show)
}

// list calls the verb of a list for all pages, and shows them as one.
func list[In, T any, P adminapi.Paged[In]](c *console, a *adminCmd, verb adminapi.Verb[In, adminapi.Page[T]], in In, show func(io.Writer, adminapi.Page[T]) error) error {
	return ask(c, a, func(ctx context.Context, api *adminapi.Client) (adminapi.Page[T], error) {
		return adminapi.All[In, T, P](ctx, api, verb, in)
	}, show)
}

// nothing shows the answer of a verb that answers nothing: it writes nothing.
func nothing(io.Writer, adminapi.None) error { return nil }

// columns are the columns of a table that shows things of type T.
type columns[T any] struct {
	header []string
	row    func(*T) []string
}

func (t columns[T]) one(w io.Writer, v T) error { return t.many(w, adminapi.Page[T]{Items: []T{v}}) }

func (t columns[T]) many(w io.Writer, p adminapi.Page[T]) error {
	rows := make([][]string, len(p.Items))
	for i := range p.Items {
		rows[i] = t.row(&p.Items[i])
	}
	return table.Text(w, t.header, rows)
}

func when(t *time.Time) string {
	if t == nil {
		return "-"
	}
	return t.UTC().Format("2006-01-02T15:04:05Z")
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
