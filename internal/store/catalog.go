package store

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
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

func list(v any) string {
	b, _ := json.Marshal(v)
	return string(b)
}

// PutMeta stores a named value.
func (tx *Tx) PutMeta(name string, value []byte) error {
	return tx.exec("INSERT INTO meta (name, value) VALUES ($1,$2) ON CONFLICT (name) DO UPDATE SET value = excluded.value", name, value)
}

// Puts of the catalogue's rows are told which row they replace, if there is one, for the checksum of the catalogue.

// PutRegion adds or replaces a region.
func (tx *Tx) PutRegion(r metering.RegionInfo, old ...metering.RegionInfo) error {
	return regions.put(tx, "INSERT INTO region (id, name, enabled, changed) VALUES ($1,$2,$3,$4) ON CONFLICT (id) DO UPDATE SET changed = excluded.changed, enabled = excluded.enabled", r, old)
}

// PutAccount adds or replaces an account.
func (tx *Tx) PutAccount(a metering.Account, old ...metering.Account) error {
	return accounts.put(tx, "INSERT INTO account (id, account_id, name, seller, buyer, suspended, changed) VALUES ($1,$2,$3,$4,$5,$6,$7) ON CONFLICT (id) DO UPDATE SET changed = excluded.changed, name = excluded.name, seller = excluded.seller, buyer = excluded.buyer, suspended = excluded.suspended", a, old)
}

// PutProduct adds or replaces a product.
func (tx *Tx) PutProduct(p metering.Product, old ...metering.Product) error {
	return products.put(tx, "INSERT INTO product (id, seller, product_code, product_id, title, type, concurrent, dimensions, regions, changed) VALUES ($1,$2,$3,$4,$5,$6,$7,$8,$9,$10) ON CONFLICT (id) DO UPDATE SET changed = excluded.changed, title = excluded.title, dimensions = excluded.dimensions, regions = excluded.regions", p, old)
}

// PutPublicKey adds a version of a product's key, or notes when it was replaced.
func (tx *Tx) PutPublicKey(k metering.PublicKey, old ...metering.PublicKey) error {
	return publicKeys.put(tx, "INSERT INTO public_key (product, version, pem, sealed, created, rotated_at, changed) VALUES ($1,$2,$3,$4,$5,$6,$7) ON CONFLICT (product, version) DO UPDATE SET changed = excluded.changed, rotated_at = excluded.rotated_at", k, old)
}

// PutAgreement adds or replaces an agreement.
func (tx *Tx) PutAgreement(a metering.Agreement, old ...metering.Agreement) error {
	return agreements.put(tx, "INSERT INTO agreement (id, product, buyer, agreement_id, license_arn, start, ending_at, ended_at, changed) VALUES ($1,$2,$3,$4,$5,$6,$7,$8,$9) ON CONFLICT (id) DO UPDATE SET changed = excluded.changed, ending_at = excluded.ending_at, ended_at = excluded.ended_at", a, old)
}

// PutCustomer adds a customer identifier.
func (tx *Tx) PutCustomer(u metering.Customer) error {
	return customers.put(tx, "INSERT INTO customer (seller, buyer, identifier, changed) VALUES ($1,$2,$3,$4)", u, nil)
}

// PutWorkload adds or replaces a workload.
func (tx *Tx) PutWorkload(w metering.Workload, old ...metering.Workload) error {
	return workloads.put(tx, "INSERT INTO workload (id, account, platform, resource_id, region, role, changed) VALUES ($1,$2,$3,$4,$5,$6,$7) ON CONFLICT (id) DO UPDATE SET changed = excluded.changed, role = excluded.role", w, old)
}

// PutPrincipal adds or replaces a user or role.
func (tx *Tx) PutPrincipal(p Principal, old ...Principal) error {
	return principals.put(tx, "INSERT INTO principal (id, account, kind, name, allow, deny, deleted, changed) VALUES ($1,$2,$3,$4,$5,$6,$7,$8) ON CONFLICT (id) DO UPDATE SET changed = excluded.changed, allow = excluded.allow, deny = excluded.deny, deleted = excluded.deleted", p, old)
}

// PutAccessKey adds or replaces an access key.
func (tx *Tx) PutAccessKey(k AccessKey, old ...AccessKey) error {
	return accessKeys.put(tx, "INSERT INTO access_key (id, access_key_id, principal, sealed, active, deleted, created, changed) VALUES ($1,$2,$3,$4,$5,$6,$7,$8) ON CONFLICT (id) DO UPDATE SET changed = excluded.changed, active = excluded.active, deleted = excluded.deleted", k, old)
}

