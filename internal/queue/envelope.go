package queue

import (
	"encoding/binary"
	"errors"
	"fmt"
	"unique"

	"gardu/internal/txn"
)

// Sizes and marks of the record format; see the package comment.
const (
	recordMagic  = "GDR\x01"
	idLen        = 26
	maxOperation = 64
	genLen       = 8
	boxOverhead  = 12 + 16
	fixedHeader  = 33
	maxPayload   = 60 << 10
	maxRecord    = 64 << 10
)

// Numbers of the secret kinds on disk.
const (
	kindNone byte = 0
	kindPIN  byte = 1
	kindOTP  byte = 2
)

type generation [genLen]byte

// header is what a record says in clear. It is authenticated by the box.
type header struct {
	key       uint32
	created   int64 // milliseconds since 1970
	expires   int64
	kind      byte
	gen       generation
	id        string
	operation string
}

// record is a header with its box still closed.
type record struct {
	header
	box []byte
}

func kindOf(k txn.SecretKind) (byte, error) {
	switch k {
	case "":
		return kindNone, nil
	case txn.SecretPIN:
		return kindPIN, nil
	case txn.SecretOTP:
		return kindOTP, nil
	}
	return 0, fmt.Errorf("secret kind %q: %w", k, ErrInvalid)
}

func kindName(k byte) txn.SecretKind {
	switch k {
	case kindPIN:
		return txn.SecretPIN
	case kindOTP:
		return txn.SecretOTP
	}
	return ""
}

// headerOf takes the clear part of a request and holds it against the format.
func headerOf(r *txn.Request) (header, error) {
	kind, err := kindOf(r.Secret)
	if err != nil {
		return header{}, err
	}
	h := header{
		created:   r.Created.UnixMilli(),
		expires:   r.Expires.UnixMilli(),
		kind:      kind,
		id:        r.ID,
		operation: string(r.Operation),
	}
	if !validID(h.id) {
		return header{}, fmt.Errorf("request id: not %d letters and digits: %w", idLen, ErrInvalid)
	}
	if !validOperation(h.operation) {
		return header{}, fmt.Errorf("operation: not 1 to %d of a-z, 0-9, '.', '_', '-': %w", maxOperation, ErrInvalid)
	}
	return h, nil
}

// validID also keeps an id from naming any file but its own in the key folder.
func validID(s string) bool {
	if len(s) != idLen {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
			return false
		}
	}
	return true
}

func validOperation(s string) bool {
	if len(s) == 0 || len(s) > maxOperation {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if (c < '0' || c > '9') && (c < 'a' || c > 'z') && c != '.' && c != '_' && c != '-' {
			return false
		}
	}
	return true
}

func (rec *record) encode() []byte {
	b := make([]byte, 0, fixedHeader+1+len(rec.id)+1+len(rec.operation)+4+len(rec.box))
	b = append(b, recordMagic...)
	b = binary.BigEndian.AppendUint32(b, rec.key)
	b = binary.BigEndian.AppendUint64(b, uint64(rec.created)) //nolint:gosec // two's complement is the format
	b = binary.BigEndian.AppendUint64(b, uint64(rec.expires)) //nolint:gosec // likewise
	b = append(b, rec.kind)
	b = append(b, rec.gen[:]...)
	b = append(b, byte(len(rec.id))) //nolint:gosec // idLen, see headerOf
	b = append(b, rec.id...)
	b = append(b, byte(len(rec.operation))) //nolint:gosec // at most maxOperation
	b = append(b, rec.operation...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(rec.box))) //nolint:gosec // at most maxRecord
	return append(b, rec.box...)
}

// parseRecord reads a record strictly: one byte string, one meaning. The box
// shares b's memory; the strings do not.
func parseRecord(b []byte) (*record, error) {
	if len(b) > maxRecord {
		return nil, errors.New("longer than a record can be")
	}
	if len(b) < fixedHeader+2 {
		return nil, errors.New("shorter than a header")
	}
	if string(b[:4]) != recordMagic {
		return nil, errors.New("does not begin with the format's mark")
	}
	rec := &record{header: header{
		key:     binary.BigEndian.Uint32(b[4:]),
		created: int64(binary.BigEndian.Uint64(b[8:])),  //nolint:gosec // two's complement is the format
		expires: int64(binary.BigEndian.Uint64(b[16:])), //nolint:gosec // likewise
		kind:    b[24],
		gen:     generation(b[25:33]),
	}}
	if rec.kind > kindOTP {
		return nil, errors.New("unknown kind of secret")
	}
	if (rec.kind == kindNone) != (rec.gen == generation{}) {
		return nil, errors.New("secret and its generation disagree")
	}
	b = b[fixedHeader:]
	var ok bool
	if rec.id, b, ok = cutShort(b); !ok || !validID(rec.id) {
		return nil, errors.New("request id is not valid")
	}
	if rec.operation, b, ok = cutShort(b); !ok || !validOperation(rec.operation) {
		return nil, errors.New("operation is not valid")
	}
	if len(b) < 4+boxOverhead || int64(binary.BigEndian.Uint32(b)) != int64(len(b)-4) {
		return nil, errors.New("box has the wrong length")
	}
	rec.box = b[4:]
	return rec, nil
}

