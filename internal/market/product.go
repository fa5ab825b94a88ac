package market

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/meterd/meterd/internal/adminapi"
	"github.com/meterd/meterd/internal/metering"
)

var productVerbs = []Verb{
	lists(adminapi.ListProducts, Products),
	changes(adminapi.CreateProduct, CreateProduct),
	finds(adminapi.GetProduct, Product),
	changes(adminapi.AddDimension, AddDimension),
}

const maxDimensions = 1000 // of a product; a record's dimension is searched for one by one

// CreateProduct publishes a product of a seller.
func CreateProduct(in adminapi.Product) Act[adminapi.Product] {
	return func(p *Plan) (Find[adminapi.Product], *metering.Error) {
		id, exists, err := p.addProduct(&in, false)
		if err != nil {
			return nil, err
		}
		if exists {
			return nil, conflict("product_code: product %q is there already", in.ProductCode)
		}
		p.Summary = "create product " + p.products.at(id).Code
		return Product(adminapi.ProductPath{ProductCode: p.products.at(id).Code}), nil
	}
}

// addProduct adds a product. In an import, a product without a product code matches the seller's product of the same
// title.
func (p *Plan) addProduct(in *adminapi.Product, imported bool) (id uint32, exists bool, err *metering.Error) {
	product, err := p.checkProduct(in)
	if err == nil && in.ProductCode == "" && in.Title == "" && imported {
		err = p.flaws(invalid("product_code: is missing, and so is title: give one of them, so that a second import finds the product"))
	}
	if err != nil {
		if imported {
			_ = p.addPublicKeys(0, in)
		}
		return 0, false, err
	}
	if old := p.product(in.ProductCode); old != nil {
		return old.ID, true, p.sameProduct(old, in, product)
	}
	if in.ProductCode == "" && imported {
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
	for i, key := range in.Dimensions {
		product = p.addDimension(product, i, key)
	}
	p.products.add(product)
	p.productByCode[product.Code] = product.ID
	p.productByID[product.ProductID] = product.ID
	if err := p.addPublicKeys(product.ID, in); err != nil {
		return 0, false, err
	}
	if len(in.PublicKeys) == 0 && product.Type == metering.Container {
		return product.ID, false, p.makePublicKey(product.ID, 1)
	}
	return product.ID, false, nil
}

// addPublicKeys adds the given versions of a new product's key. If product is 0, because the product was refused, it
// only reports what is wrong with them.
func (p *Plan) addPublicKeys(product uint32, in *adminapi.Product) *metering.Error {
	for i := range in.PublicKeys {
		if err := p.part("public_keys", i, func() *metering.Error { return p.addPublicKey(product, &in.PublicKeys[i]) }); err != nil {
			return err
		}
	}
	return nil
}

// checkProduct checks what can be checked of a product without looking at others.
func (p *Plan) checkProduct(in *adminapi.Product) (out metering.Product, err *metering.Error) {
	seller, err := p.seller("seller_account_id", in.SellerAccountID)
	found := []*metering.Error{err}
	if err == nil {
		out.Seller = seller.ID
	}
	out.Code, out.ProductID, out.Title = in.ProductCode, in.ProductID, in.Title
	wrong := func(err *metering.Error) { found = append(found, err) }
	switch {
	case strings.HasPrefix(in.ProductCode, "prod-"):
		wrong(invalid("product_code: %.80q looks like a product id: write it into product_id, and a code of letters and digits here, or leave it out", in.ProductCode))
	case in.ProductCode != "" && !metering.ValidProductCode(in.ProductCode):
		wrong(invalid("product_code: %.80q must have at most 255 letters, digits and -/=:_.@: write such a code, or leave it out", in.ProductCode))
	}
	if in.ProductID != "" && !identifier(in.ProductID, "prod-") {
		wrong(invalid("product_id: %.80q must begin with prod- and go on with letters, digits and hyphens, at most 255 in all: write such an id, or leave it out", in.ProductID))
	}
	wrong(checkText("title", in.Title, 0, maxText))
	var ok bool
	if out.Type, ok = metering.ParseProductType(in.Type); !ok {
		wrong(invalid("type: must be saas, container or ami, not %.40q", in.Type))
	}
	switch in.Integration {
	case "":
		out.Concurrent = out.Type == metering.SaaS
	case "legacy":
	case "concurrent":
		out.Concurrent = true
	default:
		wrong(invalid("integration: must be legacy or concurrent, not %.40q", in.Integration))
	}
	if len(in.Dimensions) > maxDimensions {
		wrong(invalid("dimensions: there are %d, but a product can have at most %d", len(in.Dimensions), maxDimensions))
	}
	for i, d := range in.Dimensions[:min(len(in.Dimensions), maxDimensions)] {
		if err := checkText(fmt.Sprintf("dimensions[%d]", i), d, 1, maxText); err != nil {
			wrong(err)
		} else if slices.Contains(in.Dimensions[:i], d) {
			wrong(invalid("dimensions[%d]: %q is there twice: name each dimension once", i, d))
		}
	}
	for i, name := range in.Regions {
		switch r := p.region(name); {
		case r == nil:
			wrong(p.absent(noRegion(fmt.Sprintf("regions[%d]", i), name), name, "regions"))
		case slices.Contains(out.Regions, r.ID):
			wrong(invalid("regions[%d]: %s is there twice: name each region once", i, name))
		default:
			out.Regions = append(out.Regions, r.ID)
		}
	}
	return out, p.flaws(found...)
}

// identifier reports whether s looks like an identifier of AWS's with the prefix.
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

// sameProduct says where in, whose checked form is checked, differs from old, the product that is there. Members that
// in leaves out do not differ.
func (p *Plan) sameProduct(old *metering.Product, in *adminapi.Product, checked metering.Product) *metering.Error {
	differs := func(field, there, given string) *metering.Error {
		return conflict("%s: product %q is there with %s, not %s: write the same, or another product_code", field, old.Code, there, given)
	}
	var found []*metering.Error
	for _, member := range []struct {
		name         string
		differs      bool
		there, given any
	}{
		{"seller_account_id", checked.Seller != old.Seller, p.digits(old.Seller), in.SellerAccountID},
		{"product_id", in.ProductID != "" && in.ProductID != old.ProductID, old.ProductID, in.ProductID},
		{"title", in.Title != "" && in.Title != old.Title, strconv.Quote(old.Title), strconv.Quote(in.Title)},
		{"type", checked.Type != old.Type, old.Type, in.Type},
		{"integration", in.Integration != "" && checked.Concurrent != old.Concurrent, integration(old), in.Integration},
		{"dimensions", in.Dimensions != nil && !slices.Equal(in.Dimensions, old.DimensionKeys()), fmt.Sprintf("%.200q", old.DimensionKeys()), fmt.Sprintf("%.200q", in.Dimensions)},
		{"regions", in.Regions != nil && !slices.Equal(slices.Sorted(slices.Values(checked.Regions)), slices.Sorted(slices.Values(old.Regions))), "other regions", strings.Join(in.Regions, ", ")},
	} {
		if member.differs {
			found = append(found, differs(member.name, fmt.Sprint(member.there), fmt.Sprint(member.given)))
		}
	}
	wrong := p.flaws(found...)
	for i := range in.PublicKeys {
		if err := p.part("public_keys", i, func() *metering.Error {
			k, err := p.checkPublicKey(old.ID, &in.PublicKeys[i])
			if err == nil && !slices.ContainsFunc(p.State.PublicKeys(old.ID), func(o metering.PublicKey) bool { return o.Version == k.Version && o.PEM == k.PEM }) {
				err = differs("version", "another public key, or none,", fmt.Sprintf("version %d as given", k.Version))
			}
			return err
		}); err != nil {
			return err
		}
	}
	return wrong
}

func integration(p *metering.Product) string {
	if p.Concurrent {
		return "concurrent"
	}
	return "legacy"
}

// productTitled returns the seller's product of the title that was there before the plan, or nil.
func (p *Plan) productTitled(seller uint32, name string) *metering.Product {
	if p.titled == nil {
		p.titled = map[title]uint32{}
		for i := range p.products.base {
			p.titled[title{p.products.base[i].Seller, p.products.base[i].Title}] = p.products.base[i].ID
		}
	}
	return p.products.at(p.titled[title{seller, name}])
}

// productNamed returns the product of the code.
func (p *Plan) productNamed(field, code string) (*metering.Product, *metering.Error) {
	if product := p.product(code); product != nil {
		return product, nil
	}
	return nil, p.absent(noProduct(field, code, p.productOfID(code)), code, "products")
}

func noProduct(field, code string, ofID *metering.Product) *metering.Error {
	if ofID != nil {
		return notFound("%s: %.80q is a product id: write its product code, %s", field, code, ofID.Code)
	}
	return notFound("%s: there is no product %.80q: meterd admin product list shows the codes", field, code)
}

// addDimension adds a dimension to a product that has n, and returns the product with it.
func (p *Plan) addDimension(product metering.Product, n int, key string) metering.Product {
	d := metering.Dimension{Product: product.ID, N: uint16(n + 1), Key: key, Type: metering.ExternallyMetered}
	p.dimensions = append(p.dimensions, d)
	return product.WithDimension(d)
}

// AddDimension adds a dimension to a product. Dimensions are never renamed or removed, because usage rows refer to
// them by number.
func AddDimension(in adminapi.NewDimension) Act[adminapi.Product] {
	return func(p *Plan) (Find[adminapi.Product], *metering.Error) {
		p.Summary = "add dimension " + in.Dimension + " to product " + in.ProductCode
		product, err := p.ownProduct(in.ProductCode)
		if err != nil {
			return nil, err
		}
		if err := checkText("dimension", in.Dimension, 1, maxText); err != nil {
			return nil, err
		}
		keys := product.DimensionKeys()
		if slices.Contains(keys, in.Dimension) {
			return nil, conflict("dimension: product %q has the dimension %q already", in.ProductCode, in.Dimension)
		}
		if len(keys) >= maxDimensions {
			return nil, conflict("dimension: product %q has %d dimensions already and there can be no more", in.ProductCode, maxDimensions)
		}
		p.addDimension(*product, len(keys), in.Dimension)
		return Product(adminapi.ProductPath{ProductCode: in.ProductCode}), nil
	}
}

// Product returns a product, with its public keys.
func Product(of adminapi.ProductPath) Find[adminapi.Product] {
	return func(v *View) (adminapi.Product, *metering.Error) {
		v.open(ForSeller | ForBuyer)
		product := v.ProductByCode(of.ProductCode)
		if product == nil || !v.Scope.Sells(product.Seller) {
			return adminapi.Product{}, noProduct("product_code", of.ProductCode, v.productOfID(of.ProductCode))
		}
		return v.productShape(product), nil
	}
}

// productOfID returns the product of the given product id, if it is in the scope, or nil.
func (v *View) productOfID(id string) *metering.Product {
	if p := v.ProductByID(id); p != nil && v.Scope.Sells(p.Seller) {
		return p
	}
	return nil
}

// ownProduct opens an act on a product to the product's seller, and returns the product of the code.
func (p *Plan) ownProduct(code string) (*metering.Product, *metering.Error) {
	p.open(ForSeller)
	product := p.product(code)
	if product == nil || !p.Scope.Sells(product.Seller) {
		return nil, noProduct("product_code", code, p.View.productOfID(code))
	}
	return product, nil
}

func (v *View) productShape(p *metering.Product) adminapi.Product {
	out := adminapi.Product{ProductCode: p.Code, ProductID: p.ProductID, SellerAccountID: v.digits(p.Seller), Title: p.Title, Type: p.Type.String(),
		Integration: integration(p), Dimensions: p.DimensionKeys()}
	for _, r := range p.Regions {
		out.Regions = append(out.Regions, v.Region(r).Name)
	}
	for _, k := range v.PublicKeys(p.ID) {
		out.PublicKeys = append(out.PublicKeys, v.publicKeyShape(&k))
	}
	return out
}

// Products lists the products, of one seller if it is given.
func Products(of adminapi.ProductPaging) List[adminapi.Product] {
	return listOfAccount(ForSeller|ForBuyer, "seller_account_id", of.SellerAccountID, (*State).Products, func(p *metering.Product) uint32 { return p.Seller },
		func(v *View, p *metering.Product) (adminapi.Product, bool) {
			if !v.Scope.Sells(p.Seller) {
				return adminapi.Product{}, false
			}
			return v.productShape(p), true
		})
}
