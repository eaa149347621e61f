package keystore_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gardu/internal/keystore"
	"gardu/internal/keystore/softhsmtest"
	"gardu/internal/secret"
)

// faultyDir holds the fault module, once it was built.
var faultyDir string

// faultyModule builds testdata/faults.c, once.
var faultyModule = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "gardu-faults")
	if err != nil {
		return "", err
	}
	faultyDir = dir
	module := filepath.Join(dir, "faults.so")
	out, err := exec.Command("gcc", "-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-o", module, "testdata/faults.c", "-ldl").CombinedOutput() //nolint:noctx // once, for all tests
	if err != nil {
		return "", fmt.Errorf("build the fault module (is gcc installed? run `apt-get install gcc libc6-dev`): %w: %s", err, out)
	}
	return module, nil
})

func removeFaultyModule() {
	if faultyDir != "" {
		_ = os.RemoveAll(faultyDir)
	}
}

// faulty is a token whose module goes wrong on demand.
type faulty struct {
	*softhsmtest.Token
	demand string
}

func faults(t testing.TB) *faulty {
	t.Helper()
	module, err := faultyModule()
	require.NoError(t, err)
	token := softhsmtest.New(t)
	f := &faulty{Token: token, demand: filepath.Join(token.Dir, "demand")}
	token.Env = append(token.Env, "FAULTS_MODULE="+token.Module, "FAULTS_FILE="+f.demand)
	token.Module = module
	return f
}

// Open opens a Store; the module lies in a folder of the test.
func (f *faulty) Open(t testing.TB, change ...func(*keystore.Options)) *keystore.Store {
	t.Helper()
	return f.Token.Open(t, append([]func(*keystore.Options){unhurried, trusting, f.whole(t)}, change...)...)
}

// whole keeps the token's own file as it is. SoftHSM writes it anew at each login,
// over the old one, and a worker that is killed meanwhile leaves it empty: that
// token is gone, whoever uses it.
func (f *faulty) whole(t testing.TB) func(*keystore.Options) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(f.Dir, "tokens", "*", "token.object"))
	require.NoError(t, err)
	require.Len(t, names, 1)
	good, err := os.ReadFile(names[0])
	require.NoError(t, err)
	require.NotEmpty(t, good)
	return func(o *keystore.Options) {
		o.Launcher = func() (*exec.Cmd, error) {
			if st, err := os.Stat(names[0]); err != nil || st.Size() != int64(len(good)) {
				if err := os.WriteFile(names[0], good, 0o600); err != nil {
					return nil, err
				}
			}
			return exec.Command("/proc/self/exe", keystore.WorkerArgument), nil //nolint:noctx // it outlives the call
		}
	}
}

func trusting(o *keystore.Options) { o.TrustModulePath = true }

// order demands a fault; an empty one ends it.
func (f *faulty) order(t testing.TB, fault string) {
	t.Helper()
	if fault == "" {
		require.NoError(t, os.RemoveAll(f.demand))
		return
	}
	// By a rename, so that the module never sees half of it.
	require.NoError(t, os.WriteFile(f.demand+".new", []byte(fault), 0o600))
	require.NoError(t, os.Rename(f.demand+".new", f.demand))
}

// pending says whether a fault that strikes once has not struck yet.
func (f *faulty) pending() bool {
	_, err := os.Stat(f.demand)
	return err == nil
}

// strikes counts the faults that struck in a function, in all for "".
func (f *faulty) strikes(t testing.TB, function string) int {
	t.Helper()
	b, err := os.ReadFile(f.demand + ".log")
	if errors.Is(err, os.ErrNotExist) {
		return 0
	}
	require.NoError(t, err)
	return strings.Count(string(b), function+" ")
}

// crew holds one key of each role with what is needed to judge its work.
type crew struct {
	mac     *known
	signer  *keystore.Signer
	public  *rsa.PublicKey
	cipher  *keystore.Cipher
	block   cipher.Block
	wrapper *keystore.Wrapper
	plain   []byte
	wrapped []byte
}

func enlist(t testing.TB, s *keystore.Store) *crew {
	t.Helper()
	c := &crew{mac: knownMAC(t, s, "secret"), plain: []byte("0123456789abcdef0123456789abcdef")}
	var err error
	c.signer, err = s.Signer(generate(t, s, keystore.KindRSA2048, "sign"))
	require.NoError(t, err)
	var ok bool
	c.public, ok = c.signer.Public().(*rsa.PublicKey)
	require.True(t, ok)
	value := bytes.Repeat([]byte{42}, 24)
	c.block, err = aes.NewCipher(value)
	require.NoError(t, err)
	info, err := s.Import(t.Context(), keystore.NewKey{Label: "envelope", Kind: keystore.KindAES192}, secret.Clone(value))
	require.NoError(t, err)
	c.cipher, err = s.Cipher(info.URI())
	require.NoError(t, err)
	c.wrapper, err = s.Wrapper(generate(t, s, keystore.KindAES256, "kek"))
	require.NoError(t, err)
	c.wrapped, err = c.wrapper.Wrap(t.Context(), c.plain, nil)
	require.NoError(t, err)
	_, err = c.cipher.EncryptCBC(t.Context(), make([]byte, 16), make([]byte, 16))
	require.NoError(t, err)
	return c
}

