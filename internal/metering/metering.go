// Package metering is the domain of the AWS Marketplace Metering Service: hours and windows, products,
// agreements and licences, usage records and the rules that admit or refuse them.
//
// The package is pure: it does no I/O, takes the time as an argument and is not safe for concurrent use by
// itself. Every rule names its source, a section of metering-api (the fact sheet of the service) or the page of
// AWS's documentation it comes from. Rules that AWS leaves open are fields of [Settings].
package metering

import "fmt"

// Kind says why something was refused. Every kind of error that the system knows is declared here, once; the
// edges map kinds to AWS exceptions or HTTP statuses.
type Kind uint8

// The kinds of refusal. Those of the service bear the names of AWS's exceptions without the suffix.
const (
	Internal                  Kind = iota // unexpected; its text is for the log only
	Validation                            // a member breaks a constraint of the API model (metering-api 1.7)
	Serialization                         // the body is not JSON of the right types
	TooLarge                              // the body is 1 MB or more (metering-api 2.4)
	UnknownOperation                      // no such operation or target
	AccessDenied                          // the caller's permissions do not allow the action
	Unauthorized                          // the same, for a MeterUsage dry run (metering-api 2.6)
	Throttling                            // too many calls, or the service cannot take more now; retry
	DisabledAPI                           // the operation is not offered in the region
	InvalidCustomerIdentifier             // the buyer is named wrongly or does not exist
	InvalidLicense                        // the licence is unknown, another buyer's, or not active at the time
	InvalidProductCode                    // not a product code that the caller may meter
	InvalidTag                            // a tag breaks a rule, or there are too many
	InvalidUsageAllocations               // allocations do not add up, repeat a tag set, or are too many
	InvalidUsageDimension                 // the product has no such dimension
	TimestampOutOfBounds                  // outside the window for records
	CustomerNotEntitled                   // the buyer has no agreement for the product
	DuplicateRequest                      // same workload, dimension and hour, other quantity
	IdempotencyConflict                   // same ClientToken, other parameters
	InvalidEndpointRegion                 // MeterUsage sent to another region than the workload's
	DryRunOperation                       // a dry run that would have succeeded
	InvalidPublicKeyVersion               // the product has no such key version
	InvalidRegion                         // RegisterUsage called in another region than the workload's
	PlatformNotSupported                  // RegisterUsage from something that is no ECS task or EKS pod
	ExpiredToken                          // the registration token is past its life
	InvalidToken                          // not a registration token of the caller's products
	NotFound                              // administration: no such thing
	Conflict                              // administration: it exists already, or its state forbids this
	kinds                                 // how many there are
)

var kindNames = [kinds]string{"Internal", "Validation", "Serialization", "TooLarge", "UnknownOperation", "AccessDenied", "Unauthorized",
	"Throttling", "DisabledAPI", "InvalidCustomerIdentifier", "InvalidLicense", "InvalidProductCode", "InvalidTag", "InvalidUsageAllocations",
	"InvalidUsageDimension", "TimestampOutOfBounds", "CustomerNotEntitled", "DuplicateRequest", "IdempotencyConflict", "InvalidEndpointRegion",
	"DryRunOperation", "InvalidPublicKeyVersion", "InvalidRegion", "PlatformNotSupported", "ExpiredToken", "InvalidToken", "NotFound", "Conflict"}

// String returns the kind's name as in the code.
func (k Kind) String() string { return kindNames[k] }

// Kinds returns every kind, for tables that must be complete.
func Kinds() []Kind {
	all := make([]Kind, kinds)
	for i := range all {
		all[i] = Kind(i)
	}
	return all
}

// Error is a refusal: its kind, and a sentence for the caller that names the field, the rule and how to mend it.
type Error struct {
	Kind    Kind
	Message string
}

func (e *Error) Error() string { return e.Message }

// Errorf returns a refusal of the given kind.
func Errorf(kind Kind, format string, args ...any) *Error {
	return &Error{Kind: kind, Message: fmt.Sprintf(format, args...)}
}
