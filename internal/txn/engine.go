package txn

import (
	"context"
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
	InFlight     int // calls under way at a time, each with its attempt on the way to the disk before it (default 8)
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
// means that the act is not done. who is an operator, whose words are r.Note, or
// empty for the agent itself. For an act on a provider r has no more than its name
// as ID, and the note.
type Recorder interface {
	Record(ctx context.Context, act string, r *Request, a *Attempt, who string) error
}

// The acts the engine records.
const (
	ActSend   = "send"   // an attempt is about to leave
	ActSent   = "sent"   // and this is what it came to
	ActRedeem = "redeem" // the code of a customer's page is about to be spent, and what it came to
	ActForget = "forget" // a doubt that nobody closed is deleted after Timing.Unresolved
)

// The acts of operators. Each is recorded with ActBegins and then with ActEnds,
// ActFails or ActUnknown behind its name.
const (
	ActInquire = "inquire"
	ActRetry   = "retry"
	ActCancel  = "cancel"
	ActResolve = "resolve"
	ActRelease = "release"

	ActBegins  = ".begin"
	ActEnds    = ".end"
	ActFails   = ".failed"
	ActUnknown = ".unknown" // the journal did not say whether it took it; the request's record tells
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
	Clock    func() Reading // nil: MachineClock
}

// Engine carries requests out. One Engine owns one Store.
type Engine struct {
	store    Store
	identity Identity
	offers   map[Operation]*Offer
	policies []Policy
	limits   Limits
	timing   Timing
	audit    Recorder
	log      *slog.Logger
	onChange func(*Request)
	onLink   func(Link)
	behind   bool
	clock    *clock

	kick  chan struct{}            // something may be due
	beats chan chan<- struct{}     // who asks whether Run's loop turns
	over  chan struct{}            // closed when Run takes no more
	nudge map[string]chan struct{} // a link should be looked at now
	work  sync.WaitGroup           // calls under way, and callers who write

	telling sync.Mutex // of a link, one at a time; taken before mu

	mu         sync.Mutex // guards what follows
	ix         index
	lines      map[string]*line
	volatile   map[string]*secret.Value // secrets that may not touch a disk, by request id
	grants     map[string]*grant        // confirmations by their proof
	limbo      map[string]*place        // what an Add with ErrStoreUnknown left unsettled, by request id
	limboNext  time.Time                // when the journal is asked again
	inFlight   int
	forgetting bool // a deletion is under way
	stopping   bool

	limboTurn sync.Mutex // one asks the journal about limbo at a time
}

// NewEngine reads the whole journal once and settles what a restart leaves
// behind: attempts without an end become doubts, requests whose secret did not
// survive expire. Nothing is sent before Run.
func NewEngine(ctx context.Context, o Options) (*Engine, error) {
	e := &Engine{
		store: o.Store, identity: o.Identity, offers: map[Operation]*Offer{},
		limits: o.Limits.withDefaults(), timing: o.Timing.withDefaults(),
		audit: o.Audit, log: o.Log, onChange: o.OnChange, onLink: o.OnLink, behind: o.Behind,
		kick: make(chan struct{}, 1), beats: make(chan chan<- struct{}), over: make(chan struct{}), nudge: map[string]chan struct{}{},
		ix: newIndex(), lines: map[string]*line{}, volatile: map[string]*secret.Value{}, limbo: map[string]*place{}, grants: map[string]*grant{},
	}
	if o.Clock == nil {
		o.Clock = MachineClock()
	}
	e.clock = newClock(o.Clock)
	for _, of := range o.Offers {
		if _, ok := e.offers[of.Policy.Operation]; ok {
			return nil, fmt.Errorf("operation %s is offered twice", of.Policy.Operation)
		}
		e.offers[of.Policy.Operation] = &of
		e.policies = append(e.policies, of.Policy)
		name := of.Policy.Provider
		if e.lines[name] == nil {
			p, _ := of.Provider.(Prober)
			k, _ := of.Provider.(Timekeeper)
			e.lines[name] = &line{Link: Link{Provider: name}, prober: p, keeper: k}
			e.nudge[name] = make(chan struct{}, 1)
		}
	}
	if err := e.load(ctx); err != nil {
		return nil, err
	}
	return e, nil
}

// offer is the offer of an operation. One that is not offered any more has no
// provider, and its requests end by time.
func (e *Engine) offer(op Operation) *Offer {
	if of := e.offers[op]; of != nil {
		return of
	}
	return &Offer{Policy: Policy{Operation: op, Settle: withdrawn, NotThere: Rejected}}
}

// withdrawn is when a doubt about an operation that is not offered any more goes
// to an operator.
const withdrawn = 15 * time.Minute

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
		timer.Reset(next.Sub(e.clock.now()))
		select {
		case <-ctx.Done():
		case <-e.kick:
		case <-timer.C:
		case turned := <-e.beats:
			close(turned)
		}
	}
	close(e.over)
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
			out = append(out, e.shown(e.lines[n].Link))
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
	return e.read(ctx, seq)
}

// read reads a record for somebody outside: its times are by the present wall clock.
func (e *Engine) read(ctx context.Context, seq uint64) (*Request, error) {
	r, err := e.store.Get(ctx, seq)
	if err == nil {
		e.clock.stamp(r)
	}
	return r, err
}

// Each reads every request in order; see Reader.
func (e *Engine) Each(ctx context.Context, fn func(*Request, error) error) error {
	return e.store.Each(ctx, func(r *Request, err error) error {
		if err == nil {
			e.clock.stamp(r)
		}
		return fn(r, err)
	})
}
