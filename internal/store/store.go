// Package store keeps a ledger on disk. It is the only package that speaks SQL and it takes no decisions: what a
// row means and whether it may be written is for package ledger to say.
//
// There are two stores. The embedded one is a SQLite database in a folder, which belongs to one process at a time;
// the other is a PostgreSQL database, which any number of processes share. Both answer the one question on which
// no two writers may disagree, whether a key is taken, in [Tx.Claim]: the embedded store from an index in memory,
// PostgreSQL from a unique index.
package store

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/meterd/meterd/internal/metering"
)

// Format is the version of the rows in a new ledger. Since format 3 a ledger counts the steps in which its tables were
// made, so that a later change is one more step. A ledger of format 2, the only earlier one that was in use, is
// brought to this format when it is opened.
const (
	Format      = 3
	firstFormat = 2
)

// Errors of opening and creating a store, and of writing to it.
var (
	ErrNotExist = errors.New("there is no ledger")
	ErrExist    = errors.New("there is a ledger already")
	ErrLocked   = errors.New("another process is using the ledger")

	// ErrStale is what [Tx.Revise] returns when the catalogue has changed since.
	ErrStale = errors.New("the catalogue has been changed by another node")
	// ErrCursor says that a cursor was not made by the store's Cursor.
	ErrCursor = errors.New("not a cursor")
	// ErrEnough ends a scan early, without an error.
	ErrEnough = errors.New("enough")

	errClosed = errors.New("the store is closed")
)

// CommitError says that a transaction may or may not have become durable. Nothing of it may be acknowledged.
// After it, the embedded store must not be written to again in this process.
type CommitError struct{ Err error }

func (e *CommitError) Error() string { return "commit: " + e.Err.Error() }
func (e *CommitError) Unwrap() error { return e.Err }

// UnavailableError says that the database could not be used in time, and that nothing of the transaction is stored.
type UnavailableError struct{ Err error }

func (e *UnavailableError) Error() string { return "the database is not available: " + e.Err.Error() }
func (e *UnavailableError) Unwrap() error { return e.Err }

// Meta is what a ledger is created with.
type Meta struct {
	Format  int    `json:"format"`
	Secret  []byte `json:"secret"`  // metering record ids and registration tokens derive from it; only stored where Sealed is nil
	Sealed  []byte `json:"sealed"`  // the secret under the master key; nil until a ledger of format 2 is first opened with it
	Sandbox bool   `json:"sandbox"` // made by meterd dev, with published keys
	Created int64  `json:"created"` // milliseconds since the epoch, wall clock
	Check   []byte `json:"check"`   // a known text sealed with the master key, to notice a wrong one
}

// stored returns m as it is stored: without the secret if the secret is sealed.
func (m Meta) stored() ([]byte, error) {
	m.Format = Format
	if m.Sealed != nil {
		m.Secret = nil
	}
	return json.Marshal(m)
}

// same reports whether m and o belong to one ledger or its copies. The secret of one of them may have been sealed
// meanwhile.
func (m Meta) same(o Meta) bool {
	switch {
	case m.Sealed != nil && o.Sealed != nil:
		return bytes.Equal(m.Sealed, o.Sealed)
	case m.Sealed == nil && o.Sealed == nil:
		return bytes.Equal(m.Secret, o.Secret)
	}
	return m.Created == o.Created && bytes.Equal(m.Check, o.Check)
}

func (m *Meta) checkFormat() error {
	switch {
	case m.Format > Format:
		return fmt.Errorf("%w: the ledger has format %d, made by a newer version of meterd; this one knows formats up to %d: upgrade it", errTooOld, m.Format, Format)
	case m.Format < firstFormat:
		return fmt.Errorf("the ledger has format %d, but this version of meterd reads formats from %d on; no released version wrote another one", m.Format, firstFormat)
	}
	return nil
}

// Options of opening a store.
type Options struct {
	// Admit is called before anything is changed. It returns an error to refuse the ledger; with the master key it fills
	// in Secret or Sealed, whichever is missing. If Admit is nil the store has no secret, which is enough for copying
	// only.
	Admit func(*Meta) error

	MaxOpenRecords int          // of the embedded store: how many keys are kept in memory
	Log            *slog.Logger // for messages about work in the background; slog.Default if nil
}

