// Package verify checks a ledger from its raw rows, independently of the code that decided and wrote them. It is the
// work of "meterd verify", and tests call it after whatever they have done to a ledger.
package verify

import (
	"bytes"
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/meterd/meterd/internal/iam"
	"github.com/meterd/meterd/internal/metering"
	"github.com/meterd/meterd/internal/store"
)

// maxProblems is how many problems a report puts into words. All problems are counted.
const maxProblems = 100

// Options say what [Ledger] compares the ledger with.
type Options struct {
	// Acknowledged are the records that callers were told are stored, with their quantities. Each must be in the ledger.
	// Checking this needs the master key.
	Acknowledged map[metering.RecordID]int32

	// MasterKey is the ledger's master key. Without it no record ids can be derived, so it is not checked for which
	// records ClientTokens stand. A sandbox needs none here, because its master key is published.
	MasterKey []byte
}

// Report is what [Ledger] found.
type Report struct {
	Records      int64        `json:"records"`
	Calls        int64        `json:"calls"` // authenticated calls and acts of administration
	Sums         []ProductSum `json:"sums"`  // by product code
	Problems     []string     `json:"problems"`
	ProblemCount int          `json:"problem_count"` // Problems holds the first 100
	Unchecked    int64        `json:"unchecked"`     // ClientTokens whose records were not checked, because the master key was not given
}

// ProductSum is the sum of a product's accepted records.
type ProductSum struct {
	ProductCode string `json:"product_code"`
	Records     int64  `json:"records"`
	Quantity    int64  `json:"quantity"`
}

// Ledger recomputes the ledger in the folder or database from its raw rows and reports what disagrees. It reads one
// state of the ledger, and servers may be running meanwhile. It needs the master key only for what [Options] says. An
// error means that the ledger could not be read to its end, or its catalogue not at all; the report then holds what was
// found before the error.
//
// It checks that
//
//   - the store's own check finds no damage;
//   - each writer's audit rows are numbered without gaps;
//   - each usage row was written by exactly one call, and each call has the usage rows that it wrote;
//   - no key was accepted twice;
//   - the catalogue has all its rows, every number that refers to it stands for one of its rows, and a record's
//     agreement is for the record's own product and buyer;
//   - quantities, times and allocations are what the service admits;
//   - the calls of a writer are in the order of the ledger clock, unless a sandbox's clock was moved;
//   - ClientTokens stand for records that exist.
//
// A database that spreads tables over several machines has no single state: while it is being written, it may show a
// call without its usage rows, or a row without the rows that it refers to. So if rows of a database disagree, Ledger
// reads everything once more, and reports only what disagrees both times.
//
// Ledger shares with package ledger the rules of identity ([metering.Key] and the derivation of ids) and the form of
// rows, but none of the code that decides duplicates.
//
// In an embedded store it takes about 2 µs for each record. It reads rows in the store's order, and holds in memory the
// keys of each hour from the hour's first row to its last, about 50 B for each record. While it runs, an embedded
// store's write-ahead log cannot be reused and grows.
func Ledger(location string, w Options) (Report, error) {
	v, err := readOnce(location, w)
	doubts := v.doubts
	if err == nil && len(doubts) > 0 && store.IsURL(location) {
		var again *verifier
		if again, err = readOnce(location, w); err == nil {
			doubts = confirmed(doubts, again.doubts)
		}
	}
	for _, d := range doubts {
		v.problem("%s", d.text)
	}
	return v.report, err
}

func readOnce(location string, w Options) (*verifier, error) {
	v := &verifier{report: Report{Sums: []ProductSum{}, Problems: []string{}}}
	err := caught(func() error {
		return store.Read(location, func(r *store.Reader, meta store.Meta) error { return v.run(r, meta, w) })
	})
	return v, err
}

// doubt is a disagreement between rows that may turn out to be none: see [Ledger].
type doubt struct{ about, text string }

