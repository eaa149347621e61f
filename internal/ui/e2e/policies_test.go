//go:build e2e

package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gardu/internal/ui"
	"gardu/internal/ui/uitest"
)

// shippedAddress is the one address that the policies of the kiosk's package allow.
const shippedAddress = "127.0.0.1:8700"

const policiesFolder = "/etc/chromium/policies"

// The window in which everything must have been asked for: without the policies it
// is, so that silence with them is theirs.
const policyWindow = 4 * time.Second

// The policies that gardu-kiosk installs close a real Chromium to everything but the
// agent's page. A Chromium under them gives no tool anything to look through, so what
// the servers were asked for is the witness; the same Chromium without them asks for all.
func TestPoliciesCloseTheBrowser(t *testing.T) {
	packaging := filepath.Join("..", "..", "..", "packaging")
	shipped, err := os.ReadFile(filepath.Join(packaging, "kiosk", "policies.json"))
	require.NoError(t, err)
	require.Equal(t, 1, strings.Count(string(shipped), `"http://`+shippedAddress+`"`))
	for _, same := range []string{"gardu.toml", filepath.Join("systemd", "gardu.socket")} {
		b, err := os.ReadFile(filepath.Join(packaging, same))
		require.NoError(t, err)
		require.Contains(t, string(b), shippedAddress, "%s and the policies speak of one address", same)
	}
	policies := func(addr string) []byte { return bytes.Replace(shipped, []byte(shippedAddress), []byte(addr), 1) }

	// Everything is asked for in one Chromium, in tabs of its start, as kiosk-session does.
	visit := func(t *testing.T, closed bool) (own, foreign []string, browser string) {
		t.Helper()
		late := make(chan struct{})
		var ours, theirs accessLog
		foreignAddr := theirs.serve(t, nil) // a port of another program on this machine
		pages := map[string]string{}
		ownAddr := ours.serve(t, pages)
		pages["/"] = fmt.Sprintf(`<img src=/picture><iframe src="http://%s/frame"></iframe><script>setTimeout(() => fetch('/late'), %d)</script>`, foreignAddr, policyWindow.Milliseconds())
		pages["/leave"] = fmt.Sprintf(`<script>location = 'http://%s/link'</script>`, foreignAddr)
		ours.on("/late", func() { close(late) })
		file := filepath.Join(t.TempDir(), "page.html")
		require.NoError(t, os.WriteFile(file, fmt.Appendf(nil, `<img src="http://%s/file">`, ownAddr), 0o600))
		var managed []byte
		if closed {
			managed = policies(ownAddr)
		}
		browser = chromiumUnder(t, managed, late,
			"http://"+foreignAddr+"/port", "http://"+ownAddr+"@"+foreignAddr+"/user", "view-source:http://"+foreignAddr+"/source",
			"http://"+strings.Replace(ownAddr, "127.0.0.1", "localhost", 1)+"/name", "file://"+file, "http://"+ownAddr+"/leave", "http://"+ownAddr+"/")
		return ours.asked(), theirs.asked(), browser
	}

	t.Run("open without them", func(t *testing.T) {
		own, foreign, browser := visit(t, false)
		require.Subset(t, own, []string{"/", "/picture", "/leave", "/late", "/name", "/file"})
		require.Subset(t, foreign, []string{"/port", "/user", "/source", "/frame", "/link"})
		require.Contains(t, browser, "DevTools listening on")
	})
	t.Run("closed by them", func(t *testing.T) {
		own, foreign, browser := visit(t, true)
		require.ElementsMatch(t, []string{"/", "/picture", "/leave", "/late"}, own)
		require.Empty(t, foreign)
		require.Contains(t, browser, "remote debugging is disallowed", "nothing attaches to the browser")
		require.NotContains(t, browser, "DevTools listening on")
	})
	t.Run("the agent's page works", func(t *testing.T) {
		ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp4", "127.0.0.1:0")
		require.NoError(t, err)
		said := make(chan struct{})
		heard := &listening{Listener: ln, word: []byte("HTTP/1.1 101 "), heard: sync.OnceFunc(func() { close(said) })}
		server, err := ui.New(ui.Options{
			Listener: heard, Engine: uitest.New(), Staff: uitest.Staff{Code: "77314159", ID: "staff-7"}, Brand: "Bank Nusantara", PxPerMM: 4, Log: slog.New(slog.DiscardHandler),
		})
		require.NoError(t, err)
		serve(t, server)
		ticket, err := server.IssueTicket()
		require.NoError(t, err)
		chromiumUnder(t, policies(ln.Addr().String()), said, "http://"+ln.Addr().String()+"/?ticket="+ticket)
	})
}

