package sandbox

import (
	"bufio"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
)

// Description tells a program everything it needs to use a running sandbox. Its JSON is a public contract:
// members are added, never renamed or removed, without a new version.
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

// Credentials sign requests. They do not expire.
type Credentials struct {
	AccessKeyID     string `json:"access_key_id"`
	SecretAccessKey string `json:"secret_access_key"`
}

// Seller is an account that publishes products.
type Seller struct {
	Name      string `json:"name"`
	AccountID string `json:"account_id"`
	Credentials
	Powerless Credentials `json:"powerless"` // a user of the account who may do nothing
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

// Workload is a resource of a buyer and the session it calls with.
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

// Write writes the description to the file at once: whoever sees the file sees all of it.
func (d *Description) Write(file string) error {
	f, err := os.CreateTemp(filepath.Dir(file), filepath.Base(file)+".*")
	if err != nil {
		return err
	}
	w := bufio.NewWriter(f)
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	err = errors.Join(e.Encode(d), w.Flush(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}
