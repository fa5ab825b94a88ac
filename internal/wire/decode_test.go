package wire_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/meterd/meterd/internal/wire"
)

// exported compares inputs without the buffers that they keep for the next request.
var exported = cmpopts.IgnoreUnexported(wire.BatchMeterUsageInput{}, wire.MeterUsageInput{})

func TestDecodeBatchMeterUsage(t *testing.T) {
	type input = wire.BatchMeterUsageInput
	one := func(r wire.UsageRecord) input {
		return input{UsageRecords: []wire.UsageRecord{r}, Count: 1}
	}
	for _, tc := range []struct {
		name, body string
		want       input
	}{
		{"empty object", `{}`, input{}},
		{"white space", " \t\r\n{ \"ProductCode\" :\n\"p\" ,\t\"UsageRecords\" : [ ] } \r\n\t",
			input{ProductCode: "p", UsageRecords: []wire.UsageRecord{}}},
		{"null members", `{"ProductCode":null,"UsageRecords":null}`, input{}},
		{"empty list", `{"UsageRecords":[]}`, input{UsageRecords: []wire.UsageRecord{}}},
		{"empty record", `{"UsageRecords":[{}]}`, one(wire.UsageRecord{})},
		{"null in record", `{"UsageRecords":[{"Timestamp":null,"Dimension":null,"Quantity":null,"UsageAllocations":null,"CustomerIdentifier":null,"CustomerAWSAccountId":null,"LicenseArn":null}]}`,
			one(wire.UsageRecord{})},
		{"whole record",
			`{"ProductCode":"cqcvf9f0ugw8rkbgmf1c9dxyz","UsageRecords":[{"Timestamp":1795446245.123,"Dimension":"users","CustomerIdentifier":"ifAPi5AcF3","CustomerAWSAccountId":"111122223333","LicenseArn":"arn:aws:license-manager::123456789012:license:l-0","Quantity":7,"UsageAllocations":[{"AllocatedUsageQuantity":3,"Tags":[{"Key":"k","Value":"v"},{"Value":"w","Key":"l"}]},{"AllocatedUsageQuantity":4}]}]}`,
			input{ProductCode: "cqcvf9f0ugw8rkbgmf1c9dxyz", Count: 1, UsageRecords: []wire.UsageRecord{{
				Timestamp: 1795446245123, HasTimestamp: true, Dimension: "users", CustomerIdentifier: "ifAPi5AcF3",
				CustomerAWSAccountID: "111122223333", LicenseARN: "arn:aws:license-manager::123456789012:license:l-0", Quantity: 7,
				UsageAllocations: []wire.UsageAllocation{
					{AllocatedUsageQuantity: 3, HasQuantity: true, Tags: []wire.Tag{{Key: "k", Value: "v"}, {Key: "l", Value: "w"}}},
					{AllocatedUsageQuantity: 4, HasQuantity: true},
				}}}}},
		{"lists sent empty", `{"UsageRecords":[{"UsageAllocations":[]},{"UsageAllocations":[{"Tags":[]},{"Tags":null},{}]}]}`,
			input{Count: 2, UsageRecords: []wire.UsageRecord{
				{UsageAllocations: []wire.UsageAllocation{}},
				{UsageAllocations: []wire.UsageAllocation{{Tags: []wire.Tag{}}, {}, {}}},
			}}},
		{"tag without members", `{"UsageRecords":[{"UsageAllocations":[{"Tags":[{},{"Key":""},{"Value":null}]}]}]}`,
			one(wire.UsageRecord{UsageAllocations: []wire.UsageAllocation{{Tags: []wire.Tag{{}, {}, {}}}}})},
		{"extremes", `{"UsageRecords":[{"Quantity":2147483647},{"Quantity":-2147483648},{"Quantity":-0},{"Quantity":0}]}`,
			input{Count: 4, UsageRecords: []wire.UsageRecord{{Quantity: 2147483647}, {Quantity: -2147483648}, {}, {}}}},
		{"names are case-sensitive", `{"productCode":"a","PRODUCTCODE":1,"usageRecords":{},"UsageRecords":[{"quantity":"x"}]}`, one(wire.UsageRecord{})},
		{"unknown members", `{"New":{"a":[1,-2.5e+3,true,false,null,"x\u0041\ud83d\ude00",{"b":{}},[]]},"ProductCode":"p","":0,"Newer":0.0}`,
			input{ProductCode: "p"}},
		{"same unknown name in other objects", `{"x":{"x":1},"y":{"x":1},"UsageRecords":[{"x":1},{"x":1}]}`,
			input{Count: 2, UsageRecords: []wire.UsageRecord{{}, {}}}},
		{"known name with escapes", `{"Product\u0043ode":"p"}`, input{ProductCode: "p"}},
		{"escapes", `{"ProductCode":"a\"\\\/\b\f\n\r\t\u00e9\u20AC\ud83d\uDE00\u0000z"}`,
			input{ProductCode: "a\"\\/\b\f\n\r\té€😀\x00z"}},
		{"UTF-8", `{"ProductCode":"é€😀` + "\u2028\x7f" + `"}`, input{ProductCode: "é€😀\u2028\x7f"}},
		{"escaped solidus only", `{"ProductCode":"\/"}`, input{ProductCode: "/"}},
		{"64 levels", `{"x":` + strings.Repeat("[", 63) + strings.Repeat("]", 63) + `}`, input{}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var in wire.BatchMeterUsageInput
			if err := in.Decode([]byte(tc.body)); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(in, tc.want, exported); diff != "" {
				t.Errorf("Decode(%s): -got+want:\n%s", tc.body, diff)
			}
		})
	}
}

