package keystore_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gardu/internal/keystore"
	"gardu/internal/keystore/protocol"
)

// slowly opens a token whose MACs take 5 ms, and makes two, so that the next ones
// take lanes.
func slowly(t *testing.T, change ...func(*keystore.Options)) (*faulty, *keystore.Store, *known) {
	t.Helper()
	token := faults(t)
	s := token.Open(t, change...)
	k := knownMAC(t, s, "slow")
	token.order(t, "always C_Sign sleep 5")
	k.right(t, 0)
	k.right(t, 1)
	return token, s, k
}

// held has every MAC from here on wait until something else is ordered. It returns what
// waits until n of them do.
func (f *faulty) held(t *testing.T) (wait func(n int)) {
	t.Helper()
	before := f.strikes(t, "C_Sign")
	f.order(t, "always C_Sign hold")
	return func(n int) {
		t.Helper()
		require.Eventually(t, func() bool { return f.strikes(t, "C_Sign")-before == n }, patience, time.Millisecond)
	}
}

// right makes a MAC, which must be right.
func (k *known) right(t *testing.T, n uint64) {
	t.Helper()
	worked, wrong := k.try(t.Context(), n)
	require.NoError(t, wrong)
	require.True(t, worked)
}

// taken waits until n lanes are in use.
func taken(t *testing.T, s *keystore.Store, n int) {
	t.Helper()
	require.Eventually(t, func() bool { all, free := keystore.Lanes(s); return all > 0 && all-free == n }, patience, time.Millisecond)
}

func TestSlowOperationsTakeLanesAndMoreOfThemTheCommonSocket(t *testing.T) {
	token, s, k := slowly(t, func(o *keystore.Options) { o.Sessions = 6 })
	all, free := keystore.Lanes(s)
	require.Equal(t, protocol.MaxLanes, all)
	require.Equal(t, all, free)
	var callers sync.WaitGroup
	sideBySide := token.held(t)
	for n := range all + 2 { // as many as the token has sessions
		callers.Go(func() { k.right(t, uint64(n)) }) //nolint:gosec // few
	}
	sideBySide(all + 2)
	taken(t, s, all)
	token.order(t, "")
	callers.Wait()
	taken(t, s, 0)
}

func TestQuickOperationsLeaveTheLanesAlone(t *testing.T) {
	token, s, k := slowly(t)
	token.order(t, "")
	require.Eventually(t, func() bool { // once a quick one was seen, on a lane
		k.right(t, 1)
		return !keystore.Slow(s, protocol.OpMAC)
	}, patience, time.Millisecond)
	all, free := keystore.Lanes(s)
	require.Equal(t, all, free)
}

func TestNoMoreLanesThanSessions(t *testing.T) {
	_, s, _ := slowly(t, func(o *keystore.Options) { o.Sessions = 1 })
	all, _ := keystore.Lanes(s)
	require.Equal(t, 1, all)
}

func TestCallerLeavesItsLane(t *testing.T) {
	token, s, k := slowly(t)
	inside := token.held(t)
	pid := keystore.WorkerPID(s)
	for n := range 3 * protocol.MaxLanes { // also more than there are
		ctx, leave := context.WithCancel(t.Context())
		left := make(chan error, 1)
		go func() {
			_, err := k.mac.Sum(ctx, []byte{byte(n)})
			left <- err
		}()
		inside(min(n+1, protocol.MaxLanes))
		if n >= protocol.MaxLanes { // one that waits for a session says nothing
			time.Sleep(5 * time.Millisecond)
		}
		leave()
		require.ErrorIs(t, <-left, context.Canceled, "it waits for nobody")
	}
	taken(t, s, protocol.MaxLanes)
	token.order(t, "")
	for n := range uint64(10) { // whoever comes now gets its own answer
		k.right(t, n)
	}
	taken(t, s, 0)
	require.Equal(t, pid, keystore.WorkerPID(s))
}

// A worker that is told to end answers first what is under way on lanes.
func TestClosingWaitsForTheLanes(t *testing.T) {
	token, s, k := slowly(t, func(o *keystore.Options) { keystore.SetFarewell(o, patience) })
	var callers sync.WaitGroup
	inside := token.held(t)
	for n := range 2 {
		callers.Go(func() { k.right(t, uint64(n)) }) //nolint:gosec // few
	}
	inside(2)
	taken(t, s, 2)
	before := keystore.WorkerPID(s)
	closed := make(chan error, 1)
	go func() { closed <- s.Close() }()
	require.Eventually(t, func() bool { return keystore.WorkerPID(s) == 0 }, patience, time.Millisecond)
	select {
	case <-closed:
		t.Fatal("it waits for nobody")
	case <-time.After(50 * time.Millisecond):
	}
	token.order(t, "")
	callers.Wait()
	require.NoError(t, <-closed)
	require.ErrorIs(t, syscall.Kill(before, 0), syscall.ESRCH)
}

