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
// that is too old or too early, calls at once, over the ends of months, with a clock that goes both ways, agreements and
// licences that end and begin, and restarts. After each step the sums must agree, and when it ends the ledger is verified.
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
			"together":    s.together,
			"time":        s.advance,
			"unsubscribe": s.unsubscribe,
			"subscribe":   s.subscribe,
			"license":     s.license,
			"give up":     s.giveUp,
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
	id, licence   string
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
	licences   []modelAgreement // of buyer A for P2
	sums       map[meterdtest.Usage]int64
}

func newModel(t *testing.T, rt *rapid.T) *model {
	start := rapid.SampledFrom([]string{"2026-11-23T15:20:00Z", "2026-11-30T22:30:00Z", "2026-12-01T05:10:00Z"}).Draw(rt, "start")
	s := &model{config: meterdtest.Config{Dir: t.TempDir()}, now: moment(t, start), records: map[string]stored{}, tokens: map[string]remembered{}, sums: map[meterdtest.Usage]int64{}}
	s.market = openMarket(t, start, s.config)
	s.began = s.now.AddDate(0, 0, -30)
	s.agreements, s.licences = []modelAgreement{s.agreement(s.subscription(s.a, P1), s.began)}, []modelAgreement{s.agreement(s.subscription(s.a, P2), s.began)}
	return s
}

func (s *model) agreement(a meterdtest.Subscription, start time.Time) modelAgreement {
	return modelAgreement{id: a.AgreementID, licence: a.LicenseARN, start: start}
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
	hours := rapid.OneOf(rapid.IntRange(-1, 0), rapid.IntRange(-6, 0), rapid.IntRange(-23, 0), rapid.IntRange(-23, 0), rapid.IntRange(-26, 1)).Draw(t, "hours")
	return s.now.Truncate(time.Hour).Add(time.Duration(hours)*time.Hour + time.Duration(rapid.IntRange(0, 59).Draw(t, "minutes"))*time.Minute)
}

func drawQuantity(t *rapid.T) int32 { return rapid.Int32Range(0, 3).Draw(t, "quantity") }

// inWindow reports whether BatchMeterUsage takes a timestamp.
func (s *model) inWindow(ts time.Time) bool {
	closed := (ts.Year() < s.now.Year() || ts.Month() < s.now.Month()) && (s.now.Day() > 1 || s.now.Hour() >= 6)
	return !closed && ts.After(s.now.Add(-24*time.Hour)) && !ts.After(s.now.Add(5*time.Minute))
}

// subscribed reports whether usage of P1 by buyer A is taken; before tells that it lies before an agreement.
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

