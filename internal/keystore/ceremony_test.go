package keystore_test

import (
	"bytes"
	"crypto"
	"crypto/aes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"gardu/internal/keystore"
	"gardu/internal/keystore/softhsmtest"
	"gardu/internal/secret"
)

func TestGeneratedKeysServeOnePurposeAndStayInside(t *testing.T) {
	t.Parallel()
	s := softhsmtest.New(t).Open(t)
	for _, c := range []struct {
		kind keystore.Kind
		bits int
		may  string
		kcv  bool
	}{
		{keystore.KindRSA2048, 2048, "CKA_SIGN", false},
		{keystore.KindECP256, 256, "CKA_SIGN", false},
		{keystore.KindECP384, 384, "CKA_SIGN", false},
		{keystore.KindRSA2048Unwrap, 2048, "CKA_DECRYPT", false},
		{keystore.KindHMAC, 512, "CKA_SIGN", true},
		{keystore.KindAES192, 192, "CKA_ENCRYPT CKA_DECRYPT", true},
		{keystore.KindAES256, 256, "CKA_ENCRYPT CKA_DECRYPT", true},
	} {
		t.Run(string(c.kind), func(t *testing.T) {
			info, err := s.Generate(t.Context(), keystore.NewKey{Label: "k " + string(c.kind), Kind: c.kind})
			require.NoError(t, err)
			require.Equal(t, c.bits, info.Bits)
			require.Len(t, info.ID, 8)
			for name, want := range map[string]string{
				"CKA_TOKEN": "yes", "CKA_PRIVATE": "yes", "CKA_SENSITIVE": "yes", "CKA_EXTRACTABLE": "no",
				"CKA_ALWAYS_SENSITIVE": "yes", "CKA_NEVER_EXTRACTABLE": "yes", "CKA_LOCAL": "yes",
				"CKA_WRAP": "no", "CKA_UNWRAP": "no", "CKA_DERIVE": "no",
			} {
				if got := info.Attributes[name]; got != "unknown" || name != "CKA_WRAP" { // private keys have no CKA_WRAP
					require.Equal(t, want, got, name)
				}
			}
			for _, name := range []string{"CKA_SIGN", "CKA_ENCRYPT", "CKA_DECRYPT"} {
				require.Equal(t, strings.Contains(c.may, name), info.Attributes[name] == "yes", name)
			}
			require.Equal(t, c.kcv, info.KCV != "")
			all, err := s.List(t.Context())
			require.NoError(t, err)
			require.Contains(t, all, info)
			_, err = s.Generate(t.Context(), keystore.NewKey{Label: info.Label, Kind: c.kind})
			require.ErrorIs(t, err, keystore.ErrKeyExists)
			_, err = s.Generate(t.Context(), keystore.NewKey{Label: info.Label, ID: info.ID, Kind: c.kind})
			require.ErrorIs(t, err, keystore.ErrKeyExists)
			require.NoError(t, s.Destroy(t.Context(), info.URI()))
			require.ErrorIs(t, s.Destroy(t.Context(), info.URI()), keystore.ErrKeyNotFound)
		})
	}
	all, err := s.List(t.Context())
	require.NoError(t, err)
	require.Empty(t, all, "the public halves went too")
}

