package store

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/meterd/meterd/internal/metering"
)

// postgresReader reads one state of the database, in a transaction with repeatable reads.
type postgresReader struct {
	ctx      context.Context
	tx       pgx.Tx
	patience time.Duration // for one statement; 0 for no bound
	made     int64         // the last step of the tables that was made, where they are read as they are; 0 for all steps
}

// lacks reports whether a step of the tables has not been made.
func (r *postgresReader) lacks(step int64) bool { return r.made != 0 && r.made < step }

// View runs f again when the connection was lost before f had read anything.
func (db *postgresStore) View(ctx context.Context, f func(*Reader) error) error {
	for try := 0; ; try++ {
		r := &postgresReader{patience: readPatience}
		read, err := db.view(ctx, r, f)
		switch {
		case err != nil && ctx.Err() != nil:
			return ctx.Err()
		case err == nil || read || try == 3 || !passing(err):
			return err
		}
	}
}

func (db *postgresStore) view(of context.Context, r *postgresReader, f func(*Reader) error) (began bool, err error) {
	reading, end := context.WithCancel(of)
	defer end()
	defer context.AfterFunc(db.ctx, end)()
	ctx, cancel := context.WithTimeout(reading, readPatience)
	defer cancel()
	conn, err := db.pool.Acquire(ctx)
	if err != nil {
		return false, err
	}
	defer conn.Release()
	if r.tx, err = conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}); err != nil {
		return false, err
	}
	r.ctx = reading
	err = f(&Reader{r})
	ending, stop := context.WithTimeout(context.Background(), time.Second)
	defer stop()
	if bad := r.tx.Rollback(ending); err == nil {
		err = bad
	}
	return true, err
}

// readPostgres runs f on a connection of its own, which may be to a standby, for as long as f takes.
func readPostgres(url string, f func(*Reader, Meta) error) error {
	return onePostgres(url, func(ctx context.Context, conn *pgx.Conn) error {
		meta, err := readPostgresMeta(ctx, conn)
		if errors.Is(err, ErrNotExist) {
			return fmt.Errorf("%w in %s", err, Redacted(url))
		}
		if err != nil {
			return err
		}
		tx, err := conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
		if err != nil {
			return err
		}
		r := &postgresReader{ctx: ctx, tx: tx}
		if r.made, err = (&Reader{r}).schema(); err == nil {
			err = f(&Reader{r}, meta)
		}
		return errors.Join(err, tx.Rollback(ctx))
	})
}

// statement returns the context for one statement.
func (r *postgresReader) statement() (context.Context, context.CancelFunc) {
	if r.patience == 0 {
		return r.ctx, func() {}
	}
	return context.WithTimeout(r.ctx, r.patience)
}

func (r *postgresReader) query(sql string, row func(columns) error, args ...any) error {
	ctx, cancel := r.statement()
	defer cancel()
	rows, err := r.tx.Query(ctx, sql, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		values, err := rows.Values()
		if err != nil {
			return err
		}
		if err := row(&postgresRow{rows, values}); err != nil {
			return err
		}
	}
	return rows.Err()
}

// postgresRow is a row as [columns], for code that reads either store.
type postgresRow struct {
	rows   pgx.Rows
	values []any
}

func (r *postgresRow) ColumnName(i int) string { return r.rows.FieldDescriptions()[i].Name }

func (r *postgresRow) ColumnInt64(i int) int64 {
	switch v := r.values[i].(type) {
	case int64:
		return v
	case int32:
		return int64(v)
	case int16:
		return int64(v)
	}
	return 0
}

func (r *postgresRow) ColumnBool(i int) bool {
	v, _ := r.values[i].(bool)
	return v
}

func (r *postgresRow) ColumnText(i int) string {
	v, _ := r.values[i].(string)
	return fromText(v)
}

func (r *postgresRow) ColumnRawBlob(i int) []byte {
	v, _ := r.values[i].([]byte)
	return v
}

const postgresUsage = "SELECT u.seq, u.hour, u.millis, u.meter, u.product, u.buyer, u.agreement, u.workload, u.quantity, u.form, u.client_token, u.allocations, u.subject FROM usage u "

