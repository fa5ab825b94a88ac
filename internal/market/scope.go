package market

import "github.com/meterd/meterd/internal/metering"

// Scope is what an operator may see and change. The zero Scope, that of the operator of the marketplace, is
// everything.
type Scope struct {
	Of      Party
	Account uint32 // the id of the party's account; 0 for the operator of the marketplace
}

// Party is whom an operator acts for. Parties are bits, so that an act can be open to several.
type Party uint8

// The parties besides the operator of the marketplace, to whom every act is open.
const (
	ForSeller Party = 1 << iota
	ForBuyer
)

// open opens an act or a read to operators who act for the given parties. Every act or read that is not for the
// operator of the marketplace alone begins with it, and then checks with Covers what belongs to an account. Acts and
// reads that are not opened are refused to these operators, whatever they return: see [View.Denied].
func (v *View) open(to Party) { v.opened |= to }

// Denied returns the refusal of an act or a read that was made without being opened to the scope, or nil.
func (v *View) Denied() *metering.Error {
	if v.Scope.Of&^v.opened == 0 {
		return nil
	}
	return metering.Errorf(metering.AccessDenied, "The token is a %s's, which may not do this: use one of the operator of the marketplace.", v.Scope.Of)
}

func (p Party) String() string {
	if p == ForBuyer {
		return "buyer"
	}
	return "seller"
}

// Covers reports whether what belongs to the account is in the scope.
func (s Scope) Covers(account uint32) bool { return s.Of == 0 || s.Account == account }

// Sells reports whether products of the seller are in the scope. All products are in a buyer's scope, because it can
// buy any of them.
func (s Scope) Sells(seller uint32) bool { return s.Of != ForSeller || s.Account == seller }

// Has reports whether the agreement is in the scope. A seller's scope has the agreements for its products.
func (v *View) Has(a *metering.Agreement) bool {
	if v.Scope.Of == ForSeller {
		return v.Scope.Account == v.Product(a.Product).Seller
	}
	return v.Scope.Covers(a.Buyer)
}

// Knows reports whether the buyer is in the scope. A seller's scope has the buyers that its products know by an
// identifier.
func (v *View) Knows(buyer uint32) bool {
	if v.Scope.Of == ForSeller {
		return v.CustomerIdentifier(v.Scope.Account, buyer) != ""
	}
	return v.Scope.Covers(buyer)
}

// InScope returns the scope of an operator who acts for a seller or buyer, the account of the given 12 digits.
func (s *State) InScope(of Party, accountID string) (Scope, *metering.Error) {
	n, err := parseAccount("account_id", accountID)
	if err != nil {
		return Scope{}, err
	}
	a := s.AccountByID(n)
	switch {
	case of == ForSeller && (a == nil || !a.Seller):
		return Scope{}, noSeller("account_id", accountID)
	case of == ForBuyer && (a == nil || !a.Buyer):
		return Scope{}, noBuyer("account_id", accountID)
	}
	return Scope{of, a.ID}, nil
}
