// Package sigv4 verifies AWS Signature Version 4 as the AWS SDKs make it for a
// JSON service: POST to "/", signed in the Authorization header, the whole body
// hashed. Everything else that SigV4 knows (presigned URLs, unsigned or streamed
// payloads, SigV4A, SigV2) is refused, because each form accepted beside another
// has been somebody's way around the check.
//
// The package is pure: no I/O, no clock, no logging. It never puts a secret, a
// token, a signature or the canonical request into an error.
//
// Sources: "AWS Signature Version 4 for API requests" (IAM User Guide) for the
// algorithm, robustness 3.2 for the rules, metering-api 1.4 for codes and texts.
package sigv4

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	algorithm  = "AWS4-HMAC-SHA256"
	terminator = "aws4_request"
	timeFormat = "20060102T150405Z" // ISO 8601 basic format, always UTC
	dayLength  = len("20060102")

	defaultMaxSkew = 5 * time.Minute
)

// Verifier checks requests; P is whatever Lookup identifies a credential with.
// Set the fields, then use it from any number of goroutines; don't change or
// copy it after the first call of Verify.
type Verifier[P any] struct {
	// Services are the service names accepted in the credential scope,
	// "aws-marketplace" for metering. Whoever routes the request must still see
	// that it goes to a service of the name that [Identity] has.
	Services []string

	// KnownRegion reports whether region may stand in the credential scope. Nil
	// knows none.
	KnownRegion func(region string) bool

	// Hosts, if not empty, lists the values of Host accepted, each with its
	// port if clients send one; case does not matter. The signature is always
	// checked against the Host received, never against one of these.
	Hosts []string

	// MaxSkew is how far the signing time may lie from now, either way. Zero
	// means 5 minutes; there is no way to switch the check off.
	MaxSkew time.Duration

	// BasePath, if not empty, is a path that clients may have in their endpoint,
	// "/metering", whether or not a proxy takes it off on the way; see CheckPath.
	BasePath string

	// FromProxy reports whether a request comes from a proxy that is trusted.
	// Its X-Forwarded-Prefix then says what it took off the path, and headers
	// whose lower-case names begin with one of ProxyHeaders are its own, so need
	// not be signed; see CheckProxyHeader. Nil trusts none.
	FromProxy    func(*http.Request) bool
	ProxyHeaders []string

	// Lookup returns the credential of an access key id; sessionToken is empty
	// for a request without X-Amz-Security-Token. It must refuse a temporary
	// key without its token and a permanent key with any. Its error should be
	// an *Error (UnrecognizedClient, ExpiredToken, …); Verify returns it as it
	// is, but only after as much work as a wrong signature takes.
	Lookup func(accessKeyID, sessionToken string) (Credential[P], error)

	keys keyCache
}

// Credential is what Lookup knows of an access key id.
type Credential[P any] struct {
	Secret    string // the secret access key; an empty one is never accepted
	Principal P
}

// Identity is who signed a request, and for which region.
type Identity[P any] struct {
	Principal   P
	AccessKeyID string
	Region      string // from the credential scope; KnownRegion said yes to it
	Service     string // from the credential scope; one of Services
}

// Error is a refusal in AWS's words.
type Error struct {
	Code     string // the AWS exception's name
	Status   int    // the HTTP status
	Message  string
	mismatch bool
}

// Mismatch reports whether the request is well-formed, but its signature not
// the one that was calculated. Explain may know why.
func (e *Error) Mismatch() bool { return e.mismatch }

func (e *Error) Error() string { return e.Code + ": " + e.Message }

// The exceptions of this package. All are 400, as AWS's JSON services answer
// (metering-api 1.4), except a request for anything but "POST /", which is 404.
func incomplete(format string, args ...any) *Error {
	return &Error{Code: "IncompleteSignatureException", Status: http.StatusBadRequest, Message: fmt.Sprintf(format, args...)}
}

func invalid(format string, args ...any) *Error {
	return &Error{Code: "InvalidSignatureException", Status: http.StatusBadRequest, Message: fmt.Sprintf(format, args...)}
}

// WrongService is the refusal of a credential scope that names another service
// than those.
func WrongService(right ...string) *Error {
	return invalid("Credential should be scoped to correct service: '%s'.", strings.Join(right, "' or '"))
}

