package wire

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
)

// What an exchange was doing when it failed.
const (
	OpRequest = "build request" // the caller's request cannot be sent at all
	OpResolve = "resolve"
	OpConnect = "connect"
	OpProxy   = "connect through proxy"
	OpTLS     = "handshake"
	OpSend    = "send"
	OpReceive = "receive head"
	OpBody    = "receive body"
)

// What went wrong with an answer. Its bytes are never part of the error: they are
// the other side's, and may repeat what we sent.
var (
	ErrMalformed = errors.New("the answer is not HTTP")
	ErrTooLarge  = errors.New("the answer is larger than allowed")
	ErrTruncated = errors.New("the connection ended in the middle of the answer")
)

// Error is a failed exchange.
type Error struct {
	Op   string // one of the Op constants
	Host string // host:port; never a path or a query
	Err  error
	// Sent is false only where certainly no byte of the request reached the peer.
	Sent bool
	// Untrusted: the peer answered, but its certificate is not the one we trust.
	Untrusted bool
	Hint      string // what a person can do; may be empty
}

// Error is one sentence. It holds no header, body, path or query.
func (e *Error) Error() string {
	s := fmt.Sprintf("%s %s: %v", e.Op, e.Host, e.Err)
	if e.Hint != "" {
		s += "; " + e.Hint
	}
	return s
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

const (
	hintResolve = "check the network, the name server and how base_url spells the name"
	hintProxy   = "check the proxy setting"
)

// dialError sorts a failure to connect.
func dialError(host string, err error) *Error {
	e := &Error{Op: OpConnect, Host: host, Err: cause(err)}
	var dns *net.DNSError
	if errors.As(err, &dns) {
		e.Op, e.Err, e.Hint = OpResolve, dns, hintResolve
	}
	return e
}

// tlsError sorts a failed handshake.
func tlsError(host string, err error) *Error {
	e := &Error{Op: OpTLS, Host: host, Err: cause(err)}
	var (
		verify  *tls.CertificateVerificationError
		name    x509.HostnameError
		invalid x509.CertificateInvalidError
		record  tls.RecordHeaderError
		unknown x509.UnknownAuthorityError
	)
	alert := remoteAlert(err)
	switch {
	case errors.Is(err, io.EOF):
		e.Err = errors.New("the other side closed the connection")
	case errors.Is(err, errPin):
		e.Untrusted = true
		e.Hint = "if the platform confirms this digest by another way, add it to pin_spki; if not, somebody stands in between"
	case errors.As(err, &name):
		e.Untrusted = true
		e.Hint = "the certificate belongs to another name; check base_url and who answers there"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		e.Untrusted = true
		e.Hint = "check this machine's date and time, then the platform's certificate"
	case errors.As(err, &unknown):
		e.Untrusted = true
		e.Err = &trustError{unknown.Cert, err}
		e.Hint = "name the file with the authority that issued the certificate in ca_file"
	case errors.As(err, &verify):
		e.Untrusted = true
		e.Hint = "name the file with the authority that issued the certificate in ca_file"
	case errors.As(err, &record):
		e.Hint = "the other side does not speak TLS on this port; check base_url and the proxy"
	case strings.Contains(alert, "protocol version"),
		strings.Contains(err.Error(), "unsupported protocol version"):
		e.Hint = "the platform has no TLS 1.3; set min_tls to \"1.2\""
	}
	return e
}

// refusedError is tlsError of a platform that had asked for a client certificate.
func refusedError(host string, err error) *Error {
	e := tlsError(host, err)
	if e.Hint == "" {
		e.Hint = "the platform asks for a client certificate and ended the session; see that client_key and client_cert are set and its time is not over, and ask whether the platform knows its authority"
	}
	return e
}

// trustError is crypto/x509's error without the half sentence about a candidate that
// it guesses at, which is longer than a line and names nobody who can be asked.
type trustError struct {
	cert *x509.Certificate
	err  error
}

// Error names who signed, as the certificate says, in at most 80 characters.
func (e *trustError) Error() string {
	by := ""
	if e.cert != nil {
		by = e.cert.Issuer.CommonName
		if by == "" {
			by = e.cert.Issuer.String()
		}
	}
	if r := []rune(by); len(r) > 80 {
		by = string(r[:80]) + "…"
	}
	return fmt.Sprintf("the certificate is signed by %q, which is not trusted here", by)
}

// Unwrap returns the cause.
func (e *trustError) Unwrap() error { return e.err }

// exchangeError sorts a failure after the request was handed over.
func exchangeError(op, host string, err error) *Error {
	e := &Error{Op: op, Host: host, Err: cause(err), Sent: true}
	if op != OpBody && remoteAlert(err) != "" {
		// With TLS 1.3 a server looks at the client's certificate after the client
		// has begun to send, so a refusal comes as the answer to the request.
		e.Hint = "the platform ended the TLS session; if it asks for a client certificate, check that one"
	}
	return e
}

// remoteAlert returns the text of the TLS alert that the peer sent; "" for any
// other error. crypto/tls has no exported type for it outside QUIC.
func remoteAlert(err error) string {
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "remote error" {
		return op.Err.Error()
	}
	return ""
}

// cause keeps errors of the network, of TLS and of contexts and replaces every
// other, whose text could hold bytes of the answer.
func cause(err error) error {
	var (
		netErr  *net.OpError
		dns     *net.DNSError
		timeout net.Error
		verify  *tls.CertificateVerificationError
		record  tls.RecordHeaderError
	)
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded),
		errors.Is(err, ErrTooLarge), errors.Is(err, ErrTruncated), errors.Is(err, ErrMalformed):
		return err
	case errors.Is(err, os.ErrDeadlineExceeded):
		return os.ErrDeadlineExceeded
	case errors.As(err, &record):
		return errors.New(record.Msg)
	case errors.As(err, &dns), errors.As(err, &netErr), errors.As(err, &verify):
		return err
	case errors.As(err, &timeout):
		return err
	}
	if strings.HasPrefix(err.Error(), "tls: ") || errors.Is(err, errPin) {
		return err
	}
	return ErrMalformed
}
