package meterdtest_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/marketplacemetering"
	"github.com/aws/aws-sdk-go-v2/service/marketplacemetering/types"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/meterd/meterd/internal/adminapi"
	"github.com/meterd/meterd/internal/sandbox"
	"github.com/meterd/meterd/meterdtest"
)

// The products of the table: P1 is the legacy product, P2 the one with concurrent agreements.
const (
	P1        = sandbox.LegacySaaS
	P2        = sandbox.ConcurrentSaaS
	container = sandbox.Container
	hourly    = sandbox.Hourly
)

const (
	success       = "Success"
	duplicate     = "DuplicateRecord"
	notSubscribed = "CustomerNotSubscribed"
)

// market is a running service with what most rows of the table need of it.
type market struct {
	*meterdtest.Server
	t       *testing.T
	ctx     context.Context
	seller  *marketplacemetering.Client // publishes P1 and P2
	a, b, c meterdtest.Buyer            // subscribed; known but not subscribed; whose agreements have ended
}

// openMarket starts a service whose clock stands still at now, 2026-11-23T15:20:00Z if empty.
func openMarket(t *testing.T, now string, config meterdtest.Config) *market {
	t.Helper()
	if now == "" {
		now = "2026-11-23T15:20:00Z"
	}
	config.Now = moment(t, now)
	m := &market{Server: meterdtest.New(t, config), t: t, ctx: t.Context()}
	m.seller = m.Seller("Acme")
	for _, b := range m.Description.Buyers {
		switch b.AccountID {
		case sandbox.BuyerA:
			m.a = b
		case sandbox.BuyerB:
			m.b = b
		case sandbox.BuyerC:
			m.c = b
		}
	}
	return m
}

// moment reads "14:10", of the table's day, or an RFC 3339 time.
func moment(t testing.TB, s string) time.Time {
	t.Helper()
	if len(s) == len("14:10") {
		s = "2026-11-23T" + s + ":00Z"
	}
	when, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		t.Fatal(err)
	}
	return when
}

// once keeps a client from trying again.
func once(o *marketplacemetering.Options) { o.RetryMaxAttempts = 1 }

// impatient lets a client try again as the SDK does by default, but without waiting.
func impatient(o *marketplacemetering.Options) {
	o.Retryer = retry.NewStandard(func(o *retry.StandardOptions) {
		o.Backoff = retry.BackoffDelayerFunc(func(int, error) (time.Duration, error) { return 0, nil })
	})
}

// who names the buyer of a record.
type who func(*types.UsageRecord)

func customer(identifier string) who {
	return func(r *types.UsageRecord) { r.CustomerIdentifier = aws.String(identifier) }
}

func account(id string) who {
	return func(r *types.UsageRecord) { r.CustomerAWSAccountId = aws.String(id) }
}

func licence(arn, accountID string) who {
	return func(r *types.UsageRecord) {
		r.LicenseArn, r.CustomerAWSAccountId = aws.String(arn), aws.String(accountID)
	}
}

// cust1 is buyer A by its customer identifier for P1, and L1 buyer A by its licence for P2.
func (m *market) cust1() who { return customer(m.subscription(m.a, P1).CustomerIdentifier) }
func (m *market) L1() who    { return licence(m.subscription(m.a, P2).LicenseARN, m.a.AccountID) }

func (m *market) subscription(b meterdtest.Buyer, productCode string) meterdtest.Subscription {
	m.t.Helper()
	for _, s := range b.Subscriptions {
		if s.ProductCode == productCode {
			return s
		}
	}
	m.t.Fatalf("%s has no agreement for %s", b.Name, productCode)
	return meterdtest.Subscription{}
}

func (m *market) product(code string) meterdtest.Product {
	m.t.Helper()
	for _, p := range m.Description.Products {
		if p.ProductCode == code {
			return p
		}
	}
	m.t.Fatalf("there is no product %s", code)
	return meterdtest.Product{}
}

// record returns a usage record; at is as in moment.
func (m *market) record(w who, dimension string, quantity int32, at string) types.UsageRecord {
	r := types.UsageRecord{Dimension: aws.String(dimension), Timestamp: aws.Time(moment(m.t, at)), Quantity: aws.Int32(quantity)}
	w(&r)
	return r
}

