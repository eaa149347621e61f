package upstream_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gardu/cmd/sandbox/upstream"
)

// inject sets a fault for one Finpay exchange unless the fault says otherwise.
func (w *world) inject(f upstream.Fault) int {
	w.t.Helper()
	if f.Provider == "" {
		f.Provider = upstream.Finpay
	}
	id, err := w.Inject(f)
	require.NoError(w.t, err)
	return id
}

// TestFaultsOfAnExchange sends one reset under each fault: how it ends, how far it got, whether the PIN was reset, and that the next
// request is served as if nothing had been.
func TestFaultsOfAnExchange(t *testing.T) {
	const refused = 0 // the connection ends without a complete answer
	for name, c := range map[string]struct {
		fault  upstream.Fault
		status int
		code   string
		stage  upstream.Stage
		effect bool
	}{
		"status": {
			upstream.Fault{Kind: upstream.KindStatus, Status: 500, Code: "01"}, 500, "5000001", upstream.StageAnswered, false,
		},
		"status with a full code": {
			upstream.Fault{Kind: upstream.KindStatus, Status: 200, Code: "5040000"}, 200, "5040000", upstream.StageAnswered, false,
		},
		"status without a code": {
			upstream.Fault{Kind: upstream.KindStatus, Status: 503}, 503, "5030000", upstream.StageAnswered, false,
		},
		"answer after effect": {
			upstream.Fault{Kind: upstream.KindAnswerAfterEffect, Status: 504}, 504, "5040000", upstream.StageAnswered, true,
		},
		"break before effect": {
			upstream.Fault{Kind: upstream.KindBreakBeforeEffect}, refused, "", upstream.StageBody, false,
		},
		"break before effect with reset": {
			upstream.Fault{Kind: upstream.KindBreakBeforeEffect, RST: true}, refused, "", upstream.StageBody, false,
		},
		"break after effect": {
			upstream.Fault{Kind: upstream.KindBreakAfterEffect}, refused, "", upstream.StageEffect, true,
		},
		"break after effect with reset": {
			upstream.Fault{Kind: upstream.KindBreakAfterEffect, RST: true}, refused, "", upstream.StageEffect, true,
		},
		"break in the request line": {
			upstream.Fault{Kind: upstream.KindBreakAtByte, Byte: 3}, refused, "", upstream.StageConnected, false,
		},
		"break in the header": {
			upstream.Fault{Kind: upstream.KindBreakAtByte, Byte: 100}, refused, "", upstream.StageConnected, false,
		},
		"throttle": {
			upstream.Fault{Kind: upstream.KindThrottle, RetryAfterSeconds: 7}, 429, "4290000", upstream.StageAnswered, false,
		},
		"redirect": {
			upstream.Fault{Kind: upstream.KindRedirect}, 307, "3070000", upstream.StageAnswered, false,
		},
		"garbage": {
			upstream.Fault{Kind: upstream.KindGarbage}, 200, "not json", upstream.StageAnswered, true,
		},
		"garbage without effect": {
			upstream.Fault{Kind: upstream.KindGarbage, Effect: new(false)}, 200, "not json", upstream.StageAnswered, false,
		},
		"truncated": {
			upstream.Fault{Kind: upstream.KindTruncated}, refused, "", upstream.StageEffect, true,
		},
		"wrong echo where nothing is echoed": {
			upstream.Fault{Kind: upstream.KindWrongEcho}, 200, "2000600", upstream.StageAnswered, true,
		},
		"slow": {
			upstream.Fault{Kind: upstream.KindSlow, DelayMS: 30}, 200, "2000600", upstream.StageAnswered, true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := start(t, config(t))
			token := w.token(upstream.Finpay)
			c.fault.Times = 1
			w.inject(c.fault)
			w.inject(upstream.Fault{Kind: upstream.KindStatus, Operation: "finpay.bind", Status: 500}) // never hit

			r := w.finpay(token, pathReset, resetBody("ref1", phone))
			began := time.Now()
			got, err := w.do(r)
			switch {
			case c.status == refused:
				require.Error(t, err)
			default:
				require.NoError(t, err)
				require.Equal(t, c.status, got.status)
				if c.code == "not json" {
					require.False(t, json.Valid([]byte(got.body)), got.body)
				} else {
					require.Equal(t, c.code, got.code(t))
				}
			}
			if c.fault.Kind == upstream.KindSlow {
				require.GreaterOrEqual(t, time.Since(began), 30*time.Millisecond)
			}
			if c.fault.Kind == upstream.KindThrottle {
				require.Equal(t, "7", got.header.Get("Retry-After"))
			}
			if c.fault.Kind == upstream.KindRedirect {
				require.Equal(t, w.URL(upstream.Finpay)+pathReset, got.header.Get("Location"))
			}
			if c.fault.RST {
				require.ErrorIs(t, err, syscall.ECONNRESET)
			}
			e := w.last()
			require.Equal(t, c.stage, e.Stage, "%+v", e)
			require.Equal(t, c.effect, e.Effect)
			require.Equal(t, string(c.fault.Kind), e.Fault)
			count := 0
			if c.effect {
				count = 1
			}
			require.Equal(t, count, w.EffectCount("finpay.reset_pin", "ref1"))
			w.clean()

			// The fault is used up, and what had no effect did not use up the external id either.
			again, err := w.do(r)
			require.NoError(t, err)
			if c.effect {
				require.Equal(t, "4090000", again.code(t))
			} else {
				require.Equal(t, "2000600", again.code(t))
			}
			require.Equal(t, 1, w.EffectCount("finpay.reset_pin", "ref1"))
			w.clean()
		})
	}
}

