package worker

import (
	"bytes"
	"crypto/sha256"

	"github.com/miekg/pkcs11"

	"gardu/internal/keystore/protocol"
)

// approve checks a new key: its attributes as the token tells them, that its
// value cannot be read, and that it computes what it must. One token was seen to
// accept a secret as sensitive that was then unusable and readable.
func (t *token) approve(sh pkcs11.SessionHandle, op protocol.Op, m *protocol.Create, h pkcs11.ObjectHandle) (*protocol.Object, error) {
	o, err := t.inspect(sh, h)
	if err != nil {
		return nil, err
	}
	for _, f := range []struct {
		place int
		want  protocol.Fact
		name  string
	}{
		{protocol.FactToken, protocol.FactYes, "CKA_TOKEN is not true"},
		{protocol.FactPrivate, protocol.FactYes, "CKA_PRIVATE is not true"},
		{protocol.FactSensitive, protocol.FactYes, "CKA_SENSITIVE is not true"},
		{protocol.FactExtractable, protocol.FactNo, "CKA_EXTRACTABLE is not false"},
	} {
		if o.Facts[f.place] != f.want {
			return nil, fail(protocol.ReasonConfiguration, "%s on the new key", f.name)
		}
	}
	if o.Type != m.Type || o.Label != m.Label || !bytes.Equal(o.ID, m.ID) || (m.Bits != 0 && o.Bits != 0 && o.Bits != m.Bits) {
		return nil, fail(protocol.ReasonConfiguration, "the new key is not the one asked for")
	}
	if t.readable(sh, h, m.Type) {
		return nil, fail(protocol.ReasonConfiguration, "the token shows the new key's value in clear")
	}
	if _, err := t.rehearse(op, m, h, o); err != nil {
		return nil, err
	}
	return o, compareCheck(m.Check, o)
}

// readable says whether the token shows a key's value. Any error is a refusal.
func (t *token) readable(sh pkcs11.SessionHandle, h pkcs11.ObjectHandle, typ protocol.KeyType) bool {
	value := uint(pkcs11.CKA_VALUE)
	if typ == protocol.TypeRSA {
		value = pkcs11.CKA_PRIVATE_EXPONENT
	}
	v, err := t.attribute(sh, h, value)
	clear(v)
	return err == nil && len(v) > 0
}

// compareCheck holds a new key against the check value that came with it by
// another way.
func compareCheck(want []byte, o *protocol.Object) error {
	have := o.Check
	if len(o.Public) > 0 {
		sum := sha256.Sum256(o.Public)
		have = sum[:]
	}
	switch {
	case len(want) == 0:
		return nil
	case len(have) == 0:
		return fail(protocol.ReasonConfiguration, "the token computes no check value of the new key to compare")
	case len(want) > len(have) || !bytes.Equal(want, have[:len(want)]):
		return fail(protocol.ReasonNotAnnounced, "its check value begins with %x and not with %x: it is another key than was announced", have[:min(len(want), len(have))], want)
	}
	return nil
}
