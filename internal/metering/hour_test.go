package metering_test

import (
	"strings"
	"testing"
	"time"

	"github.com/meterd/meterd/internal/metering"
	"pgregory.net/rapid"
)

// at reads a moment such as "2026-11-23T15:20:00Z".
func at(t testing.TB, s string) metering.Instant {
	t.Helper()
	when, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		t.Fatal(err)
	}
	return metering.InstantOf(when)
}

// set returns the default settings, but for those written as "name=value".
func set(t testing.TB, changes ...string) *metering.Settings {
	t.Helper()
	s := metering.DefaultSettings()
	for _, c := range changes {
		name, value, _ := strings.Cut(c, "=")
		if err := s.Set(name, value); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

type windowCase struct {
	fact, settings string // settings: "name=value", separated by spaces
	now, ts        string
	ok             bool
}

func (c windowCase) check(t *testing.T, check func(s *metering.Settings, ts, now metering.Instant) *metering.Error) {
	t.Helper()
	err := check(set(t, strings.Fields(c.settings)...), at(t, c.ts), at(t, c.now))
	switch {
	case c.ok && err != nil:
		t.Errorf("%s: %s at %s is refused: %v", c.fact, c.ts, c.now, err)
	case !c.ok && err == nil:
		t.Errorf("%s: %s at %s is taken", c.fact, c.ts, c.now)
	case !c.ok && (err.Kind != metering.TimestampOutOfBounds || !strings.Contains(err.Message, at(t, c.ts).String())):
		t.Errorf("%s: refused with %v %q; want TimestampOutOfBounds and the timestamp", c.fact, err.Kind, err)
	}
}

func TestBatchWindow(t *testing.T) {
	for _, c := range []windowCase{
		{"the hour that runs is taken", "", "2026-11-23T15:20:00Z", "2026-11-23T15:20:00Z", true},
		{"the top of the hour that runs is taken", "", "2026-11-23T15:20:00Z", "2026-11-23T15:00:00Z", true},
		{"a record of 20 h is taken", "", "2026-11-23T15:20:00Z", "2026-11-22T19:20:00Z", true},
		{"just under 24 h is taken", "", "2026-11-23T15:20:00Z", "2026-11-22T15:20:00.001Z", true},
		{"24 h or more after the event is refused", "", "2026-11-23T15:20:00Z", "2026-11-22T15:20:00Z", false},
		{"24 h or more after the event is refused", "", "2026-11-23T15:20:00Z", "2026-11-22T09:20:00Z", false},

		{"the documented example: a record of 31 March at 05:00 on 1 April", "", "2026-04-01T05:00:00Z", "2026-03-31T06:00:00Z", true},
		{"until the last millisecond before 06:00", "", "2026-04-01T05:59:59.999Z", "2026-03-31T23:59:59.999Z", true},
		{"at 06:00 on the 1st the month before is closed", "", "2026-04-01T06:00:00Z", "2026-03-31T23:59:59.999Z", false},
		{"at 06:00 on the 1st the month before is closed", "", "2026-04-01T06:00:00Z", "2026-03-31T23:30:00Z", false},
		{"the new month is open then", "", "2026-04-01T06:00:00Z", "2026-04-01T00:00:00Z", true},
		{"still closed later on the 1st", "", "2026-04-01T20:00:00Z", "2026-03-31T23:30:00Z", false},
		{"before the close the 24 h hold as well", "", "2026-04-01T05:30:00Z", "2026-03-31T03:00:00Z", false},
		{"the year's end is a month's end", "", "2027-01-01T06:00:00Z", "2026-12-31T23:30:00Z", false},
		{"the year's end is a month's end", "", "2027-01-01T05:59:59.999Z", "2026-12-31T23:30:00Z", true},
		{"29 February is a month's last day", "", "2028-03-01T06:00:00Z", "2028-02-29T23:30:00Z", false},
		{"28 February of a leap year is not", "", "2028-02-29T06:00:00Z", "2028-02-28T23:30:00Z", true},

		{"the close can be moved", "month-close=3h", "2026-04-01T03:00:00Z", "2026-03-31T23:30:00Z", false},
		{"the close can be moved", "month-close=0s", "2026-04-01T00:00:00Z", "2026-03-31T23:59:59.999Z", false},
		{"with grace the previous month's last day is taken whole until the close", "month-grace=true", "2026-04-01T05:30:00Z", "2026-03-31T03:00:00Z", true},
		{"with grace the previous month's last day is taken whole until the close", "month-grace=true", "2026-04-01T05:59:59.999Z", "2026-03-31T00:00:00Z", true},
		{"grace is for the last day", "month-grace=true", "2026-04-01T05:30:00Z", "2026-03-30T23:59:59.999Z", false},
		{"grace ends with the close", "month-grace=true", "2026-04-01T06:00:00Z", "2026-03-31T23:00:00Z", false},
		{"grace is for one month", "month-grace=true", "2026-04-01T05:30:00Z", "2026-02-28T23:59:59.999Z", false},
		{"grace is for the previous month only", "month-grace=true", "2026-04-02T05:30:00Z", "2026-04-01T03:00:00Z", false},

		{"a window of a month does not open the month before the last again", "batch-window=744h", "2026-03-01T05:00:00Z", "2026-01-31T23:30:00Z", false},
		{"a window of a month", "batch-window=744h", "2026-03-01T05:00:00Z", "2026-02-01T00:00:00Z", true},

		{"from the hour, 24 h are measured from its start", "window-from-hour=true", "2026-11-23T15:20:00Z", "2026-11-22T15:00:00Z", true},
		{"from the hour, 24 h are measured from its start", "window-from-hour=true", "2026-11-23T15:59:59.999Z", "2026-11-22T15:00:00Z", true},
		{"from the hour, 24 h are measured from its start", "window-from-hour=true", "2026-11-23T15:20:00Z", "2026-11-22T14:59:59.999Z", false},
		{"the window of before July 2026", "batch-window=6h", "2026-11-23T15:20:00Z", "2026-11-23T09:20:00Z", false},
		{"the window of before July 2026", "batch-window=6h", "2026-11-23T15:20:00Z", "2026-11-23T09:20:00.001Z", true},

		{"a clock that is 5 minutes fast", "", "2026-11-23T15:20:00Z", "2026-11-23T15:25:00Z", true},
		{"further ahead is the future", "", "2026-11-23T15:20:00Z", "2026-11-23T15:25:00.001Z", false},
		{"further ahead is the future", "", "2026-11-23T15:20:00Z", "2026-11-23T18:20:00Z", false},
		{"the tolerance may reach into the next hour", "", "2026-11-23T15:57:00Z", "2026-11-23T16:01:00Z", true},
		{"the tolerance may reach into the next month", "", "2026-11-30T23:57:00Z", "2026-12-01T00:01:00Z", true},
		{"no tolerance", "future-tolerance=0s", "2026-11-23T15:20:00Z", "2026-11-23T15:20:00.001Z", false},
		{"centuries ahead", "", "2026-11-23T15:20:00Z", "2400-01-01T00:00:00Z", false},
		{"the last timestamp there is", "", "2026-11-23T15:20:00Z", "9999-12-31T23:59:59.999Z", false},
		{"the first timestamp there is", "", "2026-11-23T15:20:00Z", "0001-01-01T00:00:00Z", false},
	} {
		c.check(t, (*metering.Settings).CheckBatchTimestamp)
	}
}

// A record of a month that is closed is told when that month closed, however long ago.
func TestClosedMonth(t *testing.T) {
	for _, c := range []struct{ settings, now, ts, closed string }{
		{"", "2026-11-23T15:20:00Z", "2026-10-31T23:59:59.999Z", "2026-11-01T06:00:00.000Z"},
		{"", "2026-11-23T15:20:00Z", "2026-10-01T00:00:00Z", "2026-11-01T06:00:00.000Z"},
		{"", "2026-11-23T15:20:00Z", "2026-01-31T10:00:00Z", "2026-02-01T06:00:00.000Z"},
		{"", "2026-11-23T15:20:00Z", "2025-12-31T10:00:00Z", "2026-01-01T06:00:00.000Z"},
		{"", "2026-11-23T15:20:00Z", "1970-01-01T00:00:00Z", "1970-02-01T06:00:00.000Z"},
		{"", "2026-12-01T05:00:00Z", "2026-10-20T00:00:00Z", "2026-11-01T06:00:00.000Z"}, // November is still open
		{"", "2028-03-01T06:00:00Z", "2028-02-29T23:30:00Z", "2028-03-01T06:00:00.000Z"},
		{"month-close=3h", "2026-11-23T15:20:00Z", "2026-08-15T00:00:00Z", "2026-09-01T03:00:00.000Z"},
	} {
		err := set(t, strings.Fields(c.settings)...).CheckBatchTimestamp(at(t, c.ts), at(t, c.now))
		if err == nil || err.Kind != metering.TimestampOutOfBounds || !strings.Contains(err.Message, "closed at "+c.closed) {
			t.Errorf("%s at %s: %v, want that it closed at %s", c.ts, c.now, err, c.closed)
		}
	}
}

func TestMeterWindow(t *testing.T) {
	for _, c := range []windowCase{
		{"up to 6 h in the past", "", "2026-11-23T15:20:00Z", "2026-11-23T09:20:00Z", true},
		{"more than six hours", "", "2026-11-23T15:20:00Z", "2026-11-23T09:19:59.999Z", false},
		{"7 h", "", "2026-11-23T15:20:00Z", "2026-11-23T08:20:00Z", false},
		{"now", "", "2026-11-23T15:20:00Z", "2026-11-23T15:20:00Z", true},
		{"the month's end is no other end", "", "2026-12-01T06:00:00Z", "2026-12-01T00:00:00Z", true},
		{"the 6 h reach into the month before", "", "2026-12-01T05:59:00Z", "2026-11-30T23:59:00Z", true},
		{"after the 6 h the month before is out of reach", "", "2026-12-01T06:00:00Z", "2026-11-30T23:59:59.999Z", false},
		{"a window of its own", "meter-window=1h", "2026-11-23T15:20:00Z", "2026-11-23T14:19:00Z", false},
		{"a clock that is 5 minutes fast", "", "2026-11-23T15:20:00Z", "2026-11-23T15:25:00Z", true},
		{"further ahead is the future", "", "2026-11-23T15:20:00Z", "2026-11-23T15:25:00.001Z", false},
		{"centuries ahead", "", "2026-11-23T15:20:00Z", "2400-01-01T00:00:00Z", false},
		{"centuries ago", "", "2026-11-23T15:20:00Z", "1700-01-01T00:00:00Z", false},
		{"the last timestamp there is", "", "2026-11-23T15:20:00Z", "9999-12-31T23:59:59.999Z", false},
		{"the first timestamp there is", "", "2026-11-23T15:20:00Z", "0001-01-01T00:00:00Z", false},
	} {
		c.check(t, (*metering.Settings).CheckMeterTimestamp)
	}
}

// The instants that requests can carry: the years 1 to 9999.
const (
	firstInstant = metering.Instant(-62135596800000)
	lastInstant  = metering.Instant(253402300799999)
)

// drawNow draws a time of service, often near the end of a month or an hour.
func drawNow(t *rapid.T) metering.Instant {
	month := time.Date(2026, time.Month(rapid.IntRange(1, 36).Draw(t, "month")), 1, 0, 0, 0, 0, time.UTC)
	around := rapid.OneOf(
		rapid.Int64Range(0, 31*24*3_600_000),
		rapid.Int64Range(-3_600_000, 8*3_600_000),
		rapid.Map(rapid.Int64Range(-30, 30), func(h int64) int64 { return h * 3_600_000 }),
	).Draw(t, "since the month began")
	return metering.InstantOf(month) + metering.Instant(around)
}

// drawTimestamp draws a timestamp, mostly near the edges of the window at the time now.
func drawTimestamp(t *rapid.T, s *metering.Settings, now metering.Instant) metering.Instant {
	edge := rapid.SampledFrom([]metering.Instant{
		now, now.Add(-s.BatchWindow), now.Add(-s.MeterWindow), now.Add(s.FutureTolerance), now.Hour().Start().Add(-s.BatchWindow),
		metering.InstantOf(time.Date(now.Time().Year(), now.Time().Month(), 1, 0, 0, 0, 0, time.UTC)),
		metering.InstantOf(time.Date(now.Time().Year(), now.Time().Month()-1, 1, 0, 0, 0, 0, time.UTC)),
	}).Draw(t, "edge")
	return rapid.OneOf(
		rapid.Map(rapid.Int64Range(-2, 2), func(ms int64) metering.Instant { return edge + metering.Instant(ms) }),
		rapid.Map(rapid.Int64Range(-40*24*3_600_000, 40*24*3_600_000), func(ms int64) metering.Instant { return now + metering.Instant(ms) }),
		rapid.Map(rapid.Int64Range(int64(firstInstant), int64(lastInstant)), func(ms int64) metering.Instant { return metering.Instant(ms) }),
	).Draw(t, "timestamp")
}

func drawWindowSettings(t *rapid.T) *metering.Settings {
	s := metering.DefaultSettings()
	duration := rapid.Map(rapid.OneOf(rapid.IntRange(0, 744*60), rapid.Map(rapid.IntRange(0, 744), func(h int) int { return h * 60 })),
		func(minutes int) time.Duration { return time.Duration(minutes) * time.Minute })
	for _, d := range []*time.Duration{&s.BatchWindow, &s.MonthClose, &s.MeterWindow, &s.FutureTolerance} {
		if rapid.Bool().Draw(t, "changed") {
			*d = duration.Draw(t, "duration")
		}
	}
	s.WindowFromHour, s.MonthGrace = rapid.Bool().Draw(t, "from the hour"), rapid.Bool().Draw(t, "grace")
	return s
}

// Duplicates are decided among the open hours only, so a timestamp that is taken in any other hour could be counted
// twice.
func TestOpenHoursCoverWhatIsTaken(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawWindowSettings(t)
		now := drawNow(t)
		ts := drawTimestamp(t, s, now)
		batch, meter := s.CheckBatchTimestamp(ts, now) == nil, s.CheckMeterTimestamp(ts, now) == nil
		first, last := s.OpenHours(now)
		if (batch || meter) && (ts.Hour() < first || last < ts.Hour()) {
			t.Errorf("%v is taken at %v (batch %v, meter %v), but lies outside the open hours %v to %v", ts, now, batch, meter, first, last)
		}
	})
}

