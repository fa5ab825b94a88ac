package main

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// region is the region that requests are signed for.
const region = "us-east-1"

// recordsPerCall is the most that BatchMeterUsage takes.
const recordsPerCall = 25

// keyspace numbers all the usage records that can be sent: each number is another buyer, dimension or hour, so that
// no two have the same key. An hour is used up before the one before it is begun, and within an hour successive
// records have unrelated buyers, because neighbours in memory would flatter the server.
type keyspace struct {
	product            string // if there are several, their last five characters are their numbers
	products           int64  // 0 or 1 for one; each of several has buyersOfProduct buyers of its own
	buyers, dimensions int64
	hours              []int64 // their first seconds since the Unix epoch, newest first
}

func (k *keyspace) size() int64 {
	if k.products > 1 {
		return k.products * (buyersOfProduct * k.dimensions / recordsPerCall * recordsPerCall) * int64(len(k.hours))
	}
	return k.buyers * k.dimensions * int64(len(k.hours))
}

func (k *keyspace) record(i int64) (account, dimension, timestamp int64) {
	if k.products > 1 {
		// The calls go through the products in turn; a product has room for so many calls in an hour.
		calls := buyersOfProduct * k.dimensions / recordsPerCall
		turn := i / recordsPerCall / k.products
		place := turn%calls*recordsPerCall + i%recordsPerCall
		return firstBuyer + k.productOf(i)*buyersOfProduct + place/k.dimensions, place % k.dimensions, k.hours[turn/calls]
	}
	const stride = 1<<31 - 1 // a prime, so that every place of the hour is met once
	hour := k.buyers * k.dimensions
	place := i % hour * stride % hour
	return firstBuyer + place/k.dimensions, place % k.dimensions, k.hours[i/hour]
}

// productOf returns the number of the product that a record is for.
func (k *keyspace) productOf(i int64) int64 { return i / recordsPerCall % max(1, k.products) }

const buyersOfProduct = 10

const firstBuyer = 300_000_000_000 // account id of the first buyer; the others follow

const maxDimensions = 36

// dimensionName names a dimension, as long as such names are in life.
func dimensionName(n int64) string { return "api_requests_tier" + strconv.FormatInt(n, maxDimensions) }

// shape is the form of all requests of a phase.
type shape struct {
	records     int // in a call
	allocations int // of each record; 0 for none
}

// quantity returns the quantity of record i, always four digits.
func (s shape) quantity(i int64) int64 {
	if s.allocations > 0 {
		return int64(s.allocations) * s.share()
	}
	return 1000 + i%9000
}

// share is the quantity of each allocation.
func (s shape) share() int64 { return int64(max(1, 1000/s.allocations)) }

// request is a signed BatchMeterUsage call as bytes, made once for each connection. Every member that changes from
// call to call has a fixed width and is overwritten in place.
type request struct {
	buf  []byte // the whole HTTP request
	body []byte // the end of buf
	date []byte // X-Amz-Date in buf; the first 8 bytes are the day
	day  []byte // of the credential scope in buf
	hash []byte // the signature in buf, in hexadecimal

	slots   []slot
	product []byte // its last five characters

	secret    string
	second    int64 // that date stands for
	canonical []byte
	dates     [2][]byte              // date in canonical and in toSign; the day of the scope follows in the latter
	toSign    []byte                 // HMAC's inner block, then the string to sign
	outer     [sha256.BlockSize]byte // HMAC's outer block
}

// slot is the place of one record in a request's body.
type slot struct{ account, dimension, quantity, timestamp []byte }

const (
	signedHeaders = "content-length;content-type;host;x-amz-date;x-amz-target"
	contentType   = "application/x-amz-json-1.1"
	dateFormat    = "20060102T150405Z"
)

