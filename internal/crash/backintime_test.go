package crash_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/marketplacemetering"
	"github.com/aws/aws-sdk-go-v2/service/marketplacemetering/types"
	"github.com/meterd/meterd/internal/adminapi"
	"github.com/meterd/meterd/internal/iam"
	"github.com/meterd/meterd/internal/pgtest"
)

// TestDatabaseGoesBack takes from under two nodes what they know: the database goes back to before it. Meanwhile another
// node has given the same numbers to something else, and revoked a key. What the two are asked then they must not do,
// and they end and say why; nodes that start then are well.
func TestDatabaseGoesBack(t *testing.T) {
	for name, start := range map[string]func(t *testing.T) (place string, keep, back func() error){
		"an older backup is restored": func(t *testing.T) (string, func() error, func() error) {
			s := pgtest.Start(t)
			return in(s), s.Backup, s.Restore
		},
		"a standby that lagged is promoted": func(t *testing.T) (string, func() error, func() error) {
			primary := pgtest.Start(t)
			standby := primary.Standby(t)
			way := pgtest.NewProxy(t, primary, nil)
			return way.URL(in(primary)), func() error { return standby.Lag(primary) }, func() error {
				primary.Kill()
				way.Target(standby)
				return standby.Promote()
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			place, keep, back := start(t)
			const seller, known, lost, other = "111122223333", "444455556666", "555555555555", "666666666666"
			const revoked, good, secret = "AKIAIOSFODNN7REVOKED", "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
			began := time.Now().Add(-time.Hour)
			buyer := func(account string) adminapi.Marketplace {
				return adminapi.Marketplace{Buyers: []adminapi.Buyer{{AccountID: account, Agreements: []adminapi.Agreement{{ProductCode: "crash", StartTime: &began}}}}}
			}
			market := buyer(known)
			market.Sellers = []adminapi.Seller{{AccountID: seller}}
			market.Products = []adminapi.Product{{ProductCode: "crash", SellerAccountID: seller, Type: "saas", Integration: "legacy", Dimensions: []string{"users"}}}
			market.Users = []adminapi.Principal{{AccountID: seller, Name: "meter", Allow: []string{iam.SellerAccess},
				AccessKeys: []adminapi.AccessKey{{AccessKeyID: revoked, SecretAccessKey: secret}, {AccessKeyID: good, SecretAccessKey: secret}}}}
			send := func(m *meterd, key, buyer string, quantity int32) error {
				client := marketplacemetering.New(marketplacemetering.Options{Region: "us-east-1", BaseEndpoint: &m.Endpoint, HTTPClient: whole{m.client},
					Credentials: credentials.NewStaticCredentialsProvider(key, secret, ""), RetryMaxAttempts: 1})
				at := time.Now()
				out, err := client.BatchMeterUsage(t.Context(), &marketplacemetering.BatchMeterUsageInput{ProductCode: new("crash"),
					UsageRecords: []types.UsageRecord{{Timestamp: &at, Dimension: new("users"), Quantity: &quantity, CustomerAWSAccountId: &buyer}}})
				if err == nil && out.Results[0].Status != types.UsageRecordResultStatusSuccess {
					err = errors.New(string(out.Results[0].Status))
				}
				return err
			}

			nodes := []*meterd{dev(t, place), dev(t, place)}
			nodes[0].admin(t, "POST", "/v1/import", market, new(any))
			if err := keep(); err != nil {
				t.Fatal(err)
			}
			nodes[0].admin(t, "POST", "/v1/import", buyer(lost), new(any))
			for i, m := range nodes {
				m.Poll(t, "the node knows the new buyer", func() bool { return send(m, good, lost, 7) == nil })
				if err := send(m, revoked, known, 5); err != nil {
					t.Fatalf("node %d: %v", i, err)
				}
			}
			for _, m := range nodes { // so that they notice nothing before they are asked
				m.Cmd.Process.Signal(syscall.SIGSTOP)
			}
			if err := back(); err != nil {
				t.Fatal(err)
			}
			third := dev(t, place)
			third.admin(t, "POST", "/v1/import", buyer(other), new(any))
			if code, err := third.ask("DELETE", "/v1/access-keys/"+revoked, nil); err != nil || code != http.StatusNoContent {
				t.Fatalf("revoking a key: %d, %v", code, err)
			}

			for _, m := range nodes {
				m.Cmd.Process.Signal(syscall.SIGCONT)
			}
			var asked sync.WaitGroup
			for i, m := range nodes {
				asked.Go(func() {
					if err := send(m, good, lost, 99); err == nil {
						t.Errorf("node %d took a record of a buyer that the database does not have", i)
					}
				})
				asked.Go(func() {
					if err := send(m, revoked, known, 98); err == nil {
						t.Errorf("node %d honoured a key that was revoked", i)
					}
				})
				asked.Go(func() {
					if code, err := m.ask("PATCH", "/v1/buyers/"+lost, map[string]bool{"suspended": true}); err == nil && code == http.StatusOK {
						t.Errorf("node %d changed a buyer that the database does not have", i)
					}
				})
			}
			asked.Wait()
			for i, m := range nodes {
				if code := m.Wait(t); code != 1 || !strings.Contains(m.Output.String(), "has gone back to an earlier state") {
					t.Errorf("node %d ended with %d", i, code)
				}
			}

			for i, m := range []*meterd{third, dev(t, place)} {
				for _, account := range []string{known, other} {
					if err := send(m, good, account, 3); err != nil {
						t.Errorf("node %d afterwards: %v", i, err)
					}
				}
				var got adminapi.Buyer
				m.admin(t, "GET", "/v1/buyers/"+other, nil, &got)
				if got.Suspended {
					t.Errorf("the buyer who has the number of the one that was lost is suspended, as that was")
				}
				if usage := m.usage(t); len(usage) != 2 || usage[0].Quantity != 3 || usage[1].Quantity != 3 {
					t.Errorf("node %d has %+v", i, usage)
				}
			}
			verify(t, place)
		})
	}
}

// ask calls the admin API and returns the status of the answer.
func (m *meterd) ask(method, path string, in any) (int, error) {
	body, err := json.Marshal(in)
	if err != nil {
		return 0, err
	}
	req, err := http.NewRequest(method, m.AdminEndpoint+path, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Authorization", "Bearer "+m.AdminToken)
	req.Header.Set("Content-Type", "application/json")
	answer, err := m.client.Do(req)
	if err != nil {
		return 0, err
	}
	return answer.StatusCode, answer.Body.Close()
}
