package keystore_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha512"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gardu/internal/keystore"
	"gardu/internal/keystore/softhsmtest"
	"gardu/internal/secret"
)

// patience is how long something may take that happens at once on an idle machine.
const patience = time.Minute

// short is a deadline of what is to fail by it.
const short = 1500 * time.Millisecond

// unhurried lets nothing fail by a deadline, however busy the machine is, and makes
// other failures show within a test's patience.
func unhurried(o *keystore.Options) {
	o.Deadline, o.StartDeadline = patience, patience
	o.BackoffMin, o.BackoffMax = 20*time.Millisecond, 100*time.Millisecond
}

// known is an HMAC key whose value the test has too.
type known struct {
	mac   *keystore.MAC
	value []byte
}

func knownMAC(t testing.TB, s *keystore.Store, label string) *known {
	t.Helper()
	k := &known{value: []byte(strings.Repeat("known "+label, 9))}
	info, err := s.Import(t.Context(), keystore.NewKey{Label: label, Kind: keystore.KindHMAC}, secret.Clone(k.value))
	require.NoError(t, err)
	k.mac, err = s.MAC(info.URI())
	require.NoError(t, err)
	return k
}

// try makes one call and says what is wrong with its end, if anything: a right
// result and a typed error are both fine.
func (k *known) try(ctx context.Context, n uint64) (worked bool, wrong error) {
	message := binary.BigEndian.AppendUint64(nil, n)
	sum, err := k.mac.Sum(ctx, message)
	if err != nil {
		if keystore.ClassOf(err) == keystore.ClassNone {
			return false, fmt.Errorf("untyped error: %w", err)
		}
		return false, nil
	}
	h := hmac.New(sha512.New, k.value)
	h.Write(message)
	if !hmac.Equal(sum, h.Sum(nil)) {
		return false, fmt.Errorf("wrong MAC of %d", n)
	}
	return true, nil
}

// underLoad runs harm while callers work, and then checks that the token works
// again. It returns how many calls worked and failed. harm is given a function that
// waits until more calls have worked.
func underLoad(t *testing.T, s *keystore.Store, harm func(work func())) (worked, failed int64) {
	t.Helper()
	k := knownMAC(t, s, "load")
	var good, bad atomic.Int64
	var wrong sync.Map
	stop := make(chan struct{})
	var callers sync.WaitGroup
	for c := range 8 {
		callers.Go(func() {
			for n := uint64(c) << 32; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				ok, err := k.try(t.Context(), n)
				switch {
				case err != nil:
					wrong.Store(err.Error(), true)
				case ok:
					good.Add(1)
				default:
					bad.Add(1)
				}
			}
		})
	}
	harm(func() {
		enough := good.Load() + 20
		require.Eventually(t, func() bool { return good.Load() >= enough }, 2*patience, time.Millisecond)
	})
	close(stop)
	callers.Wait()
	wrong.Range(func(text, _ any) bool { t.Error(text); return true })
	require.Eventually(t, func() bool {
		ok, err := k.try(t.Context(), 0)
		return ok && err == nil
	}, patience, 20*time.Millisecond, "the token is used again")
	return good.Load(), bad.Load()
}

// signal sends sig to the worker, once there is one.
func signal(t *testing.T, s *keystore.Store, sig syscall.Signal) int {
	t.Helper()
	pid := 0
	require.Eventually(t, func() bool { pid = keystore.WorkerPID(s); return pid != 0 }, patience, time.Millisecond)
	// It may have ended between the two lines.
	_ = syscall.Kill(pid, sig)
	if sig == syscall.SIGSTOP { // one thread takes the signal and stops the others in its own time
		require.Eventually(t, func() bool { return stopped(pid) }, patience, time.Millisecond)
	}
	return pid
}

// stopped says whether no thread of the process runs.
func stopped(pid int) bool {
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	for _, thread := range threads {
		b, err := os.ReadFile(thread)
		if err != nil {
			continue // it ended
		}
		if _, state, ok := strings.Cut(string(b), ") "); ok && state[0] != 'T' {
			return false
		}
	}
	return true
}

func TestKilledWorkersAreReplacedUnderLoad(t *testing.T) {
	s := softhsmtest.New(t).Open(t, unhurried)
	worked, failed := underLoad(t, s, func(work func()) {
		for range 8 {
			signal(t, s, syscall.SIGKILL)
			work()
		}
	})
	require.GreaterOrEqual(t, worked, int64(8*20))
	require.Less(t, failed, worked/10, "a killed worker costs no caller anything as long as the next one starts")
}

