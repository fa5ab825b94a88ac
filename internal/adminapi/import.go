package adminapi

import "io"

// Import adds a marketplace, all of it or nothing.
var Import = verb[File, ImportResult]("POST", "/v1/import", 200, "Import a marketplace, all of it or nothing")

// File is a marketplace file. It is sent as it is read.
type File struct {
	Form    Form
	Content io.Reader
}

// Marketplace is a whole marketplace, as in a marketplace file.
type Marketplace struct {
	Regions    []Region    `json:"regions,omitempty" yaml:"regions,omitempty"`
	Sellers    []Seller    `json:"sellers,omitempty" yaml:"sellers,omitempty"`
	Products   []Product   `json:"products,omitempty" yaml:"products,omitempty"`
	Buyers     []Buyer     `json:"buyers,omitempty" yaml:"buyers,omitempty"`
	Agreements []Agreement `json:"agreements,omitempty" yaml:"agreements,omitempty"`
	Users      []Principal `json:"users,omitempty" yaml:"users,omitempty"`
	Roles      []Principal `json:"roles,omitempty" yaml:"roles,omitempty"`
	Workloads  []Workload  `json:"workloads,omitempty" yaml:"workloads,omitempty"`

	Tokens []TokenRequest `json:"tokens,omitempty" yaml:"tokens,omitempty" doc:"sandbox only: registration tokens, each of which must be given"`
}

// ImportResult counts what an import added. Things that were there already, exactly the same, are not counted.
type ImportResult struct {
	Regions    int         `json:"regions"`
	Sellers    int         `json:"sellers"`
	Products   int         `json:"products"`
	Buyers     int         `json:"buyers"`
	Agreements int         `json:"agreements"`
	Users      int         `json:"users"`
	Roles      int         `json:"roles"`
	Workloads  int         `json:"workloads"`
	Tokens     int         `json:"tokens"`
	Keys       []AccessKey `json:"access_keys,omitempty" doc:"access keys that were made for users without keys in the file; shown once"`
}