// Store is an open store: the embedded one or PostgreSQL. Its methods are safe for concurrent use.
type Store interface {
	Meta() Meta

	// Shared reports whether other processes may write to the ledger at the same time.
	Shared() bool

	// Writers returns the writers that commit transactions. Each may be used by one goroutine at a time. If there are
	// several, the first is for acts of administration alone.
	Writers() []Writer

	// View runs f on the state that is durable now. A shared store runs f again if the connection was lost before f
	// read anything. Views do not hold up writers; a few run at once, others wait. When ctx is done, View stops waiting
	// or reading and returns the error of ctx.
	View(ctx context.Context, f func(*Reader) error) error

	// FindUsage calls row for each usage row behind the cursor that the filter chooses, in the order of the store,
	// until row returns ErrEnough or ctx is done. Rows that existed when the scan began come exactly once. The embedded
	// store returns rows in the order in which they were accepted, PostgreSQL in the order of hours: there a row that is
	// accepted during the scan, for an hour that the scan has passed, does not come. The row is valid only during the
	// call of row.
	FindUsage(ctx context.Context, f *UsageFilter, after string, row func(*Usage) error) error

	// Cursor returns the place of a row for FindUsage. The empty cursor is before all rows.
	Cursor(u *Usage) string

	// Pulse returns the store's state: see [Pulse]. It fails if the store cannot be written to. It fails with
	// [ErrWentBack] if a shared store's history lacks the revision known, unless known is zero, or lacks what this
	// store's own writers have committed.
	Pulse(ctx context.Context, known Revision) (Pulse, error)

	// OpenRecords returns how many keys are held in memory to decide duplicates, and how many bytes of memory the
	// tables of keys take.
	OpenRecords() (keys, bytes int)

	// Close waits for the views that are running and releases the store. Everything acknowledged is on disk already.
	Close() error
}

// Pulse is a shared store's state at one moment.
type Pulse struct {
	Now      time.Time        // by the database's clock; zero for the embedded store, whose clock is the machine's
	Revision int64            // how many acts of administration have changed the catalogue
	Last     metering.Instant // ledger time of any writer's latest transaction; 0 if none
}

// Writer commits transactions.
type Writer interface {
	// Update runs f in a transaction and makes it durable: when Update returns nil, what f wrote is on disk. A shared
	// store may run f again from the start, in a new transaction, when another writer was in the way or a connection
	// was lost; f must then decide anew. If f fails, the transaction is undone and f's error is returned as it is.
	// Other errors are a [CommitError], an [UnavailableError], or the error of a statement that the database refused.
	Update(f func(*Tx) error) error

	// Rehearse runs f in a transaction of a shared store, sends the database everything that f writes, and rolls the
	// transaction back. A nil error means that f would have been committed, as far as that can be known beforehand. The
	// embedded store does nothing: its last transaction has shown whether it can be written to.
	Rehearse(f func(*Tx) error) error

	// NextCall returns the Seq that the first call of the next transaction gets.
	NextCall() int64

	// Know sets the revision of the catalogue by which the next transactions are decided. A shared store commits them
	// only if its history has that revision; else Update fails with [ErrWentBack].
	Know(Revision)
}

// Tx is a transaction. It is only valid inside [Writer.Update] or [Create].
type Tx struct {
	tx
	revision int64    // stored with each row of the catalogue that is put
	sum      Checksum // how the rows that are put change the checksum of the catalogue
}

// tx is what the two stores do differently.
type tx interface {
	// exec runs a statement whose parameters are $1, $2 … It may run later, but before the transaction commits.
	exec(sql string, args ...any) error

	// revise raises the revision of the catalogue from known by one, or returns ErrStale if the revision is not known.
	revise(known int64) error

	// Window sets which hours are open from now on. It must be called before anything is decided in the transaction. The
	// embedded store then forgets keys that it no longer needs, and reads keys again if the clock was set back.
	Window(w Window) error

	// ClientTokens looks up ClientTokens and returns nil for each one that is not known. A transaction looks up all of
	// its tokens at once, each no more than once.
	ClientTokens(keys []metering.TokenKey) ([]*ClientToken, error)

	// Claim stores each row whose key is free, and notes in each claim what has become of it. Rows are considered in
	// order: of two rows with the same key, the second finds the key taken by the first. A transaction calls Claim once.
	Claim(claims []Claim) error

	// Ask notes in each claim what Claim would, without storing the row: a row whose key is free stays Unclaimed. Each
	// row is considered by itself. Ask must be called before Claim.
	Ask(claims []Claim) error

	// restore stores usage rows that another store has granted. They belong to calls of one writer, which the caller
	// appends afterwards.
	restore(calls []Call, claims []Claim) error

	// AppendCall appends an audit row. Its Seq must be one more than that of the call before or, for the first call,
	// the one that NextCall returns. The usage rows of the call must have been claimed before.
	AppendCall(c *Call) error

	// PutClientToken remembers a ClientToken. If another writer has remembered it since the transaction looked, the
	// transaction is run again.
	PutClientToken(t *ClientToken) error

	// PutRegistration adds a registration, or updates the time of its last call.
	PutRegistration(r metering.Registration) error
}

// Reader reads one state of the store.
type Reader struct{ reader }

