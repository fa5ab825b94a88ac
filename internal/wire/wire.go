// Package wire is the protocol of the AWS Marketplace Metering Service, AWS
// JSON 1.1: requests into values, values and exceptions into responses.
//
// It decides syntax and JSON types only. Lengths, patterns, ranges and meaning
// belong to package metering, so decoded values say which members were present
// and keep one element more of each list than its limit allows.
//
// The decoder is stricter than encoding/json where leniency could cost money:
// member names are case-sensitive, and duplicate members, invalid UTF-8,
// unpaired surrogates and inexact numbers are refused. Unknown members are
// checked and ignored, as AWS does (metering-api 1.2).
package wire

import "encoding/hex"

// ContentType is the Content-Type of every response.
const ContentType = "application/x-amz-json-1.1"

// UUID is a metering record id.
type UUID [16]byte

// String returns the id as it is sent: lower case, 8-4-4-4-12.
func (id UUID) String() string {
	var b [36]byte
	return string(AppendUUID(b[:0], id))
}

// AppendUUID appends id in lower case, 8-4-4-4-12.
func AppendUUID(dst []byte, id UUID) []byte {
	dst = hex.AppendEncode(dst, id[:4])
	for i := 4; i < 10; i += 2 {
		dst = append(dst, '-')
		dst = hex.AppendEncode(dst, id[i:i+2])
	}
	dst = append(dst, '-')
	return hex.AppendEncode(dst, id[10:])
}

// Tag is one tag of a usage allocation. An absent member and an empty one are
// the same here, for both are refused later.
type Tag struct{ Key, Value string }

// UsageAllocation is a part of a quantity and the tags that it is booked under.
type UsageAllocation struct {
	AllocatedUsageQuantity int32
	HasQuantity            bool  // AllocatedUsageQuantity was sent
	Tags                   []Tag // nil = absent; non-nil and empty = sent empty; at most 64 are kept
}

// UsageRecord is one record of BatchMeterUsage, as sent and as echoed.
// An empty string means absent or sent empty.
type UsageRecord struct {
	Timestamp            int64 // milliseconds since the Unix epoch, UTC
	HasTimestamp         bool
	Dimension            string
	CustomerIdentifier   string
	CustomerAWSAccountID string            // CustomerAWSAccountId on the wire
	LicenseARN           string            // LicenseArn on the wire
	Quantity             int32             // 0 when absent, the model's default
	UsageAllocations     []UsageAllocation // nil = absent; non-nil and empty = sent empty; at most 2,501 are kept
}

// BatchMeterUsageInput is the request of BatchMeterUsage.
// The zero value is ready for Decode.
type BatchMeterUsageInput struct {
	ProductCode  string
	UsageRecords []UsageRecord // nil = absent; at most 26 are kept
	Count        int           // records in the list sent, also those not kept

	records []UsageRecord // backs UsageRecords
	lists   lists
}

// MeterUsageInput is the request of MeterUsage. The zero value is ready for Decode.
type MeterUsageInput struct {
	ProductCode      string
	HasProductCode   bool
	UsageDimension   string
	Timestamp        int64 // milliseconds since the Unix epoch, UTC
	HasTimestamp     bool
	UsageQuantity    int32 // 0 when absent, the model's default
	DryRun           bool
	UsageAllocations []UsageAllocation // nil = absent; non-nil and empty = sent empty; at most 2,501 are kept
	ClientToken      string
	HasClientToken   bool

	lists lists
}

// RegisterUsageInput is the request of RegisterUsage.
type RegisterUsageInput struct {
	ProductCode         string
	HasProductCode      bool
	PublicKeyVersion    int32
	HasPublicKeyVersion bool
	Nonce               string
	HasNonce            bool
}

// ResolveCustomerInput is the request of ResolveCustomer.
type ResolveCustomerInput struct{ RegistrationToken string }

// UsageRecordResult is the outcome of one record of BatchMeterUsage.
type UsageRecordResult struct {
	UsageRecord         UsageRecord
	MeteringRecordID    UUID
	HasMeteringRecordID bool
	Status              string // Success, CustomerNotSubscribed or DuplicateRecord
}

// BatchMeterUsageOutput is the response of BatchMeterUsage.
type BatchMeterUsageOutput struct {
	Results            []UsageRecordResult
	UnprocessedRecords []UsageRecord
}

// MeterUsageOutput is the response of MeterUsage.
type MeterUsageOutput struct {
	MeteringRecordID UUID
	DryRun           bool // the id is the word DryRunOperation instead (metering-api 2.6)
}

// RegisterUsageOutput is the response of RegisterUsage.
type RegisterUsageOutput struct {
	Signature                  string // a JSON Web Token
	PublicKeyRotationTimestamp int64  // milliseconds since the Unix epoch, UTC; 0 = absent
}

// ResolveCustomerOutput is the response of ResolveCustomer; empty members are left out.
type ResolveCustomerOutput struct {
	CustomerIdentifier, ProductCode, CustomerAWSAccountID, LicenseARN string
}
