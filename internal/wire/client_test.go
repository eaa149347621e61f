package wire

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pelletier/go-toml/v2"
	"github.com/stretchr/testify/require"
)

const (
	canary = "canary-token-8d1f"
	fine   = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: application/json\r\n\r\n{}"
)

func post(url string) Request {
	return Request{
		Method: http.MethodPost, URL: url + "/v1.0/pin/reset?q=" + canary,
		Header: http.Header{
			"Authorization":   {"Bearer " + canary},
			"Idempotency-Key": {"7"}, // what makes net/http repeat a request
			"Content-Type":    {"application/json"},
		},
		Body: []byte(`{"otp":"` + canary + `"}`),
	}
}

// failure asserts the error's type and that it holds nothing of the request.
func failure(t *testing.T, err error) *Error {
	t.Helper()
	var e *Error
	require.ErrorAs(t, err, &e)
	require.NotContains(t, err.Error(), canary)
	require.NotContains(t, fmt.Sprintf("%+v %#v", e, e), canary)
	return e
}

// client is one that no pause of the machine ends, but where a test sets a limit.
func client(t *testing.T, o Options) *Client {
	t.Helper()
	for _, d := range []*Duration{&o.DialTimeout, &o.TLSTimeout, &o.HeaderTimeout, &o.Timeout, &o.IdleTimeout} {
		if *d == 0 {
			*d = patience
		}
	}
	c, err := New(o)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

func tls13(t *testing.T, ca *authority) *tls.Config {
	t.Helper()
	return &tls.Config{Certificates: []tls.Certificate{ca.issue(t, nil)}, MinVersion: tls.VersionTLS13}
}

// answering sends fixed bytes after one whole request and ends the connection
// with a TLS close.
func answering(text string) func(*server, *tls.Conn) {
	return func(s *server, c *tls.Conn) {
		if _, _, more := s.request(c, bufio.NewReader(c)); more {
			_, _ = io.WriteString(c, text)
			_ = c.Close()
		}
	}
}

// keepAlive answers request after request.
func keepAlive(s *server, c *tls.Conn) {
	br := bufio.NewReader(c)
	for {
		if _, _, more := s.request(c, br); !more {
			return
		}
		if _, err := io.WriteString(c, fine); err != nil {
			return
		}
	}
}

func TestDoSendsAndReads(t *testing.T) {
	ca := newAuthority(t)
	type seen struct {
		r    *http.Request
		body []byte
	}
	got := make(chan seen, 1)
	s := serve(t, tls13(t, ca), func(s *server, c *tls.Conn) {
		r, body, _ := s.request(c, bufio.NewReader(c))
		got <- seen{r, body}
		_, _ = io.WriteString(c, "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"+fine)
	})
	r, err := client(t, Options{CAFile: ca.file}).Do(t.Context(), post(s.url()))
	require.NoError(t, err)
	require.Equal(t, 200, r.Status)
	require.Equal(t, "{}", string(r.Body))
	require.Equal(t, "application/json", r.Header.Get("Content-Type"))
	g := <-got
	require.Equal(t, "/v1.0/pin/reset?q="+canary, g.r.RequestURI)
	require.Equal(t, "identity", g.r.Header.Get("Accept-Encoding"))
	require.Equal(t, "Bearer "+canary, g.r.Header.Get("Authorization"))
	require.Equal(t, post("").Body, g.body)
	require.Equal(t, strings.TrimPrefix(s.url(), "https://"), g.r.Host)
}

func TestAnswersOfAnyStatusAreAnswers(t *testing.T) {
	ca := newAuthority(t)
	for _, tc := range []struct {
		name, text string
		status     int
		body       string
	}{
		{"redirect is not followed", "HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n", 302, ""},
		{"server error", "HTTP/1.1 500 X\r\nContent-Length: 3\r\n\r\nabc", 500, "abc"},
		{"chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", 200, "abc"},
		{"until the end of the connection", "HTTP/1.1 200 OK\r\n\r\nabc", 200, "abc"},
		{"gzip is not undone", "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc", 200, "abc"},
		{"a cookie is not kept", "HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nContent-Length: 2\r\n\r\n{}", 200, "{}"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := serve(t, tls13(t, ca), answering(tc.text))
			r, err := client(t, Options{CAFile: ca.file}).Do(t.Context(), post(s.url()))
			require.NoError(t, err)
			require.Equal(t, tc.status, r.Status)
			require.Equal(t, tc.body, string(r.Body))
			require.EqualValues(t, 1, s.requests.Load())
		})
	}
}

