package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/meterd/meterd/internal/adminapi"
	"github.com/meterd/meterd/internal/iam"
	"github.com/meterd/meterd/internal/ledger"
	"github.com/meterd/meterd/internal/market"
	"github.com/meterd/meterd/internal/store"
	"github.com/meterd/meterd/internal/verify"
)

// placeFlags say where a production ledger is.
type placeFlags struct {
	Data  string `required:"" xor:"place" type:"path" env:"METERD_DATA" placeholder:"DIR" help:"Folder of the ledger: the embedded store, for one node."`
	Store string `required:"" xor:"place" env:"METERD_STORE" placeholder:"URL" help:"PostgreSQL database of the ledger, postgres://…, for any number of nodes (docs/scale.md)."`
}

// location returns the folder or the URL.
func (p *placeFlags) location() string { return p.Data + p.Store }

// flag returns the flag that names the place on the command line, without a password.
func (p *placeFlags) flag() string {
	if p.Store != "" {
		return "--store '" + store.Redacted(p.Store) + "'"
	}
	return "--data " + p.Data
}

func (p *placeFlags) check() error {
	if shown := store.RedactedText(p.Data); shown != p.Data {
		return errors.New("--data names a folder; name a database with --store")
	}
	if p.Store != "" && !store.IsURL(p.Store) {
		return fmt.Errorf("--store %s: must be the URL of a PostgreSQL database, postgres://user@host/database; for a folder use --data", store.Redacted(p.Store))
	}
	return nil
}

// find fails if there is no ledger in the place.
func (p *placeFlags) find() error {
	if err := p.check(); err != nil {
		return err
	}
	exists, err := store.Exists(p.location())
	switch {
	case err != nil:
		return err
	case !exists && p.Store != "":
		return fmt.Errorf("%w in %s; check that the URL names the right database and search_path, else create it with: meterd init %s --master-key-file FILE", store.ErrNotExist, store.Redacted(p.Store), p.flag())
	case !exists:
		return fmt.Errorf("%w in %s; if the folder should hold one, check that its volume is mounted, else create it with: meterd init --data %s", store.ErrNotExist, p.Data, p.Data)
	}
	return nil
}

// unlessSandbox returns err, unless the place holds a sandbox: then err would mislead, and the error says that this is a
// sandbox.
func (p *placeFlags) unlessSandbox(err error) error {
	sandbox := false
	bad := store.Read(p.location(), func(_ *store.Reader, meta store.Meta) error {
		sandbox = meta.Sandbox
		return nil
	})
	if bad != nil || !sandbox {
		return err
	}
	return fmt.Errorf("the ledger in %s is a sandbox, whose keys are published, and not for production; run it with: meterd dev %s", store.Redacted(p.location()), p.flag())
}

// ledgerFlags say where a production ledger and its master key are.
type ledgerFlags struct {
	placeFlags
	MasterKeyFile string `type:"path" env:"METERD_MASTER_KEY_FILE" placeholder:"FILE" help:"File with the master key, 64 hexadecimal digits, the same for every node, outside the ledger's folder; DIR.key if not given."`
}

func (f *ledgerFlags) masterKeyFile() (string, error) {
	if f.Store != "" {
		if f.MasterKeyFile == "" {
			return "", errors.New("--master-key-file is missing: name the file with the master key of the ledger; every node needs the same one")
		}
		return f.MasterKeyFile, nil
	}
	file := f.MasterKeyFile
	if file == "" {
		file = filepath.Clean(f.Data) + ".key"
	}
	if inside, err := filepath.Rel(f.Data, file); err == nil && !strings.HasPrefix(inside, "..") {
		return "", fmt.Errorf("the master key file %s lies in the ledger's folder, where a copy of the folder would hold both; choose a place outside %s", file, f.Data)
	}
	return file, nil
}

// locate sets the ledger's place and master key in cfg.
func (f *ledgerFlags) locate(cfg *ledger.Config) error {
	file, err := f.masterKeyFile()
	if err != nil {
		return err
	}
	if err := f.find(); err != nil {
		return err
	}
	cfg.Store = f.location()
	if cfg.MasterKey, err = readKey(file); err != nil {
		err = f.unlessSandbox(err)
	}
	return err
}

// initCmd creates a production ledger.
type initCmd struct {
	ledgerFlags
	IfMissing bool `env:"METERD_IF_MISSING" help:"If there is a ledger already, change nothing and exit with 0. Not for a folder on a volume that could be unmounted: there a missing ledger is no reason to make another one."`
}

func (cmd *initCmd) left() string {
	return "run the same command again, which takes away what this one has left; if there is a ledger already, whose token was not shown, make one with: meterd recover-token " + cmd.flag()
}

