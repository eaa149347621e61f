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
	figureRounds = 41
	figureTurn   = 60 * time.Millisecond // of each side in each round
	figureWait   = 10 * time.Second      // for the others to rest, in all rounds together
)

// operation is one use of a key by one of several callers.
type operation func(ctx context.Context, caller int) ([]byte, error)

// TestFigureKeystore compares the keystore with the same key of the same token
// used in process: an init and the one-shot call in a session per caller, and
// nothing around them. The reference does not verify its RSA signatures while
// the clock runs; ours does, because no Signer can do without.
//
// The ratio is the median of the rounds' own ratios: the two sides of a round
// stand next to each other in time, so that what else the machine does touches
// both. A round waits a while for the others to be at rest, because a machine with
// more work than processors flatters either side by chance. A ratio below its bar
// fails the test.
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
		bar     float64
		unit    string
		callers int
		ours    operation
		raw     operation
		check   func(t *testing.T) func([]byte) error
	}{
		{
			"keystore_rsa2048_2callers", 0.85, "signatures/s", 2,
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
			"keystore_hmac_1caller", 0.50, "macs/s", 1, sum,
			raw.sign(t, "hmac", pkcs11.CKO_SECRET_KEY, pkcs11.CKM_SHA512_HMAC, message), alike,
		},
		{
			"keystore_hmac_8callers", 0.70, "macs/s", 8, sum,
			raw.sign(t, "hmac", pkcs11.CKO_SECRET_KEY, pkcs11.CKM_SHA512_HMAC, message), alike,
		},
		{
			"keystore_aes192_1caller", 0.45, "encryptions/s", 1,
			func(ctx context.Context, _ int) ([]byte, error) { return cipher.EncryptCBC(ctx, iv, plain) },
			raw.encrypt(t, "aes", iv, plain), alike,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			check := c.check(t)
			ours, reference := &tally{turns: make([]int, c.callers)}, &tally{turns: make([]int, c.callers)}
			var ratios []float64
			patience := figureWait
			for i := range figureRounds {
				patience -= rest(patience)
				sides := []func(){
					func() { ours.turn(t, c.ours, check) },
					func() { reference.turn(t, c.raw, check) },
				}
				if i%2 == 1 { // whoever goes second may find a warmer or a busier machine
					slices.Reverse(sides)
				}
				for _, side := range sides {
					side()
				}
				ratios = append(ratios, ours.rates[i]/reference.rates[i])
			}
			require.NotContains(t, ours.turns, 0, "a caller that never had its turn")
			ratio := median(ratios)
			fmt.Printf("BENCH %s ratio=%.2f ours=%.0f %s reference=%.0f %s\n",
				c.name, ratio, median(ours.rates), c.unit, median(reference.rates), c.unit)
			require.GreaterOrEqual(t, ratio, c.bar, "the promise of this figure; the rounds were %.2f", ratios)
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

// tally is what one side came to.
type tally struct {
	rates []float64 // operations in a second, by rounds
	turns []int     // operations, by callers
}

// turn has all callers do op until a turn is over. Every result is checked once
// the clock has stopped.
func (y *tally) turn(t *testing.T, op operation, check func([]byte) error) {
	t.Helper()
	results, errs := make([][][]byte, len(y.turns)), make([]error, len(y.turns))
	began := time.Now()
	var wg sync.WaitGroup
	for i := range y.turns {
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
	for i, of := range results {
		for _, result := range of {
			require.NoError(t, check(result))
		}
		n += len(of)
		y.turns[i] += len(of)
	}
	y.rates = append(y.rates, float64(n)/took.Seconds())
}

// rest waits until no processor has worked for a moment, or until most is over,
// and returns how long that took.
func rest(most time.Duration) time.Duration {
	began := time.Now()
	for last := worked(); time.Since(began) < most; {
		time.Sleep(30 * time.Millisecond)
		now := worked()
		if now == last {
			break
		}
		last = now
	}
	return time.Since(began)
}

// worked is the time that all processors have worked, in the kernel's ticks.
func worked() (ticks int) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	var user, nice, system, idle, waiting, irq, softirq, stolen int
	_, _ = fmt.Sscanf(string(b), "cpu %d %d %d %d %d %d %d %d", &user, &nice, &system, &idle, &waiting, &irq, &softirq, &stolen)
	return user + nice + system + irq + softirq + stolen
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
