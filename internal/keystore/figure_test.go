package keystore_test

import (
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/pkcs11"
	"github.com/stretchr/testify/require"

	"gardu/internal/keystore"
	"gardu/internal/keystore/softhsmtest"
)

const (
	figureRounds = 11
	figureTurn   = 250 * time.Millisecond // of each side in each round
)

// operation is one use of a key by one of several callers.
type operation func(ctx context.Context, caller int) ([]byte, error)

// TestFigureKeystore compares the keystore with the same key of the same token
// used in process: an init and the one-shot call in a session per caller, and
// nothing around them. The reference does not verify its RSA signatures while
// the clock runs; ours does, because no Signer can do without.
//
// On a busy machine two processes get more of it than one, which flatters ours.
func TestFigureKeystore(t *testing.T) {
	if os.Getenv("GARDU_BENCH") != "1" {
		t.Skip("a figure: set GARDU_BENCH=1, or run `make bench`")
	}
	token := softhsmtest.New(t)
	store := token.Open(t)
	rsaKey, err := store.Generate(t.Context(), keystore.NewKey{Label: "rsa", Kind: keystore.KindRSA2048})
	require.NoError(t, err)
	signer, err := store.Signer(rsaKey.URI())
	require.NoError(t, err)
	mac, err := store.MAC(generate(t, store, keystore.KindHMAC, "hmac"))
	require.NoError(t, err)
	cipher, err := store.Cipher(generate(t, store, keystore.KindAES192, "aes"))
	require.NoError(t, err)
	raw := inProcess(t, token)

	message, iv, plain := []byte(strings.Repeat("m", 256)), make([]byte, 16), make([]byte, 160)
	sum := func(ctx context.Context, _ int) ([]byte, error) { return mac.Sum(ctx, message) }
	for _, c := range []struct {
		name    string
		unit    string
		callers int
		ours    operation
		raw     operation
		check   func(t *testing.T) func([]byte) error
	}{
		{
			"keystore_rsa2048_2callers", "signatures/s", 2,
			func(ctx context.Context, _ int) ([]byte, error) { return signer.SignSHA256(ctx, message) },
			raw.sign(t, "rsa", pkcs11.CKO_PRIVATE_KEY, pkcs11.CKM_SHA256_RSA_PKCS, message),
			func(t *testing.T) func([]byte) error {
				pub, err := x509.ParsePKIXPublicKey(rsaKey.Public)
				require.NoError(t, err)
				digest := sha256.Sum256(message)
				return func(sig []byte) error {
					return rsa.VerifyPKCS1v15(pub.(*rsa.PublicKey), crypto.SHA256, digest[:], sig)
				}
			},
		},
		{
			"keystore_hmac_1caller", "macs/s", 1, sum,
			raw.sign(t, "hmac", pkcs11.CKO_SECRET_KEY, pkcs11.CKM_SHA512_HMAC, message), alike,
		},
		{
			"keystore_hmac_8callers", "macs/s", 8, sum,
			raw.sign(t, "hmac", pkcs11.CKO_SECRET_KEY, pkcs11.CKM_SHA512_HMAC, message), alike,
		},
		{
			"keystore_aes192_1caller", "encryptions/s", 1,
			func(ctx context.Context, _ int) ([]byte, error) { return cipher.EncryptCBC(ctx, iv, plain) },
			raw.encrypt(t, "aes", iv, plain), alike,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			check := c.check(t)
			var ours, reference []float64
			for i := range figureRounds {
				sides := []func(){
					func() { ours = append(ours, perSecond(t, c.callers, c.ours, check)) },
					func() { reference = append(reference, perSecond(t, c.callers, c.raw, check)) },
				}
				if i%2 == 1 { // whoever goes second may find a warmer or a busier machine
					slices.Reverse(sides)
				}
				for _, side := range sides {
					side()
				}
			}
			o, r := median(ours), median(reference)
			fmt.Printf("BENCH %s ratio=%.2f ours=%.0f %s reference=%.0f %s\n", c.name, o/r, o, c.unit, r, c.unit)
		})
	}
}

