package worker

import (
	"encoding/asn1"
	"fmt"
	"slices"

	"github.com/miekg/pkcs11"

	"gardu/internal/keystore/protocol"
)

// list describes every key and certificate of the token.
func (t *token) list(out []byte) ([]byte, error) {
	var all protocol.Objects
	err := t.pool.with(func(sh pkcs11.SessionHandle) error {
		for _, class := range []protocol.Class{protocol.ClassPrivate, protocol.ClassSecret, protocol.ClassPublic, protocol.ClassCert} {
			found, err := t.find(sh, template(&protocol.Key{Class: class}), mostObjects)
			if err != nil {
				return err
			}
			for _, h := range found {
				o, err := t.inspect(sh, h)
				if err != nil {
					return err
				}
				all = append(all, *o)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return all.Append(out), nil
}

// create makes or imports a key, checks that it is what was asked for and works,
// and destroys it again when not: a key that cannot be trusted must not be found
// under the name.
func (t *token) create(out []byte, op protocol.Op, m *protocol.Create) ([]byte, error) {
	var o *protocol.Object
	err := t.ceremony(func(sh pkcs11.SessionHandle) error {
		if err := t.mustBeNew(sh, m.Label, m.ID, m.AnyID); err != nil {
			return err
		}
		attempt := func(sh pkcs11.SessionHandle, leanly bool) ([]pkcs11.ObjectHandle, error) {
			return t.make(sh, op, m, leanly)
		}
		made, err := attempt(sh, false)
		if err != nil && len(made) == 0 && because(err) != protocol.ReasonSession {
			made, err = t.makeLean(attempt, err)
		}
		if err == nil {
			if o, err = t.approve(sh, op, m, made[0]); err == nil {
				return nil
			}
		}
		return t.undo(made, err)
	})
	if err != nil {
		return nil, err
	}
	return o.Append(out), nil
}

// maker makes objects, the key itself first, and with an error returns those that
// exist nevertheless.
type maker func(sh pkcs11.SessionHandle, leanly bool) ([]pkcs11.ObjectHandle, error)

// makeLean tries once more without the attributes that only deny a use: some
// tokens refuse a template that says them. What the key may do is read back in
// any case. When that fails too, cause is the error.
func (t *token) makeLean(attempt maker, cause error) (made []pkcs11.ObjectHandle, err error) {
	err = t.ceremony(func(sh pkcs11.SessionHandle) (err error) {
		made, err = attempt(sh, true)
		return err
	})
	if err != nil && len(made) == 0 {
		err = cause
		if because(cause) == protocol.ReasonConfiguration {
			err = fail(protocol.ReasonUnsupported, "the token does not take such a key: %v", cause)
		}
	}
	return made, err
}

// lean leaves out attributes that deny a use.
func lean(template []*pkcs11.Attribute) []*pkcs11.Attribute {
	return slices.DeleteFunc(template, denies)
}

// denies says whether an attribute denies a use.
func denies(a *pkcs11.Attribute) bool {
	return len(a.Value) == 1 && a.Value[0] == 0 && a.Type != pkcs11.CKA_EXTRACTABLE
}

// undo destroys what was made, in a new session since the old one saw an error.
func (t *token) undo(made []pkcs11.ObjectHandle, cause error) error {
	if len(made) == 0 {
		return cause
	}
	err := t.ceremony(func(sh pkcs11.SessionHandle) error {
		for _, h := range made {
			if err := t.ctx.DestroyObject(sh, h); err != nil {
				return failed("C_DestroyObject", err)
			}
		}
		return nil
	})
	if err != nil {
		return fail(protocol.ReasonLeftUnchecked, "%v; destroying it again: %v", cause, err)
	}
	if because(cause) == protocol.ReasonNotAnnounced {
		return cause
	}
	return fail(protocol.ReasonNotCommitted, "%v", cause)
}

func (t *token) mustBeNew(sh pkcs11.SessionHandle, label string, id []byte, anyID bool) error {
	for _, class := range []protocol.Class{protocol.ClassPrivate, protocol.ClassSecret, protocol.ClassPublic} {
		name := protocol.Key{Label: label, Class: class}
		if !anyID {
			name.ID = id
		}
		found, err := t.find(sh, template(&name), 1)
		if err != nil {
			return err
		}
		if len(found) > 0 {
			return fail(protocol.ReasonKeyExists, "the token already holds an object of this name")
		}
	}
	return nil
}

// purpose is what a new secret or private key may do, and nothing else. Tokens
// take what is not said for true.
func purpose(m *protocol.Create, leanly bool) []*pkcs11.Attribute {
	has := func(u protocol.Usage) bool { return m.Usage&u != 0 }
	a := []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true),
		pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, true),
		pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, true),
		pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, false),
		pkcs11.NewAttribute(pkcs11.CKA_LABEL, m.Label),
		pkcs11.NewAttribute(pkcs11.CKA_ID, m.ID),
		pkcs11.NewAttribute(pkcs11.CKA_SIGN, has(protocol.UsageSign)),
		pkcs11.NewAttribute(pkcs11.CKA_DECRYPT, has(protocol.UsageDecrypt)),
		pkcs11.NewAttribute(pkcs11.CKA_UNWRAP, has(protocol.UsageUnwrap)),
		pkcs11.NewAttribute(pkcs11.CKA_DERIVE, false),
	}
	if m.Type == protocol.TypeAES || m.Type == protocol.TypeGeneric {
		a = append(a,
			pkcs11.NewAttribute(pkcs11.CKA_ENCRYPT, has(protocol.UsageEncrypt)),
			pkcs11.NewAttribute(pkcs11.CKA_WRAP, false),
			pkcs11.NewAttribute(pkcs11.CKA_VERIFY, false))
	}
	if leanly {
		return lean(a)
	}
	return a
}

