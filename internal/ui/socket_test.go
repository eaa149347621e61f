package ui_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/require"

	"gardu/internal/txn"
	"gardu/internal/ui"
)

// closeCode reads until the end.
func closeCode(t *testing.T, ws *websocket.Conn) int {
	t.Helper()
	for {
		_, _, err := ws.ReadMessage()
		if err == nil {
			continue
		}
		var ce *websocket.CloseError
		require.ErrorAs(t, err, &ce)
		require.NotContains(t, ce.Text, canaryPIN)
		return ce.Code
	}
}

func TestFirstFrameDecides(t *testing.T) {
	r := newRig(t, nil)
	cookie := r.cookie()
	token := r.token(cookie)
	hello := fmt.Sprintf(`{"type":"hello","token":%q,"lang":"id"}`, token)
	for _, c := range []struct {
		name  string
		kind  int
		frame string
		want  int
	}{
		{"a token nobody gave out", websocket.TextMessage, `{"type":"hello","token":"nonsense","lang":"id"}`, 4001},
		{"no token", websocket.TextMessage, `{"type":"hello","lang":"id"}`, 4002},
		{"an empty token", websocket.TextMessage, `{"type":"hello","token":"","lang":"id"}`, 4001},
		{"no language", websocket.TextMessage, fmt.Sprintf(`{"type":"hello","token":%q}`, token), 4002},
		{"a third language", websocket.TextMessage, fmt.Sprintf(`{"type":"hello","token":%q,"lang":"fr"}`, token), 4002},
		{"a command first", websocket.TextMessage, `{"type":"command","id":"1","session":"s","screen":"PIN.1","name":"submit_pin","args":{"pin":"` + canaryPIN + `"}}`, 4001},
		{"activity first", websocket.TextMessage, `{"type":"activity","session":"s"}`, 4001},
		{"no object", websocket.TextMessage, `[]`, 4002},
		{"nothing", websocket.TextMessage, ``, 4002},
		{"binary", websocket.BinaryMessage, hello, 1003},
		{"not UTF-8", websocket.TextMessage, "{\"type\":\"hello\",\"token\":\"\xff\",\"lang\":\"id\"}", 1007},
		{"too large", websocket.TextMessage, hello + strings.Repeat(" ", 8<<10), 1009},
	} {
		t.Run(c.name, func(t *testing.T) {
			ws, _, err := r.socket(cookie, nil)
			require.NoError(t, err)
			defer func() { _ = ws.Close() }()
			require.NoError(t, ws.WriteMessage(c.kind, []byte(c.frame)))
			require.Equal(t, c.want, closeCode(t, ws))
		})
	}
	require.NotContains(t, r.log.String(), canaryPIN)
	r.openWith(cookie, token, "", 0).at(ui.Attract)
}

func TestHelloMustComeWithinTwoSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newBubbleRig(t, nil)
		ws, _, err := r.socket(r.cookie(), nil)
		require.NoError(t, err)
		began := time.Now()
		require.Equal(t, 4001, closeCode(t, ws))
		require.Equal(t, 2*time.Second, time.Since(began))
		require.NoError(t, ws.Close())
		r.stop()
	})
}

func TestSilentScreenIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newBubbleRig(t, nil)
		cookie := r.cookie()
		ws, _, err := r.socket(cookie, nil)
		require.NoError(t, err)
		ws.SetPingHandler(func(string) error { return nil }) // never answers
		require.NoError(t, ws.WriteJSON(map[string]string{"type": "hello", "token": r.token(cookie), "lang": "id"}))
		began := time.Now()
		require.Equal(t, 1001, closeCode(t, ws))
		require.Equal(t, 15*time.Second, time.Since(began))
		require.NoError(t, ws.Close())
		r.stop()
	})
}

func TestTicksComeEveryFiveSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newBubbleRig(t, nil)
		cookie := r.cookie()
		ws, _, err := r.socket(cookie, nil)
		require.NoError(t, err)
		require.NoError(t, ws.WriteJSON(map[string]string{"type": "hello", "token": r.token(cookie), "lang": "id"}))
		var nows []int64
		for len(nows) < 3 {
			var f frame
			require.NoError(t, ws.ReadJSON(&f))
			if f.Type == "tick" {
				nows = append(nows, f.Now)
			}
		}
		require.Equal(t, []int64{5000, 5000}, []int64{nows[1] - nows[0], nows[2] - nows[1]})
		require.NoError(t, ws.Close())
		r.stop()
	})
}

