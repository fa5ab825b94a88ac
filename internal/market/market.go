// Package market is the marketplace: what is kept of it in memory, the acts that change it, and what is shown of it.
// It has a file for each noun.
//
// It commits nothing and knows no clock, no HTTP and no log: time, randomness, secrets and what is read from the store
// are handed in. An act makes a [Plan], rows that have been checked but not written; package ledger writes and enters
// them, and keeps the locks.
//
// What operators send and get are the shapes of package adminapi. Errors are of kind Validation, NotFound or Conflict;
// each message is one line: the field, the rule and the mend.
package market

import (
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"strconv"

	"github.com/meterd/meterd/internal/adminapi"
	"github.com/meterd/meterd/internal/iam"
	"github.com/meterd/meterd/internal/metering"
	"github.com/meterd/meterd/internal/store"
)

// Config is what a marketplace is made with.
type Config struct {
	Settings *metering.Settings
	Sandbox  bool        // a sandbox takes what it is given where a production ledger makes it: keys, tokens
	Secret   []byte      // the ledger's; names and registration tokens derive from it
	Sealer   *iam.Sealer // of secrets at rest and of sessions
}

// State is the marketplace in memory: the catalogue, by which metering is decided, and the directory of principals,
// access keys and admin tokens. It is changed row by row and is not safe for concurrent use: package ledger holds the
// lock for it.
type State struct {
	*metering.Catalog
	directory directory
	cfg       Config
}

// New returns an empty marketplace.
func New(cfg Config) *State {
	return &State{Catalog: metering.NewCatalog(cfg.Settings), directory: newDirectory(), cfg: cfg}
}

// Put adds or replaces a row that [Opened] has returned. Everything that the row refers to must have been put before.
func (s *State) Put(row any) {
	if s.Catalog.Put(row) {
		return
	}
	switch r := row.(type) {
	case *openPrincipal:
		s.putPrincipal(r)
	case *openKey:
		s.putKey(r)
	case *store.AdminToken:
		s.putAdmin(*r)
	case *store.RegistrationToken: // not kept in memory, because there may be many; it is read from the store when it is used
	default:
		panic(fmt.Sprintf("rows of type %T have no place in memory", row))
	}
}

// Opened returns a row of the store in the form that [State.Put] takes: the secret of an access key is unsealed and the
// permissions of a user or role are compiled, which takes some time but needs no lock.
func (s *State) Opened(row any) (any, error) {
	switch r := row.(type) {
	case *store.Principal:
		return opened(r), nil
	case *store.AccessKey:
		plain, err := s.cfg.Sealer.Open(secretLabel(r.AccessKeyID), r.Sealed)
		if err != nil {
			return nil, fmt.Errorf("access key %s: %w", r.AccessKeyID, err)
		}
		return &openKey{*r, string(plain)}, nil
	}
	return row, nil
}

// digits returns the 12 digits of the account of the given id.
func (s *State) digits(account uint32) string {
	return metering.FormatAccountID(s.Account(account).AccountID)
}

// derive returns bytes that are made from the ledger's secret: the same parts give the same bytes in every copy of
// the ledger.
func (s *State) derive(parts ...string) []byte {
	mac := hmac.New(sha256.New, s.cfg.Secret)
	for _, p := range parts {
		fmt.Fprintf(mac, "%d:%s", len(p), p)
	}
	return mac.Sum(nil)
}

// View is the marketplace as an operator sees it at some time.
type View struct {
	*State
	Now    metering.Instant // by the ledger clock
	Scope  Scope            // of who sees it
	opened Party
}

// Find reads one thing.
type Find[R any] func(*View) (R, *metering.Error)

// Act is a change of the marketplace. It makes the plan, or refuses, and returns a Find for the answer once the plan
// is committed, or nil if there is no answer. It may be called again, to plan on a state that has changed since.
type Act[R any] func(*Plan) (Find[R], *metering.Error)

