package prepaid

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gardu/internal/txn"
	"gardu/internal/wire"
)

func verifyConfig() Config {
	return testConfig(func(c *Config) {
		c.Verification = VerifyByCardholder
		c.VerifyMessageCode, c.VerifyAnswerMessageCode = "1130", "1131"
	})
}

// asked opens what a Verify call sent, with the test's own code.
func asked(t *testing.T, r wire.Request) map[string]any {
	t.Helper()
	var body map[string]string
	require.NoError(t, json.Unmarshal(r.Body, &body))
	raw, err := base64.StdEncoding.DecodeString(body["token"])
	require.NoError(t, err)
	block, err := aes.NewCipher(testKey)
	require.NoError(t, err)
	plain := make([]byte, len(raw)-16)
	cipher.NewCBCDecrypter(block, raw[:16]).CryptBlocks(plain, raw[16:])
	var m map[string]any
	require.NoError(t, json.Unmarshal(plain[:len(plain)-int(plain[len(plain)-1])], &m))
	return m
}

func TestVerify(t *testing.T) {
	for name, tt := range map[string]struct {
		status  int
		answer  map[string]any // beside the echo of clientTxnId
		verdict txn.Verdict
		reason  txn.Reason
		alarm   bool
	}{
		"yes":                         {200, map[string]any{"messageCode": "1131"}, txn.VerdictOK, "", false},
		"yes without confirmations":   {200, map[string]any{"messageCode": "1131", "urn": nil, "customerId": nil, "clientId": nil, "bankId": nil}, txn.VerdictOK, "", false},
		"no such card":                {200, map[string]any{"responseCode": "1001"}, txn.VerdictMismatch, txn.ReasonNotFound, false},
		"profile mismatch":            {200, map[string]any{"responseCode": 1309}, txn.VerdictMismatch, txn.ReasonRefused, false},
		"our settings":                {200, map[string]any{"responseCode": "1031"}, txn.VerdictUnknown, txn.ReasonMisconfigured, true},
		"unlisted":                    {200, map[string]any{"responseCode": "7"}, txn.VerdictUnknown, txn.ReasonUnlisted, false},
		"another transaction":         {200, map[string]any{"messageCode": "1131", "clientTxnId": "x"}, txn.VerdictUnknown, txn.ReasonEchoMismatch, false},
		"no transaction":              {200, map[string]any{"messageCode": "1131", "clientTxnId": nil}, txn.VerdictUnknown, txn.ReasonEchoMismatch, false},
		"the answer to a reset":       {200, map[string]any{"messageCode": "1121"}, txn.VerdictUnknown, txn.ReasonEchoMismatch, false},
		"another card":                {200, map[string]any{"messageCode": "1131", "urn": 1}, txn.VerdictUnknown, txn.ReasonEchoMismatch, false},
		"another customer":            {200, map[string]any{"messageCode": "1131", "customerId": "x"}, txn.VerdictUnknown, txn.ReasonEchoMismatch, false},
		"yes, but the status says no": {403, map[string]any{"messageCode": "1131"}, txn.VerdictUnknown, txn.ReasonUnreadable, false},
		"server error":                {500, nil, txn.VerdictUnknown, txn.ReasonServerError, false},
	} {
		t.Run(name, func(t *testing.T) {
			client := &fakeClient{do: func(r wire.Request) (*wire.Reply, error) {
				m := map[string]any{"clientTxnId": asked(t, r)["clientTxnId"]}
				for k, v := range tt.answer {
					m[k] = v
				}
				return &wire.Reply{Status: tt.status, Body: []byte(sealedReply(t, m))}, nil
			}}
			v := newProvider(t, verifyConfig(), newCipher(t), client).Verify(t.Context(), testCall().Request.Fields)
			require.Equal(t, tt.verdict, v.Verdict, "%+v", v)
			require.Equal(t, tt.reason, v.Reason)
			require.Equal(t, tt.alarm, v.Alarm != "")
			require.Len(t, client.sent, 1)
			require.Equal(t, "https://cards.example.com/mob1/api/onboarding/v1/verifyCardholder", client.sent[0].URL)
			require.Equal(t, []string{"secure-code-canary"}, client.sent[0].Header["secureCode"])
		})
	}
}

func TestVerifyMessage(t *testing.T) {
	p := newProvider(t, verifyConfig(), newCipher(t), answers(200, ""))
	b := p.verifyMessage("0001aB3d00007z", time.Date(2016, 7, 14, 21, 28, 37, 0, time.UTC), testCall().Request.Fields)
	requireText(t, `{"messageCode":"1130","requestDateTime":"20160715025837","clientTxnId":"0001aB3d00007z",`+
		`"urn":70000000008,"last4Digits":"1745","customerId":"IN00001201001868"}`, b)
}

func TestVerifySendsNothingThatBreaksARule(t *testing.T) {
	client := answers(200, "")
	fields := testCall().Request.Fields
	v := newProvider(t, testConfig(), newCipher(t), client).Verify(t.Context(), fields)
	require.Equal(t, txn.VerdictUnknown, v.Verdict, "staff verify here")

	fields[FieldLast4] = "12"
	v = newProvider(t, verifyConfig(), newCipher(t), client).Verify(t.Context(), fields)
	require.Equal(t, txn.VerdictMismatch, v.Verdict)
	require.Equal(t, txn.ReasonBadField, v.Reason)
	require.Empty(t, client.sent)
}

func TestVerifyWithoutLinkOrToken(t *testing.T) {
	client := &fakeClient{do: func(wire.Request) (*wire.Reply, error) {
		return nil, &wire.Error{Op: wire.OpConnect, Err: errors.New("refused")}
	}}
	v := newProvider(t, verifyConfig(), newCipher(t), client).Verify(t.Context(), testCall().Request.Fields)
	require.Equal(t, txn.Verification{Verdict: txn.VerdictUnknown, ID: v.ID, Reason: txn.ReasonLinkDown, NotSent: true}, v)

	c := newCipher(t)
	c.err = errors.New("token absent")
	v = newProvider(t, verifyConfig(), c, client).Verify(t.Context(), testCall().Request.Fields)
	require.Equal(t, txn.Verification{Verdict: txn.VerdictUnknown, ID: v.ID, Reason: txn.ReasonKeystore, NotSent: true}, v)
}

func TestRandomTxnID(t *testing.T) {
	seen := make(map[string]bool)
	for range 1000 {
		id := randomTxnID()
		require.Regexp(t, `^[0-9A-Za-z]{14}$`, id)
		require.False(t, seen[id])
		seen[id] = true
	}
}
