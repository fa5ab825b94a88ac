package adminapi_test

import (
	"errors"

	"io"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/meterd/meterd/internal/adminapi"
)

// TestFaults: all faults of a file are told at once, each with its line and its place.
func TestFaults(t *testing.T) {
	for _, test := range []struct {
		name string
		form adminapi.Form
		text string
		want []string
	}{
		{"several, YAML", adminapi.YAML, `sellers:
- account_id: "111122223333"
  nmae: Acme
-
products:
- {product_code: p, type: [saas], dimensions: users}
buyers:
- account_id: "444455556666"
  suspended: perhaps
  agreements:
  - product_code: p
    start_time: yesterday
    product_code: q
  - product_code: p
    end_time: 2026-13-01
    agreement_id:
users: metering
`, []string{
			`line 3, column 3: sellers[0]: there is no member "nmae" here: the members are account_id, name`,
			`line 4, column 2: sellers[1]: the item is empty: write it, or leave out its hyphen`,
			`line 6, column 21: products[0].type: must be a text, not a list`,
			`line 6, column 35: products[0].dimensions: must be a list, not "users"`,
			`line 9, column 3: buyers[0].suspended: must be true or false, not "perhaps"`,
			`line 12, column 5: buyers[0].agreements[0].start_time: must be a time such as 2026-11-23T14:00:00Z, not "yesterday"`,
			`line 13, column 5: buyers[0].agreements[0]: product_code is given twice, first on line 11: leave one of them out`,
			`line 15, column 5: buyers[0].agreements[1].end_time: must be a time such as 2026-11-23T14:00:00Z, not "2026-13-01"`,
			`line 16, column 5: buyers[0].agreements[1].agreement_id: is empty: write its value, or leave the line out`,
			`line 17, column 1: users: must be a list, not "metering"`,
		}},
		{"several, JSON", adminapi.JSON, `{"sellers": [
 {"account_id": 111122223333, "nmae": {"a": [1, {}]}},
 null],
"products": [{"product_code": "p", "type": ["saas", {"x": 1}],
  "dimensions": "users"}],
"buyers": [{"account_id": "444455556666", "suspended": "yes",
  "agreements": [{"product_code": "p",
    "start_time": "yesterday",
    "product_code": "q", "end_time": 12}]}],
"products": [{"no": "matter"}], "roles": null,
"users": true}
`, []string{
			`line 2, column 17: sellers[0].account_id: must be a text, not the number 111122223333: put it in quotes`,
			`line 2, column 31: sellers[0]: there is no member "nmae" here: the members are account_id, name`,
			`line 3, column 2: sellers[1]: is null: write the item, or leave it out`,
			`line 4, column 44: products[0].type: must be a text, not a list`,
			`line 5, column 17: products[0].dimensions: must be a list, not "users"`,
			`line 6, column 56: buyers[0].suspended: must be true or false, not "yes"`,
			`line 8, column 19: buyers[0].agreements[0].start_time: must be a time such as 2026-11-23T14:00:00Z, not "yesterday"`,
			`line 9, column 5: buyers[0].agreements[0]: product_code is given twice, first on line 7: leave one of them out`,
			`line 9, column 38: buyers[0].agreements[0].end_time: must be a time such as 2026-11-23T14:00:00Z, not 12`,
			`line 10, column 1: products is given twice, first on line 4: leave one of them out`,
			`line 11, column 10: users: must be a list, not true`,
		}},
		{"an empty list, YAML", adminapi.YAML, "sellers:\nbuyers: null\nproducts: ~\nroles: []\n", []string{`line 1, column 1: sellers: is empty: write its value, or leave the line out`}},
		{"indented too little", adminapi.YAML, "sellers:\n  - account_id: \"1\"\n    name: Acme\n   x: y\n", []string{`line 4: sellers[0]: is indented otherwise than what it belongs to: begin it in the column of its neighbours`}},
		{"indented too much", adminapi.YAML, "sellers:\n  - account_id: \"1\"\n     name: Acme\n  - account_id: \"2\"\n", []string{`line 3: sellers[0]: is indented otherwise than what it belongs to: begin it in the column of its neighbours`}},
		{"out of its list", adminapi.YAML, "sellers:\n  - account_id: \"1\"\n  name: Acme\nbuyers: []\n", []string{`line 3: sellers[0]: is indented otherwise than what it belongs to: begin it in the column of its neighbours`}},
		{"a tab", adminapi.YAML, "sellers:\n- account_id: \"1\"\n\tname: Acme\n", []string{"line 3: has a character that nothing can begin with: indent with spaces, not tabs, and put a text that begins with @ or ` into quotes"}},
		{"a colon", adminapi.YAML, "sellers:\n- account_id: \"1\"\n  name: Acme: x\n", []string{`line 3: sellers[0]: has a colon where none can be: put a text with a colon into quotes, and look at the indentation and at the line before`}},
		{"no colon", adminapi.YAML, "sellers:\n- account_id: \"1\"\n  name Acme\n  x: 1\n", []string{`line 3: sellers[0]: has no colon between name and value`}},
		{"no anchor", adminapi.YAML, "sellers:\n- account_id: *nowhere\n  name: Acme\n", []string{`line 2: sellers[0]: this is not YAML: unknown anchor 'nowhere' referenced`}},
		{"an open quote", adminapi.YAML, "sellers:\n- account_id: \"1\n  name: Acme\n", []string{`line 2: sellers[0]: this is not YAML: found unexpected end of stream`}},
		{"a second document", adminapi.YAML, "sellers: []\n---\nbuyers: []\n", []string{`line 2, column 1: there is a second YAML document: put everything into one`}},
		{"a list", adminapi.YAML, "- account_id: \"1\"\n", []string{`line 1, column 1: must be an object with members, not a list`}},
		{"a merge key of a text", adminapi.YAML, "sellers:\n- <<: x\n  account_id: \"1\"\n", []string{`line 2, column 7: sellers[0]: << must name an object, or a list of them`}},
		{"endless merge keys", adminapi.YAML, "sellers:\n- &a\n  <<: *a\n  account_id: \"1\"\n", []string{`line 3, column 7: sellers[0]: merge keys are nested too deep: write the members out`}},
		{"a comma missing", adminapi.JSON, "{\"sellers\": []\n\n \"buyers\": []}", []string{`line 3, column 2: this is not JSON: invalid character '"' after object key:value pair`}},
		{"an open bracket", adminapi.JSON, "{\"sellers\": [\n{\"account_id\": \"1\"}\n", []string{`line 3, column 1: the JSON ends too early: a bracket or brace is not closed`}},
		{"nothing", adminapi.JSON, "", []string{`line 1, column 1: the file is empty: write a marketplace, such as {"sellers": [{"account_id": "111122223333"}]}`}},
		{"something behind", adminapi.JSON, "{}\n\n{}", []string{`line 3, column 1: there is something behind the marketplace's closing brace: send one JSON object`}},
		{"a literal that is none", adminapi.JSON, "{\"sellers\":\n [tru]}", []string{`line 2, column 3: sellers[0]: this is not JSON: invalid character ']' in literal true (expecting 'e')`}},
		{"each item that is not JSON", adminapi.JSON, "{\"sellers\": [\n{\"account_id\": \"1\" \"name\": \"x\"},\n{\"account_id\": \"2},\n{\"account_id\": \"3\", \"name\": tru},\n{\"account_id\": \"4\"\n],\n\"buyers\": [{\"nmae\": 1} {\"account_id\": 5}]}", []string{
			`line 2, column 20: sellers[0]: this is not JSON: invalid character '"' after object key:value pair`,
			`line 3, column 16: sellers[1]: this is not JSON: invalid character '\n' in string literal`,
			`line 4, column 29: sellers[2]: this is not JSON: invalid character '}' in literal true (expecting 'e')`,
			`line 6, column 1: sellers[3]: this is not JSON: invalid character ']' after object key:value pair`,
			`line 7, column 13: buyers[0]: there is no member "nmae" here: the members are account_id, name, suspended, customer_identifiers, agreements`,
			`line 7, column 24: this is not JSON: invalid character '{' after array element`,
			`line 7, column 39: buyers[1].account_id: must be a text, not the number 5: put it in quotes`,
		}},
		{"each item that is not YAML", adminapi.YAML, "sellers:\n- account_id: \"1\n- account_id: \"2\"\n   name: x\n- {account_id: \"3\"\n- nmae: 4\nbuyers: [}\nusers: 5\nroles:\n  - account_id: [\n", []string{
			`line 2: sellers[0]: this is not YAML: found unexpected end of stream`,
			`line 4: sellers[1]: is indented otherwise than what it belongs to: begin it in the column of its neighbours`,
			`line 5: sellers[2]: this is not YAML: did not find expected ',' or '}'`,
			`line 6, column 3: sellers[3]: there is no member "nmae" here: the members are account_id, name`,
			`line 7: this is not YAML: did not find expected node content`,
			`line 8, column 1: users: must be a list, not "5"`,
			`line 10: roles[0]: this is not YAML: did not find expected node content`,
		}},
		{"nothing, YAML", adminapi.YAML, "", []string{`line 1, column 1: the file is empty: write a marketplace, such as {"sellers": [{"account_id": "111122223333"}]}`}},
		{"nothing but a comment", adminapi.YAML, "# nothing\n", []string{`line 1, column 1: the file is empty: write a marketplace, such as {"sellers": [{"account_id": "111122223333"}]}`}},
		{"nothing but a mark", adminapi.YAML, "---\n", []string{`line 1, column 1: the file is empty: write a marketplace, such as {"sellers": [{"account_id": "111122223333"}]}`}},
		{"null, YAML", adminapi.YAML, "null\n", []string{`line 1, column 1: the file is empty: write a marketplace, such as {"sellers": [{"account_id": "111122223333"}]}`}},
		{"blanks", adminapi.JSON, " \n", []string{`line 2, column 1: the file is empty: write a marketplace, such as {"sellers": [{"account_id": "111122223333"}]}`}},
		{"null", adminapi.JSON, "null", []string{`line 1, column 1: the file is empty: write a marketplace, such as {"sellers": [{"account_id": "111122223333"}]}`}},
		{"tags", adminapi.YAML, "sellers:\n- !!python/object:os.system {account_id: \"1\"}\n- account_id: !secret \"2\"\n  name: !!binary aGk=\n- !!map {account_id: !!str 3, name: !!int x}\n", []string{
			`line 2, column 3: sellers[0]: has the tag !!python/object:os.system, which means nothing in a marketplace: leave the tag out`,
			`line 3, column 3: sellers[1].account_id: has the tag !secret, which means nothing in a marketplace: leave the tag out`,
			`line 4, column 3: sellers[1].name: has the tag !!binary, which means nothing in a marketplace: leave the tag out`,
		}},
		{"a tag of the whole", adminapi.YAML, "!marketplace\nsellers: []\n", []string{`line 1, column 1: has the tag !marketplace, which means nothing in a marketplace: leave the tag out`}},
		{"documents behind an end", adminapi.YAML, "sellers: []\n...\nbuyers: []\n", []string{`line 3, column 1: there is a second YAML document: put everything into one`}},
		{"a bomb", adminapi.YAML, "sellers:\n- name: &a [x,x,x,x,x,x,x,x,x,x]\n- name: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\n- name: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\nbuyers:\n- agreements: &d [{},{},{},{},{},{},{},{},{},{}]\n" + strings.Repeat("- agreements: *d\n", 200), []string{
			`line 2, column 3: sellers[0].name: must be a text, not a list`,
			`line 3, column 3: sellers[1].name: must be a text, not a list`,
			`line 4, column 3: sellers[2].name: must be a text, not a list`,
			`line 138, column 3: aliases stand for more than 1448 values, which is too much for a file of this length: write them out`,
		}},
		{"other case", adminapi.JSON, `{"Sellers": []}`, []string{`line 1, column 2: there is no member "Sellers" here: the members are regions, sellers, products, buyers, agreements, users, roles, workloads, tokens`}},
	} {
		_, err := read(test.form, test.text)
		var faults adminapi.Faults
		if !errors.As(err, &faults) {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		var got []string
		for _, f := range faults {
			got = append(got, f.String())
		}
		if d := cmp.Diff(test.want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, d)
		}
	}
}

