// Package server is the edge: the AWS endpoint, the admin API and the operations endpoint. It turns requests into
// calls of package ledger and refusals into exceptions, and decides nothing itself.
package server

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/meterd/meterd/internal/iam"
	"github.com/meterd/meterd/internal/ledger"
	"github.com/meterd/meterd/internal/market"
	"github.com/meterd/meterd/internal/metering"
	"github.com/meterd/meterd/internal/sigv4"
	"github.com/meterd/meterd/internal/wire"
)

// AWS is the endpoint that AWS SDKs speak to: AWS JSON 1.1 over POST /, every request signed. There is one path and
// one way in: a request without a valid signature reaches no operation.
type AWS struct {
	ledger   *ledger.Ledger
	verifier sigv4.Verifier[*market.Identity]
	proxies  Proxies
	hosts    *Hosts
	names    []string // by which clients may know the endpoint
	log      *slog.Logger
	metrics  *AWSMetrics
	failures *failures
	gate     gate
	large    budget // for bodies of more than 64 KiB
	date     date
	pool     sync.Pool // *exchange
}

// AWSConfig configures the endpoint.
type AWSConfig struct {
	Ledger  *ledger.Ledger
	Hosts   []string // hosts that signatures may name; any if empty
	Only    *Hosts   // hosts that are answered; any if nil
	Proxies Proxies
	Log     *slog.Logger // slog.Default if nil
	Metrics *AWSMetrics  // made if nil

	// BodyMemory is how many bytes all bodies of more than 64 KiB may take at once; 256 MiB if 0.
	BodyMemory int64
}

// NewAWS returns the endpoint of a ledger.
func NewAWS(cfg AWSConfig) *AWS {
	s := &AWS{ledger: cfg.Ledger, proxies: cfg.Proxies, hosts: cfg.Only, names: cfg.Hosts, log: cfg.Log, metrics: cfg.Metrics, failures: newFailures(), gate: newGate(gatePlaces, gatePatience)}
	if s.log == nil {
		s.log = slog.Default()
	}
	if s.metrics == nil {
		s.metrics = NewAWSMetrics()
	}
	if s.large.most = cfg.BodyMemory; s.large.most == 0 {
		s.large.most = 256 << 20
	}
	s.verifier = sigv4.Verifier[*market.Identity]{Services: metering.SigningNames(), KnownRegion: cfg.Ledger.KnownRegion, Hosts: cfg.Hosts, Lookup: cfg.Ledger.Credential,
		BasePath: cfg.Proxies.BasePath, FromProxy: cfg.Proxies.trusts, ProxyHeaders: cfg.Proxies.Headers}
	if cfg.Only != nil {
		s.names = append(s.names, cfg.Only.External...)
	}
	s.pool.New = func() any { return &exchange{} }
	return s
}

// exchange holds the memory of one request and its answer. It is reused for other requests.
type exchange struct {
	body   []byte
	large  int64 // how many bytes of the budget for large bodies body takes
	held   bool  // body takes some of the memory for connections that have not authenticated
	answer []byte
	in     wire.BatchMeterUsageInput
	batch  metering.Batch
	out    wire.BatchMeterUsageOutput
}

// ServeHTTP answers one request.
func (s *AWS) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	started := time.Now()
	id, err := uuid.NewV7()
	if err != nil {
		http.Error(w, "", http.StatusInternalServerError)
		return
	}
	x, connection := s.pool.Get().(*exchange), connOf(r)
	defer func() {
		s.large.give(x.large)
		if x.held {
			connection.release()
		}
		if cap(x.body) <= smallBody && cap(x.answer) <= smallBody { // large ones are left to the garbage collector
			s.pool.Put(x)
		}
	}()
	status, code := http.StatusOK, noRefusal
	op, refusal := s.serve(x, connection, r, id)
	if refusal != nil {
		code = refusal.Code
		status = x.refuse(w.Header(), r, id, refusal)
		s.logRefusal(r, id, op, refusal)
	}
	h := w.Header()
	if h["Content-Type"] == nil {
		h["Content-Type"] = contentType
	}
	h["X-Amzn-Requestid"] = []string{id.String()}
	h["Content-Length"] = []string{strconv.Itoa(len(x.answer))}
	h["Date"] = s.date.header(s.ledger.Wall()) // SDKs correct their clock by this header
	w.WriteHeader(status)
	_, _ = w.Write(x.answer) // a client that has gone needs no answer
	s.metrics.observe(op, code, time.Since(started))
}

