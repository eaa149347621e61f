package update_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"gardu/internal/update"
)

// startFetcher has a fetcher go to a repository and returns a Source that asks it, and
// its socket. The fetcher ends with the test.
func startFetcher(t *testing.T, o update.SourceOptions) (*update.Source, string) {
	t.Helper()
	network, err := update.NewSource(o)
	require.NoError(t, err)
	dir, err := os.MkdirTemp("", "fetch") //nolint:usetesting // a socket's path must be short
	require.NoError(t, err)
	socket := filepath.Join(dir, "s")
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", socket)
	require.NoError(t, err)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- update.ServeFetches(ctx, l, network, time.Hour) }()
	o.Fetcher = socket
	src, err := update.NewSource(o)
	require.NoError(t, err)
	t.Cleanup(func() {
		src.Close()
		stop()
		<-ended
		network.Close()
		require.NoError(t, os.RemoveAll(dir))
	})
	return src, socket
}

// TestAFetcherGoesInOurPlace: what comes over it is what the network gives, resumed
// where it broke off, and nothing else can be asked of it.
func TestAFetcherGoesInOurPlace(t *testing.T) {
	file := make([]byte, 3<<20)
	_, _ = rand.Read(file)
	var asked atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		switch r.URL.Path {
		case "/gardu/targets/program":
			serveCut(w, r, file, 1<<20)
		case "/gardu/unsized":
			_, _ = w.Write(file[:100])
			_ = http.NewResponseController(w).Flush()
			_, _ = w.Write(file[100:200])
		case "/gardu/closed":
			http.Error(w, "", http.StatusForbidden)
		case "/gardu/moved":
			http.Redirect(w, r, "/elsewhere", http.StatusFound)
		case "/gardu/broken":
			http.Error(w, "", http.StatusInternalServerError)
		default:
			http.NotFound(w, r)
		}
	}))
	defer s.Close()
	src, socket := startFetcher(t, update.SourceOptions{URL: s.URL + "/gardu/", Missing: []int{http.StatusForbidden}})

	var got []byte
	for len(got) < len(file) {
		f, from, size, err := src.Open(t.Context(), "targets/program", int64(len(got)))
		require.NoError(t, err)
		require.Equal(t, int64(len(got)), from)
		require.Equal(t, int64(len(file)), size)
		b, err := io.ReadAll(f)
		require.NoError(t, f.Close())
		require.NotEmpty(t, b)
		require.LessOrEqual(t, len(b), 1<<20)
		got = append(got, b...)
		if len(got) < len(file) {
			require.ErrorIs(t, err, update.ErrNetwork)
		} else {
			require.NoError(t, err)
		}
	}
	require.True(t, bytes.Equal(file, got))
	requests, n := src.Count()
	require.GreaterOrEqual(t, requests, int64(3))
	require.Equal(t, int64(len(file)), n)
	require.Equal(t, requests, asked.Load(), "one request there for each of ours")

	b, err := src.Get(t.Context(), "unsized", 1<<20)
	require.NoError(t, err)
	require.Equal(t, file[:200], b)
	_, err = src.Get(t.Context(), "unsized", 150)
	require.ErrorIs(t, err, update.ErrTooLong)
	for _, name := range []string{"nothing", "closed"} {
		_, err = src.Get(t.Context(), name, 1<<20)
		require.ErrorIs(t, err, update.ErrMissing, name)
	}
	_, err = src.Get(t.Context(), "moved", 1<<20)
	require.ErrorIs(t, err, update.ErrNetwork)
	require.ErrorContains(t, err, "the host sends us elsewhere")
	_, err = src.Get(t.Context(), "broken", 1<<20)
	require.ErrorIs(t, err, update.ErrNetwork)
	require.ErrorContains(t, err, "HTTP status 500")

	before := asked.Load()
	direct := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}}
	defer direct.CloseIdleConnections()
	for _, path := range []string{"/..%2fsecret", "/a/%2e%2e/%2e%2e/secret", "/%2fsecret", "/", "/a//b"} {
		q, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://fetcher"+path, http.NoBody)
		require.NoError(t, err)
		a, err := direct.Do(q)
		require.NoError(t, err)
		require.NoError(t, a.Body.Close())
		require.Equal(t, http.StatusBadRequest, a.StatusCode, path)
	}
	require.Equal(t, before, asked.Load(), "nothing outside of the repository is asked for")
}

