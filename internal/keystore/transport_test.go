package keystore_test

import (
	"bytes"
	"crypto/aes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"gardu/internal/keystore"
	"gardu/internal/keystore/softhsmtest"
)

// openssl makes what a provider makes: none of it is our own code.
func openssl(t *testing.T, dir string, args ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "openssl", args...) //nolint:gosec // a test's own command
	cmd.Dir = dir
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	require.NoError(t, err, "openssl %v: %s", args, errs.String())
	return out
}

// oaep encrypts the file secret.bin for transport.pem.
func oaep(t *testing.T, dir, in string) []byte {
	t.Helper()
	return openssl(t, dir, "pkeyutl", "-encrypt", "-pubin", "-inkey", "transport.pem", "-in", in,
		"-pkeyopt", "rsa_padding_mode:oaep", "-pkeyopt", "rsa_oaep_md:sha1", "-pkeyopt", "rsa_mgf1_md:sha1")
}

func TestKeysComeInUnderATransportKey(t *testing.T) {
	t.Parallel()
	s := softhsmtest.New(t).Open(t)
	ctx, dir := t.Context(), t.TempDir()
	info, err := s.Generate(ctx, keystore.NewKey{Label: "transport", Kind: keystore.KindTransport3072})
	require.NoError(t, err)
	require.Equal(t, "yes", info.Attributes["CKA_UNWRAP"])
	for _, a := range []string{"CKA_SIGN", "CKA_DECRYPT", "CKA_DERIVE", "CKA_EXTRACTABLE"} {
		require.NotEqual(t, "yes", info.Attributes[a], a)
	}
	file := func(name string, b []byte) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), b, 0o600))
	}
	file("transport.pem", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: info.Public}))
	blob := func(b []byte) keystore.Blob {
		return keystore.Blob{Transport: "pkcs11:object=transport", Bytes: b}
	}

	t.Run("secret", func(t *testing.T) {
		value := append([]byte("a provider's client secret"), make([]byte, 64-26)...)
		file("secret.bin", value)
		b := oaep(t, dir, "secret.bin")
		kcv := hmac512([]byte("a provider's client secret"), nil)[:3]
		wrong := blob(b)
		_, err := s.ImportBlob(ctx, keystore.NewKey{Label: "secret", Kind: keystore.KindHMAC, Check: []byte{1, 2, 3}}, wrong)
		require.ErrorIs(t, err, keystore.ErrKeyGiven)
		require.ErrorContains(t, err, "another key than was announced")
		info, err := s.ImportBlob(ctx, keystore.NewKey{Label: "secret", Kind: keystore.KindHMAC, Check: kcv}, blob(b))
		require.NoError(t, err, "the one with a wrong check value was not destroyed again")
		require.Equal(t, hex.EncodeToString(kcv), info.KCV)
		require.Equal(t, "no", info.Attributes["CKA_NEVER_EXTRACTABLE"])
		require.Equal(t, "yes", info.Attributes["CKA_SENSITIVE"])
		m, err := s.MAC("pkcs11:object=secret")
		require.NoError(t, err)
		sum, err := m.Sum(ctx, []byte("m"))
		require.NoError(t, err)
		require.Equal(t, hmac512(value, []byte("m")), sum)
	})
	t.Run("aes", func(t *testing.T) {
		value := make([]byte, 24)
		_, _ = rand.Read(value)
		file("aes.bin", value)
		b := blob(oaep(t, dir, "aes.bin"))
		block, err := aes.NewCipher(value)
		require.NoError(t, err)
		kcv := make([]byte, 16)
		block.Encrypt(kcv, kcv)
		// SoftHSM does not tell the length of what it unwrapped: without its check
		// value a key of 24 bytes could stand where one of 32 is meant.
		for _, kind := range []keystore.Kind{keystore.KindAES192, keystore.KindAES256} {
			_, err := s.ImportBlob(ctx, keystore.NewKey{Label: "envelope", Kind: kind}, b)
			require.ErrorIs(t, err, keystore.ErrKeyGiven)
			require.ErrorContains(t, err, "give its check value")
		}
		b.Hash = keystore.MechanismOAEPSHA1
		info, err := s.ImportBlob(ctx, keystore.NewKey{Label: "envelope", Kind: keystore.KindAES192, Check: kcv[:3]}, b)
		require.NoError(t, err)
		require.Equal(t, hex.EncodeToString(kcv[:3]), info.KCV)
	})
	t.Run("rsa", func(t *testing.T) {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		require.NoError(t, err)
		der, err := x509.MarshalPKCS8PrivateKey(key)
		require.NoError(t, err)
		between := make([]byte, 32)
		_, _ = rand.Read(between)
		file("netzme.der", der)
		file("between.bin", between)
		head := oaep(t, dir, "between.bin")
		tail := openssl(t, dir, "enc", "-e", "-id-aes256-wrap-pad", "-K", hex.EncodeToString(between), "-iv", "A65959A6", "-in", "netzme.der")
		spki, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
		require.NoError(t, err)
		digest := sha256.Sum256(spki)
		b := blob(append(head, tail...))
		info, err := s.ImportBlob(ctx, keystore.NewKey{Label: "netzme-sign", Kind: keystore.KindRSA2048, Check: digest[:8]}, b)
		require.NoError(t, err)
		require.Equal(t, hex.EncodeToString(digest[:]), info.Fingerprint())
		g, err := s.Signer("pkcs11:object=netzme-sign")
		require.NoError(t, err)
		_, err = g.SignSHA256(ctx, []byte("m"))
		require.NoError(t, err)
		require.Equal(t, &key.PublicKey, g.Public())

		_, err = s.ImportBlob(ctx, keystore.NewKey{Label: "longer", Kind: keystore.KindRSA3072}, b)
		require.ErrorContains(t, err, "not the one asked for")
		b.Bytes[len(b.Bytes)-1] ^= 1
		_, err = s.ImportBlob(ctx, keystore.NewKey{Label: "flipped", Kind: keystore.KindRSA2048}, b)
		require.Error(t, err)
	})
	t.Run("refused", func(t *testing.T) {
		generate(t, s, keystore.KindRSA2048Unwrap, "kek")
		for _, c := range []struct {
			name string
			kind keystore.Kind
			blob keystore.Blob
			is   error
		}{
			{"a key that may not unwrap", keystore.KindHMAC, keystore.Blob{Transport: "pkcs11:object=kek", Bytes: make([]byte, 256)}, keystore.ErrUnsupported},
			{"no such transport key", keystore.KindHMAC, keystore.Blob{Transport: "pkcs11:object=none", Bytes: make([]byte, 384)}, keystore.ErrKeyNotFound},
			{"too short", keystore.KindHMAC, blob(make([]byte, 256)), keystore.ErrCiphertext},
			{"no RSA key behind it", keystore.KindRSA2048, blob(make([]byte, 384)), keystore.ErrCiphertext},
			{"an EC key", keystore.KindECP256, blob(make([]byte, 384)), keystore.ErrUnsupported},
			{"noise", keystore.KindHMAC, blob(bytes.Repeat([]byte{7}, 384)), nil},
		} {
			_, err := s.ImportBlob(ctx, keystore.NewKey{Label: "no", Kind: c.kind}, c.blob)
			require.Error(t, err, c.name)
			if c.is != nil {
				require.ErrorIs(t, err, c.is, c.name)
			}
		}
	})
	// Nothing is left of what was refused.
	all, err := s.List(ctx)
	require.NoError(t, err)
	for i := range all {
		require.NotContains(t, []string{"no", "flipped", "longer"}, all[i].Label)
	}
}

