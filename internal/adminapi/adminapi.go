// Package adminapi holds the shapes of the admin API and its client. The shapes are the contract: the server,
// the meterd admin commands, marketplace files and other programs all use them.
//
// Accounts are named by their 12 digits, products by their product code, agreements by their agreement id. Times
// are RFC 3339, UTC. Identifiers that AWS would make up (product codes and ids, agreement ids, licence ARNs,
// customer identifiers) may be given, and are made when left out.
package adminapi

import "time"

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

// PublicKey is one version of the key that signs a product's RegisterUsage tokens.
type PublicKey struct {
	Version    int32      `json:"version" yaml:"version"`
	PEM        string     `json:"pem" yaml:"pem,omitempty" required:"false" doc:"public key, PEM"`
	PrivatePEM string     `json:"private_pem,omitempty" yaml:"private_pem,omitempty" doc:"taken with a new product: RSA private key, PKCS #8 PEM; never returned"`
	Expired    bool       `json:"expired" yaml:"expired,omitempty" required:"false"`
	CreatedAt  *time.Time `json:"created_at,omitempty" yaml:"created_at,omitempty"`
	RotatedAt  *time.Time `json:"rotated_at,omitempty" yaml:"rotated_at,omitempty" doc:"when the version was replaced"`
}

// Agreement is a buyer's agreement for a product and the licence that comes with it.
type Agreement struct {
	AgreementID        string     `json:"agreement_id,omitempty" yaml:"agreement_id,omitempty" doc:"agmt-…; made if left out"`
	ProductCode        string     `json:"product_code" yaml:"product_code"`
	BuyerAccountID     string     `json:"buyer_account_id,omitempty" yaml:"buyer_account_id,omitempty" doc:"12 digits"`
	LicenseARN         string     `json:"license_arn,omitempty" yaml:"license_arn,omitempty" doc:"made if left out"`
	CustomerIdentifier string     `json:"customer_identifier,omitempty" yaml:"customer_identifier,omitempty" doc:"of the buyer for the seller's products; made if left out"`
	StartTime          *time.Time `json:"start_time,omitempty" yaml:"start_time,omitempty" doc:"now if left out"`
	EndingTime         *time.Time `json:"ending_time,omitempty" yaml:"ending_time,omitempty" doc:"when it began, or will begin, to end"`
	EndTime            *time.Time `json:"end_time,omitempty" yaml:"end_time,omitempty" doc:"from then on no usage is taken; an hour after ending_time if left out"`
	Status             string     `json:"status,omitempty" yaml:"-" enum:"pending,active,ending,ended" readOnly:"true"`
}

// Principal is a user or a role.
type Principal struct {
	AccountID  string      `json:"account_id" yaml:"account_id" doc:"12 digits"`
	Name       string      `json:"name" yaml:"name"`
	ARN        string      `json:"arn,omitempty" yaml:"-" readOnly:"true"`
	Allow      []string    `json:"allow,omitempty" yaml:"allow,omitempty" doc:"actions such as aws-marketplace:BatchMeterUsage, wildcards, or names of AWS managed policies"`
	Deny       []string    `json:"deny,omitempty" yaml:"deny,omitempty" doc:"the same; wins over allow"`
	AccessKeys []AccessKey `json:"access_keys,omitempty" yaml:"access_keys,omitempty" doc:"users only"`
}

// Permissions are what a user or role may do.
type Permissions struct {
	Allow []string `json:"allow,omitempty" doc:"actions such as aws-marketplace:BatchMeterUsage, wildcards, or names of AWS managed policies"`
	Deny  []string `json:"deny,omitempty" doc:"the same; wins over allow"`
}

