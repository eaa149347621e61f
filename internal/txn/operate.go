package txn

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Order is what an operator wants done to one request.
type Order struct {
	ID  string // of the request
	Who string // by whose word; recorded
	Why string // the reason, or the evidence; recorded, and kept with a request that it ends
}

// Why an order is not carried out.
var (
	ErrFinished    = errors.New("it is finished")
	ErrBusy        = errors.New("it is being worked on at this moment")
	ErrMayHaveSent = errors.New("it may have reached the provider")
	ErrWaits       = errors.New("it waits for the customer")
	ErrNoInquiry   = errors.New("its provider cannot be asked what became of it")
	ErrLeftAlone   = errors.New("its provider is to be left alone")
	ErrNoDoubt     = errors.New("there is no doubt about it")
	ErrNothingNew  = errors.New("the provider's answer settles nothing")
	ErrUnreached   = errors.New("the provider could not be reached")
	ErrNotHeld     = errors.New("it is not held")
	ErrAudit       = errors.New("the audit record did not take it, so nothing was done")
	ErrAskedAnew   = errors.New("the customer may have asked anew since")
	ErrUnreadable  = errors.New("its record cannot be read")
)

// OrderError says why an operator's order was not carried out and what can be done
// instead.
type OrderError struct {
	Act    string // one of the acts
	Object string // id of the request, or name of the provider
	Err    error
	Advice string
}

// Error says what was not done and why.
func (e *OrderError) Error() string { return fmt.Sprintf("%s %s: %v", e.Act, e.Object, e.Err) }

// Unwrap returns the cause.
func (e *OrderError) Unwrap() error { return e.Err }

// Hint says what to do instead.
func (e *OrderError) Hint() string { return e.Advice }

const (
	adviceBusy     = "wait a moment and do it again"
	adviceAgain    = "look at it with 'gardu queue show', see the agent's log, and do it again"
	adviceAudit    = "see that its disk has room, then do it again"
	adviceList     = "see the ids with 'gardu queue list'"
	adviceAsk      = "ask the provider with 'gardu queue inquire'"
	adviceResolve  = "find out from the provider what became of it, and close it with 'gardu queue resolve'"
	adviceRelease  = "see why with 'gardu check', mend it, and lift the hold with 'gardu queue release'"
	adviceFinished = "the customer can ask again at the screen"
	adviceWaits    = "leave it: without the customer it ends by itself"
	adviceBroken   = "keep the journal's file for the vendor and ask the provider what became of the request"
	adviceClock    = "see that a time service keeps this machine's clock; the request goes out or expires once the time is known"
)

// maxNote bounds an operator's words in the record, in bytes. Longer ones are cut
// there; the audit record has its own bounds.
const maxNote = 500

// deed is what an act does to a claimed request, and after how long the scheduler
// may look at it again.
type deed func(*entry, *Request) (after time.Duration, err error)

// order carries an operator's act out: the request is claimed, may says whether
// the act is allowed, and do does it between its two audit records.
func (e *Engine) order(ctx context.Context, act string, o Order, may func(*Request, *Offer) error, do deed) (*Request, error) {
	if !e.begin() {
		return nil, orderError(act, o.ID, ErrStopped)
	}
	defer e.work.Done()
	en, err := e.claimAny(ctx, o.ID)
	if err != nil {
		return nil, orderError(act, o.ID, err)
	}
	var after time.Duration
	defer func() { e.release(en, after) }()
	r, err := e.store.Get(ctx, en.seq)
	switch {
	case errors.Is(err, ErrSeal):
		err = &OrderError{Err: fmt.Errorf("%w: %w", ErrUnreadable, err), Advice: adviceBroken}
	case err != nil:
	case en.stale || r.State == Sending:
		err = &OrderError{Err: ErrBusy, Advice: adviceBusy}
	default:
		err = may(r, e.offer(r.Operation))
	}
	if err != nil {
		return nil, orderError(act, o.ID, err)
	}
	err = e.recorded(ctx, act, r, &o, func() (err error) {
		after, err = do(en, r)
		return err
	})
	if err != nil {
		return nil, orderError(act, o.ID, err)
	}
	return r.Clone(), nil
}