func TestDecodeMeterUsage(t *testing.T) {
	for _, tc := range []struct {
		body string
		want wire.MeterUsageInput
	}{
		{`{}`, wire.MeterUsageInput{}},
		{`{"ProductCode":"p","Timestamp":1795446245,"UsageDimension":"d","UsageQuantity":5,"DryRun":true,"ClientToken":"t","UsageAllocations":[{"AllocatedUsageQuantity":5}]}`,
			wire.MeterUsageInput{ProductCode: "p", HasProductCode: true, Timestamp: 1795446245000, HasTimestamp: true, UsageDimension: "d", UsageQuantity: 5, DryRun: true,
				ClientToken: "t", HasClientToken: true, UsageAllocations: []wire.UsageAllocation{{AllocatedUsageQuantity: 5, HasQuantity: true}}}},
		{`{"ProductCode":"","ClientToken":"","DryRun":false,"UsageAllocations":[],"Timestamp":0}`,
			wire.MeterUsageInput{HasProductCode: true, HasClientToken: true, HasTimestamp: true, UsageAllocations: []wire.UsageAllocation{}}},
		{`{"ProductCode":null,"Timestamp":null,"UsageDimension":null,"UsageQuantity":null,"DryRun":null,"ClientToken":null,"UsageAllocations":null}`,
			wire.MeterUsageInput{}},
		{`{"Dimension":"d","Quantity":5,"dryRun":7}`, wire.MeterUsageInput{}},
	} {
		var in wire.MeterUsageInput
		if err := in.Decode([]byte(tc.body)); err != nil {
			t.Errorf("Decode(%s): %v", tc.body, err)
		} else if diff := cmp.Diff(in, tc.want, exported); diff != "" {
			t.Errorf("Decode(%s): -got+want:\n%s", tc.body, diff)
		}
	}
}

func TestDecodeRegisterUsage(t *testing.T) {
	for _, tc := range []struct {
		body string
		want wire.RegisterUsageInput
	}{
		{`{}`, wire.RegisterUsageInput{}},
		{`{"ProductCode":"p","PublicKeyVersion":1,"Nonce":"n"}`,
			wire.RegisterUsageInput{ProductCode: "p", HasProductCode: true, PublicKeyVersion: 1, HasPublicKeyVersion: true, Nonce: "n", HasNonce: true}},
		{`{"ProductCode":"","PublicKeyVersion":0,"Nonce":""}`, wire.RegisterUsageInput{HasProductCode: true, HasPublicKeyVersion: true, HasNonce: true}},
		{`{"ProductCode":null,"PublicKeyVersion":null,"Nonce":null}`, wire.RegisterUsageInput{}},
	} {
		in := wire.RegisterUsageInput{ProductCode: "old", HasProductCode: true, HasNonce: true}
		if err := in.Decode([]byte(tc.body)); err != nil || in != tc.want {
			t.Errorf("Decode(%s) = %+v, %v; want %+v", tc.body, in, err, tc.want)
		}
	}
}

func TestDecodeResolveCustomer(t *testing.T) {
	for _, tc := range []struct{ body, want string }{
		{`{}`, ""},
		{`{"RegistrationToken":null}`, ""},
		{`{"RegistrationToken":""}`, ""},
		{`{"RegistrationToken":"a+b/c=="}`, "a+b/c=="},
		{`{"RegistrationToken":"a\u002bb\/c=="}`, "a+b/c=="},
	} {
		in := wire.ResolveCustomerInput{RegistrationToken: "old"}
		if err := in.Decode([]byte(tc.body)); err != nil || in.RegistrationToken != tc.want {
			t.Errorf("Decode(%s) = %+v, %v; want %q", tc.body, in, err, tc.want)
		}
	}
}

