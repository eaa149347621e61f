package prepaid

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"gardu/internal/txn"
	"gardu/internal/wire"
)

func TestTokenLengthsOfThePlatform(t *testing.T) {
	// docs/providers.md, "Prepaid": three published pairs of text and token.
	for text, token := range map[int]int{159: 176, 187: 208, 131: 160} {
		e := envelope{cipher: newCipher(t), iv: IVPrefix}
		plain := make([]byte, text, grown(text))
		body, err := e.seal(t.Context(), plain)
		require.NoError(t, err)
		b64 := strings.TrimSuffix(strings.TrimPrefix(string(body), `{"token":"`), `"}`)
		raw, err := base64.StdEncoding.DecodeString(b64)
		require.NoError(t, err)
		require.Len(t, raw, token)
	}
}

func TestPaddingStaysInTheBuffer(t *testing.T) {
	for n := range 50 {
		b := make([]byte, n, grown(n))
		padded := pad(b)
		require.Len(t, padded, grown(n))
		require.Equal(t, 0, len(padded)%blockSize)
		require.Same(t, &b[:1:1][0], &padded[0], "a buffer that grew leaves a copy of the PIN behind")
		got, good := unpad(padded)
		require.Equal(t, 1, good)
		require.Equal(t, n, got)
	}
}

func TestBadPaddingIsOneError(t *testing.T) {
	text := []byte(`{"responseCode":"00"}` + "          \n") // 32 bytes, valid JSON as it is
	require.Len(t, text, 32)
	good := func(n int) []byte { return append(bytes.Clone(text[:32-n]), bytes.Repeat([]byte{byte(n)}, n)...) }
	tests := map[string][]byte{
		"zero":                   append(bytes.Clone(text[:31]), 0),
		"seventeen":              append(bytes.Clone(text[:15]), bytes.Repeat([]byte{17}, 17)...),
		"255":                    append(bytes.Clone(text[:31]), 255),
		"more than there is":     append(bytes.Clone(text[:31]), 33),
		"none at all":            text,
		"two, first wrong":       append(bytes.Clone(text[:30]), 3, 2),
		"sixteen, first wrong":   append(append(bytes.Clone(text[:16]), 1), bytes.Repeat([]byte{16}, 15)...),
		"sixteen, middle wrong":  append(bytes.Clone(text[:16]), 16, 16, 16, 16, 16, 16, 16, 16, 0, 16, 16, 16, 16, 16, 16, 16),
		"ANSI X.923":             append(bytes.Clone(text[:29]), 0, 0, 3),
		"ISO 7816":               append(bytes.Clone(text[:30]), 0x80, 0),
		"padding right, no JSON": append(bytes.Clone(text[:20]), bytes.Repeat([]byte{12}, 12)...),
		"two texts":              append([]byte(`{"a":1}{"b":1}      `), bytes.Repeat([]byte{12}, 12)...),
		"empty":                  bytes.Repeat([]byte{16}, 16),
	}
	for _, iv := range []IV{IVPrefix, IVSuffix, IVZero} {
		e := envelope{cipher: newCipher(t), iv: iv}
		_, err := e.open(t.Context(), []byte(rawToken(t, iv, good(11))))
		require.NoError(t, err, "the table's own text opens when it is padded")
		for name, padded := range tests {
			t.Run(string(iv)+"/"+name, func(t *testing.T) {
				f, err := e.open(t.Context(), []byte(rawToken(t, iv, padded)))
				require.Nil(t, f)
				require.Same(t, errUnreadable, err, "the same value, not only one that wraps it")
			})
		}
	}
}

func TestUnpadAgreesWithItsDefinition(t *testing.T) {
	for last := range 256 {
		for broken := -1; broken < 16; broken++ {
			b := bytes.Repeat([]byte{byte(last)}, 32)
			if broken >= 0 {
				b[31-broken] ^= 1
			}
			v := int(b[31])
			want := v >= 1 && v <= 16
			for i := 0; want && i < v; i++ {
				want = b[31-i] == byte(v)
			}
			n, good := unpad(b)
			require.Equal(t, want, good == 1, "%d %d", last, broken)
			if want {
				require.Equal(t, 32-v, n)
			} else {
				require.Equal(t, 32, n)
			}
		}
	}
}

func TestBadTokensAreOneError(t *testing.T) {
	token := testToken(t, IVPrefix, reply(t, nil))
	tests := map[string]string{
		"empty":              "",
		"no Base64":          "!!!!",
		"URL alphabet":       strings.Repeat("-_", 32),
		"no padding":         strings.TrimRight(base64.StdEncoding.EncodeToString(make([]byte, 32)), "="),
		"line end":           token[:76] + "\n" + token[76:],
		"line end at end":    token + "\r\n",
		"space":              token + " ",
		"trailing bits":      base64.StdEncoding.EncodeToString(make([]byte, 32))[:42] + "B=",
		"one block":          base64.StdEncoding.EncodeToString(make([]byte, 16)),
		"not whole blocks":   base64.StdEncoding.EncodeToString(make([]byte, 47)),
		"cut text":           testToken(t, IVPrefix, reply(t, nil)[:64]),
		"another IV setting": testToken(t, IVSuffix, reply(t, nil)),
		"zero IV":            testToken(t, IVZero, reply(t, nil)),
	}
	// The last character stands for four bits of the text and two that must be zero;
	// with its neighbour a lax decoder would read the same bytes.
	padded := testToken(t, IVPrefix, []byte(`{"bankId":7000}`))
	require.Len(t, padded, 44)
	require.Equal(t, 43, strings.IndexByte(padded, '='))
	last := strings.TrimRight(padded, "=")
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	n := strings.IndexByte(alphabet, last[len(last)-1])
	tests["bits after the text"] = last[:len(last)-1] + alphabet[n+1:n+2] + padded[len(last):]

	e := envelope{cipher: newCipher(t), iv: IVPrefix}
	_, err := e.open(t.Context(), []byte(padded))
	require.NoError(t, err)
	_, err = e.open(t.Context(), []byte(token))
	require.NoError(t, err)
	for name, bad := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := e.open(t.Context(), []byte(bad))
			require.Same(t, errUnreadable, err)
		})
	}
}

