package adminapi

import (
	"strings"
	"time"
)

// The verbs on usage. They answer in CSV too.
var (
	ListUsage = verb[UsagePaging, UsagePage]("GET", "/v1/usage", 200, "List usage records in the order in which they were accepted")
	SumUsage  = verb[UsageGrouping, UsageSums]("GET", "/v1/usage/sum", 200, "Sum up usage")
)

// UsageFilter chooses usage records. Empty members choose all.
type UsageFilter struct {
	ProductCode          string    `query:"product_code"`
	LicenseARN           string    `query:"license_arn"`
	CustomerAWSAccountID string    `query:"customer_aws_account_id"`
	CustomerIdentifier   string    `query:"customer_identifier"`
	Dimension            string    `query:"dimension"`
	Region               string    `query:"region"`
	Workload             string    `query:"workload" doc:"resource id"`
	From                 time.Time `query:"from" doc:"records stamped at or after this time"`
	To                   time.Time `query:"to" doc:"records stamped before this time"`
}

// UsagePaging chooses a page of the usage records that the filter chooses.
type UsagePaging struct {
	UsageFilter
	Paging
}

// UsageGrouping chooses usage records, and what their sums are grouped by.
type UsageGrouping struct {
	UsageFilter
	By []string `query:"by,explode" doc:"what to group by, repeated or separated by commas: product_code, license_arn, customer_aws_account_id, customer_identifier, dimension, hour, region, workload"`
}

// Groups returns the names that By has, one by one.
func (g *UsageGrouping) Groups() []string {
	var by []string
	for _, names := range g.By {
		for name := range strings.SplitSeq(names, ",") {
			if name = strings.TrimSpace(name); name != "" {
				by = append(by, name)
			}
		}
	}
	return by
}

// GroupBy lists what sums can be grouped by, in the order in which groups are sorted.
var GroupBy = []string{"product_code", "license_arn", "customer_aws_account_id", "customer_identifier", "dimension", "hour", "region", "workload"}

// UsageRecord is one accepted record.
type UsageRecord struct {
	MeteringRecordID     string            `json:"metering_record_id"`
	Timestamp            time.Time         `json:"timestamp" doc:"as it was sent"`
	Hour                 time.Time         `json:"hour"`
	ProductCode          string            `json:"product_code"`
	CustomerAWSAccountID string            `json:"customer_aws_account_id"`
	CustomerIdentifier   string            `json:"customer_identifier,omitempty"`
	LicenseARN           string            `json:"license_arn,omitempty"`
	Dimension            string            `json:"dimension"`
	Quantity             int64             `json:"quantity"`
	Region               string            `json:"region"`
	Workload             string            `json:"workload,omitempty" doc:"resource id"`
	Platform             string            `json:"platform,omitempty"`
	Allocations          []UsageAllocation `json:"usage_allocations,omitempty"`
}

// UsageAllocation is a part of a record's quantity.
type UsageAllocation struct {
	AllocatedUsageQuantity int64             `json:"allocated_usage_quantity"`
	Tags                   map[string]string `json:"tags,omitempty"`
}

// UsagePage is a page of records, in the order in which they were accepted.
type UsagePage struct {
	Records []UsageRecord `json:"records"`
	Next    string        `json:"next,omitempty" doc:"pass it as after= to get the next page"`
}

// UsageSum is the sum of the quantities of a group of records. Only the members that were grouped by are set.
type UsageSum struct {
	ProductCode          string     `json:"product_code,omitempty"`
	CustomerAWSAccountID string     `json:"customer_aws_account_id,omitempty"`
	CustomerIdentifier   string     `json:"customer_identifier,omitempty"`
	LicenseARN           string     `json:"license_arn,omitempty"`
	Dimension            string     `json:"dimension,omitempty"`
	Hour                 *time.Time `json:"hour,omitempty"`
	Region               string     `json:"region,omitempty"`
	Workload             string     `json:"workload,omitempty"`
	Records              int64      `json:"records"`
	Quantity             int64      `json:"quantity"`
}

// UsageSums are sums of usage, ordered by their groups.
type UsageSums struct {
	Sums []UsageSum `json:"sums"`
	By   []string   `json:"-"` // what they are grouped by, from [GroupBy]; the columns of their table
}
