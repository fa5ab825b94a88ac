package ledger

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/meterd/meterd/internal/adminapi"
	"github.com/meterd/meterd/internal/market"
	"github.com/meterd/meterd/internal/metering"
	"github.com/meterd/meterd/internal/store"
)

// Act makes a change to the marketplace: it plans on the latest state, commits the rows with one audit row, and then
// answers with what the act finds in the new state. Its errors are [*metering.Error] of kind Validation, NotFound,
// Conflict or AccessDenied, or whatever prevented the commit; the error of an import has all of its faults.
func Act[R any](ctx context.Context, l *Ledger, op Operator, act market.Act[R]) (R, error) {
	var none R
	if err := op.check(l); err != nil {
		return none, err
	}
	var find market.Find[R]
	var refusal error // of the plan
	err := l.exclusively(ctx, func() (err *metering.Error) {
		p := market.NewPlan(l.view(op), l.cfg.Random, func(id [16]byte) (*store.RegistrationToken, error) { return l.storedToken(ctx, id) })
		defer func() { *p = market.Plan{} }() // the committer keeps a reference to the last act, and a plan can be large
		find, err = act(p)
		if denied := p.Denied(); denied != nil {
			return denied
		}
		if err != nil {
			refusal = p.Refusal(err)
			return err
		}
		p.Settle()
		return l.administer(ctx, op, adminWork{summary: clipped(p.Summary), enter: p.Enter,
			puts: func(tx *store.Tx) error { return p.Rows(tx.Replace) }})
	})
	switch {
	case refusal != nil:
		return none, refusal
	case err != nil:
		return none, err
	case find == nil:
		return none, nil
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	v := l.view(op)
	found, err := find(&v) // without asking Denied again: whoever may do the act may see its answer
	if err != nil {
		return none, err
	}
	return found, nil
}

// clipped bounds the text of an audit row.
func clipped(summary string) string {
	const most = 1000
	if len(summary) > most {
		summary = strings.ToValidUTF8(summary[:most], "") + "…"
	}
	return summary
}

// view is the marketplace as the operator sees it now. The caller holds l.mu, or l.administration while it plans.
func (l *Ledger) view(op Operator) market.View {
	return market.View{State: l.market, Now: l.clock.now(), Scope: op.scope}
}

// Find reads one thing of the marketplace.
func Find[R any](_ context.Context, l *Ledger, op Operator, find market.Find[R]) (R, error) {
	var none R
	if err := op.check(l); err != nil {
		return none, err
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	v := l.view(op)
	found, err := find(&v)
	if denied := v.Denied(); denied != nil {
		return none, denied
	}
	if err != nil {
		return none, err
	}
	return found, nil
}

// maxLook bounds how many things a list looks at in one hold of the lock. A change waits for that lock, and everybody
// who asks for the lock after the change waits too.
const maxLook = 1000

// List returns a page of things, at most limit of them, behind the cursor of the page before.
func List[R any](ctx context.Context, l *Ledger, op Operator, list market.List[R], after string, limit int) (adminapi.Page[R], error) {
	none := adminapi.Page[R]{Items: []R{}}
	if err := op.check(l); err != nil {
		return none, err
	}
	page, refusal := market.NewPage(list, after, limit)
	if refusal != nil {
		return none, refusal
	}
	if err := fill(ctx, l, op, page); err != nil {
		return none, err
	}
	return page.Page, nil
}

// fill fills a page. It releases the lock between portions of maxLook things.
func fill(ctx context.Context, l *Ledger, op Operator, page market.Filler) error {
	if err := op.check(l); err != nil {
		return err
	}
	for finished := false; !finished; {
		if err := ctx.Err(); err != nil {
			return err
		}
		l.mu.RLock()
		v := l.view(op)
		var err *metering.Error
		finished, err = page.Fill(&v, maxLook)
		l.mu.RUnlock()
		if denied := v.Denied(); denied != nil {
			return denied
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (l *Ledger) tokenVerbs() []Verb {
	return []Verb{
		adminapi.Bind(adminapi.ListTokens, func(ctx context.Context, op Operator, in adminapi.Paging) (adminapi.Page[adminapi.Token], error) {
			return l.Tokens(ctx, op, in.After, in.Limit)
		}),
	}
}

// Tokens lists the registration tokens in the order in which they were issued. It reads them from the store without
// locking the marketplace.
func (l *Ledger) Tokens(ctx context.Context, op Operator, after string, limit int) (adminapi.Page[adminapi.Token], error) {
	page := adminapi.Page[adminapi.Token]{Items: []adminapi.Token{}}
	if err := op.checkAll(l); err != nil {
		return page, err
	}
	limit, refusal := market.PageLimit(limit)
	if refusal != nil {
		return page, refusal
	}
	from, refusal := market.TokenCursor(after)
	if refusal != nil {
		return page, refusal
	}
	var found []store.RegistrationToken // one more than the limit, to know whether there is a next page
	err := l.db.View(ctx, func(r *store.Reader) error {
		found = nil
		return r.RegistrationTokens(from, limit+1, func(t store.RegistrationToken) error {
			found = append(found, t)
			return nil
		})
	})
	if err == nil {
		err = l.catchUp(ctx)
	}
	if err != nil {
		return page, err
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	v := l.view(op)
	shown, known := v.Tokens(found[:min(len(found), limit)])
	if !known {
		return page, errAhead
	}
	if page.Items = shown; len(found) > limit {
		page.Next = shown[limit-1].ID
	}
	return page, nil
}

// auditWork writes only an audit row, for an operator's act that changed nothing.
type auditWork struct {
	plain
	summary string
	token   uint32 // of the operator
}

func (a *auditWork) write(_ *group, c *Call) error {
	c.audit.Principal = a.token
	c.audit.Detail = store.AppendText(c.audit.Detail, a.summary)
	return nil
}

// CreateWorkloadCredentials mints credentials for a workload. For a known workload that keeps its role this writes an
// audit row and nothing else. A new workload, or one that gets another role, is first stored as an act of
// administration.
func (l *Ledger) CreateWorkloadCredentials(ctx context.Context, op Operator, in adminapi.WorkloadRequest) (adminapi.WorkloadCredentials, error) {
	summary := ""
	out, err := Find(ctx, l, op, func(v *market.View) (out adminapi.WorkloadCredentials, err *metering.Error) {
		out, summary, err = v.Credentials(&in, l.cfg.Now(), l.cfg.Random)
		return out, err
	})
	switch {
	case errors.Is(err, market.ErrUnsettled):
		return Act(ctx, l, op, market.CreateWorkloadCredentials(in, l.cfg.Now()))
	case err != nil:
		return adminapi.WorkloadCredentials{}, err
	}
	c, refusal := l.adminCall(op)
	if refusal != nil {
		return adminapi.WorkloadCredentials{}, refusal
	}
	c.work = &auditWork{summary: clipped(summary), token: op.token}
	if err := c.submit(); err != nil {
		return adminapi.WorkloadCredentials{}, err
	}
	return out, nil
}

func (l *Ledger) clockVerbs() []Verb {
	return []Verb{
		adminapi.Bind(adminapi.GetClock, func(ctx context.Context, op Operator, _ adminapi.None) (adminapi.Clock, error) {
			return l.Clock(ctx, op)
		}),
		adminapi.Bind(adminapi.ChangeClock, func(ctx context.Context, op Operator, in adminapi.ClockChange) (adminapi.Clock, error) {
			return l.ChangeClock(ctx, op, in)
		}),
		adminapi.Bind(adminapi.AcceptClock, func(ctx context.Context, op Operator, _ adminapi.None) (adminapi.Clock, error) {
			return l.AcceptClock(ctx, op)
		}),
	}
}

// Clock returns the ledger clock.
func (l *Ledger) Clock(_ context.Context, op Operator) (adminapi.Clock, error) {
	if err := op.check(l); err != nil {
		return adminapi.Clock{}, err
	}
	l.clock.mu.Lock()
	defer l.clock.mu.Unlock()
	return adminapi.Clock{Now: l.clock.nowLocked().Time(), Frozen: l.clock.state.Frozen != 0}, nil
}

var errClock = conflict("clock: the clock of a production ledger is the machine's and cannot be moved: use a sandbox, meterd dev")

// ChangeClock moves, stops or starts the ledger clock of a sandbox. It may move the clock back.
func (l *Ledger) ChangeClock(ctx context.Context, op Operator, in adminapi.ClockChange) (adminapi.Clock, error) {
	if err := l.changeClock(ctx, op, in); err != nil {
		return adminapi.Clock{}, err
	}
	return l.Clock(ctx, op)
}

func (l *Ledger) changeClock(ctx context.Context, op Operator, in adminapi.ClockChange) *metering.Error {
	if err := op.checkAll(l); err != nil {
		return err
	}
	if !l.Sandbox() {
		return errClock
	}
	set, err := market.Instant("now", in.Now)
	if err != nil {
		return err
	}
	var advance time.Duration
	if in.Advance != "" {
		var bad error
		if advance, bad = time.ParseDuration(in.Advance); bad != nil {
			return invalid("advance: %.40q is not a duration: write hours, minutes and seconds, such as 90m, 26h or -1h", in.Advance)
		}
	}
	switch {
	case in.Now != nil && in.Advance != "":
		return invalid("advance: excludes now: set the clock with one of them")
	case in.Reset && (in.Now != nil || in.Advance != "" || in.Frozen != nil):
		return invalid("reset: excludes now, advance and frozen: the clock then runs with the wall clock")
	case !in.Reset && in.Now == nil && in.Advance == "" && in.Frozen == nil:
		return invalid("now: is missing: give now, advance, frozen or reset")
	}
	return l.exclusively(ctx, func() *metering.Error {
		l.clock.mu.Lock()
		now, state := l.clock.nowLocked(), l.clock.state
		l.clock.mu.Unlock()
		frozen := state.Frozen != 0
		if in.Frozen != nil {
			frozen = *in.Frozen
		}
		if in.Now != nil {
			now = set
		}
		now = now.Add(advance)
		if _, err := market.Instant("advance", new(now.Time())); err != nil {
			return err
		}
		switch {
		case in.Reset:
			state = clockState{}
		case frozen:
			state = clockState{Frozen: now}
		default:
			state = clockState{Offset: int64(now - l.clock.at(clockState{}))}
		}
		what := "set the clock to " + now.String()
		if in.Reset {
			what = "reset the clock"
		} else if frozen {
			what += ", frozen"
		}
		return l.moveClock(ctx, op, what, state, false)
	})
}

// AcceptClock declares that the clock of a production ledger is right, after it has jumped ahead, or after it was
// wrong and left ledger time ahead of it. From then on ledger time is the clock's. If ledger time goes back by this,
// records are judged by the windows of that earlier time again, while ClientTokens that were forgotten meanwhile stay
// forgotten. If there is nothing to accept the error is a Conflict.
func (l *Ledger) AcceptClock(ctx context.Context, op Operator) (adminapi.Clock, error) {
	if err := op.checkAll(l); err != nil {
		return adminapi.Clock{}, err
	}
	if l.Sandbox() {
		return adminapi.Clock{}, conflict("clock: that of a sandbox is moved, and need not be accepted")
	}
	err := l.exclusively(ctx, func() *metering.Error {
		state, was, ok := l.clock.accepted()
		if !ok {
			return conflict("clock: ledger time is %v, as the clock says; there is nothing to accept", was)
		}
		return l.moveClock(ctx, op, fmt.Sprintf("%s%v; ledger time was %v", store.AcceptClock, state.Accepted, was), state, true)
	})
	if err != nil {
		return adminapi.Clock{}, err
	}
	return l.Clock(ctx, op)
}

func invalid(format string, args ...any) *metering.Error {
	return metering.Errorf(metering.Validation, format, args...)
}

func notFound(format string, args ...any) *metering.Error {
	return metering.Errorf(metering.NotFound, format, args...)
}

func conflict(format string, args ...any) *metering.Error {
	return metering.Errorf(metering.Conflict, format, args...)
}
