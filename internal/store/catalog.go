package store

import (
	"encoding/json"
	"fmt"
	"math"

	"github.com/meterd/meterd/internal/iam"
	"github.com/meterd/meterd/internal/metering"
	"github.com/ncruces/go-sqlite3"
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
	return tx.exec("INSERT OR REPLACE INTO meta (name, value) VALUES (?,?)", name, value)
}

// PutRegion adds or replaces a region.
func (tx *Tx) PutRegion(r metering.RegionInfo) error {
	return tx.exec("INSERT INTO region (id, name, enabled) VALUES (?,?,?) ON CONFLICT (id) DO UPDATE SET enabled = excluded.enabled", int(r.ID), r.Name, r.Enabled)
}

// PutAccount adds or replaces an account.
func (tx *Tx) PutAccount(a metering.Account) error {
	return tx.exec("INSERT INTO account (id, account_id, name, seller, buyer, suspended) VALUES (?,?,?,?,?,?) ON CONFLICT (id) DO UPDATE SET name = excluded.name, seller = excluded.seller, buyer = excluded.buyer, suspended = excluded.suspended",
		a.ID, a.AccountID, a.Name, a.Seller, a.Buyer, a.Suspended)
}

// PutProduct adds or replaces a product.
func (tx *Tx) PutProduct(p metering.Product) error {
	regions := make([]int, len(p.Regions)) // []Region would become a string
	for i, r := range p.Regions {
		regions[i] = int(r)
	}
	return tx.exec("INSERT INTO product (id, seller, product_code, product_id, title, type, concurrent, dimensions, regions) VALUES (?,?,?,?,?,?,?,?,?) ON CONFLICT (id) DO UPDATE SET title = excluded.title, dimensions = excluded.dimensions, regions = excluded.regions",
		p.ID, p.Seller, p.Code, p.ProductID, p.Title, int(p.Type), p.Concurrent, list(p.Dimensions), list(regions))
}

// PutPublicKey adds a version of a product's key, or notes when it was replaced.
func (tx *Tx) PutPublicKey(k metering.PublicKey) error {
	return tx.exec("INSERT INTO public_key (product, version, pem, sealed, created, rotated_at) VALUES (?,?,?,?,?,?) ON CONFLICT (product, version) DO UPDATE SET rotated_at = excluded.rotated_at",
		k.Product, int(k.Version), k.PEM, k.Sealed, int64(k.Created), int64(k.RotatedAt))
}

// PutAgreement adds or replaces an agreement.
func (tx *Tx) PutAgreement(a metering.Agreement) error {
	return tx.exec("INSERT INTO agreement (id, product, buyer, agreement_id, license_arn, start, ending_at, ended_at) VALUES (?,?,?,?,?,?,?,?) ON CONFLICT (id) DO UPDATE SET ending_at = excluded.ending_at, ended_at = excluded.ended_at",
		a.ID, a.Product, a.Buyer, a.AgreementID, a.LicenseARN, int64(a.Start), int64(a.EndingAt), int64(a.EndedAt))
}

// PutCustomer adds a customer identifier.
func (tx *Tx) PutCustomer(u metering.Customer) error {
	return tx.exec("INSERT INTO customer (seller, buyer, identifier) VALUES (?,?,?)", u.Seller, u.Buyer, u.Identifier)
}

// PutWorkload adds or replaces a workload.
func (tx *Tx) PutWorkload(w metering.Workload) error {
	return tx.exec("INSERT INTO workload (id, account, platform, resource_id, region, role) VALUES (?,?,?,?,?,?) ON CONFLICT (id) DO UPDATE SET role = excluded.role",
		w.ID, w.Account, int(w.Platform), w.ResourceID, int(w.Region), w.Role)
}

// PutPrincipal adds or replaces a user or role.
func (tx *Tx) PutPrincipal(p Principal) error {
	return tx.exec("INSERT INTO principal (id, account, kind, name, allow, deny, deleted) VALUES (?,?,?,?,?,?,?) ON CONFLICT (id) DO UPDATE SET allow = excluded.allow, deny = excluded.deny, deleted = excluded.deleted",
		p.ID, p.Account, int(p.Kind), p.Name, list(p.Allow), list(p.Deny), p.Deleted)
}

