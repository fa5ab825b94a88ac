package adminapi

import "time"

// The verbs on workloads.
var (
	ListWorkloads             = verb[AccountPaging, Page[Workload]]("GET", "/v1/workloads", 200, "List workloads")
	CreateWorkloadCredentials = verb[WorkloadRequest, WorkloadCredentials]("POST", "/v1/workloads", 201, "Get credentials for a workload, which is made if it is new")
)

// Workload is an EC2 instance, ECS task, EKS pod or AgentCore runtime of a buyer.
type Workload struct {
	AccountID  string `json:"account_id" yaml:"account_id" doc:"the buyer's 12 digits"`
	Platform   string `json:"platform" yaml:"platform" enum:"ec2,ecs,eks,agentcore"`
	ResourceID string `json:"resource_id" yaml:"resource_id" doc:"such as i-0123456789abcdef0, a task id, a pod name" maxLength:"128"`
	Region     string `json:"region" yaml:"region"`
	Role       string `json:"role,omitempty" yaml:"role,omitempty" doc:"the role whose session it calls with; meterd-workload, made as needed, if left out"`
}

// WorkloadRequest asks for a workload's credentials, and makes the workload if it is new.
type WorkloadRequest struct {
	Workload
	DurationSeconds int64 `json:"duration_seconds,omitempty" doc:"life of the credentials, 900 to 43200; 3600 if left out, in a sandbox for ever"`
}

// WorkloadCredentials are what a workload signs its calls with.
type WorkloadCredentials struct {
	Workload
	AccessKeyID     string     `json:"access_key_id"`
	SecretAccessKey string     `json:"secret_access_key"`
	SessionToken    string     `json:"session_token"`
	ExpiresAt       *time.Time `json:"expires_at,omitempty" doc:"wall clock; absent if they do not expire"`
	Endpoint        string     `json:"endpoint,omitempty" doc:"the AWS endpoint that they are for, as the service knows it; absent behind a proxy"`
}
