package crash_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/marketplacemetering"
	"github.com/aws/aws-sdk-go-v2/service/marketplacemetering/types"
	"github.com/meterd/meterd/internal/adminapi"
	"github.com/meterd/meterd/internal/process"
	"github.com/meterd/meterd/internal/sandbox"
)

// Buyers subscribe to the seller's SaaS products, beside those of the seeded sandbox.
func buyerAccount(n int) string { return fmt.Sprintf("7%011d", n) }
func buyerName(n int) string    { return fmt.Sprintf("crashbuyer%d", n) }
func licence(n int) string {
	return fmt.Sprintf("arn:aws:license-manager::%s:license:l-%032x", sandbox.Acme, 0xc0000+n)
}

// noon is the time by the ledger clock: in the middle of a month, so that no month closes.
var noon = func() time.Time {
	now := time.Now().UTC()
	return time.Date(now.Year(), now.Month()+1, 15, 12, 30, 0, 0, time.UTC)
}()

// furnish gives a new sandbox its time and its buyers.
func furnish(t *testing.T, m *meterd, buyers int) {
	t.Helper()
	frozen := true
	m.admin(t, "PUT", "/v1/clock", adminapi.ClockChange{Now: &noon, Frozen: &frozen}, &adminapi.Clock{})
	began := noon.AddDate(0, 0, -20)
	var market adminapi.Marketplace
	for n := range buyers {
		market.Buyers = append(market.Buyers, adminapi.Buyer{AccountID: buyerAccount(n), Agreements: []adminapi.Agreement{
			{ProductCode: sandbox.LegacySaaS, StartTime: &began, CustomerIdentifier: buyerName(n)},
			{ProductCode: sandbox.ConcurrentSaaS, StartTime: &began, LicenseARN: licence(n)},
		}})
	}
	var result adminapi.ImportResult
	m.admin(t, "POST", "/v1/import", market, &result)
	if result.Buyers != buyers || result.Agreements != 2*buyers {
		t.Fatalf("the import added %+v", result)
	}
}

// key is what a record is counted once for.
type key struct {
	region, product, subject, workload, dimension string
	hour                                          time.Time
	token                                         int64 // stands for the ClientToken where that is the key
}

// usage is one record as it is sent.
type usage struct {
	key
	quantity int32
}

// fact is what was acknowledged for a key.
type fact struct {
	quantity int32
	id       string
}

type total struct{ records, quantity int64 }

// form is a kind of record that a writer sends.
type form struct {
	product    string
	region     string
	dimensions []string
	workload   string // platform of the workload that sends it by MeterUsage; "" for BatchMeterUsage
}

var (
	legacy     = form{sandbox.LegacySaaS, "us-east-1", []string{"users", "gb"}, ""}
	concurrent = form{sandbox.ConcurrentSaaS, "us-east-1", []string{"requests", "storage_gb"}, ""}
	abroad     = form{sandbox.ConcurrentSaaS, "eu-west-1", []string{"requests", "storage_gb"}, ""}
	agent      = form{sandbox.Container, "us-east-1", []string{"vcpu_hours", "jobs"}, "agentcore"}
	container  = form{sandbox.Container, "us-east-1", []string{"vcpu_hours", "jobs"}, "ecs"}
)

// writer sends usage of one form, one call at a time, and remembers what it was told. No two writers have a key in
// common, so each knows exactly what there must be. It keeps its memory over restarts of meterd; connect tells it
// where meterd is.
type writer struct {
	form
	buyers int // for whom it sends
	rand   *rand.Rand
	client *marketplacemetering.Client

	workloadID string
	sent       int // keys that were used up
	acked      map[key]fact
	order      []key     // of acked, to draw from
	doubt      [][]usage // new records of calls whose outcome is unknown
	refused    [][]usage // new records of calls that were answered with "nothing was stored"
	why        error     // of the last call that was not answered
}

func newWriter(f form, buyers int, seed uint64) *writer {
	return &writer{form: f, buyers: buyers, rand: rand.New(rand.NewPCG(seed, 1)), acked: map[key]fact{}}
}

// whole sends each request with a body of its own. The SDK closes its body as soon as the answer begins; if the
// transport is not quite done with it then, it takes that for a failed write and cuts the connection under the answer.
type whole struct{ *http.Client }

func (c whole) Do(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	own := r.Clone(r.Context())
	own.Body = io.NopCloser(bytes.NewReader(body))
	return c.Client.Do(own)
}

