package metering

import (
	"encoding/binary"
	"errors"
	"math"
	"sort"
	"strings"
	"unicode/utf8"
)

// Limits of the API model (metering-api 1.7).
const (
	MaxUsageRecords     = 25
	MaxUsageAllocations = 2500
	MaxTags             = 5
	MaxBodyBytes        = 1<<20 - 1 // a request must be less than 1 MB (metering-api 2.4)
)

// Tag is one vendor-metered tag.
type Tag struct{ Key, Value string }

// Allocation is a part of a record's quantity, for one set of tags.
type Allocation struct {
	Quantity    int32
	HasQuantity bool  // AllocatedUsageQuantity was sent; it is required
	Tags        []Tag // nil for the untagged bucket; empty but not nil is refused
}

// UsageRecord is a record of a BatchMeterUsage call as it was sent. Members that were absent or empty are "".
type UsageRecord struct {
	Timestamp            Instant
	HasTimestamp         bool // Timestamp was sent; it is required
	Dimension            string
	CustomerIdentifier   string
	CustomerAWSAccountID string
	LicenseARN           string
	Quantity             int32 // 0 when absent
	Allocations          []Allocation
}

// Batch is the input of BatchMeterUsage.
type Batch struct {
	ProductCode string
	Records     []UsageRecord // nil when absent
	Count       int           // how many records were sent; Records may hold fewer of a list that is too long
}

// Meter is the input of MeterUsage.
type Meter struct {
	ProductCode    string
	HasProductCode bool // ProductCode was sent, if only empty; it is required
	Timestamp      Instant
	HasTimestamp   bool
	Dimension      string
	Quantity       int32
	DryRun         bool
	Allocations    []Allocation
	ClientToken    string
	HasClientToken bool
}

// Form is the way in which a call named whom usage is counted for. It is kept with the record, so that a call can be
// shown as it was sent.
type Form uint8

// The forms. Their numbers are stored and never change.
const (
	ByCustomerIdentifier   Form = 1 + iota // ProductCode and CustomerIdentifier
	ByCustomerAWSAccountID                 // ProductCode and CustomerAWSAccountId
	ByLicense                              // LicenseArn and CustomerAWSAccountId
	ByWorkload                             // MeterUsage: the caller's own workload
)

// Key is what usage is de-duplicated on, besides the hour (metering-api 2.2, 2.6). It has exactly one of three
// subjects: the licence (Agreement is set), a workload's use of a product (Workload is set), or else the buyer's use
// of a product, whichever identifier named the buyer.
type Key struct {
	Product, Buyer uint32
	Agreement      uint32 // on the Concurrent-Agreements path
	Workload       uint32 // for MeterUsage
	Dimension      uint16
	Region         Region
}

// Line is a usage record, admitted and resolved against the catalogue.
type Line struct {
	Key         Key
	Hour        Hour
	Timestamp   Instant // as it was sent
	Quantity    int32
	Form        Form
	Subscribed  bool         // false: the record's result is CustomerNotSubscribed and nothing is stored
	ID          RecordID     // of the record that this key has or would get
	Allocations []Allocation // as sent

	account uint64 // of the buyer, if it has been looked up already
}

// constraint words a breach of the API model in the way of AWS's services, followed by how to mend it.
func constraint(member, rule, mend string) *Error {
	return Errorf(Validation, "1 validation error detected: Value at '%s' failed to satisfy constraint: %s. %s", member, rule, mend)
}

func validCode(code string) bool {
	for i := range len(code) {
		c := code[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-/=:_.@", c) >= 0) {
			return false
		}
	}
	return true
}

func checkProductCode(code string) *Error {
	if len(code) > 255 {
		return constraint("productCode", "Member must have length less than or equal to 255", "Send the product code of the listing.")
	}
	if !validCode(code) {
		return constraint("productCode", "Member must satisfy regular expression pattern: [-a-zA-Z0-9/=:_.@]*", "Send the product code of the listing.")
	}
	return nil
}

func digits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

// longer reports whether s has more than n characters.
func longer(s string, n int) bool { return len(s) > n && utf8.RuneCountInString(s) > n }

// path names a member of the i-th record for messages; i < 0 means the member is the call's own.
func path(i int, member string) string {
	if i < 0 {
		return strings.ToLower(member[:1]) + member[1:]
	}
	return "usageRecords." + itoa(i+1) + ".member." + strings.ToLower(member[:1]) + member[1:]
}

func itoa(n int) string {
	if n >= 10 {
		return itoa(n/10) + string(rune('0'+n%10))
	}
	return string(rune('0' + n))
}

