package adminapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strconv"
	"strings"
	"time"
)

const (
	isEmpty  = `the file is empty: write a marketplace, such as {"sellers": [{"account_id": "111122223333"}]}`
	tooEarly = "the JSON ends too early: a bracket or brace is not closed"
	tooLong  = "the item is longer than 1 MiB: write what is in it into lists of the marketplace's own, such as agreements with buyer_account_id"
)

// splitJSON finds the lists of a file, without reading their items.
func (f *Loaded) splitJSON(in *reading) {
	s := newScanner(f.text, 0)
	if s.next(); !s.is('{') {
		r := newJSONReader(in, s, len(f.text))
		t, err := r.token()
		switch {
		case s.at == len(f.text) || err == nil && t == nil:
			in.faults = nil
			in.end(s.position(s.at), isEmpty)
		case err == nil:
			_ = r.value(t, reflect.ValueOf(&Marketplace{}).Elem(), false)
		}
		return
	}
	s.at++
	seen := make([]int, typeOfMarketplace.NumField())
	for first := true; ; first = false {
		if s.next(); first && s.is('}') {
			break
		}
		if !s.is('"') {
			s.stray(in, "looking for beginning of object key string")
			return
		}
		if !f.splitMember(in, s, seen) {
			return
		}
		if s.next(); s.is(',') {
			s.at++
			continue
		}
		if !s.is('}') {
			s.stray(in, "after object key:value pair")
			return
		}
		break
	}
	s.at++
	if s.next(); s.at < len(f.text) {
		in.end(s.position(s.at), "there is something behind the marketplace's closing brace: send one JSON object")
	}
}

// splitMember notes where the list of a member of the marketplace is, and reports whether the text after the member can
// be read. It reads values other than lists at once.
func (f *Loaded) splitMember(in *reading, s *scanner, seen []int) bool {
	key := newJSONReader(in, s, len(f.text))
	key.ends = true
	t, err := key.token()
	if err != nil {
		return false
	}
	at := s.position(s.at)
	s.skip()
	if s.next(); !s.is(':') {
		s.stray(in, "after object key")
		return false
	}
	s.at++
	s.next()
	member := in.member(at, t.(string), typeOfMarketplace, seen)
	if member >= 0 && s.is('[') {
		list := span{at: s.position(s.at), from: s.at + 1}
		list.open = !s.skip()
		list.to = s.at
		f.lists[t.(string)] = list
		return !list.open
	}
	r := newJSONReader(in, s, len(f.text))
	r.ends = true
	if t, err = r.token(); err == nil && member < 0 {
		err = r.skip(t)
	} else if err == nil {
		in.enter(in.members[typeOfMarketplace][member], 0)
		err = r.value(t, reflect.New(typeOfMarketplace.Field(member).Type).Elem(), false)
		in.leave()
	}
	return err == nil && s.skip()
}

// readJSON reads the items of a list. An item that is not JSON is left empty, and reading goes on after it.
func (f *Loaded) readJSON(list span, items itemReader) {
	s := newScanner(f.text[:list.to], list.from)
	s.line = list.at.line - 1
	for i := 0; ; i++ {
		if s.next(); i == 0 && s.is(']') {
			return
		}
		if s.at == len(s.text) {
			items.end(s.position(s.at), tooEarly)
			return
		}
		var err error
		read := func(v reflect.Value) {
			r := newJSONReader(items.reading, s, len(s.text))
			whole := s.skip()
			r.ends = list.open && !whole
			if s.at-r.base > MaxItem {
				items.fault(s.position(r.base), tooLong)
				return
			}
			r.text = r.text[:min(max(s.at, s.torn)+1, len(s.text))] // one byte more, to notice a value that wrongly goes on
			var t json.Token
			if t, err = r.token(); err == nil {
				err = r.value(t, v, true)
			}
			if err != nil {
				v.SetZero()
			}
		}
		if !items.item(i, read, func() bool { return !list.open || err == nil }) {
			return
		}
		switch s.next(); {
		case s.is(','):
			s.at++
		case s.is(']'), list.open && s.at == len(s.text) && err != nil:
			return
		case s.at < len(s.text):
			s.stray(items.reading, "after array element")
		}
	}
}

// scanner finds where values of JSON end, also those that are not valid JSON.
type scanner struct {
	text []byte
	at   int
	torn int // if the last text that was skipped is not closed in its line, the end of that line

	counted int // the offset for which line and start hold
	line    int // how many lines end before counted
	start   int // the start of the line that counted is in
}

func newScanner(text []byte, at int) *scanner {
	return &scanner{text: text, at: at, counted: at, start: bytes.LastIndexByte(text[:at], '\n') + 1}
}

// position returns the line and column of an offset.
func (s *scanner) position(offset int) position {
	if offset < s.counted {
		s.line -= bytes.Count(s.text[offset:s.counted], []byte("\n"))
		s.start = bytes.LastIndexByte(s.text[:offset], '\n') + 1
	} else if passed := s.text[s.counted:offset]; bytes.IndexByte(passed, '\n') >= 0 {
		s.line += bytes.Count(passed, []byte("\n"))
		s.start = s.counted + bytes.LastIndexByte(passed, '\n') + 1
	}
	s.counted = offset
	return position{s.line + 1, offset - s.start + 1}
}

// next skips white space.
func (s *scanner) next() {
	for s.at < len(s.text) && strings.IndexByte(" \t\r\n", s.text[s.at]) >= 0 {
		s.at++
	}
}