func TestAFetcherSaysWhatIsWrong(t *testing.T) {
	s := httptest.NewUnstartedServer(http.NotFoundHandler())
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	s.StartTLS()
	defer s.Close()
	away := errors.New("the token is away; plug it in")
	for _, fails := range []error{away, update.OfToken(away)} {
		src, _ := startFetcher(t, update.SourceOptions{URL: s.URL + "/", Certificate: func(context.Context) (*tls.Certificate, error) {
			return nil, fails
		}})
		_, err := src.Get(t.Context(), "metadata/timestamp.json", 1<<20)
		require.ErrorIs(t, err, update.ErrCertificate)
		require.NotErrorIs(t, err, update.ErrNetwork)
		require.Equal(t, errors.Is(fails, update.ErrToken), errors.Is(err, update.ErrToken))
		require.EqualError(t, err, "this kiosk cannot identify itself to the update repository: the token is away; plug it in")
	}

	src, _ := startFetcher(t, update.SourceOptions{URL: s.URL + "/"})
	_, err := src.Get(t.Context(), "metadata/timestamp.json", 1<<20)
	require.ErrorIs(t, err, update.ErrNetwork)
	require.ErrorContains(t, err, "certificate signed by unknown authority")

	src, err = update.NewSource(update.SourceOptions{URL: s.URL + "/", Fetcher: "/nowhere/socket"})
	require.NoError(t, err)
	_, err = src.Get(t.Context(), "metadata/timestamp.json", 1<<20)
	require.ErrorIs(t, err, update.ErrNetwork)
	require.ErrorContains(t, err, "systemctl status gardu-fetch.socket")
}

// pipes is a listener whose connections are in memory, for a test whose time is not the
// machine's.
type pipes struct {
	conns chan net.Conn
	once  sync.Once
	ended chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.ended:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { p.once.Do(func() { close(p.ended) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipes", Net: "unix"} }

func (p *pipes) dial(context.Context, string, string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case p.conns <- theirs:
		return ours, nil
	case <-p.ended:
		return nil, net.ErrClosed
	}
}

// A fetcher holds the token open, and ends when nobody asks.
func TestAFetcherEndsWhenNobodyAsks(t *testing.T) {
	folder := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(folder, "file"), []byte("0123456789"), 0o600))
	synctest.Test(t, func(t *testing.T) {
		const idle = time.Minute
		network, err := update.NewSource(update.SourceOptions{URL: "file://" + folder})
		require.NoError(t, err)
		l := &pipes{conns: make(chan net.Conn), ended: make(chan struct{})}
		ended := make(chan error, 1)
		go func() { ended <- update.ServeFetches(t.Context(), l, network, idle) }()
		transport := &http.Transport{DialContext: l.dial}
		defer transport.CloseIdleConnections()
		for range 5 {
			q, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://fetcher/file", http.NoBody)
			require.NoError(t, err)
			a, err := (&http.Client{Transport: transport}).Do(q)
			require.NoError(t, err)
			b, err := io.ReadAll(a.Body)
			require.NoError(t, err)
			require.Equal(t, "0123456789", string(b))
			require.NoError(t, a.Body.Close())
			time.Sleep(idle - time.Second)
		}
		select {
		case <-ended:
			require.Fail(t, "it has ended too early")
		default:
		}
		asked := time.Now().Add(time.Second - idle) // for the last time
		require.NoError(t, <-ended)
		require.InDelta(t, idle, time.Since(asked), float64(time.Second))
	})
}
