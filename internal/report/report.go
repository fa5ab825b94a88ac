// Package report shows usage to people and to other programs: as an aligned table, as CSV and as JSON.
//
// CSV follows RFC 4180. A cell that begins with = + - @, a tab or a carriage return is given a ' in front, because
// spreadsheets would run it as a formula: dimensions, tags and identifiers are other people's words. JSON is the
// exact form. Times are RFC 3339, UTC, with milliseconds.
package report

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/meterd/meterd/internal/adminapi"
)

// Formats lists the formats of [Records] and [Sums].
var Formats = []string{"table", "csv", "json"}

// Records writes a page of usage records in one of [Formats]. In a table, columns that are empty in all records
// are left out; only JSON says that there is a next page.
func Records(w io.Writer, format string, p adminapi.UsagePage) error {
	header := []string{"timestamp", "product_code", "license_arn", "customer_aws_account_id", "customer_identifier", "dimension", "quantity",
		"region", "workload", "platform", "usage_allocations", "metering_record_id"}
	rows := make([][]string, 0, len(p.Records))
	for i := range p.Records {
		r := &p.Records[i]
		allocations := ""
		if len(r.Allocations) > 0 {
			b, err := json.Marshal(r.Allocations)
			if err != nil {
				return err
			}
			allocations = string(b)
		}
		rows = append(rows, []string{timestamp(r.Timestamp), r.ProductCode, r.LicenseARN, r.CustomerAWSAccountID, r.CustomerIdentifier, r.Dimension,
			strconv.FormatInt(r.Quantity, 10), r.Region, r.Workload, r.Platform, allocations, r.MeteringRecordID})
	}
	return write(w, format, header, rows, p)
}

// Sums writes sums that were grouped by the given names in one of [Formats], with a column for each name.
func Sums(w io.Writer, format string, by []string, s adminapi.UsageSums) error {
	rows := make([][]string, len(s.Sums))
	for i := range s.Sums {
		sum := &s.Sums[i]
		for _, name := range by {
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
					cell = timestamp(*sum.Hour)
				}
			case "region":
				cell = sum.Region
			case "workload":
				cell = sum.Workload
			default:
				return fmt.Errorf("sums cannot be grouped by %q; use %s", name, strings.Join(adminapi.GroupBy, ", "))
			}
			rows[i] = append(rows[i], cell)
		}
		rows[i] = append(rows[i], strconv.FormatInt(sum.Records, 10), strconv.FormatInt(sum.Quantity, 10))
	}
	return write(w, format, append(slices.Clone(by), "records", "quantity"), rows, s)
}

func timestamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

func write(w io.Writer, format string, header []string, rows [][]string, exact any) error {
	switch format {
	case "table":
		return Table(w, header, rows)
	case "csv":
		return writeCSV(w, header, rows)
	case "json":
		e := json.NewEncoder(w)
		e.SetEscapeHTML(false)
		e.SetIndent("", "  ")
		return e.Encode(exact)
	}
	return fmt.Errorf("there is no format %q; use %s", format, strings.Join(Formats, ", "))
}

func writeCSV(w io.Writer, header []string, rows [][]string) error {
	c := csv.NewWriter(w)
	c.UseCRLF = true
	if err := c.Write(header); err != nil {
		return err
	}
	for _, row := range rows {
		row = slices.Clone(row)
		for i, cell := range row {
			if cell != "" && strings.IndexByte("=+-@\t\r", cell[0]) >= 0 {
				row[i] = "'" + cell
			}
		}
		if err := c.Write(row); err != nil {
			return err
		}
	}
	c.Flush()
	return c.Error()
}

// Table writes rows under a header, in columns that are aligned on a terminal: numbers to the right, anything else
// to the left. Columns that are empty in all rows are left out, unless there are no rows. Characters that control
// the terminal or the direction of text are shown as U+FFFD. A row may be shorter than the header, not longer.
func Table(w io.Writer, header []string, rows [][]string) error {
	type column struct {
		cells []string // the header's first
		width int
		right bool
	}
	var columns []column
	for i, name := range header {
		c := column{cells: []string{printable(strings.ToUpper(name))}, right: len(rows) > 0}
		empty := len(rows) > 0
		for _, row := range rows {
			cell := ""
			if i < len(row) {
				cell = printable(row[i])
			}
			empty = empty && cell == ""
			c.right = c.right && cell != "" && strings.Trim(cell, "0123456789") == ""
			c.cells = append(c.cells, cell)
		}
		if empty {
			continue
		}
		for _, cell := range c.cells {
			c.width = max(c.width, width(cell))
		}
		columns = append(columns, c)
	}
	for y := range len(rows) + 1 {
		var line strings.Builder
		for i, c := range columns {
			if i > 0 {
				line.WriteString("  ")
			}
			pad := strings.Repeat(" ", c.width-width(c.cells[y]))
			if c.right {
				line.WriteString(pad + c.cells[y])
			} else {
				line.WriteString(c.cells[y] + pad)
			}
		}
		if _, err := io.WriteString(w, strings.TrimRight(line.String(), " ")+"\n"); err != nil {
			return err
		}
	}
	return nil
}

func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) {
			return utf8.RuneError
		}
		return r
	}, s)
}

// width is how many cells of a terminal the text takes: two for East Asian and emoji, none for marks that combine.
func width(s string) int {
	n := 0
	for _, r := range s {
		switch {
		case r < 0x300:
			n++
		case unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf):
		case unicode.In(r, unicode.Han, unicode.Hangul, unicode.Hiragana, unicode.Katakana), 0x3000 <= r && r <= 0x303e,
			0xff01 <= r && r <= 0xff60, 0xffe0 <= r && r <= 0xffe6, 0x1f300 <= r && r <= 0x1faff:
			n += 2
		default:
			n++
		}
	}
	return n
}
