package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"
)

// The server's databases: one that ledgers are copies of, and the ledger at hand.
const (
	marketplaceDatabase = "marketplace"
	ledgerDatabase      = "ledger"
)

// inDatabase is the place of a ledger in one of the server's databases.
func (b *bench) inDatabase(name string) place {
	return place{"--store", b.database.url(name), "--master-key-file", filepath.Join(b.dir, "postgres.key")}
}

// startPostgres starts the server that the scenarios on PostgreSQL share, with a marketplace if meterd is to use it.
func (b *bench) startPostgres(onMeterd bool) (err error) {
	if b.database, err = startDatabase(b.ctx, b.postgresBin, b.dir, databaseSettings...); err != nil {
		return err
	}
	line, err := b.database.describe(b.ctx)
	if err != nil {
		return err
	}
	b.say("\n%s; the rest as PostgreSQL has it, in the data folder", line)
	if onMeterd {
		return b.fillPostgres()
	}
	return nil
}

// fillPostgres makes the ledger with the marketplace, which all others in databases are copies of.
func (b *bench) fillPostgres() error {
	d := b.database
	if err := d.exec(b.ctx, "postgres", "CREATE DATABASE "+marketplaceDatabase); err != nil {
		return err
	}
	token, err := initMeterd(b.ctx, b.binary, b.inDatabase(marketplaceDatabase))
	if err != nil {
		return err
	}
	m, err := startMeterd(b.ctx, b.binary, b.inDatabase(marketplaceDatabase), token)
	if err != nil {
		return err
	}
	began := time.Now()
	key, err := m.populate(b.ctx, b.keys)
	took := time.Since(began)
	if err = errors.Join(err, m.stop()); err != nil {
		return err
	}
	b.databaseToken, b.databaseKey = token, key
	b.say("imported %d buyers and as many agreements into PostgreSQL in %.1f s", b.buyers, took.Seconds())
	return d.exec(b.ctx, marketplaceDatabase, "VACUUM ANALYZE")
}

// withNodes runs f on so many nodes that serve a new ledger in the database, with the marketplace and no usage.
func (b *bench) withNodes(n int, f func([]*meterd, *target) error) (err error) {
	d := b.database
	if err := d.exec(b.ctx, "postgres", "CREATE DATABASE "+ledgerDatabase+" TEMPLATE "+marketplaceDatabase); err != nil {
		return err
	}
	var nodes []*meterd
	defer func() {
		for _, m := range nodes {
			err = errors.Join(err, m.stop())
		}
		if b.ctx.Err() == nil {
			err = errors.Join(err, d.exec(b.ctx, "postgres", "DROP DATABASE "+ledgerDatabase+" WITH (FORCE)"))
		}
	}()
	t := &target{accessKeyID: b.databaseKey.AccessKeyID, secretAccessKey: b.databaseKey.SecretAccessKey, keys: b.keys, echoes: true, database: d}
	for range n {
		m, err := startMeterd(b.ctx, b.binary, b.inDatabase(ledgerDatabase), b.databaseToken)
		if err != nil {
			return err
		}
		nodes = append(nodes, m)
		t.addresses, t.pids = append(t.addresses, m.address), append(t.pids, m.cmd.Process.Pid)
	}
	// What was written before must not be copied to its place at the cost of what is measured.
	if err := d.exec(b.ctx, "postgres", "CHECKPOINT"); err != nil {
		return err
	}
	return f(nodes, t)
}

// upserts runs pgbench and returns its rows a second.
func (b *bench) upserts(k keying) (rows float64, err error) {
	before, began := b.usedByDatabase(&err), time.Now()
	r, own, failed := b.database.upserts(b.ctx, k, b.warm, b.measure)
	used, took := b.usedByDatabase(&err).since(before), time.Since(began)
	if err = errors.Join(failed, err); err != nil {
		return 0, err
	}
	rows = r.perSecond * recordsPerCall
	used.generator = own
	b.say("%-22s %4d connections %7.0f transactions/s %5.0f rows/s  CPU database %2.0f %% pgbench %2.0f %% others %2.0f %%", "pgbench"+k.name, pgbenchClients, r.perSecond, rows,
		percent(used.database, took), percent(own, took), b.note(used, took))
	return rows, nil
}

