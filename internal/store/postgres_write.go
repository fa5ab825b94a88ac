package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/meterd/meterd/internal/metering"
)

// postgresWriter is a connection that commits, and its row in table writer. Each transaction begins by counting itself
// in that row, from the number that the writer knows. That makes fencing possible, and shows whether a transaction whose
// COMMIT was not answered has become durable. The same statement notices that the database has gone back in time: then
// the row is not as the writer left it, or the history lacks the revision of the catalogue that the writer knows.
type postgresWriter struct {
	db       *postgresStore
	acts     bool // this writer commits acts of administration, which may take long
	conn     *pgx.Conn
	warned   atomic.Bool // the server has sent a warning
	known    Revision    // the revision of the catalogue by which transactions are decided
	id       int64       // 0 for none
	mark     [16]byte    // random, because a database that has gone back in time gives the same ids again
	commits  int64
	calls    int64                     // the place of the last call that is durable
	appended int64                     // the place of the current transaction's last call
	run      callRun                   // the run of the last durable call
	ended    callRun                   // the run of the current transaction's last call
	durable  atomic.Pointer[writerRow] // for other goroutines: the row must have come this far in the database; nil for no row
}

// writerRow is what a writer knows of its row in the database.
type writerRow struct {
	id, commits int64
	mark        [16]byte
}

func newPostgresWriter(db *postgresStore, acts bool) *postgresWriter {
	return &postgresWriter{db: db, acts: acts, known: db.opened}
}

// committed returns what the store's writers know of their rows.
func (db *postgresStore) committed() (rows struct {
	ids, commits []int64
	marks        [][]byte
}) {
	for _, w := range db.writers {
		if r := w.durable.Load(); r != nil {
			rows.ids, rows.commits, rows.marks = append(rows.ids, r.id), append(rows.commits, r.commits), append(rows.marks, r.mark[:])
		}
	}
	return rows
}

func (w *postgresWriter) Know(r Revision) { w.known = r }

// keep notes that the writer's row is durable with the given commits.
func (w *postgresWriter) keep(commits int64) {
	w.commits = commits
	w.durable.Store(&writerRow{id: w.id, commits: commits, mark: w.mark})
}

// giveUp makes the writer begin anew under another id.
func (w *postgresWriter) giveUp() {
	w.id = 0
	w.durable.Store(nil)
}

var (
	errAgain  = errors.New("another writer was in the way")
	errFenced = errors.New("the writer is fenced off")

	errNotReplicated = errors.New("the database has not waited for its standby")
)

// final is an error after which trying again would not help.
type final struct{ error }

// NextCall is valid only inside Update, because a writer may begin anew under another id.
func (w *postgresWriter) NextCall() int64 { return w.id<<callBits | (w.calls + 1) }

func (w *postgresWriter) Update(f func(*Tx) error) error {
	until := time.Now().Add(writePatience)
	doubt := false // the transaction of the last attempt may be durable
	for try := 0; ; try++ {
		doubted := doubt
		err := w.attempt(until, &doubt, f)
		if err == nil {
			return nil
		}
		if doubt && !doubted && w.acts {
			until = time.Now().Add(writePatience) // time to find out, because the attempt may have used up its own
		}
		if end := (final{}); errors.As(err, &end) {
			return end.error
		}
		if !doubt && !passing(err) {
			return err
		}
		wait := min(200*time.Millisecond, 5*time.Millisecond<<min(try, 10))
		wait = wait/2 + rand.N(wait)
		if time.Now().Add(wait).After(until) || w.db.ctx.Err() != nil {
			if doubt {
				w.giveUp() // that transaction may still commit under the old id
				return &CommitError{err}
			}
			return &UnavailableError{err}
		}
		time.Sleep(wait)
	}
}

// errRehearsed ends a rehearsed transaction, which is then rolled back.
var errRehearsed = errors.New("rehearsed")

func (w *postgresWriter) Rehearse(f func(*Tx) error) error {
	err := w.Update(func(tx *Tx) error {
		t := tx.tx.(*postgresTx)
		err := f(tx)
		if err == nil {
			err = t.finish()
		}
		if err == nil {
			err = t.flush()
		}
		if err == nil {
			err = errRehearsed
		}
		return err
	})
	if errors.Is(err, errRehearsed) {
		err = nil
	}
	return err
}

