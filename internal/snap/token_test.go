package snap

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"gardu/internal/secret"
	"gardu/internal/txn"
	"gardu/internal/wire"
)

// tokenService counts exchanges and numbers its tokens.
type tokenService struct {
	asked atomic.Int64
	life  string
	wait  time.Duration
}

func (s *tokenService) answer(wire.Request) (*wire.Reply, error) {
	n := s.asked.Add(1)
	time.Sleep(s.wait)
	return reply(200, `{"responseCode":"2007300","accessToken":"t`+string(rune('0'+n%10))+`","expiresIn":`+s.life+`}`), nil
}

func newTokens(t *testing.T, h HTTP, change func(*Config)) *tokens {
	t.Helper()
	c := finpayConfig().Config
	if change != nil {
		change(&c)
	}
	k := testKeys()
	clk := &clock{now: time.Now, tolerance: time.Minute, bound: 24 * time.Hour, log: newLog(t)}
	return &tokens{cfg: &c, name: "finpay", keys: &k, http: h, clock: clk, log: clk.log}
}

func value(t *testing.T, tk *tokens) string {
	t.Helper()
	v, err := tk.get(t.Context())
	require.NoError(t, err)
	return string(v.Bytes())
}

func TestTokenIsSharedAndRenewedEarly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &tokenService{life: `"900"`}
		tk := newTokens(t, &fakeHTTP{token: s.answer}, nil)
		require.False(t, tk.has())
		require.Equal(t, "t1", value(t, tk))
		require.True(t, tk.has())
		time.Sleep(14*time.Minute - time.Second)
		require.Equal(t, "t1", value(t, tk))
		time.Sleep(time.Second)
		require.False(t, tk.has(), "the margin before the end is kept")
		require.Equal(t, "t2", value(t, tk))
	})
}

func TestShortLivedTokenIsUsedAtAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &tokenService{life: `10`}
		tk := newTokens(t, &fakeHTTP{token: s.answer}, nil)
		require.Equal(t, "t1", value(t, tk))
		time.Sleep(4 * time.Second)
		require.Equal(t, "t1", value(t, tk), "a margin larger than half the life would renew without end")
		time.Sleep(time.Second)
		require.Equal(t, "t2", value(t, tk))
	})
}

func TestOneRenewalForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &tokenService{life: `"900"`, wait: time.Second}
		tk := newTokens(t, &fakeHTTP{token: s.answer}, nil)
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				v, err := tk.get(t.Context())
				if err != nil || string(v.Bytes()) != "t1" {
					t.Errorf("got %s, %v", v.Bytes(), err)
				}
			})
		}
		wg.Wait()
		require.EqualValues(t, 1, s.asked.Load())
	})
}

func TestLeaderThatGivesUpIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &tokenService{life: `"900"`}
		ctx, cancel := context.WithCancel(t.Context())
		h := &fakeHTTP{token: func(r wire.Request) (*wire.Reply, error) {
			if s.asked.Add(1) == 1 {
				<-ctx.Done()
				return nil, &wire.Error{Op: wire.OpReceive, Host: "h", Err: ctx.Err(), Sent: true}
			}
			return reply(200, `{"accessToken":"second"}`), nil
		}}
		tk := newTokens(t, h, nil)
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := tk.get(ctx); err == nil {
				t.Error("the leader's own call must fail")
			}
		})
		synctest.Wait()
		wg.Go(func() {
			v, err := tk.get(t.Context())
			if err != nil || string(v.Bytes()) != "second" {
				t.Errorf("got %s, %v", v.Bytes(), err)
			}
		})
		synctest.Wait()
		cancel()
		wg.Wait()
		require.EqualValues(t, 2, s.asked.Load())
	})
}

func TestWaitingForARenewalEndsWithTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		tk := newTokens(t, &fakeHTTP{token: func(wire.Request) (*wire.Reply, error) {
			<-release
			return reply(503, ``), nil
		}}, nil)
		var wg sync.WaitGroup
		wg.Go(func() { _, _ = tk.get(t.Context()) })
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := tk.get(ctx)
		require.ErrorContains(t, err, "deadline exceeded")
		close(release)
		wg.Wait()
	})
}

func TestRefusedToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &tokenService{life: `"900"`}
		tk := newTokens(t, &fakeHTTP{token: s.answer}, func(c *Config) { c.TokenJitter = wire.Duration(time.Second) })
		begin := time.Now()
		first, err := tk.get(t.Context())
		require.NoError(t, err)
		require.Zero(t, time.Since(begin), "a first token needs no jitter")
		tk.refuse(secret.New([]byte("another")))
		require.True(t, tk.has(), "a token that has been replaced meanwhile is no reason to drop the new one")
		tk.refuse(first)
		require.False(t, tk.has())
		require.Equal(t, "t2", value(t, tk))
		require.Positive(t, time.Since(begin), "kiosks that end each other's tokens must not do so in step")
		require.Less(t, time.Since(begin), time.Second)
		require.Equal(t, []byte("t1"), first.Bytes(), "a copy handed out is not wiped under its user")
	})
}

