package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"gardu/cmd/demo/stage"
)

// tally is one line of the table.
type tally struct {
	Kind    string
	Trials  int // kills, or power cuts
	Cuts    int // how many of them were power cuts
	Missed  int // trials whose chosen point was not reached; killed all the same
	Acked   int // requests that were acknowledged
	Unheard int // requests that are in the journal although their acknowledgement was not heard
	Once    int // acknowledged, never in doubt, carried out once
	Settled int // were in doubt, and read-back said what became of them
	Unresolved,
	Expired,
	Cancelled,
	Rejected int
	Doubled  int      // carried out more than once
	Lost     int      // acknowledged, and gone from the journal
	Wrong    int      // an end that is not true, or another broken promise
	Open     int      // came to no end
	Unopened int      // journals that did not open, or called themselves put back from a copy
	Secrets  int      // places where a PIN or one-time password stands in clear, or its key is left
	Audit    int      // audit records with a broken chain
	Skipped  int      // trials that could not be made here
	Why      string   // and why
	Details  []string // every failure in words
}

func (t *tally) failed() bool {
	return t.Doubled+t.Lost+t.Wrong+t.Open+t.Unopened+t.Secrets+t.Audit > 0 || t.balance() != 0
}

// balance is 0 where every acknowledged request came to exactly one end.
func (t *tally) balance() int {
	return t.Acked + t.Unheard - t.Once - t.Settled - t.Unresolved - t.Expired - t.Cancelled - t.Rejected - t.Doubled - t.Lost - t.Wrong - t.Open
}

func (t *tally) add(o *tally) {
	t.Trials += o.Trials
	t.Cuts += o.Cuts
	t.Missed += o.Missed
	t.Acked += o.Acked
	t.Unheard += o.Unheard
	t.Once += o.Once
	t.Settled += o.Settled
	t.Unresolved += o.Unresolved
	t.Expired += o.Expired
	t.Cancelled += o.Cancelled
	t.Rejected += o.Rejected
	t.Doubled += o.Doubled
	t.Lost += o.Lost
	t.Wrong += o.Wrong
	t.Open += o.Open
	t.Unopened += o.Unopened
	t.Secrets += o.Secrets
	t.Audit += o.Audit
	t.Skipped += o.Skipped
	if t.Why == "" {
		t.Why = o.Why
	}
	t.Details = append(t.Details, o.Details...)
}

func (t *tally) detail(format string, a ...any) {
	t.Details = append(t.Details, t.Kind+": "+fmt.Sprintf(format, a...))
}

// happenings are what the platforms did, in the two ways of counting it.
type happenings struct {
	byReference map[string]stage.Effect // operation and identity
	bySubject   map[string]int          // operation and customer
}

func newHappenings(all []stage.Effect) *happenings {
	h := &happenings{map[string]stage.Effect{}, map[string]int{}}
	for _, e := range all {
		h.byReference[e.Operation+" "+e.Identity] = e
		h.bySubject[e.Operation+" "+e.Subject] += e.Count
	}
	return h
}

// of says how often a request was carried out, and whether a call of it that
// changes nothing by itself was made twice.
func (h *happenings) of(r *request) (times int, repeated bool) {
	switch r.Operation {
	case opBind:
		return h.bySubject["finpay.link "+r.Subject], h.bySubject["finpay.bind "+r.Subject] > 1
	case opUnbind:
		return h.bySubject["finpay.unbind.2 "+r.Subject], h.bySubject["finpay.unbind.1 "+r.Subject] > 1
	}
	return h.byReference[r.Operation+" "+r.Reference].Count, false
}

// judge compares what was said, what is in the journal and what the platforms did.
func judge(t *tally, b *book, all []stage.Effect, pinSalt string) {
	h := newHappenings(all)
	known := map[string]int{} // operation and customer: carried out, as the journal's references tell
	b.forEach(func(r *request) {
		if r.Found {
			n, _ := h.of(r)
			known[r.Operation+" "+r.Subject] += n
		}
	})
	b.forEach(func(r *request) {
		if n := h.bySubject[r.Operation+" "+r.Subject]; byReference(r.Operation) && n > known[r.Operation+" "+r.Subject] {
			r.fault("carried out for this customer %d times, and the journal knows of %d", n, known[r.Operation+" "+r.Subject])
		}
		judgeOne(t, r, h, pinSalt)
	})
	for _, key := range b.strays {
		t.Wrong++
		t.detail("a request with key %q is in the journal, and nobody asked for it", key)
	}
	for _, why := range b.unopened {
		t.Unopened++
		t.detail("the journal did not open: %s", why)
	}
	for _, why := range b.behind {
		t.Unopened++
		t.detail("the journal calls itself put back from a copy: %s", why)
	}
}

func byReference(op string) bool { return op != opBind && op != opUnbind }

func judgeOne(t *tally, r *request, h *happenings, pinSalt string) {
	if !r.Stored && !r.Found && len(r.Faults) == 0 {
		return // asked for, not heard, not stored: nobody was promised anything
	}
	if r.Stored {
		t.Acked++
	} else {
		t.Unheard++
	}
	times, repeated := h.of(r)
	truth(r, times)
	if e := h.byReference[r.Operation+" "+r.Reference]; r.PIN != nil && times > 0 && byReference(r.Operation) && e.PINDigest != digest(pinSalt, r.PIN) {
		r.fault("the platform has another PIN")
	}
	describe := func() {
		for _, f := range r.Faults {
			t.detail("%s %s (%s, %s %s, carried out %d times): %s", r.Operation, r.ID, r.Key, r.State, r.Reason, times, f)
		}
	}
	switch {
	case times > 1 || repeated:
		t.Doubled++
		r.fault("sent more than once")
		describe()
	case len(r.Faults) > 0:
		describe()
		if r.Stored && !r.Found {
			t.Lost++
		} else {
			t.Wrong++
		}
	case !ended(r.State):
		t.Open++
		r.fault("came to no end")
		describe()
	case r.State == unresolved:
		t.Unresolved++
	case r.Doubted && r.State != cancelled:
		t.Settled++
	case r.State == succeeded:
		t.Once++
	case r.State == expired:
		t.Expired++
	case r.State == cancelled:
		t.Cancelled++
	default:
		t.Rejected++
	}
}

// truth holds an end against what the platform did. Unresolved claims nothing.
func truth(r *request, times int) {
	switch r.State {
	case succeeded:
		if times == 0 {
			r.fault("called done, and nothing was done")
		}
	case rejected, expired, cancelled:
		if times > 0 {
			r.fault("called not done, and it was done")
		}
	}
}

// digest is the sandbox's digest of a PIN.
func digest(salt string, pin []byte) string {
	sum := sha256.Sum256(append([]byte(salt), pin...))
	return hex.EncodeToString(sum[:])
}
