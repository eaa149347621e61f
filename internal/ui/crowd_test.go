package ui_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/require"

	"gardu/internal/ui"
)

// As many as the server holds in these tests.
const held = 30

// A crowd that asks for nothing makes room for who does, oldest first, and the page
// that is there stays.
func TestIdlersMakeRoom(t *testing.T) {
	r := newRig(t, func(o *ui.Options) { o.MaxConns = held })
	p := r.open()
	p.at(ui.Attract)
	conns := make([]net.Conn, 0, 2*held)
	defer func() {
		for _, c := range conns {
			_ = c.Close()
		}
	}()
	for range 2 * held {
		c, err := r.dial(t.Context(), "tcp", r.addr)
		require.NoError(t, err)
		conns = append(conns, c)
	}
	// Those that came first were asked to leave; the last ones can still ask.
	require.NoError(t, conns[0].SetReadDeadline(time.Now().Add(time.Minute)))
	_, err := conns[0].Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF)
	last := conns[len(conns)-1]
	_, err = fmt.Fprintf(last, "GET /healthz HTTP/1.1\r\nHost: %s\r\n\r\n", r.addr)
	require.NoError(t, err)
	res, err := http.ReadResponse(bufio.NewReader(last), nil)
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	require.Equal(t, http.StatusOK, res.StatusCode)
	p.do("start")
	p.at(ui.Home)
	fresh := r.open()
	fresh.at(ui.Home)
	require.Contains(t, r.log.String(), "too many connections")
	require.Equal(t, 1, strings.Count(r.log.String(), "too many connections"), "said once, not a thousand times")
}

// Where every connection is busy, a new one is told so, and comes in as soon as one
// of them has ended.
func TestBusyCrowdIsFull(t *testing.T) {
	r := newRig(t, func(o *ui.Options) { o.MaxConns = held })
	cookie := r.cookie()
	p := r.openWith(cookie, r.token(cookie), "", 0)
	p.at(ui.Attract)
	var conns []*websocket.Conn
	defer func() {
		for _, c := range conns {
			_ = c.Close()
		}
	}()
	ask := func() (int, string) {
		c, err := r.dial(t.Context(), "tcp", r.addr)
		require.NoError(t, err)
		defer func() { _ = c.Close() }()
		_, _ = fmt.Fprintf(c, "GET /healthz HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", r.addr)
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		require.NoError(t, err)
		defer func() { _ = res.Body.Close() }()
		body, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		return res.StatusCode, string(body)
	}
	for range held - 1 { // sockets of who has the cookie, and time to say hello
		// A connection that the page came by has its answer, and may still have its place.
		require.Eventually(t, func() bool {
			c, _, err := r.socket(cookie, nil)
			if err == nil {
				conns = append(conns, c)
			}
			return err == nil
		}, time.Minute, 5*time.Millisecond)
	}
	status, body := ask()
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.Contains(t, body, "close some, try again")
	p.do("start") // who is there goes on
	p.at(ui.Home)
	for _, c := range conns {
		_ = c.Close()
	}
	require.Eventually(t, func() bool { status, _ = ask(); return status == http.StatusOK }, 30*time.Second, 20*time.Millisecond)
}
