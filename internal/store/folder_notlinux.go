//go:build !linux

package store

// as runs f. Its caller gives what f makes to the other user afterwards.
func as(_, _ int, f func() error) error { return f() }
