package main

import (
	"fmt"

	"github.com/meterd/meterd/internal/store"
)

// acceptLossCmd gives up the records that are missing at the end of a ledger.
type acceptLossCmd struct {
	Data string `required:"" type:"path" env:"METERD_DATA" placeholder:"DIR" help:"Folder of the ledger, which nobody serves. Keep a copy of it."`
}

func (*acceptLossCmd) left() string {
	return "run the same command again; if it says that nothing is missing, this one had ended"
}

func (cmd *acceptLossCmd) Run(c *console) error {
	loss, err := store.AcceptLoss(cmd.Data)
	if err != nil {
		return err
	}
	known := ""
	if loss.Known > loss.Last {
		known = fmt.Sprintf("\nIt had come to call %d at least: have clients send again what they have sent since; what is there is not counted twice.", loss.Known)
	}
	_, err = fmt.Fprintf(c.stdout, "The ledger in %s was refused: %v\nIt ends at call %d now; %d bytes were cut off its log.%s\nSee whether the rest agrees: meterd verify --data %s\n", cmd.Data, loss.Reason, loss.Last, loss.Cut, known, cmd.Data)
	return err
}
