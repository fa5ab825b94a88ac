package metering

import (
	"hash/maphash"
	"slices"
	"strings"
	"time"
)

// Account is an AWS account that sells, buys or both.
type Account struct {
	ID        uint32 // the catalogue's, 1 and up
	customers uint32 // the last added of its customer identifiers
	AccountID uint64 // the 12 digits as a number
	Name      string // the operator's word for it, may be empty
	Seller    bool
	Buyer     bool
	Suspended bool // a suspended buyer is not subscribed to anything (metering-api 2.3)
}

// FormatAccountID formats an account id as its 12 digits.
func FormatAccountID(accountID uint64) string {
	return string(appendAccountID(make([]byte, 0, 12), accountID))
}

func appendAccountID(b []byte, accountID uint64) []byte {
	var digits [12]byte
	for i := len(digits) - 1; i >= 0; i-- {
		digits[i] = byte('0' + accountID%10)
		accountID /= 10
	}
	return append(b, digits[:]...)
}

// ParseAccountID returns the number behind 12 digits.
func ParseAccountID(s string) (uint64, bool) {
	if len(s) != 12 {
		return 0, false
	}
	var n uint64
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n = n*10 + uint64(s[i]-'0')
	}
	return n, true
}

// SandboxKeyPrefix begins the access key ids of sandboxes. They are published, with their secrets, so a production
// ledger refuses them.
const SandboxKeyPrefix = "AKIASANDBOX"

// SandboxAccount reports whether the account is one of the published ones of sandboxes: twelve times the same digit.
func SandboxAccount(accountID uint64) bool { return accountID%111_111_111_111 == 0 }

// ValidProductCode reports whether code may be a product's code (metering-api 1.7). Product ids are never codes.
func ValidProductCode(code string) bool {
	return code != "" && len(code) <= 255 && validCode(code) && !strings.HasPrefix(code, "prod-")
}

// ProductType is what kind of product is sold.
type ProductType uint8

// The product types. Their numbers are stored and never change.
const (
	SaaS ProductType = 1 + iota
	Container
	AMI
)

var productTypes = [...]string{SaaS: "saas", Container: "container", AMI: "ami"}

func (t ProductType) String() string { return productTypes[t] }

// ParseProductType returns the type called saas, container or ami.
func ParseProductType(s string) (ProductType, bool) {
	for t := SaaS; t <= AMI; t++ {
		if productTypes[t] == s {
			return t, true
		}
	}
	return 0, false
}

// Product is something a seller publishes.
type Product struct {
	ID         uint32
	Seller     uint32 // the account that publishes it
	Code       string // the product code
	ProductID  string // "prod-…"; never accepted where a product code is asked for
	Title      string
	Type       ProductType
	Concurrent bool     // a Concurrent-Agreements product: LicenseArn only (metering-api 0.1, 2026-06-01)
	Regions    []Region // where it may be metered; empty means in every enabled region

	dimensions    []Dimension // by their N - 1
	dimensionKeys []string    // theirs
}

// Dimension is what a product is priced and metered by. Usage records are stored with its number, so that dimensions are
// added to a product, and never renamed or removed.
type Dimension struct {
	Product     uint32
	N           uint16 // its place among the product's, from 1
	Key         string // API name, case-sensitive (metering-api 1.8)
	Name        string
	Description string
	Unit        string
	Type        DimensionType
}

// DimensionType says whether a dimension is bought or used.
type DimensionType uint8

// The types of dimensions, as AddDimensions of the AWS Marketplace Catalog API has them. Their numbers are stored and
// never change.
const (
	Entitled          DimensionType = 1 + iota // bought in an agreement
	ExternallyMetered                          // used, and metered by the seller
)

// WithDimension returns the product with a dimension more, whose number follows those of the others, or with one in the
// place of that which has its number. Slices that Dimensions and DimensionKeys have returned stay as they are.
func (p Product) WithDimension(d Dimension) Product {
	p.dimensions = put(slices.Clone(p.dimensions), uint32(d.N), d)
	p.dimensionKeys = put(slices.Clone(p.dimensionKeys), uint32(d.N), d.Key)
	return p
}

