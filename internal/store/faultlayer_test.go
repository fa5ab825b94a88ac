package store_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/meterd/meterd/internal/store"
	"github.com/ncruces/go-sqlite3"
	"github.com/ncruces/go-sqlite3/vfs"
)

// disk is what a disk holds of a ledger's folder, and the file layer of SQLite's through which the folder is used. The
// files themselves are the operating system's: they are what programs see, as the page cache is. Beside them the disk
// notes what has been synced, and what not yet, so that it can tell what a power cut may leave.
//
// It promises what POSIX does and SQLite relies on, and no more: what was synced is there, and a write changes nothing
// but its own bytes. Before it is synced each sector of a write may be there or not, whatever came before or after it,
// and one may be torn; a file may have any size that it had, filled with anything; the name of a file may be there or
// not. A sync that fails leaves what it was to sync there or not, for good: later ones do not come back to it.
//
// Nothing is really synced, which makes it quick.
type disk struct {
	layer string // its name
	dir   string
	lies  func(o op) bool     // says of a sync whether it does nothing and returns no error
	fault func(o op) error    // the error that an operation fails with, nil for none
	keeps func(*inode) []byte // what a sync that fails leaves of a file; what develop draws if it is nil

	mu     sync.Mutex
	rand   *rand.Rand
	left   int               // operations until the power is cut; negative for never
	phase  string            // what is going on
	struck string            // the kind of operation that has failed, if one has
	place  string            // where the power was cut, once it is
	files  map[string]*inode // by the names that programs see
	synced map[string]*inode // by the names that are surely on disk
	naming []naming          // what has happened to names since
	made   bool              // the folder's own name is surely on disk
	image  map[string][]byte // what is left after the cut; nil if not even the folder is
	trail  []string          // the last operations
}

// op is an operation on a file, which can fail, or in which the power can be cut.
type op struct {
	kind string // open, read, write, truncate, sync, delete
	file string // its name in the folder; "" for the folder itself
	off  int64  // of a write, or the size
	data []byte
}

// above is the folder that the folder is in.
const above = ".."

func (o op) String() string {
	switch o.kind {
	case "write":
		return fmt.Sprintf("write %s %d+%d", o.file, o.off, len(o.data))
	case "truncate":
		return fmt.Sprintf("truncate %s %d", o.file, o.off)
	}
	return o.kind + " " + o.file
}

// copy returns the operation with data of its own.
func (o op) copy() op {
	o.data = slices.Clone(o.data)
	return o
}

// inode is a file.
type inode struct {
	number  uint64
	synced  []byte // what is surely on disk
	pending []op   // writes and truncations since, in order
}

// naming is a change of names: from is empty for a new file, to for one that is removed.
type naming struct {
	from, to string
	node     *inode
}

const sector = 512

var (
	disks  sync.Map // *disk by folder
	layers atomic.Int64
)

// seams has the store use the disks, for as long as the test runs. A folder without one is used as always.
func seams(t *testing.T, background, foreground int64) {
	store.Seams(t, func(path string) string {
		if d, ok := disks.Load(filepath.Dir(path)); ok {
			return d.(*disk).layer
		}
		return ""
	}, openPlain, syncPlain, background, foreground)
}

// plain is a file on a disk that is written without SQLite.
type plain struct {
	*os.File
	disk *disk
	name string
}

func openPlain(f *os.File) store.PlainFile {
	if d, ok := disks.Load(filepath.Dir(f.Name())); ok {
		return &plain{f, d.(*disk), filepath.Base(f.Name())}
	}
	return f
}

func (p *plain) ReadAt(b []byte, off int64) (int, error) { return p.disk.read(p.name, p.File, b, off) }

func (p *plain) WriteAt(b []byte, off int64) (n int, err error) {
	return p.disk.write(p.name, p.File, b, off)
}

func (p *plain) Truncate(size int64) error {
	return p.disk.do(op{kind: "truncate", file: p.name, off: size}, func(op) error { return p.File.Truncate(size) })
}

