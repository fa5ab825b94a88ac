package adminapi

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Fault is one thing that is wrong with a marketplace file.
type Fault struct {
	Line   int    `json:"line,omitempty" doc:"line of the file, from 1; absent if it is not known"`
	Column int    `json:"column,omitempty" doc:"byte of the line, from 1; absent if it is not known"`
	Place  string `json:"place,omitempty" doc:"which value it is, such as buyers[17].agreements[0].product_code"`
	Detail string `json:"detail" doc:"the rule and the mend"`
}

// String returns the fault in one line.
func (f Fault) String() string {
	var b strings.Builder
	if f.Line != 0 {
		fmt.Fprintf(&b, "line %d", f.Line)
		if f.Column != 0 {
			fmt.Fprintf(&b, ", column %d", f.Column)
		}
		b.WriteString(": ")
	}
	if f.Place != "" {
		b.WriteString(f.Place + ": ")
	}
	b.WriteString(f.Detail)
	return b.String()
}

// Faults are the faults of a marketplace file. As an error they hold at least one.
type Faults []Fault

// Bounds on the faults of one file.
const (
	MaxFaults    = 10_000 // that are looked for in a file
	ListedFaults = 100    // that are listed in an answer; it says how many more there are
)

// Error returns the listed faults in one line.
func (f Faults) Error() string {
	listed, more := f.Listed()
	texts := make([]string, len(listed), len(listed)+1)
	for i := range listed {
		texts[i] = listed[i].String()
	}
	if more != "" {
		texts = append(texts, more)
	}
	return strings.Join(texts, "; ")
}

// Listed returns the faults to list, and how many more there are, such as "… and 17 more", or "".
func (f Faults) Listed() (listed Faults, more string) {
	switch n := len(f); {
	case n <= ListedFaults:
		return f, ""
	case n >= MaxFaults:
		return f[:ListedFaults], fmt.Sprintf("… and %d or more", n-ListedFaults)
	default:
		return f[:ListedFaults], fmt.Sprintf("… and %d more", n-ListedFaults)
	}
}

// Sort puts the faults in the order of their lines.
func (f Faults) Sort() {
	slices.SortStableFunc(f, func(a, b Fault) int { return cmp.Or(a.Line-b.Line, a.Column-b.Column) })
}
