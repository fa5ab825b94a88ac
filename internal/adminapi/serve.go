package adminapi

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

// Served is a verb together with the act that it asks for, which is done for an Op, an operator.
type Served[Op any] struct {
	Info
	act func(ctx context.Context, op Op, in any) (out any, err error) // in is a pointer to what the verb takes
}

// Host is the server that verbs are added to.
type Host[Op any] struct {
	API      huma.API                                              // the library's API; it must itself refuse query parameters that an operation does not have
	Operator func(context.Context) Op                              // returns the operator who asks
	Refusal  func(method string, err error) huma.StatusError       // the answer to an act that failed
	Table    func(ctx huma.Context, method string, answer Tabular) // answers in JSON or CSV, as the client likes
}

// Tabular is an answer that can be shown as a table too.
type Tabular interface {
	// Table returns rows of text under a header.
	Table() (header []string, rows [][]string, err error)
}

// Bind joins a verb to the act that it asks for.
func Bind[Op, In, Out any](v Verb[In, Out], act func(context.Context, Op, In) (Out, error)) Served[Op] {
	return Served[Op]{v.Info, func(ctx context.Context, op Op, in any) (any, error) { return act(ctx, op, *in.(*In)) }}
}

// Serve adds the verb to a server.
func (s Served[Op]) Serve(h Host[Op]) {
	v := &serving{Info: s.Info, api: h.API, refusal: h.Refusal, table: h.Table}
	v.act = func(ctx context.Context, in any) (any, error) { return s.act(ctx, h.Operator(ctx), in) }
	v.register()
}

// serving is a verb on a server. It goes by the reflection of the verb's types, because the library's Register is
// some sixty functions that are compiled anew for each pair of types. In this way two pairs serve all verbs.
type serving struct {
	Info
	api        huma.API
	parameters []parameter
	act        func(ctx context.Context, in any) (out any, err error)
	refusal    func(method string, err error) huma.StatusError
	table      func(ctx huma.Context, method string, answer Tabular)
}

// parameter is a member of the verb's input that is in the path or the query.
type parameter struct {
	member
	in      string // path or query
	explode bool   // a list is repeated, rather than separated by commas
	schema  *huma.Schema
}

// request is a request without a body, as the library passes it.
type request struct{ context huma.Context }

// Resolve keeps the request.
func (r *request) Resolve(ctx huma.Context) []error {
	r.context = ctx
	return nil
}

// withBody is a request with a body, which the library has checked by its schema. The body is nil if it was left out.
type withBody struct {
	request
	Body *json.RawMessage
}

// answer is the answer to a request. Its Body writes all of the answer.
type answer struct{ Body func(huma.Context) }

// register adds the verb to the API and its document.
func (v *serving) register() {
	schemas := v.api.OpenAPI().Components.Schemas
	operation := v.Operation()
	for _, in := range []string{"path", "query"} {
		for _, m := range v.members(in) {
			p := parameter{m, in, strings.Contains(m.field.Tag.Get(in), ",explode"), huma.SchemaFromField(schemas, m.field, "")}
			documented := &huma.Param{Name: m.name, In: in, Required: in == "path", Description: p.schema.Description, Schema: p.schema}
			if in == "query" {
				documented.Explode = &p.explode
			}
			v.parameters, operation.Parameters = append(v.parameters, p), append(operation.Parameters, documented)
		}
	}
	success := &huma.Response{Description: http.StatusText(v.Status)}
	if v.out != reflect.TypeFor[None]() {
		success.Content = map[string]*huma.MediaType{string(JSON): {Schema: schemas.Schema(v.out, true, "")}}
	}
	if v.out.Implements(reflect.TypeFor[Tabular]()) {
		success.Content["text/csv"] = &huma.MediaType{Schema: &huma.Schema{Type: huma.TypeString}}
		success.Headers = map[string]*huma.Param{"Content-Type": {Schema: &huma.Schema{Type: huma.TypeString}},
			"Link": {Schema: &huma.Schema{Type: huma.TypeString, Description: "the next page, RFC 8288"}}}
	}
	operation.Responses = map[string]*huma.Response{strconv.Itoa(v.Status): success}
	if !v.hasBody() {
		huma.Register(v.api, operation, func(ctx context.Context, r *request) (*answer, error) { return v.answer(ctx, r, nil) })
		return
	}
	operation.RequestBody = &huma.RequestBody{Required: !v.BodyOptional,
		Content: map[string]*huma.MediaType{string(JSON): {Schema: schemas.Schema(v.in, true, "")}}}
	huma.Register(v.api, operation, func(ctx context.Context, r *withBody) (*answer, error) { return v.answer(ctx, &r.request, r.Body) })
}

