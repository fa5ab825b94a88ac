package wire_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"reflect"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/marketplacemetering"
	"github.com/aws/aws-sdk-go-v2/service/marketplacemetering/types"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/meterd/meterd/internal/metering"
	"github.com/meterd/meterd/internal/wire"
)

// These tests speak with the AWS SDK for Go: what it sends is decoded here, what
// is encoded here it must understand.

// sdk returns the SDK's client, its requests answered by answer.
func sdk(t *testing.T, answer func(op string, body []byte) (status int, response []byte)) *marketplacemetering.Client {
	return marketplacemetering.New(marketplacemetering.Options{
		Region:  "us-east-1",
		Retryer: aws.NopRetryer{},
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "AKIDEXAMPLE", SecretAccessKey: "secret"}, nil
		}),
		HTTPClient: roundTrip(func(r *http.Request) (*http.Response, error) {
			op, ok := metering.OperationOfTarget(r.Header.Get("X-Amz-Target"))
			if !ok || r.Method != http.MethodPost || r.Header.Get("Content-Type") != wire.ContentType {
				t.Errorf("the SDK sent %s with %v", r.Method, r.Header)
			}
			body, err := io.ReadAll(r.Body)
			if err != nil {
				return nil, err
			}
			status, response := answer(op.String(), body)
			return &http.Response{StatusCode: status, Header: http.Header{"Content-Type": {wire.ContentType}}, Body: io.NopCloser(bytes.NewReader(response))}, nil
		}),
	})
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) Do(r *http.Request) (*http.Response, error) { return f(r) }

// sdkValues ignores the SDK's unexported markers and the metadata of a call.
var sdkValues = cmp.Options{
	cmpopts.IgnoreUnexported(types.UsageRecord{}, types.UsageAllocation{}, types.Tag{}, types.UsageRecordResult{},
		marketplacemetering.BatchMeterUsageOutput{}, marketplacemetering.MeterUsageOutput{}, marketplacemetering.RegisterUsageOutput{}, marketplacemetering.ResolveCustomerOutput{}),
	cmpopts.IgnoreFields(marketplacemetering.BatchMeterUsageOutput{}, "ResultMetadata"),
	cmpopts.IgnoreFields(marketplacemetering.MeterUsageOutput{}, "ResultMetadata"),
	cmpopts.IgnoreFields(marketplacemetering.RegisterUsageOutput{}, "ResultMetadata"),
	cmpopts.IgnoreFields(marketplacemetering.ResolveCustomerOutput{}, "ResultMetadata"),
}

var (
	milli = time.Date(2026, 11, 23, 16, 4, 5, 123e6, time.UTC)
	whole = time.Date(2026, 11, 23, 16, 0, 0, 0, time.UTC)
)

