// Package table writes rows for people and for other programs: as text in columns, as CSV and as JSON.
//
// CSV follows RFC 4180. A cell that begins with = + - @, a tab or a carriage return is given a ' in front, because
// spreadsheets would run it as a formula: dimensions, tags and identifiers are other people's words. JSON is the
// exact form.
package table

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Formats lists the formats of [Write].
var Formats = []string{"table", "csv", "json"}

// Write writes rows under a header in one of [Formats]. The value is what the rows were made from: it is what JSON shows.
func Write(w io.Writer, format string, header []string, rows [][]string, value any) error {
	switch format {
	case "table":
		return Text(w, header, rows)
	case "csv":
		return CSV(w, header, rows)
	case "json":
		e := json.NewEncoder(w)
		e.SetEscapeHTML(false)
		e.SetIndent("", "  ")
		return e.Encode(value)
	}
	return fmt.Errorf("there is no format %q; use %s", format, strings.Join(Formats, ", "))
}

// CSV writes the header and the rows as CSV, every line with CRLF at its end.
func CSV(w io.Writer, header []string, rows [][]string) error {
	c := csv.NewWriter(w)
	c.UseCRLF = true
	if err := c.Write(header); err != nil {
		return err
	}
	for _, row := range rows {
		row = slices.Clone(row)
		for i, cell := range row {
			if cell != "" && strings.IndexByte("=+-@\t\r", cell[0]) >= 0 {
				row[i] = "'" + cell
			}
		}
		if err := c.Write(row); err != nil {
			return err
		}
	}
	c.Flush()
	return c.Error()
}

// Text writes rows under a header, in columns that are aligned on a terminal: numbers to the right, anything else
// to the left. Columns that are empty in all rows are left out, unless there are no rows. Characters that control
// the terminal or the direction of text are shown as U+FFFD. A row may be shorter than the header, not longer.
func Text(w io.Writer, header []string, rows [][]string) error {
	type column struct {
		cells []string // the header's first
		width int
		right bool
	}
	var columns []column
	for i, name := range header {
		c := column{cells: []string{printable(strings.ToUpper(name))}, right: len(rows) > 0}
		empty := len(rows) > 0
		for _, row := range rows {
			cell := ""
			if i < len(row) {
				cell = printable(row[i])
			}
			empty = empty && cell == ""
			c.right = c.right && cell != "" && strings.Trim(cell, "0123456789") == ""
			c.cells = append(c.cells, cell)
		}
		if empty {
			continue
		}
		for _, cell := range c.cells {
			c.width = max(c.width, width(cell))
		}
		columns = append(columns, c)
	}
	for y := range len(rows) + 1 {
		var line strings.Builder
		for i, c := range columns {
			if i > 0 {
				line.WriteString("  ")
			}
			pad := strings.Repeat(" ", c.width-width(c.cells[y]))
			if c.right {
				line.WriteString(pad + c.cells[y])
			} else {
				line.WriteString(c.cells[y] + pad)
			}
		}
		if _, err := io.WriteString(w, strings.TrimRight(line.String(), " ")+"\n"); err != nil {
			return err
		}
	}
	return nil
}

func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) {
			return utf8.RuneError
		}
		return r
	}, s)
}

// width is how many cells of a terminal the text takes: two for East Asian and emoji, none for marks that combine.
func width(s string) int {
	n := 0
	for _, r := range s {
		switch {
		case r < 0x300:
			n++
		case unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf):
		case unicode.In(r, unicode.Han, unicode.Hangul, unicode.Hiragana, unicode.Katakana), 0x3000 <= r && r <= 0x303e,
			0xff01 <= r && r <= 0xff60, 0xffe0 <= r && r <= 0xffe6, 0x1f300 <= r && r <= 0x1faff:
			n += 2
		default:
			n++
		}
	}
	return n
}
