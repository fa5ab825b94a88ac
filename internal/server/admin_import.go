package server

import (
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
	"github.com/meterd/meterd/internal/ledger"
	"github.com/meterd/meterd/internal/market"
)

// maxImport is the longest marketplace file that an import takes, in bytes. The file is read item by item.
const maxImport = 1 << 30

// importing holds the import that is being made. Because imports need much memory, the process makes one at a time.
var importing = make(chan struct{}, 1)

// importTime is how long a client may take to send an import, and how long making it may take after that. Only
// operators get so far.
const importTime = 10 * time.Minute

// imports adds the verb that imports a marketplace, which is read from the request as it arrives.
func (a *admin) imports() {
	marketplace := &huma.MediaType{Schema: a.api.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[adminapi.Marketplace](), true, "")}
	huma.Register(a.api, adminapi.Import.Operation(), func(ctx context.Context, in *importInput) (*struct{ Body adminapi.ImportResult }, error) {
		out, err := a.importMarketplace(ctx, in)
		if err != nil {
			return nil, err
		}
		return &struct{ Body adminapi.ImportResult }{out}, nil
	})
	// The document gets the body only here, so that the library leaves reading it to importInput.
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
	thrift := &thrift{}
	defer thrift.done()
	file, unread, err := adminapi.Load(form, io.TeeReader(in.body, thrift), in.length)
	if err != nil {
		return none, a.readProblem(err)
	}
	var faults adminapi.Faults
	out, err := ledger.Act(ctx, a.Ledger, operator(ctx), market.Import(file, unread...))
	if errors.As(err, &faults) {
		status := http.StatusBadRequest
		if len(unread) == 0 {
			status = a.problem(http.MethodPost, err).Status
		}
		file.Locate(faults)
		return none, faultsProblem(status, faults)
	}
	if err != nil {
		return none, a.problem(http.MethodPost, err)
	}
	return out, nil
}

// importInput is a marketplace file that has not been read yet.
type importInput struct {
	contentType string
	length      int64 // -1 if it is not known
	body        io.Reader
	connection  *http.ResponseController
}

// Resolve takes the body without reading it, because it may be large.
func (in *importInput) Resolve(ctx huma.Context) []error {
	r, w := humago.Unwrap(ctx)
	in.contentType, in.length = r.Header.Get("Content-Type"), r.ContentLength
	in.body = http.MaxBytesReader(w, r.Body, maxImport)
	in.connection = http.NewResponseController(w)
	in.begin()
	return nil
}

// begin starts the import's time.
func (in *importInput) begin() {
	now := time.Now()
	_ = in.connection.SetReadDeadline(now.Add(importTime)) // a connection that takes no deadline keeps the server's
	_ = in.connection.SetWriteDeadline(now.Add(2 * importTime))
}

// form returns the form in which the body is written.
func (in *importInput) form() (adminapi.Form, *problem) {
	media, _, err := mime.ParseMediaType(in.contentType)
	if form := adminapi.Form(media); err == nil && (form == adminapi.JSON || form == adminapi.YAML) {
		return form, nil
	}
	return "", newProblem(http.StatusUnsupportedMediaType, fmt.Sprintf("Content-Type: must be application/json or application/yaml, not %.80q", in.contentType))
}

// readProblem makes the answer for a body that could not be read.
func (a *admin) readProblem(err error) *problem {
	if tooLong := (*http.MaxBytesError)(nil); errors.As(err, &tooLong) {
		return newProblem(http.StatusRequestEntityTooLarge, fmt.Sprintf("body: is longer than %d MiB: import it in parts", maxImport>>20))
	}
	return newProblem(http.StatusBadRequest, err.Error())
}

func faultsProblem(status int, faults adminapi.Faults) *problem {
	return (*problem)(adminapi.FaultsProblem(status, faults))
}

// thrift makes the garbage collector run often, from the moment when many bytes of an import have been read until
// done. The maps of an import grow by being copied, and by default a heap may grow to twice its live size before it
// is collected.
type thrift struct {
	n         int
	collected int // the percentage of garbage that was allowed before the import
}

const (
	large   = 1 << 20
	garbage = 25 // percent, in a large import
)

// done ends a large import. The memory that it used goes back to the system, because the service itself would not use
// so much again.
func (t *thrift) done() {
	if t.n >= large {
		debug.SetGCPercent(t.collected)
		go debug.FreeOSMemory() // in the background, once nothing refers to what the import used
	}
}

func (t *thrift) Write(b []byte) (int, error) {
	if t.n += len(b); t.n >= large && t.n-len(b) < large {
		if t.collected = debug.SetGCPercent(garbage); t.collected >= 0 && t.collected < garbage {
			debug.SetGCPercent(t.collected)
		}
	}
	return len(b), nil
}
