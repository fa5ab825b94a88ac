package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/meterd/meterd/internal/adminapi"
	"github.com/meterd/meterd/internal/sandbox"
	"github.com/meterd/meterd/internal/table"
)

// adminCmd administers a running service through its admin API.
type adminCmd struct {
	Endpoint  string `default:"http://127.0.0.1:4881" env:"METERD_ADMIN_ENDPOINT" placeholder:"URL" help:"Admin API of the service."`
	Token     string `env:"METERD_ADMIN_TOKEN" help:"Admin token, not needed for a sandbox on this machine; other users of the machine can see command lines, so prefer the environment."`
	TokenFile string `type:"path" env:"METERD_ADMIN_TOKEN_FILE" placeholder:"FILE" help:"File that holds the admin token."`
	CAFile    string `name:"ca-file" type:"path" env:"METERD_ADMIN_CA_FILE" placeholder:"FILE" help:"Certificates of authorities to trust beside the system's, PEM; for a service whose certificate is from one of your own."`
	Output    string `default:"table" enum:"table,json,csv" short:"o" help:"table, json, or csv (usage only)."`

	Seller     sellerCmd     `cmd:"" help:"Accounts that publish products."`
	Buyer      buyerCmd      `cmd:"" help:"Accounts that buy them."`
	Product    productCmd    `cmd:"" help:"Products, their dimensions and public keys."`
	Agreement  agreementCmd  `cmd:"" help:"Agreements and their licences."`
	User       principalCmd  `cmd:"" help:"Users, who sign with access keys."`
	Role       principalCmd  `cmd:"" help:"Roles, whose sessions workloads sign with."`
	Key        keyCmd        `cmd:"" help:"Access keys of users."`
	Workload   workloadCmd   `cmd:"" help:"Instances, tasks, pods and runtimes, and their credentials."`
	Tokens     tokenCmd      `cmd:"" name:"token" help:"Registration tokens."`
	AdminToken adminTokenCmd `cmd:"" help:"Bearer tokens of the admin API."`
	Region     regionCmd     `cmd:"" help:"Regions that signatures may name."`
	Import     importCmd     `cmd:"" help:"Import a marketplace file, all of it or nothing."`
	Usage      usageCmd      `cmd:"" help:"List usage records, or sum them up."`
	Call       callCmd       `cmd:"" help:"Show the audit of a call."`
	Clock      clockCmd      `cmd:"" help:"Read the ledger clock, and move that of a sandbox."`
}

// client returns the client that the flags describe. Without a token it is one of a sandbox on this machine, and standard
// error says so; nothing else is administered without one.
func (a *adminCmd) client(c *console) (*adminapi.Client, error) {
	address, err := checkURL(a.Endpoint)
	if err != nil {
		return nil, fmt.Errorf("--endpoint: %w", err)
	}
	client := &http.Client{}
	if a.CAFile != "" {
		if client.Transport, err = trusting(a.CAFile); err != nil {
			return nil, fmt.Errorf("--ca-file: %w", err)
		}
	}
	token, err := a.token()
	if err != nil {
		return nil, err
	}
	if token == "" {
		if !loopback(net.JoinHostPort(address.Hostname(), "0")) {
			return nil, fmt.Errorf("there is no admin token, and only a sandbox on this machine is administered without one; %s", giveToken)
		}
		switch is, err := adminapi.IsSandbox(c.ctx, a.Endpoint, client); {
		case err != nil:
			return nil, a.failed(err)
		case !is:
			return nil, fmt.Errorf("there is no admin token, and the service at %s is no sandbox; %s", a.Endpoint, giveToken)
		}
		token = sandbox.AdminToken
		fmt.Fprintf(c.stderr, "meterd: no admin token was given; taking the published one for the sandbox at %s\n", a.Endpoint)
	}
	api := adminapi.New(a.Endpoint, token)
	api.HTTPClient = client
	return api, nil
}

const giveToken = "set METERD_ADMIN_TOKEN, or give --token-file; meterd init prints the first one"

