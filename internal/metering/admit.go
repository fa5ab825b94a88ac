package metering

import (
	"crypto/sha256"
	"encoding/binary"
	"regexp"
	"unicode/utf8"
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
	licensed := 0
	for i := range in.Records {
		if in.Records[i].LicenseARN != "" {
			licensed++
		}
	}
	switch {
	case in.ProductCode != "" && licensed > 0:
		return nil, Errorf(InvalidProductCode, "The call has both ProductCode and LicenseArn. A LicenseArn implies its product: leave ProductCode out, or leave LicenseArn out for a product without concurrent agreements.")
	case in.ProductCode == "" && licensed < len(in.Records):
		return nil, Errorf(InvalidProductCode, "The call has a record with neither ProductCode nor LicenseArn. Send LicenseArn with each record, or the ProductCode of a product without concurrent agreements.")
	}
	var product *Product
	var err *Error
	if in.ProductCode != "" {
		if product, err = c.sellersProduct(in.ProductCode, seller); err != nil {
			return nil, err
		}
		if product.Concurrent {
			return nil, Errorf(InvalidProductCode, "Product %q uses concurrent agreements: leave ProductCode out and send LicenseArn and CustomerAWSAccountId with each record.", in.ProductCode)
		}
	}
	window := c.Settings.BatchTimestamps(now)
	known := c.known(in, product)
	for i := range in.Records {
		r := &in.Records[i]
		line := Line{Timestamp: r.Timestamp, Hour: r.Timestamp.Hour(), Quantity: r.Quantity, Allocations: r.Allocations}
		line.Key.Region = region
		var agreement *Agreement
		standing := c.standings.get(known[i])
		if standing != nil {
			line.Key.Buyer, line.Form, line.account = standing.buyer, ByCustomerAWSAccountID, known[i].account()
		} else if r.LicenseARN != "" {
			if agreement, err = c.licence(r, i, seller); err != nil {
				return nil, err
			}
			if product != nil && product.ID != agreement.Product {
				return nil, Errorf(InvalidLicense, "UsageRecords[%d].LicenseArn belongs to product %q, but an earlier record's to %q. Send the records of each product in a call of their own.", i, c.Product(agreement.Product).Code, product.Code)
			}
			product = c.Product(agreement.Product)
			line.Key.Agreement, line.Key.Buyer, line.Form = agreement.ID, agreement.Buyer, ByLicense
		} else if line.Key.Buyer, line.Form, err = c.buyer(r, i, seller); err != nil {
			return nil, err
		}
		if c.Settings.MixedIdentifiers == "refuse" && i > 0 && line.Form != ByLicense && line.Form != lines[len(lines)-1].Form {
			return nil, Errorf(InvalidCustomerIdentifier, "UsageRecords[%d] names its buyer in another way than the record before it. Use CustomerAWSAccountId in all records of a call, or CustomerIdentifier in all.", i)
		}
		if i == 0 && !product.sells(region) {
			return nil, Errorf(DisabledAPI, "Product %q is not metered in %s. Call a region that the product is enabled in.", product.Code, c.Region(region).Name)
		}
		line.Key.Product = product.ID
		var ok bool
		if line.Key.Dimension, ok = product.Dimension(r.Dimension); !ok {
			return nil, Errorf(InvalidUsageDimension, "UsageRecords[%d]: product %q has no dimension %q. Dimension names are case-sensitive API names; nothing of this call was stored.", i, product.Code, r.Dimension)
		}
		if !window.Hold(r.Timestamp) {
			if err = c.Settings.CheckBatchTimestamp(r.Timestamp, now); err != nil {
				err.Message = "UsageRecords[" + itoa(i) + "]: " + err.Message
				return nil, err
			}
		}
		if err = checkAllocations(r.Allocations, r.Quantity); err != nil {
			err.Message = "UsageRecords[" + itoa(i) + "]: " + err.Message
			return nil, err
		}
		if standing != nil && standing.subscribed(r.Timestamp, now) && !c.isSuspended(standing.buyer) {
			line.Subscribed = true
		} else if agreement != nil {
			line.Subscribed, err = c.licensed(agreement, r.Timestamp, now)
		} else {
			line.Subscribed, err = c.subscribed(product.ID, line.Key.Buyer, r.Timestamp, now)
		}
		if err != nil {
			err.Message = "UsageRecords[" + itoa(i) + "]: " + err.Message
			return nil, err
		}
		lines = append(lines, line)
	}
	return lines, nil
}