func TestSDKBatchMeterUsage(t *testing.T) {
	records := []types.UsageRecord{
		{Timestamp: &milli, Dimension: aws.String("users"), CustomerIdentifier: aws.String("ifAPi5AcF3"), Quantity: aws.Int32(7),
			UsageAllocations: []types.UsageAllocation{
				{AllocatedUsageQuantity: aws.Int32(3), Tags: []types.Tag{{Key: aws.String("Business Unit"), Value: aws.String(`"R\D"`)}, {Key: aws.String("é"), Value: aws.String("<&>")}}},
				{AllocatedUsageQuantity: aws.Int32(4)},
			}},
		{Timestamp: &whole, Dimension: aws.String("gb"), CustomerAWSAccountId: aws.String("111122223333"), LicenseArn: aws.String("arn:aws:license-manager::123456789012:license:l-0"), Quantity: aws.Int32(0)},
		{Timestamp: aws.Time(milli.Add(477 * time.Millisecond)), Dimension: aws.String("req"), CustomerAWSAccountId: aws.String("444455556666"), Quantity: aws.Int32(2147483647)},
	}
	decoded := wire.BatchMeterUsageInput{
		ProductCode: "cqcvf9f0ugw8rkbgmf1c9dxyz", Count: 3,
		UsageRecords: []wire.UsageRecord{
			{Timestamp: milli.UnixMilli(), HasTimestamp: true, Dimension: "users", CustomerIdentifier: "ifAPi5AcF3", Quantity: 7,
				UsageAllocations: []wire.UsageAllocation{
					{AllocatedUsageQuantity: 3, HasQuantity: true, Tags: []wire.Tag{{Key: "Business Unit", Value: `"R\D"`}, {Key: "é", Value: "<&>"}}},
					{AllocatedUsageQuantity: 4, HasQuantity: true},
				}},
			{Timestamp: whole.UnixMilli(), HasTimestamp: true, Dimension: "gb", CustomerAWSAccountID: "111122223333", LicenseARN: "arn:aws:license-manager::123456789012:license:l-0"},
			{Timestamp: milli.UnixMilli() + 477, HasTimestamp: true, Dimension: "req", CustomerAWSAccountID: "444455556666", Quantity: 2147483647},
		},
	}
	client := sdk(t, func(op string, body []byte) (int, []byte) {
		var in wire.BatchMeterUsageInput
		if err := in.Decode(body); err != nil || op != "BatchMeterUsage" {
			t.Errorf("%s %s: %v", op, body, err)
		}
		if diff := cmp.Diff(in, decoded, exported); diff != "" {
			t.Errorf("%s: -got+want:\n%s", body, diff)
		}
		out := wire.BatchMeterUsageOutput{
			Results: []wire.UsageRecordResult{
				{UsageRecord: in.UsageRecords[0], MeteringRecordID: someID, HasMeteringRecordID: true, Status: "Success"},
				{UsageRecord: in.UsageRecords[1], MeteringRecordID: someID, HasMeteringRecordID: true, Status: "DuplicateRecord"},
				{UsageRecord: in.UsageRecords[2], Status: "CustomerNotSubscribed"},
			},
			UnprocessedRecords: in.UsageRecords,
		}
		return 200, out.Append(nil)
	})
	got, err := client.BatchMeterUsage(t.Context(), &marketplacemetering.BatchMeterUsageInput{ProductCode: aws.String("cqcvf9f0ugw8rkbgmf1c9dxyz"), UsageRecords: records})
	if err != nil {
		t.Fatal(err)
	}
	id := aws.String("35155d37-56cb-423f-8554-5c4f3e3ff56d")
	want := &marketplacemetering.BatchMeterUsageOutput{
		Results: []types.UsageRecordResult{
			{UsageRecord: &records[0], MeteringRecordId: id, Status: types.UsageRecordResultStatusSuccess},
			{UsageRecord: &records[1], MeteringRecordId: id, Status: types.UsageRecordResultStatusDuplicateRecord},
			{UsageRecord: &records[2], Status: types.UsageRecordResultStatusCustomerNotSubscribed},
		},
		UnprocessedRecords: records,
	}
	if diff := cmp.Diff(got, want, sdkValues); diff != "" {
		t.Errorf("the SDK understood: -got+want:\n%s", diff)
	}
}

func TestSDKEmptyLists(t *testing.T) {
	client := sdk(t, func(_ string, body []byte) (int, []byte) {
		var in wire.BatchMeterUsageInput
		if err := in.Decode(body); err != nil || in.UsageRecords == nil || in.Count != 0 || in.ProductCode != "" {
			t.Errorf("%s: %+v, %v", body, in, err)
		}
		return 200, new(wire.BatchMeterUsageOutput).Append(nil)
	})
	got, err := client.BatchMeterUsage(t.Context(), &marketplacemetering.BatchMeterUsageInput{UsageRecords: []types.UsageRecord{}})
	if err != nil || got.Results == nil || len(got.Results) != 0 || got.UnprocessedRecords == nil || len(got.UnprocessedRecords) != 0 {
		t.Errorf("the SDK understood %+v, %v", got, err)
	}
}

