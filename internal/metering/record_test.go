package metering_test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/meterd/meterd/internal/metering"
	"pgregory.net/rapid"
)

// part returns an allocation of the quantity with the tags, keys and values by turns.
func part(quantity int32, tags ...string) metering.Allocation {
	a := metering.Allocation{Quantity: quantity, HasQuantity: true}
	for i := 0; i < len(tags); i += 2 {
		a.Tags = append(a.Tags, metering.Tag{Key: tags[i], Value: tags[i+1]})
	}
	return a
}

// manyParts returns n allocations of 1, each with a tag of its own.
func manyParts(n int) []metering.Allocation {
	all := make([]metering.Allocation, n)
	for i := range all {
		all[i] = part(1, "team", fmt.Sprint(i))
	}
	return all
}

// admitAllocations has both operations decide the same allocations, which must agree.
func admitAllocations(t testing.TB, quantity int32, allocations []metering.Allocation) *metering.Error {
	t.Helper()
	m := market(t)
	region := m.RegionNamed("us-east-1").ID
	r := record(t)
	r.Quantity, r.Allocations = quantity, allocations
	_, byBatch := m.AdmitBatch(batchOf("legacy001", r), acme, region, at(t, noon), nil)
	in := meterOf(t)
	in.Quantity, in.Allocations = quantity, allocations
	_, byMeter := m.AdmitMeter(in, m.Workload(instance), region, at(t, noon))
	if (byBatch == nil) != (byMeter == nil) || byBatch != nil && byBatch.Kind != byMeter.Kind {
		t.Errorf("BatchMeterUsage says %v, MeterUsage says %v", byBatch, byMeter)
	}
	return byBatch
}

