//go:build soak

package crash_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

const (
	diskSize   = 512 << 20
	diskSector = 512 // what a disk writes whole or not at all
)

// disk is a block device that remembers each write and each flush in their order, so that its content after a power
// cut at any moment can be made: a loop device over the only file of a file system of the test's own.
type disk struct {
	fs.Inode
	device string // "/dev/loop…"

	mu      sync.Mutex
	content []byte
	events  []diskEvent
}

// diskEvent is a write, or a flush if it has no data.
type diskEvent struct {
	at   int64
	data []byte
}

var _ = (fs.NodeGetattrer)((*disk)(nil))
var _ = (fs.NodeSetattrer)((*disk)(nil))
var _ = (fs.NodeOpener)((*disk)(nil))
var _ = (fs.NodeReader)((*disk)(nil))
var _ = (fs.NodeWriter)((*disk)(nil))
var _ = (fs.NodeFsyncer)((*disk)(nil))

func (d *disk) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	out.Mode, out.Size = 0o600, diskSize
	return fs.OK
}

func (d *disk) Setattr(ctx context.Context, f fs.FileHandle, _ *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	return d.Getattr(ctx, f, out)
}

func (d *disk) Open(context.Context, uint32) (fs.FileHandle, uint32, syscall.Errno) {
	return nil, fuse.FOPEN_DIRECT_IO, fs.OK
}

func (d *disk) Read(_ context.Context, _ fs.FileHandle, to []byte, at int64) (fuse.ReadResult, syscall.Errno) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if at >= diskSize {
		return fuse.ReadResultData(nil), fs.OK
	}
	return fuse.ReadResultData(to[:copy(to, d.content[at:])]), fs.OK
}

func (d *disk) Write(_ context.Context, _ fs.FileHandle, data []byte, at int64) (uint32, syscall.Errno) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if at+int64(len(data)) > diskSize {
		return 0, syscall.ENOSPC
	}
	copy(d.content[at:], data)
	d.events = append(d.events, diskEvent{at, slices.Clone(data)})
	return uint32(len(data)), fs.OK
}

// Fsync is what a flush of the device's cache becomes.
func (d *disk) Fsync(context.Context, fs.FileHandle, uint32) syscall.Errno {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.events = append(d.events, diskEvent{})
	return fs.OK
}

// moment is how many writes and flushes there have been.
func (d *disk) moment() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.events)
}

// newDisk makes an empty disk, which is gone with the test.
func newDisk(t *testing.T) *disk {
	t.Helper()
	d, root, dir := &disk{content: make([]byte, diskSize)}, &fs.Inode{}, t.TempDir()
	server, err := fs.Mount(dir, root, &fs.Options{
		MountOptions: fuse.MountOptions{DirectMountStrict: true, FsName: "disk", MaxWrite: 1 << 20},
		OnAdd: func(ctx context.Context) {
			root.AddChild("disk", root.NewPersistentInode(ctx, d, fs.StableAttr{}), false)
		},
	})
	if err != nil {
		t.Fatalf("mounting a file system of the test's own, which takes root and /dev/fuse: %v", err)
	}
	t.Cleanup(func() {
		if err := server.Unmount(); err != nil {
			t.Error(err)
		}
	})
	d.device = loopDevice(t, filepath.Join(dir, "disk"))
	return d
}

// loopDevice makes a block device of a file, until the test ends.
func loopDevice(t *testing.T, file string) (device string) {
	t.Helper()
	device = system(t, "losetup", "--find", "--show", file)
	t.Cleanup(func() { system(t, "losetup", "--detach", device) })
	return device
}

// mount mounts a device, until the test ends, and returns where.
func mount(t *testing.T, device string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	system(t, "mount", "-t", "ext4", device, dir)
	t.Cleanup(func() { system(t, "umount", dir) })
	return dir
}

