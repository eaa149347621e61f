package admin_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gardu/internal/admin"
)

type hinted struct{}

func (hinted) Error() string { return "no" }
func (hinted) Hint() string  { return "say please" }
func (hinted) Kind() string  { return "usage" }

func serve(t *testing.T, o admin.Options) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "gardu-admin") //nolint:usetesting // a socket's path must stay under 108 bytes
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	require.NoError(t, os.Chmod(dir, 0o755)) //nolint:gosec // another user connects in a test
	o.Path = filepath.Join(dir, "s")
	o.Log = slog.New(slog.DiscardHandler)
	o.Verbs = map[string]admin.Verb{
		"echo": {Do: func(_ context.Context, a json.RawMessage, who admin.Peer) (any, error) {
			return map[string]any{"args": a, "uid": who.UID}, nil
		}},
		"refuse": {Do: func(context.Context, json.RawMessage, admin.Peer) (any, error) { return nil, hinted{} }},
		"ticket": {Access: admin.Screen, Do: func(context.Context, json.RawMessage, admin.Peer) (any, error) { return "t", nil }},
	}
	s, err := admin.Listen(o)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	t.Cleanup(func() { cancel(); require.NoError(t, <-done) })
	return o.Path
}

func TestAsk(t *testing.T) {
	path := serve(t, admin.Options{Group: "nobody-has-this"})
	var got struct {
		Args map[string]int `json:"args"`
		UID  int            `json:"uid"`
	}
	require.NoError(t, admin.Ask(t.Context(), path, "echo", map[string]int{"a": 1}, &got))
	require.Equal(t, 1, got.Args["a"])
	require.Equal(t, os.Geteuid(), got.UID)

	err := admin.Ask(t.Context(), path, "refuse", nil, nil)
	require.EqualError(t, err, "no; say please")
	var told *admin.AskError
	require.ErrorAs(t, err, &told)
	require.Equal(t, "usage", told.Kind)
	require.ErrorContains(t, admin.Ask(t.Context(), path, "dance", nil, nil), "does not know the verb")
}

func TestWhatIsNotARequestIsRefusedAndTheNextOneServed(t *testing.T) {
	path := serve(t, admin.Options{})
	for _, bad := range []string{"\n", "{}\n", "{\"verb\":\"echo\",\"x\":1}\n", "garbage\n", strings.Repeat("x", 70<<10) + "\n"} {
		c, err := net.Dial("unix", path)
		require.NoError(t, err)
		_ = c.SetDeadline(time.Now().Add(5 * time.Second))
		_, _ = c.Write([]byte(bad))
		b, _ := io.ReadAll(c)
		if len(b) > 0 {
			require.Contains(t, string(b), `"ok":false`)
		}
		_ = c.Close()
	}
	require.NoError(t, admin.Ask(t.Context(), path, "ticket", nil, nil))
}

func TestASecondAgentAndALeftover(t *testing.T) {
	path := serve(t, admin.Options{})
	_, err := admin.Listen(admin.Options{Path: path})
	require.ErrorContains(t, err, "another agent answers there")

	dir := t.TempDir()
	plain := filepath.Join(dir, "file")
	require.NoError(t, os.WriteFile(plain, nil, 0o600))
	_, err = admin.Listen(admin.Options{Path: plain})
	require.ErrorContains(t, err, "something else at that path")

	left := filepath.Join(dir, "left")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: left, Net: "unix"})
	require.NoError(t, err)
	l.SetUnlinkOnClose(false)
	require.NoError(t, l.Close())
	_, err = admin.Listen(admin.Options{Path: left})
	require.NoError(t, err)
}

func TestWhoOnlyHoldsAConnectionIsLetGo(t *testing.T) {
	path := serve(t, admin.Options{})
	var idle []net.Conn
	for range 40 { // more than are served at a time
		c, err := net.Dial("unix", path)
		require.NoError(t, err)
		idle = append(idle, c)
	}
	require.NoError(t, admin.Ask(t.Context(), path, "ticket", nil, nil), "served once the idle ones are let go")
	for _, c := range idle {
		require.NoError(t, c.Close())
	}
}

func TestLackOfDescriptorsDoesNotEndTheServer(t *testing.T) {
	path := serve(t, admin.Options{})
	var was syscall.Rlimit
	require.NoError(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &was))
	fds, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	c, err := net.Dial("unix", path)
	require.NoError(t, err)
	few := was
	few.Cur = uint64(len(fds)) // what is open stays, nothing new opens
	require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &few))
	time.Sleep(300 * time.Millisecond)
	require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &was))
	_ = c.Close()
	require.NoError(t, admin.Ask(t.Context(), path, "ticket", nil, nil))
}

func TestNobodyAnswers(t *testing.T) {
	err := admin.Ask(t.Context(), filepath.Join(t.TempDir(), "none"), "echo", nil, nil)
	require.ErrorIs(t, err, admin.ErrNotRunning)
}

// askAs re-executes this test binary as another user: who the peer is must come
// from the kernel, so a fake will not do.
const askAs = "GARDU_ADMIN_ASK"

func TestMain(m *testing.M) {
	if path := os.Getenv(askAs); path != "" {
		verb := os.Getenv("GARDU_ADMIN_VERB")
		err := admin.Ask(context.Background(), path, verb, nil, nil)
		if err != nil {
			_, _ = os.Stdout.WriteString(err.Error())
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestWhoMayAskForWhat(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to become another user")
	}
	ask := func(path, verb string, uid uint32) string {
		t.Helper()
		exe, err := os.Executable()
		require.NoError(t, err)
		bin := filepath.Join(filepath.Dir(path), "ask")
		b, err := os.ReadFile(exe) //nolint:gosec // our own test binary
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(bin, b, 0o755)) //nolint:gosec // another user runs it
		cmd := exec.CommandContext(t.Context(), bin)
		cmd.Env = []string{askAs + "=" + path, "GARDU_ADMIN_VERB=" + verb}
		cmd.Dir = "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
		out, err := cmd.Output()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			require.NoError(t, err)
		}
		return string(out)
	}
	path := serve(t, admin.Options{Group: "gardu-ops", KioskUser: "games"})
	const games, daemon = 5, 1 // uids of Debian's base-passwd
	require.Empty(t, ask(path, "ticket", games))
	require.Contains(t, ask(path, "echo", games), "may only ask for a screen ticket")
	require.Contains(t, ask(path, "ticket", daemon), "may not use this socket; run it as root or as a member of group gardu-ops")
	require.Empty(t, ask(path, "echo", 0))
}
