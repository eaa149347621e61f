package booth

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// where is a place of an exchange at which the proxy can cut it.
type where string

const (
	atRefusal  where = "refusal"     // nobody listens
	atConnect  where = "connect"     // the connection is accepted and ended at once
	atNoHello  where = "no greeting" // the connection stands, and no handshake comes about
	inHello    where = "hello"       // n bytes of the client's part of the handshake have passed
	inGreeting where = "greeting"    // n bytes of the server's part of it have
	inRequest  where = "request"     // n bytes of the request have
	atSilence  where = "silence"     // the request has passed, and nothing comes back before the client's time is up
	inAnswer   where = "answer"      // n bytes of the answer have
)

// cut is one plan: once, at a place, after n bytes there.
type cut struct {
	at    where
	n     int
	reset bool // a reset in place of an orderly end
}

// cutProxy stands between the agent and one platform. By default it passes on
// ciphertext and finds its way by the records of TLS, which are framed in clear;
// with ending set it ends TLS itself, so that its byte is a byte of HTTP.
type cutProxy struct {
	t      *testing.T
	to     string
	ending *tls.Config // what the agent sees; nil: ciphertext passes through
	trust  *tls.Config // for the platform, where ending is set

	mu    sync.Mutex // guards what follows
	ln    net.Listener
	addr  string
	plan  cut
	done  bool          // the plan has been carried out
	began bool          // a byte of a request has come since arm
	first bool          // a connection has
	over  chan struct{} // closed when that one is over
	sizes map[where]int
	open  map[net.Conn]bool
	work  sync.WaitGroup
}

func newCutProxy(t *testing.T, to string, ending, trust *tls.Config) *cutProxy {
	p := &cutProxy{t: t, to: to, ending: ending, trust: trust, sizes: map[where]int{}, open: map[net.Conn]bool{}, addr: ownPort(t)}
	p.listen()
	t.Cleanup(func() {
		p.mu.Lock()
		_ = p.ln.Close()
		p.dropLocked()
		p.mu.Unlock()
		p.work.Wait()
	})
	return p
}

// lastPort counts through the ports of ownPort, from a place of each process's own.
var lastPort = func() *atomic.Int64 {
	var n atomic.Int64
	n.Store(rand.Int64N(1 << 32)) //nolint:gosec // G404: no secret
	return &n
}()

// ownPort is a port below those that the kernel gives out by itself, and of those one
// that no other package's test picks (see freePort in cmd/agent), so that nobody gets it
// while the proxy refuses, and the proxy gets nobody's.
func ownPort(t *testing.T) string {
	t.Helper()
	for range 1000 {
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(int(24_000+lastPort.Add(1)%4_000)))
		if ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp4", addr); err == nil {
			require.NoError(t, ln.Close())
			return addr
		}
	}
	require.Fail(t, "there is no free port")
	return ""
}

func (p *cutProxy) listen() {
	ln, err := new(net.ListenConfig).Listen(context.Background(), "tcp4", p.addr)
	require.NoError(p.t, err)
	p.mu.Lock()
	p.ln, p.addr = ln, ln.Addr().String()
	p.mu.Unlock()
	p.work.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			p.work.Go(func() { p.serve(c) })
		}
	})
}

// arm sets the next cut. Connections that idle are ended first, so that each case
// begins with a connection of its own.
func (p *cutProxy) arm(c cut) {
	p.mu.Lock()
	p.dropLocked()
	p.plan, p.done, p.began, p.first, p.over = c, false, false, false, make(chan struct{})
	p.sizes = map[where]int{}
	p.mu.Unlock()
	if c.at == atRefusal {
		p.mu.Lock()
		_ = p.ln.Close()
		p.mu.Unlock()
	}
}

// mend lets everything through again.
func (p *cutProxy) mend() {
	p.mu.Lock()
	was := p.plan.at
	p.plan, p.done = cut{}, true
	p.mu.Unlock()
	if was == atRefusal {
		p.listen()
	}
}

func (p *cutProxy) dropLocked() {
	for c := range p.open {
		_ = c.Close()
	}
}

// wait waits for the first connection since arm to be over. It reports whether a byte
// of a request came, and whether the exchange came to the cut.
func (p *cutProxy) wait() (began, cut bool) {
	p.mu.Lock()
	over := p.over
	p.mu.Unlock()
	select {
	case <-over:
	case <-time.After(20 * time.Second): // none came, or it idles
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.began, p.done
}

// size is how many bytes passed at a place since arm.
func (p *cutProxy) size(at where) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sizes[at]
}

func (p *cutProxy) keep(c net.Conn) {
	p.mu.Lock()
	p.open[c] = true
	p.mu.Unlock()
}

func (p *cutProxy) forget(c net.Conn) {
	_ = c.Close()
	p.mu.Lock()
	delete(p.open, c)
	p.mu.Unlock()
}

// allow says how many of n bytes at a place may pass, and whether that is where the
// exchange ends.
func (p *cutProxy) allow(at where, n int) (pass int, end bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	before := p.sizes[at]
	if p.done || p.plan.at != at || before+n < p.plan.n {
		p.sizes[at] += n
		return n, false
	}
	pass = p.plan.n - before
	p.sizes[at] += pass
	p.done = true
	return pass, true
}

