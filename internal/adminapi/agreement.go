package adminapi

import "time"

// The verbs on agreements.
var (
	ListAgreements  = verb[AgreementPaging, Page[Agreement]]("GET", "/v1/agreements", 200, "List agreements")
	CreateAgreement = verb[Agreement, Agreement]("POST", "/v1/agreements", 201, "Make an agreement")
	GetAgreement    = verb[AgreementPath, Agreement]("GET", "/v1/agreements/{agreement_id}", 200, "Get an agreement")
	CancelAgreement = verb[Cancellation, Agreement]("POST", "/v1/agreements/{agreement_id}/cancel", 200, "Let an agreement begin to end: an hour later it has ended", bodyOptional)
	EndAgreement    = verb[AgreementPath, Agreement]("POST", "/v1/agreements/{agreement_id}/end", 200, "End an agreement at once")
)

// Agreement is a buyer's agreement for a product and the licence that comes with it.
type Agreement struct {
	AgreementID        string     `json:"agreement_id,omitempty" yaml:"agreement_id,omitempty" doc:"agmt-…; made if left out"`
	ProductCode        string     `json:"product_code" yaml:"product_code"`
	BuyerAccountID     string     `json:"buyer_account_id,omitempty" yaml:"buyer_account_id,omitempty" doc:"12 digits"`
	LicenseARN         string     `json:"license_arn,omitempty" yaml:"license_arn,omitempty" doc:"made if left out"`
	CustomerIdentifier string     `json:"customer_identifier,omitempty" yaml:"customer_identifier,omitempty" doc:"of the buyer for the seller's products; made if left out"`
	StartTime          *time.Time `json:"start_time,omitempty" yaml:"start_time,omitempty" doc:"now if left out"`
	EndingTime         *time.Time `json:"ending_time,omitempty" yaml:"ending_time,omitempty" doc:"when it began, or will begin, to end"`
	EndTime            *time.Time `json:"end_time,omitempty" yaml:"end_time,omitempty" doc:"from then on no usage is taken; an hour after ending_time if left out"`
	Status             string     `json:"status,omitempty" yaml:"-" enum:"pending,active,ending,ended" readOnly:"true"`
}

// Cancellation says when an agreement begins to end.
type Cancellation struct {
	AgreementID string     `path:"agreement_id" json:"-"`
	At          *time.Time `json:"at,omitempty" doc:"now if left out; not in the past"`
}

// AgreementFilter chooses agreements. Empty members choose all.
type AgreementFilter struct {
	ProductCode    string `query:"product_code"`
	BuyerAccountID string `query:"buyer_account_id"`
	Status         string `query:"status" enum:"pending,active,ending,ended"`
}

// AgreementPaging chooses a page of the agreements that the filter chooses.
type AgreementPaging struct {
	AgreementFilter
	Paging
}

// AgreementPath names an agreement.
type AgreementPath struct {
	AgreementID string `path:"agreement_id"`
}