func TestImportedKeysComputeWhatTheirValuesDo(t *testing.T) {
	t.Parallel()
	s := softhsmtest.New(t).Open(t)
	ctx := t.Context()
	_, err := s.Import(ctx, keystore.NewKey{Label: "short", Kind: keystore.KindHMAC}, secret.Clone(make([]byte, 15)))
	require.ErrorIs(t, err, keystore.ErrKeyWeak)
	require.ErrorContains(t, err, "--allow-weak")
	for _, size := range []int{1, 14, 63, 64, 65, 128, 129, 700} {
		value := make([]byte, size)
		_, _ = rand.Read(value)
		info, err := s.Import(ctx, keystore.NewKey{Label: "secret", Kind: keystore.KindHMAC, AllowWeak: true}, secret.Clone(value))
		require.NoError(t, err, size)
		m, err := s.MAC(info.URI())
		require.NoError(t, err)
		sum, err := m.Sum(ctx, []byte("message"))
		require.NoError(t, err)
		h := hmac.New(sha512.New, value)
		kcv := h.Sum(nil)[:3]
		h.Write([]byte("message"))
		require.Equal(t, h.Sum(nil), sum, size)
		require.Equal(t, hex.EncodeToString(kcv), info.KCV)
		require.Equal(t, "no", info.Attributes["CKA_LOCAL"])
		require.NoError(t, s.Destroy(ctx, info.URI()))
	}

	value := bytes.Repeat([]byte{7}, 24)
	info, err := s.Import(ctx, keystore.NewKey{Label: "envelope", Kind: keystore.KindAES192}, secret.Clone(value))
	require.NoError(t, err)
	block, err := aes.NewCipher(value)
	require.NoError(t, err)
	zero := make([]byte, 16)
	block.Encrypt(zero, zero)
	require.Equal(t, hex.EncodeToString(zero[:3]), info.KCV)

	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	for name, value := range map[string][]byte{
		"pkcs8": pkcs8, "pkcs1": x509.MarshalPKCS1PrivateKey(key),
		"pem": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}),
	} {
		info, err := s.Import(ctx, keystore.NewKey{Label: name, Kind: keystore.KindRSA2048}, secret.Clone(value))
		require.NoError(t, err, name)
		g, err := s.Signer(info.URI())
		require.NoError(t, err)
		require.True(t, key.PublicKey.Equal(g.Public()), name)
		_, err = g.SignSHA256(ctx, []byte("message"))
		require.NoError(t, err)
	}
}

func TestImportRefuses(t *testing.T) {
	t.Parallel()
	s := softhsmtest.New(t).Open(t)
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	ecDER, err := x509.MarshalPKCS8PrivateKey(ec)
	require.NoError(t, err)
	for _, c := range []struct {
		name  string
		kind  keystore.Kind
		value []byte
		is    error
		says  string
	}{
		{"empty secret", keystore.KindHMAC, nil, keystore.ErrKeyGiven, "empty"},
		{"AES of another size", keystore.KindAES192, make([]byte, 32), keystore.ErrKeyGiven, "32 bytes"},
		{"AES still in hex", keystore.KindAES192, make([]byte, 48), keystore.ErrKeyGiven, "encoded"},
		{"RSA-1024", keystore.KindRSA2048, weakKey(t), keystore.ErrKeyWeak, "ask the provider"},
		{"no key", keystore.KindRSA2048, []byte("canary-481516"), keystore.ErrKeyGiven, "PKCS #8"},
		{"an EC key", keystore.KindRSA2048, ecDER, keystore.ErrKeyGiven, "not an RSA key"},
		{"no such kind", "rsa-512", nil, keystore.ErrKeyGiven, "rsa-512"},
		{"EC is not imported", keystore.KindECP256, ecDER, keystore.ErrUnsupported, "made in the token"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := s.Import(t.Context(), keystore.NewKey{Label: "k", Kind: c.kind}, secret.Clone(c.value))
			require.ErrorIs(t, err, c.is)
			require.ErrorContains(t, err, c.says)
			require.NotContains(t, err.Error(), "canary")
		})
	}
	all, err := s.List(t.Context())
	require.NoError(t, err)
	require.Empty(t, all)
}

// weakKey is an RSA-1024 key as PKCS #8; Go still makes those.
func weakKey(t *testing.T) []byte {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 1024)
	require.NoError(t, err)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	return der
}

func TestWeakKeyInTheTokenIsRefused(t *testing.T) {
	t.Parallel()
	token := softhsmtest.New(t)
	token.Run(t, "pkcs11-tool", "--module", token.Module, "--token-label", token.Label, "--login", "--pin", token.PIN,
		"--keypairgen", "--key-type", "rsa:1024", "--label", "weak", "--usage-sign")
	s := token.Open(t)
	g, err := s.Signer("pkcs11:object=weak")
	require.NoError(t, err)
	_, err = g.SignSHA256(t.Context(), []byte("m"))
	require.ErrorIs(t, err, keystore.ErrKeyWeak)
	require.ErrorContains(t, err, "1024 bits")
	require.ErrorContains(t, err, "ask the provider")
	require.Nil(t, g.Public())

	lax := token.Open(t, func(o *keystore.Options) { o.MinRSABits = 1024 })
	g, err = lax.Signer("pkcs11:object=weak")
	require.NoError(t, err)
	_, err = g.SignSHA256(t.Context(), []byte("m"))
	require.NoError(t, err)
}