func TestStoppedWorkersAreKilledAndReplaced(t *testing.T) {
	t.Parallel()
	s := softhsmtest.New(t).Open(t, unhurried, func(o *keystore.Options) { o.Deadline = 3 * time.Second })
	var pids []int
	worked, failed := underLoad(t, s, func(work func()) {
		for range 2 {
			work()
			pid := signal(t, s, syscall.SIGSTOP)
			require.Eventually(t, func() bool { return keystore.WorkerPID(s) != pid }, patience, time.Millisecond)
			pids = append(pids, pid)
			work()
		}
	})
	require.Positive(t, worked)
	require.Positive(t, failed, "what the stopped worker had been asked fails with a typed error")
	require.LessOrEqual(t, failed, int64(2*8))
	for _, pid := range pids {
		require.ErrorIs(t, syscall.Kill(pid, 0), syscall.ESRCH, "a stopped worker is killed")
	}
}

func TestStoppedWorkerGivesErrTimeoutWithinTheDeadline(t *testing.T) {
	t.Parallel()
	s := softhsmtest.New(t).Open(t, unhurried)
	k := knownMAC(t, s, "k")
	_, err := k.mac.Sum(t.Context(), []byte("m"))
	require.NoError(t, err)
	signal(t, s, syscall.SIGSTOP)
	keystore.SetDeadlines(s, short)
	began := time.Now()
	_, err = k.mac.Sum(t.Context(), []byte("m"))
	require.ErrorIs(t, err, keystore.ErrTimeout)
	require.Equal(t, keystore.ClassDevice, keystore.ClassOf(err))
	require.Less(t, time.Since(began), patience)
	keystore.SetDeadlines(s, patience)
	_, err = k.mac.Sum(t.Context(), []byte("m"))
	require.NoError(t, err, "the next call has a new worker at once")
}

func TestImpatientCallerDoesNotEndTheWorker(t *testing.T) {
	s := softhsmtest.New(t).Open(t, unhurried)
	k := knownMAC(t, s, "k")
	pid := signal(t, s, syscall.SIGSTOP)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := k.mac.Sum(ctx, []byte("m"))
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.NoError(t, syscall.Kill(pid, syscall.SIGCONT))
	ok, wrong := k.try(t.Context(), 1)
	require.NoError(t, wrong)
	require.True(t, ok)
	require.Equal(t, pid, keystore.WorkerPID(s))
}

func TestTokenThatGoesAndComesBackIsUsedAgain(t *testing.T) {
	token := softhsmtest.New(t)
	s := token.Open(t, unhurried)
	k := knownMAC(t, s, "k")
	ok, err := k.try(t.Context(), 1)
	require.NoError(t, err)
	require.True(t, ok)

	tokens, away := filepath.Join(token.Dir, "tokens"), filepath.Join(token.Dir, "away")
	for round := range 3 {
		require.NoError(t, os.Rename(tokens, away))
		if round == 1 {
			require.NoError(t, os.Mkdir(tokens, 0o700), "an empty folder, as an unmounted disk leaves it")
		}
		// SoftHSM goes on with what it has in memory; Health looks again.
		err := s.Health(t.Context())
		require.Equal(t, keystore.ClassDevice, keystore.ClassOf(err), err)
		_, err = k.mac.Sum(t.Context(), []byte("m"))
		require.Equal(t, keystore.ClassDevice, keystore.ClassOf(err), err)
		if round == 1 {
			require.NoError(t, os.Remove(tokens))
		}
		require.NoError(t, os.Rename(away, tokens))
		require.Eventually(t, func() bool {
			ok, err := k.try(t.Context(), 2)
			return ok && err == nil
		}, patience, 20*time.Millisecond)
	}
	require.NoError(t, s.Health(t.Context()))
}

func TestAbsentTokenIsAnsweredAtOnceWhileItIsAway(t *testing.T) {
	t.Parallel()
	token := softhsmtest.New(t)
	tokens, away := filepath.Join(token.Dir, "tokens"), filepath.Join(token.Dir, "away")
	require.NoError(t, os.Rename(tokens, away))
	require.NoError(t, os.Mkdir(tokens, 0o700))
	const pause = 2 * time.Second
	var starts atomic.Int64
	s := token.Open(t, func(o *keystore.Options) {
		o.BackoffMin, o.BackoffMax = pause, pause
		o.Launcher = func() (*exec.Cmd, error) {
			starts.Add(1)
			return exec.Command("/proc/self/exe", keystore.WorkerArgument), nil //nolint:noctx // it outlives the call
		}
	})
	began := time.Now()
	require.ErrorIs(t, s.Ready(t.Context()), keystore.ErrTokenAbsent)
	for range 1000 {
		require.ErrorIs(t, s.Ready(t.Context()), keystore.ErrTokenAbsent)
	}
	require.LessOrEqual(t, starts.Load(), 1+int64(time.Since(began)/pause), "it is not looked for in the pause")
	require.NoError(t, os.Remove(tokens))
	require.NoError(t, os.Rename(away, tokens))
	require.Eventually(t, func() bool { return s.Ready(t.Context()) == nil }, patience, 50*time.Millisecond)
}