// TestManyFaults: of a file that is wrong all over some are told, and how many more there are.
func TestManyFaults(t *testing.T) {
	for n, more := range map[int]string{100: "", 101: "; … and 1 more", 1100: "; … and 1000 more", 20_000: "; … and 9900 or more"} {
		_, err := read(adminapi.JSON, `{"sellers":[0`+strings.Repeat(",0", n-1)+"]}")
		var faults adminapi.Faults
		if !errors.As(err, &faults) || len(faults) != min(n, adminapi.MaxFaults) || !strings.HasSuffix(err.Error(), "sellers[99]: must be an object with members, not 0"+more) {
			t.Errorf("%d faults of %d: …%s", len(faults), n, err.Error()[max(0, len(err.Error())-100):])
		}
	}
	text := "x: &a [1,2,3,4,5,6,7,8,9,10]\n" // aliases of aliases: 10⁷ values in a few lines
	for _, name := range []string{"b", "c", "d", "e", "f", "g"} {
		before := string(name[0] - 1)
		text += name + ": &" + name + " [" + strings.Repeat("*"+before+",", 10) + "]\n"
	}
	if _, err := read(adminapi.YAML, (text)); err == nil {
		t.Error("aliases of aliases were taken")
	}
	text = "agreements: &a\n" + strings.Repeat("- {product_code: p}\n", 2000) + "buyers:\n" + strings.Repeat("- {account_id: \"1\", agreements: *a}\n", 1000)
	if _, err := read(adminapi.YAML, (text)); err == nil || !strings.Contains(err.Error(), "line 2005, column 21: aliases stand for more than 10502 values") {
		t.Errorf("aliases that stand for 4 million values: %v", err)
	}
}

