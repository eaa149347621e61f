// Package signature verifies signatures by Ed25519, ECDSA and RSA-PSS keys.
package signature

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	_ "crypto/sha256" // the digests that keys on P-256 and RSA keys sign
	_ "crypto/sha512" // and those on P-384
	"errors"
	"fmt"
	"io"
)

// What go-tuf may hand over and nobody does.
type (
	// SignOption is not used.
	SignOption any
	// VerifyOption is not used.
	VerifyOption any
	// PublicKeyOption is not used.
	PublicKeyOption any
)

// Signer signs messages.
type Signer interface {
	SignMessage(message io.Reader, opts ...SignOption) ([]byte, error)
	PublicKey(opts ...PublicKeyOption) (crypto.PublicKey, error)
}

// Verifier verifies signatures of messages.
type Verifier interface {
	VerifySignature(signature, message io.Reader, opts ...VerifyOption) error
}

var errSignature = errors.New("the signature does not verify")

// limit is more than any signed metadata, and any signature, has.
const limit = 64 << 20

// verifier verifies with one key.
type verifier func(signature, message []byte) bool

// VerifySignature implements Verifier.
func (v verifier) VerifySignature(signature, message io.Reader, _ ...VerifyOption) error {
	s, err := io.ReadAll(io.LimitReader(signature, limit))
	if err != nil {
		return fmt.Errorf("read the signature: %w", err)
	}
	m, err := io.ReadAll(io.LimitReader(message, limit+1))
	if err != nil {
		return fmt.Errorf("read the message: %w", err)
	}
	if len(s) == 0 || len(m) > limit || !v(s, m) {
		return errSignature
	}
	return nil
}

// LoadVerifier verifies Ed25519 signatures of a message, or ECDSA signatures in
// ASN.1 of its digest.
func LoadVerifier(pub crypto.PublicKey, hash crypto.Hash) (Verifier, error) {
	switch k := pub.(type) {
	case ed25519.PublicKey:
		if len(k) != ed25519.PublicKeySize {
			return nil, errors.New("an Ed25519 key of the wrong length")
		}
		return verifier(func(s, m []byte) bool { return ed25519.Verify(k, m, s) }), nil
	case *ecdsa.PublicKey:
		if _, err := k.ECDH(); err != nil { // also says whether the point is on the curve
			return nil, fmt.Errorf("an unusable EC key: %w", err)
		}
		if !hash.Available() || hash.Size() < crypto.SHA256.Size() {
			return nil, errors.New("no digest for an EC key")
		}
		return verifier(func(s, m []byte) bool { return ecdsa.VerifyASN1(k, digest(hash, m), s) }), nil
	}
	return nil, fmt.Errorf("a %T verifies nothing here", pub)
}

// LoadRSAPSSVerifier verifies RSASSA-PSS signatures.
func LoadRSAPSSVerifier(k *rsa.PublicKey, hash crypto.Hash, opts *rsa.PSSOptions) (Verifier, error) {
	if k == nil || k.Size() < 256 || !hash.Available() || hash.Size() < crypto.SHA256.Size() {
		return nil, errors.New("an RSA key of fewer than 2048 bits, or no digest for it")
	}
	return verifier(func(s, m []byte) bool { return rsa.VerifyPSS(k, hash, digest(hash, m), s, opts) == nil }), nil
}

func digest(hash crypto.Hash, m []byte) []byte {
	h := hash.New()
	_, _ = h.Write(m)
	return h.Sum(nil)
}
