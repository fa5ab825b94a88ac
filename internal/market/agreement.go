package market

import (
	"fmt"

	"github.com/meterd/meterd/internal/adminapi"
	"github.com/meterd/meterd/internal/metering"
)

var agreementVerbs = []Verb{
	lists(adminapi.ListAgreements, Agreements),
	changes(adminapi.CreateAgreement, CreateAgreement),
	finds(adminapi.GetAgreement, Agreement),
	changes(adminapi.CancelAgreement, CancelAgreement),
	changes(adminapi.EndAgreement, EndAgreement),
}

// CreateAgreement makes an agreement of a buyer for a product, and the licence that comes with it.
func CreateAgreement(in adminapi.Agreement) Act[adminapi.Agreement] {
	return func(p *Plan) (Find[adminapi.Agreement], *metering.Error) {
		id, exists, err := p.addAgreement(&in, false)
		if err != nil {
			return nil, err
		}
		a := p.agreements.at(id)
		if exists {
			return nil, conflict("agreement_id: agreement %s is there already, with the licence %s", a.AgreementID, a.LicenseARN)
		}
		p.Summary = "create agreement " + a.AgreementID + " of " + in.BuyerAccountID + " for product " + in.ProductCode
		return Agreement(adminapi.AgreementPath{AgreementID: a.AgreementID}), nil
	}
}

// addAgreement adds an agreement. In an import, an agreement that gives neither an agreement id nor a licence matches
// any agreement from before, for the same product and buyer, whose times are the same as far as they are given.
func (p *Plan) addAgreement(in *adminapi.Agreement, imported bool) (id uint32, exists bool, err *metering.Error) {
	product, noProduct := p.productNamed("product_code", in.ProductCode)
	buyer, noBuyer := p.buyer("buyer_account_id", in.BuyerAccountID)
	var badID, badARN, badCustomer *metering.Error
	if in.AgreementID != "" && !identifier(in.AgreementID, "agmt-") {
		badID = invalid("agreement_id: %.80q must begin with agmt- and go on with letters, digits and hyphens, at most 255 in all: write such an id, or leave it out", in.AgreementID)
	}
	if in.LicenseARN != "" && !metering.ValidLicenseARN(in.LicenseARN) {
		badARN = invalid("license_arn: %.120q is not the ARN of a licence: write one such as %s, or leave it out", in.LicenseARN, "arn:aws:license-manager::111122223333:license:l-0123456789abcdef0123456789abcdef")
	}
	if in.CustomerIdentifier != "" {
		badCustomer = checkText("customer_identifier", in.CustomerIdentifier, 1, maxText)
	}
	a := metering.Agreement{AgreementID: in.AgreementID, LicenseARN: in.LicenseARN}
	if err := p.flaws(noProduct, noBuyer, badID, badARN, badCustomer, p.times(&a, in)); err != nil {
		return 0, false, err
	}
	a.Product, a.Buyer = product.ID, buyer.ID
	if in.CustomerIdentifier != "" {
		badCustomer = p.addCustomer(product.Seller, buyer.ID, in.CustomerIdentifier)
	}
	old := p.agreement(in.AgreementID)
	if old == nil {
		old = p.agreementOfLicense(in.LicenseARN)
	}
	if old != nil {
		return old.ID, true, p.flaws(append(p.sameAgreement(old, &a, in), badCustomer)...)
	}
	if badCustomer != nil {
		return 0, false, badCustomer
	}
	if imported && in.AgreementID == "" && in.LicenseARN == "" {
		if old := p.unmatched(&a, in); old != nil {
			return old.ID, true, nil
		}
	}
	if !product.Concurrent {
		if err := p.checkLegacy(product, &a); err != nil {
			return 0, false, err
		}
	}
	if err := p.makeCustomer(product.Seller, buyer.ID); err != nil {
		return 0, false, err
	}
	if a.AgreementID == "" {
		if a.AgreementID, err = p.name("agmt-", 25); err != nil {
			return 0, false, err
		}
	}
	if a.LicenseARN == "" {
		if a.LicenseARN, err = p.licenseARN(p.accounts.at(product.Seller).AccountID); err != nil {
			return 0, false, err
		}
	}
	a.ID = p.agreements.next()
	if before := p.newestAgreement(a.Product, a.Buyer); before != nil {
		p.previous[a.ID] = before.ID
	}
	p.newest[subscriber{a.Product, a.Buyer}] = a.ID
	p.agreements.add(a)
	if in.AgreementID != "" { // an id that was only made here cannot be named elsewhere in the plan
		p.agreementByID[a.AgreementID] = a.ID
	}
	if in.LicenseARN != "" {
		p.byLicense[a.LicenseARN] = a.ID
	}
	return a.ID, false, nil
}

