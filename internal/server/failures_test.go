package server

import (
	"fmt"
	"testing"
	"time"
)

// However many addresses and key ids fail, the memory for them is bounded, and whoever was held back stays so.
func TestFailuresTakeBoundedMemory(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	f := newFailures()
	exhaust := func(address, key string) {
		for range failuresBurst {
			f.allow(address, key, now)
		}
	}
	exhaust("192.0.2.1", "")
	exhaust("198.51.100.1", "AKIAVICTIM")
	for i := range 200_000 {
		f.allow(fmt.Sprintf("10.%d.%d.%d", i>>16, i>>8&255, i&255), fmt.Sprint("AKIA", i), now)
	}
	if a, k := len(f.addresses), len(f.keys); a > failuresPlaces || k > failuresPlaces {
		t.Errorf("%d addresses and %d keys are held, want at most %d", a, k, failuresPlaces)
	}
	if f.allow("192.0.2.1", "AKIAANOTHER", now) {
		t.Error("the address is told again")
	}
	if f.allow("203.0.113.1", "AKIAVICTIM", now) {
		t.Error("guesses at the key are told again")
	}
	if !f.allow("192.0.2.1", "AKIAVICTIM", now.Add(time.Second)) {
		t.Error("a second later they are not")
	}
}

func TestNetwork(t *testing.T) {
	for address, want := range map[string]string{
		"192.0.2.1":                "192.0.2.1",
		"::ffff:192.0.2.1":         "192.0.2.1",
		"2001:db8:1:2:3:4:5:6":     "2001:db8:1:2::/64",
		"2001:db8:1:2::1":          "2001:db8:1:2::/64",
		"fe80::1%eth0":             "fe80::/64",
		"@":                        "@",
		"a name that is no number": "a name that is no number",
	} {
		if got := network(address); got != want {
			t.Errorf("%s: %s, want %s", address, got, want)
		}
	}
}