// system runs a program of the system to its end and returns what it printed.
func system(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// cut writes the disk to a file as it may be after a power cut at the given moment: with everything that was written
// before the last flush, and any of the sectors that were written since.
func (d *disk) cut(t *testing.T, moment int, random *rand.Rand) (file string) {
	t.Helper()
	d.mu.Lock()
	events := d.events[:moment]
	d.mu.Unlock()
	file = filepath.Join(t.TempDir(), "disk")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(diskSize); err != nil {
		t.Fatal(err)
	}
	flushed := 0
	for i, e := range events {
		if e.data == nil {
			flushed = i
		}
	}
	reaches := [...]float64{0, 0.5, 0.9, 1}[random.IntN(4)] // how likely a sector has reached the disk
	for i, e := range events {
		for at := 0; at < len(e.data); {
			n := len(e.data) - at
			if i > flushed {
				n = min(n, diskSector)
				if random.Float64() >= reaches {
					at += n
					continue
				}
			}
			if _, err := f.WriteAt(e.data[at:at+n], e.at+int64(at)); err != nil {
				t.Fatal(err)
			}
			at += n
		}
	}
	return file
}

// acknowledgement is a record that was acknowledged when the disk had seen so many writes and flushes, or fewer.
type acknowledgement struct {
	moment int
	key    key
	fact   fact
}

// TestDiskCut cuts the power under a file system that meterd serves a ledger on. A run under load is cut at many
// moments; at each the ledger must hold everything that had been acknowledged by then.
func TestDiskCut(t *testing.T) {
	cuts := 20
	if text := os.Getenv("METERD_TEST_DISK_CUTS"); text != "" {
		var err error
		if cuts, err = strconv.Atoi(text); err != nil {
			t.Fatalf("METERD_TEST_DISK_CUTS: %v", err)
		}
	}
	seed := seedOf(t)
	random := rand.New(rand.NewPCG(seed, 0))
	const perRun = 20
	acknowledged, stored := 0, 0
	for cuts > 0 {
		n := min(cuts, perRun)
		cuts -= n
		t.Run("", func(t *testing.T) {
			a, s := diskCuts(t, n, random)
			acknowledged, stored = acknowledged+a, stored+s
		})
	}
	t.Logf("%d records acknowledged before the cuts, %d found behind them", acknowledged, stored)
}

func diskCuts(t *testing.T, cuts int, random *rand.Rand) (acknowledged, stored int) {
	d := newDisk(t)
	system(t, "mkfs.ext4", "-q", d.device)
	data := filepath.Join(mount(t, d.device), "data")
	m := dev(t, data)
	furnish(t, m, crowd)
	writers := crew(random.Uint64())
	began := d.moment()
	acks := watch(t, d, m, writers, 300)
	m.Kill(t) // its files must not keep the file system busy
	t.Logf("%d writes and flushes under load, %d records acknowledged", d.moment()-began, len(acks))
	moments := make([]int, cuts)
	for i := range moments {
		moments[i] = began + random.IntN(d.moment()-began)
	}
	for _, moment := range moments {
		t.Run(fmt.Sprint(moment), func(t *testing.T) {
			folder := copied(t, filepath.Join(mount(t, loopDevice(t, d.cut(t, moment, random))), "data"))
			verify(t, folder)
			m := dev(t, folder)
			found := m.stored(t)
			for _, a := range acks {
				if a.moment > moment {
					break
				}
				acknowledged++
				if got, ok := found[a.key]; !ok || got != a.fact {
					t.Errorf("%+v was acknowledged as %+v by moment %d, before the cut, and is there: %t, as %+v", a.key, a.fact, a.moment, ok, got)
				}
			}
			stored += len(found)
			m.Stop(t)
			verify(t, folder)
		})
	}
	return acknowledged, stored
}

// watch has all writers send that many calls each, and returns what was acknowledged, in the order of moments.
func watch(t *testing.T, d *disk, m *meterd, writers []*writer, calls int) (acks []acknowledgement) {
	t.Helper()
	var mu sync.Mutex
	var running sync.WaitGroup
	for _, w := range writers {
		w.connect(t, m)
		running.Go(func() {
			ctx, enough := context.WithCancel(context.Background())
			defer enough()
			known, answered := 0, 0
			err := w.load(ctx, func() {
				moment := d.moment()
				mu.Lock()
				for ; known < len(w.order); known++ {
					acks = append(acks, acknowledgement{moment, w.order[known], w.acked[w.order[known]]})
				}
				mu.Unlock()
				if answered++; answered == calls {
					enough()
				}
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	running.Wait()
	slices.SortStableFunc(acks, func(a, b acknowledgement) int { return a.moment - b.moment })
	return acks
}
