package metering

import (
	"crypto/sha256"
	"encoding/binary"
	"regexp"
)

// AdmitBatch decides a BatchMeterUsage call of the seller's account in the region at the time now. It either
// refuses the call as a whole, so that nothing of it may be stored, or appends one line for each record to lines,
// in input order. A line that is not Subscribed gets CustomerNotSubscribed; the others remain to be checked for
// duplicates (metering-api 2.4).
func (c *Catalog) AdmitBatch(in *Batch, seller uint32, region Region, now Instant, lines []Line) ([]Line, *Error) {
	if err := in.validate(); err != nil {
		return nil, err
	}
	if err := c.CheckRegion(region, BatchMeterUsage, 0); err != nil {
		return nil, err
	}
	product, err := c.namedProduct(in, seller)
	if err != nil {
		return nil, err
	}
	call := admission{Catalog: c, seller: seller, region: region, now: now, product: product, window: c.Settings.BatchTimestamps(now)}
	known := c.known(in, product)
	for i := range in.Records {
		r := &in.Records[i]
		lines = append(lines, Line{}) // filled in where it stands, which saves copying it
		line := &lines[len(lines)-1]
		of, err := call.whose(line, r, i, known[i])
		if err != nil {
			return nil, err
		}
		if err := call.what(line, r, i); err != nil {
			return nil, err
		}
		if err := call.when(line, r); err != nil {
			return nil, inRecord(i, err)
		}
		if err := checkAllocations(r.Allocations, r.Quantity); err != nil {
			return nil, inRecord(i, err)
		}
		if line.Subscribed, err = call.subscribed(line, of); err != nil {
			return nil, inRecord(i, err)
		}
	}
	return lines, nil
}

// namedProduct returns the product that the call names, or nil if the licences of its records stand for it.
func (c *Catalog) namedProduct(in *Batch, seller uint32) (*Product, *Error) {
	licences := 0
	for i := range in.Records {
		if in.Records[i].LicenseARN != "" {
			licences++
		}
	}
	switch {
	case in.ProductCode != "" && licences > 0:
		return nil, refuseProductAndLicence()
	case in.ProductCode == "" && licences < len(in.Records):
		return nil, refuseNeitherProductNorLicence()
	case in.ProductCode == "":
		return nil, nil
	}
	product, err := c.sellersProduct(in.ProductCode, seller)
	if err == nil && product.Concurrent {
		return nil, refuseConcurrentProduct(in.ProductCode)
	}
	return product, err
}

// admission is a BatchMeterUsage call while its records are admitted, one after the other.
type admission struct {
	*Catalog
	seller  uint32
	region  Region
	now     Instant
	window  Interval // of timestamps that are good without a closer look
	product *Product // of all records; nil until the first licence, if the call names none
	form    Form     // of the record before
}

// subject is whom a record is counted for, as far as that has been looked up.
type subject struct {
	standing  *standing  // the buyer's with the product, if the record is known by it
	agreement *Agreement // that the record's licence stands for, if it has one
}

// whose notes in the line whom record i is counted for. known is the key of the standing that the record names.
func (a *admission) whose(line *Line, r *UsageRecord, i int, known standingKey) (of subject, err *Error) {
	if of.standing = a.standings.get(known); of.standing != nil {
		line.Key.Buyer, line.Form, line.account = of.standing.buyer, ByCustomerAWSAccountID, known.account()
	} else if r.LicenseARN != "" {
		if of.agreement, err = a.licence(r, i); err != nil {
			return of, err
		}
		line.Key.Agreement, line.Key.Buyer, line.Form = of.agreement.ID, of.agreement.Buyer, ByLicense
	} else if line.Key.Buyer, line.Form, err = a.buyer(r, i, a.seller); err != nil {
		return of, err
	}
	if i > 0 && line.Form != a.form && a.Settings.MixedIdentifiers == "refuse" {
		return of, refuseMixedIdentifiers(i)
	}
	a.form = line.Form
	return of, nil
}

