package txn

import (
	"context"
	"time"

	"gardu/internal/secret"
)

// idle is how long the scheduler sleeps when nothing is due.
const idle = time.Minute

// dispatch starts what is due and returns when to look again.
func (e *Engine) dispatch(ctx, calls context.Context) time.Time {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := e.clock.now()
	e.forget(ctx, now)
	later := e.askLimbo(ctx, now)
	for e.inFlight < e.limits.InFlight && len(e.ix.wakes) > 0 {
		en := e.ix.wakes[0]
		if en.wake.After(now) {
			if en.wake.Before(later) {
				return en.wake
			}
			break
		}
		due := e.dueAt(en, now)
		if due.After(now) {
			e.ix.schedule(en, due)
			continue
		}
		e.claim(en)
		e.inFlight++
		en.calling = true
		e.work.Go(func() { e.serve(calls, en) })
	}
	return later
}

// askLimbo has the journal asked now and then about what it did not know of, and
// returns when the scheduler is to look again at the latest. The customer may never
// ask again, and their place is held until the journal answers. e.mu is held.
func (e *Engine) askLimbo(ctx context.Context, now time.Time) time.Time {
	// Timers stand still while the machine sleeps, so none is set for long.
	later := now.Add(idle)
	if len(e.limbo) == 0 {
		return later
	}
	if now.Before(e.limboNext) {
		return e.limboNext
	}
	e.limboNext = now.Add(e.timing.ReadBase)
	e.work.Go(func() {
		if err := e.settleLimbo(ctx); err != nil && ctx.Err() == nil {
			e.log.Warn("journal still does not know whether it stored a request", "error", err)
		}
	})
	return e.limboNext
}

// dueAt is when something can be done for the entry: not before its own time,
// its turn, and a link, but never after time alone ends its state. e.mu is held.
func (e *Engine) dueAt(en *entry, now time.Time) time.Time {
	due := e.dueBut(en, now)
	if due.Before(en.rest) {
		return en.rest // or two that fail would wake each other without a pause
	}
	return due
}

// dueBut is dueAt without the rest that an entry has after a failure.
func (e *Engine) dueBut(en *entry, now time.Time) time.Time {
	if en.stale || en.superseded {
		return now
	}
	of := e.offer(en.op)
	due := en.due
	switch en.state {
	case Queued:
		switch free := e.free(of, now); {
		case !free && refuses(&of.Policy, en.step):
			return now
		case !free, !e.ix.head(en):
			due = now.Add(idle)
		}
	case Pending, InDoubt:
		switch {
		case en.await == AwaitOTP, !canAsk(of) && !en.repeat && of.Policy.Repeats <= 0:
			due = en.ends
		case !e.free(of, now), (en.repeat || !canAsk(of)) && !e.ix.head(en): // a repeat keeps the order
			due = now.Add(idle)
		}
	case Sending, Succeeded, Rejected, Expired, Cancelled, Unresolved:
		return now.Add(idle)
	}
	if en.ends.Before(due) {
		return en.ends
	}
	return due
}

// free reports whether a call to the provider of an offer may go out. e.mu is held.
func (e *Engine) free(of *Offer, now time.Time) bool {
	l := e.lines[of.Policy.Provider]
	return of.Provider != nil && l != nil && l.allows(now)
}

// canAsk reports whether the provider can be asked what became of a request.
func canAsk(of *Offer) bool {
	_, ok := of.Provider.(Inquirer)
	return ok && of.Policy.Readback
}

// refuses reports whether a request of which nothing was sent may not even wait
// for the link.
func refuses(p *Policy, step int) bool { return p.Enabled && !p.HoldOffline && step == 1 }

// claim makes the caller the only one who may touch the entry's record. e.mu is held.
func (e *Engine) claim(en *entry) {
	en.busy = true
	e.ix.unschedule(en)
}

// called ends the entry's part of Limits.InFlight: nothing of it is on the wire any
// more. What it came to has still to go to the disk, and the next one may begin
// meanwhile.
func (e *Engine) called(en *entry) {
	e.mu.Lock()
	was := en.calling
	if was {
		en.calling = false
		e.inFlight--
	}
	e.mu.Unlock()
	if was {
		e.poke()
	}
}

