package ledger

import (
	"context"
	"testing"

	"github.com/meterd/meterd/internal/adminapi"
	"github.com/meterd/meterd/internal/iam"
	"github.com/meterd/meterd/internal/market"
)

var ctx = context.Background()

// Follow reads what other nodes have changed, as a node does each second.
func (l *Ledger) Follow() error {
	_ = l.administration.lock(ctx)
	defer l.administration.unlock()
	return l.catchUpLocked(ctx)
}

// SetUsageBounds makes the bounds of reports small for a test.
func SetUsageBounds(t *testing.T, pageBytes, sums int) {
	oldPageBytes, oldSums := maxPageBytes, maxSums
	maxPageBytes, maxSums = pageBytes, sums
	t.Cleanup(func() { maxPageBytes, maxSums = oldPageBytes, oldSums })
}

// These are [Act], [Find] and [List] by the names of what they do, for tests, which say them often.

func (l *Ledger) CreateRegion(ctx context.Context, op Operator, in adminapi.Region) (adminapi.Region, error) {
	return Act(ctx, l, op, market.CreateRegion(in))
}

func (l *Ledger) EnableRegion(ctx context.Context, op Operator, name string, enabled bool) (adminapi.Region, error) {
	return Act(ctx, l, op, market.ChangeRegion(adminapi.RegionChange{Name: name, Enabled: enabled}))
}

func (l *Ledger) CreateSeller(ctx context.Context, op Operator, in adminapi.Seller) (adminapi.Seller, error) {
	return Act(ctx, l, op, market.CreateSeller(in))
}

func (l *Ledger) CreateBuyer(ctx context.Context, op Operator, in adminapi.Buyer) (adminapi.Buyer, error) {
	return Act(ctx, l, op, market.CreateBuyer(in))
}

func (l *Ledger) ChangeBuyer(ctx context.Context, op Operator, accountID string, in adminapi.BuyerChange) (adminapi.Buyer, error) {
	in.AccountID = accountID
	return Act(ctx, l, op, market.ChangeBuyer(in))
}

func (l *Ledger) CreateProduct(ctx context.Context, op Operator, in adminapi.Product) (adminapi.Product, error) {
	return Act(ctx, l, op, market.CreateProduct(in))
}

func (l *Ledger) AddDimension(ctx context.Context, op Operator, code string, in adminapi.NewDimension) (adminapi.Product, error) {
	in.ProductCode = code
	return Act(ctx, l, op, market.AddDimension(in))
}

func (l *Ledger) RotatePublicKey(ctx context.Context, op Operator, code string) (adminapi.PublicKey, error) {
	return Act(ctx, l, op, market.RotatePublicKey(adminapi.ProductPath{ProductCode: code}))
}

func (l *Ledger) ExpirePublicKey(ctx context.Context, op Operator, code string, version int32) (adminapi.PublicKey, error) {
	return Act(ctx, l, op, market.ExpirePublicKey(adminapi.PublicKeyPath{ProductCode: code, Version: version}))
}

func (l *Ledger) CreateAgreement(ctx context.Context, op Operator, in adminapi.Agreement) (adminapi.Agreement, error) {
	return Act(ctx, l, op, market.CreateAgreement(in))
}

func (l *Ledger) CancelAgreement(ctx context.Context, op Operator, agreementID string, in adminapi.Cancellation) (adminapi.Agreement, error) {
	in.AgreementID = agreementID
	return Act(ctx, l, op, market.CancelAgreement(in))
}

func (l *Ledger) EndAgreement(ctx context.Context, op Operator, agreementID string) (adminapi.Agreement, error) {
	return Act(ctx, l, op, market.EndAgreement(adminapi.AgreementPath{AgreementID: agreementID}))
}

func (l *Ledger) CreatePrincipal(ctx context.Context, op Operator, kind iam.Kind, in adminapi.Principal) (adminapi.Principal, error) {
	return Act(ctx, l, op, market.CreatePrincipal(kind, in))
}

func (l *Ledger) PutPermissions(ctx context.Context, op Operator, kind iam.Kind, accountID, name string, in adminapi.Permissions) (adminapi.Principal, error) {
	in.AccountID, in.Name = accountID, name
	return Act(ctx, l, op, market.PutPermissions(kind, in))
}

func (l *Ledger) CreateAccessKey(ctx context.Context, op Operator, accountID, user string) (adminapi.AccessKey, error) {
	return Act(ctx, l, op, market.CreateAccessKey(adminapi.PrincipalPath{AccountID: accountID, Name: user}))
}

func (l *Ledger) ChangeAccessKey(ctx context.Context, op Operator, accessKeyID string, in adminapi.AccessKeyChange) (adminapi.AccessKey, error) {
	in.AccessKeyID = accessKeyID
	return Act(ctx, l, op, market.ChangeAccessKey(in))
}

