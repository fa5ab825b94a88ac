package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"net/url"
	"reflect"
	"runtime/debug"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/meterd/meterd/internal/adminapi"
	"github.com/meterd/meterd/internal/iam"
	"github.com/meterd/meterd/internal/ledger"
	"github.com/meterd/meterd/internal/metering"
	"github.com/meterd/meterd/internal/table"
)

// AdminConfig is what the admin API needs.
type AdminConfig struct {
	Ledger *ledger.Ledger
	Log    *slog.Logger // slog.Default if nil
	Only   *Hosts       // hosts that are answered; any if nil

	Endpoint func() string // the AWS endpoint's URL, or "" if it is not known; nil if it never is
}

// maxImport is the longest marketplace that an import takes, in bytes. It is read item by item.
const maxImport = 1 << 30

// importing has the import that is being read and made: one at a time in the process, for what it takes of memory.
var importing = make(chan struct{}, 1)

// importTime is how long an import may take to send, and as long again to be made. Only operators get so far.
const importTime = 10 * time.Minute

// admin serves the admin API.
type admin struct {
	AdminConfig
	api huma.API
}

// The library has these as variables of its own; the admin API is its only user in the program.
func init() {
	huma.NewError = func(status int, message string, details ...error) huma.StatusError {
		return newProblem(status, message, details...)
	}
	huma.DefaultArrayNullable = false
	huma.ValidateStrictCasing = true
}

// Admin returns the handler of the admin API: everything under /v1/, for holders of a bearer token, and its OpenAPI
// document at /openapi.json and /openapi.yaml, for everyone.
func Admin(cfg AdminConfig) http.Handler {
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	a := &admin{AdminConfig: cfg}
	mux := http.NewServeMux()
	a.api = humago.New(mux, huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI: "3.1.0",
			Info:    &huma.Info{Title: "meterd admin API", Version: "1", Description: "Administers the marketplace, identities, tokens and usage of a meterd service."},
			Components: &huma.Components{
				Schemas:         huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer),
				SecuritySchemes: map[string]*huma.SecurityScheme{"bearer": {Type: "http", Scheme: "bearer"}},
			},
			Security: []map[string][]string{{"bearer": {}}},
		},
		OpenAPIPath: "/openapi", Formats: huma.DefaultFormats, DefaultFormat: "application/json", RejectUnknownQueryParameters: true,
	})
	a.api.UseMiddleware(a.refuseRepeated)
	a.marketplace()
	a.identities()
	a.usage()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		newProblem(http.StatusNotFound, fmt.Sprintf("there is no %s %.200q: /openapi.json lists what there is", r.Method, r.URL.Path)).write(w)
	})
	protection := http.NewCrossOriginProtection()
	protection.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		newProblem(http.StatusForbidden, "the request comes from a page of another origin: the admin API takes none of those").write(w)
	}))
	guarded := protection.Handler(a.authenticate(mux))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if why := cfg.Only.refuse(r); why != "" {
			dropBody(w, r)
			newProblem(http.StatusForbidden, why).write(w)
			return
		}
		guarded.ServeHTTP(w, r)
	})
}

type operatorKey struct{}

// authenticate lets nobody past without a valid token, whatever the path, but for the documents.
func (a *admin) authenticate(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/openapi.json" || r.URL.Path == "/openapi.yaml" {
			next.ServeHTTP(w, r)
			return
		}
		token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		op, err := a.Ledger.Operator(token, address(r), agent(r))
		if err != nil {
			dropBody(w, r)
			realm := adminapi.Realm
			if a.Ledger.Sandbox() {
				realm = adminapi.SandboxRealm
			}
			w.Header().Set("WWW-Authenticate", adminapi.Challenge(realm))
			a.problem(http.MethodGet, err).write(w) // nothing was tried yet
			return
		}
		connOf(r).prove()
		w.Header().Set("Cache-Control", "no-store") // answers may hold secrets
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), operatorKey{}, op)))
	})
}

// refuseRepeated refuses query parameters that are given twice: all but the first would be ignored.
func (a *admin) refuseRepeated(ctx huma.Context, next func(huma.Context)) {
	u := ctx.URL()
	for name, values := range u.Query() {
		if len(values) > 1 && name != "by" {
			_, w := humago.Unwrap(ctx)
			newProblem(http.StatusUnprocessableEntity, fmt.Sprintf("%.80s: is given %d times: give it once", name, len(values))).write(w)
			return
		}
	}
	next(ctx)
}

