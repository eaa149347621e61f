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
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gardu/internal/keystore"
	"gardu/internal/keystore/protocol"
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
	return f.Token.Open(t, append([]func(*keystore.Options){hurried, trusting, f.whole(t)}, change...)...)
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

// Under eight callers, 200 faults of random kinds in random functions: every call
// ends with the right result or a typed error, and the token is used again after
// each.
func TestTwoHundredRandomFaultsUnderEightCallers(t *testing.T) {
	const faultCount = 200
	token := faults(t)
	unit := pace(t, token)
	s := token.Open(t, func(o *keystore.Options) {
		o.Deadline, o.StartDeadline = unit, unit
		o.BackoffMin, o.BackoffMax = 5*time.Millisecond, 20*time.Millisecond
	})
	c := enlist(t, s)
	seed := rand.Uint64()
	t.Logf("seed %#x", seed)
	random := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // repeatable on purpose

	functions := []string{
		"C_Sign", "C_SignInit", "C_Encrypt", "C_EncryptInit", "C_Decrypt", "C_DecryptInit", "C_OpenSession",
		"C_FindObjectsInit", "C_FindObjects", "C_FindObjectsFinal", "C_GetAttributeValue", "C_Login", "C_Initialize",
		"C_GetSlotList", "C_GetTokenInfo", "C_CloseSession",
	}
	actions := []string{
		"return 0x30", "return 0x05", "return 0x06", "return 0x31", "return 0x32", "return 0x02", // device
		"return 0xE0", "return 0xE1", "return 0x80000123", // gone, vendor's own
		"return 0xB0", "return 0xB3", "return 0x82", "return 0x60", "return 0x101", "return 0x90", "return 0x91", "return 0x190", // session
		"return 0x200", "crash", "exit",
	}
	before := footprint(t)
	stop := make(chan struct{})
	var good, failed, longest atomic.Int64
	var callers sync.WaitGroup
	for i := range 8 {
		callers.Go(func() {
			for n := i; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				began := time.Now()
				err := c.work(t.Context(), n)
				if took := int64(time.Since(began)); took > longest.Load() {
					longest.Store(took)
				}
				switch {
				case err == nil:
					good.Add(1)
				case errors.Is(err, errWrong), keystore.ClassOf(err) == keystore.ClassNone:
					t.Error(err)
					return
				default:
					failed.Add(1)
					time.Sleep(time.Millisecond)
				}
			}
		})
	}
	ofWorker := map[string]syscall.Signal{"SIGKILL": syscall.SIGKILL, "SIGSTOP": syscall.SIGSTOP}
	hangs, stops := 0, 0
	struck := make(map[string]int)
	for range faultCount {
		kind, fault := "answer", functions[random.IntN(len(functions))]+" "+actions[random.IntN(len(actions))]
		switch roll := random.IntN(40); {
		case roll < 4:
			kind, fault = "SIGKILL", ""
		case roll == 4 && stops < 4: // each takes a whole deadline
			stops++
			kind, fault = "SIGSTOP", ""
		case roll == 5 && hangs < 4: // likewise
			hangs++
			kind, fault = "hang", []string{"C_Sign", "C_Decrypt", "C_FindObjects", "C_Login"}[hangs-1]+" hang"
		case roll < 9:
			kind, fault = "garbage frame", fmt.Sprintf("%s garbage %d", functions[random.IntN(len(functions))], 3+random.IntN(1+protocol.MaxLanes))
		case roll < 12:
			kind, fault = "wrong signature", "C_Sign flip 256" // with CKR_OK
		case strings.Contains(fault, "crash"), strings.Contains(fault, "exit"):
			kind = "module crash"
		}
		struck[kind]++
		if sig, ok := ofWorker[kind]; ok {
			pid := signal(t, s, sig)
			require.Eventually(t, func() bool { return keystore.WorkerPID(s) != pid }, patience+unit, time.Millisecond)
			continue
		}
		token.order(t, "once "+fault)
		for wait := 0; token.pending(); wait++ {
			if wait%10 == 9 { // much is only called by a new worker
				signal(t, s, syscall.SIGKILL)
			}
			time.Sleep(2 * time.Millisecond)
		}
	}
	token.order(t, "")
	close(stop)
	callers.Wait()
	t.Logf("%d right, %d typed errors, the longest call %v, faults %v", good.Load(), failed.Load(), time.Duration(longest.Load()).Round(time.Millisecond), struck)
	// All were taken; a worker may have been killed while it took one.
	ordered := faultCount - struck["SIGKILL"] - struck["SIGSTOP"]
	require.Greater(t, token.strikes(t, ""), ordered*9/10)
	require.Positive(t, good.Load())
	// Twice a start, which is three deadlines, and an operation; and what a machine
	// with other work takes.
	require.Less(t, time.Duration(longest.Load()), 2*4*unit+patience)
	require.Eventually(t, func() bool { return s.Health(t.Context()) == nil }, patience, 10*time.Millisecond)
	for n := range 40 {
		require.NoError(t, c.work(t.Context(), n))
	}
	before.unchanged(t)
}

