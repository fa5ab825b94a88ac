package sandbox

import (
	"crypto/rsa"
	"crypto/x509"
	_ "embed"
	"encoding/pem"
	"time"

	"github.com/meterd/meterd/internal/adminapi"
	"github.com/meterd/meterd/internal/iam"
)

// Keys of the seeded products. They are published with the source: whoever has a copy can sign with them.
var (
	//go:embed keys/container-1.pem
	containerKey []byte
	//go:embed keys/hourly-1.pem
	hourlyKey1 []byte
	//go:embed keys/hourly-2.pem
	hourlyKey2 []byte
)

// The accounts of the seeded marketplace.
const (
	Acme     = "111111111111" // seller
	Borealis = "222222222222" // seller
	BuyerA   = "444444444444" // subscribed to everything
	BuyerB   = "555555555555" // known, subscribed to nothing
	BuyerC   = "666666666666" // its agreements have ended
)

// The products of the seeded marketplace.
const (
	LegacySaaS     = "sandboxlegacysaas00000001" // dimensions users, gb
	ConcurrentSaaS = "sandboxconcurrent00000001" // dimensions requests, storage_gb
	Container      = "sandboxcontainer000000001" // custom metering: vcpu_hours, jobs
	Hourly         = "sandboxhourly000000000001" // paid by the hour: RegisterUsage
	OtherSeller    = "sandboxotherseller0000001" // of Borealis; dimension units
)

// secretOf is the secret of a seeded access key: published, and as long as AWS's are.
func secretOf(accessKeyID string) string { return "published/sandbox/" + accessKeyID + "/x" }

func user(account, name, keyID string, allow ...string) adminapi.Principal {
	return adminapi.Principal{AccountID: account, Name: name, Allow: allow,
		AccessKeys: []adminapi.AccessKey{{AccessKeyID: keyID, SecretAccessKey: secretOf(keyID)}}}
}

