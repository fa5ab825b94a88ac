package main

import (
	"io"
	"sync"
	"time"
)

// logBytes is how much of a log is kept for a reader who is slow.
const logBytes = 1 << 20

// lineWriter writes lines in the background, so that nothing waits for the reader of the log. Lines that the reader
// does not take in time, or that cannot be written at all, are lost.
type lineWriter struct {
	to      io.Writer
	mu      sync.Mutex
	waiting [][]byte
	bytes   int // of all that wait
	lost    int // lines, since the last that was written
	onLost  func(lines int)
	more    chan struct{} // says that lines wait, or that there will be no more
	closed  bool          // there will be no more
	done    chan struct{}
}

func newLineWriter(to io.Writer) *lineWriter {
	w := &lineWriter{to: to, more: make(chan struct{}, 1), done: make(chan struct{})}
	go w.run()
	return w
}

// Write takes one line, or several; it never fails.
func (w *lineWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.bytes+len(p) > logBytes {
		w.lost++
		return len(p), nil
	}
	w.waiting = append(w.waiting, append([]byte(nil), p...))
	w.bytes += len(p)
	w.wake()
	return len(p), nil
}

func (w *lineWriter) wake() {
	select {
	case w.more <- struct{}{}:
	default:
	}
}

func (w *lineWriter) run() {
	defer close(w.done)
	for range w.more {
		w.mu.Lock()
		lines := w.waiting
		w.waiting = nil
		w.mu.Unlock()
		for _, line := range lines {
			_, _ = w.to.Write(line) // a reader who has gone may come back
			w.mu.Lock()
			w.bytes -= len(line)
			w.mu.Unlock()
		}
		w.mu.Lock()
		lost, say := w.lost, w.onLost
		w.lost = 0
		w.mu.Unlock()
		if lost > 0 && say != nil {
			say(lost)
		}
		w.mu.Lock()
		over := w.closed && len(w.waiting) == 0
		w.mu.Unlock()
		if over {
			return
		}
	}
}

// reportLost has f told how many lines were lost, once others are written again.
func (w *lineWriter) reportLost(f func(lines int)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.onLost = f
}

// close waits until all is written, but no longer than a reader may be slow.
func (w *lineWriter) close(patience time.Duration) {
	w.mu.Lock()
	w.closed = true
	w.wake()
	w.mu.Unlock()
	select {
	case <-w.done:
	case <-time.After(patience):
	}
}
