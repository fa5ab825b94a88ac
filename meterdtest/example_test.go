package meterdtest_test

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/marketplacemetering"
	"github.com/aws/aws-sdk-go-v2/service/marketplacemetering/types"
	"github.com/aws/smithy-go"
	"github.com/meterd/meterd"
	"github.com/meterd/meterd/meterdtest"
)

// reporter stands for a program to be tested: it reports how many users each account had.
type reporter struct {
	service     meterd.Service // the SDK's client in production
	productCode string
}

// report meters the users of accounts at a time. It returns the accounts that are not subscribed, and an error if
// anything has to be reported again.
func (r *reporter) report(ctx context.Context, at time.Time, users map[string]int32) (notSubscribed []string, err error) {
	in := &marketplacemetering.BatchMeterUsageInput{ProductCode: &r.productCode}
	for account, n := range users {
		in.UsageRecords = append(in.UsageRecords, types.UsageRecord{CustomerAWSAccountId: &account, Dimension: aws.String("users"), Quantity: &n, Timestamp: &at})
	}
	out, err := r.service.BatchMeterUsage(ctx, in)
	if err != nil {
		return nil, err
	}
	for _, result := range out.Results {
		switch result.Status {
		case types.UsageRecordResultStatusCustomerNotSubscribed:
			notSubscribed = append(notSubscribed, *result.UsageRecord.CustomerAWSAccountId)
		case types.UsageRecordResultStatusDuplicateRecord:
			err = errors.Join(err, fmt.Errorf("account %s had another count before", *result.UsageRecord.CustomerAWSAccountId))
		}
	}
	if n := len(out.UnprocessedRecords); n > 0 {
		err = errors.Join(err, fmt.Errorf("%d records were not processed", n))
	}
	return notSubscribed, err
}

func ExampleNew() {
	var t *testing.T // of your test

	srv := meterdtest.New(t, meterdtest.Config{Now: time.Date(2026, 11, 23, 15, 20, 0, 0, time.UTC)})
	product, buyer := srv.Description.Products[0], srv.Description.Buyers[0]
	r := &reporter{service: srv.Seller("Acme"), productCode: product.ProductCode}
	if _, err := r.report(context.Background(), srv.Clock.Now(), map[string]int32{buyer.AccountID: 3}); err != nil {
		t.Fatal(err)
	}
	if got := srv.Quantity(meterdtest.Usage{Dimension: "users"}); got != 3 {
		t.Errorf("metered %d users, want 3", got)
	}

	srv.Clock.Advance(25 * time.Hour) // it is too late for that hour now
	if _, err := r.report(context.Background(), srv.Clock.Now().Add(-25*time.Hour), map[string]int32{buyer.AccountID: 3}); err == nil {
		t.Error("usage of yesterday was taken")
	}
}

// TestReporter is the test that the program would have: the service over a network and in process, its clock, its
// refusals and its faults.
func TestReporter(t *testing.T) {
	fails := 0
	srv := meterdtest.New(t, meterdtest.Config{
		Now: time.Date(2026, 11, 23, 15, 20, 0, 0, time.UTC),
		Unprocessed: func(productCode, dimension string, quantity int32) bool {
			fails--
			return fails >= 0
		},
	})
	seller, product := srv.Description.Sellers[0], srv.Description.Products[0]
	subscribed, stranger := srv.Description.Buyers[0].AccountID, srv.Description.Buyers[1].AccountID
	for i, service := range []meterd.Service{srv.Seller("Acme"), srv.InProcess(seller.Credentials, "", "")} {
		r := &reporter{service, product.ProductCode}
		at := srv.Clock.Now()
		for range 2 { // the second time changes nothing
			refused, err := r.report(t.Context(), at, map[string]int32{subscribed: 3, stranger: 4})
			if err != nil || !slices.Equal(refused, []string{stranger}) {
				t.Errorf("refused %v, error %v", refused, err)
			}
		}
		if _, err := r.report(t.Context(), at, map[string]int32{subscribed: 5}); err == nil {
			t.Error("another count for the same hour is no error")
		}
		fails = 1
		if _, err := r.report(t.Context(), at.Add(-time.Hour), map[string]int32{subscribed: 2}); err == nil {
			t.Error("records that were not processed are no error")
		}
		if _, err := r.report(t.Context(), at.Add(-time.Hour), map[string]int32{subscribed: 2}); err != nil {
			t.Errorf("when they are sent again: %v", err)
		}
		if got, want := srv.Quantity(meterdtest.Usage{CustomerAWSAccountID: subscribed}), int64(5*(i+1)); got != want {
			t.Errorf("metered %d users, want %d", got, want)
		}
		srv.Clock.Advance(24 * time.Hour)
		_, err := r.report(t.Context(), at, map[string]int32{subscribed: 3})
		if tooOld := (*types.TimestampOutOfBoundsException)(nil); !errors.As(err, &tooOld) {
			t.Errorf("a day later: %v", err)
		}
	}
}