// problem is an error answer.
type problem adminapi.Problem

// newProblem words an error as one line: each detail with the place it is about.
func newProblem(status int, message string, details ...error) *problem {
	var lines []string
	for _, d := range details {
		var located huma.ErrorDetailer
		if errors.As(d, &located) {
			e := located.ErrorDetail()
			line := e.Message
			if where := strings.TrimPrefix(strings.TrimPrefix(e.Location, "body."), "query."); where != "" && where != "body" {
				line = where + ": " + line
			}
			lines = append(lines, line)
		} else if d != nil {
			lines = append(lines, d.Error())
		}
	}
	if len(lines) > 0 {
		message = strings.Join(lines, "; ")
	}
	return &problem{Status: status, Title: http.StatusText(status), Detail: strings.ReplaceAll(message, "\n", " ")}
}

func (p *problem) Error() string             { return p.Detail }
func (p *problem) GetStatus() int            { return p.Status }
func (p *problem) ContentType(string) string { return "application/problem+json" }

func (p *problem) write(w http.ResponseWriter) {
	w.Header().Set("Content-Type", p.ContentType(""))
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p) // the client may be gone
}

// problem maps an error of the ledger to an answer. What is unexpected goes to the log and not to the client.
func (a *admin) problem(method string, err error) *problem {
	var refusal *metering.Error
	if errors.As(err, &refusal) {
		switch refusal.Kind {
		case metering.Internal:
		case metering.NotFound:
			return newProblem(http.StatusNotFound, refusal.Message)
		case metering.Conflict:
			return newProblem(http.StatusConflict, refusal.Message)
		case metering.AccessDenied:
			return newProblem(http.StatusUnauthorized, refusal.Message)
		case metering.Throttling:
			return newProblem(http.StatusServiceUnavailable, refusal.Message)
		default:
			return newProblem(http.StatusUnprocessableEntity, refusal.Message)
		}
	}
	a.Log.Error("admin API", slog.Any("error", err))
	if method == http.MethodGet {
		return newProblem(http.StatusInternalServerError, "something went wrong: the service's log says what")
	}
	return newProblem(http.StatusInternalServerError, "something went wrong, and it is not known whether the change was made: the service's log says what; look before you try again")
}

// output is an answer with a body.
type output[T any] struct{ Body T }

// input is a request with a body and no parameters.
type input[T any] struct{ Body T }

// handle adds an operation that answers with a body. Its id is made of the method and the path.
func handle[I, O any](a *admin, method, path, summary string, f func(ledger.Operator, *I) (O, error)) {
	operation := describe(method, path, summary)
	if method == http.MethodPost {
		operation.DefaultStatus = http.StatusCreated
		if strings.HasSuffix(path, "/cancel") || strings.HasSuffix(path, "/end") || strings.HasSuffix(path, "/expire") {
			operation.DefaultStatus = http.StatusOK
		}
	}
	huma.Register(a.api, operation, func(ctx context.Context, in *I) (*output[O], error) {
		out, err := f(ctx.Value(operatorKey{}).(ledger.Operator), in)
		if err != nil {
			return nil, a.problem(method, err)
		}
		return &output[O]{out}, nil
	})
}

// handleEmpty adds an operation that answers without a body.
func handleEmpty[I any](a *admin, method, path, summary string, f func(ledger.Operator, *I) error) {
	huma.Register(a.api, describe(method, path, summary), func(ctx context.Context, in *I) (*struct{}, error) {
		if err := f(ctx.Value(operatorKey{}).(ledger.Operator), in); err != nil {
			return nil, a.problem(method, err)
		}
		return nil, nil
	})
}

func describe(method, path, summary string) huma.Operation {
	id := strings.NewReplacer("/v1/", "-", "/", "-", "{", "", "}", "", "_", "-").Replace(path)
	errors := []int{http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusConflict, http.StatusUnprocessableEntity,
		http.StatusInternalServerError, http.StatusServiceUnavailable}
	if method == http.MethodPost || method == http.MethodPut || method == http.MethodPatch {
		errors = append(errors, http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType)
	}
	return huma.Operation{OperationID: strings.ToLower(method) + id, Method: method, Path: path, Summary: summary, Errors: errors}
}

