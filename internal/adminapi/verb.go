package adminapi

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Verb is one thing that can be asked of the admin API. A request is an In: its members with a path tag are in the path,
// those with a query tag in the query, and those with a json tag are the body. The answer is an Out, as JSON.
//
// A verb is declared once, beside its shapes, with [verb]. The server serves the verb when an act is bound to it by
// [Bind]. The client calls Do. OpenAPI and the help of meterd admin show the verb's summary.
type Verb[In, Out any] struct{ Info }

// Info describes a verb.
type Info struct {
	Method  string
	Path    string // such as /v1/regions/{name}
	Status  int    // the HTTP status of success
	Summary string // one line, without a full stop

	BodyOptional bool // a request without a body is taken for one with an empty object

	in, out reflect.Type
}

// None is the In of a verb that takes nothing, and the Out of a verb that answers nothing.
type None struct{}

// declared holds all verbs, for [Verbs].
var declared []Info

// Verbs returns all verbs, in the order of their paths and methods.
func Verbs() []Info {
	return slices.SortedFunc(slices.Values(declared), func(a, b Info) int { return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Method, b.Method)) })
}

// verb declares a verb.
func verb[In, Out any](method, path string, status int, summary string, options ...func(*Info)) Verb[In, Out] {
	v := Verb[In, Out]{Info{Method: method, Path: path, Status: status, Summary: summary, in: reflect.TypeFor[In](), out: reflect.TypeFor[Out]()}}
	for _, option := range options {
		option(&v.Info)
	}
	declared = append(declared, v.Info)
	return v
}

// bodyOptional is the option of a verb whose body may be left out.
func bodyOptional(v *Info) { v.BodyOptional = true }

// Name returns the method and the path, such as "GET /v1/sellers/{account_id}".
func (v *Info) Name() string { return v.Method + " " + v.Path }

// member is a member of a verb's In.
type member struct {
	name  string
	field reflect.StructField // its index is from the whole In, also if the field is embedded
}

// members returns the members of the verb's In that have the tag: path, query or json.
func (v *Info) members(tag string) (found []member) {
	if v.in.Kind() != reflect.Struct {
		return nil
	}
	for _, f := range reflect.VisibleFields(v.in) {
		if name, _, _ := strings.Cut(f.Tag.Get(tag), ","); name != "" && name != "-" {
			found = append(found, member{name, f})
		}
	}
	return found
}

// hasBody reports whether the verb takes a body.
func (v *Info) hasBody() bool { return len(v.members("json")) > 0 }

// Do sends the request in to the service. The error is a [*Problem] if the service refuses the request, and another
// error if the service cannot be reached.
func (v Verb[In, Out]) Do(ctx context.Context, c *Client, in In) (out Out, err error) {
	from := reflect.ValueOf(in)
	path := v.Path
	for _, m := range v.members("path") {
		path = strings.Replace(path, "{"+m.name+"}", escaped(text(from.FieldByIndex(m.field.Index))), 1)
	}
	query := url.Values{}
	for _, m := range v.members("query") {
		if value := from.FieldByIndex(m.field.Index); !value.IsZero() {
			query.Set(m.name, text(value))
		}
	}
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	var contentType string
	var body io.Reader
	if file, is := any(in).(File); is {
		contentType, body = string(file.Form), file.Content
	} else if v.hasBody() {
		b, err := json.Marshal(in)
		if err != nil {
			return out, err
		}
		contentType, body = string(JSON), bytes.NewReader(b)
	}
	var into any = &out
	if v.Status == http.StatusNoContent {
		into = nil
	}
	return out, c.do(ctx, v.Method, path, contentType, body, into)
}

// escaped returns a text, which may have any character, as a segment of a path.
func escaped(s string) string {
	if strings.Trim(s, ".") == "" { // "." and ".." would be taken for steps along the path
		return strings.ReplaceAll(s, ".", "%2E")
	}
	return url.PathEscape(s)
}

// text returns a parameter as it stands in a path or query.
func text(v reflect.Value) string {
	switch v := v.Interface().(type) {
	case time.Time:
		return v.Format(time.RFC3339Nano)
	case []string:
		return strings.Join(v, ",")
	}
	if v.Kind() == reflect.Bool {
		return strconv.FormatBool(v.Bool())
	}
	if v.CanInt() {
		return strconv.FormatInt(v.Int(), 10)
	}
	return v.String()
}

// Paged is the In of a list: it has a [Paging].
type Paged[In any] interface {
	*In
	Asked() *Paging
}

// Asked returns the page that a request asks for.
func (p *Paging) Asked() *Paging { return p }

// All asks for a list page by page and returns all pages as one.
func All[In, T any, P Paged[In]](ctx context.Context, c *Client, list Verb[In, Page[T]], in In) (Page[T], error) {
	all := Page[T]{Items: []T{}}
	page := P(&in).Asked()
	page.Limit = 1000
	for {
		p, err := list.Do(ctx, c, in)
		if err != nil {
			return all, err
		}
		all.Items = append(all.Items, p.Items...)
		if page.After = p.Next; p.Next == "" {
			return all, nil
		}
	}
}
