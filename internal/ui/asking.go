package ui

// What the desk asks the engine and the staff verifier for, beside the loop so
// that the screen lives on while a disk or a token takes its time.

import (
	"context"
	"crypto/rand"
	"errors"
	"syscall"
	"time"

	"gardu/internal/txn"
)

// doFields asks the engine whether it would take the request, before a PIN is typed.
func (d *desk) doFields(c *command) *Result {
	fields, engine, op := c.args, d.engine, d.s.op
	if fields == nil {
		fields = map[string]string{}
	}
	return d.begin(c, func(ctx context.Context) func() *Result {
		err := engine.Preview(ctx, op, fields)
		return func() *Result {
			var field *txn.FieldError
			if errors.As(err, &field) {
				return &Result{Code: codeField, Field: field.Field.Name, Rule: string(field.Rule)}
			}
			d.s.fields, d.s.verifiedBy, d.s.staffTries = fields, "", 0
			d.s.unresolved = engine.Unresolved(op, fields)
			if err != nil {
				return d.refuse(err)
			}
			if p := d.policy(op); p != nil && p.CardVerify {
				d.show(Verify)
				d.verifyCard(c.id)
				return nil
			}
			d.advance()
			return &success
		}
	})
}

// verifyCard has the provider confirm card and customer before a PIN is typed: the
// prepaid platform wants that (Prepaid, Reset PIN). id is the command that is
// answered when it ends.
func (d *desk) verifyCard(id string) {
	fields, engine, op := d.s.fields, d.engine, d.s.op
	d.begin(&command{id: id}, func(ctx context.Context) func() *Result {
		proof, err := engine.Verify(ctx, op, fields)
		return func() *Result {
			var no *txn.VerifyError
			switch {
			case err == nil:
				d.s.verifiedBy = proof
				d.log.Info("provider confirmed the card", "session", d.s.id, "verification", proof)
				d.advance()
				return &success
			case !errors.As(err, &no):
				return d.refuse(err)
			case no.Verdict == txn.VerdictMismatch:
				d.fail("card_mismatch")
			default:
				d.fail("card_unchecked")
			}
			return refusal(codeVerify)
		}
	})
}

// doConfirm offers to wait where the link is known to be down, and else submits.
func (d *desk) doConfirm(c *command) *Result {
	p := d.policy(d.s.op)
	switch {
	case p == nil || !p.HoldOffline || !d.linkDown(p):
	case d.linkWord(p) == linkStops:
		d.dropPIN()
		d.fail(reasonUnavailable)
		return refusal(codeOffline)
	case !d.s.agreed:
		d.show(OfferQueue)
		d.s.reason = d.linkCause(p)
		return &success
	}
	return d.submit(c)
}

func (d *desk) doHold(c *command) *Result {
	d.s.agreed, d.s.reason = true, ""
	return d.submit(c)
}

// submit gives the request to the engine. A journal that does not know whether
// it stored the request is asked again, with the same key, until time is up.
func (d *desk) submit(c *command) *Result {
	pin, engine := d.s.pin, d.engine
	d.s.pin = nil // the call's from here on
	d.show(Submit)
	n := txn.New{Key: d.s.key, Operation: d.s.op, Fields: d.s.fields, Secret: pin, VerifiedBy: d.s.verifiedBy}
	seen := d.s.changes
	return d.begin(c, func(ctx context.Context) func() *Result {
		defer pin.Wipe()
		var r *txn.Request
		err := again(ctx, d.times.StoreAgain, func() (err error) {
			r, err = engine.Accept(ctx, n)
			return err
		})
		return func() *Result {
			if err != nil {
				return d.refuse(err)
			}
			d.s.earlier = false
			d.log.Info("request accepted", "session", d.s.id, "request", r.ID, "operation", string(r.Operation))
			d.adopt(r, seen)
			return &success
		}
	})
}

// again repeats what the journal did not know the end of.
func again(ctx context.Context, pause time.Duration, try func() error) error {
	for {
		err := try()
		if !errors.Is(err, txn.ErrStoreUnknown) {
			if err != nil && ctx.Err() != nil {
				return txn.ErrStoreUnknown // cut off in the middle: it may be stored
			}
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pause):
			pause *= 2
		}
	}
}

