package iam

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// The bounds of documents. The bound of characters is AWS's for a role; white space
// between values does not count ("IAM and AWS STS quotas", IAM User Guide).
const (
	maxDocumentCharacters = 10_240
	maxDocumentBytes      = 64 << 10
	maxDocumentDepth      = 8
)

// node is a value in a document, with its place there.
type node struct {
	at      string // such as Statement[1].Condition; empty for the document itself
	kind    byte   // '{', '[', '"', '0' for a number, 't' for true and false, 'n' for null
	text    string // the text of a string, a number, true or false
	members []member
	items   []*node
}

type member struct {
	name  string
	value *node
}

// CompactDocument returns a document without the white space between its values. A
// document that is not JSON is returned as it is.
func CompactDocument(document string) string {
	var compact bytes.Buffer
	if json.Compact(&compact, []byte(document)) != nil {
		return document
	}
	return compact.String()
}

// readDocument reads a JSON document. It fails if the document exceeds the bounds, or
// names a member of an object twice.
func readDocument(document string) (*node, error) {
	switch {
	case len(document) > maxDocumentBytes:
		return nil, fmt.Errorf("the document has %d bytes, but at most %d are read: shorten it", len(document), maxDocumentBytes)
	case !utf8.ValidString(document):
		return nil, errors.New("the document is not UTF-8: save it in that encoding")
	}
	var raw json.RawMessage
	if err := json.Unmarshal([]byte(document), &raw); err != nil {
		if syntax := new(json.SyntaxError); errors.As(err, &syntax) {
			before := document[:min(int(syntax.Offset), len(document))]
			return nil, fmt.Errorf("the document is not JSON, line %d: %v", strings.Count(before, "\n")+1, err)
		}
		return nil, fmt.Errorf("the document is not JSON: %v", err)
	}
	if n := utf8.RuneCountInString(CompactDocument(document)); n > maxDocumentCharacters {
		return nil, fmt.Errorf("the document has %d characters, white space not counted, but at most %d are allowed: shorten it, with wildcards or fewer statements", n, maxDocumentCharacters)
	}
	d := json.NewDecoder(strings.NewReader(document))
	d.UseNumber()
	return readNode(d, "", 0)
}

// readNode reads the next value of a text that is known to be JSON.
func readNode(d *json.Decoder, at string, depth int) (*node, error) {
	token, err := d.Token()
	n := &node{at: at, kind: 'n'}
	if err != nil {
		return nil, n.errorf("%v", err)
	}
	switch t := token.(type) {
	case string:
		n.kind, n.text = '"', t
	case json.Number:
		n.kind, n.text = '0', t.String()
	case bool:
		n.kind, n.text = 't', strconv.FormatBool(t)
	case json.Delim:
		n.kind = byte(t)
		if depth == maxDocumentDepth {
			return nil, n.errorf("is nested too deeply: no element has so many levels")
		}
		if err := n.fill(d, depth+1); err != nil {
			return nil, err
		}
	}
	return n, nil
}

// fill reads the members of an object, or the items of a list, and its end.
func (n *node) fill(d *json.Decoder, depth int) error {
	names := map[string]bool{}
	for d.More() {
		at, name := fmt.Sprintf("%s[%d]", n.at, len(n.items)), ""
		if n.kind == '{' {
			token, err := d.Token()
			if err != nil {
				return n.errorf("%v", err)
			}
			name, _ = token.(string)
			at = strings.TrimPrefix(n.at+"."+clip(name), ".")
			if names[name] {
				return fmt.Errorf("%s: is there twice: keep one of them", at)
			}
			names[name] = true
		}
		value, err := readNode(d, at, depth)
		if err != nil {
			return err
		}
		if n.kind == '{' {
			n.members = append(n.members, member{name, value})
		} else {
			n.items = append(n.items, value)
		}
	}
	_, err := d.Token()
	return err
}

// errorf returns an error that names the place of the value.
func (n *node) errorf(format string, args ...any) error {
	at := n.at
	if at == "" {
		at = "document"
	}
	return fmt.Errorf("%s: %w", at, fmt.Errorf(format, args...))
}

func (n *node) String() string {
	switch n.kind {
	case '{':
		return "an object"
	case '[':
		return "a list"
	case '"':
		return strconv.Quote(clip(n.text))
	case 'n':
		return "null"
	}
	return clip(n.text)
}

// object returns the members of an object, which must have at least one.
func (n *node) object() ([]member, error) {
	switch {
	case n.kind != '{':
		return nil, n.errorf("must be an object, not %v", n)
	case len(n.members) == 0:
		return nil, n.errorf("is empty: leave it out, or write what belongs into it")
	}
	return n.members, nil
}

// elements returns the members of an object by their names, which must be among those
// allowed. For names that are refused, instead has what to write in their place.
func (n *node) elements(allowed []string, instead map[string]string) (map[string]*node, error) {
	members, err := n.object()
	if err != nil {
		return nil, err
	}
	all := map[string]*node{}
	for _, m := range members {
		if !slices.Contains(allowed, m.name) {
			why := "is no element that this service knows here; it knows " + strings.Join(allowed, ", ")
			for _, name := range allowed {
				if strings.EqualFold(name, m.name) {
					why = "is no element, for their names have their case: write " + name
				}
			}
			if special := instead[m.name]; special != "" {
				why = special
			}
			return nil, m.value.errorf("%s", why)
		}
		all[m.name] = m.value
	}
	return all, nil
}

// list returns the items of a list, which must have at least one. A value that is not a
// list is returned as the only item.
func (n *node) list() ([]*node, error) {
	switch {
	case n.kind != '[':
		return []*node{n}, nil
	case len(n.items) == 0:
		return nil, n.errorf("is an empty list: leave the element out, or write what belongs into it")
	}
	return n.items, nil
}

// scalars returns a string, or the items of a list of strings, which must have at least
// one. also is another kind of scalar that is allowed too, or 0; any allows numbers,
// true and false.
func (n *node) scalars(also byte, any bool) ([]*node, error) {
	items, err := n.list()
	if err != nil {
		return nil, err
	}
	for _, item := range items {
		if item.kind == '"' || item.kind == also && also != 0 || any && (item.kind == '0' || item.kind == 't') {
			continue
		}
		return nil, item.errorf("must be a string, not %v", item)
	}
	return items, nil
}

// stringIn returns a string, which must be one of those given.
func (n *node) stringIn(allowed ...string) (string, error) {
	if n.kind != '"' || !slices.Contains(allowed, n.text) {
		return "", n.errorf("must be %s, not %v", quoted(allowed), n)
	}
	return n.text, nil
}
