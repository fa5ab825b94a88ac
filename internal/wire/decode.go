package wire

import "strconv"

const (
	// One more than a request may hold, so that the limit is seen to be exceeded
	// while a hostile list costs no memory (metering-api 1.7: 25, 2500, 5).
	maxRecords     = 26
	maxAllocations = 2501
	maxTags        = 64

	// maxRequestTags bounds all tags of a request. The shortest valid one takes 23
	// bytes, so fewer than 46,000 fit into the megabyte that AWS allows.
	maxRequestTags = 1 << 16

	// Lists that grew beyond keepList elements are not kept for the next request.
	keepList = 1 << 13
)

// The members of each shape: what is not in its table is unknown to the service.
var (
	batchMeterUsageMembers = []string{"ProductCode", "UsageRecords"}
	meterUsageMembers      = []string{"ProductCode", "UsageDimension", "Timestamp", "UsageQuantity", "DryRun", "UsageAllocations", "ClientToken"}
	registerUsageMembers   = []string{"ProductCode", "PublicKeyVersion", "Nonce"}
	resolveCustomerMembers = []string{"RegistrationToken"}
	usageRecordMembers     = []string{"Timestamp", "Dimension", "CustomerIdentifier", "CustomerAWSAccountId", "LicenseArn", "Quantity", "UsageAllocations"}
	usageAllocationMembers = []string{"AllocatedUsageQuantity", "Tags"}
	tagMembers             = []string{"Key", "Value"}
)

// Decode reads the body of a BatchMeterUsage request into in, in place of what
// in held. Slices of in are reused: they are valid until the next Decode. Strings
// share one copy of body: clone those that outlive the request. After an error,
// which is a *SyntaxError, in is empty.
func (in *BatchMeterUsageInput) Decode(body []byte) error {
	in.reset()
	d := decoder{s: string(body), lists: &in.lists}
	if d.open('{') {
		for m := d.members(batchMeterUsageMembers); m.next(&d); {
			switch m.name {
			case "ProductCode":
				in.ProductCode, _ = d.string()
			case "UsageRecords":
				d.usageRecords(in)
			}
		}
	}
	if err := d.end(); err != nil {
		in.reset()
		return err
	}
	return nil
}

func (in *BatchMeterUsageInput) reset() {
	clear(in.records) // a pooled input must not keep the last body alive
	in.lists.reset()
	*in = BatchMeterUsageInput{records: in.records[:0], lists: in.lists}
}

// Decode reads the body of a MeterUsage request into in, under the terms of
// [BatchMeterUsageInput.Decode].
func (in *MeterUsageInput) Decode(body []byte) error {
	in.lists.reset()
	*in = MeterUsageInput{lists: in.lists}
	d := decoder{s: string(body), lists: &in.lists}
	if d.open('{') {
		for m := d.members(meterUsageMembers); m.next(&d); {
			switch m.name {
			case "ProductCode":
				in.ProductCode, in.HasProductCode = d.string()
			case "UsageDimension":
				in.UsageDimension, _ = d.string()
			case "Timestamp":
				in.Timestamp, in.HasTimestamp = d.timestamp()
			case "UsageQuantity":
				in.UsageQuantity, _ = d.int32()
			case "DryRun":
				in.DryRun = d.bool()
			case "UsageAllocations":
				in.UsageAllocations = d.usageAllocations()
			case "ClientToken":
				in.ClientToken, in.HasClientToken = d.string()
			}
		}
	}
	if err := d.end(); err != nil {
		in.lists.reset()
		*in = MeterUsageInput{lists: in.lists}
		return err
	}
	return nil
}

// Decode reads the body of a RegisterUsage request into in, in place of what in
// held. After an error, which is a *SyntaxError, in is empty.
func (in *RegisterUsageInput) Decode(body []byte) error {
	*in = RegisterUsageInput{}
	d := decoder{s: string(body)}
	if d.open('{') {
		for m := d.members(registerUsageMembers); m.next(&d); {
			switch m.name {
			case "ProductCode":
				in.ProductCode, in.HasProductCode = d.string()
			case "PublicKeyVersion":
				in.PublicKeyVersion, in.HasPublicKeyVersion = d.int32()
			case "Nonce":
				in.Nonce, in.HasNonce = d.string()
			}
		}
	}
	if err := d.end(); err != nil {
		*in = RegisterUsageInput{}
		return err
	}
	return nil
}