// Dimensions returns the product's dimensions by their numbers.
func (p *Product) Dimensions() []Dimension { return p.dimensions }

// DimensionKeys returns the API names of the product's dimensions by their numbers; nil if it has none.
func (p *Product) DimensionKeys() []string { return p.dimensionKeys }

// Dimension returns the number of the dimension of an API name.
func (p *Product) Dimension(key string) (n uint16, ok bool) {
	for i, k := range p.dimensionKeys {
		if k == key {
			return uint16(i + 1), true
		}
	}
	return 0, false
}

func (p *Product) sells(in Region) bool {
	if len(p.Regions) == 0 {
		return true
	}
	for _, r := range p.Regions {
		if r == in {
			return true
		}
	}
	return false
}

// Agreement is a buyer's agreement for a product, and the licence that comes with it. What every record is judged by
// stands together in memory.
type Agreement struct {
	ID          uint32
	Product     uint32
	Buyer       uint32
	previous    uint32  // the same buyer's agreement for the same product before this one
	Start       Instant // usage counts from the hour of this instant
	EndingAt    Instant // when it began, or will begin, to end; 0 if open
	EndedAt     Instant // from then on no record is taken; 0 if open
	AgreementID string  // "agmt-…"
	LicenseARN  string  // "arn:aws:license-manager::…:license:l-…"
}

// State is where an agreement stands at some time.
type State uint8

// The states of an agreement (metering-api 2.10): usage is taken while it is active, and usage from before its
// end for one more hour while it is ending.
const (
	Pending State = iota
	Active
	Ending
	Ended
)

func (s State) String() string { return [...]string{"pending", "active", "ending", "ended"}[s] }

// State returns where the agreement stands at the time now.
func (a *Agreement) State(now Instant) State {
	switch {
	case a.EndedAt != 0 && now >= a.EndedAt:
		return Ended
	case a.EndingAt != 0 && now >= a.EndingAt:
		return Ending
	case now < a.Start:
		return Pending
	}
	return Active
}

// Customer is how one seller's products know a buyer.
type Customer struct {
	Seller, Buyer uint32
	previous      uint32 // the buyer's identifier before this one
	Identifier    string // CustomerIdentifier: the same for all products of the seller (metering-api 2.8)
}

// Workload is an EC2 instance, ECS task, EKS pod or AgentCore runtime of a buyer.
type Workload struct {
	ID         uint32
	Account    uint32 // the buyer's
	Platform   Platform
	ResourceID string // such as "i-0123456789abcdef0"
	Region     Region // where it runs
	Role       uint32 // the role whose session it calls with
}

// Registration remembers that a workload's first call for a product succeeded. From then on the workload's calls
// are not refused for want of an agreement (metering-api 2.6, 2.7). A registration made by RegisterUsage stands
// for hourly usage between its first and last call.
type Registration struct {
	Workload, Product uint32
	Operation         Operation // MeterUsage or RegisterUsage
	First, Last       Instant
}

// PublicKey is one version of the RSA key pair that signs a product's RegisterUsage tokens.
type PublicKey struct {
	Product   uint32
	Version   int32
	PEM       string  // SubjectPublicKeyInfo
	Sealed    []byte  // PKCS #8 private key under the master key
	Created   Instant // when the version was made
	RotatedAt Instant // when it was replaced; 0 while it is current
}

type pair struct{ a, b uint32 }