func (p *plain) Sync() error { return p.disk.do(op{kind: "sync", file: p.name}, nil) }

// syncPlain stands for (*os.File).Sync where the store syncs files and folders without SQLite: those of a disk, its
// folder, or the one that this is in.
func syncPlain(f *os.File) error {
	if d, ok := disks.Load(filepath.Dir(f.Name())); ok {
		return d.(*disk).do(op{kind: "sync", file: filepath.Base(f.Name())}, nil)
	}
	var found *disk
	disks.Range(func(dir, d any) bool {
		if dir == f.Name() || filepath.Dir(dir.(string)) == f.Name() {
			found = d.(*disk)
		}
		return found == nil
	})
	switch {
	case found == nil:
		return f.Sync()
	case found.dir == f.Name():
		return found.do(op{kind: "sync"}, nil)
	}
	return found.do(op{kind: "sync", file: above}, nil)
}

// newDisk returns a disk that holds what is in the folder, if it is there. The folder must be alone in its parent.
func newDisk(t testing.TB, dir string, seed uint64) *disk {
	t.Helper()
	d := &disk{layer: fmt.Sprintf("disk%d", layers.Add(1)), dir: dir, left: -1, rand: rand.New(rand.NewPCG(seed, 3)),
		files: map[string]*inode{}, synced: map[string]*inode{}}
	_, err := os.Stat(dir)
	d.made = err == nil
	d.look()
	for name, n := range d.files {
		if n.synced, err = os.ReadFile(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
		d.synced[name] = n
	}
	d.naming = nil
	vfs.Register(d.layer, d)
	disks.Store(dir, d)
	return d
}

// eject ends the disk's life, once nothing uses it.
func (d *disk) eject() {
	disks.Delete(d.dir)
	vfs.Unregister(d.layer)
}

// enter notes what is going on.
func (d *disk) enter(phase string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.phase = phase
}

// off reports whether the power is cut.
func (d *disk) off() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.place != ""
}

// isDatabase tells the files that the disk is about. The lock has no content, SQLite makes the shared memory anew.
func isDatabase(name string) bool {
	return strings.HasPrefix(name, "ledger.db") && !strings.HasSuffix(name, "-shm")
}

// look notes what has happened to names, by SQLite or without it.
func (d *disk) look() {
	entries, err := os.ReadDir(d.dir)
	if err != nil {
		return // it is not there yet
	}
	now, nameOf := map[string]uint64{}, map[uint64]string{}
	for _, e := range entries {
		if info, err := e.Info(); err == nil && isDatabase(e.Name()) {
			number := info.Sys().(*syscall.Stat_t).Ino
			now[e.Name()], nameOf[number] = number, e.Name()
		}
	}
	known := len(d.naming)
	for _, name := range slices.Sorted(maps.Keys(d.files)) {
		if n := d.files[name]; now[name] != n.number {
			delete(d.files, name)
			d.naming = append(d.naming, naming{from: name, to: nameOf[n.number], node: n})
		}
	}
	for _, c := range d.naming[known:] { // not the others: numbers are used again
		if c.to != "" && now[c.to] == c.node.number {
			d.files[c.to] = c.node
		}
	}
	for _, name := range slices.Sorted(maps.Keys(now)) {
		if d.files[name] == nil {
			n := &inode{number: now[name]}
			d.files[name] = n
			d.naming = append(d.naming, naming{to: name, node: n})
		}
	}
}

