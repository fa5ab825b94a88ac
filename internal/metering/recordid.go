package metering

import (
	"crypto/sha256"
	"encoding/binary"
)

// RecordID is a MeteringRecordId: a UUID, version 8.
type RecordID [16]byte

// RecordIDs derives metering record ids from a ledger's secret. An id is not drawn but computed from what the
// record is, so it is the same on every node, after a restart, a restore or a copy, and a replay needs no look-up
// to answer with the id of the first write (metering-api 2.3).
type RecordIDs struct{ inner, outer [sha256.BlockSize]byte } // HMAC's two pads

// NewRecordIDs returns the ids of the ledger with the given secret, of at most 64 bytes.
func NewRecordIDs(secret []byte) *RecordIDs {
	if len(secret) > sha256.BlockSize {
		panic("internal error: the ledger's secret is too long")
	}
	r := new(RecordIDs)
	copy(r.inner[:], secret)
	copy(r.outer[:], secret)
	for i := range r.inner {
		r.inner[i] ^= 0x36
		r.outer[i] ^= 0x5c
	}
	return r
}

// Of returns the id of the record that is named by the given external strings and hour. The parts are framed by
// their lengths, so no two lists of parts give the same input.
func (r *RecordIDs) Of(h Hour, parts ...string) RecordID {
	// HMAC-SHA256 by hand: several a record are computed, and crypto/hmac costs twice as much with its state.
	var space [320]byte
	b := append(space[:0], r.inner[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(h))
	for _, p := range parts {
		b = binary.AppendUvarint(b, uint64(len(p)))
		b = append(b, p...)
	}
	var last [sha256.BlockSize + sha256.Size]byte
	copy(last[:], r.outer[:])
	sum := sha256.Sum256(b)
	copy(last[sha256.BlockSize:], sum[:])
	sum = sha256.Sum256(last[:])
	id := RecordID(sum[:16])
	id[6] = id[6]&0x0f | 0x80
	id[8] = id[8]&0x3f | 0x80
	return id
}