// MissingAuthenticationToken is the refusal of a request without an
// Authorization header.
func MissingAuthenticationToken() *Error {
	return &Error{Code: "MissingAuthenticationTokenException", Status: http.StatusBadRequest,
		Message: "Missing Authentication Token. Sign the request with AWS Signature Version 4 in an Authorization header."}
}

// UnrecognizedClient is the refusal of an access key id nobody has, or of a
// session token that does not belong to it.
func UnrecognizedClient() *Error {
	return &Error{Code: "UnrecognizedClientException", Status: http.StatusBadRequest,
		Message: "The security token included in the request is invalid."}
}

// ExpiredToken is the refusal of temporary credentials past their time. AWS uses
// the name ExpiredTokenException for ResolveCustomer's registration tokens too;
// only the text tells them apart (metering-api 1.4).
func ExpiredToken() *Error {
	return &Error{Code: "ExpiredTokenException", Status: http.StatusBadRequest,
		Message: "The security token included in the request is expired. Ask for new temporary credentials."}
}

func unknownOperation(format string, args ...any) *Error {
	return &Error{Code: "UnknownOperationException", Status: http.StatusNotFound, Message: fmt.Sprintf(format, args...)}
}

// Verify checks the signature of r, a request as net/http's server received it,
// with the body the caller has read from it, against the clock now. The error is
// an *Error, or whatever else Lookup returned.
//
// It does not keep r or body. It tries one Host only, and one path unless
// BasePath or a trusted proxy's X-Forwarded-Prefix gives others.
func (v *Verifier[P]) Verify(r *http.Request, body []byte, now time.Time) (Identity[P], error) {
	s := scratches.Get().(*scratch)
	defer s.free()
	s.tabs = false
	claim, e := v.read(s, r, body, now)
	if e != nil {
		return Identity[P]{}, e
	}

	// From here on a request costs the same whether its key is unknown or its
	// signature wrong: an unknown key is checked against a key nobody has.
	credential, err := v.lookup(claim)
	id, secret := claim.accessKeyID, credential.Secret
	if err != nil {
		id, secret = "", "nobody"
	}
	key := v.keys.get(keyScope{id, claim.day, claim.region, claim.service}, secret)
	match := key.matches(s.text, claim)
	if !match {
		for _, f := range v.otherForms(r, s) {
			_ = s.write(r, claim, f) // it could be written once
			match = key.matches(s.text, claim) || match
		}
	}
	switch {
	case err != nil:
		return Identity[P]{}, err
	case !match:
		e := invalid("The request signature we calculated does not match the signature you provided." +
			" Check your AWS Secret Access Key and signing method. Consult the service documentation for details.")
		e.mismatch = true
		return Identity[P]{}, e
	}
	return Identity[P]{credential.Principal, claim.accessKeyID, claim.region, claim.service}, nil
}

func (k *signingKey) matches(text []byte, c claim) bool {
	want := k.sign(text)
	return subtle.ConstantTimeCompare(want[:], c.signature[:]) == 1
}

// ClaimedKey returns the access key id that the Authorization header names, or ""
// if it is not well-formed. Nothing proves the claim: it is for counting refusals.
func ClaimedKey(h http.Header) string {
	if values := h["Authorization"]; len(values) == 1 {
		a, _ := parseAuthorization(values[0])
		return a.accessKeyID
	}
	return ""
}

func (v *Verifier[P]) lookup(c claim) (Credential[P], error) {
	if v.Lookup == nil {
		return Credential[P]{}, UnrecognizedClient()
	}
	credential, err := v.Lookup(c.accessKeyID, c.sessionToken)
	if err == nil && credential.Secret == "" { // anyone could sign with it
		err = UnrecognizedClient()
	}
	return credential, err
}

// claim is what a well-formed request says of itself; only the signature over
// scratch.text can prove it.
type claim struct {
	authorization
	sessionToken string
	dateHeader   string // Date or X-Amz-Date
}