// maxDoubts bounds the disagreements that are looked at again. Any more are problems at once, because so many cannot
// come from rows that are just being written.
const maxDoubts = 10000

// confirmed returns the doubts whose rows were in doubt both times.
func confirmed(doubts, again []doubt) []doubt {
	still := map[string]bool{}
	for _, d := range again {
		still[d.about] = true
	}
	return slices.DeleteFunc(doubts, func(d doubt) bool { return !still[d.about] })
}

// caught returns the error of f. If f panics it returns that as an error, because rows can be damaged in ways that no
// check has foreseen.
func caught(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the ledger is damaged in an unknown way, on which checking it has failed: %v", p)
		}
	}()
	return f()
}

type verifier struct {
	report  Report
	doubts  []doubt
	r       *store.Reader
	catalog *metering.Catalog
	largest struct{ principal, accessKey, adminToken uint32 } // the largest numbers of the directory's rows
	ids     *metering.RecordIDs                               // nil if the secret is not known
	sandbox bool
	left    map[metering.Hour]int64                     // usage rows of each hour that are still to come
	keys    map[metering.Hour]map[metering.Key]struct{} // of hours with rows to come
	sums    map[uint32]*ProductSum
	toldOf  map[metering.RecordID]int32  // acknowledged records that are not found yet
	tokenOf map[metering.RecordID]uint32 // :: record of a ClientToken, not found yet → the token's workload
}

func (v *verifier) problem(format string, args ...any) {
	if v.report.ProblemCount++; v.report.ProblemCount <= maxProblems {
		v.report.Problems = append(v.report.Problems, fmt.Sprintf(format, args...))
	}
}

// doubt notes that a row disagrees with other rows. about names the row, or what else disagrees.
func (v *verifier) doubt(about, format string, args ...any) {
	if len(v.doubts) == maxDoubts {
		v.problem(format, args...)
		return
	}
	v.doubts = append(v.doubts, doubt{about, fmt.Sprintf(format, args...)})
}

func aboutCall(c *store.Call) string { return fmt.Sprintf("call %d", c.Seq) }
func aboutUsage(seq int64) string    { return fmt.Sprintf("usage %d", seq) }

func (v *verifier) run(r *store.Reader, meta store.Meta, w Options) error {
	v.r, v.sandbox = r, meta.Sandbox
	v.catalog = metering.NewCatalog(metering.DefaultSettings())
	if err := v.deriveIDs(meta, w); err != nil {
		return err
	}
	v.left, v.keys = map[metering.Hour]int64{}, map[metering.Hour]map[metering.Key]struct{}{}
	v.sums, v.toldOf, v.tokenOf = map[uint32]*ProductSum{}, map[metering.RecordID]int32{}, map[metering.RecordID]uint32{}
	for id, quantity := range w.Acknowledged {
		v.toldOf[id] = quantity
	}
	if err := r.Check(v.problem); err != nil {
		return err
	}
	_, err := r.Load(store.Revision{}, v.know)
	if err == nil {
		err = r.Registrations(func(g metering.Registration) error { v.catalog.PutRegistration(g); return nil })
	}
	if err != nil {
		return fmt.Errorf("reading the catalogue: %w", err)
	}
	if err := r.CheckHistory(v.problem); err != nil {
		return fmt.Errorf("checking the catalogue: %w", err)
	}
	for _, check := range []func() error{v.checkCalls, v.countHours, v.readTokens, v.checkUsage, v.checkTokenUsage} {
		if err := check(); err != nil {
			return err
		}
	}
	if v.ids == nil {
		v.report.Unchecked = int64(len(v.tokenOf))
		clear(v.tokenOf)
	}
	for id, workload := range v.tokenOf {
		v.doubt(uuid.UUID(id).String(), "a ClientToken of workload %d stands for the record %v, which does not exist", workload, uuid.UUID(id))
	}
	for id, quantity := range v.toldOf {
		v.doubt(uuid.UUID(id).String(), "record %v was acknowledged with quantity %d but is not stored", uuid.UUID(id), quantity)
	}
	for _, s := range v.sums {
		v.report.Sums = append(v.report.Sums, *s)
	}
	slices.SortFunc(v.report.Sums, func(a, b ProductSum) int { return strings.Compare(a.ProductCode, b.ProductCode) })
	return nil
}