// refuse writes a refusal in the protocol of the request, and returns the HTTP status.
func (x *exchange) refuse(h http.Header, r *http.Request, id uuid.UUID, e *sigv4.Error) (status int) {
	switch wire.ProtocolOf(r.Header.Get("Content-Type"), r.Header.Get("Smithy-Protocol"), r.Header.Get("X-Amz-Target")) {
	case wire.Query:
		code, status := wire.QueryError(e.Code, e.Status)
		h["Content-Type"] = []string{"text/xml"}
		x.answer = wire.AppendQueryError(x.answer[:0], code, e.Message, id.String(), status)
		return status
	case wire.CBOR:
		h["Content-Type"], h["Smithy-Protocol"] = []string{"application/cbor"}, []string{"rpc-v2-cbor"}
		x.answer = wire.AppendCBORException(x.answer[:0], e.Code, e.Message)
		return e.Status
	}
	h["X-Amzn-Errortype"] = []string{e.Code}
	x.answer = wire.AppendException(x.answer[:0], e.Code, e.Message)
	return e.Status
}

// date is the Date header of the current second.
type date struct{ now atomic.Pointer[dated] }

type dated struct {
	second int64
	header []string
}

func (d *date) header(now time.Time) []string {
	at := d.now.Load()
	if at == nil || at.second != now.Unix() {
		at = &dated{now.Unix(), []string{now.UTC().Format(http.TimeFormat)}}
		d.now.Store(at)
	}
	return at.header
}

var contentType = []string{wire.ContentType}

// handlers has a handler for each operation. It is given the permitted call, decodes x.body, has the ledger do the
// work, and leaves its answer in x.answer or returns the refusal of the call.
var handlers = [metering.OperationNumbers]func(*AWS, context.Context, *exchange, *ledger.Call) *metering.Error{
	metering.BatchMeterUsage: (*AWS).batchMeterUsage,
	metering.MeterUsage:      (*AWS).meterUsage,
	metering.RegisterUsage:   (*AWS).registerUsage,
	metering.ResolveCustomer: (*AWS).resolveCustomer,
}

// targets lists the values of X-Amz-Target in words, for a message.
var targets = func() string {
	all := make([]string, len(metering.Services))
	for i, service := range metering.Services {
		var names []string
		for _, op := range metering.Operations {
			if op.Info().Service == service {
				names = append(names, op.String())
			}
		}
		all[i] = service.Info().TargetPrefix + either(names)
	}
	return strings.Join(all, "; ")
}()

// either joins names to a choice: "a, b or c".
func either(names []string) string {
	last := len(names) - 1
	if last <= 0 {
		return strings.Join(names, "")
	}
	return strings.Join(names[:last], ", ") + " or " + names[last]
}

