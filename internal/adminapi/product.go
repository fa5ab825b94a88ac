package adminapi

// The verbs on products.
var (
	ListProducts  = verb[ProductPaging, Page[Product]]("GET", "/v1/products", 200, "List products")
	CreateProduct = verb[Product, Product]("POST", "/v1/products", 201, "Publish a product")
	GetProduct    = verb[ProductPath, Product]("GET", "/v1/products/{product_code}", 200, "Get a product")
	AddDimension  = verb[NewDimension, Product]("POST", "/v1/products/{product_code}/dimensions", 201, "Add a dimension to a product")
)

// Product is something a seller publishes.
type Product struct {
	ProductCode     string      `json:"product_code,omitempty" yaml:"product_code,omitempty" doc:"made if left out" example:"cqcvf9f0ugw8rkbgmf1c9dxyz"`
	ProductID       string      `json:"product_id,omitempty" yaml:"product_id,omitempty" doc:"prod-…; made if left out"`
	SellerAccountID string      `json:"seller_account_id" yaml:"seller_account_id" doc:"12 digits"`
	Title           string      `json:"title,omitempty" yaml:"title,omitempty"`
	Type            string      `json:"type" yaml:"type" enum:"saas,container,ami"`
	Integration     string      `json:"integration,omitempty" yaml:"integration,omitempty" enum:"legacy,concurrent" doc:"concurrent products take LicenseArn only; concurrent if left out for saas, legacy for the others"`
	Dimensions      []string    `json:"dimensions,omitempty" yaml:"dimensions,omitempty" doc:"API names, case-sensitive, at most 255 characters"`
	Regions         []string    `json:"regions,omitempty" yaml:"regions,omitempty" doc:"where it may be metered; everywhere if left out"`
	PublicKeys      []PublicKey `json:"public_keys,omitempty" yaml:"public_keys,omitempty" doc:"made for container products if left out"`
}

// NewDimension is a dimension to add to a product.
type NewDimension struct {
	ProductCode string `path:"product_code" json:"-"`
	Dimension   string `json:"dimension" doc:"API name, case-sensitive, at most 255 characters"`
}

// ProductPaging chooses a page of the products, of one seller if it is given.
type ProductPaging struct {
	SellerAccountID string `query:"seller_account_id" doc:"of this seller only"`
	Paging
}

// ProductPath names a product.
type ProductPath struct {
	ProductCode string `path:"product_code"`
}
