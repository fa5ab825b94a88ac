package wire

import (
	"fmt"
	"math/bits"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// SyntaxError says why a body is not a request of its operation: the path of
// the member, the rule and how to mend it, and the offset in the body. AWS calls
// it SerializationException. Decode returns it as *SyntaxError.
type SyntaxError struct{ Message string }

func (e *SyntaxError) Error() string { return e.Message }

// maxDepth is how many objects and lists may be open at once; known members
// need 7.
const maxDepth = 64

// decoder reads one JSON document from the left. Its first fault stays: members
// and elements then end, and add their part of the path on the way out.
type decoder struct {
	s     string
	pos   int
	depth int
	lists *lists
	names []string // unknown members of the objects that are open

	fault string // what is wrong and how to mend it; empty while all is well
	path  string // of the member at fault, e.g. ".UsageRecords[3].Quantity"
	at    int    // offset of the fault
}

// end checks that nothing follows the body's object, and returns the fault.
func (d *decoder) end() error {
	if d.peek(); d.pos < len(d.s) {
		d.fail("expected the end after the JSON object, found " + d.found() + ": send one object only")
	}
	if d.fault == "" {
		return nil
	}
	path := strings.TrimPrefix(d.path, ".")
	if path == "" {
		path = "request body"
	}
	return &SyntaxError{Message: fmt.Sprintf("%s: %s (at byte %d)", path, d.fault, d.at)}
}

func (d *decoder) fail(fault string) {
	if d.fault == "" {
		d.fault, d.at = fault, d.pos
	}
}

func (d *decoder) expected(what string) {
	d.fail("expected " + what + ", found " + d.found())
}

// found describes what stands at the cursor.
func (d *decoder) found() string {
	switch c := d.peek(); {
	case d.pos == len(d.s):
		return "the end of the body"
	case c == '{':
		return "an object"
	case c == '[':
		return "a list"
	case c == '"':
		return "a string"
	case c == '-' || isDigit(c):
		return "a number"
	case strings.HasPrefix(d.s[d.pos:], "null"):
		return "null"
	case strings.HasPrefix(d.s[d.pos:], "true"), strings.HasPrefix(d.s[d.pos:], "false"):
		return "a boolean"
	default:
		r, _ := utf8.DecodeRuneInString(d.s[d.pos:])
		return strconv.QuoteRuneToASCII(r)
	}
}

// peek skips white space and returns the next byte without taking it, or 0, which
// begins no token, at the end.
func (d *decoder) peek() byte {
	for d.pos < len(d.s) {
		c := d.s[d.pos]
		if c > ' ' || c != ' ' && c != '\n' && c != '\r' && c != '\t' {
			return c
		}
		d.pos++
	}
	return 0
}

// null takes a null, which stands for an absent member.
func (d *decoder) null() bool { return d.peek() == 'n' && d.literal("null") }

func (d *decoder) literal(word string) bool {
	if strings.HasPrefix(d.s[d.pos:], word) {
		d.pos += len(word)
		return true
	}
	return false
}

// open takes the bracket that begins an object or a list.
func (d *decoder) open(bracket byte) bool {
	if d.peek() != bracket {
		if bracket == '{' {
			d.expected("a JSON object {...}")
		} else {
			d.expected("a list [...]")
		}
		return false
	}
	if d.depth++; d.depth > maxDepth {
		d.fail("nested deeper than " + strconv.Itoa(maxDepth) + " levels: send a flatter document")
		return false
	}
	d.pos++
	return true
}

// members steps through those members of an object that are in a table. It
// checks the others and passes over them, and refuses any that comes twice.
type members struct {
	known  []string // the table, of at most 64 names
	name   string   // of the current member
	seen   uint64   // members of the table met so far, a bit each
	base   int      // where this object's unknown names begin in decoder.names
	within bool     // past the first member
}

// members steps through an object that open has entered.
func (d *decoder) members(known []string) members {
	return members{known: known, base: len(d.names)}
}

// next goes to the value of the next member. It returns false after the last
// one, and after a fault.
func (m *members) next(d *decoder) bool {
	for {
		if d.fault != "" {
			d.path = "." + clip(m.name) + d.path
			return false
		}
		c := d.peek()
		if c == '}' {
			d.pos++
			d.depth--
			m.close(d)
			return false
		}
		if m.within {
			if c != ',' {
				d.expected("a comma or } after the value of " + clip(m.name))
				return false
			}
			d.pos++
			c = d.peek()
		}
		m.within = true
		if c != '"' {
			d.expected("a member name in double quotes")
			return false
		}
		i := m.index(d)
		if d.fault != "" {
			return false
		}
		if d.peek() != ':' {
			d.expected("a colon after the name " + clip(m.name))
			return false
		}
		d.pos++
		switch bit := uint64(1) << max(i, 0); {
		case i < 0:
			d.names = append(d.names, m.name)
			d.skip()
		case m.seen&bit != 0:
			d.fail("the member is there twice: send it once")
		default:
			m.seen |= bit
			return true
		}
	}
}

// index takes a name and returns its index in the table, or -1.
func (m *members) index(d *decoder) int {
	// Nearly always a known name, without escapes: worth a glance before its
	// bytes are checked one by one.
	s := d.s[d.pos+1:]
	for i, name := range m.known {
		if n := len(name); n < len(s) && s[n] == '"' && s[:n] == name {
			d.pos += n + 2
			m.name = name
			return i
		}
	}
	m.name, _ = d.string()
	return slices.Index(m.known, m.name)
}

// close looks for duplicates among the unknown names: by sorting, since comparing
// each with each would let a body of one megabyte cost minutes.
func (m *members) close(d *decoder) {
	names := d.names[m.base:]
	if len(names) > 1 {
		slices.Sort(names)
		for i := 1; i < len(names); i++ {
			if names[i] == names[i-1] {
				d.fail("the member " + clip(names[i]) + " is there twice: send it once")
				break
			}
		}
	}
	d.names = d.names[:m.base]
}

// elements steps through the elements of a list that open has entered.
type elements struct {
	n int // the number of the current element, from 1
}

// next goes to the next element. It returns false after the last one, and after a fault.
func (l *elements) next(d *decoder) bool {
	if d.fault != "" {
		d.path = "[" + strconv.Itoa(l.n-1) + "]" + d.path
		return false
	}
	c := d.peek()
	if c == ']' {
		d.pos++
		d.depth--
		return false
	}
	if l.n > 0 {
		if c != ',' {
			d.expected("a comma or ] after element " + strconv.Itoa(l.n-1))
			return false
		}
		d.pos++
	}
	l.n++
	return true
}

// skip checks any value and drops it.
func (d *decoder) skip() {
	switch c := d.peek(); {
	case c == '"':
		d.raw()
	case c == '-' || isDigit(c):
		d.number()
	case c == '{':
		if d.open('{') {
			m := d.members(nil)
			m.next(d) // passes over them all
		}
	case c == '[':
		if d.open('[') {
			for l := (elements{}); l.next(d); {
				d.skip()
			}
		}
	case !d.literal("null") && !d.literal("true") && !d.literal("false"):
		d.expected("a JSON value")
	}
}

func (d *decoder) bool() bool {
	switch {
	case d.null():
		return false
	case d.peek() == 't' && d.literal("true"):
		return true
	case d.peek() != 'f' || !d.literal("false"):
		d.expected("true or false without quotes")
	}
	return false
}

func (d *decoder) int32() (v int32, present bool) {
	if d.null() {
		return 0, false
	}
	if c := d.peek(); c != '-' && !isDigit(c) {
		d.expected("an integer such as 7 without quotes")
		return 0, false
	}
	start := d.pos
	text, integer := d.number()
	if d.fault != "" {
		return 0, false
	}
	n, err := strconv.ParseInt(text, 10, 32)
	if err != nil {
		d.pos = start
		if !integer {
			d.fail(clip(text) + " is not an integer: send digits only, without fraction or exponent")
		} else {
			d.fail(clip(text) + " does not fit into 32 bits: send an integer from 0 to 2147483647")
		}
		return 0, false
	}
	return int32(n), true
}

// timestamp returns milliseconds since the Unix epoch.
func (d *decoder) timestamp() (ms int64, present bool) {
	if d.null() {
		return 0, false
	}
	start := d.pos
	var text string
	var ok bool
	switch c := d.peek(); {
	case c == '-' || isDigit(c):
		if text, _ = d.number(); d.fault == "" {
			ms, ok = decimalMillis(text)
		}
	case c == '"':
		if text, _ = d.string(); d.fault == "" {
			ms, ok = isoMillis(text)
		}
	default:
		d.expected("seconds since 1970-01-01T00:00:00Z as a number such as 1795446245.123")
	}
	if !ok && d.fault == "" {
		d.pos = start
		d.fail(clip(text) + " is not a timestamp in the years 1 to 9999: send seconds since 1970-01-01T00:00:00Z as a number such as 1795446245.123")
	}
	return ms, ok
}

// number takes a JSON number and returns its text.
func (d *decoder) number() (text string, integer bool) {
	start := d.pos
	if d.s[d.pos] == '-' {
		d.pos++
	}
	switch first := d.pos; {
	case d.digits() == 0:
		d.fail("expected a digit in a number")
		return "", false
	case d.s[first] == '0' && d.pos > first+1:
		d.pos = first
		d.fail("a number begins with a needless 0: leave it out")
		return "", false
	}
	integer = true
	if d.pos < len(d.s) && d.s[d.pos] == '.' {
		integer = false
		d.pos++
		if d.digits() == 0 {
			d.fail("expected a digit after the decimal point")
			return "", false
		}
	}
	if d.pos < len(d.s) && d.s[d.pos]|0x20 == 'e' {
		integer = false
		d.pos++
		if d.pos < len(d.s) && (d.s[d.pos] == '+' || d.s[d.pos] == '-') {
			d.pos++
		}
		if d.digits() == 0 {
			d.fail("expected a digit in the exponent")
			return "", false
		}
	}
	return d.s[start:d.pos], integer
}

// digits takes digits and returns how many.
func (d *decoder) digits() int {
	start := d.pos
	for d.pos < len(d.s) && isDigit(d.s[d.pos]) {
		d.pos++
	}
	return d.pos - start
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func (d *decoder) string() (s string, present bool) {
	if d.peek() != '"' {
		if !d.null() {
			d.expected("a string in double quotes")
		}
		return "", false
	}
	raw, escaped := d.raw()
	if escaped && d.fault == "" {
		raw = unescape(raw)
	}
	return raw, d.fault == ""
}

// raw takes a string, checks it, and returns what is between the quotes.
func (d *decoder) raw() (s string, escaped bool) {
	start := d.pos + 1
	ascii := true
	for i := start; ; {
		i += plain(d.s[i:])
		if i == len(d.s) {
			d.fail("a string is not closed: end it with a double quote")
			return "", false
		}
		switch c := d.s[i]; {
		case c == '"':
			s = d.s[start:i]
			if !ascii && !utf8.ValidString(s) {
				d.fail("a string is not valid UTF-8: encode it as UTF-8")
				return "", false
			}
			d.pos = i + 1
			return s, escaped
		case c == '\\':
			_, n := escape(d.s[i:])
			if n == 0 {
				d.pos = i
				d.fail(`a string has a bad escape: use \" \\ \/ \b \f \n \r \t or \u with four hexadecimal digits, surrogates in pairs`)
				return "", false
			}
			escaped = true
			i += n
		case c < ' ':
			d.pos = i
			d.fail(fmt.Sprintf(`a string has the control character %#02x: escape it as \u%04[1]x`, c))
			return "", false
		default:
			ascii = false
			for i < len(d.s) && d.s[i] >= utf8.RuneSelf {
				i++
			}
		}
	}
}

// plain returns how many bytes at the start of s may stand in a JSON string
// without a second look: printable ASCII other than the quote and the backslash.
func plain(s string) int {
	const ones, high = 0x0101010101010101, 0x8080808080808080
	i := 0
	for ; i+8 <= len(s); i += 8 {
		w := s[i : i+8]
		x := uint64(w[0]) | uint64(w[1])<<8 | uint64(w[2])<<16 | uint64(w[3])<<24 |
			uint64(w[4])<<32 | uint64(w[5])<<40 | uint64(w[6])<<48 | uint64(w[7])<<56
		// Each term sets the high bit of the lowest byte that is below a space, a
		// quote, a backslash, or not ASCII; a borrow only disturbs bytes after it.
		if hit := ((x - ' '*ones) | ((x ^ '"'*ones) - ones) | ((x ^ '\\'*ones) - ones) | x) & high; hit != 0 {
			return i + bits.TrailingZeros64(hit)/8
		}
	}
	for ; i < len(s); i++ {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			break
		}
	}
	return i
}

// escape decodes the escape sequence, or the pair of them, at the start of s.
// It returns length 0 when there is none.
func escape(s string) (r rune, length int) {
	if len(s) < 2 {
		return 0, 0
	}
	switch s[1] {
	case '"', '\\', '/':
		return rune(s[1]), 2
	case 'b':
		return '\b', 2
	case 'f':
		return '\f', 2
	case 'n':
		return '\n', 2
	case 'r':
		return '\r', 2
	case 't':
		return '\t', 2
	}
	r, ok := hex4(s)
	switch {
	case !ok:
		return 0, 0
	case r < 0xd800 || r > 0xdfff:
		return r, 6
	}
	low, ok := hex4(s[6:])
	if !ok || r > 0xdbff || low < 0xdc00 || low > 0xdfff {
		return 0, 0
	}
	return 0x10000 + (r-0xd800)<<10 + (low - 0xdc00), 12
}

// hex4 reads \uXXXX at the start of s.
func hex4(s string) (r rune, ok bool) {
	if len(s) < 6 || s[0] != '\\' || s[1] != 'u' {
		return 0, false
	}
	for _, c := range []byte(s[2:6]) {
		switch {
		case isDigit(c):
			c -= '0'
		case 'a' <= c|0x20 && c|0x20 <= 'f':
			c = (c | 0x20) - 'a' + 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}

// unescape resolves the escapes of a string that raw has checked.
func unescape(raw string) string {
	var b strings.Builder
	b.Grow(len(raw))
	for {
		i := strings.IndexByte(raw, '\\')
		if i < 0 {
			b.WriteString(raw)
			return b.String()
		}
		b.WriteString(raw[:i])
		r, n := escape(raw[i:])
		b.WriteRune(r)
		raw = raw[i+n:]
	}
}

// clip shortens what a client sent to what a message may repeat.
func clip(s string) string {
	const most = 64
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "..."
}
