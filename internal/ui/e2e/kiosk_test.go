//go:build e2e

// Package e2e_test drives the page in Debian's Chromium by touch and by keyboard,
// through every screen in both languages and three sizes, and keeps a picture of
// each in build/screens. With -short it leaves out what only repeats on another size.
package e2e_test

import (
	"context"
	_ "embed"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"gardu/internal/ui"
	"gardu/internal/ui/uitest"
)

const chromium = "/usr/bin/chromium"

// axe-core 4.14.1, Mozilla Public License 2.0, for these tests only.
//
//go:embed axe/axe.min.js
var axe string

//go:embed faults.js
var faults string

// layout is one kind of screen.
type layout struct {
	name          string
	width, height int64
	pxPerMM       float64
	capitals      float64 // mm that capitals of the body have at least
}

var layouts = []layout{
	{"portrait", 1080, 1920, 4.03, 6},  // 21.5 inches upright
	{"landscape", 1920, 1080, 4.03, 6}, // 21.5 inches
	{"terminal", 1280, 800, 3.9, 4.3},  // 15 inches, at arm's length
}

var languages = []ui.Lang{ui.Indonesian, ui.English}

// browser starts one Chromium for a test.
func browser(t *testing.T) context.Context {
	t.Helper()
	opts := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(chromium), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.UserDataDir(t.TempDir()),
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true), chromedp.Flag("hide-scrollbars", false),
	)
	alloc, cancelAlloc := chromedp.NewExecAllocator(context.Background(), opts...)
	ctx, cancel := chromedp.NewContext(alloc)
	t.Cleanup(func() { cancel(); cancelAlloc() })
	require.NoError(t, chromedp.Do(ctx), "start %s", chromium)
	return ctx
}

// kiosk is a server and a tab that shows it.
type kiosk struct {
	t       *testing.T
	ctx     context.Context
	server  *ui.Server
	engine  *uitest.Engine
	addr    string
	layout  layout
	lang    ui.Lang
	options ui.Options
	wires   *cutter
	stop    func() // ends the server
	pads    map[string]point
	mu      sync.Mutex
	console []string
}

type point struct {
	X float64 `json:"x"`
	Y float64 `json:"y"`
}

func newKiosk(t *testing.T, parent context.Context, l layout, change func(*ui.Options)) *kiosk {
	t.Helper()
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	wires := &cutter{Listener: ln}
	engine := uitest.New()
	o := ui.Options{
		Listener: wires, Engine: engine, Staff: uitest.Staff{Code: "77314159", ID: "staff-7"}, Brand: "Bank Nusantara", PxPerMM: l.pxPerMM,
		Log: slog.New(slog.DiscardHandler),
	}
	if change != nil {
		change(&o)
	}
	server, err := ui.New(o)
	require.NoError(t, err)
	engine.Tell(server.RequestChanged, server.LinkChanged)
	k := &kiosk{options: o, t: t, server: server, engine: engine, addr: ln.Addr().String(), layout: l, lang: ui.Indonesian, wires: wires}
	k.stop = serve(t, server)
	k.tab(parent)
	return k
}

// serve runs a server and returns what ends it; the test's end does too.
func serve(t *testing.T, server *ui.Server) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- server.Serve(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			require.NoError(t, <-served)
		})
	}
	t.Cleanup(stop)
	return stop
}

// cutter is a listener whose connections can all be cut.
type cutter struct {
	net.Listener
	mu    sync.Mutex
	conns []net.Conn
}

func (c *cutter) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err == nil {
		c.mu.Lock()
		c.conns = append(c.conns, conn)
		c.mu.Unlock()
	}
	return conn, err
}

func (c *cutter) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range c.conns {
		_ = conn.Close()
	}
	c.conns = nil
}

// sibling is a second tab on the same server.
func (k *kiosk) sibling(parent context.Context) *kiosk {
	k.t.Helper()
	other := &kiosk{t: k.t, server: k.server, engine: k.engine, addr: k.addr, layout: k.layout, lang: ui.Indonesian, stop: k.stop}
	other.tab(parent)
	return other
}

