package market

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/meterd/meterd/internal/adminapi"
	"github.com/meterd/meterd/internal/iam"
	"github.com/meterd/meterd/internal/metering"
	"github.com/meterd/meterd/internal/store"
)

var tokenVerbs = []Verb{
	changes(adminapi.CreateToken, CreateToken),
	changes(adminapi.RevokeToken, RevokeToken),
}

// CreateToken issues a registration token, as the marketplace does for a buyer who sets up an account. A sandbox also
// takes a token that is given.
func CreateToken(in adminapi.TokenRequest) Act[adminapi.Token] {
	return func(p *Plan) (Find[adminapi.Token], *metering.Error) {
		t, exists, err := p.addToken(&in)
		if err == nil && exists {
			err = conflict("registration_token: there is such a token already: choose another one, or leave it out to have one made")
		}
		if err != nil {
			return nil, err
		}
		product, buyer := p.products.at(t.Product).Code, p.digits(t.Buyer)
		p.Summary = fmt.Sprintf("issue registration token %x for buyer %s and product %s", t.ID, buyer, product)
		out := p.tokenShape(&t, product, buyer)
		if in.RegistrationToken != "" {
			out.RegistrationToken = in.RegistrationToken
		}
		return answer(out), nil
	}
}

// addToken adds a registration token, and makes it unless it is given. A given token that exists already must stand
// for the same product and buyer.
func (p *Plan) addToken(in *adminapi.TokenRequest) (t store.RegistrationToken, exists bool, err *metering.Error) {
	var buyer *metering.Account
	var badBuyer, badTime, badToken *metering.Error
	product, badProduct := p.productNamed("product_code", in.ProductCode)
	if badProduct == nil {
		buyer, badBuyer = p.tokenBuyer(product, in.Buyer)
	}
	t.Issued, badTime = Instant("issued_at", in.IssuedAt)
	switch {
	case t.Issued == 0:
		t.Issued = p.Now
	case !p.cfg.Sandbox:
		badTime = conflict("issued_at: a production ledger issues tokens now: leave it out")
	}
	t.Expires = t.Issued.Add(p.cfg.Settings.TokenLife)
	if in.RegistrationToken != "" {
		t.ID, badToken = p.givenToken(in.RegistrationToken)
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
	// ResolveCustomer may return the customer identifier before there is an agreement.
	if err := p.makeCustomer(product.Seller, buyer.ID); err != nil {
		return t, false, err
	}
	if a := p.newestAgreement(product.ID, buyer.ID); a != nil {
		t.Agreement = a.ID
	}
	p.tokens = append(p.tokens, t)
	return t, false, nil
}

// token returns the registration token of the given id, also one that the plan adds; nil if there is none.
func (p *Plan) token(id [16]byte) (*store.RegistrationToken, *metering.Error) {
	for i := range p.tokens {
		if p.tokens[i].ID == id {
			return &p.tokens[i], nil
		}
	}
	found, bad := p.stored(id)
	if bad != nil {
		return nil, metering.Errorf(metering.Internal, "reading a registration token: %v", bad)
	}
	return found, nil
}

// tokenBuyer returns the buyer of the given 12 digits, or of the given customer identifier.
func (p *Plan) tokenBuyer(product *metering.Product, name string) (*metering.Account, *metering.Error) {
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

func (s *State) tokenShape(t *store.RegistrationToken, product, buyer string) adminapi.Token {
	return adminapi.Token{ID: hex.EncodeToString(t.ID[:]), RegistrationToken: s.registrationToken(t.ID), ProductCode: product, BuyerAccountID: buyer,
		IssuedAt: t.Issued.Time(), ExpiresAt: t.Expires.Time(), Revoked: t.Revoked}
}

func tokenID(field, s string) (id [16]byte, err *metering.Error) {
	if n, bad := hex.Decode(id[:], []byte(s[:min(len(s), 2*len(id))])); bad != nil || n != len(id) || len(s) != 2*len(id) {
		return id, invalid("%s: %.40q is not the id of a registration token: meterd admin token list shows them", field, s)
	}
	return id, nil
}

// Tokens returns what is shown of registration tokens that were read from the store, in the same order. known is
// false if one of them is for a product or buyer that this state does not have yet.
func (v *View) Tokens(read []store.RegistrationToken) (shown []adminapi.Token, known bool) {
	shown = []adminapi.Token{}
	for i := range read {
		t := &read[i]
		if v.Product(t.Product) == nil || v.Account(t.Buyer) == nil {
			return nil, false
		}
		shown = append(shown, v.tokenShape(t, v.Product(t.Product).Code, v.digits(t.Buyer)))
	}
	return shown, true
}

// TokenCursor returns the id in a cursor: that of the last token of the page before. For the first page it is zero.
func TokenCursor(after string) (id [16]byte, err *metering.Error) {
	if after == "" {
		return id, nil
	}
	if id, err = tokenID("after", after); err != nil {
		err = BadCursor(after)
	}
	return id, err
}

// RevokeToken makes a registration token invalid.
func RevokeToken(of adminapi.TokenPath) Act[adminapi.None] {
	return func(p *Plan) (Find[adminapi.None], *metering.Error) {
		key, err := tokenID("id", of.ID)
		if err != nil {
			return nil, err
		}
		found, err := p.token(key)
		switch {
		case err != nil:
			return nil, err
		case found == nil:
			return nil, notFound("id: there is no registration token %s: meterd admin token list shows them", of.ID)
		case found.Revoked:
			return nil, conflict("id: the registration token %s has been revoked already", of.ID)
		}
		found.Revoked = true
		p.tokens = append(p.tokens, *found)
		p.Summary = "revoke registration token " + of.ID
		return nil, nil
	}
}

// registrationToken returns the token of the given id: the id and a code that only this ledger can make. It is plain
// base64, so it can have the characters + / = that a token must keep on its way through a form (metering-api 3.1).
func (s *State) registrationToken(id [16]byte) string {
	return base64.StdEncoding.EncodeToString(append(id[:], s.derive("registration token", string(id[:]))...))
}

// RegistrationTokenID returns the id in a registration token; ok is false if the token is not one of this ledger.
func (s *State) RegistrationTokenID(token string) (id [16]byte, ok bool) {
	if len(token) <= 128 {
		b, err := base64.StdEncoding.DecodeString(token)
		if err == nil && len(b) == len(id)+sha256.Size {
			copy(id[:], b)
			if hmac.Equal(b[len(id):], s.derive("registration token", string(id[:]))) {
				return id, true
			}
		}
	}
	id, err := s.givenToken(token)
	return id, err == nil
}

// givenToken returns the id for a registration token that a sandbox was given. It begins with zeros, where the ids of
// made tokens have the time.
func (s *State) givenToken(token string) (id [16]byte, err *metering.Error) {
	if !s.cfg.Sandbox {
		return id, invalid("registration_token: a production ledger makes its tokens: leave it out")
	}
	if len(token) < 1 || len(token) > 1024 || strings.ContainsFunc(token, func(c rune) bool { return c <= ' ' || c > '~' }) {
		return id, invalid("registration_token: must have 1 to 1024 printable ASCII characters and no spaces")
	}
	copy(id[6:], s.derive("given registration token", token))
	return id, nil
}