// requestID is a request id where a message names it.
var requestID = regexp.MustCompile("request id [0-9a-f-]{36}")

// In process the service answers as over a network: the same requests get the same answers.
func TestInProcess(t *testing.T) {
	m := openMarket(t, "", meterdtest.Config{})
	seller := m.Description.Sellers[0]
	task, agent := m.workload(m.a, "ecs", 0), m.workload(m.a, "agentcore", 0)
	service := func(inProcess bool, c meterdtest.Credentials, session, region string) meterd.Service {
		if inProcess {
			return m.InProcess(c, session, region)
		}
		return m.Client(c, session, region)
	}
	answers := func(inProcess bool) (all []string) {
		note := func(answer string, err error) {
			var exception smithy.APIError
			if errors.As(err, &exception) {
				answer = requestID.ReplaceAllString(exception.ErrorCode()+": "+exception.ErrorMessage(), "request id")
			} else if err != nil {
				t.Fatal(err)
			}
			all = append(all, answer)
		}
		for _, region := range []string{"", "eu-west-1", "ca-west-1"} {
			s := service(inProcess, seller.Credentials, "", region)
			for _, in := range []*marketplacemetering.BatchMeterUsageInput{
				input(P1), input(P1, m.users(3, "14:10")), input(P1, m.users(4, "14:10")), input(P1, m.users(4, "18:10")), input("", m.record(m.L1(), "requests", 3, "14:10"))} {
				out, err := s.BatchMeterUsage(t.Context(), in, once)
				if err != nil {
					note("", err)
					continue
				}
				for _, r := range out.Results {
					note(aws.ToString(r.MeteringRecordId)+" "+string(r.Status), nil)
				}
			}
			out, err := s.ResolveCustomer(t.Context(), &marketplacemetering.ResolveCustomerInput{RegistrationToken: aws.String(m.subscription(m.a, P1).RegistrationToken)}, once)
			if err == nil {
				note(aws.ToString(out.CustomerIdentifier)+aws.ToString(out.LicenseArn), nil)
			} else {
				note("", err)
			}
		}
		for _, w := range []meterdtest.Workload{task, agent} {
			s := service(inProcess, w.Credentials, w.SessionToken, "")
			for _, in := range []*marketplacemetering.MeterUsageInput{token(m.jobs(4, "14:10"), "t"), token(m.jobs(5, "14:10"), "t"), m.jobs(5, "01:10")} {
				out, err := s.MeterUsage(t.Context(), in, once)
				if err == nil {
					note(aws.ToString(out.MeteringRecordId), nil)
				} else {
					note("", err)
				}
			}
			out, err := s.RegisterUsage(t.Context(), registration(2, "n"), once)
			if err == nil {
				m.verifyRegistration(aws.ToString(out.Signature), 2, "n") // the signature itself is a new one each time
				note("registered", nil)
			} else {
				note("", err)
			}
		}
		wrong := service(inProcess, meterdtest.Credentials{AccessKeyID: seller.AccessKeyID, SecretAccessKey: "guessed"}, "", "")
		_, err := wrong.BatchMeterUsage(t.Context(), input(P1), once)
		note("", err)
		return all
	}
	over, within := answers(false), answers(true)
	if !slices.Equal(over, within) {
		t.Errorf("over a network:\n%q\nin process:\n%q", over, within)
	}
	if len(over) < 20 {
		t.Errorf("only %d answers were compared", len(over))
	}
	m.sum(meterdtest.Usage{}, 2*(3+3)+2*4)
}

// Close stops and verifies the service, once.
func TestClose(t *testing.T) {
	srv := meterdtest.New(t)
	in := input(P1, types.UsageRecord{CustomerAWSAccountId: aws.String(srv.Description.Buyers[0].AccountID), Dimension: aws.String("users"), Timestamp: aws.Time(srv.Clock.Now()), Quantity: aws.Int32(3)})
	if _, err := srv.Seller("Acme").BatchMeterUsage(t.Context(), in); err != nil {
		t.Error(err) // the clock of a server without Now is that of signatures
	}
	srv.Close()
	srv.Close()
	if _, err := srv.Seller("Acme").BatchMeterUsage(t.Context(), in, once); err == nil {
		t.Error("a server that was closed answers")
	}
	c := srv.Description.Sellers[0].Credentials
	_, err := srv.InProcess(c, "", "").BatchMeterUsage(t.Context(), in, once)
	refused(t, err, "ThrottlingException", 400)
}
