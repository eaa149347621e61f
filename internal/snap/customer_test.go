package snap

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gardu/internal/secret"
	"gardu/internal/txn"
	"gardu/internal/wire"
)

const (
	testAuthCode = "auth/code+canary=\"\\7f2"
	testAccess   = "customer-access-canary"
	testRefresh  = "customer-refresh-canary"
)

// memVault keeps grants in memory.
type memVault struct {
	mu      sync.Mutex
	grants  map[string]*secret.Value
	until   map[string]time.Time
	err     error // what opening answers
	keepErr error
	drops   int
}

func newVault() *memVault {
	return &memVault{grants: map[string]*secret.Value{}, until: map[string]time.Time{}}
}

func (v *memVault) Grant(_ context.Context, provider, customer string) (*secret.Value, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.err != nil {
		return nil, v.err
	}
	if g := v.grants[provider+":"+customer]; g != nil {
		return g.Copy(), nil
	}
	return nil, nil
}

func (v *memVault) KeepGrant(_ context.Context, provider, customer string, s *secret.Value, until time.Time) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.keepErr != nil {
		return v.keepErr
	}
	v.grants[provider+":"+customer], v.until[provider+":"+customer] = s.Copy(), until
	return nil
}

func (v *memVault) DropGrant(_ context.Context, provider, customer string) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.drops++
	delete(v.grants, provider+":"+customer)
	return nil
}

func (v *memVault) has() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return len(v.grants) > 0
}

// bothServices answers services 73 and 74; customer is what 74 says.
func bothServices(customer func(wire.Request) (*wire.Reply, error)) func(wire.Request) (*wire.Reply, error) {
	return func(r wire.Request) (*wire.Reply, error) {
		if strings.HasSuffix(r.URL, "/b2b2c") {
			return customer(r)
		}
		return reply(200, `{"responseCode":"2007300","accessToken":"`+testToken+`","expiresIn":"900"}`), nil
	}
}

func granting(n *int) func(wire.Request) (*wire.Reply, error) {
	var mu sync.Mutex
	return func(wire.Request) (*wire.Reply, error) {
		mu.Lock()
		defer mu.Unlock()
		*n++
		return reply(200, fmt.Sprintf(`{"responseCode":"2007400","responseMessage":"Successful","accessToken":"%s-%d","tokenType":"Bearer","expiresIn":"900","refreshToken":"%s-%d","refreshTokenExpiryTime":%q}`,
			testAccess, *n, testRefresh, *n, time.Now().Add(time.Hour).In(jakarta).Format(stampLayout))), nil
	}
}

// bound is a Finpay that wants customer tokens for its PIN reset, with a vault.
func bound(t *testing.T, h HTTP, v Vault, now func() time.Time) *Finpay {
	t.Helper()
	c := finpayConfig()
	c.ResetPIN.CustomerToken, c.DeviceID = true, "kiosk-12"
	keys := testKeys()
	keys.Vault = v
	f, err := NewFinpay(c, keys, h, newLog(t), now)
	require.NoError(t, err)
	return f
}

func redeeming() txn.Call {
	c := request(txn.FinpayBind, 1)
	c.Secret = secret.New([]byte(testAuthCode))
	return c
}

