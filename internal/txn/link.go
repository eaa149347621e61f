package txn

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"
)

// line is the engine's view of one provider: whether calls may go out, and when
// to look again where they may not. The engine's mutex guards it.
type line struct {
	Link
	prober   Prober // nil where the provider has none
	keeper   Timekeeper
	trial    time.Time // without a prober: a call is finding out, and no other goes out before
	fails    int       // in a row
	silent   int       // calls in a row that got no answer at all
	lastUsed time.Time
}

// silentLimit is after how many calls in a row without any answer a link counts
// as down. One alone may be a slow customer record; three are a dead route, and
// every further one would only add a doubt.
const silentLimit = 3

// allows reports whether a call may go out now.
func (l *line) allows(now time.Time) bool {
	if l.Up || !l.Known {
		return true
	}
	// Without a probe the next call itself must be the one that finds out.
	return l.prober == nil && !now.Before(l.NextTry) && !now.Before(l.trial)
}

// try notes that a call is on its way over a line that is not known to be up.
func (l *line) try(t Timing, now time.Time) {
	if l.Known && !l.Up {
		l.trial = now.Add(t.Call)
	}
}

// bound reports whether the provider asked to be left alone, or a person has to
// look at it first. Only time or an operator ends that: the answer to a call that
// was under way says nothing against it.
func (l *line) bound(now time.Time) bool {
	return l.Known && !l.Up && (l.Held || l.Reason == ReasonThrottled) && now.Before(l.NextTry)
}

func (l *line) up(now time.Time) (changed bool) {
	l.trial = time.Time{}
	if l.bound(now) {
		return false
	}
	changed = !l.Known || !l.Up
	if changed {
		l.Since = now
	}
	l.Known, l.Up, l.Held, l.Reason, l.fails, l.silent, l.NextTry = true, true, false, "", 0, 0, time.Time{}
	l.lastUsed = now
	return changed
}

func (l *line) down(why Reason, next time.Time, held bool, now time.Time) (changed bool) {
	l.trial = time.Time{}
	if l.bound(now) {
		if !held && (l.Held || why != ReasonThrottled) {
			return false
		}
		if l.NextTry.After(next) {
			next = l.NextTry
		}
	}
	changed = !l.Known || l.Up || l.Reason != why || l.Held != held || !l.NextTry.Equal(next)
	if !l.Known || l.Up {
		l.Since = now
	}
	l.Known, l.Up, l.Held, l.Reason, l.NextTry = true, false, held, why, next
	l.fails++
	l.lastUsed = now
	return changed
}

// learn takes from an answer what it says of the link, and reports a change.
func (l *line) learn(a Answer, t Timing, now time.Time) bool {
	switch {
	case a.Hold:
		return l.down(a.Reason, now.Add(t.Hold), true, now)
	case a.Outcome == NotSent && linkReason(a.Reason):
		return l.down(a.Reason, now.Add(backoff(t.RetryBase, t.RetryMax, l.fails)), false, now)
	case a.Outcome == NotSent && a.Reason == ReasonThrottled:
		return l.down(a.Reason, now.Add(patience(a, t, l.fails)), false, now)
	case a.HTTPStatus > 0:
		return l.up(now)
	case a.Outcome == Unknown:
		l.silent++
		if l.silent >= silentLimit {
			return l.down(ReasonNoAnswer, now.Add(backoff(t.RetryBase, t.RetryMax, l.fails)), false, now)
		}
	}
	l.trial = time.Time{}
	return false
}

// linkReason reports whether a request waits for nothing but the link.
func linkReason(r Reason) bool { return r == ReasonLinkDown || r == ReasonLinkUntrusted }

// watch looks at one provider's link for as long as ctx lives: at once, then
// whenever a link that is down may be tried again, and now and then while no
// traffic shows that it works. One probe at a time.
func (e *Engine) watch(ctx context.Context, name string) {
	for {
		e.mu.Lock()
		l := e.lines[name]
		prober, now := l.prober, e.clock.now()
		var wait time.Duration
		switch {
		case !l.Known:
		case l.Up:
			wait = l.lastUsed.Add(e.timing.Probe).Sub(now)
		default:
			wait = l.NextTry.Sub(now)
		}
		e.mu.Unlock()
		if prober == nil {
			return
		}
		if wait > 0 {
			select {
			case <-ctx.Done():
				return
			case <-e.nudge[name]:
			case <-time.After(wait):
			}
			continue
		}
		e.probe(ctx, name, prober)
		if ctx.Err() != nil {
			return
		}
	}
}

