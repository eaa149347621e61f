package upstream_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gardu/cmd/sandbox/upstream"
)

// The client of these tests is written from the documents, with no code of the package under test.

const (
	finpayID     = "bank-branch-12"
	finpaySecret = "finpay-client-secret"
	netzmeID     = "TokoNetmeClientId"
	netzmeSecret = "netzme-client-secret"
	merchantID   = "F7778YIF6A3TC"
	phone        = "081139291900"
	linkedPhone  = "080012341373"
	custID       = "M_F5rX23Vw"
	cardKeyHex   = "000102030405060708090a0b0c0d0e0f1011121314151617"
	pinSalt      = "salt of the tests"

	// patience is far above anything that comes to its end.
	patience = 2 * time.Minute
)

var clientKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

func publicPEM(t testing.TB, key *rsa.PrivateKey) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	require.NoError(t, err)
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

// config is a configuration in which every happy path works.
func config(t testing.TB) upstream.Config {
	key := publicPEM(t, clientKey())
	return upstream.Config{
		PINSalt: pinSalt,
		Finpay: &upstream.FinpayConfig{
			SNAPConfig: upstream.SNAPConfig{Partners: []upstream.Partner{
				{ClientID: finpayID, ClientSecret: finpaySecret, PublicKey: key},
				{ClientID: "other-bank", ClientSecret: "other-secret", PublicKey: key},
			}},
			MerchantID: merchantID,
			Customers:  []upstream.Customer{{Phone: phone}, {Phone: linkedPhone, Linked: true}},
		},
		Netzme: &upstream.NetzmeConfig{
			SNAPConfig: upstream.SNAPConfig{Partners: []upstream.Partner{{ClientID: netzmeID, ClientSecret: netzmeSecret, PublicKey: key}}},
			Customers:  []string{custID},
		},
		Prepaid: &upstream.PrepaidConfig{
			Key: cardKeyHex, APIKey: "api-key", ClientID: "2000", BankID: "7000", SecureCode: "secure+code/==",
			Cards: []upstream.Card{{URN: "70000000008", Last4Digits: "1745", CustomerID: "IN00001201001868"}},
		},
	}
}

// world is a started server and a client for it.
type world struct {
	*upstream.Server
	t    testing.TB
	http *http.Client
	ids  atomic.Int64
}

func start(t testing.TB, cfg upstream.Config) *world {
	t.Helper()
	server, err := upstream.New(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, server.Close()) })
	require.NoError(t, server.Start(t.Context()))
	w := &world{Server: server, t: t}
	w.http = w.newClient()
	return w
}

func (w *world) newClient() *http.Client {
	pool := x509.NewCertPool()
	require.True(w.t, pool.AppendCertsFromPEM(w.CA()))
	transport := &http.Transport{
		TLSClientConfig:     &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12},
		MaxIdleConnsPerHost: 64,
	}
	w.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// result is an answer that was read completely.
type result struct {
	status int
	header http.Header
	body   string
}

func (r result) field(t testing.TB, path ...string) any {
	t.Helper()
	var v any
	require.NoError(t, json.Unmarshal([]byte(r.body), &v), r.body)
	for _, name := range path {
		m, ok := v.(map[string]any)
		require.True(t, ok, "no object at %s in %s", name, r.body)
		v = m[name]
	}
	return v
}

func (r result) text(t testing.TB, path ...string) string {
	t.Helper()
	s, ok := r.field(t, path...).(string)
	require.True(t, ok, "%v is not a string in %s", path, r.body)
	return s
}

func (r result) code(t testing.TB) string { t.Helper(); return r.text(t, "responseCode") }

// request is what is sent; a test bends it before it goes out.
type request struct {
	provider, method, target string
	header                   http.Header
	body                     []byte
}

func (w *world) do(r request) (result, error) {
	return w.doWith(w.t.Context(), w.http, r)
}

