package prepaid

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gardu/internal/secret"
	"gardu/internal/txn"
	"gardu/internal/wire"
)

func TestFailedExchanges(t *testing.T) {
	for name, tt := range map[string]struct {
		err     error
		outcome txn.Outcome
		reason  txn.Reason
		alarm   bool
	}{
		"no connection":       {&wire.Error{Op: wire.OpConnect, Err: errors.New("refused")}, txn.NotSent, txn.ReasonLinkDown, false},
		"untrusted":           {&wire.Error{Op: wire.OpTLS, Err: errors.New("x509"), Untrusted: true, Hint: "check ca_file"}, txn.NotSent, txn.ReasonLinkUntrusted, true},
		"sent":                {&wire.Error{Op: wire.OpReceive, Err: context.DeadlineExceeded, Sent: true}, txn.Unknown, txn.ReasonNoAnswer, false},
		"sent to a stranger":  {&wire.Error{Op: wire.OpSend, Err: errors.New("x"), Sent: true, Untrusted: true}, txn.Unknown, txn.ReasonNoAnswer, false},
		"an error of no kind": {errors.New("something"), txn.Unknown, txn.ReasonNoAnswer, false},
		"wrapped":             {fmt.Errorf("outer: %w", &wire.Error{Op: wire.OpConnect, Err: errors.New("refused")}), txn.NotSent, txn.ReasonLinkDown, false},
	} {
		t.Run(name, func(t *testing.T) {
			client := &fakeClient{do: func(wire.Request) (*wire.Reply, error) { return nil, tt.err }}
			a := newProvider(t, testConfig(), newCipher(t), client).Submit(t.Context(), testCall())
			require.Equal(t, tt.outcome, a.Outcome)
			require.Equal(t, tt.reason, a.Reason)
			require.Equal(t, tt.alarm, a.Alarm != "")
			require.Zero(t, a.HTTPStatus)
			require.Len(t, client.sent, 1)
		})
	}
}

func TestTokenDevice(t *testing.T) {
	t.Run("cannot encrypt", func(t *testing.T) {
		c, client := newCipher(t), answers(200, sealedReply(t, nil))
		c.err = errors.New("token absent")
		a := newProvider(t, testConfig(), c, client).Submit(t.Context(), testCall())
		require.Equal(t, txn.Answer{Outcome: txn.NotSent, Reason: txn.ReasonKeystore}, a)
		require.Empty(t, client.sent)
	})
	t.Run("cannot decrypt", func(t *testing.T) {
		c, client := newCipher(t), answers(200, sealedReply(t, nil))
		do := client.do
		client.do = func(r wire.Request) (*wire.Reply, error) {
			c.err = errors.New("token absent")
			return do(r)
		}
		a := newProvider(t, testConfig(), c, client).Submit(t.Context(), testCall())
		require.Equal(t, txn.Unknown, a.Outcome)
		require.Equal(t, txn.ReasonUnreadable, a.Reason)
		require.Contains(t, a.Alarm, "could not decrypt")
	})
	t.Run("decrypts to another length", func(t *testing.T) {
		p := newProvider(t, testConfig(), leakyCipher{}, answers(200, ""))
		_, err := p.read(t.Context(), []byte(sealedReply(t, nil)))
		var ce *cipherError
		require.ErrorAs(t, err, &ce)
	})
}

// An answer that came in at the last moment must not be lost for want of time.
func TestAnswerIsReadAfterTheDeadline(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	client := answers(200, sealedReply(t, nil))
	do := client.do
	client.do = func(r wire.Request) (*wire.Reply, error) { cancel(); return do(r) }
	a := newProvider(t, testConfig(), ctxCipher{newCipher(t)}, client).Submit(ctx, testCall())
	require.Equal(t, txn.HasSucceeded, a.Outcome)
}

// ctxCipher gives up when its context has ended, as a keystore does.
type ctxCipher struct{ *softCipher }

