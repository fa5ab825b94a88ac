package main

import (
	"fmt"
	"io"
	"time"

	"github.com/meterd/meterd/internal/adminapi"
)

var workloads = columns[adminapi.Workload]{[]string{"account", "platform", "resource id", "region", "role"}, func(w *adminapi.Workload) []string {
	return []string{w.AccountID, w.Platform, w.ResourceID, w.Region, w.Role}
}}

type workloadCmd struct {
	Create workloadCreateCmd `cmd:"" verb:"POST /v1/workloads"`
	List   workloadListCmd   `cmd:"" verb:"GET /v1/workloads"`
}

type workloadCreateCmd struct {
	Account    string        `arg:"" help:"The buyer's 12 digits."`
	Platform   string        `arg:"" enum:"ec2,ecs,eks,agentcore" help:"ec2, ecs, eks or agentcore."`
	ResourceID string        `arg:"" help:"Such as i-0123456789abcdef0, a task id, a pod name."`
	Region     string        `default:"us-east-1" help:"Where it runs."`
	Role       string        `help:"The role whose session it signs with; meterd-workload, made as needed, if not given."`
	Duration   time.Duration `help:"Life of the credentials, 15m to 12h; 1h if not given, for ever in a sandbox."`
}

func (cmd *workloadCreateCmd) Run(c *console, a *adminCmd) error {
	return do(c, a, adminapi.CreateWorkloadCredentials, adminapi.WorkloadRequest{DurationSeconds: int64(cmd.Duration / time.Second),
		Workload: adminapi.Workload{AccountID: cmd.Account, Platform: cmd.Platform, ResourceID: cmd.ResourceID, Region: cmd.Region, Role: cmd.Role}}, func(w io.Writer, k adminapi.WorkloadCredentials) error { // for the shell
		endpoint := "export AWS_ENDPOINT_URL_MARKETPLACE_METERING=" + k.Endpoint
		if k.Endpoint == "" {
			endpoint = "# export AWS_ENDPOINT_URL_MARKETPLACE_METERING=… (where the workload reaches the service, https://…)"
		}
		_, err := fmt.Fprintf(w, "%s\nexport AWS_ACCESS_KEY_ID=%s\nexport AWS_SECRET_ACCESS_KEY=%s\nexport AWS_SESSION_TOKEN=%s\nexport AWS_REGION=%s AWS_DEFAULT_REGION=%s\n",
			endpoint, k.AccessKeyID, k.SecretAccessKey, k.SessionToken, k.Region, k.Region)
		return err
	})
}

type workloadListCmd struct {
	Account string `help:"Of this account only."`
}

func (cmd *workloadListCmd) Run(c *console, a *adminCmd) error {
	return list(c, a, adminapi.ListWorkloads, adminapi.AccountPaging{AccountID: cmd.Account}, workloads.many)
}
