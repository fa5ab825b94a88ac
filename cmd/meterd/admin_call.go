package main

import (
	"fmt"
	"io"
	"strconv"

	"github.com/meterd/meterd/internal/adminapi"
	"github.com/meterd/meterd/internal/table"
)

type callCmd struct {
	RequestID string `arg:"" help:"Request id, as in x-amzn-RequestId."`
}

func (cmd *callCmd) Run(c *console, a *adminCmd) error {
	return do(c, a, adminapi.GetCall, adminapi.CallPath{RequestID: cmd.RequestID},
		func(w io.Writer, k adminapi.Call) error {
			rows := [][]string{{"request id", k.RequestID}, {"at", when(&k.At)}, {"operation", k.Operation}, {"principal", k.Principal}, {"access key", k.AccessKeyID}, {"session", k.SessionName}, {"source", k.Source}, {"user agent", k.UserAgent},
				{"region", k.Region}, {"error", k.Error}, {"message", k.Message}, {"request", k.Request}}
			set := rows[:0]
			for _, r := range rows {
				if r[1] != "" {
					set = append(set, r)
				}
			}
			if err := table.Text(w, []string{"member", "value"}, set); err != nil || len(k.Results) == 0 {
				return err
			}
			fmt.Fprintln(w)
			return columns[adminapi.CallResult]{[]string{"result", "stored", "metering record id", "product code", "account", "dimension", "hour", "quantity"}, func(r *adminapi.CallResult) []string {
				u := &r.Record
				return []string{r.Status, yes(r.Stored), u.MeteringRecordID, u.ProductCode, u.CustomerAWSAccountID, u.Dimension, when(&u.Hour), strconv.FormatInt(u.Quantity, 10)}
			}}.many(w, adminapi.Page[adminapi.CallResult]{Items: k.Results})
		})
}
