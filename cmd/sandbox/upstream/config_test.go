package upstream_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gardu/cmd/sandbox/upstream"
)

func TestConfigRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		bend func(*upstream.Config)
		says string
	}{
		"nothing to play":        {func(c *upstream.Config) { c.Finpay, c.Netzme, c.Prepaid = nil, nil, nil }, "no platform"},
		"all interfaces":         {func(c *upstream.Config) { c.Listen.Finpay = "0.0.0.0:0" }, "loopback"},
		"no host":                {func(c *upstream.Config) { c.Listen.Control = ":0" }, "loopback"},
		"a name for a host":      {func(c *upstream.Config) { c.Listen.Netzme = "example.com:443" }, "loopback"},
		"no port":                {func(c *upstream.Config) { c.Listen.Prepaid = "127.0.0.1" }, "listen.prepaid"},
		"a certificate, no key":  {func(c *upstream.Config) { c.TLS.CertFile = "x" }, "key_file"},
		"TLS 1.1":                {func(c *upstream.Config) { c.TLS.MinVersion = "1.1" }, "min_version"},
		"no partner":             {func(c *upstream.Config) { c.Finpay.Partners = nil }, "partners"},
		"a partner twice":        {func(c *upstream.Config) { c.Finpay.Partners[1].ClientID = finpayID }, "client_id"},
		"symmetric, no secret":   {func(c *upstream.Config) { c.Netzme.Partners[0].ClientSecret = "" }, "client_secret"},
		"no key":                 {func(c *upstream.Config) { c.Netzme.Partners[0].PublicKey = "" }, "public_key"},
		"a key that is no PEM":   {func(c *upstream.Config) { c.Netzme.Partners[0].PublicKey = "x" }, "PEM"},
		"a key file not there":   {func(c *upstream.Config) { c.Netzme.Partners[0] = noKeyFile(c.Netzme.Partners[0]) }, "public_key_file"},
		"unknown mode":           {func(c *upstream.Config) { c.Finpay.Partners[0].Mode = "rot13" }, "mode"},
		"unknown encoding":       {func(c *upstream.Config) { c.Finpay.Partners[0].SignatureEncoding = "base32" }, "signature_encoding"},
		"unknown expires_in":     {func(c *upstream.Config) { c.Finpay.Partners[0].ExpiresIn = "float" }, "expires_in"},
		"unknown empty body":     {func(c *upstream.Config) { c.Finpay.Partners[0].EmptyBody = "null" }, "empty_body"},
		"token too short":        {func(c *upstream.Config) { c.Finpay.TokenLength = 8 }, "token_length"},
		"no merchant":            {func(c *upstream.Config) { c.Finpay.MerchantID = "" }, "merchant_id"},
		"unknown page":           {func(c *upstream.Config) { c.Finpay.Page = "moon" }, "page"},
		"OTP of letters":         {func(c *upstream.Config) { c.Finpay.FixedOTP = "abc" }, "fixed_otp"},
		"unknown token op":       {func(c *upstream.Config) { c.Finpay.CustomerTokenOperations = []string{"x"} }, "customer_token_operations"},
		"two calls, one path":    {func(c *upstream.Config) { c.Finpay.CustomerTokenPath = "/v1.0/pin/reset" }, "twice"},
		"a key of 16 bytes":      {func(c *upstream.Config) { c.Prepaid.Key = strings.Repeat("ab", 16) }, "24 bytes"},
		"ECB":                    {func(c *upstream.Config) { c.Prepaid.IVMode = "ecb" }, "iv_mode"},
		"static without IV":      {func(c *upstream.Config) { c.Prepaid.IVMode = "static" }, "static_iv"},
		"bank that is no number": {func(c *upstream.Config) { c.Prepaid.BankID = "x" }, "bank_id"},
		"PIN of 13":              {func(c *upstream.Config) { c.Prepaid.PINMax = 13 }, "pin_max"},
		"a zone of nowhere":      {func(c *upstream.Config) { c.Prepaid.Zone = "Moon/Crater" }, "zone"},
		"a card without a URN":   {func(c *upstream.Config) { c.Prepaid.Cards[0].URN = "" }, "cards[0]"},
		"no api key":             {func(c *upstream.Config) { c.Prepaid.APIKey = "" }, "api_key"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := config(t)
			c.bend(&cfg)
			_, err := upstream.New(cfg)
			require.ErrorContains(t, err, c.says)
		})
	}
}

func noKeyFile(p upstream.Partner) upstream.Partner {
	p.PublicKey, p.PublicKeyFile = "", "/nonexistent/key.pem"
	return p
}