func TestBreakInTheBody(t *testing.T) {
	w := start(t, config(t))
	token := w.token(upstream.Finpay)
	r := w.finpay(token, pathReset, resetBody("ref1", phone))
	// The header's length is not known here, so every break from some byte on is tried until one lies in the body.
	seen := map[upstream.Stage]bool{}
	for at := 100; at < 3000 && !seen[upstream.StageAnswered]; at += 20 {
		id := w.inject(upstream.Fault{Kind: upstream.KindBreakAtByte, Byte: at, Times: 1})
		before := w.last().Seq
		_, err := w.do(r)
		all := w.Ledger(upstream.LedgerFilter{Since: before})
		require.Len(t, all, 1, "break at %d", at)
		seen[all[0].Stage] = true
		if all[0].Stage == upstream.StageAnswered {
			require.NoError(t, err)
			break
		}
		require.Error(t, err, "break at %d", at)
		require.Zero(t, w.EffectCount("finpay.reset_pin", ""), "break at %d", at)
		require.NoError(t, w.Clear(t.Context(), upstream.ClearFilter{ID: id}))
	}
	require.True(t, seen[upstream.StageConnected] && seen[upstream.StageHeaders] && seen[upstream.StageAnswered], "%v", seen)
	require.Equal(t, 1, w.EffectCount("finpay.reset_pin", "ref1"))
}

func TestBreakAtByteHitsTheSecondRequestOfAConnection(t *testing.T) {
	w := start(t, config(t))
	token := w.token(upstream.Finpay)
	w.inject(upstream.Fault{Kind: upstream.KindBreakAtByte, Byte: 40, Operation: "finpay.bind", Times: 1})
	require.Equal(t, 200, w.must(w.finpay(token, pathReset, resetBody("ref1", phone))).status)
	_, err := w.do(w.finpay(token, pathBind, bindBody(phone)))
	require.Error(t, err)
	all := w.Ledger(upstream.LedgerFilter{})
	require.Equal(t, all[0].Conn, all[2].Conn, "the three requests share a connection")
	require.Equal(t, upstream.StageConnected, all[2].Stage)
	require.Equal(t, 200, w.must(w.finpay(token, pathBind, bindBody(phone))).status)
}

