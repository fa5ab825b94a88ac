package ledger

import (
	"encoding/hex"
	"fmt"

	"github.com/meterd/meterd/internal/adminapi"
	"github.com/meterd/meterd/internal/iam"
	"github.com/meterd/meterd/internal/metering"
	"github.com/meterd/meterd/internal/store"
)

// CreateToken issues a registration token, as the marketplace hands one to a buyer who sets up an account. A sandbox
// takes a given token.
func (l *Ledger) CreateToken(op Operator, in adminapi.TokenRequest) (adminapi.Token, error) {
	var out adminapi.Token
	err := l.act(op, func(p *plan) *metering.Error {
		t, exists, err := p.addToken(&in)
		if err == nil && exists {
			err = conflict("registration_token: there is such a token already: choose another one, or leave it out to have one made")
		}
		if err != nil {
			return err
		}
		product, buyer := p.products.at(t.Product).Code, p.digits(t.Buyer)
		p.act = fmt.Sprintf("issue registration token %x for buyer %s and product %s", t.ID, buyer, product)
		out = l.tokenShape(&t, product, buyer)
		if in.RegistrationToken != "" {
			out.RegistrationToken = in.RegistrationToken
		}
		return nil
	})
	if err != nil {
		return adminapi.Token{}, err
	}
	return out, nil
}

// addToken adds a registration token, made unless it is given. One that is there already must stand for the same.
func (p *plan) addToken(in *adminapi.TokenRequest) (t store.RegistrationToken, exists bool, err *metering.Error) {
	var buyer *metering.Account
	var badBuyer, badTime, badToken *metering.Error
	product, badProduct := p.productNamed("product_code", in.ProductCode)
	if badProduct == nil {
		buyer, badBuyer = p.tokenBuyer(product, in.Buyer)
	}
	t.Issued, badTime = instant("issued_at", in.IssuedAt)
	switch {
	case t.Issued == 0:
		t.Issued = p.now
	case !p.l.Sandbox():
		badTime = conflict("issued_at: a production ledger issues tokens now: leave it out")
	}
	t.Expires = t.Issued.Add(p.l.settings.TokenLife)
	if in.RegistrationToken != "" {
		t.ID, badToken = p.l.givenToken(in.RegistrationToken)
	}
	if err := p.flaws(badProduct, badBuyer, badTime, badToken); err != nil {
		return t, false, err
	}
	t.Product, t.Buyer = product.ID, buyer.ID
	if in.RegistrationToken != "" {
		old, err := p.token(t.ID)
		if err != nil {
			return t, false, err
		}
		if old != nil {
			if old.Product != t.Product || old.Buyer != t.Buyer {
				return t, true, conflict("registration_token: it is there for buyer %s and product %s: write the same, or another token", p.digits(old.Buyer), p.products.at(old.Product).Code)
			}
			return *old, true, nil
		}
	} else {
		if err := p.read(t.ID[6:]); err != nil {
			return t, false, err
		}
		for i := range 6 {
			t.ID[i] = byte(t.Issued >> (40 - 8*i))
		}
	}
	// ResolveCustomer may return it before there is an agreement.
	if err := p.makeCustomer(product.Seller, buyer.ID); err != nil {
		return t, false, err
	}
	if a := p.newestAgreement(product.ID, buyer.ID); a != nil {
		t.Agreement = a.ID
	}
	p.tokens = append(p.tokens, t)
	return t, false, nil
}

// token returns the registration token of the given id, also one that the plan adds, or nil.
func (p *plan) token(id [16]byte) (found *store.RegistrationToken, err *metering.Error) {
	for i := range p.tokens {
		if p.tokens[i].ID == id {
			return &p.tokens[i], nil
		}
	}
	bad := p.l.db.View(func(r *store.Reader) (err error) {
		found, err = r.RegistrationToken(id)
		return err
	})
	if bad != nil {
		return nil, metering.Errorf(metering.Internal, "reading a registration token: %v", bad)
	}
	return found, nil
}