// Catalog holds what the service knows of regions, accounts, products, agreements and workloads, indexed for the
// look-ups that operations make. Ids are dense and never used again. It is changed item by item and is not
// safe for concurrent use.
type Catalog struct {
	Settings *Settings
	Serves   func(region string) bool // regions that are served here; all that are enabled if nil: see ServesRegion

	regions       []RegionInfo // by Region - 1, as are all slices below by their id
	accounts      []Account
	products      []Product
	agreements    []Agreement
	workloads     []Workload
	regionNamed   map[string]Region
	accountByID   map[uint64]uint32 // :: 12 digits → account
	productByCode map[string]uint32
	productByID   map[string]uint32
	agreementByID index
	byLicense     index           // :: licence ARN → agreement
	newest        map[pair]uint32 // :: product, buyer → latest agreement
	customers     []Customer
	customerNamed index // :: seller, CustomerIdentifier → its place in customers, plus one
	seed          maphash.Seed
	standings     standings
	suspended     []uint64 // a bit for each account, by its id
	workloadNamed map[workloadKey]uint32
	keys          map[uint32][]PublicKey // :: product → versions, ascending
	registered    map[pair]struct{}      // :: workload, product that has had a successful first call
}

// index finds things by the hash of a name that they keep themselves; a name that a thing has no more finds nothing. It
// costs half of a map with the names as keys, and the garbage collector does not look into it. There may be millions of
// agreements.
type index struct {
	first map[uint64]uint32 // :: hash → id
	other []uint32          // those whose hash another one had before
}

func (x *index) get(hash uint64, named func(uint32) bool) uint32 {
	id := x.first[hash]
	if id == 0 || named(id) {
		return id
	}
	for _, id := range x.other {
		if named(id) {
			return id
		}
	}
	return 0
}

// put adds a thing by a name that is new.
func (x *index) put(hash uint64, id uint32) {
	if x.first == nil {
		x.first = map[uint64]uint32{}
	}
	if _, taken := x.first[hash]; taken {
		x.other = append(x.other, id)
		return
	}
	x.first[hash] = id
}

func (c *Catalog) hash(name string) uint64 { return maphash.String(c.seed, name) }

func (c *Catalog) hashCustomer(seller uint32, identifier string) uint64 {
	return c.hash(identifier) ^ uint64(seller)*0x9e3779b97f4a7c15 // spreads small ids over all bits
}

type workloadKey struct {
	account  uint32
	platform Platform
	resource string
}

// NewCatalog returns an empty catalogue.
func NewCatalog(s *Settings) *Catalog {
	seed := maphash.MakeSeed()
	return &Catalog{
		Settings:      s,
		regionNamed:   map[string]Region{},
		accountByID:   map[uint64]uint32{},
		productByCode: map[string]uint32{},
		productByID:   map[string]uint32{},
		seed:          seed,
		standings:     standings{seed: maphash.String(seed, "standings")},
		newest:        map[pair]uint32{},
		workloadNamed: map[workloadKey]uint32{},
		keys:          map[uint32][]PublicKey{},
		registered:    map[pair]struct{}{},
	}
}

// put stores v under id, of ids that are dense, growing the slice as needed.
func put[T any](s []T, id uint32, v T) []T {
	for uint32(len(s)) < id {
		var zero T
		s = append(s, zero)
	}
	s[id-1] = v
	return s
}

func at[T any](s []T, id uint32) *T {
	if id == 0 || id > uint32(len(s)) {
		return nil
	}
	return &s[id-1]
}

// Reserve makes room for as many more, so that adding them is quick.
func (c *Catalog) Reserve(accounts, customers, agreements int) {
	c.accounts = slices.Grow(c.accounts, accounts)
	c.customers = slices.Grow(c.customers, customers)
	c.agreements = slices.Grow(c.agreements, agreements)
}

// Put adds or replaces a row that a pointer points to, of which the catalogue keeps a copy: a [RegionInfo], [Account],
// [Product], [Dimension], [PublicKey], [Agreement], [Customer] or [Workload]. It reports whether the catalogue keeps such rows.
func (c *Catalog) Put(row any) bool {
	switch r := row.(type) {
	case *RegionInfo:
		c.PutRegion(*r)
	case *Account:
		c.PutAccount(*r)
	case *Product:
		c.PutProduct(*r)
	case *Dimension:
		c.PutDimension(*r)
	case *PublicKey:
		c.PutPublicKey(*r)
	case *Agreement:
		c.PutAgreement(*r)
	case *Customer:
		c.PutCustomer(*r)
	case *Workload:
		c.PutWorkload(*r)
	default:
		return false
	}
	return true
}