// AccessKey is a user's access key. Its secret is returned once, when it is made.
type AccessKey struct {
	AccessKeyID     string     `json:"access_key_id" yaml:"access_key_id"`
	SecretAccessKey string     `json:"secret_access_key,omitempty" yaml:"secret_access_key,omitempty" doc:"shown once"`
	Status          string     `json:"status,omitempty" yaml:"status,omitempty" enum:"Active,Inactive" doc:"Active if left out"`
	UserARN         string     `json:"user_arn,omitempty" yaml:"-" readOnly:"true" doc:"whose key it is"`
	CreatedAt       *time.Time `json:"created_at,omitempty" yaml:"created_at,omitempty"`
}

// The statuses of an access key, in the words of IAM.
const (
	Active   = "Active"
	Inactive = "Inactive"
)

// Workload is an EC2 instance, ECS task, EKS pod or AgentCore runtime of a buyer.
type Workload struct {
	AccountID  string `json:"account_id" yaml:"account_id" doc:"the buyer's 12 digits"`
	Platform   string `json:"platform" yaml:"platform" enum:"ec2,ecs,eks,agentcore"`
	ResourceID string `json:"resource_id" yaml:"resource_id" doc:"such as i-0123456789abcdef0, a task id, a pod name" maxLength:"128"`
	Region     string `json:"region" yaml:"region"`
	Role       string `json:"role,omitempty" yaml:"role,omitempty" doc:"the role whose session it calls with; meterd-workload, made as needed, if left out"`
}

// WorkloadCredentials are what a workload signs its calls with.
type WorkloadCredentials struct {
	Workload
	AccessKeyID     string     `json:"access_key_id"`
	SecretAccessKey string     `json:"secret_access_key"`
	SessionToken    string     `json:"session_token"`
	ExpiresAt       *time.Time `json:"expires_at,omitempty" doc:"wall clock; absent if they do not expire"`
	Endpoint        string     `json:"endpoint,omitempty" doc:"the AWS endpoint that they are for, as the service knows it; absent behind a proxy"`
}

// WorkloadRequest asks for a workload's credentials, and makes the workload if it is new.
type WorkloadRequest struct {
	Workload
	DurationSeconds int64 `json:"duration_seconds,omitempty" doc:"life of the credentials, 900 to 43200; 3600 if left out, in a sandbox for ever"`
}

// TokenRequest asks for a registration token, as the marketplace hands one to a buyer.
type TokenRequest struct {
	ProductCode string `json:"product_code" yaml:"product_code"`
	Buyer       string `json:"buyer" yaml:"buyer" doc:"12 digits, or a customer identifier of the product's seller"`

	IssuedAt          *time.Time `json:"issued_at,omitempty" yaml:"issued_at,omitempty" doc:"sandbox only: as if it had been issued then; to get an expired token"`
	RegistrationToken string     `json:"registration_token,omitempty" yaml:"registration_token,omitempty" doc:"sandbox only: the token that it shall be, 1 to 1024 printable ASCII characters without spaces; made if left out"`
}

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

// AdminToken is a bearer token of the admin API. The token itself is returned once, when it is made.
type AdminToken struct {
	ID        string    `json:"id" required:"false" readOnly:"true"`
	Name      string    `json:"name" doc:"your word for whose it is, at most 255 characters"`
	Token     string    `json:"token,omitempty" readOnly:"true" doc:"shown once"`
	CreatedAt time.Time `json:"created_at" required:"false" readOnly:"true"`
}

// Region is a region that signatures may name.
type Region struct {
	Name    string `json:"name" yaml:"name"`
	Enabled *bool  `json:"enabled,omitempty" yaml:"enabled,omitempty" doc:"records are taken there; true if left out of a new region"`
}

// Marketplace is a whole marketplace, as in a marketplace file.
type Marketplace struct {
	Regions    []Region    `json:"regions,omitempty" yaml:"regions,omitempty"`
	Sellers    []Seller    `json:"sellers,omitempty" yaml:"sellers,omitempty"`
	Products   []Product   `json:"products,omitempty" yaml:"products,omitempty"`
	Buyers     []Buyer     `json:"buyers,omitempty" yaml:"buyers,omitempty"`
	Agreements []Agreement `json:"agreements,omitempty" yaml:"agreements,omitempty"`
	Users      []Principal `json:"users,omitempty" yaml:"users,omitempty"`
	Roles      []Principal `json:"roles,omitempty" yaml:"roles,omitempty"`
	Workloads  []Workload  `json:"workloads,omitempty" yaml:"workloads,omitempty"`

	Tokens []TokenRequest `json:"tokens,omitempty" yaml:"tokens,omitempty" doc:"sandbox only: registration tokens, each of which must be given"`
}

