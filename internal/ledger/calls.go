package ledger

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/google/uuid"
	"github.com/meterd/meterd/internal/adminapi"
	"github.com/meterd/meterd/internal/iam"
	"github.com/meterd/meterd/internal/metering"
	"github.com/meterd/meterd/internal/store"
)

// callDetail is the detail of an audit row, parsed. Members that its form does not have are empty.
type callDetail struct {
	outcomes      []outcomeDetail
	message, body string // of a refusal
	text          string // of an act of administration, of ResolveCustomer, or of a dry run
}

// outcomeDetail is a record that was not stored: what appendOutcome notes.
type outcomeDetail struct {
	index   int
	outcome Outcome
	line    metering.Line // without region, allocations and id
	sent    string
}

var errDetail = errors.New("the detail of the audit row is damaged")

// parseDetail is the inverse of appendOutcome, appendRefusal and of the text that administration leaves. It is
// strict: what they cannot have written is damage.
func parseDetail(b []byte) (d callDetail, err error) {
	if b == nil {
		return d, nil
	}
	if len(b) == 0 {
		return d, errDetail
	}
	form, rest := b[0], b[1:]
	switch form {
	case detailText:
		d.text = string(rest)
		return d, nil
	case detailRefusal:
		n, size := uvarint(rest)
		if size <= 0 || n > min(maxAuditMessage, uint64(len(rest)-size)) || len(rest)-size-int(n) > maxAuditBody {
			return d, errDetail
		}
		rest = rest[size:]
		d.message, d.body = string(rest[:n]), string(rest[n:])
		return d, nil
	case detailOutcomes:
		for last := -1; len(rest) > 0; {
			var o outcomeDetail
			if rest, err = o.parse(rest); err != nil || o.index <= last {
				return d, errDetail
			}
			last = o.index
			d.outcomes = append(d.outcomes, o)
		}
		if len(d.outcomes) > 0 {
			return d, nil
		}
	}
	return d, errDetail
}

// parse reads one outcome and returns what follows it.
func (o *outcomeDetail) parse(b []byte) ([]byte, error) {
	if len(b) < 3 {
		return nil, errDetail
	}
	o.index, o.outcome, o.line.Form = int(b[0]), Outcome(b[1]), metering.Form(b[2])
	b = b[3:]
	fits := o.index < metering.MaxUsageRecords && Replayed <= o.outcome && o.outcome <= Unprocessed &&
		metering.ByCustomerIdentifier <= o.line.Form && o.line.Form <= metering.ByWorkload
	number := func(most uint64) uint64 {
		n, size := uvarint(b)
		if size <= 0 || n > most {
			fits, b = false, nil
			return 0
		}
		b = b[size:]
		return n
	}
	k := &o.line.Key
	for _, p := range [...]*uint32{&k.Product, &k.Buyer, &k.Agreement, &k.Workload} {
		*p = uint32(number(math.MaxUint32))
	}
	k.Dimension = uint16(number(math.MaxUint16))
	o.line.Timestamp = metering.Instant(number(math.MaxUint64))
	o.line.Hour = o.line.Timestamp.Hour()
	o.line.Quantity = int32(number(math.MaxInt32))
	n := number(uint64(len(b)))
	if !fits || n > uint64(len(b)) {
		return nil, errDetail
	}
	o.sent = string(b[:n])
	return b[n:], nil
}

// uvarint is [binary.Uvarint] for shortest forms only.
func uvarint(b []byte) (n uint64, size int) {
	if n, size = binary.Uvarint(b); size > 1 && b[size-1] == 0 {
		return 0, 0
	}
	return n, size
}

// resultStatus says what a record's result in the answer was.
func (o Outcome) resultStatus() string {
	return [...]string{Stored: "Success", Replayed: "Success", Duplicate: "DuplicateRecord", NotSubscribed: "CustomerNotSubscribed", Unprocessed: "Unprocessed"}[o]
}

