package snap

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gardu/internal/txn"
	"gardu/internal/wire"
)

// reading is docs/providers.md, "What an answer means", written down once more and
// by hand: every case of the standard's list with the outcome and reason expected.
var reading = map[string]struct {
	outcome txn.Outcome
	reason  txn.Reason
}{
	"200 00": {txn.HasSucceeded, ""},
	"202 00": {txn.WentPending, txn.ReasonInProgress},
	"400 00": {txn.WasRejected, txn.ReasonRefused},
	"400 01": {txn.WasRejected, txn.ReasonBadField},
	"400 02": {txn.WasRejected, txn.ReasonBadField},
	"401 00": {txn.NotSent, txn.ReasonAuthRefused},
	"401 01": {txn.NotSent, txn.ReasonTokenInvalid},
	"401 02": {txn.WasRejected, txn.ReasonMisconfigured},
	"401 03": {txn.NotSent, txn.ReasonTokenInvalid},
	"401 04": {txn.WasRejected, txn.ReasonMisconfigured},
	"403 00": {txn.Unknown, txn.ReasonUnlisted},
	"403 01": {txn.WasRejected, txn.ReasonNotAllowed},
	"403 02": {txn.WasRejected, txn.ReasonRefused},
	"403 03": {txn.WasRejected, txn.ReasonRefused},
	"403 04": {txn.WasRejected, txn.ReasonTooMany},
	"403 05": {txn.WasRejected, txn.ReasonRefused},
	"403 06": {txn.NotSent, txn.ReasonThrottled},
	"403 07": {txn.WasRejected, txn.ReasonBlocked},
	"403 08": {txn.WasRejected, txn.ReasonBlocked},
	"403 09": {txn.WasRejected, txn.ReasonBlocked},
	"403 10": {txn.WasRejected, txn.ReasonRefused},
	"403 11": {txn.WasRejected, txn.ReasonOTPBlocked},
	"403 12": {txn.WasRejected, txn.ReasonOTPExpired},
	"403 13": {txn.WasRejected, txn.ReasonRefused},
	"403 14": {txn.WasRejected, txn.ReasonRefused},
	"403 15": {txn.WasRejected, txn.ReasonNotAllowed},
	"403 16": {txn.WasRejected, txn.ReasonBlocked},
	"403 17": {txn.WasRejected, txn.ReasonRefused},
	"403 18": {txn.WasRejected, txn.ReasonBlocked},
	"403 19": {txn.WasRejected, txn.ReasonMisconfigured},
	"403 20": {txn.WasRejected, txn.ReasonRefused},
	"403 21": {txn.WasRejected, txn.ReasonRefused},
	"403 22": {txn.WasRejected, txn.ReasonRefused},
	"403 23": {txn.WasRejected, txn.ReasonRefused},
	"404 00": {txn.WasRejected, txn.ReasonRefused},
	"404 01": {txn.WasRejected, txn.ReasonNotFound},
	"404 02": {txn.WasRejected, txn.ReasonMisconfigured},
	"404 03": {txn.WasRejected, txn.ReasonNotAllowed},
	"404 04": {txn.WasRejected, txn.ReasonRefused},
	"404 05": {txn.WasRejected, txn.ReasonMisconfigured},
	"404 06": {txn.WasRejected, txn.ReasonOTPWanted},
	"404 07": {txn.WasRejected, txn.ReasonNotFound},
	"404 08": {txn.WasRejected, txn.ReasonMisconfigured},
	"404 09": {txn.WasRejected, txn.ReasonRefused},
	"404 10": {txn.WasRejected, txn.ReasonRefused},
	"404 11": {txn.WasRejected, txn.ReasonNotFound},
	"404 12": {txn.WasRejected, txn.ReasonRefused},
	"404 13": {txn.WasRejected, txn.ReasonRefused},
	"404 14": {txn.WasRejected, txn.ReasonRefused},
	"404 15": {txn.WasRejected, txn.ReasonOTPWrong},
	"404 16": {txn.WasRejected, txn.ReasonMisconfigured},
	"404 17": {txn.WasRejected, txn.ReasonMisconfigured},
	"404 18": {txn.WasRejected, txn.ReasonRefused},
	"404 19": {txn.WasRejected, txn.ReasonRefused},
	"405 00": {txn.WasRejected, txn.ReasonMisconfigured},
	"405 01": {txn.WasRejected, txn.ReasonMisconfigured},
	"409 00": {txn.Unknown, txn.ReasonDuplicateID},
	"409 01": {txn.Unknown, txn.ReasonDuplicateRef},
	"429 00": {txn.NotSent, txn.ReasonThrottled},
	"500 00": {txn.Unknown, txn.ReasonServerError},
	"500 01": {txn.Unknown, txn.ReasonServerError},
	"500 02": {txn.Unknown, txn.ReasonServerError},
	"504 00": {txn.Unknown, txn.ReasonServerError},
}

