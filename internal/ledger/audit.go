package ledger

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"
	"github.com/meterd/meterd/internal/adminapi"
	"github.com/meterd/meterd/internal/metering"
	"github.com/meterd/meterd/internal/store"
)

// resultStatus returns the word for what became of a record: AWS's word, except for Unprocessed.
func resultStatus(o metering.Outcome) string {
	return [...]string{metering.Stored: "Success", metering.Replayed: "Success", metering.Duplicate: "DuplicateRecord", metering.NotSubscribed: "CustomerNotSubscribed", metering.Unprocessed: "Unprocessed"}[o]
}

// CallRecord returns the audit of the call with the given request id, rebuilt from its audit row and the usage rows
// that it wrote. Error is the name of the refusal's [metering.Kind], which package server replaces by AWS's word.
// Principal is the ARN of the user or role (for a session, of its role), the name of the admin token, or "local". An
// unknown id is NotFound: calls that were not authenticated, or were throttled, are not audited.
func (l *Ledger) CallRecord(ctx context.Context, op Operator, requestID string) (adminapi.Call, error) {
	if err := op.checkAll(l); err != nil {
		return adminapi.Call{}, err
	}
	id, err := uuid.Parse(requestID)
	if err != nil || len(requestID) != 36 {
		return adminapi.Call{}, invalid("request_id: %.40q is not one; send the UUID that came in the answer's x-amzn-RequestId header", requestID)
	}
	var call *store.Call
	var who store.Client
	var rows []store.Usage
	err = l.db.View(ctx, func(r *store.Reader) error {
		rows = nil
		if call, err = r.CallOfRequest(id); call == nil || err != nil {
			return err
		}
		if who, err = r.Client(call); call.UsageRows == 0 || err != nil {
			return err
		}
		return r.UsageOfCall(call, func(u *store.Usage) error {
			rows = append(rows, *u)
			return nil
		})
	})
	if err == nil {
		err = l.catchUp(ctx)
	}
	if err != nil {
		return adminapi.Call{}, fmt.Errorf("call %s: %w", requestID, err)
	}
	if call == nil {
		return adminapi.Call{}, notFound("request_id: there is no call %s; calls that were not authenticated, or were throttled, are not recorded", requestID)
	}
	detail, err := store.ParseDetail(call.Detail)
	if err == nil && len(rows) != call.UsageRows {
		err = errors.New("usage rows are missing; run meterd verify")
	}
	if err != nil {
		return adminapi.Call{}, fmt.Errorf("call %s: %w", requestID, err)
	}
	answer := adminapi.Call{
		RequestID: id.String(), At: call.At.Time(), Operation: metering.Operation(call.Operation).String(),
		Source: who.Source, UserAgent: who.Agent, AccessKeyID: who.AccessKeyID, SessionName: who.Name,
		Message: strings.ToValidUTF8(detail.Message+detail.Text, "\uFFFD"), Request: strings.ToValidUTF8(detail.Body, "\uFFFD"),
	}
	if call.Refusal != store.NoRefusal {
		answer.Error = metering.Kind(call.Refusal).String()
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	if region := l.market.Region(call.Region); region != nil {
		answer.Region = region.Name
	}
	l.describe(call, &answer)
	answer.Results, err = l.results(call, detail.LeftOut, rows)
	if err != nil {
		return adminapi.Call{}, fmt.Errorf("call %s: %w", requestID, err)
	}
	return answer, nil
}

// describe fills in who called. Rows of deleted users and keys are kept, and ids are never used again, so they are
// still known.
func (l *Ledger) describe(call *store.Call, answer *adminapi.Call) {
	switch {
	case call.Operation != uint8(metering.Administration):
		answer.Principal = l.market.CallerName(call.Principal)
	case call.Principal == 0:
		answer.Principal = "local"
	default:
		answer.Principal = l.market.AdminTokenName(call.Principal)
	}
	if call.AccessKey != 0 {
		answer.AccessKeyID = l.market.AccessKeyID(call.AccessKey)
	}
}

// results puts the records of a call into the order in which they were sent. A record that was not stored says its
// own place; the stored ones fill the remaining places in turn.
func (l *Ledger) results(call *store.Call, left []store.LeftOut, rows []store.Usage) ([]adminapi.CallResult, error) {
	n := len(rows) + len(left)
	results := make([]adminapi.CallResult, 0, n)
	for i := range n {
		outcome := metering.Stored
		u := store.Usage{}
		sent := ""
		switch {
		case len(left) > 0 && left[0].Index == i:
			o := &left[0]
			outcome, sent, left = o.Outcome, o.Sent, left[1:]
			u = store.Usage{Key: o.Line.Key, Hour: o.Line.Hour, Timestamp: o.Line.Timestamp, Quantity: o.Line.Quantity, Form: o.Line.Form, ClientToken: sent}
			u.Key.Region = call.Region
		case len(rows) > 0:
			u, rows = rows[0], rows[1:]
		default:
			return nil, store.ErrDetail // an index beyond the end
		}
		record, err := l.usageRecord(&u, outcome <= metering.Duplicate)
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
		results = append(results, adminapi.CallResult{Status: resultStatus(outcome), Stored: outcome == metering.Stored, Record: record})
	}
	if n == 0 {
		return nil, nil
	}
	return results, nil
}