// know takes a row of the catalogue or the directory.
func (v *verifier) know(row any) error {
	switch r := row.(type) {
	case *store.Principal:
		v.largest.principal = r.ID
	case *store.AccessKey:
		v.largest.accessKey = r.ID
	case *store.AdminToken:
		v.largest.adminToken = r.ID
	default:
		v.catalog.Put(row)
	}
	return nil
}

// deriveIDs prepares the derivation of record ids, if the secret for it is known.
func (v *verifier) deriveIDs(meta store.Meta, w Options) error {
	key, given := w.MasterKey, w.MasterKey != nil
	if !given && meta.Sandbox {
		key = iam.PublishedMasterKey()
	}
	if key != nil {
		sealer, err := iam.NewSealer(key)
		if err == nil {
			err = meta.OpenSecret(sealer)
		}
		if err != nil && given {
			return err
		}
	}
	switch {
	case meta.Secret != nil:
		v.ids = metering.NewRecordIDs(meta.Secret)
	case w.Acknowledged != nil:
		return errors.New("what was acknowledged can only be compared with the master key")
	}
	return nil
}

// checkCalls checks the audit rows, and that each usage row belongs to a call.
func (v *verifier) checkCalls() error {
	accepted, err := v.acceptances()
	if err != nil {
		return err
	}
	var callers callers
	runs := hourRuns{}
	if runs.noted, err = v.r.CallHours(runs.add); err != nil {
		return err
	}
	var last store.Call
	return v.r.Calls(func(c *store.Call, stored uint32) error {
		v.report.Calls++
		writer, n := store.Place(c.Seq)
		lastWriter, lastN := store.Place(last.Seq)
		if writer != lastWriter {
			lastN, last.At = 0, c.At
		}
		if n > lastN+1 {
			v.doubt(aboutCall(c), "call rows %d to %d are missing", c.Seq-n+lastN+1, c.Seq-1)
		}
		// In a sandbox the clock may be moved, by an act whose audit row another writer has written.
		moved := v.sandbox && (c.Operation == uint8(metering.Administration) || writer != 0)
		if c.At < last.At && !moved && !slices.ContainsFunc(accepted, func(at metering.Instant) bool { return at <= c.At && at < last.At }) {
			v.problem("call row %d: the ledger clock went back from %v to %v", c.Seq, last.At, c.At)
		}
		v.checkCaller(&callers, c)
		v.checkHour(&runs, c, last.At)
		last = *c
		op, most := metering.Operation(c.Operation), 0
		if c.Refusal == store.NoRefusal {
			most = op.Info().UsageRows
		}
		if c.UsageRows > most {
			v.problem("call row %d: it wrote %d usage rows; a call of %v with refusal %d writes at most %d", c.Seq, c.UsageRows, op, c.Refusal, most)
		}
		known := v.largest.principal
		if c.Operation == uint8(metering.Administration) {
			known = v.largest.adminToken
		}
		if c.Principal > known || c.AccessKey > v.largest.accessKey || c.Workload != 0 && v.catalog.Workload(c.Workload) == nil || c.Region != 0 && v.catalog.Region(c.Region) == nil {
			v.doubt(aboutCall(c), "call row %d: principal %d, access key %d, workload %d or region %d does not exist", c.Seq, c.Principal, c.AccessKey, c.Workload, c.Region)
		}
		d, err := store.ParseDetail(c.Detail)
		if err != nil {
			v.problem("call row %d: %v", c.Seq, err)
			return nil
		}
		v.checkStored(c, d.LeftOut, stored)
		return nil
	}, func(seq int64) error {
		call, record := store.CallOfUsage(seq)
		v.doubt(aboutUsage(seq), "usage row %d: it says that it is record %d of call %d, which does not exist", seq, record, call)
		return nil
	})
}

