package embedded

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"gardu/internal/keystore"
	"gardu/internal/keystore/softhsmtest"
	"gardu/internal/keystore/worker"
)

// TestMain also is the carried program: the tests carry their own.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == ProbeArgument {
		unix.Exit(0) // os.Exit takes a second under the race detector
	}
	softhsmtest.Main(m)
}

func TestTheArgumentIsTheWorkers(t *testing.T) {
	require.Equal(t, worker.Argument, ServeArgument)
}

// ownProgram is a token worker: this test.
func ownProgram(t *testing.T) string {
	t.Helper()
	path, err := os.Executable()
	require.NoError(t, err)
	b, err := os.ReadFile(path) //nolint:gosec // ourselves
	require.NoError(t, err)
	return string(b)
}

// refuse makes memory a place that cannot be executed from.
func refuse(l *Launcher) {
	l.memfd = func(string, int) (int, error) { return -1, unix.EACCES }
}

// helperFile writes a file that Options.Helper may name.
func helperFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "token-worker")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o755)) //nolint:gosec // it is to be executed
	return path
}

// signs starts a worker with l, and a second one after the first was killed, and
// lets a real token do something each time.
func signs(t *testing.T, l *Launcher) {
	t.Helper()
	s := softhsmtest.New(t).Open(t, func(o *keystore.Options) { o.Launcher = l.Command })
	ctx := context.Background()
	_, err := s.Generate(ctx, keystore.NewKey{Label: "k", Kind: keystore.KindAES256})
	require.NoError(t, err)
	pid := workerPID(t, l)
	require.NoError(t, unix.Kill(pid, unix.SIGKILL))
	require.Eventually(t, func() bool {
		keys, err := s.List(ctx)
		return err == nil && len(keys) == 1
	}, longest, tick)
	require.NotEqual(t, pid, workerPID(t, l))
}

func TestEveryWayToAWorker(t *testing.T) {
	program := ownProgram(t)
	for name, tc := range map[string]struct {
		opts  func(t *testing.T) Options
		memfd func(name string, flags int) (int, error)
		path  string // a part of where the executed file lies
		logs  string
	}{
		"in memory": {
			path: "/memfd:gardu-token",
		},
		"in memory of a kernel that does not know MFD_EXEC": {
			memfd: func(name string, flags int) (int, error) {
				if flags&unix.MFD_EXEC != 0 {
					return -1, unix.EINVAL
				}
				return unix.MemfdCreate(name, flags)
			},
			path: "/memfd:gardu-token",
		},
		"in the runtime directory when memory is refused": {
			opts:  func(t *testing.T) Options { return Options{Dir: t.TempDir()} },
			memfd: func(string, int) (int, error) { return -1, unix.EACCES },
			path:  "/gardu-token (deleted)",
			logs:  "in memory (create: permission denied)",
		},
		"in the runtime directory when memory can be had but not executed": {
			opts: func(t *testing.T) Options { return Options{Dir: t.TempDir()} },
			memfd: func(name string, flags int) (int, error) {
				return unix.MemfdCreate(name, flags&^unix.MFD_EXEC|unix.MFD_NOEXEC_SEAL)
			},
			path: "/gardu-token (deleted)",
			logs: "permission denied",
		},
		"the helper when nothing that we write is executed": {
			opts: func(t *testing.T) Options {
				return Options{Dir: filepath.Join(t.TempDir(), "missing"), Helper: helperFile(t, program), TrustHelper: os.Getuid() != 0}
			},
			memfd: func(string, int) (int, error) { return -1, unix.ENOSYS },
			path:  "/token-worker",
			logs:  "no such file or directory",
		},
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			var opts Options
			if tc.opts != nil {
				opts = tc.opts(t)
			}
			opts.Log = slog.New(slog.NewTextHandler(&log, nil))
			l := newLauncher(opts, program)
			if tc.memfd != nil {
				l.memfd = tc.memfd
			}
			signs(t, l)
			target, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", l.file.Fd()))
			require.NoError(t, err)
			require.Contains(t, target, tc.path)
			require.Equal(t, fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), l.file.Fd()), l.path)
			require.Contains(t, log.String(), tc.logs)
			if tc.logs == "" {
				require.Empty(t, log.String())
			}
			if opts.Dir != "" {
				left, err := os.ReadDir(opts.Dir)
				if err == nil {
					require.Empty(t, left, "the file was not removed")
				}
			}
		})
	}
}

func TestTheFileInMemoryCannotBeChanged(t *testing.T) {
	l := newLauncher(Options{}, ownProgram(t))
	_, err := l.Command()
	require.NoError(t, err)
	got, err := unix.FcntlInt(l.file.Fd(), unix.F_GET_SEALS, 0)
	require.NoError(t, err)
	require.Equal(t, seals, got&seals)
	_, err = l.file.WriteAt([]byte("x"), 0)
	require.ErrorIs(t, err, os.ErrPermission)
	require.ErrorIs(t, l.file.Truncate(0), os.ErrPermission)
	flags, err := unix.FcntlInt(l.file.Fd(), unix.F_GETFD, 0)
	require.NoError(t, err)
	require.NotZero(t, flags&unix.FD_CLOEXEC, "what the agent starts must not inherit it")
}

// TestTheOtherRoute executes through /proc/self, as a child of a process that is
// closed to tracing must.
func TestTheOtherRoute(t *testing.T) {
	l := newLauncher(Options{}, ownProgram(t))
	_, err := l.Command()
	require.NoError(t, err)
	require.GreaterOrEqual(t, int(l.file.Fd()), highFD)
	l.path = fmt.Sprintf("/proc/self/fd/%d", l.file.Fd())
	signs(t, l)
}

