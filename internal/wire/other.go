package wire

import (
	"bytes"
	"encoding/binary"
	"encoding/xml"
	"strings"
)

// Protocol is what a request is written in, and so its answer. Only JSON is served; the others are answered, in their own
// terms, that there is nothing.
type Protocol uint8

// The protocols of AWS's clients.
const (
	JSON  Protocol = iota // AWS JSON 1.1
	Query                 // form-encoded requests and XML answers, as of STS
	CBOR                  // Smithy RPC v2
)

// ProtocolOf returns the protocol of a request with these headers: Content-Type, Smithy-Protocol and X-Amz-Target, which
// only JSON clients send.
func ProtocolOf(contentType, smithyProtocol, target string) Protocol {
	media, _, _ := strings.Cut(contentType, ";")
	switch {
	case smithyProtocol == "rpc-v2-cbor":
		return CBOR
	case target == "" && strings.EqualFold(strings.TrimSpace(media), "application/x-www-form-urlencoded"):
		return Query
	}
	return JSON
}

// queryErrors are the codes and statuses of the query protocol for exceptions of JSON services.
var queryErrors = map[string]struct {
	code   string
	status int
}{
	"MissingAuthenticationTokenException": {"MissingAuthenticationToken", 403},
	"InvalidSignatureException":           {"SignatureDoesNotMatch", 403},
	"IncompleteSignatureException":        {"IncompleteSignature", 400},
	"UnrecognizedClientException":         {"InvalidClientTokenId", 403},
	"ExpiredTokenException":               {"ExpiredToken", 403},
	"AccessDeniedException":               {"AccessDenied", 403},
	"UnknownOperationException":           {"InvalidAction", 400},
	"ThrottlingException":                 {"Throttling", 400},
	"InternalServiceErrorException":       {"InternalFailure", 500},
}

// QueryError returns the query protocol's code and HTTP status for an exception of a JSON service and its status.
func QueryError(exception string, status int) (code string, queryStatus int) {
	if e, ok := queryErrors[exception]; ok {
		return e.code, e.status
	}
	return strings.TrimSuffix(exception, "Exception"), status
}

// AppendQueryError appends the body of an error response of the query protocol, text/xml.
func AppendQueryError(dst []byte, code, message, requestID string, status int) []byte {
	sender := "Sender"
	if status >= 500 {
		sender = "Receiver"
	}
	b := bytes.NewBuffer(dst)
	b.WriteString("<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\n  <Error>\n")
	for _, e := range [][2]string{{"Type", sender}, {"Code", code}, {"Message", message}} {
		b.WriteString("    <" + e[0] + ">")
		_ = xml.EscapeText(b, []byte(e[1])) // a buffer takes everything
		b.WriteString("</" + e[0] + ">\n")
	}
	b.WriteString("  </Error>\n  <RequestId>" + requestID + "</RequestId>\n</ErrorResponse>\n")
	return b.Bytes()
}

// AppendCBORException appends the body of an error response of Smithy RPC v2: a map of the exception's name and its text.
func AppendCBORException(dst []byte, name, message string) []byte {
	dst = append(dst, 0xa2) // a map of two
	for _, s := range []string{"__type", name, "message", strings.ToValidUTF8(message, "\ufffd")} {
		switch n := len(s); { // a text, by the length of its length
		case n < 24:
			dst = append(dst, 0x60|byte(n))
		case n < 1<<8:
			dst = append(dst, 0x78, byte(n))
		case n < 1<<16:
			dst = binary.BigEndian.AppendUint16(append(dst, 0x79), uint16(n))
		default:
			dst = binary.BigEndian.AppendUint32(append(dst, 0x7a), uint32(n))
		}
		dst = append(dst, s...)
	}
	return dst
}
