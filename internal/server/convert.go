package server

import (
	"github.com/meterd/meterd/internal/metering"
	"github.com/meterd/meterd/internal/wire"
)

// This file turns shapes of the wire into values of the domain and back, so that neither of these packages knows the
// other.

func allocations(in []wire.UsageAllocation) []metering.Allocation {
	if in == nil {
		return nil
	}
	out := make([]metering.Allocation, len(in))
	for i := range in {
		out[i] = metering.Allocation{Quantity: in[i].AllocatedUsageQuantity, HasQuantity: in[i].HasQuantity}
		if in[i].Tags != nil {
			out[i].Tags = make([]metering.Tag, len(in[i].Tags))
			for j, t := range in[i].Tags {
				out[i].Tags[j] = metering.Tag(t)
			}
		}
	}
	return out
}

// batch fills b from in. b is reused from call to call.
func batch(b *metering.Batch, in *wire.BatchMeterUsageInput) {
	b.ProductCode, b.Count = in.ProductCode, in.Count
	if in.UsageRecords == nil {
		b.Records = nil
		return
	}
	if b.Records == nil {
		b.Records = make([]metering.UsageRecord, 0, metering.MaxUsageRecords+1)
	}
	b.Records = b.Records[:0]
	for i := range in.UsageRecords {
		r := &in.UsageRecords[i]
		b.Records = append(b.Records, metering.UsageRecord{
			Timestamp: metering.Instant(r.Timestamp), HasTimestamp: r.HasTimestamp, Dimension: r.Dimension,
			CustomerIdentifier: r.CustomerIdentifier, CustomerAWSAccountID: r.CustomerAWSAccountID, LicenseARN: r.LicenseARN,
			Quantity: r.Quantity, Allocations: allocations(r.UsageAllocations),
		})
	}
}

// results fills out, whose memory is used again. Every record stands in one of the two lists, in input order and
// with exactly the members that were sent: clients match results by them (metering-api 2.3, 7).
func results(out *wire.BatchMeterUsageOutput, in *wire.BatchMeterUsageInput, lines []metering.Line, outcomes []metering.Outcome, s *metering.Settings) {
	out.Results, out.UnprocessedRecords = out.Results[:0], out.UnprocessedRecords[:0]
	for i, o := range outcomes {
		if o == metering.Unprocessed {
			out.UnprocessedRecords = append(out.UnprocessedRecords, in.UsageRecords[i])
			continue
		}
		result := wire.UsageRecordResult{UsageRecord: in.UsageRecords[i], MeteringRecordID: wire.UUID(lines[i].ID)}
		switch o {
		case metering.Stored, metering.Replayed:
			result.Status, result.HasMeteringRecordID = "Success", true
		case metering.Duplicate:
			result.Status, result.HasMeteringRecordID = "DuplicateRecord", s.DuplicateRecordID
		case metering.NotSubscribed:
			result.Status = "CustomerNotSubscribed"
		}
		out.Results = append(out.Results, result)
	}
}

func meter(in *wire.MeterUsageInput) *metering.Meter {
	return &metering.Meter{
		ProductCode: in.ProductCode, HasProductCode: in.HasProductCode, Timestamp: metering.Instant(in.Timestamp), HasTimestamp: in.HasTimestamp,
		Dimension: in.UsageDimension, Quantity: in.UsageQuantity, DryRun: in.DryRun, Allocations: allocations(in.UsageAllocations),
		ClientToken: in.ClientToken, HasClientToken: in.HasClientToken,
	}
}
