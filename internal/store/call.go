package store

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/meterd/meterd/internal/metering"
)

// Client is the part of who called that is the same for many calls. It is stored with the first call of a day, and
// later calls refer to that one, because a user agent is many times as long as the rest of an audit row.
type Client struct {
	Source string // network address
	Agent  string // the User-Agent header, bounded and cleaned
	Session
}

// Session is what temporary credentials say besides whom they belong to. Audit rows hold it as a JSON object, to
// which later versions can add members; a version ignores members that it does not know.
type Session struct {
	AccessKeyID string `json:"access_key_id,omitempty"` // "ASIA…"
	Name        string `json:"name,omitempty"`          // of the role session
}

// text returns the session as it is stored, and nil for none.
func (s Session) text() string {
	if s == (Session{}) {
		return ""
	}
	b, _ := json.Marshal(s) // of texts, which never fails
	return string(b)
}

// client returns who called, if the audit row itself says so.
func (c *Call) client() (Client, error) {
	who := Client{Source: c.Source, Agent: c.Agent}
	if c.Session == "" {
		return who, nil
	}
	if err := json.Unmarshal([]byte(c.Session), &who.Session); err != nil {
		return who, fmt.Errorf("call %d: its session is damaged: %w", c.Seq, err)
	}
	return who, nil
}

// Client returns who made a call, which must have been read from the store.
func (r *Reader) Client(c *Call) (Client, error) {
	if c.Client == 0 || c.Client == c.Seq {
		return c.client()
	}
	first, err := r.Call(c.Client)
	switch {
	case err != nil:
		return Client{}, err
	case first == nil:
		return Client{}, fmt.Errorf("call %d: call %d, which says who made it, does not exist", c.Seq, c.Client)
	}
	return first.client()
}

// maxClients is how many clients [Clients] remembers before it forgets all of them. It is a variable only for tests.
var maxClients = 1 << 14

// Clients remembers which calls of a day say who their clients are, so that later calls of the same writer can refer
// to them. The zero value remembers none.
type Clients struct {
	writer int64
	day    metering.Hour
	known  map[Client]int64 // in durable calls
	fresh  map[Client]int64 // in calls of the present transaction
}

// Begin must be called when a transaction begins. It forgets the clients of a transaction that was not kept.
func (k *Clients) Begin() {
	clear(k.fresh)
	if k.known == nil || len(k.known) >= maxClients {
		k.known, k.fresh = map[Client]int64{}, map[Client]int64{}
	}
}

// Keep must be called when the transaction is durable.
func (k *Clients) Keep() {
	for who, seq := range k.fresh {
		k.known[who] = seq
	}
	clear(k.fresh)
}

// Tell makes an audit row, of which Seq and At are set, say who made the call or refer to a row that says it.
func (k *Clients) Tell(c *Call, who Client) {
	writer, _ := Place(c.Seq)
	if day := dayOfCall(c); writer != k.writer || day != k.day {
		k.writer, k.day = writer, day
		clear(k.known)
		clear(k.fresh)
	}
	seq, told := k.known[who]
	if !told {
		seq, told = k.fresh[who]
	}
	if told {
		c.Client, c.Source, c.Agent, c.Session = seq, "", "", ""
		return
	}
	who.Source, who.Agent = strings.Clone(who.Source), strings.Clone(who.Agent) // copied, because they may be parts of a large string
	k.fresh[who] = c.Seq
	c.Client, c.Source, c.Agent, c.Session = c.Seq, who.Source, who.Agent, who.text()
}

// dayOfCall returns the first hour of the day of a call: see [Clients].
func dayOfCall(c *Call) metering.Hour { return c.At.Hour() / 24 * 24 }

// callRun follows the calls of a store to find where runs of calls begin: see table call_hour.
type callRun struct {
	seq int64
	at  metering.Instant
}

const insertCallHour = "INSERT INTO call_hour (first, hour) VALUES ($1,$2)"

// begins takes the next call, and reports whether a run begins with it: it is the first call of its writer or of its
// hour, or its time is before that of the call before.
func (r *callRun) begins(c *Call) bool {
	before := *r
	r.seq, r.at = c.Seq, c.At
	return before.seq == 0 || before.seq>>callBits != c.Seq>>callBits || before.at.Hour() != c.At.Hour() || c.At < before.at
}

// CallHours calls f for each run of calls, with the Seq of the first call and the hour, in the order of Seq. noted is
// false for ledgers of earlier versions, which do not note runs.
func (r *Reader) CallHours(f func(first int64, hour metering.Hour) error) (noted bool, err error) {
	schema, err := r.schema()
	if err != nil || schema < 4 {
		return false, err
	}
	return true, r.query("SELECT first, hour FROM call_hour ORDER BY first", func(c columns) error {
		return f(c.ColumnInt64(0), metering.Hour(c.ColumnInt64(1)))
	})
}

// Moment is a place among all calls in the order of their times, and of their Seqs where times are equal.
type Moment struct {
	At  metering.Instant
	Seq int64
}

// When returns the call's place among all calls.
func (c *Call) When() Moment { return Moment{c.At, c.Seq} }

func (m Moment) compare(o Moment) int {
	return cmp.Or(cmp.Compare(m.At, o.At), cmp.Compare(m.Seq, o.Seq))
}