func TestKeyMadeElsewhereIsFoundWithoutARestart(t *testing.T) {
	token := softhsmtest.New(t)
	s := token.Open(t, unhurried)
	m, err := s.MAC("pkcs11:object=late")
	require.NoError(t, err)
	_, err = m.Sum(t.Context(), nil)
	require.ErrorIs(t, err, keystore.ErrKeyNotFound)
	other := token.Open(t)
	generate(t, other, keystore.KindHMAC, "late")
	_, err = m.Sum(t.Context(), nil)
	require.NoError(t, err)
}

func TestExchangedKeyIsRefused(t *testing.T) {
	token := softhsmtest.New(t)
	s, other := token.Open(t, unhurried), token.Open(t)
	uri := generate(t, other, keystore.KindRSA2048, "snap-sign")
	g, err := s.Signer("pkcs11:object=snap-sign")
	require.NoError(t, err)
	_, err = g.SignSHA256(t.Context(), []byte("m"))
	require.NoError(t, err)
	require.NoError(t, other.Destroy(t.Context(), uri))
	generate(t, other, keystore.KindRSA2048, "snap-sign")
	require.ErrorIs(t, s.Health(t.Context()), keystore.ErrKeyChanged)
	_, err = g.SignSHA256(t.Context(), []byte("m"))
	require.ErrorIs(t, err, keystore.ErrKeyChanged)
}

// misbehave is the worker that the tests below start in place of the real one.
const misbehaveArgument = "misbehaving-worker"

// misbehave answers the greeting of the first start with what the environment
// says; later starts find the file gone and cannot be reached here, because the
// Launcher starts the real worker then.
func misbehave() int {
	switch os.Getenv("MISBEHAVE") {
	case "exit":
		return 3
	case "silence":
		time.Sleep(time.Hour)
	case "huge":
		_, _ = syscall.Write(3, []byte{0xff, 0xff, 0xff, 0xff})
	case "noise":
		_, _ = syscall.Write(3, []byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
	case "stranger": // an answer to a request that nobody made
		_, _ = syscall.Write(3, []byte{0, 0, 0, 5, 0, 0, 0x30, 0x39, 0})
	case "status":
		_, _ = syscall.Write(3, []byte{0, 0, 0, 5, 0, 0, 0, 1, 7})
	case "empty": // a greeting's answer without a token in it
		_, _ = syscall.Write(3, []byte{0, 0, 0, 5, 0, 0, 0, 1, 0})
	case "failure": // a failure without a reason
		_, _ = syscall.Write(3, []byte{0, 0, 0, 5, 0, 0, 0, 1, 1})
	case "half":
		_, _ = syscall.Write(3, []byte{0, 0, 1, 0, 0, 0})
	}
	buf := make([]byte, 4096)
	for {
		if n, err := syscall.Read(3, buf); n <= 0 || err != nil {
			return 0
		}
	}
}

func TestWorkerThatSpeaksSomethingElseIsReplaced(t *testing.T) {
	for _, how := range []string{"exit", "silence", "huge", "noise", "stranger", "status", "empty", "failure", "half"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			token := softhsmtest.New(t)
			var starts atomic.Int32
			s := token.Open(t, unhurried, func(o *keystore.Options) {
				if how == "silence" || how == "half" {
					o.StartDeadline = short
				}
				o.Env = append(o.Env, "MISBEHAVE="+how)
				o.Launcher = func() (*exec.Cmd, error) {
					if starts.Add(1) == 1 {
						return exec.Command("/proc/self/exe", misbehaveArgument), nil
					}
					return exec.Command("/proc/self/exe", "token-worker"), nil
				}
			})
			err := s.Ready(t.Context())
			require.Error(t, err)
			require.NotEqual(t, keystore.ClassNone, keystore.ClassOf(err), err)
			keystore.SetDeadlines(s, patience)
			require.Eventually(t, func() bool { return s.Ready(t.Context()) == nil }, patience, 20*time.Millisecond)
			require.EqualValues(t, 2, starts.Load())
		})
	}
}

func TestWorkerCannotBeInspectedAndDiesWithTheAgent(t *testing.T) {
	s := softhsmtest.New(t).Open(t)
	require.NoError(t, s.Ready(t.Context()))
	pid := keystore.WorkerPID(s)
	comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	require.NoError(t, err)
	require.Equal(t, "gardu-token\n", string(comm))
	limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", pid))
	require.NoError(t, err)
	require.Regexp(t, `Max core file size +0 +0`, string(limits))
	env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	require.NoError(t, err)
	require.Contains(t, string(env), "SOFTHSM2_CONF=")
	require.NotContains(t, string(env), "PATH=")
	// A terminal's Ctrl-C and systemd's stop reach the whole group; the worker
	// ends by its parent's word alone.
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		require.NoError(t, syscall.Kill(pid, sig))
	}
	require.NoError(t, s.Ready(t.Context()))
	require.Equal(t, pid, keystore.WorkerPID(s))
	require.NoError(t, s.Close())
	require.ErrorIs(t, syscall.Kill(pid, 0), syscall.ESRCH)
}
