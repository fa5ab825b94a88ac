package server

import (
	"time"

	"github.com/meterd/meterd/internal/metering"
)

// Handled reports whether the operation has a handler.
func Handled(op metering.Operation) bool { return handlers[op] != nil }

// FillGate takes all places of an endpoint until the function that it returns is called.
func FillGate(s *AWS) (leave func()) {
	s.gate.patience = time.Millisecond
	for range gatePlaces {
		s.gate.places <- struct{}{}
	}
	return func() {
		for range gatePlaces {
			s.gate.leave()
		}
	}
}