// The parameters that operations share. They are exported for the library to find them where they are embedded.
type (
	// Paging chooses a page of a list.
	Paging struct {
		After string `query:"after" doc:"next of the page before"`
		Limit int    `query:"limit" minimum:"1" maximum:"1000" default:"100" doc:"items in a page"`
	}
	// AccountPath names an account.
	AccountPath struct {
		AccountID string `path:"account_id" doc:"12 digits"`
	}
	// ProductPath names a product.
	ProductPath struct {
		ProductCode string `path:"product_code"`
	}
	// AgreementPath names an agreement.
	AgreementPath struct {
		AgreementID string `path:"agreement_id"`
	}
	// PrincipalPath names a user or role.
	PrincipalPath struct {
		AccountID string `path:"account_id" doc:"12 digits"`
		Name      string `path:"name"`
	}
	// KeyPath names an access key.
	KeyPath struct {
		AccessKeyID string `path:"access_key_id"`
	}
	// NamePath names a region.
	NamePath struct {
		Name string `path:"name"`
	}
	// IDPath names a token.
	IDPath struct {
		ID string `path:"id"`
	}
)

// marketplace adds the operations on regions, sellers, buyers, products, agreements, and on all of them at once.
func (a *admin) marketplace() {
	l := a.Ledger
	handle(a, "GET", "/v1/regions", "List regions", func(op ledger.Operator, in *Paging) (adminapi.Page[adminapi.Region], error) {
		return l.Regions(op, in.After, in.Limit)
	})
	handle(a, "POST", "/v1/regions", "Add a region", func(op ledger.Operator, in *input[adminapi.Region]) (adminapi.Region, error) {
		return l.CreateRegion(op, in.Body)
	})
	handle(a, "PATCH", "/v1/regions/{name}", "Enable or disable a region", func(op ledger.Operator, in *struct {
		NamePath
		Body adminapi.RegionChange
	}) (adminapi.Region, error) {
		return l.EnableRegion(op, in.Name, in.Body.Enabled)
	})

	handle(a, "GET", "/v1/sellers", "List sellers", func(op ledger.Operator, in *Paging) (adminapi.Page[adminapi.Seller], error) {
		return l.Sellers(op, in.After, in.Limit)
	})
	handle(a, "POST", "/v1/sellers", "Make an account a seller", func(op ledger.Operator, in *input[adminapi.Seller]) (adminapi.Seller, error) {
		return l.CreateSeller(op, in.Body)
	})
	handle(a, "GET", "/v1/sellers/{account_id}", "Get a seller", func(op ledger.Operator, in *AccountPath) (adminapi.Seller, error) {
		return l.Seller(op, in.AccountID)
	})

	handle(a, "GET", "/v1/buyers", "List buyers", func(op ledger.Operator, in *Paging) (adminapi.Page[adminapi.Buyer], error) {
		return l.Buyers(op, in.After, in.Limit)
	})
	handle(a, "POST", "/v1/buyers", "Make an account a buyer", func(op ledger.Operator, in *input[adminapi.Buyer]) (adminapi.Buyer, error) {
		return l.CreateBuyer(op, in.Body)
	})
	handle(a, "GET", "/v1/buyers/{account_id}", "Get a buyer", func(op ledger.Operator, in *AccountPath) (adminapi.Buyer, error) {
		return l.Buyer(op, in.AccountID)
	})
	handle(a, "PATCH", "/v1/buyers/{account_id}", "Suspend a buyer, or end its suspension", func(op ledger.Operator, in *struct {
		AccountPath
		Body adminapi.BuyerChange
	}) (adminapi.Buyer, error) {
		return l.ChangeBuyer(op, in.AccountID, in.Body)
	})

	handle(a, "GET", "/v1/products", "List products", func(op ledger.Operator, in *struct {
		Seller string `query:"seller_account_id" doc:"of this seller only"`
		Paging
	}) (adminapi.Page[adminapi.Product], error) {
		return l.Products(op, in.Seller, in.After, in.Limit)
	})
	handle(a, "POST", "/v1/products", "Publish a product", func(op ledger.Operator, in *input[adminapi.Product]) (adminapi.Product, error) {
		return l.CreateProduct(op, in.Body)
	})
	handle(a, "GET", "/v1/products/{product_code}", "Get a product", func(op ledger.Operator, in *ProductPath) (adminapi.Product, error) {
		return l.Product(op, in.ProductCode)
	})
	handle(a, "POST", "/v1/products/{product_code}/dimensions", "Add a dimension to a product", func(op ledger.Operator, in *struct {
		ProductPath
		Body adminapi.NewDimension
	}) (adminapi.Product, error) {
		return l.AddDimension(op, in.ProductCode, in.Body)
	})
	handle(a, "GET", "/v1/products/{product_code}/public-keys", "List the versions of a product's public key", func(op ledger.Operator, in *ProductPath) (adminapi.Page[adminapi.PublicKey], error) {
		return l.PublicKeys(op, in.ProductCode)
	})
	handle(a, "POST", "/v1/products/{product_code}/public-keys", "Rotate a product's public key", func(op ledger.Operator, in *ProductPath) (adminapi.PublicKey, error) {
		return l.RotatePublicKey(op, in.ProductCode)
	})
	handle(a, "POST", "/v1/products/{product_code}/public-keys/{version}/expire", "Mark a version of a product's public key as replaced", func(op ledger.Operator, in *struct {
		ProductPath
		Version int32 `path:"version" minimum:"1"`
	}) (adminapi.PublicKey, error) {
		return l.ExpirePublicKey(op, in.ProductCode, in.Version)
	})

	handle(a, "GET", "/v1/agreements", "List agreements", func(op ledger.Operator, in *struct {
		adminapi.AgreementFilter
		Paging
	}) (adminapi.Page[adminapi.Agreement], error) {
		return l.Agreements(op, in.AgreementFilter, in.After, in.Limit)
	})
	handle(a, "POST", "/v1/agreements", "Make an agreement", func(op ledger.Operator, in *input[adminapi.Agreement]) (adminapi.Agreement, error) {
		return l.CreateAgreement(op, in.Body)
	})
	handle(a, "GET", "/v1/agreements/{agreement_id}", "Get an agreement", func(op ledger.Operator, in *AgreementPath) (adminapi.Agreement, error) {
		return l.Agreement(op, in.AgreementID)
	})
	handle(a, "POST", "/v1/agreements/{agreement_id}/cancel", "Let an agreement begin to end: an hour later it has ended", func(op ledger.Operator, in *struct {
		AgreementPath
		Body *adminapi.Cancellation // a pointer may be left out
	}) (adminapi.Agreement, error) {
		if in.Body == nil {
			in.Body = &adminapi.Cancellation{}
		}
		return l.CancelAgreement(op, in.AgreementID, *in.Body)
	})
	handle(a, "POST", "/v1/agreements/{agreement_id}/end", "End an agreement at once", func(op ledger.Operator, in *AgreementPath) (adminapi.Agreement, error) {
		return l.EndAgreement(op, in.AgreementID)
	})

	marketplace := &huma.MediaType{Schema: a.api.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[adminapi.Marketplace](), true, "")}
	operation := describe("POST", "/v1/import", "Import a marketplace, all of it or nothing")
	huma.Register(a.api, operation, func(ctx context.Context, in *importInput) (*output[adminapi.ImportResult], error) {
		form, p := in.form()
		if p != nil {
			return nil, p
		}
		select {
		case importing <- struct{}{}:
		case <-ctx.Done():
			return nil, newProblem(http.StatusServiceUnavailable, "the imports before this one took too long: send it again")
		}
		defer func() { <-importing }()
		in.begin()
		text := &head{most: adminapi.MaxYAML}
		defer text.done()
		m, err := adminapi.Read(form, io.TeeReader(in.body, text))
		var unread, faults adminapi.Faults
		if errors.As(err, &unread) && m == nil {
			return nil, faultsProblem(http.StatusBadRequest, unread)
		}
		if err != nil && m == nil {
			return nil, a.readProblem(err)
		}
		out, err := l.Import(ctx.Value(operatorKey{}).(ledger.Operator), m, unread...)
		if errors.As(err, &faults) {
			status := http.StatusBadRequest
			if len(unread) == 0 {
				status = a.problem(http.MethodPost, err).Status
			}
			if !text.cut {
				adminapi.Locate(form, bytes.NewReader(text.b), faults)
			}
			return nil, faultsProblem(status, faults)
		}
		if err != nil {
			return nil, a.problem(http.MethodPost, err)
		}
		return &output[adminapi.ImportResult]{out}, nil
	})
	// Told only now, so that the library leaves the body to importInput.
	a.api.OpenAPI().Paths[operation.Path].Post.RequestBody = &huma.RequestBody{Required: true,
		Content: map[string]*huma.MediaType{"application/json": marketplace, "application/yaml": marketplace}}
}

