package market

import (
	"strconv"

	"github.com/meterd/meterd/internal/adminapi"
	"github.com/meterd/meterd/internal/metering"
)

var partyVerbs = []Verb{
	lists(adminapi.ListSellers, Sellers),
	changes(adminapi.CreateSeller, CreateSeller),
	finds(adminapi.GetSeller, Seller),
	lists(adminapi.ListBuyers, Buyers),
	changes(adminapi.CreateBuyer, CreateBuyer),
	finds(adminapi.GetBuyer, Buyer),
	changes(adminapi.ChangeBuyer, ChangeBuyer),
}

// CreateSeller makes an account a seller. The account may be a buyer too.
func CreateSeller(in adminapi.Seller) Act[adminapi.Seller] {
	return func(p *Plan) (Find[adminapi.Seller], *metering.Error) {
		p.Summary = "create seller " + in.AccountID
		exists, err := p.addSeller(&in)
		if exists {
			err = conflict("account_id: account %s is a seller already", in.AccountID)
		}
		return Seller(adminapi.AccountPath{AccountID: in.AccountID}), err
	}
}

func (p *Plan) addSeller(in *adminapi.Seller) (exists bool, err *metering.Error) {
	_, exists, err = p.addParty(in.AccountID, in.Name, func(a *metering.Account) *bool { return &a.Seller })
	return exists, err
}

// addParty makes the account a seller or a buyer, as role says. It returns the account's id.
func (p *Plan) addParty(accountID, name string, role func(*metering.Account) *bool) (id uint32, exists bool, err *metering.Error) {
	n, err := parseAccount("account_id", accountID)
	if err := p.flaws(err, checkText("name", name, 0, maxText)); err != nil {
		return 0, false, err
	}
	a := p.account(n)
	if a == nil {
		if !p.cfg.Sandbox && metering.SandboxAccount(n) {
			return 0, false, invalid("account_id: %s is an account of sandboxes, whose keys are published: a production ledger does not take it", metering.FormatAccountID(n))
		}
		added := metering.Account{ID: p.accounts.next(), AccountID: n, Name: name}
		*role(&added) = true
		p.accounts.add(added)
		p.accountByID[n] = added.ID
		return added.ID, false, nil
	}
	exists = *role(a)
	if name != "" && name != a.Name {
		if exists || a.Name != "" {
			return a.ID, exists, conflict("name: account %s is there with the name %q, not %q: leave name out, or write the same", metering.FormatAccountID(n), a.Name, name)
		}
		p.accounts.change(a.ID).Name = name
	}
	if !exists {
		*role(p.accounts.change(a.ID)) = true
	}
	return a.ID, exists, nil
}

// Seller returns a seller.
func Seller(of adminapi.AccountPath) Find[adminapi.Seller] {
	return func(v *View) (adminapi.Seller, *metering.Error) {
		v.open(ForSeller | ForBuyer)
		n, _ := metering.ParseAccountID(of.AccountID)
		a := v.AccountByID(n)
		if a == nil || !a.Seller || !v.Scope.Sells(a.ID) {
			return adminapi.Seller{}, noSeller("account_id", of.AccountID)
		}
		return sellerShape(a), nil
	}
}

func sellerShape(a *metering.Account) adminapi.Seller {
	return adminapi.Seller{AccountID: metering.FormatAccountID(a.AccountID), Name: a.Name}
}

func noSeller(field, id string) *metering.Error {
	return notFound("%s: account %.40q is not a seller: make it one with: meterd admin seller create", field, id)
}

// Sellers lists the sellers.
func Sellers(adminapi.Paging) List[adminapi.Seller] {
	return listOf(ForSeller|ForBuyer, (*State).Accounts, func(v *View, a *metering.Account) (adminapi.Seller, bool) {
		if !a.Seller || !v.Scope.Sells(a.ID) {
			return adminapi.Seller{}, false
		}
		return sellerShape(a), true
	})
}