// validate checks the constraints of the API model whose breach is a ValidationException.
func (in *Batch) validate() *Error {
	if in.Records == nil {
		return constraint("usageRecords", "Member must not be null", "Send UsageRecords, a list of up to 25 records.")
	}
	if in.Count > MaxUsageRecords || len(in.Records) > MaxUsageRecords {
		return constraint("usageRecords", "Member must have length less than or equal to 25", "Split the records over several calls; "+itoa(max(in.Count, len(in.Records)))+" were sent.")
	}
	if err := checkProductCode(in.ProductCode); err != nil {
		return err
	}
	for i := range in.Records {
		r := &in.Records[i]
		switch {
		case !r.HasTimestamp:
			return constraint(path(i, "Timestamp"), "Member must not be null", "Send the time of the usage as seconds since 1970-01-01T00:00:00Z.")
		case longer(r.CustomerIdentifier, 255):
			return constraint(path(i, "CustomerIdentifier"), "Member must have length less than or equal to 255", "Send the CustomerIdentifier that ResolveCustomer returned.")
		case len(r.CustomerAWSAccountID) > 255:
			return constraint(path(i, "CustomerAWSAccountId"), "Member must have length less than or equal to 255", "Send the 12 digits of the buyer's account.")
		case r.CustomerAWSAccountID != "" && !digits(r.CustomerAWSAccountID):
			return constraint(path(i, "CustomerAWSAccountId"), "Member must satisfy regular expression pattern: [0-9]+", "Send the 12 digits of the buyer's account, without dashes.")
		}
		if err := checkAmount(i, r.Dimension, "Dimension", r.Quantity, "Quantity", r.Allocations); err != nil {
			return err
		}
	}
	return nil
}

// checkAmount checks the constraints that records of BatchMeterUsage and MeterUsage share.
func checkAmount(i int, dimension, dimensionMember string, quantity int32, quantityMember string, allocations []Allocation) *Error {
	switch {
	case dimension == "":
		return constraint(path(i, dimensionMember), "Member must have length greater than or equal to 1", "Send the API name of one of the product's dimensions.")
	case longer(dimension, 255):
		return constraint(path(i, dimensionMember), "Member must have length less than or equal to 255", "Send the API name of one of the product's dimensions.")
	case quantity < 0:
		return constraint(path(i, quantityMember), "Member must have value greater than or equal to 0", "Usage cannot be taken back by a negative quantity.")
	case allocations != nil && len(allocations) == 0:
		return constraint(path(i, "UsageAllocations"), "Member must have length greater than or equal to 1", "Leave UsageAllocations out when the usage is not split.")
	case len(allocations) > MaxUsageAllocations:
		return constraint(path(i, "UsageAllocations"), "Member must have length less than or equal to 2500", "Combine allocations that have the same tags.")
	}
	for j := range allocations {
		switch a := &allocations[j]; {
		case !a.HasQuantity:
			return constraint(path(i, "UsageAllocations")+"."+itoa(j+1)+".member.allocatedUsageQuantity", "Member must not be null", "Send the part of the quantity that these tags get.")
		case a.Quantity < 0:
			return constraint(path(i, "UsageAllocations")+"."+itoa(j+1)+".member.allocatedUsageQuantity", "Member must have value greater than or equal to 0", "Allocate a part of the quantity.")
		}
	}
	return nil
}

// validTag reports whether s consists of characters that the model's pattern or its prose admits. The " -=" in the
// pattern is a range, so the pattern admits more than the prose lists; the prose also lists the backslash, which the
// pattern's "\/" seems to mean (metering-api 1.7, pattern trap).
func validTag(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= ' ' && c <= '=' || c == '_' || c == '@' || c == '\\') {
			return false
		}
	}
	return true
}

// checkAllocations checks tags and sums (metering-api 2.5): at most five tags an allocation and five tag keys in
// all, no tag set twice, at most one allocation without tags, and parts that add up to the quantity.
func checkAllocations(allocations []Allocation, quantity int32) *Error {
	if len(allocations) == 0 {
		return nil
	}
	return checkSplit(allocations, quantity)
}