// users is the record that most rows send: buyer A's users on P1.
func (m *market) users(quantity int32, at string) types.UsageRecord {
	return m.record(m.cust1(), "users", quantity, at)
}

func input(productCode string, records ...types.UsageRecord) *marketplacemetering.BatchMeterUsageInput {
	in := &marketplacemetering.BatchMeterUsageInput{UsageRecords: append([]types.UsageRecord{}, records...)}
	if productCode != "" {
		in.ProductCode = aws.String(productCode)
	}
	return in
}

// results are those of a call whose records were all processed.
type results []types.UsageRecordResult

// batch meters records as the seller, and checks that they are echoed, in order, as they were sent.
func (m *market) batch(productCode string, records ...types.UsageRecord) results {
	m.t.Helper()
	return m.batchAs(m.seller, productCode, records...)
}

func (m *market) batchAs(seller *marketplacemetering.Client, productCode string, records ...types.UsageRecord) results {
	m.t.Helper()
	out, err := seller.BatchMeterUsage(m.ctx, input(productCode, records...), once)
	if err != nil {
		m.t.Fatal(err)
	}
	if out.UnprocessedRecords == nil || len(out.UnprocessedRecords) != 0 {
		m.t.Errorf("UnprocessedRecords is %v, want an empty list", out.UnprocessedRecords)
	}
	if len(out.Results) != len(records) {
		m.t.Fatalf("%d records got %d results", len(records), len(out.Results))
	}
	for i, r := range out.Results {
		sent := records[i]
		if sent.Quantity == nil {
			sent.Quantity = aws.Int32(0)
		}
		if diff := cmp.Diff(&sent, r.UsageRecord, cmpopts.IgnoreUnexported(types.UsageRecord{}, types.UsageAllocation{}, types.Tag{})); diff != "" {
			m.t.Errorf("record %d is not echoed as it was sent: %s", i, diff)
		}
		if id := aws.ToString(r.MeteringRecordId); r.Status == success && !uuid.MatchString(id) {
			m.t.Errorf("record %d has the id %q", i, id)
		}
	}
	return out.Results
}

var uuid = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)

// statuses returns the statuses, separated by spaces.
func (r results) statuses() string {
	var s []string
	for i := range r {
		s = append(s, string(r[i].Status))
	}
	return strings.Join(s, " ")
}

// want checks the statuses.
func (m *market) want(r results, statuses ...string) results {
	m.t.Helper()
	if got, want := r.statuses(), strings.Join(statuses, " "); got != want {
		m.t.Errorf("statuses are %s, want %s", got, want)
	}
	return r
}

// id returns the id of the i-th record.
func (r results) id(i int) string { return aws.ToString(r[i].MeteringRecordId) }

// same checks whether two ids are the same one.
func (m *market) same(want bool, a, b string) {
	m.t.Helper()
	if (a == b) != want {
		m.t.Errorf("ids %s and %s: same should be %v", a, b, want)
	}
}

// sum checks what is stored in all.
func (m *market) sum(u meterdtest.Usage, quantity int64) {
	m.t.Helper()
	if got := m.Quantity(u); got != quantity {
		m.t.Errorf("the sum of %+v is %d, want %d", u, got, quantity)
	}
}

// nothing checks that no usage is stored at all.
func (m *market) nothing() {
	m.t.Helper()
	if n := m.Records(meterdtest.Usage{}); n != 0 {
		m.t.Errorf("%d records are stored", n)
	}
}

// refuse meters records as the seller and checks how that is refused.
func (m *market) refuse(code string, productCode string, records ...types.UsageRecord) {
	m.t.Helper()
	before := m.Records(meterdtest.Usage{})
	_, err := m.seller.BatchMeterUsage(m.ctx, input(productCode, records...), once)
	refused(m.t, err, code, 400)
	if after := m.Records(meterdtest.Usage{}); after != before {
		m.t.Errorf("%d records were stored", after-before)
	}
}