// TestMerge: merge keys and aliases stand for what they name; a member of the object itself goes before.
func TestMerge(t *testing.T) {
	got, err := read(adminapi.YAML, (`
products:
- &saas {seller_account_id: "111122223333", type: saas, dimensions: [users]}
- {<<: *saas, product_code: p, dimensions: [gb]}
- {<<: [{title: T, type: ami}, *saas], product_code: q}
`))
	if err != nil {
		t.Fatal(err)
	}
	want := []adminapi.Product{
		{SellerAccountID: "111122223333", Type: "saas", Dimensions: []string{"users"}},
		{SellerAccountID: "111122223333", Type: "saas", Dimensions: []string{"gb"}, ProductCode: "p"},
		{SellerAccountID: "111122223333", Type: "ami", Dimensions: []string{"users"}, ProductCode: "q", Title: "T"},
	}
	if d := cmp.Diff(want, got.Products); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
}

// TestLocate: the lines of places, and of what a missing value is missing in.
func TestLocate(t *testing.T) {
	for form, text := range map[adminapi.Form]string{
		adminapi.YAML: "sellers:\n- account_id: \"1\"\n- name: x\nbuyers:\n- account_id: \"2\"\n  agreements:\n  - {}\n  - product_code: p\n    license_arn: x\n",
		adminapi.JSON: "{\"sellers\":\n[{\"account_id\": \"1\"},\n{\"name\": \"x\"}\n],\"buyers\":[\n{\n\"agreements\":[{},\n{\n\"license_arn\":\"x\"}]}]}",
	} {
		faults := adminapi.Faults{{Place: "buyers[0].agreements[1].license_arn"}, {Place: "sellers[1].account_id"}, {Place: "elsewhere"}, {Place: "sellers"}}
		f, _, err := adminapi.Load(form, strings.NewReader(text), 0)
		if err != nil {
			t.Fatal(err)
		}
		f.Locate(faults)
		want := adminapi.Faults{{Place: "elsewhere"}, {Line: 1, Column: 1, Place: "sellers"}, {Line: 3, Column: 3, Place: "sellers[1].account_id"}, {Line: 9, Column: 5, Place: "buyers[0].agreements[1].license_arn"}}
		if form == adminapi.JSON {
			want[1].Line, want[2].Column, want[3].Line, want[3].Column = 2, 1, 8, 15
		}
		if d := cmp.Diff(want, faults); d != "" {
			t.Errorf("%s (-want +got):\n%s", form, d)
		}
	}
}