// TestNoToken: whatever the token service does, the call was not sent.
func TestNoToken(t *testing.T) {
	date := func(d time.Duration) http.Header {
		return http.Header{"Date": {time.Now().Add(d).UTC().Format(http.TimeFormat)}}
	}
	for _, tc := range []struct {
		name   string
		reply  *wire.Reply
		err    error
		reason txn.Reason
		hold   bool
		again  bool
		retry  time.Duration
		alarm  bool
	}{
		{name: "refused connection", err: &wire.Error{Op: wire.OpConnect, Host: "h", Err: errors.New("connection refused")}, reason: txn.ReasonLinkDown},
		{name: "broken after sending", err: &wire.Error{Op: wire.OpReceive, Host: "h", Err: wire.ErrTruncated, Sent: true}, reason: txn.ReasonLinkDown},
		{name: "untrusted", err: &wire.Error{Op: wire.OpTLS, Host: "h", Err: errors.New("x509"), Untrusted: true}, reason: txn.ReasonLinkUntrusted, alarm: true},
		{name: "throttled", reply: &wire.Reply{Status: 429, Header: http.Header{"Retry-After": {"7"}}, Body: []byte(`slow`)}, reason: txn.ReasonThrottled, retry: 7 * time.Second},
		{name: "cut-off", reply: reply(403, `{"responseCode":"4037306"}`), reason: txn.ReasonThrottled},
		{name: "signature refused", reply: reply(401, `{"responseCode":"4017300","responseMessage":"Unauthorized. [Signature]"}`), reason: txn.ReasonAuthRefused, hold: true, alarm: true},
		{name: "signature refused with status 200", reply: reply(200, `{"responseCode":"4017300"}`), reason: txn.ReasonAuthRefused, hold: true, alarm: true},
		{name: "our clock is off", reply: &wire.Reply{Status: 401, Header: date(time.Hour), Body: []byte(`{"responseCode":"4017300"}`)}, reason: txn.ReasonClockCorrected, again: true},
		{name: "wrong path", reply: reply(404, `<html>`), reason: txn.ReasonAuthRefused, hold: true, alarm: true},
		{name: "bad client id", reply: reply(400, `{"responseCode":"4007301"}`), reason: txn.ReasonAuthRefused, hold: true, alarm: true},
		{name: "server error", reply: reply(500, `{"responseCode":"5007300"}`), reason: txn.ReasonLinkDown},
		{name: "maintenance page", reply: reply(200, `<html>`), reason: txn.ReasonLinkDown},
		{name: "success without a token", reply: reply(200, `{"responseCode":"2007300"}`), reason: txn.ReasonLinkDown},
		{name: "request timeout", reply: reply(408, ``), reason: txn.ReasonLinkDown},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := &fakeHTTP{token: func(wire.Request) (*wire.Reply, error) {
				if tc.err != nil {
					return nil, tc.err
				}
				own := *tc.reply // the client clears the body, which may hold a token
				own.Body = bytes.Clone(own.Body)
				return &own, nil
			}}
			f := newFinpay(t, h, nil)
			a := f.Submit(t.Context(), request(txn.FinpayResetPIN, 1))
			require.Equal(t, txn.NotSent, a.Outcome)
			require.Equal(t, tc.reason, a.Reason)
			require.Equal(t, tc.hold, a.Hold)
			require.Equal(t, tc.again, a.Again)
			require.Equal(t, tc.retry, a.RetryAfter)
			require.Equal(t, tc.alarm, a.Alarm != "", a.Alarm)
			require.NotEmpty(t, a.Text)
			require.Empty(t, h.to("/pin/reset"), "the call itself must not have been made")

			var pe *txn.ProbeError
			if tc.again {
				return // the clock has been set by now
			}
			require.ErrorAs(t, f.Probe(t.Context()), &pe)
			require.Equal(t, tc.reason, pe.Reason)
			require.Equal(t, tc.hold, pe.Hold)
		})
	}
}

func TestTokenThatCannotSign(t *testing.T) {
	keys := testKeys()
	for name, broken := range map[string]Keys{
		"token key":  {Token: brokenKey{testKey()}, Secret: keys.Secret},
		"secret key": {Token: keys.Token, Secret: brokenKey{}},
	} {
		t.Run(name, func(t *testing.T) {
			h := &fakeHTTP{}
			f, err := NewFinpay(finpayConfig(), broken, h, newLog(t), nil)
			require.NoError(t, err)
			a := f.Submit(t.Context(), request(txn.FinpayResetPIN, 1))
			require.Equal(t, txn.NotSent, a.Outcome)
			require.Equal(t, txn.ReasonKeystore, a.Reason)
			require.Contains(t, a.Text, errTokenAway.Error())
			require.Empty(t, h.to("/pin/reset"))
		})
	}
}

func TestProbe(t *testing.T) {
	away := &wire.Error{Op: wire.OpTLS, Host: "h", Err: errors.New("x509"), Untrusted: true}
	h := &fakeHTTP{}
	f := newFinpay(t, h, nil)
	require.NoError(t, f.Probe(t.Context()))
	require.Len(t, h.requests, 1, "without a token a probe fetches one")
	require.NoError(t, f.Probe(t.Context()))
	require.Len(t, h.requests, 1, "with a token it only connects")
	h.connect = func() error { return away }
	var pe *txn.ProbeError
	require.ErrorAs(t, f.Probe(t.Context()), &pe)
	require.Equal(t, txn.ReasonLinkUntrusted, pe.Reason)
	require.ErrorIs(t, pe, away)
}
