package metering_test

import (
	"testing"

	"github.com/meterd/meterd/internal/metering"
)

func TestKindsHaveNames(t *testing.T) {
	seen := map[string]metering.Kind{}
	for i, k := range metering.Kinds() {
		if int(k) != i {
			t.Errorf("kind %d stands at %d", k, i)
		}
		if before, ok := seen[k.String()]; ok || k.String() == "" {
			t.Errorf("kind %d is called %q, as is kind %d", k, k, before)
		}
		seen[k.String()] = k
	}
	if len(seen) < 28 {
		t.Errorf("there are %d kinds only", len(seen))
	}
	// Their numbers are stored in audit rows.
	for name, k := range map[string]metering.Kind{"Internal": 0, "Validation": 1, "TimestampOutOfBounds": 15, "Conflict": 27} {
		if seen[name] != k {
			t.Errorf("kind %s is number %d, was %d", name, seen[name], k)
		}
	}
}

func TestErrorf(t *testing.T) {
	err := metering.Errorf(metering.Throttling, "%d calls", 7)
	if err.Error() != "7 calls" || err.Kind != metering.Throttling {
		t.Errorf("%+v", err)
	}
}
