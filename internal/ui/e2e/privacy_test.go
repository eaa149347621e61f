//go:build e2e

package e2e_test

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/cookiejar"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/heapprofiler"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/require"

	"gardu/internal/txn"
	"gardu/internal/ui"
	"gardu/internal/ui/uitest"
)

// canaries are what the last customer typed and was shown, whole and masked.
func canaries(r *txn.Request) []string {
	return []string{"70000000008", "IN00001201001868", "481516", "77314159", "700••••••08", ui.ShortReference(r.ID)}
}

// TestNothingIsLeftForTheNextCustomer: after a wipe nothing of the last one is in the page, in what
// scripts can reach, in the memory of the page's scripts, in history, storage or caches, in what the
// agent tells a screen, or on the glass.
func TestNothingIsLeftForTheNextCustomer(t *testing.T) {
	t.Parallel()
	ctx := browser(t)
	for _, end := range []struct {
		name string
		last ui.State
		end  func(*kiosk)
	}{
		{"in the middle", ui.Review, func(k *kiosk) { k.tap("do-stop") }},
		{"after a receipt", ui.Receipt, func(k *kiosk) { k.tap("do-finish") }},
		{"by walking away", ui.Working, func(k *kiosk) {
			k.engine.Move(k.engine.Last().ID, uitest.Answer(txn.Unknown, txn.Unresolved, txn.ReasonNoReadback))
			k.wait("the question", `document.querySelector('.overlay')?.dataset.what?.startsWith('STILL_THERE')`)
		}},
	} {
		t.Run(end.name, func(t *testing.T) {
			k := newKiosk(t, ctx, layouts[0], func(o *ui.Options) {
				o.Timeouts.Screens = map[ui.State]time.Duration{ui.Goodbye: 300 * time.Millisecond, ui.Unresolved: 700 * time.Millisecond}
				o.Timeouts.StillThere = 500 * time.Millisecond
			})
			heard := k.listenToTheSocket()
			k.load()
			k.at(ui.Attract)
			k.settle()
			glass, err := chromedp.Run(k.ctx, chromedp.CaptureScreenshot())
			require.NoError(t, err)
			k.review(ui.English, txn.PrepaidResetPIN)
			require.Contains(t, js[string](k, `document.documentElement.outerHTML`), "70000000008", "the canary sings while its owner is there")
			require.NotContains(t, js[string](k, `document.documentElement.outerHTML`), "481516", "but not of the PIN")
			require.Contains(t, k.heap(), "70000000008", "and the heap can be searched for it")
			r := &txn.Request{ID: strings.Repeat("x", 8)}
			if end.last != ui.Review {
				k.tap("do-confirm")
				k.at(ui.Working)
				r = k.engine.Last()
			}
			if end.last == ui.Receipt {
				k.engine.Move(r.ID, uitest.Answer(txn.HasSucceeded, txn.Succeeded, ""))
				k.at(ui.Done)
				k.tap("do-receipt")
				k.at(ui.Receipt)
				require.Contains(t, js[string](k, `document.documentElement.outerHTML`), ui.ShortReference(r.ID))
			}
			id := js[string](k, `document.querySelector('gardu-app').docs.session.session`)
			js[bool](k, `window.same = true`)
			require.Contains(t, heard.newest(), "70000000008", "what came through the page's socket can be searched")
			end.end(k)
			k.wait("a new page", `window.same === undefined && document.querySelector('main')?.dataset.state === 'ATTRACT'`)
			k.at(ui.Attract)
			k.settle()
			require.Eventually(t, func() bool { return strings.Contains(heard.newest(), `"ATTRACT"`) }, 10*time.Second, 10*time.Millisecond, "the new page has a socket of its own")

			now, err := chromedp.Run(k.ctx, chromedp.CaptureScreenshot())
			require.NoError(t, err)
			require.True(t, bytes.Equal(glass, now), "the glass is as it was before anybody came")
			k.quietConsole() // before the walk below, which touches what nobody may
			nothing := func(when string, places map[string]string) {
				t.Helper()
				places["the document"] = js[string](k, `document.documentElement.outerHTML + document.title + location.href + document.referrer + window.name + JSON.stringify(history.state)`)
				places["scripts' reach"] = js[string](k, reachable)
				places["the heap"] = k.heap()
				places["cookies"] = js[string](k, `document.cookie`)
				places["the page's socket"] = heard.newest()
				for where, text := range places {
					for _, c := range append(canaries(r), id) {
						require.NotContains(t, text, c, "%s, %s", where, when)
					}
				}
			}
			nothing("after the wipe", map[string]string{})
			require.Equal(t, "0 0 0 0 0", awaited[string](k, `(async () => [localStorage.length, sessionStorage.length, (await indexedDB.databases()).length, (await caches.keys()).length, (await navigator.serviceWorker.getRegistrations()).length].join(' '))()`))
			history, err := chromedp.Call(k.ctx, page.GetNavigationHistory, cdp.Empty{})
			require.NoError(t, err)
			pages := 0
			for _, e := range history.Entries {
				if e.URL != "about:blank" { // the tab's own, before the kiosk
					pages++
				}
			}
			require.Equal(t, 1, pages, "one page in the history")

			// Away and back by the browser's own history: nothing was kept alive, what comes is loaded anew.
			js[bool](k, `window.same = true`)
			for _, at := range []int64{0, history.CurrentIndex} {
				_, err = chromedp.Call(k.ctx, page.NavigateToHistoryEntry, page.NavigateToHistoryEntryParams{EntryID: history.Entries[at].ID})
				require.NoError(t, err)
				k.wait("the history's page", fmt.Sprintf(`location.href === %q && document.readyState === 'complete'`, history.Entries[at].URL))
			}
			k.at(ui.Attract)
			require.Equal(t, "fresh back_forward", js[string](k, `(window.same === undefined ? 'fresh ' : 'kept ') + performance.getEntriesByType('navigation')[0].type`))
			nothing("by the way of the history", map[string]string{"the agent's word": k.snapshot()})
		})
	}
}

