package adminapi

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Client calls the admin API. Its methods return a [*Problem] when the service refuses, and another error when it
// cannot be reached.
type Client struct {
	HTTPClient *http.Client // http.DefaultClient if nil

	endpoint, token string
}

// New returns a client of the admin API at the endpoint, such as "http://127.0.0.1:4881", with a bearer token.
func New(endpoint, token string) *Client {
	return &Client{endpoint: strings.TrimRight(endpoint, "/"), token: token}
}

// Realms of the WWW-Authenticate header by which the admin API refuses who has no valid token: they tell a sandbox, whose
// token is published, from a production service.
const (
	Realm        = "meterd"
	SandboxRealm = "meterd sandbox"
)

// Challenge returns the WWW-Authenticate header of a realm.
func Challenge(realm string) string { return fmt.Sprintf("Bearer realm=%q", realm) }

// IsSandbox asks the service at an endpoint, which needs no token, whether it is a sandbox. It returns a [*Problem] if
// there is another service there, and another error if none can be reached.
func IsSandbox(ctx context.Context, endpoint string, client *http.Client) (bool, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimRight(endpoint, "/")+path("clock"), nil)
	if err != nil {
		return false, err
	}
	answer, err := client.Do(r)
	if err != nil {
		return false, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusUnauthorized {
		return false, problem(answer)
	}
	return answer.Header.Get("WWW-Authenticate") == Challenge(SandboxRealm), nil
}

// List chooses a page of a list. The zero List is the first page, of the usual size.
type List struct {
	After string // Next of the page before
	Limit int    // 1 to 1000
}

func (p List) query() url.Values {
	q := url.Values{}
	set(q, "after", p.After)
	if p.Limit != 0 {
		q.Set("limit", strconv.Itoa(p.Limit))
	}
	return q
}

func set(q url.Values, name, value string) {
	if value != "" {
		q.Set(name, value)
	}
}

// path joins the segments of a path, so that each may hold any character.
func path(segments ...string) string {
	var b strings.Builder
	b.WriteString("/v1")
	for _, s := range segments {
		s = url.PathEscape(s)
		if strings.Trim(s, ".") == "" { // "." and ".." would be taken for steps along the path
			s = strings.ReplaceAll(s, ".", "%2E")
		}
		b.WriteString("/" + s)
	}
	return b.String()
}

// do sends a request. A body that is no reader is sent as JSON; out, which the answer is decoded into, may be nil.
func (c *Client) do(ctx context.Context, method, path string, query url.Values, header http.Header, body, out any) error {
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	reader, isReader := body.(io.Reader)
	if body != nil && !isReader {
		b, err := json.Marshal(body)
		if err != nil {
			return err
		}
		reader = bytes.NewReader(b)
	}
	r, err := http.NewRequestWithContext(ctx, method, c.endpoint+path, reader)
	if err != nil {
		return err
	}
	if header != nil {
		r.Header = header
	}
	if body != nil && !isReader {
		r.Header.Set("Content-Type", "application/json")
	}
	r.Header.Set("Authorization", "Bearer "+c.token)
	client := c.HTTPClient
	if client == nil {
		client = http.DefaultClient
	}
	answer, err := client.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode >= 300 {
		return problem(answer)
	}
	if out == nil {
		return nil
	}
	if err := json.NewDecoder(answer.Body).Decode(out); err != nil {
		return fmt.Errorf("reading the answer of %s %s: %w", method, path, err)
	}
	return nil
}

