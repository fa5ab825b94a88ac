// Package ledger is the service itself: every operation with its permission check, its decision, its audit row and
// its commit. It owns the clock and the committers that write to the store: one for the embedded store, several for a
// shared one.
//
// The invariant: for each key, the acknowledged quantity is the stored quantity is the reported quantity, and a
// replay changes nothing. An operation returns success only when what it did is on disk.
package ledger

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/meterd/meterd/internal/iam"
	"github.com/meterd/meterd/internal/market"
	"github.com/meterd/meterd/internal/metering"
	"github.com/meterd/meterd/internal/store"
)

// Config is what a ledger is opened with. The zero value of a field is its default.
type Config struct {
	Store          string               // the folder of the embedded store, or the URL of a PostgreSQL database
	MasterKey      []byte               // 32 bytes; secrets at rest are sealed under it
	Sandbox        bool                 // open a sandbox ledger, whose clock can be moved; a production ledger otherwise
	SandboxToken   string               // a bearer token that a sandbox's admin API takes besides those stored
	Settings       *metering.Settings   // metering.DefaultSettings if nil
	Regions        []string             // regions to enable on this node; those enabled in the catalogue if empty
	Now            func() time.Time     // the wall clock; time.Now if nil
	Steady         func() time.Duration // the time since some moment, by a clock that nobody sets. If nil: the machine's, or, when Now is given, none, and then jumps of Now are believed
	DatabaseClock  bool                 // ledger time follows the clock of a shared store, which is one for all nodes
	Random         io.Reader            // crypto/rand if nil
	Log            *slog.Logger         // slog.Default if nil
	MaxOpenRecords int                  // keys that the embedded store keeps in memory; 50 million if 0
	MaxQueue       int                  // calls that may wait for the committer; 4,096 if 0
	Limits         Limits               // calls a second; unlimited where 0
	FailureGrace   time.Duration        // how long a ledger whose store has failed answers that it has, before it is [Ledger.Lost]; 10 s if 0
	Faults         Faults               // injected faults; none if zero
}

// Limits bounds calls a second, for each account, region and operation (metering-api 2.9). Calls that the caller has
// no permission for are not counted among these. They have a bound of their own, for each user or role.
type Limits struct {
	Calls  [metering.OperationNumbers]int // by operation
	Denied int
}

// AWSLimits returns AWS's own quotas. AWS publishes none for calls without permission.
func AWSLimits() Limits {
	l := Limits{Denied: 10}
	for _, op := range metering.Operations {
		l.Calls[op] = op.Info().Quota
	}
	return l
}

// Faults make the service fail on purpose, so that clients can prove their retries.
type Faults struct {
	Refuse      func(op metering.Operation) *metering.Error                    // refuse the call with this; nil lets it pass
	Unprocessed func(productCode, dimension string, quantity int32) (yes bool) // put the record into UnprocessedRecords
}

// Ledger is an open ledger. Its methods are safe for concurrent use.
type Ledger struct {
	cfg      Config
	settings *metering.Settings
	db       store.Store
	sealer   *iam.Sealer
	ids      *metering.RecordIDs
	clock    clock
	limits   limits
	Metrics  *Metrics

	mu       sync.RWMutex // guards the marketplace
	market   *market.State
	revision atomic.Pointer[store.Revision] // of the marketplace; changed under mu and administration

	administration lock // one act of administration at a time, so that what it has checked still holds when it is committed

	draining   atomic.Bool  // no longer ready, but still taking calls
	admission  sync.RWMutex // guards closed and sends to the queues
	closed     bool
	queue      chan *Call
	adminQueue chan *Call            // of administration; the same as queue if there is one committer
	failure    atomic.Pointer[error] // set once the store has failed; then nothing more is taken
	distrusted atomic.Bool           // the clock has jumped ahead, and this has been logged
	lost       chan struct{}         // closed when the store has gone back in time, or has failed some time ago
	metering   []*committer          // the committers whose readiness counts: those of a shared store that do not administer
	trouble    atomic.Pointer[error] // why a shared store cannot be used at the moment
	followed   atomic.Int64          // when this node's catalogue was last known to be up to date with a shared store, monotonic
	committers sync.WaitGroup
	stop       chan struct{} // closed when following is to end
	stopped    sync.WaitGroup
	calls      sync.Pool
}

