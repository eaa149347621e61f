package txn

import (
	"context"
	"errors"
	"time"

	"gardu/internal/secret"
)

// serve does the one thing that is due for a claimed entry.
func (e *Engine) serve(ctx context.Context, en *entry) {
	// What follows sets it; anything that does not is a wait and not a spin.
	after := e.timing.RetryMax
	defer func() {
		e.called(en)
		e.release(en, after)
	}()

	r, err := e.store.Get(ctx, en.seq)
	if err != nil {
		e.unreadable(ctx, en, err)
		return
	}
	of := e.offer(r.Operation)
	p := &of.Policy
	unheard := e.unheard(p.Provider) // before the clock is read
	m := e.clock.at(r)
	now := m.now
	free := e.tryLine(of, m.steady)
	if en.stale || r.State == Sending {
		// First bring index and record together; whether it is this one's turn is for
		// the scheduler to say.
		after = e.catchUp(ctx, en, r, p, now)
		return
	}
	if en.superseded && r.State == Queued && !r.EverSent() {
		closeAs(r, Cancelled, ReasonSuperseded, now)
		after = e.save(ctx, en, r)
		return
	}
	if settleTime(r, p, free && canAsk(of), now) {
		after = e.save(ctx, en, r)
		return
	}
	switch {
	case r.State == Queued && m.Boot != r.At.Boot && unheard:
		after = e.timing.RetryBase // its age hangs on the wall clock, of which the provider has the first word
	case r.State == Queued && !m.sure:
		// It may be too old; a clock that can be believed, or its certain end, decides.
	case !free && r.State == Queued && refuses(p, r.Step) && !r.EverSent():
		closeAs(r, Cancelled, ReasonOfflineRefused, now)
		after = e.save(ctx, en, r)
	case !free: // the link went between the look and now; or the provider could not be built, and an operator sees it wait
		after = e.timing.RetryBase
	case r.State == Queued:
		after = e.send(ctx, en, r, of)
	case r.State == InDoubt && (en.repeat || mayRepeat(r, p, now)) && e.cannotRepeat(r, p) == "":
		after = e.send(ctx, en, r, of)
	case (r.State == Pending || r.State == InDoubt) && r.Await != AwaitOTP && canAsk(of):
		after = e.inquire(ctx, en, r, of)
	}
}

// unreadable is for a record that cannot be read. One that is broken stays where
// it is, as it would at a start, and holds up nobody.
func (e *Engine) unreadable(ctx context.Context, en *entry, err error) {
	if ctx.Err() != nil {
		return
	}
	e.log.Error("request cannot be read", "request", en.id, "error", err)
	if !errors.Is(err, ErrSeal) && !errors.Is(err, ErrNotFound) {
		return
	}
	e.wipeVolatile(en.id)
	e.mu.Lock()
	e.ix.drop(en)
	e.wakeLine(en.customer)
	e.mu.Unlock()
}

// tryLine reports whether a call may go out, and where nobody knows whether the
// line is up lets this one find out.
func (e *Engine) tryLine(of *Offer, now time.Time) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.free(of, now) {
		return false
	}
	e.lines[of.Policy.Provider].try(e.timing, now)
	return true
}

// catchUp brings the index together with a record that may be newer: a transition
// of which the journal did not know is on disk after all.
func (e *Engine) catchUp(ctx context.Context, en *entry, r *Request, p *Policy, now time.Time) time.Duration {
	if r.State == Sending {
		// Nobody is sending: whoever sends holds the claim.
		s := &settling{r, p, e.timing, Answer{}, now}
		switch at := r.Last(); {
		case at == nil || at.Serial != en.unsent:
			settleRestart(r, p, e.timing, now)
		case repeated(s):
			at.Ended, at.Outcome = now, NotSent
			stayInDoubt(s)
		default:
			at.Ended, at.Outcome = now, NotSent
			again(s)
		}
		return e.save(ctx, en, r)
	}
	e.mu.Lock()
	en.stale = false
	same := r.State == en.state && r.Await == en.await && r.Step == en.step
	if e.ix.unres[en.id] == en && r.State.Open() {
		same = false // it was opened again, and must not be deleted as one that nobody resolved
	}
	e.mu.Unlock()
	if !same {
		e.changed(r)
	}
	return 0
}

