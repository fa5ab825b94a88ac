package metering_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/meterd/meterd/internal/metering"
)

// TestOperationNumbers: numbers are in audit rows and registrations, so none may change.
func TestOperationNumbers(t *testing.T) {
	for want, op := range map[uint8]metering.Operation{1: metering.BatchMeterUsage, 2: metering.MeterUsage, 3: metering.RegisterUsage,
		4: metering.ResolveCustomer, 16: metering.Administration} {
		if uint8(op) != want {
			t.Errorf("%v is number %d, was %d", op, op, want)
		}
	}
	for op, want := range map[metering.Operation]string{metering.BatchMeterUsage: "BatchMeterUsage", metering.Administration: "Administration",
		0: "Operation(0)", 15: "Operation(15)", 255: "Operation(255)"} {
		if op.String() != want {
			t.Errorf("operation %d is written %v, want %s", uint8(op), op, want)
		}
	}
	if slices.Contains(metering.Operations, metering.Administration) {
		t.Error("administration is an operation of a service")
	}
}

// TestOperationsAreWhole: what a new entry must not leave out.
func TestOperationsAreWhole(t *testing.T) {
	names := map[string]metering.Operation{}
	for _, op := range metering.Operations {
		info, service := op.Info(), op.Info().Service.Info()
		if prefix, name, ok := strings.Cut(info.Action, ":"); info.Name == "" || !ok || prefix == "" || name == "" {
			t.Errorf("operation %d, %q: action %q", uint8(op), info.Name, info.Action)
		}
		if service.Name == "" || service.SigningName == "" || len(service.Protocols) == 0 || service.EventSource == "" {
			t.Errorf("%v is of a service that is not whole: %+v", op, service)
		}
		if info.UsageRows > 0 && !info.Writes {
			t.Errorf("%v stores usage, but only reads", op)
		}
		target := service.TargetPrefix + info.Name
		if other, twice := names[target]; twice {
			t.Errorf("%s is operation %d and %d", target, other, op)
		}
		names[target] = op
	}
	for target, want := range names {
		if op, ok := metering.OperationOfTarget(target); !ok || op != want {
			t.Errorf("OperationOfTarget(%q) = %d, %v; want %d", target, op, ok, want)
		}
	}
	for _, s := range metering.Services {
		if !slices.Contains(metering.SigningNames(), s.Info().SigningName) {
			t.Errorf("the signing name of %s is not accepted", s.Info().Name)
		}
	}
}

func TestOperationOfTarget(t *testing.T) {
	for _, target := range []string{"", "MeterUsage", "AWSMPMeteringService.", "AWSMPMeteringService.Nope", "AWSMPMeteringService.meterUsage",
		"awsmpmeteringservice.MeterUsage", "AWSMPMeteringService.MeterUsage ", "AWSMPMeteringService-MeterUsage", "AWSMPMeteringService.Administration",
		"AWSMPEntitlementService.GetEntitlements", "Administration"} {
		if op, ok := metering.OperationOfTarget(target); ok || op != 0 {
			t.Errorf("OperationOfTarget(%q) = %v, %v", target, op, ok)
		}
	}
}

// TestOperationsAreDocumented compares docs/compatibility.md with the tables.
func TestOperationsAreDocumented(t *testing.T) {
	doc, err := os.ReadFile("../../docs/compatibility.md")
	if err != nil {
		t.Fatal(err)
	}
	var want strings.Builder
	want.WriteString("| service | signing name | target | protocol | events in CloudTrail |\n|---|---|---|---|---|\n")
	for _, s := range metering.Services {
		info := s.Info()
		protocols := make([]string, len(info.Protocols))
		for i, p := range info.Protocols {
			protocols[i] = p.Name
		}
		fmt.Fprintf(&want, "| %s | `%s` | `%s…` | %s | `%s` |\n", info.Name, info.SigningName, info.TargetPrefix, strings.Join(protocols, ", "), info.EventSource)
	}
	want.WriteString("\n| operation | number in the audit | service | IAM action | reads or writes | AWS's quota, calls a second | records a call stores at most |\n|---|---|---|---|---|---|---|\n")
	for _, op := range metering.Operations {
		info := op.Info()
		access := map[bool]string{false: "reads", true: "writes"}[info.Writes]
		quota := map[bool]string{false: fmt.Sprint(info.Quota), true: "none published"}[info.Quota == 0]
		fmt.Fprintf(&want, "| %v | %d | %s | `%s` | %s | %s | %d |\n", op, uint8(op), info.Service.Info().Name, info.Action, access, quota, info.UsageRows)
	}
	if !strings.Contains(string(doc), "\n"+want.String()) {
		t.Errorf("docs/compatibility.md does not hold these tables as they are:\n\n%s", &want)
	}
}