// usage calls row for each row of the statement that begins with postgresUsage and goes on with where. subject is the
// one that is stored with the row.
func (r *postgresReader) usage(where string, row func(u *Usage, subject int64) error, args ...any) error {
	ctx, cancel := r.statement()
	defer cancel()
	rows, err := r.tx.Query(ctx, postgresUsage+where, args...)
	if err != nil {
		return err
	}
	var u Usage
	var seq, subject int64
	var hour, millis, meter, product, buyer, agreement, workload, quantity int32
	var form int16
	var token string
	var allocations []byte
	_, err = pgx.ForEachRow(rows, []any{&seq, &hour, &millis, &meter, &product, &buyer, &agreement, &workload, &quantity, &form, &token, &allocations, &subject}, func() error {
		u = Usage{Seq: seq, Hour: metering.Hour(hour), Quantity: quantity, Form: metering.Form(form), ClientToken: fromText(token),
			Key: metering.Key{Region: metering.Region(meter & 0xff), Dimension: uint16(meter >> 8), Product: uint32(product), Buyer: uint32(buyer), Agreement: uint32(agreement), Workload: uint32(workload)}}
		u.Timestamp = u.Hour.Start() + metering.Instant(millis)
		if len(allocations) > 0 {
			u.Allocations = append([]byte{}, allocations...)
		}
		return row(&u, subject)
	})
	return err
}

func (r *postgresReader) Usage(row func(*Usage) error) error {
	return r.usage("ORDER BY u.hour", func(u *Usage, _ int64) error { return row(u) })
}

func (r *postgresReader) Hours(row func(metering.Hour) error) error {
	return r.query("SELECT hour, count(*) FROM usage GROUP BY hour ORDER BY hour", func(c columns) error {
		for range c.ColumnInt64(1) {
			if err := row(metering.Hour(c.ColumnInt64(0))); err != nil {
				return err
			}
		}
		return nil
	})
}

func (r *postgresReader) ClientTokenUsage(row func(workload uint32, clientToken string, seq int64) error) error {
	return r.query("SELECT workload, client_token, seq FROM usage WHERE client_token <> '' ORDER BY workload, client_token, seq", func(c columns) error {
		return row(uint32(c.ColumnInt64(0)), c.ColumnText(1), c.ColumnInt64(2))
	})
}

func (r *postgresReader) UsageOfCall(c *Call, row func(*Usage) error) error {
	var list []byte
	err := r.query("SELECT usage_keys FROM call WHERE seq = $1", func(c columns) error {
		list = append(list, c.ColumnRawBlob(0)...)
		return nil
	}, c.Seq)
	if err != nil {
		return err
	}
	keys, err := parseKeys(list)
	if err != nil || len(keys) == 0 {
		return err
	}
	var hours, meters []int32
	var subjects []int64
	for _, k := range keys {
		hours, subjects, meters = append(hours, k.hour), append(subjects, k.subject), append(meters, k.meter)
	}
	return r.usage("JOIN unnest($1::int4[], $2::int8[], $3::int4[]) AS k (hour, subject, meter) ON u.hour = k.hour AND u.subject = k.subject AND u.meter = k.meter WHERE u.hour = ANY ($1) AND u.seq BETWEEN $4 AND $5 ORDER BY u.seq",
		func(u *Usage, _ int64) error { return row(u) }, hours, subjects, meters, UsageSeq(c.Seq, 0), UsageSeq(c.Seq+1, 0)-1)
}

// pageRows is how many rows one statement of a scan reads; a variable only for tests.
var pageRows = 1 << 14

// Cursor returns the row's primary key.
func (db *postgresStore) Cursor(u *Usage) string {
	k := primaryKeyOf(u)
	return fmt.Sprintf("%d.%d.%d", k.hour, k.subject, k.meter)
}

func parseCursor(s string) (k primaryKey, err error) {
	parts := strings.Split(s, ".")
	if len(parts) != 3 {
		return k, ErrCursor
	}
	hour, err1 := strconv.ParseInt(parts[0], 10, 32)
	subject, err2 := strconv.ParseInt(parts[1], 10, 64)
	meter, err3 := strconv.ParseInt(parts[2], 10, 32)
	if errors.Join(err1, err2, err3) != nil {
		return k, ErrCursor
	}
	return primaryKey{int32(hour), subject, int32(meter)}, nil
}