func newRequest(t *target, address string, s shape) *request {
	r := &request{secret: t.secretAccessKey}
	body, slots := newBody(t.keys.product, s)

	scope := "/00000000/" + region + "/aws-marketplace/aws4_request"
	head := "POST / HTTP/1.1\r\nHost: " + address +
		"\r\nUser-Agent: meterd-bench\r\nContent-Type: " + contentType +
		"\r\nX-Amz-Target: AWSMPMeteringService.BatchMeterUsage\r\nContent-Length: " + strconv.Itoa(len(body)) +
		"\r\nX-Amz-Date: 00000000T000000Z\r\nAuthorization: AWS4-HMAC-SHA256 Credential=" + t.accessKeyID + scope +
		", SignedHeaders=" + signedHeaders + ", Signature="
	r.buf = append([]byte(head+strings.Repeat("0", 2*sha256.Size)+"\r\n\r\n"), body...)
	r.body = r.buf[len(r.buf)-len(body):]
	code := bytes.Index(r.body, []byte(t.keys.product))
	r.product = r.body[code+len(t.keys.product)-5:][:5]
	r.hash = r.buf[len(head) : len(head)+2*sha256.Size]
	at := func(mark string, n int) []byte {
		i := strings.Index(head, mark) + len(mark)
		return r.buf[i : i+n]
	}
	r.date = at("X-Amz-Date: ", len(dateFormat))
	r.day = at("Credential="+t.accessKeyID+"/", 8)
	for _, o := range slots {
		r.slots = append(r.slots, slot{account: r.body[o.account : o.account+12], dimension: r.body[o.dimension : o.dimension+1],
			quantity: r.body[o.quantity : o.quantity+4], timestamp: r.body[o.timestamp : o.timestamp+10]})
	}

	r.canonical = []byte("POST\n/\n\ncontent-length:" + strconv.Itoa(len(body)) + "\ncontent-type:" + contentType + "\nhost:" + address +
		"\nx-amz-date:00000000T000000Z\nx-amz-target:AWSMPMeteringService.BatchMeterUsage\n\n" + signedHeaders + "\n" + strings.Repeat("0", 2*sha256.Size))
	r.toSign = append(make([]byte, sha256.BlockSize), "AWS4-HMAC-SHA256\n00000000T000000Z\n"+scope[1:]+"\n"+strings.Repeat("0", 2*sha256.Size)...)
	r.dates[0] = r.canonical[bytes.Index(r.canonical, []byte("00000000T")):][:len(dateFormat)]
	r.dates[1] = r.toSign[bytes.Index(r.toSign, []byte("00000000T")):][:len(dateFormat)+len("\n00000000")]
	return r
}

// offsets is a slot before its request has a place in memory.
type offsets struct{ account, dimension, quantity, timestamp int }

func newBody(product string, s shape) ([]byte, []offsets) {
	b := []byte(`{"ProductCode":"` + product + `","UsageRecords":[`)
	var slots []offsets
	for i := range s.records {
		if i > 0 {
			b = append(b, ',')
		}
		var o offsets
		put := func(before, value string) int {
			b = append(b, before...)
			at := len(b)
			b = append(b, value...)
			return at
		}
		o.timestamp = put(`{"Timestamp":`, "0000000000")
		o.account = put(`,"CustomerAWSAccountId":"`, "000000000000")
		name := dimensionName(0)
		o.dimension = put(`","Dimension":"`, name) + len(name) - 1
		o.quantity = put(`","Quantity":`, "0000")
		for a := range s.allocations {
			before := `,{"AllocatedUsageQuantity":`
			if a == 0 {
				before = `,"UsageAllocations":[` + before[1:]
			}
			put(before, strconv.FormatInt(s.share(), 10))
			put(`,"Tags":[{"Key":"CostCenter","Value":"`, fmt.Sprintf(`%05d"}]}`, a))
		}
		if s.allocations > 0 {
			b = append(b, ']')
		}
		b = append(b, '}')
		slots = append(slots, o)
	}
	return append(b, `]}`...), slots
}

