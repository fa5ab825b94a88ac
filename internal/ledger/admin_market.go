package ledger

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/meterd/meterd/internal/adminapi"
	"github.com/meterd/meterd/internal/metering"
)

// Bounds of the marketplace.
const (
	maxRegions    = 255  // a region's number is a byte
	maxDimensions = 1000 // of a product; records name them, and they are searched in turn
	maxText       = 255
	keyBits       = 2048 // of the keys that sign RegisterUsage tokens
)

// CreateRegion adds a region that signatures may name.
func (l *Ledger) CreateRegion(op Operator, in adminapi.Region) (adminapi.Region, error) {
	err := l.act(op, func(p *plan) *metering.Error {
		p.act = "create region " + in.Name
		exists, err := p.addRegion(&in)
		if exists {
			err = conflict("name: region %s is there already: change it with: meterd admin region enable or disable", in.Name)
		}
		return err
	})
	if err != nil {
		return adminapi.Region{}, err
	}
	return l.regionNamed(op, in.Name)
}

func (p *plan) addRegion(in *adminapi.Region) (exists bool, err *metering.Error) {
	if !metering.ValidRegionName(in.Name) {
		return false, invalid("name: %.40q is not a region name: write one such as us-east-1 or eu-private-1", in.Name)
	}
	if r := p.region(in.Name); r != nil {
		if in.Enabled != nil && *in.Enabled != r.Enabled {
			if *in.Enabled && metering.OffAtAWS(r.Name) {
				p.regions.change(uint32(r.ID)).Enabled = true
				return false, nil
			}
			return true, conflict("enabled: region %s is there with enabled: %t, not %t: change it with: meterd admin region enable or disable", r.Name, r.Enabled, *in.Enabled)
		}
		return true, nil
	}
	id := p.regions.next()
	if id > maxRegions {
		return false, conflict("name: there are %d regions already and there can be no more", maxRegions)
	}
	p.regions.add(metering.RegionInfo{ID: metering.Region(id), Name: in.Name, Enabled: in.Enabled == nil || *in.Enabled})
	p.regionNamed[in.Name] = id
	return false, nil
}

// EnableRegion says whether records are taken in the region.
func (l *Ledger) EnableRegion(op Operator, name string, enabled bool) (adminapi.Region, error) {
	err := l.act(op, func(p *plan) *metering.Error {
		p.act = "disable region " + name
		if enabled {
			p.act = "enable region " + name
		}
		r := p.region(name)
		if r == nil {
			return noRegion("name", name)
		}
		p.regions.change(uint32(r.ID)).Enabled = enabled
		return nil
	})
	if err != nil {
		return adminapi.Region{}, err
	}
	return l.regionNamed(op, name)
}

func noRegion(field, name string) *metering.Error {
	return notFound("%s: region %.40q is not known: add it with: meterd admin region create", field, name)
}

func (l *Ledger) regionNamed(op Operator, name string) (adminapi.Region, error) {
	return find(l, op, func() (adminapi.Region, *metering.Error) {
		r := l.catalog.RegionNamed(name)
		if r == nil {
			return adminapi.Region{}, noRegion("name", name)
		}
		return regionShape(r), nil
	})
}

func regionShape(r *metering.RegionInfo) adminapi.Region {
	return adminapi.Region{Name: r.Name, Enabled: new(r.Enabled)}
}

// Regions lists the regions that signatures may name.
func (l *Ledger) Regions(op Operator, after string, limit int) (adminapi.Page[adminapi.Region], error) {
	return list(l, op, l.catalog.Regions, after, limit, func(r *metering.RegionInfo) (adminapi.Region, bool) { return regionShape(r), true })
}

// CreateSeller makes an account a seller. The account may be a buyer too.
func (l *Ledger) CreateSeller(op Operator, in adminapi.Seller) (adminapi.Seller, error) {
	err := l.act(op, func(p *plan) *metering.Error {
		p.act = "create seller " + in.AccountID
		exists, err := p.addSeller(&in)
		if exists {
			err = conflict("account_id: account %s is a seller already", in.AccountID)
		}
		return err
	})
	if err != nil {
		return adminapi.Seller{}, err
	}
	return l.Seller(op, in.AccountID)
}

func (p *plan) addSeller(in *adminapi.Seller) (exists bool, err *metering.Error) {
	n, err := accountNumber("account_id", in.AccountID)
	if err != nil {
		return false, err
	}
	_, exists, err = p.addParty(n, in.Name, func(a *metering.Account) *bool { return &a.Seller })
	return exists, err
}

// addParty makes the account a seller or a buyer, as role says. It returns the account's number.
func (p *plan) addParty(n uint64, name string, role func(*metering.Account) *bool) (id uint32, exists bool, err *metering.Error) {
	if err := checkText("name", name, 0, maxText); err != nil {
		return 0, false, err
	}
	a := p.account(n)
	if a == nil {
		if !p.l.Sandbox() && metering.SandboxAccount(n) {
			return 0, false, invalid("account_id: %s is an account of sandboxes, whose keys are published: a production ledger does not take it", metering.Number(n))
		}
		added := metering.Account{ID: p.accounts.next(), AccountID: n, Name: name}
		*role(&added) = true
		p.accounts.add(added)
		p.accountByID[n] = added.ID
		return added.ID, false, nil
	}
	exists = *role(a)
	if name != "" && name != a.Name {
		if exists || a.Name != "" {
			return a.ID, exists, conflict("name: account %s is there with the name %q, not %q: leave name out, or write the same", metering.Number(n), a.Name, name)
		}
		p.accounts.change(a.ID).Name = name
	}
	if !exists {
		*role(p.accounts.change(a.ID)) = true
	}
	return a.ID, exists, nil
}

