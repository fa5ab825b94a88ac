package server

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/meterd/meterd/internal/adminapi"
	"github.com/meterd/meterd/internal/metering"
)

// problem is an error answer.
type problem adminapi.Problem

// newProblem makes an error answer of one line; each detail is named with its place in the request.
func newProblem(status int, message string, details ...error) *problem {
	var lines []string
	for _, d := range details {
		var located huma.ErrorDetailer
		if errors.As(d, &located) {
			e := located.ErrorDetail()
			line := e.Message
			if where := strings.TrimPrefix(strings.TrimPrefix(e.Location, "body."), "query."); where != "" && where != "body" {
				line = where + ": " + line
			}
			lines = append(lines, line)
		} else if d != nil {
			lines = append(lines, d.Error())
		}
	}
	if len(lines) > 0 {
		message = strings.Join(lines, "; ")
	}
	return &problem{Status: status, Title: http.StatusText(status), Detail: strings.ReplaceAll(message, "\n", " ")}
}

func (p *problem) Error() string             { return p.Detail }
func (p *problem) GetStatus() int            { return p.Status }
func (p *problem) ContentType(string) string { return "application/problem+json" }

func (p *problem) write(w http.ResponseWriter) {
	w.Header().Set("Content-Type", p.ContentType(""))
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p) // the client may be gone
}

// problem maps an error of the ledger to an answer. An unexpected error goes to the log, not to the client.
func (a *admin) problem(method string, err error) *problem {
	var refusal *metering.Error
	if errors.As(err, &refusal) {
		switch refusal.Kind {
		case metering.Internal:
		case metering.NotFound:
			return newProblem(http.StatusNotFound, refusal.Message)
		case metering.Conflict:
			return newProblem(http.StatusConflict, refusal.Message)
		case metering.AccessDenied:
			return newProblem(http.StatusForbidden, refusal.Message)
		case metering.Throttling:
			return newProblem(http.StatusServiceUnavailable, refusal.Message)
		default:
			return newProblem(http.StatusUnprocessableEntity, refusal.Message)
		}
	}
	if errors.Is(err, context.Canceled) { // the client has gone: nothing is wrong, and nobody reads the answer
		return newProblem(http.StatusServiceUnavailable, "the client has gone")
	}
	a.Log.Error("admin API", slog.Any("error", err))
	if method == http.MethodGet {
		return newProblem(http.StatusInternalServerError, "something went wrong: the service's log says what")
	}
	return newProblem(http.StatusInternalServerError, "something went wrong, and it is not known whether the change was made: the service's log says what; look before you try again")
}