// Create makes a new ledger in the folder, with AWS's regions, an admin token for each of the given hashes, and
// nothing else. It fails if there is a ledger already. Creation is one step: whatever interrupts it, the folder holds
// a whole ledger or none.
func Create(cfg Config, tokens ...[32]byte) error {
	cfg.setDefaults()
	sealer, err := iam.NewSealer(cfg.MasterKey)
	if err != nil {
		return err
	}
	secret := make([]byte, 32)
	if _, err := io.ReadFull(cfg.Random, secret); err != nil {
		return err
	}
	now := cfg.Now()
	if !cfg.Sandbox && bytes.Equal(cfg.MasterKey, iam.PublishedMasterKey()) {
		return errors.New("the master key is that of every sandbox, and published; a production ledger needs one that nobody knows")
	}
	meta := store.Meta{Sandbox: cfg.Sandbox, Created: now.UnixMilli()}
	meta.SealSecret(sealer, secret)
	return store.Create(cfg.Store, meta, func(tx *store.Tx) error {
		for _, r := range metering.AWSRegions() {
			if err := tx.Put(&r); err != nil {
				return err
			}
		}
		for i, hash := range tokens {
			if err := createFirstToken(tx, uint32(i+1), hash, metering.InstantOf(now)); err != nil {
				return err
			}
		}
		return nil
	})
}

// createFirstToken stores an admin token in a ledger that is being created.
func createFirstToken(tx *store.Tx, id uint32, hash [32]byte, now metering.Instant) error {
	request, err := uuid.NewV7()
	if err != nil {
		return err
	}
	t := store.AdminToken{ID: id, Name: "init", Hash: hash, Created: now}
	if err := tx.Put(&t); err != nil {
		return err
	}
	return tx.AppendCall(&store.Call{Seq: int64(id), At: now, Request: request, Operation: uint8(metering.Administration), Source: "local",
		Refusal: store.NoRefusal, Detail: store.AppendText(nil, fmt.Sprintf("create admin token %d, %s", t.ID, t.Name))})
}

