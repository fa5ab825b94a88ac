package sandbox

import (
	"context"
	"errors"
	"time"

	"github.com/meterd/meterd/internal/adminapi"
	"github.com/meterd/meterd/internal/ledger"
	"github.com/meterd/meterd/internal/market"
	"github.com/meterd/meterd/internal/metering"
)

// Endpoints are where a sandbox listens, as URLs.
type Endpoints struct{ AWS, Admin, Ops string }

// MaxDescribed bounds the sellers, products and buyers that a description lists: it is for people and tests, not
// for a marketplace of a million buyers.
const MaxDescribed = 100

// Describe returns the description of a running sandbox. It issues the registration tokens and the sessions of
// workloads that it lists; sessions do not expire, tokens do by the ledger clock.
func Describe(ctx context.Context, l *ledger.Ledger, e Endpoints) (*Description, error) {
	op := l.Local()
	d := &Description{Version: 1, Endpoint: e.AWS, AdminEndpoint: e.Admin, OpsEndpoint: e.Ops, AdminToken: AdminToken,
		Regions: l.ServedRegions(), Sellers: []Seller{}, Buyers: []Buyer{}, Products: []Product{}}
	if len(d.Regions) > 0 {
		d.Region = d.Regions[0]
	}
	keys := l.SandboxKeys()
	sellers, err := ledger.List(ctx, l, op, market.Sellers(adminapi.Paging{}), "", MaxDescribed)
	if err != nil {
		return nil, err
	}
	for _, s := range sellers.Items {
		seller := Seller{Name: s.Name, AccountID: s.AccountID}
		seller.Credentials, seller.Powerless = credentialsOf(keys[s.AccountID])
		if seller.Workloads, err = workloadsOf(ctx, l, s.AccountID); err != nil {
			return nil, err
		}
		d.Sellers = append(d.Sellers, seller)
	}
	products, err := ledger.List(ctx, l, op, market.Products(adminapi.ProductPaging{}), "", MaxDescribed)
	if err != nil {
		return nil, err
	}
	productID := map[string]string{}
	for _, p := range products.Items {
		product := Product{ProductCode: p.ProductCode, ProductID: p.ProductID, SellerAccountID: p.SellerAccountID, Type: p.Type,
			Integration: p.Integration, Dimensions: append([]string{}, p.Dimensions...), PublicKeys: []PublicKey{}}
		for _, k := range p.PublicKeys {
			product.PublicKeys = append(product.PublicKeys, PublicKey{Version: k.Version, PEM: k.PEM, Expired: k.Expired})
		}
		productID[p.ProductCode] = p.ProductID
		d.Products = append(d.Products, product)
	}
	buyers, err := ledger.List(ctx, l, op, market.Buyers(adminapi.Paging{}), "", MaxDescribed)
	if err != nil {
		return nil, err
	}
	expired := l.Now().Add(-l.Settings().TokenLife - time.Hour).Time()
	for _, b := range buyers.Items {
		buyer := Buyer{Name: b.Name, AccountID: b.AccountID, Subscriptions: []Subscription{}}
		buyer.Credentials, _ = credentialsOf(keys[b.AccountID])
		ofBuyer := adminapi.AgreementFilter{BuyerAccountID: b.AccountID}
		agreements, err := ledger.List(ctx, l, op, market.Agreements(adminapi.AgreementPaging{AgreementFilter: ofBuyer}), "", MaxDescribed)
		if err != nil {
			return nil, err
		}
		for _, a := range agreements.Items {
			s := Subscription{ProductCode: a.ProductCode, ProductID: productID[a.ProductCode], Status: a.Status, AgreementID: a.AgreementID,
				LicenseARN: a.LicenseARN, CustomerIdentifier: a.CustomerIdentifier}
			for _, t := range []struct {
				token  *string
				issued *time.Time
			}{{&s.RegistrationToken, nil}, {&s.ExpiredRegistrationToken, &expired}} {
				issued, err := ledger.Act(ctx, l, op, market.CreateToken(adminapi.TokenRequest{ProductCode: a.ProductCode, Buyer: b.AccountID, IssuedAt: t.issued}))
				if err != nil {
					return nil, err
				}
				*t.token = issued.RegistrationToken
			}
			buyer.Subscriptions = append(buyer.Subscriptions, s)
		}
		if buyer.Workloads, err = workloadsOf(ctx, l, b.AccountID); err != nil {
			return nil, err
		}
		d.Buyers = append(d.Buyers, buyer)
	}
	return d, nil
}

// workloadsOf returns all workloads of the account that have a role, each with a session of its own.
func workloadsOf(ctx context.Context, l *ledger.Ledger, accountID string) ([]Workload, error) {
	out := []Workload{}
	for after := ""; ; {
		page, err := ledger.List(ctx, l, l.Local(), market.Workloads(adminapi.AccountPaging{AccountID: accountID}), after, market.MaxPage)
		if err != nil {
			return nil, err
		}
		for _, w := range page.Items {
			w.Role = "" // the one that it has
			c, err := l.CreateWorkloadCredentials(ctx, l.Local(), adminapi.WorkloadRequest{Workload: w})
			var refused *metering.Error
			if errors.As(err, &refused) && refused.Kind == metering.Conflict {
				continue // its role was deleted, so it has no sessions
			}
			if err != nil {
				return nil, err
			}
			out = append(out, Workload{Platform: w.Platform, ResourceID: w.ResourceID, Region: w.Region,
				Credentials: Credentials{c.AccessKeyID, c.SecretAccessKey}, SessionToken: c.SessionToken})
		}
		if after = page.Next; after == "" {
			return out, nil
		}
	}
}

// credentialsOf returns the first key that may do something, and the first that may do nothing.
func credentialsOf(keys []market.SandboxKey) (able, powerless Credentials) {
	for _, k := range keys {
		c := &able
		if k.Powerless {
			c = &powerless
		}
		if c.AccessKeyID == "" {
			*c = Credentials{k.AccessKeyID, k.SecretAccessKey}
		}
	}
	return able, powerless
}