// opencryptoki makes every secret that it unwraps readable and extractable, whatever it
// was told, and closes it when it is told again.
func TestSecretThatATokenUnwrapsOpenIsClosed(t *testing.T) {
	t.Parallel()
	token := faults(t)
	s := token.Open(t)
	ctx, dir := t.Context(), t.TempDir()
	info, err := s.Generate(ctx, keystore.NewKey{Label: "transport", Kind: keystore.KindTransport2048})
	require.NoError(t, err)
	value := bytes.Repeat([]byte{7}, 64)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "transport.pem"), pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: info.Public}), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "secret.bin"), value, 0o600))
	blob := keystore.Blob{Transport: info.URI(), Hash: keystore.MechanismOAEPSHA1, Bytes: oaep(t, dir, "secret.bin")}

	token.order(t, "once C_UnwrapKey bare")
	info, err = s.ImportBlob(ctx, keystore.NewKey{Label: "secret", Kind: keystore.KindHMAC}, blob)
	require.NoError(t, err)
	require.False(t, token.pending(), "the fault struck")
	require.Equal(t, "yes", info.Attributes["CKA_SENSITIVE"])
	require.Equal(t, "no", info.Attributes["CKA_EXTRACTABLE"])

	// One that the token does not close is not kept.
	token.order(t, "always C_UnwrapKey bare\nalways C_SetAttributeValue return 0x10")
	_, err = s.ImportBlob(ctx, keystore.NewKey{Label: "open", Kind: keystore.KindHMAC}, blob)
	require.ErrorIs(t, err, keystore.ErrRefused)
	require.ErrorContains(t, err, "destroyed again")
	token.order(t, "")
	_, err = s.Verify(ctx, "secret-key", "open")
	require.ErrorIs(t, err, keystore.ErrKeyNotFound)
}

