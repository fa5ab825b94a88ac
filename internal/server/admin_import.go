package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"reflect"
	"runtime/debug"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/meterd/meterd/internal/adminapi"
)

// maxImport is the longest marketplace that an import takes, in bytes. It is read item by item.
const maxImport = 1 << 30

// importing has the import that is being read and made: one at a time in the process, for what it takes of memory.
var importing = make(chan struct{}, 1)

// importTime is how long an import may take to send, and as long again to be made. Only operators get so far.
const importTime = 10 * time.Minute

// imports adds the import of a marketplace, which is read from the request as it comes.
func (a *admin) imports() {
	marketplace := &huma.MediaType{Schema: a.api.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[adminapi.Marketplace](), true, "")}
	huma.Register(a.api, adminapi.Import.Operation(), func(ctx context.Context, in *importInput) (*struct{ Body adminapi.ImportResult }, error) {
		out, err := a.importMarketplace(ctx, in)
		if err != nil {
			return nil, err
		}
		return &struct{ Body adminapi.ImportResult }{out}, nil
	})
	// Told only now, so that the library leaves the body to importInput.
	a.api.OpenAPI().Paths[adminapi.Import.Path].Post.RequestBody = &huma.RequestBody{Required: true,
		Content: map[string]*huma.MediaType{string(adminapi.JSON): marketplace, string(adminapi.YAML): marketplace}}
}

func (a *admin) importMarketplace(ctx context.Context, in *importInput) (none adminapi.ImportResult, err error) {
	form, p := in.form()
	if p != nil {
		return none, p
	}
	select {
	case importing <- struct{}{}:
	case <-ctx.Done():
		return none, newProblem(http.StatusServiceUnavailable, "the imports before this one took too long: send it again")
	}
	defer func() { <-importing }()
	in.begin()
	text := &head{most: adminapi.MaxYAML}
	defer text.done()
	m, err := adminapi.Read(form, io.TeeReader(in.body, text))
	var unread, faults adminapi.Faults
	if errors.As(err, &unread) && m == nil {
		return none, faultsProblem(http.StatusBadRequest, unread)
	}
	if err != nil && m == nil {
		return none, a.readProblem(err)
	}
	out, err := a.Ledger.Import(operator(ctx), m, unread...)
	if errors.As(err, &faults) {
		status := http.StatusBadRequest
		if len(unread) == 0 {
			status = a.problem(http.MethodPost, err).Status
		}
		if !text.cut {
			adminapi.Locate(form, bytes.NewReader(text.b), faults)
		}
		return none, faultsProblem(status, faults)
	}
	if err != nil {
		return none, a.problem(http.MethodPost, err)
	}
	return out, nil
}

// importInput is a marketplace, still to be read.
type importInput struct {
	contentType string
	body        io.Reader
	connection  *http.ResponseController
}

// Resolve takes the body from the request unread: it may be large.
func (in *importInput) Resolve(ctx huma.Context) []error {
	r, w := humago.Unwrap(ctx)
	in.contentType = r.Header.Get("Content-Type")
	in.body = http.MaxBytesReader(w, r.Body, maxImport)
	in.connection = http.NewResponseController(w)
	in.begin()
	return nil
}

// begin gives the import its time, from now on.
func (in *importInput) begin() {
	now := time.Now()
	_ = in.connection.SetReadDeadline(now.Add(importTime)) // if it has none of its own, it has the server's
	_ = in.connection.SetWriteDeadline(now.Add(2 * importTime))
}

// form is how the body is written.
func (in *importInput) form() (adminapi.Form, *problem) {
	media, _, err := mime.ParseMediaType(in.contentType)
	if form := adminapi.Form(media); err == nil && (form == adminapi.JSON || form == adminapi.YAML) {
		return form, nil
	}
	return "", newProblem(http.StatusUnsupportedMediaType, fmt.Sprintf("Content-Type: must be application/json or application/yaml, not %.80q", in.contentType))
}

// readProblem words why a body could not be read.
func (a *admin) readProblem(err error) *problem {
	if tooLong := (*http.MaxBytesError)(nil); errors.As(err, &tooLong) {
		return newProblem(http.StatusRequestEntityTooLarge, fmt.Sprintf("body: is longer than %d MiB: import it in parts", maxImport>>20))
	}
	return newProblem(http.StatusBadRequest, err.Error())
}

func faultsProblem(status int, faults adminapi.Faults) *problem {
	return (*problem)(adminapi.FaultsProblem(status, faults))
}

// head keeps what is written to it, unless that is more than most bytes: then it keeps nothing.
//
// From large bytes on it also has the garbage collector run often, until done: lists and maps of an import grow by
// being copied, and by default a heap may grow to twice what is used of it before it is collected.
type head struct {
	b         []byte
	most      int
	cut       bool
	n         int
	collected int // the percentage of garbage that was allowed before
}

const (
	large   = 1 << 20
	garbage = 25 // percent, in a large import
)

// done ends a large import. What it used goes back to the system, as the service itself would not use so much again.
func (h *head) done() {
	if h.n >= large {
		debug.SetGCPercent(h.collected)
		go debug.FreeOSMemory() // beside the service, when what the import used is out of reach
	}
}

func (h *head) Write(b []byte) (int, error) {
	if h.n += len(b); h.n >= large && h.n-len(b) < large {
		if h.collected = debug.SetGCPercent(garbage); h.collected >= 0 && h.collected < garbage {
			debug.SetGCPercent(h.collected)
		}
	}
	if h.cut = h.cut || len(h.b)+len(b) > h.most; h.cut {
		h.b = nil
	} else {
		h.b = append(h.b, b...)
	}
	return len(b), nil
}
