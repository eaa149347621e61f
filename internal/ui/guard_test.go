package ui_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/require"

	"gardu/internal/ui"
)

func TestOnlyTheExactHostIsServed(t *testing.T) {
	r := newRig(t, nil)
	port := r.addr[strings.LastIndex(r.addr, ":"):]
	for _, host := range []string{"localhost" + port, "127.0.0.1", "127.0.0.1:1", "127.0.0.2" + port, "[::1]" + port, "evil.example", "evil.example" + port, "127.0.0.1." + port} {
		for _, path := range []string{"/", "/healthz", "/app.js", "/ws", "/nowhere"} {
			res, _ := r.get(path, "", func(q *http.Request) { q.Host = host })
			require.Equal(t, http.StatusMisdirectedRequest, res.StatusCode, "%s %s", host, path)
		}
	}
}

func TestForeignOriginsAreRefused(t *testing.T) {
	r := newRig(t, nil)
	cookie := r.cookie()
	own := "http://" + r.addr
	for _, c := range []struct {
		name, method, path, origin, site string
		want                             int
	}{
		{"plain read", "GET", "/app.js", "", "", 200},
		{"own read", "GET", "/app.js", own, "same-origin", 200},
		{"typed address", "GET", "/", "", "none", 200},
		{"foreign read", "GET", "/", "http://evil.example", "cross-site", 403},
		{"foreign read of an asset", "GET", "/app.js", "http://evil.example", "", 403},
		{"link from elsewhere", "GET", "/", "", "cross-site", 403},
		{"another port of this host", "GET", "/", "http://127.0.0.1:1", "same-site", 403},
		{"same host by another name", "GET", "/", "http://localhost", "", 403},
		{"secure twin", "GET", "/", "https://" + r.addr, "", 403},
		{"null", "GET", "/", "null", "", 403},
		{"write without origin", "POST", "/", "", "", 403},
		{"foreign write", "POST", "/", "http://evil.example", "", 403},
		{"own write", "POST", "/", own, "same-origin", 405},
		{"own delete", "DELETE", "/healthz", own, "", 405},
		{"preflight", "OPTIONS", "/", "http://evil.example", "cross-site", 403},
		{"own write to nothing", "POST", "/nothing", own, "", 404},
		{"nothing", "GET", "/nothing", "", "", 404},
		{"no way up", "GET", "/../server.go", "", "", 404},
		{"template is no file", "GET", "/index.html", "", "", 404},
	} {
		t.Run(c.name, func(t *testing.T) {
			res, body := r.ask(c.method, c.path, cookie, func(q *http.Request) {
				if c.origin != "" {
					q.Header.Set("Origin", c.origin)
				}
				if c.site != "" {
					q.Header.Set("Sec-Fetch-Site", c.site)
				}
			})
			require.Equal(t, c.want, res.StatusCode, body)
			if c.want == http.StatusMethodNotAllowed {
				require.Equal(t, "GET, HEAD", res.Header.Get("Allow"))
			}
			for name := range res.Header {
				require.False(t, strings.HasPrefix(name, "Access-Control-"), "no CORS, ever")
			}
		})
	}
}

func TestEveryAnswerIsLockedDown(t *testing.T) {
	r := newRig(t, nil)
	cookie := r.cookie()
	for _, path := range []string{"/", "/app.js", "/gardu.css", "/brand.css", "/fonts/next.woff2", "/sounds/key.wav", "/speech/id/ATTRACT.title/0", "/screens.json", "/icon.svg", "/healthz", "/nowhere"} {
		res, _ := r.get(path, cookie, nil)
		h := res.Header
		csp := h.Get("Content-Security-Policy")
		for _, part := range []string{"default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'none'", "require-trusted-types-for 'script'", "trusted-types 'none'"} {
			require.Contains(t, csp, part, path)
		}
		require.NotContains(t, csp, "unsafe")
		require.NotContains(t, csp, "*")
		require.Equal(t, "same-origin", h.Get("Cross-Origin-Opener-Policy"))
		require.Equal(t, "same-origin", h.Get("Cross-Origin-Resource-Policy"))
		require.Equal(t, "nosniff", h.Get("X-Content-Type-Options"))
		require.Equal(t, "no-referrer", h.Get("Referrer-Policy"))
		require.Equal(t, "no-store", h.Get("Cache-Control"))
		require.Contains(t, h.Get("Permissions-Policy"), "camera=()")
	}
}

