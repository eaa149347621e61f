package upstream_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"gardu/cmd/sandbox/upstream"
)

// plain sends a request to the control interface.
func plain(t *testing.T, req *http.Request) result {
	t.Helper()
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	return result{resp.StatusCode, resp.Header, string(body)}
}

// control calls the control interface; a body makes it a POST.
func (w *world) control(path, body string) result {
	w.t.Helper()
	method := http.MethodGet
	if body != "" {
		method = http.MethodPost
	}
	req, err := http.NewRequestWithContext(w.t.Context(), method, w.URL(upstream.Control)+path, strings.NewReader(body))
	require.NoError(w.t, err)
	t, ok := w.t.(*testing.T)
	require.True(w.t, ok)
	return plain(t, req)
}

func TestControl(t *testing.T) {
	w := start(t, config(t))
	token := w.token(upstream.Finpay)

	require.Equal(t, 404, w.control("/otp?phone="+linkedPhone, "").status)
	require.Equal(t, 200, w.must(w.finpay(token, pathUnbind, unbindBody(linkedPhone, "", ""))).status)
	otp, err := w.OTP(linkedPhone)
	require.NoError(t, err)
	require.Equal(t, otp, w.control("/otp?phone="+linkedPhone, "").text(t, "otp"))

	require.Equal(t, 404, w.control("/link", `{"phone":"`+phone+`"}`).status)
	require.Equal(t, 200, w.must(w.finpay(token, pathBind, bindBody(phone))).status)
	require.NotEmpty(t, w.control("/link", `{"phone":"`+phone+`"}`).text(t, "auth_code"))
	require.Equal(t, "LINKED", w.status(token, phone))
	require.Equal(t, 200, w.control("/customer", `{"phone":"`+phone+`","linked":false}`).status)
	require.Equal(t, "NOT_LINKED", w.status(token, phone))
	require.Equal(t, 200, w.must(w.finpay(token, pathBind, bindBody(phone))).status)
	require.Equal(t, 200, w.control("/advance", `{"seconds":301}`).status)
	require.Equal(t, 410, w.control("/link", `{"phone":"`+phone+`"}`).status)

	fault := w.control("/fault", `{"provider":"finpay","kind":"status","status":500,"times":1}`)
	require.EqualValues(t, 1, fault.field(t, "id"))
	state := w.control("/state", "")
	faults, ok := state.field(t, "platforms", "finpay", "faults").([]any)
	require.True(t, ok)
	require.Len(t, faults, 1)
	require.Equal(t, []any{linkedPhone}, state.field(t, "linked"))
	require.Equal(t, 200, w.control("/clear", `{"provider":"finpay"}`).status)
	require.Equal(t, 200, w.must(w.finpay(token, pathReset, resetBody("ref1", phone))).status)

	require.Equal(t, 200, w.control("/dedupe", `{"provider":"finpay","on":false}`).status)
	require.Equal(t, 200, w.must(w.finpay(token, pathReset, resetBody("ref1", phone))).status)
	effects, ok := w.control("/effects", "").field(t, "effects").([]any)
	require.True(t, ok)
	last, ok := effects[len(effects)-1].(map[string]any)
	require.True(t, ok)
	require.EqualValues(t, 2, last["count"])
	require.Equal(t, "ref1", last["identity"])

	all, ok := w.control("/ledger?provider=finpay&operation=finpay.reset_pin", "").field(t, "exchanges").([]any)
	require.True(t, ok)
	require.Len(t, all, 2)
	require.Empty(t, w.control("/ledger?since=1000", "").field(t, "exchanges"))
	require.Equal(t, []any{}, w.control("/violations", "").field(t, "violations"))

	require.Equal(t, 200, w.control("/reset", `{}`).status)
	require.Empty(t, w.Ledger(upstream.LedgerFilter{}))
	require.Empty(t, w.Effects())
	require.Equal(t, "4010001", w.must(w.finpay(token, pathReset, resetBody("ref1", phone))).code(t), "tokens have ended")
	w.clean()
}

func TestControlRefusals(t *testing.T) {
	w := start(t, config(t))
	for name, c := range map[string]struct {
		path, body string
		status     int
		says       string
	}{
		"unknown key":      {"/fault", `{"provider":"finpay","kind":"down","colour":"red"}`, 400, "colour"},
		"a key twice":      {"/fault", `{"provider":"finpay","provider":"netzme"}`, 400, "twice"},
		"a tail":           {"/fault", `{"provider":"finpay","kind":"hang"} x`, 400, "exactly one"},
		"unknown kind":     {"/fault", `{"provider":"finpay","kind":"sulk"}`, 400, "sulk"},
		"unknown platform": {"/fault", `{"provider":"visa","kind":"down"}`, 404, "visa"},
		"a list":           {"/clear", `[]`, 400, "object"},
		"no number":        {"/ledger?since=x", "", 400, "since"},
		"no such phone":    {"/link", `{"phone":"0811"}`, 404, "0811"},
		"phone of letters": {"/customer", `{"phone":"abc"}`, 400, "digits"},
		"too much":         {"/fault", `{"provider":"` + strings.Repeat("x", 70<<10) + `"}`, 400, "large"},
	} {
		t.Run(name, func(t *testing.T) {
			got := w.control(c.path, c.body)
			require.Equal(t, c.status, got.status, got.body)
			require.Contains(t, got.text(t, "error"), c.says)
		})
	}
	require.Equal(t, 405, w.control("/effects", "{}").status)
	require.Equal(t, 404, w.control("/nothing", "").status)

	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.URL(upstream.Control)+"/reset", nil)
	require.NoError(t, err)
	req.Header.Set("Origin", "http://evil.example")
	require.Equal(t, 403, plain(t, req).status)
}

func TestConfiguredPlatformsOnly(t *testing.T) {
	cfg := config(t)
	cfg.Finpay, cfg.Prepaid = nil, nil
	w := start(t, cfg)
	require.Empty(t, w.Addr(upstream.Finpay))
	require.NotEmpty(t, w.Addr(upstream.Netzme))
	_, err := w.Link(phone)
	require.ErrorIs(t, err, upstream.ErrNotPlayed)
	_, err = w.OTP(phone)
	require.ErrorIs(t, err, upstream.ErrNotPlayed)
	require.ErrorIs(t, w.SetCustomer(phone, true), upstream.ErrNotPlayed)
	require.ErrorIs(t, w.SetDedupe(upstream.Prepaid, true), upstream.ErrNotPlayed)
	require.Error(t, w.Start(t.Context()), "a server starts once")
}

func TestMemoryIsBounded(t *testing.T) {
	cfg := config(t)
	cfg.LedgerCap = 3
	w := start(t, cfg)
	token := w.token(upstream.Finpay)
	for i := range 5 {
		require.Equal(t, 200, w.must(w.finpay(token, pathReset, resetBody(fmt.Sprint("ref", i), phone))).status)
	}
	require.Len(t, w.Ledger(upstream.LedgerFilter{}), 3)
	require.Len(t, w.Effects(), 3)
	state := w.State()
	require.EqualValues(t, 6, state.Exchanges)
	require.Equal(t, 2, state.EffectsForgotten)
}