// PutAdminToken adds or replaces a token of the admin API.
func (tx *Tx) PutAdminToken(t AdminToken, old ...AdminToken) error {
	return adminTokens.put(tx, "INSERT INTO admin_token (id, name, hash, created, deleted, changed) VALUES ($1,$2,$3,$4,$5,$6) ON CONFLICT (id) DO UPDATE SET changed = excluded.changed, deleted = excluded.deleted", t, old)
}

// PutRegistrationToken adds a registration token, or revokes it.
func (tx *Tx) PutRegistrationToken(t RegistrationToken) error {
	return tx.exec("INSERT INTO registration_token (id, product, buyer, agreement, issued, expires, revoked) VALUES ($1,$2,$3,$4,$5,$6,$7) ON CONFLICT (id) DO UPDATE SET revoked = excluded.revoked",
		t.ID[:], t.Product, t.Buyer, t.Agreement, int64(t.Issued), int64(t.Expires), t.Revoked)
}

// row reads the columns of one row and keeps the first that cannot be what was written. Damage must be refused where
// it is read: in memory it would be an index out of range.
type row struct {
	columns
	most   map[string]int64 // of the tables whose rows are numbered: the largest number
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

// of reads the number of a row of a table.
func (r *row) of(table string, column int) uint32 {
	return uint32(r.number(column, 1, r.most[table]))
}

// list reads a JSON list.
func (r *row) list(column int, into any) {
	if err := json.Unmarshal([]byte(r.ColumnText(column)), into); err != nil && r.damage == nil {
		r.damage = fmt.Errorf("%s is not a list: %w", r.ColumnName(column), err)
	}
}

// bytes reads a value that must fill into.
func (r *row) bytes(column int, into []byte) {
	b := r.ColumnRawBlob(column)
	if copy(into, b); len(b) != len(into) && r.damage == nil {
		r.damage = fmt.Errorf("%s has %d bytes; it must have %d", r.ColumnName(column), len(b), len(into))
	}
}

// blob reads a value of any length.
func (r *row) blob(column int) []byte { return bytes.Clone(r.ColumnRawBlob(column)) }

func (r *row) instant(column int) metering.Instant { return metering.Instant(r.ColumnInt64(column)) }

// numbered are the tables whose rows have numbers without gaps, from 1.
var numbered = []string{"region", "account", "product", "agreement", "workload", "principal", "access_key", "admin_token"}

// Rows is where [Reader.Load] puts what it reads. Tables whose function is nil are not read.
type Rows struct {
	Region       func(metering.RegionInfo)
	Account      func(metering.Account)
	Product      func(metering.Product)
	PublicKey    func(metering.PublicKey)
	Agreement    func(metering.Agreement)
	Customer     func(metering.Customer)
	Principal    func(Principal)
	AccessKey    func(AccessKey) error
	Workload     func(metering.Workload)
	AdminToken   func(AdminToken)
	Registration func(metering.Registration)
}

// CatalogRows puts what belongs to the catalogue into c.
func CatalogRows(c *metering.Catalog) *Rows {
	return &Rows{Region: c.PutRegion, Account: c.PutAccount, Product: c.PutProduct, PublicKey: c.PutPublicKey, Agreement: c.PutAgreement,
		Customer: c.PutCustomer, Workload: c.PutWorkload, Registration: c.PutRegistration}
}

// table says how to read one table of the catalogue or the directory.
type table struct {
	name       string
	columns    []string
	order      string
	unchanging bool // its rows do not note a revision
	put        func(*row) error
}

// Load reads the rows of the catalogue and the directory that acts of administration have changed since a revision,
// and returns the revision that it has read. Revision 0 stands for all; registrations are read only then. What a row
// refers to comes before it, or was there. It refuses rows that cannot have been written: numbers must have no gaps,
// and what a row refers to must be there. ErrWentBack means that the known revision is not in the store's history.
func (r *Reader) Load(known Revision, to *Rows) (latest Revision, err error) {
	if latest, err = r.revision(known); err != nil {
		return latest, err
	}
	since := known.N
	most := map[string]int64{}
	for _, name := range numbered {
		if most[name], err = r.number("SELECT coalesce(max(id), 0) FROM " + name); err != nil {
			return latest, err
		}
	}
	for _, t := range to.tables() {
		if t.put == nil || t.unchanging && since > 0 {
			continue
		}
		where, args := "", []any(nil)
		if since > 0 {
			where, args = " WHERE changed > $1", []any{since}
		}
		_, dense := most[t.name]
		dense = dense && since == 0
		next := int64(1)
		err := r.rows(t.name, "SELECT "+strings.Join(t.columns, ", ")+" FROM "+t.name+where+" ORDER BY "+t.order, most, func(s *row) error {
			if id := s.ColumnInt64(0); dense && id != next {
				return fmt.Errorf("it should be %d: rows have been lost or added", next)
			}
			next++
			return t.put(s)
		}, args...)
		if err != nil {
			return latest, err
		}
	}
	return latest, nil
}

// rows calls f for each row of a statement, and refuses damage. An error says which table's and what the row's first
// column is.
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

// entering returns a function that reads a row with read and puts it unless it is damaged; nil if put is.
func entering[T any](put func(T), read func(*row) T) func(*row) error {
	if put == nil {
		return nil
	}
	return func(s *row) error {
		v := read(s)
		if s.damage == nil {
			put(v)
		}
		return s.damage
	}
}

func (to *Rows) tables() []table {
	var refused error // by AccessKey
	var accessKey func(AccessKey)
	if to.AccessKey != nil {
		accessKey = func(k AccessKey) { refused = to.AccessKey(k) }
	}
	return []table{
		{name: regions.table, columns: regions.columns, order: "id", put: entering(to.Region, func(s *row) metering.RegionInfo {
			return metering.RegionInfo{ID: metering.Region(s.number(0, 1, math.MaxUint8)), Name: s.ColumnText(1), Enabled: s.ColumnBool(2)}
		})},
		{name: accounts.table, columns: accounts.columns, order: "id", put: entering(to.Account, func(s *row) metering.Account {
			return metering.Account{ID: s.of("account", 0), AccountID: uint64(s.number(1, 0, 999_999_999_999)), Name: s.ColumnText(2),
				Seller: s.ColumnBool(3), Buyer: s.ColumnBool(4), Suspended: s.ColumnBool(5)}
		})},
		{name: products.table, columns: products.columns, order: "id", put: entering(to.Product, func(s *row) metering.Product {
			p := metering.Product{ID: s.of("product", 0), Seller: s.of("account", 1), Code: s.ColumnText(2), ProductID: s.ColumnText(3),
				Title: s.ColumnText(4), Type: metering.ProductType(s.number(5, int64(metering.SaaS), int64(metering.AMI))), Concurrent: s.ColumnBool(6)}
			s.list(7, &p.Dimensions)
			var regions []int
			s.list(8, &regions)
			for _, n := range regions {
				if (n < 1 || int64(n) > s.most["region"]) && s.damage == nil {
					s.damage = fmt.Errorf("region %d does not exist", n)
				}
				p.Regions = append(p.Regions, metering.Region(n))
			}
			return p
		})},
		{name: publicKeys.table, columns: publicKeys.columns, order: "product, version", put: entering(to.PublicKey, func(s *row) metering.PublicKey {
			return metering.PublicKey{Product: s.of("product", 0), Version: int32(s.number(1, 1, math.MaxInt32)), PEM: s.ColumnText(2),
				Sealed: s.blob(3), Created: s.instant(4), RotatedAt: s.instant(5)}
		})},
		{name: agreements.table, columns: agreements.columns, order: "id", put: entering(to.Agreement, func(s *row) metering.Agreement {
			return metering.Agreement{ID: s.of("agreement", 0), Product: s.of("product", 1), Buyer: s.of("account", 2),
				AgreementID: s.ColumnText(3), LicenseARN: s.ColumnText(4), Start: s.instant(5), EndingAt: s.instant(6), EndedAt: s.instant(7)}
		})},
		{name: customers.table, columns: customers.columns, order: "seller, buyer", put: entering(to.Customer, func(s *row) metering.Customer {
			return metering.Customer{Seller: s.of("account", 0), Buyer: s.of("account", 1), Identifier: s.ColumnText(2)}
		})},
		{name: principals.table, columns: principals.columns, order: "id", put: entering(to.Principal, func(s *row) Principal {
			p := Principal{ID: s.of("principal", 0), Account: s.of("account", 1), Kind: iam.Kind(s.number(2, int64(iam.User), int64(iam.Role))), Name: s.ColumnText(3), Deleted: s.ColumnBool(6)}
			s.list(4, &p.Allow)
			s.list(5, &p.Deny)
			return p
		})},
		{name: accessKeys.table, columns: accessKeys.columns, order: "id", put: withError(&refused, entering(accessKey, func(s *row) AccessKey {
			return AccessKey{ID: s.of("access_key", 0), AccessKeyID: s.ColumnText(1), Principal: s.of("principal", 2),
				Sealed: s.blob(3), Active: s.ColumnBool(4), Deleted: s.ColumnBool(5), Created: s.instant(6)}
		}))},
		{name: workloads.table, columns: workloads.columns, order: "id", put: entering(to.Workload, func(s *row) metering.Workload {
			return metering.Workload{ID: s.of("workload", 0), Account: s.of("account", 1),
				Platform: metering.Platform(s.number(2, int64(metering.EC2), int64(metering.AgentCore))), ResourceID: s.ColumnText(3),
				Region: metering.Region(s.of("region", 4)), Role: s.of("principal", 5)}
		})},
		{name: adminTokens.table, columns: adminTokens.columns, order: "id", put: entering(to.AdminToken, func(s *row) AdminToken {
			t := AdminToken{ID: s.of("admin_token", 0), Name: s.ColumnText(1), Created: s.instant(3), Deleted: s.ColumnBool(4)}
			s.bytes(2, t.Hash[:])
			return t
		})},
		{name: "registration", columns: []string{"workload", "product", "operation", "first_call", "last_call"}, order: "workload, product, operation", unchanging: true, put: entering(to.Registration, func(s *row) metering.Registration {
			return metering.Registration{Workload: s.of("workload", 0), Product: s.of("product", 1),
				Operation: metering.Operation(s.number(2, 1, math.MaxUint8)), First: s.instant(3), Last: s.instant(4)}
		})},
	}
}

// withError adds an error that putting a row has left behind.
func withError(refused *error, put func(*row) error) func(*row) error {
	if put == nil {
		return nil
	}
	return func(s *row) error {
		if err := put(s); err != nil {
			return err
		}
		return *refused
	}
}

// Registered tells whether the workload has had a successful call for the product.
func (r *Reader) Registered(workload, product uint32) (bool, error) {
	n, err := r.number("SELECT count(*) FROM registration WHERE workload = $1 AND product = $2", workload, product)
	return n > 0, err
}

const registrationTokenColumns = "SELECT id, product, buyer, agreement, issued, expires, revoked, (SELECT max(id) FROM product), (SELECT max(id) FROM account) FROM registration_token "

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
	return r.query(registrationTokenColumns+where, func(c columns) error {
		s := row{columns: c}
		t := RegistrationToken{Product: uint32(s.number(1, 1, s.ColumnInt64(7))), Buyer: uint32(s.number(2, 1, s.ColumnInt64(8))), Agreement: uint32(s.number(3, 0, math.MaxUint32)),
			Issued: s.instant(4), Expires: s.instant(5), Revoked: s.ColumnBool(6)}
		s.bytes(0, t.ID[:])
		if s.damage != nil {
			return fmt.Errorf("registration token %x: %w", t.ID, s.damage)
		}
		return f(t)
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

const callColumns = "SELECT seq, at, request, operation, principal, access_key, workload, source, region, refusal, usage_rows, detail FROM call "

func scanCall(s columns, c *Call) {
	*c = Call{
		Seq: s.ColumnInt64(0), At: metering.Instant(s.ColumnInt64(1)), Operation: uint8(s.ColumnInt64(3)),
		Principal: uint32(s.ColumnInt64(4)), AccessKey: uint32(s.ColumnInt64(5)), Workload: uint32(s.ColumnInt64(6)),
		Source: s.ColumnText(7), Region: metering.Region(s.ColumnInt64(8)), Refusal: int(s.ColumnInt64(9)),
		UsageRows: int(s.ColumnInt64(10)), Detail: bytes.Clone(s.ColumnRawBlob(11)),
	}
	copy(c.Request[:], s.ColumnRawBlob(2))
}

// Call returns the audit row of the given Seq, or nil.
func (r *Reader) Call(seq int64) (found *Call, err error) {
	err = r.query(callColumns+"WHERE seq = $1", func(c columns) error {
		found = new(Call)
		scanCall(c, found)
		return nil
	}, seq)
	return found, err
}

// CallsOf calls f for each audit row of an operation, in the order of Seq.
func (r *Reader) CallsOf(operation uint8, f func(*Call) error) error {
	return r.query(callColumns+"WHERE operation = $1 ORDER BY seq", func(c columns) error {
		var call Call
		scanCall(c, &call)
		return f(&call)
	}, int(operation))
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

// requestSlack is how far rows may stand from the order of their request ids' times, in milliseconds, to be found by
// them. An id is drawn when its request arrives, a row is appended when its group is committed.
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
