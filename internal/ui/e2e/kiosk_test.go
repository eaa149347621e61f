//go:build e2e

// Package e2e_test drives the page in Debian's Chromium by touch, through every
// screen in both languages and three sizes, and keeps a picture of each in
// build/screens.
package e2e_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"gardu/internal/ui"
	"gardu/internal/ui/uitest"
)

const chromium = "/usr/bin/chromium"

// layout is one kind of screen.
type layout struct {
	name          string
	width, height int64
	pxPerMM       float64
}

var layouts = []layout{
	{"portrait", 1080, 1920, 4.03},  // 21.5 inches upright
	{"landscape", 1920, 1080, 4.03}, // 21.5 inches
	{"terminal", 1280, 800, 3.9},    // 15 inches
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
	stop    func() // ends the server
	mu      sync.Mutex
	console []string
}

func newKiosk(t *testing.T, parent context.Context, l layout, change func(*ui.Options)) *kiosk {
	t.Helper()
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	engine := uitest.New()
	o := ui.Options{
		Listener: ln, Engine: engine, Staff: uitest.Staff{Code: "77314159", ID: "staff-7"}, Brand: "Bank Nusantara", PxPerMM: l.pxPerMM,
		Log: slog.New(slog.DiscardHandler),
	}
	if change != nil {
		change(&o)
	}
	server, err := ui.New(o)
	require.NoError(t, err)
	engine.Tell(server.RequestChanged, server.LinkChanged)
	serve, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- server.Serve(serve) }()
	var once sync.Once
	k := &kiosk{options: o, t: t, server: server, engine: engine, addr: ln.Addr().String(), layout: l, lang: ui.Indonesian}
	k.stop = func() {
		once.Do(func() {
			cancel()
			require.NoError(t, <-served)
		})
	}
	t.Cleanup(k.stop)
	k.tab(parent)
	return k
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

// wait polls from here and not in the page, because a wipe loads the page anew.
func (k *kiosk) wait(what, expression string) {
	k.t.Helper()
	deadline := time.Now().Add(15 * time.Second)
	for {
		v, err := chromedp.Run(k.ctx, chromedp.Evaluate[bool](expression))
		if err == nil && v {
			return
		}
		if time.Now().After(deadline) {
			body, _ := chromedp.Run(k.ctx, chromedp.Evaluate[string](`document.body?.innerText ?? ''`))
			k.t.Fatalf("waited for %s: %v\nconsole: %s\npage: %s", what, err, strings.Join(k.said(), "\n"), body)
		}
		time.Sleep(15 * time.Millisecond)
	}
}

// at waits for a screen that is ready to be touched.
func (k *kiosk) at(s ui.State) {
	k.t.Helper()
	k.wait("screen "+string(s), fmt.Sprintf(`(() => { const m = document.querySelector('main'); return m?.dataset.state === %q && m.getAttribute('aria-busy') === 'false' })()`, s))
}

// tap touches a control where a finger would, and only if nothing lies over it.
func (k *kiosk) tap(focus string) {
	k.t.Helper()
	sel := fmt.Sprintf(`[data-focus=%q]`, focus)
	k.wait("control "+focus, fmt.Sprintf(`(() => { const e = document.querySelector(%q); return !!e && !e.disabled })()`, sel))
	type point struct {
		X    float64 `json:"x"`
		Y    float64 `json:"y"`
		Free bool    `json:"free"`
	}
	p := js[point](k, fmt.Sprintf(`(() => { const e = document.querySelector(%q), r = e.getBoundingClientRect(), x = r.x + r.width / 2, y = r.y + r.height / 2;
		const top = document.elementFromPoint(x, y); return {x, y, free: e.contains(top)} })()`, sel))
	require.True(k.t, p.Free, "something lies over %s", focus)
	require.NoError(k.t, chromedp.Do(k.ctx, chromedp.TapXY(p.X, p.Y)))
}

