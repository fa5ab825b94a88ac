package adminapi

import "time"

// The verbs on registration tokens.
var (
	ListTokens  = verb[Paging, Page[Token]]("GET", "/v1/tokens", 200, "List registration tokens")
	CreateToken = verb[TokenRequest, Token]("POST", "/v1/tokens", 201, "Issue a registration token")
	RevokeToken = verb[TokenPath, None]("DELETE", "/v1/tokens/{id}", 204, "Revoke a registration token")
)

// Token is a registration token.
type Token struct {
	ID                string    `json:"id"`
	RegistrationToken string    `json:"registration_token,omitempty" doc:"for a token that was given, another one that stands for the same: the given one is not kept"`
	ProductCode       string    `json:"product_code"`
	BuyerAccountID    string    `json:"buyer_account_id"`
	IssuedAt          time.Time `json:"issued_at" doc:"ledger clock"`
	ExpiresAt         time.Time `json:"expires_at" doc:"ledger clock"`
	Revoked           bool      `json:"revoked,omitempty"`
}

// TokenRequest asks for a registration token, as the marketplace hands one to a buyer.
type TokenRequest struct {
	ProductCode string `json:"product_code" yaml:"product_code"`
	Buyer       string `json:"buyer" yaml:"buyer" doc:"12 digits, or a customer identifier of the product's seller"`

	IssuedAt          *time.Time `json:"issued_at,omitempty" yaml:"issued_at,omitempty" doc:"sandbox only: as if it had been issued then; to get an expired token"`
	RegistrationToken string     `json:"registration_token,omitempty" yaml:"registration_token,omitempty" doc:"sandbox only: the token that it shall be, 1 to 1024 printable ASCII characters without spaces; made if left out"`
}

// TokenPath names a registration token, or a bearer token of the admin API.
type TokenPath struct {
	ID string `path:"id"`
}
