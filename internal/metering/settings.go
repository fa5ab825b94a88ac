package metering

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Settings are the behaviours that AWS leaves open or on which its documentation contradicts itself. Each has one
// documented default (metering-api 0.3 and its guesses), which an operator changes with --setting NAME=VALUE.
// [SettingDocs] lists them all.
type Settings struct {
	ResendIdentical    string        // "success" or "duplicate"
	UnknownCustomer    string        // "exception" or "not-subscribed"
	DuplicateRecordID  bool          // DuplicateRecord carries the stored record's id
	MixedIdentifiers   string        // "refuse" or "allow"
	BatchWindow        time.Duration // age at which BatchMeterUsage refuses a record
	WindowFromHour     bool          // measure the age from the start of the current hour
	MonthClose         time.Duration // how long after its end a month stays open
	MonthGrace         bool          // before the close, take any record of the previous month's last day
	MeterWindow        time.Duration // age beyond which MeterUsage refuses a record
	FutureTolerance    time.Duration // how far ahead a timestamp may be
	FinalWindow        time.Duration // how long records are taken after an agreement began to end
	TokenLife          time.Duration // life of a registration token
	ConflictStatus     int           // HTTP status of IdempotencyConflictException
	DryRun             string        // the answer to a dry run that would succeed: "success" or "exception"
	DryRunStatus       int           // HTTP status of DryRunOperation, if that is an exception
	DryRunDenied       string        // a dry run without permission: "unauthorized" or "access-denied"
	PublisherPreview   bool          // the publishing account may call MeterUsage and RegisterUsage without an agreement
	SuspendedWorkloads string        // a suspended buyer's workloads: "refuse" or "meter" those that are registered
	SaaSWorkloads      string        // MeterUsage and RegisterUsage of SaaS products: "refuse" or "allow"
	AgentCoreTags      string        // "refuse" or "ignore" usage allocations from AgentCore
	ClaimsPascalCase   bool          // RegisterUsage tokens carry PascalCase claims beside the lower-camel ones
	LegacyCustomerOnCA bool          // ResolveCustomer returns CustomerIdentifier for concurrent products too
}

// Setting documents one contested behaviour.
type Setting struct {
	Name    string   // as in --setting NAME=VALUE
	Default string   // in the form that --setting takes
	Values  []string // the values allowed, or nil for durations
	Doc     string   // one sentence
	Source  string   // where AWS leaves it open
	field   func(*Settings) any
}

var yesNo = []string{"true", "false"}