func (c ctxCipher) DecryptCBC(ctx context.Context, iv, ct []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if _, bounded := ctx.Deadline(); !bounded {
		return nil, errors.New("no deadline")
	}
	return c.softCipher.DecryptCBC(ctx, iv, ct)
}

func TestNothingIsSentThatBreaksARule(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*txn.Call)
		config func(*Config)
		reason txn.Reason
	}{
		"another operation": {func(c *txn.Call) { c.Request.Operation = txn.FinpayBind }, nil, txn.ReasonNotAllowed},
		"switched off":      {nil, func(c *Config) { c.Verification = "" }, txn.ReasonNotAllowed},
		"no time":           {func(c *txn.Call) { c.Attempt.Began = time.Time{} }, nil, txn.ReasonRefused},
		"no PIN":            {func(c *txn.Call) { c.Secret = nil }, nil, txn.ReasonBadField},
		"short PIN":         {func(c *txn.Call) { c.Secret = secret.Clone([]byte("123")) }, nil, txn.ReasonBadField},
		"long PIN":          {func(c *txn.Call) { c.Secret = secret.Clone([]byte("1234567")) }, nil, txn.ReasonBadField},
		"PIN with quote":    {func(c *txn.Call) { c.Secret = secret.Clone([]byte(`12"4`)) }, nil, txn.ReasonBadField},
		"no urn":            {func(c *txn.Call) { delete(c.Request.Fields, FieldURN) }, nil, txn.ReasonBadField},
		"urn with zero":     {func(c *txn.Call) { c.Request.Fields[FieldURN] = "07" }, nil, txn.ReasonBadField},
		"urn too long":      {func(c *txn.Call) { c.Request.Fields[FieldURN] = "123456789012" }, nil, txn.ReasonBadField},
		"three last digits": {func(c *txn.Call) { c.Request.Fields[FieldLast4] = "123" }, nil, txn.ReasonBadField},
		"customer quoted":   {func(c *txn.Call) { c.Request.Fields[FieldCustomer] = `a","newPIN":"0000` }, nil, txn.ReasonBadField},
		"another field":     {func(c *txn.Call) { c.Request.Fields["x"] = "1" }, nil, txn.ReasonBadField},
		"no reference":      {func(c *txn.Call) { c.Request.Reference = "" }, nil, txn.ReasonBadField},
		"quoted reference":  {func(c *txn.Call) { c.Request.Reference = `a"b` }, nil, txn.ReasonBadField},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := testConfig()
			if tt.config != nil {
				tt.config(&cfg)
			}
			call := testCall()
			if tt.change != nil {
				tt.change(&call)
			}
			client, c := answers(200, sealedReply(t, nil)), newCipher(t)
			a := newProvider(t, cfg, c, client).Submit(t.Context(), call)
			require.Equal(t, txn.WasRejected, a.Outcome)
			require.Equal(t, tt.reason, a.Reason)
			require.Contains(t, a.Text, "not sent: ")
			require.Empty(t, client.sent)
			require.Empty(t, c.handed)
		})
	}
	t.Run("urn with zero as text is allowed", func(t *testing.T) {
		call := testCall()
		call.Request.Fields[FieldURN] = "07"
		cfg := testConfig(func(c *Config) { c.URNAsNumber = false })
		a := newProvider(t, cfg, newCipher(t), answers(200, sealedReply(t, map[string]any{"urn": "07"}))).Submit(t.Context(), call)
		require.Equal(t, txn.HasSucceeded, a.Outcome)
	})
	t.Run("urn zero is a number", func(t *testing.T) {
		call := testCall()
		call.Request.Fields[FieldURN] = "0"
		a := newProvider(t, testConfig(), newCipher(t), answers(200, sealedReply(t, map[string]any{"urn": 0}))).Submit(t.Context(), call)
		require.Equal(t, txn.HasSucceeded, a.Outcome)
	})
}

