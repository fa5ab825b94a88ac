package server

import (
	"context"

	"github.com/meterd/meterd/internal/adminapi"
	"github.com/meterd/meterd/internal/iam"
	"github.com/meterd/meterd/internal/ledger"
)

type op = ledger.Operator

// verbs are the verbs of the admin API, bound to the acts that they ask for.
func (a *admin) verbs() []adminapi.Served[op] {
	l := a.Ledger
	all := []adminapi.Served[op]{
		adminapi.Bind(adminapi.ListRegions, func(ctx context.Context, op op, in adminapi.Paging) (adminapi.Page[adminapi.Region], error) {
			return l.Regions(ctx, op, in.After, in.Limit)
		}),
		adminapi.Bind(adminapi.CreateRegion, func(ctx context.Context, op op, in adminapi.Region) (adminapi.Region, error) {
			return l.CreateRegion(ctx, op, in)
		}),
		adminapi.Bind(adminapi.ChangeRegion, func(ctx context.Context, op op, in adminapi.RegionChange) (adminapi.Region, error) {
			return l.EnableRegion(ctx, op, in.Name, in.Enabled)
		}),

		adminapi.Bind(adminapi.ListSellers, func(ctx context.Context, op op, in adminapi.Paging) (adminapi.Page[adminapi.Seller], error) {
			return l.Sellers(ctx, op, in.After, in.Limit)
		}),
		adminapi.Bind(adminapi.CreateSeller, func(ctx context.Context, op op, in adminapi.Seller) (adminapi.Seller, error) {
			return l.CreateSeller(ctx, op, in)
		}),
		adminapi.Bind(adminapi.GetSeller, func(ctx context.Context, op op, in adminapi.AccountPath) (adminapi.Seller, error) {
			return l.Seller(ctx, op, in.AccountID)
		}),

		adminapi.Bind(adminapi.ListBuyers, func(ctx context.Context, op op, in adminapi.Paging) (adminapi.Page[adminapi.Buyer], error) {
			return l.Buyers(ctx, op, in.After, in.Limit)
		}),
		adminapi.Bind(adminapi.CreateBuyer, func(ctx context.Context, op op, in adminapi.Buyer) (adminapi.Buyer, error) {
			return l.CreateBuyer(ctx, op, in)
		}),
		adminapi.Bind(adminapi.GetBuyer, func(ctx context.Context, op op, in adminapi.AccountPath) (adminapi.Buyer, error) {
			return l.Buyer(ctx, op, in.AccountID)
		}),
		adminapi.Bind(adminapi.ChangeBuyer, func(ctx context.Context, op op, in adminapi.BuyerChange) (adminapi.Buyer, error) {
			return l.ChangeBuyer(ctx, op, in.AccountID, in)
		}),

		adminapi.Bind(adminapi.ListProducts, func(ctx context.Context, op op, in adminapi.ProductPaging) (adminapi.Page[adminapi.Product], error) {
			return l.Products(ctx, op, in.SellerAccountID, in.After, in.Limit)
		}),
		adminapi.Bind(adminapi.CreateProduct, func(ctx context.Context, op op, in adminapi.Product) (adminapi.Product, error) {
			return l.CreateProduct(ctx, op, in)
		}),
		adminapi.Bind(adminapi.GetProduct, func(ctx context.Context, op op, in adminapi.ProductPath) (adminapi.Product, error) {
			return l.Product(ctx, op, in.ProductCode)
		}),
		adminapi.Bind(adminapi.AddDimension, func(ctx context.Context, op op, in adminapi.NewDimension) (adminapi.Product, error) {
			return l.AddDimension(ctx, op, in.ProductCode, in)
		}),
		adminapi.Bind(adminapi.ListPublicKeys, func(ctx context.Context, op op, in adminapi.ProductPath) (adminapi.Page[adminapi.PublicKey], error) {
			return l.PublicKeys(ctx, op, in.ProductCode)
		}),
		adminapi.Bind(adminapi.RotatePublicKey, func(ctx context.Context, op op, in adminapi.ProductPath) (adminapi.PublicKey, error) {
			return l.RotatePublicKey(ctx, op, in.ProductCode)
		}),
		adminapi.Bind(adminapi.ExpirePublicKey, func(ctx context.Context, op op, in adminapi.PublicKeyPath) (adminapi.PublicKey, error) {
			return l.ExpirePublicKey(ctx, op, in.ProductCode, in.Version)
		}),

		adminapi.Bind(adminapi.ListAgreements, func(ctx context.Context, op op, in adminapi.AgreementPaging) (adminapi.Page[adminapi.Agreement], error) {
			return l.Agreements(ctx, op, in.AgreementFilter, in.After, in.Limit)
		}),
		adminapi.Bind(adminapi.CreateAgreement, func(ctx context.Context, op op, in adminapi.Agreement) (adminapi.Agreement, error) {
			return l.CreateAgreement(ctx, op, in)
		}),
		adminapi.Bind(adminapi.GetAgreement, func(ctx context.Context, op op, in adminapi.AgreementPath) (adminapi.Agreement, error) {
			return l.Agreement(ctx, op, in.AgreementID)
		}),
		adminapi.Bind(adminapi.CancelAgreement, func(ctx context.Context, op op, in adminapi.Cancellation) (adminapi.Agreement, error) {
			return l.CancelAgreement(ctx, op, in.AgreementID, in)
		}),
		adminapi.Bind(adminapi.EndAgreement, func(ctx context.Context, op op, in adminapi.AgreementPath) (adminapi.Agreement, error) {
			return l.EndAgreement(ctx, op, in.AgreementID)
		}),

		adminapi.Bind(adminapi.CreateAccessKey, func(ctx context.Context, op op, in adminapi.PrincipalPath) (adminapi.AccessKey, error) {
			return l.CreateAccessKey(ctx, op, in.AccountID, in.Name)
		}),
		adminapi.Bind(adminapi.ChangeAccessKey, func(ctx context.Context, op op, in adminapi.AccessKeyChange) (adminapi.AccessKey, error) {
			return l.ChangeAccessKey(ctx, op, in.AccessKeyID, in)
		}),
		adminapi.Bind(adminapi.DeleteAccessKey, func(ctx context.Context, op op, in adminapi.AccessKeyPath) (adminapi.None, error) {
			return adminapi.None{}, l.DeleteAccessKey(ctx, op, in.AccessKeyID)
		}),
		adminapi.Bind(adminapi.ListWorkloads, func(ctx context.Context, op op, in adminapi.AccountPaging) (adminapi.Page[adminapi.Workload], error) {
			return l.Workloads(ctx, op, in.AccountID, in.After, in.Limit)
		}),
		adminapi.Bind(adminapi.CreateWorkloadCredentials, func(ctx context.Context, op op, in adminapi.WorkloadRequest) (adminapi.WorkloadCredentials, error) {
			out, err := l.CreateWorkloadCredentials(ctx, op, in)
			if a.Endpoint != nil {
				out.Endpoint = a.Endpoint()
			}
			return out, err
		}),

		adminapi.Bind(adminapi.ListTokens, func(ctx context.Context, op op, in adminapi.Paging) (adminapi.Page[adminapi.Token], error) {
			return l.Tokens(ctx, op, in.After, in.Limit)
		}),
		adminapi.Bind(adminapi.CreateToken, func(ctx context.Context, op op, in adminapi.TokenRequest) (adminapi.Token, error) {
			return l.CreateToken(ctx, op, in)
		}),
		adminapi.Bind(adminapi.RevokeToken, func(ctx context.Context, op op, in adminapi.TokenPath) (adminapi.None, error) {
			return adminapi.None{}, l.RevokeToken(ctx, op, in.ID)
		}),
		adminapi.Bind(adminapi.ListAdminTokens, func(ctx context.Context, op op, in adminapi.Paging) (adminapi.Page[adminapi.AdminToken], error) {
			return l.AdminTokens(ctx, op, in.After, in.Limit)
		}),
		adminapi.Bind(adminapi.CreateAdminToken, func(ctx context.Context, op op, in adminapi.AdminToken) (adminapi.AdminToken, error) {
			return l.CreateAdminToken(ctx, op, in)
		}),
		adminapi.Bind(adminapi.DeleteAdminToken, func(ctx context.Context, op op, in adminapi.TokenPath) (adminapi.None, error) {
			return adminapi.None{}, l.DeleteAdminToken(ctx, op, in.ID)
		}),

		adminapi.Bind(adminapi.ListUsage, func(ctx context.Context, op op, in adminapi.UsagePaging) (adminapi.UsagePage, error) {
			return l.Usage(ctx, op, in.UsageFilter, in.After, in.Limit)
		}),
		adminapi.Bind(adminapi.SumUsage, func(ctx context.Context, op op, in adminapi.UsageGrouping) (adminapi.UsageSums, error) {
			return l.UsageSums(ctx, op, in.UsageFilter, in.Groups())
		}),
		adminapi.Bind(adminapi.GetCall, func(ctx context.Context, op op, in adminapi.CallPath) (adminapi.Call, error) {
			c, err := l.CallRecord(ctx, op, in.RequestID)
			c.Error = exceptionNamed(c.Error, l.Settings())
			return c, err
		}),
		adminapi.Bind(adminapi.GetClock, func(ctx context.Context, op op, _ adminapi.None) (adminapi.Clock, error) {
			return l.Clock(ctx, op)
		}),
		adminapi.Bind(adminapi.ChangeClock, func(ctx context.Context, op op, in adminapi.ClockChange) (adminapi.Clock, error) {
			return l.ChangeClock(ctx, op, in)
		}),
		adminapi.Bind(adminapi.AcceptClock, func(ctx context.Context, op op, _ adminapi.None) (adminapi.Clock, error) {
			return l.AcceptClock(ctx, op)
		}),
	}
	for kind, of := range map[iam.Kind]adminapi.Principals{iam.User: adminapi.Users, iam.Role: adminapi.Roles} {
		all = append(all,
			adminapi.Bind(of.List, func(ctx context.Context, op op, in adminapi.AccountPaging) (adminapi.Page[adminapi.Principal], error) {
				return l.Principals(ctx, op, kind, in.AccountID, in.After, in.Limit)
			}),
			adminapi.Bind(of.Create, func(ctx context.Context, op op, in adminapi.Principal) (adminapi.Principal, error) {
				return l.CreatePrincipal(ctx, op, kind, in)
			}),
			adminapi.Bind(of.Get, func(ctx context.Context, op op, in adminapi.PrincipalPath) (adminapi.Principal, error) {
				return l.Principal(ctx, op, kind, in.AccountID, in.Name)
			}),
			adminapi.Bind(of.Delete, func(ctx context.Context, op op, in adminapi.PrincipalPath) (adminapi.None, error) {
				return adminapi.None{}, l.DeletePrincipal(ctx, op, kind, in.AccountID, in.Name)
			}),
			adminapi.Bind(of.PutPermissions, func(ctx context.Context, op op, in adminapi.Permissions) (adminapi.Principal, error) {
				return l.PutPermissions(ctx, op, kind, in.AccountID, in.Name, in)
			}))
	}
	return all
}
