package main

import (
	"fmt"
	"strings"

	"github.com/meterd/meterd/internal/adminapi"
)

var principals = columns[adminapi.Principal]{[]string{"account", "name", "allow", "deny", "policy", "access keys"}, func(p *adminapi.Principal) []string {
	var keys []string
	document := ""
	if p.Policy != "" {
		document = "yes"
	}
	for _, k := range p.AccessKeys {
		keys = append(keys, k.AccessKeyID+"="+k.Status)
	}
	return []string{p.AccountID, p.Name, strings.Join(p.Allow, " "), strings.Join(p.Deny, " "), document, strings.Join(keys, " ")}
}}

// principalCmd administers users or roles.
type principalCmd struct {
	Create      principalCreateCmd      `cmd:"" verb:"POST ."`
	List        principalListCmd        `cmd:"" verb:"GET ."`
	Get         principalGetCmd         `cmd:"" verb:"GET ./{account_id}/{name}"`
	Permissions principalPermissionsCmd `cmd:"" verb:"PUT ./{account_id}/{name}/permissions" help:"Replace its permissions, also in sessions that are open."`
	Delete      principalDeleteCmd      `cmd:"" verb:"DELETE ./{account_id}/{name}" help:"Delete it, with its access keys or sessions."`
}

// verbs returns the verbs on users or on roles, whichever the command is about.
func (a *adminCmd) verbs(p *principalCmd) adminapi.Principals {
	if p == &a.User {
		return adminapi.Users
	}
	return adminapi.Roles
}

type principalName struct {
	Account string `arg:"" help:"12 digits."`
	Name    string `arg:"" help:"Its name."`
}

type permissionFlags struct {
	Allow  []string `placeholder:"ACTION" help:"Actions such as aws-marketplace:BatchMeterUsage, wildcards, or names of AWS managed policies. Repeatable."`
	Deny   []string `placeholder:"ACTION" help:"The same; wins over --allow. Repeatable."`
	Policy string   `type:"path" placeholder:"FILE" help:"File with a policy document, JSON, that counts beside the lists."`
}

// policy returns the policy document in the file that the flags name, or "" if they name none.
func (f *permissionFlags) policy() (string, error) {
	if f.Policy == "" {
		return "", nil
	}
	text, err := readFile(f.Policy, mostPolicy)
	if err != nil {
		return "", fmt.Errorf("--policy: %w", err)
	}
	if len(strings.TrimSpace(string(text))) == 0 {
		return "", fmt.Errorf("--policy: %s is empty", f.Policy)
	}
	return string(text), nil
}

// mostPolicy is the size in bytes of the largest file with a policy document that is read.
const mostPolicy = 1 << 20

type principalCreateCmd struct {
	principalName
	permissionFlags
}

func (cmd *principalCreateCmd) Run(c *console, a *adminCmd, p *principalCmd) error {
	policy, err := cmd.policy()
	if err != nil {
		return err
	}
	return do(c, a, a.verbs(p).Create, adminapi.Principal{AccountID: cmd.Account, Name: cmd.Name, Allow: cmd.Allow, Deny: cmd.Deny, Policy: policy}, principals.one)
}

type principalListCmd struct {
	Account string `help:"Of this account only."`
}

func (cmd *principalListCmd) Run(c *console, a *adminCmd, p *principalCmd) error {
	return list(c, a, a.verbs(p).List, adminapi.AccountPaging{AccountID: cmd.Account}, principals.many)
}

type principalGetCmd struct{ principalName }

func (cmd *principalGetCmd) Run(c *console, a *adminCmd, p *principalCmd) error {
	return do(c, a, a.verbs(p).Get, adminapi.PrincipalPath{AccountID: cmd.Account, Name: cmd.Name}, principals.one)
}

type principalPermissionsCmd struct {
	principalName
	permissionFlags
}

func (cmd *principalPermissionsCmd) Run(c *console, a *adminCmd, p *principalCmd) error {
	policy, err := cmd.policy()
	if err != nil {
		return err
	}
	return do(c, a, a.verbs(p).PutPermissions, adminapi.Permissions{AccountID: cmd.Account, Name: cmd.Name, Allow: cmd.Allow, Deny: cmd.Deny, Policy: policy}, principals.one)
}

type principalDeleteCmd struct{ principalName }

func (cmd *principalDeleteCmd) Run(c *console, a *adminCmd, p *principalCmd) error {
	return do(c, a, a.verbs(p).Delete, adminapi.PrincipalPath{AccountID: cmd.Account, Name: cmd.Name}, nothing)
}
