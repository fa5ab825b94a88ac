package store

import (
	"crypto/sha256"
	"crypto/subtle"
	"strconv"
	"strings"

	"github.com/meterd/meterd/internal/metering"
)

// Checksum is the running checksum of the catalogue: the exclusive or of the hashes of all rows that acts of
// administration write. Each act takes the rows that it replaces out of it and puts its own in, and notes the result in
// its revision. So a page whose last write was lost, which is a whole page with a right checksum of its own, shows.
type Checksum [sha256.Size]byte

// emptyCatalogue is the checksum of no rows. It is not zero, which stands for a revision without one.
var emptyCatalogue = Checksum(sha256.Sum256(nil))

// kind is what the hash of a row of a table is made of.
type kind[T any] struct {
	table   string
	columns []string
	values  func(T) []any
}

func kindOf[T any](table, columns string, values func(T) []any) kind[T] {
	return kind[T]{table, strings.Split(columns, ", "), values}
}

// put runs a statement that writes a row, of which the revision is the last value.
func (k *kind[T]) put(tx *Tx, sql string, v T, old []T) error {
	values := k.values(v)
	tx.sum.add(k.table, k.columns, values)
	for _, o := range old {
		tx.sum.add(k.table, k.columns, k.values(o))
	}
	return tx.exec(sql, append(values, tx.revision)...)
}

// into returns a function that puts a row's hash into a checksum.
func (k *kind[T]) into(sum *Checksum) func(T) {
	return func(v T) { sum.add(k.table, k.columns, k.values(v)) }
}

// add puts a row's hash into the checksum, or takes it out. Values that are zero are left out of the hash, so that
// a column which is added later, with zero as its default, leaves it as it is.
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
		case int:
			number(column, int64(v))
		case int64:
			number(column, v)
		case uint32:
			number(column, int64(v))
		case uint64:
			number(column, int64(v))
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

// Checksum returns the checksum of the rows that are there.
func (r *Reader) Checksum() (sum Checksum, err error) {
	sum = emptyCatalogue
	key := accessKeys.into(&sum)
	_, err = r.Load(Revision{}, &Rows{
		Region: regions.into(&sum), Account: accounts.into(&sum), Product: products.into(&sum), PublicKey: publicKeys.into(&sum),
		Agreement: agreements.into(&sum), Customer: customers.into(&sum), Principal: principals.into(&sum), Workload: workloads.into(&sum),
		AccessKey: func(k AccessKey) error { key(k); return nil }, AdminToken: adminTokens.into(&sum),
	})
	return sum, err
}

// The kinds of rows that acts of administration write, but for registration tokens, of which there may be many and which
// are only read by their ids.
var (
	regions = kindOf("region", "id, name, enabled", func(r metering.RegionInfo) []any {
		return []any{int(r.ID), r.Name, r.Enabled}
	})
	accounts = kindOf("account", "id, account_id, name, seller, buyer, suspended", func(a metering.Account) []any {
		return []any{a.ID, a.AccountID, a.Name, a.Seller, a.Buyer, a.Suspended}
	})
	products = kindOf("product", "id, seller, product_code, product_id, title, type, concurrent, dimensions, regions", func(p metering.Product) []any {
		regions := make([]int, len(p.Regions)) // []Region would become a string
		for i, r := range p.Regions {
			regions[i] = int(r)
		}
		return []any{p.ID, p.Seller, p.Code, p.ProductID, p.Title, int(p.Type), p.Concurrent, list(p.Dimensions), list(regions)}
	})
	publicKeys = kindOf("public_key", "product, version, pem, sealed, created, rotated_at", func(k metering.PublicKey) []any {
		return []any{k.Product, int(k.Version), k.PEM, k.Sealed, int64(k.Created), int64(k.RotatedAt)}
	})
	agreements = kindOf("agreement", "id, product, buyer, agreement_id, license_arn, start, ending_at, ended_at", func(a metering.Agreement) []any {
		return []any{a.ID, a.Product, a.Buyer, a.AgreementID, a.LicenseARN, int64(a.Start), int64(a.EndingAt), int64(a.EndedAt)}
	})
	customers = kindOf("customer", "seller, buyer, identifier", func(u metering.Customer) []any {
		return []any{u.Seller, u.Buyer, u.Identifier}
	})
	workloads = kindOf("workload", "id, account, platform, resource_id, region, role", func(w metering.Workload) []any {
		return []any{w.ID, w.Account, int(w.Platform), w.ResourceID, int(w.Region), w.Role}
	})
	principals = kindOf("principal", "id, account, kind, name, allow, deny, deleted", func(p Principal) []any {
		return []any{p.ID, p.Account, int(p.Kind), p.Name, list(p.Allow), list(p.Deny), p.Deleted}
	})
	accessKeys = kindOf("access_key", "id, access_key_id, principal, sealed, active, deleted, created", func(k AccessKey) []any {
		return []any{k.ID, k.AccessKeyID, k.Principal, k.Sealed, k.Active, k.Deleted, int64(k.Created)}
	})
	adminTokens = kindOf("admin_token", "id, name, hash, created, deleted", func(t AdminToken) []any {
		return []any{t.ID, t.Name, t.Hash[:], int64(t.Created), t.Deleted}
	})
)
