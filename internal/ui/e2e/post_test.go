//go:build e2e

package e2e_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"gardu/internal/txn"
	"gardu/internal/ui"
	"gardu/internal/ui/uitest"
)

// postCode hands the code of a customer's page over, as docs/protocol-ui.md says, and
// tells the answer. The arguments are the token, the session, the screen and the code.
const postCode = `(async (token, session, screen, code) => {
	const answer = await fetch('/code', { method: 'POST', headers: { 'Content-Type': 'application/json', 'X-Gardu-Page': token }, body: JSON.stringify({ session, screen, code }) });
	return answer.status + ' ' + (answer.ok ? JSON.stringify(await answer.json()) : '');
})`

// The code that the bank's landing page ends with reaches the agent by the kiosk's own
// page, in a real browser under the page's own policy, and from no other page of it.
func TestCodeIsPostedByTheKiosksOwnPage(t *testing.T) {
	t.Parallel()
	const code = "landing/page+code_9f=="
	ctx := browser(t)
	k := newKiosk(t, ctx, layouts[0], short)
	k.load()
	js[bool](k, `window.same = true`)
	id := k.send(ui.Indonesian, txn.FinpayBind)
	k.engine.Move(id, uitest.Await(txn.AwaitLink, txn.ReasonLinkOpen, 5*time.Minute, map[string]string{
		txn.DataLinkURL: "https://webview.finnet.example/verify", txn.DataLinkDomain: "webview.finnet.example",
	}))
	k.at(ui.BindQR)
	post := func(token string) string {
		t.Helper()
		return awaited[string](k, fmt.Sprintf(`((s) => %s(%s, s.session, s.screen, %q))(document.querySelector('gardu-app').docs.session)`, postCode, token, code))
	}
	inCharge := js[string](k, `document.querySelector('meta[name=gardu-page]').content`)
	require.Equal(t, "403 ", post(`'A'.repeat(43)`), "a token that no page has")
	require.Zero(t, k.engine.Count("Redeem"))

	// Another program's page on this machine, in the same browser: the cookie would go along.
	foreign := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = w.Write([]byte(`<!doctype html><title>Foreign</title>`))
	}))
	t.Cleanup(foreign.Close)
	other := k.sibling(ctx)
	require.NoError(t, chromedp.Do(other.ctx, chromedp.Navigate(foreign.URL)))
	for _, kind := range []string{"text/plain", "application/json"} {
		said := awaited[string](other, fmt.Sprintf(`fetch('http://%s/code', { method: 'POST', mode: %q, credentials: 'include', headers: { 'Content-Type': %q }, body: '{}' }).then((r) => r.type + r.status, () => 'blocked')`,
			k.addr, map[string]string{"text/plain": "no-cors", "application/json": "cors"}[kind], kind))
		require.Contains(t, []string{"blocked", "opaque0"}, said, "nothing of the answer can be read there")
	}
	require.Equal(t, "refused", awaited[string](other, fmt.Sprintf(`new Promise((tell) => { const s = new WebSocket('ws://%s/ws', 'gardu.v1'); s.onopen = () => tell('open'); s.onerror = () => tell('refused'); })`, k.addr)))
	require.Zero(t, k.engine.Count("Redeem"))

	require.Equal(t, `200 {"ok":true}`, post(fmt.Sprintf("%q", inCharge)))
	k.at(ui.Done)
	require.Equal(t, code, string(k.engine.Secret(id).Bytes()))
	require.NotContains(t, js[string](k, `document.documentElement.outerHTML`), code)
	require.True(t, js[bool](k, `window.same`), "the page stayed")
	k.leave()
}