func (s *scanner) is(c byte) bool { return s.at < len(s.text) && s.text[s.at] == c }

// stray notes a fault: a character that cannot be where the scanner is.
func (s *scanner) stray(in *reading, where string) {
	if s.at == len(s.text) {
		in.end(s.position(s.at), tooEarly)
		return
	}
	in.end(s.position(s.at), "this is not JSON: invalid character %q %s", []rune(string(s.text[s.at:min(s.at+4, len(s.text))]))[0], where)
}

// skipText goes on to the end of a text that has begun. A text that is not closed in its line is taken to end before its
// first comma or closing bracket, which is likely to belong to the object or list around it.
func (s *scanner) skipText() {
	from := s.at
	for ; s.at < len(s.text) && s.text[s.at] != '\n'; s.at++ {
		switch s.text[s.at] {
		case '"':
			s.at++
			return
		case '\\':
			if s.at+1 < len(s.text) && s.text[s.at+1] != '\n' {
				s.at++
			}
		}
	}
	s.torn = s.at
	if i := bytes.IndexAny(s.text[from:s.at], ",]}"); i >= 0 {
		s.at = from + i
	}
}

// skip goes on to the end of a value, and reports whether the value ends.
func (s *scanner) skip() bool {
	from := s.at
	var open []byte
	for s.at < len(s.text) {
		c := s.text[s.at]
		s.at++
		switch c {
		case '{', '[':
			open = append(open, c)
		case '}', ']':
			i := bytes.LastIndexByte(open, c-2) // c-2 is the opening bracket of c, for both kinds
			if i < 0 {                          // c closes the object or list around the value
				s.at = max(s.at-1, from+1)
				return true
			}
			open = open[:i]
		case '"':
			s.skipText()
		case ' ', '\t', '\r', '\n', ',', ':':
		default:
			for s.at < len(s.text) && strings.IndexByte(" \t\r\n,:{}[]\"", s.text[s.at]) < 0 {
				s.at++
			}
		}
		if len(open) == 0 {
			return true
		}
	}
	return false
}

// jsonReader reads a value token by token.
type jsonReader struct {
	*reading
	s    *scanner // counts lines
	text []byte
	base int // the offset in text where the value begins
	d    *json.Decoder
	at   int  // the offset in text where the last token begins
	ends bool // text that is not JSON ends the reading of the file, not only of the item
}

// newJSONReader returns a reader of the text from where the scanner is up to the offset to.
func newJSONReader(in *reading, s *scanner, to int) *jsonReader {
	return &jsonReader{reading: in, s: s, text: s.text[:to], base: s.at}
}

// token returns the next token. It notes a fault and fails at text that is not JSON.
func (r *jsonReader) token() (json.Token, error) {
	if r.d == nil {
		r.d = json.NewDecoder(bytes.NewReader(r.text[r.base:]))
		r.d.UseNumber()
	}
	for r.at = r.base + int(r.d.InputOffset()); r.at < len(r.text) && strings.IndexByte(" \t\r\n,:", r.text[r.at]) >= 0; {
		r.at++
	}
	t, err := r.d.Token()
	if err == nil {
		return t, nil
	}
	detail := "this is not JSON: " + err.Error()
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		detail = tooEarly
	}
	if r.ends {
		r.end(r.position(), "%s", detail)
		return nil, errStop
	}
	return nil, r.stop(r.position(), "%s", detail)
}

// position returns where the last token begins.
func (r *jsonReader) position() position { return r.s.position(r.at) }

// value reads into v the value that begins with the token t.
func (r *jsonReader) value(t json.Token, v reflect.Value, item bool) error {
	at := r.position()
	r.found(at)
	if t == nil {
		if item {
			r.fault(at, "is null: write the item, or leave it out")
		}
		return nil // as if the value were left out
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
		case v.Type() != typeOfTime || v.Addr().Interface().(*time.Time).UnmarshalText([]byte(t)) != nil:
			r.fault(at, "must be %s, not %.80q", kindOf(v.Type()), t)
		}
		return nil
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
			r.fault(at, "must be a text, not the number %.80s: put it in quotes", t)
			return nil
		}
	case json.Delim:
		switch {
		case t == '{' && v.Kind() == reflect.Struct && v.Type() != typeOfTime:
			return r.object(v)
		case t == '[' && v.Kind() == reflect.Slice:
			return r.list(v)
		}
		r.fault(at, "must be %s, not %s", kindOf(v.Type()), map[json.Delim]string{'{': "an object", '[': "a list"}[t])
		return r.skip(t)
	}
	r.fault(at, "must be %s, not %.80s", kindOf(v.Type()), fmt.Sprint(t))
	return nil
}

func (r *jsonReader) object(v reflect.Value) error {
	seen := make([]int, v.NumField())
	for r.d.More() {
		t, err := r.token()
		if err != nil {
			return err
		}
		i := r.member(r.position(), t.(string), v.Type(), seen) // a string: the decoder accepts no other token as a name
		if t, err = r.token(); err != nil {
			return err
		}
		if i < 0 {
			err = r.skip(t)
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

// skip reads to the end of the value that begins with the token t.
func (r *jsonReader) skip(t json.Token) error {
	for depth := 0; ; {
		switch t {
		case json.Delim('{'), json.Delim('['):
			depth++
		case json.Delim('}'), json.Delim(']'):
			depth--
		}
		if depth == 0 {
			return nil
		}
		var err error
		if t, err = r.token(); err != nil {
			return err
		}
	}
}
