// Package ledger is the service itself: every operation with its permission check, its decision, its audit row and
// its commit. It owns the clock and the one committer that writes to the store.
//
// The invariant: for each key, the acknowledged quantity is the stored quantity is the reported quantity, and a
// replay changes nothing. An operation returns success only when what it did is on disk.
package ledger

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/meterd/meterd/internal/iam"
	"github.com/meterd/meterd/internal/metering"
	"github.com/meterd/meterd/internal/store"
)

// Config is what a ledger is opened with. The zero value of a field is its default.
type Config struct {
	Dir            string             // the folder of the embedded store
	MasterKey      []byte             // 32 bytes; secrets at rest are sealed under it
	Sandbox        bool               // open a sandbox ledger, whose clock can be moved; a production ledger otherwise
	SandboxToken   string             // a bearer token that a sandbox's admin API takes besides those stored
	Settings       *metering.Settings // metering.DefaultSettings if nil
	Regions        []string           // regions to enable on this node; those enabled in the catalogue if empty
	Now            func() time.Time   // the wall clock; time.Now if nil
	Random         io.Reader          // crypto/rand if nil
	Log            *slog.Logger       // slog.Default if nil
	MaxOpenRecords int                // records in the window that are kept in memory; 50 million if 0
	MaxQueue       int                // calls that may wait for the committer; 4,096 if 0
	Limits         Limits             // calls a second; unlimited where 0
	Faults         Faults             // injected faults; none if zero
}

// Limits bounds calls a second, for each account, region and operation (metering-api 2.9).
type Limits struct{ BatchMeterUsage, MeterUsage, RegisterUsage, ResolveCustomer int }

// AWSLimits are AWS's own quotas.
var AWSLimits = Limits{BatchMeterUsage: 10, MeterUsage: 10, RegisterUsage: 5}

// Faults make the service fail on purpose, so that clients can prove their retries.
type Faults struct {
	Refuse      func(op metering.Operation) *metering.Error                    // refuse the call with this; nil lets it pass
	Unprocessed func(productCode, dimension string, quantity int32) (yes bool) // put the record into UnprocessedRecords
}

// Ledger is an open ledger. Its methods are safe for concurrent use.
type Ledger struct {
	cfg      Config
	settings *metering.Settings
	db       *store.DB
	sealer   *iam.Sealer
	ids      *metering.RecordIDs
	clock    clock
	limits   limits
	Metrics  *Metrics

	mu        sync.RWMutex // guards the catalogue and the directory; only the committer takes it for writing
	catalog   *metering.Catalog
	directory *directory

	administration sync.Mutex // one act of administration at a time: its checks hold until it is committed

	draining  atomic.Bool  // no longer ready, but still taking calls
	admission sync.RWMutex // guards closed and sends to queue
	closed    bool
	queue     chan *Call
	failure   atomic.Pointer[error] // set once: the store has failed, nothing more is taken
	committer *committer
	done      chan struct{} // closed when the committer has answered everyone
	wakeup    chan struct{} // a checkpoint is due
	stopped   sync.WaitGroup
	calls     sync.Pool
}

// masterCheck is sealed with the master key when a ledger is made, to notice a wrong key when it is opened.
const masterCheck = "meterd"