// reader is what the two stores do differently.
type reader interface {
	// query calls row for each row of a statement whose parameters are $1, $2 …
	query(sql string, row func(columns) error, args ...any) error

	// CallOfRequest returns the audit row of the call with the given request id, a UUID of version 7, or nil if there
	// is none. It is quick if rows are stored nearly in the order of the times in their ids.
	CallOfRequest(id [16]byte) (*Call, error)

	// UsageOfCall calls row for each usage row that the call wrote, in the order of its records.
	UsageOfCall(c *Call, row func(*Usage) error) error

	// Usage calls row for each usage row; rows of the same hour come near each other. It is for verification, so it
	// reads tables rather than indexes where it can.
	Usage(row func(*Usage) error) error

	// Hours calls row with the hour of each usage row, in the order of Usage.
	Hours(row func(metering.Hour) error) error

	// ClientTokenUsage calls row for each usage row that has a ClientToken, in the order of workloads and tokens, so
	// that rows with the same token follow each other.
	ClientTokenUsage(row func(workload uint32, clientToken string, seq int64) error) error

	// Calls calls row for each audit row in the order of Seq, with a bit set in stored for each record of the call that
	// has a usage row. It calls orphan for each usage row that belongs to no call.
	Calls(row func(c *Call, stored uint32) error, orphan func(seq int64) error) error

	// Check looks for damage below the level of rows, and for numbers outside the range of their columns.
	Check(problem func(format string, args ...any)) error
}

// columns reads the columns of a row, counted from 0. A *sqlite3.Stmt is one.
type columns interface {
	ColumnName(int) string
	ColumnInt64(int) int64 // 0 for NULL, as the others are empty
	ColumnBool(int) bool
	ColumnText(int) string
	ColumnRawBlob(int) []byte // valid during the call
}

// Window tells a store which hours matter now.
type Window struct {
	First  metering.Hour // the first hour that records may be for
	Hot    metering.Hour // the hour from which on most records are expected
	Tokens metering.Hour // ClientTokens that were accepted before this hour are forgotten
}

// Claim is a usage row to be stored if its key is free, and what has become of it.
type Claim struct {
	Usage
	State  ClaimState
	Stored int32 // the quantity stored under the key, if it was taken
}

// ClaimState is what has become of a [Claim].
type ClaimState uint8

// The states of a claim.
const (
	Unclaimed ClaimState = iota // undecided; after Ask, the key is free
	Granted                     // the row is stored by this transaction
	Taken                       // the key was taken: nothing is stored
	NoRoom                      // the store cannot take the row for now: nothing is stored
)

// Usage is an accepted usage record as it is stored.
type Usage struct {
	Seq         int64 // the row's place in the ledger: [UsageSeq] of its call and of its record's place in the call
	Key         metering.Key
	Hour        metering.Hour
	Timestamp   metering.Instant // as sent; lies in Hour
	Quantity    int32
	Form        metering.Form
	ClientToken string // AgentCore only; rows that have one are not found by key
	Allocations []byte // in the form of [metering.AppendAllocations]; nil for none
}

// The Seq of a call holds the number of the call's writer, 0 in the embedded store, and the call's place among that
// writer's calls. The Seq of a usage row holds the Seq of its call and the place of its record in the call.
const (
	callBits  = 36
	usageBits = 5 // room for metering.MaxUsageRecords
)

// Place returns the writer of a call, and the call's place among the writer's calls, from 1.
func Place(call int64) (writer, n int64) { return call >> callBits, call & (1<<callBits - 1) }

// UsageSeq returns the Seq of the usage row of a call's record, which counts from 0.
func UsageSeq(call int64, record int) int64 { return call<<usageBits | int64(record) }

// CallOfUsage returns the Seq of the call that wrote a usage row, and the record's place in it.
func CallOfUsage(seq int64) (call int64, record int) {
	return seq >> usageBits, int(seq & (1<<usageBits - 1))
}

// ClientToken is a remembered ClientToken.
type ClientToken struct {
	Key        metering.TokenKey
	Parameters [16]byte
	Record     metering.RecordID
	At         metering.Instant
}

// UsageFilter chooses the rows of [Store.FindUsage]. Zero members choose all rows, except for the hours, which must be
// set.
type UsageFilter struct {
	FirstHour, LastHour       metering.Hour // both included
	Region                    metering.Region
	Product, Buyer, Agreement uint32
	From, To                  metering.Instant // From <= Timestamp < To
}

// until returns a function that calls row, and that fails with the error of ctx once ctx is done.
func until(ctx context.Context, row func(*Usage) error) func(*Usage) error {
	return func(u *Usage) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		return row(u)
	}
}

// Create makes a new store with what fill puts into it, in a folder, which is made too if it is missing, or in a
// database. It fails with ErrExist if the location has a store already. Whatever interrupts Create, the location holds
// all that fill has put, or no store.
func Create(location string, meta Meta, fill func(*Tx) error) error {
	if IsURL(location) {
		return createPostgres(location, meta, fill)
	}
	return createSQLite(location, meta, fill)
}

// Open opens the store for writing. It never creates one: a location without a ledger is ErrNotExist, so that an
// unmounted volume cannot become a new, empty ledger.
func Open(location string, o Options) (Store, error) {
	if IsURL(location) {
		return openPostgres(location, o)
	}
	return openSQLite(location, o)
}

// Read runs f on one state of the store, beside running servers if there are any.
func Read(location string, f func(*Reader, Meta) error) error {
	if IsURL(location) {
		return readPostgres(location, f)
	}
	return readSQLite(location, f)
}

// Exists reports whether the location holds a ledger. An error means that Exists could not find out.
func Exists(location string) (bool, error) {
	if IsURL(location) {
		return existsPostgres(location)
	}
	err := present(location)
	if errors.Is(err, ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}
