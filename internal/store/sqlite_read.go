package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/meterd/meterd/internal/metering"
	"github.com/ncruces/go-sqlite3"
)

// sqliteReader reads one state of the embedded store, or what a transaction sees.
type sqliteReader struct {
	c    *sqlite3.Conn
	made int64 // the last step of the tables that was made, while steps are being made; 0 for all steps
}

func (r *sqliteReader) query(sql string, row func(columns) error, args ...any) error {
	return query(r.c, sql, func(s *sqlite3.Stmt) error { return row(s) }, args...)
}

const usageColumns = "SELECT at, product, buyer, holder, dimension_region_form, quantity, seq, client_token, allocations FROM usage "

func scanUsage(s *sqlite3.Stmt, u *Usage) {
	*u = Usage{Seq: s.ColumnInt64(6)}
	scanNumbers(s, u)
	if s.ColumnType(7) != sqlite3.NULL {
		u.ClientToken = s.ColumnText(7)
	}
	if s.ColumnType(8) != sqlite3.NULL {
		u.Allocations = s.ColumnBlob(8, nil)
	}
}

// scanNumbers reads at, product, buyer, holder, dimension_region_form and quantity.
func scanNumbers(s *sqlite3.Stmt, u *Usage) {
	u.Timestamp = metering.Instant(s.ColumnInt64(0))
	u.Hour = u.Timestamp.Hour()
	u.Key = metering.Key{Product: uint32(s.ColumnInt64(1)), Buyer: uint32(s.ColumnInt64(2))}
	if holder := s.ColumnInt64(3); holder > 0 {
		u.Key.Agreement = uint32(holder)
	} else {
		u.Key.Workload = uint32(-holder)
	}
	packed := s.ColumnInt64(4)
	u.Key.Dimension, u.Key.Region, u.Form = uint16(packed>>16), metering.Region(packed>>8), metering.Form(packed)
	u.Quantity = int32(s.ColumnInt64(5))
}

func (r *sqliteReader) Usage(row func(*Usage) error) error {
	return r.usage("", row)
}

func (r *sqliteReader) usage(where string, row func(*Usage) error, args ...any) error {
	var u Usage
	return query(r.c, usageColumns+where+" ORDER BY seq", func(s *sqlite3.Stmt) error {
		scanUsage(s, &u)
		return row(&u)
	}, args...)
}

func (r *sqliteReader) UsageOfCall(c *Call, row func(*Usage) error) error {
	return r.usage("WHERE seq BETWEEN $1 AND $2", row, UsageSeq(c.Seq, 0), UsageSeq(c.Seq+1, 0)-1)
}

func (r *sqliteReader) Hours(row func(metering.Hour) error) error {
	return query(r.c, "SELECT at FROM usage ORDER BY seq", func(s *sqlite3.Stmt) error {
		return row(metering.Instant(s.ColumnInt64(0)).Hour())
	})
}

func (r *sqliteReader) ClientTokenUsage(row func(workload uint32, clientToken string, seq int64) error) error {
	return r.query("SELECT -holder AS workload, client_token, seq FROM usage WHERE client_token <> '' ORDER BY workload, client_token, seq", func(c columns) error {
		return row(uint32(c.ColumnInt64(0)), c.ColumnText(1), c.ColumnInt64(2))
	})
}

// scannedRows is how many rows a scan hands on at once.
const scannedRows = 512

// rows reads what the index keeps of each row of usage that has no ClientToken and that from, the rest of a statement,
// chooses. take may keep the slices that it gets.
func (r *sqliteReader) rows(from string, take func([]keyRow) error, args ...any) error {
	var u Usage
	var some []keyRow
	err := query(r.c, "SELECT at, product, buyer, holder, dimension_region_form, quantity FROM "+from+" AND client_token IS NULL", func(s *sqlite3.Stmt) error {
		scanNumbers(s, &u)
		if some = append(some, keyRow{u.Hour, pack(&u.Key), u.Quantity}); len(some) < scannedRows {
			return nil
		}
		full := some
		some = make([]keyRow, 0, scannedRows)
		return take(full)
	}, args...)
	if err == nil && len(some) > 0 {
		err = take(some)
	}
	return err
}

