package ledger

import (
	"context"
	"encoding/hex"
	"log/slog"

	"github.com/meterd/meterd/internal/metering"
	"github.com/meterd/meterd/internal/store"
)

// Resolved is the answer of ResolveCustomer. CustomerIdentifier is empty for concurrent products; LicenseARN is empty
// before there is an agreement.
type Resolved struct {
	ProductCode, CustomerIdentifier, CustomerAWSAccountID, LicenseARN string
}

// resolveWork writes only the audit row, which names the token.
type resolveWork struct {
	plain
	token store.RegistrationToken
}

func (r *resolveWork) write(g *group, c *Call) error {
	c.audit.Detail = store.AppendText(c.audit.Detail, "registration token "+hex.EncodeToString(r.token.ID[:]))
	return nil
}

// ResolveCustomer returns the buyer and the product that a registration token stands for. A token can be resolved any
// number of times until it expires, but only by the seller that published the product (metering-api 2.8).
func (c *Call) ResolveCustomer(ctx context.Context, token string) (Resolved, *metering.Error) {
	l := c.l
	answer, refusal := Resolved{}, l.catalogRegion(c, metering.ResolveCustomer)
	if refusal == nil {
		answer, refusal = l.resolve(ctx, c, token)
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
	return l.market.CheckRegion(c.region, op, 0)
}

// storedToken reads the registration token of the given id, nil if there is none.
func (l *Ledger) storedToken(ctx context.Context, id [16]byte) (stored *store.RegistrationToken, err error) {
	err = l.db.View(ctx, func(r *store.Reader) (err error) {
		stored, err = r.RegistrationToken(id)
		return err
	})
	return stored, err
}

func (l *Ledger) resolve(ctx context.Context, c *Call, token string) (Resolved, *metering.Error) {
	if token == "" {
		return Resolved{}, metering.Errorf(metering.Validation, "1 validation error detected: Value at 'registrationToken' failed to satisfy constraint: Member must not be empty. Send the value of the form field x-amzn-marketplace-token.")
	}
	invalid := metering.Errorf(metering.InvalidToken, "Registration token is invalid")
	id, ok := l.market.RegistrationTokenID(token)
	if !ok {
		return Resolved{}, invalid
	}
	stored, err := l.storedToken(ctx, id)
	switch {
	case err != nil:
		l.cfg.Log.Error("reading a registration token", slog.Any("error", err))
		return Resolved{}, l.unread(ctx, err)
	case stored == nil || stored.Revoked:
		return Resolved{}, invalid
	}
	if err := l.catchUp(ctx); err != nil { // the product and buyer may be known only to the node that issued the token
		return Resolved{}, errStopped
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	product := l.market.Product(stored.Product)
	if product == nil || l.market.Account(stored.Buyer) == nil { // an act of administration kept from catching up
		return Resolved{}, errStopped
	}
	if product.Seller != c.caller.Account {
		return Resolved{}, invalid // the same answer as for any other string, so that a seller learns nothing of others' tokens
	}
	if now := l.clock.now(); now >= stored.Expires {
		return Resolved{}, metering.Errorf(metering.ExpiredToken, "The registration token expired at %v. The buyer gets a new one with \"Set up your account\" in the marketplace.", stored.Expires)
	}
	c.resolve.token = *stored
	answer := Resolved{ProductCode: product.Code, CustomerAWSAccountID: metering.FormatAccountID(l.market.Account(stored.Buyer).AccountID)}
	agreement := l.market.Agreement(stored.Agreement)
	if agreement == nil {
		agreement = l.market.NewestAgreement(stored.Product, stored.Buyer)
	}
	if agreement != nil && product.Type == metering.SaaS {
		answer.LicenseARN = agreement.LicenseARN
	}
	if !product.Concurrent || l.settings.LegacyCustomerOnCA {
		answer.CustomerIdentifier = l.market.CustomerIdentifier(product.Seller, stored.Buyer)
	}
	return answer, nil
}
