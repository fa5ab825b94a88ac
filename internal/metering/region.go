package metering

import "regexp"

// Region is the catalogue's id of an AWS region name. Zero is no region.
type Region uint8

// RegionInfo is one region that signatures may name.
type RegionInfo struct {
	ID      Region
	Name    string // as in a credential scope, such as "us-east-1"
	Enabled bool   // records are taken there; otherwise calls get DisabledApiException
}

// Platform is what a workload runs on.
type Platform uint8

// The platforms that MeterUsage and RegisterUsage know. Their numbers are stored and never change.
const (
	EC2 Platform = 1 + iota
	ECS
	EKS
	AgentCore
)

// Platforms lists the platforms.
var Platforms = []Platform{EC2, ECS, EKS, AgentCore}

var platformNames = [...]string{EC2: "ec2", ECS: "ecs", EKS: "eks", AgentCore: "agentcore"}

func (p Platform) String() string {
	if int(p) < len(platformNames) {
		return platformNames[p]
	}
	return ""
}

// ParsePlatform returns the platform called ec2, ecs, eks or agentcore.
func ParsePlatform(name string) (Platform, bool) {
	for _, p := range Platforms {
		if platformNames[p] == name {
			return p, true
		}
	}
	return 0, false
}

// awsRegion says which operations AWS offers in a region (metering-api 1.6).
type awsRegion struct {
	name string
	does uint8
}

const (
	doesBatch = 1 << iota // what sellers call: BatchMeterUsage, ResolveCustomer
	doesMeter             // MeterUsage on EC2
	doesECS
	doesEKS
)

const (
	everywhere = doesBatch | doesMeter | doesECS
	withEKS    = everywhere | doesEKS
)

// awsRegions are the regions whose names a signature may carry, AWS's own list. A region without a mark is known
// but does not offer the service.
var awsRegions = []awsRegion{
	{"us-east-1", withEKS}, {"us-east-2", withEKS}, {"us-west-1", withEKS}, {"us-west-2", withEKS},
	{"eu-west-1", withEKS}, {"eu-west-2", withEKS}, {"eu-west-3", withEKS}, {"eu-central-1", withEKS}, {"eu-north-1", withEKS},
	{"ap-east-1", withEKS}, {"ap-southeast-1", withEKS}, {"ap-southeast-2", withEKS}, {"ap-northeast-1", withEKS}, {"ap-northeast-2", withEKS},
	{"ap-south-1", withEKS}, {"ca-central-1", withEKS}, {"sa-east-1", withEKS},
	{"af-south-1", everywhere}, {"ap-northeast-3", everywhere}, {"ap-south-2", everywhere}, {"ap-southeast-3", everywhere}, {"ap-southeast-4", everywhere},
	{"eu-central-2", everywhere}, {"eu-south-1", everywhere}, {"eu-south-2", everywhere}, {"il-central-1", everywhere},
	{"me-central-1", everywhere}, {"me-south-1", everywhere},
	{"cn-northwest-1", doesBatch}, {"us-gov-east-1", doesMeter}, {"us-gov-west-1", doesMeter},
	{"cn-north-1", 0}, {"ca-west-1", 0}, {"mx-central-1", 0}, {"ap-east-2", 0}, {"ap-southeast-5", 0}, {"ap-southeast-6", 0}, {"ap-southeast-7", 0},
	{"eusc-de-east-1", 0}, {"us-iso-east-1", 0}, {"us-iso-west-1", 0}, {"us-isob-east-1", 0},
}

// AWSRegions returns AWS's regions for a new catalogue, numbered from 1. Those in which AWS offers any operation of
// the service are enabled.
func AWSRegions() []RegionInfo {
	all := make([]RegionInfo, len(awsRegions))
	for i, r := range awsRegions {
		all[i] = RegionInfo{ID: Region(i + 1), Name: r.name, Enabled: r.does != 0}
	}
	return all
}

// OffAtAWS reports whether the region is one of AWS's in which AWS does not offer the service.
func OffAtAWS(name string) bool {
	for _, r := range awsRegions {
		if r.name == name {
			return r.does == 0
		}
	}
	return false
}

// regionOffers reports whether AWS offers the operation in the region to a caller on the platform (0 for sellers). A
// region that is not one of AWS's offers everything, because the operator of the marketplace added it.
func regionOffers(name string, op Operation, p Platform) bool {
	for _, r := range awsRegions {
		if r.name != name {
			continue
		}
		switch {
		case r.does == 0:
			return true // enabled by the operator against AWS's list
		case op.Info().BySellers:
			return r.does&doesBatch != 0
		case p == ECS:
			return r.does&doesECS != 0
		case p == EKS:
			return r.does&doesEKS != 0
		}
		return r.does&doesMeter != 0
	}
	return true
}

var regionName = regexp.MustCompile(`^[a-z][a-z0-9]*(-[a-z0-9]+)+$`)

// ValidRegionName reports whether name has the form of a region name.
func ValidRegionName(name string) bool { return len(name) <= 32 && regionName.MatchString(name) }
