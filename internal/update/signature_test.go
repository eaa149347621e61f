package update_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"testing"
	"time"

	"github.com/secure-systems-lab/go-securesystemslib/cjson"
	"github.com/stretchr/testify/require"
	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// go-tuf verifies by internal/update/sigstore, which stands in place of a large
// module: each kind of key, and what may not pass.
func TestSignaturesOfEachKindOfKey(t *testing.T) {
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	require.NoError(t, err)
	rsa2048, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	weak, err := rsa.GenerateKey(rand.Reader, 1024) //nolint:gosec // to be refused
	require.NoError(t, err)
	pss := func(k *rsa.PrivateKey) func([]byte) ([]byte, error) {
		return func(m []byte) ([]byte, error) {
			sum := sha256.Sum256(m)
			return rsa.SignPSS(rand.Reader, k, crypto.SHA256, sum[:], &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
		}
	}
	for _, c := range []struct {
		name   string
		pub    crypto.PublicKey
		scheme string
		sign   func([]byte) ([]byte, error)
		good   bool
	}{
		{"Ed25519", ed.Public(), "", func(m []byte) ([]byte, error) { return ed25519.Sign(ed, m), nil }, true},
		{"P-256", p256.Public(), "", func(m []byte) ([]byte, error) {
			sum := sha256.Sum256(m)
			return ecdsa.SignASN1(rand.Reader, p256, sum[:])
		}, true},
		{"P-384", p384.Public(), metadata.KeySchemeECDSA_SHA2_P384, func(m []byte) ([]byte, error) {
			sum := sha512.Sum384(m)
			return ecdsa.SignASN1(rand.Reader, p384, sum[:])
		}, true},
		{"RSA-PSS", rsa2048.Public(), "", pss(rsa2048), true},
		{"RSA, too short", weak.Public(), "", pss(weak), false},
		{"RSA, PKCS #1 v1.5", rsa2048.Public(), "", func(m []byte) ([]byte, error) {
			sum := sha256.Sum256(m)
			return rsa.SignPKCS1v15(nil, rsa2048, crypto.SHA256, sum[:])
		}, false},
		{"another key", ed.Public(), "", func(m []byte) ([]byte, error) {
			_, other, err := ed25519.GenerateKey(rand.Reader)
			return ed25519.Sign(other, m), err
		}, false},
		{"no signature", ed.Public(), "", func([]byte) ([]byte, error) { return nil, nil }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			key, err := metadata.KeyFromPublicKey(c.pub)
			require.NoError(t, err)
			if c.scheme != "" {
				key.Scheme = c.scheme
			}
			id, err := key.ID()
			require.NoError(t, err)
			root := metadata.Root(time.Now().Add(time.Hour))
			require.NoError(t, root.Signed.AddKey(key, metadata.TIMESTAMP))
			ts := metadata.Timestamp(time.Now().Add(time.Hour))
			body, err := cjson.EncodeCanonical(ts.Signed)
			require.NoError(t, err)
			sig, err := c.sign(body)
			require.NoError(t, err)
			ts.Signatures = []metadata.Signature{{KeyID: id, Signature: sig}}
			if !c.good {
				require.Error(t, root.VerifyDelegate(metadata.TIMESTAMP, ts))
				return
			}
			require.NoError(t, root.VerifyDelegate(metadata.TIMESTAMP, ts))
			ts.Signed.Version++
			require.Error(t, root.VerifyDelegate(metadata.TIMESTAMP, ts), "a changed body")
			ts.Signed.Version--
			for _, i := range []int{0, len(sig) / 2, len(sig) - 1} {
				sig[i] ^= 1
				require.Error(t, root.VerifyDelegate(metadata.TIMESTAMP, ts), "a changed byte")
				sig[i] ^= 1
			}
			require.NoError(t, root.VerifyDelegate(metadata.TIMESTAMP, ts))
		})
	}
	// A key that is none ends in an error and not in the program's end.
	root := metadata.Root(time.Now().Add(time.Hour))
	short := &metadata.Key{Type: metadata.KeyTypeEd25519, Scheme: metadata.KeySchemeEd25519, Value: metadata.KeyVal{PublicKey: "00ff"}}
	require.NoError(t, root.Signed.AddKey(short, metadata.TIMESTAMP))
	require.Error(t, root.VerifyDelegate(metadata.TIMESTAMP, metadata.Timestamp()))
}