// licence returns the agreement that the record's LicenseArn stands for. All records must be of the same product.
func (a *admission) licence(r *UsageRecord, i int) (*Agreement, *Error) {
	agreement, err := a.Catalog.licence(r, i, a.seller)
	if err != nil {
		return nil, err
	}
	product := a.Product(agreement.Product)
	if a.product != nil && a.product.ID != product.ID {
		return nil, refuseSecondProduct(i, product, a.product)
	}
	a.product = product
	return agreement, nil
}

// what notes in the line what record i meters, and where.
func (a *admission) what(line *Line, r *UsageRecord, i int) *Error {
	if i == 0 && !a.product.sells(a.region) {
		return refuseSellersRegion(a.product, a.Region(a.region))
	}
	dimension, ok := a.product.Dimension(r.Dimension)
	if !ok {
		return inRecord(i, refuseRecordsDimension(a.product, r.Dimension))
	}
	line.Key.Product, line.Key.Dimension, line.Key.Region = a.product.ID, dimension, a.region
	line.Quantity, line.Allocations = r.Quantity, r.Allocations
	return nil
}

// when notes in the line the time of the usage, which must lie in the window.
func (a *admission) when(line *Line, r *UsageRecord) *Error {
	line.Timestamp, line.Hour = r.Timestamp, r.Timestamp.Hour()
	if a.window.Hold(r.Timestamp) {
		return nil
	}
	return a.Settings.CheckBatchTimestamp(r.Timestamp, a.now)
}

// subscribed reports whether the line's usage may be metered.
func (a *admission) subscribed(line *Line, of subject) (bool, *Error) {
	switch {
	case of.standing != nil && of.standing.subscribed(line.Timestamp, a.now) && !a.isSuspended(of.standing.buyer):
		return true, nil
	case of.agreement != nil:
		return a.licensed(of.agreement, line.Timestamp, a.now)
	}
	return a.Catalog.subscribed(line.Key.Product, line.Key.Buyer, line.Timestamp, a.now)
}

// sellersProduct returns the product of the code if the account publishes it.
func (c *Catalog) sellersProduct(code string, seller uint32) (*Product, *Error) {
	p := c.ProductByCode(code)
	if p != nil && p.Seller == seller {
		return p, nil
	}
	if q := c.ProductByID(code); q != nil && q.Seller == seller {
		return nil, refuseProductID(code)
	}
	return nil, refuseOthersProduct(code)
}

var licenseARN = regexp.MustCompile(`^arn:aws[a-zA-Z-]*:[A-Za-z0-9][A-Za-z0-9_/.-]{0,62}:[A-Za-z0-9_/.-]{0,63}:[A-Za-z0-9_/.-]{0,63}:([A-Za-z0-9][A-Za-z0-9:_/+=,@.-]*)$`)

// ValidLicenseARN reports whether arn has the form of a licence ARN (metering-api 1.7).
func ValidLicenseARN(arn string) bool {
	m := licenseARN.FindStringSubmatch(arn)
	return m != nil && len(m[1]) <= 1024
}

// licence returns the agreement that the record's LicenseArn stands for, once the record names the buyer rightly.
func (c *Catalog) licence(r *UsageRecord, i int, seller uint32) (*Agreement, *Error) {
	if r.CustomerIdentifier != "" {
		return nil, refuseLicenceAndIdentifier(i)
	}
	if r.CustomerAWSAccountID == "" {
		return nil, refuseLicenceWithoutAccount(i)
	}
	a := c.AgreementByLicense(r.LicenseARN)
	if a == nil || c.Product(a.Product).Seller != seller {
		if !ValidLicenseARN(r.LicenseARN) {
			return nil, refuseMalformedLicence(i, r.LicenseARN)
		}
		return nil, refuseUnknownLicence(i, r.LicenseARN)
	}
	if n, ok := ParseAccountID(r.CustomerAWSAccountID); !ok || c.Account(a.Buyer).AccountID != n {
		return nil, inRecord(i, refuseOthersLicence(r.LicenseARN, r.CustomerAWSAccountID))
	}
	return a, nil
}

