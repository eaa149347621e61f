package keystore_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1" //nolint:gosec // see wrapper
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gardu/internal/keystore"
	"gardu/internal/keystore/softhsmtest"
	"gardu/internal/secret"
)

// candidate is the token under test.
type candidate struct {
	store  *keystore.Store
	prefix string // of the labels of everything that the suite makes
	info   keystore.TokenInfo
}

// chosen opens the token that the environment names, or a SoftHSM of its own.
//
//	GARDU_TEST_MODULE         the PKCS#11 module's absolute path
//	GARDU_TEST_TOKEN          the token, as a pkcs11: URI or by its label
//	GARDU_TEST_PIN            its user PIN; it is tried once
//	GARDU_TEST_INIT_RESERVED  what the module takes at C_Initialize, if anything
//	GARDU_TEST_ENV            names of variables that the module needs, by commas
func chosen(t *testing.T) *candidate {
	t.Helper()
	c := &candidate{prefix: "gardu-test-" + strings.ToLower(rand.Text()[:8])}
	if module := os.Getenv("GARDU_TEST_MODULE"); module != "" {
		dir := t.TempDir()
		o := keystore.Options{
			Module: module, TrustModulePath: true, InitReserved: os.Getenv("GARDU_TEST_INIT_RESERVED"),
			Token: os.Getenv("GARDU_TEST_TOKEN"), LatchPath: filepath.Join(dir, "latch"),
			// A key that one process of the driver does not let go of (tpm2-pkcs11, after it
			// refused a ciphertext), another may: sweep asks twice.
			BackoffMin: time.Millisecond, BackoffMax: time.Millisecond,
		}
		if !strings.HasPrefix(o.Token, "pkcs11:") {
			require.NotEmpty(t, o.Token, "GARDU_TEST_TOKEN names the token")
			o.Token = keystore.URI{Token: o.Token}.String()
		}
		if names := os.Getenv("GARDU_TEST_ENV"); names != "" {
			o.EnvAllow = strings.Split(names, ",")
		}
		if pin := os.Getenv("GARDU_TEST_PIN"); pin != "" {
			file := filepath.Join(dir, "pin")
			require.NoError(t, os.WriteFile(file, []byte(pin), 0o400))
			o.PIN = keystore.PINFile(file)
		}
		s, err := keystore.Open(o)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, s.Close()) })
		c.store = s
	} else {
		c.store = softhsmtest.New(t).Open(t)
	}
	var err error
	c.info, err = c.store.Capabilities(t.Context())
	require.NoError(t, err, "the token cannot be used at all")
	t.Cleanup(func() { c.sweep(t) })
	return c
}

// sweep destroys what the suite has made, whatever became of it.
func (c *candidate) sweep(t *testing.T) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	var left []keystore.KeyInfo
	var errs []error
	for _, public := range []bool{false, false, true} { // public halves go with their private ones; a token may have kept one
		all, err := c.store.List(ctx)
		require.NoError(t, err)
		left, errs = nil, nil
		for _, k := range all {
			if !strings.HasPrefix(k.Label, c.prefix) {
				continue
			}
			if k.Class != "public" || public {
				if err := c.store.Destroy(ctx, k.URI()); err == nil {
					continue
				} else if !errors.Is(err, keystore.ErrKeyNotFound) {
					errs = append(errs, err)
				}
			}
			left = append(left, k)
		}
		if len(left) == 0 {
			return
		}
	}
	all, err := c.store.List(ctx)
	require.NoError(t, err)
	for _, k := range all {
		require.False(t, strings.HasPrefix(k.Label, c.prefix), "%s stays behind in the token (%v); destroy it with the vendor's tool", k.URI(), errors.Join(errs...))
	}
}

// errUntrue is what a token claims and does wrong.
var errUntrue = errors.New("WRONG")

// verdict sorts what became of a role. A token may refuse whatever it likes; what it
// has carried out must be right, and it must not take its process along.
func verdict(err error) (text string, wrong bool) {
	switch {
	case err == nil:
		return "can", false
	case errors.Is(err, errUntrue), errors.Is(err, keystore.ErrTimeout), errors.Is(err, keystore.ErrWorkerLost), errors.Is(err, keystore.ErrKeyChanged):
		return "WRONG: " + err.Error(), true
	}
	// A new key that failed its first test: what is wrong with it stands in words only.
	for _, words := range []string{"in clear", "does not compute", "does not verify", "does not decrypt", "answered OK, but", "is not true", "is not false", "is not the one asked for"} {
		if strings.Contains(err.Error(), words) {
			return "WRONG: " + err.Error(), true
		}
	}
	return "cannot: " + err.Error(), false
}

