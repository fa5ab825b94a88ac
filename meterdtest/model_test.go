package meterdtest_test

import (
	"errors"
	"flag"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/marketplacemetering"
	"github.com/aws/smithy-go"
	"github.com/meterd/meterd"
	"github.com/meterd/meterd/meterdtest"
	"pgregory.net/rapid"
)

// TestModel drives a service and a small model of it, a map, with the same calls: new usage, replays, conflicts, usage
// that is too old or too early, over the ends of months, with a clock that goes both ways, agreements that end and
// begin, and restarts. After each step the sums must agree, and when it ends the ledger is verified.
func TestModel(t *testing.T) {
	// A check has a ledger on disk of its own, so a hundred would take long.
	if checks := flag.Lookup("rapid.checks"); checks.Value.String() == checks.DefValue {
		checks.Value.Set("15")
		defer checks.Value.Set(checks.DefValue)
	}
	rapid.Check(t, func(rt *rapid.T) {
		s := newModel(t, rt)
		defer func() { s.Close() }()
		rt.Repeat(map[string]func(*rapid.T){
			"":            s.compare,
			"batch":       s.batchLegacy,
			"licences":    s.batchConcurrent,
			"meter":       s.meter,
			"time":        s.advance,
			"unsubscribe": s.unsubscribe,
			"subscribe":   s.subscribe,
			"restart":     s.restart,
		})
	})
}

// stored is a record of the model.
type stored struct {
	quantity int32
	id       string
}

// remembered is a ClientToken of the model.
type remembered struct {
	parameters string
	id         string
	at         time.Time
}

type modelAgreement struct {
	id            string
	start, ending time.Time // ending is zero while it is open
}

// model is the service and what is known of it.
type model struct {
	*market
	config     meterdtest.Config
	now        time.Time
	began      time.Time         // of the agreements that are there from the start
	records    map[string]stored // :: subject, region, dimension, hour
	tokens     map[string]remembered
	agreements []modelAgreement // of buyer A for P1, the newest last
	sums       map[meterdtest.Usage]int64
}

func newModel(t *testing.T, rt *rapid.T) *model {
	start := rapid.SampledFrom([]string{"2026-11-23T15:20:00Z", "2026-11-30T22:30:00Z", "2026-12-01T05:10:00Z"}).Draw(rt, "start")
	s := &model{config: meterdtest.Config{Dir: t.TempDir()}, now: moment(t, start), records: map[string]stored{}, tokens: map[string]remembered{}, sums: map[meterdtest.Usage]int64{}}
	s.market = openMarket(t, start, s.config)
	s.began = s.now.AddDate(0, 0, -30)
	s.agreements = []modelAgreement{{s.subscription(s.a, P1).AgreementID, s.began, time.Time{}}}
	return s
}

// compare compares the sums.
func (s *model) compare(t *rapid.T) {
	all := int64(0)
	for u, want := range s.sums {
		all += want
		if got := s.Quantity(u); got != want {
			t.Fatalf("the sum of %+v is %d, the model's %d", u, got, want)
		}
	}
	if got := s.Quantity(meterdtest.Usage{}); got != all {
		t.Fatalf("the sum of everything is %d, the model's %d", got, all)
	}
	if got := s.Records(meterdtest.Usage{}); got != int64(len(s.records)) {
		t.Fatalf("%d records are stored, the model has %d", got, len(s.records))
	}
	if got := s.Clock.Now(); !got.Equal(s.now) {
		t.Fatalf("the clock shows %v, the model's %v", got, s.now)
	}
}

// timestamp draws one that is mostly inside the window.
func (s *model) timestamp(t *rapid.T) time.Time {
	hours := rapid.OneOf(rapid.IntRange(-6, 0), rapid.IntRange(-23, 0), rapid.IntRange(-23, 0), rapid.IntRange(-26, 1)).Draw(t, "hours")
	return s.now.Truncate(time.Hour).Add(time.Duration(hours)*time.Hour + time.Duration(rapid.IntRange(0, 59).Draw(t, "minutes"))*time.Minute)
}

func drawQuantity(t *rapid.T) int32 { return rapid.Int32Range(0, 3).Draw(t, "quantity") }

// inWindow tells whether BatchMeterUsage takes a timestamp.
func (s *model) inWindow(ts time.Time) bool {
	closed := (ts.Year() < s.now.Year() || ts.Month() < s.now.Month()) && (s.now.Day() > 1 || s.now.Hour() >= 6)
	return !closed && ts.After(s.now.Add(-24*time.Hour)) && !ts.After(s.now.Add(5*time.Minute))
}

// subscribed tells whether usage of P1 by buyer A is taken; before tells that it lies before an agreement.
func (s *model) subscribed(ts time.Time) (yes, before bool) {
	for _, a := range s.agreements {
		switch {
		case s.now.Before(a.start) || !a.ending.IsZero() && !s.now.Before(a.ending.Add(time.Hour)): // pending or ended
		case ts.Truncate(time.Hour).Before(a.start.Truncate(time.Hour)):
			before = true
		case a.ending.IsZero() || s.now.Before(a.ending) || !ts.After(a.ending):
			return true, false
		}
	}
	return false, before
}

