package worker

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha512"
	"slices"

	"github.com/miekg/pkcs11"

	"gardu/internal/keystore/protocol"
)

// unwrap makes a key of what was encrypted for a transport key of the token; the
// value is never in this process. It ends as create does.
func (t *token) unwrap(out []byte, m *protocol.Unwrap) ([]byte, error) {
	var c protocol.Create
	if err := c.Parse(m.Create); err != nil {
		return nil, err
	}
	var transport protocol.Key
	if err := transport.Parse(m.Transport); err != nil {
		return nil, err
	}
	mechs := []protocol.Mechanism{m.Mechanism}
	if m.Mechanism == protocol.MechNone {
		mechs = []protocol.Mechanism{protocol.MechOAEPSHA256, protocol.MechOAEPSHA1}
	}
	var o *protocol.Object
	var last error
	for _, mech := range mechs {
		made, err := t.unwrapBy(mech, &transport, m, &c)
		if err == nil {
			err = t.ceremony(func(sh pkcs11.SessionHandle) (err error) {
				o, err = t.approve(sh, protocol.OpUnwrap, &c, made[0])
				return err
			})
		}
		if err == nil && c.Type == protocol.TypeAES && o.Bits == 0 && len(c.Check) == 0 {
			err = fail(protocol.ReasonNotAnnounced, "the token does not say how long the key is; give its check value, which its length is a part of")
		}
		switch {
		case err == nil:
			return o.Append(out), nil
		case len(made) > 0:
			return nil, t.undo(made, err)
		case because(err) == protocol.ReasonSession:
			return nil, err
		}
		last = err
		if r := because(err); r == protocol.ReasonKeyExists || r == protocol.ReasonKeyNotFound || r == protocol.ReasonKeyAmbiguous {
			break
		}
	}
	return nil, foreign(last)
}

// foreign gives what a token says to a blob that is not for it one reason: tokens
// say whatever they like.
func foreign(err error) error {
	if because(err) == protocol.ReasonDevice {
		return fail(protocol.ReasonData, "%v", err)
	}
	return err
}

func (t *token) unwrapBy(mech protocol.Mechanism, transport *protocol.Key, m *protocol.Unwrap, c *protocol.Create) (made []pkcs11.ObjectHandle, err error) {
	err = t.ceremony(func(sh pkcs11.SessionHandle) error {
		if err := t.mustBeNew(sh, c.Label, c.ID, c.AnyID); err != nil {
			return err
		}
		h, err := t.findOne(sh, transport)
		if err != nil {
			return err
		}
		attempt := func(sh pkcs11.SessionHandle, leanly bool) ([]pkcs11.ObjectHandle, error) {
			return t.unwrapOnce(sh, mech, h, m, c, leanly)
		}
		made, err = attempt(sh, false)
		if err != nil && len(made) == 0 && because(err) == protocol.ReasonConfiguration {
			made, err = t.makeLean(attempt, err)
		}
		if err == nil {
			t.narrow(made[0], c)
		}
		return err
	})
	return made, err
}

func (t *token) unwrapOnce(sh pkcs11.SessionHandle, mech protocol.Mechanism, transport pkcs11.ObjectHandle, m *protocol.Unwrap, c *protocol.Create, leanly bool) ([]pkcs11.ObjectHandle, error) {
	oaep, _, err := mechanism(&protocol.Use{Mechanism: mech})
	if err != nil {
		return nil, err
	}
	secret := func(typ uint) ([]pkcs11.ObjectHandle, error) {
		h, err := t.ctx.UnwrapKey(sh, oaep, transport, m.Value, append(purpose(c, leanly),
			pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY),
			pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, typ)))
		if err != nil {
			return nil, failed("C_UnwrapKey", err)
		}
		return []pkcs11.ObjectHandle{h}, nil
	}
	switch c.Type {
	case protocol.TypeGeneric:
		return secret(pkcs11.CKK_GENERIC_SECRET)
	case protocol.TypeAES:
		return secret(pkcs11.CKK_AES)
	case protocol.TypeRSA:
		return t.unwrapRSA(sh, oaep, transport, m, c, leanly)
	}
	return nil, fail(protocol.ReasonUnsupported, "no key of type %d can be unwrapped", c.Type)
}

