package ledger

import (
	"context"
	"testing"
)

var ctx = context.Background()

// Follow reads what other nodes have changed, as a node does each second.
func (l *Ledger) Follow() error {
	_ = l.administration.lock(ctx)
	defer l.administration.unlock()
	return l.catchUpLocked(ctx)
}

// SetUsageBounds makes the bounds of reports small for a test.
func SetUsageBounds(t *testing.T, pageBytes, sums int) {
	oldPageBytes, oldSums := maxPageBytes, maxSums
	maxPageBytes, maxSums = pageBytes, sums
	t.Cleanup(func() { maxPageBytes, maxSums = oldPageBytes, oldSums })
}