func TestCustomerTokenFromItsCode(t *testing.T) {
	n := 0
	v := newVault()
	h := &fakeHTTP{token: bothServices(granting(&n)), answer: always(200, `{"responseCode":"2000600"}`)}
	f := bound(t, h, v, nil)
	a := f.Submit(t.Context(), request(txn.FinpayResetPIN, 1))
	require.Equal(t, txn.WasRejected, a.Outcome)
	require.Equal(t, txn.ReasonBindAgain, a.Reason, "without a token the customer has to bind first")
	require.Empty(t, h.to("/pin/reset"))

	a = f.Redeem(t.Context(), redeeming())
	require.Equal(t, txn.HasSucceeded, a.Outcome, "%+v", a)
	r := h.to("/b2b2c")[0]
	//nolint:testifylint // the bytes count, and not only what they mean
	require.Equal(t, []byte(`{"grantType":"authorization_code","authCode":"auth/code+canary=\"\\7f2","additionalInfo":{}}`), r.Body)
	for _, name := range []string{"X-TIMESTAMP", "X-CLIENT-KEY", "X-SIGNATURE"} {
		require.NotEmpty(t, r.Header[name], name)
	}
	require.Empty(t, r.Header["Authorization"], "service 74 has no access token")
	require.WithinDuration(t, time.Now().Add(time.Hour), v.until["finpay:"+testPhone], time.Minute, "as long as the refresh token")

	for range 2 {
		a = f.Submit(t.Context(), request(txn.FinpayResetPIN, 1))
		require.Equal(t, txn.HasSucceeded, a.Outcome, "%+v", a)
	}
	for _, r := range h.to("/pin/reset") {
		require.Equal(t, []string{"Bearer " + testAccess + "-1"}, r.Header["Authorization-Customer"])
		require.Equal(t, []string{"kiosk-12"}, r.Header["X-DEVICE-ID"])
	}
	require.Equal(t, 1, n)
}

func TestRedeemOutcomes(t *testing.T) {
	sent := &wire.Error{Op: wire.OpReceive, Host: "h", Err: errors.New("broken"), Sent: true}
	unsent := &wire.Error{Op: wire.OpConnect, Host: "h", Err: errors.New("refused")}
	for _, tc := range []struct {
		name    string
		status  int
		body    string
		err     error
		outcome txn.Outcome
		hold    bool
	}{
		{"code not taken", 401, `{"responseCode":"4017402"}`, nil, txn.WasRejected, false},
		{"code not found", 401, `{"responseCode":"4017404"}`, nil, txn.WasRejected, false},
		{"code spent", 401, `{"responseCode":"4017401"}`, nil, txn.WasRejected, false},
		{"format", 400, `{"responseCode":"4007401"}`, nil, txn.WasRejected, false},
		{"not found", 404, `{"responseCode":"4047401"}`, nil, txn.WasRejected, false},
		{"signature", 401, `{"responseCode":"4017400"}`, nil, txn.NotSent, true},
		{"throttled", 429, `{"responseCode":"4297400"}`, nil, txn.NotSent, false},
		{"not open to us", 403, `{"responseCode":"4037401"}`, nil, txn.NotSent, false},
		{"another path", 405, `{"responseCode":"4057400"}`, nil, txn.NotSent, false},
		{"server error", 500, `{"responseCode":"5007400"}`, nil, txn.Unknown, false},
		{"timeout", 504, `{"responseCode":"5047400"}`, nil, txn.Unknown, false},
		{"unlisted", 418, `{"responseCode":"4187400"}`, nil, txn.Unknown, false},
		{"in progress", 202, `{"responseCode":"2027400"}`, nil, txn.Unknown, false},
		{"no JSON", 200, `<html>`, nil, txn.Unknown, false},
		{"no token", 200, `{"responseCode":"2007400"}`, nil, txn.Unknown, false},
		{"token with a line break", 200, `{"responseCode":"2007400","accessToken":"a\r\nb"}`, nil, txn.Unknown, false},
		{"no code", 200, `{"accessToken":"abc"}`, nil, txn.Unknown, false},
		{"broken", 0, "", sent, txn.Unknown, false},
		{"not reached", 0, "", unsent, txn.NotSent, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			v := newVault()
			h := &fakeHTTP{token: bothServices(func(wire.Request) (*wire.Reply, error) {
				if tc.err != nil {
					return nil, tc.err
				}
				return reply(tc.status, tc.body), nil
			})}
			a := bound(t, h, v, nil).Redeem(t.Context(), redeeming())
			require.Equal(t, tc.outcome, a.Outcome, "%+v", a)
			require.Equal(t, tc.hold, a.Hold)
			require.False(t, v.has())
			require.NotContains(t, fmt.Sprintf("%+v", a), "canary")
		})
	}
	t.Run("no code at all", func(t *testing.T) {
		h := &fakeHTTP{}
		for _, s := range []string{"", "a b", strings.Repeat("x", 257)} {
			c := redeeming()
			c.Secret = secret.New([]byte(s))
			require.Equal(t, txn.WasRejected, bound(t, h, newVault(), nil).Redeem(t.Context(), c).Outcome)
		}
		require.Empty(t, h.requests)
	})
	t.Run("tokens that nobody wants are not kept", func(t *testing.T) {
		n := 0
		v := newVault()
		keys := testKeys()
		keys.Vault = v
		f, err := NewFinpay(finpayConfig(), keys, &fakeHTTP{token: bothServices(granting(&n))}, newLog(t), nil)
		require.NoError(t, err)
		require.Equal(t, txn.HasSucceeded, f.Redeem(t.Context(), redeeming()).Outcome)
		require.False(t, v.has())
	})
	t.Run("what cannot be stored raises an alarm, and the account is linked all the same", func(t *testing.T) {
		n := 0
		v := newVault()
		v.keepErr = errors.New("disk full")
		a := bound(t, &fakeHTTP{token: bothServices(granting(&n))}, v, nil).Redeem(t.Context(), redeeming())
		require.Equal(t, txn.HasSucceeded, a.Outcome)
		require.Contains(t, a.Alarm, "not stored")
	})
}