func TestDown(t *testing.T) {
	w := start(t, config(t))
	token := w.token(upstream.Finpay)
	addr := w.Addr(upstream.Finpay)
	w.inject(upstream.Fault{Kind: upstream.KindDown})
	w.http.CloseIdleConnections() // the client may not have noticed yet that its connection is gone
	for range 3 {
		_, err := w.do(w.finpay(token, pathReset, resetBody("ref1", phone)))
		require.ErrorIs(t, err, syscall.ECONNREFUSED)
	}
	require.Equal(t, 200, w.must(tokenRequest(upstream.Netzme, netzmeID)).status, "the others are up")
	require.False(t, w.State().Platforms[upstream.Finpay].Listening)
	require.NoError(t, w.Clear(t.Context(), upstream.ClearFilter{Provider: upstream.Finpay}))
	require.Equal(t, addr, w.Addr(upstream.Finpay))
	require.Equal(t, 200, w.must(w.finpay(token, pathReset, resetBody("ref1", phone))).status)
}

func TestDownBreaksWhatIsRunning(t *testing.T) {
	w := start(t, config(t))
	token := w.token(upstream.Finpay)
	w.inject(upstream.Fault{Kind: upstream.KindHang})
	broken := make(chan error, 1)
	r := w.finpay(token, pathReset, resetBody("ref1", phone))
	go func() {
		_, err := w.do(r)
		broken <- err
	}()
	require.Eventually(t, func() bool { return w.last().Stage == upstream.StageBody }, patience, time.Millisecond)
	w.inject(upstream.Fault{Kind: upstream.KindDown})
	require.Error(t, <-broken)
}

func TestTLSBroken(t *testing.T) {
	w := start(t, config(t))
	token := w.token(upstream.Finpay) // leaves an idle connection and a session ticket behind
	w.inject(upstream.Fault{Kind: upstream.KindTLSBroken, Times: 2})
	w.http.CloseIdleConnections() // as above
	for range 2 {
		_, err := w.do(w.finpay(token, pathReset, resetBody("ref1", phone)))
		var unknown x509.UnknownAuthorityError
		require.ErrorAs(t, err, &unknown)
	}
	require.Equal(t, 200, w.must(w.finpay(token, pathReset, resetBody("ref1", phone))).status)
	require.Equal(t, 1, w.EffectCount("finpay.reset_pin", ""))
	require.Eventually(t, func() bool {
		handshakes := 0
		for _, e := range w.Ledger(upstream.LedgerFilter{}) {
			if e.Stage == upstream.StageConnected && strings.Contains(e.Note, "handshake") {
				handshakes++
			}
		}
		return handshakes == 2
	}, patience, 5*time.Millisecond)
}

func TestHang(t *testing.T) {
	for name, c := range map[string]struct {
		effect *bool
		count  int
	}{"without effect": {nil, 0}, "with effect": {new(true), 1}} {
		t.Run(name, func(t *testing.T) {
			w := start(t, config(t))
			token := w.token(upstream.Finpay)
			w.inject(upstream.Fault{Kind: upstream.KindHang, Effect: c.effect, Times: 1})
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			r := w.finpay(token, pathReset, resetBody("ref1", phone))
			ended := make(chan error, 1)
			go func() {
				_, err := w.doWith(ctx, w.http, r)
				ended <- err
			}()
			require.Eventually(t, func() bool { return w.last().Fault == "hang" }, patience, time.Millisecond)
			cancel()
			require.ErrorIs(t, <-ended, context.Canceled)
			require.Equal(t, c.count, w.EffectCount("finpay.reset_pin", "ref1"))
		})
	}
}

