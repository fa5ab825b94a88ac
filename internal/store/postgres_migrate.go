package store

import (
	"cmp"
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"strconv"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"
)

//go:embed migrations/postgres/*.sql
var postgresFiles embed.FS

// migration is a step of the schema. Steps are numbered from 1 and only go forward. Each statement of a step does no
// harm if it is run again. Nodes that know at least the step named by least go on working while and after this one is
// made.
type migration struct {
	least      int64
	statements []string
}

// migrations are all steps that this version knows; a variable only for tests.
var migrations = readMigrations(postgresFiles)

var leastLine = regexp.MustCompile(`(?m)^-- least: (\d+)$`)

func readMigrations(files fs.FS) (steps []migration) {
	for i, text := range readSteps(files, "migrations/postgres") {
		least := leastLine.FindStringSubmatch(text)
		if least == nil {
			panic(fmt.Sprintf("migration %d does not say which step nodes must know at least", i+1))
		}
		step := migration{}
		step.least, _ = strconv.ParseInt(least[1], 10, 64)
		for _, s := range strings.Split(text, ";\n") {
			if strings.TrimSpace(withoutComments(s)) != "" {
				step.statements = append(step.statements, s)
			}
		}
		steps = append(steps, step)
	}
	return steps
}

var comment = regexp.MustCompile(`--[^\n]*`)

func withoutComments(sql string) string { return comment.ReplaceAllString(sql, "") }

// readSteps returns the texts of a folder of migrations in their order.
func readSteps(files fs.FS, dir string) (texts []string) {
	names, err := fs.Glob(files, dir+"/*.sql")
	if err != nil {
		panic(err)
	}
	for i, name := range names { // in the order of their names
		text, err := fs.ReadFile(files, name)
		if err != nil {
			panic(err)
		}
		if !strings.HasPrefix(name, fmt.Sprintf("%s/%04d_", dir, i+1)) {
			panic(name + " is out of order")
		}
		texts = append(texts, string(text))
	}
	return texts
}

// schemaVersion returns the number of the last step that this version knows.
func schemaVersion() int64 { return int64(len(migrations)) }

// errTooOld says that this version of meterd is too old for the ledger.
var errTooOld = errors.New("this version of meterd is too old")

func tooOld(least int64) error {
	return fmt.Errorf("%w: the tables have been changed by a newer version of meterd, for nodes that know schema %d at least; this one knows %d: upgrade it", errTooOld, least, schemaVersion())
}

func unknownSchema(version, known int64) error {
	return fmt.Errorf("%w: the tables have schema %d, made by a newer version of meterd; this one knows schemas up to %d: upgrade it", errTooOld, version, known)
}

// makeTables makes the tables of all steps, and the counters. Two connections may do so at once.
func makeTables(ctx context.Context, conn *pgx.Conn) error {
	if at, err := atWorker(ctx, conn); err != nil || at {
		return cmp.Or(err, errAtWorker)
	}
	var schema string
	if err := conn.QueryRow(ctx, "SELECT current_setting('search_path')").Scan(&schema); err != nil {
		return err
	}
	if schema != "" && !strings.ContainsAny(schema, `, $"`) {
		if _, err := conn.Exec(ctx, "CREATE SCHEMA IF NOT EXISTS "+pgx.Identifier{schema}.Sanitize()); err != nil && !alreadyMade(err) {
			return err
		}
	}
	for _, step := range migrations {
		if err := step.run(ctx, conn); err != nil {
			return err
		}
	}
	_, err := conn.Exec(ctx, "INSERT INTO state (name, n) VALUES ('revision', 0), ('sealed', 0), ('schema', $1), ('least', $2) ON CONFLICT (name) DO NOTHING", schemaVersion(), migrations[len(migrations)-1].least)
	return err
}

var newTable = regexp.MustCompile(`^\s*CREATE TABLE IF NOT EXISTS (\w+)`)

// ledgerTables returns the names of the tables that the migrations make.
var ledgerTables = sync.OnceValue(func() (names []string) {
	for _, step := range migrations {
		for _, sql := range step.statements {
			if table := newTable.FindStringSubmatch(withoutComments(sql)); table != nil {
				names = append(names, table[1])
			}
		}
	}
	return names
})

// run runs the statements of a step. It leaves out tables that exist already, because an operator may have made one by
// hand in a database that cannot even parse the statement.
func (m migration) run(ctx context.Context, conn *pgx.Conn) error {
	for _, sql := range m.statements {
		if table := newTable.FindStringSubmatch(withoutComments(sql)); table != nil {
			var is bool
			if err := conn.QueryRow(ctx, "SELECT to_regclass($1) IS NOT NULL", table[1]).Scan(&is); err != nil {
				return err
			}
			if is {
				continue
			}
		}
		if _, err := conn.Exec(ctx, sql); err != nil && !alreadyMade(err) {
			return fmt.Errorf("changing the schema: %w", err)
		}
	}
	return nil
}

// make makes the step of the given number and counts it.
func (m migration) make(ctx context.Context, conn *pgx.Conn, lease *lease, number int64) error {
	if err := m.run(ctx, conn); err != nil {
		return err
	}
	// From here on, nodes that do not know the step m.least begin no transaction.
	err := lease.do(ctx, conn, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "UPDATE state SET n = greatest(n, $1) WHERE name = 'least'", m.least)
		return err
	})
	if err != nil {
		return err
	}
	return lease.do(ctx, conn, func(tx pgx.Tx) error {
		if fill := fills[number]; fill != nil {
			// Transactions that such nodes had begun have ended once their writers' rows can be changed.
			if _, err := tx.Exec(ctx, "UPDATE writer SET fenced = true WHERE NOT fenced"); err != nil {
				return err
			}
			err := fill(&Reader{&postgresReader{ctx: ctx, tx: tx, made: number}}, func(sql string, args ...any) error {
				_, err := tx.Exec(ctx, sql, args...)
				return err
			})
			if err != nil {
				return fmt.Errorf("migration %d: %w", number, err)
			}
		}
		_, err := tx.Exec(ctx, "UPDATE state SET n = $1 WHERE name = 'schema' AND n = $2", number, number-1)
		return err
	})
}

// alreadyMade reports whether a statement failed because another connection has made the same thing at the same time:
// IF NOT EXISTS does not see what is not committed.
func alreadyMade(err error) bool {
	return refusedWith(err, "42P07", "42P06", "42710", "42701") || refusedWith(err, "23505") && strings.Contains(err.Error(), "pg_")
}

// migrate makes the steps that are missing, under a lease, and refuses a schema that this version does not know.
func migrate(ctx context.Context, conn *pgx.Conn, node string) error {
	for {
		var version int64
		if err := conn.QueryRow(ctx, "SELECT n FROM state WHERE name = 'schema'").Scan(&version); err != nil {
			return err
		}
		if version > schemaVersion() {
			return unknownSchema(version, schemaVersion())
		}
		if version == schemaVersion() {
			return nil
		}
		if at, err := atWorker(ctx, conn); err != nil || at {
			return cmp.Or(err, errAtWorker)
		}
		lease, err := waitForLease(ctx, conn, "migration", node)
		if err != nil {
			return err
		}
		// A node that has lost the lease meanwhile does not count the step: the next holder makes it again.
		if err := migrations[version].make(ctx, conn, lease, version+1); err != nil && err != errLeaseLost {
			return err
		}
		if err := lease.release(ctx, conn); err != nil {
			return err
		}
	}
}
