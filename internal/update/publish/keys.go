package publish

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/secure-systems-lab/go-securesystemslib/encrypted"
	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// Signer signs with one key. Public and Sign may ask a token.
type Signer interface {
	// Public is an ed25519.PublicKey or a P-256 *ecdsa.PublicKey.
	Public() (crypto.PublicKey, error)
	// Sign signs a message: Ed25519 as it is, ECDSA in ASN.1 over its SHA-256.
	Sign(message []byte) ([]byte, error)
}

// ErrPassphrase says that a passphrase does not open a key file.
var ErrPassphrase = errors.New("this passphrase does not open the key")

const (
	pemKey       = "GARDU RELEASE KEY"
	leastPhrase  = 12
	keyFileLimit = 64 << 10
)

// strength is what guessing a passphrase costs: some hundred milliseconds a try.
var strength = encrypted.OWASP

// CheapKeys makes new key files cheap to open, and to guess. For tests, which open
// hundreds.
func CheapKeys() { strength = encrypted.Legacy }

// fileKey is an Ed25519 key out of a file.
type fileKey struct{ k ed25519.PrivateKey }

func (f fileKey) Public() (crypto.PublicKey, error)   { return f.k.Public(), nil }
func (f fileKey) Sign(message []byte) ([]byte, error) { return ed25519.Sign(f.k, message), nil }

// NewKey makes an Ed25519 key and the text of a file that holds it, encrypted under
// the passphrase (scrypt, NaCl secretbox), of at least twelve characters.
func NewKey(passphrase []byte) (file []byte, s Signer, err error) {
	if len(passphrase) < leastPhrase {
		return nil, nil, fmt.Errorf("the passphrase is shorter than %d characters", leastPhrase)
	}
	_, k, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		return nil, nil, err
	}
	defer clear(der)
	box, err := encrypted.EncryptWithCustomKDFParameters(der, passphrase, strength)
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemKey, Bytes: box}), fileKey{k}, nil
}

// OpenKey opens the text of a key file. ErrPassphrase where the passphrase is wrong.
func OpenKey(file, passphrase []byte) (Signer, error) {
	b, _ := pem.Decode(file)
	if b == nil || b.Type != pemKey {
		return nil, errors.New("this is not a key file of gardu-release")
	}
	der, err := encrypted.Decrypt(b.Bytes, passphrase)
	if err != nil {
		return nil, ErrPassphrase
	}
	defer clear(der)
	k, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("read the key: %w", err)
	}
	e, ok := k.(ed25519.PrivateKey)
	if !ok {
		return nil, errors.New("the key is not an Ed25519 key")
	}
	return fileKey{e}, nil
}

// PublicPEM writes a public key for the file that is handed to whoever makes the
// root.
func PublicPEM(pub crypto.PublicKey) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), nil
}

// ParsePublic reads such a file.
func ParsePublic(file []byte) (crypto.PublicKey, error) {
	b, rest := pem.Decode(file)
	if b == nil || b.Type != "PUBLIC KEY" || len(bytes.TrimSpace(rest)) > 0 {
		return nil, errors.New("this is not the file of one public key")
	}
	pub, err := x509.ParsePKIXPublicKey(b.Bytes)
	if err != nil {
		return nil, fmt.Errorf("read the public key: %w", err)
	}
	_, err = tufKey(pub)
	return pub, err
}

// KeyID is the id that metadata names a key by.
func KeyID(pub crypto.PublicKey) (string, error) {
	k, err := tufKey(pub)
	if err != nil {
		return "", err
	}
	return k.ID()
}

func tufKey(pub crypto.PublicKey) (*metadata.Key, error) {
	switch k := pub.(type) {
	case ed25519.PublicKey:
	case *ecdsa.PublicKey:
		if k.Params().BitSize != 256 {
			return nil, errors.New("of EC keys only those on P-256 can sign releases")
		}
	default:
		return nil, fmt.Errorf("a %T cannot sign releases; make an Ed25519 key or, in a token, an EC key on P-256", pub)
	}
	return metadata.KeyFromPublicKey(pub)
}

// Plain is a signer of an Ed25519 key that is at hand.
func Plain(k ed25519.PrivateKey) Signer { return fileKey{k} }