func (k *kiosk) tab(parent context.Context) {
	k.t.Helper()
	ctx, cancel := chromedp.NewContext(parent)
	k.ctx = ctx
	k.t.Cleanup(cancel)
	messages := chromedp.Console(ctx) // starts the tab, which must not happen twice at once
	go func() {
		for m, err := range messages {
			if err != nil {
				return
			}
			k.mu.Lock()
			k.console = append(k.console, fmt.Sprintf("%s: %s (%s:%d)", m.Type, m.Text, m.URL, m.Line))
			k.mu.Unlock()
		}
	}()
	require.NoError(k.t, chromedp.Do(ctx, chromedp.EmulateViewport(k.layout.width, k.layout.height, chromedp.EmulateTouch)))
}

// examine makes axe at home in every page that is loaded from now on.
func (k *kiosk) examine() {
	k.t.Helper()
	_, err := chromedp.Call(k.ctx, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: axe})
	require.NoError(k.t, err)
}

// load opens the page with a ticket.
func (k *kiosk) load() {
	k.t.Helper()
	ticket, err := k.server.IssueTicket()
	require.NoError(k.t, err)
	require.NoError(k.t, chromedp.Do(k.ctx, chromedp.Navigate("http://"+k.addr+"/?ticket="+ticket)))
}

// js evaluates an expression.
func js[T any](k *kiosk, expression string) T {
	k.t.Helper()
	v, err := chromedp.Run(k.ctx, chromedp.Evaluate[T](expression))
	require.NoError(k.t, err, expression)
	return v
}