// scan reads the rows of usage from a Seq on, as rows does, over as many connections as there are processors, each
// reading a part. take is called by one goroutine at a time.
func (db *sqliteStore) scan(from int64, take func([]keyRow) error) error {
	var last int64
	err := db.View(context.Background(), func(r *Reader) (err error) {
		last, err = r.number("SELECT coalesce(max(seq), 0) FROM usage")
		return err
	})
	if err != nil || last < from {
		return err
	}
	each := (last-from)/int64(min(runtime.GOMAXPROCS(0), maxReaders)) + 1
	found, ended, stop := make(chan []keyRow), make(chan error), make(chan struct{})
	reading := 0
	for first := from; first <= last; first += each {
		reading++
		go func() {
			ended <- db.View(context.Background(), func(r *Reader) error {
				return r.reader.(*sqliteReader).rows("usage WHERE seq BETWEEN $1 AND $2", func(rows []keyRow) error {
					select {
					case found <- rows:
						return nil
					case <-stop:
						return ErrEnough
					}
				}, first, first+each-1)
			})
		}()
	}
	for reading > 0 && err == nil {
		select {
		case rows := <-found:
			err = take(rows)
		case err = <-ended:
			reading--
		}
	}
	close(stop)
	for ; reading > 0; reading-- {
		<-ended
	}
	return err
}

// marks calls row for each hour that has usage, with the Seq of its first row.
func (r *sqliteReader) marks(row func(h metering.Hour, firstSeq int64) error) error {
	return query(r.c, "SELECT hour, first_seq FROM hour ORDER BY hour", func(s *sqlite3.Stmt) error {
		return row(metering.Hour(s.ColumnInt64(0)), s.ColumnInt64(1))
	})
}

// scanRows is how many places of usage one transaction of a scan covers; a variable only for tests.
var scanRows int64 = 1 << 23

// Cursor returns the row's Seq.
func (db *sqliteStore) Cursor(u *Usage) string { return strconv.FormatInt(u.Seq, 10) }

// FindUsage reads in short transactions, because a long one would keep the write-ahead log from being reused. It sees
// one state all the same, because rows are only ever appended. No row of an hour stands before the hour's mark, so the
// marks say where the scan can begin.
func (db *sqliteStore) FindUsage(ctx context.Context, f *UsageFilter, after string, row func(*Usage) error) error {
	first := int64(0)
	if after != "" {
		n, err := strconv.ParseInt(after, 10, 64)
		if err != nil || n < 0 {
			return ErrCursor
		}
		first = n + 1
	}
	var last, marked int64
	err := db.View(ctx, func(r *Reader) (err error) {
		if last, err = r.number("SELECT coalesce(max(seq), 0) FROM usage"); err != nil {
			return err
		}
		marked = last + 1
		return r.reader.(*sqliteReader).marks(func(h metering.Hour, firstSeq int64) error {
			if f.FirstHour <= h && h <= f.LastHour {
				marked = min(marked, firstSeq)
			}
			return nil
		})
	})
	where, args := f.where()
	row = until(ctx, row)
	for first = max(first, marked); err == nil && first <= last; first += scanRows {
		err = db.View(ctx, func(r *Reader) (err error) {
			// Rows that were copied from PostgreSQL stand far apart, because each of its writers has its own range of Seqs.
			if first, err = r.number("SELECT coalesce(min(seq), $1) FROM usage WHERE seq >= $2", last+1, first); err != nil {
				return err
			}
			return r.reader.(*sqliteReader).usage("WHERE seq BETWEEN $1 AND $2"+where, row, append([]any{first, min(first+scanRows-1, last)}, args...)...)
		})
	}
	if errors.Is(err, ErrEnough) {
		return nil
	}
	return err
}