// socketLog is what a tab's sockets brought, each by itself.
type socketLog struct {
	mu   sync.Mutex // guards what follows
	last network.RequestID
	text map[network.RequestID]string
}

// newest is everything that came through the newest socket.
func (l *socketLog) newest() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text[l.last]
}

// listenToTheSocket notes every frame that the tab gets from now on.
func (k *kiosk) listenToTheSocket() *socketLog {
	k.t.Helper()
	_, err := chromedp.Call(k.ctx, network.Enable, network.EnableParams{})
	require.NoError(k.t, err)
	l := &socketLog{text: map[network.RequestID]string{}}
	frames := chromedp.Events(k.ctx, network.WebSocketFrameReceived)
	go func() {
		for e, err := range frames {
			if err != nil {
				return
			}
			l.mu.Lock()
			if _, known := l.text[e.RequestID]; !known {
				l.last = e.RequestID
			}
			l.text[e.RequestID] += string(e.Response.PayloadData) + "\n"
			l.mu.Unlock()
		}
	}()
	return l
}

// reachable walks over everything that a script could get at from the window and the page's own elements.
const reachable = `(() => {
	const seen = new Set(), found = [];
	const walk = (v, depth) => {
		if (typeof v === 'string') { found.push(v); return; }
		if (v === null || (typeof v !== 'object' && typeof v !== 'function') || seen.has(v) || depth > 8 || seen.size > 60000) return;
		seen.add(v);
		if (v instanceof Map || v instanceof Set) for (const x of v) walk(x, depth + 1);
		for (const key of Reflect.ownKeys(v)) {
			let x;
			try { x = v[key]; } catch { continue; }
			found.push(String(key));
			walk(x, depth + 1);
		}
	};
	walk(window, 0);
	for (const e of document.querySelectorAll('*')) walk(e, 0);
	return found.join('\n');
})()`

