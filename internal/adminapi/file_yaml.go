package adminapi

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

const badIndent = "is indented otherwise than what it belongs to: begin it in the column of its neighbours"

// splitYAML finds the lists of a file. A file up to MaxItem is read as a whole. In a longer file, and in one that is not
// YAML, each item is read by itself, so that a fault in one item does not keep others from being read.
func (f *Loaded) splitYAML(in *reading) {
	if len(f.text) <= MaxItem {
		r := f.yamlReader(in)
		n, begun, err := parse(f.text)
		switch {
		case err == nil && n == nil:
			in.end(position{1, 1}, isEmpty)
			return
		case err == nil:
			f.tree(r, n, make([]int, typeOfMarketplace.NumField()))
			return
		case anchor.Match(f.text): // an anchor may be needed by other items, so they cannot be read by themselves
			in.end(r.syntax(err, f.text, begun))
			return
		}
	}
	f.splitLines(in)
}

// anchor matches the beginning of an anchor, which names the node that follows.
var anchor = regexp.MustCompile(`(?m)(?:^|[\s\[{,])&`)

var errSecond = errors.New("there is a second YAML document: put everything into one")

// parse reads a text that holds one document, or none: then n is nil. begun is how many lines were read. Lines are
// counted from 2, because the library gives no position for what begins in the first line.
func parse(text []byte) (n *yaml.Node, begun int, err error) {
	lines := &lineByLine{text: text}
	d := yaml.NewDecoder(lines)
	var first, second yaml.Node
	if err = d.Decode(&first); errors.Is(err, io.EOF) {
		return nil, lines.begun, nil
	} else if err != nil {
		return nil, lines.begun, err
	}
	if err = d.Decode(&second); errors.Is(err, io.EOF) {
		return first.Content[0], lines.begun, nil
	} else if err == nil {
		err = errSecond
	}
	return nil, lines.begun, err
}

// tree notes the lists of a marketplace, or of a part of its members, that was read as a whole. It reads other values at
// once.
func (f *Loaded) tree(r *yamlReader, n *yaml.Node, seen []int) {
	r.list = func(n *yaml.Node, at position) {
		f.lists[r.path[0].name] = span{at: at, from: at.line, node: n, base: r.base, aliased: r.inAlias > 0}
	}
	m := reflect.New(typeOfMarketplace).Elem()
	switch {
	case n.Kind == yaml.MappingNode && n.Style&yaml.TaggedStyle == 0:
		_ = r.object(n, m, seen)
	case n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null":
		r.end(position{1, 1}, isEmpty)
	default:
		_ = r.value(n, r.at(n), m, false)
	}
}

// readTree reads the items of a list that was read as a whole.
func (f *Loaded) readTree(list span, items itemReader) {
	r := f.yamlReader(items.reading)
	r.base = list.base
	if list.aliased {
		r.inAlias = 1
	}
	for i, n := range list.node.Content {
		if !items.item(i, func(v reflect.Value) { _ = r.value(n, r.at(n), v, true) }, func() bool { return !r.enough }) {
			return
		}
	}
}

// line is a line of a YAML file.
type line struct {
	from, to int // offsets in the text
	number   int // counted from 1
	indent   int
	text     []byte // without the indentation and the line end
}

// hyphen reports whether the line begins an item of a list.
func (l *line) hyphen() bool {
	return bytes.HasPrefix(l.text, []byte("-")) && (len(l.text) == 1 || l.text[1] == ' ' || l.text[1] == '\t')
}

// marks reports whether the line begins with mark, "---" or "...", which begins or ends a document.
func (l *line) marks(mark string) bool {
	rest, ok := bytes.CutPrefix(l.text, []byte(mark))
	return ok && l.indent == 0 && (len(rest) == 0 || rest[0] == ' ' || rest[0] == '\t')
}

// linesOf returns the lines of a part of the text that are neither empty nor comments. number is that of the first line
// of the part.
func (f *Loaded) linesOf(from, to, number int) func(yield func(line) bool) {
	return func(yield func(line) bool) {
		for ; from < to; number++ {
			l := line{from: from, to: to, number: number}
			if n := bytes.IndexByte(f.text[from:to], '\n'); n >= 0 {
				l.to = from + n + 1
			}
			from = l.to
			l.text = bytes.TrimLeft(f.text[l.from:l.to], " ")
			l.indent = l.to - l.from - len(l.text)
			l.text = bytes.TrimRight(l.text, " \t\r\n")
			if content := bytes.TrimLeft(l.text, "\t\r"); len(content) > 0 && content[0] != '#' && !yield(l) {
				return
			}
		}
	}
}

