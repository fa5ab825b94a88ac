package store

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/meterd/meterd/internal/metering"
)

// FuzzParseDetail: whatever is taken was written by the encoders, to the byte.
func FuzzParseDetail(f *testing.F) {
	line := metering.Line{Key: metering.Key{Product: 1, Buyer: 2, Agreement: 3, Dimension: 4}, Timestamp: 1795436000123, Quantity: 1<<31 - 1, Form: metering.ByLicense}
	outcomes := AppendLeftOut(nil, 0, metering.Replayed, &line, "")
	f.Add(outcomes)
	f.Add(AppendLeftOut(outcomes, 24, metering.NotSubscribed, &metering.Line{Key: metering.Key{Product: 1, Dimension: 1}, Form: metering.ByCustomerIdentifier}, "cust-nobody"))
	f.Add(AppendRefusal(nil, "Rate exceeded", []byte("{}")))
	f.Add([]byte{detailText, 'x'})
	f.Add([]byte{detailLeftOut})
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := ParseDetail(b)
		if err != nil || b == nil {
			return
		}
		var again []byte
		switch b[0] {
		case detailLeftOut:
			for i := range d.LeftOut {
				o := &d.LeftOut[i]
				again = AppendLeftOut(again, o.Index, o.Outcome, &o.Line, o.Sent)
			}
		case detailRefusal:
			again = AppendRefusal(nil, d.Message, []byte(d.Body))
		case detailText:
			again = AppendText(nil, d.Text)
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
		"body too long":      "02 00 " + strings.Repeat("61", maxDetailBody+1),
		"message too long":   "02 8108 " + strings.Repeat("61", maxDetailMessage+1),
	} {
		b, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
		if err != nil {
			t.Fatal(name, err)
		}
		if d, err := ParseDetail(b); err == nil {
			t.Errorf("%s: taken as %+v", name, d)
		}
	}
	if _, err := ParseDetail(nil); err != nil {
		t.Errorf("none: %v", err)
	}
}
