package keystore_test

import (
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"gardu/internal/keystore"
	"gardu/internal/keystore/softhsmtest"
	"gardu/internal/secret"
)

func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == misbehaveArgument {
		os.Exit(misbehave())
	}
	if len(os.Args) == 2 && os.Args[1] == withoutAffinity {
		os.Exit(forbidAffinity())
	}
	softhsmtest.Main(m, removeFaultyModule)
}

// generate makes a key and returns its URI.
func generate(t testing.TB, s *keystore.Store, kind keystore.Kind, label string) string {
	t.Helper()
	info, err := s.Generate(t.Context(), keystore.NewKey{Label: label, Kind: kind})
	require.NoError(t, err)
	return info.URI()
}

func TestGeneratedKeysDoTheirWork(t *testing.T) {
	s := softhsmtest.New(t).Open(t)
	ctx := t.Context()
	require.NoError(t, s.Ready(ctx))

	t.Run("rsa", func(t *testing.T) {
		g, err := s.Signer(generate(t, s, keystore.KindRSA2048, "snap-sign"))
		require.NoError(t, err)
		pub, ok := g.Public().(*rsa.PublicKey)
		require.True(t, ok)
		digest := sha256.Sum256([]byte("message"))
		for name, sign := range map[string]func() ([]byte, error){
			"digest":  func() ([]byte, error) { return g.Sign(nil, digest[:], crypto.SHA256) },
			"message": func() ([]byte, error) { return crypto.SignMessage(g, nil, []byte("message"), crypto.SHA256) },
			"context": func() ([]byte, error) { return g.SignSHA256(ctx, []byte("message")) },
		} {
			sig, err := sign()
			require.NoError(t, err, name)
			require.NoError(t, rsa.VerifyPKCS1v15(pub, crypto.SHA256, digest[:], sig), name)
		}
		pss, err := g.Sign(nil, digest[:], &rsa.PSSOptions{Hash: crypto.SHA256, SaltLength: rsa.PSSSaltLengthEqualsHash})
		require.NoError(t, err)
		require.NoError(t, rsa.VerifyPSS(pub, crypto.SHA256, digest[:], pss, nil))
		_, err = g.Sign(nil, make([]byte, 64), crypto.SHA512)
		require.ErrorIs(t, err, keystore.ErrUnsupported)
	})
	t.Run("hmac", func(t *testing.T) {
		m, err := s.MAC(generate(t, s, keystore.KindHMAC, "snap-secret"))
		require.NoError(t, err)
		a, err := m.Sum(ctx, []byte("a"))
		require.NoError(t, err)
		require.Len(t, a, 64)
		b, err := m.Sum(ctx, []byte("b"))
		require.NoError(t, err)
		require.NotEqual(t, a, b)
	})
	t.Run("aes", func(t *testing.T) {
		c, err := s.Cipher(generate(t, s, keystore.KindAES192, "prepaid-envelope"))
		require.NoError(t, err)
		iv, plain := make([]byte, 16), []byte("two whole blocks of sixteen byte")
		sealed, err := c.EncryptCBC(ctx, iv, plain)
		require.NoError(t, err)
		require.NotEqual(t, plain, sealed)
		back, err := c.DecryptCBC(ctx, iv, sealed)
		require.NoError(t, err)
		require.Equal(t, plain, back)
		_, err = c.EncryptCBC(ctx, iv, plain[:31])
		require.ErrorIs(t, err, keystore.ErrUnsupported)
	})
	for name, kind := range map[string]keystore.Kind{"gcm": keystore.KindAES256, "oaep": keystore.KindRSA2048Unwrap} {
		t.Run(name, func(t *testing.T) {
			w, err := s.Wrapper(generate(t, s, kind, "journal-kek-"+name))
			require.NoError(t, err)
			key, aad := []byte("0123456789abcdef0123456789abcdef"), []byte("journal 7")
			wrapped, err := w.Wrap(ctx, key, aad)
			require.NoError(t, err)
			back, err := w.Unwrap(ctx, wrapped, aad)
			require.NoError(t, err)
			require.Equal(t, key, back)
			_, err = w.Unwrap(ctx, wrapped, []byte("journal 8"))
			require.ErrorIs(t, err, keystore.ErrCiphertext)
			wrapped[len(wrapped)-1] ^= 1
			_, err = w.Unwrap(ctx, wrapped, aad)
			require.ErrorIs(t, err, keystore.ErrCiphertext)
			require.Equal(t, keystore.ClassData, keystore.ClassOf(err))
			_, err = w.Wrap(ctx, make([]byte, 129), aad)
			require.ErrorIs(t, err, keystore.ErrUnsupported)
		})
	}
	require.NoError(t, s.Health(ctx))
}

// Published vector: providers, "Test vectors", symmetric.
func TestPublishedHMACVectorThroughTheToken(t *testing.T) {
	s := softhsmtest.New(t).Open(t)
	info, err := s.Import(t.Context(), keystore.NewKey{Label: "snap-secret", Kind: keystore.KindHMAC, AllowWeak: true}, secret.Clone([]byte("myclientsecret")))
	require.NoError(t, err)
	m, err := s.MAC(info.URI())
	require.NoError(t, err)
	sum, err := m.Sum(t.Context(), []byte("POST:/v1.0/qr/qr-mpm-generate:myaccesstoken:01463f60dbb6ca538581579dd95b31c8ba9fc6600eca750e4d8460ca4e402111:2024-03-05T10:37:16.196Z"))
	require.NoError(t, err)
	require.Equal(t, "wmzT7yjg1SxxCsxNsFgCR9SYXiZGGbceF6fV8xe97sAMHxZ+7OEBMIBmvb6Sj6GcksGp3iv77DiomgSbcST3XQ==", base64.StdEncoding.EncodeToString(sum))
}