func TestReadConfigIsStrict(t *testing.T) {
	good := `{"finpay":{"partners":[{"client_id":"a","client_secret":"b"}],"merchant_id":"m","any_customer":true},"pin_salt":"s"}`
	cfg, err := upstream.ReadConfig(strings.NewReader(good))
	require.NoError(t, err)
	require.Equal(t, "a", cfg.Finpay.Partners[0].ClientID)
	require.True(t, cfg.Finpay.AnyCustomer)
	for in, says := range map[string]string{
		`{"finpay":{"merchantId":"m"}}`:   "merchantId",
		`{"pin_salt":"a","pin_salt":"b"}`: "twice",
		`{} {}`:                           "exactly one",
		`[]`:                              "object",
		`{"ledger_cap":"many"}`:           "ledger_cap",
		`{"finpay":{"partners":[{"secret":"x"}]}}`:         "secret",
		`{"prepaid":{"cards":[{"urn":"1","last4":"22"}]}}`: "last4",
	} {
		_, err := upstream.ReadConfig(strings.NewReader(in))
		require.ErrorContains(t, err, says, in)
	}
}

func TestPublicKeyForms(t *testing.T) {
	key := clientKey()
	pkcs1 := pem.EncodeToMemory(&pem.Block{Type: "RSA PUBLIC KEY", Bytes: x509.MarshalPKCS1PublicKey(&key.PublicKey)})
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	file := filepath.Join(t.TempDir(), "key.pem")
	require.NoError(t, os.WriteFile(file, []byte(publicPEM(t, key)), 0o600))
	for name, set := range map[string]func(*upstream.Partner){
		"PKCS#1":      func(p *upstream.Partner) { p.PublicKey = string(pkcs1) },
		"certificate": func(p *upstream.Partner) { p.PublicKey = string(cert) },
		"file":        func(p *upstream.Partner) { p.PublicKey, p.PublicKeyFile = "", file },
	} {
		t.Run(name, func(t *testing.T) {
			cfg := config(t)
			set(&cfg.Finpay.Partners[0])
			w := start(t, cfg)
			require.Equal(t, 200, w.must(tokenRequest(upstream.Finpay, finpayID)).status)
		})
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	spki, err := x509.MarshalPKIXPublicKey(&ec.PublicKey)
	require.NoError(t, err)
	cfg := config(t)
	cfg.Finpay.Partners[0].PublicKey = string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki}))
	_, err = upstream.New(cfg)
	require.ErrorContains(t, err, "not an RSA public key")
}

func TestPrepaidSettings(t *testing.T) {
	raw := "0123456789abcdefghijklmn"
	const staticIV = "a0a1a2a3a4a5a6a7a8a9aaabacadaeaf"
	for name, c := range map[string]struct {
		set  func(*upstream.PrepaidConfig)
		key  string // hexadecimal
		mode string
	}{
		"raw key": {func(p *upstream.PrepaidConfig) { p.KeyEncoding, p.Key = "raw", raw }, hex.EncodeToString([]byte(raw)), "prefix"},
		"base64 key": {func(p *upstream.PrepaidConfig) {
			p.KeyEncoding, p.Key = "base64", base64.StdEncoding.EncodeToString([]byte(raw))
		}, hex.EncodeToString([]byte(raw)), "prefix"},
		"suffix": {func(p *upstream.PrepaidConfig) { p.IVMode = "suffix" }, cardKeyHex, "suffix"},
		"zero":   {func(p *upstream.PrepaidConfig) { p.IVMode = "zero" }, cardKeyHex, "zero"},
		"static": {func(p *upstream.PrepaidConfig) { p.IVMode, p.StaticIV = "static", staticIV }, cardKeyHex, "static"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := config(t)
			c.set(cfg.Prepaid)
			w := start(t, cfg)
			token := encrypt(c.key, c.mode, staticIV, []byte(cardBody("txn1", "121200")))
			got := w.must(cardEnvelope("/mob1/api/onboarding/v1/resetPin", token))
			plain, err := decrypt(c.key, c.mode, staticIV, got.text(t, "token"))
			require.NoError(t, err)
			require.Contains(t, plain, `"responseCode":"00"`)
			require.Equal(t, 1, w.EffectCount("prepaid.reset_pin", "txn1"))
			w.clean()
		})
	}
}

