package main

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gardu/internal/keystore/softhsmtest"
	"gardu/internal/txn"
)

// booth is a gardu that a service manager starts, which is played by the test.
type booth struct {
	t      *testing.T
	dir    string
	screen string
	notify *net.UnixConn
	heard  []string // what the manager was told and nobody has asked for
	log    lockedBuffer
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func newBooth(t *testing.T) *booth {
	t.Helper()
	b := &booth{t: t, dir: t.TempDir()}
	shm, err := os.MkdirTemp("/dev/shm", "gardu-notify") //nolint:usetesting // the journal wants its key folder on tmpfs
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(shm) })
	tok := softhsmtest.New(t)
	b.screen, err = freePort()
	require.NoError(t, err)
	for name, text := range map[string]string{
		"pin": tok.PIN + "\n", "api.key": "key\n", "secure.code": "code\n",
		"staff.toml": "[[staff]]\nid = \"1001\"\ncode = \"10012345\"\n",
		"gardu.toml": kioskConfig(b.dir, shm, b.screen, tok),
	} {
		require.NoError(t, os.WriteFile(b.path(name), []byte(text), 0o600))
	}
	b.notify, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(shm, "notify"), Net: "unixgram"})
	require.NoError(t, err)
	t.Cleanup(func() { _ = b.notify.Close() })
	return b
}

func (b *booth) path(name string) string { return filepath.Join(b.dir, name) }

// gardu is the program under test, by a shell that tells it its own process id as
// systemd does.
func (b *booth) gardu(ctx context.Context, env string, args ...string) *exec.Cmd {
	exe, err := os.Executable()
	require.NoError(b.t, err)
	cmd := exec.CommandContext(ctx, "bash", append([]string{"-c", env + ` exec -a gardu "$0" "$@"`, exe, "--config", b.path("gardu.toml")}, args...)...) //nolint:gosec // G204: the test's own words
	cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+b.notify.LocalAddr().String())
	cmd.Stderr = &b.log
	return cmd
}

// hear waits for a datagram that holds the text. What comes before it is kept for the
// next: what different parts of the agent say has no order.
func (b *booth) hear(text string) {
	b.t.Helper()
	is := func(said string) bool { return strings.Contains(said, text) }
	buf := make([]byte, 4096)
	require.NoError(b.t, b.notify.SetReadDeadline(time.Now().Add(time.Minute)))
	for !slices.ContainsFunc(b.heard, is) {
		n, err := b.notify.Read(buf)
		if err != nil {
			require.Failf(b.t, "the service manager was not told", "%q is not among %q: %v; log:\n%s", text, b.heard, err, b.log.String())
		}
		b.heard = append(b.heard, string(buf[:n]))
	}
	i := slices.IndexFunc(b.heard, is)
	b.heard = slices.Delete(b.heard, i, i+1)
}

// says waits for a line in the log.
func (b *booth) says(text string) {
	b.t.Helper()
	require.Eventually(b.t, func() bool { return strings.Contains(b.log.String(), text) }, time.Minute, 10*time.Millisecond, text)
}

// TestServiceManagerIsTold plays systemd for a whole life of the agent.
func TestServiceManagerIsTold(t *testing.T) {
	b := newBooth(t)
	require.NoError(t, b.gardu(t.Context(), "", "init").Run(), &b.log)

	l, err := net.Listen("tcp", b.screen) //nolint:noctx // closed below
	require.NoError(t, err)
	f, err := l.(*net.TCPListener).File()
	require.NoError(t, err)
	require.NoError(t, l.Close())
	defer func() { _ = f.Close() }()

	cmd := b.gardu(t.Context(), "export LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=screen WATCHDOG_PID=$$ WATCHDOG_USEC=3000000;", "run")
	cmd.ExtraFiles = []*os.File{f}
	require.NoError(t, cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() { _ = cmd.Process.Kill() })

	b.hear("READY=1")
	r, err := http.Get("http://" + b.screen + "/healthz") //nolint:noctx,gosec // a test's own loopback server
	require.NoError(t, err, "ready means that the screen answers")
	require.NoError(t, r.Body.Close())
	b.hear("STATUS=in service")
	b.hear("WATCHDOG=1")
	b.hear("WATCHDOG=1")

	// A new clerk, without a restart.
	require.NoError(t, os.WriteFile(b.path("staff.toml"), []byte("[[staff]]\nid = \"1001\"\ncode = \"10012345\"\n[[staff]]\nid = \"1002\"\ncode = \"20012345\"\n"), 0o600))
	require.NoError(t, cmd.Process.Signal(syscall.SIGHUP))
	b.hear("RELOADING=1\nMONOTONIC_USEC=")
	b.hear("READY=1")
	b.says("staff file read again")
	require.NoError(t, os.WriteFile(b.path("staff.toml"), []byte("[[staff]]\nid = \"1001\"\ncode = \"1\"\n"), 0o600))
	require.NoError(t, cmd.Process.Signal(syscall.SIGHUP))
	b.hear("RELOADING=1")
	b.hear("READY=1")
	b.says("staff file not taken; the staff of before stay")

	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	b.hear("STOPPING=1")
	require.NoError(t, <-ended)
	// The socket is the manager's: it is open after the agent's end.
	c, err := net.Dial("tcp", b.screen) //nolint:noctx // loopback
	require.NoError(t, err)
	require.NoError(t, c.Close())
}

