package adminapi

import "time"

// GetCall returns the audit of a call.
var GetCall = verb[CallPath, Call]("GET", "/v1/calls/{request_id}", 200, "Get the audit of a call")

// Call is the audit of one authenticated call.
type Call struct {
	RequestID   string       `json:"request_id"`
	At          time.Time    `json:"at" doc:"ledger clock"`
	Operation   string       `json:"operation"`
	Principal   string       `json:"principal" doc:"ARN of the caller, or the name of the admin token"`
	AccessKeyID string       `json:"access_key_id,omitempty"`
	SessionName string       `json:"session_name,omitempty" doc:"of a role's session"`
	Source      string       `json:"source" doc:"network address that the call came from"`
	UserAgent   string       `json:"user_agent,omitempty" doc:"the User-Agent header, its first 1024 bytes; what cannot be printed is replaced"`
	Region      string       `json:"region,omitempty"`
	Error       string       `json:"error,omitempty" doc:"the exception that the call was answered with"`
	Message     string       `json:"message,omitempty"`
	Request     string       `json:"request,omitempty" doc:"the start of a refused call's body"`
	Results     []CallResult `json:"results,omitempty" doc:"what became of each usage record, in the order of the call"`
}

// CallResult is what became of one usage record of a call.
type CallResult struct {
	Status string      `json:"status" doc:"Success, DuplicateRecord, CustomerNotSubscribed or Unprocessed"`
	Stored bool        `json:"stored" doc:"false for replays and refusals"`
	Record UsageRecord `json:"record"`
}

// CallPath names a call.
type CallPath struct {
	RequestID string `path:"request_id"`
}
