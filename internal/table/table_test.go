package table_test

import (
	"encoding/csv"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/meterd/meterd/internal/adminapi"
	"github.com/meterd/meterd/internal/table"
)

var (
	noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	page = adminapi.UsagePage{Next: "2s", Records: []adminapi.UsageRecord{
		{MeteringRecordID: "35155d37-56cb-823f-8554-5c4f3e3ff56d", Timestamp: noon.Add(4*time.Minute + 53*time.Second + 776*time.Millisecond), Hour: noon,
			ProductCode: "cqcvf9f0ugw8rkbgmf1c9dxyz", CustomerAWSAccountID: "222222222222", Dimension: "users", Quantity: 7, Region: "us-east-1"},
		{MeteringRecordID: "45155d37-56cb-823f-8554-5c4f3e3ff56d", Timestamp: noon.In(time.FixedZone("east", 3600)), Hour: noon,
			ProductCode: "cqcvf9f0ugw8rkbgmf1c9dxyz", CustomerAWSAccountID: "333333333333", CustomerIdentifier: "@cust", Dimension: "=cmd|' /C calc'!A0", Quantity: 2147483647, Region: "us-east-1",
			Allocations: []adminapi.UsageAllocation{{AllocatedUsageQuantity: 2147483647, Tags: map[string]string{"team": `a,"b"`}}}},
	}}
)

func records(w io.Writer, format string, p adminapi.UsagePage) error {
	header, rows, err := p.Table()
	if err != nil {
		return err
	}
	return table.Write(w, format, header, rows, p)
}

func sum(w io.Writer, format string, by []string, s adminapi.UsageSums) error {
	s.By = by
	header, rows, err := s.Table()
	if err != nil {
		return err
	}
	return table.Write(w, format, header, rows, s)
}

