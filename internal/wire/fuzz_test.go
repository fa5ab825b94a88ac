package wire_test

import (
	"bytes"
	"encoding/json"
	"math/big"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/meterd/meterd/internal/wire"
)

// The oracle: what a request means, by way of encoding/json and math/big, in the
// simplest words. Its first fault makes the whole request refused.
type oracle struct{ refused bool }

type object map[string]json.RawMessage

// document checks what encoding/json lets pass, and returns the members.
func (o *oracle) document(body []byte) object {
	if !json.Valid(body) || !utf8.Valid(body) || !surrogatesPaired(body) {
		o.refused = true
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	if !distinctNames(d, 0) {
		o.refused = true
	}
	return o.object(body)
}

// distinctNames reads one value. It reports false when an object in it has a name
// twice, or when it is nested too deep.
func distinctNames(d *json.Decoder, depth int) bool {
	token, err := d.Token()
	if err != nil {
		return false
	}
	ok := true
	switch token {
	case json.Delim('{'):
		seen := map[string]bool{}
		for d.More() {
			name, _ := d.Token()
			ok = ok && !seen[name.(string)]
			seen[name.(string)] = true
			ok = distinctNames(d, depth+1) && ok
		}
	case json.Delim('['):
		for d.More() {
			ok = distinctNames(d, depth+1) && ok
		}
	default:
		return true
	}
	d.Token() // the closing bracket
	return ok && depth < 64
}

var escapes = regexp.MustCompile(`(?s)\\(u[0-9a-fA-F]{4}|.)`)

func surrogatesPaired(body []byte) bool {
	high := -1 // where the low half must begin
	for _, at := range escapes.FindAllIndex(body, -1) {
		s := strings.ToLower(string(body[at[0]:at[1]]))
		low := len(s) == 6 && s >= `\udc00` && s <= `\udfff`
		if low != (high == at[0]) || high >= 0 && high != at[0] {
			return false
		}
		high = -1
		if len(s) == 6 && s >= `\ud800` && s <= `\udbff` {
			high = at[1]
		}
	}
	return high < 0
}

func absent(raw json.RawMessage) bool { return raw == nil || string(raw) == "null" }

func (o *oracle) object(raw json.RawMessage) (m object) {
	if json.Unmarshal(raw, &m) != nil || m == nil {
		o.refused = true
	}
	return m
}

func (o *oracle) list(raw json.RawMessage) (l []json.RawMessage) {
	if !absent(raw) && json.Unmarshal(raw, &l) != nil {
		o.refused = true
	}
	return l
}

func (o *oracle) string(raw json.RawMessage) (s string, present bool) {
	if absent(raw) {
		return "", false
	}
	if json.Unmarshal(raw, &s) != nil {
		o.refused = true
	}
	return s, true
}

func (o *oracle) text(raw json.RawMessage) string { s, _ := o.string(raw); return s }

func (o *oracle) bool(raw json.RawMessage) (b bool) {
	if !absent(raw) && json.Unmarshal(raw, &b) != nil {
		o.refused = true
	}
	return b
}

func (o *oracle) int32(raw json.RawMessage) (v int32, present bool) {
	if absent(raw) {
		return 0, false
	}
	if json.Unmarshal(raw, &v) != nil {
		o.refused = true
	}
	return v, true
}

var (
	isoForm    = regexp.MustCompile(`^(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:[.,](\d+))?(?:([Zz])|([+-])(\d\d)(?::?(\d\d))?)$`)
	numberForm = regexp.MustCompile(`^-?\d+(?:\.\d+)?(?:[eE]([-+]?\d+))?$`)
)

func (o *oracle) timestamp(raw json.RawMessage) (ms int64, present bool) {
	if absent(raw) {
		return 0, false
	}
	seconds := new(big.Rat)
	if raw[0] == '"' {
		f := isoForm.FindStringSubmatch(o.text(raw))
		if f == nil {
			o.refused = true
			return 0, true
		}
		t, err := time.Parse(time.DateTime, f[1]+" "+f[2])
		hours, _ := strconv.Atoi(f[6])
		minutes, _ := strconv.Atoi(f[7])
		if err != nil || hours > 23 || minutes > 59 {
			o.refused = true
			return 0, true
		}
		offset := int64(hours*3600 + minutes*60)
		if f[5] == "-" {
			offset = -offset
		}
		seconds.SetString(strconv.FormatInt(t.Unix()-offset, 10))
		fraction, _ := new(big.Rat).SetString("0." + f[3] + "0")
		seconds.Add(seconds, fraction)
	} else {
		f := numberForm.FindStringSubmatch(string(raw))
		if f == nil {
			o.refused = true
			return 0, true
		}
		text := string(raw)
		if exp, err := strconv.Atoi(f[1]); f[1] != "" && (err != nil || exp > 5000 || exp < -5000) {
			// Too large for math/big, and far beyond the digits that a fuzzer writes:
			// only the sign and whether it is zero matter.
			sign := "5000"
			if strings.Contains(f[1], "-") {
				sign = "-5000"
			}
			text = strings.ToLower(text)
			text = text[:strings.IndexByte(text, 'e')+1] + sign
		}
		seconds.SetString(text)
	}
	seconds.Mul(seconds, big.NewRat(1000, 1))
	floor := new(big.Int).Div(seconds.Num(), seconds.Denom()) // Euclidean: rounds down
	first := time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli()
	end := time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli()
	if !floor.IsInt64() || floor.Int64() < first || floor.Int64() >= end {
		o.refused = true
	}
	return floor.Int64(), true
}

func (o *oracle) usageAllocations(raw json.RawMessage) []wire.UsageAllocation {
	list := o.list(raw)
	if list == nil {
		return nil
	}
	allocations := []wire.UsageAllocation{}
	for i, raw := range list {
		m := o.object(raw)
		var a wire.UsageAllocation
		a.AllocatedUsageQuantity, a.HasQuantity = o.int32(m["AllocatedUsageQuantity"])
		if tags := o.list(m["Tags"]); tags != nil {
			a.Tags = []wire.Tag{}
			for j, raw := range tags {
				m := o.object(raw)
				if t := (wire.Tag{Key: o.text(m["Key"]), Value: o.text(m["Value"])}); j < 64 {
					a.Tags = append(a.Tags, t)
				}
			}
		}
		if i < 2501 {
			allocations = append(allocations, a)
		}
	}
	return allocations
}

func (o *oracle) batchMeterUsage(body []byte) (in wire.BatchMeterUsageInput) {
	m := o.document(body)
	in.ProductCode = o.text(m["ProductCode"])
	list := o.list(m["UsageRecords"])
	if list == nil {
		return in
	}
	in.Count = len(list)
	in.UsageRecords = []wire.UsageRecord{}
	for i, raw := range list {
		m := o.object(raw)
		r := wire.UsageRecord{
			Dimension:            o.text(m["Dimension"]),
			CustomerIdentifier:   o.text(m["CustomerIdentifier"]),
			CustomerAWSAccountID: o.text(m["CustomerAWSAccountId"]),
			LicenseARN:           o.text(m["LicenseArn"]),
			UsageAllocations:     o.usageAllocations(m["UsageAllocations"]),
		}
		r.Timestamp, r.HasTimestamp = o.timestamp(m["Timestamp"])
		r.Quantity, _ = o.int32(m["Quantity"])
		if i < 26 {
			in.UsageRecords = append(in.UsageRecords, r)
		}
	}
	return in
}

func (o *oracle) meterUsage(body []byte) (in wire.MeterUsageInput) {
	m := o.document(body)
	in.ProductCode, in.HasProductCode = o.string(m["ProductCode"])
	in.UsageDimension = o.text(m["UsageDimension"])
	in.Timestamp, in.HasTimestamp = o.timestamp(m["Timestamp"])
	in.UsageQuantity, _ = o.int32(m["UsageQuantity"])
	in.DryRun = o.bool(m["DryRun"])
	in.UsageAllocations = o.usageAllocations(m["UsageAllocations"])
	in.ClientToken, in.HasClientToken = o.string(m["ClientToken"])
	return in
}

func (o *oracle) registerUsage(body []byte) (in wire.RegisterUsageInput) {
	m := o.document(body)
	in.ProductCode, in.HasProductCode = o.string(m["ProductCode"])
	in.PublicKeyVersion, in.HasPublicKeyVersion = o.int32(m["PublicKeyVersion"])
	in.Nonce, in.HasNonce = o.string(m["Nonce"])
	return in
}

func (o *oracle) resolveCustomer(body []byte) (in wire.ResolveCustomerInput) {
	in.RegistrationToken = o.text(o.document(body)["RegistrationToken"])
	return in
}

func FuzzDecodeBatchMeterUsage(f *testing.F) {
	for _, seed := range []string{
		``, `{}`, ` null`, `{"ProductCode":"p","UsageRecords":[]}`, string(legacyBatch(2)), string(taggedBatch(1)), string(legacyBatch(27)),
		`{"UsageRecords":[{"Timestamp":"2026-11-23T16:04:05.5+01:00","Quantity":-0,"Dimension":"\ud83d\ude00\u00e9"},{"Timestamp":-1.5e3}]}`,
		`{"usageRecords":1,"New":{"a":[1,-2.5e+3,true,false,null,"x",{"b":{}},[]]},"a":1,"\u0061":2}`,
		`{"UsageRecords":[{"UsageAllocations":[{"AllocatedUsageQuantity":3,"Tags":[]},{"Tags":null},null]}]}`,
		`{"UsageRecords":[{"Quantity":3.0},{"Quantity":2147483648}]}`, "{\"ProductCode\":\"\xff\"}", `{"ProductCode":"\ud800"}`, `{"x":"\\ud800"}`,
	} {
		f.Add([]byte(seed))
	}
	var reused wire.BatchMeterUsageInput
	f.Fuzz(func(t *testing.T, body []byte) {
		var o oracle
		want := o.batchMeterUsage(body)
		err := reused.Decode(body)
		if (err != nil) != o.refused {
			t.Fatalf("Decode(%q) = %v; the oracle refuses: %v", body, err, o.refused)
		}
		if err != nil {
			want = wire.BatchMeterUsageInput{}
		}
		if diff := cmp.Diff(reused, want, exported); diff != "" {
			t.Fatalf("Decode(%q): -got+want:\n%s", body, diff)
		}
	})
}

func FuzzDecodeMeterUsage(f *testing.F) {
	for _, seed := range []string{
		`{}`, `{"ProductCode":"p","Timestamp":1795446245.123,"UsageDimension":"d","UsageQuantity":5,"DryRun":true,"ClientToken":"t","UsageAllocations":[{"AllocatedUsageQuantity":5}]}`,
		`{"DryRun":false,"ClientToken":null,"UsageAllocations":[],"Timestamp":1e9}`, `{"ProductCode":"","DryRun":"true"}`, `{"ProductCode":""}`, `{"DryRun":1,"dryRun":[]}`, `{"Timestamp":"x"}`,
	} {
		f.Add([]byte(seed))
	}
	var reused wire.MeterUsageInput
	f.Fuzz(func(t *testing.T, body []byte) {
		var o oracle
		want := o.meterUsage(body)
		err := reused.Decode(body)
		if (err != nil) != o.refused {
			t.Fatalf("Decode(%q) = %v; the oracle refuses: %v", body, err, o.refused)
		}
		if err != nil {
			want = wire.MeterUsageInput{}
		}
		if diff := cmp.Diff(reused, want, exported); diff != "" {
			t.Fatalf("Decode(%q): -got+want:\n%s", body, diff)
		}
	})
}

func FuzzDecodeRegisterUsage(f *testing.F) {
	for _, seed := range []string{
		`{}`, `{"ProductCode":"p","PublicKeyVersion":2,"Nonce":"n"}`, `{"PublicKeyVersion":null,"Nonce":null,"nonce":1}`, `{"PublicKeyVersion":"2"}`, `{"PublicKeyVersion":2147483648}`,
		`{"Nonce":"\u00e9\ud83d\ude00","Nonce":""}`, `{"PublicKeyVersion":1e0}`, `{"ProductCode":""}`, `[]`,
	} {
		f.Add([]byte(seed))
	}
	var reused wire.RegisterUsageInput
	f.Fuzz(func(t *testing.T, body []byte) {
		var o oracle
		want := o.registerUsage(body)
		err := reused.Decode(body)
		if (err != nil) != o.refused {
			t.Fatalf("Decode(%q) = %v; the oracle refuses: %v", body, err, o.refused)
		}
		if err != nil {
			want = wire.RegisterUsageInput{}
		}
		if reused != want {
			t.Fatalf("Decode(%q): got %+v, want %+v", body, reused, want)
		}
	})
}

func FuzzDecodeResolveCustomer(f *testing.F) {
	for _, seed := range []string{`{}`, `{"RegistrationToken":"AAA="}`, `{"RegistrationToken":null,"X":[{}]}`, `{"registrationToken":"x"}`, `{"RegistrationToken":"\/\u0000"}`, `{"RegistrationToken":1}`} {
		f.Add([]byte(seed))
	}
	var reused wire.ResolveCustomerInput
	f.Fuzz(func(t *testing.T, body []byte) {
		var o oracle
		want := o.resolveCustomer(body)
		err := reused.Decode(body)
		if (err != nil) != o.refused {
			t.Fatalf("Decode(%q) = %v; the oracle refuses: %v", body, err, o.refused)
		}
		if err != nil {
			want = wire.ResolveCustomerInput{}
		}
		if reused != want {
			t.Fatalf("Decode(%q): got %+v, want %+v", body, reused, want)
		}
	})
}

// FuzzTimestamp compares with exact arithmetic: of what the text of a JSON number
// or string says, to the millisecond, rounded down.
func FuzzTimestamp(f *testing.F) {
	for _, seed := range []string{
		`1795446245`, `1795446245.123`, `1.795446245123E+09`, `-0.0001`, `0e99`, `253402300799.9999`, `-62135596800.0001`, `12345678901234567890e-10`, `1e-400`,
		`"2026-11-23T16:04:05Z"`, `"2026-11-23t16:04:05,1239+0130"`, `"2024-02-29 23:59:59.9-08"`, `"0001-01-01T00:00:00+00:01"`, `"2026-11-23T16:04:60Z"`, `null`, `true`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		body := []byte(`{"Timestamp":` + text + `}`)
		var o oracle
		want := o.meterUsage(body)
		var in wire.MeterUsageInput
		err := in.Decode(body)
		if (err != nil) != o.refused {
			t.Fatalf("Decode(%q) = %v; the oracle refuses: %v", body, err, o.refused)
		}
		if err == nil && (in.Timestamp != want.Timestamp || in.HasTimestamp != want.HasTimestamp) {
			t.Fatalf("Decode(%q): got %d (%v), want %d (%v)", body, in.Timestamp, in.HasTimestamp, want.Timestamp, want.HasTimestamp)
		}
	})
}

