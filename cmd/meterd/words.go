package main

import (
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/alecthomas/kong"
)

// readers returns options that replace kong's reading of flags and arguments where kong would pass on the errors of the
// standard library.
func readers() []kong.Option {
	const aTime = "a time such as 2026-11-23T14:00:00Z"
	options := []kong.Option{
		kong.TypeMapper(reflect.TypeFor[time.Time](), reader(aTime, func(s string, v reflect.Value) error {
			t, err := time.Parse(time.RFC3339, s)
			v.Set(reflect.ValueOf(t))
			return err
		})),
		kong.TypeMapper(reflect.TypeFor[*time.Time](), reader(aTime, func(s string, v reflect.Value) error {
			t, err := time.Parse(time.RFC3339, s)
			v.Set(reflect.ValueOf(&t))
			return err
		})),
		kong.TypeMapper(reflect.TypeFor[time.Duration](), reader("a duration such as 90s, 15m or 26h", func(s string, v reflect.Value) error {
			d, err := time.ParseDuration(s)
			v.SetInt(int64(d))
			return err
		})),
	}
	for _, kind := range []reflect.Kind{reflect.Int, reflect.Int32, reflect.Int64} {
		options = append(options, kong.KindMapper(kind, reader("a whole number", func(s string, v reflect.Value) error {
			n, err := strconv.ParseInt(s, 10, v.Type().Bits())
			v.SetInt(n)
			if errors.Is(err, strconv.ErrRange) {
				err = errTooLarge
			}
			return err
		})))
	}
	return options
}

var errTooLarge = errors.New("too large")

// reader returns a mapper for values that the words describe.
func reader(words string, read func(string, reflect.Value) error) kong.MapperFunc {
	return func(ctx *kong.DecodeContext, target reflect.Value) error {
		token, err := ctx.Scan.PopValue("a")
		if err != nil {
			return err
		}
		text := fmt.Sprint(token.Value)
		switch err := read(text, target); {
		case errors.Is(err, errTooLarge):
			return fmt.Errorf("%s is too large a number", text)
		case err != nil:
			return fmt.Errorf("must be %s, not %q", words, text)
		}
		return nil
	}
}

// parse reads the command line. A "help" in the place of a command is --help.
func parse(parser *kong.Kong, args []string) (*kong.Context, error) {
	command, err := parser.Parse(args)
	var wrong *kong.ParseError
	if errors.As(err, &wrong) && strings.HasPrefix(err.Error(), "unexpected argument help") {
		if at := len(args) - 1; at > 0 && args[at] == "help" && !nodeOf(wrong).Leaf() {
			return parser.Parse(append(args[:at:at], "--help")) // prints, and ends the program
		}
	}
	return command, err
}

// nodeOf returns the command that the wrong command line names, as far as it names one.
func nodeOf(wrong *kong.ParseError) *kong.Node {
	if node := wrong.Context.Selected(); node != nil {
		return node
	}
	return wrong.Context.Model.Node
}

// words says what is wrong with a command line, and how to find out what is right.
func words(wrong *kong.ParseError) string {
	node, text := nodeOf(wrong), wrong.Error()
	path := node.FullPath()
	if name, ok := strings.CutPrefix(text, "unexpected argument "); ok && !node.Leaf() {
		text = fmt.Sprintf("there is no command %s %s", path, name)
	} else if strings.HasPrefix(text, `expected one of "`) && !node.Leaf() {
		var names []string
		for _, child := range node.Children {
			if !child.Hidden {
				names = append(names, child.Name)
			}
		}
		text = fmt.Sprintf("what to do is missing after %s, one of: %s", path, strings.Join(names, ", "))
	} else if missing, ok := strings.CutPrefix(text, `expected "<`); ok {
		text = "missing argument: <" + strings.TrimSuffix(missing, `"`)
	} else if short, ok := strings.CutPrefix(text, "unknown flag -"); ok && short[0] >= '0' && short[0] <= '9' {
		text = fmt.Sprintf("-%c… is taken for a flag; write -- before an argument that begins with -, as in: %s -- -%c…", short[0], path, short[0])
	}
	return fmt.Sprintf("meterd: %s\nTry: %s --help", text, path)
}
