package store

import (
	"crypto/sha256"
	"crypto/subtle"
	"strconv"
)

// Checksum is the running checksum of the catalogue: the exclusive or of the hashes of all rows that acts of
// administration write. Each act takes the rows that it replaces out of the checksum, puts its own in, and notes the
// result in its revision. This also reveals a page whose last write was lost, which is a whole page with a right
// checksum of its own.
type Checksum [sha256.Size]byte

// emptyCatalogue is the checksum of no rows. It is not zero, which stands for a revision without one.
var emptyCatalogue = Checksum(sha256.Sum256(nil))

// add puts a row's hash into the checksum or, if the hash is in it, takes it out. The hash leaves out values that are
// zero, so that a column added later, with zero as its default, does not change it.
func (c *Checksum) add(table string, columns []string, values []any) {
	b := append(make([]byte, 0, 512), table...)
	part := func(column string, kind byte, n int) {
		b = append(append(append(b, 0), column...), 0, kind)
		b = append(strconv.AppendInt(b, int64(n), 10), ':')
	}
	number := func(column string, n int64) {
		if n != 0 {
			part(column, 'n', 0)
			b = strconv.AppendInt(b, n, 10)
		}
	}
	for i, column := range columns {
		switch v := values[i].(type) {
		case int64:
			number(column, v)
		case bool:
			if v {
				number(column, 1)
			}
		case string:
			if v != "" {
				part(column, 's', len(v))
				b = append(b, v...)
			}
		case []byte:
			if len(v) > 0 {
				part(column, 'b', len(v))
				b = append(b, v...)
			}
		default:
			panic("column " + column + " of " + table + " is of a kind that has no hash")
		}
	}
	hash := sha256.Sum256(b)
	subtle.XORBytes(c[:], c[:], hash[:])
}