func TestALateEffectComesAfterTheClientHasLeft(t *testing.T) {
	w := start(t, config(t))
	token := w.token(upstream.Finpay)
	// Until the client was the first to go, which the delay decides.
	for delay := 100; ; delay *= 4 {
		ref := fmt.Sprintf("ref%d", delay)
		w.inject(upstream.Fault{Kind: upstream.KindSlow, DelayMS: delay, Effect: new(false), Times: 1})
		ctx, cancel := context.WithCancel(t.Context())
		t.Cleanup(cancel)
		r := w.finpay(token, pathReset, resetBody(ref, phone))
		before := w.last().Seq
		ended := make(chan error, 1)
		go func() {
			_, err := w.doWith(ctx, w.http, r)
			ended <- err
		}()
		require.Eventually(t, func() bool { e := w.last(); return e.Seq > before && e.Fault == "slow" }, patience, time.Millisecond)
		cancel()
		err := <-ended
		early := w.EffectCount("finpay.reset_pin", ref) == 0
		require.Eventually(t, func() bool { return w.EffectCount("finpay.reset_pin", ref) == 1 }, patience, time.Millisecond)
		if early {
			require.ErrorIs(t, err, context.Canceled)
			return
		}
		require.Less(t, delay, 60_000)
	}
}

func TestHangEndsWithClear(t *testing.T) {
	w := start(t, config(t))
	token := w.token(upstream.Finpay)
	w.inject(upstream.Fault{Kind: upstream.KindHang, Times: 1})
	ended := make(chan error, 1)
	r := w.finpay(token, pathReset, resetBody("ref1", phone))
	go func() {
		_, err := w.do(r)
		ended <- err
	}()
	require.Eventually(t, func() bool { return w.last().Fault == "hang" }, patience, time.Millisecond)
	require.NoError(t, w.Clear(t.Context(), upstream.ClearFilter{}))
	require.Error(t, <-ended)
}

func TestHuge(t *testing.T) {
	w := start(t, config(t))
	token := w.token(upstream.Finpay)
	w.inject(upstream.Fault{Kind: upstream.KindHuge, Times: 1})
	r := w.finpay(token, pathReset, resetBody("ref1", phone))
	req, err := http.NewRequestWithContext(t.Context(), r.method, w.URL(r.provider)+r.target, strings.NewReader(string(r.body)))
	require.NoError(t, err)
	req.Header = r.header
	resp, err := w.http.Do(req)
	require.NoError(t, err)
	n, err := io.CopyN(io.Discard, resp.Body, 8<<20)
	require.NoError(t, err)
	require.EqualValues(t, 8<<20, n)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, 1, w.EffectCount("finpay.reset_pin", "ref1"))
}

func TestSlowGoesTogetherWithAnother(t *testing.T) {
	w := start(t, config(t))
	token := w.token(upstream.Finpay)
	w.inject(upstream.Fault{Kind: upstream.KindSlow, DelayMS: 30, Times: 1})
	w.inject(upstream.Fault{Kind: upstream.KindAnswerAfterEffect, Status: 500, Times: 1})
	began := time.Now()
	require.Equal(t, 500, w.must(w.finpay(token, pathReset, resetBody("ref1", phone))).status)
	require.GreaterOrEqual(t, time.Since(began), 30*time.Millisecond)
	require.Equal(t, "slow+answer_after_effect", w.last().Fault)
}