// forget takes the name that a row had before out of the names of its table, unless it has been given to another one.
func forget[K comparable, ID comparable](names map[K]ID, old K, id ID) {
	if names[old] == id {
		delete(names, old)
	}
}

// PutRegion adds or replaces a region.
func (c *Catalog) PutRegion(r RegionInfo) {
	if old := c.Region(r.ID); old != nil {
		forget(c.regionNamed, old.Name, r.ID)
	}
	c.regions = put(c.regions, uint32(r.ID), r)
	c.regionNamed[r.Name] = r.ID
}

// PutAccount adds or replaces an account.
func (c *Catalog) PutAccount(a Account) {
	if old := c.Account(a.ID); old != nil {
		a.customers = old.customers
		forget(c.accountByID, old.AccountID, a.ID)
	}
	c.accounts = put(c.accounts, a.ID, a)
	c.accountByID[a.AccountID] = a.ID
	for len(c.suspended) <= int(a.ID/64) {
		c.suspended = append(c.suspended, 0)
	}
	c.suspended[a.ID/64] &^= 1 << (a.ID % 64)
	if a.Suspended {
		c.suspended[a.ID/64] |= 1 << (a.ID % 64)
	}
}

// PutProduct adds or replaces a product.
func (c *Catalog) PutProduct(p Product) {
	if old := c.Product(p.ID); old != nil {
		forget(c.productByCode, old.Code, p.ID)
		forget(c.productByID, old.ProductID, p.ID)
		p.dimensions, p.dimensionKeys = old.dimensions, old.dimensionKeys
	}
	c.products = put(c.products, p.ID, p)
	c.productByCode[p.Code] = p.ID
	c.productByID[p.ProductID] = p.ID
}

// PutDimension adds or replaces a dimension of a product that is there. Dimensions are added in the order of their
// numbers.
func (c *Catalog) PutDimension(d Dimension) {
	p := c.Product(d.Product)
	switch n := int(d.N); {
	case p == nil || n <= len(p.dimensions) && p.dimensions[n-1] == d:
	case n == len(p.dimensions)+1: // slices that were returned do not show what stands behind their ends
		p.dimensions, p.dimensionKeys = append(p.dimensions, d), append(p.dimensionKeys, d.Key)
	default:
		*p = p.WithDimension(d)
	}
}

// PutAgreement adds or replaces an agreement. Agreements are added in the order of their ids, and stay their
// product's and their buyer's.
func (c *Catalog) PutAgreement(a Agreement) {
	key := pair{a.Product, a.Buyer}
	if old := at(c.agreements, a.ID); old != nil && old.ID != 0 {
		a.previous = old.previous
		if old.AgreementID != a.AgreementID {
			c.agreementByID.put(c.hash(a.AgreementID), a.ID)
		}
		if old.LicenseARN != a.LicenseARN {
			c.byLicense.put(c.hash(a.LicenseARN), a.ID)
		}
		*old = a
		c.stand(c.newest[key])
		return
	}
	a.previous = c.newest[key]
	c.agreements = put(c.agreements, a.ID, a)
	c.newest[key] = a.ID
	c.stand(a.ID)
	c.agreementByID.put(c.hash(a.AgreementID), a.ID)
	c.byLicense.put(c.hash(a.LicenseARN), a.ID)
}