// Seller returns a seller.
func (l *Ledger) Seller(op Operator, accountID string) (adminapi.Seller, error) {
	return find(l, op, func() (adminapi.Seller, *metering.Error) {
		n, _ := metering.ParseAccountID(accountID)
		a := l.catalog.AccountByID(n)
		if a == nil || !a.Seller {
			return adminapi.Seller{}, noSeller("account_id", accountID)
		}
		return sellerShape(a), nil
	})
}

func sellerShape(a *metering.Account) adminapi.Seller {
	return adminapi.Seller{AccountID: metering.Number(a.AccountID), Name: a.Name}
}

func noSeller(field, id string) *metering.Error {
	return notFound("%s: account %.40q is not a seller: make it one with: meterd admin seller create", field, id)
}

// Sellers lists the sellers.
func (l *Ledger) Sellers(op Operator, after string, limit int) (adminapi.Page[adminapi.Seller], error) {
	return list(l, op, l.catalog.Accounts, after, limit, func(a *metering.Account) (adminapi.Seller, bool) {
		if !a.Seller {
			return adminapi.Seller{}, false
		}
		return sellerShape(a), true
	})
}

// CreateBuyer makes an account a buyer, with the customer identifiers and agreements given. The account may be a
// seller too.
func (l *Ledger) CreateBuyer(op Operator, in adminapi.Buyer) (adminapi.Buyer, error) {
	err := l.act(op, func(p *plan) *metering.Error {
		p.act = "create buyer " + in.AccountID
		if n, ok := metering.ParseAccountID(in.AccountID); ok {
			if a := p.account(n); a != nil && a.Buyer {
				return conflict("account_id: account %s is a buyer already", in.AccountID)
			}
		}
		_, err := p.addBuyer(&in, nil)
		return err
	})
	if err != nil {
		return adminapi.Buyer{}, err
	}
	return l.Buyer(op, in.AccountID)
}

// addBuyer adds a buyer with everything in it. count counts the agreements that are new; it may be nil.
func (p *plan) addBuyer(in *adminapi.Buyer, count *int) (exists bool, err *metering.Error) {
	n, err := accountNumber("account_id", in.AccountID)
	if err != nil {
		return false, err
	}
	id, exists, err := p.addParty(n, in.Name, func(a *metering.Account) *bool { return &a.Buyer })
	if err != nil {
		return exists, err
	}
	if in.Suspended && !p.accounts.at(id).Suspended {
		if exists {
			return true, conflict("suspended: buyer %s is there and not suspended: change it with: meterd admin buyer suspend %s", in.AccountID, in.AccountID)
		}
		p.accounts.change(id).Suspended = true
	}
	for i, c := range in.Identifiers {
		if err := p.part(p.addIdentity(id, &c), "customer_identifiers[%d].", i); err != nil {
			return exists, err
		}
	}
	for i := range in.Agreements {
		a := in.Agreements[i]
		there, err := p.addAgreementOf(in.AccountID, &a, count != nil)
		if err = p.part(err, "agreements[%d].", i); err != nil {
			return exists, err
		}
		if count != nil && !there {
			*count++
		}
	}
	return exists, nil
}

// addAgreementOf adds an agreement that stands with its buyer.
func (p *plan) addAgreementOf(buyer string, in *adminapi.Agreement, imported bool) (exists bool, err *metering.Error) {
	if in.BuyerAccountID != "" && in.BuyerAccountID != buyer {
		return false, invalid("buyer_account_id: is %.40q, but the buyer is %s: leave it out", in.BuyerAccountID, buyer)
	}
	in.BuyerAccountID = buyer
	_, exists, err = p.addAgreement(in, imported)
	return exists, err
}

func (p *plan) addIdentity(buyer uint32, in *adminapi.CustomerIdentity) *metering.Error {
	n, err := accountNumber("seller_account_id", in.SellerAccountID)
	if err != nil {
		return err
	}
	seller := p.account(n)
	if seller == nil || !seller.Seller {
		return p.absent(in.SellerAccountID, noSeller("seller_account_id", in.SellerAccountID))
	}
	return p.addCustomer(seller.ID, buyer, in.CustomerIdentifier)
}

// addCustomer notes how the seller's products know the buyer: the same for all of them and for ever (metering-api 2.8).
func (p *plan) addCustomer(seller, buyer uint32, identifier string) *metering.Error {
	if err := checkText("customer_identifier", identifier, 1, maxText); err != nil {
		return err
	}
	switch known := p.customerIdentifier(seller, buyer); {
	case known == identifier:
		return nil
	case known != "":
		return conflict("customer_identifier: seller %s knows buyer %s as %q, not %q, and that does not change: leave customer_identifier out",
			p.digits(seller), p.digits(buyer), known, identifier)
	}
	if other := p.customerNamed(seller, identifier); other != nil {
		return conflict("customer_identifier: %q is how seller %s knows buyer %s: choose another one", identifier, p.digits(seller), metering.Number(other.AccountID))
	}
	p.customers = append(p.customers, metering.Customer{Seller: seller, Buyer: buyer, Identifier: identifier})
	p.customer[subscriber{seller, buyer}] = identifier
	p.buyerOf[customerName{seller, identifier}] = buyer
	return nil
}

// makeCustomer sees to it that the seller's products know the buyer. The identifier is derived from the two
// accounts, so it is the same in every copy of the ledger.
func (p *plan) makeCustomer(seller, buyer uint32) *metering.Error {
	if p.customerIdentifier(seller, buyer) != "" {
		return nil
	}
	for try := 0; ; try++ {
		identifier := spell(mixedAlphanumeric, 12, p.l.derive("customer identifier", p.digits(seller), p.digits(buyer), strconv.Itoa(try)))
		if len(identifier) == 12 && p.customerNamed(seller, identifier) == nil {
			return p.addCustomer(seller, buyer, identifier)
		}
	}
}

