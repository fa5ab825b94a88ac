package metering

import (
	"fmt"
	"slices"
)

// Service is one of AWS's services whose operations are served here.
type Service uint8

// The services. Zero is none.
const (
	MeteringService Service = 1 + iota // AWS Marketplace Metering
)

// ServiceInfo is what is known of a service.
type ServiceInfo struct {
	Name         string     // as AWS writes it
	SigningName  string     // the service in a signature's credential scope (metering-api 1.1)
	TargetPrefix string     // what an X-Amz-Target header has before the operation's name
	Protocols    []Protocol // in which it is served
	EventSource  string     // the event source of its events in CloudTrail (metering-api 3.6)
}

// Protocol is one of AWS's protocols for requests and answers.
type Protocol struct {
	Name        string
	ContentType string // of its requests and answers
}

// JSON11 is AWS JSON 1.1.
var JSON11 = Protocol{"AWS JSON 1.1", "application/x-amz-json-1.1"}

// services is the one table of services.
var services = [...]ServiceInfo{
	MeteringService: {Name: "AWS Marketplace Metering", SigningName: "aws-marketplace", TargetPrefix: "AWSMPMeteringService.",
		Protocols: []Protocol{JSON11}, EventSource: "metering-marketplace.amazonaws.com"},
}

// Services lists the services, by number.
var Services = listServices()

func listServices() (all []Service) {
	for i := 1; i < len(services); i++ {
		all = append(all, Service(i))
	}
	return all
}

// Info returns what is known of the service. For a number that is no service's it returns an empty ServiceInfo.
func (s Service) Info() *ServiceInfo {
	if int(s) < len(services) {
		return &services[s]
	}
	return &services[0]
}

// SigningNames returns the service names that the credential scope of a signature may have.
func SigningNames() (names []string) {
	for _, s := range Services {
		if name := s.Info().SigningName; !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// Operation is an operation of a service, or Administration, which belongs to no service.
type Operation uint8

// The operations. Their numbers are stored in audit rows and registrations and never change; a new one takes the next
// that is free. Zero is none.
const (
	BatchMeterUsage Operation = 1
	MeterUsage      Operation = 2
	RegisterUsage   Operation = 3
	ResolveCustomer Operation = 4
	Administration  Operation = 16 // any act by the admin API, the command line or the sandbox
)

// OperationInfo is what is known of an operation.
type OperationInfo struct {
	Name       string  // as AWS writes it
	Service    Service // 0 for administration
	Action     string  // the IAM action that permits it
	Writes     bool    // whether it changes anything, as CloudTrail's readOnly counts it
	Quota      int     // AWS's limit in calls a second for each account and region (metering-api 2.9); 0 if it publishes none
	UsageRows  int     // usage records that a call stores at most
	BySellers  bool    // called with a seller's own keys; such operations are offered in other regions than those for workloads (metering-api 1.6)
	SecretBody bool    // the body may hold a secret that is valid elsewhere, and so stays out of the audit
}

// operations is the one table of operations. Routing, permissions, limits, metrics, audit, verify and the
// documentation read it; only the handlers, which do what an operation is for, are in package server.
var operations = [...]OperationInfo{
	BatchMeterUsage: {Name: "BatchMeterUsage", Service: MeteringService, Action: "aws-marketplace:BatchMeterUsage",
		Writes: true, Quota: 10, UsageRows: MaxUsageRecords, BySellers: true},
	MeterUsage: {Name: "MeterUsage", Service: MeteringService, Action: "aws-marketplace:MeterUsage",
		Writes: true, Quota: 10, UsageRows: 1},
	RegisterUsage: {Name: "RegisterUsage", Service: MeteringService, Action: "aws-marketplace:RegisterUsage",
		Writes: true, Quota: 5},
	ResolveCustomer: {Name: "ResolveCustomer", Service: MeteringService, Action: "aws-marketplace:ResolveCustomer",
		Writes: true, BySellers: true, SecretBody: true},
	Administration: {Name: "Administration", Writes: true},
}

// OperationNumbers is the length of an array that is indexed by operations.
const OperationNumbers = len(operations)

// Operations lists the operations of the services, by number.
var Operations = listOperations()

func listOperations() (all []Operation) {
	for i := range operations {
		if operations[i].Service != 0 {
			all = append(all, Operation(i))
		}
	}
	return all
}

// Info returns what is known of the operation. For a number that is no operation's it returns an empty OperationInfo.
func (op Operation) Info() *OperationInfo {
	if int(op) < len(operations) {
		return &operations[op]
	}
	return &operations[0]
}

// String returns the operation's name as AWS writes it.
func (op Operation) String() string {
	if name := op.Info().Name; name != "" {
		return name
	}
	return fmt.Sprintf("Operation(%d)", uint8(op))
}

// OperationOfTarget returns the operation that an X-Amz-Target header names, in exact spelling; ok is false if there
// is none.
func OperationOfTarget(target string) (Operation, bool) {
	for _, op := range Operations {
		info := &operations[op]
		prefix := services[info.Service].TargetPrefix
		if n := len(prefix); len(target) == n+len(info.Name) && target[n:] == info.Name && target[:n] == prefix {
			return op, true
		}
	}
	return 0, false
}

// Actions returns the IAM actions that permissions may name: those of the operations, and GetEntitlements, which
// policies of sellers name beside them (metering-api 3.5), although the Entitlement service is not served here.
func Actions() (all []string) {
	for _, op := range Operations {
		all = append(all, op.Info().Action)
	}
	return append(all, "aws-marketplace:GetEntitlements")
}