// read checks all that needs no secret, and leaves the string to sign in s.text.
func (v *Verifier[P]) read(s *scratch, r *http.Request, body []byte, now time.Time) (claim, *Error) {
	// The raw target, since URL.Path has been decoded. Anything but "/" would
	// need canonical paths and queries; an absolute URI would overrule Host.
	if r.Method != http.MethodPost {
		return claim{}, unknownOperation("This service answers POST only, not %s.", quote(r.Method))
	}
	if r.RequestURI != "/" && (v.BasePath == "" || strings.TrimSuffix(r.RequestURI, "/") != v.BasePath) {
		root := v.BasePath + "/"
		return claim{}, unknownOperation("This service answers POST %s only, not %s."+
			" Send no other path, no query string, no presigned URL and no absolute URL.", root, quote(r.RequestURI))
	}

	values := r.Header["Authorization"]
	if len(values) == 0 || len(values) == 1 && values[0] == "" {
		return claim{}, MissingAuthenticationToken()
	}
	if len(values) > 1 {
		return claim{}, incomplete("The request has %d Authorization headers. Send exactly one.", len(values))
	}
	auth, e := parseAuthorization(values[0])
	if e != nil {
		return claim{}, e
	}
	if e := v.checkHost(r); e != nil {
		return claim{}, e
	}
	when, dateHeader, e := signingTime(r.Header)
	if e != nil {
		return claim{}, e
	}
	s.date = when.AppendFormat(s.date[:0], timeFormat)
	if e := v.checkScope(auth, s.date); e != nil {
		return claim{}, e
	}
	if e := v.checkSkew(when, now); e != nil {
		return claim{}, e
	}

	bodyHash := sha256.Sum256(body)
	s.hash = hex.AppendEncode(s.hash[:0], bodyHash[:])
	c := claim{authorization: auth, dateHeader: dateHeader}
	if e := s.write(r, c, form{host: r.Host, path: r.RequestURI, hash: s.hash}); e != nil {
		return claim{}, e
	}
	if s.unsigned {
		if e := v.checkUnsigned(r, auth.signedHeaders); e != nil {
			return claim{}, e
		}
	}
	if e := checkContentHash(r.Header, s.hash); e != nil {
		return claim{}, e
	}
	if token := r.Header["X-Amz-Security-Token"]; len(token) > 0 {
		if token[0] == "" { // must not look like a request without one
			return claim{}, UnrecognizedClient()
		}
		c.sessionToken = token[0]
	}
	return c, nil
}

func (v *Verifier[P]) checkHost(r *http.Request) *Error {
	// HTTP/1 moves Host out of the header; HTTP/2 may leave one beside :authority.
	if h := r.Header["Host"]; len(h) > 1 || len(h) == 1 && h[0] != r.Host {
		return invalid("The request has two different hosts. Send one Host header.")
	}
	if r.Host == "" {
		return invalid("The request has no Host header. Send and sign one.")
	}
	if len(v.Hosts) > 0 && !slices.ContainsFunc(v.Hosts, func(h string) bool { return strings.EqualFold(h, r.Host) }) {
		return invalid("Host %s is not one this service is configured to serve."+
			" Use one of its own names and ports as the endpoint, or have the operator add this one.", quote(r.Host))
	}
	return nil
}

// signingTime returns the time the request says it was signed at, and which of
// the two headers said so. X-Amz-Date wins; Date may also have HTTP's own form.
func signingTime(h http.Header) (when time.Time, name string, e *Error) {
	for _, name := range [...]string{"X-Amz-Date", "Date"} {
		values := h[name]
		if len(values) == 0 {
			continue
		}
		if len(values) > 1 {
			return time.Time{}, "", invalid("The request has %d %s headers. Send exactly one.", len(values), name)
		}
		if when, ok := parseTime(values[0]); ok {
			return when, name, nil
		}
		if name == "Date" {
			if when, err := time.Parse(http.TimeFormat, values[0]); err == nil && when.Format(http.TimeFormat) == values[0] {
				return when, name, nil
			}
		}
		return time.Time{}, "", incomplete("Date must be in ISO-8601 'basic format'. Got %s in header %s."+
			" Write the UTC time as %s.", quote(values[0]), name, timeFormat)
	}
	return time.Time{}, "", incomplete("Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header.")
}

// parseTime is time.Parse without the fraction of a second which that lets pass.
func parseTime(s string) (time.Time, bool) {
	when, err := time.Parse(timeFormat, s)
	return when, err == nil && len(s) == len(timeFormat)
}

