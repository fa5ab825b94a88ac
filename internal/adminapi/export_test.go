package adminapi

import "strings"

// LoadLines loads a YAML file item by item, as one that is too long to be read as a whole.
func LoadLines(text string) (*Loaded, Faults) {
	f := &Loaded{form: YAML, text: []byte(strings.TrimPrefix(text, "\xef\xbb\xbf")), lists: map[string]span{}}
	in := newReading()
	f.splitLines(in)
	f.look(in)
	return f, in.faults
}
