package market

import (
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/meterd/meterd/internal/metering"
)

const maxText = 255 // bytes of a name

func invalid(format string, args ...any) *metering.Error {
	return metering.Errorf(metering.Validation, format, args...)
}

func notFound(format string, args ...any) *metering.Error {
	return metering.Errorf(metering.NotFound, format, args...)
}

func conflict(format string, args ...any) *metering.Error {
	return metering.Errorf(metering.Conflict, format, args...)
}

// within adds to an error the place, in a larger thing, of the field that the error is about.
func within(err *metering.Error, format string, args ...any) *metering.Error {
	if err == nil || err == errFollows {
		return err
	}
	at := metering.Errorf(err.Kind, format, args...)
	at.Message += err.Message
	return at
}

// parseAccount reads an account id of 12 digits.
func parseAccount(field, s string) (uint64, *metering.Error) {
	n, ok := metering.ParseAccountID(s)
	if !ok {
		return 0, invalid("%s: %.40q is not an account id: write its 12 digits, without hyphens and with leading zeros", field, s)
	}
	return n, nil
}

// checkText checks that s has least to most bytes, all of them printable text.
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

// Times that an operator gives must lie between these two. A time in the wrong unit, or a zero time, does not.
var (
	earliest = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	latest   = time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC)
)

// Instant reads an optional time, and returns 0 if it is left out.
func Instant(field string, t *time.Time) (metering.Instant, *metering.Error) {
	if t == nil {
		return 0, nil
	}
	if t.Before(earliest) || !t.Before(latest) {
		return 0, invalid("%s: %s lies outside the years 2000 to 2199: write a time such as 2026-11-23T14:00:00Z", field, t.Format(time.RFC3339))
	}
	return metering.InstantOf(*t), nil
}

// timeOf returns an optional time, nil for 0.
func timeOf(i metering.Instant) *time.Time {
	if i == 0 {
		return nil
	}
	return new(i.Time())
}