// TestCustomerTokenIsRenewedEarlyAndOnce: many calls of one customer with a worn
// token make one refresh, and a refresh token is used once.
func TestCustomerTokenIsRenewedEarlyAndOnce(t *testing.T) {
	n := 0
	v := newVault()
	var mu sync.Mutex
	skew := time.Duration(0)
	now := func() time.Time { mu.Lock(); defer mu.Unlock(); return time.Now().Add(skew) }
	h := &fakeHTTP{token: bothServices(granting(&n)), answer: always(200, `{"responseCode":"2000600"}`)}
	f := bound(t, h, v, now)
	require.Equal(t, txn.HasSucceeded, f.Redeem(t.Context(), redeeming()).Outcome)
	mu.Lock()
	skew = 14*time.Minute + 30*time.Second // the token lives 15 minutes; the margin is one
	mu.Unlock()
	var all sync.WaitGroup
	for range 12 {
		all.Go(func() {
			if a := f.Submit(t.Context(), request(txn.FinpayResetPIN, 1)); a.Outcome != txn.HasSucceeded {
				t.Errorf("%+v", a)
			}
		})
	}
	all.Wait()
	require.Equal(t, 2, n, "one code, one refresh")
	require.Contains(t, string(h.to("/b2b2c")[1].Body), `{"grantType":"refresh_token","refreshToken":"`+testRefresh+`-1","additionalInfo":{}}`)
	for _, r := range h.to("/pin/reset") {
		require.Equal(t, []string{"Bearer " + testAccess + "-2"}, r.Header["Authorization-Customer"])
	}
}

func TestCustomerTokenRefused(t *testing.T) {
	n := 0
	v := newVault()
	taken := "-2"
	h := &fakeHTTP{token: bothServices(granting(&n)), answer: func(r wire.Request) (*wire.Reply, error) {
		if strings.HasSuffix(r.Header["Authorization-Customer"][0], taken) {
			return reply(200, `{"responseCode":"2000600"}`), nil
		}
		return reply(401, `{"responseCode":"4010002","responseMessage":"`+r.Header["Authorization-Customer"][0]+`"}`), nil
	}}
	f := bound(t, h, v, nil)
	require.Equal(t, txn.HasSucceeded, f.Redeem(t.Context(), redeeming()).Outcome)
	a := f.Submit(t.Context(), request(txn.FinpayResetPIN, 1))
	require.Equal(t, txn.NotSent, a.Outcome)
	require.True(t, a.Again, "refresh once")
	require.NotContains(t, a.Text, testAccess, "an answer that repeats the token is masked")
	a = f.Submit(t.Context(), request(txn.FinpayResetPIN, 1))
	require.Equal(t, txn.HasSucceeded, a.Outcome)
	require.Equal(t, 2, n)

	taken = "none any more"
	require.True(t, f.Submit(t.Context(), request(txn.FinpayResetPIN, 1)).Again)
	a = f.Submit(t.Context(), request(txn.FinpayResetPIN, 1))
	require.Equal(t, txn.WasRejected, a.Outcome, "a fresh token that is refused too: no loop")
	require.Equal(t, txn.ReasonBindAgain, a.Reason)
	require.False(t, v.has(), "what nobody takes is not kept")
	require.Equal(t, 3, n)
}

