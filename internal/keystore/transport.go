package keystore

import (
	"context"
	"fmt"

	"gardu/internal/keystore/protocol"
)

// Blob is a key that was encrypted elsewhere for a transport key of the token:
//
//   - a secret or AES key: the output of RSA-OAEP over its bytes;
//   - an RSA key, which is too large for that: the output of RSA-OAEP over 32 random
//     bytes, and behind it the key as PKCS #8 DER under these bytes as an AES key by
//     RFC 5649 (key wrap with padding). CKM_RSA_AES_KEY_WRAP has the same layout.
//
// OAEP takes an empty label and one hash for both uses. An HMAC secret of less than
// 64 bytes is to be padded with zeros to 64 before: the MACs are the same, and some
// tokens take no shorter one; what comes in a blob is never seen here and cannot
// be padded later.
type Blob struct {
	Transport string // the transport key's URI
	// Hash of OAEP: MechanismOAEPSHA256, MechanismOAEPSHA1, or empty to try both.
	Hash  Mechanism
	Bytes []byte
}

// ImportBlob puts a key into the token that came in a Blob. Its value is in
// nobody's memory. It is checked as by Import, but that it computes what it must
// only its check value can tell: give n.Check, or compare what comes back.
func (s *Store) ImportBlob(ctx context.Context, n NewKey, b Blob) (KeyInfo, error) {
	info, err := s.importBlob(ctx, n, b)
	if err != nil {
		return KeyInfo{}, explain("import", n.Label, err)
	}
	return info, nil
}

func (s *Store) importBlob(ctx context.Context, n NewKey, b Blob) (KeyInfo, error) {
	c, r, err := n.create()
	if err != nil {
		return KeyInfo{}, err
	}
	u, err := ParseURI(b.Transport)
	if err != nil {
		return KeyInfo{}, err
	}
	k, err := s.key(u.String(), protocol.ClassPrivate, "private", protocol.TypeRSA)
	if err != nil {
		return KeyInfo{}, err
	}
	k.judge = k.strongEnough
	t, err := k.resolve(ctx)
	if err != nil {
		return KeyInfo{}, err
	}
	if t.info.Attributes["CKA_UNWRAP"] != "yes" {
		return KeyInfo{}, &Error{
			Op: "import under", Object: k.name, Err: fmt.Errorf("%w: it may not unwrap keys", ErrUnsupported),
			Hint: "make a transport key with `gardu keys generate transport rsa-3072-transport`",
		}
	}
	ask := protocol.Unwrap{Transport: t.name, Value: b.Bytes, Create: c.Append(nil)}
	switch b.Hash {
	case "":
	case MechanismOAEPSHA256:
		ask.Mechanism = protocol.MechOAEPSHA256
	case MechanismOAEPSHA1:
		ask.Mechanism = protocol.MechOAEPSHA1
	default:
		return KeyInfo{}, given("give sha256 or sha1, or leave it out", "OAEP is known with %s and %s", MechanismOAEPSHA256, MechanismOAEPSHA1)
	}
	size := (t.info.Bits + 7) / 8
	switch {
	case r.typ == protocol.TypeEC:
		return KeyInfo{}, fmt.Errorf("%w: EC keys are made in the token, not imported", ErrUnsupported)
	case r.typ != protocol.TypeRSA && len(b.Bytes) != size:
		return KeyInfo{}, fmt.Errorf("%w: it has %d bytes; a secret under this transport key has %d", ErrCiphertext, len(b.Bytes), size)
	case r.typ == protocol.TypeRSA && len(b.Bytes) <= size:
		return KeyInfo{}, fmt.Errorf("%w: it has %d bytes; an RSA key under this transport key has %d for the AES key and more behind them",
			ErrCiphertext, len(b.Bytes), size)
	case r.typ == protocol.TypeRSA:
		ask.Key, ask.Value = b.Bytes[:size], b.Bytes[size:]
	case r.typ == protocol.TypeGeneric:
		c.Bits = 0 // what comes, comes; its length is told afterwards
		ask.Create = c.Append(nil)
	}
	var o protocol.Object
	_, err = s.do(ctx, &request{
		op: protocol.OpUnwrap, verb: "import", object: URI{Object: c.Label, ID: c.ID}.String(), deadline: s.opts.CeremonyDeadline,
		body: ask.Append, check: o.Parse, once: true,
	})
	if err != nil {
		return KeyInfo{}, err
	}
	return keyInfo(&o), nil
}
