package wire

import (
	"bufio"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestNothingLeavesBeforeTheHandshake(t *testing.T) {
	ca := newAuthority(t)
	patient := Options{CAFile: ca.file}
	listen := func(t *testing.T) net.Listener {
		ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
		require.NoError(t, err)
		t.Cleanup(func() { _ = ln.Close() })
		return ln
	}
	t.Run("refused", func(t *testing.T) {
		_, err := client(t, patient).Do(t.Context(), post("https://"+nobody(t)))
		e := failure(t, err)
		require.False(t, e.Sent)
		require.Equal(t, OpConnect, e.Op)
	})
	t.Run("no such name", func(t *testing.T) {
		_, err := client(t, Options{DialTimeout: Duration(300 * time.Millisecond)}).Do(t.Context(), post("https://nowhere.invalid"))
		e := failure(t, err)
		require.False(t, e.Sent)
		require.Contains(t, []string{OpResolve, OpConnect}, e.Op)
	})
	t.Run("silent in the handshake", func(t *testing.T) {
		ln := listen(t) // the kernel accepts, nobody answers
		_, err := client(t, Options{TLSTimeout: Duration(300 * time.Millisecond)}).Do(t.Context(), post("https://"+ln.Addr().String()))
		e := failure(t, err)
		require.False(t, e.Sent)
		require.Equal(t, OpTLS, e.Op)
		require.ErrorIs(t, err, context.DeadlineExceeded)
	})
	t.Run("plain HTTP on the port", func(t *testing.T) {
		ln := listen(t)
		done := make(chan struct{})
		go func() {
			defer close(done)
			c, err := ln.Accept()
			if err == nil {
				_, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n"+canary)
				_, _ = io.CopyN(io.Discard, c, 1)
				_ = c.Close()
			}
		}()
		_, err := client(t, patient).Do(t.Context(), post("https://"+ln.Addr().String()))
		e := failure(t, err)
		require.False(t, e.Sent)
		require.Contains(t, e.Hint, "does not speak TLS")
		<-done
	})
	t.Run("closed in the handshake", func(t *testing.T) {
		ln := listen(t)
		done := make(chan struct{})
		go func() {
			defer close(done)
			if c, err := ln.Accept(); err == nil {
				_, _ = io.CopyN(io.Discard, c, 10)
				_ = c.Close()
			}
		}()
		_, err := client(t, patient).Do(t.Context(), post("https://"+ln.Addr().String()))
		e := failure(t, err)
		require.False(t, e.Sent)
		require.Equal(t, OpTLS, e.Op)
		<-done
	})
	t.Run("context already over", func(t *testing.T) {
		s := serve(t, tls13(t, ca), keepAlive)
		c := client(t, patient)
		require.NoError(t, c.Connect(t.Context(), s.url())) // an idle connection is there to be misused
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := c.Do(ctx, post(s.url()))
		require.False(t, failure(t, err).Sent)
		require.ErrorIs(t, err, context.Canceled)
		require.Zero(t, s.requests.Load())
	})
	for name, r := range map[string]Request{
		"plain http":         {Method: "POST", URL: "http://127.0.0.1/" + canary},
		"user name":          {Method: "POST", URL: "https://" + canary + "@127.0.0.1/"},
		"no URL":             {Method: "POST", URL: "https://127.0.0.1:x/" + canary},
		"no method":          {URL: "https://127.0.0.1/"},
		"line break":         {Method: "POST", URL: "https://127.0.0.1/", Header: http.Header{"Authorization": {canary + "\r\nX: y"}}},
		"header of our own":  {Method: "POST", URL: "https://127.0.0.1/", Header: http.Header{"content-length": {canary}}},
		"bad name of header": {Method: "POST", URL: "https://127.0.0.1/", Header: http.Header{"a:b": {canary}}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := client(t, patient).Do(t.Context(), r)
			e := failure(t, err)
			require.False(t, e.Sent)
			require.Equal(t, OpRequest, e.Op)
		})
	}
}

