package ledger

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/meterd/meterd/internal/metering"
	"github.com/meterd/meterd/internal/store"
)

// A node on a shared store follows what other nodes change: every followEvery it asks for the catalogue's revision
// and reads what is new. So all nodes act on a change within seconds. A node that cannot follow takes no calls after
// maxBehind, because it might still honour what has been revoked.
const (
	followEvery = time.Second
	maxBehind   = 5 * time.Second
)

// errBehind says that the shared store could not be reached for so long that this node's catalogue may be out of
// date.
var errBehind = errors.New("the database could not be asked for changes of the catalogue in time")

// follow catches up with the other nodes until the ledger is closed.
func (l *Ledger) follow() {
	defer l.stopped.Done()
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	for {
		select {
		case <-l.stop:
			return
		case <-tick.C:
			_ = l.catchUp(context.Background()) // catchUp has noted the error
		}
	}
}

// following returns nil while this node is up to date with a shared store, and otherwise says why it is not.
func (l *Ledger) following() error {
	if !l.db.Shared() {
		return nil
	}
	if err := l.trouble.Load(); err != nil {
		return fmt.Errorf("the database cannot be used at the moment: %w", *err)
	}
	if time.Now().UnixNano()-l.followed.Load() > int64(maxBehind) {
		return errBehind
	}
	return nil
}

// troubled notes that the shared store could not be used. No calls are taken until the store answers again, or ever
// again if the store has gone back in time.
func (l *Ledger) troubled(err error) {
	if errors.Is(err, store.ErrWentBack) {
		l.fail(err)
		return
	}
	if l.trouble.Swap(&err) == nil {
		l.cfg.Log.Warn("the database cannot be used; taking no calls until it can", slog.Any("error", err))
	}
}

// unread is the answer to a call for which the store could not be read.
func (l *Ledger) unread(ctx context.Context, err error) *metering.Error {
	if ctx.Err() != nil {
		return errStopped // the client has gone, and nothing is wrong with the store
	}
	if l.db.Shared() {
		l.troubled(err)
		return errStopped
	}
	return metering.Errorf(metering.Internal, "%v", err)
}

// catchUp reads what other nodes have changed in a shared store. While an act of administration is being planned here
// it does nothing: the plan reads the catalogue without its lock, and the act catches up by itself.
func (l *Ledger) catchUp(ctx context.Context) error {
	return l.catch(ctx, l.administration.tryLock, l.administration.unlock)
}

// catchUpLocked is catchUp for callers that hold l.administration.
func (l *Ledger) catchUpLocked(ctx context.Context) error {
	return l.catch(ctx, func() bool { return true }, func() {})
}

func (l *Ledger) catch(ctx context.Context, lock func() bool, unlock func()) error {
	if !l.db.Shared() {
		return nil
	}
	began := time.Now().UnixNano()
	pulse, err := l.db.Pulse(ctx, *l.revision.Load())
	if err != nil {
		return l.notCaughtUp(ctx, err)
	}
	if l.cfg.DatabaseClock {
		l.clock.follow(pulse.Now)
	}
	if pulse.Revision != l.revision.Load().N {
		if !lock() {
			return nil
		}
		defer unlock()
		if err := l.readChanges(ctx); err != nil {
			return l.notCaughtUp(ctx, err)
		}
	}
	l.followed.Store(began)
	if l.trouble.Swap(nil) != nil {
		l.cfg.Log.Info("the database can be used again")
	}
	return nil
}

// notCaughtUp notes why the store could not be read, unless the reason is that the caller no longer waits.
func (l *Ledger) notCaughtUp(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		l.troubled(err)
	}
	return err
}

// readChanges brings into memory what has changed since l.revision. The caller holds l.administration.
func (l *Ledger) readChanges(ctx context.Context) error {
	var changed []any // all rows are read before any is put, so that the catalogue is not locked while the database answers
	var revision store.Revision
	var clock []byte
	err := l.db.View(ctx, func(r *store.Reader) (err error) {
		changed = nil // the store may run this function again
		revision, err = r.Load(*l.revision.Load(), func(row any) error {
			row, err := l.market.Opened(row)
			changed = append(changed, row)
			return err
		})
		if err != nil {
			return err
		}
		clock, err = r.Value(clockValue)
		return err
	})
	if err != nil {
		return err
	}
	state, err := parseClock(clock)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, row := range changed {
		l.market.Put(row)
	}
	l.clock.set(state)
	l.revision.Store(&revision)
	return nil
}