// recorded does an operator's act between its two audit records, without the first
// of which it is not done.
func (e *Engine) recorded(ctx context.Context, act string, r *Request, o *Order, do func() error) error {
	record := func(ctx context.Context, stage string) error {
		c := *r
		c.Note = o.Why
		return e.audit.Record(ctx, act+stage, &c, c.Last(), o.Who)
	}
	if err := record(ctx, ActBegins); err != nil {
		return &OrderError{Err: fmt.Errorf("%w: %w", ErrAudit, err), Advice: adviceAudit}
	}
	err := do()
	end := ActEnds
	switch {
	case err == nil, errors.Is(err, ErrNothingNew), errors.Is(err, ErrUnreached): // which were carried out
	case errors.Is(err, ErrStoreUnknown):
		end = ActUnknown
	default:
		end = ActFails
	}
	if aerr := record(context.WithoutCancel(ctx), end); aerr != nil {
		e.log.Error("audit did not take the record after an operator's act", "object", r.ID, "act", act, "error", aerr)
	}
	return err
}

// orderError says of an error which act it ended.
func orderError(act, object string, err error) error {
	var oe *OrderError
	if !errors.As(err, &oe) {
		oe = &OrderError{Err: err, Advice: adviceAgain}
	}
	return &OrderError{act, object, oe.Err, oe.Advice}
}

// claimAny claims a request that the engine or an operator can still do something for.
func (e *Engine) claimAny(ctx context.Context, id string) (*entry, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.whileBusy(ctx, id, func(*entry) bool { return true })
	seq, known := e.ix.seqs[id]
	if !known {
		return nil, &OrderError{Err: ErrNotFound, Advice: adviceList}
	}
	en := e.ix.open[id]
	if en == nil {
		en = e.ix.unres[id]
	}
	switch {
	case en == nil:
		e.mu.Unlock()
		_, err := e.store.Get(ctx, seq)
		e.mu.Lock()
		if errors.Is(err, ErrSeal) { // it was open when it broke, and nobody knows where it stood
			return nil, &OrderError{Err: fmt.Errorf("%w: %w", ErrUnreadable, err), Advice: adviceBroken}
		}
		return nil, &OrderError{Err: ErrFinished, Advice: adviceFinished}
	case en.busy:
		return nil, &OrderError{Err: ErrBusy, Advice: adviceBusy}
	}
	e.claim(en)
	return en, nil
}

// decide keeps what an operator decided, with their words.
func (e *Engine) decide(ctx context.Context, en *entry, r *Request, o *Order) (time.Duration, error) {
	r.Note, r.NoteBy = clip(o.Why, maxNote), clip(o.Who, maxCode)
	return e.keep(ctx, en, r)
}

// keep puts what came of an operator's act on disk and tells it.
func (e *Engine) keep(ctx context.Context, en *entry, r *Request) (time.Duration, error) {
	if err := e.update(ctx, r, nil); err != nil {
		e.setStale(en, true)
		return e.timing.RetryBase, err
	}
	e.changed(r)
	return 0, nil
}

// Withdraw cancels a request of which nothing was ever sent, like Cancel, on an
// operator's word. Errors: *OrderError.
func (e *Engine) Withdraw(ctx context.Context, o Order) (*Request, error) {
	return e.order(ctx, ActCancel, o, e.mayWithdraw, func(en *entry, r *Request) (time.Duration, error) {
		closeAs(r, Cancelled, ReasonByOperator, e.now(r))
		return e.decide(ctx, en, r, &o)
	})
}

func (e *Engine) mayWithdraw(r *Request, of *Offer) error {
	switch {
	case r.State == Queued && !r.EverSent():
		return nil
	case r.State == Pending && r.Await != "":
		return &OrderError{Err: ErrWaits, Advice: adviceWaits}
	}
	return sentAdvice(of)
}

func sentAdvice(of *Offer) error {
	if canAsk(of) {
		return &OrderError{Err: ErrMayHaveSent, Advice: adviceAsk}
	}
	return &OrderError{Err: ErrMayHaveSent, Advice: adviceResolve}
}

// Resolve closes a doubt on an operator's evidence: to is Succeeded or Rejected.
// Errors: *OrderError.
func (e *Engine) Resolve(ctx context.Context, o Order, to State) (*Request, error) {
	may := func(r *Request, _ *Offer) error { return mayResolve(r, to) }
	return e.order(ctx, ActResolve, o, may, func(en *entry, r *Request) (time.Duration, error) {
		resolve(r, to, e.now(r))
		return e.decide(ctx, en, r, &o)
	})
}