// digits returns the 12 digits of an account.
func (p *plan) digits(account uint32) string {
	return metering.Number(p.accounts.at(account).AccountID)
}

// buyer returns the buyer of the given 12 digits.
func (p *plan) buyer(field, accountID string) (*metering.Account, *metering.Error) {
	n, err := accountNumber(field, accountID)
	if err != nil {
		return nil, err
	}
	a := p.account(n)
	if a == nil || !a.Buyer {
		return nil, p.absent(accountID, noBuyer(field, accountID))
	}
	return a, nil
}

func noBuyer(field, id string) *metering.Error {
	return notFound("%s: account %.40q is not a buyer: make it one with: meterd admin buyer create", field, id)
}

// ChangeBuyer suspends a buyer, or ends its suspension.
func (l *Ledger) ChangeBuyer(op Operator, accountID string, in adminapi.BuyerChange) (adminapi.Buyer, error) {
	err := l.act(op, func(p *plan) *metering.Error {
		if in.Suspended == nil {
			return invalid("suspended: is missing: give true or false")
		}
		p.act = "end the suspension of buyer " + accountID
		if *in.Suspended {
			p.act = "suspend buyer " + accountID
		}
		a, err := p.buyer("account_id", accountID)
		if err != nil {
			return err
		}
		p.accounts.change(a.ID).Suspended = *in.Suspended
		return nil
	})
	if err != nil {
		return adminapi.Buyer{}, err
	}
	return l.Buyer(op, accountID)
}

// Buyer returns a buyer, with its customer identifiers.
func (l *Ledger) Buyer(op Operator, accountID string) (adminapi.Buyer, error) {
	return find(l, op, func() (adminapi.Buyer, *metering.Error) {
		n, _ := metering.ParseAccountID(accountID)
		a := l.catalog.AccountByID(n)
		if a == nil || !a.Buyer {
			return adminapi.Buyer{}, noBuyer("account_id", accountID)
		}
		return l.buyerShape(a), nil
	})
}

func (l *Ledger) buyerShape(a *metering.Account) adminapi.Buyer {
	b := adminapi.Buyer{AccountID: metering.Number(a.AccountID), Name: a.Name, Suspended: a.Suspended}
	for _, c := range l.catalog.Customers(a.ID) {
		b.Identifiers = append(b.Identifiers, adminapi.CustomerIdentity{SellerAccountID: l.number(c.Seller), CustomerIdentifier: c.Identifier})
	}
	return b
}

// Buyers lists the buyers.
func (l *Ledger) Buyers(op Operator, after string, limit int) (adminapi.Page[adminapi.Buyer], error) {
	return list(l, op, l.catalog.Accounts, after, limit, func(a *metering.Account) (adminapi.Buyer, bool) {
		if !a.Buyer {
			return adminapi.Buyer{}, false
		}
		return l.buyerShape(a), true
	})
}

// CreateProduct publishes a product of a seller.
func (l *Ledger) CreateProduct(op Operator, in adminapi.Product) (adminapi.Product, error) {
	var id uint32
	err := l.act(op, func(p *plan) (err *metering.Error) {
		var exists bool
		if id, exists, err = p.addProduct(&in, false); err != nil {
			return err
		}
		if exists {
			return conflict("product_code: product %q is there already", in.ProductCode)
		}
		p.act = "create product " + p.products.at(id).Code
		return nil
	})
	if err != nil {
		return adminapi.Product{}, err
	}
	return find(l, op, func() (adminapi.Product, *metering.Error) { return l.productShape(l.catalog.Product(id)), nil })
}

// addProduct adds a product. In an import, one without a product code is the seller's product of that title.
func (p *plan) addProduct(in *adminapi.Product, imported bool) (id uint32, exists bool, err *metering.Error) {
	product, err := p.checkProduct(in)
	if err != nil {
		return 0, false, err
	}
	if old := p.product(in.ProductCode); old != nil {
		return old.ID, true, p.sameProduct(old, in, product)
	}
	if in.ProductCode == "" && imported {
		if in.Title == "" {
			return 0, false, invalid("product_code: is missing, and so is title: give one of them, so that a second import finds the product")
		}
		if old := p.productTitled(product.Seller, in.Title); old != nil {
			return old.ID, true, p.sameProduct(old, in, product)
		}
	}
	if product.Code == "" {
		if product.Code, err = p.name("", 25); err != nil {
			return 0, false, err
		}
	}
	if product.ProductID == "" {
		if product.ProductID, err = p.name("prod-", 13); err != nil {
			return 0, false, err
		}
	}
	if old := p.productOfID(product.ProductID); old != nil {
		return 0, false, conflict("product_id: %q is the product id of product %q: choose another one, or leave it out", product.ProductID, old.Code)
	}
	product.ID = p.products.next()
	p.products.add(product)
	p.productByCode[product.Code] = product.ID
	p.productByID[product.ProductID] = product.ID
	for i := range in.PublicKeys {
		if err := p.part(p.addPublicKey(product.ID, &in.PublicKeys[i]), "public_keys[%d].", i); err != nil {
			return 0, false, err
		}
	}
	if len(in.PublicKeys) == 0 && product.Type == metering.Container {
		return product.ID, false, p.makePublicKey(product.ID, 1)
	}
	return product.ID, false, nil
}