// unwrapRSA unwraps the AES key, as a passing object of this session, and with it
// the private key as PKCS #8. The public half is made of what the private one shows.
func (t *token) unwrapRSA(sh pkcs11.SessionHandle, oaep []*pkcs11.Mechanism, transport pkcs11.ObjectHandle, m *protocol.Unwrap, c *protocol.Create, leanly bool) ([]pkcs11.ObjectHandle, error) {
	between, err := t.ctx.UnwrapKey(sh, oaep, transport, m.Key, []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY),
		pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_AES),
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false),
		pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, true),
		pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, false),
		pkcs11.NewAttribute(pkcs11.CKA_UNWRAP, true),
	})
	if err != nil {
		return nil, failed("C_UnwrapKey of the AES key", err)
	}
	defer func() { _ = t.ctx.DestroyObject(sh, between) }()
	private, err := t.ctx.UnwrapKey(sh, []*pkcs11.Mechanism{pkcs11.NewMechanism(t.wrapPadded(), nil)}, between, m.Value,
		append(purpose(c, leanly),
			pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_PRIVATE_KEY),
			pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_RSA)))
	if err != nil {
		return nil, failed("C_UnwrapKey of the private key", err)
	}
	made := []pkcs11.ObjectHandle{private}
	v, err := t.attributes(sh, private, pkcs11.CKA_MODULUS, pkcs11.CKA_PUBLIC_EXPONENT)
	if err != nil {
		return made, err
	}
	if len(v[0]) == 0 || len(v[1]) == 0 {
		return made, fail(protocol.ReasonUnsupported, "the token does not show the public half of an unwrapped key")
	}
	public, err := t.ctx.CreateObject(sh, append(publicPurpose(c, leanly),
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_PUBLIC_KEY),
		pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_RSA),
		pkcs11.NewAttribute(pkcs11.CKA_MODULUS, v[0]),
		pkcs11.NewAttribute(pkcs11.CKA_PUBLIC_EXPONENT, v[1])))
	if err != nil {
		return made, failed("C_CreateObject of the public half", err)
	}
	return append(made, public), nil
}

// narrow takes from a new key what the token gave it against the template: uses (NSS
// does to a private key that it unwraps), and that its value may be read and taken away
// (opencryptoki does to every secret that it unwraps). What the token does not let go of,
// approve and verify tell.
func (t *token) narrow(h pkcs11.ObjectHandle, m *protocol.Create) {
	for _, a := range purpose(m, false) {
		if !denies(a) && a.Type != pkcs11.CKA_SENSITIVE && a.Type != pkcs11.CKA_EXTRACTABLE {
			continue
		}
		_ = t.ceremony(func(sh pkcs11.SessionHandle) error {
			if v, err := t.attribute(sh, h, a.Type); err != nil || len(v) != 1 || (v[0] != 0) == (a.Value[0] != 0) {
				return err
			}
			if err := t.ctx.SetAttributeValue(sh, h, []*pkcs11.Attribute{a}); err != nil {
				return failed("C_SetAttributeValue", err)
			}
			return nil
		})
	}
}

// ckmAESKeyWrapKWP is CKM_AES_KEY_WRAP_KWP of PKCS#11 3.0: RFC 5649 and nothing else.
const ckmAESKeyWrapKWP = 0x210B

// wrapPadded is by what the token unwraps RFC 5649. Before version 3.0 this was
// CKM_AES_KEY_WRAP_PAD, by which some tokens (NSS) mean RFC 3394 and a padding of their own.
func (t *token) wrapPadded() uint {
	for _, m := range t.info.Mechanisms {
		if m.Type == ckmAESKeyWrapKWP && m.Flags&pkcs11.CKF_UNWRAP != 0 {
			return ckmAESKeyWrapKWP
		}
	}
	return pkcs11.CKM_AES_KEY_WRAP_PAD
}

// rehearseUnwrap has a transport key unwrap a secret that was made here, into a
// passing object, which must then compute what the secret computes.
func (t *token) rehearseUnwrap(h pkcs11.ObjectHandle, o *protocol.Object) (string, error) {
	value := make([]byte, sha512.BlockSize/2) // fits OAEP under 1024 bits too
	_, _ = rand.Read(value)
	// Some tokens take secrets of a block and more only, and OAEP has room for that.
	value = slices.Concat(value, make([]byte, sha512.BlockSize-len(value)))
	message := []byte("transport key rehearsal")
	mac := hmac.New(sha512.New, value)
	_, _ = mac.Write(message)
	want := mac.Sum(nil)
	var last error = wrongResult
	for _, mech := range []protocol.Mechanism{protocol.MechOAEPSHA256, protocol.MechOAEPSHA1} {
		sealed, err := encryptOAEP(o.Public, mech, value)
		if err != nil {
			return oaepNames[mech], err
		}
		got, err := t.unwrapAndMAC(h, mech, sealed, message)
		if err == nil && bytes.Equal(got, want) {
			return oaepNames[mech] + ", unwrap", nil
		}
		if err != nil {
			last = err
		}
	}
	return "RSA-OAEP, unwrap", last
}

func (t *token) unwrapAndMAC(h pkcs11.ObjectHandle, mech protocol.Mechanism, sealed, message []byte) (out []byte, err error) {
	oaep, _, err := mechanism(&protocol.Use{Mechanism: mech})
	if err != nil {
		return nil, err
	}
	err = t.ceremony(func(sh pkcs11.SessionHandle) error {
		passing, err := t.ctx.UnwrapKey(sh, oaep, h, sealed, []*pkcs11.Attribute{
			pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY),
			pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_GENERIC_SECRET),
			pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false),
			pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, true),
			pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, false),
			pkcs11.NewAttribute(pkcs11.CKA_SIGN, true),
		})
		if err != nil {
			return failed("C_UnwrapKey", err)
		}
		defer func() { _ = t.ctx.DestroyObject(sh, passing) }()
		out, err = t.one(sh, passing, protocol.OpMAC, &protocol.Use{Mechanism: protocol.MechSHA512HMAC, Data: message})
		return err
	})
	return out, err
}
