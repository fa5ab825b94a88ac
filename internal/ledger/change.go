package ledger

import (
	"encoding/json"

	"github.com/google/uuid"
	"github.com/meterd/meterd/internal/iam"
	"github.com/meterd/meterd/internal/metering"
	"github.com/meterd/meterd/internal/store"
)

// Operator is who administers the ledger. [Ledger.Operator] makes one from a bearer token, and [Ledger.Local] for
// the process that owns the ledger; acts of the zero Operator are refused.
type Operator struct {
	ledger *Ledger
	token  uint32 // number of the admin token; 0 for the owning process
	source string
}

// Operator returns the operator that the bearer token stands for; a wrong token is AccessDenied.
func (l *Ledger) Operator(bearer, source string) (Operator, *metering.Error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	id, ok := l.directory.bearers[iam.HashBearerToken(bearer)]
	if !ok {
		return Operator{}, metering.Errorf(metering.AccessDenied, "The bearer token is missing or not valid. Send the token that meterd init printed, or one made with: meterd admin admin-token create.")
	}
	return Operator{ledger: l, token: id, source: source}, nil
}

// Local returns the operator that is the process itself, such as the sandbox seeding its marketplace.
func (l *Ledger) Local() Operator { return Operator{ledger: l, source: "local"} }

// adminOperation is the operation number of audit rows of administration.
const adminOperation = 16

// adminWork is an act of administration whose checks have passed.
type adminWork struct {
	act    string
	token  uint32
	puts   func(*store.Tx) error
	enter  func(*Ledger)
	inside func(*group) error // runs in the committer before the transaction's writes; may be nil
}

func (a *adminWork) write(g *group, c *Call) error {
	c.audit.Operation, c.audit.Principal = adminOperation, a.token
	if a.inside != nil {
		if err := a.inside(g); err != nil {
			return err
		}
		c.audit.At = g.now
	}
	c.audit.Detail = append(append(c.audit.Detail, detailText), a.act...)
	g.applyLater(c)
	if a.puts == nil {
		return nil
	}
	return a.puts(g.tx)
}

func (a *adminWork) apply(l *Ledger, _ *Call) {
	if a.enter != nil {
		a.enter(l)
	}
}

// administer makes a change durable and then enters it into the catalogue or directory, with an audit row that
// tells the act in words (never secrets). The caller holds l.administration and has checked everything: an error
// of puts stops the ledger. enter runs under the catalogue's write lock.
func (l *Ledger) administer(op Operator, act string, puts func(*store.Tx) error, enter func(*Ledger)) *metering.Error {
	return l.administerInside(op, act, puts, enter, nil)
}

func (l *Ledger) administerInside(op Operator, act string, puts func(*store.Tx) error, enter func(*Ledger), inside func(*group) error) *metering.Error {
	if err := op.check(l); err != nil {
		return err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return metering.Errorf(metering.Internal, "%v", err)
	}
	c := &Call{l: l, answered: make(chan struct{}, 1), caller: Caller{Source: op.source, RequestID: id}}
	c.admin = adminWork{act: act, token: op.token, puts: puts, enter: enter, inside: inside}
	c.work = &c.admin
	return c.submit()
}

func (op Operator) check(l *Ledger) *metering.Error {
	if op.ledger != l {
		return metering.Errorf(metering.AccessDenied, "Only an operator may do this.")
	}
	return nil
}

// moveClock is the act of moving the clock: the new state is stored, and the index follows when the window moves
// back over hours that it has dropped.
func (l *Ledger) moveClock(op Operator, act string, s clockState) *metering.Error {
	value, err := json.Marshal(s)
	if err != nil {
		return metering.Errorf(metering.Internal, "%v", err)
	}
	return l.administerInside(op, act, func(tx *store.Tx) error { return tx.PutMeta(clockValue, value) }, nil, func(g *group) error {
		before := g.now
		g.now = l.clock.set(s)
		if g.now < before {
			r, err := g.tx.Reader()
			if err != nil {
				return err
			}
			return g.window.load(r, g.now)
		}
		return nil
	})
}
