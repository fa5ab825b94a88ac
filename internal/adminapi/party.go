package adminapi

// The verbs on sellers and buyers.
var (
	ListSellers  = verb[Paging, Page[Seller]]("GET", "/v1/sellers", 200, "List sellers")
	CreateSeller = verb[Seller, Seller]("POST", "/v1/sellers", 201, "Make an account a seller")
	GetSeller    = verb[AccountPath, Seller]("GET", "/v1/sellers/{account_id}", 200, "Get a seller")

	ListBuyers  = verb[Paging, Page[Buyer]]("GET", "/v1/buyers", 200, "List buyers")
	CreateBuyer = verb[Buyer, Buyer]("POST", "/v1/buyers", 201, "Make an account a buyer")
	GetBuyer    = verb[AccountPath, Buyer]("GET", "/v1/buyers/{account_id}", 200, "Get a buyer")
	ChangeBuyer = verb[BuyerChange, Buyer]("PATCH", "/v1/buyers/{account_id}", 200, "Suspend a buyer, or end its suspension")
)

// Seller is an account that publishes products.
type Seller struct {
	AccountID string `json:"account_id" yaml:"account_id" doc:"12 digits" example:"111122223333"`
	Name      string `json:"name,omitempty" yaml:"name,omitempty" doc:"your word for the seller"`
}

// Buyer is an account that buys products.
type Buyer struct {
	AccountID   string             `json:"account_id" yaml:"account_id" doc:"12 digits" example:"444455556666"`
	Name        string             `json:"name,omitempty" yaml:"name,omitempty" doc:"your word for the buyer"`
	Suspended   bool               `json:"suspended,omitempty" yaml:"suspended,omitempty" doc:"a suspended buyer is not subscribed to anything"`
	Identifiers []CustomerIdentity `json:"customer_identifiers,omitempty" yaml:"customer_identifiers,omitempty" doc:"how sellers' legacy products know the buyer"`
	Agreements  []Agreement        `json:"agreements,omitempty" yaml:"agreements,omitempty" doc:"taken with the buyer, never returned: its agreements; buyer_account_id may be left out"`
}

// CustomerIdentity is how one seller's products know a buyer.
type CustomerIdentity struct {
	SellerAccountID    string `json:"seller_account_id" yaml:"seller_account_id" doc:"12 digits"`
	CustomerIdentifier string `json:"customer_identifier" yaml:"customer_identifier" doc:"at most 255 characters"`
}

// BuyerChange changes a buyer. Members that are left out stay as they are.
type BuyerChange struct {
	AccountID string `path:"account_id" json:"-" doc:"12 digits"`
	Suspended *bool  `json:"suspended,omitempty"`
}