// put writes record i, with the given quantity, into a slot.
func (r *request) put(k *keyspace, at int, i, quantity int64) {
	s := &r.slots[at]
	account, dimension, timestamp := k.record(i)
	digits(s.account, account)
	s.dimension[0] = strconv.FormatInt(dimension, maxDimensions)[0]
	digits(s.quantity, quantity)
	digits(s.timestamp, timestamp)
}

// digits writes n over all of b, in decimal.
func digits(b []byte, n int64) {
	for i := len(b) - 1; i >= 0; i-- {
		b[i] = byte('0' + n%10)
		n /= 10
	}
}

// sign signs the request as AWS's SDKs do. What depends on the date is kept for as long as the second lasts.
func (r *request) sign(now time.Time) {
	if second := now.Unix(); second != r.second {
		r.second = second
		now.UTC().AppendFormat(r.date[:0], dateFormat)
		copy(r.dates[0], r.date)
		copy(r.dates[1], r.date)
		if day := r.date[:8]; !bytes.Equal(day, r.day) {
			copy(r.day, day)
			copy(r.dates[1][len(dateFormat)+1:], day)
			r.derive()
		}
	}
	sum := sha256.Sum256(r.body)
	hex.Encode(r.canonical[len(r.canonical)-2*len(sum):], sum[:])
	sum = sha256.Sum256(r.canonical)
	hex.Encode(r.toSign[len(r.toSign)-2*len(sum):], sum[:])
	sum = sha256.Sum256(r.toSign)
	var outer [sha256.BlockSize + sha256.Size]byte
	copy(outer[:], r.outer[:])
	copy(outer[sha256.BlockSize:], sum[:])
	sum = sha256.Sum256(outer[:])
	hex.Encode(r.hash, sum[:])
}

// derive makes the signing key of the request's day and keeps it as HMAC's two first blocks.
func (r *request) derive() {
	key := []byte("AWS4" + r.secret)
	for _, part := range []string{string(r.day), region, "aws-marketplace", "aws4_request"} {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(part))
		key = mac.Sum(nil)
	}
	for i := range r.outer {
		var k byte
		if i < len(key) {
			k = key[i]
		}
		r.toSign[i], r.outer[i] = k^0x36, k^0x5c
	}
}

// client is one keep-alive connection.
type client struct {
	conn net.Conn
	in   []byte
}

// roundTrip sends a request and returns the status and body of its answer; the body is valid until the next call.
func (c *client) roundTrip(request []byte) (status int, body []byte, err error) {
	if _, err := c.conn.Write(request); err != nil {
		return 0, nil, err
	}
	filled, want := 0, -1 // bytes read, bytes of the whole answer once they are known
	var head int
	for want < 0 || filled < want {
		if filled == len(c.in) {
			c.in = append(c.in, make([]byte, len(c.in))...)
		}
		n, err := c.conn.Read(c.in[filled:])
		filled += n
		if err != nil {
			return 0, nil, fmt.Errorf("after %d bytes of an answer: %w", filled, err)
		}
		if want < 0 {
			if head = bytes.Index(c.in[:filled], []byte("\r\n\r\n")) + 4; head < 4 {
				continue
			}
			length, err := contentLength(c.in[:head])
			if err != nil {
				return 0, nil, err
			}
			want = head + length
		}
	}
	if filled > want {
		return 0, nil, fmt.Errorf("%d bytes more than Content-Length says", filled-want)
	}
	if status, err = strconv.Atoi(string(c.in[len("HTTP/1.1 "):][:3])); err != nil {
		return 0, nil, fmt.Errorf("status line: %w", err)
	}
	return status, c.in[head:want], nil
}

// once sends one request on a connection of its own and returns the body of its answer, which must be a success.
func once(ctx context.Context, address string, request []byte) ([]byte, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	c := client{conn: conn, in: make([]byte, 16<<10)}
	status, body, err := c.roundTrip(request)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("HTTP status %d: %.500s", status, body)
	}
	return body, err
}

