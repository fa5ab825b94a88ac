package ledger

import (
	"net/netip"

	"github.com/meterd/meterd/internal/iam"
	"github.com/meterd/meterd/internal/market"
	"github.com/meterd/meterd/internal/metering"
	"github.com/meterd/meterd/internal/store"
)

// Caller says who calls and from where, once the signature has been verified.
type Caller struct {
	*market.Identity
	Region    string     // of the credential scope
	Source    string     // network address of the peer
	Client    netip.Addr // what the peer is or, if it is a proxy that is trusted, whom it speaks for; invalid if not known
	Secure    bool       // whether the client speaks TLS
	Agent     string     // the User-Agent header, bounded and cleaned
	RequestID [16]byte   // a UUID of version 7
}

// decide decides whether the caller may call the operation. Time in conditions is the ledger's.
func (l *Ledger) decide(caller *Caller, op metering.Operation) iam.Decision {
	return caller.Decide(op.Info().Action, func() iam.Context {
		return iam.Context{SourceIP: caller.Client, CurrentTime: l.Now().Time(), SecureTransport: caller.Secure, RequestedRegion: caller.Region, UserAgent: caller.Agent}
	})
}

// Call is one call of an operation by an authenticated caller. [Ledger.Begin] is the only way to get one, so that no
// operation runs unless its caller may call it. Each call is audited exactly once: by the operation, or by Refuse.
// End must be called last; what the call has returned is not valid afterwards.
type Call struct {
	l        *Ledger
	caller   Caller
	op       metering.Operation
	region   metering.Region
	answered chan struct{} // the committer sends when the call is durable or has failed

	work    work            // what the committer is to do
	seq     int64           // of its audit row
	refusal *metering.Error // the whole call is refused
	body    []byte          // of a refused call, for the audit
	audit   store.Call

	batch    batchWork
	meter    meterWork
	register registerWork
	resolve  resolveWork
	admin    adminWork
}

// Begin starts a call of the operation: it checks that the caller may call the operation and has not called too
// often. If Begin returns a refusal, it has already audited it.
func (l *Ledger) Begin(caller Caller, op metering.Operation) (*Call, *metering.Error) {
	c := l.calls.Get().(*Call)
	c.caller, c.op = caller, op
	c.work, c.refusal, c.body = nil, nil, nil
	l.mu.RLock()
	region := l.market.RegionNamed(caller.Region)
	l.mu.RUnlock()
	decision := l.decide(&c.caller, op)
	c.region = 0
	if region != nil {
		c.region = region.ID
	}
	var refusal *metering.Error
	denied := func() string { return decision.Text(caller.Name, op.Info().Action, "") }
	switch {
	case decision != iam.Allowed && !l.limits.allowDenied(&l.cfg.Limits, caller.Principal):
		refusal = metering.Errorf(metering.Throttling, "Rate exceeded: too many calls have been denied. %s", denied())
	case decision != iam.Allowed:
		refusal = metering.Errorf(metering.AccessDenied, "%s", denied())
	case !l.limits.allow(&l.cfg.Limits, caller.Account, c.region, op):
		refusal = metering.Errorf(metering.Throttling, "Rate exceeded: the account may call %v no more often in this region for now. Retry with exponential backoff.", op)
	case l.cfg.Faults.Refuse != nil:
		refusal = l.cfg.Faults.Refuse(op)
	}
	if refusal != nil {
		refusal = c.Refuse(refusal, nil)
		c.End()
		return nil, refusal
	}
	return c, nil
}

// Refuse audits that the call was refused, with the start of its body, from which anything that looks like a secret
// is left out. It returns the given reason, or an error if the audit could not be written. Nothing else is stored.
func (c *Call) Refuse(why *metering.Error, body []byte) *metering.Error {
	c.refusal, c.body = why, body
	if c.op.Info().SecretBody {
		c.body = nil
	}
	if c.Throttled() {
		return why // a call that is throttled must cost nothing, not even an audit row
	}
	c.work = refusalWork{}
	if err := c.submit(); err != nil {
		return err
	}
	return why
}

// Throttled reports whether the call was refused because there were too many calls.
func (c *Call) Throttled() bool { return c.refusal != nil && c.refusal.Kind == metering.Throttling }

// End puts the call back for reuse and clears what it holds of the request, so that a large request is not kept in
// memory.
func (c *Call) End() {
	clear(c.batch.lines[:cap(c.batch.lines)])
	c.batch.in, c.body, c.work, c.refusal, c.caller = nil, nil, nil, nil, Caller{}
	c.meter, c.register, c.resolve = meterWork{}, registerWork{}, resolveWork{}
	if cap(c.audit.Detail) > 4096 {
		c.audit.Detail = nil
	}
	c.l.calls.Put(c)
}

// submit hands the call to the committer and waits until its work is durable. The error says what prevented that; a
// refusal that the committer decided on is in c.refusal.
func (c *Call) submit() *metering.Error {
	l := c.l
	if l.failure.Load() != nil || l.following() != nil {
		return errStopped
	}
	queue := l.queue
	if c.administers() {
		queue = l.adminQueue
	}
	l.admission.RLock()
	if l.closed {
		l.admission.RUnlock()
		return errStopped
	}
	select {
	case queue <- c:
		l.admission.RUnlock()
	default:
		l.admission.RUnlock()
		return metering.Errorf(metering.Throttling, "Rate exceeded: %d calls are waiting to be written. Retry with exponential backoff; nothing of this call was stored.", cap(queue))
	}
	<-c.answered
	switch c.refusal {
	case errCommit, errStopped, errStale:
		return c.refusal
	}
	return nil
}

// Errors that ask the client to send the call again. A service that cannot take more answers with Throttling before
// it writes a call, because clients give up records after a lasting internal error (metering-api 7). A commit that
// failed is answered with an internal error, because nobody knows whether it happened.
var (
	errStopped = metering.Errorf(metering.Throttling, "The service is not taking calls at the moment. Retry with exponential backoff; nothing of this call was stored.")
	errStale   = metering.Errorf(metering.Conflict, "The catalogue has been changed by another node.") // only between administer and exclusively
	errCommit  = metering.Errorf(metering.Internal, "The call could not be written. Send it again: records that were stored are not counted twice.")
)