func TestPrepaidAnswerSettings(t *testing.T) {
	cfg := config(t)
	p := cfg.Prepaid
	p.AnswerField, p.SuccessCode, p.URNAs, p.PlainErrors, p.ClientTxnIDMax = "result", "201", "string", true, 14
	p.AnyCard, p.Dedupe, p.ConsumerCustomID = true, new(true), "consumer"
	p.VerifyCardholder = &upstream.VerifyConfig{}
	w := start(t, cfg)
	send := func(target, plain string) result {
		r := cardEnvelope(target, encrypt(cardKeyHex, "prefix", "", []byte(plain)))
		r.header.Set("X-Consumer-Custom-Id", "consumer")
		return w.must(r)
	}
	body := strings.Replace(cardBody("txn1", "121200"), "70000000008", `"123"`, 1)
	const reset = "/mob1/api/onboarding/v1/resetPin"
	got, err := decrypt(cardKeyHex, "prefix", "", send(reset, body).text(t, "result"))
	require.NoError(t, err)
	require.Contains(t, got, `"responseCode":"201"`)
	w.clean()
	require.Equal(t, "1030", send(reset, body).code(t), "a duplicate, answered in plain JSON")
	require.Equal(t, 1, w.EffectCount("prepaid.reset_pin", "txn1"))
	w.clean()
	require.Equal(t, "1030", send(reset, strings.Replace(body, "txn1", "txn456789012345", 1)).code(t), "15 characters where 14 are allowed")
	bare := cardEnvelope(reset, encrypt(cardKeyHex, "prefix", "", []byte(body)))
	require.Equal(t, 401, w.must(bare).status, "without X-Consumer-Custom-ID")
	require.Len(t, w.Violations(), 2)

	verify := strings.Replace(strings.Replace(body, `"newPIN":"121200",`, "", 1), "1120", "1130", 1)
	got, err = decrypt(cardKeyHex, "prefix", "", send("/mob1/api/onboarding/v1/verifyCardholder", verify).text(t, "result"))
	require.NoError(t, err)
	require.Contains(t, got, `"messageCode":"1131"`)
	require.Contains(t, got, `"responseCode":"201"`)
	require.Len(t, w.Violations(), 2)
	require.Len(t, w.Effects(), 1, "verifying changes nothing")
}

func TestCertificateFiles(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "certs")
	require.NoError(t, upstream.MakeCerts(dir))
	info, err := os.Stat(filepath.Join(dir, "server.key"))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	first, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
	require.NoError(t, err)
	require.NoError(t, upstream.MakeCerts(dir))
	second, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
	require.NoError(t, err)
	require.Equal(t, first, second, "what is there stays")

	// A client certificate from an authority of its own turns mutual TLS on.
	clientCA, clientCert := makeClientCert(t)
	caFile := filepath.Join(dir, "clients.pem")
	require.NoError(t, os.WriteFile(caFile, clientCA, 0o600))
	cfg := config(t)
	cfg.TLS = upstream.TLSConfig{
		CertFile: filepath.Join(dir, "server.pem"), KeyFile: filepath.Join(dir, "server.key"), ClientCAFile: caFile,
	}
	server, err := upstream.New(cfg)
	require.NoError(t, err)
	require.Nil(t, server.CA())
	require.NoError(t, server.Start(t.Context()))
	t.Cleanup(func() { require.NoError(t, server.Close()) })
	w := &world{Server: server, t: t}
	pool := x509.NewCertPool()
	require.True(t, pool.AppendCertsFromPEM(first))
	for name, certs := range map[string][]tls.Certificate{"with": {clientCert}, "without": nil} {
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, Certificates: certs, MinVersion: tls.VersionTLS13}}
		got, err := w.doWith(t.Context(), &http.Client{Transport: transport}, tokenRequest(upstream.Finpay, finpayID))
		transport.CloseIdleConnections()
		if name == "without" {
			require.Error(t, err)
			continue
		}
		require.NoError(t, err)
		require.Equal(t, 200, got.status)
	}
	require.NoError(t, os.Remove(filepath.Join(dir, "server.pem")))
	require.ErrorContains(t, upstream.MakeCerts(dir), "only some")
}

func makeClientCert(t *testing.T) ([]byte, tls.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(7), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// Nothing secret may be found in what the control interface shows, whatever the exchanges were.
func TestNothingSecretIsKept(t *testing.T) {
	cfg := config(t)
	cfg.Finpay.FixedOTP = "69696969"
	cfg.Now = func() time.Time { return time.Now().Truncate(time.Second) } // among nine digits of a second there may be any six
	w := start(t, cfg)
	token := w.token(upstream.Finpay)
	first := w.must(w.finpay(token, pathUnbind, unbindBody(linkedPhone, "", "")))
	w.must(w.finpay(token, pathUnbind, unbindBody(linkedPhone, first.text(t, "referenceNo"), "69696969")))
	bind := w.must(w.finpay(token, pathBind, bindBody(phone)))
	w.must(cardRequest(cardBody("txn1", "848484")))
	w.must(cardRequest(strings.Replace(cardBody("txn2", "848484"), "1120", "9999", 1)))
	w.must(cardRequest(cardBody("txn3", "848484") + "x"))
	bad := w.finpay(token, pathReset, resetBody("ref1", phone))
	bad.header.Set("X-Signature", "AAAA")
	w.must(bad)
	require.NotEmpty(t, w.Violations())

	var shown bytes.Buffer
	for _, path := range []string{"/ledger", "/effects", "/violations", "/state"} {
		shown.WriteString(get(t, w.URL(upstream.Control)+path).body)
	}
	for _, secret := range []string{
		token, "69696969", "848484", finpaySecret, netzmeSecret, cardKeyHex, "secure+code", bind.text(t, "linkageToken"), pinSalt,
	} {
		require.NotContains(t, shown.String(), secret)
	}
}