// answer does what a request asks for.
func (v *serving) answer(ctx context.Context, r *request, body *json.RawMessage) (*answer, error) {
	in := reflect.New(v.in)
	if faults := v.read(r.context, body, in); len(faults) > 0 {
		return nil, huma.Error422UnprocessableEntity("validation failed", faults...)
	}
	out, err := v.act(ctx, in.Interface())
	if err != nil {
		return nil, v.refusal(v.Method, err)
	}
	switch out := out.(type) {
	case None:
		return &answer{func(ctx huma.Context) { ctx.SetStatus(v.Status) }}, nil
	case Tabular:
		return &answer{func(ctx huma.Context) { v.table(ctx, v.Method, out) }}, nil
	}
	var b bytes.Buffer
	form, err := v.api.Negotiate(r.context.Header("Accept"))
	if err == nil {
		err = v.api.Marshal(&b, form, out)
	}
	if err != nil {
		return nil, v.refusal(v.Method, err)
	}
	return &answer{func(ctx huma.Context) {
		ctx.SetHeader("Content-Type", form)
		ctx.SetStatus(v.Status)
		_, _ = ctx.BodyWriter().Write(b.Bytes()) // the client may be gone
	}}, nil
}

// read reads the verb's input from a request, and returns what is wrong with it.
func (v *serving) read(ctx huma.Context, body *json.RawMessage, in reflect.Value) []error {
	faults := &huma.ValidateResult{}
	at := huma.NewPathBuffer(nil, 0)
	if body != nil {
		if err := json.Unmarshal(*body, in.Interface()); err != nil {
			at.Push("body")
			faults.Add(at, string(*body), err.Error())
		}
	}
	for _, p := range v.parameters {
		given := ctx.Param(p.name)
		if p.in == "query" {
			given = ctx.Query(p.name)
		}
		if given = cmp.Or(given, p.field.Tag.Get("default")); given == "" {
			continue
		}
		at.Reset()
		at.Push(p.in)
		at.Push(p.name)
		value, err := p.read(ctx, given, in.Elem().FieldByIndex(p.field.Index))
		if err != nil {
			faults.Add(at, given, err.Error())
			continue
		}
		huma.Validate(v.api.OpenAPI().Components.Schemas, p.schema, at, huma.ModeWriteToServer, value, faults)
	}
	return faults.Errors
}

// read reads a parameter into its member, and returns the value in the form that the schema validates. It is the
// inverse of [text].
func (p *parameter) read(ctx huma.Context, given string, into reflect.Value) (any, error) {
	switch member := into.Addr().Interface().(type) {
	case *time.Time:
		t, err := time.Parse(time.RFC3339Nano, given)
		if err != nil {
			return nil, errors.New("invalid date/time for format " + time.RFC3339Nano)
		}
		*member = t
		return given, nil
	case *[]string:
		if *member = strings.Split(given, ","); p.explode {
			u := ctx.URL()
			*member = u.Query()[p.name]
		}
		return *member, nil
	}
	if into.CanInt() {
		n, err := strconv.ParseInt(given, 10, into.Type().Bits())
		if err != nil {
			return nil, errors.New("invalid integer")
		}
		into.SetInt(n)
		return n, nil
	}
	if into.Kind() == reflect.Bool {
		is, err := strconv.ParseBool(given)
		if err != nil {
			return nil, errors.New("invalid boolean")
		}
		into.SetBool(is)
		return is, nil
	}
	into.SetString(given)
	return given, nil
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
