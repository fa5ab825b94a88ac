package adminapi

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// MaxItem is the longest item of a marketplace file, such as a buyer with its agreements, in bytes: an item is held as
// a whole while it is read, many times its length. A YAML file of that length is held as a whole too; in a longer one
// the lists must be written line by line, and aliases name anchors of their own item only.
const MaxItem = 1 << 20

// Form is how a marketplace file is written. Its value is the media type.
type Form string

// The forms of a marketplace file.
const (
	JSON Form = "application/json"
	YAML Form = "application/yaml"
)

// Source is a marketplace that is gone through list by list, as often as is wanted: a [*Marketplace] in memory, or a
// [*Loaded].
type Source interface {
	// Each calls f with each item of a list, such as "sellers", and its index, until f returns false. The item is a
	// pointer to its shape, such as *Seller. Of an item that could not be read it has what could be understood.
	Each(list string, f func(index int, item any) bool)
	// Size is how many buyers there are, and agreements, those with their buyers included.
	Size() (buyers, agreements int)
}

var typeOfMarketplace = reflect.TypeFor[Marketplace]()

// Each goes through a list of the marketplace: see [Source].
func (m *Marketplace) Each(list string, f func(index int, item any) bool) {
	items := reflect.ValueOf(m).Elem().Field(slices.Index(membersOf(typeOfMarketplace), list))
	for i := range items.Len() {
		if !f(i, items.Index(i).Addr().Interface()) {
			return
		}
	}
}

// Size counts what an import makes room for: see [Source].
func (m *Marketplace) Size() (buyers, agreements int) {
	agreements = len(m.Agreements)
	for i := range m.Buyers {
		agreements += len(m.Buyers[i].Agreements)
	}
	return len(m.Buyers), agreements
}

// Loaded is a marketplace file that has been read: its text, and where its lists are. Items are read from the text each
// time that they are gone through, one at a time, so a large file takes little more memory than its length.
type Loaded struct {
	form               Form
	text               []byte
	lists              map[string]span
	buyers, agreements int
}

// span is where the items of a list are in the text: after the opening bracket, or in lines that begin with hyphens.
// In YAML that was read as a whole it is a node of the tree.
type span struct {
	from, to int
	at       position // of the list itself
	line     int      // of from, in YAML
	indent   int      // of the hyphens
	open     bool
	node     *yaml.Node
	base     int // lines before the tree
	aliased  bool
}

// Load reads a marketplace file in the given form, of length bytes if that is known, and returns what is wrong with it:
// [MaxFaults] at most, in the order of their lines. What could not be read is left out of the file, which can be gone
// through all the same. An error is one of the reader's.
func Load(form Form, r io.Reader, length int64) (*Loaded, Faults, error) {
	f := &Loaded{form: form, lists: map[string]span{}}
	text := bytes.NewBuffer(make([]byte, 0, min(max(length, 0), 64<<20)+bytes.MinRead))
	if _, err := text.ReadFrom(r); err != nil {
		return nil, nil, err
	}
	f.text = bytes.TrimPrefix(text.Bytes(), []byte("\xef\xbb\xbf")) // a mark of the byte order
	in := newReading()
	if form == JSON {
		f.splitJSON(in)
	} else {
		f.splitYAML(in)
	}
	f.look(in)
	in.faults.Sort()
	return f, in.faults, nil
}

// look goes through all lists, for what is wrong with them and how much there is.
func (f *Loaded) look(in *reading) {
	for list := range f.in() {
		f.read(list, in, func(_ int, item any) bool {
			switch item := item.(type) {
			case *Buyer:
				f.buyers++
				f.agreements += len(item.Agreements)
			case *Agreement:
				f.agreements++
			}
			return true
		})
	}
}

// in returns the lists of the file, in the order in which they stand there.
func (f *Loaded) in() iter.Seq[string] {
	return func(yield func(string) bool) {
		names := make([]string, 0, len(f.lists))
		for name := range f.lists {
			names = append(names, name)
		}
		slices.SortFunc(names, func(a, b string) int { return f.lists[a].from - f.lists[b].from })
		for _, name := range names {
			if !yield(name) {
				return
			}
		}
	}
}

// Each goes through a list of the file: see [Source].
func (f *Loaded) Each(list string, each func(index int, item any) bool) {
	if _, ok := f.lists[list]; ok {
		f.read(list, newReading(), each) // what is wrong was told by Load
	}
}

// Size counts what an import makes room for: see [Source].
func (f *Loaded) Size() (buyers, agreements int) { return f.buyers, f.agreements }