func TestConnectionsAreReused(t *testing.T) {
	ca := newAuthority(t)
	s := serve(t, tls13(t, ca), keepAlive)
	c := client(t, Options{CAFile: ca.file})
	require.NoError(t, c.Connect(t.Context(), s.url()))
	for range 5 {
		_, err := c.Do(t.Context(), post(s.url()))
		require.NoError(t, err)
	}
	require.EqualValues(t, 1, s.accepted.Load())
	require.EqualValues(t, 5, s.requests.Load())
}

func TestConnectionIsNotReused(t *testing.T) {
	ca := newAuthority(t)
	for _, tc := range []struct{ name, text string }{
		{"connection: close", "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}"},
		{"bytes after the answer", fine + "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged"},
		{"HTTP/1.0", "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}"},
		{"switching protocols", "HTTP/1.1 101 Switching Protocols\r\n\r\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := serve(t, tls13(t, ca), func(s *server, c *tls.Conn) {
				br := bufio.NewReader(c)
				for {
					if _, _, more := s.request(c, br); !more {
						return
					}
					_, _ = io.WriteString(c, tc.text)
				}
			})
			c := client(t, Options{CAFile: ca.file})
			for range 2 {
				r, err := c.Do(t.Context(), post(s.url()))
				require.NoError(t, err)
				require.NotEqual(t, "forged", string(r.Body))
			}
			require.EqualValues(t, 2, s.accepted.Load())
		})
	}
	t.Run("unused too long", func(t *testing.T) {
		s := serve(t, tls13(t, ca), keepAlive)
		c := client(t, Options{CAFile: ca.file, IdleTimeout: 1})
		for range 2 {
			_, err := c.Do(t.Context(), post(s.url()))
			require.NoError(t, err)
		}
		require.EqualValues(t, 2, s.accepted.Load())
	})
}

// TestDeadIdleConnection: a peer that closed an idle connection is noticed before
// a byte is written; one that dies with the request in flight is never asked again.
func TestDeadIdleConnection(t *testing.T) {
	ca := newAuthority(t)
	for _, tc := range []struct {
		name string
		end  func(c *tls.Conn)
	}{
		{"closed by TLS", func(c *tls.Conn) { _ = c.Close() }},
		{"closed by TCP", func(c *tls.Conn) { _ = c.NetConn().Close() }},
		{"reset", reset},
		{"sent something unasked", func(c *tls.Conn) { _, _ = io.WriteString(c, fine) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			ended := make(chan struct{}, 8)
			s := serve(t, tls13(t, ca), func(s *server, c *tls.Conn) {
				s.request(c, bufio.NewReader(c))
				_, _ = io.WriteString(c, fine)
				tc.end(c)
				ended <- struct{}{}
				hang(c)
			})
			c := client(t, Options{CAFile: ca.file})
			for range 3 {
				_, err := c.Do(t.Context(), post(s.url()))
				require.NoError(t, err)
				<-ended
				require.Eventually(t, func() bool { return c.idleDead() }, time.Duration(patience), time.Millisecond, "loopback delivers the end")
			}
			require.EqualValues(t, 3, s.requests.Load())
			require.EqualValues(t, 3, s.accepted.Load())
		})
	}
	t.Run("dies with the request in flight", func(t *testing.T) {
		s := serve(t, tls13(t, ca), func(s *server, c *tls.Conn) {
			br := bufio.NewReader(c)
			s.request(c, br)
			_, _ = io.WriteString(c, fine)
			s.request(c, br)
			reset(c)
		})
		c := client(t, Options{CAFile: ca.file})
		_, err := c.Do(t.Context(), post(s.url()))
		require.NoError(t, err)
		_, err = c.Do(t.Context(), post(s.url()))
		require.True(t, failure(t, err).Sent)
		time.Sleep(50 * time.Millisecond)
		require.EqualValues(t, 2, s.requests.Load(), "a request was repeated behind the caller's back")
		require.EqualValues(t, 1, s.accepted.Load())
	})
}

// idleDead reports whether no idle connection is left that could be used.
func (c *Client) idleDead() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, list := range c.idle {
		for _, cn := range list {
			if cn.alive() {
				return false
			}
		}
	}
	return true
}

