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
	"math/big"

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
			use = protocol.Use{Mechanism: protocol.MechRSAPKCS, Data: protocol.DigestInfo(digest[:])}
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
