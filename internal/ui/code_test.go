package ui_test

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gardu/internal/txn"
	"gardu/internal/ui"
	"gardu/internal/ui/uitest"
)

const canaryCode = "auth-code/canary+9f=="

// toPage goes to the page of a binding.
func (p *page) toPage(e *uitest.Engine) *txn.Request {
	p.t.Helper()
	p.toWorking(e, txn.FinpayBind)
	r := e.Last()
	e.Move(r.ID, uitest.Send)
	e.Move(r.ID, uitest.Await(txn.AwaitLink, txn.ReasonLinkOpen, 5*time.Minute, map[string]string{
		txn.DataLinkURL: "https://webview.example/p?t=1", txn.DataLinkDomain: "webview.example",
	}))
	p.at(ui.BindQR)
	return r
}

func TestCodeOfThePageIsTyped(t *testing.T) {
	r := newRig(t, nil)
	p := r.open()
	req := p.toPage(r.engine)
	s := p.session()
	require.Contains(t, s.Commands, "submit_code")
	require.Equal(t, "authCode", s.Entry.Name)
	for _, c := range []struct {
		err          error
		code, notice string
	}{
		{txn.ErrCodeRefused, "code_refused", "BIND_QR.notice.code_refused"},
		{txn.ErrCodeUnspent, "code_unspent", "BIND_QR.notice.code_unspent"},
		{txn.ErrCodeUnproved, "unsure", "BIND_QR.notice.code_unsure"},
		{txn.ErrStoreUnknown, "unsure", "BIND_QR.notice.code_unsure"},
		{txn.ErrTooLate, "too_late", ""},
	} {
		r.engine.Fail("Redeem", c.err)
		require.Equal(t, c.code, p.try("submit_code", "code", canaryCode).Code)
		require.Equal(t, c.notice, p.at(ui.BindQR).Notice)
	}
	f := p.try("submit_code", "code", "abc")
	require.Equal(t, []string{"field", "authCode", "too_short"}, []string{f.Code, f.Field, f.Rule})
	require.Equal(t, "bad_args", p.try("submit_code", "code", strings.Repeat("x", 257)).Code)
	require.Equal(t, "bad_args", p.try("submit_code").Code)
	p.do("submit_code", "code", canaryCode)
	p.at(ui.Done)
	require.Equal(t, canaryCode, string(r.engine.Secret(req.ID).Bytes()))
	p.mu.Lock()
	defer p.mu.Unlock()
	require.NotContains(t, p.seen.String(), canaryCode, "a code is not shown")
	require.NotContains(t, r.log.String(), canaryCode, "a code is not logged")
}

func TestCodeIsAskedForOnlyWhereThePageHasOne(t *testing.T) {
	r := newRig(t, nil)
	r.engine.SetPolicy(txn.FinpayBind, func(p *txn.Policy) { p.Code = nil })
	r.server.SetEngine(r.engine)
	p := r.open()
	p.toPage(r.engine)
	require.NotContains(t, p.session().Commands, "submit_code")
	require.Nil(t, p.session().Entry)
	require.Equal(t, "not_here", p.try("submit_code", "code", canaryCode).Code)
}

func TestScreenSaysThatACodeIsWanted(t *testing.T) {
	r := newRig(t, nil)
	p := r.open()
	req := p.toPage(r.engine)
	r.engine.Move(req.ID, func(q *txn.Request) { q.Reason = txn.ReasonCodeWanted })
	require.Eventually(t, func() bool { return p.session().Title == "BIND_QR.title.code_wanted" }, 30*time.Second, 10*time.Millisecond)
	require.Equal(t, []string{"BIND_QR.body.code_wanted"}, p.session().Lines)
}

