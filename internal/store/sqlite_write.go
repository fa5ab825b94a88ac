package store

import (
	"errors"
	"fmt"
	"strings"

	"github.com/meterd/meterd/internal/metering"
	"github.com/ncruces/go-sqlite3"
)

// sqliteTx is the transaction of the only writer. Its statements are prepared once.
type sqliteTx struct {
	c                       *sqlite3.Conn
	index                   *index
	sandbox                 bool // the ledger's clock may be set back to where old ClientTokens are needed
	claimed                 bool // the index holds keys or tokens that are not committed
	last                    *Call
	lastCall                Call // what last points to, unless last is nil
	durable                 Call // the last call that is committed
	begin, commit, rollback *sqlite3.Stmt
	usage, call, hour, late *sqlite3.Stmt
	next                    [len(nextRows)]*sqlite3.Stmt // each inserts as many rows as nextRows says, behind the last row, without token and allocations
	token, registration     *sqlite3.Stmt
	waiting                 []*Usage                 // rows to be inserted; the Seq of each is one more than that of the row before
	found                   []*ClientToken           // the answer of ClientTokens
	statements              map[string]*sqlite3.Stmt // the catalogue's statements by their text
	told                    bool                     // the call statement's parameters for source, agent and session are not bound to empty texts
}

func (tx *sqliteTx) prepare(c *sqlite3.Conn) error {
	tx.c = c
	tx.statements = map[string]*sqlite3.Stmt{}
	tx.told = true
	for _, p := range []struct {
		stmt **sqlite3.Stmt
		sql  string
	}{
		{&tx.begin, "BEGIN IMMEDIATE"},
		{&tx.commit, "COMMIT"},
		{&tx.rollback, "ROLLBACK"},
		{&tx.usage, insertUsage + "(?,?,?,?,?,?,?,?,?)"},
		{&tx.call, "INSERT INTO call (seq, at, request, operation, principal, access_key, workload, source, region, refusal, usage_rows, detail, client, agent, session) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"},
		{&tx.hour, "INSERT INTO hour (hour, first_seq) VALUES (?,?)"},
		{&tx.late, "INSERT INTO late (hour, first, last) VALUES (?,?,?)"},
		{&tx.token, "INSERT INTO client_token (workload, hash, parameters, record, at) VALUES (?,?,?,?,?) ON CONFLICT (workload, hash) DO UPDATE SET parameters = excluded.parameters, record = excluded.record, at = excluded.at"},
		{&tx.registration, "INSERT INTO registration (workload, product, operation, first_call, last_call) VALUES (?,?,?,?,?) ON CONFLICT (workload, product, operation) DO UPDATE SET last_call = excluded.last_call"},
	} {
		s, _, err := c.PrepareFlags(p.sql, sqlite3.PREPARE_PERSISTENT)
		if err != nil {
			return err
		}
		*p.stmt = s
	}
	for i, rows := range nextRows {
		const row = "(?,?,?,?,?,?)"
		s, _, err := c.PrepareFlags("INSERT INTO usage (at, product, buyer, holder, dimension_region_form, quantity) VALUES "+strings.Repeat(row+",", rows-1)+row, sqlite3.PREPARE_PERSISTENT)
		if err != nil {
			return err
		}
		tx.next[i] = s
	}
	return nil
}

// nextRows lists how many rows each of the statements inserts that leave seq out. SQLite numbers each of their rows one
// higher than the row before, which is right for consecutive records of a call. That costs half as much as inserting the
// rows one by one with their numbers.
var nextRows = [...]int{metering.MaxUsageRecords - 1, 8, 1}

const insertUsage = "INSERT INTO usage (seq, at, product, buyer, holder, dimension_region_form, quantity, client_token, allocations) VALUES "