func untrue(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errUntrue, fmt.Sprintf(format, args...))
}

// trial is one role, one way to come by its key and one mechanism.
type trial struct {
	role, how string
	mechanism keystore.Mechanism
	try       func(ctx context.Context, c *candidate, label string) error
}

// TestTokenConformance is what `make test-token` runs: each role on the token, by
// each mechanism. It reports what the token can and cannot do, and fails only where
// the token says it has done something and has done it wrong.
func TestTokenConformance(t *testing.T) {
	c := chosen(t)
	fmt.Printf("TOKEN %s (%s %s, serial %s, library %q)\n", c.info.Label, c.info.Manufacturer, c.info.Model, c.info.Serial, c.info.Library)
	can := 0
	for i, r := range trials() {
		t.Run(fmt.Sprintf("%s %s %s", r.role, r.how, r.mechanism), func(t *testing.T) {
			err := r.try(t.Context(), c, fmt.Sprintf("%s-%d", c.prefix, i))
			text, wrong := verdict(err)
			fmt.Printf("TOKEN %-18s %-9s %-16s %s\n", r.role, r.how, r.mechanism, text)
			if err == nil {
				can++
			}
			require.False(t, wrong, text)
		})
	}
	require.Positive(t, can, "the token can do nothing at all; is it the right one?")
}

func trials() []trial {
	var all []trial
	add := func(role, how string, m keystore.Mechanism, try func(context.Context, *candidate, string) error) {
		all = append(all, trial{role, how, m, try})
	}
	for _, m := range []keystore.Mechanism{keystore.MechanismSHA256RSAPKCS, keystore.MechanismRSAPKCS} {
		add("snap-sign", "made", m, madeSigner(keystore.KindRSA2048, m))
	}
	add("snap-sign", "imported", "", importedSigner)
	add("snap-secret", "made", keystore.MechanismSHA512HMAC, func(ctx context.Context, c *candidate, label string) error {
		info, err := c.store.Generate(ctx, keystore.NewKey{Label: label, Kind: keystore.KindHMAC})
		if err != nil {
			return err
		}
		m, err := c.store.MAC(info.URI())
		if err != nil {
			return err
		}
		_, err = m.Prove(ctx)
		return err
	})
	for _, size := range []int{16, 64, 200} {
		add("snap-secret", fmt.Sprintf("imp. %d", size), keystore.MechanismSHA512HMAC, importedMAC(size))
	}
	add("prepaid-envelope", "made", keystore.MechanismAESCBC, func(ctx context.Context, c *candidate, label string) error {
		info, err := c.store.Generate(ctx, keystore.NewKey{Label: label, Kind: keystore.KindAES192})
		if err != nil {
			return err
		}
		return cbc(ctx, c, info.URI(), nil)
	})
	add("prepaid-envelope", "imported", keystore.MechanismAESCBC, func(ctx context.Context, c *candidate, label string) error {
		value := make([]byte, 24)
		_, _ = rand.Read(value)
		info, err := c.store.Import(ctx, keystore.NewKey{Label: label, Kind: keystore.KindAES192}, secret.Clone(value))
		if err != nil {
			return err
		}
		return cbc(ctx, c, info.URI(), value)
	})
	add("journal-kek", "made", keystore.MechanismAESGCM, wrapping(keystore.KindAES256, keystore.MechanismAESGCM))
	add("journal-kek", "made", keystore.MechanismOAEPSHA256, wrapping(keystore.KindRSA3072Unwrap, keystore.MechanismOAEPSHA256))
	add("journal-kek", "made", keystore.MechanismOAEPSHA1, wrapping(keystore.KindRSA3072Unwrap, keystore.MechanismOAEPSHA1))
	for _, m := range []keystore.Mechanism{keystore.MechanismOAEPSHA256, keystore.MechanismOAEPSHA1} {
		add("transport", "secret", m, transported(m, secretUnder))
		add("transport", "RSA key", m, transported(m, signerUnder))
	}
	add("tls-client P-256", "made", keystore.MechanismECDSA, madeSigner(keystore.KindECP256, keystore.MechanismECDSA))
	add("tls-client P-384", "made", keystore.MechanismECDSA, madeSigner(keystore.KindECP384, keystore.MechanismECDSA))
	add("tls-client RSA", "made", keystore.MechanismPSS, madeSigner(keystore.KindRSA2048, keystore.MechanismPSS))
	return all
}

