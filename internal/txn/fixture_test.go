package txn_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"sort"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"gardu/internal/secret"
	"gardu/internal/txn"
)

// shelf is a Store in memory with the manners of the real one: records pass
// through JSON, secrets are apart, and a crash keeps what was acknowledged.
type shelf struct {
	mu      sync.Mutex
	seq     uint64
	serial  uint64
	items   map[uint64][]byte
	secrets map[string][]byte
	gets    int
	addErr  func(r *txn.Request) (stored bool, err error)
	before  func(r *txn.Request) // of Add, without the lock
	delErr  func() error
	getErr  func(seq uint64) error
	eachErr error // of Each, at once
	updErr  func(r *txn.Request) (stored bool, err error)
}

func newShelf() *shelf {
	return &shelf{items: map[uint64][]byte{}, secrets: map[string][]byte{}}
}

func (s *shelf) Add(_ context.Context, r *txn.Request, sec *secret.Value) error {
	s.mu.Lock()
	if f := s.before; f != nil {
		s.mu.Unlock()
		f(r)
		s.mu.Lock()
	}
	defer s.mu.Unlock()
	stored, err := true, error(nil)
	if s.addErr != nil {
		stored, err = s.addErr(r)
	}
	if stored {
		s.seq++
		r.Seq = s.seq
		if err := s.put(r, sec); err != nil {
			return err
		}
	}
	return err
}

// put stores a record, or refuses one that is larger than the real journal takes.
func (s *shelf) put(r *txn.Request, sec *secret.Value) error {
	js, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if len(js) > 60<<10 {
		return errors.New("too large for one record")
	}
	s.items[r.Seq] = js
	if sec != nil {
		s.secrets[r.ID] = append([]byte(nil), sec.Bytes()...)
	}
	if r.Secret == "" {
		delete(s.secrets, r.ID)
	}
	return nil
}

func (s *shelf) Update(_ context.Context, r *txn.Request, sec *secret.Value) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.items[r.Seq]; !ok {
		return txn.ErrNotFound
	}
	stored, err := true, error(nil)
	if s.updErr != nil {
		stored, err = s.updErr(r)
	}
	if stored {
		if err := s.put(r, sec); err != nil {
			return err
		}
	}
	return err
}

func (s *shelf) Delete(_ context.Context, seqs []uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.delErr != nil {
		if err := s.delErr(); err != nil {
			return err
		}
	}
	for _, q := range seqs {
		delete(s.items, q)
	}
	return nil
}

func (s *shelf) Get(_ context.Context, seq uint64) (*txn.Request, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gets++
	if s.getErr != nil {
		if err := s.getErr(seq); err != nil {
			return nil, err
		}
	}
	js, ok := s.items[seq]
	if !ok {
		return nil, txn.ErrNotFound
	}
	r := new(txn.Request)
	return r, json.Unmarshal(js, r)
}

func (s *shelf) Each(ctx context.Context, fn func(*txn.Request, error) error) error {
	s.mu.Lock()
	if err := s.eachErr; err != nil {
		s.mu.Unlock()
		return err
	}
	var seqs []uint64
	for q := range s.items {
		seqs = append(seqs, q)
	}
	s.mu.Unlock()
	sort.Slice(seqs, func(i, j int) bool { return seqs[i] < seqs[j] })
	for _, q := range seqs {
		r, err := s.Get(ctx, q)
		if err := fn(r, err); err != nil {
			return err
		}
	}
	return nil
}

func (s *shelf) Secret(_ context.Context, r *txn.Request) (*secret.Value, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, ok := s.secrets[r.ID]
	if !ok {
		return nil, txn.ErrSecretLost
	}
	return secret.Clone(b), nil
}

func (s *shelf) Serial(context.Context) (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.serial++
	return s.serial, nil
}

// set changes the shelf's errors while the engine runs.
func (s *shelf) set(f func(s *shelf)) { s.mu.Lock(); f(s); s.mu.Unlock() }