func (w *writer) connect(t *testing.T, m *meterd) {
	t.Helper()
	seller := m.Sellers[slices.IndexFunc(m.Sellers, func(s sandbox.Seller) bool { return s.AccountID == sandbox.Acme })]
	id, secret, session := seller.AccessKeyID, seller.SecretAccessKey, ""
	if w.workload != "" {
		buyer := m.Buyers[slices.IndexFunc(m.Buyers, func(b sandbox.Buyer) bool { return b.AccountID == sandbox.BuyerA })]
		workload := buyer.Workloads[slices.IndexFunc(buyer.Workloads, func(l sandbox.Workload) bool { return l.Platform == w.workload })]
		id, secret, session = workload.AccessKeyID, workload.SecretAccessKey, workload.SessionToken
		w.workloadID = workload.ResourceID
	}
	w.client = marketplacemetering.New(marketplacemetering.Options{
		Region: w.region, BaseEndpoint: &m.Endpoint, HTTPClient: whole{m.client},
		Credentials:      credentials.NewStaticCredentialsProvider(id, secret, session),
		RetryMaxAttempts: 1, // each answer counts
	})
}

// fresh returns up to n records under keys that were not used before.
func (w *writer) fresh(n int) (records []usage) {
	for ; len(records) < n; w.sent++ {
		at, k := w.sent, key{region: w.region, product: w.product, workload: w.workloadID}
		k.dimension = w.dimensions[at%len(w.dimensions)]
		at /= len(w.dimensions)
		switch w.workload {
		case "":
			subject := at % w.buyers
			k.hour, k.subject = noon.Truncate(time.Hour).Add(-time.Duration(at/w.buyers)*time.Hour), buyerAccount(subject)
			if w.product == sandbox.ConcurrentSaaS {
				k.subject = licence(subject)
			}
			if at/w.buyers > 20 {
				return records // the window is full
			}
		case "agentcore":
			k.hour, k.subject, k.token = noon.Truncate(time.Hour), sandbox.BuyerA, int64(w.sent+1)
		default:
			k.hour, k.subject = noon.Truncate(time.Hour).Add(-time.Duration(at)*time.Hour), sandbox.BuyerA
			if at > 4 {
				return records
			}
		}
		quantity := 1 + w.rand.Int32N(1000)
		if k.token != 0 {
			quantity = int32(k.token) // so that the record tells its token
		}
		records = append(records, usage{k, quantity})
	}
	return records
}

// again returns up to n different records that were acknowledged before.
func (w *writer) again(n int) (records []usage) {
	for _, i := range w.rand.Perm(len(w.order))[:min(n, len(w.order))] {
		k := w.order[i]
		records = append(records, usage{k, w.acked[k].quantity})
	}
	return records
}

// conflicting returns up to n records with another quantity than was acknowledged.
func (w *writer) conflicting(n int) []usage {
	records := w.again(n)
	for i := range records {
		records[i].quantity++
	}
	return records
}

// mixed returns a batch of new records, replays and conflicts.
func (w *writer) mixed() []usage {
	old := w.again(15)
	for i := range old[:len(old)/3] {
		old[i].quantity++
	}
	records := append(w.fresh(10), old...)
	w.rand.Shuffle(len(records), func(i, j int) { records[i], records[j] = records[j], records[i] })
	return records
}

// next returns what to send next: mostly new records.
func (w *writer) next() []usage {
	n := 25
	if w.workload != "" {
		n = 1
	}
	switch draw := w.rand.IntN(10); {
	case draw < 2 && w.workload == "":
		return w.mixed()
	case draw < 2 && len(w.order) > 0:
		return w.conflicting(n)
	case draw < 4 && len(w.order) > 0:
		return w.again(n)
	}
	if records := w.fresh(n); len(records) > 0 {
		return records
	}
	return w.again(n)
}

// load sends without a pause until a call goes unanswered or the context ends, and calls each for every answer.
func (w *writer) load(ctx context.Context, each func()) error {
	for ; ctx.Err() == nil; each() {
		if answered, err := w.send(w.next()); err != nil || !answered {
			return err
		}
	}
	return nil
}

// send makes one call and judges its answer. It reports whether the call was answered with anything that settles its
// outcome; what is in doubt it notes. The error is an answer that should not have been.
func (w *writer) send(records []usage) (answered bool, err error) {
	var fresh []usage // by which the call's outcome can be told
	for _, u := range records {
		if _, known := w.acked[u.key]; !known {
			fresh = append(fresh, u)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), process.Patience)
	defer cancel()
	if w.workload != "" {
		err = w.meter(ctx, records[0])
	} else {
		err = w.batch(ctx, records)
	}
	if err != nil {
		w.why = err
	}
	var wrong *wrongAnswer
	var throttled *types.ThrottlingException
	switch {
	case err == nil:
		return true, nil
	case errors.As(err, &wrong):
		return true, err
	case ctx.Err() != nil:
		return false, fmt.Errorf("no answer in %v: %w", process.Patience, err)
	case errors.As(err, &throttled):
		w.refused = append(w.refused, fresh)
		return false, nil
	case isInternal(err) || !isAnswer(err):
		w.doubt = append(w.doubt, fresh)
		return false, nil
	}
	return true, err
}