// The index drops hours and never loads them again, so an hour that has left the window must not come back.
func TestOpenHoursNeverGoBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawWindowSettings(t)
		now := drawNow(t)
		later := now + metering.Instant(rapid.Int64Range(0, 40*24*3_600_000).Draw(t, "later"))
		first, _ := s.OpenHours(now)
		if then, _ := s.OpenHours(later); then < first {
			t.Errorf("at %v hours are open from %v, later at %v from %v", now, first, later, then)
		}
	})
}

// What is documented, in other words than the code's.
func TestWindowsByDefault(t *testing.T) {
	s := metering.DefaultSettings()
	rapid.Check(t, func(t *rapid.T) {
		now := drawNow(t)
		ts := drawTimestamp(t, s, now)
		event, service := ts.Time(), now.Time()
		ahead := event.After(service.Add(5 * time.Minute))
		earlierMonth := event.Year() < service.Year() || event.Year() == service.Year() && event.Month() < service.Month()
		closed := earlierMonth && (service.Day() > 1 || service.Hour() >= 6)
		if want, got := !ahead && !closed && event.Add(24*time.Hour).After(service), s.CheckBatchTimestamp(ts, now) == nil; got != want {
			t.Errorf("BatchMeterUsage takes %v at %v: %v, want %v", ts, now, got, want)
		}
		if want, got := !ahead && !event.Add(6*time.Hour).Before(service), s.CheckMeterTimestamp(ts, now) == nil; got != want {
			t.Errorf("MeterUsage takes %v at %v: %v, want %v", ts, now, got, want)
		}
	})
}

