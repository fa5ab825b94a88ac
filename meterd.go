// Package meterd is the protocol of the AWS Marketplace Metering Service as a
// Go interface.
//
// The program meterd is that service as software anyone can run. AWS SDKs in
// every language and the AWS CLI use it unchanged: set
// AWS_ENDPOINT_URL_MARKETPLACE_METERING to the address where it listens. This
// package says what the service does, in the types of the AWS SDK for Go v2,
// so that the SDK's client is a [Service] and a program written against
// Service cannot tell AWS from meterd.
//
// # Words
//
// They are AWS's own, with five of ours.
//
// A seller publishes a product, known by its product code. A product has
// dimensions, the things it counts ("users", "gb"); their names are
// case-sensitive. A buyer subscribes to a product by an agreement, which grants
// a licence. What the buyer consumed is sent as usage records: so much of one
// dimension, by one buyer, at one time. A record may be split into usage
// allocations, each with its tags, so that the buyer can divide the cost. Every
// record that is stored has a metering record id.
//
// An hour is a UTC hour, from minute 0 up to the next minute 0. The subject of
// a record is whom it is counted for: the licence where the record names one,
// otherwise the product and the buyer together, whichever of the buyer's
// identifiers was sent. A workload is the EC2 instance, ECS task, EKS pod or
// AgentCore runtime in which a product runs at the buyer's. The window is the
// span of time still open for records. The sandbox is what "meterd dev" runs: a
// marketplace already filled, with a clock that can be moved.
//
// A product is of one of two kinds. A record for a Concurrent-Agreements
// product, the only kind of SaaS product that can be created since June 2026,
// names product and agreement together in LicenseArn, beside
// CustomerAWSAccountId, and the call has no ProductCode. A legacy product is
// named in ProductCode, and the buyer in CustomerAWSAccountId or
// CustomerIdentifier (one of them, never both). It also takes LicenseArn, but
// not both forms in one call; and as the two forms have different subjects, the
// same usage sent once in each is counted twice.
//
// # Units
//
// A quantity is a whole number of the dimension's units, 0 to 2147483647; left
// out, it is 0. Zero is a quantity like any other: it is stored, and it takes
// the hour. A timestamp is UTC and has milliseconds. An account id is 12
// digits. Sizes are bytes, lengths are characters.
//
// # What is counted once
//
// The quantity stored for a key never changes. The first record to arrive under
// a key is the one that counts; the same quantity again is answered with the
// same metering record id and changes nothing, so that every call can be
// retried; another quantity is refused. The keys are:
//
//	BatchMeterUsage               region, subject, dimension, hour
//	MeterUsage, EC2 ECS EKS       region, product, buyer, workload, dimension, hour
//	MeterUsage, AgentCore         workload, ClientToken
//
// The region is the one the request was signed for. Quantities of different
// keys add up.
//
// # Windows
//
// BatchMeterUsage takes records younger than [BatchMeterUsageWindow]. A record
// of last month must moreover arrive within [MonthCloseGrace] after the month's
// end, that is before 06:00 UTC on the 1st. MeterUsage takes records up to
// [MeterUsageWindow] old. Both allow a clock that is fast by [FutureTolerance].
// When an agreement ends, its last records are taken for [FinalUsagePeriod].
//
// # Errors
//
// An error is one of the exceptions in
// [github.com/aws/aws-sdk-go-v2/service/marketplacemetering/types], which
// errors.As finds, or a [github.com/aws/smithy-go.APIError] whose ErrorCode is
// one of the codes that the service's model leaves out:
//
//	ValidationException            a list or field of a wrong length or range
//	SerializationException         not JSON, a wrong type, a fraction, a number beyond 32 bits
//	RequestEntityTooLargeException a body larger than MaxRequestBytes (HTTP 413)
//	UnauthorizedException          a dry run by a caller who may not do this
//	AccessDeniedException          the caller may not do this
//	UnrecognizedClientException    unknown access key or session token
//	InvalidSignatureException      signed with a wrong secret, service, region or date
//
// Its message says which field broke which rule, and how to mend it.
// ThrottlingException and InternalServiceErrorException are passing: the SDKs
// retry them, and may, because of the keys above. An
// InternalServiceErrorException leaves open whether the usage was stored; the
// retry settles it.
//
// A nil error from BatchMeterUsage does not mean that each record was accepted:
// every result has a Status of its own.
//
// # Sources
//
// The service's model (2016-01-14, as in version 1.42.0 of the SDK), the AWS
// Marketplace API Reference and the AWS Marketplace Seller Guide. The comments
// below are the rules that meterd keeps by default; where AWS leaves a choice
// open, meterd has a setting.
package meterd

import (
	"context"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/marketplacemetering"
)

