package main

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/meterd/meterd/internal/adminapi"
	"github.com/meterd/meterd/internal/iam"
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

// locate fills in where the ledger is and its master key.
func (d *dataFlags) locate(cfg *ledger.Config) error {
	file, err := d.masterKeyFile()
	if err != nil {
		return err
	}
	if !store.Exists(d.Data) {
		return fmt.Errorf("%w in %s; if the folder should hold one, check that its volume is mounted, else create it with: meterd init --data %s", store.ErrNotExist, d.Data, d.Data)
	}
	cfg.Dir = d.Data
	cfg.MasterKey, err = readKey(file)
	return err
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
	exists := fmt.Errorf("%w in %s; serve it with meterd serve, or choose another folder; if its admin tokens are lost, make another one with: meterd recover-token --data %s", store.ErrExist, cmd.Data, cmd.Data)
	if store.Exists(cmd.Data) {
		return exists
	}
	token, hash, err := iam.NewBearerToken(rand.Reader)
	if err != nil {
		return err
	}
	key, made, err := readOrMakeKey(file)
	if err != nil {
		return err
	}
	err = ledger.Create(ledger.Config{Dir: cmd.Data, MasterKey: key}, hash)
	switch {
	case errors.Is(err, store.ErrExist):
		return exists
	case err != nil:
		return err
	}
	var said strings.Builder
	fmt.Fprintf(&said, "Created a ledger in %s.\n", cmd.Data)
	if made {
		fmt.Fprintf(&said, "Made the master key %s. Keep a copy of it apart from copies of the ledger: without it no secret can be read.\n", file)
	}
	fmt.Fprintf(&said, "\nAdmin token, shown once:\n  %s\n\nServe it:\n  meterd serve --data %s\nAdminister it:\n  export METERD_ADMIN_TOKEN=%s\n  meterd admin seller create 111122223333 --name Acme\n", token, cmd.Data, token)
	_, err = io.WriteString(c.stdout, said.String())
	return err
}

// recoverTokenCmd makes an admin token without one: whoever has the folder and the master key may.
type recoverTokenCmd struct {
	dataFlags
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
	token, err := l.CreateAdminToken(l.Local(), adminapi.AdminToken{Name: "recovered"})
	if err = errors.Join(err, l.Close()); err != nil {
		return err
	}
	_, err = fmt.Fprintf(c.stdout, "Admin token %s, shown once:\n  %s\n\nThe others are still good; delete those that are lost, once the ledger is served:\n  export METERD_ADMIN_TOKEN=%s\n  meterd admin admin-token list\n  meterd admin admin-token delete ID\n", token.ID, token.Token, token.Token)
	return err
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
	if err := cmd.locate(&cfg); err != nil {
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
	log.Info("serving", slog.String("endpoint", s.aws()), slog.String("admin", s.admin()), slog.String("ops", s.ops()), slog.String("data", cmd.Data))
	return s.run(c.ctx)
}

func readKey(file string) ([]byte, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("master key: %w; name its file with --master-key-file", err)
	}
	digits := strings.TrimSpace(string(text))
	key, err := hex.DecodeString(digits)
	switch {
	case len(digits) < 64 && strings.Trim(digits, "0123456789abcdef") == "":
		return nil, fmt.Errorf("master key: %s holds %d of 64 hexadecimal digits; it may be the rest of a meterd init that was interrupted: if no ledger was made with it, delete it and run meterd init again, else restore it from its copy", file, len(digits))
	case err != nil || len(key) != 32:
		return nil, fmt.Errorf("master key: %s must hold 64 hexadecimal digits and nothing else", file)
	}
	return key, nil
}

// readOrMakeKey reads the key file, and makes it if it is missing or empty: an init that is killed can leave an empty
// one. Its lock keeps two from making it at once.
func readOrMakeKey(file string) (key []byte, made bool, err error) {
	if info, err := os.Stat(file); err == nil && info.Size() > 0 {
		key, err := readKey(file)
		return key, false, err
	}
	f, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, false, fmt.Errorf("master key: %w", err)
	}
	defer f.Close()
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		return nil, false, fmt.Errorf("master key: locking %s: %w", file, err)
	}
	if info, err := f.Stat(); err != nil || info.Size() > 0 { // another one was quicker
		if err == nil {
			key, err = readKey(file)
		}
		return key, false, err
	}
	key = make([]byte, 32)
	if _, err := rand.Read(key); err != nil {
		return nil, false, err
	}
	_, err = f.WriteString(hex.EncodeToString(key) + "\n")
	if err = errors.Join(err, f.Sync()); err == nil {
		err = store.SyncDir(filepath.Dir(file))
	}
	if err != nil {
		return nil, false, fmt.Errorf("master key: %w", errors.Join(err, f.Truncate(0)))
	}
	return key, true, nil
}

// verifyCmd recomputes a ledger from its rows.
type verifyCmd struct {
	Data string `required:"" type:"path" env:"METERD_DATA" placeholder:"DIR" help:"Folder of the ledger."`
}

func (cmd *verifyCmd) Run(c *console) error {
	report, err := ledger.Verify(cmd.Data, ledger.VerifyOptions{})
	if err != nil {
		printProblems(c.stdout, report) // found before
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
	printProblems(w, r)
	return fmt.Errorf("the ledger disagrees with itself in %d places; stop the service, keep a copy of the folder, and restore a backup", r.ProblemCount)
}

func printProblems(w io.Writer, r ledger.Report) {
	for _, p := range r.Problems {
		fmt.Fprintln(w, "problem:", p)
	}
}