// buyer returns the id of the account that the record names, 0 if it names one that is not known, and how.
func (c *Catalog) buyer(r *UsageRecord, i int, seller uint32) (uint32, Form, *Error) {
	switch {
	case r.CustomerIdentifier != "" && r.CustomerAWSAccountID != "":
		return 0, 0, refuseBothIdentifiers(i)
	case r.CustomerIdentifier == "" && r.CustomerAWSAccountID == "":
		return 0, 0, refuseNoIdentifier(i)
	case r.CustomerIdentifier != "":
		if a := c.Customer(seller, r.CustomerIdentifier); a != nil {
			return a.ID, ByCustomerIdentifier, nil
		}
		if c.Settings.UnknownCustomer == "not-subscribed" {
			return 0, ByCustomerIdentifier, nil
		}
		return 0, 0, refuseUnknownIdentifier(i, r.CustomerIdentifier)
	}
	if n, ok := ParseAccountID(r.CustomerAWSAccountID); ok {
		if a := c.AccountByID(n); a != nil {
			return a.ID, ByCustomerAWSAccountID, nil
		}
	}
	return 0, ByCustomerAWSAccountID, nil
}

// licensed reports whether usage stamped ts may be metered on the licence at the time now (metering-api 2.4, 2.10).
func (c *Catalog) licensed(a *Agreement, ts, now Instant) (bool, *Error) {
	state := a.State(now)
	switch {
	case state == Ended || c.Account(a.Buyer).Suspended:
		return false, nil
	case state == Pending || ts.Hour() < a.Start.Hour():
		return false, refuseBeforeLicence(ts, a.Start)
	case state == Ending && ts > a.EndingAt:
		return false, refuseAfterLicence(ts, a.EndingAt)
	}
	return true, nil
}

// subscribed reports whether usage of the product by the buyer stamped ts may be metered at the time now.
func (c *Catalog) subscribed(product, buyer uint32, ts, now Instant) (bool, *Error) {
	if buyer == 0 || c.Account(buyer).Suspended {
		return false, nil
	}
	var early *Agreement
	for a := c.NewestAgreement(product, buyer); a != nil; a = c.PreviousAgreement(a) {
		switch state := a.State(now); {
		case state == Pending || state == Ended:
		case ts.Hour() < a.Start.Hour():
			early = a
		case state == Active || ts <= a.EndingAt:
			return true, nil
		}
	}
	if early != nil {
		return false, refuseBeforeSubscription(ts, early.Start)
	}
	return false, nil
}

// AdmitMeter decides a MeterUsage call of the workload in the region at the time now. The line it returns remains
// to be checked for duplicates; its timestamp is rounded down to the hour only in its key (metering-api 2.6).
func (c *Catalog) AdmitMeter(in *Meter, w *Workload, region Region, now Instant) (Line, *Error) {
	product, err := c.workloadsProduct(in.ProductCode, in.HasProductCode, MeterUsage)
	if err == nil {
		err = in.validate()
	}
	if err == nil {
		err = c.checkWorkload(w, region, MeterUsage, product)
	}
	if err != nil {
		return Line{}, err
	}
	dimension, ok := product.Dimension(in.Dimension)
	if !ok {
		return Line{}, refuseMeterDimension(product, in.Dimension)
	}
	if err := c.Settings.CheckMeterTimestamp(in.Timestamp, now); err != nil {
		return Line{}, err
	}
	allocations := in.Allocations
	if w.Platform == AgentCore {
		if !in.HasClientToken {
			return Line{}, refuseNoClientToken()
		}
		if len(allocations) > 0 && c.Settings.AgentCoreTags == "refuse" {
			return Line{}, refuseAgentCoreTags()
		}
		allocations = nil
	}
	if err := checkAllocations(allocations, in.Quantity); err != nil {
		return Line{}, err
	}
	if err := c.entitled(w, product, in.Timestamp, now); err != nil {
		return Line{}, err
	}
	return Line{
		Key:       Key{Product: product.ID, Buyer: w.Account, Workload: w.ID, Dimension: dimension, Region: region},
		Hour:      in.Timestamp.Hour(),
		Timestamp: in.Timestamp, Quantity: in.Quantity, Form: ByWorkload, Subscribed: true, Allocations: allocations,
	}, nil
}

