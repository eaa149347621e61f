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

// runner carries out one operation with the key that is tried.
type runner func(op protocol.Op, u *protocol.Use) ([]byte, error)

// wrongResult is what a key failed its trial with.
var wrongResult = fail(protocol.ReasonConfiguration, "the key does not compute what it must")

// rehearse has the key do its work once and says what that was. What an imported
// key computes is compared with what its value computes here.
func (t *token) rehearse(op protocol.Op, m *protocol.Create, h pkcs11.ObjectHandle, o *protocol.Object) (trial string, err error) {
	message := make([]byte, 32)
	_, _ = rand.Read(message)
	run := func(op protocol.Op, u *protocol.Use) (out []byte, err error) {
		err = t.pool.with(func(sh pkcs11.SessionHandle) error {
			out, err = t.one(sh, h, op, u)
			return err
		})
		return out, err
	}
	switch {
	case m.Type == protocol.TypeGeneric:
		return "HMAC-SHA512", rehearseMAC(op, m, run, message)
	case m.Type == protocol.TypeAES && m.Usage&protocol.UsageDecrypt != 0:
		return "AES-CBC, encrypt and decrypt", t.rehearseAES(op, m, run, message)
	case m.Type == protocol.TypeRSA && m.Usage&protocol.UsageDecrypt != 0:
		return rehearseOAEP(o, run, message)
	case m.Type == protocol.TypeRSA && m.Usage&protocol.UsageUnwrap != 0:
		return t.rehearseUnwrap(h, o)
	case m.Usage&protocol.UsageSign != 0:
		return "signature, verified", rehearseSign(t.has, o, run, message)
	}
	return "", fail(protocol.ReasonConfiguration, "the key may do nothing that gardu does")
}

func rehearseMAC(op protocol.Op, m *protocol.Create, run runner, message []byte) error {
	out, err := run(protocol.OpMAC, &protocol.Use{Mechanism: protocol.MechSHA512HMAC, Data: message})
	if err != nil {
		return err
	}
	if len(out) != sha512.Size {
		return wrongResult
	}
	if op == protocol.OpImport {
		mac := hmac.New(sha512.New, m.Parts[0])
		_, _ = mac.Write(message)
		if !hmac.Equal(out, mac.Sum(nil)) {
			return wrongResult
		}
	}
	return nil
}

// oaepNames say which hash a token takes: whoever encrypts for it must know.
var oaepNames = map[protocol.Mechanism]string{protocol.MechOAEPSHA256: "RSA-OAEP with SHA-256", protocol.MechOAEPSHA1: "RSA-OAEP with SHA-1"}

func rehearseOAEP(o *protocol.Object, run runner, message []byte) (string, error) {
	var last error = wrongResult
	for _, mech := range []protocol.Mechanism{protocol.MechOAEPSHA256, protocol.MechOAEPSHA1} {
		sealed, err := encryptOAEP(o.Public, mech, message)
		if err != nil {
			return oaepNames[mech], err
		}
		out, err := run(protocol.OpDecrypt, &protocol.Use{Mechanism: mech, Data: sealed})
		if err == nil && bytes.Equal(out, message) {
			return oaepNames[mech], nil
		}
		if err != nil {
			last = err
		}
	}
	return "RSA-OAEP", last
}

func (t *token) rehearseAES(op protocol.Op, m *protocol.Create, run runner, message []byte) error {
	iv := make([]byte, aes.BlockSize)
	_, _ = rand.Read(iv)
	use := protocol.Use{Mechanism: protocol.MechAESCBC, IV: iv, Data: message}
	sealed, err := run(protocol.OpEncrypt, &use)
	if err != nil {
		return err
	}
	if op == protocol.OpImport {
		block, err := aes.NewCipher(m.Parts[0])
		if err != nil {
			return fail(protocol.ReasonConfiguration, "the value has no length of an AES key")
		}
		want := make([]byte, len(message))
		cipher.NewCBCEncrypter(block, iv).CryptBlocks(want, message)
		if !bytes.Equal(sealed, want) {
			return wrongResult
		}
	}
	use.Data = sealed
	back, err := run(protocol.OpDecrypt, &use)
	if err != nil {
		return err
	}
	if !bytes.Equal(back, message) {
		return wrongResult
	}
	if m.Bits == 256 && t.has(pkcs11.CKM_AES_GCM) {
		return rehearseGCM(run, message)
	}
	return nil
}

// rehearseGCM tries what a key-encryption key is for: a mechanism that a token
// lists need not work.
func rehearseGCM(run runner, message []byte) error {
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

func rehearseSign(has func(uint) bool, o *protocol.Object, run runner, message []byte) error {
	digest := sha256.Sum256(message)
	public, err := x509.ParsePKIXPublicKey(o.Public)
	if err != nil {
		return fail(protocol.ReasonConfiguration, "the token shows no public half of the new key")
	}
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
			return wrongResult
		}
	case *ecdsa.PublicKey:
		sig, err := run(protocol.OpSign, &protocol.Use{Mechanism: protocol.MechECDSA, Data: digest[:]})
		if err != nil {
			return err
		}
		r, s := new(big.Int).SetBytes(sig[:len(sig)/2]), new(big.Int).SetBytes(sig[len(sig)/2:])
		if !ecdsa.Verify(pub, digest[:], r, s) {
			return wrongResult
		}
	}
	return nil
}