// sellersProduct returns the product of the code if the account publishes it.
func (c *Catalog) sellersProduct(code string, seller uint32) (*Product, *Error) {
	p := c.ProductByCode(code)
	if p != nil && p.Seller == seller {
		return p, nil
	}
	if q := c.ProductByID(code); q != nil && q.Seller == seller {
		return nil, Errorf(InvalidProductCode, "%q is a product id, not a product code. Send the product code of the listing.", code)
	}
	return nil, Errorf(InvalidProductCode, "Product code %q does not exist or was not published by the calling account. Send a product code of your own, with the keys of the account that published it.", code)
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
		return nil, Errorf(InvalidLicense, "UsageRecords[%d] has both LicenseArn and CustomerIdentifier. With LicenseArn, name the buyer by CustomerAWSAccountId.", i)
	}
	if r.CustomerAWSAccountID == "" {
		return nil, Errorf(InvalidCustomerIdentifier, "UsageRecords[%d] has a LicenseArn but no CustomerAWSAccountId. Send the account id of the buyer who holds the licence.", i)
	}
	a := c.AgreementByLicense(r.LicenseARN)
	if a == nil || c.Product(a.Product).Seller != seller {
		if !ValidLicenseARN(r.LicenseARN) {
			return nil, Errorf(InvalidLicense, "UsageRecords[%d].LicenseArn %.200q is not a licence ARN. Send the LicenseArn that ResolveCustomer returned, such as arn:aws:license-manager::111122223333:license:l-….", i, r.LicenseARN)
		}
		return nil, Errorf(InvalidLicense, "UsageRecords[%d].LicenseArn %.200q is not a licence for a product of the calling account. Send the LicenseArn that ResolveCustomer returned.", i, r.LicenseARN)
	}
	if n, ok := ParseAccountID(r.CustomerAWSAccountID); !ok || c.Account(a.Buyer).AccountID != n {
		return nil, Errorf(InvalidLicense, "UsageRecords[%d]: the licence %.200q does not belong to account %.20s. Send the CustomerAWSAccountId that came with the LicenseArn.", i, r.LicenseARN, r.CustomerAWSAccountID)
	}
	return a, nil
}