// token returns the token that the flags give, or "".
func (a *adminCmd) token() (string, error) {
	token, flag := a.Token, "--token"
	if a.TokenFile != "" {
		if token != "" {
			return "", errors.New("--token and --token-file exclude each other; give one of them")
		}
		flag = "--token-file"
		b, err := readFile(a.TokenFile, mostKey)
		if err != nil {
			return "", fmt.Errorf("--token-file: %w", err)
		}
		if token = strings.TrimSpace(string(b)); token == "" {
			return "", fmt.Errorf("--token-file: %s holds no token", a.TokenFile)
		}
	}
	if strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", fmt.Errorf("%s: there are characters in it that no admin token has; give it as it was printed", flag)
	}
	return token, nil
}

// trusting returns a transport that trusts the authorities of the file beside the system's.
func trusting(file string) (*http.Transport, error) {
	text, err := readFile(file, mostCertificate)
	if err != nil {
		return nil, err
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s holds no certificate in PEM, -----BEGIN CERTIFICATE-----", file)
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	return transport, nil
}

// ask calls the admin API and shows the answer: as JSON, or with show.
func ask[T any](c *console, a *adminCmd, call func(context.Context, *adminapi.Client) (T, error), show func(io.Writer, T) error) error {
	if a.Output == "csv" {
		return errors.New("--output csv is for meterd admin usage only; take table or json")
	}
	client, err := a.client(c)
	if err != nil {
		return err
	}
	answer, err := call(c.ctx, client)
	if err != nil {
		return a.failed(err)
	}
	if a.Output == "json" {
		e := json.NewEncoder(c.stdout)
		e.SetEscapeHTML(false)
		e.SetIndent("", "  ")
		return e.Encode(answer)
	}
	return show(c.stdout, answer)
}

// failed says what to do when the service cannot be reached.
func (a *adminCmd) failed(err error) error {
	var request *url.Error
	if !errors.As(err, &request) {
		return err
	}
	err = unreached(err, a.Endpoint)
	var dial *net.OpError
	var unknown x509.UnknownAuthorityError
	var noTLS tls.RecordHeaderError
	switch {
	case errors.As(err, &dial) && dial.Op == "dial":
		return fmt.Errorf("%w; is the service running? --endpoint says where", err)
	case errors.As(err, &unknown):
		return fmt.Errorf("%w; --ca-file names the certificate of the authority", err)
	case errors.As(err, &noTLS) || errors.Is(err, http.ErrSchemeMismatch):
		return fmt.Errorf("%w; --endpoint must begin with http://", err)
	}
	return err
}

// do asks for a verb, and shows the answer.
func do[In, Out any](c *console, a *adminCmd, verb adminapi.Verb[In, Out], in In, show func(io.Writer, Out) error) error {
	return ask(c, a, func(ctx context.Context, api *adminapi.Client) (Out, error) { return verb.Do(ctx, api, in) }, show)
}

// list is do for a whole list.
func list[In, T any, P adminapi.Paged[In]](c *console, a *adminCmd, verb adminapi.Verb[In, adminapi.Page[T]], in In, show func(io.Writer, adminapi.Page[T]) error) error {
	return ask(c, a, func(ctx context.Context, api *adminapi.Client) (adminapi.Page[T], error) {
		return adminapi.All[In, T, P](ctx, api, verb, in)
	}, show)
}

// nothing shows the answer of a verb that has none.
func nothing(io.Writer, adminapi.None) error { return nil }

// columns are what a table shows of a thing.
type columns[T any] struct {
	header []string
	row    func(*T) []string
}

func (t columns[T]) one(w io.Writer, v T) error { return t.many(w, adminapi.Page[T]{Items: []T{v}}) }

func (t columns[T]) many(w io.Writer, p adminapi.Page[T]) error {
	rows := make([][]string, len(p.Items))
	for i := range p.Items {
		rows[i] = t.row(&p.Items[i])
	}
	return table.Text(w, t.header, rows)
}

func when(t *time.Time) string {
	if t == nil {
		return "-"
	}
	return t.UTC().Format("2006-01-02T15:04:05Z")
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

var sellers = columns[adminapi.Seller]{[]string{"account", "name"}, func(s *adminapi.Seller) []string { return []string{s.AccountID, s.Name} }}

type sellerCmd struct {
	Create sellerCreateCmd `cmd:"" help:"Make an account a seller."`
	List   sellerListCmd   `cmd:"" help:"List sellers."`
	Get    sellerGetCmd    `cmd:"" help:"Show a seller."`
}

type sellerCreateCmd struct {
	Account string `arg:"" help:"12 digits."`
	Name    string `help:"Your word for the seller."`
}

func (cmd *sellerCreateCmd) Run(c *console, a *adminCmd) error {
	return do(c, a, adminapi.CreateSeller, adminapi.Seller{AccountID: cmd.Account, Name: cmd.Name}, sellers.one)
}

type sellerListCmd struct{}

func (cmd *sellerListCmd) Run(c *console, a *adminCmd) error {
	return list(c, a, adminapi.ListSellers, adminapi.Paging{}, sellers.many)
}

type sellerGetCmd struct {
	Account string `arg:"" help:"12 digits."`
}

func (cmd *sellerGetCmd) Run(c *console, a *adminCmd) error {
	return do(c, a, adminapi.GetSeller, adminapi.AccountPath{AccountID: cmd.Account}, sellers.one)
}

var buyers = columns[adminapi.Buyer]{[]string{"account", "name", "suspended", "customer identifiers"}, func(b *adminapi.Buyer) []string {
	var known []string
	for _, i := range b.Identifiers {
		known = append(known, i.SellerAccountID+"="+i.CustomerIdentifier)
	}
	return []string{b.AccountID, b.Name, yes(b.Suspended), strings.Join(known, " ")}
}}

type buyerCmd struct {
	Create  buyerCreateCmd  `cmd:"" help:"Make an account a buyer."`
	List    buyerListCmd    `cmd:"" help:"List buyers."`
	Get     buyerGetCmd     `cmd:"" help:"Show a buyer."`
	Suspend buyerSuspendCmd `cmd:"" help:"Suspend a buyer: it is not subscribed to anything."`
	Resume  buyerResumeCmd  `cmd:"" help:"End a buyer's suspension."`
}

type buyerCreateCmd struct {
	Account string `arg:"" help:"12 digits."`
	Name    string `help:"Your word for the buyer."`
}

func (cmd *buyerCreateCmd) Run(c *console, a *adminCmd) error {
	return do(c, a, adminapi.CreateBuyer, adminapi.Buyer{AccountID: cmd.Account, Name: cmd.Name}, buyers.one)
}

type buyerListCmd struct{}

func (cmd *buyerListCmd) Run(c *console, a *adminCmd) error {
	return list(c, a, adminapi.ListBuyers, adminapi.Paging{}, buyers.many)
}

type buyerGetCmd struct {
	Account string `arg:"" help:"12 digits."`
}

func (cmd *buyerGetCmd) Run(c *console, a *adminCmd) error {
	return do(c, a, adminapi.GetBuyer, adminapi.AccountPath{AccountID: cmd.Account}, buyers.one)
}

type buyerSuspendCmd struct {
	Account string `arg:"" help:"12 digits."`
}

func (cmd *buyerSuspendCmd) Run(c *console, a *adminCmd) error {
	return suspend(c, a, cmd.Account, true)
}

type buyerResumeCmd struct {
	Account string `arg:"" help:"12 digits."`
}

func (cmd *buyerResumeCmd) Run(c *console, a *adminCmd) error {
	return suspend(c, a, cmd.Account, false)
}

func suspend(c *console, a *adminCmd, account string, suspended bool) error {
	return do(c, a, adminapi.ChangeBuyer, adminapi.BuyerChange{AccountID: account, Suspended: &suspended}, buyers.one)
}

var products = columns[adminapi.Product]{[]string{"product code", "product id", "seller", "type", "integration", "dimensions", "title"}, func(p *adminapi.Product) []string {
	return []string{p.ProductCode, p.ProductID, p.SellerAccountID, p.Type, p.Integration, strings.Join(p.Dimensions, " "), p.Title}
}}

type productCmd struct {
	Create    productCreateCmd    `cmd:"" help:"Publish a product."`
	List      productListCmd      `cmd:"" help:"List products."`
	Get       productGetCmd       `cmd:"" help:"Show a product."`
	Dimension productDimensionCmd `cmd:"" help:"Add a dimension to a product. There is no way to remove one."`
	Keys      productKeysCmd      `cmd:"" help:"List the versions of a product's public key."`
	RotateKey productRotateCmd    `cmd:"" help:"Make the next version of a product's public key."`
	ExpireKey productExpireCmd    `cmd:"" help:"Mark a version of a product's public key as replaced."`
}

type productCreateCmd struct {
	Seller      string   `required:"" placeholder:"ACCOUNT" help:"12 digits."`
	Type        string   `required:"" enum:"saas,container,ami" help:"saas, container or ami."`
	Code        string   `help:"Product code; made if not given."`
	ID          string   `name:"id" placeholder:"prod-…" help:"Product id; made if not given."`
	Title       string   `help:"Title."`
	Integration string   `help:"legacy, or concurrent (LicenseArn only); concurrent if not given for saas, legacy for the others."`
	Dimension   []string `sep:"none" placeholder:"NAME" help:"API name of a dimension. Repeatable."`
	Region      []string `placeholder:"NAME" help:"Where it may be metered; everywhere if not given. Repeatable."`
}

func (cmd *productCreateCmd) Run(c *console, a *adminCmd) error {
	return do(c, a, adminapi.CreateProduct, adminapi.Product{SellerAccountID: cmd.Seller, Type: cmd.Type, ProductCode: cmd.Code, ProductID: cmd.ID, Title: cmd.Title,
		Integration: cmd.Integration, Dimensions: cmd.Dimension, Regions: cmd.Region}, products.one)
}

type productListCmd struct {
	Seller string `placeholder:"ACCOUNT" help:"Of this seller only."`
}

func (cmd *productListCmd) Run(c *console, a *adminCmd) error {
	return list(c, a, adminapi.ListProducts, adminapi.ProductPaging{SellerAccountID: cmd.Seller}, products.many)
}

type productGetCmd struct {
	Code string `arg:"" help:"Product code."`
}

func (cmd *productGetCmd) Run(c *console, a *adminCmd) error {
	return do(c, a, adminapi.GetProduct, adminapi.ProductPath{ProductCode: cmd.Code}, products.one)
}

type productDimensionCmd struct {
	Code string `arg:"" help:"Product code."`
	Name string `arg:"" help:"API name of the dimension."`
}

func (cmd *productDimensionCmd) Run(c *console, a *adminCmd) error {
	return do(c, a, adminapi.AddDimension, adminapi.NewDimension{ProductCode: cmd.Code, Dimension: cmd.Name}, products.one)
}

// keys shows public keys: what can be typed in a table, and the keys themselves below.
func keys(w io.Writer, p adminapi.Page[adminapi.PublicKey]) error {
	shown := columns[adminapi.PublicKey]{[]string{"version", "expired", "created", "replaced"}, func(k *adminapi.PublicKey) []string {
		return []string{strconv.Itoa(int(k.Version)), yes(k.Expired), when(k.CreatedAt), when(k.RotatedAt)}
	}}
	if err := shown.many(w, p); err != nil {
		return err
	}
	for _, k := range p.Items {
		if _, err := fmt.Fprintf(w, "\nversion %d\n%s", k.Version, k.PEM); err != nil {
			return err
		}
	}
	return nil
}

func key(w io.Writer, k adminapi.PublicKey) error {
	return keys(w, adminapi.Page[adminapi.PublicKey]{Items: []adminapi.PublicKey{k}})
}

type productKeysCmd struct {
	Code string `arg:"" help:"Product code."`
}

func (cmd *productKeysCmd) Run(c *console, a *adminCmd) error {
	return do(c, a, adminapi.ListPublicKeys, adminapi.ProductPath{ProductCode: cmd.Code}, keys)
}

type productRotateCmd struct {
	Code string `arg:"" help:"Product code."`
}

func (cmd *productRotateCmd) Run(c *console, a *adminCmd) error {
	return do(c, a, adminapi.RotatePublicKey, adminapi.ProductPath{ProductCode: cmd.Code}, key)
}

type productExpireCmd struct {
	Code    string `arg:"" help:"Product code."`
	Version int32  `arg:"" help:"Version of the public key."`
}

func (cmd *productExpireCmd) Run(c *console, a *adminCmd) error {
	return do(c, a, adminapi.ExpirePublicKey, adminapi.PublicKeyPath{ProductCode: cmd.Code, Version: cmd.Version}, key)
}

var agreements = columns[adminapi.Agreement]{[]string{"agreement", "product code", "buyer", "customer identifier", "status", "start", "end", "licence"}, func(a *adminapi.Agreement) []string {
	return []string{a.AgreementID, a.ProductCode, a.BuyerAccountID, a.CustomerIdentifier, a.Status, when(a.StartTime), when(a.EndTime), a.LicenseARN}
}}

type agreementCmd struct {
	Create agreementCreateCmd `cmd:"" help:"Make an agreement, and the licence that comes with it."`
	List   agreementListCmd   `cmd:"" help:"List agreements."`
	Get    agreementGetCmd    `cmd:"" help:"Show an agreement."`
	Cancel agreementCancelCmd `cmd:"" help:"Let an agreement begin to end; an hour later it has ended."`
	End    agreementEndCmd    `cmd:"" help:"End an agreement at once."`
}

type agreementCreateCmd struct {
	Product            string     `arg:"" help:"Product code."`
	Buyer              string     `arg:"" help:"12 digits."`
	ID                 string     `name:"id" placeholder:"agmt-…" help:"Agreement id; made if not given."`
	LicenseARN         string     `name:"license-arn" placeholder:"ARN" help:"Licence ARN; made if not given."`
	CustomerIdentifier string     `placeholder:"ID" help:"How the seller's products know the buyer; made if not given."`
	Start              *time.Time `placeholder:"TIME" help:"When it starts, such as 2026-11-23T14:00:00Z; now if not given."`
	Ending             *time.Time `placeholder:"TIME" help:"When it begins to end."`
	End                *time.Time `placeholder:"TIME" help:"When it has ended; an hour after --ending if not given."`
}

func (cmd *agreementCreateCmd) Run(c *console, a *adminCmd) error {
	return do(c, a, adminapi.CreateAgreement, adminapi.Agreement{ProductCode: cmd.Product, BuyerAccountID: cmd.Buyer, AgreementID: cmd.ID, LicenseARN: cmd.LicenseARN,
		CustomerIdentifier: cmd.CustomerIdentifier, StartTime: cmd.Start, EndingTime: cmd.Ending, EndTime: cmd.End}, agreements.one)
}

type agreementListCmd struct {
	Product string `placeholder:"CODE" help:"For this product only."`
	Buyer   string `placeholder:"ACCOUNT" help:"Of this buyer only."`
	Status  string `help:"pending, active, ending or ended."`
}

func (cmd *agreementListCmd) Run(c *console, a *adminCmd) error {
	filter := adminapi.AgreementFilter{ProductCode: cmd.Product, BuyerAccountID: cmd.Buyer, Status: cmd.Status}
	return list(c, a, adminapi.ListAgreements, adminapi.AgreementPaging{AgreementFilter: filter}, agreements.many)
}

type agreementGetCmd struct {
	ID string `arg:"" help:"Agreement id."`
}

func (cmd *agreementGetCmd) Run(c *console, a *adminCmd) error {
	return do(c, a, adminapi.GetAgreement, adminapi.AgreementPath{AgreementID: cmd.ID}, agreements.one)
}

type agreementCancelCmd struct {
	ID string     `arg:"" help:"Agreement id."`
	At *time.Time `placeholder:"TIME" help:"When it begins to end; now if not given."`
}

func (cmd *agreementCancelCmd) Run(c *console, a *adminCmd) error {
	return do(c, a, adminapi.CancelAgreement, adminapi.Cancellation{AgreementID: cmd.ID, At: cmd.At}, agreements.one)
}

type agreementEndCmd struct {
	ID string `arg:"" help:"Agreement id."`
}

func (cmd *agreementEndCmd) Run(c *console, a *adminCmd) error {
	return do(c, a, adminapi.EndAgreement, adminapi.AgreementPath{AgreementID: cmd.ID}, agreements.one)
}

var principals = columns[adminapi.Principal]{[]string{"account", "name", "allow", "deny", "access keys"}, func(p *adminapi.Principal) []string {
	var keys []string
	for _, k := range p.AccessKeys {
		keys = append(keys, k.AccessKeyID+"="+k.Status)
	}
	return []string{p.AccountID, p.Name, strings.Join(p.Allow, " "), strings.Join(p.Deny, " "), strings.Join(keys, " ")}
}}

// principalCmd administers users or roles.
type principalCmd struct {
	Create      principalCreateCmd      `cmd:"" help:"Make one."`
	List        principalListCmd        `cmd:"" help:"List them."`
	Get         principalGetCmd         `cmd:"" help:"Show one."`
	Permissions principalPermissionsCmd `cmd:"" help:"Replace its permissions, also in sessions that are open."`
	Delete      principalDeleteCmd      `cmd:"" help:"Delete it, with its access keys or sessions."`
}

// verbs returns those on users or on roles, whichever the command is about.
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
	Allow []string `placeholder:"ACTION" help:"Actions such as aws-marketplace:BatchMeterUsage, wildcards, or names of AWS managed policies. Repeatable."`
	Deny  []string `placeholder:"ACTION" help:"The same; wins over --allow. Repeatable."`
}

type principalCreateCmd struct {
	principalName
	permissionFlags
}

func (cmd *principalCreateCmd) Run(c *console, a *adminCmd, p *principalCmd) error {
	return do(c, a, a.verbs(p).Create, adminapi.Principal{AccountID: cmd.Account, Name: cmd.Name, Allow: cmd.Allow, Deny: cmd.Deny}, principals.one)
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
	return do(c, a, a.verbs(p).PutPermissions, adminapi.Permissions{AccountID: cmd.Account, Name: cmd.Name, Allow: cmd.Allow, Deny: cmd.Deny}, principals.one)
}

type principalDeleteCmd struct{ principalName }

func (cmd *principalDeleteCmd) Run(c *console, a *adminCmd, p *principalCmd) error {
	return do(c, a, a.verbs(p).Delete, adminapi.PrincipalPath{AccountID: cmd.Account, Name: cmd.Name}, nothing)
}

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
	Create     keyCreateCmd     `cmd:"" help:"Make an access key for a user; its secret is shown this once."`
	List       keyListCmd       `cmd:"" help:"List access keys, without their secrets."`
	Activate   keyActivateCmd   `cmd:"" help:"Activate an access key."`
	Deactivate keyDeactivateCmd `cmd:"" help:"Deactivate an access key."`
	Delete     keyDeleteCmd     `cmd:"" help:"Delete an access key."`
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

var workloads = columns[adminapi.Workload]{[]string{"account", "platform", "resource id", "region", "role"}, func(w *adminapi.Workload) []string {
	return []string{w.AccountID, w.Platform, w.ResourceID, w.Region, w.Role}
}}

type workloadCmd struct {
	Create workloadCreateCmd `cmd:"" help:"Get credentials for a workload, which is made if it is new."`
	List   workloadListCmd   `cmd:"" help:"List workloads."`
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

var tokens = columns[adminapi.Token]{[]string{"id", "product code", "buyer", "issued", "expires", "revoked"}, func(t *adminapi.Token) []string {
	return []string{t.ID, t.ProductCode, t.BuyerAccountID, when(&t.IssuedAt), when(&t.ExpiresAt), yes(t.Revoked)}
}}

type tokenCmd struct {
	Create tokenCreateCmd `cmd:"" help:"Issue a registration token, as the marketplace hands one to a buyer, and print it."`
	List   tokenListCmd   `cmd:"" help:"List registration tokens."`
	Revoke tokenRevokeCmd `cmd:"" help:"Make a registration token invalid."`
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
	Create adminTokenCreateCmd `cmd:"" help:"Make an admin token and print it, this once."`
	List   adminTokenListCmd   `cmd:"" help:"List admin tokens."`
	Delete adminTokenDeleteCmd `cmd:"" help:"Delete an admin token, but not the last one."`
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

var regions = columns[adminapi.Region]{[]string{"region", "enabled"}, func(r *adminapi.Region) []string {
	return []string{r.Name, yes(r.Enabled != nil && *r.Enabled)}
}}

type regionCmd struct {
	Create  regionCreateCmd  `cmd:"" help:"Add a region."`
	List    regionListCmd    `cmd:"" help:"List regions."`
	Enable  regionEnableCmd  `cmd:"" help:"Take records in a region."`
	Disable regionDisableCmd `cmd:"" help:"Take no records in a region."`
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

type importCmd struct {
	File string `arg:"" help:"Marketplace file: .yaml, .yml or .json, or - for standard input."`
}

func (cmd *importCmd) Run(c *console, a *adminCmd) error {
	return ask(c, a, func(ctx context.Context, api *adminapi.Client) (out adminapi.ImportResult, err error) {
		file, err := openMarketplace(cmd.File, c.stdin)
		if err != nil {
			return out, err
		}
		defer file.Close()
		out, err = adminapi.Import.Do(ctx, api, adminapi.File{Form: file.form, Content: file})
		var refused *adminapi.Problem
		if errors.As(err, &refused) && len(refused.Errors) > 0 {
			err = file.faulty(refused.Errors)
		}
		return out, err
	}, func(w io.Writer, r adminapi.ImportResult) error {
		shown := columns[adminapi.ImportResult]{[]string{"regions", "sellers", "products", "buyers", "agreements", "users", "roles", "workloads", "tokens"}, func(r *adminapi.ImportResult) []string {
			var counts []string
			for _, n := range []int{r.Regions, r.Sellers, r.Products, r.Buyers, r.Agreements, r.Users, r.Roles, r.Workloads, r.Tokens} {
				counts = append(counts, strconv.Itoa(n))
			}
			return counts
		}}
		if err := shown.one(w, r); err != nil || len(r.Keys) == 0 {
			return err
		}
		fmt.Fprintln(w)
		return accessKeys.many(w, adminapi.Page[adminapi.AccessKey]{Items: r.Keys})
	})
}

// marketplaceFile is a marketplace file that is being read.
type marketplaceFile struct {
	io.ReadCloser
	name string
	form adminapi.Form
}

// openMarketplace opens a marketplace file, or standard input for "-". It tells YAML from JSON by the file's name, or
// by how standard input begins.
func openMarketplace(name string, stdin io.Reader) (*marketplaceFile, error) {
	if name == "-" {
		b := bufio.NewReader(stdin)
		form := adminapi.YAML
		for n := 1; ; n++ {
			text, err := b.Peek(n)
			if text = bytes.TrimSpace(text); len(text) > 0 && text[0] == '{' {
				form = adminapi.JSON
			}
			if len(text) > 0 || err != nil {
				return &marketplaceFile{io.NopCloser(b), name, form}, nil //nolint:nilerr // who reads it meets the error again
			}
		}
	}
	var form adminapi.Form
	switch filepath.Ext(name) {
	case ".json":
		form = adminapi.JSON
	case ".yaml", ".yml":
		form = adminapi.YAML
	default:
		if info, err := os.Stat(name); err == nil && info.IsDir() {
			return nil, fmt.Errorf("%s is a directory, and a marketplace file is wanted: .yaml, .yml or .json", name)
		}
		return nil, fmt.Errorf("%s is neither .yaml, .yml nor .json; rename it, or send it through standard input with -", name)
	}
	in, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	return &marketplaceFile{in, name, form}, nil
}

// faulty lists what is wrong with the file. It looks for lines that are not known yet, as the service's are not of a
// large file.
func (f *marketplaceFile) faulty(faults adminapi.Faults) error {
	if f.name != "-" && slices.ContainsFunc(faults, func(f adminapi.Fault) bool { return f.Line == 0 }) {
		if in, err := os.Open(f.name); err == nil {
			adminapi.Locate(f.form, in, faults)
			in.Close()
		}
	}
	name := f.name
	if name == "-" {
		name = "standard input"
	}
	if len(faults) == 1 {
		return fmt.Errorf("%s: %v", name, faults[0])
	}
	more := ""
	if len(faults) >= adminapi.MaxFaults {
		more = ", and perhaps more"
	}
	text := fmt.Sprintf("%s: %d things are wrong%s, and nothing was imported:", name, len(faults), more)
	for _, fault := range faults {
		text += "\n  " + fault.String()
	}
	return errors.New(text)
}

type usageCmd struct {
	By                 []string  `placeholder:"WHAT" help:"Sum up, for each product_code, license_arn, customer_aws_account_id, customer_identifier, dimension, hour, region or workload. Repeatable, or separated by commas."`
	Product            string    `placeholder:"CODE" help:"Of this product only."`
	LicenseARN         string    `name:"license-arn" placeholder:"ARN" help:"On this licence only."`
	Account            string    `help:"Of this buyer only, 12 digits."`
	CustomerIdentifier string    `placeholder:"ID" help:"Of this buyer only."`
	Dimension          string    `placeholder:"NAME" help:"Of this dimension only."`
	Region             string    `placeholder:"NAME" help:"In this region only."`
	Workload           string    `placeholder:"ID" help:"Of this resource only."`
	From               time.Time `placeholder:"TIME" help:"Stamped at or after this time, such as 2026-11-23T14:00:00Z."`
	To                 time.Time `placeholder:"TIME" help:"Stamped before this time."`
	Limit              int       `default:"1000" help:"How many records to list; 0 lists all."`
}

func (cmd *usageCmd) Run(c *console, a *adminCmd) error {
	if cmd.Limit < 0 {
		return fmt.Errorf("--limit %d: must be 1 or more, or 0 for all", cmd.Limit)
	}
	client, err := a.client(c)
	if err != nil {
		return err
	}
	filter := adminapi.UsageFilter{ProductCode: cmd.Product, LicenseARN: cmd.LicenseARN, CustomerAWSAccountID: cmd.Account, CustomerIdentifier: cmd.CustomerIdentifier,
		Dimension: cmd.Dimension, Region: cmd.Region, Workload: cmd.Workload, From: cmd.From, To: cmd.To}
	if len(cmd.By) > 0 {
		sums, err := adminapi.SumUsage.Do(c.ctx, client, adminapi.UsageGrouping{UsageFilter: filter, By: cmd.By})
		if err != nil {
			return a.failed(err)
		}
		sums.By = cmd.By
		header, rows, err := sums.Table()
		if err != nil {
			return err
		}
		return table.Write(c.stdout, a.Output, header, rows, sums)
	}
	out := adminapi.UsagePage{Records: []adminapi.UsageRecord{}}
	list := adminapi.Paging{}
	for {
		list.Limit = 1000
		if cmd.Limit > 0 {
			list.Limit = min(1000, cmd.Limit-len(out.Records))
		}
		page, err := adminapi.ListUsage.Do(c.ctx, client, adminapi.UsagePaging{UsageFilter: filter, Paging: list})
		if err != nil {
			return a.failed(err)
		}
		out.Records = append(out.Records, page.Records...)
		if page.Next == "" {
			break
		}
		if list.After = page.Next; cmd.Limit > 0 && len(out.Records) >= cmd.Limit {
			fmt.Fprintf(c.stderr, "meterd: there are more than %d records; --limit 0 lists all\n", cmd.Limit)
			break
		}
	}
	header, rows, err := out.Table()
	if err != nil {
		return err
	}
	return table.Write(c.stdout, a.Output, header, rows, out)
}

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

type clockCmd struct {
	Get     clockGetCmd     `cmd:"" default:"1" help:"Read the clock."`
	Set     clockSetCmd     `cmd:"" help:"Set the clock to a time."`
	Advance clockAdvanceCmd `cmd:"" help:"Move the clock by a duration such as 90m, or -- -1h."`
	Freeze  clockFreezeCmd  `cmd:"" help:"Stop the clock."`
	Run     clockRunCmd     `cmd:"" help:"Let the clock run on from where it is."`
	Reset   clockResetCmd   `cmd:"" help:"Follow the wall clock again."`
	Accept  clockAcceptCmd  `cmd:"" help:"Say that the clock of a production ledger is right, though it has jumped ahead or ledger time is ahead of it."`
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