// PutCustomer adds or replaces the customer identifier by which a seller's products know a buyer that has been put.
func (c *Catalog) PutCustomer(u Customer) {
	buyer := c.Account(u.Buyer)
	for place := buyer.customers; place != 0; place = c.customers[place-1].previous {
		if old := &c.customers[place-1]; old.Seller == u.Seller {
			if old.Identifier != u.Identifier {
				old.Identifier = u.Identifier
				c.customerNamed.put(c.hashCustomer(u.Seller, u.Identifier), place)
			}
			return
		}
	}
	u.previous = buyer.customers
	c.customers = append(c.customers, u)
	buyer.customers = uint32(len(c.customers))
	c.customerNamed.put(c.hashCustomer(u.Seller, u.Identifier), buyer.customers)
}

// PutWorkload adds or replaces a workload.
func (c *Catalog) PutWorkload(w Workload) {
	if old := c.Workload(w.ID); old != nil {
		forget(c.workloadNamed, workloadKey{old.Account, old.Platform, old.ResourceID}, w.ID)
	}
	c.workloads = put(c.workloads, w.ID, w)
	c.workloadNamed[workloadKey{w.Account, w.Platform, w.ResourceID}] = w.ID
}

// PutPublicKey adds or replaces a version of a product's key.
func (c *Catalog) PutPublicKey(k PublicKey) {
	all := c.keys[k.Product]
	for i := range all {
		if all[i].Version == k.Version {
			all[i] = k
			return
		}
	}
	c.keys[k.Product] = append(all, k)
}

// PutRegistration remembers a successful first call.
func (c *Catalog) PutRegistration(r Registration) {
	c.registered[pair{r.Workload, r.Product}] = struct{}{}
}

// Registered reports whether the workload has had a successful call for the product.
func (c *Catalog) Registered(workload, product uint32) bool {
	_, ok := c.registered[pair{workload, product}]
	return ok
}

// Region returns the region of the given id, or nil.
func (c *Catalog) Region(id Region) *RegionInfo { return at(c.regions, uint32(id)) }

// RegionNamed returns the region of the given name, or nil.
func (c *Catalog) RegionNamed(name string) *RegionInfo { return c.Region(c.regionNamed[name]) }

// Account returns the account of the given id, or nil.
func (c *Catalog) Account(id uint32) *Account { return at(c.accounts, id) }

// AccountByID returns the account of the given AccountID, its 12 digits as a number, or nil.
func (c *Catalog) AccountByID(n uint64) *Account { return c.Account(c.accountByID[n]) }

// Product returns the product of the given id, or nil.
func (c *Catalog) Product(id uint32) *Product { return at(c.products, id) }

// ProductByCode returns the product of the given code, or nil.
func (c *Catalog) ProductByCode(code string) *Product { return c.Product(c.productByCode[code]) }

// ProductByID returns the product of the given ProductID ("prod-…"), or nil.
func (c *Catalog) ProductByID(id string) *Product { return c.Product(c.productByID[id]) }

// Agreement returns the agreement of the given id, or nil.
func (c *Catalog) Agreement(id uint32) *Agreement { return at(c.agreements, id) }

// AgreementByID returns the agreement of the given AgreementID ("agmt-…"), or nil.
func (c *Catalog) AgreementByID(id string) *Agreement {
	return c.Agreement(c.agreementByID.get(c.hash(id), func(n uint32) bool { return c.agreements[n-1].AgreementID == id }))
}

// AgreementByLicense returns the agreement of the given licence ARN, or nil.
func (c *Catalog) AgreementByLicense(arn string) *Agreement {
	return c.Agreement(c.byLicense.get(c.hash(arn), func(n uint32) bool { return c.agreements[n-1].LicenseARN == arn }))
}

// Workload returns the workload of the given id, or nil.
func (c *Catalog) Workload(id uint32) *Workload { return at(c.workloads, id) }

// WorkloadNamed returns the account's workload of the given platform and resource id, or nil.
func (c *Catalog) WorkloadNamed(account uint32, p Platform, resource string) *Workload {
	return c.Workload(c.workloadNamed[workloadKey{account, p, resource}])
}

