package adminapi

import "time"

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
	Status string `json:"status" enum:"Active,Inactive"`
}
