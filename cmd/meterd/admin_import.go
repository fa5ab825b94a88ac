package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"github.com/meterd/meterd/internal/adminapi"
)

type importCmd struct {
	File string `arg:"" help:"Marketplace file: .yaml, .yml or .json, or - for standard input."`
}

func (cmd *importCmd) Run(c *console, a *adminCmd) error {
	return ask(c, a, func(ctx context.Context, api *adminapi.Client) (out adminapi.ImportResult, err error) {
		file, err := openMarketplace(cmd.File, c.stdin)
		if err != nil {
			return out, err
		}
		defer file.Close()
		out, err = adminapi.Import.Do(ctx, api, adminapi.File{Form: file.form, Content: file})
		var refused *adminapi.Problem
		if errors.As(err, &refused) && len(refused.Errors) > 0 {
			err = file.faulty(refused.Errors, refused.More)
		}
		return out, err
	}, func(w io.Writer, r adminapi.ImportResult) error {
		shown := columns[adminapi.ImportResult]{[]string{"regions", "sellers", "products", "buyers", "agreements", "users", "roles", "workloads", "tokens"}, func(r *adminapi.ImportResult) []string {
			var counts []string
			for _, n := range []int{r.Regions, r.Sellers, r.Products, r.Buyers, r.Agreements, r.Users, r.Roles, r.Workloads, r.Tokens} {
				counts = append(counts, strconv.Itoa(n))
			}
			return counts
		}}
		if err := shown.one(w, r); err != nil || len(r.Keys) == 0 {
			return err
		}
		fmt.Fprintln(w)
		return accessKeys.many(w, adminapi.Page[adminapi.AccessKey]{Items: r.Keys})
	})
}

// marketplaceFile is a marketplace file that is being read.
type marketplaceFile struct {
	io.ReadCloser
	name string
	form adminapi.Form
}

// openMarketplace opens a marketplace file, or standard input for "-". It tells YAML from JSON by the file's name, or
// by how standard input begins.
func openMarketplace(name string, stdin io.Reader) (*marketplaceFile, error) {
	if name == "-" {
		b := bufio.NewReader(stdin)
		form := adminapi.YAML
		for n := 1; ; n++ {
			text, err := b.Peek(n)
			if text = bytes.TrimSpace(text); len(text) > 0 && text[0] == '{' {
				form = adminapi.JSON
			}
			if len(text) > 0 || err != nil {
				return &marketplaceFile{io.NopCloser(b), name, form}, nil //nolint:nilerr // reading the file meets the error again
			}
		}
	}
	var form adminapi.Form
	switch filepath.Ext(name) {
	case ".json":
		form = adminapi.JSON
	case ".yaml", ".yml":
		form = adminapi.YAML
	default:
		if info, err := os.Stat(name); err == nil && info.IsDir() {
			return nil, fmt.Errorf("%s is a directory, and a marketplace file is wanted: .yaml, .yml or .json", name)
		}
		return nil, fmt.Errorf("%s is neither .yaml, .yml nor .json; rename it, or send it through standard input with -", name)
	}
	in, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	return &marketplaceFile{in, name, form}, nil
}

// faulty returns an error that lists faults of the file. more is how many faults there are beside those listed.
func (f *marketplaceFile) faulty(faults adminapi.Faults, more int) error {
	name := f.name
	if name == "-" {
		name = "standard input"
	}
	if len(faults) == 1 {
		return fmt.Errorf("%s: %v", name, faults[0])
	}
	text := fmt.Sprintf("%s: %d things are wrong, and nothing was imported:", name, len(faults)+more)
	for _, fault := range faults {
		text += "\n  " + fault.String()
	}
	if more > 0 {
		text += fmt.Sprintf("\n  … and %d more", more)
	}
	return errors.New(text)
}
