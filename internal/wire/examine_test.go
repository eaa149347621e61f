package wire

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestExamineTellsEachPhase(t *testing.T) {
	ca := newAuthority(t)
	s := serve(t, tls13(t, ca), keepAlive)
	x := client(t, Options{CAFile: ca.file}).Examine(t.Context(), s.url()+"/path?secret=1")
	require.NoError(t, x.Err)
	require.Empty(t, x.Failed)
	require.Equal(t, s.ln.Addr().String(), x.Host)
	require.Equal(t, s.ln.Addr().String(), x.Remote)
	require.Equal(t, []string{"127.0.0.1"}, x.Addresses)
	require.Equal(t, "TLS 1.3", x.TLS)
	require.NotEmpty(t, x.Suite)
	require.NotEmpty(t, x.Chain)
	at, whose := x.Expires()
	require.WithinDuration(t, time.Now().Add(time.Hour), at, time.Minute)
	require.Equal(t, "leaf", whose)
	require.Positive(t, x.Handshake)
	s.closeAll()
	require.Zero(t, s.requests.Load(), "no request is sent")
}

func TestExamineSaysWhatDoesNotWork(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	expired := ca.issue(t, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })
	gone := nobody(t)
	for name, tt := range map[string]struct {
		conf   *tls.Config
		opt    Options
		url    string
		failed string
		text   []string
		chain  bool
	}{
		"another authority": {conf: tls13(t, ca), opt: Options{CAFile: other.file}, failed: OpTLS, chain: true,
			text: []string{`signed by "test authority", which is not trusted here`, "ca_file"}},
		"expired": {conf: &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{expired}}, opt: Options{CAFile: ca.file}, failed: OpTLS, chain: true,
			text: []string{"date and time"}},
		"too old a TLS":  {conf: &tls.Config{MaxVersion: tls.VersionTLS12, Certificates: tls13(t, ca).Certificates}, opt: Options{CAFile: ca.file}, failed: OpTLS, text: []string{"min_tls"}},
		"nobody listens": {opt: Options{CAFile: ca.file}, url: "https://" + gone, failed: OpConnect, text: []string{"refused"}},
		"no such name":   {opt: Options{CAFile: ca.file, DialTimeout: Duration(time.Second)}, url: "https://nowhere.invalid", failed: OpResolve, text: []string{"name server"}},
		"no https":       {opt: Options{CAFile: ca.file}, url: "http://127.0.0.1", failed: OpRequest, text: []string{"https://"}},
		"no proxy there": {opt: Options{CAFile: ca.file, Proxy: "http://" + gone}, url: "https://127.0.0.1:1", failed: OpProxy, text: []string{"proxy"}},
	} {
		t.Run(name, func(t *testing.T) {
			url := tt.url
			if tt.conf != nil {
				url = serve(t, tt.conf, keepAlive).url()
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(patience))
			defer cancel()
			x := client(t, tt.opt).Examine(ctx, url)
			require.Equal(t, tt.failed, x.Failed, "%v", x.Err)
			require.False(t, failure(t, x.Err).Sent)
			for _, want := range tt.text {
				require.Contains(t, x.Err.Error(), want)
			}
			require.NotContains(t, x.Err.Error(), "candidate")
			require.Equal(t, tt.chain, len(x.Chain) > 0)
			require.NotContains(t, x.Err.Error(), "\n")
		})
	}
}

// TestALinkWhoseClientCertificateIsRefused: with TLS 1.3 the refusal comes after the
// handshake, and neither a look at the link nor a probe may take it for whole.
func TestALinkWhoseClientCertificateIsRefused(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	mine, stranger := ca.issue(t, nil), other.issue(t, nil)
	old := ca.issue(t, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })
	for _, version := range []uint16{tls.VersionTLS13, tls.VersionTLS12} {
		for name, tt := range map[string]struct {
			shown *tls.Certificate
			taken bool
		}{
			"the right one":      {&mine, true},
			"none":               {nil, false},
			"of other authority": {&stranger, false},
			"ended":              {&old, false},
		} {
			t.Run(tls.VersionName(version)+" "+name, func(t *testing.T) {
				t.Parallel()
				s := serve(t, &tls.Config{
					MinVersion: version, MaxVersion: version, Certificates: []tls.Certificate{ca.issue(t, nil)},
					ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool,
				}, keepAlive)
				c := client(t, Options{CAFile: ca.file, MinTLS: "1.2", Certificate: tt.shown})
				if !tt.taken {
					c.refusal = time.Duration(patience)
				}
				x, err := c.Examine(t.Context(), s.url()), c.Connect(t.Context(), s.url())
				if tt.taken {
					require.NoError(t, x.Err)
					require.NoError(t, err)
					_, err = c.Do(t.Context(), Request{Method: "POST", URL: s.url()})
					require.NoError(t, err, "over the connection of the probe")
					require.EqualValues(t, 2, s.accepted.Load())
					return
				}
				for _, err := range []error{x.Err, err} {
					e := failure(t, err)
					require.Equal(t, OpTLS, e.Op)
					require.False(t, e.Sent)
					require.Contains(t, e.Error(), "client_cert")
				}
				require.Equal(t, OpTLS, x.Failed)
				require.Zero(t, s.requests.Load())
			})
		}
	}
}