// heap is everything that the page's scripts have in memory after a collection, as text.
func (k *kiosk) heap() string {
	k.t.Helper()
	var b strings.Builder
	ctx, chunks := k.ctx, make(chan struct{})
	events := chromedp.Events(ctx, heapprofiler.AddHeapSnapshotChunk)
	go func() {
		defer close(chunks)
		for e, err := range events {
			if err != nil {
				return
			}
			b.WriteString(e.Chunk)
			if strings.HasSuffix(strings.TrimSpace(e.Chunk), "]}") {
				return
			}
		}
	}()
	_, err := chromedp.Call(ctx, heapprofiler.CollectGarbage, cdp.Empty{})
	require.NoError(k.t, err)
	_, err = chromedp.Call(ctx, heapprofiler.TakeHeapSnapshot, heapprofiler.TakeHeapSnapshotParams{})
	require.NoError(k.t, err)
	select {
	case <-chunks:
	case <-time.After(30 * time.Second):
		k.t.Fatal("the heap's picture has no end")
	}
	require.Greater(k.t, b.Len(), 100_000)
	return b.String()
}

// snapshot is what the agent tells a screen that comes anew: its whole state.
func (k *kiosk) snapshot() string {
	k.t.Helper()
	jar, err := cookiejar.New(nil)
	require.NoError(k.t, err)
	client := &http.Client{Jar: jar, Timeout: 10 * time.Second}
	ticket, err := k.server.IssueTicket()
	require.NoError(k.t, err)
	req, err := http.NewRequestWithContext(k.t.Context(), http.MethodGet, "http://"+k.addr+"/?ticket="+ticket, nil)
	require.NoError(k.t, err)
	answer, err := client.Do(req)
	require.NoError(k.t, err)
	defer func() { _ = answer.Body.Close() }()
	var body bytes.Buffer
	_, err = body.ReadFrom(answer.Body)
	require.NoError(k.t, err)
	token := regexp.MustCompile(`name="gardu-page" content="([^"]+)"`).FindStringSubmatch(body.String())
	require.Len(k.t, token, 2)
	dialer := websocket.Dialer{Jar: jar, Subprotocols: []string{ui.Subprotocol}}
	ws, hello, err := dialer.DialContext(k.t.Context(), "ws://"+k.addr+"/ws", http.Header{"Origin": {"http://" + k.addr}})
	require.NoError(k.t, err)
	defer func() { _ = hello.Body.Close(); _ = ws.Close() }()
	require.NoError(k.t, ws.WriteJSON(map[string]string{"type": "hello", "token": token[1], "lang": "id"}))
	var all strings.Builder
	for {
		require.NoError(k.t, ws.SetReadDeadline(time.Now().Add(time.Second)))
		_, frame, err := ws.ReadMessage()
		if err != nil {
			break // a second of silence: it has said everything
		}
		all.Write(frame)
	}
	require.Contains(k.t, all.String(), `"type":"snapshot"`)
	require.Contains(k.t, all.String(), `"ATTRACT"`)
	return body.String() + all.String()
}

// TestLostAgentLeavesNothingTyped: nobody can end a session while the agent is silent, so what was
// typed goes at once, also where it is no secret; after a minute the screen sends for staff.
func TestLostAgentLeavesNothingTyped(t *testing.T) {
	for _, lang := range languages {
		if testing.Short() && lang != ui.English {
			continue
		}
		t.Run(string(lang), func(t *testing.T) {
			t.Parallel()
			leavesNothingTyped(t, lang)
		})
	}
}

func leavesNothingTyped(t *testing.T, lang ui.Lang) {
	t.Helper()
	k := newKiosk(t, browser(t), layouts[1], short)
	k.load()
	k.start(lang, txn.FinpayResetPIN)
	k.tap("do-agree")
	k.at(ui.Ident)
	k.keys("0877665544")
	require.Contains(t, js[string](k, `document.documentElement.outerHTML`), "0877665544")
	k.stop()
	k.wait("the overlay", `document.querySelector('.overlay')?.dataset.what?.startsWith('AGENT_LOST')`)
	require.NotContains(t, js[string](k, `document.documentElement.outerHTML`), "0877665544")
	require.NotContains(t, js[string](k, `JSON.stringify(document.querySelector('gardu-app').draft.values)`), "0877665544")
	require.True(t, js[bool](k, `['main', '.foot', '.banner'].every((q) => document.querySelector(q).inert)`), "input is frozen")
	k.press("0877")
	require.NotContains(t, js[string](k, `document.querySelector('main').textContent`), "0877")
	if testing.Short() {
		return
	}
	k.waitFor(70*time.Second, "staff help", `document.querySelector('.overlay').dataset.what.startsWith('AGENT_LOST.staff')`)
	k.shot("51-agent-lost-staff")
}