func TestVerifyJudgesKeys(t *testing.T) {
	t.Parallel()
	tok := softhsmtest.New(t)
	s := tok.Open(t)
	ctx := t.Context()
	for kind, trial := range map[keystore.Kind]string{
		keystore.KindRSA2048: "signature, verified", keystore.KindECP256: "signature, verified", keystore.KindHMAC: "HMAC-SHA512",
		keystore.KindAES192: "AES-CBC, encrypt and decrypt", keystore.KindAES256: "AES-CBC, encrypt and decrypt",
		keystore.KindRSA2048Unwrap: "RSA-OAEP with SHA-1", keystore.KindTransport2048: "RSA-OAEP with SHA-1, unwrap",
	} {
		info, err := s.Generate(ctx, keystore.NewKey{Label: string(kind), Kind: kind})
		require.NoError(t, err)
		r, err := s.Verify(ctx, info.Class, info.Label)
		require.NoError(t, err)
		require.True(t, r.OK, "%+v", r)
		require.Equal(t, trial, finding(t, &r, "test").Detail)
		require.Contains(t, finding(t, &r, "origin").Detail, "made in the token")
	}
	// Keys that another tool made: readable, for two purposes, too short.
	tok.Run(t, "pkcs11-tool", "--module", tok.Module, "--login", "--pin", tok.PIN, "--keygen", "--key-type", "AES:32", "--label", "open", "--extractable", "--usage-decrypt")
	r, err := s.Verify(ctx, "secret-key", "open")
	require.NoError(t, err)
	require.False(t, r.OK)
	require.False(t, finding(t, &r, "CKA_EXTRACTABLE").OK)
	tok.Run(t, "pkcs11-tool", "--module", tok.Module, "--login", "--pin", tok.PIN, "--keypairgen", "--key-type", "rsa:1024", "--label", "weak", "--usage-sign", "--usage-decrypt")
	r, err = s.Verify(ctx, "private", "weak")
	require.NoError(t, err)
	require.False(t, r.OK)
	require.False(t, finding(t, &r, "size").OK)
	require.False(t, finding(t, &r, "purpose").OK)

	_, err = s.Verify(ctx, "private", "none")
	require.ErrorIs(t, err, keystore.ErrKeyNotFound)
}

func finding(t *testing.T, r *keystore.Report, what string) keystore.Finding {
	t.Helper()
	for _, f := range r.Findings {
		if f.What == what {
			return f
		}
	}
	require.Fail(t, "no finding", "%s in %+v", what, r)
	return keystore.Finding{}
}

func hmac512(key, message []byte) []byte {
	h := hmac.New(sha512.New, key)
	_, _ = h.Write(message)
	return h.Sum(nil)
}
