package ui_test

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/require"

	"gardu/internal/txn"
	"gardu/internal/ui"
	"gardu/internal/ui/uitest"
)

func aFigure(t *testing.T) {
	t.Helper()
	if os.Getenv("GARDU_BENCH") != "1" {
		t.Skip("a figure: set GARDU_BENCH=1, or run `make bench`")
	}
}

// p99 is in microseconds.
func p99(took []time.Duration) float64 {
	slices.Sort(took)
	return float64(took[len(took)*99/100].Nanoseconds()) / 1000
}

// TestFigurePush measures from the moment a request's new state is on the disk, when the
// engine says so, to the frame at the client: desk, documents, board and writer. Beside
// it a bare gorilla server that echoes a frame of the same size over the same loopback,
// by turns.
func TestFigurePush(t *testing.T) {
	aFigure(t)
	const rounds = 5000
	r := newRig(t, nil)
	p := r.open()
	id := p.toWorking(r.engine, txn.FinpayResetPIN)
	r.engine.Move(id, uitest.Send)
	require.NoError(t, p.ws.Close())
	cookie := r.cookie()
	ours, _, err := r.socket(cookie, nil)
	require.NoError(t, err)
	defer func() { _ = ours.Close() }()
	require.NoError(t, ours.WriteJSON(map[string]string{"type": "hello", "token": r.token(cookie), "lang": "id"}))
	// The request's document changes once a round; its frame has the code in it.
	push := func(n int) (time.Duration, []byte) {
		code := fmt.Sprintf("code-%d-", n)
		began := time.Now()
		r.engine.Move(id, func(q *txn.Request) { q.Code = code })
		for {
			_, b, err := ours.ReadMessage()
			require.NoError(t, err)
			if strings.Contains(string(b), code) {
				return time.Since(began), b
			}
		}
	}
	_, sample := push(0)

	up := websocket.Upgrader{}
	echo := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		ws, err := up.Upgrade(w, q, nil)
		if err != nil {
			return
		}
		defer func() { _ = ws.Close() }()
		for {
			kind, b, err := ws.ReadMessage()
			if err != nil || ws.WriteMessage(kind, b) != nil {
				return
			}
		}
	}))
	defer echo.Close()
	bare, res, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(echo.URL, "http"), nil)
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	defer func() { _ = bare.Close() }()

	var mine, reference []time.Duration
	for n := range rounds {
		took, _ := push(n + 1)
		began := time.Now()
		require.NoError(t, bare.WriteMessage(websocket.TextMessage, sample))
		_, _, err := bare.ReadMessage()
		require.NoError(t, err)
		if n >= rounds/10 { // what comes before warms both
			mine, reference = append(mine, took), append(reference, time.Since(began))
		}
	}
	a, b := p99(mine), p99(reference)
	t.Logf("median %.1f us, reference %.1f us", p50(mine), p50(reference))
	fmt.Printf("BENCH ui_push_p99 ratio=%.2f ours=%.0f us reference=%.0f us\n", a/b, a, b)
	require.LessOrEqual(t, a/b, 2.0, "a frame of %d bytes", len(sample))
}

var asked = regexp.MustCompile(`(?:href|src)="(/[^"]+)"|from '\./([^']+)'`)

// TestFigurePage measures what a kiosk waits for and what goes over the wire: from the
// start of the screen's server, and from a reload, to the first documents, with every
// file that the page names asked for on the way, over one connection as a browser has.
// The reference is the budget: 150 KB compressed without sounds, and one second.
func TestFigurePage(t *testing.T) {
	aFigure(t)
	const rounds = 15
	var starts, reloads []time.Duration
	var bytes int64
	for range rounds {
		began := time.Now()
		r := newRig(t, nil)
		cookie := r.cookie()
		bytes = r.load(cookie)
		starts = append(starts, time.Since(began))
		began = time.Now()
		require.Equal(t, bytes, r.load(cookie))
		reloads = append(reloads, time.Since(began))
		r.stop()
	}
	ms := func(d []time.Duration) float64 {
		slices.Sort(d)
		return float64(d[len(d)/2].Microseconds()) / 1000
	}
	fmt.Printf("BENCH ui_page_after_start ratio=%.3f ours=%.1f ms reference=1000 ms\n", ms(starts)/1000, ms(starts))
	fmt.Printf("BENCH ui_page_after_reload ratio=%.3f ours=%.1f ms reference=1000 ms\n", ms(reloads)/1000, ms(reloads))
	fmt.Printf("BENCH ui_page_wire ratio=%.3f ours=%.1f KB reference=150 KB\n", float64(bytes)/150e3, float64(bytes)/1000)
	require.LessOrEqual(t, bytes, int64(150_000))
}

// load asks for the page and everything it names, and waits for the first documents. It
// returns the bytes that came over the wire.
func (r *rig) load(cookie string) int64 {
	wire := &counted{dial: r.dial}
	client := &http.Client{Transport: &http.Transport{DialContext: wire.dialContext, DisableCompression: true}}
	defer client.CloseIdleConnections()
	token := ""
	queue, seen := []string{"/", "/screens.json"}, map[string]bool{}
	for len(queue) > 0 {
		path := queue[0]
		queue = queue[1:]
		if seen[path] || path == "/favicon.ico" {
			continue
		}
		seen[path] = true
		q, err := http.NewRequestWithContext(context.Background(), http.MethodGet, "http://"+r.addr+path, nil)
		require.NoError(r.t, err)
		q.Header.Set("Cookie", cookie)
		q.Header.Set("Accept-Encoding", "gzip")
		res, err := client.Do(q)
		require.NoError(r.t, err)
		require.Equal(r.t, http.StatusOK, res.StatusCode, path)
		body := unzipped(r.t, res)
		if path == "/" {
			token = tokenInPage.FindStringSubmatch(body)[1]
		}
		for _, m := range asked.FindAllStringSubmatch(body, -1) {
			queue = append(queue, "/"+strings.TrimPrefix(m[1]+m[2], "/"))
		}
	}
	ws, _, err := r.socket(cookie, func(d *websocket.Dialer, _ http.Header) { d.NetDialContext = wire.dialContext })
	require.NoError(r.t, err)
	defer func() { _ = ws.Close() }()
	require.NoError(r.t, ws.WriteJSON(map[string]string{"type": "hello", "token": token, "lang": "id"}))
	for {
		var f frame
		require.NoError(r.t, ws.ReadJSON(&f))
		var s sessionDoc
		if js := f.State["session"]; js != nil {
			require.NoError(r.t, json.Unmarshal(js, &s))
		}
		if s.State == ui.Attract {
			return wire.n.Load()
		}
	}
}

// counted counts what comes over its connections.
type counted struct {
	dial func(context.Context, string, string) (net.Conn, error)
	n    atomic.Int64
}

func (c *counted) dialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := c.dial(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return &countedConn{conn, &c.n}, nil
}

type countedConn struct {
	net.Conn
	n *atomic.Int64
}

func (c *countedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.n.Add(int64(n))
	return n, err
}

func unzipped(t testing.TB, res *http.Response) string {
	defer func() { _ = res.Body.Close() }()
	var from io.Reader = res.Body
	if res.Header.Get("Content-Encoding") == "gzip" {
		z, err := gzip.NewReader(res.Body)
		require.NoError(t, err)
		from = z
	}
	b, err := io.ReadAll(from)
	require.NoError(t, err)
	return string(b)
}

// p50 is in microseconds, of what p99 has sorted.
func p50(sorted []time.Duration) float64 {
	return float64(sorted[len(sorted)/2].Nanoseconds()) / 1000
}
