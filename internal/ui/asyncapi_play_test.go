package ui_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"gardu/internal/txn"
	"gardu/internal/ui"
)

// The file's examples are played against the server, and everything the server sends
// in a customer's and an operator's visit is what the file says.
func TestAsyncAPIExamplesAreReal(t *testing.T) {
	doc := ui.AsyncAPI(t)
	example := func(frame string, n int) map[string]any {
		all := ui.Part(t, doc, "components/messages/"+frame)["examples"].([]any)
		return all[n].(map[string]any)["payload"].(map[string]any)
	}
	for _, frame := range []string{"snapshot", "delta", "result", "tick"} {
		for n := range ui.Part(t, doc, "components/messages/"+frame)["examples"].([]any) {
			holds(t, doc, frame, example(frame, n))
		}
	}

	r := newRig(t, brief(ui.Goodbye, ui.OpExit))
	cookie := r.cookie()
	token := r.token(cookie)
	p := r.openWith(cookie, token, "", 0)
	p.at(ui.Attract)
	require.NoError(t, p.ws.Close())
	for n := range 2 { // the page's frames, each as it stands but for what is this server's own
		ws, _, err := r.socket(cookie, nil)
		require.NoError(t, err)
		hello := example("hello", n)
		hello["token"] = token
		require.NoError(t, ws.WriteJSON(hello))
		require.Equal(t, "snapshot", read(t, doc, ws.ReadMessage)["type"], "of an epoch that is not this server's")
		require.NoError(t, ws.Close())
	}
	p = r.openWith(cookie, token, "", 0)
	for n, want := range []ui.State{ui.Home, ui.Consent} {
		c := example("command", n)
		p.until("a session", func() bool { return p.sessionLocked().Session != "" })
		s := p.session()
		require.Equal(t, strings.Split(c["screen"].(string), ".")[0], string(s.State), "the example's screen")
		args := map[string]string{}
		if given, ok := c["args"].(map[string]any); ok {
			for k, v := range given {
				args[k] = v.(string)
			}
		}
		p.sendAs(c["id"].(string), s.Session, s.Screen, c["name"].(string), args)
		require.True(t, p.result(c["id"].(string)).OK)
		p.at(want)
	}
	for _, frame := range []string{"activity", "ack"} {
		f := example(frame, 0)
		if f["session"] != nil {
			f["session"] = p.session().Session
		}
		b, err := json.Marshal(f)
		require.NoError(t, err)
		p.raw(1, b)
	}
	p.do("stop")
	p.at(ui.Attract)
	id := p.toWorking(r.engine, txn.FinpayBind)
	p.finishOperation(r.engine, id, txn.FinpayBind)
	p.at(ui.Done)
	p.do("receipt")
	p.at(ui.Receipt)
	p.do("finish")
	p.at(ui.Attract)
	p.operator(r, ui.OpRequest)
	p.do("op_exit")
	p.at(ui.Attract)
	r.engine.SetLink("finpay", false)
	p.until("the banner", func() bool { return strings.Contains(string(p.docs["network"]), `"offline":true`) })

	frames := 0
	d := json.NewDecoder(strings.NewReader(p.everything()))
	d.UseNumber()
	for d.More() {
		var f map[string]any
		require.NoError(t, d.Decode(&f))
		holds(t, doc, f["type"].(string), f)
		frames++
	}
	require.Greater(t, frames, 20)
}

func holds(t *testing.T, doc map[string]any, frame string, v any) {
	t.Helper()
	b, err := json.Marshal(v) // numbers of YAML become those of JSON
	require.NoError(t, err)
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var f any
	require.NoError(t, d.Decode(&f))
	ui.Holds(t, doc, ui.Part(t, doc, "components/messages/"+frame+"/payload"), f, frame)
}

func read(t *testing.T, doc map[string]any, next func() (int, []byte, error)) map[string]any {
	t.Helper()
	_, b, err := next()
	require.NoError(t, err)
	var f map[string]any
	require.NoError(t, json.Unmarshal(b, &f))
	holds(t, doc, f["type"].(string), f)
	return f
}
