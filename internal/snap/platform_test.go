package snap

import (
	"crypto"
	"crypto/hmac"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gardu/internal/txn"
	"gardu/internal/wire"
)

// platform is a SNAP server on loopback that checks every request by code of its
// own, written from docs/providers.md and not from sign.go.
type platform struct {
	*httptest.Server
	cfg    Config
	answer map[string]string // by path
	cut    string            // a path whose connection is cut once its request is read

	mu     sync.Mutex
	counts map[string]int  // by path; guarded by mu
	ids    map[string]bool // external ids; guarded by mu
	wrong  []string        // what was wrong; guarded by mu
}

func startPlatform(t *testing.T, cfg Config, answer map[string]string) (*platform, *wire.Client) {
	t.Helper()
	p := &platform{cfg: cfg, answer: answer, counts: map[string]int{}, ids: map[string]bool{}}
	p.Server = httptest.NewUnstartedServer(p)
	p.StartTLS()
	t.Cleanup(p.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.Certificate().Raw}), 0o600))
	patience := wire.Duration(2 * time.Minute) // far above anything that comes to its end
	c, err := wire.New(wire.Options{CAFile: ca, DialTimeout: patience, TLSTimeout: patience, HeaderTimeout: patience, Timeout: patience})
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return p, c
}

func (p *platform) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		p.wrong = append(p.wrong, err.Error())
	}
	p.counts[r.URL.Path]++
	h := func(name string) string {
		if n := len(r.Header.Values(name)); n != 1 {
			p.wrong = append(p.wrong, fmt.Sprintf("%s: %d times %s", r.URL.Path, n, name))
		}
		return r.Header.Get(name)
	}
	stamp := h("X-Timestamp")
	if !regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+07:00$`).MatchString(stamp) {
		p.wrong = append(p.wrong, "stamp "+stamp)
	}
	if h("Content-Type") != "application/json" || len(r.Cookies()) > 0 || r.ContentLength != int64(len(body)) {
		p.wrong = append(p.wrong, "headers of "+r.URL.Path)
	}
	if r.URL.Path == p.cfg.TokenPath {
		if !p.rsa(h("X-Client-Key")+"|"+stamp, decode64(h("X-Signature"))) {
			p.wrong = append(p.wrong, "signature of the token request")
		}
		_, _ = io.WriteString(w, `{"responseCode":"2007300","accessToken":"`+testToken+`","expiresIn":"900"}`)
		return
	}
	sum := sha256.Sum256(body)
	parts := []string{r.Method, r.RequestURI}
	if p.cfg.Mode == Symmetric {
		parts = append(parts, strings.TrimPrefix(h("Authorization"), "Bearer "))
	}
	parts = append(parts, hex.EncodeToString(sum[:]), stamp)
	if !p.signed(strings.Join(parts, ":"), h("X-Signature")) {
		p.wrong = append(p.wrong, "signature of "+r.URL.Path)
	}
	if id := h("X-External-Id"); len(id) != 32 || p.ids[id] {
		p.wrong = append(p.wrong, "external id "+id)
	} else {
		p.ids[id] = true
	}
	if h("X-Partner-Id") != p.cfg.ClientID || h("Channel-Id") != p.cfg.ChannelID || p.cfg.Origin != "" && h("Origin") != p.cfg.Origin {
		p.wrong = append(p.wrong, "partner, channel or origin")
	}
	if r.URL.Path == p.cut {
		panic(http.ErrAbortHandler)
	}
	_, _ = io.WriteString(w, p.answer[r.URL.Path])
}

func decode64(s string) []byte {
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil {
		return nil
	}
	return b
}

func (p *platform) rsa(text string, sig []byte) bool {
	sum := sha256.Sum256([]byte(text))
	return rsa.VerifyPKCS1v15(&testKey().PublicKey, crypto.SHA256, sum[:], sig) == nil
}

func (p *platform) signed(text, sig string) bool {
	raw := decode64(sig)
	if p.cfg.SignatureEncoding == Hex {
		raw, _ = hex.DecodeString(sig)
		if sig != strings.ToLower(sig) {
			return false
		}
	}
	if p.cfg.Mode == Asymmetric {
		return p.rsa(text, raw)
	}
	h := hmac.New(sha512.New, []byte(testSecret))
	h.Write([]byte(text))
	return hmac.Equal(h.Sum(nil), raw)
}

func TestAgainstATLSPlatform(t *testing.T) {
	for _, mode := range []string{Symmetric, Asymmetric} {
		for _, encoding := range []string{Base64, Hex} {
			t.Run(mode+" "+encoding, func(t *testing.T) {
				fc := finpayConfig()
				fc.Mode, fc.SignatureEncoding = mode, encoding
				answers := map[string]string{
					fc.ResetPIN.Path: sample(t, "finpay_reset_pin.answer.json"), fc.Inquiry.Path: unlinkedAnswer,
					fc.Bind.Path: sample(t, "finpay_bind.answer.json"), fc.Unbind.Path: sample(t, "finpay_unbind_1.answer.json"),
				}
				p, c := startPlatform(t, fc.Config, answers)
				fc.BaseURL = p.URL
				f, err := NewFinpay(fc, testKeys(), c, newLog(t), nil)
				require.NoError(t, err)
				require.NoError(t, f.Probe(t.Context()))
				for i, tc := range []struct {
					op   txn.Operation
					step int
					want txn.Outcome
				}{
					{txn.FinpayResetPIN, 1, txn.HasSucceeded}, {txn.FinpayBind, 1, txn.WentPending},
					{txn.FinpayUnbind, 1, txn.WentPending}, {txn.FinpayUnbind, 2, txn.WentPending},
				} {
					call := request(tc.op, tc.step)
					call.Attempt.ExternalID = txn.Identity{Kiosk: 1}.ExternalID(uint64(i))
					a := f.Submit(t.Context(), call)
					require.Equal(t, tc.want, a.Outcome, "%+v", a)
				}
				require.NoError(t, f.Probe(t.Context()))
				require.Empty(t, p.wrong)
				require.Equal(t, map[string]int{
					fc.TokenPath: 1, fc.ResetPIN.Path: 1, fc.Inquiry.Path: 1, fc.Bind.Path: 1, fc.Unbind.Path: 2,
				}, p.counts)

				nc := netzmeConfig()
				nc.Mode, nc.SignatureEncoding = mode, encoding
				p, c = startPlatform(t, nc.Config, map[string]string{
					nc.forgotPINPath(): strings.Replace(sample(t, "netzme_forgot_pin.answer.json"), "testinga202203090000000001", testRef, 1),
				})
				nc.BaseURL = p.URL
				n, err := NewNetzme(nc, testKeys(), c, newLog(t), nil)
				require.NoError(t, err)
				a := n.Submit(t.Context(), request(txn.NetzmeForgotPIN, 1))
				require.Equal(t, txn.HasSucceeded, a.Outcome, "%+v", a)
				require.Equal(t, 5*time.Minute, a.Cooldown)
				require.Empty(t, p.wrong)
			})
		}
	}
}

func TestManyCallsAtOnceShareOneToken(t *testing.T) {
	fc := finpayConfig()
	p, c := startPlatform(t, fc.Config, map[string]string{fc.ResetPIN.Path: sample(t, "finpay_reset_pin.answer.json")})
	fc.BaseURL = p.URL
	f, err := NewFinpay(fc, testKeys(), c, newLog(t), nil)
	require.NoError(t, err)
	var wg sync.WaitGroup
	for i := range 30 {
		wg.Go(func() {
			call := request(txn.FinpayResetPIN, 1)
			call.Attempt.ExternalID = txn.Identity{Kiosk: 1}.ExternalID(uint64(i))
			if a := f.Submit(t.Context(), call); a.Outcome != txn.HasSucceeded {
				t.Errorf("%+v", a)
			}
		})
	}
	wg.Wait()
	require.Empty(t, p.wrong)
	require.Equal(t, map[string]int{fc.TokenPath: 1, fc.ResetPIN.Path: 30}, p.counts)
}

func TestACutConnectionIsADoubtAndIsNotRepeated(t *testing.T) {
	fc := finpayConfig()
	p, c := startPlatform(t, fc.Config, nil)
	p.cut = fc.ResetPIN.Path
	fc.BaseURL = p.URL
	f, err := NewFinpay(fc, testKeys(), c, newLog(t), nil)
	require.NoError(t, err)
	a := f.Submit(t.Context(), request(txn.FinpayResetPIN, 1))
	require.Equal(t, txn.Unknown, a.Outcome)
	require.Equal(t, txn.ReasonNoAnswer, a.Reason)
	require.Empty(t, p.wrong)
	require.Equal(t, 1, p.counts[fc.ResetPIN.Path])
	p.Close()
	a = f.Submit(t.Context(), request(txn.FinpayResetPIN, 1))
	require.Equal(t, txn.NotSent, a.Outcome)
	require.Equal(t, txn.ReasonLinkDown, a.Reason)
	require.NotContains(t, a.Text, "/v1.0/")
}
