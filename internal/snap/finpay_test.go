package snap

import (
	"context"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gardu/internal/secret"
	"gardu/internal/txn"
	"gardu/internal/wire"
)

// sample is a documented answer.
func sample(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "samples", name))
	require.NoError(t, err)
	return string(b)
}

const (
	linkedAnswer   = `{"responseCode":"2000800","additionalInfo":{"accountStatus":"LINKED"}}`
	unlinkedAnswer = `{"responseCode":"2000800","additionalInfo":{"accountStatus":"NOT_LINKED"}}`
)

func TestResetPINSample(t *testing.T) {
	f := newFinpay(t, &fakeHTTP{answer: always(200, sample(t, "finpay_reset_pin.answer.json"))}, nil)
	require.Equal(t, txn.Answer{
		Outcome: txn.HasSucceeded, Code: "2000600", Text: "Request has been processed successfully", HTTPStatus: 200,
	}, f.Submit(t.Context(), request(txn.FinpayResetPIN, 1)))
}

func TestBindSample(t *testing.T) {
	f := newFinpay(t, &fakeHTTP{answer: byPath(map[string]string{
		"inquiry": unlinkedAnswer, "binding": sample(t, "finpay_bind.answer.json"),
	})}, nil)
	a := f.Submit(t.Context(), request(txn.FinpayBind, 1))
	require.Equal(t, txn.WentPending, a.Outcome)
	require.Equal(t, txn.ReasonLinkOpen, a.Reason)
	require.Equal(t, txn.AwaitLink, a.Await)
	require.Equal(t, 300*time.Second, a.AwaitFor)
	require.Equal(t, "webview.finnet.co.id", a.Data[txn.DataLinkDomain])
	require.Equal(t, "euG876NUHSGVARqJ", a.Data[txn.DataReferenceNo])
	u, err := url.Parse(a.Data[txn.DataLinkURL])
	require.NoError(t, err)
	require.Equal(t, "https://webview.finnet.co.id/partner/binding/pin-verification", u.Scheme+"://"+u.Host+u.Path)
	require.Equal(t, "https://snapstag.finnet.co.id/health", u.Query().Get("redirectToDeeplink"))
	require.Len(t, u.Query().Get("linkageToken"), 881)
	require.Len(t, u.Query(), 2)
}

func TestUnbindSample(t *testing.T) {
	f := newFinpay(t, &fakeHTTP{answer: always(200, sample(t, "finpay_unbind_1.answer.json"))}, nil)
	a := f.Submit(t.Context(), request(txn.FinpayUnbind, 1))
	require.Equal(t, txn.WentPending, a.Outcome)
	require.Equal(t, txn.ReasonOTPWanted, a.Reason)
	require.Equal(t, txn.AwaitOTP, a.Await)
	require.Equal(t, 5*time.Minute, a.AwaitFor)
	require.Equal(t, map[string]string{txn.DataReferenceNo: "1373010202245923153"}, a.Data)
	// The same words after the second call: the provider has not finished.
	a = f.Submit(t.Context(), request(txn.FinpayUnbind, 2))
	require.Equal(t, txn.WentPending, a.Outcome)
	require.Equal(t, txn.ReasonInProgress, a.Reason)
	require.Empty(t, a.Await)
}

