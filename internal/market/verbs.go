package market

import (
	"context"
	"slices"

	"github.com/meterd/meterd/internal/adminapi"
	"github.com/meterd/meterd/internal/metering"
)

// Verb is a verb of the admin API with the act or read of the marketplace that it asks for. The file of each noun has
// the noun's verbs beside its acts, which take the same input as the verbs.
type Verb = adminapi.Served[Desk]

// Desk carries out an operator's verbs. Package ledger implements it, because it has the state, the locks and the
// commit.
type Desk interface {
	// Act plans, commits, and then finds the answer.
	Act(context.Context, Act[adminapi.None]) error
	// Find finds one thing.
	Find(context.Context, Find[adminapi.None]) error
	// Fill fills a page of a list.
	Fill(context.Context, Filler) error
}

// Filler is a [Page] of things of some kind.
type Filler interface {
	Fill(v *View, most int) (finished bool, err *metering.Error)
}

// Verbs returns the verbs of the marketplace.
func Verbs() []Verb {
	return slices.Concat(regionVerbs, partyVerbs, productVerbs, publicKeyVerbs, agreementVerbs, userVerbs, roleVerbs, canVerbs, accessKeyVerbs,
		workloadVerbs, tokenVerbs, adminTokenVerbs)
}

// changes binds a verb to an act.
func changes[In, Out any](v adminapi.Verb[In, Out], act func(In) Act[Out]) Verb {
	return adminapi.Bind(v, func(ctx context.Context, d Desk, in In) (out Out, err error) {
		plan := act(in)
		err = d.Act(ctx, func(p *Plan) (Find[adminapi.None], *metering.Error) {
			find, err := plan(p)
			if find == nil {
				return nil, err
			}
			return into(&out, find), err
		})
		return out, err
	})
}

// finds binds a verb to a read.
func finds[In, Out any](v adminapi.Verb[In, Out], find func(In) Find[Out]) Verb {
	return adminapi.Bind(v, func(ctx context.Context, d Desk, in In) (out Out, err error) {
		err = d.Find(ctx, into(&out, find(in)))
		return out, err
	})
}

// lists binds a verb to a list.
func lists[In, R any, P adminapi.Paged[In]](v adminapi.Verb[In, adminapi.Page[R]], list func(In) List[R]) Verb {
	return adminapi.Bind(v, func(ctx context.Context, d Desk, in In) (none adminapi.Page[R], err error) {
		asked := P(&in).Asked()
		page, refusal := NewPage(list(in), asked.After, asked.Limit)
		if refusal != nil {
			return none, refusal
		}
		if err := d.Fill(ctx, page); err != nil {
			return none, err
		}
		return page.Page, nil
	})
}

// into returns a Find that stores what find returns in out.
func into[R any](out *R, find Find[R]) Find[adminapi.None] {
	return func(v *View) (none adminapi.None, err *metering.Error) {
		*out, err = find(v)
		return none, err
	}
}