// splitLines finds the lists of a file whose members begin lines.
func (f *Loaded) splitLines(in *reading) {
	seen := make([]int, typeOfMarketplace.NumField())
	var begun, ended, empty = false, false, true
	var member line // the first line of the current member; its number is 0 before the first member
	close := func(to int) {
		if member.number != 0 {
			f.splitChunk(in, member, to, seen)
		}
		member = line{}
	}
	for l := range f.linesOf(0, len(f.text), 1) {
		switch {
		case !begun && l.indent == 0 && l.text[0] == '%':
			continue
		case l.marks("..."):
			close(l.from)
			ended = true
			continue
		case ended || begun && l.marks("---"):
			close(l.from)
			in.end(position{l.number, 1}, "%s", errSecond)
			return
		case l.marks("---") && len(l.text) == len("---"):
		case member.number == 0, l.indent == 0 && !l.hyphen() && bytes.IndexByte([]byte("{}[],"), l.text[0]) < 0:
			close(l.from)
			member, empty = l, false
		}
		begun = true
	}
	if empty {
		in.end(position{1, 1}, isEmpty)
	}
	close(len(f.text))
}

// listKey matches the line of a member whose value is in the lines that follow.
var listKey = regexp.MustCompile(`^(?:"([a-zA-Z0-9_]+)"|'([a-zA-Z0-9_]+)'|([a-zA-Z0-9_]+))[ \t]*:(?:[ \t]+#.*)?$`)

// splitChunk notes where the list of the member is that begins in the line l. It reads a member without a list as a
// whole.
func (f *Loaded) splitChunk(in *reading, l line, to int, seen []int) {
	if name := bytes.Join(listKey.FindSubmatch(l.text)[min(1, len(listKey.FindSubmatch(l.text))):], nil); len(name) > 0 && l.indent == 0 {
		for first := range f.linesOf(l.to, to, l.number+1) {
			if !first.hyphen() {
				break
			}
			at := position{l.number, 1}
			if in.member(at, string(name), typeOfMarketplace, seen) >= 0 {
				f.lists[string(name)] = span{at: at, from: l.to, to: to, line: l.number + 1, indent: first.indent}
			}
			return
		}
	}
	if to-l.from > MaxItem {
		in.end(position{l.number, 1}, "is longer than 1 MiB in one piece: write the items of lists in lines of their own, each behind a hyphen, or the file as JSON")
		return
	}
	r := f.yamlReader(in)
	r.base += l.number - 1
	switch n, begun, err := parse(f.text[l.from:to]); {
	case err != nil:
		in.end(r.syntax(err, f.text[l.from:to], begun))
	case n != nil:
		f.tree(r, n, seen)
	}
}

// readLines reads the items of a list, each of which begins in a line of its own. An item that is not YAML is left
// empty.
func (f *Loaded) readLines(list span, items itemReader) {
	var item line
	i := 0
	read := func(to int) bool {
		i++
		return items.item(i-1, func(v reflect.Value) { f.readItem(items.reading, item, f.text[item.from:to], v) }, func() bool { return true })
	}
	for l := range f.linesOf(list.from, list.to, list.line) {
		if !l.hyphen() || l.indent != list.indent {
			continue
		}
		if item.number != 0 && !read(l.from) {
			return
		}
		item = l
	}
	read(list.to)
}

// readItem reads the item that begins in a line.
func (f *Loaded) readItem(in *reading, l line, text []byte, v reflect.Value) {
	if len(text) > MaxItem {
		in.fault(position{l.number, l.indent + 1}, tooLong)
		return
	}
	r := f.yamlReader(in)
	r.base += l.number - 1
	n, begun, err := parse(text)
	switch {
	case err != nil:
		at, format, problem := r.syntax(err, text, begun)
		in.fault(at, format, problem)
	case n.Kind != yaml.SequenceNode || len(n.Content) != 1:
		in.fault(position{l.number, l.indent + 1}, badIndent)
	default:
		_ = r.value(n.Content[0], r.at(n.Content[0]), v, true)
	}
}

// yamlReader reads a tree of YAML.
type yamlReader struct {
	*reading
	base             int                             // how many lines are before the tree, less the one that parse adds
	list             func(n *yaml.Node, at position) // if not nil, notes the lists of the marketplace, which are then not read
	inAlias, aliased int                             // inAlias: how many aliases the value is in; aliased: how many values were read in aliases
	alias            position                        // the position of the outermost alias
	most             int                             // the bound of aliased: a few lines of aliases of aliases can stand for any number of values
	enough           bool                            // aliased has passed the bound
	merging          int                             // how many nested merge keys the members come from
	long             bool                            // the file is longer than MaxItem: items are read one by one
}

func (f *Loaded) yamlReader(in *reading) *yamlReader {
	return &yamlReader{reading: in, base: -1, most: 1000 + len(f.text)/8, long: len(f.text) > MaxItem}
}

// at returns where a node begins.
func (r *yamlReader) at(n *yaml.Node) position { return position{r.base + n.Line, n.Column} }