func (b *bench) usedByDatabase(err *error) (c cpu) {
	var e [2]error
	c.database, e[0] = b.database.used()
	c.busy, e[1] = machineCPU()
	*err = errors.Join(*err, e[0], e[1])
	return c
}

// pgbench measures the baseline alone.
func (b *bench) pgbench() error {
	b.section(fmt.Sprintf("pgbench: transactions that upsert %d rows", recordsPerCall))
	var plain, narrow series
	for range b.repeat {
		if err := b.baselines(&plain, &narrow); err != nil {
			return err
		}
	}
	b.baselineRows(plain, narrow)
	return nil
}

// baselines measures both.
func (b *bench) baselines(plain, narrow *series) error {
	p, err := b.upserts(plainKeys)
	if err != nil {
		return err
	}
	n, err := b.upserts(narrowKeys)
	*plain, *narrow = append(*plain, p), append(*narrow, n)
	return err
}

func (b *bench) baselineRows(plain, narrow series) {
	b.row(fmt.Sprintf("pgbench, upserts of %d rows by %d clients: rows/s", recordsPerCall, pgbenchClients), "", "%s", plain.format("%.0f"))
	b.row("pgbench, the same into a table whose key is integers: rows/s", "", "%s", narrow.format("%.0f"))
}

// postgres compares both stores with PostgreSQL by itself, and on PostgreSQL new records with a storm of replays.
func (b *bench) postgres() error {
	b.section("postgres: pgbench, the embedded store, one node on PostgreSQL with new records, then with the same again")
	var plain, narrow, records, ratio, toNarrow, embedded, storm, node, server series
	for i := range b.repeat {
		if err := b.baselines(&plain, &narrow); err != nil {
			return err
		}
		err := b.withCopy(func(m *meterd, t *target) error {
			r, err := b.load(t, phase{name: "embedded new"})
			if err != nil {
				return err
			}
			b.settle(t, m)
			embedded = append(embedded, r.recordsPerSecond()/plain[i])
			return nil
		})
		if err != nil {
			return err
		}
		err = b.withNodes(1, func(nodes []*meterd, t *target) error {
			new, err := b.load(t, phase{name: "PostgreSQL new"})
			if err != nil {
				return err
			}
			again, err := b.load(t, phase{name: "PostgreSQL replayed", mode: replay, from: new.first, to: new.end})
			if err != nil {
				return err
			}
			b.settle(t, nodes...)
			b.databasePeak = append(b.databasePeak, new.perSecond())
			records = append(records, new.recordsPerSecond())
			ratio, toNarrow = append(ratio, new.recordsPerSecond()/plain[i]), append(toNarrow, new.recordsPerSecond()/narrow[i])
			storm = append(storm, again.perSecond()/new.perSecond())
			node, server = append(node, new.each(new.server)), append(server, new.each(new.database))
			return nil
		})
		if err != nil {
			return err
		}
	}
	b.baselineRows(plain, narrow)
	b.row("PostgreSQL store, one node, new records: requests/s", "", "%s", b.databasePeak.format("%.0f"))
	b.row("PostgreSQL store, one node, new records: records/s, durable", "", "%s", records.format("%.0f"))
	b.row("PostgreSQL store, one node ÷ pgbench, records/s", "≥ 0.85, aim 1.2", "%s", ratio.format("%.2f"))
	b.row("PostgreSQL store, one node ÷ pgbench with a key of integers", "", "%s", toNarrow.format("%.2f"))
	b.row("embedded store ÷ pgbench, records/s", "≥ 2.5, aim 3", "%s", embedded.format("%.2f"))
	b.row("PostgreSQL store: all-replay storm ÷ new, requests/s", "≥ 0.90", "%s", storm.format("%.2f"))
	b.row("CPU for a request of 25 records: node; PostgreSQL", "", "%s; %s", node.format("%.0f µs"), server.format("%.0f µs"))
	return nil
}

