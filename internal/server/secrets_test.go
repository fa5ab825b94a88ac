package server_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/meterd/meterd/internal/ledger"
	"github.com/meterd/meterd/internal/sandbox"
	"github.com/meterd/meterd/internal/store"
)

// logged is what was logged.
type logged struct {
	mu sync.Mutex
	bytes.Buffer
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.Buffer.Write(b)
}

// Wherever a caller puts a token or a secret, it is neither stored nor logged.
func TestNoSecretIsKept(t *testing.T) {
	log := new(logged)
	e := openEndpoint(t, func(c *ledger.Config) {
		c.Log = slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	secrets := map[string]string{"registration token": e.token, "secret": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "session": e.task.SessionToken, "admin token": sandbox.AdminToken + "0Aq1Bz2Cy3Dx4Ew5Fv6Gu7Ht8Is9Jr0"}
	for what, secret := range secrets {
		short := secret[:min(len(secret), 250)]
		for i, body := range []string{
			`{"RegistrationToken":"` + secret + `"}`, `{"RegistrationToken":"` + secret, `{"RegistrationToken":["` + secret + `"]}`, `{"` + secret + `":1,"` + secret + `":1}`, secret,
			`{"ProductCode":"` + secret + `","UsageRecords":[]}`, `{"ProductCode":"` + short + `","UsageRecords":[],"UsageDimension":"x","Timestamp":1,"PublicKeyVersion":1}`,
			batchBody(fmt.Sprintf(`{"Timestamp":%d,"Dimension":"%s","CustomerAWSAccountId":"444444444444"}`, wall.Unix(), short)),
			batchBody(fmt.Sprintf(`{"Timestamp":%d,"Dimension":"users","CustomerIdentifier":"%s"}`, wall.Unix(), short)),
			fmt.Sprintf(`{"UsageRecords":[{"Timestamp":%d,"Dimension":"requests","CustomerAWSAccountId":"444444444444","LicenseArn":"%s"}]}`, wall.Unix(), short),
			batchBody(usageRecord(`,"UsageAllocations":[{"AllocatedUsageQuantity":0,"Tags":[{"Key":"` + short + `","Value":"|"}]}]`)),
			fmt.Sprintf(`{"ProductCode":"%s","UsageDimension":"%s","Timestamp":%d}`, sandbox.Container, short, wall.Unix()),
		} {
			for _, operation := range []string{"BatchMeterUsage", "MeterUsage", "RegisterUsage", "ResolveCustomer"} {
				who := e.seller
				if operation == "MeterUsage" || operation == "RegisterUsage" {
					who = e.task
				}
				a := e.call(who, operation, body)
				if a.status == 200 {
					continue
				}
				if call := e.audited(a.requestID); call == nil || strings.Contains(call.Message+call.Request, secret[8:32]) {
					t.Errorf("%s, body %d of %s: audited is %+v", what, i, operation, call)
				}
			}
		}
		e.call(e.seller, secret, "{}") // X-Amz-Target is logged
	}
	calls := 0
	err := store.Read(e.dir, func(r *store.Reader, _ store.Meta) error {
		return r.Calls(func(c *store.Call, _ uint32) error {
			calls++
			for what, secret := range secrets {
				if bytes.Contains(c.Detail, []byte(secret[8:32])) {
					t.Errorf("%s is stored: %q", what, c.Detail)
				}
			}
			return nil
		}, func(int64) error { return nil })
	})
	if err != nil || calls < 150 {
		t.Errorf("%d calls, error %v", calls, err)
	}
	for what, secret := range secrets {
		if at := strings.Index(log.String(), secret[8:32]); at >= 0 {
			t.Errorf("%s is logged: %q", what, log.String()[max(0, at-200):at+40])
		}
	}
}
