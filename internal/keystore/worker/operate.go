package worker

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1" //nolint:gosec // OAEP with SHA-1 is all that some tokens have; OAEP does not rest on collision resistance
	"crypto/sha256"
	"crypto/x509"
	"errors"

	"github.com/miekg/pkcs11"

	"gardu/internal/keystore/protocol"
)

// operate carries out one operation with one key. When a session or handle was
// lost it is done once more in a new session with the key found anew; every
// operation of this kind may be repeated without harm.
func (t *token) operate(out []byte, op protocol.Op, m *protocol.Use) ([]byte, error) {
	result, err := t.tryOperate(op, m)
	if mayPass(err) {
		first := err
		t.pool.drop()
		t.keys.forget(m.Key)
		result, err = t.tryOperate(op, m)
		if op == protocol.OpDecrypt && again(first, err) {
			result, err = t.judge(m, err)
		}
	}
	if err != nil {
		return nil, err
	}
	defer clear(result)
	return append(out, result...), nil
}

// again says whether err is the same answer to the same call as before.
func again(before, err error) bool {
	a, ok := errors.AsType[*protocol.Failure](before)
	b, ok2 := errors.AsType[*protocol.Failure](err)
	return ok && ok2 && *a == *b && b.Reason == protocol.ReasonDevice
}

// judge tells a foreign ciphertext from a sick token: tokens answer one with
// whatever error they like. It is foreign when the key decrypts what it encrypts
// itself, and still not this.
func (t *token) judge(m *protocol.Use, cause error) ([]byte, error) {
	if !t.decrypts(m) {
		return nil, cause
	}
	result, err := t.tryOperate(protocol.OpDecrypt, m)
	if again(cause, err) {
		return nil, fail(protocol.ReasonData, "%v, while the key decrypts what it encrypted itself", err)
	}
	return result, err
}

func (t *token) tryOperate(op protocol.Op, m *protocol.Use) (result []byte, err error) {
	err = t.pool.with(func(sh pkcs11.SessionHandle) error {
		k, err := t.key(sh, m.Key)
		if err != nil {
			return err
		}
		result, err = t.one(sh, k.handle, op, m)
		return err
	})
	return result, err
}

// one is the PKCS#11 operation itself: an init and the one-shot call.
func (t *token) one(sh pkcs11.SessionHandle, h pkcs11.ObjectHandle, op protocol.Op, m *protocol.Use) ([]byte, error) {
	mech, gcm, err := mechanism(m)
	if err != nil {
		return nil, err
	}
	defer gcm.Free()
	switch op {
	case protocol.OpSign, protocol.OpMAC:
		if err := t.ctx.SignInit(sh, mech, h); err != nil {
			return nil, failed("C_SignInit", err)
		}
		out, err := t.ctx.Sign(sh, m.Data)
		return out, failed("C_Sign", err)
	case protocol.OpEncrypt:
		if err := t.ctx.EncryptInit(sh, mech, h); err != nil {
			return nil, failed("C_EncryptInit", err)
		}
		out, err := t.ctx.Encrypt(sh, m.Data)
		if err != nil || gcm == nil {
			return out, failed("C_Encrypt", err)
		}
		// Some devices put an IV of their own in place of the given one.
		return append(gcm.IV(), out...), nil
	case protocol.OpDecrypt:
		if err := t.ctx.DecryptInit(sh, mech, h); err != nil {
			return nil, failed("C_DecryptInit", err)
		}
		out, err := t.ctx.Decrypt(sh, m.Data)
		return out, failed("C_Decrypt", err)
	}
	return nil, fail(protocol.ReasonUnsupported, "operation %d is none of a key", op)
}

