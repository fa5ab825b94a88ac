package ledger

import (
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/meterd/meterd/internal/iam"
	"github.com/meterd/meterd/internal/metering"
	"github.com/meterd/meterd/internal/store"
)

// maxGroup bounds the calls that are committed together, and so how long the first of them waits.
const maxGroup = 256

// maxAuditRead bounds how many bytes of a refused call's body are searched for what looks like a secret, to leave it
// out. The audit row keeps fewer bytes of what remains.
const maxAuditRead = 8192

// work is what a call has a committer do, in the steps of [committer.write]. A shared store may run all steps again
// from the first one, in a new transaction.
type work interface {
	// prepare looks at the call again, now that the time of its commit is known. It may refuse the call, and asks for
	// its ClientToken.
	prepare(g *group, c *Call)
	// claim adds the rows that the call would store to the group's claims, or to its asks for a dry run.
	claim(g *group, c *Call)
	// write decides on the call by what became of its claims, and writes its other rows. An error means that the
	// transaction has failed, never that the call is refused.
	write(g *group, c *Call) error
	// apply changes the catalogue, under the catalogue's lock, once the group is durable.
	apply(l *Ledger, c *Call)
}

// plain is work that claims nothing and changes nothing in memory.
type plain struct{}

func (plain) prepare(_ *group, c *Call) { c.refusal = nil }
func (plain) claim(*group, *Call)       {}
func (plain) apply(*Ledger, *Call)      {}

// refusalWork writes only the audit row.
type refusalWork struct{ plain }

func (refusalWork) prepare(*group, *Call)     {}
func (refusalWork) write(*group, *Call) error { return nil }

// committer is a goroutine that writes to the store. The embedded store has one. A shared store has several, and the
// database orders their transactions.
type committer struct {
	l      *Ledger
	queue  <-chan *Call
	writer store.Writer
	calls  []*Call
	held   *Call // taken from the queue, but left for the next group
	asked  map[metering.TokenKey]struct{}
	group  group
	told   store.Clients
	since  atomic.Int64          // when the first commit after the last successful one began; 0 if there is none
	why    atomic.Pointer[error] // why the last commit failed
}

// group is the calls that are being committed in one transaction.
type group struct {
	l       *Ledger
	tx      *store.Tx
	told    *store.Clients
	now     metering.Instant // one time for the whole group
	asks    []store.Claim    // rows that dry runs ask about
	claims  []store.Claim
	bytes   []byte // allocations of the claims
	keys    []metering.TokenKey
	tokens  []*store.ClientToken // what is known of each of keys; nil if nothing is
	applies []*Call
}

func newCommitter(l *Ledger, w store.Writer, queue <-chan *Call) *committer {
	return &committer{l: l, queue: queue, writer: w, asked: map[metering.TokenKey]struct{}{}, group: group{l: l}}
}

// run commits calls until the queue is closed and every caller has been answered. Each group is all the calls that
// wait at that time. There is no timer: while one group is being synced, the next one gathers.
func (k *committer) run() {
	defer k.l.committers.Done()
	for k.gather() {
		k.commit(k.calls)
		for i, c := range k.calls {
			k.calls[i] = nil // the caller may now reuse the call
			c.answered <- struct{}{}
		}
	}
}

// gather waits for a call and takes the calls that wait behind it into the same group.
func (k *committer) gather() bool {
	first, open := k.held, true
	if k.held = nil; first == nil {
		if first, open = k.next(); !open {
			return false
		}
	}
	clear(k.asked)
	k.calls = append(k.calls[:0], first)
	k.joins(first)
	for len(k.calls) < maxGroup {
		select {
		case c, open := <-k.queue:
			if !open {
				return true
			}
			if first.administers() || !k.joins(c) {
				k.held = c
				return true
			}
			k.calls = append(k.calls, c)
		default:
			return true
		}
	}
	return true
}

// next waits for a call. While commits fail, it also rehearses them, because calls may go to other nodes and none may
// come here.
func (k *committer) next() (c *Call, open bool) {
	for k.l.db.Shared() && k.since.Load() != 0 {
		select {
		case c, open = <-k.queue:
			return c, open
		case <-time.After(rehearseEvery):
			k.rehearse()
		}
	}
	c, open = <-k.queue
	return c, open
}

// joins reports whether the call may be in the group. An act of administration is a group of its own. Two calls with
// one ClientToken are in two groups, so that the second finds what the first has stored.
func (k *committer) joins(c *Call) bool {
	m, ok := c.work.(*meterWork)
	if !ok || !m.in.HasClientToken {
		return !c.administers()
	}
	before := len(k.asked)
	k.asked[m.tokenKey] = struct{}{}
	return len(k.asked) > before
}

