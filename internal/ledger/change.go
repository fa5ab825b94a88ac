package ledger

import (
	"context"
	"encoding/json"
	"github.com/meterd/meterd/internal/market"

	"github.com/google/uuid"
	"github.com/meterd/meterd/internal/metering"
	"github.com/meterd/meterd/internal/store"
)

// Operator is the person or program that administers the ledger. [Ledger.Operator] makes one from a bearer token, and
// [Ledger.Local] makes the one of the process that owns the ledger. Acts of the zero Operator are refused.
type Operator struct {
	ledger *Ledger
	token  uint32 // id of the admin token; 0 for the owning process
	source string
	agent  string
	scope  market.Scope // the zero value is everything
}

// Operator returns the operator that the bearer token stands for, calling from a network address with a user agent. A
// wrong token is AccessDenied.
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

// Local returns the process itself as an operator, for a sandbox that seeds its marketplace.
func (l *Ledger) Local() Operator { return Operator{ledger: l, source: "local"} }

// adminWork is an act of administration whose checks have passed.
type adminWork struct {
	plain
	summary string
	token   uint32 // of the operator
	puts    func(*store.Tx) error
	enter   func()
	at      func() metering.Instant // the time of an act that moves the clock; nil otherwise
	next    store.Revision          // the revision that the act makes

	accepts bool // the act accepts the clock, which may have jumped
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

// administer makes a change durable, with an audit row that says in words what it does (never secrets), and then
// enters it into the catalogue or directory; enter runs under the catalogue's write lock. The caller holds
// l.administration and has checked everything against the catalogue at l.revision. If another node has changed the
// catalogue since, nothing is written and the error is errStale.
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

// exclusively runs an act of administration, change, on the latest catalogue; change plans it and then calls
// administer. Only one act is planned and committed at a time. In this process a lock sees to that; between nodes, an
// act that was planned on a catalogue that has changed since is planned again.
//
// When ctx is done, exclusively stops waiting for other acts and commits no new plan, but it waits for a commit that
// has begun.
func (l *Ledger) exclusively(ctx context.Context, change func() *metering.Error) *metering.Error {
	const most = 20 // how often an act is planned; each plan but the last was overtaken by another node
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

// errGone is the answer to an act whose client no longer waits for it.
var errGone = metering.Errorf(metering.Throttling, "The client has gone. Nothing was changed.")

// lock is a mutex; waiting for it ends when a context is done.
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

// Within returns the same operator, bound to a scope. An operator that is already bound cannot be bound to another
// scope.
func (op Operator) Within(scope market.Scope) Operator {
	if op.scope == (market.Scope{}) {
		op.scope = scope
	}
	return op
}

// checkAll is check for what only the operator of the whole marketplace may do.
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

// moveClock commits the act of moving or accepting the clock. The caller holds l.administration.
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

// Scope returns the scope of an operator who acts for a seller or buyer, the account of the given 12 digits.
func (l *Ledger) Scope(of market.Party, accountID string) (market.Scope, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	scope, err := l.market.InScope(of, accountID)
	if err != nil {
		return market.Scope{}, err
	}
	return scope, nil
}
