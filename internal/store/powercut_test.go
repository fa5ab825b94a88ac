package store_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/meterd/meterd/internal/adminapi"
	"github.com/meterd/meterd/internal/iam"
	"github.com/meterd/meterd/internal/ledger"
	"github.com/meterd/meterd/internal/market"
	"github.com/meterd/meterd/internal/metering"
	"github.com/meterd/meterd/internal/store"
	"github.com/meterd/meterd/internal/verify"
)

// The tests of this file run the ledger on a disk whose power is cut, or which fails, and then hold it to what it had
// acknowledged. METERD_TEST_POWER_CUTS says how often the power is cut, METERD_TEST_POWER_SEED repeats one of them.

const (
	seller   = "111111111111"
	sellerID = "AKIAIOSFODNN7EXAMPLE"
	host     = "222222222222" // whose workload calls MeterUsage
)

var opening = time.Date(2026, 11, 23, 22, 30, 0, 0, time.UTC)

// customer is the account of a merchant's n-th customer.
func customer(merchant, n int) string { return fmt.Sprintf("7%05d%06d", merchant, n) }

// goods is the marketplace of the given number of merchants, two customers each.
func goods(merchants int) *adminapi.Marketplace {
	began := opening.Add(-72 * time.Hour)
	m := &adminapi.Marketplace{
		Sellers: []adminapi.Seller{{AccountID: seller}},
		Products: []adminapi.Product{
			{ProductCode: "legacy", SellerAccountID: seller, Type: "saas", Integration: "legacy", Dimensions: []string{"users", "gb"}},
			{ProductCode: "software", SellerAccountID: seller, Type: "ami", Dimensions: []string{"pods"}},
		},
		Buyers: []adminapi.Buyer{{AccountID: host, Agreements: []adminapi.Agreement{{ProductCode: "software", StartTime: &began}}}},
		Users: []adminapi.Principal{{AccountID: seller, Name: "meter", Allow: []string{iam.SellerAccess},
			AccessKeys: []adminapi.AccessKey{{AccessKeyID: sellerID, SecretAccessKey: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"}}}},
	}
	for n := range merchants {
		m.Buyers = append(m.Buyers, buyer(customer(n, 0)), buyer(customer(n, 1)))
	}
	return m
}

func buyer(account string) adminapi.Buyer {
	began := opening.Add(-72 * time.Hour)
	return adminapi.Buyer{AccountID: account, Agreements: []adminapi.Agreement{{ProductCode: "legacy", StartTime: &began}}}
}

func configOf(dir string) ledger.Config {
	return ledger.Config{Store: dir, MasterKey: iam.PublishedMasterKey(), Sandbox: true, Now: func() time.Time { return opening },
		Regions: []string{"us-east-1"}, Log: slog.New(slog.DiscardHandler)}
}

// item is what is counted once.
type item struct {
	subject, dimension string
	hour               time.Time
	token              int // of a MeterUsage call
}

type entry struct {
	item
	quantity int32
}

type fact struct {
	quantity int32
	id       metering.RecordID
}

// merchant makes one call at a time and remembers what it was told. No two have an item in common.
type merchant struct {
	n       int
	rand    *rand.Rand
	sent    int // items that were used up
	acked   map[item]fact
	order   []item
	doubt   [][]entry       // new records of calls whose outcome is unknown
	refused [][]entry       // new records of calls of which nothing is stored
	buyers  map[string]bool // made by acts of administration; whether acknowledged
}

func newMerchant(n int, seed uint64) *merchant {
	return &merchant{n: n, rand: rand.New(rand.NewPCG(seed, uint64(n))), acked: map[item]fact{}, buyers: map[string]bool{}}
}

// fresh returns new records.
func (m *merchant) fresh(n int) (records []entry) {
	for ; len(records) < n && m.sent < 20*4; m.sent++ {
		i := item{subject: customer(m.n, m.sent%2), dimension: []string{"users", "gb"}[m.sent/2%2], hour: opening.Truncate(time.Hour).Add(-time.Duration(m.sent/4) * time.Hour)}
		records = append(records, entry{i, 1 + m.rand.Int32N(1000)})
	}
	return records
}

// metered returns a new record of the workload, whose quantity tells its ClientToken.
func (m *merchant) metered() entry {
	m.sent++
	token := m.n*1_000_000 + m.sent
	return entry{item{subject: "runtime-1", dimension: "pods", hour: opening.Truncate(time.Hour), token: token}, int32(token)}
}

// again returns records that were acknowledged.
func (m *merchant) again(n int) (records []entry) {
	for _, at := range m.rand.Perm(len(m.order)) {
		if i := m.order[at]; i.token == 0 && len(records) < n {
			records = append(records, entry{i, m.acked[i].quantity})
		}
	}
	return records
}

// shop is a ledger as the merchants see it.
type shop struct {
	*ledger.Ledger
	seller    *market.Identity
	workload  *market.Identity
	merchants []*merchant
}

var requests atomic.Uint64

func (s *shop) begin(who *market.Identity, o metering.Operation) (*ledger.Call, *metering.Error) {
	id := [16]byte{6: 0x70, 8: 0x80}
	millis := opening.UnixMilli()
	for i := range 6 {
		id[i] = byte(millis >> (40 - 8*i))
	}
	binary.BigEndian.PutUint32(id[12:], uint32(requests.Add(1)))
	return s.Begin(ledger.Caller{Identity: who, Region: "us-east-1", Source: "192.0.2.1", RequestID: id}, o)
}

// open opens the ledger in the folder, and finishes its marketplace if that was cut short. The error is the disk's.
func open(dir string, crew []*merchant) (s *shop, err error) {
	s = &shop{merchants: crew}
	if s.Ledger, err = ledger.Open(configOf(dir)); err != nil {
		return nil, err
	}
	fail := func(err error) (*shop, error) {
		_ = s.Close()
		return nil, err
	}
	if _, err := s.Credential(sellerID, ""); err != nil {
		if _, err := ledger.Act(context.Background(), s.Ledger, s.Local(), market.Import(goods(merchants))); err != nil {
			return fail(err)
		}
	}
	c, err := s.Credential(sellerID, "")
	if err != nil {
		return fail(err)
	}
	s.seller = c.Principal
	w, err := s.CreateWorkloadCredentials(context.Background(), s.Local(), adminapi.WorkloadRequest{Workload: adminapi.Workload{AccountID: host, Platform: "agentcore", ResourceID: "runtime-1", Region: "us-east-1"}})
	if err != nil {
		return fail(err)
	}
	if c, err = s.Credential(w.AccessKeyID, w.SessionToken); err != nil {
		return fail(err)
	}
	s.workload = c.Principal
	return s, nil
}

// wrong is an answer that breaks a promise.
func wrong(format string, args ...any) error { return fmt.Errorf("wrong answer: "+format, args...) }

// step makes one call of any kind. It reports whether that was answered; the error is an answer that is wrong.
func (m *merchant) step(s *shop) (answered bool, err error) {
	switch draw := m.rand.IntN(12); {
	case draw < 5:
		return m.batch(s, append(m.fresh(1+m.rand.IntN(10)), m.again(m.rand.IntN(5))...))
	case draw < 6:
		return m.batch(s, m.fresh(25))
	case draw < 7:
		return m.batch(s, m.again(10))
	case draw < 8:
		conflicts := m.again(5)
		for i := range conflicts {
			conflicts[i].quantity++
		}
		return m.batch(s, append(conflicts, m.fresh(2)...))
	case draw < 10:
		return m.meter(s, m.metered())
	case draw < 11:
		m.sent++
		account := customer(m.n, 100+m.sent)
		_, err := ledger.Act(context.Background(), s.Ledger, s.Local(), market.CreateBuyer(buyer(account)))
		m.buyers[account] = err == nil
		return err == nil, nil
	}
	c, refusal := s.begin(s.seller, metering.BatchMeterUsage)
	if refusal != nil {
		return false, nil
	}
	defer c.End()
	_, _, refusal = c.BatchMeterUsage(&metering.Batch{ProductCode: "unknown", Count: 1, Records: []metering.UsageRecord{{Dimension: "users", HasTimestamp: true,
		Timestamp: metering.InstantOf(opening), CustomerAWSAccountID: customer(m.n, 0)}}}, []byte("{}"))
	switch {
	case refusal == nil:
		return true, wrong("records of a product that is not there are accepted")
	case retryable(refusal):
		return false, nil
	}
	return true, nil
}

func retryable(e *metering.Error) bool {
	return e.Kind == metering.Internal || e.Kind == metering.Throttling
}

// unanswered notes a call that was refused retryably.
func (m *merchant) unanswered(refusal *metering.Error, records []entry) (bool, error) {
	fresh := slices.DeleteFunc(slices.Clone(records), func(e entry) bool { _, known := m.acked[e.item]; return known })
	switch refusal.Kind {
	case metering.Internal:
		m.doubt = append(m.doubt, fresh)
	case metering.Throttling:
		m.refused = append(m.refused, fresh)
	default:
		return true, wrong("%v", refusal)
	}
	return false, nil
}

// settle compares an answer with what was said before, and remembers it.
func (m *merchant) settle(e entry, duplicate bool, id metering.RecordID) error {
	known, before := m.acked[e.item]
	switch {
	case duplicate != (before && known.quantity != e.quantity), before && id != known.id:
		return wrong("%+v: duplicate = %v, id %v; acknowledged before: %v, as %+v", e, duplicate, id, before, known)
	case !before:
		m.acked[e.item] = fact{e.quantity, id}
		m.order = append(m.order, e.item)
	}
	return nil
}

func (m *merchant) batch(s *shop, records []entry) (answered bool, err error) {
	if len(records) == 0 {
		return true, nil
	}
	c, refusal := s.begin(s.seller, metering.BatchMeterUsage)
	if refusal != nil {
		return m.unanswered(refusal, records)
	}
	defer c.End()
	in := &metering.Batch{ProductCode: "legacy", Count: len(records)}
	for i, e := range records {
		in.Records = append(in.Records, metering.UsageRecord{Timestamp: metering.InstantOf(e.hour.Add(time.Duration(i) * time.Minute)), HasTimestamp: true,
			Dimension: e.dimension, Quantity: e.quantity, CustomerAWSAccountID: e.subject})
	}
	lines, outcomes, refusal := c.BatchMeterUsage(in, []byte("{}"))
	if refusal != nil {
		return m.unanswered(refusal, records)
	}
	for i, e := range records {
		_, before := m.acked[e.item]
		if o := outcomes[i]; o != metering.Duplicate && (o == metering.Replayed) != before {
			return true, wrong("%+v is answered with outcome %d", e, o)
		}
		if err := m.settle(e, outcomes[i] == metering.Duplicate, lines[i].ID); err != nil {
			return true, err
		}
	}
	return true, nil
}

func (m *merchant) meter(s *shop, e entry) (answered bool, err error) {
	c, refusal := s.begin(s.workload, metering.MeterUsage)
	if refusal != nil {
		return m.unanswered(refusal, []entry{e})
	}
	defer c.End()
	id, refusal := c.MeterUsage(context.Background(), &metering.Meter{ProductCode: "software", HasProductCode: true, Dimension: e.dimension, Quantity: e.quantity, Timestamp: metering.InstantOf(e.hour), HasTimestamp: true,
		ClientToken: strconv.Itoa(e.token), HasClientToken: true}, []byte("{}"))
	switch {
	case refusal == nil:
		return true, m.settle(e, false, id)
	case refusal.Kind == metering.IdempotencyConflict:
		return true, m.settle(e, true, m.acked[e.item].id)
	}
	return m.unanswered(refusal, []entry{e})
}

// stored lists the records of a ledger.
func (s *shop) stored() (map[item]fact, error) {
	found := map[item]fact{}
	for after := ""; ; {
		page, err := s.Usage(context.Background(), s.Local(), adminapi.UsageFilter{}, after, 0)
		if err != nil {
			return nil, err
		}
		for _, r := range page.Records {
			i := item{subject: r.CustomerAWSAccountID, dimension: r.Dimension, hour: r.Hour}
			if r.Workload != "" {
				i.subject, i.token = r.Workload, int(r.Quantity)
			}
			if _, twice := found[i]; twice {
				return nil, wrong("%+v is stored twice", i)
			}
			id, err := uuid.Parse(r.MeteringRecordID)
			if err != nil {
				return nil, err
			}
			found[i] = fact{int32(r.Quantity), metering.RecordID(id)}
		}
		if after = page.Next; after == "" {
			return found, nil
		}
	}
}

// verified returns an error if the ledger disagrees with itself or with what was acknowledged.
func verified(dir string, merchants []*merchant) error {
	acked := map[metering.RecordID]int32{}
	for _, m := range merchants {
		for _, f := range m.acked {
			acked[f.id] = f.quantity
		}
	}
	report, err := verify.Ledger(dir, verify.Options{Acknowledged: acked})
	if err == nil && report.ProblemCount > 0 {
		err = fmt.Errorf("verify: %d problems: %q", report.ProblemCount, report.Problems)
	}
	return err
}

// hold holds the ledger in the folder to what was acknowledged. The folder is used without a disk, by one process after
// another. made reports whether the ledger was made, by what was said.
func hold(dir string, merchants []*merchant, made bool, r *rand.Rand) error {
	there, err := store.Exists(dir)
	switch {
	case err != nil:
		return err
	case made && !there:
		return errors.New("the ledger was made, but is not there")
	case !there:
		if err := ledger.Create(configOf(dir)); err != nil {
			return fmt.Errorf("making it again: %w", err)
		}
	}
	first := r.IntN(2) == 0 // what reads a folder first recovers it
	if first {
		switch err := verified(dir, merchants); {
		case errors.Is(err, store.ErrUnsure): // it is to be opened before
			first = false
		case err != nil:
			return err
		}
	}
	s, err := open(dir, merchants)
	if err != nil {
		return err
	}
	if err := errors.Join(s.compare(), s.Close()); err != nil || first {
		return err
	}
	return verified(dir, merchants)
}

// compare compares what is stored with what was acknowledged, and sends all of it again.
func (s *shop) compare() error {
	stored, err := s.stored()
	if err != nil {
		return err
	}
	rest := maps.Clone(stored)
	for _, m := range s.merchants {
		for i, f := range m.acked {
			if got, ok := stored[i]; got != f {
				return fmt.Errorf("%+v was acknowledged as %+v; stored: %v, as %+v", i, f, ok, got)
			}
			delete(rest, i)
		}
		for _, records := range m.doubt {
			present := 0
			for _, e := range records {
				if got, ok := stored[e.item]; ok {
					present++
					if got.quantity != e.quantity {
						return fmt.Errorf("%+v was sent, but it is stored as %+v", e, got)
					}
					m.acked[e.item] = got // so must be answered
					m.order = append(m.order, e.item)
				}
				delete(rest, e.item)
			}
			if present != 0 && present != len(records) {
				return fmt.Errorf("of a call without an answer %d of %d records are stored", present, len(records))
			}
		}
	}
	for i, f := range rest {
		return fmt.Errorf("%+v is stored as %+v, but no call can have stored it", i, f)
	}
	for _, m := range s.merchants {
		if err := m.resend(s); err != nil {
			return err
		}
	}
	return nil
}

// resend sends everything again, what was not answered too, and asks for the buyers.
func (m *merchant) resend(s *shop) error {
	for account, acked := range m.buyers {
		if _, err := ledger.Find(context.Background(), s.Ledger, s.Local(), market.Buyer(adminapi.AccountPath{AccountID: account})); err != nil {
			if acked {
				return fmt.Errorf("buyer %s was acknowledged: %w", account, err)
			}
			continue
		}
		page, err := ledger.List(context.Background(), s.Ledger, s.Local(), market.Agreements(adminapi.AgreementPaging{AgreementFilter: adminapi.AgreementFilter{BuyerAccountID: account}}), "", 0)
		if err != nil || len(page.Items) != 1 {
			return fmt.Errorf("buyer %s has %d agreements, want the one it came with: %w", account, len(page.Items), err)
		}
	}
	var batches, meters []entry
	for _, i := range m.order {
		if e := (entry{i, m.acked[i].quantity}); i.token == 0 {
			batches = append(batches, e)
		} else {
			meters = append(meters, e)
		}
	}
	calls := slices.Collect(slices.Chunk(batches, metering.MaxUsageRecords))
	for _, e := range meters {
		calls = append(calls, []entry{e})
	}
	if len(m.order) > 0 {
		conflict := entry{m.order[0], m.acked[m.order[0]].quantity + 1}
		calls = append(calls, []entry{conflict})
	}
	for _, records := range slices.Concat(calls, m.doubt, m.refused) {
		send := m.batch
		if len(records) > 0 && records[0].token != 0 {
			send = func(s *shop, records []entry) (bool, error) { return m.meter(s, records[0]) }
		}
		if answered, err := send(s, records); err != nil || !answered {
			return fmt.Errorf("sent again, %+v is answered: %v: %w", records, answered, err)
		}
	}
	return nil
}

// trade has the merchants make calls beside each other, and somebody read.
func (s *shop) trade(d *disk, calls int, reading bool) error {
	errs := make(chan error, len(s.merchants)+1)
	var done sync.WaitGroup
	for _, m := range s.merchants {
		done.Go(func() {
			for range calls {
				switch answered, err := m.step(s); {
				case err != nil:
					errs <- err
					return
				case !answered && !d.off():
					errs <- errors.New("a call is not answered, although the power is on")
					return
				case !answered: // one more, which must not be answered either
					if answered, _ := m.meter(s, m.metered()); answered {
						errs <- errors.New("a call is answered after one was not")
					}
					return
				}
			}
		})
	}
	if reading {
		done.Go(func() {
			for range calls / 2 {
				if _, err := s.stored(); err != nil && !d.off() {
					errs <- fmt.Errorf("reading: %w", err)
				}
			}
		})
	}
	done.Wait()
	close(errs)
	return <-errs
}

const merchants = 3 // at most

// cutPower runs a ledger until the power is cut, at a moment that the seed chooses, once or twice, and holds what is
// left to what was acknowledged. It returns where the power was cut.
func cutPower(t testing.TB, parent, template string, seed uint64, lies func(op) bool) (places []string, err error) {
	r := rand.New(rand.NewPCG(seed, 0))
	var crew []*merchant
	for n := range []int{1, merchants}[r.IntN(2)] {
		crew = append(crew, newMerchant(n, seed))
	}
	dir := filepath.Join(parent, "0", "ledger")
	made := r.IntN(5) > 0
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return nil, err
	}
	moments := 300
	if !made && r.IntN(2) == 0 {
		moments = 120 // most of which are those of making it
	}
	if made {
		if err := os.CopyFS(dir, os.DirFS(template)); err != nil {
			return nil, err
		}
	}
	for round := 1; ; round++ {
		d := newDisk(t, dir, seed+uint64(round))
		defer d.eject()
		d.left, d.lies = r.IntN(moments), lies
		if err = use(d, crew, &made, r); err != nil {
			return nil, fmt.Errorf("%w; the last operations: %q", err, d.trail[max(0, len(d.trail)-20):])
		}
		places = append(places, d.place)
		dir = filepath.Join(parent, strconv.Itoa(round), "ledger")
		if err := d.restore(dir); err != nil {
			return nil, err
		}
		if r.IntN(4) > 0 || !made {
			if err := hold(dir, crew, made, r); err != nil {
				return nil, fmt.Errorf("%w; the power was cut at %q; the last operations: %q", err, places, d.trail[max(0, len(d.trail)-20):])
			}
			return places, nil
		}
		moments = 40 // the next cut comes while it recovers, or soon after
	}
}

// use makes a ledger if there is none, opens it, has the merchants trade, closes it and so on until the power is cut.
func use(d *disk, crew []*merchant, made *bool, r *rand.Rand) error {
	if !*made {
		d.enter("create")
		if err := ledger.Create(configOf(d.dir)); err != nil {
			return d.excuse(err)
		}
		*made = true
	}
	for !d.off() {
		d.enter("open")
		s, err := open(d.dir, crew)
		if err != nil {
			return d.excuse(err)
		}
		d.enter("serve")
		err = s.trade(d, 1+r.IntN(12), r.IntN(4) == 0)
		d.enter("close")
		if err := errors.Join(err, d.excuse(s.Close())); err != nil {
			return err
		}
	}
	return nil
}

// excuse returns the error unless the power is cut.
func (d *disk) excuse(err error) error {
	if d.off() {
		return nil
	}
	return err
}

// restore writes what the disk holds to another folder.
func (d *disk) restore(dir string) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil || d.image == nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	for name, b := range d.image {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// stock makes a folder with a marketplace, which the disks start with.
func stock(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "ledger")
	if err := ledger.Create(configOf(dir)); err != nil {
		t.Fatal(err)
	}
	s, err := open(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

// number returns the number in an environment variable.
func number(t *testing.T, name string, otherwise uint64) uint64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// cuts cuts the power that often, beginning with the seed, until there is an error. It returns how often where.
func cuts(t *testing.T, n, seed uint64, lies func(op) bool) (places map[string]int, err error) {
	template := stock(t)
	places = map[string]int{}
	var mu sync.Mutex
	var next uint64
	var workers sync.WaitGroup
	for range 2 * runtime.GOMAXPROCS(0) { // they wait for a real disk too
		workers.Go(func() {
			mu.Lock()
			defer mu.Unlock()
			for next < n && err == nil {
				seed := seed + next
				next++
				parent := t.TempDir()
				mu.Unlock()
				at, failure := cutPower(t, parent, template, seed, lies)
				if failure != nil && lies == nil {
					failure = fmt.Errorf("%w; the folders are kept in %s", failure, keep(parent))
				}
				mu.Lock()
				if failure != nil {
					err = fmt.Errorf("METERD_TEST_POWER_SEED=%d: %w", seed, failure)
				} else if failure := os.RemoveAll(parent); failure != nil {
					err = failure
				}
				for _, place := range at {
					places[place]++
				}
			}
		})
	}
	workers.Wait()
	return places, err
}

// keep copies what would go with the test.
func keep(dir string) string {
	to, err := os.MkdirTemp("", "meterd-powercut-")
	if err == nil {
		err = os.CopyFS(to, os.DirFS(dir))
	}
	return fmt.Sprint(to, " ", err)
}

// TestPowerCut cuts the power again and again, each time at another moment.
func TestPowerCut(t *testing.T) {
	seams(t, 8, 24)
	n, seed := number(t, "METERD_TEST_POWER_CUTS", 50), number(t, "METERD_TEST_POWER_SEED", rand.Uint64()>>1)
	if os.Getenv("METERD_TEST_POWER_SEED") != "" {
		n = 1
	}
	places, err := cuts(t, n, seed, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, place := range slices.Sorted(maps.Keys(places)) {
		t.Logf("cut %4d × in %s", places[place], place)
	}
	if n < 1000 {
		return
	}
	for _, wanted := range []string{
		"create: write ", "create: sync ", "open: write ", "open: sync ",
		"serve: write ledger.db-wal", "serve: sync ledger.db-wal", // commits
		"serve: write ledger.db", "serve: sync ledger.db", "serve: truncate ledger.db", // checkpoints
		"serve: begin ledger.db-wal", // the log after one
		"close: write ", "close: sync ",
	} {
		if !slices.ContainsFunc(slices.Collect(maps.Keys(places)), func(place string) bool {
			return place == wanted || strings.HasSuffix(wanted, " ") && strings.HasPrefix(place, wanted)
		}) {
			t.Errorf("of %d times the power was never cut in %q", n, wanted)
		}
	}
}

// TestPowerCutNotices has syncs do nothing, and shows that what is lost then is missed.
func TestPowerCutNotices(t *testing.T) {
	seams(t, 8, 24)
	for _, c := range []struct {
		name, file string
		seed       uint64 // to begin with, near one that shows it
	}{
		{"log", "ledger.db-wal", 1},
		{"database", "ledger.db", 1},
		{"folder", "", 8},
		{"folder above", above, 46},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := cuts(t, 300, c.seed, func(o op) bool { return o.file == c.file })
			if err == nil {
				t.Fatal("nothing is missed")
			}
			t.Log(err)
		})
	}
}