// where returns the filter's conditions, with parameters that are numbered from $3 on.
func (f *UsageFilter) where() (sql string, args []any) {
	if f.FirstHour > math.MinInt32 || f.LastHour < math.MaxInt32 {
		sql, args = " AND at BETWEEN $3 AND $4", []any{int64(f.FirstHour.Start()), int64(f.LastHour.Start()) + int64(time.Hour/time.Millisecond) - 1}
	}
	for _, c := range []struct {
		sql   string
		value int64
	}{
		{" AND dimension_region_form >> 8 & 255 = $", int64(f.Region)}, {" AND product = $", int64(f.Product)}, {" AND buyer = $", int64(f.Buyer)}, {" AND holder = $", int64(f.Agreement)},
		{" AND at >= $", int64(f.From)}, {" AND at < $", int64(f.To)},
	} {
		if c.value != 0 {
			args = append(args, c.value)
			sql += c.sql + strconv.Itoa(len(args)+2)
		}
	}
	return sql, args
}

// Calls steps through both tables side by side.
func (r *sqliteReader) Calls(row func(c *Call, stored uint32) error, orphan func(seq int64) error) error {
	usage, _, err := r.c.Prepare("SELECT seq FROM usage ORDER BY seq")
	if err != nil {
		return explain(err)
	}
	defer usage.Close()
	more := usage.Step()
	orphans := func(before int64) error {
		for ; more && usage.ColumnInt64(0) < before; more = usage.Step() {
			if err := orphan(usage.ColumnInt64(0)); err != nil {
				return err
			}
		}
		return nil
	}
	err = query(r.c, (&Reader{r}).callColumns()+"ORDER BY seq", func(s *sqlite3.Stmt) error {
		var c Call
		scanCall(s, &c)
		if err := orphans(UsageSeq(c.Seq, 0)); err != nil {
			return err
		}
		stored := uint32(0)
		for ; more; more = usage.Step() {
			call, record := CallOfUsage(usage.ColumnInt64(0))
			if call != c.Seq {
				break
			}
			stored |= 1 << record
		}
		return row(&c, stored)
	})
	if err == nil {
		err = orphans(math.MaxInt64)
	}
	return errors.Join(err, explain(usage.Err()))
}

// CallOfRequest looks near the place that belongs to the time in the id. It finds the place by binary search, because
// rows are nearly in the order of these times unless the clock was set. If the row is not near, it searches all rows.
func (r *sqliteReader) CallOfRequest(id [16]byte) (*Call, error) {
	var last int64
	err := query(r.c, "SELECT coalesce(max(seq), 0) FROM call", func(s *sqlite3.Stmt) error {
		last = s.ColumnInt64(0)
		return nil
	})
	if err != nil || last == 0 {
		return nil, err
	}
	at := idMillis(id[:])
	first, err := r.firstCallFrom(at-requestSlack, last)
	if err != nil {
		return nil, err
	}
	after, err := r.firstCallFrom(at+requestSlack, last)
	if err != nil {
		return nil, err
	}
	const most = 1 << 18 // most rows to look at near the place, should times be in no order
	const between = "WHERE seq BETWEEN $1 AND $2 AND request = $3 LIMIT 1"
	call, err := (&Reader{r}).findCall(between, first, min(after, first+most), id[:])
	if call == nil && err == nil {
		call, err = (&Reader{r}).findCall(between, 1, last, id[:])
	}
	return call, err
}

// firstCallFrom returns the place of a row whose request id is of the time millis or later, while the id of the row
// before is earlier.
func (r *sqliteReader) firstCallFrom(millis, last int64) (int64, error) {
	s, _, err := r.c.Prepare("SELECT request FROM call WHERE seq >= ? ORDER BY seq LIMIT 1")
	if err != nil {
		return 0, err
	}
	defer s.Close()
	return halve(1, last+1, func(seq int64) (bool, error) {
		if err := bind(s, seq); err != nil {
			return false, err
		}
		earlier := s.Step() && idMillis(s.ColumnRawBlob(0)) < millis
		return earlier, s.Reset()
	})
}