func TestCodeOfThePageIsPosted(t *testing.T) {
	r := newRig(t, nil)
	cookie := r.cookie()
	old := r.token(cookie)
	token := r.token(cookie)
	p := r.openWith(cookie, token, "", 0)
	req := p.toPage(r.engine)
	s := p.session()
	type change func(*http.Request)
	set := func(k, v string) change { return func(q *http.Request) { q.Header.Set(k, v) } }
	del := func(k string) change { return func(q *http.Request) { q.Header.Del(k) } }
	body := func(b string) change {
		return func(q *http.Request) {
			q.Body, q.ContentLength = io.NopCloser(strings.NewReader(b)), int64(len(b))
		}
	}
	good := func(code string) string {
		b, err := json.Marshal(map[string]string{"session": s.Session, "screen": s.Screen, "code": code})
		require.NoError(t, err)
		return string(b)
	}
	post := func(changes ...change) (int, string) {
		t.Helper()
		res, answer := r.ask(http.MethodPost, "/code", cookie, func(q *http.Request) {
			q.Header.Set("Origin", "http://"+r.addr)
			q.Header.Set("Content-Type", "application/json")
			q.Header.Set("X-Gardu-Page", token)
			body(good(canaryCode))(q)
			for _, c := range changes {
				c(q)
			}
		})
		require.Empty(t, res.Header.Get("Access-Control-Allow-Origin"))
		return res.StatusCode, answer
	}
	for name, c := range map[string]struct {
		change change
		status int
	}{
		"another origin":       {set("Origin", "http://evil.example"), 403},
		"no origin":            {del("Origin"), 403},
		"another site":         {set("Sec-Fetch-Site", "cross-site"), 403},
		"no cookie":            {del("Cookie"), 403},
		"no page token":        {del("X-Gardu-Page"), 403},
		"a wrong page token":   {set("X-Gardu-Page", strings.Repeat("A", 43)), 403},
		"an older page":        {set("X-Gardu-Page", old), 403},
		"two page tokens":      {func(q *http.Request) { q.Header.Add("X-Gardu-Page", token) }, 403},
		"a form":               {set("Content-Type", "application/x-www-form-urlencoded"), 415},
		"plain text":           {set("Content-Type", "text/plain"), 415},
		"a GET":                {func(q *http.Request) { q.Method = http.MethodGet }, 405},
		"a large body":         {body(`{"session":"` + strings.Repeat("x", 4096) + `"}`), 413},
		"no JSON":              {body("code=" + canaryCode), 400},
		"no code":              {body(`{"session":"a","screen":"b"}`), 400},
		"no session":           {body(`{"screen":"b","code":"abcd"}`), 400},
		"an unknown field":     {body(`{"session":"a","screen":"b","code":"abcd","pin":"1"}`), 400},
		"a code twice":         {body(`{"session":"a","screen":"b","code":"abcd","code":"efgh"}`), 400},
		"a code that is large": {body(good(strings.Repeat("x", 257))), 400},
	} {
		t.Run(name, func(t *testing.T) {
			status, answer := post(c.change)
			require.Equal(t, c.status, status, answer)
			require.Zero(t, r.engine.Count("Redeem"))
		})
	}
	status, answer := post(body(strings.Replace(good(canaryCode), s.Session, "another", 1)))
	require.Equal(t, 200, status)
	require.JSONEq(t, `{"ok":false,"code":"stale_session"}`, answer)
	_, answer = post(body(strings.Replace(good(canaryCode), s.Screen, "HOME.1", 1)))
	require.JSONEq(t, `{"ok":false,"code":"stale_screen"}`, answer)
	require.Zero(t, r.engine.Count("Redeem"))
	r.engine.Fail("Redeem", txn.ErrCodeRefused)
	_, answer = post()
	require.JSONEq(t, `{"ok":false,"code":"code_refused"}`, answer)
	_, answer = post()
	require.JSONEq(t, `{"ok":true}`, answer)
	p.at(ui.Done)
	require.Equal(t, canaryCode, string(r.engine.Secret(req.ID).Bytes()))
	_, answer = post()
	require.JSONEq(t, `{"ok":false,"code":"stale_screen"}`, answer)
	require.NotContains(t, r.log.String(), canaryCode)
}

func FuzzParsePost(f *testing.F) {
	f.Add([]byte(`{"session":"a","screen":"HOME.1","code":"abcd"}`))
	f.Add([]byte(`{"session":"a","screen":"b","code":"\u0061bcd"} `))
	f.Fuzz(func(t *testing.T, in []byte) {
		session, code, err := ui.ParsePost(in)
		if err != nil {
			require.NotContains(t, err.Error(), "code\":")
			return
		}
		var same struct{ Session, Code string }
		require.NoError(t, json.Unmarshal(in, &same))
		require.Equal(t, same.Session, session)
		require.Equal(t, same.Code, code)
	})
}

func TestAnotherOneTimePassword(t *testing.T) {
	r := newRig(t, nil)
	p := r.open()
	p.toWorking(r.engine, txn.FinpayUnbind)
	old := r.engine.Last()
	r.engine.Move(old.ID, uitest.Send)
	r.engine.Move(old.ID, uitest.Await(txn.AwaitOTP, txn.ReasonOTPWanted, 5*time.Minute, nil))
	require.Contains(t, p.at(ui.OTP).Commands, "resend")
	r.engine.Fail("Renew", txn.ErrTooLate)
	require.Equal(t, "too_late", p.try("resend").Code)
	r.engine.Fail("Renew", txn.ErrStoreUnknown)
	require.Equal(t, "unsure", p.try("resend").Code)
	p.do("resend")
	p.at(ui.Working)
	fresh := r.engine.Last()
	require.NotEqual(t, old.ID, fresh.ID)
	require.Equal(t, ui.ShortReference(fresh.ID), p.session().Reference)
	r.engine.Move(fresh.ID, uitest.Send)
	r.engine.Move(fresh.ID, uitest.Await(txn.AwaitOTP, txn.ReasonOTPWanted, 5*time.Minute, nil))
	p.at(ui.OTP)
	r.engine.Fail("Renew", &txn.LimitError{Scope: "customer", Until: time.Now().Add(time.Hour)})
	require.Equal(t, "limit", p.try("resend").Code)
	p.at(ui.Limit)
}
