package main

import (
	"fmt"
	"io"
	"time"

	"github.com/meterd/meterd/internal/adminapi"
)

type clockCmd struct {
	Get     clockGetCmd     `cmd:"" verb:"GET /v1/clock" default:"1" help:"Read the clock."`
	Set     clockSetCmd     `cmd:"" verb:"PUT /v1/clock" help:"Set the clock to a time."`
	Advance clockAdvanceCmd `cmd:"" verb:"PUT /v1/clock" help:"Move the clock by a duration such as 90m, or -- -1h."`
	Freeze  clockFreezeCmd  `cmd:"" verb:"PUT /v1/clock" help:"Stop the clock."`
	Run     clockRunCmd     `cmd:"" verb:"PUT /v1/clock" help:"Let the clock run on from where it is."`
	Reset   clockResetCmd   `cmd:"" verb:"PUT /v1/clock" help:"Follow the wall clock again."`
	Accept  clockAcceptCmd  `cmd:"" verb:"POST /v1/clock/accept" help:"Say that the clock of a production ledger is right, though it has jumped ahead or ledger time is ahead of it."`
}

func clock(w io.Writer, k adminapi.Clock) error {
	how := "running"
	if k.Frozen {
		how = "frozen"
	}
	_, err := fmt.Fprintln(w, k.Now.UTC().Format("2006-01-02T15:04:05.000Z"), how)
	return err
}

func changeClock(c *console, a *adminCmd, in adminapi.ClockChange) error {
	return do(c, a, adminapi.ChangeClock, in, clock)
}

type clockGetCmd struct{}

func (cmd *clockGetCmd) Run(c *console, a *adminCmd) error {
	return do(c, a, adminapi.GetClock, adminapi.None{}, clock)
}

type clockSetCmd struct {
	Time   time.Time `arg:"" help:"Such as 2026-11-23T14:00:00Z."`
	Freeze bool      `help:"Stop the clock there."`
}

func (cmd *clockSetCmd) Run(c *console, a *adminCmd) error {
	in := adminapi.ClockChange{Now: &cmd.Time}
	if cmd.Freeze {
		in.Frozen = &cmd.Freeze
	}
	return changeClock(c, a, in)
}

type clockAdvanceCmd struct {
	Duration string `arg:"" help:"Such as 90m, or -1h."`
}

func (cmd *clockAdvanceCmd) Run(c *console, a *adminCmd) error {
	return changeClock(c, a, adminapi.ClockChange{Advance: cmd.Duration})
}

type clockFreezeCmd struct{}

func (cmd *clockFreezeCmd) Run(c *console, a *adminCmd) error {
	return changeClock(c, a, adminapi.ClockChange{Frozen: new(true)})
}

type clockRunCmd struct{}

func (cmd *clockRunCmd) Run(c *console, a *adminCmd) error {
	return changeClock(c, a, adminapi.ClockChange{Frozen: new(false)})
}

type clockAcceptCmd struct{}

func (cmd *clockAcceptCmd) Run(c *console, a *adminCmd) error {
	return do(c, a, adminapi.AcceptClock, adminapi.None{}, clock)
}

type clockResetCmd struct{}

func (cmd *clockResetCmd) Run(c *console, a *adminCmd) error {
	return changeClock(c, a, adminapi.ClockChange{Reset: true})
}