// store decides a record as the model does.
func (s *model) store(key string, quantity int32, u meterdtest.Usage) (status string, known *stored) {
	if r, ok := s.records[key]; ok {
		if r.quantity == quantity {
			return success, &r
		}
		return duplicate, &r
	}
	s.records[key] = stored{quantity: quantity}
	s.sums[u] += int64(quantity)
	return success, nil
}

func hourOf(ts time.Time) string { return ts.Truncate(time.Hour).Format(time.RFC3339) }

// send meters a batch over the network or in process, and checks its answer against the model's.
func (s *model) send(t *rapid.T, region string, in *marketplacemetering.BatchMeterUsageInput, refusal string, decide func(i int) (status, key string, known *stored)) {
	c := s.Description.Sellers[0].Credentials
	var service meterd.Service = s.InProcess(c, "", region)
	if rapid.IntRange(0, 9).Draw(t, "over a network") == 0 {
		service = s.Client(c, "", region)
	}
	out, err := service.BatchMeterUsage(s.ctx, in, once)
	if got := code(t, err); got != refusal {
		t.Fatalf("the call gets %q (%v), the model says %q", got, err, refusal)
	}
	if err != nil {
		return
	}
	if len(out.Results) != len(in.UsageRecords) || len(out.UnprocessedRecords) != 0 {
		t.Fatalf("%d records get %d results, %d are unprocessed", len(in.UsageRecords), len(out.Results), len(out.UnprocessedRecords))
	}
	for i, r := range out.Results {
		status, key, known := decide(i)
		id := aws.ToString(r.MeteringRecordId)
		if string(r.Status) != status {
			t.Fatalf("record %d gets %s, the model says %s", i, r.Status, status)
		}
		switch {
		case status == notSubscribed && id != "":
			t.Fatalf("record %d, not stored, has the id %s", i, id)
		case known != nil && known.id != id:
			t.Fatalf("record %d has the id %s, before %s", i, id, known.id)
		case status == success && known == nil:
			s.named(t, key, id)
		}
	}
}

// named notes the id of a new record, which no other may have.
func (s *model) named(t *rapid.T, key, id string) {
	for other, r := range s.records {
		if r.id == id {
			t.Fatalf("%s and %s have the id %s", other, key, id)
		}
	}
	r := s.records[key]
	r.id = id
	s.records[key] = r
}

// code returns the code of an exception, "" for none.
func code(t *rapid.T, err error) string {
	var exception smithy.APIError
	if err == nil {
		return ""
	}
	if !errors.As(err, &exception) {
		t.Fatalf("no exception: %v", err)
	}
	return exception.ErrorCode()
}

func drawRegion(t *rapid.T) string {
	return rapid.SampledFrom([]string{"us-east-1", "us-east-1", "us-east-1", "eu-west-1"}).Draw(t, "region")
}

// batchLegacy meters P1 for buyers A and B.
func (s *model) batchLegacy(t *rapid.T) {
	region := drawRegion(t)
	byAccount := rapid.Bool().Draw(t, "by account")
	in := input(P1)
	refusal := ""
	for range rapid.IntRange(1, 6).Draw(t, "records") {
		w, a := account(s.b.AccountID), rapid.IntRange(0, 9).Draw(t, "buyer") > 0
		if a {
			w = account(s.a.AccountID)
		}
		if !byAccount {
			w, a = s.cust1(), true
		}
		ts := s.timestamp(t)
		in.UsageRecords = append(in.UsageRecords, s.record(w, rapid.SampledFrom([]string{"users", "gb"}).Draw(t, "dimension"), drawQuantity(t), ts.Format(time.RFC3339)))
		if _, before := s.subscribed(ts); !s.inWindow(ts) || a && before {
			refusal = "TimestampOutOfBoundsException"
		}
	}
	s.send(t, region, in, refusal, func(i int) (string, string, *stored) {
		r := &in.UsageRecords[i]
		if r.CustomerIdentifier == nil && *r.CustomerAWSAccountId == s.b.AccountID {
			return notSubscribed, "", nil
		}
		if yes, _ := s.subscribed(*r.Timestamp); !yes {
			return notSubscribed, "", nil
		}
		key := strings.Join([]string{"A P1", region, *r.Dimension, hourOf(*r.Timestamp)}, "/")
		status, known := s.store(key, *r.Quantity, meterdtest.Usage{ProductCode: P1, Dimension: *r.Dimension, Region: region})
		return status, key, known
	})
}

