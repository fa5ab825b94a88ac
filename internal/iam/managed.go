package iam

import (
	"maps"
	"slices"
	"strings"
)

// The managed policies that permissions may name in place of actions. All but the last
// are AWS's. AWS has none for SaaS sellers, and prints a policy for them to copy; that
// policy is the last.
const (
	MeteringFullAccess    = "AWSMarketplaceMeteringFullAccess"    // MeterUsage
	MeteringRegisterUsage = "AWSMarketplaceMeteringRegisterUsage" // RegisterUsage
	EntitlementAccess     = "AWSMarketplaceGetEntitlements"       // GetEntitlements
	MarketplaceFullAccess = "AWSMarketplaceFullAccess"            // all actions of aws-marketplace
	SellerAccess          = "MeterdSellerAccess"                  // BatchMeterUsage, ResolveCustomer, GetEntitlements
)

const meterUsage = "aws-marketplace:MeterUsage"

// managed holds, by name, the actions of managed policies that this service may
// have ("AWS managed policies for AWS Marketplace sellers" and "… for buyers"; one
// page of the seller guide says that MeteringRegisterUsage covers MeterUsage, the
// policy itself does not).
var managed = map[string][]string{
	MeteringFullAccess:    {meterUsage},
	MeteringRegisterUsage: {"aws-marketplace:RegisterUsage"},
	EntitlementAccess:     {"aws-marketplace:GetEntitlements"},
	MarketplaceFullAccess: {"aws-marketplace:*"},
	SellerAccess:          {"aws-marketplace:BatchMeterUsage", "aws-marketplace:ResolveCustomer", "aws-marketplace:GetEntitlements"},
}

// powerless are AWS's managed policies of the marketplace that hold no action of this
// service, although their names may suggest it.
var powerless = []string{
	"AWSMarketplaceManageSubscriptions", "AWSMarketplaceRead-only", "AWSMarketplaceSellerFullAccess",
	"AWSMarketplaceSellerOfferManagement", "AWSMarketplaceSellerProductsFullAccess", "AWSMarketplaceSellerProductsReadOnly",
}

// Managed returns the actions, with wildcards, that a managed policy stands for, or
// nil if there is none of that name. Names have the case that AWS gives them.
func Managed(name string) []string { return managed[name] }

func managedNames() string {
	return strings.Join(slices.Sorted(maps.Keys(managed)), ", ")
}