// callers are the calls of a writer's day that say who made them, for later ones to refer to.
type callers struct {
	writer int64
	day    metering.Hour
	told   map[int64]struct{}
}

// checkCaller checks that the call says who made it, or refers to an earlier call of its writer and day that says so.
func (v *verifier) checkCaller(k *callers, c *store.Call) {
	writer, _ := store.Place(c.Seq)
	if day := c.At.Hour() / 24; k.told == nil || writer != k.writer || day != k.day {
		*k = callers{writer, day, map[int64]struct{}{}}
	}
	if c.Client == 0 || c.Client == c.Seq {
		if _, err := v.r.Client(c); err != nil {
			v.problem("%v", err)
		}
		if c.Client != 0 {
			k.told[c.Seq] = struct{}{}
		}
		return
	}
	if _, told := k.told[c.Client]; !told {
		v.doubt(aboutCall(c), "call row %d: who made it should be told by call %d, which is none of its writer's of that day, or does not tell", c.Seq, c.Client)
	}
	if c.Source != "" || c.Agent != "" || c.Session != "" {
		v.problem("call row %d: it says who made it, and refers to call %d for that", c.Seq, c.Client)
	}
}

// hourRuns are the noted runs of calls of one hour, beginning with the run that at names.
type hourRuns struct {
	noted bool
	at    *hourRun // the run that has been reached
	rest  []hourRun
}

type hourRun struct {
	first int64
	hour  metering.Hour
}

func (r *hourRun) writer() int64 {
	writer, _ := store.Place(r.first)
	return writer
}

func (r *hourRuns) add(first int64, hour metering.Hour) error {
	r.rest = append(r.rest, hourRun{first, hour})
	return nil
}

// checkHour checks that the call can be found by its hour. before is the time of the writer's previous call.
func (v *verifier) checkHour(r *hourRuns, c *store.Call, before metering.Instant) {
	for len(r.rest) > 0 && r.rest[0].first <= c.Seq {
		if r.at, r.rest = &r.rest[0], r.rest[1:]; r.at.first != c.Seq {
			v.doubt(fmt.Sprintf("call hour %d", r.at.first), "a run of calls of hour %v begins with call %d, which does not exist", r.at.hour, r.at.first)
		}
	}
	if !r.noted {
		return
	}
	writer, _ := store.Place(c.Seq)
	switch {
	case r.at == nil || r.at.writer() != writer:
		v.doubt(aboutCall(c), "call row %d: it is not found by its hour, as it is in none of the runs of its writer's calls", c.Seq)
	case r.at.hour != c.At.Hour():
		v.doubt(aboutCall(c), "call row %d: it is of %v, but not found by its hour, as it is in a run of calls of %v", c.Seq, c.At, r.at.hour)
	case r.at.first != c.Seq && c.At < before:
		v.doubt(aboutCall(c), "call row %d: it is earlier than the call before it, but in the same run of calls", c.Seq)
	}
}

// acceptances returns the times at which operators have accepted the clock. Ledger time may have gone back to these
// times.
func (v *verifier) acceptances() (at []metering.Instant, err error) {
	err = v.r.CallsOf(uint8(metering.Administration), func(c *store.Call) error {
		if d, err := store.ParseDetail(c.Detail); err == nil && strings.HasPrefix(d.Text, store.AcceptClock) {
			at = append(at, c.At)
		}
		return nil
	})
	return at, err
}