// commit writes the calls in one transaction. Before the transaction is committed no caller has been told anything,
// and after it nothing that a caller is told can be lost.
func (k *committer) commit(calls []*Call) {
	started := time.Now()
	if k.l.failure.Load() != nil || k.l.following() != nil {
		refuse(calls, errStopped)
		return
	}
	if k.l.distrusts(calls) {
		refuse(calls, errStopped)
		return
	}
	k.since.CompareAndSwap(0, started.UnixNano())
	k.writer.Know(*k.l.revision.Load())
	err := k.writer.Update(func(tx *store.Tx) error { return k.write(tx, calls) })
	if err == nil || errors.Is(err, store.ErrStale) {
		k.since.Store(0)
	}
	if err != nil {
		k.why.Store(&err)
		k.failed(calls, err)
		return
	}
	k.told.Keep()
	if g := &k.group; len(g.applies) > 0 {
		k.l.mu.Lock()
		for _, c := range g.applies {
			c.work.apply(k.l, c)
		}
		k.l.mu.Unlock()
	}
	k.l.Metrics.group(calls, time.Since(started))
}

// distrusts reports whether the clock cannot be believed. It returns false for the act that accepts the clock.
func (l *Ledger) distrusts(calls []*Call) bool {
	err := l.clock.jumped()
	switch told := l.distrusted.Swap(err != nil); {
	case err != nil && !told:
		l.cfg.Log.Error("taking no more calls", slog.Any("error", err))
	case err == nil && told:
		l.cfg.Log.Info("the clock is right again")
	}
	return err != nil && !calls[0].admin.accepts
}

// A node whose calls have not been committed for maxUncommitted is not ready, whatever the reason. It is ready again
// once a call has been committed, or once a rehearsal has shown that a call could be.
const (
	maxUncommitted = 3 * time.Second
	rehearseEvery  = time.Second
)

// committing returns nil while calls are being committed, and otherwise says why they are not. Acts of administration
// are not considered, because they may take longer.
func (l *Ledger) committing() error {
	for _, k := range l.metering {
		since := k.since.Load()
		if since == 0 || time.Now().UnixNano()-since < int64(maxUncommitted) {
			continue
		}
		reason := errors.New("the database does not answer")
		if why := k.why.Load(); why != nil {
			reason = *why
		}
		return fmt.Errorf("calls have not been committed for %v: %w", time.Duration(time.Now().UnixNano()-since).Round(time.Second), reason)
	}
	return nil
}

// rehearse finds out whether calls can be committed again. It writes a call with a record that no client can have
// sent, takes both back, and commits an empty transaction.
func (k *committer) rehearse() {
	if k.l.failure.Load() != nil || k.l.following() != nil {
		return
	}
	now := k.l.clock.now()
	k.writer.Know(*k.l.revision.Load())
	err := k.writer.Rehearse(func(tx *store.Tx) error {
		seq := k.writer.NextCall()
		claims := []store.Claim{{Usage: store.Usage{Seq: store.UsageSeq(seq, 0), Hour: now.Hour(), Timestamp: now}}}
		return errors.Join(tx.Window(openHours(k.l.settings, now)), tx.Claim(claims),
			tx.AppendCall(&store.Call{Seq: seq, At: now, Operation: uint8(metering.BatchMeterUsage), Refusal: store.NoRefusal, UsageRows: 1}))
	})
	if err == nil {
		err = k.writer.Update(func(*store.Tx) error { return nil })
	}
	switch {
	case err == nil:
		k.since.Store(0)
	case errors.Is(err, store.ErrWentBack):
		k.l.fail(err)
	default:
		k.why.Store(&err)
	}
}

// failed answers the calls of a group that was not committed.
func (k *committer) failed(calls []*Call, err error) {
	l := k.l
	var unknown *store.CommitError
	var unavailable *store.UnavailableError
	switch {
	case errors.Is(err, store.ErrStale):
		refuse(calls, errStale)
	case errors.Is(err, store.ErrWentBack):
		l.fail(err)
		refuse(calls, errCommit)
	case !l.db.Shared():
		// After a failed sync, what is in memory may differ from what is on disk, so the ledger cannot go on.
		l.fail(err)
		refuse(calls, errCommit)
	case errors.As(err, &unavailable):
		l.troubled(err)
		refuse(calls, errStopped)
	case errors.As(err, &unknown):
		l.troubled(err)
		refuse(calls, errCommit)
	case len(calls) > 1:
		// The database refuses a statement. Each call is tried alone, so that only the one at fault fails.
		for i := range calls {
			k.commit(calls[i : i+1])
		}
	default:
		l.cfg.Log.Error("the database refuses a call", slog.Any("error", err))
		refuse(calls, errCommit)
	}
}

func refuse(calls []*Call, why *metering.Error) {
	for _, c := range calls {
		c.refusal = why
	}
}

