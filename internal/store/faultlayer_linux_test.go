package store_test

import (
	"encoding/binary"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/ncruces/go-sqlite3"
)

// TestSystemLayer holds the operating system's file layer to what [file.Sync] takes for granted: that a new log's
// name is synced with it.
func TestSystemLayer(t *testing.T) {
	dir := t.TempDir()
	c, err := sqlite3.Open(filepath.Join(dir, "ledger.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	watch, err := syscall.InotifyInit1(syscall.IN_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(watch)
	if err := c.Exec("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL"); err != nil {
		t.Fatal(err)
	}
	if _, err := syscall.InotifyAddWatch(watch, dir, syscall.IN_OPEN|syscall.IN_ONLYDIR); err != nil {
		t.Fatal(err)
	}
	if err := c.Exec("CREATE TABLE t (n)"); err != nil {
		t.Fatal(err)
	}
	events := make([]byte, 4096)
	n, err := syscall.Read(watch, events)
	if err != nil {
		t.Fatal(err)
	}
	for events = events[:n]; len(events) > 0; {
		mask, name := binary.NativeEndian.Uint32(events[4:]), binary.NativeEndian.Uint32(events[12:])
		if mask&syscall.IN_OPEN != 0 && mask&syscall.IN_ISDIR != 0 && name == 0 {
			return
		}
		events = events[16+name:]
	}
	t.Error("the folder was not opened with the first sync of the log")
}
