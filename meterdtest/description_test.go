package meterdtest

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/meterd/meterd/internal/sandbox"
)

// TestDescription: the shapes that are declared here, so that go doc shows them, are those of the sandbox.
func TestDescription(t *testing.T) {
	if d := cmp.Diff(shape(reflect.TypeFor[sandbox.Description](), ""), shape(reflect.TypeFor[Description](), "")); d != "" {
		t.Errorf("-sandbox +meterdtest:\n%s", d)
	}
}

// shape lists a type's fields, and those of the structs in it.
func shape(t reflect.Type, at string) string {
	switch t.Kind() {
	case reflect.Slice:
		return shape(t.Elem(), at+"[]")
	case reflect.Struct:
		var b strings.Builder
		for i := range t.NumField() {
			f := t.Field(i)
			b.WriteString(shape(f.Type, fmt.Sprintf("%s.%s %q %v", at, f.Name, f.Tag, f.Anonymous)))
		}
		return b.String()
	}
	return at + " " + t.Kind().String() + "\n"
}