// pace is a deadline that a worker which does nothing wrong keeps on this machine as
// busy as it is: ten times its slowest start of several, and not less than a second.
// A deadline that only an idle machine keeps would make faults of its own.
func pace(t *testing.T, token *faulty) time.Duration {
	t.Helper()
	s := token.Open(t, func(o *keystore.Options) { o.Deadline, o.StartDeadline = patience, patience })
	mac := knownMAC(t, s, "pace")
	slowest := 100 * time.Millisecond
	for n := range uint64(8) {
		signal(t, s, syscall.SIGKILL)
		began := time.Now()
		for worked := false; !worked; {
			var wrong error
			worked, wrong = mac.try(t.Context(), n)
			require.NoError(t, wrong)
			require.Less(t, time.Since(began), 2*patience)
		}
		slowest = max(slowest, time.Since(began))
	}
	require.NoError(t, s.Close())
	t.Logf("the slowest of eight starts took %v", slowest.Round(time.Millisecond))
	return 10 * slowest
}

// mark is what this process holds.
type mark struct {
	descriptors, children, goroutines int
	heap, memory                      int // MiB: in use by Go; that no file stands behind
}

func footprint(t *testing.T) *mark {
	t.Helper()
	debug.FreeOSMemory()
	var m mark
	fds, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	m.descriptors = len(fds)
	tasks, err := filepath.Glob("/proc/self/task/*/children")
	require.NoError(t, err)
	for _, name := range tasks {
		b, _ := os.ReadFile(name) // a thread may have ended
		m.children += len(strings.Fields(string(b)))
	}
	m.goroutines = runtime.NumGoroutine()
	status, err := os.ReadFile("/proc/self/status")
	require.NoError(t, err)
	_, rest, ok := strings.Cut(string(status), "RssAnon:")
	require.True(t, ok)
	_, err = fmt.Sscan(rest, &m.memory)
	require.NoError(t, err)
	m.memory >>= 10
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	m.heap = int(mem.HeapAlloc >> 20) //nolint:gosec // MiB
	return &m
}

// unchanged waits until this process holds no more than it did.
func (m *mark) unchanged(t *testing.T) {
	t.Helper()
	const heapRoom, room = 4, 160 // the race detector's shadow grows with what was ever touched
	var now *mark
	ok := func() bool {
		now = footprint(t)
		return now.descriptors <= m.descriptors && now.children <= m.children && now.goroutines <= m.goroutines && now.heap <= m.heap+heapRoom && now.memory <= m.memory+room
	}
	for end := time.Now().Add(patience); !ok() && time.Now().Before(end); {
		time.Sleep(50 * time.Millisecond)
	}
	t.Logf("held before %+v, now %+v", *m, *now)
	require.True(t, ok(), "before %+v, now %+v", *m, *now)
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
			s := token.Open(t, func(o *keystore.Options) { o.BackoffMin = 100 * time.Millisecond })
			c := enlist(t, s)
			token.order(t, "always "+fault)
			for range 10 {
				require.Error(t, c.work(t.Context(), 2))
				require.NoError(t, c.work(t.Context(), 0))
				require.NoError(t, c.work(t.Context(), 1))
			}
			require.Less(t, token.strikes(t, "C_Encrypt"), 20, "the sick key has a pause of its own")
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
				hurried(&o)
				trusting(&o)
				if c.name == "hang" {
					o.StartDeadline = time.Second
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
			require.Equal(t, c.logins, token.strikes(t, "C_Login"))
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
