package update_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"gardu/internal/update"
)

// serveCut answers a file, from an offset where one is asked for, and cuts the
// connection after so many bytes of it.
func serveCut(w http.ResponseWriter, r *http.Request, b []byte, each int64) {
	from := int64(0)
	if h, ok := strings.CutPrefix(r.Header.Get("Range"), "bytes="); ok {
		from, _ = strconv.ParseInt(strings.TrimSuffix(h, "-"), 10, 64)
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(b)-1, len(b)))
	}
	w.Header().Set("Content-Length", strconv.FormatInt(int64(len(b))-from, 10))
	if from > 0 {
		w.WriteHeader(http.StatusPartialContent)
	}
	n := min(each, int64(len(b))-from)
	_, _ = w.Write(b[from : from+n])
	if from+n < int64(len(b)) {
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
}

// countingListener counts every byte that crosses its connections, and the
// connections.
type countingListener struct {
	net.Listener

	in, out, conns atomic.Int64
}

func (l *countingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.conns.Add(1)
	return &countingConn{c, l}, nil
}

type countingConn struct {
	net.Conn

	l *countingListener
}

func (c *countingConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.l.in.Add(int64(n))
	return n, err
}

func (c *countingConn) Write(b []byte) (int, error) {
	c.l.out.Add(int64(len(b))) // before the other end has it, and somebody there looks
	return c.Conn.Write(b)
}

// listen serves what the publisher's server serves, counted.
func (p *publisher) counted(handler http.Handler) (*countingListener, string) {
	p.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(p.t, err)
	c := &countingListener{Listener: l}
	s := &http.Server{Handler: handler} //nolint:gosec // a test's own
	s.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	go func() { _ = s.Serve(c) }()
	p.t.Cleanup(func() { _ = s.Close() })
	return c, "http://" + l.Addr().String() + "/"
}

// TestAFlakyLink fetches 20 MB over connections that are cut after each megabyte,
// and counts every byte that the host sent, heads included.
func TestAFlakyLink(t *testing.T) {
	const size = 20_000_000
	p := newPublisher(t)
	b := program(1, size)
	p.release("1.0.0", b)
	k := p.trust()
	tg := p.must(k).List()[0]
	l, url := p.counted(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { serveCut(w, r, b, 1<<20) }))
	src, err := update.NewSource(update.SourceOptions{URL: url})
	require.NoError(t, err)
	defer src.Close()
	path, err := update.Download(t.Context(), src, tg, t.TempDir())
	require.NoError(t, err)
	got, err := os.ReadFile(path)
	require.NoError(t, err)
	require.True(t, bytes.Equal(b, got))
	ratio := float64(l.out.Load()+l.in.Load()) / size
	fmt.Printf("LINK 20 MB over a line that is cut each megabyte: %d connections, %.4f of its bytes\n", l.conns.Load(), ratio)
	require.LessOrEqual(t, ratio, 1.05)
	require.GreaterOrEqual(t, l.conns.Load(), int64(size>>20))
}

// In the middle the power goes: what came before stays, and is gone on with.
func TestADownloadGoesOnAfterAPowerCut(t *testing.T) {
	const size = 8 << 20
	p := newPublisher(t)
	b := program(1, size)
	p.release("1.0.0", b)
	tg := p.must(p.trust()).List()[0]
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var sent atomic.Int64
	p.setSpoil(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "/targets/") {
			return false
		}
		if sent.Add(1) == 5 {
			cancel()
			<-r.Context().Done()
			return true
		}
		serveCut(w, r, b, 1<<20)
		return true
	})
	dir := t.TempDir()
	_, err := update.Download(ctx, p.source(), tg, dir)
	require.ErrorIs(t, err, update.ErrNetwork)
	_, err = update.Download(t.Context(), p.source(), tg, dir)
	require.NoError(t, err)
	require.EqualValues(t, 5+4, sent.Load(), "four megabytes were there")
}

// TestACheckWithoutNewsIsSmall counts what the hourly look costs: requests, and
// every byte in both directions.
func TestACheckWithoutNewsIsSmall(t *testing.T) {
	p, m := newPublisher(t), newMachine(t)
	for i, v := range []string{"1.0.0", "1.1.0", "1.2.0"} {
		p.release(v, program(byte(i), 30_000))
	}
	l, url := p.counted(http.HandlerFunc(p.serve))
	_, err := update.New(m.optionsAt(p, url)).Run(t.Context(), update.How{})
	require.NoError(t, err)
	require.Equal(t, "1.2.0", m.running)
	p.requests()
	in, out := l.in.Load(), l.out.Load()
	o := m.optionsAt(p, url)
	rep, err := update.New(o).Run(t.Context(), update.How{})
	require.NoError(t, err)
	require.Equal(t, update.CodeUpToDate, rep.Reason.Code)
	asked := p.requests()
	in, out = l.in.Load()-in, l.out.Load()-out
	fmt.Printf("CHECK without news: %d requests, %d bytes sent, %d received (HTTP with heads, below TLS)\n", len(asked), in, out)
	require.LessOrEqual(t, len(asked), 2)
	require.LessOrEqual(t, in+out, int64(2<<10))
	require.EqualValues(t, len(asked), rep.Requests)
}

// A host that does not resume costs more, but ends.
func TestAHostThatCannotResume(t *testing.T) {
	p := newPublisher(t)
	b := program(1, 500_000)
	p.release("1.0.0", b)
	tg := p.must(p.trust()).List()[0]
	cuts := 3
	p.setSpoil(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "/targets/") {
			return false
		}
		w.Header().Set("Content-Length", strconv.Itoa(len(b)))
		n := len(b)
		if cuts > 0 {
			n = 400_000 - 100_000*cuts + 50_000
			cuts--
		}
		_, _ = w.Write(b[:n])
		return true
	})
	path, err := update.Download(t.Context(), p.source(), tg, t.TempDir())
	require.NoError(t, err)
	got, err := os.ReadFile(path)
	require.NoError(t, err)
	require.True(t, bytes.Equal(b, got))
}

// What a power cut left may be damaged: then it is fetched again, once.
func TestADamagedPartIsFetchedAgain(t *testing.T) {
	p := newPublisher(t)
	b := program(1, 300_000)
	p.release("1.0.0", b)
	tg := p.must(p.trust()).List()[0]
	for name, left := range map[string][]byte{
		"zeros":    make([]byte, 200_000),
		"too long": bytes.Repeat([]byte("x"), 400_000),
		"full":     make([]byte, 300_000),
		"good":     b[:200_000],
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			require.NoError(t, os.WriteFile(filepath.Join(dir, tg.SHA256+".part"), left, 0o600))
			path, err := update.Download(t.Context(), p.source(), tg, dir)
			require.NoError(t, err)
			f, err := os.Open(path)
			require.NoError(t, err)
			defer func() { _ = f.Close() }()
			got, err := io.ReadAll(f)
			require.NoError(t, err)
			require.True(t, bytes.Equal(b, got))
		})
	}
}
