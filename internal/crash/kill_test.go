package crash_test

import (
	"context"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/meterd/meterd/internal/process"
)

// seedOf returns the seed of a test, which is said so that the run can be repeated.
func seedOf(t *testing.T) uint64 {
	t.Helper()
	seed := rand.Uint64()
	if text := os.Getenv("METERD_TEST_CRASH_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("METERD_TEST_CRASH_SEED: %v", err)
		}
	}
	t.Logf("METERD_TEST_CRASH_SEED=%d", seed)
	return seed
}

// crowd is how many buyers a loaded service has.
const crowd = 100

func crew(seed uint64) []*writer {
	return []*writer{newWriter(legacy, crowd, seed), newWriter(concurrent, crowd, seed+1), newWriter(abroad, crowd, seed+2), newWriter(agent, 0, seed+3), newWriter(container, 0, seed+4)}
}

// load has all writers send, and returns when that many calls have been answered. The writers go on until finish is
// called, which waits for their last answers.
func load(t *testing.T, m *meterd, writers []*writer, calls int) (finish func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	answered, enough := make(chan struct{}), make(chan struct{})
	go func() {
		for n := 0; ; n++ {
			if n == calls {
				close(enough)
			}
			select {
			case <-answered:
			case <-ctx.Done():
				return
			}
		}
	}()
	for _, w := range writers {
		w.connect(t, m)
		running.Go(func() {
			err := w.load(ctx, func() {
				select {
				case answered <- struct{}{}:
				case <-ctx.Done():
				}
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	select {
	case <-enough:
	case <-m.Ended:
		t.Errorf("meterd ended under load: %v", m.Err)
	case <-time.After(process.Patience):
		t.Errorf("%d calls were not answered in %v", calls, process.Patience)
	}
	return func() {
		cancel()
		running.Wait()
		if t.Failed() {
			t.FailNow()
		}
	}
}

// size returns how many bytes the files of a folder hold.
func size(t *testing.T, dir string) (bytes int64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if err == nil {
			bytes += info.Size()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return bytes
}

// TestKill kills meterd again and again, under load and while it starts.
func TestKill(t *testing.T) {
	rounds := 15
	if text := os.Getenv("METERD_TEST_CRASH_ROUNDS"); text != "" {
		var err error
		if rounds, err = strconv.Atoi(text); err != nil {
			t.Fatalf("METERD_TEST_CRASH_ROUNDS: %v", err)
		}
	}
	seed := seedOf(t)
	random := rand.New(rand.NewPCG(seed, 0))
	const perFolder = 15 // the work of a round grows with what is in the folder
	var sum reckoning
	for done := 0; done < rounds; {
		data, writers := folder(t), crew(random.Uint64())
		m := dev(t, data)
		furnish(t, m, crowd)
		acked := 0
		for n := 0; n < perFolder && done < rounds; n, done = n+1, done+1 {
			finish := load(t, m, writers, random.IntN(100))
			m.Kill(t)
			finish()
			if random.IntN(3) == 0 { // and once more, while it recovers
				again := launchDev(t, data)
				again.KillAfter(t, random.Int64N(size(t, data)))
			}
			before := random.IntN(2) == 0
			if before { // it also empties the log, so not always
				verify(t, data)
			}
			m = dev(t, data)
			if !before {
				verify(t, data)
			}
			r := check(t, m, writers...)
			acked, sum.doubt, sum.stored = r.acked, sum.doubt+r.doubt, sum.stored+r.stored
		}
		m.Stop(t)
		verify(t, data)
		sum.acked += acked
	}
	t.Logf("%d kills, %d records acknowledged; %d calls with new records unanswered, %d of them stored", rounds, sum.acked, sum.doubt, sum.stored)
}

// TestStop has meterd stop in order under load: what it took it answers.
func TestStop(t *testing.T) {
	seed := seedOf(t)
	random := rand.New(rand.NewPCG(seed, 0))
	data, writers := folder(t), crew(seed)
	m := dev(t, data)
	furnish(t, m, crowd)
	for range 5 {
		finish := load(t, m, writers, random.IntN(100))
		m.Cmd.Process.Signal(syscall.SIGTERM)
		code := m.Wait(t)
		finish()
		if code != 0 {
			t.Fatalf("told to stop, meterd ended with %v:\n%s", m.Err, &m.Output)
		}
		verify(t, data)
		m = dev(t, data)
		// A call may come too late to be read; but one that did something was answered.
		if r := check(t, m, writers...); r.stored != 0 {
			t.Errorf("%d calls without an answer were stored", r.stored)
		}
	}
	m.Stop(t)
}