func TestFaultsPickOperations(t *testing.T) {
	w := start(t, config(t))
	w.inject(upstream.Fault{Kind: upstream.KindStatus, Status: 500})
	token := w.token(upstream.Finpay) // a fault without an operation leaves tokens alone
	require.Equal(t, "5000000", w.must(w.finpay(token, pathReset, resetBody("ref1", phone))).code(t))
	require.Equal(t, "5000800", w.must(w.finpay(token, pathInquiry, inquiryBody(phone))).code(t))
	require.NoError(t, w.Clear(t.Context(), upstream.ClearFilter{}))

	w.inject(upstream.Fault{Kind: upstream.KindStatus, Status: 500, Operation: "finpay.token"})
	require.Equal(t, "5007300", w.must(tokenRequest(upstream.Finpay, finpayID)).code(t))
	require.Equal(t, "2000600", w.must(w.finpay(token, pathReset, resetBody("ref1", phone))).code(t))
	require.NoError(t, w.Clear(t.Context(), upstream.ClearFilter{Kind: upstream.KindStatus}))

	w.inject(upstream.Fault{Kind: upstream.KindStatus, Status: 504, Operation: "finpay.unbind.2", Times: 1})
	first := w.must(w.finpay(token, pathUnbind, unbindBody(linkedPhone, "", "")))
	require.Equal(t, "2000900", first.code(t))
	otp, err := w.OTP(linkedPhone)
	require.NoError(t, err)
	second := unbindBody(linkedPhone, first.text(t, "referenceNo"), otp)
	require.Equal(t, "5040900", w.must(w.finpay(token, pathUnbind, second)).code(t))
	require.Equal(t, "2000900", w.must(w.finpay(token, pathUnbind, second)).code(t))

	w.inject(upstream.Fault{Kind: upstream.KindStatus, Status: 500, Operation: "*", Times: 2})
	require.Equal(t, 500, w.must(tokenRequest(upstream.Finpay, finpayID)).status)
	require.Equal(t, 500, w.must(w.finpay(token, pathReset, resetBody("ref2", phone))).status)
	require.Equal(t, 200, w.must(w.finpay(token, pathReset, resetBody("ref2", phone))).status)
	w.clean()
}

func TestAfterEffectFaultsWaitForARequestThatIsCarriedOut(t *testing.T) {
	w := start(t, config(t))
	token := w.token(upstream.Finpay)
	w.inject(upstream.Fault{Kind: upstream.KindBreakAfterEffect, Times: 1})
	require.Equal(t, "4040011", w.must(w.finpay(token, pathReset, resetBody("ref1", "0800"))).code(t))
	_, err := w.do(w.finpay(token, pathReset, resetBody("ref2", phone)))
	require.Error(t, err)
	require.Equal(t, 1, w.EffectCount("finpay.reset_pin", "ref2"))
}

func TestAFaultDoesNotHideAViolation(t *testing.T) {
	w := start(t, config(t))
	w.inject(upstream.Fault{Kind: upstream.KindBreakBeforeEffect, Times: 1})
	_, err := w.do(w.finpay("never-issued", pathReset, resetBody("ref1", phone)))
	require.Error(t, err)
	require.Len(t, w.Violations(), 1)
	require.Contains(t, w.Violations()[0].Text, "never issued")
}

func TestExpireTokens(t *testing.T) {
	w := start(t, config(t))
	token := w.token(upstream.Finpay)
	w.inject(upstream.Fault{Kind: upstream.KindExpireTokens})
	require.Equal(t, "4010001", w.must(w.finpay(token, pathReset, resetBody("ref1", phone))).code(t))
	require.Equal(t, "2000600", w.must(w.finpay(w.token(upstream.Finpay), pathReset, resetBody("ref1", phone))).code(t))
	w.clean()
	_, err := w.Inject(upstream.Fault{Provider: upstream.Prepaid, Kind: upstream.KindExpireTokens})
	require.ErrorContains(t, err, "no tokens")
}

func TestSingleActiveToken(t *testing.T) {
	w := start(t, config(t))
	early := w.token(upstream.Netzme)
	first := w.token(upstream.Netzme)
	require.Equal(t, 200, w.must(w.netzme(early, "v1.0", forgotBody("ref0", custID))).status, "off by default")
	w.inject(upstream.Fault{Provider: upstream.Netzme, Kind: upstream.KindSingleActiveToken})
	second := w.token(upstream.Netzme)
	for _, old := range []string{early, first} {
		require.Equal(t, "4010001", w.must(w.netzme(old, "v1.0", forgotBody("ref1", custID))).code(t))
	}
	require.Equal(t, "4030004", w.must(w.netzme(second, "v1.0", forgotBody("ref1", custID))).code(t), "past the token check")
	w.clean()
}

