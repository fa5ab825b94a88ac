package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/meterd/meterd/internal/metering"
	"github.com/ncruces/go-sqlite3"
)

// Usage is an accepted usage record as it is stored.
type Usage struct {
	Seq         int64 // its place in the ledger; 1 and up without gaps
	Key         metering.Key
	Hour        metering.Hour
	Timestamp   metering.Instant // as sent; lies in Hour
	Quantity    int32
	Form        metering.Form
	ClientToken string // AgentCore only
	Allocations []byte // in the form of [metering.AppendAllocations]; nil for none
}

// NoRefusal stands in Call.Refusal for a call that succeeded.
const NoRefusal = -1

// Call is the audit row of an authenticated call or an act of administration.
type Call struct {
	Seq        int64
	At         metering.Instant // ledger clock
	Request    [16]byte
	Operation  uint8 // metering.Operation, or one of the ledger's own from 16 up
	Principal  uint32
	AccessKey  uint32
	Workload   uint32
	Source     string
	Region     metering.Region
	Refusal    int   // metering.Kind, or NoRefusal
	FirstUsage int64 // Seq of the first usage row that the call wrote
	UsageRows  int
	Detail     []byte
}

// ClientToken is a remembered ClientToken.
type ClientToken struct {
	Key        metering.TokenKey
	Parameters [16]byte
	Record     metering.RecordID
	At         metering.Instant
}

// Tx is a transaction. Its statements are prepared once; it is only valid inside [DB.Update] or [Create].
type Tx struct {
	c                       *sqlite3.Conn
	begin, commit, rollback *sqlite3.Stmt
	usage, call, hour       *sqlite3.Stmt
	usages                  *sqlite3.Stmt // usageRows rows without token and allocations at once
	token, registration     *sqlite3.Stmt
	waiting                 []Usage                  // rows for usages
	statements              map[string]*sqlite3.Stmt // of the catalogue, by their text
}

func (tx *Tx) prepare(c *sqlite3.Conn) error {
	tx.c = c
	tx.statements = map[string]*sqlite3.Stmt{}
	for _, p := range []struct {
		stmt **sqlite3.Stmt
		sql  string
	}{
		{&tx.begin, "BEGIN IMMEDIATE"},
		{&tx.commit, "COMMIT"},
		{&tx.rollback, "ROLLBACK"},
		{&tx.usage, insertUsage + "(?,?,?,?,?,?,?,?,?,?,?,?,?)"},
		{&tx.usages, insertUsage + strings.Repeat("(?,?,?,?,?,?,?,?,?,?,?,NULL,NULL),", usageRows-1) + "(?,?,?,?,?,?,?,?,?,?,?,NULL,NULL)"},
		{&tx.call, "INSERT INTO call (seq, at, request, operation, principal, access_key, workload, source, region, refusal, first_usage, usage_rows, detail) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)"},
		{&tx.hour, "INSERT INTO hour (hour, first_seq) VALUES (?,?)"},
		{&tx.token, "INSERT INTO client_token (workload, hash, parameters, record, at) VALUES (?,?,?,?,?) ON CONFLICT (workload, hash) DO UPDATE SET parameters = excluded.parameters, record = excluded.record, at = excluded.at"},
		{&tx.registration, "INSERT INTO registration (workload, product, operation, first_call, last_call) VALUES (?,?,?,?,?) ON CONFLICT (workload, product, operation) DO UPDATE SET last_call = excluded.last_call"},
	} {
		s, _, err := c.PrepareFlags(p.sql, sqlite3.PREPARE_PERSISTENT)
		if err != nil {
			return err
		}
		*p.stmt = s
	}
	return nil
}

// usageRows is how many usage rows one statement writes: a third faster than one by one, more gain nothing.
const usageRows = 25

const insertUsage = "INSERT INTO usage (seq, hour, millis, region, product, buyer, agreement, workload, dimension, quantity, form, client_token, allocations) VALUES "

// Reader reads what the transaction sees, its own writes included. It is valid as long as the transaction.
func (tx *Tx) Reader() (*Reader, error) { return &Reader{tx.c}, tx.flush() }

