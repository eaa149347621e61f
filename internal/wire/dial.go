package wire

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"syscall"
	"time"
)

// conn is one TLS connection to one host, used by one exchange at a time.
type conn struct {
	*tls.Conn
	raw   *rawConn
	idle  time.Time     // since when unused
	took  time.Duration // the handshake
	asked bool          // the platform wanted a client certificate
}

// rawConn is the TCP connection below TLS. While peeking, Read does not wait.
type rawConn struct {
	net.Conn
	peeking bool
	ended   bool // TCP ended; crypto/tls does not tell that from a TLS close
}

// nothingError is what a peeking Read says when there is nothing to read. It is a
// temporary net.Error, because crypto/tls goes on after those only.
type nothingError struct{}

// Error is never shown.
func (nothingError) Error() string { return "nothing to read" }

// Timeout is part of net.Error.
func (nothingError) Timeout() bool { return true }

// Temporary is what keeps the TLS connection usable.
func (nothingError) Temporary() bool { return true }

func (c *rawConn) Read(p []byte) (int, error) {
	if !c.peeking {
		n, err := c.Conn.Read(p)
		c.ended = c.ended || errors.Is(err, io.EOF)
		return n, err
	}
	sc, ok := c.Conn.(syscall.Conn)
	if !ok {
		return 0, io.EOF
	}
	rc, err := sc.SyscallConn()
	if err != nil {
		return 0, err
	}
	var n int
	var rerr error
	err = rc.Read(func(fd uintptr) bool {
		n, rerr = syscall.Read(int(fd), p)
		return true
	})
	switch {
	case err != nil:
		return 0, err
	case errors.Is(rerr, syscall.EAGAIN), errors.Is(rerr, syscall.EINTR):
		return 0, nothingError{}
	case rerr != nil:
		return 0, rerr
	case n == 0:
		return 0, io.EOF
	}
	return n, nil
}

// alive reports whether the peer has neither closed an idle connection nor sent
// something nobody asked for.
func (c *conn) alive() bool {
	c.raw.peeking = true
	defer func() { c.raw.peeking = false }()
	var b [1]byte
	n, err := c.Read(b[:])
	return n == 0 && errors.Is(err, nothingError{})
}

// dial makes a new connection, handshake included. Not one byte of a request has
// left when it returns, whatever it returns.
func (c *Client) dial(ctx context.Context, addr, name string) (*conn, error) {
	tcp, err := c.dialTCP(ctx, addr)
	if err != nil {
		return nil, err
	}
	return c.handshake(ctx, tcp, addr, name)
}

// dialTCP connects to the platform, or to it through the proxy.
func (c *Client) dialTCP(ctx context.Context, addr string) (net.Conn, error) {
	to := addr
	if c.proxy != "" {
		to = c.proxy
	}
	d := net.Dialer{Timeout: time.Duration(c.opt.DialTimeout)}
	tcp, err := d.DialContext(ctx, "tcp", to)
	if err != nil {
		e := dialError(addr, orContext(ctx, err))
		if c.proxy != "" {
			e.Op, e.Hint = OpProxy, hintProxy
		}
		return nil, e
	}
	if c.proxy != "" {
		if err := c.tunnel(ctx, tcp, addr); err != nil {
			_ = tcp.Close()
			return nil, &Error{Op: OpProxy, Host: addr, Err: orContext(ctx, err), Hint: "check the proxy setting and whether the proxy allows this host"}
		}
	}
	return tcp, nil
}

// handshake makes the TLS session on a connection, which it closes where it fails.
func (c *Client) handshake(ctx context.Context, tcp net.Conn, addr, name string) (*conn, error) {
	raw := &rawConn{Conn: tcp}
	conf := c.tls.Clone()
	conf.ServerName = name
	cn := &conn{raw: raw}
	hctx, cancel := context.WithTimeout(ctx, time.Duration(c.opt.TLSTimeout))
	defer cancel()
	conf.GetClientCertificate = func(want *tls.CertificateRequestInfo) (*tls.Certificate, error) {
		cn.asked = true
		mine := c.opt.Certificate
		if c.opt.Renewed != nil {
			if now := c.opt.Renewed(hctx); now != nil {
				mine = now
			}
		}
		if mine != nil && want.SupportsCertificate(mine) == nil {
			return mine, nil
		}
		return new(tls.Certificate), nil // none; the platform says what it makes of that
	}
	t := tls.Client(raw, conf)
	began := time.Now()
	if err := t.HandshakeContext(hctx); err != nil {
		_ = tcp.Close()
		if cn.asked && hctx.Err() == nil {
			return nil, refusedError(addr, err)
		}
		return nil, tlsError(addr, orContext(hctx, err))
	}
	cn.Conn, cn.took = t, time.Since(began)
	return cn, nil
}

// refusalTime is the least that a platform is given to refuse a client certificate.
const refusalTime = 500 * time.Millisecond

// welcome waits whether the platform refuses the client certificate that it asked
// for. With TLS 1.3 it does so after the handshake is over for this side: whoever only
// looks at the link would find it whole. An exchange does not wait for that; its
// answer is the refusal. A connection that is not welcome is closed.
func (c *Client) welcome(cn *conn, addr string) error {
	if !cn.asked || cn.ConnectionState().Version < tls.VersionTLS13 {
		return nil
	}
	// What crypto/tls reads until then is a session ticket at most.
	if err := cn.SetReadDeadline(time.Now().Add(min(max(c.refusal, 3*cn.took), time.Duration(c.opt.TLSTimeout)))); err != nil {
		_ = cn.Close()
		return tlsError(addr, err)
	}
	var b [1]byte
	if _, err := cn.Read(b[:]); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		_ = cn.Close()
		return refusedError(addr, err)
	}
	return cn.SetReadDeadline(time.Time{})
}

// tunnel asks the proxy for a connection to addr.
func (c *Client) tunnel(ctx context.Context, tcp net.Conn, addr string) error {
	stop := context.AfterFunc(ctx, func() { _ = tcp.Close() })
	defer stop()
	if err := tcp.SetDeadline(time.Now().Add(time.Duration(c.opt.DialTimeout))); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(tcp, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", addr, addr); err != nil {
		return err
	}
	br := bufio.NewReader(io.LimitReader(tcp, maxHead))
	resp, err := http.ReadResponse(br, &http.Request{Method: http.MethodConnect})
	if err != nil {
		return cause(err)
	}
	if resp.StatusCode != http.StatusOK {
		_ = tcp.Close() // closing a body reads it to its end, which may never come
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the proxy answered %d", resp.StatusCode)
	}
	if br.Buffered() > 0 {
		return errors.New("the proxy sent bytes before the handshake")
	}
	return tcp.SetDeadline(time.Time{})
}

// orContext prefers the context's reason: a closed connection is only its echo.
func orContext(ctx context.Context, err error) error {
	if cerr := ctx.Err(); cerr != nil {
		return cerr
	}
	return err
}
