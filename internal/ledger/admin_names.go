package ledger

import (
	"context"

	"github.com/meterd/meterd/internal/adminapi"
	"github.com/meterd/meterd/internal/iam"
	"github.com/meterd/meterd/internal/market"
)

// These are [Act], [Find] and [List] by the names of what they do.

func (l *Ledger) CreateRegion(op Operator, in adminapi.Region) (adminapi.Region, error) {
	return Act(context.Background(), l, op, market.CreateRegion(in))
}

func (l *Ledger) EnableRegion(op Operator, name string, enabled bool) (adminapi.Region, error) {
	return Act(context.Background(), l, op, market.EnableRegion(name, enabled))
}

func (l *Ledger) CreateSeller(op Operator, in adminapi.Seller) (adminapi.Seller, error) {
	return Act(context.Background(), l, op, market.CreateSeller(in))
}

func (l *Ledger) CreateBuyer(op Operator, in adminapi.Buyer) (adminapi.Buyer, error) {
	return Act(context.Background(), l, op, market.CreateBuyer(in))
}

func (l *Ledger) ChangeBuyer(op Operator, accountID string, in adminapi.BuyerChange) (adminapi.Buyer, error) {
	return Act(context.Background(), l, op, market.ChangeBuyer(accountID, in))
}

func (l *Ledger) CreateProduct(op Operator, in adminapi.Product) (adminapi.Product, error) {
	return Act(context.Background(), l, op, market.CreateProduct(in))
}

func (l *Ledger) AddDimension(op Operator, code string, in adminapi.NewDimension) (adminapi.Product, error) {
	return Act(context.Background(), l, op, market.AddDimension(code, in))
}

func (l *Ledger) RotatePublicKey(op Operator, code string) (adminapi.PublicKey, error) {
	return Act(context.Background(), l, op, market.RotatePublicKey(code))
}

func (l *Ledger) ExpirePublicKey(op Operator, code string, version int32) (adminapi.PublicKey, error) {
	return Act(context.Background(), l, op, market.ExpirePublicKey(code, version))
}

func (l *Ledger) CreateAgreement(op Operator, in adminapi.Agreement) (adminapi.Agreement, error) {
	return Act(context.Background(), l, op, market.CreateAgreement(in))
}

func (l *Ledger) CancelAgreement(op Operator, agreementID string, in adminapi.Cancellation) (adminapi.Agreement, error) {
	return Act(context.Background(), l, op, market.CancelAgreement(agreementID, in))
}

func (l *Ledger) EndAgreement(op Operator, agreementID string) (adminapi.Agreement, error) {
	return Act(context.Background(), l, op, market.EndAgreement(agreementID))
}

func (l *Ledger) CreatePrincipal(op Operator, kind iam.Kind, in adminapi.Principal) (adminapi.Principal, error) {
	return Act(context.Background(), l, op, market.CreatePrincipal(kind, in))
}

func (l *Ledger) PutPermissions(op Operator, kind iam.Kind, accountID, name string, in adminapi.Permissions) (adminapi.Principal, error) {
	return Act(context.Background(), l, op, market.PutPermissions(kind, accountID, name, in))
}

func (l *Ledger) CreateAccessKey(op Operator, accountID, user string) (adminapi.AccessKey, error) {
	return Act(context.Background(), l, op, market.CreateAccessKey(accountID, user))
}

func (l *Ledger) ChangeAccessKey(op Operator, accessKeyID string, in adminapi.AccessKeyChange) (adminapi.AccessKey, error) {
	return Act(context.Background(), l, op, market.ChangeAccessKey(accessKeyID, in))
}

func (l *Ledger) CreateToken(op Operator, in adminapi.TokenRequest) (adminapi.Token, error) {
	return Act(context.Background(), l, op, market.CreateToken(in))
}

func (l *Ledger) CreateAdminToken(op Operator, in adminapi.AdminToken) (adminapi.AdminToken, error) {
	return Act(context.Background(), l, op, market.CreateAdminToken(in))
}

func (l *Ledger) Import(op Operator, m adminapi.Source, found ...adminapi.Fault) (adminapi.ImportResult, error) {
	return Act(context.Background(), l, op, market.Import(m, found...))
}

func (l *Ledger) DeletePrincipal(op Operator, kind iam.Kind, accountID, name string) error {
	_, err := Act(context.Background(), l, op, market.DeletePrincipal(kind, accountID, name))
	return err
}

func (l *Ledger) DeleteAccessKey(op Operator, accessKeyID string) error {
	_, err := Act(context.Background(), l, op, market.DeleteAccessKey(accessKeyID))
	return err
}

func (l *Ledger) RevokeToken(op Operator, id string) error {
	_, err := Act(context.Background(), l, op, market.RevokeToken(id))
	return err
}

func (l *Ledger) DeleteAdminToken(op Operator, id string) error {
	_, err := Act(context.Background(), l, op, market.DeleteAdminToken(id))
	return err
}

func (l *Ledger) Seller(op Operator, accountID string) (adminapi.Seller, error) {
	return Find(context.Background(), l, op, market.Seller(accountID))
}

func (l *Ledger) Buyer(op Operator, accountID string) (adminapi.Buyer, error) {
	return Find(context.Background(), l, op, market.Buyer(accountID))
}

func (l *Ledger) Product(op Operator, code string) (adminapi.Product, error) {
	return Find(context.Background(), l, op, market.Product(code))
}

func (l *Ledger) PublicKeys(op Operator, code string) (adminapi.Page[adminapi.PublicKey], error) {
	return Find(context.Background(), l, op, market.PublicKeys(code))
}

func (l *Ledger) Agreement(op Operator, agreementID string) (adminapi.Agreement, error) {
	return Find(context.Background(), l, op, market.Agreement(agreementID))
}

func (l *Ledger) Principal(op Operator, kind iam.Kind, accountID, name string) (adminapi.Principal, error) {
	return Find(context.Background(), l, op, market.Principal(kind, accountID, name))
}

func (l *Ledger) Regions(op Operator, after string, limit int) (adminapi.Page[adminapi.Region], error) {
	return List(context.Background(), l, op, market.Regions(), after, limit)
}

func (l *Ledger) Sellers(op Operator, after string, limit int) (adminapi.Page[adminapi.Seller], error) {
	return List(context.Background(), l, op, market.Sellers(), after, limit)
}

func (l *Ledger) Buyers(op Operator, after string, limit int) (adminapi.Page[adminapi.Buyer], error) {
	return List(context.Background(), l, op, market.Buyers(), after, limit)
}

func (l *Ledger) Products(op Operator, sellerAccountID string, after string, limit int) (adminapi.Page[adminapi.Product], error) {
	return List(context.Background(), l, op, market.Products(sellerAccountID), after, limit)
}

func (l *Ledger) Agreements(op Operator, f adminapi.AgreementFilter, after string, limit int) (adminapi.Page[adminapi.Agreement], error) {
	return List(context.Background(), l, op, market.Agreements(f), after, limit)
}

func (l *Ledger) Principals(op Operator, kind iam.Kind, accountID string, after string, limit int) (adminapi.Page[adminapi.Principal], error) {
	return List(context.Background(), l, op, market.Principals(kind, accountID), after, limit)
}

func (l *Ledger) Workloads(op Operator, accountID string, after string, limit int) (adminapi.Page[adminapi.Workload], error) {
	return List(context.Background(), l, op, market.Workloads(accountID), after, limit)
}

func (l *Ledger) AdminTokens(op Operator, after string, limit int) (adminapi.Page[adminapi.AdminToken], error) {
	return List(context.Background(), l, op, market.AdminTokens(), after, limit)
}
