package ui

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"
	"unicode/utf8"

	"gardu/internal/txn"
)

// Options is what a Server is built from.
type Options struct {
	Addr       string        // 127.0.0.1 and a port; where Listener is set, only checked against it
	Listener   net.Listener  // optional, for socket activation; must listen on 127.0.0.1
	Engine     Engine        // optional; SetEngine brings it later
	Staff      StaffVerifier // optional; with it, prepaid.reset_pin asks staff
	Operator   Operator      // optional; with it, five touches in the corner lead to the operator screen
	Brand      string        // shown on every screen, at most 40 characters
	Look       Look          // colours, logo, tones
	PxPerMM    float64       // pixels per millimetre of the screen; 4.03 for 21.5 inches at 1080p
	Log        *slog.Logger
	TicketLife time.Duration // 0 for 30 s
	// CookieKey authenticates the screen's cookie. With a key that outlives the
	// process (in the runtime directory) a screen survives a restart of the agent;
	// nil makes a new one, and every screen needs a new ticket after a restart.
	CookieKey []byte
	Timeouts  Timeouts
	MaxConns  int // connections held at once; 0 for 1,200
}

// Server serves the screen. Make one with New, then call Serve once.
type Server struct {
	log    *slog.Logger
	host   string // the only Host served
	origin string // the only Origin served
	addr   string
	given  net.Listener
	door   *door
	desk   *desk
	times  Timeouts
	assets *assets
	most   int // connections held at once

	mu     sync.Mutex // guards what follows
	charge *conn      // the connection in charge of the screen
	conns  map[*conn]bool
	came   uint64 // connections so far
	ending bool
	active sync.WaitGroup // connections
}

