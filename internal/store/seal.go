package store

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Names of values of meta that say that a ledger is being moved.
const (
	sealedValue  = "sealed"  // where it has been moved to; nothing is written any more
	copyingValue = "copying" // what it is an unfinished copy of
)

func movedTo(to []byte) error {
	return fmt.Errorf("the ledger has been moved to %s with meterd copy, and takes nothing more here", to)
}

func unfinishedCopy(from []byte) error {
	return fmt.Errorf("it is an unfinished copy of %s: finish it with the same meterd copy, or go on there", from)
}

// sealPostgres has nobody write to the database any more: first no writer can begin, then none can commit. It waits for
// transactions in flight.
func sealPostgres(url, to string) error {
	return onePostgres(url, func(ctx context.Context, conn *pgx.Conn) error {
		for _, s := range []struct {
			sql  string
			args []any
		}{
			{"INSERT INTO meta (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value", []any{sealedValue, []byte(to)}},
			{"UPDATE state SET n = 1 WHERE name = 'sealed'", nil},
			{"UPDATE writer SET fenced = true", nil},
		} {
			if _, err := conn.Exec(ctx, s.sql, s.args...); err != nil {
				return err
			}
		}
		return nil
	})
}