func TestInstant(t *testing.T) {
	for _, c := range []struct {
		instant         metering.Instant
		hour            metering.Hour
		written, inHour string
	}{
		{0, 0, "1970-01-01T00:00:00.000Z", "1970-01-01T00Z"},
		{1, 0, "1970-01-01T00:00:00.001Z", "1970-01-01T00Z"},
		{3_599_999, 0, "1970-01-01T00:59:59.999Z", "1970-01-01T00Z"},
		{3_600_000, 1, "1970-01-01T01:00:00.000Z", "1970-01-01T01Z"},
		{-1, -1, "1969-12-31T23:59:59.999Z", "1969-12-31T23Z"},
		{-3_600_000, -1, "1969-12-31T23:00:00.000Z", "1969-12-31T23Z"},
		{-3_600_001, -2, "1969-12-31T22:59:59.999Z", "1969-12-31T22Z"},
		{at(t, "2026-11-23T14:10:00.5Z"), 498734, "2026-11-23T14:10:00.500Z", "2026-11-23T14Z"},
		{firstInstant, -17259888, "0001-01-01T00:00:00.000Z", "0001-01-01T00Z"},
		{lastInstant, 70389527, "9999-12-31T23:59:59.999Z", "9999-12-31T23Z"},
	} {
		if got := c.instant.Hour(); got != c.hour {
			t.Errorf("%d lies in hour %d, want %d", c.instant, got, c.hour)
		}
		if got := c.instant.String(); got != c.written {
			t.Errorf("%d is written %s, want %s", c.instant, got, c.written)
		}
		if got := c.hour.String(); got != c.inHour {
			t.Errorf("hour %d is written %s, want %s", c.hour, got, c.inHour)
		}
		if got := metering.InstantOf(c.instant.Time()); got != c.instant {
			t.Errorf("%d as a time and back is %d", c.instant, got)
		}
	}
	when := time.Date(2026, 11, 23, 15, 20, 0, 999_999, time.FixedZone("", -3600))
	if got, want := metering.InstantOf(when).String(), "2026-11-23T16:20:00.000Z"; got != want {
		t.Errorf("InstantOf(%v) = %s, want %s: UTC, cut to the millisecond", when, got, want)
	}
	a := at(t, "2026-11-23T15:20:00Z")
	if got, want := a.Add(-90*time.Minute), at(t, "2026-11-23T13:50:00Z"); got != want {
		t.Errorf("Add: %v, want %v", got, want)
	}
	if got, want := a.Sub(at(t, "2026-11-23T15:19:59.75Z")), 250*time.Millisecond; got != want {
		t.Errorf("Sub: %v, want %v", got, want)
	}
}