// CallRecord returns the audit of the call with the given request id, rebuilt from its audit row and the usage rows
// it wrote. Error is the name of the refusal's [metering.Kind]; the edge knows AWS's word for it. Principal is the
// user's or role's ARN (of a session, the role's), the name of the admin token, or "local". An id that is not
// known is NotFound: calls that were not authenticated, or were throttled, are not audited.
func (l *Ledger) CallRecord(op Operator, requestID string) (adminapi.Call, error) {
	if err := op.check(l); err != nil {
		return adminapi.Call{}, err
	}
	id, err := uuid.Parse(requestID)
	if err != nil || len(requestID) != 36 {
		return adminapi.Call{}, invalid("request_id: %.40q is not one; send the UUID that came in the answer's x-amzn-RequestId header", requestID)
	}
	var call *store.Call
	var rows []store.Usage
	err = l.db.View(func(r *store.Reader) error {
		rows = nil
		if call, err = r.CallOfRequest(id); call == nil || call.UsageRows == 0 || err != nil {
			return err
		}
		return r.UsageOfCall(call, func(u *store.Usage) error {
			rows = append(rows, *u)
			return nil
		})
	})
	if err == nil {
		err = l.catchUp()
	}
	if err != nil {
		return adminapi.Call{}, fmt.Errorf("call %s: %w", requestID, err)
	}
	if call == nil {
		return adminapi.Call{}, notFound("request_id: there is no call %s; calls that were not authenticated, or were throttled, are not recorded", requestID)
	}
	detail, err := parseDetail(call.Detail)
	if err == nil && len(rows) != call.UsageRows {
		err = errors.New("usage rows are missing; run meterd verify")
	}
	if err != nil {
		return adminapi.Call{}, fmt.Errorf("call %s: %w", requestID, err)
	}
	answer := adminapi.Call{
		RequestID: id.String(), At: call.At.Time(), Operation: metering.Operation(call.Operation).String(), Source: call.Source,
		Message: strings.ToValidUTF8(detail.message+detail.text, "\uFFFD"), Request: strings.ToValidUTF8(detail.body, "\uFFFD"),
	}
	if call.Refusal != store.NoRefusal {
		answer.Error = metering.Kind(call.Refusal).String()
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	if region := l.catalog.Region(call.Region); region != nil {
		answer.Region = region.Name
	}
	l.directory.describe(l.catalog, call, &answer)
	answer.Results, err = l.results(call, detail.outcomes, rows)
	if err != nil {
		return adminapi.Call{}, fmt.Errorf("call %s: %w", requestID, err)
	}
	return answer, nil
}

// describe fills in who called. Numbers are never used again, so those of deleted users and keys are still known.
func (d *directory) describe(c *metering.Catalog, call *store.Call, answer *adminapi.Call) {
	switch {
	case call.Operation == uint8(metering.Administration) && call.Principal == 0:
		answer.Principal = "local"
	case call.Operation == uint8(metering.Administration):
		if call.Principal <= uint32(len(d.admins)) {
			answer.Principal = d.admins[call.Principal-1].Name
		}
	case 0 < call.Principal && call.Principal <= uint32(len(d.principals)):
		p := &d.principals[call.Principal-1]
		answer.Principal = iam.Principal{Kind: p.Kind, AccountID: metering.Number(c.Account(p.Account).AccountID), Name: p.Name}.ARN()
	}
	if 0 < call.AccessKey && call.AccessKey <= uint32(len(d.keys)) {
		answer.AccessKeyID = d.keys[call.AccessKey-1].AccessKeyID
	}
}

// results puts the records of a call into their order: those that were not stored have their places with them, and
// those that were fill the others.
func (l *Ledger) results(call *store.Call, outcomes []outcomeDetail, rows []store.Usage) ([]adminapi.CallResult, error) {
	n := len(rows) + len(outcomes)
	results := make([]adminapi.CallResult, 0, n)
	for i := range n {
		outcome := Stored
		u := store.Usage{}
		sent := ""
		switch {
		case len(outcomes) > 0 && outcomes[0].index == i:
			o := &outcomes[0]
			outcome, sent, outcomes = o.outcome, o.sent, outcomes[1:]
			u = store.Usage{Key: o.line.Key, Hour: o.line.Hour, Timestamp: o.line.Timestamp, Quantity: o.line.Quantity, Form: o.line.Form, ClientToken: sent}
			u.Key.Region = call.Region
		case len(rows) > 0:
			u, rows = rows[0], rows[1:]
		default:
			return nil, errDetail // an index beyond the end
		}
		record, err := l.usageRecord(&u, outcome <= Duplicate)
		if err != nil {
			return nil, err
		}
		if u.Key.Buyer == 0 {
			if u.Form == metering.ByCustomerIdentifier {
				record.CustomerIdentifier = sent
			} else {
				record.CustomerAWSAccountID = sent
			}
		}
		results = append(results, adminapi.CallResult{Status: outcome.resultStatus(), Stored: outcome == Stored, Record: record})
	}
	if n == 0 {
		return nil, nil
	}
	return results, nil
}
