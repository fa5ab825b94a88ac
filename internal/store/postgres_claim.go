package store

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sort"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/meterd/meterd/internal/metering"
)

// The two lowest bits of a subject say of which kind it is.
const (
	_ = iota // of a buyer
	ofAgreement
	ofWorkload
	ofToken
)

// maxProduct is how many products the subject of a product and its buyer or workload has room for.
const maxProduct = 1<<29 - 1

// subjectOf packs into 63 bits for whom a row is counted. The subject is exact, except for usage that is identified by
// its ClientToken: there the subject is a hash, and table client_token decides what is a duplicate.
func subjectOf(k *metering.Key, clientToken string) int64 {
	switch {
	case clientToken != "":
		sum := sha256.Sum256(append(binary.BigEndian.AppendUint32(nil, k.Workload), clientToken...))
		return int64(binary.BigEndian.Uint64(sum[:])>>3)<<2 | ofToken
	case k.Agreement != 0:
		return int64(k.Agreement)<<2 | ofAgreement
	case k.Workload != 0:
		return int64(k.Product)<<34 | int64(k.Workload)<<2 | ofWorkload
	}
	return int64(k.Product)<<34 | int64(k.Buyer)<<2
}

func meterOf(k *metering.Key) int32 { return int32(k.Dimension)<<8 | int32(k.Region) }

// primaryKey is the primary key of table usage.
type primaryKey struct {
	hour    int32
	subject int64
	meter   int32
}

func primaryKeyOf(u *Usage) primaryKey {
	return primaryKey{int32(u.Hour), subjectOf(&u.Key, u.ClientToken), meterOf(&u.Key)}
}

func (k primaryKey) compare(other primaryKey) int {
	return cmp.Or(cmp.Compare(k.hour, other.hour), cmp.Compare(k.subject, other.subject), cmp.Compare(k.meter, other.meter))
}

// appendKeys writes down under which keys a call's usage rows are stored, so that they are found without an index of
// their own. It writes for each row the record's place, the hour as the difference from that of the row before, the
// subject and the meter, all as varints.
func appendKeys(b []byte, claims []Claim) []byte {
	hour := int32(0)
	for i := range claims {
		c := &claims[i]
		if c.State != Granted {
			continue
		}
		_, record := CallOfUsage(c.Seq)
		k := primaryKeyOf(&c.Usage)
		b = binary.AppendUvarint(b, uint64(record))
		b = binary.AppendVarint(b, int64(k.hour-hour))
		b = binary.AppendUvarint(b, uint64(k.subject))
		b = binary.AppendUvarint(b, uint64(k.meter))
		hour = k.hour
	}
	return b
}

var errKeys = errors.New("the usage_keys of a call are damaged")

// parseKeys is the inverse of appendKeys.
func parseKeys(b []byte) (keys []primaryKey, err error) {
	hour := int32(0)
	next := func() uint64 {
		v, n := binary.Uvarint(b)
		if n <= 0 {
			err, b = errKeys, nil
			return 0
		}
		b = b[n:]
		return v
	}
	for len(b) > 0 && err == nil {
		next() // the record's place, which is in the row's seq too
		delta, n := binary.Varint(b)
		if n <= 0 {
			return nil, errKeys
		}
		b = b[n:]
		hour += int32(delta)
		keys = append(keys, primaryKey{hour, int64(next()), int32(next())})
	}
	return keys, err
}

// usageColumnsOf holds rows of usage by column.
type usageColumnsOf struct {
	seq, subject                                                       []int64
	hour, meter, millis, product, buyer, agreement, workload, quantity []int32
	form                                                               []int16
	clientToken                                                        []string
	allocations                                                        [][]byte
}

func (r *usageColumnsOf) add(u *Usage, k primaryKey) {
	r.seq, r.subject, r.hour, r.meter = append(r.seq, u.Seq), append(r.subject, k.subject), append(r.hour, k.hour), append(r.meter, k.meter)
	r.millis = append(r.millis, int32(u.Timestamp-u.Hour.Start()))
	r.product, r.buyer = append(r.product, int32(u.Key.Product)), append(r.buyer, int32(u.Key.Buyer))
	r.agreement, r.workload = append(r.agreement, int32(u.Key.Agreement)), append(r.workload, int32(u.Key.Workload))
	r.quantity, r.form = append(r.quantity, u.Quantity), append(r.form, int16(u.Form))
	if u.ClientToken != "" || u.Allocations != nil || r.clientToken != nil {
		r.extend(len(r.seq))
		r.clientToken[len(r.seq)-1], r.allocations[len(r.seq)-1] = toText(u.ClientToken), append([]byte{}, u.Allocations...)
	}
}

