package ledger

import (
	"time"

	"github.com/meterd/meterd/internal/metering"
	"github.com/meterd/meterd/internal/store"
)

// maxGroup bounds the calls that are committed together, and so how long the first of them waits.
const maxGroup = 256

// work is what a call has the committer do. write runs inside the group's transaction: it decides and appends.
// An error from it means that the store has failed, never that the call is refused.
type work interface {
	write(g *group, c *Call) error
	// apply changes the catalogue, under its lock, once the group is durable.
	apply(l *Ledger, c *Call)
}

// group is a transaction in the making.
type group struct {
	*committer
	tx  *store.Tx
	now metering.Instant // one time for the whole group
}

// committer is what only the committing goroutine touches.
type committer struct {
	l        *Ledger
	window   *window
	usageSeq int64 // of the last row
	callSeq  int64
	buffer   []byte
	usage    store.Usage
	applies  []*Call
}

func loadCommitter(l *Ledger, r *store.Reader, last *store.Call) (*committer, error) {
	k := &committer{l: l, window: newWindow(l.settings)}
	if last != nil {
		k.callSeq = last.Seq
	}
	var err error
	if k.usageSeq, err = r.LastUsage(); err != nil {
		return nil, err
	}
	err = k.window.load(r, l.clock.now())
	l.Metrics.setOpen(k.window.records)
	return k, err
}

// commit is the one goroutine that writes. It takes everything that waits, with no timer: while one group is
// being synced the next one gathers.
func (l *Ledger) commit() {
	defer close(l.done)
	var calls []*Call
	for first := range l.queue {
		calls = append(calls[:0], first)
	gather:
		for len(calls) < maxGroup {
			select {
			case c, ok := <-l.queue:
				if !ok {
					break gather
				}
				calls = append(calls, c)
			default:
				break gather
			}
		}
		l.commitGroup(calls)
		for i, c := range calls {
			calls[i] = nil // the call is its caller's again
			c.answered <- struct{}{}
		}
	}
}

// commitGroup writes the calls in one transaction. The commit is the promise: before it nothing has been said to
// anyone, and after it nothing is lost.
func (l *Ledger) commitGroup(calls []*Call) {
	started := time.Now()
	k := l.committer
	answer := errStopped // as long as the group has not been tried
	err := l.stoppedBy()
	if err == nil {
		answer = errCommit
		k.applies = k.applies[:0]
		g := group{committer: k, now: l.clock.now()}
		err = l.db.Update(func(tx *store.Tx) error {
			g.tx = tx
			if k.window.advance(g.now) && !l.Sandbox() { // whose clock may go back to where they count
				if err := tx.DropClientTokens(k.window.forgets(g.now).Start()); err != nil {
					return err
				}
			}
			for _, c := range calls {
				if err := g.write(c); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err != nil {
		// The index already holds what this group decided, so there is no going on even if the store could.
		l.fail(err)
		for _, c := range calls {
			c.refusal = answer
		}
		return
	}
	if len(k.applies) > 0 {
		l.mu.Lock()
		for _, c := range k.applies {
			c.work.apply(l, c)
		}
		l.mu.Unlock()
	}
	if l.db.CheckpointDue() {
		select {
		case l.wakeup <- struct{}{}:
		default:
		}
	}
	clear(k.applies)
	l.Metrics.group(calls, k.window.records, time.Since(started))
}

func (l *Ledger) stoppedBy() error {
	if err := l.failure.Load(); err != nil {
		return *err
	}
	return nil
}

// write does one call's work and appends its audit row in the same transaction.
func (g *group) write(c *Call) error {
	a := &c.audit
	*a = store.Call{
		At: g.now, Request: c.caller.RequestID, Operation: uint8(c.op), Source: c.caller.Source, Region: c.region,
		Refusal: store.NoRefusal, FirstUsage: g.usageSeq + 1, Detail: a.Detail[:0],
	}
	if id := c.caller.Identity; id != nil {
		a.Principal, a.AccessKey, a.Workload = id.Principal, id.Key, id.Workload
	}
	if err := c.work.write(g, c); err != nil {
		return err
	}
	if c.refusal != nil {
		a.Refusal = int(c.refusal.Kind)
		a.Detail = appendRefusal(a.Detail[:0], c.refusal.Message, c.body)
	}
	if len(a.Detail) == 0 {
		a.Detail = nil
	}
	g.callSeq++
	a.Seq = g.callSeq
	a.UsageRows = int(g.usageSeq - a.FirstUsage + 1)
	return g.tx.AppendCall(a)
}

// append stores a record and enters it in the index.
func (g *group) append(line *metering.Line, clientToken string) error {
	g.usageSeq++
	u := &g.usage
	*u = store.Usage{Seq: g.usageSeq, Key: line.Key, Hour: line.Hour, Timestamp: line.Timestamp, Quantity: line.Quantity,
		Form: line.Form, ClientToken: clientToken}
	if len(line.Allocations) > 0 {
		g.buffer = metering.AppendAllocations(g.buffer[:0], line.Allocations)
		u.Allocations = g.buffer
	}
	if _, ok := g.window.started[line.Hour]; !ok {
		if err := g.tx.PutHour(line.Hour, u.Seq); err != nil {
			return err
		}
		g.window.started[line.Hour] = struct{}{}
	}
	g.window.add(line.Hour, &line.Key, line.Quantity, clientToken != "")
	return g.tx.AppendUsage(u)
}

// applyLater has the call's apply run once the group is durable.
func (g *group) applyLater(c *Call) { g.applies = append(g.applies, c) }

// refusalWork writes nothing but the audit row.
type refusalWork struct{}

func (refusalWork) write(*group, *Call) error { return nil }
func (refusalWork) apply(*Ledger, *Call)      {}