// cutShort takes a string with a length of one byte before it off b.
func cutShort(b []byte) (s string, rest []byte, ok bool) {
	if len(b) == 0 || len(b)-1 < int(b[0]) {
		return "", nil, false
	}
	n := int(b[0])
	return string(b[1 : 1+n]), b[1+n:], true
}

// journalID is random, one per file.
type journalID [16]byte

// additional builds the additional data of a seal: every part with its length,
// so that no two lists of parts give the same bytes.
type additional []byte

func newAdditional(label string, id journalID) additional {
	a := make(additional, 0, 192)
	return a.text(label).bytes(id[:])
}

func (a additional) bytes(p []byte) additional {
	a = binary.BigEndian.AppendUint32(a, uint32(len(p))) //nolint:gosec // short parts only
	return append(a, p...)
}

func (a additional) text(s string) additional { return a.bytes([]byte(s)) }

func (a additional) u32(n uint32) additional {
	return a.bytes(binary.BigEndian.AppendUint32(nil, n))
}

func (a additional) u64(n uint64) additional {
	return a.bytes(binary.BigEndian.AppendUint64(nil, n))
}

func (h *header) additional(id journalID, seq uint64) []byte {
	return newAdditional("gardu journal record", id).
		u64(seq).
		u32(sealVersion).
		u32(h.key).
		text(h.id).
		text(h.operation).
		u64(uint64(h.created)). //nolint:gosec // two's complement is the format
		u64(uint64(h.expires)). //nolint:gosec // likewise
		bytes([]byte{h.kind}).
		bytes(h.gen[:])
}

// seal closes payload under the data key k for the place seq and returns the
// record's bytes. It sets h.key.
func (k *dataKey) seal(id journalID, seq uint64, h header, payload []byte) []byte {
	h.key = k.id
	rec := record{header: h}
	rec.box = k.aead.Seal(nil, nil, payload, h.additional(id, seq)) //nolint:gosec // the AEAD makes its own random nonce
	k.seals.Add(1)
	return rec.encode()
}

// open opens the box of rec at the place seq.
func (k *dataKey) open(id journalID, seq uint64, rec *record) ([]byte, error) {
	payload, err := k.aead.Open(nil, nil, rec.box, rec.additional(id, seq))
	if err != nil {
		return nil, fmt.Errorf("open box under key %d: %w", k.id, txn.ErrSeal)
	}
	return payload, nil
}

// encodePayload puts a request and its secret's box, if any, together.
func encodePayload(r *txn.Request, secretBox []byte) ([]byte, error) {
	b, err := appendRequest(make([]byte, 4, payloadRoom+len(secretBox)), r)
	if err != nil {
		return nil, fmt.Errorf("encode request: %w", err)
	}
	if len(b)+len(secretBox) > maxPayload {
		return nil, fmt.Errorf("%d bytes of at most %d: %w", len(b)-4, maxPayload, ErrTooLarge)
	}
	binary.BigEndian.PutUint32(b, uint32(len(b)-4)) //nolint:gosec // at most maxPayload
	return append(b, secretBox...), nil
}

// payloadRoom is what most requests need.
const payloadRoom = 1 << 10

func splitPayload(p []byte) (js, secretBox []byte, err error) {
	if len(p) < 4 || int64(binary.BigEndian.Uint32(p)) > int64(len(p)-4) {
		return nil, nil, fmt.Errorf("payload has the wrong length: %w", txn.ErrSeal)
	}
	n := 4 + int(binary.BigEndian.Uint32(p))
	return p[4:n], p[n:], nil
}

// decodePayload reads a request back and holds it against its header: both were
// sealed together, so a difference is a fault of the program that wrote it.
func decodePayload(p []byte, seq uint64, h *header) (*txn.Request, []byte, error) {
	js, secretBox, err := splitPayload(p)
	if err != nil {
		return nil, nil, err
	}
	r, err := parseRequest(js)
	if err != nil {
		// The decoder's words may quote a value; they are left out.
		return nil, nil, fmt.Errorf("decode request: not a request: %w", txn.ErrSeal)
	}
	if r.ID != h.id || string(r.Operation) != h.operation || r.Secret != kindName(h.kind) ||
		(len(secretBox) > 0) != (h.kind != kindNone) {
		return nil, nil, fmt.Errorf("header and request disagree: %w", txn.ErrSeal)
	}
	r.Seq = seq
	// Every record has these; of a hundred thousand in memory each is to be there once.
	r.Operation, r.State, r.Reason, r.At.Boot = once(r.Operation), once(r.State), once(r.Reason), once(r.At.Boot)
	return r, secretBox, nil
}

// once returns the one copy of a string that many records share.
func once[S ~string](s S) S { return S(unique.Make(string(s)).Value()) }