// times fills in when the agreement starts and ends.
func (p *Plan) times(a *metering.Agreement, in *adminapi.Agreement) *metering.Error {
	var badStart, badEnding, badEnd *metering.Error
	a.Start, badStart = Instant("start_time", in.StartTime)
	a.EndingAt, badEnding = Instant("ending_time", in.EndingTime)
	a.EndedAt, badEnd = Instant("end_time", in.EndTime)
	if badStart != nil || badEnding != nil || badEnd != nil {
		return p.flaws(badStart, badEnding, badEnd)
	}
	if p.unread("start_time", "ending_time", "end_time") {
		return errFollows
	}
	if a.Start == 0 {
		a.Start = p.Now
	}
	switch {
	case a.EndingAt == 0:
		a.EndingAt = a.EndedAt
	case a.EndedAt == 0:
		a.EndedAt = a.EndingAt.Add(p.cfg.Settings.FinalWindow)
	}
	if a.EndingAt != 0 && a.EndingAt < a.Start {
		return invalid("ending_time: %v lies before the start, %v: give a later time, or an earlier start_time", a.EndingAt, a.Start)
	}
	if a.EndedAt < a.EndingAt {
		return invalid("end_time: %v lies before ending_time, %v: give a later time, or leave it out", a.EndedAt, a.EndingAt)
	}
	return nil
}

// sameAgreement says where in, whose checked form is a, differs from old, the agreement that is there.
func (p *Plan) sameAgreement(old, a *metering.Agreement, in *adminapi.Agreement) (found []*metering.Error) {
	differs := func(field, there, given string) {
		found = append(found, conflict("%s: agreement %s is there with %s, not %s: write the same, or another agreement_id and license_arn", field, old.AgreementID, there, given))
	}
	if a.Product != old.Product {
		differs("product_code", p.products.at(old.Product).Code, in.ProductCode)
	}
	if a.Buyer != old.Buyer {
		differs("buyer_account_id", p.digits(old.Buyer), in.BuyerAccountID)
	}
	if in.AgreementID != "" && in.AgreementID != old.AgreementID {
		found = append(found, conflict("license_arn: %s is the licence of agreement %s: choose another one, or leave it out", in.LicenseARN, old.AgreementID))
	}
	if in.LicenseARN != "" && in.LicenseARN != old.LicenseARN {
		differs("license_arn", old.LicenseARN, in.LicenseARN)
	}
	if in.StartTime != nil && a.Start != old.Start {
		differs("start_time", moment(old.Start), moment(a.Start))
	}
	if in.EndingTime != nil && a.EndingAt != old.EndingAt {
		differs("ending_time", moment(old.EndingAt), moment(a.EndingAt))
	}
	if in.EndTime != nil && a.EndedAt != old.EndedAt {
		differs("end_time", moment(old.EndedAt), moment(a.EndedAt))
	}
	return found
}

func moment(i metering.Instant) string {
	if i == 0 {
		return "none"
	}
	return i.String()
}

// unmatched returns the oldest agreement from before the plan that agrees with in and that unmatched has not yet
// returned.
func (p *Plan) unmatched(a *metering.Agreement, in *adminapi.Agreement) (found *metering.Agreement) {
	for old := p.State.NewestAgreement(a.Product, a.Buyer); old != nil; old = p.State.PreviousAgreement(old) {
		if _, taken := p.matched[old.ID]; !taken && len(p.sameAgreement(old, a, in)) == 0 {
			found = old
		}
	}
	if found != nil {
		p.matched[found.ID] = struct{}{}
	}
	return found
}

// checkLegacy reports whether the buyer of a legacy product may have the agreement besides those it has: a buyer has
// one at a time, but may subscribe again while the last one is ending (metering-api 2.10).
func (p *Plan) checkLegacy(product *metering.Product, a *metering.Agreement) *metering.Error {
	for old := p.newestAgreement(a.Product, a.Buyer); old != nil; old = p.before(old) {
		if (old.EndingAt == 0 || a.Start < old.EndingAt) && (a.EndingAt == 0 || old.Start < a.EndingAt) {
			return conflict("buyer_account_id: buyer %s has the agreement %s for product %q at that time: a legacy product allows one at a time, so cancel that one first with: meterd admin agreement cancel %s",
				p.digits(a.Buyer), old.AgreementID, product.Code, old.AgreementID)
		}
	}
	return nil
}

