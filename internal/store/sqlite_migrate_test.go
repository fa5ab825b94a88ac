package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/meterd/meterd/internal/metering"
	"github.com/ncruces/go-sqlite3"
)

// further has this version of meterd know more steps of the tables, until the test ends.
func further(t *testing.T, steps ...string) {
	t.Helper()
	before := sqliteSteps
	t.Cleanup(func() { sqliteSteps = before })
	sqliteSteps = append(slices.Clip(before), steps...)
}

// asStep4 are statements that have the tables be as before step 5: a product's dimensions are a column of the product.
func asStep4(db Store) (statements []string) {
	list := "string_agg('\"' || dimension_key || '\"', ',')"
	if !db.Shared() {
		list = "group_concat('\"' || dimension_key || '\"')"
		statements = append(statements, "ALTER TABLE usage RENAME COLUMN dimension_region_form TO meter")
	}
	return append(statements, "ALTER TABLE product ADD COLUMN dimensions TEXT NOT NULL DEFAULT ''",
		"UPDATE product SET dimensions = '[' || coalesce((SELECT "+list+" FROM (SELECT dimension_key FROM dimension d WHERE d.product = product.id ORDER BY n) AS k), '') || ']'",
		"DROP TABLE dimension", "ALTER TABLE principal DROP COLUMN policy", "UPDATE state SET n = 4 WHERE name = 'schema'")
}

