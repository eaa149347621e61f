package ui_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/require"

	"gardu/internal/ui"
)

// caller is who comes to the door in one row of the matrix: on his way to a socket
// that is in charge, everything is right but what the row changes.
type caller struct {
	r             *rig
	cookie, token string
	change        func(*websocket.Dialer, http.Header)
	hello         string // in place of the usual one
	after         []byte // sent when the first documents have come
	kind          int
}

// knock returns the refused status or the close code, 0 where the caller got in.
func (c *caller) knock(t *testing.T) int {
	t.Helper()
	ws, res, err := c.r.socket(c.cookie, c.change)
	if err != nil {
		require.NotNil(t, res, err)
		return res.StatusCode
	}
	defer func() { _ = ws.Close() }()
	if c.hello == "" {
		c.hello = fmt.Sprintf(`{"type":"hello","token":%q,"lang":"id"}`, c.token)
	}
	require.NoError(t, ws.WriteMessage(websocket.TextMessage, []byte(c.hello)))
	require.NoError(t, ws.SetReadDeadline(time.Now().Add(time.Minute)))
	_, _, err = ws.ReadMessage()
	if err == nil && c.after != nil {
		require.NoError(t, ws.WriteMessage(max(c.kind, websocket.TextMessage), c.after))
		for err == nil {
			_, _, err = ws.ReadMessage()
		}
	}
	if err == nil {
		return 0
	}
	var ce *websocket.CloseError
	require.ErrorAs(t, err, &ce)
	return ce.Code
}

// The rules of "Loopback is not a wall", one row each. The first row shows that the
// caller of the others would get in.
func TestSecurityMatrix(t *testing.T) {
	origin := func(o string) func(*caller) {
		return func(c *caller) {
			c.change = func(_ *websocket.Dialer, h http.Header) {
				h.Del("Origin")
				if o != "" {
					h.Set("Origin", o)
				}
			}
		}
	}
	header := func(name, value string) func(*caller) {
		return func(c *caller) {
			c.change = func(_ *websocket.Dialer, h http.Header) { h.Set(name, value) }
		}
	}
	frame := func(kind int, b string) func(*caller) {
		return func(c *caller) { c.kind, c.after = kind, []byte(b) }
	}
	for _, row := range []struct {
		name  string
		spoil func(*caller)
		want  int
	}{
		{"nothing wrong", func(*caller) {}, 0},
		{"wrong host", header("Host", "evil.example"), 421},
		{"host by name", header("Host", "localhost"), 421},
		{"no origin", origin(""), 403},
		{"foreign origin", origin("http://evil.example"), 403},
		{"opaque origin", origin("null"), 403},
		{"https origin", func(c *caller) { origin("https://" + c.r.addr)(c) }, 403},
		{"another loopback port with our cookie", origin("http://127.0.0.1:9"), 403},
		{"fetched by another site", header("Sec-Fetch-Site", "same-site"), 403},
		{"no cookie", func(c *caller) { c.cookie = "" }, 403},
		{"invented cookie", func(c *caller) { c.cookie = "gardu_screen=" + strings.Repeat("A", 54) }, 403},
		{"void cookie", func(c *caller) { c.r.cookie() }, 403},
		{"no subprotocol", func(c *caller) {
			c.change = func(d *websocket.Dialer, _ http.Header) { d.Subprotocols = nil }
		}, 400},
		{"cookie without page token", func(c *caller) { c.hello = `{"type":"hello","token":"","lang":"id"}` }, 4001},
		{"no hello", func(c *caller) { c.hello = `{"type":"activity","session":"s"}` }, 4001},
		{"invented page token", func(c *caller) { c.token = strings.Repeat("A", 43) }, 4001},
		{"older page", func(c *caller) {
			c.r.openWith(c.cookie, c.r.token(c.cookie), "", 0).at(ui.Attract)
		}, 4009},
		{"oversized frame", frame(websocket.TextMessage, `{"type":"ack","id":"`+strings.Repeat("a", 8<<10)+`"}`), 1009},
		{"malformed frame", frame(websocket.TextMessage, `{"type":"ack"`), 4002},
		{"unknown field", frame(websocket.TextMessage, `{"type":"ack","id":"a","x":"1"}`), 4002},
		{"binary frame", frame(websocket.BinaryMessage, `{"type":"ack","id":"a"}`), 1003},
		{"not UTF-8", frame(websocket.TextMessage, "{\"type\":\"ack\",\"id\":\"\xff\"}"), 1007},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := newRig(t, nil)
			c := &caller{r: r, cookie: r.cookie()}
			c.token = r.token(c.cookie)
			row.spoil(c)
			require.Equal(t, row.want, c.knock(t))
		})
	}
}