// AppendUsage appends a row; its Seq must be one more than the last row's. The row is written with the next ones,
// at the latest before the transaction commits.
func (tx *Tx) AppendUsage(u *Usage) error {
	if u.ClientToken == "" && u.Allocations == nil {
		if tx.waiting = append(tx.waiting, *u); len(tx.waiting) < usageRows {
			return nil
		}
		for i := range tx.waiting {
			if err := bindUsage(tx.usages, i*11, &tx.waiting[i]); err != nil {
				return err
			}
		}
		tx.waiting = tx.waiting[:0]
		return tx.usages.Exec()
	}
	if err := tx.flush(); err != nil {
		return err
	}
	return tx.insertUsage(u)
}

// flush writes the rows that wait for others.
func (tx *Tx) flush() error {
	for i := range tx.waiting {
		if err := tx.insertUsage(&tx.waiting[i]); err != nil {
			return err
		}
	}
	tx.waiting = tx.waiting[:0]
	return nil
}

func (tx *Tx) insertUsage(u *Usage) error {
	err := bindUsage(tx.usage, 0, u)
	if u.ClientToken != "" {
		err = errors.Join(err, tx.usage.BindText(12, u.ClientToken))
	} else {
		err = errors.Join(err, tx.usage.BindNull(12))
	}
	return errors.Join(err, tx.usage.BindBlob(13, u.Allocations), tx.usage.Exec())
}

// bindUsage binds a row's eleven numbers behind the first parameters.
func bindUsage(s *sqlite3.Stmt, first int, u *Usage) error {
	k := &u.Key
	for i, v := range [11]int64{u.Seq, int64(u.Hour), int64(u.Timestamp - u.Hour.Start()), int64(k.Region), int64(k.Product), int64(k.Buyer),
		int64(k.Agreement), int64(k.Workload), int64(k.Dimension), int64(u.Quantity), int64(u.Form)} {
		if err := s.BindInt64(first+i+1, v); err != nil {
			return err
		}
	}
	return nil
}

// AppendCall appends an audit row; its Seq must be one more than the last row's.
func (tx *Tx) AppendCall(c *Call) error {
	s := tx.call
	for i, v := range [...]int64{1: c.Seq, 2: int64(c.At), 4: int64(c.Operation), 5: int64(c.Principal), 6: int64(c.AccessKey), 7: int64(c.Workload),
		9: int64(c.Region), 10: int64(c.Refusal), 11: c.FirstUsage, 12: int64(c.UsageRows)} {
		if i == 0 || i == 3 || i == 8 {
			continue
		}
		if err := s.BindInt64(i, v); err != nil {
			return err
		}
	}
	return errors.Join(s.BindBlob(3, c.Request[:]), s.BindText(8, c.Source), s.BindBlob(13, c.Detail), s.Exec())
}

// PutHour notes the first usage row of an hour.
func (tx *Tx) PutHour(h metering.Hour, firstSeq int64) error {
	return errors.Join(tx.hour.BindInt64(1, int64(h)), tx.hour.BindInt64(2, firstSeq), tx.hour.Exec())
}

// PutClientToken remembers a ClientToken.
func (tx *Tx) PutClientToken(t *ClientToken) error {
	return errors.Join(bind(tx.token, t.Key.Workload, t.Key.Hash[:], t.Parameters[:], t.Record[:], int64(t.At)), tx.token.Exec())
}

// DropClientTokens forgets the ClientTokens accepted before the instant.
func (tx *Tx) DropClientTokens(before metering.Instant) error {
	return tx.exec("DELETE FROM client_token WHERE at < ?", int64(before))
}

// PutRegistration adds a registration, or moves its last call.
func (tx *Tx) PutRegistration(r metering.Registration) error {
	return errors.Join(bind(tx.registration, r.Workload, r.Product, int(r.Operation), int64(r.First), int64(r.Last)), tx.registration.Exec())
}

// exec runs a statement that is kept prepared.
func (tx *Tx) exec(sql string, args ...any) error {
	s := tx.statements[sql]
	if s == nil {
		var err error
		if s, _, err = tx.c.PrepareFlags(sql, sqlite3.PREPARE_PERSISTENT); err != nil {
			return err
		}
		tx.statements[sql] = s
	}
	if err := bind(s, args...); err != nil {
		return err
	}
	return s.Exec()
}

const usageColumns = "SELECT seq, hour, millis, region, product, buyer, agreement, workload, dimension, quantity, form, client_token, allocations FROM usage "