// TestSentIsExact holds every failure against what the server can have seen.
func TestSentIsExact(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	patient := Options{CAFile: ca.file, MaxBody: 1000}
	with := func(change func(*Options)) Options {
		o := patient
		change(&o)
		return o
	}
	good := tls13(t, ca)
	for _, tc := range []struct {
		name      string
		opt       Options
		conf      *tls.Config
		behave    func(*server, *tls.Conn)
		op        string
		is        error
		sent      bool
		untrusted bool
		hint      string
	}{
		{name: "certificate of another authority", opt: with(func(o *Options) { o.CAFile = other.file }), op: OpTLS, untrusted: true, hint: "ca_file"},
		{name: "certificate for another name", conf: &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{ca.issue(t, func(c *x509.Certificate) {
			c.IPAddresses, c.DNSNames = nil, []string{"elsewhere.example"}
		})}}, op: OpTLS, untrusted: true, hint: "base_url"},
		{name: "certificate expired", conf: &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{ca.issue(t, func(c *x509.Certificate) {
			c.NotAfter = time.Now().Add(-time.Minute)
		})}}, op: OpTLS, untrusted: true, hint: "date and time"},
		{name: "key not pinned", opt: with(func(o *Options) {
			o.PinSPKI = []string{base64.StdEncoding.EncodeToString(make([]byte, 32))}
		}), op: OpTLS, untrusted: true, hint: "pin_spki"},
		{name: "TLS 1.2 only", conf: &tls.Config{MaxVersion: tls.VersionTLS12, Certificates: good.Certificates}, op: OpTLS, hint: "min_tls"},
		{name: "another protocol only", conf: &tls.Config{MinVersion: tls.VersionTLS13, NextProtos: []string{"smtp"}, Certificates: good.Certificates}, op: OpTLS},
		{name: "reset instead of an answer", behave: func(s *server, c *tls.Conn) {
			s.request(c, bufio.NewReader(c))
			reset(c)
		}, op: OpReceive, sent: true},
		{name: "reset before a request byte was read", behave: func(_ *server, c *tls.Conn) { reset(c) }, sent: true},
		{name: "reset after the head", behave: func(s *server, c *tls.Conn) {
			s.request(c, bufio.NewReader(c))
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{")
			reset(c)
		}, sent: true},
		{name: "closed instead of an answer", behave: answering(""), op: OpReceive, is: ErrTruncated, sent: true},
		{name: "truncated head", behave: answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n"), op: OpReceive, is: ErrTruncated, sent: true},
		{name: "truncated header", behave: answering("HTTP/1.1 200 OK\r\nContent-Le"), op: OpReceive, is: ErrMalformed, sent: true},
		{name: "truncated body", behave: answering("HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{"), op: OpBody, is: ErrTruncated, sent: true},
		{name: "truncated chunk", behave: answering("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n20\r\n{"), op: OpBody, is: ErrTruncated, sent: true},
		{name: "end without a TLS close", behave: func(s *server, c *tls.Conn) {
			s.request(c, bufio.NewReader(c))
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n{")
			_ = c.NetConn().Close()
		}, op: OpBody, is: ErrTruncated, sent: true},
		{name: "body too large", behave: answering("HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n" + strings.Repeat("a", 1001)), op: OpBody, is: ErrTooLarge, sent: true},
		{name: "endless body", behave: func(s *server, c *tls.Conn) {
			s.request(c, bufio.NewReader(c))
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n")
			for {
				if _, err := c.Write(make([]byte, 4096)); err != nil {
					return
				}
			}
		}, op: OpBody, is: ErrTooLarge, sent: true},
		{name: "endless head", behave: func(s *server, c *tls.Conn) {
			s.request(c, bufio.NewReader(c))
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n")
			for {
				if _, err := io.WriteString(c, "X-A: "+strings.Repeat("a", 1000)+"\r\n"); err != nil {
					return
				}
			}
		}, op: OpReceive, is: ErrTooLarge, sent: true},
		{name: "not HTTP, and it repeats our token", behave: answering(canary + "\r\n\r\n"), op: OpReceive, is: ErrMalformed, sent: true},
		{name: "a bad header that repeats our token", behave: answering("HTTP/1.1 200 OK\r\n" + canary + "\r\n\r\n"), op: OpReceive, is: ErrMalformed, sent: true},
		{name: "interim answers without end", behave: answering(strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 50)), op: OpReceive, is: ErrMalformed, sent: true},
		{name: "client certificate wanted", conf: &tls.Config{MinVersion: tls.VersionTLS13, ClientAuth: tls.RequireAnyClientCert, Certificates: good.Certificates}, sent: true},
		{name: "client certificate wanted, TLS 1.2", opt: with(func(o *Options) { o.MinTLS = "1.2" }), conf: &tls.Config{MaxVersion: tls.VersionTLS12, ClientAuth: tls.RequireAnyClientCert, Certificates: good.Certificates}, op: OpTLS},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if tc.opt.CAFile == "" {
				tc.opt = patient
			}
			if tc.conf == nil {
				tc.conf = good
			}
			if tc.behave == nil {
				tc.behave = keepAlive
			}
			s := serve(t, tc.conf, tc.behave)
			_, err := client(t, tc.opt).Do(t.Context(), post(s.url()))
			e := failure(t, err)
			require.Equal(t, tc.sent, e.Sent, "%v", err)
			require.Equal(t, tc.untrusted, e.Untrusted, "%v", err)
			if tc.op != "" {
				require.Equal(t, tc.op, e.Op, "%v", err)
			}
			if tc.is != nil {
				require.ErrorIs(t, err, tc.is)
			}
			require.Contains(t, e.Hint, tc.hint)
			require.LessOrEqual(t, s.requests.Load(), int64(1), "the request was repeated")
			if !tc.sent {
				require.Zero(t, s.bytes.Load()+s.requests.Load(), "Sent is false and the server saw it")
			}
		})
	}
}