// do runs an operation, which is one moment: whatever else happens comes before it or after it.
func (d *disk) do(o op, f func(op) error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.place != "" {
		return syscall.EIO
	}
	n := d.files[o.file]
	if n == nil { // it is new, or the folder
		d.look()
		n = d.files[o.file]
	}
	changes := o.kind == "write" || o.kind == "truncate"
	d.trail = append(d.trail, o.String())
	if d.left--; d.left == -1 {
		if changes {
			n.pending = append(n.pending, o.copy())
		}
		d.place = d.phase + ": " + o.kind + " " + o.file
		if o.kind == "write" && o.off == 0 && strings.HasSuffix(o.file, "-wal") {
			d.place = d.phase + ": begin " + o.file
		}
		d.image = d.develop()
		return syscall.EIO
	}
	var fault error
	if d.fault != nil {
		fault = d.fault(o)
	}
	var half short
	switch {
	case fault == nil:
	case errors.As(fault, &half):
		o.data = o.data[:len(o.data)/2]
	default:
		if o.kind == "sync" && n != nil {
			if d.keeps != nil {
				n.synced, n.pending = d.keeps(n), nil
			} else {
				n.synced, n.pending = n.develop(d.rand), nil
			}
		}
		return fault
	}
	if f != nil {
		if err := f(o); err != nil {
			return err
		}
	}
	switch {
	case changes:
		n.pending = append(n.pending, o.copy())
	case o.kind != "sync":
		d.look()
	case d.lies != nil && d.lies(o):
	case o.file == above:
		d.made = true
	case o.file == "":
		d.naming, d.synced = nil, maps.Clone(d.files)
	case n != nil:
		n.synced, n.pending = n.now(), nil
	}
	return fault
}

// short is a fault that lets half of a write happen.
type short struct{ error }

// now is the file as it is if nothing was lost.
func (n *inode) now() []byte {
	b := slices.Clone(n.synced)
	for _, o := range n.pending {
		b = o.apply(b, nil)
	}
	return b
}

// apply applies a change to the content, which it may use up. Of a write only the sectors that keep chooses are
// kept; all of them if it is nil.
func (o op) apply(b []byte, keep func() bool) []byte {
	if o.kind == "truncate" {
		return resize(b, o.off, nil)
	}
	for from := int64(0); from < int64(len(o.data)); {
		to := min((o.off+from)/sector*sector+sector-o.off, int64(len(o.data)))
		if keep == nil || keep() {
			if int64(len(b)) < o.off+to {
				b = resize(b, o.off+to, nil)
			}
			copy(b[o.off+from:], o.data[from:to])
		}
		from = to
	}
	return b
}

// resize cuts the content, or fills it up with zeros, or with what fill makes.
func resize(b []byte, size int64, fill func() byte) []byte {
	have := int64(len(b))
	if have >= size {
		return b[:size]
	}
	b = append(b, make([]byte, size-have)...)
	for i := have; fill != nil && i < size; i++ {
		b[i] = fill()
	}
	return b
}

// develop returns what the disk may hold of the file after a power cut.
func (n *inode) develop(r *rand.Rand) []byte {
	if len(n.pending) == 0 {
		return n.synced
	}
	b, size := slices.Clone(n.synced), int64(len(n.synced))
	sizes := []int64{size}
	for _, o := range n.pending {
		if o.kind == "truncate" {
			size = o.off
		} else {
			size = max(size, o.off+int64(len(o.data)))
		}
		sizes = append(sizes, size)
	}
	likely := []float64{0.1, 0.5, 0.9}[r.IntN(3)]
	chance := func() bool { return r.Float64() < likely }
	switch r.IntN(6) {
	case 0: // nothing of it
		return b
	case 1: // all of it
		return n.now()
	case 2: // in order, up to the middle of one write
		last := r.IntN(len(n.pending))
		for _, o := range n.pending[:last] {
			b = o.apply(b, nil)
		}
		if o := n.pending[last]; o.kind == "write" {
			o.data = o.data[:r.IntN(len(o.data)+1)]
			b = o.apply(b, nil)
		}
		return b
	case 3: // some writes
		for _, o := range n.pending {
			if chance() {
				b = o.apply(b, nil)
			}
		}
	default: // some sectors of each
		for _, o := range n.pending {
			if o.kind == "write" || chance() {
				b = o.apply(b, chance)
			}
		}
	}
	var fill func() byte
	if r.IntN(2) == 0 {
		fill = func() byte { return byte(r.Uint32()) }
	}
	return resize(b, sizes[r.IntN(len(sizes))], fill)
}

