package main

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/meterd/meterd/internal/adminapi"
	"github.com/meterd/meterd/internal/ledger"
	"github.com/meterd/meterd/internal/store"
)

// dataFlags say where a production ledger is.
type dataFlags struct {
	Data          string `required:"" type:"path" env:"METERD_DATA" placeholder:"DIR" help:"Folder of the ledger."`
	MasterKeyFile string `type:"path" env:"METERD_MASTER_KEY_FILE" placeholder:"FILE" help:"File with the master key, 64 hexadecimal digits, outside the ledger's folder; DIR.key if not given."`
}

func (d *dataFlags) masterKeyFile() (string, error) {
	file := d.MasterKeyFile
	if file == "" {
		file = filepath.Clean(d.Data) + ".key"
	}
	if inside, err := filepath.Rel(d.Data, file); err == nil && !strings.HasPrefix(inside, "..") {
		return "", fmt.Errorf("the master key file %s lies in the ledger's folder, where a copy of the folder would hold both; choose a place outside %s", file, d.Data)
	}
	return file, nil
}

// initCmd creates a production ledger.
type initCmd struct {
	dataFlags
}

func (cmd *initCmd) Run(c *console) error {
	file, err := cmd.masterKeyFile()
	if err != nil {
		return err
	}
	if store.Exists(cmd.Data) {
		return fmt.Errorf("%w in %s; serve it with meterd serve, or choose another folder", store.ErrExist, cmd.Data)
	}
	key, made, err := readOrMakeKey(file)
	if err != nil {
		return err
	}
	cfg := ledger.Config{Dir: cmd.Data, MasterKey: key}
	if err := ledger.Create(cfg); err != nil {
		return err
	}
	l, err := ledger.Open(cfg)
	if err != nil {
		return err
	}
	token, err := l.CreateAdminToken(l.Local(), adminapi.AdminToken{Name: "init"})
	if err = errors.Join(err, l.Close()); err != nil {
		return err
	}
	fmt.Fprintf(c.stdout, "Created a ledger in %s.\n", cmd.Data)
	if made {
		fmt.Fprintf(c.stdout, "Made the master key %s. Keep a copy of it apart from copies of the ledger: without it no secret can be read.\n", file)
	}
	fmt.Fprintf(c.stdout, "\nAdmin token, shown once:\n  %s\n\nServe it:\n  meterd serve --data %s\nAdminister it:\n  export METERD_ADMIN_TOKEN=%s\n  meterd admin seller create 111122223333 --name Acme\n", token.Token, cmd.Data, token.Token)
	return nil
}

// serveCmd serves a production ledger.
type serveCmd struct {
	dataFlags
	serviceFlags
}

func (cmd *serveCmd) Run(c *console) error {
	log := cmd.logger(c.stderr)
	cfg, err := cmd.config(log)
	if err != nil {
		return err
	}
	file, err := cmd.masterKeyFile()
	if err != nil {
		return err
	}
	if !store.Exists(cmd.Data) {
		return fmt.Errorf("%w in %s; if the folder should hold one, check that its volume is mounted, else create it with: meterd init --data %s", store.ErrNotExist, cmd.Data, cmd.Data)
	}
	cfg.Dir = cmd.Data
	if cfg.MasterKey, err = readKey(file); err != nil {
		return err
	}
	l, err := ledger.Open(cfg)
	if err != nil {
		return err
	}
	s, err := listen(&cmd.serviceFlags, l, log)
	if err != nil {
		return errors.Join(err, l.Close())
	}
	log.Info("serving", "endpoint", s.aws(), "admin", s.admin(), "ops", s.ops(), "data", cmd.Data)
	return s.run(c.ctx)
}

func readKey(file string) ([]byte, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("master key: %w; name its file with --master-key-file", err)
	}
	key, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil || len(key) != 32 {
		return nil, fmt.Errorf("master key: %s must hold 64 hexadecimal digits and nothing else", file)
	}
	return key, nil
}

func readOrMakeKey(file string) (key []byte, made bool, err error) {
	key, err = readKey(file)
	if !errors.Is(err, os.ErrNotExist) {
		return key, false, err
	}
	key = make([]byte, 32)
	if _, err := rand.Read(key); err != nil {
		return nil, false, err
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, false, fmt.Errorf("master key: %w", err)
	}
	_, err = f.WriteString(hex.EncodeToString(key) + "\n")
	return key, true, errors.Join(err, f.Sync(), f.Close())
}

// verifyCmd recomputes a ledger from its rows.
type verifyCmd struct {
	Data string `required:"" type:"path" env:"METERD_DATA" placeholder:"DIR" help:"Folder of the ledger."`
}

func (cmd *verifyCmd) Run(c *console) error {
	report, err := ledger.Verify(cmd.Data, ledger.VerifyOptions{})
	if err != nil {
		return err
	}
	return printReport(c.stdout, report)
}

func printReport(w io.Writer, r ledger.Report) error {
	fmt.Fprintf(w, "%d usage records, %d audited calls.\n", r.Records, r.Calls)
	for _, s := range r.Sums {
		fmt.Fprintf(w, "  %s: %d records, quantity %d\n", s.ProductCode, s.Records, s.Quantity)
	}
	if r.ProblemCount == 0 {
		fmt.Fprintln(w, "Everything agrees.")
		return nil
	}
	for _, p := range r.Problems {
		fmt.Fprintln(w, "problem:", p)
	}
	return fmt.Errorf("the ledger disagrees with itself in %d places; stop the service, keep a copy of the folder, and restore a backup", r.ProblemCount)
}
