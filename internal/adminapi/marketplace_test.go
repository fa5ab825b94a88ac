package adminapi_test

import (
	"errors"
	"io"
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
			`line 3: sellers[0]: there is no member "nmae" here: the members are account_id, name`,
			`line 4: sellers[1]: the item is empty: write it, or leave out its hyphen`,
			`line 6: products[0].type: must be a text, not a list`,
			`line 6: products[0].dimensions: must be a list, not "users"`,
			`line 9: buyers[0].suspended: must be true or false, not "perhaps"`,
			`line 12: buyers[0].agreements[0].start_time: must be a time such as 2026-11-23T14:00:00Z, not "yesterday"`,
			`line 13: buyers[0].agreements[0]: product_code is given twice, first on line 11: leave one of them out`,
			`line 15: buyers[0].agreements[1].end_time: must be a time such as 2026-11-23T14:00:00Z, not "2026-13-01"`,
			`line 16: buyers[0].agreements[1].agreement_id: is empty: write its value, or leave the line out`,
			`line 17: users: must be a list, not "metering"`,
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
			`line 2: sellers[0].account_id: must be a text, not the number 111122223333: put it in quotes`,
			`line 2: sellers[0]: there is no member "nmae" here: the members are account_id, name`,
			`line 3: sellers[1]: is null: write the item, or leave it out`,
			`line 4: products[0].type: must be a text, not a list`,
			`line 5: products[0].dimensions: must be a list, not "users"`,
			`line 6: buyers[0].suspended: must be true or false, not "yes"`,
			`line 8: buyers[0].agreements[0].start_time: must be a time such as 2026-11-23T14:00:00Z, not "yesterday"`,
			`line 9: buyers[0].agreements[0]: product_code is given twice, first on line 7: leave one of them out`,
			`line 9: buyers[0].agreements[0].end_time: must be a time such as 2026-11-23T14:00:00Z, not 12`,
			`line 10: products is given twice, first on line 4: leave one of them out`,
			`line 11: users: must be a list, not true`,
		}},
		{"an empty list, YAML", adminapi.YAML, "sellers:\nbuyers: null\nproducts: ~\nroles: []\n", []string{`line 1: sellers: is empty: write its value, or leave the line out`}},
		{"indented too little", adminapi.YAML, "sellers:\n  - account_id: \"1\"\n    name: Acme\n   x: y\n", []string{`line 4: is indented otherwise than what it belongs to: begin it in the column of its neighbours`}},
		{"indented too much", adminapi.YAML, "sellers:\n  - account_id: \"1\"\n     name: Acme\n  - account_id: \"2\"\n", []string{`line 3: is indented otherwise than what it belongs to: begin it in the column of its neighbours`}},
		{"out of its list", adminapi.YAML, "sellers:\n  - account_id: \"1\"\n  name: Acme\nbuyers: []\n", []string{`line 3: is indented otherwise than what it belongs to: begin it in the column of its neighbours`}},
		{"a tab", adminapi.YAML, "sellers:\n- account_id: \"1\"\n\tname: Acme\n", []string{"line 3: has a character that nothing can begin with: indent with spaces, not tabs, and put a text that begins with @ or ` into quotes"}},
		{"a colon", adminapi.YAML, "sellers:\n- account_id: \"1\"\n  name: Acme: x\n", []string{`line 3: has a colon where none can be: put a text with a colon into quotes, and look at the indentation and at the line before`}},
		{"no colon", adminapi.YAML, "sellers:\n- account_id: \"1\"\n  name Acme\n  x: 1\n", []string{`line 3: has no colon between name and value`}},
		{"no anchor", adminapi.YAML, "sellers:\n- account_id: *nowhere\n  name: Acme\n", []string{`line 2: this is not YAML: unknown anchor 'nowhere' referenced`}},
		{"an open quote", adminapi.YAML, "sellers:\n- account_id: \"1\n  name: Acme\n", []string{`line 2: this is not YAML: found unexpected end of stream`}},
		{"a second document", adminapi.YAML, "sellers: []\n---\nbuyers: []\n", []string{`line 2: there is a second YAML document: put everything into one`}},
		{"a list", adminapi.YAML, "- account_id: \"1\"\n", []string{`line 1: must be an object with members, not a list`}},
		{"a merge key of a text", adminapi.YAML, "sellers:\n- <<: x\n  account_id: \"1\"\n", []string{`line 2: sellers[0]: << must name an object, or a list of them`}},
		{"endless merge keys", adminapi.YAML, "sellers:\n- &a\n  <<: *a\n  account_id: \"1\"\n", []string{`line 3: sellers[0]: merge keys are nested too deep: write the members out`}},
		{"a comma missing", adminapi.JSON, "{\"sellers\": []\n\n \"buyers\": []}", []string{`line 3: this is not JSON: invalid character '"' after object key:value pair`}},
		{"an open bracket", adminapi.JSON, "{\"sellers\": [\n{\"account_id\": \"1\"}\n", []string{`line 3: sellers: the JSON ends too early: a bracket or brace is not closed`}},
		{"nothing", adminapi.JSON, "", []string{`line 1: the JSON ends too early: a bracket or brace is not closed`}},
		{"something behind", adminapi.JSON, "{}\n\n{}", []string{`line 3: there is something behind the marketplace's closing brace: send one JSON object`}},
		{"a literal that is none", adminapi.JSON, "{\"sellers\":\n [tru]}", []string{`line 2: sellers: this is not JSON: invalid character ']' in literal true (expecting 'e')`}},
		{"other case", adminapi.JSON, `{"Sellers": []}`, []string{`line 1: there is no member "Sellers" here: the members are regions, sellers, products, buyers, agreements, users, roles, workloads, tokens`}},
	} {
		_, err := adminapi.Read(test.form, strings.NewReader(test.text))
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

// TestManyFaults: a file that is wrong all over is not read to its end.
func TestManyFaults(t *testing.T) {
	_, err := adminapi.Read(adminapi.JSON, strings.NewReader(`{"sellers":[`+strings.Repeat("0,", 1000)+"0]}"))
	if faults := (adminapi.Faults)(nil); !errors.As(err, &faults) || len(faults) != adminapi.MaxFaults {
		t.Errorf("%d faults of %v", len(faults), err)
	}
	text := "x: &a [1,2,3,4,5,6,7,8,9,10]\n" // aliases of aliases: 10⁷ values in a few lines
	for _, name := range []string{"b", "c", "d", "e", "f", "g"} {
		before := string(name[0] - 1)
		text += name + ": &" + name + " [" + strings.Repeat("*"+before+",", 10) + "]\n"
	}
	if _, err := adminapi.Read(adminapi.YAML, strings.NewReader(text)); err == nil {
		t.Error("aliases of aliases were taken")
	}
	text = "agreements: &a\n" + strings.Repeat("- {product_code: p}\n", 2000) + "buyers:\n" + strings.Repeat("- {account_id: \"1\", agreements: *a}\n", 1000)
	if _, err := adminapi.Read(adminapi.YAML, strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), "aliases stand for more than 1000000 values") {
		t.Errorf("aliases that stand for 4 million values: %v", err)
	}
}