// develop returns what the disk may hold of the folder after a power cut: nil if not even the folder.
func (d *disk) develop() map[string][]byte {
	d.look()
	if !d.made && d.rand.IntN(2) == 0 {
		return nil
	}
	names := map[string]*inode{}
	for name, n := range d.synced {
		names[name] = n
	}
	mode := d.rand.IntN(4)
	for _, c := range d.naming {
		if mode == 0 || mode > 1 && d.rand.IntN(2) == 0 { // none of them; all; some
			continue
		}
		if c.from != "" && names[c.from] == c.node {
			delete(names, c.from)
		}
		if c.to != "" {
			names[c.to] = c.node
		}
	}
	image := map[string][]byte{}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		image[name] = names[name].develop(d.rand)
	}
	_, made := image["ledger.db"]
	switch draw := d.rand.IntN(3); { // nobody syncs it: it is there, or not, or anything
	case !made:
	case draw == 0:
		image["ledger.db-shm"] = resize(nil, 32<<10, func() byte { return byte(d.rand.Uint32()) })
	case draw == 1:
		if b, err := os.ReadFile(filepath.Join(d.dir, "ledger.db-shm")); err == nil {
			image["ledger.db-shm"] = b
		}
	}
	return image
}

// least returns the least that the disk holds after a power cut: what was synced, under names that were.
func (d *disk) least() map[string][]byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.look()
	if !d.made {
		return nil
	}
	image := map[string][]byte{}
	for name, n := range d.synced {
		image[name] = n.synced
	}
	return image
}

// Open, Delete, Access and FullPathname are what SQLite asks of a file layer.
func (d *disk) Open(string, vfs.OpenFlag) (vfs.File, vfs.OpenFlag, error) {
	return nil, 0, sqlite3.CANTOPEN // OpenFilename is called instead
}

func (d *disk) OpenFilename(name *vfs.Filename, flags vfs.OpenFlag) (f vfs.File, got vfs.OpenFlag, err error) {
	system := vfs.Find("").(vfs.VFSFilename)
	base := filepath.Base(name.String())
	if !isDatabase(base) { // a temporary file
		return system.OpenFilename(name, flags)
	}
	err = d.do(op{kind: "open", file: base}, func(op) error {
		f, got, err = system.OpenFilename(name, flags)
		return err
	})
	if err != nil {
		return nil, flags, err
	}
	// The operating system's layer syncs the folder with the first sync of a log that it may have made.
	unnamed := flags&vfs.OPEN_CREATE != 0 && flags&(vfs.OPEN_WAL|vfs.OPEN_MAIN_JOURNAL) != 0
	return &file{systemFile: f.(systemFile), disk: d, name: base, unnamed: unnamed}, got, nil
}

func (d *disk) Delete(name string, syncDir bool) error {
	err := d.do(op{kind: "delete", file: filepath.Base(name)}, func(op) error { return vfs.Find("").Delete(name, false) })
	if err == nil && syncDir {
		err = d.do(op{kind: "sync"}, nil)
	}
	return err
}

func (d *disk) Access(name string, flags vfs.AccessFlag) (bool, error) {
	if d.off() {
		return false, syscall.EIO
	}
	return vfs.Find("").Access(name, flags)
}

func (d *disk) FullPathname(name string) (string, error) { return vfs.Find("").FullPathname(name) }

// systemFile is all that the operating system's layer offers of a file. Without shared memory SQLite would silently
// not use a write-ahead log.
type systemFile interface {
	vfs.FileLockState
	vfs.FileHasMoved
	vfs.FileSizeHint
	vfs.FilePersistWAL
	vfs.FilePowersafeOverwrite
	vfs.FileSharedMemory
	vfs.FileMemoryMapper
}

// file is an open file on a disk.
type file struct {
	systemFile
	disk    *disk
	name    string
	unnamed bool
}