func (cfg *Config) setDefaults() {
	if cfg.Settings == nil {
		cfg.Settings = metering.DefaultSettings()
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
		if cfg.Steady == nil {
			cfg.Steady = steadyClock
		}
	}
	if cfg.Random == nil {
		cfg.Random = rand.Reader
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if cfg.MaxOpenRecords == 0 {
		cfg.MaxOpenRecords = 50_000_000
	}
	if cfg.FailureGrace == 0 {
		cfg.FailureGrace = 10 * time.Second
	}
	if cfg.MaxQueue == 0 {
		cfg.MaxQueue = 4096
	}
}

// Open opens the ledger and rebuilds the embedded store's index of the open window. It never creates a ledger.
func Open(cfg Config) (*Ledger, error) {
	cfg.setDefaults()
	sealer, err := iam.NewSealer(cfg.MasterKey)
	if err != nil {
		return nil, err
	}
	db, err := store.Open(cfg.Store, store.Options{MaxOpenRecords: cfg.MaxOpenRecords, Log: cfg.Log,
		Admit: func(m *store.Meta) error {
			if err := cfg.kind(m); err != nil {
				return err
			}
			return m.OpenSecret(sealer)
		}})
	if err != nil {
		return nil, err
	}
	l := &Ledger{
		cfg: cfg, settings: cfg.Settings, db: db, sealer: sealer,
		ids:            metering.NewRecordIDs(db.Meta().Secret),
		queue:          make(chan *Call, cfg.MaxQueue),
		stop:           make(chan struct{}),
		administration: make(lock, 1),
		lost:           make(chan struct{}),
	}
	l.Metrics = newMetrics(l)
	l.limits.now = cfg.Now
	l.calls.New = func() any { return &Call{l: l, answered: make(chan struct{}, 1)} }
	if err := l.load(); err != nil {
		return nil, errors.Join(fmt.Errorf("ledger in %s: %w", store.Redacted(cfg.Store), err), db.Close())
	}
	l.start()
	return l, nil
}

// start starts a committer for each of the store's writers. If there are several, the first one commits acts of
// administration.
func (l *Ledger) start() {
	writers := l.db.Writers()
	l.adminQueue = l.queue
	if len(writers) > 1 {
		l.adminQueue = make(chan *Call, cap(l.queue))
	}
	for i, w := range writers {
		k := newCommitter(l, w, l.queue)
		if i == 0 {
			k.queue = l.adminQueue
		}
		if i > 0 {
			l.metering = append(l.metering, k)
		}
		l.committers.Add(1)
		go k.run()
	}
	if l.db.Shared() {
		l.stopped.Add(1)
		go l.follow()
	}
}

// kind refuses to open a sandbox's ledger in production, or a production ledger as a sandbox.
func (cfg *Config) kind(meta *store.Meta) error {
	switch {
	case meta.Sandbox && !cfg.Sandbox:
		return errors.New("it is a sandbox ledger, whose keys are published; serve a ledger made by meterd init")
	case !meta.Sandbox && cfg.Sandbox:
		return errors.New("it is a production ledger; the sandbox does not touch it")
	case !meta.Sandbox && bytes.Equal(cfg.MasterKey, iam.PublishedMasterKey()):
		cfg.Log.Warn("the ledger was made with the master key of every sandbox, which is published: whoever has a copy of the ledger reads every secret in it")
	}
	return nil
}

// load reads everything that the ledger keeps in memory.
func (l *Ledger) load() error {
	began := time.Now()
	pulse, err := l.db.Pulse(context.Background(), store.Revision{})
	if err != nil {
		return err
	}
	if err := l.db.View(context.Background(), l.read); err != nil {
		return err
	}
	if l.cfg.Sandbox && l.cfg.SandboxToken != "" {
		l.market.TakeSandboxToken(l.cfg.SandboxToken)
	}
	if err := l.serveRegions(); err != nil {
		return err
	}
	if err := l.startClock(pulse); err != nil {
		return err
	}
	if l.db.Shared() {
		l.followed.Store(began.UnixNano())
		return nil
	}
	return l.db.Writers()[0].Update(func(tx *store.Tx) error {
		return tx.Window(openHours(l.settings, l.clock.now()))
	})
}

// read reads the marketplace.
func (l *Ledger) read(r *store.Reader) error {
	// Made anew here, because the store may run this function again.
	l.market = market.New(market.Config{Settings: l.settings, Sandbox: l.cfg.Sandbox, Secret: l.db.Meta().Secret, Sealer: l.sealer})
	revision, err := r.Load(store.Revision{}, func(row any) error {
		row, err := l.market.Opened(row)
		if err == nil {
			l.market.Put(row)
		}
		return err
	})
	if err == nil {
		err = r.Registrations(func(v metering.Registration) error { l.market.PutRegistration(v); return nil })
	}
	if err != nil {
		return fmt.Errorf("reading the catalogue: %w", err)
	}
	l.revision.Store(&revision)
	return nil
}

// startClock restores the clock. A sandbox's clock may have been moved back behind what was committed before. A
// shared store knows only the latest time of all its calls, so there that time does not bind a sandbox's clock.
func (l *Ledger) startClock(pulse store.Pulse) error {
	var state []byte
	err := l.db.View(context.Background(), func(r *store.Reader) (err error) {
		state, err = r.Value(clockValue)
		return err
	})
	if err != nil {
		return err
	}
	if l.db.Shared() && l.cfg.Sandbox {
		pulse.Last = 0
	}
	l.clock.wall = l.cfg.Now
	if !l.cfg.Sandbox { // a sandbox's clock is moved anyway, and its machine may sleep
		l.clock.steady = l.cfg.Steady
	}
	if err := l.clock.restore(state, pulse.Last); err != nil {
		return err
	}
	if l.cfg.DatabaseClock && l.db.Shared() {
		l.clock.begin(pulse.Now)
	}
	if ahead := l.clock.ahead(); ahead > maxAhead {
		l.cfg.Log.Error("ledger time is ahead of the clock and does not run backwards", slog.Duration("ahead", ahead))
	}
	return nil
}

// serveRegions limits the regions that this node serves to those of the configuration.
func (l *Ledger) serveRegions() error {
	if len(l.cfg.Regions) == 0 {
		return nil
	}
	serves := map[string]bool{}
	for _, name := range l.cfg.Regions {
		switch r := l.market.RegionNamed(name); {
		case r == nil:
			return fmt.Errorf("region %q is not known; add it with: meterd admin region create %s", name, name)
		case !r.Enabled && !metering.OffAtAWS(name):
			return fmt.Errorf("region %q is not enabled; enable it with: meterd admin region enable %s", name, name)
		}
		serves[name] = true
	}
	l.market.Serves = func(region string) bool { return serves[region] }
	return nil
}

// ServedRegions returns the names of the regions that this node serves.
func (l *Ledger) ServedRegions() []string {
	l.mu.RLock()
	defer l.mu.RUnlock()
	served := []string{}
	for _, r := range l.market.Regions() {
		if l.market.ServesRegion(&r) {
			served = append(served, r.Name)
		}
	}
	return served
}

// Drain makes the ledger report that it is not ready, while it still takes calls, so that load balancers send new
// calls to other nodes.
func (l *Ledger) Drain() { l.draining.Store(true) }

// Close answers every caller that waits, refuses new calls, and releases the store.
func (l *Ledger) Close() error {
	l.admission.Lock()
	already := l.closed
	if !already {
		l.closed = true
		close(l.queue)
		if l.adminQueue != l.queue {
			close(l.adminQueue)
		}
	}
	l.admission.Unlock()
	if already {
		return nil
	}
	l.committers.Wait()
	close(l.stop)
	l.stopped.Wait()
	return l.db.Close()
}

// Sandbox reports whether this is a sandbox ledger.
func (l *Ledger) Sandbox() bool { return l.cfg.Sandbox }

// Now returns the time by the ledger clock.
func (l *Ledger) Now() metering.Instant { return l.clock.now() }

// Wall returns the time by the wall clock.
func (l *Ledger) Wall() time.Time { return l.cfg.Now() }

// Settings returns the contested behaviours in force.
func (l *Ledger) Settings() *metering.Settings { return l.settings }

// Ready returns nil if the ledger takes calls, and otherwise says why it does not.
func (l *Ledger) Ready() error {
	if err := l.failure.Load(); err != nil {
		return fmt.Errorf("the store has failed and nothing more is taken until a restart: %w", *err)
	}
	if !l.db.Shared() {
		if _, err := l.db.Pulse(context.Background(), store.Revision{}); err != nil {
			if !l.ending() {
				l.fail(err)
			}
			return fmt.Errorf("the store has failed and nothing more is taken until a restart: %w", err)
		}
	}
	if err := l.following(); err != nil {
		return err
	}
	if err := l.committing(); err != nil {
		return err
	}
	if err := l.clock.jumped(); err != nil {
		return err
	}
	if ahead := l.clock.ahead(); ahead > maxAhead {
		return fmt.Errorf("ledger time is %v ahead of the clock and does not run backwards: the clock was ahead when something was committed; records are judged by that time until the clock has caught up, or until an operator takes it back: once the clock is right, with meterd admin clock accept", ahead.Round(time.Second))
	}
	if l.ending() {
		return errors.New("the service is shutting down")
	}
	return nil
}

// ending reports whether the ledger is about to be closed, or is closed.
func (l *Ledger) ending() bool {
	l.admission.RLock()
	defer l.admission.RUnlock()
	return l.closed || l.draining.Load()
}

// fail stops the ledger for good. After a failed commit or sync nothing may be acknowledged, because what is in
// memory may differ from what is on disk.
func (l *Ledger) fail(err error) {
	if l.failure.CompareAndSwap(nil, &err) {
		l.cfg.Log.Error("the store has failed; taking no more calls until a restart", slog.Any("error", err))
		if errors.Is(err, store.ErrWentBack) {
			close(l.lost)
		} else {
			time.AfterFunc(l.cfg.FailureGrace, func() { close(l.lost) })
		}
	}
}

// Lost is closed when a shared store has gone back in time, and FailureGrace after the store has failed. The ledger
// then takes nothing more, because what it holds in memory may be wrong, and should be closed. A ledger that is
// opened anew goes on from what the store holds.
func (l *Ledger) Lost() <-chan struct{} { return l.lost }