func TestClockSkew(t *testing.T) {
	w := start(t, config(t))
	token := w.token(upstream.Finpay)
	w.inject(upstream.Fault{Kind: upstream.KindClockSkew, SkewSeconds: 900})
	got := w.must(w.finpay(token, pathReset, resetBody("ref1", phone)))
	require.Equal(t, "4010000", got.code(t))
	require.Contains(t, got.text(t, "responseMessage"), "X-TIMESTAMP")
	w.clean()
	date, err := http.ParseTime(got.header.Get("Date"))
	require.NoError(t, err)
	require.WithinDuration(t, time.Now().Add(15*time.Minute), date, patience)
	theirs, err := time.Parse(time.RFC3339, got.header.Get("X-Timestamp"))
	require.NoError(t, err)
	require.WithinDuration(t, date, theirs, time.Second)

	r := w.finpay(token, pathReset, resetBody("ref1", phone))
	r.header.Set("X-Timestamp", stamp(theirs))
	require.Equal(t, "2000600", w.must(w.resign(r, finpaySecret)).code(t), "a client that follows the platform's clock gets in")
}

func TestWrongEcho(t *testing.T) {
	w := start(t, config(t))
	w.inject(upstream.Fault{Provider: upstream.Netzme, Kind: upstream.KindWrongEcho, Times: 1})
	got := w.must(w.netzme(w.token(upstream.Netzme), "v1.0", forgotBody("ref1", custID)))
	require.Equal(t, "2000000", got.code(t))
	require.NotEqual(t, "ref1", got.text(t, "partnerReferenceNo"))
	require.Equal(t, 1, w.EffectCount("netzme.forgot_pin", "ref1"))

	w.inject(upstream.Fault{Provider: upstream.Prepaid, Kind: upstream.KindWrongEcho, Times: 1})
	card := w.must(cardRequest(cardBody("txn1", "121200"))).opened(t)
	require.Equal(t, "00", card.code(t))
	require.NotEqual(t, "txn1", card.text(t, "clientTxnId"))
	require.Equal(t, 1, w.EffectCount("prepaid.reset_pin", "txn1"))
}

func TestPrepaidFaults(t *testing.T) {
	w := start(t, config(t))
	card := func() request { return cardRequest(cardBody("txn1", "121200")) }
	w.inject(upstream.Fault{Provider: upstream.Prepaid, Kind: upstream.KindStatus, Status: 200, Code: "1231", Times: 1})
	got := w.must(card()).opened(t)
	require.Equal(t, "1231", got.code(t))
	require.Equal(t, "txn1", got.text(t, "clientTxnId"), "an error in an envelope echoes the request")
	w.inject(upstream.Fault{Provider: upstream.Prepaid, Kind: upstream.KindStatus, Status: 503, Times: 1})
	bare := w.must(card())
	require.Equal(t, 503, bare.status)
	require.NotContains(t, bare.body, "token")
	require.Zero(t, w.EffectCount("prepaid.reset_pin", ""))
	w.inject(upstream.Fault{Provider: upstream.Prepaid, Kind: upstream.KindBreakAfterEffect, Times: 1})
	_, err := w.do(card())
	require.Error(t, err)
	require.Equal(t, 1, w.EffectCount("prepaid.reset_pin", "txn1"))
	w.clean()
}

