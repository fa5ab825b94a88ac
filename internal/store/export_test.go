package store

import (
	"os"
	"testing"
)

// Seams has databases be opened through the file layers that layer names, folders synced by sync, and checkpoints made
// when the log has grown by the given numbers of pages, until the test ends.
func Seams(t testing.TB, layer func(path string) string, sync func(*os.File) error, background, foreground int64) {
	l, s, b, f := fileLayer, syncFile, walBackground, walForeground
	t.Cleanup(func() { fileLayer, syncFile, walBackground, walForeground = l, s, b, f })
	fileLayer, syncFile, walBackground, walForeground = layer, sync, background, foreground
}