func (v *Verifier[P]) checkScope(a authorization, date []byte) *Error {
	switch {
	case a.day != string(date[:dayLength]):
		return invalid("Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: %s != '%s', from '%s'.",
			quote(a.day), date[:dayLength], date)
	case v.KnownRegion == nil || !v.KnownRegion(a.region):
		return invalid("Credential should be scoped to a valid region, not %s."+
			" Set the client's region to one this service has enabled.", quote(a.region))
	case !slices.Contains(v.Services, a.service):
		return WrongService(v.Services...)
	}
	return nil
}

func (v *Verifier[P]) checkSkew(when, now time.Time) *Error {
	max := v.MaxSkew
	if max == 0 {
		max = defaultMaxSkew
	}
	const mend = " Set the clock of the machine that signs."
	iso := func(t time.Time) string { return t.UTC().Format(timeFormat) }
	if earliest := now.Add(-max); when.Before(earliest) {
		return invalid("Signature expired: %s is now earlier than %s (%s - %s)"+mend, iso(when), iso(earliest), iso(now), minutes(max))
	}
	if latest := now.Add(max); when.After(latest) {
		return invalid("Signature not yet current: %s is still later than %s (%s + %s)"+mend, iso(when), iso(latest), iso(now), minutes(max))
	}
	return nil
}

func minutes(d time.Duration) string {
	if d%time.Minute == 0 {
		return strconv.FormatInt(int64(d/time.Minute), 10) + " min."
	}
	return d.String()
}

func checkContentHash(h http.Header, hash []byte) *Error {
	values := h["X-Amz-Content-Sha256"]
	if len(values) == 0 || len(values) == 1 && values[0] == string(hash) {
		return nil
	}
	if len(values) > 1 {
		return invalid("The request has %d 'x-amz-content-sha256' headers. Send exactly one.", len(values))
	}
	if value := values[0]; value == "UNSIGNED-PAYLOAD" || strings.HasPrefix(value, "STREAMING-") {
		return invalid("Header 'x-amz-content-sha256' is %s, but this service takes no unsigned or streamed payload."+
			" Send the SHA-256 of the body, or leave the header out.", quote(value))
	}
	return invalid("The provided 'x-amz-content-sha256' header does not match what was computed." +
		" Send the SHA-256 of the body as 64 lower-case hexadecimal digits, or leave the header out.")
}

// authorization is a parsed Authorization header; its strings share the
// header's memory.
type authorization struct {
	accessKeyID, scope   string // scope is day/region/service/aws4_request
	day, region, service string
	signedHeaders        string // lower-case names, strictly ascending, joined by ";"
	signature            [sha256.Size]byte
}

// parseAuthorization accepts, with any spaces around the commas and in any order,
//
//	AWS4-HMAC-SHA256 Credential=ID/DAY/REGION/SERVICE/aws4_request, SignedHeaders=a;b, Signature=HEX
func parseAuthorization(header string) (authorization, *Error) {
	var a authorization
	rest, ok := strings.CutPrefix(header, algorithm+" ")
	if !ok {
		return a, incomplete("Authorization header requires 'Credential' parameter." +
			" Authorization header requires 'Signature' parameter." +
			" Authorization header requires 'SignedHeaders' parameter." +
			" The only algorithm accepted is " + algorithm + ".")
	}
	var credential, signedHeaders, signature string
	for part := range strings.SplitSeq(rest, ",") {
		name, value, ok := strings.Cut(strings.Trim(part, " \t"), "=")
		if !ok {
			return a, incomplete("%s not a valid key=value pair (missing equal-sign) in Authorization header.", quote(name))
		}
		var to *string
		switch name {
		case "Credential":
			to = &credential
		case "SignedHeaders":
			to = &signedHeaders
		case "Signature":
			to = &signature
		default:
			return a, incomplete("Authorization header has an unknown parameter %s."+
				" Send Credential, SignedHeaders and Signature, each once.", quote(name))
		}
		if *to != "" {
			return a, incomplete("Authorization header has '%s' more than once. Send it once.", name)
		}
		if value == "" {
			return a, incomplete("Authorization header requires '%s' parameter. It is empty.", name)
		}
		*to = value
	}
	var missing []string
	for _, p := range [...]struct{ name, value string }{
		{"Credential", credential}, {"Signature", signature}, {"SignedHeaders", signedHeaders},
	} {
		if p.value == "" {
			missing = append(missing, "Authorization header requires '"+p.name+"' parameter.")
		}
	}
	if missing != nil {
		return a, incomplete("%s", strings.Join(missing, " "))
	}
	if e := a.setCredential(credential); e != nil {
		return authorization{}, e
	}
	if e := checkSignedHeaders(signedHeaders); e != nil {
		return authorization{}, e
	}
	a.signedHeaders = signedHeaders
	if !a.setSignature(signature) {
		return authorization{}, incomplete("Signature in Authorization header must be 64 lower-case hexadecimal digits.")
	}
	return a, nil
}

