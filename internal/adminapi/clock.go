package adminapi

import "time"

// The verbs on the ledger clock.
var (
	GetClock    = verb[None, Clock]("GET", "/v1/clock", 200, "Read the ledger clock")
	ChangeClock = verb[ClockChange, Clock]("PUT", "/v1/clock", 200, "Move, stop or start the ledger clock of a sandbox")
	AcceptClock = verb[None, Clock]("POST", "/v1/clock/accept", 201, "Say that the clock of a production ledger is right")
)

// Clock is the ledger clock. It rules windows, token life, agreements and month close; signatures and the expiry
// of credentials follow the wall clock.
type Clock struct {
	Now    time.Time `json:"now" doc:"the time by the ledger clock"`
	Frozen bool      `json:"frozen" doc:"the clock stands still"`
}

// ClockChange moves the ledger clock of a sandbox. Now and Advance exclude each other.
type ClockChange struct {
	Now     *time.Time `json:"now,omitempty" doc:"set the clock to this time, RFC 3339"`
	Advance string     `json:"advance,omitempty" doc:"move the clock by a duration such as 90m or -1h"`
	Frozen  *bool      `json:"frozen,omitempty" doc:"true stops the clock, false lets it run"`
	Reset   bool       `json:"reset,omitempty" doc:"follow the wall clock again"`
}