// TestAnAnswerThatDoesNotComeIsLeftInTime: the limit of the head ends it. It is raised
// until it is above what sending takes here.
func TestAnAnswerThatDoesNotComeIsLeftInTime(t *testing.T) {
	ca := newAuthority(t)
	s := serve(t, tls13(t, ca), func(s *server, c *tls.Conn) {
		s.request(c, bufio.NewReader(c))
		hang(c)
	})
	tries := int64(0)
	for limit := Duration(500 * time.Millisecond); ; limit *= 4 {
		_, err := client(t, Options{CAFile: ca.file, HeaderTimeout: limit}).Do(t.Context(), post(s.url()))
		e := failure(t, err)
		tries++
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		require.True(t, e.Sent)
		require.LessOrEqual(t, s.requests.Load(), tries, "the request was repeated")
		if e.Op == OpReceive {
			return
		}
		require.Less(t, limit, patience, "%v", err)
	}
}

// TestABodyWithoutEndIsLeftInTime: the limit of the whole exchange ends it. The limit
// is raised until it is above what all before the body takes here.
func TestABodyWithoutEndIsLeftInTime(t *testing.T) {
	ca := newAuthority(t)
	s := serve(t, tls13(t, ca), func(s *server, c *tls.Conn) {
		s.request(c, bufio.NewReader(c))
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{")
		hang(c)
	})
	for limit := Duration(500 * time.Millisecond); ; limit *= 4 {
		_, err := client(t, Options{CAFile: ca.file, Timeout: limit}).Do(t.Context(), post(s.url()))
		e := failure(t, err)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		if e.Op == OpBody {
			require.True(t, e.Sent)
			return
		}
		require.Less(t, limit, patience, "%v", err)
	}
}

// TestEndlessBodyIsLeftAtOnce: the cap ends the exchange, not the patience.
func TestEndlessBodyIsLeftAtOnce(t *testing.T) {
	ca := newAuthority(t)
	for name, head := range map[string]string{
		"until the end of the connection": "HTTP/1.1 200 OK\r\n\r\n",
		"chunked":                         "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
		"announced":                       "HTTP/1.1 200 OK\r\nContent-Length: 9000000000000000000\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, tls13(t, ca), func(s *server, c *tls.Conn) {
				s.request(c, bufio.NewReader(c))
				_, err := io.WriteString(c, head)
				for chunk := "1000\r\n" + strings.Repeat("a", 0x1000) + "\r\n"; err == nil; {
					_, err = io.WriteString(c, chunk)
				}
			})
			c := client(t, Options{CAFile: ca.file, HeaderTimeout: Duration(time.Hour), Timeout: Duration(time.Hour)})
			_, err := c.Do(t.Context(), post(s.url()))
			require.ErrorIs(t, err, ErrTooLarge) // or the test's own time limit ends it
			require.True(t, failure(t, err).Sent)
		})
	}
}

