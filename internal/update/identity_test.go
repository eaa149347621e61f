package update_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gardu/internal/update"
)

// clientAuthority issues certificates for kiosks.
type clientAuthority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newClientAuthority(t *testing.T, name string) *clientAuthority {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, k.Public(), k)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return &clientAuthority{t, cert, k}
}

func (a *clientAuthority) issue() *tls.Certificate {
	a.t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(a.t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "kiosk 7"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, k.Public(), a.key)
	require.NoError(a.t, err)
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: k}
}

// TestARepositoryThatAsksWhoWeAre: with the right certificate everything comes; with
// none, with another authority's, and with a key that does not work, it is said what is
// to be done, and what is remembered of the repository stays.
func TestARepositoryThatAsksWhoWeAre(t *testing.T) {
	right := newClientAuthority(t, "the bank's kiosks")
	other := newClientAuthority(t, "somebody else's")
	p := newPublisher(t)
	pool := x509.NewCertPool()
	pool.AddCert(right.cert)
	errToken := errors.New("the token is away")
	ofToken := update.OfToken(errToken)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, polite := range []bool{false, true} { // polite hosts answer, and say 403
			t.Run(tls.VersionName(version)+map[bool]string{true: ", asks and answers", false: ", demands"}[polite], func(t *testing.T) {
				s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if len(r.TLS.VerifiedChains) == 0 {
						http.Error(w, "who are you", http.StatusForbidden)
						return
					}
					p.serve(w, r)
				}))
				s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
				s.TLS = &tls.Config{MinVersion: version, MaxVersion: version, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert}
				if polite {
					s.TLS.ClientAuth = tls.VerifyClientCertIfGiven
				}
				s.StartTLS()
				defer s.Close()
				ca := filepath.Join(t.TempDir(), "ca.pem")
				require.NoError(t, os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600))
				for name, tt := range map[string]struct {
					shown *tls.Certificate
					fails error
					says  string
				}{
					"the right one":            {shown: right.issue()},
					"none":                     {says: "it asks for a client certificate; set update.client_key and update.client_cert"},
					"one of another authority": {shown: other.issue(), says: "it did not take the client certificate; see that its time is not over"},
					"a key that does not work": {fails: ofToken, says: "the token is away"},
				} {
					t.Run(name, func(t *testing.T) {
						asked := 0
						o := update.SourceOptions{URL: s.URL + "/", CAFile: ca}
						if tt.shown != nil || tt.fails != nil {
							o.Certificate = func(context.Context) (*tls.Certificate, error) { asked++; return tt.shown, tt.fails }
						}
						src, err := update.NewSource(o)
						require.NoError(t, err)
						defer src.Close()
						require.Zero(t, asked, "nobody has asked yet")
						dir := t.TempDir()
						kept := filepath.Join(dir, "timestamp.json")
						require.NoError(t, os.WriteFile(kept, []byte("{}"), 0o600))
						root := filepath.Join(p.dir, "metadata", "1.root.json")
						_, err = (&update.Trust{Dir: dir, RootFile: root}).Refresh(t.Context(), src)
						if tt.says == "" {
							require.NoError(t, err)
							require.Equal(t, 1, asked, "the token is asked once, not for each request")
							return
						}
						require.ErrorIs(t, err, update.ErrCertificate)
						require.ErrorContains(t, err, tt.says)
						if tt.fails != nil {
							require.ErrorIs(t, err, errToken)
							require.ErrorIs(t, err, update.ErrToken)
							require.NotErrorIs(t, err, update.ErrNetwork)
						}
						require.FileExists(t, kept, "who does not get in loses nothing")

						// Who goes there in our place says the same.
						over, _ := startFetcher(t, o)
						_, told := (&update.Trust{Dir: dir, RootFile: root}).Refresh(t.Context(), over)
						require.ErrorContains(t, told, tt.says)
						for _, kind := range []error{update.ErrCertificate, update.ErrToken, update.ErrNetwork} {
							require.Equal(t, errors.Is(err, kind), errors.Is(told, kind), "%v: %v", kind, told)
						}
					})
				}
			})
		}
	}
}

// A host that does not ask is told nothing, and its own faults are not taken for a
// certificate's.
func TestARepositoryThatDoesNotAsk(t *testing.T) {
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if len(r.TLS.PeerCertificates) > 0 {
			panic("a certificate was shown unasked")
		}
		http.Error(w, "no", http.StatusForbidden)
	}))
	defer s.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600))
	src, err := update.NewSource(update.SourceOptions{URL: s.URL + "/", CAFile: ca})
	require.NoError(t, err)
	defer src.Close()
	_, err = src.Get(t.Context(), "timestamp.json", 1<<20)
	require.ErrorIs(t, err, update.ErrNetwork)
	require.NotErrorIs(t, err, update.ErrCertificate)
	require.ErrorContains(t, err, "HTTP status 403")
}