func TestInjectRefusesWhatCouldNotWork(t *testing.T) {
	w := start(t, config(t))
	for name, c := range map[string]struct {
		fault upstream.Fault
		says  string
	}{
		"unknown platform":         {upstream.Fault{Provider: "visa", Kind: upstream.KindDown}, "not configured"},
		"unknown kind":             {upstream.Fault{Provider: "finpay", Kind: "sulk"}, "no fault"},
		"unknown operation":        {upstream.Fault{Provider: "finpay", Kind: upstream.KindHang, Operation: "finpay.dance"}, "no operation"},
		"a step of a single call":  {upstream.Fault{Provider: "finpay", Kind: upstream.KindHang, Operation: "finpay.bind.2"}, "no operation"},
		"counted down":             {upstream.Fault{Provider: "finpay", Kind: upstream.KindDown, Times: 1}, "times"},
		"negative times":           {upstream.Fault{Provider: "finpay", Kind: upstream.KindHang, Times: -1}, "times"},
		"slow without delay":       {upstream.Fault{Provider: "finpay", Kind: upstream.KindSlow}, "delay_ms"},
		"status without status":    {upstream.Fault{Provider: "finpay", Kind: upstream.KindStatus}, "status"},
		"byte without number":      {upstream.Fault{Provider: "finpay", Kind: upstream.KindBreakAtByte}, "byte"},
		"byte of a step":           {upstream.Fault{Provider: "finpay", Kind: upstream.KindBreakAtByte, Byte: 9, Operation: "finpay.unbind.2"}, "operation"},
		"connection and operation": {upstream.Fault{Provider: "finpay", Kind: upstream.KindDown, Operation: "finpay.bind"}, "operation"},
		"tokens of the prepaid":    {upstream.Fault{Provider: "prepaid", Kind: upstream.KindSingleActiveToken}, "no tokens"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := w.Inject(c.fault)
			require.ErrorContains(t, err, c.says)
		})
	}
	require.Error(t, w.Clear(t.Context(), upstream.ClearFilter{Provider: "visa"}))
}

// TestCloseDoesNotWaitForWhatHangs: Close gives exchanges two seconds, which what hangs
// would use up each time. One try that is over before shows that it does not.
func TestCloseDoesNotWaitForWhatHangs(t *testing.T) {
	for try := 1; ; try++ {
		w := start(t, config(t))
		token := w.token(upstream.Finpay)
		w.inject(upstream.Fault{Kind: upstream.KindHang})
		ended := make(chan error, 1)
		r := w.finpay(token, pathReset, resetBody("ref1", phone))
		go func() {
			_, err := w.do(r)
			ended <- err
		}()
		require.Eventually(t, func() bool { return w.last().Fault == "hang" }, patience, time.Millisecond)
		began := time.Now()
		require.NoError(t, w.Close())
		took := time.Since(began)
		require.Error(t, <-ended)
		_, err := w.do(r)
		require.ErrorIs(t, err, syscall.ECONNREFUSED)
		if took < 1500*time.Millisecond {
			return
		}
		require.Less(t, try, 10, "closing took %s", took)
	}
}

func TestTLSVersionAndClientCertificates(t *testing.T) {
	w := start(t, config(t))
	pool := x509.NewCertPool()
	require.True(t, pool.AppendCertsFromPEM(w.CA()))
	old := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12, MaxVersion: tls.VersionTLS12}}
	defer old.CloseIdleConnections()
	_, err := w.doWith(t.Context(), &http.Client{Transport: old}, tokenRequest(upstream.Finpay, finpayID))
	var alert tls.AlertError
	require.True(t, errors.As(err, &alert) || strings.Contains(err.Error(), "protocol version"), "%v", err)

	cfg := config(t)
	cfg.TLS.MinVersion = "1.2"
	lax := start(t, cfg)
	pool = x509.NewCertPool()
	require.True(t, pool.AppendCertsFromPEM(lax.CA()))
	old = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12, MaxVersion: tls.VersionTLS12}}
	defer old.CloseIdleConnections()
	got, err := lax.doWith(t.Context(), &http.Client{Transport: old}, tokenRequest(upstream.Finpay, finpayID))
	require.NoError(t, err)
	require.Equal(t, 200, got.status)
}
