package store

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/meterd/meterd/internal/metering"
)

// index is the embedded store's unique index: it holds the quantity of each key of an open hour, so that a claim is
// decided without asking SQLite. The keys of the hot hours are in memory. The keys of the other hours are in memory too
// as long as there are not too many; otherwise each of these hours has a file, and memory holds only the keys of the hot
// hours and those that came late. Only the writer uses the index.
type index struct {
	hashing
	most   int    // keys and tokens in memory at once; 0 for no bound
	loaded bool   // the tables have been read
	window Window // set by advance or load
	hours  map[metering.Hour]*openHour
	marked map[metering.Hour]struct{} // every hour that has a usage row, whether open or not
	tokens map[metering.Hour]map[metering.TokenKey]ClientToken
	keys   int          // in memory
	known  int          // tokens
	held   atomic.Int64 // keys and tokens in memory, for others to see
	bytes  atomic.Int64 // memory that the tables take

	scan    func(from int64, take func([]keyRow) error) error // reads all rows without a ClientToken, from a Seq on
	asked   []hashed                                          // the keys that are being claimed
	touched uint32                                            // keeps the compiler from leaving out touching
	spills  spills
}

// keyRow is what the index keeps of a usage row.
type keyRow struct {
	hour     metering.Hour
	key      indexKey
	quantity int32
}

// openHour is where the keys of an hour are. Each key is in one of these places.
type openHour struct {
	keys   *keyTable // all keys, or those that came since the others were put into a file
	sealed *keyTable // the keys that are being put into a file; nil if none are
	file   *hourFile // nil if there is none
}

func newIndex(secret []byte, most int) *index {
	return &index{hashing: newHashing(secret), most: most, hours: map[metering.Hour]*openHour{}, marked: map[metering.Hour]struct{}{},
		tokens: map[metering.Hour]map[metering.TokenKey]ClientToken{}}
}

// advance forgets the hours before w.First, and the tokens that were accepted before w.Tokens. It reports whether the
// window has changed since the last time.
func (x *index) advance(w Window) bool {
	if w == x.window {
		return false
	}
	for h, o := range x.hours {
		if h < w.First {
			x.drop(h, o)
		}
	}
	for h, known := range x.tokens {
		if h < w.Tokens {
			x.known -= len(known)
			delete(x.tokens, h)
		}
	}
	x.window = w
	x.count()
	return true
}

// drop forgets an hour.
func (x *index) drop(h metering.Hour, o *openHour) {
	delete(x.hours, h)
	x.keys -= o.keys.keys
	o.keys.release()
	if o.sealed != nil {
		x.keys -= o.sealed.keys
		if !x.spills.working(o.sealed) { // a table that is being written is released when that ends
			o.sealed.release()
		}
	}
	if o.file != nil {
		o.file.close(true)
	}
}

func (x *index) count() {
	x.held.Store(int64(x.keys + x.known))
	bytes := 0
	for _, o := range x.hours {
		if bytes += o.keys.bytes(); o.sealed != nil {
			bytes += o.sealed.bytes()
		}
		if o.file != nil {
			bytes += len(o.file.filter.bytes)
		}
	}
	x.bytes.Store(int64(bytes))
}

func (x *index) full() bool { return x.most > 0 && x.keys >= x.most }

// hour returns the open hour for h, and makes it if it is missing.
func (x *index) hour(h metering.Hour) *openHour {
	o := x.hours[h]
	if o == nil {
		o = &openHour{keys: newKeyTable(x.hashing)}
		x.hours[h] = o
	}
	return o
}