// TestMerge: merge keys and aliases stand for what they name; a member of the object itself goes before.
func TestMerge(t *testing.T) {
	got, err := adminapi.Read(adminapi.YAML, strings.NewReader(`
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
		adminapi.Locate(form, strings.NewReader(text), faults)
		want := adminapi.Faults{{Place: "elsewhere"}, {Line: 1, Place: "sellers"}, {Line: 3, Place: "sellers[1].account_id"}, {Line: 9, Place: "buyers[0].agreements[1].license_arn"}}
		if form == adminapi.JSON {
			want[1].Line, want[3].Line = 2, 8
		}
		if d := cmp.Diff(want, faults); d != "" {
			t.Errorf("%s (-want +got):\n%s", form, d)
		}
	}
}

// TestMemory: what is held while a file is read is a small multiple of its length, whatever is in it: 8 times for the
// items of JSON and again for room to grow, beside the file's texts.
func TestMemory(t *testing.T) {
	const length = 4 << 20
	for _, test := range []struct{ name, before, item, behind, fault string }{
		{"empty buyers", `{"buyers":[`, `{}`, `]}`, "there are many items with next to nothing in them"},
		{"empty agreements", `{"agreements":[`, `{}`, `]}`, "there are many items with next to nothing in them"},
		{"empty products", `{"products":[`, `{"type":""}`, `]}`, "there are many items with next to nothing in them"},
		{"empty lists", `{"buyers":[`, `{"agreements":[{},{},{},{}]}`, `]}`, "there are many items with next to nothing in them"},
		{"buyers", `{"buyers":[`, `{"account_id":"000000000001"}`, `]}`, ""},
		{"agreements", `{"buyers":[{"account_id":"000000000001","agreements":[`, `{"product_code":"p"}`, `]}]}`, ""},
		{"dimensions", `{"products":[{"dimensions":[`, `"a"`, `]}]}`, ""},
	} {
		text := test.before + strings.Repeat(test.item+",", length/(len(test.item)+1)) + test.item + test.behind
		held := &heldReader{r: strings.NewReader(text)}
		_, err := adminapi.Read(adminapi.JSON, held)
		if test.fault == "" && err != nil || test.fault != "" && (err == nil || !strings.Contains(err.Error(), test.fault)) {
			t.Errorf("%s: %v", test.name, err)
		}
		if most := uint64(20 * length); held.most-held.least > most {
			t.Errorf("%s: %d bytes are held of a file of %d", test.name, held.most-held.least, length)
		}
	}
}

// heldReader weighs what is held in memory each time that a quarter of a megabyte has been read.
type heldReader struct {
	r           io.Reader
	n           int
	least, most uint64
}

func (h *heldReader) Read(b []byte) (int, error) {
	const step = 1 << 18
	n, err := h.r.Read(b[:min(len(b), step)])
	if h.n += n; h.n/step != (h.n-n)/step || h.least == 0 || err != nil {
		var stats runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&stats)
		if h.least == 0 {
			h.least = stats.HeapAlloc
		}
		h.most = max(h.most, stats.HeapAlloc)
	}
	return n, err
}