func TestBadFramesEndTheConnection(t *testing.T) {
	secret := `"args":{"pin":"` + canaryPIN + `"}`
	for _, c := range []struct {
		name  string
		kind  int
		frame string
		want  int
	}{
		{"garbage", websocket.TextMessage, `garbage`, 4002},
		{"two objects", websocket.TextMessage, `{"type":"activity","session":"s"}{}`, 4002},
		{"unknown type", websocket.TextMessage, `{"type":"reset"}`, 4002},
		{"no type", websocket.TextMessage, `{"session":"s"}`, 4002},
		{"unknown field", websocket.TextMessage, `{"type":"activity","session":"s","x":"1"}`, 4002},
		{"field of another type", websocket.TextMessage, `{"type":"activity","session":"s","token":"t"}`, 4002},
		{"repeated field", websocket.TextMessage, `{"type":"activity","session":"s","session":"s"}`, 4002},
		{"repeated argument", websocket.TextMessage, `{"type":"command","id":"1","session":"s","screen":"a","name":"submit_pin","args":{"pin":"` + canaryPIN + `","pin":"1"}}`, 4002},
		{"number for a string", websocket.TextMessage, `{"type":"activity","session":1}`, 4002},
		{"nested argument", websocket.TextMessage, `{"type":"command","id":"1","session":"s","screen":"a","name":"choose","args":{"operation":{"a":"b"}}}`, 4002},
		{"broken off in a PIN", websocket.TextMessage, `{"type":"command","id":"1","session":"s","screen":"a","name":"submit_pin",` + secret, 4002},
		{"PIN as a field", websocket.TextMessage, `{"type":"command","id":"1","session":"s","screen":"a","name":"submit_pin","pin":"` + canaryPIN + `"}`, 4002},
		{"hello again", websocket.TextMessage, `{"type":"hello","token":"t","lang":"id"}`, 4002},
		{"empty id", websocket.TextMessage, `{"type":"ack","id":""}`, 4002},
		{"id with a line feed", websocket.TextMessage, `{"type":"ack","id":"a\nb"}`, 4002},
		{"binary", websocket.BinaryMessage, "\x00\x01", 1003},
		{"not UTF-8", websocket.TextMessage, "\xff\xfe", 1007},
		{"too large", websocket.TextMessage, `{"type":"command","id":"` + strings.Repeat("a", 9000) + `"`, 1009},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, nil)
			p := r.open()
			p.at(ui.Attract)
			p.raw(c.kind, []byte(c.frame))
			require.Equal(t, c.want, p.closed())
			require.NotContains(t, r.log.String()+p.everything(), canaryPIN)
		})
	}
}

func TestNewestPageIsInCharge(t *testing.T) {
	r := newRig(t, nil)
	cookie := r.cookie()
	oldToken := r.token(cookie)
	old := r.openWith(cookie, oldToken, "", 0)
	old.at(ui.Attract)
	freshToken := r.token(cookie)
	old.do("start")
	old.at(ui.Home) // a page that was only loaded does not take over
	fresh := r.openWith(cookie, freshToken, "", 0)
	require.Equal(t, 4009, old.closed())
	require.Equal(t, ui.Home, fresh.at(ui.Home).State, "the session goes on at the new screen")
	back := r.openWith(cookie, oldToken, "", 0)
	require.Equal(t, 4009, back.closed(), "the older page stays out")
	again := r.openWith(cookie, freshToken, "", 0)
	again.at(ui.Home)
	require.Equal(t, 4009, fresh.closed(), "the same page may come back; its newest connection counts")
	again.do("stop")
}

