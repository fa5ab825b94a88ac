package adminapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// MaxYAML is the longest marketplace in YAML, in bytes. A YAML document is held in memory as a tree before it is
// read, many times its length; JSON is read value by value and has no such bound.
const MaxYAML = 8 << 20

// maxSwelling is how many bytes of items a byte of JSON may stand for. In a marketplace that could be imported the
// smallest item, {"product_code":"p"} of a buyer's agreements, has 6; an empty one would have 40, and a file of nothing
// but those would take a hundred times its length before anything could be found wrong with it. freeSwelling is how
// many bytes of items are always read, so that a file that is short is told all that is wrong with it.
const (
	maxSwelling  = 8
	freeSwelling = 1 << 20
)

// Form is how a marketplace file is written. Its value is the media type.
type Form string

// The forms of a marketplace file.
const (
	JSON Form = "application/json"
	YAML Form = "application/yaml"
)

// Read reads a marketplace file in the given form: JSON value by value, YAML of [MaxYAML] bytes at most. An error that is
// [Faults] says all that is wrong with the file; the marketplace is nil if the file could not be read to its end, else
// it has what could be understood.
func Read(form Form, r io.Reader) (*Marketplace, error) { return read(form, r, nil) }

// Locate reads a file again, to fill in the lines of the faults that were found in its marketplace, and sorts the
// faults by them. A value that the file leaves out has the line of what it is missing in.
func Locate(form Form, r io.Reader, faults Faults) {
	wanted := map[string][]*Fault{}
	for i := range faults {
		for place := faults[i].Place; place != "" && faults[i].Line == 0; place = place[:max(0, strings.LastIndexAny(place, ".["))] {
			wanted[place] = append(wanted[place], &faults[i])
		}
	}
	_, _ = read(form, r, wanted) // what is wrong with the file was told when it was read first
	faults.Sort()
}

func read(form Form, r io.Reader, wanted map[string][]*Fault) (*Marketplace, error) {
	m := &Marketplace{}
	in := reading{wanted: wanted, members: map[reflect.Type][]string{}}
	var err error
	if form == JSON {
		lines := &lineReader{r: r}
		d := &jsonReader{reading: &in, d: json.NewDecoder(lines), lines: lines}
		d.d.UseNumber()
		err = d.document(reflect.ValueOf(m).Elem())
	} else {
		y := &yamlReader{reading: &in}
		err = y.document(r, reflect.ValueOf(m).Elem())
	}
	switch {
	case errors.Is(err, errStop):
		return nil, in.faults
	case err != nil:
		return nil, err
	case len(in.faults) > 0:
		return m, in.faults
	}
	return m, nil
}

// Gives reports whether the marketplace has a value in the place, such as buyers[17].agreements[0].product_code: no empty
// text, nothing that was left out.
func (m *Marketplace) Gives(place string) bool {
	v := reflect.ValueOf(m).Elem()
	for _, step := range strings.FieldsFunc(place, func(c rune) bool { return c == '.' || c == '[' || c == ']' }) {
		if v.Kind() == reflect.Slice {
			i, err := strconv.Atoi(step)
			if err != nil || i >= v.Len() {
				return false
			}
			v = v.Index(i)
			continue
		}
		if v.Kind() != reflect.Struct {
			return false
		}
		at := slices.Index(membersOf(v.Type()), step)
		if at < 0 {
			return false
		}
		v = v.Field(at)
	}
	return !v.IsZero()
}

// errStop ends a reading whose faults are enough, or do not let it go on.
var errStop = errors.New("the rest of the file is not read")

// reading is what the two forms share: where in the marketplace it is, and what was found wrong.
type reading struct {
	faults  Faults
	path    []segment
	wanted  map[string][]*Fault       // :: place → faults whose lines are looked for
	members map[reflect.Type][]string // :: shape → names of its members, in the order of its fields
}

// segment is a step into a value: to a member, or to an item of a list if name is empty.
type segment struct {
	name  string
	index int
}

func (r *reading) enter(name string, index int) { r.path = append(r.path, segment{name, index}) }
func (r *reading) leave()                       { r.path = r.path[:len(r.path)-1] }

