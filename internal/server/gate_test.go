package server

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestGate fills the gate: whoever comes waits for a place, in turn, and no longer than it is patient.
func TestGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(2, time.Second)
		for range 2 {
			if !g.enter() {
				t.Fatal("there are two places")
			}
		}
		began := time.Now()
		if g.enter() || time.Since(began) != time.Second {
			t.Errorf("a third one came in, or waited for %v", time.Since(began))
		}
		entered := make(chan int)
		for n := range 2 {
			go func() {
				if g.enter() {
					entered <- n
				}
			}()
			synctest.Wait() // the first one is first
		}
		g.leave()
		if n := <-entered; n != 0 {
			t.Errorf("number %d overtook the other", n)
		}
		g.leave()
		if n := <-entered; n != 1 {
			t.Errorf("number %d came in twice", n)
		}
	})
}
