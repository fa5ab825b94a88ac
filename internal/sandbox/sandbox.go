// Package sandbox makes a ledger for development and tests: seeded with a marketplace, with published keys and a
// clock that can be moved. Nothing of it is for production, and production ledgers refuse it.
package sandbox

import (
	"context"
	"errors"
	"time"

	"github.com/meterd/meterd/internal/adminapi"
	"github.com/meterd/meterd/internal/ledger"
	"github.com/meterd/meterd/internal/market"
	"github.com/meterd/meterd/internal/store"
)

// Options say what a sandbox starts with. The zero value is the seeded marketplace at the time by the wall clock.
type Options struct {
	Marketplace adminapi.Source // what to load; the seeded marketplace if nil
	Faults      adminapi.Faults // what was found wrong when Marketplace was read; with any, Open only adds what else is wrong
	Now         time.Time       // where a new sandbox's ledger clock stands still; zero lets it run
}

// AdminToken is the bearer token of every sandbox's admin API. It is published.
const AdminToken = "meterd_sandbox_published_admin_token"

// Open opens the sandbox in cfg.Store, and makes it first if there is none. A marketplace that is loaded
// already is left as it is. A start that was cut short is carried on: as long as there is no seller, the sandbox is new.
func Open(ctx context.Context, cfg ledger.Config, o Options) (*ledger.Ledger, error) {
	cfg.Sandbox, cfg.MasterKey, cfg.SandboxToken = true, MasterKey(), AdminToken
	exists, err := store.Exists(cfg.Store)
	if err == nil && !exists {
		err = ledger.Create(cfg)
	}
	if err != nil {
		return nil, err
	}
	l, err := ledger.Open(cfg)
	if err != nil {
		return nil, err
	}
	if err := load(ctx, l, o); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

func load(ctx context.Context, l *ledger.Ledger, o Options) error {
	op := l.Local()
	sellers, err := ledger.List(ctx, l, op, market.Sellers(adminapi.Paging{}), "", 1)
	if err != nil {
		return err
	}
	made := len(sellers.Items) == 0
	if made && !o.Now.IsZero() {
		frozen := true
		if _, err := l.ChangeClock(ctx, op, adminapi.ClockChange{Now: &o.Now, Frozen: &frozen}); err != nil {
			return err
		}
	}
	m := o.Marketplace
	if m == nil {
		if !made {
			return nil
		}
		m = Marketplace(l.Now().Time())
	}
	_, err = ledger.Act(ctx, l, op, market.Import(m, o.Faults...))
	return err
}