func TestPageHasNoInlineCode(t *testing.T) {
	r := newRig(t, func(o *ui.Options) { o.Brand = `<script>"&'` })
	cookie := r.cookie()
	_, body := r.get("/", cookie, nil)
	require.NotContains(t, body, `<script>"`)
	require.Equal(t, 1, strings.Count(body, "<script"))
	require.NotContains(t, body, "style=")
	require.NotContains(t, body, " on")
	_, css := r.get("/brand.css", "", nil)
	require.Contains(t, css, ":root{--mm:4.000px;--brand:#0b4f6c;")
}

func TestTicketWorksOnce(t *testing.T) {
	r := newRig(t, nil)
	ticket, err := r.server.IssueTicket()
	require.NoError(t, err)
	res, _ := r.ask(http.MethodHead, "/?ticket="+ticket, "", nil)
	require.Equal(t, http.StatusForbidden, res.StatusCode, "only GET redeems")
	res, _ = r.get("/?ticket="+ticket, "", nil)
	require.Equal(t, http.StatusSeeOther, res.StatusCode)
	set := res.Header.Get("Set-Cookie")
	for _, part := range []string{"HttpOnly", "SameSite=Strict", "Path=/"} {
		require.Contains(t, set, part)
	}
	require.NotContains(t, set, "Max-Age")
	require.NotContains(t, set, ticket)
	res, body := r.get("/?ticket="+ticket, "", nil)
	require.Equal(t, http.StatusForbidden, res.StatusCode, "a used ticket")
	require.Contains(t, body, "gardu ui ticket", "the refusal says what to do")
	res, _ = r.get("/?ticket=nonsense", strings.SplitN(set, ";", 2)[0], nil)
	require.Equal(t, http.StatusForbidden, res.StatusCode, "a cookie does not make a wrong ticket right")
	require.NotContains(t, r.log.String(), ticket)
}

func TestTicketEndsAfterHalfAMinute(t *testing.T) {
	for _, c := range []struct {
		name string
		wait time.Duration
		want int
	}{{"in time", 29 * time.Second, http.StatusSeeOther}, {"late", 31 * time.Second, http.StatusForbidden}} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newBubbleRig(t, nil)
				ticket, err := r.server.IssueTicket()
				require.NoError(t, err)
				time.Sleep(c.wait)
				res, _ := r.get("/?ticket="+ticket, "", nil)
				require.Equal(t, c.want, res.StatusCode)
				r.stop()
			})
		})
	}
}

func TestOnlyTheLastTicketsAreKept(t *testing.T) {
	r := newRig(t, nil)
	first, err := r.server.IssueTicket()
	require.NoError(t, err)
	for range 16 {
		_, err := r.server.IssueTicket()
		require.NoError(t, err)
	}
	res, _ := r.get("/?ticket="+first, "", nil)
	require.Equal(t, http.StatusForbidden, res.StatusCode)
}

func TestCookieIsNeededAndTheNewestCounts(t *testing.T) {
	r := newRig(t, nil)
	res, body := r.get("/", "", nil)
	require.Equal(t, http.StatusForbidden, res.StatusCode)
	require.Contains(t, body, "gardu ui ticket")
	for _, bad := range []string{"gardu_screen=", "gardu_screen=x", "gardu_screen=" + strings.Repeat("A", 54)} {
		res, _ = r.get("/", bad, nil)
		require.Equal(t, http.StatusForbidden, res.StatusCode, bad)
	}
	old, fresh := r.cookie(), r.cookie()
	res, _ = r.get("/", old, nil)
	require.Equal(t, http.StatusForbidden, res.StatusCode, "an older cookie is void")
	res, _ = r.get("/", fresh, nil)
	require.Equal(t, http.StatusOK, res.StatusCode)
	res, _ = r.get("/", fresh+"; "+fresh, nil)
	require.Equal(t, http.StatusForbidden, res.StatusCode, "two cookies of one name are nobody's")
}

func TestCookieSurvivesARestartWithTheSameKey(t *testing.T) {
	key := []byte(strings.Repeat("k", 32))
	first := newRig(t, func(o *ui.Options) { o.CookieKey = key })
	cookie := first.cookie()
	same := newRig(t, func(o *ui.Options) { o.CookieKey = key })
	other := newRig(t, nil)
	res, _ := same.get("/", cookie, nil)
	require.Equal(t, http.StatusOK, res.StatusCode)
	res, _ = other.get("/", cookie, nil)
	require.Equal(t, http.StatusForbidden, res.StatusCode)
}