// attempt finds out what has become of the last transaction if that is in doubt, and else runs a transaction.
func (w *postgresWriter) attempt(until time.Time, doubt *bool, f func(*Tx) error) (err error) {
	deadline := until
	if w.acts {
		deadline = time.Now().Add(actPatience)
	}
	ctx, cancel := context.WithDeadline(w.db.ctx, deadline)
	defer cancel()
	connected, stop := context.WithDeadline(ctx, until)
	defer stop()
	if *doubt {
		committed, err := w.settle(connected)
		if err != nil {
			return err
		}
		if *doubt = false; committed {
			w.calls, w.run = w.appended, w.ended
			return nil
		}
	}
	if err := w.ready(connected); err != nil {
		return err
	}
	t := &postgresTx{ctx: ctx, conn: w.conn, counted: w.counts, lastCall: w.NextCall() - 1, run: w.run, days: map[int32]struct{}{}}
	w.count(t)
	if err = f(&Tx{tx: t}); err != nil && !t.failed {
		err = final{err} // the error of f itself
	}
	if err == nil {
		err = t.begin()
	}
	if err == nil {
		_, w.appended = Place(t.lastCall)
		w.ended = t.run
		w.warned.Store(false)
		if err = t.commit(); err == nil && w.warned.Load() {
			// The transaction is durable here, but the server has stopped waiting for its standby.
			*doubt = true
			return errNotReplicated
		}
		*doubt = err != nil && t.inDoubt()
	}
	if err == nil {
		w.keep(w.commits + 1)
		w.calls, w.run = w.appended, w.ended
		return nil
	}
	w.undo()
	if t.missing {
		if made := w.db.makePartitions(ctx, t.days); made != nil {
			return errors.Join(errAgain, made)
		}
		return errAgain
	}
	return err
}

// countStatement is the place, from 0, of the counting statement among those that [postgresWriter.count] queues.
const countStatement = 1

// count queues the beginning of a transaction, in which the transaction counts itself.
func (w *postgresWriter) count(t *postgresTx) {
	t.batch.Queue("BEGIN")
	t.batch.Queue("UPDATE writer SET commits = commits + 1, calls = $5, at = $1 WHERE id = $2 AND mark = $6 AND commits = $3 AND NOT fenced AND NOT EXISTS (SELECT 1 FROM state WHERE (name = 'sealed' AND n <> 0) OR (name = 'least' AND n > $4)) AND EXISTS (SELECT 1 FROM revision WHERE n = $7 AND mark = $8) AND "+syncs,
		time.Now().UnixMilli(), w.id, w.commits, schemaVersion(), w.calls, w.mark[:], w.known.N, w.known.Mark[:])
	t.batch.Queue(durably)
}

// counts fails unless the transaction has counted itself.
func (w *postgresWriter) counts(tag pgconn.CommandTag) error {
	if tag.RowsAffected() != 0 {
		return nil
	}
	switch _, err := w.db.Pulse(w.db.ctx, w.known); {
	case errors.Is(err, ErrWentBack):
		return final{err}
	case errors.Is(err, errSealed), errors.Is(err, errTooOld):
		return final{fmt.Errorf("%w: %w", errFenced, err)}
	case errors.Is(err, errUnsafe):
		return final{&UnavailableError{err}}
	case err != nil:
		return err
	}
	w.giveUp()
	return errAgain
}

// settle finds out whether the last transaction has become durable. It waits for that transaction if it is still in
// flight, because both write the row of the writer. settle commits its own write: once the server acknowledges that,
// everything before it is on the standby too, if there is one.
func (w *postgresWriter) settle(ctx context.Context) (committed bool, err error) {
	if err := w.connect(ctx); err != nil {
		return false, err
	}
	defer func() {
		if err != nil {
			w.disconnect()
		}
	}()
	w.warned.Store(false)
	var commits int64
	var synced bool
	var batch pgx.Batch
	batch.Queue("BEGIN")
	batch.Queue(durably)
	batch.Queue("UPDATE writer SET at = at WHERE id = $1 AND mark = $2 RETURNING commits", w.id, w.mark[:]).QueryRow(func(row pgx.Row) error { return row.Scan(&commits) })
	batch.Queue("SELECT " + syncs).QueryRow(func(row pgx.Row) error { return row.Scan(&synced) })
	batch.Queue("COMMIT")
	err = w.conn.SendBatch(ctx, &batch).Close()
	if errors.Is(err, pgx.ErrNoRows) || err == nil && commits < w.commits {
		return false, final{&CommitError{ErrWentBack}}
	}
	if err == nil && !synced {
		err = errUnsafe
	}
	if err == nil && w.warned.Load() {
		err = errNotReplicated
	}
	if err != nil {
		return false, err
	}
	if commits > w.commits+1 {
		return false, fmt.Errorf("writer %d has %d commits, but knows of %d: another process has used its number", w.id, commits, w.commits)
	}
	committed = commits == w.commits+1
	w.keep(commits)
	return committed, nil
}

