package ledger

import (
	"github.com/meterd/meterd/internal/metering"
	"github.com/meterd/meterd/internal/store"
)

// window is the index of the open hours: for each key its quantity, so that a duplicate is decided without a read.
// Go's map grows in small steps; a table that is rehashed as a whole would stall the committer.
type window struct {
	settings    *metering.Settings
	first, last metering.Hour // the hours that are held
	hours       map[metering.Hour]map[indexKey]int32
	started     map[metering.Hour]struct{} // every hour that has a row, whether held or not
	records     int                        // in all hours held
	tokenCount  int
	tokens      map[metering.Hour]map[metering.TokenKey]token
}

// indexKey is a metering.Key packed into 12 bytes: exact, not a hash.
type indexKey struct {
	kind uint32 // dimension, region and which of the three subjects
	a, b uint32
}

// token is a remembered ClientToken, filed under the hour in which it was accepted.
type token struct {
	parameters [16]byte
	record     metering.RecordID
}

func pack(k *metering.Key) indexKey {
	kind := uint32(k.Dimension)<<16 | uint32(k.Region)<<8
	switch {
	case k.Agreement != 0:
		return indexKey{kind | 1, k.Agreement, 0}
	case k.Workload != 0:
		return indexKey{kind | 2, k.Product, k.Workload}
	}
	return indexKey{kind, k.Product, k.Buyer}
}

// forgets returns the hour before which ClientTokens are forgotten at the time now: they are known for 24 hours
// after their call was accepted, and as long as the hour of their usage is open, which may lie ahead of that time.
func (w *window) forgets(now metering.Instant) metering.Hour {
	first, _ := w.settings.OpenHours(now)
	return min(now.Hour()-25, first-1-metering.Hour(w.settings.FutureTolerance.Hours()))
}

func newWindow(s *metering.Settings) *window {
	return &window{settings: s, hours: map[metering.Hour]map[indexKey]int32{}, started: map[metering.Hour]struct{}{},
		tokens: map[metering.Hour]map[metering.TokenKey]token{}}
}

// load fills the window from the store for the time now.
func (w *window) load(r *store.Reader, now metering.Instant) error {
	w.first, w.last = w.settings.OpenHours(now)
	w.hours = map[metering.Hour]map[indexKey]int32{}
	w.tokens = map[metering.Hour]map[metering.TokenKey]token{}
	w.records, w.tokenCount = 0, 0
	from := int64(-1)
	err := r.Hours(func(h metering.Hour, firstSeq int64) error {
		w.started[h] = struct{}{}
		if h >= w.first && (from < 0 || firstSeq < from) {
			from = firstSeq
		}
		return nil
	})
	if err != nil {
		return err
	}
	if from >= 0 {
		last, err := r.LastUsage()
		if err != nil {
			return err
		}
		err = r.Keys(from, last, func(u *store.Usage) error {
			if u.Hour >= w.first {
				w.add(u.Hour, &u.Key, u.Quantity, u.ClientToken != "")
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	forgets := w.forgets(now)
	return r.ClientTokens(func(t *store.ClientToken) error {
		if t.At.Hour() >= forgets {
			w.putToken(t.At.Hour(), t.Key, token{t.Parameters, t.Record})
		}
		return nil
	})
}

// advance drops the hours that have left the window by the time now. It tells whether the hour has changed.
func (w *window) advance(now metering.Instant) bool {
	first, last := w.settings.OpenHours(now)
	if first == w.first && last == w.last {
		return false
	}
	for h, keys := range w.hours {
		if h < first {
			w.records -= len(keys)
			delete(w.hours, h)
		}
	}
	forgets := w.forgets(now)
	for h, tokens := range w.tokens {
		if h < forgets {
			w.tokenCount -= len(tokens)
			delete(w.tokens, h)
		}
	}
	w.first, w.last = first, last
	return true
}

// quantity returns what is stored for the key in the hour.
func (w *window) quantity(h metering.Hour, k *metering.Key) (int32, bool) {
	q, ok := w.hours[h][pack(k)]
	return q, ok
}

// add notes an accepted record. Records that are identified by their ClientToken are not found by key.
func (w *window) add(h metering.Hour, k *metering.Key, quantity int32, byToken bool) {
	if byToken {
		return
	}
	keys := w.hours[h]
	if keys == nil {
		keys = map[indexKey]int32{}
		w.hours[h] = keys
	}
	before := len(keys)
	keys[pack(k)] = quantity
	w.records += len(keys) - before
}

func (w *window) token(k metering.TokenKey) (token, bool) {
	for _, tokens := range w.tokens {
		if t, ok := tokens[k]; ok {
			return t, true
		}
	}
	return token{}, false
}

func (w *window) putToken(h metering.Hour, k metering.TokenKey, t token) {
	if w.tokens[h] == nil {
		w.tokens[h] = map[metering.TokenKey]token{}
	}
	before := len(w.tokens[h])
	w.tokens[h][k] = t
	w.tokenCount += len(w.tokens[h]) - before
}