// TestEveryCase walks all statuses and all cases, with every service code that the
// documents use: what is not in the reading is unknown.
func TestEveryCase(t *testing.T) {
	seen := 0
	for status := 100; status <= 599; status++ {
		for kase := range 100 {
			for _, service := range []string{"00", "06", "09"} {
				v := judge(status, fmt.Sprintf("%03d%s%02d", status, service, kase))
				want, listed := reading[fmt.Sprintf("%03d %02d", status, kase)]
				if !listed {
					want.outcome, want.reason = txn.Unknown, txn.ReasonUnlisted
					if status >= 500 {
						want.reason = txn.ReasonServerError
					}
				} else {
					seen++
				}
				if v.outcome != want.outcome || v.reason != want.reason { // a quarter of a million: too many for require
					require.Equal(t, want, v, "%d case %02d", status, kase)
				}
			}
		}
	}
	require.Equal(t, len(reading)*3, seen)
	require.Len(t, reading, len(table), "the table and the reading have different lengths")
}

func TestStatusAndCodeDisagree(t *testing.T) {
	for _, tc := range []struct {
		status  int
		code    string
		outcome txn.Outcome
		why     string
	}{
		{200, "5000600", txn.Unknown, "a doubt beats a success"},
		{500, "2000600", txn.Unknown, "the other way round too"},
		{502, "4000600", txn.Unknown, "a gateway's 5xx beats the no it wraps"},
		{504, "4010601", txn.Unknown, "not processed is no word against a timeout"},
		{202, "2000700", txn.WentPending, "pending beats success"},
		{200, "2020700", txn.WentPending, ""},
		{202, "4000700", txn.WentPending, "pending beats rejected"},
		{200, "4030604", txn.WasRejected, "rejected beats success"},
		{400, "2000600", txn.WasRejected, ""},
		{200, "4010601", txn.WasRejected, "not processed is not certain enough to repeat"},
		{200, "4010600", txn.WasRejected, ""},
		{200, "4290600", txn.WasRejected, ""},
		{403, "4290600", txn.WasRejected, ""},
		{429, "2000600", txn.WasRejected, ""},
		{200, "4030699", txn.Unknown, "an unlisted code is unknown"},
		{200, "4090601", txn.Unknown, "a duplicate is a success only where both agree"},
		{500, "4090601", txn.Unknown, ""},
		{409, "2000600", txn.Unknown, ""},
		{302, "2000600", txn.Unknown, ""},
		{408, "2000600", txn.Unknown, ""},
		{201, "2000600", txn.Unknown, ""},
		{200, "2010600", txn.Unknown, ""},
	} {
		t.Run(fmt.Sprintf("%d %s", tc.status, tc.code), func(t *testing.T) {
			v := judge(tc.status, tc.code)
			require.Equal(t, tc.outcome, v.outcome, tc.why)
			require.NotEqual(t, actSeenRef, v.act)
			require.NotEqual(t, actClock, v.act)
		})
	}
	// Whatever the two say: only agreement makes a success or a repeat.
	for _, status := range []int{200, 202, 302, 400, 401, 403, 404, 405, 408, 409, 429, 500, 503, 504} {
		for _, r := range table {
			v := judge(status, fmt.Sprintf("%d06%s", r.status, r.kase))
			if status != r.status {
				require.NotEqual(t, txn.HasSucceeded, v.outcome, "%d %v", status, r)
				require.NotEqual(t, txn.NotSent, v.outcome, "%d %v", status, r)
			}
		}
	}
}

