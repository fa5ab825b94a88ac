package meterdtest

import (
	"bytes"
	"encoding/json"

	"github.com/meterd/meterd/internal/sandbox"
)

// Description is the marketplace that a server started with, in the shape that "meterd dev --describe" writes: all that a
// program needs to use it.
type Description struct {
	Version       int       `json:"version"` // 1
	Endpoint      string    `json:"endpoint"`
	AdminEndpoint string    `json:"admin_endpoint"`
	AdminToken    string    `json:"admin_token"`
	OpsEndpoint   string    `json:"ops_endpoint"`
	Region        string    `json:"region"`  // the first that is served
	Regions       []string  `json:"regions"` // all that are served
	Sellers       []Seller  `json:"sellers"`
	Buyers        []Buyer   `json:"buyers"`
	Products      []Product `json:"products"`
}

// Credentials sign requests. They do not expire. Their members are absent if the account has no such key.
type Credentials struct {
	AccessKeyID     string `json:"access_key_id,omitempty"`
	SecretAccessKey string `json:"secret_access_key,omitempty"`
}

// Seller is an account that publishes products.
type Seller struct {
	Name      string `json:"name"`
	AccountID string `json:"account_id"`
	Credentials
	Powerless Credentials `json:"powerless,omitzero"` // a user of the account who may do nothing; absent if there is none
	Workloads []Workload  `json:"workloads"`          // in the seller's own account
}

// Buyer is an account that buys products.
type Buyer struct {
	Name      string `json:"name"`
	AccountID string `json:"account_id"`
	Credentials
	Subscriptions []Subscription `json:"subscriptions"`
	Workloads     []Workload     `json:"workloads"`
}

// Subscription is a buyer's agreement for a product.
type Subscription struct {
	ProductCode              string `json:"product_code"`
	ProductID                string `json:"product_id"`
	Status                   string `json:"status"` // pending, active, ending or ended
	AgreementID              string `json:"agreement_id"`
	LicenseARN               string `json:"license_arn"`
	CustomerIdentifier       string `json:"customer_identifier"`
	RegistrationToken        string `json:"registration_token"`
	ExpiredRegistrationToken string `json:"expired_registration_token"`
}

// Workload is a resource of an account and the session it calls with.
type Workload struct {
	Platform   string `json:"platform"` // ec2, ecs, eks or agentcore
	ResourceID string `json:"resource_id"`
	Region     string `json:"region"`
	Credentials
	SessionToken string `json:"session_token"`
}

// Product is something a seller publishes.
type Product struct {
	ProductCode     string      `json:"product_code"`
	ProductID       string      `json:"product_id"`
	SellerAccountID string      `json:"seller_account_id"`
	Type            string      `json:"type"`        // saas, container or ami
	Integration     string      `json:"integration"` // legacy or concurrent
	Dimensions      []string    `json:"dimensions"`
	PublicKeys      []PublicKey `json:"public_keys"`
}

// PublicKey verifies the tokens of RegisterUsage.
type PublicKey struct {
	Version int32  `json:"version"`
	PEM     string `json:"pem"`
	Expired bool   `json:"expired"`
}

// described returns a sandbox's description in the shapes above, by way of its JSON, which both have. A member that is
// missing here is an error.
func described(in *sandbox.Description) (*Description, error) {
	b, err := json.Marshal(in)
	if err != nil {
		return nil, err
	}
	var out Description
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	return &out, d.Decode(&out)
}
