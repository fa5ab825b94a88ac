package adminapi

import (
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestVerbs: what each verb takes fits its path, and can be sent.
func TestVerbs(t *testing.T) {
	all := Verbs()
	if len(all) < 50 {
		t.Errorf("there are only %d verbs", len(all))
	}
	texts := []reflect.Type{reflect.TypeFor[string](), reflect.TypeFor[int](), reflect.TypeFor[int32](), reflect.TypeFor[time.Time](), reflect.TypeFor[[]string](), reflect.TypeFor[bool]()}
	for i, v := range all {
		name := v.Name()
		if i > 0 && name == all[i-1].Name() {
			t.Errorf("%s is declared twice", name)
		}
		if v.Summary == "" || strings.HasSuffix(v.Summary, ".") || v.Status < 200 || v.Status > 299 {
			t.Errorf("%s: summary %q, status %d", name, v.Summary, v.Status)
		}
		inPath, named := []string{}, []string{}
		for _, parameter := range regexp.MustCompile(`\{(.*?)\}`).FindAllStringSubmatch(v.Path, -1) {
			inPath = append(inPath, parameter[1])
		}
		for _, m := range append(v.members("path"), v.members("query")...) {
			if !slices.Contains(texts, m.field.Type) {
				t.Errorf("%s: parameter %s is a %s, which cannot be sent", name, m.name, m.field.Type)
			}
		}
		for _, m := range v.members("path") {
			named = append(named, m.name)
			if v.hasBody() && m.field.Tag.Get("json") != "-" {
				t.Errorf("%s: parameter %s, beside a body, must have json:\"-\"", name, m.name)
			}
		}
		slices.Sort(inPath)
		slices.Sort(named)
		if !slices.Equal(inPath, named) {
			t.Errorf("%s has the parameters %q, and takes %q", name, inPath, named)
		}
		if v.hasBody() && (len(v.members("query")) > 0 || v.Method == "GET" || v.Method == "DELETE") {
			t.Errorf("%s has a body", name)
		}
	}
}