// CustomerIdentifier returns how the seller's products know the buyer, or "".
func (c *Catalog) CustomerIdentifier(seller, buyer uint32) string {
	if a := c.Account(buyer); a != nil {
		for u := at(c.customers, a.customers); u != nil; u = at(c.customers, u.previous) {
			if u.Seller == seller {
				return u.Identifier
			}
		}
	}
	return ""
}

// Customers returns how sellers' products know the buyer, the latest first.
func (c *Catalog) Customers(buyer uint32) []Customer {
	var all []Customer
	for u := at(c.customers, c.Account(buyer).customers); u != nil; u = at(c.customers, u.previous) {
		all = append(all, *u)
	}
	return all
}

// Customer returns the buyer whom the seller's products know by the identifier, or nil.
func (c *Catalog) Customer(seller uint32, identifier string) *Account {
	found := at(c.customers, c.customerNamed.get(c.hashCustomer(seller, identifier), func(n uint32) bool {
		return c.customers[n-1].Seller == seller && c.customers[n-1].Identifier == identifier
	}))
	if found == nil {
		return nil
	}
	return c.Account(found.Buyer)
}

// NewestAgreement returns the buyer's latest agreement for the product, or nil.
func (c *Catalog) NewestAgreement(product, buyer uint32) *Agreement {
	return c.Agreement(c.newest[pair{product, buyer}])
}

// PreviousAgreement returns the same buyer's agreement for the same product before a, or nil.
func (c *Catalog) PreviousAgreement(a *Agreement) *Agreement { return c.Agreement(a.previous) }

// PublicKeys returns the versions of the product's key, ascending.
func (c *Catalog) PublicKeys(product uint32) []PublicKey { return c.keys[product] }

// Regions, Accounts, Products, Agreements and Workloads return all there are, in the order of their ids. The
// slices are the catalogue's own: do not change them, and do not keep them.
func (c *Catalog) Regions() []RegionInfo   { return c.regions }
func (c *Catalog) Accounts() []Account     { return c.accounts }
func (c *Catalog) Products() []Product     { return c.products }
func (c *Catalog) Agreements() []Agreement { return c.agreements }
func (c *Catalog) Workloads() []Workload   { return c.workloads }

// CheckRegion reports whether the operation is offered in the region to a caller on the platform (0 for sellers);
// nil means yes. metering-api 1.6: elsewhere DisabledApiException.
func (c *Catalog) CheckRegion(id Region, op Operation, p Platform) *Error {
	const mend = "Sign for and call a region that the service serves, such as us-east-1"
	switch r := c.Region(id); {
	case r == nil:
		return Errorf(DisabledAPI, "%v is not offered in the region. %s.", op, mend)
	case !c.ServesRegion(r) && (r.Enabled || c.Serves != nil):
		return Errorf(DisabledAPI, "%v is not offered in %s by this node. %s, or have the service's operator add %[2]s to --regions.", op, r.Name, mend)
	case !c.ServesRegion(r):
		return Errorf(DisabledAPI, "%v is not offered in %s. %s, or have the service's operator enable it: meterd admin region enable %[2]s.", op, r.Name, mend)
	case !regionOffers(r.Name, op, p):
		return Errorf(DisabledAPI, "AWS does not offer %v in %s to this kind of caller. %s.", op, r.Name, mend)
	}
	return nil
}

// ServesRegion reports whether calls are taken in the region: one that is enabled, and that the node serves if it was
// told which. To tell it a region that AWS's list has without the service is to enable it there.
func (c *Catalog) ServesRegion(r *RegionInfo) bool {
	if c.Serves == nil {
		return r.Enabled
	}
	return c.Serves(r.Name) && (r.Enabled || OffAtAWS(r.Name))
}

// FormatDuration writes a duration as people do: "24h", "90m".
func FormatDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = s[:len(s)-2]
	}
	if strings.HasSuffix(s, "h0m") {
		s = s[:len(s)-2]
	}
	return s
}