// extend adds the columns that most groups of rows have no use for.
func (r *usageColumnsOf) extend(n int) {
	for len(r.clientToken) < n {
		r.clientToken, r.allocations = append(r.clientToken, ""), append(r.allocations, []byte{})
	}
}

const (
	claimPlain = "INSERT INTO usage (seq, subject, hour, meter, millis, product, buyer, agreement, workload, quantity, form, client_token, allocations) " +
		"SELECT *, ''::text, ''::bytea FROM unnest($1::int8[], $2::int8[], $3::int4[], $4::int4[], $5::int4[], $6::int4[], $7::int4[], $8::int4[], $9::int4[], $10::int4[], $11::int2[]) " +
		"ON CONFLICT (hour, subject, meter) DO NOTHING RETURNING seq"
	claimWhole = "INSERT INTO usage (seq, subject, hour, meter, millis, product, buyer, agreement, workload, quantity, form, client_token, allocations) " +
		"SELECT * FROM unnest($1::int8[], $2::int8[], $3::int4[], $4::int4[], $5::int4[], $6::int4[], $7::int4[], $8::int4[], $9::int4[], $10::int4[], $11::int2[], $12::text[], $13::bytea[]) " +
		"ON CONFLICT (hour, subject, meter) DO NOTHING RETURNING seq"
)

// statement returns the statement that inserts the rows.
func (r *usageColumnsOf) statement() (sql string, args []any) {
	args = []any{r.seq, r.subject, r.hour, r.meter, r.millis, r.product, r.buyer, r.agreement, r.workload, r.quantity, r.form}
	if r.clientToken == nil {
		return claimPlain, args
	}
	return claimWhole, append(args, r.clientToken, r.allocations)
}

// claimed is a claim with its primary key, in a list that is sorted so that claims of one key follow each other.
type claimed struct {
	key   primaryKey
	claim *Claim
}

// Claim inserts rows sorted by key, so that all writers wait for each other in the same order. Then it asks what is
// stored under the keys that were taken.
func (t *postgresTx) Claim(claims []Claim) error {
	t.claims = claims
	order, err := sorted(claims)
	if err != nil {
		return err
	}
	var rows usageColumnsOf
	for i, c := range order {
		if i == 0 || c.key != order[i-1].key {
			rows.add(&c.claim.Usage, c.key)
			t.days[dayOf(c.claim.Hour)] = struct{}{}
		}
	}
	missing := 0
	if err = t.insert(&rows, claims); err == nil {
		missing, err = t.lookUp(order)
	}
	if err == nil && missing > 0 { // the row that was in the way is not visible
		err = errAgain
	}
	if err != nil {
		return t.note(err)
	}
	for i := 1; i < len(order); i++ {
		if c, before := order[i].claim, order[i-1].claim; order[i].key == order[i-1].key {
			switch before.State {
			case Granted:
				c.State, c.Stored = Taken, before.Quantity
			default:
				c.State, c.Stored = before.State, before.Stored
			}
		}
	}
	return nil
}

// sorted sets all claims to Unclaimed and returns them in the order of their keys.
func sorted(claims []Claim) ([]claimed, error) {
	order := make([]claimed, len(claims))
	for i := range claims {
		c := &claims[i]
		c.State = Unclaimed
		if c.Key.Product > maxProduct {
			return nil, fmt.Errorf("product %d: there is room for %d products", c.Key.Product, maxProduct)
		}
		order[i] = claimed{primaryKeyOf(&c.Usage), c}
	}
	slices.SortStableFunc(order, func(a, b claimed) int { return a.key.compare(b.key) })
	return order, nil
}

func (t *postgresTx) Ask(claims []Claim) error {
	order, err := sorted(claims)
	if err == nil {
		err = t.flush()
	}
	if err == nil {
		_, err = t.lookUp(order)
	}
	if err != nil {
		return t.note(err)
	}
	for i := 1; i < len(order); i++ {
		if c, before := order[i].claim, order[i-1].claim; order[i].key == order[i-1].key {
			c.State, c.Stored = before.State, before.Stored
		}
	}
	return nil
}