func TestBindAnswers(t *testing.T) {
	const good = `"redirectUrl":"https://w.example/p?x=1","linkageToken":"opaque"`
	for _, tc := range []struct {
		name, body string
		outcome    txn.Outcome
		link       string
	}{
		{"no JWT: the setting's life", `{"responseCode":"2000700",` + good + `}`, txn.WentPending, "https://w.example/p?linkageToken=opaque&x=1"},
		{"params of all kinds", `{"responseCode":"2000700","params":{"b":2,"a":"ä/&"},` + good + `}`, txn.WentPending, "https://w.example/p?a=%C3%A4%2F%26&b=2&linkageToken=opaque&x=1"},
		{"params an empty array", `{"responseCode":"2000700","params":[],` + good + `}`, txn.WentPending, "https://w.example/p?linkageToken=opaque&x=1"},
		{"no token", `{"responseCode":"2000700","redirectUrl":"https://w.example/p"}`, txn.WentPending, "https://w.example/p"},
		{"no page", `{"responseCode":"2000700","linkageToken":"x"}`, txn.Unknown, ""},
		{"not https", `{"responseCode":"2000700","redirectUrl":"http://w.example/p"}`, txn.Unknown, ""},
		{"javascript", `{"responseCode":"2000700","redirectUrl":"javascript:alert(1)"}`, txn.Unknown, ""},
		{"user name in the page", `{"responseCode":"2000700","redirectUrl":"https://bank.example@evil.example/"}`, txn.Unknown, ""},
		{"no host", `{"responseCode":"2000700","redirectUrl":"https:///p"}`, txn.Unknown, ""},
		{"params nested", `{"responseCode":"2000700","params":{"a":{}},` + good + `}`, txn.Unknown, ""},
		{"params a list", `{"responseCode":"2000700","params":["a"],` + good + `}`, txn.Unknown, ""},
		{"page without end", `{"responseCode":"2000700","redirectUrl":"https://w.example/` + strings.Repeat("a", 9000) + `"}`, txn.Unknown, ""},
		{"in progress", `{"responseCode":"2020700"}`, txn.WentPending, ""},
		{"refused", `{"responseCode":"4030701"}`, txn.WasRejected, ""},
		{"duplicate id", `{"responseCode":"4090700"}`, txn.Unknown, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFinpay(t, &fakeHTTP{answer: byPath(map[string]string{"inquiry": unlinkedAnswer, "binding": tc.body})}, nil)
			a := f.Submit(t.Context(), request(txn.FinpayBind, 1))
			require.Equal(t, tc.outcome, a.Outcome, "%+v", a)
			require.Equal(t, tc.link, a.Data[txn.DataLinkURL])
			if tc.link != "" {
				require.Equal(t, 5*time.Minute, a.AwaitFor)
			} else {
				require.Empty(t, a.Await)
			}
			if tc.outcome == txn.Unknown && strings.Contains(tc.body, "2000700") {
				require.Equal(t, txn.ReasonUnreadable, a.Reason)
				require.NotContains(t, a.Text, "example", "an unusable page is not repeated")
			}
		})
	}
}

func TestInquiryBeforeBind(t *testing.T) {
	broken := func(e *wire.Error) func(wire.Request) (*wire.Reply, error) {
		return func(wire.Request) (*wire.Reply, error) { return nil, e }
	}
	for _, tc := range []struct {
		name    string
		inquiry func(wire.Request) (*wire.Reply, error)
		binds   int
		outcome txn.Outcome
		reason  txn.Reason
	}{
		{"linked already", always(200, linkedAnswer), 0, txn.WasRejected, txn.ReasonAlreadyLinked},
		{"linked, in small letters", always(200, `{"responseCode":"2000800","additionalInfo":{"accountStatus":" linked "}}`), 0, txn.WasRejected, txn.ReasonAlreadyLinked},
		{"not linked", always(200, unlinkedAnswer), 1, txn.WentPending, txn.ReasonInProgress},
		{"UNLINKED is not LINKED", always(200, `{"responseCode":"2000800","additionalInfo":{"accountStatus":"UNLINKED"}}`), 1, txn.WentPending, txn.ReasonInProgress},
		{"no such account", always(404, `{"responseCode":"4040811"}`), 1, txn.WentPending, txn.ReasonInProgress},
		{"inquiry not allowed", always(403, `{"responseCode":"4030801"}`), 0, txn.WasRejected, txn.ReasonNotAllowed},
		{"inquiry without a status", always(200, `{"responseCode":"2000800"}`), 0, txn.NotSent, txn.ReasonUnreadable},
		{"inquiry pending", always(200, `{"responseCode":"2000800","additionalInfo":{"accountStatus":"LINK_PENDING"}}`), 0, txn.NotSent, txn.ReasonThrottled},
		{"inquiry times out", broken(&wire.Error{Op: wire.OpReceive, Err: errors.New("timeout"), Sent: true}), 0, txn.NotSent, txn.ReasonLinkDown},
		{"link down", broken(&wire.Error{Op: wire.OpConnect, Err: errors.New("refused")}), 0, txn.NotSent, txn.ReasonLinkDown},
		{"server error", always(500, ``), 0, txn.NotSent, txn.ReasonServerError},
		{"throttled", always(429, `{"responseCode":"4290800"}`), 0, txn.NotSent, txn.ReasonThrottled},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := &fakeHTTP{answer: func(r wire.Request) (*wire.Reply, error) {
				if strings.HasSuffix(r.URL, "inquiry") {
					return tc.inquiry(r)
				}
				return reply(202, `{"responseCode":"2020700"}`), nil
			}}
			f := newFinpay(t, h, nil)
			a := f.Submit(t.Context(), request(txn.FinpayBind, 1))
			require.Equal(t, tc.outcome, a.Outcome, "%+v", a)
			require.Equal(t, tc.reason, a.Reason)
			require.Len(t, h.to("binding"), tc.binds)
		})
	}
	t.Run("a token that ended is replaced at once: an inquiry has no effect", func(t *testing.T) {
		n := 0
		h := &fakeHTTP{answer: func(r wire.Request) (*wire.Reply, error) {
			if n++; n == 1 {
				return reply(401, `{"responseCode":"4010801"}`), nil
			}
			return reply(200, linkedAnswer), nil
		}}
		a := newFinpay(t, h, nil).Submit(t.Context(), request(txn.FinpayBind, 1))
		require.Equal(t, txn.ReasonAlreadyLinked, a.Reason)
		got := h.to("inquiry")
		require.Len(t, got, 2)
		require.NotEqual(t, got[0].Header["X-EXTERNAL-ID"], got[1].Header["X-EXTERNAL-ID"])
	})
	t.Run("no external id", func(t *testing.T) {
		h := &fakeHTTP{}
		c := request(txn.FinpayBind, 1)
		c.NewExternalID = func(context.Context) (string, error) { return "", errors.New("journal full") }
		a := newFinpay(t, h, nil).Submit(t.Context(), c)
		require.Equal(t, txn.NotSent, a.Outcome)
		require.Contains(t, a.Text, "journal full")
		require.Empty(t, h.requests)
	})
}