func (l *Ledger) CreateToken(ctx context.Context, op Operator, in adminapi.TokenRequest) (adminapi.Token, error) {
	return Act(ctx, l, op, market.CreateToken(in))
}

func (l *Ledger) CreateAdminToken(ctx context.Context, op Operator, in adminapi.AdminToken) (adminapi.AdminToken, error) {
	return Act(ctx, l, op, market.CreateAdminToken(in))
}

func (l *Ledger) Import(ctx context.Context, op Operator, m adminapi.Source, found ...adminapi.Fault) (adminapi.ImportResult, error) {
	return Act(ctx, l, op, market.Import(m, found...))
}

func (l *Ledger) DeletePrincipal(ctx context.Context, op Operator, kind iam.Kind, accountID, name string) error {
	_, err := Act(ctx, l, op, market.DeletePrincipal(kind, adminapi.PrincipalPath{AccountID: accountID, Name: name}))
	return err
}

func (l *Ledger) DeleteAccessKey(ctx context.Context, op Operator, accessKeyID string) error {
	_, err := Act(ctx, l, op, market.DeleteAccessKey(adminapi.AccessKeyPath{AccessKeyID: accessKeyID}))
	return err
}

func (l *Ledger) RevokeToken(ctx context.Context, op Operator, id string) error {
	_, err := Act(ctx, l, op, market.RevokeToken(adminapi.TokenPath{ID: id}))
	return err
}

func (l *Ledger) DeleteAdminToken(ctx context.Context, op Operator, id string) error {
	_, err := Act(ctx, l, op, market.DeleteAdminToken(adminapi.TokenPath{ID: id}))
	return err
}

func (l *Ledger) Buyer(ctx context.Context, op Operator, accountID string) (adminapi.Buyer, error) {
	return Find(ctx, l, op, market.Buyer(adminapi.AccountPath{AccountID: accountID}))
}

func (l *Ledger) Product(ctx context.Context, op Operator, code string) (adminapi.Product, error) {
	return Find(ctx, l, op, market.Product(adminapi.ProductPath{ProductCode: code}))
}

func (l *Ledger) PublicKeys(ctx context.Context, op Operator, code string) (adminapi.Page[adminapi.PublicKey], error) {
	return Find(ctx, l, op, market.PublicKeys(adminapi.ProductPath{ProductCode: code}))
}

func (l *Ledger) Agreement(ctx context.Context, op Operator, agreementID string) (adminapi.Agreement, error) {
	return Find(ctx, l, op, market.Agreement(adminapi.AgreementPath{AgreementID: agreementID}))
}

func (l *Ledger) Principal(ctx context.Context, op Operator, kind iam.Kind, accountID, name string) (adminapi.Principal, error) {
	return Find(ctx, l, op, market.Principal(kind, adminapi.PrincipalPath{AccountID: accountID, Name: name}))
}

func (l *Ledger) Regions(ctx context.Context, op Operator, after string, limit int) (adminapi.Page[adminapi.Region], error) {
	return List(ctx, l, op, market.Regions(adminapi.Paging{}), after, limit)
}

func (l *Ledger) Sellers(ctx context.Context, op Operator, after string, limit int) (adminapi.Page[adminapi.Seller], error) {
	return List(ctx, l, op, market.Sellers(adminapi.Paging{}), after, limit)
}

func (l *Ledger) Buyers(ctx context.Context, op Operator, after string, limit int) (adminapi.Page[adminapi.Buyer], error) {
	return List(ctx, l, op, market.Buyers(adminapi.Paging{}), after, limit)
}

func (l *Ledger) Products(ctx context.Context, op Operator, sellerAccountID string, after string, limit int) (adminapi.Page[adminapi.Product], error) {
	return List(ctx, l, op, market.Products(adminapi.ProductPaging{SellerAccountID: sellerAccountID}), after, limit)
}

func (l *Ledger) Agreements(ctx context.Context, op Operator, f adminapi.AgreementFilter, after string, limit int) (adminapi.Page[adminapi.Agreement], error) {
	return List(ctx, l, op, market.Agreements(adminapi.AgreementPaging{AgreementFilter: f}), after, limit)
}

func (l *Ledger) Principals(ctx context.Context, op Operator, kind iam.Kind, accountID string, after string, limit int) (adminapi.Page[adminapi.Principal], error) {
	return List(ctx, l, op, market.Principals(kind, adminapi.AccountPaging{AccountID: accountID}), after, limit)
}

func (l *Ledger) Workloads(ctx context.Context, op Operator, accountID string, after string, limit int) (adminapi.Page[adminapi.Workload], error) {
	return List(ctx, l, op, market.Workloads(adminapi.AccountPaging{AccountID: accountID}), after, limit)
}

func (l *Ledger) AdminTokens(ctx context.Context, op Operator, after string, limit int) (adminapi.Page[adminapi.AdminToken], error) {
	return List(ctx, l, op, market.AdminTokens(adminapi.Paging{}), after, limit)
}
