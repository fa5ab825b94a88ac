package adminapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"go.yaml.in/yaml/v3"
)

// MaxYAML is the longest marketplace in YAML, in bytes. A YAML document is held in memory as a tree before it is
// read, many times its length; JSON is read item by item and has no such bound.
const MaxYAML = 32 << 20

// ReadJSON reads a marketplace in JSON, item by item. Unknown members are errors; errors name the place.
func ReadJSON(r io.Reader) (*Marketplace, error) {
	d := json.NewDecoder(r)
	d.DisallowUnknownFields()
	m := &Marketplace{}
	if err := delimiter(d, '{', "the marketplace"); err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, syntax(err)
		}
		name := t.(string) // the decoder takes nothing else for a member's name
		if seen[name] {
			return nil, fmt.Errorf("%s: appears twice; put all of it into one list", name)
		}
		seen[name] = true
		switch name {
		case "regions":
			err = items(d, name, &m.Regions)
		case "sellers":
			err = items(d, name, &m.Sellers)
		case "products":
			err = items(d, name, &m.Products)
		case "buyers":
			err = items(d, name, &m.Buyers)
		case "agreements":
			err = items(d, name, &m.Agreements)
		case "users":
			err = items(d, name, &m.Users)
		case "roles":
			err = items(d, name, &m.Roles)
		case "workloads":
			err = items(d, name, &m.Workloads)
		default:
			err = fmt.Errorf("unknown field %q; a marketplace has regions, sellers, products, buyers, agreements, users, roles and workloads", name)
		}
		if err != nil {
			return nil, err
		}
	}
	if err := delimiter(d, '}', "the marketplace"); err != nil {
		return nil, err
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("there is something behind the marketplace's closing brace; send one JSON object")
	}
	return m, nil
}

func items[T any](d *json.Decoder, name string, to *[]T) error {
	if err := delimiter(d, '[', name); err != nil {
		return err
	}
	for d.More() {
		var v T
		if err := d.Decode(&v); err != nil {
			return fmt.Errorf("%s[%d]: %w", name, len(*to), syntax(err))
		}
		*to = append(*to, v)
	}
	return delimiter(d, ']', name)
}

func delimiter(d *json.Decoder, want json.Delim, what string) error {
	t, err := d.Token()
	if err != nil {
		return fmt.Errorf("%s: %w", what, syntax(err))
	}
	if t != want {
		kind := map[json.Delim]string{'{': "an object", '[': "a list"}[want]
		return fmt.Errorf("%s: must be %s, not %v", what, kind, t)
	}
	return nil
}

// syntax words an error of the JSON decoder.
func syntax(err error) error {
	var wrongType *json.UnmarshalTypeError
	switch {
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("the JSON ends too early")
	case errors.As(err, &wrongType):
		return fmt.Errorf("%s: must be a %v, not a %s", wrongType.Field, wrongType.Type, wrongType.Value)
	}
	if text, ok := strings.CutPrefix(err.Error(), "json: "); ok {
		return errors.New(text)
	}
	return err
}

// ReadYAML reads a marketplace in YAML, of [MaxYAML] bytes at most. Unknown members are errors; errors name the line.
func ReadYAML(r io.Reader) (*Marketplace, error) {
	b, err := io.ReadAll(io.LimitReader(r, MaxYAML+1))
	if err != nil {
		return nil, err
	}
	if len(b) > MaxYAML {
		return nil, fmt.Errorf("the YAML is longer than %d MiB; write so large a marketplace as JSON", MaxYAML>>20)
	}
	d := yaml.NewDecoder(bytes.NewReader(b))
	d.KnownFields(true)
	m := &Marketplace{}
	if err := d.Decode(m); err != nil && !errors.Is(err, io.EOF) {
		return nil, errors.New(oneLine(strings.TrimPrefix(err.Error(), "yaml: ")))
	}
	if err := d.Decode(&struct{}{}); !errors.Is(err, io.EOF) {
		return nil, errors.New("there is a second YAML document; put everything into one")
	}
	return m, nil
}

// oneLine joins the lines of a YAML error.
func oneLine(s string) string {
	lines := strings.Split(s, "\n")
	for i := range lines {
		lines[i] = strings.TrimSpace(lines[i])
	}
	return strings.ReplaceAll(strings.Join(lines, " "), "type adminapi.", "a ")
}