// CreateBuyer makes an account a buyer, with the customer identifiers and agreements given. The account may be a
// seller too.
func CreateBuyer(in adminapi.Buyer) Act[adminapi.Buyer] {
	return func(p *Plan) (Find[adminapi.Buyer], *metering.Error) {
		p.Summary = "create buyer " + in.AccountID
		if n, ok := metering.ParseAccountID(in.AccountID); ok {
			if a := p.account(n); a != nil && a.Buyer {
				return nil, conflict("account_id: account %s is a buyer already", in.AccountID)
			}
		}
		_, err := p.addBuyer(&in, nil)
		return Buyer(adminapi.AccountPath{AccountID: in.AccountID}), err
	}
}

// addBuyer adds a buyer with its customer identifiers and agreements. It adds the number of new agreements to count,
// which may be nil.
func (p *Plan) addBuyer(in *adminapi.Buyer, count *int) (exists bool, err *metering.Error) {
	id, exists, err := p.addParty(in.AccountID, in.Name, func(a *metering.Account) *bool { return &a.Buyer })
	switch {
	case err != nil:
	case in.Suspended && exists && !p.accounts.at(id).Suspended:
		err = conflict("suspended: buyer %s is there and not suspended: change it with: meterd admin buyer suspend %s", in.AccountID, in.AccountID)
	case in.Suspended && !exists:
		p.accounts.change(id).Suspended = true
	}
	if err = p.spoil(err, in.AccountID); err != nil {
		return exists, err
	}
	for i := range in.Identifiers {
		if err := p.part("customer_identifiers", i, func() *metering.Error { return p.addIdentity(id, &in.Identifiers[i]) }); err != nil {
			return exists, err
		}
	}
	for i := range in.Agreements {
		if err := p.part("agreements", i, func() *metering.Error {
			a := in.Agreements[i]
			there, err := p.addAgreementOf(in.AccountID, &a, count != nil)
			if err == nil && !there && count != nil {
				*count++
			}
			return err
		}); err != nil {
			return exists, err
		}
	}
	return exists, nil
}

// addAgreementOf adds an agreement that is given inside its buyer.
func (p *Plan) addAgreementOf(buyer string, in *adminapi.Agreement, imported bool) (exists bool, err *metering.Error) {
	if in.BuyerAccountID != "" && in.BuyerAccountID != buyer {
		if err := p.flaws(invalid("buyer_account_id: is %.40q, but the buyer is %s: leave it out", in.BuyerAccountID, buyer)); err != errFollows {
			return false, err
		}
	}
	in.BuyerAccountID = buyer
	_, exists, err = p.addAgreement(in, imported)
	return exists, err
}

func (p *Plan) addIdentity(buyer uint32, in *adminapi.CustomerIdentity) *metering.Error {
	seller, err := p.seller("seller_account_id", in.SellerAccountID)
	if err := p.flaws(err, checkText("customer_identifier", in.CustomerIdentifier, 1, maxText)); err != nil {
		return err
	}
	if buyer == 0 {
		return errFollows
	}
	return p.addCustomer(seller.ID, buyer, in.CustomerIdentifier)
}

// seller returns the seller of the given 12 digits.
func (p *Plan) seller(field, accountID string) (*metering.Account, *metering.Error) {
	n, err := parseAccount(field, accountID)
	if err == nil {
		if a := p.account(n); a != nil && a.Seller {
			return a, nil
		}
		err = noSeller(field, accountID)
	}
	return nil, p.absent(err, accountID, "sellers")
}

// addCustomer stores the identifier by which the seller's products know the buyer. It is the same for all of these
// products, and never changes (metering-api 2.8).
func (p *Plan) addCustomer(seller, buyer uint32, identifier string) *metering.Error {
	if err := checkText("customer_identifier", identifier, 1, maxText); err != nil {
		return err
	}
	switch known := p.customerIdentifier(seller, buyer); {
	case known == identifier:
		return nil
	case known != "":
		return conflict("customer_identifier: seller %s knows buyer %s as %q, not %q, and that does not change: leave customer_identifier out",
			p.digits(seller), p.digits(buyer), known, identifier)
	}
	if other := p.customerNamed(seller, identifier); other != nil {
		return conflict("customer_identifier: %q is how seller %s knows buyer %s: choose another one", identifier, p.digits(seller), metering.FormatAccountID(other.AccountID))
	}
	p.customers = append(p.customers, metering.Customer{Seller: seller, Buyer: buyer, Identifier: identifier})
	p.customer[subscriber{seller, buyer}] = identifier
	p.buyerOf[customerName{seller, identifier}] = buyer
	return nil
}