func TestTrust(t *testing.T) {
	ca := newAuthority(t)
	conf := tls13(t, ca)
	sum := sha256.Sum256(conf.Certificates[0].Leaf.RawSubjectPublicKeyInfo)
	caSum := sha256.Sum256(ca.cert.RawSubjectPublicKeyInfo)
	b64 := base64.StdEncoding.EncodeToString
	mine := ca.issue(t, nil)
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	for _, tc := range []struct {
		name string
		opt  Options
		conf *tls.Config
	}{
		{"pinned leaf", Options{PinSPKI: []string{b64(sum[:])}}, conf},
		{"pinned authority, second pin", Options{PinSPKI: []string{b64(make([]byte, 32)), b64(caSum[:])}}, conf},
		{"client certificate", Options{Certificate: &mine}, &tls.Config{MinVersion: tls.VersionTLS13, Certificates: conf.Certificates, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool}},
		{"TLS 1.2 allowed", Options{MinTLS: "1.2"}, &tls.Config{MaxVersion: tls.VersionTLS12, Certificates: conf.Certificates}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := serve(t, tc.conf, keepAlive)
			tc.opt.CAFile = ca.file
			_, err := client(t, tc.opt).Do(t.Context(), post(s.url()))
			require.NoError(t, err)
		})
	}
	t.Run("TLS 1.2 without AEAD is refused", func(t *testing.T) {
		s := serve(t, &tls.Config{MaxVersion: tls.VersionTLS12, Certificates: conf.Certificates, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA}}, keepAlive)
		_, err := client(t, Options{CAFile: ca.file, MinTLS: "1.2"}).Do(t.Context(), post(s.url()))
		require.False(t, failure(t, err).Sent)
	})
}

func TestProxy(t *testing.T) {
	ca := newAuthority(t)
	s := serve(t, tls13(t, ca), keepAlive)
	proxy := func(t *testing.T, status string) (string, *string) {
		ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
		require.NoError(t, err)
		asked := new(string)
		done := make(chan struct{})
		go func() {
			defer close(done)
			c, err := ln.Accept()
			if err != nil {
				return
			}
			defer func() { _ = c.Close() }()
			r, err := http.ReadRequest(bufio.NewReader(c))
			if err != nil {
				return
			}
			*asked = r.Method + " " + r.Host
			_, _ = io.WriteString(c, "HTTP/1.1 "+status+"\r\n\r\n")
			up, err := new(net.Dialer).DialContext(context.Background(), "tcp", r.Host)
			if err != nil || !strings.HasPrefix(status, "200") {
				return
			}
			defer func() { _ = up.Close() }()
			go func() { _, _ = io.Copy(up, c); _ = up.Close() }()
			_, _ = io.Copy(c, up)
		}()
		t.Cleanup(func() { _ = ln.Close(); s.closeAll(); <-done })
		return "http://" + ln.Addr().String(), asked
	}
	t.Run("tunnels", func(t *testing.T) {
		p, asked := proxy(t, "200 OK")
		c := client(t, Options{CAFile: ca.file, Proxy: p})
		for range 2 {
			_, err := c.Do(t.Context(), post(s.url()))
			require.NoError(t, err)
		}
		require.Equal(t, "CONNECT "+strings.TrimPrefix(s.url(), "https://"), *asked)
	})
	t.Run("refuses", func(t *testing.T) {
		p, _ := proxy(t, "407 Proxy Authentication Required")
		_, err := client(t, Options{CAFile: ca.file, Proxy: p}).Do(t.Context(), post(s.url()))
		e := failure(t, err)
		require.False(t, e.Sent)
		require.Equal(t, OpProxy, e.Op)
		require.Contains(t, err.Error(), "407")
	})
	t.Run("environment does not count", func(t *testing.T) {
		t.Setenv("HTTPS_PROXY", "http://127.0.0.1:1")
		_, err := client(t, Options{CAFile: ca.file}).Do(t.Context(), post(s.url()))
		require.NoError(t, err)
	})
}