// TestMemory: what is held while a file is read and gone through is little more than its text, whatever is in it.
func TestMemory(t *testing.T) {
	const length = 2 << 20
	for _, test := range []struct {
		name                 string
		form                 adminapi.Form
		before, item, behind string
		items                int // for each
	}{
		{"empty buyers", adminapi.JSON, `{"buyers":[`, `{}`, `]}`, 1},
		{"agreements", adminapi.JSON, `{"agreements":[`, `{"product_code":"p"}`, `]}`, 1},
		{"buyers with agreements", adminapi.JSON, `{"buyers":[`, `{"account_id":"000000000001","agreements":[{"product_code":"p"}]}`, `]}`, 1},
		{"dimensions", adminapi.JSON, `{"products":[{"dimensions":[`, `"a"`, `]}]}`, 0},
		{"agreements", adminapi.YAML, "agreements:\n", "- product_code: p\n", "", 1},
		{"buyers with agreements", adminapi.YAML, "buyers:\n", "- account_id: '000000000001'\n  agreements:\n  - product_code: p\n", "", 1},
		{"in brackets", adminapi.YAML, "agreements: [", "{product_code: p},\n", "]", 0},
	} {
		n := length / (len(test.item) + 1)
		text := test.before + strings.Repeat(test.item, n) + test.behind
		if test.form == adminapi.JSON {
			text = test.before + strings.Repeat(test.item+",", n) + test.item + test.behind
			n++
		}
		held := &scales{r: strings.NewReader(text)}
		held.weigh()
		f, faults, err := adminapi.Load(test.form, held, int64(len(text)))
		if err != nil || len(faults) > 1 {
			t.Fatalf("%s, %s: %d faults, %v", test.name, test.form, len(faults), err)
		}
		if test.items == 0 && (len(faults) != 1 || !strings.Contains(faults[0].Detail, "longer than 1 MiB")) {
			t.Errorf("%s, %s: %v", test.name, test.form, faults)
		}
		found := 0
		for _, list := range []string{"buyers", "agreements"} {
			f.Each(list, func(int, any) bool {
				if found++; found%(n/8) == 0 {
					held.weigh()
				}
				return true
			})
		}
		if found != n*test.items {
			t.Errorf("%s, %s: %d items of %d", test.name, test.form, found, n)
		}
		if most := uint64(len(text)*5/4 + 1<<20); held.most-held.least > most {
			t.Errorf("%s, %s: %d bytes are held of a file of %d", test.name, test.form, held.most-held.least, len(text))
		}
		runtime.KeepAlive(f)
	}
}