// Create makes a new ledger in the folder, with AWS's regions, an admin token for each of the given hashes, and
// nothing else. It fails if there is one already. All of it is one step: whatever interrupts it, the folder holds a
// whole ledger or none.
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
	meta := store.Meta{Secret: secret, Sandbox: cfg.Sandbox, Created: now.UnixMilli(), Check: sealer.Seal("check", []byte(masterCheck))}
	return store.Create(cfg.Dir, meta, func(tx *store.Tx) error {
		for _, r := range metering.AWSRegions() {
			if err := tx.PutRegion(r); err != nil {
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

// createFirstToken is [Ledger.CreateAdminToken] for a ledger that is in the making.
func createFirstToken(tx *store.Tx, id uint32, hash [32]byte, now metering.Instant) error {
	request, err := uuid.NewV7()
	if err != nil {
		return err
	}
	t := store.AdminToken{ID: id, Name: "init", Hash: hash, Created: now}
	if err := tx.PutAdminToken(t); err != nil {
		return err
	}
	return tx.AppendCall(&store.Call{Seq: int64(id), At: now, Request: request, Operation: adminOperation, Source: "local",
		Refusal: store.NoRefusal, FirstUsage: 1, Detail: append([]byte{detailText}, fmt.Sprintf("create admin token %d, %s", t.ID, t.Name)...)})
}

func (cfg *Config) setDefaults() {
	if cfg.Settings == nil {
		cfg.Settings = metering.DefaultSettings()
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
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
	if cfg.MaxQueue == 0 {
		cfg.MaxQueue = 4096
	}
}

// Open opens the ledger in the folder and rebuilds the index of the open window. It never creates one.
func Open(cfg Config) (*Ledger, error) {
	cfg.setDefaults()
	sealer, err := iam.NewSealer(cfg.MasterKey)
	if err != nil {
		return nil, err
	}
	db, err := store.Open(cfg.Dir)
	if err != nil {
		return nil, err
	}
	l := &Ledger{
		cfg: cfg, settings: cfg.Settings, db: db, sealer: sealer,
		ids:     metering.NewRecordIDs(db.Meta().Secret),
		catalog: metering.NewCatalog(cfg.Settings),
		queue:   make(chan *Call, cfg.MaxQueue),
		done:    make(chan struct{}),
		wakeup:  make(chan struct{}, 1),
	}
	l.Metrics = newMetrics(l)
	l.limits.now = cfg.Now
	l.calls.New = func() any { return &Call{l: l, answered: make(chan struct{}, 1)} }
	if err := l.load(); err != nil {
		return nil, errors.Join(fmt.Errorf("ledger in %s: %w", cfg.Dir, err), db.Close())
	}
	l.stopped.Add(1)
	go l.checkpoints()
	go l.commit()
	return l, nil
}

// load reads everything that is kept in memory.
func (l *Ledger) load() error {
	meta := l.db.Meta()
	switch {
	case meta.Sandbox && !l.cfg.Sandbox:
		return errors.New("it is a sandbox ledger, whose keys are published; serve a ledger made by meterd init")
	case !meta.Sandbox && l.cfg.Sandbox:
		return errors.New("it is a production ledger; the sandbox does not touch it")
	}
	if check, err := l.sealer.Open("check", meta.Check); err != nil || string(check) != masterCheck {
		return errors.New("the master key is not the one that the ledger was made with")
	}
	l.clock.wall = l.cfg.Now
	return l.db.View(func(r *store.Reader) error {
		if err := r.Catalog(l.catalog); err != nil {
			return fmt.Errorf("reading the catalogue: %w", err)
		}
		if err := l.serveRegions(); err != nil {
			return err
		}
		var err error
		if l.directory, err = loadDirectory(r, l.sealer, l.number); err != nil {
			return fmt.Errorf("reading identities: %w", err)
		}
		if l.cfg.Sandbox && l.cfg.SandboxToken != "" {
			l.directory.bearers[iam.HashBearerToken(l.cfg.SandboxToken)] = 0
		}
		last, err := r.LastCall()
		if err != nil {
			return err
		}
		clockState, err := r.Value(clockValue)
		if err != nil {
			return err
		}
		if err := l.clock.restore(clockState, last); err != nil {
			return err
		}
		if ahead := l.clock.ahead(); ahead > maxAhead {
			l.cfg.Log.Error("ledger time is ahead of the machine's clock and does not run backwards", slog.Duration("ahead", ahead))
		}
		l.committer, err = loadCommitter(l, r, last)
		return err
	})
}

// serveRegions narrows the regions that this node serves to those of the configuration.
func (l *Ledger) serveRegions() error {
	if len(l.cfg.Regions) == 0 {
		return nil
	}
	serves := map[string]bool{}
	for _, name := range l.cfg.Regions {
		switch r := l.catalog.RegionNamed(name); {
		case r == nil:
			return fmt.Errorf("region %q is not known; add it with: meterd admin region create %s", name, name)
		case !r.Enabled:
			return fmt.Errorf("region %q is not enabled; enable it with: meterd admin region enable %s", name, name)
		}
		serves[name] = true
	}
	l.catalog.Serves = func(region string) bool { return serves[region] }
	return nil
}

// ServedRegions returns the names of the regions that this node serves.
func (l *Ledger) ServedRegions() []string {
	l.mu.RLock()
	defer l.mu.RUnlock()
	served := []string{}
	for _, r := range l.catalog.Regions() {
		if r.Enabled && (l.catalog.Serves == nil || l.catalog.Serves(r.Name)) {
			served = append(served, r.Name)
		}
	}
	return served
}

// Drain has the ledger tell that it is not ready, while it goes on taking calls: whoever sends them here shall
// send them elsewhere.
func (l *Ledger) Drain() { l.draining.Store(true) }

// Close answers everyone who waits, refuses whoever comes, and releases the store.
func (l *Ledger) Close() error {
	l.admission.Lock()
	already := l.closed
	if !already {
		l.closed = true
		close(l.queue)
	}
	l.admission.Unlock()
	if already {
		return nil
	}
	<-l.done
	close(l.wakeup)
	l.stopped.Wait()
	return l.db.Close()
}

// Sandbox tells whether this is a sandbox ledger.
func (l *Ledger) Sandbox() bool { return l.cfg.Sandbox }

// Now returns the time by the ledger clock.
func (l *Ledger) Now() metering.Instant { return l.clock.now() }

// Wall returns the time by the wall clock.
func (l *Ledger) Wall() time.Time { return l.cfg.Now() }

// Settings returns the contested behaviours in force.
func (l *Ledger) Settings() *metering.Settings { return l.settings }

// Ready returns nil if the ledger takes calls, or why it does not.
func (l *Ledger) Ready() error {
	if err := l.failure.Load(); err != nil {
		return fmt.Errorf("the store has failed and nothing more is taken until a restart: %w", *err)
	}
	if ahead := l.clock.ahead(); ahead > maxAhead {
		return fmt.Errorf("ledger time is %v ahead of the machine's clock and does not run backwards: the machine's clock was ahead when something was committed; records will be judged by that time until the clock has caught up", ahead.Round(time.Second))
	}
	l.admission.RLock()
	defer l.admission.RUnlock()
	if l.closed || l.draining.Load() {
		return errors.New("the service is shutting down")
	}
	return nil
}

// maxAhead is how far ledger time may be ahead of the machine's clock before the service is not ready.
const maxAhead = 5 * time.Minute

// fail stops the ledger for good: after a failed commit or sync nothing may be acknowledged, because what is in
// memory may not be what is on disk.
func (l *Ledger) fail(err error) {
	if l.failure.CompareAndSwap(nil, &err) {
		l.cfg.Log.Error("the store has failed; taking no more calls until a restart", slog.Any("error", err))
	}
}

// checkpoints copies the write-ahead log into the database when it has grown, so that commits need not.
func (l *Ledger) checkpoints() {
	defer l.stopped.Done()
	for range l.wakeup {
		if l.failure.Load() == nil && l.db.CheckpointDue() {
			if err := l.db.Checkpoint(); err != nil {
				l.fail(fmt.Errorf("checkpoint: %w", err))
			}
		}
	}
}

// derive returns a name made from the ledger's secret: the same parts give the same bytes in every copy of it.
func (l *Ledger) derive(parts ...string) []byte {
	mac := hmac.New(sha256.New, l.db.Meta().Secret)
	for _, p := range parts {
		fmt.Fprintf(mac, "%d:%s", len(p), p)
	}
	return mac.Sum(nil)
}