// isInternal reports whether meterd answered that it does not know the outcome.
func isInternal(err error) bool {
	var e *types.InternalServiceErrorException
	return errors.As(err, &e)
}

// isAnswer reports whether the error came from meterd rather than from the connection.
func isAnswer(err error) bool {
	var e interface{ ErrorCode() string }
	return errors.As(err, &e)
}

// wrongAnswer is an answer that breaks the invariant.
type wrongAnswer struct{ text string }

func (e *wrongAnswer) Error() string { return e.text }

func wrongf(format string, args ...any) error { return &wrongAnswer{fmt.Sprintf(format, args...)} }

// settle compares what meterd said about a record with what it had said before, and remembers it.
func (w *writer) settle(u usage, duplicate bool, id string) error {
	known, replay := w.acked[u.key]
	switch {
	case id == "":
		return wrongf("%+v has no metering record id", u)
	case replay && id != known.id:
		return wrongf("%+v is answered with id %s, but was acknowledged as %+v", u, id, known)
	case duplicate != (replay && u.quantity != known.quantity):
		return wrongf("%+v is answered with duplicate = %v; acknowledged before: %v, as %+v", u, duplicate, replay, known)
	case !replay:
		w.acked[u.key] = fact{u.quantity, id}
		w.order = append(w.order, u.key)
	}
	return nil
}

func (w *writer) batch(ctx context.Context, records []usage) error {
	in := &marketplacemetering.BatchMeterUsageInput{}
	if w.product == sandbox.LegacySaaS {
		in.ProductCode = &w.product
	}
	byName := w.rand.IntN(2) == 0 // two names of one buyer, so two spellings of one key
	for i, u := range records {
		r := types.UsageRecord{Timestamp: new(u.hour.Add(time.Duration(i) * time.Minute)), Dimension: &records[i].dimension, Quantity: &records[i].quantity}
		if in.ProductCode == nil {
			r.LicenseArn = &records[i].subject
			var n int
			fmt.Sscanf(u.subject[len(u.subject)-8:], "%x", &n)
			r.CustomerAWSAccountId = new(buyerAccount(n - 0xc0000))
		} else if byName {
			n, _ := strconv.Atoi(u.subject[1:])
			r.CustomerIdentifier = new(buyerName(n))
		} else {
			r.CustomerAWSAccountId = &records[i].subject
		}
		in.UsageRecords = append(in.UsageRecords, r)
	}
	out, err := w.client.BatchMeterUsage(ctx, in)
	if err != nil {
		return err
	}
	if len(out.Results) != len(records) || len(out.UnprocessedRecords) != 0 {
		return wrongf("%d records were answered with %d results and %d unprocessed", len(records), len(out.Results), len(out.UnprocessedRecords))
	}
	for i, r := range out.Results {
		if r.Status != types.UsageRecordResultStatusSuccess && r.Status != types.UsageRecordResultStatusDuplicateRecord {
			return wrongf("%+v is answered with %s", records[i], r.Status)
		}
		id := ""
		if r.MeteringRecordId != nil {
			id = *r.MeteringRecordId
		}
		if err := w.settle(records[i], r.Status == types.UsageRecordResultStatusDuplicateRecord, id); err != nil {
			return err
		}
	}
	return nil
}

func (w *writer) meter(ctx context.Context, u usage) error {
	in := &marketplacemetering.MeterUsageInput{ProductCode: &w.product, Timestamp: new(u.hour.Add(time.Minute)), UsageDimension: &u.dimension, UsageQuantity: &u.quantity}
	if u.token != 0 {
		in.ClientToken = new(fmt.Sprint("crash-", u.token))
	} // else the SDK sends a fresh one and the hour decides
	out, err := w.client.MeterUsage(ctx, in)
	var duplicate *types.DuplicateRequestException
	var conflict *types.IdempotencyConflictException
	if errors.As(err, &duplicate) || errors.As(err, &conflict) {
		return w.settle(u, true, w.acked[u.key].id) // the refusal names no id
	}
	if err != nil {
		return err
	}
	return w.settle(u, false, *out.MeteringRecordId)
}

// reckoning is what was found about calls in doubt.
type reckoning struct{ acked, doubt, stored int }

