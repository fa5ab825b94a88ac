package adminapi

import "time"

// The verbs on the public keys of products.
var (
	ListPublicKeys  = verb[ProductPath, Page[PublicKey]]("GET", "/v1/products/{product_code}/public-keys", 200, "List the versions of a product's public key")
	RotatePublicKey = verb[ProductPath, PublicKey]("POST", "/v1/products/{product_code}/public-keys", 201, "Rotate a product's public key")
	ExpirePublicKey = verb[PublicKeyPath, PublicKey]("POST", "/v1/products/{product_code}/public-keys/{version}/expire", 200, "Mark a version of a product's public key as replaced")
)

// PublicKey is one version of the key that signs a product's RegisterUsage tokens.
type PublicKey struct {
	Version    int32      `json:"version" yaml:"version"`
	PEM        string     `json:"pem" yaml:"pem,omitempty" required:"false" doc:"public key, PEM"`
	PrivatePEM string     `json:"private_pem,omitempty" yaml:"private_pem,omitempty" doc:"taken with a new product: RSA private key, PKCS #8 PEM; never returned"`
	Expired    bool       `json:"expired" yaml:"expired,omitempty" required:"false"`
	CreatedAt  *time.Time `json:"created_at,omitempty" yaml:"created_at,omitempty"`
	RotatedAt  *time.Time `json:"rotated_at,omitempty" yaml:"rotated_at,omitempty" doc:"when the version was replaced"`
}

// PublicKeyPath names a version of a product's public key.
type PublicKeyPath struct {
	ProductCode string `path:"product_code"`
	Version     int32  `path:"version" minimum:"1"`
}
