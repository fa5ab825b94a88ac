package main

import (
	"context"

	"github.com/meterd/meterd/internal/adminapi"
)

var accessKeys = columns[adminapi.AccessKey]{[]string{"access key id", "secret access key", "status", "user"}, func(k *adminapi.AccessKey) []string {
	secret := k.SecretAccessKey
	if secret == "" {
		secret = "-"
	}
	return []string{k.AccessKeyID, secret, k.Status, k.UserARN}
}}

var listedKeys = columns[adminapi.AccessKey]{[]string{"access key id", "status", "created", "user"}, func(k *adminapi.AccessKey) []string {
	return []string{k.AccessKeyID, k.Status, when(k.CreatedAt), k.UserARN}
}}

type keyCmd struct {
	Create     keyCreateCmd     `cmd:"" verb:"POST /v1/users/{account_id}/{name}/access-keys" help:"Make an access key for a user; its secret is shown this once."`
	List       keyListCmd       `cmd:"" verb:"GET /v1/users" help:"List access keys, without their secrets."`
	Activate   keyActivateCmd   `cmd:"" verb:"PATCH /v1/access-keys/{access_key_id}" help:"Activate an access key."`
	Deactivate keyDeactivateCmd `cmd:"" verb:"PATCH /v1/access-keys/{access_key_id}" help:"Deactivate an access key."`
	Delete     keyDeleteCmd     `cmd:"" verb:"DELETE /v1/access-keys/{access_key_id}"`
}

type keyCreateCmd struct{ principalName }

func (cmd *keyCreateCmd) Run(c *console, a *adminCmd) error {
	return do(c, a, adminapi.CreateAccessKey, adminapi.PrincipalPath{AccountID: cmd.Account, Name: cmd.Name}, accessKeys.one)
}

type keyListCmd struct {
	Account string `placeholder:"ACCOUNT" help:"Of this account's users only, 12 digits."`
	User    string `placeholder:"NAME" help:"Of the users of this name only."`
}

func (cmd *keyListCmd) Run(c *console, a *adminCmd) error {
	return ask(c, a, func(ctx context.Context, api *adminapi.Client) (adminapi.Page[adminapi.AccessKey], error) {
		keys := adminapi.Page[adminapi.AccessKey]{Items: []adminapi.AccessKey{}}
		users, err := adminapi.All(ctx, api, adminapi.Users.List, adminapi.AccountPaging{AccountID: cmd.Account})
		for _, u := range users.Items {
			if cmd.User == "" || cmd.User == u.Name {
				keys.Items = append(keys.Items, u.AccessKeys...)
			}
		}
		return keys, err
	}, listedKeys.many)
}

type keyActivateCmd struct {
	ID string `arg:"" help:"Access key id."`
}

func (cmd *keyActivateCmd) Run(c *console, a *adminCmd) error {
	return setKey(c, a, cmd.ID, adminapi.Active)
}

type keyDeactivateCmd struct {
	ID string `arg:"" help:"Access key id."`
}

func (cmd *keyDeactivateCmd) Run(c *console, a *adminCmd) error {
	return setKey(c, a, cmd.ID, adminapi.Inactive)
}

func setKey(c *console, a *adminCmd, id, status string) error {
	return do(c, a, adminapi.ChangeAccessKey, adminapi.AccessKeyChange{AccessKeyID: id, Status: status}, accessKeys.one)
}

type keyDeleteCmd struct {
	ID string `arg:"" help:"Access key id."`
}

func (cmd *keyDeleteCmd) Run(c *console, a *adminCmd) error {
	return do(c, a, adminapi.DeleteAccessKey, adminapi.AccessKeyPath{AccessKeyID: cmd.ID}, nothing)
}