// checkSplit is checkAllocations of a record that has some. Apart from it, the check of one that has none is inlined.
func checkSplit(allocations []Allocation, quantity int32) *Error {
	var sum int64
	var keys []string
	seen := make(map[string]int, len(allocations))
	var set []byte
	var sorted []Tag
	for i := range allocations {
		a := &allocations[i]
		sum += int64(a.Quantity)
		where := "UsageAllocations[" + itoa(i) + "]"
		if a.Tags != nil && len(a.Tags) == 0 {
			return Errorf(InvalidTag, "%s.Tags is empty: send 1 to 5 tags, or leave Tags out for usage without tags.", where)
		}
		if len(a.Tags) > MaxTags {
			return Errorf(InvalidTag, "%s has %d tags; an allocation can have at most 5.", where, len(a.Tags))
		}
		sorted = append(sorted[:0], a.Tags...)
		sort.Slice(sorted, func(i, j int) bool { return sorted[i].Key < sorted[j].Key })
		set = set[:0]
		for j, t := range sorted {
			switch {
			case len(t.Key) < 1 || len(t.Key) > 100:
				return Errorf(InvalidTag, "%s has a tag whose Key is %d characters long; a Key has 1 to 100.", where, len(t.Key))
			case len(t.Value) < 1 || len(t.Value) > 256:
				return Errorf(InvalidTag, "%s: the Value of tag %q is %d characters long; a Value has 1 to 256.", where, t.Key, len(t.Value))
			case !validTag(t.Key):
				return Errorf(InvalidTag, `%s: tag Key %q has a character that is not allowed; use letters, digits, spaces and + - = . _ : \ / @.`, where, t.Key)
			case !validTag(t.Value):
				return Errorf(InvalidTag, `%s: the Value of tag %q has a character that is not allowed; use letters, digits, spaces and + - = . _ : \ / @.`, where, t.Key)
			case j > 0 && sorted[j-1].Key == t.Key:
				return Errorf(InvalidTag, "%s has the tag Key %q twice; each Key may stand once in an allocation.", where, t.Key)
			}
			if !contains(keys, t.Key) {
				if keys = append(keys, t.Key); len(keys) > MaxTags {
					return Errorf(InvalidTag, "UsageAllocations use more than 5 different tag Keys (the sixth is %q); at most 5 are allowed in a record.", t.Key)
				}
			}
			set = appendString(appendString(set, t.Key), t.Value)
		}
		if first, ok := seen[string(set)]; ok {
			if len(a.Tags) == 0 {
				return Errorf(InvalidUsageAllocations, "UsageAllocations[%d] and %s both have no tags; combine them into one.", first, where)
			}
			return Errorf(InvalidUsageAllocations, "UsageAllocations[%d] and %s have the same tags; combine them into one.", first, where)
		}
		seen[string(set)] = i
	}
	if sum != int64(quantity) {
		return Errorf(InvalidUsageAllocations, "UsageAllocations add up to %d, but the quantity is %d; the parts must add up to the quantity.", sum, quantity)
	}
	return nil
}

func contains(list []string, s string) bool {
	for _, l := range list {
		if l == s {
			return true
		}
	}
	return false
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// AppendAllocations appends the stored form of allocations to b: a count, then for each its quantity, its number
// of tags and their keys and values, all framed by unsigned varints. No allocations are no bytes.
func AppendAllocations(b []byte, allocations []Allocation) []byte {
	if len(allocations) == 0 {
		return b
	}
	b = binary.AppendUvarint(b, uint64(len(allocations)))
	for i := range allocations {
		a := &allocations[i]
		b = binary.AppendUvarint(b, uint64(a.Quantity))
		b = binary.AppendUvarint(b, uint64(len(a.Tags)))
		for _, t := range a.Tags {
			b = appendString(appendString(b, t.Key), t.Value)
		}
	}
	return b
}

var errAllocations = errors.New("stored usage allocations are damaged")

// ParseAllocations is the inverse of [AppendAllocations].
func ParseAllocations(b []byte) ([]Allocation, error) {
	if len(b) == 0 {
		return nil, nil
	}
	fail := false
	number := func() uint64 {
		n, w := binary.Uvarint(b)
		if w <= 0 {
			fail, b = true, nil
			return 0
		}
		b = b[w:]
		return n
	}
	text := func() string {
		n := number()
		if n > uint64(len(b)) {
			fail, b = true, nil
			return ""
		}
		s := string(b[:n])
		b = b[n:]
		return s
	}
	n := number()
	if fail || n > MaxUsageAllocations {
		return nil, errAllocations
	}
	all := make([]Allocation, n)
	for i := range all {
		quantity := number()
		if quantity > math.MaxInt32 {
			return nil, errAllocations
		}
		all[i] = Allocation{Quantity: int32(quantity), HasQuantity: true}
		if tags := number(); tags > MaxTags {
			return nil, errAllocations
		} else if tags > 0 {
			all[i].Tags = make([]Tag, tags)
			for j := range all[i].Tags {
				all[i].Tags[j] = Tag{Key: text(), Value: text()}
			}
		}
	}
	if fail || len(b) != 0 {
		return nil, errAllocations
	}
	return all, nil
}

// Outcome is what became of one usage record.
type Outcome uint8

// The outcomes. Their numbers are stored in audit rows and never change.
const (
	Stored        Outcome = 1 + iota // accepted now: Success
	Replayed                         // accepted before, with this quantity: Success with the same id
	Duplicate                        // accepted before, with another quantity: DuplicateRecord
	NotSubscribed                    // CustomerNotSubscribed
	Unprocessed                      // not taken for a passing reason: send it again
)
