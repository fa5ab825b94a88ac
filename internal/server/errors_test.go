package server

import (
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/meterd/meterd/internal/metering"
)

// administrative are the kinds that no operation of the service answers with.
var administrative = []metering.Kind{metering.NotFound, metering.Conflict}

// Every kind of refusal has one exception, as the model says (metering-api 1.8 to 1.11) or, where it leaves the
// name open, as its section 1.3 and 2.4 guess.
func TestExceptions(t *testing.T) {
	want := map[metering.Kind]exception{
		metering.Internal:                  {"InternalServiceErrorException", 500},
		metering.Validation:                {"ValidationException", 400},
		metering.Serialization:             {"SerializationException", 400},
		metering.TooLarge:                  {"RequestEntityTooLargeException", 413},
		metering.UnknownOperation:          {"UnknownOperationException", 400},
		metering.AccessDenied:              {"AccessDeniedException", 400},
		metering.Unauthorized:              {"UnauthorizedException", 400},
		metering.Throttling:                {"ThrottlingException", 400}, // botocore retries it only with 400
		metering.DisabledAPI:               {"DisabledApiException", 400},
		metering.InvalidCustomerIdentifier: {"InvalidCustomerIdentifierException", 400},
		metering.InvalidLicense:            {"InvalidLicenseException", 400},
		metering.InvalidProductCode:        {"InvalidProductCodeException", 400},
		metering.InvalidTag:                {"InvalidTagException", 400},
		metering.InvalidUsageAllocations:   {"InvalidUsageAllocationsException", 400},
		metering.InvalidUsageDimension:     {"InvalidUsageDimensionException", 400},
		metering.TimestampOutOfBounds:      {"TimestampOutOfBoundsException", 400},
		metering.CustomerNotEntitled:       {"CustomerNotEntitledException", 400},
		metering.DuplicateRequest:          {"DuplicateRequestException", 400},
		metering.IdempotencyConflict:       {"IdempotencyConflictException", 409},
		metering.InvalidEndpointRegion:     {"InvalidEndpointRegionException", 400},
		metering.DryRunOperation:           {"DryRunOperation", 400},
		metering.InvalidPublicKeyVersion:   {"InvalidPublicKeyVersionException", 400},
		metering.InvalidRegion:             {"InvalidRegionException", 400},
		metering.PlatformNotSupported:      {"PlatformNotSupportedException", 400},
		metering.ExpiredToken:              {"ExpiredTokenException", 400},
		metering.InvalidToken:              {"InvalidTokenException", 400},
	}
	settings := metering.DefaultSettings()
	named := map[string]metering.Kind{}
	for _, kind := range metering.Kinds() {
		if slices.Contains(administrative, kind) {
			if e := exceptionOf(kind, settings); e != want[metering.Internal] {
				t.Errorf("%v is for administration, but an operation would answer with %v", kind, e)
			}
			continue
		}
		if _, ok := want[kind]; !ok {
			t.Errorf("%v: say here which exception it is", kind)
		}
		e := exceptionOf(kind, settings)
		if e != want[kind] {
			t.Errorf("%v is answered with %v, want %v", kind, e, want[kind])
		}
		if before, ok := named[e.name]; ok {
			t.Errorf("%v and %v are both answered with %s", before, kind, e.name)
		}
		named[e.name] = kind
		if text := http.StatusText(e.status); text == "" {
			t.Errorf("%v: %d is no HTTP status", kind, e.status)
		}
	}
}

func TestExceptionSettings(t *testing.T) {
	s := metering.DefaultSettings()
	for name, value := range map[string]string{"conflict-status": "400", "dry-run-status": "412"} {
		if err := s.Set(name, value); err != nil {
			t.Fatal(err)
		}
	}
	if e := exceptionOf(metering.IdempotencyConflict, s); e.status != 400 {
		t.Errorf("conflict-status=400: status %d", e.status)
	}
	if e := exceptionOf(metering.DryRunOperation, s); e.status != 412 {
		t.Errorf("dry-run-status=412: status %d", e.status)
	}
	if e := exceptionOf(metering.Throttling, s); e.status != 400 {
		t.Errorf("other kinds: status %d", e.status)
	}
}

// TestUnexpected: what is not foreseen is not told to the client, and only of a change it is not known whether it was made.
func TestUnexpected(t *testing.T) {
	a := &admin{AdminConfig: AdminConfig{Log: slog.New(slog.DiscardHandler)}}
	for method, unknown := range map[string]bool{"GET": false, "POST": true, "PUT": true, "PATCH": true, "DELETE": true} {
		p := a.problem(method, errors.New("secret"))
		if p.Status != 500 || strings.Contains(p.Detail, "secret") || strings.Contains(p.Detail, "not known whether the change was made") != unknown {
			t.Errorf("%s: %+v", method, p)
		}
	}
}