func TestTwoObjectsOfOneNameAreAmbiguous(t *testing.T) {
	t.Parallel()
	s := softhsmtest.New(t).Open(t)
	for _, id := range []string{"a", "b"} {
		_, err := s.Generate(t.Context(), keystore.NewKey{Label: "twin", ID: []byte(id), Kind: keystore.KindHMAC})
		require.NoError(t, err)
	}
	m, err := s.MAC("pkcs11:object=twin")
	require.NoError(t, err)
	_, err = m.Sum(t.Context(), nil)
	require.ErrorIs(t, err, keystore.ErrKeyAmbiguous)
	require.ErrorContains(t, err, "id=")
	m, err = s.MAC("pkcs11:object=twin;id=%61")
	require.NoError(t, err)
	_, err = m.Sum(t.Context(), nil)
	require.NoError(t, err)
	require.ErrorIs(t, s.Destroy(t.Context(), "pkcs11:object=twin;type=secret-key"), keystore.ErrKeyAmbiguous)
	require.ErrorIs(t, s.Destroy(t.Context(), "pkcs11:object=twin;id=%61"), keystore.ErrConfiguration)
}

func TestRolesRefuseKeysOfAnotherType(t *testing.T) {
	t.Parallel()
	s := softhsmtest.New(t).Open(t)
	generate(t, s, keystore.KindHMAC, "secret")
	generate(t, s, keystore.KindAES192, "envelope")
	c, err := s.Cipher("pkcs11:object=secret")
	require.NoError(t, err)
	_, err = c.EncryptCBC(t.Context(), make([]byte, 16), make([]byte, 16))
	require.ErrorIs(t, err, keystore.ErrRefused)
	require.ErrorContains(t, err, "generic secret")
	w, err := s.Wrapper("pkcs11:object=envelope")
	require.NoError(t, err)
	_, err = w.Wrap(t.Context(), make([]byte, 32), nil)
	require.ErrorIs(t, err, keystore.ErrKeyWeak)
	g, err := s.Signer("pkcs11:object=secret")
	require.NoError(t, err)
	_, err = g.PublicKey(t.Context())
	require.ErrorIs(t, err, keystore.ErrKeyNotFound)
}

func TestCertificateRequests(t *testing.T) {
	t.Parallel()
	s := softhsmtest.New(t).Open(t)
	for _, kind := range []keystore.Kind{keystore.KindRSA2048, keystore.KindECP256, keystore.KindECP384} {
		t.Run(string(kind), func(t *testing.T) {
			g, err := s.Signer(generate(t, s, kind, "tls-client "+string(kind)))
			require.NoError(t, err)
			der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "kiosk 7"}}, g)
			require.NoError(t, err)
			csr, err := x509.ParseCertificateRequest(der)
			require.NoError(t, err)
			require.NoError(t, csr.CheckSignature())
		})
	}
}

func TestECSignaturesVerify(t *testing.T) {
	t.Parallel()
	s := softhsmtest.New(t).Open(t)
	g, err := s.Signer(generate(t, s, keystore.KindECP256, "tls-client"))
	require.NoError(t, err)
	pub, ok := g.Public().(*ecdsa.PublicKey)
	require.True(t, ok)
	for range 20 { // r and s lose a leading zero byte now and then
		digest := sha256.Sum256([]byte("m"))
		sig, err := g.Sign(nil, digest[:], crypto.SHA256)
		require.NoError(t, err)
		require.True(t, ecdsa.VerifyASN1(pub, digest[:], sig))
	}
	require.NoError(t, s.Health(t.Context()))
}

