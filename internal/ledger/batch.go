package ledger

import (
	"fmt"

	"github.com/meterd/meterd/internal/iam"
	"github.com/meterd/meterd/internal/metering"
	"github.com/meterd/meterd/internal/store"
)

// batchWork is a BatchMeterUsage call that passed admission.
type batchWork struct {
	plain
	in       *metering.Batch
	lines    []metering.Line
	skipped  []bool // records that an injected fault leaves unprocessed; empty for none
	first    int    // where the claims of the lines begin
	outcomes []metering.Outcome
}

// BatchMeterUsage meters a seller's records. It returns a line and an outcome for each record, in input order, once
// those that are [metering.Stored] are on disk; or it refuses the whole call, and then stores none of it.
func (c *Call) BatchMeterUsage(in *metering.Batch, body []byte) ([]metering.Line, []metering.Outcome, *metering.Error) {
	b := &c.batch
	lines, refusal := c.admitBatch(in)
	if refusal != nil {
		return nil, nil, c.Refuse(refusal, body)
	}
	b.in, b.lines = in, lines
	c.work, c.body = b, body
	if err := c.submit(); err != nil {
		return nil, nil, err
	}
	if c.refusal != nil {
		return nil, nil, c.refusal
	}
	return b.lines, b.outcomes, nil
}

// admitBatch decides on the call by the catalogue as it is now.
func (c *Call) admitBatch(in *metering.Batch) ([]metering.Line, *metering.Error) {
	l := c.l
	l.mu.RLock()
	defer l.mu.RUnlock()
	lines, refusal := l.market.AdmitBatch(in, c.caller.Account, c.region, l.clock.now(), c.batch.lines[:0])
	for i := range lines {
		if lines[i].Subscribed {
			lines[i].ID = l.market.RecordIDOf(l.ids, &lines[i], "")
		}
	}
	c.batch.skipped = c.batch.skipped[:0]
	if fault := l.cfg.Faults.Unprocessed; fault != nil && refusal == nil {
		for i := range lines {
			p := l.market.Product(lines[i].Key.Product)
			c.batch.skipped = append(c.batch.skipped, lines[i].Subscribed && fault(p.Code, p.DimensionKeys()[lines[i].Key.Dimension-1], lines[i].Quantity))
		}
	}
	return lines, refusal
}

// prepare checks the window again, by the group's time: a call that has waited must not be counted for an hour that
// was closed meanwhile.
func (b *batchWork) prepare(g *group, c *Call) {
	c.refusal, b.outcomes = nil, b.outcomes[:0]
	window := g.l.settings.BatchTimestamps(g.now)
	for i := range b.lines {
		ts := b.lines[i].Timestamp
		if window.Hold(ts) {
			continue
		}
		if err := g.l.settings.CheckBatchTimestamp(ts, g.now); err != nil {
			err.Message = fmt.Sprintf("UsageRecords[%d]: %s", i, err.Message)
			c.refusal = err
			return
		}
	}
}

func (b *batchWork) skips(i int) bool { return len(b.skipped) > 0 && b.skipped[i] }

func (b *batchWork) claim(g *group, c *Call) {
	b.first = len(g.claims)
	for i := range b.lines {
		if c.refusal == nil && b.lines[i].Subscribed && !b.skips(i) {
			g.claim(c, i, &b.lines[i], "")
		}
	}
}

func (b *batchWork) write(g *group, c *Call) error {
	if c.refusal != nil {
		return nil
	}
	next := b.first
	for i := range b.lines {
		line := &b.lines[i]
		outcome := metering.Unprocessed
		switch {
		case !line.Subscribed:
			outcome = metering.NotSubscribed
		case !b.skips(i):
			outcome = g.weigh(c, &g.claims[next])
			next++
		}
		if outcome == metering.Replayed && g.l.settings.ResendIdentical == "duplicate" {
			outcome = metering.Duplicate
		}
		if outcome != metering.Stored {
			sent := ""
			if line.Key.Buyer == 0 {
				sent = iam.Redacted(b.in.Records[i].CustomerIdentifier + b.in.Records[i].CustomerAWSAccountID) // one of the two is empty
			}
			c.audit.Detail = store.AppendLeftOut(c.audit.Detail, i, outcome, line, sent)
		}
		b.outcomes = append(b.outcomes, outcome)
	}
	return nil
}