// buyer returns the number of the account that the record names, 0 if it names one that is not known, and how.
func (c *Catalog) buyer(r *UsageRecord, i int, seller uint32) (uint32, Form, *Error) {
	switch {
	case r.CustomerIdentifier != "" && r.CustomerAWSAccountID != "":
		return 0, 0, Errorf(InvalidCustomerIdentifier, "UsageRecords[%d] has both CustomerIdentifier and CustomerAWSAccountId. Send one of them.", i)
	case r.CustomerIdentifier == "" && r.CustomerAWSAccountID == "":
		return 0, 0, Errorf(InvalidCustomerIdentifier, "UsageRecords[%d] has neither CustomerAWSAccountId nor CustomerIdentifier. Send one of them.", i)
	case r.CustomerIdentifier != "":
		if a := c.Customer(seller, r.CustomerIdentifier); a != nil {
			return a.ID, ByCustomerIdentifier, nil
		}
		if c.Settings.UnknownCustomer == "not-subscribed" {
			return 0, ByCustomerIdentifier, nil
		}
		return 0, 0, Errorf(InvalidCustomerIdentifier, "UsageRecords[%d].CustomerIdentifier %q does not exist. Send the CustomerIdentifier that ResolveCustomer returned; nothing of this call was stored.", i, r.CustomerIdentifier)
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
		return false, Errorf(InvalidLicense, "Timestamp %v lies before the licence became active at %v.", ts, a.Start)
	case state == Ending && ts > a.EndingAt:
		return false, Errorf(InvalidLicense, "Timestamp %v lies after the agreement began to end at %v. In the last hour only usage from before that is taken.", ts, a.EndingAt)
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
		return false, Errorf(TimestampOutOfBounds, "Timestamp %v lies before the buyer's subscription began at %v.", ts, early.Start)
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
		return Line{}, Errorf(InvalidUsageDimension, "Product %q has no dimension %q. UsageDimension is a case-sensitive API name.", product.Code, in.Dimension)
	}
	if err := c.Settings.CheckMeterTimestamp(in.Timestamp, now); err != nil {
		return Line{}, err
	}
	allocations := in.Allocations
	if w.Platform == AgentCore {
		if !in.HasClientToken {
			return Line{}, constraint("clientToken", "Member must not be null", "From an AgentCore runtime each usage needs a ClientToken of its own: it is what tells a retry from new usage.")
		}
		if len(allocations) > 0 && c.Settings.AgentCoreTags == "refuse" {
			return Line{}, Errorf(InvalidUsageAllocations, "UsageAllocations are not supported for usage from an AgentCore runtime. Leave them out.")
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
		return constraint("timestamp", "Member must not be null", "Send the time of the usage as seconds since 1970-01-01T00:00:00Z.")
	}
	if in.HasClientToken && (in.ClientToken == "" || utf8.RuneCountInString(in.ClientToken) > 64) {
		return constraint("clientToken", "Member must have length between 1 and 64", "Send a UUID, or leave ClientToken out.")
	}
	return checkAmount(-1, in.Dimension, "UsageDimension", in.Quantity, "UsageQuantity", in.Allocations)
}

// workloadsProduct returns the product that a workload names in a call of the operation, which is for software that runs
// at the buyer's: AWS has SaaS metered by BatchMeterUsage (metering-api 2.6, 3.5).
func (c *Catalog) workloadsProduct(code string, sent bool, op Operation) (*Product, *Error) {
	if !sent {
		return nil, constraint("productCode", "Member must not be null", "Send the product code of the listing.")
	}
	if err := checkProductCode(code); err != nil {
		return nil, err
	}
	p := c.ProductByCode(code)
	if p == nil {
		if c.ProductByID(code) != nil {
			return nil, Errorf(InvalidProductCode, "%q is a product id, not a product code. Send the product code of the listing.", code)
		}
		return nil, Errorf(InvalidProductCode, "Product code %q does not exist. Send the product code of the listing.", code)
	}
	if p.Type == SaaS && c.Settings.SaaSWorkloads == "refuse" {
		return nil, Errorf(InvalidProductCode, "Product %q is SaaS, and %v is for containers and AMIs. Meter it by BatchMeterUsage with the seller's own keys.", code, op)
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
		return Errorf(kind, "%v must be called in the region that the resource runs in: %s runs in %s, but the call was signed for %s.", op, w.ResourceID, c.Region(w.Region).Name, c.Region(region).Name)
	}
	if err := c.CheckRegion(region, op, w.Platform); err != nil {
		return err
	}
	if !p.sells(region) {
		return Errorf(kind, "Product %q is not metered in %s. Run the software in a region that the product is enabled in.", p.Code, c.Region(region).Name)
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
		return Errorf(CustomerNotEntitled, "Account %s is suspended: its usage is not taken until the suspension ends.", FormatAccountID(c.Account(w.Account).AccountID))
	}
	if c.Registered(w.ID, p.ID) {
		return c.agreed(p.ID, w.Account, ts, now)
	}
	ok, err := c.subscribed(p.ID, w.Account, ts, now)
	if err == nil && !ok {
		err = Errorf(CustomerNotEntitled, "Account %s has no active agreement for product %q. The buyer must subscribe before the software is started.", FormatAccountID(c.Account(w.Account).AccountID), p.Code)
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
		return Errorf(TimestampOutOfBounds, "Timestamp %v lies before the buyer's agreement began at %v, and in no earlier one. Send the time of the usage.", ts, later.Start)
	}
	return nil
}

// NotOnWorkload is the refusal of MeterUsage and RegisterUsage for callers that are no workload.
func NotOnWorkload(op Operation) *Error {
	if op == RegisterUsage {
		return Errorf(PlatformNotSupported, "This operation can only be called from within an ECS task or an EKS pod. Call it with the credentials of the task's or pod's own role.")
	}
	return Errorf(CustomerNotEntitled, "%v must be called with the credentials of the resource that runs the software (EC2 instance role, ECS task role, EKS pod role or AgentCore execution role), not with keys of a user or a plain role.", op)
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
		return nil, nil, constraint("publicKeyVersion", "Member must not be null", "Send the version of the public key that your software verifies with.")
	case in.PublicKeyVersion < 1:
		return nil, nil, constraint("publicKeyVersion", "Member must have value greater than or equal to 1", "Send the version of the public key that your software verifies with.")
	case utf8.RuneCountInString(in.Nonce) > 255:
		return nil, nil, constraint("nonce", "Member must have length less than or equal to 255", "Send a shorter random string.")
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
	return nil, nil, Errorf(InvalidPublicKeyVersion, "Product %q has no public key version %d. Send the version that was shown with the public key of the product.", product.Code, in.PublicKeyVersion)
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