// importInput is a marketplace, still to be read.
type importInput struct {
	contentType string
	body        io.Reader
	connection  *http.ResponseController
}

// Resolve takes the body from the request unread: it may be large.
func (in *importInput) Resolve(ctx huma.Context) []error {
	r, w := humago.Unwrap(ctx)
	in.contentType = r.Header.Get("Content-Type")
	in.body = http.MaxBytesReader(w, r.Body, maxImport)
	in.connection = http.NewResponseController(w)
	in.begin()
	return nil
}

// begin gives the import its time, from now on.
func (in *importInput) begin() {
	now := time.Now()
	_ = in.connection.SetReadDeadline(now.Add(importTime)) // if it has none of its own, it has the server's
	_ = in.connection.SetWriteDeadline(now.Add(2 * importTime))
}

// form is how the body is written.
func (in *importInput) form() (adminapi.Form, *problem) {
	media, _, err := mime.ParseMediaType(in.contentType)
	if form := adminapi.Form(media); err == nil && (form == adminapi.JSON || form == adminapi.YAML) {
		return form, nil
	}
	return "", newProblem(http.StatusUnsupportedMediaType, fmt.Sprintf("Content-Type: must be application/json or application/yaml, not %.80q", in.contentType))
}

// readProblem words why a body could not be read.
func (a *admin) readProblem(err error) *problem {
	if tooLong := (*http.MaxBytesError)(nil); errors.As(err, &tooLong) {
		return newProblem(http.StatusRequestEntityTooLarge, fmt.Sprintf("body: is longer than %d MiB: import it in parts", maxImport>>20))
	}
	return newProblem(http.StatusBadRequest, err.Error())
}