// FindUsage reads page by page, in the order of the primary key.
func (db *postgresStore) FindUsage(ctx context.Context, f *UsageFilter, after string, row func(*Usage) error) error {
	last := primaryKey{math.MinInt32, math.MinInt64, math.MinInt32}
	if after != "" {
		var err error
		if last, err = parseCursor(after); err != nil {
			return err
		}
	}
	where, args := f.postgresWhere()
	row = until(ctx, row)
	for {
		n := 0
		err := db.View(ctx, func(r *Reader) error {
			args := append([]any{last.hour, last.subject, last.meter}, args...)
			return r.reader.(*postgresReader).usage(where+" ORDER BY u.hour, u.subject, u.meter LIMIT "+strconv.Itoa(pageRows), func(u *Usage, subject int64) error {
				n++
				last = primaryKey{int32(u.Hour), subject, meterOf(&u.Key)}
				return row(u)
			}, args...)
		})
		if errors.Is(err, ErrEnough) {
			return nil
		}
		if err != nil || n < pageRows {
			return err
		}
	}
}

// postgresWhere returns the condition for the filter's rows whose primary key is greater than $1 to $3.
func (f *UsageFilter) postgresWhere() (sql string, args []any) {
	sql = "WHERE (u.hour, u.subject, u.meter) > ($1, $2, $3)"
	for _, c := range []struct {
		sql   string
		value int64
		given bool
	}{
		{"u.hour >= $", int64(f.FirstHour), f.FirstHour > math.MinInt32}, {"u.hour <= $", int64(f.LastHour), f.LastHour < math.MaxInt32},
		{"u.meter & 255 = $", int64(f.Region), f.Region != 0}, {"u.product = $", int64(f.Product), f.Product != 0},
		{"u.buyer = $", int64(f.Buyer), f.Buyer != 0}, {"u.agreement = $", int64(f.Agreement), f.Agreement != 0},
		{"u.hour * 3600000::bigint + u.millis >= $", int64(f.From), f.From != 0}, {"u.hour * 3600000::bigint + u.millis < $", int64(f.To), f.To != 0},
	} {
		if c.given {
			args = append(args, c.value)
			sql += " AND " + c.sql + strconv.Itoa(len(args)+3)
		}
	}
	return sql, args
}

// cursor reads the rows of a statement bit by bit, beside another statement on the same connection.
type cursor struct {
	r     *postgresReader
	name  string
	calls []Call  // read ahead by a cursor over calls
	seqs  []int64 // read ahead by a cursor over usage rows
	done  bool
}

const fetchRows = 5000

func (r *postgresReader) declare(name, sql string) (*cursor, error) {
	_, err := r.tx.Exec(r.ctx, "DECLARE "+name+" NO SCROLL CURSOR FOR "+sql)
	return &cursor{r: r, name: name}, err
}

// fetch reads the next rows and calls row with each.
func (c *cursor) fetch(row func(columns)) error {
	n := 0
	err := c.r.query(fmt.Sprintf("FETCH %d FROM %s", fetchRows, c.name), func(s columns) error {
		n++
		row(s)
		return nil
	})
	c.done = n < fetchRows
	return err
}

// usageSeq returns the Seq of the next usage row. ok is false at the end.
func (c *cursor) usageSeq() (seq int64, ok bool, err error) {
	if len(c.seqs) == 0 && !c.done {
		err = c.fetch(func(s columns) { c.seqs = append(c.seqs, s.ColumnInt64(0)) })
	}
	if err != nil || len(c.seqs) == 0 {
		return 0, false, err
	}
	return c.seqs[0], true, nil
}

// Calls merges the tables of calls and usage with two cursors.
func (r *postgresReader) Calls(row func(c *Call, stored uint32) error, orphan func(seq int64) error) error {
	calls, err := r.declare("calls", (&Reader{r}).callColumns()+"ORDER BY seq")
	if err != nil {
		return err
	}
	usage, err := r.declare("usages", "SELECT seq FROM usage ORDER BY seq")
	if err != nil {
		return err
	}
	// take reads the usage rows up to those of the call upTo. Rows of that call are returned as bits, others are orphans.
	take := func(upTo int64) (stored uint32, err error) {
		for {
			seq, ok, err := usage.usageSeq()
			call, record := CallOfUsage(seq)
			if err != nil || !ok || call > upTo {
				return stored, err
			}
			usage.seqs = usage.seqs[1:]
			if call == upTo {
				stored |= 1 << record
			} else if err := orphan(seq); err != nil {
				return stored, err
			}
		}
	}
	for !calls.done {
		calls.calls = calls.calls[:0]
		err := calls.fetch(func(s columns) {
			var c Call
			scanCall(s, &c)
			calls.calls = append(calls.calls, c)
		})
		if err != nil {
			return err
		}
		for i := range calls.calls {
			c := &calls.calls[i]
			stored, err := take(c.Seq)
			if err != nil {
				return err
			}
			if err := row(c, stored); err != nil {
				return err
			}
		}
	}
	stored, err := take(math.MaxInt64 >> usageBits)
	if err == nil && stored != 0 {
		err = orphan(math.MaxInt64)
	}
	return err
}

