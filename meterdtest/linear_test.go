package meterdtest_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/smithy-go"
	"github.com/meterd/meterd/meterdtest"
)

// asked is what a client does with a key: it sends quantities, or reads what is stored if there are none.
type asked []int32

// answered is what it is told: of each quantity whether it is the one that counts, or what is stored.
type answered struct {
	counts []bool
	sum    int64
}

// oneKey is what a key is to all clients together: the first quantity counts, whichever that is, others do not.
var oneKey = porcupine.Model{
	Init: func() any { return int32(0) },
	Step: func(state, input, output any) (bool, any) {
		counts, told := state.(int32), output.(answered)
		if len(input.(asked)) == 0 {
			return told.sum == int64(counts), counts
		}
		for i, q := range input.(asked) {
			if counts == 0 {
				counts = q
			}
			if told.counts[i] != (counts == q) {
				return false, state
			}
		}
		return true, counts
	},
}

// contested is a key that clients contest.
type contested struct {
	usage meterdtest.Usage
	most  int // quantities in one call
	send  func(node *market, r *rand.Rand, quantities asked) (counts []bool, id string, err error)
}

// TestLinearizable has clients send different quantities for one key at once, again and again, and read what is
// stored: their answers are those of one order of all calls, in which each lies between its beginning and its end.
// On PostgreSQL they use two nodes.
func TestLinearizable(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	config := meterdtest.Config{Dir: t.TempDir()}
	nodes := []*market{openMarket(t, "", config)}
	if os.Getenv("METERD_TEST_STORE") == "postgres" {
		nodes = append(nodes, openMarket(t, "", config))
	}
	keys := contestedKeys(nodes[0])
	var all sync.WaitGroup
	for worker := range 8 { // that their calls are committed together
		all.Go(func() {
			for n := worker; n < len(keys); n += 8 {
				k := keys[n]
				history, err := contest(rand.New(rand.NewPCG(seed, uint64(n))), nodes, k)
				if err != nil {
					t.Errorf("history %d, of %+v: %v", n, k.usage, err)
				} else if !porcupine.CheckOperations(oneKey, history) {
					var text strings.Builder
					for _, op := range history {
						fmt.Fprintf(&text, "client %d, %d to %d: %v gets %+v\n", op.ClientId, op.Call, op.Return, op.Input, op.Output)
					}
					t.Errorf("history %d, of %+v, has no order:\n%s", n, k.usage, &text)
				}
			}
		})
	}
	all.Wait()
	t.Logf("%d histories", len(keys))
}

// contest has five clients make six calls each. All records that count must have one id.
func contest(r *rand.Rand, nodes []*market, k contested) (history []porcupine.Operation, err error) {
	var now atomic.Int64
	var all sync.WaitGroup
	var mu sync.Mutex
	first := ""
	for client := range 5 {
		r := rand.New(rand.NewPCG(r.Uint64(), 0))
		all.Go(func() {
			for range 6 {
				node := nodes[r.IntN(len(nodes))]
				var in asked
				if r.IntN(3) > 0 {
					for range 1 + r.IntN(k.most) {
						in = append(in, 1+r.Int32N(4))
					}
				}
				var out answered
				var id string
				var failed error
				called := now.Add(1)
				if len(in) == 0 {
					out.sum = node.Quantity(k.usage)
				} else {
					out.counts, id, failed = k.send(node, r, in)
				}
				returned := now.Add(1)
				mu.Lock()
				if first == "" {
					first = id
				}
				if id != "" && id != first {
					failed = fmt.Errorf("the ids %s and %s", first, id)
				}
				err = errors.Join(err, failed)
				history = append(history, porcupine.Operation{ClientId: client, Input: in, Call: called, Output: out, Return: returned})
				mu.Unlock()
				if failed != nil {
					return
				}
			}
		})
	}
	all.Wait()
	return history, err
}

// contestedKeys are keys of each kind: of a buyer under both identifiers, of a licence, and of workloads.
func contestedKeys(m *market) (keys []contested) {
	for hour := range 23 {
		at := m.Clock.Now().Truncate(time.Hour).Add(-time.Duration(hour) * time.Hour)
		add := func(u meterdtest.Usage, most int, send func(*market, *rand.Rand, asked) ([]bool, string, error)) {
			u.From, u.To = at, at.Add(time.Hour)
			keys = append(keys, contested{u, most, send})
		}
		for _, region := range []string{"us-east-1", "eu-west-1"} {
			for _, dimension := range []string{"users", "gb"} {
				add(meterdtest.Usage{ProductCode: P1, Dimension: dimension, Region: region}, 3, func(node *market, r *rand.Rand, quantities asked) ([]bool, string, error) {
					w := node.cust1()
					if r.IntN(2) == 0 {
						w = account(node.a.AccountID)
					}
					return node.contend(region, P1, w, dimension, at, quantities)
				})
			}
			for _, dimension := range []string{"requests", "storage_gb"} {
				add(meterdtest.Usage{ProductCode: P2, Dimension: dimension, Region: region}, 3, func(node *market, _ *rand.Rand, quantities asked) ([]bool, string, error) {
					return node.contend(region, "", node.L1(), dimension, at, quantities)
				})
			}
		}
		for _, platform := range []string{"ec2", "ecs"} {
			if hour > 5 {
				continue // they may not be so late
			}
			add(meterdtest.Usage{Workload: m.workload(m.a, platform, 0).ResourceID}, 1, func(node *market, _ *rand.Rand, quantities asked) ([]bool, string, error) {
				w := node.workload(node.a, platform, 0)
				out, err := node.InProcess(w.Credentials, w.SessionToken, w.Region).MeterUsage(node.ctx, node.jobs(quantities[0], at.Format(time.RFC3339)), once)
				var exception smithy.APIError
				if errors.As(err, &exception) && exception.ErrorCode() == "DuplicateRequestException" {
					return []bool{false}, "", nil
				}
				if err != nil {
					return nil, "", err
				}
				return []bool{true}, aws.ToString(out.MeteringRecordId), nil
			})
		}
	}
	return keys
}

// contend sends quantities for one key in one call.
func (m *market) contend(region, product string, w who, dimension string, at time.Time, quantities asked) (counts []bool, id string, err error) {
	in := input(product)
	for _, q := range quantities {
		in.UsageRecords = append(in.UsageRecords, m.record(w, dimension, q, at.Format(time.RFC3339)))
	}
	out, err := m.InProcess(m.Description.Sellers[0].Credentials, "", region).BatchMeterUsage(m.ctx, in, once)
	if err != nil {
		return nil, "", err
	}
	if len(out.Results) != len(quantities) {
		return nil, "", fmt.Errorf("%d records get %d results", len(quantities), len(out.Results))
	}
	for _, r := range out.Results {
		if id == "" {
			id = aws.ToString(r.MeteringRecordId)
		}
		if got := aws.ToString(r.MeteringRecordId); got != id {
			return nil, "", fmt.Errorf("the ids %s and %s", id, got)
		}
		counts = append(counts, r.Status == success)
	}
	return counts, id, nil
}