// refused checks an exception: its code, its HTTP status and words of its message.
func refused(t testing.TB, err error, code string, status int, words ...string) {
	t.Helper()
	var exception smithy.APIError
	var response *smithyhttp.ResponseError
	switch {
	case err == nil:
		t.Errorf("it is taken; want %s", code)
	case !errors.As(err, &exception) || !errors.As(err, &response):
		t.Errorf("%v is no exception of the service; want %s", err, code)
	case exception.ErrorCode() != code || response.HTTPStatusCode() != status:
		t.Errorf("%d %s: %s; want %d %s", response.HTTPStatusCode(), exception.ErrorCode(), exception.ErrorMessage(), status, code)
	case exception.ErrorMessage() == "":
		t.Errorf("%s has no message", code)
	default:
		for _, w := range words {
			if !strings.Contains(exception.ErrorMessage(), w) {
				t.Errorf("%s: the message %q lacks %q", code, exception.ErrorMessage(), w)
			}
		}
	}
}

// jobs returns usage of the container product.
func (m *market) jobs(quantity int32, at string) *marketplacemetering.MeterUsageInput {
	return &marketplacemetering.MeterUsageInput{ProductCode: aws.String(container), UsageDimension: aws.String("jobs"), UsageQuantity: aws.Int32(quantity),
		Timestamp: aws.Time(moment(m.t, at))}
}

// token sets the ClientToken; without, the SDK makes one for each call.
func token(in *marketplacemetering.MeterUsageInput, t string) *marketplacemetering.MeterUsageInput {
	in.ClientToken = aws.String(t)
	return in
}

// meter meters usage as a workload and returns the record's id.
func (m *market) meter(workload *marketplacemetering.Client, in *marketplacemetering.MeterUsageInput) string {
	m.t.Helper()
	out, err := workload.MeterUsage(m.ctx, in, once)
	if err != nil {
		m.t.Fatal(err)
	}
	id := aws.ToString(out.MeteringRecordId)
	if !uuid.MatchString(id) {
		m.t.Errorf("MeteringRecordId is %q", id)
	}
	return id
}

// meterRefused meters usage as a workload and checks how that is refused.
func (m *market) meterRefused(workload *marketplacemetering.Client, in *marketplacemetering.MeterUsageInput, code string, status int, words ...string) {
	m.t.Helper()
	before := m.Records(meterdtest.Usage{})
	_, err := workload.MeterUsage(m.ctx, in, once)
	refused(m.t, err, code, status, words...)
	if after := m.Records(meterdtest.Usage{}); after != before {
		m.t.Errorf("%d records were stored", after-before)
	}
}

// dryRun tries usage as a workload, which must be told that it would be taken.
func (m *market) dryRun(workload *marketplacemetering.Client, in *marketplacemetering.MeterUsageInput) {
	m.t.Helper()
	tried := *in
	tried.DryRun = aws.Bool(true)
	out, err := workload.MeterUsage(m.ctx, &tried, once)
	if err != nil {
		m.t.Error(err)
	} else if id := aws.ToString(out.MeteringRecordId); id != "DryRunOperation" {
		m.t.Errorf("MeteringRecordId of a dry run is %q", id)
	}
}

func registration(version int32, nonce string) *marketplacemetering.RegisterUsageInput {
	in := &marketplacemetering.RegisterUsageInput{ProductCode: aws.String(hourly), PublicKeyVersion: aws.Int32(version)}
	if nonce != "" {
		in.Nonce = aws.String(nonce)
	}
	return in
}

func (m *market) register(workload *marketplacemetering.Client, in *marketplacemetering.RegisterUsageInput) *marketplacemetering.RegisterUsageOutput {
	m.t.Helper()
	out, err := workload.RegisterUsage(m.ctx, in, once)
	if err != nil {
		m.t.Fatal(err)
	}
	return out
}

func (m *market) resolve(seller *marketplacemetering.Client, token string) (*marketplacemetering.ResolveCustomerOutput, error) {
	return seller.ResolveCustomer(m.ctx, &marketplacemetering.ResolveCustomerInput{RegistrationToken: aws.String(token)}, once)
}

// workload returns buyer A's n-th workload on the platform.
func (m *market) workload(b meterdtest.Buyer, platform string, n int) meterdtest.Workload {
	m.t.Helper()
	for _, w := range b.Workloads {
		if w.Platform == platform {
			if n == 0 {
				return w
			}
			n--
		}
	}
	m.t.Fatalf("%s has no such workload on %s", b.Name, platform)
	return meterdtest.Workload{}
}