// claim decides rows in their order, and holds the keys of those that are granted. Rows with a ClientToken are not
// found by key. All keys are touched before the first one is looked for, because memory is slow but answers many reads
// at once.
func (x *index) claim(claims []Claim) error {
	x.asked = x.asked[:0]
	var o *openHour
	for i := range claims {
		c := &claims[i]
		e := hashed{entry: entry{pack(&c.Key), c.Quantity}}
		e.hash = x.of(e.key)
		x.asked = append(x.asked, e)
		if i == 0 || c.Hour != claims[i-1].Hour {
			o = x.hour(c.Hour)
		}
		x.touched += o.keys.touch(e.hash)
	}
	for i := range claims {
		c := &claims[i]
		if i == 0 || c.Hour != claims[i-1].Hour {
			o = x.hour(c.Hour)
		}
		if c.ClientToken != "" {
			c.State = Granted
			if x.most > 0 && x.keys+x.known >= x.most {
				c.State = NoRoom
			}
			continue
		}
		quantity, taken, err := o.find(&x.asked[i])
		switch {
		case err != nil:
			return err
		case taken:
			c.State, c.Stored = Taken, quantity
		case x.full():
			c.State = NoRoom
		default:
			o.keys.add(x.asked[i].hash, x.asked[i].entry)
			x.keys++
			c.State = Granted
		}
	}
	x.count()
	return nil
}

// ask decides rows as claim would, but holds no keys.
func (x *index) ask(claims []Claim) error {
	for i := range claims {
		c := &claims[i]
		c.State = Unclaimed
		if o := x.hours[c.Hour]; o != nil && c.ClientToken == "" {
			e := hashed{entry: entry{pack(&c.Key), c.Quantity}}
			e.hash = x.of(e.key)
			quantity, taken, err := o.find(&e)
			if err != nil {
				return err
			}
			if taken {
				c.State, c.Stored = Taken, quantity
				continue
			}
		}
		if x.full() || c.ClientToken != "" && x.most > 0 && x.keys+x.known >= x.most {
			c.State = NoRoom
		}
	}
	return nil
}

// find looks for a key in all places of the hour.
func (o *openHour) find(e *hashed) (quantity int32, ok bool, err error) {
	if quantity, ok = o.keys.find(e.hash, e.key); ok {
		return quantity, true, nil
	}
	if o.sealed != nil {
		if quantity, ok = o.sealed.find(e.hash, e.key); ok {
			return quantity, true, nil
		}
	}
	if o.file != nil {
		return o.file.find(e.hash, e.key)
	}
	return 0, false, nil
}

// add holds the keys of rows that were read from the tables.
func (x *index) add(rows []keyRow) {
	x.asked = x.asked[:0]
	for _, r := range rows {
		e := hashed{x.of(r.key), entry{r.key, r.quantity}}
		x.asked = append(x.asked, e)
		x.touched += x.hour(r.hour).keys.touch(e.hash)
	}
	for i, r := range rows {
		keys, e := x.hour(r.hour).keys, &x.asked[i]
		if _, known := keys.find(e.hash, e.key); !known {
			keys.add(e.hash, e.entry)
			x.keys++
		}
	}
}

// token returns what is remembered of a ClientToken, or nil.
func (x *index) token(k metering.TokenKey) *ClientToken {
	for _, known := range x.tokens {
		if t, ok := known[k]; ok {
			return &t
		}
	}
	return nil
}

// putToken remembers a ClientToken under the hour in which it was accepted.
func (x *index) putToken(t *ClientToken) {
	h := t.At.Hour()
	known := x.tokens[h]
	if known == nil {
		known = map[metering.TokenKey]ClientToken{}
		x.tokens[h] = known
	}
	before := len(known)
	known[t.Key] = *t
	x.known += len(known) - before
}

// clear forgets everything in memory. Files stay.
func (x *index) clear() {
	x.spills.wait()
	for _, o := range x.hours {
		if o.keys.release(); o.sealed != nil {
			o.sealed.release()
		}
		if o.file != nil {
			o.file.close(false)
		}
	}
	clear(x.hours)
	clear(x.tokens)
	x.keys, x.known, x.loaded = 0, 0, false
}

