package store

import (
	"errors"
	"fmt"

	"github.com/meterd/meterd/internal/iam"
)

// Labels of what a ledger seals under its master key: a known text, which shows whether a key is the right one, and
// the ledger's secret.
const (
	checkLabel, checkText = "check", "meterd"
	secretLabel           = "ledger secret"
)

// SealSecret fills in Check and Sealed of a new ledger, whose secret is given.
func (m *Meta) SealSecret(s *iam.Sealer, secret []byte) {
	m.Check, m.Sealed = s.Seal(checkLabel, []byte(checkText)), s.Seal(secretLabel, secret)
}

// OpenSecret fills in Secret, or returns an error if the ledger was made with another master key. A ledger of format
// 2 holds its secret unsealed; OpenSecret then fills in Sealed.
func (m *Meta) OpenSecret(s *iam.Sealer) (err error) {
	if check, err := s.Open(checkLabel, m.Check); err != nil || string(check) != checkText {
		return errors.New("the master key is not the one that the ledger was made with")
	}
	if m.Sealed == nil {
		m.Sealed = s.Seal(secretLabel, m.Secret)
		return nil
	}
	if m.Secret, err = s.Open(secretLabel, m.Sealed); err != nil {
		err = fmt.Errorf("the ledger's secret: %w", err)
	}
	return err
}
