package store

import (
	"encoding/json"

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

// Catalog reads regions, accounts, products, public keys, agreements, customers, workloads and registrations into c.
func (r *Reader) Catalog(c *metering.Catalog) error {
	for _, t := range []struct {
		sql string
		row func(*sqlite3.Stmt) error
	}{
		{"SELECT id, name, enabled FROM region ORDER BY id", func(s *sqlite3.Stmt) error {
			c.PutRegion(metering.RegionInfo{ID: metering.Region(s.ColumnInt64(0)), Name: s.ColumnText(1), Enabled: s.ColumnBool(2)})
			return nil
		}},
		{"SELECT id, account_id, name, seller, buyer, suspended FROM account ORDER BY id", func(s *sqlite3.Stmt) error {
			c.PutAccount(metering.Account{ID: uint32(s.ColumnInt64(0)), AccountID: uint64(s.ColumnInt64(1)), Name: s.ColumnText(2),
				Seller: s.ColumnBool(3), Buyer: s.ColumnBool(4), Suspended: s.ColumnBool(5)})
			return nil
		}},
		{"SELECT id, seller, product_code, product_id, title, type, concurrent, dimensions, regions FROM product ORDER BY id", func(s *sqlite3.Stmt) error {
			p := metering.Product{ID: uint32(s.ColumnInt64(0)), Seller: uint32(s.ColumnInt64(1)), Code: s.ColumnText(2), ProductID: s.ColumnText(3),
				Title: s.ColumnText(4), Type: metering.ProductType(s.ColumnInt64(5)), Concurrent: s.ColumnBool(6)}
			var regions []int
			if err := json.Unmarshal(s.ColumnRawText(7), &p.Dimensions); err != nil {
				return err
			}
			if err := json.Unmarshal(s.ColumnRawText(8), &regions); err != nil {
				return err
			}
			for _, r := range regions {
				p.Regions = append(p.Regions, metering.Region(r))
			}
			c.PutProduct(p)
			return nil
		}},
		{"SELECT product, version, pem, sealed, created, rotated_at FROM public_key ORDER BY product, version", func(s *sqlite3.Stmt) error {
			c.PutPublicKey(metering.PublicKey{Product: uint32(s.ColumnInt64(0)), Version: int32(s.ColumnInt64(1)), PEM: s.ColumnText(2),
				Sealed: s.ColumnBlob(3, nil), Created: metering.Instant(s.ColumnInt64(4)), RotatedAt: metering.Instant(s.ColumnInt64(5))})
			return nil
		}},
		{"SELECT id, product, buyer, agreement_id, license_arn, start, ending_at, ended_at FROM agreement ORDER BY id", func(s *sqlite3.Stmt) error {
			c.PutAgreement(metering.Agreement{ID: uint32(s.ColumnInt64(0)), Product: uint32(s.ColumnInt64(1)), Buyer: uint32(s.ColumnInt64(2)),
				AgreementID: s.ColumnText(3), LicenseARN: s.ColumnText(4), Start: metering.Instant(s.ColumnInt64(5)),
				EndingAt: metering.Instant(s.ColumnInt64(6)), EndedAt: metering.Instant(s.ColumnInt64(7))})
			return nil
		}},
		{"SELECT seller, buyer, identifier FROM customer", func(s *sqlite3.Stmt) error {
			c.PutCustomer(metering.Customer{Seller: uint32(s.ColumnInt64(0)), Buyer: uint32(s.ColumnInt64(1)), Identifier: s.ColumnText(2)})
			return nil
		}},
		{"SELECT id, account, platform, resource_id, region, role FROM workload ORDER BY id", func(s *sqlite3.Stmt) error {
			w := metering.Workload{ID: uint32(s.ColumnInt64(0)), Account: uint32(s.ColumnInt64(1)), Platform: metering.Platform(s.ColumnInt64(2)),
				ResourceID: s.ColumnText(3), Region: metering.Region(s.ColumnInt64(4)), Role: uint32(s.ColumnInt64(5))}
			c.PutWorkload(w)
			return nil
		}},
	} {
		if err := query(r.c, t.sql, t.row); err != nil {
			return err
		}
	}
	return r.Registrations(func(g metering.Registration) error {
		c.PutRegistration(g)
		return nil
	})
}

// Principals calls row for each user and role, deleted ones too, in the order of their numbers.
func (r *Reader) Principals(row func(Principal) error) error {
	return query(r.c, "SELECT id, account, kind, name, allow, deny, deleted FROM principal ORDER BY id", func(s *sqlite3.Stmt) error {
		p := Principal{ID: uint32(s.ColumnInt64(0)), Account: uint32(s.ColumnInt64(1)), Kind: iam.Kind(s.ColumnInt64(2)), Name: s.ColumnText(3), Deleted: s.ColumnBool(6)}
		if err := json.Unmarshal(s.ColumnRawText(4), &p.Allow); err != nil {
			return err
		}
		if err := json.Unmarshal(s.ColumnRawText(5), &p.Deny); err != nil {
			return err
		}
		return row(p)
	})
}

// AccessKeys calls row for each access key, deleted ones too, in the order of their numbers.
func (r *Reader) AccessKeys(row func(AccessKey) error) error {
	return query(r.c, "SELECT id, access_key_id, principal, sealed, active, deleted, created FROM access_key ORDER BY id", func(s *sqlite3.Stmt) error {
		return row(AccessKey{ID: uint32(s.ColumnInt64(0)), AccessKeyID: s.ColumnText(1), Principal: uint32(s.ColumnInt64(2)),
			Sealed: s.ColumnBlob(3, nil), Active: s.ColumnBool(4), Deleted: s.ColumnBool(5), Created: metering.Instant(s.ColumnInt64(6))})
	})
}

// AdminTokens calls row for each token of the admin API, deleted ones too, in the order of their numbers.
func (r *Reader) AdminTokens(row func(AdminToken) error) error {
	return query(r.c, "SELECT id, name, hash, created, deleted FROM admin_token ORDER BY id", func(s *sqlite3.Stmt) error {
		t := AdminToken{ID: uint32(s.ColumnInt64(0)), Name: s.ColumnText(1), Created: metering.Instant(s.ColumnInt64(3)), Deleted: s.ColumnBool(4)}
		copy(t.Hash[:], s.ColumnRawBlob(2))
		return row(t)
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

// RegistrationTokens calls row for registration tokens whose id comes after the given one, at most limit, in the
// order of their ids, which is the order in which they were issued.
func (r *Reader) RegistrationTokens(after [16]byte, limit int, row func(RegistrationToken) error) error {
	return r.registrationTokens("WHERE id > ? ORDER BY id LIMIT ?", row, after[:], limit)
}

func (r *Reader) registrationTokens(where string, row func(RegistrationToken) error, args ...any) error {
	return query(r.c, registrationTokenColumns+where, func(s *sqlite3.Stmt) error {
		t := RegistrationToken{Product: uint32(s.ColumnInt64(1)), Buyer: uint32(s.ColumnInt64(2)), Agreement: uint32(s.ColumnInt64(3)),
			Issued: metering.Instant(s.ColumnInt64(4)), Expires: metering.Instant(s.ColumnInt64(5)), Revoked: s.ColumnBool(6)}
		copy(t.ID[:], s.ColumnRawBlob(0))
		return row(t)
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