// ready connects, and takes an id if the writer has none.
func (w *postgresWriter) ready(ctx context.Context) error {
	if err := w.connect(ctx); err != nil {
		return err
	}
	for w.id == 0 {
		now := time.Now().UnixMilli()
		var id int64
		mark := newMark()
		w.warned.Store(false)
		err := w.conn.QueryRow(ctx, "INSERT INTO writer (id, node, started, at, commits, calls, fenced, mark) SELECT coalesce(max(id), 0) + 1, $1::text, $2::bigint, $2::bigint, 0, 0, false, $3::bytea FROM writer ON CONFLICT (id) DO NOTHING RETURNING id", w.db.node, now, mark[:]).Scan(&id)
		if errors.Is(err, pgx.ErrNoRows) { // another writer has taken the id
			continue
		}
		if err == nil && w.warned.Load() {
			err = errNotReplicated
		}
		if err != nil {
			w.disconnect() // the writer may have got an id that it does not know of, which does no harm
			return err
		}
		w.id, w.mark, w.calls, w.run = id, mark, 0, callRun{}
		w.keep(0)
	}
	return nil
}

// planByKeys makes the planner look up one row after the other by its key. By itself the planner takes a new partition,
// of which it has no statistics yet, for a small one, and reads all of it. So other ways are switched off, and reading a
// row is made expensive. With that price the planner would find it worth while to compile the statement or to share it
// out among processes, so these are switched off too. $1 is true if the settings are to end with the transaction.
const planByKeys = "SELECT set_config(name, CASE name WHEN 'cpu_tuple_cost' THEN '1000' WHEN 'max_parallel_workers_per_gather' THEN '0' ELSE 'off' END, $1) " +
	"FROM pg_settings WHERE name IN ('enable_hashjoin', 'enable_mergejoin', 'enable_seqscan', 'jit', 'cpu_tuple_cost', 'max_parallel_workers_per_gather')"

func (w *postgresWriter) connect(ctx context.Context) error {
	if w.conn != nil && !w.conn.IsClosed() {
		return nil
	}
	config := w.db.config.Copy()
	config.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) {
		if n.SeverityUnlocalized == "WARNING" {
			w.warned.Store(true)
		}
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return err
	}
	w.conn = conn
	if err := durable(ctx, conn); err != nil {
		w.disconnect()
		return err
	}
	if _, err := conn.Exec(ctx, planByKeys, false); err != nil {
		w.disconnect()
		return err
	}
	return nil
}

func (w *postgresWriter) disconnect() {
	if w.conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = w.conn.Close(ctx) // the connection is given up either way
	w.conn = nil
}

// undo rolls back a transaction that has failed.
func (w *postgresWriter) undo() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if w.conn == nil || w.conn.IsClosed() {
		w.conn = nil
		return
	}
	if _, err := w.conn.Exec(ctx, "ROLLBACK"); err != nil {
		w.disconnect()
	}
}

// postgresTx is a transaction. Statements whose answers are not needed at once are queued, and sent together with the
// next one whose answer is.
type postgresTx struct {
	ctx        context.Context
	conn       *pgx.Conn
	batch      pgx.Batch
	counted    func(pgconn.CommandTag) error // checks the answer to the counting statement; nil once it has been checked
	lastCall   int64
	run        callRun // the run of the last call
	claims     []Claim
	described  int // how many claims belong to calls that have been appended
	calls      callRows
	tokens     []ClientToken
	tokensFrom metering.Hour // tokens accepted before this hour are not known any more
	regs       []metering.Registration
	days       map[int32]struct{} // the days that claims are for
	missing    bool               // a partition is missing
	failed     bool               // a statement or the connection has failed
	sent       bool               // COMMIT has been sent
	refused    bool               // the server has refused COMMIT or a statement before it
}

// maxQueued is how many statements are sent at once.
const maxQueued = 500

func (t *postgresTx) exec(sql string, args ...any) error {
	for i, a := range args {
		if s, ok := a.(string); ok {
			args[i] = toText(s)
		}
	}
	t.batch.Queue(sql, args...)
	if t.batch.Len() >= maxQueued {
		return t.flush()
	}
	return nil
}

