package server

import "time"

// gate bounds how many requests are worked on at once. Without it an overload would take the processor from the one
// who commits: there would be one committer among thousands of requests that are being verified. Those who wait at the
// gate cost nothing but memory, and are told soon if they wait in vain.
type gate struct {
	places   chan struct{}
	patience time.Duration
}

const (
	gatePlaces   = 128 // enough for commits to be worth their sync
	gatePatience = 500 * time.Millisecond
)

func newGate(places int, patience time.Duration) gate {
	return gate{make(chan struct{}, places), patience}
}

// enter waits for a place, in the order of coming. It returns false if none has become free in time.
func (g gate) enter() bool {
	select {
	case g.places <- struct{}{}:
		return true
	default:
	}
	timer := time.NewTimer(g.patience)
	defer timer.Stop()
	select {
	case g.places <- struct{}{}:
		return true
	case <-timer.C:
		return false
	}
}

func (g gate) leave() { <-g.places }