// New checks the options and builds a server; it does not listen yet. Errors:
// ErrNotLoopback, ErrBrand, ErrPxPerMM, ErrCookieKey, *LookError.
func New(o Options) (*Server, error) {
	addr := o.Addr
	if o.Listener != nil {
		addr = o.Listener.Addr().String()
	}
	host, err := loopback(addr)
	if err != nil {
		return nil, err
	}
	if n := utf8.RuneCountInString(o.Brand); n < 1 || n > 40 {
		return nil, ErrBrand
	}
	if o.PxPerMM < 1 || o.PxPerMM > 20 {
		return nil, ErrPxPerMM
	}
	if o.TicketLife <= 0 {
		o.TicketLife = 30 * time.Second
	}
	if o.MaxConns <= 0 {
		o.MaxConns = maxConnections
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	door, err := newDoor(o.TicketLife, o.CookieKey)
	if err != nil {
		return nil, fmt.Errorf("make the screen's door: %w", err)
	}
	times := o.Timeouts.withDefaults()
	s := &Server{
		log: o.Log, addr: addr, given: o.Listener, host: host, origin: "http://" + host,
		door: door, times: times, desk: newDesk(o.Log, o.Brand, o.Staff, o.Operator, times), conns: map[*conn]bool{}, most: o.MaxConns,
	}
	if s.assets, err = loadAssets(o.Brand, o.Look, o.PxPerMM, times); err != nil {
		return nil, fmt.Errorf("load the page: %w", err)
	}
	if o.Engine != nil {
		s.SetEngine(o.Engine)
	}
	return s, nil
}

// loopback holds addr against "127.0.0.1 and a port". localhost is refused too:
// a name can be made to point elsewhere, and one origin is easier to hold to than two.
func loopback(addr string) (string, error) {
	ap, err := netip.ParseAddrPort(addr)
	if err != nil || ap.Port() == 0 || ap.Addr() != netip.AddrFrom4([4]byte{127, 0, 0, 1}) {
		return "", fmt.Errorf("%w (got %q)", ErrNotLoopback, addr)
	}
	return ap.String(), nil
}

// Addr is the address that is or will be listened on.
func (s *Server) Addr() string { return s.addr }

// SetEngine brings the engine, or with nil takes it away: the screen is out of
// service without one. It never waits.
func (s *Server) SetEngine(e Engine) {
	s.desk.post(func(m *mail) { m.engine = &e })
}

// SetHealth says whether the kiosk can serve. It never waits.
func (s *Server) SetHealth(h Health) {
	s.desk.post(func(m *mail) { m.health = &h })
}

// RequestChanged brings the newest version of a request. Only the one that is
// shown is looked at. It never waits, and r must not be changed afterwards.
func (s *Server) RequestChanged(r *txn.Request) { s.desk.requestChanged(r) }

// LinkChanged brings the newest standing of a link. It never waits.
func (s *Server) LinkChanged(l txn.Link) {
	s.desk.post(func(m *mail) {
		if m.links == nil {
			m.links = map[string]txn.Link{}
		}
		m.links[l.Provider] = l
	})
}

// IssueTicket makes a ticket that opens the screen once, within the ticket's
// life: GET /?ticket=… of this server.
func (s *Server) IssueTicket() (string, error) {
	t, err := s.door.issue(time.Now())
	if err != nil {
		return "", fmt.Errorf("issue a ticket: %w", err)
	}
	return t, nil
}

// Serve listens and serves until ctx ends. Then it closes every screen with code
// 1012, clears what was typed, waits for the calls it started, and returns nil.
// It may be called once.
func (s *Server) Serve(ctx context.Context) error {
	ln := s.given
	if ln == nil {
		var err error
		if ln, err = new(net.ListenConfig).Listen(ctx, "tcp4", s.addr); err != nil {
			return fmt.Errorf("listen for the screen: %w", err)
		}
	}
	crowd := newCrowd(ln, s.most, s.log)
	// The desk outlives the listener: connections that are closing still post to it.
	deskCtx, stopDesk := context.WithCancel(context.WithoutCancel(ctx))
	defer stopDesk()
	var parts sync.WaitGroup
	parts.Go(func() { s.desk.run(deskCtx) })
	server := &http.Server{
		Handler:           http.HandlerFunc(s.serveHTTP),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      10 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
		ConnState:         crowd.state,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	failed := make(chan error, 1)
	parts.Go(func() { failed <- server.Serve(crowd) })
	s.log.Info("screen is served", "address", s.addr)
	var err error
	select {
	case <-ctx.Done():
		// Whoever was let in by now must be known to Shutdown, which would cut them off:
		// between Accept and the server's own list there is a moment.
		_ = ln.Close()
		<-failed //nolint:errcheck // it was closed: that is its error
	case err = <-failed:
		err = fmt.Errorf("serve the screen: %w", err)
	}
	s.end()
	last, cancel := context.WithTimeout(deskCtx, 5*time.Second)
	defer cancel()
	if e := server.Shutdown(last); e != nil && err == nil && !errors.Is(e, context.DeadlineExceeded) {
		err = fmt.Errorf("close the screen's server: %w", e)
	}
	_ = server.Close() // what did not end by itself
	s.active.Wait()
	stopDesk()
	parts.Wait()
	return err
}

// end closes every connection and takes no more.
func (s *Server) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ending = true
	for c := range s.conns {
		c.shut(closeRestart, "the agent restarts")
	}
}

// enter registers a connection, unless the server is ending.
func (s *Server) enter(c *conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ending {
		return false
	}
	s.came++
	c.n = s.came
	s.conns[c] = true
	s.active.Add(1)
	return true
}

func (s *Server) leave(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	if s.charge == c {
		s.charge = nil
	}
	s.active.Done()
}

// takeCharge makes c the one that shows the screen and sends the other away. It
// reports false where the other is of a newer page, or a newer connection of the same
// page: between the hello that let c in and this moment it was overtaken, and who is
// sent away stays away.
func (s *Server) takeCharge(c *conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.charge
	if old != nil && (old.page > c.page || old.page == c.page && old.n > c.n) {
		return false
	}
	s.charge = c
	if old != nil {
		old.shut(closeOther, "another screen is in charge")
	}
	return true
}

// inCharge reports whether c is the one that shows the screen.
func (s *Server) inCharge(c *conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.charge == c
}
