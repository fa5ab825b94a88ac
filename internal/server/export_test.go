package server

import "time"

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
