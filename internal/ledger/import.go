package ledger

import (
	"fmt"

	"github.com/meterd/meterd/internal/adminapi"
	"github.com/meterd/meterd/internal/iam"
	"github.com/meterd/meterd/internal/metering"
)

// Import adds a marketplace as one act: all of it or nothing. Identifiers that are left out are made. What is there
// already, the same as far as the marketplace says, is left alone, so a marketplace can be imported again; what is
// there with a difference is a Conflict. The error names the place, such as buyers[17].agreements[0].product_code.
//
// Everything is checked first, beside the service. Writing then holds up other calls: about 10 seconds for a million
// buyers with an agreement each.
func (l *Ledger) Import(op Operator, m *adminapi.Marketplace) (adminapi.ImportResult, error) {
	var out adminapi.ImportResult
	err := l.act(op, func(p *plan) (err *metering.Error) {
		if out, err = p.addMarketplace(m); err != nil {
			return err
		}
		p.act = fmt.Sprintf("import %d regions, %d sellers, %d products, %d buyers, %d agreements, %d users, %d roles, %d workloads",
			out.Regions, out.Sellers, out.Products, out.Buyers, out.Agreements, out.Users, out.Roles, out.Workloads)
		return nil
	})
	if err != nil {
		return adminapi.ImportResult{}, err
	}
	return out, nil
}

func (p *plan) addMarketplace(m *adminapi.Marketplace) (out adminapi.ImportResult, err *metering.Error) {
	agreements := len(m.Agreements)
	for i := range m.Buyers {
		agreements += len(m.Buyers[i].Agreements)
	}
	p.expect(len(m.Buyers), agreements)
	for _, list := range []struct {
		name  string
		n     int
		added *int
		add   func(i int) (exists bool, err *metering.Error)
	}{
		{"regions", len(m.Regions), &out.Regions, func(i int) (bool, *metering.Error) { return p.addRegion(&m.Regions[i]) }},
		{"sellers", len(m.Sellers), &out.Sellers, func(i int) (bool, *metering.Error) { return p.addSeller(&m.Sellers[i]) }},
		{"products", len(m.Products), &out.Products, func(i int) (bool, *metering.Error) {
			_, exists, err := p.addProduct(&m.Products[i], true)
			return exists, err
		}},
		{"buyers", len(m.Buyers), &out.Buyers, func(i int) (bool, *metering.Error) { return p.addBuyer(&m.Buyers[i], &out.Agreements) }},
		{"agreements", len(m.Agreements), &out.Agreements, func(i int) (bool, *metering.Error) {
			_, exists, err := p.addAgreement(&m.Agreements[i], true)
			return exists, err
		}},
		{"users", len(m.Users), &out.Users, func(i int) (bool, *metering.Error) {
			id, exists, err := p.addPrincipal(iam.User, &m.Users[i])
			if err == nil && !exists && len(m.Users[i].AccessKeys) == 0 {
				var key adminapi.AccessKey
				key, err = p.makeKey(id)
				out.Keys = append(out.Keys, key)
			}
			return exists, err
		}},
		{"roles", len(m.Roles), &out.Roles, func(i int) (bool, *metering.Error) {
			_, exists, err := p.addPrincipal(iam.Role, &m.Roles[i])
			return exists, err
		}},
		{"workloads", len(m.Workloads), &out.Workloads, func(i int) (bool, *metering.Error) {
			id, exists, err := p.addWorkload(&m.Workloads[i])
			if err == nil && exists {
				err = p.sameRole(id, &m.Workloads[i])
			}
			return exists, err
		}},
	} {
		for i := range list.n {
			exists, err := list.add(i)
			if err != nil {
				return out, within(err, "%s[%d].", list.name, i)
			}
			if !exists {
				*list.added++
			}
		}
	}
	return out, nil
}