func TestSocketOfAnotherAddressIsRefused(t *testing.T) {
	b := newBooth(t)
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // closed below
	require.NoError(t, err)
	defer func() { _ = l.Close() }()
	f, err := l.(*net.TCPListener).File()
	require.NoError(t, err)
	defer func() { _ = f.Close() }()
	for name, c := range map[string]struct{ env, says string }{
		"another address": {"export LISTEN_PID=$$ LISTEN_FDS=1;", "gardu.socket listens on " + l.Addr().String() + " and screen.listen is " + b.screen + "; make them the same"},
		"two sockets":     {"export LISTEN_PID=$$ LISTEN_FDS=2;", "gardu.socket passes 2 sockets instead of one"},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := b.gardu(t.Context(), c.env, "run")
			cmd.ExtraFiles = []*os.File{f, f}
			var exit *exec.ExitError
			require.ErrorAs(t, cmd.Run(), &exit)
			require.Contains(t, b.log.String(), c.says)
		})
	}
}

// TestNoSignOfLife: an engine whose loop does not turn is not called alive.
func TestNoSignOfLife(t *testing.T) {
	b := newBooth(t)
	set, err := loadSettings(b.path("gardu.toml"))
	require.NoError(t, err)
	log, err := newLog(&b.log, set.Log)
	require.NoError(t, err)
	ag := newAgent(set, log)
	l, err := ag.listen(t.Context())
	require.NoError(t, err)
	require.NoError(t, set.makeFolders())
	ag.screen, err = ag.newScreen(l)
	require.NoError(t, err)
	limit := 300 * time.Millisecond
	const patience = time.Minute

	require.ErrorContains(t, ag.alive(t.Context(), limit), "ask the screen", "nobody serves yet")

	ctx, stop := context.WithCancel(t.Context())
	var parts sync.WaitGroup
	parts.Go(func() { _ = ag.screen.Serve(ctx) })
	defer parts.Wait()
	defer stop()
	require.NoError(t, ag.alive(ctx, patience), "without an engine the screen counts")

	e, err := txn.NewEngine(ctx, txn.Options{Store: emptyStore{}, Log: log})
	require.NoError(t, err)
	ag.setEngine(e)
	for err = ag.alive(ctx, limit); err != nil && strings.Contains(err.Error(), "ask the screen") && limit < patience; err = ag.alive(ctx, limit) {
		limit *= 2 // the screen, too, has to answer within it
	}
	require.ErrorContains(t, err, "wait for the engine's loop", "it does not run")
	require.ErrorIs(t, err, context.DeadlineExceeded)
	runCtx, end := context.WithCancel(ctx)
	ran := make(chan error, 1)
	go func() { ran <- e.Run(runCtx) }()
	require.NoError(t, ag.alive(ctx, patience))
	require.NoError(t, ag.alive(ctx, patience))
	end()
	require.NoError(t, <-ran)
	require.NoError(t, ag.alive(ctx, patience), "an engine that was stopped is no dead one")
}

// emptyStore is a journal with nothing in it.
type emptyStore struct{ txn.Store }

func (emptyStore) Each(context.Context, func(*txn.Request, error) error) error { return nil }