var settings = []Setting{
	{"resend-identical", "success", []string{"success", "duplicate"}, "What an identical re-send of an accepted record is answered: Success with the same id, or DuplicateRecord.", "metering-api 0.3 D1",
		func(s *Settings) any { return &s.ResendIdentical }},
	{"unknown-customer", "exception", []string{"exception", "not-subscribed"}, "What an unknown CustomerIdentifier is answered: InvalidCustomerIdentifierException for the call, or CustomerNotSubscribed for the record.", "metering-api 0.3 D6",
		func(s *Settings) any { return &s.UnknownCustomer }},
	{"duplicate-record-id", "true", yesNo, "Whether a DuplicateRecord result carries the MeteringRecordId of the stored record.", "metering-api 2.3",
		func(s *Settings) any { return &s.DuplicateRecordID }},
	{"mixed-identifiers", "refuse", []string{"refuse", "allow"}, "Whether one call may name some buyers by CustomerIdentifier and others by CustomerAWSAccountId.", "metering-api 2.4",
		func(s *Settings) any { return &s.MixedIdentifiers }},
	{"batch-window", "24h", nil, "Age at which BatchMeterUsage refuses a record.", "metering-api 2.1",
		func(s *Settings) any { return &s.BatchWindow }},
	{"window-from-hour", "false", yesNo, "Whether the window of BatchMeterUsage is measured from the start of the current hour, its edge included.", "metering-api 2.1",
		func(s *Settings) any { return &s.WindowFromHour }},
	{"month-close", "6h", nil, "How long after its end a UTC month takes records in BatchMeterUsage.", "metering-api 2.1",
		func(s *Settings) any { return &s.MonthClose }},
	{"month-grace", "false", yesNo, "Whether records of the previous month's last day are taken until its close even when they are older than the window.", "metering-api 2.1",
		func(s *Settings) any { return &s.MonthGrace }},
	{"meter-window", "6h", nil, "Age beyond which MeterUsage refuses a record.", "metering-api 2.1",
		func(s *Settings) any { return &s.MeterWindow }},
	{"future-tolerance", "5m", nil, "How far ahead of the service's time a timestamp may be.", "metering-api 2.1",
		func(s *Settings) any { return &s.FutureTolerance }},
	{"final-window", "1h", nil, "How long last records are taken after an agreement began to end.", "metering-api 2.10",
		func(s *Settings) any { return &s.FinalWindow }},
	{"token-life", "4h", nil, "Life of a registration token.", "metering-api 0.3 D4",
		func(s *Settings) any { return &s.TokenLife }},
	{"conflict-status", "409", []string{"409", "400"}, "HTTP status of IdempotencyConflictException.", "metering-api 0.3 D2",
		func(s *Settings) any { return &s.ConflictStatus }},
	{"dry-run", "success", []string{"success", "exception"}, "What a dry run that would succeed is answered: success with MeteringRecordId DryRunOperation, or an exception of that name.", "metering-api 2.6",
		func(s *Settings) any { return &s.DryRun }},
	{"dry-run-status", "400", []string{"400", "412"}, "HTTP status of DryRunOperation, where it is an exception.", "metering-api 2.6",
		func(s *Settings) any { return &s.DryRunStatus }},
	{"dry-run-denied", "unauthorized", []string{"unauthorized", "access-denied"}, "What a dry run without permission is answered: UnauthorizedException, or AccessDeniedException as without DryRun.", "metering-api 2.6",
		func(s *Settings) any { return &s.DryRunDenied }},
	{"publisher-preview", "true", yesNo, "Whether workloads of the product's own account may meter it without an agreement.", "metering-api 2.6",
		func(s *Settings) any { return &s.PublisherPreview }},
	{"suspended-workloads", "refuse", []string{"refuse", "meter"}, "What MeterUsage and RegisterUsage do for a suspended buyer's workload whose first call has succeeded before: CustomerNotEntitledException, or as if the buyer had unsubscribed.", "metering-api 2.3, 2.6",
		func(s *Settings) any { return &s.SuspendedWorkloads }},
	{"saas-workloads", "refuse", []string{"refuse", "allow"}, "What MeterUsage and RegisterUsage do with a SaaS product's code: InvalidProductCodeException, or take it.", "metering-api 2.6, 3.5",
		func(s *Settings) any { return &s.SaaSWorkloads }},
	{"agentcore-allocations", "refuse", []string{"refuse", "ignore"}, "What usage allocations from an AgentCore runtime get: InvalidUsageAllocationsException, or nothing.", "metering-api 2.5",
		func(s *Settings) any { return &s.AgentCoreTags }},
	{"claims-pascal-case", "true", yesNo, "Whether RegisterUsage tokens carry PascalCase claims beside the lower-camel ones.", "metering-api 0.3 D5",
		func(s *Settings) any { return &s.ClaimsPascalCase }},
	{"concurrent-customer-identifier", "false", yesNo, "Whether ResolveCustomer returns a CustomerIdentifier for Concurrent-Agreements products too.", "metering-api 2.8",
		func(s *Settings) any { return &s.LegacyCustomerOnCA }},
}

// SettingDocs lists every contested behaviour, its default and its source.
func SettingDocs() []Setting { return settings }

// DefaultSettings returns the documented defaults.
func DefaultSettings() *Settings {
	s := new(Settings)
	for _, d := range settings {
		if err := d.set(s, d.Default); err != nil {
			panic("internal error: default of setting " + d.Name + ": " + err.Error())
		}
	}
	return s
}

// Set changes the setting of the given name. The error names the values allowed.
func (s *Settings) Set(name, value string) error {
	for _, d := range settings {
		if d.Name == name {
			return d.set(s, value)
		}
	}
	return fmt.Errorf("no setting is named %q; the settings are listed in docs/compatibility.md", name)
}

func (d *Setting) set(s *Settings, value string) error {
	if d.Values != nil {
		found := false
		for _, v := range d.Values {
			found = found || v == value
		}
		if !found {
			return fmt.Errorf("setting %s takes %s, not %q", d.Name, strings.Join(d.Values, " or "), value)
		}
	}
	switch p := d.field(s).(type) {
	case *string:
		*p = value
	case *bool:
		*p = value == "true"
	case *int:
		*p, _ = strconv.Atoi(value)
	case *time.Duration:
		v, err := time.ParseDuration(value)
		if err != nil || v < 0 || v > 31*24*time.Hour {
			return fmt.Errorf("setting %s takes a duration such as %s, at most 744h, not %q", d.Name, d.Default, value)
		}
		*p = v
	}
	return nil
}
