package adminapi

import "time"

// The verbs on bearer tokens of the admin API. The last one cannot be deleted.
var (
	ListAdminTokens  = verb[Paging, Page[AdminToken]]("GET", "/v1/admin-tokens", 200, "List bearer tokens of the admin API")
	CreateAdminToken = verb[AdminToken, AdminToken]("POST", "/v1/admin-tokens", 201, "Make a bearer token of the admin API")
	DeleteAdminToken = verb[TokenPath, None]("DELETE", "/v1/admin-tokens/{id}", 204, "Delete a bearer token of the admin API")
)

// AdminToken is a bearer token of the admin API. The token itself is returned once, when it is made.
type AdminToken struct {
	ID        string    `json:"id,omitempty" required:"false" readOnly:"true"`
	Name      string    `json:"name" doc:"your word for whose it is, at most 255 characters"`
	Token     string    `json:"token,omitempty" readOnly:"true" doc:"shown once"`
	CreatedAt time.Time `json:"created_at,omitzero" required:"false" readOnly:"true"`
}