// batchConcurrent meters P2 for buyer A by its licence.
func (s *model) batchConcurrent(t *rapid.T) {
	region := drawRegion(t)
	in := input("")
	refusal := ""
	for range rapid.IntRange(1, 6).Draw(t, "records") {
		ts := s.timestamp(t)
		in.UsageRecords = append(in.UsageRecords, s.record(s.L1(), rapid.SampledFrom([]string{"requests", "storage_gb"}).Draw(t, "dimension"), drawQuantity(t), ts.Format(time.RFC3339)))
		if !s.inWindow(ts) {
			refusal = "TimestampOutOfBoundsException"
		}
	}
	s.send(t, region, in, refusal, func(i int) (string, string, *stored) {
		r := &in.UsageRecords[i]
		key := strings.Join([]string{*r.LicenseArn, region, *r.Dimension, hourOf(*r.Timestamp)}, "/")
		status, known := s.store(key, *r.Quantity, meterdtest.Usage{ProductCode: P2, Dimension: *r.Dimension, Region: region})
		return status, key, known
	})
}

// meter meters the container product from a workload.
func (s *model) meter(t *rapid.T) {
	platform := rapid.SampledFrom([]string{"ec2", "ecs", "agentcore"}).Draw(t, "platform")
	w := s.workload(s.a, platform, rapid.IntRange(0, 1).Draw(t, "workload"))
	ts := s.timestamp(t)
	in := s.jobs(drawQuantity(t), ts.Format(time.RFC3339))
	clientToken := fmt.Sprintf("token %d", rapid.IntRange(0, 5).Draw(t, "token"))
	in.ClientToken = &clientToken

	parameters := fmt.Sprint(*in.UsageQuantity, ts)
	tokenKey := w.ResourceID + "/" + clientToken
	key := strings.Join([]string{w.ResourceID, "jobs", hourOf(ts)}, "/")
	u := meterdtest.Usage{ProductCode: container, Workload: w.ResourceID}
	refusal, id := "", ""
	remember := true
	known, used := s.tokens[tokenKey]
	used = used && !known.at.Truncate(time.Hour).Before(s.now.Truncate(time.Hour).Add(-25*time.Hour))
	switch {
	case ts.Before(s.now.Add(-6*time.Hour)) || ts.After(s.now.Add(5*time.Minute)):
		refusal = "TimestampOutOfBoundsException"
	case used && known.parameters != parameters:
		refusal = "IdempotencyConflictException"
	case used:
		id, remember = known.id, false
	case platform == "agentcore":
		key = fmt.Sprintf("%s/%d", tokenKey, len(s.records)) // each adds up
		s.store(key, *in.UsageQuantity, u)
	default:
		status, before := s.store(key, *in.UsageQuantity, u)
		if before != nil {
			id = before.id
		}
		if status == duplicate {
			refusal = "DuplicateRequestException"
		}
	}
	out, err := s.InProcess(w.Credentials, w.SessionToken, w.Region).MeterUsage(s.ctx, in, once)
	if got := code(t, err); got != refusal {
		t.Fatalf("the call gets %q (%v), the model says %q", got, err, refusal)
	}
	if err != nil {
		return
	}
	got := aws.ToString(out.MeteringRecordId)
	if id == "" {
		id = got
		s.named(t, key, got)
	}
	if got != id {
		t.Fatalf("the id is %s, before %s", got, id)
	}
	if remember {
		s.tokens[tokenKey] = remembered{parameters, id, s.now}
	}
}

// advance moves the clock, but not so far that the agreements of the start would not hold.
func (s *model) advance(t *rapid.T) {
	minutes := rapid.OneOf(rapid.IntRange(0, 90), rapid.IntRange(-90, 90), rapid.IntRange(-40*60, 40*60)).Draw(t, "minutes")
	to := s.now.Add(time.Duration(minutes) * time.Minute)
	if to.Before(s.began.AddDate(0, 0, 10)) {
		to = s.began.AddDate(0, 0, 30)
	}
	s.now = to
	s.Clock.Set(to)
}

// unsubscribe begins to end buyer A's agreement for P1, if there is one that runs.
func (s *model) unsubscribe(t *rapid.T) {
	if rapid.IntRange(0, 2).Draw(t, "seldom") > 0 {
		return
	}
	a := &s.agreements[len(s.agreements)-1]
	if a.ending.IsZero() && !s.now.Before(a.start) {
		s.Unsubscribe(a.id)
		a.ending = s.now
	}
}

// subscribe makes a new agreement of buyer A for P1, once all others have begun to end.
func (s *model) subscribe(*rapid.T) {
	for _, a := range s.agreements {
		if a.ending.IsZero() || s.now.Before(a.ending) {
			return
		}
	}
	s.agreements = append(s.agreements, modelAgreement{s.Subscribe(P1, s.a.AccountID).AgreementID, s.now, time.Time{}})
}

// restart stops the service, which verifies its ledger, and starts it again.
func (s *model) restart(t *rapid.T) {
	if rapid.IntRange(0, 2).Draw(t, "seldom") == 0 {
		s.market = s.again(s.config)
	}
}
