package txn

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"gardu/internal/secret"
)

// Offer is one operation this kiosk can carry out.
type Offer struct {
	Policy   Policy
	Provider Provider // nil where it could not be built; the policy then says why
}

// Limits bound how much may be asked. Zero fields take the defaults.
type Limits struct {
	CustomerHour int // accepted requests of one customer in an hour (default 5)
	KioskHour    int // accepted requests in an hour (default 120)
	InFlight     int // customers being served at a time (default 8)
}

func (l Limits) withDefaults() Limits {
	def := func(n *int, v int) {
		if *n <= 0 {
			*n = v
		}
	}
	def(&l.CustomerHour, 5)
	def(&l.KioskHour, 120)
	def(&l.InFlight, 8)
	return l
}

// Recorder writes the audit record of an act that cannot be undone: before it,
// and after it with the same request and external id. An error before the act
// means that the act is not done.
type Recorder interface {
	Record(ctx context.Context, act string, r *Request, a *Attempt, who string) error
}

// The acts the engine records.
const (
	ActSend    = "send"    // an attempt is about to leave
	ActSent    = "sent"    // and this is what it came to
	ActResolve = "resolve" // an operator closed a doubt
)

// Options are what an Engine is built from.
type Options struct {
	Store    Store
	Identity Identity
	Offers   []Offer
	Limits   Limits
	Timing   Timing
	Audit    Recorder
	Log      *slog.Logger
	OnChange func(*Request) // after each change that is on disk; gets its own copy; must not block
	OnLink   func(Link)     // after each change of a link; must not block
	Behind   bool           // the journal is older than it once was: what may have been sent is in doubt
}

// Engine carries requests out. One Engine owns one Store.
type Engine struct {
	store    Store
	identity Identity
	offers   map[Operation]Offer
	policies []Policy
	limits   Limits
	timing   Timing
	audit    Recorder
	log      *slog.Logger
	onChange func(*Request)
	onLink   func(Link)
	behind   bool

	kick  chan struct{}            // something may be due
	nudge map[string]chan struct{} // a link should be looked at now
	work  sync.WaitGroup           // calls under way

	mu        sync.Mutex // guards what follows
	ix        index
	lines     map[string]*line
	volatile  map[string]*secret.Value // secrets that may not touch a disk, by request id
	inFlight  int
	stopping  bool
	uncertain bool // an Add ended with ErrStoreUnknown and has not been settled
}

// NewEngine reads the whole journal once and settles what a restart leaves
// behind: attempts without an end become doubts, requests whose secret did not
// survive expire. Nothing is sent before Run.
func NewEngine(ctx context.Context, o Options) (*Engine, error) {
	e := &Engine{
		store: o.Store, identity: o.Identity, offers: map[Operation]Offer{},
		limits: o.Limits.withDefaults(), timing: o.Timing.withDefaults(),
		audit: o.Audit, log: o.Log, onChange: o.OnChange, onLink: o.OnLink, behind: o.Behind,
		kick: make(chan struct{}, 1), nudge: map[string]chan struct{}{},
		ix: newIndex(), lines: map[string]*line{}, volatile: map[string]*secret.Value{},
	}
	for _, of := range o.Offers {
		if _, ok := e.offers[of.Policy.Operation]; ok {
			return nil, fmt.Errorf("operation %s is offered twice", of.Policy.Operation)
		}
		e.offers[of.Policy.Operation] = of
		e.policies = append(e.policies, of.Policy)
		name := of.Policy.Provider
		if e.lines[name] == nil {
			p, _ := of.Provider.(Prober)
			e.lines[name] = &line{Link: Link{Provider: name}, prober: p}
			e.nudge[name] = make(chan struct{}, 1)
		}
	}
	if err := e.load(ctx); err != nil {
		return nil, err
	}
	return e, nil
}