func publicPurpose(m *protocol.Create, leanly bool) []*pkcs11.Attribute {
	a := []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true),
		pkcs11.NewAttribute(pkcs11.CKA_LABEL, m.Label),
		pkcs11.NewAttribute(pkcs11.CKA_ID, m.ID),
		pkcs11.NewAttribute(pkcs11.CKA_VERIFY, m.Usage&protocol.UsageSign != 0),
		pkcs11.NewAttribute(pkcs11.CKA_ENCRYPT, m.Usage&protocol.UsageDecrypt != 0),
		pkcs11.NewAttribute(pkcs11.CKA_WRAP, m.Usage&protocol.UsageUnwrap != 0),
	}
	if leanly {
		return lean(a)
	}
	return a
}

// make generates or imports.
func (t *token) make(sh pkcs11.SessionHandle, op protocol.Op, m *protocol.Create, leanly bool) ([]pkcs11.ObjectHandle, error) {
	if op == protocol.OpImport {
		return t.importKey(sh, m, leanly)
	}
	single := func(mech uint, size int) ([]pkcs11.ObjectHandle, error) {
		h, err := t.ctx.GenerateKey(sh, []*pkcs11.Mechanism{pkcs11.NewMechanism(mech, nil)},
			append(purpose(m, leanly), pkcs11.NewAttribute(pkcs11.CKA_VALUE_LEN, size)))
		if err != nil {
			return nil, failed("C_GenerateKey", err)
		}
		return []pkcs11.ObjectHandle{h}, nil
	}
	pair := func(mech uint, public ...*pkcs11.Attribute) ([]pkcs11.ObjectHandle, error) {
		pub, priv, err := t.ctx.GenerateKeyPair(sh, []*pkcs11.Mechanism{pkcs11.NewMechanism(mech, nil)},
			append(publicPurpose(m, leanly), public...), purpose(m, leanly))
		if err != nil {
			return nil, failed("C_GenerateKeyPair", err)
		}
		return []pkcs11.ObjectHandle{priv, pub}, nil
	}
	unsupported := fail(protocol.ReasonUnsupported, "no key of type %d and %d bits can be made", m.Type, m.Bits)
	if !sensible(m.Type, m.Bits) {
		return nil, unsupported
	}
	switch m.Type {
	case protocol.TypeAES:
		return single(pkcs11.CKM_AES_KEY_GEN, int(m.Bits/8))
	case protocol.TypeGeneric:
		return single(pkcs11.CKM_GENERIC_SECRET_KEY_GEN, int(m.Bits/8))
	case protocol.TypeRSA:
		return pair(pkcs11.CKM_RSA_PKCS_KEY_PAIR_GEN,
			pkcs11.NewAttribute(pkcs11.CKA_MODULUS_BITS, int(m.Bits)),
			pkcs11.NewAttribute(pkcs11.CKA_PUBLIC_EXPONENT, []byte{1, 0, 1}))
	case protocol.TypeEC:
		for _, c := range curves {
			if c.curve.Params().BitSize == int(m.Bits) {
				oid, err := asn1.Marshal(c.oid)
				if err != nil {
					return nil, fail(protocol.ReasonUnsupported, "name the curve: %v", err)
				}
				return pair(pkcs11.CKM_EC_KEY_PAIR_GEN, pkcs11.NewAttribute(pkcs11.CKA_EC_PARAMS, oid))
			}
		}
	}
	return nil, unsupported
}