func (in *Meter) validate() *Error {
	if !in.HasTimestamp {
		return refuseNoTimestamp()
	}
	if in.HasClientToken && (in.ClientToken == "" || longer(in.ClientToken, 64)) {
		return refuseClientToken()
	}
	return checkAmount(-1, in.Dimension, "UsageDimension", in.Quantity, "UsageQuantity", in.Allocations)
}

// workloadsProduct returns the product that a workload names in a call of the operation, which is for software that runs
// at the buyer's: AWS has SaaS metered by BatchMeterUsage (metering-api 2.6, 3.5).
func (c *Catalog) workloadsProduct(code string, sent bool, op Operation) (*Product, *Error) {
	if !sent {
		return nil, refuseNoProductCode()
	}
	if err := checkProductCode(code); err != nil {
		return nil, err
	}
	p := c.ProductByCode(code)
	if p == nil {
		if c.ProductByID(code) != nil {
			return nil, refuseProductID(code)
		}
		return nil, refuseUnknownProduct(code)
	}
	if p.Type == SaaS && c.Settings.SaaSWorkloads == "refuse" {
		return nil, refuseSaaS(code, op)
	}
	return p, nil
}

// checkWorkload checks where the workload calls from: the endpoint's region must be its own (metering-api 2.6, 2.7).
func (c *Catalog) checkWorkload(w *Workload, region Region, op Operation, p *Product) *Error {
	kind := InvalidEndpointRegion
	if op == RegisterUsage {
		kind = InvalidRegion
	}
	if region != w.Region {
		return refuseOtherRegion(kind, op, w.ResourceID, c.Region(w.Region), c.Region(region))
	}
	if err := c.CheckRegion(region, op, w.Platform); err != nil {
		return err
	}
	if !p.sells(region) {
		return refuseWorkloadsRegion(kind, p, c.Region(region))
	}
	return nil
}

// entitled reports why the workload may not use the product at the time ts, nil if it may. Whether its buyer has an
// agreement is asked on its first call and not again afterwards (metering-api 2.6), so that software goes on after the
// agreement has ended; but usage must lie in an agreement, or after the last one.
func (c *Catalog) entitled(w *Workload, p *Product, ts, now Instant) *Error {
	if c.Settings.PublisherPreview && w.Account == p.Seller {
		return nil
	}
	if c.isSuspended(w.Account) && c.Settings.SuspendedWorkloads == "refuse" {
		return refuseSuspended(c.Account(w.Account))
	}
	if c.Registered(w.ID, p.ID) {
		return c.agreed(p.ID, w.Account, ts, now)
	}
	ok, err := c.subscribed(p.ID, w.Account, ts, now)
	if err == nil && !ok {
		err = refuseNotSubscribed(c.Account(w.Account), p)
	}
	return err
}

// agreed refuses usage from before the buyer's first agreement for the product, and from between two of them.
func (c *Catalog) agreed(product, buyer uint32, ts, now Instant) *Error {
	var later *Agreement // of those that begin after the usage, the first
	for a := c.NewestAgreement(product, buyer); a != nil; a = c.PreviousAgreement(a) {
		switch {
		case a.Start > now:
		case ts.Hour() < a.Start.Hour():
			if later == nil || a.Start < later.Start {
				later = a
			}
		case (a.EndingAt == 0 || ts <= a.EndingAt) && (a.EndedAt == 0 || ts < a.EndedAt):
			return nil
		}
	}
	if later != nil {
		return refuseBeforeAgreement(ts, later.Start)
	}
	return nil
}

