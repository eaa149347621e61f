package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gardu/internal/keystore"
	"gardu/internal/keystore/softhsmtest"
	"gardu/internal/wire"
)

func TestTheClientCertificateOfALink(t *testing.T) {
	token := softhsmtest.New(t)
	var log bytes.Buffer
	ag := newAgent(defaultSettings(), slog.New(slog.NewTextHandler(&log, nil)))
	ag.keys = token.Open(t)
	info, err := ag.keys.Generate(t.Context(), keystore.NewKey{Label: "finpay-tls", Kind: keystore.KindECP256})
	require.NoError(t, err)
	public, err := x509.ParsePKIXPublicKey(info.Public)
	require.NoError(t, err)
	issuer, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "finpay.pem")
	l := &linkSettings{clientSettings: clientSettings{ClientKey: "pkcs11:object=finpay-tls", ClientCert: file}}
	issue := func(pub any, end time.Duration) {
		template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "kiosk"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(end)}
		der, err := x509.CreateCertificate(rand.Reader, template, template, pub, issuer)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
		log.Reset()
	}

	_, err = ag.options(t.Context(), "finpay", l)
	require.ErrorIs(t, err, os.ErrNotExist)
	require.ErrorContains(t, err, "finpay.tls.client_cert")

	issue(public, 100*24*time.Hour+time.Minute)
	o, err := ag.options(t.Context(), "finpay", l)
	require.NoError(t, err)
	require.NotNil(t, o.Certificate)
	require.Equal(t, map[string]string{"finpay": info.Fingerprint()}, ag.shown)
	require.Contains(t, log.String(), "level=INFO")
	require.Contains(t, log.String(), "days_left=100")

	issue(public, 7*24*time.Hour+time.Minute)
	_, err = ag.options(t.Context(), "finpay", l)
	require.NoError(t, err)
	require.Contains(t, log.String(), "level=WARN")
	require.Contains(t, log.String(), "days_left=7")

	issue(public, -time.Minute)
	_, err = ag.client(t.Context(), "finpay", l)
	require.ErrorIs(t, err, keystore.ErrCertificate)
	require.ErrorContains(t, err, "it expired on")

	issue(issuer.Public(), time.Hour)
	_, err = ag.client(t.Context(), "finpay", l)
	require.ErrorContains(t, err, "is for another key")

	_, err = ag.client(t.Context(), "finpay", &linkSettings{})
	require.NoError(t, err, "a link without a client key asks for no token")
}

// TestAKeyWithItsCertificateInUseStays: a link ends when the key of the certificate that
// it shows is destroyed, whichever generation that is.
func TestAKeyWithItsCertificateInUseStays(t *testing.T) {
	file := filepath.Join(t.TempDir(), "finpay.pem")
	set := defaultSettings()
	set.providers = []provider{{"finpay", &finpaySettings{TLS: linkSettings{clientSettings: clientSettings{ClientKey: "pkcs11:object=finpay-tls", ClientCert: file}}}}}
	row := func(label string) *keyRow {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		require.NoError(t, err)
		der, err := x509.MarshalPKIXPublicKey(k.Public())
		require.NoError(t, err)
		template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
		cert, err := x509.CreateCertificate(rand.Reader, template, template, k.Public(), k)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}), 0o600))
		n := keystore.ParseName(label)
		info := keystore.KeyInfo{Label: label, Class: "private", Public: der}
		return &keyRow{KeyInfo: info, Name: n.String(), Base: n.Base, Fingerprint: info.Fingerprint()}
	}
	newer := row("finpay-tls@g2")
	older := row("finpay-tls")
	require.NoError(t, set.certified(newer))
	require.ErrorContains(t, set.certified(older), "holds the certificate of finpay-tls, by which finpay knows this kiosk")
	other := *older
	other.Base = "finpay-sign"
	require.NoError(t, set.certified(&other))
	require.NoError(t, os.Remove(file))
	require.NoError(t, set.certified(older))
}

// TestARenewedCertificateIsUsedWithoutARestart: a platform that demands certificates
// sees the new one at the next connection; one that cannot be used leaves the one before.
func TestARenewedCertificateIsUsedWithoutARestart(t *testing.T) {
	token := softhsmtest.New(t)
	var log bytes.Buffer
	ag := newAgent(defaultSettings(), slog.New(slog.NewTextHandler(&log, nil)))
	ag.keys = token.Open(t)
	issuer, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	authority := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	raw, err := x509.CreateCertificate(rand.Reader, authority, authority, issuer.Public(), issuer)
	require.NoError(t, err)
	authority, err = x509.ParseCertificate(raw)
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "finpay.pem")
	put := func(b []byte) {
		t.Helper()
		require.NoError(t, os.WriteFile(file+".new", b, 0o600))
		require.NoError(t, os.Rename(file+".new", file))
		log.Reset()
	}
	keyOf := func(label string) (any, string) {
		info, err := ag.keys.Generate(t.Context(), keystore.NewKey{Label: label, Kind: keystore.KindECP256})
		require.NoError(t, err)
		public, err := x509.ParsePKIXPublicKey(info.Public)
		require.NoError(t, err)
		return public, info.Fingerprint()
	}
	issue := func(serial int64, public any) {
		t.Helper()
		template := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "kiosk"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(100 * 24 * time.Hour)}
		der, err := x509.CreateCertificate(rand.Reader, template, authority, public, issuer)
		require.NoError(t, err)
		put(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	}
	shown := make(chan int64, 1)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	s.TLS = &tls.Config{MinVersion: tls.VersionTLS13, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: x509.NewCertPool(), VerifyConnection: func(c tls.ConnectionState) error {
		shown <- c.PeerCertificates[0].SerialNumber.Int64()
		return nil
	}}
	s.TLS.ClientCAs.AddCert(authority)
	s.StartTLS()
	defer s.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600))

	first, firstPrint := keyOf("finpay-tls")
	issue(101, first)
	l := &linkSettings{Options: wire.Options{CAFile: ca}, clientSettings: clientSettings{ClientKey: "pkcs11:object=finpay-tls", ClientCert: file}}
	c, err := ag.client(t.Context(), "finpay", l)
	require.NoError(t, err)
	defer c.Close()
	sees := func(serial int64) {
		t.Helper()
		x := c.Examine(t.Context(), s.URL)
		require.NoError(t, x.Err)
		select { // with TLS 1.3 this side's handshake may be over before the platform has read the certificate
		case got := <-shown:
			require.Equal(t, serial, got)
		case <-time.After(time.Minute):
			require.Fail(t, "the platform saw no certificate")
		}
	}
	sees(101)
	issue(102, first)
	sees(102)
	require.Contains(t, log.String(), `msg="client certificate" provider=finpay`)
	require.Equal(t, map[string]string{"finpay": firstPrint}, ag.shown)

	// A file that is none, twice: the one before goes on, and it is said once.
	put([]byte("half a certif"))
	sees(102)
	sees(102)
	require.Equal(t, 1, strings.Count(log.String(), "the renewed client certificate cannot be used"), log.String())
	require.NoError(t, os.Remove(file))
	sees(102)

	// One of the key's next generation.
	second, secondPrint := keyOf("finpay-tls@g2")
	issue(103, second)
	sees(103)
	require.Equal(t, map[string]string{"finpay": secondPrint}, ag.shown)
}