func madeSigner(kind keystore.Kind, m keystore.Mechanism) func(context.Context, *candidate, string) error {
	return func(ctx context.Context, c *candidate, label string) error {
		info, err := c.store.Generate(ctx, keystore.NewKey{Label: label, Kind: kind})
		if err != nil {
			return err
		}
		g, err := c.store.Signer(info.URI(), m)
		if err != nil {
			return err
		}
		if used, err := g.Prove(ctx); err != nil {
			return err
		} else if used != m {
			return untrue("it was proved by %s", used)
		}
		return signTogether(ctx, g)
	}
}

// signTogether signs from several goroutines: some modules mix up their sessions.
func signTogether(ctx context.Context, g *keystore.Signer) error {
	pub, err := g.PublicKey(ctx)
	if err != nil {
		return err
	}
	errs := make([]error, 4)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() {
			for n := range 5 {
				message := []byte(fmt.Sprint(i, n))
				digest := sha256.Sum256(message)
				if _, err := g.Prove(ctx); err != nil {
					errs[i] = err
					return
				}
				switch pub := pub.(type) {
				case *ecdsa.PublicKey:
					sig, err := g.SignDigest(ctx, digest[:], crypto.SHA256)
					if err != nil {
						errs[i] = err
					} else if !ecdsa.VerifyASN1(pub, digest[:], sig) {
						errs[i] = untrue("a signature does not verify")
					}
				case *rsa.PublicKey:
					sig, err := g.SignSHA256(ctx, message)
					if errors.Is(err, keystore.ErrUnsupported) {
						continue // by PSS only, and that was proved
					}
					if err != nil {
						errs[i] = err
					} else if rsa.VerifyPKCS1v15(pub, crypto.SHA256, digest[:], sig) != nil {
						errs[i] = untrue("a signature does not verify")
					}
				}
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

func importedSigner(ctx context.Context, c *candidate, label string) error {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	info, err := c.store.Import(ctx, keystore.NewKey{Label: label, Kind: keystore.KindRSA2048}, secret.New(x509.MarshalPKCS1PrivateKey(key)))
	if err != nil {
		return err
	}
	return signsAs(ctx, c, info.URI(), &key.PublicKey)
}

// signsAs holds a signature of a key that came in against the key that was sent.
func signsAs(ctx context.Context, c *candidate, uri string, public *rsa.PublicKey) error {
	g, err := c.store.Signer(uri)
	if err != nil {
		return err
	}
	sig, err := g.SignSHA256(ctx, []byte("m"))
	if err != nil {
		return err
	}
	digest := sha256.Sum256([]byte("m"))
	if rsa.VerifyPKCS1v15(public, crypto.SHA256, digest[:], sig) != nil {
		return untrue("the imported key signs with another")
	}
	return nil
}

// transported makes a transport key in the token and has a key come in under it.
func transported(m keystore.Mechanism, try func(context.Context, *candidate, string, *wrapper) error) func(context.Context, *candidate, string) error {
	return func(ctx context.Context, c *candidate, label string) error {
		info, err := c.store.Generate(ctx, keystore.NewKey{Label: label + "-transport", Kind: keystore.KindTransport3072})
		if err != nil {
			return err
		}
		public, err := x509.ParsePKIXPublicKey(info.Public)
		if err != nil {
			return untrue("its public half cannot be read: %v", err)
		}
		w := &wrapper{uri: info.URI(), public: public.(*rsa.PublicKey), hash: m}
		return try(ctx, c, label, w)
	}
}

// wrapper does what the bank's own tool does with the transport key's public half.
type wrapper struct {
	uri    string
	public *rsa.PublicKey
	hash   keystore.Mechanism
}

func (w *wrapper) oaep(value []byte) ([]byte, error) {
	h := sha256.New()
	if w.hash == keystore.MechanismOAEPSHA1 {
		h = sha1.New() //nolint:gosec // G401: all that some tokens have; OAEP does not rest on collision resistance
	}
	return rsa.EncryptOAEP(h, rand.Reader, w.public, value, nil)
}

func (w *wrapper) blob(b []byte) keystore.Blob {
	return keystore.Blob{Transport: w.uri, Hash: w.hash, Bytes: b}
}

func secretUnder(ctx context.Context, c *candidate, label string, w *wrapper) error {
	value := make([]byte, 64)
	_, _ = rand.Read(value)
	b, err := w.oaep(value)
	if err != nil {
		return err
	}
	info, err := c.store.ImportBlob(ctx, keystore.NewKey{Label: label, Kind: keystore.KindHMAC, Check: hmac512(value, nil)[:3]}, w.blob(b))
	if err != nil {
		return err
	}
	m, err := c.store.MAC(info.URI())
	if err != nil {
		return err
	}
	sum, err := m.Sum(ctx, []byte("m"))
	if err == nil && !hmac.Equal(sum, hmac512(value, []byte("m"))) {
		err = untrue("the unwrapped secret computes as another")
	}
	return err
}

// signerUnder wraps the key by OpenSSL, whose RFC 5649 is not ours.
func signerUnder(ctx context.Context, c *candidate, label string, w *wrapper) error {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	spki, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return err
	}
	between := make([]byte, 32)
	_, _ = rand.Read(between)
	head, err := w.oaep(between)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "openssl", "enc", "-e", "-id-aes256-wrap-pad", "-K", hex.EncodeToString(between), "-iv", "A65959A6") //nolint:gosec // G204: ours
	cmd.Stdin = bytes.NewReader(der)
	tail, err := cmd.Output()
	if err != nil {
		return untrue("the test's openssl: %v", err)
	}
	digest := sha256.Sum256(spki)
	info, err := c.store.ImportBlob(ctx, keystore.NewKey{Label: label, Kind: keystore.KindRSA2048, Check: digest[:8]}, w.blob(append(head, tail...)))
	if err != nil {
		return err
	}
	return signsAs(ctx, c, info.URI(), &key.PublicKey)
}

func importedMAC(size int) func(context.Context, *candidate, string) error {
	return func(ctx context.Context, c *candidate, label string) error {
		value := make([]byte, size)
		_, _ = rand.Read(value)
		info, err := c.store.Import(ctx, keystore.NewKey{Label: label, Kind: keystore.KindHMAC}, secret.Clone(value))
		if err != nil {
			return err
		}
		m, err := c.store.MAC(info.URI())
		if err != nil {
			return err
		}
		for _, n := range []int{0, 1, 127, 128, 129, 2048} {
			message := bytes.Repeat([]byte{byte(n)}, n)
			got, err := m.Sum(ctx, message)
			if err != nil {
				return fmt.Errorf("a message of %d bytes: %w", n, err)
			}
			want := hmac.New(sha512.New, value)
			_, _ = want.Write(message)
			if !hmac.Equal(got, want.Sum(nil)) {
				return untrue("the MAC of %d bytes is another", n)
			}
		}
		return nil
	}
}

// cbc encrypts and decrypts; with a value what comes out is compared with Go's own.
func cbc(ctx context.Context, c *candidate, uri string, value []byte) error {
	k, err := c.store.Cipher(uri, 192)
	if err != nil {
		return err
	}
	for _, n := range []int{16, 160, 2048} {
		iv, plain := make([]byte, 16), make([]byte, n)
		_, _ = rand.Read(iv)
		_, _ = rand.Read(plain)
		sealed, err := k.EncryptCBC(ctx, iv, plain)
		if err != nil {
			return err
		}
		if value != nil {
			block, err := aes.NewCipher(value)
			if err != nil {
				return err
			}
			want := make([]byte, n)
			cipher.NewCBCEncrypter(block, iv).CryptBlocks(want, plain)
			if !bytes.Equal(sealed, want) {
				return untrue("the ciphertext of %d bytes is another", n)
			}
		}
		back, err := k.DecryptCBC(ctx, iv, sealed)
		if err != nil {
			return err
		}
		if !bytes.Equal(back, plain) {
			return untrue("it does not decrypt what it encrypted")
		}
	}
	return nil
}

func wrapping(kind keystore.Kind, m keystore.Mechanism) func(context.Context, *candidate, string) error {
	return func(ctx context.Context, c *candidate, label string) error {
		info, err := c.store.Generate(ctx, keystore.NewKey{Label: label, Kind: kind})
		if err != nil {
			return err
		}
		w, err := c.store.Wrapper(info.URI(), m)
		if err != nil {
			return err
		}
		key, aad := make([]byte, 64), []byte("journal 7")
		_, _ = rand.Read(key)
		wrapped, err := w.Wrap(ctx, key, aad)
		if err != nil {
			return err
		}
		back, err := w.Unwrap(ctx, wrapped, aad)
		if err != nil {
			return err
		}
		if !bytes.Equal(back, key) {
			return untrue("it does not unwrap what it wrapped")
		}
		for at, change := range map[string]func() ([]byte, error){
			"another context": func() ([]byte, error) { return w.Unwrap(ctx, wrapped, []byte("journal 8")) },
			"a changed bit": func() ([]byte, error) {
				bad := bytes.Clone(wrapped)
				bad[len(bad)-1] ^= 1
				return w.Unwrap(ctx, bad, aad)
			},
		} {
			if _, err := change(); err == nil {
				return untrue("it unwraps with %s", at)
			} else if !errors.Is(err, keystore.ErrCiphertext) {
				return fmt.Errorf("%s is called: %w", at, err)
			}
		}
		return nil
	}
}
