package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/meterd/meterd/internal/adminapi"
)

var products = columns[adminapi.Product]{[]string{"product code", "product id", "seller", "type", "integration", "dimensions", "title"}, func(p *adminapi.Product) []string {
	return []string{p.ProductCode, p.ProductID, p.SellerAccountID, p.Type, p.Integration, strings.Join(p.Dimensions, " "), p.Title}
}}

type productCmd struct {
	Create    productCreateCmd    `cmd:"" verb:"POST /v1/products"`
	List      productListCmd      `cmd:"" verb:"GET /v1/products"`
	Get       productGetCmd       `cmd:"" verb:"GET /v1/products/{product_code}"`
	Dimension productDimensionCmd `cmd:"" verb:"POST /v1/products/{product_code}/dimensions" help:"Add a dimension to a product. There is no way to remove one."`
	Keys      productKeysCmd      `cmd:"" verb:"GET /v1/products/{product_code}/public-keys"`
	RotateKey productRotateCmd    `cmd:"" verb:"POST /v1/products/{product_code}/public-keys" help:"Make the next version of a product's public key."`
	ExpireKey productExpireCmd    `cmd:"" verb:"POST /v1/products/{product_code}/public-keys/{version}/expire"`
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
