package txn

import (
	"strings"
	"time"
)

// maxOTPTries bounds how often one OTP request may be answered wrongly here,
// whatever the provider allows.
const maxOTPTries = 3

// settleSubmit makes of a sending request what the answer to its last attempt
// says. It is the one place where a call's outcome becomes a state:
//
//	outcome       | earlier calls of this step | becomes
//	NotSent       | none that may have arrived | queued again, or expired after its time, or cancelled where it may not wait
//	NotSent       | one that may have arrived  | in_doubt, as before the call
//	Unknown       | any                        | in_doubt
//	WentPending   | any                        | pending; awaiting an OTP moves on to step 2
//	WasRejected   | with an OTP wanted again   | pending, until the tries are used up
//	WasRejected   | any                        | rejected
//	HasSucceeded  | any                        | succeeded
func settleSubmit(r *Request, p *Policy, t Timing, a Answer, now time.Time) {
	at := r.Last()
	note(r, &a, now)
	switch a.Outcome {
	case NotSent:
		settleNotSent(r, p, t, a, now)
	case WentPending:
		pend(r, p, t, a, now)
	case WasRejected:
		if a.Await == AwaitOTP && otpTries(r) < maxOTPTries && now.Before(r.AwaitTill) {
			r.State, r.Reason, r.Await, r.Secret = Pending, a.Reason, AwaitOTP, ""
			r.NotBefore = r.AwaitTill
			return
		}
		if a.Await == AwaitOTP {
			a.Reason = ReasonOTPBlocked
		}
		closeAs(r, Rejected, a.Reason, now)
	case HasSucceeded:
		closeAs(r, Succeeded, a.Reason, now)
	case Unknown:
		doubt(r, p, t, a.Reason, now)
	default:
		// A provider that returns no outcome has told us nothing: that is a doubt.
		at.Outcome = Unknown
		doubt(r, p, t, ReasonUnreadable, now)
	}
}

// Bounds of what a record keeps, so that it always fits into the journal: one
// that does not could not even be ended.
const (
	maxAttempts  = 40
	maxCode      = 32
	maxText      = 200
	maxDataItem  = 10 << 10
	maxDataItems = 16
)

// note puts what an answer says into the record.
func note(r *Request, a *Answer, now time.Time) {
	a.Code, a.Text = clip(a.Code, maxCode), clip(a.Text, maxText)
	at := r.Last()
	at.Ended, at.Outcome, at.Reason, at.Code = now, a.Outcome, a.Reason, a.Code
	r.Code = a.Code
	for k, v := range a.Data {
		r.keep(k, v)
	}
	if a.Text != "" {
		r.keep(DataAnswerText, a.Text)
	}
	if a.Cooldown > 0 {
		r.Cooldown = now.Add(a.Cooldown)
	}
	r.trim()
}

// clip cuts s to n bytes, whole characters only.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "")
}

// keep stores a value of an answer, or nothing of it where it is out of bounds.
func (r *Request) keep(key, value string) {
	if r.Data == nil {
		r.Data = map[string]string{}
	}
	if _, there := r.Data[key]; len(value) <= maxDataItem && (there || len(r.Data) < maxDataItems) {
		r.Data[key] = value
	}
}

// trim leaves out the oldest attempts but the first that certainly were not sent.
// Their audit records stay.
func (r *Request) trim() {
	for i := 1; i < len(r.Attempts)-1 && len(r.Attempts) > maxAttempts; {
		if r.Attempts[i].Outcome != NotSent {
			i++
			continue
		}
		r.Attempts = append(r.Attempts[:i], r.Attempts[i+1:]...)
		r.Omitted++
	}
}

func settleNotSent(r *Request, p *Policy, t Timing, a Answer, now time.Time) {
	switch {
	case r.MayHaveBeenSent():
		doubt(r, p, t, a.Reason, now)
	case a.Again && !r.triedAgain():
		r.State, r.Reason, r.NotBefore = Queued, a.Reason, now
	case !p.HoldOffline && r.Step == 1:
		closeAs(r, Cancelled, ReasonOfflineRefused, now)
	case !now.Before(r.Expires):
		expire(r, now)
	default:
		r.State, r.Reason, r.NotBefore = Queued, a.Reason, now.Add(patience(a, t, r.Tries))
		r.Tries++
	}
}

// triedAgain reports whether the attempt before the last one already was
// answered "again": what was mended then did not help, so this is a failure like
// any other and not a reason for a loop.
func (r *Request) triedAgain() bool {
	n := len(r.Attempts)
	if n < 2 {
		return false
	}
	prev, last := r.Attempts[n-2], r.Attempts[n-1]
	return prev.Step == last.Step && prev.Outcome == NotSent && prev.Reason == last.Reason
}

func otpTries(r *Request) int {
	n := 0
	for i := range r.Attempts {
		if r.Attempts[i].Step == r.Step && r.Attempts[i].Outcome == WasRejected {
			n++
		}
	}
	return n
}

// pend is for an answer that leaves something to do for somebody else.
func pend(r *Request, p *Policy, t Timing, a Answer, now time.Time) {
	r.State, r.Reason, r.Await, r.Secret, r.Tries = Pending, a.Reason, a.Await, "", 0
	r.DoubtFrom = now
	switch a.Await {
	case AwaitOTP:
		r.Step++
		r.AwaitTill = now.Add(a.AwaitFor)
		r.NotBefore = r.AwaitTill
	case AwaitLink:
		r.AwaitTill = now.Add(a.AwaitFor)
		r.NotBefore = now.Add(pageEvery(p))
	default:
		r.NotBefore = nextRead(r, p, t, now)
	}
}