func scanUsage(s *sqlite3.Stmt, u *Usage) {
	*u = Usage{
		Seq:  s.ColumnInt64(0),
		Hour: metering.Hour(s.ColumnInt64(1)),
		Key: metering.Key{Region: metering.Region(s.ColumnInt64(3)), Product: uint32(s.ColumnInt64(4)), Buyer: uint32(s.ColumnInt64(5)),
			Agreement: uint32(s.ColumnInt64(6)), Workload: uint32(s.ColumnInt64(7)), Dimension: uint16(s.ColumnInt64(8))},
		Quantity: int32(s.ColumnInt64(9)),
		Form:     metering.Form(s.ColumnInt64(10)),
	}
	u.Timestamp = u.Hour.Start() + metering.Instant(s.ColumnInt64(2))
	if s.ColumnType(11) != sqlite3.NULL {
		u.ClientToken = s.ColumnText(11)
	}
	if s.ColumnType(12) != sqlite3.NULL {
		u.Allocations = s.ColumnBlob(12, nil)
	}
}

// Usage calls row for each usage row with first <= Seq <= last, in order. The row is only valid during the call.
func (r *Reader) Usage(first, last int64, row func(*Usage) error) error {
	var u Usage
	return query(r.c, usageColumns+"WHERE seq BETWEEN ? AND ? ORDER BY seq", func(s *sqlite3.Stmt) error {
		scanUsage(s, &u)
		return row(&u)
	}, first, last)
}

// Keys is [Reader.Usage] for those who need only what records are de-duplicated on: Seq, Key, Hour, Quantity, and
// a ClientToken that is not empty if there is one. It reads millions of rows a second.
func (r *Reader) Keys(first, last int64, row func(*Usage) error) error {
	var u Usage
	return query(r.c, "SELECT seq, hour, region, product, buyer, agreement, workload, dimension, quantity, client_token IS NOT NULL FROM usage WHERE seq BETWEEN ? AND ? ORDER BY seq", func(s *sqlite3.Stmt) error {
		u.Seq, u.Hour, u.Quantity, u.ClientToken = s.ColumnInt64(0), metering.Hour(s.ColumnInt64(1)), int32(s.ColumnInt64(8)), ""
		u.Key = metering.Key{Region: metering.Region(s.ColumnInt64(2)), Product: uint32(s.ColumnInt64(3)), Buyer: uint32(s.ColumnInt64(4)),
			Agreement: uint32(s.ColumnInt64(5)), Workload: uint32(s.ColumnInt64(6)), Dimension: uint16(s.ColumnInt64(7))}
		if s.ColumnBool(9) {
			u.ClientToken = "?"
		}
		return row(&u)
	}, first, last)
}

// UsageFilter narrows [Reader.FindUsage]. Zero members choose all.
type UsageFilter struct {
	Region                    metering.Region
	Product, Buyer, Agreement uint32
	From, To                  metering.Instant // From <= Timestamp < To
}

// FindUsage is [Reader.Usage] for the rows that the filter chooses.
func (r *Reader) FindUsage(first, last int64, f *UsageFilter, row func(*Usage) error) error {
	where, args := "WHERE seq BETWEEN ? AND ?", []any{first, last}
	for _, c := range []struct {
		sql   string
		value int64
	}{
		{" AND region = ?", int64(f.Region)}, {" AND product = ?", int64(f.Product)}, {" AND buyer = ?", int64(f.Buyer)}, {" AND agreement = ?", int64(f.Agreement)},
		{" AND hour * 3600000 + millis >= ?", int64(f.From)}, {" AND hour * 3600000 + millis < ?", int64(f.To)},
	} {
		if c.value != 0 {
			where += c.sql
			args = append(args, c.value)
		}
	}
	var u Usage
	return query(r.c, usageColumns+where+" ORDER BY seq", func(s *sqlite3.Stmt) error {
		scanUsage(s, &u)
		return row(&u)
	}, args...)
}

// ClientTokenUsage calls row for each usage row that has a ClientToken, in the order of workloads and tokens, so
// that rows with the same token follow each other.
func (r *Reader) ClientTokenUsage(row func(workload uint32, clientToken string, seq int64) error) error {
	return query(r.c, "SELECT workload, client_token, seq FROM usage WHERE client_token IS NOT NULL ORDER BY workload, client_token, seq", func(s *sqlite3.Stmt) error {
		return row(uint32(s.ColumnInt64(0)), s.ColumnText(1), s.ColumnInt64(2))
	})
}

// Misfit is a number in the database that its column must not hold. Other readers would cut it off.
type Misfit struct {
	Table, Column     string
	Seq, Value        int64
	Smallest, Largest int64 // what the column may hold
}