// CallOfRequest looks first among the calls of the writers that were running at the time in the id, near the place that
// belongs to that time, and then among all calls.
func (r *postgresReader) CallOfRequest(id [16]byte) (*Call, error) {
	at := idMillis(id[:])
	var writers []int64
	err := r.query("SELECT id FROM writer WHERE started <= $1 AND at >= $2 ORDER BY id", func(c columns) error {
		writers = append(writers, c.ColumnInt64(0))
		return nil
	}, at+requestSlack, at-requestSlack)
	if err != nil {
		return nil, err
	}
	for _, w := range writers {
		call, err := r.callOfWriter(id, w, at)
		if call != nil || err != nil {
			return call, err
		}
	}
	return (&Reader{r}).findCall("WHERE request = $1 LIMIT 1", id[:])
}

func (r *postgresReader) callOfWriter(id [16]byte, writer, at int64) (*Call, error) {
	reader := Reader{r}
	base := writer << callBits
	last, err := reader.number("SELECT coalesce(max(seq), 0) FROM call WHERE seq BETWEEN $1 AND $2", base+1, base+1<<callBits-1)
	if err != nil || last == 0 {
		return nil, err
	}
	from := func(millis int64) (int64, error) {
		return halve(base+1, last+1, func(seq int64) (earlier bool, err error) {
			err = r.query("SELECT request FROM call WHERE seq = $1", func(c columns) error {
				earlier = idMillis(c.ColumnRawBlob(0)) < millis
				return nil
			}, seq)
			return earlier, err
		})
	}
	first, err := from(at - requestSlack)
	if err != nil {
		return nil, err
	}
	after, err := from(at + requestSlack)
	if err != nil {
		return nil, err
	}
	return (&Reader{r}).findCall("WHERE seq BETWEEN $1 AND $2 AND request = $3 LIMIT 1", first, after, id[:])
}

// Check looks for keys that are stored twice without trusting the index that forbids it, and for rows that are not
// stored under their own key.
func (r *postgresReader) Check(problem func(format string, args ...any)) error {
	if _, err := r.tx.Exec(r.ctx, "SELECT set_config(name, 'off', true) FROM pg_settings WHERE name IN ('enable_indexscan', 'enable_indexonlyscan', 'enable_bitmapscan')"); err != nil {
		return err
	}
	err := r.query("SELECT hour, subject, meter, count(*) FROM usage GROUP BY hour, subject, meter HAVING count(*) > 1", func(c columns) error {
		problem("usage has %d rows with the key hour %v, subject %d, meter %d: its unique index is damaged", c.ColumnInt64(3), metering.Hour(c.ColumnInt64(0)), c.ColumnInt64(1), c.ColumnInt64(2))
		return nil
	})
	if err != nil {
		return err
	}
	err = r.usage("ORDER BY u.hour", func(u *Usage, subject int64) error {
		if want := subjectOf(&u.Key, u.ClientToken); subject != want {
			problem("usage row %d: its subject is %d, but its columns make %d", u.Seq, subject, want)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, c := range []struct{ table, column, least, most string }{
		{"usage", "millis", "0", "3599999"}, {"usage", "quantity", "0", "2147483647"}, {"usage", "form", "1", "4"},
		{"usage", "product", "1", "536870911"}, {"usage", "buyer", "1", "2147483647"}, {"usage", "agreement", "0", "2147483647"}, {"usage", "workload", "0", "2147483647"},
		{"call", "length(request)", "16", "16"}, {"call", "operation", "1", "255"}, {"call", "refusal", "-1", strconv.Itoa(len(metering.Kinds()) - 1)},
		{"call", "usage_rows", "0", strconv.Itoa(metering.MaxUsageRecords)},
	} {
		err := r.query("SELECT seq, "+c.column+" FROM "+c.table+" WHERE NOT ("+c.column+" BETWEEN "+c.least+" AND "+c.most+") ORDER BY seq", func(s columns) error {
			problem("%s row %d: %s is %d; it must be %s to %s", c.table, s.ColumnInt64(0), c.column, s.ColumnInt64(1), c.least, c.most)
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
