package upstream

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// endpoint is one platform's listener, which can go away and come back on the same port.
type endpoint struct {
	p       *platform
	handler http.Handler
	tls     *tls.Config
	broken  *tls.Config

	mu     sync.Mutex // guards what follows
	addr   *net.TCPAddr
	hold   int // a bound socket that keeps the port ours while nothing listens; -1 before open and after close
	srv    *http.Server
	done   chan struct{} // closed when srv has stopped serving
	conns  map[*conn]struct{}
	closed bool
}

var connSeq atomic.Int64

// open takes the port and begins to listen.
func (e *endpoint) open(ctx context.Context, addr string) error {
	want, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil {
		return fmt.Errorf("listen for %s: %w", e.p.name, err)
	}
	hold, bound, err := holdPort(want)
	if err != nil {
		return fmt.Errorf("listen for %s on %s: %w", e.p.name, addr, err)
	}
	e.mu.Lock()
	e.hold, e.addr = hold, bound
	e.mu.Unlock()
	return e.up(ctx)
}

// address is the host:port, "" before open.
func (e *endpoint) address() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.addr == nil {
		return ""
	}
	return e.addr.String()
}

// holdPort binds a socket that never listens. Without it the system could give the port to a program that asks for any, or to an
// outgoing connection, while the platform is down.
func holdPort(want *net.TCPAddr) (int, *net.TCPAddr, error) {
	family, sa := syscall.AF_INET6, syscall.Sockaddr(nil)
	if ip4 := want.IP.To4(); ip4 != nil {
		family, sa = syscall.AF_INET, &syscall.SockaddrInet4{Port: want.Port, Addr: [4]byte(ip4)}
	} else {
		sa = &syscall.SockaddrInet6{Port: want.Port, Addr: [16]byte(want.IP.To16())}
	}
	fd, err := syscall.Socket(family, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, nil, fmt.Errorf("hold port: %w", err)
	}
	if err := errors.Join(
		syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1),
		syscall.Bind(fd, sa),
	); err != nil {
		return -1, nil, errors.Join(fmt.Errorf("hold port: %w", err), syscall.Close(fd))
	}
	got, err := syscall.Getsockname(fd)
	if err != nil {
		return -1, nil, errors.Join(fmt.Errorf("hold port: %w", err), syscall.Close(fd))
	}
	bound := &net.TCPAddr{IP: want.IP}
	switch a := got.(type) {
	case *syscall.SockaddrInet4:
		bound.Port = a.Port
	case *syscall.SockaddrInet6:
		bound.Port = a.Port
	}
	return fd, bound, nil
}

// up listens; it does nothing before open, while the endpoint listens, and after close.
func (e *endpoint) up(ctx context.Context) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.srv != nil || e.closed || e.addr == nil {
		return nil
	}
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", e.addr.String())
	if err != nil {
		return fmt.Errorf("listen for %s on %s: %w", e.p.name, e.addr, err)
	}
	srv := &http.Server{
		Handler:           e.handler,
		ReadHeaderTimeout: 2 * time.Minute,
		IdleTimeout:       5 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, c)
		},
	}
	done := make(chan struct{})
	e.srv, e.done = srv, done
	go func() {
		defer close(done)
		_ = srv.Serve(&tlsListener{ln, e}) // always ErrServerClosed: down and close are the only ends
	}()
	return nil
}

// down stops listening and closes every connection, in use or not.
func (e *endpoint) down() {
	e.mu.Lock()
	srv, done := e.srv, e.done
	e.srv, e.done = nil, nil
	e.mu.Unlock()
	if srv == nil {
		return
	}
	_ = srv.Close() // the listener is gone either way
	<-done
}

func (e *endpoint) close(ctx context.Context) {
	e.mu.Lock()
	srv := e.srv
	e.closed = true
	e.mu.Unlock()
	if srv != nil {
		_ = srv.Shutdown(ctx) // what is still open after ctx is closed below
	}
	e.down()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.hold >= 0 {
		_ = syscall.Close(e.hold)
		e.hold = -1
	}
}

func (e *endpoint) listening() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.srv != nil
}

// closeIdle closes the connections on which no request is being handled.
func (e *endpoint) closeIdle() {
	e.mu.Lock()
	var idle []*conn
	for c := range e.conns {
		if !c.busy.Load() {
			idle = append(idle, c)
		}
	}
	e.mu.Unlock()
	for _, c := range idle {
		_ = c.Close() // it is meant to break
	}
}

// tlsListener wraps each connection so that it can be counted and broken. The handshake happens at the first read, in the
// connection's own goroutine.
type tlsListener struct {
	net.Listener
	e *endpoint
}

func (l *tlsListener) Accept() (net.Conn, error) {
	raw, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	cfg := l.e.tls
	if _, ok := l.e.p.faults.take(func(f Fault) bool { return f.Kind == KindTLSBroken }); ok {
		cfg = l.e.broken
	}
	c := &conn{Conn: tls.Server(raw, cfg), raw: raw, e: l.e, id: connSeq.Add(1)}
	c.fresh.Store(true)
	l.e.mu.Lock()
	l.e.conns[c] = struct{}{}
	l.e.mu.Unlock()
	return c, nil
}

