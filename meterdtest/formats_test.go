package meterdtest_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/marketplacemetering"
	"github.com/aws/aws-sdk-go-v2/service/marketplacemetering/types"
	"github.com/jackc/pgx/v5"
	"github.com/meterd/meterd/internal/pgtest"
	"github.com/meterd/meterd/internal/verify"
	"github.com/meterd/meterd/meterdtest"
)

var addFormat = flag.String("add-format", "", "have TestFormats write what this version stores to testdata/formats/`NAME`, a release")

// formats is where each release's ledgers are: one of a folder, left by a process that was killed, and a dump of one in
// PostgreSQL.
const formats = "testdata/formats"

// fixture is where a release's ledger of the store is that the tests run on.
func fixture(release string) string {
	kind := "sqlite"
	if os.Getenv("METERD_TEST_STORE") == "postgres" {
		kind = "postgres"
	}
	return filepath.Join(formats, release, kind)
}

// ledgerFiles are the files of a ledger that is served. The mark comes first: it says what the log has at least.
var ledgerFiles = []string{"ledger.db-mark", "ledger.db", "ledger.db-wal"}

// known is what was acknowledged in such a ledger.
type known struct {
	Records []knownRecord `json:"records"`
	Token   string        `json:"registration_token"`
	Buyer   string        `json:"customer_identifier"` // whom it stands for
}

type knownRecord struct {
	Product  string             `json:"product,omitempty"`
	Platform string             `json:"platform,omitempty"` // of the workload that sent it by MeterUsage; none for BatchMeterUsage
	Region   string             `json:"region"`
	Token    string             `json:"client_token,omitempty"`
	Record   *types.UsageRecord `json:"record"`
	ID       string             `json:"id"`
}

// TestFormats opens a copy of what each release has stored: it agrees with itself, replays get the ids of then, other
// quantities are duplicates, and new records are taken.
func TestFormats(t *testing.T) {
	if *addFormat != "" {
		addRelease(t, fixture(*addFormat))
	}
	releases, err := os.ReadDir(formats)
	if err != nil || len(releases) == 0 {
		t.Fatalf("there are no ledgers in %s: %v", formats, err)
	}
	for _, r := range releases {
		t.Run(r.Name(), func(t *testing.T) {
			from, dir := fixture(r.Name()), t.TempDir()
			var k known
			if text, err := os.ReadFile(filepath.Join(from, "known.json")); err != nil || json.Unmarshal(text, &k) != nil || len(k.Records) == 0 {
				t.Fatalf("known.json: %v", err)
			}
			place := pgtest.Place(t, dir)
			if place == dir {
				for _, file := range ledgerFiles {
					if _, err := os.Stat(filepath.Join(from, file+".gz")); file == "ledger.db-mark" && errors.Is(err, fs.ErrNotExist) {
						continue // format 2 had none
					}
					if err := os.WriteFile(filepath.Join(dir, file), unzip(t, filepath.Join(from, file)), 0o600); err != nil {
						t.Fatal(err)
					}
				}
			} else {
				load(t, place, unzip(t, filepath.Join(from, "dump.sql")))
			}
			report, err := verify.Ledger(place, verify.Options{})
			if err != nil || report.ProblemCount != 0 || report.Records != int64(len(k.Records)) {
				t.Fatalf("it does not agree with itself: %+v, %v", report, err)
			}
			m := openMarket(t, "", meterdtest.Config{Dir: dir})
			sum := int64(0)
			for _, r := range k.Records {
				sum += int64(*r.Record.Quantity)
				if id, refused := m.resend(r); id != r.ID {
					t.Errorf("%+v gets the id %s (%s), then %s", r, id, refused, r.ID)
				}
				*r.Record.Quantity += 3
				r.Record.UsageAllocations = nil
				if _, refused := m.resend(r); refused == "" {
					t.Errorf("another quantity is taken for %+v", r)
				}
			}
			m.sum(meterdtest.Usage{}, sum)
			if out, err := m.resolve(m.seller, k.Token); err != nil || aws.ToString(out.CustomerIdentifier) != k.Buyer {
				t.Errorf("the registration token stands for %v, %v; then %s", out, err, k.Buyer)
			}
			m.want(m.batch(P1, m.users(5, "15:10")), success)
			m.sum(meterdtest.Usage{}, sum+5)
		})
	}
}

// resend sends a record and returns its id, or how it is refused.
func (m *market) resend(r knownRecord) (id, refused string) {
	m.t.Helper()
	if r.Platform == "" {
		out, err := m.Client(m.Description.Sellers[0].Credentials, "", r.Region).BatchMeterUsage(m.ctx, input(r.Product, *r.Record), once)
		if err != nil {
			m.t.Fatal(err)
		}
		if s := out.Results[0].Status; s != success {
			refused = string(s)
		}
		return aws.ToString(out.Results[0].MeteringRecordId), refused
	}
	w := m.workload(m.a, r.Platform, 0)
	in := &marketplacemetering.MeterUsageInput{ProductCode: &r.Product, UsageDimension: r.Record.Dimension, UsageQuantity: r.Record.Quantity, Timestamp: r.Record.Timestamp}
	if r.Token != "" {
		in.ClientToken = &r.Token
	}
	out, err := m.Client(w.Credentials, w.SessionToken, w.Region).MeterUsage(m.ctx, in, once)
	if err != nil {
		return "", err.Error()
	}
	return aws.ToString(out.MeteringRecordId), ""
}