// answer returns a Find whose result is already known.
func answer[R any](r R) Find[R] {
	return func(*View) (R, *metering.Error) { return r, nil }
}

// List looks for things of one kind. It is called again for each portion of a page, because others may change the
// state between two portions.
type List[R any] func(*View) (Things[R], *metering.Error)

// Things are all things of one kind, in the order of their ids, of which a list shows some.
type Things[R any] struct {
	n    int                   // how many there are
	show func(i int) (R, bool) // returns what is shown of thing i; false if the list leaves it out
}

// listOf lists those of all for which item returns true. It is open to the operator of the marketplace and to the
// given parties.
func listOf[T, R any](open Party, all func(*State) []T, item func(*View, *T) (R, bool)) List[R] {
	return func(v *View) (Things[R], *metering.Error) {
		v.open(open)
		things := all(v.State)
		return Things[R]{len(things), func(i int) (R, bool) { return item(v, &things[i]) }}, nil
	}
}

// listOfAccount is listOf for the things of one account, or of all accounts if accountID is empty. An account id that
// is not well formed is refused: an empty list would hide that it was misspelt.
func listOfAccount[T, R any](open Party, field, accountID string, all func(*State) []T, of func(*T) uint32, item func(*View, *T) (R, bool)) List[R] {
	return func(v *View) (none Things[R], err *metering.Error) {
		v.open(open)
		if accountID == "" {
			return listOf(open, all, item)(v)
		}
		n, err := parseAccount(field, accountID)
		if err != nil {
			return none, err
		}
		account := v.AccountByID(n)
		if account == nil {
			return none, nil
		}
		return listOf(open, all, func(v *View, t *T) (r R, wanted bool) {
			if of(t) != account.ID {
				return r, false
			}
			return item(v, t)
		})(v)
	}
}

// The bounds of a page of a list.
const (
	DefaultPage = 100
	MaxPage     = 1000
)

// Page is a page of a list that is being filled. The cursor behind it is the id of its last thing.
type Page[R any] struct {
	adminapi.Page[R]
	list  List[R]
	limit int
	next  uint64 // the index of the thing to look at next
	last  uint64 // the id of the last thing of the page
}

// NewPage begins a page of at most limit things, or [DefaultPage] if limit is 0. after is the cursor of the page
// before.
func NewPage[R any](list List[R], after string, limit int) (*Page[R], *metering.Error) {
	limit, err := PageLimit(limit)
	if err != nil {
		return nil, err
	}
	p := &Page[R]{Page: adminapi.Page[R]{Items: []R{}}, list: list, limit: limit}
	if after != "" {
		var bad error
		if p.next, bad = strconv.ParseUint(after, 10, 32); bad != nil {
			return nil, BadCursor(after)
		}
	}
	return p, nil
}

// Fill looks at up to most more things, and reports whether the page is finished.
func (p *Page[R]) Fill(v *View, most int) (finished bool, err *metering.Error) {
	things, err := p.list(v)
	if err != nil {
		return false, err
	}
	for range most {
		if p.next >= uint64(things.n) {
			return true, nil
		}
		r, wanted := things.show(int(p.next))
		if wanted && len(p.Items) == p.limit {
			p.Next = strconv.FormatUint(p.last, 10)
			return true, nil
		}
		p.next++
		if wanted {
			p.Items = append(p.Items, r)
			p.last = p.next // ids count from 1, indices from 0
		}
	}
	return false, nil
}

// PageLimit checks how many things a page is to have at most. 0 stands for [DefaultPage].
func PageLimit(limit int) (int, *metering.Error) {
	switch {
	case limit == 0:
		return DefaultPage, nil
	case limit < 0 || limit > MaxPage:
		return 0, invalid("limit: must be 1 to %d, not %d", MaxPage, limit)
	}
	return limit, nil
}

// BadCursor returns the refusal of a cursor.
func BadCursor(after string) *metering.Error {
	return invalid("after: %.40q is not a cursor: pass what the page before had as next", after)
}