// checkProduct checks what can be checked of a product by itself.
func (p *plan) checkProduct(in *adminapi.Product) (out metering.Product, err *metering.Error) {
	n, err := accountNumber("seller_account_id", in.SellerAccountID)
	if err != nil {
		return out, err
	}
	seller := p.account(n)
	if seller == nil || !seller.Seller {
		return out, p.absent(in.SellerAccountID, noSeller("seller_account_id", in.SellerAccountID))
	}
	out = metering.Product{Seller: seller.ID, Code: in.ProductCode, ProductID: in.ProductID, Title: in.Title, Dimensions: in.Dimensions}
	if strings.HasPrefix(in.ProductCode, "prod-") {
		return out, invalid("product_code: %.80q looks like a product id: write it into product_id, and a code of letters and digits here, or leave it out", in.ProductCode)
	}
	if in.ProductCode != "" && !metering.ValidProductCode(in.ProductCode) {
		return out, invalid("product_code: %.80q must have at most 255 letters, digits and -/=:_.@: write such a code, or leave it out", in.ProductCode)
	}
	if in.ProductID != "" && !identifier(in.ProductID, "prod-") {
		return out, invalid("product_id: %.80q must begin with prod- and go on with letters, digits and hyphens, at most 255 in all: write such an id, or leave it out", in.ProductID)
	}
	if err := checkText("title", in.Title, 0, maxText); err != nil {
		return out, err
	}
	var ok bool
	if out.Type, ok = metering.ParseProductType(in.Type); !ok {
		return out, invalid("type: must be saas, container or ami, not %.40q", in.Type)
	}
	switch in.Integration {
	case "":
		out.Concurrent = out.Type == metering.SaaS
	case "legacy":
	case "concurrent":
		out.Concurrent = true
	default:
		return out, invalid("integration: must be legacy or concurrent, not %.40q", in.Integration)
	}
	if len(in.Dimensions) > maxDimensions {
		return out, invalid("dimensions: there are %d, but a product can have at most %d", len(in.Dimensions), maxDimensions)
	}
	for i, d := range in.Dimensions {
		if err := checkText(fmt.Sprintf("dimensions[%d]", i), d, 1, maxText); err != nil {
			return out, err
		}
		if slices.Contains(in.Dimensions[:i], d) {
			return out, invalid("dimensions[%d]: %q is there twice: name each dimension once", i, d)
		}
	}
	for i, name := range in.Regions {
		r := p.region(name)
		if r == nil {
			return out, p.absent(name, noRegion(fmt.Sprintf("regions[%d]", i), name))
		}
		if slices.Contains(out.Regions, r.ID) {
			return out, invalid("regions[%d]: %s is there twice: name each region once", i, name)
		}
		out.Regions = append(out.Regions, r.ID)
	}
	return out, nil
}

// identifier tells whether s is an identifier with the prefix, as AWS's look.
func identifier(s, prefix string) bool {
	if len(s) <= len(prefix) || len(s) > maxText || !strings.HasPrefix(s, prefix) {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-') {
			return false
		}
	}
	return true
}

// sameProduct tells where in, which is new once checked, differs from the product that is there. What in leaves
// out does not differ.
func (p *plan) sameProduct(old *metering.Product, in *adminapi.Product, checked metering.Product) *metering.Error {
	differs := func(field, there, given string) *metering.Error {
		return conflict("%s: product %q is there with %s, not %s: write the same, or another product_code", field, old.Code, there, given)
	}
	switch {
	case checked.Seller != old.Seller:
		return differs("seller_account_id", p.digits(old.Seller), in.SellerAccountID)
	case in.ProductID != "" && in.ProductID != old.ProductID:
		return differs("product_id", old.ProductID, in.ProductID)
	case in.Title != "" && in.Title != old.Title:
		return differs("title", strconv.Quote(old.Title), strconv.Quote(in.Title))
	case checked.Type != old.Type:
		return differs("type", old.Type.String(), in.Type)
	case in.Integration != "" && checked.Concurrent != old.Concurrent:
		return differs("integration", integration(old), in.Integration)
	case in.Dimensions != nil && !slices.Equal(in.Dimensions, old.Dimensions):
		return differs("dimensions", fmt.Sprintf("%.200q", old.Dimensions), fmt.Sprintf("%.200q", in.Dimensions))
	case in.Regions != nil && !slices.Equal(slices.Sorted(slices.Values(checked.Regions)), slices.Sorted(slices.Values(old.Regions))):
		return differs("regions", "other regions", strings.Join(in.Regions, ", "))
	}
	for i := range in.PublicKeys {
		k, err := p.checkPublicKey(old.ID, &in.PublicKeys[i])
		if err != nil {
			return within(err, "public_keys[%d].", i)
		}
		j := slices.IndexFunc(p.l.catalog.PublicKeys(old.ID), func(o metering.PublicKey) bool { return o.Version == k.Version && o.PEM == k.PEM })
		if j < 0 {
			return within(differs("version", "another public key, or none,", fmt.Sprintf("version %d as given", k.Version)), "public_keys[%d].", i)
		}
	}
	return nil
}

func integration(p *metering.Product) string {
	if p.Concurrent {
		return "concurrent"
	}
	return "legacy"
}

// productTitled returns the seller's product of the title that was there before the plan, or nil.
func (p *plan) productTitled(seller uint32, name string) *metering.Product {
	if p.titled == nil {
		p.titled = map[title]uint32{}
		for i := range p.products.base {
			p.titled[title{p.products.base[i].Seller, p.products.base[i].Title}] = p.products.base[i].ID
		}
	}
	return p.products.at(p.titled[title{seller, name}])
}

// productNamed returns the product of the code.
func (p *plan) productNamed(field, code string) (*metering.Product, *metering.Error) {
	if product := p.product(code); product != nil {
		return product, nil
	}
	return nil, p.absent(code, noProduct(field, code, p.productOfID(code)))
}

