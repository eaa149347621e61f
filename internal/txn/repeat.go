package txn

import (
	"time"
)

// wib is the time zone by whose days providers remember external ids (UTC+7).
var wib = time.FixedZone("WIB", 7*60*60)

// lastArrived is the newest attempt of the present step that may have arrived.
func (r *Request) lastArrived() *Attempt {
	for i := len(r.Attempts) - 1; i >= 0; i-- {
		if at := &r.Attempts[i]; at.Step == r.Step && at.mayHaveArrived() {
			return at
		}
	}
	return nil
}

// repeats is how many guarded repeats of the present step were made.
func (r *Request) repeats() int {
	n := 0
	for i := range r.Attempts {
		if r.Attempts[i].Step == r.Step && r.Attempts[i].Repeat {
			n++
		}
	}
	return n
}

// cannotRepeat says why a doubt cannot be repeated under its own references, or
// "" where it can. Whether it may is for Policy.Repeats to say.
func (e *Engine) cannotRepeat(r *Request, p *Policy) string {
	at := r.lastArrived()
	m := e.clock.at(r)
	switch {
	case at == nil:
		return "no attempt of it is known"
	case needsSecret(r, p):
		return "what it needs was destroyed with its first attempt"
	case !m.Kept || !m.sure:
		return "this machine's clock cannot be believed, and a provider knows a repeat on the same day only"
	case r.Undated:
		return "the machine was off for a time that nobody knows, and a provider knows a repeat on the same day only"
	case !e.arrivesThatDay(at.Began, m.now):
		return "the day is over or ends within minutes, and a provider knows a repeat on the same day only"
	}
	return ""
}

// midnight is kept clear on either side of a call: the provider's clock says which
// day it is, and it is not exactly ours.
const midnight = time.Minute

// arrivesThatDay reports whether a call that goes out now arrives on the day on
// which another one went out and arrived, however long each takes.
func (e *Engine) arrivesThatDay(other, now time.Time) bool {
	return sameDay(other.Add(-midnight), now.Add(e.timing.Call+midnight))
}

func sameDay(a, b time.Time) bool {
	ay, am, ad := a.In(wib).Date()
	by, bm, bd := b.In(wib).Date()
	return ay == by && am == bm && ad == bd
}

// mayRepeat reports whether the engine may repeat a doubt by itself: where the
// policy allows it and nobody can be asked instead, once the last call has had its
// quiet time, and while the request might still be sent for the first time. After
// that its customer is gone, and only an operator knows better.
func mayRepeat(r *Request, p *Policy, now time.Time) bool {
	return r.State == InDoubt && !p.Readback && r.repeats() < p.Repeats && !now.Before(quietFrom(r).Add(p.Quiet)) && now.Before(r.Expires)
}