// publicOf returns the public half of a key in PEM.
func publicOf(private []byte) string {
	block, _ := pem.Decode(private)
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		panic("internal error: seeded key: " + err.Error())
	}
	der, err := x509.MarshalPKIXPublicKey(&key.(*rsa.PrivateKey).PublicKey)
	if err != nil {
		panic("internal error: seeded key: " + err.Error())
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

// Marketplace returns the marketplace that a new sandbox is seeded with at the time now.
func Marketplace(now time.Time) *adminapi.Marketplace {
	began := now.Add(-30 * 24 * time.Hour)
	rotated := now.Add(-10 * 24 * time.Hour)
	ending := now.Add(-3 * 24 * time.Hour)
	ended := ending.Add(time.Hour)
	key := func(version int32, private []byte, rotatedAt *time.Time) adminapi.PublicKey {
		return adminapi.PublicKey{Version: version, PEM: publicOf(private), PrivatePEM: string(private), CreatedAt: &began, RotatedAt: rotatedAt, Expired: rotatedAt != nil}
	}
	m := &adminapi.Marketplace{
		Sellers: []adminapi.Seller{{AccountID: Acme, Name: "Acme"}, {AccountID: Borealis, Name: "Borealis"}},
		Products: []adminapi.Product{
			{ProductCode: LegacySaaS, ProductID: "prod-sandboxlegacy", SellerAccountID: Acme, Title: "Legacy SaaS", Type: "saas", Integration: "legacy", Dimensions: []string{"users", "gb"}},
			{ProductCode: ConcurrentSaaS, ProductID: "prod-sandboxconcur", SellerAccountID: Acme, Title: "SaaS with concurrent agreements", Type: "saas", Integration: "concurrent", Dimensions: []string{"requests", "storage_gb"}},
			{ProductCode: Container, ProductID: "prod-sandboxcontnr", SellerAccountID: Acme, Title: "Container with custom metering", Type: "container", Integration: "legacy", Dimensions: []string{"vcpu_hours", "jobs"},
				PublicKeys: []adminapi.PublicKey{key(1, containerKey, nil)}},
			{ProductCode: Hourly, ProductID: "prod-sandboxhourly", SellerAccountID: Acme, Title: "Container paid by the hour", Type: "container", Integration: "legacy", Dimensions: []string{"hours"},
				PublicKeys: []adminapi.PublicKey{key(1, hourlyKey1, &rotated), key(2, hourlyKey2, nil)}},
			{ProductCode: OtherSeller, ProductID: "prod-sandboxothers", SellerAccountID: Borealis, Title: "SaaS of another seller", Type: "saas", Integration: "legacy", Dimensions: []string{"units"}},
		},
		Users: []adminapi.Principal{
			user(Acme, "metering", "AKIASANDBOXACME00001", "MeterdSellerAccess"),
			user(Acme, "powerless", "AKIASANDBOXACME00002"),
			user(Borealis, "metering", "AKIASANDBOXBORE00001", "MeterdSellerAccess"),
			user(Borealis, "powerless", "AKIASANDBOXBORE00002"),
			user(BuyerA, "admin", "AKIASANDBOXBUYA00001", "aws-marketplace:MeterUsage", "aws-marketplace:RegisterUsage"),
			user(BuyerB, "admin", "AKIASANDBOXBUYB00001", "aws-marketplace:MeterUsage", "aws-marketplace:RegisterUsage"),
			user(BuyerC, "admin", "AKIASANDBOXBUYC00001", "aws-marketplace:MeterUsage", "aws-marketplace:RegisterUsage"),
		},
		Workloads: []adminapi.Workload{
			{AccountID: BuyerA, Platform: "ec2", ResourceID: "i-0a1b2c3d4e5f60001", Region: "us-east-1"},
			{AccountID: BuyerA, Platform: "ec2", ResourceID: "i-0a1b2c3d4e5f60002", Region: "us-east-1"},
			{AccountID: BuyerA, Platform: "ecs", ResourceID: "5d1c0e7f8a9b4c2d8e3f000000000001", Region: "us-east-1"},
			{AccountID: BuyerA, Platform: "ecs", ResourceID: "5d1c0e7f8a9b4c2d8e3f000000000002", Region: "us-east-1"},
			{AccountID: BuyerA, Platform: "eks", ResourceID: "acme-agent-7c9d8f6b5-aaaaa", Region: "us-east-1"},
			{AccountID: BuyerA, Platform: "eks", ResourceID: "acme-agent-7c9d8f6b5-bbbbb", Region: "us-east-1"},
			{AccountID: BuyerA, Platform: "agentcore", ResourceID: "acme_agent-AbCdEf0001", Region: "us-east-1"},
			{AccountID: BuyerA, Platform: "agentcore", ResourceID: "acme_agent-AbCdEf0002", Region: "us-east-1"},
			{AccountID: BuyerB, Platform: "ecs", ResourceID: "5d1c0e7f8a9b4c2d8e3f000000000003", Region: "us-east-1"},
		},
	}
	a := adminapi.Buyer{AccountID: BuyerA, Name: "buyer A"}
	c := adminapi.Buyer{AccountID: BuyerC, Name: "buyer C"}
	for i, p := range m.Products {
		tail := string(rune('a' + i))
		identifier := func(buyer string) string { return "sandbox" + buyer + p.SellerAccountID[:2] }
		a.Agreements = append(a.Agreements, adminapi.Agreement{ProductCode: p.ProductCode, AgreementID: "agmt-sandboxbuyera" + tail, StartTime: &began,
			LicenseARN: licenseARN(p.SellerAccountID, "a"+tail), CustomerIdentifier: identifier("A")})
		c.Agreements = append(c.Agreements, adminapi.Agreement{ProductCode: p.ProductCode, AgreementID: "agmt-sandboxbuyerc" + tail, StartTime: &began, EndingTime: &ending, EndTime: &ended,
			LicenseARN: licenseARN(p.SellerAccountID, "c"+tail), CustomerIdentifier: identifier("C")})
	}
	m.Buyers = []adminapi.Buyer{a, {AccountID: BuyerB, Name: "buyer B"}, c}
	return m
}

// licenseARN makes a licence ARN whose resource ends in the given hexadecimal digits.
func licenseARN(seller, tail string) string {
	const zeros = "00000000000000000000000000000000"
	return "arn:aws:license-manager::" + seller + ":license:l-" + zeros[:32-len(tail)] + tail
}

// MasterKey is the master key of every sandbox. It is published, which is why production ledgers refuse
// a sandbox's folder and a sandbox's keys.
func MasterKey() []byte { return iam.PublishedMasterKey() }
