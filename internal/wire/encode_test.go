package wire_test

import (
	"math"
	"testing"

	"github.com/meterd/meterd/internal/wire"
)

var someID = wire.UUID{0x35, 0x15, 0x5d, 0x37, 0x56, 0xcb, 0x42, 0x3f, 0x85, 0x54, 0x5c, 0x4f, 0x3e, 0x3f, 0xf5, 0x6d}

func TestAppendBatchMeterUsage(t *testing.T) {
	for _, tc := range []struct {
		name string
		out  wire.BatchMeterUsageOutput
		want string
	}{
		{"empty", wire.BatchMeterUsageOutput{}, `{"Results":[],"UnprocessedRecords":[]}`},
		{"legacy and not subscribed",
			wire.BatchMeterUsageOutput{Results: []wire.UsageRecordResult{
				{UsageRecord: wire.UsageRecord{Timestamp: 1795446245123, HasTimestamp: true, Dimension: "users", CustomerIdentifier: "ifAPi5AcF3", Quantity: 3},
					MeteringRecordID: someID, HasMeteringRecordID: true, Status: "Success"},
				{UsageRecord: wire.UsageRecord{Timestamp: 1795446245000, HasTimestamp: true, Dimension: "gb", CustomerAWSAccountID: "111122223333"},
					MeteringRecordID: someID, Status: "CustomerNotSubscribed"},
			}},
			`{"Results":[{"UsageRecord":{"Quantity":3,"Timestamp":1795446245.123,"Dimension":"users","CustomerIdentifier":"ifAPi5AcF3"},"MeteringRecordId":"35155d37-56cb-423f-8554-5c4f3e3ff56d","Status":"Success"},{"UsageRecord":{"Quantity":0,"Timestamp":1795446245,"Dimension":"gb","CustomerAWSAccountId":"111122223333"},"Status":"CustomerNotSubscribed"}],"UnprocessedRecords":[]}`},
		{"unprocessed, with allocations",
			wire.BatchMeterUsageOutput{UnprocessedRecords: []wire.UsageRecord{
				{Timestamp: 1795446245120, HasTimestamp: true, Dimension: "req", CustomerAWSAccountID: "111122223333", LicenseARN: "arn:aws:license-manager::123456789012:license:l-0", Quantity: 7,
					UsageAllocations: []wire.UsageAllocation{
						{AllocatedUsageQuantity: 3, HasQuantity: true, Tags: []wire.Tag{{Key: "k", Value: "v"}, {Key: "l", Value: "w"}}},
						{AllocatedUsageQuantity: 4, HasQuantity: true},
					}},
				{},
			}},
			`{"Results":[],"UnprocessedRecords":[{"Quantity":7,"Timestamp":1795446245.12,"Dimension":"req","CustomerAWSAccountId":"111122223333","LicenseArn":"arn:aws:license-manager::123456789012:license:l-0","UsageAllocations":[{"AllocatedUsageQuantity":3,"Tags":[{"Key":"k","Value":"v"},{"Key":"l","Value":"w"}]},{"AllocatedUsageQuantity":4}]},{"Quantity":0}]}`},
		{"sent empty",
			wire.BatchMeterUsageOutput{UnprocessedRecords: []wire.UsageRecord{{UsageAllocations: []wire.UsageAllocation{}}, {UsageAllocations: []wire.UsageAllocation{{}, {Tags: []wire.Tag{}}}}}},
			`{"Results":[],"UnprocessedRecords":[{"Quantity":0,"UsageAllocations":[]},{"Quantity":0,"UsageAllocations":[{},{"Tags":[]}]}]}`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := string(tc.out.Append([]byte("before "))); got != "before "+tc.want {
				t.Errorf("\n got %s\nwant %s", got, "before "+tc.want)
			}
		})
	}
}

