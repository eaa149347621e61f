package txn

import (
	"time"
)

// settling is one request on its way from one state to the next: the record,
// which is changed, and what decides.
type settling struct {
	r   *Request
	p   *Policy
	t   Timing
	a   Answer // to a call or a read-back; empty where time alone decides
	now time.Time
}

// transition is one line of a table. The first line whose outcome and condition
// fit is the one that counts.
type transition struct {
	outcome Outcome // of the answer; 0 is any
	when    string  // the condition in words
	is      func(*settling) bool
	then    func(*settling)
}

func settle(table []transition, s *settling) {
	for _, line := range table {
		if (line.outcome == 0 || line.outcome == s.a.Outcome) && line.is(s) {
			line.then(s)
			return
		}
	}
}

func always(*settling) bool { return true }

// submitted says what the answer to a call makes of its request. It is the one
// place where a call's outcome becomes a state. Secrets end on every line but
// those that go back to queued.
var submitted = []transition{
	{NotSent, "an earlier call of this step may have arrived", repeated, stayInDoubt},
	{NotSent, "what was wrong has been mended", mended, again},
	{NotSent, "it may not wait for the link", mayNotWait, refuseOffline},
	{NotSent, "its time is over", overdue, expire},
	{NotSent, "otherwise", always, wait},

	{WentPending, "the customer has to bring an OTP for the second step", wantsOTP, awaitOTP},
	{WentPending, "the customer has to finish a page", wantsPage, awaitPage},
	{WentPending, "otherwise, the provider is still at it", always, pend},

	{WasRejected, "an earlier call of this step may have arrived: a no to a repeat says nothing about it", repeated, stayInDoubt},
	{WasRejected, "the OTP was wrong, and there are tries and time left", mayTryOTP, awaitOTPAgain},
	{WasRejected, "the OTP was wrong, and its time is over", lateOTP, rejectLateOTP},
	{WasRejected, "the OTP was wrong once too often", wrongOTP, rejectOTP},
	{WasRejected, "otherwise", always, reject},

	{HasSucceeded, "always", always, succeed},

	{Unknown, "always", always, doubt},
	{0, "a provider that returns no outcome has told us nothing", always, doubtUnreadable},
}

// settleSubmit makes of a sending request what the answer to its last attempt says.
func settleSubmit(r *Request, p *Policy, t Timing, a Answer, now time.Time) {
	note(r, &a, now)
	settle(submitted, &settling{r, p, t, a, now})
}

func repeated(s *settling) bool   { return s.r.mayHaveArrived(len(s.r.Attempts) - 1) }
func mended(s *settling) bool     { return s.a.Again && !s.r.triedAgain() }
func mayNotWait(s *settling) bool { return refuses(s.p, s.r.Step) }
func overdue(s *settling) bool    { return !s.now.Before(s.r.Expires) }
func wantsPage(s *settling) bool  { return s.a.Await == AwaitLink }
func wrongOTP(s *settling) bool   { return s.a.Await == AwaitOTP && s.r.Step > 1 }

func wantsOTP(s *settling) bool {
	return s.a.Await == AwaitOTP && s.p.OTP != nil && s.r.Step == 1
}

func mayTryOTP(s *settling) bool {
	return wrongOTP(s) && s.p.OTP != nil && s.r.otpTries() < maxOTPTries && s.now.Before(s.r.AwaitTill)
}

// maxOTPTries bounds how often one OTP request may be answered wrongly here,
// whatever the provider allows.
const maxOTPTries = 3

// again is for what has been mended: it goes out anew at once.
func again(s *settling) {
	s.r.State, s.r.Reason, s.r.NotBefore = Queued, s.a.Reason, s.now
}

func wait(s *settling) {
	s.r.State, s.r.Reason, s.r.NotBefore = Queued, s.a.Reason, s.now.Add(patience(s.a, s.t, s.r.Tries))
	s.r.Tries++
}