// newWorkload makes a workload and returns its client.
func (m *market) newWorkload(accountID, platform, resource, region string) *marketplacemetering.Client {
	m.t.Helper()
	c, err := adminapi.CreateWorkloadCredentials.Do(m.ctx, m.admin(), adminapi.WorkloadRequest{Workload: adminapi.Workload{AccountID: accountID, Platform: platform, ResourceID: resource, Region: region}})
	if err != nil {
		m.t.Fatal(err)
	}
	return m.Client(meterdtest.Credentials{AccessKeyID: c.AccessKeyID, SecretAccessKey: c.SecretAccessKey}, c.SessionToken, region)
}

// admin returns a client of the admin API, for what the test's server has no method for.
func (m *market) admin() *adminapi.Client {
	return adminapi.New(m.AdminURL, m.Description.AdminToken)
}

// raw is a request that no SDK would send; the zero value of a member is what an SDK would.
type raw struct {
	target, contentType string
	credentials         meterdtest.Credentials
	sessionToken        string
	region, service     string
}

// answer is what comes back.
type answer struct {
	status  int
	header  http.Header
	body    string
	members map[string]json.RawMessage
	code    string // __type
	message string
}

// send signs a body, for the operation unless another target is given, and returns the answer.
func (m *market) send(r raw, operation, body string) answer {
	m.t.Helper()
	if r.target == "" {
		r.target = "AWSMPMeteringService." + operation
	}
	if r.contentType == "" {
		r.contentType = "application/x-amz-json-1.1"
	}
	if r.credentials.AccessKeyID == "" {
		r.credentials = m.Description.Sellers[0].Credentials
	}
	if r.region == "" {
		r.region = m.Description.Region
	}
	if r.service == "" {
		r.service = "aws-marketplace"
	}
	request, err := http.NewRequestWithContext(m.ctx, http.MethodPost, m.URL, strings.NewReader(body))
	if err != nil {
		m.t.Fatal(err)
	}
	request.Header.Set("Content-Type", r.contentType)
	request.Header.Set("X-Amz-Target", r.target)
	hash := sha256.Sum256([]byte(body))
	credentials := aws.Credentials{AccessKeyID: r.credentials.AccessKeyID, SecretAccessKey: r.credentials.SecretAccessKey, SessionToken: r.sessionToken}
	if err := v4.NewSigner().SignHTTP(m.ctx, credentials, request, hex.EncodeToString(hash[:]), r.service, r.region, time.Now()); err != nil {
		m.t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		m.t.Fatal(err)
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		m.t.Fatal(err)
	}
	a := answer{status: response.StatusCode, header: response.Header, body: string(content)}
	if err := json.NewDecoder(bytes.NewReader(content)).Decode(&a.members); err != nil {
		m.t.Errorf("the answer %q is no JSON object: %v", content, err)
	}
	json.Unmarshal(a.members["__type"], &a.code)
	json.Unmarshal(a.members["message"], &a.message)
	if got := response.Header.Get("Content-Type"); got != "application/x-amz-json-1.1" {
		m.t.Errorf("Content-Type of the answer is %q", got)
	}
	if response.Header.Get("X-Amzn-Requestid") == "" {
		m.t.Error("the answer has no x-amzn-RequestId")
	}
	return a
}

// sendRefused sends a body and checks how it is refused.
func (m *market) sendRefused(r raw, operation, body, code string, status int, words ...string) {
	m.t.Helper()
	a := m.send(r, operation, body)
	if a.code != code || a.status != status || a.message == "" {
		m.t.Errorf("%s: %d %s; want %d %s", operation, a.status, a.body, status, code)
	}
	for _, w := range words {
		if !strings.Contains(a.message, w) {
			m.t.Errorf("%s: the message %q lacks %q", code, a.message, w)
		}
	}
}

// as signs with a workload's session.
func as(w meterdtest.Workload) raw {
	return raw{credentials: w.Credentials, sessionToken: w.SessionToken, region: w.Region}
}