// TestLostAgentForgetsWhatWasNotAnswered: a PIN that was sent while the agent was just gone waits for
// an answer; it does not wait longer than the page waits for the agent.
func TestLostAgentForgetsWhatWasNotAnswered(t *testing.T) {
	t.Parallel()
	const pin = "918273"
	k := newKiosk(t, browser(t), layouts[1], short)
	k.load()
	k.start(ui.English, txn.PrepaidResetPIN)
	k.identify(txn.PrepaidResetPIN)
	k.at(ui.Verify)
	k.pin("77314159")
	k.at(ui.PIN)
	k.keys(pin)
	// What hands a command to the agent notes it, as proof that this test looks at the right moment.
	js[bool](k, `(() => { const { link } = document.querySelector('gardu-app'), send = link.command.bind(link); window.sent = 0; link.command = (...a) => { window.sent += 1; const r = send(...a); r.then((v) => { window.answer = v.code; }); return r; }; return true })()`)
	k.stop()
	k.tap("do-send")
	require.Equal(t, 1, js[int](k, `window.sent`))
	k.wait("the overlay", `document.querySelector('.overlay')?.dataset.what?.startsWith('AGENT_LOST')`)
	k.wait("an end of the waiting", `window.answer === 'lost'`)
	require.NotContains(t, k.heap(), pin)
	require.True(t, js[bool](k, `document.querySelector('.overlay').dataset.what.startsWith('AGENT_LOST')`), "it still says that the agent is gone")
}

// TestReconnect: a connection that breaks costs nothing but a moment. What happened meanwhile is shown,
// a command that got lost is said again, and the page is not loaded anew.
func TestReconnect(t *testing.T) {
	t.Parallel()
	k := newKiosk(t, browser(t), layouts[0], short)
	k.load()
	k.at(ui.Attract)
	js[bool](k, `window.same = true`)
	k.start(ui.English, txn.FinpayUnbind)
	k.wires.cut()
	k.identify(txn.FinpayUnbind) // the tap may come before the connection does
	k.at(ui.Review)
	release := k.engine.Hold("Accept")
	k.tap("do-confirm")
	k.wait("saving", `document.querySelector('main').dataset.state === 'SUBMIT'`)
	k.wires.cut()
	release()
	k.at(ui.Working)
	id := k.engine.Last().ID
	require.Equal(t, 1, k.engine.Count("Accept"), "stored once")
	k.engine.Move(id, uitest.Send)
	k.wires.cut()
	k.engine.Move(id, uitest.Await(txn.AwaitOTP, txn.ReasonOTPWanted, 5*time.Minute, nil))
	k.at(ui.OTP)
	k.keys("6969")
	k.wires.cut()
	k.keys("69")
	k.wait("six digits", `document.querySelectorAll('.dot').length === 6`)
	k.tap("do-send")
	k.at(ui.Working)
	require.Equal(t, "696969", string(k.engine.Secret(id).Bytes()))
	require.Equal(t, 1, k.engine.Count("Supply"))
	k.engine.Move(id, uitest.Answer(txn.HasSucceeded, txn.Succeeded, ""))
	k.wires.cut()
	k.at(ui.Done)
	require.True(t, js[bool](k, `window.same`), "it is still the same page")
	k.leave()
	require.Empty(t, strings.Join(filter(k.said(), "WebSocket"), "\n"), "nothing but the browser's own word for the cut connections")
}

// filter leaves out what contains a word.
func filter(lines []string, without string) []string {
	var rest []string
	for _, l := range lines {
		if !strings.Contains(l, without) {
			rest = append(rest, l)
		}
	}
	return rest
}
