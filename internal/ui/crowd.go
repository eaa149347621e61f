package ui

import (
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// maxConnections bounds what this server costs, whoever on this machine connects to
// it. A screen needs about ten: six of a browser's own, a socket and its successor,
// and who asks for /healthz.
const maxConnections = 1200

// fullHouse is all that a connection beyond the bound gets.
const fullHouse = "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\nRetry-After: 5\r\nConnection: close\r\n" +
	"Content-Length: 68\r\n\r\ntoo many connections to the screen's address; close some, try again\n"

// crowd is a listener that holds at most so many connections. Where they are all
// taken, the one that has waited longest without asking for anything makes room for
// a new one, so that a crowd of idlers keeps nobody out; where all are busy, the new
// one is refused.
type crowd struct {
	net.Listener
	most int
	log  *slog.Logger

	mu     sync.Mutex // guards what follows
	guests map[*guest]bool
	n      uint64    // guests so far
	said   time.Time // when the log was last told
}

// guest is a connection that leaves the crowd when it is closed.
type guest struct {
	net.Conn
	crowd *crowd
	n     uint64
	idle  bool // guarded by the crowd's mutex: nothing was asked since it came or was last answered
}

func newCrowd(ln net.Listener, most int, log *slog.Logger) *crowd {
	return &crowd{Listener: ln, most: most, log: log, guests: map[*guest]bool{}}
}

// Accept waits for the next connection that may come in.
func (c *crowd) Accept() (net.Conn, error) {
	for {
		conn, err := c.Listener.Accept()
		if err != nil {
			return nil, err
		}
		g, leaves := c.enter(conn)
		if leaves != nil {
			_ = leaves.Close()
		}
		if g != nil {
			return g, nil
		}
		_ = conn.SetDeadline(time.Now().Add(time.Second))
		_, _ = conn.Write([]byte(fullHouse))
		_ = conn.Close()
	}
}

// enter makes a guest of a connection, or nil, and says who has to leave for it.
func (c *crowd) enter(conn net.Conn) (g, leaves *guest) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.guests) >= c.most {
		for other := range c.guests {
			if other.idle && (leaves == nil || other.n < leaves.n) {
				leaves = other
			}
		}
		if now := time.Now(); now.Sub(c.said) > time.Minute {
			c.said = now
			c.log.Warn("too many connections to the screen's address; look for a program on this machine that opens them", "held", len(c.guests), "refused", leaves == nil)
		}
		if leaves == nil {
			return nil, nil
		}
		delete(c.guests, leaves)
	}
	c.n++
	g = &guest{Conn: conn, crowd: c, n: c.n, idle: true}
	c.guests[g] = true
	return g, leaves
}

// state is told by the HTTP server what becomes of a connection. It is idle until a
// request has come whole; one that is given away, to a websocket, never is again: it
// had to bring the screen's cookie, and has limits of its own.
func (c *crowd) state(conn net.Conn, s http.ConnState) {
	if g, ok := conn.(*guest); ok {
		c.mu.Lock()
		defer c.mu.Unlock()
		g.idle = s == http.StateNew || s == http.StateIdle
	}
}

func (g *guest) Close() error {
	g.crowd.mu.Lock()
	delete(g.crowd.guests, g)
	g.crowd.mu.Unlock()
	return g.Conn.Close()
}