// insert sends what is queued and then the insertion of the rows, and notes which claims it has granted.
func (t *postgresTx) insert(rows *usageColumnsOf, claims []Claim) error {
	before := t.batch.Len()
	sql, args := rows.statement()
	t.batch.Queue(sql, args...)
	results := t.conn.SendBatch(t.ctx, &t.batch)
	defer func() { t.batch = pgx.Batch{} }()
	err := t.results(results, before)
	if err == nil {
		err = t.granted(results, claims)
	}
	var refused *pgconn.PgError
	if errors.As(err, &refused) && refused.Code == "23514" { // no partition for the row
		t.missing = true
	}
	return errors.Join(err, results.Close())
}

func (t *postgresTx) granted(results pgx.BatchResults, claims []Claim) error {
	rows, err := results.Query()
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		seq := int64(binary.BigEndian.Uint64(rows.RawValues()[0]))
		i := sort.Search(len(claims), func(i int) bool { return claims[i].Seq >= seq })
		if i == len(claims) || claims[i].Seq != seq {
			return fmt.Errorf("the database has stored a row %d that was not claimed", seq)
		}
		claims[i].State = Granted
	}
	return rows.Err()
}

// lookUp asks what is stored under the keys of claims that have not been granted. It returns how many of these keys
// are free.
func (t *postgresTx) lookUp(order []claimed) (free int, err error) {
	var hours, meters []int32
	var subjects []int64
	for i, c := range order {
		if c.claim.State != Granted && (i == 0 || c.key != order[i-1].key) {
			hours, subjects, meters = append(hours, c.key.hour), append(subjects, c.key.subject), append(meters, c.key.meter)
		}
	}
	if len(hours) == 0 {
		return 0, nil
	}
	rows, err := t.conn.Query(t.ctx, "SELECT u.hour, u.subject, u.meter, u.quantity, u.workload, u.client_token FROM unnest($1::int4[], $2::int8[], $3::int4[]) AS k (hour, subject, meter) JOIN usage u ON u.hour = k.hour AND u.subject = k.subject AND u.meter = k.meter WHERE u.hour BETWEEN $4 AND $5",
		hours, subjects, meters, slices.Min(hours), slices.Max(hours))
	if err != nil {
		return 0, err
	}
	var k primaryKey
	var quantity, workload int32
	var token string
	found, again := 0, false
	_, err = pgx.ForEachRow(rows, []any{&k.hour, &k.subject, &k.meter, &quantity, &workload, &token}, func() error {
		i, ok := slices.BinarySearchFunc(order, k, func(c claimed, k primaryKey) int { return c.key.compare(k) })
		if !ok {
			return fmt.Errorf("the database has found a key that was not asked for: %+v", k)
		}
		found++
		c := order[i].claim
		switch c.State, c.Stored = Taken, quantity; {
		case c.ClientToken == "":
		case c.ClientToken == fromText(token) && c.Key.Workload == uint32(workload):
			again = true // another writer has stored the token's row since the token was looked up
		default:
			c.State = NoRoom // another token has this hash, and its row has the key
		}
		return nil
	})
	if err == nil && again {
		err = errAgain
	}
	return len(hours) - found, err
}

func (t *postgresTx) ClientTokens(keys []metering.TokenKey) ([]*ClientToken, error) {
	if err := t.flush(); err != nil {
		return nil, err
	}
	places := make(map[metering.TokenKey]int, len(keys))
	workloads, hashes := make([]int32, len(keys)), make([][]byte, len(keys))
	for i, k := range keys {
		places[k] = i
		workloads[i], hashes[i] = int32(k.Workload), keys[i].Hash[:]
	}
	rows, err := t.conn.Query(t.ctx, "SELECT c.workload, c.hash, c.parameters, c.record, c.at FROM unnest($1::int4[], $2::bytea[]) AS k (workload, hash) JOIN client_token c ON c.workload = k.workload AND c.hash = k.hash", workloads, hashes)
	if err != nil {
		return nil, t.note(err)
	}
	found := make([]*ClientToken, len(keys))
	var workload int32
	var hash, parameters, record []byte
	var at int64
	_, err = pgx.ForEachRow(rows, []any{&workload, &hash, &parameters, &record, &at}, func() error {
		k := &ClientToken{Key: metering.TokenKey{Workload: uint32(workload)}, At: metering.Instant(at)}
		if copy(k.Key.Hash[:], hash) != len(hash) || copy(k.Parameters[:], parameters) != len(k.Parameters) || copy(k.Record[:], record) != len(k.Record) {
			return fmt.Errorf("client_token of workload %d is damaged", workload)
		}
		if i, ok := places[k.Key]; ok && k.At.Hour() >= t.tokensFrom {
			found[i] = k
		}
		return nil
	})
	return found, t.note(err)
}
