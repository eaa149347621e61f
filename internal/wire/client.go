package wire

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Client makes exchanges with one platform and keeps a few connections to it for
// reuse. It is safe for concurrent use.
type Client struct {
	opt   Options
	tls   *tls.Config
	proxy string // host:port or ""

	refusal time.Duration // refusalTime; longer in tests, where a refusal is sure to come

	mu     sync.Mutex
	idle   map[string][]*conn // by host:port, the newest last; guarded by mu
	closed bool               // guarded by mu
}

// New checks the options and makes a Client. An error names the setting.
func New(o Options) (*Client, error) {
	o = o.withDefaults()
	if err := o.check(); err != nil {
		return nil, err
	}
	proxy, err := o.proxyAddress()
	if err != nil {
		return nil, err
	}
	conf, err := o.tlsConfig()
	if err != nil {
		return nil, err
	}
	return &Client{opt: o, tls: conf, proxy: proxy, refusal: refusalTime, idle: make(map[string][]*conn)}, nil
}

// Request is one request. The client copies Body into a buffer of its own and
// clears that after sending; Body itself stays the caller's.
type Request struct {
	Method string
	URL    string // absolute, https
	Header http.Header
	Body   []byte // nil for none
}

// Reply is a whole answer, of any status.
type Reply struct {
	Status int // 200 to 999
	Header http.Header
	Body   []byte
}

// Do makes one exchange, never a second one by itself. Every error is an *Error.
func (c *Client) Do(ctx context.Context, r Request) (*Reply, error) {
	u, addr, err := target(r.URL)
	if err != nil {
		return nil, &Error{Op: OpRequest, Host: addr, Err: err}
	}
	message, err := encode(r, u)
	if err != nil {
		return nil, &Error{Op: OpRequest, Host: addr, Err: err}
	}
	defer clearBytes(message)

	ctx, cancel := context.WithTimeout(ctx, time.Duration(c.opt.Timeout))
	defer cancel()
	cn, err := c.connection(ctx, addr, u.Hostname())
	if err != nil {
		return nil, err
	}
	return c.exchange(ctx, cn, addr, r.Method, message.Bytes())
}

// Connect proves that the platform of a URL can be reached and trusted: it makes
// a connection, handshake included, sends no request, and keeps the connection for
// the next exchange. Every error is an *Error with Sent false.
func (c *Client) Connect(ctx context.Context, rawURL string) error {
	u, addr, err := target(rawURL)
	if err != nil {
		return &Error{Op: OpRequest, Host: addr, Err: err}
	}
	cn, err := c.dial(ctx, addr, u.Hostname())
	if err != nil {
		return err
	}
	if err := c.welcome(cn, addr); err != nil {
		return err
	}
	c.put(addr, cn)
	return nil
}

// Close closes the idle connections. Exchanges under way end as they would; later
// ones do not keep their connections.
func (c *Client) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for _, list := range c.idle {
		for _, cn := range list {
			_ = cn.Close()
		}
	}
	clear(c.idle)
}

// exchange sends the message and reads the answer. It owns cn.
func (c *Client) exchange(ctx context.Context, cn *conn, addr, method string, message []byte) (*Reply, error) {
	// Closing is the one interruption that a later SetDeadline cannot undo.
	stop := context.AfterFunc(ctx, func() { _ = cn.raw.Close() })
	keep := false
	defer func() {
		if stop() && keep {
			c.put(addr, cn)
			return
		}
		_ = cn.raw.Close()
	}()
	if err := ctx.Err(); err != nil {
		return nil, &Error{Op: OpSend, Host: addr, Err: err}
	}
	fail := func(op string, err error) error {
		return exchangeError(op, addr, orContext(ctx, err))
	}
	if err := cn.SetDeadline(time.Now().Add(time.Duration(c.opt.HeaderTimeout))); err != nil {
		return nil, &Error{Op: OpSend, Host: addr, Err: orContext(ctx, err)}
	}
	// From here on Sent is true: TLS and the kernel may have taken any part of it.
	if _, err := cn.Write(message); err != nil {
		return nil, fail(OpSend, err)
	}
	limited := &io.LimitedReader{R: cn, N: maxHead}
	br := bufio.NewReader(limited)
	resp, err := readHead(br, method)
	if err != nil {
		if limited.N <= 0 {
			err = ErrTooLarge
		}
		return nil, fail(OpReceive, ended(err))
	}
	limited.N = math.MaxInt64
	body, err := c.readBody(cn, resp)
	if err != nil {
		_ = cn.raw.Close() // closing a body reads it to its end, which may never come
	}
	_ = resp.Body.Close()
	if err != nil {
		return nil, fail(OpBody, ended(err))
	}
	keep = !resp.Close && br.Buffered() == 0 && resp.StatusCode != http.StatusSwitchingProtocols
	return &Reply{Status: resp.StatusCode, Header: resp.Header, Body: body}, nil
}

