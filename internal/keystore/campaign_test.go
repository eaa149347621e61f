package keystore_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
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
)

// Under eight callers, 200 faults of random kinds in random functions: every call
// ends with the right result or a typed error, and the token is used again after
// each.
func TestTwoHundredRandomFaultsUnderEightCallers(t *testing.T) {
	const faultCount = 200
	token := faults(t)
	unit := pace(t, token)
	s := token.Open(t, func(o *keystore.Options) {
		o.BackoffMin, o.BackoffMax = 5*time.Millisecond, 20*time.Millisecond
	})
	c := enlist(t, s)
	keystore.SetDeadlines(s, unit)
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
					time.Sleep(10 * time.Millisecond) // the next worker needs the processors too
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
	keystore.SetDeadlines(s, patience)
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
	const heapRoom, room = 4, 512 // the race detector's shadow grows with what was ever touched, and on a slow machine that is more
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