func TestContextEndsAnExchange(t *testing.T) {
	ca := newAuthority(t)
	arrived := make(chan struct{})
	s := serve(t, tls13(t, ca), func(s *server, c *tls.Conn) {
		s.request(c, bufio.NewReader(c))
		close(arrived)
		hang(c)
	})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-arrived
		cancel()
	}()
	_, err := client(t, Options{CAFile: ca.file}).Do(ctx, post(s.url()))
	require.True(t, failure(t, err).Sent)
	require.ErrorIs(t, err, context.Canceled)
}

func TestOptionsNameTheWrongSetting(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty.pem")
	require.NoError(t, os.WriteFile(empty, nil, 0o600))
	for _, tc := range []struct {
		name string
		opt  Options
		want string
	}{
		{"min_tls", Options{MinTLS: "1.1"}, "min_tls"},
		{"ca_file missing", Options{CAFile: "/nonexistent.pem"}, "ca_file"},
		{"ca_file empty", Options{CAFile: empty}, "holds no certificate"},
		{"pin_spki", Options{PinSPKI: []string{"abc"}}, "pin_spki"},
		{"proxy with a password", Options{Proxy: "http://u:" + canary + "@h:1"}, "proxy"},
		{"proxy without a port", Options{Proxy: "http://h"}, "proxy"},
		{"socks", Options{Proxy: "socks5://h:1"}, "proxy"},
		{"timeout", Options{Timeout: -1}, "timeout"},
		{"max_body", Options{MaxBody: -1}, "max_body"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := New(tc.opt)
			require.ErrorContains(t, err, tc.want)
			require.NotContains(t, err.Error(), canary)
		})
	}
}

func TestOptionsFromAFile(t *testing.T) {
	var o Options
	require.NoError(t, toml.NewDecoder(strings.NewReader(`
ca_file = "/etc/gardu/ca.pem"
min_tls = "1.2"
pin_spki = ["a", "b"]
proxy = "http://proxy:3128"
max_body = 4096
dial_timeout = "1s"
tls_timeout = "2s"
header_timeout = "3s"
timeout = "4s"
idle_timeout = "5s"
`)).DisallowUnknownFields().Decode(&o))
	second := Duration(time.Second)
	require.Equal(t, Options{
		CAFile: "/etc/gardu/ca.pem", MinTLS: "1.2", PinSPKI: []string{"a", "b"}, Proxy: "http://proxy:3128", MaxBody: 4096,
		DialTimeout: second, TLSTimeout: 2 * second, HeaderTimeout: 3 * second, Timeout: 4 * second, IdleTimeout: 5 * second,
	}, o)
}

func TestBodyBufferIsCleared(t *testing.T) {
	u, _, err := target("https://127.0.0.1/x")
	require.NoError(t, err)
	r := post("https://127.0.0.1")
	m, err := encode(r, u)
	require.NoError(t, err)
	all := m.Bytes()
	require.Contains(t, string(all), canary)
	require.Equal(t, len(all), cap(all), "the buffer grew, so an uncleared copy was left behind")
	clearBytes(m)
	require.Equal(t, make([]byte, len(all)), all)
	require.Contains(t, string(r.Body), canary, "the caller's body is the caller's")
}

func TestDuration(t *testing.T) {
	var d Duration
	require.NoError(t, d.UnmarshalText([]byte("1m30s")))
	require.Equal(t, 90*time.Second, time.Duration(d))
	b, err := d.MarshalText()
	require.NoError(t, err)
	require.Equal(t, "1m30s", string(b))
	require.ErrorContains(t, d.UnmarshalText([]byte("30")), `write for example "30s"`)
}

// FuzzAnswer: whatever the peer sends, the exchange ends, and an error shows
// nothing of what was sent.
func FuzzAnswer(f *testing.F) {
	for _, s := range []string{
		fine, "", "HTTP/1.1 200 OK\r\n\r\n{}", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
		"HTTP/1.1 100 Continue\r\n\r\n" + fine, "HTTP/1.1 099 X\r\n\r\n", canary, "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		resp, err := readHead(bufio.NewReader(strings.NewReader(string(in))), http.MethodPost)
		if err == nil {
			require.GreaterOrEqual(t, resp.StatusCode, 100)
			_, err = io.ReadAll(io.LimitReader(resp.Body, 1000))
			_ = resp.Body.Close()
		}
		if err != nil {
			e := exchangeError(OpReceive, "h:1", ended(err))
			require.True(t, e.Sent)
			require.NotContains(t, e.Error(), canary)
		}
	})
}
