package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/meterd/meterd/internal/adminapi"
	"github.com/meterd/meterd/internal/sandbox"
)

// day meters for 24 hours of a sandbox's clock, so many records in each, and measures what that takes as the window
// fills: memory has to follow the last hours, not the day. Between the hours records of past ones are sent again.
func (b *bench) day() error {
	const hours = 24
	perHour := int64(b.rate) * 3600
	b.section(fmt.Sprintf("day: %d simulated hours at %d records/s of simulated time, %d records", hours, b.rate, hours*perHour))
	dir := filepath.Join(b.dir, "day")
	m, err := b.startSandbox(dir)
	if err != nil {
		return err
	}
	start := time.Now().UTC().Truncate(time.Hour).Add(24 * time.Hour)
	dimensions := (perHour + int64(b.buyers) - 1) / int64(b.buyers)
	if dimensions > maxDimensions {
		return errors.Join(fmt.Errorf("%d records an hour need more than -buyers %d", perHour, b.buyers), m.stop())
	}
	keys := &keyspace{product: b.keys.product, buyers: perHour / dimensions, dimensions: dimensions}
	for h := range hours {
		keys.hours = append(keys.hours, start.Add(time.Duration(h)*time.Hour).Unix())
	}
	err = b.fillDay(m, keys, start)
	if err = errors.Join(err, m.stop()); err != nil {
		return err
	}
	began := time.Now()
	again, err := b.startSandbox(dir)
	if err != nil {
		return err
	}
	took := time.Since(began)
	held, err := again.memory(b.ctx)
	b.row("restart with all of them, from exec to ready; resident memory", "", "%.1f s; %.0f MB", took.Seconds(), held.resident/1e6)
	return errors.Join(err, again.stop(), os.RemoveAll(dir))
}

func (b *bench) fillDay(m *meterd, keys *keyspace, start time.Time) error {
	clock := func(now time.Time, frozen bool) error {
		return m.call(b.ctx, http.MethodPut, "/v1/clock", adminapi.ClockChange{Now: &now, Frozen: &frozen}, new(json.RawMessage))
	}
	if err := clock(start, true); err != nil {
		return err
	}
	key, err := m.populate(b.ctx, keys)
	if err != nil {
		return err
	}
	t := b.target(m)
	t.keys, t.accessKeyID, t.secretAccessKey = keys, key.AccessKeyID, key.SecretAccessKey
	perHour := keys.buyers * keys.dimensions
	var rates, resident, late series
	sample := func() error {
		held, err := m.resident()
		resident = append(resident, held/1e6)
		return err
	}
	for h := range int64(len(keys.hours)) {
		if err := clock(start.Add(time.Duration(h)*time.Hour+time.Minute), true); err != nil {
			return err
		}
		r, err := b.load(t, phase{name: fmt.Sprintf("hour %d", h), to: (h + 1) * perHour, beside: sample})
		if err != nil {
			return err
		}
		rates = append(rates, float64(r.records)/r.elapsed.Seconds())
		if h < 3 || h%4 != 3 {
			continue
		}
		past := h / 2 * perHour
		r, err = b.load(t, phase{name: fmt.Sprintf("hour %d again", h/2), mode: replay, from: past, to: past + perHour/100/recordsPerCall*recordsPerCall})
		if err != nil {
			return err
		}
		late = append(late, float64(r.records)/r.elapsed.Seconds())
	}
	b.settle(t, m)
	all, err := m.metrics(b.ctx)
	if err != nil {
		return err
	}
	n := len(rates)
	b.row(fmt.Sprintf("a day at %d records/s of simulated time, %.1f million open records: resident memory, at most", b.rate, float64(t.acknowledged.Load())/1e6),
		"≤ 500 MB at 1,000/s", "%.0f MB (%.0f MB of it tables and filters at the end; %.1f million keys in memory)", slices.Max(resident),
		all["meterd_open_records_bytes"]/1e6, all["meterd_open_records"]/1e6)
	b.row("records/s in its first four hours; in its last four", "flat", "%.0f; %.0f", rates[:min(4, n)].median(), rates[max(0, n-4):].median())
	b.row("records of past hours sent again, records/s", "", "%s", late.format("%.0f"))
	return nil
}

