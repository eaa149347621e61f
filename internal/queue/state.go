package queue

import (
	"encoding/binary"
	"errors"
	"fmt"

	"gardu/internal/txn"
)

// Buckets, and keys of the meta bucket.
var (
	bucketItems = []byte("items")
	bucketMeta  = []byte("meta")

	metaJournal = []byte("journal") // 16 random bytes
	metaSchema  = []byte("schema")  // 4 bytes
	metaState   = []byte("state")   // sealed state
	metaKeys    = []byte("key/")    // followed by 4 bytes key number: wrapped data key
)

func metaKey(id uint32) []byte {
	return binary.BigEndian.AppendUint32(append([]byte(nil), metaKeys...), id)
}

func itemKey(seq uint64) []byte { return binary.BigEndian.AppendUint64(nil, seq) }

// maxStamp bounds what Options.Stamp may return.
const maxStamp = 256

// state is the journal's own counters. It is written with every commit, sealed,
// because a flipped bit in serial or salt would make an external id be used twice.
//
//	4   "GDT" and the format's version, 0x01
//	4   number of the data key
//	... box: 12 bytes nonce, ciphertext, 16 bytes tag; additional data: the label
//	    "gardu journal state", journal id, schema version (4), key number (4)
//
// The box holds salt (8), serial (8), seq (8), commits (8), next key number (4),
// behind (1: 0 or 1), and the stamp to the end.
type state struct {
	salt    uint64 // of txn.Identity
	serial  uint64 // the first serial that is not reserved
	seq     uint64 // the highest sequence number ever given
	commits uint64 // how many commits there were, this one included
	nextKey uint32
	behind  bool // it was put back from a copy, and nobody has dealt with that
	stamp   []byte
}

const (
	stateMagic = "GDT\x01"
	stateFixed = 8 + 8 + 8 + 8 + 4 + 1
)

func stateAAD(id journalID, key uint32) []byte {
	return newAdditional("gardu journal state", id).u32(sealVersion).u32(key)
}

func (s *state) seal(k *dataKey, id journalID) []byte {
	p := make([]byte, 0, stateFixed+len(s.stamp))
	p = binary.BigEndian.AppendUint64(p, s.salt)
	p = binary.BigEndian.AppendUint64(p, s.serial)
	p = binary.BigEndian.AppendUint64(p, s.seq)
	p = binary.BigEndian.AppendUint64(p, s.commits)
	p = binary.BigEndian.AppendUint32(p, s.nextKey)
	if s.behind {
		p = append(p, 1)
	} else {
		p = append(p, 0)
	}
	p = append(p, s.stamp...)
	b := binary.BigEndian.AppendUint32([]byte(stateMagic), k.id)
	k.seals.Add(1)
	return k.aead.Seal(b, nil, p, stateAAD(id, k.id)) //nolint:gosec // the AEAD makes its own random nonce
}

// stateKey reads which data key sealed the state.
func stateKey(b []byte) (uint32, error) {
	if len(b) < 8+boxOverhead+stateFixed || len(b) > 8+boxOverhead+stateFixed+maxStamp || string(b[:4]) != stateMagic {
		return 0, errors.New("the journal's state has the wrong form")
	}
	return binary.BigEndian.Uint32(b[4:]), nil
}

func openState(k *dataKey, id journalID, b []byte) (state, error) {
	if _, err := stateKey(b); err != nil {
		return state{}, err
	}
	p, err := k.aead.Open(nil, nil, b[8:], stateAAD(id, k.id))
	if err != nil {
		return state{}, fmt.Errorf("open the journal's state: %w", txn.ErrSeal)
	}
	return state{
		salt:    binary.BigEndian.Uint64(p),
		serial:  binary.BigEndian.Uint64(p[8:]),
		seq:     binary.BigEndian.Uint64(p[16:]),
		commits: binary.BigEndian.Uint64(p[24:]),
		nextKey: binary.BigEndian.Uint32(p[32:]),
		behind:  p[36] != 0,
		stamp:   append([]byte(nil), p[stateFixed:]...),
	}, nil
}
