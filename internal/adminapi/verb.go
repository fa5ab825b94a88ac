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

// Verb is one thing that can be asked of the admin API. What it takes is an In: members with a path tag are in the path,
// those with a query tag in the query, and those with a json tag are the body. What it answers is an Out, as JSON.
//
// A verb is declared once, beside its shapes, with [verb]. The server serves it when an act is bound to it by [Bind]; the
// client asks with Do; OpenAPI and the help of meterd admin have its summary.
type Verb[In, Out any] struct{ Info }

// Info is what there is to know of a verb.
type Info struct {
	Method  string
	Path    string // such as /v1/regions/{name}
	Status  int    // the HTTP status of success
	Summary string // one line, without a full stop

	BodyOptional bool // a request without a body is one with an empty object

	in, out reflect.Type
}

// None is what a verb takes that needs nothing, and what one answers that has nothing to say.
type None struct{}

// declared has the verbs, for Verbs.
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

// bodyOptional lets the body be left out.
func bodyOptional(v *Info) { v.BodyOptional = true }

// Name returns the method and the path, such as "GET /v1/sellers/{account_id}".
func (v *Info) Name() string { return v.Method + " " + v.Path }

// member is a member of what a verb takes.
type member struct {
	name  string
	field reflect.StructField // whose index is from the whole, also where it is embedded
}

// members returns the members of what the verb takes that have the tag: path, query or json.
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

// Do asks the service. The error is a [*Problem] when the service refuses, and another one when it cannot be reached.
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

// escaped makes a segment of a path of a text, which may have any character.
func escaped(s string) string {
	if strings.Trim(s, ".") == "" { // "." and ".." would be taken for steps along the path
		return strings.ReplaceAll(s, ".", "%2E")
	}
	return url.PathEscape(s)
}

// text is a parameter as it stands in a path or query.
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

// Paged is what a list takes: it has a [Paging].
type Paged[In any] interface {
	*In
	Asked() *Paging
}

// Asked returns the page that is asked for.
func (p *Paging) Asked() *Paging { return p }

// All asks for a list page by page, from the first one to the last.
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