func (cmd *initCmd) Run(c *console) error {
	file, err := cmd.masterKeyFile()
	if err != nil {
		return err
	}
	if err := cmd.check(); err != nil {
		return err
	}
	place := store.Redacted(cmd.location())
	exists, err := store.Exists(cmd.location())
	if err != nil {
		return err
	}
	if exists {
		return cmd.exists(c)
	}
	token, hash, err := iam.NewBearerToken(rand.Reader)
	if err != nil {
		return err
	}
	key, made, err := readOrMakeKey(file)
	if err != nil {
		return err
	}
	err = ledger.Create(ledger.Config{Store: cmd.location(), MasterKey: key}, hash)
	switch {
	case errors.Is(err, store.ErrExist):
		return cmd.exists(c)
	case err != nil:
		return err
	}
	var said strings.Builder
	fmt.Fprintf(&said, "Created a ledger in %s.\n", place)
	if made {
		fmt.Fprintf(&said, "Made the master key %s. Keep a copy of it apart from copies of the ledger: without it no secret can be read.\n", file)
	}
	serve := cmd.flag()
	if cmd.Store != "" || file != filepath.Clean(cmd.Data)+".key" {
		serve += " --master-key-file " + file
	}
	fmt.Fprintf(&said, "\nAdmin token, shown once:\n  %s\n\nServe it:\n  meterd serve %s\nAdminister it:\n  export METERD_ADMIN_TOKEN=%s\n  meterd admin seller create 111122223333 --name Acme\n", token, serve, token)
	_, err = io.WriteString(c.stdout, said.String())
	return err
}

// exists prints or, without --if-missing, returns as an error that there is a ledger already.
func (cmd *initCmd) exists(c *console) error {
	if err := cmd.unlessSandbox(nil); err != nil {
		return err
	}
	lost := "if its admin tokens are lost, make another one with: meterd recover-token " + cmd.flag()
	if cmd.IfMissing {
		_, err := fmt.Fprintf(c.stdout, "There is a ledger already in %s; nothing was changed. Its first admin token was shown when it was made; %s\n", store.Redacted(cmd.location()), lost)
		return err
	}
	return fmt.Errorf("%w in %s; serve it with meterd serve, or choose another place; %s", store.ErrExist, store.Redacted(cmd.location()), lost)
}

// recoverTokenCmd makes an admin token without using one. Whoever has the ledger and the master key may do so.
type recoverTokenCmd struct {
	ledgerFlags
}

func (*recoverTokenCmd) left() string {
	return "run it again; a token that was made and not shown can be deleted then"
}

func (cmd *recoverTokenCmd) Run(c *console) error {
	var cfg ledger.Config
	if err := cmd.locate(&cfg); err != nil {
		return err
	}
	l, err := ledger.Open(cfg)
	if err != nil {
		return err
	}
	token, err := ledger.Act(context.Background(), l, l.Local(), market.CreateAdminToken(adminapi.AdminToken{Name: "recovered"}))
	if err = errors.Join(err, l.Close()); err != nil {
		return err
	}
	_, err = fmt.Fprintf(c.stdout, "Admin token %s, shown once:\n  %s\n\nThe others are still good; delete those that are lost, once the ledger is served:\n  export METERD_ADMIN_TOKEN=%s\n  meterd admin admin-token list\n  meterd admin admin-token delete ID\n", token.ID, token.Token, token.Token)
	return err
}

// serveCmd serves a production ledger.
type serveCmd struct {
	ledgerFlags
	serviceFlags
	DrainTime time.Duration `default:"0s" env:"METERD_DRAIN_TIME" placeholder:"DURATION" help:"When told to stop, go on taking calls for so long while /readyz already fails, so that a load balancer can turn to other nodes."`
}

func (*serveCmd) endsByItself() {}

func (cmd *serveCmd) Run(c *console) error {
	if cmd.DrainTime < 0 {
		return fmt.Errorf("--drain-time %v: must not be negative", cmd.DrainTime)
	}
	if err := cmd.checkAddresses(); err != nil {
		return err
	}
	log := cmd.logger(c.stderr)
	cfg, err := cmd.config(log)
	if err != nil {
		return err
	}
	cfg.DatabaseClock = true
	s, err := newService(&cmd.serviceFlags, log, false)
	if err != nil {
		return err
	}
	l, err := cmd.open(c.ctx, s, cfg)
	if l == nil || err != nil {
		return errors.Join(err, s.leave())
	}
	if err := s.open(l); err != nil {
		return errors.Join(err, s.leave(), l.Close())
	}
	log.Info("serving", slog.String("endpoint", s.aws()), slog.String("admin", s.admin()), slog.String("ops", s.ops()), slog.String("store", store.Redacted(cmd.location())))
	s.drain = cmd.DrainTime
	return s.run(c.ctx)
}

// ownAddress matches the local end of a connection, which makes two reports of the same failure differ.
var ownAddress = regexp.MustCompile(`\S+->`)