// problem reads an error answer. One that is not the admin API's, such as a proxy's, becomes a Problem as well.
func problem(answer *http.Response) error {
	p := &Problem{}
	b, _ := io.ReadAll(io.LimitReader(answer.Body, 1<<20))
	media, _, _ := mime.ParseMediaType(answer.Header.Get("Content-Type"))
	if media != "application/problem+json" || json.Unmarshal(b, p) != nil || p.Detail == "" {
		p = &Problem{Status: answer.StatusCode, Title: http.StatusText(answer.StatusCode),
			Detail: fmt.Sprintf("the answer is HTTP status %s, and not from meterd's admin API: check the endpoint", answer.Status)}
	}
	p.Detail = oneLine(p.Detail)
	for i := range p.Errors {
		p.Errors[i].Place, p.Errors[i].Detail = oneLine(p.Errors[i].Place), oneLine(p.Errors[i].Detail)
	}
	return p
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// FaultsProblem returns the answer to a marketplace file with faults.
func FaultsProblem(status int, faults Faults) *Problem {
	detail := faults[0].String()
	if n := len(faults); n > 1 {
		detail = fmt.Sprintf("%d things are wrong, each of which the answer lists under errors; the first: %s", n, detail)
	}
	return &Problem{Status: status, Title: http.StatusText(status), Detail: oneLine(detail), Errors: faults}
}

func get[T any](ctx context.Context, c *Client, path string, query url.Values) (T, error) {
	return call[T](ctx, c, http.MethodGet, path, query, nil)
}

func call[T any](ctx context.Context, c *Client, method, path string, query url.Values, body any) (T, error) {
	var out T
	err := c.do(ctx, method, path, query, nil, body, &out)
	return out, err
}

// Regions lists the regions that signatures may name.
func (c *Client) Regions(ctx context.Context, page List) (Page[Region], error) {
	return get[Page[Region]](ctx, c, path("regions"), page.query())
}

// CreateRegion adds a region.
func (c *Client) CreateRegion(ctx context.Context, in Region) (Region, error) {
	return call[Region](ctx, c, http.MethodPost, path("regions"), nil, in)
}

// ChangeRegion enables or disables a region.
func (c *Client) ChangeRegion(ctx context.Context, name string, in RegionChange) (Region, error) {
	return call[Region](ctx, c, http.MethodPatch, path("regions", name), nil, in)
}

// Sellers lists the sellers.
func (c *Client) Sellers(ctx context.Context, page List) (Page[Seller], error) {
	return get[Page[Seller]](ctx, c, path("sellers"), page.query())
}

// CreateSeller makes an account a seller.
func (c *Client) CreateSeller(ctx context.Context, in Seller) (Seller, error) {
	return call[Seller](ctx, c, http.MethodPost, path("sellers"), nil, in)
}

// Seller returns a seller.
func (c *Client) Seller(ctx context.Context, accountID string) (Seller, error) {
	return get[Seller](ctx, c, path("sellers", accountID), nil)
}

// Buyers lists the buyers.
func (c *Client) Buyers(ctx context.Context, page List) (Page[Buyer], error) {
	return get[Page[Buyer]](ctx, c, path("buyers"), page.query())
}

// CreateBuyer makes an account a buyer.
func (c *Client) CreateBuyer(ctx context.Context, in Buyer) (Buyer, error) {
	return call[Buyer](ctx, c, http.MethodPost, path("buyers"), nil, in)
}

// Buyer returns a buyer.
func (c *Client) Buyer(ctx context.Context, accountID string) (Buyer, error) {
	return get[Buyer](ctx, c, path("buyers", accountID), nil)
}

// ChangeBuyer suspends a buyer, or ends its suspension.
func (c *Client) ChangeBuyer(ctx context.Context, accountID string, in BuyerChange) (Buyer, error) {
	return call[Buyer](ctx, c, http.MethodPatch, path("buyers", accountID), nil, in)
}

// Products lists the products, of one seller if its account id is given.
func (c *Client) Products(ctx context.Context, sellerAccountID string, page List) (Page[Product], error) {
	q := page.query()
	set(q, "seller_account_id", sellerAccountID)
	return get[Page[Product]](ctx, c, path("products"), q)
}

// CreateProduct publishes a product.
func (c *Client) CreateProduct(ctx context.Context, in Product) (Product, error) {
	return call[Product](ctx, c, http.MethodPost, path("products"), nil, in)
}

// Product returns a product.
func (c *Client) Product(ctx context.Context, code string) (Product, error) {
	return get[Product](ctx, c, path("products", code), nil)
}

// AddDimension adds a dimension to a product.
func (c *Client) AddDimension(ctx context.Context, code string, in NewDimension) (Product, error) {
	return call[Product](ctx, c, http.MethodPost, path("products", code, "dimensions"), nil, in)
}

// PublicKeys lists the versions of a product's public key.
func (c *Client) PublicKeys(ctx context.Context, code string) (Page[PublicKey], error) {
	return get[Page[PublicKey]](ctx, c, path("products", code, "public-keys"), nil)
}

// RotatePublicKey makes the next version of a product's public key.
func (c *Client) RotatePublicKey(ctx context.Context, code string) (PublicKey, error) {
	return call[PublicKey](ctx, c, http.MethodPost, path("products", code, "public-keys"), nil, nil)
}

// ExpirePublicKey marks a version of a product's public key as replaced.
func (c *Client) ExpirePublicKey(ctx context.Context, code string, version int32) (PublicKey, error) {
	return call[PublicKey](ctx, c, http.MethodPost, path("products", code, "public-keys", strconv.Itoa(int(version)), "expire"), nil, nil)
}

// Agreements lists the agreements that the filter chooses.
func (c *Client) Agreements(ctx context.Context, f AgreementFilter, page List) (Page[Agreement], error) {
	q := page.query()
	set(q, "product_code", f.ProductCode)
	set(q, "buyer_account_id", f.BuyerAccountID)
	set(q, "status", f.Status)
	return get[Page[Agreement]](ctx, c, path("agreements"), q)
}

// CreateAgreement makes an agreement, and the licence that comes with it.
func (c *Client) CreateAgreement(ctx context.Context, in Agreement) (Agreement, error) {
	return call[Agreement](ctx, c, http.MethodPost, path("agreements"), nil, in)
}

// Agreement returns an agreement.
func (c *Client) Agreement(ctx context.Context, agreementID string) (Agreement, error) {
	return get[Agreement](ctx, c, path("agreements", agreementID), nil)
}

// CancelAgreement lets an agreement begin to end.
func (c *Client) CancelAgreement(ctx context.Context, agreementID string, in Cancellation) (Agreement, error) {
	return call[Agreement](ctx, c, http.MethodPost, path("agreements", agreementID, "cancel"), nil, in)
}

// EndAgreement ends an agreement at once.
func (c *Client) EndAgreement(ctx context.Context, agreementID string) (Agreement, error) {
	return call[Agreement](ctx, c, http.MethodPost, path("agreements", agreementID, "end"), nil, nil)
}

// ImportFile adds a marketplace, all of it or nothing, from a file in "application/json" or "application/yaml". It is
// sent as it is read.
func (c *Client) ImportFile(ctx context.Context, contentType string, file io.Reader) (ImportResult, error) {
	var out ImportResult
	err := c.do(ctx, http.MethodPost, path("import"), nil, http.Header{"Content-Type": {contentType}}, file, &out)
	return out, err
}

// Kind is the kind of a principal, as in its path.
type Kind string

// The kinds of principals.
const (
	Users Kind = "users"
	Roles Kind = "roles"
)

// Principals lists the users or roles, of one account if its id is given.
func (c *Client) Principals(ctx context.Context, kind Kind, accountID string, page List) (Page[Principal], error) {
	q := page.query()
	set(q, "account_id", accountID)
	return get[Page[Principal]](ctx, c, path(string(kind)), q)
}

// CreatePrincipal makes a user or role.
func (c *Client) CreatePrincipal(ctx context.Context, kind Kind, in Principal) (Principal, error) {
	return call[Principal](ctx, c, http.MethodPost, path(string(kind)), nil, in)
}

// Principal returns a user or role.
func (c *Client) Principal(ctx context.Context, kind Kind, accountID, name string) (Principal, error) {
	return get[Principal](ctx, c, path(string(kind), accountID, name), nil)
}

// DeletePrincipal deletes a user with its keys, or a role.
func (c *Client) DeletePrincipal(ctx context.Context, kind Kind, accountID, name string) error {
	return c.do(ctx, http.MethodDelete, path(string(kind), accountID, name), nil, nil, nil, nil)
}

// PutPermissions replaces the permissions of a user or role.
func (c *Client) PutPermissions(ctx context.Context, kind Kind, accountID, name string, in Permissions) (Principal, error) {
	return call[Principal](ctx, c, http.MethodPut, path(string(kind), accountID, name, "permissions"), nil, in)
}

// CreateAccessKey makes an access key for a user. Its secret is in the answer only.
func (c *Client) CreateAccessKey(ctx context.Context, accountID, user string) (AccessKey, error) {
	return call[AccessKey](ctx, c, http.MethodPost, path("users", accountID, user, "access-keys"), nil, nil)
}

// ChangeAccessKey activates or deactivates an access key.
func (c *Client) ChangeAccessKey(ctx context.Context, accessKeyID string, in AccessKeyChange) (AccessKey, error) {
	return call[AccessKey](ctx, c, http.MethodPatch, path("access-keys", accessKeyID), nil, in)
}

// DeleteAccessKey deletes an access key.
func (c *Client) DeleteAccessKey(ctx context.Context, accessKeyID string) error {
	return c.do(ctx, http.MethodDelete, path("access-keys", accessKeyID), nil, nil, nil, nil)
}

// Workloads lists the workloads, of one account if its id is given.
func (c *Client) Workloads(ctx context.Context, accountID string, page List) (Page[Workload], error) {
	q := page.query()
	set(q, "account_id", accountID)
	return get[Page[Workload]](ctx, c, path("workloads"), q)
}

// CreateWorkloadCredentials mints credentials for a workload, which is made if it is new.
func (c *Client) CreateWorkloadCredentials(ctx context.Context, in WorkloadRequest) (WorkloadCredentials, error) {
	return call[WorkloadCredentials](ctx, c, http.MethodPost, path("workloads"), nil, in)
}

// Tokens lists the registration tokens.
func (c *Client) Tokens(ctx context.Context, page List) (Page[Token], error) {
	return get[Page[Token]](ctx, c, path("tokens"), page.query())
}

// CreateToken issues a registration token.
func (c *Client) CreateToken(ctx context.Context, in TokenRequest) (Token, error) {
	return call[Token](ctx, c, http.MethodPost, path("tokens"), nil, in)
}

// RevokeToken makes a registration token invalid.
func (c *Client) RevokeToken(ctx context.Context, id string) error {
	return c.do(ctx, http.MethodDelete, path("tokens", id), nil, nil, nil, nil)
}

// AdminTokens lists the bearer tokens of the admin API.
func (c *Client) AdminTokens(ctx context.Context, page List) (Page[AdminToken], error) {
	return get[Page[AdminToken]](ctx, c, path("admin-tokens"), page.query())
}

// CreateAdminToken makes a bearer token of the admin API. The token is in the answer only.
func (c *Client) CreateAdminToken(ctx context.Context, name string) (AdminToken, error) {
	return call[AdminToken](ctx, c, http.MethodPost, path("admin-tokens"), nil, map[string]string{"name": name})
}

// DeleteAdminToken deletes a bearer token of the admin API.
func (c *Client) DeleteAdminToken(ctx context.Context, id string) error {
	return c.do(ctx, http.MethodDelete, path("admin-tokens", id), nil, nil, nil, nil)
}

// query returns the filter's members that are set.
func (f *UsageFilter) query(q url.Values) url.Values {
	set(q, "product_code", f.ProductCode)
	set(q, "license_arn", f.LicenseARN)
	set(q, "customer_aws_account_id", f.CustomerAWSAccountID)
	set(q, "customer_identifier", f.CustomerIdentifier)
	set(q, "dimension", f.Dimension)
	set(q, "region", f.Region)
	set(q, "workload", f.Workload)
	for name, t := range map[string]time.Time{"from": f.From, "to": f.To} {
		if !t.IsZero() {
			q.Set(name, t.Format(time.RFC3339Nano))
		}
	}
	return q
}

// Usage lists the usage records that the filter chooses.
func (c *Client) Usage(ctx context.Context, f UsageFilter, page List) (UsagePage, error) {
	return get[UsagePage](ctx, c, path("usage"), f.query(page.query()))
}

// UsageSums sums up the usage that the filter chooses, for each group of what [GroupBy] lists.
func (c *Client) UsageSums(ctx context.Context, f UsageFilter, by []string) (UsageSums, error) {
	q := f.query(url.Values{})
	set(q, "by", strings.Join(by, ","))
	return get[UsageSums](ctx, c, path("usage", "sum"), q)
}

// Call returns the audit of a call.
func (c *Client) Call(ctx context.Context, requestID string) (Call, error) {
	return get[Call](ctx, c, path("calls", requestID), nil)
}

// Clock reads the ledger clock.
func (c *Client) Clock(ctx context.Context) (Clock, error) {
	return get[Clock](ctx, c, path("clock"), nil)
}

// AcceptClock says that the clock of a production ledger is right, though it has jumped ahead or ledger time is ahead of it.
func (c *Client) AcceptClock(ctx context.Context) (Clock, error) {
	return call[Clock](ctx, c, http.MethodPost, path("clock", "accept"), nil, nil)
}

// ChangeClock moves, stops or starts the ledger clock of a sandbox.
func (c *Client) ChangeClock(ctx context.Context, in ClockChange) (Clock, error) {
	return call[Clock](ctx, c, http.MethodPut, path("clock"), nil, in)
}
