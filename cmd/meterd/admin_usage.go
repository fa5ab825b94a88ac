package main

import (
	"fmt"
	"time"

	"github.com/meterd/meterd/internal/adminapi"
	"github.com/meterd/meterd/internal/table"
)

type usageCmd struct {
	By                 []string  `placeholder:"WHAT" help:"Sum up, for each product_code, license_arn, customer_aws_account_id, customer_identifier, dimension, hour, region or workload. Repeatable, or separated by commas."`
	Product            string    `placeholder:"CODE" help:"Of this product only."`
	LicenseARN         string    `name:"license-arn" placeholder:"ARN" help:"On this licence only."`
	Account            string    `help:"Of this buyer only, 12 digits."`
	CustomerIdentifier string    `placeholder:"ID" help:"Of this buyer only."`
	Dimension          string    `placeholder:"NAME" help:"Of this dimension only."`
	Region             string    `placeholder:"NAME" help:"In this region only."`
	Workload           string    `placeholder:"ID" help:"Of this resource only."`
	From               time.Time `placeholder:"TIME" help:"Stamped at or after this time, such as 2026-11-23T14:00:00Z."`
	To                 time.Time `placeholder:"TIME" help:"Stamped before this time."`
	Limit              int       `default:"1000" help:"How many records to list; 0 lists all."`
}

func (cmd *usageCmd) Run(c *console, a *adminCmd) error {
	if cmd.Limit < 0 {
		return fmt.Errorf("--limit %d: must be 1 or more, or 0 for all", cmd.Limit)
	}
	client, err := a.client(c)
	if err != nil {
		return err
	}
	filter := adminapi.UsageFilter{ProductCode: cmd.Product, LicenseARN: cmd.LicenseARN, CustomerAWSAccountID: cmd.Account, CustomerIdentifier: cmd.CustomerIdentifier,
		Dimension: cmd.Dimension, Region: cmd.Region, Workload: cmd.Workload, From: cmd.From, To: cmd.To}
	if len(cmd.By) > 0 {
		sums, err := adminapi.SumUsage.Do(c.ctx, client, adminapi.UsageGrouping{UsageFilter: filter, By: cmd.By})
		if err != nil {
			return a.failed(err)
		}
		sums.By = cmd.By
		header, rows, err := sums.Table()
		if err != nil {
			return err
		}
		return table.Write(c.stdout, a.Output, header, rows, sums)
	}
	out := adminapi.UsagePage{Records: []adminapi.UsageRecord{}}
	list := adminapi.Paging{}
	for {
		list.Limit = 1000
		if cmd.Limit > 0 {
			list.Limit = min(1000, cmd.Limit-len(out.Records))
		}
		page, err := adminapi.ListUsage.Do(c.ctx, client, adminapi.UsagePaging{UsageFilter: filter, Paging: list})
		if err != nil {
			return a.failed(err)
		}
		out.Records = append(out.Records, page.Records...)
		if page.Next == "" {
			break
		}
		if list.After = page.Next; cmd.Limit > 0 && len(out.Records) >= cmd.Limit {
			fmt.Fprintf(c.stderr, "meterd: there are more than %d records; --limit 0 lists all\n", cmd.Limit)
			break
		}
	}
	header, rows, err := out.Table()
	if err != nil {
		return err
	}
	return table.Write(c.stdout, a.Output, header, rows, out)
}