// open opens the ledger. If the ledger's database is away, open tries again each second, while the operations endpoint
// says why the service is not ready. If ctx is done before there is a ledger, open returns neither a ledger nor an
// error.
func (cmd *serveCmd) open(ctx context.Context, s *service, cfg ledger.Config) (*ledger.Ledger, error) {
	said := map[string]bool{} // reasons that the log has been told
	for {
		l, err := cmd.tryOpen(ctx, cfg)
		if cmd.Store == "" || !store.Away(err) {
			return l, err
		}
		reason := errors.New(ownAddress.ReplaceAllString(store.RedactedText(err.Error()), ""))
		if err := s.wait(fmt.Errorf("waiting for the database: %w", reason)); err != nil {
			return nil, err
		}
		if !said[reason.Error()] {
			said[reason.Error()] = true
			s.log.Warn("waiting for the database", slog.String("ops", s.ops()), slog.Any("reason", reason))
		}
		select {
		case <-ctx.Done():
			s.log.Info("stopping; the database was not there yet")
			return nil, nil
		case err := <-s.failed:
			return nil, err
		case <-time.After(time.Second):
		}
	}
}

// tryOpen tries once to find and open the ledger. After ctx is done it waits no longer than a connection takes, because
// the database may hang. If the process ends during the attempt, this does no more harm than a kill.
func (cmd *serveCmd) tryOpen(ctx context.Context, cfg ledger.Config) (*ledger.Ledger, error) {
	type result struct {
		ledger *ledger.Ledger
		err    error
	}
	done := make(chan result, 1)
	go func() {
		var r result
		if r.err = cmd.locate(&cfg); r.err == nil {
			r.ledger, r.err = ledger.Open(cfg)
		}
		done <- r
	}()
	select {
	case r := <-done:
		return r.ledger, r.err
	case <-ctx.Done():
	}
	select {
	case r := <-done:
		return r.ledger, r.err
	case <-time.After(10 * time.Second):
		return nil, nil
	}
}

// verifyCmd recomputes a ledger from its rows.
type verifyCmd struct {
	placeFlags
	Backup        string `required:"" xor:"place" type:"path" placeholder:"FILE" help:"File that meterd backup has made: each page, the checksum of all, and the ledger in it."`
	MasterKeyFile string `type:"path" env:"METERD_MASTER_KEY_FILE" placeholder:"FILE" help:"File with the ledger's master key; DIR.key if not given and it can be read. Without it all is checked but what ClientTokens stand for."`
	Output        string `default:"text" enum:"text,json" short:"o" help:"text or json."`
}

func (*verifyCmd) left() string { return "a verification changes nothing; run it again" }

func (cmd *verifyCmd) Run(c *console) error {
	place := cmd.Backup
	if place == "" {
		if err := cmd.find(); err != nil {
			return err
		}
		place = cmd.location()
	}
	key, err := cmd.key()
	if err != nil {
		return err
	}
	report, err := verify.Ledger(place, verify.Options{MasterKey: key})
	if cmd.Output == "json" {
		out := struct {
			verify.Report
			Agrees bool   `json:"agrees"`
			Error  string `json:"error,omitempty"` // why the ledger could not be read to its end
		}{report, err == nil && report.ProblemCount == 0, ""}
		if err != nil {
			out.Error = err.Error()
		}
		e := json.NewEncoder(c.stdout)
		e.SetIndent("", "  ")
		return errors.Join(err, e.Encode(out), disagreement(report))
	}
	if err != nil {
		printProblems(c.stdout, report) // problems that were found before the error
		return err
	}
	return printReport(c.stdout, report)
}

// key reads the master key from the file that the flags name, or else from where init puts it by default.
func (cmd *verifyCmd) key() ([]byte, error) {
	file := cmd.MasterKeyFile
	if file == "" && cmd.Data != "" {
		file = filepath.Clean(cmd.Data) + ".key"
		if f, err := os.Open(file); err != nil {
			return nil, nil
		} else if err := f.Close(); err != nil {
			return nil, err
		}
	}
	if file == "" {
		return nil, nil
	}
	return peekKey(file)
}

func printReport(w io.Writer, r verify.Report) error {
	fmt.Fprintf(w, "%d usage records, %d audited calls.\n", r.Records, r.Calls)
	for _, s := range r.Sums {
		fmt.Fprintf(w, "  %s: %d records, quantity %d\n", s.ProductCode, s.Records, s.Quantity)
	}
	if r.Unchecked > 0 {
		fmt.Fprintf(w, "It was not checked which records %d ClientTokens stand for: that takes the master key, --master-key-file.\n", r.Unchecked)
	}
	if r.ProblemCount == 0 {
		fmt.Fprintln(w, "Everything agrees.")
		return nil
	}
	printProblems(w, r)
	return disagreement(r)
}

func disagreement(r verify.Report) error {
	if r.ProblemCount == 0 {
		return nil
	}
	return fmt.Errorf("the ledger disagrees with itself in %d places; stop the service, keep a copy of it as it is, and restore a backup", r.ProblemCount)
}

func printProblems(w io.Writer, r verify.Report) {
	for _, p := range r.Problems {
		fmt.Fprintln(w, "problem:", p)
	}
}