// exec runs a statement, which it prepares once and keeps.
func (tx *sqliteTx) exec(sql string, args ...any) error {
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

func (tx *sqliteTx) revise(known int64) error {
	if err := tx.exec("UPDATE state SET n = n + 1 WHERE name = 'revision' AND n = $1", known); err != nil {
		return err
	}
	if tx.c.Changes() == 0 {
		return ErrStale
	}
	return nil
}

// Window also deletes from the tables what passed hours leave: rows of table late, and ClientTokens that nobody can ask
// for any more.
func (tx *sqliteTx) Window(w Window) error {
	x := tx.index
	if !x.loaded || w.First < x.window.First {
		return x.load(&sqliteReader{c: tx.c}, w)
	}
	if done := x.finish(); done != nil {
		if err := tx.exec("DELETE FROM late WHERE hour = $1 AND last < $2", int64(done.hour), UsageSeq(done.file.Through+1, 0)); err != nil {
			return err
		}
	}
	passed := x.advance(w)
	x.begin(&tx.durable)
	if !passed {
		return nil
	}
	if err := tx.exec("DELETE FROM late WHERE hour < $1", int64(w.First)); err != nil || tx.sandbox {
		return err
	}
	return tx.exec("DELETE FROM client_token WHERE at < $1", int64(w.Tokens.Start()))
}

func (tx *sqliteTx) ClientTokens(keys []metering.TokenKey) ([]*ClientToken, error) {
	tx.found = tx.found[:0]
	for _, k := range keys {
		tx.found = append(tx.found, tx.index.token(k))
	}
	return tx.found, nil
}

func (tx *sqliteTx) Ask(claims []Claim) error {
	return tx.mending(func() error { return tx.index.ask(claims) })
}

// mending runs f, which uses the index, until f finds no damaged file of the index. When a file is damaged, the index is
// read again from the tables, which do not hold what f has claimed: so those claims are forgotten.
func (tx *sqliteTx) mending(f func() error) error {
	err := f()
	for damaged := (*damagedFile)(nil); errors.As(err, &damaged); { // as many times as there are damaged files
		if err = tx.index.mend(&sqliteReader{c: tx.c}, damaged); err == nil {
			err = f()
		}
	}
	return err
}

func (tx *sqliteTx) Claim(claims []Claim) error {
	tx.claimed = true
	tx.waiting = tx.waiting[:0]
	if err := tx.mending(func() error { return tx.index.claim(claims) }); err != nil {
		return err
	}
	if err := tx.listLate(claims); err != nil {
		return err
	}
	for i := range claims {
		c := &claims[i]
		if c.State != Granted {
			continue
		}
		if _, ok := tx.index.marked[c.Hour]; !ok {
			if err := errors.Join(tx.hour.BindInt64(1, int64(c.Hour)), tx.hour.BindInt64(2, c.Seq), tx.hour.Exec()); err != nil {
				return err
			}
			tx.index.marked[c.Hour] = struct{}{}
		}
		if err := tx.append(&c.Usage); err != nil {
			return err
		}
	}
	return tx.flush()
}

// listLate enters into table late the rows of hours whose keys are in a file already: the file lacks the keys of these
// rows, so the next start must read the rows. It enters one range for each call and hour, from the first claim to the
// last. Claims in a range that are not stored do no harm; a range in which none is stored is left out.
func (tx *sqliteTx) listLate(claims []Claim) error {
	for i := 0; i < len(claims); {
		first := &claims[i]
		call, _ := CallOfUsage(first.Seq)
		last, granted := first, first.State == Granted
		for i++; i < len(claims) && claims[i].Hour == first.Hour; i++ {
			if of, _ := CallOfUsage(claims[i].Seq); of != call {
				break
			}
			last = &claims[i]
			granted = granted || last.State == Granted
		}
		if granted && tx.index.late(first.Hour) {
			if err := errors.Join(bind(tx.late, int64(first.Hour), first.Seq, last.Seq), tx.late.Exec()); err != nil {
				return err
			}
		}
	}
	return nil
}

// append writes a row. A row without token and allocations waits, to be written together with the ones that follow it.
func (tx *sqliteTx) append(u *Usage) error {
	plain := u.ClientToken == "" && u.Allocations == nil
	if n := len(tx.waiting); n > 0 && !(plain && u.Seq == tx.waiting[n-1].Seq+1) {
		if err := tx.flush(); err != nil {
			return err
		}
	}
	if !plain {
		return tx.insert(u)
	}
	tx.waiting = append(tx.waiting, u)
	return nil
}

// flush writes the rows that wait.
func (tx *sqliteTx) flush() error {
	if len(tx.waiting) == 0 {
		return nil
	}
	rows := tx.waiting
	tx.waiting = tx.waiting[:0]
	if err := tx.insert(rows[0]); err != nil {
		return err
	}
	last := rows[len(rows)-1].Seq
	if rows = rows[1:]; len(rows) == 0 {
		return nil
	}
	for i, n := range nextRows {
		for s := tx.next[i]; len(rows) >= n; rows = rows[n:] {
			for at, u := range rows[:n] {
				numbers := usageNumbersOf(u)
				if err := bindNumbers(s, at*(usageNumbers-1), numbers[1:]); err != nil {
					return err
				}
			}
			if err := s.Exec(); err != nil {
				return err
			}
		}
	}
	if got := tx.c.LastInsertRowID(); got != last {
		return fmt.Errorf("usage row %d was numbered %d: there are rows behind it", last, got)
	}
	return nil
}

func (tx *sqliteTx) insert(u *Usage) error {
	numbers := usageNumbersOf(u)
	err := bindNumbers(tx.usage, 0, numbers[:])
	if u.ClientToken != "" {
		err = errors.Join(err, tx.usage.BindText(usageNumbers+1, u.ClientToken))
	} else {
		err = errors.Join(err, tx.usage.BindNull(usageNumbers+1))
	}
	return errors.Join(err, tx.usage.BindBlob(usageNumbers+2, u.Allocations), tx.usage.Exec())
}

const usageNumbers = 7

func usageNumbersOf(u *Usage) [usageNumbers]int64 {
	k := &u.Key
	return [usageNumbers]int64{u.Seq, int64(u.Timestamp), int64(k.Product), int64(k.Buyer), int64(k.Agreement) - int64(k.Workload),
		int64(k.Dimension)<<16 | int64(k.Region)<<8 | int64(u.Form), int64(u.Quantity)}
}

// bindNumbers binds numbers to the parameters behind the first ones.
func bindNumbers(s *sqlite3.Stmt, first int, numbers []int64) error {
	for i, v := range numbers {
		if err := s.BindInt64(first+i+1, v); err != nil {
			return err
		}
	}
	return nil
}

func (tx *sqliteTx) AppendCall(c *Call) error {
	s := tx.call
	for _, n := range [...]struct {
		parameter int
		value     int64
	}{
		{1, c.Seq}, {2, int64(c.At)}, {4, int64(c.Operation)}, {5, int64(c.Principal)}, {6, int64(c.AccessKey)}, {7, int64(c.Workload)},
		{9, int64(c.Region)}, {10, int64(c.Refusal)}, {11, int64(c.UsageRows)}, {13, c.Client},
	} {
		if err := s.BindInt64(n.parameter, n.value); err != nil {
			return err
		}
	}
	before := &tx.durable
	if tx.last != nil {
		before = tx.last
	}
	run := callRun{before.Seq, before.At}
	if run.begins(c) {
		if err := tx.exec(insertCallHour, c.Seq, int64(c.At.Hour())); err != nil {
			return err
		}
	}
	tx.lastCall = Call{Seq: c.Seq, At: c.At, Request: c.Request}
	tx.last = &tx.lastCall
	told := c.Source != "" || c.Agent != "" || c.Session != ""
	if told || tx.told { // most calls have none of these texts, like the call before; then the parameters are bound to empty texts already
		if err := errors.Join(s.BindText(8, c.Source), s.BindText(14, c.Agent), s.BindText(15, c.Session)); err != nil {
			return err
		}
		tx.told = told
	}
	return errors.Join(s.BindBlob(3, c.Request[:]), s.BindBlob(12, c.Detail), s.Exec())
}

func (tx *sqliteTx) PutClientToken(t *ClientToken) error {
	tx.claimed = true
	tx.index.putToken(t)
	tx.index.count()
	return errors.Join(bind(tx.token, t.Key.Workload, t.Key.Hash[:], t.Parameters[:], t.Record[:], int64(t.At)), tx.token.Exec())
}

func (tx *sqliteTx) PutRegistration(r metering.Registration) error {
	return errors.Join(bind(tx.registration, r.Workload, r.Product, int(r.Operation), int64(r.First), int64(r.Last)), tx.registration.Exec())
}
