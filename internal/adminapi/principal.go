package adminapi

// Principals are the verbs on users, or those on roles.
type Principals struct {
	List           Verb[AccountPaging, Page[Principal]]
	Create         Verb[Principal, Principal]
	Get            Verb[PrincipalPath, Principal]
	Delete         Verb[PrincipalPath, None]
	PutPermissions Verb[Permissions, Principal]
}

// The verbs on users and roles. Deleting a user deletes its access keys.
var (
	Users = principals("/v1/users", "user")
	Roles = principals("/v1/roles", "role")
)

func principals(path, kind string) Principals {
	return Principals{
		List:           verb[AccountPaging, Page[Principal]]("GET", path, 200, "List "+kind+"s"),
		Create:         verb[Principal, Principal]("POST", path, 201, "Make a "+kind),
		Get:            verb[PrincipalPath, Principal]("GET", path+"/{account_id}/{name}", 200, "Get a "+kind),
		Delete:         verb[PrincipalPath, None]("DELETE", path+"/{account_id}/{name}", 204, "Delete a "+kind),
		PutPermissions: verb[Permissions, Principal]("PUT", path+"/{account_id}/{name}/permissions", 200, "Replace the permissions of a "+kind),
	}
}

// Principal is a user or a role.
type Principal struct {
	AccountID  string      `json:"account_id" yaml:"account_id" doc:"12 digits"`
	Name       string      `json:"name" yaml:"name"`
	ARN        string      `json:"arn,omitempty" yaml:"-" readOnly:"true"`
	Allow      []string    `json:"allow,omitempty" yaml:"allow,omitempty" doc:"actions such as aws-marketplace:BatchMeterUsage, wildcards, or names of AWS managed policies"`
	Deny       []string    `json:"deny,omitempty" yaml:"deny,omitempty" doc:"the same; wins over allow"`
	Policy     string      `json:"policy,omitempty" yaml:"policy,omitempty" doc:"policy document, JSON in a text, beside the lists"`
	AccessKeys []AccessKey `json:"access_keys,omitempty" yaml:"access_keys,omitempty" doc:"users only"`
}

// Permissions are what a user or role may do.
type Permissions struct {
	AccountID string   `path:"account_id" json:"-" doc:"12 digits"`
	Name      string   `path:"name" json:"-"`
	Allow     []string `json:"allow,omitempty" doc:"actions such as aws-marketplace:BatchMeterUsage, wildcards, or names of AWS managed policies"`
	Deny      []string `json:"deny,omitempty" doc:"the same; wins over allow"`
	Policy    string   `json:"policy,omitempty" doc:"policy document, JSON in a text, beside the lists"`
}

// PrincipalPath names a user or role.
type PrincipalPath struct {
	AccountID string `path:"account_id" doc:"12 digits"`
	Name      string `path:"name"`
}