func TestHourHoldsItsInstants(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		i := metering.Instant(rapid.Int64Range(int64(firstInstant), int64(lastInstant)).Draw(t, "instant"))
		h := i.Hour()
		if h.Start() > i || i >= (h+1).Start() {
			t.Errorf("%v is put into hour %v, which begins at %v", i, h, h.Start())
		}
		if h.Start().Hour() != h {
			t.Errorf("the start of hour %d lies in hour %d", h, h.Start().Hour())
		}
	})
}

// The interval for those who check many timestamps is what CheckBatchTimestamp takes, to the millisecond; with
// MonthGrace it may be less.
func TestBatchTimestamps(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := metering.DefaultSettings()
		s.BatchWindow = time.Duration(rapid.IntRange(0, 72).Draw(t, "window")) * time.Hour
		s.MonthClose = time.Duration(rapid.IntRange(0, 30).Draw(t, "close")) * time.Hour
		s.MonthGrace = rapid.Bool().Draw(t, "grace")
		s.WindowFromHour = rapid.Bool().Draw(t, "from hour")
		at := time.Date(2026, 11, 30, rapid.IntRange(0, 60).Draw(t, "hour"), rapid.SampledFrom([]int{0, 1, 59}).Draw(t, "minute"), 0, 0, time.UTC)
		now := metering.InstantOf(at)
		w := s.BatchTimestamps(now)
		moments := []metering.Instant{w.From - 1, w.From, w.To, w.To + 1, now, now.Add(-time.Duration(rapid.IntRange(0, 90).Draw(t, "age")) * time.Hour)}
		for _, ts := range moments {
			if err := s.CheckBatchTimestamp(ts, now); w.Hold(ts) && err != nil || err == nil && !w.Hold(ts) && !s.MonthGrace {
				t.Fatalf("%v at %v: %v, but the interval is %v to %v", ts, now, err, w.From, w.To)
			}
		}
	})
}
