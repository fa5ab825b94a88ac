package adminapi

import (
	"context"
	"net/http"
	"reflect"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// Served is a verb with the act that it asks for, to be done for an Op, an operator.
type Served[Op any] struct {
	Info
	mount func(Host[Op])
}

// Host is the server that verbs are added to.
type Host[Op any] struct {
	API      huma.API
	Operator func(context.Context) Op                              // who asks
	Refusal  func(method string, err error) huma.StatusError       // the answer to an act that failed
	Table    func(ctx huma.Context, method string, answer Tabular) // answers in JSON or CSV, as the client likes
}

// Tabular is an answer that is a table too.
type Tabular interface {
	// Table returns rows of text under a header.
	Table() (header []string, rows [][]string, err error)
}

// Bind makes an act what the verb asks for.
func Bind[Op, In, Out any](v Verb[In, Out], act func(context.Context, Op, In) (Out, error)) Served[Op] {
	return Served[Op]{v.Info, func(h Host[Op]) {
		do := func(ctx context.Context, in In) (Out, error) {
			out, err := act(ctx, h.Operator(ctx), in)
			if err != nil {
				return out, h.Refusal(v.Method, err)
			}
			return out, nil
		}
		operation := v.Operation()
		if !v.hasBody() {
			register(h, &v.Info, operation, func(ctx context.Context, in *In) (Out, error) { return do(ctx, *in) })
			return
		}
		operation.RequestBody = &huma.RequestBody{Required: !v.BodyOptional}
		schemas := h.API.OpenAPI().Components.Schemas
		for _, m := range v.members("path") {
			operation.Parameters = append(operation.Parameters, &huma.Param{Name: m.name, In: "path", Required: true,
				Description: m.field.Tag.Get("doc"), Schema: huma.SchemaFromField(schemas, m.field, "")})
		}
		register(h, &v.Info, operation, func(ctx context.Context, in *withBody[In]) (Out, error) { return do(ctx, *in.Body) })
	}}
}

// Serve adds the verb to a server.
func (s Served[Op]) Serve(h Host[Op]) { s.mount(h) }

// withBody is a request with a body. The library knows parameters beside a body, not among its members.
type withBody[In any] struct{ Body *In }

// Resolve reads the parameters in the path, which are texts.
func (in *withBody[In]) Resolve(ctx huma.Context) []error {
	if in.Body == nil {
		in.Body = new(In)
	}
	of := Info{in: reflect.TypeFor[In]()}
	for _, m := range of.members("path") {
		reflect.ValueOf(in.Body).Elem().FieldByIndex(m.field.Index).SetString(ctx.Param(m.name))
	}
	return nil
}

// register adds an operation of the library's for what is done with a request of type I.
func register[Op, I, Out any](h Host[Op], v *Info, operation huma.Operation, do func(context.Context, *I) (Out, error)) {
	var out Out
	switch any(out).(type) {
	case None:
		huma.Register(h.API, operation, func(ctx context.Context, in *I) (*struct{}, error) {
			_, err := do(ctx, in)
			return nil, err
		})
	case Tabular:
		schemas := h.API.OpenAPI().Components.Schemas
		operation.Responses = map[string]*huma.Response{"200": {Description: http.StatusText(http.StatusOK), Content: map[string]*huma.MediaType{
			"application/json": {Schema: schemas.Schema(reflect.TypeFor[Out](), true, "")},
			"text/csv":         {Schema: &huma.Schema{Type: huma.TypeString}},
		}}}
		huma.Register(h.API, operation, func(ctx context.Context, in *I) (*tabular, error) {
			out, err := do(ctx, in)
			if err != nil {
				return nil, err
			}
			return &tabular{Body: func(ctx huma.Context) { h.Table(ctx, v.Method, any(out).(Tabular)) }}, nil
		})
	default:
		huma.Register(h.API, operation, func(ctx context.Context, in *I) (*struct{ Body Out }, error) {
			out, err := do(ctx, in)
			if err != nil {
				return nil, err
			}
			return &struct{ Body Out }{out}, nil
		})
	}
}

// tabular is an answer in JSON or CSV.
type tabular struct {
	ContentType string `header:"Content-Type"`
	Link        string `header:"Link" doc:"the next page, RFC 8288"`
	Body        func(huma.Context)
}

// Operation describes the verb to the library that serves it. Its id is made of the method and the path.
func (v *Info) Operation() huma.Operation {
	id := strings.NewReplacer("/v1/", "-", "/", "-", "{", "", "}", "", "_", "-").Replace(v.Path)
	errors := []int{http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusConflict, http.StatusUnprocessableEntity,
		http.StatusInternalServerError, http.StatusServiceUnavailable}
	if v.Method == http.MethodPost || v.Method == http.MethodPut || v.Method == http.MethodPatch {
		errors = append(errors, http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType)
	}
	return huma.Operation{OperationID: strings.ToLower(v.Method) + id, Method: v.Method, Path: v.Path, Summary: v.Summary, DefaultStatus: v.Status, Errors: errors}
}