func noProduct(field, code string, ofID *metering.Product) *metering.Error {
	if ofID != nil {
		return notFound("%s: %.80q is a product id: write its product code, %s", field, code, ofID.Code)
	}
	return notFound("%s: there is no product %.80q: meterd admin product list shows the codes", field, code)
}

// AddDimension adds a dimension to a product. Dimensions are never renamed or removed: usage rows count them.
func (l *Ledger) AddDimension(op Operator, code string, in adminapi.NewDimension) (adminapi.Product, error) {
	err := l.act(op, func(p *plan) *metering.Error {
		p.act = "add dimension " + in.Dimension + " to product " + code
		product, err := p.productNamed("product_code", code)
		if err != nil {
			return err
		}
		if err := checkText("dimension", in.Dimension, 1, maxText); err != nil {
			return err
		}
		if slices.Contains(product.Dimensions, in.Dimension) {
			return conflict("dimension: product %q has the dimension %q already", code, in.Dimension)
		}
		if len(product.Dimensions) >= maxDimensions {
			return conflict("dimension: product %q has %d dimensions already and there can be no more", code, maxDimensions)
		}
		// In a new array: operations may be reading the old one.
		p.products.change(product.ID).Dimensions = append(slices.Clip(product.Dimensions), in.Dimension)
		return nil
	})
	if err != nil {
		return adminapi.Product{}, err
	}
	return l.Product(op, code)
}

// Product returns a product, with its public keys.
func (l *Ledger) Product(op Operator, code string) (adminapi.Product, error) {
	return find(l, op, func() (adminapi.Product, *metering.Error) {
		product := l.catalog.ProductByCode(code)
		if product == nil {
			return adminapi.Product{}, noProduct("product_code", code, l.catalog.ProductByID(code))
		}
		return l.productShape(product), nil
	})
}

func (l *Ledger) productShape(p *metering.Product) adminapi.Product {
	out := adminapi.Product{ProductCode: p.Code, ProductID: p.ProductID, SellerAccountID: l.number(p.Seller), Title: p.Title, Type: p.Type.String(),
		Integration: integration(p), Dimensions: p.Dimensions}
	for _, r := range p.Regions {
		out.Regions = append(out.Regions, l.catalog.Region(r).Name)
	}
	for _, k := range l.catalog.PublicKeys(p.ID) {
		out.PublicKeys = append(out.PublicKeys, l.keyShape(&k))
	}
	return out
}

func (l *Ledger) keyShape(k *metering.PublicKey) adminapi.PublicKey {
	return adminapi.PublicKey{Version: k.Version, PEM: k.PEM, Expired: k.RotatedAt != 0 && k.RotatedAt <= l.clock.now(),
		CreatedAt: timeOf(k.Created), RotatedAt: timeOf(k.RotatedAt)}
}

// Products lists the products, of one seller if an account is given.
func (l *Ledger) Products(op Operator, sellerAccountID, after string, limit int) (adminapi.Page[adminapi.Product], error) {
	return list(l, op, l.catalog.Products, after, limit, func(p *metering.Product) (adminapi.Product, bool) {
		if sellerAccountID != "" && l.number(p.Seller) != sellerAccountID {
			return adminapi.Product{}, false
		}
		return l.productShape(p), true
	})
}

// addPublicKey adds a given version of a new product's key.
func (p *plan) addPublicKey(product uint32, in *adminapi.PublicKey) *metering.Error {
	k, err := p.checkPublicKey(product, in)
	if err != nil {
		return err
	}
	if k.Sealed == nil {
		return invalid("private_pem: is missing: give the RSA private key, or leave public_keys out to have one made")
	}
	return p.putPublicKey(k)
}

func (p *plan) putPublicKey(k metering.PublicKey) *metering.Error {
	if last := p.version[k.Product]; k.Version <= last {
		return invalid("version: %d comes after %d: list each version once, in ascending order", k.Version, last)
	}
	p.version[k.Product] = k.Version
	p.publicKeys = append(p.publicKeys, k)
	return nil
}

// checkPublicKey checks a given version of a product's key, and seals its private half if there is one.
func (p *plan) checkPublicKey(product uint32, in *adminapi.PublicKey) (k metering.PublicKey, err *metering.Error) {
	k = metering.PublicKey{Product: product, Version: in.Version, PEM: in.PEM}
	if in.Version < 1 {
		return k, invalid("version: must be 1 or more, not %d", in.Version)
	}
	if k.Created, err = instant("created_at", in.CreatedAt); err != nil {
		return k, err
	}
	if k.RotatedAt, err = instant("rotated_at", in.RotatedAt); err != nil {
		return k, err
	}
	if k.Created == 0 {
		k.Created = p.now
	}
	if in.Expired && k.RotatedAt == 0 {
		k.RotatedAt = p.now
	}
	if in.Expired && k.RotatedAt > p.now {
		return k, invalid("expired: is true, but rotated_at is %v, in the future: leave one of them out", k.RotatedAt)
	}
	if in.PrivatePEM == "" {
		return k, nil
	}
	block, _ := pem.Decode([]byte(in.PrivatePEM))
	if block == nil || block.Type != "PRIVATE KEY" {
		return k, invalid("private_pem: is not a PKCS #8 private key in PEM: make one with: openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:%d", keyBits)
	}
	parsed, bad := x509.ParsePKCS8PrivateKey(block.Bytes)
	key, ok := parsed.(*rsa.PrivateKey)
	if bad != nil || !ok || key.N.BitLen() < keyBits {
		return k, invalid("private_pem: must be an RSA key of %d bits or more", keyBits)
	}
	public, err := publicPEM(key)
	if err != nil {
		return k, err
	}
	if given, _ := pem.Decode([]byte(in.PEM)); in.PEM != "" && (given == nil || string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: given.Bytes})) != public) {
		return k, invalid("pem: is not the public half of private_pem: leave it out")
	}
	k.PEM = public
	k.Sealed = p.l.sealer.Seal(keyLabel(product, in.Version), block.Bytes)
	return k, nil
}