// startSandbox starts meterd dev, whose clock can be moved, on a folder.
func (b *bench) startSandbox(dir string) (*meterd, error) {
	description := dir + ".json"
	_ = os.Remove(description) // of the last start, if there was one
	cmd := exec.CommandContext(b.ctx, b.binary, "dev", "--data", dir, "--describe", description, "--log-format", "json",
		"--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0")
	output, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	cmd.Stderr = os.Stderr
	p, err := start(cmd, output, func(line string) bool { return strings.Contains(line, "Ctrl-C") })
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(description)
	if err != nil {
		return nil, errors.Join(err, p.stop())
	}
	var d sandbox.Description
	if err := json.Unmarshal(text, &d); err != nil {
		return nil, errors.Join(err, p.stop())
	}
	p.address = strings.TrimPrefix(d.Endpoint, "http://")
	return &meterd{process: p, admin: d.AdminEndpoint, ops: d.OpsEndpoint, token: d.AdminToken}, nil
}

// products compares one product with ten thousand, of ten buyers each.
func (b *bench) products() error {
	b.section("products: one product, and ten thousand with ten buyers each")
	dir := filepath.Join(b.dir, "products")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	token, err := initMeterd(b.ctx, b.binary, inFolder(dir))
	if err != nil {
		return err
	}
	m, err := startMeterd(b.ctx, b.binary, inFolder(dir), token)
	if err != nil {
		return err
	}
	keys := &keyspace{product: "benchproduct0123456700000", buyers: int64(b.buyers), products: int64(b.buyers) / buyersOfProduct, dimensions: 8, hours: b.keys.hours}
	err = func() error {
		key, err := m.populate(b.ctx, keys)
		if err != nil {
			return err
		}
		many := b.target(m)
		many.keys, many.accessKeyID, many.secretAccessKey = keys, key.AccessKeyID, key.SecretAccessKey
		var ratio series
		for range b.repeat {
			var hot *result
			err := b.withCopy(func(m *meterd, t *target) (err error) {
				hot, err = b.load(t, phase{name: "one product"})
				return err
			})
			if err != nil {
				return err
			}
			r, err := b.load(many, phase{name: fmt.Sprintf("%d products", keys.products)})
			if err != nil {
				return err
			}
			ratio = append(ratio, r.perSecond()/hot.perSecond())
		}
		b.settle(many, m)
		b.row(fmt.Sprintf("%d products ÷ one, requests/s", keys.products), "", "%s", ratio.format("%.2f"))
		return nil
	}()
	return errors.Join(err, m.stop(), os.RemoveAll(dir))
}

// overload has so many connections send at once that more comes than can be committed.
func (b *bench) overload() error {
	const connections = 3000
	b.section(fmt.Sprintf("overload: %d connections, each sending its next request at once, refused or not", connections))
	return b.withCopy(func(m *meterd, t *target) error {
		full, err := b.load(t, phase{name: "meterd new"})
		if err != nil {
			return err
		}
		before, err := m.resident()
		if err != nil {
			return err
		}
		r, err := b.load(t, phase{name: "overload", connections: connections, sheds: true})
		if err != nil {
			return err
		}
		after, err := m.resident()
		if err != nil {
			return err
		}
		b.settle(t, m)
		refused := float64(len(r.throttled)) / r.elapsed.Seconds()
		b.row(fmt.Sprintf("%d connections at once: committed requests/s ÷ those of %d connections", connections, b.conns), "", "%.2f", r.perSecond()/full.perSecond())
		b.row("of the committed: p50; p99; refused with ThrottlingException a second; their p99", "", "%.0f ms; %.0f ms; %.0f; %.0f ms",
			milliseconds(r.quantile(0.5)), milliseconds(r.quantile(0.99)), refused, milliseconds(quantile(r.throttled, 0.99)))
		b.row("resident memory before; in the overload", "bounded", "%.0f MB; %.0f MB", before/1e6, after/1e6)
		return nil
	})
}