// postgresNodes compares several nodes on one database with one.
func (b *bench) postgresNodes() error {
	b.section("postgres-nodes: one, two and four nodes on one database and one machine, the connections spread over them")
	counts := []int{1, 2, 4}
	rates := make([]series, len(counts))
	for range b.repeat {
		for i, n := range counts {
			err := b.withNodes(n, func(nodes []*meterd, t *target) error {
				r, err := b.load(t, phase{name: fmt.Sprintf("PostgreSQL, nodes: %d", n)})
				if err != nil {
					return err
				}
				b.settle(t, nodes...)
				rates[i] = append(rates[i], r.recordsPerSecond())
				return nil
			})
			if err != nil {
				return err
			}
		}
	}
	for i, n := range counts[1:] {
		var ratio series
		for j, rate := range rates[i+1] {
			ratio = append(ratio, rate/rates[0][j])
		}
		b.row(fmt.Sprintf("PostgreSQL store, %d nodes ÷ one, all on one machine, records/s", n), "", "%s", ratio.format("%.2f"))
	}
	return nil
}

// postgresHalf measures latency at half of the peak load, as half does for the embedded store.
func (b *bench) postgresHalf() error {
	b.section("postgres-half: one node on PostgreSQL, requests sent by the clock at half of the rate of new records")
	return b.withNodes(1, func(nodes []*meterd, t *target) error {
		if len(b.databasePeak) == 0 {
			full, err := b.load(t, phase{name: "PostgreSQL new"})
			if err != nil {
				return err
			}
			b.databasePeak = append(b.databasePeak, full.perSecond())
		}
		var p99 series
		for range b.repeat {
			half, err := b.load(t, phase{name: "PostgreSQL, half", rate: b.databasePeak.median() / 2})
			if err != nil {
				return err
			}
			p99 = append(p99, milliseconds(half.quantile(0.99)))
		}
		b.settle(t, nodes...)
		b.row("PostgreSQL store: p99 at half of the peak load", "", "%s", p99.format("%.1f ms"))
		return nil
	})
}

// sizeQuery is what usage with all of its partitions and the audit take, indexes included.
const sizeQuery = "SELECT pg_total_relation_size('call') + (SELECT sum(pg_total_relation_size(relid)) FROM pg_partition_tree('usage'))"

// postgresRecords measures what many records take of the database and of a node's memory.
func (b *bench) postgresRecords() error {
	const records = 2_000_000
	b.section(fmt.Sprintf("postgres-records: %d records on one node", records))
	return b.withNodes(1, func(nodes []*meterd, t *target) error {
		d, m := b.database, nodes[0]
		measure := func() (size, log float64, held memory, err error) {
			size, err1 := d.numberIn(b.ctx, ledgerDatabase, sizeQuery)
			log, err2 := d.number(b.ctx, "SELECT pg_current_wal_insert_lsn() - '0/0'")
			held, err3 := m.memory(b.ctx)
			return size, log, held, errors.Join(err1, err2, err3)
		}
		empty, written, held, err := measure()
		if err != nil {
			return err
		}
		taken, resident, live := "0", fmt.Sprintf("%.0f", held.resident/1e6), fmt.Sprintf("%.0f", held.live/1e6)
		var size, log float64
		for _, to := range []int64{records / 4, records / 2, records} {
			if _, err := b.load(t, phase{name: "PostgreSQL new", to: to}); err != nil {
				return err
			}
			if size, log, held, err = measure(); err != nil {
				return err
			}
			taken += fmt.Sprintf("; %.1f M", float64(to)/1e6)
			resident += fmt.Sprintf("; %.0f", held.resident/1e6)
			live += fmt.Sprintf("; %.0f", held.live/1e6)
		}
		b.settle(t, nodes...)
		stored := float64(t.acknowledged.Load())
		b.row("PostgreSQL store: size in the database for a record, index and audit included", "", "%.0f B", (size-empty)/stored)
		b.row("PostgreSQL store: bytes of PostgreSQL's log written for a record", "", "%.0f", (log-written)/stored)
		b.row("PostgreSQL store: resident memory of a node with "+taken+" open records", "flat", "%s MB", resident)
		b.row("PostgreSQL store: live heap of a node with as many", "flat", "%s MB", live)
		return nil
	})
}