// Misfits calls row for each misfit of the usage and call tables.
func (r *Reader) Misfits(row func(Misfit) error) error {
	type column struct {
		name              string
		smallest, largest int64
	}
	for _, t := range []struct {
		name    string
		columns []column
	}{
		{"usage", []column{{"seq", 1, math.MaxInt64}, {"hour", math.MinInt32, math.MaxInt32}, {"millis", 0, 3_599_999}, {"region", 1, math.MaxUint8},
			{"product", 1, math.MaxUint32}, {"buyer", 1, math.MaxUint32}, {"agreement", 0, math.MaxUint32}, {"workload", 0, math.MaxUint32},
			{"dimension", 1, math.MaxUint16}, {"quantity", 0, math.MaxInt32}, {"form", int64(metering.ByCustomerIdentifier), int64(metering.ByWorkload)}}},
		{"call", []column{{"seq", 1, math.MaxInt64}, {"length(request)", 16, 16}, {"operation", 1, math.MaxUint8}, {"principal", 0, math.MaxUint32},
			{"access_key", 0, math.MaxUint32}, {"workload", 0, math.MaxUint32}, {"region", 0, math.MaxUint8},
			{"refusal", NoRefusal, int64(len(metering.Kinds()) - 1)}, {"first_usage", 1, math.MaxInt64}, {"usage_rows", 0, metering.MaxUsageRecords}}},
	} {
		var names, fits []string
		for _, c := range t.columns {
			names = append(names, c.name)
			fits = append(fits, fmt.Sprintf("%s BETWEEN %d AND %d", c.name, c.smallest, c.largest))
		}
		err := query(r.c, "SELECT "+strings.Join(names, ", ")+" FROM "+t.name+" WHERE NOT ("+strings.Join(fits, " AND ")+") ORDER BY seq", func(s *sqlite3.Stmt) error {
			for i, c := range t.columns {
				if v := s.ColumnInt64(i); v < c.smallest || v > c.largest {
					if err := row(Misfit{t.name, c.name, s.ColumnInt64(0), v, c.smallest, c.largest}); err != nil {
						return err
					}
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

// LastUsage returns the Seq of the last usage row, 0 if there is none.
func (r *Reader) LastUsage() (int64, error) {
	return r.number("SELECT coalesce(max(seq), 0) FROM usage")
}

// LastCall returns the last audit row, or nil if there is none.
func (r *Reader) LastCall() (*Call, error) {
	n, err := r.number("SELECT coalesce(max(seq), 0) FROM call")
	if err != nil || n == 0 {
		return nil, err
	}
	return r.Call(n)
}

const callColumns = "SELECT seq, at, request, operation, principal, access_key, workload, source, region, refusal, first_usage, usage_rows, detail FROM call "

func scanCall(s *sqlite3.Stmt, c *Call) {
	*c = Call{
		Seq: s.ColumnInt64(0), At: metering.Instant(s.ColumnInt64(1)), Operation: uint8(s.ColumnInt64(3)),
		Principal: uint32(s.ColumnInt64(4)), AccessKey: uint32(s.ColumnInt64(5)), Workload: uint32(s.ColumnInt64(6)),
		Source: s.ColumnText(7), Region: metering.Region(s.ColumnInt64(8)), Refusal: s.ColumnInt(9),
		FirstUsage: s.ColumnInt64(10), UsageRows: s.ColumnInt(11),
	}
	copy(c.Request[:], s.ColumnRawBlob(2))
	if s.ColumnType(12) != sqlite3.NULL {
		c.Detail = s.ColumnBlob(12, nil)
	}
}

// Call returns the audit row of the given place, or nil.
func (r *Reader) Call(seq int64) (*Call, error) {
	var found *Call
	err := r.Calls(seq, seq, func(c *Call) error {
		copied := *c
		found = &copied
		return nil
	})
	return found, err
}

// Calls calls row for each audit row with first <= Seq <= last, in order. The row is only valid during the call.
func (r *Reader) Calls(first, last int64, row func(*Call) error) error {
	var c Call
	return query(r.c, callColumns+"WHERE seq BETWEEN ? AND ? ORDER BY seq", func(s *sqlite3.Stmt) error {
		scanCall(s, &c)
		return row(&c)
	}, first, last)
}

// CallOfUsage returns the audit row of the call that wrote the usage row, or nil. Rows of both tables are
// appended in one order, so the call is found by halving.
func (r *Reader) CallOfUsage(seq int64) (*Call, error) {
	last, err := r.number("SELECT coalesce(max(seq), 0) FROM call")
	low, high := int64(1), last
	for err == nil && low < high {
		middle := (low + high + 1) / 2
		var first int64
		// Calls without usage carry the next row's place, so that first_usage never falls.
		first, err = r.number("SELECT first_usage FROM call WHERE seq = ?", middle)
		if first <= seq {
			low = middle
		} else {
			high = middle - 1
		}
	}
	for ; err == nil && low > 0; low-- { // over calls that wrote nothing
		var c *Call
		if c, err = r.Call(low); c != nil && c.UsageRows > 0 {
			if c.FirstUsage <= seq && seq < c.FirstUsage+int64(c.UsageRows) {
				return c, nil
			}
			return nil, err
		}
	}
	return nil, err
}

// requestSlack is how far rows may stand from the order of their request ids' times, in milliseconds, to be found by
// them. An id is drawn when its request arrives, a row is appended when its group is committed.
const requestSlack = 10_000

// CallOfRequest returns the audit row of the call with the given request id, or nil if there is none near the place
// that belongs to the id's time. Ids are UUIDs of version 7, which begin with their time, and rows are nearly in the
// order of these times unless the clock was set, so the place is found by halving. [Reader.FindCall] finds the rest.
func (r *Reader) CallOfRequest(id [16]byte) (*Call, error) {
	const most = 1 << 18 // rows, should their times be in no order
	last, err := r.number("SELECT coalesce(max(seq), 0) FROM call")
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
	return r.FindCall(id, first, min(after, first+most))
}

// idMillis returns the time in a UUID of version 7.
func idMillis(id []byte) int64 {
	var b [8]byte
	copy(b[2:], id[:min(len(id), 6)])
	return int64(binary.BigEndian.Uint64(b[:]))
}

// firstCallFrom returns the place of a row whose request id is of the time or later while the one before is not.
func (r *Reader) firstCallFrom(millis, last int64) (int64, error) {
	s, _, err := r.c.Prepare("SELECT request FROM call WHERE seq = ?")
	if err != nil {
		return 0, err
	}
	defer s.Close()
	low, high := int64(1), last+1
	for low < high {
		middle := (low + high) / 2
		if err := bind(s, middle); err != nil {
			return 0, err
		}
		earlier := s.Step() && idMillis(s.ColumnRawBlob(0)) < millis
		if err := s.Reset(); err != nil {
			return 0, err
		}
		if earlier {
			low = middle + 1
		} else {
			high = middle
		}
	}
	return low, nil
}

// FindCall returns the audit row of the call with the given request id if first <= Seq <= last, or nil. It reads all
// of these rows.
func (r *Reader) FindCall(id [16]byte, first, last int64) (found *Call, err error) {
	err = query(r.c, callColumns+"WHERE seq BETWEEN ? AND ? AND request = ? LIMIT 1", func(s *sqlite3.Stmt) error {
		found = new(Call)
		scanCall(s, found)
		return nil
	}, first, last, id[:])
	return found, err
}

// Hours calls row for each hour that has usage, with the Seq of its first row, in the order of hours.
func (r *Reader) Hours(row func(h metering.Hour, firstSeq int64) error) error {
	return query(r.c, "SELECT hour, first_seq FROM hour ORDER BY hour", func(s *sqlite3.Stmt) error {
		return row(metering.Hour(s.ColumnInt64(0)), s.ColumnInt64(1))
	})
}

// ClientTokens calls row for each remembered ClientToken.
func (r *Reader) ClientTokens(row func(*ClientToken) error) error {
	return query(r.c, "SELECT workload, hash, parameters, record, at FROM client_token", func(s *sqlite3.Stmt) error {
		t := ClientToken{At: metering.Instant(s.ColumnInt64(4))}
		t.Key.Workload = uint32(s.ColumnInt64(0))
		copy(t.Key.Hash[:], s.ColumnRawBlob(1))
		copy(t.Parameters[:], s.ColumnRawBlob(2))
		copy(t.Record[:], s.ColumnRawBlob(3))
		return row(&t)
	})
}

func (r *Reader) number(sql string, args ...any) (n int64, err error) {
	err = query(r.c, sql, func(s *sqlite3.Stmt) error {
		n = s.ColumnInt64(0)
		return nil
	}, args...)
	return n, err
}