// begin makes sure that the transaction has been counted.
func (t *postgresTx) begin() error {
	if t.counted == nil {
		return nil
	}
	return t.flush()
}

// flush sends what is queued.
func (t *postgresTx) flush() error {
	if t.batch.Len() == 0 {
		return nil
	}
	n := t.batch.Len()
	results := t.conn.SendBatch(t.ctx, &t.batch)
	err := t.results(results, n)
	err = errors.Join(err, results.Close())
	t.batch = pgx.Batch{}
	return t.note(err)
}

// note remembers that an error came from the database, and not from the function that uses the transaction.
func (t *postgresTx) note(err error) error {
	t.failed = t.failed || err != nil
	return err
}

// results reads the answers to the n statements that were queued. If they are the transaction's first ones, it checks
// that the transaction has counted itself.
func (t *postgresTx) results(r pgx.BatchResults, n int) error {
	for i := range n {
		tag, err := r.Exec()
		if err != nil {
			return err
		}
		if counted := t.counted; counted != nil && i == countStatement {
			t.counted = nil
			if err := counted(tag); err != nil {
				return err
			}
		}
	}
	return nil
}

// finish queues the ClientTokens, registrations and calls that have been gathered.
func (t *postgresTx) finish() error {
	if err := t.putTokens(); err != nil {
		return err
	}
	t.queueRegistrations()
	t.calls.queue(&t.batch)
	return nil
}

// commit sends what is queued with COMMIT.
func (t *postgresTx) commit() error {
	if err := t.finish(); err != nil {
		return err
	}
	t.batch.Queue("COMMIT")
	n := t.batch.Len()
	t.sent = true
	results := t.conn.SendBatch(t.ctx, &t.batch)
	defer func() { t.batch = pgx.Batch{} }()
	for i := range n {
		tag, err := results.Exec()
		if err != nil {
			t.refused = refusedAt(err, i < n-1)
			return errors.Join(err, results.Close())
		}
		if i == n-1 && tag.String() != "COMMIT" {
			t.refused = true
			return errors.Join(fmt.Errorf("the database answered COMMIT with %s", tag), results.Close())
		}
	}
	return results.Close()
}

// refusedAt reports whether an error of the last statements means that nothing has been committed. It does if the server
// has refused a statement before COMMIT, because it then skips COMMIT, or if it has expressly refused COMMIT itself.
func refusedAt(err error, beforeCommit bool) bool {
	var refused *pgconn.PgError
	if !errors.As(err, &refused) {
		return false
	}
	return beforeCommit || refused.SeverityUnlocalized == "ERROR" && refused.Code != "40003" && refused.Code[:2] != "08"
}

// inDoubt reports whether the transaction may have become durable although commit has failed.
func (t *postgresTx) inDoubt() bool { return t.sent && !t.refused }

func (t *postgresTx) revise(known int64) error {
	if err := t.flush(); err != nil {
		return err
	}
	tag, err := t.conn.Exec(t.ctx, "UPDATE state SET n = n + 1 WHERE name = 'revision' AND n = $1", known)
	if t.note(err) == nil && tag.RowsAffected() == 0 {
		err = ErrStale
	}
	return err
}

// Window forgets nothing: housekeeping deletes ClientTokens that are long past.
func (t *postgresTx) Window(w Window) error {
	t.tokensFrom = w.Tokens
	return nil
}

func (t *postgresTx) PutClientToken(k *ClientToken) error {
	t.tokens = append(t.tokens, *k)
	return nil
}

func (t *postgresTx) PutRegistration(r metering.Registration) error {
	t.regs = append(t.regs, r)
	return nil
}

func (t *postgresTx) AppendCall(c *Call) error {
	t.lastCall = c.Seq
	if t.run.begins(c) {
		if err := t.exec(insertCallHour, c.Seq, int64(c.At.Hour())); err != nil {
			return err
		}
	}
	from := t.described
	for t.described < len(t.claims) {
		if call, _ := CallOfUsage(t.claims[t.described].Seq); call > c.Seq {
			break
		}
		t.described++
	}
	t.calls.add(c, appendKeys([]byte{}, t.claims[from:t.described]))
	return nil
}

