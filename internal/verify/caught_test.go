package verify

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// TestCaught: a panic while a ledger is checked must never look like success.
func TestCaught(t *testing.T) {
	var none []int
	errDamaged := errors.New("damaged")
	err := caught(func() error { return fmt.Errorf("%d", none[len(t.Name())]) })
	if err == nil || !strings.Contains(err.Error(), "damaged in an unknown way") || !strings.Contains(err.Error(), "index out of range") {
		t.Errorf("got %v", err)
	}
	if err := caught(func() error { return nil }); err != nil {
		t.Errorf("of nothing: %v", err)
	}
	if err := caught(func() error { return errDamaged }); err != errDamaged {
		t.Errorf("of an error: %v", err)
	}
}
