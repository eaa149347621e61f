package wire

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestARenewedClientCertificateIsShown: from the next connection on, without a new
// client; and the first goes on where there is no other.
func TestARenewedClientCertificateIsShown(t *testing.T) {
	ca := newAuthority(t)
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	numbered := func(n int64) *tls.Certificate {
		c := ca.issue(t, func(c *x509.Certificate) { c.SerialNumber = big.NewInt(n) })
		return &c
	}
	var seen atomic.Int64
	conf := tls13(t, ca)
	conf.ClientAuth, conf.ClientCAs = tls.RequireAndVerifyClientCert, pool
	conf.VerifyConnection = func(s tls.ConnectionState) error {
		seen.Store(s.PeerCertificates[0].SerialNumber.Int64())
		return nil
	}
	s := serve(t, conf, keepAlive)
	var now atomic.Pointer[tls.Certificate]
	c := client(t, Options{CAFile: ca.file, Certificate: numbered(10), Renewed: func(ctx context.Context) *tls.Certificate {
		require.NoError(t, ctx.Err())
		return now.Load()
	}})
	for _, renewed := range []*tls.Certificate{nil, numbered(11), numbered(12)} {
		now.Store(renewed)
		want := int64(10)
		if renewed != nil {
			want = renewed.Leaf.SerialNumber.Int64()
		}
		_, err := c.Do(t.Context(), post(s.url()))
		require.NoError(t, err)
		require.Equal(t, want, seen.Load())
		seen.Store(0)
		_, err = c.Do(t.Context(), post(s.url()))
		require.NoError(t, err)
		require.Zero(t, seen.Load(), "a connection that stands goes on")
		c.Close()
		c.closed = false // only its connections were to go
	}
}
