package txn

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// asker is a provider that can be asked; mute is one that cannot.
type (
	mute  struct{}
	asker struct{ mute }
)

func (mute) Submit(context.Context, Call) Answer   { return Answer{} }
func (asker) Inquire(context.Context, Call) Answer { return Answer{} }

// allowed is the rule of an act in other words than the engine's: nil where it may
// be done.
func allowed(act string, r *Request, p *Policy, asks, alone, sameDay bool) error {
	waits := r.Await == AwaitOTP || r.Await == AwaitLink
	maybe := r.MayHaveBeenSent()
	doubt := r.State == InDoubt || r.State == Unresolved
	var heldBack error
	if alone {
		heldBack = ErrLeftAlone
	}
	switch act {
	case ActCancel:
		switch {
		case r.State == Queued && len(r.Attempts) == 0, r.State == Queued && !r.EverSent():
			return nil
		case waits:
			return ErrWaits
		}
		return ErrMayHaveSent
	case ActResolve:
		switch {
		case doubt:
			return nil
		case waits:
			return ErrWaits
		}
		return ErrNoDoubt
	case ActInquire:
		switch {
		case r.State == Queued:
			return ErrNoDoubt
		case r.Await == AwaitOTP:
			return ErrWaits
		case !asks || !p.Readback:
			return ErrNoInquiry
		}
		return heldBack
	}
	switch {
	case waits:
		return ErrWaits
	case r.State == Queued && !maybe:
		return heldBack
	case doubt && p.Repeats > 0 && maybe && sameDay && !needsSecret(r, p):
		return heldBack
	}
	return ErrMayHaveSent
}

// TestEveryActInEverySituation holds what an operator may do against the rule, for
// every state an act can meet, every history, every policy and every standing of
// the provider, and does what is allowed.
func TestEveryActInEverySituation(t *testing.T) {
	situations := []struct {
		state State
		await Await
	}{{Queued, ""}, {Pending, ""}, {Pending, AwaitOTP}, {Pending, AwaitLink}, {InDoubt, ""}, {Unresolved, ""}}
	acts := []string{ActCancel, ActResolve, ActInquire, ActRetry}
	field := &Field{Name: "x"}
	met := map[string]int{}
	n := 0
	all(func(i []int) {
		sit, act, h := situations[i[0]], acts[i[1]], histories[i[2]]
		asks, alone, today, step := i[3] == 1, i[4] == 1, i[5] == 1, 1+i[6]
		p := Policy{Provider: "p", Repeats: i[7], Readback: i[8] == 1, Quiet: time.Minute, Settle: 15 * time.Minute, NotThere: Rejected}
		if i[9] == 1 {
			p.Secret = field
		}
		of := &Offer{Policy: p, Provider: mute{}}
		if asks {
			of.Provider = asker{}
		}
		e := &Engine{lines: map[string]*line{"p": {Link: Link{Provider: "p", Known: true, Up: !alone, Held: alone, NextTry: noon.Add(time.Hour)}}}}
		e.clock = newClock(func() Reading { return Reading{Wall: noon, Boot: "b", Up: time.Hour, Kept: true} })
		r := &Request{ID: "A", State: sit.state, Await: sit.await, Step: step, DoubtFrom: noon.Add(-time.Minute), At: e.clock.look()}
		for _, a := range h.attempts {
			a.Step, a.Began = step, noon.Add(-time.Minute)
			if !today {
				a.Began = noon.Add(-24 * time.Hour)
			}
			r.Attempts = append(r.Attempts, a)
		}
		want := allowed(act, r, &p, asks, alone, today)
		var err error
		switch act {
		case ActCancel:
			err = e.mayWithdraw(r, of)
		case ActResolve:
			err = mayResolve(r, Succeeded)
		case ActInquire:
			err = e.mayInquire(r, of)
		case ActRetry:
			err = e.mayRetry(r, of)
		}
		what := fmt.Sprintf("%s of %v after %q, step %d, asks %v, alone %v, today %v, policy %+v", act, sit, h.name, step, asks, alone, today, p)
		n++
		if want == nil {
			require.NoError(t, err, what)
			met[act+" done"]++
			// Whatever the rule says: nothing that may have arrived is withdrawn, and
			// nothing is repeated that nobody configured.
			require.False(t, act == ActCancel && r.EverSent(), what)
			require.False(t, act == ActRetry && r.MayHaveBeenSent() && p.Repeats == 0, what)
			return
		}
		require.ErrorIs(t, err, want, what)
		var oe *OrderError
		require.ErrorAs(t, err, &oe, what)
		require.NotEmpty(t, oe.Hint(), what)
		met[act+" "+want.Error()]++
	}, len(situations), len(acts), len(histories), 2, 2, 2, 2, 3, 2, 2)
	for _, key := range []string{
		"cancel done", "cancel " + ErrMayHaveSent.Error(), "cancel " + ErrWaits.Error(),
		"resolve done", "resolve " + ErrNoDoubt.Error(), "resolve " + ErrWaits.Error(),
		"inquire done", "inquire " + ErrNoDoubt.Error(), "inquire " + ErrWaits.Error(), "inquire " + ErrNoInquiry.Error(), "inquire " + ErrLeftAlone.Error(),
		"retry done", "retry " + ErrWaits.Error(), "retry " + ErrMayHaveSent.Error(), "retry " + ErrLeftAlone.Error(),
	} {
		require.NotZero(t, met[key], "nothing comes to %q", key)
	}
	t.Logf("%d combinations", n)
}

