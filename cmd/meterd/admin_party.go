package main

import (
	"strings"

	"github.com/meterd/meterd/internal/adminapi"
)

var sellers = columns[adminapi.Seller]{[]string{"account", "name"}, func(s *adminapi.Seller) []string { return []string{s.AccountID, s.Name} }}

type sellerCmd struct {
	Create sellerCreateCmd `cmd:"" verb:"POST /v1/sellers"`
	List   sellerListCmd   `cmd:"" verb:"GET /v1/sellers"`
	Get    sellerGetCmd    `cmd:"" verb:"GET /v1/sellers/{account_id}"`
}

type sellerCreateCmd struct {
	Account string `arg:"" help:"12 digits."`
	Name    string `help:"Your word for the seller."`
}

func (cmd *sellerCreateCmd) Run(c *console, a *adminCmd) error {
	return do(c, a, adminapi.CreateSeller, adminapi.Seller{AccountID: cmd.Account, Name: cmd.Name}, sellers.one)
}

type sellerListCmd struct{}

func (cmd *sellerListCmd) Run(c *console, a *adminCmd) error {
	return list(c, a, adminapi.ListSellers, adminapi.Paging{}, sellers.many)
}

type sellerGetCmd struct {
	Account string `arg:"" help:"12 digits."`
}

func (cmd *sellerGetCmd) Run(c *console, a *adminCmd) error {
	return do(c, a, adminapi.GetSeller, adminapi.AccountPath{AccountID: cmd.Account}, sellers.one)
}

var buyers = columns[adminapi.Buyer]{[]string{"account", "name", "suspended", "customer identifiers"}, func(b *adminapi.Buyer) []string {
	var known []string
	for _, i := range b.Identifiers {
		known = append(known, i.SellerAccountID+"="+i.CustomerIdentifier)
	}
	return []string{b.AccountID, b.Name, yes(b.Suspended), strings.Join(known, " ")}
}}

type buyerCmd struct {
	Create  buyerCreateCmd  `cmd:"" verb:"POST /v1/buyers"`
	List    buyerListCmd    `cmd:"" verb:"GET /v1/buyers"`
	Get     buyerGetCmd     `cmd:"" verb:"GET /v1/buyers/{account_id}"`
	Suspend buyerSuspendCmd `cmd:"" verb:"PATCH /v1/buyers/{account_id}" help:"Suspend a buyer: it is not subscribed to anything."`
	Resume  buyerResumeCmd  `cmd:"" verb:"PATCH /v1/buyers/{account_id}" help:"End a buyer's suspension."`
}

type buyerCreateCmd struct {
	Account string `arg:"" help:"12 digits."`
	Name    string `help:"Your word for the buyer."`
}

func (cmd *buyerCreateCmd) Run(c *console, a *adminCmd) error {
	return do(c, a, adminapi.CreateBuyer, adminapi.Buyer{AccountID: cmd.Account, Name: cmd.Name}, buyers.one)
}

type buyerListCmd struct{}

func (cmd *buyerListCmd) Run(c *console, a *adminCmd) error {
	return list(c, a, adminapi.ListBuyers, adminapi.Paging{}, buyers.many)
}

type buyerGetCmd struct {
	Account string `arg:"" help:"12 digits."`
}

func (cmd *buyerGetCmd) Run(c *console, a *adminCmd) error {
	return do(c, a, adminapi.GetBuyer, adminapi.AccountPath{AccountID: cmd.Account}, buyers.one)
}

type buyerSuspendCmd struct {
	Account string `arg:"" help:"12 digits."`
}

func (cmd *buyerSuspendCmd) Run(c *console, a *adminCmd) error {
	return suspend(c, a, cmd.Account, true)
}

type buyerResumeCmd struct {
	Account string `arg:"" help:"12 digits."`
}

func (cmd *buyerResumeCmd) Run(c *console, a *adminCmd) error {
	return suspend(c, a, cmd.Account, false)
}

func suspend(c *console, a *adminCmd, account string, suspended bool) error {
	return do(c, a, adminapi.ChangeBuyer, adminapi.BuyerChange{AccountID: account, Suspended: &suspended}, buyers.one)
}