func TestAllocations(t *testing.T) {
	const ok = metering.Internal // no refusal
	empty := part(3)
	empty.Tags = []metering.Tag{}
	unsaid := part(3)
	unsaid.HasQuantity = false
	six := part(3, "a", "1", "b", "1", "c", "1", "d", "1", "e", "1", "f", "1")
	for _, c := range []struct {
		name        string
		quantity    int32
		allocations []metering.Allocation
		want        metering.Kind
		words       []string
	}{
		{"none", 3, nil, ok, nil},
		{"one without tags", 3, []metering.Allocation{part(3)}, ok, nil},
		{"parts that add up", 3, []metering.Allocation{part(2, "team", "a"), part(1, "team", "b")}, ok, nil},
		{"tagged and untagged", 3, []metering.Allocation{part(2, "team", "a"), part(1)}, ok, nil},
		{"a part of nothing", 3, []metering.Allocation{part(3, "team", "a"), part(0, "team", "b")}, ok, nil},
		{"quantity 0", 0, []metering.Allocation{part(0)}, ok, nil},
		{"the largest quantity", 2147483647, []metering.Allocation{part(2147483646, "team", "a"), part(1)}, ok, nil},
		{"five tags", 3, []metering.Allocation{part(3, "a", "1", "b", "1", "c", "1", "d", "1", "e", "1")}, ok, nil},
		{"five keys over several allocations", 3, []metering.Allocation{part(2, "a", "1", "b", "1", "c", "1"), part(1, "c", "2", "d", "1", "e", "1")}, ok, nil},
		{"the same values under other keys", 3, []metering.Allocation{part(2, "a", "1"), part(1, "b", "1")}, ok, nil},
		{"one set inside the other", 3, []metering.Allocation{part(2, "a", "1", "b", "2"), part(1, "a", "1")}, ok, nil},
		{"2500 parts", 2500, manyParts(2500), ok, nil},
		{"key of 100 characters, value of 256", 3, []metering.Allocation{part(3, strings.Repeat("k", 100), strings.Repeat("v", 256))}, ok, nil},

		{"parts that add up to more", 3, []metering.Allocation{part(2, "team", "a"), part(2, "team", "b")}, metering.InvalidUsageAllocations, []string{"add up to 4", "is 3"}},
		{"parts that add up to less", 3, []metering.Allocation{part(2)}, metering.InvalidUsageAllocations, []string{"add up to 2"}},
		{"parts beyond 32 bits, which would wrap around", 0, []metering.Allocation{part(2147483647, "a", "1"), part(2147483647, "a", "2"), part(2, "a", "3")}, metering.InvalidUsageAllocations, []string{"4294967296"}},
		{"the same tags", 3, []metering.Allocation{part(2, "a", "1"), part(1, "a", "1")}, metering.InvalidUsageAllocations, []string{"UsageAllocations[0]", "UsageAllocations[1]", "same tags"}},
		{"the same tags in another order", 3, []metering.Allocation{part(1, "x", "9"), part(1, "a", "1", "b", "2"), part(1, "b", "2", "a", "1")}, metering.InvalidUsageAllocations, []string{"UsageAllocations[1]", "UsageAllocations[2]"}},
		{"twice without tags", 3, []metering.Allocation{part(2), part(1)}, metering.InvalidUsageAllocations, []string{"no tags"}},
		{"six tags", 3, []metering.Allocation{six}, metering.InvalidTag, []string{"6 tags", "at most 5"}},
		{"six keys over several allocations", 3, []metering.Allocation{part(2, "a", "1", "b", "1", "c", "1"), part(1, "d", "1", "e", "1", "f", "1")}, metering.InvalidTag, []string{"5 different tag Keys", `"f"`}},
		{"a key twice", 3, []metering.Allocation{part(3, "a", "1", "a", "2")}, metering.InvalidTag, []string{"twice", `"a"`}},
		{"an empty list of tags", 3, []metering.Allocation{empty}, metering.InvalidTag, []string{"empty"}},
		{"empty key", 3, []metering.Allocation{part(3, "", "1")}, metering.InvalidTag, []string{"Key", "1 to 100"}},
		{"empty value", 3, []metering.Allocation{part(3, "a", "")}, metering.InvalidTag, []string{"Value", `"a"`, "1 to 256"}},
		{"key of 101 characters", 3, []metering.Allocation{part(3, strings.Repeat("k", 101), "1")}, metering.InvalidTag, []string{"101"}},
		{"value of 257 characters", 3, []metering.Allocation{part(3, "a", strings.Repeat("v", 257))}, metering.InvalidTag, []string{"257"}},
		{"value a|b", 3, []metering.Allocation{part(3, "a", "a|b")}, metering.InvalidTag, []string{"not allowed"}},

		{"an empty list", 3, []metering.Allocation{}, metering.Validation, []string{"greater than or equal to 1"}},
		{"2501 parts", 2501, manyParts(2501), metering.Validation, []string{"2500"}},
		{"no AllocatedUsageQuantity", 3, []metering.Allocation{part(3, "a", "b"), unsaid}, metering.Validation, []string{".2.member.allocatedUsageQuantity", "null"}},
		{"negative AllocatedUsageQuantity", 3, []metering.Allocation{part(4, "a", "b"), part(-1)}, metering.Validation, []string{".2.member.allocatedUsageQuantity", "0"}},
	} {
		err := admitAllocations(t, c.quantity, c.allocations)
		if c.want != ok {
			refused(t, c.name, err, c.want, c.words...)
		} else if err != nil {
			t.Errorf("%s: refused: %v", c.name, err)
		}
	}
}

// The model's pattern is taken literally, for its " -=" is a range, and the backslash from the prose
// (metering-api 1.7, pattern trap).
func TestTagPattern(t *testing.T) {
	pattern := regexp.MustCompile(`^[a-zA-Z0-9+ -=._:\\\/@]+$`)
	for b := range 256 {
		s := "x" + string([]byte{byte(b)})
		for _, a := range []metering.Allocation{part(3, s, "v"), part(3, "k", s)} {
			err := admitAllocations(t, 3, []metering.Allocation{a})
			if pattern.MatchString(s) != (err == nil) {
				t.Errorf("a tag with %q: %v, but the pattern says %v", s, err, pattern.MatchString(s))
			}
			if err != nil && err.Kind != metering.InvalidTag {
				t.Errorf("a tag with %q: %v, want InvalidTag", s, err.Kind)
			}
		}
	}
	if err := admitAllocations(t, 3, []metering.Allocation{part(3, "k", "é")}); err == nil {
		t.Error("a tag with é is taken")
	}
}