func (w *world) doWith(ctx context.Context, client *http.Client, r request) (result, error) {
	req, err := http.NewRequestWithContext(ctx, r.method, w.URL(r.provider)+r.target, bytes.NewReader(r.body))
	if err != nil {
		return result{}, err
	}
	req.GetBody = nil // a transport that repeats by itself would spoil the counts
	req.Header = r.header
	resp, err := client.Do(req)
	if err != nil {
		return result{}, err
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, 4<<20))
	return result{resp.StatusCode, resp.Header, string(body)}, errors.Join(err, resp.Body.Close())
}

// must sends and fails the test if no answer comes.
func (w *world) must(r request) result {
	w.t.Helper()
	got, err := w.do(r)
	require.NoError(w.t, err)
	return got
}

func stamp(t time.Time) string {
	return t.UTC().Add(7*time.Hour).Format("2006-01-02T15:04:05") + "+07:00"
}

func rsaSign(key *rsa.PrivateKey, text string) []byte {
	sum := sha256.Sum256([]byte(text))
	sig, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum[:])
	if err != nil {
		panic(err)
	}
	return sig
}

func sha256hex(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

func hmac512(secret, text string) []byte {
	mac := hmac.New(sha512.New, []byte(secret))
	mac.Write([]byte(text))
	return mac.Sum(nil)
}

// external gives 32 digits that do not repeat.
func (w *world) external() string { return fmt.Sprintf("9%031d", w.ids.Add(1)) }

func tokenRequest(provider, client string) request {
	target := "/v1.0/access-token/b2b"
	if provider == upstream.Netzme {
		target = "/api/v1/access-token/b2b"
	}
	now := stamp(time.Now())
	return request{provider, http.MethodPost, target, http.Header{
		"Content-Type": {"application/json"}, "X-Timestamp": {now}, "X-Client-Key": {client},
		"X-Signature": {base64.StdEncoding.EncodeToString(rsaSign(clientKey(), client+"|"+now))},
	}, []byte(`{"grantType":"client_credentials","additionalInfo":{}}`)}
}

func (w *world) token(provider string) string {
	w.t.Helper()
	client := finpayID
	if provider == upstream.Netzme {
		client = netzmeID
	}
	got := w.must(tokenRequest(provider, client))
	require.Equal(w.t, http.StatusOK, got.status, got.body)
	return got.text(w.t, "accessToken")
}

// finpay makes a signed Finpay transaction.
func (w *world) finpay(token, target, body string) request {
	return w.resign(request{upstream.Finpay, http.MethodPost, target, http.Header{
		"Content-Type": {"application/json"}, "Authorization": {"Bearer " + token}, "X-Partner-Id": {finpayID},
		"X-External-Id": {w.external()}, "Channel-Id": {"95221"}, "Origin": {"www.bank.example"},
		"X-Timestamp": {stamp(time.Now())},
	}, []byte(body)}, finpaySecret)
}

func (w *world) netzme(token, version, body string) request {
	return w.resign(request{upstream.Netzme, http.MethodPost, "/api/" + version + "/merchant/forgot-pin", http.Header{
		"Content-Type": {"application/json"}, "Authorization": {"Bearer " + token}, "X-Partner-Id": {netzmeID},
		"X-External-Id": {w.external()}, "Channel-Id": {"95221"}, "X-Timestamp": {stamp(time.Now())},
	}, []byte(body)}, netzmeSecret)
}

// resign puts the right symmetric signature on what the request has become. Its body must be compact.
func (w *world) resign(r request, secret string) request {
	token := ""
	if a := r.header.Get("Authorization"); len(a) > 7 {
		token = a[7:]
	}
	text := r.method + ":" + r.target + ":" + token + ":" + sha256hex(r.body) + ":" + r.header.Get("X-Timestamp")
	mac := hmac512(secret, text)
	if r.provider == upstream.Netzme {
		r.header.Set("X-Signature", hex.EncodeToString(mac))
	} else {
		r.header.Set("X-Signature", base64.StdEncoding.EncodeToString(mac))
	}
	return r
}

func resetBody(ref, phone string) string {
	return fmt.Sprintf(`{"partnerReferenceNo":%q,"phoneNo":%q}`, ref, phone)
}

func forgotBody(ref, customer string) string {
	return fmt.Sprintf(`{"custIdMerchant":%q,"partnerReferenceNo":%q,"additionalInfo":{"type":"forgot_pin"}}`, customer, ref)
}

// encrypt is the prepaid envelope, of whatever IV mode, in the client's own words.
func encrypt(keyHex, mode, staticIV string, plain []byte) string {
	key, err := hex.DecodeString(keyHex)
	if err != nil {
		panic(err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err)
	}
	iv := make([]byte, 16)
	switch mode {
	case "prefix", "suffix":
		_, _ = rand.Read(iv)
	case "static":
		if iv, err = hex.DecodeString(staticIV); err != nil {
			panic(err)
		}
	}
	n := 16 - len(plain)%16
	padded := append(append([]byte{}, plain...), bytes.Repeat([]byte{byte(n)}, n)...)
	out := make([]byte, len(padded))
	cipher.NewCBCEncrypter(block, iv).CryptBlocks(out, padded)
	switch mode {
	case "prefix":
		out = append(iv, out...)
	case "suffix":
		out = append(out, iv...)
	}
	return base64.StdEncoding.EncodeToString(out)
}

func decrypt(keyHex, mode, staticIV, text string) (string, error) {
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return "", err
	}
	key, err := hex.DecodeString(keyHex)
	if err != nil {
		return "", err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return "", err
	}
	iv := make([]byte, 16)
	switch mode {
	case "prefix":
		iv, raw = raw[:16], raw[16:]
	case "suffix":
		iv, raw = raw[len(raw)-16:], raw[:len(raw)-16]
	case "static":
		if iv, err = hex.DecodeString(staticIV); err != nil {
			return "", err
		}
	}
	cipher.NewCBCDecrypter(block, iv).CryptBlocks(raw, raw)
	return string(raw[:len(raw)-int(raw[len(raw)-1])]), nil
}

