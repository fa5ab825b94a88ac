package adminapi

// Region is a region that signatures may name.
type Region struct {
	Name    string `json:"name" yaml:"name"`
	Enabled *bool  `json:"enabled,omitempty" yaml:"enabled,omitempty" doc:"records are taken there; true if left out of a new region"`
}

// RegionChange changes a region.
type RegionChange struct {
	Enabled bool `json:"enabled"`
}
