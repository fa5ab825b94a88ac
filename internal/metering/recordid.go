package metering

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"sync"
)

// RecordID is a MeteringRecordId: a UUID, version 8.
type RecordID [16]byte

// RecordIDs derives metering record ids from a ledger's secret. An id is not drawn but computed from what the
// record is, so it is the same on every node, after a restart, a restore or a copy, and a replay needs no look-up
// to answer with the id of the first write (metering-api 2.3).
type RecordIDs struct {
	secret []byte
	pool   sync.Pool // *idState; sync only to share the pool, no state is visible outside
}

type idState struct {
	mac hash.Hash
	buf []byte
	sum [sha256.Size]byte
}

// NewRecordIDs returns the ids of the ledger with the given secret.
func NewRecordIDs(secret []byte) *RecordIDs {
	r := &RecordIDs{secret: append([]byte(nil), secret...)}
	r.pool.New = func() any { return &idState{mac: hmac.New(sha256.New, r.secret), buf: make([]byte, 0, 256)} }
	return r
}

// Of returns the id of the record that is named by the given external strings and hour. The parts are framed by
// their lengths, so no two lists of parts give the same input.
func (r *RecordIDs) Of(h Hour, parts ...string) RecordID {
	st := r.pool.Get().(*idState)
	b := binary.BigEndian.AppendUint32(st.buf[:0], uint32(h))
	for _, p := range parts {
		b = binary.AppendUvarint(b, uint64(len(p)))
		b = append(b, p...)
	}
	st.mac.Reset()
	st.mac.Write(b)
	sum := st.mac.Sum(st.sum[:0])
	var id RecordID
	copy(id[:], sum)
	id[6] = id[6]&0x0f | 0x80
	id[8] = id[8]&0x3f | 0x80
	st.buf = b
	r.pool.Put(st)
	return id
}