// place names the value that is being read.
func (r *reading) place() string {
	var b []byte
	for i, s := range r.path {
		switch {
		case s.name == "":
			b = append(strconv.AppendInt(append(b, '['), int64(s.index), 10), ']')
		case i > 0:
			b = append(append(b, '.'), s.name...)
		default:
			b = append(b, s.name...)
		}
	}
	return string(b)
}

// found takes note of the line of the value that is being read.
func (r *reading) found(line int) {
	if r.wanted == nil {
		return
	}
	for _, f := range r.wanted[r.place()] {
		f.Line = line
	}
}

// fault takes note of something wrong with the value that is being read. Its error is that there are too many.
func (r *reading) fault(line int, format string, args ...any) error {
	r.faults = append(r.faults, Fault{Line: line, Place: r.place(), Detail: fmt.Sprintf(format, args...)})
	if len(r.faults) >= MaxFaults {
		return errStop
	}
	return nil
}

// stop is fault for what does not let the reading go on.
func (r *reading) stop(line int, format string, args ...any) error {
	_ = r.fault(line, format, args...)
	return errStop
}

// member returns the index of the field that has the name, or notes the fault and returns -1. seen has the lines of
// the fields that were there before, and gets this one's.
func (r *reading) member(line int, name string, t reflect.Type, seen []int) (int, error) {
	names := r.members[t]
	if names == nil {
		names = membersOf(t)
		r.members[t] = names
	}
	for i := range names {
		if names[i] != name {
			continue
		}
		if seen[i] != 0 {
			return -1, r.fault(line, "%s is given twice, first on line %d: leave one of them out", name, seen[i])
		}
		seen[i] = line
		return i, nil
	}
	return -1, r.fault(line, "there is no member %.80q here: the members are %s", name, strings.Join(names, ", "))
}

// membersOf returns the names of a shape's members, in the order of its fields.
func membersOf(t reflect.Type) (names []string) {
	for i := range t.NumField() {
		field, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		names = append(names, field)
	}
	return names
}

var (
	typeOfTime = reflect.TypeFor[time.Time]()
	zeroTime   = "2026-11-23T14:00:00Z"
)

// kindOf words what a value of the type must be.
func kindOf(t reflect.Type) string {
	switch {
	case t == typeOfTime:
		return "a time such as " + zeroTime
	case t.Kind() == reflect.Struct:
		return "an object with members"
	case t.Kind() == reflect.Slice:
		return "a list"
	case t.Kind() == reflect.Bool:
		return "true or false"
	case t.Kind() == reflect.Int32:
		return "a whole number"
	}
	return "a text"
}

// jsonReader reads JSON token by token.
type jsonReader struct {
	*reading
	d     *json.Decoder
	lines *lineReader
	items int64 // bytes that the items of lists take in memory
}

func (r *jsonReader) document(v reflect.Value) error {
	t, err := r.token()
	if err != nil {
		return err
	}
	if err := r.value(t, v, false); err != nil {
		return err
	}
	switch _, err := r.d.Token(); {
	case err == nil || isSyntax(err) || errors.Is(err, io.ErrUnexpectedEOF):
		return r.stop(r.next(), "there is something behind the marketplace's closing brace: send one JSON object")
	case err != io.EOF:
		return err
	}
	return nil
}

// token returns the next token, and stops at what is not JSON.
func (r *jsonReader) token() (json.Token, error) {
	t, err := r.d.Token()
	switch {
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		err = r.stop(r.next(), "the JSON ends too early: a bracket or brace is not closed")
	case err != nil && isSyntax(err):
		err = r.stop(r.next(), "this is not JSON: %v", err)
	}
	return t, err
}

func isSyntax(err error) bool {
	var bad *json.SyntaxError
	return errors.As(err, &bad)
}

// line is where the last token ends; no token has a line break in it.
func (r *jsonReader) line() int { return r.lines.at(r.d.InputOffset()) }

// next is the line of what follows the last token.
func (r *jsonReader) next() int {
	offset := r.d.InputOffset()
	rest, _ := io.ReadAll(r.d.Buffered())
	return r.lines.at(offset + int64(len(rest)-len(bytes.TrimLeft(rest, " \t\r\n,:"))))
}

