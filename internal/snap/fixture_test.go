package snap

import (
	"bytes"
	"context"
	"crypto"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha512"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
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
	testSecret   = "finpay-client-secret"
	testToken    = "tok.en-canary_8d1f"
	testOTP      = "696969"
	testPhone    = "08113929190"
	testCustomer = "M_F5rX23Vw"
	testExternal = "00000012000000345600000000000789"
	testRef      = "00000012000000345600000000000123"
)

// testKey is made once: an RSA key takes long under the race detector.
var testKey = sync.OnceValue(func() *rsa.PrivateKey {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return k
})

// softMAC is HMAC-SHA512 with a secret in memory.
type softMAC string

func (m softMAC) Sum(_ context.Context, data []byte) ([]byte, error) {
	h := hmac.New(sha512.New, []byte(m))
	h.Write(data)
	return h.Sum(nil), nil
}

// brokenKey is a token that cannot sign.
type brokenKey struct{ *rsa.PrivateKey }

var errTokenAway = errors.New("token absent; put it back")

func (brokenKey) Sign(_ io.Reader, _ []byte, _ crypto.SignerOpts) ([]byte, error) {
	return nil, errTokenAway
}

func (brokenKey) Sum(context.Context, []byte) ([]byte, error) { return nil, errTokenAway }

func testKeys() Keys { return Keys{Token: testKey(), Secret: softMAC(testSecret)} }

func finpayConfig() FinpayConfig {
	c := FinpayDefaults()
	c.BaseURL = "https://snap.example"
	c.ClientID, c.ChannelID, c.Origin, c.MerchantID = "bank-branch-12", "95221", "www.bank.example", "F7778YIF6A3TC"
	c.TokenJitter = 0
	return c
}

func netzmeConfig() NetzmeConfig {
	c := NetzmeDefaults()
	c.BaseURL = "https://snap.example"
	c.ClientID, c.ChannelID = "TokoNetmeClientId", "95221"
	c.TokenJitter = 0
	return c
}

// fakeHTTP answers in place of a platform. token answers the token service,
// answer everything else; what was asked is kept.
type fakeHTTP struct {
	token   func(wire.Request) (*wire.Reply, error)
	answer  func(wire.Request) (*wire.Reply, error)
	connect func() error

	mu       sync.Mutex
	requests []wire.Request // guarded by mu; bodies are copies
}

func (f *fakeHTTP) Do(_ context.Context, r wire.Request) (*wire.Reply, error) {
	own := r
	own.Body = bytes.Clone(r.Body)
	f.mu.Lock()
	f.requests = append(f.requests, own)
	f.mu.Unlock()
	if strings.Contains(r.URL, "access-token") {
		if f.token != nil {
			return f.token(own)
		}
		return reply(200, `{"responseCode":"2007300","responseMessage":"Successful","accessToken":"`+testToken+`","tokenType":"BearerToken","expiresIn":"900"}`), nil
	}
	return f.answer(own)
}

func (f *fakeHTTP) Connect(context.Context, string) error {
	if f.connect != nil {
		return f.connect()
	}
	return nil
}

// to returns the requests to a path.
func (f *fakeHTTP) to(path string) []wire.Request {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []wire.Request
	for _, r := range f.requests {
		if strings.HasSuffix(r.URL, path) {
			out = append(out, r)
		}
	}
	return out
}

func reply(status int, body string) *wire.Reply {
	return &wire.Reply{Status: status, Header: http.Header{}, Body: []byte(body)}
}

// always answers every call alike.
func always(status int, body string) func(wire.Request) (*wire.Reply, error) {
	return func(wire.Request) (*wire.Reply, error) { return reply(status, body), nil }
}

// byPath answers by the end of the path.
func byPath(answers map[string]string) func(wire.Request) (*wire.Reply, error) {
	return func(r wire.Request) (*wire.Reply, error) {
		for path, body := range answers {
			if strings.HasSuffix(r.URL, path) {
				status := 200
				if code := between(body, `"responseCode":"`, `"`); len(code) == 7 {
					_, _ = fmt.Sscanf(code[:3], "%d", &status)
				}
				return reply(status, body), nil
			}
		}
		return nil, &wire.Error{Op: wire.OpReceive, Host: "h", Err: errors.New("no such path in this test"), Sent: true}
	}
}

func between(s, a, b string) string {
	_, s, _ = strings.Cut(s, a)
	s, _, _ = strings.Cut(s, b)
	return s
}

// logs collects what is logged and holds it against what must never be.
type logs struct {
	mu sync.Mutex
	b  bytes.Buffer // guarded by mu
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func newLog(t *testing.T) *slog.Logger {
	t.Helper()
	l := &logs{}
	t.Cleanup(func() {
		for _, s := range []string{testOTP, testToken, testSecret} {
			require.NotContains(t, l.String(), s, "a secret was logged")
		}
	})
	// The digits of a time could be the ones that are looked for.
	timeless := func(_ []string, a slog.Attr) slog.Attr {
		if k := a.Value.Kind(); k == slog.KindTime || k == slog.KindDuration {
			return slog.Attr{}
		}
		return a
	}
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug, ReplaceAttr: timeless}))
}

func newFinpay(t *testing.T, h HTTP, change func(*FinpayConfig)) *Finpay {
	t.Helper()
	c := finpayConfig()
	if change != nil {
		change(&c)
	}
	f, err := NewFinpay(c, testKeys(), h, newLog(t), nil)
	require.NoError(t, err)
	return f
}

func newNetzme(t *testing.T, h HTTP, change func(*NetzmeConfig)) *Netzme {
	t.Helper()
	c := netzmeConfig()
	if change != nil {
		change(&c)
	}
	n, err := NewNetzme(c, testKeys(), h, newLog(t), nil)
	require.NoError(t, err)
	return n
}

// request is a call's request with one attempt, as the engine has it on disk.
func request(op txn.Operation, step int) txn.Call {
	at := txn.Attempt{Step: step, Serial: 789, ExternalID: testExternal, Began: time.Now()}
	r := &txn.Request{
		ID: "01J0000000000000000000000A", Operation: op, Reference: testRef, State: txn.Sending, Step: step,
		Fields: map[string]string{fieldPhone: testPhone}, Attempts: []txn.Attempt{at},
	}
	if op == txn.NetzmeForgotPIN {
		r.Fields = map[string]string{fieldCustomerID: testCustomer}
	}
	c := txn.Call{Request: r, Attempt: at}
	next := uint64(1000)
	c.NewExternalID = func(context.Context) (string, error) {
		next++
		return txn.Identity{Kiosk: 12, Salt: 3456}.ExternalID(next), nil
	}
	if op == txn.FinpayUnbind && step == 2 {
		r.Data = map[string]string{txn.DataReferenceNo: "1373010202245923153"}
		c.Secret = secret.New([]byte(testOTP))
	}
	return c
}

// golden compares with a file of testdata; UPDATE_GOLDEN=1 writes it.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if os.Getenv("UPDATE_GOLDEN") != "" {
		require.NoError(t, os.WriteFile(path, []byte(got), 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(want), got)
}

// noSecret holds an answer against what must not be in it.
func noSecret(t *testing.T, a txn.Answer) {
	t.Helper()
	s := fmt.Sprintf("%+v", a)
	for _, bad := range []string{testOTP, testToken, testSecret} {
		require.NotContains(t, s, bad)
	}
}

type shortMAC struct{}

func (shortMAC) Sum(context.Context, []byte) ([]byte, error) { return make([]byte, 32), nil }
