package store

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/meterd/meterd/internal/iam"
	"github.com/meterd/meterd/internal/metering"
)

// Principal is a user or a role of an account.
type Principal struct {
	ID      uint32
	Account uint32
	Kind    iam.Kind
	Name    string
	iam.Permissions
	Deleted bool
}

// AccessKey is a user's access key.
type AccessKey struct {
	ID          uint32
	AccessKeyID string
	Principal   uint32
	Sealed      []byte // the secret under the master key
	Active      bool
	Deleted     bool
	Created     metering.Instant
}

// AdminToken is a bearer token of the admin API, hashed.
type AdminToken struct {
	ID      uint32
	Name    string
	Hash    [32]byte
	Created metering.Instant
	Deleted bool
}

// RegistrationToken is a registration token that was issued.
type RegistrationToken struct {
	ID                        [16]byte
	Product, Buyer, Agreement uint32
	Issued, Expires           metering.Instant
	Revoked                   bool
}

// kinds are the kinds of rows that acts of administration write, each with its table, the number of columns of its key,
// and its columns, the key's first. Adding, replacing, loading and copying rows and the checksum all loop over this
// list. A row refers only to rows whose kinds come earlier in the list.
//
// Columns have the names that they have in the tables. The names are part of the checksum: see [Checksum].
var kinds = []*kind{
	kindOf("region", 1, func(f *fields, r *metering.RegionInfo) {
		number(f, "id", &r.ID, 1, math.MaxUint8)
		text(f, "name", &r.Name)
		boolean(f, "enabled", &r.Enabled)
	}),
	kindOf("account", 1, func(f *fields, a *metering.Account) {
		reference(f, "id", &a.ID, "account")
		number(f, "account_id", &a.AccountID, 0, 999_999_999_999)
		text(f, "name", &a.Name)
		boolean(f, "seller", &a.Seller)
		boolean(f, "buyer", &a.Buyer)
		boolean(f, "suspended", &a.Suspended)
	}),
	kindOf("product", 1, func(f *fields, p *metering.Product) {
		reference(f, "id", &p.ID, "product")
		reference(f, "seller", &p.Seller, "account")
		text(f, "product_code", &p.Code)
		text(f, "product_id", &p.ProductID)
		text(f, "title", &p.Title)
		number(f, "type", &p.Type, int64(metering.SaaS), int64(metering.AMI))
		boolean(f, "concurrent", &p.Concurrent)
		references(f, "regions", &p.Regions, "region")
	}),
	counted(kindOf("dimension", 2, func(f *fields, d *metering.Dimension) {
		reference(f, "product", &d.Product, "product")
		number(f, "n", &d.N, 1, math.MaxUint16)
		text(f, "dimension_key", &d.Key)
		text(f, "name", &d.Name)
		text(f, "description", &d.Description)
		text(f, "unit", &d.Unit)
		number(f, "type", &d.Type, int64(metering.Entitled), int64(metering.ExternallyMetered))
	})),
	kindOf("public_key", 2, func(f *fields, k *metering.PublicKey) {
		reference(f, "product", &k.Product, "product")
		number(f, "version", &k.Version, 1, math.MaxInt32)
		text(f, "pem", &k.PEM)
		blob(f, "sealed", &k.Sealed)
		instant(f, "created", &k.Created)
		instant(f, "rotated_at", &k.RotatedAt)
	}),
	kindOf("agreement", 1, func(f *fields, a *metering.Agreement) {
		reference(f, "id", &a.ID, "agreement")
		reference(f, "product", &a.Product, "product")
		reference(f, "buyer", &a.Buyer, "account")
		text(f, "agreement_id", &a.AgreementID)
		text(f, "license_arn", &a.LicenseARN)
		instant(f, "start", &a.Start)
		instant(f, "ending_at", &a.EndingAt)
		instant(f, "ended_at", &a.EndedAt)
	}),
	kindOf("customer", 2, func(f *fields, u *metering.Customer) {
		reference(f, "seller", &u.Seller, "account")
		reference(f, "buyer", &u.Buyer, "account")
		text(f, "identifier", &u.Identifier)
	}),
	addedLater("policy", 7, "CAST('' AS text)", kindOf("principal", 1, func(f *fields, p *Principal) {
		reference(f, "id", &p.ID, "principal")
		reference(f, "account", &p.Account, "account")
		number(f, "kind", &p.Kind, int64(iam.User), int64(iam.Role))
		text(f, "name", &p.Name)
		list(f, "allow", &p.Allow)
		list(f, "deny", &p.Deny)
		text(f, "policy", &p.Policy)
		boolean(f, "deleted", &p.Deleted)
	})),
	kindOf("access_key", 1, func(f *fields, k *AccessKey) {
		reference(f, "id", &k.ID, "access_key")
		text(f, "access_key_id", &k.AccessKeyID)
		reference(f, "principal", &k.Principal, "principal")
		blob(f, "sealed", &k.Sealed)
		boolean(f, "active", &k.Active)
		boolean(f, "deleted", &k.Deleted)
		instant(f, "created", &k.Created)
	}),
	kindOf("workload", 1, func(f *fields, w *metering.Workload) {
		reference(f, "id", &w.ID, "workload")
		reference(f, "account", &w.Account, "account")
		number(f, "platform", &w.Platform, int64(metering.EC2), int64(metering.AgentCore))
		text(f, "resource_id", &w.ResourceID)
		reference(f, "region", &w.Region, "region")
		reference(f, "role", &w.Role, "principal")
	}),
	kindOf("admin_token", 1, func(f *fields, t *AdminToken) {
		reference(f, "id", &t.ID, "admin_token")
		text(f, "name", &t.Name)
		fixed(f, "hash", t.Hash[:])
		instant(f, "created", &t.Created)
		boolean(f, "deleted", &t.Deleted)
	}),
	apart(kindOf("registration_token", 1, func(f *fields, t *RegistrationToken) {
		fixed(f, "id", t.ID[:])
		reference(f, "product", &t.Product, "product")
		reference(f, "buyer", &t.Buyer, "account")
		number(f, "agreement", &t.Agreement, 0, math.MaxUint32)
		instant(f, "issued", &t.Issued)
		instant(f, "expires", &t.Expires)
		boolean(f, "revoked", &t.Revoked)
	})),
}