func TestCustomerTokenRefreshFails(t *testing.T) {
	expired := func() time.Time { return time.Now().Add(16 * time.Minute) }
	for _, tc := range []struct {
		name    string
		status  int
		body    string
		err     error
		outcome txn.Outcome
		reason  txn.Reason
		kept    bool
	}{
		{"refused", 401, `{"responseCode":"4017402"}`, nil, txn.WasRejected, txn.ReasonBindAgain, false},
		{"line down", 0, "", &wire.Error{Op: wire.OpConnect, Host: "h", Err: errors.New("x")}, txn.NotSent, txn.ReasonLinkDown, true},
		{"broken off", 0, "", &wire.Error{Op: wire.OpReceive, Host: "h", Err: errors.New("x"), Sent: true}, txn.NotSent, txn.ReasonLinkDown, true},
		{"server error", 500, `{"responseCode":"5007400"}`, nil, txn.NotSent, txn.ReasonLinkDown, true},
		{"throttled", 429, `{}`, nil, txn.NotSent, txn.ReasonThrottled, true},
		{"not open to us", 403, `{"responseCode":"4037401"}`, nil, txn.WasRejected, txn.ReasonNotAllowed, true},
		{"another path", 405, `{"responseCode":"4057400"}`, nil, txn.WasRejected, txn.ReasonMisconfigured, true},
		{"signature", 401, `{"responseCode":"4017400"}`, nil, txn.NotSent, txn.ReasonAuthRefused, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			n := 0
			v := newVault()
			h := &fakeHTTP{token: bothServices(granting(&n)), answer: always(200, `{"responseCode":"2000600"}`)}
			require.Equal(t, txn.HasSucceeded, bound(t, h, v, nil).Redeem(t.Context(), redeeming()).Outcome)
			h.token = bothServices(func(wire.Request) (*wire.Reply, error) {
				if tc.err != nil {
					return nil, tc.err
				}
				return reply(tc.status, tc.body), nil
			})
			a := bound(t, h, v, expired).Submit(t.Context(), request(txn.FinpayResetPIN, 1))
			require.Equal(t, tc.outcome, a.Outcome, "%+v", a)
			require.Equal(t, tc.reason, a.Reason)
			require.Equal(t, tc.kept, v.has())
			require.Equal(t, tc.outcome == txn.WasRejected && tc.kept || tc.reason == txn.ReasonAuthRefused, a.Alarm != "", "an operator's to mend: %q", a.Alarm)
			require.Empty(t, h.to("/pin/reset"), "the call itself was not sent")
		})
	}
	t.Run("over for good", func(t *testing.T) {
		n := 0
		v := newVault()
		h := &fakeHTTP{token: bothServices(granting(&n))}
		require.Equal(t, txn.HasSucceeded, bound(t, h, v, nil).Redeem(t.Context(), redeeming()).Outcome)
		a := bound(t, h, v, func() time.Time { return time.Now().Add(2 * time.Hour) }).Submit(t.Context(), request(txn.FinpayResetPIN, 1))
		require.Equal(t, txn.ReasonBindAgain, a.Reason)
		require.Equal(t, 1, n)
		require.False(t, v.has())
	})
	t.Run("the vault does not open", func(t *testing.T) {
		v := newVault()
		v.err = errors.New("token absent")
		a := bound(t, &fakeHTTP{}, v, nil).Submit(t.Context(), request(txn.FinpayResetPIN, 1))
		require.Equal(t, txn.NotSent, a.Outcome)
		require.Equal(t, txn.ReasonKeystore, a.Reason)
	})
	t.Run("what it holds is not ours", func(t *testing.T) {
		v := newVault()
		v.grants["finpay:"+testPhone] = secret.Clone([]byte("rubbish"))
		a := bound(t, &fakeHTTP{}, v, nil).Submit(t.Context(), request(txn.FinpayResetPIN, 1))
		require.Equal(t, txn.ReasonBindAgain, a.Reason)
		require.False(t, v.has())
	})
}