// FuzzEncode sends any record through the encoder and back, by encoding/json and by
// our decoder.
func FuzzEncode(f *testing.F) {
	f.Add("users", "ifAPi5AcF3", "111122223333", "arn:aws:license-manager::123456789012:license:l-0", "k", "v", int64(1795446245123), int32(7), uint8(0xff), someID[:])
	f.Add("\"\\\x00\n\x1f\x7f/", "é€😀\u2028", "", "", "\xff", "a\xe2\x82b", int64(-1), int32(-2147483648), uint8(0), []byte{})
	f.Fuzz(func(t *testing.T, dimension, customer, account, license, key, value string, ms int64, quantity int32, flags uint8, id []byte) {
		r := wire.UsageRecord{Dimension: dimension, CustomerIdentifier: customer, CustomerAWSAccountID: account, LicenseARN: license, Quantity: quantity}
		if flags&1 != 0 {
			r.HasTimestamp, r.Timestamp = true, ms
		}
		if flags&2 != 0 {
			r.UsageAllocations = []wire.UsageAllocation{}
		}
		if flags&4 != 0 {
			r.UsageAllocations = []wire.UsageAllocation{{AllocatedUsageQuantity: quantity, HasQuantity: true}, {}}
			if flags&8 != 0 {
				r.UsageAllocations[1].Tags = []wire.Tag{}
			}
			if flags&16 != 0 {
				r.UsageAllocations[0].Tags = []wire.Tag{{Key: key, Value: value}, {Key: value}}
			}
		}
		result := wire.UsageRecordResult{UsageRecord: r, HasMeteringRecordID: flags&32 != 0, Status: value}
		copy(result.MeteringRecordID[:], id)
		out := wire.BatchMeterUsageOutput{Results: []wire.UsageRecordResult{result}, UnprocessedRecords: []wire.UsageRecord{r, r}}
		text := out.Append(nil)
		if !utf8.Valid(text) {
			t.Fatalf("not UTF-8: %q", text)
		}

		// By encoding/json. On the way invalid UTF-8 becomes U+FFFD.
		type member struct {
			Results            []struct{ UsageRecord, MeteringRecordID, Status any }
			UnprocessedRecords []any
		}
		var got member
		d := json.NewDecoder(bytes.NewReader(text))
		d.UseNumber()
		if err := d.Decode(&got); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		echo := map[string]any{"Quantity": json.Number(strconv.Itoa(int(quantity)))}
		for name, s := range map[string]string{"Dimension": dimension, "CustomerIdentifier": customer, "CustomerAWSAccountId": account, "LicenseArn": license} {
			if s != "" {
				echo[name] = valid(s)
			}
		}
		if r.HasTimestamp {
			sent, ok := got.UnprocessedRecords[0].(map[string]any)["Timestamp"].(json.Number)
			rat, _ := new(big.Rat).SetString(string(sent))
			if !ok || rat.Cmp(big.NewRat(ms, 1000)) != 0 || strings.Contains(string(sent), ".") && strings.HasSuffix(string(sent), "0") {
				t.Fatalf("%d ms became %v", ms, sent)
			}
			echo["Timestamp"] = sent
		}
		if r.UsageAllocations != nil {
			list := []any{}
			for _, a := range r.UsageAllocations {
				m := map[string]any{}
				if a.HasQuantity {
					m["AllocatedUsageQuantity"] = json.Number(strconv.Itoa(int(quantity)))
				}
				if a.Tags != nil {
					tags := []any{}
					for _, tag := range a.Tags {
						tags = append(tags, map[string]any{"Key": valid(tag.Key), "Value": valid(tag.Value)})
					}
					m["Tags"] = tags
				}
				list = append(list, m)
			}
			echo["UsageAllocations"] = list
		}
		want := member{UnprocessedRecords: []any{echo, echo}}
		want.Results = append(want.Results, struct{ UsageRecord, MeteringRecordID, Status any }{UsageRecord: echo, Status: valid(value)})
		if result.HasMeteringRecordID {
			want.Results[0].MeteringRecordID = result.MeteringRecordID.String()
		}
		if diff := cmp.Diff(got, want); diff != "" {
			t.Fatalf("%s: -got+want:\n%s", text, diff)
		}

		// By our decoder, as far as it takes what the encoder was given.
		for _, s := range []string{dimension, customer, account, license, key, value} {
			if !utf8.ValidString(s) {
				return
			}
		}
		if r.HasTimestamp && (ms < -62135596800000 || ms > 253402300799999) {
			return
		}
		out.Results = nil
		body := bytes.Replace(out.Append(nil), []byte(`"Results":[],"UnprocessedRecords"`), []byte(`"UsageRecords"`), 1)
		var in wire.BatchMeterUsageInput
		if err := in.Decode(body); err != nil {
			t.Fatalf("%v: %s", err, body)
		}
		if diff := cmp.Diff(in, wire.BatchMeterUsageInput{UsageRecords: []wire.UsageRecord{r, r}, Count: 2}, exported); diff != "" {
			t.Fatalf("%s: -got+want:\n%s", body, diff)
		}
	})
}

