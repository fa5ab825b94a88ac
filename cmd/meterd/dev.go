package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/meterd/meterd/internal/adminapi"
	"github.com/meterd/meterd/internal/ledger"
	"github.com/meterd/meterd/internal/sandbox"
)

// devCmd runs the sandbox.
type devCmd struct {
	serviceFlags
	Data        string `xor:"place" type:"path" env:"METERD_DATA" placeholder:"DIR" help:"Keep the sandbox in this folder; a throw-away one if not given. Started again on the same folder, it changes nothing that is there."`
	Store       string `xor:"place" env:"METERD_STORE" placeholder:"URL" help:"Keep it in this PostgreSQL database, postgres://…, which several may share."`
	Marketplace string `type:"path" env:"METERD_MARKETPLACE" placeholder:"FILE" help:"Load this marketplace (YAML or JSON, docs/marketplace.md) instead of the seeded one."`
	Describe    string `type:"path" env:"METERD_DESCRIBE" placeholder:"FILE" help:"Write a JSON description of the running sandbox to FILE once it is ready; the file is removed when it starts and when it ends."`
	AllowRemote bool   `env:"METERD_ALLOW_REMOTE" help:"Listen on addresses that other machines can reach. The sandbox's keys are published: anyone can use it."`
}

func (*devCmd) endsByItself() {}

func (cmd *devCmd) Run(c *console) (err error) {
	if cmd.Describe != "" { // a program that waits for the file must not see an old one
		if err := sandbox.Withdraw(cmd.Describe); err != nil {
			return fmt.Errorf("--describe: %w", err)
		}
	}
	if err := errors.Join((&placeFlags{Data: cmd.Data, Store: cmd.Store}).check(), cmd.checkAddresses()); err != nil {
		return err
	}
	if !cmd.AllowRemote {
		for flag, address := range map[string]string{"listen": cmd.Listen, "admin-listen": cmd.AdminListen, "ops-listen": cmd.OpsListen} {
			if !loopback(address) {
				return fmt.Errorf("--%s %s can be reached from other machines, and the sandbox's keys are published; listen on 127.0.0.1, or add --allow-remote", flag, address)
			}
		}
	}
	log := cmd.logger(c.stderr)
	cfg, err := cmd.config(log)
	if err != nil {
		return err
	}
	kept := cmd.Data + cmd.Store
	cfg.Store = kept
	if kept == "" {
		if cfg.Store, err = os.MkdirTemp("", "meterd-sandbox-"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(cfg.Store)) }()
	}
	l, err := cmd.open(c.ctx, cfg, c.stdin)
	if err != nil {
		return err
	}
	s, err := listen(&cmd.serviceFlags, l, log, true)
	if err != nil {
		return errors.Join(err, l.Close())
	}
	description, err := sandbox.Describe(c.ctx, l, sandbox.Endpoints{AWS: s.aws(), Admin: s.admin(), Ops: s.ops()})
	if err == nil && cmd.Describe != "" {
		var withdraw func() error
		if withdraw, err = description.Write(cmd.Describe); err == nil {
			defer func() { err = errors.Join(err, withdraw()) }()
		}
	}
	if err != nil {
		return errors.Join(err, s.leave(), l.Close())
	}
	welcome(c.stdout, description, l.Now().Time(), kept)
	return s.run(c.ctx)
}

// open opens the sandbox, with the marketplace that the flags name.
func (cmd *devCmd) open(ctx context.Context, cfg ledger.Config, stdin io.Reader) (*ledger.Ledger, error) {
	if cmd.Marketplace == "" {
		return sandbox.Open(ctx, cfg, sandbox.Options{})
	}
	file, err := openMarketplace(cmd.Marketplace, stdin)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	m, faults, err := adminapi.Load(file.form, file, 0)
	if err != nil {
		return nil, err
	}
	l, err := sandbox.Open(ctx, cfg, sandbox.Options{Marketplace: m, Faults: faults})
	if errors.As(err, &faults) {
		m.Locate(faults)
		listed, _ := faults.Listed()
		err = file.faulty(listed, len(faults)-len(listed))
	}
	return l, err
}

// welcome prints commands that a person can paste to send a first record.
func welcome(w io.Writer, d *sandbox.Description, now time.Time, kept string) {
	fmt.Fprintln(w, "meterd sandbox — not for production: its keys are published.")
	if kept == "" {
		fmt.Fprintln(w, "It forgets everything when it stops; keep it with --data DIR.")
	}
	fmt.Fprintf(w, "\n  AWS endpoint  %s\n  admin API     %s\n  operations    %s\n", d.Endpoint, d.AdminEndpoint, d.OpsEndpoint)
	timestamp := "$(date -u +%Y-%m-%dT%H:%M:%SZ)"
	if time.Until(now).Abs() > time.Minute { // the clock was moved
		timestamp = now.UTC().Format(time.RFC3339)
	}
	seller, buyer, subscription, dimension := firstRecord(d)
	if subscription == nil {
		fmt.Fprintln(w, "\nThe marketplace has no seller with an access key whose product has dimensions and an active agreement; add them with meterd admin.")
		return
	}
	fmt.Fprintf(w, `
Paste this to send a first usage record:

  export AWS_ENDPOINT_URL_MARKETPLACE_METERING=%s
  export AWS_ACCESS_KEY_ID=%s
  export AWS_SECRET_ACCESS_KEY=%s
  unset AWS_SESSION_TOKEN
  export AWS_REGION=%s AWS_DEFAULT_REGION=%s
  aws --endpoint-url %s meteringmarketplace batch-meter-usage --product-code %s --usage-records "Timestamp=%s,CustomerIdentifier=%s,Dimension=%s,Quantity=3"

A newer AWS CLI finds the endpoint by its variable, and takes CustomerAWSAccountId=%s as well.

Read it back, and administer the marketplace:

  export METERD_ADMIN_ENDPOINT=%s METERD_ADMIN_TOKEN=%s
  curl -H "Authorization: Bearer $METERD_ADMIN_TOKEN" %s/v1/usage    # or: meterd admin usage

Press Ctrl-C to stop.
`, d.Endpoint, seller.AccessKeyID, seller.SecretAccessKey, d.Region, d.Region, d.Endpoint, subscription.ProductCode, timestamp, subscription.CustomerIdentifier, dimension,
		buyer.AccountID, d.AdminEndpoint, d.AdminToken, d.AdminEndpoint)
}

// firstRecord finds a seller that can send a record, and the buyer, subscription and dimension to send it for.
func firstRecord(d *sandbox.Description) (*sandbox.Seller, *sandbox.Buyer, *sandbox.Subscription, string) {
	for i := range d.Products {
		p := &d.Products[i]
		if p.Integration != "legacy" || len(p.Dimensions) == 0 {
			continue
		}
		for j := range d.Sellers {
			seller := &d.Sellers[j]
			if seller.AccountID != p.SellerAccountID || seller.AccessKeyID == "" {
				continue
			}
			for k := range d.Buyers {
				for m := range d.Buyers[k].Subscriptions {
					s := &d.Buyers[k].Subscriptions[m]
					if s.ProductCode == p.ProductCode && strings.EqualFold(s.Status, "active") {
						return seller, &d.Buyers[k], s, p.Dimensions[0]
					}
				}
			}
		}
	}
	return nil, nil, nil, ""
}