// Register is the input of RegisterUsage.
type Register struct {
	ProductCode         string
	HasProductCode      bool // ProductCode was sent, if only empty; it is required
	PublicKeyVersion    int32
	HasPublicKeyVersion bool
	Nonce               string
	HasNonce            bool
}

// AdmitRegister decides a RegisterUsage call of the workload in the region at the time now. It returns the product
// and the version of its key that signs the answer (metering-api 2.7).
func (c *Catalog) AdmitRegister(in *Register, w *Workload, region Region, now Instant) (*Product, *PublicKey, *Error) {
	product, err := c.workloadsProduct(in.ProductCode, in.HasProductCode, RegisterUsage)
	switch {
	case err != nil:
		return nil, nil, err
	case !in.HasPublicKeyVersion:
		return nil, nil, refuseNoKeyVersion()
	case in.PublicKeyVersion < 1:
		return nil, nil, refuseKeyVersion()
	case longer(in.Nonce, 255):
		return nil, nil, refuseNonce()
	case w.Platform != ECS && w.Platform != EKS:
		return nil, nil, NotOnWorkload(RegisterUsage)
	}
	if err := c.checkWorkload(w, region, RegisterUsage, product); err != nil {
		return nil, nil, err
	}
	if err := c.entitled(w, product, now, now); err != nil {
		return nil, nil, err
	}
	keys := c.PublicKeys(product.ID)
	for i := range keys {
		if keys[i].Version == in.PublicKeyVersion {
			return product, &keys[i], nil
		}
	}
	return nil, nil, refuseUnknownKeyVersion(product, in.PublicKeyVersion)
}

// TokenKey names a ClientToken: whose it is, and its hash.
type TokenKey struct {
	Workload uint32
	Hash     [16]byte
}

// TokenKey returns the key under which the call's ClientToken is remembered.
func (in *Meter) TokenKey(workload uint32) TokenKey {
	sum := sha256.Sum256([]byte(in.ClientToken))
	k := TokenKey{Workload: workload}
	copy(k.Hash[:], sum[:])
	return k
}

// Parameters returns a hash of everything that a re-use of the call's ClientToken must not change.
func (in *Meter) Parameters() [16]byte {
	b := appendString(nil, in.ProductCode)
	b = binary.AppendVarint(b, int64(in.Timestamp))
	b = appendString(b, in.Dimension)
	b = binary.AppendVarint(b, int64(in.Quantity))
	b = AppendAllocations(b, in.Allocations)
	sum := sha256.Sum256(b)
	return [16]byte(sum[:16])
}

// RecordIDOf returns the id of the record that the line is or would be. clientToken counts only for AgentCore
// runtimes, whose usage it identifies.
func (c *Catalog) RecordIDOf(ids *RecordIDs, l *Line, clientToken string) RecordID {
	p := c.Product(l.Key.Product)
	region, dimension := c.Region(l.Key.Region).Name, p.dimensionKeys[l.Key.Dimension-1]
	switch {
	case l.Key.Agreement != 0:
		return ids.Of(l.Hour, "license", region, c.Agreement(l.Key.Agreement).LicenseARN, dimension)
	case l.Key.Workload != 0:
		w := c.Workload(l.Key.Workload)
		account := FormatAccountID(c.Account(w.Account).AccountID)
		if w.Platform == AgentCore {
			return ids.Of(l.Hour, "token", account, w.ResourceID, clientToken)
		}
		return ids.Of(l.Hour, "workload", region, p.Code, account, w.Platform.String(), w.ResourceID, dimension)
	}
	m := ids.begin(l.Hour)
	m.add("customer")
	m.add(region)
	m.add(p.Code)
	if l.account != 0 {
		m.addNumber(l.account)
	} else {
		m.addNumber(c.Account(l.Key.Buyer).AccountID)
	}
	m.add(dimension)
	return ids.end(m)
}