// TestBindingOfALinkedAccountWithoutItsToken: the page is opened once more, and only
// the code proves that it was finished.
func TestBindingOfALinkedAccountWithoutItsToken(t *testing.T) {
	n := 0
	v := newVault()
	const page = `{"responseCode":"2000700","redirectUrl":"https://webview.example/p","linkageToken":"t"}`
	h := &fakeHTTP{token: bothServices(granting(&n)), answer: byPath(map[string]string{"inquiry": linkedAnswer, "binding": page})}
	f := bound(t, h, v, nil)
	c := request(txn.FinpayBind, 1)
	a := f.Submit(t.Context(), c)
	require.Equal(t, txn.WentPending, a.Outcome, "%+v", a)
	c.Request.Data = a.Data
	c.Request.State, c.Request.Await, c.Request.AwaitTill = txn.Pending, txn.AwaitLink, time.Now().Add(time.Minute)
	got := f.Inquire(t.Context(), c)
	require.Equal(t, txn.WentPending, got.Outcome)
	require.Equal(t, txn.ReasonCodeWanted, got.Reason)
	c.Request.AwaitTill = time.Now().Add(-time.Second)
	require.Equal(t, txn.WasRejected, f.Inquire(t.Context(), c).Outcome, "it was linked before, so this binding came to nothing")
	delete(c.Request.Data, dataAgain)
	require.Equal(t, txn.HasSucceeded, f.Inquire(t.Context(), c).Outcome, "linked by this binding, though nobody brought the code")

	require.Equal(t, txn.HasSucceeded, f.Redeem(t.Context(), redeeming()).Outcome)
	require.Equal(t, txn.HasSucceeded, f.Inquire(t.Context(), c).Outcome)
	a = f.Submit(t.Context(), request(txn.FinpayBind, 1))
	require.Equal(t, txn.ReasonAlreadyLinked, a.Reason, "with the token there is nothing to bind")

	v.err = errors.New("token absent")
	require.Equal(t, txn.HasSucceeded, f.Inquire(t.Context(), c).Outcome, "whether there is a token cannot be seen: the binding counts")
}

// TestUnbindingDeletesTheCustomersToken, whichever way its end is learned.
func TestUnbindingDeletesTheCustomersToken(t *testing.T) {
	for name, end := range map[string]func(t *testing.T, f *Finpay) txn.Answer{
		"by the second call": func(t *testing.T, f *Finpay) txn.Answer { return f.Submit(t.Context(), request(txn.FinpayUnbind, 2)) },
		"by the first call":  func(t *testing.T, f *Finpay) txn.Answer { return f.Submit(t.Context(), request(txn.FinpayUnbind, 1)) },
		"by read-back":       func(t *testing.T, f *Finpay) txn.Answer { return f.Inquire(t.Context(), request(txn.FinpayUnbind, 2)) },
	} {
		t.Run(name, func(t *testing.T) {
			n := 0
			v := newVault()
			h := &fakeHTTP{token: bothServices(granting(&n)), answer: byPath(map[string]string{
				"unbinding": `{"responseCode":"2000900","referenceNo":"1","unlinkResult":"SUCCESS"}`, "inquiry": unlinkedAnswer,
			})}
			f := bound(t, h, v, nil)
			require.Equal(t, txn.HasSucceeded, f.Redeem(t.Context(), redeeming()).Outcome)
			require.True(t, v.has())
			require.Equal(t, txn.HasSucceeded, end(t, f).Outcome)
			require.False(t, v.has())
		})
	}
}

// TestCustomerTokenWanted: a provider that wants a token nobody configured.
func TestCustomerTokenWanted(t *testing.T) {
	for _, code := range []string{"4010002", "4010004"} {
		a := newFinpay(t, &fakeHTTP{answer: always(401, `{"responseCode":"`+code+`"}`)}, nil).Submit(t.Context(), request(txn.FinpayResetPIN, 1))
		require.Equal(t, txn.WasRejected, a.Outcome)
		require.Equal(t, txn.ReasonMisconfigured, a.Reason)
		require.Contains(t, a.Alarm, "customer_token")
	}
}

