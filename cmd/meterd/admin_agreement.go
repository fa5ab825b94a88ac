package main

import (
	"time"

	"github.com/meterd/meterd/internal/adminapi"
)

var agreements = columns[adminapi.Agreement]{[]string{"agreement", "product code", "buyer", "customer identifier", "status", "start", "end", "licence"}, func(a *adminapi.Agreement) []string {
	return []string{a.AgreementID, a.ProductCode, a.BuyerAccountID, a.CustomerIdentifier, a.Status, when(a.StartTime), when(a.EndTime), a.LicenseARN}
}}

type agreementCmd struct {
	Create agreementCreateCmd `cmd:"" verb:"POST /v1/agreements" help:"Make an agreement, and the licence that comes with it."`
	List   agreementListCmd   `cmd:"" verb:"GET /v1/agreements"`
	Get    agreementGetCmd    `cmd:"" verb:"GET /v1/agreements/{agreement_id}"`
	Cancel agreementCancelCmd `cmd:"" verb:"POST /v1/agreements/{agreement_id}/cancel" help:"Let an agreement begin to end; an hour later it has ended."`
	End    agreementEndCmd    `cmd:"" verb:"POST /v1/agreements/{agreement_id}/end"`
}

type agreementCreateCmd struct {
	Product            string     `arg:"" help:"Product code."`
	Buyer              string     `arg:"" help:"12 digits."`
	ID                 string     `name:"id" placeholder:"agmt-…" help:"Agreement id; made if not given."`
	LicenseARN         string     `name:"license-arn" placeholder:"ARN" help:"Licence ARN; made if not given."`
	CustomerIdentifier string     `placeholder:"ID" help:"How the seller's products know the buyer; made if not given."`
	Start              *time.Time `placeholder:"TIME" help:"When it starts, such as 2026-11-23T14:00:00Z; now if not given."`
	Ending             *time.Time `placeholder:"TIME" help:"When it begins to end."`
	End                *time.Time `placeholder:"TIME" help:"When it has ended; an hour after --ending if not given."`
}

func (cmd *agreementCreateCmd) Run(c *console, a *adminCmd) error {
	return do(c, a, adminapi.CreateAgreement, adminapi.Agreement{ProductCode: cmd.Product, BuyerAccountID: cmd.Buyer, AgreementID: cmd.ID, LicenseARN: cmd.LicenseARN,
		CustomerIdentifier: cmd.CustomerIdentifier, StartTime: cmd.Start, EndingTime: cmd.Ending, EndTime: cmd.End}, agreements.one)
}

type agreementListCmd struct {
	Product string `placeholder:"CODE" help:"For this product only."`
	Buyer   string `placeholder:"ACCOUNT" help:"Of this buyer only."`
	Status  string `help:"pending, active, ending or ended."`
}

func (cmd *agreementListCmd) Run(c *console, a *adminCmd) error {
	filter := adminapi.AgreementFilter{ProductCode: cmd.Product, BuyerAccountID: cmd.Buyer, Status: cmd.Status}
	return list(c, a, adminapi.ListAgreements, adminapi.AgreementPaging{AgreementFilter: filter}, agreements.many)
}

type agreementGetCmd struct {
	ID string `arg:"" help:"Agreement id."`
}

func (cmd *agreementGetCmd) Run(c *console, a *adminCmd) error {
	return do(c, a, adminapi.GetAgreement, adminapi.AgreementPath{AgreementID: cmd.ID}, agreements.one)
}

type agreementCancelCmd struct {
	ID string     `arg:"" help:"Agreement id."`
	At *time.Time `placeholder:"TIME" help:"When it begins to end; now if not given."`
}

func (cmd *agreementCancelCmd) Run(c *console, a *adminCmd) error {
	return do(c, a, adminapi.CancelAgreement, adminapi.Cancellation{AgreementID: cmd.ID, At: cmd.At}, agreements.one)
}

type agreementEndCmd struct {
	ID string `arg:"" help:"Agreement id."`
}

func (cmd *agreementEndCmd) Run(c *console, a *adminCmd) error {
	return do(c, a, adminapi.EndAgreement, adminapi.AgreementPath{AgreementID: cmd.ID}, agreements.one)
}