func drawAllocations(t *rapid.T) []metering.Allocation {
	text := rapid.StringN(0, 12, -1)
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) metering.Allocation {
		a := metering.Allocation{Quantity: rapid.Int32Min(0).Draw(t, "quantity"), HasQuantity: true}
		for range rapid.IntRange(0, metering.MaxTags).Draw(t, "tags") {
			a.Tags = append(a.Tags, metering.Tag{Key: text.Draw(t, "key"), Value: text.Draw(t, "value")})
		}
		return a
	}), 0, 20).Draw(t, "allocations")
}

func TestStoredAllocations(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := drawAllocations(t)
		b := metering.AppendAllocations([]byte("kept"), want)
		if string(b[:4]) != "kept" {
			t.Errorf("what was there is gone: %q", b)
		}
		got, err := metering.ParseAllocations(b[4:])
		if diff := cmp.Diff(want, got); err != nil || len(want) > 0 && diff != "" || len(got) != len(want) {
			t.Errorf("stored and read back: error %v, %s", err, diff)
		}
		if len(want) == 0 {
			return
		}
		cut := rapid.IntRange(5, len(b)-1).Draw(t, "cut")
		if got, err := metering.ParseAllocations(b[4:cut]); err == nil {
			t.Errorf("%d of %d bytes are read as %v", cut-4, len(b)-4, got)
		}
		if got, err := metering.ParseAllocations(append(b[4:], 0)); err == nil {
			t.Errorf("with a byte too many they are read as %v", got)
		}
	})
}

func FuzzParseAllocations(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{0})
	f.Add([]byte{1, 3, 0})
	f.Add(metering.AppendAllocations(nil, []metering.Allocation{part(2, "team", "a", "stage", "prod"), part(1)}))
	f.Add([]byte{1, 3, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		all, err := metering.ParseAllocations(b)
		if err != nil {
			if all != nil {
				t.Errorf("an error and %v", all)
			}
			return
		}
		again, err := metering.ParseAllocations(metering.AppendAllocations(nil, all))
		if err != nil || len(again) != len(all) || len(all) > 0 && !cmp.Equal(again, all) {
			t.Errorf("%v, stored and read back, are %v, error %v", all, again, err)
		}
	})
}

// A re-use of a ClientToken must be the very same request: each parameter counts, the token and DryRun do not.
func TestMeterParameters(t *testing.T) {
	base := meterOf(t)
	base.Allocations = []metering.Allocation{part(3, "a", "1"), part(1)}
	seen := map[[16]byte]string{base.Parameters(): "the first call"}
	for name, change := range map[string]func(in *metering.Meter){
		"product":       func(in *metering.Meter) { in.ProductCode += "x" },
		"timestamp":     func(in *metering.Meter) { in.Timestamp++ },
		"dimension":     func(in *metering.Meter) { in.Dimension = "vcpu_hours" },
		"quantity":      func(in *metering.Meter) { in.Quantity++ },
		"no allocation": func(in *metering.Meter) { in.Allocations = nil },
		"tag":           func(in *metering.Meter) { in.Allocations = []metering.Allocation{part(3, "a", "2"), part(1)} },
		"framing":       func(in *metering.Meter) { in.Allocations = []metering.Allocation{part(3, "a1", ""), part(1)} },
	} {
		in := *base
		change(&in)
		if before, ok := seen[in.Parameters()]; ok {
			t.Errorf("a call with another %s looks like %s", name, before)
		}
		seen[in.Parameters()] = name
	}
	in := *base
	in.ClientToken, in.DryRun = "other", true
	if in.Parameters() != base.Parameters() {
		t.Error("ClientToken and DryRun count among the parameters")
	}
	if base.TokenKey(task) == base.TokenKey(instance) || base.TokenKey(task) == in.TokenKey(task) || base.TokenKey(task) != meterOf(t).TokenKey(task) {
		t.Error("a ClientToken is known by workload and token")
	}
}