var errWrong = errors.New("WRONG RESULT")

// work does one of four things and returns errWrong for a wrong result.
func (c *crew) work(ctx context.Context, n int) error {
	switch n % 4 {
	case 0:
		worked, wrong := c.mac.try(ctx, uint64(n)) //nolint:gosec // a counter
		if wrong != nil {
			return fmt.Errorf("%w: %w", errWrong, wrong)
		}
		if !worked {
			return keystore.ErrDevice // try has judged the error's type
		}
	case 1:
		message := []byte(fmt.Sprint(n))
		sig, err := c.signer.SignSHA256(ctx, message)
		if err != nil {
			return err
		}
		digest := sha256.Sum256(message)
		if rsa.VerifyPKCS1v15(c.public, crypto.SHA256, digest[:], sig) != nil {
			return fmt.Errorf("%w: signature", errWrong)
		}
	case 2:
		iv, plain, want := make([]byte, 16), bytes.Repeat([]byte{byte(n)}, 48), make([]byte, 48)
		iv[0] = byte(n >> 8)
		cipher.NewCBCEncrypter(c.block, iv).CryptBlocks(want, plain)
		got, err := c.cipher.EncryptCBC(ctx, iv, plain)
		if err != nil {
			return err
		}
		if !bytes.Equal(got, want) {
			return fmt.Errorf("%w: ciphertext", errWrong)
		}
	case 3:
		got, err := c.wrapper.Unwrap(ctx, c.wrapped, nil)
		if err != nil {
			if errors.Is(err, keystore.ErrCiphertext) {
				return fmt.Errorf("%w: a good key called bad: %w", errWrong, err)
			}
			return err
		}
		if !bytes.Equal(got, c.plain) {
			return fmt.Errorf("%w: unwrapped key", errWrong)
		}
	}
	return nil
}

func TestSingleFaultsAreMendedWithinTheCall(t *testing.T) {
	token := faults(t)
	s := token.Open(t)
	c := enlist(t, s)
	for _, c2 := range []struct {
		fault string
		n     int // what crew.work does
	}{
		{"C_Sign return 0x30", 0},
		{"C_Sign return 0xB3", 1},
		{"C_SignInit return 0x82", 0},
		{"C_Encrypt return 0x101", 2},
		{"C_Decrypt return 0x05", 3},
		{"C_Sign crash", 0},
		{"C_Sign exit", 1},
		{"C_Sign flip 256", 1}, // a wrong signature with CKR_OK
		{"C_DecryptInit crash", 3},
	} {
		t.Run(c2.fault, func(t *testing.T) {
			token.order(t, "once "+c2.fault)
			require.NoError(t, c.work(t.Context(), c2.n))
			require.False(t, token.pending(), "the fault struck")
		})
	}
}

func TestLastingFaultsAreTyped(t *testing.T) {
	t.Parallel()
	token := faults(t)
	s := token.Open(t)
	c := enlist(t, s)
	for _, c2 := range []struct {
		fault string
		n     int
		is    error
	}{
		{"C_Sign return 0x30", 1, keystore.ErrDevice},
		{"C_Sign flip 256", 1, keystore.ErrDevice},
		{"C_Sign crash", 1, keystore.ErrWorkerLost},
		{"C_Sign hang", 1, keystore.ErrTimeout},
		{"C_Decrypt return 0x30", 3, keystore.ErrDevice}, // not "no ciphertext of this key": its own is refused too
		{"C_SignInit return 0x70", 1, keystore.ErrUnsupported},
		{"C_SignInit return 0x68", 1, keystore.ErrRefused},
		{"C_Encrypt return 0x21", 2, keystore.ErrCiphertext},
		{"C_GetSlotList return 0xE0", 1, nil}, // not called while the worker lives
	} {
		t.Run(c2.fault, func(t *testing.T) {
			require.Eventually(t, func() bool { return c.work(t.Context(), c2.n) == nil }, patience, 5*time.Millisecond)
			token.order(t, "always "+c2.fault)
			defer token.order(t, "")
			if errors.Is(c2.is, keystore.ErrTimeout) {
				keystore.SetDeadlines(s, short)
				defer keystore.SetDeadlines(s, patience)
			}
			if err := c.work(t.Context(), c2.n); c2.is != nil {
				require.ErrorIs(t, err, c2.is)
			} else {
				require.NoError(t, err)
			}
		})
	}
}

