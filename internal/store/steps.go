package store

import (
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/meterd/meterd/internal/metering"
)

// fills has what a numbered step, which both stores share, puts into the tables and columns that it has added, from
// rows that exist already. This happens in the transaction that counts the step, when writers of earlier versions are
// fenced off.
var fills = map[int64]func(r *Reader, exec func(sql string, args ...any) error) error{
	4: (*Reader).fillCallHours,
	5: (*Reader).fillDimensions,
}

// schema returns the number of the last step that the ledger's tables have had; 0 for a folder of format 2, which
// does not count steps.
func (r *Reader) schema() (int64, error) {
	return r.number("SELECT n FROM state WHERE name = 'schema'")
}

// fillCallHours notes where the hours begin among the calls that exist.
func (r *Reader) fillCallHours(exec func(sql string, args ...any) error) error {
	var run callRun
	var begins []Call
	err := r.query("SELECT seq, at FROM call ORDER BY seq", func(c columns) error {
		call := Call{Seq: c.ColumnInt64(0), At: metering.Instant(c.ColumnInt64(1))}
		if run.begins(&call) {
			begins = append(begins, call)
		}
		return nil
	})
	for i := range begins {
		if err == nil {
			err = exec(insertCallHour+" ON CONFLICT (first) DO NOTHING", begins[i].Seq, int64(begins[i].At.Hour()))
		}
	}
	return err
}

// Before step 5 a product's dimensions were a column of the product, the JSON list of their API names.

// productList is the list of one product's dimensions.
type productList struct {
	product uint32
	text    string
	changed int64
}

// productLists returns the lists of the products that have changed since a revision, by the products' ids; listed is false
// if dimensions have their own table. Revision 0 stands for all products.
func (r *Reader) productLists(known Revision) (lists []productList, listed bool, err error) {
	schema, err := r.schema()
	if err != nil || schema >= 5 {
		return nil, false, err
	}
	since := known.N
	if since == 0 {
		since = -1
	}
	err = r.query("SELECT id, dimensions, changed FROM product WHERE changed > $1 ORDER BY id", func(c columns) error {
		lists = append(lists, productList{uint32(c.ColumnInt64(0)), c.ColumnText(1), c.ColumnInt64(2)})
		return nil
	}, since)
	return lists, true, err
}

// eachOf calls f with the row of each dimension in the lists.
func eachOf(lists []productList, f func(row any) error) error {
	for i := range lists {
		rows, err := lists[i].dimensions()
		for j := range rows {
			if err == nil {
				err = f(&rows[j])
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// dimensions returns the rows that the list stands for.
func (l *productList) dimensions() (all []metering.Dimension, err error) {
	var keys []string
	if err := json.Unmarshal([]byte(l.text), &keys); err != nil {
		return nil, fmt.Errorf("product row with id %d: dimensions is not a list: %w", l.product, err)
	}
	for i, key := range keys {
		all = append(all, metering.Dimension{Product: l.product, N: uint16(i + 1), Key: key, Type: metering.ExternallyMetered})
	}
	return all, nil
}

// fillDimensions gives each dimension its row, and updates the checksum of the latest revision to that of the present
// rows.
func (r *Reader) fillDimensions(exec func(sql string, args ...any) error) error {
	lists, _, err := r.productLists(Revision{})
	if err != nil {
		return err
	}
	latest, err := r.revision(Revision{})
	if err == nil {
		err = r.restate(&latest)
	}
	for i := range lists {
		if err == nil {
			err = eachOf(lists[i:i+1], func(row any) error {
				k := kindOfRow(row)
				return exec(k.upsert, append(k.values(row), lists[i].changed)...)
			})
		}
	}
	if err == nil && latest.Sum != (Checksum{}) {
		err = exec("UPDATE revision SET sum = $1 WHERE n = $2", latest.Sum[:], latest.N)
	}
	return err
}

// restate changes the checksum of the latest revision to that of the rows in this version's form. It takes out the
// rows' old form and puts in the new one, so a checksum that was wrong before stays wrong.
func (r *Reader) restate(latest *Revision) error {
	lists, listed, err := r.productLists(Revision{})
	if err != nil || !listed || latest.Sum == (Checksum{}) {
		return err
	}
	before, err := r.checksum(lists, true)
	if err != nil {
		return err
	}
	now, err := r.checksum(nil, false)
	if err == nil {
		subtle.XORBytes(latest.Sum[:], latest.Sum[:], before[:])
		subtle.XORBytes(latest.Sum[:], latest.Sum[:], now[:])
	}
	return err
}

// Checksum returns the checksum of the stored rows, in the form in which the ledger has noted it.
func (r *Reader) Checksum() (sum Checksum, err error) {
	lists, listed, err := r.productLists(Revision{})
	if err != nil {
		return sum, err
	}
	return r.checksum(lists, listed)
}

// checksum returns the checksum of the rows, with dimensions as rows or, if they are listed, as the lists of products.
func (r *Reader) checksum(lists []productList, listed bool) (sum Checksum, err error) {
	sum = emptyCatalogue
	_, err = r.Load(Revision{}, func(row any) error {
		k := kindOfRow(row)
		columns, values := k.columns, k.values(row)
		if listed {
			switch row := row.(type) {
			case *metering.Dimension:
				return nil
			case *metering.Product:
				columns, values = withList(columns, values, &lists[row.ID-1]) // ids have no gaps
			}
		}
		sum.add(k.table, columns, values)
		return nil
	})
	return sum, err
}

// withList returns the columns that a product had before step 5, and their values.
func withList(columns []string, values []any, l *productList) ([]string, []any) {
	at := slices.Index(columns, "regions")
	return slices.Insert(slices.Clone(columns), at, "dimensions"), slices.Insert(values, at, any(l.text))
}
