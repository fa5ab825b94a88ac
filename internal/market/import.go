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

// Import adds a marketplace as one act: all of it or nothing. Identifiers that are left out are made. A thing that is
// there already is left alone if it agrees with everything that the file says of it, so a file can be imported again;
// if it differs, the import is a Conflict.
//
// If several things are wrong the error is an [adminapi.Faults] with all of them, each with its place, such as
// buyers[17].agreements[0].product_code; its first fault is a [*metering.Error] too. found holds what was found wrong
// when the file was read: if there is anything in it nothing is stored, but the rest of the file is still checked.
//
// Everything is checked first, while the service goes on. Writing then holds up other calls: about 10 seconds for a
// million buyers with an agreement each.
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

// Refusal returns the error of an act that refused in planning. For an import it has everything that is wrong.
func (p *Plan) Refusal(err *metering.Error) error {
	if p.refused == nil || len(p.refused.faults) == 0 || err.Kind == metering.Internal {
		return err
	}
	return &importError{err, p.refused.faults}
}

// importError is everything that is wrong with a marketplace file. Its kind is that of the first refusal.
type importError struct {
	first  *metering.Error
	faults adminapi.Faults
}

func (e *importError) Error() string { return e.faults.Error() }

func (e *importError) Unwrap() []error { return []error{e.first, e.faults} }

// refusals collects what is wrong with a marketplace while it is planned, so that one answer can say all of it.
type refusals struct {
	faults  adminapi.Faults
	kind    *metering.Error // the first refusal of the plan
	unread  map[string]bool // the places of things, and of their members, that could not be read
	spoilt  map[string]bool // names of things that were refused; that such a thing is missing is not a fault of its own
	unnamed map[string]bool // lists in which a refused thing has no known name, or a thing could not be read

	list  string // the list of the item that is being planned, such as "buyers"
	index int    // of the item
	item  any    // as the source gives it
	part  string // the list in the item that is being planned, such as "agreements", or ""
	nth   int    // the index of the part in that list
	wrong bool   // something of the item, or the part, was refused
}

// errFollows is the refusal of a thing that only lacks something that was refused itself.
var errFollows = notFound("what this belongs to was refused")

// first returns the first refusal, or a Validation if everything was found in reading.
func (r *refusals) first() *metering.Error {
	if r.kind != nil {
		return r.kind
	}
	return invalid("%s", r.faults[0].String())
}

// leading matches the place that a refusal's message may begin with.
var leading = regexp.MustCompile(`^[a-z_]+(?:\[\d+\])?(?:\.[a-z_]+(?:\[\d+\])?)*: `)

// place returns the place of the thing that is being planned.
func (r *refusals) place() string {
	if r.part == "" {
		return fmt.Sprintf("%s[%d]", r.list, r.index)
	}
	return fmt.Sprintf("%s[%d].%s[%d]", r.list, r.index, r.part, r.nth)
}

// thing matches the place of a thing, which is an item of the marketplace or a part of an item, at the start of the
// place of a member of it.
var thing = regexp.MustCompile(`^[a-z_]+\[\d+\](?:\.(?:customer_identifiers|agreements|access_keys|public_keys)\[\d+\])?`)

// read notes what was found wrong when the marketplace was read.
func (r *refusals) read() {
	r.spoilt, r.unread, r.unnamed = map[string]bool{}, map[string]bool{}, map[string]bool{}
	for _, f := range r.faults {
		r.unread[f.Place] = true
		if at := thing.FindString(f.Place); at != "" {
			r.unread[at] = true
		} else {
			r.unnamed[f.Place] = true // f.Place is a list, or empty for the whole marketplace, which stands for all lists
		}
	}
}

// add notes what is wrong with the thing that is being planned. It leaves out what only follows from faults of
// reading: that a value that could not be read is wrong, or that something is missing that may stand in the file
// under a name that could not be read.
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

// part plans part i of a list in an item. In an import it collects what is wrong with the part instead of returning
// it, so that the other parts are checked too.
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

// flaws returns the first error among found that is not nil. In an import it collects all of them, so that everything
// that is wrong with a thing is reported, and returns errFollows if there were any, now or before for this thing.
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

// spoil returns err, the refusal of a thing that has parts. In an import it collects err instead, so that the parts
// are checked too, and remembers the thing's name.
func (p *Plan) spoil(err *metering.Error, name string) *metering.Error {
	if err == nil || p.refused == nil {
		return err
	}
	p.refused.add(err)
	p.refused.spoilt[name] = true
	return nil
}

// unread reports whether any of these members of the thing that is being planned could not be read.
func (p *Plan) unread(members ...string) bool {
	return p.refused != nil && len(p.refused.unread) > 0 && slices.ContainsFunc(members, func(m string) bool {
		return p.refused.unread[p.refused.place()+"."+m]
	})
}

// absent returns err, the refusal of a reference to something that does not exist or cannot exist. In an import the
// reference is no fault of its own if the thing of that name was refused itself, or if things of the lists that it
// would be in have unknown names.
func (p *Plan) absent(err *metering.Error, name string, lists ...string) *metering.Error {
	r := p.refused
	if r != nil && (name != "" && r.spoilt[name] || err.Kind == metering.NotFound && (r.unnamed[""] || slices.ContainsFunc(lists, func(list string) bool { return r.unnamed[list] }))) {
		return errFollows
	}
	return err
}

// addMarketplace plans all of a marketplace and counts what is new. It collects what is wrong in p.refused.
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
			if in.RegistrationToken == "" { // the token would be made, but shown to nobody
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

// of makes an add for items of any type from an add for items of one shape.
func of[T any](add func(*T) (string, bool, *metering.Error)) func(any) (string, bool, *metering.Error) {
	return func(item any) (string, bool, *metering.Error) { return add(item.(*T)) }
}

// lose notes that the item that is being planned will not be there for references to it by key, the member of that
// name and value. A reference to an account id that is wrong only for its hyphens may be written without them.
func (r *refusals) lose(key, name string) {
	r.spoilt[name], r.spoilt[strings.ReplaceAll(name, "-", "")] = true, true
	if name == "" || r.unread[r.place()+"."+key] {
		r.unnamed[r.list] = true
	}
}