func TestAnswersWithoutAReadableCode(t *testing.T) {
	for _, tc := range []struct {
		name    string
		status  int
		body    string
		outcome txn.Outcome
		reason  txn.Reason
	}{
		{"success without a code", 200, `{"responseMessage":"Successful"}`, txn.Unknown, txn.ReasonUnreadable},
		{"empty", 200, ``, txn.Unknown, txn.ReasonUnreadable},
		{"not JSON", 200, `<html>`, txn.Unknown, txn.ReasonUnreadable},
		{"an array", 200, `[{"responseCode":"2000600"}]`, txn.Unknown, txn.ReasonUnreadable},
		{"two objects", 200, `{"responseCode":"2000600"}{}`, txn.Unknown, txn.ReasonUnreadable},
		{"truncated", 200, `{"responseCode":"2000600"`, txn.Unknown, txn.ReasonUnreadable},
		{"the code twice", 200, `{"responseCode":"4000600","responseCode":"2000600"}`, txn.Unknown, txn.ReasonUnreadable},
		{"the code in capitals", 200, `{"RESPONSECODE":"2000600"}`, txn.Unknown, txn.ReasonUnreadable},
		{"code too short", 200, `{"responseCode":"200"}`, txn.Unknown, txn.ReasonUnlisted},
		{"code not digits", 200, `{"responseCode":"20006OO"}`, txn.Unknown, txn.ReasonUnlisted},
		{"code null", 200, `{"responseCode":null}`, txn.Unknown, txn.ReasonUnreadable},
		{"code an object", 200, `{"responseCode":{}}`, txn.Unknown, txn.ReasonUnreadable},
		{"code a number", 200, `{"responseCode":2000600}`, txn.HasSucceeded, ""},
		{"byte order mark", 200, "\xef\xbb\xbf" + `{"responseCode":"2000600"}`, txn.HasSucceeded, ""},
		{"a gateway's page, 404", 404, `<html>not found</html>`, txn.Unknown, txn.ReasonUnreadable},
		{"a gateway's page, 401", 401, `{"error":"unauthorized"}`, txn.Unknown, txn.ReasonUnreadable},
		{"a gateway's page, 503", 503, `<html>`, txn.Unknown, txn.ReasonServerError},
		{"a gateway's throttle", 429, `<html>`, txn.NotSent, txn.ReasonThrottled},
		{"redirect", 302, ``, txn.Unknown, txn.ReasonUnreadable},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFinpay(t, &fakeHTTP{answer: always(tc.status, tc.body)}, nil)
			a := f.Submit(t.Context(), request(txn.FinpayResetPIN, 1))
			require.Equal(t, tc.outcome, a.Outcome)
			require.Equal(t, tc.reason, a.Reason)
			require.Equal(t, tc.status, a.HTTPStatus)
			require.False(t, a.Again)
			noSecret(t, a)
		})
	}
}

// TestWhatHasToBeMended holds the acts beside the outcomes.
func TestWhatHasToBeMended(t *testing.T) {
	submit := func(t *testing.T, status int, code string, h http.Header) (txn.Answer, *Finpay, *fakeHTTP) {
		f := &fakeHTTP{answer: func(wire.Request) (*wire.Reply, error) {
			r := reply(status, `{"responseCode":"`+code+`","responseMessage":"no `+testToken+` for `+testOTP+`"}`)
			for k, v := range h {
				r.Header[k] = v
			}
			return r, nil
		}}
		p := newFinpay(t, f, nil)
		a := p.Submit(t.Context(), request(txn.FinpayResetPIN, 1))
		require.Equal(t, code, a.Code)
		require.Equal(t, "no [REDACTED] for ######", a.Text)
		noSecret(t, a)
		return a, p, f
	}
	for _, code := range []string{"4010001", "4010003"} {
		t.Run(code+" replaces the access token", func(t *testing.T) {
			a, p, f := submit(t, 401, code, nil)
			require.True(t, a.Again)
			require.False(t, p.tokens.has())
			p.Submit(t.Context(), request(txn.FinpayResetPIN, 1))
			require.Len(t, f.to("access-token/b2b"), 2)
		})
	}
	t.Run("200 with a token refused replaces it, but is not tried again", func(t *testing.T) {
		a, p, _ := submit(t, 200, "4010001", nil)
		require.Equal(t, txn.WasRejected, a.Outcome)
		require.False(t, a.Again)
		require.False(t, p.tokens.has())
	})
	t.Run("4010000 with the clocks apart", func(t *testing.T) {
		a, p, _ := submit(t, 401, "4010000", http.Header{"Date": {time.Now().Add(2 * time.Hour).UTC().Format(http.TimeFormat)}})
		require.Equal(t, txn.NotSent, a.Outcome)
		require.Equal(t, txn.ReasonClockCorrected, a.Reason)
		require.True(t, a.Again)
		require.False(t, a.Hold)
		require.InDelta(t, 2*time.Hour, p.clock.offset, float64(time.Minute))
		// Refused again with the clocks in step: now it is something else.
		a = p.Submit(t.Context(), request(txn.FinpayResetPIN, 1))
		require.True(t, a.Hold)
	})
	for name, h := range map[string]http.Header{
		"the clocks in step":      {"Date": {time.Now().UTC().Format(http.TimeFormat)}},
		"no clock in the answer":  nil,
		"a clock that is no time": {"Date": {"yesterday"}, "X-Timestamp": {"noon"}},
	} {
		t.Run("4010000 with "+name, func(t *testing.T) {
			a, p, _ := submit(t, 401, "4010000", h)
			require.Equal(t, txn.NotSent, a.Outcome)
			require.Equal(t, txn.ReasonAuthRefused, a.Reason)
			require.True(t, a.Hold)
			require.Contains(t, a.Alarm, "check client_id")
			require.Zero(t, p.clock.offset)
		})
	}
	t.Run("4010000 with a clock beyond belief", func(t *testing.T) {
		a, p, _ := submit(t, 401, "4010000", http.Header{"Date": {time.Now().AddDate(0, 0, 2).UTC().Format(http.TimeFormat)}})
		require.Equal(t, txn.ReasonAuthRefused, a.Reason)
		require.True(t, a.Hold)
		require.Contains(t, a.Alarm, "set this machine's date and time")
		require.Zero(t, p.clock.offset)
	})
	t.Run("throttles", func(t *testing.T) {
		a, _, _ := submit(t, 429, "4290000", http.Header{"Retry-After": {"17"}})
		require.Equal(t, 17*time.Second, a.RetryAfter)
		a, _, _ = submit(t, 403, "4030006", nil)
		require.Equal(t, txn.NotSent, a.Outcome)
		require.Zero(t, a.RetryAfter)
	})
	t.Run("activity count", func(t *testing.T) {
		a, _, _ := submit(t, 403, "4030004", nil)
		require.Equal(t, txn.WasRejected, a.Outcome)
		require.Equal(t, time.Hour, a.Cooldown)
	})
	t.Run("settings", func(t *testing.T) {
		a, _, _ := submit(t, 404, "4040008", nil)
		require.Contains(t, a.Alarm, "check merchant_id")
	})
	t.Run("customer token wanted", func(t *testing.T) {
		a, _, _ := submit(t, 401, "4010002", nil)
		require.Equal(t, txn.WasRejected, a.Outcome)
		require.Contains(t, a.Alarm, "set customer_token")
	})
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for in, want := range map[string]time.Duration{
		"": 0, "5": 5 * time.Second, " 5 ": 5 * time.Second, "-5": 0, "soon": 0, "99999999999999": 24 * time.Hour,
		"Thu, 01 Jan 2026 00:01:00 GMT": time.Minute, "Wed, 31 Dec 2025 00:01:00 GMT": 0,
	} {
		require.Equal(t, want, retryAfter(http.Header{"Retry-After": {in}}, now), "%q", in)
	}
}

