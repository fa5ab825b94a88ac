package store

import (
	"embed"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/ncruces/go-sqlite3"
)

//go:embed migrations/sqlite/*.sql
var sqliteFiles embed.FS

// sqliteSteps are all steps of the tables that this version knows, numbered from 1; a variable only for tests. A step
// may add tables, and columns that have a default; what it adds is read as empty where it has not been made yet, which
// [asKnown] does. Steps that are released are never changed.
var sqliteSteps = readSteps(sqliteFiles, "migrations/sqlite")

// sqliteSchema returns the number of the last step that a ledger's tables have had. Format 2 does not count steps.
func sqliteSchema(c *sqlite3.Conn) (int64, error) {
	version, err := (&Reader{&sqliteReader{c: c}}).number("SELECT n FROM state WHERE name = 'schema'")
	if err == nil && version > int64(len(sqliteSteps)) {
		err = unknownSchema(version, int64(len(sqliteSteps)))
	}
	return max(version, 1), err
}

// makeSteps makes the steps after step made, in the transaction that is open.
func makeSteps(c *sqlite3.Conn, made int64) error {
	for i, step := range sqliteSteps[made:] {
		n := made + int64(i) + 1
		err := c.Exec(step)
		if fill := fills[n]; fill != nil && err == nil {
			err = fill(&Reader{&sqliteReader{c: c, made: n}}, func(sql string, args ...any) error {
				return query(c, sql, func(*sqlite3.Stmt) error { return nil }, args...)
			})
		}
		if err != nil {
			return fmt.Errorf("migration %d: %w", n, err)
		}
	}
	return query(c, "INSERT INTO state (name, n) VALUES ('schema', $1) ON CONFLICT (name) DO UPDATE SET n = excluded.n",
		func(*sqlite3.Stmt) error { return nil }, len(sqliteSteps))
}

// migrateSQLite brings a ledger to the present format and tables in one transaction, and stores what meta then is.
func migrateSQLite(c *sqlite3.Conn, meta *Meta, log *slog.Logger) error {
	made, err := sqliteSchema(c)
	if err != nil {
		return err
	}
	value, err := meta.stored()
	if err != nil {
		return err
	}
	current := false
	none := func(*sqlite3.Stmt) error { return nil }
	err = query(c, "SELECT value = $1 FROM meta WHERE name = 'ledger'", func(s *sqlite3.Stmt) error { current = s.ColumnBool(0); return nil }, value)
	if err != nil || current && made == int64(len(sqliteSteps)) {
		return err
	}
	if err := c.Exec("PRAGMA secure_delete=ON; BEGIN IMMEDIATE"); err != nil { // a secret that is now sealed must not stay in free space
		return err
	}
	err = makeSteps(c, made)
	if err == nil {
		err = query(c, "UPDATE meta SET value = $1 WHERE name = 'ledger'", none, value)
	}
	if err != nil {
		return errors.Join(err, c.Exec("ROLLBACK"))
	}
	if err := c.Exec("COMMIT; PRAGMA secure_delete=OFF"); err != nil {
		return err
	}
	log.Info("the ledger was brought up to this version of meterd; versions before do not open it any more",
		slog.Int("from_format", meta.Format), slog.Int("format", Format), slog.Int64("from_schema", made), slog.Int("schema", len(sqliteSteps)))
	meta.Format = Format
	return nil
}

// renamed maps columns of older ledgers to their present names.
var renamed = map[string]string{"usage.dimension_region_form": "meter"}

// asKnown has a connection that only reads find the tables of an older ledger as this version knows them, without
// changing the ledger: a table that is missing as an empty one, a column that is missing with its default, or with what
// it was renamed from. They are
// temporary ones of the connection's own, where SQLite looks for a name first. It is called in the transaction that reads.
func asKnown(c *sqlite3.Conn) error {
	if made, err := sqliteSchema(c); err != nil || made == int64(len(sqliteSteps)) {
		return err
	}
	model, err := sqlite3.Open(":memory:")
	if err != nil {
		return err
	}
	defer model.Close()
	if err := makeSteps(model, 0); err != nil {
		return err
	}
	statements := []string{"PRAGMA query_only=OFF", "PRAGMA temp_store=MEMORY"}
	err = query(model, "SELECT name, sql FROM sqlite_schema WHERE type = 'table'", func(s *sqlite3.Stmt) error {
		name, create := s.ColumnText(0), s.ColumnText(1)
		there, err := columnsOf(c, name)
		if err != nil {
			return err
		}
		if len(there) == 0 {
			statements = append(statements, "CREATE TEMP TABLE"+strings.TrimPrefix(create, "CREATE TABLE"))
			return nil
		}
		known, err := columnsOf(model, name)
		added := ""
		for _, column := range known {
			if _, is := there[column.name]; !is {
				if before := renamed[name+"."+column.name]; before != "" {
					column.preset = before
				}
				added += fmt.Sprintf(", %s AS %s", column.preset, column.name)
			}
		}
		if added != "" {
			statements = append(statements, fmt.Sprintf("CREATE TEMP VIEW %s AS SELECT *%s FROM main.%[1]s", name, added))
		}
		return err
	})
	if err != nil {
		return err
	}
	for _, s := range append(statements, "PRAGMA query_only=ON") {
		if err := c.Exec(s); err != nil {
			return err
		}
	}
	return nil
}

// schemaColumn is a column of a SQLite table, by its declaration.
type schemaColumn struct {
	name, kind string
	notNull    bool
	key        int64  // its place in the primary key, from 1; 0 if it has none
	preset     string // the default as SQL
}

// columnsOf returns the columns of a table of the main database by their names; none if there is no such table.
func columnsOf(c *sqlite3.Conn, table string) (map[string]schemaColumn, error) {
	columns := map[string]schemaColumn{}
	err := query(c, "SELECT name, type, \"notnull\", pk, coalesce(dflt_value, 'NULL') FROM pragma_table_info($1, 'main')", func(s *sqlite3.Stmt) error {
		columns[s.ColumnText(0)] = schemaColumn{s.ColumnText(0), s.ColumnText(1), s.ColumnBool(2), s.ColumnInt64(3), s.ColumnText(4)}
		return nil
	}, table)
	return columns, err
}