// refuse shows why the engine did not take a request.
func (d *desk) refuse(err error) *Result {
	var field *txn.FieldError
	var open *txn.OpenError
	var cool *txn.CooldownError
	var limit *txn.LimitError
	switch {
	case errors.As(err, &field):
		d.show(Ident)
		d.s.noticeOf = &fault{field.Field.Name, field.Rule}
		if p := d.policy(d.s.op); p != nil && p.Secret != nil && p.Secret.Name == field.Field.Name {
			d.show(PIN)
			d.s.notice = textKey(PIN, "notice.pin_refused")
		}
		return &Result{Code: codeField, Field: field.Field.Name, Rule: string(field.Rule)}
	case errors.As(err, &open):
		d.s.earlier = true
		d.adopt(open.Request, d.s.changes)
		d.s.notice = textKey(d.s.state, "notice.earlier")
		return refusal(codeOpen)
	case errors.As(err, &cool):
		d.show(Cooldown)
		d.s.until, d.s.scope = cool.Until, ""
		if cool.Refused {
			d.s.scope = "refused"
		}
		return refusal(codeCooldown)
	case errors.As(err, &limit):
		d.show(Limit)
		d.s.until, d.s.scope = limit.Until, limit.Scope
		return refusal(codeLimit)
	case errors.Is(err, txn.ErrOffline):
		why := string(txn.ReasonOfflineRefused)
		if p := d.policy(d.s.op); p != nil && d.linkDown(p) && d.linkCause(p) != "" {
			why = reasonUnavailable // it is not the connection
		}
		d.fail(why)
		return refusal(codeOffline)
	case errors.Is(err, txn.ErrDisabled), errors.Is(err, txn.ErrUnknownOperation):
		d.fail("disabled")
		return refusal(codeDisabled)
	case errors.Is(err, txn.ErrFull), errors.Is(err, syscall.ENOSPC):
		d.show(Full)
		return refusal(codeFull)
	case errors.Is(err, txn.ErrStoreUnknown):
		d.unsure()
		return refusal(codeUnsure)
	case errors.Is(err, txn.ErrUnverified):
		// The confirmation is older than it may be: nothing was stored.
		d.fail("card_unchecked")
		return refusal(codeVerify)
	case errors.Is(err, txn.ErrStopped):
		d.fail("stopping")
		return refusal(codeStopping)
	}
	if errors.Is(err, txn.ErrNotStored) {
		d.log.Error("request not stored", "session", d.s.id, "operation", string(d.s.op), "error", err)
		d.fail("not_stored")
		return refusal(codeNotStored)
	}
	d.log.Error("request not taken", "session", d.s.id, "operation", string(d.s.op), "error", err)
	d.fail("internal")
	return refusal(codeInternal)
}

func (d *desk) fail(reason string) {
	d.show(Fail)
	d.s.reason = reason
}

func (d *desk) unsure() {
	d.log.Error("journal did not say whether it stored the request", "session", d.s.id, "key", d.s.key)
	d.show(Unsure)
	d.s.reason = "store_unknown"
}

func (d *desk) doOTP(c *command) *Result {
	otp, engine, id, seen := c.take(), d.engine, d.s.request.ID, d.s.changes
	d.s.notice = ""
	return d.begin(c, func(ctx context.Context) func() *Result {
		defer otp.Wipe()
		var r *txn.Request
		err := again(ctx, d.times.StoreAgain, func() (err error) {
			r, err = engine.Supply(ctx, id, otp)
			return err
		})
		return func() *Result {
			var field *txn.FieldError
			switch {
			case err == nil:
				d.s.patient = true
				d.adopt(r, seen)
				return &success
			case errors.As(err, &field):
				return &Result{Code: codeField, Field: field.Field.Name, Rule: string(field.Rule)}
			case errors.Is(err, txn.ErrTooLate):
				d.refresh(id)
				return refusal(codeTooLate)
			}
			d.log.Error("one-time password not stored", "session", d.s.id, "request", id, "error", err)
			if errors.Is(err, txn.ErrStoreUnknown) {
				// It may be stored and go out: to ask for the code again would be a lie.
				d.noteUnsure(id)
				return refusal(codeUnsure)
			}
			if d.s.state == OTP || d.s.state == OTPBad {
				d.s.notice = textKey(d.s.state, "notice.unsaved")
			}
			return refusal(codeInternal)
		}
	})
}