func TestProbe(t *testing.T) {
	client := answers(200, "")
	p := newProvider(t, testConfig(), newCipher(t), client)
	require.NoError(t, p.Probe(t.Context()))

	client.connect = &wire.Error{Op: wire.OpConnect, Err: errors.New("refused")}
	err := p.Probe(t.Context())
	require.ErrorIs(t, err, client.connect)
	var pe *txn.ProbeError
	require.NotErrorAs(t, err, &pe)

	client.connect = &wire.Error{Op: wire.OpTLS, Err: errors.New("x509"), Untrusted: true}
	err = p.Probe(t.Context())
	require.ErrorAs(t, err, &pe)
	require.Equal(t, txn.ReasonLinkUntrusted, pe.Reason)
	require.Empty(t, client.sent, "a probe sends no request")
}

// canaries are what must appear nowhere but in the envelope and the header.
var canaries = []string{canaryPIN, "api-key-canary", "secure-code-canary"}

func TestNothingPrintsASecret(t *testing.T) {
	echo := map[string]any{
		"responseMessage": "your new PIN " + canaryPIN + " is set", "description": canaryPIN,
		"accosaRefNo": canaryPIN, "accosaTransactionId": 938271, "responseDateTime": canaryPIN, "newPIN": canaryPIN,
	}
	with := func(k string, v any) map[string]any {
		m := map[string]any{k: v}
		for k, v := range echo {
			m[k] = v
		}
		return m
	}
	clients := map[string]*fakeClient{
		"success":             answers(200, sealedReply(t, echo)),
		"escaped":             answers(200, `{"responseCode":"1001","responseMessage":"\u0039\u0033\u0038\u0032\u0037\u0031"}`),
		"code is the PIN":     answers(200, sealedReply(t, with("responseCode", canaryPIN))),
		"code holds the PIN":  answers(200, sealedReply(t, with("responseCode", "A-"+canaryPIN))),
		"rejected":            answers(200, sealedReply(t, with("responseCode", "1001"))),
		"misconfigured":       answers(200, sealedReply(t, with("responseCode", "1031"))),
		"another transaction": answers(200, sealedReply(t, with("clientTxnId", canaryPIN))),
		"in clear":            answers(400, string(reply(t, with("responseCode", "1309")))),
		"in a page":           answers(502, "<html>"+canaryPIN),
		"no JSON":             answers(200, canaryPIN),
		"unreadable":          answers(200, `{"token":"`+canaryPIN+`"}`),
		"refused":             answers(403, canaryPIN),
		"no answer": {do: func(wire.Request) (*wire.Reply, error) {
			return nil, &wire.Error{Op: wire.OpReceive, Err: errors.New("reset"), Sent: true}
		}},
	}
	for name, client := range clients {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			log := slog.New(slog.NewJSONHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))
			p, err := New(testConfig(), testSecrets(), newCipher(t), ScreenEntry{}, client, log)
			require.NoError(t, err)
			a := p.Submit(t.Context(), testCall())
			for _, verb := range []string{"%v", "%+v", "%#v"} {
				fmt.Fprintf(&out, verb, a)
				fmt.Fprintf(&out, verb, p)
				fmt.Fprintf(&out, verb, *p)
				fmt.Fprintf(&out, verb, p.secrets)
				fmt.Fprintf(&out, verb, testCall())
			}
			js, err := json.Marshal([]any{a, p.cfg, p.secrets})
			require.NoError(t, err)
			out.Write(js)
			log.Info("x", "provider", p, "answer", a, "secrets", p.secrets)
			for _, canary := range canaries {
				require.NotContains(t, out.String(), canary)
				require.NotContains(t, out.String(), fmt.Sprintf("%d", []byte(canary)))
				require.NotContains(t, out.String(), fmt.Sprintf("%x", canary))
			}
			if len(client.sent) > 0 {
				require.NotContains(t, string(client.sent[0].Body), canaryPIN)
			}
		})
	}
}