// checkStored checks that a call has as many usage rows as its audit row says, and that they belong to the records that
// the call's detail does not name.
func (v *verifier) checkStored(c *store.Call, others []store.LeftOut, stored uint32) {
	if n := bits.OnesCount32(stored); n != c.UsageRows {
		v.doubt(aboutCall(c), "call row %d: it wrote %d usage rows, but there are %d", c.Seq, c.UsageRows, n)
		return
	}
	all := stored
	for _, o := range others {
		if o.Index >= c.UsageRows+len(others) || stored&(1<<o.Index) != 0 {
			v.doubt(aboutCall(c), "call row %d: its record %d cannot have been left out", c.Seq, o.Index)
			return
		}
		all |= 1 << o.Index
	}
	if all&(all+1) != 0 {
		v.doubt(aboutCall(c), "call row %d: of its records some were neither stored nor left out", c.Seq)
	}
}

// countHours counts the rows of each hour, so that the hour's keys can be forgotten after the last of them.
func (v *verifier) countHours() error {
	return v.r.Hours(func(h metering.Hour) error {
		v.left[h]++
		return nil
	})
}

func (v *verifier) readTokens() error {
	return v.r.ClientTokens(func(t *store.ClientToken) error {
		if v.catalog.Workload(t.Key.Workload) == nil {
			v.doubt(fmt.Sprintf("workload %d", t.Key.Workload), "a ClientToken belongs to workload %d, which does not exist", t.Key.Workload)
		}
		v.tokenOf[t.Record] = t.Key.Workload // a record may have several tokens, but has one workload
		return nil
	})
}

func (v *verifier) checkUsage() error {
	return v.r.Usage(func(u *store.Usage) error {
		v.report.Records++
		if v.checkNumbers(u) {
			v.checkRecord(u)
		}
		v.checkAllocations(u)
		if u.ClientToken == "" {
			keys := v.keys[u.Hour]
			if keys == nil {
				keys = map[metering.Key]struct{}{}
				v.keys[u.Hour] = keys
			}
			before := len(keys)
			if keys[u.Key] = struct{}{}; len(keys) == before {
				v.problem("usage row %d: a row before it has the same key: hour %v, %+v", u.Seq, u.Hour, u.Key)
			}
		}
		if v.left[u.Hour]--; v.left[u.Hour] == 0 {
			delete(v.keys, u.Hour)
		}
		return nil
	})
}

// checkNumbers reports whether the row's numbers stand for rows of the catalogue that agree with each other.
func (v *verifier) checkNumbers(u *store.Usage) bool {
	k, agrees := &u.Key, true
	doubt := func(format string, args ...any) {
		agrees = false
		v.doubt(aboutUsage(u.Seq), format, args...)
	}
	if v.catalog.Region(k.Region) == nil {
		doubt("usage row %d: region %d does not exist", u.Seq, k.Region)
	}
	if v.catalog.Account(k.Buyer) == nil {
		doubt("usage row %d: its buyer, account %d, does not exist", u.Seq, k.Buyer)
	}
	if p := v.catalog.Product(k.Product); p == nil {
		doubt("usage row %d: product %d does not exist", u.Seq, k.Product)
	} else if n := len(p.Dimensions()); k.Dimension < 1 || int(k.Dimension) > n {
		doubt("usage row %d: dimension %d does not exist; product %d has %d", u.Seq, k.Dimension, k.Product, n)
	}
	if k.Agreement != 0 {
		if a := v.catalog.Agreement(k.Agreement); a == nil {
			doubt("usage row %d: agreement %d does not exist", u.Seq, k.Agreement)
		} else if a.Product != k.Product || a.Buyer != k.Buyer {
			doubt("usage row %d: agreement %d is for product %d and buyer %d, but the row for product %d and buyer %d", u.Seq, k.Agreement, a.Product, a.Buyer, k.Product, k.Buyer)
		}
	}
	agentCore := false
	if k.Workload != 0 {
		if w := v.catalog.Workload(k.Workload); w == nil {
			doubt("usage row %d: workload %d does not exist", u.Seq, k.Workload)
		} else {
			agentCore = w.Platform == metering.AgentCore
			if w.Account != k.Buyer || w.Region != k.Region {
				doubt("usage row %d: workload %d is of account %d in region %d, but the row of buyer %d in region %d", u.Seq, k.Workload, w.Account, w.Region, k.Buyer, k.Region)
			}
		}
	}
	if (u.Form == metering.ByLicense) != (k.Agreement != 0) || (u.Form == metering.ByWorkload) != (k.Workload != 0) {
		doubt("usage row %d: form %d does not go with agreement %d and workload %d", u.Seq, u.Form, k.Agreement, k.Workload)
	}
	if agentCore != (u.ClientToken != "") {
		doubt("usage row %d: a row has a client_token if its workload is an AgentCore runtime, and only then", u.Seq)
	}
	return agrees
}