func mayResolve(r *Request, to State) error {
	switch {
	case to != Succeeded && to != Rejected:
		return &OrderError{Err: fmt.Errorf("%q is no result", to), Advice: "say succeeded or rejected"}
	case r.State == InDoubt || r.State == Unresolved:
		return nil
	case r.State == Pending && r.Await != "":
		return &OrderError{Err: ErrWaits, Advice: adviceWaits}
	}
	return &OrderError{Err: ErrNoDoubt, Advice: "leave it to the agent; what was never sent can be cancelled with 'gardu queue cancel'"}
}

func resolve(r *Request, to State, now time.Time) {
	why := ReasonConfirmed
	if to == Rejected {
		why = ReasonNotProcessed
	}
	closeAs(r, to, why, now)
}

// Inquire asks the provider now what became of a request that is pending, in doubt
// or unresolved. It has no effect at the provider. Errors: *OrderError, of which
// ErrNothingNew says that the answer settles nothing.
func (e *Engine) Inquire(ctx context.Context, o Order) (*Request, error) {
	may := func(r *Request, of *Offer) error {
		if err := e.mayInquire(r, of); err != nil || r.State != Unresolved {
			return err
		}
		return e.notAskedAnew(ctx, r)
	}
	return e.order(ctx, ActInquire, o, may, func(en *entry, r *Request) (time.Duration, error) {
		of := e.offer(r.Operation)
		before := r.State
		a, ok := e.ask(ctx, r, of)
		if !ok {
			return 0, context.Cause(ctx)
		}
		if before == Unresolved {
			// Nothing kept the customer from asking anew while the provider thought.
			if err := e.notAskedAnew(ctx, r); err != nil {
				return 0, err
			}
			settleLate(r, &of.Policy, a, e.now(r))
		} else {
			settleInquiry(r, &of.Policy, e.timing, a, e.now(r))
		}
		after, err := e.keep(ctx, en, r)
		switch {
		case err != nil || r.State != before:
		case a.Outcome == NotSent && linkReason(a.Reason):
			err = &OrderError{Err: fmt.Errorf("%w (%s)", ErrUnreached, a.said()), Advice: "see where the way ends with 'gardu check', and ask again"}
		default:
			err = &OrderError{Err: fmt.Errorf("%w (%s)", ErrNothingNew, a.said()), Advice: "ask again later, or find out from the provider by other ways"}
		}
		return after, err
	})
}

// said is an answer in a few words for an operator.
func (a *Answer) said() string {
	words := a.Outcome.String()
	for _, w := range []string{string(a.Reason), clip(a.Code, maxCode)} {
		if w != "" {
			words += " " + w
		}
	}
	return words
}

func (e *Engine) mayInquire(r *Request, of *Offer) error {
	switch {
	case r.State == Queued:
		return &OrderError{Err: ErrNoDoubt, Advice: "nothing of this step was sent; it goes out by itself"}
	case r.Await == AwaitOTP:
		return &OrderError{Err: ErrWaits, Advice: adviceWaits}
	case !canAsk(of):
		return &OrderError{Err: ErrNoInquiry, Advice: adviceResolve}
	}
	return e.leftAlone(of)
}

// notAskedAnew is an error where the customer asked their provider for anything
// after an unresolved request, or where that is not known any more: what a provider
// says of the customer could then be the work of the later one, and a repeat would
// undo it.
func (e *Engine) notAskedAnew(ctx context.Context, r *Request) error {
	refuse := func(err error) error { return &OrderError{Err: err, Advice: adviceResolve} }
	m := e.clock.at(r)
	if !m.sure || !m.now.Before(r.Closed.Add(e.timing.Retain)) {
		return refuse(fmt.Errorf("%w: it was given up too long ago to know", ErrAskedAnew))
	}
	return e.store.Each(ctx, func(o *Request, err error) error {
		switch {
		case err != nil:
			return refuse(fmt.Errorf("%w: %w", ErrAskedAnew, err))
		case o.Seq > r.Seq && o.Customer == r.Customer && o.EverSent():
			return refuse(fmt.Errorf("%w: request %s", ErrAskedAnew, o.ID))
		}
		return nil
	})
}

// leftAlone is an error where a provider is held or throttled.
func (e *Engine) leftAlone(of *Offer) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	l := e.lines[of.Policy.Provider]
	if l == nil || !l.bound(e.clock.now()) {
		return nil
	}
	err := fmt.Errorf("%w until %s: %s", ErrLeftAlone, e.clock.shown(l.NextTry).Local().Format(time.TimeOnly), l.Reason)
	if l.Held {
		return &OrderError{Err: err, Advice: adviceRelease}
	}
	return &OrderError{Err: err, Advice: "wait that long"}
}