// serve handles one request. It leaves the answer in x, or returns the refusal. op is 0 if the operation is not
// known.
func (s *AWS) serve(x *exchange, connection *conn, r *http.Request, id uuid.UUID) (op metering.Operation, refusal *sigv4.Error) {
	source := address(r)
	if err := x.read(r, connection, &s.large); err != nil {
		if connection.isGone() {
			panic(http.ErrAbortHandler) // the client has gone, so nobody would take the answer
		}
		return 0, s.exception(err, id)
	}
	if why := s.hosts.refuse(r); why != "" {
		return 0, s.exception(metering.Errorf(metering.AccessDenied, "%s", why), id)
	}
	connection.whole()
	if !s.gate.enter() {
		connection.refused()
		return 0, s.exception(metering.Errorf(metering.Throttling, "Rate exceeded: more calls come than can be taken. Retry with exponential backoff; nothing of this call was stored."), id)
	}
	defer s.gate.leave()
	now := s.ledger.Wall()
	at := s.signingTime(r.Header.Get("X-Amz-Date"), now)
	caller, err := s.verifier.Verify(r, x.body, at)
	if err != nil {
		connection.refused()
		if !s.failures.allow(source, sigv4.ClaimedKey(r.Header), now) {
			return 0, s.exception(metering.Errorf(metering.Throttling, "Too many requests from this address, or with this access key, could not be authenticated. Check the access key, the secret and the clock, then retry with exponential backoff."), id)
		}
		var e *sigv4.Error
		if !errors.As(err, &e) {
			s.log.Error("looking up a credential", slog.Any("request", id), slog.Any("error", err))
			return 0, s.exception(metering.Errorf(metering.Internal, "%v", err), id)
		}
		if e.Mismatch() && s.ledger.Sandbox() {
			e = s.explain(e, r, x.body, at, id)
		}
		return 0, e
	}
	connection.prove()
	target := r.Header.Get("X-Amz-Target")
	op, known := metering.OperationOfTarget(target)
	if !known {
		return 0, s.exception(metering.Errorf(metering.UnknownOperation, "X-Amz-Target %.100q names no operation of this service. Use %s.", target, targets), id)
	}
	service := op.Info().Service.Info()
	if caller.Service != service.SigningName {
		return op, sigv4.WrongService(service.SigningName)
	}
	if got := r.Header.Get("Content-Type"); !speaks(service.Protocols, got) {
		return op, s.exception(metering.Errorf(metering.UnknownOperation, "Content-Type must be %s, not %.100q.", contentTypes(service.Protocols), got), id)
	}
	client, secure := s.proxies.client(r)
	call, failed := s.ledger.Begin(ledger.Caller{Identity: caller.Principal, Region: caller.Region, Source: source, Client: client, Secure: secure, Agent: agent(r), RequestID: id}, op)
	if failed != nil {
		if failed.Kind == metering.AccessDenied && op == metering.MeterUsage && s.ledger.Settings().DryRunDenied == "unauthorized" && dryRun(x.body) {
			failed = metering.Errorf(metering.Unauthorized, "%s", failed.Message)
		}
		return op, s.exception(failed, id)
	}
	defer call.End()
	if failed = handlers[op](s, r.Context(), x, call); failed != nil {
		return op, s.exception(failed, id)
	}
	return op, nil
}

// signingTime returns the time by which a signature of that date is judged: the wall clock's. In a sandbox it is the
// ledger clock's if that is nearer to the date, so that programs whose clock is frozen or moved along with the
// ledger's work too.
func (s *AWS) signingTime(date string, wall time.Time) time.Time {
	if !s.ledger.Sandbox() {
		return wall
	}
	ledger := s.ledger.Now().Time()
	signed, err := time.Parse("20060102T150405Z", date)
	if err == nil && signed.Sub(ledger).Abs() < signed.Sub(wall).Abs() {
		return ledger
	}
	return wall
}

// exception turns a refusal into an exception of AWS's. The text of an internal error goes to the log only.
func (s *AWS) exception(e *metering.Error, id uuid.UUID) *sigv4.Error {
	x := exceptionOf(e.Kind, s.ledger.Settings())
	message := e.Message
	if x.status == http.StatusInternalServerError {
		s.log.Error("internal error", slog.Any("request", id), slog.String("error", iam.Redacted(e.Message)))
		message = "An internal error occurred. Retry the request; if it persists, report request id " + id.String() + "."
	}
	return &sigv4.Error{Code: x.name, Status: x.status, Message: message}
}

