package adminapi

import "time"

// AdminToken is a bearer token of the admin API. The token itself is returned once, when it is made.
type AdminToken struct {
	ID        string    `json:"id" required:"false" readOnly:"true"`
	Name      string    `json:"name" doc:"your word for whose it is, at most 255 characters"`
	Token     string    `json:"token,omitempty" readOnly:"true" doc:"shown once"`
	CreatedAt time.Time `json:"created_at" required:"false" readOnly:"true"`
}
