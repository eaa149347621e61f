package worker

import (
	"bytes"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"math/big"
	"slices"

	"github.com/miekg/pkcs11"

	"gardu/internal/keystore/protocol"
)

// list describes every key and certificate of the token.
func (t *token) list(out []byte) ([]byte, error) {
	var all protocol.Objects
	err := t.pool.with(func(sh pkcs11.SessionHandle) error {
		for _, class := range []protocol.Class{protocol.ClassPrivate, protocol.ClassSecret, protocol.ClassPublic, protocol.ClassCert} {
			found, err := t.find(sh, template(&protocol.Key{Class: class}), 1000)
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
		if err := t.mustBeNew(sh, m); err != nil {
			return err
		}
		made, err := t.make(sh, op, m, false)
		if err != nil && len(made) == 0 && because(err) != protocol.ReasonSession {
			made, err = t.makeLean(op, m, err)
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

// makeLean tries once more without the attributes that only deny a use: some
// tokens refuse a template that says them. What the key may do is read back in
// any case. When that fails too, cause is the error.
func (t *token) makeLean(op protocol.Op, m *protocol.Create, cause error) (made []pkcs11.ObjectHandle, err error) {
	err = t.ceremony(func(sh pkcs11.SessionHandle) (err error) {
		made, err = t.make(sh, op, m, true)
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
	return slices.DeleteFunc(template, func(a *pkcs11.Attribute) bool {
		return len(a.Value) == 1 && a.Value[0] == 0 && a.Type != pkcs11.CKA_EXTRACTABLE
	})
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
	return fail(protocol.ReasonNotCommitted, "%v", cause)
}

func (t *token) mustBeNew(sh pkcs11.SessionHandle, m *protocol.Create) error {
	for _, class := range []protocol.Class{protocol.ClassPrivate, protocol.ClassSecret, protocol.ClassPublic} {
		name := protocol.Key{Label: m.Label, Class: class}
		if !m.AnyID {
			name.ID = m.ID
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
		pkcs11.NewAttribute(pkcs11.CKA_UNWRAP, false),
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
		pkcs11.NewAttribute(pkcs11.CKA_WRAP, false),
	}
	if leanly {
		return lean(a)
	}
	return a
}

// make returns the new objects, the key itself first. With an error it returns
// those that exist nevertheless.
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
	return nil, fail(protocol.ReasonUnsupported, "no key of type %d and %d bits can be made", m.Type, m.Bits)
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
	if o.Type != m.Type || o.Label != m.Label || !bytes.Equal(o.ID, m.ID) || (o.Bits != m.Bits && o.Bits != 0) {
		return nil, fail(protocol.ReasonConfiguration, "the new key is not the one asked for")
	}
	value := uint(pkcs11.CKA_VALUE)
	if m.Type == protocol.TypeRSA {
		value = pkcs11.CKA_PRIVATE_EXPONENT
	}
	// Any error is a refusal to show it.
	if v, err := t.attribute(sh, h, value); err == nil && len(v) > 0 {
		clear(v)
		return nil, fail(protocol.ReasonConfiguration, "the token shows the new key's value in clear")
	}
	return o, t.rehearse(op, m, h, o)
}

// rehearse has the key do its work once. What an imported key computes is
// compared with what its value computes here.
func (t *token) rehearse(op protocol.Op, m *protocol.Create, h pkcs11.ObjectHandle, o *protocol.Object) error {
	message := make([]byte, 32)
	_, _ = rand.Read(message)
	run := func(op protocol.Op, u *protocol.Use) (out []byte, err error) {
		err = t.pool.with(func(sh pkcs11.SessionHandle) error {
			out, err = t.one(sh, h, op, u)
			return err
		})
		return out, err
	}
	wrong := fail(protocol.ReasonConfiguration, "the new key does not compute what it must")
	switch {
	case m.Type == protocol.TypeGeneric:
		out, err := run(protocol.OpMAC, &protocol.Use{Mechanism: protocol.MechSHA512HMAC, Data: message})
		if err != nil {
			return err
		}
		if op == protocol.OpImport {
			mac := hmac.New(sha512.New, m.Parts[0])
			_, _ = mac.Write(message)
			if !hmac.Equal(out, mac.Sum(nil)) {
				return wrong
			}
		} else if len(out) != sha512.Size {
			return wrong
		}
	case m.Type == protocol.TypeAES:
		return t.rehearseAES(op, m, run, message)
	case m.Type == protocol.TypeRSA && m.Usage&protocol.UsageDecrypt != 0:
		var last error
		for _, mech := range []protocol.Mechanism{protocol.MechOAEPSHA256, protocol.MechOAEPSHA1} {
			sealed, err := encryptOAEP(o.Public, mech, message)
			if err != nil {
				return err
			}
			out, err := run(protocol.OpDecrypt, &protocol.Use{Mechanism: mech, Data: sealed})
			if err == nil && bytes.Equal(out, message) {
				return nil
			}
			last = err
		}
		if last == nil {
			return wrong
		}
		return last
	default:
		return rehearseSign(t.has, o, run, message)
	}
	return nil
}

func (t *token) rehearseAES(op protocol.Op, m *protocol.Create, run func(protocol.Op, *protocol.Use) ([]byte, error), message []byte) error {
	iv := make([]byte, aes.BlockSize)
	_, _ = rand.Read(iv)
	use := protocol.Use{Mechanism: protocol.MechAESCBC, IV: iv, Data: message}
	sealed, err := run(protocol.OpEncrypt, &use)
	if err != nil {
		return err
	}
	wrong := fail(protocol.ReasonConfiguration, "the new key does not compute what it must")
	if op == protocol.OpImport {
		block, err := aes.NewCipher(m.Parts[0])
		if err != nil {
			return fail(protocol.ReasonConfiguration, "the value has no length of an AES key")
		}
		want := make([]byte, len(message))
		cipher.NewCBCEncrypter(block, iv).CryptBlocks(want, message)
		if !bytes.Equal(sealed, want) {
			return wrong
		}
	}
	use.Data = sealed
	back, err := run(protocol.OpDecrypt, &use)
	if err != nil {
		return err
	}
	if !bytes.Equal(back, message) {
		return wrong
	}
	if m.Bits == 256 && t.has(pkcs11.CKM_AES_GCM) {
		return rehearseGCM(run, message)
	}
	return nil
}

// rehearseGCM tries what a key-encryption key is for: a mechanism that a token
// lists need not work.
func rehearseGCM(run func(protocol.Op, *protocol.Use) ([]byte, error), message []byte) error {
	iv := make([]byte, 12)
	_, _ = rand.Read(iv)
	use := protocol.Use{Mechanism: protocol.MechAESGCM, IV: iv, AAD: []byte("aad"), Data: message}
	sealed, err := run(protocol.OpEncrypt, &use)
	if err != nil {
		return err
	}
	if len(sealed) != len(iv)+len(message)+16 {
		return fail(protocol.ReasonConfiguration, "AES-GCM under the new key has a wrong length")
	}
	use.IV, use.Data = sealed[:len(iv)], sealed[len(iv):]
	back, err := run(protocol.OpDecrypt, &use)
	if err == nil && !bytes.Equal(back, message) {
		err = fail(protocol.ReasonConfiguration, "the new key does not decrypt what it encrypted")
	}
	return err
}

// sha256Prefix is the DER of a DigestInfo for SHA-256 up to the digest (RFC 8017, 9.2).
var sha256Prefix = []byte{0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20}

func rehearseSign(has func(uint) bool, o *protocol.Object, run func(protocol.Op, *protocol.Use) ([]byte, error), message []byte) error {
	digest := sha256.Sum256(message)
	public, err := x509.ParsePKIXPublicKey(o.Public)
	if err != nil {
		return fail(protocol.ReasonConfiguration, "the token shows no public half of the new key")
	}
	wrong := fail(protocol.ReasonConfiguration, "the new key's signature does not verify")
	switch pub := public.(type) {
	case *rsa.PublicKey:
		use := protocol.Use{Mechanism: protocol.MechSHA256RSAPKCS, Data: message}
		if !has(pkcs11.CKM_SHA256_RSA_PKCS) {
			use = protocol.Use{Mechanism: protocol.MechRSAPKCS, Data: append(bytes.Clone(sha256Prefix), digest[:]...)}
		}
		sig, err := run(protocol.OpSign, &use)
		if err != nil {
			return err
		}
		if rsa.VerifyPKCS1v15(pub, crypto.SHA256, digest[:], sig) != nil {
			return wrong
		}
	case *ecdsa.PublicKey:
		sig, err := run(protocol.OpSign, &protocol.Use{Mechanism: protocol.MechECDSA, Data: digest[:]})
		if err != nil {
			return err
		}
		r, s := new(big.Int).SetBytes(sig[:len(sig)/2]), new(big.Int).SetBytes(sig[len(sig)/2:])
		if !ecdsa.Verify(pub, digest[:], r, s) {
			return wrong
		}
	}
	return nil
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