// asFormat2 makes a ledger one of format 2, which does not count steps. Its tables become those of the first step.
func asFormat2(t *testing.T, dir string) {
	t.Helper()
	db := reopen(t, dir)
	err := db.Update(func(tx *Tx) error {
		for _, sql := range asStep4(db) {
			if err := tx.exec(sql); err != nil {
				return err
			}
		}
		return errors.Join(tx.exec("DROP TABLE call_hour"), tx.exec("ALTER TABLE call DROP COLUMN client"), tx.exec("ALTER TABLE call DROP COLUMN agent"),
			tx.exec("ALTER TABLE call DROP COLUMN session"), tx.exec("DROP TABLE revision"), tx.exec("DELETE FROM state WHERE name = $1", "schema"), tx.exec(`UPDATE meta SET value = CAST(json_set(value, '$.format', $1) AS BLOB) WHERE name = 'ledger'`, 2))
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
}

var testSteps = []string{
	"ALTER TABLE product ADD COLUMN note TEXT NOT NULL DEFAULT 'none'; ALTER TABLE usage ADD COLUMN extra INTEGER; CREATE TABLE extra (id INTEGER PRIMARY KEY, n INTEGER NOT NULL) STRICT",
	"ALTER TABLE extra ADD COLUMN more TEXT NOT NULL DEFAULT 'x'; INSERT INTO extra (id, n) SELECT id, length(title) FROM product",
}

func TestMigrateSQLite(t *testing.T) {
	steps := sqliteSteps
	dir := create(t)
	db := reopen(t, dir)
	fill(t, db, 3)
	err := db.Update(func(tx *Tx) error {
		return revise(tx, 0, func() error {
			return errors.Join(tx.Put(&metering.Account{ID: 1, AccountID: 1, Seller: true}),
				tx.Put(&metering.Product{ID: 1, Seller: 1, Code: "code", Title: "title", Type: metering.SaaS}),
				tx.Put(&metering.Dimension{Product: 1, N: 1, Key: "users", Type: metering.ExternallyMetered}, &metering.Dimension{Product: 1, N: 2, Key: "gb", Type: metering.ExternallyMetered}))
		})
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	asFormat2(t, dir)
	further(t, testSteps...)
	before, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil {
		t.Fatal(err)
	}
	look := func(r *Reader) (state string, err error) {
		for _, sql := range []string{"SELECT note FROM product", "SELECT count(*) || '/' || count(extra) FROM usage", "SELECT group_concat(n || more) FROM extra", "SELECT n FROM state WHERE name = 'schema'"} {
			err = errors.Join(err, r.query(sql, func(c columns) error { state += c.ColumnText(0); return nil }), intact(r))
			state += ", "
		}
		return state, err
	}

	// Who only reads finds it as it will be, and leaves it as it is.
	err = Read(dir, func(r *Reader, m Meta) error {
		if state, err := look(r); state != "none, 3/0, , , " || m.Format != 2 || err != nil {
			return fmt.Errorf("format %d, %s: %w", m.Format, state, err)
		}
		return nil
	})
	if err != nil {
		t.Errorf("reading it before: %v", err)
	}
	if after, err := os.ReadFile(filepath.Join(dir, file)); err != nil || !bytes.Equal(after, before) {
		t.Errorf("reading it has changed it: %v", err)
	}

	// A step that fails leaves all as it was, those before it included.
	sqliteSteps = append(slices.Clip(sqliteSteps), "ALTER TABLE product ADD COLUMN note TEXT")
	if _, err := Open(dir, Options{}); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("migration %d: ", len(sqliteSteps))) {
		t.Errorf("a step that cannot be made: %v", err)
	}
	sqliteSteps = steps
	if err := reopen(t, dir).Close(); err != nil {
		t.Errorf("opening it without that step: %v", err)
	}
	sqliteSteps = append(slices.Clip(steps), testSteps...)

	want := fmt.Sprintf("none, 3/0, 5x, %d, ", len(sqliteSteps))
	for range 2 { // the second time there is nothing to be made
		db = reopen(t, dir)
		err = db.View(context.Background(), func(r *Reader) error {
			if state, err := look(r); state != want || db.meta.Format != Format || err != nil {
				return fmt.Errorf("format %d, %s, want %s: %w", db.meta.Format, state, want, err)
			}
			return nil
		})
		if err := errors.Join(err, db.Close()); err != nil {
			t.Error(err)
		}
	}
	err = Read(dir, func(r *Reader, m Meta) error {
		if state, err := look(r); state != want || err != nil {
			return fmt.Errorf("%s, want %s: %w", state, want, err)
		}
		return nil
	})
	if err != nil {
		t.Errorf("reading it after: %v", err)
	}

	// Versions before refuse it, and leave it as it is.
	sqliteSteps = steps
	_, err = Open(dir, Options{})
	for _, err := range []error{err, Read(dir, func(*Reader, Meta) error { return nil })} {
		if !errors.Is(err, errTooOld) || !strings.Contains(err.Error(), fmt.Sprintf("schema %d", len(steps)+len(testSteps))) {
			t.Errorf("the version before: %v", err)
		}
	}
}

// parity is where the two stores' tables differ, and why.
var parity = map[string]string{
	"hour":   "SQLite's: where the rows of an hour begin, which PostgreSQL finds by its key",
	"late":   "SQLite's: the rows that files of keys do not have",
	"usage":  "SQLite packs columns for fewer steps, PostgreSQL has those that its key and its partitions need",
	"writer": "PostgreSQL's: who writes",
	"lease":  "PostgreSQL's: who does what only one node may do",

	"call.usage_keys": "PostgreSQL's: the usage rows of a call are found by their keys",
}

// TestParity compares the tables of the two stores after all migrations: their columns, with kinds, keys, and whether
// they may be missing.
func TestParity(t *testing.T) {
	var stores [2]map[string]string // table.column → what it is
	stores[0] = map[string]string{}
	c, err := sqlite3.Open(":memory:")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	err = errors.Join(makeSteps(c, 0), query(c, "SELECT name FROM sqlite_schema WHERE type = 'table'", func(s *sqlite3.Stmt) error {
		columns, err := columnsOf(c, s.ColumnText(0))
		for _, k := range columns {
			stores[0][s.ColumnText(0)+"."+k.name] = fmt.Sprintf("%s, not null %t, key %d", k.kind, k.notNull || k.key > 0, k.key)
		}
		return err
	}))
	if err != nil {
		t.Fatal(err)
	}
	url, _ := newPostgres(t)
	stores[1] = map[string]string{}
	kinds := map[string]string{"smallint": "INTEGER", "integer": "INTEGER", "bigint": "INTEGER", "boolean": "INTEGER", "text": "TEXT", "bytea": "BLOB"}
	err = Read(url, func(r *Reader, _ Meta) error {
		return r.query(`SELECT c.relname::text || '.' || a.attname::text, format_type(a.atttypid, a.atttypmod), a.attnotnull, coalesce(array_position(i.indkey::int2[], a.attnum) + 1, 0)::bigint
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid LEFT JOIN pg_index i ON i.indrelid = c.oid AND i.indisprimary
WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition AND a.attnum > 0 AND NOT a.attisdropped`, func(c columns) error {
			kind := kinds[c.ColumnText(1)]
			if kind == "" {
				kind = c.ColumnText(1)
			}
			stores[1][c.ColumnText(0)] = fmt.Sprintf("%s, not null %t, key %d", kind, c.ColumnBool(2), c.ColumnInt64(3))
			return nil
		})
	})
	if err != nil || len(stores[1]) == 0 {
		t.Fatal(stores[1], err)
	}
	needed := map[string]bool{}
	for i, columns := range stores {
		for name, is := range columns {
			other := stores[1-i][name]
			if other == is {
				continue
			}
			table, _, _ := strings.Cut(name, ".")
			switch {
			case parity[table] != "":
				needed[table] = true
			case parity[name] != "":
				needed[name] = true
			default:
				t.Errorf("%s of %s: %q, of the other store: %q", name, []string{"SQLite", "PostgreSQL"}[i], is, other)
			}
		}
	}
	for name := range parity {
		if !needed[name] {
			t.Errorf("%s does not differ any more", name)
		}
	}
}
