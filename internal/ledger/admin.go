package ledger

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/meterd/meterd/internal/adminapi"
	"github.com/meterd/meterd/internal/metering"
	"github.com/meterd/meterd/internal/store"
)

// Acts of administration take the operator first and the shapes of the admin API. Their errors are
// [*metering.Error], of kind Validation, NotFound, Conflict or AccessDenied, or what prevented the commit. Each
// message is one line: the field, the rule and the mend. Every act is a [plan], and everything in it is committed
// together with one audit row.

// act plans with f, and commits.
func (l *Ledger) act(op Operator, f func(*plan) *metering.Error) error {
	if err := op.check(l); err != nil {
		return err
	}
	err := l.exclusively(func() *metering.Error {
		p := newPlan(l)
		defer func() { *p = plan{} }() // the committer holds on to the last act, and a plan can be large
		if err := f(p); err != nil {
			return err
		}
		p.settle()
		return l.administer(op, adminWork{act: clipped(p.act), puts: p.put, enter: p.enter})
	})
	if err != nil {
		return err
	}
	return nil // not err, which would be an error that holds a nil pointer
}

// clipped bounds the text of an audit row.
func clipped(act string) string {
	const most = 1000
	if len(act) > most {
		act = strings.ToValidUTF8(act[:most], "") + "…"
	}
	return act
}

// find checks the operator and reads one thing from the catalogue or the directory.
func find[R any](l *Ledger, op Operator, f func() (R, *metering.Error)) (R, error) {
	var none R
	if err := op.check(l); err != nil {
		return none, err
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	found, err := f()
	if err != nil {
		return none, err
	}
	return found, nil
}

// list returns a page of things: those of all, in the order of their numbers, that item wants. A page's cursor is
// the number of its last thing.
func list[T, R any](l *Ledger, op Operator, all func() []T, after string, limit int, item func(*T) (R, bool)) (adminapi.Page[R], error) {
	return find(l, op, func() (adminapi.Page[R], *metering.Error) {
		page := adminapi.Page[R]{Items: []R{}}
		limit, err := pageLimit(limit)
		if err != nil {
			return page, err
		}
		from := uint64(0)
		if after != "" {
			var bad error
			if from, bad = strconv.ParseUint(after, 10, 32); bad != nil {
				return page, badCursor(after)
			}
		}
		things, last := all(), from
		for i := from; i < uint64(len(things)); i++ {
			r, wanted := item(&things[i])
			if !wanted {
				continue
			}
			if len(page.Items) == limit {
				page.Next = strconv.FormatUint(last, 10)
				break
			}
			page.Items = append(page.Items, r)
			last = i + 1
		}
		return page, nil
	})
}

// Clock returns the ledger clock.
func (l *Ledger) Clock(op Operator) (adminapi.Clock, error) {
	return find(l, op, func() (adminapi.Clock, *metering.Error) {
		l.clock.mu.Lock()
		defer l.clock.mu.Unlock()
		return adminapi.Clock{Now: l.clock.nowLocked().Time(), Frozen: l.clock.state.Frozen != 0}, nil
	})
}

var errClock = conflict("clock: the clock of a production ledger is the machine's and cannot be moved: use a sandbox, meterd dev")

// ChangeClock moves, stops or starts the ledger clock of a sandbox. It may go back.
func (l *Ledger) ChangeClock(op Operator, in adminapi.ClockChange) (adminapi.Clock, error) {
	if err := l.changeClock(op, in); err != nil {
		return adminapi.Clock{}, err
	}
	return l.Clock(op)
}

func (l *Ledger) changeClock(op Operator, in adminapi.ClockChange) *metering.Error {
	if err := op.check(l); err != nil {
		return err
	}
	if !l.Sandbox() {
		return errClock
	}
	set, err := instant("now", in.Now)
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
	return l.exclusively(func() *metering.Error {
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
		if _, err := instant("advance", new(now.Time())); err != nil {
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
		return l.moveClock(op, what, state, false)
	})
}

// AcceptClock says that the clock of a production ledger is right, though it has jumped ahead, or ledger time is ahead of
// it after it was wrong: ledger time is the clock's from then on. Where it goes back, records are judged by the windows
// of that time again, and ClientTokens that were forgotten meanwhile stay so. Otherwise it is a Conflict.
func (l *Ledger) AcceptClock(op Operator) (adminapi.Clock, error) {
	if err := op.check(l); err != nil {
		return adminapi.Clock{}, err
	}
	if l.Sandbox() {
		return adminapi.Clock{}, conflict("clock: that of a sandbox is moved, and need not be accepted")
	}
	err := l.exclusively(func() *metering.Error {
		state, was, ok := l.clock.accepted()
		if !ok {
			return conflict("clock: ledger time is %v, as the clock says; there is nothing to accept", was)
		}
		return l.moveClock(op, fmt.Sprintf("%s%v; ledger time was %v", store.AcceptClock, state.Accepted, was), state, true)
	})
	if err != nil {
		return adminapi.Clock{}, err
	}
	return l.Clock(op)
}
