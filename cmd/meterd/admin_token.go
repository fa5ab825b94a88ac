package main

import (
	"fmt"
	"io"
	"time"

	"github.com/meterd/meterd/internal/adminapi"
)

var tokens = columns[adminapi.Token]{[]string{"id", "product code", "buyer", "issued", "expires", "revoked"}, func(t *adminapi.Token) []string {
	return []string{t.ID, t.ProductCode, t.BuyerAccountID, when(&t.IssuedAt), when(&t.ExpiresAt), yes(t.Revoked)}
}}

type tokenCmd struct {
	Create tokenCreateCmd `cmd:"" verb:"POST /v1/tokens" help:"Issue a registration token, as the marketplace hands one to a buyer, and print it."`
	List   tokenListCmd   `cmd:"" verb:"GET /v1/tokens"`
	Revoke tokenRevokeCmd `cmd:"" verb:"DELETE /v1/tokens/{id}" help:"Make a registration token invalid."`
}

type tokenCreateCmd struct {
	Product  string     `arg:"" help:"Product code."`
	Buyer    string     `arg:"" help:"12 digits, or a customer identifier of the product's seller."`
	IssuedAt *time.Time `placeholder:"TIME" help:"In a sandbox: as if it had been issued then."`
	As       string     `placeholder:"TOKEN" help:"In a sandbox: the token that it shall be; made if not given."`
}

func (cmd *tokenCreateCmd) Run(c *console, a *adminCmd) error {
	return do(c, a, adminapi.CreateToken, adminapi.TokenRequest{ProductCode: cmd.Product, Buyer: cmd.Buyer, IssuedAt: cmd.IssuedAt, RegistrationToken: cmd.As}, func(w io.Writer, t adminapi.Token) error {
		_, err := fmt.Fprintln(w, t.RegistrationToken)
		return err
	})
}

type tokenListCmd struct{}

func (cmd *tokenListCmd) Run(c *console, a *adminCmd) error {
	return list(c, a, adminapi.ListTokens, adminapi.Paging{}, tokens.many)
}

type tokenRevokeCmd struct {
	ID string `arg:"" help:"Id of the registration token, from meterd admin token list."`
}

func (cmd *tokenRevokeCmd) Run(c *console, a *adminCmd) error {
	return do(c, a, adminapi.RevokeToken, adminapi.TokenPath{ID: cmd.ID}, nothing)
}

var adminTokens = columns[adminapi.AdminToken]{[]string{"id", "name", "created"}, func(t *adminapi.AdminToken) []string {
	return []string{t.ID, t.Name, when(&t.CreatedAt)}
}}

type adminTokenCmd struct {
	Create adminTokenCreateCmd `cmd:"" verb:"POST /v1/admin-tokens" help:"Make an admin token and print it, this once."`
	List   adminTokenListCmd   `cmd:"" verb:"GET /v1/admin-tokens" help:"List admin tokens."`
	Delete adminTokenDeleteCmd `cmd:"" verb:"DELETE /v1/admin-tokens/{id}" help:"Delete an admin token, but not the last one."`
}

type adminTokenCreateCmd struct {
	Name string `arg:"" help:"Your word for whose it is."`
}

func (cmd *adminTokenCreateCmd) Run(c *console, a *adminCmd) error {
	return do(c, a, adminapi.CreateAdminToken, adminapi.AdminToken{Name: cmd.Name}, func(w io.Writer, t adminapi.AdminToken) error {
		_, err := fmt.Fprintln(w, t.Token)
		return err
	})
}

type adminTokenListCmd struct{}

func (cmd *adminTokenListCmd) Run(c *console, a *adminCmd) error {
	return list(c, a, adminapi.ListAdminTokens, adminapi.Paging{}, adminTokens.many)
}

type adminTokenDeleteCmd struct {
	ID string `arg:"" help:"Id of the admin token, from meterd admin admin-token list."`
}

func (cmd *adminTokenDeleteCmd) Run(c *console, a *adminCmd) error {
	return do(c, a, adminapi.DeleteAdminToken, adminapi.TokenPath{ID: cmd.ID}, nothing)
}
