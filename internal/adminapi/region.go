package adminapi

// The verbs on regions.
var (
	ListRegions  = verb[Paging, Page[Region]]("GET", "/v1/regions", 200, "List regions")
	CreateRegion = verb[Region, Region]("POST", "/v1/regions", 201, "Add a region")
	ChangeRegion = verb[RegionChange, Region]("PATCH", "/v1/regions/{name}", 200, "Enable or disable a region")
)

// Region is a region that signatures may name.
type Region struct {
	Name    string `json:"name" yaml:"name"`
	Enabled *bool  `json:"enabled,omitempty" yaml:"enabled,omitempty" doc:"records are taken there; true if left out of a new region"`
}

// RegionChange changes a region.
type RegionChange struct {
	Name    string `path:"name" json:"-"`
	Enabled bool   `json:"enabled"`
}