// Everything that is not a read needs the exact origin, whatever it is and wherever.
func TestNothingIsDoneWithoutOurOrigin(t *testing.T) {
	r := newRig(t, nil)
	cookie := r.cookie()
	for _, method := range []string{"POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE", "PROPFIND"} {
		for _, path := range []string{"/", "/ws", "/code", "/healthz", "/app.js", "/nowhere"} {
			for _, origin := range []string{"", "null", "http://evil.example", "http://localhost:1", "http://127.0.0.1:1"} {
				res, _ := r.ask(method, path, cookie, func(q *http.Request) {
					q.Header.Del("Origin")
					if origin != "" {
						q.Header.Set("Origin", origin)
					}
				})
				require.Equal(t, http.StatusForbidden, res.StatusCode, "%s %s from %q", method, path, origin)
			}
		}
	}
}

// A ticket that was used, or comes late, opens nothing, and nothing else than GET
// uses one up.
func TestTicketsAtTheDoor(t *testing.T) {
	r := newRig(t, nil)
	ticket, err := r.server.IssueTicket()
	require.NoError(t, err)
	res, _ := r.ask(http.MethodHead, "/?ticket="+ticket, "", nil)
	require.Equal(t, http.StatusForbidden, res.StatusCode, "looking ahead uses nothing up")
	res, _ = r.get("/?ticket="+ticket, "", nil)
	require.Equal(t, http.StatusSeeOther, res.StatusCode)
	res, _ = r.get("/?ticket="+ticket, "", nil)
	require.Equal(t, http.StatusForbidden, res.StatusCode, "replayed")
	require.Empty(t, res.Header.Get("Set-Cookie"))
	r = newRig(t, func(o *ui.Options) { o.TicketLife = time.Millisecond })
	late, err := r.server.IssueTicket()
	require.NoError(t, err)
	time.Sleep(10 * time.Millisecond)
	res, _ = r.get("/?ticket="+late, "", nil)
	require.Equal(t, http.StatusForbidden, res.StatusCode, "late")
}

// 1,000 connections that say nothing cost a bounded memory, end by themselves, and do
// not keep the real screen out.
func TestIdleConnectionsKeepNobodyOut(t *testing.T) {
	const crowd = 1000
	r := newRig(t, func(o *ui.Options) { o.Timeouts.Hello = 8 * time.Second })
	kiosk := r.open()
	kiosk.at(ui.Attract)
	memory := func() (n int64) {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc + m.StackInuse)
	}
	before := memory()
	conns := make([]net.Conn, 0, crowd)
	defer func() {
		for _, c := range conns {
			_ = c.Close()
		}
	}()
	cookie := r.cookie() // also half of them as sockets that never say hello
	for i := range crowd {
		c, err := r.dial(t.Context(), "tcp", r.addr)
		require.NoError(t, err, "connection %d", i)
		conns = append(conns, c)
		if i%2 == 0 {
			_, err = fmt.Fprintf(c, "GET /ws HTTP/1.1\r\nHost: %[1]s\r\nOrigin: http://%[1]s\r\nCookie: %[2]s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: %[3]s\r\n\r\n", r.addr, cookie, ui.Subprotocol)
			require.NoError(t, err)
		}
	}
	// A socket that has not been answered before the next page gets its cookie is refused, and then keeps its connection for longer.
	for i := 0; i < crowd; i += 2 {
		require.NoError(t, conns[i].SetReadDeadline(time.Now().Add(time.Minute)))
		answer := make([]byte, len("HTTP/1.1 101 "))
		_, err := io.ReadFull(conns[i], answer)
		require.NoError(t, err, "connection %d", i)
		require.Equal(t, "HTTP/1.1 101 ", string(answer))
	}
	grown := memory() - before
	t.Logf("%d idle connections: %d KiB", crowd, grown>>10)
	require.Less(t, grown, int64(48<<20), "memory of %d idle connections", crowd)
	fresh := r.open()
	fresh.at(ui.Attract)
	fresh.do("start")
	fresh.at(ui.Home)

	var wait sync.WaitGroup
	for i, c := range conns {
		wait.Go(func() {
			_ = c.SetReadDeadline(time.Now().Add(time.Minute))
			b := make([]byte, 4096)
			var err error
			for err == nil {
				_, err = c.Read(b)
			}
			var slow net.Error
			if ok := errors.As(err, &slow); ok && slow.Timeout() {
				t.Errorf("connection %d is still open", i)
			}
		})
	}
	wait.Wait()
	for range 1200 {
		if memory()-before < 4<<20 {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	require.Less(t, memory()-before, int64(4<<20), "what ended gave its memory back")
	require.Equal(t, ui.Home, fresh.session().State)
}