// queueRegistrations queues each registration once, in an order that is the same for all writers.
func (t *postgresTx) queueRegistrations() {
	slices.SortStableFunc(t.regs, func(a, b metering.Registration) int {
		return cmp.Or(cmp.Compare(a.Workload, b.Workload), cmp.Compare(a.Product, b.Product), cmp.Compare(a.Operation, b.Operation))
	})
	for i, r := range t.regs {
		if i+1 < len(t.regs) && t.regs[i+1].Workload == r.Workload && t.regs[i+1].Product == r.Product && t.regs[i+1].Operation == r.Operation {
			continue // the next one is the same registration, with a later last call
		}
		t.batch.Queue("INSERT INTO registration (workload, product, operation, first_call, last_call) VALUES ($1,$2,$3,$4,$5) ON CONFLICT (workload, product, operation) DO UPDATE SET last_call = greatest(registration.last_call, excluded.last_call)",
			r.Workload, r.Product, int(r.Operation), int64(r.First), int64(r.Last))
	}
}

// putTokens stores all ClientTokens in one statement, whose row count shows whether another writer was quicker. That
// must be known before COMMIT is sent. The statement compares with a time that changes once an hour. The time is part of
// the statement's text, because Citus takes no parameters behind ON CONFLICT.
func (t *postgresTx) putTokens() error {
	if len(t.tokens) == 0 {
		return nil
	}
	if err := t.flush(); err != nil {
		return err
	}
	slices.SortFunc(t.tokens, func(a, b ClientToken) int {
		return cmp.Or(cmp.Compare(a.Key.Workload, b.Key.Workload), slices.Compare(a.Key.Hash[:], b.Key.Hash[:]))
	})
	n := len(t.tokens)
	workloads, hashes, parameters, records, times := make([]int32, n), make([][]byte, n), make([][]byte, n), make([][]byte, n), make([]int64, n)
	for i := range t.tokens {
		k := &t.tokens[i]
		workloads[i], hashes[i], parameters[i], records[i], times[i] = int32(k.Key.Workload), k.Key.Hash[:], k.Parameters[:], k.Record[:], int64(k.At)
	}
	tag, err := t.conn.Exec(t.ctx, "INSERT INTO client_token (workload, hash, parameters, record, at) SELECT * FROM unnest($1::int4[], $2::bytea[], $3::bytea[], $4::bytea[], $5::int8[]) ON CONFLICT (workload, hash) DO UPDATE SET parameters = excluded.parameters, record = excluded.record, at = excluded.at WHERE client_token.at < "+strconv.FormatInt(int64(t.tokensFrom.Start()), 10),
		workloads, hashes, parameters, records, times)
	if err == nil && int(tag.RowsAffected()) != n {
		err = errAgain
	}
	return err
}

// callRows holds audit rows by column.
type callRows struct {
	seq, at                               []int64
	request, keys, detail                 [][]byte
	operation, region, refusal, usageRows []int16
	principal, accessKey, workload        []int32
	source, agent, session                []string
	client                                []int64
}

func (r *callRows) add(c *Call, keys []byte) {
	r.seq, r.at = append(r.seq, c.Seq), append(r.at, int64(c.At))
	r.request, r.keys = append(r.request, slices.Clone(c.Request[:])), append(r.keys, keys)
	r.detail = append(r.detail, slices.Clone(c.Detail))
	r.operation, r.region = append(r.operation, int16(c.Operation)), append(r.region, int16(c.Region))
	r.refusal, r.usageRows = append(r.refusal, int16(c.Refusal)), append(r.usageRows, int16(c.UsageRows))
	r.principal, r.accessKey, r.workload = append(r.principal, int32(c.Principal)), append(r.accessKey, int32(c.AccessKey)), append(r.workload, int32(c.Workload))
	r.client = append(r.client, c.Client)
	r.source, r.agent, r.session = append(r.source, toText(c.Source)), append(r.agent, toText(c.Agent)), append(r.session, toText(c.Session))
}

func (r *callRows) queue(b *pgx.Batch) {
	if len(r.seq) == 0 {
		return
	}
	b.Queue("INSERT INTO call (seq, at, request, operation, principal, access_key, workload, source, region, refusal, usage_rows, usage_keys, detail, client, agent, session) SELECT * FROM unnest($1::int8[], $2::int8[], $3::bytea[], $4::int2[], $5::int4[], $6::int4[], $7::int4[], $8::text[], $9::int2[], $10::int2[], $11::int2[], $12::bytea[], $13::bytea[], $14::int8[], $15::text[], $16::text[])",
		r.seq, r.at, r.request, r.operation, r.principal, r.accessKey, r.workload, r.source, r.region, r.refusal, r.usageRows, r.keys, r.detail, r.client, r.agent, r.session)
}