// doResend asks for another one-time password: a new request takes the place of the
// one that waits.
func (d *desk) doResend(c *command) *Result {
	key, engine, id, seen := rand.Text(), d.engine, d.s.request.ID, d.s.changes
	return d.begin(c, func(ctx context.Context) func() *Result {
		r, err := engine.Renew(ctx, id, key)
		return func() *Result {
			switch {
			case err == nil:
				d.s.key = key
				d.log.Info("another one-time password asked for", "session", d.s.id, "request", r.ID)
				d.adopt(r, seen)
				return &success
			case errors.Is(err, txn.ErrTooLate), errors.Is(err, txn.ErrNotFound):
				d.refresh(id)
				return refusal(codeTooLate)
			case errors.Is(err, txn.ErrStoreUnknown):
				d.noteUnsure(id)
				return refusal(codeUnsure)
			}
			d.watch("")
			d.s.request = nil // it has ended, and no new one took its place
			return d.refuse(err)
		}
	})
}

// codeField is the code that the page of the request that is shown ends with, nil
// where there is none.
func (d *desk) codeField() *txn.Field {
	if d.s.request == nil {
		return nil
	}
	if p := d.policy(d.s.request.Operation); p != nil {
		return p.Code
	}
	return nil
}

// doCode brings the code that the customer's own page ended with, typed at the
// screen or posted by the kiosk's own page.
func (d *desk) doCode(c *command) *Result {
	code, engine, id, seen := c.take(), d.engine, d.s.request.ID, d.s.changes
	d.s.notice = ""
	return d.begin(c, func(ctx context.Context) func() *Result {
		defer code.Wipe()
		r, err := engine.Redeem(ctx, id, code)
		return func() *Result {
			var field *txn.FieldError
			switch {
			case err == nil:
				d.log.Info("code of the customer's page taken", "session", d.s.id, "request", id)
				d.adopt(r, seen)
				return &success
			case errors.As(err, &field):
				return &Result{Code: codeField, Field: field.Field.Name, Rule: string(field.Rule)}
			case errors.Is(err, txn.ErrTooLate), errors.Is(err, txn.ErrNotFound):
				d.refresh(id)
				return refusal(codeTooLate)
			case errors.Is(err, txn.ErrCodeRefused):
				return d.codeNotice("notice.code_refused", codeCodeRefused)
			case errors.Is(err, txn.ErrCodeUnspent):
				return d.codeNotice("notice.code_unspent", codeCodeUnspent)
			}
			d.log.Warn("nobody knows whether the code of the customer's page was taken", "session", d.s.id, "request", id, "error", err)
			d.refresh(id)
			return d.codeNotice("notice.code_unsure", codeUnsure)
		}
	})
}

// codeNotice says on the page's own screen what became of its code.
func (d *desk) codeNotice(part, code string) *Result {
	if d.s.state == BindQR {
		d.s.notice = textKey(BindQR, part)
	}
	return refusal(code)
}

func (d *desk) doCancel(c *command) *Result {
	engine, id, seen := d.engine, d.s.request.ID, d.s.changes
	return d.begin(c, func(ctx context.Context) func() *Result {
		r, err := engine.Cancel(ctx, id, txn.ReasonByCustomer)
		return func() *Result {
			switch {
			case err == nil:
				d.adopt(r, seen)
				return &success
			case errors.Is(err, txn.ErrTooLate):
				d.s.notice = textKey(d.s.state, "notice.too_late")
				d.refresh(id)
				return refusal(codeTooLate)
			}
			d.log.Error("request not cancelled", "session", d.s.id, "request", id, "error", err)
			if errors.Is(err, txn.ErrStoreUnknown) {
				d.noteUnsure(id)
				return refusal(codeUnsure)
			}
			return refusal(codeInternal)
		}
	})
}

// noteUnsure says that the journal does not know, and shows what it says next.
func (d *desk) noteUnsure(id string) {
	if key := textKey(d.s.state, "notice.unsure"); textTable[key].ID != "" {
		d.s.notice = key
	}
	d.refresh(id)
}

// begin runs work beside the desk and what work returns on it. Meanwhile the
// session document says busy and other commands are refused.
func (d *desk) begin(c *command, work func(context.Context) func() *Result) *Result {
	k := &call{command: c.id, began: time.Now()}
	d.call = k
	d.spawn(func(ctx context.Context) {
		then := work(ctx)
		d.do(func() {
			if d.call != k {
				return // given up meanwhile
			}
			d.call = nil
			d.settleAfter(then(), k.command)
		})
	})
	return nil
}

// settleAfter answers the command of a call that has ended; r is nil where another
// call took its place, which answers it then.
func (d *desk) settleAfter(r *Result, id string) {
	if r == nil {
		return
	}
	d.s.active = time.Now()
	d.settle()
	d.answer(id, *r)
}

// abandon gives the call under way up; its end is not looked at any more.
func (d *desk) abandon(code string) {
	id := d.call.command
	d.call = nil
	d.answer(id, *refusal(code))
}