// Each body breaks one rule. The message names the member, the rule and the mend.
func TestDecodeRefuses(t *testing.T) {
	batch := func(body string) error { return new(wire.BatchMeterUsageInput).Decode([]byte(body)) }
	meter := func(body string) error { return new(wire.MeterUsageInput).Decode([]byte(body)) }
	register := func(body string) error { return new(wire.RegisterUsageInput).Decode([]byte(body)) }
	resolve := func(body string) error { return new(wire.ResolveCustomerInput).Decode([]byte(body)) }

	const (
		wantString    = "expected a string in double quotes, found "
		wantInteger   = "expected an integer such as 7 without quotes, found "
		wantObject    = "expected a JSON object {...}, found "
		wantList      = "expected a list [...], found "
		wantTime      = "expected seconds since 1970-01-01T00:00:00Z as a number such as 1795446245.123, found "
		twice         = "the member is there twice: send it once"
		badEscape     = `a string has a bad escape: use \" \\ \/ \b \f \n \r \t or \u with four hexadecimal digits, surrogates in pairs`
		badUTF8       = "a string is not valid UTF-8: encode it as UTF-8"
		notInteger    = " is not an integer: send digits only, without fraction or exponent"
		beyond32      = " does not fit into 32 bits: send an integer from 0 to 2147483647"
		needlessZero  = "a number begins with a needless 0: leave it out"
		notClosed     = "a string is not closed: end it with a double quote"
		notATimestamp = " is not a timestamp in the years 1 to 9999: send seconds since 1970-01-01T00:00:00Z as a number such as 1795446245.123"
	)
	for _, tc := range []struct {
		decode func(string) error
		body   string
		want   string
	}{
		// The document.
		{batch, ``, "request body: " + wantObject + "the end of the body (at byte 0)"},
		{batch, ` `, "request body: " + wantObject + "the end of the body (at byte 1)"},
		{batch, `null`, "request body: " + wantObject + "null (at byte 0)"},
		{batch, `[]`, "request body: " + wantObject + "a list (at byte 0)"},
		{batch, `"{}"`, "request body: " + wantObject + "a string (at byte 0)"},
		{batch, `7`, "request body: " + wantObject + "a number (at byte 0)"},
		{batch, `true`, "request body: " + wantObject + "a boolean (at byte 0)"},
		{batch, "\ufeff{}", `request body: ` + wantObject + `'\ufeff' (at byte 0)`},
		{batch, "\v{}", `request body: ` + wantObject + `'\v' (at byte 0)`},
		{batch, `{`, "request body: expected a member name in double quotes, found the end of the body (at byte 1)"},
		{batch, `{,}`, "request body: expected a member name in double quotes, found ',' (at byte 1)"},
		{batch, `{"a":1,}`, "request body: expected a member name in double quotes, found '}' (at byte 7)"},
		{batch, `{'a':1}`, `request body: expected a member name in double quotes, found '\'' (at byte 1)`},
		{batch, `{a:1}`, `request body: expected a member name in double quotes, found 'a' (at byte 1)`},
		{batch, `{"a" 1}`, "request body: expected a colon after the name a, found a number (at byte 5)"},
		{batch, `{"a"`, "request body: expected a colon after the name a, found the end of the body (at byte 4)"},
		{batch, `{"a`, "request body: " + notClosed + " (at byte 1)"},
		{batch, `{"a":`, "a: expected a JSON value, found the end of the body (at byte 5)"},
		{batch, `{"a":1 "b":2}`, "request body: expected a comma or } after the value of a, found a string (at byte 7)"},
		{batch, `{"ProductCode":"p"`, "request body: expected a comma or } after the value of ProductCode, found the end of the body (at byte 18)"},
		{batch, `{}{}`, "request body: expected the end after the JSON object, found an object: send one object only (at byte 2)"},
		{batch, `{} x`, "request body: expected the end after the JSON object, found 'x': send one object only (at byte 3)"},
		{batch, "{}\x00", `request body: expected the end after the JSON object, found '\x00': send one object only (at byte 2)`},
		{batch, "{}\xff", `request body: expected the end after the JSON object, found '\ufffd': send one object only (at byte 2)`},
		{batch, `{} // x`, "request body: expected the end after the JSON object, found '/': send one object only (at byte 3)"},

		// Types.
		{batch, `{"ProductCode":7}`, "ProductCode: " + wantString + "a number (at byte 15)"},
		{batch, `{"ProductCode":true}`, "ProductCode: " + wantString + "a boolean (at byte 15)"},
		{batch, `{"ProductCode":["p"]}`, "ProductCode: " + wantString + "a list (at byte 15)"},
		{batch, `{"ProductCode":nul}`, "ProductCode: " + wantString + "'n' (at byte 15)"},
		{batch, `{"ProductCode":nullx}`, "request body: expected a comma or } after the value of ProductCode, found 'x' (at byte 19)"},
		{batch, `{"UsageRecords":{}}`, "UsageRecords: " + wantList + "an object (at byte 16)"},
		{batch, `{"UsageRecords":""}`, "UsageRecords: " + wantList + "a string (at byte 16)"},
		{batch, `{"UsageRecords":[null]}`, "UsageRecords[0]: " + wantObject + "null (at byte 17)"},
		{batch, `{"UsageRecords":[{},7]}`, "UsageRecords[1]: " + wantObject + "a number (at byte 20)"},
		{batch, `{"UsageRecords":[{},]}`, "UsageRecords[1]: " + wantObject + "']' (at byte 20)"},
		{batch, `{"UsageRecords":[,{}]}`, "UsageRecords[0]: " + wantObject + "',' (at byte 17)"},
		{batch, `{"UsageRecords":[{} {}]}`, "UsageRecords: expected a comma or ] after element 0, found an object (at byte 20)"},
		{batch, `{"UsageRecords":[{}`, "UsageRecords: expected a comma or ] after element 0, found the end of the body (at byte 19)"},
		{batch, `{"UsageRecords":[{"Dimension":7}]}`, "UsageRecords[0].Dimension: " + wantString + "a number (at byte 30)"},
		{batch, `{"UsageRecords":[{"CustomerIdentifier":7}]}`, "UsageRecords[0].CustomerIdentifier: " + wantString + "a number (at byte 39)"},
		{batch, `{"UsageRecords":[{"CustomerAWSAccountId":111122223333}]}`, "UsageRecords[0].CustomerAWSAccountId: " + wantString + "a number (at byte 41)"},
		{batch, `{"UsageRecords":[{"LicenseArn":{}}]}`, "UsageRecords[0].LicenseArn: " + wantString + "an object (at byte 31)"},
		{batch, `{"UsageRecords":[{"UsageAllocations":7}]}`, "UsageRecords[0].UsageAllocations: " + wantList + "a number (at byte 37)"},
		{batch, `{"UsageRecords":[{"UsageAllocations":[null]}]}`, "UsageRecords[0].UsageAllocations[0]: " + wantObject + "null (at byte 38)"},
		{batch, `{"UsageRecords":[{"UsageAllocations":[{"AllocatedUsageQuantity":"3"}]}]}`,
			"UsageRecords[0].UsageAllocations[0].AllocatedUsageQuantity: " + wantInteger + "a string (at byte 64)"},
		{batch, `{"UsageRecords":[{"UsageAllocations":[{},{"Tags":{}}]}]}`, "UsageRecords[0].UsageAllocations[1].Tags: " + wantList + "an object (at byte 49)"},
		{batch, `{"UsageRecords":[{"UsageAllocations":[{"Tags":[null]}]}]}`, "UsageRecords[0].UsageAllocations[0].Tags[0]: " + wantObject + "null (at byte 47)"},
		{batch, `{"UsageRecords":[{"UsageAllocations":[{"Tags":[{"Key":7}]}]}]}`,
			"UsageRecords[0].UsageAllocations[0].Tags[0].Key: " + wantString + "a number (at byte 54)"},
		{batch, `{"UsageRecords":[{"UsageAllocations":[{"Tags":[{"Value":false}]}]}]}`,
			"UsageRecords[0].UsageAllocations[0].Tags[0].Value: " + wantString + "a boolean (at byte 56)"},
		{batch, `{"x":[1,{"y":tru}]}`, "x[1].y: expected a JSON value, found 't' (at byte 13)"},
		{batch, `{"x":NaN}`, "x: expected a JSON value, found 'N' (at byte 5)"},
		{meter, `{"DryRun":"true"}`, "DryRun: expected true or false without quotes, found a string (at byte 10)"},
		{meter, `{"DryRun":1}`, "DryRun: expected true or false without quotes, found a number (at byte 10)"},
		{meter, `{"DryRun":True}`, "DryRun: expected true or false without quotes, found 'T' (at byte 10)"},
		{meter, `{"DryRun":fals}`, "DryRun: expected true or false without quotes, found 'f' (at byte 10)"},
		{meter, `{"UsageDimension":7}`, "UsageDimension: " + wantString + "a number (at byte 18)"},
		{meter, `{"ClientToken":7}`, "ClientToken: " + wantString + "a number (at byte 15)"},
		{meter, `{"UsageAllocations":[7]}`, "UsageAllocations[0]: " + wantObject + "a number (at byte 21)"},
		{register, `{"PublicKeyVersion":"1"}`, "PublicKeyVersion: " + wantInteger + "a string (at byte 20)"},
		{register, `{"Nonce":1}`, "Nonce: " + wantString + "a number (at byte 9)"},
		{resolve, `{"RegistrationToken":[]}`, "RegistrationToken: " + wantString + "a list (at byte 21)"},

		// Integers.
		{batch, `{"UsageRecords":[{},{},{},{"Quantity":3.0}]}`, "UsageRecords[3].Quantity: 3.0" + notInteger + " (at byte 38)"},
		{batch, `{"UsageRecords":[{"Quantity":1e3}]}`, "UsageRecords[0].Quantity: 1e3" + notInteger + " (at byte 29)"},
		{batch, `{"UsageRecords":[{"Quantity":2147483648}]}`, "UsageRecords[0].Quantity: 2147483648" + beyond32 + " (at byte 29)"},
		{batch, `{"UsageRecords":[{"Quantity":-2147483649}]}`, "UsageRecords[0].Quantity: -2147483649" + beyond32 + " (at byte 29)"},
		{batch, `{"UsageRecords":[{"Quantity":` + strings.Repeat("9", 100) + `}]}`,
			"UsageRecords[0].Quantity: " + strings.Repeat("9", 64) + "..." + beyond32 + " (at byte 29)"},
		{batch, `{"UsageRecords":[{"Quantity":01}]}`, "UsageRecords[0].Quantity: " + needlessZero + " (at byte 29)"},
		{batch, `{"UsageRecords":[{"Quantity":-01}]}`, "UsageRecords[0].Quantity: " + needlessZero + " (at byte 30)"},
		{batch, `{"UsageRecords":[{"Quantity":+1}]}`, "UsageRecords[0].Quantity: " + wantInteger + "'+' (at byte 29)"},
		{batch, `{"UsageRecords":[{"Quantity":-}]}`, "UsageRecords[0].Quantity: expected a digit in a number (at byte 30)"},
		{batch, `{"UsageRecords":[{"Quantity":"7"}]}`, "UsageRecords[0].Quantity: " + wantInteger + "a string (at byte 29)"},
		{batch, `{"UsageRecords":[{"Quantity":0x7}]}`, "UsageRecords[0]: expected a comma or } after the value of Quantity, found 'x' (at byte 30)"},
		{meter, `{"UsageQuantity":1.5}`, "UsageQuantity: 1.5" + notInteger + " (at byte 17)"},
		{register, `{"PublicKeyVersion":1.0}`, "PublicKeyVersion: 1.0" + notInteger + " (at byte 20)"},

		// Numbers nobody reads are checked too.
		{batch, `{"x":1.}`, "x: expected a digit after the decimal point (at byte 7)"},
		{batch, `{"x":.5}`, "x: expected a JSON value, found '.' (at byte 5)"},
		{batch, `{"x":1e}`, "x: expected a digit in the exponent (at byte 7)"},
		{batch, `{"x":1e+}`, "x: expected a digit in the exponent (at byte 8)"},
		{batch, `{"x":00}`, "x: " + needlessZero + " (at byte 5)"},
		{batch, `{"x":-`, "x: expected a digit in a number (at byte 6)"},

		// Timestamps; TestTimestamp has the rest.
		{batch, `{"UsageRecords":[{"Timestamp":true}]}`, "UsageRecords[0].Timestamp: " + wantTime + "a boolean (at byte 30)"},
		{batch, `{"UsageRecords":[{"Timestamp":1e300}]}`, "UsageRecords[0].Timestamp: 1e300" + notATimestamp + " (at byte 30)"},
		{meter, `{"Timestamp":"tomorrow"}`, "Timestamp: tomorrow" + notATimestamp + " (at byte 13)"},
		{meter, `{"Timestamp":""}`, "Timestamp: " + notATimestamp + " (at byte 13)"},

		// Duplicates.
		{batch, `{"ProductCode":"p","ProductCode":"p"}`, "ProductCode: " + twice + " (at byte 33)"},
		{batch, `{"ProductCode":null,"Product\u0043ode":"p"}`, "ProductCode: " + twice + " (at byte 39)"},
		{batch, `{"UsageRecords":[],"UsageRecords":[]}`, "UsageRecords: " + twice + " (at byte 34)"},
		{batch, `{"UsageRecords":[{"Quantity":1,"Quantity":2}]}`, "UsageRecords[0].Quantity: " + twice + " (at byte 42)"},
		{batch, `{"x":1,"y":2,"\u0078":3}`, "request body: the member x is there twice: send it once (at byte 24)"},
		{batch, `{"UsageRecords":[{"x":1,"x":1}]}`, "UsageRecords[0]: the member x is there twice: send it once (at byte 30)"},
		{batch, `{"x":[{"y":{"a":1,"b":2,"a":3}}]}`, "x[0].y: the member a is there twice: send it once (at byte 30)"},
		{batch, `{"x":{"ProductCode":1,"ProductCode":1}}`, "x: the member ProductCode is there twice: send it once (at byte 38)"},

		// Strings.
		{batch, `{"ProductCode":"p}`, "ProductCode: " + notClosed + " (at byte 15)"},
		{batch, `{"ProductCode":"p\"}`, "ProductCode: " + notClosed + " (at byte 15)"},
		{batch, `{"ProductCode":"p\`, "ProductCode: " + badEscape + " (at byte 17)"},
		{batch, `{"ProductCode":"\x41"}`, "ProductCode: " + badEscape + " (at byte 16)"},
		{batch, `{"ProductCode":"\u12"}`, "ProductCode: " + badEscape + " (at byte 16)"},
		{batch, `{"ProductCode":"\u12G4"}`, "ProductCode: " + badEscape + " (at byte 16)"},
		{batch, `{"ProductCode":"\U0041"}`, "ProductCode: " + badEscape + " (at byte 16)"},
		{batch, `{"ProductCode":"ab\ud800"}`, "ProductCode: " + badEscape + " (at byte 18)"},
		{batch, `{"ProductCode":"\udc00"}`, "ProductCode: " + badEscape + " (at byte 16)"},
		{batch, `{"ProductCode":"\ud800\u0041"}`, "ProductCode: " + badEscape + " (at byte 16)"},
		{batch, `{"ProductCode":"\ud800\ud800"}`, "ProductCode: " + badEscape + " (at byte 16)"},
		{batch, `{"ProductCode":"\ud800dc00"}`, "ProductCode: " + badEscape + " (at byte 16)"},
		{batch, `{"x":"\ud800"}`, "x: " + badEscape + " (at byte 6)"},
		{batch, "{\"ProductCode\":\"a\nb\"}", `ProductCode: a string has the control character 0x0a: escape it as \u000a (at byte 17)`},
		{batch, "{\"ProductCode\":\"a\x00b\"}", `ProductCode: a string has the control character 0x00: escape it as \u0000 (at byte 17)`},
		{batch, "{\"x\":\"123456789\x1f\"}", `x: a string has the control character 0x1f: escape it as \u001f (at byte 15)`},
		{batch, "{\"ProductCode\":\"\xff\"}", "ProductCode: " + badUTF8 + " (at byte 15)"},
		{batch, "{\"ProductCode\":\"\xc0\x80\"}", "ProductCode: " + badUTF8 + " (at byte 15)"},
		{batch, "{\"ProductCode\":\"\xed\xa0\x80\"}", "ProductCode: " + badUTF8 + " (at byte 15)"},
		{batch, "{\"ProductCode\":\"é\\n\xe2\x82\"}", "ProductCode: " + badUTF8 + " (at byte 15)"},
		{batch, "{\"x\":\"\xff\"}", "x: " + badUTF8 + " (at byte 5)"},
		{batch, "{\"\xff\":1}", "request body: " + badUTF8 + " (at byte 1)"},

		// Depth, and long names.
		{batch, `{"x":` + strings.Repeat("[", 64) + strings.Repeat("]", 64) + `}`,
			"x" + strings.Repeat("[0]", 63) + ": nested deeper than 64 levels: send a flatter document (at byte 68)"},
		{batch, strings.Repeat(`{"x":`, 1<<17),
			"x" + strings.Repeat(".x", 63) + ": nested deeper than 64 levels: send a flatter document (at byte 320)"},
		{batch, `{"` + strings.Repeat("é", 1000) + `":tru}`,
			strings.Repeat("é", 32) + "...: expected a JSON value, found 't' (at byte 2004)"},
	} {
		err := tc.decode(tc.body)
		var syntax *wire.SyntaxError
		if !errors.As(err, &syntax) {
			t.Errorf("Decode(%.80q) = %v, want a *SyntaxError", tc.body, err)
		} else if syntax.Message != tc.want {
			t.Errorf("Decode(%.80q):\n got %s\nwant %s", tc.body, syntax.Message, tc.want)
		}
	}
}

// Every known member of every shape is refused when it comes twice.
func TestDecodeRefusesDuplicates(t *testing.T) {
	batch := func(body string) error { return new(wire.BatchMeterUsageInput).Decode([]byte(body)) }
	for _, shape := range []struct {
		decode  func(string) error
		format  string
		members []string
	}{
		{batch, `{%s}`, []string{"ProductCode", "UsageRecords"}},
		{batch, `{"UsageRecords":[{%s}]}`, []string{"Timestamp", "Dimension", "CustomerIdentifier", "CustomerAWSAccountId", "LicenseArn", "Quantity", "UsageAllocations"}},
		{batch, `{"UsageRecords":[{"UsageAllocations":[{%s}]}]}`, []string{"AllocatedUsageQuantity", "Tags"}},
		{batch, `{"UsageRecords":[{"UsageAllocations":[{"Tags":[{%s}]}]}]}`, []string{"Key", "Value"}},
		{func(body string) error { return new(wire.MeterUsageInput).Decode([]byte(body)) }, `{%s}`,
			[]string{"ProductCode", "UsageDimension", "Timestamp", "UsageQuantity", "DryRun", "UsageAllocations", "ClientToken"}},
		{func(body string) error { return new(wire.RegisterUsageInput).Decode([]byte(body)) }, `{%s}`, []string{"ProductCode", "PublicKeyVersion", "Nonce"}},
		{func(body string) error { return new(wire.ResolveCustomerInput).Decode([]byte(body)) }, `{%s}`, []string{"RegistrationToken"}},
	} {
		var all []string
		for _, m := range shape.members {
			all = append(all, fmt.Sprintf("%q:null", m))
		}
		if body := fmt.Sprintf(shape.format, strings.Join(all, ",")); shape.decode(body) != nil {
			t.Errorf("%s: %v", body, shape.decode(body))
		}
		for i, m := range shape.members {
			body := fmt.Sprintf(shape.format, strings.Join(append(all, all[i]), ","))
			if err := shape.decode(body); err == nil || !strings.Contains(err.Error(), m+": the member is there twice") {
				t.Errorf("%s: got %v", body, err)
			}
		}
	}
}

// Lists keep one element more than a request may have, and check the rest.
func TestDecodeBoundsLists(t *testing.T) {
	list := func(n int, element string) string {
		return "[" + strings.TrimSuffix(strings.Repeat(element+",", n), ",") + "]"
	}
	var in wire.BatchMeterUsageInput
	for _, n := range []int{0, 1, 25, 26, 27, 1000} {
		if err := in.Decode([]byte(`{"UsageRecords":` + list(n, `{"Quantity":1,"UsageAllocations":[{"Tags":[{"Key":"k"}]}]}`) + `}`)); err != nil {
			t.Fatal(err)
		}
		if in.Count != n || len(in.UsageRecords) != min(n, 26) {
			t.Errorf("%d records: Count %d, %d kept", n, in.Count, len(in.UsageRecords))
		}
		for i, r := range in.UsageRecords {
			if r.Quantity != 1 || r.UsageAllocations[0].Tags[0].Key != "k" {
				t.Errorf("%d records: number %d is %+v", n, i, r)
			}
		}
	}
	for _, n := range []int{1, 2500, 2501, 2502, 9000} {
		allocations := list(n, `{"AllocatedUsageQuantity":1,"Tags":[{"Key":"k"}]}`)
		if err := in.Decode([]byte(`{"UsageRecords":[{"UsageAllocations":` + allocations + `},{"UsageAllocations":[{}]}]}`)); err != nil {
			t.Fatal(err)
		}
		if got := len(in.UsageRecords[0].UsageAllocations); got != min(n, 2501) {
			t.Errorf("%d allocations: %d kept", n, got)
		}
		if got := in.UsageRecords[1].UsageAllocations; len(got) != 1 || got[0].Tags != nil {
			t.Errorf("%d allocations: the next record has %+v", n, got)
		}
	}
	for _, n := range []int{1, 63, 64, 65, 9000} {
		tags := list(n, `{"Key":"k","Value":"v"}`)
		if err := in.Decode([]byte(`{"UsageRecords":[{"UsageAllocations":[{"Tags":` + tags + `},{"Tags":[{"Key":"next"}]}]}]}`)); err != nil {
			t.Fatal(err)
		}
		a := in.UsageRecords[0].UsageAllocations
		if len(a[0].Tags) != min(n, 64) || len(a[1].Tags) != 1 || a[1].Tags[0].Key != "next" {
			t.Errorf("%d tags: %d kept, then %+v", n, len(a[0].Tags), a[1].Tags)
		}
	}

	// What is not kept is checked.
	bad := `,{"Quantity":"x"}]}`
	if err := in.Decode([]byte(`{"UsageRecords":` + strings.TrimSuffix(list(40, `{}`), "]") + bad)); err == nil || !strings.HasPrefix(err.Error(), "UsageRecords[40].Quantity: ") {
		t.Errorf("the 41st record: %v", err)
	}

	// 65,536 tags pass in all, one more does not.
	tags := list(64, `{}`)
	allocations := list(1024, `{"Tags":`+tags+`}`)
	if err := in.Decode([]byte(`{"UsageRecords":[{"UsageAllocations":` + allocations + `}]}`)); err != nil {
		t.Error(err)
	}
	err := in.Decode([]byte(`{"UsageRecords":[{"UsageAllocations":` + allocations + `},{"UsageAllocations":[{"Tags":[{}]}]}]}`))
	const want = "UsageRecords[1].UsageAllocations[0].Tags[0]: more than 65536 tags in one request: send fewer records in each"
	if err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("65,537 tags:\n got %v\nwant %s", err, want)
	}
}

// A megabyte of unknown names is checked for duplicates in reasonable time: a
// quadratic search would make this test hang.
func TestDecodeManyUnknownNames(t *testing.T) {
	var b strings.Builder
	b.WriteString("{")
	for i := range 100_000 {
		fmt.Fprintf(&b, `"%x":0,`, i)
	}
	var in wire.BatchMeterUsageInput
	if err := in.Decode([]byte(b.String() + `"x":0}`)); err != nil {
		t.Error(err)
	}
	if err := in.Decode([]byte(b.String() + `"beef":0}`)); err == nil || !strings.Contains(err.Error(), "the member beef is there twice") {
		t.Errorf("got %v", err)
	}
}

// A pooled input shows nothing of the request before, whatever came of it.
func TestDecodeReuse(t *testing.T) {
	bodies := []string{
		string(taggedBatch(25)), `{}`, string(taggedBatch(3)), `{"UsageRecords":[]}`, string(legacyBatch(30)), `{"UsageRecords":[{`,
		string(taggedBatch(26)), `{"UsageRecords":[{},{"UsageAllocations":[{},{"Tags":[{}]}]}]}`,
		`{"UsageRecords":[{"UsageAllocations":[` + strings.Repeat(`{"Tags":[{},{},{},{},{}]},`, 2000) + `{}]}]}`, string(ordinaryBatch(2)),
		`{"UsageRecords":[` + strings.Repeat(`{"UsageAllocations":[`+strings.Repeat(`{},`, 2500)+`{}]},`, 4) + `{}]}`, string(taggedBatch(2)),
	}
	var reused wire.BatchMeterUsageInput
	for range 2 {
		for _, body := range bodies {
			var fresh wire.BatchMeterUsageInput
			err, want := reused.Decode([]byte(body)), fresh.Decode([]byte(body))
			if fmt.Sprint(err) != fmt.Sprint(want) {
				t.Errorf("Decode(%.80s): got %v, want %v", body, err, want)
			}
			if diff := cmp.Diff(reused, fresh, exported); diff != "" {
				t.Errorf("Decode(%.80s): -reused+fresh:\n%s", body, diff)
			}
			if err != nil && (reused.Count != 0 || reused.UsageRecords != nil) {
				t.Errorf("after %v: %+v", err, reused)
			}
		}
	}
	var meter wire.MeterUsageInput
	for _, body := range []string{`{"ProductCode":"p","DryRun":true,"UsageAllocations":[{"Tags":[{"Key":"k"}]}]}`, `{"UsageAllocations":[{}]}`, `{"ProductCode":"p",`} {
		var fresh wire.MeterUsageInput
		err, want := meter.Decode([]byte(body)), fresh.Decode([]byte(body))
		if diff := cmp.Diff(meter, fresh, exported); diff != "" || fmt.Sprint(err) != fmt.Sprint(want) {
			t.Errorf("Decode(%s): %v, want %v; -reused+fresh:\n%s", body, err, want, diff)
		}
	}
}

// Lists that were read before their backing array moved keep their contents, and
// appending to one does not reach into the next.
func TestDecodeGrowth(t *testing.T) {
	var b strings.Builder
	b.WriteString(`{"UsageRecords":[`)
	for i := range 25 {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(`{"UsageAllocations":[`)
		for j := range 1 + i*7 {
			if j > 0 {
				b.WriteByte(',')
			}
			fmt.Fprintf(&b, `{"AllocatedUsageQuantity":%d,"Tags":[{"Key":"%d"},{"Key":"%d"}]}`, i*1000+j, i, j)
		}
		b.WriteString(`]}`)
	}
	b.WriteString(`]}`)
	var in wire.BatchMeterUsageInput
	if err := in.Decode([]byte(b.String())); err != nil {
		t.Fatal(err)
	}
	for i, r := range in.UsageRecords {
		_ = append(r.UsageAllocations, wire.UsageAllocation{AllocatedUsageQuantity: -1})
		for j, a := range r.UsageAllocations {
			_ = append(a.Tags, wire.Tag{Key: "stray"})
			want := wire.UsageAllocation{AllocatedUsageQuantity: int32(i*1000 + j), HasQuantity: true, Tags: []wire.Tag{{Key: fmt.Sprint(i)}, {Key: fmt.Sprint(j)}}}
			if diff := cmp.Diff(a, want); diff != "" {
				t.Fatalf("UsageRecords[%d].UsageAllocations[%d]: -got+want:\n%s", i, j, diff)
			}
		}
	}
}

// One allocation, the copy of the body, serves an ordinary batch.
func TestDecodeAllocations(t *testing.T) {
	for name, body := range map[string][]byte{"legacy": legacyBatch(25), "concurrent": ordinaryBatch(25), "tagged": taggedBatch(25)} {
		var in wire.BatchMeterUsageInput
		if got := testing.AllocsPerRun(20, func() {
			if err := in.Decode(body); err != nil {
				t.Fatal(err)
			}
		}); got != 1 {
			t.Errorf("%s: %v allocations, want 1", name, got)
		}
	}
}

// Decoded strings do not change with the caller's buffer, which is pooled.
func TestDecodeCopiesBody(t *testing.T) {
	body := legacyBatch(2)
	var in wire.BatchMeterUsageInput
	if err := in.Decode(body); err != nil {
		t.Fatal(err)
	}
	clear(body)
	if in.ProductCode != "cqcvf9f0ugw8rkbgmf1c9dxyz" || in.UsageRecords[1].Dimension != "users" {
		t.Errorf("got %+v", in)
	}
}
