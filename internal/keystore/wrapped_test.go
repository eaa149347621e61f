package keystore_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/hex"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"gardu/internal/keystore"
	"gardu/internal/keystore/softhsmtest"
	"gardu/internal/secret"
)

// TestKeysThatTheTokenCannotHold keeps an AES-192 key and a secret wrapped by each
// kind of token key, and uses them from memory.
func TestKeysThatTheTokenCannotHold(t *testing.T) {
	t.Parallel()
	for _, by := range []struct {
		kind keystore.Kind
		uri  string
	}{
		{keystore.KindRSA2048Unwrap, "pkcs11:object=wrapper;type=private"},
		{keystore.KindAES256, "pkcs11:object=wrapper"},
	} {
		t.Run(string(by.kind), func(t *testing.T) {
			t.Parallel()
			tok := softhsmtest.New(t)
			generate(t, tok.Open(t), by.kind, "wrapper")
			var log lockedBuffer
			says := slog.New(slog.NewTextHandler(&log, nil)) // one for both stores: they write side by side
			file := func(name string) string { return filepath.Join(tok.Dir, "state", name) }
			reopen := func() *keystore.Store {
				return tok.Open(t, func(o *keystore.Options) {
					o.LatchPath += "2"
					o.Wrapped = []keystore.WrappedKey{
						{Key: "pkcs11:object=envelope", File: file("envelope.wrapped"), By: by.uri},
						{Key: "pkcs11:object=secret", File: file("secret.wrapped"), By: by.uri},
					}
					o.Log = says
				})
			}
			s := reopen()
			ctx := t.Context()
			require.Contains(t, log.String(), "A KEY IS NOT KEPT IN THE TOKEN")

			// Without its file a role says what to do.
			c, err := s.Cipher("pkcs11:object=envelope", 192)
			require.NoError(t, err)
			iv, plain := make([]byte, 16), make([]byte, 32)
			_, err = c.EncryptCBC(ctx, iv, plain)
			require.ErrorIs(t, err, keystore.ErrKeyNotFound)
			require.ErrorContains(t, err, "gardu keys import envelope")

			value := make([]byte, 24)
			_, _ = rand.Read(value)
			_, err = s.ImportWrapped(ctx, keystore.NewKey{Label: "envelope", Kind: keystore.KindAES256}, secret.Clone(value))
			require.ErrorIs(t, err, keystore.ErrKeyGiven)
			_, err = s.ImportWrapped(ctx, keystore.NewKey{Label: "envelope", Kind: keystore.KindAES192, Check: []byte{1, 2, 3}}, secret.Clone(value))
			require.ErrorContains(t, err, "another key than was announced")
			info, err := s.ImportWrapped(ctx, keystore.NewKey{Label: "envelope", Kind: keystore.KindAES192}, secret.Clone(value))
			require.NoError(t, err)
			require.Len(t, info.KCV, 6)
			_, err = s.ImportWrapped(ctx, keystore.NewKey{Label: "envelope", Kind: keystore.KindAES192}, secret.Clone(value))
			require.ErrorIs(t, err, keystore.ErrKeyExists)
			_, err = s.ImportWrapped(ctx, keystore.NewKey{Label: "stranger", Kind: keystore.KindAES192}, secret.Clone(value))
			require.ErrorIs(t, err, keystore.ErrConfiguration)

			for _, size := range []int{16, 64, 100, 128, 300} {
				_ = os.Remove(file("secret.wrapped"))
				s := reopen()
				text := bytes.Repeat([]byte{7}, size)
				_, err = s.ImportWrapped(ctx, keystore.NewKey{Label: "secret", Kind: keystore.KindHMAC}, secret.Clone(text))
				require.NoError(t, err, size)
				m, err := s.MAC("pkcs11:object=secret")
				require.NoError(t, err)
				sum, err := m.Sum(ctx, []byte("m"))
				require.NoError(t, err)
				require.Equal(t, hmac512(text, []byte("m")), sum, size)
			}
			_, err = s.ImportWrapped(ctx, keystore.NewKey{Label: "secret", Kind: keystore.KindHMAC}, secret.Clone([]byte("short")))
			require.ErrorIs(t, err, keystore.ErrKeyWeak)

			// Another program reads the file, and computes what the value computes.
			s = reopen()
			c, err = s.Cipher("pkcs11:object=envelope", 192)
			require.NoError(t, err)
			sealed, err := c.EncryptCBC(ctx, iv, plain)
			require.NoError(t, err)
			block, err := aes.NewCipher(value)
			require.NoError(t, err)
			want := make([]byte, len(plain))
			cipher.NewCBCEncrypter(block, iv).CryptBlocks(want, plain)
			require.Equal(t, want, sealed)
			back, err := c.DecryptCBC(ctx, iv, sealed)
			require.NoError(t, err)
			require.Equal(t, plain, back)
			require.NoError(t, s.Health(ctx))
			require.Contains(t, log.String(), "a key was unwrapped into memory")
			// In locked memory: the kernel counts it.
			status, err := os.ReadFile("/proc/self/status")
			require.NoError(t, err)
			require.NotContains(t, string(status), "VmLck:\t       0 kB")

			// Neither file nor log holds the value.
			text, err := os.ReadFile(file("envelope.wrapped"))
			require.NoError(t, err)
			for _, where := range []string{string(text), log.String()} {
				require.NotContains(t, where, hex.EncodeToString(value))
				require.NotContains(t, where, string(value))
			}
			larger, err := s.Cipher("pkcs11:object=envelope", 256)
			require.NoError(t, err)
			_, err = larger.EncryptCBC(ctx, iv, plain)
			require.ErrorIs(t, err, keystore.ErrUnsupported)
			require.ErrorContains(t, err, "aes-256")
			m, err := s.MAC("pkcs11:object=envelope")
			require.NoError(t, err)
			_, err = m.Sum(ctx, nil)
			require.ErrorIs(t, err, keystore.ErrUnsupported)

			for name, spoil := range map[string]func(){
				"others may read it": func() { require.NoError(t, os.Chmod(file("envelope.wrapped"), 0o644)) }, //nolint:gosec // that is the test
				"another kind": func() {
					require.NoError(t, os.WriteFile(file("envelope.wrapped"), bytes.Replace(text, []byte("aes-192"), []byte("aes-256"), 1), 0o600))
				},
				"another check value": func() {
					other := "00"
					if strings.HasPrefix(info.KCV, other) {
						other = "01"
					}
					require.NoError(t, os.WriteFile(file("envelope.wrapped"), bytes.Replace(text, []byte(info.KCV), []byte(other+info.KCV[2:]), 1), 0o600))
				},
				"junk": func() { require.NoError(t, os.WriteFile(file("envelope.wrapped"), []byte("{}"), 0o600)) },
				"the other key's file": func() {
					other, err := os.ReadFile(file("secret.wrapped"))
					require.NoError(t, err)
					require.NoError(t, os.WriteFile(file("envelope.wrapped"), other, 0o600))
				},
			} {
				require.NoError(t, os.WriteFile(file("envelope.wrapped"), text, 0o600))
				require.NoError(t, os.Chmod(file("envelope.wrapped"), 0o600))
				spoil()
				s := reopen()
				c, err := s.Cipher("pkcs11:object=envelope")
				if err == nil {
					_, err = c.EncryptCBC(ctx, iv, plain)
				}
				require.Error(t, err, name)
				_, err = s.DescribeWrapped(ctx, "envelope")
				require.Error(t, err, name)
			}
			require.NoError(t, s.Close())
			_, err = c.EncryptCBC(ctx, iv, plain)
			require.ErrorIs(t, err, keystore.ErrClosed)
		})
	}
}

func TestWrappedKeysAreConfiguredExactly(t *testing.T) {
	t.Parallel()
	tok := softhsmtest.New(t)
	for name, w := range map[string][]keystore.WrappedKey{
		"relative file":  {{Key: "pkcs11:object=a", File: "a", By: "pkcs11:object=w"}},
		"an id":          {{Key: "pkcs11:object=a;id=%01", File: "/a", By: "pkcs11:object=w"}},
		"a private key":  {{Key: "pkcs11:object=a;type=private", File: "/a", By: "pkcs11:object=w"}},
		"no wrapper":     {{Key: "pkcs11:object=a", File: "/a"}},
		"no key":         {{File: "/a", By: "pkcs11:object=w"}},
		"the same twice": {{Key: "pkcs11:object=a", File: "/a", By: "pkcs11:object=w"}, {Key: "pkcs11:object=a", File: "/b", By: "pkcs11:object=w"}},
	} {
		o := tok.Options()
		o.Wrapped = w
		_, err := keystore.Open(o)
		require.ErrorIs(t, err, keystore.ErrConfiguration, name)
	}
}
