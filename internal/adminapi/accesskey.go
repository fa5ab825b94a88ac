package adminapi

import "time"

// The verbs on access keys. They are listed with their users.
var (
	CreateAccessKey = verb[PrincipalPath, AccessKey]("POST", "/v1/users/{account_id}/{name}/access-keys", 201, "Make an access key for a user")
	ChangeAccessKey = verb[AccessKeyChange, AccessKey]("PATCH", "/v1/access-keys/{access_key_id}", 200, "Activate or deactivate an access key")
	DeleteAccessKey = verb[AccessKeyPath, None]("DELETE", "/v1/access-keys/{access_key_id}", 204, "Delete an access key")
)

// AccessKey is a user's access key. Its secret is returned once, when it is made.
type AccessKey struct {
	AccessKeyID     string     `json:"access_key_id" yaml:"access_key_id"`
	SecretAccessKey string     `json:"secret_access_key,omitempty" yaml:"secret_access_key,omitempty" doc:"shown once"`
	Status          string     `json:"status,omitempty" yaml:"status,omitempty" enum:"Active,Inactive" doc:"Active if left out"`
	UserARN         string     `json:"user_arn,omitempty" yaml:"-" readOnly:"true" doc:"whose key it is"`
	CreatedAt       *time.Time `json:"created_at,omitempty" yaml:"created_at,omitempty"`
}

// The statuses of an access key, in the words of IAM.
const (
	Active   = "Active"
	Inactive = "Inactive"
)

// AccessKeyChange changes an access key.
type AccessKeyChange struct {
	AccessKeyID string `path:"access_key_id" json:"-"`
	Status      string `json:"status" enum:"Active,Inactive"`
}

// AccessKeyPath names an access key.
type AccessKeyPath struct {
	AccessKeyID string `path:"access_key_id"`
}
