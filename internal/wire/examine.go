package wire

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"slices"
	"time"
)

// Examination is what the way to one platform looks like, phase by phase. It is for
// people: what decides about a request is Do's error alone.
type Examination struct {
	Host      string        // host:port of the platform
	Proxy     string        // host:port, where one is configured
	Addresses []string      // what the host's name (or the proxy's) stands for
	Remote    string        // the address that was connected to
	Resolving time.Duration // and what each phase took
	Dialing   time.Duration
	Handshake time.Duration
	TLS       string // "TLS 1.3"; empty where the handshake did not come about
	Suite     string
	// Chain are the certificates that the platform showed, its own first: also where
	// they are not trusted.
	Chain []*x509.Certificate
	// Failed is the phase that did not work, one of the Op constants, and Err why, as
	// an *Error; empty and nil where a connection stands.
	Failed string
	Err    error
}

// Begins is the beginning of the last certificate of the chain to begin, and whose.
func (x *Examination) Begins() (at time.Time, whose string) {
	for _, c := range x.Chain {
		if c.NotBefore.After(at) {
			at, whose = c.NotBefore, c.Subject.CommonName
		}
	}
	return at, whose
}

// Expires is the end of the first certificate of the chain to end, and whose.
func (x *Examination) Expires() (at time.Time, whose string) {
	for _, c := range x.Chain {
		if at.IsZero() || c.NotAfter.Before(at) {
			at, whose = c.NotAfter, c.Subject.CommonName
		}
	}
	return at, whose
}

// Examine looks up the platform's name, connects and makes the handshake as Do would,
// under the same settings, and tells what it found. It sends no request and keeps no
// connection.
func (c *Client) Examine(ctx context.Context, rawURL string) *Examination {
	x := &Examination{Proxy: c.proxy}
	u, addr, err := target(rawURL)
	x.Host = addr
	if err != nil {
		return x.fail(&Error{Op: OpRequest, Host: addr, Err: err})
	}
	ctx, cancel := context.WithTimeout(ctx, time.Duration(c.opt.Timeout))
	defer cancel()
	first := addr
	if c.proxy != "" {
		first = c.proxy
	}
	name, _, err := net.SplitHostPort(first)
	if err != nil {
		return x.fail(&Error{Op: OpRequest, Host: addr, Err: err})
	}
	rctx, stop := context.WithTimeout(ctx, time.Duration(c.opt.DialTimeout))
	began := time.Now()
	x.Addresses, err = net.DefaultResolver.LookupHost(rctx, name)
	x.Resolving = time.Since(began)
	if err != nil {
		e := dialError(addr, orContext(rctx, err))
		if e.Op, e.Hint = OpResolve, hintResolve; c.proxy != "" {
			e.Hint = hintProxy + ", the network and the name server"
		}
		stop()
		return x.fail(e)
	}
	stop()
	slices.Sort(x.Addresses)
	began = time.Now()
	tcp, err := c.dialTCP(ctx, addr)
	x.Dialing = time.Since(began)
	if err != nil {
		return x.fail(err)
	}
	x.Remote = tcp.RemoteAddr().String()
	began = time.Now()
	cn, err := c.handshake(ctx, tcp, addr, u.Hostname())
	x.Handshake = time.Since(began)
	if err != nil {
		var verify *tls.CertificateVerificationError
		if errors.As(err, &verify) {
			x.Chain = verify.UnverifiedCertificates
		}
		return x.fail(err)
	}
	state := cn.ConnectionState()
	x.TLS, x.Suite, x.Chain = tls.VersionName(state.Version), tls.CipherSuiteName(state.CipherSuite), state.PeerCertificates
	if err := c.welcome(cn, addr); err != nil {
		return x.fail(err)
	}
	_ = cn.Close()
	return x
}

func (x *Examination) fail(err error) *Examination {
	x.Err = err
	var e *Error
	if errors.As(err, &e) {
		x.Failed = e.Op
	}
	return x
}