func (s *shelf) count() int { s.mu.Lock(); defer s.mu.Unlock(); return len(s.items) }

// looks is how often a record was read.
func (s *shelf) looks() int { s.mu.Lock(); defer s.mu.Unlock(); return s.gets }

// held is how many secrets the store keeps.
func (s *shelf) held() int { s.mu.Lock(); defer s.mu.Unlock(); return len(s.secrets) }

// platform is a provider that does as a test says and counts effects.
type platform struct {
	mu       sync.Mutex
	down     bool
	submit   func(ctx context.Context, c txn.Call) txn.Answer
	inquire  func(c txn.Call) txn.Answer
	probe    func() error
	calls    []txn.Call
	secrets  []string
	reads    int
	probes   int
	inFlight int
	most     int
	extIDs   map[string]bool
	verify   func(ctx context.Context, fields map[string]string) txn.Verification
}

func (p *platform) Submit(ctx context.Context, c txn.Call) txn.Answer {
	p.mu.Lock()
	p.inFlight++
	p.most = max(p.most, p.inFlight)
	defer func() { p.mu.Lock(); p.inFlight--; p.mu.Unlock() }()
	if p.down {
		p.mu.Unlock()
		return txn.Answer{Outcome: txn.NotSent, Reason: txn.ReasonLinkDown}
	}
	p.calls = append(p.calls, c)
	p.secrets = append(p.secrets, string(c.Secret.Bytes()))
	if p.extIDs == nil {
		p.extIDs = map[string]bool{}
	}
	if p.extIDs[c.Attempt.ExternalID] && !c.Attempt.Repeat {
		panic("external id used twice")
	}
	p.extIDs[c.Attempt.ExternalID] = true
	f := p.submit
	p.mu.Unlock()
	if f == nil {
		return ok()
	}
	return f(ctx, c)
}

func (p *platform) Inquire(_ context.Context, c txn.Call) txn.Answer {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reads++
	if p.down {
		return txn.Answer{Outcome: txn.NotSent, Reason: txn.ReasonLinkDown}
	}
	if p.inquire == nil {
		return txn.Answer{Outcome: txn.WasRejected, HTTPStatus: 200}
	}
	return p.inquire(c)
}

func (p *platform) Probe(context.Context) error {
	p.mu.Lock()
	p.probes++
	down, f := p.down, p.probe
	p.mu.Unlock()
	switch {
	case down:
		return errors.New("down")
	case f != nil:
		return f()
	}
	return nil
}

// deaf is a platform that cannot be probed.
type deaf struct{ p *platform }

func (d deaf) Submit(ctx context.Context, c txn.Call) txn.Answer  { return d.p.Submit(ctx, c) }
func (d deaf) Inquire(ctx context.Context, c txn.Call) txn.Answer { return d.p.Inquire(ctx, c) }

func (p *platform) set(f func(p *platform)) { p.mu.Lock(); f(p); p.mu.Unlock() }

func (p *platform) sent() int { p.mu.Lock(); defer p.mu.Unlock(); return len(p.calls) }

// extID is the external id of the nth call, counted from the end where negative.
func (p *platform) extID(n int) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n < 0 {
		n += len(p.calls)
	}
	return p.calls[n].Attempt.ExternalID
}

func (p *platform) peak() int { p.mu.Lock(); defer p.mu.Unlock(); return p.most }

func (p *platform) readbacks() int { p.mu.Lock(); defer p.mu.Unlock(); return p.reads }

func ok() txn.Answer {
	return txn.Answer{Outcome: txn.HasSucceeded, Code: "2000000", HTTPStatus: 200}
}

// ledger is an audit record in memory.
type ledger struct {
	mu   sync.Mutex
	acts []string
	err  error
}