func (s *AWS) batchMeterUsage(_ context.Context, x *exchange, call *ledger.Call) *metering.Error {
	if err := x.in.Decode(x.body); err != nil {
		return call.Refuse(syntax(err), x.body)
	}
	batch(&x.batch, &x.in)
	lines, outcomes, refusal := call.BatchMeterUsage(&x.batch, x.body)
	if refusal != nil {
		return refusal
	}
	results(&x.out, &x.in, lines, outcomes, s.ledger.Settings())
	x.answer = x.out.Append(x.answer[:0])
	return nil
}

func (s *AWS) meterUsage(ctx context.Context, x *exchange, call *ledger.Call) *metering.Error {
	var in wire.MeterUsageInput
	if err := in.Decode(x.body); err != nil {
		return call.Refuse(syntax(err), x.body)
	}
	id, refusal := call.MeterUsage(ctx, meter(&in), x.body)
	if refusal != nil {
		return refusal
	}
	out := wire.MeterUsageOutput{MeteringRecordID: wire.UUID(id), DryRun: in.DryRun}
	x.answer = out.Append(x.answer[:0])
	return nil
}

func (s *AWS) registerUsage(ctx context.Context, x *exchange, call *ledger.Call) *metering.Error {
	var in wire.RegisterUsageInput
	if err := in.Decode(x.body); err != nil {
		return call.Refuse(syntax(err), x.body)
	}
	register := metering.Register(in)
	registered, refusal := call.RegisterUsage(ctx, &register, x.body)
	if refusal != nil {
		return refusal
	}
	out := wire.RegisterUsageOutput{Signature: registered.Signature, PublicKeyRotationTimestamp: int64(registered.RotatedAt)}
	x.answer = out.Append(x.answer[:0])
	return nil
}

func (s *AWS) resolveCustomer(ctx context.Context, x *exchange, call *ledger.Call) *metering.Error {
	var in wire.ResolveCustomerInput
	if err := in.Decode(x.body); err != nil {
		return call.Refuse(syntax(err), x.body)
	}
	resolved, refusal := call.ResolveCustomer(ctx, in.RegistrationToken)
	if refusal != nil {
		return refusal
	}
	out := wire.ResolveCustomerOutput{ProductCode: resolved.ProductCode, CustomerIdentifier: resolved.CustomerIdentifier,
		CustomerAWSAccountID: resolved.CustomerAWSAccountID, LicenseARN: resolved.LicenseARN}
	x.answer = out.Append(x.answer[:0])
	return nil
}

// speaks reports whether a Content-Type, with or without parameters, is that of one of the protocols.
func speaks(protocols []metering.Protocol, contentType string) bool {
	for i := range protocols {
		if contentType == protocols[i].ContentType {
			return true
		}
	}
	media, _, err := mime.ParseMediaType(contentType)
	return err == nil && slices.ContainsFunc(protocols, func(p metering.Protocol) bool { return p.ContentType == media })
}

func contentTypes(protocols []metering.Protocol) string {
	names := make([]string, len(protocols))
	for i, p := range protocols {
		names[i] = p.ContentType
	}
	return either(names)
}

func syntax(err error) *metering.Error {
	return metering.Errorf(metering.Serialization, "%v", err)
}

// dryRun reports whether the body is a MeterUsage call with DryRun: its denial may have an exception of its own.
func dryRun(body []byte) bool {
	var in wire.MeterUsageInput
	return in.Decode(body) == nil && in.DryRun
}

// maxDrain is how many bytes of a body that is too large are read and discarded.
const maxDrain = 8 << 20

// smallBody is the length, in bytes, up to which a body takes nothing of the budget for large ones.
const smallBody = 64 << 10

// budget is an amount of memory that many requests share.
type budget struct {
	most  int64
	taken atomic.Int64
}

func (b *budget) take(n int64) bool {
	if b.taken.Add(n) <= b.most {
		return true
	}
	b.taken.Add(-n)
	return false
}

func (b *budget) give(n int64) {
	if n != 0 {
		b.taken.Add(-n)
	}
}

