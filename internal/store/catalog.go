package store

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"strings"

	"github.com/meterd/meterd/internal/metering"
)

// PutMeta stores a named value.
func (tx *Tx) PutMeta(name string, value []byte) error {
	return tx.exec("INSERT INTO meta (name, value) VALUES ($1,$2) ON CONFLICT (name) DO UPDATE SET value = excluded.value", name, value)
}

// row reads the columns of one row, and remembers the first that cannot have been written. Damage must be refused
// where it is read: in memory it would become an index out of range.
type row struct {
	columns
	most   map[string]int64 // for each table with numbered rows, the largest number
	damage error
}

// number reads a number that must be least to most.
func (r *row) number(column int, least, most int64) int64 {
	n := r.ColumnInt64(column)
	if (n < least || n > most) && r.damage == nil {
		r.damage = fmt.Errorf("%s is %d; it must be %d to %d", r.ColumnName(column), n, least, most)
	}
	return n
}

// of reads a column with the number of a row of another table.
func (r *row) of(table string, column int) uint32 {
	return uint32(r.number(column, 1, r.most[table]))
}

// list reads a JSON list.
func (r *row) list(column int, into any) {
	if err := json.Unmarshal([]byte(r.ColumnText(column)), into); err != nil && r.damage == nil {
		r.damage = fmt.Errorf("%s is not a list: %w", r.ColumnName(column), err)
	}
}

// bytes reads a value that must be as long as into.
func (r *row) bytes(column int, into []byte) {
	b := r.ColumnRawBlob(column)
	if copy(into, b); len(b) != len(into) && r.damage == nil {
		r.damage = fmt.Errorf("%s has %d bytes; it must have %d", r.ColumnName(column), len(b), len(into))
	}
}

func (r *row) instant(column int) metering.Instant { return metering.Instant(r.ColumnInt64(column)) }

// Load calls f for the rows of the catalogue and the directory that acts of administration have changed since a
// revision, and returns the revision that it has read. Revision 0 stands for all rows. A row comes after the rows
// that it refers to, unless these have not changed. Each row is a new pointer that f may keep: to a
// metering.RegionInfo, Account, Product, PublicKey, Agreement, Customer or Workload, or to a [Principal], [AccessKey]
// or [AdminToken].
//
// Load refuses rows that cannot have been written: their numbers must have no gaps, and what they refer to must
// exist. ErrWentBack means that the known revision is not in the store's history.
func (r *Reader) Load(known Revision, f func(row any) error) (latest Revision, err error) {
	if latest, err = r.revision(known); err != nil {
		return latest, err
	}
	most, err := r.most()
	if err != nil {
		return latest, err
	}
	where, args := "", []any(nil)
	if known.N > 0 {
		where, args = " WHERE changed > $1", []any{known.N}
	}
	lists, listed, err := r.productLists(known)
	if err != nil {
		return latest, err
	}
	for _, k := range kinds {
		switch {
		case k.apart:
			continue
		case listed && k == kindOfRow((*metering.Dimension)(nil)):
			err = eachOf(lists, f)
		default:
			next := counter{k: k, all: known.N == 0}
			err = r.rows(k.table, r.selection(k)+where+" ORDER BY "+strings.Join(k.key, ", "), most, func(s *row) error {
				if err := next.check(s); err != nil {
					return err
				}
				v, err := k.read(s)
				if err != nil {
					return err
				}
				return f(v)
			}, args...)
		}
		if err != nil {
			return latest, err
		}
	}
	return latest, nil
}

// counter refuses gaps in numbers that count from 1, for all rows or for the rows of each thing, in the order of
// their keys.
type counter struct {
	k   *kind
	all bool // whether all rows are read
	of  int64
	n   int64
}

func (c *counter) check(s *row) error {
	column, what := 0, "it"
	if c.k.counted {
		column, what = 1, c.k.columns[1]
		if of := s.ColumnInt64(0); of != c.of {
			c.of, c.n = of, 0
		}
	}
	c.n++
	if n := s.ColumnInt64(column); c.all && (c.k.numbered || c.k.counted) && n != c.n {
		return fmt.Errorf("%s should be %d: rows have been lost or added", what, c.n)
	}
	return nil
}

// most returns the largest number of each table whose rows are numbered.
func (r *Reader) most() (most map[string]int64, err error) {
	most = map[string]int64{}
	for _, k := range kinds {
		if k.numbered && err == nil {
			most[k.table], err = r.number("SELECT coalesce(max(id), 0) FROM " + k.table)
		}
	}
	return most, err
}

