package store

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"

	"github.com/meterd/meterd/internal/iam"
	"github.com/meterd/meterd/internal/metering"
)

// twoOfEach returns two rows of each kind, in the order in which they are put.
func twoOfEach() (rows []any) {
	for i := range 2 {
		n, s := uint32(i+1), fmt.Sprint(i+1)
		at := metering.Instant(10 * n)
		rows = append(rows,
			&metering.RegionInfo{ID: metering.Region(n), Name: "region-" + s, Enabled: true},
			&metering.Account{ID: n, AccountID: uint64(10 * n), Name: "account " + s, Seller: true},
			&metering.Product{ID: n, Seller: 1, Code: "code" + s, ProductID: "prod-" + s, Title: "title " + s, Type: metering.SaaS,
				Regions: []metering.Region{1}},
			&metering.Dimension{Product: n, N: 1, Key: "users" + s, Name: "Users", Description: "who logs in", Unit: "each", Type: metering.Entitled},
			&metering.PublicKey{Product: n, Version: 1, PEM: "pem " + s, Sealed: []byte("key " + s), Created: at},
			&metering.Agreement{ID: n, Product: 1, Buyer: 1, AgreementID: "agmt-" + s, LicenseARN: "arn:" + s, Start: at},
			&metering.Customer{Seller: 1, Buyer: n, Identifier: "customer" + s},
			&Principal{ID: n, Account: 1, Kind: iam.User, Name: "user " + s, Permissions: iam.Permissions{Allow: []string{"*"}}},
			&AccessKey{ID: n, AccessKeyID: "AKIA" + s, Principal: 1, Sealed: []byte("secret " + s), Active: true, Created: at},
			&metering.Workload{ID: n, Account: 1, Platform: metering.EC2, ResourceID: "i-" + s, Region: 1, Role: 1},
			&AdminToken{ID: n, Name: "token " + s, Hash: [32]byte{byte(n)}, Created: at},
			&RegistrationToken{ID: [16]byte{byte(n)}, Product: 1, Buyer: 1, Issued: at, Expires: at + 1},
		)
	}
	slices.SortStableFunc(rows, func(a, b any) int { return slices.Index(kinds, kindOfRow(a)) - slices.Index(kinds, kindOfRow(b)) })
	return rows
}

// fieldsOf returns the exported fields of a struct, those of structs in it among them.
func fieldsOf(v reflect.Value) (fields []reflect.Value) {
	for i := range v.NumField() {
		switch f := v.Type().Field(i); {
		case f.Anonymous:
			fields = append(fields, fieldsOf(v.Field(i))...)
		case f.IsExported():
			fields = append(fields, v.Field(i))
		}
	}
	return fields
}

// change gives a field another value: of numbers, which may be those of rows and kinds, the next one.
func change(t *testing.T, v reflect.Value) {
	t.Helper()
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(!v.Bool())
	case reflect.String:
		v.SetString(v.String() + ", changed")
	case reflect.Int32, reflect.Int64:
		v.SetInt(v.Int() + 1)
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(v.Uint() + 1)
	case reflect.Array:
		change(t, v.Index(0))
	case reflect.Slice:
		one := reflect.New(v.Type().Elem()).Elem()
		change(t, one)
		v.Set(reflect.Append(v.Slice3(0, v.Len(), v.Len()), one))
	default:
		t.Fatalf("a field of type %v cannot be changed", v.Type())
	}
}