// What goes wrong on a lane costs the worker and no caller a wrong answer.
func TestFaultsOnLanes(t *testing.T) {
	for name, c := range map[string]struct {
		order string // of the signature that goes wrong; else it is held
		sig   syscall.Signal
		then  string // what follows: its deadline soon passes, or, once it struck, its caller leaves or is answered and then the deadline passes
		first error  // of its caller; nil for a right answer all the same
	}{
		"killed":                 {sig: syscall.SIGKILL},
		"stopped":                {sig: syscall.SIGSTOP, then: "deadline", first: keystore.ErrTimeout},
		"deadline":               {order: "hang", then: "deadline soon", first: keystore.ErrTimeout},
		"deadline after leaving": {order: "hang", then: "leave, deadline", first: context.Canceled},
		"crash":                  {order: "crash"},
		"exit":                   {order: "exit"},
		"garbage on the lane":    {order: "garbage 7"}, // the last of four, which is taken first
		"garbage beside it":      {order: "garbage 3", then: "answer, deadline"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			token, s, k := slowly(t)
			pid := keystore.WorkerPID(s)
			if c.then == "deadline soon" {
				keystore.SetDeadlines(s, short)
			}
			ctx, leave := context.WithCancel(t.Context())
			defer leave()
			if c.order != "" {
				token.order(t, "once C_Sign "+c.order)
			} else {
				token.held(t)
			}
			var callers sync.WaitGroup
			callers.Go(func() {
				sum, err := k.mac.Sum(ctx, []byte("m"))
				if c.first != nil {
					require.ErrorIs(t, err, c.first)
					return
				}
				require.NoError(t, err)
				require.Len(t, sum, 64)
			})
			if c.sig != 0 {
				taken(t, s, 1)
				require.Equal(t, pid, signal(t, s, c.sig))
			}
			switch c.then {
			case "deadline":
				keystore.Expire(s)
			case "leave, deadline":
				require.Eventually(t, func() bool { return !token.pending() }, patience, time.Millisecond)
				leave()
				callers.Wait()
				keystore.Expire(s)
			case "answer, deadline": // only now somebody looks at what nobody waits for
				callers.Wait()
				keystore.Expire(s)
			}
			require.Eventually(t, func() bool { now := keystore.WorkerPID(s); return now != pid }, patience, time.Millisecond)
			token.order(t, "")
			callers.Wait()
			keystore.SetDeadlines(s, patience)
			require.Eventually(t, func() bool { worked, wrong := k.try(t.Context(), 1); return worked && wrong == nil }, patience, 10*time.Millisecond)
			taken(t, s, 0)
		})
	}
}

// Six callers on slow keys, some of which leave at any time, while the worker is
// killed, stopped and spoken for: every answer is right or typed, and nothing of
// the workers that are gone is kept.
func TestRandomFaultsOnLanes(t *testing.T) {
	token := faults(t)
	unit := pace(t, token)
	s := token.Open(t, func(o *keystore.Options) {
		o.BackoffMin, o.BackoffMax = 5*time.Millisecond, 20*time.Millisecond
	})
	k := knownMAC(t, s, "slow")
	const slow = "always C_Sign sleep 3"
	token.order(t, slow)
	k.right(t, 0)
	k.right(t, 1)
	keystore.SetDeadlines(s, unit)
	before := footprint(t)
	seed := rand.Uint64()
	t.Logf("seed %#x", seed)
	random := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // repeatable on purpose
	stop := make(chan struct{})
	var good, failed, left atomic.Int64
	var callers sync.WaitGroup
	for i := range 6 {
		callers.Go(func() {
			for n := uint64(i) << 32; ; n++ { //nolint:gosec // few
				select {
				case <-stop:
					return
				default:
				}
				if n%5 == 4 {
					ctx, cancel := context.WithTimeout(t.Context(), time.Duration(n%4)*time.Millisecond)
					_, err := k.mac.Sum(ctx, []byte("whoever left"))
					cancel()
					if errors.Is(err, context.DeadlineExceeded) {
						left.Add(1)
					} else if err != nil && keystore.ClassOf(err) == keystore.ClassNone {
						t.Error(err)
					}
					continue
				}
				worked, wrong := k.try(t.Context(), n)
				switch {
				case wrong != nil:
					t.Error(wrong)
					return
				case worked:
					good.Add(1)
				default:
					failed.Add(1)
					time.Sleep(time.Millisecond)
				}
			}
		})
	}
	for n := range 60 {
		want := good.Load() + int64(random.IntN(20))
		require.Eventually(t, func() bool { return good.Load() > want }, patience, time.Millisecond)
		order := func(fault string) {
			token.order(t, "once C_Sign "+fault)
			require.Eventually(t, func() bool { return !token.pending() }, patience+unit, time.Millisecond)
			token.order(t, slow)
		}
		switch {
		case n == 20: // it takes a whole deadline
			pid := signal(t, s, syscall.SIGSTOP)
			require.Eventually(t, func() bool { return keystore.WorkerPID(s) != pid }, patience+unit, time.Millisecond)
		case n == 40: // likewise
			order("hang")
		case n%4 == 0:
			signal(t, s, syscall.SIGKILL)
		case n%4 == 1:
			order("crash")
		case n%4 == 2:
			order(fmt.Sprint("garbage ", 3+random.IntN(1+protocol.MaxLanes)))
		default:
			order("return 0x30")
		}
	}
	close(stop)
	callers.Wait()
	t.Logf("%d right, %d typed errors, %d left", good.Load(), failed.Load(), left.Load())
	require.Positive(t, left.Load())
	token.order(t, "")
	require.Eventually(t, func() bool { return s.Health(t.Context()) == nil }, patience, 10*time.Millisecond)
	taken(t, s, 0)
	before.unchanged(t)
}

// A start that is overtaken by its own limit is the token's fault, not its caller's.
func TestStartThatTakesTooLongIsTyped(t *testing.T) {
	token := faults(t)
	s := token.Open(t, func(o *keystore.Options) {
		o.StartDeadline = 10 * time.Millisecond
		o.Launcher = func() (*exec.Cmd, error) {
			time.Sleep(100 * time.Millisecond)
			return exec.Command("/proc/self/exe", keystore.WorkerArgument), nil //nolint:noctx // it outlives the call
		}
	})
	err := s.Ready(t.Context())
	require.ErrorIs(t, err, keystore.ErrTimeout)
	require.NotEqual(t, keystore.ClassNone, keystore.ClassOf(err))
}
