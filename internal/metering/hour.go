package metering

import "time"

// Instant is a moment in milliseconds since the Unix epoch, UTC. Zero means "not set" wherever a moment is
// optional.
type Instant int64

// InstantOf returns t, truncated to the millisecond.
func InstantOf(t time.Time) Instant { return Instant(t.UnixMilli()) }

// Time returns the instant as a UTC time.
func (i Instant) Time() time.Time { return time.UnixMilli(int64(i)).UTC() }

// Add returns the instant d later.
func (i Instant) Add(d time.Duration) Instant { return i + Instant(d.Milliseconds()) }

// Sub returns the time from j to i.
func (i Instant) Sub(j Instant) time.Duration { return time.Duration(i-j) * time.Millisecond }

// String formats the instant as RFC 3339 with milliseconds, UTC.
func (i Instant) String() string { return i.Time().Format("2006-01-02T15:04:05.000Z07:00") }

// Hour is a UTC hour, counted from the Unix epoch. Being a count of hours, it cannot hold minutes: usage records
// are de-duplicated on it (metering-api 2.2).
type Hour int32

const millisPerHour = 3_600_000

// Hour returns the UTC hour that the instant lies in.
func (i Instant) Hour() Hour {
	h := i / millisPerHour
	if i%millisPerHour < 0 {
		h--
	}
	return Hour(h)
}

// Start returns the first instant of the hour.
func (h Hour) Start() Instant { return Instant(h) * millisPerHour }

// String formats the hour as "2026-11-23T14Z".
func (h Hour) String() string { return h.Start().Time().Format("2006-01-02T15Z") }

// monthStart returns the first instant of the UTC month that i lies in.
func monthStart(i Instant) Instant {
	t := i.Time()
	return InstantOf(time.Date(t.Year(), t.Month(), 1, 0, 0, 0, 0, time.UTC))
}

// monthEnd returns the first instant after the UTC month that i lies in.
func monthEnd(i Instant) Instant {
	t := i.Time()
	return InstantOf(time.Date(t.Year(), t.Month()+1, 1, 0, 0, 0, 0, time.UTC))
}

// openMonths returns the first instant of the earliest month that is not closed at the time now.
func (s *Settings) openMonths(now Instant) Instant { return monthStart(now.Add(-s.MonthClose)) }

// CheckBatchTimestamp reports whether BatchMeterUsage takes a record stamped ts at the time now; nil means yes.
// The window is 24 hours, with the previous month closed at 06:00 UTC on the 1st, and a little tolerance for
// clocks ahead of ours (metering-api 2.1, API reference BatchMeterUsage).
func (s *Settings) CheckBatchTimestamp(ts, now Instant) *Error {
	if err := s.checkFuture(ts, now); err != nil {
		return err
	}
	if ts < s.openMonths(now) {
		return Errorf(TimestampOutOfBounds, "Timestamp %v lies in a month that closed at %v: usage of a month is accepted until %v after it ends, whatever its age. It can no longer be metered.", ts, monthEnd(ts).Add(s.MonthClose), FormatDuration(s.MonthClose))
	}
	if month := monthStart(now); s.MonthGrace && ts < month && now < month.Add(s.MonthClose) && ts >= month.Add(-24*time.Hour) {
		return nil
	}
	oldest := now
	if s.WindowFromHour {
		oldest = now.Hour().Start()
	}
	oldest = oldest.Add(-s.BatchWindow)
	if ts < oldest || ts == oldest && !s.WindowFromHour {
		return Errorf(TimestampOutOfBounds, "Timestamp %v is too old: the service accepts records less than %v after the event, and its time is %v. Leave out the records that are too old and send the others again.", ts, FormatDuration(s.BatchWindow), now)
	}
	return nil
}

// Interval is a span of time, both ends included.
type Interval struct{ From, To Instant }

// Hold reports whether a moment lies in the interval.
func (w Interval) Hold(ts Instant) bool { return w.From <= ts && ts <= w.To }

// BatchTimestamps returns timestamps that [Settings.CheckBatchTimestamp] takes at the time now, for callers that
// check many records. With MonthGrace, timestamps outside the interval may be taken too.
func (s *Settings) BatchTimestamps(now Instant) Interval {
	w := Interval{To: now.Add(s.FutureTolerance)}
	if s.WindowFromHour {
		w.From = now.Hour().Start().Add(-s.BatchWindow)
	} else {
		w.From = now.Add(-s.BatchWindow) + 1
	}
	w.From = max(w.From, s.openMonths(now))
	return w
}

// CheckMeterTimestamp reports whether MeterUsage takes a record stamped ts at the time now; nil means yes. Records
// more than six hours old are refused (metering-api 2.1, API reference MeterUsage).
func (s *Settings) CheckMeterTimestamp(ts, now Instant) *Error {
	if err := s.checkFuture(ts, now); err != nil {
		return err
	}
	if ts < now.Add(-s.MeterWindow) {
		return Errorf(TimestampOutOfBounds, "Timestamp %v is too old: MeterUsage accepts usage up to %v after the event, and the service's time is %v.", ts, FormatDuration(s.MeterWindow), now)
	}
	return nil
}

func (s *Settings) checkFuture(ts, now Instant) *Error {
	if ts > now.Add(s.FutureTolerance) { // not Sub: a time.Duration ends after 292 years
		return Errorf(TimestampOutOfBounds, "Timestamp %v lies in the future: the service's time is %v, and records may be at most %v ahead of it. Send seconds since 1970-01-01T00:00:00Z, UTC.", ts, now, FormatDuration(s.FutureTolerance))
	}
	return nil
}

// OpenHours returns the first and the last hour that a record accepted at the time now may belong to. The records of
// these hours must be known to decide duplicates.
func (s *Settings) OpenHours(now Instant) (first, last Hour) {
	window := max(s.BatchWindow, s.MeterWindow)
	if s.MonthGrace {
		window = max(window, 24*time.Hour+s.MonthClose) // the last day of the month until its close
	}
	first = now.Add(-window).Hour()
	if s.WindowFromHour {
		first = min(first, now.Hour().Start().Add(-window).Hour())
	}
	return first, now.Add(s.FutureTolerance).Hour() + 1
}
