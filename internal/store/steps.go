package store

import "github.com/meterd/meterd/internal/metering"

// fills are what numbered steps of the tables, the same of both stores, put into what they have added, from what was
// there. It is done in the transaction in which the step is counted; writers of versions before are fenced off by then.
var fills = map[int64]func(r *Reader, exec func(sql string, args ...any) error) error{
	4: (*Reader).fillCallHours,
}

// schema returns the last step that was made of the ledger's tables; 0 of format 2 in a folder, which does not count them.
func (r *Reader) schema() (int64, error) {
	return r.number("SELECT n FROM state WHERE name = 'schema'")
}

// fillCallHours notes where the hours of the calls begin that are there.
func (r *Reader) fillCallHours(exec func(sql string, args ...any) error) error {
	var run callRun
	var begins []Call
	err := r.query("SELECT seq, at FROM call ORDER BY seq", func(c columns) error {
		call := Call{Seq: c.ColumnInt64(0), At: metering.Instant(c.ColumnInt64(1))}
		if run.begins(&call) {
			begins = append(begins, call)
		}
		return nil
	})
	for i := range begins {
		if err == nil {
			err = exec(insertCallHour, begins[i].Seq, int64(begins[i].At.Hour()))
		}
	}
	return err
}