// load fills the index from the tables, and from those files of hours that are sound.
func (x *index) load(r *sqliteReader, w Window) error {
	x.clear()
	x.window = w
	if err := x.openFiles(r); err != nil {
		return err
	}
	from := int64(-1)
	err := r.marks(func(h metering.Hour, firstSeq int64) error {
		x.marked[h] = struct{}{}
		if h >= w.First && x.fileOf(h) == nil && (from < 0 || firstSeq < from) {
			from = firstSeq
		}
		return nil
	})
	if err == nil && from >= 0 {
		err = x.scan(from, func(rows []keyRow) error {
			x.add(slices.DeleteFunc(rows, func(r keyRow) bool { return r.hour < w.First || x.fileOf(r.hour) != nil }))
			return nil
		})
	}
	if err == nil {
		err = r.rows("late CROSS JOIN usage ON seq BETWEEN first AND last WHERE late.hour >= $1", func(rows []keyRow) error {
			x.add(slices.DeleteFunc(rows, func(r keyRow) bool { return x.fileOf(r.hour) == nil }))
			return nil
		}, int64(w.First))
	}
	if err != nil {
		return err
	}
	err = (&Reader{r}).ClientTokens(func(t *ClientToken) error {
		if t.At.Hour() >= w.Tokens {
			x.putToken(t)
		}
		return nil
	})
	x.loaded = err == nil
	x.count()
	return err
}

// late reports whether the hour has a file, or one is being written, that does not hold the keys granted from now on.
// The rows of such keys are listed in table late, so that the next start finds them.
func (x *index) late(h metering.Hour) bool {
	o := x.hours[h]
	return o != nil && (o.file != nil || o.sealed != nil)
}

func (x *index) fileOf(h metering.Hour) *hourFile {
	if o := x.hours[h]; o != nil {
		return o.file
	}
	return nil
}

// spills puts the keys of hours that are no longer hot into files, one hour after the other, beside the writer.
type spills struct {
	dir    string // where the files are
	most   int    // how many keys of hours that are not hot may be in memory
	log    *slog.Logger
	now    *spill // the spill under way; nil if there is none
	done   chan *spill
	ended  atomic.Bool
	failed metering.Hour // the Hot of the window in which a spill failed: no other is begun before Hot has changed
}

// spill is the work of putting the keys of one hour into a file.
type spill struct {
	hour  metering.Hour
	table *keyTable // nobody changes it meanwhile
	file  *hourFile
	err   error
}

func (s *spills) working(t *keyTable) bool { return s.now != nil && s.now.table == t }

func (s *spills) path(h metering.Hour) string { return filepath.Join(s.dir, strconv.Itoa(int(h))) }

// wait waits for the spill under way to end, and throws its file away.
func (s *spills) wait() {
	if s.now == nil {
		return
	}
	s.ended.Store(true)
	if done := <-s.done; done.file != nil {
		done.file.close(true)
	}
	s.now = nil
	s.ended.Store(false)
}

// finish takes over the file of a spill that has ended, and returns the spill; nil if there is no new file.
func (x *index) finish() *spill {
	s := &x.spills
	if s.now == nil {
		return nil
	}
	select {
	case <-s.done:
	default:
		return nil
	}
	done := s.now
	s.now = nil
	o := x.hours[done.hour]
	switch {
	case o == nil || o.sealed != done.table: // the hour has left the window meanwhile
		done.table.release()
		if done.file != nil {
			done.file.close(true)
		}
		return nil
	case done.err != nil:
		s.failed = x.window.Hot
		s.log.Warn("keys of an hour that is past stay in memory, because their file could not be written",
			slog.String("hour", done.hour.String()), slog.Any("error", done.err))
		return nil
	}
	if o.file != nil {
		o.file.close(false) // closed without removing: the name belongs to the new file
	}
	o.file, o.sealed = done.file, nil
	x.keys -= done.table.keys
	done.table.release()
	x.count()
	return done
}