// tokenBuyer returns the buyer of the given 12 digits, or of the given customer identifier.
func (p *plan) tokenBuyer(product *metering.Product, name string) (*metering.Account, *metering.Error) {
	if n, ok := metering.ParseAccountID(name); ok {
		if a := p.account(n); a != nil && a.Buyer {
			return a, nil
		}
	}
	if a := p.customerNamed(product.Seller, name); a != nil {
		return a, nil
	}
	if iam.ValidAccountID(name) == nil {
		return nil, p.absent(noBuyer("buyer", name), name, "buyers")
	}
	return nil, p.absent(notFound("buyer: %.80q is neither a buyer's 12 digits nor a customer identifier of seller %s: meterd admin buyer list shows them", name, p.digits(product.Seller)), name, "buyers")
}

func (l *Ledger) tokenShape(t *store.RegistrationToken, product, buyer string) adminapi.Token {
	return adminapi.Token{ID: hex.EncodeToString(t.ID[:]), RegistrationToken: l.registrationToken(t.ID), ProductCode: product, BuyerAccountID: buyer,
		IssuedAt: t.Issued.Time(), ExpiresAt: t.Expires.Time(), Revoked: t.Revoked}
}

func tokenID(field, s string) (id [16]byte, err *metering.Error) {
	if n, bad := hex.Decode(id[:], []byte(s[:min(len(s), 2*len(id))])); bad != nil || n != len(id) || len(s) != 2*len(id) {
		return id, invalid("%s: %.40q is not the id of a registration token: meterd admin token list shows them", field, s)
	}
	return id, nil
}

// Tokens lists the registration tokens in the order in which they were issued.
func (l *Ledger) Tokens(op Operator, after string, limit int) (adminapi.Page[adminapi.Token], error) {
	page := adminapi.Page[adminapi.Token]{Items: []adminapi.Token{}}
	tokens, err := l.tokens(op, after, &limit)
	if err != nil {
		return page, err
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	for i := range tokens[:min(len(tokens), limit)] {
		t := &tokens[i]
		if l.catalog.Product(t.Product) == nil || l.catalog.Account(t.Buyer) == nil {
			return page, errAhead
		}
		page.Items = append(page.Items, l.tokenShape(t, l.catalog.Product(t.Product).Code, l.number(t.Buyer)))
	}
	if len(tokens) > limit {
		page.Next = page.Items[limit-1].ID
	}
	return page, nil
}

// tokens reads one token more than the limit, which it checks. The catalogue is not locked while it reads.
func (l *Ledger) tokens(op Operator, after string, limit *int) (found []store.RegistrationToken, err error) {
	refusal := op.check(l)
	var from [16]byte
	if refusal == nil {
		*limit, refusal = pageLimit(*limit)
	}
	if refusal == nil && after != "" {
		if from, refusal = tokenID("after", after); refusal != nil {
			refusal = badCursor(after)
		}
	}
	if refusal != nil {
		return nil, refusal
	}
	err = l.db.View(func(r *store.Reader) error {
		found = nil
		return r.RegistrationTokens(from, *limit+1, func(t store.RegistrationToken) error {
			found = append(found, t)
			return nil
		})
	})
	if err == nil {
		err = l.catchUp()
	}
	return found, err
}

// RevokeToken makes a registration token invalid.
func (l *Ledger) RevokeToken(op Operator, id string) error {
	return l.act(op, func(p *plan) *metering.Error {
		key, err := tokenID("id", id)
		if err != nil {
			return err
		}
		found, err := p.token(key)
		switch {
		case err != nil:
			return err
		case found == nil:
			return notFound("id: there is no registration token %s: meterd admin token list shows them", id)
		case found.Revoked:
			return conflict("id: the registration token %s has been revoked already", id)
		}
		found.Revoked = true
		p.tokens = append(p.tokens, *found)
		p.act = "revoke registration token " + id
		return nil
	})
}