// ImportResult counts what an import added. Things that were there already, exactly the same, are not counted.
type ImportResult struct {
	Regions    int         `json:"regions"`
	Sellers    int         `json:"sellers"`
	Products   int         `json:"products"`
	Buyers     int         `json:"buyers"`
	Agreements int         `json:"agreements"`
	Users      int         `json:"users"`
	Roles      int         `json:"roles"`
	Workloads  int         `json:"workloads"`
	Tokens     int         `json:"tokens"`
	Keys       []AccessKey `json:"access_keys,omitempty" doc:"access keys that were made for users without keys in the file; shown once"`
}

// Clock is the ledger clock. It rules windows, token life, agreements and month close; signatures and the expiry
// of credentials follow the wall clock.
type Clock struct {
	Now    time.Time `json:"now" doc:"the time by the ledger clock"`
	Frozen bool      `json:"frozen" doc:"the clock stands still"`
}

// ClockChange moves the ledger clock of a sandbox. Now and Advance exclude each other.
type ClockChange struct {
	Now     *time.Time `json:"now,omitempty" doc:"set the clock to this time, RFC 3339"`
	Advance string     `json:"advance,omitempty" doc:"move the clock by a duration such as 90m or -1h"`
	Frozen  *bool      `json:"frozen,omitempty" doc:"true stops the clock, false lets it run"`
	Reset   bool       `json:"reset,omitempty" doc:"follow the wall clock again"`
}

// UsageFilter chooses usage records. Empty members choose all.
type UsageFilter struct {
	ProductCode          string    `query:"product_code"`
	LicenseARN           string    `query:"license_arn"`
	CustomerAWSAccountID string    `query:"customer_aws_account_id"`
	CustomerIdentifier   string    `query:"customer_identifier"`
	Dimension            string    `query:"dimension"`
	Region               string    `query:"region"`
	Workload             string    `query:"workload" doc:"resource id"`
	From                 time.Time `query:"from" doc:"records stamped at or after this time"`
	To                   time.Time `query:"to" doc:"records stamped before this time"`
}

// UsageRecord is one accepted record.
type UsageRecord struct {
	MeteringRecordID     string            `json:"metering_record_id"`
	Timestamp            time.Time         `json:"timestamp" doc:"as it was sent"`
	Hour                 time.Time         `json:"hour"`
	ProductCode          string            `json:"product_code"`
	CustomerAWSAccountID string            `json:"customer_aws_account_id"`
	CustomerIdentifier   string            `json:"customer_identifier,omitempty"`
	LicenseARN           string            `json:"license_arn,omitempty"`
	Dimension            string            `json:"dimension"`
	Quantity             int64             `json:"quantity"`
	Region               string            `json:"region"`
	Workload             string            `json:"workload,omitempty" doc:"resource id"`
	Platform             string            `json:"platform,omitempty"`
	Allocations          []UsageAllocation `json:"usage_allocations,omitempty"`
}

// UsageAllocation is a part of a record's quantity.
type UsageAllocation struct {
	AllocatedUsageQuantity int64             `json:"allocated_usage_quantity"`
	Tags                   map[string]string `json:"tags,omitempty"`
}

// UsagePage is a page of records, in the order in which they were accepted.
type UsagePage struct {
	Records []UsageRecord `json:"records"`
	Next    string        `json:"next,omitempty" doc:"pass it as after= to get the next page"`
}

