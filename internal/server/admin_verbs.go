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
		adminapi.Bind(adminapi.ListRegions, func(_ context.Context, op op, in adminapi.Paging) (adminapi.Page[adminapi.Region], error) {
			return l.Regions(op, in.After, in.Limit)
		}),
		adminapi.Bind(adminapi.CreateRegion, func(_ context.Context, op op, in adminapi.Region) (adminapi.Region, error) {
			return l.CreateRegion(op, in)
		}),
		adminapi.Bind(adminapi.ChangeRegion, func(_ context.Context, op op, in adminapi.RegionChange) (adminapi.Region, error) {
			return l.EnableRegion(op, in.Name, in.Enabled)
		}),

		adminapi.Bind(adminapi.ListSellers, func(_ context.Context, op op, in adminapi.Paging) (adminapi.Page[adminapi.Seller], error) {
			return l.Sellers(op, in.After, in.Limit)
		}),
		adminapi.Bind(adminapi.CreateSeller, func(_ context.Context, op op, in adminapi.Seller) (adminapi.Seller, error) {
			return l.CreateSeller(op, in)
		}),
		adminapi.Bind(adminapi.GetSeller, func(_ context.Context, op op, in adminapi.AccountPath) (adminapi.Seller, error) {
			return l.Seller(op, in.AccountID)
		}),

		adminapi.Bind(adminapi.ListBuyers, func(_ context.Context, op op, in adminapi.Paging) (adminapi.Page[adminapi.Buyer], error) {
			return l.Buyers(op, in.After, in.Limit)
		}),
		adminapi.Bind(adminapi.CreateBuyer, func(_ context.Context, op op, in adminapi.Buyer) (adminapi.Buyer, error) {
			return l.CreateBuyer(op, in)
		}),
		adminapi.Bind(adminapi.GetBuyer, func(_ context.Context, op op, in adminapi.AccountPath) (adminapi.Buyer, error) {
			return l.Buyer(op, in.AccountID)
		}),
		adminapi.Bind(adminapi.ChangeBuyer, func(_ context.Context, op op, in adminapi.BuyerChange) (adminapi.Buyer, error) {
			return l.ChangeBuyer(op, in.AccountID, in)
		}),

		adminapi.Bind(adminapi.ListProducts, func(_ context.Context, op op, in adminapi.ProductPaging) (adminapi.Page[adminapi.Product], error) {
			return l.Products(op, in.SellerAccountID, in.After, in.Limit)
		}),
		adminapi.Bind(adminapi.CreateProduct, func(_ context.Context, op op, in adminapi.Product) (adminapi.Product, error) {
			return l.CreateProduct(op, in)
		}),
		adminapi.Bind(adminapi.GetProduct, func(_ context.Context, op op, in adminapi.ProductPath) (adminapi.Product, error) {
			return l.Product(op, in.ProductCode)
		}),
		adminapi.Bind(adminapi.AddDimension, func(_ context.Context, op op, in adminapi.NewDimension) (adminapi.Product, error) {
			return l.AddDimension(op, in.ProductCode, in)
		}),
		adminapi.Bind(adminapi.ListPublicKeys, func(_ context.Context, op op, in adminapi.ProductPath) (adminapi.Page[adminapi.PublicKey], error) {
			return l.PublicKeys(op, in.ProductCode)
		}),
		adminapi.Bind(adminapi.RotatePublicKey, func(_ context.Context, op op, in adminapi.ProductPath) (adminapi.PublicKey, error) {
			return l.RotatePublicKey(op, in.ProductCode)
		}),
		adminapi.Bind(adminapi.ExpirePublicKey, func(_ context.Context, op op, in adminapi.PublicKeyPath) (adminapi.PublicKey, error) {
			return l.ExpirePublicKey(op, in.ProductCode, in.Version)
		}),

		adminapi.Bind(adminapi.ListAgreements, func(_ context.Context, op op, in adminapi.AgreementPaging) (adminapi.Page[adminapi.Agreement], error) {
			return l.Agreements(op, in.AgreementFilter, in.After, in.Limit)
		}),
		adminapi.Bind(adminapi.CreateAgreement, func(_ context.Context, op op, in adminapi.Agreement) (adminapi.Agreement, error) {
			return l.CreateAgreement(op, in)
		}),
		adminapi.Bind(adminapi.GetAgreement, func(_ context.Context, op op, in adminapi.AgreementPath) (adminapi.Agreement, error) {
			return l.Agreement(op, in.AgreementID)
		}),
		adminapi.Bind(adminapi.CancelAgreement, func(_ context.Context, op op, in adminapi.Cancellation) (adminapi.Agreement, error) {
			return l.CancelAgreement(op, in.AgreementID, in)
		}),
		adminapi.Bind(adminapi.EndAgreement, func(_ context.Context, op op, in adminapi.AgreementPath) (adminapi.Agreement, error) {
			return l.EndAgreement(op, in.AgreementID)
		}),

		adminapi.Bind(adminapi.CreateAccessKey, func(_ context.Context, op op, in adminapi.PrincipalPath) (adminapi.AccessKey, error) {
			return l.CreateAccessKey(op, in.AccountID, in.Name)
		}),
		adminapi.Bind(adminapi.ChangeAccessKey, func(_ context.Context, op op, in adminapi.AccessKeyChange) (adminapi.AccessKey, error) {
			return l.ChangeAccessKey(op, in.AccessKeyID, in)
		}),
		adminapi.Bind(adminapi.DeleteAccessKey, func(_ context.Context, op op, in adminapi.AccessKeyPath) (adminapi.None, error) {
			return adminapi.None{}, l.DeleteAccessKey(op, in.AccessKeyID)
		}),
		adminapi.Bind(adminapi.ListWorkloads, func(_ context.Context, op op, in adminapi.AccountPaging) (adminapi.Page[adminapi.Workload], error) {
			return l.Workloads(op, in.AccountID, in.After, in.Limit)
		}),
		adminapi.Bind(adminapi.CreateWorkloadCredentials, func(_ context.Context, op op, in adminapi.WorkloadRequest) (adminapi.WorkloadCredentials, error) {
			out, err := l.CreateWorkloadCredentials(op, in)
			if a.Endpoint != nil {
				out.Endpoint = a.Endpoint()
			}
			return out, err
		}),

		adminapi.Bind(adminapi.ListTokens, func(_ context.Context, op op, in adminapi.Paging) (adminapi.Page[adminapi.Token], error) {
			return l.Tokens(op, in.After, in.Limit)
		}),
		adminapi.Bind(adminapi.CreateToken, func(_ context.Context, op op, in adminapi.TokenRequest) (adminapi.Token, error) {
			return l.CreateToken(op, in)
		}),
		adminapi.Bind(adminapi.RevokeToken, func(_ context.Context, op op, in adminapi.TokenPath) (adminapi.None, error) {
			return adminapi.None{}, l.RevokeToken(op, in.ID)
		}),
		adminapi.Bind(adminapi.ListAdminTokens, func(_ context.Context, op op, in adminapi.Paging) (adminapi.Page[adminapi.AdminToken], error) {
			return l.AdminTokens(op, in.After, in.Limit)
		}),
		adminapi.Bind(adminapi.CreateAdminToken, func(_ context.Context, op op, in adminapi.AdminToken) (adminapi.AdminToken, error) {
			return l.CreateAdminToken(op, in)
		}),
		adminapi.Bind(adminapi.DeleteAdminToken, func(_ context.Context, op op, in adminapi.TokenPath) (adminapi.None, error) {
			return adminapi.None{}, l.DeleteAdminToken(op, in.ID)
		}),

		adminapi.Bind(adminapi.ListUsage, func(_ context.Context, op op, in adminapi.UsagePaging) (adminapi.UsagePage, error) {
			return l.Usage(op, in.UsageFilter, in.After, in.Limit)
		}),
		adminapi.Bind(adminapi.SumUsage, func(_ context.Context, op op, in adminapi.UsageGrouping) (adminapi.UsageSums, error) {
			return l.UsageSums(op, in.UsageFilter, in.Groups())
		}),
		adminapi.Bind(adminapi.GetCall, func(_ context.Context, op op, in adminapi.CallPath) (adminapi.Call, error) {
			c, err := l.CallRecord(op, in.RequestID)
			c.Error = exceptionNamed(c.Error, l.Settings())
			return c, err
		}),
		adminapi.Bind(adminapi.GetClock, func(_ context.Context, op op, _ adminapi.None) (adminapi.Clock, error) {
			return l.Clock(op)
		}),
		adminapi.Bind(adminapi.ChangeClock, func(_ context.Context, op op, in adminapi.ClockChange) (adminapi.Clock, error) {
			return l.ChangeClock(op, in)
		}),
		adminapi.Bind(adminapi.AcceptClock, func(_ context.Context, op op, _ adminapi.None) (adminapi.Clock, error) {
			return l.AcceptClock(op)
		}),
	}
	for kind, of := range map[iam.Kind]adminapi.Principals{iam.User: adminapi.Users, iam.Role: adminapi.Roles} {
		all = append(all,
			adminapi.Bind(of.List, func(_ context.Context, op op, in adminapi.AccountPaging) (adminapi.Page[adminapi.Principal], error) {
				return l.Principals(op, kind, in.AccountID, in.After, in.Limit)
			}),
			adminapi.Bind(of.Create, func(_ context.Context, op op, in adminapi.Principal) (adminapi.Principal, error) {
				return l.CreatePrincipal(op, kind, in)
			}),
			adminapi.Bind(of.Get, func(_ context.Context, op op, in adminapi.PrincipalPath) (adminapi.Principal, error) {
				return l.Principal(op, kind, in.AccountID, in.Name)
			}),
			adminapi.Bind(of.Delete, func(_ context.Context, op op, in adminapi.PrincipalPath) (adminapi.None, error) {
				return adminapi.None{}, l.DeletePrincipal(op, kind, in.AccountID, in.Name)
			}),
			adminapi.Bind(of.PutPermissions, func(_ context.Context, op op, in adminapi.Permissions) (adminapi.Principal, error) {
				return l.PutPermissions(op, kind, in.AccountID, in.Name, in)
			}))
	}
	return all
}
