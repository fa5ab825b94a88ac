package market

import (
	"fmt"
	"regexp"
	"slices"
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
func Import(m adminapi.Source, found ...adminapi.Fault) Act[adminapi.ImportResult] {
	return func(p *Plan) (Find[adminapi.ImportResult], *metering.Error) {
		p.refused = &refusals{faults: append(adminapi.Faults{}, found...)}
		out := p.addMarketplace(m)
		if len(p.refused.faults) > 0 {
			return nil, p.refused.first()
		}
		p.Summary = fmt.Sprintf("import %d regions, %d sellers, %d products, %d buyers, %d agreements, %d users, %d roles, %d workloads, %d registration tokens",
			out.Regions, out.Sellers, out.Products, out.Buyers, out.Agreements, out.Users, out.Roles, out.Workloads, out.Tokens)
		return answer(out), nil
	}
}

// Refusal returns the error of an act that refused in planning: for an import, with all that is wrong.
func (p *Plan) Refusal(err *metering.Error) error {
	if p.refused == nil || len(p.refused.faults) == 0 || err.Kind == metering.Internal {
		return err
	}
	return &importError{err, p.refused.faults}
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
	faults  adminapi.Faults
	kind    *metering.Error // the first that was found in planning
	unread  map[string]bool // things, and their members, of which reading found something wrong, by their places
	spoilt  map[string]bool // names of things that were refused: that they are missing says nothing new
	unnamed map[string]bool // lists with a thing that was refused whose name is not known, or that could not be read

	list  string // of which an item is planned now, such as "buyers"
	index int    // of the item
	item  any    // as the source gives it
	part  string // the list in the item of which a part is planned now, such as "agreements", or ""
	nth   int    // of the part
	wrong bool   // something of the item, or the part, was refused
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

// place names the thing that is planned now.
func (r *refusals) place() string {
	if r.part == "" {
		return fmt.Sprintf("%s[%d]", r.list, r.index)
	}
	return fmt.Sprintf("%s[%d].%s[%d]", r.list, r.index, r.part, r.nth)
}

// thing cuts the place of a thing, an item of the marketplace or a part of an item, from the place of a member of it.
var thing = regexp.MustCompile(`^[a-z_]+\[\d+\](?:\.(?:customer_identifiers|agreements|access_keys|public_keys)\[\d+\])?`)

// read takes note of what is wrong with the marketplace as far as reading it found out.
func (r *refusals) read() {
	r.spoilt, r.unread, r.unnamed = map[string]bool{}, map[string]bool{}, map[string]bool{}
	for _, f := range r.faults {
		r.unread[f.Place] = true
		if at := thing.FindString(f.Place); at != "" {
			r.unread[at] = true
		} else {
			r.unnamed[f.Place] = true // all lists, if the place is the marketplace itself
		}
	}
}

// add takes note of what is wrong with the thing that is planned now. What only follows from what reading found is
// left out: that a value is wrong which could not be read, or one missing which may stand under a name that is not
// known.
func (r *refusals) add(err *metering.Error) {
	unread := len(r.unread) > 0 && r.unread[r.place()]
	r.wrong = true
	if err == errFollows || len(r.faults) >= adminapi.MaxFaults {
		return
	}
	f := adminapi.Fault{Place: r.place(), Detail: err.Message}
	if place := leading.FindString(err.Message); place != "" {
		f.Place, f.Detail = f.Place+"."+strings.TrimSuffix(place, ": "), err.Message[len(place):]
	}
	if r.unread[f.Place] || unread && !adminapi.Gives(r.item, strings.TrimPrefix(f.Place, fmt.Sprintf("%s[%d]", r.list, r.index))) {
		return
	}
	if r.kind == nil {
		r.kind = within(err, "%s.", r.place())
	}
	r.faults = append(r.faults, f)
}

// part plans a part of an item: the one of the given number of its list. In an import what is wrong with it is
// gathered, so that the other parts are looked at too.
func (p *Plan) part(list string, i int, f func() *metering.Error) *metering.Error {
	r := p.refused
	if r == nil {
		return within(f(), "%s[%d].", list, i)
	}
	whole := r.wrong
	r.part, r.nth = list, i
	r.wrong = len(r.unread) > 0 && r.unread[r.place()]
	if err := f(); err != nil {
		r.add(err)
	}
	r.part, r.wrong = "", whole || r.wrong
	return nil
}

// flaws returns the first of the errors that is one. In an import it gathers all of them, so that everything that is
// wrong with a thing is told, and returns errFollows if there were any or others before them.
func (p *Plan) flaws(found ...*metering.Error) *metering.Error {
	for _, err := range found {
		switch {
		case err == nil:
		case p.refused == nil:
			return err
		default:
			p.refused.add(err)
		}
	}
	if p.refused != nil && p.refused.wrong {
		return errFollows
	}
	return nil
}

// spoil returns the refusal of a thing that has parts. In an import it gathers it instead, so that the parts are looked
// at too, and remembers the thing's name.
func (p *Plan) spoil(err *metering.Error, name string) *metering.Error {
	if err == nil || p.refused == nil {
		return err
	}
	p.refused.add(err)
	p.refused.spoilt[name] = true
	return nil
}

// unread reports whether one of the members of the thing that is planned could not be read.
func (p *Plan) unread(members ...string) bool {
	return p.refused != nil && len(p.refused.unread) > 0 && slices.ContainsFunc(members, func(m string) bool {
		return p.refused.unread[p.refused.place()+"."+m]
	})
}

// absent is the refusal of what names something that is not there, or that cannot be. It says nothing new if something
// of that name was refused itself, or something of the lists where it would be is not known.
func (p *Plan) absent(err *metering.Error, name string, lists ...string) *metering.Error {
	r := p.refused
	if r != nil && (name != "" && r.spoilt[name] || err.Kind == metering.NotFound && (r.unnamed[""] || slices.ContainsFunc(lists, func(list string) bool { return r.unnamed[list] }))) {
		return errFollows
	}
	return err
}

// addMarketplace plans all of a marketplace and counts what is new. What is wrong with it is in p.refused.
func (p *Plan) addMarketplace(m adminapi.Source) (out adminapi.ImportResult) {
	p.expect(m.Size())
	r := p.refused
	r.read()
	for _, list := range []struct {
		name  string
		added *int
		key   string // the member by which other things refer to an item
		add   func(item any) (key string, exists bool, err *metering.Error)
	}{
		{"regions", &out.Regions, "name", of(func(in *adminapi.Region) (string, bool, *metering.Error) {
			exists, err := p.addRegion(in)
			return in.Name, exists, err
		})},
		{"sellers", &out.Sellers, "account_id", of(func(in *adminapi.Seller) (string, bool, *metering.Error) {
			exists, err := p.addSeller(in)
			return in.AccountID, exists, err
		})},
		{"products", &out.Products, "product_code", of(func(in *adminapi.Product) (string, bool, *metering.Error) {
			_, exists, err := p.addProduct(in, true)
			return in.ProductCode, exists, err
		})},
		{"buyers", &out.Buyers, "account_id", of(func(in *adminapi.Buyer) (string, bool, *metering.Error) {
			exists, err := p.addBuyer(in, &out.Agreements)
			return in.AccountID, exists, err
		})},
		{"agreements", &out.Agreements, "", of(func(in *adminapi.Agreement) (string, bool, *metering.Error) {
			_, exists, err := p.addAgreement(in, true)
			return "", exists, err
		})},
		{"users", &out.Users, "", of(func(in *adminapi.Principal) (string, bool, *metering.Error) {
			id, exists, err := p.addPrincipal(iam.User, in)
			if err == nil && id != 0 && !exists && len(in.AccessKeys) == 0 {
				var key adminapi.AccessKey
				key, err = p.makeKey(id)
				out.Keys = append(out.Keys, key)
			}
			return "", exists, err
		})},
		{"roles", &out.Roles, "name", of(func(in *adminapi.Principal) (string, bool, *metering.Error) {
			_, exists, err := p.addPrincipal(iam.Role, in)
			return in.Name, exists, err
		})},
		{"workloads", &out.Workloads, "", of(func(in *adminapi.Workload) (string, bool, *metering.Error) {
			id, exists, err := p.addWorkload(in)
			if exists {
				err = p.flaws(err, p.sameRole(id, in))
			}
			return "", exists, err
		})},
		{"tokens", &out.Tokens, "", of(func(in *adminapi.TokenRequest) (string, bool, *metering.Error) {
			if in.RegistrationToken == "" { // nobody would learn of it
				_ = p.flaws(invalid("registration_token: is missing: give it, or have one made with: meterd admin token create"))
			}
			_, exists, err := p.addToken(in)
			return "", exists, err
		})},
	} {
		m.Each(list.name, func(i int, item any) bool {
			r.list, r.index, r.item = list.name, i, item
			r.wrong = len(r.unread) > 0 && r.unread[r.place()]
			key, exists, err := list.add(item)
			switch {
			case err != nil:
				r.add(err)
			case !exists:
				*list.added++
			}
			if r.wrong && list.key != "" {
				r.lose(list.key, key)
			}
			return len(r.faults) < adminapi.MaxFaults
		})
		r.item = nil
	}
	return out
}

// of has items of one shape added.
func of[T any](add func(*T) (string, bool, *metering.Error)) func(any) (string, bool, *metering.Error) {
	return func(item any) (string, bool, *metering.Error) { return add(item.(*T)) }
}

// lose takes note that the item that was planned is not there for those that refer to it by its key, the member that
// is given with its value. An account id that is wrong for its hyphens may be referred to without.
func (r *refusals) lose(key, name string) {
	r.spoilt[name], r.spoilt[strings.ReplaceAll(name, "-", "")] = true, true
	if name == "" || r.unread[r.place()+"."+key] {
		r.unnamed[r.list] = true
	}
}