// write does the work of the calls, each with its audit row, in one transaction.
func (k *committer) write(tx *store.Tx, calls []*Call) error {
	g := &k.group
	k.told.Begin()
	*g = group{l: k.l, tx: tx, told: &k.told, now: k.l.clock.now(), asks: g.asks[:0], claims: g.claims[:0], bytes: g.bytes[:0], keys: g.keys[:0], applies: g.applies[:0]}
	if err := tx.Window(openHours(k.l.settings, g.now)); err != nil {
		return err
	}
	seq := k.writer.NextCall()
	for i, c := range calls {
		c.seq = seq + int64(i)
		c.work.prepare(g, c)
	}
	if len(g.keys) > 0 {
		var err error
		if g.tokens, err = tx.ClientTokens(g.keys); err != nil {
			return err
		}
	}
	for _, c := range calls {
		c.work.claim(g, c)
	}
	if len(g.asks) > 0 {
		if err := tx.Ask(g.asks); err != nil {
			return err
		}
	}
	if len(g.claims) > 0 {
		if err := tx.Claim(g.claims); err != nil {
			return err
		}
	}
	for _, c := range calls {
		if err := g.write(c); err != nil {
			return err
		}
	}
	return nil
}

// openHours returns the hours that records may be for at the time now. ClientTokens are known for 24 hours after
// their call was accepted, and as long as the hour of their usage is open; that hour may be later than the call.
func openHours(s *metering.Settings, now metering.Instant) store.Window {
	first, _ := s.OpenHours(now)
	return store.Window{First: first, Hot: now.Hour() - 1, Tokens: min(now.Hour()-25, first-1-metering.Hour(s.FutureTolerance.Hours()))}
}

// write finishes one call: it decides on it and writes its audit row.
func (g *group) write(c *Call) error {
	a := &c.audit
	*a = store.Call{
		Seq: c.seq, At: g.now, Request: c.caller.RequestID, Operation: uint8(c.op), Region: c.region,
		Refusal: store.NoRefusal, Detail: a.Detail[:0],
	}
	who := store.Client{Source: c.caller.Source, Agent: c.caller.Agent}
	if id := c.caller.Identity; id != nil {
		a.Principal, a.AccessKey, a.Workload = id.Principal, id.Key, id.Workload
		who.Session = store.Session{AccessKeyID: id.SessionKey, Name: id.Name.SessionName}
	}
	if err := c.work.write(g, c); err != nil {
		return err
	}
	if c.refusal != nil {
		a.Refusal = int(c.refusal.Kind)
		a.Detail = store.AppendRefusal(a.Detail[:0], iam.Redacted(c.refusal.Message), iam.RedactedBody(c.body[:min(len(c.body), maxAuditRead)]))
	}
	if len(a.Detail) == 0 {
		a.Detail = nil
	}
	g.told.Tell(a, who)
	return g.tx.AppendCall(a)
}

// usage returns the row of a record, which is at the given place in the call. Allocations are left out.
func (c *Call) usage(place int, line *metering.Line, clientToken string) store.Usage {
	return store.Usage{Seq: store.UsageSeq(c.seq, place), Key: line.Key, Hour: line.Hour, Timestamp: line.Timestamp, Quantity: line.Quantity,
		Form: line.Form, ClientToken: clientToken}
}

// ask adds a dry run's record to the rows that the store is asked about.
func (g *group) ask(c *Call, line *metering.Line, clientToken string) {
	g.asks = append(g.asks, store.Claim{Usage: c.usage(0, line, clientToken)})
}

// claim adds a record, which is at the given place in the call, to the rows that the store is to claim.
func (g *group) claim(c *Call, place int, line *metering.Line, clientToken string) {
	u := c.usage(place, line, clientToken)
	if len(line.Allocations) > 0 {
		from := len(g.bytes)
		g.bytes = metering.AppendAllocations(g.bytes, line.Allocations)
		u.Allocations = g.bytes[from:len(g.bytes):len(g.bytes)]
	}
	g.claims = append(g.claims, store.Claim{Usage: u})
}

// weigh returns what became of a record, by its claim: the first write of a key wins, a re-send with the same
// quantity is the same success, and another quantity is a duplicate (metering-api 2.2 to 2.4).
func (g *group) weigh(c *Call, claim *store.Claim) metering.Outcome {
	switch claim.State {
	case store.Granted:
		c.audit.UsageRows++
		return metering.Stored
	case store.Unclaimed: // a dry run: nothing is stored under the key
		return metering.Stored
	case store.Taken:
		if claim.Stored == claim.Quantity {
			return metering.Replayed
		}
		return metering.Duplicate
	}
	return metering.Unprocessed
}

// applyLater has the call's apply run once the group is durable.
func (g *group) applyLater(c *Call) { g.applies = append(g.applies, c) }
