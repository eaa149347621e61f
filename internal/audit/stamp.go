package audit

import (
	"encoding/binary"
	"errors"
)

// Head is the newest line of a record, or of none.
type Head struct {
	Seq  uint64 // 0: there is no line
	hash hash
}

// Hash is the line's hash in hexadecimal, 64 zeros where there is no line.
func (h Head) Hash() string { return h.hash.String() }

// stampVersion is the first byte of a stamp, before 8 bytes sequence number,
// big-endian, and 32 bytes hash.
const stampVersion = 1

// ErrStamp says that what should be a head's stamp is none.
var ErrStamp = errors.New("the journal's note of the audit record cannot be read")

// Stamp is the head as bytes, to be kept in another place.
func (h Head) Stamp() []byte {
	b := binary.BigEndian.AppendUint64([]byte{stampVersion}, h.Seq)
	return append(b, h.hash[:]...)
}

// ParseStamp reads what Stamp made. No bytes are the head of an empty record.
func ParseStamp(b []byte) (Head, error) {
	if len(b) == 0 {
		return Head{}, nil
	}
	var h Head
	if len(b) != 1+8+len(h.hash) || b[0] != stampVersion {
		return Head{}, ErrStamp
	}
	h.Seq = binary.BigEndian.Uint64(b[1:])
	copy(h.hash[:], b[9:])
	return h, nil
}
