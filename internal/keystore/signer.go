package keystore

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"math/big"

	"gardu/internal/keystore/protocol"
)

// PKCS#11's numbers, for what a token says of itself.
const (
	ckmRSAPKCSKeyPairGen   = 0x00
	ckmRSAPKCS             = 0x01
	ckmRSAPKCSOAEP         = 0x09
	ckmRSAPKCSPSS          = 0x0d
	ckmSHA256RSAPKCS       = 0x40
	ckmSHA512HMAC          = 0x271
	ckmGenericSecretKeyGen = 0x350
	ckmECKeyPairGen        = 0x1040
	ckmECDSA               = 0x1041
	ckmAESKeyGen           = 0x1080
	ckmAESCBC              = 0x1082
	ckmAESGCM              = 0x1087

	ckfEncrypt         = 0x100
	ckfDecrypt         = 0x200
	ckfSign            = 0x800
	ckfGenerate        = 0x8000
	ckfGenerateKeyPair = 0x10000
	ckfUnwrap          = 0x40000
)

// Mechanism is one way in which a key does its work, where there are several.
type Mechanism string

// The mechanisms, by what they are for. Where a role has several, the configuration
// may say which: tokens differ, and some list what they then cannot do.
const (
	// Signatures; PSS is for TLS only.
	MechanismSHA256RSAPKCS Mechanism = "SHA256_RSA_PKCS" // the token hashes
	MechanismRSAPKCS       Mechanism = "RSA_PKCS"        // the agent hashes
	MechanismPSS           Mechanism = "RSA_PKCS_PSS"    // likewise
	MechanismECDSA         Mechanism = "ECDSA"           // likewise
	// Key-encryption keys.
	MechanismAESGCM     Mechanism = "AES_GCM"
	MechanismOAEPSHA256 Mechanism = "RSA_OAEP_SHA256"
	MechanismOAEPSHA1   Mechanism = "RSA_OAEP_SHA1"
	// The only ones of their roles.
	MechanismSHA512HMAC Mechanism = "SHA512_HMAC"
	MechanismAESCBC     Mechanism = "AES_CBC"
)

// Signer is a private RSA or EC key. It is a crypto.Signer and a
// crypto.MessageSigner; RSA signatures are RSASSA-PKCS1-v1_5 with SHA-256, or
// RSASSA-PSS with SHA-256, SHA-384 or SHA-512 where the options are
// *rsa.PSSOptions; EC signatures are ASN.1 over any digest. Every signature is
// verified before it is returned.
type Signer struct{ k *key }

var (
	_ crypto.Signer        = (*Signer)(nil)
	_ crypto.MessageSigner = (*Signer)(nil)
)

// Signer returns the private key that uri names. The token is not touched; a URI
// that cannot be one of such a key is an error that wraps ErrConfiguration. An
// RSA key signs by what the token lists, or by the allowed mechanisms only, for
// tokens that list what they cannot do.
func (s *Store) Signer(uri string, allowed ...Mechanism) (*Signer, error) {
	k, err := s.key(uri, protocol.ClassPrivate, "private", protocol.TypeRSA, protocol.TypeEC)
	if err == nil {
		err = k.allow(allowed, MechanismSHA256RSAPKCS, MechanismRSAPKCS, MechanismPSS, MechanismECDSA)
	}
	if err != nil {
		return nil, err
	}
	k.kind = KindRSA2048
	k.judge = k.strongEnough
	g := &Signer{k}
	s.enlist(g)
	return g, nil
}

// PublicKey returns the public half, *rsa.PublicKey or *ecdsa.PublicKey. It asks
// the token the first time.
func (g *Signer) PublicKey(ctx context.Context) (crypto.PublicKey, error) {
	r, err := g.k.resolve(ctx)
	if err != nil {
		return nil, err
	}
	return r.public, nil
}

// Public returns the public half, nil when the token cannot be asked.
func (g *Signer) Public() crypto.PublicKey {
	pub, err := g.PublicKey(context.Background())
	if err != nil {
		return nil
	}
	return pub
}

// Sign signs a digest. The random source is the token's own. PKCS #1 v1.5 with
// anything but SHA-256 under an RSA key fails with ErrUnsupported.
func (g *Signer) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return g.SignDigest(context.Background(), digest, opts)
}

// SignMessage signs a message. Tokens that forbid signatures over given digests
// still do this.
func (g *Signer) SignMessage(_ io.Reader, message []byte, opts crypto.SignerOpts) ([]byte, error) {
	return g.sign(context.Background(), message, nil, opts)
}

// SignDigest is Sign with a context.
func (g *Signer) SignDigest(ctx context.Context, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if opts == nil || !opts.HashFunc().Available() || opts.HashFunc().Size() != len(digest) {
		return nil, explain("sign with", g.k.name, fmt.Errorf("%w: a digest of %d bytes is none of the hash function named", ErrUnsupported, len(digest)))
	}
	return g.sign(ctx, nil, digest, opts)
}

// SignSHA256 signs a message with SHA-256, RSA keys by PKCS #1 v1.5.
func (g *Signer) SignSHA256(ctx context.Context, message []byte) ([]byte, error) {
	return g.sign(ctx, message, nil, crypto.SHA256)
}