// scales weigh what is held in memory, also each time that a megabyte has been read from r.
type scales struct {
	r           io.Reader
	n           int
	least, most uint64
}

func (s *scales) weigh() {
	var stats runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&stats)
	if s.least == 0 {
		s.least = stats.HeapAlloc
	}
	s.most = max(s.most, stats.HeapAlloc)
}

func (s *scales) Read(b []byte) (int, error) {
	const step = 1 << 20
	n, err := s.r.Read(b[:min(len(b), step)])
	if s.n += n; s.n/step != (s.n-n)/step {
		s.weigh()
	}
	return n, err
}

// read reads a whole marketplace from a text. An error is [adminapi.Faults].
func read(form adminapi.Form, text string) (*adminapi.Marketplace, error) {
	f, faults, err := adminapi.Load(form, strings.NewReader(text), int64(len(text)))
	if err != nil {
		return nil, err
	}
	if len(faults) > 0 {
		return nil, faults
	}
	return collect(f), nil
}

// collect gathers the items of a file.
func collect(f *adminapi.Loaded) *adminapi.Marketplace {
	m := &adminapi.Marketplace{}
	lists := reflect.ValueOf(m).Elem()
	for i := range lists.NumField() {
		name, _, _ := strings.Cut(lists.Type().Field(i).Tag.Get("json"), ",")
		f.Each(name, func(_ int, item any) bool {
			lists.Field(i).Set(reflect.Append(lists.Field(i), reflect.ValueOf(item).Elem()))
			return true
		})
	}
	return m
}
