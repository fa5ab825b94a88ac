package ledger

import "testing"

// Follow reads what other nodes have changed, as a node does each second.
func (l *Ledger) Follow() error {
	l.administration.Lock()
	defer l.administration.Unlock()
	return l.catchUpLocked()
}

// SetUsageBounds makes the bounds of reports small for a test.
func SetUsageBounds(t *testing.T, pageBytes, sums int) {
	oldPageBytes, oldSums := maxPageBytes, maxSums
	maxPageBytes, maxSums = pageBytes, sums
	t.Cleanup(func() { maxPageBytes, maxSums = oldPageBytes, oldSums })
}
