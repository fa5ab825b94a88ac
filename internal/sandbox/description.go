package sandbox

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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

// Write writes the description to the file at once: whoever sees the file sees all of it. withdraw removes the file
// again, unless it is another one by then.
func (d *Description) Write(file string) (withdraw func() error, err error) {
	f, err := os.CreateTemp(filepath.Dir(file), filepath.Base(file)+".*")
	if err != nil {
		return nil, err
	}
	w := bufio.NewWriter(f)
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	err = errors.Join(e.Encode(d), w.Flush())
	written, err2 := f.Stat()
	if err = errors.Join(err, err2, f.Close()); err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err != nil {
		os.Remove(f.Name())
		return nil, err
	}
	return func() error {
		if there, err := os.Lstat(file); err != nil || !os.SameFile(there, written) {
			return nil //nolint:nilerr // it is gone, or not ours
		}
		return os.Remove(file)
	}, nil
}

// Withdraw removes the description that a sandbox has left in the file, if there is one. Any other file it refuses,
// but for an empty one.
func Withdraw(file string) error {
	info, err := os.Lstat(file)
	switch {
	case errors.Is(err, os.ErrNotExist):
		if _, err := os.Stat(filepath.Dir(file)); err != nil {
			return fmt.Errorf("there is no folder for the file: %w", err)
		}
		return nil
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is there and is not a file: choose another name", file)
	}
	if info.Size() > 0 {
		f, err := os.Open(file)
		if err != nil {
			return err
		}
		defer f.Close()
		var d struct {
			Version  int
			Endpoint *string
		}
		if err := json.NewDecoder(io.LimitReader(f, maxDescription)).Decode(&d); err != nil || d.Version == 0 || d.Endpoint == nil {
			return fmt.Errorf("%s is there and is no description of a sandbox: choose another name, or remove it", file)
		}
		if err := f.Close(); err != nil { // some systems do not remove open files
			return err
		}
	}
	return os.Remove(file)
}

// maxDescription is more than a description has, in bytes.
const maxDescription = 64 << 20