func (e *Engine) probe(ctx context.Context, name string, p Prober) {
	pctx, cancel := context.WithTimeout(ctx, e.timing.Call)
	err := p.Probe(pctx)
	cancel()
	if ctx.Err() != nil {
		return
	}
	e.hear(name) // before the line counts as known
	now := e.clock.now()
	e.mu.Lock()
	l := e.lines[name]
	var changed bool
	if err == nil {
		changed = l.up(now)
	} else {
		why, held := ReasonLinkDown, false
		var pe *ProbeError
		if errors.As(err, &pe) {
			why, held = pe.Reason, pe.Hold
		}
		next := now.Add(backoff(e.timing.RetryBase, e.timing.RetryMax, l.fails))
		if held {
			next = now.Add(e.timing.Hold)
		}
		changed = l.down(why, next, held, now)
	}
	link := e.shown(l.Link)
	e.mu.Unlock()
	if changed {
		e.linkChanged(link, err)
	}
}

// shown is a link with its times on the wall clock.
func (e *Engine) shown(l Link) Link {
	l.Since, l.NextTry = e.clock.shown(l.Since), e.clock.shown(l.NextTry)
	return l
}

// hear asks a provider for its platform's time, which it may have from what was
// just answered.
func (e *Engine) hear(name string) {
	k := e.lines[name].keeper
	if k == nil {
		return
	}
	t, ok := k.Time()
	if !ok {
		return
	}
	if off, news := e.clock.hear(t); news {
		e.log.Warn("this machine's clock and a provider's are apart; check the time service", "provider", name, "difference", off.Round(time.Second))
	}
}

// unheard reports whether a provider that knows the time has not been asked yet.
func (e *Engine) unheard(name string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	l := e.lines[name]
	return l != nil && l.keeper != nil && l.prober != nil && !l.Known
}

// linkChanged tells everybody, and wakes what waited for the link. Two changes at
// once are told one after the other, and each tells how the link stands by then: the
// last word is never an older one.
func (e *Engine) linkChanged(l Link, err error) {
	if l.Up {
		e.log.Info("provider link is up", "provider", l.Provider)
	} else {
		attrs := []any{"provider", l.Provider, "reason", l.Reason, "held", l.Held, "next_try", l.NextTry}
		if err != nil { // what a call taught has been said with its request
			attrs = append(attrs, "error", err)
		}
		e.log.Warn("provider link is down", attrs...)
	}
	if e.onLink != nil {
		e.telling.Lock()
		e.mu.Lock()
		now := e.shown(e.lines[l.Provider].Link)
		e.mu.Unlock()
		e.onLink(now)
		e.telling.Unlock()
	}
	if l.Up {
		e.wakeProvider(l.Provider)
	}
}

// wakeProvider makes due what waits for a provider's link, after this kiosk's
// own random share of the stagger, so that a branch network that comes back is
// not met by every kiosk in the same second.
func (e *Engine) wakeProvider(name string) {
	wake := e.clock.now()
	if s := e.timing.LinkStagger; s > 0 {
		wake = wake.Add(time.Duration(rand.Int64N(int64(s)))) //nolint:gosec // jitter, nobody's secret
	}
	e.mu.Lock()
	for _, en := range e.ix.open {
		of := e.offers[en.op]
		if en.busy || of == nil || of.Policy.Provider != name {
			continue
		}
		switch {
		case en.state == Queued && (en.reason == "" || linkReason(en.reason)), en.state == InDoubt, en.state == Pending && en.await == "":
			en.due = wake
		}
		if en.wake.After(wake) {
			e.ix.schedule(en, wake)
		}
	}
	e.mu.Unlock()
	e.poke()
}
