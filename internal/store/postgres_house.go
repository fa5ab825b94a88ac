package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/meterd/meterd/internal/metering"
)

// Limits of housekeeping, which one node does at a time.
var (
	houseEvery = time.Minute
	daysAhead  = int32(7)         // partitions of usage that are made before they are needed
	tokenLife  = 72 * time.Hour   // ClientTokens are asked for during 24 hours and as long as their usage's hour is open
	tokenBatch = 1000             // how many ClientTokens one transaction deletes
	makeWithin = 10 * time.Second // one call of makePartitions
)

// dayOf returns the UTC day of an hour, counted from the epoch: the partition that its rows are in.
func dayOf(h metering.Hour) int32 {
	day := int32(h) / 24
	if int32(h)%24 < 0 {
		day--
	}
	return day
}

// keepHouse makes partitions ahead of time and deletes old ClientTokens and empty partitions until the store is closed.
func (db *postgresStore) keepHouse() {
	defer db.ended.Done()
	tick := time.NewTicker(houseEvery)
	defer tick.Stop()
	for {
		if err := db.clean(db.ctx); err != nil && db.ctx.Err() == nil && !errors.Is(err, errLeaseLost) {
			db.log.Warn("housekeeping in the database", slog.Any("error", err))
		}
		select {
		case <-db.ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// clean does the housekeeping once, if no other node holds its lease.
func (db *postgresStore) clean(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, houseEvery)
	defer cancel()
	if at, err := atWorker(ctx, db.pool); err != nil || at {
		if at && !db.leaves.Swap(true) {
			db.log.Info("this node is connected to a worker of Citus; it leaves partitions and old ClientTokens to those that are connected to the coordinator")
		}
		return err
	}
	lease, err := takeLease(ctx, db.pool, "housekeeping", db.node)
	if lease == nil || err != nil {
		return err
	}
	if err = db.cleanUnder(ctx, lease); err != nil && !errors.Is(err, errLeaseLost) {
		err = errors.Join(err, lease.release(ctx, db.pool)) // another node may be able to do the housekeeping
	}
	return err
}

func (db *postgresStore) cleanUnder(ctx context.Context, lease *lease) error {
	var now time.Time
	if err := db.pool.QueryRow(ctx, "SELECT clock_timestamp()").Scan(&now); err != nil {
		return err
	}
	today := dayOf(metering.InstantOf(now).Hour())
	days := map[int32]struct{}{}
	for day := today - 1; day <= today+daysAhead; day++ {
		days[day] = struct{}{}
	}
	if err := db.makePartitions(ctx, days); err != nil {
		return err
	}
	if db.meta.Sandbox { // a sandbox's clock may be set back to where old tokens and days are needed
		return nil
	}
	return errors.Join(db.deleteTokens(ctx, lease, metering.InstantOf(now.Add(-tokenLife))), db.dropEmptyPartitions(ctx, lease, today))
}

// errAtWorker says that tables cannot be changed because the connection is to a worker of Citus.
var errAtWorker = errors.New("the database is a worker of Citus, where tables cannot be made or changed; connect a node to the coordinator for that")

// atWorker reports whether the connection is to a worker of Citus. Other machines do not know a table that is made
// there, and it is in the way when the coordinator makes the table.
func atWorker(ctx context.Context, conn onConn) (is bool, err error) {
	var citus bool
	if err := conn.QueryRow(ctx, "SELECT to_regclass('pg_catalog.pg_dist_local_group') IS NOT NULL").Scan(&citus); err != nil || !citus {
		return false, err
	}
	err = conn.QueryRow(ctx, "SELECT count(*) > 0 FROM pg_dist_local_group WHERE groupid <> 0").Scan(&is)
	return is, err
}

// partitioned reports whether table usage has partitions. It has none where the database spreads rows in its own way.
func (db *postgresStore) partitioned(ctx context.Context) (is bool, err error) {
	err = db.pool.QueryRow(ctx, "SELECT relkind = 'p' FROM pg_class WHERE oid = 'usage'::regclass").Scan(&is)
	return is, err
}

func partitionName(day int32) string {
	return "usage_" + metering.Hour(day*24).Start().Time().Format("20060102")
}

// makePartitions makes partitions for those of the days that have none. It makes a table first and then attaches it,
// which stops neither readers nor writers. Several nodes may do so at once.
func (db *postgresStore) makePartitions(ctx context.Context, days map[int32]struct{}) error {
	ctx, cancel := context.WithTimeout(ctx, makeWithin)
	defer cancel()
	if is, err := db.partitioned(ctx); err != nil || !is {
		return err
	}
	for day := range days {
		if err := db.makePartition(ctx, day); err != nil {
			return fmt.Errorf("making partition %s: %w", partitionName(day), err)
		}
	}
	return nil
}

func (db *postgresStore) makePartition(ctx context.Context, day int32) error {
	name := partitionName(day)
	var attached bool
	err := db.pool.QueryRow(ctx, "SELECT count(*) > 0 FROM pg_inherits WHERE inhparent = 'usage'::regclass AND inhrelid = to_regclass($1)", name).Scan(&attached)
	if err != nil || attached {
		return err
	}
	if at, err := atWorker(ctx, db.pool); err != nil || at {
		return cmp.Or(err, errAtWorker)
	}
	return db.changeTables(ctx, "CREATE TABLE IF NOT EXISTS "+name+" (LIKE usage INCLUDING ALL)",
		fmt.Sprintf("ALTER TABLE usage ATTACH PARTITION %s FOR VALUES FROM (%d) TO (%d)", name, day*24, day*24+24))
}

// changeTables runs statements that must not wait long for their locks, because every later statement on the table
// would wait too.
func (db *postgresStore) changeTables(ctx context.Context, statements ...string) error {
	conn, err := db.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	for _, sql := range append(append([]string{"SET lock_timeout = '1s'"}, statements...), "RESET lock_timeout") {
		if _, err := conn.Exec(ctx, sql); err != nil && !alreadyMade(err) && !refusedWith(err, "42809") { // it is a partition already
			return err
		}
	}
	return nil
}

// detach detaches a partition, without holding up writers where that is possible. It is not possible on Citus, beside a
// default partition, or if an earlier attempt to detach the partition was interrupted.
func (db *postgresStore) detach(ctx context.Context, partition string) error {
	sql := "ALTER TABLE usage DETACH PARTITION " + pgx.Identifier{partition}.Sanitize()
	_, err := db.pool.Exec(ctx, sql+" CONCURRENTLY")
	if refusedWith(err, "55000") {
		_, err = db.pool.Exec(ctx, sql+" FINALIZE")
	}
	if refusedWith(err, "55000", "0A000", "XX000") { // the last is the code that Citus sends
		err = db.changeTables(ctx, sql)
	}
	return err
}

// dropEmptyPartitions drops the partitions of past days that hold no rows and that no record can come for any more.
// Partitions with usage are kept for ever.
func (db *postgresStore) dropEmptyPartitions(ctx context.Context, l *lease, today int32) error {
	if is, err := db.partitioned(ctx); err != nil || !is {
		return err
	}
	rows, err := db.pool.Query(ctx, "SELECT c.relname::text FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'usage'::regclass")
	if err != nil {
		return err
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	for _, name := range names {
		at, err := time.Parse("usage_20060102", name)
		if err != nil { // a partition that an operator has made
			continue
		}
		day := dayOf(metering.InstantOf(at).Hour())
		if day >= today-40 { // a day is kept longer than any window is open
			continue
		}
		if used, err := db.used(ctx, name); err != nil || used {
			if err != nil {
				return err
			}
			continue
		}
		if err := l.do(ctx, db.pool, func(pgx.Tx) error { return nil }); err != nil {
			return err
		}
		if err := db.detach(ctx, name); err != nil {
			return err
		}
		used, err := db.used(ctx, name)
		if err != nil {
			return err
		}
		if used { // a row has come since the first look
			if err := db.makePartition(ctx, day); err != nil {
				return err
			}
			continue
		}
		if _, err := db.pool.Exec(ctx, "DROP TABLE "+pgx.Identifier{name}.Sanitize()); err != nil {
			return err
		}
	}
	return nil
}

func (db *postgresStore) used(ctx context.Context, partition string) (is bool, err error) {
	err = db.pool.QueryRow(ctx, "SELECT true FROM "+pgx.Identifier{partition}.Sanitize()+" LIMIT 1").Scan(&is)
	if errors.Is(err, pgx.ErrNoRows) {
		return false, nil
	}
	return is, err
}

// deleteTokens deletes old ClientTokens, a few at a time.
func (db *postgresStore) deleteTokens(ctx context.Context, l *lease, before metering.Instant) error {
	for {
		deleted := int64(0)
		err := l.do(ctx, db.pool, func(tx pgx.Tx) error {
			tag, err := tx.Exec(ctx, "DELETE FROM client_token WHERE (workload, hash) IN (SELECT workload, hash FROM client_token WHERE at < $1 ORDER BY at LIMIT $2)", int64(before), tokenBatch)
			deleted = tag.RowsAffected()
			return err
		})
		if err != nil || deleted < int64(tokenBatch) {
			return err
		}
	}
}