// Registrations calls f for each registration.
func (r *Reader) Registrations(f func(metering.Registration) error) error {
	most, err := r.most()
	if err != nil {
		return err
	}
	return r.rows("registration", "SELECT workload, product, operation, first_call, last_call FROM registration ORDER BY workload, product, operation", most, func(s *row) error {
		v := metering.Registration{Workload: s.of("workload", 0), Product: s.of("product", 1),
			Operation: metering.Operation(s.number(2, 1, math.MaxUint8)), First: s.instant(3), Last: s.instant(4)}
		if s.damage != nil {
			return s.damage
		}
		return f(v)
	})
}

// rows calls f for each row of a statement, and refuses damage with an error that names the table and the value of
// the row's first column.
func (r *Reader) rows(table, sql string, most map[string]int64, f func(*row) error, args ...any) error {
	one := row{most: most}
	return r.query(sql, func(c columns) error {
		one.columns = c
		if err := f(&one); err != nil {
			return fmt.Errorf("%s row with %s %d: %w", table, c.ColumnName(0), c.ColumnInt64(0), err)
		}
		return nil
	}, args...)
}

// Registered reports whether the workload has had a successful call for the product.
func (r *Reader) Registered(workload, product uint32) (bool, error) {
	n, err := r.number("SELECT count(*) FROM registration WHERE workload = $1 AND product = $2", workload, product)
	return n > 0, err
}

// RegistrationToken returns the token of the given id, or nil.
func (r *Reader) RegistrationToken(id [16]byte) (found *RegistrationToken, err error) {
	err = r.registrationTokens("WHERE id = $1", func(t RegistrationToken) error {
		found = &t
		return nil
	}, id[:])
	return found, err
}

// RegistrationTokens calls f for registration tokens whose id comes after the given one, at most limit, in the
// order of their ids, which is the order in which they were issued.
func (r *Reader) RegistrationTokens(after [16]byte, limit int, f func(RegistrationToken) error) error {
	return r.registrationTokens("WHERE id > $1 ORDER BY id LIMIT $2", f, after[:], limit)
}

func (r *Reader) registrationTokens(where string, f func(RegistrationToken) error, args ...any) error {
	k := kindOfRow((*RegistrationToken)(nil))
	n := len(k.columns)
	most := map[string]int64{}
	return r.query("SELECT "+strings.Join(k.columns, ", ")+", (SELECT max(id) FROM product), (SELECT max(id) FROM account) FROM "+k.table+" "+where, func(c columns) error {
		most["product"], most["account"] = c.ColumnInt64(n), c.ColumnInt64(n+1)
		v, err := k.read(&row{columns: c, most: most})
		t := v.(*RegistrationToken)
		if err != nil {
			return fmt.Errorf("registration token %x: %w", t.ID, err)
		}
		return f(*t)
	}, args...)
}

// ClientTokens calls f for each remembered ClientToken.
func (r *Reader) ClientTokens(f func(*ClientToken) error) error {
	return r.query("SELECT workload, hash, parameters, record, at FROM client_token", func(c columns) error {
		s := row{columns: c}
		t := ClientToken{At: s.instant(4)}
		t.Key.Workload = uint32(s.number(0, 1, math.MaxUint32))
		s.bytes(1, t.Key.Hash[:])
		s.bytes(2, t.Parameters[:])
		s.bytes(3, t.Record[:])
		if s.damage != nil {
			return fmt.Errorf("client_token of workload %d: %w", t.Key.Workload, s.damage)
		}
		return f(&t)
	})
}

// Value returns the named value, or nil.
func (r *Reader) Value(name string) (value []byte, err error) {
	err = r.query("SELECT value FROM meta WHERE name = $1", func(c columns) error {
		value = bytes.Clone(c.ColumnRawBlob(0))
		return nil
	}, name)
	return value, err
}

// number returns the number that a statement returns.
func (r *Reader) number(sql string, args ...any) (n int64, err error) {
	err = r.query(sql, func(c columns) error {
		n = c.ColumnInt64(0)
		return nil
	}, args...)
	return n, err
}

// requestSlack is how many milliseconds rows may be out of the order of their request ids' times and still be found
// by these times. An id is made when its request arrives; a row is appended when its group is committed.
const requestSlack = 10_000

// idMillis returns the time in a UUID of version 7.
func idMillis(id []byte) int64 {
	var b [8]byte
	copy(b[2:], id[:min(len(id), 6)])
	return int64(binary.BigEndian.Uint64(b[:]))
}

// halve returns the first place from low to high that is not earlier, if places are in order; high if all are.
func halve(low, high int64, earlier func(place int64) (bool, error)) (int64, error) {
	for low < high {
		middle := low + (high-low)/2
		is, err := earlier(middle)
		if err != nil {
			return 0, err
		}
		if is {
			low = middle + 1
		} else {
			high = middle
		}
	}
	return low, nil
}