func faultsProblem(status int, faults adminapi.Faults) *problem {
	return (*problem)(adminapi.FaultsProblem(status, faults))
}

// head keeps what is written to it, unless that is more than most bytes: then it keeps nothing.
//
// From large bytes on it also has the garbage collector run often, until done: lists and maps of an import grow by
// being copied, and by default a heap may grow to twice what is used of it before it is collected.
type head struct {
	b         []byte
	most      int
	cut       bool
	n         int
	collected int // the percentage of garbage that was allowed before
}

const (
	large   = 1 << 20
	garbage = 25 // percent, in a large import
)

// done ends a large import. What it used goes back to the system, as the service itself would not use so much again.
func (h *head) done() {
	if h.n >= large {
		debug.SetGCPercent(h.collected)
		go debug.FreeOSMemory() // beside the service, when what the import used is out of reach
	}
}

func (h *head) Write(b []byte) (int, error) {
	if h.n += len(b); h.n >= large && h.n-len(b) < large {
		if h.collected = debug.SetGCPercent(garbage); h.collected >= 0 && h.collected < garbage {
			debug.SetGCPercent(h.collected)
		}
	}
	if h.cut = h.cut || len(h.b)+len(b) > h.most; h.cut {
		h.b = nil
	} else {
		h.b = append(h.b, b...)
	}
	return len(b), nil
}