func TestAppendOthers(t *testing.T) {
	meter := wire.MeterUsageOutput{MeteringRecordID: someID}
	for _, tc := range []struct {
		append func([]byte) []byte
		want   string
	}{
		{meter.Append, `{"MeteringRecordId":"35155d37-56cb-423f-8554-5c4f3e3ff56d"}`},
		{(&wire.MeterUsageOutput{MeteringRecordID: someID, DryRun: true}).Append, `{"MeteringRecordId":"DryRunOperation"}`},
		{(&wire.RegisterUsageOutput{Signature: "a.b.c"}).Append, `{"Signature":"a.b.c"}`},
		{(&wire.RegisterUsageOutput{Signature: "a.b.c", PublicKeyRotationTimestamp: 1795446245000}).Append, `{"Signature":"a.b.c","PublicKeyRotationTimestamp":1795446245}`},
		{(&wire.ResolveCustomerOutput{}).Append, `{}`},
		{(&wire.ResolveCustomerOutput{LicenseARN: "l"}).Append, `{"LicenseArn":"l"}`},
		{(&wire.ResolveCustomerOutput{CustomerIdentifier: "c", ProductCode: "p", CustomerAWSAccountID: "1", LicenseARN: "l"}).Append,
			`{"CustomerIdentifier":"c","ProductCode":"p","CustomerAWSAccountId":"1","LicenseArn":"l"}`},
		{func(b []byte) []byte { return wire.AppendException(b, "ThrottlingException", "slow \"down\"\n") },
			`{"__type":"ThrottlingException","message":"slow \"down\"\n"}`},
		{func(b []byte) []byte { return wire.AppendException(b, "X", "") }, `{"__type":"X","message":""}`},
		{func(b []byte) []byte { return wire.AppendUUID(b, someID) }, `35155d37-56cb-423f-8554-5c4f3e3ff56d`},
		{func(b []byte) []byte { return append(b, someID.String()...) }, `35155d37-56cb-423f-8554-5c4f3e3ff56d`},
	} {
		if got := string(tc.append([]byte("before "))); got != "before "+tc.want {
			t.Errorf("\n got %s\nwant %s", got, "before "+tc.want)
		}
	}
}

func TestAppendTimestamp(t *testing.T) {
	for _, tc := range []struct {
		ms   int64
		want string
	}{
		{0, "0"}, {1, "0.001"}, {10, "0.01"}, {100, "0.1"}, {999, "0.999"}, {1000, "1"}, {1010, "1.01"},
		{1795446245000, "1795446245"}, {1795446245123, "1795446245.123"}, {1795446245120, "1795446245.12"}, {1795446245003, "1795446245.003"},
		{-1, "-0.001"}, {-1000, "-1"}, {-1500, "-1.5"}, {-62135596800000, "-62135596800"}, {253402300799999, "253402300799.999"},
		{math.MinInt64, "-9223372036854775.808"},
	} {
		out := wire.BatchMeterUsageOutput{UnprocessedRecords: []wire.UsageRecord{{Timestamp: tc.ms, HasTimestamp: true}}}
		want := `{"Results":[],"UnprocessedRecords":[{"Quantity":0,"Timestamp":` + tc.want + `}]}`
		if got := string(out.Append(nil)); got != want {
			t.Errorf("%d: got %s, want %s", tc.ms, got, want)
		}
	}
}

func TestAppendStrings(t *testing.T) {
	for _, tc := range []struct{ s, want string }{
		{"", `""`},
		{`a"b\c/d`, `"a\"b\\c/d"`},
		{"\x00\b\t\n\f\r\x1f ", `"\u0000\u0008\t\n\u000c\r\u001f "`},
		{"é€😀\u2028<&>\x7f", "\"é€😀\u2028<&>\x7f\""},
		{"12345678\"", `"12345678\""`},
		{"a\xffb\xe2\x82", "\"a\ufffdb\ufffd\ufffd\""},
		{"\ufffd", "\"\ufffd\""},
	} {
		want := `{"__type":` + tc.want + `,"message":""}`
		if got := string(wire.AppendException(nil, tc.s, "")); got != want {
			t.Errorf("%q: got %s, want %s", tc.s, got, want)
		}
	}
}

func TestAppendAllocations(t *testing.T) {
	out := resultsOf(t, taggedBatch(25))
	dst := out.Append(nil)
	if got := testing.AllocsPerRun(20, func() { dst = out.Append(dst[:0]) }); got != 0 {
		t.Errorf("%v allocations, want 0", got)
	}
}