// kind is a kind of rows.
type kind struct {
	table    string
	columns  []string
	key      []string // the columns of the primary key, which come first
	upsert   string   // adds a row or replaces the one with its key; the parameters are the row's values
	numbered bool     // the key is a number, and numbers have no gaps from 1 on
	counted  bool     // the key is the key of the owner that the row belongs to, and a number; the numbers of one owner have no gaps from 1 on
	apart    bool     // not part of the catalogue: such rows have no revision, are not in the checksum, and are only read one by one
	later    map[string]laterColumn

	of    reflect.Type
	fresh func() any
	visit func(*fields, any)
}

// kindOf returns a kind of rows. visit must go through all columns of a row, always in the same order.
func kindOf[T any](table string, key int, visit func(*fields, *T)) *kind {
	k := &kind{table: table, of: reflect.TypeFor[*T](), fresh: func() any { return new(T) },
		visit: func(f *fields, row any) { visit(f, row.(*T)) }}
	names := fields{naming: true}
	k.visit(&names, k.fresh())
	k.columns = names.names
	k.key = k.columns[:key]
	k.numbered = k.key[0] == "id"
	k.upsert = k.upsertOf(append(slices.Clone(k.columns), "changed"))
	return k
}

// counted marks a kind as counted: see the field.
func counted(k *kind) *kind {
	k.counted = true
	return k
}

// laterColumn is a column that a later step has added to a table, with the column's default as both stores write it.
type laterColumn struct {
	step   int64
	preset string
}

// addedLater notes which step has added a column to a kind's table. In tables that lack the step, the column is read as
// its default.
func addedLater(column string, step int64, preset string, k *kind) *kind {
	if k.later == nil {
		k.later = map[string]laterColumn{}
	}
	k.later[column] = laterColumn{step, preset}
	return k
}

// apart marks a kind as no part of the catalogue: see the field.
func apart(k *kind) *kind {
	k.apart, k.numbered = true, false
	k.upsert = k.upsertOf(k.columns)
	return k
}

func (k *kind) upsertOf(columns []string) string {
	var parameters, changes []string
	for i, c := range columns {
		parameters = append(parameters, "$"+strconv.Itoa(i+1))
		if i >= len(k.key) {
			changes = append(changes, c+" = excluded."+c)
		}
	}
	return "INSERT INTO " + k.table + " (" + strings.Join(columns, ", ") + ") VALUES (" + strings.Join(parameters, ",") +
		") ON CONFLICT (" + strings.Join(k.key, ", ") + ") DO UPDATE SET " + strings.Join(changes, ", ")
}

var kindByType = func() map[reflect.Type]*kind {
	byType := map[reflect.Type]*kind{}
	for _, k := range kinds {
		byType[k.of] = k
	}
	return byType
}()

// kindOfRow returns the kind of a row, which is given as a pointer.
func kindOfRow(row any) *kind {
	k := kindByType[reflect.TypeOf(row)]
	if k == nil {
		panic(fmt.Sprintf("a %T is no row of the store's kinds", row))
	}
	return k
}

// values returns the values of a row's columns.
func (k *kind) values(row any) []any {
	f := fields{values: make([]any, 0, len(k.columns)+1)} // and the revision
	k.visit(&f, row)
	return f.values
}