func TestUnbindFirstCallAnswers(t *testing.T) {
	for _, tc := range []struct {
		name, body string
		outcome    txn.Outcome
		reason     txn.Reason
	}{
		{"no result: an OTP is awaited", `{"responseCode":"2000900","referenceNo":"1"}`, txn.WentPending, txn.ReasonOTPWanted},
		{"reference a number", `{"responseCode":"2000900","referenceNo":1373010202245923153,"unlinkResult":"X_PENDING"}`, txn.WentPending, txn.ReasonOTPWanted},
		{"no reference", `{"responseCode":"2000900","unlinkResult":"UNBINDING_PENDING"}`, txn.Unknown, txn.ReasonUnreadable},
		{"unusable reference", `{"responseCode":"2000900","referenceNo":"a b","unlinkResult":"UNBINDING_PENDING"}`, txn.Unknown, txn.ReasonUnreadable},
		{"done at once", `{"responseCode":"2000900","referenceNo":"1","unlinkResult":"UNBINDING_SUCCESS"}`, txn.HasSucceeded, ""},
		{"a failure with a code of success", `{"responseCode":"2000900","referenceNo":"1","unlinkResult":"UNBINDING_FAILED"}`, txn.Unknown, txn.ReasonUnreadable},
		{"refused", `{"responseCode":"4040911"}`, txn.WasRejected, txn.ReasonNotFound},
		{"in progress", `{"responseCode":"2020900"}`, txn.WentPending, txn.ReasonInProgress},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFinpay(t, &fakeHTTP{answer: byPath(map[string]string{"unbinding": tc.body})}, nil)
			a := f.Submit(t.Context(), request(txn.FinpayUnbind, 1))
			require.Equal(t, tc.outcome, a.Outcome)
			require.Equal(t, tc.reason, a.Reason)
			if tc.reason != txn.ReasonOTPWanted {
				require.Empty(t, a.Await)
			}
		})
	}
}

