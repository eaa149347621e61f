package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Server plays the configured platforms. All its methods may be called from several goroutines.
type Server struct {
	cfg       Config
	tls       *tls.Config
	tlsBroken *tls.Config
	ca        []byte
	ledger    *ledger
	advance   atomic.Int64 // nanoseconds that lives are ahead of the clock
	stopping  chan struct{}

	finpay  *finpay
	netzme  *netzme
	prepaid *prepaid

	mu          sync.Mutex // guards what follows
	started     bool
	stopped     bool
	controlAddr string
	controlSrv  *http.Server
	controlDone chan struct{}
}

// New checks the configuration and prepares the platforms. It opens nothing.
func New(cfg Config) (*Server, error) {
	cfg.setDefaults()
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("check configuration: %w", err)
	}
	s := &Server{cfg: cfg, ledger: newLedger(cfg.LedgerCap), stopping: make(chan struct{})}
	var err error
	if s.tls, s.tlsBroken, s.ca, err = tlsConfigs(cfg.TLS, time.Now()); err != nil {
		return nil, err
	}
	if cfg.Finpay != nil {
		if s.finpay, err = s.newFinpay(*cfg.Finpay); err != nil {
			return nil, err
		}
	}
	if cfg.Netzme != nil {
		if s.netzme, err = s.newNetzme(*cfg.Netzme); err != nil {
			return nil, err
		}
	}
	if cfg.Prepaid != nil {
		if s.prepaid, err = s.newPrepaid(*cfg.Prepaid); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// platforms lists those that are configured.
func (s *Server) platforms() []*platform {
	var out []*platform
	if s.finpay != nil {
		out = append(out, s.finpay.platform)
	}
	if s.netzme != nil {
		out = append(out, s.netzme.platform)
	}
	if s.prepaid != nil {
		out = append(out, s.prepaid.platform)
	}
	return out
}

// ErrNotPlayed is returned for a platform that is not configured.
var ErrNotPlayed = errors.New("this platform is not configured")

func (s *Server) platform(name string) (*platform, error) {
	for _, p := range s.platforms() {
		if p.name == name {
			return p, nil
		}
	}
	return nil, fmt.Errorf("platform %q: %w", clip(name), ErrNotPlayed)
}

// Start listens on every address. The context covers the start only; [Server.Close] ends what was started, also after an error.
func (s *Server) Start(ctx context.Context) error {
	s.mu.Lock()
	if s.started || s.stopped {
		s.mu.Unlock()
		return errors.New("start: a server starts once")
	}
	s.started = true
	s.mu.Unlock()
	if err := s.startControl(ctx); err != nil {
		return err
	}
	addrs := map[string]string{Finpay: s.cfg.Listen.Finpay, Netzme: s.cfg.Listen.Netzme, Prepaid: s.cfg.Listen.Prepaid}
	for _, p := range s.platforms() {
		if err := p.end.open(ctx, addrs[p.name]); err != nil {
			return err
		}
		s.cfg.Logger.Info("platform listens", "provider", p.name, "address", p.end.address())
	}
	return nil
}

func (s *Server) startControl(ctx context.Context) error {
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", s.cfg.Listen.Control)
	if err != nil {
		return fmt.Errorf("listen for control: %w", err)
	}
	srv := &http.Server{Handler: s.controlHandler(), ReadHeaderTimeout: 2 * time.Minute}
	done := make(chan struct{})
	s.mu.Lock()
	s.controlAddr, s.controlSrv, s.controlDone = ln.Addr().String(), srv, done
	s.mu.Unlock()
	go func() {
		defer close(done)
		_ = srv.Serve(ln) // always ErrServerClosed
	}()
	return nil
}

// Close lets running exchanges finish for up to two seconds (those that a fault holds are cut), closes every listener and waits for
// their goroutines. A second call does nothing.
func (s *Server) Close() error {
	s.mu.Lock()
	if s.stopped {
		s.mu.Unlock()
		return nil
	}
	s.stopped = true
	srv, done := s.controlSrv, s.controlDone
	s.mu.Unlock()
	close(s.stopping)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	for _, p := range s.platforms() {
		p.end.close(ctx)
	}
	if srv == nil {
		return nil
	}
	var err error
	if srv.Shutdown(ctx) != nil { // somebody holds a connection open: that ends now
		err = srv.Close()
	}
	<-done
	return err
}

// Addr is the host:port on which a platform ([Finpay], [Netzme], [Prepaid]) or [Control] listens, "" before Start or if it is not
// played. It stays the same while a platform is down.
func (s *Server) Addr(name string) string {
	if name == Control {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.controlAddr
	}
	p, err := s.platform(name)
	if err != nil {
		return ""
	}
	return p.end.address()
}

// URL is the address with its scheme: https for a platform, http for [Control].
func (s *Server) URL(name string) string {
	addr := s.Addr(name)
	switch {
	case addr == "":
		return ""
	case name == Control:
		return "http://" + addr
	}
	return "https://" + addr
}

// CA is the PEM certificate that clients must trust, if the server made its own; nil if the certificate came from files.
func (s *Server) CA() []byte { return slices.Clone(s.ca) }

// now is the clock by which tokens, OTPs, links and waits end.
func (s *Server) now() time.Time { return s.cfg.Now().Add(time.Duration(s.advance.Load())) }

// Advance lets time pass for tokens, OTPs, links and minimum waits, but not for time stamps.
func (s *Server) Advance(d time.Duration) { s.advance.Add(int64(d)) }

// Inject sets a fault and returns its id, 0 for one that is over at once.
func (s *Server) Inject(f Fault) (int, error) {
	p, err := s.platform(f.Provider)
	if err != nil {
		return 0, fmt.Errorf("inject fault: %w", err)
	}
	if err := f.check(); err != nil {
		return 0, fmt.Errorf("inject fault: %w", err)
	}
	if err := p.knows(f.Operation); err != nil {
		return 0, fmt.Errorf("inject fault: %w", err)
	}
	switch f.Kind {
	case KindExpireTokens, KindExpireCustomerTokens:
		sp := s.snapOf(f.Provider)
		if sp == nil {
			return 0, fmt.Errorf("inject fault: %s has no tokens", f.Provider)
		}
		sp.mu.Lock()
		if f.Kind == KindExpireTokens {
			sp.tokens.revokeAll()
		} else {
			sp.tokens.revokeCustomers()
		}
		sp.mu.Unlock()
		return 0, nil
	case KindSingleActiveToken:
		if s.snapOf(f.Provider) == nil {
			return 0, fmt.Errorf("inject fault: %s has no tokens", f.Provider)
		}
	case KindDown:
		id := p.faults.add(f)
		p.end.down()
		return id, nil
	case KindTLSBroken:
		id := p.faults.add(f)
		p.end.closeIdle()
		return id, nil
	default: // the others show when an exchange comes
	}
	return p.faults.add(f), nil
}

// knows refuses the name of an operation that could never be hit.
func (p *platform) knows(operation string) error {
	if operation == "" || operation == "*" {
		return nil
	}
	for _, op := range p.ops {
		if op.name == operation || op.step != nil && (op.name+".1" == operation || op.name+".2" == operation) {
			return nil
		}
	}
	return fmt.Errorf("operation: %s has no operation %q", p.name, clip(operation))
}

func (s *Server) snapOf(name string) *snapPlatform {
	switch {
	case name == Finpay && s.finpay != nil:
		return s.finpay.snapPlatform
	case name == Netzme && s.netzme != nil:
		return s.netzme.snapPlatform
	}
	return nil
}

// ClearFilter picks faults; an empty field picks all.
type ClearFilter struct {
	Provider string `json:"provider,omitempty"`
	Kind     Kind   `json:"kind,omitempty"`
	ID       int    `json:"id,omitempty"`
}

// Clear removes faults, cuts what hangs on the platforms concerned, and brings listeners back.
func (s *Server) Clear(ctx context.Context, which ClearFilter) error {
	if which.Provider != "" {
		if _, err := s.platform(which.Provider); err != nil {
			return fmt.Errorf("clear faults: %w", err)
		}
	}
	var errs []error
	for _, p := range s.platforms() {
		if which.Provider != "" && p.name != which.Provider {
			continue
		}
		p.faults.clear(func(f ActiveFault) bool {
			return (which.Kind == "" || f.Kind == which.Kind) && (which.ID == 0 || f.ID == which.ID)
		})
		if _, down := p.faults.find(KindDown); !down {
			errs = append(errs, p.end.up(ctx))
		}
	}
	return errors.Join(errs...)
}

// SetDedupe changes a platform's deduplication of references.
func (s *Server) SetDedupe(provider string, on bool) error {
	if _, err := s.platform(provider); err != nil {
		return fmt.Errorf("set dedupe: %w", err)
	}
	if sp := s.snapOf(provider); sp != nil {
		sp.mu.Lock()
		defer sp.mu.Unlock()
		sp.cfg.Dedupe = &on
		return nil
	}
	s.prepaid.mu.Lock()
	defer s.prepaid.mu.Unlock()
	s.prepaid.conf.Dedupe = &on
	return nil
}

// SetCustomer makes a Finpay phone known, linked or not.
func (s *Server) SetCustomer(phone string, linked bool) error {
	if s.finpay == nil {
		return fmt.Errorf("set customer: %w", ErrNotPlayed)
	}
	if !digits(phone, 1, 16) {
		return errors.New("set customer: phone must have 1 to 16 digits")
	}
	s.finpay.mu.Lock()
	defer s.finpay.mu.Unlock()
	s.finpay.customers.put(phone, &customer{linked: linked})
	return nil
}

// Link completes the newest open binding of a phone, as the customer does on the PIN page. It returns [ErrNoLink] or [ErrLinkExpired]
// where there is nothing to complete.
func (s *Server) Link(phone string) (LinkResult, error) {
	if s.finpay == nil {
		return LinkResult{}, fmt.Errorf("link: %w", ErrNotPlayed)
	}
	return s.finpay.link(phone)
}

// OTP is the newest unbinding OTP that was sent to a phone, or [ErrNoOTP].
func (s *Server) OTP(phone string) (string, error) {
	if s.finpay == nil {
		return "", fmt.Errorf("read OTP: %w", ErrNotPlayed)
	}
	return s.finpay.lastOTP(phone)
}

// LedgerFilter picks exchanges; an empty field picks all.
type LedgerFilter struct {
	Provider  string
	Operation string
	// Since leaves out sequence numbers up to it.
	Since int64
}

// Ledger copies the exchanges that are remembered, oldest first.
func (s *Server) Ledger(which LedgerFilter) []Exchange {
	return slices.DeleteFunc(s.ledger.snapshot(which.Since), func(e Exchange) bool {
		return which.Provider != "" && e.Provider != which.Provider || which.Operation != "" && e.Operation != which.Operation
	})
}

// WhenHanging calls f as soon as an exchange that is remembered hangs, and returns then
// or when ctx ends: a client's patience without a clock.
func (s *Server) WhenHanging(ctx context.Context, f func()) {
	for {
		for _, e := range s.Ledger(LedgerFilter{}) {
			if e.Fault == string(KindHang) {
				f()
				return
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// Effects copies the effects, in the order of their first occurrence.
func (s *Server) Effects() []Effect { return s.ledger.effectList() }

// EffectCount is how often an effect happened, summed over its identities if identity is "".
func (s *Server) EffectCount(operation, identity string) int {
	n := 0
	for _, e := range s.ledger.effectList() {
		if e.Operation == operation && (identity == "" || e.Identity == identity) {
			n += e.Count
		}
	}
	return n
}

// Violations copies the broken rules.
func (s *Server) Violations() []Violation { return s.ledger.violationList() }

// Reset empties the ledger, clears every fault, ends every token and puts customers back as they were configured. Settings changed by
// SetDedupe and the time passed by Advance stay.
func (s *Server) Reset(ctx context.Context) error {
	if err := s.Clear(ctx, ClearFilter{}); err != nil {
		return fmt.Errorf("reset: %w", err)
	}
	for _, name := range []string{Finpay, Netzme} {
		sp := s.snapOf(name)
		if sp == nil {
			continue
		}
		sp.mu.Lock()
		sp.tokens.revokeAll()
		sp.used = newBounded[string, uint64](s.cfg.LedgerCap)
		if name == Finpay {
			s.finpay.forget()
		} else {
			s.netzme.forget()
		}
		sp.mu.Unlock()
	}
	if s.prepaid != nil {
		s.prepaid.mu.Lock()
		s.prepaid.forget()
		s.prepaid.mu.Unlock()
	}
	s.ledger.reset()
	return nil
}

// State is what the platforms are at the moment. It holds no secret.
type State struct {
	Time      time.Time                `json:"time"`
	Control   string                   `json:"control"`
	Advanced  string                   `json:"advanced"`
	Platforms map[string]PlatformState `json:"platforms"`
	// Linked are the Finpay phones that are linked.
	Linked     []string `json:"linked"`
	Exchanges  int64    `json:"exchanges"`
	Violations int64    `json:"violations"`
	// EffectsForgotten counts the effects beyond Config.LedgerCap; above 0, counts of effects say too little.
	EffectsForgotten int `json:"effects_forgotten"`
}

// PlatformState is one platform's part of [State].
type PlatformState struct {
	Address      string        `json:"address"`
	Listening    bool          `json:"listening"`
	Clock        time.Time     `json:"clock"`
	TokensIssued int           `json:"tokens_issued"`
	Faults       []ActiveFault `json:"faults"`
}

// State takes a snapshot.
func (s *Server) State() State {
	st := State{
		Time: s.cfg.Now(), Control: s.Addr(Control), Advanced: time.Duration(s.advance.Load()).String(),
		Platforms: map[string]PlatformState{}, Linked: []string{},
	}
	for _, p := range s.platforms() {
		ps := PlatformState{Address: s.Addr(p.name), Listening: p.end.listening(), Clock: p.clock(), Faults: p.faults.list()}
		if sp := s.snapOf(p.name); sp != nil {
			sp.mu.Lock()
			ps.TokensIssued = sp.tokens.issued
			sp.mu.Unlock()
		}
		st.Platforms[p.name] = ps
	}
	if s.finpay != nil {
		s.finpay.mu.Lock()
		s.finpay.customers.each(func(phone string, c *customer) {
			if c.linked {
				st.Linked = append(st.Linked, phone)
			}
		})
		s.finpay.mu.Unlock()
	}
	s.ledger.mu.Lock()
	st.Exchanges, st.Violations, st.EffectsForgotten = s.ledger.seq, s.ledger.violated, s.ledger.effects.dropped
	s.ledger.mu.Unlock()
	return st
}
