package ledger

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/meterd/meterd/internal/adminapi"
	"github.com/meterd/meterd/internal/iam"
	"github.com/meterd/meterd/internal/metering"
)

// Import adds a marketplace as one act: all of it or nothing. Identifiers that are left out are made. What is there
// already, the same as far as the marketplace says, is left alone, so a marketplace can be imported again; what is
// there with a difference is a Conflict.
//
// An error that is [adminapi.Faults] says all that is wrong, each with its place, such as
// buyers[17].agreements[0].product_code; the first of them is a [*metering.Error] too. found is what was found wrong
// when the marketplace was read: with any of it nothing is stored, and the rest is checked.
//
// Everything is checked first, beside the service. Writing then holds up other calls: about 10 seconds for a million
// buyers with an agreement each.
func (l *Ledger) Import(op Operator, m *adminapi.Marketplace, found ...adminapi.Fault) (adminapi.ImportResult, error) {
	var out adminapi.ImportResult
	var refused *refusals
	err := l.act(op, func(p *plan) *metering.Error {
		refused = &refusals{faults: append(adminapi.Faults{}, found...)}
		p.refused = refused
		if out = p.addMarketplace(m); len(refused.faults) > 0 {
			return refused.first()
		}
		p.act = fmt.Sprintf("import %d regions, %d sellers, %d products, %d buyers, %d agreements, %d users, %d roles, %d workloads, %d registration tokens",
			out.Regions, out.Sellers, out.Products, out.Buyers, out.Agreements, out.Users, out.Roles, out.Workloads, out.Tokens)
		return nil
	})
	switch {
	case err != nil && refused != nil && len(refused.faults) > 0 && refused.first().Kind != metering.Internal:
		return adminapi.ImportResult{}, &importError{refused.first(), refused.faults}
	case err != nil:
		return adminapi.ImportResult{}, err
	}
	return out, nil
}

// importError is all that is wrong with a marketplace, of the kind of the first refusal.
type importError struct {
	first  *metering.Error
	faults adminapi.Faults
}

func (e *importError) Error() string { return e.faults.Error() }

func (e *importError) Unwrap() []error { return []error{e.first, e.faults} }

// refusals gather what is wrong with a marketplace while it is planned, so that all of it can be told at once.
type refusals struct {
	faults adminapi.Faults
	kind   *metering.Error // the first that was found in planning
	spoilt map[string]bool // names of things that were refused: that they are missing says nothing new
	list   string          // of which an item is planned now, such as "buyers"
	index  int             // of the item
	wrong  bool            // something of it was refused
}

// errFollows is the refusal of what only lacks something that was refused itself.
var errFollows = notFound("what this belongs to was refused")

// first returns the first refusal, a Validation if all were found in reading.
func (r *refusals) first() *metering.Error {
	if r.kind != nil {
		return r.kind
	}
	return invalid("%s", r.faults[0].String())
}

// leading is the place that a refusal's message begins with, if it does.
var leading = regexp.MustCompile(`^[a-z_]+(?:\[\d+\])?(?:\.[a-z_]+(?:\[\d+\])?)*: `)

func (r *refusals) item() string { return fmt.Sprintf("%s[%d]", r.list, r.index) }

func (r *refusals) add(err *metering.Error) {
	r.wrong = true
	if err == errFollows || len(r.faults) >= adminapi.MaxFaults {
		return
	}
	if r.kind == nil {
		r.kind = within(err, "%s.", r.item())
	}
	f := adminapi.Fault{Place: r.item(), Detail: err.Message}
	if place := leading.FindString(err.Message); place != "" {
		f.Place, f.Detail = r.item()+"."+strings.TrimSuffix(place, ": "), err.Message[len(place):]
	}
	r.faults = append(r.faults, f)
}

// part returns the refusal of a part of what is planned, with its place. In an import it gathers it instead, so that
// the other parts are looked at too.
func (p *plan) part(err *metering.Error, format string, args ...any) *metering.Error {
	if err == nil || p.refused == nil {
		return within(err, format, args...)
	}
	p.refused.add(within(err, format, args...))
	return nil
}