// contentLength reads the header as Go's servers write it.
func contentLength(head []byte) (int, error) {
	const name = "\r\nContent-Length: "
	i := bytes.Index(head, []byte(name))
	if i < 0 || !bytes.HasPrefix(head, []byte("HTTP/1.1 ")) {
		return 0, fmt.Errorf("not an HTTP/1.1 answer with a Content-Length: %q", head)
	}
	head = head[i+len(name):]
	return strconv.Atoi(string(head[:bytes.IndexByte(head, '\r')]))
}

// target is a service to load, and what it owes: everything it has acknowledged.
type target struct {
	addresses                    []string // host:port of each node; connections are spread over them
	accessKeyID, secretAccessKey string
	keys                         *keyspace
	echoes                       bool      // it answers with the records it was sent; the no-op does not
	pids                         []int     // of the nodes' processes; none if they are in this one
	database                     *database // that they share; nil if they share none

	next         atomic.Int64 // first record that was not sent yet
	acknowledged atomic.Int64 // records that got Success and had not been sent before
	quantity     atomic.Int64 // their sum
	ids          sync.Map     // record → its MeteringRecordId, of the answers that were read in full
}

// mode is which records a phase sends.
type mode int

const (
	fresh  mode = iota // records that were never sent
	replay             // records that were acknowledged before, all of them
	mixed              // fresh ones, 2 % of them replaced by such that were acknowledged, a tenth of these with another quantity
)

// phase is a load: so many connections, each with one request under way.
type phase struct {
	name        string
	mode        mode
	shape       shape
	connections int
	from, to    int64         // replay: the records to send, again and again; to > 0 otherwise: stop at this record
	warm        time.Duration // before the figures are taken
	measure     time.Duration // 0: until the record to is reached
	rate        float64       // requests a second, sent by the clock (open loop); 0: each connection sends as soon as it is answered
	sheds       bool          // the service may answer ThrottlingException
	beside      func() error  // called twice a second
}

// result is what a phase measured.
type result struct {
	phase
	elapsed           time.Duration
	requests, records int             // answered while the figures were taken
	latencies         []time.Duration // of those requests, ascending
	throttled         []time.Duration // of those that were refused with ThrottlingException, ascending
	failures          int             // wrong or missing answers, in the whole phase
	failure           string          // the first of them
	cpu                               // CPU time while the figures were taken
	first, end        int64           // the records that had not been sent before: first up to end
}

func (r *result) perSecond() float64 { return float64(r.requests) / r.elapsed.Seconds() }

func (r *result) recordsPerSecond() float64 { return float64(r.records) / r.elapsed.Seconds() }

// run loads the target and returns what was measured.
func (t *target) run(ctx context.Context, p phase) (r *result, err error) {
	l := &load{target: t, phase: p}
	workers := make([]*worker, p.connections)
	for i := range workers {
		var d net.Dialer
		address := t.addresses[i%len(t.addresses)]
		conn, err := d.DialContext(ctx, "tcp", address)
		if err != nil {
			return nil, err
		}
		defer conn.Close()
		workers[i] = &worker{load: l, client: client{conn: conn, in: make([]byte, 16<<10)}, request: newRequest(t, address, p.shape),
			sent: make([]sent, p.shape.records), latencies: make([]time.Duration, 0, 1<<16)}
	}
	r = &result{phase: p, first: t.next.Load()}
	var wg sync.WaitGroup
	l.started = time.Now()
	l.measuring.Store(p.warm == 0)
	for _, w := range workers {
		wg.Go(w.run)
	}
	if p.beside != nil {
		ended, done := make(chan struct{}), make(chan error)
		go func() {
			tick := time.NewTicker(500 * time.Millisecond)
			defer tick.Stop()
			var err error
			for {
				select {
				case <-tick.C:
					err = errors.Join(err, p.beside())
				case <-ended:
					done <- err
					return
				}
			}
		}()
		defer func() {
			close(ended)
			err = errors.Join(err, <-done)
		}()
	}
	sleep := func(d time.Duration) {
		select {
		case <-time.After(d):
		case <-ctx.Done():
		}
	}
	sleep(p.warm)
	before, began := t.used(&err), time.Now()
	l.measuring.Store(true)
	if p.measure > 0 {
		sleep(p.measure)
		l.stop.Store(true)
	} else {
		stop := context.AfterFunc(ctx, func() { l.stop.Store(true) })
		wg.Wait()
		stop()
	}
	r.elapsed = time.Since(began)
	after := t.used(&err)
	l.measuring.Store(false)
	wg.Wait()
	r.cpu = after.since(before)
	for _, w := range workers {
		r.latencies = append(r.latencies, w.latencies...)
		r.throttled = append(r.throttled, w.throttled...)
		if r.failures += w.failures; r.failure == "" {
			r.failure = w.failure
		}
	}
	slices.Sort(r.latencies)
	slices.Sort(r.throttled)
	r.requests = len(r.latencies)
	r.records = r.requests * p.shape.records
	r.end = t.next.Load()
	return r, errors.Join(err, ctx.Err())
}