// pageEvery is the pause between read-backs while the customer is on the page;
// a policy without one must not make the engine spin.
func pageEvery(p *Policy) time.Duration { return max(p.ReadbackEvery, time.Second) }

// doubt is for a call that may have had its effect.
func doubt(r *Request, p *Policy, t Timing, why Reason, now time.Time) {
	r.State, r.Reason, r.Await, r.Secret, r.Tries = InDoubt, why, "", "", 0
	r.DoubtFrom = now
	r.NotBefore = nextRead(r, p, t, now)
}

// nextRead is when a read-back is due; without one, when the doubt becomes unresolved.
func nextRead(r *Request, p *Policy, t Timing, now time.Time) time.Time {
	return nextReadFrom(r.DoubtFrom, r, p, t, now)
}

// nextReadFrom counts the quiet time and the time to settle from the given moment.
func nextReadFrom(from time.Time, r *Request, p *Policy, t Timing, now time.Time) time.Time {
	end := from.Add(p.Settle)
	if !p.Readback {
		return end
	}
	next := now.Add(backoff(t.ReadBase, t.ReadMax, r.Tries))
	if quiet := from.Add(p.Quiet); now.Before(quiet) && next.After(quiet) {
		next = quiet // the first moment at which "not there" counts
	}
	if next.After(end) {
		next = end
	}
	return next
}

// settleInquiry makes of a pending or doubtful request what a read-back says:
//
//	the read-back says    | pending on the customer's page           | in doubt, or pending at the provider
//	the effect is there   | succeeded                                | succeeded
//	not there             | expired, once the page and the quiet time are over | Policy.NotThere, once the quiet time is over
//	still at it, nothing  | asked again; unresolved after Settle     | asked again; unresolved after Settle
func settleInquiry(r *Request, p *Policy, t Timing, a Answer, now time.Time) {
	if a.Code != "" {
		r.Code = a.Code
	}
	onPage := r.State == Pending && r.Await == AwaitLink
	from := doubtSince(r)
	switch a.Outcome {
	case HasSucceeded:
		closeAs(r, Succeeded, ReasonConfirmed, now)
		return
	case WasRejected:
		if !now.Before(from.Add(p.Quiet)) {
			notThere(r, p, onPage, now)
			return
		}
	case NotSent, Unknown, WentPending:
	}
	if !now.Before(from.Add(p.Settle)) {
		closeAs(r, Unresolved, ReasonNoReadback, now)
		return
	}
	r.Tries++
	if onPage && now.Before(r.AwaitTill) {
		r.Tries = 0
		r.NotBefore = now.Add(pageEvery(p))
		return
	}
	r.NotBefore = nextReadFrom(from, r, p, t, now)
}

func notThere(r *Request, p *Policy, onPage bool, now time.Time) {
	switch {
	case onPage:
		closeAs(r, Expired, ReasonLinkTimeout, now)
	case p.NotThere == Expired, r.Operation == FinpayUnbind && r.Step == 1:
		closeAs(r, Expired, ReasonNothingChanged, now)
	default:
		closeAs(r, Rejected, ReasonNotProcessed, now)
	}
}

// endOf is when time alone ends the present state of an open request.
func endOf(r *Request, p *Policy) time.Time {
	switch {
	case r.State == Queued:
		return r.Expires
	case r.State == Pending && r.Await == AwaitOTP:
		return r.AwaitTill
	}
	return doubtSince(r).Add(p.Settle)
}

// doubtSince is from when quiet time and time to settle count: while the customer
// is on their page there is nothing to doubt.
func doubtSince(r *Request) time.Time {
	if r.State == Pending && r.Await == AwaitLink {
		return r.AwaitTill
	}
	return r.DoubtFrom
}

// settleTime makes of a request what the mere passing of time does, and reports
// whether it did anything:
//
//	queued, nothing possibly sent  | expired after its time
//	pending, awaiting an OTP       | expired after the OTP's time
//	pending otherwise, in doubt    | unresolved after Settle, where nobody can be asked
//
// Where somebody can be asked, the last read-back decides.
func settleTime(r *Request, p *Policy, canAsk bool, now time.Time) bool {
	if !r.State.Open() || now.Before(endOf(r, p)) {
		return false
	}
	switch {
	case r.State == Queued && !r.MayHaveBeenSent():
		expire(r, now)
	case r.State == Pending && r.Await == AwaitOTP:
		closeAs(r, Expired, ReasonOTPTimeout, now)
	case (r.State == Pending || r.State == InDoubt) && !canAsk:
		closeAs(r, Unresolved, ReasonNoReadback, now)
	default:
		return false
	}
	return true
}

// settleRestart makes of a request what the agent finds when it starts: an
// attempt that began and did not finish is a doubt.
func settleRestart(r *Request, p *Policy, t Timing, now time.Time) bool {
	if r.State != Sending {
		return false
	}
	if at := r.Last(); at != nil && at.Outcome == 0 {
		at.Ended, at.Outcome, at.Reason = now, Unknown, ReasonRestart
	}
	doubt(r, p, t, ReasonRestart, now)
	return true
}

func expire(r *Request, now time.Time) {
	why := ReasonWaitedTooLong
	if r.Step > 1 {
		why = ReasonOTPTimeout
	}
	closeAs(r, Expired, why, now)
}

func closeAs(r *Request, s State, why Reason, now time.Time) {
	r.State, r.Reason, r.Await, r.Secret, r.Tries = s, why, "", "", 0
	r.Closed = now
	delete(r.Data, DataLinkURL) // a finished request needs its customer's link no more
}