func TestReconnectGetsTheDifference(t *testing.T) {
	r := newRig(t, nil)
	cookie := r.cookie()
	token := r.token(cookie)
	first := r.openWith(cookie, token, "", 0)
	first.at(ui.Attract)
	first.do("start")
	epoch, seq := first.upTo()
	require.NoError(t, first.ws.Close())
	r.engine.SetLink("netzme", false)

	ws, _, err := r.socket(cookie, nil)
	require.NoError(t, err)
	hello := map[string]any{"type": "hello", "token": token, "lang": "id", "epoch": epoch, "since": seq}
	require.NoError(t, ws.WriteJSON(hello))
	known := map[string]bool{}
	for !known["network"] {
		var f frame
		require.NoError(t, ws.ReadJSON(&f))
		require.Equal(t, "delta", f.Type)
		require.Equal(t, epoch, f.Epoch)
		for topic := range f.State {
			known[topic] = true
		}
	}
	require.NotContains(t, known, "health", "what did not change is not sent")
	require.NoError(t, ws.Close())

	for _, c := range []struct {
		name  string
		epoch string
		since uint64
	}{{"another epoch", "OTHER", seq}, {"a number not reached", epoch, seq + 1000}, {"nothing known", "", 0}} {
		t.Run(c.name, func(t *testing.T) {
			ws, _, err := r.socket(cookie, nil)
			require.NoError(t, err)
			defer func() { _ = ws.Close() }()
			hello["epoch"], hello["since"] = c.epoch, c.since
			require.NoError(t, ws.WriteJSON(hello))
			var f frame
			require.NoError(t, ws.ReadJSON(&f))
			require.Equal(t, "snapshot", f.Type)
			require.Len(t, f.State, 5)
		})
	}
}

func TestRestartIsAnnounced(t *testing.T) {
	r := newRig(t, nil)
	p := r.open()
	p.toReview(txn.PrepaidResetPIN)
	r.stop()
	require.Equal(t, 1012, p.closed())
	require.NotContains(t, r.log.String()+p.everything(), canaryPIN)
}

// A client that reads slowly costs nothing but its cursor, and misses nothing
// that still counts.
func TestSlowReaderCostsNoMemory(t *testing.T) {
	const changes = 100_000
	r := newRig(t, nil)
	p := r.open()
	id := p.toWorking(r.engine, txn.FinpayResetPIN)
	require.NoError(t, p.ws.Close())

	cookie := r.cookie()
	ws, _, err := r.socket(cookie, nil)
	require.NoError(t, err)
	defer func() { _ = ws.Close() }()
	require.NoError(t, ws.WriteJSON(map[string]string{"type": "hello", "token": r.token(cookie), "lang": "id"}))
	var f frame
	require.NoError(t, ws.ReadJSON(&f))
	require.Equal(t, "snapshot", f.Type)

	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	for i := range changes {
		r.engine.Move(id, func(q *txn.Request) {
			q.State, q.Code = txn.Sending, fmt.Sprint(i)
			q.Created = q.Created.Add(time.Second) // a change that the document shows
		})
	}
	grown := int64(heap()) - int64(before)
	require.Less(t, grown, int64(2<<20), "memory after %d changes nobody read", changes)

	r.engine.Move(id, func(q *txn.Request) { q.State = txn.Succeeded })
	frames, seq := 0, f.Seq
	for {
		require.NoError(t, ws.ReadJSON(&f))
		if f.Type != "delta" {
			continue
		}
		frames++
		require.Equal(t, seq, f.From, "no gap")
		seq = f.Seq
		var s sessionDoc
		if js := f.State["session"]; js != nil {
			require.NoError(t, json.Unmarshal(js, &s))
		}
		if s.State == ui.Done {
			break
		}
	}
	t.Logf("%d changes became %d frames; heap grew by %d bytes", changes, frames, grown)
	require.Less(t, frames, changes)
}

// The document's examples must be what the program speaks.
func TestDocumentedFramesAreReal(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "protocol-ui.md"))
	require.NoError(t, err)
	blocks := regexp.MustCompile("(?s)```json (page|agent)\n(.*?)```").FindAllStringSubmatch(string(text), -1)
	require.Greater(t, len(blocks), 9)
	types := map[string]bool{}
	for _, b := range blocks {
		for _, line := range strings.Split(strings.TrimSpace(b[2]), "\n") {
			var f struct{ Type string }
			require.NoError(t, json.Unmarshal([]byte(line), &f), line)
			types[b[1]+" "+f.Type] = true
			if b[1] == "page" {
				require.NoError(t, ui.CheckFrame([]byte(line)), line)
			}
		}
	}
	for _, want := range []string{"page hello", "page command", "page activity", "page ack", "agent snapshot", "agent delta", "agent result", "agent tick"} {
		require.True(t, types[want], "no example of %s", want)
	}
}