// save puts a settled record on disk and tells who listens. Where the journal
// does not take it, nothing is told, and the wait before trying again is returned.
func (e *Engine) save(ctx context.Context, en *entry, r *Request) time.Duration {
	if err := e.update(context.WithoutCancel(ctx), r, nil); err != nil {
		if !e.setStale(en, true) { // once for each failure, not for each try
			e.log.Error("journal did not take a transition; it is tried again", "request", r.ID, "state", r.State, "error", err)
		}
		return e.timing.RetryBase
	}
	e.setStale(en, false)
	e.changed(r)
	return 0
}

// setStale notes whether the record may be newer than the index, and returns what
// stood there before.
func (e *Engine) setStale(en *entry, stale bool) (was bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	was, en.stale = en.stale, stale
	return was
}

func (e *Engine) wipeVolatile(id string) {
	e.mu.Lock()
	s := e.volatile[id]
	delete(e.volatile, id)
	e.mu.Unlock()
	s.Wipe()
}

// secretFor fetches the secret of the step, a copy that the caller wipes.
func (e *Engine) secretFor(ctx context.Context, r *Request, p *Policy) (*secret.Value, error) {
	if !needsSecret(r, p) {
		return nil, nil
	}
	e.mu.Lock()
	v := e.volatile[r.ID].Copy()
	e.mu.Unlock()
	if v != nil {
		return v, nil
	}
	if r.Secret == "" {
		return nil, ErrSecretLost
	}
	return e.store.Secret(ctx, r)
}

// send makes one attempt. The order is the promise: the attempt is on disk, the
// audit record is written, and only then can the first byte leave.
func (e *Engine) send(ctx context.Context, en *entry, r *Request, of *Offer) time.Duration {
	p := &of.Policy
	sec, err := e.secretFor(ctx, r, p)
	if errors.Is(err, ErrSecretLost) {
		closeAs(r, Expired, ReasonSecretLost, e.now(r))
		return e.save(ctx, en, r)
	}
	if err != nil {
		e.log.Error("secret of a request cannot be opened", "request", r.ID, "error", err)
		return e.timing.RetryMax
	}
	defer sec.Wipe()
	serial, err := e.store.Serial(ctx)
	if err != nil {
		e.log.Error("journal gives no serial", "request", r.ID, "error", err)
		return e.timing.RetryBase
	}
	at := Attempt{Step: r.Step, Serial: serial, ExternalID: e.identity.ExternalID(serial), Began: e.now(r)}
	var first time.Time
	if before := r.lastArrived(); before != nil {
		// A guarded repeat: the provider is to know it by the same id.
		at.ExternalID, at.Repeat, first = before.ExternalID, true, before.Began
	}
	r.Attempts = append(r.Attempts, at)
	en.repeat = false
	r.State, r.Reason = Sending, ""
	if err := e.audit.Record(ctx, ActSend, r, r.Last(), ""); err != nil {
		e.log.Error("audit did not take the record before a send; nothing is sent", "request", r.ID, "error", err)
		return e.timing.RetryMax
	}
	if err := e.update(ctx, r, nil); err != nil {
		// Nothing has left. Should the record be on disk all the same, the next look
		// finds it; should the agent die first, it becomes a doubt, which is the safe
		// side.
		e.log.Error("journal did not take an attempt; nothing is sent", "request", r.ID, "error", err)
		e.setStale(en, true)
		en.unsent = serial
		r.Last().Ended, r.Last().Outcome = e.now(r), NotSent
		e.auditSent(ctx, r)
		return e.timing.RetryBase
	}
	e.changed(r)

	var a Answer
	if at.Repeat && !e.arrivesThatDay(first, e.now(r)) {
		a.Outcome = NotSent // the disk took so long that the day is over
		e.called(en)
	} else {
		a = e.submit(ctx, en, r, of, sec)
	}
	sec.Wipe() // the journal may take its time
	settleSubmit(r, p, e.timing, a, e.now(r))
	if r.State != Queued {
		e.wipeVolatile(r.ID)
	}
	e.auditSent(ctx, r)
	e.alarm(r, a)
	return e.finish(ctx, en, r)
}