func TestHealthz(t *testing.T) {
	r := newRig(t, nil)
	ask := func() (int, map[string]any) {
		res, body := r.get("/healthz", "", nil)
		var m map[string]any
		require.NoError(t, json.Unmarshal([]byte(body), &m))
		return res.StatusCode, m
	}
	status, m := ask()
	require.Equal(t, 200, status)
	require.Equal(t, map[string]any{"status": "ok", "screen": false}, m)
	p := r.open()
	p.at(ui.Attract)
	r.server.SetHealth(ui.Health{Reason: "token_absent", Hint: "plug it in"})
	p.at(ui.OutOfService)
	status, m = ask()
	require.Equal(t, 503, status)
	require.Equal(t, map[string]any{"status": "out_of_service", "reason": "token_absent", "hint": "plug it in", "screen": true}, m)
}

func TestSocketsFromElsewhereAreRefused(t *testing.T) {
	r := newRig(t, nil)
	cookie := r.cookie()
	for _, c := range []struct {
		name   string
		change func(*websocket.Dialer, http.Header)
		want   int
	}{
		{"no origin", func(_ *websocket.Dialer, h http.Header) { h.Del("Origin") }, 403},
		{"foreign origin", func(_ *websocket.Dialer, h http.Header) { h.Set("Origin", "http://evil.example") }, 403},
		// Browsers send our cookie to and from every port of the host.
		{"another port with our cookie", func(_ *websocket.Dialer, h http.Header) { h.Set("Origin", "http://127.0.0.1:1") }, 403},
		{"rebound host", func(_ *websocket.Dialer, h http.Header) { h.Set("Host", "evil.example") }, 421},
		{"no cookie", func(_ *websocket.Dialer, h http.Header) { h.Del("Cookie") }, 403},
		{"no subprotocol", func(d *websocket.Dialer, _ http.Header) { d.Subprotocols = nil }, 400},
		{"another subprotocol", func(d *websocket.Dialer, _ http.Header) { d.Subprotocols = []string{"gardu.v2"} }, 400},
	} {
		t.Run(c.name, func(t *testing.T) {
			ws, res, err := r.socket(cookie, c.change)
			if ws != nil {
				_ = ws.Close()
			}
			require.Error(t, err)
			require.Equal(t, c.want, res.StatusCode)
		})
	}
	ws, res, err := r.socket(cookie, func(d *websocket.Dialer, _ http.Header) { d.Subprotocols = []string{"x", ui.Subprotocol} })
	require.NoError(t, err)
	require.Equal(t, ui.Subprotocol, res.Header.Get("Sec-Websocket-Protocol"))
	require.NoError(t, ws.Close())
	res, _ = r.get("/ws", cookie, func(q *http.Request) { q.Header.Set("Origin", "http://"+r.addr) })
	require.Equal(t, http.StatusBadRequest, res.StatusCode, "a plain read of the socket's address")
}

func TestNewRefusesWhatCannotBeServed(t *testing.T) {
	fine := ui.Options{Addr: "127.0.0.1:8080", Brand: "Bank", PxPerMM: 4}
	_, err := ui.New(fine)
	require.NoError(t, err)
	for _, c := range []struct {
		name   string
		change func(*ui.Options)
		want   error
	}{
		{"every interface", func(o *ui.Options) { o.Addr = "0.0.0.0:8080" }, ui.ErrNotLoopback},
		{"no address", func(o *ui.Options) { o.Addr = ":8080" }, ui.ErrNotLoopback},
		{"a name", func(o *ui.Options) { o.Addr = "localhost:8080" }, ui.ErrNotLoopback},
		{"IPv6", func(o *ui.Options) { o.Addr = "[::1]:8080" }, ui.ErrNotLoopback},
		{"another loopback address", func(o *ui.Options) { o.Addr = "127.0.0.2:8080" }, ui.ErrNotLoopback},
		{"no port", func(o *ui.Options) { o.Addr = "127.0.0.1:0" }, ui.ErrNotLoopback},
		{"no brand", func(o *ui.Options) { o.Brand = "" }, ui.ErrBrand},
		{"no scale", func(o *ui.Options) { o.PxPerMM = 0 }, ui.ErrPxPerMM},
		{"a short key", func(o *ui.Options) { o.CookieKey = []byte("short") }, ui.ErrCookieKey},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := fine
			c.change(&o)
			_, err := ui.New(o)
			require.ErrorIs(t, err, c.want)
		})
	}
}