// release puts the entry back in line, to be looked at no earlier than after.
func (e *Engine) release(en *entry, after time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	en.busy, en.place = false, nil
	e.wakeLine(en.customer) // whose turn it is may hang on this one
	if e.ix.open[en.id] != en && (e.ix.unres[en.id] != en || !en.stale) {
		return // nothing more is to be done for it
	}
	now := e.clock.now()
	en.rest = now.Add(after)
	e.ix.schedule(en, e.dueAt(en, now))
}

// maxForget is how many records go in one deletion.
const maxForget = 1000

// forget starts the deletion of records that were kept long enough, one deletion
// at a time. e.mu is held.
func (e *Engine) forget(ctx context.Context, now time.Time) {
	e.ix.sweep(now)
	if e.forgetting {
		return
	}
	gone := e.ix.overdue(maxForget, now)
	if len(gone) == 0 {
		return
	}
	e.forgetting = true
	e.work.Go(func() {
		left := e.delete(ctx, gone)
		e.mu.Lock()
		e.forgetting = false
		for _, k := range left {
			e.ix.again(k, now.Add(e.timing.RetryMax))
		}
		e.mu.Unlock()
		e.poke()
	})
}

// delete deletes records and returns those that are to be tried again. What nobody
// resolved leaves an audit record, without which it stays.
func (e *Engine) delete(ctx context.Context, gone []*kept) (left []*kept) {
	var seqs []uint64
	var out []*kept
	for _, k := range gone {
		if k.unresolved {
			r, err := e.store.Get(ctx, k.seq)
			if err == nil {
				err = e.audit.Record(ctx, ActForget, r, r.Last(), "")
			}
			if err != nil {
				e.log.Error("unresolved request cannot be deleted after its time", "request", k.id, "error", err)
				left = append(left, k)
				continue
			}
			e.log.Warn("a request that nobody resolved is deleted after its time", "request", k.id)
		}
		out = append(out, k)
		seqs = append(seqs, k.seq)
	}
	if len(seqs) == 0 {
		return left
	}
	e.mu.Lock()
	for _, k := range out {
		e.ix.forget(k)
	}
	e.mu.Unlock()
	if err := e.store.Delete(ctx, seqs); err != nil {
		if ctx.Err() == nil {
			e.log.Warn("finished records not deleted; tried again", "records", len(seqs), "error", err)
		}
		for _, k := range out {
			k.unresolved = false // its audit record is written
			left = append(left, k)
		}
	}
	return left
}

func (e *Engine) poke() {
	select {
	case e.kick <- struct{}{}:
	default:
	}
}

// wakeLine has a look at every request of a customer: it may be the turn of one
// of them. e.mu is held.
func (e *Engine) wakeLine(customer string) {
	now := e.clock.now()
	for _, o := range e.ix.line[customer] {
		if !o.busy {
			e.ix.schedule(o, now)
		}
	}
	e.poke()
}

// put brings the index up to date with a record that is on disk. e.mu is held.
func (e *Engine) put(r *Request) *entry {
	return e.ix.put(r, &e.offer(r.Operation).Policy, e.timing, e.clock.at(r))
}

// now is the present by a record's own wall clock.
func (e *Engine) now(r *Request) time.Time { m := e.clock.at(r); return m.now }

// update writes a record with its times by the present wall clock.
func (e *Engine) update(ctx context.Context, r *Request, s *secret.Value) error {
	e.clock.stamp(r)
	return e.store.Update(ctx, r, s)
}

// changed brings the index up to date with a record that is on disk and tells
// who listens. The caller has claimed the entry.
func (e *Engine) changed(r *Request) {
	e.mu.Lock()
	e.put(r)
	e.wakeLine(r.Customer)
	e.mu.Unlock()
	if r.State != Queued && r.State != Sending {
		e.wipeVolatile(r.ID)
	}
	if e.onChange != nil {
		e.onChange(r.Clone())
	}
}