func TestUnbindSecondCallAnswers(t *testing.T) {
	for _, tc := range []struct {
		name, body string
		outcome    txn.Outcome
		reason     txn.Reason
		await      txn.Await
	}{
		{"done", `{"responseCode":"2000900","unlinkResult":"UNBINDING_SUCCESS"}`, txn.HasSucceeded, "", ""},
		{"done, without a word", `{"responseCode":"2000900"}`, txn.HasSucceeded, "", ""},
		{"pending", `{"responseCode":"2000900","unlinkResult":"unbinding_pending"}`, txn.WentPending, txn.ReasonInProgress, ""},
		{"a failure with a code of success", `{"responseCode":"2000900","unlinkResult":"UNBINDING_REJECTED"}`, txn.Unknown, txn.ReasonUnreadable, ""},
		{"wrong OTP", `{"responseCode":"4040915"}`, txn.WasRejected, txn.ReasonOTPWrong, txn.AwaitOTP},
		{"OTP wanted: it counts no more", `{"responseCode":"4040906"}`, txn.WasRejected, txn.ReasonOTPExpired, ""},
		{"OTP expired", `{"responseCode":"4030912"}`, txn.WasRejected, txn.ReasonOTPExpired, ""},
		{"OTP blocked", `{"responseCode":"4030911"}`, txn.WasRejected, txn.ReasonOTPBlocked, ""},
		{"unknown reference", `{"responseCode":"4040901"}`, txn.WasRejected, txn.ReasonNotFound, ""},
		{"server error", `{"responseCode":"5000901"}`, txn.Unknown, txn.ReasonServerError, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := &fakeHTTP{answer: byPath(map[string]string{"unbinding": tc.body})}
			c := request(txn.FinpayUnbind, 2)
			a := newFinpay(t, h, nil).Submit(t.Context(), c)
			require.Equal(t, tc.outcome, a.Outcome)
			require.Equal(t, tc.reason, a.Reason)
			require.Equal(t, tc.await, a.Await)
			require.Len(t, h.to("unbinding"), 1)
			require.Equal(t, []byte(testOTP), c.Secret.Bytes(), "the secret is the engine's to wipe")
			noSecret(t, a)
		})
	}
	t.Run("pending words switched off", func(t *testing.T) {
		f := newFinpay(t, &fakeHTTP{answer: always(200, `{"responseCode":"2000900","unlinkResult":"UNBINDING_PENDING"}`)}, func(c *FinpayConfig) { c.PendingSuffix = "" })
		require.Equal(t, txn.HasSucceeded, f.Submit(t.Context(), request(txn.FinpayUnbind, 2)).Outcome)
	})
	for name, otp := range map[string]string{"none": "", "letters": "12a4", "too long": "123456789"} {
		t.Run("an OTP that is "+name+" is not sent", func(t *testing.T) {
			h := &fakeHTTP{}
			c := request(txn.FinpayUnbind, 2)
			c.Secret = secret.New([]byte(otp))
			a := newFinpay(t, h, nil).Submit(t.Context(), c)
			require.Equal(t, txn.NotSent, a.Outcome)
			require.Equal(t, txn.ReasonSecretLost, a.Reason)
			require.Empty(t, h.requests)
		})
	}
	t.Run("without the first call's reference nothing is sent", func(t *testing.T) {
		h := &fakeHTTP{}
		c := request(txn.FinpayUnbind, 2)
		c.Request.Data = nil
		require.Equal(t, txn.WasRejected, newFinpay(t, h, nil).Submit(t.Context(), c).Outcome)
		require.Empty(t, h.requests)
	})
}

// TestOTPBodyIsCleared looks at the very buffer that was sent.
func TestOTPBodyIsCleared(t *testing.T) {
	var sent []byte
	f := newFinpay(t, keepBody{&fakeHTTP{answer: always(200, `{"responseCode":"2000900"}`)}, &sent}, nil)
	c := request(txn.FinpayUnbind, 2)
	c.Request.Data[txn.DataReferenceNo] = strings.Repeat(`"`, maxReference) // the longest that can come back
	require.Equal(t, txn.HasSucceeded, f.Submit(t.Context(), c).Outcome)
	require.NotEmpty(t, sent)
	require.Equal(t, make([]byte, cap(sent)), sent[:cap(sent)])
	require.Equal(t, 1024+6*maxReference, cap(sent), "the buffer grew, so an uncleared copy was left behind")
}

// keepBody keeps the caller's own buffer.
type keepBody struct {
	*fakeHTTP
	last *[]byte
}

func (k keepBody) Do(ctx context.Context, r wire.Request) (*wire.Reply, error) {
	*k.last = r.Body
	return k.fakeHTTP.Do(ctx, r)
}

