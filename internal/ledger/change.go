package ledger

import (
	"context"
	"encoding/json"
	"github.com/meterd/meterd/internal/market"

	"github.com/google/uuid"
	"github.com/meterd/meterd/internal/metering"
	"github.com/meterd/meterd/internal/store"
)

// Operator is who administers the ledger. [Ledger.Operator] makes one from a bearer token, and [Ledger.Local] for
// the process that owns the ledger; acts of the zero Operator are refused.
type Operator struct {
	ledger *Ledger
	token  uint32 // id of the admin token; 0 for the owning process
	source string
	agent  string
	scope  market.Scope // the zero value is everything
}

// Operator returns the operator that the bearer token stands for, who calls from a network address with a user agent;
// a wrong token is AccessDenied.
func (l *Ledger) Operator(bearer, source, agent string) (Operator, *metering.Error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	id, ok := l.market.AdminTokenOf(bearer)
	if !ok {
		right := "the token that meterd init printed"
		if l.Sandbox() {
			right = "the sandbox's published token, which meterd dev prints"
		}
		return Operator{}, metering.Errorf(metering.AccessDenied, "The bearer token is missing or not valid. Send %s, or one made with: meterd admin admin-token create.", right)
	}
	return Operator{ledger: l, token: id, source: source, agent: agent}, nil
}

// Local returns the operator that is the process itself, such as the sandbox seeding its marketplace.
func (l *Ledger) Local() Operator { return Operator{ledger: l, source: "local"} }

// adminWork is an act of administration whose checks have passed.
type adminWork struct {
	plain
	summary string
	token   uint32 // of the operator
	puts    func(*store.Tx) error
	enter   func()
	at      func() metering.Instant // the time of an act that moves the clock; nil otherwise
	next    store.Revision          // that the act makes

	accepts bool // it accepts the clock, which may have jumped
}

// administers reports whether the call is an act of administration.
func (c *Call) administers() bool {
	_, ok := c.work.(*adminWork)
	return ok
}

func (a *adminWork) write(g *group, c *Call) (err error) {
	c.audit.Principal = a.token
	if a.at != nil {
		c.audit.At = a.at()
	}
	c.audit.Detail = store.AppendText(c.audit.Detail, a.summary)
	g.applyLater(c)
	a.next, err = g.tx.Revise(*g.l.revision.Load(), func() error { return a.puts(g.tx) })
	return err
}

func (a *adminWork) apply(l *Ledger, _ *Call) {
	next := a.next
	l.revision.Store(&next)
	a.enter()
}

// administer makes a change durable and then enters it into the catalogue or directory, with an audit row that
// says in words what it does (never secrets). The caller holds l.administration and has checked everything against the
// catalogue at l.revision: if another node has changed it since, nothing is written and the error is errStale. enter
// runs under the catalogue's write lock.
func (l *Ledger) administer(ctx context.Context, op Operator, a adminWork) *metering.Error {
	c, err := l.adminCall(op)
	if err != nil {
		return err
	}
	c.admin = a
	c.admin.token = op.token
	c.work = &c.admin
	if ctx.Err() != nil {
		return errGone
	}
	return c.submit()
}

// adminCall begins a call by an operator.
func (l *Ledger) adminCall(op Operator) (*Call, *metering.Error) {
	if err := op.check(l); err != nil {
		return nil, err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return nil, metering.Errorf(metering.Internal, "%v", err)
	}
	return &Call{l: l, op: metering.Administration, answered: make(chan struct{}, 1), caller: Caller{Source: op.source, Agent: op.agent, RequestID: id}}, nil
}

// exclusively runs an act of administration, which plans and then administers, on the latest catalogue. Only one act
// is planned and committed at a time, here by a lock, and among nodes because one that planned on a catalogue
// that has been changed is planned again.
//
// When ctx is done it no longer waits for other acts, and what has been planned is not committed; what is being committed
// is waited for.
func (l *Ledger) exclusively(ctx context.Context, change func() *metering.Error) *metering.Error {
	const most = 20 // plans; each but the last one lost to another node
	if err := l.administration.lock(ctx); err != nil {
		return errGone
	}
	defer l.administration.unlock()
	for range most {
		if err := l.catchUpLocked(ctx); err != nil {
			if ctx.Err() != nil {
				return errGone
			}
			return errStopped
		}
		if err := change(); err != errStale {
			return err
		}
	}
	return metering.Errorf(metering.Throttling, "Other nodes are changing the catalogue at the same time. Try again; nothing was changed.")
}

// errGone answers an act that nobody waits for any more.
var errGone = metering.Errorf(metering.Throttling, "The client has gone. Nothing was changed.")

// lock is a lock that is not waited for any longer when a context is done.
type lock chan struct{}

func (k lock) lock(ctx context.Context) error {
	select {
	case k <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (k lock) tryLock() bool {
	select {
	case k <- struct{}{}:
		return true
	default:
		return false
	}
}

func (k lock) unlock() { <-k }

// Within returns the same operator, bound to a scope. One that is bound cannot be bound to another.
func (op Operator) Within(scope market.Scope) Operator {
	if op.scope == (market.Scope{}) {
		op.scope = scope
	}
	return op
}

// checkAll is check for what only the operator of the marketplace may do.
func (op Operator) checkAll(l *Ledger) *metering.Error {
	if err := op.check(l); err != nil {
		return err
	}
	v := market.View{Scope: op.scope}
	return v.Denied()
}

func (op Operator) check(l *Ledger) *metering.Error {
	if op.ledger != l || l == nil {
		return metering.Errorf(metering.AccessDenied, "Only an operator may do this.")
	}
	return nil
}

// moveClock is the act of moving or accepting the clock. The caller holds l.administration.
func (l *Ledger) moveClock(ctx context.Context, op Operator, summary string, s clockState, accepts bool) *metering.Error {
	value, err := json.Marshal(s)
	if err != nil {
		return metering.Errorf(metering.Internal, "%v", err)
	}
	return l.administer(ctx, op, adminWork{
		summary: summary, accepts: accepts,
		puts:  func(tx *store.Tx) error { return tx.PutMeta(clockValue, value) },
		enter: func() { l.clock.set(s) },
		at:    func() metering.Instant { return l.clock.at(s) },
	})
}

// Scope returns the scope of a seller's or buyer's operator, who acts for the account of the given 12 digits.
func (l *Ledger) Scope(of market.Party, accountID string) (market.Scope, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	scope, err := l.market.InScope(of, accountID)
	if err != nil {
		return market.Scope{}, err
	}
	return scope, nil
}