// PutAccessKey adds or replaces an access key.
func (tx *Tx) PutAccessKey(k AccessKey) error {
	return tx.exec("INSERT INTO access_key (id, access_key_id, principal, sealed, active, deleted, created) VALUES (?,?,?,?,?,?,?) ON CONFLICT (id) DO UPDATE SET active = excluded.active, deleted = excluded.deleted",
		k.ID, k.AccessKeyID, k.Principal, k.Sealed, k.Active, k.Deleted, int64(k.Created))
}

// PutAdminToken adds or replaces a token of the admin API.
func (tx *Tx) PutAdminToken(t AdminToken) error {
	return tx.exec("INSERT INTO admin_token (id, name, hash, created, deleted) VALUES (?,?,?,?,?) ON CONFLICT (id) DO UPDATE SET deleted = excluded.deleted",
		t.ID, t.Name, t.Hash[:], int64(t.Created), t.Deleted)
}

// PutRegistrationToken adds a registration token, or revokes it.
func (tx *Tx) PutRegistrationToken(t RegistrationToken) error {
	return tx.exec("INSERT INTO registration_token (id, product, buyer, agreement, issued, expires, revoked) VALUES (?,?,?,?,?,?,?) ON CONFLICT (id) DO UPDATE SET revoked = excluded.revoked",
		t.ID[:], t.Product, t.Buyer, t.Agreement, int64(t.Issued), int64(t.Expires), t.Revoked)
}

// row reads the columns of one row and keeps the first that cannot be what was written. Damage must be refused where
// it is read: in memory it would be an index out of range.
type row struct {
	*sqlite3.Stmt
	damage error
}

// rows calls f for each row that a statement returns. An error says which table's and what the row's first column is.
func (r *Reader) rows(table, sql string, f func(*row) error, args ...any) error {
	var one row // damage ends the query, so it serves for all
	return query(r.c, sql, func(s *sqlite3.Stmt) error {
		one.Stmt = s
		if err := f(&one); err != nil {
			return fmt.Errorf("%s row with %s %s: %w", table, s.ColumnName(0), s.ColumnText(0), err)
		}
		return nil
	}, args...)
}

// number reads a number that must be least to most.
func (r *row) number(column int, least, most int64) int64 {
	n := r.ColumnInt64(column)
	if (n < least || n > most) && r.damage == nil {
		r.damage = fmt.Errorf("%s is %d; it must be %d to %d", r.ColumnName(column), n, least, most)
	}
	return n
}

// id reads the row's own number, which must be the one after n: the numbers of a table have no gaps.
func (r *row) id(n int) uint32 {
	id := r.ColumnInt64(0)
	if id != int64(n)+1 && r.damage == nil {
		r.damage = fmt.Errorf("it should be %d: rows have been lost or added", n+1)
	}
	return uint32(id)
}

// one reads the number of something of which there are n.
func (r *row) one(column, n int) uint32 { return uint32(r.number(column, 1, int64(n))) }