// firstBody is how many bytes of memory a body is given before any of it has arrived.
const firstBody = 8 << 10

// read reads the request's body, which must be less than 1 MB. Memory grows with what has arrived, so a length that
// is only announced costs nothing.
func (x *exchange) read(r *http.Request, connection *conn, large *budget) *metering.Error {
	tooLarge := metering.Errorf(metering.TooLarge, "The request body must be less than 1 MB (1,048,576 bytes). Send fewer records or fewer tags in one call.")
	x.body, x.large, x.held = x.body[:0], 0, false
	if r.ContentLength > metering.MaxBodyBytes {
		_, _ = io.CopyN(io.Discard, r.Body, maxDrain) // many clients read no answer before they have written everything
		return tooLarge
	}
	proven := connection.isProven()
	if cap(x.body) == 0 || !proven && cap(x.body) > firstBody {
		x.body = make([]byte, 0, firstBody)
	}
	for {
		if len(x.body) == cap(x.body) {
			announced := min(int(r.ContentLength)+1, smallBody)
			size := min(max(2*cap(x.body), announced), metering.MaxBodyBytes+1)
			enough := true
			switch {
			case !proven:
				enough = connection.hold(int64(size - cap(x.body)))
				x.held = true
			case size > smallBody:
				if enough = large.take(int64(size) - x.large); enough {
					x.large = int64(size)
				}
			}
			if !enough {
				_, _ = io.CopyN(io.Discard, r.Body, maxDrain)
				return metering.Errorf(metering.Throttling, "Too many large requests are being sent at once. Retry with exponential backoff.")
			}
			x.body = append(make([]byte, 0, size), x.body...)
		}
		n, err := r.Body.Read(x.body[len(x.body):cap(x.body)])
		x.body = x.body[:len(x.body)+n]
		switch {
		case len(x.body) > metering.MaxBodyBytes:
			_, _ = io.CopyN(io.Discard, r.Body, maxDrain)
			return tooLarge
		case err == io.EOF:
			return nil
		case err != nil:
			return metering.Errorf(metering.Serialization, "The request body could not be read to its end. Send the request again.")
		}
	}
}

// address returns the network address that the request came from.
func address(r *http.Request) string {
	if host, _, err := net.SplitHostPort(r.RemoteAddr); err == nil {
		return host
	}
	return r.RemoteAddr
}

// maxAgent is how many bytes of a User-Agent header are kept.
const maxAgent = 1024

// agent returns the User-Agent header for the audit. Clients can send anything, so it is cut to maxAgent bytes, and
// what is not printable text is replaced, to be harmless wherever it is shown.
func agent(r *http.Request) string {
	text := startOf(r.Header.Get("User-Agent"), maxAgent)
	if !strings.ContainsFunc(text, func(c rune) bool { return c < ' ' || '~' < c }) {
		return text
	}
	return startOf(strings.Map(func(c rune) rune {
		if !unicode.IsPrint(c) {
			return unicode.ReplacementChar
		}
		return c
	}, text), maxAgent) // again, because a replacement may be longer than what it replaces
}

// startOf returns the start of a text: at most most bytes, without cutting a letter in two.
func startOf(text string, most int) string {
	if len(text) <= most {
		return text
	}
	for tries := 0; tries < utf8.UTFMax && most > 0 && !utf8.RuneStart(text[most]); tries++ {
		most--
	}
	return text[:most]
}

func (s *AWS) logRefusal(r *http.Request, id uuid.UUID, op metering.Operation, e *sigv4.Error) {
	if !s.log.Enabled(r.Context(), slog.LevelDebug) {
		return
	}
	s.log.LogAttrs(r.Context(), slog.LevelDebug, "refused", slog.String("request", id.String()), slog.String("operation", operationLabel(op)),
		slog.String("code", e.Code), slog.String("message", iam.Redacted(e.Message)), slog.String("source", r.RemoteAddr))
}