// makeCustomer makes sure that the seller's products know the buyer by an identifier. The identifier is derived from
// the two accounts, so it is the same in every copy of the ledger.
func (p *Plan) makeCustomer(seller, buyer uint32) *metering.Error {
	if p.customerIdentifier(seller, buyer) != "" {
		return nil
	}
	for try := 0; ; try++ {
		identifier := spell(mixedAlphanumeric, 12, p.derive("customer identifier", p.digits(seller), p.digits(buyer), strconv.Itoa(try)))
		if len(identifier) == 12 && p.customerNamed(seller, identifier) == nil {
			return p.addCustomer(seller, buyer, identifier)
		}
	}
}

// digits returns the 12 digits of an account.
func (p *Plan) digits(account uint32) string {
	return metering.FormatAccountID(p.accounts.at(account).AccountID)
}

// buyer returns the buyer of the given 12 digits.
func (p *Plan) buyer(field, accountID string) (*metering.Account, *metering.Error) {
	n, err := parseAccount(field, accountID)
	if err == nil {
		if a := p.account(n); a != nil && a.Buyer {
			return a, nil
		}
		err = noBuyer(field, accountID)
	}
	return nil, p.absent(err, accountID, "buyers")
}

func noBuyer(field, id string) *metering.Error {
	return notFound("%s: account %.40q is not a buyer: make it one with: meterd admin buyer create", field, id)
}

// ChangeBuyer suspends a buyer, or ends its suspension.
func ChangeBuyer(in adminapi.BuyerChange) Act[adminapi.Buyer] {
	return func(p *Plan) (Find[adminapi.Buyer], *metering.Error) {
		if in.Suspended == nil {
			return nil, invalid("suspended: is missing: give true or false")
		}
		p.Summary = "end the suspension of buyer " + in.AccountID
		if *in.Suspended {
			p.Summary = "suspend buyer " + in.AccountID
		}
		a, err := p.buyer("account_id", in.AccountID)
		if err != nil {
			return nil, err
		}
		p.accounts.change(a.ID).Suspended = *in.Suspended
		return Buyer(adminapi.AccountPath{AccountID: in.AccountID}), nil
	}
}

// Buyer returns a buyer, with its customer identifiers.
func Buyer(of adminapi.AccountPath) Find[adminapi.Buyer] {
	return func(v *View) (adminapi.Buyer, *metering.Error) {
		v.open(ForSeller | ForBuyer)
		n, _ := metering.ParseAccountID(of.AccountID)
		a := v.AccountByID(n)
		if a == nil || !a.Buyer || !v.Knows(a.ID) {
			return adminapi.Buyer{}, noBuyer("account_id", of.AccountID)
		}
		return v.buyerShape(a), nil
	}
}

func (v *View) buyerShape(a *metering.Account) adminapi.Buyer {
	b := adminapi.Buyer{AccountID: metering.FormatAccountID(a.AccountID), Name: a.Name, Suspended: a.Suspended}
	for _, c := range v.Customers(a.ID) {
		if !v.Scope.Sells(c.Seller) {
			continue // a seller does not see how other sellers know the buyer
		}
		b.Identifiers = append(b.Identifiers, adminapi.CustomerIdentity{SellerAccountID: v.digits(c.Seller), CustomerIdentifier: c.Identifier})
	}
	return b
}

// Buyers lists the buyers.
func Buyers(adminapi.Paging) List[adminapi.Buyer] {
	return listOf(ForSeller|ForBuyer, (*State).Accounts, func(v *View, a *metering.Account) (adminapi.Buyer, bool) {
		if !a.Buyer || !v.Knows(a.ID) {
			return adminapi.Buyer{}, false
		}
		return v.buyerShape(a), true
	})
}
