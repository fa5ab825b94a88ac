// Package adminapi declares the verbs of the admin API, each with the shapes of its request and answer, and has a
// client. The verbs are the contract: the server and its OpenAPI document, the meterd admin commands, marketplace files
// and other programs all use them.
//
// Accounts are named by their 12 digits, products by their product code, agreements by their agreement id. Times
// are RFC 3339, UTC. Identifiers that AWS would make up (product codes and ids, agreement ids, licence ARNs,
// customer identifiers) may be given, and are made when left out.
package adminapi

// Problem is the body of an error answer, in the form of RFC 9457.
type Problem struct {
	Status int    `json:"status" doc:"the HTTP status"`
	Title  string `json:"title" doc:"the status in words"`
	Detail string `json:"detail" doc:"one line: the field, the rule and the mend"`
	Errors Faults `json:"errors,omitempty" doc:"what is wrong with a marketplace file, by line: 100 things at most"`
	More   int    `json:"more,omitempty" doc:"how many more things were found wrong"`
}

// Error returns the detail, which is one line.
func (p *Problem) Error() string { return p.Detail }

// Paging chooses a page of a list. The zero Paging is the first page, of the usual size.
type Paging struct {
	After string `query:"after" doc:"next of the page before"`
	Limit int    `query:"limit" minimum:"1" maximum:"1000" default:"100" doc:"items in a page"`
}

// Page is a page of a list.
type Page[T any] struct {
	Items []T    `json:"items"`
	Next  string `json:"next,omitempty" doc:"pass it as after= to get the next page"`
}

// AccountPaging chooses a page of a list, of one account if it is given.
type AccountPaging struct {
	AccountID string `query:"account_id" doc:"of this account only"`
	Paging
}

// AccountPath names an account.
type AccountPath struct {
	AccountID string `path:"account_id" doc:"12 digits"`
}