// readBody reads a whole body, or says why there is none to be had.
func (c *Client) readBody(cn *conn, resp *http.Response) ([]byte, error) {
	if err := cn.SetDeadline(time.Time{}); err != nil { // the whole exchange's limit still holds
		return nil, err
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, c.opt.MaxBody+1))
	switch {
	case err != nil:
		return nil, err
	case int64(len(body)) > c.opt.MaxBody:
		return nil, ErrTooLarge
	case resp.ContentLength < 0 && len(resp.TransferEncoding) == 0 && cn.raw.ended:
		// Such a body ends with the connection, and anybody can end a TCP
		// connection; only the peer can end the TLS session.
		return nil, ErrTruncated
	}
	return body, nil
}

// maxInterim is how many 1xx answers may come before the real one.
const maxInterim = 5

func readHead(br *bufio.Reader, method string) (*http.Response, error) {
	for range maxInterim {
		resp, err := http.ReadResponse(br, &http.Request{Method: method})
		if err != nil {
			return nil, err
		}
		if resp.StatusCode >= 200 || resp.StatusCode == http.StatusSwitchingProtocols {
			return resp, nil
		}
		if resp.StatusCode < 100 {
			_ = resp.Body.Close()
			return nil, ErrMalformed
		}
		_ = resp.Body.Close()
	}
	return nil, ErrMalformed
}

// ended gives the end of a connection in the middle of an answer its own name.
func ended(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return ErrTruncated
	}
	return err
}

// connection takes an idle connection that still lives, or makes one.
func (c *Client) connection(ctx context.Context, addr, name string) (*conn, error) {
	for {
		cn := c.take(addr)
		if cn == nil {
			return c.dial(ctx, addr, name)
		}
		if time.Since(cn.idle) < time.Duration(c.opt.IdleTimeout) && cn.alive() {
			return cn, nil
		}
		_ = cn.raw.Close()
	}
}

func (c *Client) take(addr string) *conn {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := c.idle[addr]
	if len(list) == 0 {
		return nil
	}
	cn := list[len(list)-1]
	list[len(list)-1] = nil
	c.idle[addr] = list[:len(list)-1]
	return cn
}

func (c *Client) put(addr string, cn *conn) {
	cn.idle = time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	// The newest are taken first, so the oldest would otherwise never be looked at.
	c.idle[addr] = slices.DeleteFunc(c.idle[addr], func(old *conn) bool {
		stale := cn.idle.Sub(old.idle) >= time.Duration(c.opt.IdleTimeout)
		if stale {
			_ = old.raw.Close()
		}
		return stale
	})
	if c.closed || len(c.idle[addr]) >= maxIdlePerHost {
		_ = cn.Close()
		return
	}
	c.idle[addr] = append(c.idle[addr], cn)
}

// target reads a URL into its parts and the host:port to connect to. Its errors
// do not repeat the URL, whose query may hold a secret.
func target(raw string) (u *url.URL, addr string, err error) {
	u, err = url.Parse(raw)
	if err != nil {
		return nil, "", errors.New("the URL cannot be read")
	}
	port := u.Port()
	if port == "" {
		port = "443"
	}
	addr = net.JoinHostPort(u.Hostname(), port)
	switch {
	case u.Scheme != "https":
		return nil, addr, errors.New("the URL does not begin with https://")
	case u.Hostname() == "" || u.User != nil:
		return nil, addr, errors.New("the URL has no host, or a user name")
	}
	return u, addr, nil
}

// encode writes the whole message into one buffer that never grows: growing would
// leave a copy of the body behind, and the body may hold a one-time password.
func encode(r Request, u *url.URL) (*bytes.Buffer, error) {
	if r.Method == "" || strings.ContainsFunc(r.Method, func(c rune) bool { return c < 'A' || c > 'Z' }) {
		return nil, errors.New("the method is not a word of capital letters")
	}
	var head bytes.Buffer
	fmt.Fprintf(&head, "%s %s HTTP/1.1\r\nHost: %s\r\n", r.Method, u.RequestURI(), u.Host)
	for name, values := range r.Header {
		switch http.CanonicalHeaderKey(name) {
		case "Host", "Content-Length", "Transfer-Encoding", "Connection", "Accept-Encoding", "Expect", "Upgrade", "Trailer":
			return nil, fmt.Errorf("the header %q is set by the client itself", name)
		}
		for _, v := range values {
			if !plainName(name) || !plainValue(v) {
				// The value is not repeated: it may be a token.
				return nil, fmt.Errorf("the header %q holds a character that may not stand there", name)
			}
		}
	}
	if err := r.Header.Write(&head); err != nil {
		return nil, err
	}
	head.WriteString("Accept-Encoding: identity\r\n")
	if r.Body != nil {
		head.WriteString("Content-Length: " + strconv.Itoa(len(r.Body)) + "\r\n")
	}
	head.WriteString("\r\n")
	message := bytes.NewBuffer(make([]byte, 0, head.Len()+len(r.Body)))
	message.Write(head.Bytes())
	message.Write(r.Body)
	return message, nil
}

func plainName(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(c rune) bool {
		return c != '-' && (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z')
	})
}

func plainValue(s string) bool {
	return !strings.ContainsFunc(s, func(c rune) bool { return c < ' ' || c > '~' })
}
