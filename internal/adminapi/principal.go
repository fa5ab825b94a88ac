package adminapi

// Principal is a user or a role.
type Principal struct {
	AccountID  string      `json:"account_id" yaml:"account_id" doc:"12 digits"`
	Name       string      `json:"name" yaml:"name"`
	ARN        string      `json:"arn,omitempty" yaml:"-" readOnly:"true"`
	Allow      []string    `json:"allow,omitempty" yaml:"allow,omitempty" doc:"actions such as aws-marketplace:BatchMeterUsage, wildcards, or names of AWS managed policies"`
	Deny       []string    `json:"deny,omitempty" yaml:"deny,omitempty" doc:"the same; wins over allow"`
	AccessKeys []AccessKey `json:"access_keys,omitempty" yaml:"access_keys,omitempty" doc:"users only"`
}

// Permissions are what a user or role may do.
type Permissions struct {
	Allow []string `json:"allow,omitempty" doc:"actions such as aws-marketplace:BatchMeterUsage, wildcards, or names of AWS managed policies"`
	Deny  []string `json:"deny,omitempty" doc:"the same; wins over allow"`
}