// load rebuilds the index and settles what the last run left.
func (e *Engine) load(ctx context.Context) error {
	now := time.Now()
	var mend []*Request
	var broken int
	err := e.store.Each(ctx, func(r *Request, err error) error {
		if err != nil {
			if !errors.Is(err, ErrSeal) {
				return err
			}
			broken++
			e.log.Error("journal record does not open; it stays where it is and is not sent", "error", err)
			return nil
		}
		if e.settleStart(ctx, r, now) {
			mend = append(mend, r)
		} else {
			e.adopt(r, now)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read the journal: %w", err)
	}
	for _, r := range mend {
		if err := e.store.Update(ctx, r, nil); err != nil {
			return fmt.Errorf("settle request %s after the restart: %w", r.ID, err)
		}
		e.adopt(r, now)
	}
	if err := e.dropTwins(ctx, now); err != nil {
		return err
	}
	e.log.Info("journal read", "records", len(e.ix.seqs), "open", len(e.ix.open), "settled", len(mend), "broken", broken)
	return nil
}

// settleStart reports whether it changed the record.
func (e *Engine) settleStart(ctx context.Context, r *Request, now time.Time) bool {
	of, ok := e.offers[r.Operation]
	if !ok {
		of.Policy = Policy{Operation: r.Operation, Settle: 15 * time.Minute, NotThere: Rejected}
	}
	p := &of.Policy
	if settleRestart(r, p, e.timing, now) {
		return true
	}
	if e.behind && r.State == Queued {
		// A restored copy may show as unsent what was sent after the copy was made.
		doubt(r, p, e.timing, ReasonJournalBehind, now)
		return true
	}
	if r.State != Queued {
		return false
	}
	if needsSecret(r, p) && r.Secret == "" {
		closeAs(r, Expired, ReasonSecretLost, now)
		return true
	}
	if r.Secret == "" {
		return false
	}
	s, err := e.store.Secret(ctx, r)
	s.Wipe()
	if errors.Is(err, ErrSecretLost) {
		closeAs(r, Expired, ReasonSecretLost, now)
		return true
	}
	return false
}

func needsSecret(r *Request, p *Policy) bool {
	return r.Step == 1 && p.Secret != nil || r.Step == 2 && p.OTP != nil
}

func (e *Engine) adopt(r *Request, now time.Time) {
	en := e.ix.put(r, e.timing.Retain)
	if r.Reason != ReasonSuperseded && now.Sub(r.Created) < limitWindow {
		e.ix.accepted(r.Customer, r.Created)
	}
	if en != nil {
		e.ix.schedule(en, now)
	}
}

// dropTwins ends what a crash between storing a newer request and superseding
// the older one left: two unsent requests of one customer for one operation.
func (e *Engine) dropTwins(ctx context.Context, now time.Time) error {
	var older []*entry
	for _, l := range e.ix.line {
		last := map[Operation]*entry{}
		for _, en := range l {
			if prev := last[en.op]; prev != nil && prev.state == Queued && !prev.everSent {
				older = append(older, prev)
			}
			last[en.op] = en
		}
	}
	for _, en := range older {
		r, err := e.store.Get(ctx, en.seq)
		if err != nil {
			return fmt.Errorf("read request %s: %w", en.id, err)
		}
		closeAs(r, Cancelled, ReasonSuperseded, now)
		if err := e.store.Update(ctx, r, nil); err != nil {
			return fmt.Errorf("supersede request %s: %w", en.id, err)
		}
		e.ix.put(r, e.timing.Retain)
	}
	return nil
}

// Run serves until ctx ends, then lets calls under way finish for Timing.Drain
// and returns. It returns nil after a clean stop.
func (e *Engine) Run(ctx context.Context) error {
	calls, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	var watchers sync.WaitGroup
	for name := range e.lines {
		watchers.Go(func() { e.watch(ctx, name) })
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		next := e.dispatch(ctx, calls)
		timer.Reset(time.Until(next))
		select {
		case <-ctx.Done():
		case <-e.kick:
		case <-timer.C:
		}
	}
	e.mu.Lock()
	e.stopping = true
	e.mu.Unlock()
	stop := time.AfterFunc(e.timing.Drain, cut)
	e.work.Wait()
	stop.Stop()
	watchers.Wait()
	e.mu.Lock()
	for id, s := range e.volatile {
		s.Wipe()
		delete(e.volatile, id)
	}
	e.mu.Unlock()
	return nil
}

// idle is how long the scheduler sleeps when nothing is due.
const idle = time.Minute

// dispatch starts what is due and returns when to look again.
func (e *Engine) dispatch(ctx, calls context.Context) time.Time {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := time.Now()
	e.forget(ctx, now)
	for e.inFlight < e.limits.InFlight && len(e.ix.wakes) > 0 {
		en := e.ix.wakes[0]
		if en.wake.After(now) {
			return en.wake
		}
		due := e.dueAt(en, now)
		if due.After(now) {
			e.ix.schedule(en, due)
			continue
		}
		e.claim(en)
		e.inFlight++
		e.work.Go(func() {
			e.serve(calls, en)
			e.mu.Lock()
			e.inFlight--
			e.mu.Unlock()
			e.poke()
		})
	}
	return now.Add(idle)
}

// dueAt is when something can be done for the entry: not before its own time,
// its turn, and a link, but never after it expires. e.mu is held.
func (e *Engine) dueAt(en *entry, now time.Time) time.Time {
	far := now.Add(idle)
	switch en.state {
	case Queued:
		if !en.expires.After(now) {
			return now
		}
		due := en.due
		if l := e.lines[e.offers[en.op].Policy.Provider]; l == nil || !l.allows(now) {
			due = far
		}
		if !e.ix.head(en) {
			due = far
		}
		if en.expires.Before(due) {
			due = en.expires
		}
		return due
	case Pending, InDoubt:
		return en.due
	case Sending, Succeeded, Rejected, Expired, Cancelled, Unresolved:
	}
	return far
}

// claim makes the caller the only one who may touch the entry's record. e.mu is held.
func (e *Engine) claim(en *entry) {
	en.busy = true
	e.ix.unschedule(en)
}

// release puts the entry back in line, to be looked at no earlier than after.
func (e *Engine) release(en *entry, after time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	en.busy = false
	if e.ix.open[en.id] != en {
		return
	}
	now := time.Now()
	wake := e.dueAt(en, now)
	if first := now.Add(after); wake.Before(first) {
		wake = first
	}
	e.ix.schedule(en, wake)
}

// forget starts the deletion of records that were kept long enough. e.mu is held.
func (e *Engine) forget(ctx context.Context, now time.Time) {
	var seqs []uint64
	n := 0
	for ; n < len(e.ix.kept) && n < 1000; n++ {
		k := e.ix.kept[n]
		if k.until.After(now) {
			break
		}
		seqs = append(seqs, k.seq)
	}
	if n == 0 {
		return
	}
	gone := append([]kept(nil), e.ix.kept[:n]...)
	e.ix.kept = append(e.ix.kept[:0], e.ix.kept[n:]...)
	for _, k := range gone {
		delete(e.ix.seqs, k.id)
		if e.ix.keys[k.key].id == k.id {
			delete(e.ix.keys, k.key)
		}
	}
	e.work.Go(func() {
		if err := e.store.Delete(ctx, seqs); err != nil && ctx.Err() == nil {
			e.log.Warn("finished records not deleted; tried again after the next start", "error", err)
		}
	})
}

func (e *Engine) poke() {
	select {
	case e.kick <- struct{}{}:
	default:
	}
}

// Policies returns the operations in the order they were offered.
func (e *Engine) Policies() []Policy { return append([]Policy(nil), e.policies...) }

// Links returns what is known of each provider's link.
func (e *Engine) Links() []Link {
	e.mu.Lock()
	defer e.mu.Unlock()
	out := make([]Link, 0, len(e.lines))
	seen := map[string]bool{}
	for i := range e.policies {
		n := e.policies[i].Provider
		if !seen[n] {
			seen[n] = true
			out = append(out, e.lines[n].Link)
		}
	}
	return out
}

// Get reads one request. ErrNotFound.
func (e *Engine) Get(ctx context.Context, id string) (*Request, error) {
	e.mu.Lock()
	seq, ok := e.ix.seqs[id]
	e.mu.Unlock()
	if !ok {
		return nil, ErrNotFound
	}
	return e.store.Get(ctx, seq)
}

// Each reads every request in order; see Reader.
func (e *Engine) Each(ctx context.Context, fn func(*Request, error) error) error {
	return e.store.Each(ctx, fn)
}

// changed brings the index up to date with a record that is on disk and tells
// who listens. The caller has claimed the entry.
func (e *Engine) changed(r *Request) {
	e.mu.Lock()
	e.ix.put(r, e.timing.Retain)
	if r.State == Queued || r.State == Sending {
		e.mu.Unlock()
	} else {
		// Whoever waited for this customer's turn may go now.
		now := time.Now()
		for _, o := range e.ix.line[r.Customer] {
			if o.id != r.ID && !o.busy {
				e.ix.schedule(o, now)
			}
		}
		e.mu.Unlock()
		e.poke()
	}
	if e.onChange != nil {
		e.onChange(r.Clone())
	}
}