func TestSDKMeterUsage(t *testing.T) {
	var in wire.MeterUsageInput
	client := sdk(t, func(op string, body []byte) (int, []byte) {
		if err := in.Decode(body); err != nil || op != "MeterUsage" {
			t.Errorf("%s %s: %v", op, body, err)
		}
		return 200, (&wire.MeterUsageOutput{MeteringRecordID: someID}).Append(nil)
	})
	for _, token := range []*string{aws.String("token"), nil} {
		got, err := client.MeterUsage(t.Context(), &marketplacemetering.MeterUsageInput{
			ProductCode: aws.String("p"), Timestamp: &milli, UsageDimension: aws.String("users"), UsageQuantity: aws.Int32(5), DryRun: aws.Bool(true), ClientToken: token,
			UsageAllocations: []types.UsageAllocation{{AllocatedUsageQuantity: aws.Int32(5)}},
		})
		if err != nil {
			t.Fatal(err)
		}
		want := wire.MeterUsageInput{
			ProductCode: "p", HasProductCode: true, Timestamp: milli.UnixMilli(), HasTimestamp: true, UsageDimension: "users", UsageQuantity: 5, DryRun: true, ClientToken: "token", HasClientToken: true,
			UsageAllocations: []wire.UsageAllocation{{AllocatedUsageQuantity: 5, HasQuantity: true}},
		}
		if token == nil { // the SDK draws one
			if len(in.ClientToken) != 36 {
				t.Errorf("ClientToken %q", in.ClientToken)
			}
			want.ClientToken = in.ClientToken
		}
		if diff := cmp.Diff(in, want, exported); diff != "" {
			t.Errorf("-got+want:\n%s", diff)
		}
		if diff := cmp.Diff(got, &marketplacemetering.MeterUsageOutput{MeteringRecordId: aws.String(someID.String())}, sdkValues); diff != "" {
			t.Errorf("the SDK understood: -got+want:\n%s", diff)
		}
	}
}

func TestSDKRegisterUsage(t *testing.T) {
	for _, tc := range []struct {
		out  wire.RegisterUsageOutput
		want marketplacemetering.RegisterUsageOutput
	}{
		{wire.RegisterUsageOutput{Signature: "a.b.c"}, marketplacemetering.RegisterUsageOutput{Signature: aws.String("a.b.c")}},
		{wire.RegisterUsageOutput{Signature: "a.b.c", PublicKeyRotationTimestamp: whole.UnixMilli()},
			marketplacemetering.RegisterUsageOutput{Signature: aws.String("a.b.c"), PublicKeyRotationTimestamp: &whole}},
	} {
		client := sdk(t, func(op string, body []byte) (int, []byte) {
			var in wire.RegisterUsageInput
			err := in.Decode(body)
			want := wire.RegisterUsageInput{ProductCode: "p", HasProductCode: true, PublicKeyVersion: 2, HasPublicKeyVersion: true, Nonce: "n", HasNonce: true}
			if err != nil || op != "RegisterUsage" || in != want {
				t.Errorf("%s %s: %+v, %v", op, body, in, err)
			}
			return 200, tc.out.Append(nil)
		})
		got, err := client.RegisterUsage(t.Context(), &marketplacemetering.RegisterUsageInput{ProductCode: aws.String("p"), PublicKeyVersion: aws.Int32(2), Nonce: aws.String("n")})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(got, &tc.want, sdkValues); diff != "" {
			t.Errorf("the SDK understood: -got+want:\n%s", diff)
		}
	}
}

