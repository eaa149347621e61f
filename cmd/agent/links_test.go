package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gardu/internal/keystore"
	"gardu/internal/keystore/softhsmtest"
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
	l := &linkSettings{ClientKey: "pkcs11:object=finpay-tls", ClientCert: file}
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
	require.Equal(t, []string{info.Fingerprint()}, ag.shown)
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
	set.providers = []provider{{"finpay", &finpaySettings{TLS: linkSettings{ClientKey: "pkcs11:object=finpay-tls", ClientCert: file}}}}
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
