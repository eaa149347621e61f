package txn

import (
	"time"
)

// inquired says what a read-back makes of a request that is pending or in doubt.
// HasSucceeded means here that the effect is there, WasRejected that it is not
// (yet); everything else taught nothing.
var inquired = []transition{
	{HasSucceeded, "the effect is there", always, confirm},
	{WasRejected, "it is not there, and the page and the quiet time are over", quietPage, timeoutPage},
	{WasRejected, "it is not there after the quiet time, and by itself the call changes nothing", quietHarmless, changedNothing},
	{WasRejected, "it is not there after the quiet time", quiet, rejectUnprocessed},
	{0, "the time to settle is over", unsettled, unresolve},
	{0, "the customer is on their page", onLivePage, lookAtPage},
	{0, "otherwise", always, askLater},
}

// settleInquiry makes of a pending or doubtful request what a read-back says.
func settleInquiry(r *Request, p *Policy, t Timing, a Answer, now time.Time) {
	if a.Code != "" {
		r.Code = clip(a.Code, maxCode)
	}
	settle(inquired, &settling{r, p, t, a, now})
}

// settleLate makes of an unresolved request what a read-back says that an operator
// asked for: only an answer that is final counts.
func settleLate(r *Request, p *Policy, a Answer, now time.Time) {
	if s := (&settling{r, p, Timing{}, a, now}); a.Outcome == HasSucceeded || a.Outcome == WasRejected && quiet(s) {
		settle(inquired, s)
	}
}

func onPage(s *settling) bool    { return s.r.State == Pending && s.r.Await == AwaitLink }
func quiet(s *settling) bool     { return !s.now.Before(quietFrom(s.r).Add(s.p.Quiet)) }
func quietPage(s *settling) bool { return onPage(s) && quiet(s) }
func unsettled(s *settling) bool { return !s.now.Before(endOf(s.r, s.p)) }

func onLivePage(s *settling) bool { return onPage(s) && s.now.Before(s.r.AwaitTill) }

// quietHarmless: of two steps the first changes nothing by itself, and so do calls
// whose policy says it.
func quietHarmless(s *settling) bool {
	return quiet(s) && (s.p.NotThere == Expired || s.p.OTP != nil && s.r.Step == 1)
}

func confirm(s *settling)           { closeAs(s.r, Succeeded, ReasonConfirmed, s.now) }
func timeoutPage(s *settling)       { closeAs(s.r, Expired, ReasonLinkTimeout, s.now) }
func changedNothing(s *settling)    { closeAs(s.r, Expired, ReasonNothingChanged, s.now) }
func rejectUnprocessed(s *settling) { closeAs(s.r, Rejected, ReasonNotProcessed, s.now) }
func unresolve(s *settling)         { closeAs(s.r, Unresolved, ReasonNoReadback, s.now) }

func lookAtPage(s *settling) {
	if s.a.Outcome == WentPending && s.a.Reason != "" {
		s.r.Reason = s.a.Reason
	}
	s.r.Tries, s.r.NotBefore = 0, s.now.Add(pageEvery(s.p))
}

func askLater(s *settling) {
	s.r.Tries++
	s.r.NotBefore = nextRead(s)
}

// elapsed says what the mere passing of time makes of an open request whose state
// has come to its end by endOf.
var elapsed = []transition{
	{0, "nothing that may have arrived, and its time is over", unsentQueued, expire},
	{0, "no one-time password came", awaitsOTP, timeoutOTP},
	{0, "the time to settle is over", doubted, unresolve},
}

// settleTime makes of a request what the mere passing of time does, and reports
// whether it did anything. Where somebody can be asked, the last read-back decides
// about a doubt.
func settleTime(r *Request, p *Policy, canAsk bool, now time.Time) bool {
	s := &settling{r: r, p: p, now: now}
	if !r.State.Open() || now.Before(endOf(r, p)) || doubted(s) && canAsk {
		return false
	}
	before := r.State
	settle(elapsed, s)
	return r.State != before
}

func unsentQueued(s *settling) bool { return s.r.State == Queued && !s.r.MayHaveBeenSent() }
func awaitsOTP(s *settling) bool    { return s.r.State == Pending && s.r.Await == AwaitOTP }
func doubted(s *settling) bool {
	return s.r.State == InDoubt || s.r.State == Pending && !awaitsOTP(s)
}

func timeoutOTP(s *settling) { closeAs(s.r, Expired, ReasonOTPTimeout, s.now) }

// endOf is when time alone ends the present state of an open request.
func endOf(r *Request, p *Policy) time.Time {
	switch {
	case r.State == Queued:
		return r.Expires
	case r.State == Pending && r.Await == AwaitOTP:
		return r.AwaitTill
	case r.State == Pending && r.Await == AwaitLink:
		return r.AwaitTill.Add(p.Settle) // on their page there is nothing to doubt
	}
	return r.DoubtFrom.Add(p.Settle)
}

// quietFrom is from when the quiet time counts: the end of the page, or of the
// last call that may have arrived.
func quietFrom(r *Request) time.Time {
	from := r.DoubtFrom
	if r.State == Pending && r.Await == AwaitLink {
		from = r.AwaitTill
	}
	for i := range r.Attempts {
		if at := &r.Attempts[i]; at.Step == r.Step && at.mayHaveArrived() && at.Ended.After(from) {
			from = at.Ended
		}
	}
	return from
}

// pageEvery is the pause between read-backs while the customer is on the page;
// a policy without one must not make the engine spin.
func pageEvery(p *Policy) time.Duration { return max(p.ReadbackEvery, time.Second) }

// nextRead is when a read-back or a guarded repeat is due; without either, when
// time ends the doubt.
func nextRead(s *settling) time.Time {
	end := endOf(s.r, s.p)
	if !s.p.Readback && s.r.State == InDoubt && s.r.repeats() < s.p.Repeats {
		if q := quietFrom(s.r).Add(s.p.Quiet); q.Before(end) && q.Before(s.r.Expires) {
			return q // the first moment at which it may be repeated
		}
	}
	if !s.p.Readback {
		return end
	}
	next := s.now.Add(backoff(s.t.ReadBase, s.t.ReadMax, s.r.Tries))
	if q := quietFrom(s.r).Add(s.p.Quiet); s.now.Before(q) && next.After(q) {
		next = q // the first moment at which "not there" counts
	}
	if next.After(end) {
		next = end
	}
	return next
}
