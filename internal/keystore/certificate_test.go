package keystore_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha512"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gardu/internal/keystore"
	"gardu/internal/keystore/softhsmtest"
	"gardu/internal/wire"
)

// authority issues client certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "client CA"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return &authority{cert, key}
}

// issue returns a chain for a public key as PEM.
func (a *authority) issue(t *testing.T, pub crypto.PublicKey, change ...func(*x509.Certificate)) []byte {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "kiosk-7"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(10*24*time.Hour + time.Minute),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	for _, c := range change {
		c(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, pub, a.key)
	require.NoError(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// platform is a TLS server that demands a client certificate and answers with the
// name in it.
func (a *authority) platform(t *testing.T, version uint16) (url, caFile string) {
	t.Helper()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte(r.TLS.PeerCertificates[0].Subject.CommonName + " " + tls.VersionName(r.TLS.Version)))
	}))
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	s.TLS = &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool, MinVersion: version, MaxVersion: version}
	s.StartTLS()
	t.Cleanup(s.Close)
	caFile = filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(caFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600))
	return s.URL, caFile
}

func TestMutualTLSWithTheKeyInTheToken(t *testing.T) {
	s := softhsmtest.New(t).Open(t)
	ca := newAuthority(t)
	ec, rsaKey := generate(t, s, keystore.KindECP256, "tls-ec"), generate(t, s, keystore.KindRSA2048, "tls-rsa")
	ec384 := generate(t, s, keystore.KindECP384, "tls-ec384")
	for _, c := range []struct {
		name    string
		key     string
		allowed []keystore.Mechanism
		version uint16
		says    string
		refused bool
	}{
		{"EC, TLS 1.3", ec, nil, tls.VersionTLS13, "kiosk-7 TLS 1.3", false},
		{"EC, TLS 1.2", ec, nil, tls.VersionTLS12, "kiosk-7 TLS 1.2", false},
		{"EC P-384, TLS 1.3", ec384, nil, tls.VersionTLS13, "kiosk-7 TLS 1.3", false},
		{"RSA by PSS, TLS 1.3", rsaKey, nil, tls.VersionTLS13, "kiosk-7 TLS 1.3", false},
		{"RSA by PSS, TLS 1.2", rsaKey, []keystore.Mechanism{keystore.MechanismPSS}, tls.VersionTLS12, "kiosk-7 TLS 1.2", false},
		{"RSA without PSS, TLS 1.2", rsaKey, []keystore.Mechanism{keystore.MechanismRSAPKCS}, tls.VersionTLS12, "kiosk-7 TLS 1.2", false},
		{"RSA without PSS, TLS 1.3", rsaKey, []keystore.Mechanism{keystore.MechanismRSAPKCS}, tls.VersionTLS13, "", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			g, err := s.Signer(c.key, c.allowed...)
			require.NoError(t, err)
			cert, err := g.Certificate(t.Context(), ca.issue(t, g.Public()), time.Now())
			require.NoError(t, err)
			require.Equal(t, 10, keystore.DaysLeft(cert.Leaf, time.Now()))
			url, caFile := ca.platform(t, c.version)
			client, err := wire.New(wire.Options{CAFile: caFile, MinTLS: "1.2", Certificate: cert})
			require.NoError(t, err)
			defer client.Close()
			reply, err := client.Do(t.Context(), wire.Request{Method: http.MethodGet, URL: url})
			if c.refused {
				require.Error(t, err)
				return
			}
			require.NoError(t, err)
			require.Equal(t, c.says, string(reply.Body))
		})
	}
	url, caFile := ca.platform(t, tls.VersionTLS13)
	client, err := wire.New(wire.Options{CAFile: caFile})
	require.NoError(t, err)
	_, err = client.Do(t.Context(), wire.Request{Method: http.MethodGet, URL: url})
	require.Error(t, err, "the platform does demand a certificate")
}

func TestCertificatesThatCannotBeUsed(t *testing.T) {
	s := softhsmtest.New(t).Open(t)
	ca := newAuthority(t)
	g, err := s.Signer(generate(t, s, keystore.KindECP256, "tls"))
	require.NoError(t, err)
	other, err := s.Signer(generate(t, s, keystore.KindECP256, "other"))
	require.NoError(t, err)
	now := time.Now()
	for _, c := range []struct {
		name  string
		chain []byte
		says  string
	}{
		{"of another key", ca.issue(t, other.Public()), "is for another key"},
		{"expired", ca.issue(t, g.Public(), func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Minute) }), "it expired on " + now.Add(-time.Minute).UTC().Format(time.DateOnly)},
		{"not yet", ca.issue(t, g.Public(), func(c *x509.Certificate) { c.NotBefore = now.Add(time.Hour) }), "it is not valid before"},
		{"of a server", ca.issue(t, g.Public(), func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }), "it is not for TLS clients"},
		{"none", []byte("hello"), "holds no certificate"},
		{"damaged", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")}), "cannot be read"},
		{"a key beside it", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("canary-4711")}), `holds a "PRIVATE KEY"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := g.Certificate(t.Context(), c.chain, now)
			require.ErrorIs(t, err, keystore.ErrCertificate)
			require.ErrorContains(t, err, c.says)
			require.NotContains(t, err.Error(), "canary")
			var typed *keystore.Error
			require.ErrorAs(t, err, &typed)
			require.NotEmpty(t, typed.Hint)
			require.Equal(t, keystore.ClassConfiguration, keystore.ClassOf(err))
		})
	}
	mac, err := s.Signer("pkcs11:object=missing")
	require.NoError(t, err)
	_, err = mac.Certificate(t.Context(), ca.issue(t, g.Public()), now)
	require.ErrorIs(t, err, keystore.ErrKeyNotFound)
}

func TestPSSSignaturesVerify(t *testing.T) {
	token := faults(t)
	s := token.Open(t)
	g, err := s.Signer(generate(t, s, keystore.KindRSA2048, "k"))
	require.NoError(t, err)
	pub, ok := g.Public().(*rsa.PublicKey)
	require.True(t, ok)
	digest := sha512.Sum384([]byte("m"))
	for _, salt := range []int{rsa.PSSSaltLengthEqualsHash, 48} {
		sig, err := g.Sign(nil, digest[:], &rsa.PSSOptions{SaltLength: salt, Hash: crypto.SHA384})
		require.NoError(t, err)
		require.NoError(t, rsa.VerifyPSS(pub, crypto.SHA384, digest[:], sig, &rsa.PSSOptions{SaltLength: 48}))
	}
	for _, o := range []*rsa.PSSOptions{{SaltLength: rsa.PSSSaltLengthAuto, Hash: crypto.SHA384}, {SaltLength: 20, Hash: crypto.SHA384}} {
		_, err = g.Sign(nil, digest[:], o)
		require.ErrorIs(t, err, keystore.ErrUnsupported)
	}
	token.order(t, "always C_Sign flip 256")
	_, err = g.Sign(nil, digest[:], &rsa.PSSOptions{SaltLength: 48, Hash: crypto.SHA384})
	require.ErrorIs(t, err, keystore.ErrDevice, "a wrong signature with CKR_OK")
}