func TestInquire(t *testing.T) {
	unbind := request(txn.FinpayUnbind, 2)
	ask := request(txn.FinpayUnbind, 1)
	bind := request(txn.FinpayBind, 1)
	for _, tc := range []struct {
		name    string
		call    txn.Call
		body    string
		outcome txn.Outcome
		reason  txn.Reason
	}{
		{"bind, linked", bind, linkedAnswer, txn.HasSucceeded, txn.ReasonConfirmed},
		{"bind, not linked", bind, unlinkedAnswer, txn.WasRejected, txn.ReasonNotProcessed},
		{"bind, no such account", bind, `{"responseCode":"4040811"}`, txn.WasRejected, txn.ReasonNotProcessed},
		{"second call, linked", unbind, linkedAnswer, txn.WasRejected, txn.ReasonNotProcessed},
		{"second call, not linked", unbind, unlinkedAnswer, txn.HasSucceeded, txn.ReasonConfirmed},
		{"second call, pending", unbind, `{"responseCode":"2000800","additionalInfo":{"accountStatus":"UNLINK_PENDING"}}`, txn.WentPending, txn.ReasonInProgress},
		{"first call, linked", ask, linkedAnswer, txn.WasRejected, txn.ReasonNotProcessed},
		{"first call, not linked", ask, unlinkedAnswer, txn.WasRejected, txn.ReasonNotProcessed},
		{"no status", unbind, `{"responseCode":"2000800","additionalInfo":{}}`, txn.Unknown, txn.ReasonUnreadable},
		{"empty status", unbind, `{"responseCode":"2000800","additionalInfo":{"accountStatus":""}}`, txn.Unknown, txn.ReasonUnreadable},
		{"info a text", unbind, `{"responseCode":"2000800","additionalInfo":"LINKED"}`, txn.Unknown, txn.ReasonUnreadable},
		{"a no to the inquiry is no word about the request", unbind, `{"responseCode":"4040808"}`, txn.Unknown, txn.ReasonMisconfigured},
		{"server error", unbind, `{"responseCode":"5000800"}`, txn.Unknown, txn.ReasonServerError},
		{"in progress", unbind, `{"responseCode":"2020800"}`, txn.WentPending, txn.ReasonInProgress},
		{"throttled", unbind, `{"responseCode":"4290800"}`, txn.NotSent, txn.ReasonThrottled},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := &fakeHTTP{answer: byPath(map[string]string{"inquiry": tc.body})}
			tc.call.Attempt = txn.Attempt{} // as the contract says
			a := newFinpay(t, h, nil).Inquire(t.Context(), tc.call)
			require.Equal(t, tc.outcome, a.Outcome)
			require.Equal(t, tc.reason, a.Reason)
			require.Len(t, h.to("inquiry"), 1)
			require.NotEqual(t, testExternal, h.to("inquiry")[0].Header["X-EXTERNAL-ID"][0])
		})
	}
	t.Run("a PIN reset has no read-back", func(t *testing.T) {
		a := newFinpay(t, &fakeHTTP{answer: always(200, linkedAnswer)}, nil).Inquire(t.Context(), request(txn.FinpayResetPIN, 1))
		require.Equal(t, txn.NotSent, a.Outcome)
	})
}

func TestForeignOperation(t *testing.T) {
	h := &fakeHTTP{}
	for _, p := range []txn.Provider{newFinpay(t, h, nil), newNetzme(t, h, nil)} {
		a := p.Submit(t.Context(), request(txn.PrepaidResetPIN, 1))
		require.Equal(t, txn.WasRejected, a.Outcome)
		require.Equal(t, txn.ReasonMisconfigured, a.Reason)
	}
	require.Empty(t, h.requests)
}

func TestPolicies(t *testing.T) {
	byOp := map[txn.Operation]txn.Policy{}
	for _, p := range append(FinpayPolicies(), NetzmePolicies()...) {
		byOp[p.Operation] = p
		require.True(t, p.Enabled)
		require.Equal(t, 2*time.Minute, p.Quiet)
		require.NotEmpty(t, p.Customer(map[string]string{p.Identity: "x"}))
		if p.Readback {
			require.Equal(t, 24*time.Hour, p.Settle)
			require.Positive(t, p.ReadbackEvery)
		} else {
			require.Equal(t, 15*time.Minute, p.Settle)
		}
	}
	require.Len(t, byOp, 4)
	for op, wait := range map[txn.Operation]time.Duration{
		txn.FinpayResetPIN: 30 * time.Minute, txn.NetzmeForgotPIN: 30 * time.Minute,
		txn.FinpayBind: 3 * time.Minute, txn.FinpayUnbind: 3 * time.Minute,
	} {
		require.Equal(t, wait, byOp[op].Wait, op)
	}
	unbind := byOp[txn.FinpayUnbind]
	require.NotNil(t, unbind.OTP)
	require.Equal(t, txn.Expired, byOp[txn.FinpayBind].NotThere)
	require.Equal(t, txn.Rejected, unbind.NotThere)
	for value, ok := range map[string]bool{
		"08113929190": true, "0811392919": true, "081139291": false, "08113929190123456": false, "18113929190": false, "0811392919a": false,
	} {
		require.Equal(t, ok, unbind.Fields[0].Check([]byte(value)) == nil, value)
	}
	for value, ok := range map[string]bool{"M_F5rX23Vw": true, "a/b": false, "": false, strings.Repeat("a", 65): false} {
		require.Equal(t, ok, byOp[txn.NetzmeForgotPIN].Fields[0].Check([]byte(value)) == nil, value)
	}
}