func kolkata(t time.Time) string {
	return t.UTC().Add(5*time.Hour + 30*time.Minute).Format("20060102150405")
}

func cardBody(txn, pin string) string {
	return `{"messageCode":"1120","requestDateTime":"` + kolkata(time.Now()) + `","clientTxnId":"` + txn + `","newPIN":"` + pin +
		`","urn":70000000008,"last4Digits":"1745","customerId":"IN00001201001868"}`
}

func cardRequest(plain string) request {
	return cardEnvelope("/mob1/api/onboarding/v1/resetPin", encrypt(cardKeyHex, "prefix", "", []byte(plain)))
}

func cardEnvelope(target, token string) request {
	return request{upstream.Prepaid, http.MethodPost, target, http.Header{
		"Content-Type": {"application/json"}, "X-Api-Key": {"api-key"}, "Clientid": {"2000"}, "Bankid": {"7000"},
		"Entityid": {"100"}, "Securecode": {"secure+code/=="},
	}, []byte(`{"token":` + strconv.Quote(token) + `}`)}
}

// opened decrypts an answer's envelope.
func (r result) opened(t testing.TB) result {
	t.Helper()
	plain, err := decrypt(cardKeyHex, "prefix", "", r.text(t, "token"))
	require.NoError(t, err)
	return result{r.status, r.header, plain}
}

// clean demands that no rule was broken.
func (w *world) clean() {
	w.t.Helper()
	require.Empty(w.t, w.Violations())
}

// last is the newest exchange of the ledger.
func (w *world) last() upstream.Exchange {
	w.t.Helper()
	all := w.Ledger(upstream.LedgerFilter{})
	require.NotEmpty(w.t, all)
	return all[len(all)-1]
}
