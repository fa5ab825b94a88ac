package main

import (
	"io"

	"github.com/meterd/meterd/internal/adminapi"
	"github.com/meterd/meterd/internal/table"
)

type canCmd struct {
	Account   string `arg:"" help:"12 digits."`
	Principal string `arg:"" help:"Name of a user or role; user/NAME or role/NAME where there are both."`
	Action    string `arg:"" help:"Such as aws-marketplace:MeterUsage, or MeterUsage."`
	Session   string `placeholder:"NAME" help:"In a role's session of this name."`
	SourceIP  string `name:"source-ip" placeholder:"ADDRESS" help:"In a call from this address."`
	Region    string `placeholder:"NAME" help:"In a call in this region."`
	UserAgent string `placeholder:"TEXT" help:"In a call by this program."`
	TLS       bool   `name:"tls" help:"In a call over TLS."`
}

func (cmd *canCmd) Run(c *console, a *adminCmd) error {
	return do(c, a, adminapi.Can, adminapi.Question{AccountID: cmd.Account, Principal: cmd.Principal, Action: cmd.Action, Session: cmd.Session,
		SourceIP: cmd.SourceIP, Region: cmd.Region, UserAgent: cmd.UserAgent, TLS: cmd.TLS},
		func(w io.Writer, v adminapi.Verdict) error {
			rows := [][]string{{"principal", v.Principal}, {"action", v.Action}, {"allowed", yes(v.Allowed)}}
			if v.Message != "" {
				rows = append(rows, []string{"message", v.Message})
			}
			for _, u := range v.Unknown {
				rows = append(rows, []string{"unknown", u})
			}
			return table.Text(w, []string{"member", "value"}, rows)
		})
}
