package txn

import (
	"context"
	"time"
)

// idle is how long the scheduler sleeps when nothing is due.
const idle = time.Minute

// dispatch starts what is due and returns when to look again.
func (e *Engine) dispatch(ctx, calls context.Context) time.Time {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := time.Now()
	e.forget(ctx, now)
	e.askLimbo(ctx, now)
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

// askLimbo has the journal asked now and then about what it did not know of. The
// customer may never ask again, and their place is held until it answers. e.mu is held.
func (e *Engine) askLimbo(ctx context.Context, now time.Time) {
	if len(e.limbo) == 0 || now.Before(e.limboNext) {
		return
	}
	e.limboNext = now.Add(e.timing.ReadBase)
	time.AfterFunc(e.timing.ReadBase, e.poke)
	e.work.Go(func() {
		if err := e.settleLimbo(ctx); err != nil && ctx.Err() == nil {
			e.log.Warn("journal still does not know whether it stored a request", "error", err)
		}
	})
}

// dueAt is when something can be done for the entry: not before its own time,
// its turn, and a link, but never after it expires. e.mu is held.
func (e *Engine) dueAt(en *entry, now time.Time) time.Time {
	far := now.Add(idle)
	if en.stale || en.superseded {
		return now
	}
	switch en.state {
	case Queued:
		if !en.expires.After(now) {
			return now
		}
		due := en.due
		if l := e.lineOf(en); l == nil || !l.allows(now) {
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

// lineOf is the line to the provider of an entry's operation, or nil.
func (e *Engine) lineOf(en *entry) *line {
	if of := e.offers[en.op]; of != nil {
		return e.lines[of.Policy.Provider]
	}
	return nil
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
	defer e.poke() // it may be due before the scheduler's next look
	en.busy, en.place = false, nil
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
	if r.State != Queued && r.State != Sending {
		e.wipeVolatile(r.ID)
	}
	if e.onChange != nil {
		e.onChange(r.Clone())
	}
}
