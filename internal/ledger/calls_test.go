package ledger

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"github.com/meterd/meterd/internal/metering"
)

// SetUsageBounds makes the bounds of reports small for a test.
func SetUsageBounds(t *testing.T, pageBytes, sums int) {
	oldPageBytes, oldSums := maxPageBytes, maxSums
	maxPageBytes, maxSums = pageBytes, sums
	t.Cleanup(func() { maxPageBytes, maxSums = oldPageBytes, oldSums })
}

// FuzzParseDetail: whatever is taken was written by the encoders, to the byte.
func FuzzParseDetail(f *testing.F) {
	line := metering.Line{Key: metering.Key{Product: 1, Buyer: 2, Agreement: 3, Dimension: 4}, Timestamp: 1795436000123, Quantity: 1<<31 - 1, Form: metering.ByLicense}
	outcomes := appendOutcome(nil, 0, Replayed, &line, "")
	f.Add(outcomes)
	f.Add(appendOutcome(outcomes, 24, NotSubscribed, &metering.Line{Key: metering.Key{Product: 1, Dimension: 1}, Form: metering.ByCustomerIdentifier}, "cust-nobody"))
	f.Add(appendRefusal(nil, "Rate exceeded", []byte("{}")))
	f.Add([]byte{detailText, 'x'})
	f.Add([]byte{detailOutcomes})
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := parseDetail(b)
		if err != nil || b == nil {
			return
		}
		var again []byte
		switch b[0] {
		case detailOutcomes:
			for i := range d.outcomes {
				o := &d.outcomes[i]
				again = appendOutcome(again, o.index, o.outcome, &o.line, o.sent)
			}
		case detailRefusal:
			again = appendRefusal(nil, d.message, []byte(d.body))
		case detailText:
			again = append([]byte{detailText}, d.text...)
		}
		if !bytes.Equal(again, b) {
			t.Errorf("%x was read as %+v, which is written %x", b, d, again)
		}
	})
}

func TestParseDetailRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"empty":              "",
		"unknown form":       "09",
		"no outcome":         "01",
		"outcome cut":        "01 00 02 01 01 01 00 00 01",
		"index beyond 24":    "01 19 02 01 01 01 00 00 01 00 00 00",
		"outcome stored":     "01 00 01 01 01 01 00 00 01 00 00 00",
		"outcome unknown":    "01 00 06 01 01 01 00 00 01 00 00 00",
		"form unknown":       "01 00 02 05 01 01 00 00 01 00 00 00",
		"product too large":  "01 00 02 01 8080808010 01 00 00 01 00 00 00",
		"quantity too large": "01 00 02 01 01 01 00 00 01 00 8080808008 00",
		"text cut":           "01 00 02 01 01 01 00 00 01 00 00 02 61",
		"same index twice":   "01 00 02 01 01 01 00 00 01 00 00 00 00 02 01 01 01 00 00 01 00 00 00",
		"number too long":    "01 00 02 01 8100 01 00 00 01 00 00 00",
		"message cut":        "02 05 61",
		"body too long":      "02 00 " + strings.Repeat("61", maxAuditBody+1),
		"message too long":   "02 8108 " + strings.Repeat("61", maxAuditMessage+1),
	} {
		b, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
		if err != nil {
			t.Fatal(name, err)
		}
		if d, err := parseDetail(b); err == nil {
			t.Errorf("%s: taken as %+v", name, d)
		}
	}
	if _, err := parseDetail(nil); err != nil {
		t.Errorf("none: %v", err)
	}
}

// TestCaught: a panic while a ledger is checked must never look like success.
func TestCaught(t *testing.T) {
	var none []int
	err := caught(func() error { return fmt.Errorf("%d", none[len(t.Name())]) })
	if err == nil || !strings.Contains(err.Error(), "damaged in an unknown way") || !strings.Contains(err.Error(), "index out of range") {
		t.Errorf("got %v", err)
	}
	if err := caught(func() error { return nil }); err != nil {
		t.Errorf("of nothing: %v", err)
	}
	if err := caught(func() error { return errDetail }); err != errDetail {
		t.Errorf("of an error: %v", err)
	}
}