func refuseOffline(s *settling) { closeAs(s.r, Cancelled, ReasonOfflineRefused, s.now) }
func reject(s *settling)        { closeAs(s.r, Rejected, s.a.Reason, s.now) }
func succeed(s *settling)       { closeAs(s.r, Succeeded, s.a.Reason, s.now) }

func lateOTP(s *settling) bool  { return wrongOTP(s) && !s.now.Before(s.r.AwaitTill) }
func rejectLateOTP(s *settling) { closeAs(s.r, Rejected, ReasonOTPExpired, s.now) }
func rejectOTP(s *settling)     { closeAs(s.r, Rejected, ReasonOTPLimit, s.now) }

func expire(s *settling) {
	why := ReasonWaitedTooLong
	if s.r.Step > 1 {
		why = ReasonOTPTimeout
	}
	closeAs(s.r, Expired, why, s.now)
}

// awaitOTP moves on to the second step, which the customer's password begins.
func awaitOTP(s *settling) {
	s.open(Pending, AwaitOTP)
	s.r.Step, s.r.AwaitTill = 2, s.now.Add(s.a.AwaitFor)
	s.r.NotBefore = s.r.AwaitTill
}

func awaitOTPAgain(s *settling) {
	s.open(Pending, AwaitOTP)
	s.r.NotBefore = s.r.AwaitTill
}

func awaitPage(s *settling) {
	s.open(Pending, AwaitLink)
	s.r.AwaitTill = s.now.Add(s.a.AwaitFor)
	s.r.NotBefore = s.now.Add(pageEvery(s.p))
}

func pend(s *settling) {
	s.open(Pending, "")
	s.r.DoubtFrom = s.now
	s.r.NotBefore = nextRead(s)
}

// doubt is for a call that may have had its effect.
func doubt(s *settling) {
	if !repeated(s) {
		s.r.DoubtFrom = s.now
	}
	s.open(InDoubt, "")
	s.r.NotBefore = nextRead(s)
}

// stayInDoubt is for a repeat that says nothing about the call before it: the
// doubt is as old as it was.
func stayInDoubt(s *settling) {
	if at := s.r.lastArrived(); at != nil {
		s.a.Reason = at.Reason
	}
	doubt(s)
}

func doubtUnreadable(s *settling) {
	s.a.Reason = ReasonUnreadable
	if at := s.r.Last(); at != nil {
		at.Outcome, at.Reason = Unknown, s.a.Reason
	}
	doubt(s)
}

// open puts the request into a state in which nothing more is sent by itself.
func (s *settling) open(st State, what Await) {
	s.r.State, s.r.Reason, s.r.Await, s.r.Secret, s.r.Tries = st, s.a.Reason, what, "", 0
}

// settleRestart makes of a request what the agent finds when it starts: an
// attempt that began and did not finish is a doubt. It reports whether it was one.
func settleRestart(r *Request, p *Policy, t Timing, now time.Time) bool {
	if r.State != Sending {
		return false
	}
	if at := r.Last(); at != nil && at.Outcome == 0 {
		at.Ended, at.Outcome, at.Reason = now, Unknown, ReasonRestart
	}
	doubt(&settling{r, p, t, Answer{Reason: ReasonRestart}, now})
	return true
}

// settleBehind makes of a request what a journal is worth that was put back from a
// copy: what it shows as unsent may have been sent since. It reports whether that
// changed anything.
func settleBehind(r *Request, p *Policy, t Timing, now time.Time) bool {
	if r.State != Queued && (r.State != Pending || r.Await != AwaitOTP) {
		return false
	}
	r.DoubtFrom = now
	s := &settling{r, p, t, Answer{Reason: ReasonJournalBehind}, now}
	s.open(InDoubt, "")
	r.NotBefore = nextRead(s)
	return true
}

func closeAs(r *Request, s State, why Reason, now time.Time) {
	r.State, r.Reason, r.Await, r.Secret, r.Tries = s, why, "", "", 0
	r.Closed = now
	delete(r.Data, DataLinkURL) // a finished request needs its customer's link no more
}