// Check makes SQLite check every page and index, and itself checks numbers and the marks of hours.
func (r *sqliteReader) Check(problem func(format string, args ...any)) error {
	err := query(r.c, "PRAGMA integrity_check(1)", func(s *sqlite3.Stmt) error {
		if text := s.ColumnText(0); text != "ok" {
			problem("database is damaged: %s", text)
		}
		return nil
	})
	if err != nil {
		problem("%v", err)
	}
	if err := r.checkNumbers(problem); err != nil {
		return err
	}
	return r.checkMarks(problem)
}

// checkMarks compares the mark of each hour with the places of the hour's rows.
func (r *sqliteReader) checkMarks(problem func(format string, args ...any)) error {
	firsts := map[metering.Hour]int64{}
	err := query(r.c, "SELECT at, seq FROM usage ORDER BY seq", func(s *sqlite3.Stmt) error {
		if h := metering.Instant(s.ColumnInt64(0)).Hour(); firsts[h] == 0 {
			firsts[h] = s.ColumnInt64(1)
		}
		return nil
	})
	if err != nil {
		return err
	}
	marked := map[metering.Hour]bool{}
	err = r.marks(func(h metering.Hour, firstSeq int64) error {
		marked[h] = true
		if first, ok := firsts[h]; !ok {
			problem("hour %v is marked at usage row %d but has none", h, firstSeq)
		} else if first != firstSeq {
			problem("hour %v is marked at usage row %d, but its first one is %d", h, firstSeq, first)
		}
		return nil
	})
	for h, first := range firsts {
		if !marked[h] {
			problem("hour %v has no mark; its first usage row is %d", h, first)
		}
	}
	return err
}

// checkNumbers finds numbers outside the range of their columns, which would be cut off in reading.
func (r *sqliteReader) checkNumbers(problem func(format string, args ...any)) error {
	type column struct {
		name, sql         string // sql is the name if it is empty
		smallest, largest int64
	}
	for _, t := range []struct {
		name    string
		columns []column
	}{
		{"usage", []column{{"seq", "", 1, math.MaxInt64}, {"at", "", 1, int64(metering.Hour(math.MaxInt32).Start())}, {"product", "", 1, math.MaxUint32},
			{"buyer", "", 1, math.MaxUint32}, {"holder", "", -math.MaxUint32, math.MaxUint32}, {"dimension", "dimension_region_form >> 16", 1, math.MaxUint16},
			{"region", "dimension_region_form >> 8 & 255", 1, math.MaxUint8}, {"form", "dimension_region_form & 255", int64(metering.ByCustomerIdentifier), int64(metering.ByWorkload)},
			{"quantity", "", 0, math.MaxInt32}}},
		{"call", []column{{"seq", "", 1, math.MaxInt64}, {"length(request)", "", 16, 16}, {"operation", "", 1, math.MaxUint8}, {"principal", "", 0, math.MaxUint32},
			{"access_key", "", 0, math.MaxUint32}, {"workload", "", 0, math.MaxUint32}, {"client", "", 0, math.MaxInt64}, {"region", "", 0, math.MaxUint8},
			{"refusal", "", NoRefusal, int64(len(metering.Kinds()) - 1)}, {"usage_rows", "", 0, metering.MaxUsageRecords}}},
	} {
		var names, fits []string
		for _, c := range t.columns {
			sql := cmp.Or(c.sql, c.name)
			names = append(names, sql)
			fits = append(fits, fmt.Sprintf("%s BETWEEN %d AND %d", sql, c.smallest, c.largest))
		}
		err := query(r.c, "SELECT "+strings.Join(names, ", ")+" FROM "+t.name+" WHERE NOT ("+strings.Join(fits, " AND ")+") ORDER BY seq", func(s *sqlite3.Stmt) error {
			for i, c := range t.columns {
				if v := s.ColumnInt64(i); v < c.smallest || v > c.largest {
					problem("%s row %d: %s is %d; it must be %d to %d", t.name, s.ColumnInt64(0), c.name, v, c.smallest, c.largest)
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