// submit makes the call of the last attempt and tells the link what came of it.
func (e *Engine) submit(ctx context.Context, en *entry, r *Request, of *Offer, sec *secret.Value) Answer {
	ctx, cancel := context.WithTimeout(ctx, e.timing.Call)
	a := of.Provider.Submit(ctx, Call{Request: r.Clone(), Attempt: *r.Last(), Secret: sec, NewExternalID: e.newExternalID})
	cancel()
	e.learn(of.Policy.Provider, a) // before the next call may take this one's place
	e.called(en)
	return a
}

// auditSent writes the audit record after an attempt. The attempt cannot be undone
// any more, so an error is only told.
func (e *Engine) auditSent(ctx context.Context, r *Request) {
	if err := e.audit.Record(context.WithoutCancel(ctx), ActSent, r, r.Last(), ""); err != nil {
		e.log.Error("audit did not take the record after a send", "request", r.ID, "error", err)
	}
}

// finish keeps trying to put the outcome of a call on disk. What the provider
// answered is known only here; letting go would turn an answer into a doubt.
func (e *Engine) finish(ctx context.Context, en *entry, r *Request) time.Duration {
	for n := 0; ; n++ {
		wait := e.save(ctx, en, r)
		if wait == 0 {
			return 0
		}
		select {
		case <-ctx.Done():
			return wait // the stored attempt has no end: a doubt after the restart
		case <-time.After(backoff(e.timing.RetryBase, e.timing.RetryMax, n)):
		}
	}
}

// inquire asks the provider what became of a request.
func (e *Engine) inquire(ctx context.Context, en *entry, r *Request, of *Offer) time.Duration {
	a, ok := e.ask(ctx, r, of)
	if !ok {
		return 0
	}
	settleInquiry(r, &of.Policy, e.timing, a, e.now(r))
	return e.save(ctx, en, r)
}

// ask makes a read-back. ok is false where it was cut short and says nothing.
func (e *Engine) ask(ctx context.Context, r *Request, of *Offer) (a Answer, ok bool) {
	q, ok := of.Provider.(Inquirer)
	if !ok {
		return Answer{}, false
	}
	cctx, cancel := context.WithTimeout(ctx, e.timing.Call)
	a = q.Inquire(cctx, Call{Request: r.Clone(), NewExternalID: e.newExternalID})
	cancel()
	if ctx.Err() != nil {
		return Answer{}, false
	}
	e.learn(of.Policy.Provider, a)
	e.alarm(r, a)
	return a, true
}

func (e *Engine) learn(provider string, a Answer) {
	e.hear(provider)
	e.mu.Lock()
	l := e.lines[provider]
	changed := l.learn(a, e.timing, e.clock.now())
	link := e.shown(l.Link)
	e.mu.Unlock()
	if !changed {
		return
	}
	e.nudgeLine(provider)
	e.linkChanged(link, nil)
}

// nudgeLine has the link looked at anew.
func (e *Engine) nudgeLine(provider string) {
	select {
	case e.nudge[provider] <- struct{}{}:
	default:
	}
}

func (e *Engine) alarm(r *Request, a Answer) {
	if a.Alarm != "" {
		e.log.Error("operator alarm", "request", r.ID, "operation", r.Operation, "code", a.Code, "alarm", a.Alarm)
	}
}

func (e *Engine) newExternalID(ctx context.Context) (string, error) {
	n, err := e.store.Serial(ctx)
	if err != nil {
		return "", err
	}
	return e.identity.ExternalID(n), nil
}