// seen makes a request with an earlier attempt of an outcome.
func seen(op txn.Operation, step int, earlier txn.Outcome) txn.Call {
	c := request(op, step)
	c.Request.Attempts = append([]txn.Attempt{{Step: step, Serial: 700, Outcome: earlier}}, c.Request.Attempts...)
	return c
}

func TestDuplicateReference(t *testing.T) {
	otherStep := seen(txn.FinpayUnbind, 2, txn.WentPending)
	otherStep.Request.Attempts[0].Step = 1
	for _, tc := range []struct {
		name    string
		call    txn.Call
		outcome txn.Outcome
		reason  txn.Reason
		alarm   bool
	}{
		{"never sent before", request(txn.FinpayResetPIN, 1), txn.Unknown, txn.ReasonDuplicateRef, true},
		{"earlier call may have arrived", seen(txn.FinpayResetPIN, 1, txn.Unknown), txn.HasSucceeded, txn.ReasonConfirmed, false},
		{"earlier call unfinished", seen(txn.FinpayResetPIN, 1, 0), txn.HasSucceeded, txn.ReasonConfirmed, false},
		{"earlier call never left", seen(txn.FinpayResetPIN, 1, txn.NotSent), txn.Unknown, txn.ReasonDuplicateRef, true},
		{"read-back settles it", seen(txn.FinpayUnbind, 2, txn.Unknown), txn.Unknown, txn.ReasonDuplicateRef, false},
		{"the first step is no earlier call of the second", otherStep, txn.Unknown, txn.ReasonDuplicateRef, true},
		{"netzme", seen(txn.NetzmeForgotPIN, 1, txn.Unknown), txn.HasSucceeded, txn.ReasonConfirmed, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := &fakeHTTP{answer: always(409, `{"responseCode":"4090001","responseMessage":"Duplicate partnerRefNo"}`)}
			var p txn.Provider = newFinpay(t, h, nil)
			if tc.call.Request.Operation == txn.NetzmeForgotPIN {
				p = newNetzme(t, h, nil)
			}
			a := p.Submit(t.Context(), tc.call)
			require.Equal(t, tc.outcome, a.Outcome)
			require.Equal(t, tc.reason, a.Reason)
			require.Equal(t, tc.alarm, a.Alarm != "")
		})
	}
}

func FuzzResponseCode(f *testing.F) {
	for _, s := range []string{"2000600", "", "4010000", "40300001", "abcdefg", "+200000", "20000 0"} {
		f.Add(200, s)
		f.Add(401, s)
	}
	f.Fuzz(func(t *testing.T, status int, code string) {
		v := judge(status, code)
		require.NotZero(t, v.outcome)
		if v.outcome == txn.HasSucceeded {
			require.Equal(t, 200, status)
			require.Regexp(t, `^200[0-9]{2}00$`, code)
		}
		if v.outcome == txn.NotSent && code != "" {
			require.Equal(t, fmt.Sprint(status), code[:3])
		}
	})
}