// mechanism translates a mechanism and its parameters. gcm is nil but for AES-GCM.
func mechanism(m *protocol.Use) (list []*pkcs11.Mechanism, gcm *pkcs11.GCMParams, err error) {
	var mech *pkcs11.Mechanism
	switch m.Mechanism {
	case protocol.MechSHA256RSAPKCS:
		mech = pkcs11.NewMechanism(pkcs11.CKM_SHA256_RSA_PKCS, nil)
	case protocol.MechRSAPKCS:
		mech = pkcs11.NewMechanism(pkcs11.CKM_RSA_PKCS, nil)
	case protocol.MechSHA512HMAC:
		mech = pkcs11.NewMechanism(pkcs11.CKM_SHA512_HMAC, nil)
	case protocol.MechECDSA:
		mech = pkcs11.NewMechanism(pkcs11.CKM_ECDSA, nil)
	case protocol.MechPSSSHA256, protocol.MechPSSSHA384, protocol.MechPSSSHA512:
		mech = pkcs11.NewMechanism(pkcs11.CKM_RSA_PKCS_PSS, pssParams[m.Mechanism])
	case protocol.MechAESCBC:
		mech = pkcs11.NewMechanism(pkcs11.CKM_AES_CBC, m.IV)
	case protocol.MechAESGCM:
		gcm = pkcs11.NewGCMParams(m.IV, m.AAD, 128)
		mech = pkcs11.NewMechanism(pkcs11.CKM_AES_GCM, gcm)
	case protocol.MechOAEPSHA1:
		mech = pkcs11.NewMechanism(pkcs11.CKM_RSA_PKCS_OAEP,
			pkcs11.NewOAEPParams(pkcs11.CKM_SHA_1, pkcs11.CKG_MGF1_SHA1, pkcs11.CKZ_DATA_SPECIFIED, nil))
	case protocol.MechOAEPSHA256:
		mech = pkcs11.NewMechanism(pkcs11.CKM_RSA_PKCS_OAEP,
			pkcs11.NewOAEPParams(pkcs11.CKM_SHA256, pkcs11.CKG_MGF1_SHA256, pkcs11.CKZ_DATA_SPECIFIED, nil))
	default:
		return nil, nil, fail(protocol.ReasonUnsupported, "no mechanism %d", m.Mechanism)
	}
	return []*pkcs11.Mechanism{mech}, gcm, nil
}

var pssParams = map[protocol.Mechanism][]byte{
	protocol.MechPSSSHA256: pkcs11.NewPSSParams(pkcs11.CKM_SHA256, pkcs11.CKG_MGF1_SHA256, 32),
	protocol.MechPSSSHA384: pkcs11.NewPSSParams(pkcs11.CKM_SHA384, pkcs11.CKG_MGF1_SHA384, 48),
	protocol.MechPSSSHA512: pkcs11.NewPSSParams(pkcs11.CKM_SHA512, pkcs11.CKG_MGF1_SHA512, 64),
}

// decrypts says whether the key decrypts what was just encrypted for it with the
// mechanism of m.
func (t *token) decrypts(m *protocol.Use) bool {
	plain := make([]byte, 16)
	_, _ = rand.Read(plain)
	back, err := t.roundTrip(m, plain)
	return err == nil && bytes.Equal(back, plain)
}

func (t *token) roundTrip(m *protocol.Use, plain []byte) ([]byte, error) {
	test := protocol.Use{Key: m.Key, Mechanism: m.Mechanism, Data: plain}
	var err error
	switch m.Mechanism {
	case protocol.MechOAEPSHA1, protocol.MechOAEPSHA256:
		test.Data, err = t.oaepFor(m, plain)
	default:
		test.IV = make([]byte, len(m.IV))
		_, _ = rand.Read(test.IV)
		test.Data, err = t.tryOperate(protocol.OpEncrypt, &test)
		if err == nil && m.Mechanism == protocol.MechAESGCM && len(test.Data) > len(m.IV) {
			test.IV, test.Data = test.Data[:len(m.IV)], test.Data[len(m.IV):]
		}
	}
	if err != nil {
		return nil, err
	}
	return t.tryOperate(protocol.OpDecrypt, &test)
}

// oaepFor encrypts for an RSA key outside the token: only its public half is needed.
func (t *token) oaepFor(m *protocol.Use, plain []byte) ([]byte, error) {
	k := t.keys.get(m.Key)
	if k == nil {
		return nil, fail(protocol.ReasonKeyNotFound, "the key is not at hand")
	}
	return encryptOAEP(k.object.Public, m.Mechanism, plain)
}

func encryptOAEP(public []byte, mech protocol.Mechanism, plain []byte) ([]byte, error) {
	parsed, err := x509.ParsePKIXPublicKey(public)
	if err != nil {
		return nil, fail(protocol.ReasonConfiguration, "the token shows no public half of this key")
	}
	pub, ok := parsed.(*rsa.PublicKey)
	if !ok {
		return nil, fail(protocol.ReasonConfiguration, "not an RSA key")
	}
	h := sha256.New()
	if mech == protocol.MechOAEPSHA1 {
		h = sha1.New() //nolint:gosec // see the import
	}
	out, err := rsa.EncryptOAEP(h, rand.Reader, pub, plain, nil)
	if err != nil {
		return nil, fail(protocol.ReasonConfiguration, "encrypt for the key: %v", err)
	}
	return out, nil
}

// describe looks the key up anew, so that it sees what changed in the token.
func (t *token) describe(out []byte, m *protocol.Use) ([]byte, error) {
	var k *key
	look := func() error {
		t.keys.forget(m.Key)
		return t.pool.with(func(sh pkcs11.SessionHandle) (err error) {
			k, err = t.key(sh, m.Key)
			return err
		})
	}
	err := look()
	if mayPass(err) {
		t.pool.drop()
		err = look()
	}
	if err != nil {
		return nil, err
	}
	return k.object.Append(out), nil
}