// read makes a row from the columns of from.
func (k *kind) read(from *row) (any, error) {
	v := k.fresh()
	k.visit(&fields{from: from}, v)
	return v, from.damage
}

// selection returns the statement that reads rows of a kind, without a WHERE.
func (r *Reader) selection(k *kind) string {
	columns := slices.Clone(k.columns)
	for i, column := range columns {
		if later, is := k.later[column]; is && r.lacks(later.step) {
			columns[i] = later.preset + " AS " + column
		}
	}
	return "SELECT " + strings.Join(columns, ", ") + " FROM " + k.table
}

// lacks reports whether the tables lack a step. They may lack one while earlier steps are being made, and in a database
// that is only read. A folder that is only read appears to have all steps: see asKnown.
func (r *Reader) lacks(step int64) bool {
	switch r := r.reader.(type) {
	case *postgresReader:
		return r.lacks(step)
	case *sqliteReader:
		return r.made != 0 && r.made < step
	}
	return false
}

// Put adds rows, which are pointers, as [Reader.Load] returns them. It may replace rows that have the same keys only
// where the checksum does not matter, as in a copy.
func (tx *Tx) Put(rows ...any) error {
	for _, row := range rows {
		if err := tx.Replace(row, nil); err != nil {
			return err
		}
	}
	return nil
}

// Replace stores a row in the place of old, the row with the same key, with all columns; old is nil if there is none.
// The checksum of the catalogue is brought up to date from both.
func (tx *Tx) Replace(row, old any) error {
	k := kindOfRow(row)
	values := k.values(row)
	if k.apart {
		return tx.exec(k.upsert, values...)
	}
	tx.sum.add(k.table, k.columns, values)
	if old != nil {
		tx.sum.add(k.table, k.columns, k.values(old))
	}
	return tx.exec(k.upsert, append(values, tx.revision)...)
}

// fields goes through the columns of a row. It notes the columns' names, or their values, or sets the row's fields to
// the values that are read.
type fields struct {
	naming bool
	names  []string
	values []any
	from   *row // nil unless columns are being read
	n      int  // how many columns of from have been read
}

// next returns the number of the column and true if the column is to be read. Else it notes the column's name or value.
func (f *fields) next(column string, value func() any) (n int, reads bool) {
	switch {
	case f.from != nil:
		f.n++
		return f.n - 1, true
	case f.naming:
		f.names = append(f.names, column)
	default:
		f.values = append(f.values, value())
	}
	return 0, false
}

type integer interface {
	~int32 | ~int64 | ~uint8 | ~uint16 | ~uint32 | ~uint64
}

// number is a column with a number from least to most.
func number[T integer](f *fields, column string, v *T, least, most int64) {
	if n, reads := f.next(column, func() any { return int64(*v) }); reads {
		*v = T(f.from.number(n, least, most))
	}
}

// reference is a column with the number of a row in another table.
func reference[T integer](f *fields, column string, v *T, table string) {
	if n, reads := f.next(column, func() any { return int64(*v) }); reads {
		*v = T(f.from.of(table, n))
	}
}

// references is a column with the numbers of rows in another table, as a JSON list.
func references[T integer](f *fields, column string, v *[]T, table string) {
	numbers := make([]int64, len(*v)) // a []uint8 would become a string
	for i, n := range *v {
		numbers[i] = int64(n)
	}
	list(f, column, &numbers)
	if f.from == nil {
		return
	}
	for _, n := range numbers {
		if (n < 1 || n > f.from.most[table]) && f.from.damage == nil {
			f.from.damage = fmt.Errorf("%s %d does not exist", table, n)
		}
		*v = append(*v, T(n))
	}
}

// instant is a column with a time.
func instant(f *fields, column string, v *metering.Instant) {
	number(f, column, v, math.MinInt64, math.MaxInt64)
}

// boolean is a column with a yes or no.
func boolean(f *fields, column string, v *bool) {
	if n, reads := f.next(column, func() any { return *v }); reads {
		*v = f.from.ColumnBool(n)
	}
}

// text is a column with a text.
func text(f *fields, column string, v *string) {
	if n, reads := f.next(column, func() any { return *v }); reads {
		*v = f.from.ColumnText(n)
	}
}

// list is a column with a JSON list.
func list[T any](f *fields, column string, v *[]T) {
	if n, reads := f.next(column, func() any { b, _ := json.Marshal(*v); return string(b) }); reads {
		f.from.list(n, v)
	}
}

// blob is a column with bytes.
func blob(f *fields, column string, v *[]byte) {
	if n, reads := f.next(column, func() any { return *v }); reads {
		*v = bytes.Clone(f.from.ColumnRawBlob(n))
	}
}

// fixed is a column with as many bytes as v has.
func fixed(f *fields, column string, v []byte) {
	if n, reads := f.next(column, func() any { return v }); reads {
		f.from.bytes(n, v)
	}
}