// FuzzEncodeOthers does so with the answers of the other operations, and with exceptions.
func FuzzEncodeOthers(f *testing.F) {
	f.Add("eyJ.eyJ.c2ln", "ifAPi5AcF3", "111122223333", "arn:aws:license-manager::123456789012:license:l-0", int64(1795446245123), someID[:])
	f.Add("", "", "", "", int64(0), []byte{})
	f.Add("\"\\\x00\n\x1f\x7f/", "é€😀\u2028", "\xff", "a\xe2\x82b", int64(-1), []byte{1})
	f.Fuzz(func(t *testing.T, a, b, c, d string, ms int64, id []byte) {
		var uuid wire.UUID
		copy(uuid[:], id)
		var customer, registered = map[string]any{}, map[string]any{"Signature": valid(a)}
		for name, s := range map[string]string{"CustomerIdentifier": a, "ProductCode": b, "CustomerAWSAccountId": c, "LicenseArn": d} {
			if s != "" {
				customer[name] = valid(s)
			}
		}
		for _, answer := range []struct {
			text []byte
			want map[string]any
		}{
			{(&wire.MeterUsageOutput{MeteringRecordID: uuid}).Append([]byte(" ")), map[string]any{"MeteringRecordId": uuid.String()}},
			{(&wire.RegisterUsageOutput{Signature: a, PublicKeyRotationTimestamp: ms}).Append([]byte(" ")), registered},
			{(&wire.ResolveCustomerOutput{CustomerIdentifier: a, ProductCode: b, CustomerAWSAccountID: c, LicenseARN: d}).Append([]byte(" ")), customer},
			{wire.AppendException([]byte(" "), a, b), map[string]any{"__type": valid(a), "message": valid(b)}},
		} {
			if !utf8.Valid(answer.text) || answer.text[0] != ' ' {
				t.Fatalf("%q", answer.text)
			}
			var got map[string]any
			decoder := json.NewDecoder(bytes.NewReader(answer.text))
			decoder.UseNumber()
			if err := decoder.Decode(&got); err != nil || decoder.More() {
				t.Fatalf("%v: %s", err, answer.text)
			}
			if sent, ok := got["PublicKeyRotationTimestamp"].(json.Number); ok {
				if rat, _ := new(big.Rat).SetString(string(sent)); ms == 0 || rat.Cmp(big.NewRat(ms, 1000)) != 0 {
					t.Fatalf("%d ms became %v", ms, sent)
				}
				delete(got, "PublicKeyRotationTimestamp")
			} else if ms != 0 && answer.want["Signature"] != nil {
				t.Fatalf("%d ms are not in %s", ms, answer.text)
			}
			if diff := cmp.Diff(got, answer.want); diff != "" {
				t.Fatalf("%s: -got+want:\n%s", answer.text, diff)
			}
		}
	})
}

// valid puts U+FFFD in place of each invalid byte.
func valid(s string) string { return string([]rune(s)) }
