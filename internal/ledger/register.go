package ledger

import (
	"context"
	"log/slog"

	"github.com/golang-jwt/jwt/v5"
	"github.com/meterd/meterd/internal/metering"
	"github.com/meterd/meterd/internal/store"
)

// registerWork is a RegisterUsage call that passed admission.
type registerWork struct {
	plain
	product uint32
	first   bool
}

// Registered is the answer of RegisterUsage.
type Registered struct {
	Signature string           // a JSON web token, signed with PS256 by the product's key
	RotatedAt metering.Instant // when the key version was replaced; 0 if it is current
}

// RegisterUsage registers that the calling task or pod runs the product, and returns the signed answer when the
// registration is on disk.
func (c *Call) RegisterUsage(ctx context.Context, in *metering.Register, body []byte) (Registered, *metering.Error) {
	l := c.l
	now := l.clock.now()
	key, code, refusal := c.admitRegister(in, now)
	if again, err := l.registeredElsewhere(ctx, c, in.ProductCode, refusal); err != nil {
		refusal = err
	} else if again {
		key, code, refusal = c.admitRegister(in, now)
	}
	if refusal != nil {
		return Registered{}, c.Refuse(refusal, body)
	}
	signature, err := l.signRegistration(&key, code, in, now)
	if err != nil {
		l.cfg.Log.Error("signing a RegisterUsage answer", slog.String("product", code), slog.Int("version", int(key.Version)), slog.Any("error", err))
		return Registered{}, c.Refuse(metering.Errorf(metering.Internal, "%v", err), body)
	}
	c.register = registerWork{product: key.Product}
	c.work, c.body = &c.register, body
	if err := c.submit(); err != nil {
		return Registered{}, err
	}
	answer := Registered{Signature: signature}
	if key.RotatedAt <= now {
		answer.RotatedAt = key.RotatedAt
	}
	return answer, c.refusal
}

// admitRegister decides on the call by the catalogue as it is now. It returns the key that signs the answer and the
// product's code.
func (c *Call) admitRegister(in *metering.Register, now metering.Instant) (metering.PublicKey, string, *metering.Error) {
	l := c.l
	l.mu.RLock()
	defer l.mu.RUnlock()
	w := l.market.Workload(c.caller.Workload)
	if w == nil {
		return metering.PublicKey{}, "", metering.NotOnWorkload(metering.RegisterUsage)
	}
	product, key, refusal := l.market.AdmitRegister(in, w, c.region, now)
	if refusal != nil {
		return metering.PublicKey{}, "", refusal
	}
	return *key, product.Code, nil
}

func (r *registerWork) write(g *group, c *Call) error {
	return g.register(c, metering.RegisterUsage, c.caller.Workload, r.product, &r.first)
}

func (r *registerWork) apply(l *Ledger, c *Call) {
	l.market.PutRegistration(metering.Registration{Workload: c.caller.Workload, Product: r.product})
}

// register stores that the workload called the operation for the product with success. For MeterUsage only the first
// call is stored, because usage rows show the later ones.
func (g *group) register(c *Call, op metering.Operation, workload, product uint32, first *bool) error {
	g.l.mu.RLock()
	*first = !g.l.market.Registered(workload, product)
	g.l.mu.RUnlock()
	if *first {
		g.applyLater(c)
	} else if op == metering.MeterUsage {
		return nil
	}
	return g.tx.PutRegistration(metering.Registration{Workload: workload, Product: product, Operation: op, First: g.now, Last: g.now})
}

// registeredElsewhere reports whether admission should be tried again for a call that was refused because there is,
// or was at the time of the usage, no agreement. That is so if the workload had a successful call on another node: it
// entitles the workload for good, and this node knows of it from now on.
func (l *Ledger) registeredElsewhere(ctx context.Context, c *Call, productCode string, refusal *metering.Error) (bool, *metering.Error) {
	if refusal == nil || refusal.Kind != metering.CustomerNotEntitled && refusal.Kind != metering.TimestampOutOfBounds || !l.db.Shared() {
		return false, nil
	}
	l.mu.RLock()
	r := metering.Registration{Workload: c.caller.Workload}
	if product := l.market.ProductByCode(productCode); product != nil {
		r.Product = product.ID
	}
	known := l.market.Registered(r.Workload, r.Product)
	l.mu.RUnlock()
	if known {
		return false, nil
	}
	registered := false
	err := l.db.View(ctx, func(reader *store.Reader) (err error) {
		registered, err = reader.Registered(r.Workload, r.Product)
		return err
	})
	if err != nil {
		return false, l.unread(ctx, err)
	}
	if registered {
		l.mu.Lock()
		l.market.PutRegistration(r)
		l.mu.Unlock()
	}
	return registered, nil
}

// signRegistration makes the token that containers verify. Verifiers in use read the lower-camel claims, while AWS's
// pages print PascalCase. The token never expires (metering-api 0.3 D5, 2.7).
func (l *Ledger) signRegistration(k *metering.PublicKey, code string, in *metering.Register, now metering.Instant) (string, error) {
	private, err := l.market.PrivateKey(k)
	if err != nil {
		return "", err
	}
	claims := jwt.MapClaims{"productCode": code, "publicKeyVersion": k.Version, "iat": now.Time().Unix()}
	if in.HasNonce {
		claims["nonce"] = in.Nonce
	}
	if l.settings.ClaimsPascalCase {
		claims["ProductCode"], claims["PublicKeyVersion"] = code, k.Version
		if in.HasNonce {
			claims["Nonce"] = in.Nonce
		}
	}
	return jwt.NewWithClaims(jwt.SigningMethodPS256, claims).SignedString(private)
}