func TestCapabilities(t *testing.T) {
	t.Parallel()
	s := softhsmtest.New(t).Open(t)
	info, err := s.Capabilities(t.Context())
	require.NoError(t, err)
	require.Equal(t, "gardu-test", info.Label)
	require.NotEmpty(t, info.Serial)
	var kinds []keystore.Kind
	for _, k := range info.Kinds {
		kinds = append(kinds, k.Kind)
	}
	require.ElementsMatch(t, keystore.Kinds(), kinds)
	for _, k := range info.Kinds {
		require.True(t, k.Generate && k.Use && len(k.Missing) == 0, k)
	}
	for _, kind := range []keystore.Kind{keystore.KindRSA2048, keystore.KindHMAC, keystore.KindAES192, keystore.KindAES256, keystore.KindRSA2048Unwrap} {
		for _, imported := range []bool{false, true} {
			require.NoError(t, s.Try(t.Context(), kind, imported), "%s %v", kind, imported)
		}
	}
	require.NoError(t, s.Try(t.Context(), keystore.KindECP256, false))
	require.ErrorIs(t, s.Try(t.Context(), keystore.KindECP256, true), keystore.ErrUnsupported)
	require.ErrorIs(t, s.Try(t.Context(), "none", true), keystore.ErrConfiguration)
	all, err := s.List(t.Context())
	require.NoError(t, err)
	require.Empty(t, all)
}

func TestKeysThatFailTheirFirstTestAreDestroyed(t *testing.T) {
	for _, c := range []struct{ name, fault string }{
		{"value readable", "always C_GetAttributeValue leak"},
		{"cannot compute", "always C_SignInit return 0x60"},
		{"computes nonsense", "always C_Sign flip 64"},
	} {
		t.Run(c.name, func(t *testing.T) {
			token := faults(t)
			s := token.Open(t)
			require.NoError(t, s.Ready(t.Context()))
			token.order(t, c.fault)
			_, err := s.Import(t.Context(), keystore.NewKey{Label: "k", Kind: keystore.KindHMAC}, secret.Clone([]byte("a secret of 18 byt")))
			require.Error(t, err)
			require.ErrorIs(t, err, keystore.ErrRefused)
			require.ErrorContains(t, err, "destroyed again")
			token.order(t, "")
			all, err := s.List(t.Context())
			require.NoError(t, err)
			require.Empty(t, all)
		})
	}
	t.Run("cannot be destroyed", func(t *testing.T) {
		token := faults(t)
		s := token.Open(t)
		require.NoError(t, s.Ready(t.Context()))
		token.order(t, "always C_SignInit return 0x68\nalways C_DestroyObject return 0x30")
		_, err := s.Import(t.Context(), keystore.NewKey{Label: "k", Kind: keystore.KindHMAC}, secret.Clone([]byte("a secret of 18 byt")))
		require.ErrorIs(t, err, keystore.ErrRefused)
		require.ErrorContains(t, err, "may be left in the token")
	})
}

// Some tokens refuse a template that denies a use.
func TestRefusedTemplateIsTriedLeaner(t *testing.T) {
	token := faults(t)
	s := token.Open(t)
	for kind, call := range map[keystore.Kind]string{
		keystore.KindRSA2048: "C_GenerateKeyPair", keystore.KindHMAC: "C_GenerateKey",
	} {
		token.order(t, "once "+call+" return 0xD1")
		info, err := s.Generate(t.Context(), keystore.NewKey{Label: call, Kind: kind})
		require.NoError(t, err)
		require.False(t, token.pending())
		require.Equal(t, "yes", info.Attributes["CKA_SENSITIVE"])
		require.Equal(t, "no", info.Attributes["CKA_EXTRACTABLE"])
		token.order(t, "always "+call+" return 0xD1")
		_, err = s.Generate(t.Context(), keystore.NewKey{Label: "none", Kind: kind})
		require.ErrorIs(t, err, keystore.ErrUnsupported)
		token.order(t, "")
	}
}

func TestCeremoniesAreNeverRepeated(t *testing.T) {
	token := faults(t)
	s := token.Open(t)
	require.NoError(t, s.Ready(t.Context()))
	token.order(t, "always C_GenerateKey crash")
	_, err := s.Generate(t.Context(), keystore.NewKey{Label: "k", Kind: keystore.KindHMAC})
	require.ErrorIs(t, err, keystore.ErrWorkerLost)
	require.ErrorContains(t, err, "whether it was done is not known")
	require.Equal(t, 1, token.strikes(t, "C_GenerateKey"))
}
