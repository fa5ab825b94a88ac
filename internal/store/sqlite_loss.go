package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Loss is what was given up of a ledger whose end is missing or damaged.
type Loss struct {
	Reason error // why the ledger was refused
	Last   int64 // the last call that is left; 0 if none is
	Known  int64 // the last call that is known to have been there; 0 if it is not known
	Cut    int64 // bytes that were cut off the log
}

// AcceptLoss makes a ledger in a folder, which is refused because its end is missing or its log is damaged, usable up
// to where it is whole. It compares the database together with the log and the database alone, because the log may be
// an older one, and keeps the one that has more calls. Nothing is changed if AcceptLoss fails, or if nothing is
// missing.
func AcceptLoss(dir string) (loss Loss, err error) {
	if err := present(dir); err != nil {
		return loss, err
	}
	if err := ours(dir); err != nil {
		return loss, err
	}
	if _, err := os.Lstat(filepath.Join(dir, lockFile)); errors.Is(err, os.ErrNotExist) { // before this call makes the lock's file
		if loss, _, err := findLoss(dir); err != nil {
			return loss, err
		}
	}
	lock, _, err := lockDir(dir)
	if err != nil {
		return loss, err
	}
	defer lock.Close()
	loss, end, err := findLoss(dir)
	if err != nil {
		return loss, err
	}
	return loss, endAt(filepath.Join(dir, file), end)
}

// findLoss returns what is lost, and where the log is to end.
func findLoss(dir string) (loss Loss, end int64, err error) {
	s, err := takeSnapshot(dir, unserved, &loss.Reason)
	if err != nil {
		return loss, 0, err
	}
	defer s.Close() // so that the log can be copied into the database
	last := func(r *Reader, _ Meta) (err error) {
		loss.Last, err = r.number("SELECT coalesce(max(seq), 0) FROM call")
		return err
	}
	with := s.run(last)
	together, reason := loss.Last, loss.Reason
	end = s.state.end
	if reason == nil && with == nil {
		return loss, 0, fmt.Errorf("nothing is missing of the ledger in %s, as far as it knows: serve it", dir)
	}
	if s.state.frames > 0 {
		s.state = logState{}
		if alone := s.run(last); alone == nil && (with != nil || loss.Last > together) {
			with, end = nil, 0
		} else {
			loss.Last = together
		}
	}
	if with != nil {
		return loss, 0, with
	}
	if loss.Reason = reason; s.mark != nil {
		loss.Known = s.mark.Call
	}
	loss.Cut = max(0, s.logSize-end)
	return loss, end, nil
}

// endAt cuts off the end of a log, copies the rest into the database, and marks the ledger as closed.
func endAt(path string, end int64) error {
	for _, err := range []error{os.Remove(path + "-shm"), os.Truncate(path+"-wal", end)} {
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	if err := secure(path); err != nil {
		return err
	}
	if err := closeCopy(path, false); err != nil {
		return err
	}
	if err := os.Remove(path + markSuffix); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return SyncDir(filepath.Dir(path))
}
