package adminapi

import "time"

// PublicKey is one version of the key that signs a product's RegisterUsage tokens.
type PublicKey struct {
	Version    int32      `json:"version" yaml:"version"`
	PEM        string     `json:"pem" yaml:"pem,omitempty" required:"false" doc:"public key, PEM"`
	PrivatePEM string     `json:"private_pem,omitempty" yaml:"private_pem,omitempty" doc:"taken with a new product: RSA private key, PKCS #8 PEM; never returned"`
	Expired    bool       `json:"expired" yaml:"expired,omitempty" required:"false"`
	CreatedAt  *time.Time `json:"created_at,omitempty" yaml:"created_at,omitempty"`
	RotatedAt  *time.Time `json:"rotated_at,omitempty" yaml:"rotated_at,omitempty" doc:"when the version was replaced"`
}