// CancelAgreement makes an agreement begin to end, now or at a later time. Usage from before that time is still taken
// for one hour (metering-api 2.10).
func CancelAgreement(in adminapi.Cancellation) Act[adminapi.Agreement] {
	return endAgreement(in.AgreementID, ForBuyer, func(p *Plan, a *metering.Agreement) *metering.Error {
		at, err := Instant("at", in.At)
		switch {
		case err != nil:
			return err
		case at == 0:
			at = p.Now
		case at < p.Now:
			return invalid("at: %v lies in the past, the time is %v: leave it out to cancel now", at, p.Now)
		}
		if s := a.State(p.Now); s == metering.Ending || s == metering.Ended {
			return conflict("agreement_id: agreement %s is %v already, since %v", in.AgreementID, s, a.EndingAt)
		}
		p.Summary = fmt.Sprintf("cancel agreement %s at %v", in.AgreementID, at)
		a.EndingAt, a.EndedAt = at, at.Add(p.cfg.Settings.FinalWindow)
		return nil
	})
}

// EndAgreement ends an agreement at once: no more usage is taken for it.
func EndAgreement(of adminapi.AgreementPath) Act[adminapi.Agreement] {
	return endAgreement(of.AgreementID, 0, func(p *Plan, a *metering.Agreement) *metering.Error {
		if a.State(p.Now) == metering.Ended {
			return conflict("agreement_id: agreement %s has ended already, at %v", of.AgreementID, a.EndedAt)
		}
		p.Summary = "end agreement " + of.AgreementID
		if a.EndingAt == 0 || a.EndingAt > p.Now {
			a.EndingAt = p.Now
		}
		a.EndedAt = p.Now
		return nil
	})
}

func endAgreement(agreementID string, open Party, change func(*Plan, *metering.Agreement) *metering.Error) Act[adminapi.Agreement] {
	return func(p *Plan) (Find[adminapi.Agreement], *metering.Error) {
		p.open(open)
		a := p.agreement(agreementID)
		if a == nil || !p.Has(a) {
			return nil, noAgreement(agreementID)
		}
		return Agreement(adminapi.AgreementPath{AgreementID: agreementID}), change(p, p.agreements.change(a.ID))
	}
}

func noAgreement(id string) *metering.Error {
	return notFound("agreement_id: there is no agreement %.80q: meterd admin agreement list shows them", id)
}

// Agreement returns an agreement.
func Agreement(of adminapi.AgreementPath) Find[adminapi.Agreement] {
	return func(v *View) (adminapi.Agreement, *metering.Error) {
		v.open(ForSeller | ForBuyer)
		a := v.AgreementByID(of.AgreementID)
		if a == nil || !v.Has(a) {
			return adminapi.Agreement{}, noAgreement(of.AgreementID)
		}
		return v.agreementShape(a), nil
	}
}

func (v *View) agreementShape(a *metering.Agreement) adminapi.Agreement {
	product := v.Product(a.Product)
	return adminapi.Agreement{AgreementID: a.AgreementID, ProductCode: product.Code, BuyerAccountID: v.digits(a.Buyer), LicenseARN: a.LicenseARN,
		CustomerIdentifier: v.CustomerIdentifier(product.Seller, a.Buyer), StartTime: timeOf(a.Start), EndingTime: timeOf(a.EndingAt), EndTime: timeOf(a.EndedAt),
		Status: a.State(v.Now).String()}
}

// Agreements lists the agreements that the filter chooses.
func Agreements(f adminapi.AgreementPaging) List[adminapi.Agreement] {
	return func(v *View) (none Things[adminapi.Agreement], err *metering.Error) {
		v.open(ForSeller | ForBuyer)
		var product, buyer uint32
		if f.ProductCode != "" {
			found := v.ProductByCode(f.ProductCode)
			if found == nil || !v.Scope.Sells(found.Seller) {
				return none, noProduct("product_code", f.ProductCode, v.productOfID(f.ProductCode))
			}
			product = found.ID
		}
		if f.BuyerAccountID != "" {
			n, err := parseAccount("buyer_account_id", f.BuyerAccountID)
			if err != nil {
				return none, err
			}
			found := v.AccountByID(n)
			if found == nil || !found.Buyer || !v.Knows(found.ID) {
				return none, noBuyer("buyer_account_id", f.BuyerAccountID)
			}
			buyer = found.ID
		}
		return listOf(ForSeller|ForBuyer, (*State).Agreements, func(v *View, a *metering.Agreement) (adminapi.Agreement, bool) {
			if !v.Has(a) || product != 0 && a.Product != product || buyer != 0 && a.Buyer != buyer || f.Status != "" && a.State(v.Now).String() != f.Status {
				return adminapi.Agreement{}, false
			}
			return v.agreementShape(a), true
		})(v)
	}
}