// Service is the AWS Marketplace Metering Service: AWS's own, or a meterd.
//
// Every method may be called from many goroutines at once. A call whose context
// ends has an unknown outcome; made again, it is counted once.
type Service interface {
	// BatchMeterUsage stores usage that a seller measured: up to
	// [MaxUsageRecords] records of one product, for any of its buyers. The
	// caller is the seller's account.
	//
	// On success every record is in exactly one of two lists. Those in Results
	// are decided, in the order sent and echoed as sent, each with a Status:
	//
	//   - Success: stored, now or by an earlier call. MeteringRecordId names it.
	//   - DuplicateRecord: another quantity is already stored under this key,
	//     and stays. MeteringRecordId names that record.
	//   - CustomerNotSubscribed: the buyer has no agreement for the product that
	//     is active, or ended less than [FinalUsagePeriod] ago. Not stored.
	//
	// Those in UnprocessedRecords were not decided, for a passing reason; send
	// them again.
	//
	// An error is about the call as a whole, and then none of its records is
	// stored:
	//
	//   - DisabledApiException: the service is not offered in this region.
	//   - InternalServiceErrorException: a fault of the service; retry.
	//   - InvalidCustomerIdentifierException: no such CustomerIdentifier, or a
	//     record that names its buyer in two ways or in none.
	//   - InvalidLicenseException: a LicenseArn that does not exist or is
	//     another buyer's, usage outside the licence's time, or licences of two
	//     products in one call.
	//   - InvalidProductCodeException: a product that the caller does not
	//     publish, or the wrong form for it (ProductCode with LicenseArn,
	//     neither, or ProductCode for a Concurrent-Agreements product).
	//   - InvalidTagException: more than [MaxTags] tags, or a tag that is
	//     repeated or not well-formed.
	//   - InvalidUsageAllocationsException: allocations that do not sum up to
	//     the quantity, or two of them with the same set of tags.
	//   - InvalidUsageDimensionException: not a dimension of the product.
	//   - ThrottlingException: too many calls; retry later.
	//   - TimestampOutOfBoundsException: a record outside the window, or from
	//     before the agreement began.
	//
	// Source: API Reference, BatchMeterUsage; Seller Guide, "Metering for usage".
	BatchMeterUsage(context.Context, *marketplacemetering.BatchMeterUsageInput, ...func(*marketplacemetering.Options)) (*marketplacemetering.BatchMeterUsageOutput, error)

	// MeterUsage stores usage of one dimension that a product measured where it
	// runs. The caller is a workload of the buyer, by its temporary credentials.
	//
	// On EC2, ECS and EKS a workload sends at most one quantity for each
	// dimension and hour. On AgentCore it may send many: each ClientToken
	// counts, and is required. SDKs since October 2025 fill in a fresh
	// ClientToken where the caller gives none. A token is remembered for
	// [ClientTokenLife] at least.
	//
	// With DryRun nothing is stored. If the call would have been accepted the
	// answer is a MeteringRecordId of DryRunOperation, else what the call would
	// have got, with UnauthorizedException for a caller who lacks the
	// permission. (AWS's text can be read otherwise; setting dry-run of meterd
	// makes an error with the code DryRunOperation of the first.)
	//
	// A workload that was entitled at its first call remains so for its life.
	//
	// Errors, after which nothing is stored:
	//
	//   - CustomerNotEntitledException: the buyer is not subscribed.
	//   - DuplicateRequestException: another quantity is already stored under
	//     this key, and stays.
	//   - IdempotencyConflictException: the ClientToken came before, with other
	//     parameters. The only exception with HTTP status 409.
	//   - InternalServiceErrorException: a fault of the service; retry.
	//   - InvalidEndpointRegionException: not the region the workload runs in.
	//   - InvalidProductCodeException: no such product.
	//   - InvalidTagException, InvalidUsageAllocationsException,
	//     InvalidUsageDimensionException: as for BatchMeterUsage.
	//   - ThrottlingException: too many calls; retry later.
	//   - TimestampOutOfBoundsException: outside the window.
	//
	// Source: API Reference, MeterUsage; Seller Guide, "Custom metering for
	// container products".
	MeterUsage(context.Context, *marketplacemetering.MeterUsageInput, ...func(*marketplacemetering.Options)) (*marketplacemetering.MeterUsageOutput, error)

	// RegisterUsage asks whether the buyer is entitled to a container product
	// that is paid by the hour, and starts its hourly metering. The caller is
	// the ECS task or EKS pod itself; one call when it starts is enough.
	//
	// Signature in the output is a JSON Web Token, signed with PS256 by the
	// product's private key; its claims are productCode, publicKeyVersion,
	// nonce (as sent) and iat. Whoever holds the product's public key can check
	// that the answer came from the service. PublicKeyRotationTimestamp is
	// present only if that version of the key has expired: the signature is
	// good, but it is time to use the newer key.
	//
	// A task or pod that was entitled at its first call remains so for its
	// life; after that only ThrottlingException and
	// InternalServiceErrorException are to be expected.
	//
	// Errors:
	//
	//   - CustomerNotEntitledException: the buyer is not subscribed.
	//   - DisabledApiException: the service is not offered in this region.
	//   - InternalServiceErrorException: a fault of the service; retry.
	//   - InvalidProductCodeException: no such product.
	//   - InvalidPublicKeyVersionException: no such version.
	//   - InvalidRegionException: not the region the task or pod runs in.
	//   - PlatformNotSupportedException: the caller is neither task nor pod.
	//   - ThrottlingException: too many calls; retry later.
	//
	// Source: API Reference, RegisterUsage; Seller Guide, "Hourly metering for
	// container products".
	RegisterUsage(context.Context, *marketplacemetering.RegisterUsageInput, ...func(*marketplacemetering.Options)) (*marketplacemetering.RegisterUsageOutput, error)

	// ResolveCustomer tells a seller who came: it turns the registration token,
	// which the buyer's browser posted to the seller's page in the field
	// x-amzn-marketplace-token, into the buyer's account, the product code and
	// the licence. The caller is the account that publishes the product.
	//
	// CustomerIdentifier is present for legacy products only. A token may be
	// resolved again and again for [TokenLife], always with the same answer.
	// The answer says who the buyer is, not that the agreement is active yet.
	//
	// Errors:
	//
	//   - DisabledApiException: the service is not offered in this region.
	//   - ExpiredTokenException: the token is older than TokenLife.
	//   - InternalServiceErrorException: a fault of the service; retry.
	//   - InvalidTokenException: not a token, or one for another seller.
	//   - ThrottlingException: too many calls; retry later.
	//
	// Source: API Reference, ResolveCustomer; Seller Guide, "SaaS customer
	// onboarding".
	ResolveCustomer(context.Context, *marketplacemetering.ResolveCustomerInput, ...func(*marketplacemetering.Options)) (*marketplacemetering.ResolveCustomerOutput, error)
}