func (l *ledger) Record(_ context.Context, act string, r *txn.Request, a *txn.Attempt, who string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return l.err
	}
	line := act + " " + string(r.Operation)
	if a != nil {
		line += " " + a.Outcome.String()
	}
	if who != "" {
		line += " by " + who
	}
	l.acts = append(l.acts, line)
	return nil
}

func (l *ledger) fail(err error) { l.mu.Lock(); l.err = err; l.mu.Unlock() }

func (l *ledger) lines() []string { l.mu.Lock(); defer l.mu.Unlock(); return slices.Clone(l.acts) }

var (
	phone = txn.Field{Name: "phoneNo", Min: 10, Max: 16, Digits: true, Prefix: "08"}
	otp   = txn.Field{Name: "otp", Min: 4, Max: 8, Digits: true}
	pin   = txn.Field{Name: "newPIN", Min: 4, Max: 6, Digits: true}
	urn   = txn.Field{Name: "urn", Min: 1, Max: 11, Digits: true}
)

func policies() []txn.Policy {
	return []txn.Policy{
		{Operation: txn.FinpayResetPIN, Provider: "finpay", Enabled: true, Fields: []txn.Field{phone}, Identity: "phoneNo",
			Wait: 30 * time.Minute, HoldOffline: true, Settle: 15 * time.Minute, NotThere: txn.Rejected},
		{Operation: txn.FinpayBind, Provider: "finpay", Enabled: true, Fields: []txn.Field{phone}, Identity: "phoneNo",
			Wait: 3 * time.Minute, HoldOffline: true, Readback: true, ReadbackEvery: 3 * time.Second,
			Quiet: 2 * time.Minute, Settle: 24 * time.Hour, NotThere: txn.Expired},
		{Operation: txn.FinpayUnbind, Provider: "finpay", Enabled: true, Fields: []txn.Field{phone}, OTP: &otp, Identity: "phoneNo",
			Wait: 3 * time.Minute, HoldOffline: true, Readback: true, Quiet: 2 * time.Minute, Settle: 24 * time.Hour, NotThere: txn.Rejected},
		{Operation: txn.PrepaidResetPIN, Provider: "prepaid", Enabled: true, Fields: []txn.Field{urn}, Secret: &pin, Identity: "urn",
			Wait: 5 * time.Minute, HoldOffline: true, Settle: 15 * time.Minute, NotThere: txn.Rejected, ShortRef: true},
		{Operation: txn.NetzmeForgotPIN, Provider: "netzme", Enabled: false, Why: "no key is configured; run gardu keys import", Identity: "custIdMerchant"},
	}
}

// testClock is a machine's clocks that a test sets.
type testClock struct {
	mu    sync.Mutex
	began time.Time // of this boot
	boots int
	skew  time.Duration // of the wall clock
	slept time.Duration // time asleep, in which no timer runs
	kept  bool
}

func newTestClock() *testClock { return &testClock{began: time.Now(), kept: true} }

func (c *testClock) read() txn.Reading {
	c.mu.Lock()
	defer c.mu.Unlock()
	return txn.Reading{
		Wall: time.Now().Add(c.slept + c.skew).Round(0), Boot: "boot " + strconv.Itoa(c.boots),
		Up: time.Since(c.began) + c.slept, Kept: c.kept,
	}
}

// set sets the wall clock to a year, or right where 0.
func (c *testClock) set(year int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.skew = 0
	if year != 0 {
		c.skew = time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC).Sub(time.Now().Add(c.slept))
	}
}

// reboot begins another run of the kernel.
func (c *testClock) reboot(kept bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.boots++
	c.began, c.slept, c.kept = time.Now(), 0, kept
}

// right reports whether the wall clock shows the real time.
func (c *testClock) right() bool { c.mu.Lock(); defer c.mu.Unlock(); return c.skew == 0 }

// sleep lets time pass in which nothing of the machine runs.
func (c *testClock) sleep(d time.Duration) { c.mu.Lock(); c.slept += d; c.mu.Unlock() }

