package server_test

import (
	"encoding/xml"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/uuid"
)

// A request in another protocol is refused in that protocol: its client could not read anything else.
func TestErrorsOfOtherProtocols(t *testing.T) {
	e := openEndpoint(t)
	send := func(path, contentType, smithy, body string, sign bool, service string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
		r.Header.Set("Content-Type", contentType)
		if smithy != "" {
			r.Header.Set("Smithy-Protocol", smithy)
		}
		if sign {
			s := e.seller
			s.service = service
			e.sign(s, r, body)
		}
		w := httptest.NewRecorder()
		e.handler.ServeHTTP(w, r)
		return w
	}
	for _, c := range []struct {
		name, contentType string
		sign              bool
		service           string
		code              string
		status            int
	}{
		{"without a signature", "application/x-www-form-urlencoded", false, "", "MissingAuthenticationToken", 403},
		{"with a charset", "application/x-www-form-urlencoded; charset=utf-8", false, "", "MissingAuthenticationToken", 403},
		{"signed for STS", "application/x-www-form-urlencoded", true, "sts", "SignatureDoesNotMatch", 403},
		{"signed for this service", "application/x-www-form-urlencoded", true, "aws-marketplace", "InvalidAction", 400},
	} {
		w := send("/", c.contentType, "", "Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleArn=%3C%26%3E", c.sign, c.service)
		var answer struct {
			XMLName xml.Name `xml:"https://sts.amazonaws.com/doc/2011-06-15/ ErrorResponse"`
			Type    string   `xml:"Error>Type"`
			Code    string   `xml:"Error>Code"`
			Message string   `xml:"Error>Message"`
			ID      string   `xml:"RequestId"`
		}
		if err := xml.Unmarshal(w.Body.Bytes(), &answer); err != nil {
			t.Errorf("%s: %v: %s", c.name, err, w.Body)
			continue
		}
		if w.Code != c.status || answer.Code != c.code || answer.Type != "Sender" || answer.Message == "" || uuid.Validate(answer.ID) != nil ||
			answer.ID != w.Header().Get("X-Amzn-Requestid") || w.Header().Get("Content-Type") != "text/xml" {
			t.Errorf("%s: %d, Content-Type %q: %+v", c.name, w.Code, w.Header().Get("Content-Type"), answer)
		}
	}
	for path, code := range map[string]string{"/": "MissingAuthenticationTokenException", "/service/AWSMPEntitlementService/operation/GetEntitlements": "UnknownOperationException"} {
		w := send(path, "application/cbor", "rpc-v2-cbor", "\xa0", false, "")
		if got := w.Body.String(); w.Header().Get("Content-Type") != "application/cbor" || w.Header().Get("Smithy-Protocol") != "rpc-v2-cbor" ||
			!strings.HasPrefix(got, "\xa2\x66__type\x78"+string(rune(len(code)))+code+"\x67message") {
			t.Errorf("CBOR to %s: %d %q", path, w.Code, got)
		}
	}
}
