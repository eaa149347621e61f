package prepaid

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"encoding/json"
	"log/slog"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gardu/internal/secret"
	"gardu/internal/txn"
	"gardu/internal/wire"
)

// testKey is 24 bytes: AES-192.
var testKey = []byte("0123456789abcdefghijklmn")

// canaryPIN has digits that no other value of the fixture contains.
const canaryPIN = "938271"

// softCipher is AES-192-CBC in memory. It keeps the buffers that it was handed, so
// that a test can look at them afterwards.
type softCipher struct {
	block  cipher.Block
	err    error
	handed [][]byte // what EncryptCBC got
	gave   [][]byte // what DecryptCBC returned
	ivs    [][]byte
}

func newCipher(t testing.TB) *softCipher {
	t.Helper()
	b, err := aes.NewCipher(testKey)
	require.NoError(t, err)
	return &softCipher{block: b}
}

func (c *softCipher) EncryptCBC(_ context.Context, iv, plain []byte) ([]byte, error) {
	c.handed = append(c.handed, plain)
	c.ivs = append(c.ivs, bytes.Clone(iv))
	if c.err != nil {
		return nil, c.err
	}
	out := make([]byte, len(plain))
	cipher.NewCBCEncrypter(c.block, iv).CryptBlocks(out, plain)
	return out, nil
}

func (c *softCipher) DecryptCBC(_ context.Context, iv, ct []byte) ([]byte, error) {
	if c.err != nil {
		return nil, c.err
	}
	out := make([]byte, len(ct))
	cipher.NewCBCDecrypter(c.block, iv).CryptBlocks(out, ct)
	c.gave = append(c.gave, out)
	return out, nil
}

// testToken is the test's own envelope, written without the package's code.
func testToken(t testing.TB, iv IV, plain []byte) string {
	t.Helper()
	n := 16 - len(plain)%16
	padded := append(bytes.Clone(plain), bytes.Repeat([]byte{byte(n)}, n)...)
	return rawToken(t, iv, padded)
}

// rawToken encrypts whole blocks as they are, so that their padding may be wrong.
func rawToken(t testing.TB, iv IV, padded []byte) string {
	t.Helper()
	block, err := aes.NewCipher(testKey)
	require.NoError(t, err)
	vector := []byte("ABCDEFGHIJKLMNOP")
	switch iv {
	case IVZero:
		vector = make([]byte, 16)
	case IVStatic:
		vector = []byte("static--iv--here")
	case IVPrefix, IVSuffix:
	}
	ct := make([]byte, len(padded))
	cipher.NewCBCEncrypter(block, vector).CryptBlocks(ct, padded)
	switch iv {
	case IVPrefix:
		ct = append(bytes.Clone(vector), ct...)
	case IVSuffix:
		ct = append(bytes.Clone(ct), vector...)
	case IVZero, IVStatic:
	}
	return base64.StdEncoding.EncodeToString(ct)
}

func testConfig(change ...func(*Config)) Config {
	c := Default()
	c.BaseURL = "https://cards.example.com"
	c.ClientID = "2000"
	c.BankID = "7000"
	c.Verification = VerifyByStaff
	for _, f := range change {
		f(&c)
	}
	return c
}

func testSecrets() Secrets {
	return Secrets{
		APIKey:     secret.Clone([]byte("api-key-canary")),
		SecureCode: secret.Clone([]byte("secure-code-canary")),
	}
}

// fakeClient answers with what do returns and keeps what it was sent.
type fakeClient struct {
	do      func(wire.Request) (*wire.Reply, error)
	connect error
	sent    []wire.Request
}

func (c *fakeClient) Do(_ context.Context, r wire.Request) (*wire.Reply, error) {
	c.sent = append(c.sent, r)
	return c.do(r)
}

func (c *fakeClient) Connect(context.Context, string) error { return c.connect }

func answers(status int, body string) *fakeClient {
	return &fakeClient{do: func(wire.Request) (*wire.Reply, error) {
		return &wire.Reply{Status: status, Header: http.Header{}, Body: []byte(body)}, nil
	}}
}

func newProvider(t testing.TB, cfg Config, c Cipher, client Client) *Provider {
	t.Helper()
	p, err := New(cfg, testSecrets(), c, ScreenEntry{}, client, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	return p
}

// testCall is the request of the platform's own sample, but with the canary PIN.
func testCall() txn.Call {
	return txn.Call{
		Request: &txn.Request{
			Operation: txn.PrepaidResetPIN,
			Reference: "0001aB3d00007z",
			Fields:    map[string]string{FieldURN: "70000000008", FieldLast4: "1745", FieldCustomer: "IN00001201001868"},
			Step:      1,
		},
		Attempt: txn.Attempt{Step: 1, Serial: 7, Began: time.Date(2016, 7, 14, 21, 28, 37, 900e6, time.UTC)},
		Secret:  secret.Clone([]byte(canaryPIN)),
	}
}

// reply is an answer to testCall. Changes with a nil value take a field out.
func reply(t testing.TB, changes map[string]any) []byte {
	t.Helper()
	m := map[string]any{
		"urn": 70000000008, "customerId": "IN00001201001868", "description": "Reset Pin", "responseCode": "00",
		"messageCode": "1121", "clientTxnId": "0001aB3d00007z", "clientId": "2000", "responseDateTime": "20160715025837",
		"accosaTransactionId": 1031, "responseMessage": "Success", "accosaRefNo": "6007283", "bankId": 7000,
	}
	for k, v := range changes {
		if v == nil {
			delete(m, k)
			continue
		}
		m[k] = v
	}
	b, err := json.Marshal(m)
	require.NoError(t, err)
	return b
}

func sealedReply(t testing.TB, changes map[string]any) string {
	t.Helper()
	return `{"token":"` + testToken(t, IVPrefix, reply(t, changes)) + `"}`
}