// absent is the refusal of what names something that is not there. It says nothing new if that was refused itself.
func (p *plan) absent(name string, err *metering.Error) *metering.Error {
	if p.refused != nil && name != "" && p.refused.spoilt[name] {
		return errFollows
	}
	return err
}

// addMarketplace plans all of a marketplace and counts what is new. What is wrong with it is in p.refused.
func (p *plan) addMarketplace(m *adminapi.Marketplace) (out adminapi.ImportResult) {
	agreements := len(m.Agreements)
	for i := range m.Buyers {
		agreements += len(m.Buyers[i].Agreements)
	}
	p.expect(len(m.Buyers), agreements)
	r := p.refused
	r.spoilt = map[string]bool{}
	unread := r.faults // found in reading
	for _, list := range []struct {
		name  string
		n     int
		added *int
		named func(i int) string // how other things refer to it; nil if none does
		add   func(i int) (exists bool, err *metering.Error)
	}{
		{"regions", len(m.Regions), &out.Regions, func(i int) string { return m.Regions[i].Name }, func(i int) (bool, *metering.Error) { return p.addRegion(&m.Regions[i]) }},
		{"sellers", len(m.Sellers), &out.Sellers, func(i int) string { return m.Sellers[i].AccountID }, func(i int) (bool, *metering.Error) { return p.addSeller(&m.Sellers[i]) }},
		{"products", len(m.Products), &out.Products, func(i int) string { return m.Products[i].ProductCode }, func(i int) (bool, *metering.Error) {
			_, exists, err := p.addProduct(&m.Products[i], true)
			return exists, err
		}},
		{"buyers", len(m.Buyers), &out.Buyers, func(i int) string { return m.Buyers[i].AccountID }, func(i int) (bool, *metering.Error) {
			return p.addBuyer(&m.Buyers[i], &out.Agreements)
		}},
		{"agreements", len(m.Agreements), &out.Agreements, nil, func(i int) (bool, *metering.Error) {
			_, exists, err := p.addAgreement(&m.Agreements[i], true)
			return exists, err
		}},
		{"users", len(m.Users), &out.Users, nil, func(i int) (bool, *metering.Error) {
			id, exists, err := p.addPrincipal(iam.User, &m.Users[i])
			if err == nil && !exists && len(m.Users[i].AccessKeys) == 0 {
				var key adminapi.AccessKey
				key, err = p.makeKey(id)
				out.Keys = append(out.Keys, key)
			}
			return exists, err
		}},
		{"roles", len(m.Roles), &out.Roles, func(i int) string { return m.Roles[i].Name }, func(i int) (bool, *metering.Error) {
			_, exists, err := p.addPrincipal(iam.Role, &m.Roles[i])
			return exists, err
		}},
		{"workloads", len(m.Workloads), &out.Workloads, nil, func(i int) (bool, *metering.Error) {
			id, exists, err := p.addWorkload(&m.Workloads[i])
			if err == nil && exists {
				err = p.sameRole(id, &m.Workloads[i])
			}
			return exists, err
		}},
		{"tokens", len(m.Tokens), &out.Tokens, nil, func(i int) (bool, *metering.Error) {
			if m.Tokens[i].RegistrationToken == "" { // nobody would learn of it
				return false, invalid("registration_token: is missing: give it, or have one made with: meterd admin token create")
			}
			_, exists, err := p.addToken(&m.Tokens[i])
			return exists, err
		}},
	} {
		for i := 0; i < list.n && len(r.faults) < adminapi.MaxFaults; i++ {
			r.list, r.index = list.name, i
			r.wrong = len(unread) > 0 && unread.In(r.item()) // half of the item is not known
			if !r.wrong {
				exists, err := list.add(i)
				if err != nil {
					r.add(err)
				} else if !exists {
					*list.added++
				}
			}
			if r.wrong && list.named != nil {
				r.spoilt[list.named(i)] = true
			}
		}
	}
	return out
}
