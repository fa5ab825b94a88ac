package wire_test

import (
	"strings"
	"testing"

	"github.com/meterd/meterd/internal/wire"
)

func TestAppendQueryError(t *testing.T) {
	got := string(wire.AppendQueryError([]byte("x"), "InvalidAction", "a <b> & \x01", "id", 400))
	want := "x<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\n  <Error>\n    <Type>Sender</Type>\n    <Code>InvalidAction</Code>\n    <Message>a &lt;b&gt; &amp; \ufffd</Message>\n  </Error>\n  <RequestId>id</RequestId>\n</ErrorResponse>\n"
	if got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := string(wire.AppendQueryError(nil, "InternalFailure", "", "id", 500)); !strings.Contains(got, "<Type>Receiver</Type>") {
		t.Errorf("a fault of the service: %s", got)
	}
	if code, status := wire.QueryError("ValidationException", 400); code != "Validation" || status != 400 {
		t.Errorf("another exception: %s %d", code, status)
	}
}

func TestAppendCBORException(t *testing.T) {
	for _, c := range []struct{ message, head string }{
		{"", "\x60"}, {strings.Repeat("m", 23), "\x77"}, {strings.Repeat("m", 24), "\x78\x18"}, {strings.Repeat("m", 255), "\x78\xff"},
		{strings.Repeat("m", 256), "\x79\x01\x00"}, {strings.Repeat("m", 1<<16), "\x7a\x00\x01\x00\x00"},
	} {
		if got, want := string(wire.AppendCBORException(nil, "E", c.message)), "\xa2\x66__type\x61E\x67message"+c.head+c.message; got != want {
			t.Errorf("a message of %d bytes: %.60q, want %.60q", len(c.message), got, want)
		}
	}
}

func TestProtocolOf(t *testing.T) {
	for _, c := range []struct {
		contentType, smithy, target string
		want                        wire.Protocol
	}{
		{"application/x-amz-json-1.1", "", "A.B", wire.JSON}, {"", "", "", wire.JSON}, {"application/x-www-form-urlencoded", "", "", wire.Query},
		{"application/x-www-form-urlencoded", "", "A.B", wire.JSON}, {"Application/X-WWW-Form-Urlencoded ; charset=utf-8", "", "", wire.Query},
		{"application/cbor", "rpc-v2-cbor", "", wire.CBOR}, {"application/cbor", "", "", wire.JSON},
	} {
		if got := wire.ProtocolOf(c.contentType, c.smithy, c.target); got != c.want {
			t.Errorf("%q, %q: %d, want %d", c.contentType, c.smithy, got, c.want)
		}
	}
}