// load is a phase under way.
type load struct {
	*target
	phase
	started   time.Time
	turn      atomic.Int64 // replay and open loop: requests taken
	measuring atomic.Bool
	stop      atomic.Bool
}

// worker drives one connection.
type worker struct {
	*load
	client
	*request
	sent      []sent
	turns     int
	old       int64 // mixed: a batch of this connection that was acknowledged, or 0
	latencies []time.Duration
	throttled []time.Duration
	failures  int
	failure   string
}

// sent is a record as it was sent and the status it must get.
type sent struct {
	record, quantity int64
	status           string
}

const (
	success   = "Success"
	duplicate = "DuplicateRecord"
)

// maxFailures is how many wrong answers a connection goes on after: a few show whether they are all alike.
const maxFailures = 10

func (w *worker) run() {
	now := time.Now()
	for !w.stop.Load() {
		due, ok := w.wait()
		if !ok || !w.fill() {
			return
		}
		if !due.IsZero() {
			now = time.Now()
		}
		w.sign(now)
		if due.IsZero() {
			due = time.Now()
		}
		status, body, err := w.roundTrip(w.buf)
		now = time.Now()
		if w.sheds && status == http.StatusBadRequest && bytes.Contains(body, []byte("ThrottlingException")) {
			w.old = 0
			if w.measuring.Load() {
				w.throttled = append(w.throttled, now.Sub(due))
			}
			continue
		}
		if err == nil {
			err = w.check(status, body)
		}
		if err != nil {
			if w.failures++; w.failure == "" {
				w.failure = err.Error()
			}
			if status == 0 || w.failures >= maxFailures {
				return
			}
			continue
		}
		if w.measuring.Load() {
			w.latencies = append(w.latencies, now.Sub(due))
		}
	}
}

// wait waits, in an open loop, until the next request is due. Its latency counts from then, so that a server that
// stalls is charged for all the requests that it kept waiting.
func (w *worker) wait() (due time.Time, ok bool) {
	if w.rate == 0 {
		return time.Time{}, true
	}
	due = w.started.Add(time.Duration(float64(w.turn.Add(1)-1) / w.rate * float64(time.Second)))
	time.Sleep(time.Until(due))
	return due, !w.stop.Load()
}

