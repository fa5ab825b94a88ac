package market

import (
	"github.com/meterd/meterd/internal/adminapi"
	"github.com/meterd/meterd/internal/metering"
)

var regionVerbs = []Verb{
	lists(adminapi.ListRegions, Regions),
	changes(adminapi.CreateRegion, CreateRegion),
	changes(adminapi.ChangeRegion, ChangeRegion),
}

const maxRegions = 255 // a region's id is a byte

// CreateRegion adds a region that signatures may name.
func CreateRegion(in adminapi.Region) Act[adminapi.Region] {
	return func(p *Plan) (Find[adminapi.Region], *metering.Error) {
		p.Summary = "create region " + in.Name
		exists, err := p.addRegion(&in)
		if exists {
			err = conflict("name: region %s is there already: change it with: meterd admin region enable or disable", in.Name)
		}
		return regionNamed(in.Name), err
	}
}

func (p *Plan) addRegion(in *adminapi.Region) (exists bool, err *metering.Error) {
	if !metering.ValidRegionName(in.Name) {
		return false, invalid("name: %.40q is not a region name: write one such as us-east-1 or eu-private-1", in.Name)
	}
	if r := p.region(in.Name); r != nil {
		if in.Enabled != nil && *in.Enabled != r.Enabled {
			if *in.Enabled && metering.OffAtAWS(r.Name) {
				p.regions.change(uint32(r.ID)).Enabled = true
				return false, nil
			}
			return true, conflict("enabled: region %s is there with enabled: %t, not %t: change it with: meterd admin region enable or disable", r.Name, r.Enabled, *in.Enabled)
		}
		return true, nil
	}
	id := p.regions.next()
	if id > maxRegions {
		return false, conflict("name: there are %d regions already and there can be no more", maxRegions)
	}
	p.regions.add(metering.RegionInfo{ID: metering.Region(id), Name: in.Name, Enabled: in.Enabled == nil || *in.Enabled})
	p.regionNamed[in.Name] = id
	return false, nil
}

// ChangeRegion says whether records are taken in the region.
func ChangeRegion(in adminapi.RegionChange) Act[adminapi.Region] {
	return func(p *Plan) (Find[adminapi.Region], *metering.Error) {
		p.Summary = "disable region " + in.Name
		if in.Enabled {
			p.Summary = "enable region " + in.Name
		}
		r := p.region(in.Name)
		if r == nil {
			return nil, noRegion("name", in.Name)
		}
		p.regions.change(uint32(r.ID)).Enabled = in.Enabled
		return regionNamed(in.Name), nil
	}
}

func noRegion(field, name string) *metering.Error {
	return notFound("%s: region %.40q is not known: add it with: meterd admin region create", field, name)
}

func regionNamed(name string) Find[adminapi.Region] {
	return func(v *View) (adminapi.Region, *metering.Error) {
		v.open(ForSeller | ForBuyer)
		r := v.RegionNamed(name)
		if r == nil {
			return adminapi.Region{}, noRegion("name", name)
		}
		return regionShape(r), nil
	}
}

func regionShape(r *metering.RegionInfo) adminapi.Region {
	return adminapi.Region{Name: r.Name, Enabled: new(r.Enabled)}
}

// Regions lists the regions that signatures may name.
func Regions(adminapi.Paging) List[adminapi.Region] {
	return listOf(ForSeller|ForBuyer, (*State).Regions, func(_ *View, r *metering.RegionInfo) (adminapi.Region, bool) { return regionShape(r), true })
}
