package ledger

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/meterd/meterd/internal/adminapi"
	"github.com/meterd/meterd/internal/market"
	"github.com/meterd/meterd/internal/metering"
	"github.com/meterd/meterd/internal/store"
)

func (l *Ledger) usageVerbs() []Verb {
	return []Verb{
		adminapi.Bind(adminapi.ListUsage, func(ctx context.Context, op Operator, in adminapi.UsagePaging) (adminapi.UsagePage, error) {
			return l.Usage(ctx, op, in.UsageFilter, in.After, in.Limit)
		}),
		adminapi.Bind(adminapi.SumUsage, func(ctx context.Context, op Operator, in adminapi.UsageGrouping) (adminapi.UsageSums, error) {
			return l.UsageSums(ctx, op, in.UsageFilter, in.Groups())
		}),
	}
}

// These are variables, not constants, only for tests.
var (
	maxPageBytes = 4 << 20 // of stored allocations; a page ends early beyond it
	maxSums      = 100_000 // groups of a sum
)

// Usage returns the accepted records that the filter chooses. The embedded store returns them in the order in which
// they were accepted, PostgreSQL in the order of their hours. Each record that was accepted before the first page was
// asked for is on exactly one page.
//
// after is empty, or the Next of the page before; limit is 1 to [market.MaxPage], or 0 for [market.DefaultPage]. A
// page may hold fewer records than the limit although there is a next one. Names that the catalogue does not know are
// NotFound. customer_identifier stands for the buyer whom any seller's products know by it, however the records
// themselves named the buyer.
func (l *Ledger) Usage(ctx context.Context, op Operator, f adminapi.UsageFilter, after string, limit int) (adminapi.UsagePage, error) {
	page := adminapi.UsagePage{Records: []adminapi.UsageRecord{}}
	if err := op.check(l); err != nil {
		return page, err
	}
	limit, bad := market.PageLimit(limit)
	if bad != nil {
		return page, bad
	}
	m, bad := l.match(op, &f)
	if bad != nil {
		return page, bad
	}
	var found []store.Usage
	size := 0
	err := l.scan(ctx, m, after, func(u *store.Usage) error {
		if len(found) == limit || size > maxPageBytes {
			page.Next = l.db.Cursor(&found[len(found)-1])
			return store.ErrEnough
		}
		found = append(found, *u)
		size += len(u.Allocations)
		return nil
	})
	if errors.Is(err, store.ErrCursor) {
		return page, market.BadCursor(after)
	}
	if err != nil {
		return page, err
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	for i := range found {
		record, err := l.usageRecord(&found[i], true)
		if err != nil {
			return page, fmt.Errorf("usage row %d: %w", found[i].Seq, err)
		}
		page.Records = append(page.Records, record)
	}
	return page, nil
}

// usageRecord returns a row with the names for its numbers, and with the record's id if identified is set. The caller
// holds l.mu for reading.
func (l *Ledger) usageRecord(u *store.Usage, identified bool) (adminapi.UsageRecord, error) {
	c, k := l.market, &u.Key
	product := c.Product(k.Product)
	if product == nil || int(k.Dimension) > len(product.DimensionKeys()) || c.Region(k.Region) == nil {
		return adminapi.UsageRecord{}, errAhead
	}
	record := adminapi.UsageRecord{
		Timestamp: u.Timestamp.Time(), Hour: u.Hour.Start().Time(), ProductCode: product.Code,
		CustomerIdentifier: c.CustomerIdentifier(product.Seller, k.Buyer),
		Dimension:          product.DimensionKeys()[k.Dimension-1], Quantity: int64(u.Quantity), Region: c.Region(k.Region).Name,
	}
	if buyer := c.Account(k.Buyer); buyer != nil {
		record.CustomerAWSAccountID = metering.FormatAccountID(buyer.AccountID)
	}
	if a := c.Agreement(k.Agreement); a != nil {
		record.LicenseARN = a.LicenseARN
	}
	if w := c.Workload(k.Workload); w != nil {
		record.Workload, record.Platform = w.ResourceID, w.Platform.String()
	}
	if identified {
		record.MeteringRecordID = uuid.UUID(c.RecordIDOf(l.ids, &metering.Line{Key: *k, Hour: u.Hour}, u.ClientToken)).String()
	}
	allocations, err := metering.ParseAllocations(u.Allocations)
	for _, a := range allocations {
		shown := adminapi.UsageAllocation{AllocatedUsageQuantity: int64(a.Quantity)}
		for _, t := range a.Tags {
			if shown.Tags == nil {
				shown.Tags = make(map[string]string, len(a.Tags))
			}
			shown.Tags[t.Key] = t.Value
		}
		record.Allocations = append(record.Allocations, shown)
	}
	return record, err
}

// errAhead says that a row refers to a part of the catalogue that this node does not know yet.
var errAhead = errors.New("the row refers to a part of the catalogue that another node has just made; try again in a second")

// match is a filter in the catalogue's numbers, so that rows can be chosen without the catalogue's lock.
type match struct {
	store.UsageFilter
	dimensions map[uint32]uint16     // :: product → the dimension's number; nil for all
	customers  map[customer]struct{} // nil for all
	workloads  map[uint32]struct{}   // nil for all
	products   map[uint32]struct{}   // those of the seller that the operator acts for; nil for all
}

type customer struct{ product, buyer uint32 }

func (m *match) takes(u *store.Usage) bool {
	k := &u.Key
	if m.dimensions != nil && m.dimensions[k.Product] != k.Dimension {
		return false
	}
	if m.products != nil {
		if _, ok := m.products[k.Product]; !ok {
			return false
		}
	}
	if m.customers != nil {
		if _, ok := m.customers[customer{k.Product, k.Buyer}]; !ok {
			return false
		}
	}
	if m.workloads != nil {
		if _, ok := m.workloads[k.Workload]; !ok {
			return false
		}
	}
	return true
}

// match resolves the filter's names and limits it to the operator's scope. Names outside that scope count as unknown.
func (l *Ledger) match(op Operator, f *adminapi.UsageFilter) (*match, *metering.Error) {
	m := &match{UsageFilter: store.UsageFilter{FirstHour: -1 << 31, LastHour: 1<<31 - 1}}
	unknown := func(member, name, mend string) (*match, *metering.Error) {
		return nil, notFound("%s: there is none %q; send %s", member, name, mend)
	}
	if !f.From.IsZero() && !f.To.IsZero() && !f.From.Before(f.To) {
		return nil, invalid("from: must be before to, and is %s, while to is %s", f.From.Format(time.RFC3339), f.To.Format(time.RFC3339))
	}
	if !f.From.IsZero() {
		m.From = roundUp(f.From)
		m.FirstHour = m.From.Hour()
	}
	if !f.To.IsZero() {
		m.To = roundUp(f.To)
		m.LastHour = (m.To - 1).Hour()
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	c, v := l.market, l.view(op)
	if f.ProductCode != "" {
		p := c.ProductByCode(f.ProductCode)
		if p == nil || !v.Scope.Sells(p.Seller) {
			return unknown("product_code", f.ProductCode, "a product code, not a title or a product id")
		}
		m.Product = p.ID
	}
	if f.LicenseARN != "" {
		a := c.AgreementByLicense(f.LicenseARN)
		if a == nil || !v.Has(a) {
			return unknown("license_arn", f.LicenseARN, "the licence ARN of an agreement")
		}
		m.Agreement = a.ID
	}
	if f.CustomerAWSAccountID != "" {
		var a *metering.Account
		if n, ok := metering.ParseAccountID(f.CustomerAWSAccountID); ok {
			a = c.AccountByID(n)
		}
		if a == nil || !v.Knows(a.ID) {
			return unknown("customer_aws_account_id", f.CustomerAWSAccountID, "the 12 digits of a buyer")
		}
		m.Buyer = a.ID
	}
	if f.Region != "" {
		r := c.RegionNamed(f.Region)
		if r == nil {
			return unknown("region", f.Region, "a name such as us-east-1")
		}
		m.Region = r.ID
	}
	if f.CustomerIdentifier != "" {
		m.customers = map[customer]struct{}{}
		for i := range c.Products() {
			p := &c.Products()[i]
			if buyer := c.Customer(p.Seller, f.CustomerIdentifier); buyer != nil && v.Scope.Sells(p.Seller) && v.Knows(buyer.ID) {
				m.customers[customer{p.ID, buyer.ID}] = struct{}{}
			}
		}
		if len(m.customers) == 0 {
			return unknown("customer_identifier", f.CustomerIdentifier, "what a seller's products know a buyer by")
		}
	}
	if f.Dimension != "" {
		m.dimensions = map[uint32]uint16{}
		for i := range c.Products() {
			p := &c.Products()[i]
			if d, ok := p.Dimension(f.Dimension); ok && v.Scope.Sells(p.Seller) && (m.Product == 0 || m.Product == p.ID) {
				m.dimensions[p.ID] = d
			}
		}
		if len(m.dimensions) == 0 {
			return unknown("dimension", f.Dimension, "a case-sensitive API name of the product")
		}
	}
	if f.Workload != "" {
		m.workloads = map[uint32]struct{}{}
		for i := range c.Workloads() {
			if w := &c.Workloads()[i]; w.ResourceID == f.Workload && (v.Scope.Of != market.ForBuyer || v.Scope.Covers(w.Account)) {
				m.workloads[w.ID] = struct{}{}
			}
		}
		if len(m.workloads) == 0 && v.Scope.Of != market.ForSeller { // a seller must not learn which workloads exist
			return unknown("workload", f.Workload, "a resource id such as i-0123456789abcdef0")
		}
	}
	switch v.Scope.Of {
	case market.ForSeller:
		m.products = map[uint32]struct{}{}
		for i := range c.Products() {
			if p := &c.Products()[i]; v.Scope.Sells(p.Seller) {
				m.products[p.ID] = struct{}{}
			}
		}
	case market.ForBuyer:
		m.Buyer = v.Scope.Account
	}
	return m, nil
}

// roundUp returns the first instant at or after t. Timestamps have milliseconds, but the bounds that a client gives
// may be finer.
func roundUp(t time.Time) metering.Instant {
	i := metering.InstantOf(t)
	if i.Time().Before(t) {
		i++
	}
	return i
}

// scan calls row for each matching usage row after the cursor, in the store's order, until row returns
// [store.ErrEnough]. When scan returns, the catalogue knows everything that those rows refer to.
func (l *Ledger) scan(ctx context.Context, m *match, after string, row func(*store.Usage) error) error {
	err := l.db.FindUsage(ctx, &m.UsageFilter, after, func(u *store.Usage) error {
		if !m.takes(u) {
			return nil
		}
		return row(u)
	})
	if err != nil {
		return err
	}
	return l.catchUp(ctx)
}

// sumKey identifies a group of records in the catalogue's numbers. Numbers that the group's names do not depend on
// are 0.
type sumKey struct {
	customer
	agreement, workload uint32
	hour                metering.Hour
	dimension           uint16
	region              metering.Region
}

// grouping says how to group records by one name.
type grouping struct {
	keep func(into *sumKey, from *sumKey)                         // the numbers that the name depends on
	name func(c *metering.Catalog, k *sumKey) string              // the name
	set  func(s *adminapi.UsageSum, name string, h metering.Hour) // puts it into the answer
}

var groupings = map[string]grouping{
	"product_code": {
		func(k, u *sumKey) { k.product = u.product },
		func(c *metering.Catalog, k *sumKey) string { return c.Product(k.product).Code },
		func(s *adminapi.UsageSum, name string, _ metering.Hour) { s.ProductCode = name }},
	"license_arn": {
		func(k, u *sumKey) { k.agreement = u.agreement },
		func(c *metering.Catalog, k *sumKey) string {
			if a := c.Agreement(k.agreement); a != nil {
				return a.LicenseARN
			}
			return ""
		},
		func(s *adminapi.UsageSum, name string, _ metering.Hour) { s.LicenseARN = name }},
	"customer_aws_account_id": {
		func(k, u *sumKey) { k.buyer = u.buyer },
		func(c *metering.Catalog, k *sumKey) string {
			return metering.FormatAccountID(c.Account(k.buyer).AccountID)
		},
		func(s *adminapi.UsageSum, name string, _ metering.Hour) { s.CustomerAWSAccountID = name }},
	"customer_identifier": {
		func(k, u *sumKey) { k.customer = u.customer },
		func(c *metering.Catalog, k *sumKey) string {
			return c.CustomerIdentifier(c.Product(k.product).Seller, k.buyer)
		},
		func(s *adminapi.UsageSum, name string, _ metering.Hour) { s.CustomerIdentifier = name }},
	"dimension": {
		func(k, u *sumKey) { k.product, k.dimension = u.product, u.dimension },
		func(c *metering.Catalog, k *sumKey) string {
			return c.Product(k.product).DimensionKeys()[k.dimension-1]
		},
		func(s *adminapi.UsageSum, name string, _ metering.Hour) { s.Dimension = name }},
	"hour": {
		func(k, u *sumKey) { k.hour = u.hour },
		func(_ *metering.Catalog, k *sumKey) string { return k.hour.String() },
		func(s *adminapi.UsageSum, _ string, h metering.Hour) {
			t := h.Start().Time()
			s.Hour = &t
		}},
	"region": {
		func(k, u *sumKey) { k.region = u.region },
		func(c *metering.Catalog, k *sumKey) string { return c.Region(k.region).Name },
		func(s *adminapi.UsageSum, name string, _ metering.Hour) { s.Region = name }},
	"workload": {
		func(k, u *sumKey) { k.workload = u.workload },
		func(c *metering.Catalog, k *sumKey) string {
			if w := c.Workload(k.workload); w != nil {
				return w.ResourceID
			}
			return ""
		},
		func(s *adminapi.UsageSum, name string, _ metering.Hour) { s.Workload = name }},
}

// UsageSums returns the sums of the quantities of the records that the filter chooses, grouped by any of
// [adminapi.GroupBy] and sorted by their groups in the order of GroupBy. If by is empty there is one sum of all.
// Records that have no licence, workload or customer identifier are in the group with the empty one. UsageSums reads
// every record from the filter's first hour on, and refuses more than 100,000 groups.
func (l *Ledger) UsageSums(ctx context.Context, op Operator, f adminapi.UsageFilter, by []string) (adminapi.UsageSums, error) {
	none := adminapi.UsageSums{Sums: []adminapi.UsageSum{}}
	if err := op.check(l); err != nil {
		return none, err
	}
	for _, name := range by {
		if !slices.Contains(adminapi.GroupBy, name) {
			return none, invalid("by: sums cannot be grouped by %q; send one or more of %s", name, strings.Join(adminapi.GroupBy, ", "))
		}
	}
	var groups []grouping
	for _, name := range adminapi.GroupBy {
		if slices.Contains(by, name) {
			groups = append(groups, groupings[name])
		}
	}
	m, bad := l.match(op, &f)
	if bad != nil {
		return none, bad
	}
	type sum struct{ records, quantity int64 }
	sums := map[sumKey]*sum{}
	tooMany := false
	err := l.scan(ctx, m, "", func(u *store.Usage) error {
		whole := sumKey{customer{u.Key.Product, u.Key.Buyer}, u.Key.Agreement, u.Key.Workload, u.Hour, u.Key.Dimension, u.Key.Region}
		var k sumKey
		for i := range groups {
			groups[i].keep(&k, &whole)
		}
		s := sums[k]
		if s == nil {
			if tooMany = len(sums) == maxSums; tooMany {
				return store.ErrEnough
			}
			s = new(sum)
			sums[k] = s
		}
		s.records++
		s.quantity += int64(u.Quantity)
		return nil
	})
	if err != nil {
		return none, err
	}
	if tooMany {
		return none, invalid("by: there are more than %d groups; group by less, or narrow the filter, for example by from and to", maxSums)
	}
	if len(groups) == 0 && len(sums) == 0 {
		sums[sumKey{}] = new(sum)
	}

	// Different numbers may have the same name, such as dimensions of two products.
	l.mu.RLock()
	defer l.mu.RUnlock()
	byName := make(map[string]*adminapi.UsageSum, len(sums))
	names := make([]string, len(groups))
	for k, s := range sums {
		for i := range groups {
			names[i] = groups[i].name(l.market.Catalog, &k)
		}
		joined := strings.Join(names, "\x00")
		shown := byName[joined]
		if shown == nil {
			shown = new(adminapi.UsageSum)
			for i := range groups {
				groups[i].set(shown, names[i], k.hour)
			}
			byName[joined] = shown
		}
		shown.Records += s.records
		shown.Quantity += s.quantity
	}
	answer := make([]adminapi.UsageSum, 0, len(byName))
	for _, joined := range slices.Sorted(maps.Keys(byName)) {
		answer = append(answer, *byName[joined])
	}
	return adminapi.UsageSums{Sums: answer, By: by}, nil
}