// Locate fills in the lines of the faults that were found in the file's marketplace, and sorts the faults by them. A
// value that the file leaves out has the line of what it is missing in.
func (f *Loaded) Locate(faults Faults) {
	in := newReading()
	in.wanted = map[string][]*Fault{}
	for i := range faults {
		for place := faults[i].Place; place != "" && faults[i].Line == 0; place = place[:max(0, strings.LastIndexAny(place, ".["))] {
			in.wanted[place] = append(in.wanted[place], &faults[i])
		}
	}
	if len(in.wanted) > 0 {
		for list := range f.in() {
			f.read(list, in, func(int, any) bool { return true })
		}
	}
	faults.Sort()
}

// read reads the items of a list.
func (f *Loaded) read(list string, in *reading, each func(int, any) bool) {
	at := f.lists[list]
	items := itemReader{in, typeOfMarketplace.Field(slices.Index(membersOf(typeOfMarketplace), list)).Type.Elem(), each}
	in.enter(list, 0)
	defer in.leave()
	in.found(at.at)
	switch {
	case f.form == JSON:
		f.readJSON(at, items)
	case at.node != nil:
		f.readTree(at, items)
	default:
		f.readLines(at, items)
	}
}

// itemReader reads the items of one list.
type itemReader struct {
	*reading
	t    reflect.Type
	each func(int, any) bool
}

// item has an item read, and reports whether more are wanted. It is given to who goes through the list if given says so
// then.
func (r *itemReader) item(i int, read func(v reflect.Value), given func() bool) bool {
	v := reflect.New(r.t)
	r.enter("", i)
	read(v.Elem())
	r.leave()
	return !given() || r.each(i, v.Interface())
}

// Gives reports whether an item of a marketplace, as [Source] gives it, has a value in a place in it, such as
// agreements[0].product_code: no empty text, nothing that was left out.
func Gives(item any, place string) bool {
	v := reflect.ValueOf(item).Elem()
	for _, step := range strings.FieldsFunc(place, func(c rune) bool { return c == '.' || c == '[' || c == ']' }) {
		switch v.Kind() {
		case reflect.Slice:
			i, err := strconv.Atoi(step)
			if err != nil || i >= v.Len() {
				return false
			}
			v = v.Index(i)
		case reflect.Struct:
			at := slices.Index(membersOf(v.Type()), step)
			if at < 0 {
				return false
			}
			v = v.Field(at)
		default:
			return false
		}
	}
	return !v.IsZero()
}

// errStop says that a value cannot be read any further, which has been told.
var errStop = errors.New("the rest of the value is not read")

// position is a place in the text: line and column count from 1, a column of 0 is not known.
type position struct{ line, column int }

// reading is what the two forms share: where in the marketplace it is, and what was found wrong.
type reading struct {
	faults  Faults
	path    []segment
	wanted  map[string][]*Fault       // :: place → faults whose lines are looked for
	members map[reflect.Type][]string // :: shape → names of its members, in the order of its fields
}

func newReading() *reading { return &reading{members: map[reflect.Type][]string{}} }

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

// found takes note of where the value is that is being read.
func (r *reading) found(at position) {
	if r.wanted == nil {
		return
	}
	for _, f := range r.wanted[r.place()] {
		f.Line, f.Column = at.line, at.column
	}
}

// fault takes note of something wrong with the value that is being read.
func (r *reading) fault(at position, format string, args ...any) {
	if len(r.faults) < MaxFaults {
		r.faults = append(r.faults, Fault{Line: at.line, Column: at.column, Place: r.place(), Detail: fmt.Sprintf(format, args...)})
	}
}

// stop is fault for what does not let the reading of the value go on.
func (r *reading) stop(at position, format string, args ...any) error {
	r.fault(at, format, args...)
	return errStop
}

// end is fault for what does not let the reading of the file go on: its place is the marketplace itself, as anything
// may be missing.
func (r *reading) end(at position, format string, args ...any) {
	path := r.path
	r.path = nil
	r.fault(at, format, args...)
	r.path = path
}

// member returns the index of the field that has the name, or notes the fault and returns -1. seen has the lines of
// the fields that were there before, and gets this one's.
func (r *reading) member(at position, name string, t reflect.Type, seen []int) int {
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
			r.fault(at, "%s is given twice, first on line %d: leave one of them out", name, seen[i])
			return -1
		}
		seen[i] = at.line
		return i
	}
	r.fault(at, "there is no member %.80q here: the members are %s", name, strings.Join(names, ", "))
	return -1
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