// UsageSum is the sum of the quantities of a group of records. Only the members that were grouped by are set.
type UsageSum struct {
	ProductCode          string     `json:"product_code,omitempty"`
	CustomerAWSAccountID string     `json:"customer_aws_account_id,omitempty"`
	CustomerIdentifier   string     `json:"customer_identifier,omitempty"`
	LicenseARN           string     `json:"license_arn,omitempty"`
	Dimension            string     `json:"dimension,omitempty"`
	Hour                 *time.Time `json:"hour,omitempty"`
	Region               string     `json:"region,omitempty"`
	Workload             string     `json:"workload,omitempty"`
	Records              int64      `json:"records"`
	Quantity             int64      `json:"quantity"`
}

// UsageSums are sums of usage, ordered by their groups.
type UsageSums struct {
	Sums []UsageSum `json:"sums"`
}

// GroupBy lists what sums can be grouped by, in the order in which groups are sorted.
var GroupBy = []string{"product_code", "license_arn", "customer_aws_account_id", "customer_identifier", "dimension", "hour", "region", "workload"}

// Call is the audit of one authenticated call.
type Call struct {
	RequestID   string       `json:"request_id"`
	At          time.Time    `json:"at" doc:"ledger clock"`
	Operation   string       `json:"operation"`
	Principal   string       `json:"principal" doc:"ARN of the caller, or the name of the admin token"`
	AccessKeyID string       `json:"access_key_id,omitempty"`
	SessionName string       `json:"session_name,omitempty" doc:"of a role's session"`
	Source      string       `json:"source" doc:"network address that the call came from"`
	UserAgent   string       `json:"user_agent,omitempty" doc:"the User-Agent header, its first 1024 bytes; what cannot be printed is replaced"`
	Region      string       `json:"region,omitempty"`
	Error       string       `json:"error,omitempty" doc:"the exception that the call was answered with"`
	Message     string       `json:"message,omitempty"`
	Request     string       `json:"request,omitempty" doc:"the start of a refused call's body"`
	Results     []CallResult `json:"results,omitempty" doc:"what became of each usage record, in the order of the call"`
}

// CallResult is what became of one usage record of a call.
type CallResult struct {
	Status string      `json:"status" doc:"Success, DuplicateRecord, CustomerNotSubscribed or Unprocessed"`
	Stored bool        `json:"stored" doc:"false for replays and refusals"`
	Record UsageRecord `json:"record"`
}

// Problem is the body of an error answer, in the form of RFC 9457.
type Problem struct {
	Status int    `json:"status" doc:"the HTTP status"`
	Title  string `json:"title" doc:"the status in words"`
	Detail string `json:"detail" doc:"one line: the field, the rule and the mend"`
	Errors Faults `json:"errors,omitempty" doc:"all that is wrong with a marketplace file, by line"`
}

// Error returns the detail, which is one line.
func (p *Problem) Error() string { return p.Detail }

// Page is a page of a list.
type Page[T any] struct {
	Items []T    `json:"items"`
	Next  string `json:"next,omitempty" doc:"pass it as after= to get the next page"`
}

// BuyerChange changes a buyer. What is left out stays.
type BuyerChange struct {
	Suspended *bool `json:"suspended,omitempty"`
}

// AccessKeyChange changes an access key.
type AccessKeyChange struct {
	Status string `json:"status" enum:"Active,Inactive"`
}

// RegionChange changes a region.
type RegionChange struct {
	Enabled bool `json:"enabled"`
}

// NewDimension is a dimension to add to a product.
type NewDimension struct {
	Dimension string `json:"dimension" doc:"API name, case-sensitive, at most 255 characters"`
}

// AgreementFilter chooses agreements. Empty members choose all.
type AgreementFilter struct {
	ProductCode    string `query:"product_code"`
	BuyerAccountID string `query:"buyer_account_id"`
	Status         string `query:"status" enum:"pending,active,ending,ended"`
}

// Cancellation says when an agreement begins to end.
type Cancellation struct {
	At *time.Time `json:"at,omitempty" doc:"now if left out; not in the past"`
}