// syntax puts an error of the parser into words. If a mapping or sequence is not as the parser expects it, the error
// names the line where that begins, which does not help: syntax gives the line up to which the parser had read.
func (r *yamlReader) syntax(err error, text []byte, begun int) (at position, format, problem string) {
	problem = strings.TrimPrefix(err.Error(), "yaml: ")
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
			line = 2 + bytes.Count(text[:at], []byte("\n"))
		}
		if r.long {
			return position{max(r.base+line, 1), 0}, "%s", "an alias can only name an anchor of its own item in a file of more than 1 MiB: write out what *" + name + " stands for"
		}
	}
	switch problem {
	case errSecond.Error():
	case "did not find expected key", "did not find expected '-' indicator":
		problem = badIndent
	case "mapping values are not allowed in this context":
		problem = "has a colon where none can be: put a text with a colon into quotes, and look at the indentation and at the line before"
	case "found character that cannot start any token":
		problem = "has a character that nothing can begin with: indent with spaces, not tabs, and put a text that begins with @ or ` into quotes"
	case "could not find expected ':'":
		problem = "has no colon between name and value"
	default:
		problem = "this is not YAML: " + problem
	}
	return position{max(r.base+line, 1), 0}, "%s", strings.ReplaceAll(problem, "\n", " ")
}

// lineByLine gives the parser an empty line and then at most one line at a time, and so knows how far the parser has
// read.
type lineByLine struct {
	text  []byte
	begun int // how many lines the parser has begun to read
	mid   bool
}

func (l *lineByLine) Read(b []byte) (int, error) {
	switch {
	case l.begun == 0:
		l.begun++
		return copy(b, "\n"), nil
	case len(l.text) == 0:
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

// value reads the value n into v. at is the position of the value's name or, without a name, of the value.
func (r *yamlReader) value(n *yaml.Node, at position, v reflect.Value, item bool) error {
	r.found(at)
	if n.Kind == yaml.AliasNode {
		if r.inAlias == 0 {
			r.alias = at
		}
		n = n.Alias
		r.inAlias++
		defer func() { r.inAlias-- }()
	}
	if r.inAlias > 0 {
		if r.aliased++; r.aliased > r.most {
			if !r.enough {
				r.end(r.alias, "aliases stand for more than %d values, which is too much for a file of this length: write them out", r.most)
			}
			r.enough = true
			return errStop
		}
	}
	if n.Style&yaml.TaggedStyle != 0 && !slices.Contains(tags, n.Tag) {
		r.fault(at, "has the tag %.80s, which means nothing in a marketplace: leave the tag out", n.Tag)
		return nil
	}
	if n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" {
		switch {
		case item:
			r.fault(at, "the item is empty: write it, or leave out its hyphen")
		case n.Value == "" && len(r.path) > 0:
			r.fault(at, "is empty: write its value, or leave the line out")
		}
		return nil // as if the value were left out
	}
	if v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		v = v.Elem()
	}
	switch {
	case n.Kind == yaml.MappingNode && v.Kind() == reflect.Struct && v.Type() != typeOfTime:
		return r.object(n, v, make([]int, v.NumField()))
	case n.Kind == yaml.SequenceNode && v.Kind() == reflect.Slice:
		return r.items(n, at, v)
	case n.Kind == yaml.ScalarNode && r.scalar(n, v):
	case n.Kind == yaml.ScalarNode:
		r.fault(at, "must be %s, not %.80q", kindOf(v.Type()), n.Value)
	case n.Kind == yaml.MappingNode:
		r.fault(at, "must be %s, not an object", kindOf(v.Type()))
	default:
		r.fault(at, "must be %s, not a list", kindOf(v.Type()))
	}
	return nil
}

// tags are YAML's own tags that values of a marketplace may have.
var tags = []string{"!!str", "!!int", "!!float", "!!bool", "!!null", "!!timestamp", "!!seq", "!!map"}

// scalar sets v to the node's value, and reports whether the value is of v's type. A text may be written without quotes
// even if YAML would take it for something else: an account id is no number.
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

// object reads the members of a mapping that were not seen yet. Members of the mapping itself take precedence over those
// that it merges in.
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
			r.fault(r.at(n.Content[i]), "the name of a member must be a text")
			continue
		}
		at := r.member(r.at(key), key.Value, v.Type(), own)
		if at < 0 || r.merging > 0 && seen[at] != 0 {
			continue
		}
		seen[at] = r.base + key.Line
		r.enter(key.Value, 0)
		err := r.value(value, r.at(key), v.Field(at), false)
		r.leave()
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

// merge reads the members of the mapping, or of each of the mappings, that a merge key names. It leaves out members that
// were seen before.
func (r *yamlReader) merge(n *yaml.Node, v reflect.Value, seen []int) error {
	at := r.at(n)
	if n.Kind == yaml.AliasNode {
		if r.inAlias == 0 {
			r.alias = at
		}
		n = n.Alias
		r.inAlias++
		defer func() { r.inAlias-- }()
	}
	r.merging++
	defer func() { r.merging-- }()
	switch {
	case r.merging > 10:
		return r.stop(at, "merge keys are nested too deep: write the members out")
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
	r.fault(at, "<< must name an object, or a list of them")
	return nil
}

func (r *yamlReader) items(n *yaml.Node, at position, v reflect.Value) error {
	if r.list != nil && len(r.path) == 1 {
		r.list(n, at)
		return nil
	}
	v.Set(reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content)))
	for i, item := range n.Content {
		r.enter("", i)
		err := r.value(item, r.at(item), v.Index(i), true)
		r.leave()
		if err != nil {
			return err
		}
	}
	return nil
}
