package ledger

import "testing"

// SetUsageBounds makes the bounds of reports small for a test.
func SetUsageBounds(t *testing.T, pageBytes, sums int) {
	oldPageBytes, oldSums := maxPageBytes, maxSums
	maxPageBytes, maxSums = pageBytes, sums
	t.Cleanup(func() { maxPageBytes, maxSums = oldPageBytes, oldSums })
}
