package market

import (
	"bufio"
	"encoding/hex"
	"io"
	"maps"
	"slices"

	"github.com/meterd/meterd/internal/iam"
	"github.com/meterd/meterd/internal/metering"
	"github.com/meterd/meterd/internal/store"
)

// Plan is a change of the marketplace that is being prepared: rows that have been checked against the state and
// against each other, but are not written yet. It reads the state without a lock, because planning an import takes
// long. So meanwhile nobody may change the catalogue or the directory, while others may read them.
type Plan struct {
	View
	Summary string // says in words what the plan does, for the audit; never secrets

	random *bufio.Reader
	stored func(id [16]byte) (*store.RegistrationToken, error)

	regions    rows[metering.RegionInfo]
	accounts   rows[metering.Account]
	products   rows[metering.Product]
	agreements rows[metering.Agreement]
	workloads  rows[metering.Workload]
	principals rows[store.Principal]
	keys       rows[store.AccessKey]
	admins     rows[store.AdminToken]
	dimensions []metering.Dimension
	customers  []metering.Customer
	publicKeys []metering.PublicKey
	tokens     []store.RegistrationToken

	// Names of the rows that the plan adds.
	regionNamed   map[string]uint32
	accountByID   map[uint64]uint32
	productByCode map[string]uint32
	productByID   map[string]uint32
	agreementByID map[string]uint32
	byLicense     map[string]uint32
	workloadNamed map[workloadName]uint32
	named         map[principalName]uint32
	keyNamed      map[string]uint32
	customer      map[subscriber]string
	buyerOf       map[customerName]uint32

	newest   map[subscriber]uint32 // :: latest agreement that the plan adds
	previous map[uint32]uint32     // :: agreement that the plan adds → the one before it, of the same buyer and product
	version  map[uint32]int32      // :: product → last version of its public key that the plan adds
	titled   map[title]uint32      // :: titles of products from before the plan; made by productTitled
	matched  map[uint32]struct{}   // :: agreements from before that an import has matched
	refused  *refusals             // what is wrong with the marketplace that is being imported; nil for other acts
	secrets  map[uint32]string     // :: access key → its secret, for keys that the plan adds or changes
}

type subscriber struct{ of, buyer uint32 } // of is a product, or a seller

type customerName struct {
	seller     uint32
	identifier string
}

type workloadName struct {
	account  uint32
	platform metering.Platform
	resource string
}

type title struct {
	seller uint32
	title  string
}

// NewPlan begins a plan. stored reads a registration token from the store, and returns nil if there is none of that
// id.
func NewPlan(v View, random io.Reader, stored func(id [16]byte) (*store.RegistrationToken, error)) *Plan {
	c, d := v.Catalog, &v.directory
	return &Plan{
		View: v, random: bufio.NewReader(random), stored: stored,
		regions: rows[metering.RegionInfo]{base: c.Regions()}, accounts: rows[metering.Account]{base: c.Accounts()},
		products: rows[metering.Product]{base: c.Products()}, agreements: rows[metering.Agreement]{base: c.Agreements()},
		workloads: rows[metering.Workload]{base: c.Workloads()}, principals: rows[store.Principal]{base: d.principals},
		keys: rows[store.AccessKey]{base: d.keys}, admins: rows[store.AdminToken]{base: d.admins},
		regionNamed: map[string]uint32{}, accountByID: map[uint64]uint32{}, productByCode: map[string]uint32{}, productByID: map[string]uint32{},
		agreementByID: map[string]uint32{}, byLicense: map[string]uint32{}, workloadNamed: map[workloadName]uint32{}, named: map[principalName]uint32{}, keyNamed: map[string]uint32{},
		customer: map[subscriber]string{}, buyerOf: map[customerName]uint32{}, newest: map[subscriber]uint32{}, previous: map[uint32]uint32{},
		version: map[uint32]int32{}, matched: map[uint32]struct{}{}, secrets: map[uint32]string{},
	}
}

// expect makes room for as many buyers and agreements, which halves the time of a large import.
func (p *Plan) expect(buyers, agreements int) {
	p.accounts.added = make([]metering.Account, 0, buyers)
	p.accountByID = make(map[uint64]uint32, buyers)
	p.customers = make([]metering.Customer, 0, min(buyers, agreements))
	p.customer = make(map[subscriber]string, min(buyers, agreements))
	p.buyerOf = make(map[customerName]uint32, min(buyers, agreements))
	p.agreements.added = make([]metering.Agreement, 0, agreements)
	p.newest = make(map[subscriber]uint32, min(buyers, agreements))
}

