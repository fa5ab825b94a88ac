package main

import (
	"errors"
	"fmt"

	"github.com/meterd/meterd/internal/store"
)

// backupCmd copies the ledger of a folder into a file.
type backupCmd struct {
	placeFlags
	File string `arg:"" type:"path" help:"File to make; it must not exist."`
}

func (cmd *backupCmd) Run(c *console) error {
	if cmd.Store != "" {
		return errors.New("a ledger in PostgreSQL is backed up with PostgreSQL's own tools: pg_basebackup and archived logs, or pg_dump (docs/scale.md)")
	}
	if err := cmd.find(); err != nil {
		return err
	}
	size, err := store.Backup(c.ctx, cmd.Data, cmd.File)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(c.stdout, "Backed up the ledger in %s to %s, %d bytes.\nThe master key is not part of it: keep a copy of that too, in another place. Without it no secret can be read.\nRestore it: meterd restore %s --data NEW-DIR\n", cmd.Data, cmd.File, size, cmd.File)
	for _, left := range store.Interrupted(cmd.File) {
		if err == nil {
			_, err = fmt.Fprintf(c.stdout, "%s was left by a backup that was interrupted, and can be deleted.\n", left)
		}
	}
	return err
}

// restoreCmd makes a ledger from a backup.
type restoreCmd struct {
	File string `arg:"" type:"path" help:"File that meterd backup has made."`
	Data string `required:"" type:"path" env:"METERD_DATA" placeholder:"DIR" help:"Folder to make the ledger in; it must not have one."`
}

func (cmd *restoreCmd) Run(c *console) error {
	restored, err := store.Restore(c.ctx, cmd.File, cmd.Data)
	if errors.Is(err, store.ErrExist) {
		return fmt.Errorf("%w; a backup replaces nothing: choose another folder", err)
	}
	if err != nil {
		return err
	}
	known := "every page is as it was backed up"
	if !restored.Summed {
		known = "each page is whole, but the backup has no checksum of all of them, as those of versions before have none: verify it before it is served"
	}
	_, err = fmt.Fprintf(c.stdout, "Restored %s to %s; %s.\nVerify it: meterd verify --data %s\nServe it:  meterd serve --data %s --master-key-file FILE, with the master key of the ledger that was backed up, and never beside that ledger.\n", cmd.File, cmd.Data, known, cmd.Data, cmd.Data)
	return err
}