func TestAHelperThatCannotBeTrustedIsNotRun(t *testing.T) {
	program := ownProgram(t)
	mark := filepath.Join(t.TempDir(), "was-run")
	for name, tc := range map[string]struct {
		path func(t *testing.T) string
		say  string
	}{
		"another program": {
			path: func(t *testing.T) string { return helperFile(t, "#!/bin/sh\ntouch "+mark+"\n") },
			say:  "not this release's worker (SHA-256 ",
		},
		"ours with a byte more": {
			path: func(t *testing.T) string { return helperFile(t, program+"x") },
			say:  "not this release's worker",
		},
		"ours with a byte less": {
			path: func(t *testing.T) string { return helperFile(t, program[:len(program)-1]) },
			say:  "not this release's worker",
		},
		"ours, but others may write to it": {
			path: func(t *testing.T) string {
				p := helperFile(t, program)
				require.NoError(t, os.Chmod(p, 0o777)) //nolint:gosec // the point of the test
				return p
			},
			say: "others than root can change it",
		},
		"a folder": {
			path: func(t *testing.T) string { return t.TempDir() },
			say:  "it is not a file",
		},
		"nothing": {
			path: func(t *testing.T) string { return filepath.Join(t.TempDir(), "no") },
			say:  "no such file",
		},
	} {
		t.Run(name, func(t *testing.T) {
			// Where the tests do not run as root, every file of theirs is another's.
			own := os.Getuid() != 0 && tc.say != "others than root can change it"
			l := newLauncher(Options{Helper: tc.path(t), TrustHelper: own}, program)
			refuse(l)
			_, err := l.Command()
			require.ErrorContains(t, err, tc.say)
			require.NoFileExists(t, mark)
		})
	}
}

func TestAnErrorNamesEveryWayAndIsNotForGood(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "missing")
	l := newLauncher(Options{Dir: dir, Helper: "/nowhere/token-worker"}, ownProgram(t))
	works := l.memfd
	refuse(l)
	_, err := l.Command()
	require.ErrorIs(t, err, keystore.ErrWorkerLost)
	require.ErrorIs(t, err, unix.EACCES)
	var e *keystore.Error
	require.ErrorAs(t, err, &e)
	require.Contains(t, e.Hint, "token.helper_path")
	for _, say := range []string{"does not execute it in memory (create: permission denied), nor in " + dir + " (", ", nor as /nowhere/token-worker ("} {
		require.ErrorContains(t, err, say)
	}

	// The keystore hands the hint on.
	s := softhsmtest.New(t).Open(t, func(o *keystore.Options) { o.Launcher = l.Command })
	err = s.Ready(t.Context())
	require.ErrorContains(t, err, "vm.memfd_noexec")
	require.ErrorIs(t, err, keystore.ErrWorkerLost)

	l.memfd = works
	_, err = l.Command()
	require.NoError(t, err)
}

func TestAProgramThatThisSystemCannotLoadSaysWhy(t *testing.T) {
	for name, tc := range map[string]struct{ program, say string }{
		"another machine's":  {"\x7fELF\x02\x01\x01", "exec format error"},
		"its loader is away": {"#!/nowhere/loader\n", "no such file or directory"},
		"a library is away":  {"#!/bin/sh\necho version GLIBC_9.9 not found >&2\nexit 1\n", "version GLIBC_9.9 not found"},
	} {
		t.Run(name, func(t *testing.T) {
			// From a file: a script in memory is closed before its interpreter opens it.
			l := newLauncher(Options{Dir: t.TempDir()}, tc.program)
			refuse(l)
			_, err := l.Command()
			require.ErrorContains(t, err, tc.say)
			require.ErrorIs(t, err, keystore.ErrWorkerLost)
		})
	}
}

// TestOthersMayStartProgramsMeanwhile: a child that is born while the file is
// written holds it open for writing until it executes, and for as long nobody can
// execute the file. The program is small, so that little time passes in between.
func TestOthersMayStartProgramsMeanwhile(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var busy sync.WaitGroup
	for range 4 {
		busy.Go(func() {
			for ctx.Err() == nil {
				_ = exec.CommandContext(ctx, "/bin/true").Run()
			}
		})
	}
	defer busy.Wait()
	defer cancel()
	dir := t.TempDir()
	for range 150 {
		l := newLauncher(Options{Dir: dir}, "#!/bin/true\n")
		refuse(l)
		_, err := l.Command()
		require.NoError(t, err)
		require.NoError(t, l.file.Close())
	}
}

func TestManyMayAskAtOnce(t *testing.T) {
	l := newLauncher(Options{}, ownProgram(t))
	var callers sync.WaitGroup
	for range 8 {
		callers.Go(func() {
			cmd, err := l.Command()
			if err != nil {
				t.Error(err)
				return
			}
			cmd.Args[1] = ProbeArgument
			if err := cmd.Run(); err != nil {
				t.Error(err)
			}
		})
	}
	callers.Wait()
}

func TestWhatIsCarriedComesOutOfItsPackage(t *testing.T) {
	var b strings.Builder
	w := gzip.NewWriter(&b)
	_, err := w.Write([]byte("a program"))
	require.NoError(t, err)
	require.NoError(t, w.Close())
	program, err := unpack(b.String())
	require.NoError(t, err)
	require.Equal(t, "a program", program)
	program, err = unpack("")
	require.NoError(t, err)
	require.Empty(t, program)
	_, err = unpack(b.String()[:12])
	require.Error(t, err)
}