func (a *authorization) setSignature(digits string) bool {
	if len(digits) != hex.EncodedLen(len(a.signature)) {
		return false
	}
	var buf [2 * sha256.Size]byte
	copy(buf[:], digits)
	for _, c := range buf {
		if 'A' <= c && c <= 'F' { // hex.Decode takes either case
			return false
		}
	}
	_, err := hex.Decode(a.signature[:], buf[:])
	return err == nil
}

func (a *authorization) setCredential(credential string) *Error {
	wrong := func() *Error {
		return incomplete("Credential must have exactly 5 slash-delimited elements," +
			" e.g. keyid/date/region/service/term, in Authorization header.")
	}
	if strings.Count(credential, "/") != 4 {
		return wrong()
	}
	var end string
	a.accessKeyID, a.scope, _ = strings.Cut(credential, "/")
	a.day, end, _ = strings.Cut(a.scope, "/")
	a.region, end, _ = strings.Cut(end, "/")
	a.service, end, _ = strings.Cut(end, "/")
	if a.accessKeyID == "" || a.day == "" || a.region == "" || a.service == "" {
		return wrong()
	}
	if len(a.accessKeyID) > 128 || strings.ContainsFunc(a.accessKeyID, notWord) {
		return incomplete("The access key id in Credential must be 1 to 128 letters, digits and underscores.")
	}
	if end != terminator {
		return invalid("Credential should be scoped with a valid terminator: '%s', not %s.", terminator, quote(end))
	}
	return nil
}

func notWord(r rune) bool {
	return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || r == '_')
}

func checkSignedHeaders(list string) *Error {
	previous := ""
	for name := range strings.SplitSeq(list, ";") {
		if !isLowerToken(name) {
			return incomplete("SignedHeaders has %s, which is not a lower-case header name."+
				" Write the names in lower case, joined by single semicolons.", quote(name))
		}
		if name <= previous {
			return incomplete("SignedHeaders must be sorted and without repeats, but %s comes after %s.", quote(name), quote(previous))
		}
		previous = name
	}
	return nil
}

// isLowerToken reports whether name is RFC 9110's token without upper-case letters.
func isLowerToken(name string) bool {
	for i := range len(name) {
		c := name[i]
		if !('a' <= c && c <= 'z' || c == '-' || '0' <= c && c <= '9' || strings.IndexByte("!#$%&'*+.^_`|~", c) >= 0) {
			return false
		}
	}
	return name != ""
}

// scratch is the working memory of one Verify.
type scratch struct {
	text []byte // the canonical request, then the string to sign
	key  []byte // a header name in net/http's form
	date []byte
	hash []byte
	tabs bool // whether a signed value has a tab

	unsigned bool // whether there is an X-Amz-* header that is not signed
}

var scratches = sync.Pool{New: func() any { return &scratch{text: make([]byte, 0, 2048)} }}

func (s *scratch) free() {
	if cap(s.text) <= 64<<10 { // one giant header must not stay for ever
		scratches.Put(s)
	}
}