func (c *testClock) keep(kept bool) { c.mu.Lock(); c.kept = kept; c.mu.Unlock() }

// bench is one engine on one shelf with one platform behind all operations.
type bench struct {
	t        *testing.T
	shelf    *shelf
	platform *platform
	ledger   *ledger
	engine   *txn.Engine
	opts     txn.Options
	clock    *testClock
	policies []txn.Policy
	noProbe  bool // the platform cannot be probed
	keeper   *atomic.Int64
	redeemer txn.Provider
	without  string             // a provider that could not be built
	told     func(*txn.Request) // with every change, before who made it lets the request go
	stop     context.CancelFunc
	done     chan struct{}

	mu      sync.Mutex
	changes []*txn.Request
}

func newBench(t *testing.T, mend ...func(*bench)) *bench {
	b := &bench{t: t, shelf: newShelf(), platform: &platform{}, ledger: &ledger{}, policies: policies(), clock: newTestClock()}
	b.opts = txn.Options{
		Identity: txn.Identity{Kiosk: 42, Salt: 7},
		Log:      slog.New(slog.DiscardHandler),
		Limits:   txn.Limits{CustomerHour: 1000, KioskHour: 100000},
	}
	for _, f := range mend {
		f(b)
	}
	b.start()
	return b
}

func (b *bench) start() {
	o := b.opts
	o.Store, o.Audit, o.Clock = b.shelf, b.ledger, b.clock.read
	for _, p := range b.policies {
		of := txn.Offer{Policy: p, Provider: b.platform}
		if b.noProbe {
			of.Provider = deaf{b.platform}
		}
		if b.keeper != nil {
			of.Provider = keeper{b.platform, b.keeper}
		}
		if b.redeemer != nil {
			of.Provider = b.redeemer
		}
		if p.Provider == b.without {
			of.Provider = nil
		}
		o.Offers = append(o.Offers, of)
	}
	o.OnChange = func(r *txn.Request) {
		b.mu.Lock()
		b.changes = append(b.changes, r)
		b.mu.Unlock()
		if b.told != nil {
			b.told(r)
		}
	}
	ctx, cancel := context.WithCancel(b.t.Context())
	e, err := txn.NewEngine(ctx, o)
	require.NoError(b.t, err)
	b.engine, b.stop, b.done = e, cancel, make(chan struct{})
	go func() {
		defer close(b.done)
		if err := e.Run(ctx); err != nil {
			b.t.Error(err)
		}
	}()
}

func (b *bench) halt() { b.stop(); <-b.done }

func (b *bench) restart() { b.halt(); b.start() }

func (b *bench) ask(op txn.Operation, key, who string, sec ...string) *txn.Request {
	b.t.Helper()
	r, err := b.engine.Accept(b.t.Context(), ask(op, key, who, sec...))
	require.NoError(b.t, err)
	return r
}

func ask(op txn.Operation, key, who string, sec ...string) txn.New {
	n := txn.New{Key: key, Operation: op, Fields: map[string]string{"phoneNo": who}}
	if op == txn.PrepaidResetPIN {
		n.Fields = map[string]string{"urn": who}
	}
	if len(sec) > 0 {
		n.Secret = secret.Clone([]byte(sec[0]))
	}
	return n
}

func (b *bench) get(id string) *txn.Request {
	b.t.Helper()
	synctest.Wait()
	r, err := b.engine.Get(b.t.Context(), id)
	require.NoError(b.t, err)
	return r
}

// after lets virtual time pass and reads the request.
func (b *bench) after(d time.Duration, id string) *txn.Request {
	b.t.Helper()
	time.Sleep(d)
	return b.get(id)
}

// states lists the states of a request in the order they were told.
func (b *bench) states(id string) []txn.State {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []txn.State
	for _, r := range b.changes {
		if r.ID == id {
			out = append(out, r.State)
		}
	}
	return out
}

const alice, bob = "081234567890", "081299999999"
