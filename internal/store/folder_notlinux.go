//go:build !linux

package store

// as runs f. What it makes is given to the other user afterwards.
func as(_, _ int, f func() error) error { return f() }