// Settle drops everything that only planning needs: a third of the plan in a large import.
func (p *Plan) Settle() {
	p.regionNamed, p.accountByID, p.productByCode, p.productByID, p.agreementByID, p.byLicense = nil, nil, nil, nil, nil, nil
	p.workloadNamed, p.named, p.keyNamed, p.customer, p.buyerOf = nil, nil, nil, nil, nil
	p.newest, p.previous, p.version, p.titled, p.matched = nil, nil, nil, nil, nil
}

// rows are the things of one kind as a plan sees them, by their id: those of the state, with the ones that the plan
// changes or adds.
type rows[T any] struct {
	base    []T
	changed map[uint32]*T
	added   []T
}

// next returns the id that the next call of add will give.
func (r *rows[T]) next() uint32 { return uint32(len(r.base)+len(r.added)) + 1 }

func (r *rows[T]) add(v T) { r.added = append(r.added, v) }

// at returns the thing of the given id, to be read only, or nil for id 0.
func (r *rows[T]) at(id uint32) *T {
	switch n := uint32(len(r.base)); {
	case id == 0:
		return nil
	case id > n:
		return &r.added[id-n-1]
	}
	if v := r.changed[id]; v != nil {
		return v
	}
	return &r.base[id-1]
}

// change returns a thing that may be changed; it is written with the plan.
func (r *rows[T]) change(id uint32) *T {
	if id > uint32(len(r.base)) {
		return r.at(id)
	}
	v := r.changed[id]
	if v == nil {
		v = new(r.base[id-1])
		if r.changed == nil {
			r.changed = map[uint32]*T{}
		}
		r.changed[id] = v
	}
	return v
}

// each calls f for each thing to be written, in the order of ids. old is the thing that it replaces, or nil.
func (r *rows[T]) each(f func(row, old any) error) error {
	for _, id := range slices.Sorted(maps.Keys(r.changed)) {
		if err := f(r.changed[id], &r.base[id-1]); err != nil {
			return err
		}
	}
	return listed[T]{rows: r.added}.each(f)
}

// listed are rows that have no ids.
type listed[T any] struct {
	rows []T
	old  func(*T) *T // returns the row that a row replaces, or nil; itself nil if all rows are new
}

func (r listed[T]) each(f func(row, old any) error) error {
	for i := range r.rows {
		var old any
		if r.old != nil {
			if o := r.old(&r.rows[i]); o != nil {
				old = o
			}
		}
		if err := f(&r.rows[i], old); err != nil {
			return err
		}
	}
	return nil
}

// Rows calls f for each row of the plan; old is the row that it replaces, or nil. Rows that a row refers to come
// before it.
func (p *Plan) Rows(f func(row, old any) error) error {
	for _, kind := range []interface {
		each(f func(row, old any) error) error
	}{
		&p.regions, &p.accounts, &p.products, listed[metering.Dimension]{rows: p.dimensions}, listed[metering.PublicKey]{p.publicKeys, p.publicKeyBefore}, listed[metering.Customer]{rows: p.customers},
		&p.agreements, &p.principals, &p.keys, &p.workloads, &p.admins, listed[store.RegistrationToken]{rows: p.tokens},
	} {
		if err := kind.each(f); err != nil {
			return err
		}
	}
	return nil
}

// publicKeyBefore returns the version of a key that the plan changes, or nil if it adds it.
func (p *Plan) publicKeyBefore(k *metering.PublicKey) *metering.PublicKey {
	all := p.State.PublicKeys(k.Product)
	for i := range all {
		if all[i].Version == k.Version {
			return &all[i]
		}
	}
	return nil
}

// Enter puts the plan's rows, which have been written, into memory.
func (p *Plan) Enter() {
	p.Reserve(len(p.accounts.added), len(p.customers), len(p.agreements.added))
	_ = p.Rows(func(row, _ any) error { // which fails only if the function does
		switch r := row.(type) {
		case *store.Principal:
			row = opened(r)
		case *store.AccessKey:
			row = &openKey{*r, p.secrets[r.ID]}
		}
		p.State.Put(row)
		return nil
	})
}

// lookup looks a name up among the rows that the plan adds, and then, with f, in the catalogue.
func lookup[K comparable, T any](r *rows[T], added map[K]uint32, name K, f func() uint32) *T {
	if id, ok := added[name]; ok {
		return r.at(id)
	}
	return r.at(f())
}

func (p *Plan) region(name string) *metering.RegionInfo {
	return lookup(&p.regions, p.regionNamed, name, func() uint32 {
		if r := p.State.RegionNamed(name); r != nil {
			return uint32(r.ID)
		}
		return 0
	})
}

func (p *Plan) account(n uint64) *metering.Account {
	return lookup(&p.accounts, p.accountByID, n, func() uint32 {
		if a := p.State.AccountByID(n); a != nil {
			return a.ID
		}
		return 0
	})
}

func (p *Plan) product(code string) *metering.Product {
	return lookup(&p.products, p.productByCode, code, func() uint32 { return idOfProduct(p.State.ProductByCode(code)) })
}

