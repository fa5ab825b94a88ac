package main

import (
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"time"
)

// report writes figures as they come and keeps the rows of the table at the end.
type report struct {
	w        io.Writer
	rows     []row
	failures int
	others   series // per cent of the machine that other processes took, by phase
}

// row is one line of the table: a figure, and the bar that the project has set for it.
type row struct{ what, measured, bar string }

func (r *report) say(format string, args ...any) { fmt.Fprintf(r.w, format+"\n", args...) }

func (r *report) section(title string) { r.say("\n== %s", title) }

func (r *report) row(what, bar, format string, args ...any) {
	measured := fmt.Sprintf(format, args...)
	r.say("%s: %s%s", what, measured, map[bool]string{true: " (bar: " + bar + ")"}[bar != ""])
	r.rows = append(r.rows, row{what, measured, bar})
}

// wrong notes something that makes the whole run a failure.
func (r *report) wrong(format string, args ...any) {
	r.failures++
	r.say("WRONG: "+format, args...)
}

// phase writes one line of figures. CPU is given in per cent of the whole machine.
func (r *report) phase(p *result) {
	each, share := "", ""
	if p.database > 0 {
		each = fmt.Sprintf(" database %6.1f", p.each(p.database))
		share = fmt.Sprintf(" database %2.0f %%", percent(p.database, p.elapsed))
	}
	r.say("%-22s %4d connections %7.0f requests/s %8.0f records/s  p50 %6.2f  p99 %6.2f  max %6.1f ms  CPU/request server %6.1f%s generator %5.1f µs  CPU server %2.0f %%%s generator %2.0f %% others %2.0f %%  wrong answers %d",
		p.name, p.connections, p.perSecond(), p.recordsPerSecond(),
		milliseconds(p.quantile(0.5)), milliseconds(p.quantile(0.99)), milliseconds(p.quantile(1)),
		p.each(p.server), each, p.each(p.generator), percent(p.server, p.elapsed), share, percent(p.generator, p.elapsed), r.note(p.cpu, p.elapsed), p.failures)
	if p.failures > 0 {
		r.wrong("%d wrong answers; the first: %s", p.failures, p.failure)
	}
	if p.requests == 0 {
		r.wrong("no request was answered")
	}
}

// note keeps what other processes took meanwhile, and returns it in per cent.
func (r *report) note(c cpu, elapsed time.Duration) float64 {
	others := percent(c.others(), elapsed)
	r.others = append(r.others, others)
	return others
}

// percent is CPU time as a share of the whole machine's.
func percent(d, elapsed time.Duration) float64 {
	return 100 * d.Seconds() / elapsed.Seconds() / float64(runtime.NumCPU())
}

// each returns d for one request, in microseconds.
func (r *result) each(d time.Duration) float64 {
	return float64(d.Nanoseconds()) / 1e3 / float64(max(1, r.requests))
}

func (r *result) quantile(q float64) time.Duration { return quantile(r.latencies, q) }

func quantile(ascending []time.Duration, q float64) time.Duration {
	if len(ascending) == 0 {
		return 0
	}
	return ascending[int(q*float64(len(ascending)-1))]
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1e3 }

// series are figures of repeated runs.
type series []float64

func (s series) median() float64 {
	sorted := slices.Sorted(slices.Values(s))
	if len(sorted) == 0 {
		return 0
	}
	return (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
}

// format writes the median and the range.
func (s series) format(verb string) string {
	if len(s) == 0 {
		return "–"
	}
	return fmt.Sprintf(verb+" ("+verb+" to "+verb+")", s.median(), slices.Min(s), slices.Max(s))
}

// table writes the rows in Markdown.
func (r *report) table() {
	r.say("\n| what | measured: median (range) | bar |\n|---|---|---|")
	for _, row := range r.rows {
		r.say("| %s | %s | %s |", row.what, row.measured, strings.ReplaceAll(row.bar, "|", `\|`))
	}
}
