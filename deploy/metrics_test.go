package deploy_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/marketplacemetering"
	"github.com/aws/aws-sdk-go-v2/service/marketplacemetering/types"
	"github.com/aws/smithy-go"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
)

// exposed are the metrics of a sandbox that has taken one record, and refused calls that nobody had signed or signed
// badly: the values that each label of each metric has.
func exposed(t *testing.T) map[string]map[string][]string {
	t.Helper()
	describe := filepath.Join(t.TempDir(), "sandbox.json")
	cmd := exec.CommandContext(t.Context(), meterd, "dev", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0", "--describe", describe)
	cmd.Stderr = t.Output()
	said, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	if !bufio.NewScanner(said).Scan() { // the description was written before
		t.Fatal("the sandbox did not start")
	}
	go func() { _, _ = io.Copy(io.Discard, said) }()
	var sandbox struct {
		Endpoint    string `json:"endpoint"`
		OpsEndpoint string `json:"ops_endpoint"`
		Sellers     []struct {
			AccessKeyID     string `json:"access_key_id"`
			SecretAccessKey string `json:"secret_access_key"`
		} `json:"sellers"`
		Products []struct {
			ProductCode string   `json:"product_code"`
			Dimensions  []string `json:"dimensions"`
		} `json:"products"`
		Buyers []struct {
			AccountID string `json:"account_id"`
		} `json:"buyers"`
	}
	if err := json.Unmarshal([]byte(read(t, describe)), &sandbox); err != nil {
		t.Fatal(err)
	}

	id, secret := sandbox.Sellers[0].AccessKeyID, sandbox.Sellers[0].SecretAccessKey
	for _, keys := range []aws.CredentialsProvider{credentials.NewStaticCredentialsProvider(id, secret, ""),
		credentials.NewStaticCredentialsProvider(id, "wrong", ""), credentials.NewStaticCredentialsProvider("AKIAUNKNOWN000000001", secret, ""), aws.AnonymousCredentials{}} {
		client := marketplacemetering.New(marketplacemetering.Options{Region: "us-east-1", BaseEndpoint: &sandbox.Endpoint, Credentials: keys})
		_, err := client.BatchMeterUsage(t.Context(), &marketplacemetering.BatchMeterUsageInput{ProductCode: &sandbox.Products[0].ProductCode, UsageRecords: []types.UsageRecord{{
			Timestamp: aws.Time(time.Now()), CustomerAWSAccountId: &sandbox.Buyers[0].AccountID, Dimension: &sandbox.Products[0].Dimensions[0], Quantity: aws.Int32(1)}}})
		var refusal smithy.APIError
		if c, _ := keys.Retrieve(t.Context()); c.AccessKeyID == id && c.SecretAccessKey == secret {
			if err != nil {
				t.Fatal(err)
			}
		} else if !errors.As(err, &refusal) {
			t.Fatalf("a call that cannot be authenticated: %v", err)
		}
	}

	answer, err := http.Get(sandbox.OpsEndpoint + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	p := expfmt.NewTextParser(model.UTF8Validation)
	families, err := p.TextToMetricFamilies(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	// What Prometheus itself adds.
	all := map[string]map[string][]string{"up": {"job": nil, "instance": nil}}
	for name, family := range families {
		names := []string{name}
		of := map[string][]string{"job": nil, "instance": nil}
		if family.GetType() == dto.MetricType_HISTOGRAM {
			names = []string{name + "_bucket", name + "_sum", name + "_count"}
			of["le"] = nil
		}
		for _, m := range family.Metric {
			for _, l := range m.Label {
				of[l.GetName()] = append(of[l.GetName()], l.GetValue())
			}
		}
		for _, name := range names {
			all[name] = of
		}
	}
	return all
}

// queries are the expressions of the rules and of the dashboard.
func queries(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	rules, errs := rulefmt.Parse([]byte(read(t, "prometheus-rules.yaml")), false, model.UTF8Validation, parser.NewParser(parser.Options{}), slog.New(slog.DiscardHandler))
	if errs != nil {
		t.Fatal(errs)
	}
	for _, g := range rules.Groups {
		for _, r := range g.Rules {
			all["alert "+r.Alert] = r.Expr
			if s := r.Labels["severity"]; s != "critical" && s != "warning" || r.Annotations["summary"] == "" || r.Annotations["description"] == "" {
				t.Errorf("alert %s does not say how bad it is, what it is and what to do", r.Alert)
			}
		}
	}
	alerts := len(all)

	var dashboard struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
		Templating struct {
			List []struct{ Name, Query string }
		}
	}
	if err := json.Unmarshal([]byte(read(t, "grafana-dashboard.json")), &dashboard); err != nil {
		t.Fatal(err)
	}
	for _, p := range dashboard.Panels {
		for i, target := range p.Targets {
			all[fmt.Sprintf("panel %s %d", p.Title, i+1)] = target.Expr
		}
	}
	for _, v := range dashboard.Templating.List {
		if m := regexp.MustCompile(`^label_values\((.*), (\w+)\)$`).FindStringSubmatch(v.Query); m != nil {
			all["variable "+v.Name] = fmt.Sprintf("count by (%s) (%s)", m[2], m[1])
		}
	}
	if alerts < 10 || len(all) < alerts+20 {
		t.Fatalf("%d alerts, %d queries", alerts, len(all))
	}
	for name, query := range all {
		all[name] = strings.NewReplacer("$__rate_interval", "5m").Replace(query)
	}
	return all
}

// TestMetrics: the rules and the dashboard ask for metrics and labels that the running service exposes, for outcomes
// that it counts, and for errors that it knows; every metric of its own that it exposes is asked for by one of them.
func TestMetrics(t *testing.T) {
	all := exposed(t)
	if v := all["meterd_build_info"]; v == nil || len(v["version"]) != 1 || v["version"][0] == "" || !strings.HasPrefix(v["goversion"][0], "go") {
		t.Errorf("meterd_build_info %v", v)
	}
	exceptions := read(t, "../internal/server/errors.go") // those that a sound service has never answered with
	asked := map[string]bool{}
	for where, query := range queries(t) {
		e, err := parser.NewParser(parser.Options{}).ParseExpr(query)
		if err != nil {
			t.Errorf("%s: %v", where, err)
			continue
		}
		known := map[string]bool{} // labels of the metrics of the query
		for _, selectors := range parser.ExtractSelectors(e) {
			name := ""
			for _, m := range selectors {
				if m.Name == model.MetricNameLabel {
					name = m.Value
				}
			}
			asked[name] = true
			of, ok := all[name]
			if !ok {
				t.Errorf("%s asks for %s, which is not exposed", where, name)
				continue
			}
			for l := range of {
				known[l] = true
			}
			for _, m := range selectors {
				values, ok := of[m.Name]
				switch {
				case m.Name == model.MetricNameLabel:
				case !ok:
					t.Errorf("%s: %s has no label %s", where, name, m.Name)
				case m.Name == "code":
					for _, code := range strings.Split(m.Value, "|") {
						if !slices.Contains(values, code) && !strings.Contains(exceptions, `"`+code+`"`) {
							t.Errorf("%s: no error is named %s", where, code)
						}
					}
				case m.Name != "job" && m.Name != "instance" && !slices.Contains(values, m.Value):
					t.Errorf("%s: %s has no %s %s, but %q", where, name, m.Name, m.Value, values)
				}
			}
		}
		parser.Inspect(e, func(n parser.Node, _ []parser.Node) error {
			if a, ok := n.(*parser.AggregateExpr); ok {
				for _, l := range a.Grouping {
					if !known[l] {
						t.Errorf("%s: none of its metrics has the label %s", where, l)
					}
				}
			}
			return nil
		})
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		plain := regexp.MustCompile(`_(bucket|sum|count)$`).ReplaceAllString(name, "")
		used := asked[name] || asked[plain+"_bucket"] || asked[plain+"_sum"]
		if strings.HasPrefix(name, "meterd_") && !used {
			t.Errorf("%s is exposed, and neither the dashboard nor an alert shows it", name)
		}
	}
}

// TestMetricsDocumented: what docs/operate.md says of metrics is exposed.
func TestMetricsDocumented(t *testing.T) {
	all := exposed(t)
	text := read(t, "../docs/operate.md")
	found := regexp.MustCompile("`(meterd_[a-z_]+)").FindAllStringSubmatch(text, -1)
	if len(found) < 6 {
		t.Errorf("docs/operate.md names only %d metrics", len(found))
	}
	for _, m := range found {
		if all[m[1]] == nil && all[m[1]+"_bucket"] == nil {
			t.Errorf("docs/operate.md names %s, which is not exposed", m[1])
		}
	}
}