// addRelease writes a ledger with something of everything, a part of it in the log.
func addRelease(t *testing.T, to string) {
	dir := t.TempDir()
	m := openMarket(t, "", meterdtest.Config{Dir: dir})
	var k known
	add := func(r knownRecord) {
		t.Helper()
		var refused string
		if r.ID, refused = m.resend(r); refused != "" {
			t.Fatalf("%+v: %s", r, refused)
		}
		k.Records = append(k.Records, r)
	}
	some := func(at string) {
		t.Helper()
		for _, r := range []types.UsageRecord{allocated(m.users(3, at), allocation(2, "team", "a"), allocation(1)), m.record(account(m.a.AccountID), "gb", 0, at)} {
			add(knownRecord{Product: P1, Region: "us-east-1", Record: &r})
		}
		for _, region := range []string{"us-east-1", "eu-west-1"} {
			r := m.record(m.L1(), "requests", 7, at)
			add(knownRecord{Region: region, Record: &r})
		}
		for _, from := range [][2]string{{"ec2", ""}, {"ecs", "a token " + at}, {"agentcore", "a token " + at}, {"agentcore", "another " + at}} {
			in := m.jobs(11, at)
			add(knownRecord{Product: container, Platform: from[0], Region: "us-east-1", Token: from[1], Record: &types.UsageRecord{Dimension: in.UsageDimension, Quantity: in.UsageQuantity, Timestamp: in.Timestamp}})
		}
	}
	some("11:10")
	m.Unsubscribe(m.subscription(m.a, P1).AgreementID) // of which last records are taken
	m = m.again(meterdtest.Config{Dir: dir})
	some("12:20")
	k.Token = m.RegistrationToken(P1, m.a.AccountID)
	out, err := m.resolve(m.seller, k.Token)
	if err != nil {
		t.Fatal(err)
	}
	k.Buyer = aws.ToString(out.CustomerIdentifier)

	text, err := json.MarshalIndent(k, "", "\t")
	if err := errors.Join(err, os.MkdirAll(to, 0o755)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(to, "known.json"), append(text, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
	if place := pgtest.Place(t, dir); place != dir {
		zip(t, filepath.Join(to, "dump.sql"), dump(t, place))
		return
	}
	for _, file := range ledgerFiles {
		content, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			t.Fatal(err)
		}
		zip(t, filepath.Join(to, file), content)
	}
}

func zip(t *testing.T, file string, content []byte) {
	t.Helper()
	var b bytes.Buffer
	w, _ := gzip.NewWriterLevel(&b, gzip.BestCompression)
	w.Write(content)
	if err := errors.Join(w.Close(), os.WriteFile(file+".gz", b.Bytes(), 0o644)); err != nil {
		t.Fatal(err)
	}
}

func unzip(t *testing.T, file string) []byte {
	t.Helper()
	f, err := os.Open(file + ".gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	content, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// schema is the name that stands in a dump for that of the schema.
const schema = "meterd_fixture"

func schemaOf(t *testing.T, place string) string {
	t.Helper()
	u, err := url.Parse(place)
	if err != nil {
		t.Fatal(err)
	}
	return u.Query().Get("search_path")
}

// ofPsql are lines of a dump that only psql understands.
var ofPsql = regexp.MustCompile(`(?m)^(\\(un)?restrict .*|SET .*|SELECT pg_catalog.set_config.*)\n`)

// dump dumps a schema as statements.
func dump(t *testing.T, place string) []byte {
	t.Helper()
	bin, err := pgtest.Bin()
	if err != nil {
		t.Fatal(err)
	}
	name := schemaOf(t, place)
	out, err := exec.Command(filepath.Join(bin, "pg_dump"), "--inserts", "--rows-per-insert=100", "--no-owner", "--no-privileges", "--no-comments", "--schema="+name, regexp.MustCompile(`&search_path=.*`).ReplaceAllString(place, "")).Output()
	if err != nil {
		t.Fatal(err)
	}
	return bytes.ReplaceAll(ofPsql.ReplaceAll(out, nil), []byte(name), []byte(schema))
}

// load makes a schema of a dump.
func load(t *testing.T, place string, dump []byte) {
	t.Helper()
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, place)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	if _, err := conn.PgConn().Exec(ctx, string(bytes.ReplaceAll(dump, []byte(schema), []byte(schemaOf(t, place))))).ReadAll(); err != nil {
		t.Fatal(err)
	}
}