// licensed reports whether usage by a licence is taken, and with which exception it is refused.
func (s *model) licensed(a *modelAgreement, ts time.Time) (yes bool, refusal string) {
	ending := !a.ending.IsZero() && !s.now.Before(a.ending)
	switch {
	case ending && !s.now.Before(a.ending.Add(time.Hour)):
		return false, ""
	case !ending && s.now.Before(a.start), ts.Truncate(time.Hour).Before(a.start.Truncate(time.Hour)), ending && ts.After(a.ending):
		return false, "InvalidLicenseException"
	}
	return true, ""
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

// batchConcurrent meters P2 for buyer A by its licences.
func (s *model) batchConcurrent(t *rapid.T) {
	region := drawRegion(t)
	in := input("")
	refusal := ""
	var licences []*modelAgreement
	for range rapid.IntRange(1, 6).Draw(t, "records") {
		a, ts := s.drawLicence(t), s.timestamp(t)
		licences = append(licences, a)
		in.UsageRecords = append(in.UsageRecords, s.record(licence(a.licence, s.a.AccountID), rapid.SampledFrom([]string{"requests", "storage_gb"}).Draw(t, "dimension"), drawQuantity(t), ts.Format(time.RFC3339)))
		if refusal != "" {
			continue // the first fault is told
		}
		if _, refusal = s.licensed(a, ts); !s.inWindow(ts) {
			refusal = "TimestampOutOfBoundsException"
		}
	}
	s.send(t, region, in, refusal, func(i int) (string, string, *stored) {
		r := &in.UsageRecords[i]
		if yes, _ := s.licensed(licences[i], *r.Timestamp); !yes {
			return notSubscribed, "", nil
		}
		key := strings.Join([]string{*r.LicenseArn, region, *r.Dimension, hourOf(*r.Timestamp)}, "/")
		status, known := s.store(key, *r.Quantity, meterdtest.Usage{ProductCode: P2, Dimension: *r.Dimension, Region: region})
		return status, key, known
	})
}

func (s *model) drawLicence(t *rapid.T) *modelAgreement {
	return &s.licences[rapid.IntRange(0, len(s.licences)-1).Draw(t, "licence")]
}

// meter meters the container product from a workload.
func (s *model) meter(t *rapid.T) {
	platform := rapid.SampledFrom([]string{"ec2", "ecs", "agentcore"}).Draw(t, "platform")
	w := s.workload(s.a, platform, rapid.IntRange(0, 1).Draw(t, "workload"))
	ts := s.timestamp(t)
	in := s.jobs(drawQuantity(t), ts.Format(time.RFC3339))
	clientToken := fmt.Sprintf("token %d", rapid.IntRange(-3, 5).Draw(t, "token"))
	if strings.HasPrefix(clientToken, "token -") {
		clientToken = fmt.Sprintf("of the SDK %d", len(s.tokens)) // which makes one that is not used again
	} else {
		in.ClientToken = &clientToken
	}

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
	s.agreements = append(s.agreements, s.agreement(s.Subscribe(P1, s.a.AccountID), s.now))
}

// license gives buyer A one more licence for P2.
func (s *model) license(*rapid.T) {
	if len(s.licences) < 4 {
		s.licences = append(s.licences, s.agreement(s.Subscribe(P2, s.a.AccountID), s.now))
	}
}

// giveUp begins to end one of buyer A's licences, some time ago when it returns.
func (s *model) giveUp(t *rapid.T) {
	if a := s.drawLicence(t); a.ending.IsZero() && !s.now.Before(a.start) {
		s.Unsubscribe(a.id)
		a.ending = s.now
		s.now = s.now.Add(20 * time.Minute)
		s.Clock.Set(s.now)
	}
}

// claim is a record that is sent at once with others.
type claim struct {
	key      string
	usage    meterdtest.Usage
	quantity int32
	status   string // once it is answered
	id       string
}

// together makes calls at once, on few keys. Of the quantities that are sent for a new key one counts, whichever it
// is; of a key that was known before, what is known.
func (s *model) together(t *rapid.T) {
	region := drawRegion(t)
	seller := s.Description.Sellers[0].Credentials
	var calls []func() error
	var claims []*claim
	for range rapid.IntRange(2, 6).Draw(t, "calls") {
		var call func() error
		var made []*claim
		switch kind := rapid.SampledFrom([]string{"account", "customer", "licence", "workload"}).Draw(t, "kind"); kind {
		case "workload":
			w, ts, quantity := s.workload(s.a, "ecs", 0), s.recent(t), drawQuantity(t)
			in, service := s.jobs(quantity, ts.Format(time.RFC3339)), s.InProcess(w.Credentials, w.SessionToken, w.Region)
			c := &claim{key: strings.Join([]string{w.ResourceID, "jobs", hourOf(ts)}, "/"), usage: meterdtest.Usage{ProductCode: container, Workload: w.ResourceID}, quantity: quantity}
			made = []*claim{c}
			call = func() error {
				out, err := service.MeterUsage(s.ctx, in, once)
				var exception smithy.APIError
				if errors.As(err, &exception) && exception.ErrorCode() == "DuplicateRequestException" {
					c.status = duplicate
					return nil
				}
				if err == nil {
					c.status, c.id = success, aws.ToString(out.MeteringRecordId)
				}
				return err
			}
		default:
			code, dimension, names := P1, "users", customer(s.subscription(s.a, P1).CustomerIdentifier)
			in := input(P1)
			if kind == "account" {
				names = account(s.a.AccountID)
			}
			subject, taken := "A P1", func(ts time.Time) bool { yes, _ := s.subscribed(ts); return yes }
			if kind == "licence" {
				a := s.drawLicence(t)
				code, dimension, names, in, subject = P2, "requests", licence(a.licence, s.a.AccountID), input(""), a.licence
				taken = func(ts time.Time) bool { yes, _ := s.licensed(a, ts); return yes }
			}
			for range rapid.IntRange(1, 3).Draw(t, "records") {
				ts, quantity := s.recent(t), drawQuantity(t)
				if !s.inWindow(ts) || !taken(ts) {
					continue
				}
				in.UsageRecords = append(in.UsageRecords, s.record(names, dimension, quantity, ts.Format(time.RFC3339)))
				made = append(made, &claim{key: strings.Join([]string{subject, region, dimension, hourOf(ts)}, "/"), usage: meterdtest.Usage{ProductCode: code, Dimension: dimension, Region: region}, quantity: quantity})
			}
			service := s.InProcess(seller, "", region)
			call = func() error {
				out, err := service.BatchMeterUsage(s.ctx, in, once)
				if err == nil && len(out.Results) != len(made) {
					err = fmt.Errorf("%d records get %d results", len(made), len(out.Results))
				}
				for i := range made {
					if err == nil {
						made[i].status, made[i].id = string(out.Results[i].Status), aws.ToString(out.Results[i].MeteringRecordId)
					}
				}
				return err
			}
		}
		if len(made) > 0 {
			calls, claims = append(calls, call), append(claims, made...)
		}
	}
	errs := make(chan error)
	for _, call := range calls {
		go func() { errs <- call() }()
	}
	for range calls {
		if err := <-errs; err != nil {
			t.Errorf("a call at once with others: %v", err)
		}
	}
	for _, c := range claims { // the ones that count first
		if _, known := s.records[c.key]; !known && c.status == success {
			s.store(c.key, c.quantity, c.usage)
			s.named(t, c.key, c.id)
		}
	}
	for _, c := range claims {
		known, ok := s.records[c.key]
		switch {
		case !ok:
			t.Fatalf("no quantity of %s counts", c.key)
		case (c.status == success) != (c.quantity == known.quantity) || c.status != success && c.status != duplicate:
			t.Fatalf("%d for %s gets %s; what counts is %d", c.quantity, c.key, c.status, known.quantity)
		case c.id != known.id && c.id != "":
			t.Fatalf("%s has the ids %s and %s", c.key, known.id, c.id)
		}
	}
}

// recent is a timestamp of few hours, none too late for any call.
func (s *model) recent(t *rapid.T) time.Time {
	return s.now.Add(-time.Duration(rapid.IntRange(0, 2).Draw(t, "hours ago")) * time.Hour)
}

// restart stops the service, which verifies its ledger, and starts it again.
func (s *model) restart(t *rapid.T) {
	if rapid.IntRange(0, 2).Draw(t, "seldom") == 0 {
		s.market = s.again(s.config)
	}
}
