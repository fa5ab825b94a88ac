package store

import (
	"errors"
	"strings"
	"testing"

	"github.com/meterd/meterd/internal/metering"
)

// TestFillDimensions opens and reads ledgers in which the dimensions of products are a column of the product. Where the
// checksum of the catalogue is right it stays right, and where rows were changed by something else that still shows.
func TestFillDimensions(t *testing.T) {
	dimension := func(product uint32, n uint16, key string) *metering.Dimension {
		return &metering.Dimension{Product: product, N: n, Key: key, Type: metering.ExternallyMetered}
	}
	rows := []any{
		&metering.Account{ID: 1, AccountID: 1, Seller: true},
		&metering.Product{ID: 1, Seller: 1, Code: "one", ProductID: "prod-1", Type: metering.SaaS, Regions: []metering.Region{}},
		&metering.Product{ID: 2, Seller: 1, Code: "two", ProductID: "prod-2", Type: metering.SaaS, Regions: []metering.Region{}},
		&metering.Product{ID: 3, Seller: 1, Code: "three", ProductID: "prod-3", Type: metering.SaaS, Regions: []metering.Region{}},
		dimension(1, 1, "users"), dimension(1, 2, "gb"), dimension(3, 1, "Users, é"),
	}
	both(t, func(t *testing.T, location string, db Store) {
		acts := db.Writers()[0]
		_, known := rowsOf(t, db, Revision{})
		err := acts.Update(func(tx *Tx) error {
			next, err := tx.Revise(known, func() error { return tx.Put(rows...) })
			known = next
			return errors.Join(err, tx.AppendCall(&Call{Seq: acts.NextCall(), Operation: 16}))
		})
		if err != nil {
			t.Fatal(err)
		}
		// The checksum as it was before: the hashes of products with their lists, and none of dimensions.
		before := known.Sum
		for _, row := range rows {
			switch k := kindOfRow(row); row := row.(type) {
			case *metering.Dimension:
				before.add(k.table, k.columns, k.values(row))
			case *metering.Product:
				before.add(k.table, k.columns, k.values(row))
				columns, values := withList(k.columns, k.values(row), &productList{text: []string{`["users","gb"]`, `[]`, `["Users, é"]`}[row.ID-1]})
				before.add(k.table, columns, values)
			}
		}
		for _, sql := range append(asStep4(db), "UPDATE revision SET sum = $1 WHERE n = $2") {
			err := acts.Update(func(tx *Tx) error {
				if strings.Contains(sql, "$1") {
					return tx.exec(sql, before[:], known.N)
				}
				return tx.exec(sql)
			})
			if err != nil {
				t.Fatal(sql, err)
			}
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}

		look := func(r *Reader) (found []any, problems string) {
			t.Helper()
			_, err := r.Load(Revision{}, func(row any) error { found = append(found, row); return nil })
			err = errors.Join(err, r.CheckHistory(func(format string, args ...any) { problems += format }))
			if err != nil {
				t.Fatal(err)
			}
			return found, problems
		}
		check := func(name string, r *Reader) {
			t.Helper()
			if found, problems := look(r); lines(found) != lines(rows) || problems != "" {
				t.Errorf("%s: %s, there are\n%s, want\n%s", name, problems, lines(found), lines(rows))
			}
		}
		read := func(name, location string) {
			t.Helper()
			if err := Read(location, func(r *Reader, _ Meta) error { check(name, r); return nil }); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		read("as it is", location)
		copied := t.TempDir() + "/copy"
		if _, err := Copy(location, copied, func(Copied) {}); err != nil {
			t.Fatal(err)
		}
		read("copied", copied)

		err = Read(location, func(r *Reader, _ Meta) error {
			damaged, err := r.revision(Revision{})
			damaged.Sum[0]++
			noted := damaged.Sum
			if err == nil {
				err = r.restate(&damaged)
			}
			if now, bad := r.checksum(nil, false); bad != nil || damaged.Sum == now || damaged.Sum == noted {
				t.Errorf("a checksum that was wrong is %x when it is restated: %v", damaged.Sum, bad)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
		db = openStore(t, location)
		if err := db.View(t.Context(), func(r *Reader) error { check("opened", r); return nil }); err != nil {
			t.Error(err)
		}
		if seen, _ := rowsOf(t, db, Revision{N: known.N - 1}); len(seen) != len(rows) {
			t.Errorf("who lags behind by the act reads\n%s", lines(seen))
		}
	})
}

// TestGaps: a dimension that was lost, so that others would take its number, is noticed when the catalogue is read.
func TestGaps(t *testing.T) {
	both(t, func(t *testing.T, location string, db Store) {
		acts := db.Writers()[0]
		err := acts.Update(func(tx *Tx) error {
			return errors.Join(tx.Put(&metering.Account{ID: 1, AccountID: 1}, &metering.Product{ID: 1, Seller: 1, Type: metering.SaaS},
				&metering.Dimension{Product: 1, N: 2, Key: "gb", Type: metering.Entitled}), tx.AppendCall(&Call{Seq: acts.NextCall(), Operation: 16}))
		})
		if err == nil {
			err = db.View(t.Context(), func(r *Reader) error {
				_, err := r.Load(Revision{}, func(any) error { return nil })
				return err
			})
		}
		if err == nil || !strings.Contains(err.Error(), "n should be 1: rows have been lost or added") {
			t.Errorf("the second dimension without the first: %v", err)
		}
	})
}