// sign takes the message or, when that is nil, the digest.
func (g *Signer) sign(ctx context.Context, message, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	const verb = "sign with"
	r, err := g.k.resolve(ctx)
	if err != nil {
		return nil, err
	}
	refuse := func(why string) ([]byte, error) {
		return nil, explain(verb, g.k.name, fmt.Errorf("%w: %s", ErrUnsupported, why))
	}
	if opts == nil || !opts.HashFunc().Available() {
		return refuse("no such hash function")
	}
	whole := digest == nil
	if whole {
		h := opts.HashFunc().New()
		_, _ = h.Write(message)
		digest = h.Sum(nil)
	}
	use := protocol.Use{Key: r.name}
	switch pub := r.public.(type) {
	case *rsa.PublicKey:
		if pss, ok := opts.(*rsa.PSSOptions); ok {
			return g.signPSS(ctx, r, pub, digest, pss)
		}
		if opts.HashFunc() != crypto.SHA256 {
			return refuse("by PKCS #1 v1.5 RSA keys sign with SHA-256 only")
		}
		switch {
		case whole && g.k.may(MechanismSHA256RSAPKCS) && has(r.token, ckmSHA256RSAPKCS, ckfSign):
			use.Mechanism, use.Data = protocol.MechSHA256RSAPKCS, message
		case g.canPKCS1(r):
			use.Mechanism, use.Data = protocol.MechRSAPKCS, protocol.DigestInfo(digest)
		default:
			return refuse("the token has no allowed mechanism for this, CKM_SHA256_RSA_PKCS for messages or CKM_RSA_PKCS for digests")
		}
		return g.k.run(ctx, protocol.OpSign, verb, &use, func(sig []byte) error {
			return rsa.VerifyPKCS1v15(pub, crypto.SHA256, digest, sig)
		})
	case *ecdsa.PublicKey:
		if !g.k.may(MechanismECDSA) || !has(r.token, ckmECDSA, ckfSign) {
			return refuse("the token has no CKM_ECDSA, or it is not allowed")
		}
		return g.signEC(ctx, pub, digest, &use)
	}
	return refuse("not an RSA or EC key")
}

var pssMechanisms = map[crypto.Hash]protocol.Mechanism{
	crypto.SHA256: protocol.MechPSSSHA256, crypto.SHA384: protocol.MechPSSSHA384, crypto.SHA512: protocol.MechPSSSHA512,
}

// signPSS signs with a salt as long as the digest, which is what TLS demands.
func (g *Signer) signPSS(ctx context.Context, r *resolved, pub *rsa.PublicKey, digest []byte, opts *rsa.PSSOptions) ([]byte, error) {
	const verb = "sign with"
	mech, ok := pssMechanisms[opts.HashFunc()]
	switch {
	case !ok, opts.SaltLength != rsa.PSSSaltLengthEqualsHash && opts.SaltLength != opts.HashFunc().Size():
		return nil, explain(verb, g.k.name, fmt.Errorf("%w: PSS is with SHA-256, SHA-384 or SHA-512 and a salt of that length", ErrUnsupported))
	case !g.canPSS(r):
		return nil, explain(verb, g.k.name, fmt.Errorf("%w: the token has no CKM_RSA_PKCS_PSS, or it is not allowed", ErrUnsupported))
	}
	use := protocol.Use{Key: r.name, Mechanism: mech, Data: digest}
	return g.k.run(ctx, protocol.OpSign, verb, &use, func(sig []byte) error {
		return rsa.VerifyPSS(pub, opts.HashFunc(), digest, sig, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
	})
}

func (g *Signer) canPSS(r *resolved) bool {
	return g.k.may(MechanismPSS) && has(r.token, ckmRSAPKCSPSS, ckfSign)
}

// canPKCS1 is for digests.
func (g *Signer) canPKCS1(r *resolved) bool {
	return g.k.may(MechanismRSAPKCS) && has(r.token, ckmRSAPKCS, ckfSign)
}

func (g *Signer) signEC(ctx context.Context, pub *ecdsa.PublicKey, digest []byte, use *protocol.Use) ([]byte, error) {
	use.Mechanism, use.Data = protocol.MechECDSA, digest
	var sig []byte
	_, err := g.k.run(ctx, protocol.OpSign, "sign with", use, func(raw []byte) error {
		half := (pub.Params().BitSize + 7) / 8
		if len(raw) != 2*half {
			return errLength
		}
		var err error
		sig, err = asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(raw[:half]), new(big.Int).SetBytes(raw[half:])})
		if err == nil && !ecdsa.VerifyASN1(pub, digest, sig) {
			err = errors.New("with a signature that does not verify")
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return sig, nil
}

func (g *Signer) selfTest(ctx context.Context) error {
	if _, err := g.k.again(ctx); err != nil {
		return err
	}
	_, err := g.prove(ctx)
	return err
}

// prove signs once and says how. A key that may only do PSS is one for TLS.
func (g *Signer) prove(ctx context.Context) (Mechanism, error) {
	message := make([]byte, 32)
	_, _ = rand.Read(message)
	r, err := g.k.resolve(ctx)
	if err != nil {
		return "", err
	}
	var used Mechanism
	switch {
	case r.typ == protocol.TypeEC:
		used = MechanismECDSA
	case g.k.may(MechanismSHA256RSAPKCS) && has(r.token, ckmSHA256RSAPKCS, ckfSign):
		used = MechanismSHA256RSAPKCS
	case g.k.may(MechanismRSAPKCS):
		used = MechanismRSAPKCS
	case g.k.may(MechanismPSS):
		_, err := g.SignDigest(ctx, message, &rsa.PSSOptions{Hash: crypto.SHA256, SaltLength: rsa.PSSSaltLengthEqualsHash})
		return MechanismPSS, err
	default: // SignSHA256 says what is missing
		used = MechanismSHA256RSAPKCS
	}
	_, err = g.SignSHA256(ctx, message)
	return used, err
}

func (g *Signer) tested() *key { return g.k }
