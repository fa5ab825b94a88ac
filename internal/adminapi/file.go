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

// MaxItem is the length in bytes of the longest item that a marketplace file may have, such as a buyer with its
// agreements. An item is held in memory as a whole while it is read, which takes many times its length. A YAML file up
// to that length is held as a whole too; in a longer one the lists must be written line by line, and aliases can name
// only anchors of their own item.
const MaxItem = 1 << 20

// Form is the form in which a marketplace file is written. Its value is the media type.
type Form string

// The forms of a marketplace file.
const (
	JSON Form = "application/json"
	YAML Form = "application/yaml"
)

// Source is a marketplace that can be read list by list, any number of times: a [*Marketplace] in memory, or a
// [*Loaded].
type Source interface {
	// Each calls f with each item of a list, such as "sellers", and the item's index, until f returns false. The item is
	// a pointer to its shape, such as *Seller. An item with faults has only the members that could be understood.
	Each(list string, f func(index int, item any) bool)
	// Size returns how many buyers and agreements there are. Agreements that are written with their buyers count too.
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

// Loaded is a marketplace file that has been checked: its text, and where its lists are. Each reads the items anew from
// the text, one at a time, so a large file takes little more memory than its length.
type Loaded struct {
	form               Form
	text               []byte
	lists              map[string]span
	buyers, agreements int
}

// span is where the items of a list are in the text: after the opening bracket, or in lines that begin with hyphens. For
// YAML that was read as a whole, node is the list's node in the tree.
type span struct {
	from, to int
	at       position // of the list itself
	line     int      // the line that from is in, in YAML
	indent   int      // the indentation of the hyphens, in YAML
	open     bool
	node     *yaml.Node
	base     int // how many lines are before the tree
	aliased  bool
}

// Load reads a marketplace file in the given form, of length bytes if that is known. It returns at most [MaxFaults]
// faults of the file, in the order of their lines. A file with faults can be read all the same, without the parts that
// could not be understood. An error is one of the reader r.
func Load(form Form, r io.Reader, length int64) (*Loaded, Faults, error) {
	f := &Loaded{form: form, lists: map[string]span{}}
	text := bytes.NewBuffer(make([]byte, 0, min(max(length, 0), 64<<20)+bytes.MinRead))
	if _, err := text.ReadFrom(r); err != nil {
		return nil, nil, err
	}
	f.text = bytes.TrimPrefix(text.Bytes(), []byte("\xef\xbb\xbf")) // the byte order mark
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

// look reads all lists, to find their faults and to count their buyers and agreements.
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

// in returns the lists of the file, in the order in which they stand in it.
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
		f.read(list, newReading(), each) // the new reading's faults are dropped: Load has returned them
	}
}

// Size counts what an import makes room for: see [Source].
func (f *Loaded) Size() (buyers, agreements int) { return f.buyers, f.agreements }

// Locate fills in the lines of faults that were found in the file's marketplace, and sorts the faults by line. If a
// value is missing in the file, its fault gets the line of the object in which it is missing.
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

// item calls read for an item, and reports whether the caller of Each wants more items. The item is passed to that
// caller unless given, called after read, returns false.
func (r *itemReader) item(i int, read func(v reflect.Value), given func() bool) bool {
	v := reflect.New(r.t)
	r.enter("", i)
	read(v.Elem())
	r.leave()
	return !given() || r.each(i, v.Interface())
}

// Gives reports whether an item of a marketplace, as [Source] gives it, has a value in the given place, such as
// agreements[0].product_code. An empty text is no value, nor is what was left out.
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

// errStop says that a value cannot be read any further. The fault has been noted.
var errStop = errors.New("the rest of the value is not read")

// position is a place in the text: line and column count from 1, a column of 0 is not known.
type position struct{ line, column int }

// reading is what the two forms share: where in the marketplace it is, and what was found wrong.
type reading struct {
	faults  Faults
	path    []segment
	wanted  map[string][]*Fault       // :: place → faults whose lines are to be found
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

// found notes where the value is that is being read.
func (r *reading) found(at position) {
	if r.wanted == nil {
		return
	}
	for _, f := range r.wanted[r.place()] {
		f.Line, f.Column = at.line, at.column
	}
}

// fault notes a fault of the value that is being read.
func (r *reading) fault(at position, format string, args ...any) {
	if len(r.faults) < MaxFaults {
		r.faults = append(r.faults, Fault{Line: at.line, Column: at.column, Place: r.place(), Detail: fmt.Sprintf(format, args...)})
	}
}

// stop notes a fault after which the value cannot be read any further.
func (r *reading) stop(at position, format string, args ...any) error {
	r.fault(at, format, args...)
	return errStop
}

// end notes a fault after which the file cannot be read any further. Its place is the marketplace itself, because
// anything may be missing.
func (r *reading) end(at position, format string, args ...any) {
	path := r.path
	r.path = nil
	r.fault(at, format, args...)
	r.path = path
}

// member returns the index of the field that has the name, or notes a fault and returns -1. seen has the lines of the
// fields that were read before; member adds the line of this one.
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

// kindOf says in words what a value of the type must be.
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