func publicPEM(key *rsa.PrivateKey) (string, *metering.Error) {
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return "", metering.Errorf(metering.Internal, "encoding a public key: %v", err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})), nil
}

// makePublicKey makes a version of the product's key.
func (p *plan) makePublicKey(product uint32, version int32) *metering.Error {
	key, err := rsa.GenerateKey(p.random, keyBits)
	if err != nil {
		return metering.Errorf(metering.Internal, "making a key: %v", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return metering.Errorf(metering.Internal, "encoding a private key: %v", err)
	}
	public, refusal := publicPEM(key)
	if refusal != nil {
		return refusal
	}
	return p.putPublicKey(metering.PublicKey{Product: product, Version: version, PEM: public, Sealed: p.l.sealer.Seal(keyLabel(product, version), der), Created: p.now})
}

// RotatePublicKey makes the next version of the product's key. The version that was current is marked as
// replaced now; it goes on signing for software that still asks for it (metering-api 2.7).
func (l *Ledger) RotatePublicKey(op Operator, code string) (adminapi.PublicKey, error) {
	var version int32
	err := l.act(op, func(p *plan) *metering.Error {
		product, err := p.productNamed("product_code", code)
		if err != nil {
			return err
		}
		for _, k := range l.catalog.PublicKeys(product.ID) {
			version = max(version, k.Version)
			if k.RotatedAt == 0 {
				k.RotatedAt = p.now
				p.publicKeys = append(p.publicKeys, k)
			}
		}
		version++
		p.act = fmt.Sprintf("make public key version %d of product %s", version, code)
		return p.makePublicKey(product.ID, version)
	})
	if err != nil {
		return adminapi.PublicKey{}, err
	}
	return l.publicKey(op, code, version)
}

// ExpirePublicKey marks a version of the product's key as replaced, without making another.
func (l *Ledger) ExpirePublicKey(op Operator, code string, version int32) (adminapi.PublicKey, error) {
	err := l.act(op, func(p *plan) *metering.Error {
		p.act = fmt.Sprintf("expire public key version %d of product %s", version, code)
		product, err := p.productNamed("product_code", code)
		if err != nil {
			return err
		}
		for _, k := range l.catalog.PublicKeys(product.ID) {
			if k.Version != version {
				continue
			}
			if k.RotatedAt != 0 && k.RotatedAt <= p.now {
				return conflict("version: version %d of product %q has expired at %v already", version, code, k.RotatedAt)
			}
			k.RotatedAt = p.now
			p.publicKeys = append(p.publicKeys, k)
			return nil
		}
		return noVersion(code, version)
	})
	if err != nil {
		return adminapi.PublicKey{}, err
	}
	return l.publicKey(op, code, version)
}

func noVersion(code string, version int32) *metering.Error {
	return notFound("version: product %q has no public key version %d: meterd admin product keys %s shows the versions", code, version, code)
}

func (l *Ledger) publicKey(op Operator, code string, version int32) (adminapi.PublicKey, error) {
	keys, err := l.PublicKeys(op, code)
	if err != nil {
		return adminapi.PublicKey{}, err
	}
	i := slices.IndexFunc(keys.Items, func(k adminapi.PublicKey) bool { return k.Version == version })
	if i < 0 {
		return adminapi.PublicKey{}, noVersion(code, version)
	}
	return keys.Items[i], nil
}

// PublicKeys lists all versions of the product's key.
func (l *Ledger) PublicKeys(op Operator, code string) (adminapi.Page[adminapi.PublicKey], error) {
	product, err := l.Product(op, code)
	if err != nil {
		return adminapi.Page[adminapi.PublicKey]{}, err
	}
	return adminapi.Page[adminapi.PublicKey]{Items: append([]adminapi.PublicKey{}, product.PublicKeys...)}, nil
}

// CreateAgreement makes an agreement of a buyer for a product, and the licence that comes with it.
func (l *Ledger) CreateAgreement(op Operator, in adminapi.Agreement) (adminapi.Agreement, error) {
	var id uint32
	err := l.act(op, func(p *plan) (err *metering.Error) {
		var exists bool
		if id, exists, err = p.addAgreement(&in, false); err != nil {
			return err
		}
		a := p.agreements.at(id)
		if exists {
			return conflict("agreement_id: agreement %s is there already, with the licence %s", a.AgreementID, a.LicenseARN)
		}
		p.act = "create agreement " + a.AgreementID + " of " + in.BuyerAccountID + " for product " + in.ProductCode
		return nil
	})
	if err != nil {
		return adminapi.Agreement{}, err
	}
	return l.agreementAt(op, id)
}

func (l *Ledger) agreementAt(op Operator, id uint32) (adminapi.Agreement, error) {
	return find(l, op, func() (adminapi.Agreement, *metering.Error) { return l.agreementShape(l.catalog.Agreement(id)), nil })
}

// addAgreement adds an agreement. In an import, one that gives neither an agreement id nor a licence is any
// agreement that was there before, for the same product and buyer, with the same times as far as they are given.
func (p *plan) addAgreement(in *adminapi.Agreement, imported bool) (id uint32, exists bool, err *metering.Error) {
	product, err := p.productNamed("product_code", in.ProductCode)
	if err != nil {
		return 0, false, err
	}
	buyer, err := p.buyer("buyer_account_id", in.BuyerAccountID)
	if err != nil {
		return 0, false, err
	}
	if in.AgreementID != "" && !identifier(in.AgreementID, "agmt-") {
		return 0, false, invalid("agreement_id: %.80q must begin with agmt- and go on with letters, digits and hyphens, at most 255 in all: write such an id, or leave it out", in.AgreementID)
	}
	if in.LicenseARN != "" && !metering.ValidLicenseARN(in.LicenseARN) {
		return 0, false, invalid("license_arn: %.120q is not the ARN of a licence: write one such as %s, or leave it out", in.LicenseARN, "arn:aws:license-manager::111122223333:license:l-0123456789abcdef0123456789abcdef")
	}
	a := metering.Agreement{Product: product.ID, Buyer: buyer.ID, AgreementID: in.AgreementID, LicenseARN: in.LicenseARN}
	if err := p.times(&a, in); err != nil {
		return 0, false, err
	}
	if in.CustomerIdentifier != "" {
		if err := p.addCustomer(product.Seller, buyer.ID, in.CustomerIdentifier); err != nil {
			return 0, false, err
		}
	}
	old := p.agreement(in.AgreementID)
	if old == nil {
		old = p.agreementOfLicense(in.LicenseARN)
	}
	if old != nil {
		return old.ID, true, p.sameAgreement(old, &a, in)
	}
	if imported && in.AgreementID == "" && in.LicenseARN == "" {
		if old := p.unmatched(&a, in); old != nil {
			return old.ID, true, nil
		}
	}
	if !product.Concurrent {
		if err := p.checkLegacy(product, &a); err != nil {
			return 0, false, err
		}
	}
	if err := p.makeCustomer(product.Seller, buyer.ID); err != nil {
		return 0, false, err
	}
	if a.AgreementID == "" {
		if a.AgreementID, err = p.name("agmt-", 25); err != nil {
			return 0, false, err
		}
	}
	if a.LicenseARN == "" {
		if a.LicenseARN, err = p.licenseARN(p.accounts.at(product.Seller).AccountID); err != nil {
			return 0, false, err
		}
	}
	a.ID = p.agreements.next()
	if before := p.newestAgreement(a.Product, a.Buyer); before != nil {
		p.previous[a.ID] = before.ID
	}
	p.newest[subscriber{a.Product, a.Buyer}] = a.ID
	p.agreements.add(a)
	p.agreementByID[a.AgreementID] = a.ID
	p.byLicense[a.LicenseARN] = a.ID
	return a.ID, false, nil
}

// times fills in when the agreement starts and ends.
func (p *plan) times(a *metering.Agreement, in *adminapi.Agreement) (err *metering.Error) {
	if a.Start, err = instant("start_time", in.StartTime); err != nil {
		return err
	}
	if a.EndingAt, err = instant("ending_time", in.EndingTime); err != nil {
		return err
	}
	if a.EndedAt, err = instant("end_time", in.EndTime); err != nil {
		return err
	}
	if a.Start == 0 {
		a.Start = p.now
	}
	switch {
	case a.EndingAt == 0:
		a.EndingAt = a.EndedAt
	case a.EndedAt == 0:
		a.EndedAt = a.EndingAt.Add(p.l.settings.FinalWindow)
	}
	if a.EndingAt != 0 && a.EndingAt < a.Start {
		return invalid("ending_time: %v lies before the start, %v: give a later time, or an earlier start_time", a.EndingAt, a.Start)
	}
	if a.EndedAt < a.EndingAt {
		return invalid("end_time: %v lies before ending_time, %v: give a later time, or leave it out", a.EndedAt, a.EndingAt)
	}
	return nil
}

// sameAgreement tells where in, which is a once checked, differs from the agreement that is there.
func (p *plan) sameAgreement(old, a *metering.Agreement, in *adminapi.Agreement) *metering.Error {
	differs := func(field, there, given string) *metering.Error {
		return conflict("%s: agreement %s is there with %s, not %s: write the same, or another agreement_id and license_arn", field, old.AgreementID, there, given)
	}
	switch {
	case a.Product != old.Product:
		return differs("product_code", p.products.at(old.Product).Code, in.ProductCode)
	case a.Buyer != old.Buyer:
		return differs("buyer_account_id", p.digits(old.Buyer), in.BuyerAccountID)
	case in.AgreementID != "" && in.AgreementID != old.AgreementID:
		return conflict("license_arn: %s is the licence of agreement %s: choose another one, or leave it out", in.LicenseARN, old.AgreementID)
	case in.LicenseARN != "" && in.LicenseARN != old.LicenseARN:
		return differs("license_arn", old.LicenseARN, in.LicenseARN)
	case in.StartTime != nil && a.Start != old.Start:
		return differs("start_time", moment(old.Start), moment(a.Start))
	case in.EndingTime != nil && a.EndingAt != old.EndingAt:
		return differs("ending_time", moment(old.EndingAt), moment(a.EndingAt))
	case in.EndTime != nil && a.EndedAt != old.EndedAt:
		return differs("end_time", moment(old.EndedAt), moment(a.EndedAt))
	}
	return nil
}

func moment(i metering.Instant) string {
	if i == 0 {
		return "none"
	}
	return i.String()
}

// unmatched returns the oldest agreement that was there before the plan, agrees with in, and has not been
// returned yet.
func (p *plan) unmatched(a *metering.Agreement, in *adminapi.Agreement) (found *metering.Agreement) {
	for old := p.l.catalog.NewestAgreement(a.Product, a.Buyer); old != nil; old = p.l.catalog.PreviousAgreement(old) {
		if _, taken := p.matched[old.ID]; !taken && p.sameAgreement(old, a, in) == nil {
			found = old
		}
	}
	if found != nil {
		p.matched[found.ID] = struct{}{}
	}
	return found
}

// checkLegacy tells whether the buyer of a legacy product may have the agreement beside those it has: one at a
// time, but it may subscribe again while the last one is ending (metering-api 2.10).
func (p *plan) checkLegacy(product *metering.Product, a *metering.Agreement) *metering.Error {
	for old := p.newestAgreement(a.Product, a.Buyer); old != nil; old = p.before(old) {
		if (old.EndingAt == 0 || a.Start < old.EndingAt) && (a.EndingAt == 0 || old.Start < a.EndingAt) {
			return conflict("buyer_account_id: buyer %s has the agreement %s for product %q at that time: a legacy product allows one at a time, so cancel that one first with: meterd admin agreement cancel %s",
				p.digits(a.Buyer), old.AgreementID, product.Code, old.AgreementID)
		}
	}
	return nil
}

// CancelAgreement lets an agreement begin to end, now or at a later time: usage from before that is taken for
// one more hour (metering-api 2.10).
func (l *Ledger) CancelAgreement(op Operator, agreementID string, in adminapi.Cancellation) (adminapi.Agreement, error) {
	return l.endAgreement(op, agreementID, func(p *plan, a *metering.Agreement) *metering.Error {
		at, err := instant("at", in.At)
		switch {
		case err != nil:
			return err
		case at == 0:
			at = p.now
		case at < p.now:
			return invalid("at: %v lies in the past, the time is %v: leave it out to cancel now", at, p.now)
		}
		if s := a.State(p.now); s == metering.Ending || s == metering.Ended {
			return conflict("agreement_id: agreement %s is %v already, since %v", agreementID, s, a.EndingAt)
		}
		p.act = fmt.Sprintf("cancel agreement %s at %v", agreementID, at)
		a.EndingAt, a.EndedAt = at, at.Add(l.settings.FinalWindow)
		return nil
	})
}

// EndAgreement ends an agreement at once: no more usage is taken.
func (l *Ledger) EndAgreement(op Operator, agreementID string) (adminapi.Agreement, error) {
	return l.endAgreement(op, agreementID, func(p *plan, a *metering.Agreement) *metering.Error {
		if a.State(p.now) == metering.Ended {
			return conflict("agreement_id: agreement %s has ended already, at %v", agreementID, a.EndedAt)
		}
		p.act = "end agreement " + agreementID
		if a.EndingAt == 0 || a.EndingAt > p.now {
			a.EndingAt = p.now
		}
		a.EndedAt = p.now
		return nil
	})
}

func (l *Ledger) endAgreement(op Operator, agreementID string, change func(*plan, *metering.Agreement) *metering.Error) (adminapi.Agreement, error) {
	err := l.act(op, func(p *plan) *metering.Error {
		a := p.agreement(agreementID)
		if a == nil {
			return noAgreement(agreementID)
		}
		return change(p, p.agreements.change(a.ID))
	})
	if err != nil {
		return adminapi.Agreement{}, err
	}
	return l.Agreement(op, agreementID)
}

func noAgreement(id string) *metering.Error {
	return notFound("agreement_id: there is no agreement %.80q: meterd admin agreement list shows them", id)
}

// Agreement returns an agreement.
func (l *Ledger) Agreement(op Operator, agreementID string) (adminapi.Agreement, error) {
	return find(l, op, func() (adminapi.Agreement, *metering.Error) {
		a := l.catalog.AgreementByID(agreementID)
		if a == nil {
			return adminapi.Agreement{}, noAgreement(agreementID)
		}
		return l.agreementShape(a), nil
	})
}

func (l *Ledger) agreementShape(a *metering.Agreement) adminapi.Agreement {
	product := l.catalog.Product(a.Product)
	return adminapi.Agreement{AgreementID: a.AgreementID, ProductCode: product.Code, BuyerAccountID: l.number(a.Buyer), LicenseARN: a.LicenseARN,
		CustomerIdentifier: l.catalog.CustomerIdentifier(product.Seller, a.Buyer), StartTime: timeOf(a.Start), EndingTime: timeOf(a.EndingAt), EndTime: timeOf(a.EndedAt),
		Status: a.State(l.clock.now()).String()}
}

// Agreements lists the agreements that the filter chooses.
func (l *Ledger) Agreements(op Operator, f adminapi.AgreementFilter, after string, limit int) (adminapi.Page[adminapi.Agreement], error) {
	var product, buyer uint32
	var now metering.Instant
	_, err := find(l, op, func() (struct{}, *metering.Error) {
		if f.ProductCode != "" {
			found := l.catalog.ProductByCode(f.ProductCode)
			if found == nil {
				return struct{}{}, noProduct("product_code", f.ProductCode, l.catalog.ProductByID(f.ProductCode))
			}
			product = found.ID
		}
		if f.BuyerAccountID != "" {
			n, err := accountNumber("buyer_account_id", f.BuyerAccountID)
			if err != nil {
				return struct{}{}, err
			}
			found := l.catalog.AccountByID(n)
			if found == nil || !found.Buyer {
				return struct{}{}, noBuyer("buyer_account_id", f.BuyerAccountID)
			}
			buyer = found.ID
		}
		now = l.clock.now()
		return struct{}{}, nil
	})
	if err != nil {
		return adminapi.Page[adminapi.Agreement]{}, err
	}
	return list(l, op, l.catalog.Agreements, after, limit, func(a *metering.Agreement) (adminapi.Agreement, bool) {
		if product != 0 && a.Product != product || buyer != 0 && a.Buyer != buyer || f.Status != "" && a.State(now).String() != f.Status {
			return adminapi.Agreement{}, false
		}
		return l.agreementShape(a), true
	})
}