// value reads the value that begins with the token.
func (r *jsonReader) value(t json.Token, v reflect.Value, item bool) error {
	line := r.line()
	r.found(line)
	if t == nil {
		if item {
			return r.fault(line, "is null: write the item, or leave it out")
		}
		return nil // as if it were left out
	}
	if v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		v = v.Elem()
	}
	switch t := t.(type) {
	case string:
		switch {
		case v.Kind() == reflect.String:
			v.SetString(t)
			return nil
		case v.Type() == typeOfTime && v.Addr().Interface().(*time.Time).UnmarshalText([]byte(t)) == nil:
			return nil
		}
		return r.fault(line, "must be %s, not %.80q", kindOf(v.Type()), t)
	case bool:
		if v.Kind() == reflect.Bool {
			v.SetBool(t)
			return nil
		}
	case json.Number:
		if v.Kind() == reflect.Int32 {
			if n, err := strconv.ParseInt(string(t), 10, 32); err == nil {
				v.SetInt(n)
				return nil
			}
		}
		if v.Kind() == reflect.String {
			return r.fault(line, "must be a text, not the number %.80s: put it in quotes", t)
		}
	case json.Delim:
		switch {
		case t == '{' && v.Kind() == reflect.Struct && v.Type() != typeOfTime:
			return r.object(v)
		case t == '[' && v.Kind() == reflect.Slice:
			return r.list(v)
		}
		what := map[json.Delim]string{'{': "an object", '[': "a list"}[t]
		if err := r.fault(line, "must be %s, not %s", kindOf(v.Type()), what); err != nil {
			return err
		}
		return r.skip()
	}
	return r.fault(line, "must be %s, not %.80s", kindOf(v.Type()), fmt.Sprint(t))
}

func (r *jsonReader) object(v reflect.Value) error {
	seen := make([]int, v.NumField())
	for r.d.More() {
		t, err := r.token()
		if err != nil {
			return err
		}
		i, err := r.member(r.line(), t.(string), v.Type(), seen) // the decoder takes nothing else for a name
		if err != nil {
			return err
		}
		if t, err = r.token(); err != nil {
			return err
		}
		if i < 0 {
			if _, nested := t.(json.Delim); nested {
				err = r.skip()
			}
		} else {
			r.enter(r.members[v.Type()][i], 0)
			err = r.value(t, v.Field(i), false)
			r.leave()
		}
		if err != nil {
			return err
		}
	}
	_, err := r.token()
	return err
}

func (r *jsonReader) list(v reflect.Value) error {
	for i := 0; r.d.More(); i++ {
		t, err := r.token()
		if err != nil {
			return err
		}
		r.items += int64(v.Type().Elem().Size())
		if r.items > maxSwelling*r.d.InputOffset()+freeSwelling {
			return r.stop(r.line(), "there are many items with next to nothing in them, up to number %d: write their members, or leave them out", i+1)
		}
		v.Grow(1)
		v.SetLen(i + 1)
		v.Index(i).SetZero()
		r.enter("", i)
		err = r.value(t, v.Index(i), true)
		r.leave()
		if err != nil {
			return err
		}
	}
	_, err := r.token()
	return err
}

// skip reads to the end of the list or object that has begun.
func (r *jsonReader) skip() error {
	for depth := 1; depth > 0; {
		t, err := r.token()
		if err != nil {
			return err
		}
		switch t {
		case json.Delim('{'), json.Delim('['):
			depth++
		case json.Delim('}'), json.Delim(']'):
			depth--
		}
	}
	return nil
}

// lineReader remembers where lines end, of what was read but not asked for yet.
type lineReader struct {
	r      io.Reader
	offset int64
	ends   []int64
	passed int // lines that ended before what was asked for
}

func (l *lineReader) Read(b []byte) (int, error) {
	n, err := l.r.Read(b)
	for at := 0; ; at++ {
		i := bytes.IndexByte(b[at:n], '\n')
		if i < 0 {
			break
		}
		at += i
		l.ends = append(l.ends, l.offset+int64(at))
	}
	l.offset += int64(n)
	return n, err
}

// at returns the line of the byte before the offset, from 1. Offsets must not decrease.
func (l *lineReader) at(offset int64) int {
	for len(l.ends) > 0 && l.ends[0] < offset {
		l.ends = l.ends[1:]
		l.passed++
	}
	return l.passed + 1
}