type connKey struct{}

// conn is one TLS connection. It watches for the first bytes of each request, which is where break_at_byte is decided.
type conn struct {
	*tls.Conn
	raw net.Conn
	e   *endpoint
	id  int64

	shaken atomic.Bool // the handshake is done; asking tls.Conn instead would wait for one that hangs
	fresh  atomic.Bool // the next bytes begin a request
	served atomic.Bool // a request has arrived here, so the ledger knows the connection
	busy   atomic.Bool // a request is being handled
	once   sync.Once

	// Only the one reading goroutine uses these.
	pending []byte // read from TLS, not yet given on
	budget  int    // bytes that may still be given on before the break; only if limited
	limited bool
	broken  bool // cut short; net/http reads once more after an error
}

// maxRequestLine is how much is read to find out which operation a request is for.
const maxRequestLine = 8 << 10

var errBroken = errors.New("connection broken on purpose")

func (c *conn) Read(p []byte) (int, error) {
	if !c.shaken.Load() {
		if err := c.HandshakeContext(context.Background()); err != nil {
			return 0, err
		}
		c.shaken.Store(true)
	}
	if c.broken {
		return 0, errBroken
	}
	if len(c.pending) > 0 {
		return c.give(p)
	}
	n, err := c.Conn.Read(p)
	if n == 0 || !c.fresh.Swap(false) {
		if c.limited && n > 0 {
			c.pending = append(c.pending, p[:n]...)
			return c.give(p)
		}
		return n, err
	}
	c.limited = false
	if !c.e.p.faults.any.Load() {
		return n, err
	}
	c.pending = append(c.pending[:0], p[:n]...)
	operation, err := c.peek()
	if err != nil {
		return 0, err
	}
	if f, ok := c.e.p.faults.take(func(f Fault) bool { return f.Kind == KindBreakAtByte && f.hits(operation, "") }); ok {
		c.limited, c.budget = true, f.Byte
	}
	return c.give(p)
}

// peek reads on until the request line is whole and returns the operation that it asks for, "" if none.
func (c *conn) peek() (string, error) {
	buf := make([]byte, 1024)
	for {
		if path, ok := requestPath(c.pending); ok {
			if op := c.e.p.ops[path]; op != nil {
				return op.name, nil
			}
			return "", nil
		}
		if len(c.pending) > maxRequestLine {
			return "", nil
		}
		n, err := c.Conn.Read(buf)
		c.pending = append(c.pending, buf[:n]...)
		if err != nil {
			return "", err
		}
	}
}

// requestPath finds the path in the first line of a request, once that is whole.
func requestPath(head []byte) (string, bool) {
	line, _, whole := bytes.Cut(head, []byte("\r\n"))
	if !whole {
		return "", false
	}
	parts := bytes.Split(line, []byte(" "))
	if len(parts) < 2 {
		return "", true
	}
	path, _, _ := bytes.Cut(parts[1], []byte("?"))
	return string(path), true
}

// give hands on what is pending, and breaks the connection where the fault says.
func (c *conn) give(p []byte) (int, error) {
	n := copy(p, c.pending)
	if c.limited {
		if c.budget == 0 {
			c.cutShort()
			return 0, errBroken
		}
		n = min(n, c.budget)
		c.budget -= n
	}
	c.pending = c.pending[n:]
	if c.limited && c.budget == 0 && len(c.pending) == 0 {
		// The request may be waiting for no more bytes, so the break cannot be left to the next read.
		c.cutShort()
		return n, errBroken
	}
	return n, nil
}

// cutShort resets the connection before the request was whole.
func (c *conn) cutShort() {
	c.broken = true
	if !c.busy.Load() {
		c.record("break_at_byte: the header was cut off", string(KindBreakAtByte))
	}
	c.reset()
}

// reset closes the TCP connection with RST and without a TLS goodbye.
func (c *conn) reset() {
	if tcp, ok := c.raw.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // fails only on a connection that is closed already
	}
	_ = c.raw.Close()
}

// Close also tells the ledger of a connection on which no request arrived.
func (c *conn) Close() error {
	c.once.Do(func() {
		c.e.mu.Lock()
		delete(c.e.conns, c)
		c.e.mu.Unlock()
		if !c.served.Load() {
			note := "closed before a request"
			if !c.shaken.Load() {
				note = "closed before the TLS handshake was complete"
			}
			c.record(note, "")
		}
	})
	return c.Conn.Close()
}

func (c *conn) record(note, fault string) {
	c.served.Store(true)
	c.e.p.s.ledger.open(Exchange{
		Time: c.e.p.s.cfg.Now(), Conn: c.id, Provider: c.e.p.name, Stage: StageConnected, Note: note, Fault: fault,
	})
}
