package adminapi

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Table returns the page's records as rows of text under a header, as they are shown in CSV and on a terminal. Times are
// RFC 3339, UTC, with milliseconds; usage allocations are JSON. The table does not show whether there is a next page.
func (p UsagePage) Table() (header []string, rows [][]string, err error) {
	header = []string{"timestamp", "product_code", "license_arn", "customer_aws_account_id", "customer_identifier", "dimension", "quantity",
		"region", "workload", "platform", "usage_allocations", "metering_record_id"}
	rows = make([][]string, 0, len(p.Records))
	for i := range p.Records {
		r := &p.Records[i]
		allocations := ""
		if len(r.Allocations) > 0 {
			b, err := json.Marshal(r.Allocations)
			if err != nil {
				return nil, nil, err
			}
			allocations = string(b)
		}
		rows = append(rows, []string{cellOf(r.Timestamp), r.ProductCode, r.LicenseARN, r.CustomerAWSAccountID, r.CustomerIdentifier, r.Dimension,
			strconv.FormatInt(r.Quantity, 10), r.Region, r.Workload, r.Platform, allocations, r.MeteringRecordID})
	}
	return header, rows, nil
}

// Table returns the sums as rows of text under a header: a column for each name that they were grouped by, which must
// be one of [GroupBy], and then their records and quantity. Times are RFC 3339, UTC, with milliseconds.
func (s UsageSums) Table() (header []string, rows [][]string, err error) {
	rows = make([][]string, len(s.Sums))
	for i := range s.Sums {
		sum := &s.Sums[i]
		for _, name := range s.By {
			var cell string
			switch name {
			case "product_code":
				cell = sum.ProductCode
			case "license_arn":
				cell = sum.LicenseARN
			case "customer_aws_account_id":
				cell = sum.CustomerAWSAccountID
			case "customer_identifier":
				cell = sum.CustomerIdentifier
			case "dimension":
				cell = sum.Dimension
			case "hour":
				if sum.Hour != nil {
					cell = cellOf(*sum.Hour)
				}
			case "region":
				cell = sum.Region
			case "workload":
				cell = sum.Workload
			default:
				return nil, nil, fmt.Errorf("sums cannot be grouped by %q; use %s", name, strings.Join(GroupBy, ", "))
			}
			rows[i] = append(rows[i], cell)
		}
		rows[i] = append(rows[i], strconv.FormatInt(sum.Records, 10), strconv.FormatInt(sum.Quantity, 10))
	}
	return append(slices.Clone(s.By), "records", "quantity"), rows, nil
}

func cellOf(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }
