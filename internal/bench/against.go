package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// buildRevision builds the binary of a commit of the repository that the benchmark is run in.
func buildRevision(ctx context.Context, revision, dir string) (binary string, err error) {
	source := filepath.Join(dir, "source")
	if err := os.MkdirAll(source, 0o700); err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(source)) }()
	archive := exec.CommandContext(ctx, "git", "archive", "--format=tar", revision)
	files, err := archive.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w", archive, err)
	}
	unpack := exec.CommandContext(ctx, "tar", "-x", "-C", source)
	unpack.Stdin = bytes.NewReader(files)
	if out, err := unpack.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%s: %w\n%s", unpack, err, out)
	}
	binary = filepath.Join(dir, "meterd")
	return binary, buildMeterd(ctx, source, binary)
}

// builds compares this build with that of another commit, turn by turn, each on ledgers that it has made itself.
func (b *bench) builds() error {
	b.section("builds: new records by the build of " + b.against + " and by this one")
	other := *b
	dir := filepath.Join(b.dir, "against")
	binary, err := buildRevision(b.ctx, b.against, dir)
	if err != nil {
		return err
	}
	other.binary, other.template = binary, filepath.Join(dir, "template")
	if err := other.fill(); err != nil {
		return err
	}
	var rate, cpu, p99 series
	for range max(5, b.repeat) {
		var one, two *result
		for _, turn := range []struct {
			bench  *bench
			name   string
			result **result
		}{{&other, "meterd of " + b.against, &one}, {b, "meterd of this build", &two}} {
			err := turn.bench.withCopy(func(m *meterd, t *target) (err error) {
				*turn.result, err = b.load(t, phase{name: turn.name})
				if err == nil {
					turn.bench.settle(t, m)
				}
				return err
			})
			if err != nil {
				return err
			}
		}
		rate = append(rate, two.perSecond()/one.perSecond())
		cpu = append(cpu, two.each(two.server)/one.each(one.server))
		p99 = append(p99, float64(two.quantile(0.99))/float64(one.quantile(0.99)))
	}
	b.row("this build ÷ that of "+b.against+", requests/s of new records", "", "%s", rate.format("%.2f"))
	b.row("the same, CPU of meterd for a request; p99 with the machine saturated", "", "%s; %s", cpu.format("%.2f"), p99.format("%.2f"))
	return nil
}

// syncs has 4 KB be appended to a file and synced, twenty times a second, until done is called, which returns how long
// each took, in ascending order: what the disk itself takes meanwhile.
func syncs(dir string) (done func() ([]time.Duration, error)) {
	type result struct {
		took []time.Duration
		err  error
	}
	stop, results := make(chan struct{}), make(chan result, 1)
	go func() {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		took, err := timeSyncs(dir, func(int) bool {
			select {
			case <-stop:
				return false
			case <-tick.C:
				return true
			}
		})
		results <- result{took, err}
	}()
	return func() ([]time.Duration, error) {
		close(stop)
		r := <-results
		return r.took, r.err
	}
}