// TestEveryLateReadBack: what a read-back on an operator's word makes of an
// unresolved request.
func TestEveryLateReadBack(t *testing.T) {
	outcomes := []Outcome{0, NotSent, Unknown, WentPending, WasRejected, HasSucceeded, 9}
	all(func(i []int) {
		outcome, quietOver, step := outcomes[i[0]], i[1] == 1, 1+i[2]
		p := &Policy{Readback: true, Quiet: 2 * time.Minute, Settle: time.Hour, NotThere: []State{Rejected, Expired}[i[3]]}
		if i[4] == 1 {
			p.OTP = &Field{Name: "otp"}
		}
		ended := noon.Add(-time.Minute)
		if quietOver {
			ended = noon.Add(-2 * time.Minute)
		}
		r := &Request{State: Unresolved, Step: step, Reason: ReasonNoReadback, DoubtFrom: noon.Add(-24 * time.Hour), Closed: noon.Add(-time.Hour),
			Attempts: []Attempt{{Step: step, Outcome: Unknown, Ended: ended}}}
		settleLate(r, p, Answer{Outcome: outcome}, noon)
		want := Unresolved
		switch {
		case outcome == HasSucceeded:
			want = Succeeded
		case outcome == WasRejected && quietOver && (p.NotThere == Expired || p.OTP != nil && step == 1):
			want = Expired
		case outcome == WasRejected && quietOver:
			want = Rejected
		}
		what := fmt.Sprintf("outcome %v, quiet over %v, step %d, policy %+v", outcome, quietOver, step, p)
		require.Equal(t, want, r.State, what)
		require.Equal(t, want == Unresolved, r.Closed.Equal(noon.Add(-time.Hour)), what)
	}, len(outcomes), 2, 2, 2, 2)
}

// TestEveryVerdict: what resolving makes of a request in any doubt.
func TestEveryVerdict(t *testing.T) {
	for _, from := range []State{InDoubt, Unresolved} {
		for to, why := range map[State]Reason{Succeeded: ReasonConfirmed, Rejected: ReasonNotProcessed} {
			r := &Request{State: from, Secret: SecretPIN, Tries: 3, Data: map[string]string{DataLinkURL: "https://x"}}
			require.NoError(t, mayResolve(r, to))
			resolve(r, to, noon)
			require.Equal(t, to, r.State)
			require.Equal(t, why, r.Reason)
			require.Equal(t, noon, r.Closed)
			require.Empty(t, r.Secret)
			require.NotContains(t, r.Data, DataLinkURL)
			require.True(t, r.State.Final())
		}
		for _, to := range []State{Queued, Sending, Pending, InDoubt, Expired, Cancelled, Unresolved, "", "nonsense"} {
			require.Error(t, mayResolve(&Request{State: from}, to), to)
		}
	}
	for _, final := range []State{Queued, Sending, Succeeded, Rejected, Expired, Cancelled} {
		require.ErrorIs(t, mayResolve(&Request{State: final}, Succeeded), ErrNoDoubt, final)
	}
}
