package metering

import (
	"crypto/sha256"
	"encoding"
	"encoding/binary"
	"hash"
	"sync"
)

// RecordID is a MeteringRecordId: a UUID, version 8.
type RecordID [16]byte

// RecordIDs derives metering record ids from a ledger's secret. An id is computed from what the record is, not drawn
// at random: so it is the same on every node and after a restart, a restore or a copy, and a replay is answered with
// the id of the first write without a look-up (metering-api 2.3).
//
// An id is made by HMAC-SHA256. One request can need 25 of them, so the states of the hash after HMAC's two pads are
// kept: going on from these takes three steps of the hash instead of five.
type RecordIDs struct {
	inner, outer []byte
	pool         sync.Pool // *idMaker
}

// idMaker makes one id at a time.
type idMaker struct {
	hash  hash.Hash
	state encoding.BinaryUnmarshaler // sets the state of hash
	text  []byte
	sum   [sha256.Size]byte
}

// NewRecordIDs returns the ids of the ledger with the given secret, of at most 64 bytes.
func NewRecordIDs(secret []byte) *RecordIDs {
	if len(secret) > sha256.BlockSize {
		panic("internal error: the ledger's secret is too long")
	}
	r := new(RecordIDs)
	r.inner, r.outer = padded(secret, 0x36), padded(secret, 0x5c)
	r.pool.New = func() any {
		h := sha256.New()
		return &idMaker{hash: h, state: h.(encoding.BinaryUnmarshaler), text: make([]byte, 0, 320)}
	}
	return r
}

// padded returns the state of the hash after a key with HMAC's pad.
func padded(key []byte, pad byte) []byte {
	var block [sha256.BlockSize]byte
	copy(block[:], key)
	for i := range block {
		block[i] ^= pad
	}
	h := sha256.New()
	h.Write(block[:])
	state, err := h.(encoding.BinaryMarshaler).MarshalBinary()
	if err != nil {
		panic(err) // sha256's MarshalBinary never fails
	}
	return state
}

// Of returns the id of the record that the external strings and the hour name. The parts are framed by their lengths,
// so no two lists of parts give the same input.
func (r *RecordIDs) Of(h Hour, parts ...string) RecordID {
	m := r.begin(h)
	for _, p := range parts {
		m.add(p)
	}
	return r.end(m)
}

func (r *RecordIDs) begin(h Hour) *idMaker {
	m := r.pool.Get().(*idMaker)
	m.text = binary.BigEndian.AppendUint32(m.text[:0], uint32(h))
	return m
}

func (m *idMaker) add(part string) {
	m.text = append(binary.AppendUvarint(m.text, uint64(len(part))), part...)
}

// addNumber adds the 12 digits of an account id.
func (m *idMaker) addNumber(accountID uint64) {
	m.text = appendAccountID(append(m.text, 12), accountID)
}

func (r *RecordIDs) end(m *idMaker) RecordID {
	m.mac(r.inner, m.text)
	m.mac(r.outer, m.sum[:])
	id := RecordID(m.sum[:16])
	r.pool.Put(m)
	id[6] = id[6]&0x0f | 0x80
	id[8] = id[8]&0x3f | 0x80
	return id
}

// mac puts into sum the hash of text, continued from state.
func (m *idMaker) mac(state, text []byte) {
	if err := m.state.UnmarshalBinary(state); err != nil {
		panic(err) // cannot fail: a hash of the same type marshalled the state
	}
	m.hash.Write(text)
	m.hash.Sum(m.sum[:0])
}