// begin begins to put the keys of an hour into a file, if too many keys are in memory. last is the last durable call:
// everything in the index is from that call or earlier ones.
func (x *index) begin(last *Call) {
	s := &x.spills
	if s.now != nil || s.failed == x.window.Hot || s.dir == "" {
		return
	}
	cold, most := 0, 0
	files := false
	var next *openHour
	var hour metering.Hour
	for h, o := range x.hours {
		if h >= x.window.Hot {
			continue
		}
		n := o.keys.keys
		if o.sealed != nil { // its file could not be written
			n = o.sealed.keys
		}
		cold += n
		files = files || o.file != nil
		if n > 0 && o.file == nil { // an hour without a file goes first: the next start would have to read all rows since that hour
			n += 1 << 40
		}
		if n > most {
			next, hour, most = o, h, n
		}
	}
	if next == nil || cold <= s.most && !(files && next.file == nil) {
		return
	}
	if next.sealed == nil {
		next.sealed, next.keys = next.keys, newKeyTable(x.hashing)
	}
	s.now = &spill{hour: hour, table: next.sealed}
	go s.write(s.now, hourHead{Hour: hour, Through: last.Seq, Request: last.Request}, next.file != nil)
}

// write writes the file of an hour. If the hour has a file already, write opens that anew to read it, because the
// writer uses the open one.
func (s *spills) write(job *spill, head hourHead, again bool) {
	path := s.path(job.hour)
	var old *hourFile
	if job.err = makeOwnFolder(s.dir); job.err == nil && again {
		old, job.err = openHourFile(path)
	}
	if job.err == nil {
		job.file, job.err = writeHourFile(path, head, job.table, old, s.ended.Load)
	}
	if old != nil {
		old.close(false)
	}
	s.done <- job
}

// hourNames returns the paths in a folder that may belong to files of hours, whole or unfinished, and all other paths.
func hourNames(dir string) (paths, others []string, err error) {
	info, err := os.Lstat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil, nil
	case err != nil:
		return nil, nil, err
	case !info.IsDir():
		return nil, nil, notOwn(dir, "folder", info)
	}
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		name := strings.TrimSuffix(e.Name(), ".new")
		if h, bad := strconv.ParseInt(name, 10, 32); bad == nil && strconv.FormatInt(h, 10) == name {
			paths = append(paths, filepath.Join(dir, e.Name()))
		} else {
			others = append(others, filepath.Join(dir, e.Name()))
		}
	}
	return paths, others, err
}

// tendHours sees to it that the folder for keys of hours and its files, if they exist, are their owner's alone.
func tendHours(dir string) error {
	paths, _, err := hourNames(dir)
	if err == nil && len(paths) > 0 {
		err = private(dir)
	}
	for _, path := range paths {
		if err == nil {
			err = tend(path)
		}
	}
	return err
}

// names returns the paths that may belong to files of hours, whole or unfinished. Other files are left alone, with a
// warning in the log.
func (s *spills) names() (paths []string, err error) {
	if s.dir == "" {
		return nil, nil
	}
	if err := tendHours(s.dir); err != nil {
		return nil, err
	}
	paths, others, err := hourNames(s.dir)
	for _, path := range others {
		s.log.Warn("a file in the folder for keys of hours is none of meterd's and stays there", slog.String("file", path))
	}
	return paths, err
}

// openFiles opens the files of open hours, and removes all other files of hours: those of hours before the window, those
// that are damaged, and those from another history of the ledger, as after a restore.
func (x *index) openFiles(r *sqliteReader) error {
	names, err := x.spills.names()
	if err != nil {
		return err
	}
	for _, path := range names {
		h, err := openHourFile(path)
		var damaged *damagedFile
		switch {
		case errors.As(err, &damaged):
			if err := RemoveOwn(path); err != nil {
				return err
			}
			continue
		case err != nil:
			return err
		}
		c, err := (&Reader{r}).Call(h.Through)
		if err != nil {
			h.close(false)
			return err
		}
		if c == nil || c.Request != h.Request || h.Hour < x.window.First || path != x.spills.path(h.Hour) {
			h.close(true)
			continue
		}
		x.hour(h.Hour).file = h
	}
	return nil
}

// mend removes a file that has turned out to be damaged, and loads the index anew.
func (x *index) mend(r *sqliteReader, damaged *damagedFile) error {
	x.spills.log.Warn("the file of an hour's keys is made anew from the ledger", slog.Any("error", damaged))
	if err := RemoveOwn(damaged.path); err != nil {
		return fmt.Errorf("%w: %w", damaged, err)
	}
	return x.load(r, x.window)
}
