package adminapi

// Can asks how the service decides when a user or role takes an action.
var Can = verb[Question, Verdict]("GET", "/v1/can", 200, "Tell whether a user or role may take an action, and if not, why")

// Question asks whether a user or role may take an action. Values that conditions are judged by count as not known
// unless they are given here; the time is that of the ledger clock.
type Question struct {
	AccountID string `query:"account_id" required:"true" doc:"12 digits"`
	Principal string `query:"principal" required:"true" doc:"name of a user or role; user/NAME or role/NAME where there are both"`
	Action    string `query:"action" required:"true" doc:"such as aws-marketplace:MeterUsage, or MeterUsage"`
	Session   string `query:"session" doc:"name of a role's session"`
	SourceIP  string `query:"source_ip" doc:"where the call comes from, aws:SourceIp"`
	Region    string `query:"region" doc:"aws:RequestedRegion"`
	UserAgent string `query:"user_agent" doc:"aws:UserAgent"`
	TLS       bool   `query:"tls" doc:"whether the call comes over TLS, aws:SecureTransport"`
}

// Verdict is what the service decides about an action.
type Verdict struct {
	Principal string   `json:"principal" doc:"ARN"`
	Action    string   `json:"action"`
	Allowed   bool     `json:"allowed"`
	Message   string   `json:"message,omitempty" doc:"of the exception that the call is answered with"`
	Unknown   []string `json:"unknown,omitempty" doc:"conditions of the policy document that can never be judged, with their places in it"`
}