// take carries a plan without bytes out, once.
func (p *cutProxy) take(at where) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.done || p.plan.at != at {
		return false
	}
	p.done = true
	return true
}

func (p *cutProxy) serve(agent net.Conn) {
	p.keep(agent)
	defer p.forget(agent)
	defer p.firstOne()()
	if p.take(atConnect) {
		p.end(agent)
		return
	}
	if p.take(atNoHello) {
		_, _ = io.Copy(io.Discard, agent) // until the agent gives up
		return
	}
	up, err := new(net.Dialer).DialContext(context.Background(), "tcp4", p.to)
	if err != nil {
		return
	}
	p.keep(up)
	defer p.forget(up)
	in, out := agent, up
	ours, theirs := newTracker(true), newTracker(false)
	if p.ending != nil {
		a, b := tls.Server(agent, p.ending), tls.Client(up, p.trust)
		if a.HandshakeContext(context.Background()) != nil || b.HandshakeContext(context.Background()) != nil {
			return
		}
		in, out = a, b
		ours, theirs = clearTracker(inRequest), clearTracker(inAnswer)
	}
	ours.other = theirs
	var both sync.WaitGroup
	both.Go(func() { p.pass(in, out, ours, agent, up) })
	both.Go(func() { p.pass(out, in, theirs, agent, up) })
	both.Wait()
}

// end closes both sides, as a line does that breaks or as a process that ends.
func (p *cutProxy) end(conns ...net.Conn) {
	p.mu.Lock()
	reset := p.plan.reset
	p.mu.Unlock()
	for _, c := range conns {
		if tcp, ok := c.(*net.TCPConn); ok && reset {
			_ = tcp.SetLinger(0)
		}
		_ = c.Close()
	}
}

// pass copies one direction, piece by piece as the tracker says where each belongs.
func (p *cutProxy) pass(from, to net.Conn, tr *tracker, agent, up net.Conn) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		for rest := buf[:n]; len(rest) > 0; {
			at, k := tr.next(rest)
			if at == inRequest {
				p.begin()
			}
			if at == inRequest && p.silent() {
				_, _ = to.Write(rest[:k])
				rest = rest[k:]
				continue
			}
			if at == inAnswer && p.silent() {
				p.take(atSilence)
				rest = rest[k:] // swallowed
				continue
			}
			pass, end := p.allow(at, k)
			if _, werr := to.Write(rest[:pass]); werr != nil && err == nil {
				err = werr
			}
			if end {
				p.end(agent, up)
				return
			}
			rest = rest[k:]
		}
		if err != nil {
			if !errors.Is(err, io.EOF) {
				_ = agent.Close()
				_ = up.Close()
			} else if cw, ok := to.(interface{ CloseWrite() error }); ok {
				_ = cw.CloseWrite()
			}
			return
		}
	}
}

// firstOne returns what is to be done when a connection is over.
func (p *cutProxy) firstOne() func() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.first || p.over == nil {
		return func() {}
	}
	p.first = true
	over := p.over
	return func() { close(over) }
}

func (p *cutProxy) begin() {
	p.mu.Lock()
	p.began = true
	p.mu.Unlock()
}

func (p *cutProxy) silent() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.plan.at == atSilence
}

// tracker finds the handshake's end in one direction of TLS 1.3: from the client,
// the first record of type 23 is its Finished, and what follows is the request;
// from the server, everything is handshake until the client's request has begun.
type tracker struct {
	client bool
	clear  where
	other  *tracker // the server's, told by the client's

	mu      sync.Mutex // guards begun
	begun   bool       // a byte of the request has passed
	head    []byte     // of the record under way
	left    int        // bytes of its body still to come
	hidden  int        // records of type 23 that are over
	hiddenN bool       // this one is of type 23
}

func newTracker(client bool) *tracker { return &tracker{client: client} }

func clearTracker(at where) *tracker { return &tracker{clear: at} }

// next says where the next bytes belong, and how many of them.
func (t *tracker) next(b []byte) (where, int) {
	const header = 5
	switch {
	case t.clear != "":
		return t.clear, len(b)
	case !t.client:
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.begun {
			return inAnswer, len(b)
		}
		return inGreeting, len(b)
	}
	at := inHello
	if t.hidden > 0 {
		at = inRequest
		t.other.mu.Lock()
		t.other.begun = true
		t.other.mu.Unlock()
	}
	if t.left == 0 {
		n := min(header-len(t.head), len(b))
		t.head = append(t.head, b[:n]...)
		if len(t.head) == header {
			t.left = int(t.head[3])<<8 | int(t.head[4])
			t.hiddenN = t.head[0] == 23
		}
		return at, n
	}
	n := min(t.left, len(b))
	t.left -= n
	if t.left == 0 {
		t.head = t.head[:0]
		if t.hiddenN {
			t.hidden++
		}
	}
	return at, n
}
