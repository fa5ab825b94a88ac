package adminapi

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
)

// Client knows the admin API that a [Verb] asks, and a token for it.
type Client struct {
	HTTPClient *http.Client // http.DefaultClient if nil

	endpoint, token string
}

// New returns a client of the admin API at the endpoint, such as "http://127.0.0.1:4881", with a bearer token.
func New(endpoint, token string) *Client {
	return &Client{endpoint: strings.TrimRight(endpoint, "/"), token: token}
}

// Realms of the WWW-Authenticate header with which the admin API refuses requests without a valid token. They tell a
// sandbox, whose token is published, from a production service.
const (
	Realm        = "meterd"
	SandboxRealm = "meterd sandbox"
)

// Challenge returns the WWW-Authenticate header of a realm.
func Challenge(realm string) string { return fmt.Sprintf("Bearer realm=%q", realm) }

// IsSandbox asks the service at an endpoint whether it is a sandbox; this needs no token. It returns a [*Problem] if
// another kind of service answers, and another error if none can be reached.
func IsSandbox(ctx context.Context, endpoint string, client *http.Client) (bool, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimRight(endpoint, "/")+GetClock.Path, nil)
	if err != nil {
		return false, err
	}
	answer, err := client.Do(r)
	if err != nil {
		return false, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusUnauthorized {
		return false, problem(answer)
	}
	return answer.Header.Get("WWW-Authenticate") == Challenge(SandboxRealm), nil
}

// do sends a request and decodes the answer into out, which may be nil.
func (c *Client) do(ctx context.Context, method, path, contentType string, body io.Reader, out any) error {
	r, err := http.NewRequestWithContext(ctx, method, c.endpoint+path, body)
	if err != nil {
		return err
	}
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	r.Header.Set("Authorization", "Bearer "+c.token)
	client := c.HTTPClient
	if client == nil {
		client = http.DefaultClient
	}
	answer, err := client.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode >= 300 {
		return problem(answer)
	}
	if out == nil {
		return nil
	}
	if err := json.NewDecoder(answer.Body).Decode(out); err != nil {
		return fmt.Errorf("reading the answer of %s %s: %w", method, path, err)
	}
	return nil
}

// problem reads an error answer. An answer that is not the admin API's own, such as a proxy's, becomes a Problem as
// well.
func problem(answer *http.Response) error {
	p := &Problem{}
	b, _ := io.ReadAll(io.LimitReader(answer.Body, 1<<20))
	media, _, _ := mime.ParseMediaType(answer.Header.Get("Content-Type"))
	if media != "application/problem+json" || json.Unmarshal(b, p) != nil || p.Detail == "" {
		p = &Problem{Status: answer.StatusCode, Title: http.StatusText(answer.StatusCode),
			Detail: fmt.Sprintf("the answer is HTTP status %s, and not from meterd's admin API: check the endpoint", answer.Status)}
	}
	p.Detail = oneLine(p.Detail)
	for i := range p.Errors {
		p.Errors[i].Place, p.Errors[i].Detail = oneLine(p.Errors[i].Place), oneLine(p.Errors[i].Detail)
	}
	return p
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// FaultsProblem returns the answer to a marketplace file that has faults.
func FaultsProblem(status int, faults Faults) *Problem {
	detail := faults[0].String()
	listed, more := faults.Listed()
	switch n := len(listed); {
	case more != "":
		detail = fmt.Sprintf("%d things are wrong, which the answer lists under errors, %s; the first: %s", n, strings.TrimPrefix(more, "… "), detail)
	case n > 1:
		detail = fmt.Sprintf("%d things are wrong, each of which the answer lists under errors; the first: %s", n, detail)
	}
	return &Problem{Status: status, Title: http.StatusText(status), Detail: oneLine(detail), Errors: listed, More: len(faults) - len(listed)}
}