// documentOrder is an answer with its fields in the order of the document's sample.
const documentOrder = `{"urn":70000000008,"customerId":"IN00001201001868","description":"Reset Pin","responseCode":"00",` +
	`"messageCode":"1121","clientTxnId":"0001aB3d00007z","clientId":"2000","responseDateTime":"20160715025837",` +
	`"accosaTransactionId":1031,"responseMessage":"Success","accosaRefNo":"6007283","bankId":7000}`

// CBC lets anyone change a text without the key. What protects is TLS; but a
// changed token must at least never become a success, whatever its changed text is.
func TestChangedTokenIsNeverSuccess(t *testing.T) {
	want := expected{messageCode: "1121", txnID: "0001aB3d00007z", fields: testCall().Request.Fields}
	for _, iv := range []IV{IVPrefix, IVSuffix, IVZero} {
		t.Run(string(iv), func(t *testing.T) {
			p := newProvider(t, testConfig(func(c *Config) { c.IV = iv }), newCipher(t), answers(200, ""))
			try := func(raw []byte) (txn.Answer, error) {
				r, err := p.read(t.Context(), []byte(`{"token":"`+base64.StdEncoding.EncodeToString(raw)+`"}`))
				return p.judge(200, r, err, want, []byte(canaryPIN)), err
			}
			raw, err := base64.StdEncoding.DecodeString(testToken(t, iv, []byte(documentOrder)))
			require.NoError(t, err)
			a, err := try(raw)
			require.NoError(t, err)
			require.Equal(t, txn.HasSucceeded, a.Outcome)
			for i := range raw {
				for bit := range 8 {
					changed := bytes.Clone(raw)
					changed[i] ^= 1 << bit
					a, err := try(changed)
					if err != nil {
						require.Same(t, errUnreadable, err)
					}
					require.Equal(t, txn.Unknown, a.Outcome, "byte %d bit %d", i, bit)
				}
			}
			for n := range raw {
				a, _ := try(raw[:n])
				require.Equal(t, txn.Unknown, a.Outcome, "cut to %d", n)
			}
		})
	}
}

func TestBuffersAreCleared(t *testing.T) {
	sealed := sealedReply(t, map[string]any{"responseMessage": "new PIN is " + canaryPIN})
	for name, tt := range map[string]struct {
		cipherErr error
		client    *fakeClient
		outcome   txn.Outcome
	}{
		"success":       {nil, answers(200, sealed), txn.HasSucceeded},
		"server error":  {nil, answers(500, ""), txn.Unknown},
		"no encryption": {errors.New("token absent"), answers(200, sealed), txn.NotSent},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCipher(t)
			c.err = tt.cipherErr
			call := testCall()
			var replies [][]byte
			do := tt.client.do
			tt.client.do = func(r wire.Request) (*wire.Reply, error) {
				require.Equal(t, make([]byte, len(c.handed[0])), c.handed[0], "cleared before the call goes out")
				reply, err := do(r)
				replies = append(replies, reply.Body)
				return reply, err
			}
			a := newProvider(t, testConfig(), c, tt.client).Submit(t.Context(), call)
			require.Equal(t, tt.outcome, a.Outcome)
			require.Len(t, c.handed, 1)
			buffers := append(append([][]byte{c.handed[0]}, c.gave...), replies...)
			for _, b := range buffers {
				b = b[:cap(b)]
				require.Equal(t, make([]byte, len(b)), b)
			}
			require.Equal(t, canaryPIN, string(call.Secret.Bytes()), "the engine wipes its own")
		})
	}
}

// leakyCipher hands its input back, as a token with a broken mechanism may.
type leakyCipher struct{ short bool }

func (c leakyCipher) EncryptCBC(_ context.Context, _, plain []byte) ([]byte, error) {
	if c.short {
		return plain[:16], nil
	}
	return bytes.Clone(plain), nil
}

func (c leakyCipher) DecryptCBC(_ context.Context, _, ct []byte) ([]byte, error) { return ct[:16], nil }

func TestTokenThatDoesNotEncrypt(t *testing.T) {
	for _, c := range []leakyCipher{{}, {short: true}} {
		client := answers(200, "")
		a := newProvider(t, testConfig(), c, client).Submit(t.Context(), testCall())
		require.Equal(t, txn.NotSent, a.Outcome)
		require.Equal(t, txn.ReasonKeystore, a.Reason)
		require.Empty(t, client.sent)
	}
}

func FuzzOpen(f *testing.F) {
	ivs := []IV{IVPrefix, IVSuffix, IVZero}
	for i, iv := range ivs {
		f.Add([]byte(testToken(f, iv, []byte(documentOrder))), uint8(i))
	}
	f.Add([]byte(""), uint8(0))
	f.Add([]byte("AAAAAAAAAAAAAAAAAAAAAA=="), uint8(2))
	f.Add([]byte("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n"), uint8(1))
	f.Fuzz(func(t *testing.T, token []byte, iv uint8) {
		got, err := envelope{cipher: newCipher(t), iv: ivs[int(iv)%len(ivs)]}.open(t.Context(), token)
		if err != nil {
			require.Same(t, errUnreadable, err)
			require.Nil(t, got)
		}
	})
}
