package server

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"mime"
	"net/http"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/meterd/meterd/internal/adminapi"
	"github.com/meterd/meterd/internal/ledger"
	"github.com/meterd/meterd/internal/market"
	"github.com/meterd/meterd/internal/table"
)

// AdminConfig is what the admin API needs.
type AdminConfig struct {
	Ledger *ledger.Ledger
	Log    *slog.Logger // slog.Default if nil
	Only   *Hosts       // hosts that are answered; any if nil

	Endpoint func() string // the AWS endpoint's URL, or "" if it is not known; nil if it never is
}

// admin serves the admin API.
type admin struct {
	AdminConfig
	api huma.API
}

// This is here because the library keeps these settings in package variables. The admin API is their only user in the
// program.
func init() {
	huma.NewError = func(status int, message string, details ...error) huma.StatusError {
		return newProblem(status, message, details...)
	}
	huma.DefaultArrayNullable = false
	huma.ValidateStrictCasing = true
}

// Admin returns the handler of the admin API. Everything under /v1/ needs a bearer token; the OpenAPI document at
// /openapi.json and /openapi.yaml is for everyone.
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
		OpenAPIPath: "/openapi", Formats: huma.DefaultFormats, DefaultFormat: "application/json",
	})
	a.api.UseMiddleware(a.refuseParameters)
	serve(a, market.Verbs(), func(ctx context.Context) market.Desk { return operator(ctx) })
	serve(a, cfg.Ledger.Verbs(), operator)
	serve(a, a.verbs(), operator)
	a.imports()
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

// serve adds verbs to the API; who finds the operator who asks in the request's context.
func serve[Op any](a *admin, verbs []adminapi.Served[Op], who func(context.Context) Op) {
	host := adminapi.Host[Op]{API: a.api, Operator: who, Table: a.table,
		Refusal: func(method string, err error) huma.StatusError { return a.problem(method, err) }}
	for _, v := range verbs {
		v.Serve(host)
	}
}

// verbs returns the ledger's verbs whose answers need what only this package knows.
func (a *admin) verbs() []ledger.Verb {
	return []ledger.Verb{
		adminapi.Bind(adminapi.CreateWorkloadCredentials, func(ctx context.Context, op ledger.Operator, in adminapi.WorkloadRequest) (adminapi.WorkloadCredentials, error) {
			out, err := a.Ledger.CreateWorkloadCredentials(ctx, op, in)
			if a.Endpoint != nil {
				out.Endpoint = a.Endpoint()
			}
			return out, err
		}),
		adminapi.Bind(adminapi.GetCall, func(ctx context.Context, op ledger.Operator, in adminapi.CallPath) (adminapi.Call, error) {
			call, err := a.Ledger.CallRecord(ctx, op, in.RequestID)
			call.Error = exceptionNamed(call.Error, a.Ledger.Settings())
			return call, err
		}),
	}
}

type operatorKey struct{}

// operator returns the operator that authenticate has found.
func operator(ctx context.Context) ledger.Operator { return ctx.Value(operatorKey{}).(ledger.Operator) }

// authenticate refuses requests without a valid token, whatever their path, except those for the OpenAPI document.
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
			newProblem(http.StatusUnauthorized, err.Message).write(w)
			return
		}
		connOf(r).prove()
		w.Header().Set("Cache-Control", "no-store") // answers may hold secrets
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), operatorKey{}, op)))
	})
}

// refuseParameters refuses query parameters that the operation does not have, and those that are given twice, because
// all but the first would be ignored.
func (a *admin) refuseParameters(ctx huma.Context, next func(huma.Context)) {
	u := ctx.URL()
	query := u.Query()
	var unknown []error
	for _, name := range slices.Sorted(maps.Keys(query)) {
		if n := len(query[name]); n > 1 && name != "by" {
			_, w := humago.Unwrap(ctx)
			newProblem(http.StatusUnprocessableEntity, fmt.Sprintf("%.80s: is given %d times: give it once", name, n)).write(w)
			return
		}
		if !slices.ContainsFunc(ctx.Operation().Parameters, func(p *huma.Param) bool { return p.In == "query" && p.Name == name }) {
			unknown = append(unknown, &huma.ErrorDetail{Location: "query." + name, Message: "unknown query parameter"})
		}
	}
	if len(unknown) > 0 {
		_ = huma.WriteErr(a.api, ctx, http.StatusUnprocessableEntity, "validation failed", unknown...) // the client may be gone
		return
	}
	next(ctx)
}

// table answers in JSON or, if the client asks for it, in CSV.
func (a *admin) table(ctx huma.Context, method string, answer adminapi.Tabular) {
	var b bytes.Buffer
	contentType := "application/json"
	var err error
	if wantsCSV(ctx.Header("Accept")) {
		contentType = "text/csv; charset=utf-8"
		var header []string
		var rows [][]string
		if header, rows, err = answer.Table(); err == nil {
			err = table.CSV(&b, header, rows)
		}
	} else {
		err = json.NewEncoder(&b).Encode(answer)
	}
	if err != nil {
		_, w := humago.Unwrap(ctx)
		a.problem(method, err).write(w)
		return
	}
	ctx.SetHeader("Content-Type", contentType)
	if page, is := answer.(adminapi.UsagePage); is && page.Next != "" {
		next := ctx.URL()
		query := next.Query()
		query.Set("after", page.Next)
		next.RawQuery = query.Encode()
		ctx.SetHeader("Link", "<"+next.RequestURI()+`>; rel="next"`)
	}
	ctx.SetStatus(http.StatusOK)
	_, _ = ctx.BodyWriter().Write(b.Bytes()) // the client may be gone
}

// wantsCSV reports whether the Accept header names CSV before JSON.
func wantsCSV(accept string) bool {
	for part := range strings.SplitSeq(accept, ",") {
		switch media, _, _ := mime.ParseMediaType(part); media {
		case "text/csv":
			return true
		case "application/json":
			return false
		}
	}
	return false
}