// chromiumUnder opens tabs in a Chromium of its own that is under these policies, or
// under none, until done, and returns what it printed. It sees them through mounts
// that only it has; what the machine's own Chromium is under stays as it is.
func chromiumUnder(t *testing.T, managed []byte, done <-chan struct{}, tabs ...string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("putting policies before Chromium needs root, for a mount of its own")
	}
	if _, err := os.Stat(policiesFolder); errors.Is(err, os.ErrNotExist) {
		require.NoError(t, os.MkdirAll(policiesFolder, 0o755)) //nolint:gosec // G301: as the package makes it
		t.Cleanup(func() { _ = os.Remove(policiesFolder) })
	}
	dir := t.TempDir()
	folder, profile := filepath.Join(dir, "policies"), filepath.Join(dir, "profile")
	require.NoError(t, os.MkdirAll(filepath.Join(folder, "managed"), 0o700))
	require.NoError(t, os.MkdirAll(filepath.Join(profile, "Default"), 0o700))
	if managed != nil {
		require.NoError(t, os.WriteFile(filepath.Join(folder, "managed", "gardu-kiosk.json"), managed, 0o600))
	}
	preferences, err := json.Marshal(map[string]any{"session": map[string]any{"restore_on_startup": 4, "startup_urls": tabs}})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(profile, "Default", "Preferences"), preferences, 0o600))
	printed, err := os.Create(filepath.Join(dir, "printed")) //nolint:gosec // G304: the test's own
	require.NoError(t, err)
	defer func() { _ = printed.Close() }()

	// It is the first process of its own namespace, so that all of Chromium ends with it.
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-ec", `mount --make-rprivate /; mount -t proc proc /proc; mount --bind "$0" `+policiesFolder+`; exec timeout -s KILL 25 "$@"`, folder, //nolint:gosec // G204: the test's own
		chromium, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-component-update", "--disable-background-networking", "--remote-debugging-port=0", "--user-data-dir="+profile)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID}
	cmd.Env = append(os.Environ(), "HOME="+dir)
	cmd.Stdout, cmd.Stderr = printed, printed
	err = cmd.Start()
	if errors.Is(err, syscall.EPERM) {
		t.Skip("putting policies before Chromium needs a mount of its own, and this machine forbids it")
	}
	require.NoError(t, err)
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	var early error
	select {
	case <-done:
		cancel()
		<-ended
	case early = <-ended:
	}
	b, err := os.ReadFile(printed.Name())
	require.NoError(t, err)
	require.NoError(t, early, "Chromium ended, or twenty seconds had passed, before the page was served: %s", b)
	select {
	case <-done:
	default:
		require.Fail(t, "Chromium ended before the page was served", "%s", b)
	}
	return string(b)
}

// accessLog is what a server was asked for.
type accessLog struct {
	mu    sync.Mutex
	paths []string
	when  map[string]func()
}

func (l *accessLog) on(path string, do func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.when = map[string]func(){path: sync.OnceFunc(do)}
}

func (l *accessLog) asked() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string{}, l.paths...)
}

// serve serves these pages, and an empty one for every other path, and returns the address.
func (l *accessLog) serve(t *testing.T, pages map[string]string) string {
	t.Helper()
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	server := &http.Server{ReadHeaderTimeout: 5 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/favicon.ico" { // of whichever page was shown, and that was asked for itself
			http.NotFound(w, r)
			return
		}
		l.mu.Lock()
		l.paths = append(l.paths, r.URL.Path)
		do := l.when[r.URL.Path]
		l.mu.Unlock()
		w.Header().Set("Content-Type", "text/html")
		_, _ = w.Write([]byte(pages[r.URL.Path]))
		if do != nil {
			do()
		}
	})}
	go func() { _ = server.Serve(ln) }()
	t.Cleanup(func() { _ = server.Close() })
	return ln.Addr().String()
}

// listening is a listener that tells when a server begins an answer with a word.
type listening struct {
	net.Listener
	word  []byte
	heard func()
}

func (l *listening) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &listened{conn, l}, nil
}

type listened struct {
	net.Conn
	to *listening
}

func (c *listened) Write(b []byte) (int, error) {
	if bytes.HasPrefix(b, c.to.word) {
		c.to.heard()
	}
	return c.Conn.Write(b)
}