// CallsBackward calls f for each call from the given time to the moment before, the latest call first, until f
// returns ErrEnough. It reads little more than the calls that f gets. To go on later, pass the last call's
// [Call.When] as before. The call is only valid until f returns.
func (r *Reader) CallsBackward(from metering.Instant, before Moment, f func(*Call) error) error {
	var hours [][]backwardRun // each hour's
	err := r.query("SELECT first, hour FROM call_hour WHERE hour BETWEEN $1 AND $2 ORDER BY hour DESC, first DESC", func(c columns) error {
		run := backwardRun{hour: metering.Hour(c.ColumnInt64(1)), first: c.ColumnInt64(0)}
		if n := len(hours); n == 0 || hours[n-1][0].hour != run.hour {
			hours = append(hours, nil)
		}
		last := &hours[len(hours)-1]
		*last = append(*last, run)
		return nil
	}, int64(from.Hour()), int64(before.At.Hour()))
	for _, runs := range hours {
		if err == nil {
			err = r.hourBackward(runs, from, before, f)
		}
	}
	if errors.Is(err, ErrEnough) {
		return nil
	}
	return err
}

// hourBackward merges the runs of an hour.
func (r *Reader) hourBackward(runs []backwardRun, from metering.Instant, before Moment, f func(*Call) error) error {
	for i := range runs {
		if err := runs[i].open(r, before); err != nil {
			return err
		}
	}
	for {
		var latest *backwardRun
		for i := range runs {
			run := &runs[i]
			if err := run.fill(r); err != nil {
				return err
			}
			if len(run.calls) > 0 && (latest == nil || run.calls[0].When().compare(latest.calls[0].When()) > 0) {
				latest = run
			}
		}
		if latest == nil || latest.calls[0].At < from {
			return nil
		}
		if err := f(&latest.calls[0]); err != nil {
			return err
		}
		latest.calls = latest.calls[1:]
	}
}

// backwardRun is a run of calls of one hour that is read backward.
type backwardRun struct {
	hour  metering.Hour
	first int64
	end   int64  // what is left to be read is before it
	calls []Call // read, but not yet given to f
}

// open finds the end of the run, or its first call that is not before the moment.
func (b *backwardRun) open(r *Reader, before Moment) (err error) {
	next, err := r.number("SELECT coalesce(min(first), 0) FROM call_hour WHERE first > $1", b.first)
	if err != nil {
		return err
	}
	writer, _ := Place(b.first)
	b.end = (writer + 1) << callBits
	if next != 0 {
		b.end = min(b.end, next)
	}
	last, err := r.number("SELECT coalesce(max(seq), 0) FROM call WHERE seq >= $1 AND seq < $2", b.first, b.end)
	if err != nil {
		return err
	}
	if b.end = last + 1; b.hour < before.At.Hour() {
		return nil
	}
	b.end, err = halve(b.first, b.end, func(seq int64) (earlier bool, err error) {
		at, err := r.number("SELECT at FROM call WHERE seq = $1", seq)
		return Moment{metering.Instant(at), seq}.compare(before) < 0, err
	})
	return err
}

// backwardRows is how many calls of a run are read at once; a variable only for tests.
var backwardRows = 64

// fill reads the next calls if there are none.
func (b *backwardRun) fill(r *Reader) error {
	if len(b.calls) > 0 || b.end <= b.first {
		return nil
	}
	err := r.query(r.callColumns()+"WHERE seq >= $1 AND seq < $2 ORDER BY seq DESC LIMIT $3", func(s columns) error {
		b.calls = append(b.calls, Call{})
		scanCall(s, &b.calls[len(b.calls)-1])
		return nil
	}, b.first, b.end, backwardRows)
	if n := len(b.calls); n > 0 {
		b.end = b.calls[n-1].Seq
	} else {
		b.end = b.first
	}
	return err
}

// callColumns begins a statement that reads audit rows, for scanCall.
func (r *Reader) callColumns() string {
	const known = "SELECT seq, at, request, operation, principal, access_key, workload, source, region, refusal, usage_rows, detail, "
	if r.lacks(4) {
		return known + "0::bigint AS client, ''::text AS agent, ''::text AS session FROM call "
	}
	return known + "client, agent, session FROM call "
}

func scanCall(s columns, c *Call) {
	*c = Call{
		Seq: s.ColumnInt64(0), At: metering.Instant(s.ColumnInt64(1)), Operation: uint8(s.ColumnInt64(3)),
		Principal: uint32(s.ColumnInt64(4)), AccessKey: uint32(s.ColumnInt64(5)), Workload: uint32(s.ColumnInt64(6)),
		Source: s.ColumnText(7), Region: metering.Region(s.ColumnInt64(8)), Refusal: int(s.ColumnInt64(9)),
		UsageRows: int(s.ColumnInt64(10)), Detail: bytes.Clone(s.ColumnRawBlob(11)),
		Client: s.ColumnInt64(12), Agent: s.ColumnText(13), Session: s.ColumnText(14),
	}
	copy(c.Request[:], s.ColumnRawBlob(2))
}

// Call returns the audit row of the given Seq, or nil.
func (r *Reader) Call(seq int64) (*Call, error) { return r.findCall("WHERE seq = $1", seq) }

func (r *Reader) findCall(where string, args ...any) (found *Call, err error) {
	err = r.query(r.callColumns()+where, func(c columns) error {
		found = new(Call)
		scanCall(c, found)
		return nil
	}, args...)
	return found, err
}

// CallsOf calls f for each audit row of an operation, in the order of Seq.
func (r *Reader) CallsOf(operation uint8, f func(*Call) error) error {
	return r.query(r.callColumns()+"WHERE operation = $1 ORDER BY seq", func(c columns) error {
		var call Call
		scanCall(c, &call)
		return f(&call)
	}, int(operation))
}

func (r *Reader) lastCall() (*Call, error) {
	n, err := r.number("SELECT coalesce(max(seq), 0) FROM call")
	if err != nil || n == 0 {
		return nil, err
	}
	return r.Call(n)
}
