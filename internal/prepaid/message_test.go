package prepaid

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// golden is the document's sample, compact and in its order, with our values.
const golden = `{"messageCode":"1120","requestDateTime":"20160715025837","clientTxnId":"0001aB3d00007z",` +
	`"newPIN":"938271","urn":70000000008,"last4Digits":"1745","customerId":"IN00001201001868"}`

// requireText compares byte for byte: the order of the fields is part of the message.
func requireText(t *testing.T, want string, got []byte) {
	t.Helper()
	require.Equal(t, want, string(got))
}

func TestResetMessage(t *testing.T) {
	c := testCall()
	p := newProvider(t, testConfig(), newCipher(t), answers(200, ""))
	b := p.resetMessage(c.Request.Reference, c.Attempt.Began, c.Request.Fields, c.Secret.Bytes())
	requireText(t, golden, b)
	require.Equal(t, grown(len(golden)), cap(b), "the buffer must hold the padding and never have grown")

	p.cfg.URNAsNumber = false
	b = p.resetMessage(c.Request.Reference, c.Attempt.Began, c.Request.Fields, c.Secret.Bytes())
	requireText(t, strings.Replace(golden, `70000000008`, `"70000000008"`, 1), b)
	require.Equal(t, grown(len(golden)+2), cap(b))
}

func TestRequestDateTimeIsInTheZone(t *testing.T) {
	at := time.Date(2025, 12, 31, 20, 0, 0, 0, time.UTC)
	for zone, want := range map[string]string{
		"Asia/Kolkata": "20260101013000", "Asia/Jakarta": "20260101030000", "UTC": "20251231200000",
	} {
		p := newProvider(t, testConfig(func(c *Config) { c.Zone = zone }), newCipher(t), answers(200, ""))
		require.Equal(t, want, string(p.stamp(at)), zone)
		require.Equal(t, want, string(p.stamp(at.In(time.FixedZone("far", -9*3600)))), zone)
	}
}

func TestSubmitSendsTheEnvelope(t *testing.T) {
	const static = "static--iv--here"
	for _, iv := range []IV{IVPrefix, IVSuffix, IVZero, IVStatic} {
		t.Run(string(iv), func(t *testing.T) {
			client := answers(500, "")
			p := newProvider(t, testConfig(func(c *Config) {
				c.IV = iv
				if iv == IVStatic {
					c.StaticIV = "7374617469632d2d69762d2d68657265"
				}
				c.BaseURL += "/gw/"
			}), newCipher(t), client)
			p.Submit(t.Context(), testCall())
			p.Submit(t.Context(), testCall())
			require.Len(t, client.sent, 2)
			var vectors []string
			for _, r := range client.sent {
				require.Equal(t, http.MethodPost, r.Method)
				require.Equal(t, "https://cards.example.com/gw/mob1/api/onboarding/v1/resetPin", r.URL)
				var body map[string]string
				require.NoError(t, json.Unmarshal(r.Body, &body))
				require.Len(t, body, 1)
				require.Equal(t, `{"token":"`+body["token"]+`"}`, string(r.Body), "compact, and with nothing escaped")
				raw, err := base64.StdEncoding.Strict().DecodeString(body["token"])
				require.NoError(t, err)

				vector, ct := make([]byte, 16), raw
				switch iv {
				case IVPrefix:
					vector, ct = raw[:16], raw[16:]
				case IVSuffix:
					vector, ct = raw[len(raw)-16:], raw[:len(raw)-16]
				case IVStatic:
					vector = []byte(static)
				case IVZero:
				}
				vectors = append(vectors, string(vector))
				block, err := aes.NewCipher(testKey)
				require.NoError(t, err)
				plain := make([]byte, len(ct))
				cipher.NewCBCDecrypter(block, vector).CryptBlocks(plain, ct)
				n := int(plain[len(plain)-1])
				require.Equal(t, strings.Repeat(string(rune(n)), n), string(plain[len(plain)-n:]))
				requireText(t, golden, plain[:len(plain)-n])
			}
			if iv == IVPrefix || iv == IVSuffix {
				require.NotEqual(t, vectors[0], vectors[1], "each message has an IV of its own")
			}
		})
	}
}

func TestHeaders(t *testing.T) {
	client := answers(500, "")
	p := newProvider(t, testConfig(func(c *Config) { c.ConsumerCustomID = "kiosk-7" }), newCipher(t), client)
	p.Submit(t.Context(), testCall())
	require.Equal(t, http.Header{
		"Content-Type": {"application/json"}, "Accept": {"application/json"},
		"x-api-key": {"api-key-canary"}, "clientId": {"2000"}, "bankId": {"7000"}, "entityId": {"100"},
		"secureCode": {"secure-code-canary"}, "X-Consumer-Custom-ID": {"kiosk-7"},
	}, client.sent[0].Header)

	p.cfg.ConsumerCustomID = ""
	require.NotContains(t, p.header(), "X-Consumer-Custom-ID")
}
