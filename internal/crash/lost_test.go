package crash_test

import (
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestLostEnds takes the log of a service away. It is not ready from then on, and the process ends by itself, with the
// reason, so that whatever started it starts it again.
func TestLostEnds(t *testing.T) {
	t.Parallel()
	data := initialized(t)
	p := launch(t, append([]string{binary}, serve(data)...)...)
	var ops []string
	if !p.Poll(t, "meterd serve", func() bool {
		ops = regexp.MustCompile(`msg=serving .*ops=(\S+)`).FindStringSubmatch(p.Output.String())
		return ops != nil
	}) {
		t.Fatalf("meterd serve ended: %v\n%s", p.Err, &p.Output)
	}
	ready := func() bool {
		answer, err := http.Get(ops[1] + "/readyz")
		if err != nil {
			return false
		}
		answer.Body.Close()
		return answer.StatusCode == http.StatusOK
	}
	if !p.Poll(t, "ready", ready) {
		t.Fatalf("it has ended: %v", p.Err)
	}
	log := filepath.Join(data, "ledger.db-wal")
	if err := os.Remove(log); err != nil {
		t.Fatal(err)
	}
	if !p.Poll(t, "not ready", func() bool { return !ready() }) {
		t.Fatal("it has ended at once, rather than saying for a time that it is not ready")
	}
	select {
	case <-p.Ended:
		t.Error("it has ended at once, rather than saying for a time that it is not ready")
	default:
	}
	if code := p.Wait(t); code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	if said := p.Output.String(); !strings.Contains(said, "a restart: "+log+" is gone") {
		t.Errorf("it does not say why:\n%s", said)
	}
}
