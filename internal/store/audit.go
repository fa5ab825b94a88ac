package store

import (
	"encoding/binary"
	"errors"
	"math"

	"github.com/meterd/meterd/internal/metering"
)

// NoRefusal stands in Call.Refusal for a call that succeeded.
const NoRefusal = -1

// Call is the audit row of an authenticated call or an act of administration.
type Call struct {
	Seq       int64            // the writer's number and the call's place among the writer's, from 1 without gaps: see [Place]
	At        metering.Instant // ledger clock
	Request   [16]byte
	Operation uint8 // a [metering.Operation]
	Principal uint32
	AccessKey uint32
	Workload  uint32
	Client    int64  // the call, this one or an earlier one, whose row has Source, Agent and Session: see [Clients]; 0 if this row has them and no other call refers to it
	Source    string // these three are read by [Reader.Client]
	Agent     string
	Session   string // see [Session]
	Region    metering.Region
	Refusal   int    // metering.Kind, or NoRefusal
	UsageRows int    // how many usage rows the call wrote
	Detail    []byte // see [ParseDetail]; nil for none
}

// AcceptClock is the beginning of the Text of an act that accepts the clock. Ledger time may go back at such an act.
const AcceptClock = "accept the clock at "

// A detail holds what cannot be rebuilt from the other columns of its audit row and from usage rows. Its first byte
// says which form it has. These numbers are stored and never change.
const (
	detailLeftOut = 1 // records that were not stored, each as AppendLeftOut writes it
	detailRefusal = 2 // a message and the start of the body
	detailText    = 3 // words: an act of administration, the token of a ResolveCustomer, a dry run
)

const (
	maxDetailBody    = 2048 // bytes of a refused call's body that are kept
	maxDetailMessage = 1024 // bytes of its message
)

// Detail is the Detail of a [Call], parsed. Members that its form does not have are empty.
type Detail struct {
	LeftOut       []LeftOut // records that the call did not store, in the order of the call
	Message, Body string    // of a refusal
	Text          string    // of an act of administration, of ResolveCustomer, or of a dry run
}

// LeftOut is a record of a call that the call did not store.
type LeftOut struct {
	Index   int              // the record's place in the call, from 0
	Outcome metering.Outcome // any but metering.Stored
	Line    metering.Line    // without region, allocations and id
	Sent    string           // the part that has no number: the name of an unknown buyer, or an AgentCore runtime's ClientToken
}

// AppendLeftOut appends a record that was not stored to a detail of such records, which must be in the order of the
// call. For the parameters see [LeftOut].
func AppendLeftOut(b []byte, index int, o metering.Outcome, line *metering.Line, sent string) []byte {
	if len(b) == 0 {
		b = append(b, detailLeftOut)
	}
	b = append(b, byte(index), byte(o), byte(line.Form))
	k := &line.Key
	for _, v := range [...]uint64{uint64(k.Product), uint64(k.Buyer), uint64(k.Agreement), uint64(k.Workload), uint64(k.Dimension), uint64(line.Timestamp), uint64(line.Quantity)} {
		b = binary.AppendUvarint(b, v)
	}
	b = binary.AppendUvarint(b, uint64(len(sent)))
	return append(b, sent...)
}

// AppendRefusal appends the detail of a refused call to b, which must be empty: the start of the refusal's message
// and of the call's body.
func AppendRefusal(b []byte, message string, body []byte) []byte {
	b = append(b, detailRefusal)
	message = message[:min(len(message), maxDetailMessage)]
	b = binary.AppendUvarint(b, uint64(len(message)))
	b = append(b, message...)
	return append(b, body[:min(len(body), maxDetailBody)]...)
}

// AppendText appends a detail of words to b, which must be empty.
func AppendText(b []byte, text string) []byte { return append(append(b, detailText), text...) }

// ErrDetail is the error of [ParseDetail].
var ErrDetail = errors.New("the detail of the audit row is damaged")

// ParseDetail reads what [AppendLeftOut], [AppendRefusal] or [AppendText] has written; nil is the empty Detail.
// Anything that they cannot have written is ErrDetail.
func ParseDetail(b []byte) (d Detail, err error) {
	if b == nil {
		return d, nil
	}
	if len(b) == 0 {
		return d, ErrDetail
	}
	form, rest := b[0], b[1:]
	switch form {
	case detailText:
		d.Text = string(rest)
		return d, nil
	case detailRefusal:
		n, size := uvarint(rest)
		if size <= 0 || n > min(maxDetailMessage, uint64(len(rest)-size)) || len(rest)-size-int(n) > maxDetailBody {
			return d, ErrDetail
		}
		rest = rest[size:]
		d.Message, d.Body = string(rest[:n]), string(rest[n:])
		return d, nil
	case detailLeftOut:
		for last := -1; len(rest) > 0; {
			var o LeftOut
			if rest, err = o.parse(rest); err != nil || o.Index <= last {
				return d, ErrDetail
			}
			last = o.Index
			d.LeftOut = append(d.LeftOut, o)
		}
		if len(d.LeftOut) > 0 {
			return d, nil
		}
	}
	return d, ErrDetail
}

// parse reads one record and returns what follows it.
func (o *LeftOut) parse(b []byte) ([]byte, error) {
	if len(b) < 3 {
		return nil, ErrDetail
	}
	o.Index, o.Outcome, o.Line.Form = int(b[0]), metering.Outcome(b[1]), metering.Form(b[2])
	b = b[3:]
	fits := o.Index < metering.MaxUsageRecords && metering.Replayed <= o.Outcome && o.Outcome <= metering.Unprocessed &&
		metering.ByCustomerIdentifier <= o.Line.Form && o.Line.Form <= metering.ByWorkload
	number := func(most uint64) uint64 {
		n, size := uvarint(b)
		if size <= 0 || n > most {
			fits, b = false, nil
			return 0
		}
		b = b[size:]
		return n
	}
	k := &o.Line.Key
	for _, p := range [...]*uint32{&k.Product, &k.Buyer, &k.Agreement, &k.Workload} {
		*p = uint32(number(math.MaxUint32))
	}
	k.Dimension = uint16(number(math.MaxUint16))
	o.Line.Timestamp = metering.Instant(number(math.MaxUint64))
	o.Line.Hour = o.Line.Timestamp.Hour()
	o.Line.Quantity = int32(number(math.MaxInt32))
	n := number(uint64(len(b)))
	if !fits || n > uint64(len(b)) {
		return nil, ErrDetail
	}
	o.Sent = string(b[:n])
	return b[n:], nil
}

// uvarint is [binary.Uvarint], but takes only the shortest form of a number.
func uvarint(b []byte) (n uint64, size int) {
	if n, size = binary.Uvarint(b); size > 1 && b[size-1] == 0 {
		return 0, 0
	}
	return n, size
}