// everyChange calls f for each change of one field of a row that is not of its key, with the column that has changed, one
// change on top of the other. Each field must have a column, and each column a field.
func everyChange(t *testing.T, row any, f func(column string, changed, before any)) {
	t.Helper()
	k := kindOfRow(row)
	seen := map[string]bool{}
	for i := range fieldsOf(reflect.ValueOf(row).Elem()) {
		changed := k.fresh()
		reflect.ValueOf(changed).Elem().Set(reflect.ValueOf(row).Elem())
		change(t, fieldsOf(reflect.ValueOf(changed).Elem())[i])
		var columns []string
		old, values := k.values(row), k.values(changed)
		for j := range values {
			if !reflect.DeepEqual(old[j], values[j]) {
				columns = append(columns, k.columns[j])
			}
		}
		if len(columns) != 1 || seen[columns[0]] {
			t.Fatalf("%T: a change of field %d changes the columns %v", row, i, columns)
		}
		seen[columns[0]] = true
		if slices.Contains(k.key, columns[0]) {
			continue
		}
		f(columns[0], changed, row)
		row = changed
	}
	if len(seen) != len(k.columns) {
		t.Errorf("%s has the columns %v, but only %v have fields", k.table, k.columns, seen)
	}
}

// rowsOf returns all rows that a store has, of kinds that are apart too, or those that have changed since a revision.
func rowsOf(t *testing.T, db Store, since Revision) (rows []any, latest Revision) {
	t.Helper()
	err := db.View(context.Background(), func(r *Reader) (err error) {
		rows = nil
		if latest, err = r.Load(since, func(row any) error { rows = append(rows, row); return nil }); err != nil {
			return err
		}
		if since.N == 0 {
			err = r.RegistrationTokens([16]byte{}, 1000, func(k RegistrationToken) error { rows = append(rows, &k); return nil })
		}
		return errors.Join(err, r.CheckHistory(func(format string, args ...any) { t.Errorf(format, args...) }))
	})
	if err != nil {
		t.Fatal(err)
	}
	return rows, latest
}

// TestEveryColumn changes every column of a row of each kind. The change is stored, who has read the row before is told
// of it, and the checksum follows it.
func TestEveryColumn(t *testing.T) {
	both(t, func(t *testing.T, location string, db Store) {
		acts := db.Writers()[0]
		_, known := rowsOf(t, db, Revision{})
		act := func(puts func(*Tx) error) {
			t.Helper()
			err := acts.Update(func(tx *Tx) error {
				next, err := tx.Revise(known, func() error { return puts(tx) })
				if err != nil {
					return err
				}
				known = next
				return tx.AppendCall(&Call{Seq: acts.NextCall(), Operation: 16})
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		want := twoOfEach()
		act(func(tx *Tx) error { return tx.Put(want...) })
		lagging := known
		var changes []any
		for i := 0; i < len(want); i += 2 {
			everyChange(t, want[i], func(column string, changed, before any) {
				was := known
				act(func(tx *Tx) error { return tx.Replace(changed, before) })
				if seen, _ := rowsOf(t, db, was); !kindOfRow(changed).apart && !reflect.DeepEqual(seen, []any{changed}) {
					t.Errorf("%T: after a change of %s the change is\n%s, want\n%+v", changed, column, lines(seen), changed)
				}
				want[i] = changed
			})
			if !kindOfRow(want[i]).apart {
				changes = append(changes, want[i])
			}
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		db = openStore(t, location)
		if seen, _ := rowsOf(t, db, lagging); !reflect.DeepEqual(seen, changes) {
			t.Errorf("who lags behind reads\n%s, want\n%s", lines(seen), lines(changes))
		}
		if seen, latest := rowsOf(t, db, Revision{}); !reflect.DeepEqual(seen, want) || latest != known {
			t.Errorf("at revision %v there are\n%s, want at %v\n%s", latest, lines(seen), known, lines(want))
		}
	})
}

// TestChecksumOfRows: the checksum that is stored in ledgers is of the same rows for ever.
func TestChecksumOfRows(t *testing.T) {
	sum := emptyCatalogue
	for _, row := range twoOfEach() {
		if k := kindOfRow(row); !k.apart {
			sum.add(k.table, k.columns, k.values(row))
		}
	}
	if got, want := fmt.Sprintf("%x", sum), "d583393c48d74384549a795d770548f897975e0c6fc4aa49ce9d6293bf58147a"; got != want {
		t.Errorf("the checksum is %s, want %s", got, want)
	}
}

func lines(rows []any) (text string) {
	for _, r := range rows {
		text += fmt.Sprintf("%+v\n", r)
	}
	return text
}
