package adminapi

import (
	"fmt"
	"slices"
	"strings"
)

// Fault is one thing that is wrong with a marketplace file.
type Fault struct {
	Line   int    `json:"line,omitempty" doc:"line of the file, from 1; absent if it is not known"`
	Place  string `json:"place,omitempty" doc:"which value it is, such as buyers[17].agreements[0].product_code"`
	Detail string `json:"detail" doc:"the rule and the mend"`
}

// String returns the fault in one line.
func (f Fault) String() string {
	var b strings.Builder
	if f.Line != 0 {
		fmt.Fprintf(&b, "line %d: ", f.Line)
	}
	if f.Place != "" {
		b.WriteString(f.Place + ": ")
	}
	b.WriteString(f.Detail)
	return b.String()
}

// Faults are all that is wrong with a marketplace file: [MaxFaults] at most, and at least one where they are an error.
type Faults []Fault

// MaxFaults is how many faults of one file are told. With so many, the rest of the file is not looked at.
const MaxFaults = 100

// Error returns the faults in one line.
func (f Faults) Error() string {
	texts := make([]string, len(f))
	for i := range f {
		texts[i] = f[i].String()
	}
	return strings.Join(texts, "; ")
}

// Sort puts the faults in the order of their lines.
func (f Faults) Sort() {
	slices.SortStableFunc(f, func(a, b Fault) int { return a.Line - b.Line })
}

// In reports whether one of the faults lies in the place, such as "buyers[17]".
func (f Faults) In(place string) bool {
	return slices.ContainsFunc(f, func(fault Fault) bool {
		rest, ok := strings.CutPrefix(fault.Place, place)
		return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
	})
}
