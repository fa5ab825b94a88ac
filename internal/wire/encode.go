package wire

import (
	"strconv"
	"unicode/utf8"
)

// Append appends the response to dst. Both lists are there even when empty, as
// the service sends them (metering-api 1.8).
func (out *BatchMeterUsageOutput) Append(dst []byte) []byte {
	dst = append(dst, `{"Results":[`...)
	for i := range out.Results {
		if i > 0 {
			dst = append(dst, ',')
		}
		r := &out.Results[i]
		dst = append(dst, `{"UsageRecord":`...)
		dst = appendRecord(dst, &r.UsageRecord)
		if r.HasMeteringRecordID {
			dst = append(dst, `,"MeteringRecordId":"`...)
			dst = AppendUUID(dst, r.MeteringRecordID)
			dst = append(dst, '"')
		}
		dst = append(dst, `,"Status":`...)
		dst = appendString(dst, r.Status)
		dst = append(dst, '}')
	}
	dst = append(dst, `],"UnprocessedRecords":[`...)
	for i := range out.UnprocessedRecords {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendRecord(dst, &out.UnprocessedRecords[i])
	}
	return append(dst, `]}`...)
}

// appendRecord echoes a record. AWS's own pipeline matches results by the members
// that name the buyer, so exactly those that were sent come back (metering-api 7).
func appendRecord(dst []byte, r *UsageRecord) []byte {
	dst = append(dst, `{"Quantity":`...)
	dst = strconv.AppendInt(dst, int64(r.Quantity), 10)
	if r.HasTimestamp {
		dst = append(dst, `,"Timestamp":`...)
		dst = appendMillis(dst, r.Timestamp)
	}
	dst = appendMember(dst, `,"Dimension":`, r.Dimension)
	dst = appendMember(dst, `,"CustomerIdentifier":`, r.CustomerIdentifier)
	dst = appendMember(dst, `,"CustomerAWSAccountId":`, r.CustomerAWSAccountID)
	dst = appendMember(dst, `,"LicenseArn":`, r.LicenseARN)
	if r.UsageAllocations != nil {
		dst = append(dst, `,"UsageAllocations":[`...)
		for i := range r.UsageAllocations {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = appendAllocation(dst, &r.UsageAllocations[i])
		}
		dst = append(dst, ']')
	}
	return append(dst, '}')
}

func appendAllocation(dst []byte, a *UsageAllocation) []byte {
	dst = append(dst, '{')
	if a.HasQuantity {
		dst = append(dst, `"AllocatedUsageQuantity":`...)
		dst = strconv.AppendInt(dst, int64(a.AllocatedUsageQuantity), 10)
	}
	if a.Tags != nil {
		if a.HasQuantity {
			dst = append(dst, ',')
		}
		dst = append(dst, `"Tags":[`...)
		for i, t := range a.Tags {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = append(dst, `{"Key":`...)
			dst = appendString(dst, t.Key)
			dst = append(dst, `,"Value":`...)
			dst = appendString(dst, t.Value)
			dst = append(dst, '}')
		}
		dst = append(dst, ']')
	}
	return append(dst, '}')
}

// Append appends the response to dst.
func (out *MeterUsageOutput) Append(dst []byte) []byte {
	if out.DryRun {
		return append(dst, `{"MeteringRecordId":"DryRunOperation"}`...)
	}
	dst = append(dst, `{"MeteringRecordId":"`...)
	dst = AppendUUID(dst, out.MeteringRecordID)
	return append(dst, `"}`...)
}

// Append appends the response to dst.
func (out *RegisterUsageOutput) Append(dst []byte) []byte {
	dst = append(dst, `{"Signature":`...)
	dst = appendString(dst, out.Signature)
	if out.PublicKeyRotationTimestamp != 0 {
		dst = append(dst, `,"PublicKeyRotationTimestamp":`...)
		dst = appendMillis(dst, out.PublicKeyRotationTimestamp)
	}
	return append(dst, '}')
}

// Append appends the response to dst.
func (out *ResolveCustomerOutput) Append(dst []byte) []byte {
	start := len(dst)
	dst = appendMember(dst, `,"CustomerIdentifier":`, out.CustomerIdentifier)
	dst = appendMember(dst, `,"ProductCode":`, out.ProductCode)
	dst = appendMember(dst, `,"CustomerAWSAccountId":`, out.CustomerAWSAccountID)
	dst = appendMember(dst, `,"LicenseArn":`, out.LicenseARN)
	if len(dst) == start {
		return append(dst, `{}`...)
	}
	dst[start] = '{' // in place of the first comma
	return append(dst, '}')
}

// AppendException appends the body of an error response: the exception's name,
// such as ThrottlingException, and its text (metering-api 1.3).
func AppendException(dst []byte, name, message string) []byte {
	dst = append(dst, `{"__type":`...)
	dst = appendString(dst, name)
	dst = append(dst, `,"message":`...)
	dst = appendString(dst, message)
	return append(dst, '}')
}

// appendMember appends a member unless its value is empty.
func appendMember(dst []byte, member, value string) []byte {
	if value == "" {
		return dst
	}
	dst = append(dst, member...)
	return appendString(dst, value)
}

// appendString appends s in quotes. It escapes what JSON demands and nothing
// else. Invalid UTF-8, which no request can bring in but a message might quote
// from a header, becomes U+FFFD.
func appendString(dst []byte, s string) []byte {
	const hexDigits = "0123456789abcdef"
	dst = append(dst, '"')
	for {
		n := plain(s)
		dst = append(dst, s[:n]...)
		if s = s[n:]; s == "" {
			return append(dst, '"')
		}
		n = 1
		switch c := s[0]; {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c == '\n':
			dst = append(dst, '\\', 'n')
		case c == '\r':
			dst = append(dst, '\\', 'r')
		case c == '\t':
			dst = append(dst, '\\', 't')
		case c < ' ':
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		default:
			var r rune
			r, n = utf8.DecodeRuneInString(s)
			dst = utf8.AppendRune(dst, r)
		}
		s = s[n:]
	}
}