// Retry has a request sent now: one that waits after a failure and of which this
// step certainly was not processed; or, where Policy.Repeats allows it, a guarded
// repeat of a doubt, under the same references and on the same WIB day. The call
// itself is made in the background, when its turn and the link allow. Errors:
// *OrderError.
func (e *Engine) Retry(ctx context.Context, o Order) (*Request, error) {
	return e.order(ctx, ActRetry, o, e.mayRetry, func(en *entry, r *Request) (time.Duration, error) {
		if r.State == Unresolved {
			if after, err := e.reopen(ctx, en, r); err != nil {
				return after, err
			}
		}
		e.mu.Lock()
		defer e.mu.Unlock()
		en.repeat = en.state == InDoubt
		en.due = e.clock.now()
		return 0, nil
	})
}

func (e *Engine) mayRetry(r *Request, of *Offer) error {
	switch {
	case r.State == Pending && r.Await != "":
		return &OrderError{Err: ErrWaits, Advice: adviceWaits}
	case r.State == Queued && !r.MayHaveBeenSent():
		if m := e.clock.at(r); !m.sure {
			return &OrderError{Err: errors.New("it may be too old, and this machine's clock cannot be believed"), Advice: adviceClock}
		}
		return e.leftAlone(of)
	case r.State == Queued, r.State == Pending, of.Policy.Repeats <= 0:
		return sentAdvice(of)
	}
	if why := e.cannotRepeat(r, &of.Policy); why != "" {
		return &OrderError{Err: fmt.Errorf("%w, and cannot be repeated: %s", ErrMayHaveSent, why), Advice: adviceResolve}
	}
	return e.leftAlone(of)
}

// reopen makes of an unresolved request the doubt that it was. It takes its place
// in line first, so that the customer cannot ask anew at the same time; a journal
// that fails leaves it there until it is known what is on disk.
func (e *Engine) reopen(ctx context.Context, en *entry, r *Request) (time.Duration, error) {
	if err := e.lineUp(en); err != nil {
		return 0, err
	}
	if err := e.notAskedAnew(ctx, r); err != nil {
		e.mu.Lock()
		e.ix.drop(en)
		en.state = Unresolved
		e.mu.Unlock()
		return 0, err
	}
	now := e.now(r)
	r.State, r.Closed, r.DoubtFrom, r.NotBefore = InDoubt, time.Time{}, now, now
	if at := r.lastArrived(); at != nil {
		r.Reason = at.Reason
	}
	return e.keep(ctx, en, r)
}

// lineUp puts an unresolved request back into its customer's line.
func (e *Engine) lineUp(en *entry) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, o := range e.ix.line[en.customer] {
		switch {
		case o.op == en.op:
			return &OrderError{Err: fmt.Errorf("%w: request %s", ErrAskedAnew, o.id), Advice: adviceResolve}
		case o.busy || o.state == Sending:
			return &OrderError{Err: ErrBusy, Advice: adviceBusy}
		}
	}
	e.ix.enter(en)
	en.state = InDoubt
	return nil
}

// Release lifts the hold of a provider, or ends its wish to be left alone: it is
// tried at once. Errors: *OrderError.
func (e *Engine) Release(ctx context.Context, provider, who, why string) (Link, error) {
	if !e.begin() {
		return Link{}, orderError(ActRelease, provider, ErrStopped)
	}
	defer e.work.Done()
	l := e.lines[provider]
	if l == nil {
		return Link{}, &OrderError{ActRelease, provider, ErrNotFound, "see the providers with 'gardu check'"}
	}
	e.mu.Lock()
	bound := l.bound(e.clock.now())
	e.mu.Unlock()
	if !bound {
		return Link{}, &OrderError{ActRelease, provider, ErrNotHeld, "there is nothing to lift; see how its link is with 'gardu check'"}
	}
	var link Link
	err := e.recorded(ctx, ActRelease, &Request{ID: provider}, &Order{provider, who, why}, func() error {
		e.mu.Lock()
		defer e.mu.Unlock()
		l.Held, l.Reason, l.NextTry, l.trial = false, ReasonLinkDown, e.clock.now(), time.Time{}
		link = e.shown(l.Link)
		return nil
	})
	if err != nil {
		return Link{}, orderError(ActRelease, provider, err)
	}
	e.linkChanged(link, nil)
	e.nudgeLine(provider)
	e.poke()
	return link, nil
}