// yamlReader reads a tree of YAML.
type yamlReader struct {
	*reading
	inAlias, aliased int // how many aliases the value is in, and how many values were
	merging          int // how many merge keys the members come from
}

// maxAliased bounds the values that are read by way of aliases: a few lines of aliases of aliases can stand for any number.
const maxAliased = 1_000_000

func (r *yamlReader) document(in io.Reader, v reflect.Value) error {
	text, err := io.ReadAll(io.LimitReader(in, MaxYAML+1))
	if err != nil {
		return err
	}
	if len(text) > MaxYAML {
		return r.stop(0, "the YAML is longer than %d MiB: write so large a marketplace as JSON", MaxYAML>>20)
	}
	lines := &lineByLine{text: text}
	d := yaml.NewDecoder(lines)
	var n yaml.Node
	switch err := d.Decode(&n); {
	case errors.Is(err, io.EOF):
		return nil
	case err != nil:
		return r.syntax(err, text, lines.begun)
	}
	if err := r.value(n.Content[0], n.Content[0].Line, v, false); err != nil {
		return err
	}
	first := n.Content[0].Line
	if err := d.Decode(&n); !errors.Is(err, io.EOF) {
		if err != nil {
			return r.syntax(err, text, lines.begun)
		}
		return r.stop(max(first, n.Line), "there is a second YAML document: put everything into one")
	}
	return nil
}

// syntax words an error of the parser. Where a collection is not as the parser expects it, its line is the one where
// the collection begins, which does not help: how far it had read does.
func (r *yamlReader) syntax(err error, text []byte, begun int) error {
	problem := strings.TrimPrefix(err.Error(), "yaml: ")
	line := begun
	if rest, ok := strings.CutPrefix(problem, "line "); ok {
		number, rest, _ := strings.Cut(rest, ": ")
		problem = rest
		if n, err := strconv.Atoi(number); err == nil && !strings.HasPrefix(problem, "did not find expected") {
			line = n
		}
	}
	if name, ok := strings.CutPrefix(problem, "unknown anchor '"); ok {
		name, _, _ = strings.Cut(name, "'")
		if at := bytes.Index(text, []byte("*"+name)); at >= 0 {
			line = 1 + bytes.Count(text[:at], []byte("\n"))
		}
	}
	switch problem {
	case "did not find expected key", "did not find expected '-' indicator":
		problem = "is indented otherwise than what it belongs to: begin it in the column of its neighbours"
	case "mapping values are not allowed in this context":
		problem = "has a colon where none can be: put a text with a colon into quotes, and look at the indentation and at the line before"
	case "found character that cannot start any token":
		problem = "has a character that nothing can begin with: indent with spaces, not tabs, and put a text that begins with @ or ` into quotes"
	case "could not find expected ':'":
		problem = "has no colon between name and value"
	default:
		problem = "this is not YAML: " + problem
	}
	return r.stop(line, "%s", strings.ReplaceAll(problem, "\n", " "))
}

// lineByLine gives the parser no more than a line at a time, and so knows how far it has read.
type lineByLine struct {
	text  []byte
	begun int // lines
	mid   bool
}

func (l *lineByLine) Read(b []byte) (int, error) {
	if len(l.text) == 0 {
		return 0, io.EOF
	}
	n := bytes.IndexByte(l.text, '\n') + 1
	if n == 0 {
		n = len(l.text)
	}
	n = copy(b, l.text[:n])
	if !l.mid {
		l.begun++
	}
	l.mid = l.text[n-1] != '\n'
	l.text = l.text[n:]
	return n, nil
}