func write(t *testing.T, f func(*strings.Builder) error) string {
	t.Helper()
	var b strings.Builder
	if err := f(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestRecordsTable(t *testing.T) {
	got := write(t, func(b *strings.Builder) error { return records(b, "table", page) })
	want := `TIMESTAMP                 PRODUCT_CODE               CUSTOMER_AWS_ACCOUNT_ID  CUSTOMER_IDENTIFIER  DIMENSION             QUANTITY  REGION     USAGE_ALLOCATIONS                                                                METERING_RECORD_ID
2026-11-23T12:04:53.776Z  cqcvf9f0ugw8rkbgmf1c9dxyz             222222222222                       users                        7  us-east-1                                                                                   35155d37-56cb-823f-8554-5c4f3e3ff56d
2026-11-23T12:00:00.000Z  cqcvf9f0ugw8rkbgmf1c9dxyz             333333333333  @cust                =cmd|' /C calc'!A0  2147483647  us-east-1  [{"allocated_usage_quantity":2147483647,"tags":{"team":"a,\"b\""}}]  45155d37-56cb-823f-8554-5c4f3e3ff56d
`
	if squeeze(got) != squeeze(want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// squeeze makes runs of spaces one; alignment is TestText's business.
func squeeze(s string) string { return strings.Join(strings.Fields(s), " ") }

func TestRecordsCSV(t *testing.T) {
	got := write(t, func(b *strings.Builder) error { return records(b, "csv", page) })
	if lines := strings.Count(got, "\r\n"); lines != 3 || strings.Count(got, "\n") != 3 {
		t.Errorf("lines do not end with CRLF: %q", got)
	}
	rows, err := csv.NewReader(strings.NewReader(got)).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	want := [][]string{
		{"timestamp", "product_code", "license_arn", "customer_aws_account_id", "customer_identifier", "dimension", "quantity", "region", "workload", "platform", "usage_allocations", "metering_record_id"},
		{"2026-11-23T12:04:53.776Z", "cqcvf9f0ugw8rkbgmf1c9dxyz", "", "222222222222", "", "users", "7", "us-east-1", "", "", "", "35155d37-56cb-823f-8554-5c4f3e3ff56d"},
		{"2026-11-23T12:00:00.000Z", "cqcvf9f0ugw8rkbgmf1c9dxyz", "", "333333333333", "'@cust", "'=cmd|' /C calc'!A0", "2147483647", "us-east-1", "", "",
			`[{"allocated_usage_quantity":2147483647,"tags":{"team":"a,\"b\""}}]`, "45155d37-56cb-823f-8554-5c4f3e3ff56d"},
	}
	if !slices.EqualFunc(rows, want, slices.Equal) {
		t.Errorf("got %q\nwant %q", rows, want)
	}
}

func TestRecordsJSON(t *testing.T) {
	got := write(t, func(b *strings.Builder) error { return records(b, "json", page) })
	var back adminapi.UsagePage
	if err := json.Unmarshal([]byte(got), &back); err != nil {
		t.Fatal(err)
	}
	if back.Next != page.Next || len(back.Records) != 2 || back.Records[1].Dimension != page.Records[1].Dimension || !back.Records[0].Timestamp.Equal(page.Records[0].Timestamp) {
		t.Errorf("got %s", got)
	}
}

func TestSums(t *testing.T) {
	sums := adminapi.UsageSums{Sums: []adminapi.UsageSum{
		{Hour: &noon, Dimension: "users", LicenseARN: "arn:l", ProductCode: "p", CustomerAWSAccountID: "222222222222", CustomerIdentifier: "c", Region: "r", Workload: "w", Records: 2, Quantity: 9},
		{Hour: &noon, Dimension: "-1+1", Records: 1, Quantity: 4294967296},
	}}
	for _, test := range []struct {
		format string
		by     []string
		want   string
	}{
		{"csv", []string{"hour", "dimension"}, "hour,dimension,records,quantity\r\n2026-11-23T12:00:00.000Z,users,2,9\r\n2026-11-23T12:00:00.000Z,'-1+1,1,4294967296\r\n"},
		{"csv", adminapi.GroupBy, strings.Join(adminapi.GroupBy, ",") + ",records,quantity\r\np,arn:l,222222222222,c,users,2026-11-23T12:00:00.000Z,r,w,2,9\r\n,,,,'-1+1,2026-11-23T12:00:00.000Z,,,1,4294967296\r\n"},
		{"table", []string{"dimension", "workload"}, "DIMENSION  WORKLOAD  RECORDS    QUANTITY\nusers      w               2           9\n-1+1                       1  4294967296\n"},
		{"table", nil, "RECORDS    QUANTITY\n      2           9\n      1  4294967296\n"},
	} {
		if got := write(t, func(b *strings.Builder) error { return sum(b, test.format, test.by, sums) }); got != test.want {
			t.Errorf("%s by %v: got\n%q\nwant\n%q", test.format, test.by, got, test.want)
		}
	}
	if err := sum(new(strings.Builder), "csv", []string{"colour"}, sums); err == nil || !strings.Contains(err.Error(), `"colour"`) {
		t.Errorf("by colour: %v", err)
	}
}

func TestUnknownFormat(t *testing.T) {
	if err := records(new(strings.Builder), "xml", page); err == nil || !strings.Contains(err.Error(), "table, csv, json") {
		t.Errorf("got %v", err)
	}
}

func TestText(t *testing.T) {
	for _, test := range []struct {
		name   string
		header []string
		rows   [][]string
		want   string
	}{
		{"no rows", []string{"a", "b"}, nil, "A  B\n"},
		{"empty column", []string{"a", "b", "c"}, [][]string{{"x", "", "y"}}, "A  C\nx  y\n"},
		{"short row", []string{"a", "b"}, [][]string{{"x"}, {"x", "y"}}, "A  B\nx\nx  y\n"},
		{"numbers", []string{"n", "name"}, [][]string{{"7", "x"}, {"1000", "y"}}, "   N  NAME\n   7  x\n1000  y\n"},
		{"wide", []string{"name", "b"}, [][]string{{"東京", "x"}, {"Zu\u0308rich", "y"}, {"🚀", "z"}}, "NAME    B\n東京    x\nZu\u0308rich  y\n🚀      z\n"},
		{"control", []string{"a"}, [][]string{{"\x1b[31mred\x07"}, {"\u202edrow"}, {"\xff"}}, "A\n\uFFFD[31mred\uFFFD\n\uFFFDdrow\n\uFFFD\n"},
	} {
		if got := write(t, func(b *strings.Builder) error { return table.Text(b, test.header, test.rows) }); got != test.want {
			t.Errorf("%s: got\n%s\nwant\n%s", test.name, got, test.want)
		}
	}
}

type full struct{ room int }

var errFull = errors.New("no space left")

func (f *full) Write(p []byte) (int, error) {
	if len(p) > f.room {
		return 0, errFull
	}
	f.room -= len(p)
	return len(p), nil
}

func TestWriteError(t *testing.T) {
	for _, format := range table.Formats {
		if err := records(&full{10}, format, page); !errors.Is(err, errFull) {
			t.Errorf("%s: got %v", format, err)
		}
	}
}
