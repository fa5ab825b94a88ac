package metering_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/meterd/meterd/internal/metering"
	"pgregory.net/rapid"
)

// Ids are a promise to clients: the derivation, written here in other words, must never change.
func TestRecordIDsDerivation(t *testing.T) {
	secret := []byte("a ledger's secret")
	ids := metering.NewRecordIDs(secret)
	rapid.Check(t, func(t *rapid.T) {
		hour := metering.Hour(rapid.Int32().Draw(t, "hour"))
		parts := rapid.SliceOfN(rapid.StringN(0, 200, -1), 0, 8).Draw(t, "parts")
		mac := hmac.New(sha256.New, secret)
		binary.Write(mac, binary.BigEndian, int32(hour))
		for _, p := range parts {
			mac.Write(binary.AppendUvarint(nil, uint64(len(p))))
			mac.Write([]byte(p))
		}
		want := metering.RecordID(mac.Sum(nil)[:16])
		want[6] = 0x80 | want[6]&0x0f // version 8
		want[8] = 0x80 | want[8]&0x3f // variant 10
		got := ids.Of(hour, parts...)
		if got != want {
			t.Errorf("the id of %d %q is %x, want %x", hour, parts, got, want)
		}
		if again := metering.NewRecordIDs(slices.Clone(secret)).Of(hour, parts...); again != got {
			t.Errorf("the id of %d %q is %x, and with a copy of the secret %x", hour, parts, got, again)
		}
	})
}

func TestRecordIDsDiffer(t *testing.T) {
	ids, other := metering.NewRecordIDs([]byte("secret")), metering.NewRecordIDs([]byte("Secret"))
	seen := map[metering.RecordID]int{}
	for i, id := range []metering.RecordID{
		ids.Of(1, "ab", "c"), ids.Of(1, "a", "bc"), ids.Of(1, "abc"), ids.Of(1, "", "abc"), ids.Of(1, "abc", ""), ids.Of(1, "c", "ab"),
		ids.Of(2, "ab", "c"), ids.Of(-1, "ab", "c"), ids.Of(1), ids.Of(1, ""), ids.Of(1, "\x03abc"), ids.Of(1, "ab\x01c"), other.Of(1, "ab", "c"),
	} {
		if j, ok := seen[id]; ok {
			t.Errorf("names %d and %d have the id %x", j, i, id)
		}
		seen[id] = i
	}
}

func TestRecordIDsTogether(t *testing.T) {
	ids := metering.NewRecordIDs([]byte("secret"))
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for h := range metering.Hour(200) {
				name := string(rune('a' + i))
				if got, want := ids.Of(h, name), metering.NewRecordIDs([]byte("secret")).Of(h, name); got != want {
					t.Errorf("beside others the id of %d %s is %x, want %x", h, name, got, want)
				}
			}
		})
	}
	all.Wait()
}

// The id says what the record is, and nothing of how it was sent.
func TestRecordIDOf(t *testing.T) {
	m := market(t)
	ids := metering.NewRecordIDs([]byte("secret"))
	region, elsewhere := m.RegionNamed("us-east-1").ID, m.RegionNamed("eu-west-1").ID
	hour := at(t, noon).Hour()
	byBuyer := metering.Line{Key: metering.Key{Product: legacy, Buyer: buyerA, Dimension: 1, Region: region}, Hour: hour}
	byLicence := metering.Line{Key: metering.Key{Product: legacy, Buyer: buyerA, Agreement: 5, Dimension: 1, Region: region}, Hour: hour}
	onTask := metering.Line{Key: metering.Key{Product: container, Buyer: buyerA, Workload: task, Dimension: 1, Region: region}, Hour: hour}
	onRuntime := metering.Line{Key: metering.Key{Product: container, Buyer: buyerA, Workload: runtime, Dimension: 1, Region: region}, Hour: hour}
	of := func(l metering.Line, clientToken string, changes ...func(*metering.Line)) metering.RecordID {
		for _, c := range changes {
			c(&l)
		}
		return m.RecordIDOf(ids, &l, clientToken)
	}
	nextHour := func(l *metering.Line) { l.Hour++ }
	otherRegion := func(l *metering.Line) { l.Key.Region = elsewhere }
	otherDimension := func(l *metering.Line) { l.Key.Dimension = 2 }
	quantity := func(l *metering.Line) {
		l.Quantity, l.Timestamp, l.Form, l.Allocations = 7, at(t, noon).Add(time.Minute), metering.ByCustomerIdentifier, []metering.Allocation{part(7)}
	}

	different := map[metering.RecordID]string{}
	for name, id := range map[string]metering.RecordID{
		"buyer":                   of(byBuyer, ""),
		"buyer, next hour":        of(byBuyer, "", nextHour),
		"buyer, elsewhere":        of(byBuyer, "", otherRegion),
		"buyer, dimension":        of(byBuyer, "", otherDimension),
		"other buyer":             of(byBuyer, "", func(l *metering.Line) { l.Key.Buyer = buyerB }),
		"licence":                 of(byLicence, ""),
		"licence, next hour":      of(byLicence, "", nextHour),
		"licence, elsewhere":      of(byLicence, "", otherRegion),
		"licence, dimension":      of(byLicence, "", otherDimension),
		"task":                    of(onTask, "token"),
		"task, next hour":         of(onTask, "token", nextHour),
		"task, dimension":         of(onTask, "token", otherDimension),
		"instance":                of(onTask, "token", func(l *metering.Line) { l.Key.Workload = instance }),
		"task, product":           of(onTask, "token", func(l *metering.Line) { l.Key.Product = legacy }),
		"runtime":                 of(onRuntime, "token"),
		"runtime, next hour":      of(onRuntime, "token", nextHour),
		"runtime, another token":  of(onRuntime, "token2"),
		"the buyer as a workload": of(onTask, "", func(l *metering.Line) { l.Key.Workload = 0 }),
	} {
		if before, ok := different[id]; ok {
			t.Errorf("%s and %s have the same id", before, name)
		}
		different[id] = name
	}
	for name, same := range map[string][2]metering.RecordID{
		"quantity, minute, form and allocations": {of(byBuyer, ""), of(byBuyer, "", quantity)},
		"the ClientToken of a task":              {of(onTask, "token"), of(onTask, "token2")},
		"the dimension of usage by its token":    {of(onRuntime, "token"), of(onRuntime, "token", otherDimension)},
	} {
		if same[0] != same[1] {
			t.Errorf("%s must not change the id", name)
		}
	}
}