// fill fills the request with the next records, or tells that there are no more to be sent.
func (w *worker) fill() bool {
	n := int64(len(w.sent))
	var first int64
	if w.mode == replay {
		calls := (w.to - w.from) / n
		if w.measure == 0 && w.turn.Load() >= calls {
			return false
		}
		first = w.from + (w.turn.Add(1)-1)%calls*n
	} else {
		first = w.next.Add(n) - n
		switch {
		case w.to > 0 && first+n > w.to:
			w.next.Add(-n)
			return false
		case !w.echoes:
			first %= w.keys.size() - n // the no-op does not mind
		case first+n > w.keys.size():
			w.failures++
			w.failure = fmt.Sprintf("all %d keys are used up; use more -buyers", w.keys.size())
			return false
		}
	}
	for i := range w.sent {
		record := first + int64(i)
		w.sent[i] = sent{record, w.shape.quantity(record), success}
	}
	if w.turns++; w.mode == mixed && w.old > 0 && w.turns%2 == 0 { // one record in 50
		s := &w.sent[0]
		s.record, s.quantity = w.old, w.shape.quantity(w.old)
		if w.turns%20 == 0 {
			s.quantity, s.status = s.quantity-999, duplicate
			if s.quantity < 1000 {
				s.quantity += 2000
			}
		}
	}
	if w.keys.products > 1 {
		digits(w.product, w.keys.productOf(first))
	}
	for i, s := range w.sent {
		w.put(w.keys, i, s.record, s.quantity)
	}
	return true
}

// check checks an answer and notes what it acknowledged. Every answer has its statuses counted; one in 200 is read
// in full.
func (w *worker) check(status int, body []byte) error {
	if status != http.StatusOK {
		return fmt.Errorf("HTTP status %d: %.300s", status, body)
	}
	want, resent := len(w.sent), 0
	if w.sent[0].status == duplicate {
		want--
	}
	if got := bytes.Count(body, []byte(`"Status":"Success"`)); got != want {
		return fmt.Errorf("%d of %d records are Success, %d should be: %.300s", got, len(w.sent), want, body)
	}
	last := w.sent[len(w.sent)-1].record
	if w.echoes && last/int64(len(w.sent))%200 == 0 {
		if err := w.read(body); err != nil {
			return fmt.Errorf("%w: %.300s", err, body)
		}
	}
	if w.mode == replay {
		return nil
	}
	if w.sent[0].record == w.old && w.old > 0 {
		resent = 1
	}
	var sum int64
	for _, s := range w.sent[resent:] {
		sum += s.quantity
	}
	w.quantity.Add(sum)
	w.acknowledged.Add(int64(len(w.sent) - resent))
	w.old = last
	return nil
}

// read decodes an answer and compares every record with what was sent, and its id with the one it had before.
func (w *worker) read(body []byte) error {
	var answer struct {
		Results []struct {
			UsageRecord struct {
				CustomerAWSAccountID string `json:"CustomerAWSAccountId"`
				Dimension            string
				Quantity             int64
				Timestamp            float64
				UsageAllocations     []json.RawMessage
			}
			MeteringRecordID string `json:"MeteringRecordId"`
			Status           string
		}
		UnprocessedRecords []json.RawMessage
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return err
	}
	if len(answer.Results) != len(w.sent) || len(answer.UnprocessedRecords) != 0 {
		return fmt.Errorf("%d results and %d unprocessed records for %d records", len(answer.Results), len(answer.UnprocessedRecords), len(w.sent))
	}
	for i, s := range w.sent {
		account, dimension, timestamp := w.keys.record(s.record)
		got := &answer.Results[i]
		echo := &got.UsageRecord
		if echo.CustomerAWSAccountID != strconv.FormatInt(account, 10) || echo.Dimension != dimensionName(dimension) ||
			echo.Timestamp != float64(timestamp) || echo.Quantity != s.quantity || len(echo.UsageAllocations) != w.shape.allocations {
			return fmt.Errorf("result %d is not about the record that was sent there", i)
		}
		if got.Status != s.status {
			return fmt.Errorf("result %d is %s, not %s", i, got.Status, s.status)
		}
		if before, known := w.ids.LoadOrStore(s.record, got.MeteringRecordID); len(got.MeteringRecordID) != 36 || known && before != got.MeteringRecordID {
			return fmt.Errorf("result %d has the id %q, before it was %q", i, got.MeteringRecordID, before)
		}
	}
	return nil
}