// keys types on the page's own keypad, by touch on the first layout. On the
// others a keyboard types, which is checked thereby and ten times as fast.
func (k *kiosk) keys(text string) {
	k.t.Helper()
	if k.layout.name != layouts[0].name {
		require.NoError(k.t, chromedp.Do(k.ctx, chromedp.KeyEvent(text)))
		return
	}
	for _, c := range text {
		k.tap("key-" + strings.ToLower(string(c)))
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

// faults are what is wrong with what is drawn now.
const faults = `(() => {
	const out = [], W = innerWidth, H = innerHeight;
	const name = (e) => e.tagName.toLowerCase() + (e.className && e.className.baseVal === undefined ? '.' + e.className : '') + ' "' + (e.textContent ?? '').slice(0, 40) + '"';
	const shown = (e) => { const r = e.getBoundingClientRect(); return r.width > 0 && r.height > 0 };
	const overlay = document.querySelector('.overlay:not([hidden])');
	const root = overlay ?? document;
	for (const e of root.querySelectorAll('button, h1, p, dt, dd, li, .panel, .field, .qr, .banner, .say, .act, .keypad, .cards, gardu-countdown, .overlay-box')) {
		if (!shown(e) || e.closest('.unseen')) continue;
		const r = e.getBoundingClientRect();
		if (r.left < -0.5 || r.top < -0.5 || r.right > W + 0.5 || r.bottom > H + 0.5) out.push('outside the screen: ' + name(e));
		if (e.scrollWidth > e.clientWidth + 1 && e.clientWidth > 0) out.push('clipped sideways: ' + name(e));
		if (e.scrollHeight > e.clientHeight + 2 && e.clientHeight > 0 && e.tagName !== 'H1' && !e.matches('.icon, li, dd, dt, p, .count, .overlay-box')) out.push('clipped below: ' + name(e) + ' ' + e.scrollHeight + '>' + e.clientHeight);
	}
	if (!overlay) {
		const parts = ['.head', '.banner', '.say', '.act', '.foot'].map((q) => document.querySelector(q)).filter((e) => e && shown(e)).map((e) => ({ e, r: e.getBoundingClientRect() }));
		for (const a of parts) for (const b of parts) if (a.e !== b.e && a.e.compareDocumentPosition(b.e) & 4 && Math.min(a.r.right, b.r.right) - Math.max(a.r.left, b.r.left) > 1 && Math.min(a.r.bottom, b.r.bottom) - Math.max(a.r.top, b.r.top) > 1) out.push('overlap: ' + name(a.e) + ' / ' + name(b.e));
		for (const box of document.querySelectorAll('.say, .act')) {
			const b = box.getBoundingClientRect();
			for (const c of box.children) { const r = c.getBoundingClientRect(); if (shown(c) && (r.top < b.top - 1 || r.bottom > b.bottom + 1 || r.right > b.right + 1)) out.push('runs out of its part: ' + name(c)) }
		}
	}
	const mm = parseFloat(getComputedStyle(document.documentElement).getPropertyValue('--mm'));
	for (const e of root.querySelectorAll('button')) {
		if (!shown(e)) continue;
		const r = e.getBoundingClientRect(), least = e.matches('.key') ? 13 : 15;
		if (Math.min(r.width, r.height) / mm < least) out.push('smaller than ' + least + ' mm: ' + name(e) + ' ' + (Math.min(r.width, r.height) / mm).toFixed(1));
	}
	if (document.documentElement.scrollHeight > H + 1) out.push('the page scrolls');
	const text = document.body.innerText;
	for (const m of text.match(/[A-Z_]{3,}\.[a-z_.]+|\{\w+\}|undefined|null|NaN/g) ?? []) out.push('raw text: ' + m);
	return out;
})()`

// shot keeps a picture and notes what is wrong with it.
func (k *kiosk) shot(name string) {
	k.t.Helper()
	// Let fonts, focus and layout settle for two frames.
	_, err := chromedp.Run(k.ctx, chromedp.Evaluate[bool](`new Promise((r) => requestAnimationFrame(() => requestAnimationFrame(() => r(true))))`, chromedp.EvalAwaitPromise))
	require.NoError(k.t, err)
	png, err := chromedp.Run(k.ctx, chromedp.CaptureScreenshot())
	require.NoError(k.t, err)
	dir := filepath.Join(pictures, k.layout.name)
	require.NoError(k.t, os.MkdirAll(dir, 0o755))
	file := name + "." + string(k.lang) + ".png"
	require.NoError(k.t, os.WriteFile(filepath.Join(dir, file), png, 0o644))
	for _, f := range js[[]string](k, faults) {
		k.t.Errorf("%s/%s: %s", k.layout.name, file, f)
	}
}

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