// checkRecord compares a row with what callers were told of its record. It derives ids only where callers were told
// something.
func (v *verifier) checkRecord(u *store.Usage) {
	p := v.sums[u.Key.Product]
	if p == nil {
		p = &ProductSum{ProductCode: v.catalog.Product(u.Key.Product).Code}
		v.sums[u.Key.Product] = p
	}
	p.Records++
	p.Quantity += int64(u.Quantity)
	if v.ids == nil || len(v.toldOf) == 0 && (u.Key.Workload == 0 || len(v.tokenOf) == 0) {
		return
	}
	id := v.catalog.RecordIDOf(v.ids, &metering.Line{Key: u.Key, Hour: u.Hour}, u.ClientToken)
	delete(v.tokenOf, id)
	if told, ok := v.toldOf[id]; ok {
		if told != u.Quantity {
			v.problem("usage row %d: record %v was acknowledged with quantity %d but has %d", u.Seq, uuid.UUID(id), told, u.Quantity)
		}
		delete(v.toldOf, id)
	}
}

func (v *verifier) checkAllocations(u *store.Usage) {
	if u.Allocations == nil {
		return
	}
	allocations, err := metering.ParseAllocations(u.Allocations)
	if err != nil || !bytes.Equal(metering.AppendAllocations(nil, allocations), u.Allocations) {
		v.problem("usage row %d: its usage allocations are damaged", u.Seq)
		return
	}
	sum := int64(0)
	for _, a := range allocations {
		sum += int64(a.Quantity)
	}
	if sum != int64(u.Quantity) {
		v.problem("usage row %d: its usage allocations add up to %d, but its quantity is %d", u.Seq, sum, u.Quantity)
	}
}

// checkTokenUsage finds usage of AgentCore runtimes that was counted twice: rows with the same ClientToken. A token
// that is sent again after its life stands for new usage.
func (v *verifier) checkTokenUsage() error {
	const life = 24 * time.Hour
	type place struct {
		workload uint32
		token    string
		seq      int64
	}
	var before place
	var again [][2]place // rows with the token of the row before
	err := v.r.ClientTokenUsage(func(workload uint32, clientToken string, seq int64) error {
		p := place{workload, clientToken, seq}
		if p.workload == before.workload && p.token == before.token {
			again = append(again, [2]place{before, p})
		}
		before = p
		return nil
	})
	for _, p := range again {
		first, bad := v.callOfUsage(p[0].seq)
		second, bad2 := v.callOfUsage(p[1].seq)
		if err = errors.Join(err, bad, bad2); err != nil {
			return err
		}
		if first == nil || second == nil || second.At.Sub(first.At).Abs() < life {
			v.doubt(aboutUsage(p[1].seq), "usage row %d: row %d has the same ClientToken of workload %d", p[1].seq, p[0].seq, p[0].workload)
		}
	}
	return err
}

func (v *verifier) callOfUsage(seq int64) (*store.Call, error) {
	call, _ := store.CallOfUsage(seq)
	return v.r.Call(call)
}
