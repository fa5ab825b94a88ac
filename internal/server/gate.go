package server

import "time"

// gate bounds how many requests are worked on at once. Without it an overload would take the processor from the
// committer: one goroutine among thousands that verify requests. A request that waits at the gate takes nothing but
// memory, and is refused soon if no place becomes free.
type gate struct {
	places   chan struct{}
	patience time.Duration
}

const (
	gatePlaces   = 128 // so many that a group of them is worth the sync of its commit
	gatePatience = 500 * time.Millisecond
)

func newGate(places int, patience time.Duration) gate {
	return gate{make(chan struct{}, places), patience}
}

// enter waits for a place, first come first served. It returns false if no place has become free in time.
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