// identities adds the operations on users, roles, keys, workloads and tokens.
func (a *admin) identities() {
	l := a.Ledger
	for _, k := range []struct {
		kind iam.Kind
		path string
		a    string
	}{{iam.User, "/v1/users", "a user"}, {iam.Role, "/v1/roles", "a role"}} {
		handle(a, "GET", k.path, "List "+k.kind.String()+"s", func(op ledger.Operator, in *struct {
			Account string `query:"account_id" doc:"of this account only"`
			Paging
		}) (adminapi.Page[adminapi.Principal], error) {
			return l.Principals(op, k.kind, in.Account, in.After, in.Limit)
		})
		handle(a, "POST", k.path, "Make "+k.a, func(op ledger.Operator, in *input[adminapi.Principal]) (adminapi.Principal, error) {
			return l.CreatePrincipal(op, k.kind, in.Body)
		})
		handle(a, "GET", k.path+"/{account_id}/{name}", "Get "+k.a, func(op ledger.Operator, in *PrincipalPath) (adminapi.Principal, error) {
			return l.Principal(op, k.kind, in.AccountID, in.Name)
		})
		handleEmpty(a, "DELETE", k.path+"/{account_id}/{name}", "Delete "+k.a, func(op ledger.Operator, in *PrincipalPath) error {
			return l.DeletePrincipal(op, k.kind, in.AccountID, in.Name)
		})
		handle(a, "PUT", k.path+"/{account_id}/{name}/permissions", "Replace the permissions of "+k.a, func(op ledger.Operator, in *struct {
			PrincipalPath
			Body adminapi.Permissions
		}) (adminapi.Principal, error) {
			return l.PutPermissions(op, k.kind, in.AccountID, in.Name, in.Body)
		})
	}
	handle(a, "POST", "/v1/users/{account_id}/{name}/access-keys", "Make an access key for a user", func(op ledger.Operator, in *PrincipalPath) (adminapi.AccessKey, error) {
		return l.CreateAccessKey(op, in.AccountID, in.Name)
	})
	handle(a, "PATCH", "/v1/access-keys/{access_key_id}", "Activate or deactivate an access key", func(op ledger.Operator, in *struct {
		KeyPath
		Body adminapi.AccessKeyChange
	}) (adminapi.AccessKey, error) {
		return l.ChangeAccessKey(op, in.AccessKeyID, in.Body)
	})
	handleEmpty(a, "DELETE", "/v1/access-keys/{access_key_id}", "Delete an access key", func(op ledger.Operator, in *KeyPath) error {
		return l.DeleteAccessKey(op, in.AccessKeyID)
	})

	handle(a, "GET", "/v1/workloads", "List workloads", func(op ledger.Operator, in *struct {
		Account string `query:"account_id" doc:"of this account only"`
		Paging
	}) (adminapi.Page[adminapi.Workload], error) {
		return l.Workloads(op, in.Account, in.After, in.Limit)
	})
	handle(a, "POST", "/v1/workloads", "Get credentials for a workload, which is made if it is new", func(op ledger.Operator, in *input[adminapi.WorkloadRequest]) (adminapi.WorkloadCredentials, error) {
		out, err := l.CreateWorkloadCredentials(op, in.Body)
		if a.Endpoint != nil {
			out.Endpoint = a.Endpoint()
		}
		return out, err
	})

	handle(a, "GET", "/v1/tokens", "List registration tokens", func(op ledger.Operator, in *Paging) (adminapi.Page[adminapi.Token], error) {
		return l.Tokens(op, in.After, in.Limit)
	})
	handle(a, "POST", "/v1/tokens", "Issue a registration token", func(op ledger.Operator, in *input[adminapi.TokenRequest]) (adminapi.Token, error) {
		return l.CreateToken(op, in.Body)
	})
	handleEmpty(a, "DELETE", "/v1/tokens/{id}", "Revoke a registration token", func(op ledger.Operator, in *IDPath) error {
		return l.RevokeToken(op, in.ID)
	})

	handle(a, "GET", "/v1/admin-tokens", "List bearer tokens of the admin API", func(op ledger.Operator, in *Paging) (adminapi.Page[adminapi.AdminToken], error) {
		return l.AdminTokens(op, in.After, in.Limit)
	})
	handle(a, "POST", "/v1/admin-tokens", "Make a bearer token of the admin API", func(op ledger.Operator, in *input[adminapi.AdminToken]) (adminapi.AdminToken, error) {
		return l.CreateAdminToken(op, in.Body)
	})
	handleEmpty(a, "DELETE", "/v1/admin-tokens/{id}", "Delete a bearer token of the admin API", func(op ledger.Operator, in *IDPath) error {
		return l.DeleteAdminToken(op, in.ID)
	})
}