// check compares everything that is stored with everything that was acknowledged, then sends all of it again, the
// calls in doubt too, and compares once more. Only writers may have written.
func check(t *testing.T, m *meterd, writers ...*writer) (r reckoning) {
	t.Helper()
	for _, w := range writers {
		w.connect(t, m)
	}
	stored := compare(t, m, writers)
	for _, w := range writers {
		r.acked += len(w.acked)
		for _, records := range w.doubt {
			present := 0
			for _, u := range records {
				if s, ok := stored[u.key]; ok {
					present++
					w.acked[u.key] = s // what is stored is what must be answered
					w.order = append(w.order, u.key)
				}
			}
			if present != 0 && present != len(records) {
				t.Errorf("a call without an answer stored %d of its %d new records", present, len(records))
			}
			if len(records) > 0 {
				r.doubt++
				if present > 0 {
					r.stored++
				}
			}
		}
		for _, records := range w.refused {
			for _, u := range records {
				if s, ok := stored[u.key]; ok {
					t.Errorf("%+v is stored as %+v, but its call was answered that nothing was", u, s)
				}
			}
		}
		n := 25
		if w.workload != "" {
			n = 1
		}
		again := slices.Collect(slices.Chunk(w.order, n))
		pending := append(w.doubt, w.refused...)
		w.doubt, w.refused = nil, nil
		for _, keys := range again {
			var records []usage
			for _, k := range keys {
				records = append(records, usage{k, w.acked[k].quantity})
			}
			w.mustSend(t, records)
		}
		w.mustSend(t, w.conflicting(n))
		for _, records := range pending {
			if len(records) > 0 {
				w.mustSend(t, records)
			}
		}
	}
	compare(t, m, writers)
	return r
}

// mustSend sends records and wants them answered as they were before.
func (w *writer) mustSend(t *testing.T, records []usage) {
	t.Helper()
	if len(records) == 0 {
		return
	}
	if answered, err := w.send(records); err != nil {
		t.Fatal(err)
	} else if !answered {
		t.Fatalf("a call of %d records got no answer: %v", len(records), w.why)
	}
}

// stored lists everything that is stored: no key and no id may be there twice.
func (m *meterd) stored(t *testing.T) map[key]fact {
	t.Helper()
	stored, ids := map[key]fact{}, map[string]key{}
	for _, r := range m.usage(t) {
		k := key{region: r.Region, product: r.ProductCode, subject: r.CustomerAWSAccountID, workload: r.Workload, dimension: r.Dimension, hour: r.Hour.UTC()}
		if r.LicenseARN != "" {
			k.subject = r.LicenseARN
		}
		if r.Platform == "agentcore" {
			k.token = r.Quantity
		}
		f := fact{int32(r.Quantity), r.MeteringRecordID}
		if other, twice := stored[k]; twice {
			t.Errorf("%+v is stored twice: as %+v and as %+v", k, other, f)
		}
		if other, twice := ids[f.id]; twice {
			t.Errorf("the id %s is that of %+v and of %+v", f.id, other, k)
		}
		stored[k], ids[f.id] = f, k
	}
	return stored
}

// compare lists everything that is stored, compares it with what the writers know, and has meterd sum it up.
func compare(t *testing.T, m *meterd, writers []*writer) map[key]fact {
	t.Helper()
	stored := m.stored(t)
	sums := map[[2]string]total{}
	for k, f := range stored {
		s := sums[[2]string{k.product, k.dimension}]
		sums[[2]string{k.product, k.dimension}] = total{s.records + 1, s.quantity + int64(f.quantity)}
	}
	expected := maps.Clone(stored)
	for _, w := range writers {
		for k, f := range w.acked {
			if got, ok := stored[k]; !ok {
				t.Errorf("%+v was acknowledged as %+v, but is not there", k, f)
			} else if got != f {
				t.Errorf("%+v was acknowledged as %+v, but is stored as %+v", k, f, got)
			}
			delete(expected, k)
		}
		for _, records := range w.doubt {
			for _, u := range records {
				if got, ok := stored[u.key]; ok && got.quantity != u.quantity {
					t.Errorf("%+v was sent, but it is stored as %+v", u, got)
				}
				delete(expected, u.key)
			}
		}
		for _, records := range w.refused {
			for _, u := range records {
				delete(expected, u.key) // check speaks of them
			}
		}
	}
	for k, f := range expected {
		t.Errorf("%+v is stored as %+v, but nobody sent it", k, f)
	}
	if got := m.sums(t); !maps.Equal(got, sums) {
		t.Errorf("the sums are %v, those of the records %v", got, sums)
	}
	if t.Failed() {
		t.FailNow()
	}
	return stored
}
