package store

import (
	"io/fs"
	"os"
	"testing"
)

// PlainFile is a file that is written without SQLite.
type PlainFile = interface {
	ReadAt(b []byte, off int64) (int, error)
	WriteAt(b []byte, off int64) (int, error)
	Close() error
	Stat() (fs.FileInfo, error)
	Truncate(size int64) error
	Sync() error
}

// Seams has databases be opened through the file layers that layer names, files that are written without SQLite through
// open, files and folders synced by sync, and checkpoints made when the log has grown by the given numbers of pages,
// until the test ends.
func Seams(t testing.TB, layer func(path string) string, open func(*os.File) PlainFile, sync func(*os.File) error, background, foreground int64) {
	l, o, m, s, b, f := fileLayer, openLog, openMark, syncFile, walBackground, walForeground
	t.Cleanup(func() { fileLayer, openLog, openMark, syncFile, walBackground, walForeground = l, o, m, s, b, f })
	fileLayer, syncFile, walBackground, walForeground = layer, sync, background, foreground
	through := func(system func(string) (plainFile, error)) func(string) (plainFile, error) {
		return func(path string) (plainFile, error) {
			f, err := system(path)
			if err != nil {
				return nil, err
			}
			return open(f.(*os.File)), nil
		}
	}
	openLog, openMark = through(openLog), through(openMark)
}

// Upserts returns the statements that are made of the kinds of rows.
func Upserts() (all []string) {
	for _, k := range kinds {
		all = append(all, k.upsert)
	}
	return all
}

// Schema returns the last step that was made of a ledger's tables, 0 of format 2.
func (r *Reader) Schema() (int64, error) { return r.schema() }