// usage adds the operations on usage, the audit and the clock.
func (a *admin) usage() {
	l := a.Ledger
	handleTable(a, "/v1/usage", "List usage records in the order in which they were accepted", reflect.TypeFor[adminapi.UsagePage](), func(op ledger.Operator, in *struct {
		adminapi.UsageFilter
		Paging
		Accept
	}) (*answer, error) {
		p, err := l.Usage(op, in.UsageFilter, in.After, in.Limit)
		if err != nil {
			return nil, err
		}
		out := &answer{}
		if p.Next != "" {
			next := in.url
			query := next.Query()
			query.Set("after", p.Next)
			next.RawQuery = query.Encode()
			out.Link = "<" + next.RequestURI() + `>; rel="next"`
		}
		return out, out.write(&in.Accept, p, p.Table)
	})
	handleTable(a, "/v1/usage/sum", "Sum up usage", reflect.TypeFor[adminapi.UsageSums](), func(op ledger.Operator, in *struct {
		adminapi.UsageFilter
		By []string `query:"by,explode" doc:"what to group by, repeated or separated by commas: product_code, license_arn, customer_aws_account_id, customer_identifier, dimension, hour, region, workload"`
		Accept
	}) (*answer, error) {
		var by []string
		for _, names := range in.By {
			for _, name := range strings.Split(names, ",") {
				if name = strings.TrimSpace(name); name != "" {
					by = append(by, name)
				}
			}
		}
		s, err := l.UsageSums(op, in.UsageFilter, by)
		if err != nil {
			return nil, err
		}
		out := &answer{}
		return out, out.write(&in.Accept, s, func() ([]string, [][]string, error) { return s.Table(by) })
	})
	handle(a, "GET", "/v1/calls/{request_id}", "Get the audit of a call", func(op ledger.Operator, in *struct {
		RequestID string `path:"request_id"`
	}) (adminapi.Call, error) {
		c, err := l.CallRecord(op, in.RequestID)
		c.Error = exceptionNamed(c.Error, l.Settings())
		return c, err
	})
	handle(a, "GET", "/v1/clock", "Read the ledger clock", func(op ledger.Operator, _ *struct{}) (adminapi.Clock, error) {
		return l.Clock(op)
	})
	handle(a, "PUT", "/v1/clock", "Move, stop or start the ledger clock of a sandbox", func(op ledger.Operator, in *input[adminapi.ClockChange]) (adminapi.Clock, error) {
		return l.ChangeClock(op, in.Body)
	})
	handle(a, "POST", "/v1/clock/accept", "Say that the clock of a production ledger is right", func(op ledger.Operator, _ *struct{}) (adminapi.Clock, error) {
		return l.AcceptClock(op)
	})
}

// Accept is what a client wants of an answer that can be JSON or CSV.
type Accept struct {
	csv bool
	url url.URL
}

// Resolve reads the Accept header.
func (in *Accept) Resolve(ctx huma.Context) []error {
	in.url = ctx.URL()
	for _, part := range strings.Split(ctx.Header("Accept"), ",") {
		media, _, _ := mime.ParseMediaType(part)
		if media == "text/csv" {
			in.csv = true
		}
		if media == "application/json" {
			break // the first of the two
		}
	}
	return nil
}

// answer is JSON or CSV.
type answer struct {
	ContentType string `header:"Content-Type"`
	Link        string `header:"Link" doc:"the next page, RFC 8288"`
	Body        []byte
}

// write makes the answer of v or, if the caller asks for CSV, of v's table.
func (out *answer) write(in *Accept, v any, tabulate func() (header []string, rows [][]string, err error)) error {
	var b bytes.Buffer
	if in.csv {
		out.ContentType = "text/csv; charset=utf-8"
		header, rows, err := tabulate()
		if err == nil {
			err = table.CSV(&b, header, rows)
		}
		if err != nil {
			return err
		}
	} else {
		out.ContentType = "application/json"
		if err := json.NewEncoder(&b).Encode(v); err != nil {
			return err
		}
	}
	out.Body = b.Bytes()
	return nil
}

// handleTable adds an operation that answers in JSON or CSV.
func handleTable[I any](a *admin, path, summary string, shape reflect.Type, f func(ledger.Operator, *I) (*answer, error)) {
	operation := describe("GET", path, summary)
	operation.Responses = map[string]*huma.Response{"200": {Description: "OK", Content: map[string]*huma.MediaType{
		"application/json": {Schema: a.api.OpenAPI().Components.Schemas.Schema(shape, true, "")},
		"text/csv":         {Schema: &huma.Schema{Type: "string"}},
	}}}
	huma.Register(a.api, operation, func(ctx context.Context, in *I) (*answer, error) {
		out, err := f(ctx.Value(operatorKey{}).(ledger.Operator), in)
		if err != nil {
			return nil, a.problem(http.MethodGet, err)
		}
		return out, nil
	})
}