// appendHeaders appends the canonical headers to s.text and makes sure that all
// that matters is signed: Host and the header the date came from. It leaves in
// s.unsigned whether there are X-Amz-* headers that are not.
func (s *scratch) appendHeaders(r *http.Request, c claim, f form) *Error {
	signedHeaders, dateHeader := c.signedHeaders, c.dateHeader
	var host, date bool
	amz := 0
	for name := range strings.SplitSeq(signedHeaders, ";") {
		s.text = append(s.text, name...)
		s.text = append(s.text, ':')
		s.key = appendCanonicalName(s.key[:0], name)
		values := r.Header[string(s.key)]
		switch {
		case name == "host":
			host = true
			s.text = appendTrimmed(s.text, f.host, f.spaces)
			s.text = append(s.text, '\n')
			continue
		case isAmz(name):
			amz++
			if len(values) > 1 {
				return invalid("The request has %d '%s' headers. Send exactly one.", len(values), name)
			}
		}
		date = date || string(s.key) == dateHeader
		switch {
		case len(values) > 0:
			for i, value := range values {
				if i > 0 {
					s.text = append(s.text, ',')
				}
				s.tabs = s.tabs || strings.IndexByte(value, '\t') >= 0
				s.text = appendTrimmed(s.text, value, f.spaces)
			}
		// net/http keeps these two in fields, and not always in the header too.
		case name == "content-length" && r.ContentLength >= 0:
			s.text = strconv.AppendInt(s.text, r.ContentLength, 10)
		case name == "transfer-encoding" && len(r.TransferEncoding) > 0:
			for i, value := range r.TransferEncoding {
				if i > 0 {
					s.text = append(s.text, ',')
				}
				s.text = append(s.text, value...)
			}
		default:
			return invalid("SignedHeaders has %s, but the request has no such header."+
				" A proxy on the way may have removed it.", quote(name))
		}
		s.text = append(s.text, '\n')
	}
	if !host {
		return invalid("'Host' must be a 'SignedHeader' in the AWS Authorization.")
	}
	if !date {
		return invalid("'%s' must be a 'SignedHeader' in the AWS Authorization.", dateHeader)
	}
	// Each signed X-Amz-* name was found under a key of its own. If the header
	// has no more such keys than that, all of them are signed.
	for key := range r.Header {
		if isAmz(key) {
			amz--
		}
	}
	s.unsigned = amz < 0
	return nil
}

// checkUnsigned refuses X-Amz-* headers that are not signed, but for the body's
// hash, which is checked against the body, and what a trusted proxy adds.
func (v *Verifier[P]) checkUnsigned(r *http.Request, signedHeaders string) *Error {
	signed := strings.Split(signedHeaders, ";")
	trusted := v.FromProxy != nil && v.FromProxy(r)
	var names []string
	for key := range r.Header {
		name := strings.ToLower(key)
		ofProxy := trusted && slices.ContainsFunc(v.ProxyHeaders, func(prefix string) bool { return strings.HasPrefix(name, prefix) })
		known := key == http.CanonicalHeaderKey(name) && (slices.Contains(signed, name) || name == "x-amz-content-sha256")
		if isAmz(name) && !known && !ofProxy {
			names = append(names, name)
		}
	}
	if names == nil {
		return nil
	}
	slices.Sort(names) // so that the message is always the same
	return invalid("Every x-amz-* header must be a 'SignedHeader' in the AWS Authorization; not signed: %s."+
		" If a proxy on the way adds it, have the operator trust the proxy and name the header (--trusted-proxy, --proxy-header).", quote(strings.Join(names, ", ")))
}

func isAmz(name string) bool {
	const prefix = "x-amz-"
	return len(name) >= len(prefix) && strings.EqualFold(name[:len(prefix)], prefix)
}

// appendCanonicalName appends a lower-case name as net/http spells header keys.
func appendCanonicalName(b []byte, name string) []byte {
	upper := true
	for i := range len(name) {
		c := name[i]
		if upper && 'a' <= c && c <= 'z' {
			c -= 'a' - 'A'
		}
		upper = c == '-'
		b = append(b, c)
	}
	return b
}

// appendTrimmed appends value without the white space around it and with single
// spaces for runs of it: of spaces and tabs, as botocore and the SDKs for
// JavaScript and Java write it, or of spaces only, as those for Go do.
func appendTrimmed(b []byte, value string, spaces bool) []byte {
	value = strings.Trim(value, " \t")
	if !strings.Contains(value, "  ") && (spaces || strings.IndexByte(value, '\t') < 0) {
		return append(b, value...)
	}
	white := false
	for i := range len(value) {
		c := value[i]
		if c == '\t' && !spaces {
			c = ' '
		}
		if c != ' ' || !white {
			b = append(b, c)
		}
		white = c == ' '
	}
	return b
}

// quote is for text of the client's in messages: bounded, and harmless in a log.
func quote(s string) string {
	const most = 64
	if len(s) > most {
		s = s[:most] + "…"
	}
	s = strconv.QuoteToASCII(s)
	return "'" + s[1:len(s)-1] + "'"
}
