package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/meterd/meterd/internal/store"
	"github.com/meterd/meterd/internal/verify"
)

// copyCmd moves a ledger to another store. It copies the ledger while it is served; then it seals the origin and
// completes the copy.
type copyCmd struct {
	From   string `arg:"" help:"Folder or postgres:// URL of the ledger."`
	To     string `arg:"" help:"Where to copy it: a folder or URL that holds nothing, or an unfinished copy."`
	Finish bool   `xor:"what" help:"Seal FROM, so that nothing is written there any more, copy the rest, verify, and open TO. A folder must not be served then; nodes of a database are fenced off."`
	Cancel bool   `xor:"what" help:"Open FROM again after --finish was interrupted and is not to be finished. TO must be the copy that FROM was sealed for."`

	CopyIsLost bool `help:"With --cancel: the copy that FROM was sealed for is nowhere any more. If it was finished and is served, the same record may be counted there and here."`
}

func (cmd *copyCmd) left() string {
	to := store.Redacted(cmd.To)
	switch {
	case cmd.Cancel:
		return "run the same command again to know whether it was taken back"
	case cmd.Finish:
		return fmt.Sprintf("run the same command again to finish; or take it back with --cancel, after which the unfinished copy in %s can be deleted", to)
	}
	return fmt.Sprintf("%s may hold a part of a copy: run the same command again to go on, or delete it", to)
}

func (cmd *copyCmd) Run(c *console) error {
	for _, place := range []string{cmd.From, cmd.To} {
		if strings.Contains(place, "://") && !store.IsURL(place) {
			return fmt.Errorf("%s: must be a folder, or the URL of a PostgreSQL database, postgres://user@host/database", store.Redacted(place))
		}
	}
	same, err := store.SamePlace(cmd.From, cmd.To)
	switch {
	case err != nil:
		return err
	case same:
		return errors.New("FROM and TO are the same place")
	case cmd.CopyIsLost && !cmd.Cancel:
		return errors.New("--copy-is-lost goes with --cancel only")
	case cmd.Cancel:
		return cmd.cancel(c)
	case cmd.Finish:
		return cmd.finish(c)
	}
	if _, err := cmd.copy(c); err != nil {
		return err
	}
	_, err = fmt.Fprintln(c.stdout, "What is written from now on is copied by running the command again. To move the ledger, run it with --finish.")
	return err
}

// copy copies what is not in the copy yet, and prints how much that was.
func (cmd *copyCmd) copy(c *console) (sum store.Copied, err error) {
	var told int64
	sum, err = store.Copy(cmd.From, cmd.To, func(sum store.Copied) {
		if sum.Records-told >= 1_000_000 {
			told = sum.Records
			fmt.Fprintf(c.stdout, "%d records\n", told)
		}
	})
	if err == nil {
		_, err = fmt.Fprintf(c.stdout, "Copied %d usage records and %d audited calls from %s to %s.\n", sum.Records, sum.Calls, store.Redacted(cmd.From), store.Redacted(cmd.To))
	}
	return sum, err
}

// finish finishes the move. It seals the origin only after the copy exists, because the seal names that copy.
func (cmd *copyCmd) finish(c *console) error {
	from, to := store.Redacted(cmd.From), store.Redacted(cmd.To)
	if moved, err := store.Moved(cmd.From, cmd.To); err != nil || moved {
		if moved {
			_, err = fmt.Fprintf(c.stdout, "The ledger in %s has been moved to %s already. Serve it there.\n", from, to)
		}
		return err
	}
	if _, err := cmd.copy(c); err != nil {
		return err
	}
	if err := store.Seal(cmd.From, cmd.To); err != nil {
		if errors.Is(err, store.ErrLocked) {
			return fmt.Errorf("the ledger in %s is in use: stop meterd serve there, then run the same command again", from)
		}
		return err
	}
	fmt.Fprintf(c.stdout, "Sealed %s: nothing is written there any more. If this is interrupted, run the same command again, or take it back with --cancel.\n", from)
	if _, err := cmd.copy(c); err != nil {
		return cmd.stays(err)
	}
	report, err := compare(cmd.From, cmd.To)
	if err == nil {
		err = store.Complete(cmd.From, cmd.To)
	}
	if err != nil {
		return cmd.stays(err)
	}
	_, err = fmt.Fprintf(c.stdout, "Verified: %d usage records and %d audited calls in both, each with the same sums.\nServe %s from now on, with the same master key. Keep %s until you trust it; it cannot be served any more.\n", report.Records, report.Calls, to, from)
	return err
}

// stays adds to the error of a failed move what the move leaves behind.
func (cmd *copyCmd) stays(err error) error {
	return fmt.Errorf("%w; %s stays sealed and the copy is not finished: run the same command again, or take it back with --cancel", err, store.Redacted(cmd.From))
}

// cancel unseals an origin that an interrupted finish has left sealed.
func (cmd *copyCmd) cancel(c *console) error {
	from, to := store.Redacted(cmd.From), store.Redacted(cmd.To)
	err := store.Unseal(cmd.From, cmd.To, cmd.CopyIsLost)
	switch {
	case errors.Is(err, store.ErrNotSealed):
		_, err = fmt.Fprintf(c.stdout, "The ledger in %s is not sealed; it can be served.\n", from)
	case errors.Is(err, store.ErrNotTheCopy):
		err = fmt.Errorf("%w. If that copy was finished, go on there: opened again, %s would take what the copy has counted already. Name the place of the copy; only if it was deleted, or is never served again, add --copy-is-lost", err, from)
	case err == nil && cmd.CopyIsLost:
		_, err = fmt.Fprintf(c.stdout, "The ledger in %s can be served again. See to it that no copy of it is.\n", from)
	case err == nil:
		_, err = fmt.Fprintf(c.stdout, "The ledger in %s can be served again. The unfinished copy in %s can be deleted.\n", from, to)
	}
	return err
}

// compare verifies both ledgers and compares what they hold.
func compare(from, to string) (verify.Report, error) {
	a, err := verify.Ledger(from, verify.Options{})
	if err != nil {
		return a, err
	}
	b, err := verify.Ledger(to, verify.Options{})
	switch {
	case err != nil:
		return b, err
	case b.ProblemCount != 0:
		return b, fmt.Errorf("the copy disagrees with itself in %d places, of which the first is: %s", b.ProblemCount, b.Problems[0])
	case a.ProblemCount != 0:
		return a, fmt.Errorf("the ledger disagrees with itself in %d places, of which the first is: %s", a.ProblemCount, a.Problems[0])
	case a.Records != b.Records || a.Calls != b.Calls || !slices.Equal(a.Sums, b.Sums):
		return b, fmt.Errorf("the copy has %d records and %d calls, the ledger %d and %d, or their sums differ", b.Records, b.Calls, a.Records, a.Calls)
	}
	return b, nil
}