func TestSDKResolveCustomer(t *testing.T) {
	for _, tc := range []struct {
		out  wire.ResolveCustomerOutput
		want marketplacemetering.ResolveCustomerOutput
	}{
		{wire.ResolveCustomerOutput{CustomerIdentifier: "c", ProductCode: "p", CustomerAWSAccountID: "111122223333", LicenseARN: "l"},
			marketplacemetering.ResolveCustomerOutput{CustomerIdentifier: aws.String("c"), ProductCode: aws.String("p"), CustomerAWSAccountId: aws.String("111122223333"), LicenseArn: aws.String("l")}},
		{wire.ResolveCustomerOutput{ProductCode: "p", CustomerAWSAccountID: "111122223333"},
			marketplacemetering.ResolveCustomerOutput{ProductCode: aws.String("p"), CustomerAWSAccountId: aws.String("111122223333")}},
	} {
		client := sdk(t, func(op string, body []byte) (int, []byte) {
			var in wire.ResolveCustomerInput
			if err := in.Decode(body); err != nil || op != "ResolveCustomer" || in.RegistrationToken != "a+b/c==" {
				t.Errorf("%s %s: %+v, %v", op, body, in, err)
			}
			return 200, tc.out.Append(nil)
		})
		got, err := client.ResolveCustomer(t.Context(), &marketplacemetering.ResolveCustomerInput{RegistrationToken: aws.String("a+b/c==")})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(got, &tc.want, sdkValues); diff != "" {
			t.Errorf("the SDK understood: -got+want:\n%s", diff)
		}
	}
}

// All modelled exceptions, and the statuses they are sent with (metering-api 1.8 to 1.12).
var exceptions = []struct {
	status int
	want   error
}{
	{400, &types.CustomerNotEntitledException{}},
	{400, &types.DisabledApiException{}},
	{400, &types.DuplicateRequestException{}},
	{400, &types.ExpiredTokenException{}},
	{409, &types.IdempotencyConflictException{}},
	{500, &types.InternalServiceErrorException{}},
	{400, &types.InvalidCustomerIdentifierException{}},
	{400, &types.InvalidEndpointRegionException{}},
	{400, &types.InvalidLicenseException{}},
	{400, &types.InvalidProductCodeException{}},
	{400, &types.InvalidPublicKeyVersionException{}},
	{400, &types.InvalidRegionException{}},
	{400, &types.InvalidTagException{}},
	{400, &types.InvalidTokenException{}},
	{400, &types.InvalidUsageAllocationsException{}},
	{400, &types.InvalidUsageDimensionException{}},
	{400, &types.PlatformNotSupportedException{}},
	{400, &types.ThrottlingException{}},
	{400, &types.TimestampOutOfBoundsException{}},
}

func TestSDKExceptions(t *testing.T) {
	const message = "UsageRecords[3].Dimension: \"ü\\\n\" is unknown"
	for _, e := range exceptions {
		want := reflect.TypeOf(e.want) // *types.SomeException
		name := want.Elem().Name()
		client := sdk(t, func(string, []byte) (int, []byte) { return e.status, wire.AppendException(nil, name, message) })
		_, err := client.ResolveCustomer(t.Context(), &marketplacemetering.ResolveCustomerInput{RegistrationToken: aws.String("t")})
		got := reflect.New(want)
		if !errors.As(err, got.Interface()) {
			t.Errorf("%s: the SDK understood %v", name, err)
		} else if text := got.Elem().Interface().(interface{ ErrorMessage() string }).ErrorMessage(); text != message {
			t.Errorf("%s: the SDK read %q", name, text)
		}
	}
}

// Exceptions outside the model come through by their code.
func TestSDKCommonExceptions(t *testing.T) {
	for _, name := range []string{"SerializationException", "ValidationException", "UnknownOperationException", "AccessDeniedException", "InvalidSignatureException", "DryRunOperation"} {
		client := sdk(t, func(string, []byte) (int, []byte) { return 400, wire.AppendException(nil, name, "why") })
		_, err := client.ResolveCustomer(t.Context(), &marketplacemetering.ResolveCustomerInput{RegistrationToken: aws.String("t")})
		var got interface {
			ErrorCode() string
			ErrorMessage() string
		}
		if !errors.As(err, &got) || got.ErrorCode() != name || got.ErrorMessage() != "why" {
			t.Errorf("%s: the SDK understood %v", name, err)
		}
	}
}
