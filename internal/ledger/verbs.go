package ledger

import (
	"context"
	"slices"

	"github.com/meterd/meterd/internal/adminapi"
	"github.com/meterd/meterd/internal/market"
)

// Verb is a verb of the admin API with the act of the ledger that it asks for.
type Verb = adminapi.Served[Operator]

// Verbs returns the ledger's own verbs. Those of the marketplace are in [market.Verbs]; an operator is a
// [market.Desk] for them. Two verbs are in neither, because their answers need what only package server knows: the
// audit of a call, and a workload's credentials.
func (l *Ledger) Verbs() []Verb { return slices.Concat(l.tokenVerbs(), l.usageVerbs(), l.clockVerbs()) }

var _ market.Desk = Operator{}

// Act has the marketplace changed by the operator: see the function [Act].
func (op Operator) Act(ctx context.Context, act market.Act[adminapi.None]) error {
	_, err := Act(ctx, op.ledger, op, act)
	return err
}

// Find reads one thing of the marketplace for the operator.
func (op Operator) Find(ctx context.Context, find market.Find[adminapi.None]) error {
	_, err := Find(ctx, op.ledger, op, find)
	return err
}

// Fill fills a page of a list for the operator.
func (op Operator) Fill(ctx context.Context, page market.Filler) error {
	return fill(ctx, op.ledger, op, page)
}
