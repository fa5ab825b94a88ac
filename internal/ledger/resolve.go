package ledger

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"log/slog"
	"strings"

	"github.com/meterd/meterd/internal/metering"
	"github.com/meterd/meterd/internal/store"
)

// Resolved is the answer of ResolveCustomer. CustomerIdentifier is empty for concurrent products, LicenseARN
// before there is an agreement.
type Resolved struct {
	ProductCode, CustomerIdentifier, CustomerAWSAccountID, LicenseARN string
}

// resolveWork writes nothing but the audit row, which names the token.
type resolveWork struct {
	plain
	token store.RegistrationToken
}

func (r *resolveWork) write(g *group, c *Call) error {
	c.audit.Detail = store.AppendText(c.audit.Detail, "registration token "+hex.EncodeToString(r.token.ID[:]))
	return nil
}

// registrationToken returns the token of the given id: the id and a code that only this ledger can make. In plain
// base64 it holds the characters + / = that a token must survive on its way through a form (metering-api 3.1).
func (l *Ledger) registrationToken(id [16]byte) string {
	return base64.StdEncoding.EncodeToString(append(id[:], l.derive("registration token", string(id[:]))...))
}

func (l *Ledger) parseRegistrationToken(s string) (id [16]byte, ok bool) {
	if len(s) > 128 {
		return id, false
	}
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil || len(b) != len(id)+sha256.Size {
		return id, false
	}
	copy(id[:], b)
	return id, hmac.Equal(b[len(id):], l.derive("registration token", string(id[:])))
}

// givenToken returns the id of a registration token that a sandbox was given: it begins with zeros, where those that
// are made have the time.
func (l *Ledger) givenToken(s string) (id [16]byte, err *metering.Error) {
	if !l.Sandbox() {
		return id, invalid("registration_token: a production ledger makes its tokens: leave it out")
	}
	if len(s) < 1 || len(s) > 1024 || strings.ContainsFunc(s, func(c rune) bool { return c <= ' ' || c > '~' }) {
		return id, invalid("registration_token: must have 1 to 1024 printable ASCII characters and no spaces")
	}
	copy(id[6:], l.derive("given registration token", s))
	return id, nil
}

// ResolveCustomer tells which buyer and product a registration token stands for. A token is good for any number
// of calls until it expires, and only for the seller that published the product (metering-api 2.8).
func (c *Call) ResolveCustomer(token string) (Resolved, *metering.Error) {
	l := c.l
	answer, refusal := Resolved{}, l.catalogRegion(c, metering.ResolveCustomer)
	if refusal == nil {
		answer, refusal = l.resolve(c, token)
	}
	if refusal != nil {
		return Resolved{}, c.Refuse(refusal, nil)
	}
	c.work = &c.resolve
	if err := c.submit(); err != nil {
		return Resolved{}, err
	}
	return answer, c.refusal
}

func (l *Ledger) catalogRegion(c *Call, op metering.Operation) *metering.Error {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.catalog.CheckRegion(c.region, op, 0)
}

func (l *Ledger) resolve(c *Call, token string) (Resolved, *metering.Error) {
	if token == "" {
		return Resolved{}, metering.Errorf(metering.Validation, "1 validation error detected: Value at 'registrationToken' failed to satisfy constraint: Member must not be empty. Send the value of the form field x-amzn-marketplace-token.")
	}
	invalid := metering.Errorf(metering.InvalidToken, "Registration token is invalid")
	id, ok := l.parseRegistrationToken(token)
	if !ok {
		var bad *metering.Error
		if id, bad = l.givenToken(token); bad != nil {
			return Resolved{}, invalid
		}
	}
	var stored *store.RegistrationToken
	err := l.db.View(func(r *store.Reader) (err error) {
		stored, err = r.RegistrationToken(id)
		return err
	})
	switch {
	case err != nil:
		l.cfg.Log.Error("reading a registration token", slog.Any("error", err))
		return Resolved{}, l.unread(err)
	case stored == nil || stored.Revoked:
		return Resolved{}, invalid
	}
	if err := l.catchUp(); err != nil { // with the node that issued the token
		return Resolved{}, errStopped
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	product := l.catalog.Product(stored.Product)
	if product == nil || l.catalog.Account(stored.Buyer) == nil { // an act of administration kept from catching up
		return Resolved{}, errStopped
	}
	if product.Seller != c.caller.Account {
		return Resolved{}, invalid // as for any other string: a seller learns nothing of others' tokens
	}
	if now := l.clock.now(); now >= stored.Expires {
		return Resolved{}, metering.Errorf(metering.ExpiredToken, "The registration token expired at %v. The buyer gets a new one with \"Set up your account\" in the marketplace.", stored.Expires)
	}
	c.resolve.token = *stored
	answer := Resolved{ProductCode: product.Code, CustomerAWSAccountID: metering.Number(l.catalog.Account(stored.Buyer).AccountID)}
	agreement := l.catalog.Agreement(stored.Agreement)
	if agreement == nil {
		agreement = l.catalog.NewestAgreement(stored.Product, stored.Buyer)
	}
	if agreement != nil && product.Type == metering.SaaS {
		answer.LicenseARN = agreement.LicenseARN
	}
	if !product.Concurrent || l.settings.LegacyCustomerOnCA {
		answer.CustomerIdentifier = l.catalog.CustomerIdentifier(product.Seller, stored.Buyer)
	}
	return answer, nil
}
