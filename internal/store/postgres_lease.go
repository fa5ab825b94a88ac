package store

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// leaseTime is how long a lease lasts by the database's clock unless it is renewed. A variable only for tests.
var leaseTime = 30 * time.Second

// errLeaseLost says that another node holds the lease now.
var errLeaseLost = errors.New("another node holds the lease")

// lease is the right to do what only one node may do at a time. Every transaction of the work checks the token, which
// stops a holder that was away for longer than the lease and does not know that it has lost it. The transaction checks
// the holder too, because a database that has gone back in time gives the same tokens again.
//
// Times are those at which a transaction begins, and the statement about the lease is the transaction's first: one that
// had to wait for the row holds the lease for less time, not more. Citus refuses clock_timestamp() in an UPDATE.
type lease struct {
	name, holder string
	token        int64
}

// onConn is a connection or a pool.
type onConn interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
	Begin(ctx context.Context) (pgx.Tx, error)
}

// takeLease takes or renews a lease for the holder. It returns nil if another holder has the lease.
func takeLease(ctx context.Context, conn onConn, name, holder string) (*lease, error) {
	if _, err := conn.Exec(ctx, "INSERT INTO lease (name, holder, token, expires) VALUES ($1, '', 0, now()) ON CONFLICT (name) DO NOTHING", name); err != nil {
		return nil, err
	}
	l := &lease{name: name, holder: holder}
	err := conn.QueryRow(ctx, "UPDATE lease SET holder = $2, token = token + 1, expires = now() + $3 WHERE name = $1 AND (expires <= now() OR holder = $2) RETURNING token", name, holder, leaseTime).Scan(&l.token)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	return l, err
}

// waitForLease takes a lease as soon as its holder has released it or it has expired.
func waitForLease(ctx context.Context, conn *pgx.Conn, name, holder string) (*lease, error) {
	for {
		l, err := takeLease(ctx, conn, name, holder)
		if l != nil || err != nil {
			return l, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// do runs f in a transaction that is committed only if the lease is still held. The transaction renews the lease.
func (l *lease) do(ctx context.Context, conn onConn, f func(pgx.Tx) error) error {
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, "UPDATE lease SET expires = now() + $3 WHERE name = $1 AND token = $2 AND holder = $4", l.name, l.token, leaseTime, l.holder)
		if err != nil {
			return err
		}
		if tag.RowsAffected() == 0 {
			return errLeaseLost
		}
		return f(tx)
	})
}

// release ends the lease early.
func (l *lease) release(ctx context.Context, conn onConn) error {
	_, err := conn.Exec(ctx, "UPDATE lease SET holder = '', expires = now() WHERE name = $1 AND token = $2 AND holder = $3", l.name, l.token, l.holder)
	return err
}

// refusedWith reports whether err is the database's refusal of a statement with one of the codes.
func refusedWith(err error, codes ...string) bool {
	var refused *pgconn.PgError
	return errors.As(err, &refused) && slices.Contains(codes, refused.Code)
}
