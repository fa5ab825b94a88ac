package main

import (
	"github.com/meterd/meterd/internal/adminapi"
)

var regions = columns[adminapi.Region]{[]string{"region", "enabled"}, func(r *adminapi.Region) []string {
	return []string{r.Name, yes(r.Enabled != nil && *r.Enabled)}
}}

type regionCmd struct {
	Create  regionCreateCmd  `cmd:"" verb:"POST /v1/regions"`
	List    regionListCmd    `cmd:"" verb:"GET /v1/regions"`
	Enable  regionEnableCmd  `cmd:"" verb:"PATCH /v1/regions/{name}" help:"Take records in a region."`
	Disable regionDisableCmd `cmd:"" verb:"PATCH /v1/regions/{name}" help:"Take no records in a region."`
}

type regionCreateCmd struct {
	Name     string `arg:"" help:"Such as eu-private-1."`
	Disabled bool   `help:"Take no records there yet."`
}

func (cmd *regionCreateCmd) Run(c *console, a *adminCmd) error {
	return do(c, a, adminapi.CreateRegion, adminapi.Region{Name: cmd.Name, Enabled: new(!cmd.Disabled)}, regions.one)
}

type regionListCmd struct{}

func (cmd *regionListCmd) Run(c *console, a *adminCmd) error {
	return list(c, a, adminapi.ListRegions, adminapi.Paging{}, regions.many)
}

type regionEnableCmd struct {
	Name string `arg:"" help:"Name of the region."`
}

func (cmd *regionEnableCmd) Run(c *console, a *adminCmd) error {
	return enable(c, a, cmd.Name, true)
}

type regionDisableCmd struct {
	Name string `arg:"" help:"Name of the region."`
}

func (cmd *regionDisableCmd) Run(c *console, a *adminCmd) error {
	return enable(c, a, cmd.Name, false)
}

func enable(c *console, a *adminCmd, name string, enabled bool) error {
	return do(c, a, adminapi.ChangeRegion, adminapi.RegionChange{Name: name, Enabled: enabled}, regions.one)
}
