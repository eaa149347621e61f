// Package cryptoutils reads and writes public keys as PEM.
package cryptoutils

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
)

const publicKey = "PUBLIC KEY"

// UnmarshalPEMToPublicKey reads one public key in PKIX form.
func UnmarshalPEMToPublicKey(b []byte) (crypto.PublicKey, error) {
	block, rest := pem.Decode(b)
	if block == nil || block.Type != publicKey || len(bytes.TrimSpace(rest)) > 0 {
		return nil, errors.New("this is not the PEM text of one public key")
	}
	return x509.ParsePKIXPublicKey(block.Bytes)
}

// MarshalPublicKeyToPEM writes a public key in PKIX form.
func MarshalPublicKeyToPEM(pub crypto.PublicKey) ([]byte, error) {
	if pub == nil {
		return nil, errors.New("there is no key")
	}
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: publicKey, Bytes: der}), nil
}