// Published vector: providers, "Test vectors", asymmetric. It pins down that the
// algorithm our signers verify with is the one in the field.
func TestPublishedRSAVectorVerifies(t *testing.T) {
	der, err := base64.StdEncoding.DecodeString("MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAlWbtlh3eM+bW3n5AFj42wddC4L7tQqbLiCFbTv8K67yng9iwK5mEn+UMXiRhvB2JVWFafCPPxFamsiVG3MjneGjC0BYgmpmw4qXnAnyO3nCdCuPtmZ3ljhKvSTPdWZxrcLi1Xa9V/+Pzb8hrjb5iwMn6SZFNeMmZYgFKiSeueo6TPln2PoTqXCzs1HtsM8eUVe8GAsjJe/3dYl992nyXOpG21GgNu8o5T3WOptPg6GdDTWkTWUu483yRbVVy04Pz4L8DDZTDv+WcsAViDn1rA/jB1Auj/UGKx2ovGcBH/a/hor5TbABbODU6cPTHT54K3sSZtvZNV4eFDB1f/4wdfwIDAQAB")
	require.NoError(t, err)
	pub, err := x509.ParsePKIXPublicKey(der)
	require.NoError(t, err)
	sig, err := base64.StdEncoding.DecodeString("RoJnP2tH/YiOhHM/lMVBMSAuzRmS8VrWdIy04Qqyb56daV7oWFMFoMMzqnjQ+q0MIUalYgU094GWQnCx2c29xb1kkqHhv2+iJ9xl6NjGmFGYqyvcKvUDAV83Y1Mw9JnsEcjcupdGw9/MRv/mm2GMrQ+BCZGfc4a46JDyPZbcY294vDGqs5rFBN6iYer5ro4cAQGo9hET2G82Y+j50vCyO/79GFE4vB1rvtu6PK2Bxi+vTYV8k7P7PS8tOPWM2O+kjiVWjwvLR99Botou+a8sxlQqZaihfWMKcByzV+Lgkr9cptpjys+1NIRWT1ad/sJBSLHyldzC3q2oRn5z5oZmyg==")
	require.NoError(t, err)
	digest := sha256.Sum256([]byte("POST:/v1.0/debit/notify:79ebbe6a6b695262dd686d0dedafc57c94e3b3dededf8d63971f8a95699ace85:2024-05-02T14:43:08+07:00"))
	require.NoError(t, rsa.VerifyPKCS1v15(pub.(*rsa.PublicKey), crypto.SHA256, digest[:], sig))
}

func TestAllowedMechanismsOnly(t *testing.T) {
	s := softhsmtest.New(t).Open(t)
	sign, kek := generate(t, s, keystore.KindRSA2048, "sign"), generate(t, s, keystore.KindRSA2048Unwrap, "kek")

	g, err := s.Signer(sign, keystore.MechanismRSAPKCS)
	require.NoError(t, err)
	_, err = g.SignSHA256(t.Context(), []byte("m"))
	require.NoError(t, err)
	g, err = s.Signer(sign, keystore.MechanismSHA256RSAPKCS)
	require.NoError(t, err)
	_, err = g.SignSHA256(t.Context(), []byte("m"))
	require.NoError(t, err)
	_, err = g.Sign(nil, make([]byte, 32), crypto.SHA256)
	require.ErrorIs(t, err, keystore.ErrUnsupported)

	w, err := s.Wrapper(kek, keystore.MechanismOAEPSHA1)
	require.NoError(t, err)
	wrapped, err := w.Wrap(t.Context(), []byte("key"), nil)
	require.NoError(t, err)
	require.EqualValues(t, 2, wrapped[0])
	w, err = s.Wrapper(kek, keystore.MechanismOAEPSHA256) // SoftHSM has OAEP with SHA-1 only
	require.NoError(t, err)
	_, err = w.Wrap(t.Context(), []byte("key"), nil)
	require.ErrorIs(t, err, keystore.ErrUnsupported)
	_, err = w.Unwrap(t.Context(), wrapped, nil)
	require.NoError(t, err)

	_, err = s.Signer(sign, keystore.MechanismOAEPSHA1)
	require.ErrorIs(t, err, keystore.ErrConfiguration)
	_, err = s.Wrapper(kek, "AES_ECB")
	require.ErrorIs(t, err, keystore.ErrConfiguration)
}

func TestClosedStoreAnswersTyped(t *testing.T) {
	s := softhsmtest.New(t).Open(t)
	require.NoError(t, s.Ready(t.Context()))
	require.NoError(t, s.Close())
	require.NoError(t, s.Close())
	require.ErrorIs(t, s.Ready(t.Context()), keystore.ErrClosed)
}

func TestCallerMayLeaveAtAnyTime(t *testing.T) {
	s := softhsmtest.New(t).Open(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, s.Ready(ctx), context.Canceled)
	require.NoError(t, s.Ready(t.Context()), "the start that the first caller left goes on")
}