func (p *Plan) productOfID(id string) *metering.Product {
	return lookup(&p.products, p.productByID, id, func() uint32 { return idOfProduct(p.State.ProductByID(id)) })
}

func idOfProduct(product *metering.Product) uint32 {
	if product == nil {
		return 0
	}
	return product.ID
}

func (p *Plan) agreement(id string) *metering.Agreement {
	return lookup(&p.agreements, p.agreementByID, id, func() uint32 { return idOfAgreement(p.State.AgreementByID(id)) })
}

func (p *Plan) agreementOfLicense(arn string) *metering.Agreement {
	return lookup(&p.agreements, p.byLicense, arn, func() uint32 { return idOfAgreement(p.State.AgreementByLicense(arn)) })
}

func idOfAgreement(a *metering.Agreement) uint32 {
	if a == nil {
		return 0
	}
	return a.ID
}

// newestAgreement returns the buyer's latest agreement for the product, also one that the plan adds, or nil.
func (p *Plan) newestAgreement(product, buyer uint32) *metering.Agreement {
	return lookup(&p.agreements, p.newest, subscriber{product, buyer}, func() uint32 {
		return idOfAgreement(p.State.NewestAgreement(product, buyer))
	})
}

func (p *Plan) before(a *metering.Agreement) *metering.Agreement {
	if id, ok := p.previous[a.ID]; ok {
		return p.agreements.at(id)
	}
	if a.ID > uint32(len(p.agreements.base)) {
		return nil
	}
	return p.agreements.at(idOfAgreement(p.State.PreviousAgreement(&p.agreements.base[a.ID-1])))
}

func (p *Plan) customerIdentifier(seller, buyer uint32) string {
	if s, ok := p.customer[subscriber{seller, buyer}]; ok {
		return s
	}
	return p.State.CustomerIdentifier(seller, buyer)
}

// customerNamed returns the buyer whom the seller's products know by the identifier, or nil.
func (p *Plan) customerNamed(seller uint32, identifier string) *metering.Account {
	return lookup(&p.accounts, p.buyerOf, customerName{seller, identifier}, func() uint32 {
		if a := p.State.Customer(seller, identifier); a != nil {
			return a.ID
		}
		return 0
	})
}

func (p *Plan) workload(account uint32, platform metering.Platform, resource string) *metering.Workload {
	return lookup(&p.workloads, p.workloadNamed, workloadName{account, platform, resource}, func() uint32 {
		if w := p.State.WorkloadNamed(account, platform, resource); w != nil {
			return w.ID
		}
		return 0
	})
}

func (p *Plan) principal(account uint32, kind iam.Kind, name string) *store.Principal {
	n := principalName{account, kind, name}
	return lookup(&p.principals, p.named, n, func() uint32 { return p.directory.named[n] })
}

// accessKey returns the key of the given access key id, even if it was deleted, or nil.
func (p *Plan) accessKey(id string) *store.AccessKey {
	return lookup(&p.keys, p.keyNamed, id, func() uint32 { return p.directory.keyNamed[id] })
}

// read fills b with random bytes.
func (p *Plan) read(b []byte) *metering.Error {
	for n := 0; n < len(b); {
		m, err := p.random.Read(b[n:])
		if err != nil {
			return metering.Errorf(metering.Internal, "reading random bytes: %v", err)
		}
		n += m
	}
	return nil
}

const (
	lowerAlphanumeric = "abcdefghijklmnopqrstuvwxyz0123456789"
	mixedAlphanumeric = "ABCDEFGHIJKLMNOPQRSTUVWXYZ" + lowerAlphanumeric
)

// spell returns n characters of the alphabet, each equally likely, or fewer if there are too few bytes.
func spell(alphabet string, n int, from []byte) string {
	fair := byte(256 / len(alphabet) * len(alphabet))
	s := make([]byte, 0, n)
	for _, b := range from {
		if b < fair && len(s) < n {
			s = append(s, alphabet[int(b)%len(alphabet)])
		}
	}
	return string(s)
}

// name makes an identifier that looks like AWS's: prefix and n random lower-case letters and digits.
func (p *Plan) name(prefix string, n int) (string, *metering.Error) {
	for {
		var b [48]byte
		if err := p.read(b[:]); err != nil {
			return "", err
		}
		if s := spell(lowerAlphanumeric, n, b[:]); len(s) == n {
			return prefix + s, nil
		}
	}
}

// licenseARN makes the ARN of a licence that the seller grants.
func (p *Plan) licenseARN(seller uint64) (string, *metering.Error) {
	var b [16]byte
	if err := p.read(b[:]); err != nil {
		return "", err
	}
	return "arn:aws:license-manager::" + metering.FormatAccountID(seller) + ":license:l-" + hex.EncodeToString(b[:]), nil
}
