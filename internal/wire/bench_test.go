package wire_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/meterd/meterd/internal/wire"
)

// ordinaryBatch is what an SDK sends for n records of a concurrent product.
func ordinaryBatch(n int) []byte {
	var b strings.Builder
	b.WriteString(`{"UsageRecords":[`)
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"CustomerAWSAccountId":"111122223%03d","Dimension":"requests","LicenseArn":"arn:aws:license-manager::123456789012:license:l-0123456789abcdef%03d","Quantity":%d,"Timestamp":1795446245.123}`, i, i, 1000+i)
	}
	b.WriteString(`]}`)
	return []byte(b.String())
}

// legacyBatch is what an SDK sends for n records of a legacy product, about 3 KB for 25.
func legacyBatch(n int) []byte {
	var b strings.Builder
	b.WriteString(`{"ProductCode":"cqcvf9f0ugw8rkbgmf1c9dxyz","UsageRecords":[`)
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"CustomerIdentifier":"ifAPi5AcF%03d","Dimension":"users","Quantity":%d,"Timestamp":1795446245.123}`, i, i)
	}
	b.WriteString(`]}`)
	return []byte(b.String())
}

// taggedBatch is an ordinary batch with allocations and tags on each record.
func taggedBatch(n int) []byte {
	const allocations = `"UsageAllocations":[{"AllocatedUsageQuantity":3,"Tags":[{"Key":"BusinessUnit","Value":"Operations"},{"Key":"AccountId","Value":"123456789"}]},{"AllocatedUsageQuantity":4}],"Quantity"`
	return []byte(strings.ReplaceAll(string(ordinaryBatch(n)), `"Quantity"`, allocations))
}

func BenchmarkDecode(b *testing.B) {
	for name, body := range map[string][]byte{"legacy": legacyBatch(25), "concurrent": ordinaryBatch(25), "tagged": taggedBatch(25)} {
		b.Run(name, func(b *testing.B) {
			var in wire.BatchMeterUsageInput
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				if err := in.Decode(body); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkEncode(b *testing.B) {
	for name, body := range map[string][]byte{"legacy": legacyBatch(25), "concurrent": ordinaryBatch(25), "tagged": taggedBatch(25)} {
		b.Run(name, func(b *testing.B) {
			out := resultsOf(b, body)
			dst := out.Append(nil)
			b.SetBytes(int64(len(dst)))
			b.ReportAllocs()
			for b.Loop() {
				dst = out.Append(dst[:0])
			}
		})
	}
}

// resultsOf is the answer to body when every record succeeds.
func resultsOf(t testing.TB, body []byte) *wire.BatchMeterUsageOutput {
	t.Helper()
	var in wire.BatchMeterUsageInput
	if err := in.Decode(body); err != nil {
		t.Fatal(err)
	}
	var out wire.BatchMeterUsageOutput
	for i, r := range in.UsageRecords {
		id := wire.UUID{0x35, 0x15, 0x5d, 0x37, 0x56, 0xcb, 0x42, 0x3f, 0x85, 0x54, 0x5c, 0x4f, 0x3e, 0x3f, 0xf5, byte(i)}
		out.Results = append(out.Results, wire.UsageRecordResult{UsageRecord: r, MeteringRecordID: id, HasMeteringRecordID: true, Status: "Success"})
	}
	return &out
}