// list reads a JSON list.
func (r *row) list(column int, into any) {
	if err := json.Unmarshal(r.ColumnRawText(column), into); err != nil && r.damage == nil {
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

func (r *row) instant(column int) metering.Instant { return metering.Instant(r.ColumnInt64(column)) }

// last returns how many rows a table has whose numbers have no gaps.
func (r *Reader) last(table string) (int, error) {
	n, err := r.number("SELECT coalesce(max(id), 0) FROM " + table)
	return int(n), err
}

// Catalog reads regions, accounts, products, public keys, agreements, customers, workloads and registrations into c,
// which must be empty. It refuses rows that cannot have been written: numbers must have no gaps, and what a row
// refers to must be there.
func (r *Reader) Catalog(c *metering.Catalog) error {
	principals, err := r.last("principal")
	if err != nil {
		return err
	}
	for _, t := range []struct {
		table, sql string
		row        func(*row) error
	}{
		{"region", "SELECT id, name, enabled FROM region ORDER BY id", func(s *row) error {
			s.number(0, 1, math.MaxUint8)
			v := metering.RegionInfo{ID: metering.Region(s.id(len(c.Regions()))), Name: s.ColumnText(1), Enabled: s.ColumnBool(2)}
			if s.damage == nil {
				c.PutRegion(v)
			}
			return s.damage
		}},
		{"account", "SELECT id, account_id, name, seller, buyer, suspended FROM account ORDER BY id", func(s *row) error {
			v := metering.Account{ID: s.id(len(c.Accounts())), AccountID: uint64(s.number(1, 0, 999_999_999_999)), Name: s.ColumnText(2),
				Seller: s.ColumnBool(3), Buyer: s.ColumnBool(4), Suspended: s.ColumnBool(5)}
			if s.damage == nil {
				c.PutAccount(v)
			}
			return s.damage
		}},
		{"product", "SELECT id, seller, product_code, product_id, title, type, concurrent, dimensions, regions FROM product ORDER BY id", func(s *row) error {
			v := metering.Product{ID: s.id(len(c.Products())), Seller: s.one(1, len(c.Accounts())), Code: s.ColumnText(2), ProductID: s.ColumnText(3),
				Title: s.ColumnText(4), Type: metering.ProductType(s.number(5, int64(metering.SaaS), int64(metering.AMI))), Concurrent: s.ColumnBool(6)}
			s.list(7, &v.Dimensions)
			var regions []int
			s.list(8, &regions)
			for _, n := range regions {
				if n < 1 || n > len(c.Regions()) {
					return fmt.Errorf("region %d does not exist", n)
				}
				v.Regions = append(v.Regions, metering.Region(n))
			}
			if s.damage == nil {
				c.PutProduct(v)
			}
			return s.damage
		}},
		{"public_key", "SELECT product, version, pem, sealed, created, rotated_at FROM public_key ORDER BY product, version", func(s *row) error {
			v := metering.PublicKey{Product: s.one(0, len(c.Products())), Version: int32(s.number(1, 1, math.MaxInt32)), PEM: s.ColumnText(2),
				Sealed: s.ColumnBlob(3, nil), Created: s.instant(4), RotatedAt: s.instant(5)}
			if s.damage == nil {
				c.PutPublicKey(v)
			}
			return s.damage
		}},
		{"agreement", "SELECT id, product, buyer, agreement_id, license_arn, start, ending_at, ended_at FROM agreement ORDER BY id", func(s *row) error {
			v := metering.Agreement{ID: s.id(len(c.Agreements())), Product: s.one(1, len(c.Products())), Buyer: s.one(2, len(c.Accounts())),
				AgreementID: s.ColumnText(3), LicenseARN: s.ColumnText(4), Start: s.instant(5), EndingAt: s.instant(6), EndedAt: s.instant(7)}
			if s.damage == nil {
				c.PutAgreement(v)
			}
			return s.damage
		}},
		{"customer", "SELECT seller, buyer, identifier FROM customer", func(s *row) error {
			v := metering.Customer{Seller: s.one(0, len(c.Accounts())), Buyer: s.one(1, len(c.Accounts())), Identifier: s.ColumnText(2)}
			if s.damage == nil {
				c.PutCustomer(v)
			}
			return s.damage
		}},
		{"workload", "SELECT id, account, platform, resource_id, region, role FROM workload ORDER BY id", func(s *row) error {
			v := metering.Workload{ID: s.id(len(c.Workloads())), Account: s.one(1, len(c.Accounts())),
				Platform: metering.Platform(s.number(2, int64(metering.EC2), int64(metering.AgentCore))), ResourceID: s.ColumnText(3),
				Region: metering.Region(s.one(4, len(c.Regions()))), Role: s.one(5, principals)}
			if s.damage == nil {
				c.PutWorkload(v)
			}
			return s.damage
		}},
		{"registration", "SELECT workload, product, operation, first_call, last_call FROM registration", func(s *row) error {
			v := metering.Registration{Workload: s.one(0, len(c.Workloads())), Product: s.one(1, len(c.Products())),
				Operation: metering.Operation(s.number(2, 1, math.MaxUint8)), First: s.instant(3), Last: s.instant(4)}
			if s.damage == nil {
				c.PutRegistration(v)
			}
			return s.damage
		}},
	} {
		if err := r.rows(t.table, t.sql, t.row); err != nil {
			return err
		}
	}
	return nil
}

// Principals calls f for each user and role, deleted ones too, in the order of their numbers. Like [Reader.AccessKeys]
// and [Reader.AdminTokens] it refuses rows that cannot have been written, as [Reader.Catalog] does.
func (r *Reader) Principals(f func(Principal) error) error {
	accounts, err := r.last("account")
	if err != nil {
		return err
	}
	n := 0
	return r.rows("principal", "SELECT id, account, kind, name, allow, deny, deleted FROM principal ORDER BY id", func(s *row) error {
		p := Principal{ID: s.id(n), Account: s.one(1, accounts), Kind: iam.Kind(s.number(2, int64(iam.User), int64(iam.Role))), Name: s.ColumnText(3), Deleted: s.ColumnBool(6)}
		s.list(4, &p.Allow)
		s.list(5, &p.Deny)
		if s.damage != nil {
			return s.damage
		}
		n++
		return f(p)
	})
}

// AccessKeys calls f for each access key, deleted ones too, in the order of their numbers.
func (r *Reader) AccessKeys(f func(AccessKey) error) error {
	principals, err := r.last("principal")
	if err != nil {
		return err
	}
	n := 0
	return r.rows("access_key", "SELECT id, access_key_id, principal, sealed, active, deleted, created FROM access_key ORDER BY id", func(s *row) error {
		k := AccessKey{ID: s.id(n), AccessKeyID: s.ColumnText(1), Principal: s.one(2, principals),
			Sealed: s.ColumnBlob(3, nil), Active: s.ColumnBool(4), Deleted: s.ColumnBool(5), Created: s.instant(6)}
		if s.damage != nil {
			return s.damage
		}
		n++
		return f(k)
	})
}

// AdminTokens calls f for each token of the admin API, deleted ones too, in the order of their numbers.
func (r *Reader) AdminTokens(f func(AdminToken) error) error {
	n := 0
	return r.rows("admin_token", "SELECT id, name, hash, created, deleted FROM admin_token ORDER BY id", func(s *row) error {
		t := AdminToken{ID: s.id(n), Name: s.ColumnText(1), Created: s.instant(3), Deleted: s.ColumnBool(4)}
		s.bytes(2, t.Hash[:])
		if s.damage != nil {
			return s.damage
		}
		n++
		return f(t)
	})
}

const registrationTokenColumns = "SELECT id, product, buyer, agreement, issued, expires, revoked FROM registration_token "

// RegistrationToken returns the token of the given id, or nil.
func (r *Reader) RegistrationToken(id [16]byte) (found *RegistrationToken, err error) {
	err = r.registrationTokens("WHERE id = ?", func(t RegistrationToken) error {
		found = &t
		return nil
	}, id[:])
	return found, err
}

// RegistrationTokens calls f for registration tokens whose id comes after the given one, at most limit, in the
// order of their ids, which is the order in which they were issued.
func (r *Reader) RegistrationTokens(after [16]byte, limit int, f func(RegistrationToken) error) error {
	return r.registrationTokens("WHERE id > ? ORDER BY id LIMIT ?", f, after[:], limit)
}

func (r *Reader) registrationTokens(where string, f func(RegistrationToken) error, args ...any) error {
	products, err := r.last("product")
	if err != nil {
		return err
	}
	accounts, err := r.last("account")
	if err != nil {
		return err
	}
	return query(r.c, registrationTokenColumns+where, func(stmt *sqlite3.Stmt) error {
		s := row{Stmt: stmt}
		t := RegistrationToken{Product: s.one(1, products), Buyer: s.one(2, accounts), Agreement: uint32(s.number(3, 0, math.MaxUint32)),
			Issued: s.instant(4), Expires: s.instant(5), Revoked: s.ColumnBool(6)}
		s.bytes(0, t.ID[:])
		if s.damage != nil {
			return fmt.Errorf("registration token %x: %w", t.ID, s.damage)
		}
		return f(t)
	}, args...)
}

// Value returns the named value, or nil.
func (r *Reader) Value(name string) (value []byte, err error) {
	err = query(r.c, "SELECT value FROM meta WHERE name = ?", func(s *sqlite3.Stmt) error {
		value = s.ColumnBlob(0, nil)
		return nil
	}, name)
	return value, err
}
