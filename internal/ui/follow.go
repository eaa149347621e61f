package ui

import (
	"context"
	"errors"
	"time"

	"gardu/internal/txn"
)

// adopt shows a request from now on. seen is the count of changes when the call
// that brought it began: if more were seen since, they are newer than r.
func (d *desk) adopt(r *txn.Request, seen int) {
	if d.s.request != nil && d.s.request.ID == r.ID {
		if d.s.changes == seen {
			d.follow(r)
		}
		return
	}
	d.s.changes, d.s.patient = 0, true
	d.watch(r.ID)
	d.follow(r)
	d.refresh(r.ID)
}

// refresh reads the request once more: after watching began, because a change
// between the answer and the watch would otherwise be missed, and where the engine
// says that the screen is behind. A change that comes meanwhile is newer. Without an
// engine nothing is read; the next one is asked when it comes.
func (d *desk) refresh(id string) {
	engine, session, seen := d.engine, d.s.id, d.s.changes
	if engine == nil {
		return
	}
	d.spawn(func(ctx context.Context) {
		r, err := engine.Get(ctx, id)
		if err != nil {
			if !errors.Is(err, context.Canceled) {
				d.log.Warn("request cannot be read again", "request", id, "error", err)
			}
			return
		}
		d.do(func() {
			if d.s.id == session && d.s.request != nil && d.s.request.ID == id && d.s.changes == seen {
				d.follow(r)
			}
		})
	})
}

// follow takes in a version of the request and moves the screen where it must.
func (d *desk) follow(r *txn.Request) {
	d.s.request = r
	switch to := d.place(r); d.s.state {
	case Receipt:
		d.s.from = to // the receipt itself shows the new state
	case to:
	default:
		d.show(to)
	}
}

// place is the screen that tells the truth about a request.
func (d *desk) place(r *txn.Request) State {
	switch r.State {
	case txn.Queued:
		if d.s.patient && !d.waits(r) {
			return Working
		}
		return Queued
	case txn.Sending:
		if d.s.state == Queued {
			d.s.patient = true // what waited is on its way: a fresh look at the first answer
		}
		if d.s.patient && d.s.state != Pending {
			return Working
		}
		return Pending
	case txn.Pending:
		return d.placePending(r)
	case txn.InDoubt:
		return Pending
	case txn.Succeeded:
		return Done
	case txn.Rejected:
		if p := d.policy(r.Operation); p == nil || p.OTP == nil {
			return Fail // the screens of passwords speak of an unlinking
		}
		switch r.Reason {
		case txn.ReasonOTPBlocked, txn.ReasonOTPLimit:
			return OTPLocked
		case txn.ReasonOTPExpired:
			return OTPExpired
		default:
			return Fail
		}
	case txn.Expired:
		if r.Reason == txn.ReasonOTPTimeout {
			return OTPExpired
		}
		return Expired
	case txn.Cancelled:
		return Cancelled
	case txn.Unresolved:
		return Unresolved
	}
	return Pending // a state this screen does not know is a doubt
}

// placePending shows the way on to who made the request. Whoever merely typed the
// same number sees that it is open, and not the customer's own page.
func (d *desk) placePending(r *txn.Request) State {
	switch r.Await {
	case txn.AwaitOTP:
		if r.Reason == txn.ReasonOTPWrong {
			return OTPBad
		}
		return OTP
	case txn.AwaitLink:
		if d.s.earlier {
			return Pending
		}
		return BindQR
	}
	return Pending
}

// waits reports whether a queued request will not go out within moments.
func (d *desk) waits(r *txn.Request) bool {
	if p := d.policy(r.Operation); p != nil && d.linkDown(p) {
		return true
	}
	return r.Tries > 0 || time.Until(r.NotBefore) > 3*time.Second
}

// mayCancel reports whether the engine would still withdraw the request: only
// where nothing was ever sent.
func mayCancel(r *txn.Request) bool {
	return r != nil && r.State == txn.Queued && !r.EverSent()
}

// tone is what a screen wears.
func (d *desk) tone(st State) Tone {
	r := d.s.request
	switch {
	case st == Pending && r != nil && r.State != txn.InDoubt:
		return ToneWaiting
	case st == Fail && r == nil:
		return ToneNothing // refused before anything was stored
	case st == Fail && (r.Reason == txn.ReasonAlreadyLinked || r.Reason == txn.ReasonNotLinked):
		return ToneNothing // what the customer wanted is so already
	}
	return screenTable[st].Tone
}

// subject is the screen that a receipt is of; else the one shown.
func (d *desk) subject() State {
	if d.s.state == Receipt {
		return d.s.from
	}
	return d.s.state
}