var _ Service = (*marketplacemetering.Client)(nil)

// Limits on what one request may hold. They are the model's, but for
// MaxRequestBytes, which is the API Reference's: "each request must be less
// than 1 MB in size".
const (
	// MaxRequestBytes is the size of the largest body accepted.
	MaxRequestBytes = 1<<20 - 1

	// MaxUsageRecords is how many records one BatchMeterUsage may hold. None
	// at all is allowed.
	MaxUsageRecords = 25

	// MaxQuantity is the largest quantity of a record or an allocation.
	MaxQuantity = 1<<31 - 1

	// MaxUsageAllocations is how many allocations one record may be split into.
	MaxUsageAllocations = 2500

	// MaxTags is how many tags one allocation may have.
	MaxTags = 5

	// MaxTagKeyLength and MaxTagValueLength are in characters; neither may be
	// empty.
	MaxTagKeyLength   = 100
	MaxTagValueLength = 256

	// MaxDimensionLength is in characters.
	MaxDimensionLength = 255

	// MaxClientTokenLength is in characters, for MeterUsage.
	MaxClientTokenLength = 64

	// MaxNonceLength is in characters, for RegisterUsage.
	MaxNonceLength = 255
)

// Windows and lives. The age of a record is the service's time, when it commits
// the record, less the record's timestamp.
const (
	// BatchMeterUsageWindow is the age at which BatchMeterUsage no longer
	// accepts a record; it must be younger. (API Reference, BatchMeterUsage;
	// six hours until July 2026.)
	BatchMeterUsageWindow = 24 * time.Hour

	// MonthCloseGrace is how long after the end of a month, in UTC,
	// BatchMeterUsage accepts records of that month. It never lengthens
	// BatchMeterUsageWindow. (API Reference, BatchMeterUsage.)
	MonthCloseGrace = 6 * time.Hour

	// MeterUsageWindow is the greatest age at which MeterUsage accepts a
	// record. (API Reference, MeterUsage.)
	MeterUsageWindow = 6 * time.Hour

	// FutureTolerance is how far ahead of the service's clock a timestamp may
	// be. (AWS refuses the future without saying where it begins.)
	FutureTolerance = 5 * time.Minute

	// FinalUsagePeriod is how long after the end of an agreement the seller may
	// send the buyer's last records. (Seller Guide, "Amazon EventBridge
	// integration".)
	FinalUsagePeriod = time.Hour

	// TokenLife is how long a registration token can be resolved. (Seller
	// Guide, "SaaS customer onboarding".)
	TokenLife = 4 * time.Hour

	// ClientTokenLife is how long, at the least, MeterUsage remembers a
	// ClientToken that was accepted. (AWS does not say; a day outlives any
	// record that may still be sent.)
	ClientTokenLife = 24 * time.Hour
)