// Decode reads the body of a ResolveCustomer request into in, in place of what
// in held. After an error, which is a *SyntaxError, in is empty.
func (in *ResolveCustomerInput) Decode(body []byte) error {
	*in = ResolveCustomerInput{}
	d := decoder{s: string(body)}
	if d.open('{') {
		for m := d.members(resolveCustomerMembers); m.next(&d); {
			switch m.name {
			case "RegistrationToken":
				in.RegistrationToken, _ = d.string()
			}
		}
	}
	if err := d.end(); err != nil {
		*in = ResolveCustomerInput{}
		return err
	}
	return nil
}

func (d *decoder) usageRecords(in *BatchMeterUsageInput) {
	if d.null() || !d.open('[') {
		return
	}
	if in.records == nil {
		in.records = make([]UsageRecord, 0, maxRecords)
	}
	var surplus UsageRecord
	for l := (elements{}); l.next(d); {
		if in.Count++; in.Count <= maxRecords {
			in.records = in.records[:in.Count]
			d.usageRecord(&in.records[in.Count-1])
			continue
		}
		// Checked like the others, but not kept.
		allocations, tags := len(d.lists.allocations), len(d.lists.tags)
		surplus = UsageRecord{}
		d.usageRecord(&surplus)
		d.lists.truncate(allocations, tags)
	}
	in.UsageRecords = in.records
}

func (d *decoder) usageRecord(r *UsageRecord) {
	if !d.open('{') {
		return
	}
	for m := d.members(usageRecordMembers); m.next(d); {
		switch m.name {
		case "Timestamp":
			r.Timestamp, r.HasTimestamp = d.timestamp()
		case "Dimension":
			r.Dimension, _ = d.string()
		case "CustomerIdentifier":
			r.CustomerIdentifier, _ = d.string()
		case "CustomerAWSAccountId":
			r.CustomerAWSAccountID, _ = d.string()
		case "LicenseArn":
			r.LicenseARN, _ = d.string()
		case "Quantity":
			r.Quantity, _ = d.int32()
		case "UsageAllocations":
			r.UsageAllocations = d.usageAllocations()
		}
	}
}

func (d *decoder) usageAllocations() []UsageAllocation {
	if d.null() || !d.open('[') {
		return nil
	}
	start := len(d.lists.allocations)
	for l := (elements{}); l.next(d); {
		tags := len(d.lists.tags)
		a := d.usageAllocation()
		if l.n <= maxAllocations {
			d.lists.allocations = append(d.lists.allocations, a)
		} else {
			d.lists.truncate(len(d.lists.allocations), tags)
		}
	}
	if end := len(d.lists.allocations); end > start {
		return d.lists.allocations[start:end:end]
	}
	return []UsageAllocation{}
}

func (d *decoder) usageAllocation() (a UsageAllocation) {
	if !d.open('{') {
		return a
	}
	for m := d.members(usageAllocationMembers); m.next(d); {
		switch m.name {
		case "AllocatedUsageQuantity":
			a.AllocatedUsageQuantity, a.HasQuantity = d.int32()
		case "Tags":
			a.Tags = d.tags()
		}
	}
	return a
}

func (d *decoder) tags() []Tag {
	if d.null() || !d.open('[') {
		return nil
	}
	start := len(d.lists.tags)
	for l := (elements{}); l.next(d); {
		t := d.tag()
		if l.n > maxTags {
			continue
		}
		if len(d.lists.tags) == maxRequestTags {
			d.fail("more than " + strconv.Itoa(maxRequestTags) + " tags in one request: send fewer records in each")
			continue
		}
		d.lists.tags = append(d.lists.tags, t)
	}
	if end := len(d.lists.tags); end > start {
		return d.lists.tags[start:end:end]
	}
	return []Tag{}
}

func (d *decoder) tag() (t Tag) {
	if !d.open('{') {
		return t
	}
	for m := d.members(tagMembers); m.next(d); {
		switch m.name {
		case "Key":
			t.Key, _ = d.string()
		case "Value":
			t.Value, _ = d.string()
		}
	}
	return t
}

// lists backs the nested lists of a request, one array for all lists of a kind.
// Growing moves the array, but what was handed out keeps the old one, which is
// complete and no longer written to.
type lists struct {
	allocations []UsageAllocation
	tags        []Tag
}

// truncate forgets the elements from these numbers on, and the strings they hold.
func (l *lists) truncate(allocations, tags int) {
	clear(l.allocations[allocations:])
	clear(l.tags[tags:])
	l.allocations, l.tags = l.allocations[:allocations], l.tags[:tags]
}

func (l *lists) reset() {
	l.truncate(0, 0)
	if cap(l.allocations) > keepList {
		l.allocations = nil
	}
	if cap(l.tags) > keepList {
		l.tags = nil
	}
}
