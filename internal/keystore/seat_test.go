package keystore_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"gardu/internal/keystore"
	"gardu/internal/keystore/softhsmtest"
)

// seats are the processors on which each of the worker's threads may run, as the
// kernel writes them.
func seats(t *testing.T, pid int) (of []string) {
	t.Helper()
	names, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	require.NoError(t, err)
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil { // the thread has ended
			continue
		}
		_, rest, ok := strings.Cut(string(b), "Cpus_allowed_list:")
		require.True(t, ok)
		line, _, _ := strings.Cut(rest, "\n")
		of = append(of, strings.TrimSpace(line))
	}
	require.NotEmpty(t, of)
	return of
}

// moved counts the threads of the worker that do not have all processors. Those of
// this process have them.
func moved(t *testing.T, s *keystore.Store) (n int) {
	t.Helper()
	b, err := os.ReadFile("/proc/self/status")
	require.NoError(t, err)
	_, rest, _ := strings.Cut(string(b), "Cpus_allowed_list:")
	all, _, _ := strings.Cut(rest, "\n")
	for _, of := range seats(t, os.Getpid()) {
		require.Equal(t, strings.TrimSpace(all), of)
	}
	for _, of := range seats(t, keystore.WorkerPID(s)) {
		if of != strings.TrimSpace(all) {
			require.NotContains(t, of, "-", "one processor")
			require.NotContains(t, of, ",", "one processor")
			n++
		}
	}
	return n
}

func TestWorkerSitsWithALoneCallerAndNobodyElse(t *testing.T) {
	if runtime.NumCPU() < 2 {
		t.Skip("needs two processors")
	}
	s := softhsmtest.New(t).Open(t, unhurried)
	k := knownMAC(t, s, "secret")
	// On a busy machine two MACs in a row may take so long that the next goes over a
	// lane, which leaves everybody where they sit.
	until := func(n int, act func()) {
		t.Helper()
		act()
		for end := time.Now().Add(patience); moved(t, s) != n && time.Now().Before(end); {
			k.right(t, 0)
		}
		require.Equal(t, n, moved(t, s))
	}
	together := func() {
		t.Helper()
		keystore.Together(s, true)
		until(1, func() {
			for n := range uint64(50) { // the caller may move in between
				k.right(t, n)
			}
		})
	}
	together()
	for name, end := range map[string]func(){
		"a lone caller on the other way": func() {
			keystore.Together(s, false)
			until(0, func() { k.right(t, 0) })
		},
		"an operation that is none of a key": func() {
			_, err := s.List(t.Context())
			require.NoError(t, err)
		},
		"several callers": func() {
			var callers sync.WaitGroup
			for range 4 {
				callers.Go(func() {
					for n := range uint64(200) {
						k.right(t, n)
					}
				})
			}
			callers.Wait()
			keystore.Together(s, false) // the last of them may have been alone
			until(0, func() { k.right(t, 0) })
		},
	} {
		t.Run(name, func(t *testing.T) {
			end()
			require.Zero(t, moved(t, s))
			together()
		})
	}
}

// withoutAffinity is the argument of a start in which no thread may choose its
// processors, as systemd's SystemCallFilter can have it.
const withoutAffinity = "without-affinity"

// forbidAffinity becomes the token worker under a filter that answers
// sched_setaffinity with EPERM.
func forbidAffinity() int {
	runtime.LockOSThread()
	const load, jumpIfNot, answer = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, unix.BPF_RET | unix.BPF_K
	program := []unix.SockFilter{
		{Code: load, K: 0}, // the number of the call
		{Code: jumpIfNot, Jf: 1, K: unix.SYS_SCHED_SETAFFINITY},
		{Code: answer, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)},
		{Code: answer, K: unix.SECCOMP_RET_ALLOW},
	}
	filter := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]} //nolint:gosec // four
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return 1
	}
	if err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&filter)), 0, 0); err != nil { //nolint:gosec // the kernel copies it
		return 1
	}
	_ = syscall.Exec("/proc/self/exe", []string{"gardu-token", keystore.WorkerArgument}, os.Environ()) //nolint:gosec // this program
	return 1
}

func TestWorkerThatMayNotChooseItsProcessorWorksAllTheSame(t *testing.T) {
	s := softhsmtest.New(t).Open(t, func(o *keystore.Options) {
		o.Launcher = func() (*exec.Cmd, error) { return exec.Command("/proc/self/exe", withoutAffinity), nil } //nolint:noctx // it outlives the call
	})
	k := knownMAC(t, s, "secret")
	keystore.Together(s, true)
	for n := range uint64(50) {
		k.right(t, n)
	}
	require.Zero(t, moved(t, s))
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", keystore.WorkerPID(s)))
	require.NoError(t, err)
	require.Contains(t, string(status), "Seccomp:\t2")
}