// alike takes only results that are the same as the first, whichever side made it.
func alike(*testing.T) func([]byte) error {
	var first []byte
	return func(result []byte) error {
		if first == nil {
			first = result
		}
		if len(result) == 0 || !slices.Equal(first, result) {
			return errors.New("another result for the same input")
		}
		return nil
	}
}

// perSecond has callers do op until a turn is over and returns how often they
// did it in a second. Every result is checked once the clock has stopped.
func perSecond(t *testing.T, callers int, op operation, check func([]byte) error) float64 {
	t.Helper()
	results, errs := make([][][]byte, callers), make([]error, callers)
	began := time.Now()
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			for time.Since(began) < figureTurn {
				result, err := op(t.Context(), i)
				if err != nil {
					errs[i] = err
					return
				}
				results[i] = append(results[i], result)
			}
		})
	}
	wg.Wait()
	took := time.Since(began)
	require.NoError(t, errors.Join(errs...))
	n := 0
	for _, of := range results {
		require.NotEmpty(t, of, "a caller that never had its turn")
		for _, result := range of {
			require.NoError(t, check(result))
			n++
		}
	}
	return float64(n) / took.Seconds()
}

func median(of []float64) float64 {
	s := slices.Sorted(slices.Values(of))
	return s[len(s)/2]
}

// module is a PKCS#11 module in this process, with a session for each of up to
// eight callers.
type module struct {
	ctx      *pkcs11.Ctx
	sessions []pkcs11.SessionHandle
}

// inProcess loads the token's module into the test itself. A module reads its
// configuration once per process, so there can be one such token.
func inProcess(t *testing.T, token *softhsmtest.Token) *module {
	t.Helper()
	for _, v := range token.Env {
		name, value, _ := strings.Cut(v, "=")
		t.Setenv(name, value)
	}
	m := &module{ctx: pkcs11.New(token.Module)}
	require.NotNil(t, m.ctx)
	require.NoError(t, m.ctx.Initialize())
	t.Cleanup(func() { require.NoError(t, m.ctx.Finalize()) })
	slots, err := m.ctx.GetSlotList(true)
	require.NoError(t, err)
	for _, slot := range slots {
		info, err := m.ctx.GetTokenInfo(slot)
		require.NoError(t, err)
		if strings.TrimRight(info.Label, " \x00") != token.Label {
			continue
		}
		for range 8 {
			sh, err := m.ctx.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION)
			require.NoError(t, err)
			m.sessions = append(m.sessions, sh)
		}
	}
	require.Len(t, m.sessions, 8)
	require.NoError(t, m.ctx.Login(m.sessions[0], pkcs11.CKU_USER, token.PIN))
	return m
}

func (m *module) find(t *testing.T, label string, class uint) pkcs11.ObjectHandle {
	t.Helper()
	sh := m.sessions[0]
	require.NoError(t, m.ctx.FindObjectsInit(sh, []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_LABEL, label), pkcs11.NewAttribute(pkcs11.CKA_CLASS, class),
	}))
	found, _, err := m.ctx.FindObjects(sh, 2)
	require.NoError(t, err)
	require.NoError(t, m.ctx.FindObjectsFinal(sh))
	require.Len(t, found, 1)
	return found[0]
}

func (m *module) sign(t *testing.T, label string, class, mechanism uint, message []byte) operation {
	t.Helper()
	key := m.find(t, label, class)
	return func(_ context.Context, caller int) ([]byte, error) {
		sh := m.sessions[caller]
		if err := m.ctx.SignInit(sh, []*pkcs11.Mechanism{pkcs11.NewMechanism(mechanism, nil)}, key); err != nil {
			return nil, err
		}
		return m.ctx.Sign(sh, message)
	}
}

func (m *module) encrypt(t *testing.T, label string, iv, plain []byte) operation {
	t.Helper()
	key := m.find(t, label, pkcs11.CKO_SECRET_KEY)
	return func(_ context.Context, caller int) ([]byte, error) {
		sh := m.sessions[caller]
		if err := m.ctx.EncryptInit(sh, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_AES_CBC, iv)}, key); err != nil {
			return nil, err
		}
		return m.ctx.Encrypt(sh, plain)
	}
}
