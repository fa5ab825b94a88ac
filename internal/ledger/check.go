package ledger

import (
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/meterd/meterd/internal/metering"
)

const maxText = 255 // bytes of a name

// The bounds of a page of a list.
const (
	DefaultPage = 100
	MaxPage     = 1000
)

func pageLimit(limit int) (int, *metering.Error) {
	switch {
	case limit == 0:
		return DefaultPage, nil
	case limit < 0 || limit > MaxPage:
		return 0, invalid("limit: must be 1 to %d, not %d", MaxPage, limit)
	}
	return limit, nil
}

func badCursor(after string) *metering.Error {
	return invalid("after: %.40q is not a cursor: pass what the page before had as next", after)
}

func invalid(format string, args ...any) *metering.Error {
	return metering.Errorf(metering.Validation, format, args...)
}

func notFound(format string, args ...any) *metering.Error {
	return metering.Errorf(metering.NotFound, format, args...)
}

func conflict(format string, args ...any) *metering.Error {
	return metering.Errorf(metering.Conflict, format, args...)
}

// within says where in a larger thing an error's field is.
func within(err *metering.Error, format string, args ...any) *metering.Error {
	if err == nil || err == errFollows {
		return err
	}
	at := metering.Errorf(err.Kind, format, args...)
	at.Message += err.Message
	return at
}

// accountNumber reads 12 digits.
func accountNumber(field, s string) (uint64, *metering.Error) {
	n, ok := metering.ParseAccountID(s)
	if !ok {
		return 0, invalid("%s: %.40q is not an account id: write its 12 digits, without hyphens and with leading zeros", field, s)
	}
	return n, nil
}

// checkFilter checks the account that a list is asked for, if it is asked for one: of what is no account id there is
// nothing, which is no answer to who has misspelt it.
func checkFilter(field, accountID string) error {
	if accountID == "" {
		return nil
	}
	if _, bad := accountNumber(field, accountID); bad != nil {
		return bad
	}
	return nil
}

// checkText tells whether s is a text of least to most bytes that can be printed.
func checkText(field, s string, least, most int) *metering.Error {
	switch {
	case len(s) < least:
		return invalid("%s: is missing: write %d to %d characters", field, least, most)
	case len(s) > most:
		return invalid("%s: has %d bytes, but at most %d are allowed: shorten it", field, len(s), most)
	case !utf8.ValidString(s):
		return invalid("%s: %.40q is not valid UTF-8", field, s)
	}
	for _, c := range s {
		if unicode.IsControl(c) {
			return invalid("%s: %.40q holds the control character %q: leave it out", field, s, c)
		}
	}
	return nil
}

// Moments that an operator gives must lie between these: a wrong unit or a zero time is found out.
var (
	earliest = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	latest   = time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC)
)

// instant reads an optional time; it is 0 if left out.
func instant(field string, t *time.Time) (metering.Instant, *metering.Error) {
	if t == nil {
		return 0, nil
	}
	if t.Before(earliest) || !t.Before(latest) {
		return 0, invalid("%s: %s lies outside the years 2000 to 2199: write a time such as 2026-11-23T14:00:00Z", field, t.Format(time.RFC3339))
	}
	return metering.InstantOf(*t), nil
}

// timeOf returns an optional time.
func timeOf(i metering.Instant) *time.Time {
	if i == 0 {
		return nil
	}
	return new(i.Time())
}