// A key that fails for good, by error or by crash, must not cost the other keys
// their token.
func TestOneSickKeyDoesNotTakeTheOthersAlong(t *testing.T) {
	for _, fault := range []string{"C_Encrypt return 0x30", "C_Encrypt crash"} {
		t.Run(fault, func(t *testing.T) {
			token := faults(t)
			const pause = 500 * time.Millisecond
			s := token.Open(t, func(o *keystore.Options) { o.BackoffMin, o.BackoffMax = pause, pause })
			c := enlist(t, s)
			token.order(t, "always "+fault)
			began, spared := time.Now(), 0
			for range 10 {
				require.Error(t, c.work(t.Context(), 2))
				before := token.strikes(t, "C_Encrypt")
				require.Error(t, c.work(t.Context(), 2))
				if token.strikes(t, "C_Encrypt") == before {
					spared++
				}
				require.NoError(t, c.work(t.Context(), 0))
				require.NoError(t, c.work(t.Context(), 1))
			}
			// Each call that is let through tries twice; the first two may follow each other.
			require.Positive(t, spared, "the sick key has a pause of its own")
			require.LessOrEqual(t, token.strikes(t, "C_Encrypt"), 2*(2+int(time.Since(began)/pause)))
			token.order(t, "")
			require.Eventually(t, func() bool { return c.work(t.Context(), 2) == nil }, patience, 10*time.Millisecond)
		})
	}
}

func TestLoginFaults(t *testing.T) {
	for _, c := range []struct {
		name, fault string
		first       error
		logins      int // after five starts of the program
		state       string
	}{
		{"wrong", "C_Login return 0xA0", keystore.ErrPINWrong, 1, "wrong"},
		{"locked", "C_Login return 0xA4", keystore.ErrPINLocked, 1, "locked"},
		{"length", "C_Login return 0xA2", keystore.ErrPINWrong, 1, "wrong"},
		// An answer that has nothing to do with the PIN is no try of it.
		{"device", "C_Login return 0x30", keystore.ErrDevice, 5, ""},
		{"never set", "C_Login return 0x102", keystore.ErrPINUnusable, 5, ""},
		// No answer: it may have been a try, so it is not made a third time.
		{"crash", "C_Login crash", keystore.ErrWorkerLost, 2, "trying"},
		{"hang", "C_Login hang", keystore.ErrTimeout, 2, "trying"},
		{"flag: final try", "C_GetTokenInfo flags 0x20000", keystore.ErrPINLocked, 0, ""},
		{"flag: locked", "C_GetTokenInfo flags 0x40000", keystore.ErrPINLocked, 0, ""},
		{"flag: to be changed", "C_GetTokenInfo flags 0x80000", keystore.ErrPINUnusable, 0, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			token := faults(t)
			token.order(t, "always "+c.fault)
			for start := range 5 {
				o := token.Options()
				unhurried(&o)
				trusting(&o)
				if c.name == "hang" {
					o.StartDeadline = short
				}
				s, err := keystore.Open(o)
				require.NoError(t, err)
				err = s.Ready(t.Context())
				require.Error(t, err)
				if start == 0 {
					require.ErrorIs(t, err, c.first)
				}
				require.NoError(t, s.Close())
			}
			if c.name == "hang" { // a busy worker may be killed before it comes to the login
				require.Positive(t, token.strikes(t, "C_Login"))
				require.LessOrEqual(t, token.strikes(t, "C_Login"), c.logins)
			} else {
				require.Equal(t, c.logins, token.strikes(t, "C_Login"))
			}
			b, err := os.ReadFile(token.Options().LatchPath)
			if c.state == "" {
				require.ErrorIs(t, err, os.ErrNotExist)
				return
			}
			require.NoError(t, err)
			var record struct{ State string }
			require.NoError(t, json.Unmarshal(b, &record))
			require.Equal(t, c.state, record.State)
		})
	}
}

func TestLoginThatProvesNothingIsNotRecordedAsGood(t *testing.T) {
	token := faults(t)
	token.order(t, "always C_Login return 0x100") // USER_ALREADY_LOGGED_IN comes to a wrong PIN too
	s := token.Open(t)
	require.NoError(t, s.Ready(t.Context()))
	_, err := os.Stat(token.Options().LatchPath)
	require.ErrorIs(t, err, os.ErrNotExist)
}

// A driver with its debugging switched on writes down what it is given.
func TestWhatADriverSaysReachesTheLogWithoutThePIN(t *testing.T) {
	token := faults(t)
	out := &lockedBuffer{}
	s := token.Open(t, func(o *keystore.Options) { o.Log = slog.New(slog.NewJSONHandler(out, nil)) })
	token.order(t, "once C_Login say")
	require.NoError(t, s.Ready(t.Context()))
	require.Eventually(t, func() bool { return strings.Contains(out.String(), "withheld") }, patience, 10*time.Millisecond)
	require.NotContains(t, out.String(), token.PIN)
	// Any other line is there as it is: C_GetAttributeValue's arguments say nothing.
	_ = s.Health(t.Context())
	signal(t, s, syscall.SIGKILL)
	token.order(t, "once C_OpenSession say")
	require.Eventually(t, func() bool { return s.Ready(t.Context()) == nil && strings.Contains(out.String(), "driver debug") }, patience, 10*time.Millisecond)
}