// sensible keeps sizes from the token with which it would be busy for minutes, or out
// of memory. Which curves there are, the table of curves says.
func sensible(t protocol.KeyType, bits uint32) bool {
	switch t {
	case protocol.TypeAES:
		return bits == 128 || bits == 192 || bits == 256
	case protocol.TypeGeneric:
		return bits >= 8 && bits <= 8192 && bits%8 == 0
	case protocol.TypeRSA:
		return bits >= 1024 && bits <= 8192 && bits%8 == 0
	}
	return true
}

// rsaParts is the number of numbers of an imported RSA key.
const rsaParts = 8

func (t *token) importKey(sh pkcs11.SessionHandle, m *protocol.Create, leanly bool) ([]pkcs11.ObjectHandle, error) {
	var made []pkcs11.ObjectHandle
	object := func(template ...*pkcs11.Attribute) error {
		h, err := t.ctx.CreateObject(sh, template)
		if err != nil {
			return failed("C_CreateObject", err)
		}
		made = append(made, h)
		return nil
	}
	secret := func(typ uint) error {
		if len(m.Parts) != 1 {
			return fmt.Errorf("%w: a secret has one part", protocol.ErrFrame)
		}
		return object(append(purpose(m, leanly),
			pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY),
			pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, typ),
			pkcs11.NewAttribute(pkcs11.CKA_VALUE, m.Parts[0]))...)
	}
	switch m.Type {
	case protocol.TypeAES:
		err := secret(pkcs11.CKK_AES)
		return made, err
	case protocol.TypeGeneric:
		err := secret(pkcs11.CKK_GENERIC_SECRET)
		return made, err
	case protocol.TypeRSA:
		if len(m.Parts) != rsaParts {
			return nil, fmt.Errorf("%w: an RSA key has %d parts", protocol.ErrFrame, rsaParts)
		}
		private := append(purpose(m, leanly),
			pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_PRIVATE_KEY),
			pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_RSA))
		for i, typ := range [rsaParts]uint{
			pkcs11.CKA_MODULUS, pkcs11.CKA_PUBLIC_EXPONENT, pkcs11.CKA_PRIVATE_EXPONENT, pkcs11.CKA_PRIME_1,
			pkcs11.CKA_PRIME_2, pkcs11.CKA_EXPONENT_1, pkcs11.CKA_EXPONENT_2, pkcs11.CKA_COEFFICIENT,
		} {
			private = append(private, pkcs11.NewAttribute(typ, m.Parts[i]))
		}
		if err := object(private...); err != nil {
			return made, err
		}
		err := object(append(publicPurpose(m, leanly),
			pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_PUBLIC_KEY),
			pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_RSA),
			pkcs11.NewAttribute(pkcs11.CKA_MODULUS, m.Parts[0]),
			pkcs11.NewAttribute(pkcs11.CKA_PUBLIC_EXPONENT, m.Parts[1]))...)
		return made, err
	}
	return nil, fail(protocol.ReasonUnsupported, "no key of type %d can be imported", m.Type)
}

// destroy destroys one key, and with a private key the public one of the same
// name and ID.
func (t *token) destroy(out []byte, m *protocol.Use) ([]byte, error) {
	var want protocol.Key
	if err := want.Parse(m.Key); err != nil {
		return nil, err
	}
	t.keys.forget(m.Key)
	return out, t.ceremony(func(sh pkcs11.SessionHandle) error {
		h, err := t.findOne(sh, &want)
		if err != nil {
			return err
		}
		o, err := t.inspect(sh, h)
		if err != nil {
			return err
		}
		if err := suits(&want, o); err != nil {
			return err
		}
		doomed := []pkcs11.ObjectHandle{h}
		if want.Class == protocol.ClassPrivate {
			beside, err := t.find(sh, template(&protocol.Key{Label: o.Label, ID: o.ID, Class: protocol.ClassPublic}), 2)
			if err != nil {
				return err
			}
			doomed = append(doomed, beside...)
		}
		for _, h := range doomed {
			if err := t.ctx.DestroyObject(sh, h); err != nil {
				return failed("C_DestroyObject", err)
			}
		}
		return nil
	})
}
