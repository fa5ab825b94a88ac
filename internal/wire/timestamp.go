package wire

import (
	"strconv"
	"time"
)

// The years 1 to 9999 in milliseconds since the Unix epoch.
const (
	minMillis = -62135596800000
	maxMillis = 253402300799999
)

var pow10 = [...]uint64{1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15}

// decimalMillis returns the milliseconds in text, a JSON number of seconds. It is
// exact where a float64 is not: a record on the edge of an hour must not slip
// into the next. What is finer than a millisecond is dropped towards the past
// (floor), so that a moment never leaves its hour. It reports false outside the
// years 1 to 9999.
func decimalMillis(text string) (ms int64, ok bool) {
	const most = 15 // digits of maxMillis
	var (
		digits   uint64 // the first significant digits, at most 15
		n        int64  // how many
		finer    bool   // something other than 0 was dropped
		point    int64  // the value is 0.digits times ten to the power of point
		fraction bool
	)
	i := 0
	if text[0] == '-' {
		i++
	}
scan:
	for ; i < len(text); i++ {
		switch c := text[i]; {
		case c == '.':
			fraction = true
		case c == 'e' || c == 'E':
			point += exponent(text[i+1:])
			break scan
		default:
			if n == 0 && c == '0' {
				if fraction {
					point--
				}
				continue
			}
			if !fraction {
				point++
			}
			if n < most {
				digits = digits*10 + uint64(c-'0')
				n++
			} else if c != '0' {
				finer = true
			}
		}
	}
	if n == 0 {
		return 0, true
	}
	switch want := point + 3; { // the digits before the point, in milliseconds
	case want > most:
		return 0, false
	case want >= n:
		ms = int64(digits * pow10[want-n])
	case want > 0:
		ms = int64(digits / pow10[n-want])
		finer = finer || digits%pow10[n-want] != 0
	default:
		finer = true
	}
	if text[0] == '-' {
		ms = -ms
		if finer {
			ms--
		}
	}
	return ms, minMillis <= ms && ms <= maxMillis
}

// exponent reads a JSON exponent. A huge one is cut off where no number of
// digits in a body could outweigh it.
func exponent(text string) (exp int64) {
	for _, c := range []byte(text) {
		if isDigit(c) && exp < 1<<50 {
			exp = exp*10 + int64(c-'0')
		}
	}
	if text[0] == '-' {
		return -exp
	}
	return exp
}

// isoMillis returns the milliseconds at s, an ISO 8601 date and time with a zone
// as in RFC 3339; the zone may also be +hhmm or +hh. No SDK of AWS sends these
// for this service; people with curl do. It drops and refuses what decimalMillis does.
func isoMillis(s string) (ms int64, ok bool) {
	const form = "dddd-dd-ddTdd:dd:dd"
	if len(s) <= len(form) {
		return 0, false
	}
	for i, want := range []byte(form) {
		c := s[i]
		switch want {
		case 'd':
			ok = isDigit(c)
		case 'T':
			ok = c == 'T' || c == 't' || c == ' '
		default:
			ok = c == want
		}
		if !ok {
			return 0, false
		}
	}
	two := func(s string) int { return int(s[0]-'0')*10 + int(s[1]-'0') }
	year, month, day := two(s)*100+two(s[2:]), two(s[5:]), two(s[8:])
	hour, minute, second := two(s[11:]), two(s[14:]), two(s[17:])
	t := time.Date(year, time.Month(month), day, hour, minute, second, 0, time.UTC)
	if t.Day() != day || int(t.Month()) != month || hour > 23 || minute > 59 || second > 59 {
		return 0, false
	}
	ms = t.UnixMilli()

	s = s[len(form):]
	if s[0] == '.' || s[0] == ',' {
		s = s[1:]
		scale, n := int64(100), 0
		for n < len(s) && isDigit(s[n]) {
			ms += int64(s[n]-'0') * scale
			scale /= 10
			n++
		}
		if n == 0 {
			return 0, false
		}
		s = s[n:]
	}
	zone, ok := zoneMillis(s)
	ms -= zone
	return ms, ok && minMillis <= ms && ms <= maxMillis
}

// zoneMillis reads a zone: Z, z, +hh:mm, +hhmm or +hh.
func zoneMillis(s string) (ms int64, ok bool) {
	if s == "Z" || s == "z" {
		return 0, true
	}
	if len(s) == 6 && s[3] == ':' {
		s = s[:3] + s[4:]
	}
	if len(s) != 3 && len(s) != 5 || s[0] != '+' && s[0] != '-' {
		return 0, false
	}
	var n int64
	for _, c := range []byte(s[1:]) {
		if !isDigit(c) {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	if len(s) == 3 {
		n *= 100
	}
	if n/100 > 23 || n%100 > 59 {
		return 0, false
	}
	ms = (n/100*60 + n%100) * 60_000
	if s[0] == '-' {
		ms = -ms
	}
	return ms, true
}

// appendMillis appends ms as seconds: a JSON number with as many decimals as it
// needs. Strings would break the SDKs of Go and JavaScript (metering-api 0.2).
func appendMillis(dst []byte, ms int64) []byte {
	u := uint64(ms)
	if ms < 0 {
		dst = append(dst, '-')
		u = -u
	}
	dst = strconv.AppendUint(dst, u/1000, 10)
	if u%1000 != 0 {
		dst = append(dst, '.', '0'+byte(u%1000/100), '0'+byte(u%100/10), '0'+byte(u%10))
		for dst[len(dst)-1] == '0' {
			dst = dst[:len(dst)-1]
		}
	}
	return dst
}