// value reads the value whose name, or which itself, is on the line.
func (r *yamlReader) value(n *yaml.Node, line int, v reflect.Value, item bool) error {
	r.found(line)
	if n.Kind == yaml.AliasNode {
		n = n.Alias
		r.inAlias++
		defer func() { r.inAlias-- }()
	}
	if r.inAlias > 0 {
		if r.aliased++; r.aliased > maxAliased {
			return r.stop(line, "aliases stand for more than %d values: write them out", maxAliased)
		}
	}
	if n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" {
		switch {
		case item:
			return r.fault(line, "the item is empty: write it, or leave out its hyphen")
		case n.Value == "" && len(r.path) > 0:
			return r.fault(line, "is empty: write its value, or leave the line out")
		}
		return nil // as if it were left out
	}
	if v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		v = v.Elem()
	}
	switch {
	case n.Kind == yaml.MappingNode && v.Kind() == reflect.Struct && v.Type() != typeOfTime:
		return r.object(n, v, make([]int, v.NumField()))
	case n.Kind == yaml.SequenceNode && v.Kind() == reflect.Slice:
		return r.list(n, v)
	case n.Kind == yaml.ScalarNode && r.scalar(n, v):
		return nil
	case n.Kind == yaml.ScalarNode:
		return r.fault(line, "must be %s, not %.80q", kindOf(v.Type()), n.Value)
	}
	what := "a list"
	if n.Kind == yaml.MappingNode {
		what = "an object"
	}
	return r.fault(line, "must be %s, not %s", kindOf(v.Type()), what)
}

// scalar sets v to the node's value, and reports whether it is of v's type. A text may be written without quotes,
// whatever else YAML would take it for: an account id is no number.
func (r *yamlReader) scalar(n *yaml.Node, v reflect.Value) bool {
	switch {
	case v.Kind() == reflect.String:
		switch n.ShortTag() {
		case "!!str", "!!int", "!!float", "!!bool", "!!timestamp":
			v.SetString(n.Value)
			return true
		}
	case v.Type() == typeOfTime:
		t := v.Addr().Interface().(*time.Time)
		return n.ShortTag() == "!!timestamp" && n.Decode(t) == nil || n.ShortTag() == "!!str" && t.UnmarshalText([]byte(n.Value)) == nil
	case v.Kind() == reflect.Bool:
		return n.Decode(v.Addr().Interface()) == nil
	case v.Kind() == reflect.Int32:
		return n.ShortTag() == "!!int" && n.Decode(v.Addr().Interface()) == nil
	}
	return false
}

// object reads the members of a mapping that were not seen yet. Members of the mapping itself go before those that it
// merges in.
func (r *yamlReader) object(n *yaml.Node, v reflect.Value, seen []int) error {
	var merged []*yaml.Node
	own := seen
	if r.merging > 0 {
		own = make([]int, len(seen))
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if key.ShortTag() == "!!merge" {
			merged = append(merged, value)
			continue
		}
		if key.Kind == yaml.AliasNode {
			key = key.Alias
		}
		if key.Kind != yaml.ScalarNode {
			if err := r.fault(n.Content[i].Line, "the name of a member must be a text"); err != nil {
				return err
			}
			continue
		}
		at, err := r.member(key.Line, key.Value, v.Type(), own)
		if err == nil && at >= 0 && (r.merging == 0 || seen[at] == 0) {
			seen[at] = key.Line
			r.enter(key.Value, 0)
			err = r.value(value, key.Line, v.Field(at), false)
			r.leave()
		}
		if err != nil {
			return err
		}
	}
	for _, m := range merged {
		if err := r.merge(m, v, seen); err != nil {
			return err
		}
	}
	return nil
}

// merge reads the members of the mapping, or of each of the mappings, that a merge key names.
func (r *yamlReader) merge(n *yaml.Node, v reflect.Value, seen []int) error {
	line := n.Line
	if n.Kind == yaml.AliasNode {
		n = n.Alias
		r.inAlias++
		defer func() { r.inAlias-- }()
	}
	r.merging++
	defer func() { r.merging-- }()
	switch {
	case r.merging > 10:
		return r.stop(line, "merge keys are nested too deep: write the members out")
	case n.Kind == yaml.MappingNode:
		return r.object(n, v, seen)
	case n.Kind == yaml.SequenceNode:
		for _, item := range n.Content {
			if err := r.merge(item, v, seen); err != nil {
				return err
			}
		}
		return nil
	}
	return r.fault(line, "<< must name an object, or a list of them")
}

func (r *yamlReader) list(n *yaml.Node, v reflect.Value) error {
	v.Set(reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content)))
	for i, item := range n.Content {
		r.enter("", i)
		err := r.value(item, item.Line, v.Index(i), true)
		r.leave()
		if err != nil {
			return err
		}
	}
	return nil
}
