package server

import (
	"net/http"

	"github.com/meterd/meterd/internal/metering"
)

// exception is how AWS words a kind of refusal.
type exception struct {
	name   string
	status int
}

// exceptions maps every kind of refusal that an operation can answer with (metering-api 1.8 to 1.11; names that
// AWS leaves open are guesses of metering-api 1.3 and 2.4).
var exceptions = map[metering.Kind]exception{
	metering.Internal:                  {"InternalServiceErrorException", http.StatusInternalServerError},
	metering.Validation:                {"ValidationException", http.StatusBadRequest},
	metering.Serialization:             {"SerializationException", http.StatusBadRequest},
	metering.TooLarge:                  {"RequestEntityTooLargeException", http.StatusRequestEntityTooLarge},
	metering.UnknownOperation:          {"UnknownOperationException", http.StatusBadRequest},
	metering.AccessDenied:              {"AccessDeniedException", http.StatusBadRequest},
	metering.Unauthorized:              {"UnauthorizedException", http.StatusBadRequest},
	metering.Throttling:                {"ThrottlingException", http.StatusBadRequest},
	metering.DisabledAPI:               {"DisabledApiException", http.StatusBadRequest},
	metering.InvalidCustomerIdentifier: {"InvalidCustomerIdentifierException", http.StatusBadRequest},
	metering.InvalidLicense:            {"InvalidLicenseException", http.StatusBadRequest},
	metering.InvalidProductCode:        {"InvalidProductCodeException", http.StatusBadRequest},
	metering.InvalidTag:                {"InvalidTagException", http.StatusBadRequest},
	metering.InvalidUsageAllocations:   {"InvalidUsageAllocationsException", http.StatusBadRequest},
	metering.InvalidUsageDimension:     {"InvalidUsageDimensionException", http.StatusBadRequest},
	metering.TimestampOutOfBounds:      {"TimestampOutOfBoundsException", http.StatusBadRequest},
	metering.CustomerNotEntitled:       {"CustomerNotEntitledException", http.StatusBadRequest},
	metering.DuplicateRequest:          {"DuplicateRequestException", http.StatusBadRequest},
	metering.IdempotencyConflict:       {"IdempotencyConflictException", http.StatusConflict},
	metering.InvalidEndpointRegion:     {"InvalidEndpointRegionException", http.StatusBadRequest},
	metering.DryRunOperation:           {"DryRunOperation", http.StatusBadRequest},
	metering.InvalidPublicKeyVersion:   {"InvalidPublicKeyVersionException", http.StatusBadRequest},
	metering.InvalidRegion:             {"InvalidRegionException", http.StatusBadRequest},
	metering.PlatformNotSupported:      {"PlatformNotSupportedException", http.StatusBadRequest},
	metering.ExpiredToken:              {"ExpiredTokenException", http.StatusBadRequest},
	metering.InvalidToken:              {"InvalidTokenException", http.StatusBadRequest},
}

// exceptionOf returns the exception for a kind. Kinds of administration never reach an operation, so here they are
// internal errors.
func exceptionOf(kind metering.Kind, s *metering.Settings) exception {
	e, ok := exceptions[kind]
	if !ok {
		e = exceptions[metering.Internal]
	}
	switch kind {
	case metering.IdempotencyConflict:
		e.status = s.ConflictStatus
	case metering.DryRunOperation:
		e.status = s.DryRunStatus
	}
	return e
}

// exceptionNamed returns the name of the exception for the kind of the given name, or "" if there is no such kind.
func exceptionNamed(kind string, s *metering.Settings) string {
	for _, k := range metering.Kinds() {
		if k.String() == kind {
			return exceptionOf(k, s).name
		}
	}
	return ""
}