// awaited evaluates a promise.
func awaited[T any](k *kiosk, expression string) T {
	k.t.Helper()
	v, err := chromedp.Run(k.ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	require.NoError(k.t, err, expression)
	return v
}

// wait polls from here and not in the page, because a wipe loads the page anew.
func (k *kiosk) wait(what, expression string) {
	k.t.Helper()
	k.waitFor(20*time.Second, what, expression)
}

func (k *kiosk) waitFor(limit time.Duration, what, expression string) {
	k.t.Helper()
	deadline := time.Now().Add(limit)
	for {
		v, err := chromedp.Run(k.ctx, chromedp.Evaluate[bool](expression))
		if err == nil && v {
			return
		}
		if time.Now().After(deadline) {
			body, _ := chromedp.Run(k.ctx, chromedp.Evaluate[string](`document.body?.innerText ?? ''`))
			k.t.Fatalf("waited for %s: %v\nconsole: %s\npage: %s", what, err, strings.Join(k.said(), "\n"), body)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// at waits for a screen that is ready to be touched.
func (k *kiosk) at(s ui.State) {
	k.t.Helper()
	k.wait("screen "+string(s), fmt.Sprintf(`(() => { const m = document.querySelector('main'); return m?.dataset.state === %q && m.getAttribute('aria-busy') === 'false' })()`, s))
	k.pads = nil
}

// tap touches a control where a finger would, and only if nothing lies over it.
func (k *kiosk) tap(focus string) {
	k.t.Helper()
	var p struct {
		X    float64 `json:"x"`
		Y    float64 `json:"y"`
		Free bool    `json:"free"`
		Live bool    `json:"live"`
	}
	deadline := time.Now().Add(20 * time.Second)
	for !p.Live {
		var err error
		p, err = chromedp.Run(k.ctx, chromedp.Evaluate[struct {
			X    float64 `json:"x"`
			Y    float64 `json:"y"`
			Free bool    `json:"free"`
			Live bool    `json:"live"`
		}](fmt.Sprintf(`(() => { const e = document.querySelector('[data-focus=%q]'); if (!e || e.disabled || e.closest('[inert]')) return {x: 0, y: 0, free: false, live: false};
			const r = e.getBoundingClientRect(), x = r.x + r.width / 2, y = r.y + r.height / 2; return {x, y, free: e.contains(document.elementFromPoint(x, y)), live: true} })()`, focus)))
		if (err != nil || !p.Live) && time.Now().After(deadline) {
			k.t.Fatalf("waited for the control %s: %v\n%v", focus, err, js[string](k, `document.body.innerText`))
		}
	}
	require.True(k.t, p.Free, "something lies over %s", focus)
	require.NoError(k.t, chromedp.Do(k.ctx, chromedp.TapXY(p.X, p.Y)))
}

// keys types on the page's own keypad by touch; where each key is, is asked once per screen.
func (k *kiosk) keys(text string) {
	k.t.Helper()
	for _, c := range strings.ToLower(text) {
		p, ok := k.pads[string(c)]
		if !ok {
			k.wait("the keypad", fmt.Sprintf(`!!document.querySelector('[data-focus="key-%c"]')`, c))
			k.pads = js[map[string]point](k, `Object.fromEntries([...document.querySelectorAll('.key')].map((e) => { const r = e.getBoundingClientRect(); return [e.dataset.focus.slice(4), {x: r.x + r.width / 2, y: r.y + r.height / 2}] }))`)
			p, ok = k.pads[string(c)]
			require.True(k.t, ok, "there is no key %q", c)
		}
		require.NoError(k.t, chromedp.Do(k.ctx, chromedp.TapXY(p.X, p.Y)))
	}
}

// speak switches to a language, from whatever is shown.
func (k *kiosk) speak(l ui.Lang) {
	k.t.Helper()
	if js[string](k, `document.documentElement.lang`) != string(l) {
		k.tap("do-lang")
	}
	k.wait("language "+string(l), fmt.Sprintf(`document.documentElement.lang === %q`, l))
	k.lang = l
}

// settle lets fonts, focus, layout and what moves come to rest.
func (k *kiosk) settle() {
	k.t.Helper()
	awaited[bool](k, `document.fonts.ready.then(() => { for (const a of document.getAnimations()) { if (a.effect.getTiming().iterations === 1) a.finish(); else { a.pause(); a.currentTime = 0; } } return new Promise((r) => requestAnimationFrame(() => requestAnimationFrame(() => r(true)))) })`)
}

// shot keeps a picture in the usual theme and in that of high contrast, and notes
// what is wrong with each.
func (k *kiosk) shot(name string) {
	k.t.Helper()
	k.settle()
	k.picture(name)
	k.look(name)
	if k.layout.name == "portrait" || !testing.Short() && strings.HasSuffix(name, "-pin") {
		js[bool](k, `(document.documentElement.dataset.theme = 'contrast') === 'contrast'`)
		k.settle()
		k.picture(name + ".contrast")
		k.look(name + ".contrast")
		js[bool](k, `delete document.documentElement.dataset.theme`)
	}
}

func (k *kiosk) picture(name string) {
	k.t.Helper()
	png, err := chromedp.Run(k.ctx, chromedp.CaptureScreenshot())
	require.NoError(k.t, err)
	pictured.Store(shown{ui.State(js[string](k, `document.querySelector('main').dataset.state`)), ui.Lang(js[string](k, `document.documentElement.lang`))}, true)
	dir := filepath.Join(pictures, k.layout.name)
	require.NoError(k.t, os.MkdirAll(dir, 0o755))
	require.NoError(k.t, os.WriteFile(filepath.Join(dir, name+"."+string(k.lang)+".png"), png, 0o644))
}

const axeRun = `(async () => { if (!window.axe) return []; const r = await axe.run(document, { runOnly: { type: 'tag', values: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] }, resultTypes: ['violations'] });
	return r.violations.flatMap((v) => v.nodes.map((n) => v.id + ': ' + n.html.slice(0, 160) + ' ' + (n.any[0] ?? n.all[0] ?? n.none[0])?.message)) })()`

// look holds what is drawn against the design's rules and axe's.
func (k *kiosk) look(name string) {
	k.t.Helper()
	where := k.layout.name + "/" + name + "." + string(k.lang)
	found := js[struct {
		Faults   []string `json:"faults"`
		Capitals *float64 `json:"capitals"`
	}](k, faults)
	for _, f := range found.Faults {
		k.t.Errorf("%s: %s", where, f)
	}
	if found.Capitals != nil && *found.Capitals < k.layout.capitals-0.01 {
		k.t.Errorf("%s: capitals of %.1f mm", where, *found.Capitals)
	}
	for _, v := range awaited[[]string](k, axeRun) {
		k.t.Errorf("%s: axe: %s", where, v)
	}
}

// shown is a screen in a language; pictured are those of which there is a picture.
type shown struct {
	state ui.State
	lang  ui.Lang
}

var pictured sync.Map

const pictures = "../../../build/screens"

// quietConsole wants nothing on the console. A favicon or a blocked script would show here.
func (k *kiosk) quietConsole() {
	k.t.Helper()
	require.Empty(k.t, k.said())
}

// said is what stands on the console.
func (k *kiosk) said() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return append([]string(nil), k.console...)
}

// historyLength is how many pages the tab remembers.
func (k *kiosk) historyLength() int { return js[int](k, `history.length`) }