func TestCustomerTokenLives(t *testing.T) {
	now := time.Date(2026, 11, 20, 3, 0, 0, 0, time.UTC)
	c := newCustomers(&tokens{cfg: &Config{TokenLife: wire.Duration(time.Minute)}, clock: &clock{now: func() time.Time { return now }}}, "/x", 48*time.Hour, nil)
	for body, want := range map[string][2]time.Duration{
		`{"accessToken":"a"}`: {time.Minute, 0},
		`{"accessToken":"a","expiresIn":900,"refreshToken":"r"}`: {15 * time.Minute, 48 * time.Hour},
		`{"accessToken":"a","accessTokenExpiryTime":"2026-11-25T10:00:00+07:00","refreshToken":"r","refreshTokenExpiryTime":"2026-12-25T10:00:00+07:00"}`: {120 * time.Hour, 35 * 24 * time.Hour},
		`{"accessToken":"a","expiresIn":"900","accessTokenExpiryTime":"2020-01-01T00:00:00+07:00"}`:                                                       {15 * time.Minute, 0},
		`{"accessToken":"a","accessTokenExpiryTime":"2099-01-01T00:00:00Z","refreshToken":"r","refreshTokenExpiryTime":"2099-01-01T00:00:00Z"}`:           {maxCustomerLife, maxRefreshLife},
		`{"accessToken":"a","refreshToken":"r r"}`: {time.Minute, 0},
	} {
		o, err := parseObject([]byte(body))
		require.NoError(t, err)
		g, err := c.parse(o)
		require.NoError(t, err)
		require.Equal(t, want[0], g.accessUntil.Sub(now), body)
		if want[1] == 0 {
			require.Nil(t, g.refresh, body)
			continue
		}
		require.Equal(t, want[1], g.refreshUntil.Sub(now), body)
	}
}

func FuzzParseGrant(f *testing.F) {
	g := &grant{access: secret.Clone([]byte("a")), accessLife: time.Minute, accessUntil: time.UnixMilli(5000), refresh: secret.Clone([]byte("rr")), refreshUntil: time.UnixMilli(7000)}
	f.Add(g.encode().Bytes())
	f.Add((&grant{}).encode().Bytes())
	f.Add([]byte{grantVersion})
	f.Fuzz(func(t *testing.T, in []byte) {
		g, err := parseGrant(in)
		if err != nil {
			require.ErrorIs(t, err, errGrant)
			return
		}
		require.Equal(t, in, g.encode().Bytes(), "one grant, one encoding")
	})
}

func TestGrantOfHTTPDate(t *testing.T) {
	// A grant's times are the provider's: with our clock wrong and corrected, a token is
	// neither worn too early nor used too late.
	n := 0
	v := newVault()
	h := &fakeHTTP{token: func(r wire.Request) (*wire.Reply, error) {
		if strings.HasSuffix(r.URL, "/b2b2c") {
			return granting(&n)(r)
		}
		stamp, err := time.Parse(time.RFC3339, r.Header["X-TIMESTAMP"][0])
		require.NoError(t, err)
		if time.Until(stamp).Abs() > 5*time.Minute {
			return &wire.Reply{Status: 401, Header: http.Header{"Date": {time.Now().UTC().Format(http.TimeFormat)}}, Body: []byte(`{"responseCode":"4017300"}`)}, nil
		}
		return reply(200, `{"responseCode":"2007300","accessToken":"`+testToken+`","expiresIn":"900"}`), nil
	}, answer: always(200, `{"responseCode":"2000600"}`)}
	ahead := func() time.Time { return time.Now().Add(23 * time.Hour) }
	f := bound(t, h, v, ahead)
	require.Error(t, f.Probe(t.Context()))
	require.NoError(t, f.Probe(t.Context()), "the offset was learned")
	require.Equal(t, txn.HasSucceeded, f.Redeem(t.Context(), redeeming()).Outcome)
	a := f.Submit(t.Context(), request(txn.FinpayResetPIN, 1))
	require.Equal(t, txn.HasSucceeded, a.Outcome, "%+v", a)
	require.Equal(t, 1, n)
}