func (d *disk) read(name string, from io.ReaderAt, b []byte, off int64) (n int, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.place != "" {
		return 0, syscall.EIO
	}
	if d.fault != nil {
		if err := d.fault(op{kind: "read", file: name}); err != nil {
			return 0, err
		}
	}
	return from.ReadAt(b, off)
}

func (d *disk) write(name string, to io.WriterAt, b []byte, off int64) (n int, err error) {
	err = d.do(op{kind: "write", file: name, off: off, data: b}, func(o op) error {
		n, err = to.WriteAt(o.data, off)
		return err
	})
	return n, err
}

func (f *file) ReadAt(b []byte, off int64) (n int, err error) {
	return f.disk.read(f.name, f.systemFile, b, off)
}

func (f *file) WriteAt(b []byte, off int64) (n int, err error) {
	return f.disk.write(f.name, f.systemFile, b, off)
}

func (f *file) Truncate(size int64) error {
	return f.disk.do(op{kind: "truncate", file: f.name, off: size}, func(op) error { return f.systemFile.Truncate(size) })
}

// SizeHint makes the file longer if it is shorter.
func (f *file) SizeHint(size int64) error {
	if now, err := f.systemFile.Size(); err != nil || now >= size {
		return err
	}
	return f.disk.do(op{kind: "truncate", file: f.name, off: size}, func(op) error { return f.systemFile.SizeHint(size) })
}

func (f *file) Sync(vfs.SyncFlag) error {
	err := f.disk.do(op{kind: "sync", file: f.name}, nil)
	if err == nil && f.unnamed {
		f.unnamed = false
		err = f.disk.do(op{kind: "sync"}, nil)
	}
	return err
}

// TestDisk holds the disk to what it says of itself, over many power cuts.
func TestDisk(t *testing.T) {
	const size = 4 * sector
	old, lost, kept, late := bytes.Repeat([]byte("o"), size), bytes.Repeat([]byte("l"), size), bytes.Repeat([]byte("k"), size), bytes.Repeat([]byte("x"), sector)
	seen := map[string]bool{} // contents of the file, and names
	for seed := range uint64(500) {
		dir := filepath.Join(t.TempDir(), "ledger")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, "ledger.db")
		if err := os.WriteFile(path, old, 0o600); err != nil {
			t.Fatal(err)
		}
		d := newDisk(t, dir, seed)
		write := func(b []byte, off int64) error {
			return d.do(op{kind: "write", file: "ledger.db", data: b, off: off}, nil)
		}
		sync := func() error { return d.do(op{kind: "sync", file: "ledger.db"}, nil) }
		if err := errors.Join(write(kept, 0), sync(), write(lost, 0)); err != nil {
			t.Fatal(err)
		}
		d.fault = func(op) error { return syscall.EIO }
		if err := sync(); err == nil {
			t.Fatal("a sync that fails does not say so")
		}
		d.fault = nil
		// It does not come back to what the one before was to sync.
		if err := errors.Join(write(late, size), sync(), os.Rename(path, path+".new")); err != nil {
			t.Fatal(err)
		}
		d.left = 0
		if err := d.do(op{kind: "read"}, nil); err == nil {
			t.Fatal("it works without power")
		}
		d.eject()
		for name, b := range d.image {
			if !isDatabase(name) {
				continue
			}
			seen[name] = true
			if len(b) != size+sector || !bytes.Equal(b[size:], late) {
				t.Fatalf("what was synced is not there: %q", b)
			}
			for at := 0; at < size; at += sector {
				one := b[at : at+sector]
				if rest := bytes.TrimLeft(one, "l"); len(bytes.Trim(rest, "k")) > 0 { // one sector may be torn
					t.Fatalf("a sector is what it never was: %q", one)
				}
				seen[fmt.Sprint("sector ", at/sector, ": ", string(one[:1]))] = true
			}
		}
	}
	for _, want := range []string{"ledger.db", "ledger.db.new", "sector 0: k", "sector 0: l", "sector 3: k", "sector 3: l"} {
		if !seen[want] {
			t.Errorf("never seen: %s", want)
		}
	}
}
