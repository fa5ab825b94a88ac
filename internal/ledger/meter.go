package ledger

import (
	"context"

	"github.com/meterd/meterd/internal/metering"
	"github.com/meterd/meterd/internal/store"
)

// meterWork is a MeterUsage call that passed admission.
type meterWork struct {
	line       metering.Line
	in         *metering.Meter
	byToken    bool // AgentCore: usage is identified by its ClientToken instead of its hour
	tokenKey   metering.TokenKey
	parameters [16]byte
	id         metering.RecordID
	asked      int  // the index of the call's ClientToken in the group's
	claimed    int  // the index of the call's claim in the group's, or for a dry run of its ask
	first      bool // the workload's first successful call for the product
}

// MeterUsage meters the usage of the calling workload and returns the record's id once the record is on disk. A dry
// run stores nothing but its audit row. It is refused if the usage would be refused. Otherwise it returns the id that
// the usage would get, or, with setting dry-run=exception, the refusal DryRunOperation.
func (c *Call) MeterUsage(ctx context.Context, in *metering.Meter, body []byte) (metering.RecordID, *metering.Error) {
	l, m := c.l, &c.meter
	*m = meterWork{in: in}
	refusal := m.admit(l, c)
	if again, err := l.registeredElsewhere(ctx, c, in.ProductCode, refusal); err != nil {
		refusal = err
	} else if again {
		refusal = m.admit(l, c)
	}
	if refusal != nil {
		return metering.RecordID{}, c.Refuse(refusal, body)
	}
	if in.HasClientToken {
		m.tokenKey, m.parameters = in.TokenKey(c.caller.Workload), in.Parameters()
	}
	c.work, c.body = m, body
	if err := c.submit(); err != nil {
		return metering.RecordID{}, err
	}
	if c.refusal != nil {
		return metering.RecordID{}, c.refusal
	}
	return m.id, nil
}

// admit decides on the call by the catalogue as it is now.
func (m *meterWork) admit(l *Ledger, c *Call) (refusal *metering.Error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	w := l.market.Workload(c.caller.Workload)
	if w == nil {
		return metering.NotOnWorkload(metering.MeterUsage)
	}
	if m.line, refusal = l.market.AdmitMeter(m.in, w, c.region, l.clock.now()); refusal == nil {
		m.byToken = w.Platform == metering.AgentCore
		m.id = l.market.RecordIDOf(l.ids, &m.line, m.in.ClientToken)
	}
	return refusal
}

func (m *meterWork) prepare(g *group, c *Call) {
	c.refusal = g.l.settings.CheckMeterTimestamp(m.in.Timestamp, g.now)
	if c.refusal == nil && m.in.HasClientToken {
		m.asked = len(g.keys)
		g.keys = append(g.keys, m.tokenKey)
	}
}

// known returns what is remembered of the call's ClientToken, or nil.
func (m *meterWork) known(g *group) *store.ClientToken {
	if !m.in.HasClientToken {
		return nil
	}
	return g.tokens[m.asked]
}

func (m *meterWork) claim(g *group, c *Call) {
	if c.refusal != nil || m.known(g) != nil {
		return
	}
	if m.in.DryRun {
		m.claimed = len(g.asks)
		g.ask(c, &m.line, m.clientToken())
		return
	}
	m.claimed = len(g.claims)
	g.claim(c, 0, &m.line, m.clientToken())
}

// clientToken returns the token under which the usage is stored.
func (m *meterWork) clientToken() string {
	if m.byToken {
		return m.in.ClientToken
	}
	return ""
}

// write decides on the record: first by its ClientToken, then, except for AgentCore, by its hour (metering-api 2.6).
func (m *meterWork) write(g *group, c *Call) error {
	if c.refusal != nil {
		return nil
	}
	in := m.in
	if known := m.known(g); known != nil {
		if known.Parameters != m.parameters {
			c.refusal = metering.Errorf(metering.IdempotencyConflict, "ClientToken %q was used before with other parameters. Send the very same request to retry it, or a new ClientToken for new usage.", in.ClientToken)
			return nil
		}
		m.id = known.Record
		if in.DryRun {
			return m.dryRun(g, c)
		}
		c.audit.Detail = store.AppendLeftOut(c.audit.Detail, 0, metering.Replayed, &m.line, m.clientToken())
		return nil
	}
	claims := g.claims
	if in.DryRun {
		claims = g.asks
	}
	outcome := g.weigh(c, &claims[m.claimed])
	switch outcome {
	case metering.Duplicate:
		c.refusal = metering.Errorf(metering.DuplicateRequest, "A record for this resource with usageDimension: %s was already accepted for the hour %v with another quantity. Usage is metered once an hour and cannot be changed.", in.Dimension, m.line.Hour)
		return nil
	case metering.Unprocessed:
		c.refusal = metering.Errorf(metering.Throttling, "The service holds as many records of the open hours as it can. Retry later with exponential backoff.")
		return nil
	}
	if in.DryRun {
		return m.dryRun(g, c)
	}
	if outcome == metering.Replayed {
		c.audit.Detail = store.AppendLeftOut(c.audit.Detail, 0, metering.Replayed, &m.line, "")
	}
	// A workload may replay with new ClientTokens without end. At the bound the tokens of replays are no longer kept;
	// the hour still shows that they are replays.
	if in.HasClientToken && (outcome == metering.Stored || g.l.openRecords() < g.l.cfg.MaxOpenRecords) {
		t := store.ClientToken{Key: m.tokenKey, Parameters: m.parameters, Record: m.id, At: g.now}
		if err := g.tx.PutClientToken(&t); err != nil {
			return err
		}
	}
	if outcome == metering.Stored {
		return g.register(c, metering.MeterUsage, m.line.Key.Workload, m.line.Key.Product, &m.first)
	}
	return nil
}

// dryRun answers a dry run whose usage would have been taken. AWS's text allows both answers; clients have found that
// AWS answers with success (metering-api 2.6).
func (m *meterWork) dryRun(g *group, c *Call) error {
	if g.l.settings.DryRun == "exception" {
		c.refusal = metering.Errorf(metering.DryRunOperation, "Request would have succeeded, but DryRun flag is set.")
		return nil
	}
	c.audit.Detail = store.AppendText(c.audit.Detail, "dry run: it would have succeeded, and nothing was stored")
	return nil
}

func (m *meterWork) apply(l *Ledger, c *Call) {
	l.market.PutRegistration(metering.Registration{Workload: m.line.Key.Workload, Product: m.line.Key.Product})
}
