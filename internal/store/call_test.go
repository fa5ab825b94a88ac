package store

import (
	"context"
	"fmt"
	"math"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/meterd/meterd/internal/metering"
)

const (
	testHour = metering.Instant(time.Hour / time.Millisecond)
	testDay  = 24 * testHour
)

// TestClients: a row says who called once a day for each writer, whether or not transactions before it were durable.
func TestClients(t *testing.T) {
	var k Clients
	one := Client{Source: "192.0.2.1", Agent: "agent", Session: Session{AccessKeyID: "ASIA1", Name: "session"}}
	other := one
	other.Name = "another"
	seq := int64(0)
	tell := func(at metering.Instant, who Client) *Call {
		seq++
		c := &Call{Seq: seq, At: at}
		k.Tell(c, who)
		return c
	}
	want := func(name string, c *Call, client int64) {
		t.Helper()
		refers := client != c.Seq
		if c.Client != client || refers != (c.Source+c.Agent+c.Session == "") {
			t.Errorf("%s: call %d is %+v, want client %d", name, c.Seq, c, client)
		}
		if who, err := c.client(); !refers && (who.Session != one.Session && who.Session != other.Session || err != nil) {
			t.Errorf("%s: it says %+v, %v", name, who, err)
		}
	}
	k.Begin()
	want("the first", tell(1, one), 1)
	want("the same transaction", tell(1, one), 1)
	want("another session", tell(1, other), 3)
	k.Begin() // that transaction has failed
	want("after a failure", tell(2, one), 4)
	k.Keep()
	k.Begin()
	want("a transaction later", tell(2, one), 4)
	want("another session after the failure", tell(2, other), 6)
	k.Keep()
	k.Begin()
	want("the next day", tell(testDay, one), 7)
	want("the day before again", tell(testDay-1, one), 8)
	seq = 9 << callBits
	want("another writer", tell(testDay-1, one), seq)
	k.Keep()

	before := maxClients
	t.Cleanup(func() { maxClients = before })
	maxClients = 1
	first := seq
	k.Begin()
	want("full", tell(testDay-1, one), first+1)
	k.Keep()
}

// callsAt commits calls of the times, each in a transaction of its own, and returns their rows.
func callsAt(t *testing.T, w Writer, times ...metering.Instant) (calls []Call) {
	t.Helper()
	for _, at := range times {
		err := w.Update(func(tx *Tx) error {
			seq := w.NextCall()
			calls = append(calls, Call{Seq: seq, At: at, Operation: 1, Request: [16]byte{15: byte(len(calls))}, Client: seq, Source: "192.0.2.1", Agent: "agent é", Session: `{"name":"s","new":1}`, Refusal: NoRefusal})
			return tx.AppendCall(&calls[len(calls)-1])
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return calls
}

// TestCallsBackward reads calls by time, those of several writers and of a clock that was set back among them.
func TestCallsBackward(t *testing.T) {
	rows := backwardRows
	t.Cleanup(func() { backwardRows = rows })
	backwardRows = 3
	both(t, func(t *testing.T, location string, db Store) {
		var all []Call
		for i, w := range db.Writers() {
			m := metering.Instant(i)
			all = append(all, callsAt(t, w, testHour+m, testHour+10, testHour+10, testHour+20+m, 2*testHour, 5*testHour, 5*testHour+m, testHour+30, testHour+40, 5*testHour+3, 5*testHour+2, 9*testHour)...)
		}
		slices.SortFunc(all, func(a, b Call) int { return b.When().compare(a.When()) })
		read := func(from metering.Instant, before Moment, most int) (got []Call) {
			t.Helper()
			err := db.View(context.Background(), func(r *Reader) error {
				return r.CallsBackward(from, before, func(c *Call) error {
					got = append(got, *c)
					if len(got) == most {
						return ErrEnough
					}
					return nil
				})
			})
			if err != nil {
				t.Fatal(err)
			}
			return got
		}
		if got := read(0, Moment{At: math.MaxInt32 * testHour}, -1); !reflect.DeepEqual(got, all) {
			t.Errorf("all calls are\n%s, want\n%s", linesOf(got), linesOf(all))
		}
		for _, at := range []metering.Instant{0, testHour, testHour + 10, testHour + 11, 2 * testHour, 3 * testHour, 5*testHour + 2, 5*testHour + 3, 9 * testHour, 10 * testHour} {
			for _, from := range []metering.Instant{0, testHour + 10, 5 * testHour} {
				want := slices.DeleteFunc(slices.Clone(all), func(c Call) bool { return c.At >= at || c.At < from })
				if got := read(from, Moment{At: at}, -1); len(got) != len(want) || len(want) > 0 && !reflect.DeepEqual(got, want) {
					t.Errorf("from %d before %d are\n%s, want\n%s", from, at, linesOf(got), linesOf(want))
				}
			}
		}
		var pages []Call
		for next := (Moment{At: 10 * testHour}); ; {
			page := read(0, next, 2)
			if pages = append(pages, page...); len(page) < 2 {
				break
			}
			next = page[1].When()
		}
		if !reflect.DeepEqual(pages, all) {
			t.Errorf("in pages they are\n%s, want\n%s", linesOf(pages), linesOf(all))
		}
		who := Client{Source: "192.0.2.1", Agent: "agent é", Session: Session{Name: "s"}}
		err := db.View(context.Background(), func(r *Reader) error {
			for _, c := range []Call{all[0], {Seq: 77, Client: all[0].Seq}} {
				if got, err := r.Client(&c); got != who || err != nil {
					return fmt.Errorf("the client of call %d is %+v, %w", c.Seq, got, err)
				}
			}
			if _, err := r.Client(&Call{Seq: 77, Client: 76}); err == nil {
				return fmt.Errorf("a call that refers to none has a client")
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
}

func linesOf(calls []Call) (text string) {
	for _, c := range calls {
		text += fmt.Sprintf("%v %+v\n", c.At, c.When())
	}
	return text
}

// TestFillCallHours: a ledger of an earlier version gets the runs that it would have if it had always noted them. A run
// may have been begun anew, as when a process was started again.
func TestFillCallHours(t *testing.T) {
	both(t, func(t *testing.T, location string, db Store) {
		for _, w := range db.Writers() {
			callsAt(t, w, testHour, testHour, testHour+1, 2*testHour, testHour, 3*testHour)
		}
		var noted, filled [][2]int64
		err := db.View(context.Background(), func(r *Reader) error {
			_, err := r.CallHours(func(first int64, hour metering.Hour) error {
				noted = append(noted, [2]int64{first, int64(hour)})
				return nil
			})
			if err != nil {
				return err
			}
			return r.fillCallHours(func(_ string, args ...any) error {
				filled = append(filled, [2]int64{args[0].(int64), args[1].(int64)})
				return nil
			})
		})
		if err != nil || len(noted) == 0 || !slices.Equal(noted, filled) {
			t.Errorf("%v: it notes %v, and would have had %v", err, noted, filled)
		}
	})
}
